//! Direct convolution: the MAC array (CMAC), the accumulator (CACC) and its truncation.
//!
//! ```text
//! payload = sum of x * w over one block of input channels at one kernel position        exact
//! acc     = sat(acc + payload), block by block, row by row, column by column            34 or 48 bits
//! a       = sat32(half-away(acc / 2^clip))
//! ```
//!
//! Sources: `cmod/cacc/NV_NVDLA_cacc.cpp`, `vmod/nvdla/cacc/NV_NVDLA_CACC_CALC_int8.v`,
//! `vmod/nvdla/cacc/NV_NVDLA_CACC_CALC_int16.v` (branch nvdlav1).

use align_check_specs::Rounding;

use super::shift_right_saturate;
use crate::num::{Flagged, Flags, saturate};

/// Bits of a partial sum of INT8 products in the RTL. The C model keeps [`INT16_PARTIAL_BITS`] for both.
///
/// The difference is out of reach: no sum of 8-bit products leaves 34 bits with fewer than 2^19 terms.
pub const INT8_PARTIAL_BITS: u32 = 34;

/// Bits of a partial sum of INT16 products.
pub const INT16_PARTIAL_BITS: u32 = 48;

/// Bits of what CACC delivers to the SDP.
pub const DELIVERY_BITS: u32 = 32;

/// CACC's truncation, `D_CLIP_CFG.CLIP_TRUNCATE`: `sat32(round(acc / 2^clip))`.
///
/// The RTL keeps 16 of the dropped bits. With a clip beyond 16 it can take a negative value just above a
/// tie for the tie; this is the C model's rule, and no test of the test plan has such a clip.
pub fn truncate(acc: i64, clip: u32, rounding: Rounding) -> Flagged<i64> {
    shift_right_saturate(acc.into(), clip, rounding, DELIVERY_BITS)
}

/// Shapes of a direct convolution, as in the registers of CSC. There are no groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Height, width and channels of the input.
    pub input: [usize; 3],
    /// Kernels, that is output channels.
    pub kernels: usize,
    /// Height and width of a kernel.
    pub kernel: [usize; 2],
    /// Down and across.
    pub stride: [usize; 2],
    /// Down and across; 1 is a dense kernel.
    pub dilation: [usize; 2],
    /// Rows above and columns left of the input. Below and right of it is as much as the output asks for.
    pub pad: [usize; 2],
    /// Height and width of the output.
    pub output: [usize; 2],
}

impl Geometry {
    /// Sums of products, in the order of output row, output column, kernel.
    ///
    /// `x` is in the order of row, column, channel; `weights` of kernel, row, column, channel. Padding
    /// counts as `pad_value` (`D_ZERO_PADDING_VALUE`; of its 16 bits, INT8 uses the lower 8, signed).
    /// `atom` channels are summed exactly and added at once (`MAC_ATOMIC_C_SIZE` of `spec/defs/*.spec`),
    /// and every sum saturates at `bits`. The flags are those of all sums together.
    ///
    /// # Panics
    /// If a slice is too short for its shape, or `atom` is 0.
    pub fn accumulate(
        &self,
        x: &[i32],
        weights: &[i32],
        pad_value: i32,
        atom: usize,
        bits: u32,
    ) -> Flagged<Vec<i64>> {
        let [height, width, channels] = self.input;
        let [rows, columns] = self.kernel;
        let mut flags = Flags::default();
        let mut sums = Vec::with_capacity(self.output[0] * self.output[1] * self.kernels);
        let padding = vec![pad_value; channels];
        // The input's channels under every position of the kernel.
        let mut window: Vec<&[i32]> = Vec::with_capacity(rows * columns);
        for y in 0..self.output[0] {
            for column in 0..self.output[1] {
                window.clear();
                for r in 0..rows {
                    let row = (y * self.stride[0] + r * self.dilation[0])
                        .checked_sub(self.pad[0])
                        .filter(|&row| row < height);
                    for s in 0..columns {
                        let at = (column * self.stride[1] + s * self.dilation[1])
                            .checked_sub(self.pad[1])
                            .filter(|&at| at < width);
                        window.push(match (row, at) {
                            (Some(row), Some(at)) => {
                                &x[(row * width + at) * channels..][..channels]
                            }
                            _ => &padding,
                        });
                    }
                }
                for kernel in 0..self.kernels {
                    let kernel = &weights[kernel * window.len() * channels..];
                    let mut acc = 0;
                    for block in (0..channels).step_by(atom) {
                        let block = block..channels.min(block + atom);
                        for (position, values) in window.iter().enumerate() {
                            let w = &kernel[position * channels..][block.clone()];
                            let sum =
                                saturate(i128::from(acc + dot(&values[block.clone()], w)), bits);
                            acc = sum.value;
                            flags |= sum.flags;
                        }
                    }
                    sums.push(acc);
                }
            }
        }
        Flagged::new(sums, flags)
    }
}

/// Exact: at most 2^13 channels of 16-bit values.
fn dot(x: &[i32], w: &[i32]) -> i64 {
    x.iter()
        .zip(w)
        .map(|(&x, &w)| i64::from(x) * i64::from(w))
        .sum()
}
