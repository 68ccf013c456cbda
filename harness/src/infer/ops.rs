//! Operations that are no sums of products: every rule, with everything that it refers to.

use align_check_specs::{Accumulator, Quantize, Requantize};
use rayon::prelude::*;

use super::ends::Found;
use super::feed::Site;
use super::group::Search;
use super::label::{FLOAT, MOVED, QUANTIZE};
use super::op_rule::Refers;
use super::point::{Point, is_sums};
use super::{zoo, zoo_ops};

impl Search<'_, '_> {
    /// Operations that are no sums of products: every rule with everything that it refers to.
    pub(super) fn listed(
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
            let mut points = zoo_ops::op_points(label, &self.requantizes(), &self.quantizes());
            // Computed in float.
            points.extend(self.quantizes().into_iter().map(|quantize| Point {
                quantize: Some(quantize),
                ..Point::default()
            }));
            points
        };
        let found = self.tried(sites, telling, points, best);
        if found.wrong == 0 || self.known[1].is_empty() {
            return found;
        }
        // Nothing is exact: every end that sums can have.
        let points = zoo_ops::op_points(label, &self.known[1], &[])
            .into_iter()
            .filter(|point| point.op.is_some_and(|op| op.refers() == Refers::Requantize))
            .collect();
        let more = self.tried(sites, telling, points, found.wrong);
        let tried = found.tried + more.tried;
        let best = if more.wrong < found.wrong {
            more
        } else {
            found
        };
        Found { tried, ..best }
    }

    /// The best of some points.
    fn tried(
        &self,
        sites: &[&Site],
        telling: &[Vec<Vec<usize>>],
        points: Vec<Point>,
        best: u64,
    ) -> Found {
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
        let mut found = self.known[0].clone();
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
            zoo_ops::requantizes(powers)
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
        let mut found: Vec<Quantize> = zoo_ops::quantizes();
        for spec in &self.world.specs {
            if !spec.quantize.division.is_model() && !found.contains(&spec.quantize) {
                found.push(spec.quantize.clone());
            }
        }
        found
    }
}
