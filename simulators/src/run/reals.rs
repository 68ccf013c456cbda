//! The reals in front of a layer's quantizer.

use super::{Runner, Sums, at};
use crate::kernels::vectorize;
use crate::network::{Kind, Linear, RowBias, apply_posts, apply_posts_to_all};
use crate::ops::{constant, real};
use crate::tensor::{Data, Tensor};

impl Runner<'_> {
    /// The operation's result before [`Layer::posts`], exactly (in `f64`).
    pub(super) fn results(&self, inputs: &[&Tensor], sums: &Sums) -> Vec<f64> {
        match &self.layer.kind {
            Kind::Linear(linear) => {
                let plan = self.plan.linear.as_ref();
                let unit = plan.map_or(&[][..], |l| &l.unit);
                let biases = plan.map_or(&[][..], |l| &l.bias);
                let channels = self.layer.channels();
                let from_bias = if self.initialized() { 0.0 } else { 1.0 };
                let rows = linear.rows.as_ref();
                let row = |rows: &RowBias, i: usize| rows.entries.reals[rows.channels.of_index(i)];
                let factor = self.real_factor(linear);
                let mut reals: Vec<f64> = match sums {
                    Sums::I32(v) => v.iter().map(|&s| f64::from(s)).collect(),
                    Sums::I64(v, _) => v.iter().map(|&s| s as f64).collect(),
                    Sums::Real(v) => v.iter().map(|&s| s * factor).collect(),
                    Sums::None => Vec::new(),
                };
                for (c, run) in channels.runs(reals.len()) {
                    let (unit, bias) = (unit[c], biases[c] * from_bias);
                    let start = run.start;
                    for (i, real) in reals[run].iter_mut().enumerate() {
                        let row = rows.map_or(0.0, |rows| row(rows, start + i));
                        *real = *real * unit + (bias + row);
                    }
                }
                reals
            }
            Kind::MatMul(matmul) => match sums {
                Sums::I64(v, _) => {
                    let unit: f64 = matmul
                        .operands
                        .iter()
                        .filter_map(|o| o.resolve(inputs).grid().map(|g| g.scale.at(0)))
                        .product();
                    v.iter().map(|&s| s as f64 * unit).collect()
                }
                Sums::Real(v) => v.clone(),
                _ => Vec::new(),
            },
            Kind::Binary { op, operands, .. } => {
                let [a, b] = operands.each_ref().map(|o| o.resolve(inputs));
                let out = &self.layer.result_shape;
                let (ia, ib) = (
                    real::broadcast_index(&a.shape, out),
                    real::broadcast_index(&b.shape, out),
                );
                let (a, b) = (a.to_real(), b.to_real());
                (0..out.iter().product())
                    .map(|i| real::binary(*op, a[at(ia.as_deref(), i)], b[at(ib.as_deref(), i)]))
                    .collect()
            }
            Kind::Average { windows, .. } => {
                let divisor = |i: usize| f64::from(windows.divisors[i % windows.len().max(1)]);
                match &inputs[0].data {
                    // An exact sum, one product and one quotient.
                    Data::Codes { codes, grid } if grid.is_uniform() => {
                        let zero = grid.zero_point.at(0);
                        let scale = grid.scale.at(0);
                        let sums = windows.fold(codes, 0i64, |a, q| a + i64::from(q) - zero);
                        let mean = |(i, s): (usize, i64)| s as f64 * scale / divisor(i);
                        sums.into_iter().enumerate().map(mean).collect()
                    }
                    _ => {
                        let sums = windows.fold(&inputs[0].to_real(), 0.0, |a: f64, v| a + v);
                        sums.into_iter()
                            .enumerate()
                            .map(|(i, s)| s / divisor(i))
                            .collect()
                    }
                }
            }
            Kind::MaxPool(windows) => {
                windows.fold(&inputs[0].to_real(), f64::NEG_INFINITY, f64::max)
            }
            Kind::Movement(movement) => movement.apply(inputs[0]).to_real().into_owned(),
            Kind::Concat { axis, operands } => {
                let parts: Vec<&Tensor> = operands.iter().map(|o| o.resolve(inputs)).collect();
                constant::concat(&parts, *axis, &self.layer.result_shape)
                    .to_real()
                    .into_owned()
            }
            Kind::Resample(resize) => {
                real::resample(resize, &inputs[0].to_real(), &inputs[0].shape)
            }
            Kind::Softmax { axis, beta } => real::softmax(
                &inputs[0].to_real(),
                &inputs[0].shape,
                *axis,
                f64::from(*beta),
            ),
            Kind::DynamicQuantize(part) => real::dynamic_quantize(*part, &inputs[0].to_real(), 1.0),
            // Only codes can be read anew: no plan asks for the reals in between.
            Kind::Pass | Kind::Reinterpret { .. } => inputs[0].to_real().into_owned(),
        }
    }

    /// `alpha` where the unit does not hold it: real sums carry no scale of their own.
    pub(crate) fn real_factor(&self, linear: &Linear) -> f64 {
        let unit = self
            .plan
            .linear
            .as_ref()
            .and_then(|l| l.unit.first().copied());
        if unit == Some(1.0) {
            linear.factor
        } else {
            1.0
        }
    }

    /// The reals in front of the quantizer.
    pub fn reals(&self, inputs: &[&Tensor], sums: &Sums) -> Vec<f64> {
        let mut values = self.results(inputs, sums);
        apply_posts_to_all(&self.layer.posts, &mut values);
        values
    }

    /// The real in front of the quantizer at one element of a layer of integer sums; `None` where it is
    /// not made of one sum.
    pub fn real_at(&self, sums: &Sums, index: usize) -> Option<f64> {
        let Kind::Linear(Linear { rows: None, .. }) = &self.layer.kind else {
            return None;
        };
        let sum = match sums {
            Sums::I32(v) => f64::from(v[index]),
            _ => return None,
        };
        let c = self.layer.channels().of_index(index);
        let plan = self.plan.linear.as_ref()?;
        let real = sum * plan.unit[c] + plan.bias[c];
        Some(apply_posts(&self.layer.posts, real, index))
    }

    /// Largest magnitude in front of [`Layer::posts`](crate::network::Layer::posts) of a layer of integer sums.
    pub fn largest(&self, sums: &Sums) -> Option<f64> {
        let (Kind::Linear(Linear { rows: None, .. }), Sums::I32(sums)) = (&self.layer.kind, sums)
        else {
            return None;
        };
        let plan = self.plan.linear.as_ref()?;
        let channels = self.layer.channels();
        let mut largest = 0.0f64;
        for (c, run) in channels.runs(sums.len()) {
            let sum = vectorize(
                self.isa,
                #[inline(always)]
                || sums[run].iter().fold(0u32, |m, s| m.max(s.unsigned_abs())),
            );
            largest = largest.max(f64::from(sum) * plan.unit[c].abs() + plan.bias[c].abs());
        }
        Some(largest)
    }
}
