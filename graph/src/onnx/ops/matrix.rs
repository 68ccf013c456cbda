//! Matrix products.

use crate::onnx::bind::Binder;
use crate::onnx::eval::broadcast;
use crate::onnx::fail::{Outcome, malformed};
use crate::onnx::{FileNode, Slot};
use crate::{Gemm, Op};

pub(super) fn gemm(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let attrs = node.attrs();
    let gemm = Gemm {
        alpha: attrs.float_or("alpha", 1.0)?,
        beta: attrs.float_or("beta", 1.0)?,
        trans_a: attrs.flag("transA", false)?,
        trans_b: attrs.flag("transB", false)?,
    };
    let (x, w) = (b.input(node, 0)?, b.input(node, 1)?);
    gemm_of(b, node, gemm, [x, w], node.optional(2), node.output()?)
}

pub(super) fn gemm_of(
    b: &mut Binder,
    node: &FileNode,
    gemm: Gemm,
    [x, w]: [Slot; 2],
    c: Option<Slot>,
    output: Slot,
) -> Outcome<()> {
    let (&[a0, a1], &[b0, b1]) = (b.shape(x)?, b.shape(w)?) else {
        return malformed(format!(
            "its operands must be matrices, not {:?} and {:?}",
            b.shape(x)?,
            b.shape(w)?
        ));
    };
    let (m, k) = if gemm.trans_a { (a1, a0) } else { (a0, a1) };
    let (k2, n) = if gemm.trans_b { (b1, b0) } else { (b0, b1) };
    if k != k2 {
        return malformed(format!(
            "its operands share {k} and {k2} elements, which must be equal"
        ));
    }
    let mut inputs = vec![x, w];
    if let Some(c) = c {
        let shape = b.shape(c)?;
        if shape.len() > 2 || broadcast(shape, &[m, n])? != [m, n] {
            return malformed(format!(
                "its third input of shape {shape:?} does not broadcast to [{m}, {n}]"
            ));
        }
        inputs.push(c);
    }
    b.emit(node, Op::Gemm(gemm), &inputs, vec![m, n], output)
}

/// Numpy's rule: a vector on the left is a row, on the right a column, and the axis that this adds is
/// dropped again.
pub(super) fn matmul(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let (x, y) = (b.input(node, 0)?, b.input(node, 1)?);
    matmul_of(b, node, [x, y], node.output()?)
}

pub(super) fn matmul_of(
    b: &mut Binder,
    node: &FileNode,
    [mut x, mut y]: [Slot; 2],
    output: Slot,
) -> Outcome<()> {
    let (row, column) = (b.shape(x)?.len() == 1, b.shape(y)?.len() == 1);
    if row {
        let shape = [1, b.shape(x)?[0]];
        x = b.reshaped(node, x, &shape, "row")?;
    }
    if column {
        let shape = [b.shape(y)?[0], 1];
        y = b.reshaped(node, y, &shape, "column")?;
    }
    let ([batch_x @ .., m, k], [batch_y @ .., k2, n]) = (b.shape(x)?, b.shape(y)?) else {
        return malformed("a scalar has no matrix product");
    };
    if k != k2 {
        return malformed(format!(
            "its operands share {k} and {k2} elements, which must be equal"
        ));
    }
    let (m, n) = (*m, *n);
    let batch = broadcast(batch_x, batch_y)?;
    let full = [&batch[..], &[m, n]].concat();
    if !row && !column {
        return b.emit(node, Op::MatMul, &[x, y], full, output);
    }
    let product = b.temporary(output, "matrix");
    b.emit(node, Op::MatMul, &[x, y], full, product)?;
    let mut shape = batch;
    shape.extend((!row).then_some(m));
    shape.extend((!column).then_some(n));
    b.emit_helper(node, Op::Reshape, &[product], shape, output, "vector")
}
