//! Lints of weights that several nodes read.

use std::collections::BTreeMap;

use align_check_graph::{Constant, Node, ValueId};

use super::trace::{Parameter, Trace, is_weighted};
use super::weights::dequantized;
use super::{Finding, Lint};

/// Fewer weights may be alike by chance.
const TELLING: usize = 16;

pub fn lint(trace: &Trace, findings: &mut Vec<Finding>) {
    let mut uses: BTreeMap<ValueId, Vec<(&Node, bool)>> = BTreeMap::new();
    for node in trace
        .graph
        .nodes
        .iter()
        .filter(|node| is_weighted(&node.op))
    {
        if let Some(weights) = node.inputs.get(1).and_then(|&input| trace.parameter(input)) {
            let quantized = weights.quantizer.is_some() && trace.is_quantized(node.inputs[0]);
            uses.entry(weights.value)
                .or_default()
                .push((node, quantized));
        }
    }
    for (value, nodes) in uses {
        let quantized = nodes.iter().find(|(_, quantized)| *quantized);
        let float = nodes.iter().find(|(_, quantized)| !quantized);
        if let (Some((quantized, _)), Some((float, _))) = (quantized, float) {
            let text = format!(
                "'{}' is quantized for '{}' and float for '{}'",
                trace.graph.value(value).name,
                quantized.name,
                float.name
            );
            findings.push(trace.finding(Lint::SharedWeightHalfFloat, float, text));
        }
    }
    copies(trace, findings);
}

/// Exporters that fold constants leave two: the codes for one use, the reals that they stand for for the other.
fn copies(trace: &Trace, findings: &mut Vec<Finding>) {
    let all: Vec<(&Node, Parameter)> = trace
        .graph
        .nodes
        .iter()
        .filter(|node| is_weighted(&node.op))
        .filter_map(|node| Some((node, trace.parameter(*node.inputs.get(1)?)?)))
        .collect();
    for (node, float) in all.iter().filter(|(_, weights)| !weights.quantized) {
        let Constant::F32(reals) = float.constant else {
            continue;
        };
        let copy = all.iter().find(|(_, weights)| {
            weights.stored
                && reals.len() >= TELLING
                && trace.graph.shape(weights.value) == trace.graph.shape(float.value)
                && dequantized(trace, weights).is_some_and(|codes| {
                    let near = |(w, (q, step)): (&f32, &(f32, f32))| (w - q).abs() <= *step;
                    codes.len() == reals.len() && reals.iter().zip(&codes).all(near)
                })
        });
        if let Some((quantized, _)) = copy {
            let text = format!(
                "'{}' is float here, its codes are the weights of '{}'",
                trace.graph.value(float.value).name,
                quantized.name
            );
            findings.push(trace.finding(Lint::SharedWeightHalfFloat, node, text));
        }
    }
}
