"""Recordings of the OpenVINO CPU plugin: QDQ ONNX files, and the integer codes that the plugin computed.

    pip install -r golden/recorders/requirements-openvino.txt
    python golden/recorders/openvino_ops.py golden/openvino [case-name-prefix]

A graph is a set of independent lanes: float input -> QuantizeLinear -> DequantizeLinear -> operator -> QuantizeLinear. The
last QuantizeLinear is a graph output of integer type, so the codes are the plugin's own and nothing is recovered from floats.
(A DequantizeLinear behind it, written as a float output, would take the quantizer out of the fused convolution on AVX2: the
lanes `*_float` of `conv` record that form too.) Codes of the input quantizers are recorded by a second graph that holds
only those quantizers. The recorder stops where a convolution or matrix product did not run on integers.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
import openvino as ov
from onnx import TensorProto, helper, numpy_helper
from qdq_model import F, Net, codes, limits, reals, write

CASES = {}
U8, S8 = np.uint8, np.int8


def case(**about):
    """Registers a function that fills a Net; its name is the folder name. `fused` names tensors that stay unrecorded."""
    def register(build):
        CASES[build.__name__.replace("_", "-")] = (about, build)
        return build
    return register


# ---------------------------------------------------------------- scales

# Multiplier sx*sw/sy of a channel, and how its three scales are made. `two`: powers of two, sums exact, many exact ties.
# `near`: the real product is a power of two but the float32 scales are not, so every order of the float32 steps moves other
# near-ties. `sixth`: multiples of 1/6 in the same way. `plain`: no relation.
KINDS = ("two", "near", "sixth", "plain")


def scales(rng, kind, exponent):
    """(sx, sw per channel, sy) with sx*sw/sy about 2^-exponent."""
    e = np.asarray(exponent)
    if kind == "two":
        return F(2.0 ** -4), (2.0 ** (-2.0 - e)).astype(F), F(2.0 ** -6)
    if kind == "near":
        return F(0.1), (0.3 * 2.0 ** (-2.0 - e)).astype(F), F(0.03 * 2.0 ** -2)
    if kind == "sixth":
        return F(0.07), (2.0 ** (1.0 - e) / 6).astype(F), F(0.07)
    sx, sy = F(rng.uniform(0.01, 0.1)), F(rng.uniform(0.01, 0.1))
    return sx, (rng.uniform(0.6, 1.2, e.shape) * 2.0 ** -e * sy / sx).astype(F), sy


def rows(rng, channels, fan_in, most=63):
    """Weights of 1 to `most` by output channel, and the exponent that keeps the sums of a row in 8 bits."""
    width = np.resize([1, 2, 3, 5, 9, 20, 40, most], channels)
    w = np.stack([rng.integers(-m, m + 1, fan_in) for m in width]).astype(S8)
    spread = 74 * width / 1.6 * np.sqrt(np.prod(fan_in))
    return w, np.round(np.log2(spread / 70)).astype(int)


def zeros(rng, dtype):
    lo, hi = limits(dtype)
    return int(rng.choice(np.arange(lo + 41, hi - 40, 2) | 1))


# ---------------------------------------------------------------- lanes

def finish(net, y, name, scale, zero, dtype):
    net.outs.append(net.quantize(y, name + "_y", scale, zero, dtype))


def conv_lane(net, name, dtype=U8, kind="two", shape=(1, 8, 8, 8), channels=16, kernel=(3, 3), pads=(1, 1, 1, 1),
              strides=(1, 1), dilations=(1, 1), group=1, bias=True, relu=False, most=63, zx=None, zy=None, float_output=False,
              values=None, w=None):
    rng = net.rng
    drawn, e = rows(rng, channels, (shape[1] // group, *kernel), most)
    w = drawn if w is None else w
    sx, sw, sy = scales(rng, kind, e)
    zx = zeros(rng, dtype) if zx is None else zx
    zy = zeros(rng, dtype) if zy is None else zy
    x = net.input(name + "_x", codes(rng, shape, dtype) if values is None else values, sx, zx, dtype)
    ins = [x, net.weight(name + "_w", w, sw)]
    if bias:
        # Quarter units of the accumulator, so that a bias rounded to int32 shows.
        ins.append(net.const(name + "_b", (rng.integers(-90, 91, channels) * 0.25 * 2.0 ** (e - 1) * sx * sw).astype(F)))
    y = net.op("Conv", ins, name, kernel_shape=list(kernel), pads=list(pads), strides=list(strides),
               dilations=list(dilations), group=group)
    if relu:
        y = net.op("Relu", [y], name + "_relu")
    finish(net, y, name, sy, zy, dtype)
    if float_output:
        net.outs[-1] = net.dequantize(name + "_y", name + "_f")


def fc_lane(net, name, op="Gemm", dtype=U8, kind="two", shape=(16, 64), channels=16, bias=True, relu=False, zx=None, zy=None,
            float_output=False, values=None, w=None):
    rng = net.rng
    drawn, e = rows(rng, channels, (shape[1],), 63 if w is None else 127)
    w = drawn if w is None else w
    sx, sw, sy = scales(rng, kind, e)
    zx = zeros(rng, dtype) if zx is None else zx
    zy = zeros(rng, dtype) if zy is None else zy
    x = net.input(name + "_x", codes(rng, shape, dtype) if values is None else values, sx, zx, dtype)
    wf = net.weight(name + "_w", w, sw)
    b = net.const(name + "_b", (rng.integers(-90, 91, channels) * 0.25 * 2.0 ** (e - 1) * sx * sw).astype(F)) if bias else None
    if op == "Gemm":
        y = net.op("Gemm", [x, wf] + ([b] if bias else []), name, transB=1)
    else:
        y = net.op("MatMul", [x, net.op("Transpose", [wf], name + "_wt", perm=[1, 0])], name)
        if bias:
            y = net.op("Add", [y, b], name + "_add")
    if relu:
        y = net.op("Relu", [y], name + "_relu")
    finish(net, y, name, sy, zy, dtype)
    if float_output:
        net.outs[-1] = net.dequantize(name + "_y", name + "_f")


def pairs(net, name, op, dtype, a, b, y, rank=4):
    """Every pair of codes. a, b, y = (scale, zero)."""
    lo, hi = limits(dtype)
    ca, cb = np.meshgrid(np.arange(lo, hi + 1), np.arange(lo, hi + 1), indexing="ij")
    shape = (1, 1, 256, 256)
    xa = net.input(name + "_a", ca.astype(dtype).reshape(shape), *a, dtype)
    xb = net.input(name + "_b", cb.astype(dtype).reshape(shape), *b, dtype)
    finish(net, net.op(op, [xa, xb], name), name, *y, dtype)


def every_code(dtype, shape=(1, 1, 16, 16)):
    lo, hi = limits(dtype)
    return np.arange(lo, hi + 1).astype(dtype).reshape(shape)


# ---------------------------------------------------------------- cases

QUANTIZERS = [(s, z, t) for t, zs in ((U8, (0, 1, 77, 128, 131, 255)), (S8, (0, -5, 33, -128, 127)))
              for s in (2.0 ** -4, 0.1, 0.0173) for z in zs]


@case(what="QuantizeLinear of tie-rich reals: u8 and s8, zero points 0, odd, even and both ends, scales 1/16, 0.1, 0.0173")
def quantize(net):
    for i, (s, z, t) in enumerate(QUANTIZERS):
        net.feeds[f"x{i}"] = reals(net.rng, 1024, s, z, t).reshape(1, 4, 16, 16)
        net.outs.append(net.quantize(f"x{i}", f"x{i}_q", s, z, t))


@case(what="Conv with float bias: u8 and s8 activations, int8 weights of 63 at most by channel, ReLU, strides, dilations, "
           "groups, zero points odd and at both ends, four kinds of scales; *_float: DequantizeLinear as float output")
def conv(net):
    for dtype, t in ((U8, "u"), (S8, "s")):
        lo, hi = limits(dtype)
        for kind in KINDS:
            conv_lane(net, f"c{t}_{kind}", dtype, kind)
            conv_lane(net, f"c{t}_{kind}_relu", dtype, kind, relu=True)
            if kind == "plain":
                continue
            conv_lane(net, f"c{t}_{kind}_point", dtype, kind, shape=(1, 16, 8, 8), kernel=(1, 1), pads=(0,) * 4)
            conv_lane(net, f"c{t}_{kind}_float", dtype, kind, float_output=True)
            conv_lane(net, f"c{t}_{kind}_zero", dtype, kind, zy=0, zx=0)
        for i in range(4):
            conv_lane(net, f"c{t}_sixth_{i}", dtype, "sixth", shape=(1, 8, 6, 6), kernel=(1, 1), pads=(0,) * 4)
        conv_lane(net, f"c{t}_stride", dtype, "near", strides=(2, 2), shape=(1, 8, 13, 13))
        conv_lane(net, f"c{t}_pads", dtype, "two", pads=(2, 0, 1, 3), kernel=(3, 2))
        conv_lane(net, f"c{t}_groups", dtype, "near", group=2, shape=(1, 16, 8, 8))
        conv_lane(net, f"c{t}_dilated", dtype, "two", dilations=(2, 2), pads=(2,) * 4)
        conv_lane(net, f"c{t}_nobias", dtype, "near", bias=False)
        conv_lane(net, f"c{t}_nobias_relu", dtype, "near", bias=False, relu=True)
        conv_lane(net, f"c{t}_nobias_two", dtype, "two", bias=False)
        conv_lane(net, f"c{t}_nobias_zero", dtype, "near", bias=False, zx=0, zy=0)
        conv_lane(net, f"c{t}_low", dtype, "near", zx=lo, zy=lo)
        conv_lane(net, f"c{t}_high", dtype, "two", zx=hi, zy=hi)
        conv_lane(net, f"c{t}_low_relu", dtype, "two", zx=lo, zy=lo, relu=True)


@case(what="depthwise Conv (one input channel a group) with float bias: u8 and s8 activations, kernels 3x3 and 5x5, strides")
def depthwise(net):
    for dtype, t in ((U8, "u"), (S8, "s")):
        for kind in KINDS:
            for suffix, extra in (("", {}), ("_relu", {"relu": True}), ("_stride", {"strides": (2, 2)}),
                                  ("_wide", {"kernel": (5, 5), "pads": (2,) * 4}), ("_zero", {"zx": 0, "zy": 0})):
                if kind == "plain" and suffix not in ("", "_relu"):
                    continue
                conv_lane(net, f"d{t}_{kind}{suffix}", dtype, kind, shape=(1, 16, 8, 8), group=16, **extra)
        conv_lane(net, f"d{t}_nobias", dtype, "near", shape=(1, 16, 8, 8), group=16, bias=False)


@case(what="Gemm and MatMul (+ Add) with float bias: u8 and s8 activations, ReLU, four kinds of scales")
def linear(net):
    for dtype, t in ((U8, "u"), (S8, "s")):
        for kind in KINDS:
            fc_lane(net, f"g{t}_{kind}", "Gemm", dtype, kind)
            fc_lane(net, f"g{t}_{kind}_relu", "Gemm", dtype, kind, relu=True)
            fc_lane(net, f"m{t}_{kind}", "MatMul", dtype, kind)
            fc_lane(net, f"g{t}_{kind}_zero", "Gemm", dtype, kind, zx=0, zy=0)
        for i in range(3):
            fc_lane(net, f"g{t}_near_zx{i}", "Gemm", dtype, "near", zx=0)
            fc_lane(net, f"m{t}_near_zy{i}", "MatMul", dtype, "near", zy=0)
            fc_lane(net, f"g{t}_nobias_relu{i}", "Gemm", dtype, "near", bias=False, relu=True)
        fc_lane(net, f"g{t}_zero_relu", "Gemm", dtype, "near", relu=True, zx=0, zy=0)
        fc_lane(net, f"g{t}_nobias", "Gemm", dtype, "near", bias=False)
        fc_lane(net, f"m{t}_nobias", "MatMul", dtype, "near", bias=False)
        fc_lane(net, f"g{t}_float", "Gemm", dtype, "near", float_output=True)


def large(rng, shape):
    """8-bit weights; those of every second output channel large and of one sign: most of their pairs saturate."""
    w = rng.integers(-128, 128, shape).astype(S8)
    w[::2] = np.clip(rng.integers(90, 160, w[::2].shape), -128, 127) * rng.choice([-1, 1])
    return w


@case(what="Conv, Gemm and MatMul with 8-bit weights and large activations, CPU without VNNI: which products are added in pairs in "
           "int16; kernels 1x1, 3x3, 5x5, channels 1 to 16 and odd ones, groups, depthwise, stride 2; u8 and s8", pairs=True)
def conv_pairs(net):
    for dtype, t in ((U8, "u"), (S8, "s")):
        lo, hi = limits(dtype)

        def lane(name, channels, kernel, out=16, group=1, stride=1, size=6):
            shape = (1, channels, size, size)
            conv_lane(net, f"c{t}_{name}", dtype, "two", shape, out, (kernel,) * 2, (kernel // 2,) * 4, (stride,) * 2, group=group, most=127,
                      values=net.rng.integers(lo + 120, hi + 1, shape).astype(dtype), w=large(net.rng, (out, channels // group, kernel, kernel)))

        for channels in (1, 2, 3, 5, 8, 13):
            lane(f"three_{channels}", channels, 3)
        for channels in (2, 3, 13, 16):
            lane(f"point_{channels}", channels, 1)
        lane("five", 3, 5)
        lane("stride", 6, 3, stride=2)
        lane("groups_of_4", 8, 3, group=2)
        lane("groups_of_8", 16, 3, group=2)
        lane("depthwise", 16, 3, group=16)
        lane("depthwise_five", 16, 5, group=16)
        lane("depthwise_stride", 16, 3, group=16, stride=2)
        for width in (22, 35):
            values = net.rng.integers(lo + 120, hi + 1, (9, width)).astype(dtype)
            for op in ("Gemm", "MatMul"):
                fc_lane(net, f"{op[0].lower()}{t}_{width}", op, dtype, "two", (9, width), values=values, w=large(net.rng, (16, width)))


ADDS = [(U8, (0.5, 131), (0.25, 7), (1.0, 77)), (U8, (0.1, 128), (0.05, 3), (0.2, 131)), (U8, (0.0173, 99), (0.0411, 201), (0.0533, 0)),
        (S8, (0.5, -5), (0.25, 13), (1.0, -11)), (S8, (0.1, 0), (0.3, 1), (0.4, 0)), (S8, (0.0173, -128), (0.0411, 127), (0.0533, 3))]


@case(what="Add of every pair of codes: u8 and s8, six sets of scales and zero points")
def add(net):
    for i, (t, a, b, y) in enumerate(ADDS):
        pairs(net, f"add{i}", "Add", t, a, b, y)


MULS = [(U8, (0.0625, 131), (0.0625, 7), (0.5, 77)), (U8, (0.1, 128), (0.05, 3), (0.32, 131)), (U8, (0.0173, 99), (0.0411, 201), (0.0533, 0)),
        (S8, (0.0625, -5), (0.0625, 13), (0.5, -11)), (S8, (0.1, 0), (0.3, 1), (2.4, 0)), (S8, (0.0173, -128), (0.0411, 127), (0.0533, 3))]


@case(what="Mul of every pair of codes: u8 and s8, six sets of scales and zero points")
def mul(net):
    for i, (t, a, b, y) in enumerate(MULS):
        pairs(net, f"mul{i}", "Mul", t, a, b, y)


def pool_lanes(net, stem, op, variants, scale_sets):
    for dtype, t in ((U8, "u"), (S8, "s")):
        for v, attributes in variants.items():
            for i, (sx, sy) in enumerate(scale_sets):
                name = f"{stem}{t}_{v}_{i}"
                x = net.input(name + "_x", codes(net.rng, (1, 8, 9, 9), dtype), sx, zeros(net.rng, dtype), dtype)
                finish(net, net.op(op, [x], name, **attributes), name, sy, zeros(net.rng, dtype), dtype)


POOL_SCALES = [(0.25, 0.125), (0.25, 0.25), (0.1, 0.05), (0.07, 0.07), (0.0313, 0.0171)]


@case(what="AveragePool: kernels 2x2, 3x3, 5x3, pads left out of the count, and counted (count_include_pad=1); u8 and s8, "
           "scales equal, halved and unrelated")
def average_pool(net):
    pool_lanes(net, "ap", "AveragePool", {
        "two": dict(kernel_shape=[2, 2], strides=[2, 2]), "three": dict(kernel_shape=[3, 3]),
        "excluded": dict(kernel_shape=[3, 3], pads=[1] * 4), "included": dict(kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1),
        "oblong": dict(kernel_shape=[5, 3], pads=[2, 1, 2, 1], strides=[2, 1])}, POOL_SCALES)


@case(what="GlobalAveragePool and ReduceMean over the two image axes: u8 and s8, 6x6, 5x5, 4x4")
def global_average_pool(net):
    for dtype, t in ((U8, "u"), (S8, "s")):
        for op in ("GlobalAveragePool", "ReduceMean"):
            for size in (6, 4, 5):
                for i, (sx, sy) in enumerate(POOL_SCALES[::2]):
                    name = f"{op[0].lower()}{t}_{size}_{i}"
                    lo, hi = limits(dtype)
                    center = net.rng.integers(lo + 30, hi - 30, (2, 24, 1, 1))
                    values = np.clip(center + net.rng.integers(-40, 41, (2, 24, size, size)), lo, hi).astype(dtype)
                    x = net.input(name + "_x", values, sx, zeros(net.rng, dtype), dtype)
                    extra = {} if op[0] == "G" else {"axes": [2, 3], "keepdims": 1}
                    finish(net, net.op(op, [x], name, **extra), name, F(sy / 2), zeros(net.rng, dtype), dtype)


@case(what="MaxPool with the scale kept and changed: u8 and s8")
def max_pool(net):
    pool_lanes(net, "mp", "MaxPool", {"two": dict(kernel_shape=[2, 2], strides=[2, 2]), "three": dict(kernel_shape=[3, 3], pads=[1] * 4)},
               [(0.25, 0.5), (0.25, 0.25), (0.1, 0.2), (0.0313, 0.0471)])


@case(what="Concat of two and of three tensors of different scales and zero points: u8 and s8")
def concat(net):
    for dtype, t in ((U8, "u"), (S8, "s")):
        for i, (ins, sy) in enumerate([((0.25, 0.5), 1.0), ((0.25, 0.25), 0.25), ((0.1, 0.05, 0.2), 0.2), ((0.0313, 0.0471), 0.0519)]):
            parts = [net.input(f"cc{t}{i}_x{k}", every_code(dtype), s, zeros(net.rng, dtype), dtype) for k, s in enumerate(ins)]
            finish(net, net.op("Concat", parts, f"cc{t}{i}", axis=1), f"cc{t}{i}", sy, zeros(net.rng, dtype), dtype)


ACTIVATIONS = {"relu": ("Relu", {}), "hardswish": ("HardSwish", {}), "leaky": ("LeakyRelu", {"alpha": 0.125}),
               "leaky01": ("LeakyRelu", {"alpha": 0.1}), "clip": ("Clip", {}), "relu6": ("Clip", {}), "sigmoid": ("Sigmoid", {}),
               "tanh": ("Tanh", {}), "hardsigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5})}


@case(what="Relu, HardSwish, LeakyRelu, Clip, Sigmoid, Tanh, HardSigmoid of every code: u8 and s8, scales from 1/64 to 0.1")
def activations(net):
    for dtype, t in ((U8, "u"), (S8, "s")):
        for stem, (op, attributes) in ACTIVATIONS.items():
            bounded = stem in ("sigmoid", "tanh", "hardsigmoid")
            for i, (sx, sy) in enumerate([(2.0 ** -5, 2.0 ** -6), (0.0625, 0.125), (0.047, 0.0471), (0.1, 0.05)]):
                name = f"{stem}{t}{i}"
                zx, zy = zeros(net.rng, dtype), zeros(net.rng, dtype)
                if bounded:
                    sy, zy = (2.0 ** -8, limits(dtype)[0]) if i % 2 == 0 else (2.0 ** -7, int(np.mean(limits(dtype))) | 1)
                x = net.input(name + "_x", every_code(dtype), sx, zx, dtype)
                ins = [x]
                if op == "Clip":
                    lo, hi = (-1.0, 1.53) if stem == "clip" else (0.0, 6.0)
                    ins += [net.const(name + "_lo", F(lo)), net.const(name + "_hi", F(hi))]
                finish(net, net.op(op, ins, name, **attributes), name, sy, zy, dtype)


def convolution(net, x, name, channels, kernel=3, group=1, stride=1, relu=False, shape_in=None, sx=None, sy=None, most=63):
    """Conv in a chain: weights random, the scale of each channel keeps the outputs in range of sy."""
    rng, pad = net.rng, kernel // 2
    w, e = rows(rng, channels, (shape_in // group, kernel, kernel), most)
    sw = (2.0 ** -e * sy / sx * rng.uniform(0.7, 1.3, channels)).astype(F)
    b = net.const(name + "_b", (rng.normal(0, 20, channels) * sy).astype(F))
    y = net.op("Conv", [x, net.weight(name + "_w", w, sw), b], name, kernel_shape=[kernel] * 2, pads=[pad] * 4, strides=[stride] * 2, group=group)
    return net.op("Relu", [y], name + "_relu") if relu else y


@case(what="residual blocks: Conv -> Q/DQ -> Add -> Q, the same without the inner Q/DQ, and with ReLU behind the sum; u8 and "
           "s8; the inner quantizer becomes a clamp without rounding")
def residual(net):
    for dtype, t in ((U8, "u"), (S8, "s")):
        for kind in ("two", "near", "plain"):
            for form in ("inner", "direct", "relu", "second"):
                name = f"r{t}_{kind}_{form}"
                rng = net.rng
                w, e = rows(rng, 16, (8, 3, 3))
                sx, sw, si = scales(rng, kind, e)
                sr = F(si * 2) if kind != "plain" else F(rng.uniform(0.01, 0.1))
                sy = F(si * 4) if kind != "plain" else F(si * 1.37)
                zx, zi, zr, zy = (zeros(rng, dtype) for _ in range(4))
                x = net.input(name + "_x", codes(rng, (1, 8, 7, 7), dtype), sx, zx, dtype)
                r = net.input(name + "_r", codes(rng, (1, 16, 7, 7), dtype), sr, zr, dtype)
                b = net.const(name + "_b", (rng.integers(-90, 91, 16) * 0.25 * 2.0 ** (e - 1) * sx * sw).astype(F))
                y = net.op("Conv", [x, net.weight(name + "_w", w, sw), b], name + "_conv", kernel_shape=[3, 3], pads=[1] * 4)
                if form != "direct":
                    y = net.qdq(y, name + "_i", si, zi, dtype)
                y = net.op("Add", [r, y] if form == "second" else [y, r], name)
                if form == "relu":
                    y = net.op("Relu", [y], name + "_act")
                finish(net, y, name, sy, zy, dtype)


@case(what="a whole small network with random weights: Conv, depthwise, Add, Concat, MaxPool, AveragePool, GlobalAveragePool, Gemm; "
           "the codes of every quantizer but the two in front of the Add (c_q is a clamp without rounding there)", network=True,
      fused=["a_q", "c_q"])
def network(net):
    rng = net.rng
    sx, s = F(0.0317), {k: F(v) for k, v in dict(a=0.051, b=0.043, c=0.0377, d=0.061, e=0.0583, f=0.0467, g=0.031, h=0.12).items()}
    x = net.input("x", codes(rng, (4, 4, 12, 12)), sx, 117)
    a = net.qdq(convolution(net, x, "conv_a", 16, relu=True, shape_in=4, sx=sx, sy=s["a"]), "a_q", s["a"], 0)
    b = net.qdq(convolution(net, a, "depth_b", 16, group=16, relu=True, shape_in=16, sx=s["a"], sy=s["b"]), "b_q", s["b"], 3)
    c = net.qdq(convolution(net, b, "point_c", 16, kernel=1, shape_in=16, sx=s["b"], sy=s["c"]), "c_q", s["c"], 121)
    d = net.qdq(net.op("Add", [c, a], "add_d"), "d_q", s["d"], 95)
    p = net.qdq(net.op("MaxPool", [d], "max_p", kernel_shape=[2, 2], strides=[2, 2]), "p_q", s["d"], 95)
    q = net.qdq(net.op("AveragePool", [d], "avg_q", kernel_shape=[2, 2], strides=[2, 2]), "q_q", F(0.049), 91)
    e = net.qdq(net.op("Concat", [p, q], "cat_e", axis=1), "e_q", s["e"], 101)
    f = net.qdq(convolution(net, e, "conv_f", 24, stride=2, relu=True, shape_in=32, sx=s["e"], sy=s["f"]), "f_q", s["f"], 0)
    g = net.qdq(net.op("GlobalAveragePool", [f], "mean_g"), "g_q", s["g"], 1)
    flat = net.op("Flatten", [g], "flat", axis=1)
    w, e10 = rows(rng, 10, (24,))
    sw = (2.0 ** -e10 * s["h"] / s["g"]).astype(F)
    y = net.op("Gemm", [flat, net.weight("fc_w", w, sw), net.const("fc_b", rng.normal(0, 1, 10).astype(F))], "fc", transB=1)
    finish(net, y, "h", s["h"], 127, U8)


# ---------------------------------------------------------------- what the data shows

# tells_apart and undecided by case: elements that differ from a rule, out of all outputs. The rules' float32 steps are those of
# the project's OpenVINO target. RNE: to nearest, ties to even; HAZ: ties away from zero; HUP: ties up; z: zero point.
TEXTS = {
    "quantize": ("rule RNE(clamp(x,il,ih)*k - il*k) with k = 255/(ih-il), without the shift where z is the type's minimum (u8 0) or s8 0: 0 of 33792; always with "
                 "the shift 294; fused multiply-add 705; RNE(x/s)+z 4960; RNE(x*(1/s))+z 4982; RNE(x/s+z) 1071; RNE(x*(1/s)+z) 909", ""),
    "conv": ("rule: 0 of 62304; RNE(v)+z 954; exact RNE(v+z) 305; HAZ 659; HUP 656; int32 bias 450; bias by fused multiply-add 38; no fused "
             "multiply-add in the quantizer 39; shift -il*k for -il*255/(ih-il) 65; no folding without bias 6; s8 input scale not recomputed 3", ""),
    "depthwise": ("rule: 0 of 32256; RNE(v)+z 655; exact RNE(v+z) 252; HAZ 470; HUP 484; int32 bias 529; bias by fused multiply-add 22; no fused "
                  "multiply-add in the quantizer 15; shift -il*k 73; no folding without bias 9; s8 input scale not recomputed 12", ""),
    "linear": ("rule: 0 of 14848; RNE(v)+z 102; exact RNE(v+z) 67; HAZ 94; HUP 91; int32 bias 91; no folding into the quantizer 27; shift -il*k 17; "
               "fused multiply-add where bias and quantizer are folded 5", "with ReLU, fused multiply-add or not in the quantizer (0 here, 2 in a larger run)"),
    "add": ("rule (a rescaled to b's scale, quantizer folded): 0 of 393216; float32 sum of dequantized values 5614; RNE(v)+z 57285; exact RNE(v+z) 8142; "
            "HAZ 32523; HUP 32687", "which input keeps its scale when the second one comes from another operator"),
    "mul": ("rule (dequantization by fused multiply-add): 0 of 393216; (q-z)*s 808; no fused multiply-add 1029; fused multiply-add in the quantizer 834; "
            "RNE(v)+z 5159; exact RNE(v+z) 1904; HAZ 3530; HUP 3533", ""),
    "average-pool": ("rule: 0 of 21760; no fused multiply-add 2; the type's minimum added before rounding 9; RNE(v)+z 542; exact RNE(v+z) 18; HAZ 255; HUP 299; "
                     "counted pads as zero points instead of raw code 0: 2476", "S/n or S*(1/n); zero point in the range or in the shift"),
    "global-average-pool": ("RNE(v+z): 0 of 1728; RNE(v)+z 36; HAZ 13; HUP 14", "the float32 steps (a larger run of the same kind told them apart by one element)"),
    "max-pool": ("rule: 0 of 6208; RNE(v)+z 1260; exact RNE(v+z) 20; HAZ 651; HUP 623; fused as in average-pool 153", ""),
    "concat": ("rule: 0 of 4608; dequantize then quantize 3; zero point folded into the range 21; RNE(v)+z 736; exact RNE(v+z) 26; HAZ 403; HUP 373", ""),
    "activations": ("rule: 0 of 18432; Clip in float instead of on truncated integer bounds 807 of 4096; HardSwish, Relu, LeakyRelu with RNE(v)+z or HAZ differ "
                    "(LeakyRelu 244 and 139 of 2048)", "Sigmoid, Tanh and HardSigmoid hold no ties; HardSwish: order of the products; LeakyRelu: dequantization"),
    "residual": ("inner quantizer as a clamp without rounding: 0 of 18816 (14112 with an inner quantizer); rounding it differs in every block with an inner "
                 "quantizer, leaving it out too", "fused multiply-add in the last quantizer of a fused sum; scaling of a convolution without inner quantizer"),
    "conv-pairs": ("pairs of channels 2j, 2j+1 of a kernel position, signed codes + 128, padding as the zero point's code, depthwise exact: 0 of 19008 differ; "
        "exact sums 3834; sequence (row, column, channel) 892; taps outside the image left out 258; signed codes exact 1881; depthwise in pairs 411", "groups whose channels are no multiple of four"),
    "network": ("the operators' rules, composed: 0 of every recorded tensor; c_q rounded 1335 of 9216 codes of d_q; c_q left out 634", ""),
}

# ---------------------------------------------------------------- the plugin

CORE = ov.Core()


def proto(net):
    """The lanes' last tensors are integers or floats, so output types come from shape inference."""
    tensors = [numpy_helper.from_array(v, k) for k, v in net.inits.items()]
    ins = [helper.make_tensor_value_info(k, TensorProto.FLOAT, v.shape) for k, v in net.feeds.items()]
    outs = [helper.make_empty_tensor_value_info(k) for k in net.outs]
    graph = helper.make_graph(net.nodes, "g", ins, outs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="align-check recorder")
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model, feeds):
    """(outputs by name, executed primitives as (layer type, primitive, fused nodes))."""
    compiled = CORE.compile_model(CORE.read_model(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    result = compiled(feeds)
    names = [o.name for o in model.graph.output]
    layers = []
    for node in compiled.get_runtime_model().get_ops():
        info = node.get_rt_info()
        get = lambda key: info[key].value if key in info else ""
        layers.append((get("layerType"), get("primitiveType"), get("originalLayersNames"),
                       [str(o.get_element_type()) for o in node.outputs()]))
    return {name: np.array(result[i]) for i, name in enumerate(names)}, layers


def from_float(net, name, values):
    """Codes behind a DequantizeLinear: rint(y/s)+z, and the check that they give back the floats."""
    s, z, dtype = net.quantizers[name]
    q = np.rint(values.astype(np.float64) / s) + z
    if not np.array_equal((q - z).astype(F) * s, values):
        raise SystemExit(f"{name}: not on its grid")
    return q.astype(dtype)


def input_codes(net):
    """The input quantizers alone, each as an integer output."""
    alone = Net()
    firsts = {node.output[0]: node for node in net.nodes if node.op_type == "QuantizeLinear" and node.input[0] in net.feeds}
    for q, node in firsts.items():
        s, z, dtype = net.quantizers[q]
        alone.feeds[node.input[0]] = net.feeds[node.input[0]]
        alone.outs.append(alone.quantize(node.input[0], q, s, z, dtype))
    return run(proto(alone), alone.feeds)[0]


def record(name, root, about, build):
    net = Net(seed=sum(map(ord, name)))
    build(net)
    model = proto(net)
    results, layers = run(model, net.feeds)
    outputs = input_codes(net)
    for key, value in results.items():
        if key.endswith("_f"):
            outputs[key[:-2] + "_y"] = from_float(net, key[:-2] + "_y", value)
        else:
            outputs[key] = value
    if about.get("network"):
        # An output at some tensors would change what the plugin fuses, and so the arithmetic: those stay unrecorded.
        inner = [q for q in net.quantizers if q not in outputs and q not in about["fused"]]
        more = proto_with(net, inner)
        again, _ = run(more, net.feeds)
        for key, value in results.items():
            if not np.array_equal(again[key], value):
                raise SystemExit(f"{name}: inner outputs change {key}")
        outputs.update({q: again[q] for q in inner})
    kinds = {}
    for layer, primitive, fused, types in layers:
        if layer in ("Convolution", "FullyConnected", "MatMul") and not primitive.upper().endswith("_I8"):
            raise SystemExit(f"{name}: {layer} {fused} ran as {primitive}")
        if layer not in ("Input", "Output", "Const"):
            kinds.setdefault(f"{layer} {primitive} -> {'/'.join(sorted(set(t.split(chr(39))[1] for t in types)))}", []).append(fused)
    path = "; ".join(f"{k} ({len(v)})" for k, v in sorted(kinds.items()))
    write(Path(root) / name, model, net.feeds, outputs, tools=["openvino", "onnx", "numpy"], cpu_path=path,
          command="python golden/recorders/openvino_ops.py golden/openvino", license_of_the_tool="Apache-2.0",
          what=about["what"], targets=["openvino-cpu-avx2" if about.get("pairs") else "openvino-cpu"], tells_apart=TEXTS.get(name, ("", ""))[0], undecided=TEXTS.get(name, ("", ""))[1])
    return net, outputs, layers


def proto_with(net, inner):
    outs, net.outs = net.outs, net.outs + inner
    model = proto(net)
    net.outs = outs
    return model


if __name__ == "__main__":
    prefix = sys.argv[2] if len(sys.argv) > 2 else ""
    for name, (about, build) in CASES.items():
        if name.startswith(prefix):
            _, outputs, _ = record(name, sys.argv[1], about, build)
            size = sum(f.stat().st_size for f in (Path(sys.argv[1]) / name).iterdir())
            print(f"{name}: {sum(v.size for v in outputs.values())} codes, {size} bytes")
