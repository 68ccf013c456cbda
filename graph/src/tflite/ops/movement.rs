//! Operators that move elements.

use std::sync::Arc;

use super::{axis_of, flag, fused};
use crate::onnx::eval::evaluate;
use crate::onnx::fail::{Outcome, malformed, unsupported};
use crate::onnx::tensor::{Tensor, elements};
use crate::tflite::bind::{Behind, Binder, file_order, inverse, permuted};
use crate::tflite::grid::Grid;
use crate::tflite::{FileNode, Slot};
use crate::{Constant, Op, Pad, PadMode, Resize, ResizeAxis};

/// Whether tensors hold codes of the output's grid, so that moving codes is all there is to do.
fn equal_grids(b: &Binder, slots: &[Slot], output: Slot) -> Outcome<bool> {
    let to = b.grid(output);
    let mut equal = true;
    for &slot in slots {
        let from = b.grid(slot);
        if (*from == Grid::Float) != (*to == Grid::Float) {
            return malformed("it moves integers into reals, or reals into integers");
        }
        if from != to {
            b.meaning(slot)?;
            b.meaning(output)?;
            equal = false;
        }
    }
    Ok(equal)
}

/// The contents of all inputs, where the operation is done on them right away: numbers that mean the same
/// before and after.
fn folded(b: &mut Binder, op: &Op, slots: &[Slot], output: Slot) -> Outcome<Option<Vec<Tensor>>> {
    let mut tensors = Vec::with_capacity(slots.len());
    for &slot in slots {
        let plain = match b.grid(slot) {
            Grid::Float | Grid::Bare { .. } => true,
            Grid::Codes(grid) => grid.scale.axis.is_none() && !matches!(op, Op::Pad(_)),
            Grid::Unknown(_) => false,
        };
        if !plain || b.grid(slot) != b.grid(output) {
            return Ok(None);
        }
        let shape = b.shape(slot)?;
        match b.constant(slot)? {
            Some(data) => tensors.push(Tensor::shared(shape, data)),
            None => return Ok(None),
        }
    }
    Ok(Some(tensors))
}

/// An operation in the file's order of axes as one in another.
fn translated(op: Op, order: &[usize]) -> Op {
    match op {
        Op::Slice { starts, steps } => Op::Slice {
            starts: permuted(&starts, order),
            steps: permuted(&steps, order),
        },
        Op::Pad(pad) => Op::Pad(Pad {
            mode: pad.mode,
            before: permuted(&pad.before, order),
            after: permuted(&pad.after, order),
        }),
        Op::Concat { axis } => Op::Concat {
            axis: inverse(order)[axis],
        },
        Op::Resize(resize) => Op::Resize(Resize {
            axes: permuted(&resize.axes, order),
            ..resize
        }),
        other => other,
    }
}

/// Emits an operation, given in the file's order of axes, in the order that its inputs have.
fn emit(
    b: &mut Binder,
    node: &FileNode,
    output: usize,
    op: Op,
    slots: &[Slot],
    shape: &[usize],
) -> Outcome<()> {
    let Some(&slot) = node.outputs.get(output) else {
        return malformed(format!("output {} is missing", output + 1));
    };
    let folds = match &op {
        Op::Pad(pad) => matches!(pad.mode, PadMode::Constant(_)),
        Op::Resize(_) => false,
        _ => true,
    };
    if folds && let Some(tensors) = folded(b, &op, slots, slot)? {
        b.budget(shape)?;
        let constant = evaluate(&op, &tensors, shape)?;
        return b.set_constant(slot, shape.to_vec(), Arc::new(constant));
    }
    let equal = equal_grids(b, slots, slot)?;
    let order = b.common_order(slots)?;
    let inputs = slots
        .iter()
        .map(|&slot| b.view(slot, &order))
        .collect::<Outcome<_>>()?;
    let behind = Behind {
        quantize: !equal,
        ..Behind::computed()
    };
    let op = translated(op, &order);
    let shape = permuted(shape, &order);
    b.produce(node, output, (op, inputs), behind, shape, &order)
}

/// Emits the first input under another shape: its elements in the file's order.
fn reshaped(b: &mut Binder, node: &FileNode, slot: Slot, shape: Vec<usize>) -> Outcome<()> {
    let own = b.shape(slot)?;
    if elements(&own, b.limits())? != elements(&shape, b.limits())? {
        return malformed(format!("shape {own:?} does not reshape to {shape:?}"));
    }
    let output = node.output()?;
    if folded(b, &Op::Reshape, &[slot], output)?.is_some()
        && let Some(constant) = b.constant(slot)?
    {
        return b.set_constant(output, shape, constant);
    }
    let behind = Behind {
        quantize: !equal_grids(b, &[slot], output)?,
        ..Behind::computed()
    };
    let inputs = vec![b.flat_view(slot)?];
    let order = file_order(shape.len());
    b.produce(node, 0, (Op::Reshape, inputs), behind, shape, &order)
}

/// The target is the second input, else an option, else what the file says of the output
/// (`tensorflow/lite/kernels/reshape.cc`).
pub(super) fn reshape(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let x = b.input(node, 0)?;
    let shape = b.shape(x)?;
    let count = elements(&shape, b.limits())?;
    let target = target(b, node)?;
    let mut known: usize = 1;
    let mut open = None;
    for (axis, &dim) in target.iter().enumerate() {
        match usize::try_from(dim) {
            Ok(dim) => known = known.saturating_mul(dim),
            Err(_) if dim == -1 && open.is_none() => open = Some(axis),
            Err(_) => return malformed(format!("its target {target:?} is no shape")),
        }
    }
    let mut result: Vec<usize> = target
        .iter()
        .map(|&d| usize::try_from(d).unwrap_or(0))
        .collect();
    if let Some(axis) = open {
        if known == 0 || !count.is_multiple_of(known) {
            return malformed(format!("shape {shape:?} does not reshape to {target:?}"));
        }
        result[axis] = count / known;
    }
    reshaped(b, node, x, result)
}

fn target(b: &mut Binder, node: &FileNode) -> Outcome<Vec<i64>> {
    let rank = b.limits().rank;
    let target = if node.optional(1).is_some() {
        b.needed_ints(node, 1)?
    } else if let Some(options) = b.options(node)?
        && options.count(0, 4)? <= rank
        && let Some(list) = options.i32s(0)?
    {
        // A scalar in old files.
        if list == [0] {
            return Ok(Vec::new());
        }
        list.into_iter().map(i64::from).collect()
    } else if let Some(stated) = b.stated_shape(node.output()?) {
        stated.iter().map(|&dim| dim as i64).collect()
    } else {
        return malformed("its target shape is missing");
    };
    if target.len() > rank {
        return malformed(format!("its target has {} axes", target.len()));
    }
    Ok(target)
}

pub(super) fn squeeze(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let x = b.input(node, 0)?;
    let mut shape = b.shape(x)?;
    let rank = shape.len();
    let mut listed = Vec::new();
    if let Some(options) = b.options(node)? {
        if options.count(0, 4)? > b.limits().rank {
            return malformed("it lists more axes than a tensor has");
        }
        listed = options.i32s(0)?.unwrap_or_default();
    }
    let mut drop: Vec<bool> = shape
        .iter()
        .map(|&dim| listed.is_empty() && dim == 1)
        .collect();
    for axis in listed {
        let axis = axis_of(i64::from(axis), rank)?;
        if shape[axis] != 1 {
            return malformed(format!("axis {axis} of shape {shape:?} is not 1"));
        }
        drop[axis] = true;
    }
    let mut drop = drop.into_iter();
    shape.retain(|_| !drop.next().unwrap_or(false));
    reshaped(b, node, x, shape)
}

pub(super) fn expand_dims(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let x = b.input(node, 0)?;
    let mut shape = b.shape(x)?;
    let list = b.needed_ints(node, 1)?;
    let &[axis] = list.as_slice() else {
        return malformed(format!("it has {} axes, not one", list.len()));
    };
    let axis = axis_of(axis, shape.len() + 1)?;
    shape.insert(axis, 1);
    reshaped(b, node, x, shape)
}

pub(super) fn transpose(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let x = b.input(node, 0)?;
    let xs = b.shape(x)?;
    let list = b.needed_ints(node, 1)?;
    let mut perm = Vec::with_capacity(list.len().min(xs.len()));
    for &axis in &list {
        let axis = axis_of(axis, xs.len())?;
        if perm.contains(&axis) {
            return malformed("its permutation names an axis twice");
        }
        perm.push(axis);
    }
    if perm.len() != xs.len() {
        return malformed(format!(
            "its permutation has {} entries for {} axes",
            perm.len(),
            xs.len()
        ));
    }
    let shape = permuted(&xs, &perm);
    let output = node.output()?;
    let op = Op::Transpose { perm: perm.clone() };
    if let Some(tensors) = folded(b, &op, &[x], output)? {
        b.budget(&shape)?;
        let constant = evaluate(&op, &tensors, &shape)?;
        return b.set_constant(output, shape, Arc::new(constant));
    }
    let behind = Behind {
        quantize: !equal_grids(b, &[x], output)?,
        ..Behind::computed()
    };
    let from = b.order(x)?;
    let inputs = vec![b.view(x, &from)?];
    let op = Op::Transpose {
        perm: permuted(&inverse(&from), &perm),
    };
    let order = file_order(shape.len());
    b.produce(node, 0, (op, inputs), behind, shape, &order)
}

pub(super) fn concatenation(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let slots = all_inputs(b, node)?;
    let options = b.options(node)?;
    let axis = options.map_or(Ok(0), |options| options.i32(0, 0))?;
    if fused(options, 1)?.is_some() {
        return unsupported("a fused activation");
    }
    let first = b.shape(slots[0])?;
    let axis = axis_of(i64::from(axis), first.len())?;
    let mut shape = first.clone();
    shape[axis] = 0;
    for &slot in &slots {
        let own = b.shape(slot)?;
        let fits = own.len() == first.len()
            && (0..own.len()).all(|other| other == axis || own[other] == first[other]);
        if !fits {
            return malformed(format!(
                "shapes {first:?} and {own:?} do not join along axis {axis}"
            ));
        }
        shape[axis] = shape[axis].saturating_add(own[axis]);
    }
    emit(b, node, 0, Op::Concat { axis }, &slots, &shape)
}

fn all_inputs(b: &Binder, node: &FileNode) -> Outcome<Vec<Slot>> {
    if node.inputs.is_empty() {
        return malformed("it has no input");
    }
    (0..node.inputs.len()).map(|i| b.input(node, i)).collect()
}

/// Amounts before and after each axis.
fn amounts(b: &mut Binder, node: &FileNode, rank: usize) -> Outcome<(Vec<i64>, Vec<i64>)> {
    let list = b.needed_ints(node, 1)?;
    if list.len() != 2 * rank || list.iter().any(|&n| !(0..1 << 40).contains(&n)) {
        return malformed(format!(
            "its {} paddings are not two for each of {rank} axes, from 0 on",
            list.len()
        ));
    }
    Ok((
        list.iter().step_by(2).copied().collect(),
        list.iter().skip(1).step_by(2).copied().collect(),
    ))
}

fn padded(shape: &[usize], before: &[i64], after: &[i64]) -> Vec<usize> {
    let extent = |axis: usize| {
        let more = before[axis] as usize + after[axis] as usize;
        shape[axis].saturating_add(more)
    };
    (0..shape.len()).map(extent).collect()
}

/// With the code of 0.0, or with a number (`PADV2`).
pub(super) fn pad(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let x = b.operand(node, 0)?;
    let shape = b.shape(x)?;
    let (before, after) = amounts(b, node, shape.len())?;
    let mut fill = 0.0;
    if node.optional(2).is_some() {
        let slot = b.operand(node, 2)?;
        let Some(constant) = b.constant(slot)? else {
            return unsupported("a fill that is computed from data");
        };
        fill = match (&*constant, b.grid(slot)) {
            (Constant::F32(values), Grid::Float) if values.len() == 1 => values[0],
            (Constant::I64(codes), Grid::Codes(grid)) if codes.len() == 1 => {
                (codes[0] as f32 - grid.zero_point.at(0)) * grid.scale.at(0)
            }
            _ => return malformed("its fill must be one number"),
        };
        if !fill.is_finite() {
            return malformed(format!("its fill is {fill}"));
        }
    }
    let result = padded(&shape, &before, &after);
    let op = Op::Pad(Pad {
        mode: PadMode::Constant(fill),
        before,
        after,
    });
    emit(b, node, 0, op, &[x], &result)
}

pub(super) fn mirror_pad(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let x = b.operand(node, 0)?;
    let shape = b.shape(x)?;
    let (before, after) = amounts(b, node, shape.len())?;
    let symmetric = match b.options(node)?.map_or(Ok(0), |options| options.i8(0))? {
        0 => false,
        1 => true,
        other => return malformed(format!("mode {other} does not exist")),
    };
    let most = |axis: usize| before[axis].max(after[axis]) as usize;
    for (axis, &dim) in shape.iter().enumerate() {
        if most(axis) > dim.saturating_sub(usize::from(!symmetric)) {
            return malformed(format!(
                "it mirrors {} elements along axis {axis}, which has {dim}",
                most(axis)
            ));
        }
    }
    let result = padded(&shape, &before, &after);
    let op = if symmetric {
        // The edge is repeated, which no padding of ONNX does: a table an axis says the same.
        b.budget(&[result.iter().fold(0, |sum, dim| dim.saturating_add(sum))])?;
        let mirrored = |axis: usize| {
            let (dim, shift) = (shape[axis] as i64, before[axis]);
            let source = |i: usize| match i as i64 - shift {
                i if i < 0 => (-1 - i) as usize,
                i if i >= dim => (2 * dim - 1 - i) as usize,
                i => i as usize,
            };
            ResizeAxis::Nearest((0..result[axis]).map(source).collect())
        };
        Op::Resize(Resize {
            axes: (0..shape.len()).map(mirrored).collect(),
            coordinates: None,
        })
    } else {
        Op::Pad(Pad {
            mode: PadMode::Reflect,
            before,
            after,
        })
    };
    emit(b, node, 0, op, &[x], &result)
}

/// One axis of a strided slice: first index, step, number of elements.
fn strided(
    [begin, end, step]: [i64; 3],
    extent: usize,
    [begin_masked, end_masked, shrink, offset]: [bool; 4],
) -> Outcome<(usize, i64, usize)> {
    let dim = extent as i128;
    let (begin, end, step) = (i128::from(begin), i128::from(end), i128::from(step));
    if step == 0 {
        return malformed("a step is 0");
    }
    let forward = step > 0;
    let clamped = |i: i128| {
        if forward {
            i.clamp(0, dim)
        } else {
            i.clamp(-1, dim - 1)
        }
    };
    let counted = |i: i128| if i < 0 { i + dim } else { i };
    let start = match (begin_masked, forward) {
        (true, true) => 0,
        (true, false) => dim - 1,
        _ => counted(begin),
    };
    if shrink {
        return match usize::try_from(start) {
            Ok(index) if index < extent => Ok((index, 1, 1)),
            _ => malformed(format!("index {start} lies outside of {extent} elements")),
        };
    }
    let stop = match (end_masked, forward) {
        (true, true) => dim,
        (true, false) => -1,
        _ if offset => start + end,
        _ => counted(end),
    };
    let (start, stop) = (clamped(start), clamped(stop));
    let count = if forward {
        (stop - start + step - 1).div_euclid(step)
    } else {
        (start - stop - step - 1).div_euclid(-step)
    };
    if count <= 0 {
        return Ok((0, 1, 0));
    }
    match (usize::try_from(start), usize::try_from(count)) {
        // The step of a single element does not matter.
        (Ok(start), Ok(1)) => Ok((start, 1, 1)),
        (Ok(start), Ok(count)) => Ok((start, step as i64, count)),
        _ => malformed("a slice lies outside of its input"),
    }
}

/// Python's slices (`tensorflow/lite/kernels/internal/strided_slice_logic.h`).
pub(super) fn strided_slice(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let x = b.input(node, 0)?;
    let xs = b.shape(x)?;
    let lists = [
        b.needed_ints(node, 1)?,
        b.needed_ints(node, 2)?,
        b.needed_ints(node, 3)?,
    ];
    let count = lists[0].len();
    if count > xs.len() || lists.iter().any(|list| list.len() != count) {
        return malformed(format!(
            "its begin, end and strides have {}, {} and {} entries for {} axes",
            count,
            lists[1].len(),
            lists[2].len(),
            xs.len()
        ));
    }
    let options = b.options(node)?;
    let mask = |id: usize| options.map_or(Ok(0), |options| options.i32(id, 0));
    let [begin, end, ellipsis, new, shrink] = [mask(0)?, mask(1)?, mask(2)?, mask(3)?, mask(4)?];
    if ellipsis != 0 || new != 0 {
        return unsupported("an ellipsis or a new axis in the slice");
    }
    let offset = flag(options, 5)?;
    let bit = |mask: i32, axis: usize| axis < 32 && mask >> axis & 1 != 0;
    let (mut starts, mut steps, mut shape) = (vec![0; xs.len()], vec![1; xs.len()], xs.clone());
    for axis in 0..count {
        let flags = [bit(begin, axis), bit(end, axis), bit(shrink, axis), offset];
        let [from, to, by] = [0, 1, 2].map(|list| lists[list][axis]);
        (starts[axis], steps[axis], shape[axis]) = strided([from, to, by], xs[axis], flags)?;
    }
    let kept = |axis: usize| !(axis < count && bit(shrink, axis));
    let left: Vec<usize> = (0..xs.len()).filter(|&axis| kept(axis)).collect();
    let op = Op::Slice { starts, steps };
    if left.len() == xs.len() {
        return emit(b, node, 0, op, &[x], &shape);
    }
    let last = permuted(&shape, &left);
    let output = node.output()?;
    if let Some(tensors) = folded(b, &op, &[x], output)? {
        b.budget(&shape)?;
        let constant = evaluate(&op, &tensors, &shape)?;
        return b.set_constant(output, last, Arc::new(constant));
    }
    let behind = Behind {
        quantize: !equal_grids(b, &[x], output)?,
        reshape: Some(last.clone()),
        ..Behind::computed()
    };
    let inputs = vec![b.view(x, &file_order(xs.len()))?];
    let order = file_order(last.len());
    b.produce(node, 0, (op, inputs), behind, shape, &order)
}

pub(super) fn slice(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let x = b.input(node, 0)?;
    let xs = b.shape(x)?;
    let (begin, size) = (b.needed_ints(node, 1)?, b.needed_ints(node, 2)?);
    if begin.len() != xs.len() || size.len() != xs.len() {
        return malformed(format!(
            "its begin and size have {} and {} entries for {} axes",
            begin.len(),
            size.len(),
            xs.len()
        ));
    }
    let (mut starts, mut shape) = (Vec::new(), Vec::new());
    for axis in 0..xs.len() {
        let extent = xs[axis];
        let start = usize::try_from(begin[axis]).ok().filter(|&s| s <= extent);
        let count = match (start, size[axis]) {
            (Some(start), -1) => Some(extent - start),
            (Some(start), size) => usize::try_from(size).ok().filter(|&n| n <= extent - start),
            (None, _) => None,
        };
        let (Some(start), Some(count)) = (start, count) else {
            return malformed(format!(
                "{} elements from {} on do not lie in axis {axis} of shape {xs:?}",
                size[axis], begin[axis]
            ));
        };
        starts.push(start);
        shape.push(count);
    }
    let steps = vec![1; xs.len()];
    emit(b, node, 0, Op::Slice { starts, steps }, &[x], &shape)
}

/// One slice an output; the axis is the first input.
pub(super) fn split(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let x = b.input(node, 1)?;
    let shape = b.shape(x)?;
    let axis = split_axis(b, node, 0, shape.len())?;
    let parts = node.outputs.len();
    if let Some(options) = b.options(node)? {
        let stated = options.i32(0, 0)?;
        if usize::try_from(stated) != Ok(parts) {
            return malformed(format!("it says {stated} parts and has {parts} outputs"));
        }
    }
    if !shape[axis].is_multiple_of(parts) {
        return malformed(format!(
            "{} elements do not split into {parts} equal parts",
            shape[axis]
        ));
    }
    let each = shape[axis] / parts;
    parts_of(b, node, x, axis, &vec![each; parts])
}

pub(super) fn split_v(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let x = b.input(node, 0)?;
    let shape = b.shape(x)?;
    let sizes = b.needed_ints(node, 1)?;
    let axis = split_axis(b, node, 2, shape.len())?;
    let stated: i128 = sizes
        .iter()
        .filter(|&&n| n >= 0)
        .map(|&n| i128::from(n))
        .sum();
    let rest = usize::try_from(shape[axis] as i128 - stated).ok();
    let mut lengths = Vec::with_capacity(sizes.len());
    let mut open = 0;
    for &size in &sizes {
        open += usize::from(size == -1);
        lengths.push(match (usize::try_from(size), rest) {
            (Ok(length), _) => Some(length),
            (Err(_), Some(rest)) if size == -1 => Some(rest),
            _ => None,
        });
    }
    let lengths: Option<Vec<usize>> = lengths.into_iter().collect();
    match lengths {
        Some(lengths)
            if open <= 1
                && lengths.len() == node.outputs.len()
                && (open == 1 || rest == Some(0)) =>
        {
            parts_of(b, node, x, axis, &lengths)
        }
        _ => malformed(format!(
            "its {} sizes do not make {} outputs from {} elements",
            sizes.len(),
            node.outputs.len(),
            shape[axis]
        )),
    }
}

fn split_axis(b: &mut Binder, node: &FileNode, index: usize, rank: usize) -> Outcome<usize> {
    let list = b.needed_ints(node, index)?;
    match list.as_slice() {
        &[axis] => axis_of(axis, rank),
        _ => malformed(format!("it has {} axes, not one", list.len())),
    }
}

fn parts_of(
    b: &mut Binder,
    node: &FileNode,
    x: Slot,
    axis: usize,
    lengths: &[usize],
) -> Outcome<()> {
    let mut shape = b.shape(x)?;
    let mut starts = vec![0; shape.len()];
    for (output, &length) in lengths.iter().enumerate() {
        shape[axis] = length;
        let op = Op::Slice {
            starts: starts.clone(),
            steps: vec![1; shape.len()],
        };
        emit(b, node, output, op, &[x], &shape)?;
        starts[axis] += length;
    }
    Ok(())
}

/// Stacks tensors along a new axis.
pub(super) fn pack(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let slots = all_inputs(b, node)?;
    let first = b.shape(slots[0])?;
    let axis = b
        .options(node)?
        .map_or(Ok(0), |options| options.i32(1, 0))?;
    let axis = axis_of(i64::from(axis), first.len() + 1)?;
    let mut one = first.clone();
    one.insert(axis, 1);
    let mut shape = one.clone();
    shape[axis] = slots.len();
    for &slot in &slots {
        let own = b.shape(slot)?;
        if own != first {
            return malformed(format!("shapes {first:?} and {own:?} do not stack"));
        }
    }
    let output = node.output()?;
    let op = Op::Concat { axis };
    if let Some(mut tensors) = folded(b, &op, &slots, output)? {
        b.budget(&shape)?;
        for tensor in &mut tensors {
            tensor.shape.clone_from(&one);
        }
        let constant = evaluate(&op, &tensors, &shape)?;
        return b.set_constant(output, shape, Arc::new(constant));
    }
    let behind = Behind {
        quantize: !equal_grids(b, &slots, output)?,
        ..Behind::computed()
    };
    let mut inputs = Vec::with_capacity(slots.len());
    for (index, &slot) in slots.iter().enumerate() {
        let flat = b.flat_view(slot)?;
        let suffix = format!("input {index}");
        inputs.push(b.helper(node, &suffix, Op::Reshape, vec![flat], one.clone())?);
    }
    let order = file_order(shape.len());
    b.produce(node, 0, (op, inputs), behind, shape, &order)
}

/// One slice an output, without the axis.
pub(super) fn unpack(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let x = b.input(node, 0)?;
    let xs = b.shape(x)?;
    let axis = b
        .options(node)?
        .map_or(Ok(0), |options| options.i32(1, 0))?;
    let axis = axis_of(i64::from(axis), xs.len())?;
    if xs[axis] != node.outputs.len() {
        return malformed(format!(
            "{} elements do not make {} outputs",
            xs[axis],
            node.outputs.len()
        ));
    }
    let mut shape = xs.clone();
    shape[axis] = 1;
    let mut last = shape.clone();
    last.remove(axis);
    for (index, &output) in node.outputs.iter().enumerate() {
        let mut starts = vec![0; xs.len()];
        starts[axis] = index;
        let steps = vec![1; xs.len()];
        let op = Op::Slice { starts, steps };
        if let Some(tensors) = folded(b, &op, &[x], output)? {
            b.budget(&shape)?;
            let constant = evaluate(&op, &tensors, &shape)?;
            b.set_constant(output, last.clone(), Arc::new(constant))?;
            continue;
        }
        let behind = Behind {
            quantize: !equal_grids(b, &[x], output)?,
            reshape: Some(last.clone()),
            ..Behind::computed()
        };
        let inputs = vec![b.view(x, &file_order(xs.len()))?];
        let order = file_order(last.len());
        b.produce(node, index, (op, inputs), behind, shape.clone(), &order)?;
    }
    Ok(())
}

/// A constant, now that shapes are known.
pub(super) fn shape(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let x = b.input(node, 0)?;
    let dims: Vec<i64> = b.shape(x)?.iter().map(|&dim| dim as i64).collect();
    let count = dims.len();
    b.set_constant(node.output()?, vec![count], Arc::new(Constant::I64(dims)))
}

/// Depth-column-row order, as in ONNX's default.
pub(super) fn depth_to_space(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    use crate::tflite::bind::CHANNELS_FIRST;
    let x = b.operand(node, 0)?;
    let xs = b.shape(x)?;
    let &[n, height, width, channels] = xs.as_slice() else {
        return unsupported(format!("an input of shape {xs:?}; it must have 4 axes"));
    };
    let size = b
        .options(node)?
        .map_or(Ok(0), |options| options.i32(0, 0))?;
    let block = usize::try_from(size).ok().filter(|&size| size >= 1);
    let area = block
        .and_then(|size| size.checked_mul(size))
        .filter(|&area| channels.is_multiple_of(area));
    let (Some(block), Some(area)) = (block, area) else {
        return malformed(format!(
            "block size {size} does not divide {channels} channels"
        ));
    };
    let shape = vec![
        n,
        channels / area,
        height.saturating_mul(block),
        width.saturating_mul(block),
    ];
    let behind = Behind {
        quantize: !equal_grids(b, &[x], node.output()?)?,
        ..Behind::computed()
    };
    let inputs = vec![b.view(x, &CHANNELS_FIRST)?];
    let op = Op::DepthToSpace {
        block,
        depth_first: true,
    };
    b.produce(node, 0, (op, inputs), behind, shape, &CHANNELS_FIRST)
}
