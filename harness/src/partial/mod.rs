//! What a check has found on a range of its inputs: it grows input by input, parts of neighbouring ranges are put
//! together, and it can be kept in a file. However the inputs are divided, the whole is the same to the bit.

mod exact;
pub(crate) mod file;
mod number;

use serde::{Deserialize, Serialize};

use crate::cause;
use crate::check::{Check, Found, SampleFound, TargetFound};
use crate::outcome::{
    Baseline, Cause, DecisionSet, Drift, Floor, InputOutcome, Kept, Stats, Sums, Witness,
};
use exact::Exact;

/// What was found on the inputs `start..start + done`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Partial {
    /// The first input.
    pub start: usize,
    /// Inputs that are in it.
    pub done: usize,
    /// For each target.
    pub targets: Vec<TargetPart>,
    /// Distance of a recorded reference from the exact one.
    pub floor: Option<FloorPart>,
    /// Most bytes of tensors alive at once, of one input.
    pub peak_bytes: usize,
    /// Names of the inputs.
    pub names: Vec<String>,
    /// The model's own noise on these inputs, where it was measured.
    pub baseline: Option<Baseline>,
}

/// One target's part.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct TargetPart {
    /// For each layer of the model.
    pub layers: Vec<LayerPart>,
    /// For each output of the model: differences, and how often its largest element is another one.
    pub outputs: Vec<(Total, u64)>,
    /// For each input.
    pub inputs: Vec<InputOutcome>,
    /// The first input that differs at an output.
    pub first_at_output: Option<usize>,
}

/// One layer's part.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct LayerPart {
    pub isolated: Option<Total>,
    pub cumulative: Option<Total>,
    pub drift: Option<Drift>,
    pub cause: Option<CausePart>,
    /// The first inputs that have a cause.
    pub differ: Vec<usize>,
    pub witness: Option<WitnessPart>,
    pub reordered: Option<bool>,
    /// Tensors of the first input; they are made again where a file takes the place of the run.
    #[serde(skip)]
    pub kept: Option<Box<Kept>>,
}

/// Statistics over inputs, and their sums without rounding errors.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Total {
    stats: Stats,
    sums: [Exact; 4],
}

/// [`Floor`] over inputs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct FloorPart {
    isolated: Total,
    beyond_noise: u64,
    #[serde(with = "number")]
    furthest_from_tie: f64,
    free: Total,
}

/// What of a [`Cause`] does not follow from the rest of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CausePart {
    of: u64,
    differing: u64,
    recorded: bool,
    float: bool,
    sets: Vec<SetPart>,
}

/// A [`DecisionSet`].
#[derive(Debug, Clone, Serialize, Deserialize)]
struct SetPart {
    decisions: Vec<String>,
    labels: Vec<String>,
    texts: Vec<String>,
    explains: u64,
    breaks: u64,
    #[serde(with = "number")]
    weighed: f64,
}

/// A [`Witness`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WitnessPart {
    sample: usize,
    index: Vec<usize>,
    #[serde(with = "number::optional")]
    accumulator: Option<f64>,
    multiplier: Option<String>,
    #[serde(with = "number::optional")]
    before_rounding: Option<f64>,
    #[serde(with = "number")]
    expected: f64,
    #[serde(with = "number")]
    got: f64,
}

impl Partial {
    /// Nothing yet, of inputs from `start` on.
    pub fn new(check: &Check, start: usize) -> Self {
        let target = || TargetPart {
            layers: vec![LayerPart::default(); check.network.layers.len()],
            outputs: vec![Default::default(); check.network.graph.outputs.len()],
            ..TargetPart::default()
        };
        Self {
            start,
            done: 0,
            targets: check.targets.iter().map(|_| target()).collect(),
            floor: None,
            peak_bytes: 0,
            names: Vec::new(),
            baseline: None,
        }
    }

    /// The first input that is not in it.
    pub fn end(&self) -> usize {
        self.start + self.done
    }

    /// Whether it has the form of a check's, with numbers that can be so.
    pub fn fits(&self, check: &Check) -> bool {
        let layers = check.network.layers.len();
        let outputs = check.network.graph.outputs.len();
        let inputs = |target: &TargetPart| {
            let known = |input: &InputOutcome| input.worst_layer.is_none_or(|at| at < layers);
            target.inputs.len() == self.done && target.inputs.iter().all(known)
        };
        let form = |target: &TargetPart| {
            target.layers.len() == layers
                && target.outputs.len() == outputs
                && target.layers.iter().all(LayerPart::is_sound)
        };
        self.start.checked_add(self.done).is_some()
            && self.names.len() == self.done
            && self.targets.len() == check.targets.len()
            && self
                .targets
                .iter()
                .all(|target| form(target) && inputs(target))
            && (self.baseline.as_ref()).is_none_or(|baseline| baseline.layers.len() == layers)
    }

    /// Adds the next input.
    pub fn add(&mut self, name: String, found: SampleFound, inputs: Vec<InputOutcome>) {
        let number = self.end();
        for ((own, found), input) in self.targets.iter_mut().zip(found.targets).zip(inputs) {
            own.add(number, found, input);
        }
        if let Some(floor) = &found.floor {
            let own = self.floor.get_or_insert_default();
            own.isolated.add(&floor.isolated);
            own.free.add(&floor.free);
            own.beyond_noise += floor.beyond_noise;
            own.furthest_from_tie = own.furthest_from_tie.max(floor.furthest_from_tie);
        }
        self.peak_bytes = self.peak_bytes.max(found.peak_bytes);
        self.names.push(name);
        self.done += 1;
        // It was measured without this input.
        self.baseline = None;
    }

    /// Adds the part of the inputs behind it.
    pub fn append(&mut self, next: Self) {
        debug_assert_eq!(self.end(), next.start);
        self.baseline = match (self.baseline.take(), next.baseline) {
            (Some(mut all), Some(one)) => {
                all.add(&one);
                Some(all)
            }
            _ => None,
        };
        for (own, next) in self.targets.iter_mut().zip(next.targets) {
            own.append(next);
        }
        if let Some(floor) = &next.floor {
            let own = self.floor.get_or_insert_default();
            own.isolated.append(&floor.isolated);
            own.free.append(&floor.free);
            own.beyond_noise += floor.beyond_noise;
            own.furthest_from_tie = own.furthest_from_tie.max(floor.furthest_from_tie);
        }
        self.peak_bytes = self.peak_bytes.max(next.peak_bytes);
        self.names.extend(next.names);
        self.done += next.done;
    }

    /// The distance of a recorded reference from the exact one.
    pub fn floor(&self) -> Option<Floor> {
        self.floor.as_ref().map(|floor| Floor {
            isolated: floor.isolated.stats(),
            beyond_noise: floor.beyond_noise,
            furthest_from_tie: floor.furthest_from_tie,
            free: floor.free.stats(),
        })
    }
}

impl TargetPart {
    fn add(&mut self, number: usize, found: TargetFound, input: InputOutcome) {
        for (own, found) in self.layers.iter_mut().zip(found.layers) {
            own.add(number, found);
        }
        let mut differs = false;
        for ((total, flips), (stats, flipped)) in self.outputs.iter_mut().zip(found.outputs) {
            differs |= stats.differing > 0;
            total.add(&stats);
            *flips += u64::from(flipped);
        }
        if differs {
            self.first_at_output.get_or_insert(number);
        }
        self.inputs.push(input);
    }

    fn append(&mut self, next: Self) {
        for (own, next) in self.layers.iter_mut().zip(next.layers) {
            own.append(next);
        }
        for ((total, flips), (more, flipped)) in self.outputs.iter_mut().zip(next.outputs) {
            total.append(&more);
            *flips += flipped;
        }
        self.first_at_output = self.first_at_output.or(next.first_at_output);
        self.inputs.extend(next.inputs);
    }
}

impl LayerPart {
    fn add(&mut self, number: usize, found: Found) {
        let add = |own: &mut Option<Total>, one: Option<Stats>| {
            if let Some(one) = one {
                own.get_or_insert_default().add(&one);
            }
        };
        add(&mut self.isolated, found.isolated);
        add(&mut self.cumulative, found.cumulative);
        if let Some(drift) = &found.drift {
            self.drift.get_or_insert_default().merge(drift);
        }
        if let Some(one) = found.cause {
            if self.differ.len() < cause::MOST_SAMPLES {
                self.differ.push(number);
            }
            self.caused(CausePart::new(one));
        }
        if self.witness.is_none() {
            self.witness = found.witness.map(WitnessPart::from);
        }
        if self.kept.is_none() {
            self.kept = found.kept;
        }
        self.in_other_order(found.reordered);
    }

    fn append(&mut self, next: Self) {
        let append = |own: &mut Option<Total>, next: Option<Total>| match (own, next) {
            (Some(own), Some(next)) => own.append(&next),
            (own, Some(next)) => *own = Some(next),
            (_, None) => {}
        };
        append(&mut self.isolated, next.isolated);
        append(&mut self.cumulative, next.cumulative);
        if let Some(drift) = &next.drift {
            self.drift.get_or_insert_default().merge(drift);
        }
        self.differ.extend(next.differ);
        self.differ.truncate(cause::MOST_SAMPLES);
        if let Some(one) = next.cause {
            self.caused(one);
        }
        self.witness = self.witness.take().or(next.witness);
        self.kept = self.kept.take().or(next.kept);
        self.in_other_order(next.reordered);
    }

    fn is_sound(&self) -> bool {
        let totals = self.isolated.iter().chain(&self.cumulative);
        let sound = |total: &Total| {
            let stats = &total.stats;
            stats.noise <= stats.differing && stats.differing <= stats.elements
        };
        totals.into_iter().all(sound)
            && self.differ.len() <= cause::MOST_SAMPLES
            && (self.cause.is_none() || !self.differ.is_empty())
    }

    fn in_other_order(&mut self, one: Option<bool>) {
        if let Some(one) = one {
            self.reordered = Some(one && self.reordered.unwrap_or(true));
        }
    }

    /// Adds a cause: what was tried is counted over all inputs.
    fn caused(&mut self, one: CausePart) {
        let Some(all) = &mut self.cause else {
            self.cause = Some(one);
            return;
        };
        all.of += one.of;
        all.differing += one.differing;
        for set in one.sets {
            match all.sets.iter_mut().find(|own| own.labels == set.labels) {
                Some(own) => {
                    own.explains += set.explains;
                    own.breaks += set.breaks;
                    own.weighed += set.weighed;
                }
                None => all.sets.push(set),
            }
        }
    }
}

impl Total {
    fn add(&mut self, one: &Stats) {
        self.stats.merge(one);
        let Sums {
            expected,
            got,
            product,
            difference,
        } = one.sums;
        for (sum, term) in self
            .sums
            .iter_mut()
            .zip([expected, got, product, difference])
        {
            sum.add(term);
        }
    }

    fn append(&mut self, next: &Self) {
        self.stats.merge(&next.stats);
        for (sum, term) in self.sums.iter_mut().zip(&next.sums) {
            sum.append(term);
        }
    }

    /// The statistics, with cosine and SQNR of the exact sums.
    pub fn stats(&self) -> Stats {
        let [expected, got, product, difference] = [0, 1, 2, 3].map(|at| self.sums[at].value());
        let mut stats = self.stats.clone();
        stats.sums = Sums {
            expected,
            got,
            product,
            difference,
        };
        stats.finish();
        stats
    }
}

impl CausePart {
    fn new(cause: Cause) -> Self {
        Self {
            of: cause.of,
            differing: cause.differing,
            recorded: cause.recorded,
            float: cause.float,
            sets: cause.sets.into_iter().map(SetPart::new).collect(),
        }
    }

    /// The cause that follows from what was tried.
    pub fn settled(&self) -> Cause {
        let set = |set: &SetPart| DecisionSet {
            decisions: set.decisions.clone(),
            labels: set.labels.clone(),
            texts: set.texts.clone(),
            explains: set.explains,
            breaks: set.breaks,
            weighed: set.weighed,
        };
        let mut cause = cause::nothing(self.of, self.differing, self.recorded, self.float);
        cause.sets = self.sets.iter().map(set).collect();
        cause::settle(&mut cause);
        cause
    }
}

impl SetPart {
    fn new(set: DecisionSet) -> Self {
        Self {
            decisions: set.decisions,
            labels: set.labels,
            texts: set.texts,
            explains: set.explains,
            breaks: set.breaks,
            // Sums of multiples of 2^-10 are exact up to 2^43: they do not depend on the order of the inputs.
            weighed: (set.weighed * 1024.0).round() / 1024.0,
        }
    }
}

impl From<Witness> for WitnessPart {
    fn from(w: Witness) -> Self {
        Self {
            sample: w.sample,
            index: w.index,
            accumulator: w.accumulator,
            multiplier: w.multiplier,
            before_rounding: w.before_rounding,
            expected: w.expected,
            got: w.got,
        }
    }
}

impl WitnessPart {
    /// The witness.
    pub fn witness(&self) -> Witness {
        let w = self.clone();
        Witness {
            sample: w.sample,
            index: w.index,
            accumulator: w.accumulator,
            multiplier: w.multiplier,
            before_rounding: w.before_rounding,
            expected: w.expected,
            got: w.got,
        }
    }
}
