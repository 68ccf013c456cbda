"""Records what qonnx's executor makes of one-node models: qonnx_vectors.json.

Usage: python qonnx_vectors.py > qonnx_vectors.json    (qonnx 1.0.0, onnx 1.23.2, numpy 2.4.6)

Values are f32 bit patterns as decimal integers. `x` has shape (1, channels, length).
"""

import json
import sys

import numpy as np
import onnx
import qonnx
from onnx import TensorProto, helper, numpy_helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx

F = np.float32
RNG = np.random.default_rng(7)
MODES = ["ROUND", "HALF_UP", "HALF_DOWN", "FLOOR", "CEIL", "UP", "DOWN"]


def run(op_type, x, params, attributes, version=1):
    """Executes one node of the QONNX domain."""
    domain = "qonnx.custom_op.general"
    names = [f"p{i}" for i in range(len(params))]
    node = helper.make_node(op_type, ["x", *names], ["y"], domain=domain, **attributes)
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "case",
        [info("x", TensorProto.FLOAT, x.shape)],
        [info("y", TensorProto.FLOAT, x.shape)],
        [numpy_helper.from_array(np.asarray(p, dtype=F), n) for p, n in zip(params, names)],
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid(domain, version)]
    model = ModelWrapper(helper.make_model(graph, opset_imports=opsets))
    with np.errstate(all="ignore"):
        return execute_onnx(model, {"x": x})["y"]


def near_ties(scale, zero_point, low, high, length):
    """Inputs around (k + 1/2 - zero_point) * scale, at the ends of the range, beyond it, and zeros."""
    k = RNG.integers(max(low, -(2**24)), min(high, 2**24) + 1, length).astype(np.float64)
    x = ((k + 0.5 * RNG.integers(0, 2, length) - zero_point) * scale).astype(F)
    ulps = RNG.integers(-2, 3, length)
    for _ in range(2):
        x = np.where(ulps > 0, np.nextafter(x, F(np.inf)), np.where(ulps < 0, np.nextafter(x, F(-np.inf)), x))
        ulps -= np.sign(ulps)
    special = [0.0, -0.0, 0.49999997, -0.49999997, (high + 2) * scale, (low - 2) * scale, 1e30, -1e30]
    x[: len(special)] = special
    return x.astype(F)


def bits(a):
    return [int(v) for v in np.asarray(a, dtype=F).reshape(-1).view(np.uint32)]


def case(op, x, y, **fields):
    record = {"op": op, "shape": list(x.shape), **fields, "x": bits(x), "y": bits(y)}
    CASES.append(record)


CASES = []
LENGTH = 40

# Quant: widths, signedness, narrow, zero points, modes; one scale a channel in every other case.
for index, (width, signed, narrow, zero_point) in enumerate(
    [(8, 1, 0, 0), (8, 1, 1, 0), (8, 0, 0, 7), (8, 0, 1, 128), (4, 1, 0, 0), (4, 0, 0, 0), (2, 1, 1, 0),
     (1, 1, 0, 0), (1, 0, 0, 0), (8, 1, 0, 0.5), (16, 1, 0, -3), (24, 1, 0, 0), (26, 1, 0, 0),
     (32, 1, 0, 0), (32, 0, 0, 0)]
):
    for mode in MODES if index < 5 or width == 26 else MODES[:2]:
        channels = 1 + index % 2
        scales = np.array([0.1, 0.25, 1.0, 3e-3])[[(index + c) % 4 for c in range(channels)]].astype(F)
        low = -(2 ** (width - 1)) if signed else 0
        high = 2 ** (width - 1) - 1 if signed else 2**width - 1
        x = np.stack([near_ties(float(s), zero_point, low, high, LENGTH) for s in scales])[None]
        scale = scales.reshape(1, channels, 1) if channels > 1 else scales[0]
        y = run("Quant", x, [scale, zero_point, width], dict(signed=signed, narrow=narrow, rounding_mode=mode))
        case("Quant", x, y, scale=bits(scales), zero_point=bits([zero_point]), bits=width,
             signed=signed, narrow=narrow, mode=mode)

for scale in [0.5, 0.1]:
    x = near_ties(0.1, 0, -3, 3, LENGTH)[None, None]
    case("BipolarQuant", x, run("BipolarQuant", x, [scale], {}), scale=bits([scale]))

for mode in MODES:
    for shift, zero_point, scale in [(3, 0, 0.25), (2, 4, 0.1)]:
        x = near_ties(scale, zero_point, -128, 127, LENGTH)[None, None]
        y = run("Trunc", x, [scale, zero_point, 8 + shift, 8], dict(rounding_mode=mode))
        case("Trunc1", x, y, scale=bits([scale]), zero_point=bits([zero_point]), shift=shift, mode=mode)
        out_scale = scale * 2**shift * (1.1 if zero_point else 1.0)
        for signed, narrow in [(1, 0), (0, 1)]:
            y = run("Trunc", x, [scale, zero_point, 8, out_scale, 5],
                    dict(rounding_mode=mode, signed=signed, narrow=narrow), version=2)
            case("Trunc2", x, y, scale=bits([scale]), zero_point=bits([zero_point]),
                 out_scale=bits([out_scale]), out_bits=5, signed=signed, narrow=narrow, mode=mode)

# FloatQuant: e4m3, e5m2, e3m2, e2m1 and one without mantissa; values at powers of two, ties, overflow.
for e, m, bias, max_value, has_inf, has_nan, saturation in [
    (4, 3, 7, 448, 0, 1, 1), (4, 3, 7, 448, 0, 1, 0), (5, 2, 15, 57344, 1, 1, 0), (5, 2, 15, 57344, 1, 1, 1),
    (3, 2, 3, 1e9, 0, 0, 1), (2, 1, 1, 6, 0, 0, 1), (4, 0, 7, 1e9, 0, 0, 1)
]:
    for mode in MODES if (e, saturation) == (4, 1) else MODES[:1]:
        scale = F(RNG.choice([1.0, 0.1, 0.75]))
        exponents = RNG.integers(-bias - m - 2, 2**e - bias + 2, LENGTH).astype(np.float64)
        quarter = RNG.integers(2 ** (m + 1), 2 ** (m + 2) + 1, LENGTH) / 2.0 ** (m + 1)
        x = (np.exp2(exponents) * quarter * scale * RNG.choice([-1, 1], LENGTH)).astype(F)
        ulps = RNG.integers(-1, 2, LENGTH)
        x = np.where(ulps > 0, np.nextafter(x, F(np.inf)), np.where(ulps < 0, np.nextafter(x, F(-np.inf)), x))
        x[:4] = [0.0, -0.0, 1e30, -1e30]
        x = x.astype(F)[None, None]
        y = run("FloatQuant", x, [scale, e, m, bias, max_value],
                dict(rounding_mode=mode, has_inf=has_inf, has_nan=has_nan, has_subnormal=1, saturation=saturation))
        case("FloatQuant", x, y, scale=bits([scale]), exponent_bits=e, mantissa_bits=m, bias=bits([bias]),
             max_value=bits([max_value]), has_inf=has_inf, has_nan=has_nan, saturation=saturation, mode=mode)

for channels, steps, out_scale, out_bias, ascending in [
    (1, 7, 1.0, 0.0, True), (2, 15, 0.1, -0.8, True), (2, 1, 2.0, -1.0, True), (1, 5, 0.5, 0.25, False)
]:
    thresholds = RNG.normal(0, 2, (channels, steps)).astype(F)
    if ascending:
        thresholds = np.sort(thresholds, axis=1)
    x = RNG.normal(0, 2, (1, 2, LENGTH)).astype(F)
    x[0, :, :steps] = thresholds  # equality counts
    y = run("MultiThreshold", x, [thresholds],
            dict(out_scale=out_scale, out_bias=out_bias, out_dtype="INT32", data_layout="NCW"))
    case("MultiThreshold", x, y, thresholds=bits(thresholds), channels=channels, steps=steps,
         out_scale=bits([out_scale]), out_bias=bits([out_bias]))

source = f"qonnx {qonnx.__version__ if hasattr(qonnx, '__version__') else '1.0.0'}, onnx {onnx.__version__}, numpy {np.__version__}"
lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in CASES)
sys.stdout.write(f'{{"source":{json.dumps(source)},"cases":[\n{lines}\n]}}\n')
