//! What happened during an operation, next to its value.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// Events of an arithmetic operation; a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags(u8);

impl Flags {
    /// A value beyond the range was clamped to it.
    pub const SATURATED: Self = Self(1);
    /// A value beyond the range lost its high bits.
    pub const WRAPPED: Self = Self(1 << 1);
    /// The result is not the exact one.
    pub const INEXACT: Self = Self(1 << 2);
    /// The exact value lay half way between two integers. Comes with [`INEXACT`](Self::INEXACT).
    pub const TIE: Self = Self(1 << 3);
    /// A shift to the left, before a product, left the accumulator's range.
    pub const SHIFT_OVERFLOW: Self = Self(1 << 4);

    const NAMES: [(Self, &'static str); 5] = [
        (Self::SATURATED, "saturated"),
        (Self::WRAPPED, "wrapped"),
        (Self::INEXACT, "inexact"),
        (Self::TIE, "tie"),
        (Self::SHIFT_OVERFLOW, "shift overflow"),
    ];

    /// Whether every flag of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether nothing happened.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// This set where `condition` holds, otherwise the empty one.
    #[must_use]
    pub const fn when(self, condition: bool) -> Self {
        if condition { self } else { Self(0) }
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// `saturated, tie`; the empty set prints as nothing.
impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (flag, name) in Self::NAMES {
            if self.contains(flag) {
                write!(f, "{separator}{name}")?;
                separator = ", ";
            }
        }
        Ok(())
    }
}

/// A value and what happened on the way to it.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flagged<T> {
    /// The result.
    pub value: T,
    /// The events.
    pub flags: Flags,
}

impl<T> Flagged<T> {
    /// A value with flags.
    pub const fn new(value: T, flags: Flags) -> Self {
        Self { value, flags }
    }

    /// A value to which nothing happened.
    pub const fn exact(value: T) -> Self {
        Self {
            value,
            flags: Flags(0),
        }
    }

    /// Changes the value and keeps the flags.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Flagged<U> {
        Flagged {
            value: f(self.value),
            flags: self.flags,
        }
    }

    /// Continues with another operation and joins the flags of both.
    pub fn and_then<U>(self, f: impl FnOnce(T) -> Flagged<U>) -> Flagged<U> {
        let next = f(self.value);
        Flagged {
            value: next.value,
            flags: self.flags | next.flags,
        }
    }

    /// Adds flags.
    pub fn flag(self, flags: Flags) -> Self {
        Self {
            value: self.value,
            flags: self.flags | flags,
        }
    }
}
