"""The network that every toolchain exports: what the field's exports disagree about, small enough to read.

A residual addition, a depthwise convolution behind a ReLU6, an average pool, a concatenation, one head whose weights
two branches share while their activation ranges differ, and batch normalization behind every convolution but the
head's. It is trained once, in float, by digits_train.py; recorders load its weights (and layouts other than PyTorch's
take them from the npz, whose keys are the state dict's).

Input "image" (N,1,8,8) in [0,1]; outputs "fine" and "coarse" (N,10).
"""

import torch
from digits_data import CALIBRATION, FLOAT, SAMPLES, calibration, digits, samples, weights  # noqa: F401 (recorders take them from here)
from torch import nn


class ConvBn(nn.Module):
    """Convolution without bias, batch normalization, activation."""

    def __init__(self, cin, cout, kernel=3, groups=1, act=None):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, kernel, padding=kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(cout)
        self.act = act if act is not None else nn.Identity()

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))


class Add(nn.Module):
    """A module of its own: several tools quantize modules, not operators."""

    def forward(self, a, b):
        return a + b


class Concat(nn.Module):
    def forward(self, a, b):
        return torch.cat([a, b], 1)


class DigitsNet(nn.Module):
    """`tied=True` calls two head modules with one parameter, for tools that refuse a module called twice."""

    def __init__(self, tied=False):
        super().__init__()
        self.stem = ConvBn(1, 8, act=nn.ReLU())
        self.res1 = ConvBn(8, 8, act=nn.ReLU())
        self.res2 = ConvBn(8, 8)
        self.add, self.add_relu = Add(), nn.ReLU()
        self.depthwise = ConvBn(8, 8, groups=8, act=nn.ReLU6())
        self.pointwise = ConvBn(8, 16, 1, act=nn.ReLU())
        self.average = nn.AvgPool2d(2)
        self.down = ConvBn(16, 8, act=nn.ReLU())
        self.side = nn.MaxPool2d(2)
        self.concat = Concat()
        self.head = nn.Conv2d(16, 10, 3, padding=1)
        self.head2 = nn.Conv2d(16, 10, 3, padding=1) if tied else None
        if tied:
            self.head2.weight, self.head2.bias = self.head.weight, self.head.bias
        self.mean, self.mean2 = nn.AdaptiveAvgPool2d(1), nn.AdaptiveAvgPool2d(1)
        self.flatten, self.flatten2 = nn.Flatten(), nn.Flatten()

    def forward(self, image):
        x = self.stem(image)
        x = self.add_relu(self.add(self.res2(self.res1(x)), x))
        large = self.pointwise(self.depthwise(x))
        small = self.concat(self.down(self.average(large)), self.side(x))
        fine = self.head(large)
        coarse = (self.head if self.head2 is None else self.head2)(small)
        return self.flatten(self.mean(fine)), self.flatten2(self.mean2(coarse))


def trained(tied=False):
    """The trained network, in evaluation mode."""
    net = DigitsNet(tied)
    state = {k: torch.from_numpy(v) for k, v in weights().items()}
    if tied:
        state |= {k.replace("head.", "head2."): v for k, v in state.items() if k.startswith("head.")}
    net.load_state_dict(state)
    return net.eval()
