//! One kind of operation: which points of the zoo reproduce what was recorded of it.

use std::collections::HashSet;

use align_check_specs::{Accumulator, Requantize, Spec};
use rayon::prelude::*;

use super::class::{Class, LayerFound, undecided};
use super::count::{self, Count, Facts, plan, spec_of};
use super::ends::Found;
use super::feed::{Frame, Site, World};
use super::point::{Point, is_sums};
use super::sums::Telling;
use super::survivors::Verified;
use super::zoo;

/// Different rules that the layers of one kind may have.
const CLASSES: usize = 8;

/// Elements of which all are looked at from the start.
const FEW: u64 = 3_000;

/// How often elements are added to the most telling ones.
const ROUNDS: usize = 5;

/// What the search of one group needs beside its layers.
pub(super) struct Search<'s, 'a> {
    pub world: &'s World<'a>,
    pub frame: &'s Frame,
    /// Requantizations that sums were found to end with: first those that are tried at once.
    pub known: [Vec<(Requantize, Accumulator)>; 2],
    pub progress: &'s (dyn Fn() + Sync),
}

/// Points of shipped targets, and the names of those that have each in this frame.
pub(super) type Shipped = Vec<(Point, Vec<String>)>;

impl Search<'_, '_> {
    pub(super) fn base(&self) -> &Spec {
        &self.frame.base.spec
    }

    pub(super) fn is_model(&self) -> bool {
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

    /// How well the shipped targets do on the most telling elements.
    pub fn glance(&self, sites: &[&Site]) -> Glance {
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
            let shifted = points.iter().find(|point| point.requantize.is_some());
            let mut plain = shifted.unwrap_or(&points[0]).clone();
            if let Some(bias) = &mut plain.bias {
                bias.format = align_check_specs::BiasFormat::Int32;
            }
            for rounding in zoo::ROUNDINGS {
                for zero_point in zoo::POSITIONS {
                    let mut point = plain.clone();
                    if let Some(rule) = &mut point.requantize {
                        rule.multiplier = align_check_specs::Multiplier::F64;
                        rule.zero_point = zero_point;
                        rule.steps = zoo::once(rounding);
                        rule.tail = None;
                    }
                    points.push(point);
                }
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
        let own = wrong.iter().zip(&here).filter(|(_, here)| **here);
        let own = own.map(|(wrong, _)| *wrong).min();
        let far = sites
            .iter()
            .zip(&telling)
            .map(|(site, chosen)| count::far(site, chosen, self.world.isa))
            .sum();
        // Of all elements: frames choose other telling ones, and not the same number.
        let all: u64 = sites.iter().map(|site| site.elements()).sum();
        let of_all = |wrong: u64| (wrong * all).div_ceil(elements.max(1));
        Glance {
            elements: all,
            far: of_all(far),
            wrong: of_all(wrong.into_iter().min().unwrap_or(elements)),
            own: of_all(own.unwrap_or(elements)),
        }
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

    /// The best rule for some layers of one kind, as if they had one. Where survivors of the sample fail on elements that
    /// it lacks, these are added to it, and the search goes on.
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
        if facts.elements <= FEW {
            // No need to choose.
            for (site, telling) in sites.iter().zip(&mut telling) {
                for (fed, own) in site.fed.iter().zip(telling) {
                    let chosen: HashSet<usize> = own.iter().copied().collect();
                    own.extend((0..fed.expected.len()).filter(|at| !chosen.contains(at)));
                }
            }
        }
        let shipped = self.shipped(label, unsigned);
        let mut known = Verified::default();
        let mut tried = 0;
        let mut round = 0;
        let (told, verified) = loop {
            let mut told = self.told(sites, &telling, &shipped)?;
            tried += told.found.tried;
            let (verified, lacking) =
                self.verify(sites, &told.found.points, &told.names, &mut known);
            round += 1;
            // Damage is no reason to go on: it is wrong by every rule.
            let rounds = if told.found.wrong == 0 { ROUNDS } else { 1 };
            let before: usize = telling.iter().flatten().map(Vec::len).sum();
            for (site, number, at) in lacking {
                let own = &mut telling[site][number];
                if !own.contains(&at) {
                    own.push(at);
                }
            }
            let after: usize = telling.iter().flatten().map(Vec::len).sum();
            if round > rounds || before == after {
                told.found.tried = tried;
                break (told, verified);
            }
        };
        let Told {
            found,
            names,
            sums,
            made,
        } = told;
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
            sum_bits: sums.as_ref().map(|sums| sums.bits),
            told: sums,
            made,
            more: found.more,
            telling: telling.iter().flatten().map(Vec::len).sum(),
            targets,
            neighbours: (0, 0),
            runner_up: None,
            facts,
        };
        self.hold_against_neighbours(sites, &telling, &shipped, &mut class);
        class.undecided = undecided(&class);
        Some(class)
    }

    /// What the telling elements say.
    fn told(
        &self,
        sites: &[&Site],
        telling: &[Vec<Vec<usize>>],
        shipped: &Shipped,
    ) -> Option<Told> {
        let label = sites[0].label;
        let counted: Vec<Option<Count>> = shipped
            .par_iter()
            .map(|(point, _)| self.count(sites, point, Some(telling), u64::MAX))
            .collect();
        let total = |count: &Count| count.differing + count.noise;
        let best = counted.iter().flatten().map(total).min();
        let best = best.unwrap_or(u64::MAX);
        let sums = (!self.is_model() && is_sums(label))
            .then(|| Telling::new(sites, telling))
            .flatten();
        let mut made = Vec::new();
        let mut found = match &sums {
            Some(sums) => {
                let known: Vec<Point> = shipped
                    .iter()
                    .zip(&counted)
                    .filter(|(_, count)| count.is_some())
                    .map(|((point, _), _)| point.clone())
                    .collect();
                let found = sums.search(&zoo::wide(sums.bits), &known, best, self.progress);
                let narrow = (found.wrong > 0)
                    .then(|| self.narrow(sites, sums, &found, &known))
                    .flatten();
                match narrow {
                    Some(mut narrow) => {
                        narrow.found.tried += found.tried;
                        made = narrow.made;
                        narrow.found
                    }
                    None => found,
                }
            }
            None => self.listed(sites, telling, label, best),
        };
        // Shipped points stand with the others, also those of other accumulators that are as good here.
        let mut names: Shipped = Vec::new();
        for ((point, own), count) in shipped.iter().zip(&counted) {
            let Some(count) = count else { continue };
            if total(count) <= found.wrong {
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
                .min_by_key(|&i| counted[i].as_ref().map(total))?;
            found.points.push(shipped[best].0.clone());
        }
        Some(Told {
            found,
            names,
            sums,
            made,
        })
    }
}

/// How well a frame does on the most telling elements, extended to all.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Glance {
    pub elements: u64,
    /// What lies further from the exact value than rounding moves it: the grids are others.
    pub far: u64,
    /// What the best rule gets wrong.
    pub wrong: u64,
    /// What the best of the targets in this frame gets wrong.
    pub own: u64,
}

impl Glance {
    pub fn add(&mut self, other: Self) {
        self.elements += other.elements;
        self.far += other.far;
        self.wrong += other.wrong;
        self.own += other.own;
    }

    /// Which of two frames explains more: first by grids, where they differ for some elements in a hundred, then by any
    /// rule, then by the rules of the frame's own targets.
    pub fn against(&self, other: &Self) -> std::cmp::Ordering {
        let near = [self, other].map(|own| own.elements - own.far.min(own.elements));
        let few = self.elements.max(other.elements) / 50;
        if near[0].abs_diff(near[1]) > few {
            return near[0].cmp(&near[1]);
        }
        let right = |own: &Self| (own.elements - own.wrong, own.elements - own.own);
        right(self).cmp(&right(other))
    }
}

/// What the telling elements of some layers say.
struct Told {
    found: Found,
    /// Shipped points among it, and the targets that have each.
    names: Shipped,
    /// The elements, with exact sums.
    sums: Option<Telling>,
    /// The elements with the sums of narrow accumulators that fit.
    made: Vec<(Accumulator, Telling)>,
}
