"""Shared by the recorders of OpenVINO models: run one with its quantizers in float, or as the CPU plugin fuses it.

Tensors are named by their layer: every FakeQuantize of an IR has an output without a name.
"""

import numpy as np
import openvino as ov

CORE = ov.Core()
FLOAT_ONLY = {"LP_TRANSFORMS_MODE": "NO", "INFERENCE_PRECISION_HINT": "f32"}
INTEGERS = {"INFERENCE_PRECISION_HINT": "f32"}
NOT_LAYERS = ("Constant", "Convert", "Multiply", "Parameter", "Result")  # the first three make the weights
NOT_COMPUTED = ("Input", "Output", "Const")
EXPOSED = "_original"  # the plugin's name of a quantizer whose output became a model output, too


def layers(path):
    """Layers by name, in execution order, weights left out."""
    return {op.get_friendly_name(): op for op in CORE.read_model(path).get_ordered_ops() if op.get_type_name() not in NOT_LAYERS}


def runtime(compiled, known, suffix=EXPOSED):
    """What was executed, in execution order: type, kernel (its primitive), the file's layers in it, type of its output. What
    the plugin made itself (transposes, reshaped biases, dequantizations) has no layer of the file."""
    found = []
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        kind, primitive, fused, out = (info[k].astype(str) if k in info else "" for k in
                                       ("layerType", "primitiveType", "originalLayersNames", "outputPrecisions"))
        nodes = dict.fromkeys(name.removesuffix(suffix) for name in fused.split(","))
        nodes = [name for name in nodes if name in known]
        if kind not in NOT_COMPUTED and nodes:
            found.append({"type": kind, "kernel": primitive, "nodes": nodes, "output": nodes[-1], "precision": out.split(",")[0]})
    return found


def run(path, images, exposed, config):
    """(layer name -> values of every sample, what was executed). The layers in front of the model's outputs are always
    there; one sample a run."""
    model = CORE.read_model(path)
    own = [o.get_node().input_value(0).get_node().get_friendly_name() for o in model.outputs]
    exposed = [name for name in exposed if name not in own]
    found = {op.get_friendly_name(): op for op in model.get_ordered_ops()}
    model.add_outputs([found[name].output(0) for name in exposed])
    compiled = CORE.compile_model(model, "CPU", config)
    names = own + exposed
    runs = [list(compiled({0: image[None]}).values()) for image in images]
    values = {name: np.concatenate([np.array(r[i]) for r in runs]) for i, name in enumerate(names)}
    return values, runtime(compiled, set(layers(path)))


def fake_quant(path, images, names):
    """Values of layers in float32, quantizers as they stand in the file."""
    values, executed = run(path, images, names, FLOAT_ONLY)
    integers = [k["output"] for k in executed if k["kernel"].upper().endswith("_I8")]
    if integers:
        raise SystemExit(f"{path}: ran on integers: {integers}")
    return values


def levels(op):
    """(lowest value, step) of a FakeQuantize of 256 levels whose output range is its input range; per channel or not."""
    low, high, out_low, out_high = (op.input_value(i).get_node().data for i in range(1, 5))
    if op.get_attributes()["levels"] != 256 or not (np.array_equal(low, out_low) and np.array_equal(high, out_high)):
        raise SystemExit(f"{op.get_friendly_name()}: not a plain quantizer of 8 bits")
    return low.astype(np.float64), (high.astype(np.float64) - low) / 255


def to_codes(op, values, dtype):
    """Codes of a quantizer's output; the lowest value has the lowest code of `dtype`."""
    low, step = levels(op)
    exact = (values - low) / step
    steps = np.rint(exact)
    if np.abs(exact - steps).max() > 1e-3:
        raise SystemExit(f"{op.get_friendly_name()}: not on its grid")
    return (steps + np.iinfo(dtype).min).astype(dtype)


def integers(path, images, inner):
    """(codes of every quantizer but `inner`, floats of the model's outputs, the kernels of the model as it stands).

    Each quantizer is exposed alone. That must not move it out of the kernel that it was fused into; what is behind it may
    change, and is therefore taken from the model as it stands."""
    results, kernels = run(path, images, [], INTEGERS)
    found = layers(path)
    fused = {name: k for k in kernels for name in k["nodes"]}
    outputs, disturbed = {}, []
    for name, op in found.items():
        if op.get_type_name() != "FakeQuantize" or name in inner:
            continue
        values, executed = run(path, images, [name], INTEGERS)
        where = [k for k in executed if name in k["nodes"]][0]
        own = fused[name]
        if (where["kernel"], where["nodes"], where["precision"]) != (own["kernel"], own["nodes"], own["precision"]):
            raise SystemExit(f"{name}: exposing it changes {own} to {where}")
        if any(not np.array_equal(values[o], results[o]) for o in results):
            disturbed.append(name)
        outputs[name] = to_codes(op, values[name], np.dtype({"u8": "uint8", "i8": "int8"}[own["precision"]]))
    return outputs | results, kernels, disturbed


def onnx_integers(model, path, images, inner):
    """`integers` of a QDQ ONNX, by the file's names: each QuantizeLinear of an activation is exposed alone, as an integer output."""
    makers = {o: n for n in model.graph.node for o in n.output}
    known = {n.name for n in model.graph.node}

    def execute(exposed):
        net = CORE.read_model(path)
        net.add_outputs(exposed)
        compiled = CORE.compile_model(net, "CPU", INTEGERS)
        names = [o.name for o in model.graph.output] + exposed
        runs = [list(compiled({0: image[None]}).values()) for image in images]
        values = {name: np.concatenate([np.array(r[i]) for r in runs]) for i, name in enumerate(names)}
        return values, [with_convolution(k) for k in runtime(compiled, known, "/WithoutBiases")]

    def with_convolution(kernel):
        # A convolution loses its name to the multiplication that folds the batch normalization behind it.
        first = next(n for n in model.graph.node if n.name == kernel["nodes"][0])
        if kernel["type"] == "Convolution" and first.op_type == "BatchNormalization":
            kernel["nodes"].insert(0, makers[first.input[0]].name)
        last = next(n for n in model.graph.node if n.name == kernel["nodes"][-1])
        return kernel | {"output": last.output[0]}

    results, kernels = execute([])
    where = {k["output"]: k for k in kernels}
    outputs, disturbed = {}, []
    for node in model.graph.node:
        name = node.output[0]
        if node.op_type != "QuantizeLinear" or name in inner:
            continue
        values, executed = execute([name])
        now = [k for k in executed if node.name in k["nodes"]][0]
        if (now["kernel"], now["nodes"]) != (where[name]["kernel"], where[name]["nodes"]):
            raise SystemExit(f"{name}: exposing it changes {where[name]} to {now}")
        if any(not np.array_equal(values[o], results[o]) for o in results):
            disturbed.append(name)
        outputs[name] = values[name]
    return outputs | results, kernels, disturbed
