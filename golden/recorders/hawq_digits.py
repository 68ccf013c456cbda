"""The digits network as HAWQ-V3 hands it to TVM: int8 codes without zero points, one weight scale a channel, int32 biases.

    git clone https://github.com/Zhen-Dong/HAWQ && git -C HAWQ checkout 1616df6       # MIT
    pip install -r golden/recorders/requirements-hawq.txt
    python golden/recorders/hawq_digits.py golden/toolchains HAWQ/utils/quantization_utils/quant_utils.py

The file is written here, by the form of HAWQ's deployment (Zhen-Dong/HAWQ:tvm_benchmark/mixed_precision_models/
quantized_resnet_v1_5.py: QNN convolutions, requantizations, additions on codes), as QLinear ONNX: HAWQ has no writer of
it. The numbers are HAWQ's own: `fixedpoint_fn` of quant_utils.py computes every requantization and addition, and
`transfer_float_averaging_to_int_averaging` every mean; sums of products are exact integers. tvm_digits.py runs the same
file in TVM.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import onnx
import torch
from digits_net import calibration, digits, samples, trained
from folder import write
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional as F

COMMAND = "python golden/recorders/hawq_digits.py golden/toolchains HAWQ/utils/quantization_utils/quant_utils.py"
CONVS = ["stem", "res1", "res2", "depthwise", "pointwise", "down"]


def ranges(net, x):
    """Largest magnitude of every module's output, once a call."""
    found = {}
    hooks = [m.register_forward_hook(lambda _, __, out, n=n: found.setdefault(n, []).append(float(out.abs().max()))) for n, m in net.named_modules() if n]
    with torch.no_grad():
        net(torch.from_numpy(x))
    for h in hooks:
        h.remove()
    return found


def folded(net):
    """{name: (weight, bias)} with batch normalization folded in float64."""
    out = {"head": (net.head.weight.detach().double().numpy(), net.head.bias.detach().double().numpy())}
    for name in CONVS:
        block = getattr(net, name)
        gain = (block.bn.weight.double() / torch.sqrt(block.bn.running_var.double() + block.bn.eps)).detach().numpy()
        out[name] = (block.conv.weight.detach().double().numpy() * gain[:, None, None, None],
                     block.bn.bias.detach().double().numpy() - block.bn.running_mean.double().numpy() * gain)
    return out


class Writer:
    def __init__(self):
        self.nodes, self.constants = [], {}

    def const(self, name, value):
        self.constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def grid(self, name, scale):
        return [self.const(f"{name}_scale", np.float32(scale)), self.const("zero", np.int8(0))]

    def node(self, op, inputs, output, domain=None, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, domain=domain, **attributes))
        return output


def build(net, dyadic):
    """The QLinear file. `dyadic`: scales rounded up to powers of two, so that sums end on ties."""
    up = (lambda s: np.exp2(np.ceil(np.log2(s))).astype(np.float32)) if dyadic else np.float32
    top, w = ranges(net, calibration()), Writer()
    of = {"image": 1.0, "stem": top["stem"][0], "res1": top["res1"][0], "res2": top["res2"][0], "add": top["add"][0], "depthwise": top["depthwise"][0],
          "pointwise": top["pointwise"][0], "down": top["down"][0], "concat": top["concat"][0], "fine_map": top["head"][0], "coarse_map": top["head"][1]}
    scale = {k: up(np.float32(v / 127)) for k, v in of.items()}
    parts = {}
    for name, (weight, bias) in folded(net).items():
        sw = up((np.abs(weight).max((1, 2, 3)) / 127).astype(np.float32))
        w.const(f"{name}_weight", np.rint(weight / sw[:, None, None, None]).astype(np.int8))
        w.const(f"{name}_weight_scale", sw)
        w.const(f"{name}_weight_zero", np.zeros(len(sw), np.int8))
        parts[name] = (sw, bias)

    def conv(name, source, source_scale, out, out_scale, **attributes):
        sw, bias = parts[name]
        b = w.const(f"{out}_bias", np.rint(bias / (np.float64(scale[source_scale]) * sw)).astype(np.int32))
        kernel = w.constants[f"{name}_weight"].dims[2]
        w.node("QLinearConv", [source, *w.grid(source_scale, scale[source_scale]), f"{name}_weight", f"{name}_weight_scale", f"{name}_weight_zero",
                               *w.grid(out_scale, scale[out_scale]), b], out, pads=[kernel // 2] * 4, kernel_shape=[kernel, kernel], **attributes)

    def block(name, source, source_scale, relu=True, **attributes):
        conv(name, source, source_scale, f"{name}_conv" if relu else name, name, **attributes)
        return w.node("Relu", [f"{name}_conv"], name) if relu else name

    w.node("QuantizeLinear", ["image", *w.grid("image", scale["image"])], "image_codes")
    block("stem", "image_codes", "image")
    block("res1", "stem", "stem")
    block("res2", "res1", "res1", relu=False)
    w.node("QLinearAdd", ["res2", *w.grid("res2", scale["res2"]), "stem", *w.grid("stem", scale["stem"]), *w.grid("add", scale["add"])], "add", "com.microsoft")
    w.node("Relu", ["add"], "add_relu")
    block("depthwise", "add_relu", "add", group=8)
    block("pointwise", "depthwise", "depthwise")
    w.node("QLinearAveragePool", ["pointwise", *w.grid("pointwise", scale["pointwise"]), *w.grid("pointwise", scale["pointwise"])], "average", "com.microsoft",
           kernel_shape=[2, 2], strides=[2, 2])
    block("down", "average", "pointwise")
    w.node("MaxPool", ["add_relu"], "side", kernel_shape=[2, 2], strides=[2, 2])
    w.node("QLinearConcat", [*w.grid("concat", scale["concat"]), "down", *w.grid("down", scale["down"]), "side", *w.grid("add", scale["add"])], "concat",
           "com.microsoft", axis=1)
    for name, source, source_scale in (("fine", "pointwise", "pointwise"), ("coarse", "concat", "concat")):
        conv("head", source, source_scale, f"{name}_map", f"{name}_map")
        w.node("QLinearGlobalAveragePool", [f"{name}_map", *w.grid(f"{name}_map", scale[f"{name}_map"]), *w.grid(f"{name}_map", scale[f"{name}_map"])],
               f"{name}_mean", "com.microsoft")
        w.node("Flatten", [f"{name}_mean"], f"{name}_codes")
        w.node("DequantizeLinear", [f"{name}_codes", *w.grid(f"{name}_map", scale[f"{name}_map"])], name)
    value = lambda n, s: helper.make_tensor_value_info(n, TensorProto.FLOAT, s)
    graph = helper.make_graph(w.nodes, "digits", [value("image", ["N", 1, 8, 8])], [value("fine", ["N", 10]), value("coarse", ["N", 10])], list(w.constants.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14), helper.make_opsetid("com.microsoft", 1)], ir_version=8, producer_name="hawq_digits.py")
    onnx.checker.check_model(model)
    return model


def hawq_library(path):
    """HAWQ's quant_utils.py as it is; it moves small tensors to a GPU, which stays out here."""
    torch.Tensor.cuda = lambda self, *_, **__: self
    spec = importlib.util.spec_from_file_location("quant_utils", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(model, x, hawq):
    """Every tensor of the file, computed with HAWQ's functions."""
    c = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in model.graph.initializer}
    v = {"image": torch.from_numpy(x)}
    one, vector = torch.ones(1), lambda t: t.reshape(-1)
    real = lambda codes, s: codes.double() * s.double()
    fixed = lambda z, sy, sx, sw: hawq.fixedpoint_fn.apply(z, 8, "symmetric", vector(sy), 0, vector(sx), vector(sw))
    for n in model.graph.node:
        i, a = n.input, {k.name: helper.get_attribute_value(k) for k in n.attribute}
        if n.op_type == "QuantizeLinear":
            out = hawq.SymmetricQuantFunction.apply(v[i[0]], 8, vector(c[i[1]]))
        elif n.op_type == "QLinearConv":
            acc = F.conv2d(v[i[0]].double(), c[i[3]].double(), c[i[8]].double(), padding=a["pads"][0], groups=a.get("group", 1))
            scale = vector(c[i[1]]).double() * c[i[4]].double()
            out = fixed(acc * scale[None, :, None, None], c[i[6]], c[i[1]], c[i[4]])
        elif n.op_type == "QLinearAdd":
            first, second = real(v[i[0]], c[i[1]]), real(v[i[3]], c[i[4]])
            out = hawq.fixedpoint_fn.apply(first + second, 16, "symmetric", vector(c[i[6]]), 1, vector(c[i[1]]), one, second, vector(c[i[4]]), one).clamp(-128, 127)
        elif n.op_type == "QLinearConcat":
            out = torch.cat([fixed(real(v[i[k]], c[i[k + 1]]), c[i[0]], c[i[k + 1]], one) for k in range(2, len(i), 3)], 1)
        elif n.op_type in ("QLinearAveragePool", "QLinearGlobalAveragePool"):
            mean = F.avg_pool2d(v[i[0]].float(), a["kernel_shape"]) if "kernel_shape" in a else v[i[0]].float().mean((2, 3), keepdim=True)
            out = hawq.transfer_float_averaging_to_int_averaging.apply(mean, 0.01)
        elif n.op_type == "Relu":
            out = v[i[0]].clamp(min=0)
        elif n.op_type == "MaxPool":
            out = F.max_pool2d(v[i[0]].float(), a["kernel_shape"])
        elif n.op_type == "Flatten":
            out = v[i[0]].flatten(1)
        else:
            out = v[i[0]].float() * c[i[1]]
        v[n.output[0]] = out
    return {k: t.numpy().astype(np.float32 if k in ("fine", "coarse") else np.int8) for k, t in v.items() if k != "image"}


def neighbours(model, v):
    """How many convolution outputs other roundings of sum * M would change."""
    c = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in model.graph.initializer}
    rules = {"half up": lambda t: torch.floor(t + 0.5), "half away": lambda t: torch.sign(t) * torch.floor(t.abs() + 0.5), "floor": torch.floor}
    wrong, total = dict.fromkeys(["half even", *rules], 0), 0
    for n in model.graph.node:
        if n.op_type == "QLinearConv":
            i, a = n.input, {k.name: helper.get_attribute_value(k) for k in n.attribute}
            acc = F.conv2d(torch.from_numpy(v[i[0]]).double(), c[i[3]].double(), c[i[8]].double(), padding=a["pads"][0], groups=a.get("group", 1))
            t = acc * ((c[i[1]].double() * c[i[4]].double()).float().double() / c[i[6]].double())[None, :, None, None]
            got = torch.from_numpy(v[n.output[0]]).double()
            total += got.numel()
            for name, rule in {"half even": torch.round, **rules}.items():
                wrong[name] += int((rule(t).clamp(-128, 127) != got).sum())
    return f"QLinearConv, {total} elements: " + ", ".join(f"{n} differ for {k}" for k, n in wrong.items())


def main():
    root, hawq = Path(sys.argv[1]), hawq_library(sys.argv[2])
    _, _, xb, yb = digits()
    for name, dyadic in (("hawq-v3", False), ("hawq-v3-dyadic", True)):
        model = build(trained(), dyadic)
        with torch.no_grad():
            outputs, whole = run(model, samples(), hawq), run(model, xb, hawq)
        score = [float((whole[k].argmax(1) == yb).mean()) for k in ("fine", "coarse")]
        biases = [n.input[8] for n in model.graph.node if n.op_type == "QLinearConv" and n.input[3] == "head_weight"]
        told = neighbours(model, outputs)
        print(name, score, told)
        write(root / name, ("torch", "onnx", "numpy", "scikit-learn"), COMMAND, "MIT", "the digits network in HAWQ-V3's deployment form (int8, symmetric, weights per channel"
              + (", scales powers of two" if dyadic else "") + f"), requantized by HAWQ's fixedpoint_fn; test accuracy {score[0]:.3f}, {score[1]:.3f}",
              ["hawq-v3"], {"model.onnx": model.SerializeToString()}, {"image": samples()}, outputs,
              "Zhen-Dong/HAWQ@1616df6 utils/quantization_utils/quant_utils.py, PyTorch on the CPU, float64",
              {"tells_apart": told, "seen": f"shared head: one weight, a bias for each use ({', '.join(biases)}), each at the scale of its own input. HAWQ's own additions keep the "
               "convolution's int32 sum and requantize it once; this form rounds it to int8 first. HAWQ's mean, trunc(mean + 0.01), turns a negative whole mean k into k + 1"})


if __name__ == "__main__":
    main()
