//! Inputs on which two targets give different codes: searched through the network, and where that finds none, made for
//! a layer alone from a counterexample of `prove`.

use std::collections::BTreeMap;
use std::sync::Arc;

use align_check_simulators::adapt::{ValueGrid, put_on};
use align_check_simulators::kernels::Isa;
use align_check_simulators::network::{Kind, Layer, LinearForm, Network};
use align_check_simulators::plan::LayerPlan;
use align_check_simulators::run::Runner;
use align_check_simulators::tensor::Tensor;
use anyhow::{Result, anyhow};
use rayon::prelude::*;

use super::samples;
use crate::check::Target;
use crate::inputs::{Array, ArrayKind, Sample};
use crate::prove::{Certificate, Example, prove};
use crate::sample::{self, model_grid};

/// Network inputs that are tried.
pub const TRIES: usize = 96;

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// Inputs of the network on which layers differ, the most telling first.
    pub samples: Vec<Sample>,
    /// Inputs of single layers, by the name of the tensor.
    pub of_layers: BTreeMap<String, Array>,
    /// Every layer that was looked at.
    pub layers: Vec<LayerFound>,
}

/// How one layer was told apart.
#[derive(Debug)]
pub struct LayerFound {
    /// Its operators.
    pub op: String,
    /// The tensor that it makes.
    pub tensor: String,
    /// The first tensor that it reads.
    pub input: String,
    /// Elements that differ on the written samples, each side fed with the reference's codes.
    pub network: u64,
    /// Elements of the layer on these samples.
    pub elements: u64,
    /// Elements that differ on the layer's own input that is written.
    pub alone: u64,
    /// Elements of the layer then.
    pub elements_alone: u64,
    /// Why it could not be told apart.
    pub why: String,
}

impl Found {
    /// Whether any layer differs.
    pub fn differs(&self) -> bool {
        self.layers
            .iter()
            .any(|layer| layer.network + layer.alone > 0)
    }
}

/// A layer of the model as both sides compute it.
struct Both<'a> {
    index: usize,
    layer: &'a Layer,
    plans: [&'a LayerPlan; 2],
    targets: [&'a Target; 2],
}

impl Both<'_> {
    /// What the sides make of the same codes: elements, and those that differ.
    fn differing(&self, inputs: &[Arc<Tensor>], isa: Isa) -> (u64, u64) {
        let made = [0, 1].map(|side| {
            let grids = &self.targets[side].grids;
            let moved: Vec<Arc<Tensor>> = self
                .layer
                .inputs
                .iter()
                .zip(inputs)
                .map(|(&value, tensor)| {
                    put_on(&grids[value], tensor).map_or_else(|| tensor.clone(), Arc::new)
                })
                .collect();
            let moved: Vec<&Tensor> = moved.iter().map(|t| &**t).collect();
            let runner = Runner {
                layer: self.layer,
                plan: self.plans[side],
                isa,
            };
            runner.finish(&moved, &runner.sums(&moved))
        });
        let [a, b] = &made;
        let differing = (0..a.len())
            .filter(|&at| a.real_at(at) != b.real_at(at))
            .count();
        (a.len() as u64, differing as u64)
    }
}

/// Searches for inputs on which two targets differ. `count` samples are kept.
///
/// # Errors
/// An input cannot be placed on the model's grid.
pub fn distinguish(
    network: &Network,
    exact: &Target,
    targets: [&Target; 2],
    select: &(dyn Fn(&Layer) -> bool + Sync),
    (count, seed): (usize, u64),
    isa: Isa,
    progress: &(dyn Fn() + Sync),
) -> Result<Found> {
    let proof = prove(network, targets[0], targets[1], select, isa);
    let certificates: BTreeMap<&str, &Certificate> = proof
        .layers
        .iter()
        .map(|layer| (layer.tensor.as_str(), &layer.result))
        .collect();
    let mut both: Vec<Both> = Vec::new();
    let mut layers: Vec<LayerFound> = Vec::new();
    for (index, layer) in network.layers.iter().enumerate() {
        if !layer.is_compared() || !select(layer) {
            continue;
        }
        let why = match certificates.get(layer.tensor.as_str()) {
            Some(Certificate::Equal(_)) => "proved equal for all inputs".to_owned(),
            Some(Certificate::Open { why, .. }) => format!("no input was found; prove: {why}"),
            Some(Certificate::Differs { cases, .. }) => format!(
                "no input was found, though {} of {} cases differ",
                cases.differing, cases.reachable
            ),
            None => "no input was found".to_owned(),
        };
        layers.push(LayerFound {
            op: layer.op.clone(),
            tensor: layer.tensor.clone(),
            input: layer
                .inputs
                .first()
                .map(|&i| network.name(i).to_owned())
                .unwrap_or_default(),
            network: 0,
            elements: 0,
            alone: 0,
            elements_alone: 0,
            why,
        });
        let own = targets.iter().any(|target| target.own.is_some());
        if own {
            // Layers of a target's own read other tensors: prove compares those that are the same.
            continue;
        }
        both.push(Both {
            index,
            layer,
            plans: [&targets[0].plans[index], &targets[1].plans[index]],
            targets,
        });
    }
    let candidates = samples(network, TRIES, seed);
    // For each candidate, elements and differing ones of each layer.
    let counted: Vec<Vec<(u64, u64)>> = candidates
        .par_iter()
        .map(|sample| {
            let found = run(network, exact, sample, &both, isa);
            progress();
            found
        })
        .collect::<Result<_>>()?;
    // Greedily: what tells most layers apart that nothing before it does, then most elements.
    let mut told = vec![false; both.len()];
    let mut kept: Vec<usize> = Vec::new();
    while kept.len() < count {
        let gain = |candidate: &usize| {
            let own = &counted[*candidate];
            let fresh = own
                .iter()
                .zip(&told)
                .filter(|((_, d), told)| *d > 0 && !**told)
                .count();
            let all: u64 = own.iter().map(|(_, differing)| differing).sum();
            (fresh, all)
        };
        let best = (0..candidates.len())
            .filter(|candidate| !kept.contains(candidate))
            .max_by_key(|candidate| (gain(candidate), std::cmp::Reverse(*candidate)));
        let Some(best) = best.filter(|best| gain(best).1 > 0) else {
            break;
        };
        for (told, (_, differing)) in told.iter_mut().zip(&counted[best]) {
            *told |= *differing > 0;
        }
        kept.push(best);
    }
    let mut of_layers = BTreeMap::new();
    for (at, both) in both.iter().enumerate() {
        let Some(found) = layers.iter_mut().find(|l| l.tensor == both.layer.tensor) else {
            continue;
        };
        for &sample in &kept {
            found.elements += counted[sample][at].0;
            found.network += counted[sample][at].1;
        }
        if found.network > 0 {
            continue;
        }
        let example = match certificates.get(both.layer.tensor.as_str()) {
            Some(Certificate::Differs { example, .. }) if !example.inputs.is_empty() => example,
            _ => continue,
        };
        if let Some(inputs) = alone(both, exact, example) {
            let (elements, differing) = both.differing(&inputs, isa);
            found.elements_alone = elements;
            found.alone = differing;
            if differing > 0 {
                for (&value, tensor) in both.layer.inputs.iter().zip(&inputs) {
                    of_layers.insert(network.name(value).to_owned(), stored(tensor));
                }
            } else {
                "no input of the layer was found for the differing sums".clone_into(&mut found.why);
            }
        }
    }
    if targets.iter().any(|target| target.own.is_some()) {
        whole(
            network,
            exact,
            targets,
            &candidates,
            count,
            (&mut kept, &mut layers),
            isa,
        )?;
    }
    Ok(Found {
        samples: kept
            .iter()
            .map(|&index| candidates[index].clone())
            .collect(),
        of_layers,
        layers,
    })
}

/// The reference's way through the network, with both sides beside each layer.
fn run(
    network: &Network,
    exact: &Target,
    sample: &Sample,
    both: &[Both],
    isa: Isa,
) -> Result<Vec<(u64, u64)>> {
    let mut values = sample::inputs(network, &exact.grids, sample)?;
    let last = network.last_uses();
    let mut found = vec![(0, 0); both.len()];
    for (index, layer) in network.layers.iter().enumerate() {
        let inputs: Option<Vec<Arc<Tensor>>> =
            layer.inputs.iter().map(|&i| values[i].clone()).collect();
        let inputs = inputs.ok_or_else(|| anyhow!("layer '{}' lacks an input", layer.name))?;
        if let Some(at) = both.iter().position(|both| both.index == index) {
            found[at] = both[at].differing(&inputs, isa);
        }
        let runner = Runner {
            layer,
            plan: &exact.plans[index],
            isa,
        };
        let borrowed: Vec<&Tensor> = inputs.iter().map(|t| &**t).collect();
        let out = runner.finish(&borrowed, &runner.sums(&borrowed));
        values[layer.output] = Some(Arc::new(out));
        for &dead in &last[index] {
            values[dead] = None;
        }
    }
    Ok(found)
}

/// Targets with layers of their own: whole runs are compared, tensor by tensor, where both have the tensor.
fn whole(
    network: &Network,
    exact: &Target,
    targets: [&Target; 2],
    candidates: &[Sample],
    count: usize,
    (kept, layers): (&mut Vec<usize>, &mut [LayerFound]),
    isa: Isa,
) -> Result<()> {
    let runs: Vec<[BTreeMap<String, Tensor>; 2]> = candidates
        .par_iter()
        .take(WHOLE)
        .map(|sample| {
            Ok([
                free(network, exact, targets[0], sample, isa)?,
                free(network, exact, targets[1], sample, isa)?,
            ])
        })
        .collect::<Result<_>>()?;
    let compared = |run: &[BTreeMap<String, Tensor>; 2], tensor: &str| -> Option<(u64, u64)> {
        let (a, b) = (run[0].get(tensor)?, run[1].get(tensor)?);
        let differing = (0..a.len().min(b.len()))
            .filter(|&at| a.real_at(at) != b.real_at(at))
            .count();
        Some((a.len() as u64, differing as u64))
    };
    let mut order: Vec<(u64, usize)> = runs
        .iter()
        .enumerate()
        .map(|(index, run)| {
            let all = layers
                .iter()
                .filter_map(|layer| compared(run, &layer.tensor));
            (all.map(|(_, differing)| differing).sum(), index)
        })
        .collect();
    order.sort_by_key(|&(differing, index)| (std::cmp::Reverse(differing), index));
    kept.extend(
        order
            .iter()
            .filter(|(differing, _)| *differing > 0)
            .take(count)
            .map(|(_, i)| *i),
    );
    for layer in layers {
        for &index in kept.iter() {
            if let Some((elements, differing)) = compared(&runs[index], &layer.tensor) {
                layer.elements += elements;
                layer.network += differing;
            }
        }
    }
    Ok(())
}

/// Whole runs that are made where targets have layers of their own.
const WHOLE: usize = 16;

/// A target's own run: its tensors that stand for the model's, by the model's names.
fn free(
    network: &Network,
    exact: &Target,
    target: &Target,
    sample: &Sample,
    isa: Isa,
) -> Result<BTreeMap<String, Tensor>> {
    let own = target.network(network);
    let begin = sample::inputs(network, &exact.grids, sample)?;
    let mut values: Vec<Option<Arc<Tensor>>> = vec![None; own.graph.values.len()];
    for (&model, &value) in network.graph.inputs.iter().zip(&own.graph.inputs) {
        values[value] = begin[model].as_ref().map(|tensor| {
            put_on(&target.grids[value], tensor).map_or_else(|| tensor.clone(), Arc::new)
        });
    }
    let stands_for = |value: usize| match &target.own {
        None => Some(value),
        Some(own) => own.placed.stands_for[value],
    };
    let mut found = BTreeMap::new();
    for (layer, plan) in own.layers.iter().zip(&target.plans) {
        let inputs: Option<Vec<&Tensor>> =
            layer.inputs.iter().map(|&i| values[i].as_deref()).collect();
        let inputs = inputs.ok_or_else(|| anyhow!("layer '{}' lacks an input", layer.name))?;
        let runner = Runner { layer, plan, isa };
        let out = runner.finish(&inputs, &runner.sums(&inputs));
        if let Some(model) = stands_for(layer.output).filter(|_| !layer.joins) {
            found.insert(network.name(model).to_owned(), out.clone());
        }
        values[layer.output] = Some(Arc::new(out));
    }
    Ok(found)
}

/// Inputs of a layer that hold a counterexample: a window of a convolution, a row, or the codes of operands.
fn alone(both: &Both, exact: &Target, example: &Example) -> Option<Vec<Arc<Tensor>>> {
    let layer = both.layer;
    let Kind::Linear(linear) = &layer.kind else {
        // One code for each operand, all over the tensors.
        if example.inputs.len() != layer.inputs.len() {
            return None;
        }
        let fill = |(&value, (&code, shape)): (&usize, (&i64, &Vec<usize>))| {
            let grid = model_grid(&exact.grids[value])?.clone();
            let code = i32::try_from(code).ok()?;
            Some(Arc::new(Tensor::codes(
                shape.clone(),
                vec![code; shape.iter().product()],
                grid,
            )))
        };
        return layer
            .inputs
            .iter()
            .zip(example.inputs.iter().zip(&layer.input_shapes))
            .map(fill)
            .collect();
    };
    let &[value] = &layer.inputs[..] else {
        return None;
    };
    let ValueGrid::Codes { grid, .. } = &exact.grids[value] else {
        return None;
    };
    let shape = &linear.shape;
    let len: usize = layer.input_shapes.first()?.iter().product();
    let zero = i32::try_from(grid.zero_point.at(0)).ok()?;
    let mut codes = vec![zero; len];
    let [rows, columns] = shape.kernel;
    let group = example.channel? / shape.group_outputs().max(1);
    // The first output whose window lies within the image.
    let first = [0, 1].map(|axis| shape.pads[axis].div_ceil(shape.strides[axis].max(1)));
    let mut tap = example.inputs.iter();
    for c in 0..shape.group_channels() {
        let channel = group * shape.group_channels() + c;
        for y in 0..rows {
            for x in 0..columns {
                let code = i32::try_from(*tap.next()?).ok()?;
                let at = [(y, 0), (x, 1)].map(|(tap, axis)| {
                    (first[axis] * shape.strides[axis] + tap * shape.dilations[axis])
                        .checked_sub(shape.pads[axis])
                });
                let (row, column) = (at[0]?, at[1]?);
                let index = match &linear.form {
                    LinearForm::Image | LinearForm::Columns
                        if row < shape.height && column < shape.width =>
                    {
                        (channel * shape.height + row) * shape.width + column
                    }
                    // The first row holds the window.
                    LinearForm::Rows { transposed, .. } if !*transposed => channel,
                    _ => return None,
                };
                *codes.get_mut(index)? = code;
            }
        }
    }
    let tensor = Tensor::codes(layer.input_shapes.first()?.clone(), codes, grid.clone());
    Some(vec![Arc::new(tensor)])
}

/// A layer's input as a file holds it: codes, 8 bits where they fit.
fn stored(tensor: &Tensor) -> Array {
    let (values, kind) = match &tensor.data {
        align_check_simulators::tensor::Data::Codes { codes, grid } => {
            let kind = match (grid.min >= 0, grid.max - grid.min < 256) {
                (true, true) => ArrayKind::Unsigned(8),
                (false, true) => ArrayKind::Signed(8),
                _ => ArrayKind::Signed(32),
            };
            (codes.iter().map(|&code| f64::from(code)).collect(), kind)
        }
        align_check_simulators::tensor::Data::Real(values) => (values.clone(), ArrayKind::Float),
    };
    Array {
        shape: tensor.shape.clone(),
        values,
        kind,
    }
}
