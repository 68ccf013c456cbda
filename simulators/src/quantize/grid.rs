//! The integer grids of quantizers.

use align_check_graph::{PerChannel, Quantizer, Thresholds, Trunc, TruncKind};

use super::{affine, fake_quantize, trunc};

/// Which integers a quantizer's outputs stand for: `real = (code - zero_point) * scale`.
#[derive(Debug, Clone, PartialEq)]
pub struct CodeGrid {
    /// Step; positive.
    pub scale: PerChannel<f64>,
    /// The code of zero.
    pub zero_point: PerChannel<i64>,
    /// Smallest code.
    pub min: i64,
    /// Largest code.
    pub max: i64,
}

/// The grid of a quantizer's codes; `None` where there is none: a zero point between two integers, a
/// small floating-point format, a logarithmic grid, an offset that is no multiple of half a step, or a range beyond `i32`.
///
/// - `Quant`: the file's scale, zero point and range. The signed 1-bit case has the codes -1 and +1.
/// - `BipolarQuant`: the codes -1 and +1, no zero point.
/// - `Trunc` version 1 does not clamp: its range is all of `i32`. Version 2: output scale, and the zero
///   point divided by the ratio of the two steps.
/// - `MultiThreshold`: the count, with zero point `-out_bias / out_scale`; or, where only twice that is
///   an integer (FINN's bipolar `2 * count - 1`), the grid of half steps without a zero point.
/// - `FakeQuantize`: the levels of the output; around 0 where zero is the middle one, else from 0 on.
pub fn grid(q: &Quantizer) -> Option<CodeGrid> {
    let grid = match q {
        Quantizer::Affine(a) => CodeGrid {
            scale: a.scale.map(f64::from),
            zero_point: integers(&a.zero_point)?,
            min: if a.is_bipolar() {
                -1
            } else {
                affine::executed_bound(a.min_code())
            },
            max: if a.is_bipolar() {
                1
            } else {
                affine::executed_bound(a.max_code())
            },
        },
        Quantizer::Bipolar { scale } => CodeGrid {
            scale: scale.map(f64::from),
            zero_point: PerChannel::uniform(0),
            min: -1,
            max: 1,
        },
        Quantizer::Trunc(t) => trunc_grid(t)?,
        Quantizer::Minifloat(_) | Quantizer::Gfpq(_) | Quantizer::MqBenchGfpq { .. } => {
            return None;
        }
        Quantizer::Thresholds(t) => thresholds_grid(t)?,
        Quantizer::FakeQuantize(q) => fake_quantize::grid(q)?,
    };
    let i32_range = i64::from(i32::MIN)..=i64::from(i32::MAX);
    (i32_range.contains(&grid.min) && i32_range.contains(&grid.max)).then_some(grid)
}

fn trunc_grid(t: &Trunc) -> Option<CodeGrid> {
    match &t.kind {
        TruncKind::V1 { .. } => Some(CodeGrid {
            scale: t.scale.map(f64::from),
            zero_point: integers(&t.zero_point)?,
            min: i64::from(i32::MIN),
            max: i64::from(i32::MAX),
        }),
        TruncKind::V2 {
            out_scale,
            out_bits,
            signed,
            narrow,
        } => {
            let ratio = zip(&t.scale, out_scale, trunc::ratio)?;
            let (min, max) = trunc::bounds(*out_bits, *signed, *narrow);
            Some(CodeGrid {
                scale: out_scale.map(f64::from),
                zero_point: integers(&zip(&t.zero_point, &ratio, |zp, ratio| zp / ratio)?)?,
                min,
                max,
            })
        }
    }
}

fn thresholds_grid(t: &Thresholds) -> Option<CodeGrid> {
    let (scale, bias) = (f64::from(t.out_scale), f64::from(t.out_bias));
    if scale <= 0.0 {
        return None;
    }
    // Products of an integer of 24 bits and an f32 are exact in f64, so equality decides.
    let halves = (2.0 * bias / scale).round();
    if halves.abs() >= 16_777_216.0 || halves * scale != 2.0 * bias {
        return None;
    }
    let (halves, steps) = (halves as i64, t.steps as i64);
    Some(if halves % 2 == 0 {
        CodeGrid {
            scale: PerChannel::uniform(scale),
            zero_point: PerChannel::uniform(-halves / 2),
            min: 0,
            max: steps,
        }
    } else {
        CodeGrid {
            scale: PerChannel::uniform(scale / 2.0),
            zero_point: PerChannel::uniform(0),
            min: halves,
            max: 2 * steps + halves,
        }
    })
}

/// The entries as integers, where all of them are some, within `i32`.
fn integers(parameter: &PerChannel<f32>) -> Option<PerChannel<i64>> {
    let integral = |&x: &f32| x.trunc() == x && x.abs() <= -(i32::MIN as f32);
    parameter
        .values
        .iter()
        .all(integral)
        .then(|| parameter.map(|x| x as i64))
}

/// Combines two parameters entry by entry; `None` where they lie along different axes.
fn zip(
    a: &PerChannel<f32>,
    b: &PerChannel<f32>,
    f: impl Fn(f32, f32) -> f32,
) -> Option<PerChannel<f32>> {
    let several = |p: &PerChannel<f32>| p.values.len() > 1;
    if several(a) && several(b) && (a.axis != b.axis || a.values.len() != b.values.len()) {
        return None;
    }
    let longer = if several(b) { b } else { a };
    let values = (0..longer.values.len())
        .map(|c| f(a.at(c), b.at(c)))
        .collect();
    Some(PerChannel {
        values,
        axis: longer.axis,
    })
}
