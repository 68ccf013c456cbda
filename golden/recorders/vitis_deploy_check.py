"""What Vitis AI's deploy check writes, by its documented format, for the power-of-two network that Quark exported.

    pip install onnx==1.23.2 numpy==2.4.6
    python golden/recorders/vitis_deploy_check.py golden/toolchains

Vitis AI is a container without a package, so no run of the tool stands behind these files: `documented`. The network is
quark-xint8 (uint8 with zero point 128 is int8 with zero point 0); activations are rounded half up, as Vitis AI's PyTorch flow
does, by onnx's reference evaluator with another QuantizeLinear. One image.

Layout: deploy_check_data_int/<network>/ with `<tensor>_fix.bin` (int8, row-major), `<tensor>.bin` (float32) and shape.txt, every
character of a name outside [0-9A-Za-z] an underscore; quant_info.json with [[bits, fix_point]] by tensor: value = q * 2^-fix_point.
[source: Xilinx/Vitis-AI vai_q_pytorch nndct_shared/compile/deploy_checker.py, nndct_shared/quantization]
"""

import json
import re
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from qdq_model import provenance

F = np.float32


class QuantizeLinear(OpRun):
    op_domain = ""

    def _run(self, x, scale, zero, **_):
        limits = np.iinfo(zero.dtype)
        codes = np.floor(x.astype(np.float64) / scale + 0.5) + zero
        return (np.clip(codes, limits.min, limits.max).astype(zero.dtype),)


def in_order(graph):
    known = {i.name for i in graph.initializer} | {i.name for i in graph.input} | {""}
    rest, order = list(graph.node), []
    while rest:
        ready = [n for n in rest if all(i in known for i in n.input)]
        known |= {o for n in ready for o in n.output}
        order += ready
        rest = [n for n in rest if n not in ready]
    return order


def main(out):
    model = onnx.load(out / "quark-xint8" / "model.onnx")
    graph = model.graph
    stored = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    nodes = in_order(graph)
    del graph.node[:]
    graph.node.extend(nodes)
    quantizers = [n for n in nodes if n.op_type == "QuantizeLinear"]
    names = [n.output[0] for n in quantizers]
    del graph.output[:]
    graph.output.extend(onnx.helper.make_empty_tensor_value_info(n) for n in names)
    for opset in model.opset_import:  # the evaluator has no older DequantizeLinear; these operators mean the same
        opset.version = 19 if opset.domain == "" else opset.version
    image = np.load(out / "quark-xint8" / "inputs.npz")["image"][:1]
    codes = dict(zip(names, ReferenceEvaluator(model, new_ops=[QuantizeLinear]).run(names, {"image": image})))

    folder = out / "vitis-deploy-check"
    data = folder / "deploy_check_data_int" / "DigitsNet"
    data.mkdir(parents=True, exist_ok=True)
    info = {"param": {}, "output": {}, "input": {}}
    shapes, files = [], []

    def write(kind, name, q, scale):
        position = int(-np.log2(scale))
        if F(2.0) ** -position != scale:
            raise SystemExit(f"{name}: scale {scale} is no power of two")
        info[kind][name] = [[8, position]]
        shapes.append(f"{list(q.shape)}: {name}")
        plain = re.sub(r"[^0-9A-Za-z]", "_", name)
        for suffix, value in (("_fix.bin", q.astype(np.int8)), (".bin", q.astype(F) * F(scale))):
            (data / (plain + suffix)).write_bytes(np.ascontiguousarray(value).tobytes())
            files.append(f"deploy_check_data_int/DigitsNet/{plain}{suffix}")

    for n in nodes:  # weights and biases are stored integers
        if n.op_type == "DequantizeLinear" and n.input[0] in stored:
            write("param", n.input[0].removesuffix("_quantized"), stored[n.input[0]], stored[n.input[1]])
    for n in quantizers:
        zero = stored[n.input[2]].astype(np.int32)
        write("input" if n.input[0] == "image" else "output", n.input[0], codes[n.output[0]].astype(np.int32) - zero, stored[n.input[1]])
    (data / "shape.txt").write_text("\n".join(shapes) + "\n")
    (folder / "quant_info.json").write_text(json.dumps(info, indent=1) + "\n")

    even = np.load(out / "quark-xint8" / "outputs.npz")
    apart = sum(int((codes[n] != even[n][:1]).sum()) for n in names)
    provenance(folder, ["quant_info.json", "deploy_check_data_int/DigitsNet/shape.txt", *files], tools=["onnx", "numpy"],
               cpu_path="onnx reference evaluator, QuantizeLinear rounding half up",
               command="python golden/recorders/vitis_deploy_check.py golden/toolchains", license_of_the_tool="Apache-2.0",
               what="documented, not made by the tool: Vitis AI's deploy check of the network in ../quark-xint8/model.onnx, its first image",
               targets=[], tells_apart=f"Quark's own run of the same network (half even): {apart} of {sum(c.size for c in codes.values())} codes differ",
               undecided="", extra=["documented = true", 'model = "../quark-xint8/model.onnx"', 'deployment = ["vitis-dpu"]'])


main(Path(sys.argv[1]))
