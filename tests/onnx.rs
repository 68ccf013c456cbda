//! Small QONNX models, built in memory.

use std::path::{Path, PathBuf};

use align_check_graph::onnx::proto::attribute_proto::AttributeType;
use align_check_graph::onnx::proto::tensor_proto::DataType;
use align_check_graph::onnx::proto::tensor_shape_proto::{Dimension, dimension};
use align_check_graph::onnx::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};
use prost::Message;

/// Domain of QONNX's quantizers.
pub const QONNX: &str = "qonnx.custom_op.general";

/// A quantizer: what a QONNX `Quant` node needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Quant {
    /// One scale, or one an entry of [`Self::shape`].
    pub scale: Vec<f32>,
    /// Shape of the scale; empty for a scalar.
    pub shape: Vec<i64>,
    /// Zero point.
    pub zero_point: i64,
    /// Width in bits.
    pub bits: u32,
    /// Whether codes are signed.
    pub signed: bool,
    /// QONNX's name of the rounding.
    pub rounding: &'static str,
}

impl Quant {
    /// One scale, rounding half to even.
    pub fn uniform(scale: f32, zero_point: i64, bits: u32, signed: bool) -> Self {
        Self {
            scale: vec![scale],
            shape: Vec::new(),
            zero_point,
            bits,
            signed,
            rounding: "ROUND",
        }
    }

    /// Codes of 8 bits without a sign.
    pub fn u8(scale: f32, zero_point: i64) -> Self {
        Self::uniform(scale, zero_point, 8, false)
    }

    /// Codes of 8 bits with a sign.
    pub fn i8(scale: f32, zero_point: i64) -> Self {
        Self::uniform(scale, zero_point, 8, true)
    }

    /// One scale an output channel, for weights `(M, C, 1, 1)` of so many bits.
    pub fn per_channel(scale: &[f32], bits: u32) -> Self {
        Self {
            scale: scale.to_vec(),
            shape: vec![scale.len() as i64, 1, 1, 1],
            ..Self::uniform(1.0, 0, bits, true)
        }
    }

    /// Smallest and largest code.
    pub fn range(&self) -> (i64, i64) {
        if self.signed {
            (-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1)
        } else {
            (0, (1 << self.bits) - 1)
        }
    }
}

/// An attribute that is an integer.
pub fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Int as i32),
        i: Some(i),
        ..Default::default()
    }
}

/// An attribute that is a real.
pub fn real(name: &str, f: f32) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Float as i32),
        f: Some(f),
        ..Default::default()
    }
}

/// An attribute that is a list of integers.
pub fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Ints as i32),
        ints: ints.to_vec(),
        ..Default::default()
    }
}

/// An attribute that is a text.
pub fn text(name: &str, s: &str) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::String as i32),
        s: Some(s.as_bytes().to_vec()),
        ..Default::default()
    }
}

fn info(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = |&d: &i64| Dimension {
        value: Some(dimension::Value::DimValue(d)),
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

/// A model under construction.
#[derive(Debug, Clone)]
pub struct Onnx {
    graph: GraphProto,
}

impl Default for Onnx {
    fn default() -> Self {
        Self::new()
    }
}

impl Onnx {
    /// An empty graph.
    pub fn new() -> Self {
        Self {
            graph: GraphProto {
                name: Some("made by a test".to_owned()),
                ..Default::default()
            },
        }
    }

    /// A graph input.
    #[must_use]
    pub fn input(mut self, name: &str, dims: &[i64]) -> Self {
        self.graph.input.push(info(name, dims));
        self
    }

    /// A graph output.
    #[must_use]
    pub fn output(mut self, name: &str, dims: &[i64]) -> Self {
        self.graph.output.push(info(name, dims));
        self
    }

    /// An initializer.
    #[must_use]
    pub fn reals(mut self, name: &str, dims: &[i64], values: &[f32]) -> Self {
        self.graph.initializer.push(TensorProto {
            name: Some(name.to_owned()),
            dims: dims.to_vec(),
            data_type: Some(DataType::Float as i32),
            float_data: values.to_vec(),
            ..Default::default()
        });
        self
    }

    /// An initializer of 8-bit codes.
    #[must_use]
    pub fn codes(mut self, name: &str, dims: &[i64], values: &[i32], signed: bool) -> Self {
        let kind = if signed {
            DataType::Int8
        } else {
            DataType::Uint8
        };
        self.graph.initializer.push(TensorProto {
            name: Some(name.to_owned()),
            dims: dims.to_vec(),
            data_type: Some(kind as i32),
            int32_data: values.to_vec(),
            ..Default::default()
        });
        self
    }

    /// `QuantizeLinear` from `x` to `y_q` and `DequantizeLinear` from there to `y`, of 8 bits.
    #[must_use]
    pub fn qdq(self, x: &str, y: &str, scale: f32, zero_point: i32, signed: bool) -> Self {
        let [s, z, q] = ["s", "z", "q"].map(|part| format!("{y}_{part}"));
        self.reals(&s, &[], &[scale])
            .codes(&z, &[], &[zero_point], signed)
            .node("QuantizeLinear", &[x, &s, &z], &q, &[])
            .node("DequantizeLinear", &[&q, &s, &z], y, &[])
    }

    /// A node of ONNX's own domain, named after its output.
    #[must_use]
    pub fn node(self, op: &str, inputs: &[&str], output: &str, attrs: &[AttributeProto]) -> Self {
        self.node_in("", op, inputs, output, attrs)
    }

    /// A node of any domain, named `node_` and its output.
    #[must_use]
    pub fn node_in(
        mut self,
        domain: &str,
        op: &str,
        inputs: &[&str],
        output: &str,
        attrs: &[AttributeProto],
    ) -> Self {
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|&n| n.to_owned()).collect(),
            output: vec![output.to_owned()],
            name: Some(format!("node_{output}")),
            op_type: Some(op.to_owned()),
            attribute: attrs.to_vec(),
            domain: Some(domain.to_owned()),
        });
        self
    }

    /// A quantizer from `x` to `y`.
    #[must_use]
    pub fn quant(self, x: &str, y: &str, quant: &Quant) -> Self {
        let [scale, zero, bits] = ["scale", "zero", "bits"].map(|part| format!("{y}_{part}"));
        self.reals(&scale, &quant.shape, &quant.scale)
            .reals(&zero, &[], &[quant.zero_point as f32])
            .reals(&bits, &[], &[quant.bits as f32])
            .node_in(
                QONNX,
                "Quant",
                &[x, &scale, &zero, &bits],
                y,
                &[
                    int("signed", i64::from(quant.signed)),
                    int("narrow", 0),
                    text("rounding_mode", quant.rounding),
                ],
            )
    }

    /// The file's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let import = |domain: &str, version| OperatorSetIdProto {
            domain: Some(domain.to_owned()),
            version: Some(version),
        };
        ModelProto {
            ir_version: Some(8),
            graph: Some(self.graph.clone()),
            opset_import: vec![import("", 13), import(QONNX, 1)],
            ..Default::default()
        }
        .encode_to_vec()
    }

    /// Writes the file.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write(&self, path: &Path) {
        std::fs::write(path, self.bytes()).expect("a writable file");
    }
}

/// Writes a fully connected layer on one pixel, whose window is its input; ties and saturation included.
///
/// # Panics
/// It cannot be written.
pub fn one_window(folder: &Path) -> PathBuf {
    let weights: Vec<i32> = (0..3 * 24).map(|i| (i * 37 + 11) % 101 - 50).collect();
    one_window_of(folder, &weights)
}

/// [`one_window`] with other weights: 24 for each of its 3 outputs.
pub fn one_window_of(folder: &Path, weights: &[i32]) -> PathBuf {
    let path = folder.join("model.onnx");
    Onnx::new()
        .input("x", &[1, 24, 1, 1])
        .qdq("x", "xq", 0.05, 3, false)
        .codes("w", &[3, 24, 1, 1], weights, true)
        .reals("ws", &[], &[1.0 / 64.0])
        .codes("wz", &[], &[0], true)
        .node("DequantizeLinear", &["w", "ws", "wz"], "wd", &[])
        .node("Conv", &["xq", "wd"], "y", &[ints("kernel_shape", &[1, 1])])
        .qdq("y", "yq", 0.09, 7, false)
        .output("yq", &[1, 3, 1, 1])
        .write(&path);
    path
}
