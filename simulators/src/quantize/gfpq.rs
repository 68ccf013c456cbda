//! GFPQ ("Grouped Floating Point Quantization"), the logarithmic quantizer of `HiSilicon`'s NNIE.
//!
//! The grid is `+-2^((k + z) / S)`, `S` steps an octave, with one integer `z` a tensor. Source: the vendor's
//! `libgfpq.so.1.1.5`, whose outputs the tests reproduce bit for bit (rules 1 to 16 of the NNIE evidence);
//! and `MQBench`'s fake-quant (`mqbench/fake_quantize/nnie.py`), which rounds `z` and treats the positive
//! zero threshold differently.
//!
//! Everything is `f64` and only results are cast to `f32`; `log2` and `exp2` come from `libm`, so that they
//! are the same on every machine.

mod code;
mod table;

use align_check_graph::GfpqWidth;
use align_check_specs::{Rounding, Threshold};

pub use code::Code;
pub use table::Table;

use crate::num::trace::{short, word};
use crate::num::{self, Trace};

/// The vendor's quantizer or a variant of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gfpq {
    width: Width,
    range_rounding: Rounding,
    threshold: Threshold,
}

/// The constants of a width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Width {
    bits: u32,
    /// Steps an octave.
    steps: i32,
    /// Largest code.
    codes: i32,
    /// Bound of `z`.
    range: i32,
}

const EIGHT: Width = Width {
    bits: 8,
    steps: 16,
    codes: 127,
    range: 511,
};
const SIXTEEN: Width = Width {
    bits: 16,
    steps: 128,
    codes: 1407,
    range: 4095,
};

/// What the library takes for the maximum of a tensor of zeros (rule 10).
const MAX_OF_ZEROS: f64 = 1e-6;

/// The modes of the library's call (rule 13).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Compute `z` from this tensor and store it.
    Init,
    /// Store the larger of the stored `z` and this tensor's. A block of zeros counts as `z = 0` (rule 14).
    Update,
    /// Use the stored `z`.
    ApplyOnly,
}

impl Gfpq {
    /// A variant; `None` unless `bits` is 8 or 16, the widths that the library accepts (rule 16).
    ///
    /// `range_rounding` rounds `S * log2(max)`: [`Rounding::Floor`] is the vendor's,
    /// [`Rounding::HalfEven`] is `MQBench`'s. [`Threshold::Zero`] is the vendor's treatment of special
    /// values, [`Threshold::Unquantized`] is `MQBench`'s, see [`apply`](Self::apply).
    pub fn new(bits: u32, range_rounding: Rounding, threshold: Threshold) -> Option<Self> {
        let width = match bits {
            8 => EIGHT,
            16 => SIXTEEN,
            _ => return None,
        };
        Some(Self {
            width,
            range_rounding,
            threshold,
        })
    }

    /// The vendor's library; `None` unless `bits` is 8 or 16.
    pub fn vendor(bits: u32) -> Option<Self> {
        GfpqWidth::of_bits(bits).map(Self::of)
    }

    /// The vendor's library, of a width that it has.
    pub fn of(width: GfpqWidth) -> Self {
        Self {
            width: match width {
                GfpqWidth::Eight => EIGHT,
                GfpqWidth::Sixteen => SIXTEEN,
            },
            range_rounding: Rounding::Floor,
            threshold: Threshold::Zero,
        }
    }

    /// `MQBench`'s fake-quant (`mqbench/fake_quantize/nnie.py`).
    pub fn mqbench() -> Option<Self> {
        Self::new(8, Rounding::HalfEven, Threshold::Unquantized)
    }

    /// Width in bits.
    pub fn bits(&self) -> u32 {
        self.width.bits
    }

    /// Steps an octave: 16 or 128.
    pub fn steps_per_octave(&self) -> i32 {
        self.width.steps
    }

    /// The largest code: 127 or 1407.
    pub fn max_code(&self) -> i32 {
        self.width.codes
    }

    /// Bound of `|z|`: 511 or 4095.
    pub fn max_z(&self) -> i32 {
        self.width.range
    }

    /// The exponent of a range, `clamp(floor(S * log2(max)) - N, -Z, Z)` (rules 1, 10, 11, 12).
    ///
    /// Zero counts as 1e-6, NaN as zero, infinity saturates.
    pub fn z_of(&self, max_abs: f32) -> i32 {
        let Width {
            steps,
            codes,
            range,
            ..
        } = self.width;
        let max = if max_abs > 0.0 {
            f64::from(max_abs)
        } else {
            MAX_OF_ZEROS
        };
        let exponent = num::round_f64(f64::from(steps) * libm::log2(max), self.range_rounding);
        // The conversion saturates; no finite max comes near.
        (exponent as i32).saturating_sub(codes).clamp(-range, range)
    }

    /// `z` of a tensor ([`Mode::Init`]).
    pub fn init(&self, data: &[f32]) -> i32 {
        self.z_of(max_abs(data))
    }

    /// The larger of the stored `z` and the tensor's ([`Mode::Update`]).
    pub fn update(&self, stored: i32, data: &[f32]) -> i32 {
        stored.max(self.init(data))
    }

    /// One call of the library: settles `z`, then quantizes in place.
    pub fn quantize(&self, mode: Mode, z: &mut i32, data: &mut [f32]) {
        *z = match mode {
            Mode::Init => self.init(data),
            Mode::Update => self.update(*z, data),
            Mode::ApplyOnly => *z,
        };
        self.apply_slice(data, *z);
    }

    /// Quantizes one number to the nearest level, in logarithms (rules 2 to 6, 9).
    ///
    /// The zero zone ends one octave below the smallest level, thresholds included. Special values: NaN
    /// becomes 0, infinities become the *smallest* level of their sign.
    ///
    /// With [`Threshold::Unquantized`], as `MQBench` does: a number exactly on the positive threshold
    /// passes through as it is, and so does NaN; infinities become the largest level.
    pub fn apply(&self, x: f32, z: i32) -> f32 {
        self.traced(x, z, &mut Trace::off())
    }

    /// [`apply`](Self::apply), written down.
    pub fn traced(&self, x: f32, z: i32, trace: &mut Trace) -> f32 {
        if self.threshold == Threshold::Unquantized {
            if x.is_nan() || f64::from(x) == self.zero_threshold(z, false) {
                return trace.step("kept", || "on the edge of the zero zone".into(), x);
            }
            if x.is_infinite() {
                return self.grid_value(self.width.codes, z, x < 0.0);
            }
        }
        let code = self.code_traced(x, z, trace);
        let how = || {
            let (sign, k) = match code {
                Code::Zero => return "the code of zero".to_owned(),
                Code::Positive(k) => ("", k),
                Code::Negative(k) => ("-", k),
            };
            format!("{sign}2^(({k} + {z}) / {}), as f32", self.width.steps)
        };
        trace.step("level", how, self.value(code, z))
    }

    /// The code of one number (of those that [`apply`](Self::apply) quantizes, in the vendor's way).
    pub fn code(&self, x: f32, z: i32) -> Code {
        self.code_traced(x, z, &mut Trace::off())
    }

    fn code_traced(&self, x: f32, z: i32, trace: &mut Trace) -> Code {
        let negative = x < 0.0;
        let least = i32::from(negative);
        let magnitude = f64::from(x.abs());
        let Width { steps, codes, .. } = self.width;
        let threshold = self.zero_threshold(z, negative);
        let how =
            || format!("magnitudes up to 2^(({z} + {least} - {steps}) / {steps}) become zero");
        trace.step("zero zone", how, threshold);
        if x.is_nan() || magnitude <= threshold {
            return Code::Zero;
        }
        let k = if x.is_infinite() {
            least
        } else {
            let logarithm = libm::log2(magnitude);
            trace.step("log2", || format!("of {}", short(magnitude)), logarithm);
            let position = f64::from(steps) * logarithm - f64::from(z);
            trace.step("position", || format!("{steps} * log2 - {z}"), position);
            // A tie cannot occur: 2^(odd / 2S) is irrational (rule 5).
            let nearest = position.round_ties_even() as i32;
            let how = || format!("{} of {}", word(Rounding::HalfEven), short(position));
            trace.step("rounded", how, nearest);
            let k = nearest.clamp(least, codes);
            trace.step("clamped", || format!("{nearest} to {least}..{codes}"), k)
        };
        if negative {
            Code::Negative(k)
        } else {
            Code::Positive(k)
        }
    }

    /// The real number of a code.
    pub fn value(&self, code: Code, z: i32) -> f32 {
        match code {
            Code::Zero => 0.0,
            Code::Positive(k) => self.grid_value(k, z, false),
            Code::Negative(k) => self.grid_value(k, z, true),
        }
    }

    /// A level of the grid: `f32(+-2^((k + z) / S))`.
    pub fn grid_value(&self, k: i32, z: i32, negative: bool) -> f32 {
        let level = libm::exp2(f64::from(k + z) / f64::from(self.width.steps)) as f32;
        if negative { -level } else { level }
    }

    /// The largest magnitude that becomes zero. Negative levels start at code 1, so their zero zone
    /// reaches one step further.
    fn zero_threshold(&self, z: i32, negative: bool) -> f64 {
        let steps = self.width.steps;
        libm::exp2(f64::from(z + i32::from(negative) - steps) / f64::from(steps))
    }

    /// [`apply`](Self::apply) to every element, in place.
    pub fn apply_slice(&self, data: &mut [f32], z: i32) {
        // Making a table costs about eight evaluations per code.
        let table = if data.len() > 8 * self.width.codes as usize {
            Table::new(*self, z)
        } else {
            None
        };
        match table {
            Some(table) => table.apply_slice(data),
            None => data.iter_mut().for_each(|x| *x = self.apply(*x, z)),
        }
    }
}

/// The largest magnitude of a tensor, NaN left out (rule 12); 0 where there is none.
pub fn max_abs(data: &[f32]) -> f32 {
    data.iter()
        .map(|x| x.abs())
        .filter(|x| !x.is_nan())
        .fold(0.0, f32::max)
}
