//! How a tensor is quantized, and the arithmetic of the tools.

use crate::{Affine, PerChannel, Rounding, ZeroPointAdded};

/// How an entry's tensor is quantized.
#[derive(Debug, Clone, PartialEq)]
pub enum Scheme {
    /// Linear. Several scales have no axis where the format states none: the reader of the tensor tells.
    Affine(Affine),
    /// NNIE's logarithmic grid, placed by the largest magnitude.
    Gfpq {
        /// The largest magnitude.
        max: f32,
    },
    /// It stays a floating-point number of so many bits.
    Float(u32),
    /// Something that is not evaluated; an error where the tensor exists.
    Refused(String),
}

/// The order of operations of a tool's fake-quant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    /// AIMET 2.42: clamps to `[min, max]`, then `round(x / scale - offset)`, half away from zero, in `f32`
    /// (measured on its own simulation; quic/aimet `DlQuantization/src/trim_functions.cpp`).
    Aimet,
    /// `half-even(x / scale)`: `TensorRT` (`NvInfer.h`, `IQuantizeLayer`).
    Divide,
    /// `half-even(x * f32(1 / scale)) + zero point`: `PyTorch`'s `fake_quantize` kernels, which `MQBench` calls.
    Reciprocal,
    /// `MQBench`'s power-of-two quantizer (`mqbench/fake_quantize/quantize_base.py`, `tqt.py`: `scale_floor_ceil`).
    MqBenchVitis,
    /// Half up: Vitis AI's activations (`vai_q_pytorch` `doc/Quant_Config.md`).
    HalfUp,
    /// Half away: Vitis AI's inputs and parameters.
    HalfAway,
}

/// A range of codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Codes {
    pub(super) bits: u32,
    pub(super) signed: bool,
    pub(super) narrow: bool,
}

impl Codes {
    pub(super) fn signed(bits: u32) -> Self {
        Self {
            bits,
            signed: true,
            narrow: false,
        }
    }

    pub(super) fn unsigned(bits: u32) -> Self {
        Self {
            bits,
            signed: false,
            narrow: false,
        }
    }

    pub(super) fn narrow(bits: u32) -> Self {
        Self {
            bits,
            signed: true,
            narrow: true,
        }
    }
}

/// A width that a file states, as a number of bits.
pub(super) fn bits(stated: f64) -> Result<u32, String> {
    if (2.0..=32.0).contains(&stated) && stated.fract() == 0.0 {
        Ok(stated as u32)
    } else {
        Err(format!("a width of {stated} bits (2 to 32 exist)"))
    }
}

/// A linear quantizer, its numbers checked.
pub(super) fn affine(
    scales: &[f64],
    zero_points: &[f64],
    codes: Codes,
    arithmetic: Arithmetic,
) -> Result<Affine, String> {
    if scales.is_empty() {
        return Err("no scale".into());
    }
    if zero_points.len() != 1 && zero_points.len() != scales.len() {
        return Err(format!(
            "{} scales and {} zero points",
            scales.len(),
            zero_points.len()
        ));
    }
    if let Some(bad) = scales.iter().find(|&&s| !positive(s)) {
        return Err(format!("a scale of {bad}, not a positive number"));
    }
    if let Some(bad) = zero_points
        .iter()
        .find(|z| z.is_nan() || z.abs() > 2_147_483_648.0)
    {
        return Err(format!("a zero point of {bad}"));
    }
    if let Some(bad) = zero_points.iter().find(|z| z.fract() != 0.0) {
        return Err(format!(
            "a zero point of {bad} between two codes, which is not evaluated"
        ));
    }
    let several = |values: &[f64]| PerChannel {
        values: values.iter().map(|&v| v as f32).collect(),
        axis: None,
    };
    let scale = several(scales);
    let (rounding, zero_point_added) = match arithmetic {
        Arithmetic::Aimet => (Rounding::HalfAway, ZeroPointAdded::FromSmallest),
        Arithmetic::Divide | Arithmetic::Reciprocal => {
            (Rounding::HalfEven, ZeroPointAdded::AfterRounding)
        }
        Arithmetic::MqBenchVitis => (Rounding::HalfEvenNegativeUp, ZeroPointAdded::AfterRounding),
        Arithmetic::HalfUp => (Rounding::HalfUp, ZeroPointAdded::AfterRounding),
        Arithmetic::HalfAway => (Rounding::HalfAway, ZeroPointAdded::AfterRounding),
    };
    let multiplier = (arithmetic == Arithmetic::Reciprocal).then(|| scale.map(|s| 1.0 / s));
    Ok(Affine {
        zero_point: several(zero_points),
        bits: codes.bits,
        signed: codes.signed,
        narrow: codes.narrow,
        rounding,
        zero_point_added,
        multiplier,
        scale,
    })
}

/// A linear quantizer that multiplies by numbers that the file states (`code = round(x * m + ...)`).
pub(super) fn multiplied(
    multipliers: &[f64],
    zero_points: &[f64],
    codes: Codes,
    added: ZeroPointAdded,
) -> Result<Affine, String> {
    if let Some(bad) = multipliers.iter().find(|&&m| !positive(m)) {
        return Err(format!("a scale of {bad}, not a positive number"));
    }
    let steps: Vec<f64> = multipliers.iter().map(|&m| 1.0 / m).collect();
    let mut affine = affine(&steps, zero_points, codes, Arithmetic::Divide)?;
    affine.zero_point_added = added;
    affine.multiplier = Some(PerChannel {
        values: multipliers.iter().map(|&m| m as f32).collect(),
        axis: None,
    });
    Ok(affine)
}

/// Symmetric codes that reach `amax` at `2^(bits-1) - 1`.
pub(super) fn symmetric(amax: f64, codes: Codes, arithmetic: Arithmetic) -> Result<Affine, String> {
    if !positive(amax) {
        return Err(format!("a range of {amax}, not a positive number"));
    }
    let top = f64::from((1u32 << (codes.bits - 1)) - 1);
    affine(&[amax / top], &[0.0], codes, arithmetic)
}

/// Unsigned codes over `[min, max]`, widened to hold zero, which gets a code of its own.
pub(super) fn asymmetric(
    min: f64,
    max: f64,
    bits: u32,
    arithmetic: Arithmetic,
) -> Result<Affine, String> {
    if !min.is_finite() || !max.is_finite() || min > max {
        return Err(format!("a range from {min} to {max}"));
    }
    let (min, max) = (min.min(0.0), max.max(0.0));
    let scale = (max - min) / ((1u64 << bits) - 1) as f64;
    affine(
        &[scale],
        &[-(min / scale).round()],
        Codes::unsigned(bits),
        arithmetic,
    )
}

/// Whether a number is one that an `f32` scale can have.
pub(super) fn positive(x: f64) -> bool {
    let narrow = x as f32;
    narrow.is_finite() && narrow > 0.0
}
