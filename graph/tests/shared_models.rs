//! Real files: those that lie in `../shared`, where that folder is there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use align_check_graph::{
    Constant, Error, Graph, IntegerRange, Limits, Model, Op, PadMode, Quantizer, ResizeAxis,
};

/// A file of `../shared/models`, or nothing (said out loud) where that folder is absent.
fn shared(name: &str) -> Option<PathBuf> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/models");
    if !models.is_dir() {
        eprintln!("skipped: ../shared is absent");
        return None;
    }
    Some(models.join(name))
}

fn load(name: &str) -> Option<(Model, Graph)> {
    let path = shared(name)?;
    let model = Model::read(&path, &Limits::default()).unwrap();
    let graph = model.graph(&BTreeMap::new()).unwrap();
    check(&graph);
    Some((model, graph))
}

/// What every graph promises.
fn check(graph: &Graph) {
    let mut known = vec![false; graph.values.len()];
    for &id in &graph.inputs {
        known[id] = true;
    }
    for (id, value) in graph.values.iter().enumerate() {
        if let Some(constant) = &value.constant {
            assert_eq!(constant.len(), value.len(), "{}", value.name);
            known[id] = true;
        }
    }
    let mut names = std::collections::HashSet::new();
    for node in &graph.nodes {
        assert!(names.insert(&node.name), "{} twice", node.name);
        assert!(
            node.inputs.iter().all(|&id| known[id]),
            "{} reads what is not made yet",
            node.name
        );
        assert!(
            !std::mem::replace(&mut known[node.output], true),
            "{} made twice",
            node.name
        );
    }
    assert!(graph.outputs.iter().all(|&id| known[id]));
    let mut names = std::collections::HashSet::new();
    assert!(graph.values.iter().all(|v| names.insert(&v.name)));
}

fn count(graph: &Graph, op_type: &str) -> usize {
    graph.nodes.iter().filter(|n| n.op_type == op_type).count()
}

fn inputs(model: &Model) -> Vec<(String, Vec<Option<usize>>)> {
    model
        .inputs()
        .into_iter()
        .map(|i| (i.name, i.dims))
        .collect()
}

#[test]
fn efficientnet_lite0() {
    for variant in ["w8a8", "w8a8-po2"] {
        let Some((model, graph)) = load(&format!("efficientnet-lite0/{variant}/model.qonnx.onnx"))
        else {
            return;
        };
        assert_eq!(model.format(), "qonnx");
        assert!(model.notes().is_empty(), "{:?}", model.notes());
        let four = [Some(1), Some(3), Some(224), Some(224)];
        assert_eq!(inputs(&model), [("x.4225".to_owned(), four.to_vec())]);
        assert_eq!(graph.shape(graph.outputs[0]), [1, 1000]);
        // The padding subgraphs fold; one reshape is left, before the last layer.
        let left: Vec<_> = [
            "Conv",
            "Quant",
            "Relu",
            "Add",
            "Pad",
            "Gemm",
            "GlobalAveragePool",
            "Reshape",
        ]
        .iter()
        .map(|op| count(&graph, op))
        .collect();
        assert_eq!(left, [49, 166, 33, 9, 5, 1, 1, 1], "{variant}");
        assert_eq!(graph.nodes.len(), left.iter().sum::<usize>());
        let pad = graph.nodes.iter().find(|n| n.op_type == "Pad").unwrap();
        let Op::Pad(pad) = &pad.op else { panic!() };
        assert_eq!(pad.mode, PadMode::Constant(0.0));
        assert_eq!(
            (&*pad.before, &*pad.after),
            (&[0, 0, 0, 0][..], &[0, 0, 1, 1][..])
        );
    }
}

#[test]
fn tfc() {
    for (name, bipolar, quant) in [("TFC_1W1A", 8, 0), ("TFC_1W2A", 4, 4), ("TFC_2W2A", 0, 8)] {
        let Some((model, graph)) = load(&format!("qonnx/{name}.onnx")) else {
            return;
        };
        assert_eq!(model.format(), "qonnx");
        assert_eq!(
            model.notes(),
            ["opset_import lacks domain onnx.brevitas: version 1 assumed"]
        );
        assert_eq!(graph.shape(graph.outputs[0]), [1, 10]);
        assert_eq!(
            (count(&graph, "BipolarQuant"), count(&graph, "Quant")),
            (bipolar, quant)
        );
        // The weights are quantized before they are transposed: both stay nodes.
        assert_eq!(
            (count(&graph, "Transpose"), count(&graph, "MatMul")),
            (4, 4)
        );
        assert_eq!((count(&graph, "Shape"), count(&graph, "Pow")), (0, 0));
        assert_eq!(
            graph.shape(
                graph
                    .nodes
                    .iter()
                    .find(|n| n.op_type == "Reshape")
                    .unwrap()
                    .output
            ),
            [1, 784]
        );
    }
}

#[test]
fn espcn() {
    let Some((model, graph)) = load("qonnx/espcn_nn_resize_quant_model.onnx") else {
        return;
    };
    assert!(model.notes().is_empty());
    let resize = graph.nodes.iter().find(|n| n.op_type == "Resize").unwrap();
    let Op::Resize(resize) = &resize.op else {
        panic!()
    };
    assert_eq!(resize.axes[..2], [ResizeAxis::Copy, ResizeAxis::Copy]);
    assert!(matches!(&resize.axes[2], ResizeAxis::Nearest(rows) if rows[..4] == [0, 0, 1, 1]));
    assert_eq!(graph.shape(graph.outputs[0]), [1, 3, 256, 256]);
    let per_channel = graph.nodes.iter().find_map(|n| match &n.op {
        Op::Quantize(Quantizer::Affine(a)) if a.scale.axis.is_some() => Some(a),
        _ => None,
    });
    let per_channel = per_channel.unwrap();
    assert_eq!(
        (per_channel.scale.axis, per_channel.scale.values.len()),
        (Some(0), 64)
    );

    let Some((_, graph)) = load("qonnx/espcn_subpixel_quant_model.onnx") else {
        return;
    };
    assert_eq!(graph.shape(graph.outputs[0]), [1, 3, 256, 256]);
    let shuffle = graph
        .nodes
        .iter()
        .find(|n| n.op_type == "DepthToSpace")
        .unwrap();
    assert!(matches!(
        shuffle.op,
        Op::DepthToSpace {
            block: 2,
            depth_first: false
        }
    ));
}

#[test]
fn annotated_input() {
    let Some((_, graph)) = load("qonnx/eltwise_chanlast_testcase.onnx") else {
        return;
    };
    let input = graph.value(graph.inputs[0]);
    assert_eq!(input.annotation, Some(IntegerRange { min: 0, max: 255 }));
    assert_eq!(
        graph.value(graph.outputs[0]).annotation,
        Some(IntegerRange { min: 0, max: 15 })
    );
    assert_eq!(graph.shape(graph.outputs[0]), [1, 32, 111, 111]);
}

#[test]
fn minifloat() {
    let Some((_, graph)) = load("qonnx/floatquant_act_weight_fp8.onnx") else {
        return;
    };
    let Op::Quantize(Quantizer::Minifloat(format)) = &graph.nodes[0].op else {
        panic!("{:?}", graph.nodes[0])
    };
    assert_eq!(
        (
            format.exponent_bits,
            format.mantissa_bits,
            format.exponent_bias
        ),
        (4, 3, 7.0)
    );
    assert_eq!(format.max_value, 448.0);
    assert!(format.saturating && format.has_nan && format.has_subnormal && !format.has_inf);
    let weights = graph
        .nodes
        .iter()
        .filter(|n| n.op_type == "FloatQuant")
        .nth(1)
        .unwrap();
    assert!(matches!(
        graph.value(weights.inputs[0]).constant.as_deref(),
        Some(Constant::F32(_))
    ));
}

#[test]
fn build_dataflow_stops_at_top_k() {
    let Some(path) = shared("qonnx/build_dataflow_model.onnx") else {
        return;
    };
    let model = Model::read(&path, &Limits::default()).unwrap();
    assert_eq!(model.format(), "qonnx");
    assert_eq!(
        model.notes(),
        ["opset_import lacks domain finn.custom_op.general: version 1 assumed"]
    );
    match model.graph(&BTreeMap::new()).unwrap_err() {
        Error::Unsupported { op_type, .. } => assert_eq!(op_type, "TopK"),
        other => panic!("{other}"),
    }
}

#[test]
fn qoperator_and_qdq() {
    let Some((model, qoperator)) = load("efficientnet-lite0/ort-qoperator/model.onnx") else {
        return;
    };
    assert_eq!(model.format(), "qoperator");
    assert!(model.notes().is_empty(), "{:?}", model.notes());
    let (model, qdq) = load("efficientnet-lite0/ort-qoperator/model.qdq.onnx").unwrap();
    assert_eq!(model.format(), "qdq");
    for graph in [&qoperator, &qdq] {
        let of = |test: fn(&Op) -> bool| graph.nodes.iter().filter(|n| test(&n.op)).count();
        assert_eq!(of(|op| matches!(op, Op::Conv(_))), 49);
        assert_eq!(of(|op| matches!(op, Op::Gemm(_))), 1);
        assert_eq!(of(|op| matches!(op, Op::Binary(_))), 9);
        assert_eq!(of(|op| matches!(op, Op::Mean { .. })), 1);
        // Every product: codes of 8 bits, and a bias on the grid that the product has.
        for node in &graph.nodes {
            if !matches!(node.op, Op::Conv(_) | Op::Gemm(_)) {
                continue;
            }
            let [_, w, bias] = node.inputs[..] else {
                panic!("{} has no bias", node.name);
            };
            let (w, bias) = (graph.value(w), graph.value(bias));
            let (sw, sb) = (w.stored.as_ref().unwrap(), bias.stored.as_ref().unwrap());
            assert!(matches!(w.constant.as_deref(), Some(Constant::I64(_))));
            assert!(matches!(bias.constant.as_deref(), Some(Constant::I64(_))));
            assert_eq!((sw.bits, sw.signed, sw.scale.axis), (8, true, Some(0)));
            assert_eq!((sb.bits, sb.scale.values.len()), (32, w.shape[0]));
        }
    }
    // The same step of the logits, one as an operator's, one as a node's.
    let step = |graph: &Graph, name: &str| {
        let id = graph.find(name).unwrap();
        graph.value(id).stored.clone().unwrap()
    };
    assert_eq!(
        step(&qoperator, "logits_quantized"),
        step(&qdq, "logits_QuantizeLinear_Output")
    );
    assert_eq!(inputs(&model)[0].0, "input");
}

#[test]
fn qcdq() {
    let Some((model, graph)) = load("efficientnet-lite0/w8a8-po2/model.qcdq.onnx") else {
        return;
    };
    assert_eq!(model.format(), "qdq");
    let weights: Vec<_> = graph
        .nodes
        .iter()
        .filter(|n| matches!(n.op, Op::Conv(_) | Op::Gemm(_)))
        .map(|n| graph.value(n.inputs[1]))
        .collect();
    assert_eq!(weights.len(), 50);
    // Clipped to [-127, 127]: the range of the codes is narrow.
    for weight in weights {
        let grid = weight.stored.as_ref().unwrap();
        assert_eq!((grid.bits, grid.signed, grid.narrow), (8, true, true));
    }
}

/// Models of ONNX Runtime's recordings, where they are there: each one loads.
#[test]
fn recorded_models() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden");
    let mut read = 0;
    for family in ["onnxruntime", "openvino", "pytorch", "onnx-reference"] {
        let Ok(cases) = std::fs::read_dir(golden.join(family)) else {
            eprintln!("skipped: golden/{family} is absent");
            continue;
        };
        for case in cases {
            let path = case.unwrap().path().join("model.onnx");
            if !path.is_file() {
                continue;
            }
            let model = Model::read(&path, &Limits::default()).unwrap();
            match model.graph(&BTreeMap::new()) {
                Ok(graph) => check(&graph),
                // What is refused, and why.
                Err(Error::Unsupported { op_type, what, .. }) if what.contains("blocked") => {
                    eprintln!("refused: {} ({op_type}: {what})", path.display());
                }
                Err(error) => panic!("{error}"),
            }
            read += 1;
        }
    }
    eprintln!("{read} models");
}

/// Flipped bytes in real files: the structure is between the weights, so most of the flips fall on the
/// first and the last kilobytes and on every hundredth byte or so in between.
#[test]
fn changed_bytes_do_not_panic() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.onnx");
    for name in [
        "TFC_2W2A",
        "eltwise_chanlast_testcase",
        "floatquant_act_weight_fp8",
    ] {
        let Some(path) = shared(&format!("qonnx/{name}.onnx")) else {
            return;
        };
        let bytes = std::fs::read(path).unwrap();
        for round in 0..150 {
            let mut changed = bytes.clone();
            let at = match round % 3 {
                0 => round * 7 % 1000,
                1 => bytes.len() - 1 - round * 7 % 1000,
                _ => round * 7919 % bytes.len(),
            };
            changed[at.min(bytes.len() - 1)] ^= 1 << (round % 8);
            std::fs::write(&file, changed).unwrap();
            let result =
                Model::read(&file, &Limits::default()).and_then(|m| m.graph(&BTreeMap::new()));
            if let Err(error) = result {
                assert!(!error.to_string().contains('\n'), "{error}");
            }
        }
    }
}

/// Prints how long the largest file takes: `cargo test --release -- --ignored --nocapture timing`.
#[test]
#[ignore = "a measurement"]
fn timing() {
    let Some(path) = shared("efficientnet-lite0/w8a8/model.qonnx.onnx") else {
        return;
    };
    for _ in 0..5 {
        let start = std::time::Instant::now();
        let model = Model::read(&path, &Limits::default()).unwrap();
        let read = start.elapsed();
        let graph = model.graph(&BTreeMap::new()).unwrap();
        println!(
            "read {read:?}, read and bound {:?}, {} nodes",
            start.elapsed(),
            graph.nodes.len()
        );
    }
}
