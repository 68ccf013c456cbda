//! `ap_fixed` against a slow definition: rationals for the rounding, lists of bits for the overflow.

use align_check_specs::Rounding;

use super::slow;
use crate::num::{FixedOverflow, FixedType, Flags};

const ROUNDINGS: [Rounding; 7] = [
    Rounding::Floor,
    Rounding::Trunc,
    Rounding::HalfUp,
    Rounding::HalfDown,
    Rounding::HalfAway,
    Rounding::HalfTowardZero,
    Rounding::HalfEven,
];

const OVERFLOWS: [FixedOverflow; 5] = [
    FixedOverflow::Wrap,
    FixedOverflow::WrapSignMagnitude,
    FixedOverflow::Saturate,
    FixedOverflow::SaturateSymmetric,
    FixedOverflow::SaturateZero,
];

/// Two's complement, the lowest bit first.
fn bits(x: i128, count: usize) -> Vec<bool> {
    let mut bits = Vec::new();
    let mut x = x;
    for _ in 0..count {
        bits.push(x.rem_euclid(2) == 1);
        x = x.div_euclid(2);
    }
    bits
}

fn number(bits: &[bool], signed: bool) -> i128 {
    let weight = |i: usize| {
        let sign = signed && i + 1 == bits.len();
        let power = (0..i).fold(1i128, |p, _| p * 2);
        if sign { -power } else { power }
    };
    (0..bits.len()).filter(|&i| bits[i]).map(weight).sum()
}

/// `n / d` in the type.
fn slow(t: &FixedType, n: i128, d: i128) -> i128 {
    let power = |e: i32| (0..e).fold(1i128, |p, _| p * 2);
    let fraction = t.width as i32 - t.integer;
    let (n, d) = (n * power(fraction), d * power(-fraction));
    let x = slow::round(n, d, t.rounding);
    let width = t.width as usize;
    let half = power(t.width as i32 - 1);
    let (lo, hi) = if t.signed {
        (-half, half - 1)
    } else {
        (0, 2 * half - 1)
    };
    let symmetric = t.overflow == FixedOverflow::SaturateSymmetric && t.signed && width > 1;
    let lo = if symmetric { -hi } else { lo };
    if x >= lo && x <= hi {
        return x;
    }
    match t.overflow {
        FixedOverflow::Saturate | FixedOverflow::SaturateSymmetric => {
            if x < lo {
                lo
            } else {
                hi
            }
        }
        FixedOverflow::SaturateZero => 0,
        FixedOverflow::Wrap => number(&bits(x, width), t.signed),
        FixedOverflow::WrapSignMagnitude => {
            let lost = bits(slow::round(n, d, Rounding::Floor), width + 1)[width];
            let mut kept = bits(x, width);
            if kept[width - 1] != lost {
                kept = kept.iter().map(|bit| !bit).collect();
                kept[width - 1] = lost;
            }
            number(&kept, true)
        }
    }
}

#[test]
fn casts_are_the_definition() {
    let mut compared = 0u32;
    for (width, integer) in [
        (1, 0),
        (1, 1),
        (2, 1),
        (3, 5),
        (4, -2),
        (5, 3),
        (6, 9),
        (7, 0),
    ] {
        for signed in [true, false] {
            for rounding in ROUNDINGS {
                for overflow in OVERFLOWS {
                    if overflow == FixedOverflow::WrapSignMagnitude && !signed {
                        continue;
                    }
                    let t = FixedType {
                        rounding,
                        overflow,
                        ..FixedType::new(width, integer, signed)
                    };
                    for fraction in [-3, 0, 2, 6, 11] {
                        let d = 1i128 << fraction.max(0);
                        let lift = 1i128 << (-fraction).max(0);
                        for code in -150i128..150 {
                            let got = t.cast(code, fraction);
                            let want = slow(&t, code * lift, d);
                            assert_eq!(i128::from(got.value), want, "{t} of {code} / 2^{fraction}");
                            let exact = want * d == code * lift * (1 << (t.fraction().max(0)))
                                && t.fraction() >= 0
                                || t.fraction() < 0 && (want * d) << -t.fraction() == code * lift;
                            assert_eq!(
                                got.flags == Flags::default(),
                                exact,
                                "{t} of {code} / 2^{fraction}"
                            );
                            compared += 1;
                        }
                    }
                }
            }
        }
    }
    assert_eq!(compared, 8 * 7 * 9 * 5 * 300);
}

#[test]
fn floats_and_far_shifts() {
    let t: FixedType = "ap_fixed<8,4,AP_RND,AP_SAT>".parse().expect("a type");
    let of = |t: &FixedType, x: f64| t.from_f64(x).expect("a number").value;
    assert_eq!(of(&t, 1.03125), 17);
    assert_eq!(of(&t, -1.03125), -16);
    assert_eq!(
        [of(&t, 1e300), of(&t, -1e300), of(&t, 1e-300)],
        [127, -128, 0]
    );
    assert_eq!(of(&t, f64::from_bits(1)), 0);
    assert_eq!(t.from_f64(f64::NAN), None);
    let wraps: FixedType = "fixed<16,6>".parse().expect("a type");
    assert_eq!(of(&wraps, 33.0), -31 * 1024);
    assert_eq!(of(&wraps, 1e300), 0);
    assert_eq!(of(&wraps, -f64::from_bits(1)), -1);
    assert_eq!(wraps.cast(3, -200).value, 0);
    assert_eq!(t.cast(-3, -200).value, -128);
}

#[test]
fn texts() {
    for text in [
        "fixed<16,6,TRN,WRAP>",
        "ufixed<8,-2,RND_CONV,SAT>",
        "fixed<1,1,RND_ZERO,WRAP_SM>",
    ] {
        let t: FixedType = text.parse().expect("a type");
        assert_eq!(t.to_string(), text);
    }
    let t: FixedType = "uint<7>".parse().expect("a type");
    assert_eq!((t.width, t.integer, t.signed), (7, 7, false));
    for text in [
        "",
        "fixed",
        "fixed<8",
        "float<8,2>",
        "fixed<0,0>",
        "fixed<64,6>",
        "fixed<8>",
        "fixed<8,2,UP>",
        "fixed<8,2,TRN,SATURATE>",
        "fixed<8,2,TRN,WRAP,1>",
        "fixed<8,2,TRN,WRAP,0,0>",
        "uint<8,2>",
        "ufixed<8,2,TRN,WRAP_SM>",
        "fixed<8,1000>",
    ] {
        assert!(text.parse::<FixedType>().is_err(), "{text}");
    }
}

#[test]
fn products_and_sums_lose_nothing() {
    let types = ["fixed<6,2>", "ufixed<5,7>", "fixed<4,-1>", "ufixed<3,3>"]
        .map(|t| t.parse::<FixedType>().expect("a type"));
    for a in &types {
        for b in &types {
            let (product, sum) = (a.product(b), a.sum(b));
            for x in [a.range().0, a.range().1] {
                for y in [b.range().0, b.range().1] {
                    let exact = i128::from(x) * i128::from(y);
                    let got = product.cast(exact, a.fraction() + b.fraction());
                    assert_eq!(got.flags, Flags::default(), "{a} * {b}");
                    let fraction = sum.fraction();
                    let lift = |x: i64, t: &FixedType| i128::from(x) << (fraction - t.fraction());
                    let got = sum.cast(lift(x, a) + lift(y, b), fraction);
                    assert_eq!(got.flags, Flags::default(), "{a} + {b}");
                }
            }
        }
    }
}
