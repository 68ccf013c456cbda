"""Recordings of PyTorch's quantized engines fbgemm, x86, onednn and qnnpack, operator by operator.

    pip install -r golden/recorders/requirements-pytorch.txt
    python golden/recorders/pytorch_ops.py golden/pytorch [case-name-prefix]

Each lane runs one quantized operator in torch and writes the QDQ ONNX nodes of the same meaning: same codes, scales, zero
points, float bias. `outputs.npz` holds torch's int_repr() under the name of the QuantizeLinear output. Every case runs on the
four engines; engines with equal codes share a folder, whose name lists them where not all four agree. Where the rule depends
on the memory format there is a case for each, and recording.toml says which.
"""

import sys
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as tf
from qdq_model import F, Net, codes, limits, reals, write

ENGINES = ["fbgemm", "x86", "onednn", "qnnpack"]
# Without AVX512-VNNI the engine x86 is fbgemm: one target. Pools behind a convolution run in channels_last.
LAYOUTS = {None: ["", "-channels-last"], "contiguous (NCHW)": [""]}
U8, S8 = np.uint8, np.int8
TYPES = {U8: torch.quint8, S8: torch.qint8}
CASES = {}
ops = torch.ops.quantized


def case(**about):
    def register(build):
        CASES[build.__name__.replace("_", "-")] = (about, build)
        return build
    return register


class Lanes(Net):
    """A Net whose quantized tensors are also torch tensors, by name of the QuantizeLinear output."""

    def __init__(self, engine, memory, seed):
        super().__init__(seed)
        self.engine, self.memory, self.outputs = engine, memory, {}

    def q(self, name, values, scale, zero, dtype=U8):
        """Float input on the quantizer's grid; returns (ONNX tensor, torch tensor of the same codes)."""
        x = self.input(name, values, scale, zero, dtype)
        self.outputs[name + "_q"] = np.asarray(values)
        t = torch._make_per_tensor_quantized_tensor(torch.from_numpy(np.ascontiguousarray(values)), float(F(scale)), int(zero))
        if self.memory == "channels_last" and t.dim() == 4:
            t = t.contiguous(memory_format=torch.channels_last)
        return x, t

    def done(self, y, name, result, scale, zero, dtype=U8):
        """`result` is torch's quantized tensor; its parameters must be those of the QuantizeLinear."""
        if result.q_scale() != float(F(scale)) or result.q_zero_point() != zero or result.dtype != TYPES[dtype]:
            raise SystemExit(f"{name}: torch's output has other parameters")
        self.output(y, name, scale, zero, dtype)
        self.outputs[name + "_q"] = result.int_repr().contiguous().numpy()


# ---------------------------------------------------------------- scales and weights

KINDS = ("two", "near", "sixth", "plain")


def scales(rng, kind, exponent):
    """(sx, sw per channel, sy) with sx*sw/sy about 2^-exponent: powers of two; float32 scales whose real quotient is a power
    of two, so that each order of float32 steps moves other near-ties; the same with sixths; no relation."""
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
    """Weights of 1 to `most` by output channel (63: int16 pairs of vpmaddubsw stay below 2^15), and exponents."""
    width = np.resize([1, 2, 3, 5, 9, 20, 40, most], channels)
    w = np.stack([rng.integers(-m, m + 1, fan_in) for m in width]).astype(S8)
    return w, np.round(np.log2(74 * width / 1.6 * np.sqrt(np.prod(fan_in)) / 70)).astype(int)


def zeros(rng, dtype=U8):
    lo, hi = limits(dtype)
    return int(rng.choice(np.arange(lo + 41, hi - 40, 2) | 1))


def packed_weight(w, sw):
    sw = torch.from_numpy(np.asarray(sw, np.float64))
    return torch._make_per_channel_quantized_tensor(torch.from_numpy(w), sw, torch.zeros(len(w), dtype=torch.int64), 0)


def bias(rng, e, sx, sw):
    """Quarter units of the accumulator, so that a bias rounded to int32 shows."""
    return (rng.integers(-90, 91, len(e)) * 0.25 * 2.0 ** (e - 1) * sx * sw).astype(F)


def conv_lane(net, name, kind, shape=(1, 8, 8, 8), channels=16, kernel=3, pad=1, stride=1, group=1, biased=True, relu=False,
              most=63, values=None, w=None):
    rng = net.rng
    drawn, e = rows(rng, channels, (shape[1] // group, kernel, kernel), most)
    w = drawn if w is None else w
    sx, sw, sy = scales(rng, kind, e)
    zx, zy = zeros(rng), zeros(rng)
    b = bias(rng, e, sx, sw)
    x, tx = net.q(name + "_x", codes(rng, shape) if values is None else values, sx, zx)
    ins = [x, net.weight(name + "_w", w, sw)] + ([net.const(name + "_b", b)] if biased else [])
    y = net.op("Conv", ins, name + "_conv", kernel_shape=[kernel] * 2, pads=[pad] * 4, strides=[stride] * 2, group=group)
    y = net.op("Relu", [y], name + "_relu") if relu else y
    pack = ops.conv2d_prepack(packed_weight(w, sw), torch.from_numpy(b) if biased else None, [stride] * 2, [pad] * 2, [1, 1], group)
    net.done(y, name, (ops.conv2d_relu if relu else ops.conv2d)(tx, pack, float(sy), zy), sy, zy)


def linear_lane(net, name, kind, shape=(24, 64), channels=16, biased=True, relu=False, values=None, w=None):
    rng = net.rng
    drawn, e = rows(rng, channels, (shape[1],), 63 if w is None else 127)
    w = drawn if w is None else w
    sx, sw, sy = scales(rng, kind, e)
    zx, zy = zeros(rng), zeros(rng)
    b = bias(rng, e, sx, sw)
    x, tx = net.q(name + "_x", codes(rng, shape) if values is None else values, sx, zx)
    y = net.op("Gemm", [x, net.weight(name + "_w", w, sw)] + ([net.const(name + "_b", b)] if biased else []), name + "_gemm", transB=1)
    y = net.op("Relu", [y], name + "_relu") if relu else y
    pack = ops.linear_prepack(packed_weight(w, sw), torch.from_numpy(b) if biased else None)
    net.done(y, name, (ops.linear_relu if relu else ops.linear)(tx, pack, float(sy), zy), sy, zy)


def pairs(net, name, op, dtype, a, b, y, relu=False):
    """Every pair of codes. a, b, y = (scale, zero)."""
    lo, hi = limits(dtype)
    ca, cb = np.meshgrid(np.arange(lo, hi + 1), np.arange(lo, hi + 1), indexing="ij")
    (xa, ta), (xb, tb) = (net.q(f"{name}_{s}", c.astype(dtype).reshape(1, 1, 256, 256), *p, dtype) for s, c, p in (("a", ca, a), ("b", cb, b)))
    out = net.op(op, [xa, xb], name + "_op")
    out = net.op("Relu", [out], name + "_relu") if relu else out
    run = getattr(ops, op.lower() + ("_relu" if relu else ""))
    net.done(out, name, run(ta, tb, float(F(y[0])), y[1]), *y, dtype)


def every_code(dtype, shape=(1, 1, 16, 16)):
    lo, hi = limits(dtype)
    return np.arange(lo, hi + 1).astype(dtype).reshape(shape)


# ---------------------------------------------------------------- cases

@case(what="quantize_per_tensor of tie-rich reals: quint8 and qint8, zero points 0, odd, even and both ends")
def quantize(net):
    for i, (t, z, s) in enumerate((t, z, s) for t, zs in ((U8, (0, 1, 77, 128, 255)), (S8, (0, -5, 33, -128, 127))) for z in zs
                                  for s in (2.0 ** -4, 0.1, 0.0173)):
        x = np.clip(reals(net.rng, 1024, s, z, t), F(-1e6), F(1e6))  # beyond 2^31 steps torch's integer conversion wraps
        net.feeds[f"x{i}"] = x
        net.outs.append(net.qdq(f"x{i}", f"x{i}_q", s, z, t))
        net.outputs[f"x{i}_q"] = torch.quantize_per_tensor(torch.from_numpy(x), float(F(s)), z, TYPES[t]).int_repr().numpy()


@case(what="conv2d and conv2d_relu with float bias: uint8 activations, int8 weights of 63 at most by channel, strides, groups, depthwise")
def conv(net):
    for kind in KINDS:
        conv_lane(net, f"{kind}_plain", kind)
        conv_lane(net, f"{kind}_relu", kind, relu=True)
        conv_lane(net, f"{kind}_point", kind, shape=(1, 16, 8, 8), kernel=1, pad=0)
        conv_lane(net, f"{kind}_depth", kind, shape=(1, 16, 8, 8), group=16)
        conv_lane(net, f"{kind}_depth_relu", kind, shape=(1, 16, 8, 8), group=16, relu=True)
    for kind in ("two", "near"):
        conv_lane(net, f"{kind}_stride", kind, shape=(1, 8, 13, 13), stride=2)
        conv_lane(net, f"{kind}_groups", kind, shape=(1, 16, 8, 8), group=2)
        conv_lane(net, f"{kind}_nobias", kind, biased=False)
        conv_lane(net, f"{kind}_wide", kind, shape=(1, 16, 8, 8), kernel=5, pad=2, group=16)


@case(what="linear and linear_relu with float bias: uint8 activations, int8 weights of 63 at most by row")
def linear(net):
    for kind in KINDS:
        for i in range(2):
            linear_lane(net, f"{kind}_{i}", kind)
        linear_lane(net, f"{kind}_relu", kind, relu=True)
        linear_lane(net, f"{kind}_nobias", kind, biased=False)


ADDS = [((0.5, 131), (0.25, 7), (1.0, 77)), ((0.1, 128), (0.05, 3), (0.2, 131)), ((0.0173, 99), (0.0411, 201), (0.0533, 0))]


@case(what="add and add_relu of every pair of uint8 codes; hardswish of every code")
def add_hardswish(net):
    for i, (a, b, y) in enumerate(ADDS):
        pairs(net, f"add{i}", "Add", U8, a, b, y)
    pairs(net, "add_relu", "Add", U8, *ADDS[0], relu=True)
    for i, (sx, zx, sy, zy) in enumerate([(2 ** -5, 131, 2 ** -6, 77), (0.0625, 99, 0.125, 5), (0.047, 101, 0.0471, 33), (0.1, 77, 0.05, 51)]):
        x, t = net.q(f"hs{i}_x", every_code(U8), sx, zx)
        net.done(net.op("HardSwish", [x], f"hs{i}_op"), f"hs{i}", ops.hardswish(t, float(F(sy)), zy), sy, zy)


@case(what="add of every pair of int8 codes; mul of every pair, uint8 and int8; cat, relu, leaky_relu, sigmoid, tanh")
def elementwise(net):
    for i, (a, b, y) in enumerate([((0.5, -5), (0.25, 13), (1.0, -11)), ((0.1, 0), (0.3, 1), (0.4, 0))]):
        pairs(net, f"add{i}", "Add", S8, a, b, y)
    for i, (t, a, b, y) in enumerate([(U8, (0.0625, 131), (0.0625, 7), (0.5, 77)), (U8, (0.1, 128), (0.05, 3), (0.32, 131)),
                                      (S8, (0.0625, -5), (0.0625, 13), (0.5, -11)), (S8, (0.1, 0), (0.3, 1), (2.4, 0))]):
        pairs(net, f"mul{i}", "Mul", t, a, b, y)
    for dtype, s in ((U8, "u"), (S8, "s")):
        for i, (ins, sy) in enumerate([((0.25, 0.5), 1.0), ((0.25, 0.25), 0.25), ((0.1, 0.05, 0.2), 0.2), ((0.0313, 0.0471), 0.0519)]):
            parts = [net.q(f"cat{s}{i}_x{k}", every_code(dtype), si, zeros(net.rng, dtype), dtype) for k, si in enumerate(ins)]
            zy = zeros(net.rng, dtype)
            y = net.op("Concat", [p[0] for p in parts], f"cat{s}{i}_op", axis=1)
            net.done(y, f"cat{s}{i}", ops.cat([p[1] for p in parts], 1, float(F(sy)), zy), sy, zy, dtype)
        for i, (sx, sy, alpha) in enumerate([(2 ** -5, 2 ** -6, 0.125), (0.0625, 0.125, 0.25), (0.047, 0.0471, 0.1), (0.1, 0.05, 0.01)]):
            zx, zy = zeros(net.rng, dtype), zeros(net.rng, dtype)
            x, t = net.q(f"leaky{s}{i}_x", every_code(dtype), sx, zx, dtype)
            net.done(net.op("LeakyRelu", [x], f"leaky{s}{i}_op", alpha=alpha), f"leaky{s}{i}",
                     ops.leaky_relu(t, alpha, False, float(F(sy)), zy), sy, zy, dtype)
        x, t = net.q(f"relu{s}_x", every_code(dtype), 0.1, zeros(net.rng, dtype), dtype)
        net.done(net.op("Relu", [x], f"relu{s}_op"), f"relu{s}", torch.relu(t), 0.1, t.q_zero_point(), dtype)
    for i, (sx, zx) in enumerate([(0.047, 131), (2 ** -5, 77), (0.1, 99)]):
        x, t = net.q(f"sigmoid{i}_x", every_code(U8), sx, zx)
        net.done(net.op("Sigmoid", [x], f"sigmoid{i}_op"), f"sigmoid{i}", torch.sigmoid(t), 1 / 256, 0)
        x, t = net.q(f"tanh{i}_x", every_code(U8), sx, zx)
        net.done(net.op("Tanh", [x], f"tanh{i}_op"), f"tanh{i}", torch.tanh(t), 2 / 256, 128)


def pools(net):
    for v, attributes in {"two": (2, 2, 0, False), "three": (3, 1, 0, False), "excluded": (3, 1, 1, False), "included": (3, 1, 1, True),
                          "stride": (3, 2, 1, False)}.items():
        k, st, p, included = attributes
        for i, s in enumerate((0.25, 0.1, 0.0173)):
            z = zeros(net.rng)
            x, t = net.q(f"avg_{v}_{i}_x", codes(net.rng, (1, 12, 9, 9)), s, z)
            y = net.op("AveragePool", [x], f"avg_{v}_{i}_op", kernel_shape=[k, k], strides=[st, st], pads=[p] * 4, count_include_pad=int(included))
            net.done(y, f"avg_{v}_{i}", tf.avg_pool2d(t, k, st, p, False, included), s, z)
    for size in (4, 6, 5):
        for i, s in enumerate((0.25, 0.1)):
            z = zeros(net.rng)
            center = net.rng.integers(40, 215, (2, 24, 1, 1))
            values = np.clip(center + net.rng.integers(-40, 41, (2, 24, size, size)), 0, 255).astype(U8)
            x, t = net.q(f"adaptive_{size}_{i}_x", values, s, z)
            net.done(net.op("GlobalAveragePool", [x], f"adaptive_{size}_{i}_op"), f"adaptive_{size}_{i}", tf.adaptive_avg_pool2d(t, 1), s, z)


@case(what="avg_pool2d (pads left out of the count, and counted) and adaptive_avg_pool2d to 1x1, uint8", memory="contiguous (NCHW)")
def pool_nchw(net):
    pools(net)


@case(what="avg_pool2d (pads left out of the count, and counted) and adaptive_avg_pool2d to 1x1, uint8", memory="channels_last")
def pool_channels_last(net):
    pools(net)


def means(net):
    for size in (4, 8):
        for i, s in enumerate((0.25, 0.0625)):
            z = zeros(net.rng)
            center = net.rng.integers(40, 215, (2, 24, 1, 1))
            values = np.clip(center + net.rng.integers(-40, 41, (2, 24, size, size)), 0, 255).astype(U8)
            x, t = net.q(f"mean_{size}_{i}_x", values, s, z)
            net.done(net.op("ReduceMean", [x], f"mean_{size}_{i}_op", axes=[2, 3], keepdims=1), f"mean_{size}_{i}", torch.mean(t, (2, 3), True), s, z)


@case(what="mean over the image axes, uint8, power-of-two scales and counts", memory="contiguous (NCHW)")
def mean_nchw(net):
    means(net)


@case(what="mean over the image axes, uint8, power-of-two scales and counts", memory="channels_last")
def mean_channels_last(net):
    means(net)


@case(what="fbgemm conv2d with 8-bit weights and large activations: int16 pairs of vpmaddubsw saturate on AVX2 without VNNI, so the "
           "result is not that of exact sums", engines=["fbgemm"], pairs=True)
def conv_full_range(net):
    for name, kernel, shape in (("three", 3, (1, 8, 6, 6)), ("point", 1, (1, 16, 8, 8)), ("odd", 1, (1, 13, 8, 8))):
        w = net.rng.integers(-128, 128, (16, shape[1], kernel, kernel)).astype(S8)
        w[::2] = np.clip(net.rng.integers(90, 160, w[::2].shape), -128, 127)
        conv_lane(net, name, "two", shape=shape, kernel=kernel, pad=kernel // 2, values=net.rng.integers(120, 256, shape).astype(U8), w=w, most=127)


def large(rng, shape):
    """8-bit weights; those of every second output channel large and of one sign: most of their pairs saturate."""
    w = rng.integers(-128, 128, shape).astype(S8)
    w[::2] = np.clip(rng.integers(90, 160, w[::2].shape), -128, 127) * rng.choice([-1, 1])
    return w


@case(what="conv2d and linear with 8-bit weights and large activations, CPU without VNNI: which products are added in pairs in int16; "
           "kernels 1x1, 3x3, 5x5, channels 1 to 16 and odd ones, groups, depthwise, stride 2, linear", pairs=True)
def conv_pairs(net):
    def lane(name, channels, kernel, out=16, group=1, stride=1, size=6):
        shape = (1, channels, size, size)
        conv_lane(net, name, "two", shape=shape, channels=out, kernel=kernel, pad=kernel // 2, stride=stride, group=group,
                  values=net.rng.integers(120, 256, shape).astype(U8), w=large(net.rng, (out, channels // group, kernel, kernel)), most=127)

    for channels in (1, 2, 3, 5, 8, 13):
        lane(f"three_{channels}", channels, 3)
    for channels in (2, 3, 13, 16):
        lane(f"point_{channels}", channels, 1)
    lane("five", 3, 5)
    lane("stride", 6, 3, stride=2)
    lane("groups_of_4", 8, 3, group=2)
    lane("groups_of_5", 10, 3, out=6, group=2)
    lane("groups_of_8", 16, 3, group=2)
    lane("groups_of_2", 16, 3, group=8)
    lane("point_groups", 10, 1, out=6, group=2)
    lane("depthwise", 16, 3, group=16)
    lane("depthwise_6", 6, 3, out=6, group=6)
    lane("depthwise_five", 16, 5, group=16)
    lane("depthwise_stride", 16, 3, group=16, stride=2)
    for width in (22, 35):
        linear_lane(net, f"linear_{width}", "two", shape=(9, width), values=net.rng.integers(120, 256, (9, width)).astype(U8),
                    w=large(net.rng, (16, width)))


@case(what="a small network with random weights: conv-relu, depthwise-relu, conv, add, avg_pool, conv-relu, adaptive pool, linear",
      memory="contiguous input; fbgemm, x86 and onednn convolutions give channels_last, so the pools behind them run in channels_last")
def network(net):
    rng = net.rng

    def layer(x, t, name, channels, kernel, sx, sy, zy, group=1, relu=False):
        w, e = rows(rng, channels, (t.shape[1] // group, kernel, kernel) if kernel else (t.shape[1],))
        sw = (2.0 ** -e * sy / sx * rng.uniform(0.5, 0.9, channels)).astype(F)
        b = (rng.normal(0, 20, channels) * sy).astype(F)
        ins, wt, bt = [x, net.weight(name + "_w", w, sw), net.const(name + "_b", b)], packed_weight(w, sw), torch.from_numpy(b)
        if kernel:
            y = net.op("Conv", ins, name + "_conv", kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4, group=group)
            pack = ops.conv2d_prepack(wt, bt, [1, 1], [kernel // 2] * 2, [1, 1], group)
            r = (ops.conv2d_relu if relu else ops.conv2d)(t, pack, float(sy), zy)
        else:
            y = net.op("Gemm", ins, name + "_gemm", transB=1)
            r = ops.linear(t, ops.linear_prepack(wt, bt), float(sy), zy)
        return inner(net.op("Relu", [y], name + "_relu") if relu else y, r, name, sy, zy)

    def inner(y, r, name, sy, zy):
        net.outputs[name + "_q"] = r.int_repr().contiguous().numpy()
        return net.qdq(y, name + "_q", sy, zy), r

    s = [F(v) for v in (0.0317, 0.051, 0.043, 0.0377, 0.061, 0.0467, 0.12)]
    x, t = net.q("x", codes(rng, (4, 4, 12, 12)), s[0], 117)
    a, ta = layer(x, t, "a", 16, 3, s[0], s[1], 0, relu=True)
    b, tb = layer(a, ta, "b", 16, 3, s[1], s[2], 3, group=16, relu=True)
    c, tc = layer(b, tb, "c", 16, 1, s[2], s[3], 121)
    d, td = inner(net.op("Add", [c, a], "d_add"), ops.add(tc, ta, float(s[4]), 95), "d", s[4], 95)
    e, te = inner(net.op("AveragePool", [d], "e_pool", kernel_shape=[2, 2], strides=[2, 2]), tf.avg_pool2d(td, 2, 2), "e", s[4], 95)
    f, tg = layer(e, te, "f", 24, 3, s[4], s[5], 0, relu=True)
    g, tg = inner(net.op("GlobalAveragePool", [f], "g_pool"), tf.adaptive_avg_pool2d(tg, 1), "g", s[5], 0)
    layer(net.op("Flatten", [g], "flat", axis=1), tg.flatten(1), "h", 10, 0, s[5], s[6], 127)
    net.outs.append("h_q_dq")


# ---------------------------------------------------------------- all engines

KERNELS = {"fbgemm": "FBGEMM AVX2 (vpmaddubsw, vpmaddwd)", "x86": "x86 engine: FBGEMM or oneDNN by operator, AVX2",
           "onednn": "oneDNN AVX2", "qnnpack": "QNNPACK SSE2/SSE4.1"}


# tells_apart and undecided by folder: elements that differ from a rule, out of all outputs of the operator named. RNE: to
# nearest, ties to even; HAZ: ties away from zero; HUP: ties up; v: value over sy; z: zero point; fma: fused multiply-add.
TEXTS = {
    "quantize": ("rule RNE(f32(x*f32(1/s)))+z: 0 of 30720; true division 198; RNE(v+z) 3981; HAZ 2452; HUP 2356; fma with z 3743",
                 "values beyond 2^31 steps are left out (torch's conversion wraps)"),
    "conv-fbgemm-x86": ("rule RNE(f32(f32(acc + b/(sx*sw))*m))+z, m = f32(f32(sx*sw)/sy): 0 of 28192; RNE(v+z) 542; HAZ 207; int32 bias 210; "
                        "fma(acc, sx*sw, b)/sy 5; acc*m + b/sy 17", "the order in which m is made; the x86 engine takes oneDNN's rule where AVX512-VNNI exists"),
    "conv-onednn": ("rule RNE(f32(f32(f32(acc*f32(sx*sw)) + b)*f32(1/sy)) + z): 0 of 28192; division by sy 37; fma for the bias 17; RNE(v)+z 534 and "
                    "more; bias in accumulator units 23; HAZ 332", "ReLU before or after the rounding"),
    "conv-qnnpack": ("rule RNE(f32(f32(acc + RNE(b*f32(1/f32(sx*sw))))*m))+z: 0 of 28192; bias by division 3; float bias 211; RNE(v+z) 747 and more",
                     "the order in which m is made"),
    "linear-fbgemm-x86": ("rule as conv-fbgemm-x86: 0 of 6144; int32 bias 6; RNE(v+z) 81; HAZ 30", "fma(acc, m, b/sy) is not told apart; see conv"),
    "linear-onednn": ("rule as conv-onednn: 0 of 6144; division by sy 3; fma for the bias 1; RNE(v)+z 79; HAZ 51", "few near-ties; see conv"),
    "linear-qnnpack": ("rule as conv-qnnpack: 0 of 6144; bias by division 2; float bias 6; RNE(v+z) 87", "few near-ties; see conv"),
    "add-hardswish-fbgemm-x86-onednn": (
        "add: RNE(f32(f32(A+B)*f32(1/sy)))+z with A = fma(q, s, f32(-z*s)): 0 of 262144; A = f32((q-z)*s) 3; true division 677; RNE(v+z) 41965; "
        "HAZ 19829; HUP 19762. hardswish: 0 of 1024; RNE(v+z) 64; HAZ 31", "hardswish: division or reciprocal, order of the products"),
    "add-hardswish-qnnpack": ("add: 22-bit multipliers, HAZ: 0 of 262144; the float sum of dequantized values 1498 (HAZ) and 22140 (RNE(v+z)); HUP 8302 and more. "
                              "hardswish: RNE(v+z): 0 of 1024; RNE(v)+z 64; HAZ 32", "add: HAZ of the exact f32 sum c*(sa/sy) + d*(sb/sy) also gives 0"),
    "elementwise": ("add int8 0 of 131072 (true division 433, RNE(v+z) 16384, HAZ 13308); mul RNE(f32((qa-za)*(qb-zb))*f32(sa*sb/sy))+z 0 of 262144 "
                    "(product of dequantized values 745 and more, RNE(v+z) 3884, HAZ 2999); cat 0 of 4608 (dequantized by fma 80, RNE(v+z) 706, HAZ 346); "
                    "leaky_relu 0 of 2048 (RNE(v+z) 202, HAZ 101)", "relu, sigmoid and tanh have no ties; cat and leaky_relu: division or reciprocal"),
    "pool-nchw-fbgemm-x86-onednn": ("avg_pool2d RNE(f32(S*f32(1/n)) + z), S of q-z: 0 of 9072; RNE(v)+z 427; HAZ 215. adaptive to 1x1 the same: 0 of 288; "
                                    "RNE(v)+z 12", "S/n or S*(1/n)"),
    "pool-nchw-qnnpack": ("avg_pool2d RNE(f32(S*f32(1/kk)))+z, kk the kernel's size even where pads are left out of the count: 0 of 9072; RNE(v+z) 143; "
                          "HAZ 81. adaptive to 1x1: 0 of 288; RNE(v+z) 13", "S/n or S*(1/n)"),
    "pool-channels-last-fbgemm-x86-onednn": ("avg_pool2d RNE(f32(S*f32(1/n)))+z: 0 of 9072; RNE(v+z) 444; HAZ 225; dequantize first 17. adaptive to 1x1 "
                                             "the same: 0 of 288; RNE(v+z) 8", "S/n or S*(1/n)"),
    "pool-channels-last-qnnpack": ("avg_pool2d RNE(f32(S*f32(1/kk)))+z, kk the kernel's size always: 0 of 9072; RNE(v+z) 132; HAZ 67. adaptive to 1x1: 0 of "
                                   "288; RNE(v+z) 8", "S/n or S*(1/n)"),
    "mean-nchw-fbgemm-x86-onednn": ("RNE(v+z): 0 of 192; RNE(v)+z 6; HAZ 3", "float order (power-of-two scales and counts only)"),
    "mean-nchw-qnnpack": ("RNE(v)+z: 0 of 192; RNE(v+z) 6; HAZ 3", "float order (power-of-two scales and counts only)"),
    "mean-channels-last": ("RNE(v)+z: 0 of 192; RNE(v+z) 7; HAZ 2", "float order (power-of-two scales and counts only)"),
    "conv-full-range": ("exact sums differ in 985 of 2624; with each pair of products saturated to int16 (k = (row, column, channel), pairs 2j and 2j+1 of raw "
                        "code times weight, padded to 4 with zeros; then the sum, less zx times the sum of weights) 0 differ; 16391 pairs saturate",
                        "whether k is padded by kernel position (8, 16, 13 channels: no difference)"),
    "conv-pairs-fbgemm-x86": ("pairs 2j, 2j+1 of the sequence (row, column, channel) of a group, depthwise and padding (code zx) included: 0 of 10440 differ; "
        "exact sums 2589; pairs of channels of a kernel position 442; depthwise exact 175; taps outside the image left out 201", "signed activations"),
    "conv-pairs-onednn": ("pairs of channels 2j, 2j+1 of a kernel position, taps outside the image left out, depthwise and groups of 2 and 5 channels exact: 0 of 10440 differ; "
        "exact sums 1851; sequence (row, column, channel) 397; padding as code zx 77; depthwise in pairs 134; all groups in pairs 465", "signed activations"),
    "conv-pairs-qnnpack": ("exact sums: 0 of 10440 differ"
        "", ""),
    "network-fbgemm-x86-onednn": ("each operator's rule, pools as in channels_last: 0 of every tensor, with the conv rule of fbgemm and with that of onednn; "
                                  "pools as in NCHW 533 of the first pool", "fbgemm or onednn conv"),
    "network-qnnpack": ("each operator's rule: 0 of every tensor; fbgemm's rules up to 526 a tensor", ""),
}


BUGS = dict.fromkeys(("pool-nchw-qnnpack", "pool-channels-last-qnnpack"),
                     "avg_pool2d ignores count_include_pad=False: it divides by the kernel's area (qnnpack, torch 2.15.0): no rule, no target reproduces it")


def targets(engines, memory, pairs=False):
    """Target specs of engines: those with pools of their own for channels_last have two. `pairs`: on CPUs without VNNI."""
    if pairs and "onednn" in engines:
        return ["onednn-avx2-channels-last"]
    names = [e + layout for e in engines if e in ("fbgemm", "onednn") for layout in LAYOUTS.get(memory, ["-channels-last"])]
    return names + [e for e in engines if e == "qnnpack"]


def run(engine, name, about, build):
    torch.backends.quantized.engine = engine
    net = Lanes(engine, about.get("memory", ""), seed=sum(map(ord, about.get("seed", name))))
    build(net)
    return net


def main(root, prefix=""):
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for name, (about, build) in CASES.items():
        if not name.startswith(prefix):
            continue
        engines = about.get("engines", ENGINES)
        groups = []
        for engine in engines:
            net = run(engine, name, about, build)
            for group in groups:
                if all(np.array_equal(net.outputs[k], v) for k, v in group[1].outputs.items()):
                    group[0].append(engine)
                    break
            else:
                groups.append(([engine], net))
        for members, net in groups:
            folder = name if len(groups) == 1 else f"{name}-{'-'.join(members)}"
            texts = TEXTS.get(folder, ("", ""))
            extra = [f'memory_format = "{about["memory"]}"'] if "memory" in about else []
            if folder in BUGS:
                extra.append(f'known_bug = "{BUGS[folder]}"')
            write(Path(root) / folder, net.proto(), net.feeds, net.outputs, tools=["torch", "onnx", "numpy"],
                  cpu_path="; ".join(KERNELS[e] for e in members), command="python golden/recorders/pytorch_ops.py golden/pytorch",
                  license_of_the_tool="BSD-3-Clause", what=f"{about['what']}; engines {', '.join(members)}",
                  targets=[] if folder in BUGS else targets(members, about.get("memory"), about.get("pairs")), tells_apart=texts[0], undecided=texts[1], extra=extra)
            size = sum(f.stat().st_size for f in (Path(root) / folder).iterdir())
            print(f"{folder}: {sum(v.size for v in net.outputs.values())} codes, {size} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
