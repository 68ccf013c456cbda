use align_check_specs::{LeftShift, Rounding, Shift, Step};
use proptest::prelude::*;

use super::patterns::{any_rounding, number};
use super::slow;
use super::tflite::{DOUBLE, RUY, SINGLE, step};
use crate::num::{FixedMultiplier, Flagged, Flags, MAX_MANTISSA_BITS, power_of_two};

fn any_step() -> impl Strategy<Value = Step> {
    let shift = prop_oneof![2 => Just(Shift::Rest), 1 => Just(Shift::By(31)), 1 => (0u32..=40).prop_map(Shift::By)];
    let width = prop_oneof![3 => Just(None), 1 => (16u32..=40).prop_map(Some), 1 => Just(Some(32))];
    (shift, any_rounding(), width).prop_map(|(shift, rounding, saturate)| Step {
        shift,
        rounding,
        saturate,
    })
}

fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    prop_oneof![
        Just(DOUBLE.to_vec()),
        Just(RUY.to_vec()),
        Just(SINGLE.to_vec()),
        prop::collection::vec(any_step(), 1..=3),
    ]
}

fn any_left() -> impl Strategy<Value = LeftShift> {
    prop::sample::select(&[LeftShift::Wrap, LeftShift::Saturate, LeftShift::Exact])
}

/// A multiplier with a structured mantissa.
fn any_multiplier(bits: impl Strategy<Value = u32>) -> impl Strategy<Value = FixedMultiplier> {
    (bits, number(62), -45i32..=45).prop_map(|(bits, seed, exponent)| {
        let top = 1i64 << (bits - 1);
        FixedMultiplier {
            mantissa: (seed & (top - 1)) | top,
            exponent,
            bits,
        }
    })
}

#[test]
fn common_cases_have_a_fast_form() {
    for exponent in -31..=31 {
        let multiplier = FixedMultiplier {
            mantissa: 3 << 29,
            exponent,
            bits: 31,
        };
        for steps in [&DOUBLE[..], &RUY, &SINGLE] {
            for left in [LeftShift::Wrap, LeftShift::Saturate, LeftShift::Exact] {
                assert!(
                    multiplier.fast(steps, left, 32).is_some(),
                    "{exponent} {left:?}"
                );
            }
        }
    }
    let saturating = DOUBLE.map(|step| Step {
        saturate: Some(32),
        ..step
    });
    let multiplier = FixedMultiplier {
        mantissa: 3 << 29,
        exponent: -7,
        bits: 31,
    };
    assert!(multiplier.fast(&saturating, LeftShift::Wrap, 32).is_some());
    // Saturation to 16 bits in between is not one of them.
    let narrow = DOUBLE.map(|step| Step {
        saturate: Some(16),
        ..step
    });
    assert!(multiplier.fast(&narrow, LeftShift::Wrap, 32).is_none());
}

#[test]
fn left_shifts_follow_their_policy() {
    let by_eight = FixedMultiplier {
        mantissa: 1 << 30,
        exponent: 4,
        bits: 31,
    };
    let acc = i64::from(i32::MAX) - 1;
    let apply = |left| by_eight.apply(acc, &SINGLE, left, 32);
    assert_eq!(apply(LeftShift::Exact), Flagged::exact(acc * 8));
    let saturated = apply(LeftShift::Saturate);
    assert_eq!(saturated.value, 1 << 30);
    assert!(
        saturated
            .flags
            .contains(Flags::SATURATED | Flags::SHIFT_OVERFLOW | Flags::TIE)
    );
    let wrapped = apply(LeftShift::Wrap);
    assert_eq!(
        wrapped,
        Flagged::new(-16, Flags::WRAPPED | Flags::SHIFT_OVERFLOW)
    );
}

/// Scales of hostile files must not overflow on the way; the result saturates.
#[test]
fn huge_multipliers_saturate() {
    for exponent in [63, 64, 100, 1024] {
        for (acc, end) in [
            (5, i64::MAX),
            (-5, i64::MIN),
            (i64::MAX, i64::MAX),
            (i64::MIN, i64::MIN),
        ] {
            for bits in [8, 31, MAX_MANTISSA_BITS] {
                let multiplier = FixedMultiplier {
                    mantissa: 1 << (bits - 1),
                    exponent,
                    bits,
                };
                let exact = multiplier.apply(acc, &SINGLE, LeftShift::Exact, 32);
                assert_eq!(
                    exact,
                    Flagged::new(end, Flags::SATURATED),
                    "{acc} * 2^{exponent}"
                );
                let wrapped = multiplier.apply(acc, &SINGLE, LeftShift::Wrap, 32);
                assert_eq!(
                    wrapped,
                    Flagged::new(0, Flags::WRAPPED | Flags::SHIFT_OVERFLOW)
                );
                let saturated = multiplier.apply(acc, &SINGLE, LeftShift::Saturate, 32);
                assert!(
                    saturated
                        .flags
                        .contains(Flags::SATURATED | Flags::SHIFT_OVERFLOW)
                );
                assert_eq!(saturated.value.signum(), acc.signum());
            }
        }
        let zero = FixedMultiplier {
            mantissa: 1 << 30,
            exponent,
            bits: 31,
        };
        assert_eq!(
            zero.apply(0, &SINGLE, LeftShift::Wrap, 32),
            Flagged::exact(0)
        );
    }
}

/// Saturation between the steps (decision J): 16 bits, then the rest.
#[test]
fn steps_saturate_where_they_say_so() {
    let multiplier = FixedMultiplier {
        mantissa: 1 << 15,
        exponent: -4,
        bits: 16,
    };
    let steps = [
        Step {
            shift: Shift::By(16),
            rounding: Rounding::Floor,
            saturate: Some(16),
        },
        step(Shift::Rest, Rounding::Floor),
    ];
    assert_eq!(
        multiplier.apply(200_000, &steps, LeftShift::Wrap, 32).value,
        2047
    );
    assert!(
        multiplier
            .apply(200_000, &steps, LeftShift::Wrap, 32)
            .flags
            .contains(Flags::SATURATED)
    );
    assert_eq!(
        multiplier.apply(60_000, &steps, LeftShift::Wrap, 32).value,
        1875
    );
}

#[test]
fn powers_of_two_are_recognized_exactly() {
    for exponent in -1074..=1023 {
        let m = libm::ldexp(1.0, exponent);
        assert_eq!(power_of_two(m), Some(exponent));
        assert_eq!(power_of_two(-m), None);
        if exponent > -1073 {
            assert_eq!(power_of_two(m.next_up()), None);
            assert_eq!(power_of_two(m.next_down()), None);
        }
    }
    for other in [0.0, f64::INFINITY, f64::NAN, 3.0, 0.1] {
        assert_eq!(power_of_two(other), None);
    }
}

#[test]
fn real_values_come_back() {
    let m = 0.001_234_567_89;
    for bits in [8, 15, 24, 31, 53] {
        let fixed = FixedMultiplier::from_real(m, bits, Rounding::HalfEven).value;
        assert!((1 << (bits - 1)..1i64 << bits).contains(&fixed.mantissa));
        assert!((fixed.to_real() / m - 1.0).abs() <= libm::ldexp(1.0, -bits.cast_signed()));
    }
    assert_eq!(
        FixedMultiplier::from_real(m, 53, Rounding::Floor)
            .value
            .to_real(),
        m
    );
}

#[test]
#[should_panic(expected = "not a finite number")]
fn negative_multipliers_are_refused() {
    let _ = FixedMultiplier::from_real(-1.0, 31, Rounding::HalfAway);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn fast_equals_the_definition(
        multiplier in any_multiplier(1u32..=31),
        steps in any_steps(),
        left in any_left(),
        accumulator_bits in prop_oneof![3 => Just(32u32), 1 => 16u32..=64],
        accs in prop::collection::vec(number(32), 16),
    ) {
        if let Some(fast) = multiplier.fast(&steps, left, accumulator_bits) {
            for acc in accs {
                let expected = multiplier.apply(acc, &steps, left, accumulator_bits).value;
                prop_assert_eq!(fast.apply(acc as i32), expected, "acc {}", acc);
            }
        }
    }

    /// One step is the rational `acc * mantissa * 2^(exponent - bits)`, rounded once.
    #[test]
    fn one_step_rounds_the_rational(
        multiplier in any_multiplier(1u32..=31), acc in number(40), mode in any_rounding(),
    ) {
        let product = i128::from(acc) * i128::from(multiplier.mantissa);
        let power = multiplier.exponent - multiplier.bits.cast_signed();
        let (n, d) = if power >= 0 { (product << power, 1) } else { (product, 1 << -power) };
        let expected = slow::round(n, d, mode).clamp(i128::from(i64::MIN), i128::from(i64::MAX));
        let ours = multiplier.apply(acc, &[step(Shift::Rest, mode)], LeftShift::Exact, 32);
        prop_assert_eq!(i128::from(ours.value), expected);
        prop_assert_eq!(ours.flags.contains(Flags::TIE), slow::is_tie(n, d));
    }
}
