//! Tables with linear interpolation, as `TFLite`'s int16 kernels have them.

use std::sync::LazyLock;

/// 512 equal pieces over all 16-bit codes, and the values in between
/// (`tflite/kernels/internal/common.h`, `LUTPopulateInt16`, `LUTLookup`).
pub struct Lut16(Vec<i64>);

impl Lut16 {
    /// The table of a function on `[low, high]`, for outputs in units of `2 / 65535`, code 0 meaning 0.
    pub fn new(low: f64, high: f64, function: impl Fn(f64) -> f64) -> Self {
        let unit = 2.0 / 65535.0;
        let inverse = 65536.0 / (unit * 32767.0 - unit * -32768.0);
        let step = (high - low) / 512.0;
        let half_step = step / 2.0;
        let round = libm::round;
        let clamp = |v: f64| v.clamp(-32768.0, 32767.0) as i64;
        let mut entries: Vec<i64> = (0..512)
            .map(|i| {
                let x = low + f64::from(i) * step;
                let sample = round(function(x) * inverse);
                let middle = round(function(x + half_step) * inverse);
                let next = function(low + f64::from(i + 1) * step) * inverse;
                let between = round(f64::midpoint(next, sample));
                clamp(sample - round((between - middle) / 2.0))
            })
            .collect();
        entries.push(clamp(round(function(high) * inverse)));
        Self(entries)
    }

    /// The function of a 16-bit code.
    pub fn at(&self, code: i64) -> i64 {
        let index = (256 + (code >> 7)) as usize;
        let (base, next) = (self.0[index], self.0[index + 1]);
        base + (((next - base) * (code & 127) + 64) >> 7)
    }
}

/// Entries of `TFLite`'s table that are one above the rounded sigmoid.
const ONE_ABOVE: [usize; 44] = [
    4, 8, 12, 14, 15, 16, 17, 19, 20, 21, 22, 25, 27, 28, 29, 30, 31, 33, 34, 35, 37, 39, 40, 41,
    43, 44, 45, 46, 49, 50, 54, 62, 63, 64, 66, 82, 86, 93, 100, 103, 112, 116, 135, 255,
];

/// `round(65536 * sigmoid(i / 24))`, at most 65535, with the deviations of `TFLite`'s stored table
/// (`tflite/kernels/internal/common.h`, `sigmoid_table_uint16`; inferred from recordings).
static SIGMOID: LazyLock<Vec<i64>> = LazyLock::new(|| {
    (0..256)
        .map(|i| {
            let exact = 65536.0 / (1.0 + libm::exp(-(i as f64) / 24.0));
            let rounded = (exact.round_ties_even() as i64).min(65535);
            rounded + i64::from(ONE_ABOVE.contains(&i))
        })
        .collect()
});

/// What the input is multiplied by, and the shift to the left, before the table: `3 * 4096 * scale` with as
/// many bits as fit 15; the bare 3 where the scale is that power of two.
pub struct TableInput {
    multiplier: i64,
    shift: u32,
}

/// The exponent of a scale in units of 2^-12, where gemmlowp's functions take it: 0, and 1 for `Tanh`.
pub fn gemmlowp_shift(scale: f64, tanh: bool) -> Option<u32> {
    let exponent = super::power_of_two(scale)?;
    let most = u32::from(tanh);
    u32::try_from(exponent + 12).ok().filter(|&s| s <= most)
}

impl TableInput {
    /// For an input scale (`tflite/kernels/activations.cc`, `SigmoidPrepare`, `TanhPrepare`).
    pub fn new(scale: f64, tanh: bool) -> Self {
        if let Some(shift) = gemmlowp_shift(scale, tanh) {
            return Self {
                multiplier: 3 << shift,
                shift: 0,
            };
        }
        let (mut m, mut shift) = (scale * 4096.0 * 3.0, 0);
        while m <= 32767.0 / 2.0 && shift <= 30 {
            shift += 1;
            m *= 2.0;
        }
        Self {
            multiplier: m as i64,
            shift,
        }
    }

    fn of(&self, code: i64) -> i64 {
        let half = (1i64 << self.shift) >> 1;
        (code * self.multiplier + half) >> self.shift
    }

    /// The sigmoid of a code with zero point 0, as Q0.15
    /// (`tflite/kernels/internal/reference/integer_ops/logistic.h`).
    pub fn logistic(&self, code: i64) -> i64 {
        let x = self.of(code);
        let (whole, part) = (x.abs() >> 9, x.abs() & 511);
        let value = if whole >= 255 {
            0x7FFF << 10
        } else {
            let at = SIGMOID[whole as usize];
            (at << 9) + part * (SIGMOID[whole as usize + 1] - at)
        };
        let value = if x >= 0 {
            value + (1 << 9)
        } else {
            (1 << 25) - value + (1 << 9) - 1
        };
        value >> 10
    }

    /// The hyperbolic tangent of a code with zero point 0, as Q0.15
    /// (`tflite/kernels/internal/reference/integer_ops/tanh.h`).
    pub fn tanh(&self, code: i64) -> i64 {
        let x = self.of(code);
        let (whole, part) = (x.abs() >> 8, x.abs() & 255);
        let value = if whole >= 255 {
            0xFFFF << 8
        } else {
            let at = SIGMOID[whole as usize];
            (at << 8) + part * (SIGMOID[whole as usize + 1] - at)
        };
        let value = if x >= 0 {
            value - (1 << 23) + (1 << 7)
        } else {
            (1 << 23) + (1 << 7) - 1 - value
        };
        value >> 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_stay_near_their_functions() {
        let exp = Lut16::new(-10.0, 0.0, libm::exp);
        let reciprocal = Lut16::new(0.0, 1.0, |x| 1.0 / (1.0 + x));
        for code in i64::from(i16::MIN)..=i64::from(i16::MAX) {
            let part = (code + 32768) as f64 / 65536.0;
            let wanted = libm::exp(10.0 * part - 10.0) * 32767.5;
            assert!((exp.at(code) as f64 - wanted).abs() < 4.0, "exp {code}");
            let wanted = 32767.5 / (1.0 + part);
            assert!((reciprocal.at(code) as f64 - wanted).abs() < 2.0, "{code}");
        }
    }

    #[test]
    fn sigmoid_and_tanh_stay_near_their_functions_and_in_range() {
        for scale in [2f64.powi(-12), 2f64.powi(-11), 1e-4, 7.3e-4] {
            let (sigmoid, tanh) = (TableInput::new(scale, false), TableInput::new(scale, true));
            for code in i64::from(i16::MIN)..=i64::from(i16::MAX) {
                let x = code as f64 * scale;
                let (s, t) = (sigmoid.logistic(code), tanh.tanh(code));
                assert!((s as f64 - 32768.0 / (1.0 + libm::exp(-x))).abs() < 16.0);
                assert!((t as f64 - 32768.0 * libm::tanh(x)).abs() < 48.0, "{code}");
                assert!((0..=32767).contains(&s) && (-32768..=32767).contains(&t));
            }
        }
    }
}
