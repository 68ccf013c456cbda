//! Inputs for a model that came without any: seeded, and directed at ties, saturation and extremes.
//!
//! Uniform random tensors are blind where chips differ. Each sample aims at something else: values over the
//! whole range of the input's quantizer, values within one unit in the last place of a tie, both ends of the
//! range and beyond, and a smooth picture with noise.

pub mod command;
pub mod distinguish;

use std::borrow::Cow;
use std::collections::BTreeMap;

use align_check_graph::Quantizer;
use align_check_simulators::network::Network;
use anyhow::Result;

use crate::inputs::{Array, ArrayKind, Sample, Source};

/// Makes `count` samples for a network.
pub fn samples(network: &Network, count: usize, seed: u64) -> Vec<Sample> {
    (0..count)
        .map(|number| sample(network, number, seed))
        .collect()
}

/// The same samples, each made when it is needed.
#[derive(Debug)]
pub struct Generated<'a> {
    /// The network that they are for.
    pub network: &'a Network,
    /// How many.
    pub count: usize,
    /// What they are made from.
    pub seed: u64,
}

impl Source for Generated<'_> {
    fn count(&self) -> usize {
        self.count
    }

    fn load(&self, number: usize) -> Result<Cow<'_, Sample>> {
        Ok(Cow::Owned(sample(self.network, number, self.seed)))
    }
}

fn sample(network: &Network, number: usize, seed: u64) -> Sample {
    let inputs = network
        .graph
        .inputs
        .iter()
        .enumerate()
        .map(|(position, &value)| {
            let range = Range::of(network, value);
            let mut random = Random::new(seed, (number * 64 + position) as u64);
            let shape = network.graph.shape(value).to_vec();
            let values = fill(&shape, range, number % 4, &mut random);
            let array = Array {
                shape,
                values,
                kind: ArrayKind::Float,
            };
            (network.name(value).to_string(), array)
        })
        .collect::<BTreeMap<_, _>>();
    Sample {
        name: format!("generated-{number}"),
        inputs,
    }
}

/// The grid that an input meets first.
#[derive(Clone, Copy)]
struct Range {
    step: f64,
    lo: f64,
    hi: f64,
    integer: bool,
}

impl Range {
    fn of(network: &Network, value: usize) -> Self {
        if let Some(stored) = network.stored(value) {
            // Codes, or reals half a step apart from them: the model's own quantizer never sees these.
            let (step, zero) = (
                f64::from(stored.scale.at(0)),
                f64::from(stored.zero_point.at(0)),
            );
            return Self {
                step,
                lo: (stored.min_code() as f64 - zero) * step,
                hi: (stored.max_code() as f64 - zero) * step,
                integer: false,
            };
        }
        if let Some(grid) = network.annotated_grid(value) {
            let (lo, hi) = grid.real_range();
            return Self {
                step: 1.0,
                lo,
                hi,
                integer: true,
            };
        }
        let reader = network.layers.iter().find(|l| l.inputs.contains(&value));
        if let Some(Quantizer::FakeQuantize(q)) = reader.and_then(|l| l.quantizer.as_ref())
            && reader.is_some_and(|l| l.posts.is_empty())
            && q.input_low.at(0) < q.input_high.at(0)
        {
            let [lo, hi] = [q.input_low.at(0), q.input_high.at(0)].map(f64::from);
            return Self {
                step: (hi - lo) / f64::from(q.levels - 1),
                lo,
                hi,
                integer: false,
            };
        }
        if let Some(Quantizer::Affine(a)) = reader.and_then(|l| l.quantizer.as_ref())
            && reader.is_some_and(|l| l.posts.is_empty())
        {
            let (step, zero) = (f64::from(a.scale.at(0)), f64::from(a.zero_point.at(0)));
            let lo = (a.min_code() as f64 - zero) * step;
            let hi = (a.max_code() as f64 - zero) * step;
            return Self {
                step,
                lo,
                hi,
                integer: false,
            };
        }
        Self {
            step: 1.0 / 64.0,
            lo: -1.0,
            hi: 1.0,
            integer: false,
        }
    }
}

fn fill(shape: &[usize], range: Range, aim: usize, random: &mut Random) -> Vec<f64> {
    let len: usize = shape.iter().product();
    let width = shape.last().copied().unwrap_or(1).max(1);
    let span = range.hi - range.lo;
    let steps = (span / range.step).max(1.0);
    (0..len)
        .map(|i| {
            let value = match aim {
                0 => range.lo + span * random.unit(),
                1 => {
                    // A tie, or one unit in the last place beside it.
                    let tie = range.lo + ((random.unit() * steps).floor() + 0.5) * range.step;
                    let tie = tie as f32;
                    f64::from(match random.next() % 3 {
                        0 => tie,
                        1 => tie.next_up(),
                        _ => tie.next_down(),
                    })
                }
                2 => match random.next() % 5 {
                    0 => range.lo,
                    1 => range.hi,
                    2 => 0.0,
                    3 => range.lo - span * random.unit(),
                    _ => range.hi + span * random.unit(),
                },
                _ => {
                    let (x, y) = ((i % width) as f64, (i / width) as f64);
                    let wave = libm::sin(x * 0.37) * libm::cos(y * 0.23) * 0.5 + 0.5;
                    range.lo + span * (0.9 * wave + 0.1 * random.unit())
                }
            };
            let value = if range.integer {
                value.round().clamp(range.lo, range.hi)
            } else {
                value
            };
            f64::from(value as f32)
        })
        .collect()
}

/// `SplitMix64` (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014): small, and the
/// same on every platform and in every version.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut random = Self(seed ^ stream.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        random.next();
        random
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// In `[0, 1)`.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}
