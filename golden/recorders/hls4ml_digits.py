"""The digits network through Brevitas and hls4ml's C simulation, and a QKeras-style file through the same.

    pip install -r golden/recorders/requirements-torch-toolchains.txt
    pip install --no-deps -r golden/recorders/requirements-hls4ml-digits.txt
    python golden/recorders/hls4ml_digits.py golden/toolchains [case-name-prefix]

Needs g++ and some minutes. hls4ml 1.3.0 reads neither Clip nor the average pools, and qonnx 1.0.0 keeps those and Concat channels first,
which hls4ml refuses: the network is cut behind its pointwise convolution, ReLU stands for ReLU6, and the second call of the
shared head reads a max pool. QKeras has no exporter to QONNX that runs with qonnx 1.0.0 (its converters were removed), so
that file is written here from its documented formulas.
"""

import logging
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from brevitas.export import export_qonnx
from brevitas_digits import POWER, QuantNet, calibrated, exported, plain
from digits_net import digits, samples
from hls4ml_check import compare
from hls4ml_networks import Net, precision_toml, run
from hls4ml_recording import gxx
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.channels_last import ConvertToChannelsLastAndClean
from qonnx.transformation.gemm_to_matmul import GemmToMatMul
from qonnx.util.cleanup import cleanup_model
from recording import execute
from sklearn.neural_network import MLPClassifier
from toolchain import record

TOOLS = ["hls4ml", "qonnx", "onnx", "numpy"]
COMMAND = "python golden/recorders/hls4ml_digits.py golden/toolchains"


class Cut(QuantNet):
    """What hls4ml can read: residual, depthwise, and a head of two calls with their own ranges."""

    def forward(self, image):
        x = self.stem_relu(self.stem(self.image(image)))
        y = self.res2(self.res1_relu(self.res1(x)))
        x = self.sum_relu(plain(self.addend(y)) + plain(self.addend(x)))
        large = self.pointwise_relu(self.pointwise(self.depthwise_quant(self.relu6(plain(self.depthwise(x))))))
        small = self.joined(self.side(plain(large)))
        return plain(self.fine_quant(self.head(large))), plain(self.coarse_quant(self.head(small)))


def brevitas():
    return exported(calibrated(POWER, Cut(POWER, clipped=False)), export_qonnx), samples().transpose(0, 2, 3, 1)


# ---------------------------------------------------------------- QKeras by its formulas

def quantized_bits(net, x, bits, integer, symmetric=1, keep_negative=1, out=None):
    """QKeras 0.9.0, quantizers.py, quantized_bits with alpha=1: m = 2^(bits - keep_negative); q = clip(round(x*m/2^integer),
    keep_negative*(-m + symmetric), m - 1) * 2^integer / m, round to even."""
    return net.quant(x, bits, bits - keep_negative - integer, signed=keep_negative, narrow=symmetric, out=out)


def quantized_relu(net, x, bits, integer):
    """QKeras 0.9.0, quantized_relu without slope: q = 2^integer * clip(round(x*2^bits/2^integer)/2^bits, 0, 1 - 2^-bits)."""
    return net.quant(net.node("Relu", [x], x + "_relu"), bits, bits - integer, signed=0)


def qkeras():
    """QDense(16, kernel quantized_bits(6,1,1,alpha=1), bias quantized_bits(8,2,1)), QActivation(quantized_relu(6,4)), QDense(10)."""
    xa, ya, _, _ = digits()
    mlp = MLPClassifier((16,), max_iter=200, random_state=0, alpha=1e-2).fit(xa.reshape(len(xa), -1), ya)
    net = Net(0, (1, 64))

    def dense(x, name, weight, bias):
        w = quantized_bits(net, net.const(weight, name + "_kernel"), 6, 1)
        b = quantized_bits(net, net.const(bias, name + "_bias"), 8, 2)
        return net.node("Add", [net.node("MatMul", [x, w], name + "_mm"), b], name)

    x = quantized_bits(net, "x", 8, 1, symmetric=0, out="image")
    x = quantized_relu(net, dense(x, "dense1", mlp.coefs_[0], mlp.intercepts_[0]), 6, 4)
    return net.proto(quantized_bits(net, dense(x, "dense2", mlp.coefs_[1], mlp.intercepts_[1]), 8, 6, symmetric=0, out="logits"), (1, 10)), samples().reshape(-1, 64)


# ---------------------------------------------------------------- cases

def cleaned(file):
    model = cleanup_model(ModelWrapper(file))
    if any(n.op_type == "Conv" for n in model.graph.node):
        model = cleanup_model(model.transform(ConvertToChannelsLastAndClean(make_input_channels_last=True)).transform(GemmToMatMul()))
    model.model.producer_name = model.model.producer_version = ""
    return model.model


def by_executor(file, x):
    rows = [execute(file, {"global_in": r[None]}) for r in x]
    return {k: np.concatenate([r[k] for r in rows]) for k in rows[0] if len(rows[0][k].shape) and rows[0][k].shape[0] == 1}


CASES = {"hls4ml-brevitas": (brevitas, {}, "digits network, cut behind its pointwise convolution (no ReLU6, no average pool, no Concat: hls4ml does not read them), "
                             "Brevitas QONNX with power-of-two scales"),
         "hls4ml-brevitas-wrap": (brevitas, dict(accum="fixed<16,8>"), "as hls4ml-brevitas, every accumulator fixed<16,8>, which wraps"),
         "hls4ml-qkeras": (qkeras, {}, "documented, not exported: QKeras-style QONNX of a small network, trained on the digits"),
         "hls4ml-qkeras-wrap": (qkeras, dict(accum="fixed<12,5>"), "as hls4ml-qkeras, every accumulator fixed<12,5>, which wraps")}


def main(root, prefix=""):
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    onnxruntime.set_default_logger_severity(3)
    torch.set_num_threads(1)
    for name, (make, options, what) in CASES.items():
        if not name.startswith(prefix):
            continue
        file, x = make()
        file = cleaned(file)
        values, entries = run(file, x, **options)
        files = {"model.onnx": file.SerializeToString(deterministic=True), "inputs.npz": {"global_in": x}, "outputs.npz": values,
                 "precision.toml": precision_toml(entries, options).encode()}
        fields = {"cpu_path": f"C simulation of the Vitis backend: {gxx()}, Xilinx ap_types headers and hls4ml nnet_utils of the wheel", "command": COMMAND,
                  "license_of_the_tool": "Apache-2.0", "what": f"{what}; precision {', '.join(f'{k} {v}' for k, v in options.items()) or 'as hls4ml infers it'}"}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            record(path, tools=TOOLS, files=files, fields={})
            counts = compare(path)
        if counts.pop("rule"):
            raise SystemExit(f"{name}: not what hls4ml_check computes")
        try:
            fake = by_executor(file, x)
            same = [k for k in values if k in fake]
            finds = [f"the qonnx executor on the same file: {sum(int((fake[k].reshape(values[k].shape) != values[k]).sum()) for k in same)} of "
                     f"{sum(values[k].size for k in same)} elements differ from the C simulation"]
        except Exception as error:
            finds = [f"not compared with the qonnx executor, which fails on channels-last nodes: {type(error).__name__}"]
        record(Path(root) / name, tools=TOOLS, files=files, fields=fields | {
            "targets": ["hls4ml"], "tells_apart": f"differing elements of {sum(v.size for v in values.values())}: " +
            (", ".join(f"{k} {v}" for k, v in counts.items() if v) or "none"), "undecided": ", ".join(k for k, v in counts.items() if not v), "finds": finds})


if __name__ == "__main__":
    main(*sys.argv[1:])
