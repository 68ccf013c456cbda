"""Shared by the .tflite recorders: run the three resolver modes and write one folder a group of equal outputs."""

import datetime
import json
import platform
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import numpy as np
from folder import isa, savez, sha256
from tflite_rules import summary

HERE = Path(__file__).parent
TARGETS = {"ref": "tflite-reference", "opt": "litert-x86", "xnn": "xnnpack"}
PATHS = {"ref": "LiteRT reference kernels (OpResolverType.BUILTIN_REF)",
         "opt": "LiteRT optimized kernels and ruy (OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)",
         "xnn": "XNNPACK delegate (default resolver), one delegate an operator"}


def run_modes(model, inputs, modes):
    out = {}
    with tempfile.TemporaryDirectory() as tmp:
        for mode in modes:
            path = Path(tmp) / f"{mode}.npz"
            r = subprocess.run([sys.executable, HERE / "tflite_run.py", model, inputs, mode, path],
                               capture_output=True, text=True)
            if r.returncode:
                raise RuntimeError(f"{model} {mode}: {r.returncode}\n{r.stdout}\n{r.stderr}")
            with np.load(path) as z:
                out[mode] = ({k: z[k] for k in z.files}, json.loads(r.stdout.strip().splitlines()[-1]))
    return out


def equal(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k], equal_nan=a[k].dtype.kind == "f") for k in a)


def targets(target, group):
    """int16 activations have targets of their own: reference kernels, and optimized ones (XNNPACK leaves them to these)."""
    if target:
        optimized = "opt" in group or "xnn" in group
        return [target] * ("ref" in group) + [target + "-optimized"] * optimized
    return [TARGETS[m] for m in group]


def record(root, family, model, feeds, what, command, modes=("ref", "opt", "xnn"), target=None,
           tools=("ai-edge-litert", "numpy"), license="Apache-2.0 OR MIT: model and data made by this project's script", notes=()):
    """Writes golden/tflite/<family>[-mode]. `notes`: further lines of recording.toml."""
    root = Path(root)
    with tempfile.TemporaryDirectory() as tmp:
        (Path(tmp) / "m.tflite").write_bytes(model)
        np.savez(Path(tmp) / "i.npz", **feeds)
        results = run_modes(Path(tmp) / "m.tflite", Path(tmp) / "i.npz", modes)
    groups = []
    for mode in modes:
        for g in groups:
            if equal(results[g[0]][0], results[mode][0]):
                g.append(mode)
                break
        else:
            groups.append([mode])
    for old in [family] + [f"{family}-{m}" for m in TARGETS]:
        if (root / old).is_dir():
            for f in (root / old).iterdir():
                f.unlink()
            (root / old).rmdir()
    first = None
    for g in groups:
        name = family if len(groups) == 1 else f"{family}-{g[0]}"
        folder = root / name
        folder.mkdir(parents=True)
        lines = [f'tool = "{", ".join(f"{t} {version(t)}" for t in tools)}"',
                 f'platform = "{platform.system()} {platform.machine()} ({isa()}), Python {platform.python_version()}"',
                 f'cpu_path = {json.dumps("; ".join(PATHS[m] for m in g))}']
        if "xnn" in g:
            d = Counter(x.split(":")[0] for x in results["xnn"][1]["delegated"])
            n = Counter(results["xnn"][1]["ops"])
            lines.append('delegated_to_xnnpack = ' + json.dumps(", ".join(f"{k} {d[k]} of {n[k]}" for k in n)))
        lines += [f"command = {json.dumps(command)}", f"date = {datetime.date.today().isoformat()}",
                  f"license = {json.dumps(license)}", 'license_of_the_tool = "Apache-2.0"',
                  f"what = {json.dumps(what)}",
                  f"targets = {json.dumps(targets(target, g))}"]
        if first is None:
            first = name
            (folder / "model.tflite").write_bytes(model)
            savez(folder / "inputs.npz", feeds)
            files = ["model.tflite", "inputs.npz", "outputs.npz"]
        else:
            lines += [f'model = "../{first}/model.tflite"', f'inputs = "../{first}/inputs.npz"']
            files = ["outputs.npz"]
        savez(folder / "outputs.npz", results[g[0]][0])
        (folder / "recording.toml").write_text("\n".join(lines) + "\n")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            a, b = summary(folder)
        lines += [f"tells_apart = {json.dumps(a)}", f"undecided = {json.dumps(b)}", *notes]
        lines += ["", "[sha256]"] + [f"{json.dumps(f)} = {json.dumps(sha256(folder / f))}" for f in files]
        (folder / "recording.toml").write_text("\n".join(lines) + "\n")
    return results
