//! QONNX `FloatQuant`: small floating-point formats, in `f32`.
//!
//! Source: qonnx 1.0.0 `custom_op/general/floatquant.py` (`float_quant`, `compute_max_val`), operation by
//! operation. The executor ignores `has_subnormal`: its formats always have subnormal numbers.

use align_check_graph::{Minifloat, Rounding};

use super::letter;

/// A format, with the constants that do not depend on the value.
pub struct Format {
    mantissa_bits: f32,
    /// Exponent of the smallest step.
    min_exponent: f32,
    max: f32,
    beyond: Beyond,
    rounding: Rounding,
}

/// What a magnitude beyond the largest becomes.
enum Beyond {
    Max,
    Infinity,
    Nan,
}

impl Format {
    /// The format of a node.
    pub fn new(m: &Minifloat) -> Self {
        let mantissa_bits = m.mantissa_bits as f32;
        // (2 - 2^-m) * 2^(2^e - 1 - bias)
        let max_exponent = power_of_two(m.exponent_bits as f32) - 1.0 - m.exponent_bias;
        let computed = (2.0 - power_of_two(-mantissa_bits)) * power_of_two(max_exponent);
        Self {
            mantissa_bits,
            min_exponent: 1.0 - m.exponent_bias - mantissa_bits,
            max: if m.max_value < computed {
                m.max_value
            } else {
                computed
            },
            beyond: match (m.saturating, m.has_inf) {
                (true, _) => Beyond::Max,
                (false, true) => Beyond::Infinity,
                // Without infinities: NaN. (The executor refuses a format that has neither.)
                (false, false) => Beyond::Nan,
            },
            rounding: m.rounding,
        }
    }

    /// The real that the executor returns.
    pub fn quantize(&self, x: f32, scale: f32) -> f32 {
        let x = x / scale;
        // `eps` of the source: the smallest normal number keeps log2 finite.
        let exponent = floor(log2(x.abs() + f32::MIN_POSITIVE)) - self.mantissa_bits;
        // numpy's `maximum` hands NaN on.
        let exponent = if exponent < self.min_exponent {
            self.min_exponent
        } else {
            exponent
        };
        let step = power_of_two(exponent);
        let rounded = step * letter::round(x / step, self.rounding);
        let beyond = rounded.abs() > self.max;
        let value = match self.beyond {
            _ if !beyond => rounded,
            Beyond::Max => self.max.copysign(rounded),
            Beyond::Infinity => f32::INFINITY.copysign(rounded),
            Beyond::Nan => f32::NAN,
        };
        value * scale
    }
}

/// The binary logarithm, rounded to `f32`: just below a power of two it rounds up to the integer, as
/// numpy's does.
fn log2(x: f32) -> f32 {
    libm::log2(f64::from(x)) as f32
}

fn floor(x: f32) -> f32 {
    letter::round(x, Rounding::Floor)
}

/// `2^exponent` of an integer, an infinity or NaN.
fn power_of_two(exponent: f32) -> f32 {
    if exponent.is_finite() {
        libm::ldexp(1.0, exponent as i32) as f32
    } else {
        libm::exp2f(exponent)
    }
}
