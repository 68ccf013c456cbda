//! Quantizers: those of model files, evaluated to the letter of their own definition, and `HiSilicon`'s
//! logarithmic one.
//!
//! A fake-quant model is a chain of `f32` operations in a fixed order, and its codes near ties depend on
//! that order. [`evaluate`] and [`codes`] therefore do what QONNX's executor does (qonnx 1.0.0,
//! `custom_op/general/*.py`), operation by operation in `f32`; [`grid`] says which integers the results
//! stand for.

pub mod affine;
mod bipolar;
pub mod fake_quantize;
pub mod gfpq;
mod grid;
mod letter;
pub mod letter_end;
mod minifloat;
mod runs;
pub mod tables;
mod thresholds;
mod trunc;

#[cfg(test)]
mod tests;

use align_check_graph::Quantizer;

use self::gfpq::Gfpq;

pub use grid::{CodeGrid, grid};
use runs::runs;

/// The output of a quantizer, to the letter: the real numbers that the model file defines, in `f32`.
///
/// A zero may be `-0.0`, as in the executor. NaN goes the way that the operations take it.
///
/// # Panics
/// If `shape` is not the shape of `x`, or a per-channel parameter does not fit it.
pub fn evaluate(q: &Quantizer, x: &[f32], shape: &[usize]) -> Vec<f32> {
    check(x, shape);
    let mut out = vec![0.0; x.len()];
    match q {
        Quantizer::Affine(a) => {
            for run in runs(shape, &[a.scale.axis, a.zero_point.axis]) {
                let channel = affine::Channel::new(a, run.at(&a.scale), run.at(&a.zero_point))
                    .multiplied(a.multiplier.as_ref().map(|m| run.at(m)));
                affine::dequantized_slice(&x[run.range()], channel, &mut out[run.range()]);
            }
        }
        Quantizer::MqBenchGfpq { max } => {
            if let Some(gfpq) = gfpq::Gfpq::mqbench() {
                out.copy_from_slice(x);
                gfpq.apply_slice(&mut out, gfpq.z_of(*max));
            }
        }
        Quantizer::Bipolar { scale } => {
            for run in runs(shape, &[scale.axis]) {
                let scale = run.at(scale);
                map(&x[run.range()], &mut out[run.range()], |x| {
                    bipolar::sign(x) * scale
                });
            }
        }
        Quantizer::Trunc(t) => {
            for run in runs(shape, &trunc::axes(t)) {
                let channel = trunc::Channel::new(t, |p| run.at(p));
                map(&x[run.range()], &mut out[run.range()], |x| {
                    channel.dequantize(channel.level(x))
                });
            }
        }
        Quantizer::Minifloat(m) => {
            let format = minifloat::Format::new(m);
            for run in runs(shape, &[m.scale.axis]) {
                let scale = run.at(&m.scale);
                map(&x[run.range()], &mut out[run.range()], |x| {
                    format.quantize(x, scale)
                });
            }
        }
        Quantizer::Thresholds(t) => {
            let counter = thresholds::Counter::new(t);
            for run in runs(shape, &[thresholds::axis(t)]) {
                let row = run.channel(thresholds::axis(t));
                map(&x[run.range()], &mut out[run.range()], |x| {
                    t.out_scale * counter.count(row, x) as f32 + t.out_bias
                });
            }
        }
        Quantizer::FakeQuantize(q) => {
            for run in runs(shape, &[fake_quantize::axis(q)]) {
                let channel = fake_quantize::Channel::new(q, &run);
                map(&x[run.range()], &mut out[run.range()], |x| channel.real(x));
            }
        }
        Quantizer::Gfpq(g) => {
            let gfpq = Gfpq::of(g.width);
            out.copy_from_slice(x);
            gfpq.apply_slice(&mut out, g.z.unwrap_or_else(|| gfpq.init(x)));
        }
    }
    out
}

/// The integer codes that a quantizer gives to a tensor, on the grid of [`grid`]; `None` where it has none.
///
/// They are the executor's rounded `f32` values. Its clamp is in `f32` too and lets a 26-bit quantizer
/// reach `2^25`, which no 26-bit integer is: such a code is the grid's largest one here. NaN becomes
/// code 0 (-1 for bipolar quantizers).
///
/// # Panics
/// If `shape` is not the shape of `x`, or a per-channel parameter does not fit it.
pub fn codes(q: &Quantizer, x: &[f32], shape: &[usize]) -> Option<Vec<i32>> {
    check(x, shape);
    let grid = grid(q)?;
    let mut out = vec![0; x.len()];
    // The grid lies within `i32`.
    let code = |level: f32| (level as i64).clamp(grid.min, grid.max) as i32;
    match q {
        Quantizer::Affine(a) => {
            for run in runs(shape, &[a.scale.axis, a.zero_point.axis]) {
                let channel = affine::Channel::new(a, run.at(&a.scale), run.at(&a.zero_point))
                    .multiplied(a.multiplier.as_ref().map(|m| run.at(m)));
                affine::quantize_affine_slice(&x[run.range()], channel, &mut out[run.range()]);
            }
        }
        Quantizer::Bipolar { .. } => map(x, &mut out, |x| code(bipolar::sign(x))),
        Quantizer::Trunc(t) => {
            for run in runs(shape, &trunc::axes(t)) {
                let channel = trunc::Channel::new(t, |p| run.at(p));
                map(&x[run.range()], &mut out[run.range()], |x| {
                    code(channel.level(x))
                });
            }
        }
        // Its grid is not uniform: `grid` returned already.
        Quantizer::Minifloat(_) | Quantizer::Gfpq(_) | Quantizer::MqBenchGfpq { .. } => {
            return None;
        }
        Quantizer::Thresholds(t) => {
            let counter = thresholds::Counter::new(t);
            // Codes per threshold: two on the grid of half steps.
            let factor = if t.steps == 0 {
                1
            } else {
                (grid.max - grid.min) / t.steps as i64
            };
            for run in runs(shape, &[thresholds::axis(t)]) {
                let row = run.channel(thresholds::axis(t));
                map(&x[run.range()], &mut out[run.range()], |x| {
                    (grid.min + factor * counter.count(row, x) as i64) as i32
                });
            }
        }
        Quantizer::FakeQuantize(q) => {
            for run in runs(shape, &[fake_quantize::axis(q)]) {
                let channel = fake_quantize::Channel::new(q, &run);
                map(&x[run.range()], &mut out[run.range()], |x| {
                    code(channel.level(x) + grid.min as f32)
                });
            }
        }
    }
    Some(out)
}

fn map<T>(x: &[f32], out: &mut [T], f: impl Fn(f32) -> T) {
    for (out, &x) in out.iter_mut().zip(x) {
        *out = f(x);
    }
}

fn check(x: &[f32], shape: &[usize]) {
    assert_eq!(
        x.len(),
        shape.iter().product::<usize>(),
        "a tensor of shape {shape:?}"
    );
}
