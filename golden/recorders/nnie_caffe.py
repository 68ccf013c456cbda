"""Caffe networks as the NNIE mapper reads them: prototxt and caffemodel, with what PyTorch computes on them.

    pip download nnieqat==0.1.0b0 --no-deps -d nnieqat-wheel
    unzip -q nnieqat-wheel/nnieqat-0.1.0b0-py3-none-any.whl -d nnieqat-wheel
    python golden/recorders/nnie_caffe.py nnieqat-wheel golden/toolchains/nnie-caffe     # requirements-digits.txt

No Caffe installs from a package index, and the mapper is not public: the files are written here, by caffe.proto
(BVLC/caffe src/caffe/proto/caffe.proto: names and numbers of the fields). What is recorded was computed by others:
PyTorch in float64, and HiSilicon's libgfpq for the logarithmic quantizer (see nnie_gfpq.py; the library stays out of
the repository).

    model.prototxt, .caffemodel   the digits network with `gfpq_param`: outputs.npz (behind quantizers),
                                  real_outputs.npz (behind the heads, which have none)
    float.prototxt                the same without: float_outputs.npz
    operators.prototxt, ...       every other layer type, odd sizes, paddings: operators.npz (inputs, outputs)

`gfpq_param: CLIP`, one number a bottom, is this project's own way to write clip values into a layer: the mapper's own
layout is not public. The values are rows of its table, 2^(n/16), as it demands (ModelTC/MQBench
docs/source/user_guide/hardware/nnie.rst); which layers have one follows the file that MQBench writes
(gfpq_param_dict: no grouped convolution, no activation, no global pool; mqbench/deploy/deploy_nnie.py).
"""

import hashlib
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import digits_net
from nnie_gfpq import APPLY_ONLY, INIT, LIBRARY_SHA256, UPDATE, Library, Param

N, S = 127, 16


# ---------------------------------------------------------------- caffe.proto

class Word(str):
    """An enumeration's word, which is written without quotes."""


def text(name, value, indent):
    pad = "  " * indent
    if isinstance(value, list):
        return "".join(text(name, v, indent) for v in value)
    if isinstance(value, dict):
        return f"{pad}{name} {{\n{''.join(text(k, v, indent + 1) for k, v in value.items())}{pad}}}\n"
    if isinstance(value, bool):
        value = str(value).lower()
    elif isinstance(value, float):
        value = f"{value:.9g}"
    elif isinstance(value, str) and not isinstance(value, Word):
        value = f'"{value}"'
    return f"{pad}{name}: {value}\n"


def varint(n):
    out = b""
    while n > 0x7F:
        out, n = out + bytes([n & 0x7F | 0x80]), n >> 7
    return out + bytes([n])


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def blob(array):
    array = np.asarray(array, dtype="<f4")
    shape = field(1, b"".join(varint(d) for d in array.shape))  # BlobShape.dim, packed
    return field(5, array.tobytes()) + field(7, shape)  # data, shape


class Net:
    def __init__(self, name):
        self.name, self.layers, self.blobs = name, [], {}

    def add(self, kind, name, bottoms, top, params=None, blobs=(), **more):
        tops = top if isinstance(top, list) else [top]
        layer = {"name": name, "type": kind, "bottom": bottoms, "top": tops} | more | (params or {})
        self.layers.append(layer)
        if len(blobs):
            self.blobs[name] = [np.asarray(b, dtype=np.float32) for b in blobs]

    def prototxt(self, gfpq=True):
        layers = [{k: v for k, v in layer.items() if gfpq or k != "gfpq_param"} for layer in self.layers]
        return "# Written by golden/recorders/nnie_caffe.py\n" + text("name", self.name, 0) + text("layer", layers, 0)

    def caffemodel(self):
        out = field(1, self.name.encode())
        for layer in self.layers:
            if layer["name"] in self.blobs:
                body = field(1, layer["name"].encode()) + field(2, layer["type"].encode())
                body += b"".join(field(7, blob(b)) for b in self.blobs[layer["name"]])
                out += field(100, body)
        return out


# ---------------------------------------------------------------- the vendor's quantizer

class Gfpq:
    def __init__(self, path):
        self.library = Library(path)

    def call(self, param, mode, x):
        bits = x.astype(np.float32).ravel().view(np.uint32).tolist()
        z, out = self.library.call(param, mode, 8, bits)
        return z, np.array(out, dtype=np.uint32).view(np.float32).reshape(x.shape)

    def z_of(self, tensors):
        """z of calibration tensors, the largest of theirs."""
        param = Param()
        for i, x in enumerate(tensors):
            z, _ = self.call(param, UPDATE if i else INIT, x)
        return z

    def apply(self, z, x):
        param = Param()
        # A one-element tensor at the top level sets z; then it is only applied.
        found, _ = self.call(param, INIT, np.array([np.nextafter(np.float32(2 ** ((N + z) / S)), np.float32(np.inf))]))
        assert found == z, (found, z)
        return self.call(param, APPLY_ONLY, x)[1]

    def weights(self, w):
        return self.call(Param(), INIT, w)[1]


# ---------------------------------------------------------------- the digits network

def digits(net, clips):
    """The network as Caffe layers; `clips` by layer name."""
    caffe = Net("digits")
    caffe.add("Input", "image", [], "image", {"input_param": {"shape": {"dim": [1, 1, 8, 8]}}})

    def gfpq(name):
        return {"gfpq_param": [float(c) for c in clips[name]]} if name in clips else {}

    def conv_bn(name, bottom, act=None):
        m = getattr(net, name)
        w = m.conv.weight.detach().numpy()
        param = {"num_output": w.shape[0], "bias_term": False, "kernel_size": w.shape[2]}
        if w.shape[2] > 1:
            param["pad"] = w.shape[2] // 2
        if m.conv.groups > 1:
            param["group"] = m.conv.groups
        caffe.add("Convolution", name, [bottom], name, {"convolution_param": param}, [w], **gfpq(name))
        # Caffe stores sums, and how many were summed (moving_average_fraction 0.999): any factor will do.
        factor = np.float32(4.0)
        stats = [m.bn.running_mean.numpy() * factor, m.bn.running_var.numpy() * factor, [factor]]
        caffe.add("BatchNorm", f"{name}/bn", [name], name, {"batch_norm_param": {"eps": m.bn.eps}}, stats)
        affine = [m.bn.weight.detach().numpy(), m.bn.bias.detach().numpy()]
        caffe.add("Scale", f"{name}/scale", [name], name, {"scale_param": {"bias_term": True}}, affine)
        if act:
            caffe.add(act, f"{name}/relu", [name], name)

    conv_bn("stem", "image", "ReLU")
    conv_bn("res1", "stem", "ReLU")
    conv_bn("res2", "res1")
    caffe.add("Eltwise", "add", ["res2", "stem"], "add", {"eltwise_param": {"operation": Word("SUM")}}, **gfpq("add"))
    caffe.add("ReLU", "add/relu", ["add"], "add")
    conv_bn("depthwise", "add", "ReLU6")
    conv_bn("pointwise", "depthwise", "ReLU")
    pool = {"kernel_size": 2, "stride": 2}
    caffe.add("Pooling", "average", ["pointwise"], "average", {"pooling_param": {"pool": Word("AVE")} | pool},
              **gfpq("average"))
    conv_bn("down", "average", "ReLU")
    caffe.add("Pooling", "side", ["add"], "side", {"pooling_param": {"pool": Word("MAX")} | pool}, **gfpq("side"))
    caffe.add("Concat", "concat", ["down", "side"], "concat", **gfpq("concat"))
    head = [net.head.weight.detach().numpy(), net.head.bias.detach().numpy()]
    for name, bottom, out in [("head", "pointwise", "fine"), ("head2", "concat", "coarse")]:
        shared = {"param": [{"name": "head_w"}, {"name": "head_b"}]}
        param = {"convolution_param": {"num_output": 10, "kernel_size": 3, "pad": 1}}
        # The second one has no blobs of its own: they are shared by name.
        caffe.add("Convolution", name, [bottom], name, shared | param, head if name == "head" else (), **gfpq(name))
        mean = {"pooling_param": {"pool": Word("AVE"), "global_pooling": True}}
        caffe.add("Pooling", f"{out}/mean", [name], f"{out}/mean", mean)
        caffe.add("Flatten", out, [f"{out}/mean"], out)
    return caffe


def run(net, image, q, w):
    """The network in float64; `q(name, i, x)` quantizes bottom i of a layer, `w(name, x)` its weights.

    Returns every tensor that the importer names: what layers make, and what quantizers make of it.
    """
    seen = {"image": image}

    def conv_bn(name, x, act):
        m = getattr(net, name)
        y = F.conv2d(q(name, 0, x), w(name, m.conv.weight.double()), padding=m.conv.padding, groups=m.conv.groups)
        b = m.bn
        scale = b.weight.double() / torch.sqrt(b.running_var.double() + b.eps)
        shift = b.bias.double() - b.running_mean.double() * scale
        y = act(y * scale[None, :, None, None] + shift[None, :, None, None])
        seen[name] = y
        return y

    relu, relu6, none = F.relu, F.relu6, lambda x: x
    stem = conv_bn("stem", image, relu)
    res2 = conv_bn("res2", conv_bn("res1", stem, relu), none)
    x = seen["add"] = F.relu(q("add", 0, res2) + q("add", 1, stem))
    large = conv_bn("pointwise", conv_bn("depthwise", x, relu6), relu)
    average = seen["average"] = F.avg_pool2d(q("average", 0, large), 2)
    down = conv_bn("down", average, relu)
    side = seen["side"] = F.max_pool2d(q("side", 0, x), 2)
    small = seen["concat"] = torch.cat([q("concat", 0, down), q("concat", 1, side)], 1)
    for name, bottom, out in [("head", large, "fine"), ("head2", small, "coarse")]:
        y = F.conv2d(q(name, 0, bottom), w(name, net.head.weight.double()), net.head.bias.double(), padding=1)
        seen[name] = y
        seen[f"{out}/mean"] = y.mean((2, 3), keepdim=True)
        seen[out] = seen[f"{out}/mean"].flatten(1)
    return seen


QUANTIZED = {
    "stem": ["image"], "res1": ["stem"], "res2": ["res1"], "add": ["res2", "stem"], "pointwise": ["depthwise"],
    "average": ["pointwise"], "down": ["average"], "side": ["add"], "concat": ["down", "side"], "head": ["pointwise"],
    "head2": ["concat"],
}


def record_digits(folder, gfpq):
    net = digits_net.trained()
    samples = torch.from_numpy(digits_net.samples()).double()
    calibration = torch.from_numpy(digits_net.calibration()).double()
    plain = run(net, calibration, lambda name, i, x: x, lambda name, x: x)
    z = {name: gfpq.z_of(x.numpy()) for name, x in plain.items()}
    clips = {name: [2 ** ((N + z[b]) / S) for b in bottoms] for name, bottoms in QUANTIZED.items()}
    # A concat's bottoms share one z (nnie.rst): the larger one, as one value for both.
    clips["concat"] = [max(clips["concat"])]
    made = {}

    def quantized(name, i, x):
        if name not in clips:
            return x
        row = round(S * np.log2(clips[name][min(i, len(clips[name]) - 1)])) - N
        y = torch.from_numpy(gfpq.apply(row, x.numpy().astype(np.float32))).double()
        made[f"{QUANTIZED[name][i]}.gfpq"] = y
        return y

    def weights(name, x):
        if name not in clips:
            return x
        return torch.from_numpy(gfpq.weights(x.numpy().astype(np.float32))).double()

    seen = run(net, samples, quantized, weights)
    kept = {"depthwise", "concat", "fine", "coarse", "fine/mean", "coarse/mean", "head", "head2"}
    outputs = {k: v for k, v in seen.items() if k in {"head", "head2", "fine", "coarse"}}
    float_seen = run(net, samples, lambda name, i, x: x, lambda name, x: x)
    float_outputs = {k: v for k, v in float_seen.items() if k in kept | {"stem", "add", "pointwise", "average", "down"}}

    caffe = digits(net, clips)
    (folder / "model.prototxt").write_text(caffe.prototxt())
    (folder / "float.prototxt").write_text(caffe.prototxt(gfpq=False))
    (folder / "model.caffemodel").write_bytes(caffe.caffemodel())
    np.savez_compressed(folder / "inputs.npz", image=samples.numpy().astype(np.float32))
    for name, tensors in [("outputs", made), ("real_outputs", outputs), ("float_outputs", float_outputs)]:
        np.savez_compressed(folder / f"{name}.npz", **{k: v.numpy().astype(np.float32) for k, v in tensors.items()})


# ---------------------------------------------------------------- other layers

def record_operators(folder):
    rng = np.random.default_rng(7)
    seen = {}

    def random(*shape):
        return rng.normal(size=shape).astype(np.float32)

    def t(x):
        return torch.from_numpy(np.asarray(x, np.float32)).double()

    caffe = Net("operators")
    x, flat = random(2, 6, 7, 9), random(2, 6)
    caffe.add("Input", "x", [], "x", {"input_param": {"shape": {"dim": [2, 6, 7, 9]}}})
    caffe.add("Input", "v", [], "v", {"input_param": {"shape": {"dim": [2, 6]}}})
    tx, tv = t(x), t(flat)

    def add(kind, top, params, blobs, value, bottoms=("x",)):
        caffe.add(kind, f"l_{top}", list(bottoms), top, params, blobs)
        seen[top] = value

    def pool(top, method, **param):
        k, s, p = param["kernel_size"], param.get("stride", 1), param.get("pad", 0)
        f = (lambda y: F.max_pool2d(y, k, s, p, ceil_mode=True)) if method == "MAX" else (
            lambda y: F.avg_pool2d(y, k, s, p, ceil_mode=True, count_include_pad=True))
        add("Pooling", top, {"pooling_param": {"pool": Word(method)} | param}, (), f(tx))

    for method in ["MAX", "AVE"]:
        name = method.lower()
        pool(f"{name}_k3s2", method, kernel_size=3, stride=2)
        pool(f"{name}_k2s2", method, kernel_size=2, stride=2)
        pool(f"{name}_k3s2p1", method, kernel_size=3, stride=2, pad=1)
        pool(f"{name}_k4s3p2", method, kernel_size=4, stride=3, pad=2)
    add("Pooling", "max_global", {"pooling_param": {"pool": Word("MAX"), "global_pooling": True}}, (),
        tx.amax((2, 3), keepdim=True))

    w, b = random(4, 3, 3, 2), random(4)
    add("Convolution", "conv_groups",
        {"convolution_param": {"num_output": 4, "kernel_h": 3, "kernel_w": 2, "pad_h": 2, "pad_w": 1, "stride_h": 2,
                               "stride_w": 1, "dilation": [2, 1], "group": 2}}, [w, b],
        F.conv2d(tx, t(w), t(b), (2, 1), (2, 1), (2, 1), 2))
    w = random(6, 1, 3, 3)
    add("ConvolutionDepthwise", "conv_depthwise",
        {"convolution_param": {"num_output": 6, "kernel_size": 3, "pad": 1, "stride": 2, "bias_term": False}}, [w],
        F.conv2d(tx, t(w), None, 2, 1, 1, 6))
    w, b = random(6, 2, 4, 4), random(4)
    add("Deconvolution", "deconv",
        {"convolution_param": {"num_output": 4, "kernel_size": 4, "stride": 2, "pad": 1, "group": 2}}, [w, b],
        F.conv_transpose2d(tx, t(w), t(b), 2, 1, 0, 2))

    w, b = random(5, 6 * 7 * 9), random(5)
    add("InnerProduct", "fc", {"inner_product_param": {"num_output": 5}}, [w, b], F.linear(tx.flatten(1), t(w), t(b)))
    w = random(9, 3)
    add("InnerProduct", "fc_axis", {"inner_product_param": {"num_output": 3, "axis": 3, "transpose": True,
                                                            "bias_term": False}}, [w], tx @ t(w))

    add("ReLU", "leaky", {"relu_param": {"negative_slope": 0.125}}, (), F.leaky_relu(tx, 0.125))
    add("ReLU6", "relu6", None, (), F.relu6(tx))
    slope = random(6)
    add("PReLU", "prelu", None, [slope], F.prelu(tx, t(slope)))
    add("PReLU", "prelu_shared", {"prelu_param": {"channel_shared": True}}, [slope[:1]], F.prelu(tx, t(slope[:1])))
    add("Sigmoid", "sigmoid", None, (), torch.sigmoid(tx))
    add("TanH", "tanh", None, (), torch.tanh(tx))
    add("Softmax", "softmax", None, (), torch.softmax(tx, 1))

    sums = {"eltwise_param": {"operation": Word("SUM"), "coeff": [1.0, -1.0, 0.5]}}
    add("Eltwise", "sum", sums, (), seen["relu6"] - seen["leaky"] + 0.5 * seen["tanh"], ("relu6", "leaky", "tanh"))
    add("Eltwise", "prod", {"eltwise_param": {"operation": Word("PROD")}}, (), seen["relu6"] * seen["tanh"],
        ("relu6", "tanh"))
    gamma, beta = random(6), random(6)
    add("Scale", "scale", {"scale_param": {"bias_term": True}}, [gamma, beta],
        tx * t(gamma)[:, None, None] + t(beta)[:, None, None])
    wide = random(7, 9)
    add("Scale", "scale_axes", {"scale_param": {"axis": 2, "num_axes": 2}}, [wide], tx * t(wide))
    add("Scale", "scale_by", {"scale_param": {"axis": 0}}, (), tx * tv[:, :, None, None], ("x", "v"))
    add("Bias", "bias", None, [beta], tx + t(beta)[:, None, None])
    add("Power", "power", {"power_param": {"scale": 0.25, "shift": -2.0}}, (), 0.25 * tx - 2.0)

    add("Permute", "permute", {"permute_param": {"order": [0, 2, 3, 1]}}, (), tx.permute(0, 2, 3, 1))
    add("Reshape", "reshape", {"reshape_param": {"shape": {"dim": [0, -1, 3]}, "axis": 0}}, (), tx.reshape(2, -1, 3))
    add("Reshape", "reshape_part", {"reshape_param": {"shape": {"dim": [3, 2]}, "axis": 1, "num_axes": 1}}, (),
        tx.reshape(2, 3, 2, 7, 9))
    add("Flatten", "flatten", {"flatten_param": {"axis": 1, "end_axis": 2}}, (), tx.flatten(1, 2))
    caffe.add("Slice", "l_slice", ["x"], ["slice_a", "slice_b", "slice_c"], {"slice_param": {"slice_point": [1, 4]}})
    seen |= zip(["slice_a", "slice_b", "slice_c"], torch.split(tx, [1, 3, 2], 1))
    add("Concat", "concat", {"concat_param": {"axis": 2}}, (), torch.cat([tx, seen["tanh"]], 2), ("x", "tanh"))
    add("Upsample", "upsample", {"upsample_param": {"scale": 2}}, (), F.interpolate(tx, scale_factor=2, mode="nearest"))
    add("Interp", "interp", {"interp_param": {"height": 11, "width": 5}}, (),
        F.interpolate(tx, (11, 5), mode="bilinear", align_corners=True))
    add("Crop", "crop", {"crop_param": {"axis": 2, "offset": [1, 2]}}, (), tx[:, :, 1:5, 2:7], ("x", "max_k3s2p1"))
    # A crop reads no more than the shape of its second bottom: another layer reads the numbers.
    add("ReLU", "max_relu", None, (), F.relu(seen["max_k3s2p1"]), ("max_k3s2p1",))
    add("ShuffleChannel", "shuffle", {"shuffle_channel_param": {"group": 3}}, (),
        tx.reshape(2, 3, 2, 7, 9).transpose(1, 2).reshape(2, 6, 7, 9))
    # Slope by slope in place: every version of the blob is a tensor.
    add("Dropout", "in_place", {"dropout_param": {"dropout_ratio": 0.5}}, (), F.relu(tx + t(beta)[:, None, None]))
    caffe.add("Bias", "in_place/bias", ["in_place"], "in_place", None, [beta])
    caffe.add("ReLU", "in_place/relu", ["in_place"], "in_place")
    seen["in_place@in_place/bias"] = tx + t(beta)[:, None, None]

    (folder / "operators.prototxt").write_text(caffe.prototxt())
    (folder / "operators.caffemodel").write_bytes(caffe.caffemodel())
    arrays = {k: v.numpy().astype(np.float32) for k, v in seen.items()}
    assert not {"x", "v"} & arrays.keys()
    np.savez_compressed(folder / "operators.npz", x=x, v=flat, **arrays)


def main():
    wheel, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_grad_enabled(False)
    record_digits(folder, Gfpq(wheel))
    record_operators(folder)
    files = ["model.prototxt", "model.caffemodel", "inputs.npz", "outputs.npz", "real_outputs.npz",
             "float.prototxt", "float_outputs.npz",
             "operators.prototxt", "operators.caffemodel", "operators.npz"]
    lines = [
        f'tool = "torch {torch.__version__.split("+")[0]} in float64, HiSilicon libgfpq.so.1.1.5 (PyPI nnieqat 0.1.0b0)"',
        'platform = "Linux x86_64 (AVX2, no VNNI), Python 3.11.7"',
        'command = "python golden/recorders/nnie_caffe.py nnieqat-wheel golden/toolchains/nnie-caffe"',
        "date = 2026-11-23",
        'license = "Apache-2.0 OR MIT: model and data made by this project\'s script"',
        'license_of_the_tool = "BSD-3-Clause (torch); the library is closed and not in this repository"',
        'what = "the digits network as the NNIE mapper reads it: Caffe prototxt and caffemodel, clip values of GFPQ"',
        'grade = "documented: no Caffe package installs and the mapper is not public, so the files were written by '
        'caffe.proto; gfpq_param is this project\'s own notation. The numbers are PyTorch\'s and libgfpq\'s"',
        'model = "model.prototxt"',
        'targets = ["exact"]',
        'tells_apart = "a range rounded to the nearest and not down; weights without a quantizer; pools that round '
        'down (operators.npz); a mean that does not count padding (operators.npz)"',
        'undecided = "all of the chip\'s arithmetic: only the quantizer is the vendor\'s"',
        f'library_sha256 = "{LIBRARY_SHA256}"',
        "",
        "[sha256]",
        *(f'"{name}" = "{hashlib.sha256((folder / name).read_bytes()).hexdigest()}"' for name in files),
    ]
    (folder / "recording.toml").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
