use align_check_specs::Rounding;
use fixed::types::I48F16;
use proptest::prelude::*;

use super::patterns::{any_rounding, number, structured};
use super::slow;
use crate::num::{
    Flagged, Flags, divide, round, round_f32, round_f64, shift_right, shift_right_i64,
};

/// The table of the FPGA evidence, section 1.1.
#[test]
fn names_mean_what_the_table_says() {
    let inputs = [-3.5, -2.5, -0.5, 0.5, 2.5, 3.5];
    let rows = [
        (Rounding::HalfEven, [-4, -2, 0, 0, 2, 4]),
        (Rounding::HalfAway, [-4, -3, -1, 1, 3, 4]),
        (Rounding::HalfUp, [-3, -2, 0, 1, 3, 4]),
        (Rounding::HalfDown, [-4, -3, -1, 0, 2, 3]),
        (Rounding::HalfTowardZero, [-3, -2, 0, 0, 2, 3]),
        (Rounding::HalfUpIfNegativeElseHalfEven, [-3, -2, 0, 0, 2, 4]),
        (Rounding::Floor, [-4, -3, -1, 0, 2, 3]),
        (Rounding::Ceil, [-3, -2, 0, 1, 3, 4]),
        (Rounding::Trunc, [-3, -2, 0, 0, 2, 3]),
        (Rounding::Away, [-4, -3, -1, 1, 3, 4]),
    ];
    let tie = Flags::TIE | Flags::INEXACT;
    for (mode, expected) in rows {
        for (x, expected) in inputs.into_iter().zip(expected) {
            let doubled = (2.0 * x) as i128;
            assert_eq!(
                round(x, mode),
                Flagged::new(f64::from(expected), tie),
                "{mode:?} {x}"
            );
            assert_eq!(round_f32(x as f32, mode), expected as f32, "{mode:?} {x}");
            let expected = Flagged::new(i128::from(expected), tie);
            assert_eq!(shift_right(doubled, 1, mode), expected, "{mode:?} {x}");
            assert_eq!(divide(doubled, 2, mode), expected, "{mode:?} {x}");
        }
    }
}

fn expected_flags(n: i128, d: i128) -> Flags {
    Flags::INEXACT.when(n % d != 0) | Flags::TIE.when(slow::is_tie(n, d))
}

#[test]
fn quotients_equal_the_slow_definition_exhaustively() {
    for d in 1..=24 {
        for n in -240..=240 {
            for &mode in Rounding::ALL {
                let expected = Flagged::new(slow::round(n, d, mode), expected_flags(n, d));
                assert_eq!(divide(n, d, mode), expected, "{mode:?} {n}/{d}");
            }
        }
    }
}

#[test]
fn shifts_and_floats_equal_the_slow_definition_exhaustively() {
    for bits in 0..=12 {
        let d = 1i128 << bits;
        for n in -2100i128..=2100 {
            // Exact in both floats.
            let real = n as f64 / d as f64;
            for &mode in Rounding::ALL {
                let value = slow::round(n, d, mode);
                let flags = expected_flags(n, d);
                assert_eq!(
                    shift_right(n, bits, mode),
                    Flagged::new(value, flags),
                    "{mode:?} {n}>>{bits}"
                );
                assert_eq!(
                    i128::from(shift_right_i64(n as i64, bits, mode)),
                    value,
                    "{mode:?} {n}>>{bits}"
                );
                assert_eq!(
                    round(real, mode),
                    Flagged::new(value as f64, flags),
                    "{mode:?} {real}"
                );
                assert_eq!(
                    round_f32(real as f32, mode),
                    value as f32,
                    "{mode:?} {real}"
                );
            }
        }
    }
}

#[test]
fn shifts_by_more_bits_than_there_are() {
    let tie = Flags::TIE | Flags::INEXACT;
    // -2^127 / 2^128 is -1/2.
    for &mode in Rounding::ALL {
        let half = Flagged::new(slow::round(-1, 2, mode), tie);
        assert_eq!(shift_right(i128::MIN, 128, mode), half, "{mode:?}");
        let expected = |x: i128| Flagged::new(slow::round(x.signum(), 100, mode), Flags::INEXACT);
        for x in [1, -1, i128::MAX, i128::MIN + 1] {
            assert_eq!(shift_right(x, 128, mode), expected(x), "{mode:?} {x}");
            assert_eq!(shift_right(x, u32::MAX, mode), expected(x), "{mode:?} {x}");
        }
        assert_eq!(
            shift_right(i128::MIN, 129, mode),
            expected(i128::MIN),
            "{mode:?}"
        );
        assert_eq!(shift_right(0, 500, mode), Flagged::exact(0));
        // Half of the largest power: 1 exactly, and ties next to it.
        assert_eq!(shift_right(i128::MIN, 127, mode), Flagged::exact(-1));
        assert_eq!(
            shift_right(1 << 126, 127, mode),
            Flagged::new(slow::round(1, 2, mode), tie)
        );
    }
}

#[test]
#[should_panic(expected = "not positive")]
fn quotients_by_zero_are_refused() {
    let _ = divide(1, 0, Rounding::Floor);
}

#[test]
fn floats_beside_one_half_stay_below_it() {
    for x in [0.5f32.next_down(), (-0.5f32).next_up()] {
        for mode in &Rounding::ALL[..6] {
            assert_eq!(round_f32(x, *mode), 0.0, "{mode:?} {x}");
            assert_eq!(round_f64(f64::from(x), *mode), 0.0, "{mode:?} {x}");
        }
    }
    // What the obvious formula gives.
    assert_eq!((0.5f32.next_down() + 0.5).floor(), 1.0);
}

#[test]
fn non_finite_numbers_pass_through() {
    for &mode in Rounding::ALL {
        for x in [f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(round(x, mode), Flagged::exact(x));
            assert_eq!(round_f32(x as f32, mode), x as f32);
        }
        let nan = round(f64::NAN, mode);
        assert!(nan.value.is_nan() && nan.flags.is_empty() && round_f32(f32::NAN, mode).is_nan());
    }
}

/// `x` as a quotient that rounds like it: exact, or for magnitudes below `2^-100` any tiny one.
fn rational(x: f64) -> (i128, i128) {
    let (fraction, exponent) = libm::frexp(x);
    let (n, power) = ((fraction * 9_007_199_254_740_992.0) as i128, exponent - 53);
    match power {
        0.. => unreachable!("an integer"),
        -100..0 => (n, 1 << -power),
        _ => (n.signum(), 1 << 100),
    }
}

#[test]
fn f32_rounding_equals_the_slow_definition_over_all_exponents() {
    for step in 0..40_000u32 {
        // An odd multiplier visits every exponent with scattered fractions; every fourth one is a tie.
        let mut x = f32::from_bits(step.wrapping_mul(0x9E37_79B1));
        if step % 4 == 0 && x.abs() < 4_194_304.0 {
            x = x.trunc() + 0.5;
        }
        if !x.is_finite() || x.abs() >= 8_388_608.0 {
            continue;
        }
        let (n, d) = rational(f64::from(x));
        for &mode in Rounding::ALL {
            assert_eq!(
                round_f32(x, mode),
                slow::round(n, d, mode) as f32,
                "{mode:?} {x:e}"
            );
        }
    }
}

proptest! {
    #[test]
    fn f64_rounding_equals_the_slow_definition(bits: u64, tie: bool) {
        let mut x = f64::from_bits(bits);
        if tie && x.abs() < 2f64.powi(51) {
            x = x.trunc() + 0.5;
        }
        prop_assume!(x.is_finite());
        for &mode in Rounding::ALL {
            if x.abs() >= 2f64.powi(52) {
                prop_assert_eq!(round(x, mode), Flagged::exact(x));
            } else {
                let (n, d) = rational(x);
                let expected = Flagged::new(slow::round(n, d, mode) as f64, expected_flags(n, d));
                prop_assert_eq!(round(x, mode), expected);
            }
        }
    }

    #[test]
    fn wide_shifts_equal_the_slow_definition(
        a in number(62), b in number(62), bits in 0u32..=124, mode in any_rounding(),
    ) {
        let x = i128::from(a) * i128::from(b);
        let d = 1i128 << bits;
        let expected = Flagged::new(slow::round(x, d, mode), expected_flags(x, d));
        prop_assert_eq!(shift_right(x, bits, mode), expected);
        prop_assert_eq!(divide(x, d, mode), expected);
    }

    #[test]
    fn quotients_are_the_nearest_by_cross_multiplication(
        n in number(64), d in 1i64.., mode in any_rounding(),
    ) {
        let (n, d) = (i128::from(n), i128::from(d));
        let error = divide(n, d, mode).value * d - n;
        prop_assert!(error.abs() < d);
        if Rounding::ALL[..6].contains(&mode) {
            prop_assert!(2 * error.abs() <= d);
        }
    }

    #[test]
    fn fast_shifts_equal_shifts(x in number(63), bits in 0u32..=62, mode in any_rounding()) {
        let expected = shift_right(i128::from(x), bits, mode).value;
        prop_assert_eq!(i128::from(shift_right_i64(x, bits, mode)), expected);
    }
}

/// The `fixed` crate's roundings, where it has them.
#[test]
fn shifts_equal_the_fixed_crate() {
    for x in structured(60) {
        let number = I48F16::from_bits(x);
        let expected = [
            (Rounding::HalfEven, number.round_ties_even()),
            (Rounding::HalfAway, number.round()),
            (Rounding::Floor, number.floor()),
            (Rounding::Ceil, number.ceil()),
            (Rounding::Trunc, number.round_to_zero()),
        ];
        for (mode, expected) in expected {
            let shifted = shift_right(i128::from(x), 16, mode).value;
            assert_eq!(shifted, expected.to_num::<i128>(), "{mode:?} {x}");
        }
    }
}
