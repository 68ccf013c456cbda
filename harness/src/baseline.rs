//! The noise of the fake-quant model itself: its quantizers to the letter, its sums in `f32`, one after the other.
//!
//! A framework that trains or evaluates the model sums in `f32`, too, in an order of its own; where such a run ends in
//! other codes than exact arithmetic, a target that ends no further away has not drifted.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use align_check_simulators::kernels::{ConvShape, Isa, vectorize};
use align_check_simulators::network::{Kind, Layer, Linear, apply_posts};
use align_check_simulators::plan::LayerPlan;
use align_check_simulators::quantize;
use align_check_simulators::run::{Runner, Sums};
use align_check_simulators::tensor::Tensor;
use anyhow::Result;
use rayon::prelude::*;

use crate::check::Check;
use crate::compare;
use crate::inputs::{Sample, Source};
use crate::lanes;
use crate::outcome::Baseline;
use crate::sample;

/// Runs the model in `f32` next to the exact reference, on a range of samples. `None` where no float run of the model
/// exists, because its file computes in integers, and where `stop` ended it.
///
/// # Errors
/// As the check of these samples.
pub fn run(
    check: &Check,
    source: &dyn Source,
    range: Range<usize>,
    compared: &[bool],
    stop: &AtomicBool,
) -> Result<Option<Baseline>> {
    if check.network.graph.integer {
        return Ok(None);
    }
    let mut all = Baseline::default();
    let work = |number: usize| one(check, &*source.load(number)?, compared);
    let end = lanes::in_order(range.clone(), stop, &work, &mut |_, found| {
        all.add(&found);
        Ok(())
    })?;
    Ok((end == range.end).then_some(all))
}

fn one(check: &Check, sample: &Sample, compared: &[bool]) -> Result<Baseline> {
    let network = check.network;
    let mut exact = sample::inputs(check.network, &check.reference.grids, sample)?;
    let mut float = exact.clone();
    let mut layers = vec![0; network.layers.len()];
    for (index, last) in network.last_uses().into_iter().enumerate() {
        let layer = &network.layers[index];
        let runner = Runner {
            layer,
            plan: &check.reference.plans[index],
            isa: check.isa,
        };
        let of = |values: &sample::Values| sample::take(values, layer);
        let inputs = of(&exact)?;
        let inputs = sample::borrowed(&inputs);
        let expected = Arc::new(runner.finish(&inputs, &runner.sums(&inputs)));
        let inputs = of(&float)?;
        let got = in_float(&runner, &sample::borrowed(&inputs));
        let lsb = sample::lsb(check, layer);
        let differing = compare::compare(&expected, &got, &lsb).0.differing;
        let reals = expected.grid().is_none();
        // Reals that no quantizer ends differ in their last bits: nobody counts these as codes.
        if compared[index] && !(reals && layer.quantizer.is_none()) {
            layers[index] = differing;
        }
        exact[layer.output] = Some(expected.clone());
        float[layer.output] = Some(if differing == 0 && !reals {
            expected
        } else {
            Arc::new(got)
        });
        for value in last {
            exact[value] = None;
            float[value] = None;
        }
    }
    let outputs = network.graph.outputs.iter().map(|&value| {
        let (Some(a), Some(b)) = (&exact[value], &float[value]) else {
            return 0;
        };
        if a.grid().is_none() {
            return 0;
        }
        compare::compare(a, b, &compare::Lsb::unit()).0.differing
    });
    Ok(Baseline {
        outputs: outputs.sum(),
        layers,
    })
}

/// A layer of the model as a framework computes it: sums in `f32`, one product after the other.
fn in_float(runner: &Runner, inputs: &[&Tensor]) -> Tensor {
    let layer = runner.layer;
    match &layer.kind {
        Kind::Linear(linear) => match &runner.plan.linear {
            Some(plan) => {
                let sums = products(runner.isa, linear, inputs[0]);
                let unit = &plan.unit;
                // Where the unit is 1, the sums are reals already and `alpha` comes behind them.
                let factor = if unit.first() == Some(&1.0) {
                    1.0
                } else {
                    linear.factor
                };
                let channels = layer.channels();
                let scaled = sums
                    .iter()
                    .enumerate()
                    .map(|(i, &sum)| f64::from(sum) * factor / unit[channels.of_index(i)]);
                let sums = Sums::Real(scaled.collect());
                runner.finish(inputs, &sums)
            }
            None => runner.finish(inputs, &runner.sums(inputs)),
        },
        Kind::Average { windows, .. } => {
            let x: Vec<f32> = inputs[0].to_real().iter().map(|&v| v as f32).collect();
            let sums = windows.fold(&x, 0.0f32, |sum, v| sum + v);
            let mean =
                |(i, sum): (usize, f32)| sum / windows.divisors[i % windows.len().max(1)] as f32;
            let means: Vec<f32> = sums.into_iter().enumerate().map(mean).collect();
            ended(layer, runner.plan, means)
        }
        _ => runner.finish(inputs, &runner.sums(inputs)),
    }
}

/// Steps and quantizer behind reals.
fn ended(layer: &Layer, plan: &LayerPlan, mut values: Vec<f32>) -> Tensor {
    for (i, v) in values.iter_mut().enumerate() {
        *v = apply_posts(&layer.posts, f64::from(*v), i) as f32;
    }
    let shape = layer.shape.clone();
    let reals = |values: Vec<f32>| values.into_iter().map(f64::from).collect();
    let Some(quantizer) = &layer.quantizer else {
        return Tensor::real(shape, reals(values));
    };
    if let align_check_simulators::adapt::ValueGrid::Codes { grid, .. } = &plan.out
        && let Some(codes) = quantize::codes(quantizer, &values, &shape)
    {
        return Tensor::codes(shape, codes, grid.clone());
    }
    let out = quantize::evaluate(quantizer, &values, &shape);
    Tensor::real(shape, reals(out))
}

/// Sums of products in `f32`: input channel, kernel row, kernel column, each product and each sum rounded.
fn products(isa: Isa, linear: &Linear, x: &Tensor) -> Vec<f32> {
    // A code's real is one product in f32.
    let x: Vec<f32> = x.to_real().iter().map(|&v| v as f32).collect();
    let weights: Vec<f32> = linear.weights.to_real().iter().map(|&v| v as f32).collect();
    let images = linear.images(&x, 0.0);
    let (image, output) = (linear.image_len(), linear.output_len());
    let mut sums = vec![0.0; linear.batch * output];
    for (x, out) in images
        .chunks_exact(image.max(1))
        .zip(sums.chunks_exact_mut(output.max(1)))
    {
        let plane = linear.shape.out_height * linear.shape.out_width;
        let channel = |(m, out): (usize, &mut [f32])| {
            vectorize(
                isa,
                #[inline(always)]
                || convolve(&linear.shape, x, &weights, m, out),
            );
        };
        out.par_chunks_mut(plane.max(1))
            .enumerate()
            .for_each(channel);
    }
    linear.to_output(sums)
}

/// One output channel.
#[allow(
    clippy::inline_always,
    reason = "must be compiled with its caller's target features"
)]
#[inline(always)]
fn convolve(shape: &ConvShape, x: &[f32], weights: &[f32], m: usize, out: &mut [f32]) {
    let channels = shape.channels / shape.groups;
    let first = m / (shape.out_channels / shape.groups) * channels;
    let taps = channels * shape.kernel[0] * shape.kernel[1];
    let mut weights = weights[m * taps..][..taps].iter();
    for c in 0..channels {
        let plane = &x[(first + c) * shape.height * shape.width..][..shape.height * shape.width];
        for ky in 0..shape.kernel[0] {
            for kx in 0..shape.kernel[1] {
                let Some(&w) = weights.next() else { return };
                let (dy, dx) = (ky * shape.dilations[0], kx * shape.dilations[1]);
                // Output columns whose tap lies inside the image.
                let [sy, sx] = shape.strides;
                let [py, px] = shape.pads;
                let start = px.saturating_sub(dx).div_ceil(sx).min(shape.out_width);
                let end = match (shape.width + px).checked_sub(dx + 1) {
                    Some(last) => (last / sx + 1).min(shape.out_width),
                    None => 0,
                };
                if start >= end {
                    continue;
                }
                for oy in 0..shape.out_height {
                    let Some(y) = (oy * sy + dy).checked_sub(py).filter(|&y| y < shape.height)
                    else {
                        continue;
                    };
                    let row = &plane[y * shape.width + start * sx + dx - px..];
                    let out = &mut out[oy * shape.out_width..][start..end];
                    if sx == 1 {
                        for (sum, &v) in out.iter_mut().zip(row) {
                            *sum += v * w;
                        }
                    } else {
                        for (sum, &v) in out.iter_mut().zip(row.iter().step_by(sx)) {
                            *sum += v * w;
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same sums by the definition: one output after the other.
    #[test]
    fn sums_are_in_order() {
        let shape = ConvShape {
            channels: 4,
            height: 5,
            width: 7,
            out_channels: 6,
            out_height: 3,
            out_width: 4,
            kernel: [3, 3],
            strides: [2, 2],
            pads: [1, 1],
            dilations: [1, 1],
            groups: 2,
        };
        let value = |i: usize| ((i * 7919 + 13) % 101) as f32 / 7.0 - 6.0;
        let x: Vec<f32> = (0..4 * 5 * 7).map(value).collect();
        let weights: Vec<f32> = (0..6 * 2 * 9).map(|i| value(i + 5)).collect();
        for m in 0..6 {
            let mut out = vec![0.0; 12];
            convolve(&shape, &x, &weights, m, &mut out);
            for (at, &found) in out.iter().enumerate() {
                let (oy, ox) = (at / 4, at % 4);
                let mut sum = 0.0f32;
                for c in 0..2 {
                    for k in 0..9 {
                        let y = (oy * 2 + k / 3).wrapping_sub(1);
                        let z = (ox * 2 + k % 3).wrapping_sub(1);
                        if y < 5 && z < 7 {
                            sum +=
                                x[(m / 3 * 2 + c) * 35 + y * 7 + z] * weights[m * 18 + c * 9 + k];
                        }
                    }
                }
                assert_eq!(found.to_bits(), sum.to_bits(), "channel {m}, output {at}");
            }
        }
    }
}
