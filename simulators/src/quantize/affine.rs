//! Affine quantizers, every operation in `f32`.
//!
//! QONNX `Quant`: `code = round(clamp(x / scale + zero_point))` (qonnx 1.0.0
//! `custom_op/general/intquant.py`, `int_quant`). ONNX `QuantizeLinear` (operator documentation) and `TFLite`
//! `QUANTIZE` (google-ai-edge/LiteRT `tflite/kernels/internal/reference/quantize.h`):
//! `code = clamp(round(x / scale) + zero_point)`. Clamping before rounding is the same, since the bounds are
//! integers. AIMET (`round(x / scale - offset)`, codes from 0) and tools that multiply by a reciprocal are described
//! at [`ZeroPointAdded::FromSmallest`] and [`Affine::multiplier`].

use align_check_graph::{Affine, Rounding, ZeroPointAdded};

use super::bipolar;
use super::letter::{self, specialized};
use crate::num::trace::short;
use crate::num::{self, Flagged, Flags, Trace};

/// The parameters of one channel, as the executor's `f32` arithmetic sees them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Channel {
    /// Step.
    pub scale: f32,
    /// The code of zero.
    pub zero_point: f32,
    /// What `x` is multiplied by, where it is not divided by the scale.
    pub multiplier: Option<f32>,
    /// What is added before rounding: the zero point, nothing, or the zero point less the smallest code.
    pub inside: f32,
    /// Whether half away is C's `round` (`TFLite`, AIMET) and not numpy's formula (`letter`).
    pub c_round: bool,
    /// Smallest code.
    pub min: i64,
    /// Largest code.
    pub max: i64,
    /// Rounding mode of the file.
    pub rounding: Rounding,
    /// The signed 1-bit special case: codes are -1 and +1, nothing is clamped or rounded.
    pub bipolar: bool,
}

impl Channel {
    /// The channel of `a` that has this scale and zero point.
    pub fn new(a: &Affine, scale: f32, zero_point: f32) -> Self {
        Self {
            scale,
            zero_point,
            multiplier: None,
            inside: match a.zero_point_added {
                ZeroPointAdded::BeforeRounding => zero_point,
                ZeroPointAdded::AfterRounding => 0.0,
                ZeroPointAdded::FromSmallest => zero_point - a.min_code() as f32,
            },
            c_round: a.rounding == Rounding::HalfAway
                && a.zero_point_added != ZeroPointAdded::BeforeRounding,
            min: if a.is_bipolar() {
                -1
            } else {
                executed_bound(a.min_code())
            },
            max: if a.is_bipolar() {
                1
            } else {
                executed_bound(a.max_code())
            },
            rounding: a.rounding,
            bipolar: a.is_bipolar(),
        }
    }

    /// The same with a factor in place of the division.
    #[must_use]
    pub fn multiplied(mut self, multiplier: Option<f32>) -> Self {
        self.multiplier = multiplier;
        self
    }

    /// `x` in steps.
    #[inline]
    fn steps(self, x: f32) -> f32 {
        match self.multiplier {
            Some(multiplier) => x * multiplier,
            None => x / self.scale,
        }
    }

    /// The rounded `f32` that the executor takes for the code; beyond 25 bits it may be `max + 1`,
    /// since the bounds are `f32` too. NaN stays NaN.
    #[inline]
    fn level(self, x: f32) -> f32 {
        if self.bipolar {
            bipolar::sign(self.steps(x) + self.zero_point)
        } else if self.c_round {
            libm::roundf(self.clamped(x)) + self.outside()
        } else {
            letter::round(self.clamped(x), self.rounding) + self.outside()
        }
    }

    /// What is added after rounding.
    #[inline]
    pub fn outside(self) -> f32 {
        if self.inside == self.zero_point {
            // Adding it changes nothing, the sign of a zero included.
            -0.0
        } else {
            self.zero_point - self.inside
        }
    }

    #[inline]
    fn clamped(self, x: f32) -> f32 {
        let y = self.steps(x) + self.inside;
        let (min, max) = self.bounds();
        let y = if y > max { max } else { y };
        if y < min { min } else { y }
    }

    /// The range before the rest of the zero point is added.
    #[inline]
    pub fn bounds(self) -> (f32, f32) {
        if self.inside == self.zero_point {
            (self.min as f32, self.max as f32)
        } else {
            let outside = self.outside() as i64;
            ((self.min - outside) as f32, (self.max - outside) as f32)
        }
    }

    /// [`quantize_affine`], step by step.
    pub fn traced(self, x: f32, trace: &mut Trace) -> i64 {
        let code = quantize_affine(x, self);
        if !trace.is_on() {
            return code;
        }
        let steps = if let Some(multiplier) = self.multiplier {
            trace.step("multiplier", || "of the quantizer".into(), multiplier);
            trace.step("in steps", || short(x) + " * multiplier", self.steps(x))
        } else {
            trace.step("scale out", String::new, self.scale);
            trace.step("in steps", || short(x) + " / scale out", self.steps(x))
        };
        if self.bipolar {
            let how = || format!("sign of {} + {}", short(steps), self.zero_point);
            return trace.step("code", how, code);
        }
        let inside = if self.inside == 0.0 {
            steps
        } else {
            let how = || format!("{} + {}", short(steps), self.inside);
            trace.step("with zero point", how, steps + self.inside)
        };
        let (min, max) = self.bounds();
        let clamped = self.clamped(x);
        if clamped != inside {
            let how = || format!("{} to {min}..{max}", short(inside));
            let clamped = Flagged::new(clamped, Flags::SATURATED);
            let _ = trace.flagged("clamped", how, clamped);
        }
        let rounded = self.level(x) - self.outside();
        let how = || format!("{} of {}", letter::name(self.rounding), short(clamped));
        let flags = num::round(clamped.into(), align_check_specs::Rounding::HalfEven).flags;
        let _ = trace.flagged("rounded", how, Flagged::new(rounded, flags));
        if self.outside() != 0.0 {
            let how = || format!("{rounded} + {}", self.outside());
            trace.step("with zero point", how, rounded + self.outside());
        }
        trace.step("code", String::new, code)
    }

    #[inline]
    fn dequantize(self, level: f32) -> f32 {
        (level - self.zero_point) * self.scale
    }
}

/// A bound as the executor's `f32` clamp has it: beyond 24 bits it rounds, and a 26-bit quantizer reaches
/// `2^25`. What would leave `i32` stays where it is (`2^31 - 1`).
pub fn executed_bound(bound: i64) -> i64 {
    let executed = bound as f32 as i64;
    if i32::try_from(executed).is_ok() {
        executed
    } else {
        bound
    }
}

/// The code of `x`, within `min..=max`; NaN becomes 0.
#[inline]
pub fn quantize_affine(x: f32, channel: Channel) -> i64 {
    (channel.level(x) as i64).clamp(channel.min, channel.max)
}

/// The real that the executor returns: `(level - zero_point) * scale` in `f32`.
#[inline]
pub fn dequantized(x: f32, channel: Channel) -> f32 {
    channel.dequantize(channel.level(x))
}

/// Where the codes fit `i32`: [`quantize_affine`] of every element.
///
/// # Panics
/// If the lengths differ.
pub fn quantize_affine_slice(xs: &[f32], channel: Channel, out: &mut [i32]) {
    /// Added to an integer within +-2^22, it leaves that integer in the low bits.
    const MAGIC: f32 = 12_582_912.0;
    const SMALL: i64 = 1 << 22;
    assert_eq!(xs.len(), out.len(), "input and output of a quantizer");
    let Channel {
        inside,
        min,
        max,
        rounding,
        ..
    } = channel;
    let reach = min.abs().max(max.abs()) + channel.outside().abs() as i64;
    if channel.bipolar || channel.c_round || reach > SMALL {
        fill(xs, out, |x| quantize_affine(x, channel) as i32);
        return;
    }
    // No saturating conversion and no call: this vectorizes on every x86-64.
    let (min, max) = channel.bounds();
    let offset = channel.outside() as i32;
    specialized!(rounding, round => fill(xs, out, |x| {
        let y = channel.steps(x) + inside;
        let y = if y > max { max } else { y };
        let y = if y < min { min } else { y };
        let bits = (round(y) + MAGIC).to_bits().cast_signed();
        if y.is_nan() { 0 } else { bits.wrapping_sub(MAGIC.to_bits().cast_signed()) + offset }
    }));
}

/// [`dequantized`] of every element.
///
/// # Panics
/// If the lengths differ.
pub fn dequantized_slice(xs: &[f32], channel: Channel, out: &mut [f32]) {
    assert_eq!(xs.len(), out.len(), "input and output of a quantizer");
    if channel.bipolar || channel.c_round {
        return fill(xs, out, |x| dequantized(x, channel));
    }
    let outside = channel.outside();
    specialized!(channel.rounding, round => fill(xs, out, |x| {
        channel.dequantize(round(channel.clamped(x)) + outside)
    }));
}

#[inline]
fn fill<T>(xs: &[f32], out: &mut [T], f: impl Fn(f32) -> T) {
    for (out, &x) in out.iter_mut().zip(xs) {
        *out = f(x);
    }
}
