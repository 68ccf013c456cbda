//! Lints of shifts on targets whose scales are powers of two.

use align_check_graph::{Affine, Binary, Node, Op};
use align_check_specs::{ShiftLimits, Spec};

use super::trace::{Trace, is_weighted};
use super::{Finding, Lint};

pub fn lint(trace: &Trace, spec: &Spec, findings: &mut Vec<Finding>) {
    let Some(limits) = &spec.limits else {
        return;
    };
    for node in &trace.graph.nodes {
        let said = match &node.op {
            op if is_weighted(op) => weighted(trace, limits, node),
            Op::Binary(Binary::Add) => addition(trace, limits, node),
            _ => None,
        };
        for text in said.unwrap_or_default() {
            findings.push(trace.finding(Lint::ShiftRange, node, text));
        }
    }
}

/// The position of the binary point: `real = code * 2^-position`.
fn position(affine: &Affine) -> Option<i32> {
    let scale = affine.scale.at(0);
    (affine.scale.values.len() == 1 && super::weights::is_power_of_two(scale))
        .then(|| 127 - (scale.to_bits() >> 23) as i32)
}

/// The positions of a node's operands and of the quantizer behind it.
fn positions(trace: &Trace, node: &Node, operands: usize) -> Option<(Vec<i32>, i32)> {
    let inputs = node
        .inputs
        .iter()
        .take(operands)
        .map(|&input| match trace.parameter(input) {
            Some(parameter) => position(parameter.quantizer?),
            None => position(trace.affine(input)?),
        });
    let inputs = inputs.collect::<Option<Vec<i32>>>()?;
    let (end, _) = trace.behind_steps(node.output);
    let quantizer = trace
        .readers(end)
        .find(|reader| matches!(reader.op, Op::Quantize(_)))?;
    Some((inputs, position(trace.affine(quantizer.output)?)?))
}

fn outside(name: &str, value: i32, [min, max]: [i32; 2]) -> Option<String> {
    (!(min..=max).contains(&value))
        .then(|| format!("{name} = {value}, the hardware has {min}..={max}"))
}

fn weighted(trace: &Trace, limits: &ShiftLimits, node: &Node) -> Option<Vec<String>> {
    let (inputs, out) = positions(trace, node, 2)?;
    let cut = inputs.iter().sum::<i32>() - out;
    let mut said: Vec<String> = outside("shift_cut", cut, limits.cut).into_iter().collect();
    let bias = node
        .inputs
        .get(2)
        .and_then(|&bias| trace.parameter(bias)?.quantizer);
    if let Some(bias) = bias.and_then(position) {
        let shift = inputs.iter().sum::<i32>() - bias;
        let min = (-(limits.bias_accumulator_bits - (8 + cut))).min(0);
        said.extend(outside("shift_bias", shift, [min, limits.bias_max]));
    }
    Some(said)
}

fn addition(trace: &Trace, limits: &ShiftLimits, node: &Node) -> Option<Vec<String>> {
    let (inputs, out) = positions(trace, node, node.inputs.len())?;
    let (min, max) = (*inputs.iter().min()?, *inputs.iter().max()?);
    let read = outside("shift_read", max - min, limits.read);
    let write = outside("shift_write", min - out, limits.add_write);
    Some(read.into_iter().chain(write).collect())
}
