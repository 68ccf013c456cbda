"""Small networks trained on the digits of scikit-learn (seconds), converted to int8 and int16x8 .tflite and recorded in
the three resolver modes with every intermediate tensor.

usage: python golden/recorders/tflite_nets.py golden/tflite [net ...]
"""

import os
import sys
import tempfile

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras as keras
from sklearn.datasets import load_digits
from tf_keras import layers as L
from tflite_recording import record

COMMAND = "python golden/recorders/tflite_nets.py golden/tflite"
TOOLS = ("tensorflow-cpu", "tf-keras", "tensorflow-model-optimization", "scikit-learn", "ai-edge-litert", "numpy")
LICENSE = "Apache-2.0 OR MIT: model and inputs made by this project's script (trained on the digits data set of scikit-learn)"


def data():
    d = load_digits()
    return (d.images[..., None] / 16).astype(np.float32), d.target


def strokes(n):
    """Input images drawn here: random walks of a soft pen on 8x8 pixels."""
    rng = np.random.default_rng(3)
    out = np.zeros((n, 8, 8, 1), np.float32)
    yy, xx = np.mgrid[:8, :8]
    for k in range(n):
        p = rng.uniform(2, 5, 2)
        for _ in range(14):
            p = np.clip(p + rng.normal(0, 1, 2), 0, 7)
            out[k, ..., 0] += np.exp(-((yy - p[0]) ** 2 + (xx - p[1]) ** 2))
    return np.minimum(out, 1)


def residual():
    i = keras.Input((8, 8, 1), batch_size=1)
    a = L.ReLU()(L.Conv2D(8, 3, padding="same")(i))
    b = L.DepthwiseConv2D(3, padding="same")(a)
    b = L.ReLU(6.0)(b)
    b = L.Conv2D(8, 1)(b)
    s = L.Add()([a, b])
    c = L.ReLU()(L.Conv2D(4, 3, padding="same")(s))
    x = L.Concatenate()([s, c])
    x = L.AveragePooling2D(2)(x)
    x = L.Flatten()(x)
    return keras.Model(i, L.Softmax()(L.Dense(10)(x)))


def mobile():
    swish = lambda t: t * tf.nn.relu6(t + 3.0) * (1 / 6)
    i = keras.Input((8, 8, 1), batch_size=1)
    x = L.Lambda(swish)(L.BatchNormalization()(L.Conv2D(12, 3, strides=2, padding="same")(i)))
    y = L.Lambda(swish)(L.BatchNormalization()(L.DepthwiseConv2D(3, padding="same")(x)))
    g = L.GlobalAveragePooling2D(keepdims=True)(y)
    g = L.Conv2D(12, 1, activation="sigmoid")(L.Conv2D(4, 1, activation="relu")(g))
    y = L.Conv2D(12, 1)(L.Multiply()([y, g]))
    x = L.Add()([x, y])
    x = L.GlobalAveragePooling2D()(L.Lambda(swish)(L.Conv2D(24, 1)(x)))
    return keras.Model(i, L.Softmax()(L.Dense(10)(x)))


def decoder():
    i = keras.Input((8, 8, 1), batch_size=1)
    x = L.LeakyReLU(0.2)(L.Conv2D(6, 3, strides=2, padding="same")(i))
    u = L.LeakyReLU(0.1)(L.Conv2DTranspose(5, 3, strides=2, padding="same")(x))
    n = L.UpSampling2D(2, interpolation="nearest")(x)
    b = L.UpSampling2D(2, interpolation="bilinear")(x)
    x = L.Concatenate()([u, n, b])
    x = L.Activation("tanh")(L.Conv2D(6, 3, padding="valid")(x))
    x = L.Lambda(lambda t: tf.reduce_mean(t, [1, 2]))(x)
    return keras.Model(i, L.Softmax()(L.Dense(10)(x)))


def train(m, x, y, epochs):
    m.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    m.optimizer.learning_rate = 0.01
    m.fit(x, y, 32, epochs, verbose=0)
    return m


def free_batch(build):
    """The same network without a fixed batch, for training."""
    fixed = keras.Input
    keras.Input = lambda shape, batch_size=None: fixed(shape)
    try:
        return build()
    finally:
        keras.Input = fixed


def convert(m, fixed, x, kind):
    fixed.set_weights(m.get_weights())
    c = tf.lite.TFLiteConverter.from_keras_model(fixed)
    c.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind != "qat":
        c.representative_dataset = lambda: ([x[k:k + 1]] for k in range(200))
    if kind == "int8":
        c.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    if kind == "int16":
        c.target_spec.supported_ops = [tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8]
        c.inference_input_type = c.inference_output_type = tf.int16
    else:
        c.inference_input_type = c.inference_output_type = tf.int8
    return c.convert()


NETS = {"net-residual-ptq": (residual, "int8", "conv, depthwise, residual add, concat, average pool, dense, softmax; post-training int8"),
        "net-residual-qat": (residual, "qat", "conv, depthwise, residual add, concat, average pool, dense, softmax; quantization-aware training, int8"),
        "net-mobile-ptq": (mobile, "int8", "MobileNet-like: hard-swish, squeeze-excite with sigmoid and MUL, MEAN; post-training int8"),
        "net-decoder-ptq": (decoder, "int8", "leaky ReLU, transpose conv, nearest and bilinear resize, tanh, MEAN; post-training int8"),
        "net-residual-int16": (residual, "int16", "conv, depthwise, residual add, concat, average pool, dense, softmax; int16 activations, int8 weights")}


def main():
    root, wanted = sys.argv[1], sys.argv[2:]
    x, y = data()
    for name, (build, kind, what) in NETS.items():
        if wanted and name not in wanted:
            continue
        keras.backend.clear_session()
        keras.utils.set_random_seed(7)
        tf.config.experimental.enable_op_determinism()
        if kind == "qat":
            m, fixed = (tfmot.quantization.keras.quantize_model(k) for k in (free_batch(build), build()))
        else:
            m, fixed = free_batch(build), build()
        train(m, x[:1400], y[:1400], 6)
        accuracy = m.evaluate(x[1400:], y[1400:], verbose=0)[1]
        flat = convert(m, fixed, x, kind)
        it = tf.lite.Interpreter(model_content=flat)
        d = it.get_input_details()[0]
        s, z = d["quantization"]
        lim = np.iinfo(d["dtype"])
        feeds = {d["name"]: np.clip(np.rint(strokes(6) / s) + z, lim.min, lim.max).astype(d["dtype"])}
        extra = dict(target="tflite-int16x8") if kind == "int16" else {}
        r = record(root, name, flat, feeds, what + f"; float test accuracy {accuracy:.2f}; 6 samples", COMMAND, tools=TOOLS, license=LICENSE, **extra)
        print(name, len(flat), "accuracy", round(accuracy, 3), r["xnn"][1]["ops"], "delegated", len(r["xnn"][1]["delegated"]),
              {k: sum(int((r[k][0][t] != r["ref"][0][t]).sum()) for t in r["ref"][0]) for k in ("opt", "xnn")}, sum(v.size for v in r["ref"][0].values()))


if __name__ == "__main__":
    main()
