//! What was found of the layers of one kind: the rule, what else fits, and why the data cannot tell.

use std::collections::{BTreeMap, BTreeSet};

use align_check_specs::{Accumulator, Overflow};
use serde::Serialize;

use super::count::{Count, Facts};
use super::point::Point;
use super::sums::Telling;
use super::zoo;

/// Layers of one kind that one rule explains best.
#[derive(Debug)]
pub struct Class {
    /// The kind, by the name of its section or field in a spec.
    pub kind: &'static str,
    /// Whether the codes are unsigned.
    pub unsigned: bool,
    /// The simplest of the best points.
    pub point: Point,
    /// The layers, and what the point gets wrong of each.
    pub layers: Vec<LayerFound>,
    /// Points that were tried.
    pub tried: u64,
    /// Points that reproduce the most telling elements as well as [`point`](Self::point).
    pub survivors: u64,
    /// Of these, those that were run on every element and are as good there; [`point`](Self::point) is the first.
    pub verified: Vec<Point>,
    /// The points themselves; where there are very many, the first ones.
    pub candidates: Vec<Point>,
    /// The most telling elements of sums with what is known of their scales.
    pub(super) told: Option<Telling>,
    /// The same elements with the sums of accumulators that saturate.
    pub(super) made: Vec<(Accumulator, Telling)>,
    /// Whether more points survive than were counted.
    pub more: bool,
    /// Elements among the most telling ones.
    pub telling: usize,
    /// Shipped targets that have one of the verified points.
    pub targets: Vec<String>,
    /// Neighbours of the point in the zoo that were tried, and how many of them get something wrong.
    pub neighbours: (usize, usize),
    /// What tells the point from the next best one.
    pub runner_up: Option<RunnerUp>,
    /// What the data holds.
    pub facts: Facts,
    /// Bits that the largest sum needs.
    pub sum_bits: Option<u32>,
    /// What each neighbour is about: decisions whose change nothing here refutes.
    pub undecided: Vec<Undecided>,
}

/// A layer, and what the best point gets wrong of it.
#[derive(Debug, Clone, Serialize)]
pub struct LayerFound {
    /// Name of its node.
    pub name: String,
    /// Its operators.
    pub op: String,
    /// The tensor that it makes.
    pub tensor: String,
    /// Elements that were recorded.
    pub elements: u64,
    /// What differs.
    #[serde(flatten)]
    pub count: Count,
    /// Inputs that are not the recorded tensors, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub made: Vec<String>,
}

/// The best point that is refuted, and an element that refutes it.
#[derive(Debug, Clone, Serialize)]
pub struct RunnerUp {
    /// The point.
    pub rule: String,
    /// Elements that it gets wrong and the best point gets right, at least.
    pub differing: u64,
    /// The layer's tensor.
    pub tensor: String,
    /// Number of the sample.
    pub sample: usize,
    /// Where in the tensor.
    pub index: Vec<usize>,
    /// What was recorded.
    pub expected: f64,
    /// What the refuted point gives.
    pub got: f64,
}

/// A decision that the data leaves open.
#[derive(Debug, Clone, Serialize)]
pub struct Undecided {
    /// The decision, as a path into a spec.
    pub decision: String,
    /// What the simplest point has.
    pub value: String,
    /// Values that reproduce the data as well, with everything else the same.
    pub either: Vec<String>,
    /// Values that do so together with other changes.
    pub together: Vec<String>,
    /// Why the data cannot tell.
    pub why: String,
}

impl Class {
    /// Elements that were recorded.
    pub fn elements(&self) -> u64 {
        self.layers.iter().map(|layer| layer.elements).sum()
    }

    /// What the point gets wrong.
    pub fn count(&self) -> Count {
        let mut total = Count::default();
        for layer in &self.layers {
            total.add(layer.count);
        }
        total
    }

    /// Whether a point is among the survivors: as good as the best on the most telling elements. Decisions that cannot
    /// change a code with these scales (a clamp in front of the rounding, the rounding of a bias that is an integer, an
    /// accumulator that nothing leaves) may be any.
    pub fn admits(&self, point: &Point) -> bool {
        let point = self.plain(point);
        let same = self.verified.contains(&point) || self.candidates.contains(&point);
        // More survive than are listed: one that is not listed is tried, on the sums of its own accumulator.
        let tried = || {
            let own = self.told(&self.plain(&self.point))?;
            Some(self.told(&point)? <= own)
        };
        same || self.verified.iter().any(|own| self.plain(own) == point) || tried().unwrap_or(false)
    }

    /// What a point gets wrong of the most telling elements, where it ends sums that are known.
    fn told(&self, point: &Point) -> Option<u64> {
        let accumulator = point.accumulator.as_ref()?;
        let made = self.made.iter().find(|(own, _)| own == accumulator);
        let exact = accumulator.overflow == Overflow::Wrap && accumulator.pairs.is_none()
            || accumulator.bits.is_none();
        match (made, &self.told) {
            (Some((_, made)), _) => made.of_point(point, u64::MAX),
            (None, Some(told)) if exact => told.of_point(point, u64::MAX),
            _ => None,
        }
    }

    /// Decisions of a point whose values the report rules out: neither those of [`point`](Self::point), nor open ones.
    pub fn rules_out(&self, point: &Point) -> Vec<String> {
        let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for own in &self.verified {
            for (path, value) in self.plain(own).decisions() {
                known.entry(path).or_default().insert(value);
            }
        }
        let wanted = self.plain(point).decisions().into_iter();
        wanted
            .filter(|(path, value)| !known.get(path).is_some_and(|own| own.contains(value)))
            .map(|(path, value)| format!("{path} = {value}"))
            .collect()
    }

    /// A point with the plainest of each decision that cannot change a code here.
    fn plain(&self, point: &Point) -> Point {
        let mut point = point.clone();
        if let Some(rule) = &mut point.requantize {
            rule.clamp = align_check_specs::ClampOrder::AfterRounding;
            if let Some(told) = &self.told {
                zoo::plain(rule, point.bias.as_mut(), told.open);
            }
        }
        if let (Some(accumulator), Some(bits)) = (&mut point.accumulator, self.sum_bits)
            && accumulator.bits.is_none_or(|own| own >= bits)
        {
            *accumulator = zoo::wide(bits);
        }
        point
    }
}

/// What a point has otherwise than another one.
pub(super) fn difference(from: &Point, to: &Point) -> String {
    let (from, to) = (from.words(), to.words());
    let changed: Vec<String> = to
        .iter()
        .filter(|(path, value)| from.get(*path) != Some(value))
        .map(|(path, value)| format!("{path} = {value}"))
        .collect();
    changed.join(", ")
}

/// The decisions that the data leaves open, and why.
pub(super) fn undecided(class: &Class) -> Vec<Undecided> {
    let own = class.point.decisions();
    let others: Vec<_> = class
        .verified
        .iter()
        .skip(1)
        .map(Point::decisions)
        .collect();
    let mut found = Vec::new();
    for (path, value) in &own {
        let (mut either, mut together) = (Vec::new(), Vec::new());
        for words in &others {
            let Some(other) = words.get(path) else {
                continue;
            };
            if other == value {
                continue;
            }
            let alone = words
                .iter()
                .all(|(p, v)| p == path || own.get(p) == Some(v))
                && words.len() == own.len();
            let list = if alone { &mut either } else { &mut together };
            if !list.contains(other) {
                list.push(other.clone());
            }
        }
        together.retain(|value| !either.contains(value));
        if either.is_empty() && together.is_empty() {
            continue;
        }
        found.push(Undecided {
            decision: path.clone(),
            value: value.clone(),
            why: why(path, class),
            either,
            together,
        });
    }
    if let Some(bits) = class.sum_bits
        && class
            .point
            .accumulator
            .as_ref()
            .is_none_or(|a| a.bits.is_none_or(|own| own >= bits))
    {
        found.retain(|one| one.decision != "accumulator");
        found.push(Undecided {
            decision: "accumulator".into(),
            value: own.get("accumulator").cloned().unwrap_or_default(),
            either: vec![format!("{bits} bits or more, any overflow")],
            together: Vec::new(),
            why: format!("the largest sum needs {bits} bits"),
        });
    }
    found
}

fn why(path: &str, class: &Class) -> String {
    let facts = &class.facts;
    let ties = match (facts.ties_above, facts.ties_below) {
        (0, 0) => "no tie in the data".to_owned(),
        (_, 0) => "no negative tie in the data".to_owned(),
        (0, _) => "no positive tie in the data".to_owned(),
        (a, b) => format!("{a} positive and {b} negative ties do not part them"),
    };
    match path {
        "requantize.steps.first"
        | "requantize.steps.last"
        | "quantize.rounding"
        | "requantize.tail" => ties,
        "requantize.zero-point" | "quantize.zero-point"
            if facts.ties_above + facts.ties_below == 0 =>
        {
            ties
        }
        "requantize.zero-point" | "quantize.zero-point" => {
            "zero points that are even move no tie".into()
        }
        "bias.format" | "bias.rounding" => {
            "the biases are integers, or zero, or no sum lies close enough to a tie".into()
        }
        "requantize.left-shift" => "no multiplier above one, or no sum that overflows".into(),
        _ => format!(
            "no element lies close enough to a tie ({} within 1/256 step)",
            facts.near_ties
        ),
    }
}
