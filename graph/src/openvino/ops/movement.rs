//! Layers that move elements.

use super::{int, ints, needed, number, numbers, real, renamed, shown, single, text, with, word};
use crate::Constant;
use crate::onnx::FileNode;
use crate::onnx::bind::Binder;
use crate::onnx::fail::{Outcome, malformed, unsupported};
use crate::onnx::ops::axis_of;
use crate::onnx::tensor::Tensor;

/// The same node with its first inputs alone.
fn data(layer: &FileNode, op_type: &str, version: i64, inputs: usize) -> FileNode {
    let mut node = renamed(layer, op_type, version);
    node.inputs.truncate(inputs);
    node
}

pub(super) fn transpose(b: &mut Binder, layer: &FileNode) -> Outcome<Option<FileNode>> {
    let order = needed(b, layer, 1, "order")?;
    let node = data(layer, "Transpose", 21, 1);
    // An empty order reverses the axes.
    let attributes = if order.is_empty() {
        Vec::new()
    } else {
        vec![numbers("perm", order)]
    };
    Ok(Some(with(node, attributes)))
}

pub(super) fn split(b: &mut Binder, layer: &FileNode) -> Outcome<Option<FileNode>> {
    let axis = single(b, layer, 1, "axis")?;
    if int(layer, "num_splits")?.is_some_and(|n| n != layer.outputs.len() as i64) {
        return malformed("num_splits contradicts its number of outputs");
    }
    let node = data(layer, "Split", 2, 1);
    Ok(Some(with(node, vec![number("axis", axis)])))
}

pub(super) fn variadic_split(b: &mut Binder, layer: &FileNode) -> Outcome<Option<FileNode>> {
    let axis = single(b, layer, 1, "axis")?;
    let mut lengths = needed(b, layer, 2, "lengths")?;
    let shape = b.shape(b.input(layer, 0)?)?;
    let extent = shape[axis_of(axis, shape.len())?] as i64;
    // One of them may be what is left.
    if let Some(open) = lengths.iter().position(|&length| length == -1) {
        lengths[open] = 0;
        let sum = lengths.iter().try_fold(0i64, |sum, &l| sum.checked_add(l));
        match sum.map(|sum| extent - sum) {
            Some(rest) if rest >= 0 => lengths[open] = rest,
            _ => return malformed(format!("its parts are longer than the {extent} elements")),
        }
    }
    let node = data(layer, "Split", 2, 1);
    let attributes = vec![number("axis", axis), numbers("split", lengths)];
    Ok(Some(with(node, attributes)))
}

/// A `Slice`, and a `Reshape` where axes are added or dropped.
pub(super) fn strided_slice(b: &mut Binder, layer: &FileNode) -> Outcome<Option<FileNode>> {
    let mask = |name: &str| -> Outcome<Vec<i64>> { Ok(ints(layer, name)?.unwrap_or_default()) };
    let set = |mask: &[i64], i: usize| mask.get(i).is_some_and(|&bit| bit != 0);
    if mask("ellipsis_mask")?.iter().any(|&bit| bit != 0) {
        return unsupported("an ellipsis");
    }
    let (begin, end) = (needed(b, layer, 1, "begin")?, needed(b, layer, 2, "end")?);
    let strides = b.ints(layer, 3)?.unwrap_or_else(|| vec![1; begin.len()]);
    if begin.len() != end.len() || strides.len() != begin.len() {
        return malformed("its begin, end and strides differ in length");
    }
    let [open_begin, open_end] = [mask("begin_mask")?, mask("end_mask")?];
    let [added, shrunk] = [mask("new_axis_mask")?, mask("shrink_axis_mask")?];
    let x = b.input(layer, 0)?;
    let shape = b.shape(x)?.to_vec();
    let (mut starts, mut ends, mut steps) = (Vec::new(), Vec::new(), Vec::new());
    // The shape behind: entries are extents that are still to be found, or ones.
    let mut kept: Vec<Option<usize>> = Vec::new();
    let mut axis = 0;
    for i in 0..begin.len() {
        if set(&added, i) {
            kept.push(None);
            continue;
        }
        let Some(&extent) = shape.get(axis) else {
            return malformed(format!(
                "it cuts more axes than its input of shape {shape:?} has"
            ));
        };
        let (mut start, mut stop, step) = (begin[i], end[i], strides[i]);
        if set(&shrunk, i) {
            let index = if start < 0 {
                start.saturating_add(extent as i64)
            } else {
                start
            };
            if set(&open_begin, i) || !(0..extent as i64).contains(&index) {
                return malformed(format!(
                    "it takes index {start} of axis {axis}, which has {extent}"
                ));
            }
            (start, stop) = (index, index + 1);
        } else {
            if set(&open_begin, i) {
                start = if step < 0 { i64::MAX } else { 0 };
            }
            if set(&open_end, i) {
                stop = if step < 0 { i64::MIN } else { i64::MAX };
            }
            kept.push(Some(axis));
        }
        starts.push(start);
        ends.push(stop);
        steps.push(if set(&shrunk, i) { 1 } else { step });
        axis += 1;
    }
    kept.extend((axis..shape.len()).map(Some));
    let mut node = data(layer, "Slice", 13, 1);
    let lists = [starts, ends, (0..axis as i64).collect(), steps];
    for (list, suffix) in lists.into_iter().zip(["starts", "ends", "axes", "steps"]) {
        let slot = b.temporary(layer.output()?, suffix);
        b.set_constant(slot, Tensor::new(vec![list.len()], Constant::I64(list)))?;
        node.inputs.push(Some(slot));
    }
    if kept.iter().copied().eq((0..shape.len()).map(Some)) {
        return Ok(Some(node));
    }
    // The slice by itself, then its shape.
    let output = layer.output()?;
    let cut = b.temporary(output, "cut");
    node.outputs = vec![Some(cut)];
    crate::onnx::ops::lower(b, &node)?;
    let extents = b.shape(cut)?;
    let to: Vec<i64> = kept
        .iter()
        .map(|axis| axis.map_or(1, |axis| extents[axis] as i64))
        .collect();
    let target = b.temporary(output, "shape");
    b.set_constant(target, Tensor::new(vec![to.len()], Constant::I64(to)))?;
    let mut node = data(layer, "Reshape", 21, 0);
    node.inputs = vec![Some(cut), Some(target)];
    Ok(Some(with(node, vec![number("allowzero", 1)])))
}

/// The same inputs in another order.
pub(super) fn slice(layer: &FileNode) -> Outcome<Option<FileNode>> {
    let mut node = renamed(layer, "Slice", 13);
    if node.inputs.len() < 4 {
        return malformed("its starts, stops or steps are missing");
    }
    let steps = node.inputs.remove(3);
    if node.inputs.len() < 4 {
        node.inputs.push(None);
    }
    node.inputs.push(steps);
    Ok(Some(node))
}

pub(super) fn pad(b: &mut Binder, layer: &FileNode) -> Outcome<Option<FileNode>> {
    let mode = match text(layer, "pad_mode")?.unwrap_or("") {
        mode @ ("constant" | "edge" | "reflect") => mode,
        other => return unsupported(format!("padding mode '{}'", shown(other))),
    };
    let mut pads = needed(b, layer, 1, "pads_begin")?;
    let after = needed(b, layer, 2, "pads_end")?;
    if pads.len() != after.len() {
        return malformed("its pads differ in length");
    }
    pads.extend(after);
    let fill = b.scalar(layer, 3)?.unwrap_or(0.0);
    // As opset 2 has it: everything is an attribute.
    let attributes = vec![
        numbers("pads", pads),
        real("value", fill),
        word("mode", mode),
    ];
    Ok(Some(with(data(layer, "Pad", 2, 1), attributes)))
}

pub(super) fn depth_to_space(layer: &FileNode) -> Outcome<Option<FileNode>> {
    let mode = match text(layer, "mode")?.unwrap_or("") {
        "blocks_first" => "DCR",
        "depth_first" => "CRD",
        other => return malformed(format!("mode '{}' does not exist", shown(other))),
    };
    let block = int(layer, "block_size")?.unwrap_or(1);
    let attributes = vec![word("mode", mode), number("blocksize", block)];
    Ok(Some(with(renamed(layer, "DepthToSpace", 21), attributes)))
}

/// Of constants and shapes alone.
pub(super) fn gather(b: &mut Binder, layer: &FileNode) -> Outcome<Option<FileNode>> {
    if int(layer, "batch_dims")?.unwrap_or(0) != 0 {
        return unsupported("batches of indices");
    }
    let axis = single(b, layer, 2, "axis")?;
    Ok(Some(with(
        data(layer, "Gather", 21, 2),
        vec![number("axis", axis)],
    )))
}

/// Of constants alone.
pub(super) fn broadcast(layer: &FileNode) -> Outcome<Option<FileNode>> {
    match text(layer, "mode")?.unwrap_or("numpy") {
        "numpy" | "bidirectional" => {}
        other => return unsupported(format!("broadcasting of kind '{}'", shown(other))),
    }
    Ok(Some(data(layer, "Expand", 21, 2)))
}
