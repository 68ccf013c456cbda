"""Records how ONNX Runtime resamples one axis; prints cases.txt. Needs onnx and onnxruntime.

Made with onnx 1.23.2 and onnxruntime 1.32.0, graph optimizations off, CPU.
Line: op opset mode coordinates nearest_mode from (scale|size) number : outputs for the input 0, 1, 4, 9, ...
"""
import numpy as np
import onnxruntime as ort
from onnx import TensorProto as T
from onnx import helper as h


def run(op, opset, attrs, x, scale, size):
    names, tensors = ["x"], []
    if op == "Resize" and opset >= 11:
        names += ["roi", "none"] if opset < 13 else ["", ""]
        tensors += [h.make_tensor(n, T.FLOAT, [0], []) for n in ("roi", "none")]
    if scale is not None:
        tensors.append(h.make_tensor("scales", T.FLOAT, [4], [1, 1, 1, scale]))
        names = names[:2] + ["scales"] if len(names) > 1 else names + ["scales"]
    else:
        tensors.append(h.make_tensor("sizes", T.INT64, [4], [1, 1, 1, size]))
        names.append("sizes")
    info = h.make_tensor_value_info
    graph = h.make_graph([h.make_node(op, names, ["y"], **attrs)], "g",
                         [info("x", T.FLOAT, x.shape)], [info("y", T.FLOAT, None)], tensors)
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", opset)], ir_version=7)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0].ravel()


def record(op, opset, mode, coordinates, nearest, extent, scale=None, size=None):
    attrs = {"mode": mode}
    if coordinates != "-":
        attrs["coordinate_transformation_mode"] = coordinates
    if nearest != "-":
        attrs["nearest_mode"] = nearest
    x = (np.arange(extent, dtype=np.float32) ** 2).reshape(1, 1, 1, extent)
    y = run(op, opset, attrs, x, scale, size)
    how = f"scale {scale}" if scale is not None else f"size {size}"
    print(op, opset, mode, coordinates, nearest, extent, how, ":", *(f"{v:.9g}" for v in y))


SIZES = [(7, 2), (7, 4), (13, 14), (5, 3), (3, 11), (10, 6), (17, 5), (4, 1), (1, 3)]
SCALES = [(7, 1.1), (17, 0.3), (17, 1.3), (10, 2.6), (5, 0.6), (7, 3.3)]
for opset, coordinates in [(11, "tf_half_pixel_for_nn"), (13, "half_pixel"), (13, "pytorch_half_pixel"),
                           (13, "asymmetric"), (13, "align_corners"), (19, "half_pixel_symmetric")]:
    kinds = [("nearest", n) for n in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")]
    if coordinates != "tf_half_pixel_for_nn":
        kinds.append(("linear", "-"))
    for mode, nearest in kinds:
        for extent, size in SIZES:
            record("Resize", opset, mode, coordinates, nearest, extent, size=size)
        for extent, scale in SCALES:
            record("Resize", opset, mode, coordinates, nearest, extent, scale=scale)
for op, opset in [("Resize", 10), ("Upsample", 9)]:
    for mode in ("nearest", "linear"):
        for extent, scale in SCALES:
            if op == "Resize" or scale >= 1:
                record(op, opset, mode, "-", "-", extent, scale=scale)
