//! Every kernel of every available instruction set against one triple loop.

mod small;

use align_check_specs::{Overflow, PairRule};
use proptest::prelude::*;

use super::{
    ConvShape, End, Isa, Outputs, OverflowCount, PackedWeights, SaturatingPairs, conv_f64,
    conv_in_order, conv_u8i8, conv_u8i8_to, lose_in_pairs, vectorize,
};

/// What the taps of every output read, in order: `f(output channel, position, weight index, input)`,
/// with no input for a tap outside the image.
fn for_each_tap(
    shape: &ConvShape,
    channel_first: bool,
    mut f: impl FnMut(usize, usize, usize, Option<usize>),
) {
    let ConvShape {
        height,
        width,
        kernel: [rows, columns],
        strides,
        pads,
        dilations,
        ..
    } = *shape;
    let channels = shape.channels / shape.groups;
    let mut order = Vec::new();
    if channel_first {
        for c in 0..channels {
            for r in 0..rows {
                order.extend((0..columns).map(|k| (c, r, k)));
            }
        }
    } else {
        for r in 0..rows {
            for k in 0..columns {
                order.extend((0..channels).map(|c| (c, r, k)));
            }
        }
    }
    for m in 0..shape.out_channels {
        let group = m / (shape.out_channels / shape.groups);
        for oh in 0..shape.out_height {
            for ow in 0..shape.out_width {
                for &(c, r, k) in &order {
                    let ih = (oh * strides[0] + r * dilations[0]) as isize - pads[0] as isize;
                    let iw = (ow * strides[1] + k * dilations[1]) as isize - pads[1] as isize;
                    let inside = ih >= 0 && iw >= 0 && ih < height as isize && iw < width as isize;
                    let c_in = group * channels + c;
                    let input = inside.then(|| (c_in * height + ih as usize) * width + iw as usize);
                    let weight = ((m * channels + c) * rows + r) * columns + k;
                    f(m, oh * shape.out_width + ow, weight, input);
                }
            }
        }
    }
}

fn reference_u8i8(shape: &ConvShape, x: &[u8], pad: u8, weights: &[i8]) -> Vec<i32> {
    let positions = shape.out_height * shape.out_width;
    let mut out = vec![0; shape.out_channels * positions];
    for_each_tap(shape, true, |m, p, w, input| {
        out[m * positions + p] += i32::from(input.map_or(pad, |i| x[i])) * i32::from(weights[w]);
    });
    out
}

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn codes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }

    fn weights(&mut self, count: usize) -> Vec<i8> {
        (0..count).map(|_| self.next() as i8).collect()
    }

    fn reals(&mut self, count: usize) -> Vec<f64> {
        (0..count)
            .map(|_| self.next() as i64 as f64 / 3e18)
            .collect()
    }
}

/// A matrix product: `k` channels, `p` positions, `m` output channels.
fn product(m: usize, k: usize, p: usize) -> ConvShape {
    ConvShape {
        channels: k,
        height: 1,
        width: p,
        out_channels: m,
        out_height: 1,
        out_width: p,
        kernel: [1, 1],
        strides: [1, 1],
        pads: [0, 0],
        dilations: [1, 1],
        groups: 1,
    }
}

/// A convolution whose output size follows from the pads at (top, left, bottom, right).
fn conv(
    [channels, height, width]: [usize; 3],
    out_channels: usize,
    kernel: [usize; 2],
    strides: [usize; 2],
    [top, left, bottom, right]: [usize; 4],
    dilations: [usize; 2],
    groups: usize,
) -> ConvShape {
    let out = |size: usize, i: usize, pads: usize| {
        (size + pads)
            .checked_sub((kernel[i] - 1) * dilations[i] + 1)
            .map_or(0, |s| s / strides[i] + 1)
    };
    ConvShape {
        channels,
        height,
        width,
        out_channels,
        out_height: out(height, 0, top + bottom),
        out_width: out(width, 1, left + right),
        kernel,
        strides,
        pads: [top, left],
        dilations,
        groups,
    }
}

fn sizes(shape: &ConvShape) -> (usize, usize, usize) {
    let x = shape.channels * shape.height * shape.width;
    (
        x,
        shape.out_channels * shape.taps(),
        shape.out_channels * shape.positions(),
    )
}

fn check_u8i8(shape: &ConvShape, x: &[u8], pad: u8, weights: &[i8]) {
    let expected = reference_u8i8(shape, x, pad, weights);
    for isa in Isa::available() {
        let packed = PackedWeights::new(isa, shape, weights);
        let mut out = vec![i32::MIN; expected.len()];
        conv_u8i8(shape, x, pad, &packed, &mut out);
        if let Some(i) = (0..out.len()).find(|&i| out[i] != expected[i]) {
            panic!(
                "{isa:?} {shape:?}: out[{i}] is {}, not {}",
                out[i], expected[i]
            );
        }
        let taps = shape.taps();
        let sums: Vec<i32> = (0..shape.out_channels)
            .map(|m| {
                weights[m * taps..][..taps]
                    .iter()
                    .map(|&w| i32::from(w))
                    .sum()
            })
            .collect();
        assert_eq!(packed.row_sums(), sums);
        check_ends(&packed, x, pad, &expected);
    }
}

/// A byte of each sum that tells its channel, too.
struct Tells(u8);

impl Tells {
    fn byte(&self, channel: usize, sum: i32) -> u8 {
        (channel as u8)
            .wrapping_mul(31)
            .wrapping_add(self.0)
            .wrapping_add((sum ^ (sum >> 8)) as u8)
    }
}

impl End for Tells {
    fn codes(&self, channel: usize, _position: usize, sums: &[i32], codes: &mut [u8]) {
        for (code, &sum) in codes.iter_mut().zip(sums) {
            *code = self.byte(channel, sum);
        }
    }
}

/// Two ends read every sum once, with its offset, whether the sums are kept or not.
fn check_ends(packed: &PackedWeights, x: &[u8], pad: u8, sums: &[i32]) {
    let shape = &packed.shape;
    let positions = shape.positions();
    let offsets: Vec<i32> = (0..shape.out_channels as i32)
        .map(|m| m * 77 - 100)
        .collect();
    for (kept, shifted) in [(true, true), (false, true), (true, false), (false, false)] {
        let offset = |m: usize| if shifted { offsets[m] } else { 0 };
        let wanted: Vec<i32> = sums
            .iter()
            .enumerate()
            .map(|(i, sum)| sum.wrapping_add(offset(i / positions)))
            .collect();
        let mut out = vec![i32::MIN; sums.len()];
        let mut bytes = [vec![0; sums.len()], vec![0; sums.len()]];
        let ends = [Tells(1), Tells(90)];
        let outputs = Outputs {
            sums: kept.then_some(&mut out[..]),
            offsets: shifted.then_some(&offsets[..]),
            ends: ends
                .iter()
                .zip(&mut bytes)
                .map(|(end, bytes)| (end as &dyn End, &mut bytes[..]))
                .collect(),
        };
        conv_u8i8_to(shape, x, pad, packed, outputs);
        assert!(!kept || out == wanted, "{shape:?}");
        for (end, bytes) in ends.iter().zip(bytes) {
            let byte = |(i, &sum): (usize, &i32)| end.byte(i / positions, sum);
            let expected: Vec<u8> = wanted.iter().enumerate().map(byte).collect();
            assert!(bytes == expected, "{shape:?}, kept {kept}");
        }
    }
}

fn check_random(shape: &ConvShape, pad: u8) {
    let (x, w, _) = sizes(shape);
    let mut random = Random(x as u64 * 31 + w as u64);
    check_u8i8(shape, &random.codes(x), pad, &random.weights(w));
}

#[test]
fn products_across_tile_edges() {
    for m in [1, 2, 3, 5, 6, 7, 8, 9, 11, 12, 13, 16, 17] {
        for k in [1, 2, 3, 4, 5, 7, 8, 9] {
            for p in [
                1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 97,
            ] {
                check_random(&product(m, k, p), 0);
            }
        }
    }
}

#[test]
fn products_of_several_blocks() {
    for (m, k, p) in [
        (13, 67, 1000),
        (50, 3, 3001),
        (7, 1153, 130),
        (100, 301, 385),
        (3, 9000, 49),
    ] {
        check_random(&product(m, k, p), 0);
    }
}

#[test]
fn matrix_times_vector() {
    for m in [1, 3, 4, 5, 64, 65, 130] {
        for k in [1, 15, 16, 17, 63, 64, 65, 1280] {
            check_random(&product(m, k, 1), 0);
        }
    }
    // One output position of a window, with padding and groups.
    check_random(&conv([4, 3, 3], 6, [5, 5], [1, 1], [1; 4], [1, 1], 2), 7);
    check_random(&conv([9, 7, 7], 9, [7, 7], [1, 1], [0; 4], [1, 1], 9), 7);
}

#[test]
fn extreme_values_do_not_saturate() {
    for (x, w) in [(255, -128), (255, 127), (1, -128), (0, -128)] {
        for shape in [
            product(7, 257, 17),
            product(5, 257, 1),
            conv([3, 9, 9], 3, [5, 5], [1, 1], [2; 4], [1, 1], 3),
            conv([3, 9, 9], 4, [3, 3], [1, 1], [1; 4], [1, 1], 1),
        ] {
            let (xs, ws, _) = sizes(&shape);
            check_u8i8(&shape, &vec![x; xs], 255, &vec![w; ws]);
        }
    }
}

/// Shapes of windows: groups, depthwise, strides, dilations, asymmetric pads, one dimension.
fn windows() -> Vec<ConvShape> {
    let mut shapes = Vec::new();
    for (channels, outputs, groups) in [
        (3, 8, 1),
        (4, 6, 2),
        (6, 6, 6),
        (3, 6, 3),
        (2, 8, 2),
        (2, 10, 2),
        (1, 3, 1),
        (8, 20, 4),
    ] {
        for kernel in [[1, 1], [3, 3], [5, 5], [1, 4], [2, 3]] {
            for (strides, dilations) in [
                ([1, 1], [1, 1]),
                ([2, 2], [1, 1]),
                ([1, 2], [2, 1]),
                ([3, 3], [1, 3]),
            ] {
                for pads in [[0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 2, 3], [2, 0, 0, 9]] {
                    for size in [[7, 7], [9, 20], [1, 37]] {
                        let image = [channels, size[0], size[1]];
                        let shape = conv(image, outputs, kernel, strides, pads, dilations, groups);
                        if shape.positions() > 0 {
                            shapes.push(shape);
                        }
                    }
                }
            }
        }
    }
    shapes
}

#[test]
fn windows_of_every_kind() {
    for shape in windows() {
        check_random(&shape, 131);
    }
    check_random(&conv([2, 40, 70], 2, [3, 3], [1, 1], [1; 4], [1, 1], 2), 3);
    check_random(&conv([2, 40, 151], 2, [3, 3], [2, 2], [1; 4], [1, 1], 2), 3);
    check_random(&conv([5, 30, 30], 19, [3, 3], [1, 1], [1; 4], [1, 1], 1), 3);
}

#[test]
fn nothing_to_compute() {
    check_random(&product(3, 4, 0), 0);
    check_random(&product(0, 4, 5), 0);
    check_random(&product(3, 0, 5), 0);
    check_random(&product(3, 0, 1), 0);
}

fn reference_f64(
    shape: &ConvShape,
    x: &[f64],
    pad: f64,
    weights: &[f64],
    channel_first: bool,
) -> Vec<f64> {
    let positions = shape.out_height * shape.out_width;
    let mut out = vec![0.0; shape.out_channels * positions];
    for_each_tap(shape, channel_first, |m, p, w, input| {
        out[m * positions + p] += input.map_or(pad, |i| x[i]) * weights[w];
    });
    out
}

fn check_f64(shape: &ConvShape, pad: f64) {
    let (x, w, out) = sizes(shape);
    let mut random = Random(x as u64 * 77 + w as u64);
    let (x, w) = (random.reals(x), random.reals(w));
    for channel_first in [true, false] {
        let expected = reference_f64(shape, &x, pad, &w, channel_first);
        for isa in Isa::available() {
            let mut out = vec![f64::NAN; out];
            conv_f64(isa, shape, &x, pad, &w, channel_first, &mut out);
            let bits = |v: &[f64]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(
                bits(&out),
                bits(&expected),
                "{isa:?} {shape:?} {channel_first}"
            );
        }
    }
}

#[test]
fn real_sums_are_in_order() {
    for shape in windows().into_iter().step_by(2) {
        check_f64(&shape, 0.0);
        check_f64(&shape, -0.3);
    }
    for m in [1, 3, 4, 5, 7, 8, 9, 17] {
        for p in [1, 2, 7, 8, 9, 15, 16, 17, 33, 300] {
            check_f64(&product(m, 13, p), 0.0);
        }
    }
    check_f64(&product(7, 1300, 50), 0.0);
    check_f64(&product(70, 1300, 1), 0.0);
}

#[test]
fn the_order_of_real_sums_matters() {
    // 1e16 + 1 - 1e16 is 0 in this order, and 1 in the other (1e16 - 1e16 + 1).
    let shape = conv([2, 1, 2], 1, [1, 2], [1, 1], [0; 4], [1, 1], 1);
    let mut out = [0.0];
    for isa in Isa::available() {
        for (channel_first, expected) in [(true, 0.0), (false, 1.0)] {
            conv_f64(
                isa,
                &shape,
                &[1e16, 1.0, -1e16, 0.0],
                0.0,
                &[1.0; 4],
                channel_first,
                &mut out,
            );
            assert_eq!(out, [expected]);
        }
    }
}

/// The definition, in 128 bits.
fn reference_in_order(
    shape: &ConvShape,
    (x, pad, weights, init): (&[i32], i32, &[i32], &[i64]),
    (bits, overflow): (u32, Overflow),
    channel_first: bool,
) -> (Vec<i64>, OverflowCount) {
    let bits = if overflow == Overflow::Exact {
        64
    } else {
        bits
    };
    let (low, high) = (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1);
    let step = |sum: i128, steps: &mut u64| {
        let value = match overflow {
            Overflow::Saturate => sum.clamp(low, high),
            Overflow::Wrap => (sum - low).rem_euclid(1 << bits) + low,
            Overflow::Exact => sum,
        };
        *steps += u64::from(value != sum);
        value as i64
    };
    let positions = shape.positions();
    let mut steps = vec![0; shape.out_channels * positions];
    let mut out: Vec<i64> = (0..steps.len())
        .map(|i| step(i128::from(init[i / positions]), &mut steps[i]))
        .collect();
    for_each_tap(shape, channel_first, |m, p, w, input| {
        let i = m * positions + p;
        let product = i128::from(input.map_or(pad, |i| x[i])) * i128::from(weights[w]);
        out[i] = step(i128::from(out[i]) + product, &mut steps[i]);
    });
    let count = OverflowCount {
        elements: steps.iter().filter(|&&s| s > 0).count() as u64,
        steps: steps.iter().sum(),
        flags: if steps.iter().any(|&s| s > 0) {
            steps.iter().map(|&s| s > 0).collect()
        } else {
            bitvec::vec::BitVec::new()
        },
    };
    (out, count)
}

fn check_in_order(
    shape: &ConvShape,
    (x, pad, weights, init): (&[i32], i32, &[i32], &[i64]),
    (bits, overflow): (u32, Overflow),
) -> OverflowCount {
    let mut last = OverflowCount::default();
    for first in [true, false] {
        let tensors = (x, pad, weights, init);
        let (expected, count) = reference_in_order(shape, tensors, (bits, overflow), first);
        let mut out = vec![-1; expected.len()];
        let got = conv_in_order(
            shape, x, pad, weights, init, bits, overflow, first, &mut out,
        );
        assert_eq!(out, expected, "{shape:?} {bits} {overflow:?} {first}");
        assert_eq!(got, count, "{shape:?} {bits} {overflow:?} {first}");
        last = got;
    }
    last
}

#[test]
fn in_order_follows_its_definition() {
    let mut overflowed = 0;
    for (i, shape) in windows().into_iter().step_by(5).enumerate() {
        let (x, w, _) = sizes(&shape);
        let mut random = Random(i as u64);
        let x: Vec<i32> = random
            .codes(x)
            .iter()
            .map(|&x| i32::from(x) - 100)
            .collect();
        let w: Vec<i32> = random.weights(w).iter().map(|&w| i32::from(w)).collect();
        let init: Vec<i64> = (0..shape.out_channels)
            .map(|m| 90 * m as i64 - 200)
            .collect();
        let bits = [8, 12, 16, 18, 24, 31, 32, 33, 48, 63, 64][i % 11];
        for overflow in [Overflow::Wrap, Overflow::Saturate, Overflow::Exact] {
            let count = check_in_order(&shape, (&x, 5, &w, &init), (bits, overflow));
            overflowed += usize::from(count.elements > 0);
        }
    }
    assert!(overflowed > 60, "only {overflowed} runs overflowed");
}

#[test]
fn in_order_with_products_of_62_bits() {
    let shape = product(3, 9, 37);
    let mut random = Random(5);
    let x: Vec<i32> = (0..9 * 37)
        .map(|i| {
            if i % 5 == 0 {
                i32::MIN
            } else {
                random.next() as i32
            }
        })
        .collect();
    let w: Vec<i32> = (0..27)
        .map(|i| {
            if i % 3 == 0 {
                i32::MIN
            } else {
                random.next() as i32
            }
        })
        .collect();
    for bits in [8, 32, 40, 62, 63, 64] {
        for overflow in [Overflow::Wrap, Overflow::Saturate] {
            let init = [i64::MIN, 0, i64::MAX];
            let count = check_in_order(&shape, (&x, 0, &w, &init), (bits, overflow));
            assert!(count.steps > 0);
        }
    }
}

#[test]
fn saturation_depends_on_the_order() {
    // 100 + 100 - 150 in 8 bits: 127 - 150 = -23 in this order; 100 - 150 + 100 = 50.
    let shape = product(1, 3, 1);
    let run = |x: [i32; 3], overflow| {
        let mut out = [0];
        let count = conv_in_order(&shape, &x, 0, &[1, 1, 1], &[0], 8, overflow, true, &mut out);
        (out[0], count.elements, count.steps, count.flags.len())
    };
    assert_eq!(run([100, 100, -150], Overflow::Saturate), (-23, 1, 1, 1));
    assert_eq!(run([100, -150, 100], Overflow::Saturate), (50, 0, 0, 0));
    assert_eq!(run([100, 100, -150], Overflow::Wrap), (50, 1, 2, 1));
    assert_eq!(run([100, 100, -150], Overflow::Exact), (50, 0, 0, 0));
}

#[test]
fn in_order_equals_the_fast_kernel_where_nothing_overflows() {
    for shape in windows().into_iter().step_by(3) {
        let (x, w, out) = sizes(&shape);
        let mut random = Random(x as u64);
        let (x, w) = (random.codes(x), random.weights(w));
        let mut fast = vec![0; out];
        let packed = PackedWeights::new(Isa::detect(), &shape, &w);
        conv_u8i8(&shape, &x, 9, &packed, &mut fast);
        let x: Vec<i32> = x.iter().map(|&x| i32::from(x)).collect();
        let w: Vec<i32> = w.iter().map(|&w| i32::from(w)).collect();
        for bits in [24, 32, 40] {
            let init = vec![0; shape.out_channels];
            let mut slow = vec![0; out];
            let rule = Overflow::Saturate;
            let count = conv_in_order(&shape, &x, 9, &w, &init, bits, rule, true, &mut slow);
            assert_eq!(count, OverflowCount::default());
            assert!(slow.iter().zip(&fast).all(|(&a, &b)| a == i64::from(b)));
        }
    }
}

#[test]
fn threads_do_not_change_a_byte() {
    let shapes = [
        product(100, 10, 60),
        product(205, 300, 1),
        product(150, 9, 49),
        conv([4, 18, 18], 9, [3, 3], [1, 1], [1; 4], [1, 1], 1),
        conv([8, 18, 18], 10, [3, 3], [1, 1], [1; 4], [1, 1], 2),
        conv([21, 18, 18], 21, [3, 3], [1, 1], [1; 4], [1, 1], 21),
    ];
    for shape in shapes {
        assert!(shape.macs() >= super::PARALLEL_MACS, "{shape:?}");
        let (x, w, out) = sizes(&shape);
        let mut random = Random(x as u64);
        let (x, w) = (random.codes(x), random.weights(w));
        let reals = (random.reals(x.len()), random.reals(w.len()));
        let x32: Vec<i32> = x.iter().map(|&x| i32::from(x)).collect();
        let w32: Vec<i32> = w.iter().map(|&w| i32::from(w)).collect();
        let init = vec![3; shape.out_channels];
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| {
                let mut integer = vec![0; out];
                let packed = PackedWeights::new(Isa::detect(), &shape, &w);
                conv_u8i8(&shape, &x, 5, &packed, &mut integer);
                let mut real = vec![0.0; out];
                let isa = Isa::detect();
                conv_f64(isa, &shape, &reals.0, 0.1, &reals.1, false, &mut real);
                let real: Vec<u64> = real.into_iter().map(f64::to_bits).collect();
                let mut ordered = vec![0; out];
                let rule = Overflow::Saturate;
                let count =
                    conv_in_order(&shape, &x32, 5, &w32, &init, 16, rule, true, &mut ordered);
                (integer, real, ordered, count)
            })
        };
        let one = run(1);
        assert!(one == run(2), "{shape:?}");
        assert_eq!(one.0, reference_u8i8(&shape, &x, 5, &w), "{shape:?}");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build();
        let packed = PackedWeights::new(Isa::detect(), &shape, &w);
        pool.unwrap().install(|| check_ends(&packed, &x, 5, &one.0));
    }
}

#[test]
fn vectorize_returns_what_it_runs() {
    for isa in Isa::available() {
        let x = [1.0f32, 2.0, 3.0];
        let y = vectorize(
            isa,
            #[inline(always)]
            || x.map(|x| x * 0.1),
        );
        assert_eq!(y, [1.0f32 * 0.1, 2.0 * 0.1, 3.0 * 0.1]);
    }
    assert!(Isa::available().contains(&Isa::detect()));
}

/// `ALIGN_CHECK_ISA=Avx512Vnni` asserts that the tests of this run met that set.
#[test]
fn the_set_that_is_asked_for_is_here() {
    let names: Vec<String> = Isa::available()
        .iter()
        .map(|isa| format!("{isa:?}"))
        .collect();
    println!("{names:?}");
    assert_eq!(names[0], "Portable");
    if let Ok(wanted) = std::env::var("ALIGN_CHECK_ISA") {
        assert!(names.contains(&wanted), "{wanted} is not among {names:?}");
    }
}

#[test]
#[should_panic(expected = "size of the output")]
fn a_short_output_panics() {
    let shape = product(2, 2, 2);
    let packed = PackedWeights::new(Isa::Portable, &shape, &[1; 4]);
    conv_u8i8(&shape, &[0; 4], 0, &packed, &mut [0; 3]);
}

fn any_shape() -> impl Strategy<Value = ConvShape> {
    let groups = (1usize..4, 1usize..5, 1usize..5);
    let image = (1usize..14, 1usize..40);
    let kernel = (
        [1usize..5, 1usize..5],
        [1usize..4, 1usize..4],
        [1usize..4, 1usize..4],
    );
    let pads = [0usize..4, 0usize..4, 0usize..4, 0usize..4];
    (groups, image, kernel, pads)
        .prop_map(
            |((groups, channels, outputs), (height, width), (kernel, s, d), pads)| {
                let image = [groups * channels, height, width];
                conv(image, groups * outputs, kernel, s, pads, d, groups)
            },
        )
        .prop_filter("an output", |shape| shape.positions() > 0)
}

/// Exact sums, and sums of pairs that saturate: the definition, product by product.
fn reference_pairs(
    shape: &ConvShape,
    (x, pad, weights): (&[u8], u8, &[i8]),
    rule: PairRule,
) -> (Vec<i64>, Vec<i64>, u64) {
    let positions = shape.positions();
    let mut products = vec![Vec::new(); shape.out_channels * positions];
    for_each_tap(shape, false, |m, p, w, input| {
        let x = i64::from(input.map_or(pad, |i| x[i]));
        products[m * positions + p].push(x * i64::from(weights[w]));
    });
    let exact = products.iter().map(|terms| terms.iter().sum()).collect();
    let mut lost = 0;
    let mut add = |pair: &[i64]| {
        let sum: i64 = pair.iter().sum();
        let kept = sum.clamp(-32768, 32767);
        lost += u64::from(kept != sum);
        kept
    };
    let run = match rule {
        PairRule::Exact => 1,
        PairRule::Sequence => shape.taps(),
        PairRule::Pixel => shape.channels / shape.groups,
    };
    let size = if rule == PairRule::Exact { 1 } else { 2 };
    let paired = products
        .iter()
        .map(|terms| {
            let pairs = terms.chunks(run).flat_map(|run| run.chunks(size));
            pairs.map(&mut add).sum()
        })
        .collect();
    (exact, paired, lost)
}

/// pytorch/pytorch#44939: 211 * 71 + 171 * 107 is 33,278, beyond an `int16`.
#[test]
fn a_pair_saturates() {
    let shape = product(1, 2, 1);
    let pairs = SaturatingPairs::new(&shape, &[71, 107], PairRule::Sequence, 0, 255).unwrap();
    let mut sums = [33_278];
    let count = lose_in_pairs(&shape, &[211, 171], 0, &pairs, &mut sums);
    assert_eq!((sums[0], count.elements), (32_767, 1));
    // 255 * 64 + 255 * 64 = 32,640: weights of 64 never can.
    assert_eq!(
        SaturatingPairs::new(&shape, &[64, 64], PairRule::Sequence, 0, 255),
        None
    );
    assert_eq!(
        SaturatingPairs::new(&shape, &[71, 107], PairRule::Exact, 0, 255),
        None
    );
}

proptest! {
    #[test]
    fn any_pairs_are_their_definition(
        shape in any_shape(),
        pad: u8,
        low in 0u8..100,
        sequence: bool,
        seed: u64,
    ) {
        let (x, w, _) = sizes(&shape);
        let mut random = Random(seed);
        let x: Vec<u8> = random.codes(x).into_iter().map(|x| x.max(low)).collect();
        let w = random.weights(w);
        let rule = if sequence { PairRule::Sequence } else { PairRule::Pixel };
        let (mut sums, wanted, lost) = reference_pairs(&shape, (&x, pad, &w), rule);
        if let Some(pairs) = SaturatingPairs::new(&shape, &w, rule, low.min(pad), 255) {
            let count = lose_in_pairs(&shape, &x, pad, &pairs, &mut sums);
            prop_assert_eq!(count.steps, lost);
        } else {
            prop_assert_eq!(lost, 0);
        }
        prop_assert_eq!(sums, wanted);
    }

    #[test]
    fn any_convolution_is_the_reference(shape in any_shape(), pad: u8, seed: u64) {
        let (x, w, _) = sizes(&shape);
        let mut random = Random(seed);
        check_u8i8(&shape, &random.codes(x), pad, &random.weights(w));
        check_f64(&shape, f64::from(pad) / 7.0);
    }

    #[test]
    fn any_product_is_the_reference(m in 1usize..20, k in 1usize..80, p in 1usize..120, seed: u64) {
        let shape = product(m, k, p);
        let mut random = Random(seed);
        check_u8i8(&shape, &random.codes(k * p), 0, &random.weights(m * k));
    }

    #[test]
    fn any_accumulator_follows_its_definition(
        shape in any_shape(),
        bits in 8u32..=64,
        wide in 0u32..24,
        saturate: bool,
        seed: u64,
    ) {
        let (x, w, _) = sizes(&shape);
        let mut random = Random(seed);
        let x: Vec<i32> = (0..x).map(|_| random.next() as i32 >> wide).collect();
        let w: Vec<i32> = (0..w).map(|_| random.next() as i32 >> 24).collect();
        let init: Vec<i64> =
            (0..shape.out_channels).map(|_| random.next() as i64 >> (63 - bits.min(63))).collect();
        let rule = if saturate { Overflow::Saturate } else { Overflow::Wrap };
        check_in_order(&shape, (&x, 77, &w, &init), (bits, rule));
    }
}
