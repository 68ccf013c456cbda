//! The single data processor: X1 and X2 (bias, batch normalization, activation), Y (elementwise, table)
//! and the output converter.
//!
//! ```text
//! x1, x2:  o = sat32(alu_operand << alu_shift)                        operand int16 (or int8 memory)
//!          t = max(x, o), min(x, o) or x + o                          33 bits
//!          t = sat32(half-away(t * mul_operand / 2^mul_shift))        operand int16
//!          t = max(t, 0)
//! y:       t = sat32(half-away(x * mul_operand / 2^shift))            operand int32
//!          t = sat32(max, min or sum of t and the ALU's operand), or t != operand
//!          t = table(t)
//! c:       y = sat(sat17(half-away((t - offset) * scale / 2^shift)))
//! ```
//!
//! X shifts even if its multiplier is bypassed, by what `MUL_SHIFT_VALUE` holds; Y does not.
//!
//! Sources: `cmod/hls/sdp/sdp_x.cpp`, `sdp_y_core.cpp`, `sdp_y_cvt.cpp`, `sdp_c.cpp`, `sdp.h` (widths).

use align_check_specs::Rounding;

use super::lut::{Interpolation, Lookup};
use super::{Converter, shift_right_saturate};
use crate::num::{Flagged, Flags, saturate, wrap};

/// Bits of the values between the units.
pub const BITS: u32 = 32;

/// Bits that the output converter saturates to before it saturates to the output's.
pub const CONVERTED_BITS: u32 = 17;

/// What an ALU does (`*_ALU_ALGO`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alu {
    /// The larger one.
    Max,
    /// The smaller one.
    Min,
    /// The sum.
    Sum,
    /// 0 where equal, else 1; Y only (`EQL`).
    NotEqual,
}

impl Alu {
    /// Without any rounding or saturation.
    fn apply(self, x: i64, operand: i64) -> i64 {
        match self {
            Self::Max => x.max(operand),
            Self::Min => x.min(operand),
            Self::Sum => x + operand,
            Self::NotEqual => i64::from(x != operand),
        }
    }
}

/// What a multiplier does (`*_MUL_BYPASS`, `*_MUL_PRELU`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Multiply {
    /// Nothing; X still shifts.
    Bypass,
    /// Multiplies every value.
    All,
    /// Multiplies and shifts negative values only; others pass as they are.
    Negative,
}

/// X1 (`BS`) or X2 (`BN`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct X {
    /// `None` if bypassed.
    pub alu: Option<Alu>,
    /// Shift to the left of the ALU's operand, 6 bits.
    pub alu_shift: u32,
    /// The multiplier.
    pub multiply: Multiply,
    /// Shift to the right behind the multiplier, 6 bits.
    pub mul_shift: u32,
    /// Whether negative results become 0.
    pub relu: bool,
    /// Rounding of the shift to the right; [`ROUNDING`](super::ROUNDING) on NVDLA.
    pub rounding: Rounding,
}

impl X {
    /// One value of 32 bits; the result has 32 bits.
    pub fn apply(&self, x: i64, alu_operand: i16, mul_operand: i16) -> Flagged<i64> {
        let mut flags = Flags::default();
        let mut t = x;
        if let Some(alu) = self.alu {
            let operand = saturate(i128::from(alu_operand) << self.alu_shift, BITS);
            flags |= operand.flags;
            t = alu.apply(t, operand.value);
        }
        let factor = match self.multiply {
            Multiply::Negative if t >= 0 => None,
            Multiply::Bypass => Some(1),
            Multiply::All | Multiply::Negative => Some(i128::from(mul_operand)),
        };
        let shifted = match factor {
            Some(factor) => {
                shift_right_saturate(i128::from(t) * factor, self.mul_shift, self.rounding, BITS)
            }
            // The C model narrows these 33 bits without saturation.
            None => wrap(t.into(), BITS),
        };
        let t = if self.relu {
            shifted.map(|t| t.max(0))
        } else {
            shifted
        };
        t.flag(flags)
    }
}

/// Y (`EW`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Y {
    /// The multiplier.
    pub multiply: Multiply,
    /// Shift to the right behind the multiplier, 10 bits; only where it multiplies.
    pub shift: u32,
    /// `None` if bypassed.
    pub alu: Option<Alu>,
    /// `None` if bypassed.
    pub table: Option<Lookup>,
    /// Rounding of the shift to the right; [`ROUNDING`](super::ROUNDING) on NVDLA.
    pub rounding: Rounding,
}

impl Y {
    /// One value of 32 bits; the result has 32 bits. Operands from memory come through
    /// [`operand`].
    pub fn apply(&self, x: i64, alu_operand: i32, mul_operand: i32) -> Flagged<i64> {
        let product = match self.multiply {
            Multiply::Bypass => Flagged::exact(x),
            Multiply::Negative if x >= 0 => Flagged::exact(x),
            Multiply::All | Multiply::Negative => shift_right_saturate(
                i128::from(x) * i128::from(mul_operand),
                self.shift,
                self.rounding,
                BITS,
            ),
        };
        let t = product.and_then(|t| match self.alu {
            Some(alu) => saturate(alu.apply(t, alu_operand.into()).into(), BITS),
            None => Flagged::exact(t),
        });
        match &self.table {
            Some(table) => t.and_then(|t| table.apply(t, Interpolation::Sdp)),
            None => t,
        }
    }
}

/// An operand that Y reads from memory. `None`: the converter is bypassed.
pub fn operand(x: i16, converter: Option<&Converter>) -> Flagged<i32> {
    match converter {
        // 32 bits.
        Some(converter) => converter.apply(x.into(), BITS).map(|x| x as i32),
        None => Flagged::exact(x.into()),
    }
}

/// The output converter: to 17 bits, then to the `bits` of the output (8 or 16).
pub fn output(x: i64, converter: &Converter, bits: u32) -> Flagged<i64> {
    converter
        .apply(x, CONVERTED_BITS)
        .and_then(|x| saturate(x.into(), bits))
}
