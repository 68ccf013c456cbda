//! Rounding of reals, right shifts and quotients to integers, under every name of the zoo.

use std::cmp::Ordering;

use align_check_specs::Rounding;

use super::{Flagged, Flags};

/// Rounds a real to an integer. Exact on every finite `x`; NaN and infinities pass through without flags.
///
/// A result of zero may have either sign.
pub fn round(x: f64, r: Rounding) -> Flagged<f64> {
    if !x.is_finite() {
        return Flagged::exact(x);
    }
    // Exact: the fraction's bits are a subset of the bits of x.
    let fraction = (x - x.trunc()).abs();
    let flags = Flags::INEXACT.when(fraction != 0.0) | Flags::TIE.when(fraction == 0.5);
    Flagged::new(round_f64(x, r), flags)
}

macro_rules! round_float {
    ($(#[$doc:meta])* $name:ident, $float:ty) => {
        $(#[$doc])*
        ///
        /// Made of the rounding instructions that compilers vectorize (`floor`, `ceil`, `trunc`,
        /// `round_ties_even`) and exact differences. `floor(x + 0.5)` would be wrong: the sum rounds,
        /// and the number just below one half becomes 1.
        #[allow(clippy::inline_always, reason = "must be compiled with its caller's target features")]
        #[inline(always)]
        pub fn $name(x: $float, r: Rounding) -> $float {
            // `x - floor(x)` is exact where it decides: for x >= 0 and x <= -1/2 it needs no more bits
            // than x has, and in (-1/2, 0) it rounds to something that stays above one half.
            let half_up = |x: $float| {
                let below = x.floor();
                if x - below >= 0.5 { below + 1.0 } else { below }
            };
            match r {
                Rounding::HalfEven => x.round_ties_even(),
                Rounding::HalfAway => x.round(),
                Rounding::HalfUp => half_up(x),
                Rounding::HalfDown => -half_up(-x),
                // Ties of |x| toward zero are ties of -|x| upward.
                Rounding::HalfTowardZero => (-half_up(-x.abs())).copysign(x),
                Rounding::HalfUpIfNegativeElseHalfEven => {
                    let (negative, positive) = (half_up(x), x.round_ties_even());
                    if x < 0.0 { negative } else { positive }
                }
                Rounding::Floor => x.floor(),
                Rounding::Ceil => x.ceil(),
                Rounding::Trunc => x.trunc(),
                Rounding::Away => x.abs().ceil().copysign(x),
            }
        }
    };
}

round_float! {
    /// Rounds an `f64` to an integer, without flags; equal to [`round`](round()) on every input.
    round_f64, f64
}
round_float! {
    /// Rounds an `f32` to an integer, without flags; equal to [`round`](round()) on every input.
    round_f32, f32
}

/// `x / 2^bits`, rounded; any `bits`.
pub fn shift_right(x: i128, bits: u32, r: Rounding) -> Flagged<i128> {
    if bits == 0 || x == 0 {
        return Flagged::exact(x);
    }
    let sign = x >> 127;
    let (below, inexact, half) = match bits {
        1..=127 => {
            let dropped = x.cast_unsigned() & ((1 << bits) - 1);
            (x >> bits, dropped != 0, dropped.cmp(&(1 << (bits - 1))))
        }
        // x = -2^127 is the only tie; modulo 2^128, |x| <= 2^127 compares like the dropped bits.
        128 => (sign, true, x.cast_unsigned().cmp(&(1 << 127))),
        // |x| < 2^(bits - 1): less than half a step above 0, or more than half a step above -1.
        _ => (
            sign,
            true,
            if x < 0 {
                Ordering::Greater
            } else {
                Ordering::Less
            },
        ),
    };
    finish(below, inexact, half, x < 0, r)
}

/// `n / d`, rounded.
///
/// # Panics
/// If `d <= 0`.
pub fn divide(n: i128, d: i128, r: Rounding) -> Flagged<i128> {
    assert!(d > 0, "the divisor is {d}, not positive");
    let (below, rest) = (n.div_euclid(d), n.rem_euclid(d));
    // 2 * rest against d, without the doubling that could overflow.
    finish(below, rest != 0, rest.cmp(&(d - rest)), n < 0, r)
}

/// Chooses between `below` (the floor) and `below + 1`, from how the rest compares with one half.
fn finish(
    below: i128,
    inexact: bool,
    half: Ordering,
    negative: bool,
    r: Rounding,
) -> Flagged<i128> {
    if !inexact {
        return Flagged::exact(below);
    }
    let (above, tie, odd) = (half.is_gt(), half.is_eq(), below & 1 == 1);
    let up = match r {
        Rounding::HalfEven => above || tie && odd,
        Rounding::HalfAway => above || tie && !negative,
        Rounding::HalfUp => above || tie,
        Rounding::HalfDown => above,
        Rounding::HalfTowardZero => above || tie && negative,
        Rounding::HalfUpIfNegativeElseHalfEven => above || tie && (negative || odd),
        Rounding::Floor => false,
        Rounding::Ceil => true,
        Rounding::Trunc => negative,
        Rounding::Away => !negative,
    };
    let flags = Flags::INEXACT | Flags::TIE.when(tie);
    Flagged::new(below + i128::from(up), flags)
}
