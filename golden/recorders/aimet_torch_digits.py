"""The digits network quantized and exported by aimet-torch, with its own fake-quant.

    pip install -r golden/recorders/requirements-aimet-torch.txt
    python golden/recorders/aimet_torch_digits.py golden/toolchains

aimet-torch writes encodings 2.1.0 itself, and clones a module that is called twice. `outputs.npz` has the names of aimet_digits.py:
`<t>` before its quantizer, `<t>_updated` behind it, `<w>_qdq` for weights.
"""

import json
import logging
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from aimet_torch import QuantizationSimModel
from aimet_torch.batch_norm_fold import fold_all_batch_norms
from aimet_torch.model_preparer import prepare_model
from digits_net import calibration, samples, trained
from qdq_model import provenance, save_npz

F = np.float32
SAMPLES = 2
KINDS = {"Conv2d": "Conv", "ReLU": "Relu", "ReLU6": "Clip", "Add": "Add", "AvgPool2d": "AveragePool", "MaxPool2d": "MaxPool", "Concat": "Concat",
         "AdaptiveAvgPool2d": "GlobalAveragePool", "Flatten": "Flatten"}


def simulation():
    first = torch.from_numpy(samples()[:1])
    model = prepare_model(trained())
    fold_all_batch_norms(model, None, first)
    sim = QuantizationSimModel(model, first)

    def calibrate(net):
        with torch.no_grad():
            for image in calibration():
                net(torch.from_numpy(image[None]))

    sim.compute_encodings(calibrate)
    return sim, first


class Recorder(torch.fx.Interpreter):
    """fx values under ONNX names: modules run in the order of the file's nodes."""

    def __init__(self, model, graph):
        super().__init__(model)
        self.nodes = iter([n for n in graph.node if n.op_type not in ("Constant", "Identity")])
        self.values, self.steps, self.modules = {}, {}, dict(model.named_modules())

    def quantized(self, quantizer, x, name):
        self.values[name] = x.detach().numpy().copy()
        if quantizer is None:
            return
        self.values[name + "_updated"] = quantizer(x).detach().numpy().copy()
        self.steps[name] = (quantizer.get_scale().item(), quantizer.get_offset().item())

    def call_module(self, target, args, kwargs):
        module = self.modules[target]
        kind = next(k.__name__ for k in type(module).__mro__ if k.__name__ in (*KINDS, "Identity", "StaticGridQuantizeDequantize"))
        if kind == "Identity":
            return super().call_module(target, args, kwargs)
        node = next(self.nodes)
        if KINDS.get(kind) != node.op_type:
            raise SystemExit(f"{target}: {kind} is {node.op_type} in the file")
        for i, quantizer in enumerate(module.input_quantizers):
            if quantizer is not None:
                self.quantized(quantizer, args[i], node.input[i])
        own = module.output_quantizers[0]
        module.output_quantizers[0] = None
        raw = super().call_module(target, args, kwargs)
        module.output_quantizers[0] = own
        self.quantized(own, raw, node.output[0])
        parameters = dict(module.param_quantizers.items())
        if parameters.get("weight") is not None:
            self.values[node.input[1] + "_qdq"] = parameters["weight"](module.weight).detach().numpy().copy()
        return raw if own is None else own(raw)


def half_even(values, steps):
    """Elements that each rule gets wrong: u = x/s - offset, rounded."""
    counts, total = {}, 0
    for name, (scale, offset) in steps.items():
        x, y, s, o = values[name], values[name + "_updated"], F(scale), F(offset)
        total += x.size
        rules = {"half even of x/s - offset": np.rint(x / s - o), "half even of x/s, offset behind": np.rint(x / s) - o,
                 "half up of x/s - offset": np.floor(x / s - o + F(0.5)), "half even of x*(1/s) - offset": np.rint(x * (F(1) / s) - o)}
        for rule, u in rules.items():
            counts[rule] = counts.get(rule, 0) + int(((np.clip(u, 0, 255) + o) * s != y).sum())
    return ", ".join(f"{r}: {n}" for r, n in counts.items()) + f" of {total} quantized activations wrong"


def main(out):
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    folder = out / "aimet-torch"
    folder.mkdir(parents=True, exist_ok=True)
    sim, first = simulation()
    for version in ("2.1.0", "2.0.0", "1.0.0"):
        stem = "model" if version == "2.1.0" else f"model-{version}"
        sim.onnx.export(first, str(folder / f"{stem}.onnx"), dynamo=False, encoding_version=version, input_names=["image"],
                        output_names=["fine", "coarse"])
        if stem != "model":  # the network is the same
            (folder / f"{stem}.onnx").unlink()
    graph = onnx.load(folder / "model.onnx").graph
    feed, runs = samples()[:SAMPLES], []
    with torch.no_grad():
        for x in feed:
            recorder = Recorder(sim.model, graph)
            recorder.run(torch.from_numpy(x[None]))
            runs.append(recorder.values)
    values = {k: v if k.endswith("_qdq") else np.concatenate([r[k] for r in runs]) for k, v in runs[0].items()}
    save_npz(folder / "inputs.npz", {"image": feed})
    save_npz(folder / "outputs.npz", {k: v for k, v in values.items() if k != "image"})
    entries = {e["name"] for e in json.loads((folder / "model.encodings").read_text())["encodings"]}
    older = json.loads((folder / "model-1.0.0.encodings").read_text())
    older = {e["name"] for s in ("activation_encodings", "param_encodings") for e in older[s]}
    weights = {n.removesuffix("_qdq") for n in values if n.endswith("_qdq")}
    off = {"2.1.0": sorted(entries - set(recorder.steps) - weights), "1.0.0": sorted(older - set(recorder.steps) - weights)}
    provenance(folder, ["model.onnx", "model.encodings", "model-2.0.0.encodings", "model-1.0.0.encodings", "inputs.npz", "outputs.npz"],
               tools=["aimet-torch", "torch", "onnx", "numpy"], cpu_path="torch, float32",
               command="python golden/recorders/aimet_torch_digits.py golden/toolchains", license_of_the_tool="BSD-3-Clause",
               what="aimet-torch, default configuration (per channel): shared head cloned, both convolutions on one weight; encodings 2.1.0, 2.0.0 and 1.0.0 by the tool",
               targets=[], tells_apart="",
               undecided=half_even(values, recorder.steps) + "; 3 of 8,000 codes of convolutions differ under exact (encodings 2.1.0 and 1.0.0 alike), 3e-5 to 3e-4 of a step from a tie: more than float32 sums explain, cause not known",
               extra=['model = "model.onnx"', 'encodings = "model.encodings"', 'deployment = ["qnn-htp-approx"]', f"off_in_the_simulation = {json.dumps(off['2.1.0'])}",
                      f"off_in_the_simulation_1_0_0 = {json.dumps(off['1.0.0'])}"])


main(Path(sys.argv[1]))
