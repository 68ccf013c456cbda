//! Integers of a width: clamping, saturation, wrapping.

use align_check_specs::Overflow;

use super::{Flagged, Flags};

/// `x` within `lo..=hi`.
pub fn clamp(x: i128, lo: i64, hi: i64) -> Flagged<i64> {
    if x < i128::from(lo) {
        Flagged::new(lo, Flags::SATURATED)
    } else if x > i128::from(hi) {
        Flagged::new(hi, Flags::SATURATED)
    } else {
        Flagged::exact(x as i64)
    }
}

/// `x` clamped to a signed integer of `bits` bits.
///
/// # Panics
/// If `bits` is not in `1..=64`.
pub fn saturate(x: i128, bits: u32) -> Flagged<i64> {
    let (lo, hi) = signed_range(bits);
    clamp(x, lo, hi)
}

/// `x` modulo `2^bits`, as a signed integer (two's complement).
///
/// # Panics
/// If `bits` is not in `1..=64`.
pub fn wrap(x: i128, bits: u32) -> Flagged<i64> {
    assert!((1..=64).contains(&bits), "{bits} bits do not fit an i64");
    let low = (x << (128 - bits)) >> (128 - bits);
    Flagged::new(low as i64, Flags::WRAPPED.when(low != x))
}

/// Smallest and largest signed integer of `bits` bits.
fn signed_range(bits: u32) -> (i64, i64) {
    assert!((1..=64).contains(&bits), "{bits} bits do not fit an i64");
    (i64::MIN >> (64 - bits), i64::MAX >> (64 - bits))
}

/// A signed register: how wide it is, and what a value beyond it becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Width {
    /// Bits, 8 to 64.
    pub bits: u32,
    /// What a value beyond the range becomes. [`Overflow::Exact`] promises that there is none; a value
    /// that breaks the promise saturates at 64 bits and says so.
    pub overflow: Overflow,
}

impl Width {
    /// Smallest and largest value that the register holds.
    pub fn range(self) -> (i64, i64) {
        match self.overflow {
            Overflow::Exact => (i64::MIN, i64::MAX),
            Overflow::Wrap | Overflow::Saturate => signed_range(self.bits),
        }
    }

    /// Stores `x`.
    pub fn fit(self, x: i128) -> Flagged<i64> {
        match self.overflow {
            Overflow::Exact => saturate(x, 64),
            Overflow::Wrap => wrap(x, self.bits),
            Overflow::Saturate => saturate(x, self.bits),
        }
    }

    /// One step of a sum.
    pub fn add(self, acc: i64, term: i64) -> Flagged<i64> {
        self.fit(i128::from(acc) + i128::from(term))
    }
}
