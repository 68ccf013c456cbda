//! QONNX `Trunc`, both versions, in `f32`.
//!
//! Source: qonnx 1.0.0 `custom_op/general/trunc.py` (`trunc_v1`, `trunc_v2`).

use align_check_graph::{Affine, PerChannel, Rounding, Trunc, TruncKind, ZeroPointAdded};

use super::letter;

/// The parameters of one channel.
pub struct Channel {
    scale: f32,
    zero_point: f32,
    /// Step between the two grids, in input steps.
    ratio: f32,
    /// Bounds of the clamp, which only version 2 has.
    bounds: Option<(f32, f32)>,
    rounding: Rounding,
    out_zero_point: f32,
    out_scale: f32,
}

impl Channel {
    /// The channel at which `at` reads the parameters.
    pub fn new(t: &Trunc, at: impl Fn(&PerChannel<f32>) -> f32) -> Self {
        let (scale, zero_point) = (at(&t.scale), at(&t.zero_point));
        let (ratio, bounds, out_zero_point, out_scale) = match &t.kind {
            TruncKind::V1 { shift } => (power(*shift), None, zero_point, scale),
            TruncKind::V2 {
                out_scale,
                out_bits,
                signed,
                narrow,
            } => {
                let out_scale = at(out_scale);
                let ratio = ratio(scale, out_scale);
                let (min, max) = bounds(*out_bits, *signed, *narrow);
                let bounds = (min as f32, max as f32);
                (ratio, Some(bounds), zero_point / ratio, out_scale)
            }
        };
        Self {
            scale,
            zero_point,
            ratio,
            bounds,
            rounding: t.rounding,
            out_zero_point,
            out_scale,
        }
    }

    /// The code, as the executor's `f32`.
    pub fn level(&self, x: f32) -> f32 {
        let y = letter::round(x / self.scale + self.zero_point, Rounding::HalfEven) / self.ratio;
        let y = match self.bounds {
            Some((_, max)) if y > max => max,
            Some((min, _)) if y < min => min,
            _ => y,
        };
        letter::round(y, self.rounding)
    }

    /// The real of a code.
    pub fn dequantize(&self, level: f32) -> f32 {
        (level - self.out_zero_point) * self.out_scale
    }
}

/// The axes of all parameters.
pub fn axes(t: &Trunc) -> [Option<usize>; 3] {
    let third = match &t.kind {
        TruncKind::V1 { .. } => None,
        TruncKind::V2 { out_scale, .. } => out_scale.axis,
    };
    [t.scale.axis, t.zero_point.axis, third]
}

/// Version 2's `2^half_even(log2(out_scale / scale))`.
pub fn ratio(scale: f32, out_scale: f32) -> f32 {
    let exponent = libm::log2(f64::from(out_scale / scale)) as f32;
    power(letter::round(exponent, Rounding::HalfEven) as i32)
}

/// Smallest and largest code of version 2.
pub fn bounds(bits: u32, signed: bool, narrow: bool) -> (i64, i64) {
    let range = Affine {
        scale: PerChannel::uniform(1.0),
        zero_point: PerChannel::uniform(0.0),
        bits,
        signed,
        narrow,
        rounding: Rounding::HalfEven,
        zero_point_added: ZeroPointAdded::BeforeRounding,
        multiplier: None,
    };
    (range.min_code(), range.max_code())
}

/// `2^exponent`, as near as `f32` comes to it.
fn power(exponent: i32) -> f32 {
    libm::ldexp(1.0, exponent) as f32
}
