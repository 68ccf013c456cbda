//! A check: every layer, every target, every sample, isolated and cumulative, in one pass.

use std::sync::Arc;
use std::time::Instant;

use align_check_simulators::adapt::{ValueGrid, put_on};
use align_check_simulators::kernels::Isa;
use align_check_simulators::network::{Layer, Network};
use align_check_simulators::plan::{Finish, LayerPlan, plan};
use align_check_simulators::quantize::CodeGrid;
use align_check_simulators::run::{Runner, Sums};
use align_check_simulators::tensor::{Data, Tensor};
use align_check_specs::{Grade, Spec};
use anyhow::{Result, anyhow};
use rayon::prelude::*;

use crate::cause;
use crate::compare::{self, Lsb};
use crate::inputs::{ArrayKind, Recording, Sample};
use crate::noise::Noise;
use crate::outcome::{
    Cause, Floor, LayerOutcome, OutputOutcome, Stats, TargetOutcome, Verdict, Witness,
};

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

/// Largest difference of a layer that the target computes in float before it counts as misaligned: one step
/// of a quantized output, this share of the largest value of an unquantized one.
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
    /// Layers to compare; all of them where absent.
    pub select: &'a (dyn Fn(&Layer) -> bool + Sync),
    /// Instructions to use.
    pub isa: Isa,
    /// Called after each layer of each sample.
    pub progress: &'a (dyn Fn() + Sync),
}

impl Target {
    /// Prepares a target for a network; `reference` shares its packed weights.
    ///
    /// # Errors
    /// The simulators' error, where the target has no counterpart for a layer.
    pub fn new(
        network: &Network,
        spec: Spec,
        reference: Option<&Target>,
        isa: Isa,
    ) -> Result<Self, align_check_simulators::Error> {
        let (grids, plans) = plan(network, &spec, reference.map(|r| &r.plans[..]), isa)?;
        Ok(Self { spec, grids, plans })
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
    /// Seconds.
    pub seconds: f64,
}

/// One layer's findings on one sample.
#[derive(Debug, Clone, Default)]
struct Found {
    isolated: Option<Stats>,
    cumulative: Option<Stats>,
    cause: Option<Cause>,
    witness: Option<Witness>,
}

/// One target's findings on one sample.
#[derive(Debug, Default)]
struct TargetFound {
    layers: Vec<Found>,
    outputs: Vec<(Stats, bool)>,
}

#[derive(Debug, Default)]
struct SampleFound {
    targets: Vec<TargetFound>,
    floor: Option<Floor>,
    peak_bytes: usize,
}

impl Check<'_> {
    /// Runs the check on every sample, in parallel, and merges what was found in the samples' order.
    ///
    /// # Errors
    /// One line, where a recording does not fit the network.
    pub fn run(&self, samples: &[Sample]) -> Result<Findings> {
        let start = Instant::now();
        let compared: Vec<bool> = self
            .network
            .layers
            .iter()
            .map(|layer| layer.is_compared() && (self.select)(layer))
            .collect();
        let found: Vec<SampleFound> = samples
            .par_iter()
            .enumerate()
            .map(|(index, sample)| self.sample(index, sample, &compared))
            .collect::<Result<_>>()?;
        let recording = self.recorded.or(self.recorded_reference);
        let missing = recording.map_or_else(Vec::new, |recording| {
            self.layers(&compared)
                .filter(|(_, layer)| !recording.has(&layer.tensor))
                .map(|(_, layer)| layer.tensor.clone())
                .collect()
        });
        let peak_bytes = found.iter().map(|f| f.peak_bytes).max().unwrap_or(0);
        let mut floor: Option<Floor> = None;
        for one in found.iter().filter_map(|f| f.floor.as_ref()) {
            match &mut floor {
                None => floor = Some(one.clone()),
                Some(all) => {
                    all.isolated.merge(&one.isolated);
                    all.free.merge(&one.free);
                    all.beyond_noise += one.beyond_noise;
                    all.furthest_from_tie = all.furthest_from_tie.max(one.furthest_from_tie);
                }
            }
        }
        let targets = self
            .targets
            .iter()
            .enumerate()
            .map(|(t, target)| {
                let found: Vec<&TargetFound> = found.iter().map(|f| &f.targets[t]).collect();
                self.target_outcome(target, &compared, &found, &missing)
            })
            .collect();
        Ok(Findings {
            targets,
            floor,
            missing,
            peak_bytes,
            seconds: start.elapsed().as_secs_f64(),
        })
    }

    fn layers<'s>(&'s self, compared: &'s [bool]) -> impl Iterator<Item = (usize, &'s Layer)> {
        self.network
            .layers
            .iter()
            .enumerate()
            .filter(|(index, _)| compared[*index])
    }

    /// Merges one target's findings over all samples and gives verdicts.
    fn target_outcome(
        &self,
        target: &Target,
        compared: &[bool],
        found: &[&TargetFound],
        missing: &[String],
    ) -> TargetOutcome {
        let mut layers = Vec::new();
        for (index, layer) in self.layers(compared) {
            if self.recorded.is_some() && missing.contains(&layer.tensor) {
                continue;
            }
            let plan = &target.plans[index];
            let mut merged = Found::default();
            for one in found {
                let one = &one.layers[index];
                merge(&mut merged.isolated, one.isolated.as_ref());
                merge(&mut merged.cumulative, one.cumulative.as_ref());
                if merged.witness.is_none() {
                    merged.witness.clone_from(&one.witness);
                }
                cause::merge(&mut merged.cause, one.cause.as_ref());
            }
            let decisive = merged.isolated.as_ref().or(merged.cumulative.as_ref());
            let verdict =
                decisive.map_or(Verdict::Aligned, |stats| self.verdict(stats, plan, layer));
            layers.push(LayerOutcome {
                name: layer.name.clone(),
                op: layer.op.clone(),
                tensor: layer.tensor.clone(),
                verdict,
                grade: grade_text(target.spec.weakest(&plan.rules)),
                rules: plan.rules.iter().map(ToString::to_string).collect(),
                mismatches: plan.mismatches.clone(),
                float: plan.float,
                lsb: model_grid(&self.reference.grids[layer.output])
                    .filter(|g| g.is_uniform())
                    .map(|g| g.scale.at(0)),
                isolated: merged.isolated,
                cumulative: merged.cumulative,
                cause: merged.cause,
                witness: merged.witness,
            });
        }
        let outputs: Vec<OutputOutcome> = if self.mode.cumulative {
            self.network
                .graph
                .outputs
                .iter()
                .enumerate()
                .map(|(index, &value)| {
                    let mut stats = None;
                    let mut argmax_flips = 0;
                    for one in found {
                        let (one, flipped) = &one.outputs[index];
                        merge(&mut stats, Some(one));
                        argmax_flips += u64::from(*flipped);
                    }
                    OutputOutcome {
                        tensor: self.network.name(value).to_string(),
                        stats: stats.unwrap_or_default(),
                        argmax_flips,
                        samples: found.len() as u64,
                    }
                })
                .collect()
        } else {
            Vec::new()
        };
        let verdict = layers
            .iter()
            .map(|l| l.verdict)
            .max()
            .unwrap_or(Verdict::Aligned);
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
            exit_code: u8::from(verdict == Verdict::Misaligned),
            mismatches: layers
                .iter()
                .flat_map(|l| l.mismatches.iter().map(|m| (l.tensor.clone(), m.clone())))
                .collect(),
            layers,
            outputs,
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

    fn sample(&self, number: usize, sample: &Sample, compared: &[bool]) -> Result<SampleFound> {
        let network = self.network;
        let mut run = SampleRun::new(self, number, sample)?;
        let last = network.last_uses();
        let mut found = SampleFound {
            targets: self
                .targets
                .iter()
                .map(|_| TargetFound {
                    layers: vec![Found::default(); network.layers.len()],
                    outputs: Vec::new(),
                })
                .collect(),
            floor: None,
            peak_bytes: 0,
        };
        for index in 0..network.layers.len() {
            run.layer(index, compared[index], &mut found)?;
            found.peak_bytes = found.peak_bytes.max(run.bytes());
            for &value in &last[index] {
                run.free(value);
            }
            (self.progress)();
        }
        run.outputs(&mut found)?;
        Ok(found)
    }
}

type Values = Vec<Option<Arc<Tensor>>>;

/// One sample on its way through the network.
struct SampleRun<'a> {
    check: &'a Check<'a>,
    number: usize,
    name: &'a str,
    /// What layers are fed with in isolation: the reference's tensors, or the recording's.
    base: Values,
    /// The exact reference run freely, where a recorded one is the base.
    free: Option<Values>,
    /// Each target's own tensors.
    own: Vec<Values>,
}

impl<'a> SampleRun<'a> {
    fn new(check: &'a Check<'a>, number: usize, sample: &'a Sample) -> Result<Self> {
        let network = check.network;
        let mut base: Values = vec![None; network.graph.values.len()];
        for &input in &network.graph.inputs {
            let name = network.name(input);
            let array = sample
                .inputs
                .get(name)
                .ok_or_else(|| anyhow!("sample '{}' lacks input '{name}'", sample.name))?;
            let tensor = Tensor::real(network.graph.shape(input).to_vec(), array.values.clone());
            let tensor = put_on(&check.reference.grids[input], &tensor).unwrap_or(tensor);
            base[input] = Some(Arc::new(tensor));
        }
        Ok(Self {
            free: check.recorded_reference.map(|_| base.clone()),
            own: check.targets.iter().map(|_| base.clone()).collect(),
            base,
            check,
            number,
            name: &sample.name,
        })
    }

    /// Bytes of tensors that are alive; shared ones count once.
    fn bytes(&self) -> usize {
        let mut seen: Vec<*const Tensor> = Vec::new();
        let mut bytes = 0;
        for tensor in self
            .own
            .iter()
            .chain(&self.free)
            .chain([&self.base])
            .flatten()
            .flatten()
        {
            let pointer = Arc::as_ptr(tensor);
            if !seen.contains(&pointer) {
                seen.push(pointer);
                bytes += tensor.bytes();
            }
        }
        bytes
    }

    fn free(&mut self, value: usize) {
        for values in self
            .own
            .iter_mut()
            .chain(&mut self.free)
            .chain([&mut self.base])
        {
            values[value] = None;
        }
    }

    fn layer(&mut self, index: usize, compared: bool, found: &mut SampleFound) -> Result<()> {
        let check = self.check;
        let layer = &check.network.layers[index];
        let reference = Runner {
            layer,
            plan: &check.reference.plans[index],
            isa: check.isa,
        };
        let base_in = take(&self.base, layer)?;
        let base_refs: Vec<&Tensor> = base_in.iter().map(|t| &**t).collect();
        let expected_sums = if check.recorded.is_some() {
            Sums::None
        } else {
            reference.sums(&base_refs)
        };
        let mut noise = None;
        let lsb = self.lsb(layer);
        let expected: Option<Arc<Tensor>> = if let Some(recording) = check.recorded {
            self.recorded(recording, index)?
        } else {
            let exact = Arc::new(reference.finish(&base_refs, &expected_sums));
            let mut expected = exact.clone();
            if let (Some(recording), Some(free)) = (check.recorded_reference, &mut self.free) {
                let free_in = take(free, layer)?;
                let same = free_in.iter().zip(&base_in).all(|(a, b)| Arc::ptr_eq(a, b));
                let mut free_out = if same {
                    exact.clone()
                } else {
                    let refs: Vec<&Tensor> = free_in.iter().map(|t| &**t).collect();
                    Arc::new(reference.finish(&refs, &reference.sums(&refs)))
                };
                if let Some(recorded) = find_recorded(
                    recording,
                    layer,
                    self.number,
                    self.name,
                    &check.reference.grids[layer.output],
                    compared,
                )? {
                    let (mut stats, differing) = compare::compare(&recorded, &exact, &lsb);
                    let floor = found.floor.get_or_insert_with(|| Floor {
                        isolated: Stats::default(),
                        beyond_noise: 0,
                        furthest_from_tie: 0.0,
                        free: Stats::default(),
                    });
                    if !differing.is_empty() {
                        let floor_noise = Noise::new(&reference, &base_refs, &expected_sums);
                        for &at in &differing {
                            match &floor_noise {
                                Some(n) => {
                                    floor.furthest_from_tie =
                                        floor.furthest_from_tie.max(n.distance(at));
                                    if n.decides(at, recorded.real_at(at), exact.real_at(at)) {
                                        stats.noise += 1;
                                    } else {
                                        floor.beyond_noise += 1;
                                    }
                                }
                                None => floor.beyond_noise += 1,
                            }
                        }
                    }
                    floor.isolated.merge(&stats);
                    floor
                        .free
                        .merge(&compare::compare(&recorded, &free_out, &lsb).0);
                    if differing.is_empty() {
                        expected = exact.clone();
                    } else {
                        expected = Arc::new(recorded);
                    }
                    if *free_out == *expected {
                        free_out = expected.clone();
                    }
                }
                free[layer.output] = Some(free_out);
            }
            Some(expected)
        };
        let mut base_out = expected.clone();
        for (t, target) in check.targets.iter().enumerate() {
            let runner = Runner {
                layer,
                plan: &target.plans[index],
                isa: check.isa,
            };
            let own_in = take(&self.own[t], layer)?;
            let iso_in: Vec<Arc<Tensor>> = layer
                .inputs
                .iter()
                .zip(&base_in)
                .map(
                    |(&value, tensor)| match put_on(&target.grids[value], tensor) {
                        Some(moved) => Arc::new(moved),
                        None => tensor.clone(),
                    },
                )
                .collect();
            let unmoved = iso_in.iter().zip(&base_in).all(|(a, b)| Arc::ptr_eq(a, b));
            let drifted = !own_in.iter().zip(&base_in).all(|(a, b)| Arc::ptr_eq(a, b));
            let needs_isolated = check.mode.isolated || check.recorded.is_some() || !drifted;
            let mut isolated = None;
            if needs_isolated {
                let refs: Vec<&Tensor> = iso_in.iter().map(|t| &**t).collect();
                let shared =
                    unmoved && check.recorded.is_none() && runner.plan.shares_sums(reference.plan);
                let own_sums;
                let sums = if shared {
                    &expected_sums
                } else {
                    own_sums = runner.sums(&refs);
                    &own_sums
                };
                let out = Arc::new(runner.finish(&refs, sums));
                if let (true, true, Some(expected)) = (compared, check.mode.isolated, &expected) {
                    let (mut stats, differing) = compare::compare(expected, &out, &lsb);
                    let entry = &mut found.targets[t].layers[index];
                    if !differing.is_empty() {
                        if check.recorded.is_none() {
                            noise.get_or_insert_with(|| {
                                Noise::new(&reference, &base_refs, &expected_sums)
                            });
                        }
                        let decided = noise.as_ref().and_then(Option::as_ref);
                        let (quiet, loud): (Vec<usize>, Vec<usize>) =
                            differing.iter().partition(|&&at| {
                                decided.is_some_and(|n| {
                                    n.decides(at, expected.real_at(at), out.real_at(at))
                                })
                            });
                        stats.noise = quiet.len() as u64;
                        let shown = *loud.first().unwrap_or(&differing[0]);
                        entry.witness =
                            Some(self.witness(&runner, sums, expected, &out, decided, shown));
                        if !loud.is_empty() {
                            entry.cause = Some(cause::find(&cause::Case {
                                index,
                                layer,
                                target,
                                reference: check.reference,
                                plan: &target.plans[index],
                                base_in: &base_refs,
                                sums,
                                reference_sums: &expected_sums,
                                expected,
                                differing: &loud,
                                isa: check.isa,
                            }));
                        }
                    }
                    entry.isolated = Some(stats);
                }
                isolated = Some(out);
            }
            let own_out = if drifted {
                let moved: Vec<Arc<Tensor>> = layer
                    .inputs
                    .iter()
                    .zip(&own_in)
                    .map(
                        |(&value, tensor)| match put_on(&target.grids[value], tensor) {
                            Some(moved) => Arc::new(moved),
                            None => tensor.clone(),
                        },
                    )
                    .collect();
                let refs: Vec<&Tensor> = moved.iter().map(|t| &**t).collect();
                Arc::new(runner.finish(&refs, &runner.sums(&refs)))
            } else {
                isolated
                    .clone()
                    .ok_or_else(|| anyhow!("no isolated run to go on from"))?
            };
            if let (true, true, Some(expected)) = (compared, check.mode.cumulative, &expected) {
                let mut stats = if drifted {
                    compare::compare(expected, &own_out, &lsb).0
                } else {
                    match &found.targets[t].layers[index].isolated {
                        Some(stats) => stats.clone(),
                        None => compare::compare(expected, &own_out, &lsb).0,
                    }
                };
                if drifted {
                    stats.noise = 0;
                }
                found.targets[t].layers[index].cumulative = Some(stats);
            }
            if check.recorded.is_some() && base_out.is_none() {
                base_out.clone_from(&isolated);
            }
            // An equal tensor is shared, so that the next layer sees that nothing drifted.
            let own_out = match &base_out {
                Some(base) if **base == *own_out => base.clone(),
                _ => own_out,
            };
            self.own[t][layer.output] = Some(own_out);
        }
        self.base[layer.output] = base_out;
        Ok(())
    }

    fn lsb(&self, layer: &Layer) -> Lsb {
        match model_grid(&self.check.reference.grids[layer.output]) {
            Some(grid) => Lsb::new(grid.scale.clone(), &layer.shape),
            None => quantizer_step(layer).map_or_else(Lsb::unit, |s| Lsb::new(s, &layer.shape)),
        }
    }

    fn witness(
        &self,
        runner: &Runner,
        sums: &Sums,
        expected: &Tensor,
        got: &Tensor,
        noise: Option<&Noise>,
        at: usize,
    ) -> Witness {
        let value = |t: &Tensor| match &t.data {
            Data::Codes { codes, .. } if got.grid() == expected.grid() => f64::from(codes[at]),
            _ => t.real_at(at),
        };
        let mut index = Vec::new();
        let mut rest = at;
        for &extent in runner.layer.shape.iter().rev() {
            index.push(rest % extent.max(1));
            rest /= extent.max(1);
        }
        index.reverse();
        Witness {
            sample: self.number,
            index,
            accumulator: sums.at(at),
            multiplier: match &runner.plan.finish {
                Finish::Requantize {
                    requantizer,
                    channels,
                } => Some(requantizer.multiplier(channels.of_index(at))),
                _ => None,
            },
            before_rounding: noise.map(|n| n.value(at)),
            expected: value(expected),
            got: value(got),
        }
    }

    /// The target's recorded output of a layer.
    fn recorded(&self, recording: &Recording, index: usize) -> Result<Option<Arc<Tensor>>> {
        let layer = &self.check.network.layers[index];
        let grid = &self.check.targets[0].grids[layer.output];
        let found = find_recorded(recording, layer, self.number, self.name, grid, true)?;
        Ok(found.map(Arc::new))
    }

    /// Compares the model's outputs, run freely.
    fn outputs(&self, found: &mut SampleFound) -> Result<()> {
        let check = self.check;
        for (t, _) in check.targets.iter().enumerate() {
            for &value in &check.network.graph.outputs {
                let (Some(expected), Some(got)) = (&self.base[value], &self.own[t][value]) else {
                    // An output that is an input or a constant: nothing was simulated.
                    found.targets[t].outputs.push((Stats::default(), false));
                    continue;
                };
                let lsb = match model_grid(&check.reference.grids[value]) {
                    Some(grid) => Lsb::new(grid.scale.clone(), &expected.shape),
                    None => Lsb::unit(),
                };
                let stats = compare::compare(expected, got, &lsb).0;
                let flipped = argmax(expected) != argmax(got);
                found.targets[t].outputs.push((stats, flipped));
            }
        }
        Ok(())
    }
}

fn merge(all: &mut Option<Stats>, one: Option<&Stats>) {
    match (all, one) {
        (Some(all), Some(one)) => all.merge(one),
        (all, Some(one)) => *all = Some(one.clone()),
        (_, None) => {}
    }
}

fn take(values: &Values, layer: &Layer) -> Result<Vec<Arc<Tensor>>> {
    layer
        .inputs
        .iter()
        .map(|&i| {
            values[i]
                .clone()
                .ok_or_else(|| anyhow!("layer '{}' lacks an input", layer.name))
        })
        .collect()
}

fn model_grid(grid: &ValueGrid) -> Option<&Arc<CodeGrid>> {
    match grid {
        ValueGrid::Codes { grid, .. } => Some(grid),
        _ => None,
    }
}

/// The step of a quantizer without integer codes.
fn quantizer_step(layer: &Layer) -> Option<align_check_graph::PerChannel<f64>> {
    use align_check_graph::Quantizer;
    match layer.quantizer.as_ref()? {
        Quantizer::Affine(a) => Some(a.scale.map(f64::from)),
        Quantizer::Minifloat(m) => {
            // The step of its smallest numbers.
            let exponent = 1.0 - f64::from(m.exponent_bias) - f64::from(m.mantissa_bits);
            Some(m.scale.map(|s| f64::from(s) * exponent.exp2()))
        }
        _ => None,
    }
}

/// A recorded tensor on a value's grid. Integers are codes: in the target's label where their type is the
/// target's, else in the model's. Reals are put on the grid where they lie on it.
fn find_recorded(
    recording: &Recording,
    layer: &Layer,
    number: usize,
    sample: &str,
    grid: &ValueGrid,
    wanted: bool,
) -> Result<Option<Tensor>> {
    let elements = layer.shape.iter().product();
    let Some((values, kind)) = recording.find(&layer.tensor, number, sample, elements) else {
        if wanted && recording.has(&layer.tensor) {
            return Err(anyhow!(
                "{}: tensor '{}' of sample '{sample}' does not have {elements} elements",
                recording.path.display(),
                layer.tensor
            ));
        }
        return Ok(None);
    };
    let ValueGrid::Codes { grid, relabel, .. } = grid else {
        return Ok(Some(Tensor::real(layer.shape.clone(), values.to_vec())));
    };
    let channels = grid.channels(&layer.shape);
    let shift = match kind {
        ArrayKind::Signed(8) if grid.min >= 0 => *relabel,
        ArrayKind::Unsigned(8) if grid.min < 0 => *relabel,
        _ => 0,
    };
    let mut codes = Vec::with_capacity(elements);
    for (index, &value) in values.iter().enumerate() {
        let code = match kind {
            // Beyond 25 bits the executor's f32 clamp reaches one past the largest code.
            ArrayKind::Float => {
                let c = channels.of_index(index);
                let steps = value / grid.scale.at(c);
                let code = steps.round();
                if (steps - code).abs() > 1e-2 {
                    return Ok(Some(Tensor::real(layer.shape.clone(), values.to_vec())));
                }
                (code as i64 + grid.zero_point.at(c)).clamp(grid.min - 1, grid.max)
            }
            _ => value as i64 - shift,
        };
        let Ok(code) = i32::try_from(code) else {
            return Err(anyhow!(
                "{}: tensor '{}' holds {value}, which is no code",
                recording.path.display(),
                layer.tensor
            ));
        };
        codes.push(code);
    }
    Ok(Some(Tensor::codes(
        layer.shape.clone(),
        codes,
        grid.clone(),
    )))
}

fn argmax(tensor: &Tensor) -> Option<usize> {
    let values = tensor.to_real();
    (0..values.len()).reduce(|best, i| if values[i] > values[best] { i } else { best })
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
