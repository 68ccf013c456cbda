//! A target's rules, bound to the scales of one layer.

pub mod average;
pub mod elementwise;
pub mod epilogue;
pub mod fake_quantize;
pub mod mean;
pub mod qnnpack;
pub mod real;
pub mod requantize;
pub mod resize;
pub mod softmax;
pub mod thresholds;
pub mod unary;

use std::sync::Arc;

use align_check_specs::{Bounds, Rounding};

use crate::num::{self, Flagged, Trace};
use crate::quantize::CodeGrid;

/// A uniform grid, with the target's own labels of its codes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Labels {
    /// Step.
    pub scale: f64,
    /// Zero point in the target's label.
    pub zero_point: i64,
    /// Smallest code in the target's label.
    pub min: i64,
    /// Largest code in the target's label.
    pub max: i64,
    /// Target's label less the model's.
    pub relabel: i64,
}

impl Labels {
    /// The labels of a grid; `None` where it has several scales or zero points.
    pub fn of(grid: &Arc<CodeGrid>, relabel: i64) -> Option<Self> {
        grid.is_uniform()
            .then(|| Self::of_channel(grid, relabel, 0))
    }

    /// The labels of one channel of a grid.
    pub fn of_channel(grid: &CodeGrid, relabel: i64, channel: usize) -> Self {
        Self {
            scale: grid.scale.at(channel),
            zero_point: grid.zero_point.at(channel) + relabel,
            min: grid.min + relabel,
            max: grid.max + relabel,
            relabel,
        }
    }

    /// A stored code in the target's label.
    pub fn raw(&self, code: i32) -> i64 {
        i64::from(code) + self.relabel
    }

    /// A stored code less the zero point.
    pub fn steps(&self, code: i32) -> i64 {
        self.raw(code) - self.zero_point
    }

    /// Clamps a code in the target's label and gives it the stored label.
    pub fn store(&self, raw: i64) -> i32 {
        (raw.clamp(self.min, self.max) - self.relabel) as i32
    }

    /// [`store`](Self::store), step by step.
    pub fn stored(&self, raw: i64, trace: &mut Trace) -> i32 {
        if !trace.is_on() {
            return self.store(raw);
        }
        let how = || format!("{raw} to {}..{}", self.min, self.max);
        let clamped = trace.flagged("clamped", how, num::clamp(raw.into(), self.min, self.max));
        self.relabelled(clamped, trace).value
    }

    /// A code in the target's label with the stored label.
    pub fn relabelled(&self, raw: Flagged<i64>, trace: &mut Trace) -> Flagged<i32> {
        let code = raw.map(|raw| (raw - self.relabel) as i32);
        if self.relabel != 0 {
            let how = || format!("{} - {}: the model's label of it", raw.value, self.relabel);
            trace.step("code", how, code.value);
        }
        code
    }

    /// [`steps`](Self::steps), with what is subtracted.
    pub fn traced_steps(&self, name: &'static str, code: i32, trace: &mut Trace) -> i64 {
        let how = || format!("code {} - zero point {}", self.raw(code), self.zero_point);
        trace.step(name, how, self.steps(code))
    }

    /// The real of a code in `f32`.
    pub fn real_f32(&self, name: &'static str, code: i32, trace: &mut Trace) -> f32 {
        let steps = self.traced_steps(name, code, trace);
        let scale = trace.step("scale", || format!("of the {name}"), self.scale_f32());
        trace.step(name, || format!("{steps} * scale"), steps as f32 * scale)
    }

    /// The real of a code in `f64`.
    pub fn real_f64(&self, name: &'static str, code: i32, trace: &mut Trace) -> f64 {
        let steps = self.traced_steps(name, code, trace);
        let scale = trace.step("scale", || format!("of the {name}"), self.scale);
        trace.step(name, || format!("{steps} * scale"), steps as f64 * scale)
    }

    /// Zero point and clamp behind a rounding.
    pub fn placed(&self, v: i64, trace: &mut Trace) -> i32 {
        let how = || format!("{v} + {}", self.zero_point);
        let raw = trace.step("with zero point", how, v + self.zero_point);
        self.stored(raw, trace)
    }

    /// The code of a fused activation's bound, in the target's label.
    pub fn bound(&self, rule: Bounds, real: f64) -> i64 {
        if real.is_infinite() {
            return if real < 0.0 { self.min } else { self.max };
        }
        let steps = real as f32 / self.scale_f32();
        let code = match rule {
            Bounds::HalfAway => num::round_f32(steps, Rounding::HalfAway) as i64,
            Bounds::HalfEven => num::round_f32(steps, Rounding::HalfEven) as i64,
            Bounds::HalfEvenInside => {
                let code = num::round_f32(steps + self.zero_point as f32, Rounding::HalfEven);
                return (code as i64).clamp(self.min, self.max);
            }
        };
        code.saturating_add(self.zero_point)
            .clamp(self.min, self.max)
    }

    /// Both codes of a clamp.
    pub fn bounds(&self, rule: Bounds, (lo, hi): (f64, f64)) -> (i64, i64) {
        let lo = self.bound(rule, lo);
        (lo, self.bound(rule, hi).max(lo))
    }

    /// Bits of the codes.
    pub fn bits(&self) -> u32 {
        64 - (self.max - self.min).unsigned_abs().leading_zeros()
    }

    /// `f32` of the step: scales are `f32` on every target.
    pub fn scale_f32(&self) -> f32 {
        self.scale as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_of_an_activation_round_by_their_rule() {
        let labels = Labels {
            scale: 4.0,
            zero_point: 1,
            min: -128,
            max: 127,
            relabel: 0,
        };
        // 6 / 4 is a tie; with an odd zero point inside, it is one at 2.5.
        assert_eq!(labels.bound(Bounds::HalfAway, 6.0), 3);
        assert_eq!(labels.bound(Bounds::HalfEven, 6.0), 3);
        assert_eq!(labels.bound(Bounds::HalfEvenInside, 6.0), 2);
        assert_eq!(labels.bound(Bounds::HalfAway, 1e9), 127);
        let open = (f64::NEG_INFINITY, f64::INFINITY);
        assert_eq!(labels.bounds(Bounds::HalfEvenInside, open), (-128, 127));
    }
}
