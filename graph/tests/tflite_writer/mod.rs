//! Writes small `TFLite` files, field by field.
#![allow(dead_code, reason = "each test file uses its part")]

#[path = "../support/mod.rs"]
pub mod support;

use std::collections::BTreeMap;

use align_check_graph::{Error, Graph, Limits, Model, Node, Value};
use flatbuffers::{FlatBufferBuilder, TableFinishedWIPOffset, WIPOffset};

pub use support::says;

pub const FLOAT32: i8 = 0;
pub const FLOAT16: i8 = 1;
pub const INT32: i8 = 2;
pub const UINT8: i8 = 3;
pub const INT64: i8 = 4;
pub const STRING: i8 = 5;
pub const INT16: i8 = 7;
pub const INT8: i8 = 9;
pub const INT4: i8 = 17;

/// A tensor of a file.
#[derive(Clone, Default)]
pub struct Tensor {
    pub name: String,
    pub shape: Vec<i32>,
    pub signature: Vec<i32>,
    pub kind: i8,
    pub data: Vec<u8>,
    pub scales: Vec<f32>,
    pub zeros: Vec<i64>,
    pub axis: i32,
    pub details: u8,
    pub variable: bool,
    pub sparse: bool,
    pub external: u32,
}

impl Tensor {
    /// One scale.
    pub fn grid(self, scale: f32, zero: i64) -> Self {
        self.grids(&[scale], &[zero], 0)
    }

    /// Several scales along an axis.
    pub fn grids(mut self, scales: &[f32], zeros: &[i64], axis: i32) -> Self {
        self.scales = scales.to_vec();
        self.zeros = zeros.to_vec();
        self.axis = axis;
        self
    }

    /// Contents of a tensor of `INT8`.
    pub fn codes(mut self, codes: &[i8]) -> Self {
        self.data = codes.iter().map(|&c| c as u8).collect();
        self
    }

    /// Contents of a tensor of `INT32`.
    pub fn ints(mut self, values: &[i32]) -> Self {
        self.data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self
    }

    /// Contents of a tensor of `FLOAT32`.
    pub fn reals(mut self, values: &[f32]) -> Self {
        self.data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self
    }

    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.data = bytes.to_vec();
        self
    }

    pub fn signature(mut self, signature: &[i32]) -> Self {
        self.signature = signature.to_vec();
        self
    }
}

pub fn tensor(name: &str, kind: i8, shape: &[i32]) -> Tensor {
    Tensor {
        name: name.to_owned(),
        shape: shape.to_vec(),
        kind,
        ..Tensor::default()
    }
}

/// A tensor of `INT8` with a grid.
pub fn int8(name: &str, shape: &[i32], scale: f32, zero: i64) -> Tensor {
    tensor(name, INT8, shape).grid(scale, zero)
}

pub fn real(name: &str, shape: &[i32]) -> Tensor {
    tensor(name, FLOAT32, shape)
}

/// A constant list of integers, for shapes, axes and paddings.
pub fn list(name: &str, values: &[i32]) -> Tensor {
    tensor(name, INT32, &[values.len() as i32]).ints(values)
}

/// A field of an options table.
#[derive(Clone)]
pub enum Field {
    I8(i8),
    I32(i32),
    F32(f32),
    I32s(Vec<i32>),
}

/// An operator of a file.
#[derive(Clone)]
pub struct Operator {
    code: i32,
    custom: String,
    inputs: Vec<i32>,
    outputs: Vec<i32>,
    pub options: Option<(u8, Vec<Field>)>,
}

/// Number of an operator, and of its options.
fn code(name: &str) -> (i32, u8) {
    match name {
        "ADD" => (0, 11),
        "AVERAGE_POOL_2D" => (1, 5),
        "CONCATENATION" => (2, 10),
        "CONV_2D" => (3, 1),
        "DEPTHWISE_CONV_2D" => (4, 2),
        "DEPTH_TO_SPACE" => (5, 94),
        "DEQUANTIZE" => (6, 38),
        "FLOOR" => (8, 0),
        "FULLY_CONNECTED" => (9, 8),
        "LOGISTIC" => (14, 0),
        "MAX_POOL_2D" => (17, 5),
        "MUL" => (18, 21),
        "RELU" => (19, 0),
        "RELU_N1_TO_1" => (20, 0),
        "RELU6" => (21, 0),
        "RESHAPE" => (22, 17),
        "RESIZE_BILINEAR" => (23, 15),
        "SOFTMAX" => (25, 9),
        "TANH" => (28, 0),
        "CUSTOM" => (32, 0),
        "PAD" => (34, 22),
        "TRANSPOSE" => (39, 26),
        "MEAN" => (40, 27),
        "SUB" => (41, 28),
        "SQUEEZE" => (43, 30),
        "STRIDED_SLICE" => (45, 32),
        "SPLIT" => (49, 35),
        "CAST" => (53, 37),
        "PRELU" => (54, 0),
        "PADV2" => (60, 43),
        "SLICE" => (65, 48),
        "TRANSPOSE_CONV" => (67, 49),
        "EXPAND_DIMS" => (70, 52),
        "SHAPE" => (77, 55),
        "PACK" => (83, 59),
        "UNPACK" => (88, 64),
        "RESIZE_NEAREST_NEIGHBOR" => (97, 74),
        "LEAKY_RELU" => (98, 75),
        "MIRROR_PAD" => (100, 77),
        "SPLIT_V" => (102, 79),
        "QUANTIZE" => (114, 0),
        "HARD_SWISH" => (117, 0),
        "GELU" => (150, 0),
        other => panic!("{other}"),
    }
}

/// A file under construction.
#[derive(Clone)]
pub struct Build {
    pub tensors: Vec<Tensor>,
    pub operators: Vec<Operator>,
    pub inputs: Vec<i32>,
    pub outputs: Vec<i32>,
    pub version: u32,
    pub subgraphs: usize,
    pub limits: Limits,
    pub shapes: BTreeMap<String, Vec<usize>>,
}

impl Build {
    pub fn new() -> Self {
        Self {
            tensors: Vec::new(),
            operators: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            version: 3,
            subgraphs: 1,
            limits: Limits::default(),
            shapes: BTreeMap::new(),
        }
    }

    /// A tensor that is no input; its index is the number of tensors before it.
    pub fn with(mut self, tensor: Tensor) -> Self {
        self.tensors.push(tensor);
        self
    }

    pub fn input(mut self, tensor: Tensor) -> Self {
        self.inputs.push(self.tensors.len() as i32);
        self.with(tensor)
    }

    pub fn output(mut self, tensor: Tensor) -> Self {
        self.outputs.push(self.tensors.len() as i32);
        self.with(tensor)
    }

    pub fn find(&self, name: &str) -> i32 {
        if name.is_empty() {
            return -1;
        }
        let place = self.tensors.iter().position(|t| t.name == name);
        place.unwrap_or_else(|| panic!("{name}")) as i32
    }

    pub fn node(self, op: &str, inputs: &[&str], outputs: &[&str]) -> Self {
        self.node_with(op, inputs, outputs, &[])
    }

    pub fn node_with(self, op: &str, inputs: &[&str], outputs: &[&str], options: &[Field]) -> Self {
        let inputs: Vec<i32> = inputs.iter().map(|name| self.find(name)).collect();
        let outputs: Vec<i32> = outputs.iter().map(|name| self.find(name)).collect();
        self.raw_node(op, &inputs, &outputs, options)
    }

    pub fn raw_node(
        mut self,
        op: &str,
        inputs: &[i32],
        outputs: &[i32],
        options: &[Field],
    ) -> Self {
        let (code, kind) = code(op);
        self.operators.push(Operator {
            code,
            custom: if op == "CUSTOM" {
                "Mine".to_owned()
            } else {
                String::new()
            },
            inputs: inputs.to_vec(),
            outputs: outputs.to_vec(),
            options: (!options.is_empty()).then(|| (kind, options.to_vec())),
        });
        self
    }

    pub fn shape(mut self, input: &str, shape: &[usize]) -> Self {
        self.shapes.insert(input.to_owned(), shape.to_vec());
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut b = FlatBufferBuilder::new();
        let mut buffers = vec![table(&mut b, |_| {})];
        let mut tensors = Vec::new();
        for t in &self.tensors {
            let mut buffer = 0;
            if !t.data.is_empty() {
                let data = b.create_vector(&t.data);
                buffer = buffers.len() as u32;
                buffers.push(table(&mut b, |b| b.push_slot_always(slot(0), data)));
            }
            tensors.push(write_tensor(&mut b, t, buffer));
        }
        let mut codes = Vec::new();
        let mut operators = Vec::new();
        for (index, operator) in self.operators.iter().enumerate() {
            let custom = b.create_string(&operator.custom);
            codes.push(table(&mut b, |b| {
                b.push_slot_always(slot(0), operator.code.min(127) as i8);
                b.push_slot_always(slot(1), custom);
                b.push_slot_always(slot(3), operator.code);
            }));
            operators.push(write_operator(&mut b, operator, index as u32));
        }
        let tensors = b.create_vector(&tensors);
        let operators = b.create_vector(&operators);
        let inputs = b.create_vector(&self.inputs);
        let outputs = b.create_vector(&self.outputs);
        let name = b.create_string("main");
        let graph = table(&mut b, |b| {
            b.push_slot_always(slot(0), tensors);
            b.push_slot_always(slot(1), inputs);
            b.push_slot_always(slot(2), outputs);
            b.push_slot_always(slot(3), operators);
            b.push_slot_always(slot(4), name);
        });
        let graphs = b.create_vector(&vec![graph; self.subgraphs]);
        let codes = b.create_vector(&codes);
        let buffers = b.create_vector(&buffers);
        let model = table(&mut b, |b| {
            b.push_slot_always(slot(0), self.version);
            b.push_slot_always(slot(1), codes);
            b.push_slot_always(slot(2), graphs);
            b.push_slot_always(slot(4), buffers);
        });
        b.finish(model, Some("TFL3"));
        b.finished_data().to_vec()
    }

    pub fn read(&self) -> Result<Model, Error> {
        read_bytes(&self.bytes(), &self.limits)
    }

    pub fn load(&self) -> Result<Graph, Error> {
        self.read()?.graph(&self.shapes)
    }

    #[track_caller]
    pub fn graph(&self) -> Graph {
        support::loaded(self.load())
    }

    /// The notes of a file that can be read.
    #[track_caller]
    pub fn notes(&self) -> String {
        self.graph();
        self.read().unwrap().notes().join(" ")
    }

    /// The error, which must be one line and name the file.
    #[track_caller]
    pub fn error(&self) -> Error {
        let error = self.load().expect_err("a file that must not load");
        let message = error.to_string();
        assert!(!message.contains('\n'), "{message}");
        assert!(message.contains("model.tflite"), "{message}");
        error
    }

    /// The message of an `Unsupported`, with the node and the operator.
    #[track_caller]
    pub fn unsupported(&self) -> String {
        match self.error() {
            error @ Error::Unsupported { .. } => error.to_string(),
            other => panic!("{other}"),
        }
    }

    /// The message of a `Malformed`.
    #[track_caller]
    pub fn malformed(&self) -> String {
        support::malformed(self.error())
    }
}

fn slot(id: u16) -> u16 {
    4 + 2 * id
}

type Offset = WIPOffset<TableFinishedWIPOffset>;

fn table<'a>(
    b: &mut FlatBufferBuilder<'a>,
    fields: impl FnOnce(&mut FlatBufferBuilder<'a>),
) -> Offset {
    let start = b.start_table();
    fields(b);
    b.end_table(start)
}

fn write_tensor(b: &mut FlatBufferBuilder, t: &Tensor, buffer: u32) -> Offset {
    let name = b.create_string(&t.name);
    let shape = b.create_vector(&t.shape);
    let signature = (!t.signature.is_empty()).then(|| b.create_vector(&t.signature));
    let sparsity = t.sparse.then(|| table(b, |_| {}));
    let quantization = (!t.scales.is_empty() || t.details != 0).then(|| {
        let scales = b.create_vector(&t.scales);
        let zeros = b.create_vector(&t.zeros);
        table(b, |b| {
            b.push_slot_always(slot(2), scales);
            b.push_slot_always(slot(3), zeros);
            b.push_slot(slot(4), t.details, 0);
            b.push_slot(slot(6), t.axis, 0);
        })
    });
    table(b, |b| {
        b.push_slot_always(slot(0), shape);
        b.push_slot(slot(1), t.kind, 0);
        b.push_slot(slot(2), buffer, 0);
        b.push_slot_always(slot(3), name);
        if let Some(quantization) = quantization {
            b.push_slot_always(slot(4), quantization);
        }
        b.push_slot(slot(5), t.variable, false);
        if let Some(sparsity) = sparsity {
            b.push_slot_always(slot(6), sparsity);
        }
        if let Some(signature) = signature {
            b.push_slot_always(slot(7), signature);
        }
        b.push_slot(slot(8), true, false);
        b.push_slot(slot(10), t.external, 0);
    })
}

fn write_operator(b: &mut FlatBufferBuilder, operator: &Operator, index: u32) -> Offset {
    let inputs = b.create_vector(&operator.inputs);
    let outputs = b.create_vector(&operator.outputs);
    let options = operator.options.as_ref().map(|(kind, fields)| {
        let lists: Vec<_> = fields
            .iter()
            .map(|field| match field {
                Field::I32s(list) => Some(b.create_vector(list)),
                _ => None,
            })
            .collect();
        let options = table(b, |b| {
            for (id, (field, list)) in fields.iter().zip(lists).enumerate() {
                let slot = slot(id as u16);
                match (field, list) {
                    (Field::I8(x), _) => b.push_slot_always(slot, *x),
                    (Field::I32(x), _) => b.push_slot_always(slot, *x),
                    (Field::F32(x), _) => b.push_slot_always(slot, *x),
                    (Field::I32s(_), Some(list)) => b.push_slot_always(slot, list),
                    (Field::I32s(_), None) => {}
                }
            }
        });
        (*kind, options)
    });
    table(b, |b| {
        b.push_slot_always(slot(0), index);
        b.push_slot_always(slot(1), inputs);
        b.push_slot_always(slot(2), outputs);
        if let Some((kind, options)) = options {
            b.push_slot_always(slot(3), kind);
            b.push_slot_always(slot(4), options);
        }
    })
}

pub fn read_bytes(bytes: &[u8], limits: &Limits) -> Result<Model, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.tflite");
    std::fs::write(&path, bytes).unwrap();
    Model::read(&path, limits)
}

/// A node by its name.
#[track_caller]
pub fn node<'g>(graph: &'g Graph, name: &str) -> &'g Node {
    let found = graph.nodes.iter().find(|node| node.name == name);
    found.unwrap_or_else(|| panic!("{name} is not among {:?}", names(graph)))
}

pub fn names(graph: &Graph) -> Vec<&str> {
    graph.nodes.iter().map(|node| node.name.as_str()).collect()
}

/// A value by its name.
#[track_caller]
pub fn value<'g>(graph: &'g Graph, name: &str) -> &'g Value {
    graph.value(graph.find(name).unwrap_or_else(|| panic!("{name}")))
}

/// Names of a node's inputs.
pub fn inputs<'g>(graph: &'g Graph, node: &Node) -> Vec<&'g str> {
    let name = |&id: &usize| graph.value(id).name.as_str();
    node.inputs.iter().map(name).collect()
}
