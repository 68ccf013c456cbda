//! Means of quantized codes.

use align_check_specs::{AverageRule, LeftShift, Rounding, Shift, Spec, Step};

use super::Labels;
use super::fake_quantize;
use super::mean;
use super::real::RealQuantizer;
use super::unary::{CodeFunction, last_rounding, rescale, shift_rounding};
use crate::num::trace::short;
use crate::num::{self, FixedMultiplier, Trace};
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
        let trace = &mut Trace::off();
        let rule = self.rule_of(windows);
        if sums_reals(rule) {
            let sums = windows.fold(codes, 0.0f32, |sum, q| sum + self.real_of(q));
            let code = |(i, sum)| self.real(sum, Self::divisor(rule, windows, i), trace);
            return sums.into_iter().enumerate().map(code).collect();
        }
        let zero = self.subtracted(rule);
        let sums = windows.fold(codes, 0i64, |sum, q| sum + self.x.raw(q) - zero);
        let code = |(i, sum)| {
            let n = i64::from(Self::divisor(rule, windows, i));
            self.integer(rule, i, sum, n, &windows.kernel, trace)
        };
        sums.into_iter().enumerate().map(code).collect()
    }

    /// One of [`codes`](Self::codes), step by step; `codes` are those of its window.
    pub fn traced(&self, windows: &Windows, codes: &[i32], index: usize, trace: &mut Trace) -> i32 {
        let rule = self.rule_of(windows);
        let n = Self::divisor(rule, windows, index);
        if sums_reals(rule) {
            trace.step("scale", String::new, self.x.scale_f32());
            let real = |q: &i32| short(self.real_of(*q));
            let how = || codes.iter().map(real).collect::<Vec<_>>().join(" + ");
            let sum = codes.iter().fold(0.0f32, |sum, &q| sum + self.real_of(q));
            let sum = trace.step("sum", how, sum);
            return self.real(sum, n, trace);
        }
        let zero = self.subtracted(rule);
        let sum = codes.iter().map(|&q| self.x.raw(q) - zero).sum();
        let how = || {
            let raw = |q: &i32| self.x.raw(*q).to_string();
            let codes: Vec<String> = codes.iter().map(raw).collect();
            format!("codes {} - {} * {zero}", codes.join(" + "), codes.len())
        };
        let sum = trace.step("sum", how, sum);
        self.integer(rule, index, sum, i64::from(n), &windows.kernel, trace)
    }

    fn rule_of(&self, windows: &Windows) -> AverageRule {
        match self.rule {
            AverageRule::F32Inside if windows.whole_image => AverageRule::F32IntegerSum,
            rule => rule,
        }
    }

    /// What the sum of a window is divided by.
    fn divisor(rule: AverageRule, windows: &Windows, index: usize) -> u32 {
        let whole_kernel = match rule {
            AverageRule::F32Inside => windows.padding_counts,
            rule => rule == AverageRule::F32MeanKernel,
        };
        if whole_kernel {
            windows.kernel.iter().product::<usize>() as u32
        } else {
            windows.divisors[index % windows.len().max(1)]
        }
    }

    fn real_of(&self, code: i32) -> f32 {
        self.x.steps(code) as f32 * self.x.scale_f32()
    }

    /// Where padding counts, it is the zero point; but `OpenVINO`'s is raw code 0.
    fn subtracted(&self, rule: AverageRule) -> i64 {
        match rule {
            AverageRule::FakeQuantize => 0,
            _ => self.x.zero_point,
        }
    }

    /// From the sum of raw codes (`tflite/kernels/internal/optimized/integer_ops/mean.h`).
    fn image_mean(&self, raw: i64, n: i64, behind: bool, trace: &mut Trace) -> i32 {
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
        m.shown("multiplier", trace);
        let v = m.traced(raw, &steps, LeftShift::Wrap, 32, trace).value;
        let less = nearest.trunc() as i64;
        let how = || format!("{v} - trunc(zx * sx / sy +- 0.5) = {less}");
        let v = trace.step("less the input's", how, v - less);
        out.placed(v, trace)
    }

    fn real(&self, sum: f32, n: u32, trace: &mut Trace) -> i32 {
        let how = || format!("{} / {n}", short(sum));
        let mean = trace.step("mean", how, sum / n as f32);
        if self.rule == AverageRule::F32Inside {
            let (scale, zero) = (self.out.scale_f32(), self.out.zero_point as f32);
            trace.step("scale out", String::new, scale);
            let how = || format!("{} / scale out + {zero}", short(mean));
            let v = trace.step("with zero point", how, mean / scale + zero);
            let raw = trace.round_f32(v, Rounding::HalfEven) as i64;
            return self.out.stored(raw, trace);
        }
        self.quantizer.traced(mean, trace)
    }

    /// From the sum of `code - zx` (a padded position that counts is 0; of raw codes for `fake-quantize`) and the
    /// number of elements.
    fn integer(
        &self,
        rule: AverageRule,
        index: usize,
        sum: i64,
        n: i64,
        kernel: &[usize],
        trace: &mut Trace,
    ) -> i32 {
        let (x, out) = (self.x, self.out);
        let raw = |trace: &mut Trace| {
            let how = || format!("{sum} + {n} * {}", x.zero_point);
            trace.step("raw sum", how, sum + n * x.zero_point)
        };
        match rule {
            AverageRule::IntegerHalfAway
            | AverageRule::IntegerTrunc
            | AverageRule::IntegerFloor
            | AverageRule::IntegerTruncHundredth => {
                let raw = raw(trace);
                let (mean, word) = match rule {
                    AverageRule::IntegerTrunc => (raw / n, "trunc"),
                    AverageRule::IntegerFloor => (raw.div_euclid(n), "floor"),
                    AverageRule::IntegerTruncHundredth => {
                        ((raw as f32 / n as f32 + 0.01) as i64, "trunc, 0.01 added")
                    }
                    _ if raw > 0 => ((raw + n / 2) / n, "half-away"),
                    _ => ((raw - n / 2) / n, "half-away"),
                };
                let mean = trace.step("mean", || format!("{raw} / {n}, {word}"), mean);
                match &self.rescale {
                    Some(rescale) => rescale(x.store(mean), trace),
                    None => out.stored(mean, trace),
                }
            }
            AverageRule::F32IntegerSum => {
                let gain = x.scale_f32() / (out.scale_f32() * n as f32);
                trace.step("multiplier", || format!("sx / (sy * {n}), in f32"), gain);
                let how = || format!("{sum} * multiplier");
                let v = trace.step("scaled", how, sum as f32 * gain);
                let v = trace.round_f32(v, Rounding::HalfEven);
                out.placed(v as i64, trace)
            }
            AverageRule::F32RawSum => {
                // XNNPACK src/reference/unary-elementwise.cc, src/subgraph/static-reduce.c
                let raw = raw(trace);
                let c = x.scale_f32() / out.scale_f32() * (1.0 / n as f32);
                let zero = out.zero_point as f32 - (n * x.zero_point) as f32 * c;
                trace.step("multiplier", || format!("sx / sy * (1 / {n}), in f32"), c);
                let how = || format!("zy - {} * multiplier", n * x.zero_point);
                trace.step("constant", how, zero);
                let how = || format!("{raw} * multiplier + constant");
                let v = trace.step("in steps", how, raw as f32 * c + zero);
                let v = trace.round_f32(v, Rounding::HalfEven);
                out.stored(v as i64, trace)
            }
            AverageRule::RequantizeOverCountVector if self.image.is_some() => {
                let channels = self.image.unwrap_or(Channels::ONE);
                let behind = channels.of_index(index) >= channels.count - channels.count % 16;
                let raw = raw(trace);
                self.image_mean(raw, n, behind, trace)
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
                m.shown("sx / sy", trace);
                let how = || format!("{} * 2^{} / {n}, trunc", m.mantissa, k.max(0));
                trace.step("multiplier", how, scaled.mantissa);
                let v = scaled.traced(sum, &self.steps, LeftShift::Wrap, 32, trace);
                out.placed(v.value, trace)
            }
            AverageRule::RoundedOnce => {
                // One division: a quotient of integers of this size is no tie unless it is one exactly.
                trace.step("scale", String::new, x.scale);
                trace.step("scale out", String::new, out.scale);
                let v = sum as f64 * x.scale / (n as f64 * out.scale);
                let how = || format!("{sum} * scale / ({n} * scale out)");
                let v = trace.step("in steps", how, v);
                let v = trace.round_f64(v, self.rounding) as i64;
                out.placed(v, trace)
            }
            AverageRule::DpuTable => {
                let (multiplier, shift) = dpu_reciprocal(kernel, n);
                trace.step("scale", String::new, x.scale);
                trace.step("scale out", String::new, out.scale);
                let v = (sum * multiplier) as f64 / f64::from(1u32 << shift) * x.scale / out.scale;
                let how = || format!("{sum} * {multiplier} / 2^{shift} * scale / scale out");
                let v = trace.step("in steps", how, v);
                let v = trace.round_f64(v, self.rounding) as i64;
                out.placed(v, trace)
            }
            AverageRule::Q8ThreeSteps => {
                // hexagon_nn avgpool_d32: codes with 8 fractional bits, each step rounds toward +inf.
                let shift = 64 - (n - 1).max(0).leading_zeros() + 1;
                let raw = raw(trace) * 256;
                let half = (1i64 << shift) >> 1;
                let fitted = num::saturate(i128::from((raw + half) >> shift), 16);
                let how = || format!("({raw} + {half}) >> {shift}, in 16 bits");
                let first = trace.flagged("shifted", how, fitted).value;
                let mantissa = num::round_f64(
                    f64::from(1u32 << (13 + shift)) / n as f64,
                    Rounding::HalfAway,
                ) as i64;
                let how = || format!("({first} * {mantissa} + 2^14) >> 15");
                let second = trace.step("scaled", how, (first * mantissa + 0x4000) >> 15);
                let how = || format!("({second} + 32) >> 6");
                let v = trace.step("shifted", how, (second + 32) >> 6);
                out.stored(v, trace)
            }
            AverageRule::F32Mean | AverageRule::F32MeanInside | AverageRule::F32MeanKernel => {
                mean::code(rule, sum, n, out, trace)
            }
            AverageRule::FakeQuantize => self.fake.code(sum, n, trace),
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

/// Whether reals are summed, in the window's order.
fn sums_reals(rule: AverageRule) -> bool {
    matches!(rule, AverageRule::F32 | AverageRule::F32Inside)
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
