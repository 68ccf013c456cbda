//! Files that are damaged or mean harm end in a one-line error.

mod common;

use align_check_graph::onnx::proto::TensorProto;
use align_check_graph::onnx::proto::tensor_proto::DataType;
use align_check_graph::{Error, InputInfo, Limits, Model};
use common::{Build, int, ints, read_bytes, says, support, text};
use proptest::prelude::*;

fn small() -> Build {
    Build::xy(13, &[1, 2, 4])
        .import("qonnx.custom_op.general", 1)
        .f32s("w", &[3, 2, 2], &[0.5; 12])
        .scalar("s", 0.5)
        .scalar("z", 0.0)
        .scalar("b", 8.0)
        .i64s("t", &[1, -1])
        .node_in(
            "qonnx.custom_op.general",
            "Quant",
            &["w", "s", "z", "b"],
            &["q"],
            &[int("narrow", 1), text("rounding_mode", "HALF_UP")],
        )
        .node("Conv", &["x", "q"], &["c"], &[ints("pads", &[1, 0])])
        .node("Relu", &["c"], &["r"], &[])
        .node("Reshape", &["r", "t"], &["y"], &[])
        .annotate("x", "INT8")
}

/// Loads whatever the bytes are; an error must be one line.
fn survive(bytes: &[u8]) {
    support::survive("model.onnx", |limits| read_bytes(bytes, limits));
}

#[test]
fn truncated_at_every_length() {
    let bytes = small().bytes();
    small().graph();
    support::truncated(&bytes, survive);
    says(
        &read_bytes(&[], &Limits::default()).unwrap_err().to_string(),
        &["no graph"],
    );
}

#[test]
fn changed_bytes() {
    support::changed(&small().bytes(), survive);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        survive(&bytes);
    }

    #[test]
    fn several_changes(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = small().bytes();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        survive(&bytes);
    }
}

#[test]
fn not_a_model() {
    let text = b"%PDF-1.4 this is no protobuf at all";
    says(
        &read_bytes(text, &Limits::default())
            .unwrap_err()
            .to_string(),
        &["not an ONNX file"],
    );
    let missing = Model::read(
        std::path::Path::new("no/such/file.onnx"),
        &Limits::default(),
    )
    .unwrap_err();
    assert!(matches!(missing, Error::Io { .. }));
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(
        Model::read(folder.path(), &Limits::default()),
        Err(Error::Io { .. })
    ));
}

#[test]
fn limits() {
    let with = |limits| Build { limits, ..small() };
    says(
        &with(Limits {
            file_bytes: 100,
            ..Limits::default()
        })
        .malformed(),
        &["larger than", "100"],
    );
    says(
        &with(Limits {
            nodes: 3,
            ..Limits::default()
        })
        .malformed(),
        &["4 nodes"],
    );
    says(
        &with(Limits {
            tensor_elements: 11,
            ..Limits::default()
        })
        .malformed(),
        &["'w'", "11 elements"],
    );
    says(
        &with(Limits {
            constant_elements: 12,
            ..Limits::default()
        })
        .malformed(),
        &["together"],
    );
    says(
        &with(Limits {
            rank: 2,
            ..Limits::default()
        })
        .malformed(),
        &["3 axes"],
    );
    // Two bytes a node on disk: refused before they take a hundred times as much in memory.
    let mut bytes = Vec::new();
    let nodes = 5_000_000u32;
    bytes.push(0x3a);
    let mut length = nodes * 2;
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend([0x0a, 0x00].repeat(nodes as usize));
    says(
        &read_bytes(&bytes, &Limits::default())
            .unwrap_err()
            .to_string(),
        &["messages"],
    );
}

#[test]
fn huge_shapes() {
    let tensor = |dims: &[i64]| TensorProto {
        name: Some("w".to_owned()),
        dims: dims.to_vec(),
        data_type: Some(DataType::Float as i32),
        ..Default::default()
    };
    let build = Build::xy(13, &[1]).node("Add", &["x", "w"], &["y"], &[]);
    for dims in [
        &[i64::MAX][..],
        &[1 << 40, 1 << 40],
        &[0, i64::MAX],
        &[1 << 20, 1 << 20, 0],
    ] {
        says(
            &build.clone().tensor(tensor(dims)).malformed(),
            &["'w'", "limit"],
        );
    }
    says(
        &build.clone().tensor(tensor(&[-1])).malformed(),
        &["negative"],
    );
    says(
        &build.clone().tensor(tensor(&[1; 99])).malformed(),
        &["99 axes"],
    );
    says(
        &build.clone().tensor(tensor(&[4])).malformed(),
        &["0 numbers", "needs 4"],
    );
    says(
        &build.clone().tensor(tensor(&[0])).malformed(),
        &["no element"],
    );
    let wide = Build::xy(13, &[1, 1 << 20])
        .f32s("w", &[1], &[1.0])
        .i64s("s", &[1 << 20, 1 << 20]);
    says(
        &wide
            .clone()
            .node("Reshape", &["x", "s"], &["y"], &[])
            .malformed(),
        &["limit"],
    );
    says(
        &wide
            .clone()
            .node("Expand", &["w", "s"], &["y"], &[])
            .malformed(),
        &["limit"],
    );
    says(
        &wide
            .clone()
            .node("Tile", &["w", "w"], &["y"], &[])
            .malformed(),
        &["integers"],
    );
    says(
        &wide
            .clone()
            .node("ConstantOfShape", &["s"], &["y"], &[])
            .malformed(),
        &["limit"],
    );
    let column =
        wide.node("Transpose", &["x"], &["t"], &[])
            .node("MatMul", &["t", "x"], &["y"], &[]);
    says(&column.malformed(), &["limit"]);
    let pads = Build::xy(13, &[1]).i64s("p", &[i64::MAX, i64::MAX]);
    says(
        &pads.node("Pad", &["x", "p"], &["y"], &[]).malformed(),
        &["limit"],
    );
    let pool = [
        ints("kernel_shape", &[1 << 30]),
        ints("pads", &[1 << 29, 1 << 29]),
    ];
    says(
        &Build::xy(13, &[1, 1, 1])
            .node("MaxPool", &["x"], &["y"], &pool)
            .malformed(),
        &["limit"],
    );
    let range = Build::new(13)
        .output("y")
        .node("Constant", &[], &["a"], &[int("value_int", i64::MIN)])
        .node("Constant", &[], &["b"], &[int("value_int", i64::MAX)])
        .node("Constant", &[], &["c"], &[int("value_int", 1)])
        .node("Range", &["a", "b", "c"], &["y"], &[]);
    says(&range.malformed(), &["limit"]);
    // Each is small; together they are not.
    let mut many = Build::xy(13, &[1]).i64s("s", &[1 << 20]).output("z");
    many.limits.memory_bytes = Some(8 * (3 << 20));
    for i in 0..4 {
        let name = format!("c{i}");
        many = many.node("ConstantOfShape", &["s"], &[&name], &[]);
    }
    let inputs = ["c0", "c1", "c2", "c3"];
    let many = many
        .node("Concat", &inputs, &["z"], &[int("axis", 0)])
        .node("Relu", &["x"], &["y"], &[]);
    says(&many.malformed(), &["together"]);
}

#[test]
fn names_and_order() {
    let relu = |build: Build, from: &str, to: &str| build.node("Relu", &[from], &[to], &[]);
    let start = || Build::xy(13, &[2]);
    // Files need not be sorted; names are made unique.
    let graph = relu(relu(start(), "a", "y").named("same"), "x", "a")
        .named("same")
        .graph();
    let names: Vec<_> = graph.nodes.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["Relu_1", "Relu_0"]);
    let graph = relu(relu(start(), "x", "a"), "a", "y")
        .named("Relu_0")
        .graph();
    let names: Vec<_> = graph.nodes.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["Relu_2", "Relu_0"]);
    says(
        &relu(start(), "nothing", "y").malformed(),
        &["Relu_0", "'nothing'"],
    );
    says(
        &relu(relu(start(), "a", "b"), "b", "a").malformed(),
        &["'y'"],
    );
    let cycle = start().node("Add", &["x", "b"], &["a"], &[]);
    says(
        &relu(relu(cycle, "a", "b"), "a", "y").malformed(),
        &["cycle", "Add_0"],
    );
    says(&relu(start(), "y", "y").malformed(), &["cycle"]);
    says(
        &relu(relu(start(), "x", "y"), "x", "y").malformed(),
        &["'y'", "unique"],
    );
    says(&relu(start(), "x", "x").malformed(), &["'x'", "unique"]);
    says(
        &relu(start().zeros("w", &[1]).zeros("w", &[1]), "x", "y").malformed(),
        &["two initializers", "'w'"],
    );
    says(
        &relu(start().input("x", &[2]), "x", "y").malformed(),
        &["two graph inputs"],
    );
    says(&relu(start().output("q"), "x", "y").malformed(), &["'q'"]);
    let mut silent = relu(start(), "x", "y");
    silent.graph_mut().output.clear();
    says(&silent.malformed(), &["no output"]);
    let mut versionless = relu(start(), "x", "y");
    versionless.model.opset_import.clear();
    says(&versionless.malformed(), &["opset_import"]);
    let broken = start()
        .node("To\npK", &["x"], &["y"], &[])
        .named("two\nlines");
    says(&broken.unsupported(), &["To\\npK"]);
    // A tensor of the file may have the name that the importer would give to one of its own.
    let taken = Build::xy(11, &[2, 3, 4]).node("Relu", &["x"], &["x.rows"], &[]);
    let graph = taken
        .node("Softmax", &["x"], &["s"], &[])
        .node("Add", &["s", "x.rows"], &["y"], &[])
        .graph();
    let names: std::collections::HashSet<_> = graph.values.iter().map(|v| &v.name).collect();
    assert_eq!(names.len(), graph.values.len());
}

#[test]
fn input_shapes() {
    let build = Build::xy(13, &[-1, 3, 4]).node("Relu", &["x"], &["y"], &[]);
    let model = build.read().unwrap();
    let info = InputInfo {
        name: "x".to_owned(),
        dims: vec![None, Some(3), Some(4)],
        stored: None,
        aliases: Vec::new(),
    };
    assert_eq!(model.inputs(), [info]);
    assert_eq!(build.only().1, [1, 3, 4]);
    assert_eq!(build.clone().shape("x", &[8, 3, 4]).only().1, [8, 3, 4]);
    let input = |build: Build| match build.error() {
        Error::Input { input, what, .. } => format!("{input}: {what}"),
        other => panic!("{other}"),
    };
    says(
        &input(build.clone().shape("x", &[8, 3, 5])),
        &["x", "[8, 3, 5]", "[?, 3, 4]"],
    );
    says(&input(build.clone().shape("x", &[3, 4])), &["[3, 4]"]);
    says(
        &input(build.clone().shape("z", &[3, 4])),
        &["z", "no such input", "x"],
    );
    says(&input(build.shape("x", &[0, 3, 4])), &["no element"]);
    let open = Build::xy(13, &[-1, 3, -1]).node("Relu", &["x"], &["y"], &[]);
    says(&input(open.clone()), &["[?, 3, ?]", "give one"]);
    assert_eq!(open.shape("x", &[1, 3, 9]).only().1, [1, 3, 9]);
    // Initializers that are listed as inputs are none.
    let listed =
        Build::xy(13, &[2])
            .input("w", &[2])
            .zeros("w", &[2])
            .node("Add", &["x", "w"], &["y"], &[]);
    assert_eq!(listed.read().unwrap().inputs().len(), 1);
    let mut shapeless = Build::xy(13, &[2]).node("Relu", &["x"], &["y"], &[]);
    let kind = shapeless.graph_mut().input[0].r#type.as_mut().unwrap();
    kind.tensor_type.as_mut().unwrap().shape = None;
    says(&input(shapeless.clone()), &["no shape"]);
    assert_eq!(shapeless.shape("x", &[5]).only().1, [5]);
}

#[test]
fn what_the_file_has_besides_is_reported() {
    use align_check_graph::onnx::proto::{FunctionProto, SparseTensorProto};
    let mut build = Build::xy(99, &[2]).node("Relu", &["x"], &["y"], &[]);
    build.model.functions.push(FunctionProto::default());
    let notes = build.read().unwrap().notes().to_vec();
    says(&notes[0], &["opset 99"]);
    says(&notes[1], &["1 local functions"]);
    build
        .graph_mut()
        .sparse_initializer
        .push(SparseTensorProto {});
    says(&build.malformed(), &["sparse"]);
}
