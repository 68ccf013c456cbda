//! Minimal cases: a layer of a recording that no rule explains, as a folder of its own that anybody can run.

mod onnx;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use align_check_graph::{Limits, Model};
use align_check_simulators::network::Network;
use align_check_simulators::tensor::Tensor;
use align_check_specs::Spec;
use anyhow::{Result, anyhow};

use crate::aside::{self, NewFolder};
use crate::check::{Check, Mode, Target, Tolerance};
use crate::inputs::{self, Array, ArrayKind, Recording, Source};
use crate::outcome::{TargetOutcome, Verdict};
use crate::record::write::npz;
use crate::sample::{self, Exhibit};

/// The file that says how to run a case.
pub const COMMAND: &str = "command.txt";

/// What became of a layer's case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The layer.
    pub layer: String,
    /// Its folder, and how many elements differ in it; or why there is none.
    pub written: Result<(PathBuf, u64), String>,
}

/// Checks that cases can be written into a folder, before the work that finds them.
///
/// # Errors
/// One line: it is no folder, or has no place.
pub fn check(folder: &Path) -> Result<()> {
    aside::check_folder(folder).map_err(|e| anyhow!("--cases {}: {e}", folder.display()))
}

/// Writes a case for every layer of a target that no rule explains: `model.onnx`, `inputs.npz` and `expected.npz` of
/// the first sample that differs, and [`COMMAND`]. Each is run before it is kept; one that does not show the same
/// difference is none. `target` is the target as the user named it.
///
/// # Errors
/// One line: the folder cannot be written, or the samples cannot be run.
pub fn write(
    check: &Check,
    samples: &dyn Source,
    found: &TargetOutcome,
    folder: &Path,
    target: &str,
) -> Result<Vec<Case>> {
    let mut wanted: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for layer in &found.layers {
        let index = check
            .network
            .layers
            .iter()
            .position(|own| own.tensor == layer.tensor);
        if let (Verdict::UnknownRule, Some(witness), Some(index)) =
            (layer.verdict, &layer.witness, index)
        {
            wanted.entry(witness.sample).or_default().push(index);
        }
    }
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    match fs::create_dir(folder) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            return Err(anyhow!("--cases {}: {e}", folder.display()));
        }
        _ => {}
    }
    let mut cases = Vec::new();
    let all = || {
        for (number, layers) in wanted {
            for exhibit in sample::exhibits(check, number, &*samples.load(number)?, &layers)? {
                let layer = &check.network.layers[exhibit.layer];
                cases.push(Case {
                    layer: layer.name.clone(),
                    written: one(check, &exhibit, folder, target)?,
                });
            }
        }
        Ok(())
    };
    let written = all();
    if cases.iter().all(|case| case.written.is_err()) {
        // Only where it is empty.
        let _ = fs::remove_dir(folder);
    }
    written.map(|()| cases)
}

fn one(
    check: &Check,
    exhibit: &Exhibit,
    folder: &Path,
    target: &str,
) -> Result<Result<(PathBuf, u64), String>> {
    let layer = &check.network.layers[exhibit.layer];
    let tensors: Vec<&Tensor> = exhibit.inputs.iter().map(|tensor| &**tensor).collect();
    if check.targets[0].spec.precision.is_some() {
        return Ok(Err("its precision table has no counterpart in ONNX".into()));
    }
    let model = match onnx::model(check.network, layer, &tensors) {
        Ok(model) => model,
        Err(what) => return Ok(Err(what)),
    };
    let own = folder.join(safe(&layer.tensor));
    let failed = |e: &dyn std::fmt::Display| anyhow!("{}: {e}", own.display());
    let new = NewFolder::beside(&own).map_err(|e| failed(&e))?;
    let at = |name: &str| new.path().join(name);
    fs::write(at("model.onnx"), model).map_err(|e| failed(&e))?;
    let arrays: Vec<(String, Array)> = layer
        .inputs
        .iter()
        .zip(&tensors)
        .map(|(&value, tensor)| (check.network.name(value).to_owned(), array(tensor)))
        .collect();
    fs::write(at("inputs.npz"), npz(&arrays)?).map_err(|e| failed(&e))?;
    let expected = [(layer.tensor.clone(), array(&exhibit.expected))];
    fs::write(at("expected.npz"), npz(&expected)?).map_err(|e| failed(&e))?;
    let mut named = target.to_owned();
    if Path::new(target).is_file() {
        fs::copy(target, at("target.toml")).map_err(|e| failed(&e))?;
        "./target.toml".clone_into(&mut named);
    }
    let command = format!(
        "align-check model.onnx --target {named} --input inputs.npz --recorded expected.npz --mode isolated\n"
    );
    fs::write(at(COMMAND), command).map_err(|e| failed(&e))?;
    match shown(check, new.path(), &layer.tensor) {
        Ok(differing) if differing == exhibit.differing => {
            new.put(&own).map_err(|e| failed(&e))?;
            Ok(Ok((own, differing)))
        }
        Ok(differing) => Ok(Err(format!(
            "alone {differing} elements differ, in the network {}: it rests on what is around it",
            exhibit.differing
        ))),
        Err(why) => Ok(Err(format!("{why:#}"))),
    }
}

/// How many elements of a tensor differ in a written case.
fn shown(check: &Check, folder: &Path, tensor: &str) -> Result<u64> {
    let limits = Limits::default();
    let model = Model::read(&folder.join("model.onnx"), &limits)?;
    let file = folder.join("inputs.npz");
    let samples = inputs::of_files(&[file], &model.inputs(), true, &limits)?;
    let graph = model.graph(&samples.shapes)?;
    let network = Network::new(graph.clone())?;
    let exact = Spec::resolve("exact").map_err(|e| anyhow!("{e}"))?;
    let exact = Target::new(&network, exact, None, check.isa)?;
    let spec = check.targets[0].spec.clone();
    let target = Target::placed((&graph, &network), spec, None, &exact, check.isa)?;
    let recorded = Recording::read(&folder.join("expected.npz"))?;
    let found = Check {
        network: &network,
        reference: &exact,
        targets: &[target],
        mode: Mode {
            isolated: true,
            cumulative: false,
        },
        tolerance: Tolerance::default(),
        recorded: Some(&recorded),
        recorded_reference: None,
        explain: false,
        drift: false,
        select: &|_| true,
        isa: check.isa,
        progress: &|| {},
    }
    .run(&samples.samples)?;
    let layers = found.targets.iter().flat_map(|target| target.layers.iter());
    let layer = layers.rev().find(|layer| layer.tensor == tensor);
    let stats = layer.and_then(|layer| layer.isolated.as_ref());
    Ok(stats.map_or(0, |stats| stats.differing))
}

fn array(tensor: &Tensor) -> Array {
    Array {
        shape: tensor.shape.clone(),
        // A code's real is one product in f32.
        values: tensor
            .to_real()
            .iter()
            .map(|&v| f64::from(v as f32))
            .collect(),
        kind: ArrayKind::Float,
    }
}

/// A tensor's name as a folder's.
fn safe(name: &str) -> String {
    let keep = |c: char| {
        if c.is_alphanumeric() || "-_.".contains(c) {
            c
        } else {
            '_'
        }
    };
    let name: String = name.chars().map(keep).take(100).collect();
    let name = name.trim_start_matches('.');
    if name.is_empty() {
        "layer".to_owned()
    } else {
        name.to_owned()
    }
}
