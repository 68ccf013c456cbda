//! `verify`: recordings are simulated again, layer by layer and end to end, and compared element by element.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use align_check_graph::{Graph, Limits, Model};
use align_check_simulators::hls4ml::Precision;
use align_check_simulators::kernels::Isa;
use align_check_simulators::network::Network;
use align_check_specs::{Grade, Spec};
use anyhow::anyhow;
use serde::Serialize;

use crate::check::{Check, Mode, Target, Tolerance};
use crate::failure::Failure;
use crate::inputs::{self, Recording, Samples};
use crate::outcome::{Cause, LayerOutcome, Stats, Verdict};
use crate::recording::Folder;
use crate::{encodings, memory};

/// Version of the machine-readable report.
pub const SCHEMA: &str = "align-check/verify/1";

/// What was found on all recordings.
#[derive(Debug, Default, Serialize)]
pub struct Verified {
    /// One entry for each recording and target that must reproduce it.
    pub cases: Vec<Case>,
    /// Recordings that name no target.
    pub without_target: Vec<PathBuf>,
    /// Recordings that show a bug of their tool, and which.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub known_bugs: BTreeMap<PathBuf, String>,
    /// Recordings without a model: vectors, which only tests can hold against the rules.
    pub without_model: Vec<PathBuf>,
}

/// One recording under one target.
#[derive(Debug, Serialize)]
pub struct Case {
    /// The recording's folder.
    pub recording: PathBuf,
    /// The target's name.
    pub target: String,
    /// For each operator.
    pub ops: BTreeMap<String, Tally>,
    /// The model's outputs, run from its inputs.
    pub end_to_end: Tally,
    /// Layers with differing elements.
    pub failed: Vec<FailedLayer>,
    /// Recorded tensors that the target's placement does not have, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<(String, String)>,
    /// Why it could not be simulated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsupported: Option<String>,
}

/// Elements compared, and how many differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Weakest evidence grade of the rules that the layers rest on.
    pub grade: Grade,
    /// Layers (or outputs).
    pub layers: u64,
    /// Elements compared.
    pub elements: u64,
    /// Elements that differ, float32 summation order excepted.
    pub differing: u64,
    /// Elements that differ where float32 summation order decides: of software that sums in float32, and of layers
    /// that the target computes in float.
    pub noise: u64,
}

/// A layer with differing elements, fed with the recording's own inputs.
#[derive(Debug, Serialize)]
pub struct FailedLayer {
    /// The layer's name.
    pub layer: String,
    /// Its operators.
    pub op: String,
    /// The tensor that differs.
    pub tensor: String,
    /// Elements that differ.
    pub differing: u64,
    /// Elements compared.
    pub elements: u64,
    /// Largest difference in LSB.
    pub max_lsb: f64,
    /// The verdict on it.
    pub verdict: Verdict,
    /// Why it differs, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// One element: sample, index, expected and got.
    pub witness: Option<crate::outcome::Witness>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            grade: Grade::Recorded,
            layers: 0,
            elements: 0,
            differing: 0,
            noise: 0,
        }
    }
}

impl Tally {
    /// Adds the statistics of one tensor.
    fn count(&mut self, stats: &Stats, grade: Grade) {
        self.grade = self.grade.min(grade);
        self.layers += 1;
        self.elements += stats.elements;
        self.differing += stats.beyond_noise();
        self.noise += stats.noise;
    }

    /// Adds another count.
    pub fn add(&mut self, other: Self) {
        self.grade = self.grade.min(other.grade);
        self.layers += other.layers;
        self.elements += other.elements;
        self.differing += other.differing;
        self.noise += other.noise;
    }
}

impl Case {
    /// Elements that differ when every layer is fed with the recording's own inputs.
    pub fn differing(&self) -> u64 {
        self.ops.values().map(|tally| tally.differing).sum()
    }

    /// Whether every element was reproduced, in both ways of feeding.
    pub fn reproduced(&self) -> bool {
        self.unsupported.is_none() && self.differing() == 0 && self.end_to_end.differing == 0
    }
}

impl Verified {
    /// For each target and operator, over all recordings.
    pub fn table(&self) -> BTreeMap<(String, String), Tally> {
        let mut table: BTreeMap<(String, String), Tally> = BTreeMap::new();
        for case in &self.cases {
            for (op, tally) in &case.ops {
                let key = (case.target.clone(), op.clone());
                table.entry(key).or_default().add(*tally);
            }
        }
        table
    }

    /// For each target, its outputs run from the inputs, over all recordings.
    pub fn end_to_end(&self) -> BTreeMap<String, Tally> {
        let mut table: BTreeMap<String, Tally> = BTreeMap::new();
        for case in &self.cases {
            table
                .entry(case.target.clone())
                .or_default()
                .add(case.end_to_end);
        }
        table
    }
}

/// A recording, loaded once for all targets that must reproduce it.
pub struct Loaded {
    /// The folder.
    pub folder: Folder,
    /// The recorded tensors.
    pub recorded: Recording,
    /// Its precision table, for targets that take one.
    pub types: Option<Precision>,
    /// With its constants: what targets place.
    pub(crate) graph: Graph,
    pub(crate) network: Network,
    pub(crate) exact: Target,
    pub(crate) samples: Samples,
    pub(crate) isa: Isa,
}

impl Loaded {
    /// Loads the model, the inputs and the recorded tensors of a folder.
    ///
    /// # Errors
    /// A file is damaged, or the model cannot be evaluated.
    pub fn new(folder: Folder, isa: Isa, limits: &Limits) -> Result<Self, Failure> {
        let path = folder.model()?;
        let model = Model::read(&path, limits)?;
        let file = folder.inputs()?;
        let samples = inputs::of_files(&[file], &model.inputs(), false, limits)?;
        let mut graph = model.graph(&samples.shapes)?;
        memory::fits(&graph, model.bytes(), limits)
            .map_err(|e| anyhow!("{}: {e}", path.display()))?;
        if let Some(file) = folder.encodings()? {
            (graph, _) = encodings::apply(&file, graph, &model, &[])?;
            encodings::recorded_as(&mut graph, &folder.provenance.quantized);
        }
        let refused =
            |e: &dyn std::fmt::Display| Failure::Unsupported(format!("{}: {e}", path.display()));
        let types = folder.precision()?;
        let ends = |tensor: &str| types.as_ref().is_some_and(|types| types.names(tensor));
        let network = Network::cut_at(graph.clone(), &ends).map_err(|e| refused(&e))?;
        let exact = Spec::resolve("exact").map_err(|e| anyhow!("{e}"))?;
        let exact = Target::new(&network, exact, None, isa).map_err(|e| refused(&e))?;
        Ok(Self {
            recorded: Recording::read_within(&folder.outputs()?, limits)?,
            folder,
            types,
            graph,
            network,
            exact,
            samples,
            isa,
        })
    }

    /// Simulates the recording under a target: every layer fed with the recorded inputs, and the whole
    /// network run from its own.
    ///
    /// # Errors
    /// A recorded tensor does not fit the network. What the target cannot do stands in
    /// [`Case::unsupported`].
    pub fn run(&self, spec: Spec) -> Result<Case, Failure> {
        self.run_in(spec, true)
    }

    /// [`run`](Self::run) without the network run from its own inputs.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_isolated(&self, spec: Spec) -> Result<Case, Failure> {
        self.run_in(spec, false)
    }

    fn run_in(&self, spec: Spec, cumulative: bool) -> Result<Case, Failure> {
        let mut case = Case {
            recording: self.folder.path.clone(),
            target: spec.name.clone(),
            ops: BTreeMap::new(),
            end_to_end: Tally::default(),
            failed: Vec::new(),
            absent: Vec::new(),
            unsupported: None,
        };
        let grades = spec.clone();
        let is_float_software = spec.quantize.division.is_model();
        let types = self.types.as_ref();
        let network = (&self.graph, &self.network);
        let planned = Target::placed(network, spec, types, &self.exact, self.isa);
        let target = match planned {
            Ok(target) => target,
            Err(e) => {
                case.unsupported = Some(e.to_string());
                return Ok(case);
            }
        };
        let findings = Check {
            network: &self.network,
            reference: &self.exact,
            targets: &[target],
            mode: Mode {
                isolated: true,
                cumulative,
            },
            tolerance: Tolerance::default(),
            recorded: Some(&self.recorded),
            recorded_reference: None,
            explain: cumulative,
            drift: false,
            select: &|_| true,
            isa: self.isa,
            progress: &|| {},
        }
        .run(&self.samples.samples)?;
        let Some(found) = findings.targets.first() else {
            return Ok(case);
        };
        for layer in &found.layers {
            if let Some(why) = &layer.absent {
                case.absent.push((layer.tensor.clone(), why.clone()));
            }
            let Some(stats) = &layer.isolated else {
                continue;
            };
            let rules: Vec<&str> = layer.rules.iter().map(String::as_str).collect();
            let tally = case.ops.entry(layer.op.clone()).or_default();
            tally.count(stats, grades.weakest(&rules));
            if stats.beyond_noise() > 0 {
                case.failed.push(failed(layer, stats));
            }
        }
        // An output that was recorded under another name, or not at all, was compared with nothing.
        for output in &found.outputs {
            if !findings.missing.contains(&output.tensor) {
                case.end_to_end.count(&output.stats, Grade::Recorded);
            }
        }
        let noisy = case.ops.values().any(|tally| tally.noise > 0);
        if (is_float_software || noisy) && case.differing() == 0 {
            // Every layer alone is within float32 noise: what that grows to end to end is noise too.
            case.end_to_end.noise += std::mem::take(&mut case.end_to_end.differing);
        }
        if case.ops.is_empty() {
            case.unsupported = Some("no recorded tensor belongs to a layer of the model".into());
        }
        Ok(case)
    }
}

fn failed(layer: &LayerOutcome, stats: &Stats) -> FailedLayer {
    FailedLayer {
        layer: layer.name.clone(),
        op: layer.op.clone(),
        tensor: layer.tensor.clone(),
        differing: stats.beyond_noise(),
        elements: stats.elements,
        max_lsb: stats.max_lsb,
        verdict: layer.verdict,
        cause: layer.cause.clone(),
        witness: layer.witness.clone(),
    }
}

/// Verifies recordings: each under the targets that it names, or under those that are given.
///
/// # Errors
/// A recording is damaged, or names a target that does not exist.
pub fn verify(
    folders: &[PathBuf],
    targets: &[String],
    isa: Isa,
    limits: &Limits,
    progress: &dyn Fn(&Path),
) -> Result<Verified, Failure> {
    let mut verified = Verified::default();
    for path in folders {
        progress(path);
        let folder = Folder::open(path)?;
        if let Some(bug) = &folder.provenance.known_bug {
            verified.known_bugs.insert(path.clone(), bug.clone());
        }
        if !folder.has_model() {
            verified.without_model.push(path.clone());
            continue;
        }
        let names = if targets.is_empty() {
            folder.provenance.targets.clone()
        } else {
            targets.to_vec()
        };
        if names.is_empty() {
            verified.without_target.push(path.clone());
            continue;
        }
        let specs = names
            .iter()
            .map(|name| Spec::resolve(name))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| anyhow!("{}: {e}", path.display()))?;
        match Loaded::new(folder, isa, limits) {
            Ok(loaded) => {
                for spec in specs {
                    verified.cases.push(loaded.run(spec)?);
                }
            }
            Err(Failure::Unsupported(why)) => {
                verified.cases.extend(specs.into_iter().map(|spec| Case {
                    recording: path.clone(),
                    target: spec.name,
                    ops: BTreeMap::new(),
                    end_to_end: Tally::default(),
                    failed: Vec::new(),
                    absent: Vec::new(),
                    unsupported: Some(why.clone()),
                }));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(verified)
}
