//! `[ops] softmax` of codes.

use std::sync::LazyLock;

use align_check_specs::{Quantize, Rounding, SoftmaxRule};

use super::Labels;
use super::real::RealQuantizer;
use crate::num::gemmlowp::{divide_by_pot, exp_negative_32, high_mul_32, reciprocal_of_sum};
use crate::num::lut::Lut16;
use crate::num::{self, FixedMultiplier};

/// Codes that a row may hold where a table has one entry for each distance from the row's largest.
const CODES: i64 = 256;

/// A softmax, bound to its grids.
#[derive(Debug, Clone)]
pub struct Softmax {
    arithmetic: Arithmetic,
    out: Labels,
}

#[derive(Debug, Clone)]
enum Arithmetic {
    /// Exponentials by the distance from the row's largest code, in reals.
    Real(Vec<f64>, RealQuantizer),
    /// Exponentials as large as the sum of a row can hold; `floor(f32(1 / sy))`; whether the quotient is `f32`.
    ExpTable {
        table: Vec<f32>,
        factor: f32,
        single: bool,
    },
    Gemmlowp {
        multiplier: i64,
        shift: i32,
        /// Differences to the largest code below this count as no part of the sum.
        smallest: i64,
    },
    F32Table(Vec<f32>),
    Int16Tables(FixedMultiplier),
}

/// `exp` on `[-10, 0]` (`tflite/kernels/activations.cc`, `InitializeExpLUT`).
static EXP: LazyLock<Lut16> = LazyLock::new(|| {
    let unit = 10.0 / 65535.0;
    Lut16::new(unit * -65535.0, 0.0, libm::exp)
});

/// `1 / (1 + x)` on `[0, 1]`.
static RECIPROCAL: LazyLock<Lut16> = LazyLock::new(|| Lut16::new(0.0, 1.0, |x| 1.0 / (1.0 + x)));

impl Softmax {
    /// Binds the rule to rows of `len` codes. `None`: the rule is the reference's, or the codes are too wide
    /// for it.
    pub fn new(
        rule: SoftmaxRule,
        quantize: &Quantize,
        beta: f32,
        [x, out]: [Labels; 2],
        len: usize,
    ) -> Option<Self> {
        let narrow = x.max - x.min < CODES;
        let distances = || 0..CODES;
        let q31 = |m: f64| FixedMultiplier::from_real(m, 31, Rounding::HalfAway).value;
        let arithmetic = match rule {
            SoftmaxRule::Exact => return None,
            SoftmaxRule::F32 | SoftmaxRule::ExpTable | SoftmaxRule::ExpTableF32 if !narrow => {
                return None;
            }
            SoftmaxRule::F32 => {
                let scale = f64::from(x.scale_f32() * beta);
                let table = distances().map(|d| libm::exp(-(d as f64) * scale));
                Arithmetic::Real(table.collect(), RealQuantizer::new(quantize, out))
            }
            SoftmaxRule::ExpTable | SoftmaxRule::ExpTableF32 => {
                // microsoft/onnxruntime onnxruntime/contrib_ops/cpu/quantization/qlinear_softmax.cc: as large
                // as the sum of a row can hold, with five powers of e to spare.
                let scale = f64::from(x.scale_f32() * beta);
                let logarithm = libm::log(f64::from(f32::MAX / len as f32)) as f32;
                let shift = (f64::from(logarithm) - 5.0).max(0.0) / scale;
                let entry = |d: i64| libm::exp((shift - d as f64) * scale) as f32;
                Arithmetic::ExpTable {
                    table: distances().map(entry).collect(),
                    factor: (1.0 / out.scale_f32()).floor(),
                    single: rule == SoftmaxRule::ExpTableF32,
                }
            }
            // tflite/kernels/internal/quantization_util.cc PreprocessSoftmaxScaling, CalculateInputRadius
            SoftmaxRule::Gemmlowp => {
                let real = f64::from(beta) * x.scale * f64::from(1 << 26);
                let m = q31(real.min(f64::from(i32::MAX)));
                let radius = 31.0 * f64::from(1 << 26) / libm::exp2(f64::from(m.exponent));
                Arithmetic::Gemmlowp {
                    multiplier: m.mantissa,
                    shift: m.exponent.max(0),
                    smallest: -(libm::floor(radius) as i64),
                }
            }
            // tflite/kernels/internal/optimized/optimized_ops.h PopulateSoftmaxLookupTable
            SoftmaxRule::F32Table => {
                let scale = -(x.scale_f32() * beta);
                let entry = |i: u16| libm::exp(f64::from(scale * f32::from(i))) as f32;
                Arithmetic::F32Table((0..256).map(entry).collect())
            }
            SoftmaxRule::Int16Tables => {
                let m = f64::from(x.scale_f32() * beta) / (10.0 / 65535.0);
                Arithmetic::Int16Tables(q31(m))
            }
        };
        Some(Self { arithmetic, out })
    }

    /// Softmax of every row: `extent` codes, `inner` apart.
    pub fn codes(&self, codes: &[i32], extent: usize, inner: usize) -> Vec<i32> {
        let mut out = vec![0; codes.len()];
        for block in (0..codes.len()).step_by((extent * inner).max(1)) {
            for first in block..block + inner {
                let row: Vec<i32> = (0..extent).map(|k| codes[first + k * inner]).collect();
                for (k, code) in self.row(&row).into_iter().enumerate() {
                    out[first + k * inner] = code;
                }
            }
        }
        out
    }

    /// Stored codes of one row from the stored codes of its input.
    pub fn row(&self, codes: &[i32]) -> Vec<i32> {
        let largest = codes.iter().copied().max().unwrap_or(0);
        let differences = codes.iter().map(|&q| i64::from(q) - i64::from(largest));
        match &self.arithmetic {
            Arithmetic::Real(table, quantizer) => {
                let exps: Vec<f64> = differences
                    .map(|d| table[d.unsigned_abs() as usize])
                    .collect();
                let sum: f64 = exps.iter().sum();
                let finish = |e: &f64| quantizer.code((e / sum) as f32);
                exps.iter().map(finish).collect()
            }
            Arithmetic::ExpTable {
                table,
                factor,
                single,
            } => {
                let exps: Vec<f32> = differences
                    .map(|d| table[d.unsigned_abs() as usize])
                    .collect();
                let sum = exps.iter().fold(0.0f32, |sum, e| sum + e);
                let finish = |&e: &f32| {
                    let steps = if *single {
                        f64::from(e * factor / sum)
                    } else {
                        f64::from(e) * f64::from(*factor) / f64::from(sum)
                    };
                    let steps = num::round_f64(steps, Rounding::HalfEven);
                    self.out.store(steps as i64 + self.out.zero_point)
                };
                exps.iter().map(finish).collect()
            }
            Arithmetic::Gemmlowp {
                multiplier,
                shift,
                smallest,
            } => {
                let exps: Vec<Option<i64>> = differences
                    .map(|d| {
                        (d >= *smallest)
                            .then(|| exp_negative_32(high_mul_32(d << shift, *multiplier)))
                    })
                    .collect();
                let sum = exps.iter().flatten().map(|&e| divide_by_pot(e, 12)).sum();
                let (reciprocal, over) = reciprocal_of_sum(sum);
                let finish = |e: Option<i64>| match e {
                    None => self.out.store(self.out.min),
                    Some(e) => {
                        let bits = (over + 31 - 8) as u32;
                        let v = divide_by_pot(high_mul_32(reciprocal, e), bits);
                        self.out.store(v + self.out.min)
                    }
                };
                exps.into_iter().map(finish).collect()
            }
            Arithmetic::F32Table(table) => {
                let exps: Vec<f32> = differences
                    .map(|d| table[d.unsigned_abs().min(255) as usize])
                    .collect();
                let sum = exps.iter().fold(0.0f32, |sum, e| sum + e);
                let inverse = 1.0 / (sum * self.out.scale_f32());
                let finish = |e: &f32| {
                    let v = num::round_f32(e * inverse, Rounding::HalfAway) as i64;
                    self.out.store(v + self.out.zero_point)
                };
                exps.iter().map(finish).collect()
            }
            // tflite/kernels/internal/reference/softmax.h SoftmaxInt16
            Arithmetic::Int16Tables(multiplier) => {
                let exps: Vec<i64> = differences
                    .map(|d| {
                        let code = double_rounded(*multiplier, d) + 32767;
                        EXP.at(code.clamp(-32768, 32767))
                    })
                    .collect();
                let sum: i64 = exps.iter().sum();
                let headroom = i64::from((sum as u32).leading_zeros());
                let shifted = ((sum << (headroom - 1)) + (1 << 13)) >> 14;
                let reciprocal = RECIPROCAL.at((shifted - (3 << 15)).clamp(-32768, 32767));
                let finish = |e: i64| {
                    let v = (e * reciprocal + (1 << (30 - headroom))) >> (31 - headroom);
                    self.out.store(v.clamp(0, 32767) + self.out.zero_point)
                };
                exps.into_iter().map(finish).collect()
            }
        }
    }
}

/// `MultiplyByQuantizedMultiplier` with two roundings.
fn double_rounded(m: FixedMultiplier, x: i64) -> i64 {
    let raised = x << m.exponent.max(0);
    divide_by_pot(high_mul_32(raised, m.mantissa), (-m.exponent).max(0) as u32)
}

#[cfg(test)]
mod tests {
    use align_check_specs::{Division, ZeroPointPosition};

    use super::*;

    const QUANTIZE: Quantize = Quantize {
        division: Division::DivideF32,
        rounding: Rounding::HalfEven,
        zero_point: ZeroPointPosition::AfterRounding,
        tail: None,
    };

    fn labels(scale: f64, zero_point: i64, min: i64, max: i64) -> Labels {
        Labels {
            scale,
            zero_point,
            min,
            max,
            relabel: 0,
        }
    }

    /// Within one step of the real softmax (32 of the int16 rule's 32768), on rows of equal, near and far codes.
    #[test]
    fn rows_stay_near_the_real_softmax() {
        let rows: [&[i32]; 5] = [
            &[0],
            &[-128, 127],
            &[5; 40],
            &[-128, -100, -3, 0, 3, 4, 5, 127],
            &[127; 200],
        ];
        for (rule, out, most) in [
            (
                SoftmaxRule::Gemmlowp,
                labels(1.0 / 256.0, -128, -128, 127),
                1,
            ),
            (
                SoftmaxRule::F32Table,
                labels(1.0 / 256.0, -128, -128, 127),
                1,
            ),
            (
                SoftmaxRule::Int16Tables,
                labels(1.0 / 32768.0, 0, -32768, 32767),
                32,
            ),
        ] {
            for scale in [2f64.powi(-5), 0.1, 1.0] {
                let x = labels(scale, 0, -128, 127);
                let softmax =
                    Softmax::new(rule, &QUANTIZE, 1.0, [x, out], 1).expect("a rule of codes");
                for row in rows {
                    let largest = row.iter().max().expect("not empty");
                    let e = |q: &i32| libm::exp(f64::from(q - largest) * scale);
                    let sum: f64 = row.iter().map(e).sum();
                    for (q, code) in row.iter().zip(softmax.row(row)) {
                        let wanted = libm::round(e(q) / sum / out.scale) as i64 + out.zero_point;
                        let off = (i64::from(code) - wanted.clamp(out.min, out.max)).abs();
                        assert!(
                            off <= most,
                            "{rule:?}, {scale}, {row:?}: {code}, not {wanted}"
                        );
                    }
                }
            }
        }
    }
}
