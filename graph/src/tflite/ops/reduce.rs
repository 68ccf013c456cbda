//! Means and softmax.

use super::{axis_of, flag};
use crate::Op;
use crate::onnx::fail::{Outcome, malformed, unsupported};
use crate::tflite::FileNode;
use crate::tflite::bind::{Behind, Binder, file_order, inverse, permuted};

pub(super) fn mean(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let x = b.operand(node, 0)?;
    let shape = b.shape(x)?;
    let rank = shape.len();
    let list = b.needed_ints(node, 1)?;
    if list.is_empty() {
        return unsupported("a mean over no axis");
    }
    let mut reduced = vec![false; rank];
    // TFLite lets an axis stand there twice.
    for axis in list {
        reduced[axis_of(axis, rank)?] = true;
    }
    let keep = flag(b.options(node)?, 0)?;
    let mut order = b.order(x)?;
    let rest: Vec<usize> = order.iter().copied().filter(|&a| !reduced[a]).collect();
    if !keep && !rest.is_sorted() {
        order = file_order(rank);
    }
    let axes = (0..rank).filter(|&axis| reduced[order[axis]]).collect();
    let view = b.view(x, &order)?;
    let (shape, order) = if keep {
        let extent = |&axis: &usize| if reduced[axis] { 1 } else { shape[axis] };
        (order.iter().map(extent).collect(), order)
    } else {
        let left: Vec<usize> = (0..rank).filter(|&axis| !reduced[axis]).collect();
        let order = file_order(left.len());
        (permuted(&shape, &left), order)
    };
    let op = Op::Mean { axes };
    b.produce(node, 0, (op, vec![view]), Behind::computed(), shape, &order)
}

/// Along the last axis, of `beta * x`.
pub(super) fn softmax(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let x = b.operand(node, 0)?;
    let shape = b.shape(x)?;
    let Some(last) = shape.len().checked_sub(1) else {
        return malformed("its input has no axis");
    };
    let beta = b.options(node)?.map_or(Ok(0.0), |options| options.f32(0))?;
    if !beta.is_finite() || beta == 0.0 {
        return malformed(format!("its beta is {beta}"));
    }
    let order = b.order(x)?;
    let shape = permuted(&shape, &order);
    let view = b.view(x, &order)?;
    let axis = inverse(&order)[last];
    let op = Op::Softmax { axis, beta };
    b.produce(node, 0, (op, vec![view]), Behind::computed(), shape, &order)
}
