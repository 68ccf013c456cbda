//! Networks in fixed-point types (hls4ml): which rules sums and casts follow, and which types each accumulator can
//! have had. The other types come from the precision table.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use align_check_graph::ValueId;
use align_check_simulators::adapt::ValueGrid;
use align_check_simulators::hls4ml::{self, Precision};
use align_check_simulators::kernels::Isa;
use align_check_simulators::network::{Layer, Network};
use align_check_simulators::num::{FixedOverflow, FixedType};
use align_check_simulators::plan::LayerPlan;
use align_check_simulators::run::{Runner, Sums};
use align_check_simulators::tensor::Tensor;
use align_check_specs::{
    BiasPosition, PrecisionRules, ProductRule, Rounding, Spec, TermOrder, TypeArithmetic,
};
use anyhow::{Result, anyhow};
use rayon::prelude::*;
use serde::Serialize;
use strum::VariantArray as _;

use super::SCHEMA;
use crate::check::Target;
use crate::inputs::{Recording, Sample};
use crate::sample::recorded::find_recorded;

/// What to search.
pub struct Types<'a> {
    /// The network, cut at the table's tensors.
    pub network: &'a Network,
    /// The exact reference.
    pub exact: &'a Target,
    /// The inputs of the recording.
    pub samples: &'a [Sample],
    /// The recording.
    pub recorded: &'a Recording,
    /// The precision table.
    pub types: &'a Precision,
    /// Layers to explain.
    pub select: &'a (dyn Fn(&Layer) -> bool + Sync),
    /// Instructions to use.
    pub isa: Isa,
    /// Called as the search goes on.
    pub progress: &'a (dyn Fn() + Sync),
}

/// What a recording tells of a network in fixed-point types.
#[derive(Debug, Serialize)]
pub struct TypesFound {
    schema: &'static str,
    /// Elements that were recorded.
    pub elements: u64,
    /// Elements that the best rules get wrong.
    pub differing: u64,
    /// The rules, the hls4ml way first, that get the fewest elements wrong.
    pub rules: Vec<PrecisionRules>,
    /// Rules that were tried, and what the best of the refuted ones gets wrong.
    pub tried: usize,
    /// The best refuted rules, and the elements that they get wrong.
    pub runner_up: Option<(PrecisionRules, u64)>,
    /// What each layer of sums tells of its accumulator.
    pub accumulators: Vec<AccumulatorFound>,
    /// Layers with differing elements.
    pub open: BTreeMap<String, u64>,
    #[serde(skip)]
    pub(super) spec: Option<Spec>,
}

/// The types that an accumulator can have had.
#[derive(Debug, Serialize)]
pub struct AccumulatorFound {
    /// The layer's tensor.
    pub tensor: String,
    /// The type in the precision table.
    pub stated: String,
    /// Whether the stated type reproduces the layer.
    pub stated_fits: bool,
    /// Types that were tried.
    pub tried: usize,
    /// Fractional bits, with the quantization mode, that reproduce the layer.
    pub fractions: Vec<String>,
    /// Integer bits, with the overflow mode, that do.
    pub integers: Vec<String>,
    /// How many types reproduce the layer.
    pub survivors: usize,
}

/// A recorded tensor, and the layers from recorded ones to it: a convolution, say, between two that move its elements.
struct Site<'a> {
    /// The layer that makes the tensor.
    layer: &'a Layer,
    /// Positions of the layers, in order.
    chain: Vec<usize>,
    fed: Vec<Fed>,
}

/// One sample of a recorded tensor.
struct Fed {
    /// What the layers read.
    known: Vec<(ValueId, Arc<Tensor>)>,
    expected: Arc<Tensor>,
}

/// Samples on which types are tried first.
const FIRST: usize = 8;

/// Elements of those samples; more would take long.
const MODES: [Rounding; 7] = [
    Rounding::Floor,
    Rounding::HalfUp,
    Rounding::HalfEven,
    Rounding::Trunc,
    Rounding::HalfDown,
    Rounding::HalfAway,
    Rounding::HalfTowardZero,
];

const OVERFLOWS: [FixedOverflow; 5] = [
    FixedOverflow::Wrap,
    FixedOverflow::Saturate,
    FixedOverflow::SaturateSymmetric,
    FixedOverflow::SaturateZero,
    FixedOverflow::WrapSignMagnitude,
];

/// Finds rules and accumulator types.
///
/// # Errors
/// A recorded tensor does not fit, or none belongs to a layer.
pub fn infer_types(question: &Types) -> Result<TypesFound> {
    let sites = sites(question)?;
    if sites.is_empty() {
        return Err(anyhow!(
            "{}: no recorded tensor belongs to a layer of the model whose inputs are known",
            question.recorded.path.display()
        ));
    }
    let mut all = Vec::new();
    for &product in ProductRule::VARIANTS {
        for &bias in BiasPosition::VARIANTS {
            for &order in TermOrder::VARIANTS {
                all.push(PrecisionRules {
                    types: TypeArithmetic::ApFixed,
                    product,
                    bias,
                    order,
                });
            }
        }
    }
    let counted: Vec<Vec<u64>> = all
        .par_iter()
        .map(|rules| {
            let counted = match hls4ml::plan(question.network, rules, question.types) {
                Ok((_, plans)) => sites
                    .iter()
                    .map(|site| {
                        wrong(
                            question.network,
                            site,
                            &plans,
                            question.isa,
                            usize::MAX,
                            u64::MAX,
                        )
                    })
                    .collect(),
                Err(_) => vec![u64::MAX / 1024; sites.len()],
            };
            (question.progress)();
            counted
        })
        .collect();
    // A table that does not fit the network fits it under no rules.
    hls4ml::plan(question.network, &all[0], question.types).map_err(|e| anyhow!("{e}"))?;
    let totals: Vec<u64> = counted.iter().map(|own| own.iter().sum()).collect();
    let best = totals.iter().copied().min().unwrap_or(0);
    let rules: Vec<PrecisionRules> = all
        .iter()
        .zip(&totals)
        .filter(|(_, t)| **t == best)
        .map(|(rules, _)| *rules)
        .collect();
    let runner_up = all
        .iter()
        .zip(&totals)
        .filter(|(_, total)| **total > best)
        .min_by_key(|(_, total)| **total)
        .map(|(rules, total)| (*rules, total - best));
    let at = totals.iter().position(|&total| total == best).unwrap_or(0);
    let open = sites
        .iter()
        .zip(&counted[at])
        .filter(|(_, wrong)| **wrong > 0)
        .map(|(site, wrong)| (site.layer.tensor.clone(), *wrong))
        .collect();
    let accumulators = sites
        .iter()
        .filter_map(|site| accumulator(question, site, rules[0]))
        .collect();
    let mut spec = Spec::resolve("hls4ml").map_err(|e| anyhow!("{e}"))?;
    spec.precision = Some(rules[0]);
    Ok(TypesFound {
        schema: SCHEMA,
        elements: sites
            .iter()
            .flat_map(|site| &site.fed)
            .map(|fed| fed.expected.len() as u64)
            .sum(),
        differing: best,
        tried: all.len(),
        rules,
        runner_up,
        accumulators,
        open,
        spec: Some(spec),
    })
}

/// Each recorded tensor that can be made of others, and of the network's inputs.
fn sites<'a>(question: &Types<'a>) -> Result<Vec<Site<'a>>> {
    let network = question.network;
    let made_by: BTreeMap<ValueId, usize> = network
        .layers
        .iter()
        .enumerate()
        .map(|(index, layer)| (layer.output, index))
        .collect();
    let mut sites: BTreeMap<usize, Site> = BTreeMap::new();
    for (number, sample) in question.samples.iter().enumerate() {
        let mut values: BTreeMap<ValueId, Arc<Tensor>> = BTreeMap::new();
        for &input in &network.graph.inputs {
            let name = network.name(input);
            let array = sample.input(name)?;
            let shape = network.graph.shape(input).to_vec();
            let tensor = Tensor::real(shape, array.values.clone());
            values.insert(input, Arc::new(tensor));
        }
        for layer in &network.layers {
            let found = find_recorded(
                question.recorded,
                network.graph.value(layer.output),
                number,
                &sample.name,
                &ValueGrid::Real,
                true,
            )?;
            if let Some(found) = found {
                values.insert(layer.output, Arc::new(found));
            }
        }
        for (index, layer) in network.layers.iter().enumerate() {
            let Some(expected) = values.get(&layer.output) else {
                continue;
            };
            let (mut chain, mut known) = (BTreeSet::new(), BTreeMap::new());
            let mut wanted = vec![index];
            let mut lost = !(question.select)(layer);
            while let Some(one) = wanted.pop() {
                if !chain.insert(one) {
                    continue;
                }
                for &input in &network.layers[one].inputs {
                    match (values.get(&input), made_by.get(&input)) {
                        (Some(tensor), _) => {
                            known.insert(input, tensor.clone());
                        }
                        (None, Some(&maker)) => wanted.push(maker),
                        (None, None) => lost = true,
                    }
                }
            }
            if !lost {
                let site = sites.entry(index).or_insert_with(|| Site {
                    layer,
                    chain: chain.into_iter().collect(),
                    fed: Vec::new(),
                });
                site.fed.push(Fed {
                    known: known.into_iter().collect(),
                    expected: expected.clone(),
                });
            }
        }
    }
    Ok(sites.into_values().collect())
}

/// Elements of some samples of a recorded tensor that plans get wrong; counting ends above `limit`.
fn wrong(
    network: &Network,
    site: &Site,
    plans: &[LayerPlan],
    isa: Isa,
    samples: usize,
    limit: u64,
) -> u64 {
    let mut wrong = 0;
    for fed in site.fed.iter().take(samples) {
        let mut values: BTreeMap<ValueId, Arc<Tensor>> = fed.known.iter().cloned().collect();
        let mut last = None;
        for &index in &site.chain {
            let layer = &network.layers[index];
            let runner = Runner {
                layer,
                plan: &plans[index],
                isa,
            };
            let inputs: Vec<&Tensor> = layer
                .inputs
                .iter()
                .filter_map(|input| values.get(input).map(|tensor| &**tensor))
                .collect();
            let made = Arc::new(runner.finish(&inputs, &Sums::None));
            values.insert(layer.output, made.clone());
            last = Some(made);
        }
        let Some(made) = last else { continue };
        let expected = &fed.expected;
        wrong += (0..expected.len().max(made.len()))
            .filter(|&at| made.len() != expected.len() || made.real_at(at) != expected.real_at(at))
            .count() as u64;
        if wrong > limit {
            break;
        }
    }
    wrong
}

/// The types that reproduce a layer's sums.
fn accumulator(question: &Types, site: &Site, rules: PrecisionRules) -> Option<AccumulatorFound> {
    let name = &site.layer.tensor;
    let stated = question.types.layers.get(name)?.accum?;
    let fits = |own: FixedType, samples: usize| {
        let mut types = question.types.clone();
        if let Some(table) = types.layers.get_mut(name) {
            table.accum = Some(own);
        }
        hls4ml::plan(question.network, &rules, &types).is_ok_and(|(_, plans)| {
            wrong(question.network, site, &plans, question.isa, samples, 0) == 0
        })
    };
    let own = |fraction: i32, integer: i32, rounding, overflow| FixedType {
        width: (fraction + integer).max(1) as u32,
        integer,
        signed: stated.signed,
        rounding,
        overflow,
    };
    let legal = |t: &FixedType| t.fraction() + t.integer >= 2 && t.width <= 53;
    // With room in front first: then only the fraction matters.
    let wide = (stated.integer + 8).max(24);
    let list = |integers: &[i32], overflows: &[FixedOverflow], fractions: &[(i32, Rounding)]| {
        let mut list = Vec::new();
        for &(fraction, rounding) in fractions {
            for &integer in integers {
                for &overflow in overflows {
                    let one = own(fraction, integer, rounding, overflow);
                    if legal(&one) {
                        list.push(one);
                    }
                }
            }
        }
        list
    };
    let keep = |list: Vec<FixedType>| -> (usize, Vec<FixedType>) {
        let tried = list.len();
        let kept: Vec<FixedType> = list
            .into_par_iter()
            .filter(|one| {
                (question.progress)();
                fits(*one, FIRST)
            })
            .collect();
        let kept = kept
            .into_par_iter()
            .filter(|one| fits(*one, usize::MAX))
            .collect();
        (tried, kept)
    };
    let fractions: Vec<(i32, Rounding)> = (0..=28)
        .flat_map(|fraction| MODES.iter().map(move |&mode| (fraction, mode)))
        .collect();
    let (mut tried, mut found) = keep(list(&[wide], &OVERFLOWS[..1], &fractions));
    let integers: Vec<i32> = (1..wide).collect();
    let fine: Vec<(i32, Rounding)> = if found.is_empty() {
        // Sums overflow: around the stated fraction, every integer part.
        fractions
            .iter()
            .copied()
            .filter(|(fraction, _)| (fraction - stated.fraction()).abs() <= 2)
            .collect()
    } else {
        // One fraction stands for all that are as good.
        found
            .iter()
            .take(1)
            .map(|t| (t.fraction(), t.rounding))
            .collect()
    };
    let (more, narrow) = keep(list(&integers, &OVERFLOWS, &fine));
    tried += more;
    found.extend(narrow);
    let text = |rounding: Rounding| {
        let shown = FixedType { rounding, ..stated }.to_string();
        shown.split(',').nth(2).unwrap_or_default().to_owned()
    };
    let of = |overflow: FixedOverflow| {
        let shown = FixedType { overflow, ..stated }.to_string();
        shown
            .split(',')
            .nth(3)
            .unwrap_or_default()
            .trim_end_matches('>')
            .to_owned()
    };
    let mut fractions: Vec<String> = Vec::new();
    let mut integers: Vec<String> = Vec::new();
    for one in &found {
        let fraction = format!("{} {}", one.fraction(), text(one.rounding));
        let integer = format!("{} {}", one.integer, of(one.overflow));
        if !fractions.contains(&fraction) {
            fractions.push(fraction);
        }
        if !integers.contains(&integer) {
            integers.push(integer);
        }
    }
    Some(AccumulatorFound {
        tensor: name.clone(),
        stated: stated.to_string(),
        stated_fits: fits(stated, usize::MAX),
        tried,
        fractions,
        integers,
        survivors: found.len(),
    })
}
