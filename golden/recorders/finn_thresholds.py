"""Activation quantizers as FINN turns them into thresholds, executed by qonnx 1.0.0's MultiThreshold.

    pip install -r golden/recorders/requirements-qonnx.txt
    python golden/recorders/finn_thresholds.py golden/finn

FINN is not on PyPI. This script computes the thresholds as FINN 39f0c9a6 does (Xilinx/finn:
src/finn/transformation/qonnx/qonnx_activation_handlers.py, QuantReluHandler and QuantIdentityHandler), every step in
float32, builds the graph that FINN builds (MultiThreshold, Add, Mul), and lets qonnx execute it.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hls4ml_recording import provenance
from recording import execute

GENERAL = "qonnx.custom_op.general"
F = np.float32
SHAPE = (1, 4, 16, 16)
CHANNELS = {"po2": [0.25, 0.5, 1.0, 0.125], "any": [0.1, 0.3, 0.0517, 1.7]}

# name: (what stands in front, bits, scale, narrow, rounding mode)
BRANCHES = {}
for bits in [2, 3, 4, 8]:
    BRANCHES[f"relu{bits}"] = ("Relu", bits, 0.25, 0, "ROUND")
    BRANCHES[f"signed{bits}"] = (None, bits, 0.25, 0, "ROUND")
    BRANCHES[f"narrow{bits}"] = (None, bits, 0.25, 1, "ROUND")
for kind in CHANNELS:
    BRANCHES[f"relu4_channels_{kind}"] = ("Relu", 4, CHANNELS[kind], 0, "ROUND")
    BRANCHES[f"signed4_channels_{kind}"] = (None, 4, CHANNELS[kind], 0, "ROUND")
    BRANCHES[f"narrow6_channels_{kind}"] = (None, 6, CHANNELS[kind], 1, "ROUND")
BRANCHES |= {
    "relu8_any": ("Relu", 8, 0.0371, 0, "ROUND"),
    "signed8_any": (None, 8, 0.0371, 0, "ROUND"),
    "signed1_narrow0": (None, 1, 1.0, 0, "ROUND"),
    "relu1": ("Relu", 1, 0.5, 0, "ROUND"),
    "relu4_floor": ("Relu", 4, 0.25, 0, "FLOOR"),  # FINN never reads the rounding mode
    "signed4_ceil": (None, 4, 0.25, 0, "CEIL"),
    "bipolar": ("bipolar", 1, 1.0, 0, None),
}


def thresholds(front, bits, scale, narrow, t=F):
    """(T, added number, scale); T has a row a scale channel. `t`: the number type of every step (FINN: float32)."""
    s = np.atleast_1d(np.asarray(scale, F)).ravel().astype(t)
    if front == "bipolar" or front is None and bits == 1:
        return np.zeros((1, 1), F), F(-0.5), np.array(2 * F(scale), F)
    if front == "Relu":
        n, first, bias = 2**bits - 1, s / t(2), F(0)
    else:
        n = 2**bits - 1 - narrow
        first = -(s / t(2)) - s * t(n // 2 - 1)
        if not narrow:
            first = first - s
        bias = F(-(2 ** (bits - 1)) + narrow)
    rows = [[first[c] + s[c] * t(k) for k in range(n)] for c in range(len(s))]
    return np.array(rows, F), bias, np.asarray(scale, F)


def scale_of(scale):
    return np.array(scale, F) if np.ndim(scale) == 0 else np.array(scale, F).reshape(1, -1, 1, 1)


def quant_model():
    nodes, inits = [], {}
    for name, (front, bits, scale, narrow, mode) in BRANCHES.items():
        x = f"{name}_x"
        inits[f"{name}_scale"] = scale_of(scale)
        if front == "bipolar":
            nodes.append(helper.make_node("BipolarQuant", [x, f"{name}_scale"], [name], name=f"{name}_quant", domain=GENERAL))
            continue
        if front:
            nodes.append(helper.make_node(front, [x], [f"{name}_relu"], name=f"{name}_relu"))
            x = f"{name}_relu"
        inits |= {f"{name}_zero": F(0), f"{name}_bits": F(bits)}
        nodes.append(helper.make_node(
            "Quant", [x, f"{name}_scale", f"{name}_zero", f"{name}_bits"], [name], name=f"{name}_quant", domain=GENERAL,
            signed=int(front is None), narrow=narrow, rounding_mode=mode))
    return model(nodes, inits)


def finn_model():
    nodes, inits, table = [], {}, {}
    for name, (front, bits, scale, narrow, _) in BRANCHES.items():
        t, bias, mul = thresholds(front, bits, scale, narrow)
        t = np.broadcast_to(t, (SHAPE[1], t.shape[1])) if t.shape[1] > 1 or front == "Relu" else t
        table |= {name: t, f"{name}:add": np.asarray(bias, F), f"{name}:mul": mul}
        inits[f"{name}_T"] = t
        attrs = dict(out_dtype="FLOAT32", name=f"{name}_mt", domain=GENERAL)
        if front == "bipolar":
            # scale and bias as attributes; the bias already scaled
            nodes.append(helper.make_node("MultiThreshold", [f"{name}_x", f"{name}_T"], [name], out_scale=float(mul),
                                          out_bias=float(bias * mul), **attrs))
            continue
        nodes.append(helper.make_node("MultiThreshold", [f"{name}_x", f"{name}_T"], [f"{name}_count"], **attrs))
        y = f"{name}_count"
        if bias != 0:
            inits[f"{name}_add"] = np.asarray(bias, F)
            nodes.append(helper.make_node("Add", [y, f"{name}_add"], [f"{name}_int"], name=f"{name}_plus"))
            y = f"{name}_int"
        inits[f"{name}_mul"] = mul if mul.ndim == 0 else mul.reshape(1, -1, 1, 1)
        nodes.append(helper.make_node("Mul", [y, f"{name}_mul"], [name], name=f"{name}_times"))
    return model(nodes, inits), table


def model(nodes, inits):
    info = lambda n: helper.make_tensor_value_info(n, TensorProto.FLOAT, SHAPE)
    graph = helper.make_graph(nodes, "thresholds", [info(f"{n}_x") for n in BRANCHES], [info(n) for n in BRANCHES],
                              [numpy_helper.from_array(np.asarray(v, F), k) for k, v in inits.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(GENERAL, 1)], ir_version=8)


def inputs():
    """Every channel: ties k + 1/2 of the scale, the thresholds and their float32 neighbours, and numbers between."""
    rng, out = np.random.default_rng(26), {}
    for name, (front, bits, scale, narrow, _) in BRANCHES.items():
        t = thresholds(front, bits, scale, narrow)[0]
        scales = np.broadcast_to(np.atleast_1d(np.asarray(scale, F)), SHAPE[1])
        rows = []
        for c, s in enumerate(scales):
            lo, hi = (-2, 2**bits + 1) if front == "Relu" else (-(2 ** (bits - 1)) - 2, 2 ** (bits - 1) + 1)
            tie = ((np.arange(lo, hi) + F(0.5)).astype(F) * s).astype(F)
            edge = t[c % len(t)]
            pool = np.concatenate([tie, edge, np.nextafter(edge, F(np.inf)), np.nextafter(edge, F(-np.inf)), [0.0, -0.0]])
            pool = pool if len(pool) < 200 else rng.permutation(pool)[:200]
            rest = rng.uniform(lo * s, hi * s, np.prod(SHAPE[2:]) - len(pool))
            rows.append(rng.permutation(np.concatenate([pool, rest])).astype(F).reshape(SHAPE[2:]))
        out[f"{name}_x"] = np.stack(rows)[None]
    return out


def neighbours(x, want, quant):
    """Differing elements, by rule and branch."""
    rules = {"Quant as QONNX computes it": {}, "floor(x/s + 1/2), clamped": {}, "thresholds in float64": {},
             "threshold s*(k+1/2)": {}, "x > T": {}}
    for name, (front, bits, scale, narrow, _) in BRANCHES.items():
        v, s = x[f"{name}_x"], scale_of(scale)
        rules["Quant as QONNX computes it"][name] = int((quant[name] != want[name]).sum())
        if front == "bipolar" or bits == 1 and front is None:
            rules["x > T"][name] = int((np.where(v > 0, F(1), F(-1)) * F(scale) != want[name]).sum())
            continue
        lo = 0 if front == "Relu" else -(2 ** (bits - 1)) + narrow
        hi = 2**bits - 1 if front == "Relu" else 2 ** (bits - 1) - 1
        up = np.clip(np.floor((v / s).astype(F) + F(0.5)), lo, hi).astype(F) * s
        rules["floor(x/s + 1/2), clamped"][name] = int((up != want[name]).sum())
        count = lambda t, cmp: ((cmp(v[..., None], t.reshape(1, -1, 1, 1, t.shape[1]))).sum(-1).astype(F) + F(lo)) * s
        wide = thresholds(front, bits, scale, narrow, np.float64)[0]
        rules["thresholds in float64"][name] = int((count(wide, np.greater_equal) != want[name]).sum())
        k = np.arange(lo, hi).astype(F) + F(0.5)
        once = np.atleast_1d(np.asarray(scale, F)).reshape(-1, 1) * k
        rules["threshold s*(k+1/2)"][name] = int((count(once, np.greater_equal) != want[name]).sum())
        rules["x > T"][name] = int((count(thresholds(front, bits, scale, narrow)[0], np.greater) != want[name]).sum())
    return rules


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    original = quant_model()
    converted, table = finn_model()
    x = inputs()
    quant = execute(original, x)
    full = execute(converted, x)
    want = {n: full[n] for n in BRANCHES}
    onnx.save(original, folder / "model.onnx")
    np.savez_compressed(folder / "inputs.npz", **x)
    np.savez_compressed(folder / "outputs.npz", **want)
    np.savez_compressed(folder / "thresholds.npz", **table)
    total = sum(v.size for v in want.values())
    rules = neighbours(x, want, quant)
    for rule, by in rules.items():
        print(rule, sum(by.values()), "of", total, {k: v for k, v in by.items() if v})
    provenance(folder, ["qonnx", "onnx", "onnxruntime", "numpy"], dict(
        cpu_path="MultiThreshold in numpy (qonnx custom_op/general/multithreshold.py), Add and Mul in onnxruntime float32",
        command="python golden/recorders/finn_thresholds.py golden/finn",
        license_of_the_tool="qonnx: Apache-2.0; FINN: BSD-3-Clause",
        what="activation Quants behind ReLU and alone, 1 to 8 bits, narrow, per channel: FINN's conversion formula applied by "
             "the recorder (Xilinx/finn 39f0c9a6 qonnx_activation_handlers.py), executed by qonnx's MultiThreshold",
        made_by_FINN=VERIFIED,
        targets=["finn"],
        tells_apart=f"differing elements of {total}: " + ", ".join(f"{r} {sum(b.values())}" for r, b in rules.items()),
        undecided="Selu; what streamlining does to the thresholds is the other recording",
    ))


# ---------------------------------------------------------------- integer thresholds behind a matrix product

LAYERS, IN, OUT, ROWS = 12, 8, 4, 48


def layer_scales():
    """Input, weight, and output scale of each layer; the output scale is an even multiple of the product of the others,
    as float32 rounds it, so that the thresholds lie on integers but for float32's error."""
    rng, out = np.random.default_rng(28), [(F(0.25), F(0.125), F(0.25)), (F(0.3), F(0.1), F(0.37))]
    while len(out) < LAYERS:
        a, b = F(rng.uniform(0.01, 1)), F(rng.uniform(0.01, 1))
        out.append((a, b, F(F(a * b) * F(rng.choice([2, 6, 10])))))
    return out


def streamlined(folder):
    """Quant, MatMul, Relu, Quant as FINN's Streamline leaves them: the scales of input and weights are divided out of the
    thresholds, T / float32(sx * sw) in float32, and what is left is rounded up (Xilinx/finn 39f0c9a6:
    src/finn/transformation/streamline/absorb.py, collapse_repeated.py, round_thresholds.py)."""
    rng = np.random.default_rng(29)
    nodes, inits, after, consts, table, x = [], {}, [], {}, {}, {}
    info = lambda n, c: helper.make_tensor_value_info(n, TensorProto.FLOAT, (ROWS, c))
    ints = {}
    for i, (sx, sw, so) in enumerate(layer_scales()):
        codes = rng.integers(-7, 8, (IN, OUT))
        ints[i] = codes
        inits |= {f"w{i}": (codes * sw).astype(F), f"sx{i}": sx, f"sw{i}": sw, f"so{i}": so}
        q = lambda a, o, s, **k: helper.make_node("Quant", [a, f"{s}{i}", "zero", "bits"], [f"{o}{i}"], name=f"{o}{i}",
                                                  domain=GENERAL, rounding_mode="ROUND", **k)
        nodes += [q(f"x{i}", "xq", "sx", signed=1, narrow=0), q(f"w{i}", "wq", "sw", signed=1, narrow=1),
                  helper.make_node("MatMul", [f"xq{i}", f"wq{i}"], [f"m{i}"], name=f"m{i}"),
                  helper.make_node("Relu", [f"m{i}"], [f"r{i}"], name=f"r{i}"), q(f"r{i}", "y", "so", signed=0, narrow=0)]
        tx = thresholds(None, 4, sx, 0)[0]
        t = np.ceil(thresholds("Relu", 4, so, 0)[0] / F(sx * sw))
        table |= {f"xq{i}": tx, f"y{i}": t}
        consts |= {f"tx{i}": tx, f"t{i}": t, f"wi{i}": codes, f"so{i}": so, f"sx{i}": sx}
        mt = lambda a, b, o, **k: helper.make_node("MultiThreshold", [a, b], [o], name=o, domain=GENERAL, out_dtype="FLOAT32", **k)
        after += [mt(f"x{i}", f"tx{i}", f"xi{i}", out_bias=-8.0),
                  helper.make_node("Mul", [f"xi{i}", f"sx{i}"], [f"xq{i}"], name=f"xm{i}"),
                  helper.make_node("MatMul", [f"xi{i}", f"wi{i}"], [f"acc{i}"], name=f"acc{i}"),
                  mt(f"acc{i}", f"t{i}", f"c{i}"), helper.make_node("Mul", [f"c{i}", f"so{i}"], [f"y{i}"], name=f"ym{i}")]
        tie = ((rng.integers(-9, 9, (ROWS, IN)) + F(0.5)).astype(F) * sx).astype(F)
        x[f"x{i}"] = np.where(rng.random((ROWS, IN)) < 0.3, tie, rng.uniform(-9, 9, (ROWS, IN)) * sx).astype(F)
    inits |= {"zero": F(0), "bits": F(4)}

    def graph(nodes, inits, outs):
        g = helper.make_graph(nodes, "layers", [info(f"x{i}", IN) for i in range(LAYERS)], [info(o, OUT) for o in outs],
                              [numpy_helper.from_array(np.asarray(v, F), k) for k, v in inits.items()])
        return helper.make_model(g, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(GENERAL, 1)], ir_version=8)

    outs = [f"y{i}" for i in range(LAYERS)]
    original = graph(nodes, inits, outs)
    quant = execute(original, x)
    full = execute(graph(after, consts, outs), x)
    want = {k: full[k] for i in range(LAYERS) for k in (f"xq{i}", f"y{i}")}
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(original, folder / "model.onnx")
    np.savez_compressed(folder / "inputs.npz", **x)
    np.savez_compressed(folder / "outputs.npz", **want)
    np.savez_compressed(folder / "thresholds.npz", **table, **{f"y{i}:acc": full[f"acc{i}"].astype(np.int32) for i in range(LAYERS)})
    rules = {k: 0 for k in ["QONNX's own Quants", "T not rounded up, on float sums sx*sw*acc", "T/sx/sw", "T/sw/sx", "T*(1/(sx*sw))",
                            "T/(sx*sw) in float64", "T rounded to nearest"]}
    for i, (sx, sw, so) in enumerate(layer_scales()):
        t, acc, a = thresholds("Relu", 4, so, 0)[0][0], full[f"acc{i}"], F(sx * sw)
        count = lambda v, edges: ((v[..., None] >= edges).sum(-1).astype(F) * so != want[f"y{i}"]).sum()
        rules["QONNX's own Quants"] += int((quant[f"y{i}"] != want[f"y{i}"]).sum())
        for name, edges in [("T/sx/sw", np.ceil(t / sx / sw)), ("T/sw/sx", np.ceil(t / sw / sx)),
                            ("T*(1/(sx*sw))", np.ceil(t * (F(1) / a))), ("T rounded to nearest", np.rint(t / a)),
                            ("T/(sx*sw) in float64", np.ceil(t.astype(float) / (float(sx) * float(sw))))]:
            rules[name] += int(count(acc, edges))
        rules["T not rounded up, on float sums sx*sw*acc"] += int(count(acc * a, t))
    total = LAYERS * ROWS * OUT
    print(rules, total)
    provenance(folder, ["qonnx", "onnx", "onnxruntime", "numpy"], dict(
        cpu_path="MultiThreshold in numpy, MatMul of integers in onnxruntime float32 (exact)",
        command="python golden/recorders/finn_thresholds.py golden/finn",
        license_of_the_tool="qonnx: Apache-2.0; FINN: BSD-3-Clause",
        what="Quant, MatMul, Relu, Quant after FINN's streamlining: integer sums against integer thresholds; FINN's formula "
             "applied by the recorder, executed by qonnx",
        made_by_FINN=STREAMLINED,
        targets=["finn"],
        tells_apart=f"differing elements of {total} in y: " + ", ".join(f"{k} {v}" for k, v in rules.items()),
        undecided="scales per channel, biases, BatchNormalization folded in; clipping of thresholds to the range of the sums",
    ))


# Done by hand, with FINN's Python files beside qonnx 1.0.0; they are no part of this repository.
VERIFIED = ("not recorded from FINN; but FINN 39f0c9a6's own ConvertQuantActToMultiThreshold, run by hand on model.onnx with "
            "qonnx 1.0.0, gave the same 25 threshold tensors bit for bit, and its graph the same 25600 outputs")
STREAMLINED = ("not recorded from FINN; but FINN 39f0c9a6's own ConvertQONNXtoFINN and Streamline, run by hand on model.onnx with "
               "qonnx 1.0.0 (two shims: opset argument of execute_node, numpy floats as attributes), gave the same integer "
               "thresholds and the same 2304 outputs")

if __name__ == "__main__":
    main(Path(sys.argv[1]) / "thresholds")
    streamlined(Path(sys.argv[1]) / "streamlined")
