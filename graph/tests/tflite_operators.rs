//! What each `TFLite` operator becomes.

mod tflite_writer;

use align_check_graph::{
    Activation, Binary, Constant, Conv, ConvTranspose, Gemm, Op, Pad, PadMode, Pool, Quantizer,
    Resize, ResizeAxis,
};
use tflite_writer::{
    Build, FLOAT16, Field, INT4, INT8, INT16, INT32, INT64, UINT8, inputs, int8, list, names, node,
    real, says, tensor, value,
};

const SAME: Field = Field::I8(0);
const VALID: Field = Field::I8(1);
const CHANNELS_LAST: [usize; 4] = [0, 2, 3, 1];

/// `CONV_2D`: padding, width and height of the stride, activation, width and height of the dilation.
fn conv(padding: Field, [w, h]: [i32; 2], activation: i8, [dw, dh]: [i32; 2]) -> Vec<Field> {
    vec![
        padding,
        Field::I32(w),
        Field::I32(h),
        Field::I8(activation),
        Field::I32(dw),
        Field::I32(dh),
    ]
}

fn pool(padding: Field, stride: i32, [w, h]: [i32; 2]) -> Vec<Field> {
    let [s, w, h] = [stride, w, h].map(Field::I32);
    vec![padding, s.clone(), s, w, h, Field::I8(0)]
}

fn codes(constant: Option<&Constant>) -> Vec<i64> {
    match constant {
        Some(Constant::I64(codes)) => codes.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn convolution() {
    // Weights (out 2, H 1, W 2, in 2).
    let graph = Build::new()
        .input(int8("x", &[1, 4, 5, 2], 0.5, -3))
        .with(
            tensor("w", INT8, &[2, 1, 2, 2])
                .codes(&[1, 2, 3, 4, 5, 6, 7, 8])
                .grids(&[0.25, 0.125], &[0, 0], 0),
        )
        .with(
            tensor("b", INT32, &[2])
                .ints(&[100, -200])
                .grids(&[0.125, 0.0625], &[0, 0], 0),
        )
        .output(int8("y", &[1, 4, 3, 2], 0.1, 7))
        .node_with(
            "CONV_2D",
            &["x", "w", "b"],
            &["y"],
            &conv(SAME, [2, 1], 3, [1, 1]),
        )
        .graph();
    assert_eq!(
        names(&graph),
        [
            "x (channels first)",
            "CONV_2D_0",
            "CONV_2D_0.RELU6",
            "CONV_2D_0.QUANTIZE"
        ]
    );
    let main = node(&graph, "CONV_2D_0");
    assert_eq!(main.op_type, "CONV_2D");
    // SAME puts the odd element at the end.
    let expected = Conv {
        kernel: vec![1, 2],
        strides: vec![1, 2],
        pads_before: vec![0, 0],
        pads_after: vec![0, 1],
        dilations: vec![1, 1],
        groups: 1,
    };
    assert_eq!(main.op, Op::Conv(expected));
    assert_eq!(inputs(&graph, main), ["x (channels first)", "w", "b"]);
    let x = value(&graph, "x");
    assert_eq!(
        (x.shape.as_slice(), &x.file_axes),
        (&[1, 4, 5, 2][..], &None)
    );
    assert_eq!(value(&graph, "x (channels first)").shape, [1, 2, 4, 5]);
    let w = value(&graph, "w");
    assert_eq!(w.shape, [2, 2, 1, 2]);
    assert_eq!(codes(w.constant.as_deref()), [1, 3, 2, 4, 5, 7, 6, 8]);
    let stored = w.stored.as_ref().unwrap();
    assert_eq!(
        (stored.scale.axis, stored.scale.values.as_slice()),
        (Some(0), &[0.25, 0.125][..])
    );
    assert_eq!(w.file_axes.as_deref(), Some(&CHANNELS_LAST[..]));
    let b = value(&graph, "b");
    assert_eq!(b.stored.as_ref().unwrap().bits, 32);
    assert_eq!(b.stored.as_ref().unwrap().scale.axis, Some(0));
    assert_eq!(codes(b.constant.as_deref()), [100, -200]);
    let y = value(&graph, "y");
    assert_eq!(
        (y.shape.as_slice(), y.file_axes.as_deref()),
        (&[1, 2, 4, 3][..], Some(&CHANNELS_LAST[..]))
    );
    assert_eq!(y.aliases, ["3:y", "3"]);
    let Op::Quantize(Quantizer::Affine(grid)) = &node(&graph, "CONV_2D_0.QUANTIZE").op else {
        panic!()
    };
    assert_eq!(Some(grid), y.stored.as_ref());
    assert_eq!((grid.scale.at(0), grid.zero_point.at(0)), (0.1, 7.0));
    assert_eq!((grid.min_code(), grid.max_code()), (-128, 127));
    let clip = Activation::Clip { min: 0.0, max: 6.0 };
    assert_eq!(node(&graph, "CONV_2D_0.RELU6").op, Op::Activation(clip));
    assert!(
        graph
            .find("y (before RELU6)")
            .is_some_and(|id| graph.shape(id) == [1, 2, 4, 3])
    );
}

#[test]
fn convolution_with_groups_dilations_and_no_bias() {
    let build = |w: &[i32], y: &[i32], options: &[Field]| {
        Build::new()
            .input(real("x", &[2, 9, 9, 4]))
            .with(real("w", w).reals(&vec![0.5; w.iter().product::<i32>() as usize]))
            .output(real("y", y))
            .node_with("CONV_2D", &["x", "w", ""], &["y"], options)
    };
    let options = conv(VALID, [1, 1], 0, [2, 3]);
    let graph = build(&[6, 3, 3, 2], &[2, 3, 5, 6], &options).graph();
    let Op::Conv(found) = &node(&graph, "CONV_2D_0").op else {
        panic!()
    };
    assert_eq!((found.groups, found.dilations.as_slice()), (2, &[3, 2][..]));
    assert_eq!(found.pads_after, [0, 0]);
    assert_eq!(node(&graph, "CONV_2D_0").inputs.len(), 2);
    // Reals stay reals.
    assert!(value(&graph, "y").stored.is_none());
    assert_eq!(names(&graph), ["x (channels first)", "CONV_2D_0"]);
    says(
        &build(&[6, 3, 3, 3], &[2, 3, 5, 6], &options).malformed(),
        &["CONV_2D_0", "3 channels", "4 channels"],
    );
    says(
        &build(&[6, 3, 3, 2], &[2, 3, 5, 7], &options).malformed(),
        &["CONV_2D_0", "'y'", "[2, 3, 5, 6]", "[2, 3, 5, 7]"],
    );
    let zero = conv(VALID, [0, 1], 0, [1, 1]);
    says(
        &build(&[6, 3, 3, 2], &[2, 3, 5, 6], &zero).malformed(),
        &["stride is 0"],
    );
    says(
        &build(&[6, 3, 3, 2], &[2, 3, 5, 6], &[]).malformed(),
        &["options are missing"],
    );
    says(
        &build(
            &[6, 3, 3, 2],
            &[2, 3, 5, 6],
            &conv(VALID, [1, 1], 4, [1, 1]),
        )
        .unsupported(),
        &["CONV_2D_0", "TANH"],
    );
    says(
        &build(
            &[6, 9, 9, 2],
            &[2, 3, 5, 6],
            &conv(VALID, [1, 1], 0, [2, 1]),
        )
        .malformed(),
        &["17 elements", "9"],
    );
}

#[test]
fn depthwise_convolution() {
    // 2 channels, 2 outputs each; the file's axis 3 becomes axis 0.
    let scales = [0.5, 0.25, 0.125, 1.0];
    let graph = Build::new()
        .input(tensor("x", UINT8, &[1, 2, 2, 2]).grid(0.5, 128))
        .with(
            tensor("w", UINT8, &[1, 1, 2, 4])
                .bytes(&[0, 1, 2, 3, 4, 5, 6, 7])
                .grids(&scales, &[1, 2, 3, 4], 3),
        )
        .output(tensor("y", UINT8, &[1, 2, 2, 4]).grid(0.5, 0))
        .node_with(
            "DEPTHWISE_CONV_2D",
            &["x", "w"],
            &["y"],
            &[
                SAME,
                Field::I32(1),
                Field::I32(1),
                Field::I32(2),
                Field::I8(1),
            ],
        )
        .graph();
    let Op::Conv(found) = &node(&graph, "DEPTHWISE_CONV_2D_0").op else {
        panic!()
    };
    assert_eq!(found.groups, 2);
    let w = value(&graph, "w");
    assert_eq!(w.shape, [4, 1, 1, 2]);
    assert_eq!(codes(w.constant.as_deref()), [0, 4, 1, 5, 2, 6, 3, 7]);
    let stored = w.stored.as_ref().unwrap();
    assert_eq!(
        (stored.scale.axis, stored.zero_point.axis),
        (Some(0), Some(0))
    );
    assert_eq!(stored.zero_point.values, [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(w.file_axes.as_deref(), Some(&[1, 2, 3, 0][..]));
    assert_eq!(value(&graph, "y").shape, [1, 4, 2, 2]);
    assert_eq!(
        names(&graph)[1..],
        [
            "DEPTHWISE_CONV_2D_0",
            "DEPTHWISE_CONV_2D_0.RELU",
            "DEPTHWISE_CONV_2D_0.QUANTIZE"
        ]
    );
}

#[test]
fn transposed_convolution() {
    let build = |y: &[i32], same: Field| {
        Build::new()
            .input(tensor("s", INT32, &[4]))
            .with(
                int8("w", &[3, 2, 3, 2], 0.5, 0)
                    .codes(&[1; 36])
                    .grids(&[0.5; 3], &[0; 3], 0),
            )
            .input(int8("x", &[1, 2, 2, 2], 0.5, 0))
            .with(
                tensor("b", INT64, &[3])
                    .bytes(&[0; 24])
                    .grids(&[0.25; 3], &[0; 3], 0),
            )
            .output(int8("y", y, 0.5, 0))
            .node_with(
                "TRANSPOSE_CONV",
                &["s", "w", "x", "b"],
                &["y"],
                &[same, Field::I32(2), Field::I32(2)],
            )
    };
    let graph = build(&[1, 4, 4, 3], SAME).graph();
    let main = node(&graph, "TRANSPOSE_CONV_0");
    let expected = ConvTranspose {
        kernel: vec![2, 3],
        strides: vec![2, 2],
        // (2 - 1) * 2 + 3 - 4 = 1 element of padding, at the end.
        pads_before: vec![0, 0],
        dilations: vec![1, 1],
        groups: 1,
    };
    assert_eq!(main.op, Op::ConvTranspose(expected));
    let w = value(&graph, "w");
    assert_eq!(w.shape, [2, 3, 2, 3]);
    assert_eq!(w.stored.as_ref().unwrap().scale.axis, Some(1));
    assert_eq!(value(&graph, "b").stored.as_ref().unwrap().bits, 64);
    assert_eq!(value(&graph, "y").shape, [1, 3, 4, 4]);
    says(
        &build(&[1, 4, 4, 3], SAME).notes(),
        &["TRANSPOSE_CONV_0", "not constant"],
    );
    build(&[1, 4, 5, 3], VALID).graph();
    says(
        &build(&[1, 4, 7, 3], VALID).malformed(),
        &["4 x 7", "2 x 3", "2 x 2"],
    );
}

#[test]
fn fully_connected() {
    let w: Vec<i8> = (0..16).collect();
    let dense = |x: &[i32], y: &[i32], keep: i8| {
        Build::new()
            .input(int8("x", x, 0.5, 0))
            .with(int8("w", &[2, 8], 0.25, 0).codes(&w))
            .with(tensor("b", INT32, &[2]).ints(&[1, 2]).grid(0.125, 0))
            .output(int8("y", y, 0.5, 0))
            .node_with(
                "FULLY_CONNECTED",
                &["x", "w", "b"],
                &["y"],
                &[Field::I8(1), Field::I8(0), Field::I8(keep)],
            )
    };
    let graph = dense(&[3, 8], &[3, 2], 0).graph();
    let expected = Gemm {
        alpha: 1.0,
        beta: 1.0,
        trans_a: false,
        trans_b: true,
    };
    assert_eq!(node(&graph, "FULLY_CONNECTED_0").op, Op::Gemm(expected));
    assert_eq!(
        names(&graph),
        [
            "FULLY_CONNECTED_0",
            "FULLY_CONNECTED_0.RELU",
            "FULLY_CONNECTED_0.QUANTIZE"
        ]
    );
    // Flattened before, and given its axes back after.
    let graph = dense(&[3, 2, 2, 8], &[12, 2], 0).graph();
    assert_eq!(names(&graph)[0], "FULLY_CONNECTED_0.rows");
    let graph = dense(&[3, 2, 8], &[3, 2, 2], 1).graph();
    assert_eq!(
        names(&graph),
        [
            "FULLY_CONNECTED_0.rows",
            "FULLY_CONNECTED_0",
            "FULLY_CONNECTED_0.RELU",
            "FULLY_CONNECTED_0.RESHAPE",
            "FULLY_CONNECTED_0.QUANTIZE"
        ]
    );
    assert_eq!(value(&graph, "y (before RESHAPE)").shape, [6, 2]);
    assert_eq!(value(&graph, "y (before QUANTIZE)").shape, [3, 2, 2]);
    says(
        &dense(&[3, 2, 4], &[3, 2, 2], 1).malformed(),
        &["end in an axis of 8"],
    );
    says(&dense(&[3, 3], &[3, 2], 0).malformed(), &["rows of 8"]);
}

/// Something that is computed channels first.
fn pooled() -> Build {
    Build::new()
        .input(int8("x", &[1, 4, 6, 3], 0.5, 0))
        .with(int8("p", &[1, 2, 3, 3], 0.5, 0))
        .node_with("MAX_POOL_2D", &["x"], &["p"], &pool(VALID, 2, [2, 2]))
}

#[test]
fn pools() {
    let graph = pooled()
        .output(int8("a", &[1, 1, 1, 3], 0.5, 0))
        .output(int8("m", &[1, 2, 3, 3], 0.25, 0))
        .node_with("AVERAGE_POOL_2D", &["p"], &["a"], &pool(VALID, 1, [3, 2]))
        .node_with("MAX_POOL_2D", &["p"], &["m"], &pool(SAME, 1, [2, 2]))
        .graph();
    // Where the grids are equal, codes are only compared.
    let whole = Pool {
        kernel: vec![2, 3],
        strides: vec![1, 1],
        pads_before: vec![0, 0],
        pads_after: vec![0, 0],
        dilations: vec![1, 1],
    };
    assert_eq!(
        names(&graph),
        [
            "x (channels first)",
            "MAX_POOL_2D_0",
            "AVERAGE_POOL_2D_1",
            "AVERAGE_POOL_2D_1.QUANTIZE",
            "MAX_POOL_2D_2",
            "MAX_POOL_2D_2.QUANTIZE"
        ]
    );
    assert_eq!(
        node(&graph, "AVERAGE_POOL_2D_1").op,
        Op::AveragePool {
            pool: whole,
            count_include_pad: false
        }
    );
    let Op::MaxPool(same) = &node(&graph, "MAX_POOL_2D_2").op else {
        panic!()
    };
    assert_eq!(
        (&same.pads_before, &same.pads_after),
        (&vec![0, 0], &vec![1, 1])
    );
}

#[test]
fn means() {
    let mean = |axes: &[i32], keep: i8, y: &[i32]| {
        pooled()
            .with(list("axes", axes))
            .output(int8("y", y, 0.5, 0))
            .node_with("MEAN", &["p", "axes"], &["y"], &[Field::I8(keep)])
            .graph()
    };
    let graph = mean(&[1, 2], 1, &[1, 1, 1, 3]);
    assert_eq!(node(&graph, "MEAN_1").op, Op::Mean { axes: vec![2, 3] });
    assert_eq!(value(&graph, "y").shape, [1, 3, 1, 1]);
    assert_eq!(
        value(&graph, "y").file_axes.as_deref(),
        Some(&CHANNELS_LAST[..])
    );
    let graph = mean(&[-2, 1, 1], 0, &[1, 3]);
    assert_eq!(node(&graph, "MEAN_1").op, Op::Mean { axes: vec![2, 3] });
    assert_eq!(inputs(&graph, node(&graph, "MEAN_1")), ["p"]);
    assert!(value(&graph, "y").file_axes.is_none());
    // Channels first, (N, C, W) would be left; the file says (N, W, C).
    let graph = mean(&[1], 0, &[1, 3, 3]);
    assert_eq!(inputs(&graph, node(&graph, "MEAN_1")), ["p (file order)"]);
    assert_eq!(node(&graph, "MEAN_1").op, Op::Mean { axes: vec![1] });
    let graph = mean(&[3], 0, &[1, 2, 3]);
    assert_eq!(node(&graph, "MEAN_1").op, Op::Mean { axes: vec![1] });
    assert_eq!(value(&graph, "y").shape, [1, 2, 3]);
}

#[test]
fn elementwise_operators_broadcast_in_any_order_of_axes() {
    let graph = pooled()
        .with(int8("c", &[3], 0.5, 0).codes(&[1, 2, 3]))
        .with(int8("t", &[1, 2, 1, 3], 0.5, 0).codes(&[1, 2, 3, 4, 5, 6]))
        .with(int8("s", &[], 0.5, 0).codes(&[9]))
        .with(int8("pc", &[1, 2, 3, 3], 0.5, 1))
        .with(int8("pt", &[1, 2, 3, 3], 0.5, 1))
        .with(int8("ps", &[1, 2, 3, 3], 0.5, 1))
        .output(int8("y", &[1, 2, 3, 3], 0.5, 1))
        .node_with("ADD", &["p", "c"], &["pc"], &[Field::I8(1)])
        .node("MUL", &["t", "p"], &["pt"])
        .node("SUB", &["pc", "s"], &["ps"])
        .node_with("ADD", &["pt", "ps"], &["y"], &[Field::I8(2)])
        .graph();
    assert_eq!(value(&graph, "c").shape, [1, 3, 1, 1]);
    assert_eq!(codes(value(&graph, "c").constant.as_deref()), [1, 2, 3]);
    assert_eq!(value(&graph, "t").shape, [1, 3, 2, 1]);
    assert_eq!(
        codes(value(&graph, "t").constant.as_deref()),
        [1, 4, 2, 5, 3, 6]
    );
    assert!(value(&graph, "s").shape.is_empty());
    assert_eq!(node(&graph, "SUB_3").op, Op::Binary(Binary::Sub));
    assert_eq!(inputs(&graph, node(&graph, "MUL_2")), ["t", "p"]);
    let clip = Activation::Clip {
        min: -1.0,
        max: 1.0,
    };
    assert_eq!(node(&graph, "ADD_4.RELU_N1_TO_1").op, Op::Activation(clip));
    // No transposition but the first.
    let transpositions = graph.nodes.iter().filter(|n| n.op_type == "TRANSPOSE");
    assert_eq!(transpositions.count(), 1);
    // One operand in the file's order, one channels first.
    let mixed = pooled()
        .input(int8("z", &[1, 2, 3, 3], 0.5, 0))
        .output(int8("y", &[1, 2, 3, 3], 0.5, 1))
        .node("ADD", &["z", "p"], &["y"])
        .graph();
    assert_eq!(
        inputs(&mixed, node(&mixed, "ADD_1")),
        ["z (channels first)", "p"]
    );
    // A computed tensor of fewer axes.
    let fewer = pooled()
        .input(int8("z", &[3], 0.5, 0))
        .output(int8("y", &[1, 2, 3, 3], 0.5, 1))
        .node("ADD", &["z", "p"], &["y"])
        .graph();
    assert_eq!(
        inputs(&fewer, node(&fewer, "ADD_1")),
        ["z", "p (file order)"]
    );
}

#[test]
fn activations() {
    for (op, expected) in [
        ("RELU", Activation::Relu),
        ("RELU6", Activation::Clip { min: 0.0, max: 6.0 }),
        (
            "RELU_N1_TO_1",
            Activation::Clip {
                min: -1.0,
                max: 1.0,
            },
        ),
        ("LOGISTIC", Activation::Sigmoid),
        ("TANH", Activation::Tanh),
        ("HARD_SWISH", Activation::HardSwish),
    ] {
        let graph = Build::new()
            .input(tensor("x", INT16, &[2, 3]).grid(0.5, 0))
            .output(tensor("y", INT16, &[2, 3]).grid(0.5, 0))
            .node(op, &["x"], &["y"])
            .graph();
        assert_eq!(graph.nodes[0].op, Op::Activation(expected), "{op}");
        assert_eq!(graph.nodes[0].op_type, op);
        // Always a quantizer, even on equal grids.
        assert_eq!(
            names(&graph),
            [format!("{op}_0"), format!("{op}_0.QUANTIZE")]
        );
    }
    let leaky = Build::new()
        .input(real("x", &[2]))
        .output(real("y", &[2]))
        .node_with("LEAKY_RELU", &["x"], &["y"], &[Field::F32(0.25)])
        .graph();
    let expected = Op::Activation(Activation::LeakyRelu { alpha: 0.25 });
    assert_eq!(leaky.nodes[0].op, expected);
    let graph = pooled()
        .with(int8("slope", &[1, 1, 3], 0.5, 0).codes(&[1, 2, 3]))
        .output(int8("y", &[1, 2, 3, 3], 0.5, 0))
        .node("PRELU", &["p", "slope"], &["y"])
        .graph();
    assert_eq!(
        node(&graph, "PRELU_1").op,
        Op::Activation(Activation::PRelu)
    );
    assert_eq!(value(&graph, "slope").shape, [1, 3, 1, 1]);
}

#[test]
fn softmax() {
    let build = |beta: f32| {
        pooled()
            .output(int8("y", &[1, 2, 3, 3], 1.0 / 256.0, -128))
            .node_with("SOFTMAX", &["p"], &["y"], &[Field::F32(beta)])
    };
    let graph = build(1.0).graph();
    assert_eq!(
        node(&graph, "SOFTMAX_1").op,
        Op::Softmax { axis: 1, beta: 1.0 }
    );
    let graph = build(2.0).graph();
    assert_eq!(names(&graph)[2..], ["SOFTMAX_1", "SOFTMAX_1.QUANTIZE"]);
    assert_eq!(
        node(&graph, "SOFTMAX_1").op,
        Op::Softmax { axis: 1, beta: 2.0 }
    );
    says(&build(0.0).malformed(), &["beta is 0"]);
}

#[test]
fn quantizers() {
    let graph = Build::new()
        .input(real("x", &[2, 2]))
        .with(int8("q", &[2, 2], 0.5, 3))
        .with(tensor("u", UINT8, &[2, 2]).grid(0.25, 128))
        .output(real("y", &[2, 2]))
        .node("QUANTIZE", &["x"], &["q"])
        .node("QUANTIZE", &["q"], &["u"])
        .node("DEQUANTIZE", &["u"], &["y"])
        .graph();
    assert_eq!(names(&graph), ["QUANTIZE_0", "QUANTIZE_1", "DEQUANTIZE_2"]);
    let kinds: Vec<_> = graph
        .nodes
        .iter()
        .map(|node| matches!(node.op, Op::Quantize(_)))
        .collect();
    assert_eq!(kinds, [true, true, false]);
    assert_eq!(graph.nodes[2].op, Op::Identity);
    let Op::Quantize(Quantizer::Affine(grid)) = &graph.nodes[1].op else {
        panic!()
    };
    assert_eq!((grid.min_code(), grid.max_code()), (0, 255));
    // Half-precision weights are reals; integer ones stay codes.
    let graph = Build::new()
        .input(real("x", &[1, 2]))
        .with(tensor("h", FLOAT16, &[1, 2]).bytes(&[0x00, 0x3c, 0x00, 0xc0]))
        .with(real("w", &[1, 2]))
        .with(int8("i", &[1, 2], 0.5, 1).codes(&[3, 5]))
        .with(real("v", &[1, 2]))
        .with(real("a", &[1, 2]))
        .output(real("y", &[1, 2]))
        .node("DEQUANTIZE", &["h"], &["w"])
        .node("DEQUANTIZE", &["i"], &["v"])
        .node("ADD", &["x", "w"], &["a"])
        .node("ADD", &["a", "v"], &["y"])
        .graph();
    assert_eq!(names(&graph), ["DEQUANTIZE_1", "ADD_2", "ADD_3"]);
    let w = value(&graph, "w").constant.as_deref();
    assert_eq!(w, Some(&Constant::F32(vec![1.0, -2.0])));
    assert!(value(&graph, "i").stored.is_some());
}

#[test]
fn four_bits() {
    let graph = Build::new()
        .input(int8("x", &[1, 3], 0.5, 0))
        .with(tensor("w", INT4, &[1, 3]).bytes(&[0x8f, 0x07]).grid(0.5, 0))
        .output(int8("y", &[1, 1], 0.5, 0))
        .node("FULLY_CONNECTED", &["x", "w"], &["y"])
        .graph();
    let w = value(&graph, "w");
    assert_eq!(codes(w.constant.as_deref()), [-1, -8, 7]);
    assert_eq!(w.stored.as_ref().unwrap().bits, 4);
}

#[test]
fn paddings() {
    let build = |op: &str, extra: Option<i8>, options: &[Field], y: &[i32]| {
        let mut build = pooled().with(list("n", &[0, 0, 1, 2, 0, 1, 0, 0]));
        build.tensors[2].shape = vec![4, 2];
        let mut names = vec!["p", "n"];
        if let Some(code) = extra {
            build = build.with(int8("f", &[1], 0.5, 2).codes(&[code]));
            names.push("f");
        }
        build
            .output(int8("y", y, 0.5, 0))
            .node_with(op, &names, &["y"], options)
    };
    let expected = |fill| {
        Op::Pad(Pad {
            mode: fill,
            before: vec![0, 0, 1, 0],
            after: vec![0, 0, 2, 1],
        })
    };
    let graph = build("PAD", None, &[], &[1, 5, 4, 3]).graph();
    assert_eq!(node(&graph, "PAD_1").op, expected(PadMode::Constant(0.0)));
    assert_eq!(value(&graph, "y").shape, [1, 3, 5, 4]);
    // Equal grids: codes are copied.
    assert_eq!(graph.nodes.len(), 3);
    let graph = build("PADV2", Some(5), &[], &[1, 5, 4, 3]).graph();
    assert_eq!(node(&graph, "PADV2_1").op, expected(PadMode::Constant(1.5)));
    says(
        &build("MIRROR_PAD", None, &[Field::I8(0)], &[1, 5, 4, 3]).malformed(),
        &["mirrors 2"],
    );
    // With the edge, two of two elements can be mirrored.
    let graph = build("MIRROR_PAD", None, &[Field::I8(1)], &[1, 5, 4, 3]).graph();
    let axes = vec![
        ResizeAxis::Nearest(vec![0]),
        ResizeAxis::Nearest(vec![0, 1, 2]),
        ResizeAxis::Nearest(vec![0, 0, 1, 1, 0]),
        ResizeAxis::Nearest(vec![0, 1, 2, 2]),
    ];
    let wanted = Resize {
        axes,
        coordinates: None,
    };
    assert_eq!(node(&graph, "MIRROR_PAD_1").op, Op::Resize(wanted));
    says(
        &build("PAD", None, &[], &[1, 5, 5, 3]).malformed(),
        &["[1, 5, 4, 3]"],
    );
}

#[test]
fn concatenation() {
    let build = |zero: i64| {
        pooled()
            .with(int8("q", &[1, 2, 3, 3], 0.5, zero))
            .output(int8("y", &[1, 2, 3, 6], 0.5, 0))
            .node("RELU", &["p"], &["q"])
            .node_with(
                "CONCATENATION",
                &["p", "q"],
                &["y"],
                &[Field::I32(-1), Field::I8(0)],
            )
    };
    let graph = build(0).graph();
    assert_eq!(node(&graph, "CONCATENATION_2").op, Op::Concat { axis: 1 });
    assert_eq!(names(&graph).last(), Some(&"CONCATENATION_2"));
    let graph = build(1).graph();
    assert_eq!(names(&graph).last(), Some(&"CONCATENATION_2.QUANTIZE"));
}

#[test]
fn reshapes() {
    let build = |target: Option<&[i32]>, options: &[Field], y: &[i32]| {
        let mut build = pooled();
        let mut names = vec!["p"];
        if let Some(target) = target {
            build = build.with(list("t", target));
            names.push("t");
        }
        build
            .output(int8("y", y, 0.5, 0))
            .node_with("RESHAPE", &names, &["y"], options)
    };
    let graph = build(Some(&[1, -1]), &[], &[1, 18]).graph();
    assert_eq!(names(&graph)[2..], ["p (file order)", "RESHAPE_1"]);
    assert_eq!(value(&graph, "y").shape, [1, 18]);
    build(None, &[Field::I32s(vec![2, 9])], &[2, 9]).graph();
    build(None, &[], &[3, 6]).graph();
    says(
        &build(Some(&[-1, -1]), &[], &[1, 18]).malformed(),
        &["RESHAPE_1", "no shape"],
    );
    says(
        &build(Some(&[5, -1]), &[], &[1, 18]).malformed(),
        &["does not reshape"],
    );
    // Only axes of extent 1 have moved: no transposition.
    let graph = Build::new()
        .input(int8("x", &[1, 2, 2, 3], 0.5, 0))
        .with(int8("p", &[1, 1, 1, 3], 0.5, 0))
        .output(int8("y", &[1, 3], 0.5, 0))
        .node_with("MAX_POOL_2D", &["x"], &["p"], &pool(VALID, 1, [2, 2]))
        .node_with("SQUEEZE", &["p"], &["y"], &[Field::I32s(vec![1, -2])])
        .graph();
    assert_eq!(names(&graph)[1..], ["MAX_POOL_2D_0", "SQUEEZE_1"]);
    // A runtime copies codes here, whatever the grids.
    let mut other = build(Some(&[1, -1]), &[], &[1, 18]);
    other.tensors[3].scales = vec![0.25];
    assert_eq!(names(&other.graph()).last(), Some(&"RESHAPE_1.QUANTIZE"));
    says(&other.notes(), &["RESHAPE_1", "different grids"]);
}

#[test]
fn shapes_that_are_computed_from_shapes() {
    let build = Build::new()
        .input(int8("x", &[1, 2, 3], 0.5, 0).signature(&[-1, 2, 3]))
        .with(list("zero", &[0]))
        .with(list("one", &[1]))
        .with(tensor("six", INT32, &[]).ints(&[6]))
        .with(tensor("shape", INT32, &[3]))
        .with(tensor("batch", INT32, &[]))
        .with(tensor("target", INT32, &[2]))
        .output(int8("y", &[1, 6], 0.5, 0).signature(&[-1, 6]))
        .node("SHAPE", &["x"], &["shape"])
        .node_with(
            "STRIDED_SLICE",
            &["shape", "zero", "one", "one"],
            &["batch"],
            &[0, 0, 0, 0, 1].map(Field::I32),
        )
        .node_with(
            "PACK",
            &["batch", "six"],
            &["target"],
            &[Field::I32(2), Field::I32(0)],
        )
        .node("RESHAPE", &["x", "target"], &["y"]);
    let graph = build.graph();
    assert_eq!(names(&graph), ["RESHAPE_3"]);
    assert_eq!(value(&graph, "y").shape, [1, 6]);
    let graph = build.shape("x", &[5, 2, 3]).graph();
    assert_eq!(value(&graph, "y").shape, [5, 6]);
}

#[test]
fn transpositions() {
    let build = |perm: &[i32], y: &[i32]| {
        pooled()
            .with(list("perm", perm))
            .output(int8("y", y, 0.5, 0))
            .node("TRANSPOSE", &["p", "perm"], &["y"])
    };
    // To channels first, which it is already.
    let graph = build(&[0, 3, 1, 2], &[1, 3, 2, 3]).graph();
    let perm = vec![0, 1, 2, 3];
    assert_eq!(node(&graph, "TRANSPOSE_1").op, Op::Transpose { perm });
    let graph = build(&[0, 2, 1, 3], &[1, 3, 2, 3]).graph();
    let perm = vec![0, 3, 2, 1];
    assert_eq!(node(&graph, "TRANSPOSE_1").op, Op::Transpose { perm });
    assert!(value(&graph, "y").file_axes.is_none());
    says(&build(&[0, 1, 1, 2], &[1, 3, 2, 3]).malformed(), &["twice"]);
}

#[test]
fn slices() {
    let strided = |begin: &[i32], end: &[i32], by: &[i32], masks: [i32; 5], y: &[i32]| {
        let graph = pooled()
            .with(list("b", begin))
            .with(list("e", end))
            .with(list("s", by))
            .output(int8("y", y, 0.5, 0))
            .node_with(
                "STRIDED_SLICE",
                &["p", "b", "e", "s"],
                &["y"],
                &masks.map(Field::I32),
            )
            .graph();
        match &node(&graph, "STRIDED_SLICE_1").op {
            Op::Slice { starts, steps } => (starts.clone(), steps.clone()),
            other => panic!("{other:?}"),
        }
    };
    let none = [0; 5];
    // Channels first: the entries move with their axes.
    assert_eq!(
        strided(
            &[0, 1, 0, 0],
            &[1, 2, 9, 2],
            &[1, 1, 2, 1],
            none,
            &[1, 1, 2, 2]
        ),
        (vec![0, 0, 1, 0], vec![1, 1, 1, 2])
    );
    // From the end, backwards, to the very first.
    assert_eq!(
        strided(
            &[0, 0, -1, 7],
            &[1, 2, 0, 7],
            &[1, 1, -1, -2],
            [0, 0b1000, 0, 0, 0],
            &[1, 2, 2, 2]
        ),
        (vec![0, 2, 0, 2], vec![1, -2, 1, -1])
    );
    // A single index drops its axis, in the file's order.
    assert_eq!(
        strided(
            &[0, -1, 0, 0],
            &[0, 0, 0, 0],
            &[1; 4],
            [0b1101, 0b1101, 0, 0, 0b10],
            &[1, 3, 3]
        ),
        (vec![0, 1, 0, 0], vec![1; 4])
    );
    let graph = pooled()
        .with(list("b", &[0, 0, 1, 0]))
        .with(list("n", &[1, -1, 2, 3]))
        .output(int8("y", &[1, 2, 2, 3], 0.5, 0))
        .node("SLICE", &["p", "b", "n"], &["y"])
        .graph();
    let op = Op::Slice {
        starts: vec![0, 0, 0, 1],
        steps: vec![1; 4],
    };
    assert_eq!(node(&graph, "SLICE_1").op, op);
}

#[test]
fn splits() {
    let graph = pooled()
        .with(tensor("axis", INT32, &[]).ints(&[3]))
        .output(int8("y0", &[1, 2, 3, 1], 0.5, 0))
        .output(int8("y1", &[1, 2, 3, 1], 0.5, 0))
        .output(int8("y2", &[1, 2, 3, 1], 0.25, 0))
        .node_with(
            "SPLIT",
            &["axis", "p"],
            &["y0", "y1", "y2"],
            &[Field::I32(3)],
        )
        .graph();
    assert_eq!(
        names(&graph)[2..],
        ["SPLIT_1.0", "SPLIT_1.1", "SPLIT_1.2", "SPLIT_1.2.QUANTIZE"]
    );
    let op = Op::Slice {
        starts: vec![0, 2, 0, 0],
        steps: vec![1; 4],
    };
    assert_eq!(node(&graph, "SPLIT_1.2").op, op);
    let graph = pooled()
        .with(list("n", &[-1, 1]))
        .with(tensor("axis", INT32, &[]).ints(&[-2]))
        .output(int8("y0", &[1, 2, 2, 3], 0.5, 0))
        .output(int8("y1", &[1, 2, 1, 3], 0.5, 0))
        .node("SPLIT_V", &["p", "n", "axis"], &["y0", "y1"])
        .graph();
    assert_eq!(value(&graph, "y1").shape, [1, 3, 2, 1]);
    let graph = Build::new()
        .input(int8("x", &[2, 3], 0.5, 0))
        .with(int8("a", &[3], 0.5, 0))
        .with(int8("b", &[3], 0.5, 0))
        .output(int8("y", &[3, 2], 0.5, 0))
        .node_with(
            "UNPACK",
            &["x"],
            &["a", "b"],
            &[Field::I32(2), Field::I32(0)],
        )
        .node_with(
            "PACK",
            &["a", "b"],
            &["y"],
            &[Field::I32(2), Field::I32(-1)],
        )
        .graph();
    assert_eq!(
        names(&graph),
        [
            "UNPACK_0.0",
            "UNPACK_0.0.RESHAPE",
            "UNPACK_0.1",
            "UNPACK_0.1.RESHAPE",
            "PACK_1.input 0",
            "PACK_1.input 1",
            "PACK_1"
        ]
    );
}

#[test]
fn resampling() {
    let build = |op: &str, to: [i32; 2], options: [i8; 4]| {
        let y = [1, to[0], to[1], 3];
        let graph = pooled()
            .with(list("to", &to))
            .output(int8("y", &y, 0.5, 0))
            .node_with(op, &["p", "to"], &["y"], &options.map(Field::I8))
            .graph();
        match &node(&graph, &format!("{op}_1")).op {
            Op::Resize(resize) => resize.axes[2..].to_vec(),
            other => panic!("{other:?}"),
        }
    };
    let nearest = |to, options| build("RESIZE_NEAREST_NEIGHBOR", to, options);
    // Height 2, width 3.
    assert_eq!(
        nearest([4, 3], [0; 4]),
        [ResizeAxis::Nearest(vec![0, 0, 1, 1]), ResizeAxis::Copy]
    );
    assert_eq!(
        nearest([3, 2], [0, 1, 0, 0]),
        [
            ResizeAxis::Nearest(vec![0, 1, 1]),
            ResizeAxis::Nearest(vec![0, 2])
        ]
    );
    // Aligned corners round half away: 0.5 is 1.
    assert_eq!(
        nearest([3, 5], [1, 0, 0, 0]),
        [
            ResizeAxis::Nearest(vec![0, 1, 1]),
            ResizeAxis::Nearest(vec![0, 1, 1, 2, 2])
        ]
    );
    let bilinear = |to, options| build("RESIZE_BILINEAR", to, options);
    assert_eq!(
        bilinear([4, 3], [0; 4]),
        [
            ResizeAxis::Linear(vec![(0, 0, 0.0), (0, 1, 0.5), (1, 1, 0.0), (1, 1, 0.0)]),
            ResizeAxis::Copy
        ]
    );
    assert_eq!(
        bilinear([4, 3], [0, 0, 0, 1])[0],
        ResizeAxis::Linear(vec![(0, 0, 0.0), (0, 1, 0.25), (0, 1, 0.75), (1, 1, 0.0)])
    );
    assert_eq!(
        bilinear([3, 3], [0, 0, 1, 0])[0],
        ResizeAxis::Linear(vec![(0, 0, 0.0), (0, 1, 0.5), (1, 1, 0.0)])
    );
}

#[test]
fn depth_to_space() {
    let graph = Build::new()
        .input(int8("x", &[1, 2, 2, 8], 0.5, 0))
        .output(int8("y", &[1, 4, 4, 2], 0.5, 0))
        .node_with("DEPTH_TO_SPACE", &["x"], &["y"], &[Field::I32(2)])
        .graph();
    let op = Op::DepthToSpace {
        block: 2,
        depth_first: true,
    };
    assert_eq!(node(&graph, "DEPTH_TO_SPACE_0").op, op);
}
