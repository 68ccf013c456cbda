"""Child process: run one .tflite in one resolver mode and write every tensor that an operator writes.

usage: tflite_run.py model.tflite inputs.npz ref|opt|xnn out.npz
Samples are stacked on axis 0 of every input; the model runs once a sample and outputs are stacked likewise.
"""

import json
import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

MODES = {"ref": OpResolverType.BUILTIN_REF, "opt": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES}


def run(model, inputs, mode):
    extra = {"experimental_op_resolver_type": MODES[mode]} if mode in MODES else {}
    it = Interpreter(str(model), num_threads=1, experimental_preserve_all_tensors=True, **extra)
    it.allocate_tensors()
    feeds = {d["name"]: d for d in it.get_input_details()}
    samples = {k: len(inputs[k]) // max(d["shape"][0], 1) if len(d["shape"]) else 1 for k, d in feeds.items()}
    n = min(samples.values())
    details = {d["index"]: d for d in it.get_tensor_details()}
    ops = it._get_ops_details()
    plain = [o for o in ops if o["op_name"] != "DELEGATE"]
    written = [int(t) for o in plain for t in o["outputs"]]
    delegated = [int(t) for o in ops if o["op_name"] == "DELEGATE" for t in o["outputs"]]
    taken = sorted({f'{o["op_name"]}:{o["index"]}' for o in plain if any(int(t) in delegated for t in o["outputs"])},
                   key=lambda s: int(s.split(":")[1]))
    out = {}
    for s in range(n):
        for k, d in feeds.items():
            size = d["shape"][0] if len(d["shape"]) else 0
            it.set_tensor(d["index"], inputs[k][s * size:(s + 1) * size] if size else inputs[k])
        it.invoke()
        for t in written:
            out.setdefault(f'{t}:{details[t]["name"]}', []).append(np.copy(it.get_tensor(t)))
    return {k: np.concatenate(v) if v[0].ndim else np.stack(v) for k, v in out.items()}, taken, [o["op_name"] for o in plain]


if __name__ == "__main__":
    outputs, taken, names = run(sys.argv[1], dict(np.load(sys.argv[2])), sys.argv[3])
    np.savez(sys.argv[4], **outputs)
    print(json.dumps({"delegated": taken, "ops": names}))
