//! One function an operator: checks it, infers its output's shape, resolves its parameters.

mod channels_last;
mod codes;
mod elementwise;
pub(crate) mod fake_quantize;
mod matrix;
mod movement;
pub(super) mod mqbench;
mod qoperator;
mod quantizers;
mod reduce;
mod resize;
mod window;

use super::bind::Binder;
use super::fail::{Outcome, malformed, unsupported};
use super::{Domain, FileNode, fold};
use crate::{Activation, Binary, Op};

/// Lowers one node of the file into operations of the graph, or into constants.
pub(crate) fn lower(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    if !matches!(node.domain, Domain::Other | Domain::Ir) {
        codes::check(b, node)?;
    }
    match node.domain {
        Domain::Onnx => onnx(b, node),
        Domain::Microsoft => microsoft(b, node),
        Domain::Quantizers => quantizers::lower(b, node),
        Domain::OpenVino => fake_quantize::lower(b, node),
        Domain::Ir => {
            if let Some(translated) = crate::openvino::ops::lower(b, node)? {
                onnx(b, &translated)?;
            }
            b.as_stated(node)
        }
        Domain::Mqbench => mqbench::lower(b, node),
        Domain::ChannelsLast => channels_last::lower(b, node),
        Domain::Other => unsupported("this operator is not evaluated"),
    }
}

fn onnx(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    match node.op_type.as_str() {
        "Conv" => window::conv(b, node),
        "ConvTranspose" => window::conv_transpose(b, node),
        "MaxPool" => window::max_pool(b, node),
        "AveragePool" => window::average_pool(b, node),
        "GlobalMaxPool" => window::global_max_pool(b, node),
        "GlobalAveragePool" => reduce::global_average_pool(b, node),
        "ReduceMean" => reduce::mean(b, node),
        "Softmax" => reduce::softmax(b, node),
        "BatchNormalization" => reduce::batch_norm(b, node),
        "Gemm" => matrix::gemm(b, node),
        "MatMul" => matrix::matmul(b, node),
        "Add" => elementwise::binary(b, node, Binary::Add),
        "Sub" => elementwise::binary(b, node, Binary::Sub),
        "Mul" => elementwise::binary(b, node, Binary::Mul),
        "Div" => elementwise::binary(b, node, Binary::Div),
        "Sum" => elementwise::sum(b, node),
        "Relu" => elementwise::relu(b, node),
        "Sigmoid" => elementwise::unary(b, node, Activation::Sigmoid),
        "Tanh" => elementwise::unary(b, node, Activation::Tanh),
        "HardSwish" => elementwise::unary(b, node, Activation::HardSwish),
        "Clip" => elementwise::clip(b, node),
        "LeakyRelu" => {
            let alpha = node.attrs().float_or("alpha", 0.01)?;
            elementwise::unary(b, node, Activation::LeakyRelu { alpha })
        }
        "HardSigmoid" => {
            let alpha = node.attrs().float_or("alpha", 0.2)?;
            let beta = node.attrs().float_or("beta", 0.5)?;
            elementwise::unary(b, node, Activation::HardSigmoid { alpha, beta })
        }
        "PRelu" => elementwise::prelu(b, node),
        "Concat" => movement::concat(b, node),
        "Pad" => movement::pad(b, node),
        "Reshape" => movement::reshape(b, node),
        "Flatten" => movement::flatten(b, node),
        "Squeeze" => movement::squeeze(b, node),
        "Unsqueeze" => movement::unsqueeze(b, node),
        "Transpose" => movement::transpose(b, node),
        "Slice" => movement::slice(b, node),
        "Split" => movement::split(b, node),
        "DepthToSpace" => movement::depth_to_space(b, node),
        "Resize" => resize::resize(b, node),
        "Upsample" => resize::upsample(b, node),
        "Identity" => same(b, node, Op::Identity),
        "Dropout" => elementwise::dropout(b, node),
        "Cast" => elementwise::cast(b, node),
        "QuantizeLinear" => codes::quantize(b, node),
        "DequantizeLinear" => codes::dequantize(b, node),
        "QLinearConv" => qoperator::conv(b, node),
        "QLinearMatMul" => qoperator::matmul(b, node),
        "ConvInteger" => qoperator::conv_integer(b, node),
        "MatMulInteger" => qoperator::matmul_integer(b, node),
        "DynamicQuantizeLinear" => codes::dynamic_quantize(b, node),
        _ => fold::lower(b, node),
    }
}

/// Operators that ONNX Runtime adds.
fn microsoft(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    match node.op_type.as_str() {
        "QuantizeLinear" => codes::quantize(b, node),
        "DequantizeLinear" => codes::dequantize(b, node),
        "QLinearConv" => qoperator::conv(b, node),
        "QGemm" => qoperator::gemm(b, node),
        "QLinearAdd" => qoperator::binary(b, node, Binary::Add),
        "QLinearMul" => qoperator::binary(b, node, Binary::Mul),
        "QLinearSigmoid" => qoperator::unary(b, node, Activation::Sigmoid),
        "QLinearLeakyRelu" => {
            let alpha = node.attrs().float_or("alpha", 0.01)?;
            qoperator::unary(b, node, Activation::LeakyRelu { alpha })
        }
        "QLinearAveragePool" => qoperator::average_pool(b, node),
        "QLinearGlobalAveragePool" => qoperator::global_average_pool(b, node),
        "QLinearReduceMean" => qoperator::mean(b, node),
        "QLinearConcat" => qoperator::concat(b, node),
        "QLinearSoftmax" => qoperator::softmax(b, node),
        _ => unsupported("this operator is not evaluated"),
    }
}

/// Emits an operation with one input whose output has the input's shape.
fn same(b: &mut Binder, node: &FileNode, op: Op) -> Outcome<()> {
    let x = b.input(node, 0)?;
    let shape = b.shape(x)?.to_vec();
    b.emit(node, op, &[x], shape, node.output()?)
}

/// An axis of the file, which may count from the end.
pub(crate) fn axis_of(axis: i64, rank: usize) -> Outcome<usize> {
    let from_start = if axis < 0 {
        axis.checked_add(rank as i64)
    } else {
        Some(axis)
    };
    match from_start.and_then(|axis| usize::try_from(axis).ok()) {
        Some(axis) if axis < rank => Ok(axis),
        _ => malformed(format!(
            "axis {axis} does not exist in a tensor with {rank} axes"
        )),
    }
}

/// A list of distinct axes, ascending.
pub(crate) fn axes_of(axes: &[i64], rank: usize) -> Outcome<Vec<usize>> {
    // Before sorting: a hostile list is no longer than the axes there are.
    if axes.len() > rank {
        return malformed(format!(
            "{} axes are named in a tensor with {rank}",
            axes.len()
        ));
    }
    let mut found = Vec::with_capacity(axes.len());
    for &axis in axes {
        found.push(axis_of(axis, rank)?);
    }
    found.sort_unstable();
    if found.windows(2).any(|pair| pair[0] == pair[1]) {
        return malformed(format!("an axis is named twice in {axes:?}"));
    }
    Ok(found)
}
