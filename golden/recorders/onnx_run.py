"""Shared by the recorders of ONNX exports: run a file as it stands, or as ONNX Runtime's optimizer fuses it."""

import copy
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

DISABLED = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
EXTENDED = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
ALL = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
# Values in front of these, where nothing else reads them, and dequantized values say nothing that others do not say.
FOLLOWED = ("Relu", "Clip", "BatchNormalization")
DUPLICATED = "/duplicated"  # what the optimizer appends to the names of a DequantizeLinear that it copies for a second reader


def session(model, level, written=None):
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if written:
        options.optimized_model_filepath = str(written)
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(model, images, names=(), level=DISABLED):
    """Tensors by name, one sample a run; the model's outputs are always there."""
    model = copy.deepcopy(model)
    shown = [o.name for o in model.graph.output]
    names = shown + [n for n in names if n not in shown]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(n) for n in names[len(shown):])
    engine = session(model, level)
    name = engine.get_inputs()[0].name
    runs = [engine.run(names, {name: image[None]}) for image in images]
    return {n: np.concatenate([r[i] for r in runs]) for i, n in enumerate(names)}


def computed(model):
    """Names of the tensors that depend on the input and are worth recording."""
    graph = model.graph
    live, readers, wanted = {graph.input[0].name}, {}, []
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node.op_type)
    for node in graph.node:
        if live & set(node.input):
            live.update(node.output)
            for name in filter(None, node.output):
                read = readers.get(name, [])
                if node.op_type != "DequantizeLinear" and not (len(read) == 1 and read[0] in FOLLOWED):
                    wanted.append(name)
    return wanted


def fused(model, optimized):
    """[(kernel, the optimized node)] of an optimized graph, in execution order, constants' nodes left out. A kernel keeps the
    name of the operator that it was made of; its other nodes of the file are the DequantizeLinear nodes that it swallowed and
    everything up to its output."""
    by_name = {n.name: n for n in model.graph.node}
    makers = {o: n for n in model.graph.node for o in n.output}
    readers = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    live = {optimized.graph.input[0].name}
    kernels = []
    for node in optimized.graph.node:
        if not live & set(node.input):
            continue
        live.update(node.output)
        own = by_name.get(node.name.removesuffix(DUPLICATED))
        if own is None:
            if node.op_type != "DequantizeLinear":
                raise SystemExit(f"{node.op_type} {node.name}: no node of the file has this name")
            continue  # between an integer kernel and a float one, where the file has none
        output = node.output[0].removesuffix(DUPLICATED)
        if output not in makers:  # an integer tensor that the optimizer named: that of the next quantizer, if there is one
            output, behind = own.output[0], own
            while behind.op_type != "QuantizeLinear" and len(readers.get(behind.output[0], [])) == 1:
                behind = readers[behind.output[0]][0]
                if behind.op_type not in ("QuantizeLinear", *FOLLOWED):
                    break
            if behind.op_type == "QuantizeLinear":
                output = behind.output[0]
        inputs = {name.removesuffix(DUPLICATED) for name in node.input}
        swallowed = [makers[i] for i in own.input if i in makers and i not in inputs]
        nodes, last = [n for n in swallowed if n.op_type == "DequantizeLinear"], makers[output]
        behind = []
        while last is not own:
            behind.append(last)
            last = makers[last.input[0]]
        names = [n.name for n in [*nodes, own, *reversed(behind)]]
        kernels.append(({"kernel": node.op_type, "nodes": names, "output": output}, node))
    return kernels


def optimize(model):
    """What ORT_ENABLE_EXTENDED makes of a model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        session(model, EXTENDED, path)
        return onnx.load(path)


def engine(model, images):
    """(tensors as the optimized model computes them, by the file's names; its kernels; elements of the outputs that
    ORT_ENABLE_ALL gives otherwise: float kernels in another layout sum in another order). int8 tensors that run as uint8 are brought back to int8."""
    optimized = optimize(model)
    kernels = fused(model, optimized)
    shown = {k["output"]: node.output[0] for k, node in kernels if k["kernel"] != "DequantizeLinear"}
    values = run(optimized, images, list(shown.values()))
    whole, everything = (run(model, images, level=level) for level in (EXTENDED, ALL))
    if any(not np.array_equal(whole[name], values[name]) for name in whole):
        raise SystemExit("exposing the tensors of the optimized graph changes its outputs")
    int8 = {n.output[0] for n in model.graph.node if n.op_type == "QuantizeLinear" and zero_type(model, n) == np.int8}
    outputs = {}
    for name, inner in shown.items():
        value = values[inner]
        if value.dtype == np.uint8 and name in int8:
            value = (value.astype(np.int16) - 128).astype(np.int8)
        outputs[name] = value
    outputs |= {o.name: values[o.name] for o in model.graph.output}
    return outputs, [k for k, _ in kernels], {name: different(everything[name], whole[name]) for name in whole}


def zero_type(model, node):
    """The type that a QuantizeLinear writes: that of its zero point."""
    found = [i for i in model.graph.initializer if len(node.input) > 2 and i.name == node.input[2]]
    return onnx.helper.tensor_dtype_to_np_dtype(found[0].data_type) if found else np.uint8


def fresh(root, name):
    """An empty folder."""
    folder = Path(root) / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def write_kernels(folder, kernels):
    """kernels.json, one kernel a line."""
    lines = ",\n".join("  " + json.dumps(k) for k in kernels)
    (folder / "kernels.json").write_text(f"[\n{lines}\n]\n")


def different(a, b):
    """(elements that differ, elements)."""
    return int((np.asarray(a) != np.asarray(b)).sum()), int(np.size(a))
