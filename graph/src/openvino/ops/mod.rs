//! One function an operator: a layer becomes the ONNX operator that means the same, with its parameters resolved.
//!
//! What the attributes mean: OpenVINO's operation specification (openvinotoolkit/openvino
//! `docs/articles_en/documentation/openvino-ir-format/operation-sets/operation-specs/`).

mod arithmetic;
mod movement;
mod resample;
mod window;

use super::parse::split;
use crate::onnx::bind::Binder;
use crate::onnx::fail::{Outcome, malformed, shown, unsupported};
use crate::onnx::ops::fake_quantize;
use crate::onnx::proto::AttributeProto;
use crate::onnx::proto::attribute_proto::AttributeType;
use crate::onnx::{Domain, FileNode, Slot, grid};

/// Operators on integer codes that only move them, or say what they are.
const ON_CODES: [&str; 11] = [
    "Convert",
    "ShapeOf",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "Concat",
    "Split",
    "VariadicSplit",
    "MaxPool",
    "StridedSlice",
];

/// Translates a layer; none where all is done already.
pub(crate) fn lower(b: &mut Binder, layer: &FileNode) -> Outcome<Option<FileNode>> {
    let kind = layer.op_type.as_str();
    if layer.version == 0 {
        return unsupported("this layer belongs to no operator set of OpenVINO: an extension");
    }
    for &slot in layer.inputs.iter().flatten() {
        if let Ok(codes) = b.codes(slot)
            && codes.integer.is_some()
            && codes.grid.is_some()
            && !ON_CODES.contains(&kind)
        {
            return unsupported(format!(
                "it computes with the integers of '{}'; convert them to f32 first",
                shown(b.name(slot))
            ));
        }
    }
    let simple = |op_type| Ok(Some(renamed(layer, op_type, 21)));
    match kind {
        "Convolution" => window::convolution(b, layer, false),
        "GroupConvolution" => window::convolution(b, layer, true),
        "ConvolutionBackpropData" => window::transposed(b, layer, false),
        "GroupConvolutionBackpropData" => window::transposed(b, layer, true),
        "MaxPool" => window::max_pool(b, layer),
        "AvgPool" => window::average_pool(b, layer),
        "MatMul" => arithmetic::matmul(b, layer),
        "Add" => arithmetic::binary(b, layer, "Add"),
        "Subtract" => arithmetic::subtract(b, layer),
        "Multiply" => arithmetic::multiply(b, layer),
        "Divide" => arithmetic::divide(b, layer),
        "Convert" => arithmetic::convert(b, layer),
        "ReLU" => simple("Relu"),
        "Sigmoid" => simple("Sigmoid"),
        "Tanh" => simple("Tanh"),
        "HSwish" => simple("HardSwish"),
        "HSigmoid" => Ok(Some(with(
            renamed(layer, "HardSigmoid", 21),
            vec![real("alpha", 1.0 / 6.0), real("beta", 0.5)],
        ))),
        "HardSigmoid" => arithmetic::hard_sigmoid(b, layer),
        "Clamp" => arithmetic::clamp(layer),
        "PReLU" => Ok(Some(FileNode {
            // A slope of one axis belongs to axis 1, as in opset 6.
            ..renamed(layer, "PRelu", 6)
        })),
        "Swish" => arithmetic::swish(b, layer),
        "SoftMax" | "Softmax" => {
            let axis = int(layer, "axis")?.unwrap_or(1);
            Ok(Some(with(
                renamed(layer, "Softmax", 21),
                vec![number("axis", axis)],
            )))
        }
        "ReduceMean" => reduction(layer, "ReduceMean"),
        "ReduceSum" => reduction(layer, "ReduceSum"),
        "ReduceProd" => reduction(layer, "ReduceProd"),
        "ReduceMin" => reduction(layer, "ReduceMin"),
        "ReduceMax" => reduction(layer, "ReduceMax"),
        "BatchNormInference" if layer.version >= 5 => {
            let Some(epsilon) = text(layer, "epsilon")?.and_then(|t| t.parse().ok()) else {
                return malformed("attribute 'epsilon' is missing or no number");
            };
            let node = renamed(layer, "BatchNormalization", 21);
            Ok(Some(with(node, vec![real("epsilon", epsilon)])))
        }
        "FakeQuantize" => {
            numpy(layer)?;
            let Some(levels) = int(layer, "levels")? else {
                return malformed("attribute 'levels' is missing");
            };
            fake_quantize::with_levels(b, layer, levels).map(|()| None)
        }
        "Concat" => {
            let Some(axis) = int(layer, "axis")? else {
                return malformed("attribute 'axis' is missing");
            };
            Ok(Some(with(
                renamed(layer, "Concat", 21),
                vec![number("axis", axis)],
            )))
        }
        "Reshape" => {
            let special = flag(layer, "special_zero")?.unwrap_or(false);
            let attributes = vec![number("allowzero", i64::from(!special))];
            Ok(Some(with(renamed(layer, "Reshape", 21), attributes)))
        }
        "Squeeze" => simple("Squeeze"),
        "Unsqueeze" => simple("Unsqueeze"),
        "Transpose" => movement::transpose(b, layer),
        "Split" => movement::split(b, layer),
        "VariadicSplit" => movement::variadic_split(b, layer),
        "StridedSlice" => movement::strided_slice(b, layer),
        "Slice" => movement::slice(layer),
        "Pad" => movement::pad(b, layer),
        "DepthToSpace" => movement::depth_to_space(layer),
        "Interpolate" => resample::interpolate(b, layer),
        "ShapeOf" => Ok(Some(with(renamed(layer, "Shape", 21), Vec::new()))),
        "Gather" => movement::gather(b, layer),
        "Broadcast" => movement::broadcast(layer),
        _ => unsupported("this layer is not evaluated"),
    }
}

/// The same node as an operator of ONNX, without attributes.
fn renamed(layer: &FileNode, op_type: &str, version: i64) -> FileNode {
    FileNode {
        name: layer.name.clone(),
        op_type: op_type.to_owned(),
        label: layer.label.clone(),
        domain: Domain::Onnx,
        version,
        inputs: layer.inputs.clone(),
        outputs: layer.outputs.clone(),
        attributes: Vec::new(),
        spelling: layer.spelling.clone(),
    }
}

fn with(node: FileNode, attributes: Vec<AttributeProto>) -> FileNode {
    FileNode { attributes, ..node }
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(kind as i32),
        ..AttributeProto::default()
    }
}

fn number(name: &str, i: i64) -> AttributeProto {
    AttributeProto {
        i: Some(i),
        ..attribute(name, AttributeType::Int)
    }
}

fn real(name: &str, f: f32) -> AttributeProto {
    AttributeProto {
        f: Some(f),
        ..attribute(name, AttributeType::Float)
    }
}

fn numbers(name: &str, ints: Vec<i64>) -> AttributeProto {
    AttributeProto {
        ints,
        ..attribute(name, AttributeType::Ints)
    }
}

fn word(name: &str, s: &str) -> AttributeProto {
    AttributeProto {
        s: Some(s.as_bytes().to_vec()),
        ..attribute(name, AttributeType::String)
    }
}

/// An attribute of the layer.
fn text<'l>(layer: &'l FileNode, name: &str) -> Outcome<Option<&'l str>> {
    layer.attrs().string(name)
}

fn int(layer: &FileNode, name: &str) -> Outcome<Option<i64>> {
    match text(layer, name)? {
        None => Ok(None),
        Some(value) => match value.trim().parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => malformed(format!(
                "attribute '{name}' is '{}', which is no whole number",
                shown(value)
            )),
        },
    }
}

/// A list of whole numbers; none where the attribute is missing.
fn ints(layer: &FileNode, name: &str) -> Outcome<Option<Vec<i64>>> {
    let Some(value) = text(layer, name)? else {
        return Ok(None);
    };
    match split(value).map(str::parse).collect() {
        Ok(list) => Ok(Some(list)),
        Err(_) => malformed(format!(
            "attribute '{name}' is '{}', which is no list of whole numbers",
            shown(value)
        )),
    }
}

fn flag(layer: &FileNode, name: &str) -> Outcome<Option<bool>> {
    match text(layer, name)? {
        None => Ok(None),
        Some("true" | "1") => Ok(Some(true)),
        Some("false" | "0") => Ok(Some(false)),
        Some(other) => malformed(format!(
            "attribute '{name}' is '{}', which is no truth value",
            shown(other)
        )),
    }
}

/// Refuses other rules of broadcasting than numpy's.
fn numpy(layer: &FileNode) -> Outcome<()> {
    match text(layer, "auto_broadcast")?.unwrap_or("numpy") {
        "numpy" | "none" | "explicit" => Ok(()),
        other => unsupported(format!("broadcasting of kind '{}'", shown(other))),
    }
}

/// The contents of an input that must be whole numbers known beforehand.
fn needed(b: &Binder, layer: &FileNode, index: usize, what: &str) -> Outcome<Vec<i64>> {
    match b.ints(layer, index)? {
        Some(list) => Ok(list),
        None => malformed(format!("its {what} is missing (input {})", index + 1)),
    }
}

/// The same where it is one number.
fn single(b: &Binder, layer: &FileNode, index: usize, what: &str) -> Outcome<i64> {
    match needed(b, layer, index, what)?.as_slice() {
        &[one] => Ok(one),
        other => malformed(format!(
            "its {what} must be one number, not {}",
            other.len()
        )),
    }
}

/// Reductions: axes are an input.
fn reduction(layer: &FileNode, op_type: &str) -> Outcome<Option<FileNode>> {
    let keep = flag(layer, "keep_dims")?.unwrap_or(false);
    let attributes = vec![number("keepdims", i64::from(keep))];
    Ok(Some(with(renamed(layer, op_type, 21), attributes)))
}

/// A constant of reals that is stored as codes.
fn stored_codes(b: &Binder, slot: Slot) -> Outcome<Option<crate::onnx::tensor::Tensor>> {
    Ok(b.stored(slot)?
        .filter(|tensor| tensor.codes.stands_for_reals()))
}

/// The integers of some width, each of which stands for itself.
fn plain_reals(bits: u32, signed: bool) -> grid::Codes {
    grid::Codes {
        grid: Some(grid::plain(grid::Integer { bits, signed }).into()),
        ..grid::Codes::default()
    }
}
