use align_check_graph::{
    Affine, Minifloat, PerChannel, Quantizer, Rounding, Thresholds, Trunc, TruncKind,
};

use crate::quantize::{CodeGrid, codes, evaluate, grid};

fn affine(bits: u32, signed: bool, zero_point: f32) -> Quantizer {
    Quantizer::Affine(Affine {
        scale: PerChannel::uniform(0.1),
        zero_point: PerChannel::uniform(zero_point),
        bits,
        signed,
        narrow: false,
        rounding: Rounding::HalfEven,
        zero_point_added: align_check_graph::ZeroPointAdded::BeforeRounding,
        multiplier: None,
    })
}

fn range(q: &Quantizer) -> Option<(i64, i64)> {
    grid(q).map(|grid| (grid.min, grid.max))
}

#[test]
fn affine_grids() {
    let expected = CodeGrid {
        scale: PerChannel::uniform(f64::from(0.1f32)),
        zero_point: PerChannel::uniform(3),
        min: 0,
        max: 255,
    };
    assert_eq!(grid(&affine(8, false, 3.0)), Some(expected));
    assert_eq!(range(&affine(1, true, 0.0)), Some((-1, 1)));
    assert_eq!(
        range(&affine(32, true, 0.0)),
        Some((i32::MIN.into(), i32::MAX.into()))
    );
    // Beyond i32, or between two codes.
    assert_eq!(range(&affine(32, false, 0.0)), None);
    assert_eq!(range(&affine(8, true, 0.5)), None);
    assert_eq!(range(&affine(8, true, 1e20)), None);
}

#[test]
fn bipolar_grid() {
    let q = Quantizer::Bipolar {
        scale: PerChannel::uniform(0.5),
    };
    assert_eq!(range(&q), Some((-1, 1)));
    let x = [0.0, -0.0, -1e-30, f32::NAN];
    assert_eq!(codes(&q, &x, &[4]), Some(vec![1, 1, -1, -1]));
    assert_eq!(evaluate(&q, &x, &[4]), [0.5, 0.5, -0.5, -0.5]);
}

#[test]
fn trunc_grids() {
    let trunc = |zero_point, kind| {
        Quantizer::Trunc(Trunc {
            scale: PerChannel::uniform(0.25),
            zero_point: PerChannel::uniform(zero_point),
            rounding: Rounding::Floor,
            kind,
        })
    };
    // Version 1 neither clamps nor moves the zero point.
    let v1 = grid(&trunc(4.0, TruncKind::V1 { shift: 2 })).unwrap();
    assert_eq!((v1.scale.at(0), v1.zero_point.at(0)), (0.25, 4));
    assert_eq!((v1.min, v1.max), (i64::from(i32::MIN), i64::from(i32::MAX)));
    let v2 = |zero_point, out_scale: Vec<f32>| {
        let axis = (out_scale.len() > 1).then_some(1);
        trunc(
            zero_point,
            TruncKind::V2 {
                out_scale: PerChannel {
                    values: out_scale,
                    axis,
                },
                out_bits: 4,
                signed: true,
                narrow: true,
            },
        )
    };
    let v2_grid = grid(&v2(8.0, vec![1.0, 2.1])).unwrap();
    assert_eq!(
        v2_grid.zero_point,
        PerChannel {
            values: vec![2, 1],
            axis: Some(1)
        }
    );
    assert_eq!((v2_grid.min, v2_grid.max), (-7, 7));
    // 2 / 4 is no integer.
    assert_eq!(grid(&v2(2.0, vec![1.0])), None);
}

fn thresholds(out_scale: f32, out_bias: f32) -> Quantizer {
    Quantizer::Thresholds(Thresholds {
        thresholds: vec![-1.0, 0.0, 1.0],
        channels: 1,
        steps: 3,
        axis: 1,
        out_scale,
        out_bias,
    })
}

#[test]
fn threshold_grids() {
    let x = [-2.0, -1.0, 0.5, 7.0];
    let check = |q: &Quantizer, expected: (f64, i64, i64, i64)| {
        let grid = grid(q).unwrap();
        let (scale, zero_point) = (grid.scale.at(0), grid.zero_point.at(0));
        assert_eq!((scale, zero_point, grid.min, grid.max), expected);
        let codes = codes(q, &x, &[4]).unwrap();
        for (code, real) in codes.iter().zip(evaluate(q, &x, &[4])) {
            assert_eq!(
                (i64::from(*code) - zero_point) as f64 * scale,
                f64::from(real)
            );
        }
    };
    check(&thresholds(1.0, 0.0), (1.0, 0, 0, 3));
    check(&thresholds(0.5, -1.0), (0.5, 2, 0, 3));
    // FINN's bipolar form: odd numbers on the grid of half steps.
    check(&thresholds(2.0, -1.0), (1.0, 0, -1, 5));
    check(&thresholds(2.0, 3.0), (1.0, 0, 3, 9));
    assert_eq!(grid(&thresholds(1.0, 0.3)), None);
    assert_eq!(grid(&thresholds(0.0, 0.0)), None);
    assert_eq!(grid(&thresholds(-1.0, 0.0)), None);
}

/// Rows that do not ascend, or hold a NaN, are counted one by one.
#[test]
fn unsorted_thresholds_are_counted() {
    let q = |thresholds: Vec<f32>| {
        Quantizer::Thresholds(Thresholds {
            steps: thresholds.len(),
            thresholds,
            channels: 1,
            axis: 0,
            out_scale: 1.0,
            out_bias: 0.0,
        })
    };
    let count = |thresholds, x| evaluate(&q(thresholds), &[x], &[1])[0];
    assert_eq!(count(vec![3.0, 1.0, 2.0], 2.0), 2.0);
    assert_eq!(count(vec![1.0, f32::NAN, 2.0], 2.0), 2.0);
    assert_eq!(count(vec![f32::NAN], 2.0), 0.0);
    assert_eq!(count(vec![1.0, 1.0, 2.0], 1.0), 2.0);
    assert_eq!(count(vec![1.0, 2.0], f32::NAN), 0.0);
    assert_eq!(count(vec![], 1.0), 0.0);
}

#[test]
fn small_floats_have_no_grid() {
    let q = Quantizer::Minifloat(Minifloat {
        scale: PerChannel::uniform(1.0),
        exponent_bits: 4,
        mantissa_bits: 3,
        exponent_bias: 7.0,
        max_value: f32::INFINITY,
        saturating: true,
        has_inf: false,
        has_nan: false,
        has_subnormal: true,
        rounding: Rounding::HalfEven,
    });
    assert_eq!(grid(&q), None);
    assert_eq!(codes(&q, &[1.0], &[1]), None);
    // Without `max_val`, the format's own largest number.
    assert_eq!(evaluate(&q, &[1e9, -1e9], &[2]), [480.0, -480.0]);
}
