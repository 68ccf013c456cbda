//! Lints of grids, shifts and constants that a target does not have.

use align_check_graph::{Activation, Affine, Node, Op};
use align_check_simulators::rules::average;
use align_check_specs::{AverageRule, Granularity, Grid, LeakyReluRule, Spec, ZeroPoints};

use super::trace::{Trace, is_unweighted, is_weighted};
use super::weights::is_power_of_two;
use super::{Finding, Lint};

pub fn lint(trace: &Trace, spec: &Spec, findings: &mut Vec<Finding>) {
    for node in &trace.graph.nodes {
        float(trace, node, findings);
        constants(trace, spec, node, findings);
        let activation = matches!(node.op, Op::Quantize(_)) && !trace.is_constant(node.inputs[0]);
        if let Some(affine) = trace.affine(node.output).filter(|_| activation) {
            grid(trace, spec, node, affine, findings);
        }
    }
}

/// A layer with an operand or a result in float, in a graph that has quantizers.
fn float(trace: &Trace, node: &Node, findings: &mut Vec<Finding>) {
    if !is_weighted(&node.op) && !is_unweighted(&node.op) {
        return;
    }
    let operands = node.inputs.iter().take(if is_weighted(&node.op) {
        2
    } else {
        node.inputs.len()
    });
    let float: Vec<&str> = operands
        .filter(|&&input| match trace.parameter(input) {
            Some(parameter) => is_weighted(&node.op) && parameter.quantizer.is_none(),
            None => !trace.is_quantized(input),
        })
        .map(|&input| trace.graph.value(input).name.as_str())
        .collect();
    if !float.is_empty() {
        let text = format!("{} reads '{}' in float", node.op_type, float.join("', '"));
        findings.push(trace.finding(Lint::FloatFallback, node, text));
    }
}

fn grid(trace: &Trace, spec: &Spec, node: &Node, affine: &Affine, findings: &mut Vec<Finding>) {
    let rule = &spec.activations;
    let mut push = |lint, text| findings.push(trace.finding(lint, node, text));
    if rule.granularity == Granularity::PerTensor && affine.scale.values.len() > 1 {
        push(
            Lint::PerChannel,
            format!("an activation with {} scales", affine.scale.values.len()),
        );
    }
    let odd_scale = affine.scale.values.iter().find(|&&s| !is_power_of_two(s));
    if let (Grid::PowerOfTwo, Some(scale)) = (rule.quantizer, odd_scale) {
        push(Lint::NotPowerOfTwo, format!("activation scale {scale:.6e}"));
    }
    let zero = affine.zero_point.values.iter().find(|&&z| z != 0.0);
    if let (ZeroPoints::Zero, Some(zero)) = (rule.zero_point, zero) {
        push(Lint::ZeroPoint, format!("activation zero point {zero}"));
    }
    if !affine.signed && affine.narrow {
        push(
            Lint::UnsignedNarrow,
            format!("codes 0..={}, {} bits", affine.max_code(), affine.bits),
        );
    }
    if affine.bits == 7 && rule.quantizer != Grid::Model {
        push(
            Lint::ReducedRange,
            format!(
                "codes {}..={} of an 8-bit type",
                affine.min_code(),
                affine.max_code()
            ),
        );
    }
}

/// Constants that a target's rules replace.
fn constants(trace: &Trace, spec: &Spec, node: &Node, findings: &mut Vec<Finding>) {
    let ops = &spec.ops;
    let mut push = |text| findings.push(trace.finding(Lint::ReplacedConstant, node, text));
    match &node.op {
        Op::Activation(Activation::LeakyRelu { alpha })
            if ops.leaky_relu == Some(LeakyReluRule::Alpha26Over256) =>
        {
            let own = 26.0 / 256.0;
            if *alpha != own {
                push(format!("slope {alpha} becomes 26/256 = {own}"));
            }
        }
        Op::AveragePool { pool, .. } if ops.average == Some(AverageRule::DpuTable) => {
            let window = pool.kernel.iter().product::<usize>();
            let gain = dpu_gain(&pool.kernel);
            if (gain - 1.0).abs() > 1e-9 {
                push(format!("1/{window} becomes {gain}/{window}"));
            }
        }
        _ => {}
    }
}

/// The factor by which the DPU's multiplier and shift miss `1 / window`.
fn dpu_gain(kernel: &[usize]) -> f64 {
    let n: usize = kernel.iter().product();
    let (multiplier, shift) = average::dpu_reciprocal(kernel, n as i64);
    multiplier as f64 * n as f64 / f64::from(1u32 << shift)
}
