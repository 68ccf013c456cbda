//! Convolutions that become a part of the addition that reads them.

use align_check_graph::{Binary, Quantizer, ValueId};
use align_check_specs::{Product, ResidualRule};

use super::{Absent, Decision, Placed, Status};
use crate::network::{Joined, Kind, Layer, Network, Operand, Post};

const RULE: &str = "placement.residual";

/// Whether a network has additions of two activations at all.
pub(super) fn possible(network: &Network) -> bool {
    network.layers.iter().any(|layer| operands(layer).is_some())
}

/// The operands of an addition of two activations of one shape.
fn operands(layer: &Layer) -> Option<[usize; 2]> {
    match &layer.kind {
        Kind::Binary {
            op: Binary::Add,
            operands: [Operand::Input(a), Operand::Input(b)],
            shapes: [left, right],
        } if left == right => Some([*a, *b]),
        _ => None,
    }
}

/// What an addition reads.
struct Branch {
    /// The layer that makes it, behind nodes that only say how codes are read.
    layer: usize,
    /// Whether nobody else reads it.
    own: bool,
}

/// Joins every addition that the rule joins; whether there is one.
pub(super) fn apply(network: &mut Network, rule: ResidualRule, placed: &mut Placed) -> bool {
    let mut producer: Vec<Option<usize>> = vec![None; network.graph.values.len()];
    let mut readers = vec![0; network.graph.values.len()];
    for (index, layer) in network.layers.iter().enumerate() {
        producer[layer.output] = Some(index);
        for &input in &layer.inputs {
            readers[input] += 1;
        }
    }
    let mut any = false;
    for index in 0..network.layers.len() {
        let Some(operands) = operands(&network.layers[index]) else {
            continue;
        };
        let branches = operands.map(|operand| {
            let mut value = network.layers[index].inputs[operand];
            let mut own = true;
            loop {
                let layer = producer[value]?;
                own &= readers[value] == 1 && !network.graph.outputs.contains(&value);
                if !network.layers[layer].is_plain_pass() {
                    return Some(Branch { layer, own });
                }
                value = network.layers[layer].inputs[0];
            }
        });
        let [Some(a), Some(b)] = branches else {
            continue;
        };
        let pairs = [(0, &a, &b), (1, &b, &a)];
        let found = pairs.into_iter().find_map(|(operand, conv, other)| {
            joins(network, &producer, rule, conv, other).then_some((operand, conv.layer))
        });
        if let Some((operand, conv)) = found {
            any = true;
            join(network, rule, placed, index, operand, conv);
        } else if rule == ResidualRule::Epilogue {
            apart(network, &producer, placed, index, [&a, &b]);
        }
    }
    any
}

/// Whether a convolution becomes a part of the addition that reads it.
fn joins(
    network: &Network,
    producer: &[Option<usize>],
    rule: ResidualRule,
    conv: &Branch,
    other: &Branch,
) -> bool {
    let layer = &network.layers[conv.layer];
    let is_conv = matches!(&layer.kind, Kind::Linear(linear) if linear.product != Product::FullyConnected
        && linear.product != Product::FullyConnectedUnbiased && linear.rows.is_none()
        && linear.weights.grid().is_some());
    let folds =
        layer.posts.iter().all(|p| matches!(p, Post::Affine { .. })) && layer.folded().is_some();
    let fits = match rule {
        ResidualRule::InnerClips => {
            let uniform = match &layer.quantizer {
                None => true,
                Some(Quantizer::Affine(a)) => {
                    a.scale.values.len() == 1 && a.zero_point.values.len() == 1
                }
                Some(Quantizer::FakeQuantize(q)) => q.channels() == 1,
                Some(_) => false,
            };
            uniform && folds && network.layers[other.layer].quantizer.is_some()
        }
        ResidualRule::Epilogue => {
            layer.quantizer.is_none() && folds && coded(network, producer, other.layer)
        }
    };
    conv.own && is_conv && fits
}

/// Whether a layer makes codes: it ends in a quantizer, or moves codes.
fn coded(network: &Network, producer: &[Option<usize>], mut layer: usize) -> bool {
    loop {
        let own = &network.layers[layer];
        if own.quantizer.is_some() {
            return true;
        }
        let moves = matches!(own.kind, Kind::MaxPool(_) | Kind::Movement(_) | Kind::Pass);
        if !moves || !own.posts.is_empty() {
            return false;
        }
        match producer[own.inputs[0]] {
            Some(before) => layer = before,
            None => return network.stored(own.inputs[0]).is_some(),
        }
    }
}

fn join(
    network: &mut Network,
    rule: ResidualRule,
    placed: &mut Placed,
    index: usize,
    operand: usize,
    conv: usize,
) {
    let inner = network.layers[conv].quantizer.clone();
    let add = network.layers[index].name.clone();
    let own = &mut network.layers[conv];
    own.joins = true;
    let why = match (rule, &inner) {
        (ResidualRule::InnerClips, Some(_)) => format!(
            "the convolution is one kernel with '{add}' (Add): between them it clamps and does not round"
        ),
        (ResidualRule::InnerClips, None) => {
            format!("the convolution is one kernel with '{add}' (Add)")
        }
        (ResidualRule::Epilogue, _) => format!(
            "the convolution is one kernel with '{add}' (Add), a float epilogue: only the other operand is quantized"
        ),
    };
    let absent = Absent {
        rule: RULE,
        why: why.clone(),
    };
    let (made, tensor) = (own.output, own.tensor.clone());
    let quantizer_node = own.quantizer_node.clone();
    // What lies between them, nodes that only say how codes are read included.
    let mut value = network.layers[index].inputs[operand];
    for layer in network.layers[conv..index].iter().rev() {
        if layer.output == value && value != made {
            lack(placed, value, &absent);
            value = layer.inputs[0];
        }
    }
    lack(placed, made, &absent);
    if inner.is_some() {
        placed.decisions.push(Decision {
            tensor,
            node: quantizer_node,
            status: Status::Rewritten,
            at: Vec::new(),
            quantizer: inner.clone(),
            rule: RULE,
            why,
        });
    } else {
        let sum = &network.layers[index];
        if sum.quantizer.is_some() {
            placed.decisions.push(same(sum, Status::Same, format!(
                "it ends the one kernel of convolution '{}' and '{add}' (Add): the other operand has codes",
                network.layers[conv].name
            )));
        }
    }
    network.layers[index].joined = Some(Joined { operand, inner });
}

/// Says why an addition stays apart from a convolution.
fn apart(
    network: &Network,
    producer: &[Option<usize>],
    placed: &mut Placed,
    index: usize,
    branches: [&Branch; 2],
) {
    let add = &network.layers[index];
    let conv = |branch: &&Branch| matches!(network.layers[branch.layer].kind, Kind::Linear(_));
    let convs: Vec<&Branch> = branches.into_iter().filter(conv).collect();
    if convs.is_empty() {
        return;
    }
    for branch in &convs {
        let layer = &network.layers[branch.layer];
        if layer.quantizer.is_some() && branch.own {
            placed.decisions.push(same(layer, Status::Same, format!(
                "it separates '{}' (Add) from the convolution: a kernel of its own, and one rounding more",
                add.name
            )));
        }
    }
    let float = branches
        .iter()
        .any(|branch| !coded(network, producer, branch.layer));
    if float && add.quantizer.is_some() {
        placed.decisions.push(same(add, Status::Float, format!(
            "both operands of '{}' (Add) are floats: the quantizer joins the kernel only where the other operand has codes",
            add.name
        )));
    }
}

fn same(layer: &Layer, status: Status, why: String) -> Decision {
    Decision {
        tensor: layer.tensor.clone(),
        node: layer.quantizer_node.clone(),
        status,
        at: vec![layer.tensor.clone()],
        quantizer: layer.quantizer.clone(),
        rule: RULE,
        why,
    }
}

/// The target has no such tensor.
fn lack(placed: &mut Placed, value: ValueId, absent: &Absent) {
    if let Some(model) = placed.stands_for[value].take() {
        placed.found_as[model] = None;
        placed.absent.entry(model).or_insert_with(|| absent.clone());
    }
}
