//! Functions of one code and of rows of codes, against slow definitions, for every code.

use align_check_tests::onnx::{Onnx, Quant, int};
use align_check_tests::simulate::{codes, network};
use align_check_tests::slow::{fma, half_even};
use align_check_tests::{Random, say};

fn reals(codes: &[i64], quant: &Quant) -> Vec<f64> {
    let real = |q: &i64| (q - quant.zero_point) as f64 * f64::from(quant.scale[0]);
    codes.iter().map(real).collect()
}

fn clamp(code: i128, quant: &Quant) -> i64 {
    let (lo, hi) = quant.range();
    code.clamp(lo.into(), hi.into()) as i64
}

/// MLAS' logistic function, one statement an operation.
fn logistic(x: f32) -> f32 {
    let d = x.clamp(-18.0, 18.0);
    let q = d * d;
    let p = fma(4.370_31e-11, q, 1.156_273_2e-7);
    let p = fma(p, q, 6.085_748_6e-5);
    let p = fma(p, q, 8.513_771e-3);
    let p = fma(p, q, 2.482_879_5e-1);
    let p = d * p;
    let r = fma(6.102_474e-13, q, 5.761_021e-9);
    let r = fma(r, q, 6.291_068e-6);
    let r = fma(r, q, 1.701_988_2e-3);
    let r = fma(r, q, 1.168_176_6e-1);
    let r = fma(r, q, 9.931_519e-1);
    let v = p / r;
    let v = v + 0.5;
    if v < 0.0 { 0.0 } else { v }
}

#[test]
fn onnxruntime_sigmoid() {
    let mut count = 0;
    for (x, y) in [
        (Quant::u8(0.05, 127), Quant::u8(1.0 / 256.0, 0)),
        (Quant::u8(0.25, 128), Quant::u8(1.0 / 255.0, 3)),
        (Quant::i8(0.1, -3), Quant::i8(1.0 / 256.0, -128)),
        // Beyond 18 on both sides, and a grid that saturates.
        (Quant::i8(1.0, 0), Quant::i8(1.0 / 300.0, -127)),
        (Quant::u8(1e-30, 255), Quant::u8(0.5, 255)),
    ] {
        let model = Onnx::new()
            .input("x", &[1, 256])
            .quant("x", "qx", &x)
            .node("Sigmoid", &["qx"], "s", &[])
            .quant("s", "y", &y)
            .output("y", &[1, 256]);
        let every: Vec<i64> = (x.range().0..=x.range().1).collect();
        let found = &codes(&network(&model), "onnxruntime", &[("x", reals(&every, &x))])["y"];
        for (&q, &got) in every.iter().zip(found) {
            let v: f32 = logistic((q - x.zero_point) as f32 * x.scale[0]) / y.scale[0];
            let wanted = clamp(half_even(v.into()) + i128::from(y.zero_point), &y);
            assert_eq!(got, wanted, "{q} of {x:?} to {y:?}");
            count += 1;
        }
    }
    say(format_args!("onnxruntime sigmoid: {count} codes"));
}

/// One row of `QLinearSoftmax`.
fn softmax(row: &[i64], x: &Quant, y: &Quant) -> Vec<i64> {
    let scale = f64::from(x.scale[0]);
    let largest = *row.iter().max().expect("a row");
    let longest = (f32::MAX / row.len() as f32).ln();
    let shift = (f64::from(longest) - 5.0).max(0.0) / scale;
    let table: Vec<f32> = (0..256)
        .map(|i| ((f64::from(i) - 255.0 + shift) * scale).exp() as f32)
        .collect();
    let e: Vec<f32> = row
        .iter()
        .map(|q| table[(255 - (largest - q)) as usize])
        .collect();
    let mut sum = 0f32;
    for &term in &e {
        sum += term;
    }
    let factor = (1.0 / y.scale[0]).floor();
    e.iter()
        .map(|&term| {
            let v = f64::from(term) * f64::from(factor) / f64::from(sum);
            clamp(half_even(v) + i128::from(y.zero_point), y)
        })
        .collect()
}

#[test]
fn onnxruntime_softmax() {
    let mut random = Random(3);
    let mut count = 0;
    for (x, y) in [
        (Quant::u8(0.1, 128), Quant::u8(1.0 / 256.0, 0)),
        (Quant::u8(0.02, 0), Quant::u8(1.0 / 255.0, 3)),
        (Quant::i8(0.05, -128), Quant::i8(1.0 / 256.0, -128)),
        // Probability 1 saturates; a scale above one leaves no steps at all.
        (Quant::i8(1.5, 7), Quant::i8(1.0 / 256.0, 1)),
        (Quant::u8(0.3, 9), Quant::u8(2.0, 77)),
        (Quant::u8(1e-3, 255), Quant::u8(1.0 / 2001.0, 1)),
    ] {
        for (length, inner) in [(1, 1), (2, 1), (10, 1), (300, 1), (7, 5)] {
            let rows = 60;
            let shape = [rows, length, inner];
            let model = Onnx::new()
                .input("x", &shape)
                .quant("x", "qx", &x)
                .node("Softmax", &["qx"], "s", &[int("axis", 1)])
                .quant("s", "y", &y)
                .output("y", &shape);
            let (lo, hi) = x.range();
            let given: Vec<i64> = (0..rows * length * inner)
                .map(|i| match i / (length * inner) {
                    0 => lo,
                    1 => hi,
                    2 => [lo, hi][random.below(2)],
                    row => lo + random.below([256, 20, 3][row as usize % 3]) as i64,
                })
                .collect();
            let found = &codes(&network(&model), "onnxruntime", &[("x", reals(&given, &x))])["y"];
            for first in 0..rows * inner {
                let at = |k: i64| ((first / inner * length + k) * inner + first % inner) as usize;
                let row: Vec<i64> = (0..length).map(|k| given[at(k)]).collect();
                let got: Vec<i64> = (0..length).map(|k| found[at(k)]).collect();
                assert_eq!(got, softmax(&row, &x, &y), "{row:?} of {x:?} to {y:?}");
                count += length;
            }
        }
    }
    say(format_args!("onnxruntime softmax: {count} codes"));
}

/// A number whose sum with another one is halfway between two `f32`, and its neighbours.
#[test]
fn the_slow_fused_multiply_add_rounds_once() {
    let mut random = Random(5);
    for _ in 0..20_000 {
        let mut number = || {
            let exponent = random.below(40) as i32 - 20;
            let fraction = random.below(1 << 23) as f32 / 8_388_608.0 + 1.0;
            let sign = [-1.0, 1.0][random.below(2)];
            sign * fraction * (f64::from(exponent)).exp2() as f32
        };
        let (a, b, c) = (number(), number(), number());
        assert_eq!(fma(a, b, c), a.mul_add(b, c), "{a:e} * {b:e} + {c:e}");
    }
}
