//! Inner products; softmax.

use super::Step;
use crate::caffe::bind::{Binder, axis};
use crate::onnx::fail::{Outcome, malformed};
use crate::onnx::tensor::elements;
use crate::{Gemm, Op};

/// `y = x W' + b` over the axes from `axis` on (`BVLC/caffe` `src/caffe/layers/inner_product_layer.cpp`).
pub(super) fn inner_product(b: &mut Binder, step: Step) -> Outcome<()> {
    let param = step.layer.message.message("inner_product_param")?;
    param.only(&[
        "num_output",
        "bias_term",
        "weight_filler",
        "bias_filler",
        "axis",
        "transpose",
    ])?;
    let x = step.one()?;
    let shape = b.shape(x).to_vec();
    let from = axis(param.int("axis")?.unwrap_or(1), shape.len())?;
    let Some(outputs) = param.size("num_output")?.filter(|&n| n > 0) else {
        return malformed("'num_output' is missing");
    };
    let rows = elements(&shape[..from], b.limits())?;
    let columns = elements(&shape[from..], b.limits())?;
    let transposed = param.flag("transpose", false)?;
    let weights = if transposed {
        vec![columns, outputs]
    } else {
        vec![outputs, columns]
    };
    let matrix = step.reshaped(b, "flat", x, vec![rows, columns])?;
    let mut inputs = vec![matrix, b.weights(step.layer, weights)?];
    if param.flag("bias_term", true)? {
        inputs.push(b.parameter(step.layer, 1, "bias", vec![outputs])?);
    }
    let op = Op::Gemm(Gemm {
        alpha: 1.0,
        beta: 1.0,
        trans_a: false,
        trans_b: !transposed,
    });
    let mut out = shape[..from].to_vec();
    out.push(outputs);
    if out.len() == 2 {
        return b.emit(step.layer, 0, op, inputs, out);
    }
    let product = b.helper(step.layer, "product", op, inputs, vec![rows, outputs])?;
    b.emit(step.layer, 0, Op::Reshape, vec![product], out)
}

pub(super) fn softmax(b: &mut Binder, step: Step) -> Outcome<()> {
    let param = step.layer.message.message("softmax_param")?;
    param.only(&["engine", "axis"])?;
    let x = step.one()?;
    let shape = b.shape(x).to_vec();
    let axis = axis(param.int("axis")?.unwrap_or(1), shape.len())?;
    b.emit(
        step.layer,
        0,
        Op::Softmax { axis, beta: 1.0 },
        vec![x],
        shape,
    )
}
