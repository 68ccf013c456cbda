//! A check: every layer, every target, every sample, isolated and cumulative, in one pass.

use std::sync::Arc;
use std::time::Instant;

use align_check_graph::Graph;
use align_check_simulators::adapt::ValueGrid;
use align_check_simulators::hls4ml::{self, Precision};
use align_check_simulators::kernels::Isa;
use align_check_simulators::network::{Layer, Network};
use align_check_simulators::place::Decision;
use align_check_simulators::plan::{LayerPlan, plan};
use align_check_simulators::tensor::Tensor;
use align_check_specs::{Grade, Spec};
use anyhow::Result;

use crate::cause;
use crate::inputs::{Recording, Source};
use crate::outcome::{
    Cause, Drift, Floor, Kept, LayerOutcome, OutputOutcome, Stats, TargetOutcome, Verdict, Witness,
};
use crate::own::{Own, Placement};
use crate::partial::{Partial, TargetPart, Total, WitnessPart};
use crate::report::text::{percent, thousands};
use crate::sample::{self, model_grid};

mod conclude;
mod gather;

pub(crate) use gather::Control;

/// Which of the two ways to feed layers is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode {
    /// With the reference's (or the recording's) inputs.
    pub isolated: bool,
    /// With the simulated outputs of the layers before.
    pub cumulative: bool,
}

/// What the user accepts. The default accepts nothing.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Tolerance {
    /// Largest difference of an element, in LSB.
    pub max_lsb: f64,
    /// Largest share of differing elements.
    pub max_rate: f64,
}

/// Largest difference of an unquantized output that the target computes in float before it counts as
/// misaligned, in the tensor's own unit. A quantized one may move by one step.
pub const FLOAT_TOLERANCE: f64 = 1e-5;

/// A target, prepared for one network.
#[derive(Debug)]
pub struct Target {
    /// Its rules.
    pub spec: Spec,
    /// Grids of every value.
    pub grids: Vec<ValueGrid>,
    /// A plan for every layer.
    pub plans: Vec<LayerPlan>,
    /// Its own layers, where its placement gives it others than the model's: then [`grids`](Self::grids) and
    /// [`plans`](Self::plans) are theirs.
    pub own: Option<Own>,
    /// What its placement makes of the model's quantizers.
    pub decisions: Vec<Decision>,
    /// Whether the tensors of the first sample are kept ([`LayerOutcome::kept`]): as much memory as all of them take.
    pub keep: bool,
}

/// Everything that a check needs.
pub struct Check<'a> {
    /// The network.
    pub network: &'a Network,
    /// The exact reference as a target.
    pub reference: &'a Target,
    /// Targets to check.
    pub targets: &'a [Target],
    /// Which modes.
    pub mode: Mode,
    /// What is accepted.
    pub tolerance: Tolerance,
    /// Outputs recorded from the target: compared with, in place of the reference.
    pub recorded: Option<&'a Recording>,
    /// A recorded fake-quant run: fed and compared with, in place of the exact reference.
    pub recorded_reference: Option<&'a Recording>,
    /// Whether to find out why layers differ; costs several runs of each that does.
    pub explain: bool,
    /// Whether to follow drift to the outputs, and to measure the model's own noise; costs further runs of the network
    /// where a target drifts.
    pub drift: bool,
    /// Layers to compare; all of them where absent.
    pub select: &'a (dyn Fn(&Layer) -> bool + Sync),
    /// Instructions to use.
    pub isa: Isa,
    /// Called after each layer of each sample.
    pub progress: &'a (dyn Fn() + Sync),
}

impl Target {
    /// Prepares a target for a network as it is, whatever the target's placement; `reference` shares its packed
    /// weights.
    ///
    /// # Errors
    /// The simulators' error, where the target has no counterpart for a layer.
    pub fn new(
        network: &Network,
        spec: Spec,
        reference: Option<&Target>,
        isa: Isa,
    ) -> Result<Self, align_check_simulators::Error> {
        Self::with_types(network, spec, None, reference, isa)
    }

    /// As [`new`](Self::new), with the fixed-point types of a precision table, where the target takes one. The
    /// network must have been cut at the table's tensors.
    ///
    /// # Errors
    /// As [`new`](Self::new), and where the table does not fit the network.
    pub fn with_types(
        network: &Network,
        spec: Spec,
        types: Option<&Precision>,
        reference: Option<&Target>,
        isa: Isa,
    ) -> Result<Self, align_check_simulators::Error> {
        let (grids, plans) = if let (Some(rules), Some(types)) = (&spec.precision, types) {
            hls4ml::plan(network, rules, types)?
        } else {
            let model = |index: usize, _: &[ValueGrid]| reference.map(|r| &r.plans[index]);
            plan(network, &spec, &model, isa)?
        };
        Ok(Self {
            spec,
            grids,
            plans,
            own: None,
            decisions: Vec::new(),
            keep: false,
        })
    }

    /// Prepares a target as its placement has the network. `graph` is what the network was cut from, constants
    /// included; with a precision table the network stays as it is.
    ///
    /// # Errors
    /// As [`with_types`](Self::with_types).
    pub fn placed(
        (graph, network): (&Graph, &Network),
        spec: Spec,
        types: Option<&Precision>,
        reference: &Target,
        isa: Isa,
    ) -> Result<Self, align_check_simulators::Error> {
        if types.is_some() {
            return Self::with_types(network, spec, types, Some(reference), isa);
        }
        let Placement { own, decisions } = Placement::new(graph, network, &spec)?;
        let Some(own) = own else {
            let mut target = Self::with_types(network, spec, None, Some(reference), isa)?;
            target.decisions = decisions;
            return Ok(target);
        };
        let model = |index: usize, inputs: &[ValueGrid]| {
            own.model_plan(network, (&reference.grids, &reference.plans), index, inputs)
        };
        let (grids, plans) = plan(&own.network, &spec, &model, isa)?;
        Ok(Self {
            spec,
            grids,
            plans,
            own: Some(own),
            decisions,
            keep: false,
        })
    }

    /// The layers that the target computes.
    pub fn network<'a>(&'a self, model: &'a Network) -> &'a Network {
        self.own.as_ref().map_or(model, |own| &own.network)
    }

    /// The target's plan of the layer that makes what a layer of the model makes; `None` where the target has no
    /// such tensor.
    pub fn plan_of(&self, layer: usize) -> Option<&LayerPlan> {
        match &self.own {
            None => self.plans.get(layer),
            Some(own) => own.found[layer].map(|index| &self.plans[index]),
        }
    }
}

/// What a check found, before it is turned into verdicts.
#[derive(Debug)]
pub struct Findings {
    /// For each target.
    pub targets: Vec<TargetOutcome>,
    /// Distance of a recorded reference from the exact one.
    pub floor: Option<Floor>,
    /// Compared tensors that a recording lacks.
    pub missing: Vec<String>,
    /// Most bytes of tensors alive at once (of one sample).
    pub peak_bytes: usize,
    /// Names of the samples.
    pub names: Vec<String>,
    /// Seconds.
    pub seconds: f64,
}

/// One layer's findings on one sample.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    pub(crate) isolated: Option<Stats>,
    pub(crate) cumulative: Option<Stats>,
    pub(crate) drift: Option<Drift>,
    pub(crate) cause: Option<Cause>,
    pub(crate) witness: Option<Witness>,
    /// Of a sample that differs from a recording: whether its codes are the simulated ones in another order.
    pub(crate) reordered: Option<bool>,
    pub(crate) kept: Option<Box<Kept>>,
}

/// One target's findings on one sample.
#[derive(Debug, Default)]
pub(crate) struct TargetFound {
    pub(crate) layers: Vec<Found>,
    pub(crate) outputs: Vec<(Stats, bool)>,
    /// The first output of several elements: the reference's and the target's, run freely.
    pub(crate) answer: Option<[Arc<Tensor>; 2]>,
}

/// Everything that was found on one sample.
#[derive(Debug, Default)]
pub(crate) struct SampleFound {
    pub(crate) targets: Vec<TargetFound>,
    pub(crate) floor: Option<Floor>,
    pub(crate) peak_bytes: usize,
}

impl SampleFound {
    /// Nothing yet.
    pub(crate) fn new(check: &Check) -> Self {
        let target = || TargetFound {
            layers: vec![Found::default(); check.network.layers.len()],
            ..TargetFound::default()
        };
        Self {
            targets: check.targets.iter().map(|_| target()).collect(),
            ..Self::default()
        }
    }
}

impl Check<'_> {
    /// Runs the check on every sample, in parallel, and merges what was found in the samples' order. A sample is loaded
    /// when a thread takes it.
    ///
    /// # Errors
    /// One line: a sample cannot be loaded, or a recording does not fit the network.
    pub fn run<S: Source + ?Sized>(&self, samples: &S) -> Result<Findings> {
        let start = Instant::now();
        let source: &dyn Source = &samples;
        let mut partial = Partial::new(self, 0);
        let control = Control::default();
        self.gather(source, source.count(), &mut partial, &control)?;
        let mut findings = self.conclude(source, &partial, &control)?;
        findings.seconds = start.elapsed().as_secs_f64();
        Ok(findings)
    }

    /// Which layers are compared.
    fn compared(&self) -> Vec<bool> {
        let layers = self.network.layers.iter();
        layers
            .map(|layer| {
                // Data movement is compared where somebody recorded it.
                let recorded = self.recorded.is_some_and(|r| self.is_in(r, layer));
                (layer.is_compared() || recorded) && (self.select)(layer)
            })
            .collect()
    }

    /// Whether a recording holds a layer's output, under any of its names.
    fn is_in(&self, recording: &Recording, layer: &Layer) -> bool {
        let value = self.network.graph.value(layer.output);
        recording.has(&value.name) || value.aliases.iter().any(|a| recording.has(a))
    }

    fn layers<'s>(&'s self, compared: &'s [bool]) -> impl Iterator<Item = (usize, &'s Layer)> {
        self.network
            .layers
            .iter()
            .enumerate()
            .filter(|(index, _)| compared[*index])
    }

    /// Merges one target's findings over all samples and gives verdicts.
    fn target_outcome<'c>(
        &self,
        target: &Target,
        compared: &[bool],
        (found, samples): (&TargetPart, u64),
        missing: &[String],
        cause: &dyn Fn(usize) -> Option<&'c Cause>,
    ) -> TargetOutcome {
        let mut layers = Vec::new();
        for (index, layer) in self.layers(compared) {
            if self.recorded.is_some() && missing.contains(&layer.tensor) {
                continue;
            }
            let Some(plan) = target.plan_of(index) else {
                layers.push(self.lacking(target, layer));
                continue;
            };
            let part = &found.layers[index];
            let mut merged = Found {
                isolated: part.isolated.as_ref().map(Total::stats),
                cumulative: part.cumulative.as_ref().map(Total::stats),
                drift: part.drift,
                cause: cause(index).cloned(),
                witness: part.witness.as_ref().map(WitnessPart::witness),
                reordered: part.reordered,
                kept: part.kept.clone(),
            };
            let decisive = merged.isolated.as_ref().or(merged.cumulative.as_ref());
            let share = decisive.map_or_else(String::new, |stats| {
                format!(
                    "{} of {} elements ({}) differ from the recording",
                    thousands(stats.differing),
                    thousands(stats.elements),
                    percent(stats.rate())
                )
            });
            let mut verdict =
                decisive.map_or(Verdict::Aligned, |stats| self.verdict(stats, plan, layer));
            let bugs = target.spec.known_bugs_of(&layer.op);
            // A rule beside the target's own may be what a bug makes.
            let is_bug = |cause: &Cause| {
                let mut alike = bugs.iter().filter_map(|bug| bug.looks_like.as_deref());
                alike.any(|label| cause.is_explained_by(label))
            };
            if verdict == Verdict::Misaligned
                && self.recorded.is_some()
                && !plan.float
                && let Some(cause) =
                    (merged.cause.as_mut()).filter(|cause| !cause.is_whole() || is_bug(cause))
            {
                verdict = Verdict::UnknownRule;
                cause::suspect(
                    cause,
                    &target.spec.name,
                    &bugs,
                    merged.reordered == Some(true),
                    &share,
                );
            }
            layers.push(LayerOutcome {
                name: layer.name.clone(),
                op: layer.op.clone(),
                tensor: layer.tensor.clone(),
                verdict,
                grade: grade_text(target.spec.weakest(&plan.rules)),
                rules: plan.rules.iter().map(ToString::to_string).collect(),
                mismatches: plan.mismatches.clone(),
                float: plan.float,
                lsb: match model_grid(&self.reference.grids[layer.output]) {
                    Some(grid) => grid.is_uniform().then(|| grid.scale.at(0)),
                    None => sample::quantizer_step(layer)
                        .filter(|step| step.values.len() == 1)
                        .map(|step| step.at(0)),
                },
                isolated: merged.isolated,
                cumulative: merged.cumulative,
                drift: merged.drift,
                cause: merged.cause,
                witness: merged.witness,
                absent: None,
                kept: merged.kept,
            });
        }
        let outputs: Vec<OutputOutcome> = if self.mode.cumulative {
            self.network
                .graph
                .outputs
                .iter()
                .zip(&found.outputs)
                .map(|(&value, (total, flips))| OutputOutcome {
                    tensor: self.network.name(value).to_string(),
                    stats: total.stats(),
                    argmax_flips: *flips,
                    samples,
                })
                .collect()
        } else {
            Vec::new()
        };
        let verdict = layers
            .iter()
            .map(|l| l.verdict)
            .fold(Verdict::Aligned, Ord::max);
        let rules: Vec<&str> = layers
            .iter()
            .flat_map(|l| l.rules.iter().map(String::as_str))
            .collect();
        TargetOutcome {
            name: target.spec.name.clone(),
            summary: target.spec.summary.clone(),
            grade: grade_text(if rules.is_empty() {
                target.spec.grade()
            } else {
                target.spec.weakest(&rules)
            }),
            unknowns: target.spec.unknowns.clone(),
            verdict,
            exit_code: u8::from(verdict.fails()),
            mismatches: layers
                .iter()
                .flat_map(|l| l.mismatches.iter().map(|m| (l.tensor.clone(), m.clone())))
                .collect(),
            decisions: target.decisions.clone(),
            layers,
            outputs,
            drifted: None,
            trace: None,
            inputs: found.inputs.clone(),
            accuracy: None,
        }
    }

    /// A layer whose output is no tensor of the target.
    fn lacking(&self, target: &Target, layer: &Layer) -> LayerOutcome {
        let absent = target.own.as_ref().map(|own| own.why_absent(layer.output));
        let (rule, why) = absent.unwrap_or_default();
        LayerOutcome {
            name: layer.name.clone(),
            op: layer.op.clone(),
            tensor: layer.tensor.clone(),
            verdict: Verdict::NoSuchTensor,
            grade: grade_text(target.spec.weakest(&[&rule])),
            rules: vec![rule],
            mismatches: Vec::new(),
            float: false,
            lsb: model_grid(&self.reference.grids[layer.output])
                .filter(|g| g.is_uniform())
                .map(|g| g.scale.at(0)),
            isolated: None,
            cumulative: None,
            drift: None,
            cause: None,
            witness: None,
            absent: Some(why),
            kept: None,
        }
    }

    fn verdict(&self, stats: &Stats, plan: &LayerPlan, layer: &Layer) -> Verdict {
        let asked = self.tolerance;
        let tolerated = (asked.max_lsb > 0.0 || asked.max_rate > 0.0)
            && (asked.max_lsb == 0.0 || stats.max_lsb <= asked.max_lsb)
            && (asked.max_rate == 0.0 || stats.rate() <= asked.max_rate);
        let float_limit = if layer.quantizer.is_some() {
            1.0
        } else {
            FLOAT_TOLERANCE
        };
        // Where only the noise floor moves, float arithmetic is not to blame.
        if stats.differing == 0 {
            if plan.float {
                Verdict::FloatOnTarget
            } else {
                Verdict::Aligned
            }
        } else if stats.beyond_noise() == 0 {
            Verdict::WithinNoise
        } else if plan.float && stats.max_lsb <= float_limit {
            Verdict::FloatOnTarget
        } else if tolerated {
            Verdict::WithinTolerance
        } else {
            Verdict::Misaligned
        }
    }
}

/// The name of a grade.
pub fn grade_text(grade: Grade) -> String {
    match grade {
        Grade::Hypothesis => "hypothesis",
        Grade::Documented => "documented",
        Grade::Source => "source",
        Grade::Recorded => "recorded",
    }
    .to_string()
}
