//! [`Requantizer::code`] of many sums of one channel, in the short forms that rules have.

use align_check_specs::{BiasFormat, Division, Multiplier, Overflow, Rounding, ZeroPointPosition};

use super::{Channel, Requantizer};
use crate::kernels::{Isa, vectorize};
use crate::num::{self, FastMultiplier, round_to_i32};

/// Factors and offsets below this leave no sum infinite.
const HUGE: f64 = 1e20;

impl Requantizer {
    /// [`code`](Self::code) of many sums of one channel, without flags; each less `first` where it is kept as a byte.
    pub fn codes<T: Kept>(
        &self,
        isa: Isa,
        sums: &[i32],
        channel: usize,
        first: i32,
        out: &mut [T],
    ) {
        let c = &self.channels[channel];
        let rounding = self
            .rule
            .steps
            .first()
            .map_or(Rounding::HalfEven, |s| s.rounding);
        let small = |x: i64| x.abs() < 1 << 20;
        let narrow = [self.lo, self.hi, self.out.zero_point, self.out.relabel]
            .into_iter()
            .all(small);
        let zero = match self.rule.zero_point {
            ZeroPointPosition::InBias => 0,
            _ => self.out.zero_point,
        } as i32;
        let end = End {
            lo: (self.lo as i32).wrapping_sub(zero),
            hi: (self.hi as i32).wrapping_sub(zero),
            offset: zero.wrapping_sub(self.out.relabel as i32),
        };
        match (self.rule.multiplier, self.bias_in_32_bits(channel, sums)) {
            (
                Multiplier::F32 | Multiplier::F32TwoSteps { .. } | Multiplier::F32Reduced { .. },
                Some(bias),
            ) if rounding == Rounding::HalfEven && narrow => {
                self.singles(isa, sums, (c, bias), first, out);
            }
            (Multiplier::F64 | Multiplier::F64Reduced { .. } | Multiplier::Exact, Some(bias))
                if narrow && c.m.abs() < HUGE && c.bias_exact.abs() < HUGE =>
            {
                self.doubles(isa, sums, (c, bias), rounding, first, out);
            }
            (Multiplier::FakeQuantize { .. }, Some(bias))
                if rounding == Rounding::HalfEven && c.fake.is_some() =>
            {
                let Some(fake) = &c.fake else { return };
                fake.codes(isa, sums, bias, self.out, first, out);
            }
            (
                Multiplier::Fixed { .. }
                | Multiplier::FixedAbsolute { .. }
                | Multiplier::Best { .. }
                | Multiplier::Q15Reduced,
                Some(bias),
            ) if narrow && c.fast.is_some_and(FastMultiplier::is_narrow) => {
                let Some(fast) = c.fast else { return };
                vectorize(
                    isa,
                    #[inline(always)]
                    || {
                        fast.each_narrow(
                            sums,
                            bias,
                            out,
                            move |v| end.code(v),
                            move |c| T::keep(c, first),
                        );
                    },
                );
            }
            (
                Multiplier::Fixed { .. }
                | Multiplier::FixedAbsolute { .. }
                | Multiplier::Best { .. }
                | Multiplier::Q15Reduced,
                Some(bias),
            ) if c.fast.is_some() => {
                let Some(fast) = c.fast else { return };
                let (zero, lo, hi) = (i64::from(zero), self.lo, self.hi);
                let relabel = self.out.relabel;
                vectorize(
                    isa,
                    #[inline(always)]
                    || {
                        each(sums, first, out, move |acc| {
                            let v = fast.apply(acc.wrapping_add(bias)) + zero;
                            (v.clamp(lo, hi) - relabel) as i32
                        });
                    },
                );
            }
            (Multiplier::PowerOfTwo, Some(bias))
                if (0..=31).contains(&c.shift) && self.slope.is_none() && narrow =>
            {
                let shift = c.shift as u32;
                vectorize(
                    isa,
                    #[inline(always)]
                    || {
                        num::each_shifted(
                            sums,
                            shift,
                            rounding,
                            out,
                            move |acc| acc.wrapping_add(bias),
                            move |v| end.code(v),
                            move |code| T::keep(code, first),
                        );
                    },
                );
            }
            _ => each(sums, first, out, |acc| {
                self.code(i64::from(acc), channel, false).value
            }),
        }
    }

    /// The bias, where wrapping 32 bits hold every sum with it as the accumulator does: it is one, or nothing leaves it.
    fn bias_in_32_bits(&self, channel: usize, sums: &[i32]) -> Option<i32> {
        let bias = i32::try_from(self.channels[channel].bias).ok()?;
        if self.width.bits == 32 && self.width.overflow == Overflow::Wrap {
            return Some(bias);
        }
        let (min, max) = self.fits(channel);
        let (min, max) = (
            min.max(i64::from(i32::MIN) - i64::from(bias)),
            max.min(i64::from(i32::MAX) - i64::from(bias)),
        );
        let ends = |(lo, hi): (i32, i32), &sum: &i32| (lo.min(sum), hi.max(sum));
        let (lo, hi) = sums.iter().fold((i32::MAX, i32::MIN), ends);
        (sums.is_empty() || (i64::from(lo) >= min && i64::from(hi) <= max)).then_some(bias)
    }

    /// Where a rounded real is clamped, and what makes it a code; the zero point that is added before.
    ///
    /// Clamping before or after rounding is the same where the bounds are integers, and adding an integer zero point to a
    /// rounded real of this size, or to a clamped `i32`, is exact.
    fn end_of_reals(&self) -> (End, i32) {
        let inside = self.rule.zero_point == ZeroPointPosition::InsideRounding;
        let zero = self.out.zero_point as i32;
        let behind = if inside { 0 } else { zero };
        let end = End {
            lo: (self.lo as i32).wrapping_sub(behind),
            hi: (self.hi as i32).wrapping_sub(behind),
            offset: behind.wrapping_sub(self.out.relabel as i32),
        };
        (end, zero.wrapping_sub(behind))
    }

    /// [`codes`](Self::codes) of factors in `f32`, to the nearest, ties to even.
    fn singles<T: Kept>(
        &self,
        isa: Isa,
        sums: &[i32],
        (c, bias): (&Channel, i32),
        first: i32,
        out: &mut [T],
    ) {
        let (end, inside) = self.end_of_reals();
        let inside = inside as f32;
        let (in_sum, behind) = match (self.rule.multiplier, self.bias) {
            (Multiplier::F32Reduced { .. }, _) => (0.0, 0.0),
            (_, BiasFormat::F32InAccumulator) => (c.bias_f32, 0.0),
            (_, BiasFormat::F32AfterScale) => (0.0, c.bias_f32),
            _ => (0.0, 0.0),
        };
        let m = match self.rule.multiplier {
            Multiplier::F32TwoSteps { .. } => c.unit,
            _ => c.m as f32,
        };
        let scale = self.out.scale_f32();
        let (lo, hi, offset) = (end.lo as f32, end.hi as f32, end.offset);
        let finish = move |v: f32| round_to_i32((v + inside).max(lo).min(hi)).wrapping_add(offset);
        let start = move |acc: i32| (acc.wrapping_add(bias) as f32 + in_sum) * m + behind;
        vectorize(
            isa,
            #[inline(always)]
            || match self.rule.multiplier {
                Multiplier::F32TwoSteps {
                    division: Division::ReciprocalF32,
                } => {
                    let inverse = 1.0 / scale;
                    each(sums, first, out, move |acc| finish(start(acc) * inverse));
                }
                Multiplier::F32TwoSteps { .. } => {
                    each(sums, first, out, move |acc| finish(start(acc) / scale));
                }
                _ => each(sums, first, out, move |acc| finish(start(acc))),
            },
        );
    }

    /// [`codes`](Self::codes) of factors in `f64`.
    fn doubles<T: Kept>(
        &self,
        isa: Isa,
        sums: &[i32],
        (c, bias): (&Channel, i32),
        rounding: Rounding,
        first: i32,
        out: &mut [T],
    ) {
        let (end, inside) = self.end_of_reals();
        let (inside, offset) = (f64::from(inside), end.offset);
        let (lo, hi) = (f64::from(end.lo), f64::from(end.hi));
        let (m, exact) = (c.m, c.bias_exact);
        let real = move |acc: i32| {
            let v = f64::from(acc.wrapping_add(bias)) * m + exact + inside;
            let v = if v > lo { v } else { lo };
            if v < hi { v } else { hi }
        };
        vectorize(
            isa,
            #[inline(always)]
            || {
                num::each_rounded(sums, rounding, out, real, move |code| {
                    T::keep(code.wrapping_add(offset), first)
                });
            },
        );
    }
}

/// How a rounded integer becomes a stored code.
#[derive(Clone, Copy)]
struct End {
    /// Bounds less the zero point.
    lo: i32,
    hi: i32,
    /// Zero point less what the target's label is more than the stored code.
    offset: i32,
}

impl End {
    #[allow(
        clippy::inline_always,
        reason = "must be compiled with its caller's target features"
    )]
    #[inline(always)]
    fn code(self, v: i32) -> i32 {
        v.max(self.lo).min(self.hi).wrapping_add(self.offset)
    }
}

/// A code as a tensor keeps it.
pub trait Kept: Copy {
    /// Keeps a code, as a byte less the `first` one.
    fn keep(code: i32, first: i32) -> Self;
}

impl Kept for i32 {
    #[allow(
        clippy::inline_always,
        reason = "must be compiled with its caller's target features"
    )]
    #[inline(always)]
    fn keep(code: i32, _first: i32) -> Self {
        code
    }
}

impl Kept for u8 {
    #[allow(
        clippy::inline_always,
        reason = "must be compiled with its caller's target features"
    )]
    #[inline(always)]
    fn keep(code: i32, first: i32) -> Self {
        debug_assert!((0..256).contains(&(code - first)), "a code of its grid");
        code.wrapping_sub(first) as Self
    }
}

#[allow(
    clippy::inline_always,
    reason = "must be compiled with its caller's target features"
)]
#[inline(always)]
fn each<T: Kept>(sums: &[i32], first: i32, out: &mut [T], f: impl Fn(i32) -> i32) {
    num::each_block(sums, out, f, |code| T::keep(code, first));
}
