//! OpenVINO's `FakeQuantize`, every operation in `f32`, in the order of its reference.
//!
//! Source: openvinotoolkit/openvino `src/core/reference/include/openvino/reference/fake_quantize.hpp`.

use align_check_graph::{FakeQuantize, PerChannel, Rounding};

use super::grid::CodeGrid;
use super::letter;
use super::runs::Run;

/// The limits of one channel.
#[derive(Debug, Clone, Copy)]
pub struct Channel {
    steps: f32,
    input: [f32; 2],
    output: [f32; 2],
}

impl Channel {
    /// The limits that hold in a piece of a tensor.
    pub fn new(q: &FakeQuantize, run: &Run) -> Self {
        Self {
            steps: (q.levels - 1) as f32,
            input: [run.at(&q.input_low), run.at(&q.input_high)],
            output: [run.at(&q.output_low), run.at(&q.output_high)],
        }
    }

    /// How many levels lie below that of `x`. NaN stays NaN.
    pub fn level(self, x: f32) -> f32 {
        let [low, high] = self.input;
        if x <= low {
            0.0
        } else if x > high {
            self.steps
        } else {
            letter::round((x - low) / (high - low) * self.steps, Rounding::HalfEven)
        }
    }

    /// The real that the operator returns.
    pub fn real(self, x: f32) -> f32 {
        let [low, high] = self.output;
        if x <= self.input[0] {
            low
        } else if x > self.input[1] {
            high
        } else {
            self.level(x) / self.steps * (high - low) + low
        }
    }
}

/// The axis along which limits vary.
pub fn axis(q: &FakeQuantize) -> Option<usize> {
    q.axis()
}

/// How far a zero point may lie from an integer: limits of `f32`, which rounded, cannot say it better.
///
/// A limit is off by half a unit in the last place, 2^-24 of it, and so is the range; the zero point is their ratio
/// times the number of steps. Tools round once or twice before they write a limit: NNCF's are within 2.3e-6 of an
/// integer, of 255 steps (7.6e-6 would be one rounding of each limit).
fn slack(steps: f64) -> f64 {
    steps * 4.0 / 16_777_216.0
}

/// The zero point of each channel, counted from the lowest level: where zero lies between two levels, it is no
/// integer. `None` for an output without extent, or one that falls as the input rises.
pub fn zero_points(q: &FakeQuantize) -> Option<PerChannel<f64>> {
    let steps = f64::from(q.levels - 1);
    let value = |c: usize| {
        let (low, high) = (
            f64::from(q.output_low.at(c)),
            f64::from(q.output_high.at(c)),
        );
        (high > low).then(|| -low * steps / (high - low))
    };
    let values: Option<Vec<f64>> = (0..q.channels()).map(value).collect();
    Some(PerChannel {
        values: values?,
        axis: q.axis(),
    })
}

/// The codes of the levels: where zero is the lowest level, from 0 on; where it is the middle one, around it; else
/// from 0 on with a zero point. Where channels differ, each has its zero point.
pub fn grid(q: &FakeQuantize) -> Option<CodeGrid> {
    let steps = f64::from(q.levels - 1);
    let zero_points = zero_points(q)?;
    let near = |z: f64| (z - z.round()).abs() <= slack(steps) && z.abs() <= f64::from(i32::MAX);
    if !zero_points.values.iter().all(|&z| near(z)) {
        return None;
    }
    let whole = zero_points.map(|z| z.round() as i64);
    let levels = i64::from(q.levels);
    let middle = levels / 2;
    let shift = if whole.values.iter().all(|&z| z == middle) {
        middle
    } else {
        0
    };
    let scale = |c: usize| (f64::from(q.output_high.at(c)) - f64::from(q.output_low.at(c))) / steps;
    let scale = PerChannel {
        values: (0..q.channels()).map(scale).collect(),
        axis: q.axis(),
    };
    let zero_point = whole.map(|z| z - shift);
    let one = zero_point.values.iter().all(|&z| z == zero_point.values[0]);
    Some(CodeGrid {
        scale,
        zero_point: if one {
            PerChannel::uniform(zero_point.values[0])
        } else {
            zero_point
        },
        min: -shift,
        max: levels - 1 - shift,
    })
}
