"""The digits network quantized by ONNX Runtime's static quantizer: node by node, and as the optimizer fuses it.

    pip install -r golden/recorders/requirements-ort-digits.txt
    python golden/recorders/digits_ort.py golden/toolchains [case-name-prefix]
"""

import collections
import logging
import sys
import tempfile
from pathlib import Path

import onnx
from digits_net import FLOAT, calibration, samples
from onnx_run import computed, different, engine, fresh, run, write_kernels
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from qdq_model import provenance, save_npz

COMMAND = "python golden/recorders/digits_ort.py golden/toolchains"
SAMPLES = 4
IMAGES = samples()[:SAMPLES]
# Without VNNI, pairs of products of uint8 activations and int8 weights saturate at 16 bits: 7 bits of weight avoid that.
SEVEN = {"reduce_range": True}
U8, S8, U16 = QuantType.QUInt8, QuantType.QInt8, QuantType.QUInt16


class Reader(CalibrationDataReader):
    def __init__(self):
        self.images = iter(calibration())

    def get_next(self):
        image = next(self.images, None)
        return None if image is None else {"image": image[None]}


def quantized(folder, **options):
    """The float network through the tool's own preparation (which folds batch normalization) and its quantizer."""
    with tempfile.TemporaryDirectory() as work:
        prepared = str(Path(work) / "prepared.onnx")
        quant_pre_process(str(FLOAT / "model.onnx"), prepared)
        quantize_static(prepared, str(folder / "model.onnx"), Reader(), **options)
    return onnx.load(folder / "model.onnx")


def about(what, **more):
    return {"tools": ["onnxruntime", "onnx", "numpy"], "command": COMMAND, "license_of_the_tool": "MIT", "what": what,
            "undecided": "", **more}


def record(root, name, what, targets=("exact",), engine_targets=("onnxruntime",), **options):
    folder = fresh(root, name)
    model = quantized(folder, **options)
    names = computed(model)
    values = run(model, IMAGES, names)
    save_npz(folder / "inputs.npz", {"image": IMAGES})
    save_npz(folder / "outputs.npz", values)
    provenance(folder, ["model.onnx", "inputs.npz", "outputs.npz"], **about(
        f"{what}; run node by node (ORT_DISABLE_ALL)", cpu_path="each operator's own kernel, ORT_DISABLE_ALL",
        targets=list(targets), tells_apart=""))
    record_engine(root, name, what, model, values, engine_targets)


def record_engine(root, name, what, model, node_by_node, targets):
    folder = fresh(root, name + "-engine")
    values, kernels, layouts = engine(model, IMAGES)
    write_kernels(folder, kernels)
    save_npz(folder / "outputs.npz", values)
    count = collections.Counter(k["kernel"] for k in kernels)
    apart = {n: different(v, node_by_node[n]) for n, v in values.items() if n in node_by_node}
    said = "; ".join(f"{n} {a} of {b}" for n, (a, b) in apart.items() if a) or "none"
    layouts = ", ".join(f"{n} {a} of {b}" for n, (a, b) in layouts.items())
    missing = [n for n in node_by_node if n not in values]
    provenance(folder, ["outputs.npz", "kernels.json"], **about(
        f"{what}; optimized (ORT_ENABLE_EXTENDED): every tensor that is left, int8 tensors that run as "
        "uint8 brought back; kernels.json: what was fused",
        cpu_path=", ".join(f"{k} {n}" for k, n in count.items()), targets=list(targets),
        undecided=UNDECIDED.get(name, ""), tells_apart=f"against node by node: {said}",
        extra=[*([] if targets else ['intended = ["onnxruntime"]']), f'model = "../{name}/model.onnx"', f'inputs = "../{name}/inputs.npz"',
               f'outputs_that_differ_with_all_optimizations = "{layouts}"',
               "no_longer_there = [" + ", ".join(f'"{n}"' for n in missing) + "]"]))


UNDECIDED = {
    "ort-qdq-s8": "under onnxruntime 23 of 1,024 codes of the average pool differ, which the engine computes in float32: ties of float sums",
    "ort-qdq-u16": "under onnxruntime 11 of 16,000 codes of convolutions and 21 of 1,024 of the average pool differ, which the engine computes in float32: ties of float sums",
}
# The engine leaves layers float that the target's simulator still takes for fused.
FLOAT_LAYERS = {"engine_targets": ()}
QDQ, QOPERATOR = QuantFormat.QDQ, QuantFormat.QOperator
CASES = {
    "ort-qdq-u8": ("ONNX Runtime's static quantizer: QDQ, uint8 activations, int8 weights per channel of 7 bits", {},
                   dict(quant_format=QDQ, activation_type=U8, weight_type=S8, per_channel=True, **SEVEN)),
    "ort-qdq-s8": ("ONNX Runtime's static quantizer: QDQ, int8 symmetric activations, int8 weights per channel of 7 bits", FLOAT_LAYERS,
                   dict(quant_format=QDQ, activation_type=S8, weight_type=S8, per_channel=True, **SEVEN, extra_options={"ActivationSymmetric": True})),
    "ort-qoperator-u8": ("ONNX Runtime's static quantizer: QOperator, uint8 activations, int8 weights per channel of 7 bits", {"targets": ["onnxruntime"]},
                         dict(quant_format=QOPERATOR, activation_type=U8, weight_type=S8, per_channel=True, **SEVEN)),
    "ort-qdq-u16": ("ONNX Runtime's static quantizer: QDQ, uint16 activations, int8 weights per channel", FLOAT_LAYERS,
                    dict(quant_format=QDQ, activation_type=U16, weight_type=S8, per_channel=True)),
}

if __name__ == "__main__":
    logging.disable(logging.WARNING)
    prefix = sys.argv[2] if len(sys.argv) > 2 else ""
    for name, (what, more, options) in CASES.items():
        if name.startswith(prefix):
            record(sys.argv[1], name, what, **more, **options)
