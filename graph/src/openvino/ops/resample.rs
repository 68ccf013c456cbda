//! `Interpolate`.

use super::{flag, ints, needed, numbers, renamed, shown, text, with, word};
use crate::Constant;
use crate::onnx::FileNode;
use crate::onnx::bind::Binder;
use crate::onnx::fail::{Outcome, malformed, unsupported};
use crate::onnx::tensor::Tensor;

/// Versions 4 and 11, as `Resize`. Version 4 has sizes and scales, version 11 one of them.
pub(super) fn interpolate(b: &mut Binder, layer: &FileNode) -> Outcome<Option<FileNode>> {
    if layer.version < 4 {
        return unsupported("Interpolate of opset1: write the model anew with a current OpenVINO");
    }
    let by_sizes = match text(layer, "shape_calculation_mode")?.unwrap_or("") {
        "sizes" => true,
        "scales" => false,
        other => {
            return malformed(format!(
                "shape_calculation_mode '{}' does not exist",
                shown(other)
            ));
        }
    };
    let linear = match text(layer, "mode")?.unwrap_or("") {
        "nearest" => false,
        "linear" | "linear_onnx" => true,
        other => {
            return unsupported(format!(
                "mode '{}'; nearest and linear are evaluated",
                shown(other)
            ));
        }
    };
    if linear && flag(layer, "antialias")?.unwrap_or(false) {
        return unsupported("antialiasing");
    }
    for name in ["pads_begin", "pads_end"] {
        if ints(layer, name)?.is_some_and(|pads| pads.iter().any(|&p| p != 0)) {
            return unsupported("padding before the resampling");
        }
    }
    let coordinates = text(layer, "coordinate_transformation_mode")?.unwrap_or("half_pixel");
    let nearest = text(layer, "nearest_mode")?.unwrap_or("round_prefer_floor");
    let (parameter, axes) = match (layer.version >= 11, by_sizes) {
        (true, _) => (1, 2),
        (false, true) => (1, 3),
        (false, false) => (2, 3),
    };
    let rank = b.shape(b.input(layer, 0)?)?.len();
    let axes = match layer.optional(axes) {
        Some(_) => needed(b, layer, axes, "axes")?,
        None => (0..rank as i64).collect(),
    };
    let nearest = match nearest {
        // Down when growing, up when shrinking.
        "simple" if !linear => match shrinks(b, layer, parameter, &axes, by_sizes)? {
            Some(false) => "floor",
            Some(true) => "ceil",
            None => {
                return unsupported(
                    "nearest_mode 'simple' where one axis grows and another shrinks",
                );
            }
        },
        other => other,
    };
    let Some(values) = b.parameter(layer, parameter)? else {
        return malformed("its sizes or scales are missing");
    };
    let mut node = renamed(layer, "Resize", 18);
    let list = b.temporary(layer.output()?, if by_sizes { "sizes" } else { "scales" });
    let data = match (&*values.data, by_sizes) {
        (Constant::I64(sizes), true) => Constant::I64(sizes.clone()),
        (scales, false) => Constant::F32(scales.to_f32()),
        _ => return malformed("its sizes must be whole numbers"),
    };
    b.set_constant(list, Tensor::new(vec![data.len()], data))?;
    node.inputs = vec![layer.optional(0), None];
    if by_sizes {
        node.inputs.push(None);
    }
    node.inputs.push(Some(list));
    let attributes = vec![
        word("mode", if linear { "linear" } else { "nearest" }),
        word("coordinate_transformation_mode", coordinates),
        word("nearest_mode", nearest),
        numbers("axes", axes),
    ];
    Ok(Some(with(node, attributes)))
}

/// Whether the axes that change all shrink, or all grow.
fn shrinks(
    b: &Binder,
    layer: &FileNode,
    parameter: usize,
    axes: &[i64],
    by_sizes: bool,
) -> Outcome<Option<bool>> {
    let shape = b.shape(b.input(layer, 0)?)?;
    let Some(values) = b.parameter(layer, parameter)? else {
        return malformed("its sizes or scales are missing");
    };
    let (mut shrinks, mut grows) = (false, false);
    for (&axis, value) in axes.iter().zip(values.data.to_f32()) {
        let extent = shape[crate::onnx::ops::axis_of(axis, shape.len())?] as f32;
        let scale = if by_sizes { value / extent } else { value };
        shrinks |= scale < 1.0;
        grows |= scale > 1.0;
    }
    Ok((!(shrinks && grows)).then_some(shrinks))
}
