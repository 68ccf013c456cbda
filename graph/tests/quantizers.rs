//! QONNX's and FINN's quantizers: parameters, versions, domains, broadcasting.

mod common;

use align_check_graph::onnx::proto::AttributeProto;
use align_check_graph::{
    Affine, IntegerRange, Op, PerChannel, Quantizer, Rounding, Thresholds, Trunc, TruncKind,
};
use common::{Build, float, int, ints, says, text};

const QONNX: &str = "qonnx.custom_op.general";

fn attrs(signed: i64, narrow: i64, mode: &str) -> Vec<AttributeProto> {
    vec![
        int("signed", signed),
        int("narrow", narrow),
        text("rounding_mode", mode),
    ]
}

/// `x` of a shape, quantized with scale `s`, zero point `z` and bit width `b`, which the caller adds.
fn quant(x: &[i64]) -> Build {
    Build::xy(13, x).import(QONNX, 1).node_in(
        QONNX,
        "Quant",
        &["x", "s", "z", "b"],
        &["y"],
        &attrs(1, 0, "ROUND"),
    )
}

fn plain() -> Build {
    quant(&[1, 3, 2, 2])
        .scalar("s", 0.5)
        .scalar("z", 0.0)
        .scalar("b", 8.0)
}

#[track_caller]
fn quantizer(build: &Build) -> Quantizer {
    let (node, shape) = build.only();
    assert_eq!(node.inputs.len(), 1, "parameters are no data inputs");
    let graph = build.graph();
    assert_eq!(shape, graph.shape(graph.nodes[0].inputs[0]));
    match node.op {
        Op::Quantize(quantizer) => quantizer,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn affine(build: &Build) -> Affine {
    match quantizer(build) {
        Quantizer::Affine(affine) => affine,
        other => panic!("{other:?}"),
    }
}

#[test]
fn quant_attributes() {
    let with = |name: &str, attrs: &[AttributeProto]| {
        Build::xy(13, &[4])
            .import(QONNX, 1)
            .scalar("s", 0.25)
            .scalar("z", 3.0)
            .scalar("b", 4.0)
            .node_in(QONNX, name, &["x", "s", "z", "b"], &["y"], attrs)
    };
    let expected = Affine {
        scale: PerChannel::uniform(0.25),
        zero_point: PerChannel::uniform(3.0),
        bits: 4,
        signed: false,
        narrow: true,
        rounding: Rounding::Floor,
        zero_point_added: align_check_graph::ZeroPointAdded::BeforeRounding,
        multiplier: None,
    };
    assert_eq!(affine(&with("Quant", &attrs(0, 1, "FLOOR"))), expected);
    assert_eq!(affine(&with("IntQuant", &attrs(0, 1, "floor"))), expected);
    let unsigned_by_default = with("Quant", &[int("narrow", 0), text("rounding_mode", "ROUND")]);
    assert!(affine(&unsigned_by_default).signed);
    says(
        &with("Quant", &[int("signed", 1), text("rounding_mode", "ROUND")]).malformed(),
        &["narrow", "Quant_0"],
    );
    // As in the executor (golden/qonnx-ops/quant-rounding-default).
    let round_by_default = with("Quant", &[int("signed", 1), int("narrow", 0)]);
    assert_eq!(affine(&round_by_default).rounding, Rounding::HalfEven);
    says(&with("Quant", &attrs(1, 0, "HALF")).malformed(), &["HALF"]);
    says(
        &with("Quant", &[float("narrow", 1.0)]).malformed(),
        &["narrow", "INT"],
    );
    says(
        &with("QuantAvgPool2d", &[]).unsupported(),
        &["qonnx.custom_op.general::QuantAvgPool2d"],
    );
}

#[test]
fn rounding_modes() {
    let modes = [
        ("ROUND", Rounding::HalfEven),
        ("half_even", Rounding::HalfEven),
        ("Half_Up", Rounding::HalfAway),
        ("HALF_DOWN", Rounding::HalfTowardZero),
        ("CEIL", Rounding::Ceil),
        ("floor", Rounding::Floor),
        ("UP", Rounding::AwayFromZero),
        ("down", Rounding::TowardZero),
    ];
    for (name, rounding) in modes {
        let mut build = plain();
        build.graph_mut().node[0].attribute = attrs(1, 0, name);
        assert_eq!(affine(&build).rounding, rounding, "{name}");
        let notes = build.read().unwrap().notes().to_vec();
        assert_eq!(
            notes.len(),
            usize::from(rounding == Rounding::HalfAway),
            "{notes:?}"
        );
    }
}

#[test]
fn domains() {
    for domain in [QONNX, "onnx.brevitas", "finn.custom_op.general", "finn"] {
        let mut build = plain();
        build.graph_mut().node[0].domain = Some(domain.to_owned());
        affine(&build);
        let model = build.read().unwrap();
        assert_eq!(model.format(), "qonnx");
        if domain == QONNX {
            assert!(model.notes().is_empty());
        } else {
            assert_eq!(
                model.notes(),
                [format!(
                    "opset_import lacks domain {domain}: version 1 assumed"
                )]
            );
        }
    }
    let mut hardware = plain();
    let node = &mut hardware.graph_mut().node[0];
    node.domain = Some("finn".to_owned());
    node.attribute.push(text("backend", "fpgadataflow"));
    says(&hardware.unsupported(), &["finn::Quant"]);
    let model = Build::xy(13, &[2])
        .node("Relu", &["x"], &["y"], &[])
        .read()
        .unwrap();
    assert_eq!(model.format(), "onnx");
}

#[test]
fn scales_broadcast_like_numpy() {
    let scale = |x: &[i64], dims: &[i64]| {
        let count: i64 = dims.iter().product();
        let values: Vec<f32> = (1..=count).map(|i| i as f32).collect();
        quant(x)
            .f32s("s", dims, &values)
            .scalar("z", 0.0)
            .scalar("b", 8.0)
    };
    for dims in [&[][..], &[1], &[1, 1, 1, 1], &[1, 1]] {
        assert_eq!(
            affine(&scale(&[4, 3, 2, 2], dims)).scale,
            PerChannel::uniform(1.0),
            "{dims:?}"
        );
    }
    let axis = |x: &[i64], dims: &[i64]| {
        let scale = affine(&scale(x, dims)).scale;
        assert!(scale.values.len() > 1);
        scale.axis.unwrap()
    };
    assert_eq!(axis(&[4, 3, 2, 2], &[4, 1, 1, 1]), 0);
    assert_eq!(axis(&[4, 3, 2, 2], &[1, 3, 1, 1]), 1);
    assert_eq!(axis(&[4, 3, 2, 2], &[3, 1, 1]), 1);
    assert_eq!(axis(&[4, 3, 2, 5], &[5]), 3);
    assert_eq!(axis(&[4, 3], &[4, 1]), 0);
    says(
        &scale(&[4, 3, 2, 2], &[4, 3, 1, 1]).unsupported(),
        &["several axes", "Quant"],
    );
    says(
        &scale(&[4, 3, 2, 2], &[5, 1, 1, 1]).malformed(),
        &["broadcast"],
    );
    says(&scale(&[1, 3], &[4, 1]).malformed(), &["broadcast"]);
    says(&scale(&[3], &[3, 1]).malformed(), &["broadcast"]);
    says(&scale(&[3], &[0]).malformed(), &["empty"]);
    let both = quant(&[2, 3])
        .f32s("s", &[2, 1], &[1.0; 2])
        .f32s("z", &[1, 3], &[0.0; 3])
        .scalar("b", 8.0);
    says(&both.unsupported(), &["axis 0", "axis 1"]);
}

#[test]
fn parameters_must_make_sense() {
    for bad in [0.0, -0.5, f32::NAN, f32::INFINITY] {
        let build = quant(&[1, 3])
            .f32s("s", &[3], &[1.0, 1.0, bad])
            .scalar("z", 0.0)
            .scalar("b", 8.0);
        says(
            &build.malformed(),
            &["Quant_0", "scale", "channel 2", "positive"],
        );
    }
    let zero_point = quant(&[3])
        .scalar("s", 1.0)
        .scalar("z", f32::NAN)
        .scalar("b", 8.0);
    says(&zero_point.malformed(), &["zero point"]);
    let bits = |b: f32| quant(&[3]).scalar("s", 1.0).scalar("z", 0.0).scalar("b", b);
    assert_eq!(affine(&bits(1.0)).bits, 1);
    assert_eq!(affine(&bits(32.0)).bits, 32);
    for bad in [0.0, -8.0, 7.5, f32::NAN] {
        says(&bits(bad).malformed(), &["bit width"]);
    }
    says(&bits(33.0).unsupported(), &["33"]);
    says(&bits(f32::INFINITY).error().to_string(), &["bit width"]);
    let many = quant(&[3])
        .scalar("s", 1.0)
        .scalar("z", 0.0)
        .f32s("b", &[3], &[8.0, 4.0, 8.0]);
    says(&many.unsupported(), &["channel to channel"]);
    let equal = quant(&[3])
        .scalar("s", 1.0)
        .scalar("z", 0.0)
        .f32s("b", &[3], &[8.0; 3]);
    assert_eq!(affine(&equal).bits, 8);
    let data = quant(&[3])
        .input("s", &[])
        .scalar("z", 0.0)
        .scalar("b", 8.0);
    says(&data.unsupported(), &["'s'", "constant"]);
    let mut missing = plain();
    missing.graph_mut().node[0].input.truncate(3);
    says(&missing.malformed(), &["bit width is missing"]);
}

#[test]
fn bipolar() {
    let build = Build::xy(13, &[2, 3]).f32s("s", &[2, 1], &[0.5, 1.0]);
    let build = build.node_in("onnx.brevitas", "BipolarQuant", &["x", "s"], &["y"], &[]);
    let scale = PerChannel {
        values: vec![0.5, 1.0],
        axis: Some(0),
    };
    assert_eq!(quantizer(&build), Quantizer::Bipolar { scale });
}

#[test]
fn trunc() {
    let build = |version: i64, inputs: &[&str]| {
        let attrs = [text("rounding_mode", "FLOOR")];
        Build::xy(13, &[4])
            .import(QONNX, version)
            .scalar("s", 0.5)
            .scalar("z", 1.0)
            .scalar("in", 8.0)
            .scalar("out", 4.0)
            .scalar("os", 8.0)
            .node_in(QONNX, "Trunc", inputs, &["y"], &attrs)
    };
    let expected = |kind| {
        Quantizer::Trunc(Trunc {
            scale: PerChannel::uniform(0.5),
            zero_point: PerChannel::uniform(1.0),
            rounding: Rounding::Floor,
            kind,
        })
    };
    let five = ["x", "s", "z", "in", "out"];
    let six = ["x", "s", "z", "in", "os", "out"];
    assert_eq!(
        quantizer(&build(1, &five)),
        expected(TruncKind::V1 { shift: 4 })
    );
    let second = TruncKind::V2 {
        out_scale: PerChannel::uniform(8.0),
        out_bits: 4,
        signed: true,
        narrow: false,
    };
    assert_eq!(quantizer(&build(2, &six)), expected(second.clone()));
    // Six inputs can only be version 2, whatever the file says.
    assert_eq!(quantizer(&build(1, &six)), expected(second));
    says(&build(2, &five).malformed(), &["6 inputs"]);
}

#[test]
fn float_quant() {
    let build = |exponent: f32, mantissa: f32, max: f32, attrs: &[AttributeProto]| {
        let attrs = [&[text("rounding_mode", "round")], attrs].concat();
        Build::xy(13, &[4])
            .import(QONNX, 1)
            .scalar("s", 1.0)
            .scalar("e", exponent)
            .scalar("m", mantissa)
            .scalar("bias", 7.0)
            .scalar("max", max)
            .node_in(
                QONNX,
                "FloatQuant",
                &["x", "s", "e", "m", "bias", "max"],
                &["y"],
                &attrs,
            )
    };
    let Quantizer::Minifloat(format) = quantizer(&build(4.0, 3.0, 448.0, &[int("has_nan", 1)]))
    else {
        panic!()
    };
    assert_eq!(
        (format.exponent_bits, format.mantissa_bits, format.max_value),
        (4, 3, 448.0)
    );
    assert!(format.saturating && format.has_nan && !format.has_inf);
    says(
        &build(4.5, 3.0, 448.0, &[]).unsupported(),
        &["exponent width"],
    );
    says(
        &build(4.0, 30.0, 448.0, &[]).unsupported(),
        &["mantissa width"],
    );
    says(&build(4.0, 3.0, f32::NAN, &[]).malformed(), &["maximum"]);
    says(
        &build(4.0, 3.0, 448.0, &[int("saturation", 0)]).malformed(),
        &["saturates"],
    );
}

#[test]
fn multi_threshold() {
    let build = |x: &[i64], table: &[i64], attrs: &[AttributeProto]| {
        let count: i64 = table.iter().product();
        let values: Vec<f32> = (0..count).map(|i| i as f32).collect();
        let attrs = [&[text("out_dtype", "UINT2")], attrs].concat();
        Build::xy(13, x).f32s("t", table, &values).node_in(
            "finn.custom_op.general",
            "MultiThreshold",
            &["x", "t"],
            &["y"],
            &attrs,
        )
    };
    let thresholds = |build: Build| match quantizer(&build) {
        Quantizer::Thresholds(thresholds) => thresholds,
        other => panic!("{other:?}"),
    };
    let expected = Thresholds {
        thresholds: (0..6).map(|i| i as f32).collect(),
        channels: 2,
        steps: 3,
        axis: 1,
        out_scale: 2.0,
        out_bias: -1.0,
    };
    let scaled = [float("out_scale", 2.0), float("out_bias", -1.0)];
    assert_eq!(thresholds(build(&[1, 2, 4, 4], &[2, 3], &scaled)), expected);
    // The channel axis without a layout, by rank; with one, by its name.
    let axis = |x: &[i64], layout: &str| {
        thresholds(build(x, &[1, 3], &[text("data_layout", layout)])).axis
    };
    assert_eq!(
        [
            axis(&[1, 2], ""),
            axis(&[1, 2, 3], ""),
            axis(&[1, 2, 3, 4], "")
        ],
        [1, 2, 1]
    );
    assert_eq!(
        [
            axis(&[1, 2, 3, 4], "NHWC"),
            axis(&[1, 2, 3], "NCW"),
            axis(&[1, 2, 3, 4, 5], "")
        ],
        [3, 1, 1]
    );
    assert_eq!(
        thresholds(build(
            &[1, 4, 4, 2],
            &[2, 3],
            &[text("data_layout", "NHWC")]
        ))
        .axis,
        3
    );
    says(
        &build(&[1, 2], &[1, 3], &[text("data_layout", "NHWC")]).malformed(),
        &["NHWC"],
    );
    says(&build(&[1, 4], &[2, 3], &[]).malformed(), &["4 channels"]);
    says(&build(&[1, 4], &[3], &[]).malformed(), &["matrix"]);
    says(
        &build(&[1, 2], &[1, 3], &[float("out_scale", 0.0)]).malformed(),
        &["scale"],
    );
    let data = Build::xy(13, &[1, 2]).input("t", &[1, 3]).node_in(
        "finn",
        "MultiThreshold",
        &["x", "t"],
        &["y"],
        &[],
    );
    says(&data.unsupported(), &["'t'"]);
}

#[test]
fn channels_last() {
    let domain = "qonnx.custom_op.channels_last";
    let names = |build: &Build| -> Vec<(String, String)> {
        let graph = build.graph();
        graph
            .nodes
            .iter()
            .map(|n| (n.name.clone(), n.op_type.clone()))
            .collect()
    };
    let build = Build::xy(13, &[1, 6, 5, 3])
        .import(domain, 1)
        .zeros("w", &[4, 3, 3, 3]);
    let conv = build.clone().node_in(
        domain,
        "Conv",
        &["x", "w"],
        &["y"],
        &[ints("strides", &[1, 2])],
    );
    // The constant weights are transposed at once.
    let expected = [
        ("Conv_0.nchw", "Transpose"),
        ("Conv_0", "Conv"),
        ("Conv_0.nhwc", "Transpose"),
    ];
    assert_eq!(
        names(&conv),
        expected.map(|(a, b)| (a.to_owned(), b.to_owned()))
    );
    let graph = conv.graph();
    assert_eq!(graph.shape(graph.outputs[0]), [1, 4, 2, 4]);
    assert_eq!(graph.shape(graph.nodes[1].inputs[0]), [1, 3, 6, 5]);
    assert_eq!(graph.shape(graph.nodes[1].inputs[1]), [4, 3, 3, 3]);
    assert_eq!(
        graph.nodes[2].op,
        Op::Transpose {
            perm: vec![0, 2, 3, 1]
        }
    );
    let pool = build
        .clone()
        .node_in(
            domain,
            "MaxPool",
            &["x"],
            &["y"],
            &[ints("kernel_shape", &[2, 2])],
        )
        .graph();
    assert_eq!(pool.shape(pool.outputs[0]), [1, 5, 4, 3]);
    let norm = build
        .zeros("p", &[3])
        .node_in(
            domain,
            "BatchNormalization",
            &["x", "p", "p", "p", "p"],
            &["y"],
            &[],
        )
        .graph();
    assert_eq!(norm.shape(norm.outputs[0]), [1, 6, 5, 3]);
}

#[test]
fn annotations() {
    let range = |datatype: &str| {
        let graph = Build::xy(13, &[2])
            .annotate("x", datatype)
            .node("Relu", &["x"], &["y"], &[])
            .graph();
        graph
            .value(graph.inputs[0])
            .annotation
            .map(|IntegerRange { min, max }| (min, max))
    };
    assert_eq!(range("UINT8"), Some((0, 255)));
    assert_eq!(range("INT4"), Some((-8, 7)));
    assert_eq!(range("INT64"), Some((i64::MIN, i64::MAX)));
    assert_eq!(range("UINT63"), Some((0, i64::MAX)));
    assert_eq!(range("BINARY"), Some((0, 1)));
    assert_eq!(range("BIPOLAR"), Some((-1, 1)));
    assert_eq!(range("TERNARY"), Some((-1, 1)));
    for none in [
        "FLOAT32",
        "UINT64",
        "INT0",
        "INT65",
        "FIXED<8,4>",
        "INT",
        "",
    ] {
        assert_eq!(range(none), None, "{none}");
    }
}
