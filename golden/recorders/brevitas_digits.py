"""The digits network through Brevitas: QONNX and QCDQ files with float and with power-of-two scales, and their fake-quant.

    pip install -r golden/recorders/requirements-torch-toolchains.txt
    python golden/recorders/brevitas_digits.py golden/toolchains

Fake-quant: the qonnx executor on the QONNX file, onnxruntime with its optimizer off on the QCDQ file; both are compared with
Brevitas itself.
"""

import logging
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from brevitas import nn as qnn
from brevitas.export import export_onnx_qcdq, export_qonnx
from brevitas.graph.calibrate import calibration_mode
from brevitas.quant import (Int8ActPerTensorFloat, Int8WeightPerChannelFloat, Int32Bias, Uint8ActPerTensorFloat)
from brevitas.quant.fixed_point import (Int8ActPerTensorFixedPoint, Int8BiasPerTensorFixedPointInternalScaling,
                                        Int8WeightPerTensorFixedPoint, Uint8ActPerTensorFixedPoint)
from onnx import numpy_helper
from digits_net import calibration, samples, trained
from recording import execute
from toolchain import record, without_paths
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

FLOAT = dict(weight=Int8WeightPerChannelFloat, signed=Int8ActPerTensorFloat, unsigned=Uint8ActPerTensorFloat, bias=Int32Bias)
POWER = dict(weight=Int8WeightPerTensorFixedPoint, signed=Int8ActPerTensorFixedPoint, unsigned=Uint8ActPerTensorFixedPoint,
             bias=Int8BiasPerTensorFixedPointInternalScaling)


def plain(x):
    return getattr(x, "value", x)


class QuantNet(nn.Module):
    """digits_net.py with Brevitas layers, BatchNorm folded. Inputs of a sum or a concatenation share one quantizer.
    `clipped=False`: ReLU in place of ReLU6, for readers that know no Clip."""

    def __init__(self, kind, clipped=True):
        super().__init__()
        net = trained()

        def conv(block, bias=None):
            fused = fuse_conv_bn_eval(block.conv, block.bn) if hasattr(block, "bn") else block
            layer = qnn.QuantConv2d(fused.in_channels, fused.out_channels, fused.kernel_size, padding=fused.padding, groups=fused.groups, bias=True,
                                    weight_quant=kind["weight"], bias_quant=kind["bias"], return_quant_tensor=True)
            layer.weight.data, layer.bias.data = fused.weight.data.clone(), fused.bias.data.clone()
            return layer

        relu = lambda: qnn.QuantReLU(act_quant=kind["unsigned"], return_quant_tensor=True)
        same = lambda sign="signed": qnn.QuantIdentity(act_quant=kind[sign], return_quant_tensor=True)
        self.image = same()
        for name in ("stem", "res1", "res2", "depthwise", "pointwise", "down"):
            setattr(self, name, conv(getattr(net, name)))
        self.head = conv(net.head)
        self.stem_relu, self.res1_relu, self.pointwise_relu, self.down_relu = relu(), relu(), relu(), relu()
        self.addend, self.sum_relu = same(), relu()
        self.relu6, self.depthwise_quant = nn.ReLU6() if clipped else nn.ReLU(), same("unsigned")
        self.average, self.average_quant = nn.AvgPool2d(2), same("unsigned")
        self.side, self.joined = nn.MaxPool2d(2), same("unsigned")
        self.fine_quant, self.coarse_quant = same(), same()
        self.mean, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.fine_mean = qnn.QuantIdentity(act_quant=kind["signed"], return_quant_tensor=False)
        self.coarse_mean = qnn.QuantIdentity(act_quant=kind["signed"], return_quant_tensor=False)

    def forward(self, image):
        x = self.stem_relu(self.stem(self.image(image)))
        y = self.res2(self.res1_relu(self.res1(x)))
        x = self.sum_relu(plain(self.addend(y)) + plain(self.addend(x)))
        large = self.depthwise_quant(self.relu6(plain(self.depthwise(x))))
        large = self.pointwise_relu(self.pointwise(large))
        small = self.down_relu(self.down(self.average_quant(self.average(plain(large)))))
        small = self.joined(torch.cat([plain(self.joined(small)), plain(self.joined(self.side(plain(x))))], 1))
        fine, coarse = self.fine_quant(self.head(large)), self.coarse_quant(self.head(small))
        return (self.flatten(self.fine_mean(self.mean(plain(fine)))), self.flatten(self.coarse_mean(self.mean(plain(coarse)))))


def calibrated(kind, net=None):
    torch.manual_seed(0)
    model = (net or QuantNet(kind)).eval()
    images = torch.from_numpy(calibration())
    with torch.no_grad(), calibration_mode(model):
        for batch in images.split(16):
            model(batch)
    with torch.no_grad():
        model(images[:1])
    return model


def exported(model, export, x=None):
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = Path(folder) / "m.onnx"
        export(model, args=(torch.from_numpy(samples()[:1]) if x is None else x,), export_path=str(path), dynamo=False, opset_version=17,
               input_names=["image"], output_names=["fine", "coarse"])
        return without_paths(onnx.load(path))



# ---------------------------------------------------------------- what the files give

def constants(model):
    known = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    return known | {n.output[0]: numpy_helper.to_array(n.attribute[0].t) for n in model.graph.node if n.op_type == "Constant"}


def tensor_names(model):
    """Integer tensors of activations: name -> scale, in the file's order; weights and biases are constants."""
    known, names = constants(model), {}
    for n in model.graph.node:
        if n.op_type in ("Quant", "QuantizeLinear") and n.input[0] not in known:
            names[n.output[0]] = np.float32(known[n.input[1]])
    return names


def qonnx_values(model, x):
    """Codes of every activation quantizer, by the qonnx executor."""
    values = {k: [] for k in [*tensor_names(model), "fine", "coarse"]}
    for image in x:
        found = execute(model, {"image": image[None]})
        for k in values:
            values[k].append(found[k])
    out = {k: np.concatenate(v).astype(np.float32) for k, v in values.items()}
    signed = {n.output[0]: next(a.i for a in n.attribute if a.name == "signed") for n in model.graph.node if n.op_type == "Quant"}
    for name, scale in tensor_names(model).items():
        steps = out[name].astype(np.float64) / scale
        if np.abs(steps - np.rint(steps)).max() > 1e-3:
            raise SystemExit(f"{name} is off its grid")
        out[name] = np.rint(steps).astype(np.int8 if signed[name] else np.uint8)
    return out


def qdq_values(model, x):
    """The same by onnxruntime, its optimizer off, one sample at a time."""
    names = [*tensor_names(model), "fine", "coarse"]
    wide = onnx.ModelProto.FromString(model.SerializeToString())
    wide.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in ("fine", "coarse"))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level, options.intra_op_num_threads = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL, 1
    session = onnxruntime.InferenceSession(wide.SerializeToString(), options, providers=["CPUExecutionProvider"])
    runs = [session.run(names, {"image": image[None]}) for image in x]
    return {k: np.concatenate([r[i] for r in runs]) for i, k in enumerate(names)}


def brevitas_values(model, x):
    """Codes of every activation quantizer in Brevitas, in the order of the calls (its own order is the files')."""
    calls, scales = [], []

    def keep(module, _, out):
        calls.append(plain(out).numpy())
        scales.append(np.float32(module.act_quant.scale().item()))

    hooks = [m.register_forward_hook(keep) for m in model.modules() if isinstance(m, (qnn.QuantReLU, qnn.QuantIdentity))]
    runs, ends = [], []
    with torch.no_grad():
        for image in x:
            calls.clear(), scales.clear()
            ends.append([y.numpy() for y in model(torch.from_numpy(image[None]))])
            runs.append(list(calls))
    for hook in hooks:
        hook.remove()
    return [(np.rint(np.concatenate(r).astype(np.float64) / s), s) for r, s in zip(zip(*runs), scales)], [np.concatenate(e) for e in zip(*ends)]


def against(values, model, brevitas):
    """Differing codes, file against Brevitas; tensors are told by scale and order."""
    own, ends = brevitas
    names = list(tensor_names(model).items())
    todo, wrong, every = list(own), 0, 0
    for name, scale in names:
        code, _ = next(c for c in todo if c[1] == scale and c[0].shape == values[name].shape)
        todo = [c for c in todo if c[0] is not code]
        wrong, every = wrong + int((code != values[name]).sum()), every + code.size
    if todo:
        raise SystemExit(f"{len(todo)} quantizers of Brevitas are not in the file")
    return f"{wrong} of {every} codes; outputs {sum(int((values[k] != e).sum()) for k, e in zip(('fine', 'coarse'), ends))} of {sum(e.size for e in ends)}"


def heads(model, real):
    """The shared head: what each call's bias is in the file, beside the float bias and the scale sx*sw."""
    known, nodes = constants(model), {n.output[0]: n for n in model.graph.node}
    texts = []
    for which, conv in zip(("first", "second"), (n for n in model.graph.node if n.op_type == "Conv" and n.output[0].startswith("/head"))):
        x, w, b = (nodes[i] for i in conv.input)
        sx, sw, sb = (np.float32(known[n.input[1]]).reshape(-1) for n in (x, w, b))
        code = known[b.input[0]] if b.op_type == "DequantizeLinear" else np.rint(known[b.input[0]] / sb)
        texts.append(f"{which} call: scale of the bias over sx*sw {float((sb / (sx * sw)).min()):.4g} to {float((sb / (sx * sw)).max()):.4g}, bias off the float one by "
                     f"up to {float(np.abs(code * sb - real).max()):.3g}")
    return "shared head, one bias: " + "; ".join(texts)


def main(root):
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    onnxruntime.set_default_logger_severity(3)
    torch.set_num_threads(1)
    root = Path(root)
    for short, kind, about in (("float", FLOAT, "float scales, weights per channel, bias int32 at sx*sw"),
                               ("pow2", POWER, "power-of-two scales, weights per tensor, bias int8 with a scale of its own"),
                               ("pow2-signed", POWER | dict(unsigned=Int8ActPerTensorFixedPoint), "as pow2, every activation int8, as a DPU has it")):
        model = calibrated(kind)
        own = brevitas_values(model, samples())
        for form, export, run, by in (("qonnx", export_qonnx, qonnx_values, "the qonnx executor"),
                                      ("qcdq", export_onnx_qcdq, qdq_values, "onnxruntime, optimizer off")):
            file = exported(model, export)
            values = run(file, samples())
            name = f"brevitas-{form}-{short}"
            targets, tells, undecided = TEXTS.get(name, (["exact"], "", ""))
            record(root / name, tools=["brevitas", "torch", "onnx", "qonnx" if form == "qonnx" else "onnxruntime", "numpy"],
                   files={"model.onnx": file.SerializeToString(deterministic=True), "inputs.npz": {"image": samples()}, "outputs.npz": values}, fields={
                "cpu_path": f"float32, {by}, one sample at a time", "command": "python golden/recorders/brevitas_digits.py golden/toolchains",
                "license_of_the_tool": "BSD-3-Clause", "what": f"digits network, Brevitas post-training quantization, {form.upper()}, {about}", "targets": targets,
                "tells_apart": tells, "undecided": undecided, "finds": [f"{by} and Brevitas itself differ in {against(values, file, own)}", heads(file, model.head.bias.detach().numpy())],
                "changed": "metadata_props and doc_string (source paths) removed from the file, nothing else"})


# Differing elements under other targets, layer by layer.
TEXTS = {
    "brevitas-qonnx-float": (["exact"], "qnnpack 2, onnxruntime 2, tflite-reference 1102, openvino-cpu 6266", "fbgemm and onednn give the same codes"),
    "brevitas-qonnx-pow2": (["exact"], "tflite-reference 1500, openvino-cpu 6263", "fbgemm, onednn, qnnpack and onnxruntime give the same codes"),
    "brevitas-qonnx-pow2-signed": (["exact"], "vitis-dpu 1084 (its rounding), tflite-reference 1144, openvino-cpu 6254", "fbgemm, onednn, qnnpack, onnxruntime and tensorrt give the same codes"),
    "brevitas-qcdq-float": (["exact"], "tflite-reference 1093, openvino-cpu 4096", "fbgemm, onednn, qnnpack and onnxruntime give the same codes"),
    "brevitas-qcdq-pow2": (["exact"], "openvino-cpu 4087, tflite-reference 19035 (the bias has a scale of its own)", "fbgemm and onednn give the same codes"),
    "brevitas-qcdq-pow2-signed": (["exact"], "vitis-dpu 1084 (its rounding), openvino-cpu 4068, tflite-reference 18244 (the bias has a scale of its own)",
                                  "fbgemm, onednn and tensorrt give the same codes"),
}

if __name__ == "__main__":
    main(*sys.argv[1:])
