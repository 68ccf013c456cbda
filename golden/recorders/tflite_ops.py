"""Operator recordings of LiteRT in its three resolver modes: one model a family with many independent operators.

usage: python golden/recorders/tflite_ops.py golden/tflite [family ...]
"""

import sys

import numpy as np
from tflite_builder import ACT, Builder
from tflite_recording import record
from tflite_rules import softmax_rules

COMMAND = "python golden/recorders/tflite_ops.py golden/tflite"
RANGE = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}
FAMILIES = {}


def family(what, **kw):
    def wrap(f):
        FAMILIES[f.__name__.replace("_", "-")] = (f, what, kw)
        return f
    return wrap


def codes(b, shape, dtype="int8", lo=None, hi=None):
    """Random codes with both ends present."""
    a, z = RANGE[dtype]
    lo, hi = a if lo is None else lo, z if hi is None else hi
    x = b.rng.integers(lo, hi + 1, shape)
    flat = x.reshape(-1)
    flat[:2] = [lo, hi]
    return x.astype(dtype)


def pots(b, n, lo, hi):
    return np.float32(2.0) ** b.rng.integers(lo, hi + 1, n).astype(np.float32)


# M = p / (2 q) within a few units in the last place: odd multiples of q are near ties, which tell float32 from
# float64 multipliers, orders of float32 products, and Q31 multipliers apart.
NEAR = [(5, 3), (1, 3), (7, 5), (9, 7), (3, 5), (11, 9), (1, 7), (13, 11), (7, 3), (5, 9), (11, 5), (15, 13), (1, 15), (17, 15), (13, 5), (5, 7)]
NEAR_OUT = 0.1171
# Per-tensor weight scales at which float32 and float64 products of the scales give different codes (input scale 0.0313).
NEAR_TENSOR = [2.1583926677703857, 0.12470713257789612, 2.120021343231201, 0.623535692691803, 2.286297559738159]


def ulps(x, n):
    return (np.asarray(x, np.float32).view(np.int32) + np.int32(n)).view(np.float32)


def near_scales(n, sx):
    r = [p / (2 * q) * np.float64(np.float32(NEAR_OUT)) / np.float64(sx) for p, q in NEAR]
    return np.array([ulps(np.float32(r[i % len(r)]), i // len(r) % 5 - 2) for i in range(n)], np.float32)


def weight_scales(b, n, kind, sx=None):
    """Channel scales: powers of two, values whose products give many exact or near ties, or ordinary ones."""
    if kind == "near":
        return near_scales(n, sx)
    if kind == "pot":
        return pots(b, n, -7, -2)
    if kind == "720":
        return np.resize(np.float32([1 / 4, 1 / 8, 3 / 8, 5 / 16, 1, 3 / 4]), n)
    return b.rng.uniform(0.002, 0.05, n).astype(np.float32)


# The output scale makes M = 1/720, 1/90 ... for kind 720, and a power of two for pot.
OUT = {"pot": 1.0, "720": 90.0, "any": 0.337, "near": NEAR_OUT}


def out_hw(h, k, stride, dil, pad):
    e = (k - 1) * dil + 1
    return -(-h // stride) if pad == 0 else (h - e) // stride + 1


def conv_inputs(b, dtype, shape):
    hi = {"int8": 127, "uint8": 255, "int16": 3000}[dtype]
    lo = {"int8": -128, "uint8": 0, "int16": -3000}[dtype]
    around = lambda k, z: (z - 12, z + 12) if k == "near" and dtype != "int16" else (lo, hi)
    zs = {"int8": [0, 5, -128, 3], "uint8": [128, 3, 255, 131], "int16": [0, 0, 0, 0]}[dtype]
    ss = {"int16": [1 / 64, 0.5, 0.0007, 0.0313]}.get(dtype, [1.0, 0.5, 0.0213, 0.0313])
    return {k: b.input(f"x_{k}", codes(b, shape, dtype, *around(k, z)), s, z)
            for k, s, z in zip(["pot", "720", "any", "near"], ss, zs)}


def add_bias(b, name, n, dtype, sx, sw, spread, lo=None):
    t = "int64" if dtype == "int16" else "int32"
    return b.const(name, b.rng.integers(-spread, spread + 1, n).astype(t), np.float32(sx) * np.atleast_1d(sw), 0)


def conv_like(b, dtype, op, cases, cin=4, hw=8):
    x = conv_inputs(b, dtype, (1, hw, hw, cin))
    ozs = {"int8": [0, -7, 3, -128, 127, 20], "uint8": [0, 121, 131, 128, 255, 9], "int16": [0] * 6}[dtype]
    for i, c in enumerate(cases):
        kind, k, stride, dil, pad, act, cout = (c[n] for n in ("kind", "k", "s", "d", "p", "act", "cout"))
        kh, kw = (k, k) if isinstance(k, int) else k
        per_channel = dtype != "uint8"
        n = cout if per_channel else 1
        sx = b.scale(x[kind])
        sw = weight_scales(b, n, kind, sx)
        if kind == "near" and not per_channel:
            sw = np.float32([NEAR_TENSOR[i % 5]])
        wz = 0 if dtype != "uint8" else int(b.rng.integers(0, 256))
        wlo, whi = (-127, 127) if dtype != "uint8" else (0, 255)
        if c.get("small"):
            wlo, whi = max(wlo, wz - c["small"] * 2), min(whi, wz + c["small"] * 2)
        wt = "uint8" if dtype == "uint8" else "int8"
        shape = (1, kh, kw, cout) if op == "DEPTHWISE_CONV_2D" else (cout, kh, kw, cin)
        axis = 3 if op == "DEPTHWISE_CONV_2D" else 0
        w = b.const(f"w{i}", codes(b, shape, wt, wlo, whi), sw, wz, axis)
        sy = np.float32(c.get("sy", OUT[kind] * c.get("so", 1.0) * (sx if kind == "any" else 1)))
        h = hw
        if op == "TRANSPOSE_CONV":
            oh, ow = (h * stride, h * stride) if pad == 0 else ((h - 1) * stride + kh, (h - 1) * stride + kw)
            y = b.tensor(f"y{i}", (1, oh, ow, cout), dtype, sy, ozs[i % 6])
            ins = [b.const(f"shape{i}", np.int32([1, oh, ow, cout])), w, x[kind]]
            if c.get("bias", True):
                ins.append(add_bias(b, f"b{i}", cout, dtype, sx, sw, c.get("spread", 500)))
            b.op(op, ins, [y], padding=pad, strideH=stride, strideW=stride, fusedActivationFunction=ACT[act])
            continue
        y = b.tensor(f"y{i}", (1, out_hw(h, kh, stride, dil, pad), out_hw(h, kw, stride, dil, pad), cout), dtype, sy,
                     ozs[i % 6])
        ins = [x[kind], w]
        if c.get("bias", True):
            ins.append(add_bias(b, f"b{i}", cout, dtype, sx, sw, c.get("spread", 500)))
        opts = dict(padding=pad, strideH=stride, strideW=stride, dilationHFactor=dil, dilationWFactor=dil,
                    fusedActivationFunction=ACT[act])
        if op == "DEPTHWISE_CONV_2D":
            opts["depthMultiplier"] = cout // cin
        b.op(op, ins, [y], **opts)


def cs(kind, k=3, s=1, d=1, p=0, act="none", cout=8, **kw):
    return dict(kind=kind, k=k, s=s, d=d, p=p, act=act, cout=cout, **kw)


CONV = [cs("pot", 1, small=1, cout=16), cs("pot", 1, small=1, cout=16, so=4), cs("pot", 3, p=1, so=8), cs("pot", 3, s=2, so=16),
        cs("pot", 3, d=2, act="relu"), cs("pot", 3, p=1, act="relu6", so=1 / 8), cs("pot", (1, 3), act="relu_n1_to_1", so=1 / 64),
        cs("720", 1, cout=16), cs("720", 3, so=4), cs("720", 3, p=1, s=2, act="relu", so=2), cs("720", 1, cout=16, spread=0, so=1 / 2),
        cs("720", 2, small=1, so=1 / 4), cs("any", 1, cout=16), cs("any", 3, so=3), cs("any", 3, s=2, so=2), cs("any", 3, p=1, act="relu6"),
        cs("any", 5, p=1, so=4), cs("any", 3, d=2, p=1, so=3), cs("any", 1, so=0.003, small=1), cs("pot", 1, so=1 / 128, small=1, spread=20),
        cs("pot", 1, small=1, cout=33, so=2), cs("720", 1, cout=3, so=1, spread=70000),
        cs("any", 1, act="relu6", sy=2.4, small=1), cs("any", 1, act="relu6", sy=0.48), cs("any", 1, act="relu_n1_to_1", sy=0.4), cs("any", 1, act="relu_n1_to_1", sy=0.08), cs("any", 1, act="relu6", sy=12 / 9),
        cs("near", 1, small=1, cout=80), cs("near", 1, small=1, cout=48), cs("near", 1, small=1, cout=48, act="relu"), cs("near", 1, small=1, cout=48)]
DEPTHWISE = [cs("pot", 3, cout=4, small=1), cs("pot", 3, cout=8, small=1, so=2), cs("pot", 3, cout=4, s=2, so=4), cs("pot", 3, cout=8, d=2, p=1, so=4),
             cs("pot", 3, cout=4, p=1, act="relu"), cs("pot", 5, cout=4, act="relu6", so=1 / 8), cs("720", 3, cout=4, so=1 / 2), cs("720", 3, cout=8, s=2, so=1 / 2),
             cs("720", 3, cout=4, spread=0, p=1, so=1 / 4), cs("720", (3, 1), cout=8, so=1 / 8), cs("any", 3, cout=4), cs("any", 3, cout=8, so=2),
             cs("any", 5, cout=4, s=2, act="relu6"), cs("any", 3, cout=4, act="relu_n1_to_1", so=1 / 9), cs("pot", 1, cout=8, small=1),
             cs("any", 3, cout=4, so=0.003, small=1), cs("720", 3, cout=4, act="relu", so=1 / 2, spread=9000), cs("720", 7, cout=4, so=2),
             cs("any", 3, cout=4, act="relu6", sy=2.4, small=1), cs("any", 3, cout=4, act="relu6", sy=0.48), cs("any", 3, cout=4, act="relu_n1_to_1", sy=0.4), cs("any", 3, cout=4, act="relu_n1_to_1", sy=0.08), cs("any", 3, cout=4, act="relu6", sy=12 / 9),
             cs("near", 3, cout=80, small=1), cs("near", 3, cout=48, p=1, small=1), cs("pot", 3, cout=12, small=1), cs("pot", 3, cout=20, p=1, small=1, so=2),
             cs("near", 1, cout=60, small=2)]
TRANSPOSE = [cs("pot", 3, s=2, small=1), cs("pot", 3, s=1, p=1, so=8), cs("pot", 2, s=2, p=1, small=1), cs("720", 3, s=2, so=1), cs("720", 4, s=2, p=1, so=2),
             cs("any", 3, s=2), cs("any", 2, s=2, bias=False), cs("any", 3, s=3, p=1, so=2), cs("pot", 3, s=2, act="relu", so=2),
             cs("720", 3, s=1, so=2, bias=False), cs("near", 2, s=2, cout=48, small=1),
             cs("near", 3, s=2, p=1, cout=33, small=1), cs("pot", 3, s=2, cout=5, small=1), cs("pot", 2, s=1, cout=12, small=1, so=2),
             cs("any", 3, s=2, act="relu6", sy=0.48), cs("any", 2, s=2, act="relu_n1_to_1", sy=0.08)]


@family("CONV_2D int8, weights int8 per channel: kernels 1x1 to 5x5, strides, dilation, SAME and VALID, fused RELU, RELU6, RELU_N1_TO_1, M above 1")
def conv(b):
    conv_like(b, "int8", "CONV_2D", CONV)


@family("DEPTHWISE_CONV_2D int8 per channel: multiplier 1 and 2, strides, dilation, SAME and VALID, fused activations")
def depthwise(b):
    conv_like(b, "int8", "DEPTHWISE_CONV_2D", DEPTHWISE)


@family("TRANSPOSE_CONV int8 per channel: strides 1 to 3, SAME and VALID, with and without bias")
def transpose_conv(b):
    conv_like(b, "int8", "TRANSPOSE_CONV", TRANSPOSE, hw=6)


def fully(b, dtype):
    x = conv_inputs(b, dtype, (24, 17))
    ozs = {"int8": [0, -7, 3, -128, 127, 20], "uint8": [0, 121, 131, 128, 255, 9], "int16": [0] * 6}[dtype]
    i = 0
    for kind in ("pot", "720", "any", "near"):
        for per_channel in ((False,) if dtype == "uint8" else (False, True)):
            for bias, act, so, small in ((True, "none", 1, 1), (False, "none", 1, 1), (True, "none", 1, 1), (True, "none", 1, 1), (False, "none", 1, 1)) if kind == "near" else ((True, "none", 1, 1), (False, "none", 4, 0), (True, "relu", 2, 0), (True, "relu6", 1 / 8, 1), (True, "none", 1 / 128, 1)):
                cout = 20 if kind != "near" or dtype == "int16" else 64 if per_channel else 24
                sx = b.scale(x[kind])
                sw = weight_scales(b, cout if per_channel else 1, kind, sx)
                if kind == "near" and not per_channel:
                    sw = np.float32([NEAR_TENSOR[i % 5]])
                if not per_channel and kind == "720":
                    sw = np.float32([3 / 8 if bias else 1 / 4])
                wz = int(b.rng.integers(0, 256)) if dtype == "uint8" else 0
                lo, hi = (0, 255) if dtype == "uint8" else (-127, 127)
                if small:
                    lo, hi = max(lo, wz - 4), min(hi, wz + 4)
                w = b.const(f"w{i}", codes(b, (cout, 17), "uint8" if dtype == "uint8" else "int8", lo, hi), sw, wz, 0)
                ins = [x[kind], w, add_bias(b, f"b{i}", cout, dtype, sx, sw, 500) if bias else -1]
                y = b.tensor(f"y{i}", (24, cout), dtype, np.float32(OUT[kind] * so * (sx if kind == "any" else 1)), ozs[i % 6])
                b.op("FULLY_CONNECTED", ins, [y], fusedActivationFunction=ACT[act])
                i += 1
    for act, sy in (("relu6", 2.4), ("relu6", 0.48), ("relu_n1_to_1", 0.4)):  # bounds on a tie
        w = b.const(f"w{i}", codes(b, (20, 17), "uint8" if dtype == "uint8" else "int8", *((0, 255) if dtype == "uint8" else (-127, 127))), 0.01, 100 if dtype == "uint8" else 0)
        y = b.tensor(f"y{i}", (24, 20), dtype, sy, ozs[(i + 1) % 6])
        b.op("FULLY_CONNECTED", [x["any"], w, add_bias(b, f"b{i}", 20, dtype, b.scale(x["any"]), np.float32([0.01]), 500)], [y], fusedActivationFunction=ACT[act])
        i += 1


@family("FULLY_CONNECTED int8: per tensor and per channel, with and without bias, fused RELU and RELU6, M above 1")
def fully_connected(b):
    fully(b, "int8")


# (scale a, zero a, scale b, zero b, scale y, zero y, activation); zero points are moved by 128 for uint8
PAIRS = {
    "ADD": [(1, 0, 1, 0, 2, 0, "none"), (0.5, -3, 0.25, 7, 1, 5, "none"), (0.0625, 127, 1, -128, 0.5, -1, "none"),
            (0.1, 4, 0.3, -9, 0.25, 11, "none"), (0.0317, -128, 0.00213, 3, 0.0301, -128, "relu"), (3, 1, 5, 2, 16, -3, "none"),
            (0.75, 0, 0.25, 0, 1.5, 1, "relu6"), (0.02, -128, 0.02, -128, 0.04, -128, "none"),
            (0.1, 4, 0.3, -9, 0.2, 11, "none"), (0.07, -3, 0.21, 5, 0.14, 0, "none"), (1 + 2 ** -21, 0, 0.5, 0, 1, 0, "none"), (1, 0, 1, 3, 2.4, 0, "relu6")],
    "SUB": [(1, 0, 1, 0, 2, 0, "none"), (0.5, -3, 0.25, 7, 1, 5, "none"), (0.1, 4, 0.3, -9, 0.25, 11, "none"),
            (3, 1, 5, 2, 16, -3, "relu"), (0.02, -128, 0.02, -128, 0.04, -1, "none"),
            (0.1, 4, 0.3, -9, 0.2, 11, "none"), (1 + 2 ** -21, 0, 0.5, 0, 1, 0, "none"), (1, 0, 1, 3, 0.4, 0, "relu_n1_to_1")],
    "MUL": [(1, 0, 1, 0, 128, 0, "none"), (0.5, -3, 0.25, 7, 8, 5, "none"), (1, 1, 1, -2, 720, -1, "none"),
            (0.5, 127, 0.25, -128, 90, 3, "none"), (0.1, 4, 0.3, -9, 2.13, 11, "none"), (0.0317, -128, 0.0213, 3, 0.05, -128, "relu"),
            (0.02, 0, 0.05, -128, 0.03, 1, "relu6"), (0.25, 2, 0.25, 3, 0.03125, 0, "none"),
            (0.1, 4, 0.3, -9, 0.04285714402794838, 0, "none"), (0.1, 4, 0.11, -2, 0.013199999928474426, 3, "none"),
            (0.3, 1, 0.11, 0, 0.03959999978542328, -1, "none"), (0.1, 0, 0.7, 0, 2.4, 0, "relu6")],
}


def binary(b, op, dtype, exhaustive=True):
    off = 128 if dtype == "uint8" else 0
    lo, hi = RANGE[dtype]
    tensors = {}

    def inp(name, data, s, z):
        key = (name, np.float32(s), z)
        if key not in tensors:
            tensors[key] = b.input(f"{name}{len(tensors)}", data, s, z)
        return tensors[key]
    if dtype == "int16":
        n = 800
        a = codes(b, (1, n), dtype)
        c = codes(b, (1, n), dtype)
        half = n // 2
        a[:, half:] = b.rng.integers(-60, 61, n - half)
        c[:, half:] = b.rng.integers(-60, 61, n - half)
    else:
        full = np.arange(lo, hi + 1)
        a, c = np.repeat(full, 256).reshape(1, -1).astype(dtype), np.tile(full, 256).reshape(1, -1).astype(dtype)
    pairs = PAIRS[op][1::2] + PAIRS[op][-2:-1] + (PAIRS[op][8:9] if op == "MUL" else []) if dtype == "uint8" else PAIRS[op]
    for i, (sa, za, sb, zb, sy, zy, act) in enumerate(pairs):
        if dtype == "int16":
            za = zb = zy = -off
            sy = {"MUL": sy / 16 if act == "none" else sy}.get(op, sy)
        p = {}
        if op in ("ADD", "SUB") :
            p["potScaleInt16"] = False
        y = b.tensor(f"y{i}", a.shape, dtype, sy, zy + off)
        b.op(op, [inp("a", a, sa, za + off), inp("b", c, sb, zb + off)], [y], fusedActivationFunction=ACT[act], **p)
    # Broadcasting: a constant per channel, a scalar constant first and second, and two inputs that both stretch.
    m = codes(b, (1, 5, 6, 20), dtype, *((-9000, 9000) if dtype == "int16" else ()))
    for i, (sa, za, sb, zb, sy, zy, act) in enumerate(PAIRS[op][1:4] + PAIRS[op][-4:-2] if dtype != "int16" else PAIRS[op][1:3]):
        if dtype == "int16":
            za = zb = zy = -off
        xa = inp("m", m, sa, za + off)
        k1 = b.const(f"k{i}", codes(b, (20,), dtype), sb, zb + off)
        k0 = b.const(f"s{i}", np.array([hi - 40 - i if i < 3 else lo + 55], dtype), sb, zb + off)
        k2 = b.const(f"t{i}", codes(b, (1, 5, 1, 20), dtype), sb, zb + off)
        p = {"potScaleInt16": False} if op in ("ADD", "SUB") else {}
        for j, (u, v) in enumerate([(xa, k1), (k0, xa), (xa, k0), (xa, k2), (k1, xa)]):
            if u is not xa and op == "SUB" and j == 4:
                continue
            y = b.tensor(f"z{i}_{j}", m.shape, dtype, sy, zy + off)
            b.op(op, [u, v], [y], fusedActivationFunction=ACT[act], **p)


@family("ADD int8: all 65,536 code pairs at eight parameter sets, constants that broadcast")
def add(b):
    binary(b, "ADD", "int8")


@family("SUB int8: all 65,536 code pairs at five parameter sets, constants that broadcast")
def sub(b):
    binary(b, "SUB", "int8")


@family("MUL int8: all 65,536 code pairs at nine parameter sets, constants that broadcast")
def mul(b):
    binary(b, "MUL", "int8")


def pools(b, op, dtype):
    off = 128 if dtype == "uint8" else 0
    x = {}
    for i, (s, z, c) in enumerate([(0.5, 0, 8), (0.0213, -128, 3), (1, 37, 19)]):
        z = 0 if dtype == "int16" else z
        lim = {"int16": 5000}.get(dtype)
        x[i] = b.input(f"x{i}", codes(b, (1, 12, 12, c), dtype, -lim if lim else None, lim), s, z + off), s, z + off, c
    cases = [(2, (10, 10), 1, 1, "none"), (2, (5, 12), 1, 1, "none"), (2, (6, 7), 1, 1, "none"), (2, (3, 10), 1, 1, "none"), (2, (11, 10), 1, 0, "none"), (0, 2, 2, 1, "none"), (0, 2, 1, 0, "none"), (0, 3, 1, 0, "none"), (1, 3, 2, 0, "none"), (1, 12, 1, 1, "none"), (2, 2, 2, 1, "relu"),
             (2, 4, 4, 1, "none"), (1, 5, 3, 0, "relu6"), (2, 7, 1, 1, "none"), (0, 6, 6, 1, "relu_n1_to_1"), (2, 1, 2, 0, "none")]
    for i, (k, f, s, p, act) in enumerate(cases):
        t, sc, z, c = x[k]
        fh, fw = (f, f) if isinstance(f, int) else f
        y = b.tensor(f"y{i}", (1, out_hw(12, fh, s, 1, p), out_hw(12, fw, s, 1, p), c), dtype, sc, z)
        b.op(op, [t], [y], padding=p, strideH=s, strideW=s, filterHeight=fh, filterWidth=fw, fusedActivationFunction=ACT[act])


@family("AVERAGE_POOL_2D int8: windows 1x1 to 12x12, strides, SAME borders, fused activations")
def average_pool(b):
    pools(b, "AVERAGE_POOL_2D", "int8")


@family("MAX_POOL_2D int8: windows, strides, SAME borders, fused activations")
def max_pool(b):
    pools(b, "MAX_POOL_2D", "int8")


def means(b, dtype):
    off = 128 if dtype == "uint8" else 0
    for i, (hw, c, sx, zx, sy, zy, axes, keep) in enumerate([
            (2, 96, 1, 0, 1, 0, (1, 2), True), (2, 48, 0.5, 3, 0.5, 3, (1, 2), True), (2, 64, 0.25, -9, 0.5, 5, (1, 2), False),
            (4, 64, 1, -128, 1, -128, (1, 2), True), (4, 64, 1, 17, 0.125, -3, (1, 2), True), (3, 96, 0.1, 4, 0.1, 4, (1, 2), True),
            (7, 64, 0.0235, -128, 0.0235, -128, (1, 2), True), (7, 64, 0.0235, -128, 0.0119, -128, (1, 2), False), (6, 64, 0.75, 1, 0.5, -1, (1, 2), True),
            (4, 20, 1, 0, 1, 0, (3,), True), (4, 20, 0.3, 5, 0.2, -7, (3,), False), (4, 12, 1, 1, 2, 0, (1,), True), (4, 12, 1, 1, 0.5, 0, (2,), False),
            (5, 9, 0.5, 2, 0.25, 1, (1, 2, 3), True), (5, 40, 0.2, 0, 0.16, 0, (1, 2), True),
            (2, 28, 1, 0, 1, 0, (1, 2), True), (2, 45, 0.5, 3, 1, 3, (1, 2), True), ((2, 3), 150, 0.1, 4, 0.3, 7, (1, 2), True), ((2, 5), 150, 0.07, -3, 0.21, 0, (1, 2), True),
            ((1, 3), 150, 0.07, 1, 0.042, -2, (1, 2), True), ((1, 5), 150, 0.1, 0, 0.0142857143, 1, (1, 2), False), ((3, 4), 150, 0.0313, 5, 0.0939, 0, (1, 2), True),
            ((1, 7), 150, 0.3, -60, 0.1, -61, (1, 2), True), ((2, 3), 150, 0.1, 127, 0.3, 126, (1, 2), True),
            ((1, 3), 150, 0.1, 4, 0.06666667014360428, 0, (1, 2), True), ((1, 5), 150, 0.0235, 0, 0.009399999864399433, 3, (1, 2), False),
            ((2, 3), 150, 0.1, -7, 0.03333333507180214, 1, (2, 1), True)]):
        zx, zy = (0, 0) if dtype == "int16" else (zx + off, zy + off)
        shape = [1, *((hw, hw) if isinstance(hw, int) else hw), c]
        x = b.input(f"x{i}", codes(b, shape, dtype), sx, zx)
        out = [1 if k in axes else n for k, n in enumerate(shape)] if keep else [n for k, n in enumerate(shape) if k not in axes]
        y = b.tensor(f"y{i}", out, dtype, sy, zy)
        b.op("MEAN", [x, b.const(f"axes{i}", np.int32(axes))], [y], keepDims=keep)


@family("MEAN int8 over height and width, channels, one axis and all; equal and different scales")
def mean(b):
    means(b, "int8")


UNARY_IN = [(0.0625, 0), (0.03125, -128), (0.1, 5), (0.0235, -1), (1.0, 127), (0.5, -64), (0.007, 33), (0.25, 3), (0.18, -20)]


# Input scales at which a float32 table entry of LOGISTIC or TANH lies on or beside a tie.
LOGISTIC_IN = [(s, 0) for s in (0.18423889577388763, 0.5650554299354553, 0.010050018317997456, 0.010471871122717857, 0.11841736733413422, 0.037036411464214325)]
TANH_IN = [(s, 0) for s in (0.02291889861226082, 0.0863785445690155, 0.015151158906519413,
                            0.8913299441337585, 0.026965877041220665, 0.022678885608911514, 0.022678887471556664, 0.03639993816614151, 0.011339442804455757)]


def unary(b, op, dtype, outs, more=(), **options):
    """Every code of 8 bit (a spread of 16 bit codes) at several input scales, each with several outputs."""
    off = 128 if dtype == "uint8" else 0
    lo, hi = RANGE[dtype]
    if dtype == "int16":
        data = np.unique(np.concatenate([np.arange(-32768, 32768, 337), np.arange(-80, 81), [32767]])).astype("int16")
    else:
        data = np.arange(lo, hi + 1).astype(dtype)
    k = 0
    for i, (s, z) in enumerate([*UNARY_IN, *more]):
        if dtype == "int16":
            s, z = s / 256, 0
        x = b.input(f"x{i}", data.reshape(1, -1), s, z + off)
        for so, zo in outs(np.float32(s), z):
            y = b.tensor(f"y{k}", (1, len(data)), dtype, so, zo + off)
            b.op(op, [x], [y], **options)
            k += 1


@family("LOGISTIC int8 on all codes at nine input scales")
def logistic(b):
    unary(b, "LOGISTIC", "int8", lambda s, z: [(1 / 256, -128)], LOGISTIC_IN)


@family("TANH int8 on all codes at nine input scales")
def tanh(b):
    unary(b, "TANH", "int8", lambda s, z: [(1 / 128, 0), (0.0101, 0), (0.00907, -5)], TANH_IN)


@family("HARD_SWISH int8 on all codes at nine input scales, several output scales")
def hard_swish(b):
    unary(b, "HARD_SWISH", "int8", lambda s, z: [(s, z), (s / 2, -128), (0.0471, -118), (s * np.float32(1.7), 9)])


NEAR_RATIO = {0.3: 0.36000001430511475, 0.0377: 0.053857143968343735}  # here float32 and float64 quotients give different codes


def leaky(b, dtype):
    k = 0
    off = 128 if dtype == "uint8" else 0
    lo, hi = RANGE[dtype]
    if dtype == "int16":
        data = np.unique(np.concatenate([np.arange(-32768, 32768, 337), np.arange(-80, 81), [32767]])).astype("int16")
    else:
        data = np.arange(lo, hi + 1).astype(dtype)
    for i, (s, z) in enumerate(UNARY_IN):
        if dtype == "int16":
            z = 0
        x = b.input(f"x{i}", data.reshape(1, -1), s, z + off)
        for alpha, so, zo in ([(0.25, s, z), (0.1, s, z), (0.5, s * 2, -3), (0.01, s * 0.73, 11), (0.3, s * 1.31, -128), (-0.125, s * 4, 1), (5 / 6, np.float32(s) * np.float32(1.2), 0),
                             (0.7, s, 3), (128.5 / 256, s, -1), (0.25, np.float32(s) * np.float32(256 / 128.5), 2), (9 / 14, np.float32(s) * np.float32(14 / 9), 1)])[i % 2 if dtype != "int8" else 0::2 if dtype != "int8" else 1]:
            y = b.tensor(f"y{k}", (1, len(data)), dtype, so, (0 if dtype == "int16" else zo) + off)
            b.op("LEAKY_RELU", [x], [y], alpha=float(np.float32(alpha)))
            k += 1


@family("LEAKY_RELU int8 on all codes: slopes 0.01 to 0.5 and a negative one, equal and different scales")
def leaky_relu(b):
    leaky(b, "int8")


@family("RELU, RELU6, RELU_N1_TO_1 int8 on all codes, equal and different scales")
def relu(b):
    for op in ("RELU", "RELU6", "RELU_N1_TO_1"):
        k = 0
        for i, (s, z) in enumerate([*UNARY_IN[::2], (0.3, 3), (0.0377, 0)]):
            x = b.input(f"{op}_x{i}", np.arange(-128, 128).astype("int8").reshape(1, -1), s, z)
            for so, zo in [(NEAR_RATIO.get(s, s), z), (s, z), (s * 2, -3), (s / 2, -128), (np.float32(s) * np.float32(0.73), 11), (s * 4, 2)]:
                b.op(op, [x], [b.tensor(f"{op}_y{k}", (1, 256), "int8", so, zo)])
                k += 1


@family("SOFTMAX int8: rows of 2 to 100 classes, input scales 2^-6 to 1, beta 1 and 0.5")
def softmax(b):
    softmaxes(b, "int8", (1 / 256, -128))


def softmaxes(b, dtype, out):
    off = 128 if dtype == "uint8" else 0
    k = 0
    if dtype != "int16":  # rows on which the fixed point and the float32 kernels give different codes
        for n in (3, 5, 8, 10):
            for s in (0.03125, 0.0625, 0.125, 0.037, 0.0071):
                x = b.rng.integers(-128, 128, (60000, n))
                a = [softmax_rules(x, np.float32(s), np.float32(1), np.float32(1 / 256), -128, -128, 127)[r] for r in ("gemmlowp fixed point", "f32 table, HAZ", "f32 table, RNE")]
                rows = x[((a[0] != a[1]) | (a[1] != a[2])).any(-1)]
                if len(rows):
                    t = b.input(f"t{n}_{s}", (rows + off).astype(dtype), s, 7 + off)
                    b.op("SOFTMAX", [t], [b.tensor(f"ty{n}_{s}", rows.shape, dtype, *out)], beta=1.0)
    for n, rows in ((2, 60), (4, 40), (10, 30), (33, 6), (100, 3)):
        for s in (1 / 64, 0.0625, 0.25, 1.0, 0.1176, 0.0071):
            s = s / 256 if dtype == "int16" else s
            x = codes(b, (rows, n), dtype)
            x[rows // 2:] = np.clip(x[rows // 2:].astype(int) // 8 + 60, *RANGE[dtype])
            x[1] = x[1, 0]
            t = b.input(f"x{k}", x, s, 0 if dtype == "int16" else 7 + off)
            b.op("SOFTMAX", [t], [b.tensor(f"y{k}", (rows, n), dtype, *out)], beta=0.5 if k % 7 == 3 else 1.0)
            k += 1


def near_ties(s, codes_, z):
    """Floats at (k + 1/2) s and one and two steps beside, plus whole multiples."""
    s = np.float32(s)
    k = np.arange(-codes_, codes_ + 1).astype(np.float32)
    t = ((k + np.float32(0.5)) * s).astype(np.float32)
    up, dn = np.nextafter(t, np.float32(np.inf)), np.nextafter(t, np.float32(-np.inf))
    return np.concatenate([t, up, dn, np.nextafter(up, np.float32(np.inf)), np.nextafter(dn, np.float32(-np.inf)), k * s]).astype(np.float32)


def with_tail(x, s):
    """Pads to a multiple of 8 and appends seven values on which the vector and the scalar loops of LiteRT differ."""
    s = np.float32(s)
    x = np.concatenate([x, np.zeros(-len(x) % 8, np.float32)])
    v, d, f = np.rint(x * (np.float32(1) / s)), x.astype(np.float64) / np.float64(s), x / s
    away = lambda k: np.sign(k) * np.floor(np.abs(k.astype(np.float64)) + 0.5)
    pick = np.concatenate([x[away(f) != away(d)][:3], x[(v != away(d)) & (np.abs(f) < 50)][:7], x[:7]])[:7]
    return np.concatenate([x, pick]).reshape(1, -1)


@family("QUANTIZE float32 to int8 and uint8 with exact and near ties; int8 to int8, int8 to uint8, uint8 to int8 on all codes")
def quantize(b):
    for i, (s, z) in enumerate([(1.0, 0), (0.5, -3), (0.1, 5), (0.0235, -128), (0.337, 127), (1 / 255, -128), (0.0078431377, 0), (3.0, 1)]):
        x = b.input(f"f{i}", with_tail(near_ties(s, 140, z), s))
        b.op("QUANTIZE", [x], [b.tensor(f"fy{i}", b.tensors[x].shape, "int8", s, z)])
        b.op("QUANTIZE", [x], [b.tensor(f"fu{i}", b.tensors[x].shape, "uint8", s, z + 128)])
    for src in ("int8", "uint8"):
        off = 128 if src == "uint8" else 0
        for i, (s, z) in enumerate([*UNARY_IN[:None if src == "int8" else 4], (0.3, 3), (0.0377, 0)]):
            tail = (z + off + np.array([-1, -2, -3, -5, -6, -9, -10, -14])).clip(*RANGE[src]).astype(src)
            x = b.input(f"{src}_{i}", np.append(np.arange(256).astype(np.uint8).view(src), tail).reshape(1, -1), s, z + off)
            for j, (r, zo) in enumerate([(1, z), (4, -3), (0.5, 7), (0.73, 11), (1.31, -128), (8, 127), (3, 0), (0.01, 1), (1.2, -5), (10 / 7, 2), (256 / 128.5, 3), (NEAR_RATIO[s] / s if s in NEAR_RATIO else 7, 1)][:None if i % 4 == 0 else -6 if s not in NEAR_RATIO else None]):
                for dst in ("int8", "uint8") if i % 3 == 0 or s in NEAR_RATIO else (src,):
                    b.op("QUANTIZE", [x], [b.tensor(f"{src}_{dst}_{i}_{j}", (1, 264), dst, NEAR_RATIO[s] if r == NEAR_RATIO.get(s, 0) / s else np.float32(s) * np.float32(r), zo + (128 if dst == "uint8" else 0))])


@family("DEQUANTIZE int8, uint8 and int16 to float32 on all 8 bit codes")
def dequantize(b):
    for i, (s, z) in enumerate(UNARY_IN):
        for t in ("int8", "uint8", "int16"):
            d = np.append(np.arange(256), [3, 7, 201, 9, 77]).astype(np.uint8).view(t) if t != "int16" else np.arange(-32768, 32768, 257).astype("int16")
            x = b.input(f"{t}_{i}", d.reshape(1, -1), s, 0 if t == "int16" else z + (128 if t == "uint8" else 0))
            b.op("DEQUANTIZE", [x], [b.tensor(f"{t}_y{i}", (1, len(d)), "float32")])


@family("PAD, PADV2 and MIRROR_PAD int8: the fill code")
def pad(b):
    x = b.input("x", codes(b, (1, 4, 5, 3)), 0.5, 9)
    for i, p in enumerate([((0, 0), (1, 1), (1, 1), (0, 0)), ((0, 0), (0, 2), (3, 0), (1, 0))]):
        out = [n + a + c for n, (a, c) in zip((1, 4, 5, 3), p)]
        pc = b.const(f"p{i}", np.int32(p))
        b.op("PAD", [x, pc], [b.tensor(f"y{i}", out, "int8", 0.5, 9)])
        b.op("PADV2", [x, pc, b.const(f"v{i}", np.int8([-77]), 0.5, 9)], [b.tensor(f"v_y{i}", out, "int8", 0.5, 9)])
    p = ((0, 0), (1, 2), (2, 1), (0, 0))
    out = [n + a + c for n, (a, c) in zip((1, 4, 5, 3), p)]
    for mode in (0, 1):
        b.op("MIRROR_PAD", [x, b.const(f"pm{mode}", np.int32(p))], [b.tensor(f"m{mode}", out, "int8", 0.5, 9)], mode=mode)


@family("CONCATENATION int8 with equal scales over several axes, two and three inputs")
def concat(b):
    a = b.input("a", codes(b, (1, 4, 5, 3)), 0.1, 9)
    c = b.input("b", codes(b, (1, 4, 5, 3)), 0.1, 9)
    d = b.input("c", codes(b, (1, 4, 5, 3)), 0.1, 9)
    for i, (ins, axis) in enumerate([((a, c), 3), ((a, c, d), 1), ((a, d), 2), ((d, c, a), -1)]):
        out = [1, 4, 5, 3]
        out[axis] *= len(ins)
        b.op("CONCATENATION", ins, [b.tensor(f"y{i}", out, "int8", 0.1, 9)], axis=axis)


@family("RESHAPE, TRANSPOSE, SPLIT, STRIDED_SLICE, SLICE, SQUEEZE, EXPAND_DIMS int8: pure copies")
def copies(b):
    x = b.input("x", codes(b, (1, 6, 8, 4)), 0.1, 9)
    t = lambda n, s: b.tensor(n, s, "int8", 0.1, 9)
    i32 = lambda n, v: b.const(n, np.int32(v))
    b.op("RESHAPE", [x, i32("rs", [1, 12, 16])], [t("reshape", (1, 12, 16))], newShape=[1, 12, 16])
    for i, p in enumerate([(0, 2, 1, 3), (0, 3, 1, 2), (3, 2, 1, 0)]):
        b.op("TRANSPOSE", [x, i32(f"perm{i}", p)], [t(f"transpose{i}", [(1, 6, 8, 4)[k] for k in p])])
    b.op("SPLIT", [i32("axis", 3), x], [t("split0", (1, 6, 8, 2)), t("split1", (1, 6, 8, 2))], numSplits=2)
    b.op("SPLIT", [i32("axis2", 1), x], [t(f"split_h{k}", (1, 2, 8, 4)) for k in range(3)], numSplits=3)
    for i, (bg, en, st, out, masks) in enumerate([((0, 1, 2, 0), (1, 6, 8, 4), (1, 2, 3, 1), (1, 3, 2, 4), {}), ((0, -1, 7, 0), (1, -7, 0, 4), (1, -2, -3, 2), (1, 3, 3, 2), {}),
                                                  ((0, 2, 0, 0), (0, 5, 0, 0), (1, 1, 2, 1), (1, 3, 4, 4), dict(beginMask=13, endMask=13))]):
        b.op("STRIDED_SLICE", [x, i32(f"bg{i}", bg), i32(f"en{i}", en), i32(f"st{i}", st)], [t(f"strided{i}", out)], **masks)
    b.op("SLICE", [x, i32("sb", (0, 1, 2, 1)), i32("ss", (1, 4, -1, 2))], [t("slice", (1, 4, 6, 2))])
    b.op("SQUEEZE", [x], [t("squeeze", (6, 8, 4))], squeezeDims=[0])
    b.op("EXPAND_DIMS", [x, i32("ed", 1)], [t("expand", (1, 1, 6, 8, 4))])


def resizes(b, op, dtype):
    z = {"int8": 9, "uint8": 130, "int16": 0}[dtype]
    xs = [b.input(f"x{i}", codes(b, (1, h, w, c), dtype), 0.1, z) for i, (h, w, c) in enumerate([(5, 4, 3), (4, 4, 8)])]
    k = 0
    for x in xs:
        for ac, hp in ((False, False), (True, False), (False, True)):
            for size in ((10, 8), (7, 9), (3, 2), (8, 8), (13, 5)):
                c = b.tensors[x].shape[3]
                b.op(op, [x, b.const(f"s{k}", np.int32(size))], [b.tensor(f"y{k}", (1, *size, c), dtype, 0.1, z)], alignCorners=ac, halfPixelCenters=hp)
                k += 1


@family("RESIZE_NEAREST_NEIGHBOR int8: align_corners and half_pixel_centers, up and down")
def resize_nearest(b):
    resizes(b, "RESIZE_NEAREST_NEIGHBOR", "int8")


@family("RESIZE_BILINEAR int8: align_corners and half_pixel_centers, up and down")
def resize_bilinear(b):
    resizes(b, "RESIZE_BILINEAR", "int8")


# ---- uint8 ----
@family("CONV_2D uint8, weights uint8 per tensor with zero point")
def uint8_conv(b):
    conv_like(b, "uint8", "CONV_2D", CONV[::2] + CONV[-4:])


@family("DEPTHWISE_CONV_2D uint8, weights uint8 per tensor with zero point")
def uint8_depthwise(b):
    conv_like(b, "uint8", "DEPTHWISE_CONV_2D", DEPTHWISE[::2])


@family("FULLY_CONNECTED uint8, weights uint8 per tensor with zero point")
def uint8_fully_connected(b):
    fully(b, "uint8")


@family("SUB uint8: all 65,536 code pairs at eight parameter sets, constants that broadcast")
def uint8_sub(b):
    binary(b, "SUB", "uint8")


@family("RESIZE_BILINEAR uint8")
def uint8_resize_bilinear(b):
    resizes(b, "RESIZE_BILINEAR", "uint8")


@family("ADD uint8: all 65,536 code pairs at eight parameter sets, constants that broadcast")
def uint8_add(b):
    binary(b, "ADD", "uint8")


@family("MUL uint8: all 65,536 code pairs at nine parameter sets, constants that broadcast")
def uint8_mul(b):
    binary(b, "MUL", "uint8")


@family("AVERAGE_POOL_2D uint8")
def uint8_average_pool(b):
    pools(b, "AVERAGE_POOL_2D", "uint8")


@family("CONCATENATION uint8 with different input scales")
def uint8_concat(b):
    k = 0
    full = np.arange(256).astype("uint8").reshape(1, 4, 64)
    ins = [b.input(f"x{i}", np.roll(full, 7 * i, 2), s, z) for i, (s, z) in enumerate([(0.5, 128), (0.25, 3), (0.1, 255), (0.0377, 77), (1.0, 0)])]
    for i, u in enumerate(ins):
        for j, v in enumerate(ins):
            for so, zo in ((0.5, 128), (0.2, 60), (0.333, 131), (0.12, 126), (0.6, 130)) if i < j else ():
                b.op("CONCATENATION", [u, v], [b.tensor(f"y{k}", (1, 4, 128), "uint8", so, zo)], axis=2)
                k += 1


@family("SOFTMAX uint8")
def uint8_softmax(b):
    softmaxes(b, "uint8", (1 / 256, -128 + 128))


@family("LOGISTIC uint8 on all codes")
def uint8_logistic(b):
    unary(b, "LOGISTIC", "uint8", lambda s, z: [(1 / 256, -128)], LOGISTIC_IN)


@family("TANH uint8 on all codes")
def uint8_tanh(b):
    unary(b, "TANH", "uint8", lambda s, z: [(1 / 128, 0), (0.00907, -5)], TANH_IN)


@family("LEAKY_RELU uint8 on all codes")
def uint8_leaky_relu(b):
    leaky(b, "uint8")


@family("MEAN uint8")
def uint8_mean(b):
    means(b, "uint8")


@family("HARD_SWISH uint8 on all codes")
def uint8_hard_swish(b):
    unary(b, "HARD_SWISH", "uint8", lambda s, z: [(s, z), (s / 2, -128), (0.0471, -118), (s * np.float32(1.7), 9)])


# ---- int16 activations, int8 weights ----
I16 = dict(target="tflite-int16x8")


@family("CONV_2D int16 activations, int8 weights per channel, int64 bias", **I16)
def int16_conv(b):
    conv_like(b, "int16", "CONV_2D", CONV[::2] + CONV[23:26:2], hw=7)


@family("DEPTHWISE_CONV_2D int16 activations, int8 weights per channel, int64 bias", **I16)
def int16_depthwise(b):
    conv_like(b, "int16", "DEPTHWISE_CONV_2D", DEPTHWISE[:18:3] + DEPTHWISE[1:18:3] + DEPTHWISE[-4:], hw=7)


@family("TRANSPOSE_CONV int16 activations, int8 weights per channel, int64 bias", **I16)
def int16_transpose_conv(b):
    conv_like(b, "int16", "TRANSPOSE_CONV", TRANSPOSE, hw=6)


@family("FULLY_CONNECTED int16 activations, int8 weights, int64 bias", **I16)
def int16_fully_connected(b):
    fully(b, "int16")


@family("ADD int16", **I16)
def int16_add(b):
    binary(b, "ADD", "int16")
    b2 = codes(b, (1, 400), "int16")
    x, y, z = (b.input(f"pot{i}", codes(b, (1, 400), "int16"), s) for i, s in enumerate((2 ** -12, 2 ** -12, 2 ** -14)))
    b.op("ADD", [x, y], [b.tensor("pot_y0", (1, 400), "int16", 2 ** -12)], potScaleInt16=True)
    b.op("ADD", [x, z], [b.tensor("pot_y1", (1, 400), "int16", 2 ** -12)], potScaleInt16=True)
    b.op("ADD", [z, x], [b.tensor("pot_y2", (1, 400), "int16", 2 ** -12)], potScaleInt16=True, fusedActivationFunction=ACT["relu"])


@family("SUB int16", **I16)
def int16_sub(b):
    binary(b, "SUB", "int16")


@family("MUL int16", **I16)
def int16_mul(b):
    binary(b, "MUL", "int16")


@family("LEAKY_RELU int16", **I16)
def int16_leaky_relu(b):
    leaky(b, "int16")


@family("LOGISTIC int16", **I16)
def int16_logistic(b):
    unary(b, "LOGISTIC", "int16", lambda s, z: [(1 / 32768, 0)])


@family("TANH int16", **I16)
def int16_tanh(b):
    unary(b, "TANH", "int16", lambda s, z: [(1 / 32768, 0)])


@family("SOFTMAX int16", **I16)
def int16_softmax(b):
    softmaxes(b, "int16", (1 / 32768, 0))


@family("AVERAGE_POOL_2D int16", **I16)
def int16_average_pool(b):
    pools(b, "AVERAGE_POOL_2D", "int16")


@family("MEAN int16", **I16)
def int16_mean(b):
    means(b, "int16")


@family("QUANTIZE float32 to int16, int16 to int16, int16 to int8, int8 to int16", **I16)
def int16_quantize(b):
    for i, s in enumerate([1.0, 0.5, 0.1, 0.0235]):
        x = b.input(f"f{i}", with_tail(near_ties(s, 60, 0), s))
        b.op("QUANTIZE", [x], [b.tensor(f"fy{i}", b.tensors[x].shape, "int16", s, 0)])
    d = np.unique(np.concatenate([np.arange(-32768, 32768, 193), np.arange(-80, 81), [32767]])).astype("int16").reshape(1, -1)
    for i, (s, z) in enumerate([*UNARY_IN[::2], (0.3, 3)]):
        x = b.input(f"h{i}", d, s, 0)
        y = b.input(f"q{i}", np.arange(-128, 128).astype("int8").reshape(1, -1), s, z)
        for j, r in enumerate((1, 4, 0.5, 0.73, 8, 3, 1.2)):
            so = NEAR_RATIO[s] if r == 1.2 and s in NEAR_RATIO else np.float32(s) * np.float32(r)
            b.op("QUANTIZE", [x], [b.tensor(f"hh{i}_{j}", d.shape, "int16", so, 0)])
            b.op("QUANTIZE", [x], [b.tensor(f"hq{i}_{j}", d.shape, "int8", so * 256, z)])
            b.op("QUANTIZE", [y], [b.tensor(f"qh{i}_{j}", (1, 256), "int16", so / 256, 0)])


@family("PAD, STRIDED_SLICE, RESHAPE, TRANSPOSE, CONCATENATION, RELU and RESIZE int16", **I16)
def int16_copies(b):
    x = b.input("x", codes(b, (1, 6, 8, 4), "int16"), 0.001, 0)
    t = lambda n, s: b.tensor(n, s, "int16", 0.001, 0)
    i32 = lambda n, v: b.const(n, np.int32(v))
    b.op("PAD", [x, i32("p", [(0, 0), (1, 2), (0, 1), (0, 0)])], [t("pad", (1, 9, 9, 4))])
    b.op("STRIDED_SLICE", [x, i32("bg", (0, 1, 2, 0)), i32("en", (1, 6, 8, 4)), i32("st", (1, 2, 3, 1))], [t("strided", (1, 3, 2, 4))])
    b.op("RESHAPE", [x, i32("rs", [1, 12, 16])], [t("reshape", (1, 12, 16))], newShape=[1, 12, 16])
    b.op("TRANSPOSE", [x, i32("perm", (0, 3, 1, 2))], [t("transpose", (1, 4, 6, 8))])
    b.op("CONCATENATION", [x, x], [t("concat", (1, 6, 8, 8))], axis=3)
    b.op("RELU", [x], [t("relu", (1, 6, 8, 4))])
    b.op("RELU", [x], [b.tensor("relu2", (1, 6, 8, 4), "int16", 0.00073, 0)])
    for n, ac, hp in (("n0", False, False), ("n1", True, False), ("n2", False, True)):
        b.op("RESIZE_NEAREST_NEIGHBOR", [x, i32("s" + n, (9, 13))], [t("nearest_" + n, (1, 9, 13, 4))], alignCorners=ac, halfPixelCenters=hp)
        b.op("RESIZE_BILINEAR", [x, i32("t" + n, (9, 13))], [t("bilinear_" + n, (1, 9, 13, 4))], alignCorners=ac, halfPixelCenters=hp)


def main():
    root, wanted = sys.argv[1], sys.argv[2:]
    for i, (name, (f, what, kw)) in enumerate(FAMILIES.items()):
        if wanted and name not in wanted:
            continue
        b = Builder(1000 + i)
        f(b)
        try:
            r = record(root, name, b.build(name), b.feeds, what, COMMAND, **kw)
        except RuntimeError as e:
            print(name, "FAILED", str(e)[-600:])
            continue
        modes = list(r)
        diff = {m: sum(int((r[m][0][k] != r["ref"][0][k]).sum()) for k in r[m][0]) for m in modes[1:]}
        total = sum(v.size for v in r["ref"][0].values())
        print(name, total, "differ from ref:", diff, "delegated", len(r["xnn"][1]["delegated"]), "of", len(r["xnn"][1]["ops"]))


if __name__ == "__main__":
    main()
