//! Operators on integer codes: `QLinearConv` and its kin, those of `com.microsoft`, `ConvInteger`.

mod common;

use std::collections::BTreeMap;

use align_check_graph::onnx::proto::AttributeProto;
use align_check_graph::onnx::proto::tensor_proto::DataType;
use align_check_graph::{
    Activation, Binary, Constant, Gemm, Graph, Limits, Model, Node, Op, PerChannel, Quantizer,
};
use common::{Build, float, grid, int, ints, list, says, stored, value};

const MICROSOFT: &str = "com.microsoft";
const U8: DataType = DataType::Uint8;
const S8: DataType = DataType::Int8;

#[track_caller]
fn maker<'a>(graph: &'a Graph, name: &str) -> &'a Node {
    let id = graph.find(name).expect("a value");
    graph.nodes.iter().find(|n| n.output == id).expect("a node")
}

fn names<'a>(graph: &'a Graph, node: &Node) -> Vec<&'a str> {
    let name = |&id: &usize| graph.value(id).name.as_str();
    node.inputs.iter().map(name).collect()
}

/// A scale and a zero point under the names `<name>s` and `<name>z`.
trait Parameters {
    fn parameters(self, name: &str, kind: DataType, scale: f32, zero_point: i32) -> Self;
}

impl Parameters for Build {
    fn parameters(self, name: &str, kind: DataType, scale: f32, zero_point: i32) -> Self {
        self.scalar(&format!("{name}s"), scale)
            .codes(&format!("{name}z"), kind, &[], &[zero_point])
    }
}

/// Input `x` of codes at scale 0.5, zero point 3; parameters of `y`: scale 0.125, zero point 7.
fn base(dims: &[i64]) -> Build {
    Build::new(17)
        .import(MICROSOFT, 1)
        .input_of("x", U8, dims)
        .parameters("x", U8, 0.5, 3)
        .parameters("y", U8, 0.125, 7)
        .output("y")
}

/// The operator and the quantizer of the output; the operator's inputs.
#[track_caller]
fn pair(build: &Build) -> (Graph, Op, Vec<String>) {
    assert_eq!(build.read().unwrap().format(), "qoperator");
    let graph = build.graph();
    let [first, second] = &graph.nodes[..] else {
        panic!("{:#?}", graph.nodes)
    };
    let (op, inputs) = (first.op.clone(), names(&graph, first));
    let inputs = inputs.into_iter().map(str::to_owned).collect();
    assert_eq!(second.inputs, [first.output]);
    assert_eq!(graph.outputs, [second.output]);
    assert_eq!(graph.value(second.output).name, "y");
    assert_eq!(graph.value(first.output).stored, None);
    let Op::Quantize(Quantizer::Affine(affine)) = &second.op else {
        panic!("{:?}", second.op)
    };
    assert_eq!(*affine, grid(0.125, 7.0, 8, false));
    assert_eq!(stored(&graph, "y"), *affine);
    assert_eq!(stored(&graph, "x"), grid(0.5, 3.0, 8, false));
    (graph, op, inputs)
}

fn conv(domain: &str, attrs: &[AttributeProto], inputs: &[&str]) -> Build {
    let all = [&["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"], inputs].concat();
    base(&[1, 2, 4, 4])
        .codes("w", S8, &[3, 2, 1, 1], &[1, -2, 3, -4, 5, -128])
        .node_in(domain, "QLinearConv", &all, &["y"], attrs)
}

#[test]
fn qlinear_conv() {
    let uniform = conv("", &[], &[]).parameters("w", S8, 0.25, -1);
    let (graph, op, inputs) = pair(&uniform);
    assert!(matches!(op, Op::Conv(_)));
    assert_eq!(inputs, ["x", "w"]);
    assert_eq!(stored(&graph, "w"), grid(0.25, -1.0, 8, true));
    assert_eq!(
        value(&graph, "w").constant.as_deref(),
        Some(&Constant::I64(vec![1, -2, 3, -4, 5, -128]))
    );
    let node = &graph.nodes[0];
    assert_eq!(
        (&*node.name, &*node.op_type),
        ("QLinearConv_0", "QLinearConv")
    );
    let node = &graph.nodes[1];
    assert_eq!(
        (&*node.name, &*node.op_type),
        ("QLinearConv_0.quantize", "QuantizeLinear")
    );
    let channels = conv("", &[], &["b"])
        .f32s("ws", &[3], &[0.25, 0.1, 0.3])
        .codes("wz", S8, &[3], &[0, 1, 2])
        .codes("b", DataType::Int32, &[3], &[7, -8, 1 << 30]);
    let (graph, _, inputs) = pair(&channels);
    assert_eq!(inputs, ["x", "w", "b"]);
    let own = stored(&graph, "w");
    assert_eq!(own.scale, list(&[0.25, 0.1, 0.3], 0));
    assert_eq!(own.zero_point, list(&[0.0, 1.0, 2.0], 0));
    let bias = stored(&graph, "b");
    assert_eq!((bias.bits, bias.signed), (32, true));
    assert_eq!(bias.scale, list(&[0.5 * 0.25, 0.5 * 0.1, 0.5 * 0.3], 0));
    assert_eq!(bias.zero_point, PerChannel::uniform(0.0));
    assert_eq!(
        value(&graph, "b").constant.as_deref(),
        Some(&Constant::I64(vec![7, -8, 1 << 30]))
    );
    says(
        &conv("", &[], &[])
            .f32s("ws", &[2], &[0.25, 0.1])
            .codes("wz", S8, &[], &[0])
            .malformed(),
        &["2 numbers", "axis 0"],
    );
    let wide = conv("", &[], &[])
        .f32s("ws", &[3], &[1e38, 1e38, 1e38])
        .codes("wz", S8, &[], &[0]);
    wide.graph();
    let mut wide = wide.codes("b", DataType::Int32, &[3], &[0, 0, 0]);
    wide.graph_mut().node[0].input.push("b".to_owned());
    wide.graph_mut().initializer[0].float_data = vec![100.0];
    says(&wide.malformed(), &["bias", "scale inf"]);
}

#[test]
fn channels_last() {
    let build = base(&[1, 4, 4, 2])
        .codes("w", S8, &[3, 2, 1, 1], &[1; 6])
        .parameters("w", S8, 0.25, 0)
        .node_in(
            MICROSOFT,
            "QLinearConv",
            &["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"],
            &["y"],
            &[int("channels_last", 1)],
        );
    let graph = build.graph();
    let kinds: Vec<_> = graph.nodes.iter().map(|n| &*n.op_type).collect();
    assert_eq!(
        kinds,
        ["Transpose", "QLinearConv", "QuantizeLinear", "Transpose"]
    );
    assert_eq!(value(&graph, "y").shape, [1, 4, 4, 3]);
    assert_eq!(stored(&graph, "y"), grid(0.125, 7.0, 8, false));
    let pool = base(&[1, 4, 4, 2]).node_in(
        MICROSOFT,
        "QLinearAveragePool",
        &["x", "xs", "xz", "ys", "yz"],
        &["y"],
        &[int("channels_last", 1), ints("kernel_shape", &[2, 2])],
    );
    let graph = pool.graph();
    assert_eq!(value(&graph, "y").shape, [1, 3, 3, 2]);
    assert!(matches!(graph.nodes[1].op, Op::AveragePool { .. }));
    let global = base(&[1, 4, 4, 2]).node_in(
        MICROSOFT,
        "QLinearGlobalAveragePool",
        &["x", "xs", "xz", "ys", "yz"],
        &["y"],
        &[int("channels_last", 1)],
    );
    let (graph, op, _) = pair(&global);
    assert_eq!(op, Op::Mean { axes: vec![1, 2] });
    assert_eq!(value(&graph, "y").shape, [1, 1, 1, 2]);
}

#[test]
fn qlinear_matmul() {
    let build = |scales: &[f32], dims: &[i64]| {
        base(&[4, 2])
            .codes("w", S8, &[2, 3], &[1, 2, 3, 4, 5, 6])
            .f32s("ws", dims, scales)
            .codes("wz", S8, &[], &[0])
            .node(
                "QLinearMatMul",
                &["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"],
                &["y"],
                &[],
            )
    };
    let (graph, op, inputs) = pair(&build(&[0.25], &[]));
    assert_eq!(
        (op, &inputs[..]),
        (Op::MatMul, &["x".to_owned(), "w".to_owned()][..])
    );
    assert_eq!(stored(&graph, "w"), grid(0.25, 0.0, 8, true));
    // One for each column.
    for dims in [&[3][..], &[1, 3]] {
        let (graph, ..) = pair(&build(&[0.25, 0.5, 1.0], dims));
        assert_eq!(stored(&graph, "w").scale, list(&[0.25, 0.5, 1.0], 1));
    }
    let activations = base(&[4, 2])
        .input_of("b", S8, &[2, 3])
        .parameters("b", S8, 0.25, -9)
        .node(
            "QLinearMatMul",
            &["x", "xs", "xz", "b", "bs", "bz", "ys", "yz"],
            &["y"],
            &[],
        );
    let (graph, ..) = pair(&activations);
    assert_eq!(stored(&graph, "b"), grid(0.25, -9.0, 8, true));
    let vector = base(&[2])
        .codes("w", S8, &[2, 3], &[1; 6])
        .parameters("w", S8, 0.25, 0)
        .node(
            "QLinearMatMul",
            &["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"],
            &["y"],
            &[],
        )
        .graph();
    assert_eq!(value(&vector, "y").shape, [3]);
    assert_eq!(stored(&vector, "x.row"), grid(0.5, 3.0, 8, false));
    // One scale for each row of the input, and of the output: refused.
    let mut rows = build(&[0.25], &[]);
    rows.graph_mut().initializer[0].dims = vec![4];
    rows.graph_mut().initializer[0].float_data = vec![1.0; 4];
    says(&rows.unsupported(), &["scale has 4 numbers"]);
}

#[test]
fn qgemm() {
    let build = |inputs: &[&str], attrs: &[AttributeProto]| {
        let all = [&["x", "xs", "xz", "w", "ws", "wz"], inputs].concat();
        base(&[4, 2])
            .codes("w", S8, &[3, 2], &[1, 2, 3, 4, 5, 6])
            .f32s("ws", &[3], &[0.25, 0.5, 1.0])
            .codes("wz", S8, &[3], &[0, 0, 0])
            .codes("c", DataType::Int32, &[3], &[1, 2, 3])
            .node_in(MICROSOFT, "QGemm", &all, &["y"], attrs)
    };
    let trans = [int("transB", 1), float("alpha", 2.0)];
    let (graph, op, inputs) = pair(&build(&["c", "ys", "yz"], &trans));
    let gemm = Gemm {
        alpha: 2.0,
        beta: 1.0,
        trans_a: false,
        trans_b: true,
    };
    assert_eq!(op, Op::Gemm(gemm));
    assert_eq!(inputs, ["x", "w", "c"]);
    assert_eq!(stored(&graph, "w").scale, list(&[0.25, 0.5, 1.0], 0));
    // alpha counts in the bias's step.
    assert_eq!(stored(&graph, "c").scale, list(&[0.25, 0.5, 1.0], 0));
    let (_, _, inputs) = pair(&build(&["", "ys", "yz"], &trans));
    assert_eq!(inputs, ["x", "w"]);
    // Without an output scale the output is reals.
    let real = build(&["c"], &trans).graph();
    assert_eq!(real.nodes.len(), 1);
    assert_eq!(value(&real, "y").stored, None);
    // Columns are the second axis where nothing is transposed.
    let columns = base(&[4, 3])
        .codes("w", S8, &[3, 2], &[1, 2, 3, 4, 5, 6])
        .f32s("ws", &[2], &[0.25, 0.5])
        .codes("wz", S8, &[], &[0])
        .node_in(
            MICROSOFT,
            "QGemm",
            &["x", "xs", "xz", "w", "ws", "wz", "", "ys", "yz"],
            &["y"],
            &[],
        );
    let (graph, ..) = pair(&columns);
    assert_eq!(stored(&graph, "w").scale, list(&[0.25, 0.5], 1));
    let computed = build(&["q", "ys", "yz"], &trans).input_of("q", DataType::Int32, &[3]);
    says(&computed.unsupported(), &["bias", "constant"]);
}

#[test]
fn qlinear_add_and_mul() {
    for (op_type, binary) in [("QLinearAdd", Binary::Add), ("QLinearMul", Binary::Mul)] {
        let two = base(&[1, 2, 3, 3])
            .input_of("b", U8, &[1, 2, 1, 1])
            .parameters("b", U8, 0.25, 250)
            .node_in(
                MICROSOFT,
                op_type,
                &["x", "xs", "xz", "b", "bs", "bz", "ys", "yz"],
                &["y"],
                &[],
            );
        let (graph, op, inputs) = pair(&two);
        assert_eq!((op, &*inputs[1]), (Op::Binary(binary), "b"));
        assert_eq!(value(&graph, "y").shape, [1, 2, 3, 3]);
        assert_eq!(stored(&graph, "b"), grid(0.25, 250.0, 8, false));
        let constant = base(&[1, 2, 3, 3])
            .codes("b", U8, &[2, 1, 1], &[5, 255])
            .parameters("b", U8, 0.25, 1)
            .node_in(
                MICROSOFT,
                op_type,
                &["x", "xs", "xz", "b", "bs", "bz", "ys", "yz"],
                &["y"],
                &[],
            );
        let (graph, ..) = pair(&constant);
        assert_eq!(
            value(&graph, "b").constant.as_deref(),
            Some(&Constant::I64(vec![5, 255]))
        );
        assert_eq!(stored(&graph, "b"), grid(0.25, 1.0, 8, false));
        // The same tensor with two meanings.
        let twice = base(&[1, 2, 3, 3]).parameters("b", U8, 0.25, 1).node_in(
            MICROSOFT,
            op_type,
            &["x", "xs", "xz", "x", "bs", "bz", "ys", "yz"],
            &["y"],
            &[],
        );
        let twice = twice.graph();
        let sum = maker(&twice, "y.real");
        assert_eq!(names(&twice, sum), ["x", "x.codes"]);
        assert_eq!(stored(&twice, "x.codes"), grid(0.25, 1.0, 8, false));
        // Zero points may be left out: the type is that of the input.
        let bare = base(&[1, 2, 3, 3]).node_in(
            MICROSOFT,
            op_type,
            &["x", "xs", "", "x", "xs", "", "ys", ""],
            &["y"],
            &[],
        );
        assert_eq!(stored(&bare.graph(), "x"), grid(0.5, 0.0, 8, false));
        assert_eq!(stored(&bare.graph(), "y"), grid(0.125, 0.0, 8, false));
    }
    // Sums of plain integers are reals before they are quantized, whatever their grids.
    let plain = Build::new(17)
        .import(MICROSOFT, 1)
        .input_of("x", U8, &[2])
        .parameters("x", U8, 1.0, 0)
        .node_in(
            MICROSOFT,
            "QLinearAdd",
            &["x", "xs", "xz", "x", "xs", "xz", "xs", "xz"],
            &["y"],
            &[],
        )
        .output("y")
        .graph();
    assert_eq!(value(&plain, "y.real").stored, None);
}

#[test]
fn operators_with_one_input() {
    let single = |op_type: &str, attrs: &[AttributeProto]| {
        base(&[1, 2, 4, 4]).node_in(
            MICROSOFT,
            op_type,
            &["x", "xs", "xz", "ys", "yz"],
            &["y"],
            attrs,
        )
    };
    let op = |op_type: &str, attrs: &[AttributeProto]| {
        let (graph, op, inputs) = pair(&single(op_type, attrs));
        assert_eq!(inputs, ["x"]);
        (op, value(&graph, "y").shape.clone())
    };
    assert_eq!(
        op("QLinearSigmoid", &[]).0,
        Op::Activation(Activation::Sigmoid)
    );
    let leaky = |alpha| Op::Activation(Activation::LeakyRelu { alpha });
    assert_eq!(op("QLinearLeakyRelu", &[]).0, leaky(0.01));
    assert_eq!(
        op("QLinearLeakyRelu", &[float("alpha", 0.25)]).0,
        leaky(0.25)
    );
    let (average, shape) = op(
        "QLinearAveragePool",
        &[
            ints("kernel_shape", &[3, 3]),
            ints("strides", &[2, 2]),
            int("ceil_mode", 1),
            int("count_include_pad", 1),
            ints("pads", &[1, 1, 0, 0]),
        ],
    );
    assert_eq!(shape, [1, 2, 2, 2]);
    let Op::AveragePool {
        pool,
        count_include_pad: true,
    } = average
    else {
        panic!("{average:?}")
    };
    assert_eq!(pool.pads_before, [1, 1]);
    assert_eq!(pool.pads_after, [0, 0]);
    // The last windows reach one element beyond the data: they count whole.
    let (beyond, shape) = op(
        "QLinearAveragePool",
        &[
            ints("kernel_shape", &[3, 3]),
            ints("strides", &[2, 2]),
            int("ceil_mode", 1),
            int("count_include_pad", 1),
        ],
    );
    assert_eq!(shape, [1, 2, 2, 2]);
    let Op::AveragePool { pool, .. } = beyond else {
        panic!("{beyond:?}")
    };
    assert_eq!(pool.pads_after, [1, 1]);
    assert_eq!(
        op("QLinearGlobalAveragePool", &[]),
        (Op::Mean { axes: vec![2, 3] }, vec![1, 2, 1, 1])
    );
    assert_eq!(
        op(
            "QLinearReduceMean",
            &[ints("axes", &[1]), int("keepdims", 0)]
        ),
        (Op::Mean { axes: vec![1] }, vec![1, 4, 4])
    );
    let softmax = |axis: i64, opset: i64| [int("axis", axis), int("opset", opset)];
    assert_eq!(
        op("QLinearSoftmax", &softmax(-1, 13)).0,
        Op::Softmax { axis: 3, beta: 1.0 }
    );
    // Below opset 13 all axes from the given one on.
    let old = single("QLinearSoftmax", &softmax(1, 12)).graph();
    assert_eq!(
        maker(&old, "y.real.rows").op,
        Op::Softmax { axis: 1, beta: 1.0 }
    );
    assert_eq!(stored(&old, "y"), grid(0.125, 7.0, 8, false));
    says(
        &single("QLinearSoftmax", &[int("axis", 1)]).malformed(),
        &["opset"],
    );
    says(
        &single("QLinearWhere", &[]).unsupported(),
        &["com.microsoft::QLinearWhere"],
    );
}

#[test]
fn qlinear_concat() {
    let build = |inputs: &[&str], attrs: &[AttributeProto]| {
        base(&[1, 2, 3, 3])
            .codes("b", U8, &[1, 1, 3, 3], &[9; 9])
            .parameters("b", U8, 0.25, 1)
            .node_in(MICROSOFT, "QLinearConcat", inputs, &["y"], attrs)
    };
    let inputs = ["ys", "yz", "x", "xs", "xz", "b", "bs", "bz"];
    let (graph, op, parts) = pair(&build(&inputs, &[int("axis", 1)]));
    assert_eq!(
        (op, &parts[..]),
        (
            Op::Concat { axis: 1 },
            &["x".to_owned(), "b".to_owned()][..]
        )
    );
    assert_eq!(value(&graph, "y").shape, [1, 3, 3, 3]);
    assert_eq!(stored(&graph, "b"), grid(0.25, 1.0, 8, false));
    says(&build(&inputs, &[]).malformed(), &["axis"]);
    says(&build(&inputs, &[int("axis", 2)]).malformed(), &["join"]);
    says(
        &build(&inputs[..7], &[int("axis", 1)]).malformed(),
        &["7 inputs"],
    );
}

#[test]
fn chains() {
    // What one operator writes, the next one reads with the same scale, or its codes are read anew.
    let chain = |name: &str| {
        base(&[1, 2, 4, 4])
            .parameters("o", U8, 0.25, 7)
            .node_in(
                MICROSOFT,
                "QLinearSigmoid",
                &["x", "xs", "xz", "ys", "yz"],
                &["m"],
                &[],
            )
            .node_in(
                MICROSOFT,
                "QLinearLeakyRelu",
                &["m", &format!("{name}s"), &format!("{name}z"), "ys", "yz"],
                &["y"],
                &[],
            )
    };
    assert_eq!(chain("y").graph().nodes.len(), 4);
    let other = chain("o").graph();
    assert_eq!(other.nodes.len(), 5);
    assert_eq!(
        maker(&other, "m.codes").op,
        Op::Reinterpret {
            from: grid(0.125, 7.0, 8, false),
            to: grid(0.25, 7.0, 8, false)
        }
    );
    let float = Build::xy(17, &[2])
        .import(MICROSOFT, 1)
        .parameters("x", U8, 0.5, 3)
        .node_in(
            MICROSOFT,
            "QLinearSigmoid",
            &["x", "xs", "xz", "xs", "xz"],
            &["y"],
            &[],
        );
    says(&float.malformed(), &["'x'", "integer codes"]);
    let untyped = base(&[2]).node_in(
        MICROSOFT,
        "QLinearSigmoid",
        &["x", "xs", "xz", "ys", "xs"],
        &["y"],
        &[],
    );
    says(&untyped.unsupported(), &["zero point is no integer"]);
    // Weights and biases that two operators share have a value for each meaning.
    let shared = base(&[1, 2, 4, 4])
        .codes("w", S8, &[2, 2, 1, 1], &[1, 2, 3, 4])
        .codes("b", DataType::Int32, &[2], &[5, 6])
        .parameters("w", S8, 0.25, 0)
        .node(
            "QLinearConv",
            &["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"],
            &["m"],
            &[],
        )
        .node(
            "QLinearConv",
            &["m", "ys", "yz", "w", "ws", "wz", "ys", "yz", "b"],
            &["y"],
            &[],
        )
        .graph();
    assert_eq!(stored(&shared, "b"), grid(0.5 * 0.25, 0.0, 32, true));
    assert_eq!(
        stored(&shared, "b.codes"),
        grid(0.125 * 0.25, 0.0, 32, true)
    );
    assert_eq!(
        names(&shared, maker(&shared, "y.real")),
        ["m", "w", "b.codes"]
    );
}

#[test]
fn sums_of_integers() {
    let conv = Build::new(13)
        .input_of("x", U8, &[1, 2, 4, 4])
        .codes("xz", U8, &[], &[3])
        .codes("w", S8, &[2, 2, 1, 1], &[1, 2, 3, 4])
        .codes("wz", S8, &[2], &[1, -1])
        .scalar("step", 0.5)
        .node("ConvInteger", &["x", "w", "xz", "wz"], &["i"], &[])
        .node("Cast", &["i"], &["f"], &[int("to", 1)])
        .node("Mul", &["f", "step"], &["y"], &[])
        .output("y");
    assert_eq!(conv.read().unwrap().format(), "qoperator");
    let graph = conv.graph();
    assert_eq!(graph.nodes.len(), 3);
    assert_eq!(stored(&graph, "x"), grid(1.0, 3.0, 8, false));
    assert_eq!(stored(&graph, "w").zero_point, list(&[1.0, -1.0], 0));
    assert_eq!(stored(&graph, "w").scale, PerChannel::uniform(1.0));
    assert_eq!(stored(&graph, "i"), grid(1.0, 0.0, 32, true));
    assert!(matches!(maker(&graph, "i").op, Op::Conv(_)));
    assert_eq!(maker(&graph, "f").op, Op::Identity);
    assert_eq!(value(&graph, "f").stored, None);
    // Codes of a quantizer with another step count as they are.
    let matmul = Build::new(13)
        .input("x", &[4, 2])
        .scalar("xs", 0.1)
        .codes("xz", U8, &[], &[3])
        .codes("w", U8, &[2, 3], &[1, 2, 3, 4, 5, 255])
        .node("QuantizeLinear", &["x", "xs", "xz"], &["q"], &[])
        .node("MatMulInteger", &["q", "w", "xz"], &["y"], &[])
        .output("y");
    let graph = matmul.graph();
    let [_, anew, product] = &graph.nodes[..] else {
        panic!("{:?}", graph.nodes)
    };
    assert!(matches!(anew.op, Op::Reinterpret { .. }));
    assert_eq!(product.op, Op::MatMul);
    assert_eq!(stored(&graph, "q"), grid(0.1, 3.0, 8, false));
    assert_eq!(stored(&graph, "q.codes"), grid(1.0, 3.0, 8, false));
    assert_eq!(stored(&graph, "w"), grid(1.0, 0.0, 8, false));
}

/// Flipped bits: an error on one line or a graph, never a panic.
#[test]
fn changed_bits_do_not_panic() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.onnx");
    let convolution = conv("", &[], &["b"])
        .f32s("ws", &[3], &[0.25, 0.1, 0.3])
        .codes("wz", S8, &[3], &[0, 1, 2])
        .codes("b", DataType::Int32, &[3], &[7, -8, 1 << 30]);
    let chain = base(&[1, 2, 3, 3])
        .f32s("cs", &[2], &[0.5, 0.25])
        .codes("c", S8, &[2, 1, 3, 3], &[9; 18])
        .codes("low", S8, &[], &[-7])
        .codes("high", S8, &[], &[7])
        .node("Clip", &["c", "low", "high"], &["d"], &[])
        .node("DequantizeLinear", &["d", "cs"], &["e"], &[int("axis", 0)])
        .node("Transpose", &["e"], &["f"], &[ints("perm", &[1, 0, 2, 3])])
        .node("DequantizeLinear", &["x", "xs", "xz"], &["r"], &[])
        .node("Add", &["r", "f"], &["g"], &[])
        .node(
            "QuantizeLinear",
            &["g", "cs", "low"],
            &["y"],
            &[int("axis", 1)],
        );
    chain.graph();
    for build in [convolution, chain] {
        let bytes = build.bytes();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            std::fs::write(&file, changed).unwrap();
            let result = Model::read(&file, &Limits::default())
                .and_then(|model| model.graph(&BTreeMap::new()));
            if let Err(error) = result {
                assert!(!error.to_string().contains('\n'), "{error}");
            }
        }
    }
}
