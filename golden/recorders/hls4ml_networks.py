"""Whole networks through hls4ml 1.3.0's compiled C simulation: every layer, with exact and with too narrow accumulators.

    pip install -r golden/recorders/requirements-hls4ml.txt && pip install --no-deps hls4ml==1.3.0
    python golden/recorders/hls4ml_networks.py golden/hls4ml [case-name-prefix]

Needs g++. One folder a case: `model.onnx` is the QONNX file that hls4ml reads (after qonnx's clean-up and its move to
channels last), `inputs.npz`, `outputs.npz` with the value of every layer that hls4ml computes under the name of the
ONNX tensor that it stands for, and `precision.toml` with the type of everything in it.
"""

import contextlib
import io
import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.channels_last import ConvertToChannelsLastAndClean
from qonnx.transformation.gemm_to_matmul import GemmToMatMul
from qonnx.util.cleanup import cleanup_model
from hls4ml_recording import gxx, provenance
from recording import execute

GENERAL = "qonnx.custom_op.general"
F = np.float32
onnxruntime.set_default_logger_severity(3)


class Net:
    """A QONNX graph in NCHW. Scales are powers of two; weights and biases are codes plus fractions, behind Quants."""

    def __init__(self, seed, shape):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.inits, self.shape = [], {}, shape
        self.count = 0

    def const(self, value, name):
        self.inits[name] = np.array(value, F)
        return name

    def node(self, op, inputs, out, domain="", **attrs):
        self.nodes.append(helper.make_node(op, inputs, [out], name=f"{op}_{out}", domain=domain, **attrs))
        return out

    def quant(self, x, bits, frac, signed=1, narrow=0, mode="ROUND", out=None):
        """`bits` wide with `frac` bits behind the point."""
        out = out or f"{x}_q"
        ins = [x, self.const(2.0**-frac, f"{out}_scale"), self.const(0, f"{out}_zero"), self.const(bits, f"{out}_bits")]
        return self.node("Quant", ins, out, GENERAL, signed=signed, narrow=narrow, rounding_mode=mode)

    def values(self, name, shape, bits, frac, fill=1.0):
        half = 2 ** (bits - 1) * fill
        codes = self.rng.integers(-half, half, shape) + self.rng.choice([0.0, 0.5, 0.25, -0.3], shape)
        return self.const(codes * 2.0**-frac, name)

    def weight(self, name, shape, bits, frac, narrow=1, fill=1.0):
        return self.quant(self.values(name, shape, bits, frac, fill), bits, frac, 1, narrow)

    def conv(self, x, out, c_in, c_out, kernel, wbits=8, wfrac=7, bias=(8, 6), fill=1.0, **attrs):
        ins = [x, self.weight(f"{out}_w", (c_out, c_in // attrs.get("group", 1), *kernel), wbits, wfrac, fill=fill)]
        if bias:
            ins.append(self.weight(f"{out}_b", (c_out,), *bias, narrow=0))
        attrs = dict(dilations=[1] * len(kernel), group=1) | attrs
        return self.node("Conv", ins, out, kernel_shape=list(kernel), **attrs)

    def dense(self, x, out, n_in, n_out, wbits=8, wfrac=7, bias=(8, 6), fill=1.0):
        y = self.node("MatMul", [x, self.weight(f"{out}_w", (n_in, n_out), wbits, wfrac, fill=fill)], f"{out}_mm")
        return self.node("Add", [y, self.weight(f"{out}_b", (n_out,), *bias, narrow=0)], out) if bias else y

    def proto(self, out, out_shape):
        graph = helper.make_graph(
            self.nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(out, TensorProto.FLOAT, out_shape)],
            [numpy_helper.from_array(v, k) for k, v in self.inits.items()])
        opsets = [helper.make_opsetid("", 13), helper.make_opsetid(GENERAL, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


# ---------------------------------------------------------------- networks

def conv2d(seed=1):
    n = Net(seed, (1, 2, 6, 6))
    x = n.quant("x", 8, 5)
    x = n.conv(x, "conv", 2, 4, (3, 3), wfrac=6, pads=[1, 1, 1, 1], strides=[1, 1])
    x = n.quant(n.node("Relu", [x], "relu"), 8, 5, signed=0)
    x = n.node("MaxPool", [x], "pool", kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 0, 0])
    x = n.node("Reshape", [x, "flat_shape"], "flat")
    n.inits["flat_shape"] = np.array([1, 36], np.int64)
    return n.proto(n.dense(x, "dense", 36, 5, wfrac=6), (1, 5))


def conv1d(seed=2):
    n = Net(seed, (1, 3, 12))
    x = n.quant("x", 8, 5)
    x = n.conv(x, "conv", 3, 4, (3,), wfrac=6, pads=[0, 0], strides=[2])
    x = n.quant(n.node("Relu", [x], "relu"), 8, 5, signed=0)
    x = n.node("Reshape", [x, "flat_shape"], "flat")
    n.inits["flat_shape"] = np.array([1, 20], np.int64)
    return n.proto(n.dense(x, "dense", 20, 5, wfrac=6), (1, 5))


def mlp(seed=3):
    """The shape of the jet tagging network, weights of our own."""
    n = Net(seed, (1, 16))
    x = n.quant("x", 8, 4)
    x = n.quant(n.node("Relu", [n.dense(x, "dense1", 16, 24)], "relu1"), 8, 4, signed=0)
    x = n.quant(n.node("Relu", [n.dense(x, "dense2", 24, 12)], "relu2"), 8, 3, signed=0)
    return n.proto(n.dense(x, "dense3", 12, 5), (1, 5))


def mlp6(seed=4):
    """6-bit quantizers; a signed one without ReLU, a narrow one, one that rounds to minus infinity, one whose
    integer bits are negative."""
    n = Net(seed, (1, 12))
    six = dict(wbits=6, wfrac=5, bias=(6, 4))
    x = n.quant("x", 6, 3)
    x = n.quant(n.dense(x, "dense1", 12, 10, **six), 6, 3, narrow=1)
    x = n.quant(n.node("Relu", [n.dense(x, "dense2", 10, 8, **six)], "relu2"), 6, 3, signed=0, mode="FLOOR")
    x = n.quant(n.dense(x, "dense3", 8, 8, wbits=6, wfrac=8, bias=(6, 8)), 6, 7)
    return n.proto(n.dense(x, "dense4", 8, 4, wbits=6, wfrac=5, bias=None), (1, 4))


def cnn(seed=5):
    """Pointwise and depthwise convolution, BatchNormalization, a skip connection added, a convolution with strides."""
    n = Net(seed, (1, 3, 6, 6))
    x = n.quant("x", 8, 5)
    a = n.quant(n.node("Relu", [n.conv(x, "point", 3, 4, (1, 1), pads=[0, 0, 0, 0], strides=[1, 1])], "relu1"), 8, 5, signed=0)
    b = n.quant(n.conv(a, "depth", 4, 4, (3, 3), pads=[1, 1, 1, 1], strides=[1, 1], group=4), 8, 4)
    stats = [n.const(v, f"norm_{k}") for k, v in [("scale", n.rng.normal(1, 0.4, 4)), ("bias", n.rng.normal(0, 0.5, 4)),
                                                 ("mean", n.rng.normal(0, 0.3, 4)), ("var", n.rng.uniform(0.5, 2, 4))]]
    b = n.quant(n.node("BatchNormalization", [b, *stats], "norm"), 8, 4)
    x = n.quant(n.node("Relu", [n.node("Add", [a, b], "sum")], "relu2"), 7, 4, signed=0)
    x = n.conv(x, "conv", 4, 3, (2, 3), pads=[0, 1, 1, 0], strides=[2, 2], bias=None)
    return n.proto(n.quant(x, 8, 3), (1, 3, 3, 3))


def mlp_scales(seed=6):
    """Activation scales that are no powers of two: hls4ml divides and multiplies in layers of their own (ApplyAlpha)."""
    n = Net(seed, (1, 8))
    n.inits["scale"] = np.array(0.3, F)
    x = n.quant("x", 8, 4)
    x = n.node("Relu", [n.dense(x, "dense1", 8, 6)], "relu1")
    x = n.node("Quant", [x, "scale", n.const(0, "z"), n.const(6, "bits")], "relu1_q", GENERAL, signed=0, narrow=0,
               rounding_mode="ROUND")
    return n.proto(n.dense(x, "dense2", 6, 4), (1, 4))


# network, samples, bits behind the point of its first quantizer
NETS = {"conv2d": (conv2d, 24, 5), "conv1d": (conv1d, 32, 5), "mlp": (mlp, 48, 4), "mlp-6bit": (mlp6, 64, 3),
        "cnn": (cnn, 16, 5), "mlp-scales": (mlp_scales, 48, 4)}

# Accumulators given to every layer that has one; None leaves hls4ml's own, which is exact.
ACCUMS = {"auto": None, "wrap": "fixed<12,5>", "saturate": "fixed<14,6,RND,SAT>", "fixed16": "fixed<16,6>"}
NARROWER = {"auto": None, "wrap": "fixed<9,3>", "saturate": "fixed<8,3,RND,SAT>", "fixed16": "fixed<16,6>"}

CASES = {f"{net}-{a}": (net, dict(accum=t)) for net in ["conv2d", "conv1d", "mlp"] for a, t in ACCUMS.items()}
CASES |= {f"mlp-6bit-{a}": ("mlp-6bit", dict(accum=t)) for a, t in NARROWER.items()}
# Another order of the sum, which saturation shows: every `reuse`-th term first.
SATURATE = dict(accum="fixed<10,4,RND,SAT>")
CASES |= {
    "conv2d-resource": ("conv2d", dict(SATURATE, strategy="Resource", reuse=6)),
    "conv1d-resource": ("conv1d", dict(SATURATE, strategy="Resource", reuse=3)),
    "mlp-resource": ("mlp", dict(SATURATE, strategy="Resource", reuse=4)),
    "mlp-resource-long": ("mlp", dict(SATURATE, strategy="Resource", reuse=48)),
    "conv2d-pool": ("conv2d", dict(pool="fixed<6,2,RND,WRAP>")),
    "conv2d-stream": ("conv2d", dict(SATURATE, io_type="io_stream")),
    "mlp-modes": ("mlp", dict(accum="fixed<11,4,RND_CONV,SAT_SYM>", result="fixed<9,4,RND_MIN_INF,SAT_ZERO>")),
    "mlp-modes-2": ("mlp", dict(accum="fixed<11,4,TRN_ZERO,SAT_ZERO>", result="fixed<9,4,RND_INF,WRAP>")),
    "cnn-auto": ("cnn", {}),
    "cnn-saturate": ("cnn", SATURATE),
    "mlp-scales-auto": ("mlp-scales", {}),
}


def inputs(shape, samples, frac, seed):
    """Rows on the grid of the first quantizer's ties, rows off every grid (the input's own type truncates them), and
    rows beyond +-32, which the input type fixed<16,6> wraps."""
    rng = np.random.default_rng(seed)
    shape = (samples, *shape[1:])
    ties = rng.integers(-2 ** (frac + 4), 2 ** (frac + 4), shape) * 2.0 ** -(frac + 1)
    x = np.where(rng.random(shape) < 0.75, ties, rng.normal(0, 1.5, shape))
    near = rng.choice([0, 0, 2.0**-12, -(2.0**-12), 2.0**-11, -(2.0**-11)], shape)  # off the input type's grid
    x = np.where(rng.random(shape) < 0.5, ties + near, x)
    x[-4:] = rng.integers(-2**12, 2**12, x[-4:].shape) / 128 + rng.choice([0, 1 / 2048, -1 / 2048], x[-4:].shape)
    x[-1] = rng.choice([31.75, 32.0, -32.0, 40.5, -40.25, 100.125], x[-1].shape)
    return x.astype(F)


# ---------------------------------------------------------------- hls4ml

def type_name(p):
    """fixed<W,I,Q,O,N>, ufixed<...>, int<W>, uint<W>"""
    u = "" if p.signed else "u"
    if not hasattr(p, "rounding_mode"):
        return f"{u}int<{p.width}>"
    mode = lambda m: str(m).removeprefix("AP_")
    return f"{u}fixed<{p.width},{p.integer},{mode(p.rounding_mode)},{mode(p.saturation_mode)},{p.saturation_bits or 0}>"


def convert(proto, accum=None, result=None, strategy="Latency", reuse=1, io_type="io_parallel", pool=None,
            folder=None):
    import hls4ml

    config = hls4ml.utils.config_from_onnx_model(proto, granularity="name", backend="Vitis",
                                                 default_precision="fixed<16,6>")
    config["Model"]["Strategy"] = strategy
    for name, layer in config["LayerName"].items():
        layer["Trace"] = True
        if pool and "Pool" in name:
            layer["Precision"]["accum"] = pool
            continue
        if accum and "accum" in layer.get("Precision", {}):
            layer["Precision"]["accum"] = accum
        if result and "accum" in layer.get("Precision", {}):
            layer["Precision"]["result"] = result
        layer["Strategy"] = strategy
        layer["ReuseFactor"] = reuse
    return hls4ml.converters.convert_from_onnx_model(proto, output_dir=folder, hls_config=config, backend="Vitis",
                                                     io_type=io_type)


def tensor_of(name, proto, computed):
    """The ONNX tensor that a layer's result stands for: hls4ml merges a Quant (and a bias) into the layer in front of
    it, which keeps the name of its own output."""
    nodes = []
    while True:
        users = [n for n in proto.graph.node if name in n.input]
        if len(users) != 1 or users[0].output[0] in computed or users[0].op_type in ("Reshape", "Flatten"):
            return name, nodes
        name = users[0].output[0]
        nodes.append(users[0].name)


def run(proto, x, **options):
    """Every layer's values by ONNX tensor, and the entries of precision.toml."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as log:
        try:
            h = convert(proto, folder=folder, **options)  # trace compiles it
            _, trace = h.trace(np.ascontiguousarray(x.astype(np.float64)))
        except BaseException:
            print(log.getvalue()[-3000:], file=sys.stderr)
            raise
        layers = [l for l in h.get_layers() if l.class_name != "Constant"]
    computed = {o for l in layers for o in l.outputs}
    # padding of streams is a layer of its own; it changes no value, and no ONNX tensor stands for it
    padded = {l.outputs[0]: l.inputs[0] for l in layers if l.class_name.startswith("ZeroPadding")}
    layers = [l for l in layers if l.outputs[0] not in padded]
    known = {t for n in proto.graph.node for t in [*n.input, *n.output]}
    of = {o: tensor_of(o, proto, computed) for o in computed}
    by_output = {n.output[0]: n.name for n in proto.graph.node}
    values, entries = {}, []
    for layer in layers:
        out = layer.outputs[0]
        name, merged = of[out]
        # a layer that hls4ml adds has no ONNX tensor: it keeps hls4ml's name for its output
        nodes = ([by_output[out]] if out in by_output else []) + merged
        # only the types that the layer computes with
        used = {"result"} if layer.class_name in ("Input", "Activation", "Reshape", "Transpose", "Merge") else {"result", "accum", "weight", "bias"}
        if layer.class_name in ("ApplyAlpha", "BatchNormalization"):
            used = {"scale", "bias", "result"}
        types = {k.removesuffix("_t"): type_name(v.precision) for k, v in layer.types.items()}
        e = dict(tensor=name, layer=layer.name, kind=layer.class_name,
                 inputs=[of[i][0] if i in of else i for i in (padded.get(i, i) for i in layer.inputs) if i in of or i in known],
                 nodes=nodes, types={k: v for k, v in types.items() if k in used})
        if layer.class_name == "Input":
            e["inputs"] = []
        if layer.class_name == "Activation":
            e["activation"] = layer.get_attr("activation").lower()
        if "accum" in e["types"] and "Pool" not in layer.class_name:
            e["strategy"], e["reuse_factor"] = str(layer.get_attr("strategy")).lower(), int(layer.get_attr("reuse_factor"))
        if layer.class_name in ("ApplyAlpha", "BatchNormalization"):
            for w in ["scale", "bias"]:
                e[f"{w}_values"] = [float(v) for v in np.ravel(layer.weights[w].data)]
        entries.append(e)
        if layer.name in trace:
            v = np.asarray(trace[layer.name], np.float64).reshape(len(x), *trace[layer.name].shape[1:])
            assert (v.astype(F) == v).all(), layer.name
            values[name] = v.astype(F)
    assert len({e["tensor"] for e in entries}) == len(entries), "two layers of one tensor"
    return values, entries


def precision_toml(entries, options):
    lines = [f'backend = "Vitis"', f'io_type = "{options.get("io_type", "io_parallel")}"', "",
             "# In the order of execution. A table's name is the ONNX tensor that the layer's result stands for; `nodes` are",
             "# the ONNX nodes that hls4ml merged into the layer, `inputs` the tensors that it reads. Types: fixed<width,",
             "# integer bits, quantization, overflow, saturation bits>, unsigned with a u in front."]
    for e in entries:
        lines += ["", f"[layers.{json.dumps(e['tensor'])}]", f"layer = {json.dumps(e['layer'])}", f"kind = {json.dumps(e['kind'])}"]
        for k in ["nodes", "inputs", "activation", "strategy", "reuse_factor", "scale_values", "bias_values"]:
            if k in e:
                lines.append(f"{k} = {json.dumps(e[k])}")
        lines += [f"{k} = {json.dumps(v)}" for k, v in sorted(e["types"].items())]
    return "\n".join(lines) + "\n"


def prepared(net):
    """The file as hls4ml wants it: constants and names cleaned up, convolutions channels last."""
    model = cleanup_model(ModelWrapper(NETS[net][0]()))
    if any(n.op_type == "Conv" for n in model.graph.node):
        model = model.transform(ConvertToChannelsLastAndClean(make_input_channels_last=True)).transform(GemmToMatMul())
        model = cleanup_model(model)
    model.model.producer_name = model.model.producer_version = ""
    return model.model


def reference(proto, x):
    """The QONNX executor, one sample at a time (the graph's batch is 1)."""
    rows = [execute(proto, {"global_in": r[None]}) for r in x]
    return {k: np.concatenate([r[k] for r in rows]) for k in rows[0] if len(rows[0][k].shape) and rows[0][k].shape[0] == 1}


def record(case, folder):
    import hls4ml_check

    net, options = CASES[case]
    proto = prepared(net)
    dims = [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim]
    x = inputs(dims, NETS[net][1], NETS[net][2], seed=len(case) + 7)
    values, entries = run(proto, x, **options)
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    onnx.save(proto, folder / "model.onnx")
    np.savez_compressed(folder / "inputs.npz", global_in=x)
    np.savez_compressed(folder / "outputs.npz", **values)
    (folder / "precision.toml").write_text(precision_toml(entries, options))
    counts = hls4ml_check.compare(folder)
    total = sum(v.size for v in values.values())
    assert counts["rule"] == 0, counts
    try:
        ref = reference(proto, x)
        out = proto.graph.output[0].name
        rows = int((ref[out].reshape(len(x), -1) != values[out].reshape(len(x), -1)).any(1).sum())
        differs = f"{sum(int((ref[k].reshape(values[k].shape) != values[k]).sum()) for k in values if k in ref)} of {total} elements, {rows} of {len(x)} rows of the output"
    except Exception as e:  # qonnx 1.0.0 has no MaxPool in channels_last under every version
        differs = f"not compared, the executor fails: {type(e).__name__}"
    tells = ", ".join(f"{k} {v}" for k, v in counts.items() if k != "rule" and v)
    cannot = ", ".join(k for k, v in counts.items() if k != "rule" and not v) or "none of those counted"
    print(f"{case}: {total} elements; rule {counts['rule']}; {tells}; undecided: {cannot}; from qonnx: {differs}", flush=True)
    provenance(folder, ["hls4ml", "qonnx", "onnx", "numpy"], dict(
        cpu_path=f"C simulation of the Vitis backend: {gxx()}, Xilinx ap_types headers and hls4ml nnet_utils of the wheel",
        command="python golden/recorders/hls4ml_networks.py golden/hls4ml",
        license_of_the_tool="Apache-2.0",
        what=f"{net} network, {', '.join(f'{k} {v}' for k, v in options.items() if v) or 'precision as hls4ml infers it'}",
        targets=["hls4ml"],
        tells_apart=f"differing elements of {total}: {tells}",
        undecided=cannot,
        from_the_qonnx_executor=differs,
    ))


def main(folder, prefix=""):
    for case in CASES:
        if case.startswith(prefix):
            record(case, folder / case)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
