"""The digits network quantized and exported by AIMET, with AIMET's own fake-quant.

    pip install -r golden/recorders/requirements-aimet.txt
    python golden/recorders/aimet_digits.py golden/toolchains

Encodings 0.6.1, 1.0.0 and 2.0.0 are the tool's; 0.4.0, 0.5.0 and 2.1.0 are written here from the same encodings, by the format
that AIMET documents (aimet-onnx 2.42.0 refuses to write them), and marked `documented`.

`outputs.npz` of a simulation holds, of the session of `sim.model`: `<t>`, the tensor before its quantizer, and `<t>_updated`
behind it (only where the quantizer is on; else both are one tensor); `<w>_qdq`, quantized weights, without a sample axis.
"""

import json
import logging
import os
import sys
import warnings
from pathlib import Path

import aimet_onnx
import numpy as np
import onnx
import onnxruntime as ort
from aimet_onnx import utils
from aimet_onnx.batch_norm_fold import fold_all_batch_norms_to_weight
from aimet_onnx.quantsim import QuantizationSimModel
from digits_net import FLOAT, calibration, samples
from onnx import TensorProto, helper, numpy_helper
from qdq_model import provenance, reals, save_npz

F = np.float32
ABOUT = {"tools": ["aimet-onnx", "onnx", "onnxruntime", "numpy"], "license_of_the_tool": "BSD-3-Clause",
         "command": "python golden/recorders/aimet_digits.py golden/toolchains"}
SAMPLES = 4
DSP = os.path.join(os.path.dirname(aimet_onnx.__file__), "common", "quantsim_config", "dsp_quantsim_config.json")
CALIBRATION = [{"image": image[None]} for image in calibration()]
FEED = {"image": samples()[:SAMPLES]}


def folded(duplicate):
    """The committed float network, batch normalization folded; `duplicate` clones the shared head's weight and bias."""
    model = onnx.load(FLOAT / "model.onnx")
    fold_all_batch_norms_to_weight(model)
    if duplicate:
        utils.duplicate_shared_initializers(model.graph)
    return model


def simulation(model, config, data=None):
    sim = QuantizationSimModel(model, config_file=config)
    sim.compute_encodings(data or CALIBRATION)
    return sim


def every_output(graph, names):
    shown = {o.name for o in graph.output}
    graph.output.extend(helper.make_empty_tensor_value_info(n) for n in names if n not in shown)


def one_by_one(session, names, feed):
    count = len(next(iter(feed.values())))
    runs = [dict(zip(names, session.run(names, {k: v[i:i + 1] for k, v in feed.items()}))) for i in range(count)]
    return runs[0], {n: np.concatenate([r[n] for r in runs]) for n in names if runs[0][n].ndim}


def fake_quant(sim, feed=None):
    """Every activation of the simulation, one sample at a time, and every quantized weight."""
    graph = sim.model.model.graph
    off = {name for name, quantizer in sim.qc_quantize_op_dict.items() if not quantizer.enabled}
    weights = {i.name for i in graph.initializer}
    constants = {o for n in graph.node if n.op_type == "Constant" for o in n.output}
    names = [o for n in graph.node if n.op_type != "Constant" for o in n.output
             if not (n.op_type == "QcQuantizeOp" and (n.input[0] in off or n.input[0] in constants))]
    every_output(graph, names)
    sim._rebuild_session()
    first, stacked = one_by_one(sim.session, names, feed or FEED)
    of_weight = {o for n in graph.node if n.op_type == "QcQuantizeOp" and n.input[0] in weights for o in n.output}
    return {n: first[n] if n in of_weight else stacked[n] for n in names}


# ---------------------------------------------------------------- how AIMET rounds, and what its neighbours would give

def neighbours(x, scale, offset):
    """Code of every rule, `(code + offset) * scale` being the value. The first is AIMET's."""
    s, o, top = F(scale), F(offset), F(255)
    clamped = np.clip(x, o * s, (o + top) * s)
    away = lambda v: np.trunc(v + np.copysign(v.dtype.type(0.5), v))  # noqa: E731
    codes = {
        "measured: away(clamp(x) / f32(s) - offset)": away(clamped / s - o),
        "half even": np.rint(clamped / s - o),
        "half away before the offset": away(clamped / s) - o,
        "x * (1/s)": away(clamped * (F(1) / s) - o),
        "scale in f64": away(clamped.astype(np.float64) / scale - offset),
    }
    return {rule: np.clip(c, 0, 255) for rule, c in codes.items()}


def differing(sim, feed, outputs):
    """rule -> elements that differ from the recording, over all quantized activations and weights."""
    inits = {i.name: numpy_helper.to_array(i) for i in sim.model.model.graph.initializer}
    count, total = {}, 0
    for name, quantizer in sim.qc_quantize_op_dict.items():
        after = outputs.get(name + "_updated", outputs.get(name + "_qdq"))
        if not quantizer.enabled or after is None:
            continue
        before = outputs.get(name, feed.get(name, inits.get(name)))
        shape = (-1,) + (1,) * (before.ndim - 1) if len(quantizer.encodings) > 1 else ()
        scale, offset = (np.array([getattr(e, k) for e in quantizer.encodings]).reshape(shape) for k in ("delta", "offset"))
        total += after.size
        for rule, codes in neighbours(before, scale, offset).items():
            value = (codes + offset).astype(F) * scale.astype(F)
            count[rule] = count.get(rule, 0) + int((value != after).sum())
    return ", ".join(f"{rule}: {n}" for rule, n in count.items()) + f" of {total} quantized elements differ"


# ---------------------------------------------------------------- encodings that aimet-onnx does not write

def older(encodings, version):
    """0.4.0 and 0.5.0 from the tool's 0.6.1: no quantizer_args, integer offsets, in 0.4.0 no dtype."""
    def entry(e):
        e = {k: int(v) if k == "offset" else v for k, v in e.items()}
        return {k: v for k, v in e.items() if version != "0.4.0" or k != "dtype"}
    sections = {k: {name: [entry(e) for e in entries] for name, entries in encodings[k].items()}
                for k in ("activation_encodings", "param_encodings")}
    return {"version": version, **sections}


def documented(folder, source, version):
    """Writes model-<version>.encodings from the tool's file `source`."""
    encodings = json.loads((folder / source).read_text())
    encodings = older(encodings, version) if version.startswith("0.") else encodings | {"version": version}
    (folder / f"model-{version}.encodings").write_text(json.dumps(encodings, indent=1) + "\n")


def names_of(path):
    encodings = json.loads(path.read_text())
    sections = [encodings[k] for k in ("encodings", "activation_encodings", "param_encodings") if k in encodings]
    return [e["name"] if isinstance(e, dict) else e for section in sections for e in section]


# ---------------------------------------------------------------- recordings

def export(out, name, sim, versions, by_format=()):
    """The tool's files, then the documented ones: (source file, version)."""
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    for i, (stem, version) in enumerate(versions.items()):
        sim.export(str(folder), stem, export_model=i == 0, encoding_version=version)
    for source, version in by_format:
        documented(folder, source, version)
    extra = [f"documented = {json.dumps([f'model-{v}.encodings' for _, v in by_format])}"] if by_format else []
    files = [f"{stem}.encodings" for stem in versions] + [f"model-{v}.encodings" for _, v in by_format]
    return folder, ["model.onnx", "model.data", *files], extra


def record(folder, files, sim, what, *, extra, deployment, feed=None, undecided="", seen=""):
    feed = feed or FEED
    outputs = fake_quant(sim, feed)
    save_npz(folder / "inputs.npz", feed)
    save_npz(folder / "outputs.npz", outputs)
    provenance(folder, [*files, "inputs.npz", "outputs.npz"], cpu_path="onnxruntime and AIMET's quantizer operator on the CPU",
               what=what, tells_apart=differing(sim, feed, outputs), undecided=undecided,
               targets=["exact"],
               extra=['model = "model.onnx"', 'encodings = "model.encodings"', f"deployment = {json.dumps(deployment)}", *extra, *([f"seen = {json.dumps(seen)}"] if seen else [])], **ABOUT)


def shared_head(out):
    """Head called twice with one weight and one bias, which encodings 2.0.0 refuses."""
    sim = simulation(folded(False), "default")
    folder, files, extra = export(out, "aimet-default", sim, {"model": "1.0.0", "model-0.6.1": "0.6.1"},
                                  [("model-0.6.1.encodings", v) for v in ("0.4.0", "0.5.0")])
    try:
        sim.export(str(folder), "refused", export_model=False, encoding_version="2.0.0")
        raise SystemExit("encodings 2.0.0 took a shared bias")
    except RuntimeError as refusal:
        seen = f"encodings 2.0.0 of this network are refused: {str(refusal).split(' Call ')[0]}"
    record(folder, files, sim, "aimet-onnx, configuration default (per channel), shared head called twice: one weight, one encoding, "
           "two output encodings; encodings 1.0.0 and 0.6.1 by the tool, 0.4.0 and 0.5.0 by their format",
           extra=extra, deployment=["qnn-htp-approx"], seen=seen)


def cloned_head(out):
    """Head cloned by duplicate_shared_initializers, as encodings 2.0.0 needs it."""
    sim = simulation(folded(True), "htp_v75")
    folder, files, extra = export(out, "aimet-htp-v75", sim, {"model": "2.0.0", "model-1.0.0": "1.0.0"}, [("model.encodings", "2.1.0")])
    more = set(names_of(folder / "model.encodings")) - set(names_of(folder / "model-1.0.0.encodings"))
    off = {n for n, q in sim.qc_quantize_op_dict.items() if not q.enabled}
    graph_outputs = {o.name for o in sim.model.model.graph.output}
    if not more <= off | graph_outputs:
        raise SystemExit(f"entries of 2.0.0 without a reason: {more - off - graph_outputs}")
    biases = sorted(n for n in more if "bias" in n)
    rest = sorted(more - set(biases))
    seen = (f"encodings 2.0.0 have {len(more)} entries more than 1.0.0, all of quantizers that are off in the simulation: "
            f"int32 biases {', '.join(biases)}; and {', '.join(rest)}, copied from a neighbour")
    extra.append(f"off_in_the_simulation = {json.dumps(biases + rest)}")
    record(folder, files, sim, "aimet-onnx, configuration htp_v75, shared head cloned by duplicate_shared_initializers: encodings 2.0.0 and 1.0.0 "
           "by the tool, 2.1.0 by its format; the same quantizers as configuration default", extra=extra,
           deployment=["qnn-htp-approx"], seen=seen)
    return folder


def per_tensor(out):
    """The DSP configuration: per-tensor weights, not symmetric."""
    sim = simulation(folded(False), DSP)
    folder, files, extra = export(out, "aimet-dsp", sim, {"model": "1.0.0", "model-0.6.1": "0.6.1"})
    record(folder, files, sim, "aimet-onnx, dsp_quantsim_config.json: per-tensor asymmetric weights, shared head called twice; "
           "encodings 1.0.0 and 0.6.1", extra=extra, deployment=["hexagon-nn"])


def conv_outputs(out):
    """htp_v66 quantizes convolutions before their ReLU too."""
    sim = simulation(folded(False), "htp_v66")
    folder, files, extra = export(out, "aimet-htp-v66", sim, {"model": "1.0.0"})
    record(folder, files, sim, "aimet-onnx, configuration htp_v66: per-tensor symmetric weights, a quantizer between every convolution and "
           "its ReLU; encodings 1.0.0", extra=extra, deployment=["hexagon-nn"])


def ties(out):
    """Quantizers alone: ties of inputs and of a weight, and their neighbours in float32."""
    rng = np.random.default_rng(0)
    feed, data, nodes = {}, {}, []
    for i, (zero, scale) in enumerate([(0, 2.0 ** -4), (100, 2.0 ** -4), (129, 0.1), (128, 0.0173), (255, 2.0 ** -3)]):
        name = f"x{i}"
        feed[name] = np.clip(reals(rng, 1024, scale, zero), F(-1e6), F(1e6)).reshape(1, 1, 32, 32)
        data[name] = np.resize(np.array([-zero, 255 - zero], F) * F(scale), (1, 1, 32, 32))
        nodes.append(helper.make_node("Relu", [name], [f"y{i}"]))
    w = np.arange(-128, 128).astype(F).reshape(1, 256, 1, 1) + F(0.5)
    w[0, 0] = -128
    feed["z"] = data["z"] = np.linspace(0, 1, 256, dtype=F).reshape(1, 256, 1, 1)
    nodes.append(helper.make_node("Conv", ["z", "w"], ["yz"]))
    graph = helper.make_graph(
        nodes, "ties", [helper.make_tensor_value_info(k, TensorProto.FLOAT, v.shape) for k, v in feed.items()],
        [helper.make_tensor_value_info(n.output[0], TensorProto.FLOAT, feed[n.input[0]].shape if n.op_type == "Relu" else (1, 1, 1, 1))
         for n in nodes], [numpy_helper.from_array(w, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8, producer_name="align-check recorder")
    sim = simulation(model, "default", [data])
    folder, files, extra = export(out, "aimet-ties", sim, {"model": "1.0.0"})
    record(folder, files, sim, "aimet-onnx: five input quantizers and a weight fed with ties, their float32 neighbours and values out of range",
           extra=extra, deployment=["qnn-htp-approx"], feed=feed,
           undecided="clamping before or after the division: the bounds are codes, so both give the same")


def qdq(out):
    """sim.to_onnx_qdq() run by ONNX Runtime, unoptimized: the file's meaning, which rounds half to even."""
    for name, what, how in (
            ("aimet-qdq", "sim.to_onnx_qdq(): float weights, bias and the constants of Clip go through QuantizeLinear in the file", {}),
            ("aimet-qdq-integer", "sim.to_onnx_qdq(export_int32_bias=True, prequantize_constants=True): int8 weights, int32 biases stored",
             {"export_int32_bias": True, "prequantize_constants": True})):
        sim = simulation(folded(True), "default")
        model = sim.to_onnx_qdq(**how)
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
        shown = onnx.ModelProto.FromString(model.SerializeToString())
        fixed = {i.name for i in model.graph.initializer} | {o for n in model.graph.node if n.op_type == "Constant" for o in n.output}
        for node in model.graph.node:  # what follows from constants alone is not an activation
            if all(i in fixed for i in node.input):
                fixed |= set(node.output)
        names = [o for n in model.graph.node for o in n.output if o not in fixed]
        every_output(shown.graph, names)
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = ort.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
        _, outputs = one_by_one(session, names, FEED)
        simulated = fake_quant(sim)
        apart = {n: (int((y != simulated[n]).sum()), y.size) for n, y in outputs.items()
                 if n.endswith("_updated") and n in simulated}
        save_npz(folder / "inputs.npz", FEED)
        save_npz(folder / "outputs.npz", outputs)
        total = (sum(a for a, _ in apart.values()), sum(b for _, b in apart.values()))
        first = next((f"{n} {a} of {b}" for n, (a, b) in apart.items() if a), "none")
        provenance(folder, ["model.onnx", "inputs.npz", "outputs.npz"], cpu_path="onnxruntime, graph optimizations off", what=f"aimet-onnx: {what}",
                   tells_apart=f"AIMET's own simulation of the same network differs in {total[0]} of {total[1]} quantized elements, first at {first}: "
                               "the file rounds half to even, AIMET half away" + (", and AIMET's bias stays float" if how else ""),
                   undecided="", targets=["exact"], extra=['deployment = ["qnn-htp-approx"]'], **ABOUT)


def main(out):
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    for case in (shared_head, cloned_head, per_tensor, conv_outputs, ties, qdq):
        case(out)


main(Path(sys.argv[1]))
