//! The channel data processor: local response normalization by table.
//!
//! ```text
//! v = sat(half-away((x - offset) * scale / 2^shift))          9 bits (INT8) or 17 (INT16)
//! s = sum of v^2 over n channels around this one; v itself where the squares are bypassed
//! m = v * table(s); table(s) alone where the multiplier is bypassed
//! y = sat(half-away((m - offset) * scale / 2^shift))
//! ```
//!
//! Channels that do not exist count as 0 after the input converter.
//!
//! Sources: `cmod/cdp/NV_NVDLA_cdp.cpp`, `cmod/hls/cdp_libs/cdp_icvt.cpp`, `cdp_ocvt.cpp`.

use super::Converter;
use super::lut::{Interpolation, Lookup};
use crate::num::{Flagged, Flags};

/// LRN, as in the registers of CDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lrn {
    /// Bits of a code: 8 or 16.
    pub bits: u32,
    /// Before the sum.
    pub input: Converter,
    /// Channels on each side of a value that its sum covers: 1 to 4 (`NORMALZ_LEN` 3, 5, 7, 9).
    pub reach: usize,
    /// Whether values are squared and summed (not `SQSUM_BYPASS`).
    pub squares: bool,
    /// The tables.
    pub table: Lookup,
    /// Whether the table's value is a factor (not `MUL_BYPASS`).
    pub multiply: bool,
    /// Behind the product.
    pub output: Converter,
}

impl Lrn {
    /// All channels of one pixel. The flags are those of all values together.
    pub fn pixel(&self, x: &[i32]) -> Flagged<Vec<i32>> {
        let mut flags = Flags::default();
        let mut note = |y: Flagged<i64>| {
            flags |= y.flags;
            y.value
        };
        // One bit more than the codes: a code less an offset.
        let converted: Vec<i64> = x
            .iter()
            .map(|&x| note(self.input.apply(x.into(), self.bits + 1)))
            .collect();
        let mut out = Vec::with_capacity(x.len());
        for (channel, &v) in converted.iter().enumerate() {
            let s = if self.squares {
                let from = channel.saturating_sub(self.reach);
                let to = converted.len().min(channel + self.reach + 1);
                converted[from..to].iter().map(|v| v * v).sum()
            } else {
                v
            };
            let factor = note(self.table.apply(s, Interpolation::Cdp));
            let product = if self.multiply { factor * v } else { factor };
            // At most 16 bits.
            out.push(note(self.output.apply(product, self.bits)) as i32);
        }
        Flagged::new(out, flags)
    }
}
