use align_check_specs::Overflow;
use fixed::types::{I8F0, I16F0, I32F0};
use proptest::prelude::*;

use super::patterns::{number, structured};
use crate::num::{Flagged, Flags, Width, clamp, saturate, wrap};

#[test]
fn eight_bits_exhaustively() {
    for x in -2000i128..=2000 {
        let inside = (-128..=127).contains(&x);
        let saturated = Flagged::new(x.clamp(-128, 127) as i64, Flags::SATURATED.when(!inside));
        assert_eq!(saturate(x, 8), saturated);
        assert_eq!(clamp(x, -128, 127), saturated);
        assert_eq!(
            wrap(x, 8),
            Flagged::new(i64::from(x as i8), Flags::WRAPPED.when(!inside))
        );
    }
}

#[test]
fn widths_equal_the_fixed_crate() {
    for x in structured(64) {
        let wide = i128::from(x);
        assert_eq!(
            saturate(wide, 8).value,
            I8F0::saturating_from_num(x).to_num::<i64>()
        );
        assert_eq!(
            saturate(wide, 16).value,
            I16F0::saturating_from_num(x).to_num::<i64>()
        );
        assert_eq!(
            saturate(wide, 32).value,
            I32F0::saturating_from_num(x).to_num::<i64>()
        );
        assert_eq!(
            wrap(wide, 8).value,
            I8F0::wrapping_from_num(x).to_num::<i64>()
        );
        assert_eq!(
            wrap(wide, 16).value,
            I16F0::wrapping_from_num(x).to_num::<i64>()
        );
        assert_eq!(
            wrap(wide, 32).value,
            I32F0::wrapping_from_num(x).to_num::<i64>()
        );
        assert_eq!(saturate(wide, 64), Flagged::exact(x));
        assert_eq!(wrap(wide, 64), Flagged::exact(x));
    }
}

#[test]
fn the_ends_of_i128() {
    assert_eq!(
        saturate(i128::MIN, 64),
        Flagged::new(i64::MIN, Flags::SATURATED)
    );
    assert_eq!(saturate(i128::MAX, 1), Flagged::new(0, Flags::SATURATED));
    assert_eq!(wrap(i128::MIN, 64), Flagged::new(0, Flags::WRAPPED));
    assert_eq!(wrap(i128::MAX, 64), Flagged::new(-1, Flags::WRAPPED));
    assert_eq!(wrap(1, 1), Flagged::new(-1, Flags::WRAPPED));
}

/// Saturating sums depend on the order, wrapping ones do not (FPGA evidence, rule 31: -23 and 50).
#[test]
fn saturating_sums_depend_on_the_order() {
    let sum = |overflow, terms: [i64; 3]| {
        let width = Width { bits: 8, overflow };
        terms.into_iter().fold(Flagged::exact(0), |acc, term| {
            acc.and_then(|acc| width.add(acc, term))
        })
    };
    let (a, b) = ([100, 100, -150], [100, -150, 100]);
    assert_eq!(
        sum(Overflow::Saturate, a),
        Flagged::new(-23, Flags::SATURATED)
    );
    assert_eq!(sum(Overflow::Saturate, b), Flagged::exact(50));
    assert_eq!(sum(Overflow::Wrap, a), Flagged::new(50, Flags::WRAPPED));
    assert_eq!(sum(Overflow::Wrap, b), Flagged::exact(50));
    assert_eq!(sum(Overflow::Exact, a), Flagged::exact(50));
}

#[test]
fn an_exact_width_says_when_its_promise_is_broken() {
    let exact = Width {
        bits: 64,
        overflow: Overflow::Exact,
    };
    assert_eq!(
        exact.add(i64::MAX, 1),
        Flagged::new(i64::MAX, Flags::SATURATED)
    );
    assert_eq!(exact.range(), (i64::MIN, i64::MAX));
    assert_eq!(
        Width {
            bits: 24,
            overflow: Overflow::Wrap
        }
        .range(),
        (-8_388_608, 8_388_607)
    );
}

proptest! {
    /// Wrapping is the only number of that width that is congruent; saturation is the nearest one.
    #[test]
    fn widths_by_definition(a in number(64), b in number(64), bits in 8u32..=64) {
        let x = i128::from(a) * i128::from(b);
        let (min, max) = (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1);
        let wrapped = wrap(x, bits);
        prop_assert!((min..=max).contains(&i128::from(wrapped.value)));
        prop_assert_eq!((i128::from(wrapped.value) - x).rem_euclid(1 << bits), 0);
        prop_assert_eq!(wrapped.flags.contains(Flags::WRAPPED), i128::from(wrapped.value) != x);
        prop_assert_eq!(i128::from(saturate(x, bits).value), x.clamp(min, max));
    }
}
