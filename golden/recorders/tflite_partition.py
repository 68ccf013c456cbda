"""Which operators of a .tflite LiteRT's XNNPACK delegate takes, and which stay on the built-in kernels: kernels.json beside a recording.

    pip install -r golden/recorders/requirements-tflite.txt
    python golden/recorders/tflite_partition.py golden/toolchains/tflite-ptq-xnn ...

The interpreter runs as an application has it: default resolver, intermediate tensors not kept, so that neighbouring operators
share a partition. LiteRT lists a partition by its inputs and outputs; the operators in it are those that lie between these.
recording.toml gets the file's checksum and a line that says how many operators were taken.
"""

import json
import re
import sys
import tomllib
from collections import Counter
from importlib.metadata import version
from pathlib import Path

from ai_edge_litert.interpreter import Interpreter
from folder import sha256

DELEGATE = "DELEGATE"


def partition(model):
    """One entry an operator, in the file's order: who computes it, and the tensors that it writes."""
    interpreter = Interpreter(str(model), num_threads=1)
    interpreter.allocate_tensors()
    names = {d["index"]: d["name"] for d in interpreter.get_tensor_details()}
    ops = interpreter._get_ops_details()
    own = [o for o in ops if o["op_name"] != DELEGATE]
    makers = {int(t): o["index"] for o in own for t in o["outputs"]}
    inputs = {o["index"]: [int(t) for t in o["inputs"]] for o in own}
    taken = {}
    for number, delegate in enumerate((o for o in ops if o["op_name"] == DELEGATE), 1):
        given = {int(t) for t in delegate["inputs"]}
        open_ = [int(t) for t in delegate["outputs"]]
        while open_:
            maker = makers.get(open_.pop())
            if maker is None or taken.get(maker) == number:
                continue
            if maker in taken:
                raise SystemExit(f"{model}: operator {maker} is in two partitions")
            taken[maker] = number
            open_ += [t for t in inputs[maker] if t not in given]
    return [{"kernel": f"XNNPACK {taken[o['index']]}" if o["index"] in taken else "builtin",
             "nodes": [f"{o['op_name']}_{o['index']}"], "output": names[int(o["outputs"][0])]} for o in own]


def write(folder):
    folder = Path(folder)
    about = tomllib.loads((folder / "recording.toml").read_text())
    kernels = partition(folder / about.get("model", "model.tflite"))
    lines = ",\n".join("  " + json.dumps(k) for k in kernels)
    (folder / "kernels.json").write_text(f"[\n{lines}\n]\n")
    count, taken = Counter(), Counter()
    for k in kernels:
        kind = k["nodes"][0].rpartition("_")[0]
        count[kind] += 1
        taken[kind] += k["kernel"] != "builtin"
    said = (f"kernels.json: the delegate's partitions, ai-edge-litert {version('ai-edge-litert')}, default resolver, intermediate tensors not "
            f"kept (golden/recorders/tflite_partition.py); " + ", ".join(f"{k} {taken[k]} of {n}" for k, n in count.items()))
    text = (folder / "recording.toml").read_text()
    text = re.sub(r'^(partition = |"kernels\.json" = ).*\n', "", text, flags=re.M)
    text = text.replace("\n[sha256]\n", f"partition = {json.dumps(said)}\n\n[sha256]\n", 1)
    (folder / "recording.toml").write_text(text.rstrip("\n") + f'\n"kernels.json" = {json.dumps(sha256(folder / "kernels.json"))}\n')
    print(folder.name, said.split("; ", 1)[1])


if __name__ == "__main__":
    for folder in sys.argv[1:]:
        write(folder)
