//! Rows measured with Xilinx's `ap_fixed` headers (oracle evidence, section 9): conversions to
//! `ap_fixed<8,8>`. Overflow is tested after rounding.

use align_check_specs::{Overflow, Rounding};

use crate::num::{Flags, Width, clamp, shift_right};

const INPUTS: [f64; 10] = [
    2.5, 3.5, -2.5, -3.5, 0.5, -0.5, 127.5, 130.0, -129.0, -128.5,
];

fn convert(x: f64, rounding: Rounding, overflow: Overflow) -> i64 {
    let rounded = shift_right((2.0 * x) as i128, 1, rounding);
    rounded
        .and_then(|x| Width { bits: 8, overflow }.fit(x))
        .value
}

#[test]
fn wrapping_rows() {
    let rows = [
        // AP_TRN
        (Rounding::Floor, [2, 3, -3, -4, 0, -1, 127, -126, 127, 127]),
        // AP_TRN_ZERO
        (Rounding::Trunc, [2, 3, -2, -3, 0, 0, 127, -126, 127, -128]),
        // AP_RND
        (
            Rounding::HalfUp,
            [3, 4, -2, -3, 1, 0, -128, -126, 127, -128],
        ),
        // AP_RND_ZERO
        (
            Rounding::HalfTowardZero,
            [2, 3, -2, -3, 0, 0, 127, -126, 127, -128],
        ),
        // AP_RND_INF
        (
            Rounding::HalfAway,
            [3, 4, -3, -4, 1, -1, -128, -126, 127, 127],
        ),
        // AP_RND_MIN_INF
        (
            Rounding::HalfDown,
            [2, 3, -3, -4, 0, -1, 127, -126, 127, 127],
        ),
        // AP_RND_CONV
        (
            Rounding::HalfEven,
            [2, 4, -2, -4, 0, 0, -128, -126, 127, -128],
        ),
    ];
    for (rounding, expected) in rows {
        assert_eq!(
            INPUTS.map(|x| convert(x, rounding, Overflow::Wrap)),
            expected,
            "{rounding:?}"
        );
    }
}

/// `AP_RND` with `AP_SAT` and `AP_SAT_SYM`.
#[test]
fn saturating_rows() {
    let expected = [3, 4, -2, -3, 1, 0, 127, 127, -128, -128];
    assert_eq!(
        INPUTS.map(|x| convert(x, Rounding::HalfUp, Overflow::Saturate)),
        expected
    );
    let symmetric = INPUTS.map(|x| {
        shift_right((2.0 * x) as i128, 1, Rounding::HalfUp)
            .and_then(|x| clamp(x, -127, 127))
            .value
    });
    assert_eq!(symmetric, [3, 4, -2, -3, 1, 0, 127, 127, -127, -127]);
}

/// hls4ml casts each product to the accumulator's type before it adds: 64 products of 15/1024 in
/// `ap_fixed<12,6>` sum to 0, not to 0.9375 (FPGA evidence, rule 31).
#[test]
fn products_are_cast_one_by_one() {
    let accumulator = Width {
        bits: 12,
        overflow: Overflow::Wrap,
    };
    let product = shift_right(15, 10 - 6, Rounding::Floor);
    assert!(product.flags.contains(Flags::INEXACT));
    let sum = (0..64).fold(0, |acc, _| accumulator.add(acc, product.value as i64).value);
    assert_eq!(sum, 0);
    assert_eq!(shift_right(64 * 15, 10 - 6, Rounding::Floor).value, 60); // 60/64 = 0.9375
}
