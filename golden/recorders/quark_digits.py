"""The digits network quantized and exported by AMD Quark: XINT8 (the DPU's arithmetic written into the graph), VINT8, A8W8.

    pip install -r golden/recorders/requirements-quark.txt    # and g++: Quark compiles its operators when it is imported
    PATH=$VIRTUAL_ENV/bin:$PATH python golden/recorders/quark_digits.py golden/toolchains

Quark's fake-quant is its export in ONNX Runtime, here with graph optimizations off, one sample at a time. `quark-constants` is a
second network, untrained, of the operators that XINT8 rewrites: pools of several sizes, sigmoid, hard-swish, leaky ReLU.
"""

import json
import logging
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from digits_net import FLOAT, calibration, samples
from onnx import TensorProto, helper, numpy_helper
from qdq_model import provenance, save_npz
from quark.onnx import ModelQuantizer
from quark.onnx.quantization.config import Config, get_default_config

F = np.float32
SAMPLES = 4
ABOUT = {"tools": ["amd-quark", "onnx", "onnxruntime", "numpy"], "license_of_the_tool": "MIT", "targets": ["exact"],
         "command": "python golden/recorders/quark_digits.py golden/toolchains", "cpu_path": "onnxruntime, graph optimizations off",
         "undecided": ""}


class Reader:
    def __init__(self, feed):
        self.feed = feed
        self.rewind()

    def rewind(self):
        count = len(next(iter(self.feed.values())))
        self.rest = iter([{k: v[i:i + 1] for k, v in self.feed.items()} for i in range(count)])

    def get_next(self):
        return next(self.rest, None)


def quantized(model, config, feed):
    """Bytes of Quark's export of a float model."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "model.onnx"
        source.write_bytes(model)
        ModelQuantizer(Config(global_quant_config=get_default_config(config))).quantize_model(str(source), str(target), Reader(feed))
        return onnx.load(target)


def run(model, feed):
    """Every activation of the export, as ONNX Runtime computes it."""
    shown = onnx.ModelProto.FromString(model.SerializeToString())
    fixed = {i.name for i in model.graph.initializer} | {o for n in model.graph.node if n.op_type == "Constant" for o in n.output}
    follows = {i.name for i in model.graph.input}
    pending = list(model.graph.node)
    while True:  # Quark's nodes are not in topological order
        ready = [n for n in pending if any(i in follows for i in n.input)]
        if not ready:
            break
        follows |= {o for n in ready for o in n.output}
        pending = [n for n in pending if n not in ready]
    names = [o for n in model.graph.node for o in n.output if o in follows and o not in fixed]
    outputs = {o.name for o in shown.graph.output}
    shown.graph.output.extend(helper.make_empty_tensor_value_info(n) for n in names if n not in outputs)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    count = len(next(iter(feed.values())))
    runs = [dict(zip(names, session.run(names, {k: v[i:i + 1] for k, v in feed.items()}))) for i in range(count)]
    return {n: np.concatenate([r[n] for r in runs]) for n in names}


def constants(model):
    """Factors and slopes of the export: what Quark wrote into the graph."""
    values = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    values |= {n.output[0]: numpy_helper.to_array(n.attribute[0].t) for n in model.graph.node if n.op_type == "Constant"}
    lines = []
    for n in model.graph.node:
        if n.op_type == "Mul":
            lines += [f"{n.output[0]} = {n.input[0]} * {float(values[i].ravel()[0])!r}" for i in n.input if i in values]
        elif n.op_type in ("LeakyRelu", "HardSigmoid"):
            lines += [f"{n.output[0]} = {n.op_type}({', '.join(f'{a.name} {a.f!r}' for a in n.attribute)})"]
    return sorted(lines)


def half_up(model, outputs):
    """Codes that half-up instead of half-even rounding gives, fed with the recorded tensors."""
    values = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    apart = total = 0
    for n in model.graph.node:
        if n.op_type == "QuantizeLinear" and n.output[0] in outputs and n.input[0] in outputs:
            scale, zero = values[n.input[1]], values[n.input[2]]
            limits = np.iinfo(zero.dtype)
            codes = np.clip(np.floor(outputs[n.input[0]] / scale + F(0.5)) + zero, limits.min, limits.max)
            apart += int((codes != outputs[n.output[0]]).sum())
            total += codes.size
    return f"half-up rounding (the DPU's) instead of half-even: {apart} of {total} codes"


def record(out, name, model, feed, what, deployment):
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    outputs = run(model, feed)
    save_npz(folder / "inputs.npz", feed)
    save_npz(folder / "outputs.npz", outputs)
    extra = [f"deployment = {json.dumps(deployment)}"]
    if found := constants(model):
        extra.append(f"written_into_the_graph = {json.dumps(found)}")
    provenance(folder, ["model.onnx", "inputs.npz", "outputs.npz"], what=what, tells_apart=half_up(model, outputs), extra=extra, **ABOUT)


def rewritten():
    """x (1,4,14,14) -> conv -> average pools of several sizes, sigmoid, hard-swish, leaky ReLU."""
    rng = np.random.default_rng(0)
    nodes, outs = [], []

    def op(kind, ins, out, **attributes):
        nodes.append(helper.make_node(kind, ins, [out], name=out, **attributes))
        return out

    def out(name, shape):
        outs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    w = {"w": rng.normal(0, 0.4, (4, 4, 1, 1)).astype(F), "b": rng.normal(0, 0.5, 4).astype(F),
         "w2": rng.normal(0, 0.4, (4, 4, 1, 1)).astype(F), "b2": rng.normal(0, 0.5, 4).astype(F)}
    op("Conv", ["x", "w", "b"], "conv")
    op("LeakyRelu", ["conv"], "leaky", alpha=0.1)
    for size in ((2, 2), (3, 3), (5, 5), (6, 6), (7, 7), (3, 6), (4, 4)):
        name = "pool{}x{}".format(*size)
        op("AveragePool", ["leaky"], name, kernel_shape=size, strides=size)
        out(name, (1, 4, 14 // size[0], 14 // size[1]))
    op("GlobalAveragePool", ["leaky"], "pool14x14")
    out("pool14x14", (1, 4, 1, 1))
    op("Conv", ["leaky", "w2", "b2"], "conv2")
    op("Sigmoid", ["conv2"], "sigmoid")
    out("sigmoid", (1, 4, 14, 14))
    op("Conv", ["leaky", "w2", "b2"], "conv3")
    op("HardSwish", ["conv3"], "hardswish")
    out("hardswish", (1, 4, 14, 14))
    graph = helper.make_graph(nodes, "constants", [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 4, 14, 14))], outs,
                              [numpy_helper.from_array(v, k) for k, v in w.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8, producer_name="align-check recorder")
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(), {"x": rng.uniform(-4, 4, (40, 4, 14, 14)).astype(F)}


def main(out):
    logging.disable(logging.WARNING)
    float_net = (FLOAT / "model.onnx").read_bytes()
    given, asked = {"image": calibration()}, {"image": samples()[:SAMPLES]}
    for config, deployment, what in (
            ("XINT8", "vitis-dpu", "uint8 activations with zero point 128, int8 weights and biases, power-of-two scales, average pools times the DPU's gain"),
            ("VINT8", "vitis-dpu", "int8 activations, weights and biases, power-of-two scales, a quantizer behind every operator, two pairs a fork, "
             "ReLU6 replaced by ReLU"),
            ("A8W8", "onnxruntime", "int8 symmetric, float scales, QuantizeLinear of the domain com.microsoft, int32 biases")):
        record(out, f"quark-{config.lower()}", quantized(float_net, config, given), asked, f"amd-quark, configuration {config}: {what}", [deployment])
    net, feed = rewritten()
    record(out, "quark-constants", quantized(net, "XINT8", {"x": feed["x"][2:]}), {"x": feed["x"][:2]},
           "amd-quark, configuration XINT8, untrained operators that it rewrites to the DPU's: average pools, sigmoid, hard-swish, leaky ReLU",
           ["vitis-dpu"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
