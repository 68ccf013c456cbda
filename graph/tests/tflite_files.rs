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
    if let Ok(f) = std::env::var("TFL_DIR") {
        for path in files(Path::new(&f)) {
            println!("{}", path.display());
            let (m, g) = load(&path);
            println!("{:?}", m.notes());
            if std::env::var("TFL_V").is_ok() {
                for n in &g.nodes {
                    println!(
                        "{} {} {:?} -> {} {:?}",
                        n.name,
                        n.op_type,
                        n.inputs
                            .iter()
                            .map(|&i| (
                                &g.values[i].name[..g.values[i].name.len().min(30)],
                                g.shape(i)
                            ))
                            .collect::<Vec<_>>(),
                        g.values[n.output].name,
                        g.shape(n.output)
                    );
                }
            }
        }
    }
}
