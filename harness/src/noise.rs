//! The noise floor: elements that float32 summation order alone decides.
//!
//! A fake-quant framework sums products in `f32`, in an order that depends on the machine. Where the value
//! before rounding lies closer to a tie than such sums can differ, neither code is wrong. Where every sum is
//! exact in `f32` (power-of-two scales, sums below 2^24 steps), there is no noise: a tie is a tie.

use align_check_graph::{PerChannel, Quantizer, Rounding};
use align_check_simulators::network::{Kind, Layer, Network, Post};
use align_check_simulators::num::power_of_two;
use align_check_simulators::plan::LayerPlan;
use align_check_simulators::run::{Runner, Sums};
use align_check_simulators::tensor::{Channels, Tensor};

/// Half a unit in the last place of `f32`.
const F32_ROUNDING: f64 = 1.0 / 16_777_216.0;

/// The noise floor of one layer on one sample.
#[derive(Debug)]
pub struct Noise<'a> {
    reals: Reals<'a>,
    quantizer: Option<Steps>,
    /// With a quantizer: distance from a tie below which nothing is decided, in LSB. Without one: the
    /// difference that `f32` sums can make, in the tensor's unit.
    radius: f64,
}

/// Elements that differ.
#[derive(Debug, Default)]
pub struct Sorted {
    /// How many float32 summation order decides.
    pub quiet: u64,
    /// The others.
    pub loud: Vec<usize>,
    /// Which of these are exact ties.
    pub tied: Vec<bool>,
}

/// A quantizer's steps.
#[derive(Debug)]
struct Steps {
    scale: PerChannel<f64>,
    zero_point: PerChannel<f64>,
    channels: Channels,
    /// Whether ties lie half-way between two codes.
    half_way: bool,
    /// Whether `f32` divides by its steps exactly.
    powers: bool,
    /// Reals this close stand for one level: how `f32` makes a real of a level is not part of a rule.
    same: f64,
}

impl Steps {
    /// `None` for a quantizer without ties.
    fn new(quantizer: &Quantizer, shape: &[usize]) -> Option<Self> {
        match quantizer {
            Quantizer::Affine(affine) => {
                let powers = |&s: &f32| power_of_two(f64::from(s)).is_some();
                Some(Self {
                    scale: affine.scale.map(f64::from),
                    zero_point: affine.zero_point.map(f64::from),
                    channels: Channels::of(&affine.scale, shape),
                    half_way: matches!(
                        affine.rounding,
                        Rounding::HalfEven | Rounding::HalfAway | Rounding::HalfTowardZero
                    ),
                    powers: affine.scale.values.iter().all(powers),
                    same: 0.0,
                })
            }
            Quantizer::FakeQuantize(q) => {
                let steps = f64::from(q.levels - 1);
                let limits = |c: usize| [q.input_low.at(c), q.input_high.at(c)].map(f64::from);
                let list = |f: fn([f64; 2], f64) -> f64| PerChannel {
                    values: (0..q.channels()).map(|c| f(limits(c), steps)).collect(),
                    axis: q.axis(),
                };
                let scale = list(|[low, high], steps| (high - low) / steps);
                let outputs = [&q.output_low, &q.output_high];
                let values = outputs.into_iter().flat_map(|limit| &limit.values);
                let largest = values.fold(0.0f64, |m, v| m.max(f64::from(v.abs())));
                // A range without extent has no steps.
                scale.values.iter().all(|&s| s > 0.0).then(|| Self {
                    channels: Channels::of(&scale, shape),
                    zero_point: list(|[low, high], steps| -low * steps / (high - low)),
                    scale,
                    half_way: true,
                    powers: false,
                    // Two products and a sum.
                    same: 4.0 * F32_ROUNDING * largest,
                })
            }
            _ => None,
        }
    }
}

/// Exact values in front of the quantizer.
#[derive(Debug)]
enum Reals<'a> {
    All(Vec<f64>),
    /// Made of one integer sum each, when asked.
    Sums(Runner<'a>, &'a Sums),
}

impl<'a> Noise<'a> {
    /// The floor of a layer. `None` where it ends in a quantizer without ties.
    pub fn new(reference: &Runner<'a>, inputs: &[&Tensor], sums: &'a Sums) -> Option<Self> {
        Self::of_terms(reference, inputs, sums, reference.layer.terms())
    }

    /// The floor of a layer that a target computes in float; where it only moves reals, of the layers in front that
    /// made them.
    pub fn in_float(
        network: &Network,
        runner: &Runner<'a>,
        inputs: &[&Tensor],
        sums: &'a Sums,
    ) -> Option<Self> {
        let mut layer = runner.layer;
        let mut terms = layer.terms();
        while layer.quantizer.is_none() && !layer.is_compared() {
            let [input] = layer.inputs[..] else { break };
            let maker = network.layers.iter().find(|l| l.output == input);
            let Some(maker) = maker.filter(|l| l.quantizer.is_none()) else {
                break;
            };
            terms = terms.max(maker.terms());
            layer = maker;
        }
        Self::of_terms(runner, inputs, sums, terms)
    }

    fn of_terms(
        reference: &Runner<'a>,
        inputs: &[&Tensor],
        sums: &'a Sums,
        terms: usize,
    ) -> Option<Self> {
        let layer = reference.layer;
        // Rounding errors of a sum grow like a random walk; each product and scale adds its own.
        let unit = F32_ROUNDING * (4.0 + (terms as f64).sqrt());
        let steps = match &layer.quantizer {
            None => {
                let reals = reference.reals(inputs, sums);
                if reals.is_empty() {
                    return None;
                }
                let largest = reals.iter().fold(0.0f64, |m, v| m.max(v.abs()));
                let radius = unit * largest;
                return Some(Self {
                    reals: Reals::All(reals),
                    quantizer: None,
                    radius,
                });
            }
            Some(quantizer) => Steps::new(quantizer, &layer.shape)?,
        };
        let channels = steps.channels;
        let scale = |c: usize| steps.scale.at(c);
        let exact = layer.integer || (exact_in_f32(layer, reference.plan, inputs) && steps.powers);
        let (reals, largest) =
            if let Some(largest) = reference.largest(sums).filter(|_| channels.count == 1) {
                (Reals::Sums(*reference, sums), largest / scale(0))
            } else {
                let reals = reference.reals(inputs, sums);
                if reals.is_empty() {
                    // Nothing stands in front of the quantizer: codes that another rule made.
                    return None;
                }
                let largest = reals.iter().enumerate().fold(0.0f64, |m, (i, v)| {
                    m.max((v / scale(channels.of_index(i))).abs())
                });
                (Reals::All(reals), largest)
            };
        let radius = if exact {
            0.0
        } else {
            (unit * largest.max(1.0)).min(0.25)
        };
        Some(Self {
            quantizer: Some(steps),
            reals,
            radius,
        })
    }

    /// Distance of an element from the nearest tie, in LSB.
    pub fn distance(&self, index: usize) -> f64 {
        let Some(steps) = &self.quantizer else {
            return 0.0;
        };
        let value = self.value(index) + if steps.half_way { 0.5 } else { 0.0 };
        (value - value.round()).abs()
    }

    /// Whether an element lies exactly between two codes.
    pub fn is_tie(&self, index: usize) -> bool {
        self.quantizer.is_some() && self.distance(index) == 0.0
    }

    /// Sorts elements that differ by whether float32 summation order decides them; `values`: what two sides have there.
    pub fn sort(noise: Option<&Self>, differing: &[usize], values: [&Tensor; 2]) -> Sorted {
        let mut sorted = Sorted::default();
        let Some(noise) = noise else {
            sorted.loud = differing.to_vec();
            sorted.tied = vec![false; differing.len()];
            return sorted;
        };
        // Where nothing but equal reals are the same, those that differ need not be made.
        let by_distance = noise.quantizer.as_ref().filter(|steps| steps.same == 0.0);
        for &at in differing {
            let (decided, tie) = match by_distance {
                Some(_) => {
                    let distance = noise.distance(at);
                    let near = noise.radius > 0.0 && distance <= noise.radius;
                    (near, distance == 0.0)
                }
                None => {
                    let [expected, got] = values.map(|tensor| tensor.real_at(at));
                    (noise.decides(at, expected, got), noise.is_tie(at))
                }
            };
            if decided {
                sorted.quiet += 1;
            } else {
                sorted.loud.push(at);
                sorted.tied.push(tie);
            }
        }
        sorted
    }

    /// Whether float32 summation order decides between two values of an element.
    pub fn decides(&self, index: usize, expected: f64, got: f64) -> bool {
        match &self.quantizer {
            Some(steps) => {
                (expected - got).abs() <= steps.same
                    || (self.radius > 0.0 && self.distance(index) <= self.radius)
            }
            None => (expected - got).abs() <= self.radius,
        }
    }

    /// The value before rounding, in LSB: `x / scale + zero_point`.
    pub fn value(&self, index: usize) -> f64 {
        let real = match &self.reals {
            Reals::All(reals) => reals[index],
            Reals::Sums(runner, sums) => runner.real_at(sums, index).unwrap_or(f64::NAN),
        };
        let Some(steps) = &self.quantizer else {
            return real;
        };
        let c = steps.channels.of_index(index);
        real / steps.scale.at(c) + steps.zero_point.at(c)
    }
}

/// Whether a framework's `f32` arithmetic is exact in this layer, whatever the order of its sums.
fn exact_in_f32(layer: &Layer, plan: &LayerPlan, inputs: &[&Tensor]) -> bool {
    let powers = |tensor: &Tensor| {
        tensor
            .grid()
            .is_some_and(|g| g.scale.values.iter().all(|&s| power_of_two(s).is_some()))
    };
    if !inputs.iter().all(|t| powers(t))
        || !layer.posts.iter().all(|p| matches!(p, Post::Clamp { .. }))
    {
        return false;
    }
    match &layer.kind {
        Kind::Linear(_) => plan.linear.as_ref().is_some_and(|sums| {
            let steps = |bias: f64, unit: f64| (bias / unit).abs();
            let largest = sums
                .bias
                .iter()
                .zip(&sums.unit)
                .fold(0.0, |m: f64, (b, u)| {
                    let steps = steps(*b, *u);
                    if steps.fract() == 0.0 {
                        m.max(steps)
                    } else {
                        f64::INFINITY
                    }
                });
            sums.unit.iter().all(|&u| power_of_two(u).is_some())
                && sums.bound + largest < 1.0 / F32_ROUNDING
        }),
        Kind::Average { windows, .. } => windows.divisors.iter().all(|d| d.is_power_of_two()),
        Kind::Binary { .. } | Kind::Pass | Kind::Concat { .. } | Kind::MaxPool(_) => true,
        _ => false,
    }
}
