//! The common requantizations of 32-bit accumulators, in 64 bits and without flags.

use align_check_specs::{LeftShift, Rounding, Shift, Step};

use super::{FixedMultiplier, round_f32, round_f64};

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

/// `x / 2^bits`, rounded, for `bits` up to 31; equal to [`shift_right`](super::shift_right).
#[allow(
    clippy::inline_always,
    reason = "must be compiled with its caller's target features"
)]
#[inline(always)]
pub fn shift_right_i32(x: i32, bits: u32, r: Rounding) -> i32 {
    debug_assert!(bits <= 31);
    let below = x >> bits;
    let dropped = x & ((1u32 << bits) - 1).cast_signed();
    // Without a shift, nothing is dropped, and must stay below "half".
    let half = ((1u32 << bits) >> 1).max(1).cast_signed();
    let negative = i32::from(x < 0);
    let odd = below & 1;
    let up = match r {
        Rounding::HalfEven => dropped > half - odd,
        Rounding::HalfAway => dropped > half - (1 - negative),
        Rounding::HalfUp => dropped >= half,
        Rounding::HalfDown => dropped > half,
        Rounding::HalfTowardZero => dropped > half - negative,
        Rounding::HalfUpIfNegativeElseHalfEven => dropped > half - (negative | odd),
        Rounding::Floor => false,
        Rounding::Ceil => dropped != 0,
        Rounding::Trunc => negative == 1 && dropped != 0,
        Rounding::Away => negative == 0 && dropped != 0,
    };
    below + i32::from(up)
}

/// Calls `$f!(rounding)` with a constant, so that the loop inside has no choice left.
macro_rules! with_constant {
    ($r:expr, $f:ident) => {
        match $r {
            Rounding::HalfEven => $f!(Rounding::HalfEven),
            Rounding::HalfAway => $f!(Rounding::HalfAway),
            Rounding::HalfUp => $f!(Rounding::HalfUp),
            Rounding::HalfDown => $f!(Rounding::HalfDown),
            Rounding::HalfTowardZero => $f!(Rounding::HalfTowardZero),
            Rounding::HalfUpIfNegativeElseHalfEven => $f!(Rounding::HalfUpIfNegativeElseHalfEven),
            Rounding::Floor => $f!(Rounding::Floor),
            Rounding::Ceil => $f!(Rounding::Ceil),
            Rounding::Trunc => $f!(Rounding::Trunc),
            Rounding::Away => $f!(Rounding::Away),
        }
    };
}

/// Numbers that are computed together before they are kept: what is kept may be bytes, to which a compiler must assume
/// that anything points.
const BLOCK: usize = 64;

/// `keep(f(x))` of many numbers.
#[allow(
    clippy::inline_always,
    reason = "must be compiled with its caller's target features"
)]
#[inline(always)]
pub fn each_block<T>(from: &[i32], out: &mut [T], f: impl Fn(i32) -> i32, keep: impl Fn(i32) -> T) {
    let (blocks, rest) = from.as_chunks::<BLOCK>();
    let (outs, last) = out.as_chunks_mut::<BLOCK>();
    for (from, out) in blocks.iter().zip(outs) {
        let mut values = [0; BLOCK];
        for (value, &x) in values.iter_mut().zip(from) {
            *value = f(x);
        }
        for (out, value) in out.iter_mut().zip(values) {
            *out = keep(value);
        }
    }
    for (out, &x) in last.iter_mut().zip(rest) {
        *out = keep(f(x));
    }
}

/// `keep(end(shift_right_i32(start(x))))` of many numbers.
#[allow(
    clippy::inline_always,
    reason = "must be compiled with its caller's target features"
)]
#[inline(always)]
pub fn each_shifted<T>(
    from: &[i32],
    bits: u32,
    r: Rounding,
    out: &mut [T],
    start: impl Fn(i32) -> i32,
    end: impl Fn(i32) -> i32,
    keep: impl Fn(i32) -> T,
) {
    macro_rules! run {
        ($r:expr) => {
            each_block(
                from,
                out,
                #[inline(always)]
                |x| end(shift_right_i32(start(x), bits, $r)),
                keep,
            )
        };
    }
    with_constant!(r, run);
}

/// Nearest integer, ties to even, of an `f32` below 2^22 in magnitude: added to 1.5 * 2^23, the integer
/// stands in the low bits of the sum.
#[allow(
    clippy::inline_always,
    reason = "must be compiled with its caller's target features"
)]
#[inline(always)]
pub fn round_to_i32(v: f32) -> i32 {
    const MAGIC: f32 = 12_582_912.0;
    (v + MAGIC)
        .to_bits()
        .cast_signed()
        .wrapping_sub(MAGIC.to_bits().cast_signed())
}

/// The integer of an `f64` that is one, below 2^31 in magnitude: as [`round_to_i32`], with 1.5 * 2^52.
#[allow(
    clippy::inline_always,
    reason = "must be compiled with its caller's target features"
)]
#[inline(always)]
fn whole_to_i32(v: f64) -> i32 {
    const MAGIC: f64 = 6_755_399_441_055_744.0;
    // The low half of MAGIC is 0.
    (v + MAGIC).to_bits() as i32
}

/// `keep(round(real(x)))` of many numbers, for reals of at most 2^30 in magnitude.
#[allow(
    clippy::inline_always,
    reason = "must be compiled with its caller's target features"
)]
#[inline(always)]
pub fn each_rounded<T>(
    from: &[i32],
    r: Rounding,
    out: &mut [T],
    real: impl Fn(i32) -> f64,
    keep: impl Fn(i32) -> T,
) {
    if r == Rounding::HalfEven {
        // The sum rounds so itself.
        return each_block(
            from,
            out,
            #[inline(always)]
            |x| whole_to_i32(real(x)),
            keep,
        );
    }
    macro_rules! run {
        ($r:expr) => {
            each_block(
                from,
                out,
                #[inline(always)]
                |x| whole_to_i32(round_f64(real(x), $r)),
                keep,
            )
        };
    }
    with_constant!(r, run);
}

/// `end(round_f32(start(x)))` of many reals.
#[allow(
    clippy::inline_always,
    reason = "must be compiled with its caller's target features"
)]
#[inline(always)]
pub fn each_real(
    from: &[f64],
    r: Rounding,
    out: &mut [i32],
    start: impl Fn(f32) -> f32,
    end: impl Fn(f32) -> i32,
) {
    macro_rules! run {
        ($r:expr) => {
            for (out, &x) in out.iter_mut().zip(from) {
                *out = end(round_f32(start(x as f32), $r));
            }
        };
    }
    with_constant!(r, run);
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
    /// Of the second shift.
    rounding: Rounding,
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
            rounding: shifts[1].1,
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

    /// Whether the first shift leaves 32 bits and the second one is within them: for [`each_narrow`](Self::each_narrow).
    pub fn is_narrow(self) -> bool {
        // |acc * mantissa| < 2^62, and so is its sum with any nudge; 31 bits less leave 32.
        self.left == 0
            && i32::try_from(self.mantissa).is_ok()
            && self.first.bits >= 31
            && self.second.bits <= 31
    }

    /// `keep(end(apply(acc + bias)))` of many accumulators, where [`is_narrow`](Self::is_narrow).
    #[allow(
        clippy::inline_always,
        reason = "must be compiled with its caller's target features"
    )]
    #[inline(always)]
    pub fn each_narrow<T>(
        self,
        sums: &[i32],
        bias: i32,
        out: &mut [T],
        end: impl Fn(i32) -> i32,
        keep: impl Fn(i32) -> T,
    ) {
        let Self {
            mantissa,
            first,
            second,
            rounding,
            ..
        } = self;
        let (mantissa, always, bits) = (mantissa as i32, first.always, second.bits);
        let plain = first.negative == 0 && first.odd == 0;
        // The low half of a product that is shifted by 31 or 32 is the same for a shift of zeros: no 64-bit arithmetic
        // shift is needed, which vectors lack.
        let product =
            move |acc: i32| i64::from(acc.wrapping_add(bias)) * i64::from(mantissa) + always;
        let rest = first.bits.saturating_sub(32);
        if !plain {
            let start = move |acc| first.apply(product(acc) - always) as i32;
            each_shifted(sums, bits, rounding, out, start, end, keep);
        } else if first.bits == 31 {
            let start = move |acc| (product(acc) >> 31) as i32;
            each_shifted(sums, bits, rounding, out, start, end, keep);
        } else if bits == 0 {
            each_block(
                sums,
                out,
                #[inline(always)]
                |acc| end((product(acc) >> 32) as i32 >> rest),
                keep,
            );
        } else {
            let start = move |acc| (product(acc) >> 32) as i32 >> rest;
            each_shifted(sums, bits, rounding, out, start, end, keep);
        }
    }
}
