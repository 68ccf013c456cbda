//! Quantizers that move: backward over operations that commute with them, and onto the inputs of a concat.

use align_check_graph::{Affine, Node, Op, Quantizer, ResizeAxis, ValueId};
use align_check_specs::{Commuting, Placement};

use super::rewrite::{Move, Rewriter};
use super::{Decision, Status};

const COMMUTES: &str = "placement.commutes";
const CONCAT: &str = "placement.concat";

/// Moves every quantizer as far as it goes.
pub(super) fn run(graph: &mut Rewriter, rule: &Placement) {
    let mut work = graph.quantizers();
    work.reverse();
    while let Some(item) = work.pop() {
        let Some(affine) = graph.uniform(item).cloned() else {
            continue;
        };
        let Some(behind) = Behind::of(graph, item) else {
            continue;
        };
        if commuting(&behind.op.op).is_some_and(|own| rule.commutes.contains(&own)) {
            work.extend(over(graph, item, &behind, &affine));
        } else if let (Op::Concat { .. }, Some(_)) = (&behind.op.op, rule.concat) {
            work.extend(onto(graph, item, &behind, &affine));
        }
    }
}

/// A quantizer and the operation in front of it, whose result nobody else reads.
struct Behind {
    /// The quantizer.
    node: Node,
    /// The operation.
    op: Node,
    /// Its item.
    at: usize,
}

impl Behind {
    fn of(graph: &Rewriter, item: usize) -> Option<Self> {
        let node = graph.node(item)?;
        let (at, op) = graph.producer(node.inputs[0])?;
        graph.is_private(node.inputs[0]).then(|| Self {
            node: node.clone(),
            op: op.clone(),
            at,
        })
    }
}

/// The name of an operation that chooses or moves elements.
fn commuting(op: &Op) -> Option<Commuting> {
    Some(match op {
        Op::MaxPool(_) => Commuting::MaxPool,
        Op::Reshape => Commuting::Reshape,
        Op::Transpose { .. } => Commuting::Transpose,
        Op::Slice { .. } => Commuting::Slice,
        Op::DepthToSpace { .. } => Commuting::DepthToSpace,
        Op::Resize(resize)
            if resize
                .axes
                .iter()
                .all(|a| !matches!(a, ResizeAxis::Linear(_))) =>
        {
            Commuting::Nearest
        }
        _ => return None,
    })
}

/// Moves a quantizer in front of the operation, where that is all that reads its input.
fn over(graph: &mut Rewriter, item: usize, behind: &Behind, affine: &Affine) -> Option<usize> {
    let input = behind.op.inputs[0];
    if graph.is_constant(input) || !graph.is_private(input) {
        return None;
    }
    // Codes of the same quantizer already: in front of the operation it would change nothing.
    let made = graph.producer(graph.source(input)).map(|(own, _)| own);
    if made.is_some_and(|own| graph.uniform(own) == Some(affine)) {
        return None;
    }
    let why = format!(
        "quantizing and '{}' ({}) commute: it stands in front",
        behind.op.name, behind.op.op_type
    );
    let (moved, value) = graph.insert(behind.at, input, affine, behind.node.output);
    graph.reread(behind.at, input, value);
    graph.remove(item);
    graph.make(behind.at, behind.node.output);
    lose(graph, behind.node.inputs[0], input, COMMUTES, &why);
    note(graph, item, &behind.node, &[moved], COMMUTES, why);
    Some(moved)
}

/// Clones a quantizer onto every input of a concat.
fn onto(graph: &mut Rewriter, item: usize, behind: &Behind, affine: &Affine) -> Vec<usize> {
    let mut inputs = behind.op.inputs.clone();
    inputs.sort_unstable();
    inputs.dedup();
    if inputs.iter().any(|&input| graph.is_constant(input)) {
        return Vec::new();
    }
    let why = format!("cloned onto every input of '{}' (Concat)", behind.op.name);
    let mut clones = Vec::new();
    for input in inputs {
        let source = graph.source(input);
        let made = graph.producer(source).map(|(own, _)| own);
        let equal = made.is_some_and(|own| graph.uniform(own) == Some(affine));
        if equal {
            continue;
        }
        let alone = graph.is_private(input);
        let (clone, value) = graph.insert(behind.at, input, affine, behind.node.output);
        graph.reread(behind.at, input, value);
        if alone {
            lose(graph, input, input, CONCAT, &why);
        }
        clones.push(clone);
    }
    graph.remove(item);
    graph.make(behind.at, behind.node.output);
    graph.lack(behind.node.inputs[0], CONCAT, why.clone());
    note(graph, item, &behind.node, &clones, CONCAT, why);
    clones
}

/// `between` is no tensor any more; nor is `input`, where a computation ends in the quantizer now.
fn lose(graph: &mut Rewriter, between: ValueId, input: ValueId, rule: &'static str, why: &str) {
    let computed = graph.producer(input).is_some_and(|(_, node)| {
        !matches!(node.op, Op::Identity | Op::Quantize(_)) && commuting(&node.op).is_none()
    });
    if between != input {
        graph.lack(between, rule, why);
    }
    if computed {
        graph.lack(input, rule, why);
    }
}

/// Remembers where a quantizer of the model went.
fn note(
    graph: &mut Rewriter,
    item: usize,
    node: &Node,
    items: &[usize],
    rule: &'static str,
    why: String,
) {
    if graph.is_own(node.output) && graph.moves.iter().all(|m| m.value != node.output) {
        graph.moves.push(Move {
            value: node.output,
            node: node.name.clone(),
            items: items.to_vec(),
            rule,
            why,
        });
        return;
    }
    for moved in &mut graph.moves {
        if let Some(at) = moved.items.iter().position(|&own| own == item) {
            moved.items.splice(at..=at, items.iter().copied());
        }
    }
}

/// The decisions on quantizers that moved, and on rescales that clones became.
pub(super) fn tell(graph: &mut Rewriter) {
    for moved in std::mem::take(&mut graph.moves) {
        let mut at = Vec::new();
        let mut quantizer = None;
        let mut rescales = Vec::new();
        for &item in &moved.items {
            let Some(node) = graph.node(item) else {
                continue;
            };
            let name = graph.name(node.output).to_owned();
            at.push(name.clone());
            let affine = graph.uniform(item).cloned().map(Quantizer::Affine);
            quantizer = quantizer.or(affine.clone());
            let source = graph.source(node.inputs[0]);
            let coded = graph
                .producer(source)
                .is_some_and(|(_, node)| matches!(node.op, Op::Quantize(_)));
            if coded && moved.rule == CONCAT {
                rescales.push(Decision {
                    tensor: name,
                    node: String::new(),
                    status: Status::Extra,
                    at: vec![graph.name(node.output).to_owned()],
                    quantizer: affine,
                    rule: CONCAT,
                    why: format!(
                        "'{}' has codes of another scale: they are rescaled",
                        graph.name(source)
                    ),
                });
            }
        }
        graph.decisions.push(Decision {
            tensor: graph.name(moved.value).to_owned(),
            node: moved.node,
            status: Status::Moved,
            at,
            quantizer,
            rule: moved.rule,
            why: moved.why,
        });
        graph.decisions.extend(rescales);
    }
}
