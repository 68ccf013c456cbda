"""Op-level recordings: ONNX Runtime 1.32.0 (CPU provider) and onnx 1.23.2's ReferenceEvaluator on the same models.

    pip install -r golden/recorders/requirements-onnxruntime.txt
    python golden/recorders/onnxruntime_ops.py golden [case-name-prefix]

writes golden/onnxruntime/<case> and, for the operators that it has, golden/onnx-reference/<case>. One model per
family, with many independent nodes. All graphs run with every optimization off, so that each node is the kernel
that its name says, except the `qdq-*` cases: they run with all optimizations, and the recorder refuses to write
them unless the optimized graph holds the expected QLinear operators.

Inputs are rich in exact ties and near-ties (scales whose quotient is 1/2, 1/4, 1/6 up to an ulp), odd zero points,
saturation on both sides, and ordinary scales. CPUs without VNNI multiply u8 x s8 in pairs with vpmaddubsw, which
saturates to int16: all weights here are at most 64 in magnitude (255 * 64 * 2 < 32768), except in
`conv-pair-saturation`, which shows the saturation.
"""

import datetime
import hashlib
import io
import json
import platform
import shutil
import sys
import tempfile
import zipfile
import zlib
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

MS = "com.microsoft"
F = np.float32
CASES = {}
PAIRS_EXACT = "; |weight| <= 64, so no pair of products reaches int16's bounds and CPUs with VNNI give the same"


def case(what, cpu_path, reference=False, targets=("onnxruntime",), opset=17, ir=9, optimized=None, undecided=""):
    """Registers a function that builds one case; its name is the folder name."""
    def register(build):
        CASES[build.__name__.replace("_", "-")] = dict(
            build=build, what=what, cpu_path=cpu_path, reference=reference, targets=list(targets), opset=opset, ir=ir,
            optimized=optimized, undecided=undecided)
        return build
    return register


class Net:
    def __init__(self, seed, opset, ir):
        self.rng = np.random.default_rng(seed)
        self.opset, self.ir = opset, ir
        self.nodes, self.inits, self.ins, self.outs = [], {}, {}, []
        self.count = 0

    def input(self, name, array):
        self.ins[name] = np.ascontiguousarray(array)
        return name

    def const(self, value, dtype=F, name=None):
        self.count += 1
        name = name or f"c{self.count}"
        self.inits[name] = value if isinstance(value, onnx.TensorProto) else np.array(value, dtype)
        return name

    def node(self, op, inputs, out, domain="", hidden=False, extra=(), **attrs):
        outs = [out, *extra]
        self.nodes.append(helper.make_node(op, inputs, outs, name=f"{op}_{out}", domain=domain, **attrs))
        if not hidden:
            self.outs += outs
        return out

    def codes(self, shape, dtype, lo=None, hi=None):
        info = np.iinfo(dtype)
        return self.rng.integers(info.min if lo is None else lo, (info.max if hi is None else hi) + 1, shape).astype(dtype)

    def proto(self):
        def info(name, array):
            return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        def init(name, value):
            if isinstance(value, onnx.TensorProto):
                value.name = name
                return value
            return numpy_helper.from_array(value, name)
        graph = helper.make_graph(self.nodes, "case", [info(k, v) for k, v in self.ins.items()],
                                  [onnx.ValueInfoProto(name=o) for o in self.outs],
                                  [init(k, v) for k, v in self.inits.items()])
        opsets = [helper.make_opsetid("", self.opset)]
        if any(n.domain == MS for n in self.nodes):
            opsets.append(helper.make_opsetid(MS, 1))
        return helper.make_model(graph, opset_imports=opsets, ir_version=self.ir, producer_name="align-check")


# ---------------------------------------------------------------- QLinearConv, QLinearMatMul, QGemm

def conv(n, out, x, xs, xz, w, ws, wz, ys, yz, bias=None, **attrs):
    """The zero points carry the types."""
    ins = [x, n.const(xs), n.const(xz, xz.dtype), n.const(w, w.dtype), n.const(ws), n.const(wz, wz.dtype),
           n.const(ys), n.const(yz, yz.dtype)]
    if bias is not None:
        ins.append(n.const(bias, np.int32))
    n.node("QLinearConv", ins, out, **attrs)


U, S = np.uint8, np.int8
# scales whose quotient sx*sw/sy is a simple fraction: exactly (powers of two, 1/6), or up to the rounding of decimals
TIES = [(0.5, 0.25, 1.0), (1.0, 1.0, 6.0), (0.1, 0.7, 0.14), (0.3, 0.1, 0.12), (0.0123, 0.0457, 0.00112422)]


@case("QLinearConv: u8 and s8 activations, s8 and u8 weights, per tensor and per channel, odd and extreme zero points, "
      "strides, dilations, groups, depthwise, 1-D, with and without int32 bias, M = 1/8, 1/6, 1/2, 1/4 (ties) and ordinary",
      "MLAS AVX2: MlasConvSymKernelAvx2, MlasConvSymDepthwiseKernelAvx2 (u8 x s8, weight zero point 0, channels in blocks), otherwise QGEMM "
      "U8S8 or U8U8, the C++ QGEMM (int8 activations), MlasConvDepthwiseKernelAvx2, each with MlasRequantizeOutput" + PAIRS_EXACT, reference=True)
def qlinear_conv(n):
    r = n.rng
    for t in (U, S):
        tag = "u8" if t is U else "s8"
        off = 0 if t is U else 128
        x = n.input(f"x_{tag}", n.codes((2, 8, 7, 6), t))
        x1 = n.input(f"x1_{tag}", n.codes((2, 6, 40), t))
        z = lambda v: np.array(v - off, t)
        # 1x1, few products: sums are small, so that every tie is met often
        for i, (sx, sw, sy) in enumerate(TIES):
            w = n.codes((6, 8, 1, 1), S, -3, 3)
            conv(n, f"{tag}_point{i}", x, sx, z((128, 127, 131, 5, 1)[i]), w, sw, np.array(0, S), sy, z((127, 128, 1, 255, 77)[i]))
        # 16 output channels, input channels a multiple of 4: the symmetric kernel
        per = np.array([0.1, 0.3, 0.7, 0.9, 0.011, 0.013, 0.017, 0.019, 1 / 3, 1 / 7, 1 / 9, 1 / 11, 0.5, 0.25, 0.06, 0.6], F)
        conv(n, f"{tag}_sym_channel", x, 0.1, z(131), n.codes((16, 8, 1, 1), S, -4, 4), per, np.zeros(16, S), 0.1, z(129),
             bias=r.integers(-300, 300, 16), pads=[1, 0, 1, 0], strides=[2, 2])
        conv(n, f"{tag}_sym_tensor", x, 0.5, z(3), n.codes((16, 8, 3, 3), S, -5, 5), 0.25, np.zeros(1, S), 4.0, z(125),
             pads=[1, 1, 1, 1], strides=[2, 1])
        # per-channel scales, bias, padding, stride
        conv(n, f"{tag}_channel", x, 0.3, z(117), n.codes((5, 8, 3, 2), S, -9, 9), per[[0, 1, 2, 3, 8]] * F(0.3), np.zeros(5, S), 0.9, z(121),
             bias=r.integers(-2000, 2000, 5), pads=[0, 1, 2, 1], strides=[1, 2])
        # signed weights with a zero point
        conv(n, f"{tag}_wzp", x, 0.25, z(7), n.codes((4, 8, 2, 2), S, -20, 20), 0.5, np.array(-3, S), 1.0, z(251), bias=[0, 77, -1001, 5000])
        # large weights: saturation on both sides
        conv(n, f"{tag}_wide", x, 0.02, z(0), n.codes((4, 8, 3, 3), S, -64, 64), 0.01, np.array(0, S), 0.05, z(64), bias=[-20000, 0, 1, 30000])
        # dilation, groups, depthwise (8 channels: generic kernel)
        conv(n, f"{tag}_dilated", x, 0.5, z(130), n.codes((3, 8, 3, 3), S, -6, 6), 0.125, np.array(0, S), 0.5, z(63), dilations=[2, 2], pads=[2, 1, 1, 2])
        conv(n, f"{tag}_groups", x, 0.1, z(9), n.codes((6, 4, 3, 3), S, -6, 6), np.array([.1, .2, .3, .4, .5, .6], F), np.zeros(6, S), 0.4, z(127),
             group=2, bias=r.integers(-500, 500, 6))
        conv(n, f"{tag}_depthwise", x, 0.1, z(133), n.codes((8, 1, 3, 3), S, -8, 8), per[:8], np.zeros(8, S), 0.02, z(127), group=8,
             pads=[1, 1, 1, 1], bias=r.integers(-50, 50, 8))
        conv(n, f"{tag}_multiplier", x, 0.5, z(1), n.codes((16, 1, 3, 3), S, -8, 8), 0.5, np.array(0, S), 1.0, z(101), group=8, auto_pad="SAME_UPPER")
        # 1-D
        conv(n, f"{tag}_1d", x1, 0.7, z(127), n.codes((4, 6, 5), S, -7, 7), np.array([.1, .3, .5, .7], F), np.zeros(4, S), 0.98, z(11),
             strides=[2], pads=[3, 1], bias=[7, -7, 100, -100])
        conv(n, f"{tag}_1d_depthwise", x1, 0.5, z(127), n.codes((6, 1, 3), S, -7, 7), 0.5, np.array(0, S), 0.5, z(81), group=6, dilations=[3])
    # the accumulator with its bias: wraps at 32 bits, is rounded to f32 above 2^24
    edge = [2**31 - 1, -2**31, 2**31 - 3000, -2**31 + 3000, 2**24 + 1, -2**24 - 1]
    for out, m in (("u8_accumulator", 6), ("u8_sym_accumulator", 16)):
        bias = np.concatenate([edge, r.integers(-2**31, 2**31, m - 6)])
        conv(n, out, "x_u8", 1.0, np.array(131, U), n.codes((m, 8, 1, 1), S, -9, 9), 1.0, np.array(0, S), 2.0**24, np.array(128, U), bias=bias)
    # around 2^24: f32(acc) / 2^17 = 128.5 for 2^24 + 2^16, one less and one more
    conv(n, "u8_accumulator_ulp", "x_u8", 1.0, np.array(131, U), n.codes((6, 8, 1, 1), S, -2, 2), 1.0, np.array(0, S), 2.0**17, np.array(0, U),
         bias=[2**24 + 2**16, 2**24 + 2**16 + 1, 2**24 + 2**16 - 1, 2**24 + 3 * 2**16, 2**24 + 3 * 2**16 + 1, 2**24 + 3 * 2**16 - 1])
    # 16 groups of one channel: the symmetric depthwise kernel
    x = n.input("x_dw", n.codes((1, 16, 6, 6), U))
    conv(n, "u8_sym_depthwise", x, 0.1, np.array(113, U), n.codes((16, 1, 3, 3), S, -9, 9), per, np.zeros(16, S), 0.05, np.array(127, U),
         group=16, pads=[1, 1, 1, 1], bias=r.integers(-99, 99, 16))
    # weight zero points per channel
    conv(n, "u8_wzp_channel", "x_u8", 0.1, np.array(119, U), n.codes((4, 8, 3, 3), S, -20, 20), per[:4], np.array([3, -2, 0, -7], S), 0.8, np.array(127, U))
    conv(n, "u8u8_wzp_channel", "x_u8", 0.1, np.array(119, U), n.codes((4, 8, 3, 3), U, 20, 64), per[:4], np.array([41, 43, 0, 39], U), 0.8, np.array(127, U))
    # unsigned weights exist for unsigned activations only
    x = "x_u8"
    conv(n, "u8u8_point", x, 0.5, np.array(127, U), n.codes((6, 8, 1, 1), U, 58, 64), 0.25, np.array(61, U), 1.0, np.array(129, U))
    conv(n, "u8u8_channel", x, 0.1, np.array(3, U), n.codes((5, 8, 3, 3), U, 0, 64), per[:5], np.full(5, 31, U), 2.1, np.array(99, U),
         bias=r.integers(-999, 999, 5), pads=[1, 1, 1, 1])
    conv(n, "u8u8_depthwise", x, 0.5, np.array(129, U), n.codes((8, 1, 3, 3), U, 20, 44), 0.5, np.array(33, U), 2.0, np.array(127, U), group=8)


def matmul(n, out, a, sa, za, b, sb, zb, sy, zy):
    tb = za.dtype if isinstance(b, str) else b.dtype
    b = b if isinstance(b, str) else n.const(b, b.dtype)
    n.node("QLinearMatMul", [a, n.const(sa), n.const(za, za.dtype), b, n.const(sb), n.const(zb, tb), n.const(sy), n.const(zy, zy.dtype)], out)


@case("QLinearMatMul: 2-D, batched, two activations, one row, per-column scales, u8 and s8, ties",
      "MLAS AVX2 QGEMM U8S8, U8U8 (GEMV for one row), the C++ QGEMM (int8 activations), with MlasRequantizeOutput" + PAIRS_EXACT, reference=True)
def qlinear_matmul(n):
    for t in (U, S):
        tag, off = ("u8", 0) if t is U else ("s8", 128)
        z = lambda v: np.array(v - off, t)
        a2 = n.input(f"a2_{tag}", n.codes((37, 12), t))
        a3 = n.input(f"a3_{tag}", n.codes((2, 3, 5, 8), t))
        b3 = n.input(f"b3_{tag}", n.codes((2, 1, 8, 6), t, 0, 9))
        row = n.input(f"row_{tag}", n.codes((1, 19), t))
        for i, (sa, sb, sy) in enumerate(TIES):
            matmul(n, f"{tag}_2d{i}", a2, sa, z((129, 127, 3, 250, 128)[i]), n.codes((12, 9), S, -3, 3), sb, np.array((0, 1, -1, 0, 2)[i], S), sy, z((127, 5, 129, 128, 33)[i]))
        matmul(n, f"{tag}_column", a2, 0.1, z(121), n.codes((12, 8), S, -5, 5), np.array([.1, .3, .5, .7, .9, 1.1, 1.3, 1.5], F), np.zeros(8, S), 0.2, z(119))
        matmul(n, f"{tag}_batched", a3, 0.5, z(127), n.codes((8, 7), S, -6, 6), 0.5, np.array(0, S), 1.0, z(65))
        matmul(n, f"{tag}_activations", a3, 0.1, z(131), b3, 0.3, z(133 if t is U else 131), 0.72, z(127))
        matmul(n, f"{tag}_row", row, 0.5, z(3), n.codes((19, 21), S, -9, 9), 0.125, np.array(0, S), 0.5, z(129))
        # 17 rows, K = 48, N = 32: whole blocks and one remaining row
        big = n.input(f"big_{tag}", n.codes((17, 48), t))
        matmul(n, f"{tag}_blocks", big, 0.5, z(127), n.codes((48, 32), S, -7, 7), 0.25, np.array(0, S), 2.0, z(127))
    matmul(n, "u8u8_2d", "a2_u8", 0.1, np.array(127, U), n.codes((12, 9), U, 0, 64), 0.3, np.array(33, U), 1.08, np.array(127, U))


@case("QGemm: transA, transB, alpha, int32 bias (per column, per row, scalar, full), per-column weights, uint8 and int8 output, and float output "
      "(no output scale)",
      "MLAS AVX2 QGEMM with requantize or scale-bias output processor" + PAIRS_EXACT)
def qgemm(n):
    r = n.rng
    def gemm(out, a, sa, za, b, sb, zb, sy=None, zy=None, c=None, **attrs):
        ins = [a, n.const(sa), n.const(za, za.dtype), n.const(b, b.dtype), n.const(sb), n.const(zb, b.dtype),
               "" if c is None else n.const(c, np.int32)]
        if sy is not None:
            ins += [n.const(sy), n.const(zy, zy.dtype)]
        n.node("QGemm", ins, out, domain=MS, **attrs)
    for t in (U, S):
        tag, off = ("u8", 0) if t is U else ("s8", 128)
        z = lambda v: np.array(v - off, t)
        a = n.input(f"a_{tag}", n.codes((33, 10), t))
        at = n.input(f"at_{tag}", n.codes((10, 33), t))
        per = np.array([.1, .3, .5, .7, .9, 1 / 3, 1 / 7], F)
        for i, (sa, sb, sy) in enumerate(TIES):
            gemm(f"{tag}_tie{i}", a, sa, z((128, 127, 3, 250, 131)[i]), n.codes((7, 10), S, -3, 3), sb, np.array(0, S), sy, z((127, 128, 1, 255, 77)[i]),
                 c=r.integers(-200, 200, 7) if i % 2 else None, transB=1)
        gemm(f"{tag}_column", a, 0.1, z(9), n.codes((10, 7), S, -6, 6), per, np.zeros(7, S), 0.2, z(127), c=r.integers(-900, 900, 7))
        gemm(f"{tag}_trans_a", at, 0.5, z(127), n.codes((10, 7), S, -6, 6), 0.5, np.array(0, S), 2.0, z(63), transA=1, c=r.integers(-99, 99, (33, 1)))
        gemm(f"{tag}_alpha", a, 0.1, z(127), n.codes((7, 10), S, -6, 6), per, np.zeros(7, S), 0.3, z(63), transB=1, alpha=0.7, c=r.integers(-99, 99, (33, 7)))
        gemm(f"{tag}_alpha_order", a, 0.1, z(127), n.codes((10, 4), S, -4, 4), np.array([1.75, 3.5, 7.0, 21.0], F), np.zeros(4, S), 0.14, z(63), alpha=0.1)
        gemm(f"{tag}_float", a, 0.1, z(127), n.codes((7, 10), S, -50, 50), 0.3, np.array(3, S), transB=1, c=r.integers(-99, 99, 1))
        gemm(f"{tag}_float_column", a, 0.0123, z(127), n.codes((10, 7), S, -50, 50), per, np.zeros(7, S), alpha=1.3)
    gemm("u8u8", "a_u8", 0.5, np.array(127, U), n.codes((7, 10), U, 0, 9), 0.25, np.array(5, U), 1.0, np.array(129, U), transB=1)


@case("ConvInteger and MatMulInteger: the int32 sums themselves, zero points on both sides, all type pairs",
      "MLAS AVX2 QGEMM" + PAIRS_EXACT, reference=True)
def integer(n):
    for ta in (U, S):
        for tb in (U, S):
            tag = f"{'u8' if ta is U else 's8'}{'u8' if tb is U else 's8'}"
            x = f"x_{tag[:2]}"
            if x not in n.ins:
                n.input(x, n.codes((1, 4, 6, 5), ta))
                n.input(f"a_{tag[:2]}", n.codes((2, 5, 9), ta))
            lo, hi = (0, 64) if tb is U else (-64, 64)
            w = n.const(n.codes((3, 4, 3, 3), tb, lo, hi), tb)
            za, zb = n.const(131 if ta is U else -5, ta), n.const(29 if tb is U else -7, tb)
            n.node("ConvInteger", [x, w, za, zb], f"{tag}_conv", pads=[1, 1, 0, 1], strides=[2, 1])
            n.node("ConvInteger", [x, w], f"{tag}_conv_no_zero_points", dilations=[2, 1])
            b = n.const(n.codes((9, 6), tb, lo, hi), tb)
            n.node("MatMulInteger", [f"a_{tag[:2]}", b, za, zb], f"{tag}_matmul")
            n.node("MatMulInteger", [f"a_{tag[:2]}", b], f"{tag}_matmul_no_zero_points")


# ---------------------------------------------------------------- elementwise

def all_pairs(n, t):
    codes = np.arange(np.iinfo(t).min, np.iinfo(t).max + 1)
    return n.input("a", np.repeat(codes, 256).astype(t)[None]), n.input("b", np.tile(codes, 256).astype(t)[None])


def binary(n, op, out, a, sa, za, b, sb, zb, sy, zy, t):
    n.node(op, [a, n.const(sa), n.const(za, t), b, n.const(sb), n.const(zb, t), n.const(sy), n.const(zy, t)], out, domain=MS)


# (sa, za, sb, zb, sy, zy), zero points as of uint8; int8 ones are 128 less
ADD_SCALES = [(0.5, 127, 0.5, 131, 1.0, 129), (0.25, 128, 0.5, 128, 1.0, 128), (0.1, 3, 0.3, 255, 0.2, 127), (0.7, 129, 0.1, 1, 0.2, 77),
              (0.0123, 117, 0.0457, 140, 0.0291, 121), (1 / 3, 0, 1 / 7, 255, 0.5, 200), (1.0, 101, 3.0, 103, 6.0, 105), (0.9, 250, 0.3, 5, 0.6, 128)]
# found by search: the float order of the constant term zy - (ra*za + rb*zb) decides
ADD_CONSTANT_U8 = [(0.0075, 158, 0.015, 194, 0.045, 98), (0.12, 139, 0.12, 233, 0.72, 85), (0.728, 253, 0.2912, 180, 0.8736, 189), (0.4825, 116, 0.0965, 252, 0.579, 224)]
ADD_CONSTANT_S8 = [(0.018, 122, 0.018, 113, 0.024, 93), (0.00475, 250, 0.0019, 242, 0.0057, 171), (0.08095, 202, 0.08095, 204, 0.4857, 161), (0.5266, 179, 0.65825, 250, 0.7899, 188)]
# found by search: a constant operand b of one element (the last number), whether its product is fused decides
ADD_SCALAR_U8 = [(0.1094, 196, 0.08205, 110, 0.0547, 254, 81), (0.0275, 75, 0.04125, 184, 0.0275, 87, 181), (0.056, 132, 0.07, 169, 0.084, 72, 228),
                 (0.09405, 105, 0.15675, 178, 0.0627, 117, 205), (0.28, 177, 0.14, 141, 0.84, 122, 74), (0.2661, 166, 0.13305, 2, 0.7983, 78, 133)]
ADD_SCALAR_S8 = [(0.06, 139, 0.075, 19, 0.03, 227, 10), (0.17865, 114, 0.89325, 213, 0.3573, 163, 220), (0.0829, 132, 0.12435, 54, 0.0829, 133, 85),
                 (0.084, 162, 0.084, 86, 0.056, 58, 53), (0.0105, 145, 0.0105, 127, 0.007, 222, 202), (0.60825, 92, 0.60825, 88, 0.4055, 81, 36)]


def add_pairs(n, t):
    a, b = all_pairs(n, t)
    off = 0 if t is U else 128
    for i, (sa, za, sb, zb, sy, zy) in enumerate(ADD_SCALES + (ADD_CONSTANT_U8 if t is U else ADD_CONSTANT_S8)):
        binary(n, "QLinearAdd", f"y{i}", a, sa, za - off, b, sb, zb - off, sy, zy - off, t)


@case("QLinearAdd uint8: all 65,536 pairs for 12 sets of scales and zero points", "MLAS MlasQLinearAddU8KernelAvx2")
def qlinear_add_u8(n):
    add_pairs(n, U)


@case("QLinearAdd int8: all 65,536 pairs for 12 sets of scales and zero points", "MLAS MlasQLinearAddS8KernelAvx2")
def qlinear_add_s8(n):
    add_pairs(n, S)


MUL_SCALES = [(0.5, 127, 0.25, 131, 16.0, 129), (0.1, 3, 0.3, 255, 1.8, 127), (0.7, 129, 0.1, 1, 0.98, 77), (0.0123, 117, 0.0457, 140, 0.031, 121),
              (1 / 3, 0, 1 / 7, 255, 7.0, 200), (1.0, 101, 1.0, 103, 96.0, 105), (0.06, 204, 0.3, 136, 0.072, 44), (0.01, 21, 0.4, 155, 0.04, 35)]


@case("QLinearMul uint8 and int8: all 65,536 pairs for 8 sets of scales and zero points each", "MLAS MlasQLinearMulKernel (SSE2)")
def qlinear_mul(n):
    for t in (U, S):
        codes = np.arange(np.iinfo(t).min, np.iinfo(t).max + 1)
        tag, off = ("u8", 0) if t is U else ("s8", 128)
        a = n.input(f"a_{tag}", np.repeat(codes, 256).astype(t)[None])
        b = n.input(f"b_{tag}", np.tile(codes, 256).astype(t)[None])
        for i, (sa, za, sb, zb, sy, zy) in enumerate(MUL_SCALES):
            binary(n, "QLinearMul", f"{tag}_y{i}", a, sa, za - off, b, sb, zb - off, sy, zy - off, t)


@case("QLinearAdd and QLinearMul: lengths 1 to 37 (below, at and above the vector width), broadcasting of one element on either side "
      "(a constant or an activation), per channel, per row, outer",
      "MLAS AVX2 QLinearAdd with tails and its scalar variants; SSE2 QLinearMul",
      undecided="for one element against one element ONNX Runtime takes the scalar variant of the second operand; other versions may not")
def qlinear_broadcast(n):
    sets = [ADD_SCALES[2], ADD_SCALES[4], ADD_SCALES[3], ADD_SCALES[0]]
    msets = [MUL_SCALES[1], MUL_SCALES[3], MUL_SCALES[2], MUL_SCALES[0]]
    shapes = {f"len{k}": ((1, k), (1, k)) for k in (1, 2, 3, 5, 8, 15, 16, 17, 31, 32, 33, 37)}
    shapes |= {"scalar_b": ((1, 333), (1,)), "scalar_a": ((1,), (1, 333)), "channel": ((2, 5, 4, 7), (1, 5, 1, 1)),
               "channel_a": ((5, 1, 1), (2, 5, 4, 7)), "row": ((2, 5, 4, 7), (7,)), "outer": ((1, 41, 1), (1, 1, 41)), "mixed": ((2, 1, 4, 1), (1, 5, 1, 7))}
    for t in (U, S):
        tag, off = ("u8", 0) if t is U else ("s8", 128)
        for name, (sha, shb) in shapes.items():
            a = n.input(f"{tag}_{name}_a", n.codes(sha, t))
            b = n.input(f"{tag}_{name}_b", n.codes(shb, t))
            for i, (op, s) in enumerate([("QLinearAdd", sets), ("QLinearMul", msets)]):
                for j, (sa, za, sb, zb, sy, zy) in enumerate(s):
                    binary(n, op, f"{tag}_{name}_{op[7:].lower()}{j}", a, sa, za - off, b, sb, zb - off, sy, zy - off, t)
        # constants of one element: every tie is met with all codes of the other side
        codes = n.input(f"{tag}_codes", np.arange(np.iinfo(t).min, np.iinfo(t).max + 1).astype(t)[None])
        for i, v in enumerate((0, 1, 100, 255)):
            for j, (sa, za, sb, zb, sy, zy) in enumerate(ADD_SCALES):
                c = n.const(v - off, t)
                args = ((codes, sa, za - off, c, sb, zb - off) if j % 2 else (c, sa, za - off, codes, sb, zb - off))
                binary(n, "QLinearAdd", f"{tag}_constant{i}_{j}", *args, sy, zy - off, t)
        for j, (sa, za, sb, zb, sy, zy, v) in enumerate(ADD_SCALAR_U8 if t is U else ADD_SCALAR_S8):
            one = n.input(f"{tag}_one{j}", np.array([v - off], t))
            for side in "ab":
                b, a = (one, sb, zb - off), (codes, sa, za - off)
                binary(n, "QLinearAdd", f"{tag}_one{j}_{side}", *(a + b if side == "b" else b + a), sy, zy - off, t)
            # the same numbers in a span of 3 and one by one: no scalar operand, and a scalar with length 1
            three = n.input(f"{tag}_three{j}", np.repeat(np.array([[v - off]], t), 256, axis=0).repeat(3, axis=1))
            many = n.input(f"{tag}_codes3_{j}", np.arange(-off, 256 - off).astype(t)[:, None].repeat(3, axis=1))
            binary(n, "QLinearAdd", f"{tag}_three{j}_y", many, sa, za - off, three, sb, zb - off, sy, zy - off, t)
            for k in range(4):
                one_a = n.input(f"{tag}_one_one{j}_{k}", np.array([[ONE_ONE[tag][j][k] - off]], t))
                binary(n, "QLinearAdd", f"{tag}_one_one{j}_{k}_y", one_a, sa, za - off, one, sb, zb - off, sy, zy - off, t)
                binary(n, "QLinearAdd", f"{tag}_one_one{j}_{k}_z", one, sb, zb - off, one_a, sa, za - off, sy, zy - off, t)
            column = n.input(f"{tag}_column{j}", np.arange(-off, 256 - off).astype(t)[:64].reshape(64, 1))
            binary(n, "QLinearAdd", f"{tag}_single{j}", f"{tag}_column{j}", sa, za - off, n.input(f"{tag}_ones{j}", np.full((64, 1), v - off, t)), sb, zb - off, sy, zy - off, t)


# found by search: a value of the table within about an ulp of a tie
SIGMOID_NEAR_TIES = [
    (0.09424, 72, 0.0039061999, 0), (0.0777, 236, 0.0039216001, 0), (0.08246, 7, 0.0039061999, 0), (0.01187, 205, 0.0046544001, 0), (0.03885, 164, 0.0039216001, 0),
    (0.06714, 191, 0.0014775, 0), (0.04511, 221, 0.00054360001, 128), (0.06117, 139, 0.0030507001, 0), (0.03946, 211, 0.0025452001, 0), (0.05993, 253, 0.00045399999, 3),
    (0.0777, 76, 0.0039216001, 0), (0.07049, 211, 0.00076650002, 128), (0.09199, 182, 0.0039216001, 0), (0.09285, 104, 0.00096670003, 0), (0.07311, 160, 0.0039061999, 0),
    (0.01289, 53, 0.0039061999, 0), (0.04212, 121, 0.00081559998, 0), (0.02575, 92, 0.0039061999, 0), (0.09031, 182, 0.0039061999, 3), (0.07311, 87, 0.0039061999, 0),
    (0.09031, 3, 0.0039061999, 0), (0.0262, 114, 0.003216, 0), (0.02775, 211, 0.0039216001, 128), (0.0783, 137, 0.0003634, 128), (0.04129, 151, 0.00066800002, 0),
    (0.01737, 115, 0.0039061999, 0), (0.04234, 115, 0.00057470001, 0), (0.0323, 110, 0.0039061999, 0), (0.03038, 83, 0.0039061999, 0), (0.06332, 129, 0.0035669, 3)]


# codes of one element against one element: the order of the operands decides
ONE_ONE = {'u8': [[100, 101, 102, 103], [100, 101, 102, 103], [100, 101, 102, 103], [65, 69, 73, 77], [128, 134, 140, 146], [0, 6, 12, 18]], 's8': [[100, 101, 102, 103], [100, 101, 102, 103], [145, 147, 149, 151], [174, 178, 182, 186], [1, 3, 5, 7], [99, 103, 107, 111]]}


def unary(n, op, out, x, sx, zx, sy, zy, t, **attrs):
    n.node(op, [x, n.const(sx), n.const(zx, t), n.const(sy), n.const(zy, t)], out, domain=MS, **attrs)


@case("QLinearSigmoid: all 256 codes, uint8 and int8, 48 sets of scales and zero points; the last 36 found by search: a value lies within an ulp or so of a tie",
      "a table of 256 made with MlasComputeLogistic (FMA3 kernel) and MlasQuantizeLinear")
def qlinear_sigmoid(n):
    for t in (U, S):
        tag, off = ("u8", 0) if t is U else ("s8", 128)
        x = n.input(f"x_{tag}", np.arange(np.iinfo(t).min, np.iinfo(t).max + 1).astype(t)[None])
        for i, (sx, zx, sy, zy) in enumerate([(0.05, 128, 1 / 256, 0), (0.05, 127, 1 / 255, 0), (0.1, 129, 1 / 256, 1), (0.02, 3, 0.004, 0), (0.2, 128, 1 / 512, 3),
                                               (0.5, 131, 1 / 256, 0), (0.01, 128, 1 / 1024, 7), (0.003, 255, 1 / 2048, 13), (0.0707, 101, 0.00392157, 5),
                                               (0.03125, 128, 1 / 128, 127), (0.015, 0, 1 / 4096, 0), (0.001, 128, 1 / 4096, 255),
                                               # sigmoid(0) = 0.5 is a tie
                                               (0.05, 128, 1 / 255, 1), (0.05, 127, 1 / 253, 1), (0.05, 127, 1 / 253, 0), (0.1, 3, 1 / 101, 3), (0.1, 77, 1 / 103, 129), (0.2, 200, 1 / 99, 5)]
                                              + SIGMOID_NEAR_TIES):
            unary(n, "QLinearSigmoid", f"{tag}_y{i}", x, sx, zx - off, sy, zy - off, t)


@case("QLinearLeakyRelu: all 256 codes, uint8 and int8, slopes 0.01, 0.1, 0.25, 0.3, 0.5, 1.5, -0.5, ties on both sides",
      "a table of 256 and MlasQuantizeLinear")
def qlinear_leaky_relu(n):
    for t in (U, S):
        tag, off = ("u8", 0) if t is U else ("s8", 128)
        x = n.input(f"x_{tag}", np.arange(np.iinfo(t).min, np.iinfo(t).max + 1).astype(t)[None])
        i = 0
        for alpha in (0.01, 0.1, 0.25, 0.3, 0.5, 1.5, -0.5):
            for sx, zx, sy, zy in [(0.5, 128, 1.0, 127), (0.1, 129, 0.2, 129), (0.3, 200, 0.2, 77), (0.0123, 255, 0.00246, 3), (0.7, 101, 1.4, 255), (0.1, 127, 0.03, 131)]:
                unary(n, "QLinearLeakyRelu", f"{tag}_y{i}", x, sx, zx - off, sy, zy - off, t, alpha=alpha)
                i += 1


@case("QLinearConcat: inputs of the same scale and zero point (copied), others requantized by a table of 256; three inputs, axes 1, 2, -1",
      "a table of 256 and MlasQuantizeLinear, memcpy where scale and zero point are equal")
def qlinear_concat(n):
    for t in (U, S):
        tag, off = ("u8", 0) if t is U else ("s8", 128)
        codes = np.arange(np.iinfo(t).min, np.iinfo(t).max + 1).astype(t)
        a = n.input(f"a_{tag}", codes.reshape(1, 4, 8, 8))
        b = n.input(f"b_{tag}", n.rng.permutation(codes).reshape(1, 4, 8, 8))
        c = n.input(f"c_{tag}", n.rng.permutation(codes).reshape(1, 4, 8, 8))
        for i, (axis, sy, zy, parts) in enumerate([
                (1, 1.0, 127, [(a, 0.5, 129), (b, 1.0, 127), (c, 1.5, 131)]), (2, 0.2, 129, [(a, 0.1, 3), (b, 0.2, 128), (c, 0.3, 255)]),
                (-1, 0.7, 77, [(a, 0.35, 101), (b, 0.7, 77), (c, 0.14, 0)]), (1, 0.0246, 128, [(a, 0.0123, 128), (b, 0.0369, 127), (c, 0.0457, 140)]),
                (1, 1e-3, 5, [(a, 1.0, 127), (b, 1e3, 6)])]):
            ins = [n.const(sy), n.const(zy - off, t)]
            for x, s, z in parts:
                ins += [x, n.const(s), n.const(z - off, t)]
            n.node("QLinearConcat", ins, f"{tag}_y{i}", domain=MS, axis=axis)


# ---------------------------------------------------------------- pooling

@case("QLinearAveragePool: 1-D, 2-D, pads, strides, count_include_pad 0 and 1, channels_last, ceil_mode; the kernel as large as the image (then it "
      "is the global pool's arithmetic)",
      "C++ loop: dequantized codes summed in f32 in window order; the global kernel (SSE2) where kernel = image and no pads")
def qlinear_average_pool(n):
    for t in (U, S):
        tag, off = ("u8", 0) if t is U else ("s8", 128)
        x = n.input(f"x_{tag}", n.codes((2, 5, 7, 6), t))
        small = n.input(f"small_{tag}", n.codes((1, 3, 5, 4), t))
        x1 = n.input(f"x1_{tag}", n.codes((1, 6, 33), t))
        last = n.input(f"last_{tag}", n.codes((2, 7, 6, 5), t))
        flat = n.input(f"flat_{tag}", n.codes((50, 5, 2, 3), t))
        i = 0
        for sx, zx, sy, zy in [(0.5, 127, 0.25, 129), (0.1, 128, 0.1, 3), (0.3, 5, 0.2, 127), (0.0123, 117, 0.00615, 77), (0.7, 255, 0.35, 201)]:
            for name, inp, at in [("2x2", x, dict(kernel_shape=[2, 2], strides=[2, 2])), ("3x3", x, dict(kernel_shape=[3, 3], pads=[1, 1, 1, 1])),
                                  ("3x3_include", x, dict(kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1, strides=[2, 1])),
                                  ("3x2_small", small, dict(kernel_shape=[3, 2], pads=[0, 1, 1, 0])),
                                  ("1d", x1, dict(kernel_shape=[6], strides=[2], pads=[2, 3])),
                                  ("last", last, dict(kernel_shape=[3, 2], pads=[1, 0, 1, 0], channels_last=1)),
                                  ("ceil", x, dict(kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)),
                                  ("ceil_include", x, dict(kernel_shape=[3, 3], strides=[2, 2], pads=[0, 1, 0, 1], ceil_mode=1, count_include_pad=1)),
                                  ("flat", flat, dict(kernel_shape=[2, 3])),
                                  ("whole", x, dict(kernel_shape=[7, 6])), ("whole_last", last, dict(kernel_shape=[7, 6], channels_last=1))]:
                unary(n, "QLinearAveragePool", f"{tag}_{name}_{i}", inp, sx, zx - off, sy, zy - off, t, **at)
            i += 1


@case("QLinearGlobalAveragePool: channels first and last, images of 2 to 64 elements, ties", "MLAS MlasQLinearGlobalAveragePool (SSE2)")
def qlinear_global_average_pool(n):
    for t in (U, S):
        tag, off = ("u8", 0) if t is U else ("s8", 128)
        for hw in ((1, 2), (2, 2), (2, 3), (3, 3), (7, 7), (8, 8)):
            for c in (1, 9):
                first = n.input(f"{tag}_{hw[0]}x{hw[1]}_c{c}", n.codes((40, c, *hw), t))
                last = n.input(f"{tag}_{hw[0]}x{hw[1]}_c{c}_last", n.codes((20, *hw, c), t))
                for i, (sx, zx, sy, zy) in enumerate([(0.5, 127, 0.25, 129), (0.1, 128, 0.1, 3), (0.3, 5, 0.2, 127), (0.0123, 117, 0.00615, 77), (0.7, 255, 0.3, 255)]):
                    for x, cl in ((first, 0), (last, 1)):
                        unary(n, "QLinearGlobalAveragePool", f"{x}_y{i}", x, sx, zx - off, sy, zy - off, t, channels_last=cl)


@case("MaxPool of int8 and uint8 codes: pads, strides, dilations, ceil_mode", "C++ loop on integers", opset=12, ir=7)
def maxpool(n):
    for t in (U, S):
        tag = "u8" if t is U else "s8"
        x = n.input(f"x_{tag}", n.codes((2, 3, 9, 8), t))
        n.node("MaxPool", [x], f"{tag}_2x2", kernel_shape=[2, 2], strides=[2, 2])
        n.node("MaxPool", [x], f"{tag}_3x3", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])
        n.node("MaxPool", [x], f"{tag}_dilated", kernel_shape=[2, 3], dilations=[2, 2], pads=[1, 0, 0, 1])
        n.node("MaxPool", [x], f"{tag}_ceil", kernel_shape=[3, 2], strides=[2, 3], ceil_mode=1)


# ---------------------------------------------------------------- softmax

# (input scale, output scale, rows), found by search: the f32 rounding of the quotient or the order of the sum decides
SOFTMAX_NEAR_TIES = [
    (0.05, 1 / 256, [
        [250, 177, 206, 137],
        [105, 235, 186, 124],
        [114, 133, 208, 144],
        [134, 115, 145, 209],
        [153, 183, 247, 172],
        [221, 251, 159, 101],
        [216, 166, 137, 246],
        [142, 183, 113, 196],
        [193, 206, 152, 123],
    ]),
    (0.03, 1 / 512, [
        [120, 203, 177, 162, 246, 127, 221, 249, 215, 189, 138, 255],
        [115, 176, 217, 186, 193, 127, 106, 175, 218, 136, 185, 221],
        [105, 236, 148, 222, 215, 110, 215, 167, 195, 132, 160, 201],
        [134, 246, 149, 187, 241, 214, 154, 200, 116, 221, 232, 255],
        [159, 155, 219, 193, 152, 132, 120, 146, 205, 221, 101, 215],
        [181, 127, 170, 111, 175, 175, 152, 253, 122, 141, 239, 191],
        [185, 177, 138, 105, 209, 111, 116, 251, 220, 207, 164, 118],
        [214, 238, 242, 209, 128, 201, 237, 111, 215, 150, 114, 245],
        [167, 159, 178, 102, 203, 205, 123, 110, 155, 234, 136, 194],
        [253, 151, 154, 155, 195, 156, 191, 102, 135, 135, 150, 229],
    ]),
    (0.02, 1 / 2001, [
        [204, 189, 167, 226, 248, 155, 239, 243, 107, 189, 129, 250, 193, 126, 114, 246, 211, 218, 104, 222, 214, 226, 168, 191, 219, 213, 132, 237, 141, 247],
        [105, 243, 210, 199, 221, 252, 232, 208, 231, 105, 157, 222, 133, 195, 175, 151, 233, 214, 206, 248, 227, 186, 135, 213, 207, 207, 140, 171, 238, 126],
        [166, 116, 122, 208, 240, 217, 179, 224, 216, 244, 231, 178, 153, 211, 115, 177, 170, 183, 159, 192, 235, 197, 221, 186, 255, 128, 175, 120, 252, 232],
        [150, 174, 231, 197, 150, 152, 208, 224, 226, 131, 160, 115, 253, 101, 249, 175, 149, 109, 156, 184, 220, 166, 113, 158, 238, 184, 141, 239, 172, 100],
        [222, 244, 206, 175, 122, 210, 245, 103, 213, 210, 210, 126, 254, 196, 251, 225, 164, 197, 197, 213, 235, 125, 244, 198, 126, 112, 157, 203, 124, 190],
        [106, 185, 139, 128, 138, 124, 174, 232, 103, 169, 170, 165, 119, 118, 177, 103, 128, 252, 213, 216, 128, 242, 159, 162, 197, 249, 191, 101, 120, 181],
        [113, 197, 142, 236, 166, 165, 135, 238, 101, 227, 180, 233, 255, 191, 177, 133, 232, 172, 197, 186, 231, 213, 127, 243, 204, 144, 144, 211, 248, 177],
        [171, 183, 190, 105, 121, 235, 160, 231, 240, 181, 221, 124, 142, 164, 239, 132, 101, 241, 243, 151, 179, 146, 181, 106, 132, 245, 158, 141, 191, 159],
        [216, 182, 235, 151, 121, 163, 240, 246, 229, 127, 185, 210, 158, 175, 216, 157, 136, 236, 229, 164, 248, 100, 222, 249, 150, 205, 217, 208, 203, 162],
        [219, 192, 141, 249, 212, 123, 160, 225, 208, 113, 200, 196, 229, 255, 110, 182, 220, 134, 200, 150, 119, 104, 127, 243, 255, 172, 140, 152, 252, 133],
        [163, 159, 242, 154, 110, 179, 121, 145, 239, 130, 229, 109, 224, 165, 205, 153, 157, 113, 211, 113, 151, 233, 220, 237, 215, 142, 206, 234, 191, 242],
        [118, 194, 134, 238, 163, 218, 157, 124, 115, 145, 163, 199, 212, 175, 201, 214, 167, 204, 241, 179, 137, 132, 248, 166, 128, 199, 114, 110, 118, 111],
    ]),
]


@case("QLinearSoftmax: axes last and 1, opset attribute 13 and 12, row lengths 2 to 300, uint8 and int8, output scales 1/256, 1/255 and others, "
      "odd output zero points, one large code against small ones (probability 1)",
      "C++: a table of 256 floats (exp in f64), f32 sums in order",
      undecided="the exp of the C library: its f64 result is rounded to f32, so that only an error close to half an ulp of f32 could show")
def qlinear_softmax(n):
    for t in (U, S):
        tag, off = ("u8", 0) if t is U else ("s8", 128)
        lo = np.iinfo(t).min
        wide = n.codes((40, 10), t)
        narrow = (n.rng.integers(0, 12, (40, 10)) + lo + 100).astype(t)
        peak = np.full((6, 10), lo, t); peak[np.arange(6), np.arange(6)] = lo + 255
        flat = np.full((2, 10), lo + 7, t)
        x = n.input(f"x_{tag}", np.concatenate([wide, narrow, peak, flat]))
        x3 = n.input(f"x3_{tag}", (n.rng.integers(0, 60, (2, 5, 7)) + lo + 30).astype(t))
        # rows of equal codes: probabilities 1/6, 1/10, 1/14, which are ties for an odd output scale
        flats = {d: n.input(f"flat{d}_{tag}", np.repeat((np.arange(0, 256, 5) + lo)[:, None], d, axis=1).astype(t)) for d in (2, 6, 10, 14, 22)}
        big = n.input(f"big_{tag}", n.codes((40, 70), t))
        x300 = n.input(f"x300_{tag}", n.codes((3, 300), t))
        x2 = n.input(f"x2_{tag}", np.stack([np.arange(256) + lo, np.full(256, lo + 128)], 1).astype(t))
        for i, (sx, sy, zy) in enumerate([(0.05, 1 / 256, 0), (0.1, 1 / 255, 0), (0.5, 1 / 256, 0), (1.0, 1 / 256, 0), (0.01, 1 / 300, 0), (0.02, 0.004, 3), (0.3, 1 / 100, 129)]):
            for name, inp, at in [("x", x, dict(axis=-1, opset=13)), ("x3_axis1", x3, dict(axis=1, opset=13)), ("x3_old", x3, dict(axis=1, opset=12)),
                                  ("x300", x300, dict(axis=-1, opset=13)), ("x2", x2, dict(axis=1, opset=13))]:
                unary(n, "QLinearSoftmax", f"{tag}_{name}_{i}", inp, sx, lo + 128, sy, zy - off, t, **at)
        for d, inp in flats.items():
            for i, (sx, sy, zy) in enumerate([(0.1, 1 / 255.5, 0), (0.3, 1 / 253.5, 1), (0.0707, 1 / 99.9, 3), (0.013, 1 / 255.5, 7)]):
                unary(n, "QLinearSoftmax", f"{tag}_flat{d}_{i}", inp, sx, lo + 128, sy, zy - off, t, axis=-1, opset=13)
        for i, (sx, sy, rows) in enumerate(SOFTMAX_NEAR_TIES):
            unary(n, "QLinearSoftmax", f"{tag}_near{i}", n.input(f"near{i}_{tag}", (np.array(rows) + lo).astype(t)), sx, lo + 128, sy, lo, t, axis=-1, opset=13)
        for i, (sx, sy, zy) in enumerate([(0.01, 1 / 4000, 0), (0.02, 1 / 2001, 1), (0.003, 1 / 9999, 0), (0.013, 1 / 3333, 3)]):
            unary(n, "QLinearSoftmax", f"{tag}_big_{i}", big, sx, lo + 128, sy, zy - off, t, axis=-1, opset=13)


# ---------------------------------------------------------------- QuantizeLinear and friends

def near_ties(rng, count, s, lo, hi, zp):
    """Ties `(code + 1/2 - zp) * s` and one ulp beside them, in f32; saturating values, zeros, infinities."""
    k = rng.integers(lo - 3, hi + 4, count // 4).astype(np.int64)
    ties = ((k - zp + 0.5) * F(s)).astype(F)
    grid = ((k[: count // 8] - zp) * F(s)).astype(F)
    v = np.concatenate([ties, np.nextafter(ties, F(np.inf)), np.nextafter(ties, F(-np.inf)), grid,
                        rng.uniform((lo - zp) * 1.1 * s, (hi - zp) * 1.1 * s, count).astype(F)])[: count - 10]
    special = np.array([0.0, -0.0, 1e30, -1e30, np.inf, -np.inf, 3e9 * s, -3e9 * s, 1e-40, -1e-40], F)
    return rng.permutation(np.concatenate([v, special]).astype(F))


def quantize_family(n, types, axis=True):
    bounds = {"uint8": (0, 255), "int8": (-128, 127), "uint16": (0, 65535), "int16": (-32768, 32767)}
    for t in types:
        lo, hi = bounds[t]
        for i, (s, z) in enumerate([(0.5, 0), (0.1, 1), (0.0123, 127), (1 / 3, 255), (0.7, 77)]):
            zp = z if lo == 0 else z - 128
            x = n.input(f"x_{t}_{i}", near_ties(n.rng, 480, s, lo, hi, zp)[None])
            y = n.node("QuantizeLinear", [x, n.const(s), n.const(zp, t)], f"{t}_q{i}")
            n.node("DequantizeLinear", [y, n.const(s), n.const(zp, t)], f"{t}_d{i}")
        if axis:
            s = np.array([0.5, 0.1, 0.0123, 1 / 3], F)
            z = np.array([3, 128, 77, 255] if lo == 0 else [3, -128, 77, -1])
            x = np.stack([near_ties(n.rng, 120, s[c], lo, hi, z[c]) for c in range(4)])
            x = n.input(f"x_{t}_axis", np.stack([x, x[:, ::-1]]))
            y = n.node("QuantizeLinear", [x, n.const(s), n.const(z, t)], f"{t}_q_axis", axis=1)
            n.node("DequantizeLinear", [y, n.const(s), n.const(z, t)], f"{t}_d_axis", axis=1)
    x = n.input("x_default", near_ties(n.rng, 160, 0.5, 0, 255, 0)[None])
    y = n.node("QuantizeLinear", [x, n.const(0.5)], "default_q")
    n.node("DequantizeLinear", [y, n.const(0.5)], "default_d")
    x = n.input("x_int32", np.concatenate([n.codes((1, 60), np.int32), np.array([[2**31 - 1, -2**31, 0, 2**24 + 1, 2**24 + 3, -2**24 - 1]], np.int32)], axis=1))
    n.node("DequantizeLinear", [x, n.const(0.00123)], "int32_d")
    n.node("DequantizeLinear", [x, n.const(0.1), n.const(0, np.int32)], "int32_d_zero")


QUANT_PATH = "MLAS MlasQuantizeLinear (SSE2 kernel; AVX-512 CPUs have another with the same arithmetic); DequantizeLinear in C++"


@case("QuantizeLinear and DequantizeLinear, opset 10: per tensor, uint8 and int8, int32 (dequantized)", QUANT_PATH, opset=10, ir=5, reference=True)
def quantize_opset10(n):
    quantize_family(n, ["uint8", "int8"], axis=False)


@case("QuantizeLinear and DequantizeLinear, opset 13: per tensor and per axis, uint8 and int8, int32 (dequantized)", QUANT_PATH, opset=13, ir=7, reference=True)
def quantize_opset13(n):
    quantize_family(n, ["uint8", "int8"])


@case("QuantizeLinear and DequantizeLinear, opset 19", QUANT_PATH, opset=19, ir=9, reference=True)
def quantize_opset19(n):
    quantize_family(n, ["uint8", "int8"])


def int4(n):
    """Codes of 4 bits cannot leave ONNX Runtime's Python interface: only the dequantized values are recorded."""
    for name, t, lo, hi in (("int4", TensorProto.INT4, -8, 7), ("uint4", TensorProto.UINT4, 0, 15)):
        for i, (s, zp) in enumerate([(0.5, 1), (0.1, 3), (1 / 3, 7)]):
            x = n.input(f"x_{name}_{i}", near_ties(n.rng, 200, s, lo, hi, zp)[None])
            z = lambda: helper.make_tensor("z", t, [], [zp])
            n.node("QuantizeLinear", [x, n.const(s), n.const(z())], f"{name}_q{i}", hidden=True)
            n.node("DequantizeLinear", [f"{name}_q{i}", n.const(s), n.const(z())], f"{name}_d{i}")


@case("QuantizeLinear and DequantizeLinear, opset 21: 8 and 16 bits per tensor and per axis, int4 and uint4 (only dequantized)", QUANT_PATH,
      opset=21, ir=10, reference=True)
def quantize_opset21(n):
    quantize_family(n, ["uint8", "int8", "uint16", "int16"])
    int4(n)


@case("QuantizeLinear and DequantizeLinear, opset 25: 8 and 16 bits per tensor and per axis, int4 and uint4 (only dequantized)", QUANT_PATH,
      opset=25, ir=11, reference=True)
def quantize_opset25(n):
    quantize_family(n, ["uint8", "int8", "uint16", "int16"])
    int4(n)


@case("QuantizeLinear and DequantizeLinear, opset 21: a scale and a zero point for each block of 10 elements", QUANT_PATH, opset=21, ir=10, reference=True,
      undecided="80 elements: that blocks follow the rule of single scales is shown here, the rule is decided by the other cases")
def quantize_blocked(n):
    x = n.input("x_blocked", np.stack([near_ties(n.rng, 40, 0.5, 0, 255, 127), near_ties(n.rng, 40, 0.1, 0, 255, 3)]))
    s = np.array([[0.5, 0.1, 1.0, 0.3], [0.1, 0.3, 0.05, 0.7]], F)
    z = np.array([[127, 3, 128, 0], [3, 5, 255, 77]], U)
    y = n.node("QuantizeLinear", [x, n.const(s), n.const(z, U)], "blocked_q", axis=1, block_size=10)
    n.node("DequantizeLinear", [y, n.const(s), n.const(z, U)], "blocked_d", axis=1, block_size=10)


@case("DynamicQuantizeLinear: both signs, only positive, only negative, zeros, one value, ties of the codes and of the zero point", "MLAS MlasFindMinMaxElement, MlasQuantizeLinear",
      opset=17, reference=True)
def dynamic_quantize(n):
    r = n.rng
    data = {"zeros": np.zeros(7), "one": np.array([3.7]), "negative_one": np.array([-3.7]), "positive": r.uniform(0.5, 9, 100), "negative": r.uniform(-9, -0.5, 100),
            "integers": np.arange(-127, 129), "halves": np.arange(-127.5, 128, 0.5), "zero_point_tie": np.concatenate([[-0.5, 254.5], np.arange(0, 254, 0.5)]),
            "zero_point_tie_odd": np.concatenate([[-1.5, 253.5], np.arange(0, 253, 0.5)]), "zero_point_tie_scaled": np.concatenate([[-0.05, 25.45], np.arange(0, 25, 0.05)]),
            "tiny": r.uniform(-1e-38, 1e-38, 40)}
    data |= {f"random{i}": r.normal(0.3 * i - 1, 1 + i, 300) for i in range(8)}
    data |= {f"zero_point_tie{i}": np.concatenate([[-(k + 0.5) * s, (254.5 - k) * s], (np.arange(200) * 0.5 - k + 0.5) * s]) for i, (k, s) in
             enumerate([(0, 0.1), (1, 0.3), (2, 0.7), (100, 0.1), (127, 0.01), (253, 0.03), (77, 1 / 3), (88, 0.9), (31, 1.1), (62, 1.3)])}
    for name, v in data.items():
        n.node("DynamicQuantizeLinear", [n.input(f"x_{name}", v.astype(F)[None])], f"{name}_y", extra=[f"{name}_scale", f"{name}_zero_point"])


# ---------------------------------------------------------------- pair saturation

@case("QLinearConv, QLinearMatMul, ConvInteger, MatMulInteger with weights up to 127 and activations near 255: pairs of u8 x s8 products saturate to int16 in "
      "vpmaddubsw on CPUs without VNNI. Each node has a twin whose weights are the same numbers in uint8 (zero point 128), which multiplies exactly",
      "MLAS AVX2 without VNNI: MlasConvSymKernelAvx2, QGEMM U8S8, GEMV U8S8 saturate; U8U8 and the depthwise kernels do not", targets=("onnxruntime-avx2",), opset=17,
      undecided="this is not what a CPU with VNNI, or an Arm CPU, computes")
def conv_pair_saturation(n):
    x = n.input("x_u8", n.codes((1, 8, 6, 6), U, 150, 255))
    s = n.input("x_s8", (n.ins["x_u8"].astype(np.int16) - 128).astype(S))
    x5 = n.input("x5_u8", n.codes((1, 5, 6, 6), U, 150, 255))
    a = n.input("a_u8", n.codes((9, 22), U, 150, 255))
    row = n.input("row_u8", n.codes((1, 22), U, 150, 255))
    def signs(shape):
        return (n.rng.choice([-1, 1], shape) * n.rng.integers(90, 128, shape)).astype(S)
    def twin(out, inp, w, ys, **attrs):
        conv(n, out, inp, 0.01, np.array(127, U) if n.ins[inp].dtype == U else np.array(-1, S), w, 0.01, np.array(0, S), ys, np.array(127, n.ins[inp].dtype), **attrs)
        if n.ins[inp].dtype == U:
            conv(n, f"{out}_u8_weights", inp, 0.01, np.array(127, U), (w.astype(np.int16) + 128).astype(U), 0.01, np.array(128, U), ys, np.array(127, U), **attrs)
    twin("sym", x, signs((16, 8, 3, 3)), 0.5)
    twin("gemm", x5, signs((6, 5, 3, 3)), 0.5)
    w = signs((6, 8, 3, 3))
    twin("gemm8", x, w, 0.5)
    twin("gemm_s8", s, w, 0.5)
    twin("groups", x, signs((6, 4, 3, 3)), 0.3, group=2)
    twin("depthwise", x, signs((8, 1, 3, 3)), 0.1, group=8)
    x16 = n.input("x16_u8", n.codes((1, 16, 5, 5), U, 150, 255))
    twin("sym_depthwise", x16, signs((16, 1, 3, 3)), 0.1, group=16)
    w = signs((6, 8, 3, 3))
    z = n.const(127, U)
    n.node("ConvInteger", [x, n.const(w, S), z], "conv_integer")
    n.node("ConvInteger", [x, n.const((w.astype(np.int16) + 128).astype(U), U), z, n.const(128, U)], "conv_integer_u8_weights")
    for tag, inp in (("a", a), ("row", row)):
        for bits, lo in (("7", 64), ("8", 90)):
            b = (n.rng.choice([-1, 1], (22, 35)) * n.rng.integers(lo // 2 if bits == "7" else lo, 65 if bits == "7" else 128, (22, 35))).astype(S)
            n.node("MatMulInteger", [inp, n.const(b, S), z], f"matmul_{tag}_{bits}bit")
            n.node("MatMulInteger", [inp, n.const((b.astype(np.int16) + 128).astype(U), U), z, n.const(128, U)], f"matmul_{tag}_{bits}bit_u8_weights")
    # which products are a pair: padding, odd numbers of channels, groups, weight zero points
    def lane(out, channels, kernel, outputs=16, wz=np.array(0, S), **attrs):
        x = n.input(f"{out}_x", n.codes((1, channels, 6, 6), U, 120, 255))
        w = n.codes((outputs, channels // attrs.get("group", 1), *kernel), S)
        w[::2] = np.clip(n.rng.integers(90, 160, w[::2].shape), -128, 127) * n.rng.choice([-1, 1])
        conv(n, out, x, 0.01, np.array(213, U), w, 0.01, wz, 0.07 * np.sqrt(w[0].size), np.array(127, U), **attrs)
    for channels in (1, 3, 4, 7, 8):
        lane(f"three_{channels}", channels, (3, 3), pads=[1] * 4)
    lane("sym_pads", 16, (3, 3), pads=[1, 0, 1, 2], strides=[2, 1])
    lane("five", 3, (5, 5), pads=[2] * 4)
    lane("point", 13, (1, 1))
    lane("groups_of_5", 10, (3, 3), 6, group=2, pads=[1] * 4)
    lane("groups_of_2", 16, (3, 3), 16, group=8, pads=[1] * 4)
    lane("multiplier", 4, (3, 3), 8, group=4, pads=[1] * 4)
    lane("depthwise_five", 4, (5, 5), 4, group=4, pads=[2] * 4)
    lane("weight_zero_point", 5, (3, 3), 6, np.array(-9, S), pads=[1] * 4)
    w = n.codes((22, 35), S, 80, 127)
    for tag, inp in (("a", a), ("row", row)):
        n.node("QLinearMatMul", [inp, n.const(0.01), z, n.const(w, S), n.const(0.01), n.const(5, S), n.const(0.3), z], f"qlinear_matmul_{tag}")


# ---------------------------------------------------------------- QDQ graphs

def q(n, x, s, z, t, out, hidden=True, axis=None):
    return n.node("QuantizeLinear", [x, n.const(s), n.const(z, t)], out, hidden=hidden)


def dq(n, x, s, z, t, out):
    return n.node("DequantizeLinear", [x, n.const(s), n.const(z, t)], out, hidden=True)


def qdq_pair(n, x, s, z, out):
    return dq(n, q(n, x, s, z, U, f"{out}_q"), s, z, U, f"{out}_dq")


def qdq_graph(n, kinds):
    """Each branch: uint8 input -> DQ -> float operator -> Q -> uint8 output."""
    r = n.rng
    def act(name, shape, s, z):
        return dq(n, n.input(name, n.codes(shape, U)), s, z, U, f"{name}_dq")
    if "conv" in kinds:
        for i, (sx, sw, sy, zx, zy) in enumerate([(0.5, 0.25, 1.0, 127, 129), (0.1, 0.7, 0.14, 3, 77)]):
            x = act(f"x_conv{i}", (1, 8, 7, 6), sx, zx)
            w = n.const(n.codes((6, 8, 3, 3), S, -3, 3), S)
            w = n.node("DequantizeLinear", [w, n.const(sw), n.const(0, S)], f"conv{i}_w", hidden=True)
            b = n.node("DequantizeLinear", [n.const(r.integers(-40, 40, 6), np.int32), n.const(F(sx) * F(sw)), n.const(0, np.int32)], f"conv{i}_b", hidden=True)
            q(n, n.node("Conv", [x, w, b], f"conv{i}_f", hidden=True, pads=[1, 1, 1, 1]), sy, zy, U, f"conv{i}", hidden=False)
    if "matmul" in kinds:
        x = act("x_matmul", (2, 9, 12), 0.3, 131)
        w = n.node("DequantizeLinear", [n.const(n.codes((12, 7), S, -4, 4), S), n.const(0.1), n.const(0, S)], "matmul_w", hidden=True)
        q(n, n.node("MatMul", [x, w], "matmul_f", hidden=True), 0.12, 127, U, "matmul", hidden=False)
    if "add" in kinds:
        for i, (sa, za, sb, zb, sy, zy) in enumerate(ADD_SCALES[:5]):
            a, b = act(f"add{i}_a", (1, 3, 20, 31), sa, za), act(f"add{i}_b", (1, 3, 20, 31), sb, zb)
            q(n, n.node("Add", [a, b], f"add{i}_f", hidden=True), sy, zy, U, f"add{i}", hidden=False)
    if "mul" in kinds:
        a, b = act("mul_a", (1, 3, 20, 31), 0.1, 3), act("mul_b", (1, 3, 20, 31), 0.3, 255)
        q(n, n.node("Mul", [a, b], "mul_f", hidden=True), 1.8, 127, U, "mul", hidden=False)
    if "pool" in kinds:
        x = act("x_pool", (1, 5, 8, 7), 0.1, 127)
        q(n, n.node("AveragePool", [x], "pool_f", hidden=True, kernel_shape=[3, 3], pads=[1, 1, 1, 1]), 0.1, 129, U, "pool", hidden=False)
        x = act("x_gap", (30, 5, 3, 3), 0.5, 127)
        q(n, n.node("GlobalAveragePool", [x], "gap_f", hidden=True), 0.25, 129, U, "gap", hidden=False)
    if "sigmoid" in kinds:
        x = act("x_sigmoid", (1, 2, 300), 0.05, 127)
        q(n, n.node("Sigmoid", [x], "sigmoid_f", hidden=True), 1 / 256, 0, U, "sigmoid", hidden=False)
        x = act("x_leaky", (1, 2, 300), 0.1, 129)
        q(n, n.node("LeakyRelu", [x], "leaky_f", hidden=True, alpha=0.3), 0.2, 129, U, "leaky", hidden=False)
        x = act("x_softmax", (30, 10), 0.05, 127)
        q(n, n.node("Softmax", [x], "softmax_f", hidden=True, axis=-1), 1 / 256, 0, U, "softmax", hidden=False)
    if "concat" in kinds:
        a, b, c = act("concat_a", (1, 3, 10, 10), 0.1, 3), act("concat_b", (1, 3, 10, 10), 0.2, 129), act("concat_c", (1, 3, 10, 10), 0.3, 255)
        q(n, n.node("Concat", [a, b, c], "concat_f", hidden=True, axis=1), 0.2, 129, U, "concat", hidden=False)


@case("QDQ graphs of Conv, MatMul, Add, Mul, AveragePool, GlobalAveragePool, Sigmoid, LeakyRelu, Softmax, Concat with uint8 activations, as ONNX Runtime fuses them "
      "with all optimizations: only the final codes are recorded",
      "the kernels of the QLinear operators, after fusion" + PAIRS_EXACT,
      optimized={"QLinearConv": 2, "QLinearMatMul": 1, "QLinearAdd": 5, "QLinearMul": 1, "QLinearAveragePool": 1, "QLinearGlobalAveragePool": 1,
                 "QLinearSigmoid": 1, "QLinearLeakyRelu": 1, "QLinearSoftmax": 1, "QLinearConcat": 1})
def qdq_uint8(n):
    qdq_graph(n, ["conv", "matmul", "add", "mul", "pool", "sigmoid", "concat"])


# ---------------------------------------------------------------- running and writing

def session(proto, spec):
    so = ort.SessionOptions()
    so.intra_op_num_threads = 1
    so.log_severity_level = 3
    so.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL if spec["optimized"] else ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if spec["optimized"]:
        with tempfile.TemporaryDirectory() as folder:
            so.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
            s = ort.InferenceSession(proto.SerializeToString(), so, providers=["CPUExecutionProvider"])
            found = {}
            for node in onnx.load(so.optimized_model_filepath).graph.node:
                found[node.op_type] = found.get(node.op_type, 0) + 1
        for op, count in spec["optimized"].items():
            if found.get(op, 0) != count:
                raise SystemExit(f"the optimized graph holds {found}, not {count} x {op}")
        return s, found
    return ort.InferenceSession(proto.SerializeToString(), so, providers=["CPUExecutionProvider"]), None


def write_npz(path, arrays):
    """np.savez_compressed with a fixed time stamp."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as z:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(array) if np.ndim(array) else np.asarray(array), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            z.writestr(entry, buffer.getvalue())


def write(folder, proto, inputs, outputs, tool, tool_license, spec, targets, tells_apart, undecided, cpu_path):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(proto.SerializeToString(deterministic=True))
    write_npz(folder / "inputs.npz", inputs)
    write_npz(folder / "outputs.npz", outputs)
    flags = Path("/proc/cpuinfo").read_text()
    isa = ("AVX-512" if "avx512f" in flags else "AVX2") + (", VNNI" if "vnni" in flags else ", no VNNI")
    lines = [
        f"tool = {json.dumps(tool)}",
        f"platform = {json.dumps(f'{platform.system()} {platform.machine()} ({isa}), Python {platform.python_version()}')}",
        f"cpu_path = {json.dumps(cpu_path)}",
        'command = "python golden/recorders/onnxruntime_ops.py golden"',
        f"date = {datetime.date.today().isoformat()}",
        'license = "Apache-2.0 OR MIT: model and data made by this project\'s script"',
        f"license_of_the_tool = {json.dumps(tool_license)}",
        f"what = {json.dumps(spec['what'])}",
        f"targets = {json.dumps(targets)}",
        f"tells_apart = {json.dumps(tells_apart)}",
        f"undecided = {json.dumps(undecided)}",
        "",
        "[sha256]",
        *(f"{json.dumps(f)} = {json.dumps(hashlib.sha256((folder / f).read_bytes()).hexdigest())}" for f in ("model.onnx", "inputs.npz", "outputs.npz")),
    ]
    (folder / "recording.toml").write_text("\n".join(lines) + "\n")


def supported(proto, feeds):
    """The model without the nodes that ReferenceEvaluator refuses, and those nodes with their errors."""
    kept, refused, known = onnx.ModelProto(), [], dict(feeds)
    kept.CopyFrom(proto)
    del kept.graph.node[:]
    inits = {i.name: i for i in proto.graph.initializer}
    for node in proto.graph.node:
        wanted = [i for i in node.input if i]
        if not all(i in known or i in inits for i in wanted):
            continue
        tensors = {i: known[i] for i in wanted if i in known}
        graph = helper.make_graph([node], "node", [helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(np.asarray(v).dtype), np.shape(v)) for k, v in tensors.items()],
                                  [onnx.ValueInfoProto(name=o) for o in node.output], [inits[i] for i in dict.fromkeys(wanted) if i in inits])
        model = helper.make_model(graph, opset_imports=proto.opset_import, ir_version=proto.ir_version)
        try:
            values = ReferenceEvaluator(model).run(None, tensors)
        except Exception as error:  # any error means: this node is not evaluated
            refused.append(f"{node.name} ({type(error).__name__})")
            continue
        known.update(zip(node.output, values))
        kept.graph.node.append(node)
    used = {i for node in kept.graph.node for i in node.input}
    for field, names in ((kept.graph.input, used), (kept.graph.initializer, used), (kept.graph.output, {o for node in kept.graph.node for o in node.output})):
        rest = [x for x in field if x.name in names]
        del field[:]
        field.extend(rest)
    return kept, refused


def main(root, prefix=""):
    root = Path(root)
    for name, spec in CASES.items():
        if not name.startswith(prefix):
            continue
        net = Net(zlib.crc32(name.encode()), spec["opset"], spec["ir"])
        spec["build"](net)
        proto = net.proto()
        s, found = session(proto, spec)
        outputs = dict(zip(net.outs, s.run(net.outs, net.ins)))
        # the optimizer reads types from the graph's outputs, so they are written into the committed model
        for info in proto.graph.output:
            a = outputs[info.name]
            info.CopyFrom(helper.make_tensor_value_info(info.name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape))
        again, _ = session(proto, spec)
        for k, v in zip(net.outs, again.run(net.outs, net.ins)):
            assert np.array_equal(v, outputs[k], equal_nan=v.dtype == F), k
        shutil.rmtree(root / "onnxruntime" / name, ignore_errors=True)
        write(root / "onnxruntime" / name, proto, net.ins, outputs, f"onnxruntime {version('onnxruntime')}", "MIT", spec, spec["targets"],
              TELLS.get(name, ""), "; ".join(filter(None, [UNDECIDED.get(name, ""), spec["undecided"]])), spec["cpu_path"] + (f"; optimized graph: {found}" if found else ""))
        sizes = [sum(f.stat().st_size for f in (root / "onnxruntime" / name).iterdir())]
        if spec["reference"]:
            # numpy's cast of floats outside int32 depends on the CPU, so the evaluator does not get such inputs
            feeds = {k: np.where(np.abs(v) < 1e6, v, F(7.25)).astype(F) if v.dtype == F else v for k, v in net.ins.items()}
            kept, refused = supported(proto, feeds)
            reference = ReferenceEvaluator(kept)
            names = [o.name for o in kept.graph.output]
            ref = {k: np.asarray(v) for k, v in zip(names, reference.run(names, {i.name: feeds[i.name] for i in kept.graph.input}))}
            for info in kept.graph.output:
                a = ref[info.name]
                info.CopyFrom(helper.make_tensor_value_info(info.name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape))
            shutil.rmtree(root / "onnx-reference" / name, ignore_errors=True)
            write(root / "onnx-reference" / name, kept, {i.name: feeds[i.name] for i in kept.graph.input}, ref, f"onnx {version('onnx')} ReferenceEvaluator, numpy {version('numpy')}", "Apache-2.0", spec,
                  ["onnx-reference"], REF_TELLS.get(name, ""), "; ".join(filter(None, [REF_UNDECIDED.get(name, ""), f"nodes that the evaluator refuses, left out: {'; '.join(refused)}" if refused else ""])), "numpy")
            sizes.append(sum(f.stat().st_size for f in (root / "onnx-reference" / name).iterdir()))
        print(f"{name:32} {len(net.nodes):4} nodes {sum(a.size for a in outputs.values()):8} elements {[f'{s / 1000:.0f} kB' for s in sizes]}", flush=True)


# counted with an implementation of each rule in numpy on exactly these files
TELLS = {
    "conv-pair-saturation": (
        "exact products: sym 242 of 256, gemm 94 of 96, gemm8 90 of 96, groups 94 of 96, matmul_a_8bit 315 of 315, matmul_row_8bit 35 of 35 differ; products "
        "added in pairs (k = 2j, 2j+1 of the sequence kernel position, channel), each pair saturated to int16, raw uint8 codes times int8 weights, zero points "
        "corrected afterwards: 0 of 894 differ. Pairs in the order channel, kernel position: sym 241, gemm 83, gemm8 83, groups 89. Exact without saturation: "
        "int8 activations, uint8 weights, depthwise, ConvInteger, weights of 7 bits; all lanes, with padding, odd channels, groups and a weight zero point: "
        "exact sums get 5898 of 9430 wrong, pairs of channels of a kernel position 2598, padding left out 2378"
    ),
    "dynamic-quantize": (
        "codes (6956 elements): zero point half away 1618, zero point truncated 3649, zero point inside the rounding 289, codes by x*(1/s) 154, zero point by "
        "reciprocal 239; scale (29 elements): scale 1/255 for zeros 1; zero point (29 elements): zero point half away 5, zero point truncated 15, zero point by "
        "reciprocal 2"
    ),
    "integer": (
        "ConvInteger (252 elements): no zero points 180"
    ),
    "maxpool": (
        "the maximum of integers; there is nothing to round"
    ),
    "qdq-uint8": (
        "QLinearConv (504): half away 23, half up 22, zero point inside the rounding 41, all in f64 6, (acc*(sx*sw))/sy 1, acc*(sx*sw)*(1/sy) 1; QLinearMatMul "
        "(126): zero point inside the rounding 9, (acc*(sx*sw))/sy 1; QLinearAdd (9300): dequantized sum / sy, zero point inside 69, dequantized sum / sy, zero "
        "point after 1409, f64, zero point inside 362, f64, zero point after 1269, half away 1009, half up 1009; QLinearMul (1860): multiply-add fused 1, zero "
        "point after the rounding 18, (sa/sy)*sb 3, all in f64 11, dequantized product /sy 2, half away 14, half up 14; QLinearAveragePool (280): zero point "
        "after the rounding 21, all in f64 1, half away 11, the global pool's formula 19; QLinearLeakyRelu (600): zero point inside the rounding 147, half away "
        "63, half up 71, all in f64 15; QLinearConcat (900): zero point inside the rounding 194, multiplication by sx/sy 9, all in f64 25, half away 84"
    ),
    "qgemm": (
        "QGemm (4191 elements): half away 174, half up 168, zero point inside the rounding 304, M = sx*(sw/sy) 502, M = (sx/sy)*sw 502, M in f64, rounded to "
        "f32 502, all in f64 530, f64(acc)*f64(M) 34, (acc*(sx*sw))/sy 467, acc*(sx*sw)*(1/sy) 472, M=alpha*((sa*sb)/sy) 18, M=(alpha*(sa*sb))/sy 18, bias not "
        "added 1423; QGemm with float output (924 elements): acc*(alpha*(sa*sb)) 61, acc*sa*sb 270, all in f64 270"
    ),
    "qlinear-add-s8": (
        "QLinearAdd (786432 elements): constant term unfused: zy-(ra*za+rb*zb) 19654, constant term (zy-ra*za)-rb*zb 9268, constant term by two fused negated "
        "products 10190, operands the other way round 3874, no multiply-add fused 21388, no multiply-add fused, a first 21434, dequantized sum / sy, zero point "
        "inside 24141, dequantized sum / sy, zero point after 81092, f64, zero point inside 30748, f64, zero point after 73332, half away 46718, half up 46527"
    ),
    "qlinear-add-u8": (
        "QLinearAdd (786432 elements): constant term unfused: zy-(ra*za+rb*zb) 23659, constant term (zy-ra*za)-rb*zb 8636, constant term by two fused negated "
        "products 15920, operands the other way round 5338, no multiply-add fused 23833, no multiply-add fused, a first 24955, dequantized sum / sy, zero point "
        "inside 16084, dequantized sum / sy, zero point after 78365, f64, zero point inside 34850, f64, zero point after 74916, half away 52051, half up 52051"
    ),
    "qlinear-average-pool": (
        "QLinearAveragePool (14600 elements): zero point after the rounding 578, integer sum*sx/n/sy 45, column order 35, all in f64 70, sum/(n*sy) 12, "
        "sum*(1/n) 7, half away 320, count of the padded extent only 269, the global pool's formula 673; QLinearAveragePool over the whole image (2700 "
        "elements): zero point inside the rounding 35, (sx/sy)/n 31, (sx/n)/sy 31, all in f64 37, half away 6, half up 6, the window loop instead 45"
    ),
    "qlinear-broadcast": (
        "QLinearAdd, one element each (104 elements): constant term unfused: zy-(ra*za+rb*zb) 4, constant term fused on the other operand 8, constant term "
        "(zy-ra*za)-rb*zb 12, constant term by two fused negated products 12, operands the other way round 56, product of a scalar operand not fused 29, no "
        "multiply-add fused 40, no multiply-add fused, a first 40, dequantized sum / sy, zero point inside 48, dequantized sum / sy, zero point after 44, f64, "
        "zero point inside 44, f64, zero point after 46, half away 22, half up 23; QLinearMul (29336 elements): multiply-add fused 4, zero point after the "
        "rounding 348, (sa/sy)*sb 30, all in f64 97, dequantized product /sy 23, half away 180, half up 191; QLinearAdd (13816 elements): constant term "
        "unfused: zy-(ra*za+rb*zb) 70, constant term fused on the other operand 70, constant term (zy-ra*za)-rb*zb 211, constant term by two fused negated "
        "products 1002, operands the other way round 547, no multiply-add fused 2318, no multiply-add fused, a first 1978, dequantized sum / sy, zero point "
        "inside 1676, dequantized sum / sy, zero point after 2665, f64, zero point inside 1630, f64, zero point after 2102, half away 1243, half up 1367; "
        "QLinearAdd, second operand one element (16168 elements): constant term unfused: zy-(ra*za+rb*zb) 20, constant term fused on the other operand 20, "
        "constant term (zy-ra*za)-rb*zb 67, constant term by two fused negated products 302, operands the other way round 181, product of a scalar operand not "
        "fused 731, no multiply-add fused 791, no multiply-add fused, a first 689, dequantized sum / sy, zero point inside 717, dequantized sum / sy, zero "
        "point after 2027, f64, zero point inside 981, f64, zero point after 1648, half away 1364, half up 1393; QLinearAdd, first operand one element (31856 "
        "elements): constant term unfused: zy-(ra*za+rb*zb) 20, constant term fused on the other operand 20, constant term (zy-ra*za)-rb*zb 67, constant term "
        "by two fused negated products 302, operands the other way round 170, product of a scalar operand not fused 731, no multiply-add fused 718, no "
        "multiply-add fused, a first 718, dequantized sum / sy, zero point inside 884, dequantized sum / sy, zero point after 6050, f64, zero point inside "
        "1663, f64, zero point after 5345, half away 3343, half up 3385"
    ),
    "qlinear-concat": (
        "QLinearConcat (7168 elements): zero point inside the rounding 962, multiplication by sx/sy 86, x*(1/sy) 142, all in f64 104, half away 652"
    ),
    "qlinear-conv": (
        "QLinearConv (19396 elements): half away 520, half up 536, zero point inside the rounding 939, M = sx*(sw/sy) 87, M = (sx/sy)*sw 91, M in f64, rounded "
        "to f32 87, all in f64 189, f64(acc)*f64(M) 82, (acc*(sx*sw))/sy 38, acc*(sx*sw)*(1/sy) 38"
    ),
    "qlinear-global-average-pool": (
        "QLinearGlobalAveragePool (36000 elements): zero point inside the rounding 1930, (sx/sy)/n 51, (sx/n)/sy 51, all in f64 156, half away 961, half up 918"
    ),
    "qlinear-leaky-relu": (
        "QLinearLeakyRelu (21504 elements): zero point inside the rounding 2877, x*(1/sy) 36, half away 1378, half up 1374, alpha*sx first 38, all in f64 400, "
        "ratio sx/sy first 70"
    ),
    "qlinear-matmul": (
        "QLinearMatMul (6165 elements): half away 196, half up 197, zero point inside the rounding 421, M = sx*(sw/sy) 48, M = (sx/sy)*sw 53, M in f64, rounded "
        "to f32 48, all in f64 76, f64(acc)*f64(M) 33, (acc*(sx*sw))/sy 20, acc*(sx*sw)*(1/sy) 19"
    ),
    "qlinear-mul": (
        "QLinearMul (1048576 elements): multiply-add fused 969, zero point after the rounding 11473, sa*(sb/sy) 2546, (sa/sy)*sb 946, all in f64 2335, "
        "dequantized product /sy 1924, half away 6785, half up 6754"
    ),
    "qlinear-sigmoid": (
        "QLinearSigmoid (24576 elements): zero point inside the rounding 6, x*(1/sy) 16, half away 6, half up 6, unfused polynomials 28, exact logistic f64 -> "
        "f32 28, f32 1/(1+exp(-x)) 38, f64 throughout 42"
    ),
    "qlinear-softmax": (
        "QLinearSoftmax (79944 elements): quotient rounded to f32 30, f32 (e*y)/sum 1168, f32 (e/sum)*y 1900, f32 e*(y/sum) 226, f64 e*(y/sum) 4, 1/sy not "
        "floored 1753, (e/sum)/sy 1781, sum in f64 4188, numpy's pairwise f32 sum 20, table in f64 7306, log of the shift in f64 1896, table without shift "
        "4184, half away 212, int8 wraps above 127 (before PR 29728) 557, zero point inside 628, softmax in f64, / sy 1739"
    ),
    "quantize-opset10": (
        "QuantizeLinear (4960 elements): x*(1/s) 278, half away 605, half up 617, zero point inside the rounding 1271, f64 division 513, floor(v+0.5) in f32 "
        "621; DequantizeLinear (5092 elements): all in f64 49, x*s - zp*s 1632, fma(x, s, -zp*s) 1401"
    ),
    "quantize-opset13": (
        "QuantizeLinear (6880 elements): x*(1/s) 384, half away 868, half up 828, zero point inside the rounding 1729, f64 division 674, floor(v+0.5) in f32 "
        "837; DequantizeLinear (7012 elements): all in f64 19, x*s - zp*s 2069, fma(x, s, -zp*s) 1676"
    ),
    "quantize-opset19": (
        "QuantizeLinear (6880 elements): x*(1/s) 369, half away 829, half up 813, zero point inside the rounding 1777, f64 division 675, floor(v+0.5) in f32 "
        "819; DequantizeLinear (7012 elements): all in f64 31, x*s - zp*s 2275, fma(x, s, -zp*s) 1758"
    ),
    "quantize-opset21": (
        "QuantizeLinear (13680 elements): x*(1/s) 828, half away 1618, half up 1601, zero point inside the rounding 3016, f64 division 1330, floor(v+0.5) in "
        "f32 1603; DequantizeLinear (15012 elements): all in f64 35, x*s - zp*s 3842, fma(x, s, -zp*s) 2114; counted with the 80 elements of quantize-blocked"
    ),
    "quantize-opset25": (
        "QuantizeLinear (13680 elements): x*(1/s) 779, half away 1708, half up 1766, zero point inside the rounding 3094, f64 division 1347, floor(v+0.5) in "
        "f32 1774; DequantizeLinear (15012 elements): all in f64 42, x*s - zp*s 3860, fma(x, s, -zp*s) 2134; counted with the 80 elements of quantize-blocked"
    ),
}
UNDECIDED = {
    "qdq-uint8": (
        "few elements: that fusion takes place is shown here, the rules are decided by the other cases"
    ),
    "qlinear-add-s8": (
        "which product of the constant term is fused (decided by qlinear-broadcast)"
    ),
    "qlinear-add-u8": (
        "which product of the constant term is fused (decided by qlinear-broadcast)"
    ),
    "qlinear-broadcast": (
        "QLinearMul: sa*(sb/sy) (decided by qlinear-mul)"
    ),
    "qlinear-concat": (
        "whether equal scales are copied or looked up (the table is then the identity)"
    ),
    "qlinear-softmax": (
        "(e/sum)*floor(1/sy) in f64"
    ),
}
REF_TELLS = {
    "dynamic-quantize": (
        "codes (6956 elements): zero point half away 1618, zero point truncated 3649, zero point inside the rounding 289, codes by x*(1/s) 154, zero point by "
        "reciprocal 239; scale (29 elements): scale 1 for zeros 1, zero point half away 1, zero point truncated 1, zero point inside the rounding 1, codes by "
        "x*(1/s) 1, zero point by reciprocal 1; zero point (29 elements): zero point half away 5, zero point truncated 15, zero point by reciprocal 2"
    ),
    "integer": (
        "ConvInteger (252 elements): no zero points 180"
    ),
    "qlinear-conv": (
        "QLinearConv (19076 elements): f32 product 121, zero point after the rounding 884, M in f64 256"
    ),
    "qlinear-matmul": (
        "QLinearMatMul (6165 elements): f32 product 66, zero point after the rounding 322, M in f64 115"
    ),
    "quantize-opset10": (
        "QuantizeLinear (4960 elements): x*(1/s) 278, half away 635, half up 647, zero point inside the rounding 1283, f64 division 513, floor(v+0.5) in f32 "
        "651"
    ),
    "quantize-opset13": (
        "QuantizeLinear (6880 elements): x*(1/s) 384, half away 946, half up 906, zero point inside the rounding 1765, f64 division 674, floor(v+0.5) in f32 "
        "915"
    ),
    "quantize-opset19": (
        "QuantizeLinear (6880 elements): x*(1/s) 369, half away 907, half up 891, zero point inside the rounding 1813, f64 division 675, floor(v+0.5) in f32 "
        "897; DequantizeLinear (7012 elements): all in f64 31, x*s - zp*s 2296, fma(x, s, -zp*s) 1791"
    ),
    "quantize-opset21": (
        "QuantizeLinear (13680 elements): x*(1/s) 828, half away 1774, half up 1757, zero point inside the rounding 3094, f64 division 1330, floor(v+0.5) in "
        "f32 1759; DequantizeLinear (15012 elements): all in f64 35, x*s - zp*s 3912, fma(x, s, -zp*s) 2194; counted with the 80 elements of quantize-blocked"
    ),
    "quantize-opset25": (
        "QuantizeLinear (13680 elements): x*(1/s) 779, half away 1865, half up 1923, zero point inside the rounding 3173, f64 division 1347, floor(v+0.5) in "
        "f32 1931; DequantizeLinear (15012 elements): all in f64 42, x*s - zp*s 3931, fma(x, s, -zp*s) 2213; counted with the 80 elements of quantize-blocked"
    ),
}
REF_UNDECIDED = {
}

if __name__ == "__main__":
    main(*sys.argv[1:])
