//! Each lint on the smallest network that deserves it, and on its neighbour that does not: where, why, what to do, and
//! what it costs on the inputs given.

use std::fs;
use std::path::Path;

use align_check_tests::onnx::{Onnx, QONNX, Quant, int, ints, real, text as attribute};
use align_check_tests::{Npz, args, list, run, text, whole};
use serde_json::Value;

const CHANNELS: i64 = 2;
const IMAGE: [i64; 4] = [1, CHANNELS, 4, 4];

/// Weights of a 1 x 1 convolution, the steps of whose quantizer are 1/64.
const WEIGHTS: [f32; 4] = [1.0, -0.5, 0.25, -1.25];
const STEP: f32 = 1.0 / 64.0;

fn weights() -> Quant {
    Quant::i8(STEP, 0)
}

/// `x`, quantized as `xq`.
fn input(quant: &Quant) -> Onnx {
    Onnx::new().input("x", &IMAGE).quant("x", "xq", quant)
}

fn eighth() -> Quant {
    Quant::i8(0.125, 0)
}

/// A convolution from `x` to `y` with these weights; no quantizer of them where `quant` is absent.
fn convolution(net: Onnx, x: &str, y: &str, reals: &[f32], quant: Option<&Quant>) -> Onnx {
    let (w, wq) = (format!("{y}_w"), format!("{y}_wq"));
    let net = net.reals(&w, &[CHANNELS, CHANNELS, 1, 1], reals);
    match quant {
        Some(quant) => net.quant(&w, &wq, quant).node("Conv", &[x, &wq], y, &[]),
        None => net.node("Conv", &[x, &w], y, &[]),
    }
}

/// `conv` behind the input, quantized as `y`.
fn layer(x: &Quant, reals: &[f32], w: Option<&Quant>, y: &Quant) -> Onnx {
    convolution(input(x), "xq", "conv", reals, w).quant("conv", "y", y)
}

/// The findings of a lint in the plan of a network, on 32 inputs that use most codes.
fn found(net: &Onnx, output: &[i64], target: &str, lint: &str) -> Vec<Value> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str| folder.path().join(name);
    let (model, inputs, report) = (file("model.onnx"), file("inputs.npz"), file("plan.json"));
    net.clone().output("y", output).write(&model);
    let samples = 32;
    let values: Vec<f32> = (0..samples * IMAGE.iter().product::<i64>())
        .map(|i| ((i * 7919) % 2001 - 1000) as f32 / 130.0)
        .collect();
    let shape = [samples as usize, IMAGE[1] as usize, 4, 4];
    Npz::new(&inputs).add("x", &shape, &values).finish();
    let to = format!("json={}", report.display());
    let run = run(args![
        "plan", &model, "-t", target, "-i", &inputs, "--report", to
    ]);
    assert_eq!(run.code, Some(0), "{lint}: {}", run.stderr);
    let json: Value = serde_json::from_str(&read(&report)).expect("JSON");
    let lints = list(&json["targets"][0]["lints"]).iter();
    lints.filter(|l| l["lint"] == lint).cloned().collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("a report")
}

/// The lint is found in `bad`, at `node`, with what a reader needs, and not in `good`.
#[track_caller]
fn tells(lint: &str, target: &str, [bad, good]: [&Onnx; 2], node: &str, says: &str) {
    tells_of(lint, target, [bad, good], node, says, &IMAGE);
}

#[track_caller]
fn tells_of(
    lint: &str,
    target: &str,
    [bad, good]: [&Onnx; 2],
    node: &str,
    says: &str,
    output: &[i64],
) {
    let all = found(bad, output, target, lint);
    let one = all.iter().find(|l| l["node"] == node);
    let one = one.unwrap_or_else(|| panic!("{lint} at {node}: {all:?}"));
    assert!(text(&one["text"]).contains(says), "{lint}: {one}");
    for part in ["why", "fix"] {
        assert!(text(&one[part]).len() > 10, "{lint}: {one}");
    }
    assert!(whole(&one["cost"]["elements"]) >= 512, "{lint}: {one}");
    let good = found(good, output, target, lint);
    assert!(good.is_empty(), "{lint}: {good:?}");
}

#[test]
fn quantizers_on_both_residual_branches() {
    let add = |branch: &str, net: Onnx| {
        net.node("Add", &[branch, "xq"], "add", &[])
            .quant("add", "y", &eighth())
    };
    let conv = || convolution(input(&eighth()), "xq", "conv", &WEIGHTS, Some(&weights()));
    let bad = add("cq", conv().quant("conv", "cq", &eighth()));
    let nets = [&bad, &add("conv", conv())];
    let says = "the output of 'node_conv' is quantized in front of the addition";
    tells(
        "residual-both-quantized",
        "openvino-cpu",
        nets,
        "node_add",
        says,
    );
}

#[test]
fn a_missing_quantizer_behind_an_operation_without_weights() {
    let window = [ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])];
    let pool = |net: Onnx| net.node("AveragePool", &["xq"], "pool", &window);
    let conv = |x: &str, net: Onnx| {
        convolution(net, x, "conv", &WEIGHTS, Some(&weights())).quant("conv", "y", &eighth())
    };
    let bad = conv("pool", pool(input(&eighth())));
    let good = conv("pq", pool(input(&eighth())).quant("pool", "pq", &eighth()));
    let says = "AveragePool reads codes and hands reals to node_conv";
    let half = [1, CHANNELS, 2, 2];
    let found = found(&bad, &half, "tensorrt", "missing-output-quantizer");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(text(&found[0]["text"]).contains(says), "{found:?}");
    assert!(whole(&found[0]["cost"]["elements"]) > 0, "{found:?}");
    assert!(self::found(&good, &half, "tensorrt", "missing-output-quantizer").is_empty());
}

#[test]
fn unequal_scales_into_an_addition_and_a_concat() {
    let join = |other: f32, op: &str| {
        let net = input(&eighth()).quant("x", "x2", &Quant::i8(other, 0));
        let axis: &[_] = if op == "Concat" {
            &[int("axis", 1)]
        } else {
            &[]
        };
        net.node(op, &["xq", "x2"], "join", axis)
            .quant("join", "y", &Quant::i8(0.25, 0))
    };
    for (op, output) in [("Add", IMAGE), ("Concat", [1, 2 * CHANNELS, 4, 4])] {
        let nets = [&join(0.0625, op), &join(0.125, op)];
        let (lint, says) = ("unequal-scales", "scale 1.250000e-1; scale 6.250000e-2");
        tells_of(lint, "tensorrt", nets, "node_join", says, &output);
    }
}

#[test]
fn two_quantizers_in_a_row() {
    let chain = |scale: f32| {
        let net = convolution(input(&eighth()), "xq", "conv", &WEIGHTS, Some(&weights()));
        net.quant("conv", "cq", &eighth())
            .quant("cq", "y", &Quant::i8(scale, 0))
    };
    let nets = [&chain(0.25), &chain(0.125)];
    tells(
        "quantizer-chain",
        "onnxruntime",
        nets,
        "node_y",
        "scale 2.500000e-1 behind scale 1.25",
    );
}

#[test]
fn batch_normalization_behind_quantized_weights() {
    let conv = || convolution(input(&eighth()), "xq", "conv", &WEIGHTS, Some(&weights()));
    let mut net = conv();
    for (name, values) in [
        ("g", [1.5, 0.75]),
        ("b", [0.5, -0.25]),
        ("m", [0.0, 0.5]),
        ("v", [1.0, 2.0]),
    ] {
        net = net.reals(name, &[CHANNELS], &values);
    }
    let bad = net
        .node(
            "BatchNormalization",
            &["conv", "g", "b", "m", "v"],
            "bn",
            &[],
        )
        .quant("bn", "y", &eighth());
    let good = conv().quant("conv", "y", &eighth());
    let says = "the normalization follows";
    tells(
        "unfolded-batch-norm",
        "tensorrt",
        [&bad, &good],
        "node_conv",
        says,
    );
}

#[test]
fn scales_for_channels() {
    let net = |w: &Quant| layer(&eighth(), &WEIGHTS, Some(w), &eighth());
    let two = Quant::per_channel(&[STEP, STEP / 2.0], 8);
    let nets = [&net(&two), &net(&weights())];
    tells(
        "per-channel",
        "vitis-dpu",
        nets,
        "node_conv",
        "weights have 2 scales, 2.0 apart",
    );
}

#[test]
fn scales_that_are_no_powers_of_two() {
    let net = |x: f32, w: f32| {
        layer(
            &Quant::i8(x, 0),
            &WEIGHTS,
            Some(&Quant::i8(w, 0)),
            &eighth(),
        )
    };
    let (lint, target) = ("not-power-of-two", "vitis-dpu");
    let good = net(0.125, STEP);
    tells(
        lint,
        target,
        [&net(0.1, STEP), &good],
        "node_xq",
        "activation scale 1.0",
    );
    tells(
        lint,
        target,
        [&net(0.125, 0.01), &good],
        "node_conv",
        "1 of 1 weight scales",
    );
}

#[test]
fn zero_points_that_the_target_lacks() {
    let net = |x: &Quant, w: &Quant| layer(x, &WEIGHTS, Some(w), &eighth());
    let good = net(&eighth(), &weights());
    let bad = net(&Quant::u8(0.0625, 100), &weights());
    tells(
        "zero-point",
        "tensorrt",
        [&bad, &good],
        "node_xq",
        "zero point 100",
    );
    let bad = net(&eighth(), &Quant::i8(STEP, 3));
    tells(
        "zero-point",
        "tensorrt",
        [&bad, &good],
        "node_conv",
        "1 weight zero points",
    );
}

#[test]
fn the_lowest_weight() {
    let net = |w: f32| layer(&eighth(), &[w, 0.5, 0.25, 1.0], Some(&weights()), &eighth());
    let nets = [&net(-2.0), &net(-127.0 / 64.0)];
    tells(
        "lowest-weight",
        "tensorrt",
        nets,
        "node_conv",
        "1 of 4 weights are -128",
    );
}

#[test]
fn a_bias_with_a_scale_of_its_own() {
    let net = |scale: f32| {
        let net = input(&eighth())
            .reals("w", &[CHANNELS, CHANNELS, 1, 1], &WEIGHTS)
            .quant("w", "wq", &weights())
            .reals("b", &[CHANNELS], &[0.51, -0.26])
            .quant("b", "bq", &Quant::uniform(scale, 0, 32, true));
        net.node("Conv", &["xq", "wq", "bq"], "conv", &[])
            .quant("conv", "y", &eighth())
    };
    let nets = [&net(0.01), &net(0.125 * STEP)];
    tells(
        "bias-scale",
        "tflite-reference",
        nets,
        "node_conv",
        "1 of 1 channels",
    );
}

#[test]
fn an_unsigned_range_without_its_largest_code() {
    let net = |narrow: i64| {
        let conv = convolution(input(&eighth()), "xq", "conv", &WEIGHTS, Some(&weights()));
        let attributes = [
            int("signed", 0),
            int("narrow", narrow),
            attribute("rounding_mode", "ROUND"),
        ];
        conv.reals("ys", &[], &[0.125])
            .reals("yz", &[], &[0.0])
            .reals("yb", &[], &[8.0])
            .node_in(
                QONNX,
                "Quant",
                &["conv", "ys", "yz", "yb"],
                "y",
                &attributes,
            )
    };
    let nets = [&net(1), &net(0)];
    tells(
        "unsigned-narrow",
        "onnxruntime",
        nets,
        "node_y",
        "codes 0..=254, 8 bits",
    );
}

#[test]
fn shifts_that_the_hardware_lacks() {
    let net = |y: f32| layer(&eighth(), &WEIGHTS, Some(&weights()), &Quant::i8(y, 0));
    // Positions 3 + 6 less that of the output, 12.
    let nets = [&net(1.0 / 4096.0), &net(0.125)];
    tells(
        "shift-range",
        "vitis-dpu",
        nets,
        "node_conv",
        "shift_cut = -3",
    );
}

#[test]
fn weights_outside_of_their_range() {
    let net = |w: f32| layer(&eighth(), &[w, 0.5, 0.25, 1.0], Some(&weights()), &eighth());
    let nets = [&net(2.5), &net(127.0 / 64.0)];
    tells(
        "clipped-weights",
        "tensorrt",
        nets,
        "node_conv",
        "1 of 4 weights",
    );
}

#[test]
fn a_slope_that_the_hardware_replaces() {
    let net = |alpha: f32| {
        let net = convolution(input(&eighth()), "xq", "conv", &WEIGHTS, Some(&weights()));
        net.node("LeakyRelu", &["conv"], "leaky", &[real("alpha", alpha)])
            .quant("leaky", "y", &eighth())
    };
    let nets = [&net(0.2), &net(26.0 / 256.0)];
    tells(
        "replaced-constant",
        "vitis-dpu",
        nets,
        "node_leaky",
        "26/256",
    );
}

#[test]
fn an_average_that_the_hardware_replaces() {
    let net = |size: i64| {
        let window = [ints("kernel_shape", &[size, size])];
        let net = input(&eighth()).node("AveragePool", &["xq"], "pool", &window);
        net.quant("pool", "y", &eighth())
    };
    let bad = found(
        &net(3),
        &[1, CHANNELS, 2, 2],
        "vitis-dpu",
        "replaced-constant",
    );
    assert_eq!(bad.len(), 1, "{bad:?}");
    assert!(text(&bad[0]["text"]).contains("1/9 becomes"), "{bad:?}");
    let good = found(
        &net(2),
        &[1, CHANNELS, 3, 3],
        "vitis-dpu",
        "replaced-constant",
    );
    assert!(good.is_empty(), "{good:?}");
}

#[test]
fn a_layer_that_falls_back_to_float() {
    let net = |w: Option<&Quant>| layer(&eighth(), &WEIGHTS, w, &eighth());
    let nets = [&net(None), &net(Some(&weights()))];
    tells(
        "float-fallback",
        "tensorrt",
        nets,
        "node_conv",
        "reads 'conv_w' in float",
    );
}
