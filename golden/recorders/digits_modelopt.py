"""The digits network quantized by NVIDIA ModelOpt: its ONNX path and its PyTorch path, QDQ ONNX for TensorRT.

    pip install -r golden/recorders/requirements-modelopt.txt    # and the packages that the file names
    python golden/recorders/digits_modelopt.py golden/toolchains [case-name-prefix]

TensorRT needs a GPU and is not recorded: these are the fake-quant values.
"""

import shutil
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from digits_net import FLOAT, calibration, samples, trained
from onnx_run import computed, different, fresh, run
from qdq_model import provenance, save_npz

COMMAND = "python golden/recorders/digits_modelopt.py golden/toolchains"
SAMPLES = 4
IMAGES = samples()[:SAMPLES]
NAMES = {"input_names": ["image"], "output_names": ["fine", "coarse"]}


def folded(path):
    """The float network with batch normalization folded into its convolutions, as PyTorch exports it."""
    torch.onnx.export(trained(), (torch.zeros(1, 1, 8, 8),), path, dynamo=False, opset_version=13, **NAMES)


def write(folder, outputs, what, **about):
    save_npz(folder / "inputs.npz", {"image": IMAGES})
    save_npz(folder / "outputs.npz", outputs)
    about = {"tools": ["nvidia-modelopt", "torch", "onnx", "onnxruntime", "numpy"], "command": COMMAND, "license_of_the_tool": "Apache-2.0",
             "targets": ["exact"], "tells_apart": "", "undecided": "the order of float32 sums", **about}
    provenance(folder, ["model.onnx", "inputs.npz", "outputs.npz"], what=what, **about)


def onnx_path(root, name, source, what):
    from modelopt.onnx.quantization import quantize
    folder = fresh(root, name)
    with tempfile.TemporaryDirectory() as work:
        model = Path(work) / "digits.onnx"
        source(model)
        quantize(str(model), quantize_mode="int8", calibration_data={"image": calibration()}, calibration_method="max",
                 calibration_eps=["cpu"], output_path=str(folder / "model.onnx"), high_precision_dtype="fp32")
    model = onnx.load(folder / "model.onnx")
    write(folder, run(model, IMAGES, computed(model)), what, cpu_path="onnxruntime, ORT_DISABLE_ALL, each operator's own kernel")


def torch_path(root, name, what):
    """The values are those of ModelOpt's own TensorQuantizer modules; a module called twice writes a second pair of nodes."""
    import modelopt.torch.quantization as mtq
    folder = fresh(root, name)
    images = [torch.from_numpy(image[None]) for image in calibration()]
    net = mtq.quantize(trained(), mtq.INT8_DEFAULT_CFG, forward_loop=lambda m: [m(image) for image in images])
    torch.onnx.export(net, (torch.zeros(1, 1, 8, 8),), folder / "model.onnx", dynamo=False, opset_version=17, **NAMES)
    model = onnx.load(folder / "model.onnx")
    constants = {o: onnx.numpy_helper.to_array(n.attribute[0].t) for n in model.graph.node if n.op_type == "Constant" for o in n.output}
    nodes = {n.name: n for n in model.graph.node}
    seen, calls = {}, {}

    def hook(path):
        def take(_module, _inputs, result):
            calls[path] = calls.get(path, -1) + 1
            node = "/" + path.replace(".", "/") + (f"_{calls[path]}" if calls[path] else "") + "/QuantizeLinear"
            if node in nodes and nodes[node].input[0] not in WEIGHTS:
                seen.setdefault(node, []).append(result.numpy())
        return take

    WEIGHTS = {i.name for i in model.graph.initializer} | {o for n in model.graph.node if n.op_type == "Identity" for o in n.output}
    for path, module in net.named_modules():
        if path.endswith("_quantizer"):
            module.register_forward_hook(hook(path))
    ends = []
    with torch.no_grad():
        for image in IMAGES:
            calls.clear()
            ends.append([o.numpy() for o in net(torch.from_numpy(image[None]))])
    outputs = {}
    for name_of, values in seen.items():
        node = nodes[name_of]
        steps = np.concatenate(values).astype(np.float64) / constants[node.input[1]]
        if np.abs(steps - np.rint(steps)).max() > 1e-3 or constants[node.input[2]] != 0:
            raise SystemExit(f"{name_of}: not on its grid")
        outputs[node.output[0]] = np.rint(steps).astype(np.int8)
    outputs |= {o: np.concatenate([e[i] for e in ends]) for i, o in enumerate(NAMES["output_names"])}
    again = run(model, IMAGES, [n for n in outputs])
    apart = {n: different(outputs[n], again[n]) for n in outputs}
    said = "; ".join(f"{n} {a} of {b}" for n, (a, b) in apart.items() if a) or "none"
    write(folder, outputs, what, cpu_path="ModelOpt's TensorQuantizer modules in PyTorch, CPU; codes from their values",
          extra=[f'elements_that_onnxruntime_gives_otherwise = "{said}"'])


CASES = {
    "modelopt-onnx": lambda root, name: onnx_path(
        root, name, folded, "ModelOpt, ONNX path, int8 max calibration, batch normalization folded before: the shared head's weights are cloned; "
        "the convolutions of the residual block stay float: ModelOpt leaves out convolutions of fewer than 16 channels on both sides"),
    "modelopt-onnx-bn": lambda root, name: onnx_path(
        root, name, lambda path: shutil.copy(FLOAT / "model.onnx", path),
        "ModelOpt, ONNX path, int8 max calibration, batch normalization not folded: Q/DQ between the float convolutions of the residual block "
        "and their batch normalization, and on both branches of the addition"),
    "modelopt-torch": lambda root, name: torch_path(
        root, name, "ModelOpt, PyTorch path, INT8_DEFAULT_CFG: batch normalization is not folded, quantizers only on inputs and weights of modules, "
        "one pair for every reader, none at the addition and the concatenation; the shared head has one range for both calls"),
}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    prefix = sys.argv[2] if len(sys.argv) > 2 else ""
    for name, record in CASES.items():
        if name.startswith(prefix):
            record(sys.argv[1], name)
