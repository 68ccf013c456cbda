//! Elementwise layers, matrix products, and weights that are stored as integers.

use super::{flag, number, numpy, plain_reals, real, renamed, stored_codes, text, with};
use crate::onnx::FileNode;
use crate::onnx::bind::Binder;
use crate::onnx::fail::{Outcome, malformed, shown, unsupported};
use crate::onnx::grid::Codes;
use crate::onnx::tensor::Tensor;
use crate::openvino::parse::element_type;
use crate::{Affine, Constant, Op, PerChannel};

pub(super) fn binary(b: &mut Binder, layer: &FileNode, op_type: &str) -> Outcome<Option<FileNode>> {
    numpy(layer)?;
    if text(layer, "auto_broadcast")? == Some("none") {
        let (x, y) = (b.input(layer, 0)?, b.input(layer, 1)?);
        if b.shape(x)? != b.shape(y)? {
            return malformed("its inputs differ in shape, and it does not broadcast");
        }
    }
    Ok(Some(renamed(layer, op_type, 21)))
}

/// Integers are divided as Python does: toward minus infinity. On numbers that are not negative that is ONNX's way.
pub(super) fn divide(b: &mut Binder, layer: &FileNode) -> Outcome<Option<FileNode>> {
    for index in 0..2 {
        if let Some(tensor) = b.constant(b.input(layer, index)?)?
            && let Constant::I64(values) = &*tensor.data
            && values.iter().any(|&v| v < 0)
        {
            return unsupported("a division of negative integers");
        }
    }
    binary(b, layer, "Div")
}

/// On a constant of integers, the reals that they are, still stored as integers.
pub(super) fn convert(b: &mut Binder, layer: &FileNode) -> Outcome<Option<FileNode>> {
    let wanted = text(layer, "destination_type")?.unwrap_or("");
    let Some(kind) = element_type(wanted) else {
        return unsupported(format!("a conversion to '{}'", shown(wanted)));
    };
    let x = b.input(layer, 0)?;
    if let Some(tensor) = b.stored(x)?
        && let Some(integer) = tensor.codes.integer.filter(|i| i.bits <= 16)
        && wanted == "f32"
        && let Constant::I64(_) = &*tensor.data
    {
        // Somebody may ask for the reals.
        b.budget(&tensor.shape)?;
        let codes = plain_reals(integer.bits, integer.signed);
        let output = layer.output()?;
        return b
            .set_constant(output, Tensor { codes, ..tensor })
            .map(|()| None);
    }
    let attributes = vec![number("to", kind as i64)];
    Ok(Some(with(renamed(layer, "Cast", 21), attributes)))
}

/// A parameter of stored weights: one number, or one for each index of one axis.
fn parameter(tensor: &Tensor, shape: &[usize]) -> Option<PerChannel<f32>> {
    let values = tensor.data.to_f32();
    if let &[value] = values.as_slice() {
        return Some(PerChannel::uniform(value));
    }
    if tensor.shape.len() != shape.len() {
        return None;
    }
    let mut long = (0..shape.len()).filter(|&axis| tensor.shape[axis] != 1);
    let (axis, None) = (long.next()?, long.next()) else {
        return None;
    };
    (tensor.shape[axis] == shape[axis]).then_some(PerChannel {
        values,
        axis: Some(axis),
    })
}

/// Constants of codes, and what another constant does to their grid.
fn regrid(
    b: &mut Binder,
    layer: &FileNode,
    change: impl Fn(&Affine, PerChannel<f32>) -> Option<Affine>,
) -> Outcome<bool> {
    let (x, y) = (b.input(layer, 0)?, b.input(layer, 1)?);
    let (Some(tensor), Some(other)) = (stored_codes(b, x)?, b.constant(y)?) else {
        return Ok(false);
    };
    let Some(own) = tensor.codes.grid.as_deref() else {
        return Ok(false);
    };
    let changed = parameter(&other, &tensor.shape).and_then(|p| change(own, p));
    let Some(grid) = changed else {
        return Ok(false);
    };
    b.budget(&tensor.shape)?;
    let codes = Codes {
        grid: Some(grid.into()),
        ..Codes::default()
    };
    b.set_constant(layer.output()?, Tensor { codes, ..tensor })?;
    Ok(true)
}

/// From stored weights: the zero point.
pub(super) fn subtract(b: &mut Binder, layer: &FileNode) -> Outcome<Option<FileNode>> {
    let whole = |z: &f32| z.fract() == 0.0 && z.abs() <= 65_536.0;
    let done = regrid(b, layer, |own, zero_point| {
        let plain = own.scale.values == [1.0] && own.zero_point.values == [0.0];
        (plain && zero_point.values.iter().all(whole)).then(|| Affine {
            zero_point,
            ..own.clone()
        })
    })?;
    if done {
        Ok(None)
    } else {
        binary(b, layer, "Sub")
    }
}

/// Of stored weights: the scale.
pub(super) fn multiply(b: &mut Binder, layer: &FileNode) -> Outcome<Option<FileNode>> {
    let positive = |s: &f32| s.is_finite() && *s > 0.0;
    let done = regrid(b, layer, |own, scale| {
        let one_axis = match (own.zero_point.axis, scale.axis) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        let unit = own.scale.values == [1.0];
        (unit && one_axis && scale.values.iter().all(positive)).then(|| Affine {
            scale,
            ..own.clone()
        })
    })?;
    if done {
        Ok(None)
    } else {
        binary(b, layer, "Mul")
    }
}

/// Of matrices `Gemm`, else a product with the transposition written out.
pub(super) fn matmul(b: &mut Binder, layer: &FileNode) -> Outcome<Option<FileNode>> {
    let sides = ["transpose_a", "transpose_b"];
    let mut transposed = [false; 2];
    for (place, name) in transposed.iter_mut().zip(sides) {
        *place = flag(layer, name)?.unwrap_or(false);
    }
    let operands = [b.input(layer, 0)?, b.input(layer, 1)?];
    let ranks = [b.shape(operands[0])?.len(), b.shape(operands[1])?.len()];
    if ranks == [2, 2] {
        let attributes = vec![
            number("transA", i64::from(transposed[0])),
            number("transB", i64::from(transposed[1])),
        ];
        return Ok(Some(with(renamed(layer, "Gemm", 21), attributes)));
    }
    let mut node = renamed(layer, "MatMul", 21);
    for side in 0..2 {
        // Of a vector there is nothing to transpose.
        if transposed[side] && ranks[side] >= 2 {
            let shape = b.shape(operands[side])?.to_vec();
            let mut perm: Vec<usize> = (0..ranks[side]).collect();
            perm.swap(ranks[side] - 2, ranks[side] - 1);
            let to = perm.iter().map(|&axis| shape[axis]).collect();
            let output = b.temporary(operands[side], "transposed");
            let op = Op::Transpose { perm };
            b.emit_helper(&node, op, &[operands[side]], to, output, "transposed")?;
            node.inputs[side] = Some(output);
        }
    }
    Ok(Some(node))
}

pub(super) fn hard_sigmoid(b: &mut Binder, layer: &FileNode) -> Outcome<Option<FileNode>> {
    let (Some(alpha), Some(beta)) = (b.scalar(layer, 1)?, b.scalar(layer, 2)?) else {
        return malformed("its alpha or beta is missing");
    };
    let mut node = renamed(layer, "HardSigmoid", 21);
    node.inputs.truncate(1);
    Ok(Some(with(
        node,
        vec![real("alpha", alpha), real("beta", beta)],
    )))
}

pub(super) fn clamp(layer: &FileNode) -> Outcome<Option<FileNode>> {
    let bound = |name: &str| -> Outcome<f32> {
        match text(layer, name)?.map(|t| t.trim().parse::<f64>()) {
            Some(Ok(bound)) if !bound.is_nan() => Ok(bound as f32),
            _ => malformed(format!("attribute '{name}' is missing or no number")),
        }
    };
    // As opset 6 has it: bounds are attributes.
    let attributes = vec![real("min", bound("min")?), real("max", bound("max")?)];
    Ok(Some(with(renamed(layer, "Clip", 6), attributes)))
}

/// `x * sigmoid(x)`.
pub(super) fn swish(b: &mut Binder, layer: &FileNode) -> Outcome<Option<FileNode>> {
    if let Some(beta) = b.scalar(layer, 1)?
        && beta != 1.0
    {
        return unsupported(format!("a beta of {beta}; 1 is evaluated"));
    }
    let x = b.input(layer, 0)?;
    let shape = b.shape(x)?.to_vec();
    let gate = b.temporary(layer.output()?, "sigmoid");
    let op = Op::Activation(crate::Activation::Sigmoid);
    b.emit_helper(layer, op, &[x], shape, gate, "sigmoid")?;
    let mut node = renamed(layer, "Mul", 21);
    node.inputs = vec![Some(x), Some(gate)];
    Ok(Some(node))
}
