//! The sums of products of a layer.

use super::ends::convolve;
use super::{Runner, Sums, at};
use crate::buffers::Buffers;
use crate::kernels::{OverflowCount, conv_f64, conv_in_order, lose_in_pairs};
use crate::network::{Kind, Linear};
use crate::ops::real;
use crate::plan::{Paired, Sum};
use crate::tensor::{Data, Tensor};

impl Runner<'_> {
    /// The sums of products: the expensive part, which plans with
    /// [`shares_sums`](crate::plan::LayerPlan::shares_sums) need once for the same inputs.
    pub fn sums(&self, inputs: &[&Tensor]) -> Sums {
        self.sums_in(inputs, &mut Buffers::default())
    }

    /// [`sums`](Self::sums) in memory that is used again.
    pub fn sums_in(&self, inputs: &[&Tensor], buffers: &mut Buffers) -> Sums {
        match &self.layer.kind {
            Kind::Linear(linear) => self.linear(linear, inputs[0], buffers),
            Kind::MatMul(matmul) => {
                let [a, b] = matmul.operands.each_ref().map(|o| o.resolve(inputs));
                let shapes = matmul.shapes.each_ref().map(Vec::as_slice);
                match (&a.data, &b.data) {
                    (
                        Data::Codes {
                            codes: qa,
                            grid: ga,
                        },
                        Data::Codes {
                            codes: qb,
                            grid: gb,
                        },
                    ) if ga.is_uniform() && gb.is_uniform() => {
                        let (za, zb) = (ga.zero_point.at(0), gb.zero_point.at(0));
                        let sums = products(shapes, &self.layer.result_shape, |i, j| {
                            (i64::from(qa[i]) - za) * (i64::from(qb[j]) - zb)
                        });
                        Sums::I64(sums, OverflowCount::default())
                    }
                    _ => {
                        let (a, b) = (a.to_real(), b.to_real());
                        Sums::Real(products(shapes, &self.layer.result_shape, |i, j| {
                            a[i] * b[j]
                        }))
                    }
                }
            }
            _ => Sums::None,
        }
    }

    fn linear(&self, linear: &Linear, x: &Tensor, buffers: &mut Buffers) -> Sums {
        let Some(plan) = &self.plan.linear else {
            return Sums::None;
        };
        let (image, output) = (linear.image_len(), linear.output_len());
        match (&plan.sum, &x.data) {
            (Sum::Fast { .. }, Data::Codes { codes, .. }) => {
                let mut sums = buffers.words(linear.batch * output);
                convolve(linear, plan, codes, Some(&mut sums), Vec::new());
                if let Some(paired) = &plan.pairs {
                    let mut wide: Vec<i64> = sums.iter().map(|&sum| i64::from(sum)).collect();
                    let count = lose(linear, paired, codes, &mut wide);
                    if count.elements > 0 {
                        return Sums::I64(linear.to_output(wide), in_output(linear, count));
                    }
                }
                Sums::I32(linear.to_output(sums))
            }
            (
                Sum::InOrder {
                    weights,
                    start,
                    bits,
                    overflow,
                    channel_first,
                    zero,
                    ..
                },
                Data::Codes { codes, .. },
            ) => {
                let centred: Vec<i32> = codes
                    .iter()
                    .map(|&q| (i64::from(q) - zero) as i32)
                    .collect();
                let images = linear.images(&centred, 0);
                let mut sums = vec![0i64; linear.batch * output];
                let (mut count, mut before) = (OverflowCount::default(), 0);
                for (x, out) in images
                    .chunks_exact(image.max(1))
                    .zip(sums.chunks_exact_mut(output.max(1)))
                {
                    let one = conv_in_order(
                        &linear.shape,
                        x,
                        0,
                        weights,
                        start,
                        *bits,
                        *overflow,
                        *channel_first,
                        out,
                    );
                    count.append(&one, before);
                    before += output;
                }
                if let Some(paired) = &plan.pairs {
                    count = lose(linear, paired, codes, &mut sums);
                }
                Sums::I64(linear.to_output(sums), in_output(linear, count))
            }
            (sum, _) => {
                let reals = x.to_real();
                let (weights, channel_first) = match sum {
                    Sum::Real {
                        weights,
                        channel_first,
                    } => (&weights[..], *channel_first),
                    // A plan for codes that is given reals: unreachable, planning follows the grids.
                    _ => return Sums::None,
                };
                let images = linear.images(&reals, 0.0);
                let mut sums = vec![0.0; linear.batch * output];
                for (x, out) in images
                    .chunks_exact(image.max(1))
                    .zip(sums.chunks_exact_mut(output.max(1)))
                {
                    conv_f64(self.isa, &linear.shape, x, 0.0, weights, channel_first, out);
                }
                Sums::Real(linear.to_output(sums))
            }
        }
    }
}

/// Takes from exact sums what they lose where pairs of products saturate.
fn lose(linear: &Linear, paired: &Paired, codes: &[i32], sums: &mut [i64]) -> OverflowCount {
    let bytes: Vec<u8> = codes
        .iter()
        .map(|&q| (i64::from(q) + paired.offset) as u8)
        .collect();
    let images = linear.images(&bytes, paired.pad);
    let (image, output) = (linear.image_len().max(1), linear.output_len().max(1));
    let (mut count, mut before) = (OverflowCount::default(), 0);
    for (x, out) in images
        .chunks_exact(image)
        .zip(sums.chunks_exact_mut(output))
    {
        let one = lose_in_pairs(&linear.shape, x, paired.pad, &paired.pairs, out);
        count.append(&one, before);
        before += output;
    }
    count
}

/// The flags of sums in the layout of the layer's output.
fn in_output(linear: &Linear, mut count: OverflowCount) -> OverflowCount {
    if !count.flags.is_empty() {
        let flags: Vec<bool> = count.flags.iter().by_vals().collect();
        count.flags = linear.to_output(flags).into_iter().collect();
    }
    count
}

/// Batched matrix products with numpy's broadcasting, summed in order of the inner axis.
fn products<T>(shapes: [&[usize]; 2], out: &[usize], product: impl Fn(usize, usize) -> T) -> Vec<T>
where
    T: Default + Copy + std::ops::Add<Output = T>,
{
    let [a, b] = shapes;
    let (n, k) = (a[a.len() - 2], a[a.len() - 1]);
    let m = b[b.len() - 1];
    let batch = &out[..out.len() - 2];
    let (ia, ib) = (
        real::broadcast_index(&a[..a.len() - 2], batch),
        real::broadcast_index(&b[..b.len() - 2], batch),
    );
    let mut sums = Vec::with_capacity(out.iter().product());
    for at_batch in 0..batch.iter().product() {
        let (a0, b0) = (
            at(ia.as_deref(), at_batch) * n * k,
            at(ib.as_deref(), at_batch) * k * m,
        );
        for row in 0..n {
            for column in 0..m {
                let terms = (0..k).map(|i| product(a0 + row * k + i, b0 + i * m + column));
                sums.push(terms.fold(T::default(), |s, t| s + t));
            }
        }
    }
    sums
}
