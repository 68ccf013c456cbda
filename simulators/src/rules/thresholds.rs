//! `[thresholds]`: quantizers as FINN counts them.
//!
//! Sources (Xilinx/finn 39f0c9a6): `src/finn/transformation/qonnx/qonnx_activation_handlers.py` for the thresholds
//! of a quantizer; `src/finn/transformation/streamline/absorb.py`, `collapse_repeated.py` and
//! `round_thresholds.py` for those of integer sums, `src/finn/transformation/qonnx/fold_quant_weights.py` and
//! `streamline/__init__.py` (the order of the steps) for biases and scales of each channel. Every step is in float32. Recordings: `golden/finn`.

use align_check_graph::{PerChannel, Quantizer};
use align_check_specs::{Compare, SumDivision, ThresholdArithmetic, ThresholdRules};

use crate::network::{Kind, Layer, LinearBias, Post};
use crate::num::trace::short;
use crate::num::{self, Trace};
use crate::plan::LinearPlan;
use crate::quantize::CodeGrid;
use crate::tensor::Channels;

/// A quantizer as a count of thresholds.
#[derive(Debug, Clone, PartialEq)]
pub struct Counted {
    /// Thresholds of each channel, ascending.
    rows: Vec<Vec<f32>>,
    channels: Channels,
    /// Code where no threshold is reached, and codes a threshold.
    first: i32,
    step: i32,
    compare: Compare,
}

impl Counted {
    fn code(&self, x: f64, channel: usize) -> i32 {
        let row = &self.rows[channel];
        let count = match self.compare {
            Compare::AtLeast => row.partition_point(|&t| x >= f64::from(t)),
            Compare::Above => row.partition_point(|&t| x > f64::from(t)),
        };
        self.first + self.step * count as i32
    }

    /// The code of a real (which is `f32` on the target) or of a sum, at an element, step by step.
    pub fn traced(&self, x: f64, index: usize, trace: &mut Trace) -> i32 {
        let channel = self.channels.of_index(index);
        let code = self.code(x, channel);
        let row = &self.rows[channel];
        let count = ((code - self.first) / self.step).unsigned_abs() as usize;
        let word = match self.compare {
            Compare::AtLeast => "at least",
            Compare::Above => "above",
        };
        if let Some(&t) = count.checked_sub(1).and_then(|at| row.get(at)) {
            trace.step("last reached", || format!("threshold {count}"), t);
        }
        if let Some(&t) = row.get(count) {
            trace.step("next", || format!("threshold {}", count + 1), t);
        }
        let how = || format!("of {}, that {} is {word}", row.len(), short(x));
        trace.step("thresholds", how, count as i64);
        let how = || format!("{} + {} * {count}", self.first, self.step);
        trace.step("code", how, code)
    }

    /// Codes of reals, which are `f32` on the target.
    pub fn reals(&self, values: &[f64]) -> Vec<i32> {
        let code =
            |(i, &x): (usize, &f64)| self.code(f64::from(x as f32), self.channels.of_index(i));
        values.iter().enumerate().map(code).collect()
    }

    /// Codes of integer sums.
    pub fn sums(&self, sums: impl Iterator<Item = i64>) -> Vec<i32> {
        let code = |(i, sum)| self.code(sum as f64, self.channels.of_index(i));
        sums.enumerate().map(code).collect()
    }
}

/// The rules that a layer of thresholds rests on.
pub fn rules(behind_sums: bool) -> Vec<&'static str> {
    let mut rules = vec!["thresholds.arithmetic", "thresholds.compare"];
    if behind_sums {
        rules.extend(["thresholds.division", "thresholds.rounding"]);
    }
    rules
}

/// The thresholds of a layer's quantizer. `input` is the grid of the layer's input, where it has codes.
///
/// # Errors
/// A quantizer, or something between it and the sum, whose thresholds are not known.
pub fn plan(
    rule: &ThresholdRules,
    layer: &Layer,
    linear: Option<&LinearPlan>,
    input: Option<&CodeGrid>,
) -> Result<Counted, String> {
    let relu = match layer.posts[..] {
        [] => false,
        [
            Post::Clamp {
                lo: 0.0,
                hi: f64::INFINITY,
            },
        ] => true,
        _ => return Err(format!("thresholds behind '{}' are not known", layer.op)),
    };
    let (scale, one) = match &layer.quantizer {
        Some(Quantizer::Bipolar { scale }) => (scale, None),
        Some(Quantizer::Affine(a)) if a.zero_point.values.iter().all(|&z| z == 0.0) => {
            (&a.scale, Some(a))
        }
        _ => return Err("thresholds of this quantizer are not known".into()),
    };
    let mut counted = match one.filter(|a| !a.is_bipolar()) {
        None => {
            if relu || scale.values.iter().any(|&s| s != 1.0) {
                return Err(
                    "a quantizer of one bit behind a ReLU, or with a scale, is not known".into(),
                );
            }
            Counted {
                rows: vec![vec![0.0]],
                channels: Channels::ONE,
                first: -1,
                step: 2,
                compare: rule.compare,
            }
        }
        Some(a) => {
            if a.bits > 16 {
                return Err(format!("thresholds of {} bits", a.bits));
            }
            match (relu, a.signed, a.narrow) {
                (true, false, false) | (false, true, _) => {}
                (true, _, _) => {
                    return Err("behind a ReLU, FINN takes plain unsigned quantizers only".into());
                }
                (false, ..) => {
                    return Err("without a ReLU, FINN takes signed quantizers only".into());
                }
            }
            let narrow = usize::from(a.narrow);
            let steps = (1usize << a.bits) - 1 - narrow;
            let row = |&scale: &f32| thresholds(rule.arithmetic, scale, steps, relu, a.narrow);
            Counted {
                rows: scale.values.iter().map(row).collect(),
                channels: Channels::of(scale, &layer.shape),
                first: if relu { 0 } else { a.min_code() as i32 },
                step: 1,
                compare: rule.compare,
            }
        }
    };
    match (&layer.kind, linear) {
        (Kind::Pass, _) if input.is_none() => {}
        (Kind::Linear(own), Some(sums)) => {
            let weights = own.weights.grid().map(|grid| &grid.scale);
            let (Some(x), Some(w)) = (input.and_then(|x| one_scale(&x.scale)), weights) else {
                return Err(
                    "thresholds of inputs with a scale for each channel are not known".into(),
                );
            };
            let plain = own.rows.is_none() && own.factor == 1.0;
            if !plain || counted.rows.len() != 1 || !sums.bound.is_finite() {
                return Err(
                    "thresholds of sums with a bias for each row, a factor, or a scale for each output channel are \
                     not known"
                        .into(),
                );
            }
            if own.bias.is_some() || w.values.len() > 1 {
                counted.channels = layer.channels();
                counted.rows = vec![counted.rows[0].clone(); counted.channels.count];
            }
            for (c, row) in counted.rows.iter_mut().enumerate() {
                let bias = own.bias.as_ref().map(|bias| absorbed(bias, c));
                for t in row {
                    *t = of_sum(*rule, *t, (x as f32, w.at(c) as f32), bias);
                }
            }
        }
        _ => return Err(format!("thresholds behind '{}' are not known", layer.op)),
    }
    Ok(counted)
}

fn one_scale(scale: &PerChannel<f64>) -> Option<f64> {
    (scale.values.len() == 1).then(|| scale.at(0))
}

/// Thresholds of one scale. Behind a `ReLU` they apply to what stands in front of it.
fn thresholds(
    rule: ThresholdArithmetic,
    s: f32,
    steps: usize,
    relu: bool,
    narrow: bool,
) -> Vec<f32> {
    // Of the first threshold, in steps above half a step; a negative number.
    let below = if relu {
        0
    } else {
        steps / 2 + usize::from(!narrow)
    };
    let one = |k: usize| match rule {
        ThresholdArithmetic::F32 => {
            let first = match (relu, narrow) {
                (true, _) => s / 2.0,
                (false, true) => -(s / 2.0) - s * (steps / 2 - 1) as f32,
                (false, false) => -(s / 2.0) - s * (steps / 2).saturating_sub(1) as f32 - s,
            };
            first + s * k as f32
        }
        ThresholdArithmetic::F32HalfSteps => s * (k as f32 - below as f32 + 0.5),
        ThresholdArithmetic::F64 => (f64::from(s) * (k as f64 - below as f64 + 0.5)) as f32,
    };
    (0..steps).map(one).collect()
}

/// A bias as FINN finds it behind its Quant node: what is added, and the node's scale (`fold_quant_weights.py` divides
/// by it in front of the addition of integers and multiplies by it behind; `MoveAddPastMul` makes it a factor of the
/// bias and of the sum).
fn absorbed(bias: &LinearBias, channel: usize) -> (f32, Option<f32>) {
    let real = bias.reals[channel] as f32;
    let Some(stated) = &bias.stated else {
        return (real, None);
    };
    let scale = stated.scales[channel.min(stated.scales.len() - 1)] as f32;
    let added = bias
        .codes
        .as_ref()
        .map_or(real, |codes| codes[channel] as f32 * scale);
    (added, Some(scale))
}

/// A threshold of an integer sum whose unit is worth `x * w`. The bias is taken away first
/// (`AbsorbAddIntoMultiThreshold`), then the collapsed factors are divided by (`AbsorbMulIntoMultiThreshold`).
fn of_sum(
    rule: ThresholdRules,
    t: f32,
    (x, w): (f32, f32),
    bias: Option<(f32, Option<f32>)>,
) -> f32 {
    let t = bias.map_or(t, |(added, _)| t - added);
    let product = match bias {
        Some((_, Some(scale))) => x * w * (1.0 / scale) * scale,
        _ => x * w,
    };
    let quotient = match rule.division {
        SumDivision::Product => t / product,
        SumDivision::InputFirst => t / x / w,
        SumDivision::WeightFirst => t / w / x,
        SumDivision::Reciprocal => t * (1.0 / product),
        SumDivision::F64 => {
            let quotient = f64::from(t) / (f64::from(x) * f64::from(w));
            return num::round_f64(quotient, rule.rounding) as f32;
        }
    };
    num::round_f32(quotient, rule.rounding)
}
