//! One kind of operation: which points of the zoo reproduce what was recorded of it.

use align_check_simulators::plan::{Finish, Sum};
use align_check_simulators::run::{Runner, Sums};
use align_check_specs::{Accumulator, Order, Overflow, Quantize, Requantize, Spec};
use rayon::prelude::*;
use serde::Serialize;

use super::count::{self, Count, Facts, plan, spec_of};
use super::feed::{FLOAT, Frame, MOVED, QUANTIZE, Site, World};
use super::point::{Point, is_sums};
use super::sums::{Found, Telling};
use super::zoo;

/// Survivors of the sample that are run on every element.
const VERIFIED: usize = 160;

/// Different rules that the layers of one kind may have.
const CLASSES: usize = 8;

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
    told: Option<Telling>,
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
        // More survive than are listed: one that is not listed is tried.
        let narrow = |own: &Point| own.accumulator == point.accumulator;
        let tried = || {
            let told = self.told.as_ref()?;
            let own = told.of_point(&self.point, u64::MAX)?;
            Some(narrow(&self.plain(&self.point)) && told.of_point(&point, own)? <= own)
        };
        same || self.verified.iter().any(|own| self.plain(own) == point) || tried().unwrap_or(false)
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

/// What the search of one group needs beside its layers.
pub(super) struct Search<'s, 'a> {
    pub world: &'s World<'a>,
    pub frame: &'s Frame,
    /// Requantizations that sums were found to end with.
    pub known: Vec<(Requantize, Accumulator)>,
    pub progress: &'s (dyn Fn() + Sync),
}

/// Points of shipped targets, and the names of those that have each in this frame.
type Shipped = Vec<(Point, Vec<String>)>;

impl Search<'_, '_> {
    fn base(&self) -> &Spec {
        &self.frame.base.spec
    }

    fn is_model(&self) -> bool {
        self.base().quantize.division.is_model() || self.base().thresholds.is_some()
    }

    /// The rules of shipped targets for a kind.
    pub fn shipped(&self, label: &str, unsigned: bool) -> Shipped {
        let mut points: Shipped = Vec::new();
        for (index, spec) in self.world.specs.iter().enumerate() {
            if spec.precision.is_some() {
                continue;
            }
            let here = self.frame.shipped.contains(&index);
            let point = Point::of(spec, label, unsigned);
            if point.whole.is_some() && !here {
                continue;
            }
            let names = if here {
                vec![spec.name.clone()]
            } else {
                Vec::new()
            };
            match points.iter_mut().find(|(own, _)| *own == point) {
                Some((_, own)) => own.extend(names),
                None => points.push((point, names)),
            }
        }
        if self.is_model() {
            points.retain(|(point, _)| point.whole.is_some());
        }
        points
    }

    /// What a point gets wrong of some layers.
    pub fn count(
        &self,
        sites: &[&Site],
        point: &Point,
        only: Option<&[Vec<Vec<usize>>]>,
        limit: u64,
    ) -> Option<Count> {
        let mut total = Count::default();
        for (index, site) in sites.iter().enumerate() {
            let spec = spec_of(self.base(), &self.world.specs, point, site.label);
            let plan = plan(site, &spec, self.world.isa)?;
            // A rule that does not reach the layer is no rule of it.
            let in_float = point.op.is_none() && !is_sums(site.label);
            if plan.float && !in_float && point.whole.is_none() {
                return None;
            }
            let only = only.map(|only| &only[index][..]);
            let left = limit.saturating_sub(total.differing);
            total.add(count::count(site, &spec, &plan, only, left, self.world.isa));
            if total.differing > limit {
                break;
            }
        }
        Some(total)
    }

    /// How well the shipped targets do on the most telling elements: elements, what the best rule gets wrong, and what the
    /// best of the targets in this frame does.
    pub fn glance(&self, sites: &[&Site]) -> (u64, u64, u64) {
        let (label, unsigned) = (sites[0].label, sites[0].unsigned);
        let telling: Vec<Vec<Vec<usize>>> = sites
            .iter()
            .map(|site| count::telling(site, 8, self.world.isa).0)
            .collect();
        let elements = telling.iter().flatten().map(|t| t.len() as u64).sum();
        let shipped = self.shipped(label, unsigned);
        let here: Vec<bool> = shipped.iter().map(|(_, names)| !names.is_empty()).collect();
        let mut points: Vec<Point> = shipped.into_iter().map(|(point, _)| point).collect();
        if !self.is_model() && is_sums(label) {
            for rounding in [
                align_check_specs::Rounding::HalfUp,
                align_check_specs::Rounding::HalfAway,
                align_check_specs::Rounding::HalfEven,
                align_check_specs::Rounding::Floor,
                align_check_specs::Rounding::Trunc,
            ] {
                let mut point = points[0].clone();
                if let Some((own, _)) = self
                    .shipped(label, unsigned)
                    .into_iter()
                    .find(|(own, _)| own.requantize.is_some())
                {
                    point = own;
                }
                if let Some(rule) = &mut point.requantize {
                    rule.multiplier = align_check_specs::Multiplier::F64;
                    rule.zero_point = align_check_specs::ZeroPointPosition::AfterRounding;
                    rule.steps = zoo::once(rounding);
                    rule.tail = None;
                }
                point.bias = point.bias.map(|mut bias| {
                    bias.format = align_check_specs::BiasFormat::Int32;
                    bias
                });
                points.push(point);
            }
        }
        let wrong: Vec<u64> = points
            .par_iter()
            .map(|point| {
                self.count(sites, point, Some(&telling), u64::MAX)
                    .map_or(elements, |count| {
                        (count.differing + count.noise).min(elements)
                    })
            })
            .collect();
        let own = wrong
            .iter()
            .zip(&here)
            .filter(|(_, here)| **here)
            .map(|(wrong, _)| *wrong);
        let own = own.min().unwrap_or(elements);
        (elements, wrong.into_iter().min().unwrap_or(elements), own)
    }

    /// The rules of the layers of one kind.
    pub fn classes(&self, sites: &[&Site]) -> Vec<Class> {
        let first = self.one(sites);
        let Some(first) = first else {
            return Vec::new();
        };
        if first.count().differing == 0 || sites.len() == 1 {
            return vec![first];
        }
        // Layers that the common rule does not reproduce may have another one.
        let mut classes: Vec<(Class, Vec<&Site>)> = Vec::new();
        let (mut good, mut open): (Vec<&Site>, Vec<&Site>) = (Vec::new(), Vec::new());
        for (&site, found) in sites.iter().zip(&first.layers) {
            if found.count.differing == 0 {
                good.push(site);
            } else {
                open.push(site);
            }
        }
        let wrong = |sites: &[&Site], point: &Point| -> u64 {
            self.count(sites, point, None, u64::MAX)
                .map_or(u64::MAX, |count| count.differing)
        };
        let mut rejected = 0;
        let mut kept: Vec<&Site> = Vec::new();
        while !open.is_empty() && classes.len() < CLASSES && rejected < 3 {
            let worst = open.remove(0);
            let Some(own) = self.one(&[worst]) else { break };
            let before = wrong(&[worst], &first.point);
            if own.count().differing * 2 >= before {
                rejected += 1;
                kept.push(worst);
                continue;
            }
            let mut members = vec![worst];
            open.retain(|&site| {
                let better = wrong(&[site], &own.point) * 2 < wrong(&[site], &first.point);
                if better {
                    members.push(site);
                }
                !better
            });
            if let Some(class) = self.one(&members) {
                classes.push((class, members));
            }
        }
        if classes.is_empty() {
            return vec![first];
        }
        good.extend(kept);
        good.extend(open);
        let mut found: Vec<Class> = Vec::new();
        if !good.is_empty() {
            found.extend(self.one(&good));
        }
        found.extend(classes.into_iter().map(|(class, _)| class));
        found
    }

    /// The best rule for some layers of one kind, as if they had one.
    fn one(&self, sites: &[&Site]) -> Option<Class> {
        let (label, unsigned) = (sites[0].label, sites[0].unsigned);
        let quota = (2048 / 19 / sites.len()).clamp(6, 48);
        let told: Vec<(Vec<Vec<usize>>, Facts)> = sites
            .par_iter()
            .map(|site| count::telling(site, quota, self.world.isa))
            .collect();
        let mut facts = Facts::default();
        let mut telling = Vec::new();
        for (chosen, own) in told {
            facts.add(&own);
            telling.push(chosen);
        }
        let shipped = self.shipped(label, unsigned);
        let counted: Vec<Option<Count>> = shipped
            .par_iter()
            .map(|(point, _)| self.count(sites, point, Some(&telling), u64::MAX))
            .collect();
        let best = counted
            .iter()
            .flatten()
            .map(|count| count.differing + count.noise)
            .min()
            .unwrap_or(u64::MAX);
        let sums = (!self.is_model() && is_sums(label))
            .then(|| Telling::new(sites, &telling))
            .flatten();
        let elements = telling.iter().flatten().map(Vec::len).sum();
        let sum_bits = sums.as_ref().map(|sums| sums.bits);
        let mut found = match &sums {
            Some(sums) => {
                let bits = sum_bits.unwrap_or(32);
                let (widths, like) = match best {
                    0 => (vec![zoo::wide(bits)], None),
                    _ => self.widths(sites, &telling, sums, bits),
                };
                let known: Vec<Point> = shipped
                    .iter()
                    .zip(&counted)
                    .filter(|(_, count)| count.is_some())
                    .map(|((point, _), _)| point.clone())
                    .collect();
                self.end_of(
                    sites,
                    &telling,
                    sums,
                    &widths,
                    like.as_ref(),
                    (&known, best),
                )
            }
            None => self.listed(sites, &telling, label, best),
        };
        // Shipped points stand with the others, also those of other accumulators that are as good here.
        let mut names: Vec<(Point, Vec<String>)> = Vec::new();
        for ((point, own), count) in shipped.iter().zip(&counted) {
            let Some(count) = count else { continue };
            if count.differing + count.noise <= found.wrong {
                if !found.points.contains(point) {
                    found.points.insert(0, point.clone());
                    found.count += 1;
                }
                names.push((point.clone(), own.clone()));
            }
        }
        found.points.sort_by_key(Point::complexity);
        if found.points.is_empty() {
            // No point of the zoo reaches the layer: the best shipped one.
            let best = (0..shipped.len())
                .filter(|&i| counted[i].is_some())
                .min_by_key(|&i| counted[i].map(|c| c.differing + c.noise))?;
            found.points.push(shipped[best].0.clone());
        }
        let verified = self.verify(sites, &found.points, &names);
        let (point, counts) = verified.first()?.clone();
        let layers = sites
            .iter()
            .zip(counts)
            .map(|(site, count)| LayerFound {
                name: site.layer.name.clone(),
                op: site.layer.op.clone(),
                tensor: site.layer.tensor.clone(),
                elements: site.elements(),
                count,
                made: site.made.clone(),
            })
            .collect();
        let verified: Vec<Point> = verified.into_iter().map(|(point, _)| point).collect();
        let mut targets: Vec<String> = names
            .iter()
            .filter(|(point, _)| verified.contains(point))
            .flat_map(|(_, names)| names.clone())
            .collect();
        targets.sort();
        targets.dedup();
        let mut class = Class {
            kind: label,
            unsigned,
            undecided: Vec::new(),
            point,
            layers,
            tried: found.tried + shipped.len() as u64,
            survivors: found.count.max(verified.len() as u64),
            verified,
            candidates: found.points,
            told: sums.clone(),
            more: found.more,
            telling: elements,
            targets,
            neighbours: (0, 0),
            runner_up: None,
            facts,
            sum_bits,
        };
        self.hold_against_neighbours(sites, &telling, &shipped, &mut class);
        class.undecided = undecided(&class, sums.as_ref());
        Some(class)
    }

    /// Operations that are no sums of products: every rule with everything that it refers to.
    fn listed(
        &self,
        sites: &[&Site],
        telling: &[Vec<Vec<usize>>],
        label: &str,
        best: u64,
    ) -> Found {
        let points: Vec<Point> = if self.is_model() {
            Vec::new()
        } else if label == QUANTIZE || label == FLOAT {
            self.quantizes()
                .into_iter()
                .map(|quantize| Point {
                    quantize: Some(quantize),
                    ..Point::default()
                })
                .collect()
        } else if label == MOVED {
            vec![Point::default()]
        } else if is_sums(label) {
            Vec::new()
        } else {
            let mut points = zoo::op_points(label, &self.requantizes(), &self.quantizes());
            // Computed in float.
            points.extend(self.quantizes().into_iter().map(|quantize| Point {
                quantize: Some(quantize),
                ..Point::default()
            }));
            points
        };
        let wrong: Vec<Option<u64>> = points
            .par_iter()
            .map(|point| {
                let count = self.count(sites, point, Some(telling), best)?;
                (self.progress)();
                Some(count.differing + count.noise)
            })
            .collect();
        let bound = wrong
            .iter()
            .flatten()
            .copied()
            .min()
            .unwrap_or(best)
            .min(best);
        let tried = points.len() as u64;
        let good: Vec<Point> = points
            .into_iter()
            .zip(wrong)
            .filter(|(_, wrong)| *wrong == Some(bound))
            .map(|(point, _)| point)
            .collect();
        Found {
            count: good.len() as u64,
            points: good,
            wrong: bound,
            tried,
            more: false,
        }
    }

    /// Requantizations that operations may refer to: those that sums end with, those of shipped targets, common ones.
    fn requantizes(&self) -> Vec<(Requantize, Accumulator)> {
        let mut found = self.known.clone();
        for spec in &self.world.specs {
            if !spec.quantize.division.is_model() {
                found.push((spec.requantize.clone(), spec.accumulator.clone()));
            }
        }
        let powers = matches!(
            self.base().activations.quantizer,
            align_check_specs::Grid::PowerOfTwo | align_check_specs::Grid::Model
        );
        found.extend(
            zoo::requantizes(powers)
                .into_iter()
                .map(|r| (r, zoo::int32())),
        );
        let mut distinct: Vec<(Requantize, Accumulator)> = Vec::new();
        for (mut rule, width) in found {
            rule.bias = None;
            if !distinct.iter().any(|(own, w)| *own == rule && *w == width) {
                distinct.push((rule, width));
            }
        }
        distinct
    }

    fn quantizes(&self) -> Vec<Quantize> {
        let mut found: Vec<Quantize> = zoo::quantizes();
        for spec in &self.world.specs {
            if !spec.quantize.division.is_model() && !found.contains(&spec.quantize) {
                found.push(spec.quantize.clone());
            }
        }
        found
    }

    /// The accumulators that explain most, narrower ones than sums need where they explain more; and the end of sums
    /// that they were tried with.
    fn widths(
        &self,
        sites: &[&Site],
        telling: &[Vec<Vec<usize>>],
        sums: &Telling,
        needed: u32,
    ) -> (Vec<Accumulator>, Option<Point>) {
        let wide = zoo::wide(needed);
        let width = |bits: u32, overflow, order| Accumulator {
            bits: Some(bits),
            overflow,
            order,
            pairs: None,
        };
        let best = sums.quick(&wide);
        // Sums that wrap are the exact ones, modulo the width; those that saturate are made again, in order.
        let mut tried = vec![wide.clone()];
        for bits in 8..needed.min(64) {
            tried.push(width(bits, Overflow::Wrap, Order::ChannelFirst));
        }
        let products: u64 = sites
            .iter()
            .map(|site| site.elements() * site.layer.terms() as u64)
            .sum();
        if products < MOST_PRODUCTS {
            for bits in 8..needed.min(64) {
                for order in [Order::ChannelFirst, Order::ChannelLast] {
                    tried.push(width(bits, Overflow::Saturate, order));
                }
            }
        }
        let counts: Vec<(u64, usize)> = tried
            .par_iter()
            .map(|accumulator| {
                let wrong = best.iter().enumerate().filter_map(|(index, point)| {
                    let mut point = point.clone();
                    point.accumulator = Some(accumulator.clone());
                    if accumulator.overflow == Overflow::Saturate {
                        let count = self.count(sites, &point, Some(telling), u64::MAX)?;
                        return Some((count.differing, index));
                    }
                    Some((sums.of_point(&point, u64::MAX)?, index))
                });
                wrong.min().unwrap_or((u64::MAX, 0))
            })
            .collect();
        let least = counts.iter().map(|count| count.0).min().unwrap_or(u64::MAX);
        let good: Vec<usize> = (0..tried.len()).filter(|&i| counts[i].0 == least).collect();
        if good.contains(&0) {
            return (vec![wide], None);
        }
        let like = good.first().and_then(|&i| best.get(counts[i].1)).cloned();
        (good.into_iter().map(|i| tried[i].clone()).collect(), like)
    }

    /// The end of sums with the first of some accumulators. The others stand beside it where their sums are the same on
    /// the telling elements.
    fn end_of(
        &self,
        sites: &[&Site],
        telling: &[Vec<Vec<usize>>],
        sums: &Telling,
        accumulators: &[Accumulator],
        like: Option<&Point>,
        (known, best): (&[Point], u64),
    ) -> Found {
        let first = &accumulators[0];
        let remake = |accumulator: &Accumulator| {
            let mut point = like?.clone();
            point.accumulator = Some(accumulator.clone());
            self.remade(sites, &point)
        };
        if first.overflow != Overflow::Saturate {
            return sums.search(first, known, best, self.progress);
        }
        let made = remake(first);
        let again = made
            .as_ref()
            .and_then(|made| Telling::with(sites, telling, Some(made)));
        let (Some(made), Some(again)) = (&made, again) else {
            return sums.search(&zoo::wide(64), known, best, self.progress);
        };
        let mut found = again.search(first, known, best, self.progress);
        let own = found.points.clone();
        for other in accumulators
            .iter()
            .skip(1)
            .filter(|a| a.overflow == Overflow::Saturate)
        {
            let same = remake(other).is_some_and(|other| {
                let pairs = made.iter().flatten().zip(other.iter().flatten());
                let mut chosen = telling.iter().flatten();
                pairs.into_iter().all(|(a, b)| {
                    let chosen = chosen.next();
                    chosen.is_none_or(|chosen| chosen.iter().all(|&at| a.at(at) == b.at(at)))
                })
            });
            if same {
                found.count += own.len() as u64;
                found.points.extend(own.iter().cloned().map(|mut point| {
                    point.accumulator = Some(other.clone());
                    point
                }));
            }
        }
        found
    }

    /// Sums with a point's accumulator, for each layer and sample, less the bias that they started from.
    fn remade(&self, sites: &[&Site], point: &Point) -> Option<Vec<Vec<Sums>>> {
        let remade = sites.iter().map(|site| {
            let spec = spec_of(self.base(), &self.world.specs, point, site.label);
            let plan = plan(site, &spec, self.world.isa)?;
            let runner = Runner {
                layer: site.layer,
                plan: &plan,
                isa: self.world.isa,
            };
            let binding = site.binding.as_ref()?;
            let Finish::Requantize { requantizer, .. } = &plan.finish else {
                return None;
            };
            let begun = plan.linear.as_ref().is_some_and(|linear| {
                matches!(
                    &linear.sum,
                    Sum::InOrder {
                        initialized: true,
                        ..
                    }
                )
            });
            let feds = site.fed.iter().map(|fed| {
                let mut sums = runner.sums(&super::feed::borrowed(&fed.inputs));
                if let (true, Sums::I64(sums, _)) = (begun, &mut sums) {
                    for (at, sum) in sums.iter_mut().enumerate() {
                        *sum -= requantizer.initial(binding.channels.of_index(at));
                    }
                }
                sums
            });
            Some(feds.collect())
        });
        remade.collect()
    }

    /// Runs the survivors of the sample on every element; the best ones, simple ones first, with what they get wrong
    /// of each layer.
    fn verify(
        &self,
        sites: &[&Site],
        points: &[Point],
        names: &[(Point, Vec<String>)],
    ) -> Vec<(Point, Vec<Count>)> {
        let mut chosen: Vec<&Point> = points.iter().take(VERIFIED / 4).collect();
        chosen.extend(names.iter().map(|(point, _)| point));
        // One for each value of each decision.
        let mut seen = std::collections::BTreeSet::new();
        for point in points {
            let fresh = point
                .words()
                .into_iter()
                .filter(|word| seen.insert(word.clone()));
            if fresh.count() > 0 && chosen.len() < VERIFIED {
                chosen.push(point);
            }
        }
        let mut distinct: Vec<&Point> = Vec::new();
        for point in chosen {
            if !distinct.contains(&point) {
                distinct.push(point);
            }
        }
        distinct.sort_by_key(|point| point.complexity());
        let counted: Vec<Option<Vec<Count>>> = distinct
            .par_iter()
            .map(|point| {
                sites
                    .iter()
                    .map(|site| self.count(&[site], point, None, u64::MAX))
                    .collect()
            })
            .collect();
        let total = |counts: &[Count]| counts.iter().map(|c| c.differing + c.noise).sum::<u64>();
        let best = counted.iter().flatten().map(|counts| total(counts)).min();
        distinct
            .into_iter()
            .zip(counted)
            .filter_map(|(point, counts)| Some((point.clone(), counts?)))
            .filter(|(_, counts)| Some(total(counts)) == best)
            .collect()
    }

    /// Tries the neighbours of the point in the zoo, and keeps what refutes the best of them.
    fn hold_against_neighbours(
        &self,
        sites: &[&Site],
        telling: &[Vec<Vec<usize>>],
        shipped: &Shipped,
        class: &mut Class,
    ) {
        let spec = spec_of(self.base(), &self.world.specs, &class.point, class.kind);
        let mut points: Vec<Point> = Vec::new();
        let near = spec.neighbours();
        let near = near.iter().map(|n| Point::of(&n.spec, class.kind, false));
        for point in near.chain(shipped.iter().map(|(point, _)| point.clone())) {
            if point != class.point
                && !points.contains(&point)
                && point.whole.is_none() == class.point.whole.is_none()
            {
                points.push(point);
            }
        }
        let own = class.count();
        let own = own.differing + own.noise;
        let counted: Vec<Option<u64>> = points
            .par_iter()
            .map(|point| {
                let count = self.count(sites, point, Some(telling), u64::MAX)?;
                Some(count.differing + count.noise)
            })
            .collect();
        let known = self
            .count(sites, &class.point, Some(telling), u64::MAX)
            .map_or(0, |count| count.differing + count.noise);
        let tried = counted.iter().flatten().count();
        let mut order: Vec<(u64, usize)> = counted
            .iter()
            .enumerate()
            .filter_map(|(index, wrong)| Some(((*wrong)?, index)))
            .collect();
        order.sort_unstable();
        let mut refuted = order.iter().filter(|(wrong, _)| *wrong > known).count();
        let mut best: Option<(u64, Count, usize)> = None;
        for &(wrong, index) in order.iter().filter(|(wrong, _)| *wrong <= known) {
            // The sample does not refute it; the rest may.
            let count = self.count(sites, &points[index], None, u64::MAX);
            if let Some(count) = count.filter(|c| c.differing + c.noise > own) {
                refuted += 1;
                let total = count.differing + count.noise;
                if best.as_ref().is_none_or(|(least, ..)| total < *least) {
                    best = Some((total, count, index));
                }
            } else if !class.verified.contains(&points[index]) && wrong == known {
                class.verified.push(points[index].clone());
            }
        }
        for &(_, index) in order.iter().filter(|(wrong, _)| *wrong > known).take(3) {
            if let Some(count) = self.count(sites, &points[index], None, u64::MAX) {
                let total = count.differing + count.noise;
                if total > own && best.as_ref().is_none_or(|(least, ..)| total < *least) {
                    best = Some((total, count, index));
                }
            }
        }
        class.neighbours = (tried, refuted);
        class.runner_up = best.and_then(|(total, _, index)| {
            self.witness(sites, &class.point, &points[index], total - own)
        });
    }

    /// An element that a point gets wrong and the best one gets right.
    fn witness(
        &self,
        sites: &[&Site],
        best: &Point,
        point: &Point,
        differing: u64,
    ) -> Option<RunnerUp> {
        for site in sites {
            let made = |point: &Point| {
                let spec = spec_of(self.base(), &self.world.specs, point, site.label);
                plan(site, &spec, self.world.isa)
            };
            let (right, wrong) = (made(best)?, made(point)?);
            for fed in &site.fed {
                let right = super::feed::run(site, &right, &fed.inputs, self.world.isa);
                let wrong = super::feed::run(site, &wrong, &fed.inputs, self.world.isa);
                let expected = |at: usize| fed.expected.real_at(at);
                let found = (0..fed.expected.len()).find(|&at| {
                    right.real_at(at) == expected(at) && wrong.real_at(at) != expected(at)
                });
                let Some(at) = found else { continue };
                let shown = |tensor: &align_check_simulators::tensor::Tensor| match &tensor.data {
                    align_check_simulators::tensor::Data::Codes { codes, .. } => {
                        f64::from(codes[at])
                    }
                    align_check_simulators::tensor::Data::Real(values) => values[at],
                };
                let mut index = Vec::new();
                let mut rest = at;
                for &extent in fed.expected.shape.iter().rev() {
                    index.push(rest % extent.max(1));
                    rest /= extent.max(1);
                }
                index.reverse();
                return Some(RunnerUp {
                    rule: difference(best, point),
                    differing,
                    tensor: site.layer.tensor.clone(),
                    sample: fed.sample,
                    index,
                    expected: shown(&fed.expected),
                    got: shown(&wrong),
                });
            }
        }
        None
    }
}

/// Products that are summed in order for each accumulator that is tried.
const MOST_PRODUCTS: u64 = 40_000_000;

/// What a point has otherwise than another one.
fn difference(from: &Point, to: &Point) -> String {
    let (from, to) = (from.words(), to.words());
    let changed: Vec<String> = to
        .iter()
        .filter(|(path, value)| from.get(*path) != Some(value))
        .map(|(path, value)| format!("{path} = {value}"))
        .collect();
    changed.join(", ")
}

/// The decisions that the data leaves open, and why.
fn undecided(class: &Class, sums: Option<&Telling>) -> Vec<Undecided> {
    let own = class.point.words();
    let others: Vec<_> = class.verified.iter().skip(1).map(Point::words).collect();
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
    if let (Some(sums), Some(bits)) = (sums, class.sum_bits)
        && class
            .point
            .accumulator
            .as_ref()
            .is_none_or(|a| a.bits.is_none_or(|own| own >= bits))
    {
        let _ = sums;
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
        "requantize.steps" | "quantize.rounding" | "requantize.tail" => ties,
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
