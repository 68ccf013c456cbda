//! A real to a code by a target's `[quantize]` rule.

use align_check_specs::{Division, Quantize, Rounding, ZeroPointPosition};

use super::Labels;
use crate::num;

/// `[quantize]`, bound to one output grid.
#[derive(Debug, Clone, PartialEq)]
pub struct RealQuantizer {
    rule: Quantize,
    out: Labels,
    inverse: f32,
}

impl RealQuantizer {
    /// Binds a rule to a grid.
    pub fn new(rule: &Quantize, out: Labels) -> Self {
        Self {
            rule: rule.clone(),
            out,
            inverse: 1.0 / out.scale_f32(),
        }
    }

    /// The stored code of a real.
    pub fn code(&self, x: f32) -> i32 {
        let zero = self.out.zero_point as f32;
        let quotient = match self.rule.division {
            Division::DivideF32 | Division::Model => x / self.out.scale_f32(),
            Division::ReciprocalF32 => x * self.inverse,
            Division::DivideF64 => {
                return self.round_f64(f64::from(x) / self.out.scale);
            }
        };
        let inside = self.rule.zero_point == ZeroPointPosition::InsideRounding
            || self.rule.division == Division::Model;
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

/// Rounds an `f32` to an integer.
fn round(x: f32, rounding: Rounding) -> f32 {
    num::round_f32(x, rounding)
}
