//! Xilinx's `ap_fixed<W, I, Q, O>`: a code of `W` bits that stands for `code * 2^(I - W)`.
//!
//! Source: hls4ml 1.3.0 wheel, `hls4ml/templates/vivado/ap_types/ap_fixed_base.h` (`operator=`,
//! `quantization_adjust`, `overflow_adjust`): a number is rounded first, then brought into the range.
//! Saturation bits (`N`) other than 0 are not modelled. The headers, compiled without `NDEBUG`, stop with an
//! assertion where a type is rounded into one that keeps none of its bits and one bit more; the rule below is
//! what they compute without the assertion.

use std::fmt;
use std::str::FromStr;

use align_check_specs::Rounding;
use serde::Deserialize;

use super::{Flagged, Flags, shift_right};

/// Names of the quantization modes, and the roundings that they are.
const QUANTIZATION: [(&str, Rounding); 7] = [
    ("TRN", Rounding::Floor),
    ("TRN_ZERO", Rounding::Trunc),
    ("RND", Rounding::HalfUp),
    ("RND_MIN_INF", Rounding::HalfDown),
    ("RND_INF", Rounding::HalfAway),
    ("RND_ZERO", Rounding::HalfTowardZero),
    ("RND_CONV", Rounding::HalfEven),
];

const OVERFLOW: [(&str, FixedOverflow); 5] = [
    ("WRAP", FixedOverflow::Wrap),
    ("WRAP_SM", FixedOverflow::WrapSignMagnitude),
    ("SAT", FixedOverflow::Saturate),
    ("SAT_SYM", FixedOverflow::SaturateSymmetric),
    ("SAT_ZERO", FixedOverflow::SaturateZero),
];

/// Widest type that is modelled.
pub const MAX_FIXED_WIDTH: u32 = 63;

/// What a rounded number beyond the range becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FixedOverflow {
    /// Modulo `2^W`.
    Wrap,
    /// As `Wrap`, but the sign becomes the lowest bit that is cut off (before rounding); where that differs
    /// from the wrapped sign, all other bits are inverted. Signed types only.
    WrapSignMagnitude,
    /// The nearest end of the range.
    Saturate,
    /// As `Saturate`, and the smallest code of a signed type of two bits or more never results.
    SaturateSymmetric,
    /// Zero.
    SaturateZero,
}

/// A type `ap_fixed<W, I, Q, O>` or `ap_ufixed<W, I, Q, O>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct FixedType {
    /// Bits of the code.
    pub width: u32,
    /// Bits in front of the point, the sign's included; may be negative, or more than `width`.
    pub integer: i32,
    /// Whether the code is in two's complement.
    pub signed: bool,
    /// What happens to the bits that are dropped.
    pub rounding: Rounding,
    /// What happens beyond the range.
    pub overflow: FixedOverflow,
}

impl FixedType {
    /// A type that truncates and wraps, as the headers' defaults do.
    pub const fn new(width: u32, integer: i32, signed: bool) -> Self {
        Self {
            width,
            integer,
            signed,
            rounding: Rounding::Floor,
            overflow: FixedOverflow::Wrap,
        }
    }

    /// Bits behind the point.
    pub const fn fraction(&self) -> i32 {
        self.width as i32 - self.integer
    }

    /// What one step is worth.
    pub fn step(&self) -> f64 {
        libm::exp2(-f64::from(self.fraction()))
    }

    /// Smallest and largest code of the width.
    pub const fn range(&self) -> (i64, i64) {
        if self.signed {
            let half = 1i64 << (self.width - 1);
            (-half, half - 1)
        } else {
            (0, ((1u64 << self.width) - 1) as i64)
        }
    }

    /// Smallest and largest code that a cast can give.
    pub const fn reached(&self) -> (i64, i64) {
        let (lo, hi) = self.range();
        match self.overflow {
            FixedOverflow::SaturateSymmetric if self.signed && self.width > 1 => (-hi, hi),
            _ => (lo, hi),
        }
    }

    /// The type that holds every product exactly.
    #[must_use]
    pub const fn product(&self, other: &Self) -> Self {
        Self::new(
            self.width + other.width,
            self.integer + other.integer,
            self.signed || other.signed,
        )
    }

    /// A type that holds every sum exactly.
    #[must_use]
    pub fn sum(&self, other: &Self) -> Self {
        let signed = self.signed || other.signed;
        // An unsigned number needs a sign's bit more among signed ones.
        let integer = |t: &Self| t.integer + i32::from(signed && !t.signed);
        let integer = integer(self).max(integer(other)) + 1;
        let fraction = self.fraction().max(other.fraction());
        Self::new((integer + fraction).max(1) as u32, integer, signed)
    }

    /// The number `code * 2^-fraction` as a code of this type.
    pub fn cast(&self, code: i128, fraction: i32) -> Flagged<i64> {
        let dropped = fraction - self.fraction();
        if dropped > 0 {
            let dropped = dropped.unsigned_abs();
            let cut = code >> dropped.min(127);
            return shift_right(code, dropped, self.rounding).and_then(|x| self.fit(x, cut));
        }
        let shift = dropped.unsigned_abs();
        let shifted = if shift < 128 { code << shift } else { 0 };
        if code == 0 || (shift < 127 && shifted >> shift == code) {
            return self.fit(shifted, shifted);
        }
        // Beyond 128 bits: another number with the same sign and the same low bits, and too large as well.
        let bits = self.width + 1;
        let beyond = (1i128 << (bits + 1)) * code.signum();
        let same = beyond + (shifted & ((1 << bits) - 1));
        self.fit(same, same)
    }

    /// The sum of two codes of this type, as `+=` does it.
    pub fn add(&self, a: i64, b: i64) -> Flagged<i64> {
        let sum = i128::from(a) + i128::from(b);
        self.fit(sum, sum)
    }

    /// A number as a code of this type; `None` where it is not finite.
    pub fn from_f64(&self, x: f64) -> Option<Flagged<i64>> {
        if !x.is_finite() {
            return None;
        }
        // x = mantissa * 2^exponent
        let bits = x.to_bits();
        let biased = ((bits >> 52) & 0x7ff) as i32;
        let low = (bits & ((1 << 52) - 1)) as i128;
        let (mantissa, exponent) = match biased {
            0 => (low, -1074),
            _ => (low | (1 << 52), biased - 1075),
        };
        let signed = if x.is_sign_negative() {
            -mantissa
        } else {
            mantissa
        };
        Some(self.cast(signed, -exponent))
    }

    /// Brings a rounded number into the range; `cut` is the number before it was rounded, truncated.
    fn fit(&self, x: i128, cut: i128) -> Flagged<i64> {
        let (lo, hi) = self.range();
        let inside = x >= i128::from(lo) && x <= i128::from(hi);
        let saturated =
            |value: i64| Flagged::new(value, Flags::SATURATED.when(i128::from(value) != x));
        match self.overflow {
            _ if inside && self.overflow != FixedOverflow::SaturateSymmetric => {
                Flagged::exact(x as i64)
            }
            FixedOverflow::Wrap => Flagged::new(self.wrap(x), Flags::WRAPPED),
            FixedOverflow::Saturate | FixedOverflow::SaturateSymmetric => {
                let (lo, hi) = self.reached();
                saturated(x.clamp(i128::from(lo), i128::from(hi)) as i64)
            }
            FixedOverflow::SaturateZero => saturated(0),
            FixedOverflow::WrapSignMagnitude => {
                let wrapped = self.wrap(x);
                let lost = (cut >> self.width) & 1 == 1;
                let value = match (lost, wrapped < 0) {
                    (true, true) | (false, false) => wrapped,
                    (true, false) => !wrapped | lo,
                    (false, true) => !wrapped & hi,
                };
                Flagged::new(value, Flags::WRAPPED)
            }
        }
    }

    fn wrap(&self, x: i128) -> i64 {
        let unused = 128 - self.width;
        let high = x << unused;
        if self.signed {
            (high >> unused) as i64
        } else {
            (high.cast_unsigned() >> unused) as i64
        }
    }
}

/// `fixed<W,I,Q,O,N>`, `ufixed<...>`, `int<W>`, `uint<W>`; with or without `ap_` and `AP_`.
impl FromStr for FixedType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("'{text}': {what}");
        let plain = text.strip_prefix("ap_").unwrap_or(text);
        let (kind, rest) = plain
            .split_once('<')
            .ok_or_else(|| wrong("not a type like fixed<16,6,TRN,WRAP,0>"))?;
        let inside = rest
            .strip_suffix('>')
            .ok_or_else(|| wrong("lacks its '>'"))?;
        let parts: Vec<&str> = inside.split(',').map(str::trim).collect();
        let number = |index: usize, what: &str| -> Result<i32, String> {
            let part = parts.get(index).copied().unwrap_or_default();
            part.parse().map_err(|_| wrong(what))
        };
        let (signed, fixed) = match kind {
            "fixed" => (true, true),
            "ufixed" => (false, true),
            "int" => (true, false),
            "uint" => (false, false),
            _ => return Err(wrong("neither fixed, ufixed, int nor uint")),
        };
        let width = number(0, "its width is no number")?;
        if !(1..=MAX_FIXED_WIDTH as i32).contains(&width) {
            return Err(wrong("widths from 1 to 63 are modelled"));
        }
        let integer = if fixed {
            number(1, "its integer bits are no number")?
        } else {
            width
        };
        if !(-256..=256).contains(&integer) {
            return Err(wrong("integer bits from -256 to 256 are modelled"));
        }
        let allowed = if fixed { 5 } else { 1 };
        if parts.len() > allowed {
            return Err(wrong("too many parts"));
        }
        let mut own = Self::new(width as u32, integer, signed);
        let mode = |index: usize| {
            let part: &str = parts.get(index)?;
            Some(part.strip_prefix("AP_").unwrap_or(part))
        };
        if let Some(name) = mode(2) {
            let found = QUANTIZATION.iter().find(|(own, _)| *own == name);
            own.rounding = found
                .ok_or_else(|| wrong("an unknown quantization mode"))?
                .1;
        }
        if let Some(name) = mode(3) {
            let found = OVERFLOW.iter().find(|(own, _)| *own == name);
            own.overflow = found.ok_or_else(|| wrong("an unknown overflow mode"))?.1;
        }
        if mode(4).is_some_and(|bits| bits != "0") {
            return Err(wrong("saturation bits other than 0 are not modelled"));
        }
        if own.overflow == FixedOverflow::WrapSignMagnitude && !signed {
            return Err(wrong("WRAP_SM exists for signed types only"));
        }
        Ok(own)
    }
}

impl TryFrom<String> for FixedType {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// `fixed<16,6,TRN,WRAP>`
impl fmt::Display for FixedType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quantization = QUANTIZATION.iter().find(|(_, own)| *own == self.rounding);
        let overflow = OVERFLOW.iter().find(|(_, own)| *own == self.overflow);
        write!(
            f,
            "{}fixed<{},{},{},{}>",
            if self.signed { "" } else { "u" },
            self.width,
            self.integer,
            quantization.map_or("?", |(name, _)| name),
            overflow.map_or("?", |(name, _)| name),
        )
    }
}
