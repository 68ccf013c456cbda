//! `FakeQuantize` against the reference evaluation of openvino 2026.4.1 (`Model.evaluate`, Apache-2.0; inputs chosen
//! where other orders of the same steps round elsewhere, at the limits and far outside), and its grids.

use align_check_graph::{FakeQuantize, PerChannel, Quantizer};

use crate::quantize::{codes, evaluate, grid};

/// What the reference returned: bits of `f32`.
struct Case {
    levels: u32,
    /// Input low and high, output low and high.
    limits: [u32; 4],
    /// Inputs and outputs.
    pairs: &'static [(u32, u32)],
}

#[rustfmt::skip]
#[allow(clippy::unreadable_literal, reason = "bits, as they were recorded")]
const RECORDED: [Case; 6] = [
    Case {
        levels: 256,
        limits: [0xbf3b3e13, 0x3ff58a41, 0xbf3b3e13, 0x3ff58a41],
        pairs: &[
            (0xbeb44c6b, 0xbeb6f565),
            (0xbe99b297, 0xbe9c5b92),
            (0xbdd274fc, 0xbdc7d110),
            (0xbc1771db, 0xbb84a480),
            (0x3f4523ed, 0x3f46786b),
            (0x3f5fbdbf, 0x3f5e6943),
            (0x3f9d1794, 0x3f9dc1d4),
            (0x3fa7bb84, 0x3fa865c2),
            (0x3fb5086c, 0x3fb5b2aa),
            (0xbf3b3e13, 0xbf3b3e13),
            (0x3ff58a41, 0x3ff58a40),
            (0xbf3b3e12, 0xbf3b3e13),
            (0x3ff58a42, 0x3ff58a41),
            (0x00000000, 0xbb84a480),
            (0x80000000, 0xbb84a480),
            (0xc2c80000, 0xbf3b3e13),
            (0x42c80000, 0x3ff58a41),
        ],
    },
    Case {
        levels: 255,
        limits: [0xc0200000, 0x40200000, 0xc0200000, 0x40200000],
        pairs: &[
            (0xbfac9932, 0xbfab56ae),
            (0xbe3f7eff, 0xbe356ae0),
            (0xbe2b56ad, 0xbe356ae0),
            (0x3ea64c9a, 0x3ea14288),
            (0x3f6f5ebe, 0x3f6cd9b0),
            (0x3f7468d0, 0x3f71e3c8),
            (0x3fd76edf, 0x3fd8b164),
            (0x3ff5ab58, 0x3ff6eddc),
            (0x400264ca, 0x4003060c),
            (0xc0200000, 0xc0200000),
            (0x40200000, 0x40200000),
            (0xc01fffff, 0xc0200000),
            (0x40200001, 0x40200000),
            (0x00000000, 0x00000000),
            (0x80000000, 0x00000000),
            (0xc2c80000, 0xc0200000),
            (0x42c80000, 0x40200000),
        ],
    },
    Case {
        levels: 16,
        limits: [0x00000000, 0x40c00000, 0x00000000, 0x40c00000],
        pairs: &[
            (0x3e4cccce, 0x00000000),
            (0x3f19999a, 0x3f4cccce),
            (0x3f7fffff, 0x3f4cccce),
            (0x3fb33334, 0x3fccccce),
            (0x3fe66666, 0x3fccccce),
            (0x3fe66667, 0x3fccccce),
            (0x00000000, 0x00000000),
            (0x40c00000, 0x40c00000),
            (0x00000001, 0x00000000),
            (0x40c00001, 0x40c00000),
            (0x00000000, 0x00000000),
            (0x80000000, 0x00000000),
            (0xc2c80000, 0x00000000),
            (0x42c80000, 0x40c00000),
        ],
    },
    Case {
        levels: 256,
        limits: [0xbf8ccccd, 0x3fa66666, 0xbf000000, 0x40100000],
        pairs: &[
            (0xbf71d83e, 0xbea22222),
            (0xbdc7fb2a, 0x3f24a4a4),
            (0xbd021bab, 0x3f3ababa),
            (0x3db9865a, 0x3f5e9e9e),
            (0x3ea20872, 0x3f907071),
            (0x3f22efbd, 0x3fbf5f60),
            (0x3f25588c, 0x3fc0c0c2),
            (0x3f3fd974, 0x3fce8e8e),
            (0x3f854547, 0x3ffababa),
            (0xbf8ccccd, 0xbf000000),
            (0x3fa66666, 0x40100000),
            (0xbf8ccccc, 0xbf000000),
            (0x3fa66667, 0x40100000),
            (0x00000000, 0x3f430304),
            (0x80000000, 0x3f430304),
            (0xc2c80000, 0xbf000000),
            (0x42c80000, 0x40100000),
        ],
    },
    Case {
        levels: 100,
        limits: [0xc0533333, 0x40966666, 0xc0533333, 0x40966666],
        pairs: &[
            (0xc0128db4, 0xc00ff7ba),
            (0xbf89f49f, 0xbf84c8aa),
            (0x40951b6a, 0x40966666),
            (0xc0533333, 0xc0533333),
            (0x40966666, 0x40966666),
            (0xc0533332, 0xc0533333),
            (0x40966667, 0x40966666),
            (0x00000000, 0x3c572500),
            (0x80000000, 0x3c572500),
            (0xc2c80000, 0xc0533333),
            (0x42c80000, 0x40966666),
        ],
    },
    Case {
        levels: 65536,
        limits: [0xbfd9999a, 0x4039999a, 0xbfd9999a, 0x4039999a],
        pairs: &[
            (0xbf4105c0, 0xbf410373),
            (0xbea96910, 0xbea96474),
            (0xbdd8326c, 0xbdd82010),
            (0x3e8bccf4, 0x3e8bc860),
            (0x3f6c8254, 0x3f6c84a4),
            (0x3f78552e, 0x3f7852e4),
            (0x3f837885, 0x3f837760),
            (0x3fd03c06, 0x3fd03ade),
            (0x3fd25886, 0x3fd25760),
            (0xbfd9999a, 0xbfd9999a),
            (0x4039999a, 0x4039999b),
            (0xbfd99999, 0xbfd9999a),
            (0x4039999b, 0x4039999a),
            (0x00000000, 0xb8060000),
            (0x80000000, 0xb8060000),
            (0xc2c80000, 0xbfd9999a),
            (0x42c80000, 0x4039999a),
        ],
    },
];

fn quantizer(levels: u32, limits: [f32; 4]) -> FakeQuantize {
    let [input_low, input_high, output_low, output_high] = limits.map(PerChannel::uniform);
    FakeQuantize {
        levels,
        input_low,
        input_high,
        output_low,
        output_high,
    }
}

fn one(q: &FakeQuantize, x: f32) -> f32 {
    evaluate(&Quantizer::FakeQuantize(q.clone()), &[x], &[1])[0]
}

#[test]
fn recorded_values() {
    let mut count = 0;
    for case in &RECORDED {
        let q = quantizer(case.levels, case.limits.map(f32::from_bits));
        for &(x, y) in case.pairs {
            let (x, y) = (f32::from_bits(x), f32::from_bits(y));
            assert_eq!(one(&q, x), y, "{} levels, {x:e}", case.levels);
            count += 1;
        }
    }
    assert_eq!(count, 93);
}

/// What the vectors are for: other orders of the same steps.
#[test]
fn other_orders_of_the_steps_do_not_reproduce_it() {
    let wrong = |f: fn([f32; 4], f32, f32) -> f32| {
        let cases = RECORDED.iter().flat_map(|case| {
            let limits = case.limits.map(f32::from_bits);
            let steps = (case.levels - 1) as f32;
            case.pairs.iter().filter(move |(x, y)| {
                let x = f32::from_bits(*x);
                let inside = x > limits[0] && x <= limits[1];
                inside && f(limits, steps, x) != f32::from_bits(*y)
            })
        });
        cases.count()
    };
    // The formula itself, one factor for the input, one for the output, the sum of two products.
    let counts = [
        wrong(|[il, ih, ol, oh], n, x| {
            ((x - il) / (ih - il) * n).round_ties_even() / n * (oh - ol) + ol
        }),
        wrong(|[il, ih, ol, oh], n, x| {
            ((x - il) * (n / (ih - il))).round_ties_even() / n * (oh - ol) + ol
        }),
        wrong(|[il, ih, ol, oh], n, x| {
            ((x - il) / (ih - il) * n).round_ties_even() * ((oh - ol) / n) + ol
        }),
        wrong(|[il, ih, ol, oh], n, x| {
            let k = n / (ih - il);
            (x * k - il * k).round_ties_even() * ((oh - ol) / n) + ol
        }),
    ];
    assert_eq!(counts, [0, 18, 27, 45]);
}

#[test]
fn zero_and_its_neighbours() {
    let range = |levels, low: f32, high: f32| {
        let q = Quantizer::FakeQuantize(quantizer(levels, [low, high, low, high]));
        grid(&q).map(|g| (g.scale.at(0), g.zero_point.at(0), g.min, g.max))
    };
    assert_eq!(range(256, 0.0, 25.5), Some((0.1, 0, 0, 255)));
    assert_eq!(
        range(256, -12.8, 12.7).map(|g| (g.1, g.2, g.3)),
        Some((0, -128, 127))
    );
    assert_eq!(
        range(255, -12.7, 12.7).map(|g| (g.1, g.2, g.3)),
        Some((0, -127, 127))
    );
    assert_eq!(
        range(256, -13.5, 12.0).map(|g| (g.1, g.2, g.3)),
        Some((135, 0, 255))
    );
    assert_eq!(range(16, 0.0, 6.0), Some((0.4, 0, 0, 15)));
    // Limits as NNCF wrote them: zero points 135, 144 and 148.
    for (low, high, zero) in [
        (-5.036_256, 4.476_671_7, 135),
        (-26.307_419, 20.278_635, 144),
        (-41.062_576, 29.687_134, 148),
    ] {
        assert_eq!(range(256, low, high).map(|g| g.1), Some(zero));
    }
    // Zero between two levels, a range without extent, one that falls.
    assert_eq!(range(256, -1.0, 1.0), None);
    assert_eq!(range(256, 0.0, 0.0), None);
    let falling = Quantizer::FakeQuantize(quantizer(256, [0.0, 1.0, 1.0, 0.0]));
    assert_eq!(grid(&falling), None);
    assert_eq!(one(&quantizer(256, [0.0, 1.0, 1.0, 0.0]), 0.2), 0.8);
    // Without extent there are two values.
    let step = quantizer(256, [0.0, 0.0, -1.0, 2.0]);
    assert_eq!([-1.0, 0.0, 1e-30].map(|x| one(&step, x)), [-1.0, -1.0, 2.0]);
}

#[test]
fn codes_are_levels_of_the_output() {
    // The input's limits decide which level, the output's what it stands for.
    let q = Quantizer::FakeQuantize(quantizer(5, [0.0, 4.0, -20.0, 20.0]));
    let x = [-1.0, 0.4, 0.6, 2.5, 3.5, 9.0];
    assert_eq!(codes(&q, &x, &[6]), Some(vec![-2, -2, -1, 0, 2, 2]));
    assert_eq!(
        evaluate(&q, &x, &[6]),
        [-20.0, -20.0, -10.0, 0.0, 20.0, 20.0]
    );
    let grid = grid(&q).expect("a grid");
    assert_eq!((grid.scale.at(0), grid.zero_point.at(0)), (10.0, 0));
}

#[test]
fn limits_for_each_channel() {
    let list = |a: f32, b: f32| PerChannel {
        values: vec![a, b],
        axis: Some(1),
    };
    let q = Quantizer::FakeQuantize(FakeQuantize {
        levels: 256,
        input_low: PerChannel::uniform(0.0),
        input_high: list(25.5, 2.55),
        output_low: PerChannel::uniform(0.0),
        output_high: list(25.5, 2.55),
    });
    let x = [1.0, 30.0, 1.0, 30.0];
    assert_eq!(codes(&q, &x, &[1, 2, 2]), Some(vec![10, 255, 100, 255]));
    let grid = grid(&q).expect("a grid");
    assert_eq!((grid.scale.axis, grid.scale.values.len()), (Some(1), 2));
    assert_eq!(grid.zero_point, PerChannel::uniform(0));
}
