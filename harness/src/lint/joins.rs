//! Lints of places where branches meet or part.

use align_check_graph::{Activation, Affine, Binary, Node, Op, ValueId};
use align_check_specs::Spec;

use super::trace::{Trace, is_symmetric, is_unweighted, is_weighted, moves, same, words};
use super::weights::is_power_of_two;
use super::{Finding, Lint};

pub fn lint(trace: &Trace, spec: &Spec, findings: &mut Vec<Finding>) {
    for node in &trace.graph.nodes {
        match &node.op {
            Op::Binary(Binary::Add | Binary::AddShifted) if !has_constant(trace, node) => {
                residual(trace, spec, node, findings);
                range_of_sum(trace, node, findings);
                unequal(trace, node, findings);
            }
            Op::Concat { .. } => unequal(trace, node, findings),
            Op::Quantize(_) => chain(trace, node, findings),
            Op::Activation(Activation::Relu | Activation::Clip { .. }) => {
                negative_codes(trace, node, findings);
            }
            _ => {}
        }
        missing_output(trace, node, findings);
    }
    for value in 0..trace.graph.values.len() {
        fork(trace, value, findings);
    }
}

fn has_constant(trace: &Trace, node: &Node) -> bool {
    node.inputs.iter().any(|&input| trace.is_constant(input))
}

/// The convolution that makes a tensor, where only this reader has it.
pub fn own_convolution<'g>(trace: &Trace<'g>, mut value: ValueId) -> Option<&'g Node> {
    loop {
        if trace.readers(value).count() != 1 || trace.is_output(value) {
            return None;
        }
        let node = trace.producer(value)?;
        match &node.op {
            op if is_weighted(op) => return Some(node),
            Op::Quantize(_) | Op::BatchNorm { .. } | Op::Identity => value = node.inputs[0],
            _ => return None,
        }
    }
}

fn residual(trace: &Trace, spec: &Spec, node: &Node, findings: &mut Vec<Finding>) {
    let both = node.inputs.iter().all(|&input| trace.is_quantized(input));
    if spec.placement.residual.is_none() || !both {
        return;
    }
    let convolutions = || {
        node.inputs
            .iter()
            .filter_map(|&input| own_convolution(trace, input))
    };
    if let Some(convolution) = convolutions().next() {
        let branches = if convolutions().count() == 2 {
            "both branches are convolutions; "
        } else {
            ""
        };
        let text = format!(
            "{branches}the output of '{}' is quantized in front of the addition",
            convolution.name
        );
        findings.push(trace.finding(Lint::ResidualBothQuantized, node, text));
    }
}

/// One operand that nobody else reads has the range of the sum, or, where a `Relu` cuts the sum at zero, its upper
/// end within a step. Operands of one range share an observer, and powers of two are few: neither tells anything.
fn range_of_sum(trace: &Trace, node: &Node, findings: &mut Vec<Finding>) {
    let (end, steps) = trace.behind_steps(node.output);
    let Some(sum) = sole_quantizer(trace, end).filter(|sum| !is_power_of_two(sum.scale.at(0)))
    else {
        return;
    };
    let cut = steps.iter().any(|step| {
        matches!(
            step.op,
            Op::Activation(Activation::Relu | Activation::Clip { .. })
        )
    });
    let alike = |own: &Affine| {
        let step = f64::from(own.scale.at(0));
        let one_end = cut && ends(own)[0] < -step && ends(sum)[0] >= -step;
        same(own, sum) || (one_end && (ends(own)[1] - ends(sum)[1]).abs() <= step)
    };
    let found: Vec<(ValueId, &Affine)> = node
        .inputs
        .iter()
        .filter_map(|&input| Some((input, trace.affine(input).filter(|own| alike(own))?)))
        .collect();
    let [(input, own)] = found[..] else {
        return;
    };
    if trace.readers(input).count() == 1 {
        let [low, high] = ends(own);
        let [low_of_sum, high_of_sum] = ends(sum);
        let text = format!(
            "operand '{}' has the range {low:.4} to {high:.4}, the sum {low_of_sum:.4} to {high_of_sum:.4}",
            trace.graph.value(input).name,
        );
        findings.push(trace.finding(Lint::OperandHasRangeOfSum, node, text));
    }
}

/// The reals of the smallest and of the largest code.
fn ends(affine: &Affine) -> [f64; 2] {
    let real = |code: i64| {
        (code as f64 - f64::from(affine.zero_point.at(0))) * f64::from(affine.scale.at(0))
    };
    [real(affine.min_code()), real(affine.max_code())]
}

fn unequal(trace: &Trace, node: &Node, findings: &mut Vec<Finding>) {
    let grids: Vec<&Affine> = node
        .inputs
        .iter()
        .filter_map(|&input| trace.affine(input))
        .collect();
    let Some((first, rest)) = grids.split_first() else {
        return;
    };
    if grids.len() < node.inputs.len() || rest.iter().all(|grid| same(first, grid)) {
        return;
    }
    let all: Vec<String> = grids.iter().map(|grid| words(grid)).collect();
    findings.push(trace.finding(Lint::UnequalScales, node, all.join("; ")));
}

/// A quantizer that reads codes on another grid.
fn chain(trace: &Trace, node: &Node, findings: &mut Vec<Finding>) {
    let (Some(before), Some(own)) = (trace.affine(node.inputs[0]), trace.affine(node.output))
    else {
        return;
    };
    if trace.is_constant(node.inputs[0]) || same(before, own) {
        return;
    }
    let text = format!("{} behind {}", words(own), words(before));
    findings.push(trace.finding(Lint::QuantizerChain, node, text));
}

/// Codes below the zero point behind a `Relu`.
fn negative_codes(trace: &Trace, node: &Node, findings: &mut Vec<Finding>) {
    let bounded = match node.op {
        Op::Activation(Activation::Clip { min, .. }) => min >= 0.0,
        _ => true,
    };
    let Some(grid) = sole_quantizer(trace, node.output).filter(|_| bounded) else {
        return;
    };
    let zero = f64::from(grid.zero_point.at(0));
    let (min, max) = (grid.min_code() as f64, grid.max_code() as f64);
    let share = (zero - min) / (max - min);
    // Symmetric grids spend one half by design.
    if zero > min && !is_symmetric(grid) {
        let text = format!(
            "{:.0} of {:.0} codes lie below zero ({})",
            zero - min,
            max - min + 1.0,
            words(grid)
        );
        if share > 1.0 / 64.0 {
            findings.push(trace.finding(Lint::NegativeCodesAfterRelu, node, text));
        }
    }
}

/// The quantizer that alone reads a tensor.
fn sole_quantizer<'g>(trace: &Trace<'g>, value: ValueId) -> Option<&'g Affine> {
    let mut readers = trace.readers(value);
    let (first, None) = (readers.next()?, readers.next()) else {
        return None;
    };
    matches!(first.op, Op::Quantize(_))
        .then(|| trace.affine(first.output))
        .flatten()
}

fn missing_output(trace: &Trace, node: &Node, findings: &mut Vec<Finding>) {
    let reads_codes = node.inputs.iter().all(|&input| trace.is_quantized(input));
    if !is_unweighted(&node.op) || !reads_codes || has_constant(trace, node) {
        return;
    }
    let (end, _) = trace.behind_steps(node.output);
    // What the network hands out may be real.
    if trace.result_is_quantized(node.output) || trace.ends(end) {
        return;
    }
    let readers: Vec<&str> = trace
        .readers(end)
        .map(|reader| reader.name.as_str())
        .collect();
    // Copies of codes may be read as they are, on one grid.
    let copies = matches!(node.op, Op::Concat { .. });
    let text = format!(
        "{} reads codes and hands reals to {}",
        node.op_type,
        readers.join(", ")
    );
    if !copies {
        findings.push(trace.finding(Lint::MissingOutputQuantizer, node, text));
    }
}

/// A tensor of reals that a quantizer and something else read.
fn fork(trace: &Trace, value: ValueId, findings: &mut Vec<Finding>) {
    if trace.is_quantized(value) || trace.is_constant(value) {
        return;
    }
    let (quantizers, others): (Vec<&Node>, Vec<&Node>) = trace.readers(value).partition(|node| {
        matches!(node.op, Op::Quantize(_))
            || (moves(&node.op) && trace.result_is_quantized(node.output))
    });
    let Some(producer) = trace.producer(value) else {
        return;
    };
    if quantizers.is_empty() || others.is_empty() {
        return;
    }
    let names: Vec<&str> = others.iter().map(|node| node.name.as_str()).collect();
    let text = format!(
        "'{}' is quantized for {} reader(s), and read in float by {}",
        trace.graph.value(value).name,
        quantizers.len(),
        names.join(", ")
    );
    findings.push(trace.finding(Lint::MixedFork, producer, text));
}
