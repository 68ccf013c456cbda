"""The digits network quantized by NNCF: OpenVINO IR and ONNX, with the tool's own fake-quant and OpenVINO's integers.

    pip install -r golden/recorders/requirements-nncf.txt
    python golden/recorders/digits_nncf.py golden/toolchains [case]

Each case runs in a process of its own: the names that OpenVINO gives to folded layers count up in a process.
"""

import collections
import json
import os
import subprocess
import sys

import nncf
import numpy as np
import onnx
import onnx_run
import openvino as ov
from digits_net import FLOAT, calibration, samples, trained
from nncf import AdvancedQuantizationParameters, OverflowFix
from onnx_run import different, fresh, write_kernels
from openvino_run import INTEGERS, fake_quant, integers, layers, onnx_integers, run, to_codes
from qdq_model import provenance, save_npz

COMMAND = "python golden/recorders/digits_nncf.py golden/toolchains"
SAMPLES = 4
IMAGES = samples()[:SAMPLES]
# Left out to keep the files small: values in front of a bias or of the quantizer behind an activation.
UNRECORDED = ("Convolution", "GroupConvolution", "Relu", "Clamp")
# The quantizer between a fused convolution and its addition.
INNER, BEHIND = "/res2/bn/BatchNormalization/fq_output_0", "/add_relu/Relu/fq_output_0"


def options(preset, fix=OverflowFix.ENABLE):
    """Without VNNI, pairs of products of uint8 activations and int8 weights saturate at 16 bits. NNCF's remedy, weights of 7
    bits, is for the first layer only unless it is enabled."""
    return {"preset": preset, "subset_size": len(calibration()), "advanced_parameters": AdvancedQuantizationParameters(overflow_fix=fix)}


# Of the engines' recordings.
MEANS = "float layers differ within the noise floor of float32 sums: the means fine and coarse"


def ir(folder, options):
    """NNCF's OpenVINO backend on the float ONNX; batch normalization is folded by OpenVINO's conversion."""
    model = ov.convert_model(FLOAT / "model.onnx")
    data = nncf.Dataset(list(calibration()), lambda image: image[None])
    model = nncf.quantize(model, data, **options)
    ov.save_model(model, folder / "model.xml", compress_to_fp16=False)


def record_ir(root, name, options, what, targets=("openvino-cpu",)):
    folder = fresh(root, name)
    ir(folder, options)
    path = folder / "model.xml"
    names = [n for n, op in layers(path).items() if op.get_type_name() not in UNRECORDED]
    floats = fake_quant(path, IMAGES, names)
    save_npz(folder / "inputs.npz", {"image": IMAGES})
    save_npz(folder / "outputs.npz", floats)
    provenance(folder, ["model.xml", "model.bin", "inputs.npz", "outputs.npz"], tools=["nncf", "openvino", "onnx", "numpy"],
               cpu_path="OpenVINO CPU plugin, every layer in float32 (LP_TRANSFORMS_MODE NO, INFERENCE_PRECISION_HINT f32): no primitive on integers",
               command=COMMAND, license_of_the_tool="Apache-2.0", what=what, targets=["exact"],
               tells_apart="", undecided="the order of float32 sums", extra=['model = "model.xml"'])
    record_ir_engine(root, name, path, floats, list(targets))


def record_ir_engine(root, name, path, floats, targets):
    folder = fresh(root, name + "-engine")
    outputs, kernels, disturbed = integers(path, IMAGES, [INNER])
    save_npz(folder / "outputs.npz", outputs)
    write_kernels(folder, kernels)
    found = layers(path)
    codes = {n: v for n, v in outputs.items() if v.dtype.kind in "iu"}
    # As outputs, the inner quantizer's codes are rounded, and the addition sees them.
    rounded, _ = run(path, IMAGES, [INNER, BEHIND], INTEGERS)
    clip = different(to_codes(found[BEHIND], rounded[BEHIND], codes[BEHIND].dtype), codes[BEHIND])
    apart = {n: different(to_codes(found[n], floats[n], v.dtype), v) for n, v in codes.items()}
    said = "; ".join(f"{n} {a} of {b}" for n, (a, b) in apart.items() if a)
    provenance(folder, ["outputs.npz", "kernels.json"], tools=["openvino", "numpy"],
               cpu_path=summary(kernels),
               command=COMMAND, license_of_the_tool="Apache-2.0",
               what=f"{name} on OpenVINO's CPU plugin, INFERENCE_PRECISION_HINT f32: codes of the quantizers by layer name (the lowest "
                    f"value has the lowest code of the plugin's type), each exposed alone; the model's outputs in float32; kernels.json: "
                    f"what was fused. {INNER} is not recorded: fused in front of the addition it clips and does not round",
               targets=targets, undecided=MEANS if targets else "",
               tells_apart=f"the quantizer in front of the addition rounded: {clip[0]} of {clip[1]} codes of {BEHIND} differ",
               extra=[f'model = "../{name}/model.xml"', f'inputs = "../{name}/inputs.npz"',
                      f'exposing_changes_what_follows = {disturbed!r}'.replace("'", '"'),
                      f'codes_that_fake_quant_has_otherwise = "{said}"'])


def summary(kernels):
    return ", ".join(f"{kind} {n}" for kind, n in collections.Counter(f"{k['type']} {k['kernel']} -> {k['precision']}" for k in kernels).items())


def record_onnx(root, name, options, what):
    """NNCF's ONNX backend; its values are ONNX Runtime's, which it calibrates with."""
    folder = fresh(root, name)
    data = nncf.Dataset(list(calibration()), lambda image: {"image": image[None]})
    model = nncf.quantize(onnx.load(FLOAT / "model.onnx"), data, **options)
    onnx.save(model, folder / "model.onnx")
    floats = onnx_run.run(model, IMAGES, onnx_run.computed(model))
    save_npz(folder / "inputs.npz", {"image": IMAGES})
    save_npz(folder / "outputs.npz", floats)
    provenance(folder, ["model.onnx", "inputs.npz", "outputs.npz"], tools=["nncf", "onnxruntime", "onnx", "numpy"],
               cpu_path="onnxruntime, ORT_DISABLE_ALL, each operator's own kernel", command=COMMAND, license_of_the_tool="Apache-2.0",
               what=what, targets=["exact"], tells_apart="", undecided="the order of float32 sums")
    record_onnx_engine(root, name, model, folder / "model.onnx", floats)


def record_onnx_engine(root, name, model, path, floats):
    folder = fresh(root, name + "-engine")
    outputs, kernels, disturbed = onnx_integers(model, path, IMAGES, [ONNX_INNER])
    save_npz(folder / "outputs.npz", outputs)
    write_kernels(folder, kernels)
    apart = {n: different(floats[n], v) for n, v in outputs.items()}
    said = "; ".join(f"{n} {a} of {b}" for n, (a, b) in apart.items() if a)
    provenance(folder, ["outputs.npz", "kernels.json"], tools=["openvino", "onnx", "numpy"],
               cpu_path=summary(kernels),
               command=COMMAND, license_of_the_tool="Apache-2.0",
               what=f"{name} on OpenVINO's CPU plugin, INFERENCE_PRECISION_HINT f32: codes of the quantizers, each exposed alone; the model's outputs in "
                    f"float32; kernels.json: what was fused. {ONNX_INNER} is not recorded: fused in front of the addition it clips and does not round",
               targets=["openvino-cpu"], undecided=MEANS,
               tells_apart=f"the quantizer in front of the addition rounded: {apart[ONNX_BEHIND][0]} of {apart[ONNX_BEHIND][1]} codes of {ONNX_BEHIND}",
               extra=[f'model = "../{name}/model.onnx"', f'inputs = "../{name}/inputs.npz"',
                      f"exposing_changes_what_follows = {disturbed!r}".replace("'", '"'), f'values_that_fake_quant_has_otherwise = "{said}"'])


def record_torch(root, name, what):
    """NNCF's PyTorch backend, exported without nncf.strip: every quantizer is a FakeQuantize of OpenVINO's domain. The values
    are those of NNCF's own quantizer modules; one that is called twice has two nodes, in the order of the calls.

    Weights have 8 bits here: with OverflowFix the modules use codes -64 to 63, and the exported nodes -63 to 63."""
    os.environ["TORCHDYNAMO_DISABLE"] = "1"  # else NNCF compiles its quantizers, for minutes
    import torch
    from nncf.torch.quantization.layers import BaseQuantizer
    folder = fresh(root, name)
    data = nncf.Dataset([torch.from_numpy(image[None]) for image in calibration()])
    net = nncf.quantize(trained(), data, **options(MIXED, OverflowFix.DISABLE))
    torch.onnx.export(net, (torch.zeros(1, 1, 8, 8),), folder / "model.onnx", dynamo=False, opset_version=17,
                      input_names=["image"], output_names=["fine", "coarse"])
    model = onnx.load(folder / "model.onnx")
    weights = {i.name for i in model.graph.initializer}
    nodes = [n for n in model.graph.node if n.op_type == "FakeQuantize" and n.input[0] not in weights]
    seen = {}
    for path, module in net.named_modules():
        if isinstance(module, BaseQuantizer) and "post_hooks" in path:
            calls = seen.setdefault(path.split("post_hooks.")[-1], [])
            module.register_forward_hook(lambda _m, _i, out, calls=calls: calls.append(out.numpy()))
    with torch.no_grad():
        ends = [net(torch.from_numpy(image[None])) for image in IMAGES]
    outputs = {n: np.concatenate([e[i].numpy() for e in ends]) for i, n in enumerate(["fine", "coarse"])}
    for path, calls in seen.items():
        own = [n for n in nodes if n.name.endswith(f"/{path}/FakeQuantize")]
        if len(calls) != len(own) * len(IMAGES):
            raise SystemExit(f"{path}: {len(calls)} calls, {len(own)} nodes")
        outputs |= {n.output[0]: np.concatenate(calls[i::len(own)]) for i, n in enumerate(own)}
    again = fake_quant(folder / "model.onnx", IMAGES, [n.name for n in nodes])
    apart = {n.output[0]: np.abs(again[n.name] - outputs[n.output[0]]) for n in nodes}
    said = "; ".join(f"{n} {int((d > 1e-3).sum())} of {d.size}" for n, d in apart.items() if (d > 1e-3).any()) or "none"
    save_npz(folder / "inputs.npz", {"image": IMAGES})
    save_npz(folder / "outputs.npz", outputs)
    provenance(folder, ["model.onnx", "inputs.npz", "outputs.npz"], tools=["nncf", "torch", "openvino", "onnx", "numpy"],
               cpu_path="NNCF's quantizer modules in PyTorch, CPU, not compiled", command=COMMAND, license_of_the_tool="Apache-2.0",
               what=what, targets=["exact"], tells_apart="", undecided="the order of float32 sums",
               extra=[f'elements_that_openvino_gives_otherwise_in_float = "{said}"'])


ONNX_INNER, ONNX_BEHIND = "q_output_/res2/bn/BatchNormalization_output_0_1", "q_output_/add_relu/Relu_output_0_1"
WHAT = ("NNCF, OpenVINO backend, preset {}, weights of {}; IR with FakeQuantize nodes, int8 weights, the shared head's weights once; "
        "fake-quant by layer name")
SYMMETRIC, MIXED = nncf.QuantizationPreset.PERFORMANCE, nncf.QuantizationPreset.MIXED
SEVEN, EIGHT = "7 bits (OverflowFix.ENABLE)", "8 bits but in the first layer, the default: pairs of products saturate on CPUs without VNNI"
CASES = {
    "nncf-performance": lambda root, name: record_ir(root, name, options(SYMMETRIC), WHAT.format("PERFORMANCE: all quantizers symmetric", SEVEN)),
    "nncf-mixed": lambda root, name: record_ir(
        root, name, options(MIXED), WHAT.format("MIXED: activations asymmetric where they are signed", SEVEN)),
    "nncf-full-range": lambda root, name: record_ir(root, name, options(MIXED, OverflowFix.FIRST_LAYER), WHAT.format("MIXED", EIGHT), targets=("openvino-cpu-avx2",)),
    "nncf-onnx": lambda root, name: record_onnx(root, name, options(MIXED),
                                                 "NNCF, ONNX backend, preset MIXED, OverflowFix.ENABLE: QDQ ONNX, int8 weights, batch normalization not "
                                                 "folded; one weight for both calls of the shared head"),
    "nncf-torch": lambda root, name: record_torch(root, name, "NNCF, PyTorch backend, preset MIXED, weights of 8 bits: ONNX with FakeQuantize nodes "
                                                  "(org.openvinotoolkit) on float weights and on activations, batch normalization not folded"),
}

if __name__ == "__main__":
    if len(sys.argv) > 2:
        CASES[sys.argv[2]](sys.argv[1], sys.argv[2])
    else:
        for name in CASES:
            subprocess.run([sys.executable, *sys.argv, name], check=True)
