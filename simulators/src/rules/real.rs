//! A real to a code by a target's `[quantize]` rule.

use align_check_specs::{DequantizeRule, Division, Quantize, ZeroPointPosition};

use super::Labels;
use super::fake_quantize::FakeQuantizer;
use crate::kernels::{Isa, vectorize};
use crate::num::trace::short;
use crate::num::{self, Trace, Width};

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
        self.traced(x, &mut Trace::off())
    }

    /// [`code`](Self::code) of many reals as `f32`; `None` where the rule has no short form.
    pub fn codes(&self, isa: Isa, reals: &[f64]) -> Option<Vec<i32>> {
        let small = |x: i64| x.abs() < 1 << 20;
        let Labels {
            zero_point,
            min,
            max,
            relabel,
            ..
        } = self.out;
        let ends = [zero_point, min, max, relabel].into_iter().all(small);
        // A number that is none becomes code 0 by the definition, and a bound by the short form.
        let none = || reals.iter().any(|x| x.is_nan());
        if !ends || none() {
            return None;
        }
        let rounding = self.rule.rounding;
        if self.rule.division == Division::FakeQuantize {
            return self.fake.codes(isa, reals);
        }
        let (scale, inverse) = (self.out.scale_f32(), self.inverse);
        if !scale.is_normal() || !inverse.is_normal() {
            return None;
        }
        let divides = match self.rule.division {
            Division::DivideF32 | Division::Model => true,
            Division::ReciprocalF32 | Division::ModelReciprocalF32 => false,
            Division::FakeQuantize | Division::DivideF64 => return None,
        };
        let inside = self.rule.zero_point == ZeroPointPosition::InsideRounding
            || self.rule.division.is_model();
        let zero = zero_point as f32;
        let (before, after) = if inside { (zero, 0.0) } else { (0.0, zero) };
        let (lo, hi, relabel) = (min as f32, max as f32, relabel as i32);
        let mut codes = vec![0; reals.len()];
        // `-0.0 + 0.0` is another zero, and the same code.
        let code = move |rounded: f32| (rounded + after).max(lo).min(hi) as i32 - relabel;
        vectorize(
            isa,
            #[inline(always)]
            || {
                if divides {
                    let steps = move |x: f32| x / scale + before;
                    num::each_real(reals, rounding, &mut codes, steps, code);
                } else {
                    let steps = move |x: f32| x * inverse + before;
                    num::each_real(reals, rounding, &mut codes, steps, code);
                }
            },
        );
        Some(codes)
    }

    /// [`code`](Self::code), step by step.
    pub fn traced(&self, x: f32, trace: &mut Trace) -> i32 {
        let zero = self.out.zero_point as f32;
        let scale = self.out.scale_f32();
        let quotient = match self.rule.division {
            Division::DivideF32 | Division::Model => {
                trace.step("scale out", String::new, scale);
                trace.step("in steps", || short(x) + " / scale out", x / scale)
            }
            Division::ReciprocalF32 | Division::ModelReciprocalF32 => {
                trace.step("scale out", String::new, scale);
                trace.step("reciprocal", || "1 / scale out".into(), self.inverse);
                trace.step("in steps", || short(x) + " * reciprocal", x * self.inverse)
            }
            Division::FakeQuantize => return self.fake.traced(x, trace),
            Division::DivideF64 => return self.in_f64(x, trace),
        };
        let inside = self.rule.zero_point == ZeroPointPosition::InsideRounding
            || self.rule.division.is_model();
        if inside {
            let how = || format!("{} + {zero}", short(quotient));
            let v = trace.step("with zero point", how, quotient + zero);
            let raw = trace.round_f32(v, self.rule.rounding) as i64;
            return self.out.stored(raw, trace);
        }
        let v = trace.round_f32(quotient, self.rule.rounding);
        let how = || format!("{v} + {zero}");
        let raw = trace.step("with zero point", how, v + zero);
        self.out.stored(raw as i64, trace)
    }

    fn in_f64(&self, x: f32, trace: &mut Trace) -> i32 {
        let zero = self.out.zero_point as f64;
        let scale = trace.step("scale out", String::new, self.out.scale);
        let how = || short(x) + " / scale out";
        let quotient = trace.step("in steps", how, f64::from(x) / scale);
        let raw = if self.rule.zero_point == ZeroPointPosition::InsideRounding {
            let how = || format!("{} + {zero}", short(quotient));
            let v = trace.step("with zero point", how, quotient + zero);
            trace.round_f64(v, self.rule.rounding)
        } else {
            let v = trace.round_f64(quotient, self.rule.rounding);
            trace.step("with zero point", || format!("{v} + {zero}"), v + zero)
        };
        self.out.stored(raw as i64, trace)
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
        self.traced(n, channel, &mut Trace::off())
    }

    /// [`real`](Self::real), step by step.
    pub fn traced(&self, n: i64, channel: usize, trace: &mut Trace) -> f32 {
        let start = self.start[channel];
        let fitted = self.width.fit(i128::from(n) + i128::from(start));
        let sum = trace
            .flagged("sum", || format!("{n} + {start}"), fitted)
            .value;
        match self.rule {
            DequantizeRule::F32 => {
                let unit = trace.step("scale", String::new, self.unit[channel] as f32);
                trace.step("real", || format!("{sum} * scale"), sum as f32 * unit)
            }
            DequantizeRule::F64 => {
                let unit = trace.step("scale", String::new, self.unit[channel]);
                let real = trace.step("real", || format!("{sum} * scale"), sum as f64 * unit);
                trace.step("as f32", || short(real), real as f32)
            }
        }
    }
}
