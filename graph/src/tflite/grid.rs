//! Quantization parameters of a tensor.

use super::flat::Table;
use super::schema::{Type, quantization};
use crate::onnx::fail::{Outcome, malformed};
use crate::{Affine, PerChannel, Rounding, ZeroPointAdded};

/// What a tensor's elements mean.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Grid {
    /// Reals.
    Float,
    /// Codes of a grid; an axis is one of the file's.
    Codes(Affine),
    /// Integers without quantization parameters.
    Bare {
        /// Width.
        bits: u32,
        /// Sign.
        signed: bool,
    },
    /// Something that arithmetic cannot use.
    Unknown(String),
}

impl Grid {
    /// How a value of this tensor is stored. Integers without parameters mean themselves.
    pub(super) fn stored(&self) -> Option<Affine> {
        match self {
            Self::Codes(affine) => Some(affine.clone()),
            Self::Bare { bits, signed } if *bits <= 32 => Some(affine(
                PerChannel::uniform(1.0),
                PerChannel::uniform(0.0),
                *bits,
                *signed,
            )),
            _ => None,
        }
    }
}

/// A grid as `QUANTIZE` makes it: `round_half_away(x / scale) + zero_point`, saturated
/// (`tensorflow/lite/kernels/internal/reference/quantize.h`).
pub(super) fn affine(
    scale: PerChannel<f32>,
    zero_point: PerChannel<f32>,
    bits: u32,
    signed: bool,
) -> Affine {
    Affine {
        scale,
        zero_point,
        bits,
        signed,
        narrow: false,
        rounding: Rounding::HalfAway,
        zero_point_added: ZeroPointAdded::AfterRounding,
        multiplier: None,
    }
}

/// A tensor's grid, and whether its channel axis had to be assumed.
pub(super) fn of(
    kind: Type,
    shape: &[usize],
    quantization: Option<Table>,
    budget: &mut usize,
) -> Outcome<(Grid, bool)> {
    if kind.is_float() {
        // Ranges that a converter left there mean nothing for reals.
        return Ok((Grid::Float, false));
    }
    let Some((bits, signed)) = kind.integer() else {
        let what = format!("its element type {} is not evaluated", kind.name());
        return Ok((Grid::Unknown(what), false));
    };
    let bare = Ok((Grid::Bare { bits, signed }, false));
    let Some(table) = quantization else {
        return bare;
    };
    let unknown = |what: String| Ok((Grid::Unknown(what), false));
    match table.u8(quantization::DETAILS_TYPE)? {
        0 => {}
        1 => return unknown("it has custom quantization parameters".to_owned()),
        2 => return unknown("it is quantized in blocks".to_owned()),
        other => return unknown(format!("its quantization is of kind {other}")),
    }
    let scales = table.count(quantization::SCALE, 4)?;
    let zeros = table.count(quantization::ZERO_POINT, 8)?;
    if scales == 0 {
        return bare;
    }
    let numbers = scales.saturating_add(zeros);
    if numbers > *budget {
        return malformed(
            "the file has more quantization parameters than the limit (--max-constants)",
        );
    }
    *budget -= numbers;
    let scale = table.f32s(quantization::SCALE)?;
    let mut zero = table.i64s(quantization::ZERO_POINT)?;
    if let Some(bad) = scale.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
        return unknown(format!("its scale {bad} is not a positive number"));
    }
    if zero.is_empty() {
        zero.push(0);
    }
    if zero.len() != 1 && zero.len() != scales {
        return unknown(format!("it has {scales} scales and {zeros} zero points"));
    }
    let (mut axis, mut assumed) = (None, false);
    if scales > 1 {
        let dimension = table.i32(quantization::DIMENSION, 0)?;
        let mut found = usize::try_from(dimension).ok();
        // Converters of old wrote the weights' dimension at the bias, too.
        if shape.len() == 1 && found != Some(0) {
            (found, assumed) = (Some(0), true);
        }
        axis = found.filter(|&axis| shape.get(axis) == Some(&scales));
        if axis.is_none() {
            return unknown(format!(
                "its {scales} scales along axis {dimension} do not fit its shape {shape:?}"
            ));
        }
    } else if zero.len() > 1 {
        return unknown("it has one scale and several zero points".to_owned());
    }
    let grid = affine(
        PerChannel {
            values: scale,
            axis,
        },
        PerChannel {
            axis: if zero.len() > 1 { axis } else { None },
            values: zero.iter().map(|&z| z as f32).collect(),
        },
        bits,
        signed,
    );
    if let Some(bad) = zero
        .iter()
        .find(|z| !(grid.min_code()..=grid.max_code()).contains(z))
    {
        return unknown(format!(
            "its zero point {bad} is no code of {}",
            kind.name()
        ));
    }
    Ok((Grid::Codes(grid), assumed))
}
