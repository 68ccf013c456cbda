//! Drift: what a layer adds to differences that reach it, and which layer's differences reach an output.

use std::sync::Arc;

use align_check_simulators::adapt::put_on;
use align_check_simulators::run::Runner;
use align_check_simulators::tensor::Tensor;
use anyhow::Result;
use rayon::prelude::*;

use super::{SampleRun, Values, argmax, borrowed, model_grid};
use crate::check::{Check, Mode, SampleFound};
use crate::compare::{self, Lsb};
use crate::inputs::Sample;
use crate::outcome::{Drift, Trace, Traced};

/// Most layers whose differences are followed to an output.
pub(crate) const MOST_TRACED: usize = 8;

/// Most layers whose part in a flip is looked at.
const MOST_BLAMED_LAYERS: usize = 32;

/// Most elements of all tensors of a network that is traced: they are held at once.
const MOST_HELD: usize = 1 << 27;

/// A layer's output in three states, and which elements differ.
pub(super) struct Split<'a> {
    pub(super) expected: &'a Tensor,
    pub(super) isolated: (&'a Tensor, &'a [usize]),
    pub(super) cumulative: (&'a Tensor, &'a [usize]),
    /// Largest difference of the layer's inputs, in LSB.
    pub(super) inputs: f64,
}

impl Split<'_> {
    /// Splits the elements that differ in the target's own run: introduced, where they differ with the reference's
    /// inputs too; propagated, where they do not; of both, amplified are those that are further off than any input of
    /// the layer and than the layer alone.
    pub(super) fn drift(&self, lsb: &Lsb) -> Drift {
        let (out, differing) = self.cumulative;
        let (alone, introduced) = self.isolated;
        let steps = [self.expected, alone, out].map(compare::bytes);
        if let [
            Some((expected, grid)),
            Some((alone, of_alone)),
            Some((out, of_out)),
        ] = steps
            && grid == of_alone
            && grid == of_out
            && lsb.is_of(grid)
        {
            let off = |codes: &[u8], at: usize| f64::from(codes[at].abs_diff(expected[at]));
            return self.split(differing, introduced, |at| (off(alone, at), off(out, at)));
        }
        let off = |tensor: &Tensor, at: usize| {
            ((tensor.real_at(at) - self.expected.real_at(at)) / lsb.at(at)).abs()
        };
        self.split(differing, introduced, |at| (off(alone, at), off(out, at)))
    }

    /// `off`: how far an element is off alone, and in the target's own run, in LSB.
    fn split(
        &self,
        differing: &[usize],
        introduced: &[usize],
        off: impl Fn(usize) -> (f64, f64),
    ) -> Drift {
        let mut drift = Drift {
            inputs_max_lsb: self.inputs,
            ..Drift::default()
        };
        let mut introduced = introduced.iter().copied().peekable();
        for &at in differing {
            while introduced.next_if(|&before| before < at).is_some() {}
            if introduced.peek() == Some(&at) {
                drift.introduced += 1;
            } else {
                drift.propagated += 1;
            }
            let (alone, out) = off(at);
            // A thousandth: steps of reals are quotients.
            drift.amplified += u64::from(out > self.inputs.max(alone) * 1.001);
        }
        drift
    }
}

/// Largest difference between the inputs of a layer, in LSB of each.
pub(super) fn largest(
    base: &[Arc<Tensor>],
    own: &[Arc<Tensor>],
    lsb: impl Fn(usize) -> Lsb,
) -> f64 {
    let pairs = base.iter().zip(own).enumerate();
    let apart = pairs.filter(|(_, (a, b))| !Arc::ptr_eq(a, b) && a.len() == b.len());
    apart
        .map(|(index, (a, b))| {
            compare::largest_of_bytes(a, b)
                .unwrap_or_else(|| compare::compare(a, b, &lsb(index)).0.max_lsb)
        })
        .fold(0.0, f64::max)
}

/// What a layer of a target makes otherwise than the reference, fed with the reference's inputs.
struct Introduced {
    /// Which layer.
    layer: usize,
    /// Its output, on the model's grid.
    output: Arc<Tensor>,
    /// How many elements differ.
    differing: u64,
    /// Whether the target has the output on another grid: only rounded to the model's can the reference's layers read it.
    rounded: bool,
}

/// Runs a sample on one target and hands on what its layers introduce, most elements first. `None` where its tensors are
/// too many to be held.
fn introduced<R>(
    check: &Check,
    t: usize,
    (number, sample): (usize, &Sample),
    compared: &[bool],
    see: impl FnOnce(&SampleRun, Vec<Introduced>) -> Option<R>,
) -> Result<Option<R>> {
    let network = check.network;
    let elements: usize = network
        .layers
        .iter()
        .map(|l| l.shape.iter().product::<usize>())
        .sum();
    if elements > MOST_HELD {
        return Ok(None);
    }
    let one = Check {
        targets: &check.targets[t..=t],
        mode: Mode {
            isolated: true,
            cumulative: true,
        },
        explain: false,
        ..*check
    };
    let mut run = SampleRun::new(&one, number, sample)?;
    run.tracing = true;
    let mut found = SampleFound::new(&one);
    for index in 0..network.layers.len() {
        run.layer(index, compared, &mut found)?;
    }
    let introduced = run.introduced.take().into_iter();
    let mut layers: Vec<Introduced> = introduced
        .map(|(layer, output, differing)| {
            let moved = put_on(
                &check.reference.grids[network.layers[layer].output],
                &output,
            );
            Introduced {
                layer,
                differing,
                rounded: moved.is_some(),
                output: moved.map_or(output, Arc::new),
            }
        })
        .collect();
    layers.sort_by_key(|one| (std::cmp::Reverse(one.differing), one.layer));
    Ok(see(&run, layers))
}

/// Follows the differences of single layers to the worst output element of one sample: the reference is run again
/// with what the target makes of one layer, fed with the reference's inputs, in the place of that layer's output.
/// `None` where no output differs, or no layer's codes can stand in for the reference's.
///
/// # Errors
/// As [`super::run`].
pub(crate) fn trace(
    check: &Check,
    t: usize,
    sample: (usize, &Sample),
    compared: &[bool],
) -> Result<Option<Trace>> {
    let network = check.network;
    introduced(check, t, sample, compared, |run, mut layers| {
        let worst = run.worst_output()?;
        // What a layer makes is followed to the last LSB: nothing rounded in between.
        layers.retain(|one| !one.rounded);
        let number_of_layers = layers.len();
        layers.truncate(MOST_TRACED);
        if layers.is_empty() {
            return None;
        }
        let base = &run.base;
        let mut traced: Vec<Traced> = layers
            .par_iter()
            .map(|one| {
                let out = follow(check, base, one.layer, &one.output);
                let value = network.graph.outputs[worst.output];
                let (lsb, outputs) = match (&base[value], &out[value]) {
                    (Some(base), Some(changed)) => {
                        let off = changed.real_at(worst.at) - base.real_at(worst.at);
                        let stats = compare::compare(base, changed, &worst.lsb).0;
                        (off / worst.lsb.at(worst.at), stats.differing)
                    }
                    _ => (0.0, 0),
                };
                Traced {
                    layer: network.layers[one.layer].name.clone(),
                    differing: one.differing,
                    lsb,
                    outputs,
                }
            })
            .collect();
        traced.sort_by(|a, b| b.lsb.abs().total_cmp(&a.lsb.abs()));
        let value = network.graph.outputs[worst.output];
        Some(Trace {
            sample: sample.0,
            tensor: network.name(value).to_owned(),
            index: super::coordinates(&network.graph.values[value].shape, worst.at),
            lsb: worst.off,
            introducing: number_of_layers as u64,
            layers: traced,
        })
    })
}

/// What a layer alone does to an input's answer.
pub(crate) struct Alone {
    /// Which layer.
    pub(crate) layer: usize,
    /// Whether its output was rounded to the model's grid.
    pub(crate) rounded: bool,
    /// Whether it alone makes another element the largest.
    pub(crate) flips: bool,
    /// The share of the change of the distance between the two classes that it alone makes.
    pub(crate) share: f64,
}

/// What single layers do to an input whose largest element is `target` on the target in place of `reference`: the target's
/// arithmetic in one layer, the reference's in all others. `None` where its tensors are too many to be held.
///
/// # Errors
/// As [`super::run`].
pub(crate) fn alone(
    check: &Check,
    t: usize,
    sample: (usize, &Sample),
    compared: &[bool],
    [reference, target]: [usize; 2],
) -> Result<Option<Vec<Alone>>> {
    introduced(check, t, sample, compared, |run, mut layers| {
        let (value, expected, got) = run.answer(0)?;
        let distance = |tensor: &Tensor| tensor.real_at(reference) - tensor.real_at(target);
        let (before, after) = (distance(expected), distance(got));
        layers.truncate(MOST_BLAMED_LAYERS);
        let base = &run.base;
        let of_layer = |one: &Introduced| {
            let out = follow(check, base, one.layer, &one.output);
            let changed = out[value].as_deref();
            let moved = changed.map_or(0.0, |changed| before - distance(changed));
            Alone {
                layer: one.layer,
                rounded: one.rounded,
                flips: changed.is_some_and(|changed| argmax(changed) != Some(reference)),
                share: if before == after {
                    0.0
                } else {
                    moved / (before - after)
                },
            }
        };
        Some(layers.par_iter().map(of_layer).collect())
    })
}

/// The reference run on from one layer with another output: every tensor that changes.
fn follow(check: &Check, base: &Values, from: usize, tensor: &Arc<Tensor>) -> Values {
    let network = check.network;
    let mut changed: Values = vec![None; base.len()];
    changed[network.layers[from].output] = Some(tensor.clone());
    for (index, layer) in network.layers.iter().enumerate().skip(from + 1) {
        if !layer.inputs.iter().any(|&value| changed[value].is_some()) {
            continue;
        }
        let inputs: Option<Vec<Arc<Tensor>>> = layer
            .inputs
            .iter()
            .map(|&value| changed[value].clone().or_else(|| base[value].clone()))
            .collect();
        let Some(inputs) = inputs else { continue };
        let runner = Runner {
            layer,
            plan: &check.reference.plans[index],
            isa: check.isa,
        };
        let inputs = borrowed(&inputs);
        let out = runner.finish(&inputs, &runner.sums(&inputs));
        if base[layer.output].as_ref().is_none_or(|base| **base != out) {
            changed[layer.output] = Some(Arc::new(out));
        }
    }
    changed
}

/// The element of the outputs that is furthest off.
struct Worst {
    output: usize,
    at: usize,
    /// In LSB, with its sign.
    off: f64,
    lsb: Lsb,
}

impl SampleRun<'_> {
    /// The first output of several elements: its value, the reference's tensor and a target's.
    pub(super) fn answer(&self, t: usize) -> Option<(usize, &Arc<Tensor>, &Arc<Tensor>)> {
        let outputs = self.check.network.graph.outputs.iter();
        let several = outputs.filter_map(|&value| {
            let own = match &self.check.targets[t].own {
                None => Some(value),
                Some(own) => own.placed.found_as[value],
            };
            let got = own.and_then(|value| self.own[t][value].as_ref());
            Some((value, self.base[value].as_ref()?, got?))
        });
        let mut several = several.filter(|(_, expected, _)| expected.len() > 1);
        several.next()
    }

    fn worst_output(&self) -> Option<Worst> {
        let check = self.check;
        let mut worst: Option<Worst> = None;
        for (output, &value) in check.network.graph.outputs.iter().enumerate() {
            let own = match &check.targets[0].own {
                None => Some(value),
                Some(own) => own.placed.found_as[value],
            };
            let got = own.and_then(|value| self.own[0][value].as_ref());
            let (Some(expected), Some(got)) = (&self.base[value], got) else {
                continue;
            };
            let lsb = match model_grid(&check.reference.grids[value]) {
                Some(grid) => Lsb::new(grid.scale.clone(), &expected.shape),
                None => Lsb::unit(),
            };
            for at in compare::compare(expected, got, &lsb).1 {
                let off = (got.real_at(at) - expected.real_at(at)) / lsb.at(at);
                if worst
                    .as_ref()
                    .is_none_or(|worst| off.abs() > worst.off.abs())
                {
                    let lsb = lsb.clone();
                    worst = Some(Worst {
                        output,
                        at,
                        off,
                        lsb,
                    });
                }
            }
        }
        worst
    }
}
