//! Lints of weights that several nodes read.

use std::collections::BTreeMap;

use align_check_graph::{Node, ValueId};

use super::trace::{Trace, is_weighted};
use super::{Finding, Lint};

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
}
