//! The search for the end of sums of products: exact sums are made once, then some million ends are tried on the
//! elements that tell most.

use align_check_simulators::adapt::ValueGrid;
use align_check_simulators::network::Kind;
use align_check_simulators::rules::requantize::Requantizer;
use align_check_simulators::run::Sums;
use align_check_simulators::tensor::Data;
use align_check_specs::{
    Accumulator, Bias, BiasFormat, Bounds, Derivation, Multiplier, Requantize, Step, StepsTail,
};
use rayon::prelude::*;

use super::feed::Site;
use super::point::Point;
use super::zoo::{self, Open};

/// Most survivors that are kept one by one.
pub(super) const KEPT: usize = 20_000;

/// How many of the best prefixes are tried with all steps, where nothing reproduces the sample.
const BEAM: usize = 40;

/// Elements of one channel of a layer, and what was recorded for them.
struct Cell {
    site: usize,
    channel: usize,
    elements: Vec<(i64, i32)>,
}

/// The most telling elements of the layers of one kind.
pub(super) struct Telling<'a> {
    sites: &'a [&'a Site<'a>],
    cells: Vec<Cell>,
    /// Elements in all cells.
    pub elements: usize,
}

/// What was found on the sample.
pub(super) struct Found {
    /// The points with the fewest differing elements, simple ones first; at most [`KEPT`].
    pub points: Vec<Point>,
    /// How many there are.
    pub count: u64,
    /// Elements of the sample that they get wrong.
    pub wrong: u64,
    /// Points that were tried.
    pub tried: u64,
}

fn sum_at(sums: &Sums, at: usize) -> Option<i64> {
    match sums {
        Sums::I32(sums) => sums.get(at).map(|&sum| i64::from(sum)),
        Sums::I64(sums, _) => sums.get(at).copied(),
        Sums::None | Sums::Real(_) => None,
    }
}

impl<'a> Telling<'a> {
    /// `None` where a layer's sums end otherwise than in one requantization.
    pub fn new(sites: &'a [&'a Site<'a>], telling: &[Vec<Vec<usize>>]) -> Option<Self> {
        let mut cells: Vec<(f64, Cell)> = Vec::new();
        for (index, (site, telling)) in sites.iter().zip(telling).enumerate() {
            let binding = site.binding.as_ref()?;
            let mut own: Vec<(f64, Cell)> = Vec::new();
            for (fed, chosen) in site.fed.iter().zip(telling) {
                let Data::Codes { codes, .. } = &fed.expected.data else {
                    return None;
                };
                for (rank, &at) in chosen.iter().enumerate() {
                    let channel = binding.channels.of_index(at);
                    let element = (sum_at(&fed.sums, at)?, codes[at]);
                    match own.iter_mut().find(|(_, cell)| cell.channel == channel) {
                        Some((_, cell)) => cell.elements.push(element),
                        None => own.push((
                            rank as f64,
                            Cell {
                                site: index,
                                channel,
                                elements: vec![element],
                            },
                        )),
                    }
                }
            }
            cells.extend(own);
        }
        // Channels of all layers in turn, those with the most telling elements first.
        cells.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.site.cmp(&b.1.site)));
        let cells: Vec<Cell> = cells.into_iter().map(|(_, cell)| cell).collect();
        let elements = cells.iter().map(|cell| cell.elements.len()).sum();
        Some(Self {
            sites,
            cells,
            elements,
        })
    }

    /// Bits that the largest sum with its bias needs.
    pub fn bits(&self) -> u32 {
        let mut largest = 0u64;
        for site in self.sites {
            let Some(binding) = &site.binding else { continue };
            let bias = |c: usize| {
                let unit = &binding.units[c];
                unit.code
                    .map_or_else(|| (unit.bias / (unit.x * unit.w)).abs(), |code| code.abs() as f64)
            };
            for fed in &site.fed {
                let len = fed.expected.len();
                for at in 0..len {
                    let Some(sum) = sum_at(&fed.sums, at) else { continue };
                    if sum.unsigned_abs() + (1 << 20) > largest {
                        let bias = bias(binding.channels.of_index(at));
                        let bias = if bias.is_finite() { bias.min(1e15) as u64 } else { 0 };
                        largest = largest.max(sum.unsigned_abs() + bias + 1);
                    }
                }
            }
        }
        65 - largest.leading_zeros()
    }

    /// What the data leaves open.
    pub fn open(&self) -> Open {
        let mut open = Open {
            left_shifts: false,
            biases: false,
            powers: true,
            bounds: false,
        };
        for site in self.sites {
            let Some(binding) = &site.binding else { continue };
            for unit in &binding.units {
                let m = (unit.x * unit.w / binding.out.scale).abs();
                open.left_shifts |= m >= 1.0;
                open.biases |= unit.bias != 0.0 && unit.code.is_none();
                open.powers &= align_check_simulators::num::power_of_two(m).is_some();
            }
            let codes =
                [Bounds::HalfAway, Bounds::HalfEven, Bounds::HalfEvenInside].map(|rule| binding.out.bounds(rule, binding.clamp));
            open.bounds |= codes[0] != codes[1] || codes[1] != codes[2];
        }
        open
    }

    /// Elements of the sample that a point gets wrong; counting ends above `limit`.
    fn wrong(
        &self,
        rule: &Requantize,
        bias: &Bias,
        accumulator: &Accumulator,
        limit: u64,
    ) -> Option<u64> {
        // Whether a channel's end depends on the other channels.
        let whole = rule.tail.is_some()
            || matches!(rule.multiplier, Multiplier::FixedAbsolute { .. })
            || bias.format == BiasFormat::Int8Shifted;
        let mut own: Vec<Option<Requantizer>> = Vec::new();
        if whole {
            own.resize_with(self.sites.len(), || None);
        }
        let mut wrong = 0;
        let resolved;
        let rule = if rule.derivation == Derivation::F32ProductPerTensor {
            resolved = Requantize {
                derivation: Derivation::F64,
                ..rule.clone()
            };
            let per_tensor = Requantize {
                derivation: Derivation::F32ProductF64Quotient,
                ..rule.clone()
            };
            if self.sites.iter().all(|site| one_scale(site)) {
                &per_tensor.clone()
            } else {
                &resolved
            }
        } else {
            rule
        };
        for cell in &self.cells {
            let binding = self.sites[cell.site].binding.as_ref()?;
            let bind = |units: &[_]| {
                Requantizer::new(rule, bias, accumulator, units, binding.out, binding.clamp).ok()
            };
            let single;
            let (requantizer, channel) = if whole {
                let slot = &mut own[cell.site];
                if slot.is_none() {
                    *slot = Some(bind(&binding.units)?);
                }
                (slot.as_ref()?, cell.channel)
            } else {
                single = bind(&binding.units[cell.channel..=cell.channel])?;
                (&single, 0)
            };
            for &(sum, expected) in &cell.elements {
                wrong += u64::from(requantizer.code(sum, channel, false).value != expected);
                if wrong > limit {
                    return Some(wrong);
                }
            }
        }
        Some(wrong)
    }

    /// As [`wrong`](Self::wrong); nothing where the point is outside this search, or fits the scales nowhere.
    pub fn of_point(&self, point: &Point, limit: u64) -> Option<u64> {
        let (Some(rule), Some(bias), Some(accumulator)) =
            (&point.requantize, &point.bias, &point.accumulator)
        else {
            return None;
        };
        let fake = matches!(rule.multiplier, Multiplier::FakeQuantize { .. })
            || rule.derivation == Derivation::F32SignedRange;
        if fake {
            return None;
        }
        self.wrong(rule, bias, accumulator, limit)
    }

    /// Tries the whole zoo with one accumulator. `limit`: what the best known point gets wrong.
    pub fn search(&self, accumulator: &Accumulator, limit: u64, progress: &(dyn Fn() + Sync)) -> Found {
        let open = self.open();
        let outers = zoo::outers(open);
        // Known steps first.
        let short: Vec<(u64, u64)> = outers
            .par_iter()
            .map(|outer| {
                let mut best = (u64::MAX, 0);
                let mut bound = limit;
                for steps in zoo::short_steps(outer) {
                    best.1 += 1;
                    let point = outer.point(&steps, None, accumulator);
                    if let Some(wrong) = self.of_point(&point, bound.max(32)) {
                        best.0 = best.0.min(wrong);
                        bound = bound.min(wrong);
                    }
                }
                progress();
                best
            })
            .collect();
        let mut tried: u64 = short.iter().map(|s| s.1).sum();
        let mut bound = short.iter().map(|s| s.0).min().unwrap_or(u64::MAX).min(limit);
        if bound > 0 {
            // Nothing is exact: all steps behind the best multipliers.
            let mut order: Vec<usize> = (0..outers.len()).collect();
            order.sort_by_key(|&i| (short[i].0, i));
            let beam: Vec<usize> = order
                .into_iter()
                .filter(|&i| outers[i].shifts())
                .take(BEAM)
                .collect();
            let long: Vec<(u64, u64)> = beam
                .par_iter()
                .map(|&i| {
                    let mut best = (u64::MAX, 0);
                    let mut own = bound;
                    for steps in zoo::long_steps(&outers[i]) {
                        best.1 += 1;
                        let point = outers[i].point(&steps, None, accumulator);
                        if let Some(wrong) = self.of_point(&point, own) {
                            best.0 = best.0.min(wrong);
                            own = own.min(wrong);
                        }
                    }
                    progress();
                    best
                })
                .collect();
            tried += long.iter().map(|l| l.1).sum::<u64>();
            bound = long.iter().map(|l| l.0).min().unwrap_or(u64::MAX).min(bound);
        }
        // Everything that is as good as the best.
        let hits: Vec<(u64, Vec<Point>, u64)> = outers
            .par_iter()
            .map(|outer| {
                let mut count = 0;
                let mut points = Vec::new();
                let mut tried = 0;
                let mut one = |steps: &[Step], tail: Option<StepsTail>| {
                    tried += 1;
                    let point = outer.point(steps, tail, accumulator);
                    if self.of_point(&point, bound) == Some(bound) {
                        count += 1;
                        if points.len() < KEPT / 64 {
                            points.push(point);
                        }
                    }
                };
                for steps in zoo::short_steps(outer) {
                    one(&steps, None);
                }
                // Where something is wrong with every point, a few million more say nothing.
                if bound == 0 {
                    for steps in zoo::long_steps(outer) {
                        one(&steps, None);
                    }
                }
                if matches!(outer.multiplier, Multiplier::Fixed { bits: 31, .. }) {
                    for block in [4, 8, 16] {
                        for steps in zoo::short_steps(outer) {
                            for behind in zoo::short_steps(outer).into_iter().take(30) {
                                if behind != steps && steps.len() + behind.len() == 4 {
                                    one(&steps, Some(StepsTail { block, steps: behind }));
                                }
                            }
                        }
                    }
                }
                progress();
                (count, points, tried)
            })
            .collect();
        let mut points: Vec<Point> = Vec::new();
        let mut count = 0;
        for (own, found, more) in hits {
            count += own;
            tried += more;
            points.extend(found);
        }
        points.sort_by_key(Point::complexity);
        points.truncate(KEPT);
        Found {
            points,
            count,
            wrong: bound,
            tried,
        }
    }
}

/// Whether a layer's weights have one scale.
fn one_scale(site: &Site) -> bool {
    match &site.layer.kind {
        Kind::Linear(linear) => linear.weights.grid().is_none_or(|grid| grid.is_uniform()),
        _ => true,
    }
}

/// Whether two layers' outputs are codes of one signedness.
pub(super) fn has_codes(site: &Site) -> bool {
    matches!(site.plan.out, ValueGrid::Codes { .. })
}
