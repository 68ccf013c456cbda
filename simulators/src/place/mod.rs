//! Placement: a model's graph as a target's compiler rewrites it.
//!
//! [`place`] applies `[placement]` of a spec to a graph: quantizers move, merge, are cloned or disappear. The values
//! of the model keep their numbers, what the target makes in addition is appended; so every tensor of the target
//! says which tensor of the model it stands for, and every tensor of the model whether the target has it.

mod combine;
mod commute;
mod decision;
mod insert;
mod join;
mod rewrite;

use std::collections::BTreeMap;

use align_check_graph::{Graph, ValueId};
use align_check_specs::Spec;

use crate::error::Error;
use crate::network::Network;

pub use decision::{Decision, Status};
use rewrite::Rewriter;

/// A model as a target computes it.
#[derive(Debug)]
pub struct Placed {
    /// The layers of the target; `None` where they are the model's.
    pub network: Option<Network>,
    /// For each value of the target's graph, the model's value that it stands for.
    pub stands_for: Vec<Option<ValueId>>,
    /// For each value of the model's graph, the target's value that stands for it.
    pub found_as: Vec<Option<ValueId>>,
    /// Why the target lacks a value of the model.
    pub absent: BTreeMap<ValueId, Absent>,
    /// What becomes of quantizers: those that do not stay as they are, in the order of the rules.
    pub decisions: Vec<Decision>,
}

/// Why a target lacks a tensor of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absent {
    /// The rule, as a path into the spec.
    pub rule: &'static str,
    /// One line.
    pub why: String,
}

/// Applies a target's placement to the graph that `model` was cut from, constants included.
///
/// # Errors
/// As [`Network::new`].
pub fn place(graph: &Graph, model: &Network, spec: &Spec) -> Result<Placed, Error> {
    let rule = &spec.placement;
    let mut rewriter = Rewriter::new(graph);
    if rule.rewrites() {
        if rule.equal_quantizers.is_some() {
            combine::merge(&mut rewriter);
        }
        commute::run(&mut rewriter, rule);
        if rule.equal_quantizers.is_some() {
            combine::merge(&mut rewriter);
        }
        if let Some(chains) = rule.chains {
            combine::chains(&mut rewriter, chains);
        }
        if rule.relu6.is_some() {
            insert::relu6(&mut rewriter);
        }
        commute::tell(&mut rewriter);
    }
    let rewritten = rewriter.finish();
    let mut placed = rewritten.placed;
    let changed = rewritten.graph.is_some();
    let joining = rule.residual.filter(|_| join::possible(model));
    if !changed && joining.is_none() {
        return Ok(placed);
    }
    let mut network = Network::new(rewritten.graph.unwrap_or_else(|| graph.clone()))?;
    let joined = joining.is_some_and(|rule| join::apply(&mut network, rule, &mut placed));
    if changed || joined {
        placed.network = Some(network);
    }
    Ok(placed)
}
