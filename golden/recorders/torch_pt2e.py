"""The digits network through PyTorch's PT2E quantization (torchao): QDQ ONNX files and their fake-quant.

    pip install -r golden/recorders/requirements-torch-toolchains.txt
    python golden/recorders/torch_pt2e.py golden/toolchains

Fake-quant: a torch.fx Interpreter over the exported program; its node names are the file's value names.
"""

import logging
import sys
import warnings
from pathlib import Path

import torch
from digits_net import calibration, samples, trained
from toolchain import record
from torch import nn
from torch_export import serialized, stacked, to_onnx, values
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (X86InductorQuantizer,
                                                                        get_default_x86_inductor_quantization_config)
from torchao.testing.pt2e._xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config


class Fork(nn.Module):
    """A tensor with two readers: a convolution, and an upsampling that the quantizer does not know."""

    def __init__(self):
        super().__init__()
        net = trained()
        self.stem, self.res1, self.up, self.mean = net.stem, net.res1, nn.Upsample(scale_factor=2), nn.AdaptiveAvgPool2d(1)
        self.stem.act, self.flatten = nn.Identity(), nn.Flatten()

    def forward(self, image):
        x = self.stem(image)
        return self.flatten(self.mean(self.res1(x))), self.flatten(self.mean(self.up(x)))


def x86():
    return X86InductorQuantizer().set_global(get_default_x86_inductor_quantization_config())


def xnnpack(per_channel):
    return XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=per_channel))


def quantized(net, quantizer):
    images = torch.from_numpy(calibration())
    model = prepare_pt2e(torch.export.export(net, (images[:1],)).module(), quantizer)
    with torch.no_grad():
        for i in range(len(images)):
            model(images[i:i + 1])
    return convert_pt2e(model)


def refusal(net, quantizer):
    try:
        quantized(net, quantizer)
    except ValueError as error:
        return str(error)
    raise SystemExit("a module called twice is taken")


INSIDE = ("Relu", "Clip")


def measured(model):
    """What a reader must not assume of this file."""
    producer = {o: n for n in model.graph.node for o in n.output}
    readers = {}
    for n in model.graph.node:
        for i in n.input:
            readers.setdefault(i, []).append(n)
    finds = []
    for n in model.graph.node:
        if n.op_type == "Conv":
            floats = [i for i in n.input[:2] if i not in producer or producer[i].op_type != "DequantizeLinear"]
            if floats:
                finds.append(f"{n.output[0]} is computed in float: {', '.join(floats)} "
                             f"{'is' if len(floats) == 1 else 'are'} not dequantized codes")
    for name, used in readers.items():
        ops = {n.op_type for n in used}
        if name in producer and "QuantizeLinear" in ops and len(ops) > 1:
            finds.append(f"{name} is read quantized ({next(n.output[0] for n in used if n.op_type == 'QuantizeLinear')}) and as it is by "
                         f"{', '.join(n.op_type for n in used if n.op_type != 'QuantizeLinear')}")
    again = [n for n in model.graph.node if n.op_type == "QuantizeLinear" and producer.get(n.input[0]) is not None
             and producer[n.input[0]].op_type == "DequantizeLinear"]
    if again:
        finds.append(f"{len(again)} quantizers read dequantized codes")
    return finds


def recorded_names(model, found):
    """Codes, outputs, and float tensors that something but an activation or a quantizer reads."""
    readers = {}
    for n in model.graph.node:
        for i in n.input:
            readers.setdefault(i, set()).add(n.op_type)
    names = [o.name for o in model.graph.output]
    for n in model.graph.node:
        out = n.output[0]
        floats = n.op_type not in ("QuantizeLinear", "DequantizeLinear", "Reshape") and readers.get(out, set()) - {"QuantizeLinear", *INSIDE}
        if (n.op_type == "QuantizeLinear" or floats) and len(found.get(out, [])) == len(samples()):
            names.append(out)
    return names


def main(root):
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    root = Path(root)
    twice = f"a module called twice is refused (\"{refusal(trained(), x86())}\"): two modules with tied parameters"
    second = "the second call of the shared head is left in float, without a word: its convolution is named below"
    cases = {"x86": (trained(tied=True), x86(), "X86InductorQuantizer", [twice]),
             "xnnpack": (trained(), xnnpack(False), "XNNPACKQuantizer, weights per tensor", [second]),
             "xnnpack-per-channel": (trained(), xnnpack(True), "XNNPACKQuantizer, weights per channel", [second]),
             "fork": (Fork().eval(), x86(), "X86InductorQuantizer on a fork: a convolution's output goes to a convolution and to an upsampling", [])}
    for short, (net, quantizer, about, finds) in cases.items():
        model, program = to_onnx(quantized(net, quantizer))
        found = values(program)
        outputs = stacked(found, recorded_names(model, found))
        record(root / f"pytorch-pt2e-{short}", tools=["torch", "torchao", "onnx", "onnxscript", "numpy"],
               files={"model.onnx": serialized(model), "inputs.npz": {"image": samples()}, "outputs.npz": outputs}, fields={
            "cpu_path": "float32, one thread, one sample at a time", "command": "python golden/recorders/torch_pt2e.py golden/toolchains",
            "license_of_the_tool": "BSD-3-Clause", "what": f"digits network, PT2E, {about}" if short != "fork" else f"stem of the digits network, PT2E, {about}",
            "targets": ["exact"], "tells_apart": TELLS[short], "undecided": "ties of float sums (average pools, means) are float32 noise",
            "finds": finds + measured(model), "changed": "metadata_props (source paths, stack traces) removed from the file, nothing else"})


# Differing elements under other targets, layer by layer; most of those of onednn are float tensors to the last bit.
TELLS = {"x86": "onednn-channels-last 4183 (87 of them codes), onnxruntime 4165 (69), tflite-reference 4378",
         "xnnpack": "onednn-channels-last 1311 (59 of them codes), onnxruntime 1345 (93), tflite-reference 1957",
         "xnnpack-per-channel": "onednn-channels-last 1302 (57 of them codes), onnxruntime 1327 (82), tflite-reference 1945", "fork": "onednn-channels-last 3608 (float tensors), onnxruntime 3612 (4 of them codes), tflite-reference 3620"}

if __name__ == "__main__":
    main(*sys.argv[1:])
