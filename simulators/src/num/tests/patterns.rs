//! Operands with structure, after berkeley-testfloat: uniform random numbers hardly ever meet a tie.

use align_check_specs::Rounding;
use proptest::prelude::*;

pub fn any_rounding() -> impl Strategy<Value = Rounding> {
    prop::sample::select(Rounding::ALL)
}

/// Single bits, runs of ones, their neighbours, both signs, the extremes; of a signed width.
pub fn structured(bits: u32) -> Vec<i64> {
    let (min, max) = (i64::MIN >> (64 - bits), i64::MAX >> (64 - bits));
    let mut values = vec![0, min, min + 1, max, max - 1];
    for high in 0..bits - 1 {
        for low in 0..=high {
            let run = (i64::MAX >> (62 - (high - low))) << low;
            for value in [run - 1, run, run.saturating_add(1), 1 << high] {
                values.extend([value, -value]);
            }
        }
    }
    values.retain(|v| (min..=max).contains(v));
    values.sort_unstable();
    values.dedup();
    values
}

/// A number of a signed width: structured, or `k * 2^s + 2^(s-1)` and its neighbours, or anything.
pub fn number(bits: u32) -> impl Strategy<Value = i64> {
    let (min, max) = (i64::MIN >> (64 - bits), i64::MAX >> (64 - bits));
    let near_tie = (min..=max, 1..bits - 1, -1i64..=1).prop_map(move |(x, shift, nudge)| {
        ((x >> shift) << shift)
            .saturating_add((1 << (shift - 1)) + nudge)
            .clamp(min, max)
    });
    prop_oneof![prop::sample::select(structured(bits)), near_tie, min..=max]
}
