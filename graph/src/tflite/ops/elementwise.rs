//! Elementwise operators, and those that pass data on.

use std::sync::Arc;

use super::fused;
use crate::onnx::eval::{broadcast, evaluate};
use crate::onnx::fail::{Outcome, malformed, unsupported};
use crate::onnx::tensor::Tensor;
use crate::tflite::FileNode;
use crate::tflite::bind::{Behind, Binder, permuted};
use crate::tflite::grid::Grid;
use crate::{Activation, Binary, Op};

/// Emits an operation of one tensor that keeps its shape.
fn same(b: &mut Binder, node: &FileNode, op: Op) -> Outcome<()> {
    let x = b.operand(node, 0)?;
    let order = b.order(x)?;
    let shape = permuted(&b.shape(x)?, &order);
    let inputs = vec![b.view(x, &order)?];
    b.produce(node, 0, (op, inputs), Behind::computed(), shape, &order)
}

pub(super) fn unary(b: &mut Binder, node: &FileNode, activation: Activation) -> Outcome<()> {
    same(b, node, Op::Activation(activation))
}

pub(super) fn leaky_relu(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let alpha = b.options(node)?.map_or(Ok(0.0), |options| options.f32(0))?;
    if !alpha.is_finite() {
        return malformed(format!("its alpha is {alpha}"));
    }
    unary(b, node, Activation::LeakyRelu { alpha })
}

pub(super) fn prelu(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let (x, slope) = (b.operand(node, 0)?, b.operand(node, 1)?);
    let (xs, slopes) = (b.shape(x)?, b.shape(slope)?);
    if broadcast(&xs, &slopes)? != xs {
        return malformed(format!(
            "its slope of shape {slopes:?} does not broadcast to {xs:?}"
        ));
    }
    let order = b.common_order(&[x, slope])?;
    let inputs = vec![b.view(x, &order)?, b.broadcast_view(slope, &order)?];
    let op = Op::Activation(Activation::PRelu);
    let shape = permuted(&xs, &order);
    b.produce(node, 0, (op, inputs), Behind::computed(), shape, &order)
}

/// An addition; of 16-bit codes whose scales are all powers of two, the file says by which kernel
/// (`tensorflow/lite/kernels/add.cc`, `general_scale_int16`).
pub(super) fn add(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let slots = [b.input(node, 0)?, b.input(node, 1)?, node.output()?];
    let shifted = |grid: &Grid| {
        let Grid::Codes(grid) = grid else {
            return false;
        };
        let mantissa = |scale: f32| scale.to_bits() & 0x7F_FFFF;
        grid.bits == 16 && grid.scale.values.iter().all(|&s| mantissa(s) == 0)
    };
    let asked = match b.options(node)? {
        Some(options) => options.set_flag(1)?,
        None => false,
    };
    let kind = if asked && slots.iter().all(|&slot| shifted(b.grid(slot))) {
        Binary::AddShifted
    } else {
        Binary::Add
    };
    binary(b, node, kind)
}

pub(super) fn binary(b: &mut Binder, node: &FileNode, binary: Binary) -> Outcome<()> {
    let (x, y) = (b.input(node, 0)?, b.input(node, 1)?);
    let shape = broadcast(&b.shape(x)?, &b.shape(y)?)?;
    let options = b.options(node)?;
    let activation = fused(options, 0)?;
    // Extents that are computed from extents.
    if let (Grid::Bare { .. }, Grid::Bare { .. }, Some(first), Some(second), None) = (
        b.grid(x),
        b.grid(y),
        b.constant(x)?,
        b.constant(y)?,
        activation,
    ) {
        b.budget(&shape)?;
        let tensors =
            [(x, first), (y, second)].map(|(slot, data)| Ok(Tensor::shared(b.shape(slot)?, data)));
        let tensors = tensors.into_iter().collect::<Outcome<Vec<_>>>()?;
        let folded = evaluate(&Op::Binary(binary), &tensors, &shape)?;
        return b.set_constant(node.output()?, shape, Arc::new(folded));
    }
    let slots = [b.operand(node, 0)?, b.operand(node, 1)?];
    let order = b.common_order(&slots)?;
    let inputs = vec![b.broadcast_view(x, &order)?, b.broadcast_view(y, &order)?];
    let behind = Behind::activated(activation);
    let op = Op::Binary(binary);
    b.produce(
        node,
        0,
        (op, inputs),
        behind,
        permuted(&shape, &order),
        &order,
    )
}

/// From reals to codes, or from one grid to another.
pub(super) fn quantize(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let output = node.output()?;
    b.meaning(output)?;
    if *b.grid(output) == Grid::Float {
        return malformed("its output holds reals");
    }
    same(b, node, Op::Identity)
}

/// From codes to the reals that they mean: nothing to do.
pub(super) fn dequantize(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    if *b.grid(node.output()?) != Grid::Float {
        return malformed("its output holds integers");
    }
    let x = b.operand(node, 0)?;
    if *b.grid(x) == Grid::Float
        && let Some(constant) = b.constant(x)?
    {
        // Half-precision weights.
        let shape = b.shape(x)?;
        return b.set_constant(node.output()?, shape, constant);
    }
    same(b, node, Op::Identity)
}

/// Between integer types where the contents are known, and between float types.
pub(super) fn cast(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let (x, y) = (b.input(node, 0)?, node.output()?);
    match (b.grid(x), b.grid(y)) {
        (Grid::Float, Grid::Float) => same(b, node, Op::Identity),
        (Grid::Bare { bits: from, .. }, Grid::Bare { bits: to, .. }) if from <= to || *to >= 32 => {
            match b.constant(x)? {
                Some(constant) => {
                    let shape = b.shape(x)?;
                    b.set_constant(y, shape, constant)
                }
                None => unsupported("a cast of integers that are computed from data"),
            }
        }
        _ => unsupported("a cast between integers and reals"),
    }
}
