"""hls4ml's C simulation in exact integers, from a recording's files alone: model.onnx, precision.toml, inputs.npz.

    python golden/recorders/hls4ml_check.py golden/hls4ml/mlp-wrap ...

Every layer reads the values that this program computed for the layers before it, so one wrong bit shows everywhere
after it. Neighbouring rules are counted layer by layer: each reads the recorded inputs. Sources (hls4ml 1.3.0 wheel,
`templates/`): vivado/nnet_utils/nnet_dense_latency.h, nnet_dense_resource.h, nnet_activation.h, nnet_batchnorm.h,
nnet_merge.h, nnet_depthwise_product.h; vitis/nnet_utils/nnet_conv2d_latency.h, nnet_conv2d_resource.h, nnet_pooling.h.
"""

import sys
import tomllib
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

import hls4ml_fixed as fx

RULE = dict(order="own", product="cast", bias="first", q=None, o=None)
NEIGHBOURS = {
    "product not cast before it is added": dict(product="whole"),
    "cast after the whole sum": dict(product="end"),
    "bias added last": dict(bias="last"),
    "sum in the opposite order": dict(order="reverse"),
    "sum in the order channel, row, column": dict(order="channels first"),
    "sum in the order of the latency strategy": dict(order="latency"),
    "accumulator truncates": dict(q="TRN"),
    "accumulator rounds half up": dict(q="RND"),
    "accumulator wraps": dict(o="WRAP"),
    "accumulator saturates": dict(o="SAT"),
}


class Model:
    def __init__(self, folder):
        proto = onnx.load(folder / "model.onnx")
        self.layers = tomllib.loads((folder / "precision.toml").read_text())["layers"]
        self.nodes = {n.name: n for n in proto.graph.node}
        self.writes = {n.output[0]: n for n in proto.graph.node}
        self.const = {i.name: numpy_helper.to_array(i) for i in proto.graph.initializer}

    def value(self, name, t):
        """A constant, behind a Quant or not, as codes of type t: the layer's type is the Quant's."""
        node = self.writes.get(name)
        return fx.from_float(self.const[node.input[0] if node else name], t).astype(np.int64)

    def attributes(self, node):
        return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def order_of(layer, k, shape, rule):
    """In which order the products of one output are added; `shape` is (rows, columns, channels) of the window."""
    r = layer.get("reuse_factor", 1)
    natural = np.arange(k)
    own = natural
    if layer.get("strategy") == "resource" and r < k:
        own = np.concatenate([natural[i::r] for i in range(r)])  # every r-th, r times
    return {"own": own, "latency": natural, "reverse": own[::-1],
            "channels first": natural.reshape(-1, shape[-1]).T.ravel()}[rule["order"]]


def accumulate(x, xt, w, wt, b, bt, layer, window, rule):
    """x: [..., k] codes, w: [k, n] or, for depthwise, [..., k, n] already multiplied; returns result codes."""
    acc_t = fx.parse(layer["accum"])
    acc_t = acc_t._replace(q=rule["q"] or acc_t.q, o=rule["o"] or acc_t.o)
    frac = xt.frac + wt.frac
    products = x[..., None] * w  # [..., k, n]; exact, width and integer bits add
    bias = fx.cast(b, bt.frac, acc_t)
    terms = fx.cast(products, frac, acc_t)
    wide = max(frac, acc_t.frac)
    acc = np.broadcast_to(bias, products.shape[:-2] + bias.shape)
    if rule["bias"] == "last":
        acc = np.zeros_like(acc)
    if rule["product"] == "end":
        total = products.sum(-2) * 2 ** (wide - frac) + (bias << (wide - acc_t.frac))
        acc = fx.cast(total, wide, acc_t)
    else:
        for i in order_of(layer, x.shape[-1], window, rule):
            if rule["product"] == "cast":
                acc = fx.cast(acc + terms[..., i, :], acc_t.frac, acc_t)
            else:
                acc = fx.cast((acc << wide - acc_t.frac) + (products[..., i, :] << wide - frac), wide, acc_t)
    if rule["bias"] == "last":
        acc = fx.cast(acc + bias, acc_t.frac, acc_t)
    return fx.cast(acc, acc_t.frac, fx.parse(layer["result"]))


def windows(x, kernel, strides, pads, dilations):
    """[batch, rows, columns, channels] -> [batch, out rows, out columns, kernel rows, kernel columns, channels]; the
    border is zero."""
    x = np.pad(x, [(0, 0), (pads[0], pads[2]), (pads[1], pads[3]), (0, 0)])
    out = [(x.shape[i + 1] - dilations[i] * (kernel[i] - 1) - 1) // strides[i] + 1 for i in (0, 1)]
    return np.stack([np.stack([
        x[:, r * dilations[0]:r * dilations[0] + strides[0] * (out[0] - 1) + 1:strides[0],
          c * dilations[1]:c * dilations[1] + strides[1] * (out[1] - 1) + 1:strides[1]]
        for c in range(kernel[1])], 3) for r in range(kernel[0])], 3)


def layer_output(model, layer, ins, types, rule=RULE):
    """Codes of one layer; `ins` are the codes of its inputs."""
    kind = layer["kind"]
    result = fx.parse(layer["result"])
    x, xt = ins[0], types[0]
    node = model.nodes[layer["nodes"][0]] if layer["nodes"] else None
    if kind == "Activation":
        y = fx.cast(x, xt.frac, result)
        return np.where(x > 0, y, 0) if layer["activation"] == "relu" else y
    if kind == "Reshape":
        return x.reshape(len(x), -1)
    if kind == "Transpose":
        return x.transpose(model.attributes(node)["perm"])
    if kind == "Merge":
        assert node.op_type == "Add"
        wide = max(t.frac for t in types)
        return fx.cast(sum(v << (wide - t.frac) for v, t in zip(ins, types)), wide, result)
    if kind in ("ApplyAlpha", "BatchNormalization"):
        st, bt = fx.parse(layer["scale"]), fx.parse(layer["bias"])
        s = fx.from_float(layer["scale_values"], st).astype(np.int64)
        b = fx.from_float(layer["bias_values"], bt).astype(np.int64)
        wide = max(xt.frac + st.frac, bt.frac)
        return fx.cast((x * s << wide - xt.frac - st.frac) + (b << wide - bt.frac), wide, result)
    if kind.startswith("Pooling"):
        a = model.attributes(node)
        assert node.op_type == "MaxPool" and not any(a["pads"])
        y = windows(x, a["kernel_shape"], a["strides"], a["pads"], [1, 1]).max((3, 4))
        acc_t = fx.parse(layer["accum"])  # the maximum is returned as the accumulator's type
        return fx.cast(fx.cast(y, xt.frac, acc_t), acc_t.frac, result)
    wt, bt = fx.parse(layer["weight"]), fx.parse(layer["bias"])
    w = model.value(node.input[1], wt)
    add = [model.nodes[n] for n in layer["nodes"][1:] if model.nodes[n].op_type == "Add"]
    bias = node.input[2] if len(node.input) > 2 else [i for i in add[0].input if i != node.output[0]][0] if add else None
    if kind == "Dense":
        b = model.value(bias, bt) if bias else np.zeros(w.shape[1], np.int64)
        return accumulate(x, xt, w, wt, b, bt, layer, (1, 1, x.shape[-1]), rule)
    a = model.attributes(node)  # convolution; weights are [filter, rows, columns, channels]
    b = model.value(bias, bt) if bias else np.zeros(w.shape[0], np.int64)
    flat = w.ndim == 3
    pads = a["pads"]
    if flat:
        x, w = x[:, None], w[:, None]
        k, s, d, p = (1, *a["kernel_shape"]), (1, *a["strides"]), (1, *a["dilations"]), (0, pads[0], 0, pads[1])
    else:
        k, s, d, p = a["kernel_shape"], a["strides"], a["dilations"], pads
    win = windows(x, k, s, p, d)  # order of a sum: row, column, channel
    if a["group"] == 1:
        flatw = w.reshape(len(w), -1).T
        y = accumulate(win.reshape(*win.shape[:3], -1), xt, flatw, wt, b, bt, layer, win.shape[3:], rule)
    else:
        assert a["group"] == w.shape[0] == x.shape[-1]
        one = dict(layer)
        y = np.concatenate([accumulate(win[..., c].reshape(*win.shape[:3], -1), xt, w[c].reshape(-1, 1), wt, b[c:c + 1], bt,
                                       one, (*win.shape[3:5], 1), rule) for c in range(len(w))], -1)
    return y[:, 0] if flat else y


def codes_of(values, t):
    return np.rint(values.astype(np.float64) * 2.0 ** t.frac).astype(np.int64)


def compare(folder):
    """Differing elements of the rule (each layer on this program's own inputs) and of its neighbours (on recorded ones)."""
    folder = Path(folder)
    model = Model(folder)
    want = dict(np.load(folder / "outputs.npz"))
    x = np.load(folder / "inputs.npz")
    codes, types, counts, seen = {}, {}, {"rule": 0}, set()
    for name, layer in model.layers.items():
        types[name] = fx.parse(layer["result"])
        if layer["kind"] == "Input":
            codes[name] = fx.from_float(x[name], types[name]).astype(np.int64)
            rounded = fx.from_float(x[name], types[name]._replace(q="RND")).astype(np.int64)
            saturated = fx.from_float(x[name], types[name]._replace(o="SAT")).astype(np.int64)
            firsts = {"input rounds half up": rounded, "input saturates": saturated,
                      "input read as it is": None}
            continue
        ins = [codes[i] for i in layer["inputs"]]
        its = [types[i] for i in layer["inputs"]]
        y = layer_output(model, layer, ins, its)
        codes[name] = y
        if name not in want:
            continue
        seen.add(name)
        target = codes_of(want[name], types[name])
        counts["rule"] += int((y.reshape(target.shape) != target).sum())
        if layer["inputs"] == list(model.layers)[:1]:
            for k, v in firsts.items():
                if v is None:
                    z = fx.from_float(x[layer["inputs"][0]], types[name]).astype(np.int64)
                    z = np.where(z > 0, z, 0) if layer.get("activation") == "relu" else z
                else:
                    z = layer_output(model, layer, [v], its)
                counts[k] = counts.get(k, 0) + int((z.reshape(target.shape) != target).sum())
        if "strategy" in layer:
            given = [codes_of(want[i], types[i]).reshape(codes[i].shape) if i in want else codes[i] for i in layer["inputs"]]
            acc_t = fx.parse(layer["accum"])
            for k, change in NEIGHBOURS.items():
                if change.get("q") == acc_t.q or change.get("o") == acc_t.o:
                    continue  # the rule itself
                if change.get("order") == "channels first" and layer["kind"] == "Dense":
                    continue
                if change.get("order") == "latency" and layer["strategy"] != "resource":
                    continue
                counts.setdefault(k, 0)
                z = layer_output(model, layer, given, its, RULE | change)
                counts[k] += int((z.reshape(target.shape) != target).sum())
        elif layer["kind"] in ("Activation", "ApplyAlpha", "BatchNormalization", "Merge"):
            for q in ["TRN", "RND", "RND_CONV"]:
                if q == types[name].q:
                    continue
                z = layer_output(model, dict(layer, result=layer["result"].replace(f",{types[name].q},", f",{q},")), ins, its)
                k = f"result of activations {q}"
                counts[k] = counts.get(k, 0) + int((z.reshape(target.shape) != target).sum())
    missing = set(want) - seen
    assert not missing, missing
    return counts


if __name__ == "__main__":
    for folder in sys.argv[1:]:
        print(folder, compare(folder))
