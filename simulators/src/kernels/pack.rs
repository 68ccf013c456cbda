//! Gathering the inputs of a range of output positions.

use std::ops::Range;

use super::ConvShape;
use super::isa::Lanes;

/// Writes the inputs that tap (`row`, `column`) of the kernel reads at the output positions
/// `first..first + dst.len()` of one channel; `pad` outside the image.
#[inline(always)]
pub(super) fn fill_row<T: Element>(
    shape: &ConvShape,
    plane: &[T],
    row: usize,
    column: usize,
    first: usize,
    pad: T,
    mut dst: &mut [T],
) {
    let (width, stride) = (shape.width, shape.strides[1]);
    // The input column of output column `o` is `o * stride + shift - pad_left`; inside for `low..high`.
    let (shift, left) = (column * shape.dilations[1], shape.pads[1]);
    let low = left.saturating_sub(shift).div_ceil(stride);
    let high = (width + left).saturating_sub(shift).div_ceil(stride);
    let mut out_row = first / shape.out_width.max(1);
    let mut start = first % shape.out_width.max(1);
    while !dst.is_empty() {
        let count = (shape.out_width - start).min(dst.len());
        let (segment, rest) = dst.split_at_mut(count);
        let in_row = (out_row * shape.strides[0] + row * shape.dilations[0])
            .checked_sub(shape.pads[0])
            .filter(|&r| r < shape.height);
        match in_row {
            None => segment.fill(pad),
            Some(r) => {
                let low = low.clamp(start, start + count);
                let high = high.clamp(low, start + count);
                segment[..low - start].fill(pad);
                segment[high - start..].fill(pad);
                if high > low {
                    let source = &plane[r * width..][low * stride + shift - left..width];
                    gather(source, stride, &mut segment[low - start..high - start]);
                }
            }
        }
        dst = rest;
        out_row += 1;
        start = 0;
    }
}

/// Every `stride`-th element of `source`, from its first.
#[inline(always)]
pub(super) fn gather<T: Element>(source: &[T], stride: usize, dst: &mut [T]) {
    match stride {
        1 => dst.copy_from_slice(&source[..dst.len()]),
        2 => {
            let done = T::gather_pairs(source, dst);
            if done < dst.len() {
                gather_each(&source[2 * done..], 2, &mut dst[done..]);
            }
        }
        _ => gather_each(source, stride, dst),
    }
}

#[inline(always)]
fn gather_each<T: Copy>(source: &[T], stride: usize, dst: &mut [T]) {
    for (d, s) in dst.iter_mut().zip(source.iter().step_by(stride)) {
        *d = *s;
    }
}

/// What is gathered.
pub(super) trait Element: Copy {
    /// Writes the first of each pair of `source` to `dst`, as far as vectors reach; returns how many.
    #[inline(always)]
    fn gather_pairs(_source: &[Self], _dst: &mut [Self]) -> usize {
        0
    }
}

impl Element for i32 {}
impl Element for f64 {}

impl Element for u8 {
    /// SSE2 is part of every x86-64. (The compiler does not vectorize the loop over bytes.)
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn gather_pairs(source: &[u8], dst: &mut [u8]) -> usize {
        use std::arch::x86_64::{
            _mm_and_si128, _mm_loadu_si128, _mm_packus_epi16, _mm_set1_epi16, _mm_storeu_si128,
        };

        let blocks = dst.as_chunks_mut::<16>().0;
        let sources = source.as_chunks::<32>().0;
        for (dst, source) in blocks.iter_mut().zip(sources) {
            // SAFETY: `source` has 32 bytes and `dst` 16.
            unsafe {
                let mask = _mm_set1_epi16(0xff);
                let low = _mm_and_si128(mask, _mm_loadu_si128(source.as_ptr().cast()));
                let high = _mm_and_si128(mask, _mm_loadu_si128(source[16..].as_ptr().cast()));
                _mm_storeu_si128(dst.as_mut_ptr().cast(), _mm_packus_epi16(low, high));
            }
        }
        16 * blocks.len().min(sources.len())
    }

    /// NEON is part of every `aarch64`.
    #[cfg(target_arch = "aarch64")]
    #[inline(always)]
    fn gather_pairs(source: &[u8], dst: &mut [u8]) -> usize {
        use std::arch::aarch64::{vld2q_u8, vst1q_u8};

        let blocks = dst.as_chunks_mut::<16>().0;
        let sources = source.as_chunks::<32>().0;
        for (dst, source) in blocks.iter_mut().zip(sources) {
            // SAFETY: `source` has 32 bytes and `dst` 16.
            unsafe { vst1q_u8(dst.as_mut_ptr(), vld2q_u8(source.as_ptr()).0) };
        }
        16 * blocks.len().min(sources.len())
    }
}

/// Packs the inputs of a range of output positions of one group for the matrix product:
/// (chunk of `LANES` positions, step of `DEPTH` taps, position, tap of the step). The lanes beyond the
/// last position, and the taps beyond the last tap, hold any value.
///
/// # Safety
/// This machine has the instructions of `O`, and the caller enabled them.
#[inline(always)]
pub(super) unsafe fn pack_block<O: Lanes>(
    shape: &ConvShape,
    x: &[u8],
    pad: u8,
    columns: Range<usize>,
    staging: &mut Vec<u8>,
    packed: &mut [O::X],
) {
    let (taps, plane) = (shape.taps(), shape.height * shape.width);
    let steps = taps.div_ceil(O::DEPTH);
    let width = O::LANES * O::DEPTH;
    let chunks = columns.len().div_ceil(O::LANES);
    let direct = shape.is_pointwise();
    // Positions that are interleaved from the image itself, and those from the staging rows.
    let whole = if direct { columns.len() / O::LANES } else { 0 };
    let row = (chunks - whole) * O::LANES;
    if staging.len() < O::DEPTH * row {
        staging.resize(O::DEPTH * row, 0);
    }
    let stage = whole * O::LANES..columns.len();
    for step in 0..steps {
        let tap = |d: usize| (step * O::DEPTH + d).min(taps - 1);
        if row > 0 {
            for (d, row) in staging[..O::DEPTH * row].chunks_mut(row).enumerate() {
                let (channel, kernel_row, kernel_column) = shape.tap(tap(d), true);
                let x = &x[channel * plane..][..plane];
                let row = &mut row[..stage.len()];
                if direct {
                    row.copy_from_slice(&x[columns.start + stage.start..][..stage.len()]);
                } else {
                    fill_row(shape, x, kernel_row, kernel_column, columns.start, pad, row);
                }
            }
        }
        if whole > 0 {
            let rows = std::array::from_fn(|d| {
                &x[tap(d.min(O::DEPTH - 1)) * plane + columns.start..][..whole * O::LANES]
            });
            for chunk in 0..whole {
                let dst = &mut packed[(chunk * steps + step) * width..][..width];
                // SAFETY: the caller's duty.
                unsafe { O::interleave(rows, chunk * O::LANES, dst) };
            }
        }
        if row > 0 {
            let rows = std::array::from_fn(|d| &staging[d.min(O::DEPTH - 1) * row..][..row]);
            for chunk in whole..chunks {
                let dst = &mut packed[(chunk * steps + step) * width..][..width];
                // SAFETY: the caller's duty.
                unsafe { O::interleave(rows, (chunk - whole) * O::LANES, dst) };
            }
        }
    }
}
