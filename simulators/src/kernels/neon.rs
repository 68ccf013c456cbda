//! The vector operations of the integer kernels on `aarch64`.

use std::arch::aarch64::{
    int8x16_t, int16x8_t, int32x4_t, uint8x8x4_t, uint8x16_t, vdupq_n_s16, vdupq_n_s32,
    vget_low_s16, vld1_s8, vld1_u8, vld1q_s8, vld1q_s16, vld1q_u8, vmlal_high_s16, vmlal_s16,
    vmovl_s8, vmovl_u8, vreinterpretq_s8_s32, vreinterpretq_s16_u16, vst1q_s16, vst1q_s32, vst4_u8,
};
use std::arch::asm;

use super::isa::{Lanes, Scratch, four_bytes_a_lane};

/// NEON: codes and weights widened to 16 bits, one product a lane (`smlal`). A tile has 24 of the 32 vector
/// registers for sums, three for inputs and one for weights.
pub struct Neon;

impl Lanes for Neon {
    type X = i16;
    type Inputs = int16x8_t;
    type Weights = int16x8_t;
    type Sums = [int32x4_t; 2];
    const LANES: usize = 8;
    const DEPTH: usize = 1;
    const ROWS: usize = 4;
    const VECTORS: usize = 3;

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
        weights.first().map_or(0, |&w| i32::from(w))
    }

    #[inline(always)]
    unsafe fn interleave(rows: [&[u8]; 4], at: usize, dst: &mut [i16]) {
        let row = &rows[0][at..at + 8];
        let dst = &mut dst[..8];
        // SAFETY: both slices have 8 elements.
        unsafe {
            let codes = vmovl_u8(vld1_u8(row.as_ptr()));
            vst1q_s16(dst.as_mut_ptr(), vreinterpretq_s16_u16(codes));
        }
    }

    #[inline(always)]
    unsafe fn zero() -> [int32x4_t; 2] {
        // SAFETY: every `aarch64` has NEON.
        unsafe { [vdupq_n_s32(0); 2] }
    }

    #[inline(always)]
    unsafe fn load(x: *const i16) -> int16x8_t {
        // SAFETY: the caller's pointer is valid for 8 elements.
        unsafe { vld1q_s16(x) }
    }

    #[inline(always)]
    unsafe fn splat(word: i32) -> int16x8_t {
        // SAFETY: every `aarch64` has NEON.
        unsafe { vdupq_n_s16(word as i16) }
    }

    #[inline(always)]
    unsafe fn weights(w: *const i8) -> int16x8_t {
        // SAFETY: the caller's pointer is valid for 8 weights.
        unsafe { vmovl_s8(vld1_s8(w)) }
    }

    #[inline(always)]
    unsafe fn dot(sums: [int32x4_t; 2], x: int16x8_t, w: int16x8_t) -> [int32x4_t; 2] {
        // SAFETY: every `aarch64` has NEON.
        unsafe {
            [
                vmlal_s16(sums[0], vget_low_s16(x), vget_low_s16(w)),
                vmlal_high_s16(sums[1], x, w),
            ]
        }
    }

    #[inline(always)]
    unsafe fn store(sums: [int32x4_t; 2], out: *mut i32) {
        // SAFETY: the caller's pointer is valid for 8 sums.
        unsafe {
            vst1q_s32(out, sums[0]);
            vst1q_s32(out.add(4), sums[1]);
        }
    }
}

/// NEON with `FEAT_I8MM`: four products a lane (`usdot`, which does not saturate).
pub struct NeonI8mm;

impl Lanes for NeonI8mm {
    four_bytes_a_lane!();
    type Inputs = [uint8x16_t; 2];
    type Weights = [int8x16_t; 2];
    type Sums = [int32x4_t; 2];
    const LANES: usize = 8;
    const ROWS: usize = 4;
    const VECTORS: usize = 3;

    #[inline(always)]
    unsafe fn interleave(rows: [&[u8]; 4], at: usize, dst: &mut [u8]) {
        let [a, b, c, d] = rows.map(|row| &row[at..at + 8]);
        let dst = &mut dst[..32];
        // SAFETY: each row has 8 bytes, and the destination four times 8.
        unsafe {
            let rows = uint8x8x4_t(
                vld1_u8(a.as_ptr()),
                vld1_u8(b.as_ptr()),
                vld1_u8(c.as_ptr()),
                vld1_u8(d.as_ptr()),
            );
            vst4_u8(dst.as_mut_ptr(), rows);
        }
    }

    #[inline(always)]
    unsafe fn zero() -> [int32x4_t; 2] {
        // SAFETY: every `aarch64` has NEON.
        unsafe { [vdupq_n_s32(0); 2] }
    }

    #[inline(always)]
    unsafe fn load(x: *const u8) -> [uint8x16_t; 2] {
        // SAFETY: the caller's pointer is valid for 32 bytes.
        unsafe { [vld1q_u8(x), vld1q_u8(x.add(16))] }
    }

    #[inline(always)]
    unsafe fn splat(word: i32) -> [int8x16_t; 2] {
        // SAFETY: every `aarch64` has NEON.
        unsafe { [vreinterpretq_s8_s32(vdupq_n_s32(word)); 2] }
    }

    #[inline(always)]
    unsafe fn weights(w: *const i8) -> [int8x16_t; 2] {
        // SAFETY: the caller's pointer is valid for 32 weights.
        unsafe { [vld1q_s8(w), vld1q_s8(w.add(16))] }
    }

    #[inline(always)]
    unsafe fn dot(sums: [int32x4_t; 2], x: [uint8x16_t; 2], w: [int8x16_t; 2]) -> [int32x4_t; 2] {
        // SAFETY: the caller has FEAT_I8MM.
        unsafe { [usdot(sums[0], x[0], w[0]), usdot(sums[1], x[1], w[1])] }
    }

    #[inline(always)]
    unsafe fn store(sums: [int32x4_t; 2], out: *mut i32) {
        // SAFETY: the caller's pointer is valid for 8 sums.
        unsafe {
            vst1q_s32(out, sums[0]);
            vst1q_s32(out.add(4), sums[1]);
        }
    }
}

/// Adds four products of unsigned and signed bytes to each sum. (The intrinsic is not stable:
/// rust-lang/rust#117223.)
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn usdot(mut sums: int32x4_t, x: uint8x16_t, w: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction reads and writes the named registers alone.
    unsafe {
        asm!(
            "usdot {sums:v}.4s, {x:v}.16b, {w:v}.16b",
            sums = inout(vreg) sums,
            x = in(vreg) x,
            w = in(vreg) w,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}
