//! QONNX's and FINN's quantizers.
//!
//! Formulas: qonnx 1.0.0 `custom_op/general/{intquant,bipolar_quant,trunc,floatquant,multithreshold}.py`.

use crate::onnx::bind::Binder;
use crate::onnx::fail::{Outcome, malformed, shown, unsupported};
use crate::onnx::{FileNode, Slot};
use crate::{
    Affine, Minifloat, Op, PerChannel, Quantizer, Rounding, Thresholds, Trunc, TruncKind,
    ZeroPointAdded,
};

pub(super) fn lower(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let quantizer = match node.op_type.as_str() {
        "Quant" | "IntQuant" => quant(b, node)?,
        "BipolarQuant" => Quantizer::Bipolar {
            scale: scale(b, node, 1)?,
        },
        "Trunc" => trunc(b, node)?,
        "FloatQuant" => float_quant(b, node)?,
        "MultiThreshold" => multi_threshold(b, node)?,
        _ => return unsupported("this operator is not evaluated"),
    };
    super::same(b, node, Op::Quantize(quantizer))
}

fn quant(b: &Binder, node: &FileNode) -> Outcome<Quantizer> {
    let attrs = node.attrs();
    // The code defaults to 1, the document says 0: only the file can tell.
    let Some(narrow) = attrs.int("narrow")? else {
        return malformed(
            "attribute 'narrow' is missing; QONNX's code and document differ in its default",
        );
    };
    let scale = scale(b, node, 1)?;
    let zero_point = zero_point(b, node, 2, &scale)?;
    Ok(Quantizer::Affine(Affine {
        scale,
        zero_point,
        bits: width(b, node, 3, "bit width")?,
        signed: attrs.flag("signed", true)?,
        narrow: narrow != 0,
        rounding: rounding(node)?,
        zero_point_added: ZeroPointAdded::BeforeRounding,
        multiplier: None,
    }))
}

fn trunc(b: &Binder, node: &FileNode) -> Outcome<Quantizer> {
    let attrs = node.attrs();
    let rounding = rounding(node)?;
    let second = node.version >= 2 || node.optional(5).is_some();
    let step = scale(b, node, 1)?;
    let zero_point = zero_point(b, node, 2, &step)?;
    let in_bits = width(b, node, 3, "input bit width")?;
    let kind = if second {
        if node.optional(5).is_none() {
            return malformed("Trunc of version 2 needs 6 inputs");
        }
        let out_scale = scale(b, node, 4)?;
        same_axis(&step, &out_scale)?;
        TruncKind::V2 {
            out_scale,
            out_bits: width(b, node, 5, "output bit width")?,
            signed: attrs.flag("signed", true)?,
            narrow: attrs.flag("narrow", false)?,
        }
    } else {
        let out_bits = width(b, node, 4, "output bit width")?;
        TruncKind::V1 {
            shift: in_bits as i32 - out_bits as i32,
        }
    };
    Ok(Quantizer::Trunc(Trunc {
        scale: step,
        zero_point,
        rounding,
        kind,
    }))
}

fn float_quant(b: &Binder, node: &FileNode) -> Outcome<Quantizer> {
    let attrs = node.attrs();
    let whole = |index: usize, what: &str, least: f32, most: f32| -> Outcome<u32> {
        let bits = required(b, node, index, what)?;
        if bits.fract() != 0.0 || !(least..=most).contains(&bits) {
            return unsupported(format!(
                "{what} {bits}; it must be a whole number from {least} to {most}"
            ));
        }
        Ok(bits as u32)
    };
    // The formats that float32 arithmetic can hold.
    let exponent_bits = whole(2, "exponent width", 1.0, 8.0)?;
    let mantissa_bits = whole(3, "mantissa width", 0.0, 23.0)?;
    let exponent_bias = required(b, node, 4, "exponent bias")?;
    if !exponent_bias.is_finite() {
        return malformed("its exponent bias is not finite");
    }
    let max_value = b.scalar(node, 5)?.unwrap_or(f32::INFINITY);
    if max_value.is_nan() || max_value <= 0.0 {
        return malformed(format!("its maximum {max_value} is not positive"));
    }
    let quantizer = Minifloat {
        scale: scale(b, node, 1)?,
        exponent_bits,
        mantissa_bits,
        exponent_bias,
        max_value,
        saturating: attrs.flag("saturation", true)?,
        has_inf: attrs.flag("has_inf", false)?,
        has_nan: attrs.flag("has_nan", false)?,
        has_subnormal: attrs.flag("has_subnormal", false)?,
        rounding: rounding(node)?,
    };
    if !quantizer.saturating && !quantizer.has_inf && !quantizer.has_nan {
        return malformed(
            "it neither saturates nor has infinities or NaNs for values beyond its maximum",
        );
    }
    Ok(Quantizer::Minifloat(quantizer))
}

fn multi_threshold(b: &Binder, node: &FileNode) -> Outcome<Quantizer> {
    let attrs = node.attrs();
    let x = b.shape(b.input(node, 0)?)?;
    let Some(table) = b.parameter(node, 1)? else {
        return malformed("its thresholds are missing");
    };
    let &[channels, steps] = table.shape.as_slice() else {
        return malformed(format!(
            "its thresholds of shape {:?} must be a matrix",
            table.shape
        ));
    };
    let axis = channel_axis(attrs.string("data_layout")?.unwrap_or(""), x.len())?;
    let Some(&extent) = x.get(axis) else {
        return malformed(format!(
            "its input of shape {x:?} has no channel axis {axis}"
        ));
    };
    if steps == 0 || (channels != 1 && channels != extent) {
        return malformed(format!(
            "its thresholds of shape {:?} do not fit the {extent} channels of its input",
            table.shape
        ));
    }
    let thresholds = table.data.to_f32();
    if thresholds.iter().any(|t| t.is_nan()) {
        return malformed("a threshold is not a number");
    }
    let out_scale = attrs.float_or("out_scale", 1.0)?;
    let out_bias = attrs.float_or("out_bias", 0.0)?;
    if !out_scale.is_finite() || out_scale == 0.0 || !out_bias.is_finite() {
        return malformed(format!(
            "its output scale {out_scale} or bias {out_bias} is zero or not finite"
        ));
    }
    Ok(Quantizer::Thresholds(Thresholds {
        thresholds,
        channels,
        steps,
        axis,
        out_scale,
        out_bias,
    }))
}

/// Where the channels are: by the layout's name, or else by the rank (qonnx 1.0.0
/// `multithreshold.py`: NC, NWC, NCHW for ranks 2, 3, 4; axis 1 beyond).
fn channel_axis(layout: &str, rank: usize) -> Outcome<usize> {
    if layout.is_empty() {
        return Ok(if rank == 3 { 2 } else { 1 });
    }
    let axis = layout.chars().position(|c| c == 'C').unwrap_or(1);
    if axis >= rank {
        return malformed(format!(
            "data_layout '{}' does not fit {rank} axes",
            shown(layout)
        ));
    }
    Ok(axis)
}

/// All spellings that qonnx 1.0.0 resolves (`intquant.py`, `resolve_rounding_mode`), in any case; where
/// the attribute is missing, the operator's own default (`Quant`: `ROUND`, `Trunc`: `FLOOR`).
fn rounding(node: &FileNode) -> Outcome<Rounding> {
    let default = if node.op_type == "Trunc" {
        "FLOOR"
    } else {
        "ROUND"
    };
    let mode = node.attrs().string("rounding_mode")?.unwrap_or(default);
    Ok(match mode.to_ascii_uppercase().as_str() {
        "ROUND" | "HALF_EVEN" => Rounding::HalfEven,
        "CEIL" => Rounding::Ceil,
        "FLOOR" => Rounding::Floor,
        "UP" => Rounding::AwayFromZero,
        "DOWN" => Rounding::TowardZero,
        "HALF_UP" => Rounding::HalfAway,
        "HALF_DOWN" => Rounding::HalfTowardZero,
        _ => {
            return malformed(format!(
                "rounding_mode '{}' does not exist in QONNX",
                shown(mode)
            ));
        }
    })
}

/// A parameter of one number (any shape with one element).
fn required(b: &Binder, node: &FileNode, index: usize, what: &str) -> Outcome<f32> {
    match b.scalar(node, index)? {
        Some(x) => Ok(x),
        None => malformed(format!("its {what} is missing (input {})", index + 1)),
    }
}

/// A width in bits; a tensor of equal ones is one.
fn width(b: &Binder, node: &FileNode, index: usize, what: &str) -> Outcome<u32> {
    let Some(tensor) = b.parameter(node, index)? else {
        return malformed(format!("its {what} is missing (input {})", index + 1));
    };
    let values = tensor.data.to_f32();
    let Some(&bits) = values.first() else {
        return malformed(format!("its {what} is empty"));
    };
    if values.iter().any(|other| other.to_bits() != bits.to_bits()) {
        return unsupported(format!("its {what} differs from channel to channel"));
    }
    if bits.fract() != 0.0 || bits < 1.0 || bits.is_nan() {
        return malformed(format!(
            "its {what} is {bits}; it must be a whole number from 1 to 32"
        ));
    }
    if bits > 32.0 {
        return unsupported(format!(
            "its {what} is {bits}; more than 32 are not evaluated"
        ));
    }
    Ok(bits as u32)
}

/// A step: finite and positive.
fn scale(b: &Binder, node: &FileNode, index: usize) -> Outcome<PerChannel<f32>> {
    let x = b.input(node, 0)?;
    let scale = per_channel(b, node, x, index, "scale")?;
    match scale
        .values
        .iter()
        .position(|s| !(s.is_finite() && *s > 0.0))
    {
        None => Ok(scale),
        Some(channel) => malformed(format!(
            "its scale is {} (channel {channel}); it must be finite and positive",
            scale.values[channel]
        )),
    }
}

fn zero_point(
    b: &Binder,
    node: &FileNode,
    index: usize,
    scale: &PerChannel<f32>,
) -> Outcome<PerChannel<f32>> {
    let x = b.input(node, 0)?;
    let zero_point = per_channel(b, node, x, index, "zero point")?;
    if let Some(bad) = zero_point.values.iter().find(|z| !z.is_finite()) {
        return malformed(format!("its zero point is {bad}"));
    }
    same_axis(scale, &zero_point)?;
    Ok(zero_point)
}

fn same_axis(a: &PerChannel<f32>, b: &PerChannel<f32>) -> Outcome<()> {
    match (a.axis, b.axis) {
        (Some(x), Some(y)) if x != y => unsupported(format!(
            "parameters that vary along axis {x} and along axis {y}"
        )),
        _ => Ok(()),
    }
}

/// Fits a parameter to the quantized tensor by numpy's broadcasting: one number, or one for each
/// index of one axis.
pub(super) fn per_channel(
    b: &Binder,
    node: &FileNode,
    x: Slot,
    index: usize,
    what: &str,
) -> Outcome<PerChannel<f32>> {
    let Some(tensor) = b.parameter(node, index)? else {
        return malformed(format!("its {what} is missing (input {})", index + 1));
    };
    let shape = b.shape(x)?;
    let values = tensor.data.to_f32();
    match values.as_slice() {
        [] => return malformed(format!("its {what} is empty")),
        &[value] => return Ok(PerChannel::uniform(value)),
        _ => {}
    }
    let long: Vec<usize> = (0..tensor.shape.len())
        .filter(|&axis| tensor.shape[axis] != 1)
        .collect();
    let &[from_start] = long.as_slice() else {
        return unsupported(format!(
            "its {what} of shape {:?} varies along several axes; one axis at most is evaluated",
            tensor.shape
        ));
    };
    let from_end = tensor.shape.len() - from_start;
    match shape.len().checked_sub(from_end) {
        Some(axis) if shape[axis] == values.len() => Ok(PerChannel {
            values,
            axis: Some(axis),
        }),
        _ => malformed(format!(
            "its {what} of shape {:?} does not broadcast to the quantized tensor's {shape:?}",
            tensor.shape
        )),
    }
}
