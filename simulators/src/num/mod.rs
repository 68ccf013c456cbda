//! Value-and-flags integer arithmetic: what every rule of the zoo means.
//!
//! Operations return a [`Flagged`] value, after `rustc_apfloat`'s `StatusAnd`: the flags (saturated,
//! wrapped, tie, ...) are what explains *why* two targets differ. Everything here is defined on `i128`
//! or on exact `f64`; the functions without flags ([`round_f32`], [`round_f64`], [`shift_right_i64`],
//! [`FastMultiplier`]) are the same rules written for speed, and tests hold them equal.

mod ap_fixed;
mod fast;
mod flags;
pub mod gemmlowp;
pub mod lut;
mod multiplier;
mod rounding;
pub mod trace;
mod width;

#[cfg(test)]
mod tests;

pub use ap_fixed::{FixedOverflow, FixedType, MAX_FIXED_WIDTH};
pub use fast::{
    FastMultiplier, each_block, each_real, each_rounded, each_shifted, round_to_i32,
    shift_right_i32, shift_right_i64,
};
pub use flags::{Flagged, Flags};
pub use multiplier::{FixedMultiplier, MAX_MANTISSA_BITS, power_of_two};
pub use rounding::{divide, round, round_f32, round_f64, shift_right};
pub use trace::{Exact, Trace};
pub use width::{Width, clamp, saturate, wrap};
