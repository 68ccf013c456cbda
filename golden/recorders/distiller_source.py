"""Imports Distiller, written for torch 1.3.1, beside a current torch: only what post-training quantization needs.

Packages that it imports for plots, data sets and logs are stand-ins, and its SummaryGraph, which is built on an ONNX
tracer that torch no longer has, is replaced by one on torch.fx with the same answers: which module follows which.
Everything that computes a number is Distiller's own.
"""

import importlib.machinery
import sys
import types
from collections import OrderedDict, namedtuple
from unittest import mock

import torch
import torch.fx
from torch import nn

STAND_INS = {"torchnet", "tabulate", "pydot", "gym", "git", "xlsxwriter", "pretrainedmodels", "torchvision", "pandas", "matplotlib", "bqplot", "ipywidgets",
             "qgrid", "tensorboardX", "parser", "graphviz"}
Op = namedtuple("Op", "name type")


class Finder:
    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.split(".")[0] in STAND_INS else None

    def create_module(self, spec):
        module = mock.MagicMock(name=spec.name)
        module.__path__, module.__spec__, module.__name__ = [], spec, spec.name
        return module

    def exec_module(self, module):
        pass


class Neighbours:
    def __init__(self, op):
        self.op, self.predecessors, self.successors = op, [], []


class Leaves(torch.fx.Tracer):
    def is_leaf_module(self, module, name):
        return not list(module.children())


class Graph:
    TYPES = {"Conv2d": "Conv", "BatchNorm2d": "BatchNormalization", "ReLU": "Relu", "ReLU6": "Clip"}

    def __init__(self, model, dummy_input):
        self.modules, self.graph = dict(model.named_modules()), Leaves().trace(model)

    def adjacency_map(self, dedicated_modules_only=False):
        """Every call of a module: `name`, `name_1` the second time. Identities are left out, as ONNX leaves them out."""
        uses, name, out = {}, {}, OrderedDict()
        for n in self.graph.nodes:
            if n.op != "call_module":
                continue
            if isinstance(self.modules[n.target], nn.Identity):
                if n.args[0] in name:
                    name[n] = name[n.args[0]]
                continue
            k = uses[n.target] = uses.get(n.target, -1) + 1
            name[n] = n.target if k == 0 else f"{n.target}_{k}"
            kind = type(self.modules[n.target]).__name__
            here = out[name[n]] = Neighbours(Op(name[n], self.TYPES.get(kind, kind)))
            for source in (a for a in n.args if a in name):
                here.predecessors.append(out[name[source]].op)
                out[name[source]].successors.append(here.op)
        return out


def load(path):
    """The module `distiller` of a checkout."""
    sys.meta_path.insert(0, Finder())
    resources = types.ModuleType("pkg_resources")
    resources.DistributionNotFound = type("DistributionNotFound", (Exception,), {})

    def require(_):
        raise resources.DistributionNotFound
    resources.require = require
    resources.parse_version = lambda v: tuple(int(x) for x in v.split("+")[0].split(".")[:2])
    sys.modules["pkg_resources"] = resources
    sys.path.insert(0, str(path))
    import torchvision.ops.misc
    torchvision.ops.misc.FrozenBatchNorm2d = type("FrozenBatchNorm2d", (nn.Module,), {})
    import distiller
    import distiller.data_loggers
    import distiller.modules
    import distiller.quantization
    distiller.SummaryGraph = Graph
    return distiller
