//! Means of quantized codes.

use align_check_specs::{AverageRule, LeftShift, Rounding, Shift, Spec, Step};

use super::Labels;
use super::fake_quantize;
use super::mean;
use super::real::RealQuantizer;
use super::unary::{CodeFunction, last_rounding, rescale, shift_rounding};
use crate::num::{self, FixedMultiplier};
use crate::ops::window::Windows;
use crate::tensor::Channels;

/// How a mean is finished, bound to its grids.
pub struct Average {
    rule: AverageRule,
    x: Labels,
    out: Labels,
    quantizer: RealQuantizer,
    /// Behind an integer mean, where the grids differ.
    rescale: Option<CodeFunction>,
    rounding: Rounding,
    multiplier: FixedMultiplier,
    steps: Vec<Step>,
    /// Channels of the result of a mean over an image.
    image: Option<Channels>,
    fake: fake_quantize::Mean,
}

impl Average {
    /// Binds the rule. `None`: the rule is the reference's.
    ///
    /// # Errors
    /// A text where the scales do not fit the rule.
    pub fn new(
        rule: AverageRule,
        spec: &Spec,
        x: Labels,
        out: Labels,
        image: Option<Channels>,
    ) -> Result<Option<Self>, String> {
        if rule == AverageRule::Exact {
            return Ok(None);
        }
        let same = x.scale == out.scale && x.zero_point == out.zero_point;
        let rescale = match (rule, spec.ops.rescale) {
            (
                AverageRule::IntegerHalfAway
                | AverageRule::IntegerTrunc
                | AverageRule::IntegerFloor
                | AverageRule::IntegerTruncHundredth,
                Some(rule),
            ) if !same => {
                let open = (f64::NEG_INFINITY, f64::INFINITY);
                rescale(rule, spec, x, out, open)?
            }
            (
                AverageRule::IntegerHalfAway
                | AverageRule::IntegerTrunc
                | AverageRule::IntegerFloor
                | AverageRule::IntegerTruncHundredth,
                None,
            )
            | (
                AverageRule::Q8ThreeSteps
                | AverageRule::F32Mean
                | AverageRule::F32MeanInside
                | AverageRule::F32MeanKernel,
                _,
            ) if !same => {
                return Err("a mean onto another grid".into());
            }
            _ => None,
        };
        let multiplier =
            FixedMultiplier::from_real(x.scale / out.scale, 31, Rounding::HalfAway).value;
        Ok(Some(Self {
            rule,
            x,
            out,
            quantizer: RealQuantizer::new(&spec.quantize, out),
            rescale,
            rounding: match rule {
                AverageRule::RoundedOnce => last_rounding(spec),
                _ => shift_rounding(spec),
            },
            multiplier,
            steps: spec.requantize.steps.clone(),
            image,
            fake: fake_quantize::Mean::new(x, out),
        }))
    }

    /// Whether a window's code follows from the sum of its codes, wherever the window lies.
    pub fn knows_the_sum(&self) -> bool {
        !matches!(
            self.rule,
            AverageRule::F32 | AverageRule::F32Inside | AverageRule::RequantizeOverCountVector
        )
    }

    /// Means of every window, as stored codes.
    pub fn codes(&self, windows: &Windows, codes: &[i32]) -> Vec<i32> {
        let x = self.x;
        let rule = match self.rule {
            AverageRule::F32Inside if windows.whole_image => AverageRule::F32IntegerSum,
            rule => rule,
        };
        let whole_kernel = match rule {
            AverageRule::F32Inside => windows.padding_counts,
            rule => rule == AverageRule::F32MeanKernel,
        };
        let kernel = windows.kernel.iter().product::<usize>() as u32;
        let divisor = |i: usize| {
            if whole_kernel {
                kernel
            } else {
                windows.divisors[i % windows.len().max(1)]
            }
        };
        if matches!(rule, AverageRule::F32 | AverageRule::F32Inside) {
            let sums = windows.fold(codes, 0.0f32, |sum, q| {
                sum + x.steps(q) as f32 * x.scale_f32()
            });
            return sums
                .into_iter()
                .enumerate()
                .map(|(i, sum)| self.real(sum / divisor(i) as f32))
                .collect();
        }
        // Where padding counts, it is the zero point; but OpenVINO's is raw code 0.
        let zero = match rule {
            AverageRule::FakeQuantize => 0,
            _ => x.zero_point,
        };
        let sums = windows.fold(codes, 0i64, |sum, q| sum + x.raw(q) - zero);
        sums.into_iter()
            .enumerate()
            .map(|(i, sum)| self.integer(rule, i, sum, i64::from(divisor(i)), &windows.kernel))
            .collect()
    }

    /// From the sum of raw codes (`tflite/kernels/internal/optimized/integer_ops/mean.h`).
    fn image_mean(&self, raw: i64, n: i64, behind: bool) -> i32 {
        let (x, out) = (self.x, self.out);
        let offset = x.zero_point as f32 * x.scale_f32() / out.scale_f32();
        let nearest = offset + if offset > 0.0 { 0.5 } else { -0.5 };
        let m = f64::from(x.scale_f32() / (n as f32 * out.scale_f32()));
        let m = FixedMultiplier::from_real(m, 31, Rounding::HalfAway).value;
        let step = |shift, rounding| Step {
            shift,
            rounding,
            saturate: None,
        };
        let second = if behind {
            Rounding::HalfAway
        } else {
            Rounding::HalfUp
        };
        let steps = [
            step(Shift::By(31), Rounding::HalfUp),
            step(Shift::Rest, second),
        ];
        let v = m.apply(raw, &steps, LeftShift::Wrap, 32).value;
        out.store(v + out.zero_point - nearest.trunc() as i64)
    }

    fn real(&self, mean: f32) -> i32 {
        if self.rule == AverageRule::F32Inside {
            let v = mean / self.out.scale_f32() + self.out.zero_point as f32;
            return self.out.store(num::round_f32(v, Rounding::HalfEven) as i64);
        }
        self.quantizer.code(mean)
    }

    /// From the sum of `code - zx` (a padded position that counts is 0; of raw codes for `fake-quantize`) and the
    /// number of elements.
    fn integer(&self, rule: AverageRule, index: usize, sum: i64, n: i64, kernel: &[usize]) -> i32 {
        let (x, out) = (self.x, self.out);
        match rule {
            AverageRule::IntegerHalfAway
            | AverageRule::IntegerTrunc
            | AverageRule::IntegerFloor
            | AverageRule::IntegerTruncHundredth => {
                let raw = sum + n * x.zero_point;
                let mean = match rule {
                    AverageRule::IntegerTrunc => raw / n,
                    AverageRule::IntegerFloor => raw.div_euclid(n),
                    AverageRule::IntegerTruncHundredth => (raw as f32 / n as f32 + 0.01) as i64,
                    _ if raw > 0 => (raw + n / 2) / n,
                    _ => (raw - n / 2) / n,
                };
                match &self.rescale {
                    Some(rescale) => rescale(x.store(mean)),
                    None => out.store(mean),
                }
            }
            AverageRule::F32IntegerSum => {
                let gain = x.scale_f32() / (out.scale_f32() * n as f32);
                let v = num::round_f32(sum as f32 * gain, Rounding::HalfEven);
                out.store(v as i64 + out.zero_point)
            }
            AverageRule::F32RawSum => {
                // XNNPACK src/reference/unary-elementwise.cc, src/subgraph/static-reduce.c
                let raw = sum + n * x.zero_point;
                let c = x.scale_f32() / out.scale_f32() * (1.0 / n as f32);
                let zero = out.zero_point as f32 - (n * x.zero_point) as f32 * c;
                let v = num::round_f32(raw as f32 * c + zero, Rounding::HalfEven);
                out.store(v as i64)
            }
            AverageRule::RequantizeOverCountVector if self.image.is_some() => {
                let channels = self.image.unwrap_or(Channels::ONE);
                let behind = channels.of_index(index) >= channels.count - channels.count % 16;
                self.image_mean(sum + n * x.zero_point, n, behind)
            }
            AverageRule::RequantizeOverCount | AverageRule::RequantizeOverCountVector => {
                let m = self.multiplier;
                let log2 = 63 - n.leading_zeros() as i32;
                let k = log2.min(32).min(31 + m.exponent);
                let scaled = FixedMultiplier {
                    mantissa: ((i128::from(m.mantissa) << k.max(0)) / i128::from(n)) as i64,
                    exponent: m.exponent - k,
                    bits: m.bits,
                };
                let v = scaled.apply(sum, &self.steps, LeftShift::Wrap, 32).value;
                out.store(v + out.zero_point)
            }
            AverageRule::RoundedOnce => {
                // One division: a quotient of integers of this size is no tie unless it is one exactly.
                let v = sum as f64 * x.scale / (n as f64 * out.scale);
                out.store(num::round_f64(v, self.rounding) as i64 + out.zero_point)
            }
            AverageRule::DpuTable => {
                let (multiplier, shift) = dpu_reciprocal(kernel, n);
                let v = (sum * multiplier) as f64 / f64::from(1u32 << shift) * x.scale / out.scale;
                out.store(num::round_f64(v, self.rounding) as i64 + out.zero_point)
            }
            AverageRule::Q8ThreeSteps => {
                // hexagon_nn avgpool_d32: codes with 8 fractional bits, each step rounds toward +inf.
                let shift = 64 - (n - 1).max(0).leading_zeros() + 1;
                let raw = (sum + n * x.zero_point) * 256;
                let half = (1i64 << shift) >> 1;
                let first = num::saturate(i128::from((raw + half) >> shift), 16).value;
                let mantissa = num::round_f64(
                    f64::from(1u32 << (13 + shift)) / n as f64,
                    Rounding::HalfAway,
                );
                let second = (first * mantissa as i64 + 0x4000) >> 15;
                out.store((second + 32) >> 6)
            }
            AverageRule::F32Mean | AverageRule::F32MeanInside | AverageRule::F32MeanKernel => {
                mean::code(rule, sum, n, out)
            }
            AverageRule::FakeQuantize => self.fake.code(sum, n),
            AverageRule::Exact | AverageRule::F32 | AverageRule::F32Inside => 0,
        }
    }
}

impl std::fmt::Debug for Average {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Average")
            .field("rule", &self.rule)
            .finish_non_exhaustive()
    }
}

/// Multiplier and shift that the DPU uses for the reciprocal of a window
/// (Vitis-AI `cpu_task/ops/avgpool-fix`: a table, otherwise a search).
pub fn dpu_reciprocal(kernel: &[usize], n: i64) -> (i64, u32) {
    match kernel {
        [3, 3] => return (7, 6),
        [5, 5] => return (10, 8),
        [6, 6] => return (7, 8),
        [7, 7] => return (21, 10),
        [14, 14] => return (21, 12),
        _ => {}
    }
    let top = libm::ceil(libm::log2(128.0 * n as f64)) as u32;
    let mut best = (1, 0, f64::INFINITY);
    for shift in 0..top {
        let unit = libm::exp2(f64::from(shift));
        let multiplier = num::round_f64(unit / n as f64, Rounding::HalfAway);
        let error = (multiplier / unit - 1.0 / n as f64).abs();
        if error < best.2 {
            best = (multiplier as i64, shift, error);
        }
    }
    (best.0, best.1)
}
