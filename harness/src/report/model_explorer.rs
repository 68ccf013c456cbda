//! Node data for Google's Model Explorer, so that its picture of the model has the verdicts' colours.
//!
//! The format is the viewer's «custom node data»: an object for one graph with `results`, keyed by a node's identifier
//! or by the name of one of its output tensors, each with a `value` (a number or a text) and colours
//! (`google-ai-edge/model-explorer:src/server/package/src/model_explorer/node_data_builder.py`; the same in
//! `src/ui/src/components/visualizer/common/types.ts`, `NodeDataProviderGraphData`). A file without graph identifiers
//! belongs to the graph that is open (`node_data_provider_dropdown.ts`, `getNodeDataProviderData`), so nothing about a
//! converter's names for graphs has to be known.

use serde_json::{Map, Value, json};

use super::text::percent;
use super::view;
use crate::outcome::{LayerOutcome, Outcome, TargetOutcome};

/// The outcome as node data: a layer's worst verdict on any target, under the layer's name and its tensor's.
///
/// The value of a node is the verdict's words and, where elements differ, how many; with several targets, the
/// target that it is of.
pub fn model_explorer(outcome: &Outcome) -> String {
    let mut worst: Vec<(&TargetOutcome, &LayerOutcome)> = Vec::new();
    for target in &outcome.targets {
        for layer in &target.layers {
            match worst
                .iter_mut()
                .find(|(_, other)| other.tensor == layer.tensor)
            {
                Some(known) if severity(known.1) >= severity(layer) => {}
                Some(known) => *known = (target, layer),
                None => worst.push((target, layer)),
            }
        }
    }
    let mut results = Map::new();
    for (target, layer) in worst {
        let mut parts = vec![layer.verdict.text().to_owned()];
        if let Some(stats) = view::decisive(layer).filter(|stats| stats.differing > 0) {
            parts.push(percent(stats.rate()));
            parts.push(view::difference(stats.max_lsb, layer.lsb.is_some()));
        }
        parts.extend(layer.cause.as_ref().map(|cause| cause.name.clone()));
        if outcome.targets.len() > 1 {
            parts.push(format!("({})", target.name));
        }
        let value = parts.join("; ");
        let data = json!({
            "value": value,
            "bgColor": view::look(layer.verdict).color,
            "textColor": "#ffffff",
        });
        results.insert(layer.name.clone(), data.clone());
        results.insert(layer.tensor.clone(), data);
    }
    let names: Vec<&str> = outcome
        .targets
        .iter()
        .map(|target| target.name.as_str())
        .collect();
    let node_data = json!({
        "name": format!("align-check {}: {}", env!("CARGO_PKG_VERSION"), names.join(", ")),
        "results": Value::Object(results),
    });
    format!("{node_data:#}\n")
}

/// What makes one layer's findings worse than another's.
fn severity(layer: &LayerOutcome) -> (crate::outcome::Verdict, u64) {
    let differing = view::decisive(layer).map_or(0, |stats| stats.differing);
    (layer.verdict, differing)
}
