//! Speed of the kernels on one thread. Throughput counts multiply-accumulates; one is two operations.

use std::hint::black_box;

use align_check_simulators::kernels::{
    ConvShape, Isa, PackedWeights, conv_f64, conv_in_order, conv_u8i8,
};
use align_check_specs::Overflow;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// A square convolution of a square image with symmetric padding.
fn conv(
    [channels, size, outputs]: [usize; 3],
    kernel: usize,
    stride: usize,
    groups: usize,
) -> ConvShape {
    let out = size.div_ceil(stride);
    ConvShape {
        channels,
        height: size,
        width: size,
        out_channels: outputs,
        out_height: out,
        out_width: out,
        kernel: [kernel; 2],
        strides: [stride; 2],
        pads: [(kernel - 1) / 2; 2],
        dilations: [1, 1],
        groups,
    }
}

/// The product of an m x k matrix (weights) and a k x p matrix (inputs).
fn product(m: usize, k: usize, p: usize) -> ConvShape {
    ConvShape {
        height: 1,
        out_height: 1,
        ..conv([k, p, m], 1, 1, 1)
    }
}

fn layers() -> Vec<(&'static str, ConvShape)> {
    vec![
        ("gemm-512x512x512", product(512, 512, 512)),
        ("gemm-256x1152x196", product(256, 1152, 196)),
        ("first-3x3s2-3-32-224", conv([3, 224, 32], 3, 2, 1)),
        ("1x1-32-16-112", conv([32, 112, 16], 1, 1, 1)),
        ("1x1-16-96-112", conv([16, 112, 96], 1, 1, 1)),
        ("1x1-144-24-56", conv([144, 56, 24], 1, 1, 1)),
        ("1x1-240-40-28", conv([240, 28, 40], 1, 1, 1)),
        ("1x1-112-672-14", conv([112, 14, 672], 1, 1, 1)),
        ("1x1-1152-192-7", conv([1152, 7, 192], 1, 1, 1)),
        ("1x1-320-1280-7", conv([320, 7, 1280], 1, 1, 1)),
        ("3x3-64-64-56", conv([64, 56, 64], 3, 1, 1)),
        ("depthwise-3x3-32-112", conv([32, 112, 32], 3, 1, 32)),
        ("depthwise-3x3s2-96-112", conv([96, 112, 96], 3, 2, 96)),
        ("depthwise-5x5-240-28", conv([240, 28, 240], 5, 1, 240)),
        ("depthwise-5x5-1152-7", conv([1152, 7, 1152], 5, 1, 1152)),
        ("fully-connected-1280-1000", product(1000, 1280, 1)),
    ]
}

/// Numbers without structure in `0..256`.
fn numbers(count: usize) -> impl Iterator<Item = u8> {
    (0..count as u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 24) as u8)
}

/// `vpmaddwd` and `vpaddd` on ten independent sums: what bounds an exact AVX2 kernel.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "the raw instruction is what is measured")]
fn peak(c: &mut Criterion) {
    use std::arch::asm;
    use std::arch::x86_64::{__m256i, _mm256_add_epi32, _mm256_madd_epi16, _mm256_set1_epi32};

    /// Each of the ten pairs of four factors, added to its sum in every step.
    #[target_feature(enable = "avx2")]
    fn run(mut factors: [__m256i; 4], steps: usize) -> __m256i {
        let mut sums = [_mm256_set1_epi32(0); 10];
        for _ in 0..steps {
            let mut sum = sums.iter_mut();
            for i in 0..4 {
                for j in i..4 {
                    let sum = sum.next().unwrap();
                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(factors[i], factors[j]));
                }
            }
            for factor in &mut factors {
                // SAFETY: empty assembly; it keeps the products, which never change, in the loop.
                unsafe { asm!("/* {0} */", inout(ymm_reg) * factor) };
            }
        }
        sums.into_iter()
            .reduce(|a, b| _mm256_add_epi32(a, b))
            .unwrap()
    }

    if !Isa::Avx2.is_available() {
        return;
    }
    let mut group = c.benchmark_group("peak");
    group.throughput(Throughput::Elements(10 * 16 * 100_000));
    group.bench_function("vpmaddwd", |b| {
        // SAFETY: AVX2 is available.
        b.iter(|| unsafe { black_box(run(black_box([_mm256_set1_epi32(3); 4]), 100_000)) });
    });
}

#[cfg(not(target_arch = "x86_64"))]
fn peak(_: &mut Criterion) {}

fn integer(c: &mut Criterion) {
    for isa in Isa::available() {
        let mut group = c.benchmark_group(format!("u8i8-{isa:?}"));
        for (name, shape) in layers() {
            group.throughput(Throughput::Elements(shape.macs() as u64));
            let x: Vec<u8> = numbers(shape.channels * shape.height * shape.width).collect();
            let w: Vec<i8> = numbers(shape.out_channels * shape.taps())
                .map(u8::cast_signed)
                .collect();
            let packed = PackedWeights::new(isa, &shape, &w);
            let mut out = vec![0; shape.out_channels * shape.positions()];
            group.bench_function(name, |b| {
                b.iter(|| conv_u8i8(&shape, &x, 3, &packed, &mut out));
            });
        }
    }
}

fn real(c: &mut Criterion) {
    for isa in Isa::available() {
        let mut group = c.benchmark_group(format!("f64-{isa:?}"));
        for (name, shape) in layers() {
            group.throughput(Throughput::Elements(shape.macs() as u64));
            let x: Vec<f64> = numbers(shape.channels * shape.height * shape.width)
                .map(f64::from)
                .collect();
            let w: Vec<f64> = numbers(shape.out_channels * shape.taps())
                .map(f64::from)
                .collect();
            let mut out = vec![0.0; shape.out_channels * shape.positions()];
            group.bench_function(name, |b| {
                b.iter(|| conv_f64(isa, &shape, &x, 0.0, &w, true, &mut out));
            });
        }
    }
}

fn in_order(c: &mut Criterion) {
    for (bits, overflow) in [
        (16, Overflow::Saturate),
        (24, Overflow::Wrap),
        (32, Overflow::Saturate),
        (48, Overflow::Saturate),
    ] {
        let mut group = c.benchmark_group(format!("in-order-{bits}-{overflow:?}"));
        for (name, shape) in layers() {
            group.throughput(Throughput::Elements(shape.macs() as u64));
            let x: Vec<i32> = numbers(shape.channels * shape.height * shape.width)
                .map(i32::from)
                .collect();
            let w: Vec<i32> = numbers(shape.out_channels * shape.taps())
                .map(|w| i32::from(w.cast_signed()))
                .collect();
            let init = vec![0; shape.out_channels];
            let mut out = vec![0; shape.out_channels * shape.positions()];
            group.bench_function(name, |b| {
                b.iter(|| conv_in_order(&shape, &x, 0, &w, &init, bits, overflow, true, &mut out));
            });
        }
    }
}

/// Runs the benchmarks on one thread.
fn single_thread(c: &mut Criterion) {
    rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build_global()
        .unwrap();
    peak(c);
    integer(c);
    real(c);
    in_order(c);
}

criterion_group!(benches, single_thread);
criterion_main!(benches);
