//! The common requantizations of 32-bit accumulators, in 64 bits and without flags.

use align_check_specs::{LeftShift, Rounding, Shift, Step};

use super::FixedMultiplier;

/// Most bits that a fast shift drops.
const MAX_SHIFT: u32 = 62;

/// `x / 2^bits`, rounded, for `bits` up to 62; equal to [`shift_right`](super::shift_right).
#[allow(
    clippy::inline_always,
    reason = "must be compiled with its caller's target features"
)]
#[inline(always)]
pub fn shift_right_i64(x: i64, bits: u32, r: Rounding) -> i64 {
    debug_assert!(bits <= MAX_SHIFT);
    let below = x >> bits;
    let dropped = x & ((1 << bits) - 1);
    // Without a shift, nothing is dropped, and must stay below "half".
    let half = ((1i64 << bits) >> 1).max(1);
    let negative = i64::from(x < 0);
    let odd = below & 1;
    let up = match r {
        Rounding::HalfEven => dropped + odd > half,
        Rounding::HalfAway => dropped + (1 - negative) > half,
        Rounding::HalfUp => dropped >= half,
        Rounding::HalfDown => dropped > half,
        Rounding::HalfTowardZero => dropped + negative > half,
        Rounding::HalfUpIfNegativeElseHalfEven => dropped + (negative | odd) > half,
        Rounding::Floor => false,
        Rounding::Ceil => dropped != 0,
        Rounding::Trunc => negative == 1 && dropped != 0,
        Rounding::Away => negative == 0 && dropped != 0,
    };
    below + i64::from(up)
}

/// A [`FixedMultiplier`] with its steps, prepared for `i32` accumulators.
///
/// Covers mantissas of up to 31 bits (Q31, Q15, 24-bit) with one or two rounding steps: gemmlowp's
/// `[31 half-up, rest half-away]`, ruy's `[31 half-up, rest half-up]`, single rounding, and their
/// neighbours of the zoo. Anything else has no fast form, see [`FixedMultiplier::fast`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FastMultiplier {
    mantissa: i64,
    /// Shift of the accumulator within 32 bits.
    left: u32,
    saturate_left: bool,
    first: PreparedShift,
    second: PreparedShift,
}

/// A rounding shift without branches: what to add before the floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct PreparedShift {
    bits: u32,
    /// Added to every number.
    always: i64,
    /// Added to negative numbers.
    negative: i64,
    /// 1, where an odd floor gets one more.
    odd: i64,
}

impl PreparedShift {
    /// `None` for more than [`MAX_SHIFT`] bits, and for the one mode that is two in one.
    fn new(bits: u32, r: Rounding) -> Option<Self> {
        if bits > MAX_SHIFT {
            return None;
        }
        if bits == 0 {
            return Some(Self::default());
        }
        let (half, all) = (1i64 << (bits - 1), (1i64 << bits) - 1);
        let (always, negative, odd) = match r {
            Rounding::HalfEven => (half - 1, 0, 1),
            Rounding::HalfAway => (half, -1, 0),
            Rounding::HalfUp => (half, 0, 0),
            Rounding::HalfDown => (half - 1, 0, 0),
            Rounding::HalfTowardZero => (half - 1, 1, 0),
            Rounding::Floor => (0, 0, 0),
            Rounding::Ceil => (all, 0, 0),
            Rounding::Trunc => (0, all, 0),
            Rounding::Away => (all, -all, 0),
            Rounding::HalfUpIfNegativeElseHalfEven => return None,
        };
        Some(Self {
            bits,
            always,
            negative,
            odd,
        })
    }

    /// For `|x| <= 2^62`.
    #[allow(
        clippy::inline_always,
        reason = "must be compiled with its caller's target features"
    )]
    #[inline(always)]
    fn apply(self, x: i64) -> i64 {
        let nudge = self.always + ((x >> 63) & self.negative) + ((x >> self.bits) & self.odd);
        (x + nudge) >> self.bits
    }
}

impl FixedMultiplier {
    /// Prepares [`apply`](Self::apply) for `i32` accumulators, where 64 bits suffice for it.
    pub fn fast(
        &self,
        steps: &[Step],
        left: LeftShift,
        accumulator_bits: u32,
    ) -> Option<FastMultiplier> {
        if self.bits > 31 {
            return None;
        }
        let raised = self.exponent.max(0).unsigned_abs();
        let exact_left = raised > 0 && left == LeftShift::Exact;
        if raised > 0 && !exact_left && (accumulator_bits != 32 || raised > 31) {
            return None;
        }
        let mut remaining = self.bits_to_drop();
        let mut shifts = [(0, Rounding::Floor); 2];
        if steps.len() > shifts.len() || steps.is_empty() {
            return None;
        }
        for (slot, step) in shifts.iter_mut().zip(steps) {
            // |acc * mantissa| < 2^62 before the first shift. Saturation does nothing where the
            // first step leaves at most 32 bits, that is, where it drops all bits of the mantissa.
            let bits = match step.shift {
                Shift::By(bits) => bits,
                Shift::Rest => remaining,
            };
            remaining = remaining.saturating_sub(bits);
            *slot = (bits, step.rounding);
        }
        let fits_32 = !exact_left && shifts[0].0 >= self.bits;
        if steps
            .iter()
            .any(|step| step.saturate.is_some_and(|bits| bits < 32 || !fits_32))
        {
            return None;
        }
        // An exact shift to the left undoes a part of the first shift to the right.
        if exact_left {
            shifts[0].0 = shifts[0].0.checked_sub(raised)?;
        }
        Some(FastMultiplier {
            mantissa: self.mantissa,
            left: if exact_left { 0 } else { raised },
            saturate_left: left == LeftShift::Saturate,
            first: PreparedShift::new(shifts[0].0, shifts[0].1)?,
            second: PreparedShift::new(shifts[1].0, shifts[1].1)?,
        })
    }
}

impl FastMultiplier {
    /// The value of [`FixedMultiplier::apply`].
    #[allow(
        clippy::inline_always,
        reason = "must be compiled with its caller's target features"
    )]
    #[inline(always)]
    pub fn apply(&self, acc: i32) -> i64 {
        let raised = i64::from(acc) << self.left;
        let acc = if self.saturate_left {
            raised.clamp(i64::from(i32::MIN), i64::from(i32::MAX))
        } else {
            i64::from(raised as i32)
        };
        self.second.apply(self.first.apply(acc * self.mantissa))
    }
}
