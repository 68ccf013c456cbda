//! Entries of encodings files as quantizers of a graph: where they go, and which files do not fit a model.

mod common;

use std::path::Path;

use align_check_graph::encodings::{Applied, Encodings};
use align_check_graph::{Error, Graph, Op, Quantizer, ValueId};
use common::{Build, int, ints, says};

/// conv -> relu -> flatten, with a weight of two channels and a bias.
fn network() -> Build {
    Build::xy(13, &[1, 1, 2, 2])
        .f32s("w", &[2, 1, 1, 1], &[1.0, -2.0])
        .f32s("b", &[2], &[0.5, 0.25])
        .node(
            "Conv",
            &["x", "w", "b"],
            &["c"],
            &[ints("kernel_shape", &[1, 1])],
        )
        .named("/features/conv/Conv")
        .node("Relu", &["c"], &["r"], &[])
        .named("/features/relu/Relu")
        .node("Flatten", &["r"], &["y"], &[int("axis", 1)])
        .named("/flat/Flatten")
}

fn apply(build: &Build, text: &str) -> Result<(Graph, Applied), Error> {
    let encodings = Encodings::parse(Path::new("a.file"), text.as_bytes())?;
    encodings.apply(build.graph(), &build.read()?)
}

#[track_caller]
fn applied(text: &str) -> (Graph, Applied) {
    match apply(&network(), text) {
        Ok(applied) => applied,
        Err(error) => panic!("{error}"),
    }
}

#[track_caller]
fn fails(text: &str, words: &[&str]) {
    let error = apply(&network(), text).expect_err("an error");
    assert!(matches!(error, Error::Malformed { .. }), "{error}");
    says(&error.to_string(), words);
}

/// Names of the quantized tensors, with those of what they are made of.
fn quantized(graph: &Graph) -> Vec<(String, String)> {
    let name = |value: ValueId| graph.values[value].name.clone();
    let nodes = graph
        .nodes
        .iter()
        .filter(|n| matches!(n.op, Op::Quantize(_)));
    nodes.map(|n| (name(n.inputs[0]), name(n.output))).collect()
}

fn pairs(names: &[(&str, &str)]) -> Vec<(String, String)> {
    names
        .iter()
        .map(|(a, b)| ((*a).into(), (*b).into()))
        .collect()
}

const AIMET: &str = r#"{"activation_encodings": [
    {"name": "x", "dtype": "INT", "bw": 8, "is_sym": false, "scale": [0.5], "offset": [-3]},
    {"name": "r", "dtype": "INT", "bw": 8, "is_sym": false, "scale": [0.25], "offset": [0]}],
    "param_encodings": [{"name": "w", "dtype": "INT", "bw": 8, "is_sym": true, "enc_type": "PER_CHANNEL",
    "scale": [0.5, 0.25], "offset": [-128, -128]}]}"#;

#[test]
fn quantizers_stand_behind_their_tensors_and_every_reader_reads_them() {
    let (graph, applied) = applied(AIMET);
    assert_eq!(
        quantized(&graph),
        pairs(&[("x", "x_updated"), ("w", "w_qdq"), ("r", "r_updated")])
    );
    let (conv, flatten) = (&graph.nodes[2], &graph.nodes[5]);
    assert_eq!(
        conv.inputs[..2],
        [
            graph.find("x_updated").unwrap(),
            graph.find("w_qdq").unwrap()
        ]
    );
    assert_eq!(flatten.inputs, [graph.find("r_updated").unwrap()]);
    assert_eq!(
        graph.values[graph.find("r_updated").unwrap()].aliases,
        ["r"]
    );
    let Op::Quantize(Quantizer::Affine(w)) = &graph.nodes[1].op else {
        panic!("{:?}", graph.nodes[1]);
    };
    assert_eq!((w.scale.axis, w.zero_point.axis), (Some(0), Some(0)));
    // x, c, r, y.
    assert_eq!(
        (
            applied.activations,
            applied.of_activations,
            applied.parameters
        ),
        (2, 4, 1)
    );
    let coverage = "AIMET encodings 1.0.0: 2 of 4 activations have ranges; the rest stays float; 1 weights and biases are quantized";
    assert_eq!(applied.coverage(), coverage);
}

#[test]
fn outputs_of_the_graph_are_the_quantized_tensors() {
    let (graph, _) = applied(
        r#"{"activation_encodings": [{"name": "y", "dtype": "INT", "bw": 8, "is_sym": false,
        "scale": [0.5], "offset": [0]}]}"#,
    );
    assert_eq!(graph.outputs, [graph.find("y_updated").unwrap()]);
}

#[test]
fn a_file_of_another_model_is_an_error() {
    let entry = |name: &str| {
        format!(
            r#"{{"name": "{name}", "dtype": "INT", "bw": 8, "is_sym": false, "scale": [1], "offset": [0]}}"#
        )
    };
    let file = |activations: &[&str], parameters: &[&str]| {
        let list = |names: &[&str]| names.iter().map(|n| entry(n)).collect::<Vec<_>>().join(",");
        format!(
            r#"{{"activation_encodings": [{}], "param_encodings": [{}]}}"#,
            list(activations),
            list(parameters)
        )
    };
    fails(
        &file(&["p", "q", "s", "t"], &[]),
        &["none of its 4 tensors", "'p', 'q', 's' and 1 more"],
    );
    fails(
        &file(&["x"], &["v"]),
        &["1 of its parameters", "'v'", "another model"],
    );
    fails(
        &file(&["x", "p", "q"], &[]),
        &["2 of its 3 tensors", "'p', 'q'"],
    );
    let (_, partial) = applied(&file(&["x", "r", "p"], &[]));
    assert_eq!(partial.warnings.len(), 1);
    says(&partial.warnings[0], &["1 of 3 tensors", "'p'"]);
}

#[test]
fn scales_that_do_not_fit_a_tensor_are_an_error() {
    let text = AIMET.replace(
        "[0.5, 0.25], \"offset\": [-128, -128]",
        "[1, 1, 1], \"offset\": [-128, -128, -128]",
    );
    fails(&text, &["'w'", "3 scales", "2 along axis 0"]);
}

#[test]
fn what_is_refused_is_unsupported_where_the_tensor_exists() {
    let text = AIMET.replace("PER_CHANNEL", "LPBQ");
    let error = apply(&network(), &text).expect_err("an error");
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    says(
        &error.to_string(),
        &["'w'", "LPBQ", "AIMET encodings 1.0.0"],
    );
}

#[test]
fn a_model_with_quantizers_of_its_own_takes_none() {
    let model = Build::xy(13, &[1, 2])
        .scalar("s", 0.5)
        .codes(
            "z",
            align_check_graph::onnx::proto::tensor_proto::DataType::Int8,
            &[],
            &[0],
        )
        .node("QuantizeLinear", &["x", "s", "z"], &["q"], &[])
        .node("DequantizeLinear", &["q", "s", "z"], &["y"], &[]);
    let error = apply(&model, "x:1\n").expect_err("an error");
    says(
        &error.to_string(),
        &["quantizes an activation already", "not guessed"],
    );
}

#[test]
fn tensorrt_makes_weights_itself_and_skips_fused_tensors_and_outputs() {
    let (graph, applied) = applied("x:127\nc:127\nr:127\ny:127\n");
    assert_eq!(
        quantized(&graph),
        pairs(&[
            ("x", "x_quantized"),
            ("w", "w_quantized"),
            ("r", "r_quantized")
        ])
    );
    let Some(Op::Quantize(Quantizer::Affine(w))) = graph
        .nodes
        .iter()
        .find(|n| n.name == "w_quantized")
        .map(|n| &n.op)
    else {
        panic!("{:?}", graph.nodes);
    };
    assert_eq!(w.scale.values, [1.0 / 127.0, 2.0 / 127.0]);
    let notes = applied.notes.join("\n");
    for word in [
        "1 ranges lie inside fused groups",
        "'c'",
        "network outputs",
        "'y'",
        "max|w| / 127",
    ] {
        assert!(notes.contains(word), "{notes}");
    }
}

#[test]
fn aimet_2_entries_of_quantizers_that_are_off_are_not_placed() {
    let entry = |name: &str, scale: f64| {
        format!(r#"{{"name": "{name}", "output_dtype": "uint8", "y_scale": {scale}}}"#)
    };
    let text = format!(
        r#"{{"version": "2.0.0", "encodings": [{}, {}, {}, {}, {{"name": "b", "output_dtype": "int32", "y_scale": [1, 1]}}]}}"#,
        entry("x", 1.0),
        entry("c", 0.5),
        entry("r", 0.5),
        entry("y", 0.5)
    );
    let (graph, aimet) = applied(&text);
    assert_eq!(
        quantized(&graph),
        pairs(&[("x", "x_updated"), ("r", "r_updated")])
    );
    let notes = aimet.notes.join("\n");
    for word in ["1 int32 biases stay real", "2 entries repeat", "'c', 'y'"] {
        assert!(notes.contains(word), "{notes}");
    }
    // Another range than the neighbour's is a quantizer.
    let (graph, _) = applied(&text.replace(&entry("c", 0.5), &entry("c", 0.25)));
    assert_eq!(
        graph
            .nodes
            .iter()
            .filter(|n| matches!(n.op, Op::Quantize(_)))
            .count(),
        3
    );
}

#[test]
fn distiller_names_modules() {
    let stats = |name: &str| {
        format!(
            "{name}:\n  inputs:\n    0:\n      min: -1\n      max: 127\n  output:\n    min: 0\n    max: 127\n"
        )
    };
    let text = ["features.conv", "features.relu", "flat"]
        .map(stats)
        .concat();
    let (graph, _) = applied(&text);
    // The input, the fused convolution with its weights; data that only moves keeps its codes.
    assert_eq!(
        quantized(&graph),
        pairs(&[
            ("x", "x_quantized"),
            ("w", "w_quantized"),
            ("r", "r_quantized")
        ])
    );
}

#[test]
fn entries_of_one_reader_leave_the_others_alone() {
    let model = Build::xy(13, &[1, 2])
        .node("Relu", &["x"], &["a"], &[])
        .named("one")
        .node("Relu", &["x"], &["b"], &[])
        .named("two")
        .node("Add", &["a", "b"], &["y"], &[])
        .named("add");
    let layer = |name: &str, scale: f64| {
        format!("layer {{ name: \"{name}\" quant_param {{ input {{ scale: {scale} }} }} }}\n")
    };
    let (graph, _) = apply(&model, &(layer("one", 2.0) + &layer("two", 4.0))).unwrap();
    assert_eq!(
        quantized(&graph),
        pairs(&[("x", "x_quantized"), ("x", "x_quantized_")])
    );
    let reads = |node: &str| {
        let node = graph.nodes.iter().find(|n| n.name == node).unwrap();
        graph.values[node.inputs[0]].name.clone()
    };
    assert_eq!(
        [reads("one"), reads("two")],
        ["x_quantized", "x_quantized_"]
    );
    let (graph, _) = apply(&model, &layer("one", 2.0)).unwrap();
    assert_eq!(
        graph.nodes.iter().find(|n| n.name == "two").unwrap().inputs,
        graph.inputs
    );
}
