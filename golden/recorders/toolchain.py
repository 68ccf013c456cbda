"""Shared by the recorders of toolchain exports: what a tool wrote goes into one folder, what its engines made of it into
neighbours that name the same model."""

import datetime
import json
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np
from qdq_model import isa, save_npz, sha256


def without_paths(model):
    """Exporters write source paths and stack traces of the machine into metadata; nothing else is removed."""
    graph = model.graph
    for part in [model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer, *model.functions]:
        if part.DESCRIPTOR.fields_by_name.get("metadata_props"):
            del part.metadata_props[:]
        if part.DESCRIPTOR.fields_by_name.get("doc_string"):
            part.ClearField("doc_string")
    return model


def differing(a, b):
    """"n of all" elements."""
    a, b = np.asarray(a), np.asarray(b)
    return f"{int((a != b).sum())} of {a.size}"


def record(folder, *, tools, fields, files=None, outputs=None, extra=None, model=None):
    """Writes a recording's folder.

    `files`: name -> bytes, or name -> arrays of an .npz; `outputs`: tensor name -> samples on axis 0; `model`: the name of the
    neighbouring folder whose model and inputs these outputs belong to; `fields`: what, targets, ... for recording.toml;
    `extra`: more arrays of their own file name."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    files = dict(files or {})
    if outputs is not None:
        files["outputs.npz"] = outputs
    files |= extra or {}
    for name, content in files.items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            save_npz(folder / name, content)
    about = {
        "tool": ", ".join(f"{t} {version(t)}" for t in tools),
        "platform": f"{platform.system()} {platform.machine()} ({isa()}), Python {platform.python_version()}",
        "date": datetime.date(2026, 11, 23),
        "license": "Apache-2.0 OR MIT: model and data made by this project's script",
    }
    if model:
        about |= {"model": f"../{model}/model.onnx", "inputs": f"../{model}/inputs.npz"}
    lines = [f"{k} = {toml(v)}" for k, v in (about | fields).items()]
    lines += ["", "[sha256]", *(f"{json.dumps(n)} = {json.dumps(sha256(folder / n))}" for n in sorted(files))]
    (folder / "recording.toml").write_text("\n".join(lines) + "\n")
    size = sum(f.stat().st_size for f in folder.iterdir())
    print(f"{folder.name}: {size} bytes")


def toml(value):
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, list) and sum(map(len, value)) > 100:
        return "[\n" + "".join(f"  {json.dumps(v)},\n" for v in value) + "]"
    return json.dumps(value)
