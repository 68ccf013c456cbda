//! Fixed-point multipliers: a real factor as an integer mantissa and an exponent, and its application.

use align_check_specs::{LeftShift, Rounding, Shift, Step};

use super::{Flagged, Flags, Trace, round, saturate, wrap};

/// Most bits of a mantissa: an accumulator of 64 bits times it still fits `i128` exactly.
pub const MAX_MANTISSA_BITS: u32 = 62;

/// Bits of gemmlowp's and `TFLite`'s mantissa.
const Q31: u32 = 31;

/// A non-negative real as `mantissa * 2^(exponent - bits)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FixedMultiplier {
    /// In `2^(bits - 1) .. 2^bits`, or 0.
    pub mantissa: i64,
    /// The real lies in `2^(exponent - 1) .. 2^exponent`.
    pub exponent: i32,
    /// Bits of the mantissa, 1 to [`MAX_MANTISSA_BITS`].
    pub bits: u32,
}

impl FixedMultiplier {
    /// Rounds a real to a mantissa of `bits` bits; [`Flags::INEXACT`] where the multiplier is not `m`.
    ///
    /// With 31 bits and [`Rounding::HalfAway`] this is `TFLite`'s `QuantizeMultiplier`
    /// (`tflite/kernels/internal/quantization_util.cc`), including two of its specials:
    /// a mantissa that rounds up to `2^31` becomes `2^30` with the next exponent, and a multiplier below
    /// `2^-32` (exponent below -31) is **flushed to zero**. The flush belongs to the 31-bit format alone:
    /// it exists because `TFLite`'s second shift takes at most 31 bits. Other widths keep tiny multipliers.
    ///
    /// # Panics
    /// If `m` is negative or not finite, or `bits` is not in `1..=62`: callers check scales on import.
    pub fn from_real(m: f64, bits: u32, rounding: Rounding) -> Flagged<Self> {
        assert!(
            m.is_finite() && m >= 0.0,
            "the multiplier {m} is not a finite number >= 0"
        );
        assert!(
            (1..=MAX_MANTISSA_BITS).contains(&bits),
            "a mantissa of {bits} bits"
        );
        let zero = Self {
            mantissa: 0,
            exponent: 0,
            bits,
        };
        if m == 0.0 {
            return Flagged::exact(zero);
        }
        let (fraction, mut exponent) = libm::frexp(m);
        // A power of two: the product is exact.
        let rounded = round(fraction * (1u64 << bits) as f64, rounding);
        let mut mantissa = rounded.value as i64;
        if mantissa == 1 << bits {
            mantissa >>= 1;
            exponent += 1;
        }
        if bits == Q31 && exponent < -31 {
            return Flagged::new(zero, Flags::INEXACT);
        }
        Flagged::new(
            Self {
                mantissa,
                exponent,
                bits,
            },
            rounded.flags,
        )
    }

    /// The integer `m` with `|m| < 2^bits - 1` and the shift `n` in -32 to 30 that come nearest to `m / 2^n`:
    /// the error is an `f32`, and the first of equal ones counts (sophgo/tpu-mlir
    /// `lib/Support/MathUtils.cpp`, `get_scale_and_shift`).
    ///
    /// # Panics
    /// If `m` is negative or not finite.
    #[must_use]
    pub fn best(m: f64, bits: u32) -> Self {
        assert!(m.is_finite() && m >= 0.0, "the multiplier {m}");
        let limit = libm::ldexp(1.0, bits.cast_signed()) - 1.0;
        let mut best = (f32::INFINITY, 0i64, 0i32);
        for shift in -32..=30 {
            let mantissa = libm::round(libm::ldexp(m, shift));
            let error = (libm::ldexp(mantissa, -shift) - m).abs() as f32;
            if mantissa < limit && error < best.0 {
                best = (error, mantissa as i64, shift);
            }
        }
        // `apply` shifts left by positive exponents and right by `bits`.
        Self {
            mantissa: best.1,
            exponent: bits.cast_signed() - best.2,
            bits,
        }
    }

    /// The 16-bit multiplier of `TFLite`'s int16 kernels, from a 31-bit one:
    /// `Q < 0x7FFF0000 ? (Q + 2^15) >> 16 : 0x7FFF` (`internal/common.cc`, the `int64` overload of
    /// `MultiplyByQuantizedMultiplier`).
    ///
    /// # Panics
    /// If this is not a 31-bit multiplier.
    #[must_use]
    pub fn q15_reduced(self) -> Self {
        assert_eq!(self.bits, Q31, "only a 31-bit multiplier is reduced");
        let mantissa = if self.mantissa < 0x7FFF_0000 {
            (self.mantissa + (1 << 15)) >> 16
        } else {
            0x7FFF
        };
        Self {
            mantissa,
            exponent: self.exponent,
            bits: 15,
        }
    }

    /// The real number that this multiplier stands for.
    pub fn to_real(self) -> f64 {
        libm::ldexp(
            self.mantissa as f64,
            self.exponent - self.bits.cast_signed(),
        )
    }

    /// Writes the multiplier down as hardware holds it.
    pub fn shown(&self, name: &'static str, trace: &mut Trace) {
        let how = || {
            let power = self.exponent - self.bits.cast_signed();
            format!("the factor is this * 2^{power}")
        };
        trace.step(name, how, self.mantissa);
    }

    /// Bits that lie between the product and the result.
    pub(super) fn bits_to_drop(self) -> u32 {
        self.bits + self.exponent.min(0).unsigned_abs()
    }

    /// Requantizes an accumulator. This is the definition; [`FastMultiplier`](super::FastMultiplier) is
    /// held equal to it.
    ///
    /// 1. A positive exponent shifts `acc` to the left, as `left` says at `accumulator_bits`.
    /// 2. The exact product with the mantissa.
    /// 3. Each step shifts right and rounds: [`Shift::By`] drops so many bits, [`Shift::Rest`] those that
    ///    are left of `bits - min(exponent, 0)` (none, where earlier steps dropped them all); then it
    ///    saturates, where it says so.
    ///
    /// `TFLite`'s single-rounding build, `(x * Q + 2^(30 - s)) >> (31 - s)`, is one [`Shift::Rest`] with
    /// [`LeftShift::Exact`]: a shift to the left by `s` and one to the right by 31 drop `31 - s` bits.
    ///
    /// A result beyond 64 bits saturates there and says so.
    ///
    /// # Panics
    /// If a width is not in `1..=64`.
    pub fn apply(
        &self,
        acc: i64,
        steps: &[Step],
        left: LeftShift,
        accumulator_bits: u32,
    ) -> Flagged<i64> {
        self.traced(acc, steps, left, accumulator_bits, &mut Trace::off())
    }

    /// [`apply`](Self::apply), step by step.
    ///
    /// # Panics
    /// As [`apply`](Self::apply).
    pub fn traced(
        &self,
        acc: i64,
        steps: &[Step],
        left: LeftShift,
        accumulator_bits: u32,
        trace: &mut Trace,
    ) -> Flagged<i64> {
        let shifted = if self.exponent > 0 {
            let shifted = self.shift_left(acc, left, accumulator_bits);
            trace.flagged(
                "shifted left",
                || format!("{acc} * 2^{}", self.exponent),
                shifted,
            )
        } else {
            Flagged::exact(i128::from(acc))
        };
        let mut remaining = self.bits_to_drop();
        let mut result = shifted.map(|acc| {
            let how = || format!("{acc} * {}", self.mantissa);
            trace.step("product", how, acc * i128::from(self.mantissa))
        });
        for step in steps {
            let bits = match step.shift {
                Shift::By(bits) => bits,
                Shift::Rest => remaining,
            };
            remaining = remaining.saturating_sub(bits);
            result = result.and_then(|x| trace.shift_right(x, bits, step.rounding));
            if let Some(width) = step.saturate {
                let how = || format!("to {width} bits");
                result = result
                    .and_then(|x| trace.flagged("saturated", how, saturate(x, width)))
                    .map(i128::from);
            }
        }
        result.and_then(|x| saturate(x, 64))
    }

    fn shift_left(&self, acc: i64, left: LeftShift, accumulator_bits: u32) -> Flagged<i128> {
        // Beyond this, the product leaves 64 bits even after all shifts: the last saturation gives the
        // same result, and nothing overflows on the way.
        let limit = 1i128 << (127 - self.bits);
        let wide = checked_shift_left(acc, self.exponent.unsigned_abs());
        let fitted = match (left, wide) {
            (LeftShift::Exact, Some(x)) => return Flagged::exact(x.clamp(-limit, limit)),
            (LeftShift::Exact, None) => {
                return Flagged::exact(if acc < 0 { -limit } else { limit });
            }
            (LeftShift::Wrap, Some(x)) => wrap(x, accumulator_bits),
            // All low bits are zeros.
            (LeftShift::Wrap, None) => Flagged::new(0, Flags::WRAPPED),
            (LeftShift::Saturate, Some(x)) => saturate(x, accumulator_bits),
            (LeftShift::Saturate, None) => saturate(
                if acc < 0 { i128::MIN } else { i128::MAX },
                accumulator_bits,
            ),
        };
        fitted
            .flag(Flags::SHIFT_OVERFLOW.when(!fitted.flags.is_empty()))
            .map(i128::from)
    }
}

/// `acc * 2^bits`, where it fits; zero always does. `None` implies a shift by more than 63 bits.
fn checked_shift_left(acc: i64, bits: u32) -> Option<i128> {
    match bits {
        _ if acc == 0 => Some(0),
        0..=63 => Some(i128::from(acc) << bits),
        _ => None,
    }
}

/// The exponent of a number that is exactly a power of two (subnormal ones too).
pub fn power_of_two(m: f64) -> Option<i32> {
    if !(m.is_finite() && m > 0.0) {
        return None;
    }
    let (fraction, exponent) = libm::frexp(m);
    (fraction == 0.5).then_some(exponent - 1)
}
