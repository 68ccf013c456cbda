//! Constants and shapes fold; quantizers do not.

mod common;

use align_check_graph::{Constant, Op, Quantizer};
use common::{Build, f32s, float, i64s, int, ints, says, tensor, text};

/// Folds a node over the tensors of `build` and returns the result.
#[track_caller]
fn fold(
    build: Build,
    op_type: &str,
    inputs: &[&str],
    attrs: &[align_check_graph::onnx::proto::AttributeProto],
) -> (Vec<usize>, Constant) {
    let graph = build
        .output("y")
        .node(op_type, inputs, &["y"], attrs)
        .graph();
    assert!(graph.nodes.is_empty(), "{:?}", graph.nodes);
    let value = graph.value(graph.outputs[0]);
    (
        value.shape.clone(),
        (**value.constant.as_ref().unwrap()).clone(),
    )
}

fn reals(values: &[f32]) -> Constant {
    Constant::F32(values.to_vec())
}

fn whole(values: &[i64]) -> Constant {
    Constant::I64(values.to_vec())
}

#[test]
fn arithmetic() {
    let build = Build::new(13)
        .i64s("a", &[7, -7])
        .i64s("b", &[2])
        .scalar("h", 0.5)
        .f32s("r", &[3], &[4.0, 2.0, 9.0]);
    let run = |op: &str, inputs: &[&str]| fold(build.clone(), op, inputs, &[]).1;
    assert_eq!(run("Add", &["a", "b"]), whole(&[9, -5]));
    assert_eq!(run("Div", &["a", "b"]), whole(&[3, -3]));
    assert_eq!(run("Mod", &["a", "b"]), whole(&[1, 1]));
    assert_eq!(run("Mul", &["a", "a"]), whole(&[49, 49]));
    assert_eq!(run("Pow", &["a", "b"]), whole(&[49, 49]));
    assert_eq!(run("Max", &["a", "b"]), whole(&[7, 2]));
    assert_eq!(run("Min", &["a", "b", "b"]), whole(&[2, -7]));
    assert_eq!(run("Equal", &["a", "a"]), whole(&[1, 1]));
    assert_eq!(run("Less", &["a", "b"]), whole(&[0, 1]));
    assert_eq!(run("Neg", &["a"]), whole(&[-7, 7]));
    assert_eq!(run("Sub", &["r", "h"]), reals(&[3.5, 1.5, 8.5]));
    assert_eq!(run("Pow", &["r", "h"]), reals(&[2.0, 2f32.sqrt(), 3.0]));
    assert_eq!(run("Sqrt", &["r"]), reals(&[2.0, 2f32.sqrt(), 3.0]));
    assert_eq!(run("Floor", &["h"]), reals(&[0.0]));
    assert_eq!(run("Ceil", &["h"]), reals(&[1.0]));
    assert_eq!(run("ReduceProd", &["a"]), whole(&[-49]));
    assert_eq!(run("ReduceMax", &["r"]), reals(&[9.0]));
    assert_eq!(run("ReduceMin", &["r"]), reals(&[2.0]));
    let zero = Build::new(13)
        .i64s("a", &[1])
        .i64s("z", &[0])
        .output("y")
        .node("Div", &["a", "z"], &["y"], &[]);
    says(&zero.malformed(), &["divided by zero"]);
    let large =
        Build::new(13)
            .i64s("a", &[i64::MAX])
            .output("y")
            .node("Add", &["a", "a"], &["y"], &[]);
    says(&large.malformed(), &["overflow"]);
}

#[test]
fn movement() {
    let six = Build::new(13)
        .tensor(i64s("m", &[2, 3], &[1, 2, 3, 4, 5, 6]))
        .i64s("two", &[1, 2]);
    let run = |build: &Build, op: &str, inputs: &[&str], attrs: &[_]| {
        fold(build.clone(), op, inputs, attrs)
    };
    assert_eq!(
        run(&six, "Transpose", &["m"], &[]),
        (vec![3, 2], whole(&[1, 4, 2, 5, 3, 6]))
    );
    assert_eq!(
        run(&six, "Flatten", &["m"], &[int("axis", 0)]),
        (vec![1, 6], whole(&[1, 2, 3, 4, 5, 6]))
    );
    assert_eq!(
        run(&six, "Concat", &["m", "m"], &[int("axis", 1)]).1,
        whole(&[1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6])
    );
    assert_eq!(
        run(&six, "Tile", &["m", "two"], &[]),
        (vec![2, 6], whole(&[1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6]))
    );
    let tile = six.clone().i64s("r", &[2, 1]);
    assert_eq!(
        run(&tile, "Tile", &["m", "r"], &[]).1,
        whole(&[1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6])
    );
    let expand = Build::new(13)
        .tensor(i64s("c", &[2, 1], &[1, 2]))
        .i64s("s", &[1, 3]);
    assert_eq!(
        run(&expand, "Expand", &["c", "s"], &[]),
        (vec![2, 3], whole(&[1, 1, 1, 2, 2, 2]))
    );
    let gather = six.clone().i64s("i", &[-1, 0]);
    assert_eq!(
        run(&gather, "Gather", &["m", "i"], &[int("axis", 1)]),
        (vec![2, 2], whole(&[3, 1, 6, 4]))
    );
    let out =
        gather
            .i64s("o", &[3])
            .output("y")
            .node("Gather", &["m", "o"], &["y"], &[int("axis", 1)]);
    says(&out.malformed(), &["index 3"]);
    let back = six
        .clone()
        .i64s("s", &[-1])
        .i64s("e", &[i64::MIN])
        .i64s("a", &[0])
        .i64s("t", &[-1]);
    assert_eq!(
        run(&back, "Slice", &["m", "s", "e", "a", "t"], &[]).1,
        whole(&[4, 5, 6, 1, 2, 3])
    );
    let pad = six.clone().i64s("p", &[0, -1, 1, 1]).scalar("f", 9.0);
    assert_eq!(
        run(&pad, "Pad", &["m", "p", "f"], &[]),
        (vec![3, 3], whole(&[2, 3, 9, 5, 6, 9, 9, 9, 9]))
    );
    let range = Build::new(13)
        .tensor(i64s("s", &[], &[5]))
        .tensor(i64s("l", &[], &[-2]))
        .tensor(i64s("d", &[], &[-3]));
    assert_eq!(
        run(&range, "Range", &["s", "l", "d"], &[]).1,
        whole(&[5, 2, -1])
    );
    let choose = Build::new(13)
        .i64s("c", &[1, 0])
        .i64s("a", &[1])
        .i64s("b", &[2]);
    assert_eq!(
        run(&choose, "Where", &["c", "a", "b"], &[]).1,
        whole(&[1, 2])
    );
    let fill = Build::new(13).i64s("s", &[2, 2]);
    let value = tensor("value", i64s("", &[1], &[7]));
    assert_eq!(
        run(&fill, "ConstantOfShape", &["s"], &[value]),
        (vec![2, 2], whole(&[7; 4]))
    );
    assert_eq!(
        run(&fill, "ConstantOfShape", &["s"], &[]).1,
        reals(&[0.0; 4])
    );
    let cast = Build::new(13).f32s("r", &[3], &[-1.7, 300.0, 0.0]);
    assert_eq!(
        run(&cast, "Cast", &["r"], &[int("to", 7)]).1,
        whole(&[-1, 300, 0])
    );
    assert_eq!(
        run(&cast, "Cast", &["r"], &[int("to", 2)]).1,
        whole(&[255, 44, 0])
    );
    assert_eq!(
        run(&cast, "Cast", &["r"], &[int("to", 9)]).1,
        whole(&[1, 1, 0])
    );
}

#[test]
fn constant_nodes() {
    let run = |attr| {
        let graph = Build::new(13)
            .output("y")
            .node("Constant", &[], &["y"], &[attr])
            .graph();
        let value = graph.value(graph.outputs[0]).clone();
        (value.shape, (**value.constant.as_ref().unwrap()).clone())
    };
    assert_eq!(run(float("value_float", 0.5)), (vec![], reals(&[0.5])));
    assert_eq!(run(int("value_int", 3)), (vec![], whole(&[3])));
    assert_eq!(
        run(common::floats("value_floats", &[1.0, 2.0])),
        (vec![2], reals(&[1.0, 2.0]))
    );
    assert_eq!(run(ints("value_ints", &[1, 2])), (vec![2], whole(&[1, 2])));
    assert_eq!(
        run(tensor("value", f32s("", &[1, 1], &[4.0]))),
        (vec![1, 1], reals(&[4.0]))
    );
    let string =
        Build::new(13)
            .output("y")
            .node("Constant", &[], &["y"], &[text("value_string", "a")]);
    says(&string.unsupported(), &["Constant"]);
}

/// `x.view(x.size(0), -1)` as old exporters write it.
#[test]
fn reshape_to_a_computed_shape() {
    let graph = Build::xy(9, &[-1, 3, 4])
        .shape("x", &[2, 3, 4])
        .node("Shape", &["x"], &["s"], &[])
        .node("Constant", &[], &["zero"], &[int("value_int", 0)])
        .node("Gather", &["s", "zero"], &["n"], &[])
        .node("Unsqueeze", &["n"], &["n1"], &[ints("axes", &[0])])
        .i64s("rest", &[-1])
        .node("Concat", &["n1", "rest"], &["target"], &[int("axis", 0)])
        .node("Reshape", &["x", "target"], &["y"], &[])
        .graph();
    assert_eq!(graph.nodes.len(), 1);
    assert_eq!(graph.shape(graph.outputs[0]), [2, 12]);
    assert_eq!(graph.values.len(), 2);
}

/// `F.pad(x, (1, 2))` as `PyTorch` writes it: the list is reversed by reshape, slice and transpose.
#[test]
fn pads_as_pytorch_computes_them() {
    let graph = Build::xy(17, &[1, 2, 3])
        .i64s("given", &[1, 2])
        .i64s("missing", &[4])
        .node(
            "ConstantOfShape",
            &["missing"],
            &["zeros"],
            &[tensor("value", i64s("", &[1], &[0]))],
        )
        .node("Concat", &["given", "zeros"], &["all"], &[int("axis", 0)])
        .i64s("pairs", &[-1, 2])
        .node("Reshape", &["all", "pairs"], &["two"], &[])
        .i64s("from", &[-1])
        .i64s("to", &[i64::MIN + 1])
        .i64s("axis", &[0])
        .i64s("step", &[-1])
        .node(
            "Slice",
            &["two", "from", "to", "axis", "step"],
            &["back"],
            &[],
        )
        .node(
            "Transpose",
            &["back"],
            &["turned"],
            &[ints("perm", &[1, 0])],
        )
        .i64s("flat", &[-1])
        .node("Reshape", &["turned", "flat"], &["list"], &[])
        .node("Cast", &["list"], &["pads"], &[int("to", 7)])
        .scalar("fill", 0.0)
        .node(
            "Pad",
            &["x", "pads", "fill"],
            &["y"],
            &[text("mode", "constant")],
        )
        .graph();
    let Op::Pad(pad) = &graph.nodes[0].op else {
        panic!()
    };
    assert_eq!(
        (&*pad.before, &*pad.after),
        (&[0, 0, 1][..], &[0, 0, 2][..])
    );
    assert_eq!(graph.shape(graph.outputs[0]), [1, 2, 6]);
    assert_eq!(graph.nodes.len(), 1);
}

#[test]
fn quantizers_and_what_follows_them_stay() {
    let graph = Build::xy(13, &[1, 3])
        .f32s("w", &[2, 3], &[1.0; 6])
        .scalar("s", 0.5)
        .scalar("z", 0.0)
        .scalar("b", 4.0)
        .import("qonnx.custom_op.general", 1)
        .node_in(
            "qonnx.custom_op.general",
            "Quant",
            &["w", "s", "z", "b"],
            &["q"],
            &[
                int("signed", 1),
                int("narrow", 1),
                text("rounding_mode", "ROUND"),
            ],
        )
        .node("Transpose", &["q"], &["t"], &[])
        .node("MatMul", &["x", "t"], &["m"], &[])
        .node("MatMul", &["x", "t"], &["n"], &[])
        .node("Add", &["m", "n"], &["y"], &[])
        .graph();
    let ops: Vec<_> = graph.nodes.iter().map(|n| n.op_type.as_str()).collect();
    assert_eq!(ops, ["Quant", "Transpose", "MatMul", "MatMul", "Add"]);
    assert!(matches!(
        graph.nodes[0].op,
        Op::Quantize(Quantizer::Affine(_))
    ));
    // One quantized weight, read by both.
    assert_eq!(graph.nodes[0].inputs.len(), 1);
    assert_eq!(graph.nodes[2].inputs[1], graph.nodes[3].inputs[1]);
    assert_eq!(graph.readers()[graph.nodes[1].output], [2, 3]);
}

#[test]
fn what_folding_leaves_unread_is_dropped() {
    let graph = Build::xy(13, &[2, 3])
        .node("Relu", &["x"], &["r"], &[])
        .node("Shape", &["r"], &["s"], &[])
        .node("Reshape", &["x", "s"], &["y"], &[])
        .graph();
    assert_eq!(graph.nodes.len(), 1);
    assert_eq!(graph.nodes[0].op, Op::Reshape);
    assert!(graph.find("r").is_none());
}
