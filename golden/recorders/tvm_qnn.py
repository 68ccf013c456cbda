"""Recordings of TVM's Relay QNN operators, compiled by TVM for the host's CPU.

    python3.8 -m venv venv && venv/bin/pip install --no-deps -r golden/recorders/requirements-tvm.txt
    venv/bin/python golden/recorders/tvm_qnn.py golden/tvm

hhb-tvm 2.4.5 is a fork of TVM 0.9.dev0 with Relay QNN; the packages of apache-tvm that PyPI has today are without it.
Four modes: the target string decides the arithmetic (plain `llvm`: int64; a CPU with SSE4.1 named: float32), and
`requantize_config` the rounding. Needs a CPU with AVX2 to run the second target's code.
"""

import datetime
import hashlib
import io
import json
import math
import platform
import sys
import zipfile
from pathlib import Path

import numpy as np
import tvm
from tvm import relay
from tvm.contrib import graph_executor
from tvm.relay import qnn

MODES = {f"{kind}-{rounding.lower()}": (target, kind, rounding) for kind, target in
         (("int64", "llvm"), ("float32", "llvm -mcpu=core-avx2")) for rounding in ("UPWARD", "TONEAREST")}
LIMITS = {"int8": (-128, 127), "uint8": (0, 255), "int32": (-2**31, 2**31 - 1)}
F = np.float32


# ---------------------------------------------------------------- rules

def qm(real):
    mantissa, s = math.frexp(real)
    q = math.floor(mantissa * 2**31 + 0.5)
    return (q // 2, s + 1) if q == 2**31 else (q, s)


def shifted(x, s, ties):
    x = np.asarray(x, np.int64)
    down, rest, half = x >> s, x & ((1 << s) - 1), (1 << s) >> 1
    tie = {"half-up": True, "half-even": down & 1 == 1, "half-away": x >= 0, "floor": False}[ties]
    return down if ties == "floor" else down + ((s > 0) & ((rest > half) | ((rest == half) & tie)))


def int64_rule(ties, second=None):
    """x * Q >> t with one rounding (or a Q31 product and a shift, each rounded), then the zero point."""
    def rule(x, si, so, zy, zx=0):
        x = x - zx
        if si == so:
            return x + zy
        q, s = qm(float(si) / float(so))
        if second:
            return shifted(shifted((x << max(s, 0)) * q, 31, ties), max(-s, 0), second) + zy
        return shifted(x * q, 31 - s, ties) + zy
    return rule


def float_rule(ties, inside=True, divide=False, subtract=True):
    """(f32(x) - f32(zx)) * f32(si / so), the zero point, one rounding."""
    def rule(x, si, so, zy, zx=0):
        if si == so:
            return x - zx + zy
        v = x.astype(F) - F(zx) if subtract else (x - zx).astype(F)
        v = v / F(F(so) / F(si)) if divide else v * F(float(si) / float(so))
        v = v + F(zy) if inside else v
        r = {"half-up": lambda: np.floor(v + F(0.5)), "half-even": lambda: np.rint(v),
             "half-away": lambda: np.copysign(np.floor(np.abs(v) + F(0.5)), v)}[ties]()
        return r.astype(np.float64).astype(np.int64) + (0 if inside else zy)
    return rule


RULES = {"int64, half-up": int64_rule("half-up"), "int64, half-away": int64_rule("half-away"), "int64, half-even": int64_rule("half-even"),
         "int64, floor": int64_rule("floor"), "two roundings, both half-up": int64_rule("half-up", "half-up"),
         "two roundings, half-up then half-away": int64_rule("half-up", "half-away"), "float32, zero point inside, half-up": float_rule("half-up"),
         "float32, zero point inside, half-away": float_rule("half-away"), "float32, zero point inside, half-even": float_rule("half-even"),
         "float32, zero point after, half-up": float_rule("half-up", False), "float32, zero point after, half-away": float_rule("half-away", False),
         "float32, divided, half-away": float_rule("half-away", True, True),
         "float32, input zero subtracted in int32, half-up": float_rule("half-up", subtract=False),
         "float32, input zero subtracted in int32, half-away": float_rule("half-away", subtract=False)}
RIGHT = {"int64-upward": "int64, half-up", "int64-tonearest": "int64, half-away",
         "float32-upward": "float32, zero point inside, half-up", "float32-tonearest": "float32, zero point inside, half-away"}


def clip(x, kind):
    return np.clip(x, *LIMITS[kind])


# ---------------------------------------------------------------- cases

def const(value, kind):
    return relay.const(np.array(value, kind), kind)


class Graph:
    """Collects inputs, expressions and, for each output, the tensors and numbers that describe it and its rule."""

    def __init__(self, rounding, kind):
        self.rounding, self.kind, self.feeds, self.outputs, self.arrays, self.rules = rounding, kind, {}, [], {}, []

    def input(self, case, name, value):
        key = f"{case}_{name}"
        self.feeds[key] = self.arrays[key] = value
        return relay.var(key, shape=value.shape, dtype=str(value.dtype))

    def facts(self, case, **numbers):
        for name, value in numbers.items():
            self.arrays[f"{case}_{name}"] = np.array(value, np.float32 if "scale" in name else np.int32)

    def output(self, case, name, expression, rule):
        self.outputs.append((f"{case}_{name}", expression))
        self.rules.append((case.split("-")[0], rule))


def requantize_cases(g, rng):
    ratios = [(0.5, 1.0), (0.25, 1.0), (0.125, 1.0), (0.75, 1.0), (2.0, 1.0), (1.0, 1.0), (2.0**-10, 1.0), (3 * 2.0**-6, 1.0),
              (0.0123, 0.0457), (0.00391, 0.1), (0.3, 0.1), (1 / 3, 1.0), (0.1, 0.7), (2.0**-15, 1.0), (5 * 2.0**-9, 1.0), (0.05, 0.0251),
              (2.0**-21, 1.0), (3 * 2.0**-21, 1.0), (2.0**-23, 1.0), (0.001, 1700.0)]
    for index, (si, so) in enumerate(ratios):
        si, so = F(si), F(so)
        kind = ["int8", "uint8", "int8", "int32"][index % 4]
        zx, zy = [0, 3, -5, 0, 17, 128, 0, -1][index % 8], [0, 128, -3, 0, 5, 1, -128, 7][(index * 3 + 1) % 8]
        reach = int(160 * float(so) / float(si)) + 1
        x = (rng.integers(-reach, reach + 1, 1024) + zx).astype(np.int32)
        if index < 16:
            x[:64] = zx + np.arange(-32, 32)
        elif index < 19:  # ties, and one beside them, that f32 can't hold
            x = (((2 * rng.integers(-150, 150, 1024) + 1) << (20 if index < 18 else 22)) + rng.integers(-1, 2, 1024) + zx).astype(np.int32)
        case = f"requantize-{index}"
        var = g.input(case, "input", x)
        y = qnn.op.requantize(var, const(si, "float32"), const(zx, "int32"), const(so, "float32"), const(zy, "int32"),
                              rounding=g.rounding, out_dtype=kind)
        g.facts(case, input_scale=si, input_zero=zx, output_scale=so, output_zero=zy)
        g.output(case, "output", y, lambda r, x=x.astype(np.int64), zx=zx, si=si, so=so, zy=zy, kind=kind: clip(r(x, si, so, zy, zx), kind))


def per_channel(g, case, acc, var, sx, sw, so, zy, kind, axis):
    """Requantization by output channel, as after conv2d and dense."""
    si = (F(sx) * np.asarray(sw, F)).astype(F)
    scale = const(si, "float32") if len(si) > 1 else const(si[0], "float32")
    y = qnn.op.requantize(var, scale, const(0, "int32"), const(F(so), "float32"), const(zy, "int32"), axis=axis,
                          rounding=g.rounding, out_dtype=kind)

    def rule(r):
        moved = np.moveaxis(acc, axis, 0)
        parts = [r(moved[k], si[k if len(si) > 1 else 0], F(so), zy) for k in range(moved.shape[0])]
        return clip(np.moveaxis(np.array(parts), 0, axis), kind)
    g.output(case, "output", y, rule)


def products(x, w, zx, zw, kind):
    """One tap of a convolution where an SSE4.2 or AVX2 CPU is named: unsigned activations (int8 ones get 128 added), signed
    weights (uint8 ones get 128 subtracted), products of two neighbouring input channels added with 16-bit saturation
    (pmaddubsw), zero points corrected exactly."""
    up, down = (128, 0) if kind == "int8" else (0, 128)
    u, v, zu, zv = x + up, w - down, zx + up, zw - down
    total = 0
    for c in range(0, x.shape[1], 2):
        total = total + np.clip(sum(u[:, None, k] * v[None, :, k, None, None] for k in range(c, min(c + 2, x.shape[1]))), -32768, 32767)
    return total - zu * v.sum(1)[None, :, None, None] - zv * u.sum(1)[:, None] + zu * zv * x.shape[1]


def conv2d_cases(g, rng):
    for index, (shape, out, kernel, stride, pad, zx, zw, spread, weight, sx, sw, so, zy, kind, per) in enumerate([
            ((1, 4, 8, 8), 8, 1, 1, 0, 0, 0, 8, 2, 0.5, 0.25, 1.0, -3, "int8", False), ((1, 3, 9, 9), 8, 3, 1, 1, 7, 0, 8, 3, 0.125, 0.5, 1.0, 5, "int8", True),
            ((1, 2, 8, 8), 6, 3, 2, 1, 128, 127, 12, 4, 0.0625, 1.0, 1.5, 128, "uint8", False), ((1, 5, 7, 7), 7, 3, 1, 0, -9, 0, 100, 100, 0.02, 0.01, 0.9, 0, "int8", True),
            ((1, 6, 6, 6), 6, 3, 1, 1, 120, 131, 127, 127, 0.02, 0.01, 3.0, 100, "uint8", False), ((1, 8, 10, 10), 8, 1, 1, 0, 3, 0, 127, 127, 0.02, 0.01, 0.5, -8, "int8", True),
            ((1, 3, 8, 8), 5, 3, 2, 1, 60, 0, 127, 127, 0.02, 0.01, 0.9, 1, "int8", False)]):
        data, case = ("uint8" if kind == "uint8" else "int8"), f"conv2d-{index}"
        # The last three are made to leave 16 bits in a sum of two products.
        x = clip(zx + rng.integers(-spread, spread + 1, shape), data).astype(data)
        w = clip(zw + rng.integers(-weight, weight + 1, (out, shape[1], kernel, kernel)), data).astype(data)
        b = rng.integers(-3 * spread, 3 * spread + 1, out).astype(np.int32)
        scales = F(sw) * (np.array([1, 0.5, 2, 0.75, 1.3, 0.77, 1, 0.5][:out], F) if per else np.ones(1, F))
        vx, vw, vb = (g.input(case, name, value) for name, value in (("input", x), ("weight", w), ("bias", b)))
        c = qnn.op.conv2d(vx, vw, const(zx, "int32"), const(zw, "int32"), const(F(sx), "float32"),
                          const(scales if per else scales[0], "float32"), kernel_size=(kernel, kernel), channels=out,
                          strides=(stride, stride), padding=(pad, pad), out_dtype="int32")
        c = relay.nn.bias_add(c, vb, axis=1)
        padded = np.full((shape[0], shape[1], shape[2] + 2 * pad, shape[3] + 2 * pad), zx, np.int64)
        padded[:, :, pad:pad + shape[2], pad:pad + shape[3]] = x
        side = (padded.shape[2] - kernel) // stride + 1
        acc = np.zeros((shape[0], out, side, side), np.int64) + b[None, :, None, None]
        exact = acc.copy()
        for ky in range(kernel):
            for kx in range(kernel):
                part = padded[:, :, ky:ky + (side - 1) * stride + 1:stride, kx:kx + (side - 1) * stride + 1:stride]
                taps = w[:, :, ky, kx].astype(np.int64)
                exact += np.einsum("nchw,oc->nohw", part - zx, taps - zw)
                acc += products(part, taps, zx, zw, data)
        if g.kind == "int64":
            acc = exact
        g.facts(case, input_scale=sx, input_zero=zx, weight_scale=scales, weight_zero=zw, output_scale=so, output_zero=zy, stride=stride, padding=pad)
        g.output(case, "accumulator", c, (acc, exact))
        per_channel(g, case, acc, c, sx, scales, so, zy, kind, 1)


def dense_cases(g, rng):
    for index, (zx, zw, spread, weight, sx, sw, so, zy, per) in enumerate([
            (0, 0, 8, 2, 0.25, 0.5, 1.0, 0, False), (-3, 0, 10, 3, 0.125, 0.25, 1.0, 9, True), (11, 5, 100, 90, 0.021, 0.013, 1.7, -128, False), (0, 0, 127, 127, 0.02, 0.01, 3.0, 3, False)]):
        x = (zx + rng.integers(-spread, spread + 1, (20, 16))).astype(np.int8)
        w = (zw + rng.integers(-weight, weight + 1, (12, 16))).astype(np.int8)
        b = rng.integers(-2 * spread, 2 * spread + 1, 12).astype(np.int32)
        scales, case = F(sw) * (np.tile(np.array([1, 0.5, 0.75, 1.1], F), 3) if per else np.ones(1, F)), f"dense-{index}"
        vx, vw, vb = (g.input(case, name, value) for name, value in (("input", x), ("weight", w), ("bias", b)))
        d = qnn.op.dense(vx, vw, const(zx, "int32"), const(zw, "int32"), const(F(sx), "float32"),
                         const(scales if per else scales[0], "float32"), units=12, out_dtype="int32")
        d = relay.nn.bias_add(d, vb, axis=1)
        acc = (x.astype(np.int64) - zx) @ (w.astype(np.int64) - zw).T + b
        g.facts(case, input_scale=sx, input_zero=zx, weight_scale=scales, weight_zero=zw, output_scale=so, output_zero=zy)
        g.output(case, "accumulator", d, (acc, acc))
        per_channel(g, case, acc, d, sx, scales, so, zy, "int8", 1)


PAIR_SCALES = [(0.5, 0.25, 1.0), (0.25, 0.25, 1.0), (0.75, 0.5, 1.0), (0.0313, 0.0127, 0.0451), (0.5, 1.0, 0.5), (0.125, 0.5, 2.0)]
PAIR_ZEROS = [(0, 0, 0), (-3, 5, 1), (127, -128, 9), (-1, 2, -7), (4, 0, -128), (11, -6, 60)]


def pair_cases(g, rng):
    a, b = rng.integers(-128, 128, 1500).astype(np.int8), rng.integers(-128, 128, 1500).astype(np.int8)
    for index, ((sa, sb, so), (za, zb, zo)) in enumerate(zip(PAIR_SCALES, PAIR_ZEROS)):
        wide = [a.astype(np.int64) - za, b.astype(np.int64) - zb]
        for name in ("add", "mul", "concatenate"):
            case = f"{name}-{index}"
            va, vb = g.input(case, "input_1", a), g.input(case, "input_2", b)
            scales = [const(F(s), "float32") for s in (sa, sb, so)]
            zeros = [const(z, "int32") for z in (za, zb, zo)]
            g.facts(case, input_1_scale=sa, input_1_zero=za, input_2_scale=sb, input_2_zero=zb, output_scale=so, output_zero=zo)
            rule = {
                "add": lambda r, w=wide, s=(F(sa), F(sb), F(so)), z=zo: clip(r(w[0], s[0], s[2], z) + r(w[1], s[1], s[2], z) - z, "int8"),
                "mul": lambda r, w=wide, s=(F(sa), F(sb), F(so)), z=zo: clip(r(w[0] * w[1], F(s[0] * s[1]), s[2], z), "int8"),
                "concatenate": lambda r, w=wide, s=(F(sa), F(sb), F(so)), z=zo: np.concatenate(
                    [clip(r(w[0], s[0], s[2], z), "int8"), clip(r(w[1], s[1], s[2], z), "int8")]),
            }[name]
            if name == "concatenate":
                y = qnn.op.concatenate(relay.Tuple([va, vb]), relay.Tuple(scales[:2]), relay.Tuple(zeros[:2]), scales[2], zeros[2], 0)
            else:
                y = getattr(qnn.op, name)(va, vb, scales[0], zeros[0], scales[1], zeros[1], scales[2], zeros[2])
            g.output(case, "output", y, rule)


def average_cases(g, rng):
    for index, (shape, kernel, stride, pad, include) in enumerate([((1, 6, 10, 10), 2, 2, 0, False), ((1, 5, 9, 9), 3, 1, 1, False),
                                                                  ((1, 5, 9, 9), 3, 1, 1, True), ((1, 8, 8, 8), 4, 2, 0, False)]):
        case = f"average-{index}"
        x = rng.integers(-128, 128, shape).astype(np.int32)
        y = relay.nn.avg_pool2d(g.input(case, "input", x), pool_size=(kernel, kernel), strides=(stride, stride), padding=(pad, pad), count_include_pad=include)
        side = (shape[2] + 2 * pad - kernel) // stride + 1
        total, count = np.zeros((*shape[:2], side, side), np.int64), np.zeros((side, side), np.int64)
        for i in range(side):
            for j in range(side):
                part = x[:, :, max(0, i * stride - pad):i * stride - pad + kernel, max(0, j * stride - pad):j * stride - pad + kernel]
                total[:, :, i, j], count[i, j] = part.sum((2, 3)), kernel * kernel if include else part.shape[2] * part.shape[3]
        g.facts(case, kernel=kernel, stride=stride, padding=pad, count_include_pad=int(include))
        g.output(case, "output", y, ("average", total, count))


def build(mode):
    target, kind, rounding = MODES[mode]
    rng, g = np.random.default_rng(2026), Graph(rounding, kind)
    # The default compute type is resolved where the configuration is made, so the target's scope is outermost.
    with tvm.target.Target(target):
        with qnn.op.requantize_config(rounding=rounding):
            for make in (requantize_cases, conv2d_cases, dense_cases, pair_cases, average_cases):
                make(g, rng)
            whole = relay.Tuple([e for _, e in g.outputs])
            module = tvm.IRModule.from_expr(relay.Function(relay.analysis.free_vars(whole), whole))
            with tvm.transform.PassContext(opt_level=3):
                library = relay.build(module, target)
    executor = graph_executor.GraphModule(library["default"](tvm.cpu()))
    executor.run(**g.feeds)
    outputs = {name: executor.get_output(i).numpy() for i, (name, _) in enumerate(g.outputs)}
    return g, outputs


# ---------------------------------------------------------------- files

def write_npz(path, arrays):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            data = io.BytesIO()
            np.lib.format.write_array(data, np.ascontiguousarray(array), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", (2026, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data.getvalue())


def averages(total, count):
    down, rest = total // count, total % count
    return {"towards zero": down + ((total < 0) & (rest != 0)), "floor": down, "half-up": (2 * total + count) // (2 * count),
            "half-away": down + ((2 * rest > count) | ((2 * rest == count) & (total >= 0)))}


def main(folder):
    machine = "AVX-512" if "avx512f" in Path("/proc/cpuinfo").read_text() else "AVX2"
    for mode in MODES:
        g, outputs = build(mode)
        counts, sizes, saturated, accumulators = {}, {}, 0, 0
        for (name, value), (op, rule) in zip(outputs.items(), g.rules):
            if name.endswith("accumulator"):
                assert np.array_equal(value, rule[0]), (mode, name, int((value != rule[0]).sum()))
                saturated += int((value != rule[1]).sum())
                accumulators += value.size
                continue
            sizes[op] = sizes.get(op, 0) + value.size
            wanted = averages(*rule[1:]) if op == "average" else {label: rule(r) for label, r in RULES.items()}
            for label, want in wanted.items():
                key = (op, label)
                counts[key] = counts.get(key, 0) + int((want.astype(np.int64) != value).sum())
        right = {op: RIGHT[mode] if op != "average" else "towards zero" for op in sizes}
        for op in sizes:
            print(mode, op, sizes[op], {label: n for (o, label), n in counts.items() if o == op})
        bad = {op: counts[op, right[op]] for op in sizes if counts[op, right[op]]}
        assert not bad, (mode, bad)
        told = [f"{op} (of {sizes[op]}): " + ", ".join(f"{label} {n}" for (o, label), n in counts.items() if o == op and n) for op in sizes]
        told.append(f"accumulators (of {accumulators}): exact sums {saturated}")
        same = [f"{op}: " + ", ".join(label for (o, label), n in counts.items() if o == op and not n and label != right[op]) for op in sizes]
        same = [text for text in same if not text.endswith(": ")]
        case = Path(folder) / mode
        case.mkdir(parents=True, exist_ok=True)
        write_npz(case / "vectors.npz", {**g.arrays, **outputs})
        target, _, rounding = MODES[mode]
        lines = [
            f"tool = {json.dumps(f'hhb-tvm 2.4.5 (TVM {tvm.__version__}, LLVM 14.0.1), numpy {np.__version__}')}",
            f"platform = {json.dumps(f'{platform.system()} {platform.machine()} ({machine}), Python {platform.python_version()}')}",
            f"cpu_path = {json.dumps(f'code compiled by TVM for target {target}, requantize rounding {rounding}, optimization level 3')}",
            'command = "python golden/recorders/tvm_qnn.py golden/tvm"', f"date = {datetime.date.today().isoformat()}",
            'license = "Apache-2.0 OR MIT: graphs and data made by this project\'s script"', 'license_of_the_tool = "Apache-2.0"',
            'what = "Relay QNN: requantize, conv2d, dense, add, mul, concatenate; avg_pool2d of int32"',
            f'targets = ["tvm-{mode}"]', f"tells_apart = {json.dumps('; '.join(told))}",
            f"undecided = {json.dumps('; '.join(same) or 'none of the rules that were tried')}",
            "", "[sha256]", f'"vectors.npz" = "{hashlib.sha256((case / "vectors.npz").read_bytes()).hexdigest()}"']
        (case / "recording.toml").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
