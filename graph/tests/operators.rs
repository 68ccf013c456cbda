//! Each operator resolves to the parameters and the shape that ONNX gives it.

mod common;

use align_check_graph::{Activation, Binary, Error, Gemm, Op, Pad, PadMode};
use common::{Build, float, int, ints, says, text};

#[test]
fn gemm() {
    let build = Build::xy(11, &[5, 2]).zeros("w", &[3, 5]).zeros("c", &[3]);
    let attrs = [
        float("alpha", 0.5),
        float("beta", 2.0),
        int("transA", 1),
        int("transB", 1),
    ];
    let (op, shape) = build
        .clone()
        .node("Gemm", &["x", "w", "c"], &["y"], &attrs)
        .op();
    assert_eq!(
        op,
        Op::Gemm(Gemm {
            alpha: 0.5,
            beta: 2.0,
            trans_a: true,
            trans_b: true
        })
    );
    assert_eq!(shape, [2, 3]);
    says(
        &build
            .clone()
            .node("Gemm", &["x", "w"], &["y"], &[])
            .malformed(),
        &["2 and 3"],
    );
    for (dims, fits) in [
        (&[2, 1][..], true),
        (&[1, 3], true),
        (&[], true),
        (&[2], false),
        (&[1, 2, 3], false),
    ] {
        let with = build
            .clone()
            .zeros("d", dims)
            .node("Gemm", &["x", "w", "d"], &["y"], &attrs);
        assert_eq!(with.load().is_ok(), fits, "{dims:?}");
    }
}

#[test]
fn matmul() {
    let shape = |x: &[i64], w: &[i64]| {
        Build::xy(13, x)
            .zeros("w", w)
            .node("MatMul", &["x", "w"], &["y"], &[])
            .op()
            .1
    };
    assert_eq!(shape(&[2, 3], &[3, 4]), [2, 4]);
    assert_eq!(shape(&[5, 1, 2, 3], &[7, 3, 4]), [5, 7, 2, 4]);
    // Vectors get an axis and lose it again.
    let graph = Build::xy(13, &[6, 2, 3])
        .zeros("w", &[3])
        .node("MatMul", &["x", "w"], &["y"], &[])
        .graph();
    let ops: Vec<_> = graph
        .nodes
        .iter()
        .map(|n| (n.name.as_str(), n.op_type.as_str()))
        .collect();
    assert_eq!(
        ops,
        [("MatMul_0", "MatMul"), ("MatMul_0.vector", "Reshape")]
    );
    assert_eq!(graph.shape(graph.nodes[0].inputs[1]), [3, 1]);
    assert_eq!(graph.shape(graph.outputs[0]), [6, 2]);
    let graph = Build::xy(13, &[3])
        .zeros("w", &[3])
        .node("MatMul", &["x", "w"], &["y"], &[])
        .graph();
    assert_eq!(graph.shape(graph.outputs[0]), [0usize; 0]);
    says(
        &Build::xy(13, &[2, 3])
            .zeros("w", &[4, 3])
            .node("MatMul", &["x", "w"], &["y"], &[])
            .malformed(),
        &["3 and 4"],
    );
}

#[test]
fn elementwise_with_two_inputs() {
    for (name, op) in [
        ("Add", Binary::Add),
        ("Sub", Binary::Sub),
        ("Mul", Binary::Mul),
        ("Div", Binary::Div),
        ("Sum", Binary::Add),
    ] {
        let build = Build::xy(13, &[2, 1, 4]).zeros("w", &[3, 1]);
        assert_eq!(
            build.node(name, &["x", "w"], &["y"], &[]).op(),
            (Op::Binary(op), vec![2, 3, 4])
        );
    }
    let clash = Build::xy(13, &[2, 3])
        .zeros("w", &[2])
        .node("Add", &["x", "w"], &["y"], &[]);
    says(&clash.malformed(), &["Add_0", "[2, 3]", "[2]"]);
    let old = Build::xy(6, &[2, 3]).zeros("w", &[2]).node(
        "Add",
        &["x", "w"],
        &["y"],
        &[int("broadcast", 1), int("axis", 0)],
    );
    says(&old.unsupported(), &["axis"]);
}

#[test]
fn activations() {
    let resolve = |opset, name: &str, attrs: &[_]| {
        let (op, shape) = Build::xy(opset, &[2, 3])
            .node(name, &["x"], &["y"], attrs)
            .op();
        assert_eq!(shape, [2, 3]);
        let Op::Activation(activation) = op else {
            panic!()
        };
        activation
    };
    assert_eq!(resolve(13, "Relu", &[]), Activation::Relu);
    assert_eq!(resolve(13, "Sigmoid", &[]), Activation::Sigmoid);
    assert_eq!(resolve(13, "Tanh", &[]), Activation::Tanh);
    assert_eq!(resolve(14, "HardSwish", &[]), Activation::HardSwish);
    assert_eq!(
        resolve(13, "LeakyRelu", &[]),
        Activation::LeakyRelu { alpha: 0.01 }
    );
    assert_eq!(
        resolve(13, "HardSigmoid", &[float("alpha", 0.25)]),
        Activation::HardSigmoid {
            alpha: 0.25,
            beta: 0.5
        }
    );
    assert_eq!(
        resolve(6, "Clip", &[float("min", 0.0), float("max", 6.0)]),
        Activation::Clip { min: 0.0, max: 6.0 }
    );
    assert_eq!(
        resolve(6, "Clip", &[]),
        Activation::Clip {
            min: f32::NEG_INFINITY,
            max: f32::INFINITY
        }
    );
    let clip = Build::xy(11, &[3]).scalar("low", -1.0).scalar("high", 1.0);
    let (op, _) = clip
        .clone()
        .node("Clip", &["x", "low", "high"], &["y"], &[])
        .op();
    assert_eq!(
        op,
        Op::Activation(Activation::Clip {
            min: -1.0,
            max: 1.0
        })
    );
    let (op, _) = clip.node("Clip", &["x", "", "high"], &["y"], &[]).op();
    assert_eq!(
        op,
        Op::Activation(Activation::Clip {
            min: f32::NEG_INFINITY,
            max: 1.0
        })
    );
    let nan = Build::xy(11, &[3])
        .scalar("low", f32::NAN)
        .node("Clip", &["x", "low"], &["y"], &[]);
    says(&nan.malformed(), &["not a number"]);
    let data = Build::xy(11, &[3])
        .input("low", &[])
        .node("Clip", &["x", "low"], &["y"], &[]);
    says(&data.unsupported(), &["low", "constant"]);
}

#[test]
fn prelu() {
    let (node, shape) = Build::xy(9, &[1, 3, 2, 2])
        .zeros("slope", &[3, 1, 1])
        .node("PRelu", &["x", "slope"], &["y"], &[])
        .only();
    assert_eq!(
        (node.op, node.inputs.len(), shape),
        (Op::Activation(Activation::PRelu), 2, vec![1, 3, 2, 2])
    );
    let old = Build::xy(6, &[1, 3, 2, 2])
        .zeros("slope", &[3])
        .node("PRelu", &["x", "slope"], &["y"], &[])
        .graph();
    assert_eq!(old.shape(old.nodes[0].inputs[1]), [3, 1, 1]);
    let wide =
        Build::xy(9, &[1, 3])
            .zeros("slope", &[2, 3])
            .node("PRelu", &["x", "slope"], &["y"], &[]);
    says(&wide.malformed(), &["slope"]);
}

#[test]
fn softmax() {
    let node =
        |opset, attrs: &[_]| Build::xy(opset, &[2, 3, 4]).node("Softmax", &["x"], &["y"], attrs);
    assert_eq!(node(13, &[]).op().0, Op::Softmax { axis: 2, beta: 1.0 });
    assert_eq!(
        node(13, &[int("axis", -2)]).op().0,
        Op::Softmax { axis: 1, beta: 1.0 }
    );
    assert_eq!(
        node(11, &[int("axis", 2)]).op().0,
        Op::Softmax { axis: 2, beta: 1.0 }
    );
    // Below opset 13 over all axes from `axis` on.
    let graph = node(11, &[]).graph();
    let ops: Vec<_> = graph
        .nodes
        .iter()
        .map(|n| (&n.op, graph.shape(n.output)))
        .collect();
    assert_eq!(
        ops,
        [
            (&Op::Reshape, &[2, 12][..]),
            (&Op::Softmax { axis: 1, beta: 1.0 }, &[2, 12]),
            (&Op::Reshape, &[2, 3, 4])
        ]
    );
    assert_eq!(graph.nodes[1].name, "Softmax_0");
}

#[test]
fn reduce_mean() {
    let node = |opset, inputs: &[&str], attrs: &[_]| {
        Build::xy(opset, &[2, 3, 4])
            .i64s("axes", &[-1, 0])
            .i64s("none", &[])
            .node("ReduceMean", inputs, &["y"], attrs)
    };
    let axes = ints("axes", &[-1, 0]);
    assert_eq!(
        node(13, &["x"], std::slice::from_ref(&axes)).op(),
        (Op::Mean { axes: vec![0, 2] }, vec![1, 3, 1])
    );
    assert_eq!(node(13, &["x"], &[axes, int("keepdims", 0)]).op().1, [3]);
    assert_eq!(node(13, &["x"], &[int("keepdims", 0)]).op().1, [0usize; 0]);
    assert_eq!(
        node(18, &["x", "axes"], &[]).op(),
        (Op::Mean { axes: vec![0, 2] }, vec![1, 3, 1])
    );
    assert_eq!(node(18, &["x", "none"], &[]).op().1, [1, 1, 1]);
    assert_eq!(
        node(18, &["x"], &[int("noop_with_empty_axes", 1)]).op(),
        (Op::Identity, vec![2, 3, 4])
    );
    says(
        &node(13, &["x"], &[ints("axes", &[0, -3])]).malformed(),
        &["twice"],
    );
    says(
        &node(13, &["x"], &[ints("axes", &[3])]).malformed(),
        &["axis 3"],
    );
}

#[test]
fn batch_norm() {
    let build = Build::xy(9, &[1, 3, 2]).zeros("s", &[3]).zeros("w", &[2]);
    let inputs = ["x", "s", "s", "s", "s"];
    let (node, _) = build
        .clone()
        .node(
            "BatchNormalization",
            &inputs,
            &["y"],
            &[float("epsilon", 0.5)],
        )
        .only();
    assert_eq!(
        (node.op, node.inputs.len()),
        (Op::BatchNorm { epsilon: 0.5 }, 5)
    );
    // Shared parameters stay one value.
    assert_eq!(node.inputs[1], node.inputs[4]);
    let wrong = build.clone().node(
        "BatchNormalization",
        &["x", "s", "s", "s", "w"],
        &["y"],
        &[],
    );
    says(&wrong.malformed(), &["input 5", "[3]"]);
    let training = build.node(
        "BatchNormalization",
        &inputs,
        &["y"],
        &[int("training_mode", 1)],
    );
    says(&training.unsupported(), &["training"]);
}

#[test]
fn concat() {
    let build = Build::xy(13, &[2, 3]).zeros("w", &[2, 1]);
    let join = |axis| {
        build
            .clone()
            .node("Concat", &["x", "w", "x"], &["y"], &[int("axis", axis)])
    };
    assert_eq!(join(-1).op(), (Op::Concat { axis: 1 }, vec![2, 7]));
    says(&join(0).malformed(), &["does not join"]);
    says(&join(2).malformed(), &["axis 2"]);
}

#[test]
fn pad() {
    let constant = |before: &[i64], after: &[i64], fill| {
        Op::Pad(Pad {
            mode: PadMode::Constant(fill),
            before: before.to_vec(),
            after: after.to_vec(),
        })
    };
    let old = [ints("pads", &[0, 1, 0, 2]), float("value", 3.0)];
    assert_eq!(
        Build::xy(2, &[2, 3]).node("Pad", &["x"], &["y"], &old).op(),
        (constant(&[0, 1], &[0, 2], 3.0), vec![2, 6])
    );
    let build = Build::xy(18, &[2, 3])
        .i64s("pads", &[-1, 2])
        .i64s("axes", &[1])
        .scalar("fill", 0.5);
    let pad = |inputs: &[&str], mode: &str| {
        build
            .clone()
            .node("Pad", inputs, &["y"], &[text("mode", mode)])
    };
    assert_eq!(
        pad(&["x", "pads", "fill", "axes"], "constant").op(),
        (constant(&[0, -1], &[0, 2], 0.5), vec![2, 4])
    );
    says(
        &pad(&["x", "pads"], "constant").malformed(),
        &["2 pads for 2 axes"],
    );
    says(
        &pad(&["x", "pads", "", "axes"], "reflect").unsupported(),
        &["negative"],
    );
    says(
        &pad(&["x", "pads", "", "axes"], "wrap").unsupported(),
        &["wrap"],
    );
    let build = Build::xy(11, &[2, 3]).i64s("pads", &[0, 2, 0, 2]);
    let (op, shape) = build
        .clone()
        .node("Pad", &["x", "pads"], &["y"], &[text("mode", "reflect")])
        .op();
    assert!(matches!(
        op,
        Op::Pad(Pad {
            mode: PadMode::Reflect,
            ..
        })
    ));
    assert_eq!(shape, [2, 7]);
    let (op, _) = build
        .node("Pad", &["x", "pads"], &["y"], &[text("mode", "edge")])
        .op();
    assert!(matches!(
        op,
        Op::Pad(Pad {
            mode: PadMode::Edge,
            ..
        })
    ));
    let far = Build::xy(11, &[2, 3]).i64s("pads", &[0, 3, 0, 0]).node(
        "Pad",
        &["x", "pads"],
        &["y"],
        &[text("mode", "reflect")],
    );
    says(&far.malformed(), &["reflects 3"]);
}

#[test]
fn reshapes() {
    let reshape = |target: &[i64], attrs: &[_]| {
        Build::xy(14, &[2, 3, 4])
            .i64s("t", target)
            .node("Reshape", &["x", "t"], &["y"], attrs)
    };
    assert_eq!(reshape(&[0, -1], &[]).op(), (Op::Reshape, vec![2, 12]));
    assert_eq!(reshape(&[4, 6], &[]).op().1, [4, 6]);
    says(&reshape(&[-1, -1], &[]).malformed(), &["-1"]);
    says(&reshape(&[5, -1], &[]).malformed(), &["24 elements"]);
    says(&reshape(&[25], &[]).malformed(), &["24 elements"]);
    says(&reshape(&[2, 3, 4, 0], &[]).malformed(), &["copies axis 3"]);
    says(
        &reshape(&[0, -1], &[int("allowzero", 1)]).malformed(),
        &["do not make"],
    );
    let flatten = |axis| {
        Build::xy(11, &[2, 3, 4])
            .node("Flatten", &["x"], &["y"], &[int("axis", axis)])
            .op()
            .1
    };
    assert_eq!(
        [flatten(0), flatten(1), flatten(-1), flatten(3)],
        [[1, 24], [2, 12], [6, 4], [24, 1]]
    );
    let squeeze = |opset, inputs: &[&str], attrs: &[_]| {
        Build::xy(opset, &[1, 3, 1])
            .i64s("a", &[-1])
            .node("Squeeze", inputs, &["y"], attrs)
    };
    assert_eq!(squeeze(11, &["x"], &[]).op().1, [3]);
    assert_eq!(squeeze(11, &["x"], &[ints("axes", &[0])]).op().1, [3, 1]);
    assert_eq!(squeeze(13, &["x", "a"], &[]).op().1, [1, 3]);
    says(
        &squeeze(11, &["x"], &[ints("axes", &[1])]).malformed(),
        &["axis 1"],
    );
    let unsqueeze = Build::xy(13, &[2, 3]).i64s("a", &[-1, 0]);
    assert_eq!(
        unsqueeze.node("Unsqueeze", &["x", "a"], &["y"], &[]).op().1,
        [1, 2, 3, 1]
    );
    let (op, _) = Build::xy(13, &[2, 3])
        .node("Dropout", &["x"], &["y"], &[])
        .op();
    assert_eq!(op, Op::Identity);
}

#[test]
fn transpose() {
    let node = |attrs: &[_]| Build::xy(13, &[2, 3, 4]).node("Transpose", &["x"], &["y"], attrs);
    assert_eq!(
        node(&[]).op(),
        (
            Op::Transpose {
                perm: vec![2, 1, 0]
            },
            vec![4, 3, 2]
        )
    );
    assert_eq!(node(&[ints("perm", &[1, 2, 0])]).op().1, [3, 4, 2]);
    says(&node(&[ints("perm", &[0, 0, 1])]).malformed(), &["twice"]);
    says(&node(&[ints("perm", &[0, 1])]).malformed(), &["perm"]);
}

#[test]
fn slice() {
    let slice = |starts: &[i64], ends: &[i64], axes: &[i64], steps: &[i64]| {
        Build::xy(13, &[5, 6])
            .i64s("s", starts)
            .i64s("e", ends)
            .i64s("a", axes)
            .i64s("t", steps)
            .node("Slice", &["x", "s", "e", "a", "t"], &["y"], &[])
    };
    let op = |starts: &[usize], steps: &[i64]| Op::Slice {
        starts: starts.to_vec(),
        steps: steps.to_vec(),
    };
    assert_eq!(
        slice(&[1], &[i64::MAX], &[-1], &[2]).op(),
        (op(&[0, 1], &[1, 2]), vec![5, 3])
    );
    assert_eq!(
        slice(&[-1], &[i64::MIN], &[0], &[-2]).op(),
        (op(&[4, 0], &[-2, 1]), vec![3, 6])
    );
    assert_eq!(
        slice(&[-3, 1], &[-1, 2], &[0, 1], &[1, 1]).op(),
        (op(&[2, 1], &[1, 1]), vec![2, 1])
    );
    assert_eq!(slice(&[0], &[5], &[0], &[i64::MAX]).op().1, [1, 6]);
    assert_eq!(slice(&[4], &[i64::MIN], &[0], &[i64::MIN]).op().1, [1, 6]);
    says(&slice(&[3], &[3], &[0], &[1]).malformed(), &["no element"]);
    says(&slice(&[0], &[1], &[0], &[0]).malformed(), &["step is 0"]);
    says(
        &slice(&[0], &[1, 2], &[0], &[1]).malformed(),
        &["differ in length"],
    );
    let old = [
        ints("starts", &[1]),
        ints("ends", &[-1]),
        ints("axes", &[1]),
    ];
    assert_eq!(
        Build::xy(9, &[5, 6])
            .node("Slice", &["x"], &["y"], &old)
            .op()
            .1,
        [5, 4]
    );
}

#[test]
fn split() {
    let build = Build::new(13)
        .input("x", &[2, 7])
        .i64s("parts", &[3, 4])
        .output("a")
        .output("b");
    let graph = build
        .clone()
        .node("Split", &["x", "parts"], &["a", "b"], &[int("axis", 1)])
        .graph();
    let slices: Vec<_> = graph
        .nodes
        .iter()
        .map(|n| {
            (
                n.name.as_str(),
                n.op_type.as_str(),
                &n.op,
                graph.shape(n.output),
            )
        })
        .collect();
    let op = |start| Op::Slice {
        starts: vec![0, start],
        steps: vec![1, 1],
    };
    assert_eq!(
        slices,
        [
            ("Split_0.0", "Split", &op(0), &[2, 3][..]),
            ("Split_0.1", "Split", &op(3), &[2, 4])
        ]
    );
    says(
        &build
            .clone()
            .node("Split", &["x", "parts"], &["a", "b"], &[])
            .malformed(),
        &["parts"],
    );
    says(
        &build
            .clone()
            .node("Split", &["x"], &["a", "b"], &[int("axis", 1)])
            .malformed(),
        &["7 elements"],
    );
    let lengths = |build: Build, attrs: &[_]| -> Vec<usize> {
        let graph = build.node("Split", &["x"], &["a", "b"], attrs).graph();
        graph.outputs.iter().map(|&id| graph.shape(id)[1]).collect()
    };
    let old = Build::new(11).input("x", &[2, 7]).output("a").output("b");
    assert_eq!(
        lengths(old, &[int("axis", 1), ints("split", &[2, 5])]),
        [2, 5]
    );
    let new = Build::new(18).input("x", &[2, 7]).output("a").output("b");
    assert_eq!(
        lengths(new, &[int("axis", -1), int("num_outputs", 2)]),
        [4, 3]
    );
}

#[test]
fn depth_to_space() {
    let node =
        |attrs: &[_]| Build::xy(11, &[1, 8, 2, 3]).node("DepthToSpace", &["x"], &["y"], attrs);
    let (op, shape) = node(&[int("blocksize", 2), text("mode", "CRD")]).op();
    assert_eq!(
        (op, shape),
        (
            Op::DepthToSpace {
                block: 2,
                depth_first: false
            },
            vec![1, 2, 4, 6]
        )
    );
    assert!(matches!(
        node(&[int("blocksize", 2)]).op().0,
        Op::DepthToSpace {
            depth_first: true,
            ..
        }
    ));
    says(&node(&[int("blocksize", 3)]).malformed(), &["block size 3"]);
    says(&node(&[]).malformed(), &["block size 0"]);
}

#[test]
fn casts() {
    let node = |to| Build::xy(13, &[3]).node("Cast", &["x"], &["y"], &[int("to", to)]);
    assert_eq!(node(1).op().0, Op::Identity);
    assert_eq!(node(11).op().0, Op::Identity);
    assert!(node(10).read().unwrap().notes()[0].contains("half precision"));
    says(&node(7).unsupported(), &["INT64"]);
    says(&node(99).malformed(), &["99"]);
}

#[test]
fn what_is_not_evaluated_is_named() {
    let unknown = Build::xy(13, &[3])
        .node("TopK", &["x"], &["y"], &[])
        .named("best");
    match unknown.error() {
        Error::Unsupported { op_type, node, .. } => {
            assert_eq!((&*op_type, &*node), ("TopK", "best"));
        }
        other => panic!("{other}"),
    }
    let custom = Build::xy(13, &[3]).node_in("my.ops", "Relu", &["x"], &["y"], &[]);
    says(&custom.unsupported(), &["my.ops::Relu"]);
    says(
        &Build::xy(13, &[3])
            .node("Sqrt", &["x"], &["y"], &[])
            .unsupported(),
        &["Sqrt", "constants"],
    );
    // What no output depends on may be anything.
    let dead =
        Build::xy(13, &[3])
            .node("TopK", &["x"], &["z"], &[])
            .node("Relu", &["x"], &["y"], &[]);
    assert_eq!(dead.only().0.name, "Relu_1");
}
