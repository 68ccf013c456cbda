"""recording.toml of the hls4ml and FINN recordings."""

import datetime
import json
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from recording import sha256


def gxx():
    return "g++ " + subprocess.run(["g++", "-dumpfullversion"], stdout=subprocess.PIPE, text=True).stdout.strip()


def provenance(folder, tools, fields, date=None):
    """`fields`: what, cpu_path, command, targets, ... in this order; every other file of the folder gets its SHA-256."""
    flags = Path("/proc/cpuinfo").read_text()
    isa = "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else "SSE"
    files = sorted(p.name for p in Path(folder).iterdir() if p.name != "recording.toml")
    lines = [
        f"tool = {json.dumps(', '.join(f'{t} {version(t)}' for t in tools))}",
        f"platform = {json.dumps(f'{platform.system()} {platform.machine()} ({isa}), Python {platform.python_version()}')}",
        f"date = {date or datetime.date.today().isoformat()}",
        'license = "Apache-2.0 OR MIT: model and data made by this project\'s script"',
        *(f"{k} = {json.dumps(v)}" for k, v in fields.items()),
        "",
        "[sha256]",
        *(f"{json.dumps(name)} = {json.dumps(sha256(Path(folder) / name))}" for name in files),
    ]
    (Path(folder) / "recording.toml").write_text("\n".join(lines) + "\n")
