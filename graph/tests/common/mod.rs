//! Builds small models in memory.
#![allow(dead_code, reason = "each test file uses its part")]

#[path = "../support/mod.rs"]
pub mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;

use align_check_graph::onnx::proto::attribute_proto::AttributeType;
use align_check_graph::onnx::proto::tensor_proto::DataType;
use align_check_graph::onnx::proto::tensor_shape_proto::{Dimension, dimension};
use align_check_graph::onnx::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorAnnotation, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};
use align_check_graph::{Affine, Error, Graph, Limits, Model, Node, Op, PerChannel, Value};
use prost::Message;

pub use support::says;

/// An attribute.
pub fn attr(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(kind as i32),
        ..Default::default()
    }
}

pub fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto {
        i: Some(i),
        ..attr(name, AttributeType::Int)
    }
}

pub fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto {
        f: Some(f),
        ..attr(name, AttributeType::Float)
    }
}

pub fn text(name: &str, s: &str) -> AttributeProto {
    AttributeProto {
        s: Some(s.as_bytes().to_vec()),
        ..attr(name, AttributeType::String)
    }
}

pub fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto {
        ints: ints.to_vec(),
        ..attr(name, AttributeType::Ints)
    }
}

pub fn floats(name: &str, floats: &[f32]) -> AttributeProto {
    AttributeProto {
        floats: floats.to_vec(),
        ..attr(name, AttributeType::Floats)
    }
}

pub fn tensor(name: &str, t: TensorProto) -> AttributeProto {
    AttributeProto {
        t: Some(t),
        ..attr(name, AttributeType::Tensor)
    }
}

pub fn f32s(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: dims.to_vec(),
        data_type: Some(DataType::Float as i32),
        float_data: values.to_vec(),
        ..Default::default()
    }
}

pub fn i64s(name: &str, dims: &[i64], values: &[i64]) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: dims.to_vec(),
        data_type: Some(DataType::Int64 as i32),
        int64_data: values.to_vec(),
        ..Default::default()
    }
}

/// A tensor of integers of some type.
pub fn codes(name: &str, kind: DataType, dims: &[i64], values: &[i32]) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: dims.to_vec(),
        data_type: Some(kind as i32),
        int32_data: values.to_vec(),
        ..Default::default()
    }
}

pub fn entry(key: &str, value: &str) -> StringStringEntryProto {
    StringStringEntryProto {
        key: Some(key.to_owned()),
        value: Some(value.to_owned()),
    }
}

/// A graph input or output; extents below 0 stay open.
pub fn info(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = |&d: &i64| Dimension {
        value: Some(if d < 0 {
            dimension::Value::DimParam("n".to_owned())
        } else {
            dimension::Value::DimValue(d)
        }),
    };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            tensor_type: Some(type_proto::Tensor {
                elem_type: Some(DataType::Float as i32),
                shape: Some(TensorShapeProto {
                    dim: dims.iter().map(dim).collect(),
                }),
            }),
        }),
    }
}

/// A model under construction. Names: the input is usually `x`, the output `y`.
#[derive(Clone)]
pub struct Build {
    pub model: ModelProto,
    pub limits: Limits,
    pub shapes: BTreeMap<String, Vec<usize>>,
}

impl Build {
    pub fn new(opset: i64) -> Self {
        let model = ModelProto {
            ir_version: Some(8),
            graph: Some(GraphProto::default()),
            ..Default::default()
        };
        Self {
            model,
            limits: Limits::default(),
            shapes: BTreeMap::new(),
        }
        .import("", opset)
    }

    /// `x` of a shape, `y` as output.
    pub fn xy(opset: i64, x: &[i64]) -> Self {
        Self::new(opset).input("x", x).output("y")
    }

    pub fn graph_mut(&mut self) -> &mut GraphProto {
        self.model.graph.as_mut().unwrap()
    }

    pub fn import(mut self, domain: &str, version: i64) -> Self {
        let import = OperatorSetIdProto {
            domain: Some(domain.to_owned()),
            version: Some(version),
        };
        self.model.opset_import.push(import);
        self
    }

    pub fn input(mut self, name: &str, dims: &[i64]) -> Self {
        self.graph_mut().input.push(info(name, dims));
        self
    }

    pub fn output(mut self, name: &str) -> Self {
        self.graph_mut().output.push(info(name, &[]));
        self
    }

    pub fn tensor(mut self, tensor: TensorProto) -> Self {
        self.graph_mut().initializer.push(tensor);
        self
    }

    /// An initializer of reals.
    pub fn f32s(self, name: &str, dims: &[i64], values: &[f32]) -> Self {
        self.tensor(f32s(name, dims, values))
    }

    /// An initializer of zeros.
    pub fn zeros(self, name: &str, dims: &[i64]) -> Self {
        let count = dims.iter().product::<i64>() as usize;
        self.f32s(name, dims, &vec![0.0; count])
    }

    /// A graph input of integers.
    pub fn input_of(mut self, name: &str, kind: DataType, dims: &[i64]) -> Self {
        let mut input = info(name, dims);
        let tensor = input.r#type.as_mut().and_then(|t| t.tensor_type.as_mut());
        tensor.unwrap().elem_type = Some(kind as i32);
        self.graph_mut().input.push(input);
        self
    }

    /// An initializer of integers of some type.
    pub fn codes(self, name: &str, kind: DataType, dims: &[i64], values: &[i32]) -> Self {
        self.tensor(codes(name, kind, dims, values))
    }

    /// A one-dimensional initializer of integers.
    pub fn i64s(self, name: &str, values: &[i64]) -> Self {
        self.tensor(i64s(name, &[values.len() as i64], values))
    }

    pub fn scalar(self, name: &str, value: f32) -> Self {
        self.f32s(name, &[], &[value])
    }

    pub fn node(
        self,
        op_type: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: &[AttributeProto],
    ) -> Self {
        self.node_in("", op_type, inputs, outputs, attributes)
    }

    pub fn node_in(
        mut self,
        domain: &str,
        op_type: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: &[AttributeProto],
    ) -> Self {
        let own = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect();
        self.graph_mut().node.push(NodeProto {
            input: own(inputs),
            output: own(outputs),
            name: None,
            op_type: Some(op_type.to_owned()),
            attribute: attributes.to_vec(),
            domain: Some(domain.to_owned()),
        });
        self
    }

    /// Names the last node.
    pub fn named(mut self, name: &str) -> Self {
        self.graph_mut().node.last_mut().unwrap().name = Some(name.to_owned());
        self
    }

    pub fn annotate(mut self, tensor: &str, datatype: &str) -> Self {
        self.graph_mut()
            .quantization_annotation
            .push(TensorAnnotation {
                tensor_name: Some(tensor.to_owned()),
                quant_parameter_tensor_names: vec![entry("finn_datatype", datatype)],
            });
        self
    }

    pub fn shape(mut self, input: &str, shape: &[usize]) -> Self {
        self.shapes.insert(input.to_owned(), shape.to_vec());
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.model.encode_to_vec()
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

    /// The single node of the graph, and the shape of its output.
    #[track_caller]
    pub fn only(&self) -> (Node, Vec<usize>) {
        let graph = self.graph();
        let (node, shape) = support::only(&graph);
        assert_eq!(graph.outputs, [node.output]);
        (node, shape)
    }

    /// The single operation, with the shape of its output.
    #[track_caller]
    pub fn op(&self) -> (Op, Vec<usize>) {
        let (node, shape) = self.only();
        (node.op, shape)
    }

    /// The error, which must be one line.
    #[track_caller]
    pub fn error(&self) -> Error {
        let error = self.load().expect_err("a model that must not load");
        assert!(!error.to_string().contains('\n'), "{error}");
        error
    }

    /// The message of an `Unsupported`.
    #[track_caller]
    pub fn unsupported(&self) -> String {
        match self.error() {
            Error::Unsupported { op_type, what, .. } => format!("{op_type}: {what}"),
            other => panic!("{other}"),
        }
    }

    /// The message of a `Malformed`.
    #[track_caller]
    pub fn malformed(&self) -> String {
        support::malformed(self.error())
    }
}

pub fn read_bytes(bytes: &[u8], limits: &Limits) -> Result<Model, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("model.onnx");
    std::fs::write(&path, bytes).unwrap();
    Model::read(&path, limits)
}

/// One scale and zero point, as `QuantizeLinear` has them.
pub fn grid(scale: f32, zero_point: f32, bits: u32, signed: bool) -> Affine {
    Affine::quantize_linear(
        PerChannel::uniform(scale),
        PerChannel::uniform(zero_point),
        bits,
        signed,
    )
}

/// A parameter along an axis.
pub fn list(values: &[f32], axis: usize) -> PerChannel<f32> {
    PerChannel {
        values: values.to_vec(),
        axis: Some(axis),
    }
}

/// A value by its name.
#[track_caller]
pub fn value<'a>(graph: &'a Graph, name: &str) -> &'a Value {
    let names = || graph.values.iter().map(|v| &v.name).collect::<Vec<_>>();
    match graph.find(name) {
        Some(id) => graph.value(id),
        None => panic!("{name} is not in {:?}", names()),
    }
}

/// The grid that a value is stored on.
#[track_caller]
pub fn stored(graph: &Graph, name: &str) -> Affine {
    value(graph, name).stored.clone().expect("a grid")
}
