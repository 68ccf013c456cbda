//! Instruction sets, how code is compiled for one, and the vector operations of the integer kernels.

use std::cell::RefCell;

#[cfg(target_arch = "aarch64")]
use super::neon;

/// An instruction set that the kernels know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// No instruction beyond the target's baseline; the lane structure of [`Isa::Avx512Vnni`].
    Portable,
    /// AVX2 and FMA (no fused operation is ever used for a rounded result).
    Avx2,
    /// AVX-512 F, BW, DQ, VL and VNNI.
    Avx512Vnni,
    /// NEON, which is part of every (little-endian) `aarch64`.
    Neon,
    /// NEON and the products of unsigned and signed bytes of Armv8.6 (`FEAT_I8MM`).
    NeonI8mm,
}

impl Isa {
    /// Every instruction set, slowest first on a machine that has it.
    const ALL: [Isa; 5] = [
        Isa::Portable,
        Isa::Avx2,
        Isa::Avx512Vnni,
        Isa::Neon,
        Isa::NeonI8mm,
    ];

    /// The fastest instruction set of this machine.
    pub fn detect() -> Isa {
        let fastest = Isa::ALL.into_iter().rfind(|isa| isa.is_available());
        fastest.unwrap_or(Isa::Portable)
    }

    /// Every instruction set of this machine, slowest first.
    pub fn available() -> Vec<Isa> {
        let all = Isa::ALL.into_iter();
        all.filter(|isa| isa.is_available()).collect()
    }

    /// Whether this machine has it (the standard library caches the answer).
    #[cfg(target_arch = "x86_64")]
    pub fn is_available(self) -> bool {
        let avx2 = || is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        match self {
            Isa::Portable => true,
            Isa::Avx2 => avx2(),
            Isa::Avx512Vnni => {
                avx2()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
            Isa::Neon | Isa::NeonI8mm => false,
        }
    }

    /// Whether this machine has it (the standard library caches the answer).
    #[cfg(target_arch = "aarch64")]
    pub fn is_available(self) -> bool {
        // Words of weights are read as vectors of bytes: the order of the bytes matters.
        let neon = cfg!(target_endian = "little");
        match self {
            Isa::Portable => true,
            Isa::Neon => neon,
            Isa::NeonI8mm => neon && std::arch::is_aarch64_feature_detected!("i8mm"),
            Isa::Avx2 | Isa::Avx512Vnni => false,
        }
    }

    /// Whether this machine has it.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub fn is_available(self) -> bool {
        self == Isa::Portable
    }
}

/// Runs `f` compiled for the instruction set's vector width, if `f` is inlined: write
/// `vectorize(isa, #[inline(always)] || loop)`.
///
/// Rust never contracts a product and a sum into a fused operation, so the bytes of the result do not
/// depend on `isa`.
///
/// # Panics
/// If this machine lacks `isa`.
#[inline]
pub fn vectorize<R>(isa: Isa, f: impl FnOnce() -> R) -> R {
    assert!(isa.is_available(), "this machine has no {isa:?}");
    match isa {
        Isa::Portable => f(),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `is_available` found every feature of the function.
        Isa::Avx2 => unsafe { with_avx2(f) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `is_available` found every feature of the function.
        Isa::Avx512Vnni => unsafe { with_avx512(f) },
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => f(),
        #[cfg(target_arch = "aarch64")]
        // SAFETY: `is_available` found every feature of the function.
        Isa::NeonI8mm => unsafe { with_i8mm(f) },
        #[allow(unreachable_patterns, reason = "the sets of other architectures")]
        _ => unreachable!("not available"),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn with_avx2<R>(f: impl FnOnce() -> R) -> R {
    f()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn with_avx512<R>(f: impl FnOnce() -> R) -> R {
    f()
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon,i8mm")]
fn with_i8mm<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// Work that is written once over [`Lanes`] and compiled for each instruction set.
pub(super) trait Task {
    /// What it returns.
    type Output;
    /// Does the work. Implementations are `#[inline(always)]`.
    ///
    /// # Safety
    /// This machine has the instructions of `O`, and the caller enabled them.
    unsafe fn run<O: Lanes>(self) -> Self::Output;
}

/// Runs a task with the vector operations of an instruction set.
///
/// # Panics
/// If this machine lacks `isa`.
#[inline]
pub(super) fn dispatch<T: Task>(isa: Isa, task: T) -> T::Output {
    // SAFETY (each): `vectorize` asserts that this machine has the instructions, and enables them.
    match isa {
        Isa::Portable => unsafe { task.run::<Portable>() },
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => vectorize(
            isa,
            #[inline(always)]
            || unsafe { task.run::<x86::Avx2>() },
        ),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => vectorize(
            isa,
            #[inline(always)]
            || unsafe { task.run::<x86::Avx512Vnni>() },
        ),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => vectorize(
            isa,
            #[inline(always)]
            || unsafe { task.run::<neon::Neon>() },
        ),
        #[cfg(target_arch = "aarch64")]
        Isa::NeonI8mm => vectorize(
            isa,
            #[inline(always)]
            || unsafe { task.run::<neon::NeonI8mm>() },
        ),
        #[allow(unreachable_patterns, reason = "the sets of other architectures")]
        _ => panic!("this machine has no {isa:?}"),
    }
}

/// The vector operations of the integer kernels: `LANES` sums, to each of which one instruction adds
/// `DEPTH` products `x * w`, exact and wrapping in 32 bits.
///
/// # Safety
/// The functions need the instructions of the implementing set. A pointer is valid for the read or
/// write of as many elements as the function says; it needs no alignment.
pub(super) trait Lanes {
    /// An input as it is packed.
    type X: Copy + Default + Send + Sync;
    /// `LANES * DEPTH` inputs.
    type Inputs: Copy;
    /// `LANES * DEPTH` weights.
    type Weights: Copy;
    /// `LANES` sums.
    type Sums: Copy;
    /// Sums of a vector.
    const LANES: usize;
    /// Products added to a sum by one instruction.
    const DEPTH: usize;
    /// Output channels of a tile of the matrix product.
    const ROWS: usize;
    /// Vectors of output positions of a tile of the matrix product.
    const VECTORS: usize;

    /// The buffer of packed inputs.
    fn buffer(scratch: &mut Scratch) -> &mut Vec<Self::X>;
    /// A code as it is packed.
    fn pack(x: u8) -> Self::X;
    /// `DEPTH` weights of one output channel (fewer: zeros follow) as the word that `splat` reads.
    fn word(weights: &[i8]) -> i32;
    /// Interleaves `LANES` codes of each of `DEPTH` taps: `dst[lane * DEPTH + tap] = rows[tap][lane]`.
    ///
    /// Reads the elements from `at` on of the first `DEPTH` rows.
    unsafe fn interleave(rows: [&[u8]; 4], at: usize, dst: &mut [Self::X]);
    /// Zeros.
    unsafe fn zero() -> Self::Sums;
    /// `LANES * DEPTH` packed inputs.
    unsafe fn load(x: *const Self::X) -> Self::Inputs;
    /// One word of weights for every lane.
    unsafe fn splat(word: i32) -> Self::Weights;
    /// `LANES * DEPTH` weights in sequence.
    unsafe fn weights(w: *const i8) -> Self::Weights;
    /// `sums[lane] + sum of x[lane * DEPTH + d] * w[lane * DEPTH + d]`.
    unsafe fn dot(sums: Self::Sums, x: Self::Inputs, w: Self::Weights) -> Self::Sums;
    /// Writes `LANES` sums.
    unsafe fn store(sums: Self::Sums, out: *mut i32);
}

/// Buffers that one thread uses again for each block of work.
#[derive(Default)]
pub(super) struct Scratch {
    /// Packed inputs, for sets that pack bytes.
    pub bytes: Vec<u8>,
    /// Packed inputs, for sets that pack 16 bits.
    pub halves: Vec<i16>,
    /// Codes before they are interleaved.
    pub rows: Vec<u8>,
    /// Sums before they are brought into the output's layout.
    pub sums: Vec<i32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Scratch {
    /// The buffers of this thread; what they hold is no input of any computation.
    pub fn with<R>(f: impl FnOnce(&mut Self) -> R) -> R {
        SCRATCH.with_borrow_mut(f)
    }
}

/// The portable operations, with the lane structure of AVX-512 VNNI.
pub(super) struct Portable;

/// How the sets with four bytes a lane pack.
macro_rules! four_bytes_a_lane {
    () => {
        type X = u8;
        const DEPTH: usize = 4;

        #[inline(always)]
        fn buffer(scratch: &mut Scratch) -> &mut Vec<u8> {
            &mut scratch.bytes
        }

        #[inline(always)]
        fn pack(x: u8) -> u8 {
            x
        }

        #[inline(always)]
        fn word(weights: &[i8]) -> i32 {
            i32::from_le_bytes(std::array::from_fn(|i| {
                weights.get(i).map_or(0, |w| w.cast_unsigned())
            }))
        }
    };
}

#[cfg(target_arch = "aarch64")]
pub(super) use four_bytes_a_lane;

/// The lanes of the sets with 16 lanes of four bytes.
macro_rules! sixteen_lanes {
    () => {
        four_bytes_a_lane!();
        const LANES: usize = 16;
        const ROWS: usize = 8;
        const VECTORS: usize = 3;

        #[inline(always)]
        unsafe fn interleave(rows: [&[u8]; 4], at: usize, dst: &mut [u8]) {
            interleave_bytes(rows, at, dst);
        }
    };
}

/// `interleave` of the sets with 16 lanes of four bytes; SSE2 is part of every x86-64.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn interleave_bytes(rows: [&[u8]; 4], at: usize, dst: &mut [u8]) {
    use std::arch::x86_64::{
        _mm_loadu_si128, _mm_storeu_si128, _mm_unpackhi_epi8, _mm_unpackhi_epi16,
        _mm_unpacklo_epi8, _mm_unpacklo_epi16,
    };

    let rows = rows.map(|row| &row[at..at + 16]);
    let dst = &mut dst[..64];
    // SAFETY: each row has 16 bytes, and the destination four times 16.
    unsafe {
        let [a, b, c, d] = rows.map(
            #[inline(always)]
            |row| _mm_loadu_si128(row.as_ptr().cast()),
        );
        let (ab, cd) = (_mm_unpacklo_epi8(a, b), _mm_unpacklo_epi8(c, d));
        let (ab_high, cd_high) = (_mm_unpackhi_epi8(a, b), _mm_unpackhi_epi8(c, d));
        let dst = dst.as_mut_ptr();
        _mm_storeu_si128(dst.cast(), _mm_unpacklo_epi16(ab, cd));
        _mm_storeu_si128(dst.add(16).cast(), _mm_unpackhi_epi16(ab, cd));
        _mm_storeu_si128(dst.add(32).cast(), _mm_unpacklo_epi16(ab_high, cd_high));
        _mm_storeu_si128(dst.add(48).cast(), _mm_unpackhi_epi16(ab_high, cd_high));
    }
}

/// `interleave` of the sets with 16 lanes of four bytes.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn interleave_bytes(rows: [&[u8]; 4], at: usize, dst: &mut [u8]) {
    let rows = rows.map(|row| &row[at..at + 16]);
    for (lane, bytes) in dst[..64].as_chunks_mut::<4>().0.iter_mut().enumerate() {
        *bytes = [rows[0][lane], rows[1][lane], rows[2][lane], rows[3][lane]];
    }
}

impl Lanes for Portable {
    sixteen_lanes!();
    type Inputs = [u8; 64];
    type Weights = [i8; 64];
    type Sums = [i32; 16];

    #[inline(always)]
    unsafe fn zero() -> [i32; 16] {
        [0; 16]
    }

    #[inline(always)]
    unsafe fn load(x: *const u8) -> [u8; 64] {
        // SAFETY: the caller's pointer is valid for 64 bytes, and an array of bytes needs no alignment.
        unsafe { x.cast::<[u8; 64]>().read() }
    }

    #[inline(always)]
    unsafe fn splat(word: i32) -> [i8; 64] {
        let bytes = word.to_le_bytes();
        std::array::from_fn(|i| bytes[i % 4].cast_signed())
    }

    #[inline(always)]
    unsafe fn weights(w: *const i8) -> [i8; 64] {
        // SAFETY: the caller's pointer is valid for 64 bytes, and an array of bytes needs no alignment.
        unsafe { w.cast::<[i8; 64]>().read() }
    }

    #[inline(always)]
    unsafe fn dot(mut sums: [i32; 16], x: [u8; 64], w: [i8; 64]) -> [i32; 16] {
        for (lane, sum) in sums.iter_mut().enumerate() {
            let product = |d: usize| i32::from(x[4 * lane + d]) * i32::from(w[4 * lane + d]);
            *sum = sum.wrapping_add(product(0) + product(1) + product(2) + product(3));
        }
        sums
    }

    #[inline(always)]
    unsafe fn store(sums: [i32; 16], out: *mut i32) {
        // SAFETY: the caller's pointer is valid for 16 sums, and the write needs no alignment.
        unsafe { out.cast::<[i32; 16]>().write_unaligned(sums) }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256i, __m512i, _mm_loadl_epi64, _mm_loadu_si128, _mm_unpacklo_epi8, _mm256_add_epi32,
        _mm256_cvtepi8_epi16, _mm256_cvtepu8_epi16, _mm256_loadu_si256, _mm256_madd_epi16,
        _mm256_set1_epi32, _mm256_setzero_si256, _mm256_storeu_si256, _mm512_dpbusd_epi32,
        _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_si512, _mm512_storeu_si512,
    };

    use super::{Lanes, Scratch, interleave_bytes};

    /// AVX2: codes and weights widened to 16 bits, two products a lane. `vpmaddwd` is exact: the sum of
    /// two products of a `u8` and an `i8` has at most 17 bits.
    pub struct Avx2;

    impl Lanes for Avx2 {
        type X = i16;
        type Inputs = __m256i;
        type Weights = __m256i;
        type Sums = __m256i;
        const LANES: usize = 8;
        const DEPTH: usize = 2;
        const ROWS: usize = 6;
        const VECTORS: usize = 2;

        #[inline(always)]
        fn buffer(scratch: &mut Scratch) -> &mut Vec<i16> {
            &mut scratch.halves
        }

        #[inline(always)]
        fn pack(x: u8) -> i16 {
            i16::from(x)
        }

        #[inline(always)]
        fn word(weights: &[i8]) -> i32 {
            let half = |i: usize| i32::from(weights.get(i).copied().unwrap_or(0));
            half(0) & 0xffff | half(1) << 16
        }

        #[inline(always)]
        unsafe fn interleave(rows: [&[u8]; 4], at: usize, dst: &mut [i16]) {
            let (a, b) = (&rows[0][at..at + 8], &rows[1][at..at + 8]);
            let dst = &mut dst[..16];
            // SAFETY: the slices have 8, 8 and 16 elements; the caller has AVX2.
            unsafe {
                let a = _mm_loadl_epi64(a.as_ptr().cast());
                let b = _mm_loadl_epi64(b.as_ptr().cast());
                let pairs = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(a, b));
                _mm256_storeu_si256(dst.as_mut_ptr().cast(), pairs);
            }
        }

        #[inline(always)]
        unsafe fn zero() -> __m256i {
            // SAFETY: the caller has AVX2.
            unsafe { _mm256_setzero_si256() }
        }

        #[inline(always)]
        unsafe fn load(x: *const i16) -> __m256i {
            // SAFETY: the caller has AVX2, and its pointer is valid for 16 elements.
            unsafe { _mm256_loadu_si256(x.cast()) }
        }

        #[inline(always)]
        unsafe fn splat(word: i32) -> __m256i {
            // SAFETY: the caller has AVX2.
            unsafe { _mm256_set1_epi32(word) }
        }

        #[inline(always)]
        unsafe fn weights(w: *const i8) -> __m256i {
            // SAFETY: the caller has AVX2, and its pointer is valid for 16 weights.
            unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(w.cast())) }
        }

        #[inline(always)]
        unsafe fn dot(sums: __m256i, x: __m256i, w: __m256i) -> __m256i {
            // SAFETY: the caller has AVX2.
            unsafe { _mm256_add_epi32(sums, _mm256_madd_epi16(x, w)) }
        }

        #[inline(always)]
        unsafe fn store(sums: __m256i, out: *mut i32) {
            // SAFETY: the caller has AVX2, and its pointer is valid for 8 sums.
            unsafe { _mm256_storeu_si256(out.cast(), sums) }
        }
    }

    /// AVX-512 VNNI: four products a lane (`vpdpbusd`, which does not saturate).
    pub struct Avx512Vnni;

    impl Lanes for Avx512Vnni {
        sixteen_lanes!();
        type Inputs = __m512i;
        type Weights = __m512i;
        type Sums = __m512i;

        #[inline(always)]
        unsafe fn zero() -> __m512i {
            // SAFETY: the caller has AVX-512.
            unsafe { _mm512_setzero_si512() }
        }

        #[inline(always)]
        unsafe fn load(x: *const u8) -> __m512i {
            // SAFETY: the caller has AVX-512, and its pointer is valid for 64 bytes.
            unsafe { _mm512_loadu_si512(x.cast()) }
        }

        #[inline(always)]
        unsafe fn splat(word: i32) -> __m512i {
            // SAFETY: the caller has AVX-512.
            unsafe { _mm512_set1_epi32(word) }
        }

        #[inline(always)]
        unsafe fn weights(w: *const i8) -> __m512i {
            // SAFETY: the caller has AVX-512, and its pointer is valid for 64 weights.
            unsafe { _mm512_loadu_si512(w.cast()) }
        }

        #[inline(always)]
        unsafe fn dot(sums: __m512i, x: __m512i, w: __m512i) -> __m512i {
            // SAFETY: the caller has AVX-512 VNNI. The first factor is unsigned, the second signed.
            unsafe { _mm512_dpbusd_epi32(sums, x, w) }
        }

        #[inline(always)]
        unsafe fn store(sums: __m512i, out: *mut i32) {
            // SAFETY: the caller has AVX-512, and its pointer is valid for 16 sums.
            unsafe { _mm512_storeu_si512(out.cast(), sums) }
        }
    }
}
