"""The digits network through PaddleSlim's static post-training quantization, and paddle2onnx's ONNX of it.

    pip install -r golden/recorders/requirements-paddle.txt, and what stands at its head
    python golden/recorders/paddle_digits.py golden/toolchains

Two networks come out. `paddleslim` holds the Paddle program and what Paddle's executor computes on it: its quantizers
stand around convolutions whose batch normalization is not folded. `paddleslim-onnx` holds paddle2onnx's QDQ file, in
which batch normalization is merged and inner quantizers are gone, and what ONNX Runtime computes on that.
"""

import sys
import tempfile
from pathlib import Path

import PIL.Image  # noqa: F401  before paddle: its library exports a zlib that breaks later imports
import numpy as np
import onnx
import onnxruntime as ort
import paddle
import paddle2onnx
from digits_data import calibration, digits, samples, weights
from folder import write
from paddle import nn
from paddle.base.proto.framework_pb2 import ProgramDesc
from paddleslim.quant import quant_post_static

COMMAND = "python golden/recorders/paddle_digits.py golden/toolchains"
TOOLS = ("paddlepaddle", "paddleslim", "paddle2onnx", "onnxruntime", "onnx", "numpy", "scikit-learn")


class ConvBn(nn.Layer):
    def __init__(self, cin, cout, kernel=3, groups=1, act=None):
        super().__init__()
        self.conv = nn.Conv2D(cin, cout, kernel, padding=kernel // 2, groups=groups, bias_attr=False)
        self.bn = nn.BatchNorm2D(cout)
        self.act = act

    def forward(self, x):
        x = self.bn(self.conv(x))
        return x if self.act is None else self.act(x)


class DigitsNet(nn.Layer):
    """The network of digits_net.py."""

    def __init__(self):
        super().__init__()
        self.stem = ConvBn(1, 8, act=nn.ReLU())
        self.res1 = ConvBn(8, 8, act=nn.ReLU())
        self.res2 = ConvBn(8, 8)
        self.add_relu = nn.ReLU()
        self.depthwise = ConvBn(8, 8, groups=8, act=nn.ReLU6())
        self.pointwise = ConvBn(8, 16, 1, act=nn.ReLU())
        self.average = nn.AvgPool2D(2)
        self.down = ConvBn(16, 8, act=nn.ReLU())
        self.side = nn.MaxPool2D(2)
        self.head = nn.Conv2D(16, 10, 3, padding=1)
        self.mean, self.flatten = nn.AdaptiveAvgPool2D(1), nn.Flatten()

    def forward(self, image):
        x = self.stem(image)
        x = self.add_relu(self.res2(self.res1(x)) + x)
        large = self.pointwise(self.depthwise(x))
        small = paddle.concat([self.down(self.average(large)), self.side(x)], 1)
        return self.flatten(self.mean(self.head(large))), self.flatten(self.mean(self.head(small)))


def loaded():
    net = DigitsNet()
    rename = {"running_mean": "_mean", "running_var": "_variance"}
    state = {}
    for k, v in weights().items():
        stem, leaf = k.rsplit(".", 1)
        if leaf != "num_batches_tracked":
            state[f"{stem}.{rename.get(leaf, leaf)}"] = v
    missing, unexpected = net.set_state_dict(state)
    assert not missing and not unexpected, (missing, unexpected)
    net.eval()
    return net


class Images(paddle.io.Dataset):
    def __init__(self):
        self.x = calibration()

    def __len__(self):
        return len(self.x)

    def __getitem__(self, k):
        return (self.x[k],)


def export(work):
    """(the float network's accuracy); leaves quant/model.pdmodel, quant/model.pdiparams and model.onnx in `work`."""
    net = loaded()
    _, _, xb, yb = digits()
    accuracy = [float((o.numpy().argmax(1) == yb).mean()) for o in net(paddle.to_tensor(xb))]
    paddle.jit.save(net, str(work / "float" / "model"), [paddle.static.InputSpec([None, 1, 8, 8], "float32", "image")])
    paddle.enable_static()
    executor = paddle.static.Executor(paddle.CPUPlace())
    feed = paddle.static.data("image", [None, 1, 8, 8], "float32")
    loader = paddle.io.DataLoader(Images(), feed_list=[feed], batch_size=16, shuffle=False, return_list=False, places=[paddle.CPUPlace()])
    quant_post_static(executor, str(work / "float"), str(work / "quant"), data_loader=loader, model_filename="model.pdmodel",
                      params_filename="model.pdiparams", batch_size=16, batch_nums=8, algo="avg", onnx_format=True,
                      is_full_quantize=True, weight_quantize_type="channel_wise_abs_max")
    paddle2onnx.export(str(work / "quant/model.pdmodel"), str(work / "quant/model.pdiparams"), str(work / "model.onnx"),
                       opset_version=13, deploy_backend="onnxruntime")
    return executor, accuracy


def without_call_stacks(program):
    """The program without the stack traces (and paths) of the machine that wrote it."""
    desc = ProgramDesc.FromString(program)
    for block in desc.blocks:
        for op in block.ops:
            keep = [a for a in op.attrs if a.name != "op_callstack"]
            del op.attrs[:]
            op.attrs.extend(keep)
    return desc.SerializeToString(deterministic=True)


def run_program(executor, work, x):
    """{tensor: value} of what the program's operators write, and its quantizers as (input, code, scale) names."""
    program, feeds, _ = paddle.static.load_inference_model(str(work / "quant"), executor, model_filename="model.pdmodel", params_filename="model.pdiparams")
    ops = [op for op in program.global_block().ops if op.type not in ("feed", "fetch")]
    quantizers = [(op.input("X")[0], op.output("Y")[0], op.input("Scale")[0]) for op in ops if op.type == "quantize_linear"]
    scales = {s for _, _, s in quantizers}
    names = sorted({n for op in ops for slot in op.output_names for n in op.output(slot)
                    if not any(t in slot for t in ("XShape", "Saved", "MeanOut", "VarianceOut"))} | scales)
    values = dict(zip(names, executor.run(program, {feeds[0]: x}, names))) | {feeds[0]: x}
    return values, quantizers, ops


def run_onnx(path, x):
    """Every tensor that a node of the file writes, computed by ONNX Runtime as written (no graph optimization)."""
    model = onnx.load(path)
    names = [o for n in model.graph.node if n.op_type != "Constant" for o in n.output]
    outputs = {o.name for o in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in outputs)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return dict(zip(names, session.run(names, {"image": x}))), model


def main():
    root, x = Path(sys.argv[1]), samples()
    with tempfile.TemporaryDirectory() as tmp:
        work = Path(tmp)
        executor, accuracy = export(work)
        files = {"model.pdmodel": without_call_stacks((work / "quant/model.pdmodel").read_bytes()), "model.pdiparams": (work / "quant/model.pdiparams").read_bytes()}
        proto = (work / "model.onnx").read_bytes()
        program, quantizers, ops = run_program(executor, work, x)
        onnx_values, model = run_onnx(work / "model.onnx", x)
        _, _, xb, yb = digits()
        ends = [[v for k, v in values.items() if k.startswith(f"save_infer_model/scale_{i}.tmp_0")][0] for values in (program, onnx_values) for i in (0, 1)]
        all_test = [run_program(executor, work, xb)[0], run_onnx(work / "model.onnx", xb)[0]]
        scores = [[float(([v for k, v in values.items() if k.startswith(f"save_infer_model/scale_{i}.tmp_0")][0].argmax(1) == yb).mean()) for i in (0, 1)] for values in all_test]

    rules = {"RNE(x*127/scale)": lambda v, s: np.rint(v * np.float32(127) / s), "HAZ(x*127/scale)": lambda v, s: np.copysign(np.floor(np.abs(v * np.float32(127) / s) + np.float32(0.5)), v),
             "RNE(x/(scale/127))": lambda v, s: np.rint(v / (s / np.float32(127))), "RNE(x*127/scale) from -127": lambda v, s: np.maximum(np.rint(v * np.float32(127) / s), -127)}
    wrong, total = dict.fromkeys(rules, 0), 0
    for source, code, scale in {q[1]: q for q in quantizers}.values():
        total += program[code].size
        for name, rule in rules.items():
            wrong[name] += int((np.clip(rule(program[source], program[scale]), -128, 127) != program[code]).sum())
    q_program, q_file = len({q[1] for q in quantizers}), sum(n.op_type == "QuantizeLinear" for n in model.graph.node)
    convs = sum(op.type in ("conv2d", "depthwise_conv2d") for op in ops)
    weights_q = sum(n.op_type == "QuantizeLinear" and ".w_" in n.input[0] for n in model.graph.node)
    apart = [float(np.abs(ends[i] - ends[i + 2]).max()) for i in (0, 1)]
    same_name = [n for n in program if n in onnx_values and program[n].shape == onnx_values[n].shape and n.endswith("tmp_0") and "conv2d" in n]
    worst = {n: round(float(np.abs(program[n] - onnx_values[n]).max()), 3) for n in same_name}
    seen = (f"the program quantizes {q_program} activations ({len(quantizers)} quantize_linear, {convs} convolutions, batch normalization kept apart and quantized on both sides); "
            f"the ONNX quantizes {q_file - weights_q} activations (batch normalization merged, weights quantized anew). Largest difference of the outputs {apart[0]:.3f} and {apart[1]:.3f} "
            f"(of {np.abs(ends[0]).max():.2f} and {np.abs(ends[1]).max():.2f}). Test accuracy: float {accuracy}, program {scores[0]}, ONNX {scores[1]}. "
            f"Tensors of one name, largest difference (before batch normalization in the program, behind it in the file): {worst}")
    print(seen, wrong, total, sep="\n")
    write(root / "paddleslim", TOOLS, COMMAND, "Apache-2.0", "the digits network as PaddleSlim's program after static post-training quantization (avg, per channel), run by Paddle's executor", [],
          files, {"image": x}, {k: v for k, v in program.items() if k.endswith(".quantized") or "save_infer" in k}, "Paddle executor, float32, one operator after another",
          {"tells_apart": f"quantizers, {total} elements: " + ", ".join(f"{v} differ for {k}" for k, v in wrong.items()), "seen": seen})
    write(root / "paddleslim-onnx", TOOLS, COMMAND, "Apache-2.0 (paddle2onnx), MIT (onnxruntime)", "paddle2onnx's QDQ ONNX of PaddleSlim's program, run by ONNX Runtime as written (fake-quant in float32)", ["exact"],
          {"model.onnx": proto}, {"image": x}, codes(model, onnx_values), "ONNX Runtime, CPU, no graph optimization: float32 kernels between quantizers", {"seen": seen})


def codes(model, values):
    """What activation quantizers wrote, tensors that leave the quantized part, and the outputs; not the weights, which no run changes."""
    weights_q = {n.output[0] for n in model.graph.node if n.op_type == "QuantizeLinear" and ".w_" in n.input[0]}
    kept = [o for n in model.graph.node if n.op_type in ("QuantizeLinear", "AveragePool", "Concat", "GlobalAveragePool", "Reshape") for o in n.output]
    return {k: values[k] for k in kept if k not in weights_q and values[k].dtype != np.int64}


if __name__ == "__main__":
    main()
