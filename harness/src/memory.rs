//! How much memory a network's tensors ask for, before any is taken.

use align_check_graph::{Graph, Limits, Op, ValueId};
use anyhow::{Result, bail};

use crate::report::text;

/// Bytes of one element of a tensor that is computed.
const ELEMENT: u64 = 8;

/// Checks that the tensors of one sample fit into what a model of `bytes` bytes may ask for
/// ([`Limits::memory`]): those that live at one time, in the reference's run and in a target's, and the tables that plans
/// keep of operations that move elements. Threads have tensors of their own; they are as many as the user asks for, and
/// are not counted.
///
/// # Errors
/// One line: how much is asked for, by which tensor most, and the argument that lifts the limit.
pub fn fits(graph: &Graph, bytes: u64, limits: &Limits) -> Result<()> {
    let need = needed(graph);
    let most = limits.memory(bytes);
    if need <= most {
        return Ok(());
    }
    let computed = (0..graph.values.len()).filter(|&value| graph.values[value].constant.is_none());
    let largest = computed.max_by_key(|&value| elements(graph, value));
    let largest = largest.map_or_else(String::new, |value| {
        let value = graph.value(value);
        format!(", most of all '{}' of shape {:?}", value.name, value.shape)
    });
    bail!(
        "one sample's tensors take about {}{largest}, and the limit is {} ({})",
        text::bytes(need as usize),
        text::bytes(most as usize),
        Limits::MEMORY
    );
}

fn elements(graph: &Graph, value: ValueId) -> u64 {
    let extents = graph.shape(value).iter();
    extents.fold(1u64, |n, &extent| n.saturating_mul(extent as u64))
}

/// Whether a plan keeps a table of source positions for it.
fn moves(op: &Op) -> bool {
    matches!(
        op,
        Op::Transpose { .. }
            | Op::Slice { .. }
            | Op::Pad(_)
            | Op::Resize(_)
            | Op::DepthToSpace { .. }
    )
}

fn needed(graph: &Graph) -> u64 {
    let size = |value: ValueId| match graph.value(value).constant {
        Some(_) => 0,
        None => elements(graph, value).saturating_mul(ELEMENT),
    };
    let mut last = vec![0; graph.values.len()];
    for (number, node) in graph.nodes.iter().enumerate() {
        last[node.output] = number;
        for &input in &node.inputs {
            last[input] = number;
        }
    }
    for &output in &graph.outputs {
        last[output] = graph.nodes.len();
    }
    let mut live: u64 = graph
        .inputs
        .iter()
        .map(|&input| size(input))
        .fold(0, u64::saturating_add);
    let mut peak = live;
    let mut tables = 0u64;
    for (number, node) in graph.nodes.iter().enumerate() {
        live = live.saturating_add(size(node.output));
        peak = peak.max(live);
        if moves(&node.op) {
            tables = tables.saturating_add(size(node.output));
        }
        let mut read: Vec<ValueId> = node.inputs.iter().chain([&node.output]).copied().collect();
        read.sort_unstable();
        read.dedup();
        for value in read.into_iter().filter(|&value| last[value] == number) {
            live = live.saturating_sub(size(value));
        }
    }
    // Two runs have tensors of their own: the reference's, and a target's.
    peak.saturating_mul(2).saturating_add(tables)
}
