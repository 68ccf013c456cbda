//! Operators that move elements and compute nothing.

use super::{axes_of, axis_of};
use crate::onnx::bind::Binder;
use crate::onnx::fail::{Outcome, malformed, shown, unsupported};
use crate::onnx::grid;
use crate::onnx::tensor::{elements, shape_from};
use crate::onnx::{FileNode, Slot};
use crate::{Op, Pad, PadMode};

pub(super) fn concat(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let first = b.input(node, 0)?;
    let mut shape = b.shape(first)?.to_vec();
    let axis = match node.attrs().int("axis")? {
        Some(axis) => axis_of(axis, shape.len())?,
        None if node.version < 4 => axis_of(1, shape.len())?,
        None => return malformed("attribute 'axis' is missing"),
    };
    let mut inputs = vec![first];
    for index in 1..node.inputs.len() {
        let slot = b.input(node, index)?;
        let other = b.shape(slot)?;
        let fits = other.len() == shape.len()
            && (0..shape.len()).all(|a| a == axis || other[a] == shape[a]);
        if !fits {
            return malformed(format!(
                "input {} of shape {other:?} does not join {shape:?}",
                index + 1
            ));
        }
        shape[axis] = shape[axis].saturating_add(other[axis]);
        inputs.push(slot);
    }
    // Codes that are joined to others mean what those mean.
    let mut grid = None;
    for &slot in &inputs {
        let codes = b.codes(slot)?;
        grid = grid.or_else(|| codes.grid.clone().filter(|_| codes.integer.is_some()));
    }
    if let Some(grid) = grid {
        for slot in &mut inputs {
            if b.codes(*slot)?.grid.is_none() && b.constant(*slot)?.is_some() {
                *slot = b.coded(node, *slot, (*grid).clone())?;
            }
        }
    }
    b.emit(node, Op::Concat { axis }, &inputs, shape, node.output()?)
}

pub(super) fn pad(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let x = b.input(node, 0)?;
    let input = b.shape(x)?.to_vec();
    let rank = input.len();
    let attrs = node.attrs();
    let (pads, fill, axes) = if node.version < 11 {
        let pads = if node.version < 2 {
            attrs.ints("paddings")?
        } else {
            attrs.ints("pads")?
        };
        (pads.map(<[_]>::to_vec), attrs.float_or("value", 0.0)?, None)
    } else {
        (
            b.ints(node, 1)?,
            b.scalar(node, 2)?.unwrap_or(0.0),
            b.ints(node, 3)?,
        )
    };
    let Some(pads) = pads else {
        return malformed("its pads are missing");
    };
    // The axes keep the order of the list: entry i belongs to axes[i].
    let axes = match axes {
        Some(list) => {
            axes_of(&list, rank)?;
            list.into_iter()
                .map(|axis| axis_of(axis, rank))
                .collect::<Outcome<Vec<_>>>()?
        }
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return malformed(format!(
            "it has {} pads for {} axes",
            pads.len(),
            axes.len()
        ));
    }
    let fill = match &b.codes(x)?.grid {
        Some(grid) if b.constant(x)?.is_none() => real_fill(fill, grid)?,
        _ => fill,
    };
    let mode = match attrs.string("mode")?.unwrap_or("constant") {
        "constant" => PadMode::Constant(fill),
        "reflect" => PadMode::Reflect,
        "edge" => PadMode::Edge,
        other => return unsupported(format!("padding mode '{}'", shown(other))),
    };
    let (mut before, mut after) = (vec![0; rank], vec![0; rank]);
    for (index, &axis) in axes.iter().enumerate() {
        (before[axis], after[axis]) = (pads[index], pads[index + axes.len()]);
    }
    let mut shape = Vec::with_capacity(rank);
    for axis in 0..rank {
        let (extent, first, last) = (
            input[axis] as i128,
            i128::from(before[axis]),
            i128::from(after[axis]),
        );
        let (grows, cuts) = (first.max(0).max(last), first.min(0) + last.min(0));
        if extent + cuts < 0 {
            return malformed(format!(
                "it cuts more from axis {axis} than its {extent} elements"
            ));
        }
        match mode {
            PadMode::Reflect | PadMode::Edge if cuts < 0 => {
                return unsupported("negative pads together with reflect or edge");
            }
            PadMode::Reflect if grows >= extent && grows > 0 => {
                return malformed(format!(
                    "it reflects {grows} elements of axis {axis}, which has {extent}"
                ));
            }
            PadMode::Constant(_) | PadMode::Reflect | PadMode::Edge => {}
        }
        shape.push(usize::try_from(extent + first + last).unwrap_or(usize::MAX));
    }
    elements(&shape, b.limits())?;
    b.emit(
        node,
        Op::Pad(Pad {
            mode,
            before,
            after,
        }),
        &[x],
        shape,
        node.output()?,
    )
}

/// What fills the border of a tensor of codes: the file has a code, the graph wants what it stands for.
fn real_fill(code: f32, grid: &crate::Affine) -> Outcome<f32> {
    let zero_points = &grid.zero_point.values;
    if zero_points.iter().all(|&z| z == code) {
        return Ok(0.0);
    }
    match (zero_points.as_slice(), grid.scale.values.as_slice()) {
        (&[zero_point], &[scale]) => Ok((code - zero_point) * scale),
        _ => unsupported(format!(
            "its fill {code} stands for another real in each channel of codes that are {}",
            grid::describe(grid)
        )),
    }
}

fn emit_reshape(b: &mut Binder, node: &FileNode, x: Slot, shape: Vec<usize>) -> Outcome<()> {
    let count = elements(b.shape(x)?, b.limits())?;
    if elements(&shape, b.limits())? != count {
        return malformed(format!(
            "{count} elements of shape {:?} do not make {shape:?}",
            b.shape(x)?
        ));
    }
    b.emit(node, Op::Reshape, &[x], shape, node.output()?)
}

pub(super) fn reshape(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let x = b.input(node, 0)?;
    let target = if node.version < 5 {
        node.attrs().ints("shape")?.map(<[_]>::to_vec)
    } else {
        b.ints(node, 1)?
    };
    let Some(target) = target else {
        return malformed("its target shape is missing");
    };
    let zero_is_zero = node.version >= 14 && node.attrs().flag("allowzero", false)?;
    let input = b.shape(x)?;
    let mut dims = Vec::with_capacity(target.len());
    let mut open = None;
    for (axis, &dim) in target.iter().enumerate() {
        dims.push(match dim {
            -1 if open.replace(axis).is_some() => {
                return malformed("two extents of its target are -1");
            }
            -1 => 1,
            0 if !zero_is_zero => match input.get(axis) {
                Some(&dim) => dim as i64,
                None => {
                    return malformed(format!(
                        "its target {target:?} copies axis {axis} of {input:?}"
                    ));
                }
            },
            dim => dim,
        });
    }
    let mut shape = shape_from(&dims, b.limits())?;
    if let Some(axis) = open {
        let (have, rest) = (elements(input, b.limits())?, elements(&shape, b.limits())?);
        if rest == 0 || have % rest != 0 {
            return malformed(format!(
                "{have} elements of shape {input:?} do not make {target:?}"
            ));
        }
        shape[axis] = have / rest;
    }
    emit_reshape(b, node, x, shape)
}

pub(super) fn flatten(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let x = b.input(node, 0)?;
    let input = b.shape(x)?;
    let axis = node.attrs().int_or("axis", 1)?;
    // Here the axis may be the rank itself.
    let axis = if axis == input.len() as i64 {
        input.len()
    } else {
        axis_of(axis, input.len())?
    };
    let shape = vec![
        input[..axis].iter().product(),
        input[axis..].iter().product(),
    ];
    emit_reshape(b, node, x, shape)
}

/// The axes of `Squeeze` and `Unsqueeze`: an input from opset 13 on.
fn listed_axes(b: &Binder, node: &FileNode) -> Outcome<Option<Vec<i64>>> {
    if node.version < 13 {
        Ok(node.attrs().ints("axes")?.map(<[_]>::to_vec))
    } else {
        b.ints(node, 1)
    }
}

pub(super) fn squeeze(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let x = b.input(node, 0)?;
    let input = b.shape(x)?.to_vec();
    let axes = match listed_axes(b, node)? {
        Some(axes) => axes_of(&axes, input.len())?,
        None => (0..input.len()).filter(|&axis| input[axis] == 1).collect(),
    };
    if let Some(&axis) = axes.iter().find(|&&axis| input[axis] != 1) {
        return malformed(format!(
            "axis {axis} of shape {input:?} is not 1 and cannot be squeezed"
        ));
    }
    emit_reshape(b, node, x, super::reduce::reduced(&input, &axes, false))
}

pub(super) fn unsqueeze(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let x = b.input(node, 0)?;
    let Some(axes) = listed_axes(b, node)? else {
        return malformed("its axes are missing");
    };
    let mut shape = b.shape(x)?.to_vec();
    // Ascending, so that each insertion lands where the output has it.
    for axis in axes_of(&axes, shape.len().saturating_add(axes.len()))? {
        shape.insert(axis, 1);
    }
    emit_reshape(b, node, x, shape)
}

pub(super) fn transpose(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let x = b.input(node, 0)?;
    let input = b.shape(x)?;
    let rank = input.len();
    let perm: Vec<usize> = match node.attrs().ints("perm")? {
        None => (0..rank).rev().collect(),
        Some(perm) => {
            if perm.len() != rank || axes_of(perm, rank)?.len() != rank {
                return malformed(format!("perm has {} entries for {rank} axes", perm.len()));
            }
            perm.iter()
                .map(|&axis| axis_of(axis, rank))
                .collect::<Outcome<_>>()?
        }
    };
    let shape = perm.iter().map(|&axis| input[axis]).collect();
    b.emit(node, Op::Transpose { perm }, &[x], shape, node.output()?)
}

pub(super) fn slice(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let x = b.input(node, 0)?;
    let input = b.shape(x)?.to_vec();
    let rank = input.len();
    let attrs = node.attrs();
    let list = |name: &str, index: usize| -> Outcome<Option<Vec<i64>>> {
        if node.version < 10 {
            Ok(attrs.ints(name)?.map(<[_]>::to_vec))
        } else {
            b.ints(node, index)
        }
    };
    let (Some(starts), Some(ends)) = (list("starts", 1)?, list("ends", 2)?) else {
        return malformed("its starts or ends are missing");
    };
    let axes = match list("axes", 3)? {
        Some(axes) => {
            axes_of(&axes, rank)?;
            axes.into_iter()
                .map(|axis| axis_of(axis, rank))
                .collect::<Outcome<Vec<_>>>()?
        }
        None => (0..starts.len().min(rank)).collect(),
    };
    let steps = match b.ints(node, 4)? {
        Some(steps) if node.version >= 10 => steps,
        _ => vec![1; axes.len()],
    };
    if [starts.len(), ends.len(), steps.len()] != [axes.len(); 3] {
        return malformed("its starts, ends, axes and steps differ in length");
    }
    let (mut from, mut by, mut shape) = (vec![0; rank], vec![1; rank], input.clone());
    for (index, &axis) in axes.iter().enumerate() {
        let (start, count) = span(starts[index], ends[index], steps[index], input[axis])?;
        (from[axis], by[axis], shape[axis]) = (start, steps[index], count);
    }
    b.emit(
        node,
        Op::Slice {
            starts: from,
            steps: by,
        },
        &[x],
        shape,
        node.output()?,
    )
}

/// First index and number of elements of a slice: the clamping rules of ONNX `Slice`.
fn span(start: i64, end: i64, step: i64, extent: usize) -> Outcome<(usize, usize)> {
    let dim = extent as i128;
    let from_end = |i: i64| {
        if i < 0 {
            i128::from(i) + dim
        } else {
            i128::from(i)
        }
    };
    let (start, end, step) = (from_end(start), from_end(end), i128::from(step));
    let (start, length) = match step {
        0 => return malformed("a step is 0"),
        1.. => {
            let start = start.clamp(0, dim);
            (
                start,
                (end.clamp(0, dim) - start + step - 1).div_euclid(step),
            )
        }
        _ => {
            let start = start.clamp(0, (dim - 1).max(0));
            (
                start,
                (start - end.clamp(-1, dim - 1) - step - 1).div_euclid(-step),
            )
        }
    };
    if extent == 0 || length <= 0 {
        return Ok((0, 0));
    }
    Ok((
        usize::try_from(start).unwrap_or(0),
        usize::try_from(length).unwrap_or(0),
    ))
}

/// One slice an output.
pub(super) fn split(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let x = b.input(node, 0)?;
    let input = b.shape(x)?.to_vec();
    let attrs = node.attrs();
    let axis = axis_of(attrs.int_or("axis", 0)?, input.len())?;
    let parts = node.outputs.len();
    // Opset 1 had both, the attribute and the input.
    let given = match attrs.ints("split")? {
        Some(list) => Some(list.to_vec()),
        None => b.ints(node, 1)?,
    };
    let lengths = match given {
        Some(list) => shape_from(
            &list,
            &crate::Limits {
                rank: usize::MAX,
                tensor_elements: usize::MAX,
                ..b.limits().clone()
            },
        )?,
        None => even_parts(input[axis], parts, attrs.int("num_outputs")?)?,
    };
    let total = lengths
        .iter()
        .try_fold(0usize, |sum, &length| sum.checked_add(length));
    if lengths.len() != parts || total != Some(input[axis]) {
        return malformed(format!(
            "its {} parts do not make {parts} outputs from the {} elements of axis {axis}",
            lengths.len(),
            input[axis]
        ));
    }
    let steps = vec![1; input.len()];
    let mut start = 0;
    for (index, (&output, &length)) in node.outputs.iter().zip(&lengths).enumerate() {
        let mut starts = vec![0; input.len()];
        starts[axis] = start;
        start += length;
        let Some(output) = output else { continue };
        let mut shape = input.clone();
        shape[axis] = length;
        let op = Op::Slice {
            starts,
            steps: steps.clone(),
        };
        if parts == 1 {
            b.emit(node, op, &[x], shape, output)?;
        } else {
            b.emit_helper(node, op, &[x], shape, output, &index.to_string())?;
        }
    }
    Ok(())
}

/// Equal parts; with `num_outputs` (opset 18) the last one may be smaller.
fn even_parts(extent: usize, parts: usize, num_outputs: Option<i64>) -> Outcome<Vec<usize>> {
    if num_outputs.is_some_and(|n| n != parts as i64) {
        return malformed(format!("num_outputs contradicts its {parts} outputs"));
    }
    if num_outputs.is_none() && !extent.is_multiple_of(parts) {
        return malformed(format!(
            "{extent} elements do not split into {parts} equal parts"
        ));
    }
    let length = extent.div_ceil(parts);
    Ok((0..parts)
        .map(|i| extent.saturating_sub(i.saturating_mul(length)).min(length))
        .collect())
}

pub(super) fn depth_to_space(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let x = b.input(node, 0)?;
    let &[n, c, h, w] = b.shape(x)? else {
        return malformed(format!(
            "its input of shape {:?} must have 4 axes",
            b.shape(x)?
        ));
    };
    let size = node.attrs().int_or("blocksize", 0)?;
    let block = usize::try_from(size).ok().filter(|&s| s >= 1);
    let area = block
        .and_then(|s| s.checked_mul(s))
        .filter(|&area| c.is_multiple_of(area));
    let (Some(block), Some(area)) = (block, area) else {
        return malformed(format!("block size {size} does not divide {c} channels"));
    };
    let depth_first = match node.attrs().string("mode")?.unwrap_or("DCR") {
        "DCR" => true,
        "CRD" => false,
        other => return malformed(format!("mode '{}' does not exist", shown(other))),
    };
    let shape = vec![
        n,
        c / area,
        h.saturating_mul(block),
        w.saturating_mul(block),
    ];
    b.emit(
        node,
        Op::DepthToSpace { block, depth_first },
        &[x],
        shape,
        node.output()?,
    )
}
