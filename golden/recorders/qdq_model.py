"""Shared by openvino_ops.py and pytorch_ops.py: QDQ ONNX graphs, tie-rich data, and the files of one recording."""

import datetime
import hashlib
import io
import json
import platform
import zipfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

F = np.float32


def limits(dtype):
    info = np.iinfo(dtype)
    return info.min, info.max


class Net:
    """A QDQ graph. `feeds` are the float inputs, `quantizers` maps the output of every activation QuantizeLinear to
    (scale, zero point, type), `weights` keeps the integer weights and float biases by name."""

    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.inits, self.feeds, self.outs = [], {}, {}, []
        self.quantizers, self.shapes = {}, {}

    def const(self, name, value):
        self.inits[name] = np.asarray(value)
        return name

    def op(self, kind, inputs, out, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [out], name=out + "_node", **attributes))
        return out

    def quantize(self, x, name, scale, zero, dtype=np.uint8):
        """QuantizeLinear; its output tensor is `name`."""
        self.const(name + "_scale", F(scale))
        self.const(name + "_zero", dtype(zero))
        self.quantizers[name] = (F(scale), int(zero), dtype)
        return self.op("QuantizeLinear", [x, name + "_scale", name + "_zero"], name)

    def dequantize(self, q, out=None):
        return self.op("DequantizeLinear", [q, q + "_scale", q + "_zero"], out or q + "_dq")

    def qdq(self, x, name, scale, zero, dtype=np.uint8):
        return self.dequantize(self.quantize(x, name, scale, zero, dtype))

    def input(self, name, values, scale, zero, dtype=np.uint8):
        """Float graph input `name` -> QuantizeLinear `name`_q -> DequantizeLinear. Integer `values` are codes: the float
        input is exactly the value that they stand for, f32(code - zero) * f32(scale)."""
        values = np.asarray(values)
        if values.dtype.kind in "iu":
            values = (values.astype(F) - F(zero)) * F(scale)
        self.feeds[name] = np.ascontiguousarray(values, F)
        return self.qdq(name, name + "_q", scale, zero, dtype)

    def output(self, x, name, scale, zero, dtype=np.uint8):
        """QuantizeLinear `name`_q -> DequantizeLinear -> graph output `name`."""
        self.outs.append(self.dequantize(self.quantize(x, name + "_q", scale, zero, dtype), name))
        return name

    def weight(self, name, codes, scale):
        """int8 initializer -> DequantizeLinear, one scale a row (axis 0) or one for all."""
        codes = np.asarray(codes, np.int8)
        scale = np.asarray(scale, F)
        self.const(name + "_q", codes)
        self.const(name + "_scale", scale)
        self.const(name + "_zero", np.zeros(scale.shape, np.int8))
        extra = {"axis": 0} if scale.ndim else {}
        return self.op("DequantizeLinear", [name + "_q", name + "_scale", name + "_zero"], name, **extra)

    def proto(self):
        tensors = [numpy_helper.from_array(v, k) for k, v in self.inits.items()]
        ins = [helper.make_tensor_value_info(k, TensorProto.FLOAT, v.shape) for k, v in self.feeds.items()]
        outs = [helper.make_tensor_value_info(k, TensorProto.FLOAT, None) for k in self.outs]
        graph = helper.make_graph(self.nodes, "g", ins, outs, tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
                                  producer_name="align-check recorder")
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        del model.graph.value_info[:]
        onnx.checker.check_model(model, full_check=True)
        return model


# ---------------------------------------------------------------- data

def codes(rng, shape, dtype=np.uint8):
    """Uniform codes of the whole range, with both ends."""
    lo, hi = limits(dtype)
    out = rng.integers(lo, hi + 1, shape).astype(dtype)
    flat = out.reshape(-1)
    flat[:: 37], flat[5:: 41] = lo, hi
    return out


def reals(rng, n, scale, zero, dtype=np.uint8):
    """Ties of a quantizer, one ulp beside them, grid points and their neighbours, saturation, zeros of both signs."""
    lo, hi = limits(dtype)
    s = F(scale)
    k = np.arange(lo - 3 - zero, hi + 4 - zero).astype(F)
    base = np.concatenate([(k + F(0.5)) * s, k * s])
    near = np.concatenate([base, np.nextafter(base, F(np.inf)), np.nextafter(base, F(-np.inf))])
    rest = np.concatenate([rng.uniform((lo - zero - 40) * float(s), (hi - zero + 40) * float(s), 200).astype(F),
                           np.array([0.0, -0.0, 1e30, -1e30, 1e-30, -1e-30], F)])
    return np.resize(rng.permutation(np.concatenate([near, rest])), n).astype(F)


# ---------------------------------------------------------------- files

def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def save_npz(path, arrays):
    """np.savez_compressed with a fixed time stamp, so that the same arrays give the same bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
            entry = zipfile.ZipInfo(name + ".npy", (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, buffer.getvalue())


def isa():
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    simd = "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else "instruction set unknown"
    vnni = "VNNI" if "avx512_vnni" in flags or "avx_vnni" in flags else "no VNNI"
    return f"{simd}, {vnni}"


def provenance(folder, names, *, tools, cpu_path, command, license_of_the_tool, what, targets, tells_apart, undecided, extra=()):
    """recording.toml: how the files `names` of the folder were made, and their checksums."""
    folder, text = Path(folder), json.dumps
    lines = [
        f"tool = {text(', '.join(f'{t} {version(t)}' for t in tools))}",
        f"platform = {text(f'{platform.system()} {platform.machine()} ({isa()}), Python {platform.python_version()}')}",
        f"cpu_path = {text(cpu_path)}",
        f"command = {text(command)}",
        f"date = {datetime.date.today().isoformat()}",
        'license = "Apache-2.0 OR MIT: model and data made by this project\'s script"',
        f"license_of_the_tool = {text(license_of_the_tool)}",
        f"what = {text(what)}",
        f"targets = {text(targets)}",
        f"tells_apart = {text(tells_apart)}",
        f"undecided = {text(undecided)}",
        *extra,
        "",
        "[sha256]",
        *(f"{text(name)} = {text(sha256(folder / name))}" for name in names),
    ]
    (folder / "recording.toml").write_text("\n".join(lines) + "\n")


def write(folder, model, inputs, outputs, **about):
    """The four files of one recording; `about` as for `provenance`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    save_npz(folder / "inputs.npz", inputs)
    save_npz(folder / "outputs.npz", outputs)
    provenance(folder, ["model.onnx", "inputs.npz", "outputs.npz"], **about)
