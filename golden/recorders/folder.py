"""Shared by recorders: one folder a recording, with the same bytes for the same arrays."""

import datetime
import hashlib
import io
import json
import platform
import zipfile
from importlib.metadata import version
from pathlib import Path

import numpy as np

LICENSE = "Apache-2.0 OR MIT: model made by this project's script; images: scikit-learn load_digits (E. Alpaydin and C. Kaynak, UCI), CC BY 4.0"


def savez(path, arrays):
    """np.savez_compressed with fixed time stamps: the same arrays give the same bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as z:
        for k, v in arrays.items():
            b = io.BytesIO()
            np.lib.format.write_array(b, np.ascontiguousarray(v), allow_pickle=False)
            info = zipfile.ZipInfo(k + ".npy", (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            z.writestr(info, b.getvalue())


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def isa():
    flags = Path("/proc/cpuinfo").read_text()
    vnni = ", VNNI" if "vnni" in flags else ", no VNNI"
    return ("AVX-512" if "avx512f" in flags else "AVX2" if " avx2" in flags else "SSE") + vnni


def versions(tools):
    return ", ".join(f"{t} {version(t)}" for t in tools)


def written_on():
    return f"{platform.system()} {platform.machine()} ({isa()}), Python {platform.python_version()}"


def write(folder, tools, command, license_of_the_tool, what, targets, files=(), inputs=None, outputs=None, cpu_path="", notes=None, license=LICENSE):
    """Writes a folder anew. `files`: name -> bytes; `notes`: further keys of recording.toml; `tools`: package names, or the text itself."""
    folder = Path(folder)
    if folder.is_dir():
        for old in folder.iterdir():
            old.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    files = dict(files)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    for name, arrays in (("inputs.npz", inputs), ("outputs.npz", outputs)):
        if arrays is not None:
            savez(folder / name, arrays)
            files[name] = None
    lines = {"tool": tools if isinstance(tools, str) else versions(tools), "platform": written_on(), "cpu_path": cpu_path, "command": command,
             "date": datetime.date.today(), "license": license, "license_of_the_tool": license_of_the_tool,
             "what": what, "targets": list(targets), **(notes or {})}
    text = [f"{k} = {v.isoformat() if isinstance(v, datetime.date) else json.dumps(v)}" for k, v in lines.items() if v != ""]
    text += ["", "[sha256]"] + [f"{json.dumps(name)} = {json.dumps(sha256(folder / name))}" for name in files]
    (folder / "recording.toml").write_text("\n".join(text) + "\n")
