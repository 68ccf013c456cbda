//! `--report onnx=`: the model with both sides' activations in it, as other programs read it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use align_check_graph::onnx::proto::{ModelProto, NodeProto, TensorProto};
use align_check_tests::{args, golden, list, report, run, text, whole};
use prost::Message as _;
use serde_json::Value;

/// A model file as prost reads it.
fn read(path: &Path) -> ModelProto {
    ModelProto::decode(fs::read(path).expect("a file").as_slice()).expect("an ONNX file")
}

/// The nodes and tensors that the report added.
fn added(model: &ModelProto) -> (Vec<&NodeProto>, BTreeMap<&str, &TensorProto>) {
    let graph = model.graph.as_ref().expect("a graph");
    let ours = |name: &str| name.starts_with("align_check/");
    let nodes = graph.node.iter().filter(|node| ours(node.name())).collect();
    let tensors = graph
        .initializer
        .iter()
        .filter(|tensor| ours(tensor.name()));
    (
        nodes,
        tensors.map(|tensor| (tensor.name(), tensor)).collect(),
    )
}

/// What a tensor holds.
fn numbers(tensor: &TensorProto) -> Vec<f64> {
    let raw = tensor.raw_data();
    let found: Vec<f64> = match tensor.data_type() {
        1 => raw
            .chunks(4)
            .map(|b| f64::from(f32::from_le_bytes(b.try_into().expect("four bytes"))))
            .collect(),
        2 => raw.iter().map(|&b| f64::from(b)).collect(),
        3 => raw.iter().map(|&b| f64::from(b.cast_signed())).collect(),
        11 => raw
            .chunks(8)
            .map(|b| f64::from_le_bytes(b.try_into().expect("eight bytes")))
            .collect(),
        other => panic!("type {other}"),
    };
    let extents: i64 = tensor.dims.iter().product();
    assert_eq!(found.len() as i64, extents, "{}", tensor.name());
    found
}

fn attribute(node: &NodeProto, name: &str) -> String {
    let found = node.attribute.iter().find(|a| a.name() == name);
    String::from_utf8(found.expect("an attribute").s().to_vec()).expect("text")
}

#[test]
fn both_sides_of_every_layer_are_in_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = golden("demo/model.qonnx.onnx");
    let file = folder.path().join("with-activations.onnx");
    let asked = format!("onnx={}", file.display());
    let given = args![
        &model,
        "-t",
        "tflite,exact",
        "--samples",
        "1",
        "--report",
        asked
    ];
    let (ran, json, _) = report(given);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), ""));
    let (before, after) = (read(&model), read(&file));
    let (nodes, tensors) = added(&after);
    let targets = list(&json["targets"]);
    let layers = || targets.iter().flat_map(|target| list(&target["layers"]));
    assert_eq!(nodes.len(), layers().count());
    assert_eq!(tensors.len(), 2 * nodes.len());
    let mut differing = 0;
    for (node, layer) in nodes.iter().zip(layers()) {
        assert_eq!(node.domain(), "align_check");
        let wanted = match text(&layer["verdict"]) {
            "misaligned" => "Misaligned",
            "aligned, tested" => "AlignedTested",
            other => panic!("{other}"),
        };
        assert_eq!(node.op_type(), wanted);
        assert_eq!(attribute(node, "layer"), text(&layer["name"]));
        let [tensor, expected, got] = node.input.as_slice() else {
            panic!("three inputs: {:?}", node.input);
        };
        assert_eq!(tensor, text(&layer["tensor"]));
        let [expected, got] = [expected, got].map(|name| numbers(tensors[name.as_str()]));
        let unequal = expected.iter().zip(&got).filter(|(a, b)| a != b).count() as u64;
        let stats = &layer["mode"]["isolated"];
        assert_eq!(unequal, whole(&stats["differing"]), "{}", layer["name"]);
        assert_eq!(expected.len() as u64, whole(&stats["elements"]));
        differing += unequal;
    }
    assert!(differing > 0, "this network differs on TFLite");

    // Everything else is what it was.
    let mut rest = after.clone();
    let graph = rest.graph.as_mut().expect("a graph");
    graph.node.retain(|node| node.domain() != "align_check");
    graph
        .initializer
        .retain(|tensor| !tensor.name().starts_with("align_check/"));
    rest.opset_import
        .retain(|import| import.domain() != "align_check");
    assert_eq!(rest, before);

    // The file is still the model: a check of it finds the same.
    let (_, again, _) = report(args![&file, "-t", "tflite,exact", "--samples", "1"]);
    assert_eq!(again["targets"], json["targets"]);
    // But activations of its own are not added to it twice.
    let twice = format!("onnx={}", folder.path().join("twice.onnx").display());
    let ran = run(args![
        &file,
        "-t",
        "exact",
        "--samples",
        "1",
        "-q",
        "--report",
        twice
    ]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("already"), "{}", ran.stderr);
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
}

/// What somebody else recorded is what the file holds as expected.
#[test]
fn a_recording_is_in_the_file_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("recorded.onnx");
    let codes = golden("demo/fake_quant_codes.npz");
    let (ran, json, _) = report(args![
        golden("demo/model.qonnx.onnx"),
        "--input",
        golden("demo/inputs.npz"),
        "-t",
        "onnxruntime",
        "--recorded",
        &codes,
        "--report",
        format!("onnx={}", file.display())
    ]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let mut npz =
        ndarray_npy::NpzReader::new(fs::File::open(codes).expect("a file")).expect("an npz");
    let model = read(&file);
    let (nodes, tensors) = added(&model);
    assert_eq!(nodes.len(), list(&json["layers"]).len());
    let mut compared = 0;
    for node in nodes {
        let key = format!("{}.npy", node.input[0]);
        let recorded: Vec<f64> =
            if let Ok(array) = npz.by_name::<ndarray::OwnedRepr<u8>, ndarray::IxDyn>(&key) {
                array
                    .outer_iter()
                    .next()
                    .expect("a sample")
                    .iter()
                    .map(|&q| f64::from(q))
                    .collect()
            } else if let Ok(array) = npz.by_name::<ndarray::OwnedRepr<i8>, ndarray::IxDyn>(&key) {
                array
                    .outer_iter()
                    .next()
                    .expect("a sample")
                    .iter()
                    .map(|&q| f64::from(q))
                    .collect()
            } else {
                assert_eq!(node.input[0], "logits");
                continue;
            };
        for side in &node.input[1..] {
            assert_eq!(numbers(tensors[side.as_str()]), recorded, "{side}");
        }
        compared += 1;
    }
    assert_eq!(compared, 9);
}

#[test]
fn other_formats_refuse_before_the_work() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("out.onnx");
    let asked = format!("onnx={}", file.display());
    let model = golden("toolchains/tflite-ptq-ref/model.tflite");
    let ran = run(args![model, "-t", "tflite", "--report", &asked]);
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.stderr.contains("model.tflite is no ONNX file (tflite)"),
        "{}",
        ran.stderr
    );
    assert_eq!(ran.stderr.lines().count(), 1);
    let model = golden("demo/model.qonnx.onnx");
    let ran = run(args![
        model,
        "-t",
        "tflite",
        "--mode",
        "cumulative",
        "--report",
        &asked
    ]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("--mode cumulative"), "{}", ran.stderr);
    assert!(!file.exists());
    // Nor does a report replace the model.
    let own = folder.path().join("model.onnx");
    fs::copy(golden("demo/model.qonnx.onnx"), &own).expect("a copy");
    let bytes = fs::read(&own).expect("a model");
    for kind in ["onnx", "json"] {
        let asked = format!("{kind}={}", own.display());
        let ran = run(args![&own, "-t", "tflite", "--report", asked]);
        assert_eq!(ran.code, Some(2));
        assert!(ran.stderr.contains("is read by this run"), "{}", ran.stderr);
    }
    assert!(
        bytes == fs::read(&own).expect("a model"),
        "the model changed"
    );
}

/// The keys of node data are names that the model has, so that a viewer finds them.
#[test]
fn node_data_names_what_the_model_has() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("node-data.json");
    let model = golden("demo/model.qonnx.onnx");
    let asked = format!("model-explorer={}", file.display());
    run(args![&model, "-t", "tflite", "-q", "--report", asked]);
    let data: Value =
        serde_json::from_str(&fs::read_to_string(&file).expect("text")).expect("JSON");
    let graph = read(&model).graph.expect("a graph");
    let known = |key: &str| {
        graph
            .node
            .iter()
            .any(|node| node.name() == key || node.output.iter().any(|output| output == key))
    };
    let results = data["results"].as_object().expect("results");
    assert_eq!(results.len(), 20);
    for key in results.keys() {
        assert!(known(key), "{key}");
    }
}
