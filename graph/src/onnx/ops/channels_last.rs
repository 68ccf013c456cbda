//! QONNX's channels-last wrappers: transposed to the standard layout, and back
//! (qonnx 1.0.0 `custom_op/channels_last/base_wrapped_op.py`).

use super::{reduce, window};
use crate::Op;
use crate::onnx::bind::Binder;
use crate::onnx::fail::{Outcome, malformed, unsupported};
use crate::onnx::{FileNode, Slot};

pub(super) fn lower(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    if !matches!(
        node.op_type.as_str(),
        "Conv" | "MaxPool" | "BatchNormalization"
    ) {
        return unsupported("this operator is not evaluated");
    }
    let input = b.input(node, 0)?;
    let x = channels_first(b, node, input, "nchw")?;
    let output = node.output()?;
    let inner = b.temporary(output, "nchw");
    match node.op_type.as_str() {
        "Conv" => {
            // The weights are channels-last too.
            let weights = b.input(node, 1)?;
            let w = channels_first(b, node, weights, "weights")?;
            window::conv_of(b, node, [x, w], node.optional(2), inner)?;
        }
        "MaxPool" => window::max_pool_of(b, node, x, inner)?,
        _ => reduce::batch_norm_of(b, node, x, inner)?,
    }
    channels_last(b, node, inner, output)
}

/// Transposes back.
pub(super) fn channels_last(
    b: &mut Binder,
    node: &FileNode,
    inner: Slot,
    output: Slot,
) -> Outcome<()> {
    let shape = b.shape(inner)?.to_vec();
    let perm: Vec<usize> = [0].into_iter().chain(2..shape.len()).chain([1]).collect();
    let last = perm.iter().map(|&axis| shape[axis]).collect();
    b.emit_helper(node, Op::Transpose { perm }, &[inner], last, output, "nhwc")
}

pub(super) fn channels_first(
    b: &mut Binder,
    node: &FileNode,
    slot: Slot,
    suffix: &str,
) -> Outcome<Slot> {
    let shape = b.shape(slot)?.to_vec();
    let rank = shape.len();
    if rank < 2 {
        return malformed(format!("its input of shape {shape:?} has no channel axis"));
    }
    let perm: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    let first = perm.iter().map(|&axis| shape[axis]).collect();
    let output = b.temporary(slot, suffix);
    b.emit_helper(node, Op::Transpose { perm }, &[slot], first, output, suffix)?;
    Ok(output)
}
