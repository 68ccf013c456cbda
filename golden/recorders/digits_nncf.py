"""The digits network quantized by NNCF: OpenVINO IR and ONNX, with the tool's own fake-quant and OpenVINO's integers.

    pip install -r golden/recorders/requirements-nncf.txt
    python golden/recorders/digits_nncf.py golden/toolchains [case-name-prefix]
"""

import shutil
import sys
from pathlib import Path

import nncf
import openvino as ov
from digits_net import FLOAT, calibration, samples
from openvino_run import CORE, fake_quant, layers
from qdq_model import provenance, save_npz

COMMAND = "python golden/recorders/digits_nncf.py golden/toolchains"
SAMPLES = 4
WHAT = "NNCF, OpenVINO backend, preset {}; IR with FakeQuantize nodes, int8 weights, the shared head's weights once; fake-quant by layer name"
IMAGES = samples()[:SAMPLES]
# Left out to keep the files small: values in front of a bias or of the quantizer behind an activation.
UNRECORDED = ("Convolution", "GroupConvolution", "Relu", "Clamp")


def ir(folder, preset):
    """NNCF's OpenVINO backend on the float ONNX; batch normalization is folded by OpenVINO's conversion."""
    model = ov.convert_model(FLOAT / "model.onnx")
    data = nncf.Dataset(list(calibration()), lambda image: image[None])
    model = nncf.quantize(model, data, preset=preset, subset_size=len(calibration()))
    ov.save_model(model, folder / "model.xml", compress_to_fp16=False)
    return ["model.xml", "model.bin"]


def record_ir(root, name, preset, what):
    folder = Path(root) / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files = ir(folder, preset)
    save_npz(folder / "inputs.npz", {"image": IMAGES})
    names = [n for n, op in layers(CORE.read_model(folder / "model.xml")).items() if op.get_type_name() not in UNRECORDED]
    save_npz(folder / "outputs.npz", fake_quant(folder / "model.xml", IMAGES, names))
    provenance(folder, [*files, "inputs.npz", "outputs.npz"], tools=["nncf", "openvino", "onnx", "numpy"],
               cpu_path="OpenVINO CPU plugin, every layer in float32 (LP_TRANSFORMS_MODE NO, INFERENCE_PRECISION_HINT f32): no primitive on integers",
               command=COMMAND, license_of_the_tool="Apache-2.0", what=what, targets=["exact"], tells_apart="", undecided="")


CASES = {
    "nncf-performance": lambda root, name: record_ir(root, name, nncf.QuantizationPreset.PERFORMANCE,
                                                      WHAT.format("PERFORMANCE: all quantizers symmetric")),
    "nncf-mixed": lambda root, name: record_ir(root, name, nncf.QuantizationPreset.MIXED,
                                                WHAT.format("MIXED: activations asymmetric where they are signed")),
}

if __name__ == "__main__":
    prefix = sys.argv[2] if len(sys.argv) > 2 else ""
    for name, record in CASES.items():
        if name.startswith(prefix):
            record(sys.argv[1], name)
