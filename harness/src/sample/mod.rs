//! One sample on its way through the network: the reference, every target in isolation, every target's own
//! run, layer by layer.

pub(crate) mod drift;
mod own;
pub(crate) mod recorded;
mod steps;

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use align_check_graph::{PerChannel, Quantizer};
use align_check_simulators::Buffers;
use align_check_simulators::adapt::{ValueGrid, put_on};
use align_check_simulators::network::{Kind, Layer, LinearForm, Network};
use align_check_simulators::plan::{Finish, LayerPlan};
use align_check_simulators::quantize::CodeGrid;
use align_check_simulators::run::{Asked, Runner, Sums};
use align_check_simulators::tensor::{Channels, Data, Tensor};
use anyhow::{Result, anyhow};
use rayon::prelude::*;

use crate::cause;
use crate::check::{Check, Found, Mode, SampleFound, Target};
use crate::compare::{self, Lsb};
use crate::inputs::{ArrayKind, Recording, Sample};
use crate::noise::Noise;
use crate::outcome::{Cause, Drift, Floor, Kept, Numbers, Stats, Witness};
use recorded::{find_recorded, place};
pub(crate) use steps::Steps;

pub(crate) type Values = Vec<Option<Arc<Tensor>>>;

/// Runs one sample through a check. `compared` says which layers count; `steps` are what it shares with others.
///
/// # Errors
/// One line, where a recording does not fit the network.
pub(crate) fn run(
    check: &Check,
    steps: Option<&Steps>,
    (number, sample): (usize, &Sample),
    compared: &[bool],
) -> Result<SampleFound> {
    let mut run = SampleRun::new(check, number, sample)?;
    run.steps = steps;
    let last = last_uses(check);
    let mut found = SampleFound::new(check);
    for (index, last) in last.iter().enumerate() {
        run.layer(index, compared, &mut found)?;
        found.peak_bytes = found.peak_bytes.max(run.bytes());
        for &value in last {
            run.free(value);
        }
        (check.progress)();
    }
    run.outputs(&mut found);
    Ok(found)
}

/// Runs samples side by side and tries decisions together on the layers that no single one explains; on each, what
/// was found.
///
/// # Errors
/// As [`run`].
pub(crate) fn together(
    check: &Check,
    samples: &[(usize, &Sample)],
    compared: &[bool],
    wanted: &Wanted,
) -> Result<Wanted> {
    let layers = &check.network.layers;
    let mut runs = samples
        .iter()
        .map(|(number, sample)| {
            let mut run = SampleRun::new(check, *number, sample)?;
            run.wanted = Some(wanted);
            Ok(run)
        })
        .collect::<Result<Vec<_>>>()?;
    let mut causes = Wanted::new();
    for (index, last) in last_uses(check).iter().enumerate() {
        let step = |run: &mut SampleRun| {
            run.layer(index, compared, &mut SampleFound::new(check))?;
            for &value in last {
                run.free(value);
            }
            Ok(())
        };
        runs.par_iter_mut().map(step).collect::<Result<()>>()?;
        let mut cases: BTreeMap<(usize, usize), Vec<cause::Case>> = BTreeMap::new();
        for run in &runs {
            for (key, case) in run.cases.take() {
                cases.entry(key).or_default().push(case);
            }
        }
        let found: Vec<_> = cases
            .into_par_iter()
            .map(|(key, mut cases)| {
                cases.truncate(cause::MOST_SAMPLES);
                (key, cause::together(&cases, &wanted[&key]))
            })
            .collect();
        causes.extend(found);
        if index + 1 == layers.len() || causes.len() == wanted.len() {
            break;
        }
    }
    Ok(causes)
}

/// Some layers of one sample, as the first target is fed in isolation.
///
/// # Errors
/// As [`run`].
pub(crate) fn exhibits(
    check: &Check,
    number: usize,
    sample: &Sample,
    layers: &[usize],
) -> Result<Vec<Exhibit>> {
    let compared: Vec<bool> = (0..check.network.layers.len())
        .map(|layer| layers.contains(&layer))
        .collect();
    let isolated = Check {
        mode: Mode {
            isolated: true,
            cumulative: false,
        },
        explain: false,
        ..*check
    };
    let mut run = SampleRun::new(&isolated, number, sample)?;
    run.shown = layers;
    for (index, last) in last_uses(check).iter().enumerate() {
        run.layer(index, &compared, &mut SampleFound::new(check))?;
        for &value in last {
            run.free(value);
        }
    }
    Ok(run.exhibits.take())
}

/// A layer that a target computed in isolation, and what it is compared with.
pub(crate) struct Judged<'a> {
    /// The reference's layer, and what it is fed with.
    pub reference: Runner<'a>,
    /// The reference's inputs.
    pub reference_inputs: &'a [Arc<Tensor>],
    /// The target's layer.
    pub target: Runner<'a>,
    /// The target's inputs, on its grids.
    pub inputs: &'a [Arc<Tensor>],
    /// The target's sums.
    pub sums: &'a Sums,
    /// What it made of them.
    pub out: &'a Tensor,
    /// What it is compared with.
    pub expected: &'a Tensor,
    /// What one LSB is.
    pub lsb: &'a Lsb,
}

/// Shows what one layer of the model becomes on the first target; false where nothing is there to compare it with.
///
/// # Errors
/// As [`run`].
pub(crate) fn look(
    check: &Check,
    number: usize,
    sample: &Sample,
    layer: usize,
    see: &(dyn Fn(&Judged) + Sync),
) -> Result<bool> {
    let seen = AtomicBool::new(false);
    let see = |judged: &Judged| {
        seen.store(true, Ordering::Relaxed);
        see(judged);
    };
    let mut run = SampleRun::new(check, number, sample)?;
    run.see = Some(&see);
    let compared: Vec<bool> = (0..check.network.layers.len())
        .map(|at| at == layer)
        .collect();
    let mut found = SampleFound::new(check);
    for (index, last) in last_uses(check).iter().enumerate() {
        run.layer(index, &compared, &mut found)?;
        if seen.load(Ordering::Relaxed) {
            break;
        }
        for &value in last {
            run.free(value);
        }
    }
    Ok(seen.into_inner())
}

/// For each layer, the values that no target needs after it.
fn last_uses(check: &Check) -> Vec<Vec<usize>> {
    let mut last = check.network.last_uses();
    let needed = |value: usize| {
        let own = check.targets.iter().filter_map(|t| t.own.as_ref());
        own.filter_map(|own| own.needed[value]).max()
    };
    for index in 0..last.len() {
        for value in std::mem::take(&mut last[index]) {
            last[needed(value).map_or(index, |slot| slot.max(index))].push(value);
        }
    }
    last
}

struct SampleRun<'a> {
    check: &'a Check<'a>,
    number: usize,
    name: &'a str,
    /// What layers are fed with in isolation: the reference's tensors, or the recording's.
    base: Values,
    /// The exact reference run freely, where a recorded one is the base.
    free: Option<Values>,
    /// Each target's own tensors: of the model's values, or of its own where it has layers of its own.
    own: Vec<Values>,
    /// What such a target makes in isolation that stands for no tensor of the model.
    inner: Vec<Values>,
    /// The model's values that a recording lacks and the target has not made yet.
    unrecorded: BTreeSet<usize>,
    /// `(target, layer)` whose decisions are to be tried together; else each is tried alone.
    wanted: Option<&'a Wanted>,
    /// These layers as they came by.
    cases: RefCell<Vec<((usize, usize), cause::Case<'a>)>>,
    /// Whether to keep what layers make in isolation, where it differs.
    tracing: bool,
    /// `(layer, output, differing elements)` of these.
    introduced: RefCell<Vec<(usize, Arc<Tensor>, u64)>>,
    /// Layers that are shown as they are fed.
    shown: &'a [usize],
    /// These.
    exhibits: RefCell<Vec<Exhibit>>,
    /// Who looks at a layer in place of judging it.
    see: Option<&'a (dyn Fn(&Judged) + Sync)>,
    /// Where the targets' steps lie, beside the reference's.
    steps: Option<&'a Steps>,
    /// Memory of tensors that nobody needs any more.
    buffers: RefCell<Buffers>,
}

/// A layer of the model on one sample: what it is fed with, and what is expected of it.
#[derive(Debug)]
pub(crate) struct Exhibit {
    /// Which layer.
    pub(crate) layer: usize,
    /// Its inputs, on the model's grids.
    pub(crate) inputs: Vec<Arc<Tensor>>,
    /// What is expected.
    pub(crate) expected: Arc<Tensor>,
    /// How many elements the target makes otherwise.
    pub(crate) differing: u64,
}

/// Layers that no single decision explains, `(target, layer)`, and what was found of them.
pub(crate) type Wanted = BTreeMap<(usize, usize), Cause>;

/// A layer, what it is fed with, and what is expected of it.
struct Fed<'a> {
    index: usize,
    layer: &'a Layer,
    compared: bool,
    reference: Runner<'a>,
    inputs: Vec<Arc<Tensor>>,
    /// The reference's sums; none where a recording takes its place.
    sums: OnceCell<Arc<Sums>>,
    /// What the reference makes of them, where it was asked for.
    exact: Option<Arc<Tensor>>,
    /// What each target makes of them, where that was made together with the reference's.
    made: Vec<Option<Arc<Tensor>>>,
    /// What an output is found to be that equals the expected one.
    equal: OnceCell<Stats>,
    squares: compare::Squares,
    lsb: Lsb,
}

/// What a target made of a layer in isolation.
struct Made<'m, 'a> {
    /// Which target.
    t: usize,
    runner: Runner<'a>,
    /// What it was fed with, on the target's grids.
    inputs: &'m [Arc<Tensor>],
    sums: &'m Arc<Sums>,
    out: &'m Arc<Tensor>,
}

/// What is needed to run the layer with another decision.
struct Switched<'m, 'a> {
    /// What it was fed with.
    inputs: &'m [Arc<Tensor>],
    /// The target's grids.
    grids: &'m [ValueGrid],
    /// The model's grids of the inputs.
    model_grids: Vec<ValueGrid>,
    /// The reference's plan of the same layer.
    model: Option<&'a LayerPlan>,
    /// The layer as the model places it.
    unplaced: Option<cause::Unplaced<'a>>,
}

impl Fed<'_> {
    /// [`compare::compare`], at the cost of looking whether they are equal, where they are.
    fn compare(&self, expected: &Tensor, got: &Tensor) -> (Stats, Vec<usize>) {
        if std::ptr::eq(expected, got) || expected == got {
            let compare = || compare::compare(expected, got, &self.lsb).0;
            (self.equal.get_or_init(compare).clone(), Vec::new())
        } else {
            compare::compare_again(expected, got, &self.lsb, &self.squares)
        }
    }

    /// Whether a plan's sums of the same inputs are the reference's.
    fn shares_sums(&self, plan: &LayerPlan) -> bool {
        plan.shares_sums(self.reference.plan) && !matches!(**self.sums(), Sums::None)
    }

    /// The reference's sums, made when they are first asked for.
    fn sums(&self) -> &Arc<Sums> {
        let sums = || Arc::new(self.reference.sums(&borrowed(&self.inputs)));
        self.sums.get_or_init(sums)
    }

    /// The noise floor.
    fn noise(&self) -> Option<Noise<'_>> {
        Noise::new(&self.reference, &borrowed(&self.inputs), self.sums())
    }
}

impl<'a> SampleRun<'a> {
    fn new(check: &'a Check<'a>, number: usize, sample: &'a Sample) -> Result<Self> {
        let base = inputs(check.network, &check.reference.grids, sample)?;
        Ok(Self {
            free: check.recorded_reference.map(|_| base.clone()),
            own: check
                .targets
                .iter()
                .map(|t| own::inputs(t, &base))
                .collect(),
            inner: check.targets.iter().map(own::nothing).collect(),
            unrecorded: BTreeSet::new(),
            wanted: None,
            cases: RefCell::default(),
            tracing: false,
            introduced: RefCell::default(),
            shown: &[],
            exhibits: RefCell::default(),
            see: None,
            steps: None,
            buffers: RefCell::default(),
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
            .chain(&self.inner)
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
        let mut freed = Vec::new();
        let shared = self.check.targets.iter().zip(&mut self.own);
        for (_, values) in shared.filter(|(target, _)| target.own.is_none()) {
            freed.extend(values[value].take());
        }
        for values in self.free.iter_mut().chain([&mut self.base]) {
            freed.extend(values[value].take());
        }
        for tensor in freed {
            self.give(tensor);
        }
    }

    /// Keeps the memory of a tensor that nobody else needs.
    fn give(&self, tensor: Arc<Tensor>) {
        if let Some(tensor) = Arc::into_inner(tensor) {
            self.buffers.borrow_mut().give(tensor);
        }
    }

    /// As [`give`](Self::give).
    fn give_sums(&self, sums: Arc<Sums>) {
        if let Some(sums) = Arc::into_inner(sums) {
            self.buffers.borrow_mut().give_sums(sums);
        }
    }

    fn sums(&self, runner: &Runner, inputs: &[&Tensor]) -> Arc<Sums> {
        Arc::new(runner.sums_in(inputs, &mut self.buffers.borrow_mut()))
    }

    fn finish(&self, runner: &Runner, inputs: &[&Tensor], sums: &Sums) -> Arc<Tensor> {
        Arc::new(runner.finish_in(inputs, sums, &mut self.buffers.borrow_mut()))
    }

    /// The output of a layer whose sums nobody asks for.
    fn output(&self, runner: &Runner, inputs: &[&Tensor]) -> Arc<Tensor> {
        let ended = runner.ended(inputs, Asked::default(), &mut self.buffers.borrow_mut());
        if let Some(ended) = ended {
            return Arc::new(ended.out);
        }
        let sums = self.sums(runner, inputs);
        let out = self.finish(runner, inputs, &sums);
        self.give_sums(sums);
        out
    }

    /// A layer of the model with what it is fed with.
    fn fed(&self, index: usize, compared: bool) -> Result<Fed<'a>> {
        let check = self.check;
        let layer = &check.network.layers[index];
        let reference = Runner {
            layer,
            plan: &check.reference.plans[index],
            isa: check.isa,
        };
        let inputs = take(&self.base, layer)?;
        let sums = match check.recorded {
            Some(_) if !is_exact(&check.targets[0]) => Arc::new(Sums::None).into(),
            _ => OnceCell::new(),
        };
        Ok(Fed {
            index,
            layer,
            compared,
            reference,
            inputs,
            sums,
            exact: None,
            made: vec![None; check.targets.len()],
            equal: OnceCell::new(),
            squares: compare::Squares::default(),
            lsb: lsb(check, layer),
        })
    }

    fn layer(&mut self, index: usize, compared: &[bool], found: &mut SampleFound) -> Result<()> {
        let check = self.check;
        let mut fed = self.fed(index, compared[index])?;
        let layer = fed.layer;
        let expected = match check.recorded {
            Some(recording) => {
                let target = &check.targets[0];
                let value = match &target.own {
                    None => Some(layer.output),
                    Some(own) => own.placed.found_as[layer.output],
                };
                let grid = value.map_or(&check.reference.grids[layer.output], |v| &target.grids[v]);
                self.recorded(recording, layer, grid, true)?.map(Arc::new)
            }
            None => Some(self.reference(&mut fed, found)?),
        };
        // Layers are planned for codes: numbers off the grid are compared, but nobody computes with them.
        let usable = |tensor: &Arc<Tensor>| {
            let coded = |t: &Target| model_grid(&t.grids[layer.output]).is_some();
            check.recorded.is_none() || tensor.grid().is_some() || !coded(&check.targets[0])
        };
        let mut base = expected.clone().filter(usable);
        let noise = OnceCell::new();
        let shared = |t: &usize| check.targets[*t].own.is_none();
        for t in (0..check.targets.len()).filter(shared) {
            if !self.is_asked(t, index) {
                self.own[t][layer.output].clone_from(&base);
                continue;
            }
            let entry = &mut found.targets[t].layers[index];
            let (isolated, own) = self.target(t, &fed, expected.as_ref(), &noise, entry)?;
            if base.is_none() {
                // What the recording lacks, or has off the grid, the target's simulation fills in.
                base = isolated;
            } else if let Some(isolated) = isolated {
                self.give(isolated);
            }
            let counted = entry.cumulative.as_ref().map(|stats| stats.differing == 0);
            self.own[t][layer.output] = Some(self.kept(own, base.as_ref(), counted));
        }
        let filled = base.is_none();
        self.base[layer.output] = Some(base.unwrap_or_else(|| {
            // Until a layer of the target's own does.
            let inputs = borrowed(&fed.inputs);
            Arc::new(fed.reference.finish(&inputs, &fed.reference.sums(&inputs)))
        }));
        for t in (0..check.targets.len()).filter(|t| !shared(t)) {
            if !self.is_asked(t, index) {
                continue;
            }
            self.own_layers(t, &fed, &noise, compared, filled, found)?;
        }
        drop(noise);
        if let Some(sums) = fed.sums.into_inner() {
            self.give_sums(sums);
        }
        Ok(())
    }

    /// Whether anybody asks for a target's layer. Where decisions are tried together, in isolation, only some are looked at.
    fn is_asked(&self, t: usize, index: usize) -> bool {
        let Check { mode, recorded, .. } = self.check;
        match self.wanted {
            Some(wanted) if !mode.cumulative && recorded.is_none() => {
                let placed = self.check.targets[t].own.is_some();
                // Layers of a target's own feed one another.
                wanted.contains_key(&(t, index)) || placed && wanted.keys().any(|key| key.0 == t)
            }
            _ => true,
        }
    }

    /// A target's tensor to go on with: an equal one is shared, so that the next layer sees that nothing drifted.
    fn kept(
        &self,
        own: Arc<Tensor>,
        base: Option<&Arc<Tensor>>,
        counted: Option<bool>,
    ) -> Arc<Tensor> {
        match base {
            // Nobody asks for the target's own run.
            Some(base) if !self.check.mode.cumulative => {
                self.give(own);
                base.clone()
            }
            Some(base)
                if Arc::ptr_eq(base, &own)
                    || base.grid() == own.grid() && counted.unwrap_or(**base == *own) =>
            {
                self.give(own);
                base.clone()
            }
            _ => own,
        }
    }

    /// What the exact reference makes of a layer, with all that targets make of the same sums: while these are in the
    /// cache, where all of it goes channel by channel.
    fn exact(&self, fed: &mut Fed<'a>) -> Result<Arc<Tensor>> {
        let check = self.check;
        let steps = self.steps.and_then(|steps| steps.layer(check, fed.index));
        // Targets that compute the layer from what the reference is fed with; and of these, those that make something
        // else of its sums: with ends of their own, or near ties only.
        let (mut compared, mut others, mut shifted) = (false, Vec::new(), Vec::new());
        for (t, target) in check.targets.iter().enumerate() {
            if !self.is_asked(t, fed.index) {
                continue;
            }
            if target.own.is_some() {
                compared = true;
                continue;
            }
            let drifted = !same(&take(&self.own[t], fed.layer)?, &fed.inputs);
            if drifted && !check.mode.isolated && check.recorded.is_none() {
                continue;
            }
            let plan = &target.plans[fed.index];
            let mut inputs = fed.layer.inputs.iter();
            let unmoved = inputs.all(|&value| target.grids[value] == check.reference.grids[value]);
            if unmoved && plan.computes_as(fed.reference.plan) {
                continue;
            }
            if let Some(shifts) = steps.and_then(|steps| steps.shifts[t].as_ref()) {
                compared |= !shifts.are_none();
                let runner = Runner {
                    plan,
                    ..fed.reference
                };
                shifted.push((t, runner, shifts));
                continue;
            }
            compared = true;
            if unmoved && plan.shares_sums(fed.reference.plan) {
                let runner = Runner {
                    plan,
                    ..fed.reference
                };
                others.push((t, runner));
            }
        }
        let inputs = borrowed(&fed.inputs);
        let runners: Vec<Runner> = others.iter().map(|(_, runner)| *runner).collect();
        let furthest = shifted.iter().map(|(.., shifts)| shifts.furthest()).max();
        let asked = Asked {
            others: &runners,
            sums: compared || check.recorded_reference.is_some() || self.see.is_some(),
            near: furthest.filter(|&furthest| furthest > 0),
        };
        let mut buffers = self.buffers.borrow_mut();
        let ended = fed.reference.ended(&inputs, asked, &mut buffers);
        drop(buffers);
        let exact = if let Some(ended) = ended {
            let exact = Arc::new(ended.out);
            for (t, runner, shifts) in shifted {
                let made = match (&ended.sums, steps) {
                    _ if shifts.are_none() => None,
                    (Some(Sums::I32(sums)), Some(steps)) => {
                        let (own, other) = ((&*exact, &sums[..]), (&runner, shifts));
                        let buffers = &mut self.buffers.borrow_mut();
                        steps.begins.shifted(own, &ended.near, other, buffers)
                    }
                    // Asked for above: the target's own end makes it.
                    _ => continue,
                };
                fed.made[t] = Some(made.map_or_else(|| exact.clone(), Arc::new));
            }
            if let Some(sums) = ended.sums {
                fed.sums = Arc::new(sums).into();
            }
            for ((t, _), made) in others.into_iter().zip(ended.others) {
                fed.made[t] = made.map(Arc::new);
            }
            exact
        } else {
            let sums = fed.sums.get_or_init(|| self.sums(&fed.reference, &inputs));
            self.finish(&fed.reference, &inputs, sums)
        };
        drop(inputs);
        fed.exact = Some(exact.clone());
        Ok(exact)
    }

    /// The reference's output: exact, or a recorded fake-quant run's, whose distance from it is noted.
    fn reference(&mut self, fed: &mut Fed<'a>, found: &mut SampleFound) -> Result<Arc<Tensor>> {
        let exact = self.exact(fed)?;
        let (Some(recording), Some(free)) = (self.check.recorded_reference, &self.free) else {
            return Ok(exact);
        };
        let free_in = take(free, fed.layer)?;
        let mut free_out = if same(&free_in, &fed.inputs) {
            exact.clone()
        } else {
            let inputs = borrowed(&free_in);
            Arc::new(fed.reference.finish(&inputs, &fed.reference.sums(&inputs)))
        };
        let mut expected = exact.clone();
        let grid = &self.check.reference.grids[fed.layer.output];
        if let Some(recorded) = self.recorded(recording, fed.layer, grid, fed.compared)? {
            // The next layers compute with its codes.
            if let (Some(grid), None) = (exact.grid(), recorded.grid()) {
                let beyond = compare::beyond(&recorded, grid, 0..recorded.len());
                let beyond = beyond.map_or_else(String::new, |(_, what)| format!(" ({what})"));
                return Err(anyhow!(
                    "{}: the numbers of tensor '{}' do not lie on the grid of its quantizer{beyond}: they were recorded \
                     before it, or with other ranges",
                    recording.path.display(),
                    fed.layer.tensor
                ));
            }
            let floor = found.floor.get_or_insert_with(Floor::default);
            let (mut stats, differing) = compare::compare(&recorded, &exact, &fed.lsb);
            if !differing.is_empty() {
                let noise = fed.noise();
                for &at in &differing {
                    let decided = noise.as_ref().is_some_and(|noise| {
                        floor.furthest_from_tie = floor.furthest_from_tie.max(noise.distance(at));
                        noise.decides(at, recorded.real_at(at), exact.real_at(at))
                    });
                    stats.noise += u64::from(decided);
                    floor.beyond_noise += u64::from(!decided);
                }
            }
            floor.isolated.merge(&stats);
            floor
                .free
                .merge(&compare::compare(&recorded, &free_out, &fed.lsb).0);
            if !differing.is_empty() {
                expected = Arc::new(recorded);
            }
            if *free_out == *expected {
                free_out = expected.clone();
            }
        }
        if let Some(free) = &mut self.free {
            free[fed.layer.output] = Some(free_out);
        }
        Ok(expected)
    }

    /// Runs one target's layer in isolation and on its own tensors; returns both outputs.
    fn target<'f>(
        &self,
        t: usize,
        fed: &'f Fed<'a>,
        expected: Option<&Arc<Tensor>>,
        noise: &OnceCell<Option<Noise<'f>>>,
        found: &mut Found,
    ) -> Result<(Option<Arc<Tensor>>, Arc<Tensor>)> {
        let check = self.check;
        let target = &check.targets[t];
        let runner = Runner {
            layer: fed.layer,
            plan: &target.plans[fed.index],
            isa: check.isa,
        };
        let own_in = take(&self.own[t], fed.layer)?;
        let drifted = !same(&own_in, &fed.inputs);
        let expected = expected.filter(|_| fed.compared);
        let mut isolated = None;
        let mut alone = Vec::new();
        let mut own_made = None;
        if check.mode.isolated || check.recorded.is_some() || !drifted {
            let moved = on_grids(&target.grids, fed.layer, &fed.inputs);
            let inputs = borrowed(&moved);
            let own_sums;
            let unmoved = same(&moved, &fed.inputs);
            let exact = fed.exact.as_ref();
            let exact = exact.filter(|_| unmoved && runner.plan.computes_as(fed.reference.plan));
            let made = fed.made[t].as_ref().filter(|_| unmoved);
            let shared = exact.is_some() || unmoved && fed.shares_sums(runner.plan);
            let no_sums = Arc::new(Sums::None);
            let known = exact.or(made);
            let equal = known.is_some_and(|out| expected.is_none_or(|e| Arc::ptr_eq(e, out)));
            let sums = if equal && self.see.is_none() {
                // Nothing differs: nobody asks for them.
                &no_sums
            } else if shared {
                fed.sums()
            } else {
                own_sums = self.sums(&runner, &inputs);
                &own_sums
            };
            let out = match known {
                Some(out) => out.clone(),
                None => self.finish(&runner, &inputs, sums),
            };
            if let (true, Some(expected)) = (check.mode.isolated, expected) {
                let made = Made {
                    t,
                    runner,
                    inputs: &moved,
                    sums,
                    out: &out,
                };
                let switched = Switched {
                    inputs: &fed.inputs,
                    grids: &target.grids,
                    model_grids: grids_of(&check.reference.grids, fed.layer),
                    model: Some(fed.reference.plan),
                    unplaced: None,
                };
                alone = self.judge(fed, &made, &switched, expected, noise, found);
            }
            isolated = Some(out);
            if !shared {
                own_made = Some(sums.clone());
            }
        }
        if let Some(sums) = own_made {
            self.give_sums(sums);
        }
        let own = match &isolated {
            Some(out) if !drifted => out.clone(),
            _ => {
                let moved = on_grids(&target.grids, fed.layer, &own_in);
                self.output(&runner, &borrowed(&moved))
            }
        };
        if let (true, Some(expected)) = (check.mode.cumulative, expected) {
            let apart = isolated.as_ref().filter(|_| drifted);
            let apart = apart.map(|out| (&**out, &alone[..]));
            let step = |input: usize| self.value_lsb(fed.layer.inputs[input]);
            let inputs = || drift::largest(&fed.inputs, &own_in, step);
            self.cumulative(fed, &own, expected, apart, inputs, found);
        }
        Ok((isolated, own))
    }

    /// Compares an isolated output, and says why it differs; returns which elements do.
    fn judge<'f>(
        &self,
        fed: &'f Fed,
        made: &Made<'_, 'a>,
        switched: &Switched<'_, 'a>,
        expected: &Arc<Tensor>,
        noise: &OnceCell<Option<Noise<'f>>>,
        found: &mut Found,
    ) -> Vec<usize> {
        let check = self.check;
        let target = &check.targets[made.t];
        let out = made.out;
        if let Some(see) = self.see {
            see(&Judged {
                reference: fed.reference,
                reference_inputs: &fed.inputs,
                target: made.runner,
                inputs: made.inputs,
                sums: made.sums,
                out,
                expected,
                lsb: &fed.lsb,
            });
            return Vec::new();
        }
        let (mut stats, differing) = fed.compare(expected, out);
        if let Some(&first) = differing.first() {
            // A target's recording has no noise: it is what the target made. Software that sums in float32
            // (QONNX's executor) has, around its own sums, and what a target computes in float.
            let own_inputs;
            let own_noise;
            let noise = match check.recorded {
                Some(_) if is_exact(target) => {
                    own_inputs = borrowed(switched.inputs);
                    own_noise = Noise::new(&made.runner, &own_inputs, made.sums);
                    own_noise.as_ref()
                }
                Some(_) if made.runner.plan.float || made.runner.plan.out == ValueGrid::Real => {
                    own_inputs = borrowed(made.inputs);
                    let network = target.network(check.network);
                    own_noise = Noise::in_float(network, &made.runner, &own_inputs, made.sums);
                    own_noise.as_ref()
                }
                Some(_) => None,
                None => noise.get_or_init(|| fed.noise()).as_ref(),
            };
            let sorted = Noise::sort(noise, &differing, [expected, out]);
            let loud = sorted.loud;
            stats.noise = sorted.quiet;
            stats.channels = compare::by_channel(channels(fed.layer), &differing);
            let ties = sorted.tied.iter().filter(|tie| **tie).count();
            stats.ties = noise.map(|_| ties as u64);
            let saturates = compare::saturation(expected, out, &fed.lsb);
            let rounded = loud.iter().zip(&sorted.tied).filter(|(_, tie)| !**tie);
            stats.saturated = rounded.filter(|(at, _)| saturates(**at)).count() as u64;
            if check.recorded.is_some() && !loud.is_empty() {
                found.reordered = Some(reordered(expected, out));
            }
            let shown = *loud.first().unwrap_or(&first);
            found.witness =
                Some(self.witness(&made.runner, made.sums, expected, out, noise, shown));
            let wanted = match self.wanted {
                None => check.explain,
                Some(wanted) => wanted.contains_key(&(made.t, fed.index)),
            };
            if wanted && !loud.is_empty() {
                let layer = made.runner.layer;
                let mut case = cause::Case {
                    layer,
                    target,
                    plan: made.runner.plan,
                    grids: grids_of(switched.grids, layer),
                    model_grids: switched.model_grids.clone(),
                    model: switched.model,
                    unplaced: switched.unplaced.clone(),
                    base_in: switched.inputs.to_vec(),
                    sums: made.sums.clone(),
                    reference_sums: fed.sums().clone(),
                    expected: expected.clone(),
                    recorded: check.recorded.is_some(),
                    differing: Vec::new(),
                    of: 0,
                    controls: Vec::new(),
                    weight: 0.0,
                    isa: check.isa,
                    made: cause::Made::default(),
                };
                case.choose(&loud, &differing);
                if self.wanted.is_some() {
                    self.cases.borrow_mut().push(((made.t, fed.index), case));
                } else {
                    found.cause = Some(cause::alone(case));
                }
            }
        }
        if self.shown.contains(&fed.index) {
            self.exhibits.borrow_mut().push(Exhibit {
                layer: fed.index,
                inputs: fed.inputs.clone(),
                expected: expected.clone(),
                differing: differing.len() as u64,
            });
        }
        if self.tracing && !differing.is_empty() {
            let kept = (fed.index, out.clone(), differing.len() as u64);
            self.introduced.borrow_mut().push(kept);
        }
        found.isolated = Some(stats);
        if target.keep && self.number == 0 {
            let numbers = |tensor: &Tensor| match &tensor.data {
                Data::Codes { codes, .. } => Numbers::Codes(codes.to_vec()),
                Data::Real(reals) => Numbers::Reals(reals.clone()),
            };
            found.kept = Some(Box::new(Kept {
                shape: expected.shape.clone(),
                expected: numbers(expected),
                got: numbers(out),
            }));
        }
        differing
    }

    /// Compares a layer's output in the target's own run, and splits what differs. `isolated`: its output with the
    /// reference's inputs and which elements differ there, where the inputs have drifted.
    fn cumulative(
        &self,
        fed: &Fed,
        own: &Tensor,
        expected: &Tensor,
        isolated: Option<(&Tensor, &[usize])>,
        inputs: impl FnOnce() -> f64,
        found: &mut Found,
    ) {
        if let (Some(stats), None) = (&found.isolated, isolated) {
            found.drift = self.check.mode.isolated.then(|| Drift {
                introduced: stats.differing,
                ..Drift::default()
            });
            found.cumulative = Some(stats.clone());
            return;
        }
        let (stats, differing) = fed.compare(expected, own);
        found.cumulative = Some(stats);
        if let (Some(isolated), Some(_)) = (isolated, &found.isolated) {
            let split = drift::Split {
                expected,
                isolated,
                cumulative: (own, &differing),
                inputs: inputs(),
            };
            found.drift = Some(split.drift(&fed.lsb));
        }
    }

    /// The step of a value.
    fn value_lsb(&self, value: usize) -> Lsb {
        match model_grid(&self.check.reference.grids[value]) {
            Some(grid) => {
                let shape = &self.check.network.graph.values[value].shape;
                Lsb::new(grid.scale.clone(), shape)
            }
            None => Lsb::unit(),
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
            Data::Codes { codes, .. } if got.grid() == expected.grid() => f64::from(codes.at(at)),
            _ => t.real_at(at),
        };
        Witness {
            sample: self.number,
            index: coordinates(&runner.layer.shape, at),
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

    /// A recorded tensor of this sample on a value's grid; `wanted` ones must have the right size.
    fn recorded(
        &self,
        recording: &Recording,
        layer: &Layer,
        grid: &ValueGrid,
        wanted: bool,
    ) -> Result<Option<Tensor>> {
        let value = self.check.network.graph.value(layer.output);
        find_recorded(recording, value, self.number, self.name, grid, wanted)
    }

    /// Compares the model's outputs, run freely.
    fn outputs(&self, found: &mut SampleFound) {
        let check = self.check;
        for t in 0..check.targets.len() {
            if check.mode.cumulative {
                let answer = self.answer(t);
                found.targets[t].answer = answer.map(|(_, a, b)| [a.clone(), b.clone()]);
            }
            for &value in &check.network.graph.outputs {
                let own = match &check.targets[t].own {
                    None => Some(value),
                    Some(own) => own.placed.found_as[value],
                };
                let got = own.and_then(|value| self.own[t][value].as_ref());
                let (Some(expected), Some(got)) = (&self.base[value], got) else {
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
    }
}

/// A sample's inputs, on the model's grids.
///
/// # Errors
/// One line: what is no input of the model.
pub(crate) fn inputs(network: &Network, grids: &[ValueGrid], sample: &Sample) -> Result<Values> {
    let mut base: Values = vec![None; network.graph.values.len()];
    for &input in &network.graph.inputs {
        let name = network.name(input);
        let array = sample.input(name)?;
        let grid = &grids[input];
        let tensor = place(network.graph.value(input), &array.values, array.kind, grid)
            .map_err(|what| anyhow!("sample '{}', input '{name}': {what}", sample.name))?;
        if let (true, Some(grid)) = (array.kind != ArrayKind::Float, model_grid(grid))
            && let Some((_, what)) = compare::beyond(&tensor, grid, 0..tensor.len())
        {
            return Err(anyhow!("sample '{}', input '{name}': {what}", sample.name));
        }
        let tensor = put_on(grid, &tensor).unwrap_or(tensor);
        base[input] = Some(Arc::new(tensor));
    }
    Ok(base)
}

/// The channels of a layer's output: behind the batch in images, last in matrices.
fn channels(layer: &Layer) -> Channels {
    let rank = layer.shape.len();
    let image = match &layer.kind {
        Kind::Linear(linear) => !matches!(linear.form, LinearForm::Rows { .. }),
        Kind::Average { .. } | Kind::MaxPool(_) | Kind::Resample(_) => true,
        _ => rank > 3,
    };
    match rank {
        0 => Channels::ONE,
        1 | 2 => Channels::along(rank - 1, &layer.shape),
        _ => Channels::along(if image { 1 } else { rank - 1 }, &layer.shape),
    }
}

/// Whether two tensors hold the same codes, in any order.
fn reordered(expected: &Tensor, got: &Tensor) -> bool {
    let (Data::Codes { codes: a, .. }, Data::Codes { codes: b, .. }) = (&expected.data, &got.data)
    else {
        return false;
    };
    let sorted = |codes: &[i32]| {
        let mut codes = codes.to_vec();
        codes.sort_unstable();
        codes
    };
    expected.grid() == got.grid() && sorted(a) == sorted(b)
}

/// Whether a target is the model's own arithmetic.
fn is_exact(target: &Target) -> bool {
    target.spec.quantize.division.is_model()
}

/// The step of a layer's output.
pub(crate) fn lsb(check: &Check, layer: &Layer) -> Lsb {
    match model_grid(&check.reference.grids[layer.output]) {
        Some(grid) => Lsb::new(grid.scale.clone(), &layer.shape),
        None => quantizer_step(layer).map_or_else(Lsb::unit, |s| Lsb::new(s, &layer.shape)),
    }
}

/// An element's index in a tensor.
fn coordinates(shape: &[usize], at: usize) -> Vec<usize> {
    let mut index = Vec::new();
    let mut rest = at;
    for &extent in shape.iter().rev() {
        index.push(rest % extent.max(1));
        rest /= extent.max(1);
    }
    index.reverse();
    index
}

/// The grids of a layer's inputs.
fn grids_of(grids: &[ValueGrid], layer: &Layer) -> Vec<ValueGrid> {
    layer.inputs.iter().map(|&i| grids[i].clone()).collect()
}

/// The tensors themselves.
pub(crate) fn borrowed(tensors: &[Arc<Tensor>]) -> Vec<&Tensor> {
    tensors.iter().map(|t| &**t).collect()
}

/// Whether these are the very same tensors.
fn same(a: &[Arc<Tensor>], b: &[Arc<Tensor>]) -> bool {
    a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
}

/// Inputs of a layer, as the target would store them.
fn on_grids(grids: &[ValueGrid], layer: &Layer, tensors: &[Arc<Tensor>]) -> Vec<Arc<Tensor>> {
    let moved = |(&value, tensor): (&usize, &Arc<Tensor>)| {
        put_on(&grids[value], tensor).map_or_else(|| tensor.clone(), Arc::new)
    };
    layer.inputs.iter().zip(tensors).map(moved).collect()
}

pub(crate) fn take(values: &Values, layer: &Layer) -> Result<Vec<Arc<Tensor>>> {
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

pub(crate) fn model_grid(grid: &ValueGrid) -> Option<&Arc<CodeGrid>> {
    match grid {
        ValueGrid::Codes { grid, .. } => Some(grid),
        _ => None,
    }
}

/// The step of a quantizer without integer codes.
pub(crate) fn quantizer_step(layer: &Layer) -> Option<PerChannel<f64>> {
    match layer.quantizer.as_ref()? {
        Quantizer::Affine(a) => Some(a.scale.map(f64::from)),
        Quantizer::Minifloat(m) => {
            // The step of its smallest numbers.
            let exponent = 1.0 - f64::from(m.exponent_bias) - f64::from(m.mantissa_bits);
            Some(m.scale.map(|s| f64::from(s) * exponent.exp2()))
        }
        Quantizer::FakeQuantize(q) => {
            let steps = f64::from(q.levels - 1);
            let span = |c| f64::from(q.output_high.at(c)) - f64::from(q.output_low.at(c));
            let values = (0..q.channels()).map(|c| span(c).abs() / steps).collect();
            Some(PerChannel {
                values,
                axis: q.axis(),
            })
        }
        // From zero to the smallest level.
        Quantizer::Gfpq(g) => Some(PerChannel::uniform(g.smallest()?)),
        _ => None,
    }
}

pub(crate) fn argmax(tensor: &Tensor) -> Option<usize> {
    let values = tensor.to_real();
    (0..values.len()).reduce(|best, i| if values[i] > values[best] { i } else { best })
}
