//! One function an operator: checks options and shapes, resolves parameters, emits the operation.

mod elementwise;
mod matrix;
mod movement;
mod reduce;
mod resize;
mod window;

use super::FileNode;
use super::bind::Binder;
use super::flat::Table;
use crate::Activation;
use crate::Binary;
use crate::onnx::fail::{Outcome, malformed, unsupported};

/// Emits what an operator computes.
pub(super) fn lower(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    match node.op_type.as_str() {
        "CONV_2D" => window::conv(b, node),
        "DEPTHWISE_CONV_2D" => window::depthwise(b, node),
        "TRANSPOSE_CONV" => window::transposed(b, node),
        "AVERAGE_POOL_2D" => window::average_pool(b, node),
        "MAX_POOL_2D" => window::max_pool(b, node),
        "FULLY_CONNECTED" => matrix::fully_connected(b, node),
        "ADD" => elementwise::add(b, node),
        "SUB" => elementwise::binary(b, node, Binary::Sub),
        "MUL" => elementwise::binary(b, node, Binary::Mul),
        "RELU" => elementwise::unary(b, node, RELU),
        "RELU6" => elementwise::unary(b, node, RELU6),
        "RELU_N1_TO_1" => elementwise::unary(b, node, RELU_N1_TO_1),
        "RELU_0_TO_1" => elementwise::unary(b, node, Activation::Clip { min: 0.0, max: 1.0 }),
        "LOGISTIC" => elementwise::unary(b, node, Activation::Sigmoid),
        "TANH" => elementwise::unary(b, node, Activation::Tanh),
        "HARD_SWISH" => elementwise::unary(b, node, Activation::HardSwish),
        "LEAKY_RELU" => elementwise::leaky_relu(b, node),
        "PRELU" => elementwise::prelu(b, node),
        "QUANTIZE" => elementwise::quantize(b, node),
        "DEQUANTIZE" => elementwise::dequantize(b, node),
        "CAST" => elementwise::cast(b, node),
        "MEAN" => reduce::mean(b, node),
        "SOFTMAX" => reduce::softmax(b, node),
        "PAD" | "PADV2" => movement::pad(b, node),
        "MIRROR_PAD" => movement::mirror_pad(b, node),
        "CONCATENATION" => movement::concatenation(b, node),
        "RESHAPE" => movement::reshape(b, node),
        "SQUEEZE" => movement::squeeze(b, node),
        "EXPAND_DIMS" => movement::expand_dims(b, node),
        "TRANSPOSE" => movement::transpose(b, node),
        "STRIDED_SLICE" => movement::strided_slice(b, node),
        "SLICE" => movement::slice(b, node),
        "SPLIT" => movement::split(b, node),
        "SPLIT_V" => movement::split_v(b, node),
        "PACK" => movement::pack(b, node),
        "UNPACK" => movement::unpack(b, node),
        "SHAPE" => movement::shape(b, node),
        "DEPTH_TO_SPACE" => movement::depth_to_space(b, node),
        "RESIZE_NEAREST_NEIGHBOR" => resize::nearest(b, node),
        "RESIZE_BILINEAR" => resize::bilinear(b, node),
        _ => unsupported("this operator is not evaluated"),
    }
}

const RELU: Activation = Activation::Relu;
const RELU6: Activation = Activation::Clip { min: 0.0, max: 6.0 };
const RELU_N1_TO_1: Activation = Activation::Clip {
    min: -1.0,
    max: 1.0,
};

/// A fused activation, from field `id` of the options (`ActivationFunctionType`).
fn fused(options: Option<Table>, id: usize) -> Outcome<Option<(&'static str, Activation)>> {
    let Some(options) = options else {
        return Ok(None);
    };
    match options.i8(id)? {
        0 => Ok(None),
        1 => Ok(Some(("RELU", RELU))),
        2 => Ok(Some(("RELU_N1_TO_1", RELU_N1_TO_1))),
        3 => Ok(Some(("RELU6", RELU6))),
        4 => unsupported("the fused activation TANH"),
        5 => unsupported("the fused activation SIGN_BIT"),
        other => malformed(format!("fused activation {other} does not exist")),
    }
}

/// A flag of the options; absent is false.
fn flag(options: Option<Table>, id: usize) -> Outcome<bool> {
    options.map_or(Ok(false), |options| options.flag(id))
}

/// An axis as the file counts it: from the end, where it is negative.
fn axis_of(axis: i64, rank: usize) -> Outcome<usize> {
    let counted = if axis < 0 {
        axis.checked_add(rank as i64).unwrap_or(-1)
    } else {
        axis
    };
    match usize::try_from(counted) {
        Ok(found) if found < rank => Ok(found),
        _ => malformed(format!("axis {axis} does not exist, there are {rank}")),
    }
}
