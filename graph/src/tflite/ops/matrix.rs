//! Matrix products.

use super::{flag, fused};
use crate::onnx::fail::{Outcome, malformed, unsupported};
use crate::onnx::tensor::elements;
use crate::tflite::FileNode;
use crate::tflite::bind::{Behind, Binder, file_order};
use crate::{Gemm, Op};

/// `x * w^T + bias`, where `x` is flattened to rows as long as the weights' (`tensorflow/lite/kernels/
/// fully_connected.cc`).
pub(super) fn fully_connected(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let (x, w) = (b.operand(node, 0)?, b.operand(node, 1)?);
    let (xs, ws) = (b.shape(x)?, b.shape(w)?);
    let &[out, inner] = ws.as_slice() else {
        return unsupported(format!("weights of shape {ws:?}; they must have 2 axes"));
    };
    let options = b.options(node)?;
    if let Some(options) = options
        && options.i8(1)? != 0
    {
        return unsupported("shuffled weights");
    }
    let count = elements(&xs, b.limits())?;
    if inner == 0 || !count.is_multiple_of(inner) {
        return malformed(format!(
            "its input of shape {xs:?} does not split into rows of {inner}"
        ));
    }
    let rows = count / inner;
    let keep = flag(options, 2)?;
    let last = if keep {
        match xs.split_last() {
            Some((&last, rest)) if last == inner => [rest, &[out]].concat(),
            _ => {
                return malformed(format!(
                    "its input of shape {xs:?} must end in an axis of {inner}"
                ));
            }
        }
    } else {
        vec![rows, out]
    };
    let matrix = if xs == [rows, inner] {
        b.view(x, &file_order(2))?
    } else {
        let flat = b.flat_view(x)?;
        b.helper(node, "rows", Op::Reshape, vec![flat], vec![rows, inner])?
    };
    let mut inputs = vec![matrix, b.view(w, &file_order(2))?];
    inputs.extend(b.bias(node, 2, out, [x, w])?);
    let op = Op::Gemm(Gemm {
        alpha: 1.0,
        beta: 1.0,
        trans_a: false,
        trans_b: true,
    });
    let behind = Behind {
        reshape: Some(last.clone()),
        ..Behind::activated(fused(options, 0)?)
    };
    let order = file_order(last.len());
    b.produce(node, 0, (op, inputs), behind, vec![rows, out], &order)
}
