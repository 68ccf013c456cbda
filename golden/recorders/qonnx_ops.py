"""Op-level conformance recordings with the qonnx 1.0.0 executor.

    pip install -r golden/recorders/requirements-qonnx.txt
    python golden/recorders/qonnx_ops.py golden/qonnx-ops [case-name-prefix]

Every case is one small ONNX model. Inputs are rich in near-ties (exact ties, one ulp beside them, saturation,
odd zero points), because uniform random numbers cannot tell neighbouring rounding rules apart. Non-Quant
operators get quantized inputs and a Quant behind them, so that integer codes can be compared. With
power-of-two scales all sums are exact in float32; the `*-float-scale` cases are not, and say so.
"""

import shutil
import sys
import zlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from recording import execute, provenance

GENERAL = "qonnx.custom_op.general"
MODES = ["ROUND", "HALF_EVEN", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN"]
F, I64 = np.float32, np.int64
CASES = {}


def case(covers):
    """Registers a function that builds one case; its name is the folder name."""
    def register(build):
        CASES[build.__name__.replace("_", "-")] = (covers, build)
        return build
    return register


# ---------------------------------------------------------------- inputs

def beside(v):
    """v and its float32 neighbours."""
    v = np.asarray(v, F)
    return np.concatenate([v, np.nextafter(v, F(np.inf)), np.nextafter(v, F(-np.inf))])


def near_ties(rng, shape, scale, lo=-9, hi=9, zp=0.0):
    """Values around the grid `(code - zp) * scale`: half ties and their ulp neighbours, a quarter grid points
    and theirs, the rest uniform, saturating, and zeros of both signs."""
    n, s = int(np.prod(shape)), F(scale)
    code = lambda k: rng.integers(lo, hi + 1, k).astype(F) - F(zp)
    half = beside((code(n // 6 + 1) + F(0.5)) * s)
    grid = beside(code(n // 12 + 1) * s)
    span = (hi - lo) * 0.75
    rest = np.concatenate([rng.uniform(lo - span, hi + span, n // 4 + 4).astype(F) * s,
                           np.array([0.0, -0.0, 1e30, -1e30], F)])
    pool = rng.permutation(np.concatenate([half, grid, rest]))
    return np.resize(pool, n).reshape(shape).astype(F)


# ---------------------------------------------------------------- models

class Net:
    def __init__(self, seed, opset=17, custom=((GENERAL, 1),)):
        self.rng = np.random.default_rng(seed)
        self.opset, self.custom = opset, custom
        self.nodes, self.inits, self.ins, self.outs = [], {}, {}, []
        self.annotations, self.shapes = {}, {}
        self.count = 0

    def name(self, stem):
        self.count += 1
        return f"{stem}_{self.count}"

    def input(self, name, array):
        self.ins[name] = np.ascontiguousarray(array)
        return name

    def const(self, value, name=None, dtype=F):
        name = name or self.name("c")
        self.inits[name] = np.array(value, dtype)
        return name

    def node(self, op, inputs, out=None, domain="", n_out=1, **attrs):
        out = out or self.name(op.lower())
        outs = [out] if n_out == 1 else [f"{out}_{i}" for i in range(n_out)]
        self.nodes.append(helper.make_node(op, inputs, outs, name=f"{op}_{len(self.nodes)}", domain=domain, **attrs))
        return outs[0] if n_out == 1 else outs

    def quant(self, x, scale, bits=8, signed=1, narrow=0, zp=0.0, mode="ROUND", out=None, op="Quant", domain=GENERAL):
        """`mode=None` leaves the attribute out."""
        attrs = dict(signed=signed, narrow=narrow)
        if mode is not None:
            attrs["rounding_mode"] = mode
        as_input = lambda v: v if isinstance(v, str) else self.const(v)
        ins = [x, as_input(scale), as_input(zp), as_input(bits)]
        return self.node(op, ins, out or self.name(f"{x}_q"), domain, **attrs)

    def act(self, name, shape, scale=0.25, bits=4, signed=1, zp=0.0, narrow=0):
        """A quantized activation: near-tie input, then Quant."""
        lo, hi = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2 ** bits - 1)
        s = float(np.max(scale))
        return self.quant(self.input(name, near_ties(self.rng, shape, s, lo, hi, zp)), scale, bits, signed, narrow, zp)

    def weight(self, shape, scale=0.125, bits=4, narrow=1, name="w"):
        """Float weights (some on ties) behind a Quant, per output channel if `scale` has a shape."""
        half = 2 ** (bits - 1)
        s = np.broadcast_to(np.asarray(scale, F), shape)
        codes = self.rng.integers(-half, half, shape) + self.rng.choice([0.0, 0.5, 0.2, -0.3], shape)
        return self.quant(self.const((codes * s).astype(F), self.name(name)), scale, bits, 1, narrow)

    def out(self, *names):
        self.outs += names

    def known_shape(self, name, shape):
        """A value_info entry; qonnx needs it before channels_last operators, whose shapes ONNX cannot infer."""
        self.shapes[name] = shape
        return name

    def proto(self):
        def info(name, array):
            return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        # output shapes are filled in after one execution, so that the cases need not state them
        graph = helper.make_graph(
            self.nodes, "case", [info(k, v) for k, v in self.ins.items()],
            [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in self.outs],
            [numpy_helper.from_array(v, k) for k, v in self.inits.items()],
            value_info=[helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in self.shapes.items()])
        for tensor, datatype in self.annotations.items():
            graph.quantization_annotation.append(onnx.TensorAnnotation(
                tensor_name=tensor,
                quant_parameter_tensor_names=[onnx.StringStringEntryProto(key="finn_datatype", value=datatype)]))
        opsets = [helper.make_opsetid("", self.opset)] + [helper.make_opsetid(d, v) for d, v in self.custom]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="align-check")


# ---------------------------------------------------------------- Quant

@case("Quant: the 8 rounding modes, signed 4 bit, scale 0.5, ties of both signs and one ulp beside")
def quant_rounding_modes(n):
    x = n.input("x", near_ties(n.rng, (1, 300), 0.5, -9, 9))
    n.out(*[n.quant(x, 0.5, 4, mode=m, out=f"y_{m}") for m in MODES])


@case("Quant: rounding modes in lower and mixed case")
def quant_rounding_lower_case(n):
    x = n.input("x", near_ties(n.rng, (1, 120), 0.5, -9, 9))
    n.out(*[n.quant(x, 0.5, 4, mode=m.lower(), out=f"y_{m.lower()}") for m in MODES])
    n.out(n.quant(x, 0.5, 4, mode="Round", out="y_mixed"))


@case("Quant: the 8 rounding modes with odd zero points, unsigned 4 bit (5) and signed 4 bit (-3): the zero point is added before rounding")
def quant_rounding_zero_point(n):
    x = n.input("x", near_ties(n.rng, (1, 300), 0.25, -3, 18, zp=5))
    n.out(*[n.quant(x, 0.25, 4, 0, zp=5.0, mode=m, out=f"y_u4_{m}") for m in MODES])
    x = n.input("v", near_ties(n.rng, (1, 300), 0.25, -9, 9, zp=-3))
    n.out(*[n.quant(x, 0.25, 4, 1, zp=-3.0, mode=m, out=f"y_s4_{m}") for m in MODES])


@case("Quant HALF_UP adds 0.5 in float32: 0.5 less one ulp becomes 1, and odd integers from 2^23 on move by one; HALF_DOWN, ROUND beside")
def quant_half_up_in_float32(n):
    v = np.concatenate([beside([0.5, 1.5, 2.5, 4.5]), 2.0**22 + np.arange(8) / 2, 2.0**23 + np.arange(-4, 8), 2.0**24 + 2 * np.arange(4)]).astype(F)
    x = n.input("x", np.concatenate([v, -v])[None])
    n.out(*[n.quant(x, 1.0, 32, mode=m, out=f"y_{m}") for m in ("HALF_UP", "HALF_DOWN", "ROUND", "UP", "DOWN")])


@case("Quant without the rounding_mode attribute: ROUND")
def quant_rounding_default(n):
    x = n.input("x", near_ties(n.rng, (1, 120), 0.5, -9, 9))
    n.out(n.quant(x, 0.5, 4, mode=None, out="y"))


@case("Quant: bits 1, 2, 3, 4, 8, 16, 32, signed and unsigned, narrow and not; signed 1 bit is bipolar; "
      "at 32 bits the clamp bounds are float32 (2^31-1 becomes 2^31)")
def quant_bits(n):
    small = near_ties(n.rng, (1, 60), 0.5, -9, 9)
    ints = np.array([126, 127, 128, 129, 253, 254, 255, 256, 32766, 32767, 32768, 65534, 65535, 65536], F)
    big = np.array([2.0**31 - 128, 2.0**31, 2.0**31 + 256, 2.0**32 - 256, 2.0**32, 2.0**33, 1e20], F)
    edge = np.concatenate([ints + d for d in (-0.5, 0, 0.5)] + [big])
    x = n.input("x", np.concatenate([small, np.concatenate([edge, -edge])[None] * F(0.5)], axis=1))
    for bits in (1, 2, 3, 4, 8, 16, 32):
        for signed in (1, 0):
            for narrow in (0, 1):
                n.out(n.quant(x, 0.5, bits, signed, narrow, out=f"y_{'s' if signed else 'u'}{bits}{'_narrow' * narrow}"))


@case("Quant: signed 1 bit with zero points and ROUND/FLOOR: +1 for x/s+zp >= 0, else -1, then minus zp, times s")
def quant_signed_one_bit(n):
    x = n.input("x", near_ties(n.rng, (1, 120), 0.5, -3, 3))
    for i, zp in enumerate((0.0, 1.0, -1.0)):
        n.out(n.quant(x, 0.5, 1, 1, zp=zp, out=f"y_{i}"), n.quant(x, 0.5, 1, 1, 1, zp=zp, mode="FLOOR", out=f"y_floor_{i}"))


@case("Quant: zero points 0, odd, even, negative, per channel; unsigned and signed 8 bit")
def quant_zero_points(n):
    x = n.input("x", near_ties(n.rng, (1, 3, 10, 8), 0.125, -200, 200))
    for tag, signed, zp in (("u8_128", 0, 128.0), ("u8_127", 0, 127.0), ("u8_1", 0, 1.0), ("u8_255", 0, 255.0),
                            ("s8_m3", 1, -3.0), ("s8_m128", 1, -128.0), ("s8_64", 1, 64.0)):
        n.out(n.quant(x, 0.125, 8, signed, zp=zp, out=f"y_{tag}"))
    n.out(n.quant(x, 0.125, 8, 0, zp=np.array([0, 77, 128], F).reshape(1, 3, 1, 1), out="y_channels"))


@case("Quant: zero point that is not an integer (legal float tensor): output grid lies off zero")
def quant_fractional_zero_point(n):
    x = n.input("x", near_ties(n.rng, (1, 150), 0.25, -3, 18, zp=0.5))
    n.out(n.quant(x, 0.25, 4, 0, zp=0.5, out="y_half"), n.quant(x, 0.25, 4, 1, zp=-1.25, out="y_quarter"))


@case("Quant: scale shapes (), (1,), (1,1,1,1), (1,C,1,1), (C,1,1) on activations, (C,1,1,1) on weights; bits and zp as (1,)")
def quant_scale_shapes(n):
    x = n.input("x", near_ties(n.rng, (2, 3, 5, 4), 0.25, -9, 9))
    per = np.array([0.25, 0.5, 0.125], F)
    for tag, s in (("scalar", F(0.25)), ("1", per[:1]), ("1111", per[:1].reshape(1, 1, 1, 1)),
                   ("1C11", per.reshape(1, 3, 1, 1)), ("C11", per.reshape(3, 1, 1))):
        n.out(n.quant(x, s, 4, out=f"y_{tag}"))
    n.out(n.quant(x, per[:1], np.array([4], F), zp=np.array([0], F), out="y_vec1_all"))
    w = n.const(near_ties(n.rng, (3, 2, 3, 3), 0.25, -9, 9), "w")
    n.out(n.quant(w, per.reshape(3, 1, 1, 1), 4, 1, 1, out="wq"), n.quant(w, F(0.25), 4, 1, 1, out="wq_scalar"))


@case("Quant with scales that are no power of two: true float32 division x/s (reciprocal or float64 differ at ties)")
def quant_float_scale(n):
    for i, s in enumerate((0.1, 1 / 3, 0.0123, 0.7)):
        s = F(s)
        x = n.input(f"x{i}", near_ties(n.rng, (1, 400), s, -128, 127))
        n.out(n.quant(x, s, 8, out=f"y{i}"), n.quant(x, s, 8, 0, zp=129.0, out=f"y{i}_zp"))


@case("IntQuant as op_type, all modes")
def intquant(n):
    x = n.input("x", near_ties(n.rng, (1, 120), 0.5, -9, 9))
    n.out(*[n.quant(x, 0.5, 4, mode=m, op="IntQuant", out=f"y_{m}") for m in MODES])


def domain_case(n, domain):
    x = n.input("x", near_ties(n.rng, (1, 60), 0.5, -9, 9))
    h = n.quant(x, 0.5, 4, domain=domain, out="q")
    n.out(n.node("BipolarQuant", [h, n.const(0.5)], "b", domain), n.quant(h, 1.0, 4, 0, domain=domain, out="y"))


@case("domain qonnx.custom_op.general, version 1")
def domain_general(n):
    domain_case(n, GENERAL)


@case("domain qonnx.custom_op.general, version 2 (Brevitas 0.13 writes this)")
def domain_general_version_2(n):
    n.custom = ((GENERAL, 2),)
    domain_case(n, GENERAL)


@case("domain onnx.brevitas")
def domain_onnx_brevitas(n):
    n.custom = (("onnx.brevitas", 1),)
    domain_case(n, "onnx.brevitas")


@case("domain finn.custom_op.general")
def domain_finn_general(n):
    n.custom = (("finn.custom_op.general", 1),)
    domain_case(n, "finn.custom_op.general")


@case("old domain `finn`")
def domain_finn(n):
    n.custom = (("finn", 1),)
    domain_case(n, "finn")


@case("opset_import lacks the custom domain (domain onnx.brevitas, ai.onnx 9)")
def domain_not_imported(n):
    n.custom, n.opset = (), 9
    domain_case(n, "onnx.brevitas")


@case("scale, zero point, bits from Constant nodes, shared by several Quants")
def quant_constant_nodes(n):
    s, z, b = [n.node("Constant", [], name, value=numpy_helper.from_array(np.array(v, F)))
               for name, v in (("s", 0.5), ("z", 0.0), ("b", 4.0))]
    x = n.input("x", near_ties(n.rng, (1, 60), 0.5, -9, 9))
    w = n.const(near_ties(n.rng, (60, 3), 0.5, -9, 9), "w")
    h = n.quant(x, s, b, zp=z, out="xq")
    n.out(n.quant(n.node("MatMul", [h, n.quant(w, s, b, zp=z, out="wq")], "mm"), s, b, zp=z, out="y"))


@case("scale 0.1, zero point, bits as 0-d Constant nodes: the division stays float32 (float64 differs at near-ties)")
def quant_constant_nodes_float_scale(n):
    s, z, b = [n.node("Constant", [], name, value=numpy_helper.from_array(np.array(v, F)))
               for name, v in (("s", 0.1), ("z", 0.0), ("b", 8.0))]
    x = n.input("x", near_ties(n.rng, (1, 400), F(0.1), -128, 127))
    n.out(n.quant(x, s, b, zp=z, out="y"))


@case("scale computed by constant nodes (Abs, Mul, Div) in the graph")
def quant_computed_scale(n):
    s = n.node("Div", [n.node("Mul", [n.node("Abs", [n.const(-3.0)]), n.const(4.0)]), n.const(24.0)], "s")
    n.out(n.quant(n.input("x", near_ties(n.rng, (1, 60), 0.5, -9, 9)), s, 4, out="y"))


@case("chain of Quants: 8 bit, then coarser 4 bit unsigned, then finer scale; requantization ties")
def quant_chain(n):
    h = n.act("x", (1, 200), 0.125, 8)
    h = n.quant(h, 0.25, 4, 0, zp=7.0)
    n.out(n.quant(h, 0.5, 3, mode="FLOOR"), n.quant(h, 0.125, 8, mode="HALF_UP"), n.quant(h, 0.5, 4, mode="HALF_DOWN"))


# ---------------------------------------------------------------- the other QONNX operators

@case("BipolarQuant: +0, -0, denormals, scales 1, 0.5, per channel")
def bipolar_quant(n):
    x = near_ties(n.rng, (1, 3, 6, 5), 0.5, -2, 2)
    x.flat[:6] = [0.0, -0.0, 1e-45, -1e-45, np.nextafter(F(0.5), F(0)), -1e-38]
    x = n.input("x", x)
    for i, s in enumerate((1.0, 0.5, 0.3, np.array([1, 0.5, 2], F).reshape(1, 3, 1, 1))):
        n.out(n.node("BipolarQuant", [x, n.const(s)], f"y_{i}", GENERAL))


@case("bipolar network: BipolarQuant weights and activations, MatMul")
def bipolar_matmul(n):
    x = n.node("BipolarQuant", [n.input("x", near_ties(n.rng, (5, 20), 0.5, -2, 2)), n.const(1.0)], "xb", GENERAL)
    w = n.node("BipolarQuant", [n.const(near_ties(n.rng, (20, 7), 0.5, -2, 2), "w"), n.const(0.25)], "wb", GENERAL)
    n.out(n.node("BipolarQuant", [n.node("MatMul", [x, w], "mm"), n.const(1.0)], "y", GENERAL))


@case("Trunc v1 (domain version 1): 8 to 4 bits and 8 to 6, seven modes, zero points 0 and 3; no clamp, output shrinks")
def trunc_v1(n):
    x = n.quant(n.input("x", n.rng.permutation(np.arange(-128, 128))[None].astype(F) * F(0.5)), 0.5, 8)  # every code
    for m in ("FLOOR", "ROUND", "CEIL", "DOWN", "UP", "HALF_UP", "HALF_DOWN"):
        n.out(n.node("Trunc", [x, n.const(0.5), n.const(0.0), n.const(8.0), n.const(4.0)], f"y_{m}", GENERAL, rounding_mode=m))
    n.out(n.node("Trunc", [x, n.const(0.5), n.const(3.0), n.const(8.0), n.const(6.0)], "y_zp3", GENERAL, rounding_mode="FLOOR"))
    n.out(n.node("Trunc", [x, n.const(0.5), n.const(0.0), n.const(8.0), n.const(8.0)], "y_same", GENERAL, rounding_mode="FLOOR"))


@case("opset_import lacks the domain (domain onnx.brevitas, ai.onnx 11): Trunc is v1")
def trunc_not_imported(n):
    n.custom, n.opset = (), 11
    x = n.quant(n.input("x", near_ties(n.rng, (1, 60), 0.5, -128, 127)), 0.5, 8, domain="onnx.brevitas")
    n.out(n.node("Trunc", [x, n.const(0.5), n.const(0.0), n.const(8.0), n.const(5.0)], "y", "onnx.brevitas", rounding_mode="FLOOR"))


@case("Trunc v2 (domain version 2): clamp, out_scale, signed/unsigned, narrow, zero point, seven modes")
def trunc_v2(n):
    n.custom = ((GENERAL, 2),)
    x = n.quant(n.input("x", n.rng.permutation(np.arange(-128, 128))[None].astype(F) * F(0.5)), 0.5, 8)  # every code
    u = n.quant(n.input("u", n.rng.permutation(np.arange(256))[None].astype(F) * F(0.5)), 0.5, 8, 0)
    t = lambda x, zp, so, bo, tag, **a: n.out(n.node("Trunc", [x, n.const(0.5), n.const(zp), n.const(8.0), n.const(so), n.const(bo)], f"y_{tag}", GENERAL, **a))
    for m in ("FLOOR", "ROUND", "CEIL", "DOWN", "UP", "HALF_UP", "HALF_DOWN"):
        t(x, 0.0, 8.0, 4.0, m, rounding_mode=m)
    t(x, 0.0, 2.0, 4.0, "saturates", rounding_mode="ROUND", signed=1, narrow=0)
    t(x, 0.0, 2.0, 4.0, "narrow", rounding_mode="ROUND", signed=1, narrow=1)
    t(u, 0.0, 8.0, 4.0, "unsigned", rounding_mode="ROUND", signed=0)
    t(u, 0.0, 8.0, 4.0, "unsigned_narrow", rounding_mode="FLOOR", signed=0, narrow=1)
    t(x, 4.0, 2.0, 6.0, "zp4", rounding_mode="ROUND")
    t(x, 3.0, 2.0, 6.0, "zp3", rounding_mode="FLOOR")
    t(x, 0.0, 3.1, 4.0, "scale_not_a_ratio_of_two", rounding_mode="FLOOR")


def float_values(rng, n, e, m, bias, top):
    """All values of the format below `top`, the ties between them, ulp neighbours, beyond the maximum."""
    grid = sorted({float(k * 2.0 ** (max(x, 1) - bias - m)) for x in range(2**e)
                   for k in (range(2**m) if x == 0 else range(2**m, 2 ** (m + 1)))})
    grid = np.array([g for g in grid if g <= top * 1.6], F)
    mid = (grid[1:] + grid[:-1]) / F(2)
    pool = np.concatenate([beside(rng.permutation(mid)[:n]), beside(rng.permutation(grid)[:n // 2]), beside([top]),
                           np.array([0.0, -0.0, 1e-30, top * 1.01, top * 1.06, top * 1.5, top * 4, 1e30], F)])
    pool = np.concatenate([pool, -pool])
    return rng.permutation(pool)[None].astype(F)


def floatquant(n, x, e, m, bias, top, scale=1.0, out=None, **attrs):
    attrs = dict(dict(has_inf=0, has_nan=0, has_subnormal=1, saturation=1, rounding_mode="ROUND"), **attrs)
    ins = [x] + [n.const(v) for v in (scale, float(e), float(m), float(bias), float(top))]
    n.out(n.node("FloatQuant", ins, out, GENERAL, **attrs))


@case("FloatQuant e4m3 (max 448), e4m3 with the computed maximum 480, scales 1, 0.5, 0.3, per channel, modes ROUND/FLOOR/CEIL/half modes")
def floatquant_e4m3(n):
    x = n.input("x", float_values(n.rng, 50, 4, 3, 7, 448))
    floatquant(n, x, 4, 3, 7, 448, out="y")
    floatquant(n, x, 4, 3, 7, 480, out="y_480")
    floatquant(n, x, 4, 3, 7, 1e9, out="y_max_val_above_the_format")
    for m in ("FLOOR", "CEIL", "UP", "DOWN", "HALF_UP", "HALF_DOWN", "round"):
        floatquant(n, x, 4, 3, 7, 448, rounding_mode=m, out=f"y_{m}")
    floatquant(n, x, 4, 3, 7, 448, 0.5, out="y_scale_half")
    floatquant(n, x, 4, 3, 7, 448, 0.3, out="y_scale_03")


@case("FloatQuant e5m2 (max 57344), e3m2, e2m3, e2m1, e3m0, odd exponent biases")
def floatquant_formats(n):
    for e, m, bias, top in ((5, 2, 15, 57344), (3, 2, 3, 28), (2, 3, 1, 7.5), (2, 1, 1, 6), (3, 0, 3, 16), (4, 3, 8, 240), (3, 4, 5, 7.75)):
        x = n.input(f"x_e{e}m{m}b{bias}", float_values(n.rng, 16, e, m, bias, top))
        floatquant(n, x, e, m, bias, top, out=f"y_e{e}m{m}b{bias}")


@case("FloatQuant one ulp beside every power of two: the exponent is floor(float32 log2), which is one too high just below 2^k for most k")
def floatquant_beside_powers_of_two(n):
    x = beside(2.0 ** np.arange(-12, 10))
    x = n.input("x", np.concatenate([x, -x])[None])
    for m in ("ROUND", "FLOOR", "CEIL", "DOWN"):
        floatquant(n, x, 4, 3, 7, 448, rounding_mode=m, out=f"y_{m}")


@case("FloatQuant saturation=0: inf beyond the maximum with has_inf, NaN with has_nan")
def floatquant_not_saturating(n):
    x = n.input("x", float_values(n.rng, 16, 5, 2, 15, 57344))
    floatquant(n, x, 5, 2, 15, 57344, has_inf=1, has_nan=1, saturation=0, out="y_inf")
    x = n.input("u", float_values(n.rng, 16, 4, 3, 7, 448))
    floatquant(n, x, 4, 3, 7, 448, has_nan=1, saturation=0, out="y_nan")


def thresholds(n, c, k, step=0.5):
    return n.const(np.sort(n.rng.integers(-12, 12, (c, k)), axis=1).astype(F) * F(step), n.name("t"))


@case("MultiThreshold NCHW: per channel and global thresholds, values on thresholds and one ulp beside, out_scale, out_bias")
def multithreshold_nchw(n):
    x = n.input("x", near_ties(n.rng, (2, 3, 5, 4), 1.0, -7, 7))
    t, g = thresholds(n, 3, 15), thresholds(n, 1, 7)
    mt = lambda t, out, **a: n.out(n.node("MultiThreshold", [x, t], out, GENERAL, out_dtype="INT8", **a))
    mt(t, "y")
    mt(t, "y_layout", data_layout="NCHW")
    mt(g, "y_global", out_scale=2.0, out_bias=-1.0)
    mt(t, "y_scaled", out_scale=0.5, out_bias=-3.75)
    mt(t, "y_float", out_scale=0.1, out_bias=-0.7)


@case("MultiThreshold channels last (data_layout NHWC), 2-D NC, and 3-D, whose default layout is NWC: channel last")
def multithreshold_channels_last(n):
    x = n.input("x", near_ties(n.rng, (2, 5, 4, 3), 1.0, -7, 7))
    n.out(n.node("MultiThreshold", [x, thresholds(n, 3, 15)], "y", GENERAL, out_dtype="INT4", data_layout="NHWC", out_bias=-8.0))
    v = n.input("v", near_ties(n.rng, (6, 5), 1.0, -7, 7))
    n.out(n.node("MultiThreshold", [v, thresholds(n, 5, 3)], "y_nc", GENERAL, out_dtype="UINT2"))
    s = n.input("s", near_ties(n.rng, (2, 4, 4), 1.0, -7, 7))
    t = thresholds(n, 4, 7)
    n.out(n.node("MultiThreshold", [s, t], "y_3d_default", GENERAL, out_dtype="UINT3"))
    n.out(n.node("MultiThreshold", [s, t], "y_3d_ncw", GENERAL, out_dtype="UINT3", data_layout="NCW"))


@case("XnorPopcountMatMul on {0,1}: the popcount; MultiThreshold behind it")
def xnor_popcount(n):
    a = n.input("a", n.rng.integers(0, 2, (4, 24)).astype(F))
    h = n.node("XnorPopcountMatMul", [a, n.const(n.rng.integers(0, 2, (24, 6)), "w")], "pop", GENERAL)
    n.out(n.node("MultiThreshold", [h, n.const(n.rng.integers(8, 16, (6, 1)), "t")], "y", GENERAL, out_dtype="BINARY"))


@case("QuantAvgPool2d: sum, then right shift (floor); unsigned and signed")
def quant_avg_pool_2d(n):
    x = n.input("x", n.rng.integers(0, 16, (1, 2, 6, 6)).astype(F))
    s = n.input("s", n.rng.integers(-8, 8, (1, 2, 6, 6)).astype(F))
    a = dict(stride=2, kernel=2, ibits=4, data_layout="NCHW")
    n.out(n.node("QuantAvgPool2d", [x], "y", GENERAL, signed=0, obits=4, **a))
    n.out(n.node("QuantAvgPool2d", [x], "y2", GENERAL, signed=0, obits=2, **a))
    n.out(n.node("QuantAvgPool2d", [s], "ys", GENERAL, signed=1, obits=4, **a))


# ---------------------------------------------------------------- convolution and matrix product

def conv_case(n, shape, wshape, scale=0.25, wscale=0.125, bias=None, x_signed=1, x_zp=0.0, out_scale=0.5, out_bits=8, op="Conv", **attrs):
    """act -> conv (weights behind Quant) -> Quant. `bias`: None, 'float', 'int32' (Quant at scale x*w)."""
    x = n.act("x", shape, scale, 4, x_signed, x_zp)
    ins = [x, n.weight(wshape, wscale)]
    outs = wshape[0] if op == "Conv" else wshape[1] * attrs.get("group", 1)
    if bias:
        sb = np.asarray(scale, F) * np.asarray(wscale, F).reshape(-1) * np.ones(outs, F)
        codes = n.rng.integers(-40, 40, outs) + n.rng.choice([0, 0.5, 0.3], outs)
        b = n.const((codes * sb).astype(F), "bias")
        ins.append(n.quant(b, sb if np.ndim(wscale) else F(sb[0]), 32) if bias == "int32" else b)
    h = n.node(op, ins, "conv", **attrs)
    n.out(n.quant(h, out_scale, out_bits, out="y"), n.quant(n.node("Relu", [h], "relu"), out_scale, out_bits, 0, out="y_relu"))


PER8 = (np.array([1, 0.5, 2, 0.25, 1, 4, 0.5, 1], F) * F(0.125))


@case("Conv 3x3 pads 1, per-tensor weight scale, power-of-two scales: sums exact, output full of ties")
def conv(n):
    conv_case(n, (2, 3, 6, 6), (4, 3, 3, 3), kernel_shape=[3, 3], pads=[1, 1, 1, 1])


@case("Conv per-channel weight scale (C,1,1,1), int32 bias behind Quant with per-channel scale (C)")
def conv_per_channel_bias_int32(n):
    conv_case(n, (1, 3, 6, 6), (8, 3, 3, 3), wscale=PER8.reshape(8, 1, 1, 1), bias="int32", kernel_shape=[3, 3], pads=[1, 1, 1, 1])


@case("Conv with float bias that lies off the accumulator grid")
def conv_bias_float(n):
    conv_case(n, (1, 3, 6, 6), (4, 3, 3, 3), bias="float", kernel_shape=[3, 3], pads=[1, 1, 1, 1])


@case("Conv group 2")
def conv_groups(n):
    conv_case(n, (1, 4, 6, 6), (6, 2, 3, 3), kernel_shape=[3, 3], group=2, pads=[1, 1, 1, 1])


@case("Conv depthwise, multiplier 1 and stride 2")
def conv_depthwise(n):
    conv_case(n, (1, 8, 7, 7), (8, 1, 3, 3), wscale=PER8.reshape(8, 1, 1, 1), bias="int32", kernel_shape=[3, 3], group=8, strides=[2, 2], pads=[1, 1, 1, 1])


@case("Conv depthwise with channel multiplier 2")
def conv_depthwise_multiplier(n):
    conv_case(n, (1, 3, 5, 5), (6, 1, 3, 3), kernel_shape=[3, 3], group=3)


@case("Conv dilation (2,3), kernel 3x2")
def conv_dilation(n):
    conv_case(n, (1, 2, 9, 9), (3, 2, 3, 2), kernel_shape=[3, 2], dilations=[2, 3], pads=[2, 1, 2, 1])


@case("Conv asymmetric pads [0,1,2,3], strides (2,3), kernel 3x4")
def conv_asymmetric_pads(n):
    conv_case(n, (1, 2, 8, 9), (3, 2, 3, 4), kernel_shape=[3, 4], strides=[2, 3], pads=[0, 1, 2, 3])


@case("Conv auto_pad SAME_UPPER and SAME_LOWER with stride 2 on even and odd sizes")
def conv_auto_pad(n):
    x = n.act("x", (1, 2, 6, 7))
    for pad in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        h = n.node("Conv", [x, n.weight((3, 2, 3, 2))], f"conv_{pad}", auto_pad=pad, strides=[2, 2], kernel_shape=[3, 2])
        n.out(n.quant(h, 0.5, 8, out=f"y_{pad}"))


@case("Conv with zero point 5 on the input: padding is real 0, that is code 5, not code 0")
def conv_input_zero_point(n):
    conv_case(n, (1, 3, 6, 6), (4, 3, 3, 3), x_signed=0, x_zp=5.0, kernel_shape=[3, 3], pads=[1, 1, 1, 1])


@case("Conv 1x1 without kernel_shape attribute")
def conv_1x1(n):
    conv_case(n, (1, 5, 4, 4), (4, 5, 1, 1))


@case("Conv 1-D, stride 2, pads [2,1]")
def conv_1d(n):
    conv_case(n, (2, 3, 15), (4, 3, 4), kernel_shape=[4], strides=[2], pads=[2, 1])


@case("Conv with 8-bit weights and activations, scales no power of two: float32 summation, near-ties may flip")
def conv_float_scale(n):
    x = n.act("x", (1, 8, 6, 6), 0.0123, 8)
    w = n.weight((4, 8, 3, 3), np.array([0.0031, 0.0047, 0.002, 0.0077], F).reshape(4, 1, 1, 1), 8)
    h = n.node("Conv", [x, w], "conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    n.out(n.quant(h, 0.031, 8, out="y"))


@case("Conv with per-channel (1,C,1,1) input scale")
def conv_input_scale_per_channel(n):
    conv_case(n, (1, 4, 5, 5), (3, 4, 3, 3), scale=np.array([0.25, 0.5, 0.125, 1], F).reshape(1, 4, 1, 1), kernel_shape=[3, 3])


@case("ConvTranspose 2x2 stride 2")
def conv_transpose(n):
    conv_case(n, (1, 3, 4, 4), (3, 2, 2, 2), op="ConvTranspose", kernel_shape=[2, 2], strides=[2, 2])


@case("ConvTranspose 3x3 stride 2, group 2, pads [1,0,1,1], output_padding, dilation, bias int32")
def conv_transpose_overlap(n):
    conv_case(n, (1, 4, 4, 5), (4, 3, 3, 3), op="ConvTranspose", bias="int32", kernel_shape=[3, 3], strides=[2, 2], group=2, pads=[1, 0, 1, 1], output_padding=[1, 0], dilations=[1, 2])


@case("Conv whose weights pass Quant, then Transpose, before use")
def conv_weight_transposed(n):
    x = n.act("x", (1, 3, 5, 5))
    w = n.node("Transpose", [n.weight((3, 3, 3, 4))], "w_t", perm=[3, 0, 1, 2])
    n.out(n.quant(n.node("Conv", [x, w], "conv", kernel_shape=[3, 3]), 0.5, 8, out="y"))


@case("one quantized weight feeding two Convs on two feature maps with different scales, separate output quantizers")
def conv_shared_weight(n):
    a, b, w = n.act("a", (1, 3, 6, 6), 0.25), n.act("b", (1, 3, 4, 4), 0.5, 4, 0), n.weight((4, 3, 3, 3))
    for tag, x, s in (("a", a, 0.5), ("b", b, 1.0)):
        n.out(n.quant(n.node("Conv", [x, w], f"conv_{tag}", kernel_shape=[3, 3], pads=[1] * 4), s, 8, out=f"y_{tag}"))


@case("one float weight behind two Quants (Brevitas writes a shared module so), two Convs")
def conv_shared_weight_two_quants(n):
    a, b = n.act("a", (1, 3, 6, 6), 0.25), n.act("b", (1, 3, 4, 4), 0.5, 4, 0)
    w = n.const((n.rng.integers(-8, 8, (4, 3, 3, 3)) * 0.125 + n.rng.choice([0, 0.0625], (4, 3, 3, 3))).astype(F), "w")
    for tag, x, s in (("a", a, 0.5), ("b", b, 1.0)):
        wq = n.quant(w, 0.125, 4, 1, 1, out=f"wq_{tag}")
        n.out(n.quant(n.node("Conv", [x, wq], f"conv_{tag}", kernel_shape=[3, 3], pads=[1] * 4), s, 8, out=f"y_{tag}"))


@case("residual block: Conv-BN-Relu-Quant-Conv-BN-Quant, Add with the skip, Quant, Relu, Quant")
def residual_block(n):
    x = n.act("x", (1, 4, 6, 6))
    bn = lambda h: n.node("BatchNormalization", [h] + [n.const(v) for v in (n.rng.choice([0.5, 1, 2], 4), n.rng.integers(-4, 4, 4) * 0.25, n.rng.integers(-4, 4, 4) * 0.25, n.rng.uniform(0.5, 2, 4))])
    conv = lambda h: n.node("Conv", [h, n.weight((4, 4, 3, 3))], kernel_shape=[3, 3], pads=[1] * 4)
    h = n.quant(n.node("Relu", [bn(conv(x))]), 0.25, 4, 0)
    h = n.quant(bn(conv(h)), 0.25, 4)
    h = n.quant(n.node("Add", [h, x], "add"), 0.5, 4)
    n.out(n.quant(n.node("Relu", [h]), 0.5, 3, 0, out="y"))


@case("qonnx.custom_op.channels_last Conv (NHWC data, weights O,kh,kw,I), with and without group")
def channels_last_conv(n):
    n.custom = ((GENERAL, 1), ("qonnx.custom_op.channels_last", 1))
    x = n.known_shape(n.act("x", (1, 6, 5, 4)), (1, 6, 5, 4))
    a = dict(kernel_shape=[3, 2], strides=[1, 2], dilations=[1, 1])
    w = n.known_shape(n.weight((3, 3, 2, 4)), (3, 3, 2, 4))
    h = n.node("Conv", [x, w], "conv", "qonnx.custom_op.channels_last", pads=[1, 0, 1, 1], group=1, **a)
    n.out(n.quant(h, 0.5, 8, out="y"))
    w = n.known_shape(n.weight((4, 3, 2, 1)), (4, 3, 2, 1))
    h = n.node("Conv", [x, w], "conv_dw", "qonnx.custom_op.channels_last", pads=[0, 0, 0, 0], group=4, **a)
    n.out(n.quant(h, 0.5, 8, out="y_dw"))


@case("qonnx.custom_op.channels_last MaxPool (domain version 1)")
def channels_last_maxpool(n):
    n.custom = ((GENERAL, 1), ("qonnx.custom_op.channels_last", 1))
    x = n.known_shape(n.act("x", (1, 6, 6, 3)), (1, 6, 6, 3))
    p = n.node("MaxPool", [x], "pool", "qonnx.custom_op.channels_last", kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 0, 0])
    n.out(n.quant(p, 0.5, 4, out="y_pool"))


@case("qonnx.custom_op.channels_last BatchNormalization (domain version 14)")
def channels_last_bn(n):
    n.custom = ((GENERAL, 1), ("qonnx.custom_op.channels_last", 14))
    x = n.known_shape(n.act("x", (1, 4, 4, 3)), (1, 4, 4, 3))
    b = n.node("BatchNormalization", [x] + [n.const(v) for v in ([1, 0.5, 2], [0.25, -1, 0.5], [0.5, 0, -1], [1, 4, 0.25])], "bn", "qonnx.custom_op.channels_last", epsilon=1e-5, momentum=0.9)
    n.out(n.quant(b, 0.25, 8, out="y_bn"))


@case("Im2Col (patches ordered kh, kw, C), then MatMul; qonnx demands an integer annotation on its input")
def im2col(n):
    x = n.act("x", (1, 5, 5, 2), 1.0)
    n.annotations = {x: "INT4"}
    h = n.node("Im2Col", [x], "cols", GENERAL, stride=[1, 1], kernel_size=[3, 3], input_shape="(1,5,5,2)", pad_amount=[1, 1, 1, 1], pad_value=0, depthwise=0, dilations=[1, 1])
    n.out(n.quant(n.node("MatMul", [h, n.weight((18, 4))], "mm"), 0.5, 8, out="y"))


@case("Gemm: transA, transB, alpha, beta, C as (N), (1,N), (M,1), scalar, missing")
def gemm(n):
    x, t = n.act("x", (4, 9)), n.act("t", (9, 4))
    w, wt = n.weight((9, 5)), n.weight((5, 9), np.array([1, 0.5, 2, 1, 0.25], F).reshape(5, 1) * F(0.125))
    c = lambda *s: n.const(n.rng.integers(-16, 16, s) * 0.03125)
    for i, (ins, a) in enumerate((([x, w, c(5)], {}), ([x, wt, c(1, 5)], dict(transB=1)), ([t, w, c(4, 1)], dict(transA=1)),
                                  ([t, wt], dict(transA=1, transB=1, alpha=0.5)), ([x, w, c()], dict(alpha=2.0, beta=0.5)), ([x, w, c(4, 5)], dict(beta=0.0)))):
        n.out(n.quant(n.node("Gemm", ins, f"gemm_{i}", **a), 0.25, 6, out=f"y_{i}"))


@case("Gemm classifier: 8-bit weights per channel, int32 bias, scales no power of two")
def gemm_float_scale(n):
    x, s = n.act("x", (4, 32), 0.047, 8, 0), np.array([0.0031, 0.0047, 0.002, 0.0077, 0.01], F)
    b = n.quant(n.const(n.rng.uniform(-2, 2, 5), "b"), s * F(0.047), 32)
    n.out(n.quant(n.node("Gemm", [x, n.weight((5, 32), s.reshape(5, 1), 8), b], "gemm", transB=1), 0.11, 8, out="y"))


@case("MatMul with constant weights, 2-D and batched 3-D activations, then Add bias")
def matmul(n):
    x = n.act("x", (2, 3, 8))
    h = n.node("Add", [n.node("MatMul", [x, n.weight((8, 5))], "mm"), n.quant(n.const(n.rng.integers(-20, 20, 5) / 32), 0.03125, 32)], "add")
    n.out(n.quant(h, 0.25, 6, out="y"))


@case("MatMul with the constant on the left")
def matmul_constant_left(n):
    x = n.act("x", (2, 8, 3))
    n.out(n.quant(n.node("MatMul", [n.weight((5, 8)), x], "mm"), 0.25, 6, out="y"))


@case("MatMul activation by activation, batched, broadcast batch, zero points on both sides, Transpose between")
def matmul_two_activations(n):
    a, b = n.act("a", (2, 3, 4, 5), 0.25, 4, 0, 3.0), n.act("b", (1, 3, 6, 5), 0.5, 4, 0, 5.0)
    n.out(n.quant(n.node("MatMul", [a, n.node("Transpose", [b], perm=[0, 1, 3, 2])], "mm"), 0.5, 6, out="y"))


# ---------------------------------------------------------------- elementwise

@case("Add: equal scales, different scales, broadcasts, constant operand, same tensor twice, zero points")
def add(n):
    a, b = n.act("a", (2, 3, 4, 5), 0.25), n.act("b", (2, 3, 4, 5), 0.25)
    c, d = n.act("c", (1, 3, 1, 1), 0.5, 4, 0, 3.0), n.act("d", (4, 5), 0.125, 8)
    pairs = dict(equal=(a, b), scales=(a, d), broadcast=(c, a), const=(a, n.const(n.rng.integers(-8, 8, (3, 1, 1)) / 16)), twice=(a, a))
    for k, (p, q) in pairs.items():
        n.out(n.quant(n.node("Add", [p, q], f"add_{k}"), 0.5, 4, out=f"y_{k}"))


@case("Sub: both orders, different scales, constants on either side, broadcast")
def sub(n):
    a, b = n.act("a", (2, 3, 4, 5), 0.25), n.act("b", (3, 1, 5), 0.5, 4, 0)
    k = n.const(1.125)
    for i, (p, q) in enumerate(((a, b), (b, a), (a, k), (k, a))):
        n.out(n.quant(n.node("Sub", [p, q], f"sub_{i}"), 0.5, 4, out=f"y_{i}"))


@case("Mul: activation by activation (odd zero points), by constant, by per-channel gate, square")
def mul(n):
    a, g = n.act("a", (2, 3, 4, 5), 0.25, 4, 0, 5.0), n.act("g", (2, 3, 1, 1), 0.125, 3, 0)
    for i, (p, q) in enumerate(((a, g), (a, a), (a, n.const(1.5)), (a, n.const(n.rng.choice([0.5, -0.25, 1.5], (3, 1, 1)))))):
        n.out(n.quant(n.node("Mul", [p, q], f"mul_{i}"), 0.5, 5, out=f"y_{i}"))


@case("Div by a constant scalar and per channel")
def div(n):
    a = n.act("a", (2, 3, 4, 5), 0.25, 4, 0, 5.0)
    n.out(n.quant(n.node("Div", [a, n.const(3.0)], "div"), 0.25, 4, out="y"))
    n.out(n.quant(n.node("Div", [a, n.const(np.array([2, -0.5, 8]).reshape(3, 1, 1))], "div_c"), 0.25, 4, out="y_c"))


@case("Add and Mul with scales that are no power of two: float32 results near ties")
def add_mul_float_scale(n):
    a, b = n.act("a", (1, 400), 0.0123, 8), n.act("b", (1, 400), 0.0231, 8, 0, 129.0)
    n.out(n.quant(n.node("Add", [a, b], "add"), 0.0331, 8, out="y_add"), n.quant(n.node("Mul", [a, b], "mul"), 0.0151, 8, out="y_mul"))


@case("Relu, Clip (0..6 inputs, only min, only max, ReLU6), LeakyRelu (default 0.01, 0.1, 0.125), PRelu per channel and scalar")
def activations_piecewise(n):
    x = n.act("x", (1, 3, 6, 6), 0.25, 6)
    q = lambda h, tag: n.out(n.quant(h, 0.5, 5, out=f"y_{tag}"))
    q(n.node("Relu", [x], "relu"), "relu")
    q(n.node("Clip", [x, n.const(0.0), n.const(6.0)], "clip6"), "clip6")
    q(n.node("Clip", [x, n.const(-1.25), n.const(2.75)], "clip"), "clip")
    for tag, a in (("default", {}), ("01", dict(alpha=0.1)), ("eighth", dict(alpha=0.125))):
        q(n.node("LeakyRelu", [x], f"leaky_{tag}", **a), f"leaky_{tag}")
    q(n.node("PRelu", [x, n.const(np.array([0.5, -0.25, 0.3]).reshape(3, 1, 1))], "prelu"), "prelu")
    q(n.node("PRelu", [x, n.const([0.25])], "prelu_1"), "prelu_1")


@case("Clip with attributes (opset 6)")
def clip_attributes(n):
    n.opset = 9
    n.out(n.quant(n.node("Clip", [n.act("x", (1, 80), 0.25, 6)], "clip", min=0.0, max=6.0), 0.5, 4, 0, out="y"))


@case("Sigmoid, Tanh, HardSigmoid (default and 1/6, 0.5), HardSwish on every 8-bit code; saturating to uint8 at 1/256")
def activations_smooth(n):
    codes = np.arange(-128, 128, dtype=F)[None] * F(0.0625)
    x = n.quant(n.input("x", codes), 0.0625, 8)
    for op, a in (("Sigmoid", {}), ("Tanh", {}), ("HardSigmoid", {}), ("HardSigmoid", dict(alpha=1 / 6, beta=0.5)), ("HardSwish", {})):
        tag = op.lower() + "_6" * bool(a)
        h = n.node(op, [x], tag, **a)
        n.out(n.quant(h, 0.0625, 8, out=f"y_{tag}"), n.quant(h, 1 / 256, 8, 0, out=f"y256_{tag}"))


@case("HardSwish as PyTorch's exporter writes it: Add 3, Clip 0..6, Div 6, Mul; and HardSigmoid*x")
def hardswish_decomposed(n):
    x = n.quant(n.input("x", np.arange(-128, 128, dtype=F)[None] * F(0.0625)), 0.0625, 8)
    g = n.node("Div", [n.node("Clip", [n.node("Add", [x, n.const(3.0)]), n.const(0.0), n.const(6.0)]), n.const(6.0)], "gate")
    n.out(n.quant(n.node("Mul", [x, g], "hs"), 0.0625, 8, out="y"))
    g = n.node("HardSigmoid", [x], "gate2", alpha=1 / 6, beta=0.5)
    n.out(n.quant(n.node("Mul", [x, g], "hs2"), 0.0625, 8, out="y2"))


@case("Softmax axis -1 and axis 1, quantized to 1/256")
def softmax(n):
    x = n.act("x", (2, 5, 7), 0.25, 6)
    for axis in (-1, 1):
        n.out(n.quant(n.node("Softmax", [x], f"softmax_{axis % 3}", axis=axis), 1 / 256, 8, 0, out=f"y_{axis % 3}"))


@case("Softmax in opset 11: default axis 1, flattened to 2-D")
def softmax_opset11(n):
    n.opset = 11
    n.out(n.quant(n.node("Softmax", [n.act("x", (2, 5, 7), 0.25, 6)], "softmax"), 1 / 256, 8, 0, out="y"))


@case("BatchNormalization alone (2-D and 4-D, epsilon), and after Conv")
def batchnorm(n):
    p = lambda: [n.const(v) for v in (n.rng.choice([0.5, -1, 2], 3), n.rng.integers(-4, 4, 3) * 0.25, n.rng.integers(-4, 4, 3) * 0.25, n.rng.choice([0.25, 1, 4, 1.7], 3))]
    x = n.act("x", (2, 3, 4, 4))
    n.out(n.quant(n.node("BatchNormalization", [x] + p(), "bn"), 0.25, 6, out="y"))
    n.out(n.quant(n.node("BatchNormalization", [x] + p(), "bn_eps0", epsilon=0.0), 0.25, 6, out="y_eps0"))
    h = n.node("Conv", [x, n.weight((3, 3, 3, 3))], "conv", kernel_shape=[3, 3])
    n.out(n.quant(n.node("BatchNormalization", [h] + p(), "bn_conv", epsilon=1e-3), 0.5, 6, out="y_conv"))
    v = n.act("v", (5, 3))
    n.out(n.quant(n.node("BatchNormalization", [v] + p(), "bn_2d"), 0.25, 6, out="y_2d"))


# ---------------------------------------------------------------- pools and reductions

@case("MaxPool: pads (never win), asymmetric pads, ceil_mode, dilations, overlapping stride; negative inputs with padding; 1-D")
def maxpool(n):
    x = n.act("x", (1, 2, 7, 7), 0.25, 4)
    neg = n.quant(n.node("Sub", [x, n.const(2.5)]), 0.25, 6)
    for i, (src, a) in enumerate(((x, dict(kernel_shape=[2, 2], strides=[2, 2])), (neg, dict(kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])),
                                  (x, dict(kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)), (neg, dict(kernel_shape=[3, 2], strides=[1, 1], pads=[0, 1, 2, 0])),
                                  (x, dict(kernel_shape=[2, 2], dilations=[2, 3])), (neg, dict(kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1)))):
        n.out(n.quant(n.node("MaxPool", [src], f"pool_{i}", **a), 0.5, 4, out=f"y_{i}"))
    n.out(n.quant(n.node("MaxPool", [n.act("s", (1, 3, 9))], "pool_1d", kernel_shape=[3], strides=[2]), 0.5, 4, out="y_1d"))


@case("AveragePool: kernels 2, 3, 2x3; count_include_pad 0 and 1, asymmetric pads, ceil_mode with both; borders divide by other counts; input zero point")
def averagepool(n):
    n.opset = 19
    x = n.act("x", (1, 2, 7, 7), 0.25, 5, 0, 3.0)
    for i, a in enumerate((dict(kernel_shape=[2, 2], strides=[2, 2]), dict(kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4, count_include_pad=0),
                           dict(kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4, count_include_pad=1), dict(kernel_shape=[2, 3], strides=[2, 2], pads=[1, 0, 0, 1], count_include_pad=1),
                           dict(kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1), dict(kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 0, 0], ceil_mode=1, count_include_pad=1))):
        n.out(n.quant(n.node("AveragePool", [x], f"pool_{i}", **a), 0.25, 5, out=f"y_{i}"))


@case("GlobalAveragePool over 16 (exact) and 49 values, ReduceMean (attribute axes, keepdims 0 and 1)")
def reductions(n):
    x, z = n.act("x", (2, 3, 4, 4), 0.25, 4), n.act("z", (2, 3, 7, 7), 0.25, 4, 0)
    q = lambda h, tag: n.out(n.quant(h, 0.25, 8, out=f"y_{tag}"))
    q(n.node("GlobalAveragePool", [x], "gap16"), "gap16")
    q(n.node("GlobalAveragePool", [z], "gap49"), "gap49")
    q(n.node("ReduceMean", [x], "mean_keep", axes=[2, 3], keepdims=1), "mean_keep")
    q(n.node("ReduceMean", [z], "mean", axes=[-1, -2], keepdims=0), "mean")
    q(n.node("ReduceMean", [x], "mean_c", axes=[1]), "mean_c")


@case("ReduceMean with axes as input (opset 18)")
def reduce_mean_opset18(n):
    n.opset = 18
    x = n.act("x", (2, 3, 4, 4), 0.25, 4)
    n.out(n.quant(n.node("ReduceMean", [x, n.const([2, 3], dtype=I64)], "mean", keepdims=0), 0.25, 8, out="y"))


# ---------------------------------------------------------------- moving data

@case("Concat: equal scales, and different scales followed by Quant; channel and width axis, negative axis")
def concat(n):
    a, b, c = n.act("a", (1, 2, 4, 4), 0.25), n.act("b", (1, 3, 4, 4), 0.25), n.act("c", (1, 2, 4, 4), 0.5, 4, 0, 3.0)
    h = n.node("Concat", [a, b], "equal", axis=1)
    n.out(n.quant(h, 0.25, 4, out="y_equal"), n.quant(h, 0.5, 4, out="y_equal_coarse"))
    n.out(n.quant(n.node("Concat", [a, b, c], "different", axis=-3), 0.5, 4, out="y_different"), n.quant(n.node("Concat", [a, c], "width", axis=-1), 0.25, 4, out="y_width"))


@case("Pad: constant 0, constant value off the grid, reflect, edge, negative pads; zero point")
def pad(n):
    x = n.act("x", (1, 2, 4, 5), 0.25, 4, 0, 3.0)
    p = lambda *v: n.const(v, dtype=I64)
    for i, (ins, a) in enumerate((([x, p(0, 0, 1, 2, 0, 0, 2, 1)], {}), ([x, p(0, 1, 1, 1, 0, 0, 1, 1), n.const(-0.6)], dict(mode="constant")),
                                  ([x, p(0, 0, 2, 1, 0, 0, 1, 3)], dict(mode="reflect")), ([x, p(0, 0, 2, 1, 0, 0, 1, 3)], dict(mode="edge")), ([x, p(0, 0, -1, 1, 0, 0, 1, -2)], {}))):
        n.out(n.quant(n.node("Pad", ins, f"pad_{i}", **a), 0.5, 4, out=f"y_{i}"))


@case("Pad with attributes (opset 10)")
def pad_attributes(n):
    n.opset = 10
    n.out(n.quant(n.node("Pad", [n.act("x", (1, 2, 4, 5))], "pad", mode="constant", pads=[0, 0, 1, 0, 0, 0, 2, 3], value=0.5), 0.5, 4, out="y"))


@case("Pad behind PyTorch's pads subgraph (ConstantOfShape, Concat, Reshape, Slice with step -1, Transpose, Reshape, Cast), then Conv")
def pad_torch_subgraph(n):
    x = n.act("x", (1, 2, 4, 5))
    i = lambda *v: n.const(v, dtype=I64)
    zeros = n.node("ConstantOfShape", [i(4)], "zeros", value=numpy_helper.from_array(np.zeros(1, I64)))
    h = n.node("Reshape", [n.node("Concat", [i(1, 2, 3, 0), zeros], "padding", axis=0), i(-1, 2)], "pairs")
    h = n.node("Slice", [h, i(-1), i(-9223372036854775807), i(0), i(-1)], "flipped")
    h = n.node("Reshape", [n.node("Transpose", [h], "transposed", perm=[1, 0]), i(-1)], "flat")
    h = n.node("Pad", [x, n.node("Cast", [h], "pads", to=TensorProto.INT64), n.const(0.0)], "pad", mode="constant")
    n.out(n.quant(n.node("Conv", [h, n.weight((3, 2, 3, 3))], "conv", kernel_shape=[3, 3]), 0.5, 8, out="y"))


@case("Reshape (with -1 and 0), Flatten (axis 1, 0, 2), Squeeze, Unsqueeze, Identity, Dropout, Cast to float")
def reshapes(n):
    x = n.act("x", (2, 3, 1, 4))
    i = lambda *v: n.const(v, dtype=I64)
    hs = dict(reshape=n.node("Reshape", [x, i(0, -1)], "reshape"), flatten=n.node("Flatten", [x], "flatten"), flatten0=n.node("Flatten", [x], "flatten0", axis=0),
              flatten2=n.node("Flatten", [x], "flatten2", axis=2), squeeze=n.node("Squeeze", [x, i(2)], "squeeze"), unsqueeze=n.node("Unsqueeze", [x, i(0, -1)], "unsqueeze"),
              identity=n.node("Identity", [x], "identity"), dropout=n.node("Dropout", [x], "dropout"), cast=n.node("Cast", [x], "cast", to=1))
    for k, h in hs.items():
        n.out(n.quant(h, 0.5, 4, out=f"y_{k}"))


@case("Squeeze, Unsqueeze, with axes as attributes (opset 11), Dropout with ratio")
def reshapes_opset11(n):
    n.opset = 11
    x = n.act("x", (2, 3, 1, 4))
    n.out(n.quant(n.node("Squeeze", [x], "squeeze", axes=[2]), 0.5, 4, out="y_s"), n.quant(n.node("Unsqueeze", [x], "unsqueeze", axes=[0]), 0.5, 4, out="y_u"), n.quant(n.node("Dropout", [x], "dropout", ratio=0.5), 0.5, 4, out="y_d"))


@case("dynamic reshape: Shape, Gather, Unsqueeze, Concat, Reshape, then Gemm")
def reshape_dynamic(n):
    x = n.act("x", (2, 3, 2, 2))
    i = lambda v: n.const(v, dtype=I64)
    b = n.node("Unsqueeze", [n.node("Gather", [n.node("Shape", [x], "shape"), i(0)], "batch", axis=0), i([0])], "batch_1")
    h = n.node("Reshape", [x, n.node("Concat", [b, i([-1])], "target", axis=0)], "reshape")
    n.out(n.quant(n.node("Gemm", [h, n.weight((5, 12))], "gemm", transB=1), 0.5, 6, out="y"))


@case("Transpose (NHWC and back), Slice (steps, negative, axes), Split (equal and given sizes)")
def transpose_slice_split(n):
    x = n.act("x", (2, 6, 4, 5))
    i = lambda *v: n.const(v, dtype=I64)
    hs = [n.node("Transpose", [x], "nhwc", perm=[0, 2, 3, 1]), n.node("Slice", [x, i(1), i(5), i(1)], "slice_c"), n.node("Slice", [x, i(-1, 0), i(-9223372036854775807, 4), i(3, 2), i(-2, 2)], "slice_step")]
    hs += n.node("Split", [x], "split", n_out=2, axis=1) + n.node("Split", [x, i(1, 3, 2)], "split_sizes", n_out=3, axis=1)
    hs.append(n.node("Transpose", [hs[0]], "nchw", perm=[0, 3, 1, 2]))
    for h in hs:
        n.out(n.quant(h, 0.5, 4, out=f"y_{h}"))


@case("Resize by scales: nearest asymmetric+floor (factors 2 and 1.5), nearest half_pixel+round_prefer_floor, round_prefer_ceil, ceil, linear half_pixel, linear align_corners, linear asymmetric, pytorch_half_pixel")
def resize(n):
    x = n.act("x", (1, 2, 4, 5))
    for i, (f, a) in enumerate((([2, 2], dict(mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")), ([1.5, 1.6], dict(mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")),
                                ([2, 3], dict(mode="nearest", coordinate_transformation_mode="half_pixel", nearest_mode="round_prefer_floor")), ([1.5, 0.5], dict(mode="nearest", coordinate_transformation_mode="half_pixel", nearest_mode="round_prefer_ceil")),
                                ([2, 2], dict(mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="ceil")), ([2, 2], dict(mode="linear", coordinate_transformation_mode="half_pixel")), ([2, 2], dict(mode="linear", coordinate_transformation_mode="align_corners")),
                                ([2, 2], dict(mode="linear", coordinate_transformation_mode="asymmetric")), ([2, 2], dict(mode="linear", coordinate_transformation_mode="pytorch_half_pixel")))):
        h = n.node("Resize", [x, n.const([]), n.const([1, 1] + f)], f"resize_{i}", **a)
        n.out(n.quant(h, 0.5, 4, out=f"y_{i}"))


@case("Upsample (opset 9), nearest x2 and linear x2")
def upsample_opset9(n):
    n.opset = 9
    x = n.act("x", (1, 2, 4, 5))
    for mode in ("nearest", "linear"):
        n.out(n.quant(n.node("Upsample", [x, n.const([1, 1, 2, 2])], mode, mode=mode), 0.5, 4, out=f"y_{mode}"))


@case("DepthToSpace DCR and CRD")
def depth_to_space(n):
    x = n.act("x", (1, 8, 3, 4))
    for mode in ("DCR", "CRD"):
        n.out(n.quant(n.node("DepthToSpace", [x], mode.lower(), blocksize=2, mode=mode), 0.5, 4, out=f"y_{mode}"))


@case("Resize by sizes, with empty names for roi and scales (PyTorch writes this)")
def resize_sizes(n):
    x = n.act("x", (1, 2, 4, 5))
    h = n.node("Resize", [x, "", "", n.const([1, 2, 6, 10], dtype=I64)], "resize", mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    n.out(n.quant(h, 0.5, 4, out="y"))


@case("Clip with an empty name for the minimum")
def clip_empty_input(n):
    n.out(n.quant(n.node("Clip", [n.act("x", (1, 80), 0.25, 6), "", n.const(1.5)], "clip"), 0.5, 4, out="y"))


# ---------------------------------------------------------------- rarer operators, apart, so that a tool without them loses only these

@case("Abs, Neg, Min, Max, Softplus, Elu, Erf, Exp, Sqrt on every 8-bit code")
def extra_unary(n):
    x = n.quant(n.input("x", np.arange(-128, 128, dtype=F)[None] * F(0.0625)), 0.0625, 8)
    p = n.node("Abs", [x], "abs")
    hs = [p, n.node("Max", [x, n.const(0.75)], "max"), n.node("Min", [x, n.const(0.75)], "min"), n.node("Sqrt", [p], "sqrt")]
    hs += [n.node(op, [x], op.lower()) for op in ("Neg", "Softplus", "Elu", "Erf", "Exp")]
    for h in hs:
        n.out(n.quant(h, 0.125, 8, out=f"y_{h}"))


@case("GlobalMaxPool, ReduceSum (axes input), ReduceMax")
def extra_reductions(n):
    x = n.act("x", (2, 3, 4, 4), 0.25, 4)
    hs = [n.node("GlobalMaxPool", [x], "gmp"), n.node("ReduceSum", [x, n.const([3], dtype=I64)], "sum", keepdims=0), n.node("ReduceMax", [x], "max", axes=[2, 3])]
    for h in hs:
        n.out(n.quant(h, 0.5, 8, out=f"y_{h}"))


@case("Gather on channels, Expand, SpaceToDepth")
def extra_moves(n):
    x = n.act("x", (1, 6, 4, 1))
    hs = [n.node("Gather", [x, n.const([5, 0, 3], dtype=I64)], "gather", axis=1), n.node("Expand", [x, n.const([2, 6, 4, 3], dtype=I64)], "expand"),
          n.node("SpaceToDepth", [n.act("z", (1, 2, 4, 6))], "s2d", blocksize=2)]
    for h in hs:
        n.out(n.quant(h, 0.5, 4, out=f"y_{h}"))


# ---------------------------------------------------------------- annotations and file forms

@case("quantization_annotation finn_datatype: inputs within 0.01 of integers are rounded before the node (INT4, UINT8, BIPOLAR), FINN style integer MatMul and MultiThreshold")
def annotations_rounded(n):
    codes = n.rng.integers(-8, 8, (3, 10)).astype(F)
    x = n.input("x", codes + n.rng.choice(np.array([0, 0.004, -0.0099, 1e-6], F), codes.shape))
    n.const(n.rng.choice([-1, 1], (10, 4)), "w")
    h = n.node("MatMul", [x, "w"], "mm")
    n.node("MultiThreshold", [h, thresholds(n, 4, 15, 1.0)], "y", GENERAL, out_dtype="UINT4")
    n.annotations = dict(x="INT4", w="BIPOLAR", mm="INT32", y="UINT4")
    n.out("y")


@case("quantization_annotation on a Quant network: SCALEDINT and FLOAT32 entries change nothing")
def annotations_scaled(n):
    h = n.act("x", (2, 12))
    n.node("Quant", [n.node("MatMul", [h, n.weight((12, 3))], "mm"), n.const(0.5), n.const(0.0), n.const(8.0)], "y", GENERAL, signed=1, narrow=0, rounding_mode="ROUND")
    n.annotations = {h: "SCALEDINT<4>", "mm": "FLOAT32", "y": "SCALEDINT<8>"}
    n.out("y")


@case("initializers that are also graph inputs (IR version 3 style), and value_info for every tensor")
def initializers_as_inputs(n):
    h = n.act("x", (2, 12))
    n.out(n.quant(n.node("MatMul", [h, n.weight((12, 3))], "mm"), 0.5, 8, out="y"))
    n.init_inputs = True


@case("input consumed by a standard op before any Quant, and a branch that stays float")
def float_branches(n):
    x = n.input("x", near_ties(n.rng, (2, 40), 0.25, -8, 7))
    h = n.node("Mul", [x, n.const(0.5)], "scaled")
    n.out(n.quant(h, 0.25, 4, out="y"), n.node("Relu", [h], "float_out"))


# ---------------------------------------------------------------- writing

README = """# Operator recordings from the qonnx executor
Made by `golden/recorders/qonnx_ops.py` with qonnx 1.0.0, onnxruntime 1.32.0, numpy 2.4.6; licence Apache-2.0 OR MIT.
Each folder: `model.onnx`, `inputs.npz` (keys: graph inputs), `outputs.npz` (keys: every tensor that a node writes,
as executed), `recording.toml` (provenance, sha256, number of exact ties). `*-float-scale` cases have scales that are
no power of two, so float32 summation order can move a near-tie. In the others every sum and product is exact in
float32; only divisions, means over other counts than powers of two, BatchNormalization, and smooth functions round.

| case | what it covers |
|---|---|
@TABLE@

Left out, because qonnx 1.0.0 does not execute them:

| thing | reason |
|---|---|
| Quant with a bit width per channel | `if bitwidth == 1 and signed`: truth value of an array is ambiguous |
| Quant without `narrow` or `signed`, Trunc without `rounding_mode` | required attribute, although the class names a default |
| `channels_last` MaxPool with `ceil_mode` under domain version 1 | runs as ai.onnx MaxPool of opset 1: "Unrecognized attribute: ceil_mode" (from version 10 it runs) |
| `channels_last` operators behind Quant without value_info | shape inference asks for the input shape too early: TypeError on None |
| Im2Col without a `finn_datatype` annotation on its input | AttributeError on None |
"""

def tie_counts(proto, feeds, values):
    """How many elements of each integer quantizer's input lie exactly on a tie, and how many saturate."""
    consts = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    consts |= {n.output[0]: numpy_helper.to_array(n.attribute[0].t) for n in proto.graph.node if n.op_type == "Constant"}
    known = consts | feeds | values
    ties = 0
    for node in proto.graph.node:
        if node.op_type in ("Quant", "IntQuant") and node.input[0] not in consts:
            x, s, z = (known[k].astype(np.float64) for k in node.input[:3])
            v = (x / s + z)[np.abs(x / s + z) < 2**22]
            ties += int(np.count_nonzero(v - np.floor(v) == 0.5))
    return ties


def record(folder, name, covers, build):
    net = Net(zlib.crc32(name.encode()))
    build(net)
    proto = net.proto()
    if getattr(net, "init_inputs", False):
        for k, v in net.inits.items():
            proto.graph.input.append(helper.make_tensor_value_info(k, TensorProto.FLOAT, v.shape))
    values = execute(proto, net.ins)
    for o in proto.graph.output:
        o.CopyFrom(helper.make_tensor_value_info(o.name, helper.np_dtype_to_tensor_dtype(values[o.name].dtype), values[o.name].shape))
    target = folder / name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    onnx.save(proto, target / "model.onnx")
    np.savez_compressed(target / "inputs.npz", **net.ins)
    np.savez_compressed(target / "outputs.npz", **values)
    provenance(target, ["model.onnx", "inputs.npz", "outputs.npz"], "python golden/recorders/qonnx_ops.py golden/qonnx-ops",
               covers, ["qonnx", "onnx", "onnxruntime", "numpy"],
               [f"exact_ties = {tie_counts(proto, net.ins, values)}  # elements exactly on a tie, over all activation quantizers"])


def main():
    folder = Path(sys.argv[1])
    prefix = sys.argv[2] if len(sys.argv) > 2 else ""
    if not prefix:
        shutil.rmtree(folder, ignore_errors=True)
    failed = {}
    for name, (covers, build) in CASES.items():
        if name.startswith(prefix):
            try:
                record(folder, name, covers, build)
            except Exception as error:  # a case that the executor cannot run is reported, not hidden
                failed[name] = f"{type(error).__name__}: {str(error)[:300]}"
    for name, why in failed.items():
        print(name, why, sep="\n    ")
    rows = [f"| `{name}` | {covers} |" for name, (covers, _) in CASES.items() if (folder / name).exists()]
    (folder / "README.md").write_text(README.replace("@TABLE@", "\n".join(rows)))


if __name__ == "__main__":
    main()
