//! `--encodings`: files that give a float model its quantizers.

use std::collections::BTreeMap;
use std::path::Path;

use align_check_graph::encodings::{Applied, Backend, Encodings, Format};
use align_check_graph::{Graph, Model, Op};
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
    targets: &[String],
) -> Result<(Graph, Applied), Failure> {
    let encodings = Encodings::read(path)?;
    for target in targets {
        fits(&encodings, target)?;
    }
    Ok(encodings.apply(graph, model)?)
}

/// Whether a file may be used for a target: a backend's file only for that backend. The exact reference, and targets of
/// users, take any.
fn fits(encodings: &Encodings, target: &str) -> Result<(), Failure> {
    let own: &[&str] = match encodings.format {
        Format::MqBench(Backend::TensorRt) => &["tensorrt"],
        Format::MqBench(Backend::Nnie) => &["nnie", "nnie-mqbench"],
        Format::MqBench(Backend::Snpe) => &["hexagon-nn", "qnn-htp-approx"],
        Format::MqBench(Backend::Vitis) => &["vitis-dpu"],
        Format::MqBench(Backend::Ppl) => &["ppl-w8a16"],
        Format::MqBench(Backend::PplCuda) => &["ppl-cuda"],
        Format::MqBench(Backend::Stpu) => &["stpu"],
        Format::MqBench(Backend::Tengine) => &["tengine-u8"],
        Format::SvpNnn => &["svp-nnn"],
        _ => return Ok(()),
    };
    let preset = align_check_specs::names().contains(&target);
    if target == "exact" || !preset || own.contains(&target) {
        return Ok(());
    }
    Err(anyhow!(
        "{}: {}, for {}, but the target asked is '{target}'",
        encodings.path.display(),
        encodings.format,
        own.join(" and ")
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
