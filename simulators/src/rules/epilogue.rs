//! `residual = "epilogue"`: an addition at the end of a convolution, in `f32`.

use align_check_specs::Quantize;

use super::Labels;
use super::real::RealQuantizer;

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
    pub fn code(&self, v: f32, other: i32) -> i32 {
        let x = &self.other;
        let real = (x.raw(other) - x.zero_point) as f32 * x.scale_f32();
        let (low, high) = self.bounds;
        self.quantizer.code((v + real).max(low).min(high))
    }
}
