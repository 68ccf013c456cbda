//! The steps of one element's arithmetic, written down by the definitions that compute it.
//!
//! Definitions take a [`Trace`] and hand each of their results through it. A trace that is off costs one comparison a
//! step and allocates nothing; what it would say is not even made into a text.

use std::fmt;

use align_check_specs::Rounding;

use super::{Flagged, Flags, round, round_f32, round_f64, shift_right};

/// Longest exact decimal that is written out; longer ones are given as an integer times a power of two.
const MOST_DIGITS: usize = 24;

/// A number as it is held: an integer, or a float of one of two widths.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Exact {
    /// An integer.
    Int(i128),
    /// A float of 32 bits.
    F32(f32),
    /// A float of 64 bits.
    F64(f64),
}

impl From<i64> for Exact {
    fn from(x: i64) -> Self {
        Self::Int(x.into())
    }
}

impl From<i32> for Exact {
    fn from(x: i32) -> Self {
        Self::Int(x.into())
    }
}

impl From<i128> for Exact {
    fn from(x: i128) -> Self {
        Self::Int(x)
    }
}

impl From<f32> for Exact {
    fn from(x: f32) -> Self {
        Self::F32(x)
    }
}

impl From<f64> for Exact {
    fn from(x: f64) -> Self {
        Self::F64(x)
    }
}

impl Exact {
    /// The shortest decimal that stands for no other number of the same width.
    pub fn short(self) -> String {
        let text = |x: f64, plain: String, small: String| match x.abs() {
            0.0 => "0".to_owned(),
            1e-4..1e16 => plain,
            _ => small,
        };
        match self {
            Self::Int(x) => x.to_string(),
            Self::F32(x) => text(x.into(), x.to_string(), format!("{x:e}")),
            Self::F64(x) => text(x, x.to_string(), format!("{x:e}")),
        }
    }

    /// Mantissa and exponent: the number is `m * 2^e` with an odd `m`. `None` of integers, zero, and what is no number.
    pub fn parts(self) -> Option<(i64, i32)> {
        let x = match self {
            Self::Int(_) => return None,
            Self::F32(x) => f64::from(x),
            Self::F64(x) => x,
        };
        if x == 0.0 || !x.is_finite() {
            return None;
        }
        let (fraction, exponent) = libm::frexp(x);
        // 53 bits: exact.
        let whole = libm::ldexp(fraction, 53) as i64;
        let zeros = whole.trailing_zeros();
        Some((whole >> zeros, exponent - 53 + zeros.cast_signed()))
    }
}

/// Exactly: as a decimal where that is short, else with its integer and power of two.
impl fmt::Display for Exact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((mantissa, exponent)) = self.parts() else {
            return f.write_str(&self.short());
        };
        let x = match *self {
            Self::F32(x) => f64::from(x),
            Self::F64(x) => x,
            Self::Int(_) => return f.write_str(&self.short()),
        };
        let digits = exponent.min(0).unsigned_abs() as usize;
        if digits < MOST_DIGITS && x.abs() < 1e18 {
            let decimal = format!("{x:.digits$}");
            if decimal.len() <= MOST_DIGITS {
                return f.write_str(&decimal);
            }
        }
        write!(f, "{} (exactly {mantissa} * 2^{exponent})", self.short())
    }
}

/// One step: what it is called, what was done with which numbers, and what came out.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// A word for what it makes.
    pub name: &'static str,
    /// How.
    pub how: String,
    /// The result.
    pub value: Exact,
    /// What happened.
    pub flags: Flags,
}

/// Collects steps, or nothing.
#[derive(Debug, Default)]
pub struct Trace(Option<Vec<Step>>);

impl Trace {
    /// Collects nothing.
    pub const fn off() -> Self {
        Self(None)
    }

    /// Collects.
    pub const fn on() -> Self {
        Self(Some(Vec::new()))
    }

    /// What was collected.
    pub fn into_steps(self) -> Vec<Step> {
        self.0.unwrap_or_default()
    }

    /// Whether it collects.
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// A result, handed through.
    pub fn step<V: Into<Exact> + Copy>(
        &mut self,
        name: &'static str,
        how: impl FnOnce() -> String,
        value: V,
    ) -> V {
        self.flagged(name, how, Flagged::exact(value)).value
    }

    /// A result with flags, handed through.
    pub fn flagged<V: Into<Exact> + Copy>(
        &mut self,
        name: &'static str,
        how: impl FnOnce() -> String,
        value: Flagged<V>,
    ) -> Flagged<V> {
        if let Some(steps) = &mut self.0 {
            steps.push(Step {
                name,
                how: how(),
                value: value.value.into(),
                flags: value.flags,
            });
        }
        value
    }

    /// [`round_f32`], handed through.
    pub fn round_f32(&mut self, x: f32, r: Rounding) -> f32 {
        let value = round_f32(x, r);
        if self.is_on() {
            let flags = round(x.into(), r).flags;
            let value = Flagged::new(value, flags);
            let _ = self.flagged("rounded", || rounding(x.into(), x.into(), r), value);
        }
        value
    }

    /// [`round_f64`], handed through.
    pub fn round_f64(&mut self, x: f64, r: Rounding) -> f64 {
        let value = round_f64(x, r);
        if self.is_on() {
            let flags = round(x, r).flags;
            let value = Flagged::new(value, flags);
            let _ = self.flagged("rounded", || rounding(x.into(), x, r), value);
        }
        value
    }

    /// A rounding that was done, of `x`, which is held as `shown`.
    pub fn rounded(&mut self, shown: Exact, x: f64, r: Rounding, value: Flagged<f64>) {
        let value = match shown {
            Exact::F32(_) => value.map(|v| Exact::F32(v as f32)),
            _ => value.map(Exact::F64),
        };
        let _ = self.flagged("rounded", || rounding(shown, x, r), value);
    }

    /// [`shift_right`], handed through.
    pub fn shift_right(&mut self, x: i128, bits: u32, r: Rounding) -> Flagged<i128> {
        let shifted = shift_right(x, bits, r);
        self.flagged("shifted", || shift(x, bits, r), shifted)
    }
}

/// The shortest decimal of a number.
pub fn short(x: impl Into<Exact>) -> String {
    x.into().short()
}

/// `half-even of 12.46875 (0.03125 below the tie at 12.5)`.
fn rounding(shown: Exact, x: f64, r: Rounding) -> String {
    let tie = x.floor() + 0.5;
    let away = match shown {
        // Exact: both lie in one unit, on the grid of x.
        Exact::F32(x) => Exact::F32((x - tie as f32).abs()),
        _ => Exact::F64((x - tie).abs()),
    };
    let side = if x < tie { "below" } else { "above" };
    if !x.is_finite() || x.fract() == 0.0 {
        format!("{} of {shown}: an integer", word(r))
    } else if x == tie {
        format!("{} of {shown}: a tie", word(r))
    } else {
        format!(
            "{} of {shown}: {} {side} the tie at {}",
            word(r),
            away.short(),
            Exact::F64(tie).short()
        )
    }
}

/// `1234567 / 2^8: 4822 and 135 of 256 dropped, half-up`.
fn shift(x: i128, bits: u32, r: Rounding) -> String {
    if bits == 0 {
        return format!("{x} / 2^0");
    }
    if bits > 126 {
        return format!("{x} / 2^{bits}, {}", word(r));
    }
    let dropped = x & ((1 << bits) - 1);
    format!(
        "{x} / 2^{bits} = {}, and {dropped} of {} dropped, {}{}",
        x >> bits,
        1i128 << bits,
        word(r),
        if dropped == 1 << (bits - 1) {
            ": a tie"
        } else {
            ""
        }
    )
}

/// A rounding's name in specs.
pub fn word(r: Rounding) -> &'static str {
    r.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_exactly() {
        for (number, wanted) in [
            (Exact::F32(0.5), "0.5"),
            (Exact::F32(-131.25), "-131.25"),
            (Exact::F32(0.1), "0.1 (exactly 13421773 * 2^-27)"),
            (Exact::F64(0.1), "0.1 (exactly 3602879701896397 * 2^-55)"),
            (Exact::F32(0.0), "0"),
            (Exact::F32(16_777_216.0), "16777216"),
            (Exact::Int(-7), "-7"),
            (Exact::F32(f32::INFINITY), "inf"),
        ] {
            assert_eq!(number.to_string(), wanted);
        }
    }

    /// Whatever is written stands for the number itself.
    #[test]
    fn parts_make_the_number_again() {
        for x in [0.1f64, -3.75, 1e-30, 1e300, f64::MIN_POSITIVE, 5e-324] {
            let (mantissa, exponent) = Exact::F64(x).parts().expect("a number");
            assert_eq!(libm::ldexp(mantissa as f64, exponent), x, "{x}");
            assert_eq!(mantissa & 1, 1, "{x}");
        }
    }

    #[test]
    fn a_trace_hands_results_through() {
        for mut trace in [Trace::off(), Trace::on()] {
            assert_eq!(trace.step("sum", || "1 + 2".into(), 3i64), 3);
            assert_eq!(trace.round_f32(2.5, Rounding::HalfEven), 2.0);
            assert_eq!(trace.shift_right(-3, 1, Rounding::HalfUp).value, -1);
            let on = trace.is_on();
            let steps = trace.into_steps();
            assert_eq!(steps.len(), if on { 3 } else { 0 });
            if on {
                assert!(steps[1].flags.contains(Flags::TIE));
                assert_eq!(
                    steps[2].how,
                    "-3 / 2^1 = -2, and 1 of 2 dropped, half-up: a tie"
                );
            }
        }
    }
}
