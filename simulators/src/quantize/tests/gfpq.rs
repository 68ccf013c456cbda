//! The rules of the NNIE evidence, section 1.1, one by one.

use align_check_specs::{Rounding, Threshold};
use proptest::prelude::*;

use crate::quantize::gfpq::{Code, Gfpq, Mode, Table, max_abs};

fn vendor(bits: u32) -> Gfpq {
    Gfpq::vendor(bits).unwrap()
}

fn mqbench() -> Gfpq {
    Gfpq::new(8, Rounding::HalfEven, Threshold::Unquantized).unwrap()
}

#[test]
fn widths() {
    for bits in [0, 4, 7, 10, 12, 32] {
        assert_eq!(Gfpq::vendor(bits), None);
    }
    let [eight, sixteen] = [vendor(8), vendor(16)];
    assert_eq!(
        (eight.steps_per_octave(), eight.max_code(), eight.max_z()),
        (16, 127, 511)
    );
    assert_eq!(
        (
            sixteen.steps_per_octave(),
            sixteen.max_code(),
            sixteen.max_z()
        ),
        (128, 1407, 4095)
    );
}

/// nnieqat's own test vector, and the same input at 16 bits (section 2.1).
#[test]
fn nnieqats_vector() {
    let input = [-9.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
    let eight = [
        -8.724_062,
        0.0,
        1.0,
        2.0,
        2.953_652_4,
        4.0,
        4.967_431,
        5.907_305,
        7.025_008_7,
        8.0,
        8.724_062,
    ];
    let sixteen = [
        -8.963_502,
        0.0,
        1.0,
        2.0,
        3.002_028_2,
        4.0,
        4.994_404,
        6.004_056_5,
        6.987_069_6,
        8.0,
        8.963_502,
    ];
    for (bits, expected_z, expected) in [(8, -77, eight), (16, -1002, sixteen)] {
        let (mut z, mut data) = (0, input);
        vendor(bits).quantize(Mode::Init, &mut z, &mut data);
        assert_eq!((z, data), (expected_z, expected));
    }
}

/// Rule 1 and its clamps (rule 11); rule 10: zeros count as 1e-6; rule 12: infinity.
#[test]
fn ranges() {
    for (bits, range, of_zeros) in [(8, 511, -446), (16, 4095, -3959)] {
        let gfpq = vendor(bits);
        assert_eq!(gfpq.z_of(0.0), of_zeros);
        for big in [1e30, 3e38, f32::MAX, f32::INFINITY] {
            assert_eq!(gfpq.z_of(big), range);
        }
        for small in [1e-10, f32::MIN_POSITIVE, 1e-45] {
            assert_eq!(gfpq.z_of(small), -range);
        }
        // Exactly on the grid at every octave: a logarithm that is off by an ulp shows here.
        for octave in -20..20 {
            let steps = gfpq.steps_per_octave();
            let expected = (octave * steps - gfpq.max_code()).clamp(-range, range);
            let max = libm::ldexpf(1.0, octave);
            assert_eq!(gfpq.z_of(max), expected);
            assert_eq!(gfpq.z_of(max.next_down()), (expected - 1).max(-range));
            assert_eq!(gfpq.z_of(max.next_up()), expected);
        }
    }
    // The ends that the evidence measured.
    let top = |bits| vendor(bits).apply(1e30, vendor(bits).max_z());
    assert!((f64::from(top(8)) / 1.008_26e12 - 1.0).abs() < 1e-5);
    assert!((f64::from(top(16)) / 8.701_34e12 - 1.0).abs() < 1e-5);
    assert_eq!(vendor(8).apply(1e-10, -511), 0.0);
    assert_eq!(
        (
            vendor(8).z_of(2f32.powi(-24)),
            vendor(16).z_of(2f32.powi(-21))
        ),
        (-511, -4095)
    );
}

/// Rule 12: NaN is left out of the maximum.
#[test]
fn maxima() {
    assert_eq!(max_abs(&[1.0, f32::NAN, -3.0]), 3.0);
    assert_eq!(max_abs(&[f32::NAN, -0.0]), 0.0);
    assert_eq!(max_abs(&[]), 0.0);
    assert_eq!(max_abs(&[f32::NEG_INFINITY, 2.0]), f32::INFINITY);
}

/// Rules 2 to 4 and 6: the zero zone ends one octave below the smallest level, threshold included.
#[test]
fn zero_thresholds() {
    let gfpq = vendor(8);
    // z = 0: the positive threshold is 1/2; z = -1: the negative one is.
    let above = 0.5f32.next_up();
    assert_eq!((gfpq.apply(0.5, 0), gfpq.apply(above, 0)), (0.0, 1.0));
    assert_eq!((gfpq.apply(-0.5, -1), gfpq.apply(-above, -1)), (0.0, -1.0));
    assert_eq!(gfpq.code(above, 0), Code::Positive(0));
    assert_eq!(gfpq.code(-above, -1), Code::Negative(1));
    let sixteen = vendor(16);
    assert_eq!((sixteen.apply(0.5, 0), sixteen.apply(above, 0)), (0.0, 1.0));
    assert_eq!(
        (sixteen.apply(-0.5, -1), sixteen.apply(-above, -1)),
        (0.0, -1.0)
    );
}

/// `MQBench`: the positive threshold passes through, the negative one is zero, NaN and infinities differ.
#[test]
fn mqbenchs_special_values() {
    let gfpq = mqbench();
    assert_eq!(gfpq.apply(0.5, 0), 0.5);
    assert_eq!(gfpq.apply(-0.5, -1), 0.0);
    assert_eq!(gfpq.apply(0.5f32.next_down(), 0), 0.0);
    assert!(gfpq.apply(f32::NAN, 0).is_nan());
    assert_eq!(gfpq.apply(f32::INFINITY, 0), gfpq.grid_value(127, 0, false));
    assert_eq!(
        gfpq.apply(f32::NEG_INFINITY, 0),
        gfpq.grid_value(127, 0, true)
    );
    // log2(9) * 16 = 50.72: rounded, not floored.
    assert_eq!((gfpq.z_of(9.0), vendor(8).z_of(9.0)), (51 - 127, 50 - 127));
}

/// Rule 9.
#[test]
fn special_values() {
    for bits in [8, 16] {
        let gfpq = vendor(bits);
        for x in [-0.0, 0.0, f32::NAN, 1e-40, -1e-40] {
            assert_eq!(gfpq.apply(x, 0).to_bits(), 0, "{x:e}");
        }
        assert_eq!(gfpq.apply(f32::INFINITY, 0), gfpq.grid_value(0, 0, false));
        assert_eq!(
            gfpq.apply(f32::NEG_INFINITY, 0),
            gfpq.grid_value(1, 0, true)
        );
        let top = gfpq.max_code();
        assert_eq!(gfpq.apply(3e38, 0), gfpq.grid_value(top, 0, false));
        assert_eq!(gfpq.apply(-3e38, 0), gfpq.grid_value(top, 0, true));
    }
    assert_eq!(vendor(8).grid_value(127, 0, false), 245.146_44);
    assert!((vendor(16).grid_value(1407, 0, false) - 2036.94).abs() < 0.01);
}

/// Rules 10, 13 and 14.
#[test]
fn modes() {
    let gfpq = vendor(8);
    let mut z = 12345;
    let mut zeros = [0.0; 3];
    gfpq.quantize(Mode::Init, &mut z, &mut zeros);
    assert_eq!((z, zeros), (-446, [0.0; 3]));
    gfpq.quantize(Mode::Init, &mut z, &mut [1.0, -0.5]);
    let mut zs = vec![z];
    for max in [4.0, 0.25, 8.0] {
        gfpq.quantize(Mode::Update, &mut z, &mut [max, -0.1]);
        zs.push(z);
    }
    assert_eq!(zs, [-127, -95, -95, -79]);
    // A block of zeros pins z at 0 from below.
    assert_eq!(gfpq.update(0, &[1.0]), 0);
    let mut data = [300.0, 0.4];
    let mut stored = 0;
    gfpq.quantize(Mode::ApplyOnly, &mut stored, &mut data);
    assert_eq!((stored, data), (0, [gfpq.grid_value(127, 0, false), 0.0]));
}

/// Rule 7, and every level quantizes to itself.
#[test]
fn bytes_and_levels() {
    let gfpq = vendor(8);
    for byte in 0..=255u8 {
        let code = Code::from_byte(byte);
        assert_eq!(code.to_byte(), Some(byte));
        for z in [-511, -209, -77, -1, 0, 5, 384, 511] {
            assert_eq!(gfpq.code(gfpq.value(code, z), z), code, "{byte} {z}");
        }
    }
    assert_eq!(Code::from_byte(0x80), Code::Zero);
    assert_eq!(Code::from_byte(0x00), Code::Positive(0));
    assert_eq!(Code::from_byte(0x81), Code::Negative(1));
    assert_eq!(Code::from_byte(0xFF), Code::Negative(127));
    for outside in [Code::Negative(0), Code::Positive(128), Code::Negative(-1)] {
        assert_eq!(outside.to_byte(), None);
    }
    let sixteen = vendor(16);
    for z in [-4095, -1002, 0, 3000, 4095] {
        for k in 0..=1407 {
            assert_eq!(
                sixteen.code(sixteen.grid_value(k, z, false), z),
                Code::Positive(k)
            );
        }
        for k in 1..=1407 {
            assert_eq!(
                sixteen.code(sixteen.grid_value(k, z, true), z),
                Code::Negative(k)
            );
        }
    }
}

/// Every number at which the step function could change: around each level's boundary, each level, each
/// piece of the table, the thresholds and the special values.
fn critical(gfpq: &Gfpq, z: i32) -> Vec<f32> {
    let mut magnitudes = vec![
        0.0,
        1e-40,
        f32::MIN_POSITIVE,
        3e38,
        f32::MAX,
        f32::INFINITY,
        f32::NAN,
    ];
    let steps = f64::from(gfpq.steps_per_octave());
    let halves = -2 * gfpq.steps_per_octave() - 4..=2 * gfpq.max_code() + 8;
    magnitudes.extend(
        halves.map(|half| libm::exp2((f64::from(half) / 2.0 + f64::from(z)) / steps) as f32),
    );
    let first = libm::exp2((f64::from(z) - steps) / steps) as f32;
    let piece = 1 << (22 - gfpq.steps_per_octave().ilog2());
    magnitudes.extend(
        (0..13 * (1 << 23) / piece)
            .map(|index| f32::from_bits((first.to_bits() / piece + index) * piece)),
    );
    magnitudes
        .into_iter()
        .flat_map(|x| [x.next_down(), x, x.next_up()])
        .flat_map(|x| [x, -x])
        .collect()
}

fn assert_table_equals_formula(gfpq: Gfpq, z: i32, inputs: &[f32]) {
    let table = Table::new(gfpq, z).unwrap();
    for &x in inputs {
        let (fast, slow) = (table.apply(x), gfpq.apply(x, z));
        let equal = fast.to_bits() == slow.to_bits() || (fast.is_nan() && slow.is_nan());
        assert!(equal, "{gfpq:?} z {z}: {x:e} became {fast:e}, not {slow:e}");
    }
}

/// The table is a step function and so is the formula: equal at both sides of every step means equal.
#[test]
fn tables_equal_the_formula_at_every_step() {
    for z in (-511..=511).step_by(37).chain([-1, 0, 511]) {
        for gfpq in [vendor(8), mqbench()] {
            assert_table_equals_formula(gfpq, z, &critical(&gfpq, z));
        }
    }
    for z in [-4095, -1002, -129, 0, 77, 4095] {
        assert_table_equals_formula(vendor(16), z, &critical(&vendor(16), z));
    }
}

#[test]
fn tables_stop_at_the_librarys_range() {
    assert!(Table::new(vendor(8), 512).is_none() && Table::new(vendor(8), -512).is_none());
    // A 16-bit z at 8 bits (rule 15: the block does not record the width).
    let mut data = vec![1.0f32; 5000];
    vendor(8).apply_slice(&mut data, -1002);
    assert_eq!(data[0], vendor(8).apply(1.0, -1002));
}

proptest! {
    #[test]
    fn slices_equal_single_elements(
        seed in prop::collection::vec(any::<f32>(), 60),
        z in -600i32..600,
        wide: bool,
    ) {
        let gfpq = vendor(if wide { 16 } else { 8 });
        // Enough elements that the table is used.
        let data: Vec<f32> = seed.iter().cycle().take(12_000).copied().collect();
        let mut fast = data.clone();
        gfpq.apply_slice(&mut fast, z);
        for (x, fast) in data.iter().zip(&fast).take(60) {
            prop_assert_eq!(gfpq.apply(*x, z).to_bits(), fast.to_bits());
        }
    }
}
