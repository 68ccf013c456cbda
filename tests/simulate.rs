//! Running a small model under a target, through the library.

use std::collections::BTreeMap;

use align_check::check::Target;
use align_check_graph::{Limits, Model};
use align_check_simulators::adapt::put_on;
use align_check_simulators::kernels::Isa;
use align_check_simulators::network::Network;
use align_check_simulators::run::Runner;
use align_check_simulators::tensor::{Data, Tensor};
use align_check_specs::Spec;

use crate::onnx::Onnx;

/// Reads a model and cuts it into layers.
///
/// # Panics
/// The model is refused.
pub fn network(model: &Onnx) -> Network {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model.onnx");
    model.write(&path);
    network_of(&path)
}

/// Reads a model file and cuts it into layers.
///
/// # Panics
/// The model is refused.
pub fn network_of(path: &std::path::Path) -> Network {
    let model = Model::read(path, &Limits::default()).unwrap_or_else(|e| panic!("{e}"));
    let graph = model
        .graph(&BTreeMap::new())
        .unwrap_or_else(|e| panic!("{e}"));
    Network::new(graph).unwrap_or_else(|e| panic!("{e}"))
}

/// What a layer makes of its inputs. Where single elements can be made without the others, they are the same.
///
/// # Panics
/// They are not.
pub fn finished(runner: &Runner, inputs: &[&Tensor]) -> Tensor {
    let sums = runner.sums(inputs);
    let out = runner.finish(inputs, &sums);
    let all: Vec<usize> = (0..out.len()).collect();
    if let Some(made) = runner.reals_of(inputs, &sums, &all) {
        for ((at, made), whole) in all.iter().zip(made).zip(out.reals_at(&all)) {
            let same = made == whole || (made.is_nan() && whole.is_nan());
            let layer = &runner.layer.name;
            assert!(same, "{layer}: element {at} alone is {made}, not {whole}");
        }
    }
    out
}

/// The codes of every layer's output, by tensor name, in the model's labels.
///
/// # Panics
/// The target has no counterpart for a layer, or an output has no codes.
pub fn codes(
    network: &Network,
    target: &str,
    inputs: &[(&str, Vec<f64>)],
) -> BTreeMap<String, Vec<i64>> {
    let isa = Isa::detect();
    let resolve = |name: &str| Spec::resolve(name).unwrap_or_else(|e| panic!("{e}"));
    let exact =
        Target::new(network, resolve("exact"), None, isa).unwrap_or_else(|e| panic!("exact: {e}"));
    let target = Target::new(network, resolve(target), Some(&exact), isa)
        .unwrap_or_else(|e| panic!("{target}: {e}"));
    let mut values: Vec<Option<Tensor>> = vec![None; network.graph.values.len()];
    for &input in &network.graph.inputs {
        let name = network.name(input);
        let (_, given) = inputs
            .iter()
            .find(|(key, _)| *key == name)
            .unwrap_or_else(|| panic!("no input '{name}'"));
        let tensor = Tensor::real(network.graph.shape(input).to_vec(), given.clone());
        values[input] = Some(put_on(&target.grids[input], &tensor).unwrap_or(tensor));
    }
    let mut codes = BTreeMap::new();
    for (layer, plan) in network.layers.iter().zip(&target.plans) {
        assert!(plan.mismatches.is_empty(), "{:?}", plan.mismatches);
        let runner = Runner { layer, plan, isa };
        let inputs: Vec<&Tensor> = layer
            .inputs
            .iter()
            .map(|&i| values[i].as_ref().expect("layers are in order"))
            .collect();
        let out = finished(&runner, &inputs);
        if let Data::Codes { codes: own, .. } = &out.data {
            let own = own.iter().map(|&code| i64::from(code)).collect();
            codes.insert(layer.tensor.clone(), own);
        }
        values[layer.output] = Some(out);
    }
    codes
}
