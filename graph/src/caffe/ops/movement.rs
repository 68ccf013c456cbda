//! Layers that move elements: joining, cutting, reshaping.

use super::Step;
use crate::caffe::bind::{Binder, axis};
use crate::onnx::fail::{Outcome, malformed, unsupported};
use crate::onnx::tensor::elements;
use crate::{Op, ValueId};

pub(super) fn identity(b: &mut Binder, step: Step) -> Outcome<()> {
    let x = step.one()?;
    let shape = b.shape(x).to_vec();
    b.emit(step.layer, 0, Op::Identity, vec![x], shape)
}

/// The bottom, once for each top.
pub(super) fn split(b: &mut Binder, step: Step) -> Outcome<()> {
    let x = step.one()?;
    let shape = b.shape(x).to_vec();
    for index in 0..step.layer.tops.len() {
        b.emit(step.layer, index, Op::Identity, vec![x], shape.clone())?;
    }
    Ok(())
}

pub(super) fn concat(b: &mut Binder, step: Step) -> Outcome<()> {
    let param = step.layer.message.message("concat_param")?;
    param.only(&["axis", "concat_dim"])?;
    let Some(&first) = step.inputs.first() else {
        return malformed("it has no bottom");
    };
    let mut shape = b.shape(first).to_vec();
    if param.has("axis") && param.has("concat_dim") {
        return malformed("both axis and concat_dim are given");
    }
    let along = param.int("axis")?.or(param.int("concat_dim")?);
    let axis = axis(along.unwrap_or(1), shape.len())?;
    for &id in &step.inputs[1..] {
        let other = b.shape(id);
        let fits = other.len() == shape.len()
            && (0..shape.len()).all(|a| a == axis || other[a] == shape[a]);
        if !fits {
            return malformed(format!("bottoms of shapes {shape:?} and {other:?}"));
        }
        shape[axis] = shape[axis].saturating_add(other[axis]);
    }
    if step.inputs.len() == 1 {
        return identity(b, step);
    }
    b.emit(
        step.layer,
        0,
        Op::Concat { axis },
        step.inputs.to_vec(),
        shape,
    )
}

/// Parts of `x`: starts and extents.
fn part(
    b: &mut Binder,
    step: Step,
    index: usize,
    x: ValueId,
    starts: Vec<usize>,
    shape: Vec<usize>,
) -> Outcome<()> {
    let op = Op::Slice {
        steps: vec![1; starts.len()],
        starts,
    };
    b.emit(step.layer, index, op, vec![x], shape)
}

/// Cut at `slice_point`, or into equal parts (`BVLC/caffe` `src/caffe/layers/slice_layer.cpp`).
pub(super) fn slice(b: &mut Binder, step: Step) -> Outcome<()> {
    let param = step.layer.message.message("slice_param")?;
    param.only(&["axis", "slice_dim", "slice_point"])?;
    let x = step.one()?;
    let shape = b.shape(x).to_vec();
    if param.has("axis") && param.has("slice_dim") {
        return malformed("both axis and slice_dim are given");
    }
    let along = param.int("axis")?.or(param.int("slice_dim")?);
    let axis = axis(along.unwrap_or(1), shape.len())?;
    let (extent, tops) = (shape[axis], step.layer.tops.len());
    let mut points = param.sizes("slice_point")?;
    if points.is_empty() {
        if extent % tops != 0 {
            return malformed(format!("{extent} channels cannot be cut into {tops} parts"));
        }
        points = (1..tops).map(|i| i * (extent / tops)).collect();
    }
    points.insert(0, 0);
    points.push(extent);
    if points.len() != tops + 1 || points.windows(2).any(|p| p[0] >= p[1]) {
        return malformed(format!("its cuts do not give {tops} parts of {extent}"));
    }
    for (index, ends) in points.windows(2).enumerate() {
        let mut starts = vec![0; shape.len()];
        starts[axis] = ends[0];
        let mut own = shape.clone();
        own[axis] = ends[1] - ends[0];
        part(b, step, index, x, starts, own)?;
    }
    Ok(())
}

/// The first bottom cut to the extents of the second, from `axis` on
/// (`BVLC/caffe` `src/caffe/layers/crop_layer.cpp`).
pub(super) fn crop(b: &mut Binder, step: Step) -> Outcome<()> {
    let param = step.layer.message.message("crop_param")?;
    param.only(&["axis", "offset"])?;
    let &[x, like] = step.inputs else {
        return malformed(format!("it has {} bottoms, not two", step.inputs.len()));
    };
    let (mut shape, like) = (b.shape(x).to_vec(), b.shape(like).to_vec());
    let from = axis(param.int("axis")?.unwrap_or(2), shape.len())?;
    let offsets = param.sizes("offset")?;
    if like.len() != shape.len() || !(offsets.len() <= 1 || offsets.len() == shape.len() - from) {
        return malformed(format!(
            "bottoms of shapes {shape:?} and {like:?}, cut from axis {from} on with {} offsets",
            offsets.len()
        ));
    }
    let mut starts = vec![0; shape.len()];
    for axis in from..shape.len() {
        let offset = match offsets.as_slice() {
            [] => 0,
            [one] => *one,
            each => each[axis - from],
        };
        if offset.saturating_add(like[axis]) > shape[axis] {
            return malformed(format!(
                "axis {axis} has {} elements, it would take {} from {offset} on",
                shape[axis], like[axis]
            ));
        }
        starts[axis] = offset;
        shape[axis] = like[axis];
    }
    part(b, step, 0, x, starts, shape)
}

pub(super) fn flatten(b: &mut Binder, step: Step) -> Outcome<()> {
    let param = step.layer.message.message("flatten_param")?;
    param.only(&["axis", "end_axis"])?;
    let x = step.one()?;
    let shape = b.shape(x).to_vec();
    let first = axis(param.int("axis")?.unwrap_or(1), shape.len())?;
    let last = axis(param.int("end_axis")?.unwrap_or(-1), shape.len())?;
    if last < first {
        return malformed(format!("axes from {first} to {last}"));
    }
    let mut out = shape[..first].to_vec();
    out.push(elements(&shape[first..=last], b.limits())?);
    out.extend(&shape[last + 1..]);
    b.emit(step.layer, 0, Op::Reshape, vec![x], out)
}

/// New extents for the axes from `axis` on: 0 keeps the bottom's, -1 takes what is left
/// (`BVLC/caffe` `src/caffe/layers/reshape_layer.cpp`).
pub(super) fn reshape(b: &mut Binder, step: Step) -> Outcome<()> {
    let param = step.layer.message.message("reshape_param")?;
    param.only(&["shape", "axis", "num_axes"])?;
    let x = step.one()?;
    let shape = b.shape(x).to_vec();
    let rank = shape.len();
    let dims = param.message("shape")?.ints("dim")?;
    let from = param.int("axis")?.unwrap_or(0);
    // One behind the last axis is allowed here.
    let from = if from < 0 {
        from + rank as i64 + 1
    } else {
        from
    };
    let end = match param.int("num_axes")?.unwrap_or(-1) {
        -1 => rank as i64,
        count => from.saturating_add(count),
    };
    let (Ok(from), Ok(end)) = (usize::try_from(from), usize::try_from(end)) else {
        return malformed("its axes lie outside the bottom");
    };
    if from > end || end > rank {
        return malformed("its axes lie outside the bottom");
    }
    let mut middle = Vec::with_capacity(dims.len());
    let mut open = None;
    for (index, &dim) in dims.iter().enumerate() {
        middle.push(match dim {
            0 if from + index < rank => shape[from + index],
            -1 if open.is_none() => {
                open = Some(index);
                1
            }
            dim => match usize::try_from(dim) {
                Ok(dim) if dim > 0 => dim,
                _ => return malformed(format!("it cannot take the extents {dims:?}")),
            },
        });
    }
    let count = elements(&shape[from..end], b.limits())?;
    let given = elements(&middle, b.limits())?;
    if let Some(open) = open {
        middle[open] = count / given;
    }
    if elements(&middle, b.limits())? != count {
        return malformed(format!("shape {shape:?} does not fit the extents {dims:?}"));
    }
    let mut out = shape[..from].to_vec();
    out.extend(middle);
    out.extend(&shape[end..]);
    b.emit(step.layer, 0, Op::Reshape, vec![x], out)
}

/// Axes in another order (`weiliu89/caffe` `src/caffe/layers/permute_layer.cpp`): those that `order` leaves out
/// follow in theirs.
pub(super) fn permute(b: &mut Binder, step: Step) -> Outcome<()> {
    let param = step.layer.message.message("permute_param")?;
    param.only(&["order"])?;
    let x = step.one()?;
    let shape = b.shape(x).to_vec();
    let mut perm = param.sizes("order")?;
    let twice = (0..perm.len()).any(|i| perm[..i].contains(&perm[i]) || perm[i] >= shape.len());
    if perm.len() > shape.len() || twice {
        return malformed(format!("order {perm:?} of {} axes", shape.len()));
    }
    for axis in 0..shape.len() {
        if !perm.contains(&axis) {
            perm.push(axis);
        }
    }
    let out = perm.iter().map(|&axis| shape[axis]).collect();
    b.emit(step.layer, 0, Op::Transpose { perm }, vec![x], out)
}

/// `ShuffleNet`'s layer: `(N, g * k, H, W)` seen as `(N, g, k, H, W)`, `g` and `k` exchanged
/// (`farmingyard/ShuffleNet` `shuffle_channel_layer.cpp`).
pub(super) fn shuffle_channel(b: &mut Binder, step: Step) -> Outcome<()> {
    let param = step.layer.message.message("shuffle_channel_param")?;
    param.only(&["group"])?;
    let (x, [batch, channels, height, width]) = step.image(b)?;
    let groups = param.size("group")?.unwrap_or(1);
    if groups == 0 || channels % groups != 0 {
        return malformed(format!("{channels} channels in {groups} groups"));
    }
    if b.limits().rank < 5 {
        return unsupported("five axes");
    }
    let size = channels / groups;
    let split = vec![batch, groups, size, height, width];
    let turned = vec![batch, size, groups, height, width];
    let x = b.helper(step.layer, "split", Op::Reshape, vec![x], split)?;
    let perm = vec![0, 2, 1, 3, 4];
    let x = b.helper(
        step.layer,
        "turned",
        Op::Transpose { perm },
        vec![x],
        turned,
    )?;
    let shape = vec![batch, channels, height, width];
    b.emit(step.layer, 0, Op::Reshape, vec![x], shape)
}
