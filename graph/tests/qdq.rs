//! `QuantizeLinear` and `DequantizeLinear`: grids, where they go, and QCDQ.

mod common;

use align_check_graph::onnx::proto::AttributeProto;
use align_check_graph::onnx::proto::tensor_proto::DataType;
use align_check_graph::{
    Activation, Binary, Constant, DynamicPart, Graph, Node, Op, PadMode, PerChannel, Quantizer,
    Rounding, ZeroPointAdded,
};
use common::{Build, grid, int, ints, list, says, stored, text, value};

#[track_caller]
fn maker<'a>(graph: &'a Graph, name: &str) -> &'a Node {
    let id = graph.find(name).expect("a value");
    graph.nodes.iter().find(|n| n.output == id).expect("a node")
}

#[track_caller]
fn codes_of(graph: &Graph, name: &str) -> Vec<i64> {
    match value(graph, name).constant.as_deref() {
        Some(Constant::I64(codes)) => codes.clone(),
        other => panic!("{other:?}"),
    }
}

/// `x` of shape [1, 3, 2, 2], quantized into `q`; the scale is `s`, the zero point `z`.
fn quantize(opset: i64, attrs: &[AttributeProto]) -> Build {
    Build::new(opset).input("x", &[1, 3, 2, 2]).node(
        "QuantizeLinear",
        &["x", "s", "z"],
        &["q"],
        attrs,
    )
}

/// The same with scale 0.5 and zero point 3 (uint8).
fn plain(opset: i64) -> Build {
    quantize(opset, &[])
        .scalar("s", 0.5)
        .codes("z", DataType::Uint8, &[], &[3])
}

#[test]
fn quantize_and_dequantize() {
    for opset in [10, 13, 19, 21, 23, 25] {
        let build = plain(opset)
            .node("DequantizeLinear", &["q", "s", "z"], &["y"], &[])
            .output("y");
        assert_eq!(build.read().unwrap().format(), "qdq");
        let graph = build.graph();
        let [q, dq] = &graph.nodes[..] else {
            panic!("{:?}", graph.nodes)
        };
        let Op::Quantize(Quantizer::Affine(affine)) = &q.op else {
            panic!("{:?}", q.op)
        };
        assert_eq!(*affine, grid(0.5, 3.0, 8, false));
        assert_eq!(affine.rounding, Rounding::HalfEven);
        assert_eq!(affine.zero_point_added, ZeroPointAdded::AfterRounding);
        assert_eq!(q.op_type, "QuantizeLinear");
        assert_eq!((&dq.op, &*dq.op_type), (&Op::Identity, "DequantizeLinear"));
        assert_eq!(stored(&graph, "q"), *affine);
        assert_eq!(value(&graph, "y").stored, None);
        assert_eq!(value(&graph, "x").stored, None);
    }
}

#[test]
fn element_types() {
    let types = [
        (DataType::Int8, 8, true),
        (DataType::Uint8, 8, false),
        (DataType::Int16, 16, true),
        (DataType::Uint16, 16, false),
        (DataType::Int4, 4, true),
        (DataType::Uint4, 4, false),
        (DataType::Int2, 2, true),
        (DataType::Uint2, 2, false),
    ];
    for (kind, bits, signed) in types {
        let by_zero_point = quantize(21, &[])
            .scalar("s", 0.25)
            .codes("z", kind, &[], &[1])
            .output("q");
        assert_eq!(
            stored(&by_zero_point.graph(), "q"),
            grid(0.25, 1.0, bits, signed)
        );
        let by_attribute = Build::xy(23, &[4]).scalar("s", 0.25).node(
            "QuantizeLinear",
            &["x", "s"],
            &["y"],
            &[int("output_dtype", kind as i64), int("saturate", 1)],
        );
        assert_eq!(
            stored(&by_attribute.graph(), "y"),
            grid(0.25, 0.0, bits, signed)
        );
    }
    let default =
        Build::xy(13, &[4])
            .scalar("s", 0.25)
            .node("QuantizeLinear", &["x", "s"], &["y"], &[]);
    assert_eq!(stored(&default.graph(), "y"), grid(0.25, 0.0, 8, false));
    let with = |attrs: &[AttributeProto]| {
        Build::xy(23, &[4])
            .scalar("s", 0.25)
            .codes("z", DataType::Int8, &[], &[0])
            .node("QuantizeLinear", &["x", "s", "z"], &["y"], attrs)
    };
    says(
        &with(&[int("output_dtype", DataType::Uint8 as i64)]).malformed(),
        &["output_dtype"],
    );
    says(
        &with(&[int("output_dtype", DataType::Float8e4m3fn as i64)]).unsupported(),
        &["FLOAT8E4M3FN"],
    );
    says(
        &with(&[int("precision", DataType::Float16 as i64)]).unsupported(),
        &["precision"],
    );
    with(&[int("precision", DataType::Float as i64)]).graph();
    let float8 = Build::xy(19, &[4])
        .scalar("s", 0.25)
        .codes("z", DataType::Float8e4m3fn, &[], &[0])
        .node("QuantizeLinear", &["x", "s", "z"], &["y"], &[]);
    says(&float8.unsupported(), &["FLOAT8E4M3FN"]);
    let float = quantize(13, &[])
        .scalar("s", 1.0)
        .scalar("z", 0.0)
        .output("q");
    says(&float.unsupported(), &["integer"]);
    let wide = quantize(13, &[])
        .scalar("s", 1.0)
        .codes("z", DataType::Int32, &[], &[0])
        .output("q");
    says(&wide.malformed(), &["32 bits"]);
}

#[test]
fn axes() {
    let scales = |opset: i64, attrs: &[AttributeProto]| {
        quantize(opset, attrs)
            .f32s("s", &[3], &[0.5, 0.25, 1.0])
            .codes("z", DataType::Int8, &[3], &[0, 0, 0])
            .output("q")
    };
    for attrs in [&[][..], &[int("axis", 1)], &[int("axis", -3)]] {
        let own = stored(&scales(13, attrs).graph(), "q");
        assert_eq!(own.scale, list(&[0.5, 0.25, 1.0], 1));
        // Equal zero points are one.
        assert_eq!(own.zero_point, PerChannel::uniform(0.0));
    }
    let build = quantize(13, &[])
        .f32s("s", &[3], &[0.5, 0.25, 1.0])
        .codes("z", DataType::Int8, &[3], &[1, 0, -1])
        .node("DequantizeLinear", &["q", "s", "z"], &["y"], &[])
        .output("y");
    let own = stored(&build.graph(), "q");
    assert_eq!(own.zero_point, list(&[1.0, 0.0, -1.0], 1));
    says(&scales(10, &[]).malformed(), &["opset 10"]);
    says(&scales(13, &[int("axis", 2)]).malformed(), &["axis 2"]);
    says(&scales(13, &[int("axis", 4)]).malformed(), &["axis 4"]);
    says(
        &scales(21, &[int("block_size", 2)]).unsupported(),
        &["blocked"],
    );
    let table = quantize(21, &[])
        .f32s("s", &[3, 2], &[1.0; 6])
        .codes("z", DataType::Int8, &[3, 2], &[0; 6])
        .output("q");
    says(&table.unsupported(), &["blocked"]);
    // One number is for every axis, whatever its shape.
    let one = quantize(10, &[])
        .f32s("s", &[1], &[0.5])
        .codes("z", DataType::Int8, &[1], &[7])
        .output("q");
    assert_eq!(stored(&one.graph(), "q"), grid(0.5, 7.0, 8, true));
}

#[test]
fn scales_are_checked() {
    for bad in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let build = quantize(13, &[])
            .scalar("s", bad)
            .codes("z", DataType::Int8, &[], &[0])
            .output("q");
        says(
            &build.malformed(),
            &["scale", "positive", "QuantizeLinear_0"],
        );
    }
    let computed =
        Build::xy(13, &[2])
            .input("s", &[])
            .node("QuantizeLinear", &["x", "s"], &["y"], &[]);
    says(&computed.unsupported(), &["'s'", "constant"]);
    let missing = Build::xy(13, &[2]).node("QuantizeLinear", &["x", ""], &["y"], &[]);
    says(&missing.malformed(), &["scale is missing"]);
}

#[test]
fn constants_stay_codes() {
    let weights = |kind: DataType, values: &[i32], attrs: &[AttributeProto]| {
        Build::xy(13, &[1, 2, 3, 3])
            .codes("w", kind, &[2, 2, 1, 1], values)
            .f32s("sw", &[2], &[0.5, 0.25])
            .codes("zw", kind, &[2], &[0, 3])
            .codes("b", DataType::Int32, &[2], &[1000, -70000])
            .f32s("sb", &[2], &[0.125, 0.0625])
            .node("DequantizeLinear", &["w", "sw", "zw"], &["wd"], attrs)
            .node("DequantizeLinear", &["b", "sb"], &["bd"], &[int("axis", 0)])
            .node("Conv", &["x", "wd", "bd"], &["y"], &[])
    };
    let (node, _) = weights(DataType::Int8, &[1, -2, 3, 4], &[int("axis", 0)]).only();
    assert!(matches!(node.op, Op::Conv(_)));
    let graph = weights(DataType::Int8, &[1, -2, 3, 4], &[int("axis", 0)]).graph();
    assert_eq!(codes_of(&graph, "wd"), [1, -2, 3, 4]);
    let own = stored(&graph, "wd");
    assert_eq!((own.bits, own.signed), (8, true));
    assert_eq!(own.scale, list(&[0.5, 0.25], 0));
    assert_eq!(own.zero_point, list(&[0.0, 3.0], 0));
    assert_eq!(codes_of(&graph, "bd"), [1000, -70000]);
    let own = stored(&graph, "bd");
    assert_eq!((own.bits, own.signed), (32, true));
    assert_eq!(own.scale, list(&[0.125, 0.0625], 0));
}

#[test]
fn codes_that_are_moved_before_and_behind() {
    // Transposed codes, then dequantized; and the other way round. The axis moves along.
    let base = || {
        Build::xy(13, &[4, 2])
            .codes("w", DataType::Uint8, &[3, 2], &[1, 2, 3, 4, 5, 6])
            .f32s("s", &[3], &[0.5, 0.25, 1.0])
            .codes("z", DataType::Uint8, &[], &[9])
    };
    let perm = [ints("perm", &[1, 0])];
    let before = base()
        .node("Transpose", &["w"], &["t"], &perm)
        .node(
            "DequantizeLinear",
            &["t", "s", "z"],
            &["d"],
            &[int("axis", 1)],
        )
        .node("MatMul", &["x", "d"], &["y"], &[]);
    let behind = base()
        .node(
            "DequantizeLinear",
            &["w", "s", "z"],
            &["t"],
            &[int("axis", 0)],
        )
        .node("Transpose", &["t"], &["d"], &perm)
        .node("MatMul", &["x", "d"], &["y"], &[]);
    for build in [before, behind] {
        let graph = build.graph();
        assert_eq!(graph.nodes.len(), 1);
        assert_eq!(codes_of(&graph, "d"), [1, 3, 5, 2, 4, 6]);
        let own = stored(&graph, "d");
        assert_eq!(own.scale, list(&[0.5, 0.25, 1.0], 1));
        assert_eq!(own.zero_point, PerChannel::uniform(9.0));
    }
    let reshaped = base()
        .i64s("to", &[3, 1, 2])
        .node(
            "DequantizeLinear",
            &["w", "s", "z"],
            &["t"],
            &[int("axis", 0)],
        )
        .node("Reshape", &["t", "to"], &["y"], &[])
        .graph();
    assert_eq!(stored(&reshaped, "y").scale.axis, Some(0));
    // Where channels mix, the reals go on: (code - 9) * scale.
    let mixed = base()
        .i64s("to", &[2, 3])
        .node(
            "DequantizeLinear",
            &["w", "s", "z"],
            &["t"],
            &[int("axis", 0)],
        )
        .node("Reshape", &["t", "to"], &["y"], &[])
        .graph();
    let y = value(&mixed, "y");
    assert_eq!(y.stored, None);
    assert_eq!(
        y.constant.as_deref(),
        Some(&Constant::F32(vec![-4.0, -3.5, -1.5, -1.25, -4.0, -3.0]))
    );
    // So do they where a constant is computed with.
    let doubled = base()
        .scalar("two", 2.0)
        .node(
            "DequantizeLinear",
            &["w", "s", "z"],
            &["t"],
            &[int("axis", 0)],
        )
        .node("Mul", &["t", "two"], &["y"], &[])
        .graph();
    assert_eq!(
        value(&doubled, "y").constant.as_deref(),
        Some(&Constant::F32(vec![-8.0, -7.0, -3.0, -2.5, -8.0, -6.0]))
    );
    let gathered = base()
        .i64s("which", &[2, 0])
        .scalar("one", 0.5)
        .node("Gather", &["w", "which"], &["g"], &[])
        .node("DequantizeLinear", &["g", "one", "z"], &["y"], &[])
        .graph();
    assert_eq!(codes_of(&gathered, "y"), [5, 6, 1, 2]);
    assert_eq!(stored(&gathered, "y"), grid(0.5, 9.0, 8, false));
}

#[test]
fn quantized_constants_are_quantizers_on_constants() {
    let graph = Build::xy(13, &[2, 2])
        .f32s("w", &[2, 2], &[0.1, 0.2, 0.3, 0.4])
        .scalar("s", 0.5)
        .codes("z", DataType::Int8, &[], &[0])
        .node("QuantizeLinear", &["w", "s", "z"], &["q"], &[])
        .node("DequantizeLinear", &["q", "s", "z"], &["d"], &[])
        .node("MatMul", &["x", "d"], &["y"], &[])
        .graph();
    let kinds: Vec<_> = graph.nodes.iter().map(|n| &*n.op_type).collect();
    assert_eq!(kinds, ["QuantizeLinear", "DequantizeLinear", "MatMul"]);
    assert!(value(&graph, "w").constant.is_some());
    assert_eq!(stored(&graph, "q"), grid(0.5, 0.0, 8, true));
}

#[test]
fn movements_keep_the_grid() {
    let movements: Vec<(&str, Vec<&str>, Vec<AttributeProto>)> = vec![
        ("Identity", vec!["q"], vec![]),
        ("Reshape", vec!["q", "shape"], vec![]),
        ("Flatten", vec!["q"], vec![]),
        ("Squeeze", vec!["q", "zero"], vec![]),
        ("Unsqueeze", vec!["q", "zero"], vec![]),
        ("Transpose", vec!["q"], vec![]),
        ("Slice", vec!["q", "zero", "one"], vec![]),
        ("Split", vec!["q"], vec![]),
        ("Concat", vec!["q", "q"], vec![int("axis", 1)]),
        ("MaxPool", vec!["q"], vec![ints("kernel_shape", &[2, 2])]),
        ("GlobalMaxPool", vec!["q"], vec![]),
        (
            "Resize",
            vec!["q", "", "scales"],
            vec![text("mode", "nearest")],
        ),
    ];
    for (op_type, inputs, attrs) in movements {
        let graph = plain(13)
            .i64s("shape", &[3, 4])
            .i64s("zero", &[0])
            .i64s("one", &[1])
            .f32s("scales", &[4], &[1.0, 1.0, 2.0, 2.0])
            .node(op_type, &inputs, &["m"], &attrs)
            .node("DequantizeLinear", &["m", "s", "z"], &["y"], &[])
            .output("y")
            .graph();
        assert_eq!(stored(&graph, "m"), grid(0.5, 3.0, 8, false), "{op_type}");
        assert_eq!(maker(&graph, "y").op, Op::Identity, "{op_type}");
    }
    let depth = Build::new(13)
        .input("x", &[1, 4, 2, 2])
        .scalar("s", 0.5)
        .node("QuantizeLinear", &["x", "s"], &["q"], &[])
        .node("DepthToSpace", &["q"], &["m"], &[int("blocksize", 2)])
        .output("m");
    assert_eq!(stored(&depth.graph(), "m"), grid(0.5, 0.0, 8, false));
    // Several scales: the axis goes along, or it is refused.
    let channels = |op_type: &str, attrs: &[AttributeProto]| {
        quantize(13, &[])
            .f32s("s", &[3], &[0.5, 0.25, 1.0])
            .codes("z", DataType::Int8, &[], &[0])
            .i64s("starts", &[2])
            .i64s("ends", &[-9])
            .i64s("by", &[-2])
            .i64s("axis", &[1])
            .node(
                op_type,
                if op_type == "Slice" {
                    &["q", "starts", "ends", "axis", "by"]
                } else {
                    &["q"]
                },
                &["y"],
                attrs,
            )
            .output("y")
    };
    let moved = channels("Transpose", &[ints("perm", &[0, 2, 3, 1])]).graph();
    assert_eq!(stored(&moved, "y").scale, list(&[0.5, 0.25, 1.0], 3));
    let sliced = channels("Slice", &[]).graph();
    assert_eq!(stored(&sliced, "y").scale, list(&[1.0, 0.5], 1));
    says(
        &channels("Flatten", &[int("axis", 1)]).unsupported(),
        &["channels", "int8", "3 along axis 1"],
    );
}

#[test]
fn fills_are_codes() {
    let pad = |fill: i32| {
        let graph = plain(13)
            .i64s("pads", &[0, 0, 1, 1, 0, 0, 1, 1])
            .codes("fill", DataType::Uint8, &[], &[fill])
            .node("Pad", &["q", "pads", "fill"], &["y"], &[])
            .output("y")
            .graph();
        let Op::Pad(pad) = maker(&graph, "y").op.clone() else {
            panic!("no pad")
        };
        assert_eq!(stored(&graph, "y"), grid(0.5, 3.0, 8, false));
        pad.mode
    };
    assert_eq!(pad(3), PadMode::Constant(0.0));
    assert_eq!(pad(7), PadMode::Constant(2.0));
    // Without a fill it is code 0.
    let graph = plain(13)
        .i64s("pads", &[0, 0, 1, 1, 0, 0, 1, 1])
        .node("Pad", &["q", "pads"], &["y"], &[])
        .output("y")
        .graph();
    let Op::Pad(pad) = &maker(&graph, "y").op else {
        panic!("no pad")
    };
    assert_eq!(pad.mode, PadMode::Constant(-1.5));
}

#[test]
fn joined_codes_have_one_grid() {
    let two = |scale: f32| {
        plain(13)
            .scalar("s2", scale)
            .node("QuantizeLinear", &["x", "s2", "z"], &["p"], &[])
            .node("Concat", &["q", "p"], &["y"], &[int("axis", 1)])
            .output("y")
    };
    assert_eq!(stored(&two(0.5).graph(), "y"), grid(0.5, 3.0, 8, false));
    says(
        &two(0.25).unsupported(),
        &["Concat", "scale 0.5 and zero point 3", "scale 0.25"],
    );
    let constant = plain(13)
        .codes("c", DataType::Uint8, &[1, 1, 2, 2], &[3, 4, 5, 6])
        .node("Concat", &["q", "c"], &["y"], &[int("axis", 1)])
        .output("y");
    let graph = constant.graph();
    assert_eq!(stored(&graph, "c"), grid(0.5, 3.0, 8, false));
    assert_eq!(codes_of(&graph, "c"), [3, 4, 5, 6]);
}

#[test]
fn other_grids() {
    let other = plain(13)
        .scalar("s2", 0.25)
        .node("DequantizeLinear", &["q", "s2", "z"], &["y"], &[])
        .output("y")
        .graph();
    let [quantize, anew, identity] = &other.nodes[..] else {
        panic!("{:?}", other.nodes)
    };
    assert_eq!(anew.inputs, [quantize.output]);
    assert_eq!(
        anew.op,
        Op::Reinterpret {
            from: grid(0.5, 3.0, 8, false),
            to: grid(0.25, 3.0, 8, false)
        }
    );
    assert_eq!(identity.op, Op::Identity);
    // A cast takes codes for numbers.
    let cast = plain(13)
        .node("Cast", &["q"], &["y"], &[int("to", 1)])
        .output("y")
        .graph();
    assert_eq!(stored(&cast, "q.codes"), grid(1.0, 0.0, 8, false));
    assert_eq!(maker(&cast, "y").op, Op::Identity);
    assert_eq!(value(&cast, "y").stored, None);
}

#[test]
fn arithmetic_on_codes_is_refused() {
    let float =
        Build::xy(13, &[2])
            .scalar("s", 1.0)
            .node("DequantizeLinear", &["x", "s"], &["y"], &[]);
    says(&float.malformed(), &["'x'", "integers"]);
    // Arithmetic on codes is not arithmetic on what they mean.
    for op_type in ["Add", "Mul", "Sub", "Div"] {
        let build = plain(13)
            .node(op_type, &["q", "q"], &["y"], &[])
            .output("y");
        says(&build.unsupported(), &["codes of 'q'", "scale 0.5"]);
    }
    for op_type in ["Sigmoid", "ReduceMean", "Softmax"] {
        let build = plain(13).node(op_type, &["q"], &["y"], &[]).output("y");
        says(&build.unsupported(), &["codes of 'q'", "dequantize"]);
    }
    let linear = plain(13)
        .f32s("scales", &[4], &[1.0, 1.0, 2.0, 2.0])
        .node(
            "Resize",
            &["q", "", "scales"],
            &["y"],
            &[text("mode", "linear")],
        )
        .output("y");
    says(&linear.unsupported(), &["Resize", "codes"]);
}

#[test]
fn clips_narrow_the_grid() {
    let clip = |kind: DataType, min: i32, max: i32| {
        quantize(13, &[])
            .scalar("s", 0.5)
            .codes("z", kind, &[], &[0])
            .codes("min", kind, &[], &[min])
            .codes("max", kind, &[], &[max])
            .node("Clip", &["q", "min", "max"], &["c"], &[])
            .node("DequantizeLinear", &["c", "s", "z"], &["y"], &[])
            .output("y")
    };
    let ranges = [
        (DataType::Int8, -127, 127, (8, true, true)),
        (DataType::Int8, -8, 7, (4, true, false)),
        (DataType::Int8, -7, 7, (4, true, true)),
        (DataType::Int8, 0, 15, (4, false, false)),
        (DataType::Uint8, 0, 15, (4, false, false)),
        (DataType::Uint8, 0, 254, (8, false, true)),
        (DataType::Uint8, 0, 1, (1, false, false)),
    ];
    for (kind, min, max, expected) in ranges {
        let graph = clip(kind, min, max).graph();
        // One quantizer that ends in the clipped tensor.
        assert_eq!(graph.nodes.len(), 2, "{:?}", graph.nodes);
        let Op::Quantize(Quantizer::Affine(affine)) = &maker(&graph, "c").op else {
            panic!("no quantizer")
        };
        assert_eq!((affine.bits, affine.signed, affine.narrow), expected);
        assert_eq!(stored(&graph, "c"), *affine);
        assert!(graph.find("q").is_none());
        assert_eq!(
            (affine.min_code(), affine.max_code()),
            (min.into(), max.into())
        );
    }
    let all = clip(DataType::Int8, -128, 127).graph();
    assert_eq!(maker(&all, "c").op, Op::Identity);
    assert_eq!(stored(&all, "c"), grid(0.5, 0.0, 8, true));
    says(
        &clip(DataType::Int8, -100, 100).unsupported(),
        &["-100 to 100"],
    );
    says(&clip(DataType::Int8, 7, -8).unsupported(), &["7", "-8"]);
    // Where somebody else reads the tensor before the clip, it stays, and the clip is a quantizer.
    let two = clip(DataType::Int8, -8, 7).output("q").graph();
    assert_eq!(stored(&two, "q"), grid(0.5, 0.0, 8, true));
    assert_eq!(stored(&two, "c").bits, 4);
    assert!(matches!(maker(&two, "c").op, Op::Quantize(_)));
    // Relu on codes cuts at code 0.
    let relu = plain(14)
        .node("Relu", &["q"], &["y"], &[])
        .output("y")
        .graph();
    assert_eq!(maker(&relu, "y").op, Op::Identity);
}

#[test]
fn clipped_constants() {
    let weights = |min: i32, max: i32| {
        Build::xy(13, &[1, 2])
            .codes("w", DataType::Int8, &[2, 1], &[-128, 100])
            .scalar("s", 0.5)
            .codes("z", DataType::Int8, &[], &[0])
            .codes("min", DataType::Int8, &[], &[min])
            .codes("max", DataType::Int8, &[], &[max])
            .node("Clip", &["w", "min", "max"], &["c"], &[])
            .node("DequantizeLinear", &["c", "s", "z"], &["d"], &[])
            .node("MatMul", &["x", "d"], &["y"], &[])
            .graph()
    };
    let narrow = weights(-127, 127);
    assert_eq!(codes_of(&narrow, "d"), [-127, 100]);
    let own = stored(&narrow, "d");
    assert_eq!((own.bits, own.signed, own.narrow), (8, true, true));
    let four = weights(-8, 7);
    assert_eq!(codes_of(&four, "d"), [-8, 7]);
    assert_eq!(stored(&four, "d").bits, 4);
    // A range of no width: the codes are clipped, the type stays.
    let odd = weights(-100, 50);
    assert_eq!(codes_of(&odd, "d"), [-100, 50]);
    assert_eq!(stored(&odd, "d"), grid(0.5, 0.0, 8, true));
}

#[test]
fn integer_inputs() {
    let build = Build::new(13)
        .input_of("q", DataType::Int8, &[1, 2, 3])
        .scalar("s", 0.5)
        .codes("z", DataType::Int8, &[], &[-3])
        .node("Transpose", &["q"], &["t"], &[])
        .node("DequantizeLinear", &["t", "s", "z"], &["y"], &[])
        .output("y");
    let model = build.read().unwrap();
    let input = &model.inputs()[0];
    assert_eq!(input.stored, Some(grid(0.5, -3.0, 8, true)));
    let graph = build.graph();
    assert_eq!(stored(&graph, "q"), grid(0.5, -3.0, 8, true));
    assert_eq!(stored(&graph, "t"), grid(0.5, -3.0, 8, true));
    assert_eq!(value(&graph, "y").stored, None);
    // Several scales, along an axis that counts from the end.
    let channels = Build::new(13)
        .input_of("q", DataType::Uint16, &[1, 2, 3])
        .f32s("s", &[2], &[0.5, 0.25])
        .node("DequantizeLinear", &["q", "s"], &["y"], &[int("axis", -2)])
        .output("y");
    let stored_at = channels.read().unwrap().inputs()[0].stored.clone().unwrap();
    assert_eq!(stored_at.scale, list(&[0.5, 0.25], 1));
    channels.graph();
    // Integers that nobody scales stand for themselves.
    let plain = Build::new(13)
        .input_of("q", DataType::Uint8, &[1, 2, 3, 3])
        .node("GlobalMaxPool", &["q"], &["m"], &[])
        .node("Cast", &["m"], &["y"], &[int("to", 1)])
        .output("y");
    assert_eq!(
        plain.read().unwrap().inputs()[0].stored,
        Some(grid(1.0, 0.0, 8, false))
    );
    let graph = plain.graph();
    assert_eq!(stored(&graph, "m"), grid(1.0, 0.0, 8, false));
    assert_eq!(value(&graph, "y").stored, None);
    // A scale that must be computed first is not known when the inputs are asked for.
    let computed = Build::new(13)
        .input_of("q", DataType::Uint8, &[2])
        .scalar("half", 0.5)
        .node("Mul", &["half", "half"], &["s"], &[])
        .node("DequantizeLinear", &["q", "s"], &["y"], &[])
        .output("y");
    says(&computed.unsupported(), &["'q'", "initializers"]);
}

#[test]
fn one_input_with_several_meanings() {
    let build = Build::new(13)
        .input_of("q", DataType::Int32, &[-1, 3])
        .scalar("a", 0.5)
        .scalar("b", 0.25)
        .scalar("c", 2.0)
        .node("DequantizeLinear", &["q", "a"], &["x"], &[])
        .node("DequantizeLinear", &["q", "b"], &["y"], &[])
        .node("DequantizeLinear", &["q", "c"], &["z"], &[])
        .node("DequantizeLinear", &["q", "b"], &["w"], &[])
        .output("x")
        .output("y")
        .output("z")
        .output("w")
        .shape("q", &[4, 3]);
    assert_eq!(build.read().unwrap().inputs().len(), 1);
    let graph = build.graph();
    // The first reader's meaning is the input's; the others read its codes anew, each meaning once.
    assert_eq!(stored(&graph, "q"), grid(0.5, 0.0, 32, true));
    let anew: Vec<_> = graph
        .nodes
        .iter()
        .filter(|n| matches!(n.op, Op::Reinterpret { .. }))
        .collect();
    assert_eq!(anew.len(), 2);
    for (node, scale) in anew.iter().zip([0.25, 2.0]) {
        let op = Op::Reinterpret {
            from: grid(0.5, 0.0, 32, true),
            to: grid(scale, 0.0, 32, true),
        };
        assert_eq!((&node.op, &*node.op_type), (&op, "Reinterpret"));
        assert_eq!(graph.value(node.inputs[0]).name, "q");
        let own = graph.value(node.output).stored.clone();
        assert_eq!(own, Some(grid(scale, 0.0, 32, true)));
    }
    assert_eq!(maker(&graph, "x").inputs, graph.inputs);
    assert_eq!(maker(&graph, "y").inputs, [anew[0].output]);
    assert_eq!(maker(&graph, "z").inputs, [anew[1].output]);
    assert_eq!(maker(&graph, "w").inputs, [anew[0].output]);
    assert_eq!(value(&graph, "q.codes").shape, [4, 3]);
    let mut names: Vec<_> = graph.nodes.iter().map(|n| &n.name).collect();
    names.extend(graph.values.iter().map(|v| &v.name));
    names.sort();
    names.dedup();
    assert_eq!(names.len(), graph.nodes.len() + graph.values.len());
}

#[test]
fn other_domains_and_formats() {
    let microsoft = Build::xy(17, &[4])
        .import("com.microsoft", 1)
        .scalar("s", 0.5)
        .codes("z", DataType::Uint16, &[], &[100])
        .node_in(
            "com.microsoft",
            "QuantizeLinear",
            &["x", "s", "z"],
            &["q"],
            &[],
        )
        .node_in(
            "com.microsoft",
            "DequantizeLinear",
            &["q", "s", "z"],
            &["y"],
            &[],
        );
    assert_eq!(microsoft.read().unwrap().format(), "qdq");
    assert_eq!(stored(&microsoft.graph(), "q"), grid(0.5, 100.0, 16, false));
    let relu = Build::xy(17, &[4]).node("Relu", &["x"], &["y"], &[]);
    assert_eq!(relu.read().unwrap().format(), "onnx");
    let dynamic = Build::xy(17, &[4]).node("DynamicQuantizeLinear", &["x"], &["y", "s", "z"], &[]);
    let parts: Vec<_> = dynamic.graph().nodes.iter().map(|n| n.op.clone()).collect();
    assert_eq!(parts, [Op::DynamicQuantize(DynamicPart::Codes)]);
    let mixed = plain(13)
        .import("qonnx.custom_op.general", 1)
        .node("DequantizeLinear", &["q", "s", "z"], &["d"], &[])
        .node_in(
            "qonnx.custom_op.general",
            "BipolarQuant",
            &["d", "s"],
            &["y"],
            &[],
        )
        .output("y");
    assert_eq!(mixed.read().unwrap().format(), "qonnx");
}

/// `Add` of two plain integers is one: so the sums of `ConvInteger` take an integer bias.
#[test]
fn plain_integers_are_computed_with() {
    let graph = Build::new(13)
        .input_of("q", DataType::Int32, &[2])
        .codes("b", DataType::Int32, &[2], &[5, -5])
        .scalar("s", 0.5)
        .node("Add", &["q", "b"], &["sum"], &[])
        .node("DequantizeLinear", &["sum", "s"], &["y"], &[])
        .output("y")
        .graph();
    assert_eq!(stored(&graph, "sum"), grid(1.0, 0.0, 32, true));
    assert_eq!(maker(&graph, "y").op, Op::Binary(Binary::Mul));
}

/// AIMET's `to_onnx_qdq` sends the bounds of `Clip` through quantizers; a tie, and a number out of range.
#[test]
fn quantized_parameters_are_constants() {
    let build = Build::xy(13, &[3])
        .scalar("low", -0.75)
        .scalar("high", 1e9)
        .scalar("s", 0.5)
        .codes("z", DataType::Uint8, &[], &[3])
        .node("QuantizeLinear", &["low", "s", "z"], &["low_q"], &[])
        .node("DequantizeLinear", &["low_q", "s", "z"], &["low_dq"], &[])
        .node("QuantizeLinear", &["high", "s", "z"], &["high_q"], &[])
        .node("DequantizeLinear", &["high_q", "s", "z"], &["high_dq"], &[])
        .node("Clip", &["x", "low_dq", "high_dq"], &["y"], &[]);
    let (op, _) = build.op();
    assert_eq!(
        op,
        Op::Activation(Activation::Clip {
            min: -1.0,
            max: 126.0
        })
    );
}
