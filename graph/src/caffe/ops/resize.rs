//! Upsampling, resolved into one table an axis.

use super::Step;
use crate::caffe::bind::Binder;
use crate::onnx::fail::{Outcome, malformed, unsupported};
use crate::onnx::tensor::elements;
use crate::{Op, Resize, ResizeAxis, ValueId};

/// Each element repeated `scale` times along both axes: what the mapper's networks use in place of an
/// interpolation (`ModelTC/MQBench` `docs/source/user_guide/hardware/nnie.rst`: "2x nearest neighbor").
pub(super) fn upsample(b: &mut Binder, step: Step) -> Outcome<()> {
    let param = step.layer.message.message("upsample_param")?;
    param.only(&["scale"])?;
    if step.inputs.len() > 1 {
        return unsupported("a second bottom, the positions of a pool's largest elements");
    }
    let (x, [_, _, height, width]) = step.image(b)?;
    let Some(scale) = param.size("scale")?.filter(|&scale| scale > 0) else {
        return malformed("'scale' is missing");
    };
    let extents = [height, width].map(|extent| (extent, extent.saturating_mul(scale)));
    emit(b, step, x, extents, |_, _, i| (i / scale, i / scale, 0.0))
}

/// Between the neighbours of a position, corners on corners
/// (`cdmh/deeplab-public` `src/caffe/layers/interp_layer.cpp`, `util/interp.cpp`).
pub(super) fn interp(b: &mut Binder, step: Step) -> Outcome<()> {
    let param = step.layer.message.message("interp_param")?;
    param.only(&[
        "height",
        "width",
        "zoom_factor",
        "shrink_factor",
        "pad_beg",
        "pad_end",
    ])?;
    if ["pad_beg", "pad_end"]
        .iter()
        .any(|pad| !matches!(param.int(pad), Ok(None | Some(0))))
    {
        return unsupported("padding");
    }
    let (x, [_, _, height, width]) = step.image(b)?;
    let size = (param.size("height")?, param.size("width")?);
    let (zoom, shrink) = (param.size("zoom_factor")?, param.size("shrink_factor")?);
    let to = match (size, zoom, shrink) {
        ((Some(height), Some(width)), None, None) => [height, width],
        ((None, None), Some(zoom), None) if zoom > 0 => {
            [height, width].map(|n| (n - 1).saturating_mul(zoom - 1).saturating_add(n))
        }
        ((None, None), None, Some(shrink)) if shrink > 0 => {
            [height, width].map(|n| (n - 1) / shrink + 1)
        }
        _ => {
            return unsupported(
                "other than one of height and width, zoom_factor, and shrink_factor",
            );
        }
    };
    let extents = [(height, to[0]), (width, to[1])];
    emit(b, step, x, extents, |from, to, i| {
        if to < 2 {
            return (0, 0, 0.0);
        }
        let scale = (from - 1) as f32 / (to - 1) as f32;
        let position = scale * i as f32;
        let left = (position as usize).min(from - 1);
        let right = (left + 1).min(from - 1);
        (left, right, position - left as f32)
    })
}

/// Emits a resampling of height and width, `(from, to)` each.
fn emit(
    b: &mut Binder,
    step: Step,
    x: ValueId,
    extents: [(usize, usize); 2],
    entry: impl Fn(usize, usize, usize) -> (usize, usize, f32),
) -> Outcome<()> {
    let mut shape = b.shape(x)[..2].to_vec();
    shape.extend(extents.map(|(_, to)| to));
    // Bounds the tables.
    if elements(&shape, b.limits())? == 0 {
        return malformed(format!("its top would have shape {shape:?}"));
    }
    let mut axes = vec![ResizeAxis::Copy, ResizeAxis::Copy];
    for (from, to) in extents {
        let table: Vec<_> = (0..to).map(|i| entry(from, to, i)).collect();
        axes.push(if from == to {
            ResizeAxis::Copy
        } else if table.iter().all(|&(_, _, weight)| weight == 0.0) {
            ResizeAxis::Nearest(table.into_iter().map(|(left, ..)| left).collect())
        } else {
            ResizeAxis::Linear(table)
        });
    }
    let op = Op::Resize(Resize {
        axes,
        coordinates: None,
    });
    b.emit(step.layer, 0, op, vec![x], shape)
}
