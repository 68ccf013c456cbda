"""Recordings of OpenVINO IRs: what the layers of the format compute, in float32.

    pip install -r golden/recorders/requirements-openvino.txt
    python golden/recorders/openvino_ir.py golden/openvino-ir

`layers`: one branch a layer from one input of quarters, with weights and factors that are powers of two, so that every sum is
exact in float32 and the order of sums decides nothing. `fake-quantize`: the quantizer, with inputs on its ties, beside them, at
and beyond its limits. The first one runs on the CPU plugin with low-precision transformations off (no primitive works on integers),
the second one on the reference implementation, whose order of float32 steps is the operator's definition.
"""

import datetime
import hashlib
import json
import platform
import sys
from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13 as op

F = np.float32
SIZE = (1, 4, 6, 6)


def const(values, kind=F):
    return op.constant(np.asarray(values, kind))


def twos(rng, shape):
    """Powers of two of both signs, and zeros."""
    return (rng.choice([-1, 0, 1], shape) * 2.0 ** rng.integers(-2, 2, shape)).astype(F)


def branches(x):
    rng = np.random.default_rng(4)
    window = ([1, 1], [1, 0], [1, 2], [1, 1])
    conv = op.convolution(x, const(twos(rng, (3, 4, 3, 3))), [2, 1], [1, 0], [1, 2], [1, 1])
    yield "conv", op.add(conv, const(twos(rng, (1, 3, 1, 1))))
    yield "conv_same", op.convolution(x, const(twos(rng, (2, 4, 3, 2))), [2, 2], [0, 0], [0, 0], [1, 1], auto_pad="same_lower")
    yield "groups", op.group_convolution(x, const(twos(rng, (2, 3, 2, 3, 3))), *window)
    codes = rng.integers(-128, 128, (4, 1, 1, 3, 3)).astype(np.int8)
    stored = op.multiply(op.convert(op.constant(codes), F), const(2.0 ** rng.integers(-6, -3, (4, 1, 1, 1, 1))))
    yield "depthwise_stored", op.group_convolution(x, stored, *window)
    centred = op.subtract(op.convert(op.constant(rng.integers(0, 256, (3, 4, 1, 1)).astype(np.uint8)), F),
                          op.convert(op.constant(np.array([100, 128, 3], np.uint8).reshape(3, 1, 1, 1)), F))
    yield "conv_zero_points", op.convolution(x, op.multiply(centred, const([[[[0.5]]], [[[0.25]]], [[[2.0]]]])), [1, 1], [0, 0], [0, 0], [1, 1])
    yield "transposed", op.convolution_backprop_data(x, const(twos(rng, (4, 2, 3, 3))), [2, 2], pads_begin=[1, 0], pads_end=[0, 1], output_padding=[1, 0])
    yield "transposed_groups", op.group_convolution_backprop_data(x, const(twos(rng, (2, 2, 3, 2, 2))), [2, 2], pads_begin=[0, 0], pads_end=[0, 0])
    yield "max_pool", op.max_pool(x, [2, 2], [1, 1], [0, 1], [1, 0], [3, 2], "floor").output(0)
    yield "max_pool_ceil", op.max_pool(x, [2, 2], [1, 1], [0, 0], [0, 0], [3, 3], "ceil").output(0)
    yield "avg_pool_without_pad", op.avg_pool(x, [2, 2], [1, 1], [1, 1], [2, 2], True, "floor")
    yield "avg_pool_with_pad", op.avg_pool(x, [2, 2], [1, 1], [1, 1], [2, 2], False, "floor")
    yield "avg_pool_ceil", op.avg_pool(x, [4, 4], [0, 0], [0, 0], [4, 4], True, "ceil")
    rows = op.reshape(x, const([0, 4, -1], np.int64), True)
    yield "matmul_transposed", op.matmul(rows, const(twos(rng, (1, 5, 36))), False, True)
    yield "matmul_left", op.matmul(rows, const(twos(rng, (1, 4, 3))), True, False)
    yield "gemm", op.matmul(op.reshape(x, const([4, 36], np.int64), False), const(twos(rng, (7, 36))), False, True)
    yield "subtract", op.subtract(const(twos(rng, (4, 1, 1))), x)
    yield "divide", op.divide(x, const(2.0 ** rng.integers(-2, 3, (1, 4, 1, 1))))
    yield "clamp", op.clamp(x, -1.0, 2.5)
    yield "prelu", op.prelu(x, const([0.25, -0.5, 2.0, 0.0]))
    yield "hard_sigmoid", op.hard_sigmoid(x, const(0.125), const(0.25))
    yield "reduce_mean", op.reduce_mean(op.strided_slice(x, const([0, 0, 0, 0], np.int64), const([1, 4, 4, 4], np.int64), const([1, 1, 1, 1], np.int64), [0] * 4, [0] * 4), const([2, -1], np.int64), False)
    yield "concat", op.concat([x, op.relu(x)], -2)
    yield "pad_constant", op.pad(x, const([0, 1, 2, 0], np.int64), const([0, 0, 1, 2], np.int64), "constant", const(-1.5))
    yield "pad_reflect", op.pad(x, const([0, 0, 2, 1], np.int64), const([0, 0, 0, 3], np.int64), "reflect")
    yield "pad_edge", op.pad(x, const([0, 0, 2, 1], np.int64), const([0, 1, 0, 3], np.int64), "edge")
    yield "transpose", op.transpose(x, const([0, 2, 3, 1], np.int64))
    yield "squeeze", op.unsqueeze(op.squeeze(x, const([0], np.int64)), const([1, -1], np.int64))
    yield "split", op.concat(list(reversed(op.split(x, const(1, np.int64), 2).outputs())), 1)
    yield "variadic_split", op.concat(list(reversed(op.variadic_split(x, const(2, np.int64), const([1, -1, 2], np.int64)).outputs())), 2)
    yield "strided_slice", op.strided_slice(x, const([0, -3, 5, 1], np.int64), const([1, 9, 0, 2], np.int64), const([1, 1, -2, 1], np.int64), [1, 0, 0, 0], [1, 1, 1, 0], [], [0, 0, 0, 1], [])
    yield "strided_slice_new", op.strided_slice(x, const([0, 0, 1], np.int64), const([0, 1, 3], np.int64), const([1, 1, 1], np.int64), [0, 0, 0], [0, 1, 0], [1, 0, 0], [], [])
    yield "slice", op.slice(x, const([1, 5], np.int64), const([4, 0], np.int64), const([1, -2], np.int64), const([1, 3], np.int64))
    yield "depth_to_space", op.depth_to_space(x, "blocks_first", 2)
    yield "depth_to_space_depth", op.depth_to_space(x, "depth_first", 2)
    axes = const([2, 3], np.int64)
    for mode in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil", "simple"):
        for where in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "tf_half_pixel_for_nn"):
            yield f"nearest_{mode}_{where}", op.interpolate(x, const([9, 15], np.int32), "nearest", "sizes", coordinate_transformation_mode=where, nearest_mode=mode, axes=axes)
    yield "nearest_down", op.interpolate(x, const([4, 3], np.int32), "nearest", "sizes", coordinate_transformation_mode="half_pixel", nearest_mode="simple", axes=axes)
    yield "nearest_scales", op.interpolate(x, const([2.0, 1.5]), "nearest", "scales", coordinate_transformation_mode="asymmetric", nearest_mode="floor", axes=axes)
    for where in ("half_pixel", "asymmetric", "align_corners"):
        size = [11, 11] if where == "align_corners" else [12, 24]
        yield f"linear_onnx_{where}", op.interpolate(x, const(size, np.int32), "linear_onnx", "sizes", coordinate_transformation_mode=where, axes=axes)
    yield "linear_half_pixel", op.interpolate(x, const([12, 12], np.int32), "linear", "sizes", coordinate_transformation_mode="half_pixel", axes=axes)


def layers():
    x = op.parameter(SIZE, F, name="x")
    outputs = []
    for name, result in branches(x):
        result = result if isinstance(result, ov.Output) else result.output(0)
        if result.get_node().get_output_size() == 1:
            result.get_node().set_friendly_name(name)
        result.get_tensor().set_names({name})
        outputs.append(result)
    rng = np.random.default_rng(5)
    values = rng.integers(-16, 17, (4, *SIZE[1:])).astype(F) / 4
    return ov.Model(outputs, [x], "layers"), {"x": values}


def quantizers():
    rng = np.random.default_rng(6)
    x = op.parameter((1, 4, 600), F, name="x")
    outputs, points = [], []
    cases = [("symmetric", 256, -12.8, 12.7), ("narrow", 255, -3.3, 3.3), ("positive", 256, 0.0, 6.0), ("offset", 256, -1.35, 1.2),
             ("four_bits", 16, 0.0, 3.0), ("odd", 100, -1.7, 2.6),
             ("channels", 256, 0.0, np.array([1.0, 2.55, 0.3, 7.0], F).reshape(1, 4, 1))]
    for name, levels, low, high in cases:
        low, high = np.asarray(low, F), np.asarray(high, F)
        q = op.fake_quantize(x, const(low), const(high), const(low), const(high), levels)
        q.set_friendly_name(name)
        q.output(0).get_tensor().set_names({name})
        outputs.append(q.output(0))
        step = (high.max() - low) / F(levels - 1)
        points.append(low + (rng.integers(0, levels, 300) + rng.choice([0.5, 0.25], 300)).astype(F) * step)
    points = np.concatenate(points).astype(F)
    points = np.concatenate([points, rng.uniform(-14, 14, 300).astype(F)])[: 2400]
    return ov.Model(outputs, [x], "quantizers"), {"x": points.reshape(1, 4, 600)}


def reference(path, samples):
    """The outputs by OpenVINO's reference implementations (`Model.evaluate`), which few operators have."""
    model = ov.Core().read_model(path)
    outputs = {port.get_any_name(): [] for port in model.outputs}
    for sample in samples:
        found = [ov.Tensor(np.zeros(port.shape, F)) for port in model.outputs]
        assert model.evaluate(found, [ov.Tensor(np.ascontiguousarray(sample[None]))])
        for port, tensor in zip(model.outputs, found):
            outputs[port.get_any_name()].append(np.array(tensor.data))
    return {name: np.stack(runs) for name, runs in outputs.items()}, "reference implementation (Model.evaluate)"


def plugin(path, samples):
    """The outputs by the CPU plugin, every layer in float32."""
    core = ov.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", {
        "LP_TRANSFORMS_MODE": "NO", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
    kinds = sorted({str(node.get_rt_info()["primitiveType"].value) if hasattr(node.get_rt_info()["primitiveType"], "value")
                    else str(node.get_rt_info()["primitiveType"]) for node in compiled.get_runtime_model().get_ops()})
    # Stored weights are constants of integers.
    assert not any(kind.lower().endswith("i8") for kind in kinds if kind not in ("ref_I8", "unknown_I8")), kinds
    runs = [compiled({0: sample[None]}) for sample in samples]
    outputs = {port.get_any_name(): np.stack([np.asarray(run[port]) for run in runs]) for port in compiled.outputs}
    return outputs, "CPU plugin, every layer in float32 (LP_TRANSFORMS_MODE NO, INFERENCE_PRECISION_HINT f32)"


def record(folder, model, inputs, run, what):
    folder.mkdir(parents=True, exist_ok=True)
    ov.save_model(model, folder / "model.xml", compress_to_fp16=False)
    (key, samples), = inputs.items()
    outputs, path = run(folder / "model.xml", samples)
    save(folder / "inputs.npz", {key: samples})
    save(folder / "outputs.npz", outputs)
    tools = ", ".join(f"{m.__name__} {m.__version__.split('-')[0]}" for m in (ov, np))
    about = {
        "tool": tools, "platform": f"{platform.system()} {platform.machine()} (AVX2, no VNNI), Python {platform.python_version()}",
        "cpu_path": path,
        "command": "python golden/recorders/openvino_ir.py golden/openvino-ir"}
    more = {"license": "Apache-2.0 OR MIT: model and data made by this project's script", "license_of_the_tool": "Apache-2.0", "what": what}
    lines = [f"{k} = {json.dumps(v)}" for k, v in about.items()]
    lines.append(f"date = {datetime.date.today().isoformat()}")
    lines += [f"{k} = {json.dumps(v)}" for k, v in more.items()]
    lines += ['targets = ["exact"]', 'tells_apart = ""', 'undecided = ""', "", "[sha256]"]
    files = ["model.xml", "model.bin", "inputs.npz", "outputs.npz"]
    lines += [f"{json.dumps(name)} = {json.dumps(hashlib.sha256((folder / name).read_bytes()).hexdigest())}" for name in files]
    (folder / "recording.toml").write_text("\n".join(lines) + "\n")
    print(folder, len(outputs), "tensors")


def save(path, arrays):
    np.savez_compressed(path, **arrays)


def main(root):
    model, inputs = layers()
    record(root / "layers", model, inputs, plugin, "one branch a layer, sums exact in float32: convolutions, pools, products, movements, resampling")
    model, inputs = quantizers()
    record(root / "fake-quantize", model, inputs, reference, "FakeQuantize on its ties, beside them, at and beyond its limits; 256, 255, 16 and 100 levels, limits for each channel")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
