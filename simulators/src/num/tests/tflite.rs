//! gemmlowp's and `TFLite`'s integer primitives, written out as their sources state them (CPU evidence,
//! section 2), as the independent definition of Q31 requantization.

use align_check_specs::{LeftShift, Rounding, Shift, Step};
use proptest::prelude::*;

use super::patterns::{number, structured};
use crate::num::{FixedMultiplier, Flags, saturate, shift_right};

pub const fn step(shift: Shift, rounding: Rounding) -> Step {
    Step {
        shift,
        rounding,
        saturate: None,
    }
}

pub const DOUBLE: [Step; 2] = [
    step(Shift::By(31), Rounding::HalfUp),
    step(Shift::Rest, Rounding::HalfAway),
];
pub const RUY: [Step; 2] = [
    step(Shift::By(31), Rounding::HalfUp),
    step(Shift::Rest, Rounding::HalfUp),
];
pub const SINGLE: [Step; 1] = [step(Shift::Rest, Rounding::HalfUp)];

/// gemmlowp `SaturatingRoundingDoublingHighMul`.
fn srdhm(a: i32, b: i32) -> i32 {
    if a == i32::MIN && b == i32::MIN {
        return i32::MAX;
    }
    let ab = i64::from(a) * i64::from(b);
    let nudge = if ab >= 0 { 1 << 30 } else { 1 - (1 << 30) };
    // C's division truncates.
    ((ab + nudge) / (1 << 31)) as i32
}

/// gemmlowp `RoundingDivideByPOT`.
fn rdpot(x: i32, exponent: u32) -> i32 {
    let mask = ((1i64 << exponent) - 1) as i32;
    let threshold = (mask >> 1) + i32::from(x < 0);
    (if exponent == 32 { 0 } else { x >> exponent }) + i32::from((x & mask) > threshold)
}

/// `TFLite` `MultiplyByQuantizedMultiplier`, double rounding. The shift to the left wraps.
fn mbqm(x: i32, q: i32, s: i32) -> i32 {
    rdpot(
        srdhm(x.wrapping_shl(s.max(0).unsigned_abs()), q),
        (-s).max(0).unsigned_abs(),
    )
}

/// `QuantizeMultiplier` on the bits of a positive normal double.
fn quantize_multiplier(m: f64) -> (i64, i32) {
    let bits = m.to_bits();
    let significand = (bits & ((1 << 52) - 1)) | (1 << 52);
    let mut s = (bits >> 52) as i32 - 1022;
    // 53 bits to 31, halves away from zero.
    let mut q = ((significand + (1 << 21)) >> 22).cast_signed();
    if q == 1 << 31 {
        q /= 2;
        s += 1;
    }
    if s < -31 { (0, 0) } else { (q, s) }
}

fn q31(mantissa: i32, exponent: i32) -> FixedMultiplier {
    FixedMultiplier {
        mantissa: i64::from(mantissa),
        exponent,
        bits: 31,
    }
}

#[test]
fn srdhm_is_half_up() {
    let operands: Vec<i32> = structured(32).into_iter().map(|x| x as i32).collect();
    for &a in &operands {
        for &b in operands
            .iter()
            .step_by(7)
            .chain([&i32::MIN, &i32::MAX, &(1 << 30), &-(1 << 30)])
        {
            let ours = shift_right(i128::from(a) * i128::from(b), 31, Rounding::HalfUp)
                .and_then(|x| saturate(x, 32));
            assert_eq!(ours.value, i64::from(srdhm(a, b)), "{a} * {b}");
            let overflow = a == i32::MIN && b == i32::MIN;
            assert_eq!(ours.flags.contains(Flags::SATURATED), overflow, "{a} * {b}");
        }
    }
    // It looks like half away, and is not: -0.5 becomes 0.
    assert_eq!(srdhm(-1, 1 << 30), 0);
    assert_eq!(shift_right(-(1 << 30), 31, Rounding::HalfAway).value, -1);
}

#[test]
fn rdpot_is_half_away() {
    for x in structured(32) {
        for exponent in 0..=31 {
            let ours = shift_right(i128::from(x), exponent, Rounding::HalfAway).value;
            assert_eq!(
                ours,
                i128::from(rdpot(x as i32, exponent)),
                "{x} >> {exponent}"
            );
        }
    }
}

#[test]
fn quantize_multiplier_specials() {
    let from = |m: f64| FixedMultiplier::from_real(m, 31, Rounding::HalfAway);
    // The mantissa rounds up to 2^31.
    let fixed_up = from(1.0f64.next_down());
    assert_eq!(fixed_up.value, q31(1 << 30, 1));
    assert!(fixed_up.flags.contains(Flags::INEXACT));
    // 2^-32 is the smallest multiplier; below it: zero.
    let smallest = 2f64.powi(-32);
    assert_eq!(from(smallest).value, q31(1 << 30, -31));
    assert!(from(smallest).flags.is_empty());
    let below = from(smallest - smallest / 16.0);
    assert_eq!((below.value, below.flags), (q31(0, 0), Flags::INEXACT));
    // Rounded up to 2^-32 before the flush looks at it.
    assert_eq!(from(smallest.next_down()).value, q31(1 << 30, -31));
    // Other widths do not flush.
    let other = FixedMultiplier::from_real(smallest / 2.0, 24, Rounding::HalfEven).value;
    assert_eq!(
        other,
        FixedMultiplier {
            mantissa: 1 << 23,
            exponent: -32,
            bits: 24
        }
    );
    assert_eq!(from(0.0).value, q31(0, 0));
    // A tie of the mantissa, both ways.
    let tie = 0.5 + 2f64.powi(-32);
    assert_eq!(from(tie).value.mantissa, (1 << 30) + 1);
    assert!(from(tie).flags.contains(Flags::TIE));
    assert_eq!(
        FixedMultiplier::from_real(tie, 31, Rounding::HalfEven)
            .value
            .mantissa,
        1 << 30
    );
    // The neighbours below: truncation never needs the fix-up.
    assert_eq!(
        FixedMultiplier::from_real(1.0f64.next_down(), 31, Rounding::Trunc).value,
        q31(i32::MAX, 0),
    );
}

/// With a negative accumulator at a tie of the second shift, the three rules part ways.
#[test]
fn wrong_neighbours_differ_at_ties() {
    let multiplier = q31(1 << 30, -1); // 1/4
    let apply = |steps: &[Step]| multiplier.apply(-6, steps, LeftShift::Wrap, 32).value;
    assert_eq!(apply(&DOUBLE), -2); // -1.5, ties away
    assert_eq!(apply(&RUY), -1);
    assert_eq!(apply(&SINGLE), -1);
    // -0.75: two roundings make it -0.5 and then -1 or 0; one rounding makes it -1.
    let three = q31(3 << 29, -1); // 3/8
    let apply = |acc, steps: &[Step]| three.apply(acc, steps, LeftShift::Wrap, 32).value;
    assert_eq!(
        (apply(-2, &DOUBLE), apply(-2, &RUY), apply(-2, &SINGLE)),
        (-1, 0, -1)
    );
    let counted = |other: &[Step]| {
        (-5000..5000)
            .filter(|&acc| apply(acc, &DOUBLE) != apply(acc, other))
            .count()
    };
    assert!(counted(&RUY) > 0 && counted(&SINGLE) > 0);
}

proptest! {
    #[test]
    fn from_real_is_quantize_multiplier(bits in 0x3D00_0000_0000_0000u64..0x4200_0000_0000_0000, ones: bool) {
        // Runs of ones reach the fix-up.
        let m = f64::from_bits(if ones { bits | 0xF_FFFF_FFF0_0000 } else { bits });
        let ours = FixedMultiplier::from_real(m, 31, Rounding::HalfAway).value;
        prop_assert_eq!((ours.mantissa, ours.exponent), quantize_multiplier(m));
    }

    #[test]
    fn double_rounding_is_mbqm(
        acc in number(32), q in number(32).prop_map(|q| (q as i32).saturating_abs() | 1 << 30), s in -31i32..=31,
    ) {
        let ours = q31(q, s).apply(acc, &DOUBLE, LeftShift::Wrap, 32);
        prop_assert_eq!(ours.value, i64::from(mbqm(acc as i32, q, s)));
        let lossy = s > 0 && i64::from((acc as i32) << s) != acc << s;
        prop_assert_eq!(ours.flags.contains(Flags::SHIFT_OVERFLOW), lossy);
        prop_assert_eq!(ours.flags.contains(Flags::WRAPPED), lossy);
    }

    #[test]
    fn single_rounding_is_one_shift(
        acc in number(32), q in number(32).prop_map(|q| (q as i32).saturating_abs() | 1 << 30), s in -31i32..=30,
    ) {
        let product = acc * i64::from(q);
        let ours = q31(q, s).apply(acc, &SINGLE, LeftShift::Exact, 32).value;
        prop_assert_eq!(ours, (product + (1 << (30 - s))) >> (31 - s));
        // CMSIS-NN's spelling.
        prop_assert_eq!(ours, ((product >> (30 - s)) + 1) >> 1);
    }

    #[test]
    fn int16_kernels_use_the_reduced_multiplier(
        acc in number(48), q in number(32).prop_map(|q| (q as i32).saturating_abs() | 1 << 30), s in -31i32..8,
    ) {
        let reduced = if q < 0x7FFF_0000 { (q + (1 << 15)) >> 16 } else { 0x7FFF };
        let multiplier = q31(q, s).q15_reduced();
        prop_assert_eq!((multiplier.mantissa, multiplier.bits), (i64::from(reduced), 15));
        let expected = (acc * i64::from(reduced) + (1 << (14 - s))) >> (15 - s);
        prop_assert_eq!(multiplier.apply(acc, &SINGLE, LeftShift::Exact, 64).value, expected);
    }
}
