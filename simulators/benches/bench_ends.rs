//! Speed of the ends of layers on one thread: from the sums of one channel to codes in bytes. Throughput counts sums.

use align_check_graph::{Affine, PerChannel};
use align_check_simulators::kernels::Isa;
use align_check_simulators::quantize::letter_end::LetterEnd;
use align_check_simulators::rules::Labels;
use align_check_simulators::rules::requantize::{Requantizer, Unit};
use align_check_specs::{Grid, Product, Spec};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// The sums of a channel of 56 x 56 positions: they stay in the first-level cache.
fn sums() -> Vec<i32> {
    let sum = |i: u32| (i.wrapping_mul(0x9e37_79b9).cast_signed()) >> 17;
    (0..56 * 56).map(sum).collect()
}

/// A grid of 255 codes: 0 to 6, or the power of two next to that.
fn grid(power_of_two: bool) -> Labels {
    Labels {
        scale: if power_of_two {
            1.0 / 32.0
        } else {
            f64::from(6.0f32 / 255.0)
        },
        zero_point: if power_of_two { 0 } else { -128 },
        min: -128,
        max: 127,
        relabel: 0,
    }
}

fn letter(c: &mut Criterion) {
    let (sums, out) = (sums(), grid(false));
    let scale = PerChannel::uniform(out.scale as f32);
    let zero = PerChannel::uniform(out.zero_point as f32);
    let quantizer = Affine::quantize_linear(scale, zero, 8, true);
    let end = LetterEnd::new(&quantizer, (0.0, 6.0)).of_sum(3.1e-4, 0.2);
    let mut codes = vec![0u8; sums.len()];
    for isa in Isa::available() {
        let mut group = c.benchmark_group(format!("letter-{isa:?}"));
        group.throughput(Throughput::Elements(sums.len() as u64));
        group.bench_function("half-even", |b| {
            b.iter(|| end.codes(isa, &sums, -128, &mut codes));
        });
    }
}

/// Convolutions of every embedded target.
fn requantize(c: &mut Criterion) {
    let sums = sums();
    let mut codes = vec![0u8; sums.len()];
    let isa = Isa::detect();
    let mut group = c.benchmark_group(format!("requantize-{isa:?}"));
    group.throughput(Throughput::Elements(sums.len() as u64));
    for name in align_check_specs::names() {
        let Ok(spec) = Spec::resolve(name) else {
            continue;
        };
        let power_of_two = spec.activations.quantizer == Grid::PowerOfTwo;
        let (rule, _) = spec.of_product(Product::Convolution);
        let unit = Unit {
            x: if power_of_two { 1.0 / 64.0 } else { 0.0235 },
            w: if power_of_two { 1.0 / 64.0 } else { 0.0132 },
            zeros: 0,
            bias: 0.0,
            code: None,
        };
        let out = grid(power_of_two);
        let clamp = (0.0, 6.0);
        // What does not requantize has no such end.
        if let Ok(requantizer) =
            Requantizer::new(rule, &spec.bias, &spec.accumulator, &[unit], out, clamp)
        {
            group.bench_function(*name, |b| {
                b.iter(|| requantizer.codes(isa, &sums, 0, -128, &mut codes));
            });
        }
    }
}

criterion_group!(benches, letter, requantize);
criterion_main!(benches);
