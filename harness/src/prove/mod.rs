//! `prove`: for every input at once, whether two sides give the same codes.
//!
//! A layer of sums is a step function of its accumulator ([`align_check_simulators::step`]): two of them are equal for
//! all inputs when their steps are, over the sums that weights and the inputs' codes can reach. A layer of one or two
//! codes is a table that is filled. Each layer stands alone: it is fed with the same codes on both sides, whatever the
//! layers before it do.

pub mod command;
mod input;
mod means;
mod overflow;
mod show;
mod steps;
mod tables;

use std::collections::BTreeSet;

use align_check_simulators::adapt::ValueGrid;
use align_check_simulators::kernels::Isa;
use align_check_simulators::network::{Kind, Layer, Network};
use align_check_simulators::plan::{Finish, LayerPlan};
use align_check_simulators::run::{Runner, Sums};
use align_check_simulators::step::{Reach, Step, reach};
use align_check_simulators::tensor::{Data, Tensor};
use anyhow::{Result, bail};
use rayon::prelude::*;
use serde::Serialize;

use crate::check::{Target, grade_text};
use crate::outcome::{TargetOutcome, Verdict};

pub use show::{json, summary, terminal};

/// Version of the machine-readable report.
pub const SCHEMA: &str = "align-check/prove/1";

/// What was proved of a network.
#[derive(Debug, Serialize)]
pub struct Proof {
    /// The side whose rules are in question.
    pub target: String,
    /// The side that it is held against.
    pub against: String,
    /// Layers that compute something, in graph order.
    pub layers: Vec<LayerProof>,
    /// Seconds that it took.
    pub seconds: f64,
}

/// What was proved of a layer.
#[derive(Debug, Clone, Serialize)]
pub struct LayerProof {
    /// Name of its node.
    pub name: String,
    /// Its operators.
    pub op: String,
    /// The tensor that it makes.
    pub tensor: String,
    /// The result.
    #[serde(flatten)]
    pub result: Certificate,
    /// Weakest evidence grade of the rules that it rests on.
    pub grade: String,
}

/// What is certain of a layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "result")]
pub enum Certificate {
    /// No input can make it differ.
    Equal(Cases),
    /// Some accumulators or codes make it differ, by no more than `max_lsb`.
    Differs {
        /// How many were compared, and how many differ.
        #[serde(flatten)]
        cases: Cases,
        /// Largest difference in LSB.
        max_lsb: u32,
        /// One of them.
        example: Example,
    },
    /// Nothing is certain.
    Open {
        /// Why.
        why: String,
        /// An input that overflows the target's accumulator, where that is why.
        #[serde(skip_serializing_if = "Option::is_none")]
        overflow: Option<Overflowing>,
    },
}

/// Numbers of what was compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Cases {
    /// Output channels; 0 where the layer has no sums.
    pub channels: u64,
    /// Channels that are equal for all inputs.
    pub equal_channels: u64,
    /// Accumulators that the channels can reach, or combinations of input codes.
    pub reachable: u64,
    /// Of these, how many give another code.
    pub differing: u64,
}

/// A case in which the sides differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Example {
    /// Output channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<usize>,
    /// Sum of products, without the bias.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sum: Option<i64>,
    /// Codes of the inputs: of a whole window in the weights' order (channel, row, column), or of the operands.
    /// Empty where none was found for the sum.
    pub inputs: Vec<i64>,
    /// Code of the side that is held against.
    pub expected: i64,
    /// Code of the target.
    pub got: i64,
}

/// An input that overflows an accumulator.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Overflowing {
    /// Output channels that can overflow.
    pub channels: usize,
    /// Of so many.
    pub of: usize,
    /// Bits of the accumulator.
    pub bits: u32,
    /// The channel that overflows furthest.
    pub channel: usize,
    /// What its accumulator should hold: the largest or smallest sum, with the bias.
    pub sum: i64,
    /// Codes of the inputs that make it: a whole window in the weights' order (channel, row, column).
    pub inputs: Vec<i64>,
}

impl Cases {
    /// The share of differing cases. It is the rate to expect of inputs only if all cases were equally likely.
    pub fn uniform_rate(&self) -> f64 {
        if self.reachable == 0 {
            0.0
        } else {
            self.differing as f64 / self.reachable as f64
        }
    }

    fn add(&mut self, other: Self) {
        self.channels += other.channels;
        self.equal_channels += other.equal_channels;
        self.reachable += other.reachable;
        self.differing += other.differing;
    }
}

impl Proof {
    /// Sums over all layers for which something is certain.
    pub fn totals(&self) -> Cases {
        let mut totals = Cases::default();
        for layer in &self.layers {
            match &layer.result {
                Certificate::Equal(cases) | Certificate::Differs { cases, .. } => {
                    totals.add(*cases);
                }
                Certificate::Open { .. } => {}
            }
        }
        totals
    }

    /// Whether no input can make any layer differ.
    pub fn all_equal(&self) -> bool {
        self.layers
            .iter()
            .all(|layer| matches!(layer.result, Certificate::Equal(_)))
    }

    /// Whether some layer is known to differ.
    pub fn differs(&self) -> bool {
        self.layers
            .iter()
            .any(|layer| matches!(layer.result, Certificate::Differs { .. }))
    }
}

/// One side of a comparison: a layer as a target computes it.
struct Side<'a> {
    layer: &'a Layer,
    plan: &'a LayerPlan,
    /// The grids of what it reads.
    inputs: Vec<&'a ValueGrid>,
}

impl<'a> Side<'a> {
    /// The layer that makes what a layer of the model makes; `None` where the target has no such tensor.
    fn of(network: &'a Network, target: &'a Target, index: usize) -> Option<Self> {
        let (layer, plan) = match &target.own {
            None => (&network.layers[index], &target.plans[index]),
            Some(own) => {
                let index = own.found[index]?;
                (&own.network.layers[index], &target.plans[index])
            }
        };
        let inputs = layer.inputs.iter().map(|&input| &target.grids[input]);
        Some(Self {
            layer,
            plan,
            inputs: inputs.collect(),
        })
    }
}

/// The codes that both sides make of the same inputs, without sums.
fn both(sides: [&Side; 2], inputs: &[&Tensor], isa: Isa) -> Result<[Vec<i32>; 2], String> {
    let codes = |side: &Side| {
        let runner = Runner {
            layer: side.layer,
            plan: side.plan,
            isa,
        };
        match runner.finish(inputs, &Sums::None).data {
            Data::Codes { codes, .. } => Ok(codes.to_vec()),
            Data::Real(_) => Err("an output without codes".to_string()),
        }
    };
    Ok([codes(sides[0])?, codes(sides[1])?])
}

impl Certificate {
    /// Of cases that were all compared, and the worst of those that differ.
    fn of(cases: Cases, worst: Option<(u32, Example)>) -> Self {
        match worst {
            None => Self::Equal(cases),
            Some((max_lsb, example)) => Self::Differs {
                cases,
                max_lsb,
                example,
            },
        }
    }
}

/// Proves the selected layers of a network, under `target` against `against`, both placed for it.
pub fn prove(
    network: &Network,
    target: &Target,
    against: &Target,
    select: &(dyn Fn(&Layer) -> bool + Sync),
    isa: Isa,
) -> Proof {
    let start = std::time::Instant::now();
    let layers = network
        .layers
        .par_iter()
        .enumerate()
        .filter(|(_, layer)| layer.is_compared() && select(layer))
        .map(|(index, layer)| {
            let sides = [target, against].map(|side| Side::of(network, side, index));
            let grade = [target, against]
                .iter()
                .zip(&sides)
                .filter_map(|(target, side)| Some(target.spec.weakest(&side.as_ref()?.plan.rules)))
                .min();
            let result = match &sides {
                [Some(a), Some(b)] => certify([a, b], isa),
                _ => Err("no such tensor on one side".into()),
            };
            let overflow = match (&result, &sides) {
                (Err(_), [Some(a), Some(_)]) => overflow::find(a),
                _ => None,
            };
            LayerProof {
                name: layer.name.clone(),
                op: layer.op.clone(),
                tensor: layer.tensor.clone(),
                result: result.unwrap_or_else(|why| Certificate::Open { why, overflow }),
                grade: grade.map_or_else(String::new, grade_text),
            }
        })
        .collect();
    Proof {
        target: target.spec.name.clone(),
        against: against.spec.name.clone(),
        layers,
        seconds: start.elapsed().as_secs_f64(),
    }
}

/// Gives the layers of a check in which nothing differed the verdict of their proof, where they are equal for all
/// inputs.
///
/// # Errors
/// A proof that the check contradicts: an internal error.
pub fn certify_aligned(
    network: &Network,
    target: &Target,
    reference: &Target,
    found: &mut TargetOutcome,
    isa: Isa,
) -> Result<()> {
    let proof = prove(network, target, reference, &|_| true, isa);
    let equal: BTreeSet<&str> = proof
        .layers
        .iter()
        .filter(|layer| matches!(layer.result, Certificate::Equal(_)))
        .map(|layer| layer.tensor.as_str())
        .collect();
    for layer in &mut found.layers {
        if !equal.contains(layer.tensor.as_str()) {
            continue;
        }
        if layer
            .isolated
            .as_ref()
            .is_some_and(|stats| stats.differing > 0)
        {
            bail!(
                "internal error: layer '{}' is proved equal on '{}', and differs",
                layer.name,
                found.name
            );
        }
        if layer.verdict == Verdict::Aligned {
            layer.verdict = Verdict::Proved;
        }
    }
    Ok(())
}

/// The grid of the codes that both sides can read: the narrower one where one of them saturates earlier.
fn common<'g>(a: &'g ValueGrid, b: &'g ValueGrid) -> Result<&'g ValueGrid, String> {
    let within = |a: &ValueGrid, b: &ValueGrid| match (a, b) {
        (
            ValueGrid::Codes {
                grid: a,
                model: true,
                ..
            },
            ValueGrid::Codes {
                grid: b,
                model: true,
                ..
            },
        ) => a.min >= b.min && a.max <= b.max,
        _ => a == b,
    };
    if within(a, b) {
        Ok(a)
    } else if within(b, a) {
        Ok(b)
    } else {
        Err("the sides read different grids".into())
    }
}

/// What is certain of one layer; a text where nothing is.
fn certify(sides: [&Side; 2], isa: Isa) -> Result<Certificate, String> {
    let [a, b] = sides;
    let operation = |side: &Side| {
        (
            side.layer.name.clone(),
            side.layer.op.clone(),
            side.inputs.len(),
        )
    };
    if operation(a) != operation(b) || sides.iter().any(|side| side.layer.joined.is_some()) {
        return Err("one side does other operations at once here".into());
    }
    let read = a.inputs.iter().zip(&b.inputs);
    let inputs: Vec<&ValueGrid> = read.map(|(a, b)| common(a, b)).collect::<Result<_, _>>()?;
    let sides = sides.map(|side| Side {
        layer: side.layer,
        plan: side.plan,
        inputs: inputs.clone(),
    });
    let sides = [&sides[0], &sides[1]];
    let [a, b] = sides;
    let same_out = match (&a.plan.out, &b.plan.out) {
        (ValueGrid::Codes { grid: a, .. }, ValueGrid::Codes { grid: b, .. }) => a == b,
        _ => false,
    };
    if !same_out {
        return Err("the sides write different grids, or reals".into());
    }
    if a.plan.linear.is_none() {
        return match a.layer.kind {
            Kind::Average { .. } => means::certify(sides, isa),
            _ => tables::certify(sides, isa),
        };
    }
    if sides
        .iter()
        .any(|side| matches!(side.plan.finish, Finish::Float(_)))
    {
        return Err("computed in float on one side".into());
    }
    let model = |side: &&Side| {
        side.plan
            .linear
            .as_ref()
            .is_some_and(|sums| sums.model_weights)
    };
    if !sides.iter().all(model) {
        return Err("the target's weights are not the model's codes".into());
    }
    let [target, against] = sides.map(|side| Step::of(side.layer, side.plan, isa));
    let (target, against) = (target?, against?);
    let input = *a.inputs.first().ok_or("no input")?;
    let reach: Vec<Reach> = reach(a.layer, input).ok_or("weights or inputs without codes")?;
    Ok(steps::certify(a.layer, &target, &against, input, &reach))
}
