//! Survivors of the sample on every element, and what refutes their neighbours.

use std::collections::BTreeSet;

use rayon::prelude::*;

use super::class::{Class, RunnerUp, difference};
use super::count::{self, Count, plan, spec_of};
use super::feed::Site;
use super::group::{Search, Shipped};
use super::point::Point;

/// Survivors of the sample that are run on every element.
const VERIFIED: usize = 160;

/// Elements above which few points are run on all of them.
const MANY: u64 = 1_000_000;

/// The position of a layer, of its sample, and of an element in the tensor.
pub(super) type Place = (usize, usize, usize);

/// What points get wrong of all elements of each layer; nothing where they do not reach one.
#[derive(Default)]
pub(super) struct Verified(Vec<(Point, Option<Vec<Count>>)>);

impl Verified {
    fn counted(&self, point: &Point) -> Option<&Option<Vec<Count>>> {
        let own = self.0.iter().find(|(own, _)| own == point);
        own.map(|(_, counts)| counts)
    }
}

impl Search<'_, '_> {
    /// Runs the survivors of the sample on every element: the best ones, simple ones first, with what they get wrong of
    /// each layer; and elements that the sample lacks, where others fail.
    pub(super) fn verify(
        &self,
        sites: &[&Site],
        points: &[Point],
        names: &[(Point, Vec<String>)],
        known: &mut Verified,
    ) -> (Vec<(Point, Vec<Count>)>, Vec<Place>) {
        let elements: u64 = sites.iter().map(|site| site.elements()).sum();
        let simple = if elements > MANY { 6 } else { VERIFIED / 4 };
        let mut chosen: Vec<&Point> = points.iter().take(simple).collect();
        chosen.extend(names.iter().map(|(point, _)| point));
        // One for each value of each decision.
        let mut seen = BTreeSet::new();
        for point in points {
            let values = point.values().into_iter();
            let fresh = values.filter(|value| seen.insert(value.clone())).count();
            if fresh > 0 && chosen.len() < VERIFIED {
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
        let total = |counts: &[Count]| counts.iter().map(|c| c.differing + c.noise).sum::<u64>();
        let all = |point: &Point, limit: u64| -> Option<Vec<Count>> {
            let one = |site: &&Site| self.count(&[site], point, None, limit);
            sites.iter().map(one).collect()
        };
        if let Some(first) = distinct.first()
            && known.counted(first).is_none()
        {
            known.0.push(((*first).clone(), all(first, u64::MAX)));
        }
        // The others have to be as good.
        let limit = distinct
            .iter()
            .filter_map(|point| known.counted(point)?.as_deref().map(total))
            .min()
            .unwrap_or(u64::MAX);
        let open: Vec<&Point> = distinct
            .iter()
            .copied()
            .filter(|point| known.counted(point).is_none())
            .collect();
        let counted: Vec<Option<Vec<Count>>> =
            open.par_iter().map(|point| all(point, limit)).collect();
        let pairs = open.into_iter().cloned().zip(counted);
        known.0.extend(pairs);
        let count = |point: &Point| known.counted(point).and_then(Option::as_ref);
        let best = distinct.iter().filter_map(|p| count(p).map(|c| total(c)));
        let best = best.min().unwrap_or(0);
        let (mut good, mut missed): (Vec<(Point, Vec<Count>)>, Vec<&Point>) = Default::default();
        for point in distinct {
            match count(point) {
                Some(counts) if total(counts) == best => good.push((point.clone(), counts.clone())),
                Some(_) => missed.push(point),
                None => {}
            }
        }
        // Values that only refuted points have may have others that are right.
        let mut settled: BTreeSet<(u8, String)> =
            good.iter().flat_map(|(point, _)| point.values()).collect();
        let mut places = Vec::new();
        for point in missed {
            let values = point.values().into_iter();
            if values.filter(|value| settled.insert(value.clone())).count() > 0 && best == 0 {
                places.extend(self.misses(sites, point, 4));
            }
        }
        if let (true, Some((point, _))) = (best > 0, good.first()) {
            places.extend(self.misses(sites, point, 128));
        }
        (good, places)
    }

    /// Elements that a point gets wrong, all over the tensors.
    fn misses(&self, sites: &[&Site], point: &Point, most: usize) -> Vec<Place> {
        let mut found = Vec::new();
        for (index, site) in sites.iter().enumerate() {
            let spec = spec_of(self.base(), &self.world.specs, point, site.label);
            let Some(plan) = plan(site, &spec, self.world.isa) else {
                continue;
            };
            for (number, fed) in site.fed.iter().enumerate() {
                let made = count::made(site, &plan, fed, self.world.isa);
                let wrong = (0..made.len())
                    .filter(|&at| made.real_at(at) != fed.expected.real_at(at))
                    .map(|at| (index, number, at));
                found.extend(wrong);
            }
        }
        let step = found.len().div_ceil(most).max(1);
        found.into_iter().step_by(step).collect()
    }

    /// Tries the neighbours of the point in the zoo, and keeps what refutes the best of them.
    pub(super) fn hold_against_neighbours(
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
