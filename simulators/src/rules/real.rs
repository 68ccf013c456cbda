//! A real to a code by a target's `[quantize]` rule.

use align_check_specs::{DequantizeRule, Division, Quantize, Rounding, ZeroPointPosition};

use super::Labels;
use super::fake_quantize::FakeQuantizer;
use crate::num::{self, Width};

/// `[quantize]`, bound to one output grid.
#[derive(Debug, Clone, PartialEq)]
pub struct RealQuantizer {
    rule: Quantize,
    out: Labels,
    inverse: f32,
    fake: FakeQuantizer,
}

impl RealQuantizer {
    /// Binds a rule to a grid.
    pub fn new(rule: &Quantize, out: Labels) -> Self {
        Self {
            rule: rule.clone(),
            out,
            inverse: 1.0 / out.scale_f32(),
            fake: FakeQuantizer::new(out, 1.0, rule.rounding),
        }
    }

    /// The stored code of a real.
    pub fn code(&self, x: f32) -> i32 {
        let zero = self.out.zero_point as f32;
        let quotient = match self.rule.division {
            Division::DivideF32 | Division::Model => x / self.out.scale_f32(),
            Division::ReciprocalF32 | Division::ModelReciprocalF32 => x * self.inverse,
            Division::FakeQuantize => return self.fake.code(x),
            Division::DivideF64 => {
                return self.round_f64(f64::from(x) / self.out.scale);
            }
        };
        let inside = self.rule.zero_point == ZeroPointPosition::InsideRounding
            || self.rule.division.is_model();
        let raw = if inside {
            round(quotient + zero, self.rule.rounding)
        } else {
            round(quotient, self.rule.rounding) + zero
        };
        self.out.store(raw as i64)
    }

    fn round_f64(&self, quotient: f64) -> i32 {
        let zero = self.out.zero_point as f64;
        let raw = if self.rule.zero_point == ZeroPointPosition::InsideRounding {
            num::round_f64(quotient + zero, self.rule.rounding)
        } else {
            num::round_f64(quotient, self.rule.rounding) + zero
        };
        self.out.store(raw as i64)
    }
}

/// `[ops] dequantize`: integers to reals where they leave the network, one entry a channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Dequantizer {
    /// The rule.
    pub rule: DequantizeRule,
    /// What an accumulator starts from: a bias; for codes, their zero point taken away.
    pub start: Vec<i64>,
    /// What one unit of the integers is worth.
    pub unit: Vec<f64>,
    /// The accumulator.
    pub width: Width,
}

impl Dequantizer {
    /// The real of an integer of a channel.
    pub fn real(&self, n: i64, channel: usize) -> f32 {
        let sum = i128::from(n) + i128::from(self.start[channel]);
        let (sum, unit) = (self.width.fit(sum).value, self.unit[channel]);
        match self.rule {
            DequantizeRule::F32 => sum as f32 * unit as f32,
            DequantizeRule::F64 => (sum as f64 * unit) as f32,
        }
    }
}

/// Rounds an `f32` to an integer.
fn round(x: f32, rounding: Rounding) -> f32 {
    num::round_f32(x, rounding)
}
