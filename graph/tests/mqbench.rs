//! MQBench's fake-quantizers, and OpenVINO's in ONNX files.

mod common;

use align_check_graph::{Affine, Op, PerChannel, Quantizer, Rounding, ZeroPointAdded};
use common::{Build, attr, int, ints, list, says};

const OWN: &str = "mqbench_custom";

fn affine(build: &Build) -> Affine {
    let graph = build.graph();
    let mut quantizers = graph.nodes.iter().filter_map(|n| match &n.op {
        Op::Quantize(Quantizer::Affine(affine)) => Some(affine.clone()),
        _ => None,
    });
    quantizers.next_back().expect("a quantizer")
}

/// Bounds as inputs, in the file's order.
fn bounded(domain: &str, op_type: &str, inputs: &[&str]) -> Build {
    Build::xy(13, &[1, 3, 2, 2])
        .import(OWN, 13)
        .scalar("s", 0.1)
        .f32s("many", &[3], &[0.1, 0.2, 0.3])
        .f32s("z", &[1], &[2.6])
        .i64s("axis", &[1])
        .i64s("low", &[-128])
        .i64s("high", &[127])
        .i64s("zero", &[0])
        .node_in(domain, op_type, inputs, &["y"], &[])
}

#[test]
fn pytorchs_own() {
    for domain in [OWN, ""] {
        for op_type in ["FixedPerTensorAffine", "LearnablePerTensorAffine"] {
            let build = bounded(domain, op_type, &["x", "s", "z", "low", "high"]);
            assert_eq!(build.read().unwrap().format(), "fake-quant onnx");
            let found = affine(&build);
            // A learned zero point is a float that is rounded when it is used.
            let wanted = Affine::quantize_linear(
                PerChannel::uniform(0.1),
                PerChannel::uniform(3.0),
                8,
                true,
            )
            .by_reciprocal();
            assert_eq!(found, wanted);
        }
    }
    let channels = bounded(
        OWN,
        "FixedPerChannelAffine",
        &["x", "many", "zero", "axis", "zero", "high"],
    );
    let found = affine(&channels);
    assert_eq!(found.scale, list(&[0.1, 0.2, 0.3], 1));
    assert_eq!(
        (found.bits, found.signed, found.multiplier.is_some()),
        (7, false, true)
    );
    let odd = bounded(
        OWN,
        "FixedPerTensorAffine",
        &["x", "s", "z", "axis", "high"],
    );
    says(
        &odd.unsupported(),
        &["mqbench_custom::FixedPerTensorAffine", "the codes 1 to 127"],
    );
    let missing = bounded(OWN, "FixedPerTensorAffine", &["x", "s", "z"]);
    says(&missing.malformed(), &["bound"]);
}

fn learnable(weights: &[i64], op: &str, attributes: &[(&str, i64)]) -> Build {
    let attributes: Vec<_> = attributes
        .iter()
        .map(|&(name, value)| int(name, value))
        .collect();
    Build::xy(13, &[1, 2, 4, 4])
        .import(OWN, 13)
        .zeros("w", weights)
        .f32s("s", &[2], &[0.25, 0.5])
        .f32s("z", &[2], &[0.0, 0.0])
        .node_in(
            OWN,
            "FakeQuantizeLearnablePerchannelAffine",
            &["w", "s", "z"],
            &["q"],
            &attributes,
        )
        .node(op, &["x", "q"], &["y"], &[ints("kernel_shape", &[1, 1])])
}

#[test]
fn learned_scales_of_weights() {
    let bounds = [("quant_min", -64), ("quant_max", 63)];
    let found = affine(&learnable(&[2, 2, 1, 1], "Conv", &bounds));
    assert_eq!(found.scale, list(&[0.25, 0.5], 0));
    assert_eq!((found.bits, found.signed, found.narrow), (7, true, false));
    assert_eq!(found.zero_point_added, ZeroPointAdded::BeforeRounding);
    assert_eq!(
        (found.rounding, found.multiplier),
        (Rounding::HalfEven, None)
    );
    // The outputs of a transposed convolution lie along axis 1.
    let transposed = affine(&learnable(&[2, 2, 1, 1], "ConvTranspose", &bounds));
    assert_eq!(transposed.scale.axis, Some(1));
    says(
        &learnable(&[2, 2, 1, 1], "Conv", &bounds[..1]).malformed(),
        &["quant_max"],
    );
    let data = Build::xy(13, &[1, 2])
        .import(OWN, 13)
        .f32s("s", &[2], &[0.25, 0.5])
        .f32s("z", &[2], &[0.0, 0.0])
        .node_in(
            OWN,
            "FakeQuantizeLearnablePerchannelAffine",
            &["x", "s", "z"],
            &["y"],
            &bounds.map(|(name, value)| int(name, value)),
        );
    says(
        &data.unsupported(),
        &[
            "FakeQuantizeLearnablePerchannelAffine",
            "does not tell their axis",
        ],
    );
}

fn tqt(scale: f32, weights: bool) -> Build {
    let build = Build::xy(13, &[2])
        .import(OWN, 13)
        .f32s("w", &[2], &[0.3, 0.7])
        .f32s("s", &[1], &[scale])
        .f32s("z", &[1], &[0.0]);
    let attributes = [int("quant_min", -128), int("quant_max", 127)];
    let input = if weights { "w" } else { "x" };
    build
        .node_in(
            OWN,
            "FakeQuantizeTqtAffine",
            &[input, "s", "z"],
            &["q"],
            &attributes,
        )
        .node("Add", &["x", "q"], &["y"], &[])
}

#[test]
fn powers_of_two() {
    for (scale, wanted) in [
        (0.1f32, 0.125f32),
        (0.125, 0.125),
        (0.13, 0.25),
        (1.5, 2.0),
        (1e-6, 1.0),
    ] {
        let found = affine(&tqt(scale, true));
        assert_eq!(found.scale, PerChannel::uniform(wanted), "{scale}");
        assert_eq!(found.rounding, Rounding::HalfEven);
    }
    // The file does not tell activations from parameters: what is quantized does.
    let activation = tqt(0.1, false);
    assert_eq!(affine(&activation).rounding, Rounding::HalfEvenNegativeUp);
    let notes = activation.read().unwrap().notes().to_vec();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(
        notes[0].contains("does not say which rounding"),
        "{notes:?}"
    );
    assert!(tqt(0.1, true).read().unwrap().notes().is_empty());
}

#[test]
fn nnies_logarithmic_grid() {
    let build = bounded(OWN, "NNIEQuantize", &["x", "s"]);
    let (Op::Quantize(quantizer), _) = build.op() else {
        panic!("no quantizer")
    };
    assert_eq!(quantizer, Quantizer::MqBenchGfpq { max: 0.1 });
    let many = bounded(OWN, "NNIEQuantize", &["x", "many"]);
    says(&many.unsupported(), &["3 numbers"]);
    let none = bounded(OWN, "NNIEQuantize", &["x"]);
    says(&none.malformed(), &["input 2"]);
}

#[test]
fn no_counterpart() {
    for (op_type, word) in [
        ("FakeQuantizeDSQPerchannel", "tanh"),
        ("FakeQuantizeDSQPertensor", "tanh"),
        ("SomethingNew", "not evaluated"),
    ] {
        let build = bounded(OWN, op_type, &["x", "s"]);
        says(&build.unsupported(), &[&format!("{OWN}::{op_type}"), word]);
    }
}

#[test]
fn openvinos_in_onnx() {
    let build = |levels: &[_]| {
        Build::xy(13, &[1, 2, 2, 2])
            .import("org.openvinotoolkit", 1)
            .f32s("low", &[1], &[-12.8])
            .f32s("high", &[1], &[12.7])
            .node_in(
                "org.openvinotoolkit",
                "FakeQuantize",
                &["x", "low", "high", "low", "high"],
                &["y"],
                levels,
            )
    };
    let good = build(&[int("levels", 256)]);
    assert_eq!(good.read().unwrap().format(), "fake-quant onnx");
    let (Op::Quantize(Quantizer::FakeQuantize(q)), _) = good.op() else {
        panic!("no quantizer")
    };
    assert_eq!((q.levels, q.keeps_range()), (256, true));
    says(&build(&[]).malformed(), &["'levels' is missing"]);
    let wrong = attr(
        "levels",
        align_check_graph::onnx::proto::attribute_proto::AttributeType::Float,
    );
    says(&build(&[wrong]).malformed(), &["levels"]);
}
