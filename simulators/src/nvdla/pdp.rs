//! The planar data processor: pooling.
//!
//! ```text
//! average:  s = sum of the real values + table[columns] * real rows + table[rows] * kernel width
//!           t = half-away(s * recip_width / 2^16)
//!           y = sat(half-away(t * recip_height / 2^16))                     two roundings
//! max, min: of the real values; padding does not count
//! ```
//!
//! `columns` and `rows` are how many of the window's lie in the padding, `table[k]` is
//! `D_POOLING_PADDING_VALUE_k` (k times what one padded element counts, from software; `table[0]` is 0).
//! The reciprocals are 17 bits, unsigned: 0x10000 is 1, 0x5555 a third. They come from software too.
//!
//! Sources: `cmod/pdp/NV_NVDLA_pdp.cpp` (`LineOperation`, `PoolingStage0Calc`, `PoolingStage1Calc`, the
//! last in `f64`, exact here), `vmod/nvdla/pdp/NV_NVDLA_PDP_CORE_cal2d.v`.

use align_check_specs::Rounding;

use super::shift_right_saturate;
use crate::num::{Flagged, Flags, saturate};

/// Fractional bits of a reciprocal.
pub const RECIPROCAL_BITS: u32 = 16;

/// Bits of the value between the two roundings; nothing in reach saturates there.
const BETWEEN_BITS: u32 = 32;

/// The two multiplications of an average.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Average {
    /// 17 bits, unsigned.
    pub recip_width: u32,
    /// 17 bits, unsigned.
    pub recip_height: u32,
    /// Of both; [`ROUNDING`](super::ROUNDING) on NVDLA.
    pub rounding: Rounding,
}

impl Average {
    /// From a window's sum to a value of `bits` bits.
    pub fn finish(&self, sum: i64, bits: u32) -> Flagged<i64> {
        let by = |x: i64, reciprocal: u32, bits| {
            let product = i128::from(x) * i128::from(reciprocal);
            shift_right_saturate(product, RECIPROCAL_BITS, self.rounding, bits)
        };
        by(sum, self.recip_width, BETWEEN_BITS).and_then(|t| by(t, self.recip_height, bits))
    }
}

/// What a window becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The mean.
    Average(Average),
    /// The largest value.
    Max,
    /// The smallest value.
    Min,
}

/// A window over one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    /// Sum of the real values and of the padding.
    pub sum: i64,
    /// Largest real value.
    pub max: i32,
    /// Smallest real value.
    pub min: i32,
}

/// Pooling, as in the registers of PDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pooling {
    /// Height and width of the window.
    pub kernel: [usize; 2],
    /// Down and across.
    pub stride: [usize; 2],
    /// Rows above and columns left of the input.
    pub pad: [usize; 2],
    /// What 0 to 7 padded elements of a line add to a sum.
    pub pad_values: [i32; 8],
    /// Height and width of the output.
    pub output: [usize; 2],
}

impl Pooling {
    /// The windows of one channel, row by row. `x` is one channel of `[height, width]`, row by row.
    ///
    /// # Panics
    /// If `x` is too short, a window has no real value, or more than 7 padded rows or columns.
    pub fn windows(&self, x: &[i32], [height, width]: [usize; 2]) -> Vec<Window> {
        let span = |position: usize, axis: usize, size: usize| {
            let begin = (position * self.stride[axis]).saturating_sub(self.pad[axis]);
            let end = position * self.stride[axis] + self.kernel[axis];
            begin..end.saturating_sub(self.pad[axis]).min(size)
        };
        let mut windows = Vec::with_capacity(self.output[0] * self.output[1]);
        for y in 0..self.output[0] {
            let rows = span(y, 0, height);
            for column in 0..self.output[1] {
                let columns = span(column, 1, width);
                let real = || {
                    rows.clone()
                        .flat_map(|row| &x[row * width..][columns.clone()])
                        .copied()
                };
                let padded =
                    |axis: usize, real: usize| i64::from(self.pad_values[self.kernel[axis] - real]);
                windows.push(Window {
                    sum: real().map(i64::from).sum::<i64>()
                        + padded(1, columns.len()) * rows.len() as i64
                        + padded(0, rows.len()) * self.kernel[1] as i64,
                    max: real().max().expect("a window has a real value"),
                    min: real().min().expect("a window has a real value"),
                });
            }
        }
        windows
    }

    /// One pooled channel of `bits`-bit values. The flags are those of all values together.
    ///
    /// # Panics
    /// As [`windows`](Self::windows).
    pub fn plane(
        &self,
        x: &[i32],
        size: [usize; 2],
        method: Method,
        bits: u32,
    ) -> Flagged<Vec<i32>> {
        let mut flags = Flags::default();
        let finish = |window: Window| {
            let y = match method {
                Method::Average(average) => average.finish(window.sum, bits),
                Method::Max => saturate(window.max.into(), bits),
                Method::Min => saturate(window.min.into(), bits),
            };
            flags |= y.flags;
            // At most 32 bits.
            y.value as i32
        };
        let plane = self.windows(x, size).into_iter().map(finish).collect();
        Flagged::new(plane, flags)
    }
}
