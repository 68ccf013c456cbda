"""The digits network quantized by MQBench for each of its backends, exported, with MQBench's own fake-quant.

    pip install -r golden/recorders/requirements-mqbench.txt && pip install --no-deps mqbench-torch2==0.1.1
    python golden/recorders/mqbench_digits.py golden/toolchains [backend ...]

`model.onnx` is the plain export with operators of the domain mqbench_custom; the other files are what the backend's deployment
writes. `outputs.npz` is a fx Interpreter's run of the prepared GraphModule, keyed by the tensor names of model.onnx (quantized
weights have no sample axis). `[quantized]` in recording.toml says which tensor of model.onnx is the quantized form of which
tensor of the deployed file. A folder `-deploy` names the deployed files, the float model and what stands beside it, for the
same inputs and outputs.

mqbench-torch2 is made for an older PyTorch: `patched` mends what its export trips over, before anything is written.
"""

import copy
import json
import logging
import os
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from digits_net import calibration, samples, trained
from mqbench.convert_deploy import convert_deploy, convert_merge_bn
from mqbench.deploy.common import update_inp2node_out2node
from mqbench.deploy.deploy_linear import LinearQuantizer_process
from mqbench.fake_quantize.lsq import FakeQuantizeLearnablePerchannelAffine
from mqbench.fake_quantize.nnie import NNIEQuantizeFunc
from mqbench.fake_quantize.quantize_base import QuantizeBase
from mqbench.fake_quantize.tqt import FakeQuantizeTqtAffine
from mqbench.prepare_by_platform import BackendType, prepare_by_platform
from mqbench.utils import deepcopy_graphmodule
from mqbench.utils.state import enable_calibration, enable_quantization
from onnx import numpy_helper
from qdq_model import provenance, save_npz

F = np.float32
SAMPLES = 2
ABOUT = {"tools": ["mqbench-torch2", "torch", "onnx", "numpy"], "license_of_the_tool": "Apache-2.0", "targets": ["exact"],
         "command": "python golden/recorders/mqbench_digits.py golden/toolchains", "cpu_path": "torch, float32"}
SCHEME = {"w_qscheme": {"bit": 8, "symmetry": True, "per_channel": True, "pot_scale": False},
          "a_qscheme": {"bit": 8, "symmetry": False, "per_channel": False, "pot_scale": False},
          "w_observer": "MinMaxObserver", "a_observer": "EMAMinMaxObserver",
          "w_fakequantize": "FixedFakeQuantize", "a_fakequantize": "FixedFakeQuantize"}
BACKENDS = {  # backend: (deployment target, what it is)
    "Tensorrt": ("tensorrt", "symmetric per-channel weights, symmetric activations [-127,127]; blob_range of activations, weights clipped in the deployed file"),
    "SNPE": ("qnn-htp-approx", "asymmetric per tensor [0,255]; activation_encodings, weights clipped"),
    "PPLW8A16": ("", "asymmetric per tensor, 8-bit weights, 16-bit activations; step, zero point, min and max of weights too"),
    "PPLCUDA": ("", "asymmetric, per-channel weights; model_clip_ranges.json holds lines `tensor: amax`, not JSON"),
    "NNIE": ("nnie", "logarithmic, 8 bits; clip values of each node's inputs, weights clipped"),
    "Vitis": ("vitis-dpu", "powers of two, symmetric per tensor [-128,127], biases too; scales of weights, biases and activations"),
    "ONNX_QNN": ("tvm", "asymmetric per tensor; QLinearConv and its kin, int32 biases truncated toward zero"),
    "OPENVINO": ("openvino-cpu", "per-channel weights in 7 bits, FakeQuantize of org.openvinotoolkit with 256 levels over the doubled range"),
    "Tengine_u8": ("", "asymmetric per tensor; lines `tensor scale zero_point`"),
    "Academic": ("exact", "symmetric per-channel weights, asymmetric activations, as asked for; no deployment step"),
    "STPU": ("", "symmetric per tensor [-127,127]; minima, maxima, bias steps and exponents; ReLU6 replaced by ReLU in the network, "
             "because the export fails on it"),
}
DEPLOYED = {  # backend: (float model, the file beside it, why it is not the fake-quant; '' where it is)
    "Tensorrt": ("model_deploy_model.onnx", "model_clip_ranges.json", ""),
    "SNPE": ("model_deploy_model.onnx", "model_clip_ranges.json", "codes of convolutions alone differ, 513 of 8,000: the file has no entries for weights, which are quantized anew from their range"),
    "PPLW8A16": ("model_deploy_model.onnx", "model_clip_ranges.json", ""),
    "PPLCUDA": ("model_deploy_model.onnx", "model_clip_ranges.json", "the file holds one largest magnitude a tensor, the fake-quant is asymmetric: 66 of 128 codes of the input differ, and with them most layers"),
    "NNIE": ("model_deploy_model.onnx", "model_gfpq_param_dict.json", "the file has no entry for the global means, which stay float: their 40 elements differ, no other"),
    "Vitis": ("model_deploy_model.onnx", "model_clip_ranges.json", ""),
    "Tengine_u8": ("model_for_tengine.onnx", "model_for_tengine.scale", "codes of convolutions alone differ, 617 of 8,000: the file has no entries for weights, which are quantized anew from their range"),
    "STPU": ("model_for_stpu.onnx", "model_stpu_minmax.json", "the file is rewritten for the chip, a concatenation's inputs take its output's range: 128 of 256, 219 of 256 and 27 of 512 elements around it differ, no other"),
}


# ---------------------------------------------------------------- PyTorch 2.15 under MQBench

def typed(symbolic):
    """The exporter needs shapes behind custom operators."""
    def of(g, x, *rest):
        output = symbolic(g, x, *rest)
        output.setType(x.type())
        return output
    return staticmethod(of)


def unshared(model):
    """MQBench's deployment rewires one use of a tensor at a time: every use gets an initializer and a Constant of its own."""
    graph = model.graph
    stored = {i.name: i for i in graph.initializer}
    constants = {n.output[0]: n for n in graph.node if n.op_type == "Constant"}
    same, uses, more = {}, {}, []
    for node in list(graph.node):
        if node.op_type == "Identity" and same.get(node.input[0], node.input[0]) in stored:
            same[node.output[0]] = same.get(node.input[0], node.input[0])
            graph.node.remove(node)
    for node in graph.node:
        for k, name in enumerate(node.input):
            name = node.input[k] = same.get(name, name)
            if name not in stored and name not in constants:
                continue
            uses[name] = uses.get(name, 0) + 1
            if uses[name] == 1:
                continue
            clone = copy.deepcopy(stored.get(name, constants.get(name)))
            node.input[k] = f"{name}_{uses[name] - 1}"
            if name in stored:
                clone.name = node.input[k]
                graph.initializer.append(clone)
            else:
                clone.output[0] = node.input[k]
                clone.name += f"_{uses[name] - 1}"
                more.append(clone)
    nodes = more + list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def patched():
    export, post = torch.onnx.export, LinearQuantizer_process.post_process_clip_ranges

    def export_as_before(model, inputs, path, **how):
        how |= {"dynamo": False, "autograd_inlining": False, "opset_version": 13, "do_constant_folding": True,
                "custom_opsets": {"mqbench_custom": 1}}
        export(model, inputs, path, **how)
        onnx.save(unshared(onnx.load(path)), path)

    def post_with_producers(self, ranges, graph, readers, producers=None):
        return post(self, ranges, graph, readers, producers or update_inp2node_out2node(graph)[0])

    torch.onnx.export = export_as_before
    LinearQuantizer_process.post_process_clip_ranges = post_with_producers  # Tengine and STPU do not pass the producers
    for function in (FakeQuantizeTqtAffine, NNIEQuantizeFunc, FakeQuantizeLearnablePerchannelAffine):
        function.symbolic = typed(function.symbolic)


# ---------------------------------------------------------------- prepare, export

def prepared(backend):
    net = trained()
    if backend == "STPU":
        net.depthwise.act = torch.nn.ReLU().eval()
    extra = {"extra_qconfig_dict": copy.deepcopy(SCHEME)} if backend == "Academic" else {}
    model = prepare_by_platform(net, BackendType[backend], extra).eval()
    enable_calibration(model)
    with torch.no_grad():
        for image in calibration():
            model(torch.from_numpy(image[None]))
        enable_quantization(model)
        model(torch.zeros(1, 1, 8, 8))
    return model


def merged(model):
    """As the deployment makes it first: batch normalization, where the backend kept it, in the convolutions."""
    model = deepcopy_graphmodule(model)
    convert_merge_bn(model)
    return model.eval()


def deployed(model, backend, folder):
    """Names of the files that convert_deploy writes; ONNX_QNN writes <model name>.onnx into the working directory."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    back = os.getcwd()
    with tempfile.TemporaryDirectory() as elsewhere:
        os.chdir(elsewhere)
        path = os.environ["PATH"]
        os.environ["PATH"] = ""  # no polygraphy: it would fold constants, which this network does not need
        convert_deploy(model, BackendType[backend], dummy_input=(torch.zeros(1, 1, 8, 8),), output_path=str(folder), model_name="model",
                       input_names=["image"], output_names=["fine", "coarse"])
        os.environ["PATH"] = path
        os.chdir(back)
        if (Path(elsewhere) / "model.onnx").exists():
            (folder / "model_qnn.onnx").write_bytes((Path(elsewhere) / "model.onnx").read_bytes())
    return sorted(p.name for p in folder.iterdir())


# ---------------------------------------------------------------- fake-quant, under the names of the file

def operators(node, modules):
    """ONNX operators that one fx node becomes, those with weights aside."""
    if node.op == "call_function":
        return {"add": ["Add"], "cat": ["Concat"]}[node.target.__name__]
    module = modules[node.target]
    kind = type(module).__name__
    if isinstance(module, QuantizeBase):
        return ["Quantizer"]
    if "Conv" in kind:
        return ["Conv", "Relu"] if "ReLU" in kind else ["Conv"]
    return {"ReLU": ["Relu"], "ReLU6": ["Clip"], "BatchNorm2d": ["BatchNormalization"], "AvgPool2d": ["AveragePool"],
            "MaxPool2d": ["MaxPool"], "AdaptiveAvgPool2d": ["GlobalAveragePool"], "Flatten": ["Flatten"], "Identity": []}[kind]


def on_the_path(graph):
    """Nodes that follow from the graph's input, in order."""
    follow, path = {i.name for i in graph.input}, []
    for node in graph.node:
        if any(i in follow for i in node.input):
            follow |= set(node.output)
            path.append(node)
    return path


class Recorder(torch.fx.Interpreter):
    """fx values under ONNX names; `quantizers`: name of a quantizer's output -> (module, name of its input)."""

    def __init__(self, model, graph):
        super().__init__(model)
        self.path, self.values, self.quantizers = iter(on_the_path(graph)), {}, {}
        self.producers = {o: n for n in graph.node for o in n.output}
        self.modules = dict(model.named_modules())

    def run_node(self, node):
        result = super().run_node(node)
        if node.op not in ("call_module", "call_function"):
            return result
        for operator in operators(node, self.modules):
            found = next(self.path)
            custom = found.domain == "mqbench_custom"
            if found.op_type != operator and not (custom and operator == "Quantizer"):
                raise SystemExit(f"{node}: {operator} is {found.op_type} {found.name} in the file")
            if operator == "Conv":
                self.parameters(found, self.modules[node.target])
            if custom:
                self.quantizers[found.output[0]] = (self.modules[node.target], found.input[0])
        if operators(node, self.modules):
            self.values[found.output[0]] = result.numpy().copy()
        return result

    def parameters(self, conv, module):
        for k, name in ((1, "weight"), (2, "bias")):
            quantizer = self.producers.get(conv.input[k]) if k < len(conv.input) else None
            if quantizer is not None:
                own = getattr(module, f"{name}_fake_quant")
                self.values[conv.input[k]] = own(getattr(module, name)).detach().numpy().copy()
                self.quantizers[conv.input[k]] = (own, quantizer.input[0])


def fake_quant(model, graph, feed):
    runs = []
    with torch.no_grad():
        for x in feed:
            recorder = Recorder(model, graph)
            recorder.run(torch.from_numpy(x[None]))
            if next(recorder.path, None) is not None:
                raise SystemExit("the file has more operators than the prepared model")
            runs.append(recorder.values)
    activations = {o for n in on_the_path(graph) for o in n.output}
    values = {k: np.concatenate([r[k] for r in runs]) if k in activations else v for k, v in runs[0].items()}
    return values, recorder.quantizers


# ---------------------------------------------------------------- what the neighbours of the fake-quant would give

def step(module):
    shape = (-1,) + (1,) * 3 if module.ch_axis != -1 else ()
    return [t.detach().numpy().reshape(shape) for t in (module.scale, module.zero_point.float())]


def affine(x, module):
    """Rules: (code - zero) * scale."""
    s, z = step(module)
    lo, hi = F(module.quant_min), F(module.quant_max)
    zero = np.rint(z)
    codes = {"x*(1/s), zero point behind rounding": np.rint(x * (F(1) / s)) + zero, "x/s, zero point behind rounding": np.rint(x / s) + zero,
             "x*(1/s), zero point before rounding": np.rint(x * (F(1) / s) + zero), "x/s, zero point before rounding": np.rint(x / s + zero)}
    values = {rule: (np.clip(c, lo, hi) - zero) * s for rule, c in codes.items()}
    if module.ch_axis != -1 and getattr(module, "use_grad_scaling", False):  # its gradient trick adds and subtracts a part of the scale
        g = F(1 / (x.size / x.shape[module.ch_axis] * module.quant_max) ** 0.5)
        t = (s - s * g) + s * g
        values["x/t, t = (s - s*g) + s*g in f32, zero point before rounding"] = (np.clip(np.rint(x / t + zero), lo, hi) - zero) * t
    return values


def power_of_two(x, module):
    s = F(2.0) ** -np.floor(np.log2(1 / module.scale.numpy().astype(np.float64))).astype(F)
    v = np.clip(x / s, module.quant_min, module.quant_max)
    up_below_zero = np.where((v < 0) & (v - np.floor(v) == 0.5), np.ceil(v), np.rint(v))
    return {"measured: half up below zero, half even above" if module.quant_type != "param" else "measured: half even (weights, biases)":
            (up_below_zero if module.quant_type != "param" else np.rint(v)) * s,
            "half up (the DPU's)": np.floor(v + F(0.5)) * s, "half even": np.rint(v) * s}


def logarithmic(x, module):
    """MQBench's rule rounds z; HiSilicon's library takes its floor."""
    top = float(module.data_max)
    x = x.astype(np.float64)

    def values(z):
        y = x.copy()
        up, down = x > 2 ** ((z - 16) / 16), x < -(2 ** ((z + 1 - 16) / 16))
        y[~up & ~down & (x != 2 ** ((z - 16) / 16))] = 0
        y[up] = 2 ** ((np.clip(np.rint(16 * np.log2(x[up]) - z), 0, 127) + z) / 16)
        y[down] = -(2 ** ((np.clip(np.rint(16 * np.log2(-x[down]) - z), 1, 127) + z) / 16))
        return y.astype(F)

    return {"measured: z rounded": values(np.rint(16 * np.log2(top)) - 127), "z floored (HiSilicon's library)": values(np.floor(16 * np.log2(top)) - 127)}


def neighbours(values, quantizers, graph, feed):
    """(what is told apart, what is not): elements that each rule gets wrong, on activations and on weights."""
    stored = {i.name: numpy_helper.to_array(i) for i in graph.initializer} | {"image": feed}
    counts, total = {}, {}
    for output, (module, source) in quantizers.items():
        x = values.get(source, stored.get(source))
        if x is None:  # inside a fused module: the value before the quantizer is not seen
            continue
        kind = "weights" if source in stored and source != "image" else "activations"
        rules = logarithmic(x, module) if hasattr(module, "data_max") else power_of_two(x, module) if hasattr(module, "mth") else affine(x, module)
        for rule, y in rules.items():
            key = (kind, rule)
            counts[key] = counts.get(key, 0) + int((y.astype(F) != values[output]).sum())
            total[key] = total.get(key, 0) + x.size
    wrong = [f"{kind}, {rule}: {n} of {total[kind, rule]}" for (kind, rule), n in counts.items() if n]
    right = [f"{kind}: {rule}" for (kind, rule), n in counts.items() if not n]
    return "elements that a rule gets wrong: " + ("; ".join(wrong) or "none"), "0 wrong: " + "; ".join(right)


# ---------------------------------------------------------------- what the deployed files changed

def initializers(path):
    return {i.name: numpy_helper.to_array(i) for i in onnx.load(path).graph.initializer}


def seen(backend, folder, files, quantizers, values):
    """Counts of what the deployment does to the numbers."""
    plain, notes = onnx.load(folder / "model.onnx"), []
    before = initializers(folder / "model.onnx")
    deployment = next((f for f in files if f.endswith(".onnx") and f != "model.onnx"), None)
    if deployment:
        after = initializers(folder / deployment)
        weights = [n for n, v in before.items() if v.ndim == 4 and n in after and after[n].dtype == F]
        changed = {n: int((before[n] != after[n]).sum()) for n in weights}
        notes.append(f"weights clipped in {deployment}: {sum(changed.values())} of {sum(before[n].size for n in weights)}")
    if backend == "OPENVINO":
        outside, doubled = 0, []
        for output, (module, source) in quantizers.items():
            if source not in before:
                continue
            s = step(module)[0]
            outside += int(((before[source] > 63 * s) | (before[source] < -64 * s)).sum())
            doubled.append(bool(np.allclose(after[f"input_max_{source}"], 127 * s) and np.allclose(after[f"input_min_{source}"], -128 * s)))
        notes.append(f"weights beyond the 7 bits [-64,63]*s that the fake-quant clips to, inside the exported [-128,127]*s: {outside} "
                     f"of {sum(before[q[1]].size for q in quantizers.values() if q[1] in before)}; ranges doubled: {sum(doubled)} of {len(doubled)}")
        unsigned = [m.quant_min == 0 for m, s in quantizers.values() if s not in before]
        notes.append(f"activation quantizers that are unsigned: {sum(unsigned)} of {len(unsigned)}, behind ReLU alone, not behind ReLU6")
    if backend == "ONNX_QNN":
        graph = onnx.load(folder / "model_qnn.onnx").graph
        truncated = rounded = size = 0
        for n in graph.node:
            if n.op_type == "QLinearConv" and len(n.input) > 8:
                bias, code, unit = before[n.input[8]], after[n.input[8]], after[n.input[1]] * after[n.input[4]]  # all float32
                truncated += int((np.trunc(bias / unit) != code).sum())
                rounded += int((np.rint(bias / unit) != code).sum())
                size += code.size
        kinds = sorted({n.op_type for n in graph.node if n.op_type != "Constant"})
        notes.append(f"int32 biases: {truncated} of {size} differ from truncation toward zero, {rounded} from rounding; operators {', '.join(kinds)}")
    if backend == "NNIE":
        ranges = json.loads((folder / "model_gfpq_param_dict.json").read_text())["nnie"]["gfpq_param_dict"]
        clips = [16 * np.log2(v) for vs in ranges.values() for v in vs]
        nodes = {n.name for n in plain.graph.node if n.domain == "" and n.op_type not in ("Constant", "Flatten", "Relu", "Clip")}
        notes.append(f"clip values on the grid 2^(k/16): {sum(float(c).is_integer() for c in clips)} of {len(clips)}; z of HiSilicon's library is one less: "
                     f"{sum(np.rint(c) != np.floor(c) for c in clips)}; nodes without an entry: {', '.join(sorted(nodes - set(ranges)))}")
    heads = {id(m) for m, s in quantizers.values() if s.startswith("head.weight")}
    notes.append("shared head: " + ("cloned, each with a weight quantizer of its own" if len(heads) == 2 else "one module called twice, one weight quantizer "
                 "(the copy of its weight in the file is the recorder's)"))
    return notes


def record(out, backend):
    target, what = BACKENDS[backend]
    folder = out / f"mqbench-{backend.lower().replace('_', '-')}"
    model = prepared(backend)
    files = deployed(model, backend, folder)
    graph = onnx.load(folder / "model.onnx").graph
    feed = samples()[:SAMPLES]
    values, quantizers = fake_quant(merged(model), graph, feed)
    save_npz(folder / "inputs.npz", {"image": feed})
    save_npz(folder / "outputs.npz", values)
    notes = seen(backend, folder, files, quantizers, values)
    extra = [f"deployment = {json.dumps([target] if target else [])}", f"seen = {json.dumps(notes)}", "", "[quantized]",
             *(f"{json.dumps(source)} = {json.dumps(output)}" for output, (_, source) in quantizers.items())]
    told, not_told = neighbours(values, quantizers, graph, feed)
    provenance(folder, [*files, "inputs.npz", "outputs.npz"], what=f"MQBench, backend {backend}: {what}", tells_apart=told, undecided=not_told,
               extra=extra, **ABOUT)
    if backend in DEPLOYED:
        record_deployed(folder, *DEPLOYED[backend], extra[2:])


def record_deployed(folder, model, beside, why, quantized):
    """The deployed files against the fake-quant, in a folder that only names its neighbour's files."""
    named = {"model": model, "encodings": beside, "inputs": "inputs.npz", "outputs": "outputs.npz"}
    deployed = folder.with_name(f"{folder.name}-deploy")
    deployed.mkdir(exist_ok=True)
    provenance(deployed, [], what=f"the deployed files of {folder.name}, the float model and what stands beside it, against the fake-quant of "
               "the prepared model", tells_apart="", undecided=why,
               extra=[*(f"{key} = {json.dumps(f'../{folder.name}/{name}')}" for key, name in named.items()), *quantized],
               **ABOUT | {"targets": [] if why else ["exact"]})


def main(out, backends):
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    patched()
    for backend in backends or BACKENDS:
        record(out, backend)


main(Path(sys.argv[1]), sys.argv[2:])
