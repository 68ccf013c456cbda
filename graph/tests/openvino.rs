//! OpenVINO IRs: names, stored weights, biases, quantizers, and one layer after the other.

mod common;
mod openvino_writer;

use align_check_graph::{
    Activation, Binary, Constant, Coordinates, Error, Op, PadMode, PerChannel, Quantizer,
    ResizeAxis,
};
use common::{list, says, value};
use openvino_writer::{Ir, Out};

/// `x` of a shape through one layer to a result.
fn through(shape: &[i64], layer: impl FnOnce(&mut Ir, Out) -> Out) -> Ir {
    let mut ir = Ir::new();
    let x = ir.parameter("x", shape);
    let y = layer(&mut ir, x);
    ir.result(y, "");
    ir
}

const WINDOW: &str =
    r#"strides="1,1" dilations="1,1" pads_begin="1,1" pads_end="1,1" auto_pad="explicit""#;

/// A convolution as NNCF writes it: int8 weights, one scale an output, a bias behind it, a quantizer.
fn quantized() -> Ir {
    let mut ir = Ir::new();
    let x = ir.parameter("x", &[1, 2, 4, 4]);
    let q = ir.fake_quantize(x, "x/fq", 256, [0.0, 25.5], &[1, 2, 4, 4]);
    let weights: Vec<i8> = (0..54).map(|i| (i * 5 - 128) as i8).collect();
    let w = ir.i8s("w", &[3, 2, 3, 3], &weights);
    let w = ir.layer(
        "Convert",
        "w/f32",
        r#"destination_type="f32""#,
        &[w],
        &[3, 2, 3, 3],
    );
    let s = ir.f32s("scale", &[3, 1, 1, 1], &[0.5, 0.25, 0.125]);
    let w = ir.layer(
        "Multiply",
        "w/scaled",
        r#"auto_broadcast="numpy""#,
        &[w, s],
        &[3, 2, 3, 3],
    );
    let conv = ir.layer("Convolution", "conv", WINDOW, &[q, w], &[1, 3, 4, 4]);
    let bias = ir.f32s("b", &[1, 3, 1, 1], &[1.0, -2.0, 3.0]);
    let id = ir.layer_of(
        ["Add", "opset1", "sum"],
        r#"auto_broadcast="numpy""#,
        &[conv, bias],
        &[("named,other\\,name", &[1, 3, 4, 4])],
    );
    let relu = ir.layer("ReLU", "relu", "", &[Out(id, 2)], &[1, 3, 4, 4]);
    let y = ir.fake_quantize(relu, "relu/fq", 255, [0.0, 25.4], &[1, 3, 4, 4]);
    ir.result(y, "y");
    ir
}

#[test]
fn nncfs_convolution() {
    let ir = quantized();
    let model = ir.read().unwrap();
    assert_eq!(model.format(), "openvino");
    assert_eq!(model.inputs()[0].name, "x");
    assert_eq!(model.inputs()[0].dims, [1, 2, 4, 4].map(Some));
    let graph = ir.graph();
    let kinds: Vec<_> = graph.nodes.iter().map(|n| n.op_type.as_str()).collect();
    assert_eq!(
        kinds,
        ["FakeQuantize", "Convolution", "ReLU", "FakeQuantize"]
    );
    let conv = &graph.nodes[1];
    assert_eq!(conv.name, "conv");
    let Op::Conv(op) = &conv.op else {
        panic!("{conv:?}")
    };
    assert_eq!(
        (&op.kernel[..], &op.pads_after[..], op.groups),
        (&[3, 3][..], &[1, 1][..], 1)
    );
    // The codes that the file stores, and what they mean.
    let weights = graph.value(conv.inputs[1]);
    let Some(Constant::I64(codes)) = weights.constant.as_deref() else {
        panic!("{weights:?}")
    };
    assert_eq!((codes[0], codes[53]), (-128, -119));
    let stored = weights.stored.as_ref().unwrap();
    assert_eq!((stored.bits, stored.signed), (8, true));
    assert_eq!(stored.scale, list(&[0.5, 0.25, 0.125], 0));
    // The addition is the bias.
    let bias = graph.value(conv.inputs[2]);
    assert_eq!(bias.shape, [3]);
    assert_eq!(
        bias.constant.as_deref(),
        Some(&Constant::F32(vec![1.0, -2.0, 3.0]))
    );
    // Names of ports first, names of layers else; the others are aliases.
    let sum = value(&graph, "named");
    assert_eq!(sum.aliases, ["other,name", "sum"]);
    assert_eq!(value(&graph, "relu/fq").aliases, ["y"]);
    let Op::Quantize(Quantizer::FakeQuantize(q)) = &graph.nodes[3].op else {
        panic!("{:?}", graph.nodes[3])
    };
    assert_eq!((q.levels, q.channels(), q.keeps_range()), (255, 1, true));
    assert_eq!(q.output_high, PerChannel::uniform(25.4));
    assert!(!graph.integer);
}

#[test]
fn additions_that_are_no_bias() {
    let build = |read_twice: bool, shape: &[i64]| {
        let mut ir = Ir::new();
        let x = ir.parameter("x", &[1, 2, 2, 2]);
        let w = ir.f32s("w", &[2, 2, 1, 1], &[1.0; 4]);
        let window = WINDOW
            .replace("1,1\" auto", "0,0\" auto")
            .replace("begin=\"1,1", "begin=\"0,0");
        let conv = ir.layer("Convolution", "conv", &window, &[x, w], &[1, 2, 2, 2]);
        let count = shape.iter().product::<i64>() as usize;
        let b = ir.f32s("b", shape, &vec![0.5; count]);
        let y = ir.layer("Add", "sum", "", &[b, conv], &[1, 2, 2, 2]);
        ir.result(y, "");
        if read_twice {
            ir.result(conv, "");
        }
        ir.graph().nodes.len()
    };
    assert_eq!(build(false, &[1, 2, 1, 1]), 1);
    assert_eq!(build(false, &[2, 1, 1]), 1);
    // Read elsewhere, too; one number for all; along another axis.
    assert_eq!(build(true, &[1, 2, 1, 1]), 2);
    assert_eq!(build(false, &[1]), 2);
    assert_eq!(build(false, &[1, 1, 2, 1]), 2);
}

#[test]
fn weights_with_zero_points_and_of_four_bits() {
    let mut ir = Ir::new();
    let x = ir.parameter("x", &[1, 4]);
    let w = ir.constant("w", "u4", &[2, 4], &[0x10, 0x32, 0x54, 0xfe]);
    let w = ir.layer(
        "Convert",
        "w/f32",
        r#"destination_type="f32""#,
        &[w],
        &[2, 4],
    );
    let z = ir.constant("z", "u4", &[2, 1], &[0x78]);
    let z = ir.layer(
        "Convert",
        "z/f32",
        r#"destination_type="f32""#,
        &[z],
        &[2, 1],
    );
    let w = ir.layer("Subtract", "w/centred", "", &[w, z], &[2, 4]);
    let s = ir.f32s("s", &[2, 1], &[0.5, 2.0]);
    let w = ir.layer("Multiply", "w/scaled", "", &[w, s], &[2, 4]);
    let data = r#"transpose_a="false" transpose_b="true""#;
    let y = ir.layer("MatMul", "product", data, &[x, w], &[1, 2]);
    ir.result(y, "");
    let (node, shape) = ir.only();
    assert!(matches!(&node.op, Op::Gemm(g) if g.trans_b && !g.trans_a));
    assert_eq!(shape, [1, 2]);
    let graph = ir.graph();
    let weights = graph.value(node.inputs[1]);
    assert_eq!(
        weights.constant.as_deref(),
        Some(&Constant::I64(vec![0, 1, 2, 3, 4, 5, 14, 15]))
    );
    let stored = weights.stored.as_ref().unwrap();
    assert_eq!((stored.bits, stored.signed), (4, false));
    assert_eq!(stored.zero_point, list(&[8.0, 7.0], 0));
    assert_eq!(stored.scale, list(&[0.5, 2.0], 0));
}

#[test]
fn weights_of_groups() {
    let mut ir = Ir::new();
    let x = ir.parameter("x", &[1, 2, 3, 3]);
    let w = ir.i8s("w", &[2, 2, 1, 1, 1], &[1, 2, 3, 4]);
    let w = ir.layer(
        "Convert",
        "w/f32",
        r#"destination_type="f32""#,
        &[w],
        &[2, 2, 1, 1, 1],
    );
    let s = ir.f32s("s", &[2, 1, 1, 1, 1], &[0.5, 2.0]);
    let w = ir.layer("Multiply", "w/scaled", "", &[w, s], &[2, 2, 1, 1, 1]);
    let window =
        r#"strides="1,1" pads_begin="0,0" pads_end="0,0" dilations="1,1" auto_pad="explicit""#;
    let y = ir.layer("GroupConvolution", "conv", window, &[x, w], &[1, 4, 3, 3]);
    ir.result(y, "");
    let (node, shape) = ir.only();
    assert!(matches!(&node.op, Op::Conv(c) if c.groups == 2));
    assert_eq!(shape, [1, 4, 3, 3]);
    let graph = ir.graph();
    let weights = graph.value(node.inputs[1]);
    assert_eq!(weights.shape, [4, 1, 1, 1]);
    // One scale a group is one for each of its channels.
    assert_eq!(
        weights.stored.as_ref().unwrap().scale,
        list(&[0.5, 0.5, 2.0, 2.0], 0)
    );
}

#[test]
fn half_precision_constants() {
    let half = |v: f32| half::f16::from_f32(v).to_le_bytes();
    let ir = through(&[1, 2], |ir, x| {
        let c = ir.constant("c", "f16", &[1, 2], &[half(0.1), half(2.0)].concat());
        let c = ir.layer(
            "Convert",
            "c/f32",
            r#"destination_type="f32""#,
            &[c],
            &[1, 2],
        );
        ir.layer("Multiply", "y", "", &[x, c], &[1, 2])
    });
    let graph = ir.graph();
    let c = graph.value(graph.nodes[0].inputs[1]);
    let tenth = half::f16::from_f32(0.1).to_f32();
    assert_eq!(
        c.constant.as_deref(),
        Some(&Constant::F32(vec![tenth, 2.0]))
    );
}

#[test]
fn limits_for_each_channel() {
    let ir = through(&[1, 2, 2, 2], |ir, x| {
        let low = ir.f32s("low", &[], &[0.0]);
        let high = ir.f32s("high", &[1, 2, 1, 1], &[1.0, 2.0]);
        let data = r#"levels="16" auto_broadcast="numpy""#;
        ir.layer(
            "FakeQuantize",
            "q",
            data,
            &[x, low, high, low, high],
            &[1, 2, 2, 2],
        )
    });
    let (Op::Quantize(Quantizer::FakeQuantize(q)), _) = ir.op() else {
        panic!("no quantizer")
    };
    assert_eq!((q.levels, q.axis(), q.channels()), (16, Some(1), 2));
    assert_eq!(q.input_high, list(&[1.0, 2.0], 1));
}

#[test]
fn quantizers_that_are_refused() {
    let build = |levels: &str, low: &[f32], high: [f32; 2]| {
        through(&[2, 2], |ir, x| {
            let a = ir.f32s("low", &[low.len() as i64, 1], low);
            let b = ir.f32s("high", &[1, 2], &high);
            let data = format!(r#"levels="{levels}""#);
            ir.layer("FakeQuantize", "q", &data, &[x, a, b, a, b], &[2, 2])
        })
        .error()
    };
    says(
        &build("1", &[0.0], [1.0, 1.0]),
        &["'q' (FakeQuantize)", "1 levels"],
    );
    says(&build("99999999999", &[0.0], [1.0, 1.0]), &["levels"]);
    says(
        &build("many", &[0.0], [1.0, 1.0]),
        &["'many'", "no whole number"],
    );
    says(
        &build("256", &[2.0], [1.0, 3.0]),
        &["input low 2", "input high 1"],
    );
    says(&build("256", &[0.0], [f32::NAN, 1.0]), &["a limit is NaN"]);
    says(
        &build("256", &[0.0, 0.5], [1.0, 1.0]),
        &["along axis 0 and along axis 1"],
    );
    says(&build("256", &[-3e38], [3e38, 1.0]), &["beyond float32"]);
}

#[test]
fn elementwise_layers() {
    let unary = |kind: &str, data: &str| {
        let ir = through(&[1, 2], |ir, x| ir.layer(kind, "y", data, &[x], &[1, 2]));
        match ir.op() {
            (Op::Activation(activation), _) => activation,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(unary("ReLU", ""), Activation::Relu);
    assert_eq!(unary("Sigmoid", ""), Activation::Sigmoid);
    assert_eq!(unary("Tanh", ""), Activation::Tanh);
    assert_eq!(unary("HSwish", ""), Activation::HardSwish);
    assert_eq!(
        unary("Clamp", r#"min="0" max="6""#),
        Activation::Clip { min: 0.0, max: 6.0 }
    );
    assert_eq!(
        unary("HSigmoid", ""),
        Activation::HardSigmoid {
            alpha: 1.0 / 6.0,
            beta: 0.5
        }
    );
    let hard = through(&[1, 2], |ir, x| {
        let (a, b) = (ir.f32s("a", &[], &[0.2]), ir.f32s("b", &[], &[0.4]));
        ir.layer("HardSigmoid", "y", "", &[x, a, b], &[1, 2])
    });
    let wanted = Op::Activation(Activation::HardSigmoid {
        alpha: 0.2,
        beta: 0.4,
    });
    assert_eq!(hard.op().0, wanted);
    let slope = through(&[1, 2, 3, 3], |ir, x| {
        let s = ir.f32s("s", &[2], &[0.1, 0.2]);
        ir.layer("PReLU", "y", "", &[x, s], &[1, 2, 3, 3])
    });
    let graph = slope.graph();
    let last = graph.nodes.last().unwrap();
    assert_eq!(last.op, Op::Activation(Activation::PRelu));
    assert_eq!(graph.shape(last.inputs[1]), [2, 1, 1]);
    let swish = through(&[1, 2], |ir, x| ir.layer("Swish", "y", "", &[x], &[1, 2]));
    let kinds: Vec<_> = swish.graph().nodes.into_iter().map(|n| n.op).collect();
    assert_eq!(
        kinds,
        [Op::Activation(Activation::Sigmoid), Op::Binary(Binary::Mul)]
    );
    for (kind, wanted) in [
        ("Add", Binary::Add),
        ("Subtract", Binary::Sub),
        ("Multiply", Binary::Mul),
        ("Divide", Binary::Div),
    ] {
        let ir = through(&[1, 2], |ir, x| ir.layer(kind, "y", "", &[x, x], &[1, 2]));
        assert_eq!(ir.op().0, Op::Binary(wanted));
    }
    let soft = through(&[1, 2, 3], |ir, x| {
        ir.layer("SoftMax", "y", r#"axis="-1""#, &[x], &[1, 2, 3])
    });
    assert_eq!(soft.op().0, Op::Softmax { axis: 2, beta: 1.0 });
    let mean = through(&[1, 2, 3, 3], |ir, x| {
        let axes = ir.i64s("axes", &[2, 3]);
        ir.layer(
            "ReduceMean",
            "y",
            r#"keep_dims="true""#,
            &[x, axes],
            &[1, 2, 1, 1],
        )
    });
    assert_eq!(mean.op(), (Op::Mean { axes: vec![2, 3] }, vec![1, 2, 1, 1]));
}

#[test]
fn pools() {
    let pool = |kind: &str, data: &str, shape: &[i64]| {
        through(&[1, 1, 5, 5], |ir, x| {
            ir.layer(kind, "y", data, &[x], shape)
        })
    };
    let window =
        r#"kernel="2,2" strides="2,2" pads_begin="0,0" pads_end="0,0" auto_pad="explicit""#;
    let floor = pool(
        "AvgPool",
        &format!(r#"{window} exclude-pad="false" rounding_type="floor""#),
        &[1, 1, 2, 2],
    );
    let (op, shape) = floor.op();
    assert!(
        matches!(
            op,
            Op::AveragePool {
                count_include_pad: true,
                ..
            }
        ),
        "{op:?}"
    );
    assert_eq!(shape, [1, 1, 2, 2]);
    let ceil = pool(
        "MaxPool",
        &format!(r#"{window} rounding_type="ceil""#),
        &[1, 1, 3, 3],
    );
    assert_eq!(ceil.op().1, [1, 1, 3, 3]);
    let beyond = pool(
        "AvgPool",
        &format!(r#"{window} exclude-pad="false" rounding_type="ceil""#),
        &[1, 1, 3, 3],
    );
    says(&beyond.error(), &["'y' (AvgPool)", "padding that counts"]);
    let missing = pool("AvgPool", window, &[1, 1, 2, 2]);
    says(&missing.error(), &["exclude-pad"]);
    // A window that begins behind the data.
    let padded =
        r#"kernel="2,2" strides="3,3" pads_begin="0,0" pads_end="2,2" rounding_type="ceil""#;
    let behind = pool("MaxPool", padded, &[1, 1, 3, 3]);
    says(&behind.error(), &["begins behind the data"]);
}

#[test]
fn transposed_convolutions() {
    let build = |kind: &str, weights: &[i64], groups: usize, shape: &[i64]| {
        let ir = through(&[1, 2, 2, 2], |ir, x| {
            let count = weights.iter().product::<i64>() as usize;
            let w = ir.f32s("w", weights, &vec![1.0; count]);
            let data = r#"strides="2,2" dilations="1,1" pads_begin="0,0" pads_end="0,0" auto_pad="explicit" output_padding="0,0""#;
            ir.layer(kind, "y", data, &[x, w], shape)
        });
        let (op, shape) = ir.op();
        assert!(
            matches!(&op, Op::ConvTranspose(c) if c.groups == groups),
            "{op:?}"
        );
        shape
    };
    let plain = build("ConvolutionBackpropData", &[2, 3, 2, 2], 1, &[1, 3, 4, 4]);
    assert_eq!(plain, [1, 3, 4, 4]);
    let grouped = build(
        "GroupConvolutionBackpropData",
        &[2, 1, 3, 2, 2],
        2,
        &[1, 6, 4, 4],
    );
    assert_eq!(grouped, [1, 6, 4, 4]);
}

#[test]
fn movements() {
    let reshape = through(&[2, 3], |ir, x| {
        let t = ir.i64s("t", &[0, -1]);
        ir.layer("Reshape", "y", r#"special_zero="true""#, &[x, t], &[2, 3])
    });
    assert_eq!(reshape.op(), (Op::Reshape, vec![2, 3]));
    let perm = through(&[2, 3], |ir, x| {
        let o = ir.i64s("o", &[1, 0]);
        ir.layer("Transpose", "y", "", &[x, o], &[3, 2])
    });
    assert_eq!(perm.op(), (Op::Transpose { perm: vec![1, 0] }, vec![3, 2]));
    let squeeze = through(&[1, 3], |ir, x| {
        let a = ir.i64s("a", &[0]);
        let y = ir.layer("Squeeze", "s", "", &[x, a], &[3]);
        let b = ir.i64("b", 1);
        ir.layer("Unsqueeze", "y", "", &[y, b], &[3, 1])
    });
    assert_eq!(squeeze.graph().nodes.len(), 2);
    let pad = through(&[1, 3], |ir, x| {
        let (a, b) = (ir.i64s("a", &[0, 1]), ir.i64s("b", &[0, 2]));
        let v = ir.f32s("v", &[], &[7.0]);
        ir.layer("Pad", "y", r#"pad_mode="constant""#, &[x, a, b, v], &[1, 6])
    });
    let (Op::Pad(op), shape) = pad.op() else {
        panic!("no pad")
    };
    assert_eq!(
        (op.mode, op.before, op.after),
        (PadMode::Constant(7.0), vec![0, 1], vec![0, 2])
    );
    assert_eq!(shape, [1, 6]);
    // Both parts are read.
    let mut ir = Ir::new();
    let x = ir.parameter("x", &[1, 5]);
    let (axis, lengths) = (ir.i64("axis", 1), ir.i64s("lengths", &[2, -1]));
    let split = ir.layer_of(
        ["VariadicSplit", "opset1", "split"],
        "",
        &[x, axis, lengths],
        &[("", &[1, 2]), ("second", &[1, 3])],
    );
    ir.result(Out(split, 3), "").result(Out(split, 4), "");
    let graph = ir.graph();
    assert_eq!(graph.value(graph.outputs[0]).name, "split.0");
    assert_eq!(graph.value(graph.outputs[0]).aliases, ["split"]);
    assert_eq!(graph.value(graph.outputs[1]).name, "second");
    assert!(matches!(&graph.nodes[1].op, Op::Slice { starts, .. } if *starts == [0, 2]));
    let concat = through(&[1, 2], |ir, x| {
        ir.layer("Concat", "y", r#"axis="-1""#, &[x, x], &[1, 4])
    });
    assert_eq!(concat.op(), (Op::Concat { axis: 1 }, vec![1, 4]));
    let space = through(&[1, 4, 1, 1], |ir, x| {
        ir.layer(
            "DepthToSpace",
            "y",
            r#"mode="blocks_first" block_size="2""#,
            &[x],
            &[1, 1, 2, 2],
        )
    });
    assert_eq!(
        space.op().0,
        Op::DepthToSpace {
            block: 2,
            depth_first: true
        }
    );
}

#[test]
fn strided_slices() {
    let build = |masks: &str, shape: &[i64]| {
        through(&[2, 3, 4], |ir, x| {
            let (b, e, s) = (
                ir.i64s("b", &[1, 0, -1]),
                ir.i64s("e", &[2, 2, -5]),
                ir.i64s("s", &[1, 1, -2]),
            );
            ir.layer("StridedSlice", "y", masks, &[x, b, e, s], shape)
        })
    };
    let plain = build(r#"begin_mask="0,0,0" end_mask="0,0,0""#, &[1, 2, 2]);
    let (Op::Slice { starts, steps }, shape) = plain.op() else {
        panic!("no slice")
    };
    assert_eq!(
        (starts, steps, shape),
        (vec![1, 0, 3], vec![1, 1, -2], vec![1, 2, 2])
    );
    let open = build(r#"begin_mask="1,0,1" end_mask="0,1,1""#, &[2, 3, 2]);
    assert_eq!(open.op().1, [2, 3, 2]);
    let shrunk = build(
        r#"begin_mask="0" end_mask="0" shrink_axis_mask="1,0,0""#,
        &[2, 2],
    );
    let graph = shrunk.graph();
    let ops: Vec<_> = graph.nodes.iter().map(|n| &n.op).collect();
    assert!(
        matches!(ops[..], [Op::Slice { .. }, Op::Reshape]),
        "{ops:?}"
    );
    let added = through(&[2, 3], |ir, x| {
        let (b, e) = (ir.i64s("b", &[0, 0, 0]), ir.i64s("e", &[0, 2, 2]));
        let masks = r#"begin_mask="0,0,0" end_mask="0,0,0" new_axis_mask="1,0,0""#;
        ir.layer("StridedSlice", "y", masks, &[x, b, e], &[1, 2, 2])
    });
    assert_eq!(added.graph().nodes.len(), 2);
    says(
        &build(r#"ellipsis_mask="1""#, &[1, 2, 2]).error(),
        &["'y' (StridedSlice)", "ellipsis"],
    );
}

#[test]
fn resampling() {
    let build = |version: &str, attributes: &str| {
        let mut ir = Ir::new();
        let x = ir.parameter("x", &[1, 1, 2, 2]);
        let sizes = ir.i64s("sizes", &[4, 4]);
        let scales = ir.f32s("scales", &[2], &[2.0, 2.0]);
        let axes = ir.i64s("axes", &[2, 3]);
        let inputs: &[Out] = if version == "opset4" {
            &[x, sizes, scales, axes]
        } else {
            &[x, scales, axes]
        };
        let id = ir.layer_of(
            ["Interpolate", version, "y"],
            attributes,
            inputs,
            &[("", &[1, 1, 4, 4])],
        );
        ir.result(Out(id, inputs.len()), "");
        ir
    };
    let nearest = r#"mode="nearest" shape_calculation_mode="sizes" coordinate_transformation_mode="asymmetric" nearest_mode="floor" antialias="false" pads_begin="0" pads_end="0""#;
    let (Op::Resize(resize), shape) = build("opset4", nearest).op() else {
        panic!("no resampling")
    };
    assert_eq!(shape, [1, 1, 4, 4]);
    assert_eq!(resize.axes[2], ResizeAxis::Nearest(vec![0, 0, 1, 1]));
    assert_eq!(resize.coordinates, None::<Coordinates>);
    let simple = nearest.replace("floor", "simple");
    assert_eq!(
        build("opset4", &simple).op().0,
        build("opset4", nearest).op().0
    );
    let linear = r#"mode="linear_onnx" shape_calculation_mode="scales" coordinate_transformation_mode="half_pixel""#;
    let (Op::Resize(resize), _) = build("opset11", linear).op() else {
        panic!("no resampling")
    };
    let ResizeAxis::Linear(table) = &resize.axes[3] else {
        panic!("{resize:?}")
    };
    assert_eq!(table[1], (0, 1, 0.25));
    let old = build("opset1", nearest);
    says(&old.error(), &["'y' (Interpolate)", "opset1"]);
    let cubic = build(
        "opset4",
        &nearest.replace("nearest\" shape", "cubic\" shape"),
    );
    says(&cubic.error(), &["mode 'cubic'"]);
}

#[test]
fn shapes_are_computed() {
    // Flatten, as exporters write it with an open batch.
    let mut ir = Ir::new();
    let data = r#"shape="?,2,3" element_type="f32""#;
    let x = ir.layer("Parameter", "x", data, &[], &[-1, 2, 3]);
    let shape = ir.layer("ShapeOf", "shape", r#"output_type="i64""#, &[x], &[3]);
    let (first, axis) = (ir.i64s("first", &[0]), ir.i64("axis", 0));
    let id = ir.layer_of(
        ["Gather", "opset8", "batch"],
        r#"batch_dims="0""#,
        &[shape, first, axis],
        &[("", &[1])],
    );
    let rest = ir.i64s("rest", &[-1]);
    let target = ir.layer("Concat", "target", r#"axis="0""#, &[Out(id, 3), rest], &[2]);
    let y = ir.layer(
        "Reshape",
        "y",
        r#"special_zero="false""#,
        &[x, target],
        &[-1, 6],
    );
    ir.result(y, "");
    assert_eq!(
        ir.read().unwrap().inputs()[0].dims,
        [None, Some(2), Some(3)]
    );
    assert_eq!(ir.op(), (Op::Reshape, vec![1, 6]));
    ir.shapes.insert("x".to_owned(), vec![5, 2, 3]);
    assert_eq!(ir.op(), (Op::Reshape, vec![5, 6]));
}

#[test]
fn integer_inputs_are_converted() {
    let mut ir = Ir::new();
    let data = r#"shape="1,2" element_type="u8""#;
    let x = ir.layer("Parameter", "x", data, &[], &[1, 2]);
    let y = ir.layer("Convert", "c", r#"destination_type="f32""#, &[x], &[1, 2]);
    let y = ir.layer("ReLU", "y", "", &[y], &[1, 2]);
    ir.result(y, "");
    let stored = ir.read().unwrap().inputs()[0].stored.clone().unwrap();
    assert_eq!(
        (stored.bits, stored.signed, stored.scale.values),
        (8, false, vec![1.0])
    );
    assert_eq!(ir.graph().nodes.len(), 2);
    let mut bare = Ir::new();
    let x = bare.layer("Parameter", "x", data, &[], &[1, 2]);
    let y = bare.layer("Add", "y", "", &[x, x], &[1, 2]);
    bare.result(y, "");
    says(&bare.error(), &["'y' (Add)", "integers of 'x'", "convert"]);
}

#[test]
fn what_is_not_evaluated_is_named() {
    let ir = through(&[1, 2], |ir, x| ir.layer("Loop", "loop", "", &[x], &[1, 2]));
    let error = ir.load().unwrap_err();
    assert!(
        matches!(&error, Error::Unsupported { node, op_type, .. } if node == "loop" && op_type == "Loop")
    );
    says(&error.to_string(), &["model.xml", "node 'loop' (Loop)"]);
    let mut own = Ir::new();
    let x = own.parameter("x", &[1, 2]);
    let id = own.layer_of(["ReLU", "extension", "mine"], "", &[x], &[("", &[1, 2])]);
    own.result(Out(id, 1), "");
    says(&own.error(), &["node 'mine' (ReLU)", "extension"]);
}
