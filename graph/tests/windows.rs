//! Convolutions and pools resolve to the parameters and the shape that ONNX gives them.

mod common;

use align_check_graph::{Conv, ConvTranspose, Op, Pool};
use common::{Build, int, ints, says, text};

fn pool(kernel: usize, stride: usize, pads: (usize, usize), dilation: usize) -> Pool {
    Pool {
        kernel: vec![kernel],
        strides: vec![stride],
        pads_before: vec![pads.0],
        pads_after: vec![pads.1],
        dilations: vec![dilation],
    }
}

#[test]
fn conv() {
    let build = Build::xy(11, &[1, 4, 9, 7])
        .zeros("w", &[6, 2, 3, 2])
        .zeros("b", &[6]);
    let attrs = [
        int("group", 2),
        ints("pads", &[1, 0, 2, 1]),
        ints("strides", &[2, 1]),
        ints("dilations", &[1, 2]),
    ];
    let (node, shape) = build
        .clone()
        .node("Conv", &["x", "w", "b"], &["y"], &attrs)
        .only();
    assert_eq!(node.inputs.len(), 3);
    assert_eq!(
        (node.name.as_str(), node.op_type.as_str()),
        ("Conv_0", "Conv")
    );
    let expected = Conv {
        kernel: vec![3, 2],
        strides: vec![2, 1],
        pads_before: vec![1, 0],
        pads_after: vec![2, 1],
        dilations: vec![1, 2],
        groups: 2,
    };
    assert_eq!(node.op, Op::Conv(expected));
    assert_eq!(shape, [1, 6, 5, 6]);
    // An empty name leaves the bias out.
    let (node, _) = build
        .clone()
        .node("Conv", &["x", "w", ""], &["y"], &[int("group", 2)])
        .only();
    assert_eq!(node.inputs.len(), 2);
    says(
        &build
            .clone()
            .node("Conv", &["x", "w"], &["y"], &[])
            .malformed(),
        &["Conv_0", "groups"],
    );
    let wrong = build.node(
        "Conv",
        &["x", "w"],
        &["y"],
        &[int("group", 2), ints("kernel_shape", &[3, 3])],
    );
    says(&wrong.malformed(), &["kernel_shape"]);
}

#[test]
fn conv_in_one_and_three_dimensions() {
    let (op, shape) = Build::xy(22, &[2, 3, 8])
        .zeros("w", &[5, 3, 4])
        .node("Conv", &["x", "w"], &["y"], &[])
        .op();
    assert!(matches!(op, Op::Conv(conv) if conv.kernel == [4]));
    assert_eq!(shape, [2, 5, 5]);
    let volume = Build::xy(1, &[1, 1, 4, 5, 6]).zeros("w", &[2, 1, 2, 2, 2]);
    assert_eq!(
        volume.node("Conv", &["x", "w"], &["y"], &[]).op().1,
        [1, 2, 3, 4, 5]
    );
}

#[test]
fn auto_pad() {
    let resolve = |extent: i64, kernel: i64, stride: i64, mode: &str| {
        let build = Build::xy(13, &[1, 1, extent]).zeros("w", &[1, 1, kernel]);
        let attrs = [text("auto_pad", mode), ints("strides", &[stride])];
        let (op, shape) = build.node("Conv", &["x", "w"], &["y"], &attrs).op();
        let Op::Conv(conv) = op else { panic!() };
        (conv.pads_before[0], conv.pads_after[0], shape[2])
    };
    assert_eq!(resolve(5, 4, 1, "SAME_UPPER"), (1, 2, 5));
    assert_eq!(resolve(5, 4, 1, "SAME_LOWER"), (2, 1, 5));
    assert_eq!(resolve(7, 3, 2, "SAME_UPPER"), (1, 1, 4));
    // No padding where the stride skips more than the kernel reaches.
    assert_eq!(resolve(5, 1, 2, "SAME_UPPER"), (0, 0, 3));
    assert_eq!(resolve(7, 3, 2, "VALID"), (0, 0, 3));
    let build = Build::xy(13, &[1, 1, 5]).zeros("w", &[1, 1, 2]);
    let dilated = [text("auto_pad", "SAME_UPPER"), ints("dilations", &[2])];
    says(
        &build
            .node("Conv", &["x", "w"], &["y"], &dilated)
            .unsupported(),
        &["dilations"],
    );
}

#[test]
fn conv_transpose() {
    let build = Build::xy(11, &[1, 4, 5]).zeros("w", &[4, 3, 3]);
    let resolve = |attrs: &[_]| {
        let (op, shape) = build
            .clone()
            .node("ConvTranspose", &["x", "w"], &["y"], attrs)
            .op();
        let Op::ConvTranspose(conv) = op else {
            panic!()
        };
        (conv, shape)
    };
    let (conv, shape) = resolve(&[
        ints("strides", &[2]),
        ints("pads", &[1, 0]),
        ints("output_padding", &[1]),
        int("group", 2),
    ]);
    let expected = ConvTranspose {
        kernel: vec![3],
        strides: vec![2],
        pads_before: vec![1],
        dilations: vec![1],
        groups: 2,
    };
    assert_eq!((conv, shape), (expected, vec![1, 6, 11]));
    // Natural extent 11; asked for 8: 3 are cut, the odd one before, or after with SAME_UPPER.
    let (conv, shape) = resolve(&[ints("strides", &[2]), ints("output_shape", &[8])]);
    assert_eq!((conv.pads_before[0], shape[2]), (2, 8));
    let upper = text("auto_pad", "SAME_UPPER");
    let (conv, shape) = resolve(&[
        ints("strides", &[2]),
        ints("output_shape", &[8]),
        upper.clone(),
    ]);
    assert_eq!((conv.pads_before[0], shape[2]), (1, 8));
    let (conv, shape) = resolve(&[ints("strides", &[2]), upper]);
    assert_eq!((conv.pads_before[0], shape[2]), (0, 10));
}

#[test]
fn max_pool() {
    let resolve = |extent: i64, attrs: &[_]| {
        let (op, shape) = Build::xy(12, &[1, 2, extent])
            .node("MaxPool", &["x"], &["y"], attrs)
            .op();
        let Op::MaxPool(pool) = op else { panic!() };
        (pool, shape[2])
    };
    let kernel = |k: i64| ints("kernel_shape", &[k]);
    assert_eq!(
        resolve(
            7,
            &[kernel(3), ints("strides", &[2]), ints("pads", &[1, 0])]
        ),
        (pool(3, 2, (1, 0), 1), 3)
    );
    assert_eq!(
        resolve(7, &[kernel(3), ints("dilations", &[2])]),
        (pool(3, 1, (0, 0), 2), 3)
    );
    // ceil_mode: one window more, unless it would start beyond the data.
    assert_eq!(resolve(6, &[kernel(3), ints("strides", &[2])]).1, 2);
    assert_eq!(
        resolve(6, &[kernel(3), ints("strides", &[2]), int("ceil_mode", 1)]).1,
        3
    );
    let padded = [
        kernel(2),
        ints("strides", &[3]),
        ints("pads", &[0, 1]),
        int("ceil_mode", 1),
    ];
    assert_eq!(resolve(3, &padded).1, 1);
    assert_eq!(
        resolve(
            5,
            &[
                kernel(2),
                ints("strides", &[2]),
                text("auto_pad", "SAME_LOWER")
            ]
        ),
        (pool(2, 2, (1, 0), 1), 3)
    );
    let bad = |attrs: &[_]| Build::xy(12, &[1, 2, 3]).node("MaxPool", &["x"], &["y"], attrs);
    says(&bad(&[]).malformed(), &["kernel_shape"]);
    says(&bad(&[kernel(5)]).malformed(), &["window"]);
    says(
        &bad(&[kernel(2), ints("pads", &[2, 0])]).unsupported(),
        &["padding alone"],
    );
    says(
        &bad(&[kernel(2), ints("pads", &[-1, 0])]).malformed(),
        &["pads"],
    );
    let indices = Build::xy(12, &[1, 2, 3]).node("MaxPool", &["x"], &["m", "i"], &[kernel(2)]);
    says(
        &indices.node("Add", &["m", "i"], &["y"], &[]).unsupported(),
        &["'i'", "not compute"],
    );
}

#[test]
fn average_pool() {
    let attrs = [
        ints("kernel_shape", &[3]),
        ints("pads", &[1, 1]),
        int("count_include_pad", 1),
    ];
    let (op, shape) = Build::xy(11, &[1, 2, 5])
        .node("AveragePool", &["x"], &["y"], &attrs)
        .op();
    assert_eq!(
        op,
        Op::AveragePool {
            pool: pool(3, 1, (1, 1), 1),
            count_include_pad: true
        }
    );
    assert_eq!(shape, [1, 2, 5]);
    let (op, shape) = Build::xy(11, &[1, 2, 5, 6])
        .node("GlobalAveragePool", &["x"], &["y"], &[])
        .op();
    assert_eq!(
        (op, shape),
        (Op::Mean { axes: vec![2, 3] }, vec![1, 2, 1, 1])
    );
    let (op, shape) = Build::xy(11, &[1, 2, 5])
        .node("GlobalMaxPool", &["x"], &["y"], &[])
        .op();
    assert_eq!(
        (op, shape),
        (Op::MaxPool(pool(5, 1, (0, 0), 1)), vec![1, 2, 1])
    );
}
