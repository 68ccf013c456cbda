"""The demo: a small residual network, trained and quantized (QAT) with Brevitas on scikit-learn's digits.

    pip install -r golden/recorders/requirements-demo.txt
    python golden/recorders/demo.py golden/demo

Trained in float with BatchNorm, BatchNorm merged into the convolutions (Brevitas then needs no BatchNorm in the
export), then fine-tuned with quantizers. Recorded twice: Brevitas in PyTorch (logits) and the qonnx executor on
the exported file (integer codes of every activation quantizer, sample by sample).
"""

import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from brevitas import nn as qnn
from brevitas.export import export_qonnx
from brevitas.graph.calibrate import calibration_mode
from brevitas.quant import (Int8ActPerTensorFloat, Int8WeightPerChannelFloat, Int32Bias, Uint8ActPerTensorFloat)
from onnx import numpy_helper
from recording import execute, provenance
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional as F

SEED, SAMPLES = 1, 16
LAYERS = ["stem", "res1", "res2", "depthwise", "pointwise"]


class FloatNet(nn.Module):
    def __init__(self):
        super().__init__()
        conv = lambda i, o, k=3, g=1: nn.Conv2d(i, o, k, padding=k // 2, groups=g, bias=False)
        self.stem, self.res1, self.res2 = conv(1, 16), conv(16, 16), conv(16, 16)
        self.depthwise, self.pointwise = conv(16, 16, 3, 16), conv(16, 32, 1)
        self.bn = nn.ModuleDict({name: nn.BatchNorm2d(32 if name == "pointwise" else 16) for name in LAYERS})
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        layer = lambda name, x: self.bn[name](getattr(self, name)(x))
        x = layer("stem", x).relu()
        x = (layer("res2", layer("res1", x).relu()) + x).relu()
        x = layer("depthwise", F.max_pool2d(x, 2)).relu()
        x = layer("pointwise", x).relu()
        return self.head(x.mean((2, 3)))


def value(x):
    """The plain tensor: add and mean have their own output quantizer (during calibration it is plain already)."""
    return getattr(x, "value", x)


class QuantNet(nn.Module):
    """The same network with quantizers; names of modules become tensor names in the file."""

    def __init__(self):
        super().__init__()
        w = dict(weight_quant=Int8WeightPerChannelFloat, bias_quant=Int32Bias, return_quant_tensor=True)
        conv = lambda i, o, k=3, g=1: qnn.QuantConv2d(i, o, k, padding=k // 2, groups=g, bias=True, **w)
        relu = lambda: qnn.QuantReLU(act_quant=Uint8ActPerTensorFloat, return_quant_tensor=True)
        same = lambda: qnn.QuantIdentity(act_quant=Int8ActPerTensorFloat, return_quant_tensor=True)
        self.image = same()
        self.stem, self.stem_relu = conv(1, 16), relu()
        self.res1, self.res1_relu = conv(16, 16), relu()
        self.res2, self.res2_quant, self.skip_quant = conv(16, 16), same(), same()
        self.sum_relu = relu()
        self.pool = nn.MaxPool2d(2)
        self.depthwise, self.depthwise_relu = conv(16, 16, 3, 16), relu()
        self.pointwise, self.pointwise_relu = conv(16, 32, 1), relu()
        self.mean = nn.AvgPool2d(4)
        self.mean_quant = same()
        self.head = qnn.QuantLinear(32, 10, bias=True, **w)
        self.logits = qnn.QuantIdentity(act_quant=Int8ActPerTensorFloat, return_quant_tensor=False)

    def forward(self, x):
        x = self.stem_relu(self.stem(self.image(x)))
        y = self.res2_quant(self.res2(self.res1_relu(self.res1(x))))
        x = self.sum_relu(value(y) + value(self.skip_quant(x)))
        x = self.depthwise_relu(self.depthwise(self.pool(x)))
        x = self.pointwise_relu(self.pointwise(x))
        x = self.mean_quant(self.mean(value(x)))
        return self.logits(self.head(x.flatten(1)))

    def load(self, net):
        """Weights of the float network, BatchNorm merged."""
        for name in LAYERS:
            conv, bn, mine = getattr(net, name), net.bn[name], getattr(self, name)
            factor = bn.weight / (bn.running_var + bn.eps).sqrt()
            mine.weight.data = conv.weight.data * factor.data.reshape(-1, 1, 1, 1)
            mine.bias.data = (bn.bias - bn.running_mean * factor).data
        self.head.weight.data, self.head.bias.data = net.head.weight.data.clone(), net.head.bias.data.clone()


def train(net, x, y, epochs, rate):
    optimizer = torch.optim.Adam(net.parameters(), rate, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        net.train()
        for batch in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(net(x[batch]), y[batch]).backward()
            optimizer.step()
        schedule.step()
    net.eval()


def accuracy(net, x, y):
    with torch.no_grad():
        return (net(x).argmax(1) == y).float().mean().item()


def strip(proto):
    """torch writes source paths into metadata; they are of no use here."""
    def clear(message, *fields):
        for field in fields:
            message.ClearField(field)
    clear(proto, "metadata_props", "doc_string")
    clear(proto.graph, "metadata_props", "doc_string")
    for part in (*proto.graph.node, *proto.graph.initializer, *proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        clear(part, "metadata_props", "doc_string")
    for node in proto.graph.node:
        for attribute in node.attribute:
            attribute.ClearField("doc_string")
    return proto


def activation_quantizers(proto):
    """Output tensor -> (scale, zero point, signed) of every Quant whose input is computed from the image."""
    consts = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    consts |= {n.output[0]: numpy_helper.to_array(n.attribute[0].t) for n in proto.graph.node if n.op_type == "Constant"}
    signed = lambda node: next(a.i for a in node.attribute if a.name == "signed")
    return {n.output[0]: (consts[n.input[1]], consts[n.input[2]], signed(n))
            for n in proto.graph.node if n.op_type == "Quant" and n.input[0] not in consts}


def main():
    warnings.simplefilter("ignore")
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)

    digits = load_digits()
    images = (digits.images[:, None] / 8.0 - 1.0).astype(np.float32)  # pixels 0..16 to -1..1
    x, x_test, y, y_test = (torch.from_numpy(np.ascontiguousarray(a)) for a in train_test_split(
        images, digits.target, test_size=360, random_state=SEED, stratify=digits.target))

    float_net = FloatNet()
    train(float_net, x, y, 30, 4e-3)
    net = QuantNet()
    net.load(float_net)
    net.eval()
    with torch.no_grad(), calibration_mode(net):
        for batch in x.split(128):
            net(batch)
    train(net, x, y, 10, 5e-4)
    print(f"test accuracy: float {accuracy(float_net, x_test, y_test):.4f}, quantized {accuracy(net, x_test, y_test):.4f}")

    path = out / "model.qonnx.onnx"
    export_qonnx(net, args=(x_test[:1],), export_path=str(path), dynamo=False, opset_version=17,
                 input_names=["image"], output_names=["logits"])
    proto = strip(onnx.load(path))
    onnx.save(proto, path)

    first = [int((y_test == c).nonzero()[0, 0]) for c in range(10)]  # every class at least once
    chosen = sorted(first + [i for i in range(len(y_test)) if i not in first][:SAMPLES - 10])
    inputs = x_test[chosen].numpy()
    with torch.no_grad():  # one sample at a time, like the executor
        brevitas_logits = np.concatenate([net(x_test[i:i + 1]).numpy() for i in chosen])
    runs = [execute(proto, {"image": inputs[i:i + 1]}) for i in range(SAMPLES)]
    codes = {"logits": np.concatenate([r["logits"] for r in runs]).astype(np.float32)}
    for name, (scale, zero, signed) in activation_quantizers(proto).items():
        if name != "logits":
            values = np.concatenate([r[name] for r in runs]).astype(np.float64)
            codes[name] = np.rint(values / scale + zero).astype(np.int8 if signed else np.uint8)
    test = [execute(proto, {"image": x_test[i:i + 1].numpy()})["logits"].argmax() for i in range(len(x_test))]
    executor_accuracy = float(np.mean(np.array(test) == y_test.numpy()))
    different = int(np.count_nonzero(codes["logits"] != brevitas_logits))
    print(f"qonnx executor {executor_accuracy:.4f}; logits that differ from Brevitas: {different} of {brevitas_logits.size}")

    np.savez_compressed(out / "inputs.npz", image=inputs)
    np.savez_compressed(out / "fake_quant_codes.npz", **codes)
    np.savez_compressed(out / "fake_quant_logits.npz", logits=brevitas_logits)
    (out / "labels.csv").write_text("index,class\n" + "".join(f"{i},{int(c)}\n" for i, c in enumerate(y_test[chosen])))
    provenance(out, ["model.qonnx.onnx", "inputs.npz", "labels.csv", "fake_quant_codes.npz", "fake_quant_logits.npz"],
               "python golden/recorders/demo.py golden/demo",
               "QAT residual network on 8x8 digits: codes of every activation quantizer (qonnx executor), logits (Brevitas in PyTorch)",
               ["brevitas", "torch", "scikit-learn", "qonnx", "onnx", "onnxruntime", "numpy"],
               [f"test_accuracy = {executor_accuracy:.4f}  # 360 images, qonnx executor",
                f"logits_that_differ_between_brevitas_and_qonnx = {different}",
                'data = "scikit-learn load_digits: Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, UCI, CC BY 4.0"'])


if __name__ == "__main__":
    main()
