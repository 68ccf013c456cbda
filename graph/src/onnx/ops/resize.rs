//! Resampling, resolved into one table an axis. Coordinates are computed in `f32`, in ONNX Runtime's
//! order of operations (`core/providers/cpu/tensor/upsamplebase.h`; 9,576 combinations of mode, opset
//! and odd sizes give onnxruntime 1.32.0's indices and weights).

use super::axes_of;
use crate::onnx::FileNode;
use crate::onnx::bind::Binder;
use crate::onnx::fail::{Outcome, malformed, shown, unsupported};
use crate::onnx::tensor::elements;
use crate::{Op, Resize, ResizeAxis};

/// `coordinate_transformation_mode`.
#[derive(Clone, Copy, PartialEq)]
enum Coordinates {
    HalfPixel,
    PytorchHalfPixel,
    HalfPixelSymmetric,
    Asymmetric,
    AlignCorners,
    /// Opsets 11 and 12 only.
    HalfPixelForNearest,
}

/// What happens between two elements.
#[derive(Clone, Copy, PartialEq)]
enum Between {
    Linear,
    PreferFloor,
    PreferCeil,
    Floor,
    Ceil,
    /// Opsets below 11: toward zero when growing, up when shrinking.
    Simple,
}

/// How one axis changes.
struct Axis {
    from: usize,
    to: usize,
    scale: f32,
}

pub(super) fn upsample(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let between = old_mode(node)?;
    let scales = if node.version >= 9 {
        floats(b, node, 1)?
    } else if node.version >= 7 {
        node.attrs().floats("scales")?.map(<[_]>::to_vec)
    } else {
        return unsupported("Upsample of opsets below 7: convert the model to opset 9 or later");
    };
    let Some(scales) = scales else {
        return malformed("its scales are missing");
    };
    let input = b.shape(b.input(node, 0)?)?.to_vec();
    let axes = scaled(&input, &scales)?;
    emit(b, node, &axes, Coordinates::Asymmetric, between)
}

pub(super) fn resize(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let input = b.shape(b.input(node, 0)?)?.to_vec();
    if node.version < 11 {
        let between = old_mode(node)?;
        let Some(scales) = floats(b, node, 1)? else {
            return malformed("its scales are missing");
        };
        return emit(
            b,
            node,
            &scaled(&input, &scales)?,
            Coordinates::Asymmetric,
            between,
        );
    }
    let attrs = node.attrs();
    let between = match attrs.string("mode")?.unwrap_or("nearest") {
        "linear" => Between::Linear,
        "nearest" => match attrs
            .string("nearest_mode")?
            .unwrap_or("round_prefer_floor")
        {
            "round_prefer_floor" => Between::PreferFloor,
            "round_prefer_ceil" => Between::PreferCeil,
            "floor" => Between::Floor,
            "ceil" => Between::Ceil,
            other => return malformed(format!("nearest_mode '{}' does not exist", shown(other))),
        },
        other => {
            return unsupported(format!(
                "mode '{}'; nearest and linear are evaluated",
                shown(other)
            ));
        }
    };
    let coordinates = match attrs
        .string("coordinate_transformation_mode")?
        .unwrap_or("half_pixel")
    {
        "half_pixel" => Coordinates::HalfPixel,
        "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
        "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
        "asymmetric" => Coordinates::Asymmetric,
        "align_corners" => Coordinates::AlignCorners,
        "tf_half_pixel_for_nn" => Coordinates::HalfPixelForNearest,
        other => return unsupported(format!("coordinate_transformation_mode '{}'", shown(other))),
    };
    if attrs.flag("antialias", false)? && between == Between::Linear {
        return unsupported("antialiasing");
    }
    if coordinates == Coordinates::HalfPixelForNearest && between == Between::Linear {
        return unsupported(
            "coordinate_transformation_mode 'tf_half_pixel_for_nn' with mode 'linear'",
        );
    }
    let rank = input.len();
    let axes = match attrs.ints("axes")? {
        Some(list) if node.version >= 18 => {
            axes_of(list, rank)?;
            list.iter()
                .map(|&axis| super::axis_of(axis, rank))
                .collect::<Outcome<Vec<_>>>()?
        }
        _ => (0..rank).collect(),
    };
    // PyTorch leaves the unused one of the two empty.
    let scales = floats(b, node, 2)?.filter(|s| !s.is_empty());
    let sizes = b.ints(node, 3)?.filter(|s| !s.is_empty());
    let resized = match (scales, sizes) {
        (Some(scales), None) => {
            let mut all = vec![1.0; rank];
            place(&mut all, &axes, &scales)?;
            scaled(&input, &all)?
        }
        (None, Some(sizes)) => {
            let policy = attrs
                .string("keep_aspect_ratio_policy")?
                .unwrap_or("stretch");
            if policy != "stretch" {
                return unsupported(format!("keep_aspect_ratio_policy '{}'", shown(policy)));
            }
            let mut all: Vec<i64> = input.iter().map(|&d| d as i64).collect();
            place(&mut all, &axes, &sizes)?;
            sized(&input, &all)?
        }
        (None, None) => return malformed("it has neither scales nor sizes"),
        (Some(_), Some(_)) => return malformed("it has both scales and sizes"),
    };
    emit(b, node, &resized, coordinates, between)
}

/// `mode` below opset 11.
fn old_mode(node: &FileNode) -> Outcome<Between> {
    match node.attrs().string("mode")?.unwrap_or("nearest") {
        "nearest" => Ok(Between::Simple),
        "linear" | "bilinear" => Ok(Between::Linear),
        other => unsupported(format!(
            "mode '{}'; nearest and linear are evaluated",
            shown(other)
        )),
    }
}

fn floats(b: &Binder, node: &FileNode, index: usize) -> Outcome<Option<Vec<f32>>> {
    Ok(b.parameter(node, index)?.map(|tensor| tensor.data.to_f32()))
}

/// Puts the entries of a list at the axes that it is for.
fn place<T: Copy>(all: &mut [T], axes: &[usize], list: &[T]) -> Outcome<()> {
    if list.len() != axes.len() {
        return malformed(format!(
            "it has {} scales or sizes for {} axes",
            list.len(),
            axes.len()
        ));
    }
    for (&axis, &entry) in axes.iter().zip(list) {
        all[axis] = entry;
    }
    Ok(())
}

fn scaled(input: &[usize], scales: &[f32]) -> Outcome<Vec<Axis>> {
    if scales.len() != input.len() {
        return malformed(format!(
            "it has {} scales for {} axes",
            scales.len(),
            input.len()
        ));
    }
    let axis = |(&from, &scale): (&usize, &f32)| {
        if !(scale.is_finite() && scale > 0.0) {
            return malformed(format!("scale {scale} is not positive"));
        }
        Ok(Axis {
            from,
            to: (scale * from as f32) as usize,
            scale,
        })
    };
    input.iter().zip(scales).map(axis).collect()
}

fn sized(input: &[usize], sizes: &[i64]) -> Outcome<Vec<Axis>> {
    let axis = |(&from, &size): (&usize, &i64)| match usize::try_from(size) {
        Ok(to) if to >= 1 => Ok(Axis {
            from,
            to,
            scale: to as f32 / from as f32,
        }),
        _ => malformed(format!("size {size} is not positive")),
    };
    input.iter().zip(sizes).map(axis).collect()
}

fn emit(
    b: &mut Binder,
    node: &FileNode,
    axes: &[Axis],
    coordinates: Coordinates,
    between: Between,
) -> Outcome<()> {
    let x = b.input(node, 0)?;
    let shape: Vec<usize> = axes.iter().map(|axis| axis.to).collect();
    // Bounds each table below; the budget bounds all of them.
    if elements(&shape, b.limits())? == 0 || axes.iter().any(|axis| axis.from == 0) {
        return malformed(format!(
            "its output has shape {shape:?}, which has no element"
        ));
    }
    for axis in axes.iter().filter(|axis| axis.scale != 1.0) {
        b.budget(&[axis.to])?;
    }
    // ONNX Runtime copies where no extent changes, whatever the scales.
    let unchanged = axes.iter().all(|axis| axis.from == axis.to);
    let resolve = |axis| {
        if unchanged {
            ResizeAxis::Copy
        } else {
            table(axis, coordinates, between)
        }
    };
    let axes = axes.iter().map(resolve).collect();
    b.emit(
        node,
        Op::Resize(Resize {
            axes,
            coordinates: None,
        }),
        &[x],
        shape,
        node.output()?,
    )
}

fn table(axis: &Axis, coordinates: Coordinates, between: Between) -> ResizeAxis {
    if axis.from == axis.to && axis.scale == 1.0 {
        return ResizeAxis::Copy;
    }
    let last = axis.from - 1;
    let positions = (0..axis.to).map(|index| source(axis, index, coordinates));
    if between == Between::Linear {
        let weigh = |x: f32| {
            let x = if x < 0.0 { 0.0 } else { x.min(last as f32) };
            let left = (x as usize).min(last);
            (left, (left + 1).min(last), x - left as f32)
        };
        return ResizeAxis::Linear(positions.map(weigh).collect());
    }
    let nearest = |x: f32| {
        let below = x.floor();
        let rounded = match between {
            Between::PreferFloor | Between::PreferCeil => {
                let rest = x - below;
                // ONNX asks for exact halves; onnxruntime 1.32.0 takes for halves what lies nearer
                // than this (measured: 9.54e-7 does, 1.01e-6 does not).
                let up = if (rest - 0.5).abs() < 1e-6 {
                    between == Between::PreferCeil
                } else {
                    rest > 0.5
                };
                if up { below + 1.0 } else { below }
            }
            Between::Ceil => x.ceil(),
            Between::Simple if axis.scale < 1.0 => x.ceil(),
            Between::Simple => x.trunc(),
            Between::Floor | Between::Linear => below,
        };
        // A negative number becomes 0.
        (rounded as usize).min(last)
    };
    ResizeAxis::Nearest(positions.map(nearest).collect())
}

/// Where an output index lies in the input.
fn source(axis: &Axis, index: usize, coordinates: Coordinates) -> f32 {
    let (x, from, to) = (index as f32, axis.from as f32, axis.to as f32);
    let half_pixel = (x + 0.5) / axis.scale - 0.5;
    match coordinates {
        Coordinates::HalfPixel => half_pixel,
        Coordinates::PytorchHalfPixel => {
            if axis.to > 1 {
                half_pixel
            } else {
                0.0
            }
        }
        Coordinates::HalfPixelSymmetric => {
            let adjustment = to / (axis.scale * from);
            let offset = from / 2.0 * (1.0 - adjustment);
            // The constants make these operations double in ONNX Runtime.
            (f64::from(offset) + (f64::from(x) + 0.5) / f64::from(axis.scale) - 0.5) as f32
        }
        Coordinates::Asymmetric => x / axis.scale,
        Coordinates::AlignCorners => {
            if axis.to == 1 {
                0.0
            } else {
                x * (from - 1.0) / (to - 1.0)
            }
        }
        Coordinates::HalfPixelForNearest => (x + 0.5) / axis.scale,
    }
}
