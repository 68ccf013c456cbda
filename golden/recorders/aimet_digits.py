"""The digits network quantized and exported by AIMET, with AIMET's own fake-quant.

    pip install -r golden/recorders/requirements-aimet.txt
    python golden/recorders/aimet_digits.py golden/toolchains

`outputs.npz` holds, of the session of `sim.model`: `<t>`, the tensor before its quantizer, and `<t>_updated` behind it (only
where the quantizer is on; else both are one tensor); `<w>_qdq`, quantized weights. All but the weights carry the sample axis.
"""

import logging
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
from digits_net import FLOAT, calibration, samples
from qdq_model import provenance, save_npz

COMMAND = "python golden/recorders/aimet_digits.py golden/toolchains"
SAMPLES = 4


def simulation(config, duplicate):
    """The committed float network, batch normalization folded; `duplicate` clones the shared head's initializers."""
    from aimet_onnx import utils
    from aimet_onnx.batch_norm_fold import fold_all_batch_norms_to_weight
    from aimet_onnx.quantsim import QuantizationSimModel

    model = onnx.load(FLOAT / "model.onnx")
    fold_all_batch_norms_to_weight(model)
    if duplicate:
        utils.duplicate_shared_initializers(model.graph)
    sim = QuantizationSimModel(model, config_file=config)
    sim.compute_encodings([{"image": image[None]} for image in calibration()])
    return sim


def fake_quant(sim):
    """Every activation of the simulation, one sample at a time, and every quantized weight."""
    graph = sim.model.model.graph
    off = {name for name, quantizer in sim.qc_quantize_op_dict.items() if not quantizer.enabled}
    weights = {i.name for i in graph.initializer}
    constants = {o for n in graph.node if n.op_type == "Constant" for o in n.output}
    names = [o for n in graph.node if n.op_type != "Constant" for o in n.output
             if not (n.op_type == "QcQuantizeOp" and (n.input[0] in off or n.input[0] in constants))]
    shown = {o.name for o in graph.output}
    graph.output.extend(onnx.helper.make_empty_tensor_value_info(n) for n in names if n not in shown)
    sim._rebuild_session()
    runs = [dict(zip(names, sim.session.run(names, {"image": x[None]}))) for x in samples()[:SAMPLES]]
    of_weight = {o for n in graph.node if n.op_type == "QcQuantizeOp" and n.input[0] in weights for o in n.output}
    return {n: runs[0][n] if n in of_weight else np.concatenate([r[n] for r in runs]) for n in names}


def record(out, name, sim, versions, what, **about):
    """`versions`: file name without its ending -> encoding version."""
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    for i, (stem, version) in enumerate(versions.items()):
        sim.export(str(folder), stem, export_model=i == 0, encoding_version=version)
    save_npz(folder / "inputs.npz", {"image": samples()[:SAMPLES]})
    save_npz(folder / "outputs.npz", fake_quant(sim))
    files = ["model.onnx", "model.data", *(f"{stem}.encodings" for stem in versions), "inputs.npz", "outputs.npz"]
    provenance(folder, files, tools=["aimet-onnx", "onnx", "onnxruntime", "numpy"], cpu_path="onnxruntime, AIMET's CPU quantizer operator",
               command=COMMAND, license_of_the_tool="BSD-3-Clause", what=what, targets=["exact"], **about)


def main(out):
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    record(out, "aimet-default", simulation("default", False), {"model": "1.0.0", "model-0.6.1": "0.6.1"},
           "aimet-onnx, configuration default, shared head called twice: ONNX, encodings 1.0.0 and 0.6.1",
           tells_apart="", undecided="")


main(Path(sys.argv[1]))
