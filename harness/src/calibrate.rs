//! `--calibrate`: quantizers of a float model from the ranges of its tensors on the inputs given. No toolchain's: every
//! report says so.

use std::path::Path;
use std::sync::Arc;

use align_check_graph::encodings::{Applied, Encodings, Range};
use align_check_graph::{Graph, Model};
use align_check_simulators::kernels::Isa;
use align_check_simulators::network::Network;
use align_check_simulators::run::Runner;
use align_check_simulators::tensor::Tensor;
use align_check_specs::{Grid, Spec, ZeroPoints};
use anyhow::{Result, anyhow};

use crate::check::Target;
use crate::encodings;
use crate::failure::Failure;
use crate::inputs::Source;

/// What the format of such a model is called in reports.
pub const LABEL: &str = "calibrated by align-check, an approximation";

/// Puts quantizers behind the inputs and the layers of a float graph: the smallest and largest elements of each tensor
/// over all samples, on the grid of the targets' `[activations]`.
///
/// # Errors
/// The model has quantizers already, cannot be evaluated, or the targets want different grids.
pub fn minmax(
    graph: Graph,
    model: &Model,
    samples: &dyn Source,
    specs: &[Spec],
    isa: Isa,
) -> Result<(Graph, Applied), Failure> {
    let path = model.path();
    if !encodings::is_float(&graph) {
        return Err(anyhow!(
            "{}: it has quantizers already, and --calibrate gives others: which ones win is not guessed",
            path.display()
        )
        .into());
    }
    let (bits, symmetric) = grid(specs)?;
    let ranges = ranges(&graph, path, samples, isa)?;
    let measured = Encodings::from_ranges(path, &ranges, bits, symmetric)?;
    let (graph, mut applied) = measured.apply(graph, model)?;
    let kind = if symmetric { "symmetric" } else { "asymmetric" };
    applied.notes.insert(
        0,
        format!(
            "the quantizers are align-check's own approximation, no toolchain's: smallest and largest elements on {} \
             inputs, {kind}, {bits} bits",
            samples.count()
        ),
    );
    Ok((graph, applied))
}

/// Width and symmetry of the targets' grids; the exact reference takes any.
fn grid(specs: &[Spec]) -> Result<(u32, bool)> {
    let mut wanted = None;
    for spec in specs {
        let rule = &spec.activations;
        if rule.quantizer == Grid::Model {
            continue;
        }
        let bits = match rule.bits.as_slice() {
            [] => 8,
            bits if bits.contains(&8) => 8,
            [first, ..] => *first,
        };
        let own = (bits, rule.zero_point == ZeroPoints::Zero);
        match wanted {
            None => wanted = Some((own, &spec.name)),
            Some((other, _)) if other == own => {}
            Some((_, name)) => {
                return Err(anyhow!(
                    "--calibrate: targets '{name}' and '{}' have different grids of activations; one at a time",
                    spec.name
                ));
            }
        }
    }
    Ok(wanted.map_or((8, false), |(own, _)| own))
}

/// The ranges of the inputs, and of what each layer makes, in exact arithmetic.
fn ranges(
    graph: &Graph,
    path: &Path,
    samples: &dyn Source,
    isa: Isa,
) -> Result<Vec<Range>, Failure> {
    let refused =
        |e: &dyn std::fmt::Display| Failure::Unsupported(format!("{}: {e}", path.display()));
    let network = Network::new(graph.clone()).map_err(|e| refused(&e))?;
    let exact = Spec::resolve("exact").map_err(|e| anyhow!("{e}"))?;
    let exact = Target::new(&network, exact, None, isa).map_err(|e| refused(&e))?;
    let last = network.last_uses();
    let mut found: Vec<Option<Range>> = vec![None; network.graph.values.len()];
    let mut see = |value: usize, tensor: &Tensor| {
        let range = found[value].get_or_insert_with(|| Range {
            tensor: network.name(value).to_owned(),
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
        });
        for &x in tensor.to_real().iter() {
            range.min = range.min.min(x);
            range.max = range.max.max(x);
        }
    };
    for number in 0..samples.count() {
        let sample = samples.load(number)?;
        let mut values: Vec<Option<Arc<Tensor>>> = vec![None; network.graph.values.len()];
        for &input in &network.graph.inputs {
            let name = network.name(input);
            let array = sample.input(name)?;
            let shape = network.graph.shape(input).to_vec();
            let tensor = Tensor::real(shape, array.values.clone());
            see(input, &tensor);
            values[input] = Some(Arc::new(tensor));
        }
        for (index, layer) in network.layers.iter().enumerate() {
            let inputs: Vec<Arc<Tensor>> = layer
                .inputs
                .iter()
                .filter_map(|&value| values[value].clone())
                .collect();
            let inputs: Vec<&Tensor> = inputs.iter().map(|t| &**t).collect();
            let plan = &exact.plans[index];
            let runner = Runner { layer, plan, isa };
            let made = runner.finish(&inputs, &runner.sums(&inputs));
            if layer.is_compared() {
                see(layer.output, &made);
            }
            values[layer.output] = Some(Arc::new(made));
            for &value in &last[index] {
                values[value] = None;
            }
        }
    }
    Ok(found.into_iter().flatten().collect())
}
