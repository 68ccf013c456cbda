//! Softmax over rows of codes.

use align_check_specs::{Quantize, Rounding, SoftmaxRule};

use super::Labels;
use super::real::RealQuantizer;
use crate::num;

/// Codes that a row may hold: the table has one entry for each distance from the row's largest.
const CODES: i64 = 256;

/// `[ops] softmax`, bound to its grids and the length of a row.
#[derive(Debug, Clone)]
pub struct Softmax {
    rule: SoftmaxRule,
    out: Labels,
    quantizer: RealQuantizer,
    /// `e` by the distance from the row's largest code.
    table: Vec<f64>,
    /// `floor(f32(1 / sy))`.
    factor: f32,
}

impl Softmax {
    /// Binds the rule to rows of `len` codes. `None`: the rule is the reference's, or the codes are too wide.
    pub fn new(
        rule: SoftmaxRule,
        quantize: &Quantize,
        x: Labels,
        out: Labels,
        len: usize,
    ) -> Option<Self> {
        if rule == SoftmaxRule::Exact || x.max - x.min >= CODES {
            return None;
        }
        // microsoft/onnxruntime onnxruntime/contrib_ops/cpu/quantization/qlinear_softmax.cc: as large as the
        // sum of a row can hold, with five powers of e to spare.
        let scale = f64::from(x.scale_f32());
        let logarithm = libm::log(f64::from(f32::MAX / len as f32)) as f32;
        let shift = (f64::from(logarithm) - 5.0).max(0.0) / scale;
        Some(Self {
            rule,
            out,
            quantizer: RealQuantizer::new(quantize, out),
            table: (0..CODES)
                .map(|distance| match rule {
                    SoftmaxRule::F32 => libm::exp(-(distance as f64) * scale),
                    _ => f64::from(libm::exp((shift - distance as f64) * scale) as f32),
                })
                .collect(),
            factor: (1.0 / out.scale_f32()).floor(),
        })
    }

    /// Softmax of every row: `extent` codes, `inner` apart.
    pub fn codes(&self, codes: &[i32], extent: usize, inner: usize) -> Vec<i32> {
        let mut out = vec![0; codes.len()];
        for block in (0..codes.len()).step_by((extent * inner).max(1)) {
            for first in block..block + inner {
                let row = (0..extent).map(|k| first + k * inner);
                let largest = row.clone().map(|i| codes[i]).max().unwrap_or(0);
                let e = |i: usize| self.table[(largest - codes[i]) as usize];
                let sum = match self.rule {
                    SoftmaxRule::F32 => row.clone().map(e).sum(),
                    _ => f64::from(row.clone().fold(0.0, |sum: f32, i| sum + e(i) as f32)),
                };
                for i in row {
                    out[i] = self.code(e(i), sum);
                }
            }
        }
        out
    }

    fn code(&self, e: f64, sum: f64) -> i32 {
        let steps = match self.rule {
            SoftmaxRule::F32 | SoftmaxRule::Exact => {
                return self.quantizer.code((e / sum) as f32);
            }
            SoftmaxRule::ExpTable => e * f64::from(self.factor) / sum,
            SoftmaxRule::ExpTableF32 => f64::from(e as f32 * self.factor / sum as f32),
        };
        let steps = num::round_f64(steps, Rounding::HalfEven);
        self.out.store(steps as i64 + self.out.zero_point)
    }
}
