//! Codes of the logarithmic grid, and their byte.

/// A code: sign and magnitude, where zero is a code of its own and the magnitude 0 is the smallest
/// positive level (rule 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Exactly zero.
    Zero,
    /// `2^((k + z) / S)`, `k` from 0.
    Positive(i32),
    /// `-2^((k + z) / S)`, `k` from 1.
    Negative(i32),
}

impl Code {
    /// The 8-bit layout (rule 7; `MQBench` `docs/source/user_guide/hardware/nnie.rst`): sign and magnitude,
    /// where "-0", `0x80`, is zero. `None` where the magnitude exceeds 127, or is a negative 0. The
    /// 16-bit layout is not documented.
    pub fn to_byte(self) -> Option<u8> {
        match self {
            Self::Zero => Some(0x80),
            Self::Positive(k @ 0..=127) => Some(k as u8),
            Self::Negative(k @ 1..=127) => Some(0x80 | k as u8),
            Self::Positive(_) | Self::Negative(_) => None,
        }
    }

    /// The code of a byte.
    pub fn from_byte(byte: u8) -> Self {
        match byte {
            0x80 => Self::Zero,
            0..0x80 => Self::Positive(i32::from(byte)),
            0x81.. => Self::Negative(i32::from(byte & 0x7F)),
        }
    }
}
