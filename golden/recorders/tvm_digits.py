"""The QLinear network of hawq_digits.py in TVM: Relay QNN operators, compiled for the host's CPU.

    pip install --no-deps -r golden/recorders/requirements-tvm.txt onnx==1.14.1 protobuf==4.25.8      # Python 3.8
    python golden/recorders/tvm_digits.py golden/toolchains

Every node of hawq-v3/model.onnx becomes what HAWQ-V3's deployment uses for it (Zhen-Dong/HAWQ:tvm_benchmark/
mixed_precision_models/layers.py): qnn.conv2d with an int32 bias and qnn.requantize, qnn.add, qnn.concatenate; pools and
means on int32. One sample a run, with both roundings.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
import tvm
from folder import write
from onnx import helper, numpy_helper
from tvm import relay
from tvm.contrib import graph_executor
from tvm.relay import qnn

COMMAND = "python golden/recorders/tvm_digits.py golden/toolchains"


def relay_graph(model, rounding):
    """[(tensor name, expression)] in the file's order."""
    c = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    f, z = (lambda n: relay.const(c[n], "float32")), relay.const(0, "int32")
    v = {"image": relay.var("image", shape=(1, 1, 8, 8), dtype="float32")}
    out = []
    for n in model.graph.node:
        i, a = n.input, {k.name: helper.get_attribute_value(k) for k in n.attribute}
        if n.op_type == "QuantizeLinear":
            y = qnn.op.quantize(v[i[0]], f(i[1]), z, out_dtype="int8")
        elif n.op_type == "QLinearConv":
            channels, kernel = c[i[3]].shape[0], a["kernel_shape"]
            y = qnn.op.conv2d(v[i[0]], relay.const(c[i[3]]), z, z, f(i[1]), f(i[4]), kernel_size=kernel, channels=channels, padding=a["pads"],
                              groups=a.get("group", 1), out_dtype="int32")
            y = relay.nn.bias_add(y, relay.const(c[i[8]]), axis=1)
            scales = relay.const((c[i[1]].astype(np.float32) * c[i[4]]).astype(np.float32), "float32")
            y = qnn.op.requantize(y, scales, z, f(i[6]), z, axis=1, rounding=rounding, out_dtype="int8")
        elif n.op_type == "QLinearAdd":
            y = qnn.op.add(v[i[0]], v[i[3]], f(i[1]), z, f(i[4]), z, f(i[6]), z)
        elif n.op_type == "QLinearConcat":
            parts = range(2, len(i), 3)
            y = qnn.op.concatenate(relay.Tuple([v[i[k]] for k in parts]), relay.Tuple([f(i[k + 1]) for k in parts]), relay.Tuple([z for _ in parts]), f(i[0]), z, a["axis"])
        elif n.op_type == "QLinearAveragePool":
            y = relay.cast(relay.nn.avg_pool2d(relay.cast(v[i[0]], "int32"), pool_size=a["kernel_shape"], strides=a["strides"]), "int8")
        elif n.op_type == "QLinearGlobalAveragePool":
            y = relay.cast(relay.nn.global_avg_pool2d(relay.cast(v[i[0]], "int32")), "int8")
        elif n.op_type == "Relu":
            y = relay.nn.relu(v[i[0]])
        elif n.op_type == "MaxPool":
            y = relay.nn.max_pool2d(v[i[0]], pool_size=a["kernel_shape"], strides=a["strides"])
        elif n.op_type == "Flatten":
            y = relay.nn.batch_flatten(v[i[0]])
        else:
            y = qnn.op.dequantize(v[i[0]], f(i[1]), z)
        v[n.output[0]] = y
        out.append((n.output[0], y))
    return out


def run(model, x, rounding):
    with tvm.target.Target("llvm"):
        with qnn.op.requantize_config(rounding=rounding):
            named = relay_graph(model, rounding)
            whole = relay.Tuple([y for _, y in named])
            module = tvm.IRModule.from_expr(relay.Function(relay.analysis.free_vars(whole), whole))
            with tvm.transform.PassContext(opt_level=3):
                library = relay.build(module, "llvm")
    executor = graph_executor.GraphModule(library["default"](tvm.cpu()))
    found = {name: [] for name, _ in named}
    for k in range(len(x)):
        executor.run(image=x[k:k + 1])
        for index, (name, _) in enumerate(named):
            found[name].append(executor.get_output(index).numpy())
    return {name: np.concatenate(parts) for name, parts in found.items()}


def main():
    root = Path(sys.argv[1])
    tools = "hhb-tvm 2.4.5 (TVM %s, LLVM 14.0.1), onnx %s, numpy %s" % (tvm.__version__, onnx.__version__, np.__version__)
    for source in ("hawq-v3", "hawq-v3-dyadic"):
        model, x, hawq = onnx.load(str(root / source / "model.onnx")), np.load(root / source / "inputs.npz")["image"], np.load(root / source / "outputs.npz")
        runs = {rounding: run(model, x, rounding) for rounding in ("UPWARD", "TONEAREST")}
        total = sum(v.size for v in runs["UPWARD"].values())
        count = lambda a, b: {k: int((a[k] != b[k]).sum()) for k in a if (a[k] != b[k]).any()}
        between = count(runs["UPWARD"], runs["TONEAREST"])
        groups = [("UPWARD", "", ["tvm"]), ("TONEAREST", "-tonearest", ["tvm-tonearest"])] if between else [("UPWARD", "", ["tvm", "tvm-tonearest"])]
        for rounding, suffix, targets in groups:
            apart = count(runs[rounding], hawq)
            print(source, rounding, "of", total, "from HAWQ:", apart, "between roundings:", between)
            write(root / (source + "-tvm" + suffix), tools, COMMAND, "Apache-2.0", "the network of %s in Relay QNN, requantize rounding %s" % (source, " and ".join(runs) if not between else rounding),
                  targets, outputs=runs[rounding], cpu_path="code compiled by TVM for target llvm (int64 requantization), optimization level 3",
                  notes={"model": "../%s/model.onnx" % source, "inputs": "../%s/inputs.npz" % source,
                         "tells_apart": "run from the image, %d of %d elements differ between UPWARD and TONEAREST" % (sum(between.values()), total),
                         "seen": "run from the image, %d of %d elements differ from HAWQ's own functions, first in %s" % (sum(apart.values()), total, next(iter(apart), "none"))})


if __name__ == "__main__":
    main()
