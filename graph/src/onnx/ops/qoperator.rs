//! Operators on integer codes (`QLinearConv`, `QGemm`, `ConvInteger`, ...): the operator on what the codes
//! stand for, and the quantizer of the output.
//!
//! Inputs and attributes: ONNX operator documentation, and for `com.microsoft`
//! microsoft/onnxruntime `onnxruntime/core/graph/contrib_ops/{nhwc_schema_defs,quantization_defs}.cc`.

use super::codes::{grid_of, grid_on, scale, zero_point};
use super::{channels_last, elementwise, matrix, reduce, window};
use crate::onnx::bind::Binder;
use crate::onnx::fail::{Outcome, malformed, unsupported};
use crate::onnx::grid::{self, Codes, Integer};
use crate::onnx::{Domain, FileNode, Slot};
use crate::{Activation, Affine, Binary, Gemm, Op, PerChannel, Quantizer};

/// The operand at an input, which is followed by its scale and its zero point.
fn operand(b: &mut Binder, node: &FileNode, at: usize, axis: Option<usize>) -> Outcome<Slot> {
    let x = b.input(node, at)?;
    let grid = grid_of(b, node, x, [at + 1, at + 2], axis)?;
    b.coded(node, x, grid)
}

/// The grid of the output; without a zero point its type is that of `like`, and its zero point 0.
fn output_grid(b: &Binder, node: &FileNode, at: usize, like: Slot) -> Outcome<(Integer, Affine)> {
    let scale = scale(b, node, at, &[], None)?;
    let (zero_point, given) = zero_point(b, node, at + 1, &[], None)?;
    match given.or(b.codes(like)?.integer) {
        Some(integer) if integer.bits <= 16 => Ok((
            integer,
            Codes::of(integer).grid_with(integer, scale, zero_point),
        )),
        _ => malformed("its output's zero point is of no integer type of up to 16 bits"),
    }
}

/// Quantizes `real` into `output`.
fn requantize(
    b: &mut Binder,
    node: &FileNode,
    real: Slot,
    (integer, grid): (Integer, Affine),
    output: Slot,
) -> Outcome<()> {
    let shape = b.shape(real)?.to_vec();
    let op = Op::Quantize(Quantizer::Affine(grid.clone()));
    b.emit_helper(node, op, &[real], shape, output, "quantize")?;
    b.set_codes(output, Codes::on(integer, grid));
    Ok(())
}

/// The bias of a sum of products: 32-bit codes at the product of the scales, without a zero point.
fn bias(
    b: &mut Binder,
    node: &FileNode,
    at: usize,
    factor: f32,
    [x, w]: [Slot; 2],
) -> Outcome<Option<Slot>> {
    let Some(c) = node.optional(at) else {
        return Ok(None);
    };
    let (Some(sx), Some(sw)) = (&b.codes(x)?.grid, &b.codes(w)?.grid) else {
        return malformed("its operands have no scale");
    };
    let &[sx] = sx.scale.values.as_slice() else {
        return unsupported("a scale for each channel of its input");
    };
    let mut scale = sw.scale.map(|sw| factor * sx * sw);
    if let Some(bad) = scale.values.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
        return malformed(format!("its bias would have scale {bad}"));
    }
    // The channels of the weights are the bias's last axis.
    if scale.values.len() > 1 {
        let shape = b.shape(c)?;
        if shape.last() != Some(&scale.values.len()) {
            return malformed(format!(
                "its bias of shape {shape:?} does not fit weights with {} scales",
                scale.values.len()
            ));
        }
        scale.axis = Some(shape.len() - 1);
    }
    if !b.is_constant(c)? {
        return unsupported("its bias is computed from data; it must be a constant");
    }
    let grid = Codes::of(Integer::I32).grid_with(Integer::I32, scale, PerChannel::uniform(0.0));
    b.coded(node, c, grid).map(Some)
}

/// `QLinearConv`; ONNX Runtime's own has `channels_last`, which leaves the weights as they are.
pub(super) fn conv(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let mut x = operand(b, node, 0, None)?;
    let w = operand(b, node, 3, Some(0))?;
    let output = node.output()?;
    let grid = output_grid(b, node, 6, x)?;
    let bias = bias(b, node, 8, 1.0, [x, w])?;
    let last = node.domain == Domain::Microsoft && node.attrs().flag("channels_last", false)?;
    let to = if last {
        x = channels_last::channels_first(b, node, x, "nchw")?;
        b.temporary(output, "nchw")
    } else {
        output
    };
    let real = b.temporary(output, "real");
    window::conv_of(b, node, [x, w], bias, real)?;
    requantize(b, node, real, grid, to)?;
    if last {
        channels_last::channels_last(b, node, to, output)?;
    }
    Ok(())
}

/// The axis of a matrix's columns; a vector has none.
fn columns(b: &Binder, node: &FileNode, at: usize) -> Outcome<Option<usize>> {
    let rank = b.shape(b.input(node, at)?)?.len();
    Ok((rank >= 2).then(|| rank - 1))
}

pub(super) fn matmul(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let x = operand(b, node, 0, None)?;
    let columns = columns(b, node, 3)?;
    let w = operand(b, node, 3, columns)?;
    let output = node.output()?;
    let grid = output_grid(b, node, 6, x)?;
    let real = b.temporary(output, "real");
    matrix::matmul_of(b, node, [x, w], real)?;
    requantize(b, node, real, grid, output)
}

/// `alpha * A' * B' + C`, where the codes of `C` count `alpha` in; reals where the output has no scale.
pub(super) fn gemm(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let attrs = node.attrs();
    let gemm = Gemm {
        alpha: attrs.float_or("alpha", 1.0)?,
        beta: 1.0,
        trans_a: attrs.flag("transA", false)?,
        trans_b: attrs.flag("transB", false)?,
    };
    let x = operand(b, node, 0, None)?;
    let columns = usize::from(!gemm.trans_b);
    let w = operand(b, node, 3, Some(columns))?;
    let c = bias(b, node, 6, gemm.alpha, [x, w])?;
    let output = node.output()?;
    if node.optional(7).is_none() {
        return matrix::gemm_of(b, node, gemm, [x, w], c, output);
    }
    let grid = output_grid(b, node, 7, x)?;
    let real = b.temporary(output, "real");
    matrix::gemm_of(b, node, gemm, [x, w], c, real)?;
    requantize(b, node, real, grid, output)
}

pub(super) fn binary(b: &mut Binder, node: &FileNode, binary: Binary) -> Outcome<()> {
    let x = operand(b, node, 0, None)?;
    let y = operand(b, node, 3, None)?;
    let output = node.output()?;
    let grid = output_grid(b, node, 6, x)?;
    let real = b.temporary(output, "real");
    elementwise::binary_of(b, node, binary, [x, y], real)?;
    requantize(b, node, real, grid, output)
}

/// The form of the operators with one input: input, scale, zero point, output's scale, its zero point.
fn single(
    b: &mut Binder,
    node: &FileNode,
    lower: impl FnOnce(&mut Binder, Slot, Slot) -> Outcome<()>,
) -> Outcome<()> {
    let x = operand(b, node, 0, None)?;
    let output = node.output()?;
    let grid = output_grid(b, node, 3, x)?;
    let real = b.temporary(output, "real");
    lower(b, x, real)?;
    requantize(b, node, real, grid, output)
}

pub(super) fn unary(b: &mut Binder, node: &FileNode, activation: Activation) -> Outcome<()> {
    single(b, node, |b, x, real| {
        let shape = b.shape(x)?.to_vec();
        b.emit(node, Op::Activation(activation), &[x], shape, real)
    })
}

/// Where padding counts, the kernel operator divides by the whole window (golden/onnxruntime/qlinear-average-pool,
/// the cases with `ceil_mode`).
pub(super) fn average_pool(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    if !node.attrs().flag("channels_last", false)? {
        return single(b, node, |b, x, real| {
            window::average_pool_of(b, node, x, true, real)
        });
    }
    let x = operand(b, node, 0, None)?;
    let output = node.output()?;
    let grid = output_grid(b, node, 3, x)?;
    let x = channels_last::channels_first(b, node, x, "nchw")?;
    let real = b.temporary(output, "real");
    window::average_pool_of(b, node, x, true, real)?;
    let first = b.temporary(output, "nchw");
    requantize(b, node, real, grid, first)?;
    channels_last::channels_last(b, node, first, output)
}

pub(super) fn global_average_pool(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let last = node.attrs().flag("channels_last", false)?;
    single(b, node, |b, x, real| {
        let mut shape = b.shape(x)?.to_vec();
        if shape.len() < 3 {
            return malformed(format!("its input of shape {shape:?} has no spatial axis"));
        }
        let axes = if last {
            1..shape.len() - 1
        } else {
            2..shape.len()
        };
        shape[axes.clone()].fill(1);
        let axes = axes.collect();
        b.emit(node, Op::Mean { axes }, &[x], shape, real)
    })
}

pub(super) fn mean(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let axes = node.attrs().ints("axes")?.map(<[_]>::to_vec);
    single(b, node, |b, x, real| {
        reduce::mean_of(b, node, x, axes, real)
    })
}

/// Attribute `opset` says whose softmax it is.
pub(super) fn softmax(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let Some(opset) = node.attrs().int("opset")? else {
        return malformed("attribute 'opset' is missing");
    };
    single(b, node, |b, x, real| {
        reduce::softmax_of(b, node, x, opset, real)
    })
}

/// The output's scale and zero point, then a triple for each part.
pub(super) fn concat(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let count = node.inputs.len().saturating_sub(2);
    if count == 0 || !count.is_multiple_of(3) {
        return malformed(format!(
            "it has {} inputs; it needs a scale, a zero point and triples",
            node.inputs.len()
        ));
    }
    let parts = (0..count / 3)
        .map(|i| operand(b, node, 2 + 3 * i, None))
        .collect::<Outcome<Vec<_>>>()?;
    let mut shape = b.shape(parts[0])?.to_vec();
    let Some(axis) = node.attrs().int("axis")? else {
        return malformed("attribute 'axis' is missing");
    };
    let axis = super::axis_of(axis, shape.len())?;
    for &part in &parts[1..] {
        let other = b.shape(part)?;
        let fits = other.len() == shape.len()
            && (0..shape.len()).all(|a| a == axis || other[a] == shape[a]);
        if !fits {
            return malformed(format!("a part of shape {other:?} does not join {shape:?}"));
        }
        shape[axis] = shape[axis].saturating_add(other[axis]);
    }
    let output = node.output()?;
    let grid = output_grid(b, node, 0, parts[0])?;
    let real = b.temporary(output, "real");
    b.emit_reals(node, Op::Concat { axis }, &parts, shape, real)?;
    requantize(b, node, real, grid, output)
}

/// An operand of `ConvInteger` and `MatMulInteger`, whose codes count as they are, less a zero point.
fn integers(b: &mut Binder, node: &FileNode, at: usize, axis: Option<usize>) -> Outcome<Slot> {
    let x = b.input(node, at)?;
    // A zero point that follows from data (DynamicQuantizeLinear) is subtracted as what it is: a number.
    if let Some(zero) = node.optional(at + 2)
        && b.stored(zero)?.is_none()
    {
        let less = b.temporary(x, "less_zero_point");
        elementwise::binary_of(b, node, Binary::Sub, [x, zero], less)?;
        return Ok(less);
    }
    let grid = grid_on(b, node, x, PerChannel::uniform(1.0), at + 2, axis)?;
    b.coded(node, x, grid)
}

fn sums(b: &mut Binder, output: Slot) {
    let codes = Codes::on(Integer::I32, grid::plain(Integer::I32));
    b.set_codes(output, codes);
}

pub(super) fn conv_integer(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let x = integers(b, node, 0, None)?;
    let w = integers(b, node, 1, Some(0))?;
    let output = node.output()?;
    window::conv_of(b, node, [x, w], None, output)?;
    sums(b, output);
    Ok(())
}

pub(super) fn matmul_integer(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let x = integers(b, node, 0, None)?;
    let columns = columns(b, node, 1)?;
    let w = integers(b, node, 1, columns)?;
    let output = node.output()?;
    matrix::matmul_of(b, node, [x, w], output)?;
    sums(b, output);
    Ok(())
}
