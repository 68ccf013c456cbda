//! Means, softmax and batch normalization.

use super::{axes_of, axis_of};
use crate::Op;
use crate::onnx::bind::Binder;
use crate::onnx::fail::{Outcome, malformed, unsupported};
use crate::onnx::{FileNode, Slot};

pub(super) fn global_average_pool(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let x = b.input(node, 0)?;
    let mut shape = b.shape(x)?.to_vec();
    if shape.len() < 3 {
        return malformed(format!("its input of shape {shape:?} has no spatial axis"));
    }
    shape[2..].fill(1);
    let axes = (2..shape.len()).collect();
    b.emit(node, Op::Mean { axes }, &[x], shape, node.output()?)
}

pub(super) fn mean(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let x = b.input(node, 0)?;
    let given = if node.version >= 18 {
        b.ints(node, 1)?
    } else {
        node.attrs().ints("axes")?.map(<[_]>::to_vec)
    };
    mean_of(b, node, x, given, node.output()?)
}

pub(super) fn mean_of(
    b: &mut Binder,
    node: &FileNode,
    x: Slot,
    given: Option<Vec<i64>>,
    output: Slot,
) -> Outcome<()> {
    let input = b.shape(x)?.to_vec();
    let attrs = node.attrs();
    let axes = axes_of(&given.unwrap_or_default(), input.len())?;
    if axes.is_empty() && attrs.flag("noop_with_empty_axes", false)? {
        return b.emit(node, Op::Identity, &[x], input, output);
    }
    let axes = if axes.is_empty() {
        (0..input.len()).collect()
    } else {
        axes
    };
    let shape = reduced(&input, &axes, attrs.flag("keepdims", true)?);
    b.emit(node, Op::Mean { axes }, &[x], shape, output)
}

/// The shape after reducing some axes.
pub(in crate::onnx) fn reduced(shape: &[usize], axes: &[usize], keep: bool) -> Vec<usize> {
    let axis = |(axis, &dim): (usize, &usize)| match (axes.contains(&axis), keep) {
        (false, _) => Some(dim),
        (true, true) => Some(1),
        (true, false) => None,
    };
    shape.iter().enumerate().filter_map(axis).collect()
}

/// From opset 13 on along one axis; before, over all axes from `axis` on.
pub(super) fn softmax(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let x = b.input(node, 0)?;
    softmax_of(b, node, x, node.version, node.output()?)
}

pub(super) fn softmax_of(
    b: &mut Binder,
    node: &FileNode,
    x: Slot,
    version: i64,
    output: Slot,
) -> Outcome<()> {
    let shape = b.shape(x)?.to_vec();
    if version >= 13 {
        let axis = axis_of(node.attrs().int_or("axis", -1)?, shape.len())?;
        return b.emit(node, Op::Softmax { axis, beta: 1.0 }, &[x], shape, output);
    }
    let axis = axis_of(node.attrs().int_or("axis", 1)?, shape.len())?;
    if shape[axis + 1..].iter().all(|&dim| dim == 1) {
        return b.emit(node, Op::Softmax { axis, beta: 1.0 }, &[x], shape, output);
    }
    let flat = vec![
        shape[..axis].iter().product(),
        shape[axis..].iter().product(),
    ];
    let rows = b.reshaped(node, x, &flat, "rows")?;
    let soft = b.temporary(output, "rows");
    b.emit(
        node,
        Op::Softmax { axis: 1, beta: 1.0 },
        &[rows],
        flat,
        soft,
    )?;
    b.emit_helper(node, Op::Reshape, &[soft], shape, output, "shape")
}

pub(super) fn batch_norm(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let x = b.input(node, 0)?;
    batch_norm_of(b, node, x, node.output()?)
}

/// Batch normalization of a tensor with channels at axis 1.
pub(super) fn batch_norm_of(b: &mut Binder, node: &FileNode, x: Slot, output: Slot) -> Outcome<()> {
    let attrs = node.attrs();
    if attrs.flag("training_mode", false)? {
        return unsupported("training mode: export the model for inference");
    }
    if !attrs.flag("spatial", true)? {
        return unsupported("statistics for each element (spatial = 0)");
    }
    let shape = b.shape(x)?.to_vec();
    let Some(&channels) = shape.get(1) else {
        return malformed(format!("its input of shape {shape:?} has no channel axis"));
    };
    let mut inputs = vec![x];
    for index in 1..5 {
        let slot = b.input(node, index)?;
        if b.shape(slot)? != [channels] {
            return malformed(format!(
                "input {} has shape {:?}, which must be [{channels}]",
                index + 1,
                b.shape(slot)?
            ));
        }
        inputs.push(slot);
    }
    let epsilon = attrs.float_or("epsilon", 1e-5)?;
    if !epsilon.is_finite() {
        return malformed("its epsilon is not finite");
    }
    b.emit(node, Op::BatchNorm { epsilon }, &inputs, shape, output)
}
