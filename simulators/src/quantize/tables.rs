//! The sigmoid and tanh tables that every `.wk` file of the NNIE carries.
//!
//! Source: rules 18 and 19 of the NNIE evidence, decoded from three public `.wk` files; the tests hold the
//! MD5 of the files' 1024 bytes. How the hardware indexes them, or interpolates, is unknown.

/// Entries of a table, for `[-16, 16)` in steps of 1/16.
pub const ENTRIES: usize = 512;

/// Index of the entry for 0.
pub const MIDDLE: usize = ENTRIES / 2;

/// One of fixed-point Q15.
const ONE: f64 = 32768.0;

/// `min(32767, trunc(32768 * sigmoid(k / 16)))` for `k = -256..=255`.
pub fn sigmoid() -> [i16; ENTRIES] {
    std::array::from_fn(|index| {
        let x = (index as f64 - MIDDLE as f64) / 16.0;
        (ONE / (1.0 + libm::exp(-x))).trunc().min(32767.0) as i16
    })
}

/// `trunc(32768 * tanh((k + 1/2) / 16))` within +-32767, for `k = -256..=255`. The half step is in this
/// table only.
pub fn tanh() -> [i16; ENTRIES] {
    std::array::from_fn(|index| {
        let x = (index as f64 - MIDDLE as f64 + 0.5) / 16.0;
        (ONE * libm::tanh(x)).trunc().clamp(-32767.0, 32767.0) as i16
    })
}
