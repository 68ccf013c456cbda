//! `TFLite` files that are damaged, strange or mean harm: a graph, a note or a one-line error.

mod tflite_writer;

use std::collections::HashSet;

use align_check_graph::{Constant, Error, Limits, Model, Op};
use proptest::prelude::*;
use tflite_writer::{
    Build, Field, INT8, INT32, STRING, Tensor, int8, list, names, node, read_bytes, real, says,
    support, tensor, value,
};

fn small() -> Build {
    let [one, none] = [Field::I32(1), Field::I8(0)];
    let window = [Field::I8(0), one.clone(), one.clone(), none];
    Build::new()
        .input(int8("x", &[1, 3, 3, 2], 0.5, 0).signature(&[-1, 3, 3, 2]))
        .with(
            int8("w", &[2, 1, 1, 2], 0.5, 0)
                .codes(&[1, 2, 3, 4])
                .grids(&[0.5, 0.25], &[0, 0], 0),
        )
        .with(tensor("b", INT32, &[2]).ints(&[1, 2]).grid(0.25, 0))
        .with(int8("c", &[1, 3, 3, 2], 0.5, 3))
        .with(list("axes", &[1, 2]))
        .with(int8("m", &[1, 2], 0.5, 3))
        .with(list("shape", &[2, -1]))
        .with(int8("r", &[2, 1], 0.5, 3))
        .output(int8("y", &[2, 1], 0.25, 3))
        .node_with("CONV_2D", &["x", "w", "b"], &["c"], &window)
        .node_with("MEAN", &["c", "axes"], &["m"], &[Field::I8(0)])
        .node("RESHAPE", &["m", "shape"], &["r"])
        .node_with("SOFTMAX", &["r"], &["y"], &[Field::F32(2.0)])
}

/// Loads whatever the bytes are; an error must be one line.
fn survive(bytes: &[u8]) {
    support::survive("model.tflite", |limits| read_bytes(bytes, limits));
}

#[test]
fn truncated_at_every_length() {
    let bytes = small().bytes();
    small().graph();
    support::truncated(&bytes, survive);
    let cut = read_bytes(&bytes[..8], &Limits::default()).unwrap_err();
    says(&cut.to_string(), &["damaged"]);
}

#[test]
fn changed_bytes() {
    support::changed(&small().bytes(), survive);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let bytes = [&[16, 0, 0, 0][..], b"TFL3", &bytes].concat();
        survive(&bytes);
    }

    #[test]
    fn several_changes(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = small().bytes();
        for (at, value) in changes {
            let at = 8 + at.index(bytes.len() - 8);
            bytes[at] = value;
        }
        survive(&bytes);
    }
}

#[test]
fn the_identifier_tells_the_format() {
    assert_eq!(small().read().unwrap().format(), "tflite");
    let mut bytes = small().bytes();
    bytes[7] = b'2';
    // Whatever it is, it is no TFLite file, and is read as ONNX.
    let error = read_bytes(&bytes, &Limits::default()).unwrap_err();
    assert!(!error.to_string().contains("TFLite"), "{error}");
    let mut old = small();
    old.version = 2;
    says(&old.malformed(), &["version 2", "TFLite"]);
    let missing = Model::read(
        std::path::Path::new("no/such/file.tflite"),
        &Limits::default(),
    );
    assert!(matches!(missing, Err(Error::Io { .. })));
}

#[test]
fn limits() {
    let with = |limits| Build { limits, ..small() };
    let all = Limits::default();
    says(
        &with(Limits {
            file_bytes: 100,
            ..all.clone()
        })
        .malformed(),
        &["larger than", "100"],
    );
    says(
        &with(Limits {
            nodes: 3,
            ..all.clone()
        })
        .malformed(),
        &["limit is 3"],
    );
    says(
        &with(Limits {
            tensor_elements: 17,
            ..all.clone()
        })
        .malformed(),
        &["'x'", "17 elements"],
    );
    says(
        &with(Limits {
            constant_elements: 7,
            ..all.clone()
        })
        .malformed(),
        &["'b'", "quantization parameters", "limit"],
    );
    says(&with(Limits { rank: 3, ..all }).malformed(), &["4 axes"]);
}

#[test]
fn huge_shapes() {
    for shape in [
        &[i32::MAX, i32::MAX, i32::MAX][..],
        &[1 << 20, 1 << 20],
        &[0, i32::MAX, i32::MAX],
    ] {
        let build = Build::new()
            .input(real("x", shape))
            .output(real("y", shape))
            .node("RELU", &["x"], &["y"]);
        says(&build.malformed(), &["'x'", "limit"]);
    }
    let negative = Build::new()
        .input(real("x", &[-2]))
        .output(real("y", &[2]))
        .node("RELU", &["x"], &["y"]);
    says(&negative.malformed(), &["negative"]);
    let padded = Build::new()
        .input(real("x", &[2]))
        .with(tensor("n", INT32, &[1, 2]).ints(&[i32::MAX, i32::MAX]))
        .output(real("y", &[2]))
        .node("PAD", &["x", "n"], &["y"]);
    says(&padded.malformed(), &["PAD_0", "limit"]);
    let resized = Build::new()
        .input(real("x", &[1, 1, 1, 1]))
        .with(list("n", &[i32::MAX, 1]))
        .output(real("y", &[1, 1, 1, 1]))
        .node("RESIZE_BILINEAR", &["x", "n"], &["y"]);
    says(&resized.malformed(), &["limit"]);
    let pooled = Build::new()
        .input(real("x", &[1, 1, 1, 1]))
        .output(real("y", &[1, 1, 1, 1]))
        .node_with(
            "MAX_POOL_2D",
            &["x"],
            &["y"],
            &[
                Field::I8(0),
                Field::I32(1),
                Field::I32(1),
                Field::I32(1 << 29),
                Field::I32(1 << 29),
            ],
        );
    says(&pooled.malformed(), &["limit"]);
    // Each is small; together they are not.
    let mut many = Build::new()
        .input(real("x", &[1]))
        .output(real("y", &[1 << 12]));
    many.limits.constant_elements = 3 << 12;
    for i in 0..4 {
        let constant = real(&format!("c{i}"), &[1 << 12]).reals(&vec![1.0; 1 << 12]);
        many = many.with(constant);
    }
    for i in 0..4 {
        let (sum, name) = (format!("s{i}"), format!("c{i}"));
        let before = if i == 0 {
            "x".to_owned()
        } else {
            format!("s{}", i - 1)
        };
        many = many
            .with(real(&sum, &[1 << 12]))
            .node("ADD", &[&before, &name], &[&sum]);
    }
    says(
        &many.node("RELU", &["s3"], &["y"]).malformed(),
        &["together"],
    );
}

#[test]
fn order_and_indices() {
    let start = || {
        Build::new()
            .input(real("x", &[2]))
            .with(real("a", &[2]))
            .output(real("y", &[2]))
    };
    says(
        &start()
            .node("RELU", &["a"], &["y"])
            .node("RELU", &["x"], &["a"])
            .malformed(),
        &["RELU_0", "'a'", "not made before"],
    );
    says(&start().malformed(), &["no node makes", "'y'"]);
    says(
        &start()
            .node("RELU", &["x"], &["y"])
            .node("RELU", &["x"], &["y"])
            .malformed(),
        &["RELU_1", "'y'"],
    );
    says(&start().node("RELU", &["x"], &["x"]).malformed(), &["'x'"]);
    says(
        &start().raw_node("RELU", &[9], &[2], &[]).malformed(),
        &["tensor 9", "3"],
    );
    says(
        &start().raw_node("RELU", &[-2], &[2], &[]).malformed(),
        &["tensor -2"],
    );
    says(
        &start().raw_node("RELU", &[0], &[-1], &[]).malformed(),
        &["tensor -1"],
    );
    says(
        &start().raw_node("RELU", &[], &[2], &[]).malformed(),
        &["RELU_0", "input 1 is missing"],
    );
    let mut twice = start().node("RELU", &["x"], &["y"]);
    twice.inputs.push(0);
    says(&twice.malformed(), &["'x'", "twice"]);
    let mut silent = start().node("RELU", &["x"], &["y"]);
    silent.outputs.clear();
    says(&silent.malformed(), &["no output"]);
    // What no output needs is not looked at.
    let graph = start()
        .node("GELU", &["x"], &["a"])
        .node("RELU", &["x"], &["y"])
        .graph();
    assert_eq!(names(&graph), ["RELU_1"]);
    // An input may be an output.
    let mut through = Build::new().input(real("x", &[2]));
    through.outputs.push(0);
    let graph = through.graph();
    assert_eq!(graph.outputs, graph.inputs);
}

#[test]
fn tensors_get_unique_names() {
    let graph = Build::new()
        .input(real("same", &[2]))
        .with(real("1:same", &[2]))
        .with(real("", &[2]))
        .output(real("last", &[2]))
        .raw_node("RELU", &[0], &[1], &[])
        .raw_node("RELU", &[1], &[2], &[])
        .raw_node("RELU", &[2], &[3], &[])
        .graph();
    let found: Vec<_> = graph.values.iter().map(|v| v.name.as_str()).collect();
    assert_eq!(found, ["same", "1:same", "2:", "last"]);
    assert_eq!(value(&graph, "2:").aliases, ["2:", "2"]);
    let graph = Build::new()
        .input(real("same", &[2]))
        .with(real("same", &[2]))
        .output(real("0:same", &[2]))
        .raw_node("RELU", &[0], &[1], &[])
        .raw_node("RELU", &[1], &[2], &[])
        .graph();
    let found: HashSet<_> = graph.values.iter().map(|v| v.name.as_str()).collect();
    assert_eq!(found, HashSet::from(["0:same'", "1:same", "0:same"]));
    assert_eq!(graph.value(0).aliases, ["0:same", "0"]);
    // Names that the importer would give.
    let graph = Build::new()
        .input(int8("x", &[1, 1, 1, 1], 0.5, 0))
        .with(int8("x (channels first)", &[1, 1, 1, 1], 0.5, 0))
        .output(int8("y", &[1, 1, 1, 1], 0.5, 0))
        .node("RELU", &["x"], &["x (channels first)"])
        .node_with(
            "MAX_POOL_2D",
            &["x"],
            &["y"],
            &[Field::I8(0)]
                .into_iter()
                .chain([1, 1, 1, 1].map(Field::I32))
                .collect::<Vec<_>>(),
        )
        .graph();
    assert_eq!(names(&graph), ["x (channels first)_1", "MAX_POOL_2D_1"]);
}

#[test]
fn input_shapes() {
    let build = small();
    let model = build.read().unwrap();
    let info = &model.inputs()[0];
    assert_eq!(info.dims, [None, Some(3), Some(3), Some(2)]);
    let mut batch = small();
    batch.tensors[8].signature = vec![2, -1];
    let graph = batch.shape("x", &[4, 3, 3, 2]).graph();
    assert_eq!(graph.shape(graph.outputs[0]), [2, 4]);
    let input = |build: Build| match build.error() {
        Error::Input { input, what, .. } => format!("{input}: {what}"),
        other => panic!("{other}"),
    };
    says(
        &input(small().shape("x", &[1, 3, 4, 2])),
        &["x", "[1, 3, 4, 2]", "[1, 3, 3, 2]"],
    );
    says(&input(small().shape("x", &[3])), &["[3]"]);
    says(&input(small().shape("z", &[3])), &["no such input", "x"]);
    says(&input(small().shape("x", &[0, 3, 3, 2])), &["no element"]);
    let text = Build::new()
        .input(tensor("x", STRING, &[1]))
        .output(real("y", &[1]))
        .node("RELU", &["x"], &["y"]);
    says(&input(text), &["STRING"]);
}

#[test]
fn grids_that_make_no_sense() {
    let with = |x: Tensor| {
        Build::new()
            .input(int8("z", &[2, 3], 0.5, 0))
            .with(x)
            .output(int8("y", &[2, 3], 0.5, 0))
            .node("ADD", &["z", "c"], &["y"])
    };
    let c = || tensor("c", INT8, &[2, 3]).codes(&[0; 6]);
    with(c().grid(0.5, 127)).graph();
    with(c().grids(&[0.5, 0.25, 1.0], &[0; 3], 1)).graph();
    with(c().grids(&[0.5, 0.25], &[1], 0)).graph();
    says(
        &with(c()).malformed(),
        &["ADD_0", "'c'", "INT8", "no quantization parameters"],
    );
    for bad in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        says(&with(c().grid(bad, 0)).unsupported(), &["'c'", "scale"]);
    }
    says(&with(c().grid(0.5, 128)).unsupported(), &["zero point 128"]);
    says(
        &with(c().grids(&[0.5; 3], &[0; 3], 0)).unsupported(),
        &["3 scales", "[2, 3]"],
    );
    says(
        &with(c().grids(&[0.5; 3], &[0; 3], -1)).unsupported(),
        &["axis -1"],
    );
    says(
        &with(c().grids(&[0.5; 3], &[0; 2], 1)).unsupported(),
        &["3 scales and 2 zero points"],
    );
    let mut blocks = c().grid(0.5, 0);
    blocks.details = 2;
    says(&with(blocks).unsupported(), &["blocks"]);
    let mut short = c().grid(0.5, 0);
    short.data.pop();
    says(&with(short).malformed(), &["5 bytes", "needs 6"]);
    // Integers that are only moved need no scale.
    let graph = Build::new()
        .input(tensor("x", INT8, &[2, 3]))
        .output(tensor("y", INT8, &[6]))
        .node("RESHAPE", &["x"], &["y"])
        .graph();
    let stored = value(&graph, "x").stored.as_ref().unwrap();
    assert_eq!((stored.scale.at(0), stored.zero_point.at(0)), (1.0, 0.0));
    says(
        &Build::new()
            .input(int8("x", &[2, 3], 0.5, 0))
            .output(tensor("y", INT8, &[2, 3]))
            .node("RELU", &["x"], &["y"])
            .malformed(),
        &["RELU_0", "'y'", "no quantization parameters"],
    );
}

#[test]
fn what_is_assumed_is_said() {
    assert!(small().notes().is_empty());
    let mut patched = small();
    patched.tensors[2] = patched.tensors[2].clone().grids(&[0.25, 0.125], &[0, 0], 3);
    says(&patched.notes(), &["channel axis", "'b'"]);
    let graph = patched.graph();
    assert_eq!(
        value(&graph, "b").stored.as_ref().unwrap().scale.axis,
        Some(0)
    );
    // A bias without a scale.
    let mut bare = small();
    bare.tensors[2].scales.clear();
    says(&bare.notes(), &["CONV_2D_0", "bias has no scale"]);
    let graph = bare.graph();
    let bias = value(&graph, "b (of CONV_2D_0)");
    assert_eq!(bias.stored.as_ref().unwrap().scale.values, [0.25, 0.125]);
    assert_eq!(bias.constant.as_deref(), Some(&Constant::I64(vec![1, 2])));
    // Integer weights for reals.
    let hybrid = Build::new()
        .input(real("x", &[1, 2]))
        .with(int8("w", &[1, 2], 0.5, 0).codes(&[1, 2]))
        .output(real("y", &[1, 1]))
        .node("FULLY_CONNECTED", &["x", "w"], &["y"]);
    says(&hybrid.notes(), &["FULLY_CONNECTED_0", "float input"]);
    let mut several = small();
    several.subgraphs = 3;
    says(&several.notes(), &["2 more subgraphs"]);
}

#[test]
fn what_is_not_evaluated_is_said() {
    let xy = || Build::new().input(real("x", &[2])).output(real("y", &[2]));
    says(
        &xy().node("GELU", &["x"], &["y"]).unsupported(),
        &["GELU_0", "(GELU)", "not evaluated"],
    );
    says(
        &xy().node("CUSTOM", &["x"], &["y"]).unsupported(),
        &["CUSTOM Mine"],
    );
    let with = |tensor: Tensor| {
        xy().with(tensor)
            .node("ADD", &["x", "c"], &["y"])
            .unsupported()
    };
    let c = || real("c", &[2]).reals(&[1.0, 2.0]);
    says(
        &with(Tensor {
            sparse: true,
            ..c()
        }),
        &["ADD_0", "'c'", "sparse"],
    );
    says(&with(Tensor { external: 1, ..c() }), &["another file"]);
    says(
        &with(Tensor {
            variable: true,
            data: Vec::new(),
            ..c()
        }),
        &["variable"],
    );
    let leaky = |alpha| xy().node_with("LEAKY_RELU", &["x"], &["y"], &[Field::F32(alpha)]);
    says(&leaky(f32::NAN).malformed(), &["alpha"]);
    let mut other = leaky(0.5);
    other.operators[0].options = Some((1, vec![Field::F32(0.5)]));
    says(&other.malformed(), &["LEAKY_RELU_0", "another operator"]);
    let computed = xy()
        .with(tensor("t", INT32, &[1]))
        .input(tensor("s", INT32, &[1]))
        .node("RESHAPE", &["x", "s"], &["y"]);
    says(&computed.unsupported(), &["'s'", "computed from data"]);
}

#[test]
fn empty_parameters_are_constants() {
    // The target shape of a scalar is an empty tensor.
    let graph = Build::new()
        .input(real("x", &[1, 1]))
        .with(tensor("t", INT32, &[0]))
        .output(real("y", &[]))
        .node("RESHAPE", &["x", "t"], &["y"])
        .graph();
    assert_eq!(node(&graph, "RESHAPE_0").op, Op::Reshape);
    assert!(value(&graph, "y").shape.is_empty());
}
