//! The two tables of the SDP's Y unit and of the CDP: LE (65 entries) and LO (257 entries).
//!
//! With `d = x - start`:
//!
//! ```text
//! linear:       i = d >> select,               f = d mod 2^select,        in units of 2^select
//! exponential:  i = floor(log2 d) - offset,    f = d - 2^floor(log2 d),   in units of 2^floor(log2 d)
//! hit:          cdp  sat16(T[i] + half-away((T[i+1] - T[i]) * f16 / 2^16))          f16: f cut to 16 bits
//!               sdp  sat32(half-away((T[i] * (2^35 - f35) + T[i+1] * f35) / 2^35))  f35: f cut to 35 bits
//! under:        T[0] + half-away((x - start - e) * slope / 2^shift)                 d <= 0 or i < 0
//! over:         T[last] + half-away((x - end) * slope / 2^shift)                    i >= last
//! ```
//!
//! `e` is 0 in a linear table, `2^offset` in an exponential one (0 for a negative offset, and in the SDP
//! for offset 0). Each table is evaluated; which of the two values counts is chosen afterwards.
//!
//! Sources: `cmod/cdp/NV_NVDLA_cdp.cpp` (`lookup_lut_int8`, `lookup_lut`), `cmod/hls/sdp/sdp_y_idx.cpp`,
//! `sdp_y_inp.cpp`, `cmod/hls_wrapper/sdp_hls_wrapper.cpp`. The C model of the CDP divides slopes in
//! `f64`, which is exact for INT8; here it is exact always.

use align_check_specs::Rounding;

use super::shift_right_saturate;
use crate::num::{Flagged, saturate};

/// How values between two entries are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interpolation {
    /// The CDP's: 16 bits of fraction, the difference is rounded, the result has 16 bits.
    Cdp,
    /// The SDP's: 35 bits of fraction, the sum is rounded, the result has 32 bits.
    Sdp,
}

impl Interpolation {
    /// Bits of the fraction.
    fn fraction_bits(self) -> u32 {
        match self {
            Self::Cdp => 16,
            Self::Sdp => 35,
        }
    }

    /// Bits of the result.
    fn result_bits(self) -> u32 {
        match self {
            Self::Cdp => 16,
            Self::Sdp => 32,
        }
    }

    /// Bits of a slope's product after its shift.
    fn slope_bits(self) -> u32 {
        match self {
            Self::Cdp => 56,
            Self::Sdp => 32,
        }
    }
}

/// A straight line beyond an end of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Slope {
    /// Factor.
    pub scale: i16,
    /// Shift to the right, 5 bits, signed: a negative one shifts to the left.
    pub shift: i32,
}

/// How a table's index follows from `x - start`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Index {
    /// An entry every `2^select`; `select` has 8 bits and a sign.
    Linear {
        /// Negative: several entries a step, without interpolation.
        select: i32,
    },
    /// An entry every power of two, from `2^offset`; LE only. `offset` has 8 bits and a sign.
    Exponential {
        /// Of the first entry.
        offset: i32,
    },
}

/// One table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Entries: 65 (LE) or 257 (LO).
    pub entries: Vec<i16>,
    /// Where it begins.
    pub start: i64,
    /// Where it ends, as the register says; only the slope beyond the end uses it.
    pub end: i64,
    /// From input to entry.
    pub index: Index,
    /// Below the first entry.
    pub under: Slope,
    /// From the last entry on.
    pub over: Slope,
}

/// Where a value falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Under,
    Hit,
    Over,
}

impl Table {
    fn apply(&self, x: i64, form: Interpolation, rounding: Rounding) -> (Place, Flagged<i64>) {
        let distance = i128::from(x) - i128::from(self.start);
        let last = self.entries.len() - 1;
        // The entry, and the fraction in units of 2^bits. Shifts stay below 128: |select| <= 128.
        let at = match self.index {
            _ if distance <= 0 => None,
            Index::Linear { select } if select < 0 => {
                let bits = select.unsigned_abs();
                let index = if bits > 16 {
                    i128::MAX
                } else {
                    distance << bits
                };
                Some((index, 0, 0))
            }
            Index::Linear { select } => {
                let bits = select.unsigned_abs().min(126);
                Some((distance >> bits, distance & ((1 << bits) - 1), bits))
            }
            Index::Exponential { offset } => {
                let log = distance.ilog2();
                let index = i128::from(log) - i128::from(offset);
                Some((index, distance - (1 << log), log)).filter(|_| index >= 0)
            }
        };
        match at {
            None => (Place::Under, self.under(x, form, rounding)),
            Some((index, _, _)) if index >= last as i128 => {
                let end = i128::from(self.end);
                (
                    Place::Over,
                    line(x, end, self.over, self.entries[last], form, rounding),
                )
            }
            Some((index, rest, bits)) => {
                // Below `last`.
                let index = index as usize;
                let (low, high) = (self.entries[index].into(), self.entries[index + 1].into());
                let wanted = form.fraction_bits();
                let fraction = if bits > wanted {
                    rest >> (bits - wanted)
                } else {
                    rest << (wanted - bits)
                };
                (Place::Hit, between(low, high, fraction, form, rounding))
            }
        }
    }

    fn under(&self, x: i64, form: Interpolation, rounding: Rounding) -> Flagged<i64> {
        let first = match self.index {
            Index::Exponential { offset }
                if offset > 0 || offset == 0 && form == Interpolation::Cdp =>
            {
                1 << offset.unsigned_abs().min(126)
            }
            _ => 0,
        };
        let from = i128::from(self.start) + first;
        line(x, from, self.under, self.entries[0], form, rounding)
    }
}

/// `entry + round((x - from) * slope)`.
fn line(
    x: i64,
    from: i128,
    slope: Slope,
    entry: i16,
    form: Interpolation,
    rounding: Rounding,
) -> Flagged<i64> {
    let product = i128::from(x)
        .saturating_sub(from)
        .saturating_mul(slope.scale.into());
    let step = if slope.shift < 0 {
        let product = product.saturating_mul(1 << slope.shift.unsigned_abs().min(31));
        saturate(product, form.slope_bits())
    } else {
        shift_right_saturate(
            product,
            slope.shift.unsigned_abs(),
            rounding,
            form.slope_bits(),
        )
    };
    step.and_then(|step| saturate(i128::from(entry) + i128::from(step), form.result_bits()))
}

/// Between two entries.
fn between(
    low: i128,
    high: i128,
    fraction: i128,
    form: Interpolation,
    rounding: Rounding,
) -> Flagged<i64> {
    let bits = form.fraction_bits();
    match form {
        Interpolation::Cdp => {
            shift_right_saturate((high - low) * fraction, bits, rounding, form.slope_bits())
                .and_then(|step| saturate(low + i128::from(step), form.result_bits()))
        }
        Interpolation::Sdp => {
            let sum = low * ((1 << bits) - fraction) + high * fraction;
            shift_right_saturate(sum, bits, rounding, form.result_bits())
        }
    }
}

/// One of the two tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// LE.
    Le,
    /// LO.
    Lo,
}

/// Both tables, and how one value is chosen of two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// Linear or exponential.
    pub le: Table,
    /// Linear.
    pub lo: Table,
    /// Where both are under (`LUT_UFLOW_PRIORITY`).
    pub under: Which,
    /// Where both are over (`LUT_OFLOW_PRIORITY`).
    pub over: Which,
    /// Where both hit, or one is under and one is over (`LUT_HYBRID_PRIORITY`).
    pub hybrid: Which,
    /// Of the interpolation and the slopes; [`ROUNDING`](super::ROUNDING) on NVDLA.
    pub rounding: Rounding,
}

impl Lookup {
    /// The value at `x`: 16 bits in the CDP, 32 in the SDP.
    ///
    /// # Panics
    /// If a table has no entries.
    pub fn apply(&self, x: i64, form: Interpolation) -> Flagged<i64> {
        let (le_place, le) = self.le.apply(x, form, self.rounding);
        let (lo_place, lo) = self.lo.apply(x, form, self.rounding);
        let which = match (le_place, lo_place) {
            (Place::Under, Place::Under) => self.under,
            (Place::Over, Place::Over) => self.over,
            (Place::Hit, Place::Under | Place::Over) => Which::Le,
            (Place::Under | Place::Over, Place::Hit) => Which::Lo,
            _ => self.hybrid,
        };
        match which {
            Which::Le => le,
            Which::Lo => lo,
        }
    }
}
