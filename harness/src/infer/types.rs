//! Networks in fixed-point types (hls4ml): which rules sums and casts follow, and which types each accumulator can
//! have had. The other types come from the precision table.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use align_check_simulators::adapt::ValueGrid;
use align_check_simulators::hls4ml::{self, Precision};
use align_check_simulators::kernels::Isa;
use align_check_simulators::network::{Layer, Network};
use align_check_simulators::num::{FixedOverflow, FixedType};
use align_check_simulators::plan::LayerPlan;
use align_check_simulators::run::{Runner, Sums};
use align_check_simulators::tensor::Tensor;
use align_check_specs::{
    BiasPosition, Evidence, Grade, PrecisionRules, ProductRule, Rounding, Spec, TermOrder,
    TypeArithmetic,
};
use anyhow::{Result, anyhow};
use rayon::prelude::*;
use serde::Serialize;
use strum::VariantArray as _;

use super::SCHEMA;
use crate::check::Target;
use crate::inputs::{Recording, Sample};
use crate::outcome::Verdict;
use crate::report::style::Paint;
use crate::report::text::{count, thousands, visible};
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
    spec: Option<Spec>,
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

/// A layer with its inputs and what was recorded.
struct Site<'a> {
    index: usize,
    layer: &'a Layer,
    fed: Vec<(Vec<Arc<Tensor>>, Arc<Tensor>)>,
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
                Ok((grids, plans)) => sites
                    .iter()
                    .map(|site| {
                        wrong(
                            site,
                            &plans[site.index],
                            &grids,
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
            .map(|(_, expected)| expected.len() as u64)
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

/// Each recorded layer whose inputs are known.
fn sites<'a>(question: &Types<'a>) -> Result<Vec<Site<'a>>> {
    let network = question.network;
    let mut sites: Vec<Site> = network
        .layers
        .iter()
        .enumerate()
        .map(|(index, layer)| Site {
            index,
            layer,
            fed: Vec::new(),
        })
        .collect();
    for (number, sample) in question.samples.iter().enumerate() {
        let mut values: Vec<Option<Arc<Tensor>>> = vec![None; network.graph.values.len()];
        for &input in &network.graph.inputs {
            let name = network.name(input);
            let array = sample.input(name)?;
            let shape = network.graph.shape(input).to_vec();
            values[input] = Some(Arc::new(Tensor::real(shape, array.values.clone())));
        }
        for site in &mut sites {
            let layer = site.layer;
            let value = network.graph.value(layer.output);
            let found = find_recorded(
                question.recorded,
                value,
                number,
                &sample.name,
                &ValueGrid::Real,
                true,
            )?;
            let inputs: Option<Vec<Arc<Tensor>>> =
                layer.inputs.iter().map(|&i| values[i].clone()).collect();
            if let (Some(inputs), Some(expected)) = (inputs, found) {
                let expected = Arc::new(expected);
                values[layer.output] = Some(expected.clone());
                if (question.select)(layer) {
                    site.fed.push((inputs, expected));
                }
            }
        }
    }
    sites.retain(|site| !site.fed.is_empty());
    Ok(sites)
}

/// Elements of some samples of a layer that a plan gets wrong; counting ends above `limit`.
fn wrong(
    site: &Site,
    plan: &LayerPlan,
    _grids: &[ValueGrid],
    isa: Isa,
    samples: usize,
    limit: u64,
) -> u64 {
    let runner = Runner {
        layer: site.layer,
        plan,
        isa,
    };
    let mut wrong = 0;
    for (inputs, expected) in site.fed.iter().take(samples) {
        let inputs: Vec<&Tensor> = inputs.iter().map(|t| &**t).collect();
        let made = runner.finish(&inputs, &Sums::None);
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
        hls4ml::plan(question.network, &rules, &types).is_ok_and(|(grids, plans)| {
            wrong(site, &plans[site.index], &grids, question.isa, samples, 0) == 0
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

impl TypesFound {
    /// Whether every element is explained.
    pub fn explained(&self) -> bool {
        self.differing == 0
    }

    /// A spec with the rules that were found.
    ///
    /// # Errors
    /// It would not be legal.
    pub fn spec(&self, source: &str) -> Result<Spec> {
        let mut spec = self
            .spec
            .clone()
            .ok_or_else(|| anyhow!("no rules were found"))?;
        let what = format!(
            "inferred from {source}: reproduces {} of {} elements",
            self.elements - self.differing,
            self.elements
        );
        spec.name = "inferred".into();
        spec.aliases = Vec::new();
        spec.encodings = Vec::new();
        spec.summary = format!("Fixed-point types, {what}");
        spec.unknowns = self
            .rules
            .iter()
            .skip(1)
            .map(|rules| format!("could be, too: {}", words(*rules)))
            .collect();
        spec.evidence = vec![Evidence {
            rules: vec!["*".into()],
            grade: Grade::Hypothesis,
            source: what,
            note: None,
        }];
        Ok(spec)
    }

    /// One line.
    pub fn summary(&self) -> String {
        format!(
            "{} of {} elements explained in fixed-point types: {}\n",
            thousands(self.elements - self.differing),
            thousands(self.elements),
            self.rules.first().copied().map(words).unwrap_or_default()
        )
    }

    /// The terminal report.
    pub fn terminal(&self, color: bool) -> String {
        let paint = Paint(color);
        let mut text = String::new();
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(
            text,
            "{}: {} of {} rules reproduce {} of {} elements",
            paint.bold("casts and sums"),
            self.rules.len(),
            self.tried,
            thousands(self.elements - self.differing),
            thousands(self.elements)
        );
        for rules in &self.rules {
            let _ = writeln!(text, "  rule      {}", words(*rules));
        }
        if let Some((rules, wrong)) = &self.runner_up {
            let _ = writeln!(
                text,
                "  refuted   {}: {} wrong",
                words(*rules),
                thousands(*wrong)
            );
        }
        for found in &self.accumulators {
            let verdict = if found.stated_fits {
                paint.verdict(Verdict::Aligned, &format!("{} fits", found.stated))
            } else {
                paint.verdict(
                    Verdict::Misaligned,
                    &format!("{} does not fit", found.stated),
                )
            };
            let _ = writeln!(
                text,
                "{}: {verdict}; {} of {} types do",
                paint.bold(&format!("accumulator of {}", visible(&found.tensor))),
                found.survivors,
                found.tried
            );
            let list = |all: &[String]| {
                let shown: Vec<&str> = all.iter().take(8).map(String::as_str).collect();
                let more = all.len().saturating_sub(8);
                let more = if more > 0 {
                    format!(" / {more} more")
                } else {
                    String::new()
                };
                format!("{}{more}", shown.join(" / "))
            };
            if found.survivors > 0 {
                let _ = writeln!(text, "  fractional bits  {}", list(&found.fractions));
                let _ = writeln!(text, "  integer bits     {}", list(&found.integers));
            }
        }
        for (tensor, wrong) in &self.open {
            let _ = writeln!(
                text,
                "{} {}: {} differ",
                paint.alarm("open"),
                visible(tensor),
                count(*wrong as usize, "element")
            );
        }
        text + "\n" + &self.summary()
    }

    /// The JSON report.
    pub fn json(&self) -> String {
        // Plain data: nothing in it can fail to serialize.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

fn words(rules: PrecisionRules) -> String {
    use super::point::word;
    format!(
        "products: {}, bias: {}, order: {}",
        word(&rules.product),
        word(&rules.bias),
        word(&rules.order)
    )
}
