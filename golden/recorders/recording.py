"""Shared by the recorders: run a QONNX file with the qonnx executor and write one recording.

The executor needs a known shape for every tensor. The file itself stays as written: constants are
folded only in a copy, and only to learn the shapes, so that tensor names in a recording are the file's.
"""

import copy
import datetime
import hashlib
import json
import platform
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.fold_constants import FoldConstants
from qonnx.transformation.infer_shapes import InferShapes

CUSTOM = ["Quant", "IntQuant", "BipolarQuant", "FloatQuant", "Trunc", "MultiThreshold", "QuantAvgPool2d",
          "XnorPopcountMatMul", "Im2Col", "MaxPoolNHWC", "Conv", "BatchNormalization"]


def with_shapes(proto):
    model = ModelWrapper(proto, make_deepcopy=True).transform(InferShapes())
    if not model.check_all_tensor_shapes_specified():
        folded = ModelWrapper(copy.deepcopy(model.model)).transform(FoldConstants(exclude_op_types=CUSTOM))
        for node in model.graph.node:
            for name in node.output:
                if name and model.get_tensor_shape(name) is None and folded.get_tensor_shape(name) is not None:
                    value = folded.get_initializer(name)
                    elem = None if value is None else onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
                    info = folded.get_tensor_valueinfo(name)
                    elem = elem or (info.type.tensor_type.elem_type if info else onnx.TensorProto.FLOAT)
                    model.set_tensor_shape(name, folded.get_tensor_shape(name), elem)
    return model


def execute(proto, feeds):
    """Every tensor that a node writes (Constant nodes excepted), as executed."""
    model = with_shapes(proto)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        context = execute_onnx(model, {k: v.copy() for k, v in feeds.items()}, return_full_exec_context=True)
    names = [o for n in proto.graph.node if n.op_type != "Constant" for o in n.output if o]
    return {name: np.asarray(context[name]) for name in names}


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def provenance(folder, files, command, what, tools, extra=()):
    """recording.toml: enough to make the recording again and to notice a changed file."""
    isa = "instruction set unknown"
    try:
        flags = Path("/proc/cpuinfo").read_text()
        isa = "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else "SSE"
    except OSError:
        pass
    lines = [
        f"tool = {json.dumps(', '.join(f'{t} {version(t)}' for t in tools))}",
        f"platform = {json.dumps(f'{platform.system()} {platform.machine()} ({isa}), Python {platform.python_version()}')}",
        f"command = {json.dumps(command)}",
        f"date = {datetime.date.today().isoformat()}",
        'license = "Apache-2.0 OR MIT, made by this project\'s script"',
        'targets = ["exact"]',
        f"what = {json.dumps(what)}",
        *extra,
        "",
        "[sha256]",
        *(f"{json.dumps(name)} = {json.dumps(sha256(Path(folder) / name))}" for name in files),
    ]
    (Path(folder) / "recording.toml").write_text("\n".join(lines) + "\n")
