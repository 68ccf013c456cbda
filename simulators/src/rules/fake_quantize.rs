//! `fake-quantize`: a quantizer as a line through the ends of its range, every operation in `f32`.
//!
//! Formulas: openvinotoolkit/openvino `src/common/snippets/src/pass/fq_decomposition.cpp` (the quantizer by
//! itself), `src/plugins/intel_cpu/src/dnnl_postops_composer.cpp` and `nodes/fake_quantize.cpp` (behind sums).
//! The ranges are those that its ONNX frontend makes of `QuantizeLinear`.

use align_check_graph::Binary;
use align_check_specs::{Fold, Rounding};

use super::Labels;
use super::elementwise::PairFunction;
use super::requantize::{Kept, Unit};
use super::unary::CodeFunction;
use crate::kernels::{Isa, vectorize};
use crate::num::trace::short;
use crate::num::{self, Trace, round_to_i32};

/// A shift this far from the smallest code is no shift.
const NO_SHIFT: f32 = 1e-4;
/// Shifts of the channels of a layer that are as close as this are one.
const SAME_SHIFT: f32 = 5e-5;
/// A shift below this part of the range is none.
const NOTHING: f32 = 1e-5;

/// Factors and offsets up to this leave no sum infinite.
const HUGE: f32 = 1e9;

fn huge(x: f32) -> bool {
    x.is_nan() || x.abs() > HUGE
}

/// Whether an end of a grid does not leave room for arithmetic in `f32` and 32 bits.
fn far(code: i64) -> bool {
    code.abs() >= 1 << 20
}

/// Between two ends: as `max` and `min` of numbers.
#[allow(
    clippy::inline_always,
    reason = "must be compiled with its caller's target features"
)]
#[inline(always)]
fn between(v: f32, low: f32, high: f32) -> f32 {
    let v = if v > low { v } else { low };
    if v < high { v } else { high }
}

/// The reals at both ends of a grid's codes.
fn range(x: Labels) -> [f32; 2] {
    [x.min, x.max].map(|end| (end - x.zero_point) as f32 * x.scale_f32())
}

/// Steps between the smallest code and the largest.
fn levels(x: Labels) -> f32 {
    (x.max - x.min) as f32
}

/// The scale of a signed input, made anew from its range.
pub fn signed_scale(x: Labels) -> f32 {
    let [low, high] = range(x);
    (high - low) / levels(x)
}

/// `k` and `i` of the line that takes a range to `0..=levels`, as quantizers behind sums have it.
fn line([low, high]: [f32; 2], levels: f32) -> (f32, f32) {
    let span = high - low;
    (levels / span, -low * levels / span)
}

/// The quantizer by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct FakeQuantizer {
    out: Labels,
    rounding: Rounding,
    range: [f32; 2],
    k: f32,
    /// `il * k`; none where the grid has no zero point.
    shift: Option<f32>,
}

impl FakeQuantizer {
    /// The quantizer onto a grid, of reals in steps of `unit`.
    pub fn new(out: Labels, unit: f32, rounding: Rounding) -> Self {
        let [low, high] = range(out).map(|end| end / unit);
        let k = levels(out) / (high - low);
        let shift = low * k;
        Self {
            out,
            rounding,
            range: [low, high],
            k,
            shift: ((shift - out.min as f32).abs() >= NO_SHIFT).then_some(shift),
        }
    }

    /// The stored code of a real.
    pub fn code(&self, x: f32) -> i32 {
        self.traced(x, &mut Trace::off())
    }

    /// [`code`](Self::code) of many reals as `f32`, none of which is no number; `None` where there is no short form.
    pub fn codes(&self, isa: Isa, reals: &[f64]) -> Option<Vec<i32>> {
        let ([low, high], k) = (self.range, self.k);
        let (shift, min) = (self.shift.unwrap_or(0.0), self.out.min);
        if [low, high, k, shift].into_iter().any(huge) || [min, self.out.max].into_iter().any(far) {
            return None;
        }
        let add = if self.shift.is_some() { min } else { 0 };
        let (lo, hi) = ((min - add) as f32, (self.out.max - add) as f32);
        let offset = (add - self.out.relabel) as i32;
        let mut codes = vec![0; reals.len()];
        let rounding = self.rounding;
        // Less a shift of 0 is the same code.
        let steps = move |x: f32| x.max(low).min(high) * k - shift;
        let code = move |rounded: f32| (rounded.max(lo).min(hi) as i32).wrapping_add(offset);
        vectorize(
            isa,
            #[inline(always)]
            || num::each_real(reals, rounding, &mut codes, steps, code),
        );
        Some(codes)
    }

    /// [`code`](Self::code), step by step.
    pub fn traced(&self, x: f32, trace: &mut Trace) -> i32 {
        let [low, high] = self.range;
        trace.step("low", || "end of the range".into(), low);
        trace.step("high", || "end of the range".into(), high);
        let clamped = trace.step(
            "clamped",
            || format!("{} to low..high", short(x)),
            x.max(low).min(high),
        );
        let k = trace.step("k", || "levels / (high - low)".into(), self.k);
        let scaled = trace.step("scaled", || short(clamped) + " * k", clamped * k);
        let raw = match self.shift {
            None => trace.round_f32(scaled, self.rounding) as i64,
            Some(shift) => {
                let shift = trace.step("shift", || "low * k".into(), shift);
                let v = trace.step("shifted", || short(scaled) + " - shift", scaled - shift);
                let rounded = trace.round_f32(v, self.rounding) as i64;
                let how = || format!("{rounded} + {}", self.out.min);
                trace.step("from the smallest", how, rounded + self.out.min)
            }
        };
        self.out.stored(raw, trace)
    }
}

/// `add = "fake-quantize"`. `None`: a subtraction.
pub fn add(op: Binary, [a, b]: [Labels; 2], out: Labels) -> Option<PairFunction> {
    if op != Binary::Add {
        return None;
    }
    let (first, sum) = (Steps::new(a, b), Sum::new(b, out));
    Some(Box::new(move |qa, qb, trace| {
        let n = trace.step(
            "first",
            || format!("code {} - {}", a.raw(qa), a.min),
            a.raw(qa) - a.min,
        );
        trace.step(
            "step",
            || "of the first in steps of the second".into(),
            first.step,
        );
        trace.step(
            "low",
            || "of the first in steps of the second".into(),
            first.low,
        );
        let x = first.value(n as f32);
        trace.step("on the second", || format!("fma({n}, step, low)"), x);
        sum.code(x, qb, trace)
    }))
}

/// A grid in steps of another one: code `min + n` is `n * step + low`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Steps {
    low: f32,
    step: f32,
}

impl Steps {
    fn new(x: Labels, other: Labels) -> Self {
        let ends = range(x).map(|end| end / other.scale_f32() - other.zero_point as f32);
        Self {
            low: ends[0],
            step: (ends[1] - ends[0]) / levels(x),
        }
    }

    fn value(self, n: f32) -> f32 {
        n.mul_add(self.step, self.low)
    }
}

/// The end of an addition in steps of an operand that keeps its codes.
#[derive(Debug, Clone, PartialEq)]
struct Sum {
    kept: Labels,
    quantizer: FakeQuantizer,
}

impl Sum {
    fn new(kept: Labels, out: Labels) -> Self {
        Self {
            kept,
            quantizer: FakeQuantizer::new(out, kept.scale_f32(), Rounding::HalfEven),
        }
    }

    fn code(&self, x: f32, kept: i32, trace: &mut Trace) -> i32 {
        let kept = self.kept.raw(kept);
        let how = || format!("{} + code {kept}", short(x));
        let sum = trace.step("sum", how, x + kept as f32);
        self.quantizer.traced(sum, trace)
    }
}

/// `conv-add = "inner-clips"`: the real of a convolution and a code make a code.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvAdd {
    sum: Sum,
    /// The quantizer between them, and the one at the end.
    inner: Option<(Clip, Line)>,
}

/// A quantizer that clamps and does not round, in steps of the other operand.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Clip {
    k: f32,
    i: f32,
    low: f32,
    high: f32,
}

impl ConvAdd {
    /// Binds the rule to the grid between the operations (if there is one), the kept operand's and the output's.
    pub fn new(inner: Option<Labels>, kept: Labels, out: Labels) -> Self {
        let inner = inner.map(|x| {
            let (k, i) = line(range(x), levels(x));
            let Steps { low, step } = Steps::new(x, kept);
            let high = levels(x) * step + low;
            let i = i * step + low;
            let clip = Clip {
                k: k * step,
                i: if i.abs() < (high - low) * NOTHING {
                    0.0
                } else {
                    i
                },
                low,
                high,
            };
            (clip, Line::new(out, kept.scale_f32()))
        });
        Self {
            sum: Sum::new(kept, out),
            inner,
        }
    }

    /// The stored code.
    pub fn code(&self, v: f32, kept: i32, trace: &mut Trace) -> i32 {
        let other = self.sum.kept;
        match &self.inner {
            None => {
                let (scale, zero) = (other.scale_f32(), other.zero_point as f32);
                trace.step("scale", || "of the other operand".into(), scale);
                let how = || format!("{} / scale - {zero}", short(v));
                let x = trace.step("on the other", how, v / scale - zero);
                self.sum.code(x, kept, trace)
            }
            Some((clip, line)) => {
                trace.step("k", || "of the quantizer between".into(), clip.k);
                trace.step("i", || "of the quantizer between".into(), clip.i);
                let x = v.mul_add(clip.k, clip.i);
                let x = trace.step("on the other", || format!("fma({}, k, i)", short(v)), x);
                let how = || {
                    let (low, high) = (short(clip.low), short(clip.high));
                    format!("{} to {low}..{high}", short(x))
                };
                let x = trace.step("clipped", how, x.max(clip.low).min(clip.high));
                let raw = other.raw(kept);
                let how = || format!("{} + code {raw}", short(x));
                let sum = trace.step("sum", how, x + raw as f32);
                line.code(sum, self.sum.quantizer.out, Rounding::HalfEven, trace)
            }
        }
    }
}

impl ConvAdd {
    /// [`code`](Self::code) of many, none of whose reals is no number; `None` where there is no short form.
    pub fn codes(&self, isa: Isa, reals: &[f64], kept: &[i32]) -> Option<Vec<i32>> {
        let (clip, line) = self.inner.as_ref()?;
        let (other, out) = (self.sum.kept, self.sum.quantizer.out);
        let parts = [clip.k, clip.i, clip.low, clip.high, line.k, line.i];
        if parts.into_iter().any(huge)
            || [out.min, out.max, out.relabel, other.relabel]
                .into_iter()
                .any(far)
            || reals
                .iter()
                .any(|v| v.is_nan() || v.abs() > f64::from(HUGE))
        {
            return None;
        }
        let (min, max, relabel) = (out.min as f32, out.max as f32, out.relabel as i32);
        let Clip { k, i, low, high } = *clip;
        let kept_label = other.relabel as i32;
        let sum = move |v: f64, q: i32| {
            let x = between((v as f32).mul_add(k, i), low, high);
            x + q.wrapping_add(kept_label) as f32
        };
        let code = move |v: f32| round_to_i32(between(v, min, max)).wrapping_sub(relabel);
        let Line { k, i, fused } = *line;
        let mut codes = vec![0; reals.len()];
        vectorize(
            isa,
            #[inline(always)]
            || {
                let all = codes.iter_mut().zip(reals).zip(kept);
                if fused && i != 0.0 {
                    for ((out, &v), &q) in all {
                        *out = code(sum(v, q).mul_add(k, i));
                    }
                } else {
                    for ((out, &v), &q) in all {
                        *out = code(sum(v, q) * k + i);
                    }
                }
            },
        );
        Some(codes)
    }
}

/// The reals of a convolution that an addition is part of.
#[derive(Debug, Clone, PartialEq)]
pub struct Values {
    /// Scale and bias of each channel.
    channels: Vec<[f32; 2]>,
    /// One step beyond the range of the quantizer behind it: what lies further out is clamped by
    /// [`ConvAdd`] all the same.
    clamp: [f32; 2],
}

impl Values {
    /// Binds the rule to the scales of a convolution, and the grid behind it (if there is one).
    pub fn new(units: &[Unit], inner: Option<Labels>) -> Self {
        let scales = |unit: &Unit| [unit.x as f32 * unit.w as f32, unit.bias as f32];
        let clamp = inner.map_or([f32::NEG_INFINITY, f32::INFINITY], |x| {
            let [low, high] = range(x);
            [low - x.scale_f32(), high + x.scale_f32()]
        });
        Self {
            channels: units.iter().map(scales).collect(),
            clamp,
        }
    }

    /// The real of a sum.
    pub fn real(&self, sum: i64, channel: usize, trace: &mut Trace) -> f32 {
        let [scale, bias] = self.channels[channel];
        let [low, high] = self.clamp;
        trace.step("multiplier", || "scale of the sum".into(), scale);
        trace.step("bias", || "as f32".into(), bias);
        let how = || format!("{sum} * multiplier + bias");
        let v = trace.step("real", how, sum as f32 * scale + bias);
        let how = || format!("{} to {}..{}", short(v), short(low), short(high));
        trace.step("clipped", how, v.max(low).min(high))
    }
}

/// `mul = "fake-quantize"`.
pub fn mul([a, b]: [Labels; 2], out: Labels) -> PairFunction {
    let quantizer = FakeQuantizer::new(out, 1.0, Rounding::HalfEven);
    let real = |x: Labels| {
        let (low, step) = (range(x)[0], signed_scale(x));
        move |code: i32| ((x.raw(code) - x.min) as f32).mul_add(step, low)
    };
    let (ra, rb) = (real(a), real(b));
    Box::new(move |qa, qb, trace| {
        let va = trace.step("first", || format!("real of code {}", a.raw(qa)), ra(qa));
        let vb = trace.step("second", || format!("real of code {}", b.raw(qb)), rb(qb));
        let product = trace.step("product", || "first * second".into(), va * vb);
        quantizer.traced(product, trace)
    })
}

/// `rescale = "fake-quantize"`, with a clamp of reals.
pub fn rescale(x: Labels, out: Labels, clamp: (f64, f64)) -> CodeFunction {
    let quantizer = FakeQuantizer::new(out, x.scale_f32(), Rounding::HalfEven);
    // The conversion truncates, and saturates at infinities.
    let bound = |real: f64| (real / x.scale + x.zero_point as f64) as i64;
    let (low, high) = (bound(clamp.0), bound(clamp.1));
    Box::new(move |code, trace| {
        let raw = x.raw(code);
        let how = || format!("code {raw} to {low}..{high}, - zero point {}", x.zero_point);
        let steps = raw.max(low).min(high) - x.zero_point;
        let steps = trace.step("input", how, steps);
        quantizer.traced(steps as f32, trace)
    })
}

/// `average = "fake-quantize"`: from a sum of raw codes and the number of elements.
#[derive(Debug, Clone, PartialEq)]
pub struct Mean {
    out: Labels,
    k: f32,
    i: f32,
}

impl Mean {
    /// Binds the rule to its grids.
    pub fn new(x: Labels, out: Labels) -> Self {
        let ends = range(out).map(|end| end / x.scale_f32());
        let (k, i) = line(ends, levels(out));
        Self {
            out,
            k,
            i: i - x.zero_point as f32 * k,
        }
    }

    /// The stored code.
    pub fn code(&self, sum: i64, n: i64, trace: &mut Trace) -> i32 {
        let v = trace.step("mean", || format!("{sum} / {n}"), sum as f32 / n as f32);
        trace.step("k", || "levels / (high - low)".into(), self.k);
        trace.step(
            "i",
            || "-low * levels / (high - low) - zero point in * k".into(),
            self.i,
        );
        let v = trace.step(
            "scaled",
            || format!("fma({}, k, i)", short(v)),
            v.mul_add(self.k, self.i),
        );
        let raw = trace.round_f32(v, Rounding::HalfEven) as i64;
        let how = || format!("{raw} + {}", self.out.min);
        let raw = trace.step("from the smallest", how, raw + self.out.min);
        self.out.stored(raw, trace)
    }
}

/// `multiplier = "fake-quantize"` of one channel: from a sum to a code.
#[derive(Debug, Clone, PartialEq)]
pub struct Channel {
    /// Added to the sum first: what makes it one of raw codes.
    zeros: i64,
    scale: f32,
    bias: f32,
    clamp: (f32, f32),
    line: Line,
}

/// The quantizer behind a sum.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Line {
    k: f32,
    i: f32,
    fused: bool,
}

impl Line {
    /// The quantizer onto a grid, of reals in steps of `unit`.
    fn new(out: Labels, unit: f32) -> Self {
        let (k, i) = line(range(out).map(|end| end / unit), levels(out));
        Self {
            k,
            i: shifted(i, out),
            fused: true,
        }
    }

    fn code(&self, v: f32, out: Labels, rounding: Rounding, trace: &mut Trace) -> i32 {
        let (k, i) = (self.k, self.i);
        trace.step("k", || "factor of the quantizer".into(), k);
        trace.step("i", || "offset of the quantizer".into(), i);
        let v = if self.fused && i != 0.0 {
            trace.step(
                "in steps",
                || format!("fma({}, k, i)", short(v)),
                v.mul_add(k, i),
            )
        } else {
            trace.step("in steps", || short(v) + " * k + i", v * k + i)
        };
        let raw = trace.round_f32(v, rounding) as i64;
        out.stored(raw, trace)
    }
}

/// A shift of codes from 0 on, as one of codes from the smallest on.
fn shifted(i: f32, out: Labels) -> f32 {
    let i = i + out.min as f32;
    if i.abs() < levels(out) * NOTHING {
        0.0
    } else {
        i
    }
}

impl Channel {
    /// The channels of a layer. `clamp` are reals (a fused `ReLU`, `Clip`); `biased`: whether the layer adds a bias
    /// in `f32`.
    ///
    /// # Errors
    /// A text where the layer has no counterpart.
    pub fn layer(
        fold: Fold,
        units: &[Unit],
        biased: bool,
        out: Labels,
        clamp: (f64, f64),
    ) -> Result<Vec<Self>, String> {
        let ends = range(out);
        let open = clamp == (f64::NEG_INFINITY, f64::INFINITY);
        let relu = clamp == (0.0, f64::INFINITY);
        let scale = |unit: &Unit| unit.x as f32 * unit.w as f32;
        let idle = open || (relu && ends[0] == 0.0);
        let folds = match fold {
            Fold::Never => false,
            Fold::WithoutBias => !biased,
            Fold::WithoutRelu => idle,
        };
        if !folds {
            return Ok(units
                .iter()
                .map(|unit| Self {
                    zeros: 0,
                    scale: scale(unit),
                    bias: if biased { unit.bias as f32 } else { 0.0 },
                    clamp: (clamp.0 as f32, clamp.1 as f32),
                    line: Line::new(out, 1.0),
                })
                .collect());
        }
        if !(open || relu) || units.iter().any(|unit| scale(unit) <= 0.0) {
            return Err("a clamp or a negative factor, folded into a quantizer".into());
        }
        let folded = |zeros: i64, k: f32, i: f32| Self {
            zeros,
            scale: 1.0,
            bias: 0.0,
            clamp: (f32::NEG_INFINITY, f32::INFINITY),
            line: Line { k, i, fused: false },
        };
        if biased {
            let (k, i) = line(ends, levels(out));
            return Ok(units
                .iter()
                .map(|unit| {
                    let i = i + unit.bias as f32 * k;
                    folded(0, scale(unit) * k, i + out.min as f32)
                })
                .collect());
        }
        let raw = fold == Fold::WithoutRelu;
        let mut lines: Vec<(i64, f32, f32)> = units
            .iter()
            .map(|unit| {
                let zeros = if raw { unit.zeros } else { 0 };
                let ends = ends.map(|end| end / scale(unit) + zeros as f32);
                let (k, i) = line(ends, levels(out));
                (zeros, k, i)
            })
            .collect();
        let first = lines.first().map_or(0.0, |line| line.2);
        let one = lines.iter().all(|line| (line.2 - first).abs() < SAME_SHIFT);
        for line in &mut lines {
            line.2 = if one {
                shifted(first, out)
            } else {
                line.2 + out.min as f32
            };
        }
        let floor = if relu && !idle {
            0.0
        } else {
            f32::NEG_INFINITY
        };
        Ok(lines
            .into_iter()
            .map(|(zeros, k, i)| Self {
                clamp: (floor, f32::INFINITY),
                ..folded(zeros, k, i)
            })
            .collect())
    }

    /// The real of a sum: before the quantizer, in reals where nothing is folded.
    pub fn value(&self, sum: i64, trace: &mut Trace) -> f32 {
        let raw = match self.zeros {
            0 => sum,
            zeros => trace.step(
                "of raw codes",
                || format!("{sum} + {zeros}: zero point in * sum of the weights"),
                sum + zeros,
            ),
        };
        let (scale, bias) = (self.scale, self.bias);
        trace.step("multiplier", || "scale of the sum".into(), scale);
        trace.step("bias", || "as f32".into(), bias);
        let how = || format!("{raw} * multiplier + bias");
        let v = trace.step("real", how, raw as f32 * scale + bias);
        let (low, high) = self.clamp;
        let how = || format!("{} to {}..{}", short(v), short(low), short(high));
        trace.step("clipped", how, v.max(low).min(high))
    }

    /// [`traced`](Self::traced), half to even, of many sums that `bias` is added to in 32 bits; each less `first` where it
    /// is kept as a byte.
    pub fn codes<T: Kept>(
        &self,
        isa: Isa,
        sums: &[i32],
        bias: i32,
        out: Labels,
        first: i32,
        codes: &mut [T],
    ) {
        let Self {
            zeros,
            scale,
            bias: offset,
            clamp: (low, high),
            line,
        } = *self;
        let definition = [scale, offset, line.k, line.i].into_iter().any(huge)
            || low.is_nan()
            || high.is_nan()
            || zeros.unsigned_abs() >= 1 << 52
            || [out.min, out.max, out.relabel].into_iter().any(far);
        if definition {
            let code = |acc: i32| {
                let acc = i64::from(acc.wrapping_add(bias));
                self.traced(acc, out, Rounding::HalfEven, &mut Trace::off())
            };
            return num::each_block(sums, codes, code, |code| T::keep(code, first));
        }
        let (min, max, relabel) = (out.min as f32, out.max as f32, out.relabel as i32);
        // Exact in f64: rounded once.
        let raw = move |acc: i32| match zeros {
            0 => acc.wrapping_add(bias) as f32,
            zeros => (f64::from(acc.wrapping_add(bias)) + zeros as f64) as f32,
        };
        let value = move |acc: i32| between(raw(acc) * scale + offset, low, high);
        let code = move |v: f32| round_to_i32(between(v, min, max)).wrapping_sub(relabel);
        let keep = move |code| T::keep(code, first);
        let Line { k, i, fused } = line;
        vectorize(
            isa,
            #[inline(always)]
            || {
                if fused && i != 0.0 {
                    let code = move |acc| code(value(acc).mul_add(k, i));
                    num::each_block(sums, codes, code, keep);
                } else {
                    num::each_block(sums, codes, move |acc| code(value(acc) * k + i), keep);
                }
            },
        );
    }

    /// The code of a sum, step by step.
    pub fn traced(&self, sum: i64, out: Labels, rounding: Rounding, trace: &mut Trace) -> i32 {
        let v = self.value(sum, trace);
        self.line.code(v, out, rounding, trace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const U8: Labels = Labels {
        scale: 0.047_100_001_573_562_62,
        zero_point: 131,
        min: 0,
        max: 255,
        relabel: 0,
    };
    const S8: Labels = Labels {
        scale: 0.25,
        zero_point: -5,
        min: -128,
        max: 127,
        relabel: 0,
    };

    /// The code of a real on a grid, in exact arithmetic; `None` near a tie, where `f32` steps decide.
    fn nearest(real: f64, out: Labels) -> Option<i32> {
        let steps = real / out.scale + out.zero_point as f64;
        let far = (steps - steps.floor() - 0.5).abs() > 1e-3;
        far.then(|| out.store(num::round_f64(steps, Rounding::HalfEven) as i64))
    }

    fn real(code: i32, x: Labels) -> f64 {
        x.steps(code) as f64 * x.scale
    }

    /// Counts, so that a test that decides nothing fails.
    fn same(found: impl Iterator<Item = (Option<i32>, i32)>, least: usize) {
        let mut decided = 0;
        for (wanted, got) in found {
            if let Some(wanted) = wanted {
                assert_eq!(got, wanted);
                decided += 1;
            }
        }
        assert!(decided >= least, "{decided}");
    }

    #[test]
    fn reals_become_the_nearest_code() {
        let plain = Labels {
            zero_point: 0,
            ..S8
        };
        let end = Labels {
            zero_point: 0,
            ..U8
        };
        for out in [U8, S8, plain, end] {
            let quantizer = FakeQuantizer::new(out, 1.0, Rounding::HalfEven);
            assert_eq!(quantizer.shift.is_none(), out.zero_point == 0);
            let reals = (-4000..4000).map(|i| i as f32 * 0.0137);
            same(
                reals.map(|x| (nearest(f64::from(x), out), quantizer.code(x))),
                7000,
            );
        }
    }

    #[test]
    fn the_zero_point_is_inside_the_rounding() {
        // Ties at an odd zero point: half-even of v + z, not of v.
        let quantizer = FakeQuantizer::new(S8, 1.0, Rounding::HalfEven);
        for (x, code) in [(0.125, -4), (0.375, -4), (0.625, -2), (-0.125, -6)] {
            assert_eq!(quantizer.code(x), code, "{x}");
        }
    }

    #[test]
    fn sums_and_products_of_all_pairs() {
        let pairs = || (0..=255).flat_map(|a| (-128..=127).map(move |b| (a, b)));
        let sum = add(Binary::Add, [U8, S8], S8).expect("a sum");
        let sums = pairs().map(|(a, b)| {
            (
                nearest(real(a, U8) + real(b, S8), S8),
                sum(a, b, &mut Trace::off()),
            )
        });
        same(sums, 60_000);
        let product = mul([U8, S8], U8);
        let wanted = |a, b| nearest(real(a, U8) * real(b, S8), U8);
        same(
            pairs().map(|(a, b)| (wanted(a, b), product(a, b, &mut Trace::off()))),
            45_000,
        );
        assert!(add(Binary::Sub, [U8, S8], S8).is_none());
    }

    #[test]
    fn clamps_on_codes_truncate_their_bounds() {
        let x = Labels {
            scale: f64::from(0.1f32),
            zero_point: 0,
            ..U8
        };
        // 6 / f32(0.1) is just below 60.
        let clip = rescale(x, x, (0.0, 6.0));
        assert_eq!(
            [58, 59, 60, 255].map(|q| clip(q, &mut Trace::off())),
            [58, 59, 59, 59]
        );
        let open = rescale(S8, U8, (f64::NEG_INFINITY, f64::INFINITY));
        same(
            (-128..=127).map(|q| (nearest(real(q, S8), U8), open(q, &mut Trace::off()))),
            200,
        );
    }

    #[test]
    fn means_are_of_raw_codes() {
        let mean = Mean::new(S8, U8);
        let sums = (-2000..2000).map(|sum: i32| {
            let real = (f64::from(sum) / 9.0 - S8.zero_point as f64) * S8.scale;
            (
                nearest(real, U8),
                mean.code(i64::from(sum), 9, &mut Trace::off()),
            )
        });
        same(sums, 3900);
    }

    fn unit(bias: f64) -> Unit {
        Unit {
            x: 0.031_250_001_862_645_15,
            w: 0.017_100_000_753_998_756,
            zeros: 700,
            bias,
            code: None,
        }
    }

    /// Folded or not, a layer means the same; only near-ties move.
    #[test]
    fn folding_keeps_the_meaning() {
        let open = (f64::NEG_INFINITY, f64::INFINITY);
        let relu = (0.0, f64::INFINITY);
        for fold in [Fold::Never, Fold::WithoutBias, Fold::WithoutRelu] {
            for (bias, clamp) in [(0.0, open), (0.0, relu), (-0.7, open), (-0.7, relu)] {
                let units = [unit(bias), unit(bias)];
                let layer = Channel::layer(fold, &units, bias != 0.0, U8, clamp).expect("a layer");
                let codes = (-30_000..30_000).step_by(7).map(|acc| {
                    let real = (f64::from(acc) * units[1].x * units[1].w + bias).max(clamp.0);
                    let code =
                        layer[1].traced(i64::from(acc), U8, Rounding::HalfEven, &mut Trace::off());
                    (nearest(real, U8), code)
                });
                same(codes, 8000);
            }
        }
        let folded = |clamp| Channel::layer(Fold::WithoutBias, &[unit(0.0)], false, U8, clamp);
        assert!(folded((0.0, 6.0)).is_err());
    }

    #[test]
    fn the_inner_quantizer_clips_and_does_not_round() {
        let inner = Labels { scale: 0.1, ..U8 };
        for inner in [Some(inner), None] {
            let add = ConvAdd::new(inner, S8, U8);
            let reals = (-3000..3000).map(|i| f64::from(i as f32 * 0.0077));
            let [low, high] = inner.map_or([f64::MIN, f64::MAX], |x| range(x).map(f64::from));
            let codes = reals.flat_map(|v| {
                let add = &add;
                [-128, -7, 0, 127].map(|q| {
                    let sum = v.clamp(low, high) + real(q, S8);
                    (nearest(sum, U8), add.code(v as f32, q, &mut Trace::off()))
                })
            });
            same(codes, 23_000);
        }
    }
}
