//! Instruction sequences of Hexagon HVX under an instruction-set model: what the rules of `hexagon-nn` are made of.

use align_check_simulators::num::{FixedMultiplier, clamp, saturate, shift_right, wrap};
use align_check_specs::{LeftShift, Rounding, Shift, Spec, Step};
use align_check_tests::assemble::arrays;
use align_check_tests::golden;

/// The arrays of a sequence, one row an element.
struct Sequence(Vec<Vec<i64>>);

impl Sequence {
    fn read(name: &str, keys: &[&str]) -> Self {
        let arrays = arrays(&golden("hexagon-hvx").join(name).join("vectors.npz"));
        let columns: Vec<&Vec<f64>> = keys.iter().map(|key| &arrays[*key].1).collect();
        let row = |i: usize| columns.iter().map(|c| c[i] as i64).collect();
        Self((0..columns[0].len()).map(row).collect())
    }

    /// Elements whose last number is not what a rule makes of the others.
    fn wrong(&self, rule: impl Fn(&[i64]) -> i64) -> usize {
        let wrong = |row: &&Vec<i64>| {
            let (y, x) = row.split_last().expect("numbers");
            rule(x) != *y
        };
        self.0.iter().filter(wrong).count()
    }
}

/// The spec's steps behind a Q31 multiplier.
fn q31(spec: &Spec, acc: i64, mantissa: i64, shift: i64) -> i64 {
    let multiplier = FixedMultiplier {
        mantissa,
        exponent: shift as i32,
        bits: 31,
    };
    let rule = &spec.requantize;
    multiplier
        .apply(acc, &rule.steps, rule.left_shift, 32)
        .value
}

/// The spec, and its neighbours in the first step and the left shift.
fn specs() -> (Spec, Vec<Spec>) {
    let own = Spec::resolve("hexagon-nn").expect("a target");
    let mut others = Vec::new();
    for rounding in [
        Rounding::HalfEven,
        Rounding::HalfAway,
        Rounding::Floor,
        Rounding::Trunc,
    ] {
        let mut spec = own.clone();
        spec.requantize.steps[0].rounding = rounding;
        others.push(spec);
    }
    let mut twice = own.clone();
    let step = |bits: u32, saturate: Option<u32>| Step {
        shift: Shift::By(bits),
        rounding: Rounding::HalfUp,
        saturate,
    };
    twice.requantize.steps = vec![step(16, None), step(15, Some(32))];
    others.push(twice);
    let mut open = own.clone();
    open.requantize.steps[0].saturate = None;
    others.push(open);
    let mut saturating = own.clone();
    saturating.requantize.left_shift = LeftShift::Saturate;
    others.push(saturating);
    (own, others)
}

fn half_up(x: i64, shift: i64) -> i64 {
    shift_right(x.into(), shift as u32, Rounding::HalfUp).value as i64
}

fn fit(x: i64, bits: u32) -> i64 {
    saturate(x.into(), bits).value
}

fn byte(x: i64) -> i64 {
    clamp(x.into(), 0, 255).value
}

/// The pair of multiplications that makes a Q31 product.
#[test]
fn q31_product() {
    let vectors = Sequence::read("q31", &["a", "b", "y"]);
    let rule = |spec: &Spec| vectors.wrong(|v| q31(spec, v[0], v[1], 0));
    let (own, others) = specs();
    assert_eq!(rule(&own), 0);
    let counts: Vec<usize> = others.iter().map(rule).collect();
    assert_eq!(counts, [1130, 1193, 5113, 3893, 249, 21, 0]);
}

/// Shift to the left, Q31 product, pack to bytes.
#[test]
fn end_of_a_convolution() {
    let vectors = Sequence::read("conv-epilogue", &["acc", "shift", "recip", "y"]);
    let rule = |spec: &Spec| vectors.wrong(|v| byte(fit(q31(spec, v[0], v[2], v[1]), 16)));
    let (own, others) = specs();
    assert_eq!(rule(&own), 0);
    let counts: Vec<usize> = others.iter().map(rule).collect();
    // Results below zero become 0: half away is half up here, and so is one rounding in two.
    assert_eq!(counts, [278, 0, 1103, 1103, 0, 0, 907]);
}

/// The offset of a 32-bit requantization behind the product, or in front of it.
#[test]
fn place_of_an_offset() {
    let (own, _) = specs();
    let keys = ["x", "gain", "zero", "offset_before"];
    let after = |v: &[i64]| byte(fit(fit(q31(&own, v[0], v[1], 0), 16) + v[2], 16));
    let before = |v: &[i64]| byte(fit(q31(&own, fit(v[0] - v[3], 32), v[1], 0), 16));
    let read = |y: &'static str| Sequence::read("requant-32to8", &[&keys[..], &[y]].concat());
    assert_eq!(read("y_after").wrong(after), 0);
    assert_eq!(read("y_scalar").wrong(after), 0);
    assert_eq!(read("y_before").wrong(before), 0);
    assert_eq!(read("y_before").wrong(after), 770);
}

/// Rounding shifts and products, saturating packs, shifts to the left, sums of products.
#[test]
fn single_instructions() {
    let shift = |bits: Option<u32>, rounding: Rounding| {
        move |v: &[i64]| {
            let x = shift_right(v[0].into(), v[1] as u32, rounding).value as i64;
            bits.map_or_else(|| byte(x), |bits| fit(x, bits))
        }
    };
    let roundings = [Rounding::HalfUp, Rounding::HalfEven, Rounding::Floor];
    let halves = Sequence::read("vasr-h-ub", &["x", "shift", "y"]);
    let words = Sequence::read("vasr-w-h", &["x", "shift", "y"]);
    let found = roundings.map(|r| {
        (
            halves.wrong(shift(None, r)),
            words.wrong(shift(Some(16), r)),
        )
    });
    assert_eq!(found, [(0, 0), (395, 566), (1765, 2570)]);

    let products = Sequence::read("vmpy-h-rh", &["a", "b", "y"]);
    let product = |r: Rounding| {
        move |v: &[i64]| fit(shift_right((v[0] * v[1]).into(), 15, r).value as i64, 16)
    };
    let found = roundings.map(|r| products.wrong(product(r)));
    assert_eq!(found, [0, 501, 3893]);

    let pack = Sequence::read("pack", &["x", "y"]);
    assert_eq!(pack.wrong(|v| byte(fit(v[0], 16))), 0);
    let wrapping = pack.wrong(|v| byte(wrap(v[0].into(), 16).value));

    let left = Sequence::read("vasl", &["x", "shift", "y"]);
    assert_eq!(left.wrong(|v| wrap(i128::from(v[0]) << v[1], 32).value), 0);
    let saturating = left.wrong(|v| saturate(i128::from(v[0]) << v[1], 32).value);

    let keys = ["acc", "x0", "x1", "x2", "x3", "w0", "w1", "w2", "w3", "y"];
    let sums = Sequence::read("vrmpy", &keys);
    let sum = |v: &[i64]| {
        let bytes = |words: &[i64]| -> Vec<i64> {
            let word = |w: &i64| (*w as i32).to_le_bytes().map(i64::from);
            words.iter().flat_map(word).collect()
        };
        let products = bytes(&v[1..5]).into_iter().zip(bytes(&v[5..9]));
        i128::from(v[0]) + products.map(|(a, b)| i128::from(a * b)).sum::<i128>()
    };
    assert_eq!(sums.wrong(|v| wrap(sum(v), 32).value), 0);
    let saturating_sums = sums.wrong(|v| saturate(sum(v), 32).value);
    assert_eq!((wrapping, saturating, saturating_sums), (3113, 4779, 512));
}

/// Sums of two tensors, means, and both ways of moving bytes to another grid.
#[test]
fn operations() {
    let keys = ["a", "b", "a_scale", "b_scale", "offset", "shift", "y"];
    let add = Sequence::read("add", &keys);
    let sum = |first: Rounding| {
        move |v: &[i64]| {
            let sum = shift_right((v[0] * v[2] + v[1] * v[3]).into(), 8, first);
            byte(half_up(fit(sum.value as i64 + v[4], 16), v[5]))
        }
    };
    let found = [Rounding::Floor, Rounding::HalfUp, Rounding::Trunc].map(|r| add.wrong(sum(r)));
    assert_eq!(found, [0, 137, 35]);

    let average = Sequence::read("average", &["sum256", "shift", "mantissa", "y"]);
    let mean = |second: Rounding| {
        move |v: &[i64]| {
            let first = fit(half_up(v[0], v[1]), 16);
            let product = shift_right((first * v[2]).into(), 15, second);
            byte(half_up(fit(product.value as i64, 16), 6))
        }
    };
    let found = [Rounding::HalfUp, Rounding::Floor].map(|r| average.wrong(mean(r)));
    assert_eq!(found, [0, 1056]);

    let concat = Sequence::read("concat", &["x", "scale", "offset", "y"]);
    let moved = |v: &[i64]| byte(half_up(v[0] * v[1] + v[2] * 256, 15));
    assert_eq!(concat.wrong(moved), 0);

    let keys = ["x", "path", "gain", "shift", "zero_in", "zero_out", "y"];
    let requant = Sequence::read("requant-8to8", &keys);
    let rescaled = |v: &[i64]| {
        let steps = v[0] - v[4];
        let moved = match v[1] {
            0 => half_up(steps * v[2], 15),
            1 => half_up(steps * v[2], v[3]),
            _ => steps,
        };
        byte(fit(moved, 16) + v[5])
    };
    assert_eq!(requant.wrong(rescaled), 0);
}
