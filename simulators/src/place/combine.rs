//! Quantizers that become one: equal ones on one tensor, and chains.

use align_check_graph::{Affine, Op, PerChannel, ValueId};
use align_check_specs::ChainRule;

use super::rewrite::Rewriter;
use super::{Decision, Status};

/// Merges quantizers with equal parameters that read the same value.
pub(super) fn merge(graph: &mut Rewriter) {
    for item in graph.quantizers() {
        let Some(node) = graph.node(item) else {
            continue;
        };
        let (input, kept) = (node.inputs[0], node.output);
        let own = graph.uniform(item).cloned();
        let equal: Vec<usize> = graph
            .readers(input)
            .iter()
            .copied()
            .filter(|&other| other != item && graph.uniform(other) == own.as_ref())
            .collect();
        for other in equal {
            let Some(node) = graph.node(other).cloned() else {
                continue;
            };
            for reader in graph.readers(node.output).to_vec() {
                graph.reread(reader, node.output, kept);
            }
            graph.remove(other);
            graph.find_as(node.output, kept);
            for moved in &mut graph.moves {
                for place in moved.items.iter_mut().filter(|place| **place == other) {
                    *place = item;
                }
            }
            if graph.is_own(node.output) {
                graph.decisions.push(Decision {
                    tensor: graph.name(node.output).to_owned(),
                    node: node.name,
                    status: Status::Merged,
                    at: vec![graph.name(kept).to_owned()],
                    quantizer: own.clone().map(align_check_graph::Quantizer::Affine),
                    rule: "placement.equal-quantizers",
                    why: format!(
                        "'{}' quantizes the same tensor with the same scale",
                        graph.name(kept)
                    ),
                });
            }
        }
    }
}

/// Quantizers that only another quantizer reads.
pub(super) fn chains(graph: &mut Rewriter, rule: ChainRule) {
    for second in graph.quantizers() {
        let Some(link) = Link::of(graph, second) else {
            continue;
        };
        match rule {
            ChainRule::Collapse => collapse(graph, &link),
            ChainRule::Intersect => intersect(graph, &link),
        }
    }
}

/// Two quantizers in a row, nothing but `DequantizeLinear` between them.
struct Link {
    first: usize,
    second: usize,
    /// What the first one reads, what it makes, what the second one reads.
    values: [ValueId; 3],
    /// Nodes between them.
    between: Vec<usize>,
    grids: [Affine; 2],
}

impl Link {
    fn of(graph: &Rewriter, second: usize) -> Option<Self> {
        let own = graph.uniform(second)?.clone();
        let read = graph.node(second)?.inputs[0];
        let (mut value, mut between) = (read, Vec::new());
        loop {
            if !graph.is_private(value) {
                return None;
            }
            let (item, node) = graph.producer(value)?;
            if !matches!(node.op, Op::Identity) {
                let first = graph.uniform(item)?.clone();
                return Some(Self {
                    first: item,
                    second,
                    values: [node.inputs[0], value, read],
                    between,
                    grids: [first, own],
                });
            }
            between.push(item);
            value = node.inputs[0];
        }
    }

    /// The second one reads what the first one read.
    fn take_out(&self, graph: &mut Rewriter, rule: &'static str, why: &str) {
        let [input, made, read] = self.values;
        graph.reread(self.second, read, input);
        let mut values = vec![made, read];
        for &item in &self.between {
            values.extend(graph.node(item).map(|node| node.output));
            graph.remove(item);
        }
        let node = graph.node(self.first).map(|node| node.name.clone());
        graph.remove(self.first);
        for value in values {
            graph.lack(value, rule, why);
        }
        if graph.is_own(made) {
            graph.decisions.push(Decision {
                tensor: graph.name(made).to_owned(),
                node: node.unwrap_or_default(),
                status: Status::Missing,
                at: Vec::new(),
                quantizer: None,
                rule,
                why: why.to_owned(),
            });
        }
    }

    fn name<'g>(&self, graph: &'g Rewriter) -> &'g str {
        graph
            .node(self.second)
            .map_or("", |node| graph.name(node.output))
    }
}

fn collapse(graph: &mut Rewriter, link: &Link) {
    if !ends_sum(graph, link.values[0]) {
        return;
    }
    let why = format!(
        "only the quantizer of '{}' reads it: that one alone rounds the sum (scale {:e} instead of {:e}, then {:e})",
        link.name(graph),
        link.grids[1].scale.at(0),
        link.grids[0].scale.at(0),
        link.grids[1].scale.at(0),
    );
    link.take_out(graph, "placement.chains", &why);
}

/// Whether a value is a sum of products, or an elementwise step behind one that nobody else reads.
pub(super) fn ends_sum(graph: &Rewriter, mut value: ValueId) -> bool {
    loop {
        let Some((_, node)) = graph.producer(value) else {
            return false;
        };
        let alone = graph.is_private(value);
        let step = match &node.op {
            Op::Conv(_) | Op::ConvTranspose(_) | Op::Gemm(_) | Op::MatMul => {
                let weights = node.inputs.get(1);
                return alone && weights.is_some_and(|&w| graph.is_constant(w));
            }
            Op::Activation(_) | Op::BatchNorm { .. } | Op::Identity => true,
            Op::Binary(_) => node.inputs.iter().any(|&i| graph.is_constant(i)),
            _ => false,
        };
        let next = node.inputs.iter().find(|&&i| !graph.is_constant(i));
        match next {
            Some(&input) if step && alone => value = input,
            _ => return false,
        }
    }
}

/// `DoubleQDQPairsRemover` of microsoft/onnxruntime
/// `onnxruntime/core/optimizer/double_qdq_pairs_remover.cc`.
fn intersect(graph: &mut Rewriter, link: &Link) {
    let [a, b] = &link.grids;
    let behind = graph.node(link.second).map(|node| node.output);
    let Some(behind) = behind.filter(|&value| graph.is_private(value)) else {
        return;
    };
    let plain = |x: &Affine| x.bits == 8 && !x.narrow && x.zero_point.at(0).fract() == 0.0;
    if !(plain(a) && plain(b) && a.signed == b.signed) || link.between.is_empty() {
        return;
    }
    let Some(shared) = shared_range(a, b) else {
        return;
    };
    let rewritten = shared != *b;
    let why = format!(
        "it and the quantizer of '{}' become one of the range that they share",
        link.name(graph)
    );
    let node = graph.node(link.second).map(|node| node.name.clone());
    link.take_out(graph, "placement.chains", &why);
    if rewritten {
        let [from, to] = [b, &shared].map(|x| (x.scale.at(0), x.zero_point.at(0)));
        graph.requantize(link.second, shared.clone());
        if graph.is_own(behind) {
            graph.decisions.push(Decision {
                tensor: graph.name(behind).to_owned(),
                node: node.unwrap_or_default(),
                status: Status::Rewritten,
                at: vec![graph.name(behind).to_owned()],
                quantizer: Some(align_check_graph::Quantizer::Affine(shared)),
                rule: "placement.chains",
                why: format!(
                    "one with the quantizer in front of it, of the range that both share: scale {:e}, zero point {} instead of {:e}, {}",
                    to.0, to.1, from.0, from.1
                ),
            });
        }
    }
}

/// The quantizer of the range that two share; `None` where they share none.
fn shared_range(a: &Affine, b: &Affine) -> Option<Affine> {
    if a.zero_point == b.zero_point && a.scale == b.scale {
        return Some(b.clone());
    }
    let (min, max) = (a.min_code() as f32, a.max_code() as f32);
    let end = |x: &Affine, code: f32| (code - x.zero_point.at(0)) * x.scale.at(0);
    let low = end(a, min).max(end(b, min));
    let high = end(a, max).min(end(b, max));
    let scale = (high - low) / (max - min);
    let zero_point = (min - low / scale).round();
    (scale.is_finite() && scale > 0.0 && (min..=max).contains(&zero_point)).then(|| Affine {
        scale: PerChannel::uniform(scale),
        zero_point: PerChannel::uniform(zero_point),
        ..b.clone()
    })
}
