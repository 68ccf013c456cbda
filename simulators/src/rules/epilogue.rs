//! `residual = "epilogue"`: an addition at the end of a convolution, in `f32`.

use align_check_specs::Quantize;

use super::Labels;
use super::real::RealQuantizer;
use crate::num::Trace;
use crate::num::trace::short;

/// From the real of a convolution and a code to a code.
#[derive(Debug, Clone, PartialEq)]
pub struct Epilogue {
    other: Labels,
    /// A `ReLU` or clip behind the addition.
    bounds: (f32, f32),
    quantizer: RealQuantizer,
}

impl Epilogue {
    /// Binds the rule to the other operand's grid, the output's, and a clamp of reals.
    pub fn new(rule: &Quantize, other: Labels, out: Labels, clamp: (f64, f64)) -> Self {
        Self {
            other,
            bounds: (clamp.0 as f32, clamp.1 as f32),
            quantizer: RealQuantizer::new(rule, out),
        }
    }

    /// The stored code of `relu(v + (q - z) * s)`.
    pub fn code(&self, v: f32, other: i32, trace: &mut Trace) -> i32 {
        let x = &self.other;
        let steps = x.traced_steps("other", other, trace);
        let scale = trace.step("scale", || "of the other operand".into(), x.scale_f32());
        let how = || format!("{steps} * scale");
        let real = trace.step("other", how, steps as f32 * scale);
        let how = || format!("{} + {}", short(v), short(real));
        let sum = trace.step("sum", how, v + real);
        let (low, high) = self.bounds;
        let how = || format!("{} to {}..{}", short(sum), short(low), short(high));
        let sum = trace.step("clipped", how, sum.max(low).min(high));
        self.quantizer.traced(sum, trace)
    }
}
