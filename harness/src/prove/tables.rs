//! Layers of one or two codes: every combination is computed on both sides.

use align_check_graph::Binary;
use align_check_simulators::adapt::ValueGrid;
use align_check_simulators::kernels::Isa;
use align_check_simulators::network::{Kind, Layer, Operand, Post};
use align_check_simulators::plan::{Finish, LayerPlan};
use align_check_simulators::quantize::CodeGrid;
use align_check_simulators::tensor::{Data, Tensor};
use std::sync::Arc;

use super::{Cases, Certificate, Example, Side, both};

/// Combinations that are not listed any more: 16-bit pairs.
const MOST: u64 = 1 << 20;

/// Elements that are computed at most, over all runs of a layer.
const WORK: u64 = 1 << 24;

/// Fills every combination of input codes.
pub fn certify(sides: [&Side; 2], isa: Isa) -> Result<Certificate, String> {
    let layer = sides[0].layer;
    let plans = sides.map(|side| side.plan);
    let inputs: Vec<&Arc<CodeGrid>> = sides[0]
        .inputs
        .iter()
        .map(|grid| match grid {
            ValueGrid::Codes { grid, .. } => Ok(grid),
            _ => Err("an input without codes".to_string()),
        })
        .collect::<Result<_, _>>()?;
    let joint =
        match &layer.kind {
            Kind::Pass | Kind::Concat { .. } => false,
            Kind::Binary { op, operands, .. } => {
                let both = operands.iter().all(|o| matches!(o, Operand::Input(_)));
                if matches!(op, Binary::Div) {
                    return Err("a quotient of two codes".into());
                }
                both && layer.inputs.len() == 2
            }
            _ => return Err(
                "products of activations, maxima, resampling and softmax are tested, not proved"
                    .into(),
            ),
        };
    if joint && layer.input_shapes.iter().any(|shape| *shape != layer.shape) {
        return Err("operands of different shapes".into());
    }
    let spans: Vec<u64> = inputs
        .iter()
        .map(|grid| grid.max.abs_diff(grid.min) + 1)
        .collect();
    let combinations: u64 = if joint {
        spans
            .iter()
            .try_fold(1u64, |n, &span| n.checked_mul(span))
            .unwrap_or(u64::MAX)
    } else {
        spans.iter().copied().max().unwrap_or(0)
    };
    if combinations == 0 || combinations > MOST {
        return Err(format!("{combinations} combinations of codes"));
    }
    let shifts = shifts(layer, plans, &inputs, combinations, joint);
    let elements = layer.shape.iter().product::<usize>() as u64;
    if shifts.len() as u64 * elements > WORK {
        return Err(format!("{} runs of {elements} elements", shifts.len()));
    }
    let mut cases = Cases {
        reachable: combinations,
        ..Cases::default()
    };
    let mut differing = vec![false; combinations as usize];
    let mut worst: Option<(u32, Example)> = None;
    for shift in shifts {
        // Which combination each element shows.
        let at = |element: usize| (element as u64 + shift) % combinations;
        let tensors: Vec<Tensor> = inputs
            .iter()
            .zip(&layer.input_shapes)
            .enumerate()
            .map(|(index, (grid, shape))| {
                let codes = (0..shape.iter().product::<usize>()).map(|element| {
                    let n = match (joint, index) {
                        (true, 0) => at(element) / spans[1],
                        (true, _) => at(element) % spans[1],
                        (false, _) => at(element) % spans[index],
                    };
                    (grid.min + n as i64) as i32
                });
                Tensor::codes(shape.clone(), codes.collect(), (*grid).clone())
            })
            .collect();
        let borrowed: Vec<&Tensor> = tensors.iter().collect();
        let [got, expected] = both(sides, &borrowed, isa)?;
        for (element, (&got, &expected)) in got.iter().zip(&expected).enumerate() {
            let apart = got.abs_diff(expected);
            if apart == 0 {
                continue;
            }
            differing[at(element) as usize] = true;
            if worst.as_ref().is_none_or(|(most, _)| apart > *most) {
                let codes = |tensor: &Tensor| match &tensor.data {
                    Data::Codes { codes, .. } => codes.get(element).map(|&code| i64::from(code)),
                    Data::Real(_) => None,
                };
                let inputs = match layer.kind {
                    // Elements move: the code that a joined element came from is not at its place.
                    Kind::Concat { .. } => Vec::new(),
                    _ => tensors.iter().filter_map(codes).collect(),
                };
                let example = Example {
                    channel: None,
                    sum: None,
                    inputs,
                    expected: i64::from(expected),
                    got: i64::from(got),
                };
                worst = Some((apart, example));
            }
        }
    }
    cases.differing = differing.iter().filter(|&&differs| differs).count() as u64;
    Ok(Certificate::of(cases, worst))
}

/// By how much combinations are shifted against elements, run by run, so that every kind of element sees every one.
/// Elements are of several kinds where steps differ from channel to channel, or whole blocks from their rest.
fn shifts(
    layer: &Layer,
    plans: [&LayerPlan; 2],
    inputs: &[&Arc<CodeGrid>],
    combinations: u64,
    joint: bool,
) -> Vec<u64> {
    let blocks = plans.iter().any(|plan| match &plan.finish {
        Finish::Tables { .. } => true,
        Finish::Pair(pair) => pair.blocks.is_some(),
        Finish::Float(float) => float.tail.is_some() || float.quantizers.len() > 1,
        _ => false,
    });
    let channels = layer.posts.iter().any(|post| match post {
        Post::Affine { channels, .. } | Post::Leaky { channels, .. } => channels.count > 1,
        _ => false,
    });
    // A constant operand, or a scale for each channel, differs from element to element as well.
    let constants = match &layer.kind {
        Kind::Binary { operands, .. } => operands.iter().any(|operand| match operand {
            Operand::Constant(constant) => constant.len() > 1,
            Operand::Input(_) => false,
        }),
        _ => false,
    };
    let several = |grid: &ValueGrid| match grid {
        ValueGrid::Codes { grid, .. } => !grid.is_uniform(),
        _ => false,
    };
    let scales =
        inputs.iter().any(|grid| !grid.is_uniform()) || plans.iter().any(|plan| several(&plan.out));
    let elements = if joint {
        layer.shape.iter().product::<usize>()
    } else {
        layer
            .input_shapes
            .iter()
            .map(|shape| shape.iter().product::<usize>())
            .min()
            .unwrap_or(1)
    };
    let step = if blocks || channels || constants || scales {
        1
    } else {
        (elements as u64).max(1)
    };
    (0..combinations).step_by(step as usize).collect()
}
