//! What is written for speed against what it means: kernels against one sum of products after the other, ends of layers
//! against the arithmetic of `num` with its flags. A case is one output element.
//!
//! `cargo test` runs some; `ALIGN_CHECK_CASES=100000000 cargo test --release -p align-check-simulators --test
//! fast_equals_definition -- --ignored --nocapture` as many as are asked for, 10^8 where nothing is said.

use std::collections::BTreeMap;
use std::time::Instant;

use align_check_graph::{Affine, PerChannel, ZeroPointAdded};
use align_check_simulators::kernels::{ConvShape, Isa, PackedWeights, conv_u8i8};
use align_check_simulators::num::{
    FixedMultiplier, Trace, each_shifted, shift_right, shift_right_i32, shift_right_i64,
};
use align_check_simulators::quantize::affine;
use align_check_simulators::quantize::letter_end::LetterEnd;
use align_check_simulators::rules::Labels;
use align_check_simulators::rules::fake_quantize::ConvAdd;
use align_check_simulators::rules::real::RealQuantizer;
use align_check_simulators::rules::requantize::{Requantizer, Unit};
use align_check_specs::{
    BiasFormat, ClampOrder, Grid, LeftShift, Multiplier, Overflow, Product, Requantize, Rounding,
    Shift, Spec, Step, ZeroPointPosition,
};

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `count`.
    fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    /// A positive factor: of any mantissa, or a power of two.
    fn factor(&mut self, low: f64, high: f64) -> f64 {
        let exponent = self.between(low, high);
        if self.below(3) == 0 {
            exponent.floor().exp2()
        } else {
            f64::from(exponent.exp2() as f32)
        }
    }

    /// Accumulators: around what a code's ties stand for, single bits, ends, anything.
    fn sums(&mut self, len: usize, step: f64) -> Vec<i32> {
        let sum = |random: &mut Self| match random.below(8) {
            0 => random.next() as i32,
            1 => random.next() as i32 >> random.below(32),
            2 => 1i32.rotate_left(random.below(32) as u32) - random.below(2) as i32,
            3 => random.pick(&[i32::MIN, i32::MIN + 1, -1, 0, 1, i32::MAX - 1, i32::MAX]),
            _ => {
                let tie = random.below(600) as f64 - 300.0 + 0.5;
                (tie * step).round() as i32 + random.below(3) as i32 - 1
            }
        };
        (0..len).map(|_| sum(self)).collect()
    }
}

/// Lengths around the blocks that vectors and loops take.
const LENGTHS: [usize; 14] = [0, 1, 7, 8, 9, 31, 32, 33, 63, 64, 65, 70, 129, 333];

/// Elements that were compared, by what was compared.
#[derive(Default)]
struct Counts(BTreeMap<&'static str, u64>);

impl Counts {
    fn add(&mut self, what: &'static str, cases: usize) {
        *self.0.entry(what).or_default() += cases as u64;
    }

    fn of(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or_default()
    }
}

/// Right shifts, alone and in slices.
fn shifts(random: &mut Random, counts: &mut Counts) {
    let (bits, rounding) = (random.below(32) as u32, random.pick(Rounding::ALL));
    let len = random.pick(&LENGTHS);
    let from = random.sums(len, f64::from(bits).exp2());
    let expected: Vec<i32> = from
        .iter()
        .map(|&x| shift_right(x.into(), bits, rounding).value as i32)
        .collect();
    let mut out = vec![0i32; len];
    each_shifted(&from, bits, rounding, &mut out, |x| x, |x| x, |x| x);
    assert_eq!(out, expected, "{rounding:?} by {bits} of {from:?}");
    for (&x, &expected) in from.iter().zip(&expected) {
        assert_eq!(shift_right_i32(x, bits, rounding), expected);
        let wide = i64::from(x) << 20;
        let narrowed = shift_right_i64(wide, bits + 20, rounding);
        assert_eq!(narrowed, i64::from(expected), "{wide} by {}", bits + 20);
    }
    counts.add("shifts", len);
}

/// Fixed-point multipliers with the steps of the zoo.
fn multipliers(random: &mut Random, counts: &mut Counts) {
    let bits = random.pick(&[31, 31, 31, 30, 24, 15]);
    let m = random.factor(-24.0, 3.0);
    let multiplier = FixedMultiplier::from_real(m, bits, Rounding::HalfAway).value;
    let step = |shift, rounding| Step {
        shift,
        rounding,
        saturate: None,
    };
    let steps = match random.below(3) {
        0 => vec![step(Shift::Rest, random.pick(Rounding::ALL))],
        1 => vec![
            step(Shift::By(31), Rounding::HalfUp),
            step(Shift::Rest, random.pick(Rounding::ALL)),
        ],
        _ => vec![
            step(Shift::By(bits), random.pick(Rounding::ALL)),
            step(Shift::Rest, random.pick(Rounding::ALL)),
        ],
    };
    let left = random.pick(&[LeftShift::Wrap, LeftShift::Saturate, LeftShift::Exact]);
    let Some(fast) = multiplier.fast(&steps, left, 32) else {
        return;
    };
    let len = random.pick(&LENGTHS);
    let sums = random.sums(len, 1.0 / m);
    let bias = random.next() as i32 >> random.below(32);
    let expected: Vec<i64> = sums
        .iter()
        .map(|&sum| {
            let acc = i64::from(sum.wrapping_add(bias));
            multiplier.apply(acc, &steps, left, 32).value
        })
        .collect();
    for (&sum, &expected) in sums.iter().zip(&expected) {
        let got = fast.apply(sum.wrapping_add(bias));
        assert_eq!(got, expected, "{sum} + {bias}, {multiplier:?}, {steps:?}");
    }
    counts.add("fixed-point multipliers", len);
    if fast.is_narrow() {
        let mut out = vec![0i32; len];
        fast.each_narrow(&sums, bias, &mut out, |x| x, |x| x);
        let out: Vec<i64> = out.into_iter().map(i64::from).collect();
        assert_eq!(
            out, expected,
            "{sums:?} + {bias}, {multiplier:?}, {steps:?}"
        );
        counts.add("fixed-point multipliers in 32 bits", len);
    }
}

/// The model's own quantizer behind sums.
fn letters(random: &mut Random, counts: &mut Counts) {
    let signed = random.below(2) == 0;
    let zero = if signed {
        random.below(256) as f32 - 128.0
    } else {
        random.below(256) as f32
    };
    let added = [
        ZeroPointAdded::BeforeRounding,
        ZeroPointAdded::AfterRounding,
    ];
    let quantizer = Affine {
        scale: PerChannel::uniform(random.factor(-10.0, 1.0) as f32),
        zero_point: PerChannel::uniform(zero),
        bits: 8,
        signed,
        narrow: false,
        rounding: align_check_graph::Rounding::HalfEven,
        zero_point_added: random.pick(&added),
        multiplier: None,
    };
    let infinite = f64::INFINITY;
    let clamp = random.pick(&[(-infinite, infinite), (0.0, infinite), (0.0, 6.0)]);
    let (scale, m) = (f64::from(quantizer.scale.at(0)), random.factor(-20.0, -2.0));
    let b = [0.0, random.between(-50.0, 50.0)][random.below(2)];
    let end = LetterEnd::new(&quantizer, clamp).of_sum(m, b);
    let channel = affine::Channel::new(&quantizer, scale as f32, zero);
    let len = random.pick(&LENGTHS);
    let sums = random.sums(len, scale / m);
    let first = if signed { -128 } else { 0 };
    let expected: Vec<i32> = sums
        .iter()
        .map(|&sum| {
            let real = (f64::from(sum) * m + b).max(clamp.0).min(clamp.1);
            affine::quantize_affine(real as f32, channel) as i32
        })
        .collect();
    for isa in Isa::available() {
        let mut out = vec![0u8; len];
        end.codes(isa, &sums, first, &mut out);
        let out: Vec<i32> = out.iter().map(|&q| i32::from(q) + first).collect();
        assert_eq!(out, expected, "{isa:?}: {end:?} of {sums:?}");
        counts.add("the model's quantizer", len);
    }
}

/// A rule with some decisions of another one, as searches for causes make them.
fn switched(rule: &Requantize, random: &mut Random) -> Requantize {
    let mut rule = rule.clone();
    let steps = vec![Step {
        shift: Shift::Rest,
        rounding: random.pick(Rounding::ALL),
        saturate: None,
    }];
    match random.below(4) {
        0 => return rule,
        1 => rule.multiplier = Multiplier::F64,
        2 => rule.multiplier = Multiplier::F32,
        _ => {}
    }
    let float = matches!(
        rule.multiplier,
        Multiplier::F64 | Multiplier::F32 | Multiplier::F32TwoSteps { .. }
    );
    if float || random.below(2) == 0 {
        rule.steps = steps;
    }
    if float {
        rule.zero_point = random.pick(&[
            ZeroPointPosition::AfterRounding,
            ZeroPointPosition::InsideRounding,
        ]);
        rule.clamp = random.pick(&[ClampOrder::BeforeRounding, ClampOrder::AfterRounding]);
    }
    rule
}

/// Requantizations of every embedded target, and of those that its decisions make of it.
fn requantizations(spec: &Spec, random: &mut Random, counts: &mut Counts) {
    let product = random.pick(&[
        Product::Convolution,
        Product::Depthwise,
        Product::Transposed,
        Product::FullyConnected,
        Product::FullyConnectedUnbiased,
    ]);
    let rule = &switched(spec.of_product(product).0, random);
    let mut accumulator = spec.accumulator.clone();
    if random.below(4) == 0 {
        accumulator.bits = random.pick(&[None, Some(64), Some(24), Some(32)]);
        accumulator.overflow = random.pick(&[Overflow::Wrap, Overflow::Saturate]);
    }
    let mut added = spec.bias.clone();
    if rule.multiplier == Multiplier::F64 && random.below(2) == 0 {
        added.format = BiasFormat::Exact;
    }
    let power = |random: &mut Random, low: f64, high: f64| random.between(low, high).floor().exp2();
    let powers = random.below(3) == 0 || spec.activations.quantizer == Grid::PowerOfTwo;
    let scale = |random: &mut Random, low: f64, high: f64| {
        if powers {
            power(random, low, high)
        } else {
            f64::from(random.between(low, high).exp2() as f32)
        }
    };
    let signed = random.below(2) == 0;
    let min = if signed { -128 } else { 0 };
    let zero = if powers || random.below(2) == 0 {
        0
    } else {
        min + random.below(256) as i64
    };
    let out = Labels {
        scale: scale(random, -8.0, 0.0),
        zero_point: zero,
        min,
        max: min + 255,
        relabel: 0,
    };
    let (x, w) = (scale(random, -8.0, 0.0), scale(random, -12.0, -3.0));
    let bias = random.between(-30.0, 30.0) * f64::from(random.below(2) as u32) * out.scale;
    let unit = Unit {
        x,
        w,
        zeros: 0,
        bias,
        code: None,
    };
    let clamp = random.pick(&[
        (f64::NEG_INFINITY, f64::INFINITY),
        (0.0, f64::INFINITY),
        (0.0, 6.0),
    ]);
    // What the scales do not fit is no case.
    let Ok(requantizer) = Requantizer::new(rule, &added, &accumulator, &[unit], out, clamp) else {
        return;
    };
    let len = random.pick(&LENGTHS);
    let sums = random.sums(len, out.scale / (x * w));
    let first = min as i32;
    let expected: Vec<i32> = sums
        .iter()
        .map(|&sum| requantizer.code(i64::from(sum), 0, false).value)
        .collect();
    for isa in Isa::available() {
        let mut bytes = vec![0u8; len];
        requantizer.codes(isa, &sums, 0, first, &mut bytes);
        let bytes: Vec<i32> = bytes.iter().map(|&q| i32::from(q) + first).collect();
        assert_eq!(
            bytes, expected,
            "{} {isa:?}: {unit:?}, {out:?}, {sums:?}",
            spec.name
        );
        let mut words = vec![0i32; len];
        requantizer.codes(isa, &sums, 0, 0, &mut words);
        assert_eq!(words, expected, "{} {isa:?}: {unit:?}, {out:?}", spec.name);
        counts.add("requantizations", 2 * len);
    }
    // A channel beside others that nobody asks for.
    let units = [Unit { w: 2.0 * w, ..unit }, unit];
    let all = Requantizer::new(rule, &added, &accumulator, &units, out, clamp);
    let wanted = Some(&[false, true][..]);
    let one = Requantizer::of_channels(rule, &added, &accumulator, &units, out, clamp, wanted);
    assert_eq!(all.is_ok(), one.is_ok(), "{}: {units:?}", spec.name);
    if let (Ok(all), Ok(one)) = (all, one) {
        let of_last = |requantizer: &Requantizer| {
            let mut codes = vec![0i32; len];
            requantizer.codes(Isa::detect(), &sums, 1, 0, &mut codes);
            codes
        };
        assert_eq!(of_last(&all), of_last(&one), "{}: {units:?}", spec.name);
        assert_eq!((all.fits(0), all.fits(1)), (one.fits(0), one.fits(1)));
    }
}

/// Reals to codes, by the rule of every embedded target.
fn quantizations(spec: &Spec, random: &mut Random, counts: &mut Counts) {
    let min = random.pick(&[-128, 0]);
    let zero = min + random.below(256) as i64;
    let out = Labels {
        scale: f64::from(random.factor(-10.0, 2.0) as f32),
        zero_point: random.pick(&[0, zero]),
        min,
        max: min + 255,
        relabel: random.pick(&[0, 0, 128]),
    };
    let mut rule = spec.quantize.clone();
    if random.below(3) == 0 {
        rule.rounding = random.pick(Rounding::ALL);
        rule.zero_point = random.pick(&[
            ZeroPointPosition::AfterRounding,
            ZeroPointPosition::InsideRounding,
        ]);
    }
    let quantizer = RealQuantizer::new(&rule, out);
    let real = |random: &mut Random| match random.below(6) {
        0 => random.pick(&[
            0.0,
            -0.0,
            1e30,
            -1e30,
            f64::INFINITY,
            f64::NEG_INFINITY,
            1e-40,
        ]),
        1 => random.between(-300.0, 300.0) * out.scale,
        _ => (random.below(600) as f64 - 300.0 + 0.5) * out.scale,
    };
    let reals: Vec<f64> = (0..random.pick(&LENGTHS)).map(|_| real(random)).collect();
    let expected: Vec<i32> = reals.iter().map(|&x| quantizer.code(x as f32)).collect();
    for isa in Isa::available() {
        if let Some(codes) = quantizer.codes(isa, &reals) {
            assert_eq!(
                codes, expected,
                "{} {isa:?}: {out:?} of {reals:?}",
                spec.name
            );
            counts.add("quantizations", reals.len());
        }
    }
}

/// Additions that end a convolution, with a quantizer between them.
fn joins(random: &mut Random, counts: &mut Counts) {
    let labels = |random: &mut Random| {
        let min = random.pick(&[-128, 0]);
        let zero = min + random.below(256) as i64;
        Labels {
            scale: f64::from(random.factor(-8.0, 0.0) as f32),
            zero_point: random.pick(&[0, zero]),
            min,
            max: min + 255,
            relabel: random.pick(&[0, 0, 128]),
        }
    };
    let [inner, kept, out] = [(); 3].map(|()| labels(random));
    let add = ConvAdd::new(Some(inner), kept, out);
    let len = random.pick(&LENGTHS);
    let codes: Vec<i32> = (0..len)
        .map(|_| (kept.min - kept.relabel) as i32 + random.below(256) as i32)
        .collect();
    // Reals whose sum with the other operand lies around a tie of the output.
    let reals: Vec<f64> = codes
        .iter()
        .map(|&q| {
            let tie = (random.below(300) as f64 - 150.0 + 0.5) * out.scale;
            let real = tie - kept.steps(q) as f64 * kept.scale;
            let near = f64::from((real * (1.0 + random.between(-1e-7, 1e-7))) as f32);
            let any = random.between(-1e3, 1e3);
            random.pick(&[near, near, 0.0, -0.0, any])
        })
        .collect();
    let expected: Vec<i32> = reals
        .iter()
        .zip(&codes)
        .map(|(&v, &q)| add.code(v as f32, q, &mut Trace::off()))
        .collect();
    for isa in Isa::available() {
        if let Some(made) = add.codes(isa, &reals, &codes) {
            assert_eq!(
                made, expected,
                "{isa:?}: {inner:?}, {kept:?}, {out:?} of {reals:?} and {codes:?}"
            );
            counts.add("additions behind convolutions", len);
        }
    }
}

/// Convolutions of every instruction set; some are a matrix times a vector, of several blocks of taps.
fn convolutions(random: &mut Random, counts: &mut Counts) {
    let dense = random.below(4) == 0;
    let mut kernel = random.pick(&[[1, 1], [3, 3], [5, 5], [1, 3], [2, 4]]);
    let strides = random.pick(&[[1, 1], [1, 1], [2, 2], [1, 2], [3, 1]]);
    let dilations = random.pick(&[[1, 1], [1, 1], [1, 1], [2, 1], [1, 3]]);
    let mut pads = [random.below(3), random.below(3)];
    let mut size = [1 + random.below(20), 1 + random.below(40)];
    let groups = random.pick(&[1, 1, 2, 5]);
    let outputs = 1 + random.below(9);
    let mut inputs = 1 + random.below(4);
    if dense {
        (kernel, pads, size) = ([1, 1], [0, 0], [1, 1]);
        inputs = 1 + random.below(200);
    }
    let extent = |axis: usize| {
        let padded = size[axis] + 2 * pads[axis];
        let window = (kernel[axis] - 1) * dilations[axis] + 1;
        padded
            .checked_sub(window)
            .map_or(0, |room| room / strides[axis] + 1)
    };
    let shape = ConvShape {
        channels: groups * inputs,
        height: size[0],
        width: size[1],
        out_channels: groups * outputs,
        out_height: extent(0),
        out_width: extent(1),
        kernel,
        strides,
        pads,
        dilations,
        groups,
    };
    let taps = inputs * kernel[0] * kernel[1];
    let extreme = random.below(4) == 0;
    let byte = |random: &mut Random| {
        if extreme {
            random.pick(&[0, 255])
        } else {
            random.next() as u8
        }
    };
    let x: Vec<u8> = (0..shape.channels * size[0] * size[1])
        .map(|_| byte(random))
        .collect();
    let weights: Vec<i8> = (0..shape.out_channels * taps)
        .map(|_| (byte(random) ^ 128).cast_signed())
        .collect();
    let pad = random.next() as u8;
    let mut expected = Vec::new();
    for m in 0..shape.out_channels {
        let first = m / outputs * inputs;
        for oy in 0..shape.out_height {
            for ox in 0..shape.out_width {
                let mut sum = 0;
                for k in 0..taps {
                    let (c, r, q) = (
                        k / (kernel[0] * kernel[1]),
                        k / kernel[1] % kernel[0],
                        k % kernel[1],
                    );
                    let row = (oy * strides[0] + r * dilations[0]).checked_sub(pads[0]);
                    let column = (ox * strides[1] + q * dilations[1]).checked_sub(pads[1]);
                    let code = match (row, column) {
                        (Some(row), Some(column)) if row < size[0] && column < size[1] => {
                            x[((first + c) * size[0] + row) * size[1] + column]
                        }
                        _ => pad,
                    };
                    sum += i32::from(code) * i32::from(weights[m * taps + k]);
                }
                expected.push(sum);
            }
        }
    }
    for isa in Isa::available() {
        let packed = PackedWeights::new(isa, &shape, &weights);
        let mut out = vec![i32::MIN; expected.len()];
        conv_u8i8(&shape, &x, pad, &packed, &mut out);
        assert!(out == expected, "{isa:?}: {shape:?}");
        counts.add("convolutions", expected.len());
    }
}

/// Runs until so many elements were compared of every kind together.
fn run(cases: u64, seed: u64) -> Counts {
    let specs: Vec<Spec> = align_check_specs::names()
        .iter()
        .map(|name| Spec::resolve(name).expect("an embedded target"))
        .collect();
    let mut random = Random(seed);
    let mut counts = Counts::default();
    let mut round = 0;
    while counts.0.values().sum::<u64>() < cases {
        for _ in 0..4 {
            shifts(&mut random, &mut counts);
            multipliers(&mut random, &mut counts);
            letters(&mut random, &mut counts);
            joins(&mut random, &mut counts);
        }
        let spec = &specs[round % specs.len()];
        requantizations(spec, &mut random, &mut counts);
        quantizations(spec, &mut random, &mut counts);
        if round % 4 == 0 {
            convolutions(&mut random, &mut counts);
        }
        round += 1;
    }
    counts
}

fn check(cases: u64) {
    println!("{:?}", Isa::available());
    let start = Instant::now();
    let counts = run(cases, cases);
    for (what, count) in &counts.0 {
        println!("{count:>12} {what}");
    }
    let total: u64 = counts.0.values().sum();
    println!("{total:>12} in {:.0} s", start.elapsed().as_secs_f64());
    for what in [
        "shifts",
        "fixed-point multipliers",
        "fixed-point multipliers in 32 bits",
        "the model's quantizer",
        "requantizations",
        "quantizations",
        "additions behind convolutions",
        "convolutions",
    ] {
        assert!(counts.of(what) > cases / 100, "few cases of {what}");
    }
}

#[test]
fn some_cases() {
    check(400_000);
}

#[test]
#[ignore = "takes long; see the top of the file"]
fn many_cases() {
    let asked = std::env::var("ALIGN_CHECK_CASES").ok();
    check(asked.map_or(100_000_000, |cases| {
        cases.parse().expect("a number of cases")
    }));
}
