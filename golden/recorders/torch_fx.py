"""The digits network through PyTorch's FX graph mode quantization: its QDQ ONNX file, its fake-quant, its integer engines.

    pip install -r golden/recorders/requirements-torch-toolchains.txt
    python golden/recorders/torch_fx.py golden/toolchains

Fake-quant: a torch.fx Interpreter over the program that was exported; its node names are the file's value names. Engines: an
Interpreter over convert_fx's integer module, int_repr() of every tensor, once run freely (outputs.npz) and once with every
operator fed the codes of the fake-quant run (teacher-forced.npz).
"""

import logging
import sys
import warnings
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from digits_net import calibration, samples, trained
from toolchain import differing, record
from torch import nn
from torch.ao.quantization import (QConfigMapping, disable_fake_quant, disable_observer, enable_fake_quant,
                                   get_default_qat_qconfig_mapping, get_default_qconfig_mapping)
from torch.ao.quantization.observer import HistogramObserver, default_per_channel_weight_observer
from torch.ao.quantization.qconfig import QConfig
from torch.ao.quantization.quantize_fx import (_convert_to_reference_decomposed_fx, convert_fx, fuse_fx, prepare_fx,
                                               prepare_qat_fx)
from torch_export import Values, numbered, one_at_a_time, quantizers, scripted, serialized, stacked, to_onnx, values

TOOLS = ["torch", "onnx", "onnxscript", "numpy"]
KERNELS = {"fbgemm": "FBGEMM AVX2 (vpmaddubsw, vpmaddwd)", "x86": "x86 engine: FBGEMM, AVX2 (no AVX512-VNNI)", "onednn": "oneDNN AVX2",
           "qnnpack": "QNNPACK SSE2/SSE4.1"}
LAYOUT = "contiguous input; convolutions give channels_last"
COMMON = {"command": "python golden/recorders/torch_fx.py golden/toolchains", "license_of_the_tool": "BSD-3-Clause"}


@dataclass
class Reference:
    """A fake-quant run. `quantizers`: (name of the integer tensor in the file, scale, zero point, largest code) in the order of
    the graph; `codes`: by that name; `ends`: the file's outputs."""

    onnx: object
    quantizers: list
    codes: dict
    ends: dict
    weights: str


# ---------------------------------------------------------------- post-training quantization

def full_range():
    """fbgemm's default qconfig without reduce_range."""
    act = HistogramObserver.with_args(reduce_range=False)
    return QConfigMapping().set_global(QConfig(activation=act, weight=default_per_channel_weight_observer))


def prepared(engine, mapping, net):
    torch.backends.quantized.engine = engine  # convert packs the weights for it
    images = torch.from_numpy(calibration())
    model = prepare_fx(net, mapping, (images[:1],))
    with torch.no_grad():
        model(images)
    return model


def reference(model, on_grid=False):
    """`on_grid`: weights become code * scale before the export, so that w*f32(1/s) and w/s give the same codes."""
    ref = _convert_to_reference_decomposed_fx(deepcopy(model)).eval()
    for module in ref.modules() if on_grid else []:
        if hasattr(module, "weight_scale"):
            args = module.weight_scale, module.weight_zero_point.long(), 0, torch.qint8
            module.weight.data = torch.quantize_per_channel(module.weight.detach(), *args).dequantize()
    program = torch.export.export(ref, (one_at_a_time()[0],)).module()
    onnx_model, exported = to_onnx(numbered(program))
    found = values(exported)
    acts, weights = quantizers(exported)
    told, every, seen = 0, 0, set()
    for node in weights:
        if node.args[0].name in seen:  # the shared weight counts once
            continue
        seen.add(node.args[0].name)
        scale = found[node.args[1].name][0] if "channel" in node.name else node.args[1]
        told += tied(found[node.args[0].name][0], scale, found[node.name][0])
        every += found[node.name][0].size
    written = {o for node in onnx_model.graph.node for o in node.output}
    if missing := [n.name for n in acts if n.name not in written]:
        raise SystemExit(f"merged in the file: {missing}")
    return Reference(onnx_model, [(n.name, n.args[1], n.args[2], n.args[4]) for n in acts], stacked(found, [n.name for n in acts]),
                     stacked(found, [o.name for o in onnx_model.graph.output]), f"{told} of {every}")


def tied(weight, scale, codes):
    """Weight codes of torch, w*f32(1/s), that are not those of ONNX, w/s."""
    scale = np.asarray(scale, np.float32)
    scale = scale.reshape(-1, *[1] * (weight.ndim - 1)) if scale.ndim else scale
    return int((np.clip(np.rint(weight / scale), -128, 127) != codes).sum())


# ---------------------------------------------------------------- quantization-aware training

def trained_prepared():
    """prepare_qat_fx with FakeQuantize modules (version 0: the fused ones of later versions have no ONNX symbol); averages of
    minima and maxima over eight batches, no further training."""
    torch.backends.quantized.engine = "fbgemm"
    images = torch.from_numpy(calibration())
    model = prepare_qat_fx(fuse_fx(trained()).train(), get_default_qat_qconfig_mapping("fbgemm", version=0), (images[:1],))
    model.apply(disable_fake_quant)
    with torch.no_grad():
        for batch in images.split(16):
            model(batch)
    model.apply(disable_observer).apply(enable_fake_quant).eval()
    for module in {m for m in model.modules() if hasattr(m, "weight_fake_quant")}:
        module.weight.data = weight_codes(module).dequantize()
    return model


def weight_codes(module):
    fake = module.weight_fake_quant
    return torch.quantize_per_channel(module.weight.detach(), fake.scale.double(), fake.zero_point.long(), 0, torch.qint8)


def trained_reference(model):
    onnx_model = scripted(model)
    clips = [n.output[0] for n in onnx_model.graph.node if n.op_type == "Clip" and "activation_post_process" in n.output[0]]
    found = {}
    for x in one_at_a_time():
        run = Values(model)
        with torch.no_grad():
            run.run(x)
        for node in model.graph.nodes:
            if node.op == "output":
                for end, arg in zip(onnx_model.graph.output, node.args[0], strict=True):
                    found.setdefault(end.name, []).append(run.values[arg.name].numpy())
            elif node.name.startswith("activation_post_process"):
                found.setdefault(node.name, []).append(run.values[node.name].numpy())
    modules = [n for n in model.graph.nodes if n.name.startswith("activation_post_process")]
    params, codes = [], {}
    for node, name in zip(modules, clips, strict=True):
        fake = model.get_submodule(node.target)
        scale, zero = np.float32(fake.scale.item()), int(fake.zero_point.item())
        steps = np.concatenate(found[node.name]) / scale
        if np.abs(steps - np.rint(steps)).max() > 1e-3:
            raise SystemExit(f"{node.name} is off its grid")
        codes[name] = (np.rint(steps) + zero).astype(np.uint8)
        params.append((name, float(scale), zero, fake.quant_max))
    told, every = 0, 0
    for module in {m for m in model.modules() if hasattr(m, "weight_fake_quant")}:
        q = weight_codes(module).int_repr().numpy()
        told, every = told + tied(module.weight.detach().numpy(), module.weight_fake_quant.scale.numpy(), q), every + q.size
    return Reference(onnx_model, params, codes, {o.name: np.concatenate(found[o.name]) for o in onnx_model.graph.output}, f"{told} of {every}")


# ---------------------------------------------------------------- the integer module

class Engine(Values):
    """`inputs`: what every operator's reader is fed with in place of what the operator gave (teacher forcing): codes, scale,
    zero point by node. `repair`: qnnpack's clamp permutes tensors that are channels_last; feed it contiguous ones."""

    def __init__(self, module, inputs, repair):
        super().__init__(module)
        self.inputs, self.repair = inputs, repair

    def run_node(self, node):
        if self.repair and node.op == "call_module" and isinstance(self.fetch_attr(node.target), nn.ReLU6):
            self.env[node.args[0]] = self.env[node.args[0]].contiguous()
        result = super().run_node(node)
        if node.name in self.inputs:
            codes, scale, zero = self.inputs[node.name]
            fed = torch._make_per_tensor_quantized_tensor(torch.from_numpy(codes), scale, zero)
            if not result.is_contiguous():
                fed = fed.contiguous(memory_format=torch.channels_last)
            return fed
        return result


def run_engine(module, forced, repair):
    """node -> [codes of all samples, scale, zero point], in the order of the graph; and the real outputs."""
    found, reals = {}, []
    for i, x in enumerate(one_at_a_time()):
        run = Engine(module, {k: (c[i:i + 1], s, z) for k, (c, s, z) in forced.items()}, repair)
        with torch.no_grad():
            reals.append([y.numpy() for y in run.run(x)])
        for name, value in run.values.items():
            if isinstance(value, torch.Tensor) and value.is_quantized:
                found.setdefault(name, ([], value.q_scale(), value.q_zero_point()))[0].append(value.int_repr().contiguous().numpy())
    return {k: (np.concatenate(c), s, z) for k, (c, s, z) in found.items()}, [np.concatenate(r) for r in zip(*reals)]


def engine_case(engine, model, ref, repair):
    """(arrays by file, finds)."""
    torch.backends.quantized.engine = engine
    module = convert_fx(deepcopy(model))
    free, reals = run_engine(module, {}, repair)
    names = dict(zip(free, [q[0] for q in ref.quantizers], strict=True))
    params = dict(zip(free, ref.quantizers))
    taught, _ = run_engine(module, {k: (ref.codes[q[0]], q[1], q[2]) for k, q in params.items()}, repair)
    last = [k for k in free if free[k][1:] != params[k][1:3]]  # the shared head has one output scale
    own = [k for k in free if k not in last]
    fake = {k: ref.codes[names[k]] for k in free}
    outputs = {names[k]: free[k][0] for k in own}
    ends = [k for k in free if not any(n.name == k for n in module.graph.nodes for u in n.users if u.name in free)][-len(reals):]
    outputs |= {end: real for end, real, k in zip(ref.ends, reals, ends, strict=True) if k in own}
    finds = [f"run freely, {sum(int((free[k][0] != fake[k]).sum()) for k in own)} of {sum(fake[k].size for k in own)} codes are not the fake-quant's",
             "fed the fake-quant's codes: " + (", ".join(f"{k} {differing(taught[k][0], fake[k])}" for k in own if (taught[k][0] != fake[k]).any())
                                               or f"0 of {sum(fake[k].size for k in own)} differ")]
    if any(q[3] == 127 for q in ref.quantizers):
        finds.append("reduce_range: codes above 127, where the fake-quant clips: "
                     f"{sum(int((taught[k][0] > 127).sum()) for k in own)} of the engine fed the fake-quant's codes (largest "
                     f"{max(taught[k][0].max() for k in own)}), {sum(int((free[k][0] > 127).sum()) for k in own)} run freely, 0 of the fake-quant")
    arrays = {"outputs.npz": outputs, "teacher-forced.npz": {names[k]: taught[k][0] for k in own}}
    if last:
        arrays["other-scale.npz"] = {names[k]: taught[k][0] for k in last}
        finds.append("tensors of other scales than the file's (a module called twice has the output scale of its last call; max_pool2d keeps its input's): " + "; ".join(
            f"{k} scale {free[k][1]:.6g} zero point {free[k][2]} in place of {params[k][1]:.6g} and {params[k][2]}, {differing(taught[k][0], fake[k])} codes "
            "other" for k in last) + "; they are in other-scale.npz (fed the fake-quant's codes), not in outputs.npz")
    return arrays, finds


def same(a, b):
    return all(np.array_equal(a[f][k], b[f][k]) for f in a for k in a[f])


def engine_cases(root, name, engines, model, ref, texts, suffix="", repair=False, known_bug=""):
    """One folder for engines of equal codes."""
    groups = []
    for engine in engines:
        arrays, finds = engine_case(engine, model, ref, repair)
        for members, other, _ in groups:
            if same(arrays, other):
                members.append(engine)
                break
        else:
            groups.append(([engine], arrays, finds))
    for members, arrays, finds in groups:
        own = "" if len(groups) == 1 else "-" + "-".join(members)
        folder = f"{name}-engine{own}{suffix}"
        targets, tells, undecided = texts.get(folder, ([], "", ""))
        bug = {"known_bug": known_bug} if known_bug else {}
        record(root / folder, tools=TOOLS, model=name, files=arrays, fields={
            "cpu_path": "; ".join(KERNELS[m] for m in members), **COMMON,
            "what": f"digits network, convert_fx, engines {', '.join(members)}: int_repr of every tensor, run freely; teacher-forced.npz: every operator fed the "
                    "fake-quant's codes", "targets": targets, "tells_apart": tells, "undecided": undecided, "finds": finds, **bug,
            "memory_format": LAYOUT + (", made contiguous again before the ReLU6" if repair else "")})


def raw_case(root, engines, texts):
    """The engine never saw the file: its codes belong to the one with float weights, too."""
    folder, outputs = "pytorch-fx-fbgemm-engine", "pytorch-fx-fbgemm-on-grid-engine"
    targets, tells, undecided = texts[folder]
    record(root / folder, tools=TOOLS, model="pytorch-fx-fbgemm", fields={
        "cpu_path": "; ".join(KERNELS[e] for e in engines), **COMMON,
        "what": "the file with float weights in front of quantizers under the same engines: convert_fx starts from these weights, and its codes are "
                f"those of {outputs}", "targets": targets, "tells_apart": tells, "undecided": undecided,
        "outputs": f"../{outputs}/outputs.npz", "memory_format": LAYOUT})


def fake_case(root, name, ref, what, texts, finds=()):
    targets, tells, undecided = texts.get(name, ([], "", ""))
    record(root / name, tools=TOOLS, files={"model.onnx": serialized(ref.onnx), "inputs.npz": {"image": samples()}, "outputs.npz": ref.codes | ref.ends}, fields={
        "cpu_path": "float32, one thread, one sample at a time", **COMMON, "what": what, "targets": targets, "tells_apart": tells, "undecided": undecided,
        "finds": [*([f"weights are float in the file, quantized when it runs: torch's codes w*f32(1/s) are not ONNX's w/s in {ref.weights}"
                   + ("; scale = amax/127.5 puts the largest weight of each scale on a tie" if ref.weights[0] != "0" else "")] if ref.weights != "0 of 0" else []), *finds],
        "changed": "metadata_props (source paths, stack traces) removed from the file, nothing else"})


# ---------------------------------------------------------------- cases

class PaddedPool(nn.Module):
    """qnnpack divides by the kernel's area whatever count_include_pad says."""

    def __init__(self):
        super().__init__()
        self.pool, self.flatten = nn.AvgPool2d(3, 1, 1, count_include_pad=False), nn.Flatten()

    def forward(self, image):
        return (self.flatten(self.pool(image)),)


# targets, tells_apart, undecided by folder. Differing elements under other targets, layer by layer, each fed the recording.
TEXTS = {
    "pytorch-fx-fbgemm": ([], "exact 65: 63 by the weight codes, 2 by the lost Clip; pytorch-fake-quant 2, the lost Clip", ""),
    "pytorch-fx-fbgemm-engine": (["fbgemm-channels-last", "onednn-channels-last"], "fbgemm-channels-last with weights.division = model 63, qnnpack 28",
                                 "which of the engines' own rules: see pytorch-fx-fbgemm-on-grid-engine"),
    "pytorch-fx-fbgemm-on-grid": ([], "exact 2, the codes above 127 that the file does not clip; fbgemm 84, qnnpack 112, onnxruntime 110, tflite-reference 384", ""),
    "pytorch-fx-fbgemm-on-grid-engine": (["fbgemm-channels-last", "onednn-channels-last"],
                                         "qnnpack 28, onnxruntime 94, tflite-reference 322 differing", "fbgemm, onednn, openvino-cpu and exact sums: all 0 on these codes; NCHW or channels_last pools"),
    "pytorch-fx-onednn": (["pytorch-fake-quant"], "exact 165: the weight codes", "x*f32(1/s) and x/s of activations: no element tells them apart; ties of float average pools are float32 noise"),
    "pytorch-fx-onednn-engine-fbgemm-x86": (["fbgemm-channels-last"], "pairs of products saturate to int16 without VNNI: exact sums get 1110 codes wrong (stem 159, pointwise 951), oneDNN's pairs, of channels, the stem's 159", ""),
    "pytorch-fx-onednn-engine-onednn": (["onednn-avx2-channels-last"], "pairs of products saturate to int16 without VNNI: exact sums get the 1x1 convolution's 951 codes wrong, FBGEMM's pairs, across kernel positions, 159 of the stem", ""),
    "pytorch-fx-qnnpack": (["exact", "pytorch-fake-quant"], "fbgemm-channels-last 77, qnnpack 111, onnxruntime 83, openvino-cpu 112, tflite-reference 413", "ties of float average pools are float32 noise"),
    "pytorch-fx-qnnpack-engine": (["qnnpack"], "exact 32, fbgemm-channels-last 33, onednn-channels-last 33, onnxruntime 62, openvino-cpu 218, tflite-reference 344", ""),
    "pytorch-fx-qnnpack-engine-relu6-bug": ([], "qnnpack 2815 of the 4096 codes behind the ReLU6, every other layer 0", ""),
    "pytorch-fx-qat": (["exact", "pytorch-fake-quant"], "fbgemm 43, qnnpack 82, onnxruntime 84, tflite-reference 265", "ties of float average pools are float32 noise"),
    "pytorch-fx-qat-engine": (["fbgemm-channels-last", "onednn-channels-last"], "fbgemm-channels-last with activations.clip = model 26, exact 26; codes to 133 lie outside of "
                              "those that the file can have", "fbgemm and onednn: both 0 on these codes"),
    "pytorch-fx-qnnpack-pool": (["exact"], "qnnpack 158 of 512, onnxruntime 1, tflite-reference 12", ""),
    "pytorch-fx-qnnpack-pool-engine": ([], "exact 139, every other target 158 of 512", "a known bug is no rule: no target reproduces it"),
}
CLIP = ("reduce_range ends the fake-quant at 127; the exporter writes no Clip behind QuantizeLinear (only behind that of weights), so "
        "the file ends at 255 as the engine does")
RELU6 = "quantized clamp of a channels_last tensor returns permuted data (qnnpack, torch 2.15.0): no rule, no target reproduces it"
POOL = "avg_pool2d ignores count_include_pad=False: it divides by the kernel's area (qnnpack, torch 2.15.0)"


def main(root):
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    root = Path(root)
    cases = {"fbgemm": ("default qconfig of fbgemm and of x86 (reduce_range)", ["fbgemm", "x86", "onednn"], (CLIP,)),
             "onednn": ("default qconfig of onednn; fbgemm's without reduce_range", ["fbgemm", "x86", "onednn"], ()),
             "qnnpack": ("default qconfig of qnnpack", [], ())}
    files = {}
    for engine, (about, engines, finds) in cases.items():
        model = prepared(engine, get_default_qconfig_mapping(engine), trained())
        ref = reference(model)
        files[engine] = serialized(ref.onnx)
        name = f"pytorch-fx-{engine}"
        fake_case(root, name, ref, f"digits network, FX graph mode, {about}", TEXTS, finds)
        if engine == "fbgemm":
            raw, ref = ref, reference(model, on_grid=True)
            if ref.weights.split()[0] != "0" or any((ref.codes[k] != raw.codes[k]).any() for k in ref.codes):
                raise SystemExit("weights on their grid are other weights")
            name += "-on-grid"
            fake_case(root, name, ref, "as pytorch-fx-fbgemm, but weights put on their grid (code * scale) before the export; same fake-quant, same engine", TEXTS, finds)
        if engines:
            engine_cases(root, name, engines, model, ref, TEXTS)
            if engine == "fbgemm":
                raw_case(root, engines, TEXTS)
        else:
            engine_cases(root, name, [engine], model, ref, TEXTS, repair=True)
            engine_cases(root, name, [engine], model, ref, TEXTS, suffix="-relu6-bug", known_bug=RELU6)
    for engine, mapping, equal in (("x86", get_default_qconfig_mapping("x86"), "fbgemm"), ("fbgemm", full_range(), "onednn")):
        if serialized(reference(prepared(engine, mapping, trained())).onnx) != files[equal]:
            raise SystemExit(f"{engine}: not the file of {equal}")
    model = trained_prepared()
    ref = trained_reference(model)
    fake_case(root, "pytorch-fx-qat", ref, "digits network, FX graph mode, quantization-aware (fbgemm, version 0), calibrated only, "
              "weights put on their grid (code * scale); TorchScript exporter: reduce_range is a Clip [0,127] on the codes", TEXTS)
    engine_cases(root, "pytorch-fx-qat", ["fbgemm", "x86", "onednn"], model, ref, TEXTS)
    model = prepared("qnnpack", get_default_qconfig_mapping("qnnpack"), PaddedPool())
    ref = reference(model)
    fake_case(root, "pytorch-fx-qnnpack-pool", ref, "average pool 3x3 with pads left out of the count, alone", TEXTS)
    engine_cases(root, "pytorch-fx-qnnpack-pool", [], model, ref, TEXTS, known_bug=POOL)


if __name__ == "__main__":
    main(*sys.argv[1:])
