//! Resampling, resolved into one table an axis.

use super::flag;
use crate::onnx::fail::{Outcome, malformed, unsupported};
use crate::tflite::FileNode;
use crate::tflite::bind::{Behind, Binder, CHANNELS_FIRST};
use crate::{Op, Resize, ResizeAxis};

/// How positions are found.
#[derive(Clone, Copy)]
struct Coordinates {
    align_corners: bool,
    half_pixel: bool,
}

impl Coordinates {
    /// Distance between two outputs in the input.
    fn scale(self, from: usize, to: usize) -> f32 {
        if self.align_corners && to > 1 {
            (from - 1) as f32 / (to - 1) as f32
        } else {
            from as f32 / to as f32
        }
    }
}

/// The index of `(i + offset) * scale`, rounded down, or half away where corners are aligned
/// (`tensorflow/lite/kernels/internal/reference/resize_nearest_neighbor.h`).
pub(super) fn nearest(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    resize(b, node, 0, |coordinates, from, to| {
        let scale = coordinates.scale(from, to);
        let offset = if coordinates.half_pixel { 0.5 } else { 0.0 };
        let index = |i: usize| {
            let x = (i as f32 + offset) * scale;
            let index = if coordinates.align_corners {
                x.round()
            } else {
                x.floor()
            };
            (index as usize).min(from - 1)
        };
        ResizeAxis::Nearest((0..to).map(index).collect())
    })
}

/// Between the two neighbours of a position
/// (`tensorflow/lite/kernels/internal/reference/resize_bilinear.h`).
pub(super) fn bilinear(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    resize(b, node, 2, |coordinates, from, to| {
        let scale = coordinates.scale(from, to);
        let entry = |i: usize| {
            let x = if coordinates.half_pixel {
                (i as f32 + 0.5) * scale - 0.5
            } else {
                i as f32 * scale
            };
            // A negative number becomes 0.
            let left = (x.floor() as usize).min(from - 1);
            let right = (x.ceil() as usize).min(from - 1);
            let weight = if right > left { x - left as f32 } else { 0.0 };
            (left, right, weight)
        };
        ResizeAxis::Linear((0..to).map(entry).collect())
    })
}

fn resize(
    b: &mut Binder,
    node: &FileNode,
    first_flag: usize,
    table: impl Fn(Coordinates, usize, usize) -> ResizeAxis,
) -> Outcome<()> {
    let x = b.operand(node, 0)?;
    let xs = b.shape(x)?;
    let &[n, height, width, channels] = xs.as_slice() else {
        return unsupported(format!("an input of shape {xs:?}; it must have 4 axes"));
    };
    let size = b.needed_ints(node, 1)?;
    let &[to_height, to_width] = size.as_slice() else {
        return malformed(format!("its size has {} extents, not 2", size.len()));
    };
    let options = b.options(node)?;
    let coordinates = Coordinates {
        align_corners: flag(options, first_flag)?,
        half_pixel: flag(options, first_flag + 1)?,
    };
    if coordinates.align_corners && coordinates.half_pixel {
        return malformed("both align_corners and half_pixel_centers are set");
    }
    let mut axes = vec![ResizeAxis::Copy, ResizeAxis::Copy];
    let mut shape = vec![n, channels];
    for (from, to) in [(height, to_height), (width, to_width)] {
        let Some(to) = usize::try_from(to).ok().filter(|&to| to >= 1) else {
            return malformed(format!("size {to} is not positive"));
        };
        if from == 0 {
            return malformed("its input has no element");
        }
        // Bounds the table.
        b.budget(&[to])?;
        axes.push(if from == to {
            ResizeAxis::Copy
        } else {
            table(coordinates, from, to)
        });
        shape.push(to);
    }
    let equal = b.grid(x) == b.grid(node.output()?);
    let nearest = !axes
        .iter()
        .any(|axis| matches!(axis, ResizeAxis::Linear(_)));
    let behind = Behind {
        quantize: !(equal && nearest),
        ..Behind::computed()
    };
    let inputs = vec![b.view(x, &CHANNELS_FIRST)?];
    let coordinates = match coordinates {
        Coordinates {
            align_corners: true,
            ..
        } => crate::Coordinates::AlignCorners,
        Coordinates {
            half_pixel: true, ..
        } => crate::Coordinates::HalfPixel,
        Coordinates { .. } => crate::Coordinates::Asymmetric,
    };
    let op = Op::Resize(Resize {
        axes,
        coordinates: Some(coordinates),
    });
    b.produce(node, 0, (op, inputs), behind, shape, &CHANNELS_FIRST)
}
