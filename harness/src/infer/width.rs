//! Accumulators that sums leave: which width and which overflow explain most.

use align_check_simulators::plan::{Finish, Sum};
use align_check_simulators::run::{Runner, Sums};
use align_check_specs::{Accumulator, Order, Overflow};
use rayon::prelude::*;

use super::count::{plan, spec_of};
use super::ends::Found;
use super::feed::Site;
use super::group::Search;
use super::point::Point;
use super::sums::Telling;
use super::zoo;

/// Products that are summed in order for each accumulator that is tried.
const MOST_PRODUCTS: u64 = 40_000_000;

/// Points with which each accumulator is tried.
const ENDS: usize = 24;

/// An end with an accumulator that explains more than one that nothing leaves.
pub(super) struct Narrow {
    pub found: Found,
    /// The telling elements with the sums of accumulators that saturate, or add in pairs.
    pub made: Vec<(Accumulator, Telling)>,
}

impl Search<'_, '_> {
    /// The accumulators that explain more than one that nothing leaves, with the end of their sums: first the end is
    /// sought where no accumulator overflows that holds most sums, then the accumulator by all elements, then the end
    /// again. `wide` is what was found with exact sums.
    pub(super) fn narrow(
        &self,
        sites: &[&Site],
        sums: &Telling,
        wide: &Found,
        known: &[Point],
    ) -> Option<Narrow> {
        let products: u64 = sites
            .iter()
            .map(|site| site.elements() * site.layer.terms() as u64)
            .sum();
        let in_order = products < MOST_PRODUCTS;
        let like = wide.points.first().or(known.first())?;
        let made = self.made(sites, sums, like, in_order, known);
        let safe = most(sums, &made);
        let part = sums.only(&|position| safe[position]);
        let accumulator = zoo::wide(sums.bits);
        let ends = part.search(&accumulator, known, u64::MAX, self.progress);
        let like = ends.points.first()?;
        let made = self.made(sites, sums, like, in_order, known);
        // Ends that differ in some value: the first ones are alike.
        let mut values = std::collections::HashSet::new();
        let chosen = ends.points.iter().filter(|point| {
            let fresh = point.values().into_iter();
            fresh.filter(|value| values.insert(value.clone())).count() > 0
        });
        let chosen: Vec<&Point> = chosen.take(ENDS).collect();
        let counts: Vec<u64> = made
            .par_iter()
            .map(|(accumulator, own)| {
                let wrong = chosen.iter().filter_map(|point| {
                    let mut point = (*point).clone();
                    point.accumulator = Some(accumulator.clone());
                    own.of_point(&point, u64::MAX)
                });
                wrong.min().unwrap_or(u64::MAX)
            })
            .collect();
        let least = counts.iter().copied().min()?;
        if least >= wide.wrong {
            return None;
        }
        let good: Vec<(Accumulator, Telling)> = made
            .into_iter()
            .zip(counts)
            .filter(|(_, count)| *count == least)
            .map(|(own, _)| own)
            .collect();
        let (first, own) = good.first()?;
        let mut tried = known.to_vec();
        tried.extend(chosen.into_iter().cloned());
        let mut found = own.search(first, &tried, least, self.progress);
        found.tried += ends.tried;
        // The others stand beside it.
        let alike: Vec<Point> = found.points.iter().take(ENDS).cloned().collect();
        for (accumulator, own) in good.iter().skip(1) {
            for point in &alike {
                let mut point = point.clone();
                point.accumulator = Some(accumulator.clone());
                if own.of_point(&point, found.wrong) == Some(found.wrong) {
                    found.count += 1;
                    found.points.push(point);
                }
            }
        }
        found.points.sort_by_key(Point::complexity);
        let made = good
            .into_iter()
            .filter(|(own, _)| own.overflow == Overflow::Saturate || own.pairs.is_some())
            .collect();
        Some(Narrow { found, made })
    }

    /// The telling elements with the sums of every accumulator, wide ones first. Those that wrap hold the exact sums,
    /// modulo the width, so that these serve for them.
    fn made(
        &self,
        sites: &[&Site],
        sums: &Telling,
        like: &Point,
        in_order: bool,
        known: &[Point],
    ) -> Vec<(Accumulator, Telling)> {
        let width = |bits: u32, overflow, order| Accumulator {
            bits: Some(bits),
            overflow,
            order,
            pairs: None,
        };
        let mut tried = vec![zoo::wide(sums.bits)];
        for bits in (8..sums.bits.min(64)).rev() {
            tried.push(width(bits, Overflow::Wrap, Order::ChannelFirst));
            for order in [Order::ChannelFirst, Order::ChannelLast] {
                if in_order {
                    tried.push(width(bits, Overflow::Saturate, order));
                }
            }
        }
        for point in known {
            let own = point.accumulator.as_ref();
            let own = own.filter(|own| own.pairs.is_some() && !tried.contains(own));
            tried.extend(own.cloned());
        }
        tried
            .into_par_iter()
            .filter_map(|accumulator| {
                if accumulator.overflow != Overflow::Saturate && accumulator.pairs.is_none() {
                    return Some((accumulator, sums.clone()));
                }
                let mut point = like.clone();
                point.accumulator = Some(accumulator.clone());
                let own = sums.with(&self.remade(sites, &point)?)?;
                Some((accumulator, own))
            })
            .collect()
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
}

/// Which elements every accumulator holds that is wide enough for most elements.
fn most(sums: &Telling, made: &[(Accumulator, Telling)]) -> Vec<bool> {
    let exact: Vec<i64> = sums.sums().collect();
    let holds = |bits: u32| -> Vec<bool> {
        let mut safe: Vec<bool> = exact
            .iter()
            .map(|sum| sum.unsigned_abs() < 1 << (bits - 1).min(62))
            .collect();
        for (own, telling) in made {
            if own.bits == Some(bits) && own.overflow == Overflow::Saturate {
                for ((safe, sum), exact) in safe.iter_mut().zip(telling.sums()).zip(&exact) {
                    *safe &= sum == *exact;
                }
            }
        }
        safe
    };
    let mut best = vec![true; exact.len()];
    for bits in (8..sums.bits.min(64)).rev() {
        let safe = holds(bits);
        let count = safe.iter().filter(|safe| **safe).count();
        if count * 5 < exact.len() * 3 || count < 32 {
            break;
        }
        best = safe;
    }
    best
}
