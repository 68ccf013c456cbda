//! Counting what a point gets wrong, and which elements tell most.

use std::sync::Arc;

use align_check_simulators::kernels::Isa;
use align_check_simulators::plan::{LayerPlan, Sum};
use align_check_simulators::run::{Runner, Sums};
use align_check_simulators::tensor::{Data, Tensor};
use align_check_specs::{Overflow, Spec};
use serde::Serialize;

use super::feed::{Fed, Site, borrowed};
use super::point::Point;
use crate::noise::Noise;
use crate::sample::model_grid;

/// What a point gets wrong of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Count {
    /// Elements that differ.
    pub differing: u64,
    /// More elements that differ, where float32 summation order alone decides; only points that compute in float have
    /// them.
    pub noise: u64,
    /// First differing element: the sample's position, and the element's.
    #[serde(skip)]
    pub first: Option<(usize, usize, f64)>,
}

impl Count {
    pub(super) fn add(&mut self, other: Self) {
        self.differing += other.differing;
        self.noise += other.noise;
        self.first = self.first.or(other.first);
    }
}

/// A spec with a point in the place of its own rules.
pub(super) fn spec_of(base: &Spec, specs: &[Spec], point: &Point, label: &str) -> Spec {
    let mut spec = base.clone();
    if let Some(whole) = &point.whole {
        return specs
            .iter()
            .find(|spec| spec.name == *whole)
            .cloned()
            .unwrap_or(spec);
    }
    point.apply(&mut spec, label);
    spec
}

/// A layer under a spec, ready to run.
pub(super) fn plan(site: &Site, spec: &Spec, isa: Isa) -> Option<LayerPlan> {
    site.plan.finished(site.layer, spec, &site.grids, isa).ok()
}

/// The sums of a plan: the layer's exact ones, unless its accumulator may overflow.
fn sums<'s>(runner: &Runner, fed: &'s Fed, own: &'s mut Sums) -> &'s Sums {
    let narrow = runner.plan.linear.as_ref().is_some_and(|linear| {
        linear.pairs.is_some()
            || matches!(&linear.sum, Sum::InOrder { overflow, .. } if *overflow != Overflow::Exact)
    });
    if narrow {
        *own = runner.sums(&borrowed(&fed.inputs));
        own
    } else {
        &fed.sums
    }
}

/// A sample of a layer under a plan.
pub(super) fn made(site: &Site, plan: &LayerPlan, fed: &Fed, isa: Isa) -> Tensor {
    let runner = Runner {
        layer: site.layer,
        plan,
        isa,
    };
    let mut own = Sums::None;
    let sums = sums(&runner, fed, &mut own);
    runner.finish(&borrowed(&fed.inputs), sums)
}

/// What a plan gets wrong of some elements of a sample of a layer, or of all.
pub(super) fn count(
    site: &Site,
    spec: &Spec,
    plan: &LayerPlan,
    only: Option<&[Vec<usize>]>,
    limit: u64,
    isa: Isa,
) -> Count {
    let mut total = Count::default();
    let runner = Runner {
        layer: site.layer,
        plan,
        isa,
    };
    for (position, fed) in site.fed.iter().enumerate() {
        let inputs = borrowed(&fed.inputs);
        let mut own = Sums::None;
        let sums = sums(&runner, fed, &mut own);
        let chosen = only.map(|only| &only[position][..]);
        if let (Some(chosen), Data::Codes { codes: wanted, .. }) = (chosen, &fed.expected.data) {
            let codes = runner
                .codes_at(sums, chosen)
                .or_else(|| runner.pairs_at(&inputs, chosen));
            if let Some(codes) = codes {
                for (&at, code) in chosen.iter().zip(codes) {
                    if wanted[at] != code {
                        total.differing += 1;
                        total.first = total.first.or(Some((position, at, f64::from(code))));
                    }
                }
                if total.differing > limit {
                    return total;
                }
                continue;
            }
        }
        let made = runner.finish(&inputs, sums);
        total.add(compare(fed, position, &made, chosen, &|| {
            noise_of(site, spec, &runner, &inputs, sums)
        }));
        if total.differing > limit {
            return total;
        }
    }
    total
}

/// The noise floor of a layer that is computed in float.
fn noise_of<'r>(
    site: &Site,
    spec: &Spec,
    runner: &Runner<'r>,
    inputs: &[&Tensor],
    sums: &'r Sums,
) -> Option<Noise<'r>> {
    let real = model_grid(&runner.plan.out).is_none();
    if spec.quantize.division.is_model() || (runner.plan.float && site.label != "quantize") || real
    {
        return Noise::new(runner, inputs, sums);
    }
    None
}

fn compare<'n>(
    fed: &Fed,
    position: usize,
    made: &Tensor,
    only: Option<&[usize]>,
    noise: &dyn Fn() -> Option<Noise<'n>>,
) -> Count {
    let mut total = Count::default();
    let expected: &Arc<Tensor> = &fed.expected;
    if made.len() != expected.len() {
        total.differing = expected.len() as u64;
        return total;
    }
    let same = made.grid() == expected.grid();
    if let (Data::Codes { codes: a, .. }, Data::Codes { codes: b, .. }, true, None) =
        (&made.data, &expected.data, same, only)
        && a == b
    {
        return total;
    }
    let floor = std::cell::OnceCell::new();
    let mut one = |at: usize| {
        let equal = match (&made.data, &expected.data) {
            (Data::Codes { codes: a, .. }, Data::Codes { codes: b, .. }) if same => a[at] == b[at],
            _ => made.real_at(at) == expected.real_at(at),
        };
        if equal {
            return;
        }
        let floor = floor.get_or_init(noise);
        let quiet = floor
            .as_ref()
            .is_some_and(|floor| floor.decides(at, expected.real_at(at), made.real_at(at)));
        if quiet {
            total.noise += 1;
        } else {
            total.differing += 1;
            let got = match &made.data {
                Data::Codes { codes, .. } => f64::from(codes[at]),
                Data::Real(_) => made.real_at(at),
            };
            total.first = total.first.or(Some((position, at, got)));
        }
    };
    match only {
        Some(only) => only.iter().copied().for_each(&mut one),
        None => (0..expected.len()).for_each(&mut one),
    }
    total
}

/// What is known of a layer's data: how much it can tell.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Facts {
    /// Elements.
    pub elements: u64,
    /// Elements whose exact value lies halfway between two codes, above zero.
    pub ties_above: u64,
    /// The same below zero.
    pub ties_below: u64,
    /// Elements within 1/256 step of a tie.
    pub near_ties: u64,
    /// Elements that saturate.
    pub saturated: u64,
}

impl Facts {
    pub(super) fn add(&mut self, other: &Self) {
        self.elements += other.elements;
        self.ties_above += other.ties_above;
        self.ties_below += other.ties_below;
        self.near_ties += other.near_ties;
        self.saturated += other.saturated;
    }
}

/// Elements whose recorded code lies more than one step from the exact value: no rounding does that, other grids do.
pub(super) fn far(site: &Site, chosen: &[Vec<usize>], isa: Isa) -> u64 {
    let runner = Runner {
        layer: site.layer,
        plan: site.plan,
        isa,
    };
    let Some(grid) = model_grid(&site.plan.out) else {
        return 0;
    };
    let mut far = 0;
    for (fed, chosen) in site.fed.iter().zip(chosen) {
        let values = runner.reals(&borrowed(&fed.inputs), &fed.sums);
        let Data::Codes { codes, .. } = &fed.expected.data else {
            continue;
        };
        if values.len() != codes.len() {
            continue;
        }
        let channels = grid.channels(&fed.expected.shape);
        for &at in chosen {
            let c = channels.of_index(at);
            let value = values[at] / grid.scale.at(c) + grid.zero_point.at(c) as f64;
            let value = value.clamp(grid.min as f64, grid.max as f64);
            far += u64::from((value - f64::from(codes[at])).abs() > FAR);
        }
    }
    far
}

/// Steps that two roundings and a multiplier of 8 bits can move a value.
const FAR: f64 = 1.75;

/// How near to a tie a value is one: exact products of power-of-two scales are exact in `f64`.
const TIE: f64 = 1e-9;

/// The most telling elements of each sample of a layer, the most telling first, and what the data holds.
pub(super) fn telling(site: &Site, quota: usize, isa: Isa) -> (Vec<Vec<usize>>, Facts) {
    let runner = Runner {
        layer: site.layer,
        plan: site.plan,
        isa,
    };
    let grid = model_grid(&site.plan.out);
    let mut facts = Facts::default();
    let mut all = Vec::with_capacity(site.fed.len());
    let quota = (quota / site.fed.len().max(1)).max(2);
    for fed in &site.fed {
        let len = fed.expected.len();
        facts.elements += len as u64;
        let values = grid
            .map(|_| runner.reals(&borrowed(&fed.inputs), &fed.sums))
            .unwrap_or_default();
        let Some(grid) = grid.filter(|_| values.len() == len) else {
            // Nothing is known in front of the quantizer: elements all over the tensor.
            let step = (len / (quota * 8)).max(1);
            all.push((0..len).step_by(step).collect());
            continue;
        };
        let channels = grid.channels(&fed.expected.shape);
        let mut buckets: Vec<Vec<(f64, usize)>> = vec![Vec::new(); BUCKETS];
        for (at, &real) in values.iter().enumerate() {
            let c = channels.of_index(at);
            let value = real / grid.scale.at(c);
            let zero = grid.zero_point.at(c) as f64;
            let (lo, hi) = (grid.min as f64 - zero, grid.max as f64 - zero);
            let (bucket, order) = if value < lo - 1.0 {
                facts.saturated += 1;
                (0, lo - value)
            } else if value > hi + 1.0 {
                facts.saturated += 1;
                (1, value - hi)
            } else {
                let apart = value - value.floor() - 0.5;
                let distance = apart.abs();
                facts.near_ties += u64::from(distance < 1.0 / 256.0);
                let exact = distance < TIE * value.abs().max(1.0);
                if exact {
                    let side = if value < 0.0 {
                        &mut facts.ties_below
                    } else {
                        &mut facts.ties_above
                    };
                    *side += 1;
                }
                let sign = usize::from(value < 0.0);
                let side = match (exact, apart < 0.0) {
                    (true, _) => 0,
                    (false, true) => 1,
                    (false, false) => 2,
                };
                let large = usize::from(value.abs() >= 32.0);
                if distance < 0.25 {
                    (2 + sign + 2 * side + 6 * large, distance)
                } else {
                    // A code itself, or a little beside it: where directed roundings differ.
                    (14 + sign + 2 * usize::from(apart < 0.0), 0.5 - distance)
                }
            };
            buckets[bucket].push((order, at));
            if at % 31 == 7 {
                // Any element, in a fixed disorder.
                let order = f64::from((at as u32).wrapping_mul(0x9E37_79B9));
                buckets[BUCKETS - 1].push((order, at));
            }
        }
        let mut chosen: Vec<(f64, usize)> = Vec::new();
        for (number, mut bucket) in buckets.into_iter().enumerate() {
            let by = |a: &(f64, usize), b: &(f64, usize)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
            if bucket.len() > quota {
                bucket.select_nth_unstable_by(quota, by);
                bucket.truncate(quota);
            }
            bucket.sort_by(by);
            let tie = (2..14).contains(&number);
            chosen.extend(
                bucket
                    .into_iter()
                    .map(|(order, at)| (if tie { order } else { 1.0 + order }, at)),
            );
        }
        chosen.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let mut order: Vec<usize> = Vec::with_capacity(chosen.len());
        let mut seen = std::collections::HashSet::new();
        order.extend(
            chosen
                .into_iter()
                .map(|(_, at)| at)
                .filter(|&at| seen.insert(at)),
        );
        all.push(order);
    }
    (all, facts)
}

/// Two ends, ties by sign, side and magnitude, codes by sign and side, any element.
const BUCKETS: usize = 19;
