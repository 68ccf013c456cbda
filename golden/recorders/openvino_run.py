"""Shared by the recorders of OpenVINO IR: run a model with its quantizers in float, or as the CPU plugin fuses it.

Tensors are named by their layer's name: the names of outputs do not survive NNCF and every FakeQuantize has none.
"""

import numpy as np
import openvino as ov

CORE = ov.Core()
FLOAT_ONLY = {"LP_TRANSFORMS_MODE": "NO", "INFERENCE_PRECISION_HINT": "f32"}
INTEGERS = {"INFERENCE_PRECISION_HINT": "f32"}
CONSTANTS = ("Constant", "Convert", "Multiply")  # the weights' subgraphs
NOT_COMPUTED = ("Input", "Output", "Const")


def layers(model):
    """Layers by name, in execution order, weights left out."""
    skip = (*CONSTANTS, "Parameter", "Result")
    return {op.get_friendly_name(): op for op in model.get_ordered_ops() if op.get_type_name() not in skip}


def runtime(compiled):
    """What was executed, in execution order: (type, primitive, fused layers, output precisions, the node's own name)."""
    found = []
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        kind, primitive, fused, out = (info[k].astype(str) if k in info else "" for k in
                                       ("layerType", "primitiveType", "originalLayersNames", "outputPrecisions"))
        if kind not in NOT_COMPUTED:
            found.append((kind, primitive, [name for name in fused.split(",") if name], out, node.get_friendly_name()))
    return found


def run(path, images, exposed, config):
    """(layer name -> values of every sample, what was executed). Model outputs are always there; one sample a run."""
    model = CORE.read_model(path)
    own = [o.get_node().input_value(0).get_node().get_friendly_name() for o in model.outputs]
    exposed = [name for name in exposed if name not in own]
    found = layers(model)
    model.add_outputs([found[name].output(0) for name in exposed])
    compiled = CORE.compile_model(model, "CPU", config)
    names = own + exposed
    runs = [list(compiled({0: image[None]}).values()) for image in images]
    return {name: np.concatenate([np.array(r[i]) for r in runs]) for i, name in enumerate(names)}, runtime(compiled)


def fake_quant(path, images, names=None):
    """Every layer's values in float32, quantizers as they stand in the file."""
    names = list(layers(CORE.read_model(path))) if names is None else names
    values, executed = run(path, images, names, FLOAT_ONLY)
    integers = [(kind, primitive) for kind, primitive, _, _, _ in executed if primitive.upper().endswith("_I8")
                and kind not in ("Convert",)]
    if any(kind in ("Convolution", "FullyConnected", "MatMul", "Pooling", "Reduce", "Eltwise") for kind, _ in integers):
        raise SystemExit(f"{path}: ran on integers: {integers}")
    return values
