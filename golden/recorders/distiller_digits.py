"""The digits network through Distiller's post-training quantizer: its YAML of statistics, and what its integer model computes.

    git clone https://github.com/IntelLabs/distiller && git -C distiller checkout d859fc85       # Apache-2.0, not on PyPI
    pip install -r golden/recorders/requirements-distiller.txt
    python golden/recorders/distiller_digits.py golden/toolchains distiller

`distiller` holds acts_quantization_stats.yaml beside the float ONNX of this network: what Distiller deploys from.
`distiller-engine` holds the integer network of PostTrainLinearQuantizer(scale_approx_mult_bits=8, per_channel_wts=True),
written here as QLinear ONNX (Distiller has no writer of one), and the codes that Distiller computed. There the shared
head is two modules with equal weights; what Distiller makes of a module that is called twice stands in `seen`.
"""

import copy
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch
from digits_net import calibration, digits, samples, trained
from distiller_source import load
from folder import write
from onnx import TensorProto, helper, numpy_helper

COMMAND = "python golden/recorders/distiller_digits.py golden/toolchains distiller"
CPU = "IntelLabs/distiller@d859fc85 distiller/quantization/range_linear.py, PyTorch on the CPU, float32"


def network(distiller, twice):
    """`twice`: the head is one module, called twice; else two modules with weights of their own, equal."""
    net = trained(tied=not twice)
    net.add, net.concat = distiller.modules.EltwiseAdd(), distiller.modules.Concat(1)
    if not twice:
        net.head2 = copy.deepcopy(net.head)
    return net.eval()


def quantized(distiller, net, images, folder):
    """(the quantized network, the statistics as YAML)"""
    x = torch.from_numpy(images)

    def run(model):
        with torch.no_grad():
            for k in range(0, len(x), 16):
                model(x[k:k + 16])
    distiller.assign_layer_fq_names(net)
    distiller.data_loggers.collect_quant_stats(net, run, save_dir=folder)
    stats = Path(folder) / "acts_quantization_stats.yaml"
    text = stats.read_text()
    here = os.getcwd()
    os.chdir(folder)
    quantizer = distiller.quantization.PostTrainLinearQuantizer(net, mode=distiller.quantization.LinearQuantMode.SYMMETRIC, per_channel_wts=True,
                                                                scale_approx_mult_bits=8, model_activation_stats=str(stats))
    quantizer.prepare_model(torch.zeros(1, 1, 8, 8))
    os.chdir(here)
    return net.eval(), text


def codes_of(net, x):
    """{module: codes of its output} of every wrapper, in the order of execution."""
    out, hooks = {}, []
    for name, module in net.named_modules():
        if hasattr(module, "output_scale"):
            hooks.append(module.register_forward_hook(lambda m, _, y, n=name: out.update({n: (y * m.output_scale).round().numpy().astype(np.int8)})))
    with torch.no_grad():
        ends = [y.numpy() for y in net(torch.from_numpy(x))]
    for h in hooks:
        h.remove()
    return out, ends


class Writer:
    def __init__(self, net):
        self.modules, self.nodes, self.constants = dict(net.named_modules()), [], {}

    def const(self, name, value):
        self.constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def grid(self, name, scale=None):
        """Distiller's scales multiply: the step is one over it."""
        scale = self.modules[name].output_scale if scale is None else scale
        return [self.const(f"{name}_step", np.float32(1 / np.float32(scale))), self.const("zero", np.int8(0))]

    def node(self, op, inputs, output, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def conv(self, name, source, source_grid, relu):
        m = self.modules[name]
        weight, bias = m.wrapped_module.weight.detach().numpy(), m.wrapped_module.bias.detach().numpy()
        kernel = weight.shape[2]
        # Distiller reads its sums at accum_scale, itself cut to 8 bits: the steps of weights are what makes that of the input's step.
        step = (1 / (m.accum_scale.numpy().reshape(-1).astype(np.float64) * numpy_helper.to_array(self.constants[source_grid[0]]))).astype(np.float32)
        inputs = [source, *source_grid, self.const(f"{name}_weight", weight.astype(np.int8)), self.const(f"{name}_weight_step", step),
                  self.const(f"{name}_weight_zero", np.zeros(len(step), np.int8)), *self.grid(name), self.const(f"{name}_bias", bias.astype(np.int32))]
        out = self.node("QLinearConv", inputs, f"{name}_sum" if relu else name, kernel_shape=[kernel, kernel], pads=[kernel // 2] * 4, group=m.wrapped_module.groups)
        return self.node("Relu", [out], name) if relu else out

    def float_op(self, op, name, sources, relu=False, **attributes):
        """Dequantize, compute, quantize."""
        real = [self.node("DequantizeLinear", [s, *self.grid(s)], f"{name}_real{k}") for k, s in enumerate(sources)]
        y = self.node(op, real, f"{name}_float", **attributes)
        y = self.node("Relu", [y], f"{name}_relu") if relu else y
        return self.node("QuantizeLinear", [y, *self.grid(name)], name)


LAYERS = [("stem.conv", "image", True), ("res1.conv", "stem.conv", True), ("res2.conv", "res1.conv", False), ("depthwise.conv", "add", True),
          ("pointwise.conv", "depthwise.conv", True), ("down.conv", "average", True), ("head", "pointwise.conv", False), ("head2", "concat", False)]


def model_of(w, inputs, outputs):
    graph = helper.make_graph(w.nodes, "digits", inputs, outputs, list(w.constants.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8, producer_name="distiller_digits.py")
    onnx.checker.check_model(model)
    return model


def convolutions(net, values):
    """Each convolution by itself, fed with the codes that Distiller fed it: (model, inputs, outputs)."""
    w, feeds, outs, inputs, outputs = Writer(net), {}, {}, [], []
    for name, source, relu in LAYERS:
        grid = w.grid("image", w.modules["stem.conv"].inputs_quant_metadata_fallback[0].scale) if source == "image" else w.grid(source)
        key = f"{name}_input"
        feeds[key], outs[name] = values[source], values[name]
        w.conv(name, key, grid, relu)
        inputs.append(helper.make_tensor_value_info(key, TensorProto.INT8, ["N", *feeds[key].shape[1:]]))
        outputs.append(helper.make_tensor_value_info(name, TensorProto.INT8, ["N", *outs[name].shape[1:]]))
    return model_of(w, inputs, outputs), feeds, outs


def neighbours(net, values):
    """How many outputs of convolutions other multipliers and roundings would change."""
    approx = lambda s, up: torch.exp2(-torch.floor(torch.log2(255 / s))) * (torch.round if up else torch.floor)(s * torch.exp2(torch.floor(torch.log2(255 / s))))
    away = lambda t: torch.sign(t) * torch.floor(t.abs() + 0.5)
    rules = {"multiplier floored to 8 bits, half even": lambda a, s: torch.round(a * approx(s, False)), "multiplier rounded to 8 bits": lambda a, s: torch.round(a * approx(s, True)),
             "float multiplier": lambda a, s: torch.round(a * s), "half away": lambda a, s: away(a * approx(s, False)), "floor": lambda a, s: torch.floor(a * approx(s, False))}
    wrong, total = dict.fromkeys(rules, 0), 0
    for name, source, relu in LAYERS:
        m = net.get_submodule(name)
        with torch.no_grad():
            acc = m.wrapped_module(torch.from_numpy(values[source]).float())
        scale = m.output_scale / m.accum_scale.reshape(1, -1, 1, 1)
        total += acc.numel()
        for label, rule in rules.items():
            codes = rule(acc.clamp(min=0) if relu else acc, scale).clamp(-128, 127)
            wrong[label] += int((codes.numpy() != values[name]).sum())
    return f"{total} elements: " + ", ".join(f"{n} differ for {k}" for k, n in wrong.items())


def build(net):
    w = Writer(net)
    image = w.grid("image", w.modules["stem.conv"].inputs_quant_metadata_fallback[0].scale)
    w.node("QuantizeLinear", ["image", *image], "image_codes")
    w.conv("stem.conv", "image_codes", image, True)
    w.conv("res1.conv", "stem.conv", w.grid("stem.conv"), True)
    w.conv("res2.conv", "res1.conv", w.grid("res1.conv"), False)
    w.float_op("Add", "add", ["res2.conv", "stem.conv"], relu=True)
    w.conv("depthwise.conv", "add", w.grid("add"), True)
    w.conv("pointwise.conv", "depthwise.conv", w.grid("depthwise.conv"), True)
    w.float_op("AveragePool", "average", ["pointwise.conv"], kernel_shape=[2, 2], strides=[2, 2])
    w.conv("down.conv", "average", w.grid("average"), True)
    w.float_op("MaxPool", "side", ["add"], kernel_shape=[2, 2], strides=[2, 2])
    w.float_op("Concat", "concat", ["down.conv", "side"], axis=1)
    for head, mean, flat, source, end in (("head", "mean", "flatten", "pointwise.conv", "fine"), ("head2", "mean2", "flatten2", "concat", "coarse")):
        w.conv(head, source, w.grid(source), False)
        w.float_op("GlobalAveragePool", mean, [head])
        w.float_op("Flatten", flat, [mean])
        w.node("DequantizeLinear", [flat, *w.grid(flat)], end)
    value = lambda n, s: helper.make_tensor_value_info(n, TensorProto.FLOAT, s)
    return model_of(w, [value("image", ["N", 1, 8, 8])], [value("fine", ["N", 10]), value("coarse", ["N", 10])])


def main():
    root = Path(sys.argv[1])
    x, (_, _, xb, yb) = samples(), digits()
    images = calibration()  # scikit-learn asks for pandas, which is a stand-in from here on
    distiller = load(sys.argv[2])
    score = lambda ends: [float((e.argmax(1) == yb).mean()) for e in ends]
    with tempfile.TemporaryDirectory() as tmp:
        shared, stats = quantized(distiller, network(distiller, True), images, tmp)
        net, _ = quantized(distiller, network(distiller, False), images, tmp)
    _, shared_ends = codes_of(shared, x)
    values, ends = codes_of(net, x)
    first, second = (net.head.accum_scale.flatten()[0].item(), net.head2.accum_scale.flatten()[0].item())
    kept = shared.head.accum_scale.flatten()[0].item()
    text = (f"a head called twice: one range for both outputs, and the accumulator's scale of the first call ({kept:g} on channel 0) is used for the second too "
            f"(two modules: {first:g} and {second:g}): the second branch is read {second / kept:.3f} times too small or large. Outputs against two modules: largest difference "
            f"{np.abs(shared_ends[0] - ends[0]).max():.3f} (fine), {np.abs(shared_ends[1] - ends[1]).max():.3f} (coarse); test accuracy {score(codes_of(shared, xb)[1])} against {score(codes_of(net, xb)[1])}")
    print(text)
    tools = ("torch", "PyYAML", "onnx", "numpy", "scikit-learn")
    write(root / "distiller", tools, COMMAND, "Apache-2.0", "Distiller's statistics of activations (QuantCalibrationStatsCollector), for the float network beside it", [],
          {"acts_quantization_stats.yaml": stats.encode()}, cpu_path=CPU, notes={"float_model": "../float/model.onnx", "seen": text})
    image = np.clip(np.rint(x * net.stem.conv.inputs_quant_metadata_fallback[0].scale.item()), -128, 127).astype(np.int8)
    outputs = dict(values) | {"fine": ends[0], "coarse": ends[1]}
    write(root / "distiller-network", tools, COMMAND, "Apache-2.0", "the integer network of Distiller's PostTrainLinearQuantizer, 8-bit multipliers, and the codes that Distiller computed", [],
          {"model.onnx": build(net).SerializeToString()}, {"image": x}, outputs, CPU,
          {"undecided": "no target reproduces it: Distiller's additions requantize each operand by a float32 scale and add the rounded codes; its means, pools and concatenations "
                        "end on ties that steps (1/scale, in float32) cannot represent"})
    model, feeds, outs = convolutions(net, {**values, "image": image})
    write(root / "distiller-convolutions", tools, COMMAND, "Apache-2.0", "each convolution of distiller-network by itself, fed with the codes that Distiller fed it", ["distiller"],
          {"model.onnx": model.SerializeToString()}, feeds, outs, CPU, {"tells_apart": neighbours(net, {**values, "image": image})})


if __name__ == "__main__":
    main()
