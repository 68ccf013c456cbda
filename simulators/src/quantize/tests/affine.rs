use align_check_graph::{Affine, PerChannel, Quantizer, Rounding, ZeroPointAdded};
use proptest::prelude::*;

use crate::quantize::affine::{
    Channel, dequantized, dequantized_slice, quantize_affine, quantize_affine_slice,
};
use crate::quantize::{codes, evaluate, letter};

const MODES: [Rounding; 9] = [
    Rounding::HalfEven,
    Rounding::HalfAway,
    Rounding::HalfTowardZero,
    Rounding::Floor,
    Rounding::Ceil,
    Rounding::TowardZero,
    Rounding::AwayFromZero,
    Rounding::HalfUp,
    Rounding::HalfEvenNegativeUp,
];

/// numpy's formulas on the standard library's functions.
fn numpy(x: f32, mode: Rounding) -> f32 {
    let sign = if x == 0.0 { 0.0 } else { x.signum() };
    match mode {
        Rounding::HalfAway => sign * (x.abs() + 0.5).floor(),
        Rounding::HalfTowardZero => sign * (x.abs() - 0.5).ceil(),
        Rounding::Floor => x.floor(),
        Rounding::Ceil => x.ceil(),
        Rounding::TowardZero => x.trunc(),
        Rounding::AwayFromZero => sign * x.abs().ceil(),
        // No numpy formula: exact.
        Rounding::HalfUp => (f64::from(x) + 0.5).floor() as f32,
        Rounding::HalfEvenNegativeUp if x < 0.0 => (f64::from(x) + 0.5).floor() as f32,
        Rounding::HalfEven | Rounding::HalfEvenNegativeUp => x.round_ties_even(),
    }
}

#[test]
fn the_letter_is_numpys() {
    for step in 0..200_000u32 {
        let mut x = f32::from_bits(step.wrapping_mul(0x9E37_79B1));
        if step % 4 == 0 && x.abs() < 4_194_304.0 {
            x = x.trunc() + 0.5;
        }
        for mode in MODES {
            let (ours, expected) = (letter::round(x, mode), numpy(x, mode));
            let equal =
                ours.to_bits() == expected.to_bits() || (ours.is_nan() && expected.is_nan());
            assert!(equal, "{mode:?} {x:e}: {ours:e}, not {expected:e}");
        }
    }
    // Where a sum rounds, the executor is not exact.
    assert_eq!(letter::round(0.5f32.next_down(), Rounding::HalfAway), 1.0);
    assert_eq!(letter::round(8_388_609.0, Rounding::HalfAway), 8_388_610.0);
    assert_eq!(
        letter::round(8_388_609.0, Rounding::HalfTowardZero),
        8_388_608.0
    );
}

fn affine(bits: u32, signed: bool, rounding: Rounding) -> Affine {
    Affine {
        scale: PerChannel::uniform(0.5),
        zero_point: PerChannel::uniform(0.0),
        bits,
        signed,
        narrow: false,
        rounding,
        zero_point_added: ZeroPointAdded::BeforeRounding,
        multiplier: None,
    }
}

/// The quantizers of tools that write files beside a model: the same input beside each tie, the codes that differ.
#[test]
fn ties_by_tool() {
    let ties: Vec<f32> = (-5..5).map(|i| i as f32 + 0.5).collect();
    let code = |affine: &Affine, zero_point: f32, x: f32| {
        quantize_affine(x * 0.5, Channel::new(affine, 0.5, zero_point)) - zero_point as i64
    };
    let all = |affine: &Affine, zero_point: f32| -> Vec<i64> {
        ties.iter().map(|&x| code(affine, zero_point, x)).collect()
    };
    let aimet = |signed| Affine {
        zero_point_added: ZeroPointAdded::FromSmallest,
        ..affine(8, signed, Rounding::HalfAway)
    };
    let upward = [-4, -3, -2, -1, 0, 1, 2, 3, 4, 5];
    // AIMET rounds away from the smallest code, so upward, whatever the zero point and the sign of the codes.
    for zero_point in [12.0, 13.0, 127.0] {
        assert_eq!(all(&aimet(false), zero_point), upward);
    }
    assert_eq!(all(&aimet(true), 0.0), upward);
    assert_eq!(all(&affine(8, true, Rounding::HalfUp), 0.0), upward);
    let even = [-4, -4, -2, -2, 0, 0, 2, 2, 4, 4];
    assert_eq!(all(&affine(8, true, Rounding::HalfEven), 0.0), even);
    let mqbench_vitis = [-4, -3, -2, -1, 0, 0, 2, 2, 4, 4];
    assert_eq!(
        all(&affine(8, true, Rounding::HalfEvenNegativeUp), 0.0),
        mqbench_vitis
    );
    let away = [-5, -4, -3, -2, -1, 1, 2, 3, 4, 5];
    let after = |rounding| Affine {
        zero_point_added: ZeroPointAdded::AfterRounding,
        ..affine(8, true, rounding)
    };
    assert_eq!(all(&after(Rounding::HalfAway), 0.0), away);
    // Beside a tie they agree.
    for affine in [
        affine(8, true, Rounding::HalfEven),
        after(Rounding::HalfAway),
    ] {
        for tie in [-2.5f32, 2.5] {
            assert_eq!(code(&affine, 0.0, tie.next_up()), (tie + 0.5) as i64);
            assert_eq!(code(&affine, 0.0, tie.next_down()), (tie - 0.5) as i64);
        }
    }
    // But AIMET adds its offset in f32: what is closer to a tie than an f32 near 128 can tell is that tie.
    assert_eq!(code(&aimet(true), 0.0, (-2.5f32).next_down()), -2);
    assert_eq!(code(&aimet(true), 0.0, -2.5 - 1e-5), -3);
}

/// Multiplying by the reciprocal and dividing differ beside ties, and where the grid ends they do not.
#[test]
fn a_factor_in_place_of_the_division() {
    let scale = 0.3f32;
    let channel = Channel::new(&affine(8, true, Rounding::HalfEven), scale, 0.0);
    let factor = channel.multiplied(Some(1.0 / scale));
    let xs: Vec<f32> = (-127..127).map(|i| (i as f32 + 0.5) * scale).collect();
    let (mut divided, mut multiplied) = (vec![0; xs.len()], vec![0; xs.len()]);
    quantize_affine_slice(&xs, channel, &mut divided);
    quantize_affine_slice(&xs, factor, &mut multiplied);
    for (&x, (d, m)) in xs.iter().zip(divided.iter().zip(&multiplied)) {
        assert_eq!(i64::from(*d), (x / scale).round_ties_even() as i64);
        assert_eq!(i64::from(*m), (x * (1.0 / scale)).round_ties_even() as i64);
    }
    assert_ne!(divided, multiplied);
    assert_eq!(
        [
            quantize_affine(99.0, channel),
            quantize_affine(99.0, factor)
        ],
        [127, 127]
    );
}

#[test]
fn nan_and_infinities() {
    for bits in [1, 8, 30] {
        for mode in MODES {
            let channel = Channel::new(&affine(bits, false, mode), 0.5, 0.0);
            let xs = [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
            let mut out = [7; 4];
            quantize_affine_slice(&xs, channel, &mut out);
            assert_eq!(out, [0, 0, channel.max as i32, 0], "{bits} {mode:?}");
            assert!(dequantized(f32::NAN, channel).is_nan());
        }
    }
}

/// The executor's clamp is in `f32` and lets 26 bits reach 2^25; 32 bits end with `i32`.
#[test]
fn codes_beyond_24_bits() {
    let channel = Channel::new(&affine(26, true, Rounding::HalfEven), 1.0, 0.0);
    assert_eq!(dequantized(1e9, channel), 33_554_432.0);
    assert_eq!(quantize_affine(1e9, channel), 33_554_432);
    let channel = Channel::new(&affine(32, true, Rounding::HalfEven), 1.0, 0.0);
    let mut out = [0; 3];
    quantize_affine_slice(&[1e10, -1e10, 2e9], channel, &mut out);
    assert_eq!(out, [i32::MAX, i32::MIN, 2_000_000_000]);
}

/// Scale along one axis, zero point along another: numpy broadcasts both.
#[test]
fn parameters_along_different_axes() {
    let quantizer = Quantizer::Affine(Affine {
        scale: PerChannel {
            values: vec![1.0, 0.5],
            axis: Some(0),
        },
        zero_point: PerChannel {
            values: vec![0.0, 1.0, 2.0],
            axis: Some(2),
        },
        ..affine(8, true, Rounding::HalfEven)
    });
    let x: Vec<f32> = (0..12).map(|x| x as f32).collect();
    let expected = [0, 2, 4, 3, 5, 7, 12, 15, 18, 18, 21, 24];
    assert_eq!(codes(&quantizer, &x, &[2, 2, 3]).unwrap(), expected);
    assert_eq!(evaluate(&quantizer, &x, &[2, 2, 3]), x);
    assert_eq!(evaluate(&quantizer, &[], &[2, 0, 3]), [0.0; 0]);
}

#[test]
#[should_panic(expected = "a tensor of shape [2, 3]")]
fn a_wrong_shape_is_refused() {
    evaluate(
        &Quantizer::Affine(affine(8, true, Rounding::Floor)),
        &[0.0; 5],
        &[2, 3],
    );
}

proptest! {
    #[test]
    fn slices_equal_single_elements(
        xs in prop::collection::vec(prop_oneof![-400.0f32..400.0, any::<f32>()], 1..40),
        scale in prop_oneof![Just(1.0f32), Just(0.25), 1e-3f32..10.0],
        zero_point in prop_oneof![(-20i32..20).prop_map(|z| z as f32), -3.0f32..3.0],
        bits in 1u32..=32, signed: bool, narrow: bool, ties: bool,
        rounding in prop::sample::select(&MODES),
    ) {
        prop_assume!(signed || bits < 32);
        let xs: Vec<f32> =
            xs.into_iter().map(|x| if ties { (x.trunc() + 0.5) * scale } else { x }).collect();
        let channel =
            Channel::new(&Affine { narrow, ..affine(bits, signed, rounding) }, scale, zero_point);
        let mut codes = vec![0; xs.len()];
        quantize_affine_slice(&xs, channel, &mut codes);
        let mut reals = vec![0.0; xs.len()];
        dequantized_slice(&xs, channel, &mut reals);
        for ((&x, code), real) in xs.iter().zip(codes).zip(reals) {
            prop_assert_eq!(i64::from(code), quantize_affine(x, channel), "{:e}", x);
            prop_assert_eq!(real.to_bits(), dequantized(x, channel).to_bits(), "{:e}", x);
        }
    }
}

/// What PyTorch 2.15.0 returned (`fake_quantize_per_tensor_affine`, `fake_quantize_per_channel_affine` and
/// `_fake_quantize_learnable_per_tensor_affine` alike, codes -128 to 127): scale, zero point, bits of input and output.
/// Of 60,000 near ties multiplication with `f32(1 / scale)` gave all, division 12,075 others, the zero point inside the
/// rounding 49,742 others.
#[allow(clippy::unreadable_literal, reason = "bits, as they were recorded")]
const PYTORCH: [(f32, f32, u32, u32); 12] = [
    (0.1, 3.0, 0xc1026666, 0xc1033333),
    (0.1, 3.0, 0xbfc66666, 0xbfcccccd),
    (0.1, 3.0, 0xc0d19999, 0xc0d33333),
    (0.1, 3.0, 0xc1126666, 0xc1133333),
    (0.037, 0.0, 0x40648313, 0x4065b22d),
    (0.037, 0.0, 0x40519169, 0x4052c083),
    (0.037, 0.0, 0x40481894, 0x404947ae),
    (0.037, 0.0, 0xc0481894, 0xc04947ae),
    (0.3, -7.0, 0x414c0001, 0x414e6667),
    (0.3, -7.0, 0xc0700001, 0xc079999a),
    (0.3, -7.0, 0xc17c0001, 0xc17e6667),
    (0.3, -7.0, 0xc0100000, 0xc019999a),
];

#[test]
fn pytorch_multiplies_with_the_reciprocal() {
    for (scale, zero_point, x, y) in PYTORCH {
        let [x, y] = [x, y].map(f32::from_bits);
        let affine = |reciprocal| {
            let [scale, zero_point] = [scale, zero_point].map(PerChannel::uniform);
            let affine = Affine::quantize_linear(scale, zero_point, 8, true);
            Quantizer::Affine(if reciprocal {
                affine.by_reciprocal()
            } else {
                affine
            })
        };
        assert_eq!(evaluate(&affine(true), &[x], &[1]), [y], "{x:e}");
        let code = (y / scale).round() + zero_point;
        assert_eq!(codes(&affine(true), &[x], &[1]), Some(vec![code as i32]));
        assert_ne!(evaluate(&affine(false), &[x], &[1]), [y], "{x:e}");
    }
}
