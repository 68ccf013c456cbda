//! Sums of two tensors for every pair of codes, and means of windows, against slow definitions.

use align_check_tests::onnx::{Onnx, Quant, int, ints};
use align_check_tests::simulate::{codes, network};
use align_check_tests::slow::{
    exp2, fma, frexp, half_away, half_even, half_up_div, mbqm, quantize_multiplier, saturate,
};
use align_check_tests::{Random, say};

fn step(quant: &Quant) -> f64 {
    f64::from(quant.scale[0])
}

fn clamp(code: i128, quant: &Quant) -> i128 {
    let (lo, hi) = quant.range();
    code.clamp(lo.into(), hi.into())
}

fn reals(codes: &[i64], quant: &Quant) -> Vec<f64> {
    codes
        .iter()
        .map(|q| (q - quant.zero_point) as f64 * step(quant))
        .collect()
}

/// `a + b` on grids of 8 bits, for all 65,536 pairs; the definition gets codes.
fn compare_add(target: &str, grids: [&Quant; 3], define: impl Fn(i128, i128) -> i128) {
    let [a, b, y] = grids;
    let shape = [1, 1, 256, 256];
    let model = Onnx::new()
        .input("a", &shape)
        .input("b", &shape)
        .quant("a", "qa", a)
        .quant("b", "qb", b)
        .node("Add", &["qa", "qb"], "s", &[])
        .quant("s", "y", y)
        .output("y", &shape);
    let pairs: Vec<(i64, i64)> = (0..65_536)
        .map(|i| (a.range().0 + i / 256, b.range().0 + i % 256))
        .collect();
    let [first, second]: [Vec<i64>; 2] = [
        pairs.iter().map(|p| p.0).collect(),
        pairs.iter().map(|p| p.1).collect(),
    ];
    let inputs = [("a", reals(&first, a)), ("b", reals(&second, b))];
    let found = &codes(&network(&model), target, &inputs)["y"];
    let wrong: Vec<String> = pairs
        .iter()
        .zip(found)
        .filter_map(|(&(qa, qb), &got)| {
            let wanted = clamp(define(qa.into(), qb.into()), y);
            (i128::from(got) != wanted).then(|| format!("{qa} + {qb}: {got}, not {wanted}"))
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{target}, {grids:?}: {} differ, the first ones: {:?}",
        wrong.len(),
        &wrong[..wrong.len().min(5)]
    );
}

/// Grids of two operands and a sum: powers of two (ties), equal, far apart, arbitrary; odd zero points.
fn add_grids(make: fn(f32, i64) -> Quant, zeros: [i64; 3]) -> Vec<[Quant; 3]> {
    [
        [0.5, 0.25, 1.0],
        [0.125, 0.125, 0.25],
        [1.0, 0.007_812_5, 2.0],
        [0.023_5, 0.047_1, 0.051_3],
        [0.3, 0.1, 0.2],
    ]
    .iter()
    .map(|&[a, b, y]: &[f32; 3]| [make(a, zeros[0]), make(b, zeros[1]), make(y, zeros[2])])
    .collect()
}

#[test]
fn tflite_add() {
    let signed = add_grids(Quant::i8, [-3, 7, 0]);
    let unsigned = add_grids(Quant::u8, [121, 0, 77]);
    for [a, b, y] in signed.iter().chain(&unsigned) {
        let twice = 2.0 * step(a).max(step(b));
        let [ma, mb] = [a, b].map(|x| quantize_multiplier(step(x) / twice));
        let my = quantize_multiplier(twice / (exp2(20) * step(y)));
        compare_add("tflite-reference", [a, b, y], |qa, qb| {
            let va = mbqm((qa - i128::from(a.zero_point)) << 20, ma);
            let vb = mbqm((qb - i128::from(b.zero_point)) << 20, mb);
            mbqm(va + vb, my) + i128::from(y.zero_point)
        });
    }
}

/// `QLinearAdd` on x86 with fused multiply-adds, one in the constant term: zero point inside the rounding.
fn onnxruntime_sum([a, b, y]: [&Quant; 3], qa: i128, qb: i128) -> i128 {
    let ra: f32 = a.scale[0] / y.scale[0];
    let rb: f32 = b.scale[0] / y.scale[0];
    let second: f32 = rb * b.zero_point as f32;
    let fixed: f32 = y.zero_point as f32 - fma(ra, a.zero_point as f32, second);
    half_even(fma(qa as f32, ra, fma(qb as f32, rb, fixed)).into())
}

#[test]
fn onnxruntime_add() {
    let signed = add_grids(Quant::i8, [-3, 7, 1]);
    let unsigned = add_grids(Quant::u8, [121, 0, 77]);
    for [a, b, y] in signed.iter().chain(&unsigned) {
        compare_add("onnxruntime", [a, b, y], |qa, qb| {
            onnxruntime_sum([a, b, y], qa, qb)
        });
    }
}

/// Of two tensors of which the first one is a single element along the last axis, the second one counts as
/// the first; also where the result is one element.
#[test]
fn onnxruntime_add_repeats_an_operand() {
    let a = Quant::u8(0.482_5, 116);
    let b = Quant::u8(0.096_5, 252);
    let y = Quant::u8(0.579, 224);
    let every: Vec<i64> = (0..256).collect();
    let mut told_apart = 0;
    for (shapes, swapped) in [
        ([[256, 1], [1, 256]], true),
        ([[1, 256], [256, 1]], false),
        ([[256, 1], [256, 1]], false),
        ([[1, 1], [256, 1]], true),
        ([[1, 1], [1, 1]], true),
    ] {
        let out = [0, 1].map(|axis: usize| shapes[0][axis].max(shapes[1][axis]));
        let model = Onnx::new()
            .input("a", &shapes[0])
            .input("b", &shapes[1])
            .quant("a", "qa", &a)
            .quant("b", "qb", &b)
            .node("Add", &["qa", "qb"], "s", &[])
            .quant("s", "y", &y)
            .output("y", &out);
        for offset in [0, 3, 100, 254] {
            let given = |shape: [i64; 2]| -> Vec<i64> {
                let len = (shape[0] * shape[1]) as usize;
                every
                    .iter()
                    .cycle()
                    .skip(offset)
                    .step_by(7)
                    .take(len)
                    .copied()
                    .collect()
            };
            let [qa, qb] = shapes.map(given);
            let inputs = [("a", reals(&qa, &a)), ("b", reals(&qb, &b))];
            let found = &codes(&network(&model), "onnxruntime", &inputs)["y"];
            for (i, &got) in found.iter().enumerate() {
                let (row, column) = (i as i64 / out[1], i as i64 % out[1]);
                let at = |codes: &[i64], shape: [i64; 2]| {
                    let row = if shape[0] == 1 { 0 } else { row };
                    let column = if shape[1] == 1 { 0 } else { column };
                    i128::from(codes[(row * shape[1] + column) as usize])
                };
                let (va, vb) = (at(&qa, shapes[0]), at(&qb, shapes[1]));
                let straight = clamp(onnxruntime_sum([&a, &b, &y], va, vb), &y);
                let crossed = clamp(onnxruntime_sum([&b, &a, &y], vb, va), &y);
                let wanted = if swapped { crossed } else { straight };
                assert_eq!(i128::from(got), wanted, "{shapes:?}: {va} + {vb}");
                told_apart += usize::from(straight != crossed);
            }
        }
    }
    assert!(told_apart > 0, "the grids do not tell the orders apart");
}

#[test]
fn hexagon_add() {
    for [a, b, y] in &add_grids(Quant::u8, [121, 0, 77]) {
        let [ra, rb] = [a, b].map(|x| step(x) / step(y));
        let rsh = (6 - frexp(ra.max(rb)).1).min(7);
        let [ia, ib] = [ra, rb].map(|r| half_away(r * exp2(rsh) * 256.0));
        let zeros = a.zero_point as f64 * ra + b.zero_point as f64 * rb;
        let offset = half_away((y.zero_point as f64 - zeros) * exp2(rsh));
        compare_add("hexagon-nn", [a, b, y], |qa, qb| {
            let first = (qa * ia + qb * ib).div_euclid(256);
            let second = saturate(first + offset, 16);
            (second + ((1 << rsh) >> 1)) >> rsh
        });
    }
}

#[test]
fn vitis_dpu_add() {
    for (fa, fb, fy) in [(1, 2, 0), (3, 3, 2), (0, 7, -1), (5, 4, 6)] {
        let [a, b, y] = [fa, fb, fy].map(|f| Quant::i8(exp2(-f) as f32, 0));
        compare_add("vitis-dpu", [&a, &b, &y], |qa, qb| {
            let m = fa.max(fb);
            let sum = (qa << (m - fa)) + (qb << (m - fb));
            if fy > m {
                sum << (fy - m)
            } else {
                half_up_div(sum, 1 << (m - fy))
            }
        });
    }
}

/// Means of windows that do not overlap, over codes drawn at random and constant ones.
fn compare_mean(
    target: &str,
    kernel: [i64; 2],
    [x, y]: [&Quant; 2],
    define: impl Fn(&[i128]) -> i128,
) -> Result<usize, String> {
    const WINDOWS: usize = 4096;
    let (height, width) = (kernel[0] as usize, kernel[1] as usize);
    let shape = [1, 1, kernel[0], kernel[1] * WINDOWS as i64];
    let attrs = [ints("kernel_shape", &kernel), ints("strides", &kernel)];
    let model = Onnx::new()
        .input("x", &shape)
        .quant("x", "qx", x)
        .node("AveragePool", &["qx"], "m", &attrs)
        .quant("m", "y", y)
        .output("y", &[1, 1, 1, WINDOWS as i64]);
    let (lo, _) = x.range();
    let mut random = Random(7);
    let mut given = vec![0; height * width * WINDOWS];
    for window in 0..WINDOWS {
        // A spread of 256, of 8, or of 1 around any code.
        let spread = [256, 8, 1][window % 3];
        let base = random.below(257 - spread) as i64;
        for i in 0..height * width {
            let at = (i / width) * width * WINDOWS + window * width + i % width;
            given[at] = lo + base + random.below(spread) as i64;
        }
    }
    let found = &codes(&network(&model), target, &[("x", reals(&given, x))])["y"];
    let mut wrong = Vec::new();
    for (window, &got) in found.iter().enumerate() {
        let elements: Vec<i128> = (0..height * width)
            .map(|i| given[(i / width) * width * WINDOWS + window * width + i % width].into())
            .collect();
        let wanted = clamp(define(&elements), y);
        if i128::from(got) != wanted {
            wrong.push(format!("{elements:?}: {got}, not {wanted}"));
        }
    }
    if wrong.is_empty() {
        return Ok(found.len());
    }
    Err(format!(
        "{target}, {kernel:?}, {x:?} to {y:?}: {} of {} differ, the first ones: {:?}",
        wrong.len(),
        found.len(),
        &wrong[..wrong.len().min(3)]
    ))
}

/// Panics with every failure at once; says how many codes were compared.
fn all(what: &str, results: Vec<Result<usize, String>>) {
    let mut wrong = Vec::new();
    let mut count = 0;
    for result in results {
        match result {
            Ok(codes) => count += codes,
            Err(why) => wrong.push(why),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    say(format_args!("{what}: {count} codes"));
}

/// `AVERAGE_POOL_2D`, int8: the raw codes are averaged, half away from zero. A model's uint8 codes are
/// int8 ones, 128 lower, on the target.
#[test]
fn tflite_average_pool() {
    let mut results = Vec::new();
    for kernel in [[2, 2], [1, 2], [3, 3], [4, 4], [1, 5]] {
        for grid in [
            Quant::i8(0.5, 0),
            Quant::i8(0.037, -3),
            Quant::u8(0.5, 0),
            Quant::u8(0.037, 121),
        ] {
            let label = if grid.signed { 0 } else { 128 };
            let result = compare_mean("tflite-reference", kernel, [&grid, &grid], |window| {
                let n = window.len() as i128;
                let sum: i128 = window.iter().map(|q| q - label).sum();
                // C's division truncates, as Rust's does.
                let mean = if sum > 0 {
                    (sum + n / 2) / n
                } else {
                    (sum - n / 2) / n
                };
                mean + label
            });
            results.push(result);
        }
    }
    all("tflite-reference average", results);
}

/// `QLinearAveragePool`: dequantized, summed in f32 in the window's order, zero point inside the rounding.
#[test]
fn onnxruntime_average_pool() {
    let mut results = Vec::new();
    for kernel in [[2, 2], [1, 2], [3, 3], [4, 4], [1, 5]] {
        for (x, y) in [
            (Quant::u8(0.5, 121), Quant::u8(0.5, 121)),
            (Quant::u8(0.037, 121), Quant::u8(0.041, 7)),
            (Quant::i8(0.25, -3), Quant::i8(0.5, 1)),
        ] {
            let result = compare_mean("onnxruntime", kernel, [&x, &y], |window| {
                let mut sum = 0f32;
                for q in window {
                    sum += (q - i128::from(x.zero_point)) as f32 * x.scale[0];
                }
                let mean: f32 = sum / window.len() as f32;
                let v: f32 = mean / y.scale[0];
                half_even(f64::from(v + y.zero_point as f32))
            });
            results.push(result);
        }
    }
    all("onnxruntime average", results);
}

/// `QLinearAveragePool` whose kernel is the whole image: an integer sum, the zero point after the rounding.
#[test]
fn onnxruntime_average_of_the_whole_image() {
    let (x, y) = (Quant::u8(0.75, 21), Quant::u8(0.5, 7));
    let model = |extra: i64| {
        let shape = [1, 64, 3, 4 + extra];
        let attrs = [ints("kernel_shape", &[3, 4]), ints("strides", &[9, 9])];
        Onnx::new()
            .input("x", &shape)
            .quant("x", "qx", &x)
            .node("AveragePool", &["qx"], "m", &attrs)
            .quant("m", "y", &y)
            .output("y", &[1, 64, 1, 1])
    };
    let mut random = Random(11);
    let (mut whole_differs, mut count) = (0, 0);
    for extra in [0, 1] {
        let width = (4 + extra) as usize;
        let given: Vec<i64> = (0..64 * 3 * width)
            .map(|_| random.below(256) as i64)
            .collect();
        let found = &codes(
            &network(&model(extra)),
            "onnxruntime",
            &[("x", reals(&given, &x))],
        )["y"];
        for (image, &got) in given.chunks(3 * width).zip(found) {
            let window = || {
                image
                    .iter()
                    .enumerate()
                    .filter(|(i, _)| i % width < 4)
                    .map(|(_, q)| q - x.zero_point)
            };
            let gain: f32 = x.scale[0] / (y.scale[0] * 12.0);
            let whole =
                half_even((window().sum::<i64>() as f32 * gain).into()) + i128::from(y.zero_point);
            let sum = window().fold(0f32, |sum, steps| sum + steps as f32 * x.scale[0]);
            let mean: f32 = sum / 12.0 / y.scale[0];
            let part = half_even((mean + y.zero_point as f32).into());
            let wanted = clamp(if extra == 0 { whole } else { part }, &y);
            assert_eq!(i128::from(got), wanted, "{image:?}");
            whole_differs += usize::from(whole != part);
            count += 1;
        }
    }
    say(format_args!(
        "whole images: {count} codes, {whole_differs} by the order"
    ));
}

/// Where padding counts, `QLinearAveragePool` divides by the whole kernel, even beyond the padding.
#[test]
fn onnxruntime_average_beyond_the_padding() {
    let grid = Quant::u8(1.0, 0);
    let attrs = [
        ints("kernel_shape", &[1, 3]),
        ints("strides", &[1, 3]),
        ints("pads", &[0, 0, 0, 1]),
        int("ceil_mode", 1),
        int("count_include_pad", 1),
    ];
    let model = Onnx::new()
        .input("x", &[1, 1, 1, 4])
        .quant("x", "qx", &grid)
        .node("AveragePool", &["qx"], "m", &attrs)
        .quant("m", "y", &grid)
        .output("y", &[1, 1, 1, 2]);
    let given = || [("x", vec![30.0, 60.0, 90.0, 90.0])];
    assert_eq!(
        codes(&network(&model), "onnxruntime", &given())["y"],
        [60, 30]
    );
    assert_eq!(codes(&network(&model), "exact", &given())["y"], [60, 45]);
}

#[test]
fn hexagon_average_pool() {
    let mut results = Vec::new();
    for kernel in [[2, 2], [1, 2], [3, 3], [4, 4], [1, 5]] {
        let grid = Quant::u8(0.037, 121);
        let result = compare_mean("hexagon-nn", kernel, [&grid, &grid], |window| {
            let n = window.len() as i128;
            // ceil(log2(n)) + 1
            let rsh = (0..32).find(|&k| 1 << k >= n).expect("a power") + 1;
            let sum: i128 = window.iter().map(|q| q * 256).sum();
            let t = saturate((sum + ((1 << rsh) >> 1)) >> rsh, 16);
            let mant = half_away(exp2(13 + rsh) / n as f64);
            let u = (t * mant + 0x4000) >> 15;
            (u + 32) >> 6
        });
        results.push(result);
    }
    all("hexagon-nn average", results);
}

/// The DPU's reciprocal of a window: a table, or else the first minimum over shifts below
/// `ceil(log2(128 n))` (`evidence/fpga.md`, 15).
fn reciprocal(kernel: [i64; 2]) -> (i128, u32) {
    match kernel {
        [3, 3] => return (7, 6),
        [5, 5] => return (10, 8),
        [6, 6] => return (7, 8),
        [7, 7] => return (21, 10),
        [14, 14] => return (21, 12),
        _ => {}
    }
    let n = kernel[0] * kernel[1];
    let end = (0..32).find(|&k| 1 << k >= 128 * n).expect("a power");
    let mut best = (0, 0, f64::INFINITY);
    for shift in 0..end {
        let multiplier = half_away(exp2(shift) / n as f64);
        let error = (multiplier as f64 / exp2(shift) - 1.0 / n as f64).abs();
        if error < best.2 {
            best = (multiplier, shift as u32, error);
        }
    }
    (best.0, best.1)
}

#[test]
fn vitis_dpu_average_pool() {
    assert_eq!(reciprocal([3, 6]), (57, 10), "a measured value");
    let mut results = Vec::new();
    for kernel in [
        [2, 2],
        [3, 3],
        [5, 5],
        [6, 6],
        [7, 7],
        [14, 14],
        [3, 6],
        [1, 3],
        [4, 4],
        [2, 5],
    ] {
        for (fx, fy) in [(4, 4), (4, 2), (3, 4)] {
            let [x, y] = [fx, fy].map(|f| Quant::i8(exp2(-f) as f32, 0));
            let result = compare_mean("vitis-dpu", kernel, [&x, &y], |window| {
                let (multiplier, shift) = reciprocal(kernel);
                let product = window.iter().sum::<i128>() * multiplier;
                let shift = shift as i32 + fx - fy;
                if shift < 0 {
                    product << -shift
                } else {
                    half_up_div(product, 1 << shift)
                }
            });
            results.push(result);
        }
    }
    all("vitis-dpu average", results);
}
