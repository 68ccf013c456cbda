//! Lints of weights and biases.

use align_check_graph::{Affine, Constant, Node, Op, Quantizer};
use align_check_simulators::quantize;
use align_check_specs::{BiasFormat, Granularity, Grid, Spec, ZeroPoints};

use super::trace::{Parameter, Trace, is_weighted};
use super::{Finding, Lint};

/// How close to a tie, in units in the last place of the quotient, a division and a multiplication by the
/// reciprocal may part: each is off by less than one.
const TIE_ULPS: f32 = 2.0;

pub fn lint(trace: &Trace, spec: &Spec, findings: &mut Vec<Finding>) {
    for node in trace
        .graph
        .nodes
        .iter()
        .filter(|node| is_weighted(&node.op))
    {
        let Some(weights) = node.inputs.get(1).and_then(|&input| trace.parameter(input)) else {
            continue;
        };
        let Some(affine) = weights.quantizer else {
            continue;
        };
        let mut push = |lint, text| findings.push(trace.finding(lint, node, text));
        if trace
            .behind_steps(node.output)
            .1
            .iter()
            .any(|step| matches!(step.op, Op::BatchNorm { .. }))
        {
            push(
                Lint::UnfoldedBatchNorm,
                "weights are quantized, the normalization follows".into(),
            );
        }
        grid(spec, affine, &mut push);
        let codes = codes(trace, &weights, affine);
        lowest(affine, &codes, &mut push);
        if let (Constant::F32(reals), false) = (weights.constant, weights.stored) {
            clipped(trace, &weights, affine, reals, &mut push);
            ties(trace, &weights, affine, reals, &mut push);
        }
        bias(trace, spec, node, affine, &mut push);
    }
}

fn grid(spec: &Spec, affine: &Affine, push: &mut impl FnMut(Lint, String)) {
    let rule = &spec.weights;
    if rule.granularity == Granularity::PerTensor && affine.scale.values.len() > 1 {
        let (min, max) = extremes(&affine.scale.values);
        push(
            Lint::PerChannel,
            format!(
                "weights have {} scales, {:.1} apart",
                affine.scale.values.len(),
                max / min
            ),
        );
    }
    if rule.quantizer == Grid::PowerOfTwo {
        let other = affine
            .scale
            .values
            .iter()
            .filter(|&&s| !is_power_of_two(s))
            .count();
        if other > 0 {
            push(
                Lint::NotPowerOfTwo,
                format!("{other} of {} weight scales", affine.scale.values.len()),
            );
        }
    }
    let zero = affine
        .zero_point
        .values
        .iter()
        .filter(|&&z| z != 0.0)
        .count();
    let forbidden = match rule.zero_point {
        ZeroPoints::Any => false,
        ZeroPoints::Zero => true,
        ZeroPoints::Unsigned => affine.signed,
    };
    if zero > 0 && forbidden {
        push(
            Lint::ZeroPoint,
            format!("{zero} weight zero points are not 0"),
        );
    }
}

pub fn is_power_of_two(scale: f32) -> bool {
    scale.is_normal() && scale.to_bits().trailing_zeros() >= f32::MANTISSA_DIGITS - 1
}

fn extremes(values: &[f32]) -> (f32, f32) {
    values
        .iter()
        .fold((f32::INFINITY, 0.0), |(min, max): (f32, f32), &v| {
            (min.min(v), max.max(v))
        })
}

fn codes(trace: &Trace, weights: &Parameter, affine: &Affine) -> Vec<i64> {
    match (weights.constant, weights.stored) {
        (Constant::I64(codes), true) => codes.clone(),
        (constant, _) => {
            let shape = trace.graph.shape(weights.value);
            let quantizer = Quantizer::Affine(affine.clone());
            if !fits(affine, shape) {
                return Vec::new();
            }
            quantize::codes(&quantizer, &constant.to_f32(), shape)
                .map_or_else(Vec::new, |codes| codes.into_iter().map(i64::from).collect())
        }
    }
}

/// Whether the parameters belong to axes of this shape (they do not where the weights are moved behind the
/// constant and before the quantizer).
fn fits(affine: &Affine, shape: &[usize]) -> bool {
    [
        (affine.scale.axis, affine.scale.values.len()),
        (affine.zero_point.axis, affine.zero_point.values.len()),
    ]
    .iter()
    .all(|&(axis, count)| count == 1 || axis.is_some_and(|axis| shape.get(axis) == Some(&count)))
}

fn lowest(affine: &Affine, codes: &[i64], push: &mut impl FnMut(Lint, String)) {
    if !affine.signed || affine.bits < 2 || affine.zero_point.values.iter().any(|&z| z != 0.0) {
        return;
    }
    let lowest = i64::MIN >> (64 - affine.bits);
    let count = codes.iter().filter(|&&code| code == lowest).count();
    if count > 0 {
        push(
            Lint::LowestWeight,
            format!("{count} of {} weights are {lowest}", codes.len()),
        );
    }
}

/// Each weight with its scale and zero point.
fn scaled<'a>(
    trace: &Trace,
    weights: &Parameter,
    affine: &'a Affine,
    reals: &'a [f32],
) -> Option<impl Iterator<Item = (f32, f32, f32)> + 'a> {
    let shape = trace.graph.shape(weights.value);
    if !fits(affine, shape) {
        return None;
    }
    let axis = affine.scale.axis.or(affine.zero_point.axis);
    let (count, inner) = match axis {
        Some(axis) => (
            shape[axis],
            shape[axis + 1..].iter().product::<usize>().max(1),
        ),
        None => (1, 1),
    };
    Some(reals.iter().enumerate().map(move |(i, &w)| {
        let channel = i / inner % count;
        (w, affine.scale.at(channel), affine.zero_point.at(channel))
    }))
}

fn clipped(
    trace: &Trace,
    weights: &Parameter,
    affine: &Affine,
    reals: &[f32],
    push: &mut impl FnMut(Lint, String),
) {
    let Some(scaled) = scaled(trace, weights, affine, reals) else {
        return;
    };
    // A scale of amax / 127.5 puts the largest weight on the bound itself, up to the rounding of the quotient.
    let bound = |code: i64, half: f32| (code as f32 + half) * (1.0 + TIE_ULPS * f32::EPSILON);
    let (min, max) = (
        bound(affine.min_code(), -0.5),
        bound(affine.max_code(), 0.5),
    );
    let beyond = scaled
        .filter(|(w, s, z)| !(min..=max).contains(&(w / s + z)))
        .count();
    if beyond > 0 {
        push(
            Lint::ClippedWeights,
            format!(
                "{beyond} of {} weights lie more than half a step outside",
                reals.len()
            ),
        );
    }
}

fn ties(
    trace: &Trace,
    weights: &Parameter,
    affine: &Affine,
    reals: &[f32],
    push: &mut impl FnMut(Lint, String),
) {
    let Some(scaled) = scaled(trace, weights, affine, reals) else {
        return;
    };
    let near: Vec<(f32, f32, f32)> = scaled
        .filter(|&(w, s, _)| {
            let quotient = w / s;
            let from_tie = ((quotient - quotient.floor()) - 0.5).abs();
            // On a power of two both forms are exact, so that a tie is the same tie.
            !is_power_of_two(s) && from_tie <= TIE_ULPS * f32::EPSILON * quotient.abs()
        })
        .collect();
    let code = |x: f32, z: f32| {
        (x.round_ties_even() + z).clamp(affine.min_code() as f32, affine.max_code() as f32)
    };
    let parted = near
        .iter()
        .filter(|&&(w, s, z)| code(w / s, z) != code(w * (1.0 / s), z))
        .count();
    if !near.is_empty() {
        push(
            Lint::WeightTies,
            format!(
                "{} of {} weights lie within rounding errors of a tie; w / scale and w * (1 / scale) differ in the \
                 codes of {parted}",
                near.len(),
                reals.len()
            ),
        );
    }
}

/// The reals that quantized weights stand for, each with its step; none where the parameters belong to other axes.
pub fn dequantized(trace: &Trace, weights: &Parameter) -> Option<Vec<(f32, f32)>> {
    let affine = weights.quantizer?;
    let codes: Vec<f32> = codes(trace, weights, affine)
        .into_iter()
        .map(|code| code as f32)
        .collect();
    let reals = scaled(trace, weights, affine, &codes)?.map(|(code, s, z)| ((code - z) * s, s));
    Some(reals.collect())
}

fn bias(
    trace: &Trace,
    spec: &Spec,
    node: &Node,
    weights: &Affine,
    push: &mut impl FnMut(Lint, String),
) {
    let own_scale = matches!(
        spec.bias.format,
        BiasFormat::Int8Shifted | BiasFormat::Int8Times128
    );
    let (Some(&bias), Some(x)) = (node.inputs.get(2), trace.affine(node.inputs[0])) else {
        return;
    };
    let Some(scale) = trace
        .parameter(bias)
        .and_then(|bias| bias.quantizer)
        .map(|bias| &bias.scale)
    else {
        return;
    };
    if own_scale || x.scale.values.len() > 1 {
        return;
    }
    let channels = scale.values.len().max(weights.scale.values.len());
    let at = |values: &[f32], c: usize| {
        values[if values.len() == 1 {
            0
        } else {
            c.min(values.len() - 1)
        }]
    };
    let wrong: Vec<usize> = (0..channels)
        .filter(|&c| {
            let expected = f64::from(x.scale.at(0)) * f64::from(at(&weights.scale.values, c));
            (f64::from(at(&scale.values, c)) / expected - 1.0).abs() > 1e-6
        })
        .collect();
    if let Some(&c) = wrong.first() {
        let expected = x.scale.at(0) * at(&weights.scale.values, c);
        let text = format!(
            "{} of {channels} channels, e.g. channel {c}: {:.6e} where input and weights give {expected:.6e}",
            wrong.len(),
            at(&scale.values, c),
        );
        push(Lint::BiasScale, text);
    }
}
