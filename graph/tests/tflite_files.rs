//! Real `TFLite` files: those that lie in `../shared` and in `golden`, where those folders are there.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use align_check_graph::{Constant, Graph, Limits, Model, Op, Quantizer, Rounding, ZeroPointAdded};

fn root(folder: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    if !path.is_dir() {
        eprintln!("skipped: {folder} is absent");
        return None;
    }
    Some(path)
}

/// Every `.tflite` below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "tflite") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn load(path: &Path) -> (Model, Graph) {
    let model = Model::read(path, &Limits::default()).unwrap();
    assert_eq!(model.format(), "tflite");
    let graph = model.graph(&BTreeMap::new()).unwrap();
    check(&graph);
    (model, graph)
}

/// What every graph promises.
fn check(graph: &Graph) {
    let mut known = vec![false; graph.values.len()];
    for &id in &graph.inputs {
        known[id] = true;
        assert!(graph.values[id].file_axes.is_none());
    }
    let mut names = HashSet::new();
    for (id, value) in graph.values.iter().enumerate() {
        assert!(names.insert(&value.name), "{} twice", value.name);
        if let Some(constant) = &value.constant {
            assert_eq!(constant.len(), value.len(), "{}", value.name);
            known[id] = true;
            assert_eq!(
                value.stored.is_some(),
                matches!(**constant, Constant::I64(_))
            );
        }
        if let Some(stored) = &value.stored {
            assert_eq!(stored.rounding, Rounding::HalfAway);
            assert_eq!(stored.zero_point_added, ZeroPointAdded::AfterRounding);
            if let Some(axis) = stored.scale.axis {
                assert_eq!(stored.scale.values.len(), value.shape[axis]);
            }
            if let Some(constant) = &value.constant
                && let Constant::I64(codes) = &**constant
            {
                let range = stored.min_code()..=stored.max_code();
                assert!(codes.iter().all(|code| range.contains(code)));
            }
        }
    }
    let mut names = HashSet::new();
    for node in &graph.nodes {
        assert!(names.insert(&node.name), "{} twice", node.name);
        assert!(node.inputs.iter().all(|&id| known[id]), "{}", node.name);
        assert!(!std::mem::replace(&mut known[node.output], true));
        let (shape, output) = (
            |i: usize| graph.shape(node.inputs[i]),
            graph.value(node.output),
        );
        match &node.op {
            Op::Reshape => assert_eq!(shape(0).iter().product::<usize>(), output.len()),
            Op::Transpose { perm } => {
                let moved: Vec<_> = perm.iter().map(|&axis| shape(0)[axis]).collect();
                assert_eq!(moved, output.shape, "{}", node.name);
            }
            Op::Conv(conv) => {
                assert_eq!(shape(0)[1], shape(1)[1] * conv.groups, "{}", node.name);
                assert_eq!(shape(1)[0], output.shape[1]);
                assert_eq!(shape(1)[2..], conv.kernel);
            }
            Op::ConvTranspose(conv) => {
                assert_eq!(shape(0)[1], shape(1)[0]);
                assert_eq!(shape(1)[1], output.shape[1]);
                assert_eq!(shape(1)[2..], conv.kernel);
            }
            Op::Gemm(_) => {
                assert_eq!(shape(0)[1], shape(1)[1]);
                assert_eq!(output.shape, [shape(0)[0], shape(1)[0]]);
            }
            Op::Quantize(quantizer) => {
                let Quantizer::Affine(grid) = quantizer else {
                    panic!("{}", node.name);
                };
                assert_eq!(output.stored.as_ref(), Some(grid));
                assert_eq!(shape(0), output.shape);
            }
            Op::Activation(_) | Op::Softmax { .. } | Op::Identity => {
                assert_eq!(shape(0), output.shape);
            }
            _ => {}
        }
    }
    assert!(graph.outputs.iter().all(|&id| known[id]));
}

/// Operators of a graph without quantizers and transpositions, in order.
fn operators(graph: &Graph) -> Vec<&str> {
    graph
        .nodes
        .iter()
        .filter(|node| !matches!(node.op, Op::Quantize(_) | Op::Transpose { .. }))
        .map(|node| node.op_type.as_str())
        .collect()
}

fn count(graph: &Graph, op: impl Fn(&Op) -> bool) -> usize {
    graph.nodes.iter().filter(|node| op(&node.op)).count()
}

#[test]
fn all_of_them() {
    for folder in [
        "../../shared/models/tflite",
        "../../shared/recordings/tflm-seanet",
        "../golden",
    ] {
        let Some(folder) = root(folder) else { continue };
        for path in files(&folder) {
            println!("{}", path.display());
            load(&path);
        }
    }
}

/// A file of `../shared/models/tflite`, or nothing (said out loud) where that folder is absent.
fn shared(name: &str) -> Option<(Model, Graph)> {
    root("../../shared/models/tflite").map(|folder| load(&folder.join(name)))
}

#[test]
fn image_classification() {
    let Some((model, graph)) = shared("pretrainedResnet_quant.tflite") else {
        return;
    };
    let input = &model.inputs()[0];
    assert_eq!(input.name, "input_1_int8");
    assert_eq!(input.dims, [None, Some(32), Some(32), Some(3)]);
    assert_eq!(input.aliases, ["0:input_1_int8", "0"]);
    let stored = input.stored.as_ref().unwrap();
    assert_eq!(
        (stored.scale.at(0), stored.zero_point.at(0), stored.bits),
        (1.0, -128.0, 8)
    );
    assert_eq!(count(&graph, |op| matches!(op, Op::Conv(_))), 9);
    assert_eq!(count(&graph, |op| matches!(op, Op::Binary(_))), 3);
    assert_eq!(count(&graph, |op| matches!(op, Op::AveragePool { .. })), 1);
    assert_eq!(count(&graph, |op| matches!(op, Op::Gemm(_))), 1);
    // One a convolution, an addition, the pool, the matrix product and the softmax.
    assert_eq!(count(&graph, |op| matches!(op, Op::Quantize(_))), 15);
    // Only the input is transposed: behind the pool nothing is left to move.
    assert_eq!(count(&graph, |op| matches!(op, Op::Transpose { .. })), 1);
    let tail = operators(&graph);
    assert_eq!(
        tail[tail.len() - 6..],
        [
            "ADD",
            "RELU",
            "AVERAGE_POOL_2D",
            "RESHAPE",
            "FULLY_CONNECTED",
            "SOFTMAX"
        ]
    );
    let output = graph.value(graph.outputs[0]);
    assert_eq!(
        (output.name.as_str(), output.shape.as_slice()),
        ("Identity_int8", &[1, 10][..])
    );
    // A batch that the file does not have.
    let shapes = BTreeMap::from([("input_1_int8".to_owned(), vec![4, 32, 32, 3])]);
    let graph = model.graph(&shapes).unwrap();
    check(&graph);
    assert_eq!(graph.shape(graph.outputs[0]), [4, 10]);
}

#[test]
fn the_other_networks() {
    let Some((_, visual)) = shared("vww_96_int8.tflite") else {
        return;
    };
    assert_eq!(count(&visual, |op| matches!(op, Op::Conv(_))), 27);
    let (_, anomaly) = shared("ad01_int8.tflite").unwrap();
    assert_eq!(count(&anomaly, |op| matches!(op, Op::Gemm(_))), 10);
    let (_, keywords) = shared("kws_ref_model.tflite").unwrap();
    assert_eq!(count(&keywords, |op| matches!(op, Op::Conv(_))), 9);
    let (_, speech) = shared("micro_speech_quantized.tflite").unwrap();
    assert_eq!(
        operators(&speech),
        [
            "RESHAPE",
            "DEPTHWISE_CONV_2D",
            "RELU",
            "RESHAPE",
            "FULLY_CONNECTED",
            "SOFTMAX"
        ]
    );
    let (_, sine) = shared("hello_world_int8.tflite").unwrap();
    assert_eq!(count(&sine, |op| matches!(op, Op::Gemm(_))), 3);
    let (_, streaming) = shared("str_ww_ref_model.tflite").unwrap();
    assert_eq!(count(&streaming, |op| matches!(op, Op::Conv(_))), 8);
}

#[test]
fn sixteen_bits() {
    let Some(folder) = root("../../shared/recordings/tflm-seanet") else {
        return;
    };
    let of = |name: &str| load(&folder.join(name));
    let (_, graph) = of("conv/conv0.tflite");
    let conv = graph.nodes.iter().find(|n| matches!(n.op, Op::Conv(_)));
    let bias = graph.value(conv.unwrap().inputs[2]);
    assert_eq!(bias.stored.as_ref().unwrap().bits, 64);
    let (model, graph) = of("transpose_conv/transpose_conv0.tflite");
    // The output's shape is an input there.
    assert_eq!(model.inputs().len(), 2);
    assert_eq!(graph.shape(graph.outputs[0]), [1, 64, 3, 12]);
    let (_, graph) = of("strided_slice/strided_slice0.tflite");
    assert_eq!(graph.nodes.len(), 1);
    let (model, graph) = of("quantize/quantize0.tflite");
    // Tensors without a name are called by their index.
    assert_eq!(model.inputs()[0].name, "0:");
    let kinds: Vec<_> = graph.nodes.iter().map(|n| &n.op).collect();
    assert!(matches!(kinds[..], [Op::Quantize(_)]));
}

/// Real files with single bits changed end in a graph or in a one-line error.
#[test]
fn damaged_files() {
    let Some(folder) = root("../../shared/models/tflite") else {
        return;
    };
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("model.tflite");
    for name in ["micro_speech_quantized.tflite", "hello_world_int8.tflite"] {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        for round in 0..400 {
            let mut changed = bytes.clone();
            // Tables lie at both ends.
            let at = match round % 3 {
                0 => 8 + round * 7 % 600,
                1 => bytes.len() - 1 - round * 7 % 1500,
                _ => 8 + round * 7919 % (bytes.len() - 8),
            };
            changed[at] ^= 1 << (round % 8);
            std::fs::write(&file, changed).unwrap();
            let result =
                Model::read(&file, &Limits::default()).and_then(|m| m.graph(&BTreeMap::new()));
            match result {
                Ok(graph) => assert!(!graph.outputs.is_empty()),
                Err(error) => {
                    let message = error.to_string();
                    assert!(!message.contains('\n'), "{message}");
                    assert!(message.contains("model.tflite"), "{message}");
                }
            }
        }
    }
}
