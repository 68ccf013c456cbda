//! What a check found: the data behind every report.

use align_check_simulators::network::Network;
use align_check_simulators::place::Decision;
use serde::{Deserialize, Deserializer, Serialize};

pub use crate::accuracy::{Accuracy, Blamed, Flip, Share, Top};

/// Version of the machine-readable report.
pub const SCHEMA: &str = "align-check/1";

/// Everything that one call found.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The model.
    pub model: ModelInfo,
    /// Number of input samples.
    pub inputs: usize,
    /// Whether the inputs were generated, and from which seed.
    pub generated: Option<u64>,
    /// What the check compared against: `exact` or the recorded file.
    pub against: Against,
    /// How far a recorded fake-quant run is from the exact reference, where one was given.
    pub floor: Option<Floor>,
    /// Every layer of the model, in graph order: producers before readers.
    pub network: Vec<NetworkLayer>,
    /// One entry a target, in the order of the command line.
    pub targets: Vec<TargetOutcome>,
    /// Seconds that simulating and comparing took.
    pub seconds: f64,
    /// Most bytes of tensors that were alive at once.
    pub peak_tensor_bytes: usize,
    /// Most bytes of memory that the process had, where the system says so.
    pub peak_process_bytes: Option<usize>,
    /// Targets that cannot run this model, and why.
    pub unsupported: Vec<(String, String)>,
    /// Names of the inputs.
    pub names: Vec<String>,
    /// Where the run was interrupted: how many inputs there are.
    pub interrupted: Option<usize>,
}

/// What the simulation was compared with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Against {
    /// The exact fake-quant reference.
    Reference,
    /// A recorded fake-quant run in its place.
    RecordedReference {
        /// The file.
        file: String,
        /// Compared tensors that it lacks (the exact reference stands in).
        missing: Vec<String>,
    },
    /// Outputs recorded from the target.
    Recording {
        /// The file.
        file: String,
        /// Compared tensors that it lacks.
        missing: Vec<String>,
    },
}

/// A layer of the model, compared or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkLayer {
    /// The node's name.
    pub name: String,
    /// Operators (`Conv+Relu`).
    pub op: String,
    /// The tensor that it makes.
    pub tensor: String,
    /// The layers whose tensors it reads, as indices into [`Outcome::network`]; each once.
    pub inputs: Vec<usize>,
}

/// The layers of a network, and which reads which.
pub fn network(network: &Network) -> Vec<NetworkLayer> {
    let mut maker = vec![None; network.graph.values.len()];
    let mut layers: Vec<NetworkLayer> = Vec::with_capacity(network.layers.len());
    for (index, layer) in network.layers.iter().enumerate() {
        let mut inputs: Vec<usize> = layer.inputs.iter().filter_map(|&v| maker[v]).collect();
        inputs.sort_unstable();
        inputs.dedup();
        layers.push(NetworkLayer {
            name: layer.name.clone(),
            op: layer.op.clone(),
            tensor: layer.tensor.clone(),
            inputs,
        });
        maker[layer.output] = Some(index);
    }
    layers
}

/// The model file.
#[derive(Debug, Clone, Serialize)]
pub struct ModelInfo {
    /// As given on the command line.
    pub path: String,
    /// Of the file's bytes, in hexadecimal.
    pub sha256: String,
    /// `qonnx`, `onnx`.
    pub format: String,
    /// What the importer had to assume.
    pub notes: Vec<String>,
    /// Whether the file is a message of ONNX.
    #[serde(skip)]
    pub is_onnx: bool,
}

/// Distance between a recorded fake-quant run and the exact reference.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Floor {
    /// Fed layer by layer with the recorded tensors.
    pub isolated: Stats,
    /// Of those, elements further from a tie than float32 summation order explains.
    pub beyond_noise: u64,
    /// Distance to the nearest tie of the furthest differing element, in LSB.
    pub furthest_from_tie: f64,
    /// Run freely from the inputs.
    pub free: Stats,
}

/// What was found for one target.
#[derive(Debug, Clone)]
pub struct TargetOutcome {
    /// The target's name.
    pub name: String,
    /// Its one-line description.
    pub summary: String,
    /// Weakest evidence grade of the rules that were used.
    pub grade: String,
    /// What nobody knows about the target.
    pub unknowns: Vec<String>,
    /// The verdict on the whole network.
    pub verdict: Verdict,
    /// Process exit code that belongs to it.
    pub exit_code: u8,
    /// Compared layers, in graph order.
    pub layers: Vec<LayerOutcome>,
    /// The model's outputs, run freely.
    pub outputs: Vec<OutputOutcome>,
    /// Grids of the target that are not the model's: `(tensor, why)`; told before anything else.
    pub mismatches: Vec<(String, String)>,
    /// How far it drifts, where it does.
    pub drifted: Option<Drifted>,
    /// Which layers' differences reach the outputs.
    pub trace: Option<Trace>,
    /// What its placement makes of the model's quantizers.
    pub decisions: Vec<Decision>,
    /// For each input.
    pub inputs: Vec<InputOutcome>,
    /// How often it finds the right class, where somebody said which that is (`--labels`).
    pub accuracy: Option<Accuracy>,
}

/// What one input became on one target.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct InputOutcome {
    /// Elements of compared layers that differ (isolated; without that, in the target's own run).
    pub differing: u64,
    /// The layer with the largest difference, as an index into [`Outcome::network`]; absent where nothing differs.
    pub worst_layer: Option<usize>,
    /// That difference, in LSB.
    #[serde(serialize_with = "integral", deserialize_with = "or_infinity")]
    pub worst_lsb: f64,
    /// Elements of the outputs that differ in the target's own run.
    pub outputs_differing: u64,
    /// The largest element of the first output that has several: the reference's and the target's.
    pub classes: Option<[usize; 2]>,
    /// How many elements are larger than the right one: of the reference's output, and of the target's.
    pub ranks: Option<[usize; 2]>,
}

impl InputOutcome {
    /// Whether the target's largest element is another one.
    pub fn flips(&self) -> bool {
        self.classes
            .is_some_and(|[reference, target]| reference != target)
    }
}

/// The verdicts of the design, section 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Verdict {
    /// The target's placement leaves no such tensor: there is nothing to compare.
    #[serde(rename = "no such tensor on the target")]
    NoSuchTensor,
    /// No input can make it differ from the reference.
    #[serde(rename = "aligned, proved")]
    Proved,
    /// No element differed on the given inputs.
    #[serde(rename = "aligned, tested")]
    Aligned,
    /// Only elements differ that float32 summation order decides.
    #[serde(rename = "within noise")]
    WithinNoise,
    /// Differences stay within the tolerance that the user asked for.
    #[serde(rename = "within tolerance")]
    WithinTolerance,
    /// The target computes it in float; it stays within the shown tolerance.
    #[serde(rename = "float on target")]
    FloatOnTarget,
    /// Elements differ.
    #[serde(rename = "misaligned")]
    Misaligned,
    /// Elements of a recording differ, and no decision, alone or together with the others, explains them all.
    #[serde(rename = "unknown rule")]
    UnknownRule,
}

impl Verdict {
    /// The words of the report.
    pub fn text(self) -> &'static str {
        match self {
            Self::NoSuchTensor => "no such tensor on the target",
            Self::Proved => "aligned, proved",
            Self::Aligned => "aligned, tested",
            Self::WithinNoise => "within noise",
            Self::WithinTolerance => "within tolerance",
            Self::FloatOnTarget => "float on target",
            Self::Misaligned => "misaligned",
            Self::UnknownRule => "unknown rule",
        }
    }

    /// Whether no element differs.
    pub fn is_aligned(self) -> bool {
        matches!(self, Self::Proved | Self::Aligned)
    }

    /// Whether it fails a check.
    pub fn fails(self) -> bool {
        matches!(self, Self::Misaligned | Self::UnknownRule)
    }
}

/// What was found for one layer.
#[derive(Debug, Clone)]
pub struct LayerOutcome {
    /// The node's name.
    pub name: String,
    /// Operators (`Conv+Relu`).
    pub op: String,
    /// The tensor that was compared.
    pub tensor: String,
    /// The verdict.
    pub verdict: Verdict,
    /// Fed with the reference's (or the recording's) inputs.
    pub isolated: Option<Stats>,
    /// Fed with the simulated outputs of the layers before.
    pub cumulative: Option<Stats>,
    /// Where its differing elements come from, in the target's own run.
    pub drift: Option<Drift>,
    /// Why it differs.
    pub cause: Option<Cause>,
    /// Weakest evidence grade of the rules that it rests on.
    pub grade: String,
    /// The rules that it rests on.
    pub rules: Vec<String>,
    /// Why the target's grids are not the model's.
    pub mismatches: Vec<String>,
    /// Whether the target computes it in float.
    pub float: bool,
    /// Size of one LSB: the step of the output's quantizer; absent for unquantized outputs.
    pub lsb: Option<f64>,
    /// One element that shows it.
    pub witness: Option<Witness>,
    /// Why the target has no such tensor.
    pub absent: Option<String>,
    /// The layer's tensors of the first sample, where a report asks for them.
    pub kept: Option<Box<Kept>>,
}

/// A layer's tensors, both sides, fed with the reference's (or the recording's) inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// Their extents.
    pub shape: Vec<usize>,
    /// The reference's, or the recording's.
    pub expected: Numbers,
    /// The target's.
    pub got: Numbers,
}

/// The elements of a tensor, in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub enum Numbers {
    /// Codes.
    Codes(Vec<i32>),
    /// Reals.
    Reals(Vec<f64>),
}

/// Why a layer differs, and how much of the difference that explains.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cause {
    /// `quantizer`, `rounding`, `requantize`, `saturation`, `accumulator`, `float`, ...
    pub name: String,
    /// The target's rule and the reference's, in words.
    pub text: String,
    /// Differing elements that vanish when this decision is the reference's.
    pub explains: u64,
    /// Differing elements that were looked at.
    pub of: u64,
    /// Every decision that was tried alone, with the elements that it explains.
    pub tried: Vec<(String, u64)>,
    /// Differing elements outside the noise floor; [`of`](Self::of) are those that were looked at.
    pub differing: u64,
    /// The smallest set that explains most; empty where nothing explains anything.
    pub decisions: Vec<String>,
    /// Every set that was tried.
    pub sets: Vec<DecisionSet>,
    /// Whether decisions were tried together, and not only alone.
    pub together: bool,
    /// Whether that is about a recording of the target.
    pub recorded: bool,
    /// Whether the target computes the layer in float.
    #[serde(skip)]
    pub float: bool,
}

impl Cause {
    /// Whether the named set leaves no difference, and makes none.
    pub fn is_whole(&self) -> bool {
        let named = |set: &&DecisionSet| set.decisions == self.decisions && set.explains == self.of;
        self.explains == self.of && self.sets.iter().any(|set| named(&set) && set.breaks == 0)
    }

    /// Whether a neighbour of the target's rules, by its label, does that alone.
    pub fn is_explained_by(&self, label: &str) -> bool {
        let alone = |set: &&DecisionSet| set.labels.len() == 1 && set.labels[0] == label;
        let mut sets = self.sets.iter().filter(alone);
        sets.any(|set| set.explains == self.of && set.breaks == 0)
    }
}

/// A set of decisions that was tried.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DecisionSet {
    /// What they are called: `rounding`.
    pub decisions: Vec<String>,
    /// The same, told from others of that name: `requantize.steps: step 1: half-even`.
    pub labels: Vec<String>,
    /// What each is, in words.
    #[serde(skip)]
    pub texts: Vec<String>,
    /// Differing elements that vanish.
    pub explains: u64,
    /// Against a recording: of the agreeing elements that were looked at, those that would differ.
    pub breaks: u64,
    #[serde(skip)]
    pub(crate) weighed: f64,
}

/// One element that shows a difference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Witness {
    /// Input sample.
    pub sample: usize,
    /// Index in the tensor.
    pub index: Vec<usize>,
    /// The accumulator, in units of the sum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accumulator: Option<f64>,
    /// The multiplier that hardware holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multiplier: Option<String>,
    /// The reference's value before rounding, in LSB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before_rounding: Option<f64>,
    /// Expected: a code, or a real.
    pub expected: f64,
    /// Simulated: a code, or a real.
    pub got: f64,
}

/// Most channels that are counted apart.
pub const CHANNELS: usize = 1 << 16;

/// Difference statistics of a tensor, over all samples.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Stats {
    /// Elements compared.
    pub elements: u64,
    /// Elements that differ.
    pub differing: u64,
    /// Largest difference in LSB (for unquantized tensors: in the unit of the tensor).
    #[serde(serialize_with = "integral", deserialize_with = "or_infinity")]
    pub max_lsb: f64,
    /// Differing elements inside the noise floor.
    pub noise: u64,
    /// Of the differing elements outside the noise floor, those whose value before rounding lies exactly between
    /// two codes; absent where that value is not known.
    pub ties: Option<u64>,
    /// Of the differing elements outside the noise floor that are no ties, those where one side has a code at the end
    /// of its range and the other lies more than one step away.
    pub saturated: u64,
    /// Differing elements of each channel; empty where nothing differs, where nobody counted, and where there are more
    /// than [`CHANNELS`] channels.
    pub channels: Vec<u64>,
    /// `(difference in LSB, elements)`: rounded away from zero to whole LSB, within -8..=8, sorted.
    pub histogram: Vec<(i32, u64)>,
    /// Cosine similarity of the reals.
    #[serde(deserialize_with = "or_infinity")]
    pub cosine: f64,
    /// Signal to difference ratio in dB; absent where nothing differs.
    pub sqnr_db: Option<f64>,
    #[serde(skip)]
    pub(crate) sums: Sums,
}

/// Running sums behind cosine and SQNR.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Sums {
    pub expected: f64,
    pub got: f64,
    pub product: f64,
    pub difference: f64,
}

/// Where the differing elements of a layer come from, when the target runs on its own results.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Drift {
    /// They differ with the reference's inputs, too: this layer makes them.
    pub introduced: u64,
    /// They differ only because the inputs do.
    pub propagated: u64,
    /// Of both: those further off, in LSB, than any input of the layer and than the layer alone makes them.
    pub amplified: u64,
    /// Largest difference of the layer's inputs, in LSB of each.
    #[serde(serialize_with = "integral", deserialize_with = "or_infinity")]
    pub inputs_max_lsb: f64,
}

impl Drift {
    /// Adds another sample's.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.introduced += other.introduced;
        self.propagated += other.propagated;
        self.amplified += other.amplified;
        self.inputs_max_lsb = self.inputs_max_lsb.max(other.inputs_max_lsb);
    }
}

/// Which layers' differences reach the worst output element of one sample.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trace {
    /// The sample: the first one that differs at an output.
    pub sample: usize,
    /// The output.
    pub tensor: String,
    /// The element of it that is furthest off.
    pub index: Vec<usize>,
    /// How far, in LSB.
    #[serde(serialize_with = "integral")]
    pub lsb: f64,
    /// Layers that introduce differences on this sample, and whose codes the reference can read.
    pub introducing: u64,
    /// Those that were followed, the largest share first.
    pub layers: Vec<Traced>,
}

/// What the differences of one layer alone become at an output, in the reference's arithmetic.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Traced {
    /// The layer.
    pub layer: String,
    /// Elements that it makes differ, fed with the reference's inputs.
    pub differing: u64,
    /// How far the output's element moves, in LSB.
    #[serde(serialize_with = "integral")]
    pub lsb: f64,
    /// Elements of the output that differ.
    pub outputs: u64,
}

/// How far the fake-quant model itself moves where its sums are rounded to `f32`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Baseline {
    /// Differing codes of each layer of the network, over all samples.
    pub layers: Vec<u64>,
    /// Differing codes of the outputs.
    pub outputs: u64,
}

impl Baseline {
    /// Adds another sample's.
    pub(crate) fn add(&mut self, one: &Self) {
        self.layers
            .resize(self.layers.len().max(one.layers.len()), 0);
        for (sum, count) in self.layers.iter_mut().zip(&one.layers) {
            *sum += count;
        }
        self.outputs += one.outputs;
    }
}

/// How far a target drifts when it runs on its own results, next to what the model's own noise does.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Drifted {
    /// Codes of the compared layers, over all samples.
    pub elements: u64,
    /// Those that differ.
    pub differing: u64,
    /// Codes of the outputs that differ.
    pub outputs: u64,
    /// The same of the fake-quant model in `f32`; absent where no float run of the model exists, or where nobody
    /// looked.
    pub baseline: Option<Noise>,
    /// Whether the target drifts no further than that.
    pub within_baseline: Option<bool>,
}

/// What the fake-quant model's own noise grows to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Noise {
    /// Differing codes of the compared layers.
    pub differing: u64,
    /// Differing codes of the outputs; absent where only the sum over layers is known.
    pub outputs: Option<u64>,
}

/// A model output, run freely.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OutputOutcome {
    /// The tensor.
    pub tensor: String,
    /// Differences.
    pub stats: Stats,
    /// Samples whose largest element is another one.
    pub argmax_flips: u64,
    /// Samples.
    pub samples: u64,
}

impl Stats {
    /// Share of differing elements.
    pub fn rate(&self) -> f64 {
        if self.elements == 0 {
            0.0
        } else {
            self.differing as f64 / self.elements as f64
        }
    }

    /// Differing elements outside the noise floor.
    pub fn beyond_noise(&self) -> u64 {
        self.differing - self.noise
    }
}

/// What is not finite stands as `null`; here that is infinity: differences are no `NaN`.
fn or_infinity<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::INFINITY))
}

/// Whole numbers are written as integers.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn integral<S: serde::Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.fract() == 0.0 && value.abs() < 9e15 {
        serializer.serialize_i64(*value as i64)
    } else {
        serializer.serialize_f64(*value)
    }
}
