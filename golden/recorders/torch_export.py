"""Shared by torch_fx.py and torch_pt2e.py: the ONNX file of a quantized PyTorch program, and its values by ONNX name."""

import tempfile
from operator import attrgetter
from pathlib import Path

import numpy as np
import onnx
import torch
from digits_net import samples
from toolchain import without_paths

QUANTIZE = "quantized_decomposed.quantize_per_"


class Values(torch.fx.Interpreter):
    """Runs a program and keeps what every node gave."""

    def __init__(self, program):
        super().__init__(program)
        self.values = {}

    def run_node(self, node):
        result = super().run_node(node)
        self.values[node.name] = result
        return result


def one_at_a_time():
    return [torch.from_numpy(s[None]) for s in samples()]


def numbered(graph_module):
    """torch.export leaves per-tensor weight scales as tensors, which have no ONNX lowering: they become numbers."""
    for node in graph_module.graph.nodes:
        if node.op == "call_function" and str(node.target).endswith("quantize_per_tensor.tensor"):
            args = list(node.args)
            for i in (1, 2):
                args[i] = attrgetter(args[i].target)(graph_module).item()
            node.args = tuple(args)
            node.target = getattr(torch.ops.quantized_decomposed, node.target._schema.name.split("::")[1]).default
    graph_module.graph.eliminate_dead_code()
    graph_module.recompile()
    return graph_module


def to_onnx(module):
    """(ONNX model without machine paths, the exported program)."""
    x = one_at_a_time()[:1]
    program = torch.onnx.export(module, tuple(x), dynamo=True, opset_version=21, verbose=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.onnx"
        program.save(str(path), external_data=False)
        return without_paths(onnx.load(path)), program.exported_program


def scripted(module):
    """ONNX model of the TorchScript exporter, without machine paths."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.onnx"
        torch.onnx.export(module, (one_at_a_time()[0],), path, dynamo=False, opset_version=13, input_names=["image"], output_names=["fine", "coarse"])
        return without_paths(onnx.load(path))


def bound(program):
    """The inputs of the exported program's graph besides the image: parameters, buffers, constants."""
    known = program.state_dict | program.constants
    fixed = []
    for spec in program.graph_signature.input_specs:
        fixed.append(None if spec.kind is torch.export.graph_signature.InputKind.USER_INPUT else known[spec.target])
    return fixed


def values(program):
    """name -> samples on axis 0 of every tensor; constants (what no sample changes the name of) once."""
    out = {}
    for x in one_at_a_time():
        run = Values(program.graph_module)
        with torch.no_grad():
            run.run(*[x if v is None else v for v in bound(program)])
        for name, value in run.values.items():
            if isinstance(value, torch.Tensor):
                out.setdefault(name, []).append(value.detach().contiguous().numpy())
    return out


def stacked(found, names):
    return {n: np.concatenate(found[n]) for n in names}


def quantizers(program):
    """Nodes that quantize: ([activations], [weights]), in the program's order."""
    acts, weights = [], []
    for node in program.graph_module.graph.nodes:
        if node.op == "call_function" and str(node.target).startswith(QUANTIZE):
            (weights if node.args[0].op == "placeholder" and node.args[0].name != "image" else acts).append(node)
    return acts, weights


def serialized(model):
    return model.SerializeToString(deterministic=True)
