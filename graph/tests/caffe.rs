//! Caffe networks: blobs and their versions, phases, extents of pools, clip values. What layers compute is held
//! against `PyTorch` in `tests/caffe.rs` of the workspace.

mod caffe_writer;

use std::collections::BTreeMap;

use align_check_graph::{Gfpq, Graph, Limits, Model, Op, Quantizer};
use caffe_writer::{behind, blob, graph, layer, one, read};

fn shape_of(graph: &Graph, name: &str) -> Vec<usize> {
    let id = graph.find(name).unwrap_or_else(|| panic!("no {name}"));
    graph.shape(id).to_vec()
}

fn names(graph: &Graph) -> Vec<&str> {
    graph
        .nodes
        .iter()
        .map(|n| graph.value(n.output).name.as_str())
        .collect()
}

#[test]
fn the_four_ways_to_declare_an_input() {
    let relu = "layer { name: \"r\" type: \"ReLU\" bottom: \"x\" top: \"y\" }";
    for input in [
        "input: \"x\" input_dim: 1 input_dim: 3 input_dim: 4 input_dim: 5",
        "input: \"x\" input_shape { dim: 1 dim: 3 dim: 4 dim: 5 }",
        "layer { name: \"x\" type: \"Input\" top: \"x\" input_param { shape { dim: [1, 3, 4, 5] } } }",
        "layer { name: \"x\" type: \"MemoryData\" top: \"x\" top: \"label\" memory_data_param { \
         batch_size: 1 channels: 3 height: 4 width: 5 } }",
    ] {
        let graph = graph(&format!("{input}\n{relu}"), vec![]).unwrap();
        assert_eq!(shape_of(&graph, "y"), [1, 3, 4, 5], "{input}");
        assert_eq!(graph.inputs.len(), 1, "{input}");
    }
    let open = format!(
        "layer {{ name: \"x\" type: \"Data\" top: \"x\" top: \"label\" data_param {{ batch_size: 16 }} \
         transform_param {{ crop_size: 4 }} }}\n{relu}"
    );
    let model = read(open.as_bytes(), None, &Limits::default()).unwrap();
    assert_eq!(model.inputs()[0].dims, [Some(16), None, Some(4), Some(4)]);
    let error = model.graph(&BTreeMap::new()).unwrap_err().to_string();
    assert!(
        error.contains("input 'x'") && error.contains("open"),
        "{error}"
    );
    let shapes = BTreeMap::from([("x".to_owned(), vec![2, 3, 4, 4])]);
    assert_eq!(shape_of(&model.graph(&shapes).unwrap(), "y"), [2, 3, 4, 4]);
    let wrong = BTreeMap::from([("x".to_owned(), vec![2, 3, 4, 5])]);
    let error = model.graph(&wrong).unwrap_err().to_string();
    assert!(error.contains("[2, 3, 4, 5] was given"), "{error}");
}

/// The last version of a blob has its name, as `net.blobs` shows it; every other one its layer's beside it.
#[test]
fn versions_of_a_blob_that_layers_change_in_place() {
    let text = behind(
        &[1, 2],
        "layer { name: \"a\" type: \"TanH\" bottom: \"x\" top: \"y\" }\n\
         layer { name: \"b\" type: \"Sigmoid\" bottom: \"y\" top: \"y\" }\n\
         layer { name: \"c\" type: \"ReLU\" bottom: \"y\" top: \"y\" }\n\
         layer { name: \"d\" type: \"ReLU\" bottom: \"x\" top: \"x\" }\n\
         layer { name: \"e\" type: \"Eltwise\" bottom: \"x\" bottom: \"y\" top: \"z\" }",
    );
    let graph = graph(&text, vec![]).unwrap();
    assert_eq!(names(&graph), ["y@a", "y@b", "y", "x@d", "z"]);
    let aliases = |name: &str| graph.value(graph.find(name).unwrap()).aliases.clone();
    assert_eq!(
        [aliases("y@a"), aliases("y"), aliases("z")],
        [["a"], ["c"], ["e"]]
    );
    let sum = &graph.nodes[4];
    let read: Vec<&str> = sum
        .inputs
        .iter()
        .map(|&i| graph.value(i).name.as_str())
        .collect();
    assert_eq!(read, ["x@d", "y"]);
    assert_eq!(graph.outputs, [sum.output]);
}

#[test]
fn layers_of_the_other_phase_are_left_out() {
    let text = behind(
        &[1, 2],
        "layer { name: \"t\" type: \"TanH\" bottom: \"x\" top: \"y\" include { phase: TRAIN } }\n\
         layer { name: \"u\" type: \"ReLU\" bottom: \"x\" top: \"y\" exclude { phase: TRAIN } }\n\
         layer { name: \"v\" type: \"ReLU\" bottom: \"x\" top: \"w\" include { stage: \"deploy\" } }\n\
         layer { name: \"l\" type: \"SoftmaxWithLoss\" bottom: \"y\" bottom: \"label\" top: \"loss\" }",
    );
    let made = graph(&text, vec![]).unwrap();
    assert_eq!(names(&made), ["y"]);
    let staged = graph(&format!("state {{ stage: \"deploy\" }}\n{text}"), vec![]).unwrap();
    assert_eq!(names(&staged), ["y", "w"]);
    let model = read(text.as_bytes(), None, &Limits::default()).unwrap();
    assert_eq!(
        model.notes(),
        ["layer 'l' (SoftmaxWithLoss) is for training and left out"]
    );
}

/// Extents by hand from the formula: up, and a last window that starts in the padding behind is dropped.
#[test]
fn extents_of_pools() {
    for (extent, param, expected) in [
        (6, "kernel_size: 3 stride: 2", 3),
        (7, "kernel_size: 3 stride: 2", 3),
        (6, "kernel_size: 3 stride: 2 ceil_mode: false", 2),
        (6, "kernel_size: 3 stride: 2 round_mode: FLOOR", 2),
        (6, "kernel_size: 3 stride: 2 pad: 1", 4),
        (5, "kernel_size: 2 stride: 2 pad: 1", 3),
        (4, "kernel_size: 3 stride: 3 pad: 2", 2),
        (8, "global_pooling: true pool: MAX", 1),
    ] {
        let layers = one("Pooling", &format!("pooling_param {{ {param} }}"));
        let graph = graph(&behind(&[1, 1, extent, extent], &layers), vec![]).unwrap();
        assert_eq!(
            shape_of(&graph, "y"),
            [1, 1, expected, expected],
            "{extent}: {param}"
        );
    }
    let mean = one(
        "Pooling",
        "pooling_param { pool: AVE global_pooling: true }",
    );
    let graph = graph(&behind(&[1, 2, 3, 4], &mean), vec![]).unwrap();
    assert_eq!(graph.nodes[0].op, Op::Mean { axes: vec![2, 3] });
}

/// Each bottom gets a quantizer, readers with the same clip value share it; weights get their own range, and
/// `_hp` layers 16 bits.
#[test]
fn clip_values() {
    let conv = |name: &str, clip: &str| {
        format!(
            "layer {{ name: \"{name}\" type: \"Convolution\" bottom: \"x\" top: \"{name}\" {clip} convolution_param \
             {{ num_output: 1 kernel_size: 1 bias_term: false }} }}\n"
        )
    };
    let text = behind(
        &[1, 1, 2, 2],
        &[
            conv("a", "gfpq_param: 4"),
            conv("b", "gfpq_param: 4.0"),
            conv("c_hp", "gfpq_param: 4"),
            conv("d", "gfpq_param: 4.1"),
            conv("e", ""),
        ]
        .concat(),
    );
    let weights = || vec![blob(&[1, 1, 1, 1], &[0.5])];
    let layers = ["a", "b", "c_hp", "d", "e"].map(|name| layer(name, weights()));
    let made = graph(&text, layers.to_vec()).unwrap();
    let gfpq = |node: &align_check_graph::Node| match &node.op {
        Op::Quantize(Quantizer::Gfpq(gfpq)) => {
            Some((made.value(node.inputs[0]).name.clone(), gfpq.bits(), gfpq.z))
        }
        _ => None,
    };
    let found: Vec<_> = made.nodes.iter().filter_map(gfpq).collect();
    let row = |name: &str, bits, z| (name.to_owned(), bits, z);
    assert_eq!(
        found,
        [
            row("x", 8, Some(32 - 127)),
            row("a.weight", 8, None),
            row("b.weight", 8, None),
            row("x", 16, Some(256 - 1407)),
            row("c_hp.weight", 16, None),
            // 16 * log2(4.1) is 32.57: the row below, and so the quantizer of `a` and `b` again.
            row("d.weight", 8, None),
        ]
    );
    assert_eq!(
        Gfpq::of_clip(8, 4.1).unwrap().off_table(4.1),
        Some((4.0, 4.177_095))
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.prototxt");
    std::fs::write(&path, &text).unwrap();
    let model = Model::read(&path, &Limits::default()).unwrap();
    let notes = model.notes().join("\n");
    for part in [
        "4 of 5 layers have clip values",
        "layer 'd': clip value 4.1 is no row",
        "below it (4;",
    ] {
        assert!(notes.contains(part), "{part}: {notes}");
    }
}

/// Weights that are shared by name, and old files that pad every shape to four axes.
#[test]
fn where_weights_come_from() {
    let fc = |name: &str, bottom: &str| {
        format!(
            "layer {{ name: \"{name}\" type: \"InnerProduct\" bottom: \"{bottom}\" top: \"{name}\" \
             param {{ name: \"w\" }} param {{ name: \"b\" }} inner_product_param {{ num_output: 2 }} }}\n"
        )
    };
    let text = behind(&[1, 2], &[fc("a", "x"), fc("b", "a")].concat());
    let mut old = blob(&[], &[1.0, 2.0, 3.0, 4.0]);
    old.shape = None;
    (old.num, old.channels, old.height, old.width) = (Some(1), Some(1), Some(2), Some(2));
    let bias = align_check_graph::caffe::proto::BlobProto {
        data: vec![],
        double_data: vec![0.5, -0.5],
        ..blob(&[2], &[])
    };
    let made = graph(&text, vec![layer("a", vec![old, bias])]).unwrap();
    let constant = |name: &str| {
        made.value(made.find(name).unwrap())
            .constant
            .clone()
            .unwrap()
    };
    assert_eq!(constant("a.weight").to_f32(), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(constant("b.weight"), constant("a.weight"));
    assert_eq!(constant("b.bias").to_f32(), [0.5, -0.5]);
}
