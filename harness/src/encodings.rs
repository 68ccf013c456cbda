//! `--encodings`: files that give a float model its quantizers.

use std::collections::BTreeMap;
use std::path::Path;

use align_check_graph::encodings::{Applied, Encodings};
use align_check_graph::{Graph, Model, Op};
use align_check_specs::{Grid, Spec};
use anyhow::anyhow;

use crate::failure::Failure;

/// Reads a file of encodings and puts its quantizers into a graph of `model`, for these targets.
///
/// # Errors
/// The file is damaged, belongs to another model or to another target, or holds what is not evaluated.
pub fn apply(
    path: &Path,
    graph: Graph,
    model: &Model,
    targets: &[Spec],
) -> Result<(Graph, Applied), Failure> {
    let encodings = Encodings::read(path)?;
    for target in targets {
        fits(&encodings, target)?;
    }
    Ok(encodings.apply(graph, model)?)
}

/// Whether a file may be used for a target. A file that presets claim as written for them (`encodings`) is for these
/// alone; software that keeps the model's quantizers, and targets of users that claim nothing, take any.
fn fits(encodings: &Encodings, target: &Spec) -> Result<(), Failure> {
    let format = encodings.format.to_string();
    let claims = |spec: &Spec| spec.encodings.contains(&format);
    let presets = align_check_specs::names();
    let own: Vec<&str> = presets
        .iter()
        .copied()
        .filter(|name| Spec::resolve(name).is_ok_and(|spec| claims(&spec)))
        .collect();
    let takes_any = target.activations.quantizer == Grid::Model
        || (target.encodings.is_empty() && !presets.contains(&target.name.as_str()));
    if own.is_empty() || claims(target) || takes_any {
        return Ok(());
    }
    Err(anyhow!(
        "{}: {format}, for {}, but the target asked is '{}'",
        encodings.path.display(),
        own.join(" and "),
        target.name
    )
    .into())
}

/// Gives quantized tensors the names under which a recording has them (`quantized` of its `recording.toml`).
pub fn recorded_as(graph: &mut Graph, names: &BTreeMap<String, String>) {
    for value in &mut graph.values {
        let recorded = value.aliases.iter().find_map(|alias| names.get(alias));
        if let Some(name) = recorded.cloned() {
            value.aliases = vec![name];
        }
    }
}

/// Whether nothing in a graph is quantized: neither quantizers nor codes nor integer types.
pub fn is_float(graph: &Graph) -> bool {
    let coded = |op: &Op| {
        matches!(
            op,
            Op::Quantize(_) | Op::DynamicQuantize(_) | Op::Reinterpret { .. }
        )
    };
    !graph.integer
        && !graph.nodes.iter().any(|node| coded(&node.op))
        && !graph
            .values
            .iter()
            .any(|value| value.stored.is_some() || value.annotation.is_some())
}
