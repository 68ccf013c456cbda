//! The fake-quant model's own tensors for one sample, to see whether a dump is like them.

use std::sync::Arc;

use align_check_graph::ValueId;
use align_check_simulators::adapt::{ValueGrid, put_on};
use align_check_simulators::kernels::Isa;
use align_check_simulators::network::Network;
use align_check_simulators::run::Runner;
use align_check_simulators::tensor::Tensor;
use anyhow::{Result, anyhow};

use super::layout::to_graph_order;
use super::plausible::to_reals;
use crate::check::Target;
use crate::inputs::Sample;

/// The tensors that `keep` names, as reals in the graph's order of axes.
///
/// # Errors
/// The sample lacks an input.
pub(crate) fn run(
    network: &Network,
    exact: &Target,
    sample: &Sample,
    keep: &[ValueId],
    isa: Isa,
) -> Result<Vec<Option<Vec<f64>>>> {
    let mut values: Vec<Option<Arc<Tensor>>> = vec![None; network.graph.values.len()];
    let mut kept = vec![None; keep.len()];
    let mut note = |value: ValueId, tensor: &Tensor| {
        for (at, _) in keep.iter().enumerate().filter(|(_, k)| **k == value) {
            kept[at] = Some(tensor.to_real().into_owned());
        }
    };
    for &input in &network.graph.inputs {
        let value = network.graph.value(input);
        let array = sample.inputs.get(&value.name);
        let array = array.ok_or_else(|| anyhow!("no numbers for the input '{}'", value.name))?;
        let numbers = to_graph_order(&array.values, &value.shape, value.file_axes.as_deref());
        let grid = &exact.grids[input];
        let reals = match grid {
            ValueGrid::Codes { grid, .. } => to_reals(&numbers, array.kind, Some(grid), value),
            _ => to_reals(&numbers, array.kind, None, value),
        };
        let tensor = Tensor::real(value.shape.clone(), reals);
        let tensor = put_on(grid, &tensor).unwrap_or(tensor);
        note(input, &tensor);
        values[input] = Some(Arc::new(tensor));
    }
    let last = network.last_uses();
    for (index, layer) in network.layers.iter().enumerate() {
        let inputs = layer.inputs.iter().map(|&i| values[i].clone());
        let inputs: Vec<Arc<Tensor>> = inputs
            .collect::<Option<_>>()
            .ok_or_else(|| anyhow!("layer '{}' lacks an input", layer.name))?;
        let inputs: Vec<&Tensor> = inputs.iter().map(|t| &**t).collect();
        let runner = Runner {
            layer,
            plan: &exact.plans[index],
            isa,
        };
        let out = runner.finish(&inputs, &runner.sums(&inputs));
        note(layer.output, &out);
        values[layer.output] = Some(Arc::new(out));
        for &value in &last[index] {
            values[value] = None;
        }
    }
    Ok(kept)
}

/// The cosine between two tensors; nothing where one of them is zero or not finite.
pub(crate) fn cosine(a: &[f64], b: &[f64]) -> Option<f64> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let norm = (dot(a, a) * dot(b, b)).sqrt();
    let cosine = dot(a, b) / norm;
    (norm > 0.0 && cosine.is_finite()).then(|| cosine.clamp(-1.0, 1.0))
}
