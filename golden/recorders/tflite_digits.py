"""The digits network as TensorFlow's tools write it: post-training int8 and int16x8, and quantization-aware training.

    pip install -r golden/recorders/requirements-tflite.txt
    python golden/recorders/tflite_digits.py golden/toolchains [tflite-ptq ...]

Writes one folder a group of resolver modes that agree (tflite-<variant>[-ref|-opt|-xnn]), and for quantization-aware
training `tflite-qat`: the fake-quant model's values under the names of the .tflite's tensors. Post-training
quantization has no fake-quant model: only float layers and the integer file.
"""

import json
import os
import sys
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras as keras
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from digits_data import calibration, digits, samples, weights
from folder import LICENSE, write
from tf_keras import layers as L
from tflite_recording import record

COMMAND = "python golden/recorders/tflite_digits.py golden/toolchains"
TOOLS = ("tensorflow-cpu", "tf-keras", "tensorflow-model-optimization", "scikit-learn", "ai-edge-litert", "numpy")
KINDS = {"tflite-ptq": ("int8", "post-training int8"),
         "tflite-int16x8": ("int16", "post-training, int16 activations and int8 weights"),
         "tflite-qat": ("qat", "quantization-aware training, 126 steps")}
EPOCHS, STEPS, BATCH = 3, 42, 32


def convbn(x, name, channels, kernel=3, act=None, depthwise=False):
    """`act`: 0 is ReLU, 6 is ReLU6."""
    conv = L.DepthwiseConv2D(kernel, padding="same", use_bias=False, name=f"{name}_conv") if depthwise else \
        L.Conv2D(channels, kernel, padding="same", use_bias=False, name=f"{name}_conv")
    x = L.BatchNormalization(epsilon=1e-5, name=f"{name}_bn")(conv(x))
    return x if act is None else L.ReLU(act if act > 0 else None, name=f"{name}_relu")(x)


def network(batch=None, swapped=False):
    """The network of digits_net.py, channels last. `swapped`: the concatenation's inputs in the other order."""
    image = keras.Input((8, 8, 1), batch_size=batch, name="image")
    x = convbn(image, "stem", 8, act=0)
    y = convbn(convbn(x, "res1", 8, act=0), "res2", 8)
    x = L.ReLU(name="add_relu")(L.Add(name="add")([y, x]))
    large = convbn(convbn(x, "depthwise", 8, act=6, depthwise=True), "pointwise", 16, 1, act=0)
    down = convbn(L.AveragePooling2D(2, name="average")(large), "down", 8, act=0)
    parts = [down, L.MaxPooling2D(2, name="side")(x)]
    small = L.Concatenate(name="concat")(parts[::-1] if swapped else parts)
    head = L.Conv2D(10, 3, padding="same", name="head")
    fine, coarse = head(large), head(small)
    return keras.Model(image, [L.GlobalAveragePooling2D(name="mean")(fine), L.GlobalAveragePooling2D(name="mean2")(coarse)])


def loaded(model):
    """PyTorch's parameters: convolutions OIHW -> HWIO, depthwise O1HW -> HWO1."""
    w = weights()
    for layer in model.layers:
        block = layer.name.rsplit("_", 1)[0]
        if layer.name == "head":
            layer.set_weights([w["head.weight"].transpose(2, 3, 1, 0), w["head.bias"]])
        elif isinstance(layer, L.DepthwiseConv2D):
            layer.set_weights([w[f"{block}.conv.weight"].transpose(2, 3, 0, 1)])
        elif isinstance(layer, L.Conv2D):
            layer.set_weights([w[f"{block}.conv.weight"].transpose(2, 3, 1, 0)])
        elif isinstance(layer, L.BatchNormalization):
            layer.set_weights([w[f"{block}.bn.{k}"] for k in ("weight", "bias", "running_mean", "running_var")])
    return model


def channels_last(x):
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def accuracy(model):
    """Of the two outputs, on the test images."""
    _, _, xb, yb = digits()
    return [float((o.numpy().argmax(1) == yb).mean()) for o in model(channels_last(xb), training=False)]


def finetuned(model):
    """A few steps of training with the fake quantizers in place, in a fixed order of images."""
    xa, ya, _, _ = digits()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), [loss, loss])
    n = STEPS * BATCH
    model.fit(channels_last(xa[:n]), [ya[:n], ya[:n]], BATCH, EPOCHS, shuffle=False, verbose=0)
    return model


def convert(model, kind):
    c = tf.lite.TFLiteConverter.from_keras_model(model)
    c.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind != "qat":
        x = channels_last(calibration())
        c.representative_dataset = lambda: ([x[k:k + 1]] for k in range(len(x)))
    if kind == "int8":
        c.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    if kind == "int16":
        c.target_spec.supported_ops = [tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8]
    c.inference_input_type = c.inference_output_type = tf.int16 if kind == "int16" else tf.int8
    return c.convert()


def intermediates(model, x):
    """Every layer's output, once a call: the k-th use of a shared layer is node k."""
    nodes = [(layer.name, k, layer.get_output_at(k)) for layer in model.layers for k in range(len(layer.inbound_nodes))]
    values = keras.Model(model.input, [t for _, _, t in nodes])(x, training=False)
    return [(name, k, v.numpy()) for (name, k, _), v in zip(nodes, values)]


def operators(flat):
    """The file's operators and tensors, as LiteRT lists them."""
    it = Interpreter(model_content=flat, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    return it._get_ops_details(), {d["index"]: d for d in it.get_tensor_details()}


def grid(tensor):
    """(scale, zero point, lowest real, highest real) of a tensor with one scale."""
    (s,), (z,) = tensor["quantization_parameters"]["scales"], tensor["quantization_parameters"]["zero_points"]
    lim = np.iinfo(tensor["dtype"])
    return float(s), int(z), (lim.min - int(z)) * float(s), (lim.max - int(z)) * float(s)


def seen(flat, ranges):
    """What the file shows of this tool's placement, with its numbers. `ranges`: (min, max) of float tensors, for post-training quantization."""
    ops, tensors = operators(flat)
    named = lambda kind: [o for o in ops if o["op_name"] == kind]
    show = lambda t: "[{2:.4f}, {3:.4f}], zero point {1}".format(*grid(tensors[t]))
    text = []
    (add,) = named("ADD")
    if ranges:
        lone = next(t for t in add["inputs"] if sum(t in o["inputs"] for o in ops) == 1)
        text.append("the ADD operand that only feeds the ADD: float range on the calibration images [{:.4f}, {:.4f}], written {}; the sum's float range [{:.4f}, {:.4f}]"
                    .format(*ranges["res2_bn"], show(lone), *ranges["add"]))
    relu = [o for o in ops if o["op_name"] in ("CONV_2D", "DEPTHWISE_CONV_2D", "ADD") and "elu" in tensors[o["outputs"][0]]["name"]]
    lowest = np.iinfo(tensors[add["outputs"][0]]["dtype"]).min
    if tensors[add["outputs"][0]]["dtype"] == np.int8:
        above = [grid(tensors[o["outputs"][0]])[1] for o in relu]
        text.append(f"{sum(z > lowest for z in above)} of {len(above)} ReLU outputs have a zero point above the lowest code: {above}")
    (concat,) = named("CONCATENATION")
    members = [*concat["inputs"], *concat["outputs"]]
    shared = len({grid(tensors[t])[:2] for t in members}) == 1
    text.append(f"concat inputs and output {'share one scale' if shared else 'have scales of their own'}: {[round(grid(tensors[t])[0], 6) for t in members]}")
    if not ranges:
        first = tensors[concat["inputs"][0]]["name"]
        text.append(f"concat's first input is {first}: quantize_model exchanged the inputs (the float network with them exchanged: coarse accuracy {accuracy(loaded(network(swapped=True)))[1]:.3f})"
                    if "side" in first else f"concat's first input is {first}")
    text.append("QUANTIZE operators: " + (", ".join(f"{show(o['inputs'][0])} to {show(o['outputs'][0])}" for o in named("QUANTIZE")) or "none"))
    heads = [o for o in named("CONV_2D") if tensors[o["outputs"][0]]["shape"][-1] == 10]
    weights_of, biases, outs = ({int(o[k][j]) for o in heads} for k, j in (("inputs", 1), ("inputs", 2), ("outputs", 0)))
    text.append(f"shared head: {len(heads)} uses, {len(weights_of)} weight buffer, {len(biases)} biases, outputs " + " and ".join(show(t) for t in sorted(outs)))
    scales = lambda t: tensors[t]["quantization_parameters"]["scales"].astype(np.float64)
    ratios = {o["index"]: float(np.median(scales(o["inputs"][0]) * scales(o["inputs"][1]) / scales(o["inputs"][2])))
              for o in ops if o["op_name"] in ("CONV_2D", "DEPTHWISE_CONV_2D")}
    wrong = [f"operator {k}: sx*sw is {r:.4f} of it" for k, r in ratios.items() if abs(r - 1) > 1e-6]
    text.append("biases whose scale is not sx*sw: " + (", ".join(wrong) + " (the kernels never read the scale: that use adds another bias)" if wrong else "none"))
    return "seen = " + json.dumps(". ".join(text))


def float_ranges(model):
    """Each layer's smallest and largest output on the calibration images."""
    return {name: (float(v.min()), float(v.max())) for name, _, v in intermediates(model, channels_last(calibration()))}


def fake_quant(folder, engine, values, flat, codes, what):
    """The fake-quant model's values under the names of the file's tensors: those on the tensor's grid, by layer name and shape."""
    _, tensors = operators(flat)
    out, off = {}, {}
    for key in codes:
        index, name = key.split(":", 1)
        s, z, low, high = grid(tensors[int(index)])
        real = (codes[key].astype(np.float64) - z) * s
        best = None
        for layer, _, v in values:
            on_grid = v.shape == real.shape and np.abs(v / s - np.rint(v / s)).max() < 1e-3 and v.min() > low - s / 2 and v.max() < high + s / 2
            if on_grid and f"{layer}/" in name + "/" and (best is None or np.abs(v - real).mean() < np.abs(best - real).mean()):
                best = v
        if best is not None:
            out[key] = best.astype(np.float32)
            off[key] = int((np.rint(best / s) + z != codes[key]).sum())
    text = (f"{len(out)} of {len(codes)} tensors of the file have a fake-quant counterpart; {sum(off.values())} of {sum(v.size for v in out.values())} codes differ from "
            "LiteRT's reference kernels run from the image (fake-quant weights are quantized before batch normalization, the file's behind it)")
    write(folder, TOOLS, COMMAND, "Apache-2.0", f"{what}: the fake-quant model", [], outputs=out, cpu_path="TensorFlow eager, float32; fake quantizers of tfmot",
          notes={"model": f"../{engine}/model.tflite", "inputs": f"../{engine}/inputs.npz", "seen": text})
    print(folder.name, text, [k for k in codes if k not in out])


def main():
    root, wanted = Path(sys.argv[1]), sys.argv[2:]
    x = channels_last(samples())
    for name, (kind, what) in KINDS.items():
        if wanted and name not in wanted:
            continue
        keras.backend.clear_session()
        keras.utils.set_random_seed(7)
        tf.config.experimental.enable_op_determinism()
        model = loaded(network())
        if kind == "qat":
            model = finetuned(tfmot.quantization.keras.quantize_model(model))
            fixed = tfmot.quantization.keras.quantize_model(network(1))
        else:
            fixed = network(1)
        fixed.set_weights(model.get_weights())
        fine, coarse = accuracy(model)
        flat = convert(fixed, kind)
        d = tf.lite.Interpreter(model_content=flat).get_input_details()[0]
        (s, z), lim = d["quantization"], np.iinfo(d["dtype"])
        feeds = {d["name"]: np.clip(np.rint(x / np.float32(s)) + z, lim.min, lim.max).astype(d["dtype"])}
        extra = dict(target="tflite-int16x8") if kind == "int16" else {}
        what = f"the digits network, {what}; test accuracy of the float or fake-quant model {fine:.3f}, {coarse:.3f}; {len(x)} samples"
        note = seen(flat, None if kind == "qat" else float_ranges(model))
        results = record(root, name, flat, feeds, what, COMMAND, tools=TOOLS, license=LICENSE, notes=[note], **extra)
        if kind == "qat":
            fake_quant(root / name, f"{name}-ref", intermediates(model, x), flat, results["ref"][0], what)
        sizes = {k: sum(int((results[k][0][t] != v).sum()) for t, v in results["ref"][0].items()) for k in ("opt", "xnn")}
        print(name, len(flat), fine, coarse, results["xnn"][1]["ops"], sizes, sum(v.size for v in results["ref"][0].values()))


if __name__ == "__main__":
    main()
