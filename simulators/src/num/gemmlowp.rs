//! Fixed-point functions of gemmlowp (`fixedpoint/fixedpoint.h`), in 32 and 16 bits.
//!
//! A number of the format Qm.n is an integer in units of 2^-n. All functions take and return such integers;
//! they are computed in `i64`, where nothing overflows, and saturated where gemmlowp saturates.

/// `x / 2^bits`, half away from zero (`RoundingDivideByPOT`).
pub fn divide_by_pot(x: i64, bits: u32) -> i64 {
    let mask = (1i64 << bits) - 1;
    (x >> bits) + i64::from((x & mask) > (mask >> 1) + i64::from(x < 0))
}

/// `SaturatingRoundingDoublingHighMul` of 32 bits: `a * b / 2^31`, half up.
pub fn high_mul_32(a: i64, b: i64) -> i64 {
    ((a * b + (1 << 30)) >> 31).min(i64::from(i32::MAX))
}

/// `SaturatingRoundingDoublingHighMul` of 16 bits: `a * b / 2^15`, half up.
pub fn high_mul_16(a: i64, b: i64) -> i64 {
    saturate_16((a * b + (1 << 14)) >> 15)
}

/// Saturation at 16 bits.
pub fn saturate_16(x: i64) -> i64 {
    x.clamp(i64::from(i16::MIN), i64::from(i16::MAX))
}

fn saturate_32(x: i64) -> i64 {
    x.clamp(i64::from(i32::MIN), i64::from(i32::MAX))
}

/// `(a + b) / 2`, half away from zero (`RoundingHalfSum`).
#[allow(
    clippy::manual_midpoint,
    reason = "the formula of the source; sums of 32-bit numbers do not overflow"
)]
fn half_sum(a: i64, b: i64) -> i64 {
    let sum = a + b;
    // Trunc of (sum +- 1) / 2.
    i64::midpoint(sum, if sum >= 0 { 1 } else { -1 })
}

/// `exp(x)` on `[-1/4, 0)`, a Taylor series around -1/8; `one` bits of fraction, products by `mul`.
fn exp_quarter(x: i64, fraction: u32, mul: fn(i64, i64) -> i64) -> i64 {
    // round(2^fraction * exp(-1/8)) and round(2^fraction / 3), from the 32-bit constants.
    let constant = |c: i64| match fraction {
        31 => c,
        _ => divide_by_pot(c, 31 - fraction),
    };
    let (term, third) = (constant(1_895_147_668), constant(715_827_883));
    let x = x + (1 << (fraction - 3));
    let x2 = mul(x, x);
    let x3 = mul(x2, x);
    let x4 = mul(x2, x2);
    let tail = divide_by_pot(mul(divide_by_pot(x4, 2) + x3, third) + x2, 1);
    term + mul(term, x + tail)
}

/// 2^31 * exp(-2^e), for e from -2.
const FACTORS: [i64; 7] = [
    1_672_461_947,
    1_302_514_674,
    790_015_084,
    290_630_308,
    39_332_535,
    720_401,
    242,
];

/// `exp(x)` for `x <= 0` in Q5.26, as Q0.31 (`exp_on_negative_values`).
pub fn exp_negative_32(x: i64) -> i64 {
    if x == 0 {
        return i64::from(i32::MAX);
    }
    let quarter = 1i64 << 24;
    let part = (x & (quarter - 1)) - quarter;
    let mut result = exp_quarter(part << 5, 31, high_mul_32);
    let rest = part - x;
    for (bit, factor) in (24..).zip(FACTORS) {
        if rest & (1 << bit) != 0 {
            result = high_mul_32(result, factor);
        }
    }
    result
}

/// `exp(x)` for `x <= 0` with `integer` bits before the point of 16, as Q0.15.
fn exp_negative_16(x: i64, integer: u32) -> i64 {
    if x == 0 {
        return i64::from(i16::MAX);
    }
    let fraction = 15 - integer;
    let quarter = 1i64 << (fraction - 2);
    let part = (x & (quarter - 1)) - quarter;
    let mut result = saturate_16(exp_quarter(part << integer, 15, high_mul_16));
    let rest = part - x;
    for (bit, factor) in (fraction - 2..15).zip(FACTORS) {
        if rest & (1 << bit) != 0 {
            result = high_mul_16(result, divide_by_pot(factor, 16));
        }
    }
    result
}

/// `1 / (1 + x)` for `x` in `[0, 1)`, Q0.31 (`one_over_one_plus_x_for_x_in_0_1`).
fn reciprocal_32(x: i64) -> i64 {
    let half = half_sum(x, i64::from(i32::MAX));
    let mut y = 1_515_870_810 + high_mul_32(half, -1_010_580_540);
    for _ in 0..3 {
        let error = (1 << 29) - high_mul_32(half, y);
        y = saturate_32(y + saturate_32(high_mul_32(y, error) << 2));
    }
    saturate_32(y << 1)
}

/// The reciprocal of a positive sum in Q12.19: a mantissa in Q0.31 and the bits of the sum above one
/// (`GetReciprocal`).
pub fn reciprocal_of_sum(sum: i64) -> (i64, i64) {
    let headroom = i64::from((sum as u32).leading_zeros());
    let shifted = (sum << headroom) - (1 << 31);
    (reciprocal_32(shifted), 12 - headroom)
}

/// Newton's `2 / (1 + x)` in Q2.13, for `x` in Q0.15.
fn newton_16(x: i64) -> i64 {
    let half = half_sum(x, i64::from(i16::MAX));
    let (c48, c32) = (
        divide_by_pot(1_515_870_810, 16),
        divide_by_pot(-1_010_580_540, 16),
    );
    let mut y = c48 + high_mul_16(half, c32);
    for _ in 0..3 {
        let error = (1 << 13) - high_mul_16(half, y);
        y = saturate_16(y + saturate_16(high_mul_16(y, error) << 2));
    }
    y
}

/// The sigmoid of a number in Q3.12, as Q0.15 (`logistic`).
pub fn logistic_16(x: i64) -> i64 {
    if x == 0 {
        return 1 << 14;
    }
    let positive = saturate_16(newton_16(exp_negative_16(-x.abs(), 3)) << 1);
    if x > 0 { positive } else { 32767 - positive }
}

/// The hyperbolic tangent of a number in Q3.12, as Q0.15 (`tanh`).
pub fn tanh_16(x: i64) -> i64 {
    if x == 0 {
        return 0;
    }
    // exp(-2|x|): the same bits with one more before the point.
    let e = exp_negative_16(-x.abs(), 4);
    let positive = saturate_16((newton_16(e) - (1 << 13)) << 2);
    if x > 0 { positive } else { -positive }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::num::{saturate, shift_right};
    use align_check_specs::Rounding;

    const EXTREMES: [i64; 9] = [
        i32::MIN as i64,
        i32::MIN as i64 + 1,
        -(1 << 30),
        -1,
        0,
        1,
        1 << 30,
        i32::MAX as i64 - 1,
        i32::MAX as i64,
    ];

    #[test]
    fn products_and_shifts_are_those_of_the_slow_definitions() {
        for a in EXTREMES {
            for b in EXTREMES {
                let exact = i128::from(a) * i128::from(b);
                let wanted = shift_right(exact, 31, Rounding::HalfUp).value;
                assert_eq!(high_mul_32(a, b), saturate(wanted, 32).value, "{a} * {b}");
                let (a, b) = (a >> 16, b >> 16);
                let wanted = shift_right(i128::from(a * b), 15, Rounding::HalfUp).value;
                assert_eq!(high_mul_16(a, b), saturate(wanted, 16).value, "{a} * {b}");
            }
            for bits in 0..31 {
                let wanted = shift_right(i128::from(a), bits, Rounding::HalfAway).value;
                assert_eq!(i128::from(divide_by_pot(a, bits)), wanted, "{a} >> {bits}");
            }
            for b in EXTREMES {
                let wanted = shift_right(i128::from(a + b), 1, Rounding::HalfAway).value;
                assert_eq!(i128::from(half_sum(a, b)), wanted, "({a} + {b}) / 2");
            }
        }
    }

    /// Every function stays within its documented error of the real one, over its whole range.
    #[test]
    fn functions_stay_near_the_real_ones() {
        for step in 0..=4096i64 {
            let x = -(step << 19);
            let real = libm::exp(x as f64 / f64::from(1 << 26)) * 2f64.powi(31);
            assert!((exp_negative_32(x) as f64 - real).abs() < 4096.0, "exp {x}");
        }
        for sum in [
            1i64,
            2,
            3,
            1 << 18,
            1 << 19,
            (1 << 19) + 1,
            12345 << 12,
            (1 << 31) - 1,
        ] {
            let (mantissa, over) = reciprocal_of_sum(sum);
            let real = f64::from(1 << 19) / sum as f64;
            let own = mantissa as f64 / 2f64.powi(31) / 2f64.powi(over as i32);
            assert!(
                (own / real - 1.0).abs() < 1e-7,
                "1 / {sum}: {own}, not {real}"
            );
        }
        for x in i64::from(i16::MIN)..=i64::from(i16::MAX) {
            let real = x as f64 / 4096.0;
            let sigmoid = 32768.0 / (1.0 + libm::exp(-real));
            assert!(
                (logistic_16(x) as f64 - sigmoid).abs() < 16.0,
                "logistic {x}"
            );
            let tanh = 32768.0 * libm::tanh(real);
            assert!((tanh_16(x) as f64 - tanh).abs() < 32.0, "tanh {x}");
        }
    }
}
