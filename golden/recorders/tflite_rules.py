"""Candidate integer rules for every operator, compared with the recordings of golden/tflite (teacher-forced:
each operator gets the recorded inputs of the same run). Prints the number of differing elements of each rule.

usage: python golden/recorders/tflite_rules.py golden/tflite [folder ...]
"""

import math
import os
import sys
import tomllib
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

SHOWN = 7  # refuted rules named in recording.toml
TOP = int(os.environ.get("TOP", 9))
F, D, I = np.float32, np.float64, np.int64
NAMES = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
DTYPES = {v: k for k, v in vars(schema.TensorType).items() if isinstance(v, int)}


# ---- primitives ----
def qm(m):
    """QuantizeMultiplier: arrays (Q31, shift). LiteRT:tflite/kernels/internal/quantization_util.cc"""
    m = np.atleast_1d(np.asarray(m, D))
    q, s = np.frexp(m)
    f = haz(q * 2.0 ** 31).astype(I)
    over = f == 2 ** 31
    f, s = np.where(over, f // 2, f), np.where(over, s + 1, s)
    tiny = s < -31
    return np.where(tiny, 0, f), np.where(tiny, 0, s).astype(I)


def haz(v):
    return np.sign(v) * np.floor(np.abs(v) + 0.5) if v.dtype == D else (np.trunc(v.astype(D)) + np.sign(v) * (np.abs(v.astype(D) - np.trunc(v.astype(D))) >= 0.5)).astype(v.dtype)


def hup(v):
    return np.floor(v.astype(D) + 0.5)


def hup_shift(x, r):
    r = np.asarray(r, I)
    return np.where(r > 0, (x + (I(1) << np.maximum(r - 1, 0))) >> r, x)


def haz_shift(x, e):
    e = np.asarray(e, I)
    m = (I(1) << e) - 1
    return (x >> e) + ((x & m) > (m >> 1) + (x < 0))


def rne_shift(x, e):
    e = np.asarray(e, I)
    m = (I(1) << e) - 1
    half = (I(1) << e) >> 1
    r, t = x & m, x >> e
    return t + ((r > half) | ((r == half) & (e > 0) & ((t & 1) == 1)))


def srdhm(a, b):
    """SaturatingRoundingDoublingHighMul, without the single saturating pair."""
    return (np.asarray(a, I) * np.asarray(b, I) + (1 << 30)) >> 31


def i32(x):
    return ((x + 2 ** 31) & 0xFFFFFFFF) - 2 ** 31


def mbqm(x, q, s):
    """MultiplyByQuantizedMultiplier, double rounding (HUP >> 31, HAZ >> r)."""
    return haz_shift(srdhm(i32(x << np.maximum(s, 0)), q), np.maximum(-s, 0))


def mbqm_up(x, q, s):
    return hup_shift(srdhm(i32(x << np.maximum(s, 0)), q), np.maximum(-s, 0))


def mbqm_single(x, q, s):
    return hup_shift(x * q, 31 - s)


def mbqm64(x, q, s):
    r = np.where(q < 0x7FFF0000, (q + (1 << 15)) >> 16, 0x7FFF)
    t = 15 - s
    return (x * r + (I(1) << (t - 1))) >> t


def requants(acc, m64, m32, zy, lo, hi, wide=False):
    """The usual candidates for an accumulator."""
    q, s = qm(m64)
    out = {"Q31 HUP,HAZ": mbqm(acc, q, s), "Q31 HUP,HUP": mbqm_up(acc, q, s), "Q31 HUP once": mbqm_single(acc, q, s),
           "Q31 HAZ once": haz_shift(acc * q, 31 - s) if not wide else mbqm_single(acc, q, s),
           "f64 HAZ": haz(acc.astype(D) * m64), "f64 RNE": np.rint(acc.astype(D) * m64), "f64 HUP": np.floor(acc.astype(D) * m64 + 0.5),
           "f32 RNE": np.rint(acc.astype(F) * m32), "f32 HAZ": haz(acc.astype(F) * m32), "f32 HUP": np.floor((acc.astype(F) * m32).astype(D) + 0.5),
           "f32(f64 M) RNE": np.rint(acc.astype(F) * np.asarray(m64, F)),
           "f32 RNE(v+z)": np.rint(acc.astype(F) * m32 + F(zy)) - zy, "f64 RNE(v+z)": np.rint(acc.astype(D) * m64 + zy) - zy}
    if wide:
        out = {"int64 Q15 HUP": mbqm64(acc, q, s), **{k: out[k] for k in ("Q31 HUP,HUP", "Q31 HUP,HAZ", "Q31 HUP once", "f64 HAZ", "f64 RNE", "f32 RNE")},
               "int64 Q15 HAZ": haz_shift(acc * np.where(q < 0x7FFF0000, (q + (1 << 15)) >> 16, 0x7FFF), 15 - s)}
    return {k: np.clip(v.astype(I) + zy, lo, hi) for k, v in out.items()}


# ---- the file ----
class T:
    def __init__(self, g, m, i):
        t = g.tensors[i]
        self.index, self.name, self.shape, self.dtype = i, t.name.decode(), [int(d) for d in (t.shape if t.shape is not None else [])], DTYPES[t.type].lower()
        q = t.quantization
        self.has_q = q is not None and q.scale is not None and len(q.scale) > 0
        self.scales = np.asarray(q.scale, F) if self.has_q else None
        self.zeros = np.asarray(q.zeroPoint, I) if self.has_q else None
        self.s, self.z = (F(self.scales[0]), int(self.zeros[0])) if self.has_q else (None, None)
        data = m.buffers[t.buffer].data
        self.data = None
        if data is not None and len(data):
            self.data = np.frombuffer(np.asarray(data, np.uint8).tobytes(), self.dtype).reshape(self.shape)

    @property
    def range(self):
        return {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}[self.dtype]


def act_range(y, act, rule="haz"):
    """Bounds of a fused activation. LiteRT rounds f/s half away and adds z; XNNPACK rounds f/s + z to even."""
    lo, hi = y.range

    def q(f):
        v = F(F(f) / y.s)
        return int(np.rint(F(v + F(y.z)))) if rule == "xnn" else int(y.z + haz(np.asarray(v, F)))
    a = {1: (0, None), 2: (-1, 1), 3: (0, 6)}.get(act, (None, None))
    return (max(lo, q(a[0])) if a[0] is not None else lo), (min(hi, q(a[1])) if a[1] is not None else hi)


def pad_amount(n, k, s, d, same):
    e = (k - 1) * d + 1
    if not same:
        return (n - e) // s + 1, 0, 0
    o = -(-n // s)
    p = max((o - 1) * s + e - n, 0)
    return o, p // 2, p - p // 2


def windows(x, kh, kw, sh, sw, dh, dw, same, fill):
    """Yields (ky, kx, slice of the padded input); x is NHWC int64."""
    oh, t, b = pad_amount(x.shape[1], kh, sh, dh, same)
    ow, l, r = pad_amount(x.shape[2], kw, sw, dw, same)
    p = np.pad(x, ((0, 0), (t, max(b, 0)), (l, max(r, 0)), (0, 0)), constant_values=fill)
    for i in range(kh):
        for j in range(kw):
            yield i, j, p[:, i * dh:i * dh + (oh - 1) * sh + 1:sh, j * dw:j * dw + (ow - 1) * sw + 1:sw]


def conv_scales(x, w, y, n):
    sw = w.scales if len(w.scales) == n else np.resize(w.scales, n)
    m64 = D(x.s) * sw.astype(D) / D(y.s)
    if w.dtype == "uint8":
        m64 = np.resize(D(F(x.s * w.s)) / D(y.s), n)
    m32 = (x.s * sw).astype(F) / y.s
    return m64, m32.astype(F)


def clamp_both(f, y, act):
    """Each candidate with LiteRT's and, where they differ, XNNPACK's activation bounds."""
    out = f(*act_range(y, act))
    if act_range(y, act) != act_range(y, act, "xnn"):
        out |= {k + " /xnn bounds": v for k, v in f(*act_range(y, act, "xnn")).items()}
    return out


def eights(out):
    """LiteRT:tflite/kernels/internal/optimized/optimized_ops.h Quantize: vectors of 8 channels, scalar code for the rest."""
    k = out["Q31 HUP,HUP"].shape[-1] // 8 * 8
    out["channels in 8s HUP,HUP, rest HUP,HAZ"] = np.concatenate([out["Q31 HUP,HUP"][..., :k], out["Q31 HUP,HAZ"][..., k:]], -1)
    return out


def r_conv(op, t, v, mode):
    x, w, y = t["in"][0], t["in"][1], t["out"][0]
    o = op.builtinOptions
    X, W = v[x.index].astype(I) - x.z, w.data.astype(I) - w.zeros[0]
    b = t["in"][2].data.astype(I) if len(t["in"]) > 2 and t["in"][2] is not None else 0
    depth = NAMES_OF(op) == "DEPTHWISE_CONV_2D"
    kh, kw = W.shape[1:3]
    acc = 0
    for i, j, s in windows(X, kh, kw, o.strideH, o.strideW, o.dilationHFactor, o.dilationWFactor, o.padding == 0, 0):
        acc = acc + (np.repeat(s, W.shape[3] // X.shape[3], 3) * W[0, i, j] if depth else s @ W[:, i, j].T)
    acc = acc + b
    m64, m32 = conv_scales(x, w, y, acc.shape[-1])

    def f(lo, hi):
        out = requants(acc, m64, m32, y.z, lo, hi, x.dtype == "int16")
        return eights(out) if depth else out
    return clamp_both(f, y, o.fusedActivationFunction)


def r_transpose_conv(op, t, v, mode):
    w, x, y = t["in"][1], t["in"][2], t["out"][0]
    o = op.builtinOptions
    X, W = v[x.index].astype(I) - x.z, w.data.astype(I) - w.zeros[0]
    oh, ow = y.shape[1:3]
    kh, kw = W.shape[1:3]
    n, h, wd, _ = X.shape
    same = o.padding == 0
    ph = max((h - 1) * o.strideH + kh - oh, 0) // 2 if same else 0
    pw = max((wd - 1) * o.strideW + kw - ow, 0) // 2 if same else 0
    full = np.zeros((n, (h - 1) * o.strideH + kh + oh, (wd - 1) * o.strideW + kw + ow, W.shape[0]), I)
    for i in range(kh):
        for j in range(kw):
            full[:, i:i + (h - 1) * o.strideH + 1:o.strideH, j:j + (wd - 1) * o.strideW + 1:o.strideW] += X @ W[:, i, j].T
    acc = full[:, ph:ph + oh, pw:pw + ow]
    if len(t["in"]) > 3 and t["in"][3] is not None:
        acc = acc + t["in"][3].data.astype(I)
    m64, m32 = conv_scales(x, w, y, acc.shape[-1])
    return clamp_both(lambda lo, hi: eights(requants(acc, m64, m32, y.z, lo, hi, x.dtype == "int16")), y, o.fusedActivationFunction)


def r_fc(op, t, v, mode):
    x, w, y = t["in"][0], t["in"][1], t["out"][0]
    o = op.builtinOptions
    X, W = v[x.index].astype(I) - x.z, w.data.astype(I) - w.zeros[0]
    acc = X.reshape(-1, W.shape[1]) @ W.T
    if len(t["in"]) > 2 and t["in"][2] is not None:
        acc = acc + t["in"][2].data.astype(I)
    n = W.shape[0]
    m64, m32 = conv_scales(x, w, y, n)
    sw = np.resize(w.scales, n)
    prod64 = D(x.s) * sw.astype(D) / D(y.s)
    prod32 = (x.s * sw).astype(F).astype(D) / D(y.s)
    shape = v[y.index].shape

    def f(lo, hi):
        out = {}
        for name, m in (("", prod64), (" [f32 product]", prod32)):
            out |= {k + name: a for k, a in requants(acc, m, m32, y.z, lo, hi, x.dtype == "int16").items()}
        fm = (F(1) * acc).astype(F)
        if x.dtype != "int16":
            tag = " [f32 product]" if len(w.scales) == 1 else ""
            out["Q31 HUP,HUP; M from the f32 product per tensor, from f64 per channel"] = out["Q31 HUP,HUP" + tag]
        else:
            no_bias = len(t["in"]) < 3 or t["in"][2] is None
            for k, tag in (("", ""), (" of f32 product", " [f32 product]"), (", M from the f32 product per tensor, from f64 per channel", " [f32 product]" if len(w.scales) == 1 else "")):
                out[f"no bias: Q31 HUP,HUP{k}, else f64 HAZ"] = out["Q31 HUP,HUP" + tag] if no_bias else out["f64 HAZ"]
        out["f32 sx*sw, /sy order: acc*(sx*(sw/sy)) RNE"] = np.clip(np.rint(fm * (x.s * (sw / y.s).astype(F)).astype(F)).astype(I) + y.z, lo, hi)
        return {k: a.reshape(shape) for k, a in out.items()}
    return clamp_both(f, y, o.fusedActivationFunction)


def r_add(op, t, v, mode):
    a, b, y = t["in"][0], t["in"][1], t["out"][0]
    sign = -1 if NAMES_OF(op) == "SUB" else 1
    A, B = v[a.index].astype(I) - a.z, v[b.index].astype(I) - b.z
    L = 15 if y.dtype == "int16" else 20
    mx = D(2) * max(D(a.s), D(b.s))
    qa, qb, qo = qm(D(a.s) / mx), qm(D(b.s) / mx), qm(mx / (D(2 ** L) * D(y.s)))
    o = op.builtinOptions

    def f(lo, hi):
        out = {}
        for name, r in (("Q31 HUP,HAZ", mbqm), ("Q31 HUP,HUP", mbqm_up), ("Q31 HUP once", mbqm_single)):
            s = r(A << L, *qa) + sign * r(B << L, *qb)
            out[f"L={L} {name}"] = r(s, *qo)
        s = mbqm(A << L, *qa) + sign * mbqm(B << L, *qb)
        out[f"L={L} inputs HUP,HAZ; sum HUP,HUP"] = mbqm_up(s, *qo)
        ra, rb = F(a.s / y.s), F(b.s / y.s)
        sh = 20 - int(np.frexp(max(ra, rb))[1] - 1)
        for name, round_ in (("RNE", np.rint), ("HAZ", haz)):
            ma, mb = (int(round_(np.asarray(D(r) * 2.0 ** sh))) for r in (ra, rb))
            p = A * ma + sign * B * mb
            for n2, g in (("HUP", hup_shift), ("HAZ", haz_shift), ("RNE", rne_shift)):
                out[f"xnn 21 bit {name} multipliers, {n2}"] = g(p, I(sh))
        e = (A * D(a.s) + sign * B * D(b.s)) / D(y.s)
        for n2, g in (("RNE", np.rint), ("HAZ", haz), ("HUP", hup)):
            out[f"f64 {n2}"] = g(e)
        e32 = (A.astype(F) * a.s + sign * (B.astype(F) * b.s)).astype(F)
        out["f32 dequantize, add, /sy, RNE"] = np.rint(e32 / y.s)
        out["f32 dequantize, add, *1/sy, RNE(v+z)"] = np.rint((e32 * F(1 / y.s)).astype(F) + F(y.z)) - y.z
        if y.dtype == "int16" and o.potScaleInt16:
            ea, eb, ey = (int(round(math.log2(k.s))) for k in (a, b, y))
            out = {"shift": haz_shift(A, I(ey - ea)) + haz_shift(B, I(ey - eb)), "shift HUP": hup_shift(A, I(ey - ea)) + hup_shift(B, I(ey - eb))} | out
        ref = out.get("shift", out[f"L={L} Q31 HUP,HAZ"])
        out["L=15 Q31 HUP,HAZ, or shifts if pot_scale_int16"] = ref
        if "shift" in out:
            out["vector blocks: shift folded in (int8, int16) or floored (uint8, scalars); tail as reference"] = ref
        elif sign > 0:
            # LiteRT:tflite/kernels/internal/optimized/integer_ops/add.h, optimized_ops.h AddElementwise, AddScalarBroadcast
            one = srdhm(A << (L + int(qa[1][0])), qa[0]) + srdhm(B << (L + int(qb[1][0])), qb[0])
            cut = (srdhm(A << L, qa[0]) >> -qa[1]) + (srdhm(B << L, qb[0]) >> -qb[1])
            kind, run = broadcast_run(a.shape, b.shape, y.shape)
            vec = mbqm(one if kind == "rows" and y.dtype != "uint8" else cut, *qo)
            size = 16 if kind == "rows" and y.dtype != "uint8" else 8
            if kind == "slow" or y.dtype == "int16" and run != ref.size:
                run = 0
            out["vector blocks: shift folded in (int8, int16) or floored (uint8, scalars); tail as reference"] = runs(run, size, np.broadcast_to(vec, ref.shape), ref)
            out["vector blocks: shift folded in everywhere"] = runs(run, size, np.broadcast_to(mbqm(one, *qo), ref.shape), ref)
            out["vector blocks: shift floored everywhere"] = runs(run, size, np.broadcast_to(mbqm(cut, *qo), ref.shape), ref)
        return {k: np.clip(w.astype(I) + y.z, lo, hi) for k, w in out.items()}
    return clamp_both(f, y, o.fusedActivationFunction)


def broadcast_run(a, b, y):
    """How LiteRT's five-fold broadcast calls its inner loop: ("rows" or "scalar" or "slow", length of a call)."""
    a, b = [1] * (len(y) - len(a)) + a, [1] * (len(y) - len(b)) + b
    if a == b:
        return "rows", int(np.prod(y))
    i, run = len(y), 1
    while i > 0 and a[i - 1] == b[i - 1]:
        i, run = i - 1, run * y[i - 1]
    first = a[i - 1] == 1
    j, k = i, 1
    while j > 0 and (a if first else b)[j - 1] == 1:
        j, k = j - 1, k * y[j - 1]
    l = j
    while l > 0 and a[l - 1] == b[l - 1]:
        l -= 1
    while l > 0 and (b if first else a)[l - 1] == 1:
        l -= 1
    while l > 0 and a[l - 1] == b[l - 1]:
        l -= 1
    if l > 0:
        return "slow", 0
    return ("rows", run) if run > 1 else ("scalar", k)


def runs(run, size, vec, tail):
    if not run:
        return tail
    k = run // size * size
    return np.concatenate([vec.reshape(-1, run)[:, :k], tail.reshape(-1, run)[:, k:]], 1).reshape(tail.shape)


def r_mul(op, t, v, mode):
    a, b, y = t["in"][0], t["in"][1], t["out"][0]
    A, B = v[a.index].astype(I) - a.z, v[b.index].astype(I) - b.z
    p = A * B
    m64, m32 = D(a.s) * D(b.s) / D(y.s), F(F(a.s * b.s) / y.s)
    mf = D(F(F(a.s * b.s) / y.s))

    def f(lo, hi):
        out = requants(p, m64, m32, y.z, lo, hi)
        q, s = qm(mf)
        out["Q31 of f32 M, HUP,HAZ"] = np.clip(mbqm(p, q, s) + y.z, lo, hi)
        out["Q31 of f32 M, HUP,HUP"] = np.clip(mbqm_up(p, q, s) + y.z, lo, hi)
        w = np.clip(mbqm(p, q, s), -32768, 32767) + y.z
        out["Q31 of f32 M, HUP,HAZ, saturated to int16, + zy wraps in int16"] = np.clip(((w + 32768) & 0xFFFF) - 32768, lo, hi)
        out["f32 (ra*sa)*(rb*sb)/sy RNE"] = np.clip(np.rint((A.astype(F) * a.s) * (B.astype(F) * b.s) / y.s).astype(I) + y.z, lo, hi)
        return out
    return clamp_both(f, y, op.builtinOptions.fusedActivationFunction)


def r_mean(op, t, v, mode):
    x, y = t["in"][0], t["out"][0]
    axes = tuple(int(i) % len(x.shape) for i in np.atleast_1d(t["in"][1].data))
    X = v[x.index].astype(I)
    n = int(np.prod([X.shape[i] for i in axes]))
    raw = X.sum(axes, keepdims=True)
    d = raw - n * x.z
    shape = v[y.index].shape
    lo, hi = y.range
    out = {}
    q, s = qm(D(x.s) / D(y.s))
    qf, sf = qm(D(F(x.s / y.s)))
    for nm, (Q, S) in (("QM(f64 sx/sy)", (q, s)), ("QM(f32 sx/sy)", (qf, sf))):
        k = min(n.bit_length() - 1, 32, 31 + int(S[0]))
        Q2, S2 = (Q << k) // n, S - k
        out[f"{nm}, (Q<<k)/n, HUP,HAZ"] = mbqm(d, Q2, S2)
        out[f"{nm}, (Q<<k)/n, HUP,HUP"] = mbqm_up(d, Q2, S2)
        out[f"{nm}, (Q<<k)/n, HUP once"] = mbqm_single(d, Q2, S2)
    for nm, m in (("f64 sx/(sy*n)", D(x.s) / (D(y.s) * n)), ("f32 sx/(sy*n)", D(F(x.s / F(y.s * F(n))))), ("f32 (sx/sy)/n", D(F(F(x.s / y.s) / F(n))))):
        Q, S = qm(m)
        out[f"QM({nm}), HUP,HAZ"], out[f"QM({nm}), HUP,HUP"] = mbqm(d, Q, S), mbqm_up(d, Q, S)
        out[f"QM({nm}), HUP once"] = mbqm_single(d, Q, S)
        out[f"{nm} f64 HAZ"], out[f"{nm} f64 RNE"] = haz(d * m), np.rint(d * m)
        out[f"{nm} f32 RNE"], out[f"{nm} f32 HAZ"] = np.rint(d.astype(F) * F(m)), haz(d.astype(F) * F(m))
        out[f"{nm} f32 RNE(v+z)"] = np.rint((d.astype(F) * F(m)).astype(F) + F(y.z)) - y.z
    out = {k: np.clip(w.astype(I) + y.z, lo, hi) for k, w in out.items()}
    # Optimized kernel for 4 axes, keep_dims and H, W: raw sum, zero point folded into an integer bias.
    # LiteRT:tflite/kernels/internal/optimized/integer_ops/mean.h
    fb = F(F(F(x.z) * x.s) / y.s)
    bias = y.z - int(np.trunc(F(fb + F(0.5)) if fb > 0 else F(fb - F(0.5))))
    Q, S = qm(D(F(x.s / F(F(n) * y.s))))
    up, away = mbqm_up(raw, Q, S) + bias, mbqm(raw, Q, S) + bias
    k = raw.shape[-1] // 16 * 16
    both = np.concatenate([up[..., :k], away[..., k:]], -1)
    sc = F(F(x.s / y.s) * F(F(1) / F(n)))
    zp = F(F(y.z) - F(F(n * x.z) * sc))
    out["xnn source: f32(sum)*sc + (zy - n*zx*sc), RNE"] = np.clip(np.rint(((raw.astype(F) * sc).astype(F) + zp).astype(F)).astype(I), lo, hi)
    out["xnn, sum - n*zx first, RNE(v+z)"] = np.clip(np.rint((d.astype(F) * sc).astype(F) + F(y.z)).astype(I), lo, hi)
    fast = len(x.shape) == 4 and sorted(axes) == [1, 2] and op.builtinOptions.keepDims and x.dtype != "int16"
    generic = out["QM(f64 sx/sy), (Q<<k)/n, HUP,HAZ"]
    out["optimized: raw sum, rounded bias, channels in 16s HUP,HUP, rest HUP,HAZ"] = np.clip(both, lo, hi) if fast else generic
    out["optimized, all HUP,HUP"] = np.clip(up, lo, hi) if fast else generic
    out["optimized, all HUP,HAZ"] = np.clip(away, lo, hi) if fast else generic
    return {k: w.reshape(shape) for k, w in out.items()}


def r_avgpool(op, t, v, mode):
    x, y = t["in"][0], t["out"][0]
    o = op.builtinOptions
    X = v[x.index].astype(I)
    sums = counts = 0
    for (_, _, a), (_, _, c) in zip(windows(X, o.filterHeight, o.filterWidth, o.strideH, o.strideW, 1, 1, o.padding == 0, 0),
                                    windows(np.ones_like(X), o.filterHeight, o.filterWidth, o.strideH, o.strideW, 1, 1, o.padding == 0, 0)):
        sums, counts = sums + a, counts + c

    def f(lo, hi):
        h, q = counts // 2, lambda a: np.sign(a) * (np.abs(a) // counts)
        d = sums - counts * x.z
        out = {"raw sum, half away": np.where(sums > 0, q(sums + h), q(sums - h)), "raw sum, half up": (2 * sums + counts) // (2 * counts),
               "raw sum, RNE": np.rint(sums / counts), "raw f32 *(1/n) HAZ": haz(sums.astype(F) * (F(1) / counts.astype(F))),
               "sum of q-z, half away, +z": np.where(d > 0, q(d + h), q(d - h)) + x.z, "sum of q-z, RNE, +z": np.rint(d / counts) + x.z}
        return {k: np.clip(w.astype(I), lo, hi) for k, w in out.items()}
    return clamp_both(f, y, o.fusedActivationFunction)


def r_maxpool(op, t, v, mode):
    x, y = t["in"][0], t["out"][0]
    o = op.builtinOptions
    m = None
    for _, _, a in windows(v[x.index].astype(I), o.filterHeight, o.filterWidth, o.strideH, o.strideW, 1, 1, o.padding == 0, -10 ** 6):
        m = a if m is None else np.maximum(m, a)
    return clamp_both(lambda lo, hi: {"max of codes": np.clip(m, lo, hi)}, y, o.fusedActivationFunction)


def r_leaky(op, t, v, mode):
    x, y = t["in"][0], t["out"][0]
    a = F(op.builtinOptions.alpha)
    d = v[x.index].astype(I) - x.z
    out = {}
    for name, mi, ma in (("f32 M", D(F(x.s / y.s)), D(F(F(x.s * a) / y.s))), ("f64 M", D(x.s) / D(y.s), D(x.s) * D(a) / D(y.s))):
        qi, qa = qm(mi), qm(abs(ma))
        sign = -1 if ma < 0 else 1
        for n2, r in (("HUP,HAZ", mbqm), ("HUP,HUP", mbqm_up), ("HUP once", mbqm_single)):
            out[f"{name} Q31 {n2}"] = np.where(d >= 0, r(d, *qi), sign * r(d, *qa))
        neg = qm(ma) if ma >= 0 else tuple(np.asarray(k) * f for k, f in zip(qm(-ma), (-1, 1)))
        out[f"{name} Q31 HUP,HAZ with the sign in the multiplier"] = np.where(d >= 0, mbqm(d, *qi), mbqm(d, *neg))
        e = np.where(d >= 0, d * mi, d * ma)
        out[f"{name} HAZ"], out[f"{name} RNE"] = haz(e), np.rint(e)
    for name, rnd in (("RNE", np.rint), ("HAZ", haz)):
        pm, nm = (int(rnd(np.asarray(F(256) * k, D))) for k in (F(x.s / y.s), F(F(x.s / y.s) * a)))
        p = np.where(d > 0, d * pm, d * nm)
        out[f"Q8 {name} multipliers, HUP"], out[f"Q8 {name} multipliers, HAZ"] = hup_shift(p, I(8)), haz_shift(p, I(8))
    return {k: np.clip(w.astype(I) + y.z, *y.range) for k, w in out.items()}


def f32exp(x):
    return np.exp(x.astype(D)).astype(F)


PLUS_ONE = [4, 8, 12, 14, 15, 16, 17, 19, 20, 21, 22, 25, 27, 28, 29, 30, 31, 33, 34, 35, 37, 39, 40, 41, 43, 44, 45, 46, 49, 50, 54, 62, 63, 64, 66, 82,
            86, 93, 100, 103, 112, 116, 135, 255]


def sigmoid_table():
    """round(65536 sigmoid(i / 24)), at most 65535, plus one at the listed places: these reproduce every recorded code.
    LiteRT:tflite/kernels/internal/common.h sigmoid_table_uint16"""
    t = np.minimum(65535, np.rint(65536 / (1 + np.exp(-np.arange(256) / 24)))).astype(I)
    t[PLUS_ONE] += 1
    return t


def sat16(v):
    return np.clip(v, -32768, 32767)


def srdhm16(a, b):
    return sat16((a * b + (1 << 14)) >> 15)


def fx_mul(a, b):
    """gemmlowp int16 fixed point product: SaturatingRoundingDoublingHighMul."""
    return srdhm16(a, b)


def logistic_q3(v, tanh):
    """gemmlowp logistic / tanh of Q3.12 int16 codes. gemmlowp:fixedpoint/fixedpoint.h"""
    def rescale(x, src, dst):  # ChangesIntegerBits with saturation or half-away shift
        e = src - dst
        return haz_shift(x, I(-e)) if e < 0 else sat16(x << e)
    half_sum = lambda a, b: np.trunc((a + b + np.sign(a + b)) / 2).astype(I)

    def exp_quarter(a):  # a in [-1/4, 0), Q0.15
        c = 28918  # round(2^15 exp(-1/8))
        third = 10923
        x = a + (1 << 12)
        x2 = fx_mul(x, x)
        x3 = fx_mul(x2, x)
        x4 = fx_mul(x2, x2)
        x4q = haz_shift(x4, I(2))
        s = haz_shift(fx_mul(x4q + x3, I(third)) + x2, I(1))
        return sat16(c + fx_mul(np.full_like(x, c), x + s))

    def exp_neg(a, bits):  # Q(bits).(15-bits), a <= 0
        frac = 15 - bits
        q = 1 << (frac - 2)
        m = (a & (q - 1)) - q
        res = exp_quarter(m << bits)
        rem = m - a
        for e, mult in ((-2, 1672461947), (-1, 1302514674), (0, 790015084), (1, 290630308), (2, 39332535), (3, 720401), (4, 242)):
            if bits > e:
                k = (mult + (1 << 15)) >> 16
                bit = 1 << (frac + e)
                res = np.where(rem & bit, fx_mul(res, np.full_like(res, k)), res)
        return np.where(a == 0, 32767, res)

    def recip(a, minus):  # 1/(1+x) or (1-x)/(1+x), x Q0.15
        hd = half_sum(a, np.full_like(a, 32767))
        c48, c32 = (1515870810 + (1 << 15)) >> 16, -((1010580540 + (1 << 15)) >> 16)
        x = c48 + fx_mul(hd, np.full_like(hd, c32))
        for _ in range(3):
            hx = fx_mul(hd, x)
            om = (1 << 13) - hx
            x = sat16(x + sat16(fx_mul(x, om) << 2))
        return sat16((x - (1 << 13)) << 2) if minus else sat16(x << 1)
    mag = -np.abs(v)
    if tanh:
        r = recip(exp_neg(mag, 3 + 1), True)
        r = np.where(v < 0, -r, r)
        return np.where(v == 0, 0, r)
    r = recip(exp_neg(mag, 3), False)
    r = np.where(v < 0, 32767 - r, r)
    return np.where(v == 0, 16384, r)


def r_lut(op, t, v, mode):
    x, y = t["in"][0], t["out"][0]
    X = v[x.index].astype(I)
    tanh = NAMES_OF(op) == "TANH"
    f64 = (lambda z: np.tanh(z)) if tanh else (lambda z: 1 / (1 + np.exp(-z)))
    out = {}
    if x.dtype == "int16":
        lg = math.log2(float(x.s))
        shift = 12 + int(round(lg))
        pot = lg == round(lg) and (shift in (0, 1) if tanh else shift == 0)
        mult, left = 0, shift
        if not pot:
            m, left = float(x.s) * 4096.0 * 3.0, 0
            while m <= 32767.0 / 2.0 and left <= 30:
                left, m = left + 1, m * 2.0
            mult = int(m)
        mult, left = (mult, left) if mult else (3 << left, 0)
        d = (X * mult + ((1 << (left - 1)) if left else 0)) >> left
        a, T256 = np.abs(d), sigmoid_table()
        if tanh:
            uh, ut = a >> 8, a & 255
            i = np.minimum(uh, 254)
            r = np.where(uh >= 255, 0xFFFF << 8, (T256[i] << 8) + ut * (T256[i + 1] - T256[i]))
            r = np.where(d >= 0, r - (1 << 23) + (1 << 7), -r + (1 << 23) + (1 << 7) - 1) >> 8
        else:
            uh, ut = a >> 9, a & 511
            i = np.minimum(uh, 254)
            r = np.where(uh >= 255, 0x7FFF << 10, (T256[i] << 9) + ut * (T256[i + 1] - T256[i]))
            r = np.where(d >= 0, r + (1 << 9), (1 << 25) - r + (1 << 9) - 1) >> 10
        out["table of 256, interpolation"] = r
        out["float, RNE"] = np.clip(np.rint(f64(X * D(x.s)) * 32768), -32768, 32767).astype(I)
        out["table; power of two scale: gemmlowp fixed point"] = logistic_q3(sat16(X << left) if False else (sat16(X << shift) if pot else X), tanh) if pot else r
        return out
    lo, hi = y.range
    z = (x.s * (X - x.z).astype(F)).astype(F)
    g = f64(z.astype(D)).astype(F) if tanh else (F(1) / (F(1) + f32exp(-z))).astype(F)
    gx = F(1) * g
    if not tanh:
        e = np.exp(z.astype(D))
        gx = np.where(z > 100, 1, np.where(z < -100, 0, e / (1 + e))).astype(F)
    out["xnn: f64 sigmoid, f32 *1/sy + z, RNE"] = np.rint(((gx * F(1 / y.s)).astype(F) + F(y.z)).astype(F)) - y.z
    for name, w in (("*1/sy", (g * F(1 / y.s)).astype(F)), ("/sy", (g / y.s).astype(F))):
        out[f"f32 {name} HAZ"], out[f"f32 {name} RNE"] = haz(w), np.rint(w)
        out[f"f32 {name} truncated"] = np.trunc(w)
        out[f"f32 {name} RNE(v+z)"] = np.rint((w + F(y.z)).astype(F)) - y.z
    out["f64 HAZ"] = haz(f64((X - x.z) * D(x.s)) / D(y.s))
    return {k: np.clip(w.astype(I) + y.z, lo, hi) for k, w in out.items()}


def q16(m):
    q, s = qm(m)
    q = np.where(q >= 0x7FFF8000, 0x7FFF, (q + (1 << 15)) >> 16)
    return int(q[0]), int(s[0])


def r_hard_swish(op, t, v, mode):
    x, y = t["in"][0], t["out"][0]
    X = v[x.index].astype(I) - x.z
    hi = F(F(1 / 128) * x.s)
    oq, oe = q16(F(hi / y.s))
    rq, re = q16(F(hi / F(3 / 32768)))

    def run(sr, last, shift):
        w = X * 128
        pre, r = sr(w, oq), w
        if re > 0:
            r = sat16(r << (re - 1))
        r = sr(r, rq)
        if re > 0:
            r = sat16(r << 1)
        if re < 0:
            r = haz_shift(r, I(-re))
        r = (r + (1 << 15)) >> 1
        return shift(last(r, pre), I(-oe)) + y.z
    dbl = lambda a, b: sat16(np.trunc(a * b / 32768).astype(I))
    out = {"int16 fixed point": run(srdhm16, dbl, haz_shift), "last product rounded": run(srdhm16, srdhm16, haz_shift),
           "last product floor": run(srdhm16, lambda a, b: (a * b) >> 15, haz_shift), "last shift HUP": run(srdhm16, dbl, hup_shift)}
    f = (X * D(x.s)) * np.clip(X * D(x.s) + 3, 0, 6) / 6 / D(y.s)
    out["float HAZ"], out["float RNE"] = haz(f) + y.z, np.rint(f) + y.z
    return {k: np.clip(w.astype(I), *y.range) for k, w in out.items()}


def exp_q26(a):
    """exp of a <= 0 in Q5.26, to Q0.31. gemmlowp:fixedpoint/fixedpoint.h exp_on_negative_values"""
    q = 1 << 24
    m = (a & (q - 1)) - q
    x = (m << 5) + (1 << 28)
    x2 = srdhm(x, x)
    x3, x4 = srdhm(x2, x), srdhm(x2, x2)
    s = haz_shift(srdhm(haz_shift(x4, I(2)) + x3, 715827883) + x2, I(1))
    r = 1895147668 + srdhm(1895147668, x + s)
    rem = m - a
    for e, k in ((24, 1672461947), (25, 1302514674), (26, 790015084), (27, 290630308), (28, 39332535), (29, 720401), (30, 242)):
        r = np.where(rem & (1 << e), srdhm(r, k), r)
    return np.where(a == 0, 2 ** 31 - 1, r)


def reciprocal(s):
    """GetReciprocal for Q12.19 sums: (Q0.31, bits over unit)."""
    h = np.array([32 - int(k).bit_length() for k in s.ravel()]).reshape(s.shape)
    y = (s << h) - (1 << 31)
    d = y + 2 ** 31 - 1
    d = (d + np.where(d >= 0, 1, -1)) / 2
    d = np.trunc(d).astype(I)
    sat = lambda k: np.clip(k, -2 ** 31, 2 ** 31 - 1)
    x = 1515870810 + srdhm(d, -1010580540)
    for _ in range(3):
        x = sat(x + sat(srdhm(x, (1 << 29) - srdhm(d, x)) << 2))
    return sat(x << 1), 12 - h


def lut16(lo, hi, f):
    """LUTPopulateInt16 in f64 with the output scale 2/65535 and zero point 0."""
    inv = 65536.0 / (2.0 / 65535 * 32767 - 2.0 / 65535 * -32768)
    step = (hi - lo) / 512
    i = np.arange(512)
    val, mid, nxt = f(lo + i * step), f(lo + i * step + step / 2), f(lo + (i + 1) * step)
    sample = haz(val * inv)
    err = haz((nxt * inv + haz(val * inv)) / 2) - haz(mid * inv)
    tab = np.clip(sample - haz(err / 2), -32768, 32767)
    return np.append(tab, np.clip(haz(np.array([f(hi) * inv])), -32768, 32767)).astype(I)


def lut16_at(x, tab):
    i = 256 + (x >> 7)
    return tab[i] + (((tab[i + 1] - tab[i]) * (x & 127) + 64) >> 7)


def r_softmax(op, t, v, mode):
    x, y = t["in"][0], t["out"][0]
    X = v[x.index].astype(I)
    beta = F(op.builtinOptions.beta)
    mx = X.max(-1, keepdims=True)
    diff = X - mx
    lo, hi = y.range
    out = {}
    if x.dtype == "int16":
        q, s = qm(D(F(x.s * beta)) / (10.0 / 65535.0))
        e_tab, r_tab = lut16(10.0 / 65535 * (-32768 - 32767), 10.0 / 65535 * 0, np.exp), lut16(0.0, 1.0 / 65535 * 65535, lambda k: 1 / (1 + k))
        for name, r in (("HUP,HAZ", mbqm), ("HUP once", mbqm_single)):
            e = lut16_at(np.clip(r(diff, q, s) + 32767, -32768, 32767), e_tab)
            sm = e.sum(-1, keepdims=True)
            h = np.array([32 - int(k).bit_length() for k in sm.ravel()]).reshape(sm.shape)
            sh = ((sm << (h - 1)) + (1 << 13)) >> 14
            rec = lut16_at(np.clip(sh - (3 << 15), -32768, 32767), r_tab)
            out[f"tables, difference {name}"] = np.clip((e * rec + (1 << (30 - h))) >> (31 - h), 0, 32767)
        p = np.exp(diff * D(x.s) * D(beta))
        out["f64 RNE"] = np.clip(np.rint(p / p.sum(-1, keepdims=True) * 32768), lo, hi).astype(I)
        return out
    return softmax_rules(X, x.s, beta, y.s, y.z, lo, hi)


def softmax_rules(X, sx, beta, sy, zy, lo, hi):
    diff = X - X.max(-1, keepdims=True)
    q, s = qm(min(D(beta) * D(sx) * 2.0 ** 26, 2.0 ** 31 - 1))
    dmin = -int(math.floor(31 * 2.0 ** 26 / 2.0 ** int(s[0])))
    live = diff >= dmin
    e = np.where(live, exp_q26(srdhm(np.where(live, diff, 0) << s, q)), 0)
    rec, over = reciprocal(haz_shift(e, I(12)).sum(-1, keepdims=True))
    out = {"gemmlowp fixed point": np.where(live, np.clip(haz_shift(srdhm(rec, e), over + 31 - 8) + lo, lo, hi), lo),
           "gemmlowp fixed point, last shift HUP": np.where(live, np.clip(hup_shift(srdhm(rec, e), over + 31 - 8) + lo, lo, hi), lo)}
    ex = f32exp((F(-F(sx * beta)) * np.arange(256).astype(F)).astype(F))[-diff]
    acc = np.zeros(X.shape[:-1], F)
    for j in range(X.shape[-1]):
        acc = (acc + ex[..., j]).astype(F)
    p = (ex * (F(1) / (acc * sy).astype(F))[..., None]).astype(F)
    out["f32 table, HAZ"], out["f32 table, RNE"], out["f32 table, truncated"] = (np.clip(k.astype(I) + zy, lo, hi) for k in (haz(p), np.rint(p), np.trunc(p)))
    p = (ex / acc[..., None]).astype(F) / sy
    out["f32 e/sum, HAZ"] = np.clip(haz(p.astype(F)).astype(I) + zy, lo, hi)
    p = np.exp(diff * D(sx) * D(beta))
    out["f64 HAZ"] = np.clip(haz(p / p.sum(-1, keepdims=True) / D(sy)).astype(I) + zy, lo, hi)
    return out


def blocks(n, size, vec, tail):
    """Vector kernels handle whole blocks of the n elements of a call, a scalar loop the rest."""
    return runs(n, size, vec, tail)


def r_quantize(op, t, v, mode):
    x, y = t["in"][0], t["out"][0]
    lo, hi = y.range
    X = v[x.index]
    out = {}
    if X.dtype == F:
        r, d = (X * F(1 / D(y.s))).astype(F), (X / y.s).astype(F)
        d64 = X.astype(D) / D(y.s)
        out = {"x/s HAZ": haz(d), "x/s RNE": np.rint(d), "x*(1/s) RNE": np.rint(r), "x*(1/s) HAZ": haz(r), "f64 x/s HAZ": haz(d64),
               "x/s RNE(v+z)": np.rint(d + F(y.z)) - y.z, "x*(1/s) RNE in blocks of 8, then f64 x/s HAZ": blocks(int(np.prod(x.shape)), 8, np.rint(r), haz(d64)),
               "x*(1/s) RNE in blocks of 8, then f32 x/s HAZ": blocks(int(np.prod(x.shape)), 8, np.rint(r), haz(d))}
        return {k: np.clip(np.clip(w, -2e9, 2e9).astype(I) + y.z, lo, hi) for k, w in out.items()}
    d = X.astype(I) - x.z
    for name, m in (("f64 M", D(x.s) / D(y.s)), ("f32 M", D(F(x.s / y.s)))):
        q, s = qm(m)
        out |= {f"{name} Q31 HUP,HAZ": mbqm(d, q, s), f"{name} Q31 HUP,HUP": mbqm_up(d, q, s), f"{name} Q31 HUP once": mbqm_single(d, q, s),
                f"{name} HAZ": haz(d * m), f"{name} RNE": np.rint(d * m)}
        out[f"{name} HUP,HUP in blocks of 16, then HUP,HAZ"] = blocks(int(np.prod(x.shape)), 16, mbqm_up(d, q, s), mbqm(d, q, s))
    for name, rnd in (("RNE", np.rint), ("HAZ", haz)):
        m = int(rnd(np.asarray(F(256) * F(x.s / y.s), D)))
        for n2, g in (("HUP", hup_shift), ("HAZ", haz_shift)):
            out[f"Q8 {name} multiplier, {n2}"] = g(d * m, I(8))
            same = x.dtype == y.dtype and F(1 / 256) <= F(x.s / y.s) <= 128
            if name == "RNE" and n2 == "HUP":
                out["delegated Q8 HUP, others as litert-x86"] = g(d * m, I(8)) if same else out["f64 M HUP,HUP in blocks of 16, then HUP,HAZ"]
    return {k: np.clip(w.astype(I) + y.z, lo, hi) for k, w in out.items()}


def r_dequantize(op, t, v, mode):
    x = t["in"][0]
    X = v[x.index].astype(I)
    a = (D(x.s) * (X - x.z)).astype(F)
    b = ((X.astype(F) * x.s).astype(F) + F(-x.z * D(x.s))).astype(F)
    fma = (X * D(x.s) + D(F(-x.z * D(x.s)))).astype(F)
    return {"s*(q-z)": a, "q*s + (-z*s) in f32": b, "fused multiply-add": fma, "q*s + (-z*s) in blocks of 8, then s*(q-z)": blocks(int(np.prod(x.shape)), 8, b, a)}


def r_relu(op, t, v, mode):
    x, y = t["in"][0], t["out"][0]
    d = v[x.index].astype(I) - x.z
    act = {"RELU": 1, "RELU_N1_TO_1": 2, "RELU6": 3}[NAMES_OF(op)]
    lo, hi = act_range(y, act)
    out = {}
    for name, m in (("f32 M", D(F(x.s / y.s))), ("f64 M", D(x.s) / D(y.s))):
        q, s = qm(m)
        out |= {f"{name} Q31 HUP,HAZ": mbqm(d, q, s), f"{name} Q31 HUP,HUP": mbqm_up(d, q, s), f"{name} Q31 HUP once": mbqm_single(d, q, s), f"{name} HAZ": haz(d * m), f"{name} RNE": np.rint(d * m)}
    return {k: np.clip(w.astype(I) + y.z, lo, hi) for k, w in out.items()}


def r_concat(op, t, v, mode):
    y = t["out"][0]
    o = op.builtinOptions
    kinds = {"copy": [], "f32 q*(sx*(1/sy)) + bias, HAZ": [], "f32 (q-z)*(sx/sy) HAZ": [], "f32 q*(sx*(1/sy)) + bias, RNE": [], "Q31 HUP,HAZ": [], "f64 HAZ": []}
    for x in t["in"]:
        X = v[x.index].astype(I)
        same = x.s == y.s and x.z == y.z
        sc = F(x.s * F(F(1) / y.s))
        w = ((X.astype(F) * sc).astype(F) + F(F(-x.z) * sc)).astype(F)
        d = X - x.z
        for k, a in {"copy": X - y.z, "f32 q*(sx*(1/sy)) + bias, HAZ": haz(w), "f32 (q-z)*(sx/sy) HAZ": haz(d.astype(F) * F(x.s / y.s)),
                     "f32 q*(sx*(1/sy)) + bias, RNE": np.rint(w), "Q31 HUP,HAZ": mbqm(d, *qm(D(x.s) / D(y.s))), "f64 HAZ": haz(d * (D(x.s) / D(y.s)))}.items():
            kinds[k].append(X if same else np.clip(a.astype(I) + y.z, *y.range))
    return {k: np.concatenate(a, o.axis) for k, a in kinds.items()}


def r_resize(op, t, v, mode):
    x, y = t["in"][0], t["out"][0]
    X = v[x.index].astype(I)
    o = op.builtinOptions
    H, W = X.shape[1:3]
    h, w = (int(k) for k in t["in"][1].data)
    if NAMES_OF(op) == "RESIZE_NEAREST_NEIGHBOR":
        def idx(n, m, haz_round=True):
            s = F((n - 1) / F(m - 1)) if o.alignCorners and m > 1 else F(n / F(m))
            p = ((np.arange(m).astype(F) + F(0.5 if o.halfPixelCenters else 0)) * s).astype(F)
            i = (haz(p) if haz_round else np.rint(p)) if o.alignCorners else np.floor(p)
            return np.clip(i.astype(I), 0 if o.halfPixelCenters else None, n - 1)
        return {"LiteRT index": X[:, idx(H, h)][:, :, idx(W, w)], "align_corners RNE": X[:, idx(H, h, False)][:, :, idx(W, w, False)]}
    out = {}

    def q10(n, m):
        s = ((1 << 10) * n + m // 2) // m
        if o.alignCorners and m > 1:
            s = ((1 << 10) * (n - 1) + (m - 1) // 2) // (m - 1)
        k = np.arange(m)
        p = k * s + s // 2 - (1 << 9) if o.halfPixelCenters else k * s
        lo = np.maximum(np.trunc(p / 1024).astype(I), 0)
        hi = np.minimum(np.trunc((p + 1023) / 1024).astype(I), n - 1)
        return lo, hi, p - 1024 * lo
    (y0, y1, fy), (x0, x1, fx) = q10(H, h), q10(W, w)
    fy, fx = fy[None, :, None, None], fx[None, None, :, None]
    g = lambda a, b: X[:, a][:, :, b]
    s = g(y0, x0) * (1024 - fy) * (1024 - fx) + g(y1, x0) * fy * (1024 - fx) + g(y0, x1) * (1024 - fy) * fx + g(y1, x1) * fy * fx
    out["Q10 weights, HAZ"] = np.trunc((s + np.where(s > 0, 1 << 19, -(1 << 19))) / (1 << 20)).astype(I)
    out["Q10 weights, HUP"] = (s + (1 << 19)) >> 20

    def q11(n, m):
        a = 1 if o.alignCorners and m != 1 else 0
        sc = F(F(n - a) / F(m - a))
        k = np.arange(m).astype(F)
        p = (k * sc).astype(F)
        if o.halfPixelCenters:
            p = np.maximum((p + F(F(0.5) * sc - F(0.5))).astype(F), F(0))
        p = np.minimum(p, F(n - 1))
        lo = p.astype(I)
        return lo, np.minimum(lo + 1, n - 1), np.rint((p - lo.astype(F)).astype(F) * F(2048)).astype(I)
    (y0, y1, fy), (x0, x1, fx) = q11(H, h), q11(W, w)
    fy, fx = fy[None, :, None, None], fx[None, None, :, None]
    top = (g(y0, x0) << 11) + fx * (g(y0, x1) - g(y0, x0))
    bot = (g(y1, x0) << 11) + fx * (g(y1, x1) - g(y1, x0))
    acc = (top << 11) + fy * (bot - top)
    if x.dtype == "uint8":
        def fl(n, m):
            s = F(F(n - 1) / F(m - 1)) if o.alignCorners and m > 1 else F(F(n) / F(m))
            k = np.arange(m).astype(F)
            p = ((k + F(0.5)).astype(F) * s - F(0.5)).astype(F) if o.halfPixelCenters else (k * s).astype(F)
            lo = np.maximum(np.floor(p).astype(I), 0)
            return lo, np.minimum(np.ceil(p).astype(I), n - 1), (p - lo.astype(F)).astype(F)
        (a0, a1, ay), (b0, b1, bx) = fl(H, h), fl(W, w)
        ay, bx = ay[None, :, None, None], bx[None, None, :, None]
        g32 = lambda i, j: g(i, j).astype(F)
        ry, rx = (F(1) - ay).astype(F), (F(1) - bx).astype(F)
        m3 = lambda q, k, l: ((q * k).astype(F) * l).astype(F)
        acc4 = m3(g32(a0, b0), ry, rx)
        for part in (m3(g32(a1, b0), ay, rx), m3(g32(a0, b1), ry, bx), m3(g32(a1, b1), ay, bx)):
            acc4 = (acc4 + part).astype(F)
        out["f32, code*wy*wx, + 0.5, truncated"] = np.trunc((acc4 + F(0.5)).astype(F)).astype(I)
        acc5 = (g32(a0, b0) * (ry * rx).astype(F)).astype(F)
        for part in ((g32(a0, b1) * (ry * bx).astype(F)), (g32(a1, b0) * (ay * rx).astype(F)), (g32(a1, b1) * (ay * bx).astype(F))):
            acc5 = (acc5 + part.astype(F)).astype(F)
        out["f32, code*(wy*wx), + 0.5, truncated"] = np.trunc((acc5 + F(0.5)).astype(F)).astype(I)
    out["Q11 weights, HUP"], out["Q11 weights, HAZ"] = hup_shift(acc, I(22)), haz_shift(acc, I(22))
    return out


def r_copy(op, t, v, mode):
    name = NAMES_OF(op)
    x = t["in"][1 if name == "SPLIT" else 0]
    X = v[x.index].astype(I)
    arg = lambda k: [int(i) for i in np.atleast_1d(t["in"][k].data)] if k < len(t["in"]) and t["in"][k] is not None and t["in"][k].data is not None else None
    y = t["out"][0]
    if name in ("PAD", "PADV2"):
        fill = x.z if name == "PAD" else int(t["in"][2].data[0])
        return {"padding = the zero point or the given code": np.pad(X, t["in"][1].data.tolist(), constant_values=fill), "padding = code 0": np.pad(X, t["in"][1].data.tolist())}
    if name == "MIRROR_PAD":
        return {"mirror": np.pad(X, t["in"][1].data.tolist(), mode=("reflect", "symmetric")[op.builtinOptions.mode]),
                "the other mirror": np.pad(X, t["in"][1].data.tolist(), mode=("symmetric", "reflect")[op.builtinOptions.mode])}
    if name == "TRANSPOSE":
        return {"copy": np.transpose(X, arg(1))}
    if name == "SPLIT":
        return {"copy": np.split(X, len(op.outputs), int(t["in"][0].data.reshape(-1)[0]))[0]}
    if name == "SLICE":
        return {"copy": X[tuple(slice(b, None if n == -1 else b + n) for b, n in zip(arg(1), arg(2)))]}
    if name == "STRIDED_SLICE":
        o = op.builtinOptions
        cut = []
        for k, (b, e, st) in enumerate(zip(arg(1), arg(2), arg(3))):
            cut.append(slice(None if o.beginMask >> k & 1 else b, None if o.endMask >> k & 1 else e, st))
        return {"copy": X[tuple(cut)]}
    return {"copy": X.reshape(v[y.index].shape)}


NAMES_OF = lambda op: NAMES[CODES[op.opcodeIndex]]
CODES = []
RULES = {"CONV_2D": r_conv, "DEPTHWISE_CONV_2D": r_conv, "TRANSPOSE_CONV": r_transpose_conv, "FULLY_CONNECTED": r_fc, "ADD": r_add, "SUB": r_add,
         "MUL": r_mul, "MEAN": r_mean, "AVERAGE_POOL_2D": r_avgpool, "MAX_POOL_2D": r_maxpool,
         "LEAKY_RELU": r_leaky, "LOGISTIC": r_lut, "TANH": r_lut, "HARD_SWISH": r_hard_swish, "SOFTMAX": r_softmax, "QUANTIZE": r_quantize,
         "DEQUANTIZE": r_dequantize, "RELU": r_relu, "RELU6": r_relu, "RELU_N1_TO_1": r_relu, "CONCATENATION": r_concat,
         "RESIZE_NEAREST_NEIGHBOR": r_resize, "RESIZE_BILINEAR": r_resize}
RULES |= dict.fromkeys(["PAD", "PADV2", "MIRROR_PAD", "TRANSPOSE", "SPLIT", "SLICE", "STRIDED_SLICE", "RESHAPE", "SQUEEZE", "EXPAND_DIMS"], r_copy)

# The rule of (reference, optimized, XNNPACK) by operator, then by data type where it differs.
B = " /xnn bounds"
DW8 = "channels in 8s HUP,HUP, rest HUP,HAZ"
VEC = "vector blocks: shift folded in (int8, int16) or floored (uint8, scalars); tail as reference"
OPTMEAN = "optimized: raw sum, rounded bias, channels in 16s HUP,HUP, rest HUP,HAZ"
GENMEAN = "QM(f64 sx/sy), (Q<<k)/n, HUP,HAZ"
WINNER = {
    "CONV_2D": ("Q31 HUP,HAZ", "Q31 HUP,HUP", "f32 RNE" + B), "TRANSPOSE_CONV": ("Q31 HUP,HAZ", DW8, "f32 RNE" + B),
    "DEPTHWISE_CONV_2D": ("Q31 HUP,HAZ", DW8, "f32 RNE" + B), "DEPTHWISE_CONV_2D uint8": ("Q31 HUP,HAZ",) * 3,
    "FULLY_CONNECTED": ("f64 HAZ", "Q31 HUP,HUP; M from the f32 product per tensor, from f64 per channel", "f32 RNE" + B),
    "ADD": ("L=20 Q31 HUP,HAZ", VEC, "xnn 21 bit RNE multipliers, HUP" + B), "SUB": ("L=20 Q31 HUP,HAZ", "L=20 Q31 HUP,HAZ", "xnn 21 bit RNE multipliers, HUP" + B),
    "MUL": ("Q31 of f32 M, HUP,HAZ", "Q31 of f32 M, HUP,HAZ", "f32 RNE" + B),
    "MUL uint8": ("Q31 of f32 M, HUP,HAZ", "Q31 of f32 M, HUP,HAZ, saturated to int16, + zy wraps in int16", "f32 RNE" + B),
    "MEAN": (GENMEAN, OPTMEAN, "xnn source: f32(sum)*sc + (zy - n*zx*sc), RNE"),
    "AVERAGE_POOL_2D": ("raw sum, half away",) * 3, "MAX_POOL_2D": ("max of codes",) * 3,
    "LEAKY_RELU": ("f32 M Q31 HUP,HAZ", "f32 M Q31 HUP,HAZ", "Q8 RNE multipliers, HUP"),
    "LOGISTIC": ("f32 *1/sy HAZ", "f32 *1/sy HAZ", "xnn: f64 sigmoid, f32 *1/sy + z, RNE"), "TANH": ("f32 *1/sy HAZ", "f32 *1/sy HAZ", "f32 *1/sy RNE(v+z)"),
    "HARD_SWISH": ("int16 fixed point",) * 3, "SOFTMAX": ("gemmlowp fixed point", "f32 table, HAZ", "f32 table, HAZ"),
    "QUANTIZE float32": ("x/s HAZ", "x*(1/s) RNE in blocks of 8, then f64 x/s HAZ", "x*(1/s) RNE"),
    "QUANTIZE float32->int16": ("x/s HAZ",) + ("x*(1/s) RNE in blocks of 8, then f64 x/s HAZ",) * 2,
    "QUANTIZE": ("f64 M Q31 HUP,HAZ", "f64 M HUP,HUP in blocks of 16, then HUP,HAZ", "delegated Q8 HUP, others as litert-x86"),
    "QUANTIZE int8->int16": ("f64 M Q31 HUP,HAZ",) * 3, "QUANTIZE int16": ("f64 M Q31 HUP,HAZ",) * 3, "QUANTIZE int16->int8": ("f64 M Q31 HUP,HAZ",) * 3,
    "DEQUANTIZE": ("s*(q-z)", "q*s + (-z*s) in blocks of 8, then s*(q-z)", "s*(q-z)"),
    "RELU": ("f32 M Q31 HUP,HAZ",) * 3, "RELU6": ("f32 M Q31 HUP,HAZ",) * 3, "RELU_N1_TO_1": ("f32 M Q31 HUP,HAZ",) * 3,
    "CONCATENATION": ("f32 q*(sx*(1/sy)) + bias, HAZ",) * 3, "RESIZE_NEAREST_NEIGHBOR": ("LiteRT index",) * 3,
    "RESIZE_BILINEAR": ("Q10 weights, HAZ", "Q10 weights, HAZ", "Q11 weights, HUP"), "RESIZE_BILINEAR int16": ("Q10 weights, HAZ",) * 3,
    "RESIZE_BILINEAR uint8": ("f32, code*wy*wx, + 0.5, truncated", "f32, code*(wy*wx), + 0.5, truncated", "Q11 weights, HUP"),
    "CONV_2D int16": ("int64 Q15 HUP",) * 3, "DEPTHWISE_CONV_2D int16": ("int64 Q15 HUP",) * 3, "TRANSPOSE_CONV int8->int16": ("int64 Q15 HUP",) * 3,
    "FULLY_CONNECTED int16": ("f64 HAZ",) + ("no bias: Q31 HUP,HUP, M from the f32 product per tensor, from f64 per channel, else f64 HAZ",) * 2,
    "ADD int16": ("L=15 Q31 HUP,HAZ, or shifts if pot_scale_int16", VEC, VEC), "SUB int16": ("L=15 Q31 HUP,HAZ",) * 3,
    "MUL int16": ("Q31 of f32 M, HUP,HAZ",) * 3, "MEAN int16": (GENMEAN,) * 3, "SOFTMAX int16": ("tables, difference HUP,HAZ",) * 3,
    "LEAKY_RELU int16": ("f32 M Q31 HUP,HAZ",) + ("f32 M Q31 HUP,HAZ with the sign in the multiplier",) * 2,
    "LOGISTIC int16": ("table of 256, interpolation",) + ("table; power of two scale: gemmlowp fixed point",) * 2,
    "TANH int16": ("table of 256, interpolation",) + ("table; power of two scale: gemmlowp fixed point",) * 2,
    "PAD": ("padding = the zero point or the given code",) * 3, "PADV2": ("padding = the zero point or the given code",) * 3, "MIRROR_PAD": ("mirror",) * 3,
}


def winners(key, meta, folder):
    """The rules that the recording must follow: one for each resolver mode it stands for."""
    modes = [i for i, k in enumerate(("BUILTIN_REF", "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "XNNPACK")) if k in meta["cpu_path"]]
    op, kind = key.split(" ")
    w = next((WINNER[k] for k in (key, f"{op} {kind.split('->')[0]}", op) if k in WINNER), ("copy",) * 3)
    return list(dict.fromkeys(w[i] for i in modes))


def check(folder, verbose=False, only=None):
    meta = tomllib.loads((folder / "recording.toml").read_text())
    m = schema.ModelT.InitFromPackedBuf((folder / meta.get("model", "model.tflite")).read_bytes(), 0)
    g = m.subgraphs[0]
    CODES[:] = [max(c.builtinCode, c.deprecatedBuiltinCode) for c in m.operatorCodes]
    ins, outs = np.load(folder / meta.get("inputs", "inputs.npz")), np.load(folder / "outputs.npz")
    tensors = [T(g, m, i) for i in range(len(g.tensors))]
    by_name = {tensors[i].name: i for i in g.inputs}
    values = {by_name[k]: ins[k] for k in ins.files if k in by_name} | {int(k.split(":")[0]): outs[k] for k in outs.files}
    for t in tensors:
        if t.data is not None:
            values[t.index] = t.data
    table, detail = {}, {}
    for oi, op in enumerate(g.operators):
        name = NAMES_OF(op)
        if only and name not in only or name not in RULES:
            continue
        t = {"in": [tensors[i] if i >= 0 else None for i in op.inputs], "out": [tensors[i] for i in op.outputs]}
        y = values[op.outputs[0]]
        src = next(k.dtype for k in t["in"] if k is not None and k.dtype not in ("int32", "int64"))
        key = f"{name} {src}" + (f"->{t['out'][0].dtype}" if t["out"][0].dtype != src else "")
        row = table.setdefault(key, {"N": 0, "rules": {}, "ops": 0, "seen": {}, "winners": winners(key, meta, folder)})
        row["N"] += y.size
        row["ops"] += 1
        res = RULES[name](op, t, values, folder.name.rsplit("-", 1)[-1])
        bad = {k: int((a != y).sum()) for k, a in res.items()}
        base = {k.replace(" /xnn bounds", "") for k in bad}
        for k in base:  # an operator without differing bounds counts for both
            row["seen"][k] = row["seen"].get(k, 0) + 1
            row["rules"].setdefault(k, 0)
            row["rules"].setdefault(k + " /xnn bounds", 0)
            row["rules"][k] += bad[k]
            row["rules"][k + " /xnn bounds"] += bad.get(k + " /xnn bounds", bad[k])
        detail[oi] = (name, bad, [tuple(k.shape) for k in t["in"] if k is not None])
    for row in table.values():  # a rule that exists for some of the operators only says nothing about the rest
        row["rules"] = {k: n for k, n in row["rules"].items() if row["seen"][k.replace(" /xnn bounds", "")] == row["ops"]}
    return table, detail


def summary(folder):
    """(tells_apart, undecided) for recording.toml."""
    apart, open_ = [], []
    for key, row in check(folder)[0].items():
        r, win = row["rules"], row["winners"]
        base = lambda k: k.replace(" /xnn bounds", "")
        wrong = [k for k in win if r[k]]
        assert not wrong, (folder.name, key, {k: r[k] for k in wrong})
        r = {k: n for k, n in r.items() if k in win or not k.endswith(" /xnn bounds") or n != r[base(k)]}
        if all(k in r and r[k] == r.get(base(k)) for k in win):
            win = [base(k) for k in win]
        bad = sorted((n, k) for k, n in r.items() if n)
        text = lambda k: k.replace(" /xnn bounds", ", activation bounds of XNNPACK")
        apart.append(f"{key}, {row['N']} elements: 0 differ for {' = '.join(text(k) for k in win)}" + "".join(f"; {n} {text(k)}" for n, k in bad[:SHOWN]))
        same = [text(k) for k, n in sorted(r.items()) if not n and k not in win and base(k) not in win]
        if same:
            open_.append(f"{key}: " + ", ".join(same))
    return ". ".join(apart) or "pure copies: every element", ". ".join(open_)


def main():
    root = Path(sys.argv[1])
    for folder in [root / f for f in sys.argv[2:]] or sorted(f for f in root.iterdir() if f.is_dir()):
        try:
            table, _ = check(folder)
        except Exception as e:
            print(folder.name, "ERROR", repr(e)[:300])
            if len(sys.argv) > 2:
                raise
            continue
        for key, row in table.items():
            r = row["rules"]
            state = "EXACT" if not any(r[k] for k in row["winners"]) else "FAILS"
            r = {k: n for k, n in r.items() if not k.endswith("/xnn bounds") or n != r[k.replace(" /xnn bounds", "")]}
            print(f"{state} {folder.name}: {key} N={row['N']}: [{' = '.join(row['winners'])}] " + ", ".join(f"{k} {n}" for k, n in sorted(r.items(), key=lambda kv: kv[1])[:TOP]))


if __name__ == "__main__":
    main()
