//! Elementwise operators, and those that pass data on unchanged.

use half::{bf16, f16};

use super::codes;
use crate::onnx::bind::Binder;
use crate::onnx::eval::broadcast;
use crate::onnx::fail::{Outcome, malformed, unsupported};
use crate::onnx::grid::{self, Codes, Integer};
use crate::onnx::proto::tensor_proto::DataType;
use crate::onnx::tensor::Tensor;
use crate::onnx::{FileNode, Slot};
use crate::{Activation, Binary, Constant, Op};

pub(super) fn unary(b: &mut Binder, node: &FileNode, activation: Activation) -> Outcome<()> {
    super::same(b, node, Op::Activation(activation))
}

pub(super) fn binary(b: &mut Binder, node: &FileNode, binary: Binary) -> Outcome<()> {
    let (x, y) = (b.input(node, 0)?, b.input(node, 1)?);
    // Below opset 7 an axis could say where the second shape starts; without one the rule is numpy's.
    if node.version < 7 && node.attrs().has("axis") && b.shape(x)? != b.shape(y)? {
        return unsupported(
            "broadcasting by axis (opset below 7): convert the model to opset 7 or later",
        );
    }
    let shape = broadcast(b.shape(x)?, b.shape(y)?)?;
    b.emit(node, Op::Binary(binary), &[x, y], shape, node.output()?)
}

/// The same on what the codes of two tensors stand for.
pub(super) fn binary_of(
    b: &mut Binder,
    node: &FileNode,
    binary: Binary,
    [x, y]: [Slot; 2],
    output: Slot,
) -> Outcome<()> {
    let shape = broadcast(b.shape(x)?, b.shape(y)?)?;
    b.emit_reals(node, Op::Binary(binary), &[x, y], shape, output)
}

/// `Relu` on codes is a clip at code 0.
pub(super) fn relu(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    if codes::holds(b, b.input(node, 0)?)? {
        return codes::clip(b, node, Some(vec![0]), None);
    }
    unary(b, node, Activation::Relu)
}

pub(super) fn sum(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    match node.inputs.len() {
        1 => super::same(b, node, Op::Identity),
        2 => binary(b, node, Binary::Add),
        n => unsupported(format!(
            "a sum of {n} tensors; write it as additions of two"
        )),
    }
}

pub(super) fn clip(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let (min, max) = if node.version < 11 {
        let attrs = node.attrs();
        (
            attrs.float_or("min", f32::NEG_INFINITY)?,
            attrs.float_or("max", f32::INFINITY)?,
        )
    } else {
        (
            b.scalar(node, 1)?.unwrap_or(f32::NEG_INFINITY),
            b.scalar(node, 2)?.unwrap_or(f32::INFINITY),
        )
    };
    if min.is_nan() || max.is_nan() {
        return malformed("a bound is not a number");
    }
    if codes::holds(b, b.input(node, 0)?)? {
        return codes::clip(b, node, b.ints(node, 1)?, b.ints(node, 2)?);
    }
    unary(b, node, Activation::Clip { min, max })
}

pub(super) fn prelu(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let (x, mut slope) = (b.input(node, 0)?, b.input(node, 1)?);
    let shape = b.shape(x)?.to_vec();
    // Below opset 7 a one-dimensional slope belongs to axis 1.
    if node.version < 7
        && let &[channels] = b.shape(slope)?
        && shape.len() > 2
        && shape[1] == channels
    {
        let mut spread = vec![1; shape.len() - 1];
        spread[0] = channels;
        slope = b.reshaped(node, slope, &spread, "slope")?;
    }
    if broadcast(&shape, b.shape(slope)?)? != shape {
        return malformed(format!(
            "its slope of shape {:?} does not broadcast to {shape:?}",
            b.shape(slope)?
        ));
    }
    b.emit(
        node,
        Op::Activation(Activation::PRelu),
        &[x, slope],
        shape,
        node.output()?,
    )
}

pub(super) fn dropout(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    if node.version >= 12 && b.scalar(node, 2)?.is_some_and(|training| training != 0.0) {
        return unsupported("training mode: export the model for inference");
    }
    super::same(b, node, Op::Identity)
}

/// On data a cast between float types passes on; on constants every cast is done.
pub(super) fn cast(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let Some(to) = node.attrs().int("to")? else {
        return malformed("attribute 'to' is missing");
    };
    let kind = i32::try_from(to)
        .ok()
        .and_then(|to| DataType::try_from(to).ok());
    let Some(kind) = kind else {
        return malformed(format!("element type {to} does not exist"));
    };
    let x = b.input(node, 0)?;
    let float = matches!(
        kind,
        DataType::Float | DataType::Double | DataType::Float16 | DataType::Bfloat16
    );
    let Some(tensor) = b.constant(x)? else {
        if !float {
            return unsupported(format!("a cast of data to {}", kind.as_str_name()));
        }
        // A cast takes codes for what they are.
        let x = match (b.codes(x)?.integer, &b.codes(x)?.grid) {
            (Some(integer), Some(_)) => b.coded(node, x, grid::plain(integer))?,
            _ => x,
        };
        let (shape, output) = (b.shape(x)?.to_vec(), node.output()?);
        b.emit(node, Op::Identity, &[x], shape, output)?;
        b.set_codes(output, Codes::default());
        return Ok(());
    };
    b.budget(&tensor.shape)?;
    let data = cast_constant(&tensor.data, kind)?;
    let cast = Tensor::new(tensor.shape, data).of(Integer::of(kind));
    b.set_constant(node.output()?, cast)
}

fn cast_constant(data: &Constant, kind: DataType) -> Outcome<Constant> {
    let reals = |f: fn(f32) -> f32| Constant::F32(data.to_f32().into_iter().map(f).collect());
    // A real beyond 64 bits saturates; what ONNX Runtime does there depends on the machine.
    let whole = |f: fn(i64) -> i64| {
        Constant::I64(match data {
            Constant::F32(v) => v.iter().map(|&x| f(x as i64)).collect(),
            Constant::I64(v) => v.iter().map(|&x| f(x)).collect(),
        })
    };
    Ok(match kind {
        DataType::Float | DataType::Double => reals(|x| x),
        DataType::Float16 => reals(|x| f16::from_f32(x).to_f32()),
        DataType::Bfloat16 => reals(|x| bf16::from_f32(x).to_f32()),
        DataType::Int64 => whole(|x| x),
        DataType::Int32 => whole(|x| i64::from(x as i32)),
        DataType::Int16 => whole(|x| i64::from(x as i16)),
        DataType::Int8 => whole(|x| i64::from(x as i8)),
        DataType::Uint64 => whole(|x| x.max(0)),
        DataType::Uint32 => whole(|x| i64::from(x as u32)),
        DataType::Uint16 => whole(|x| i64::from(x as u16)),
        DataType::Uint8 => whole(|x| i64::from(x as u8)),
        DataType::Bool => Constant::I64(match data {
            Constant::F32(v) => v.iter().map(|&x| i64::from(x != 0.0)).collect(),
            Constant::I64(v) => v.iter().map(|&x| i64::from(x != 0)).collect(),
        }),
        _ => return unsupported(format!("a cast to {}", kind.as_str_name())),
    })
}
