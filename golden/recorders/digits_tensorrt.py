"""Files for TensorRT by their documented formats: no tool that writes them installs here, for want of a GPU.

    pip install -r golden/recorders/requirements-ort-digits.txt
    python golden/recorders/digits_tensorrt.py golden/toolchains

trt-implicit: a float ONNX, the calibration cache that Torch-TensorRT PTQ and TensorRT's calibrators write (a line
`TRT-<version>-<algorithm>`, then `tensor: hhhhhhhh`, the big-endian float32 bits of amax/127: NVIDIA/TensorRT#2958), and
the ranges file of sampleINT8API (`tensor:amax`). pytorch-quantization: what its export with `use_fb_fake_quant` holds, PyTorch's
own fake-quant operators of amax/127, -128 to 127 (NVIDIA/TensorRT
tools/pytorch-quantization/pytorch_quantization/nn/modules/tensor_quantizer.py, _fb_fake_quant).
"""

import struct
import sys
import warnings

import numpy as np
import onnx
import torch
from digits_net import calibration, samples, trained
from onnx_run import computed, different, fresh, run
from qdq_model import provenance, save_npz
from torch import nn

COMMAND = "python golden/recorders/digits_tensorrt.py golden/toolchains"
SAMPLES = 4
IMAGES = samples()[:SAMPLES]
NAMES = {"input_names": ["image"], "output_names": ["fine", "coarse"]}


def export(net, folder):
    torch.onnx.export(net, (torch.zeros(1, 1, 8, 8),), folder / "model.onnx", dynamo=False, opset_version=13, **NAMES)
    return onnx.load(folder / "model.onnx")


def implicit(root, name):
    folder = fresh(root, name)
    model = export(trained(), folder)
    tensors = [o for n in model.graph.node if n.op_type != "Constant" for o in n.output]
    seen = run(model, calibration(), tensors)
    amax = {"image": np.float32(np.abs(calibration()).max())} | {t: np.float32(np.abs(seen[t]).max()) for t in tensors}
    cache = "".join(f"{t}: {struct.pack('>f', a / np.float32(127)).hex()}\n" for t, a in amax.items())
    (folder / "calibration.cache").write_text("TRT-8601-EntropyCalibration2\n" + cache)
    (folder / "ranges.txt").write_text("".join(f"{t}:{a}\n" for t, a in amax.items()))
    save_npz(folder / "inputs.npz", {"image": IMAGES})
    save_npz(folder / "outputs.npz", run(model, IMAGES))
    provenance(folder, ["model.onnx", "calibration.cache", "ranges.txt", "inputs.npz", "outputs.npz"],
               tools=["torch", "onnx", "onnxruntime", "numpy"], cpu_path="onnxruntime, float32", command=COMMAND,
               license_of_the_tool="BSD-3-Clause (torch), MIT (onnxruntime)", targets=[], tells_apart="", undecided="",
               what="float ONNX with batch normalization folded, a calibration cache and a ranges file for TensorRT's implicit mode and "
                    "Torch-TensorRT PTQ; outputs are float: only TensorRT on a GPU runs the int8 network",
               extra=['documented = "the cache and the ranges are written by their documented formats; their values are the largest '
                      'magnitudes of the calibration images, not the result of the entropy calibrator that the first line names"'])


class TensorQuantizer(nn.Module):
    """amax by tensor, or by output channel of a weight."""

    def __init__(self, channels=False):
        super().__init__()
        self.channels, self.amax, self.calibrating = channels, None, True

    def forward(self, x):
        if self.calibrating:
            now = x.abs().amax(tuple(range(1, x.dim()))) if self.channels else x.abs().max()
            self.amax = now if self.amax is None or self.channels else torch.maximum(self.amax, now)
            return x
        scale = self.amax / 127
        if self.channels:
            return torch.fake_quantize_per_channel_affine(x, scale, torch.zeros_like(scale, dtype=torch.int32), 0, -128, 127)
        return torch.fake_quantize_per_tensor_affine(x, float(scale), 0, -128, 127)


class Quantized(nn.Module):
    """A convolution or pool whose input, and weight, are quantized in front of it."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self._input_quantizer = inner, TensorQuantizer()
        if isinstance(inner, nn.Conv2d):
            self._weight_quantizer = TensorQuantizer(channels=True)

    def forward(self, x):
        x = self._input_quantizer(x)
        if not isinstance(self.inner, nn.Conv2d):
            return self.inner(x)
        c = self.inner
        return nn.functional.conv2d(x, self._weight_quantizer(c.weight), c.bias, c.stride, c.padding, c.dilation, c.groups)


class QuantizedAdd(nn.Module):
    """The identity of a residual block is quantized by hand, as the toolkit's ResNet example does (residual_quantizer)."""

    def __init__(self):
        super().__init__()
        self.residual_quantizer = TensorQuantizer()

    def forward(self, a, b):
        return a + self.residual_quantizer(b)


def replace(module):
    for name, child in module.named_children():
        if isinstance(child, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)):
            setattr(module, name, Quantized(child))
        else:
            replace(child)


def pytorch_quantization(root, name):
    folder = fresh(root, name)
    net = trained()
    net.add = QuantizedAdd()
    replace(net)
    with torch.no_grad():
        for image in calibration():
            net(torch.from_numpy(image[None]))
        for module in net.modules():
            if isinstance(module, TensorQuantizer):
                module.calibrating = False
        model = export(net, folder)
        ends = [net(torch.from_numpy(image[None])) for image in IMAGES]
    outputs = run(model, IMAGES, computed(model))
    apart = [different(np.concatenate([e[i].numpy() for e in ends]), outputs[n]) for i, n in enumerate(NAMES["output_names"])]
    save_npz(folder / "inputs.npz", {"image": IMAGES})
    save_npz(folder / "outputs.npz", outputs)
    provenance(folder, ["model.onnx", "inputs.npz", "outputs.npz"], tools=["torch", "onnx", "onnxruntime", "numpy"],
               cpu_path="onnxruntime, ORT_DISABLE_ALL, each operator's own kernel", command=COMMAND,
               license_of_the_tool="BSD-3-Clause (torch), MIT (onnxruntime)", targets=["exact"], tells_apart="",
               undecided="the order of float32 sums",
               what="the form that pytorch-quantization exports: Q/DQ on the inputs and weights of convolutions and pools, on the identity of "
                    "the residual block, batch normalization not folded, symmetric, amax/127",
               extra=['documented = "PyPI holds a stub of pytorch-quantization that needs another index and CUDA; written by its published source"',
                      f'output_elements_that_torch_gives_otherwise = "fine {apart[0][0]} of {apart[0][1]}, coarse {apart[1][0]} of {apart[1][1]}"'])


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    implicit(sys.argv[1], "trt-implicit")
    pytorch_quantization(sys.argv[1], "pytorch-quantization")
