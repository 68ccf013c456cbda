//! The search for the end of sums of products: exact sums are made once, then some million ends are tried on the
//! elements that tell most.

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
use super::zoo::{self, Open, Outer};

/// Most survivors that are kept one by one.
pub(super) const KEPT: usize = 100_000;

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
    /// For each layer, the channel with the largest multiplier.
    largest: Vec<usize>,
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
        let largest = sites
            .iter()
            .map(|site| {
                let units = site.binding.as_ref().map_or(&[][..], |binding| &binding.units);
                let m = |c: &usize| (units[*c].x * units[*c].w).abs();
                (0..units.len()).max_by(|a, b| m(a).total_cmp(&m(b))).unwrap_or(0)
            })
            .collect();
        Some(Self {
            sites,
            cells,
            largest,
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
            per_tensor: self.sites.iter().all(|site| one_scale(site)),
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
        let whole = rule.tail.is_some() || bias.format == BiasFormat::Int8Shifted;
        // One position for all channels follows from the largest multiplier: that channel goes with each.
        let absolute = matches!(rule.multiplier, Multiplier::FixedAbsolute { .. });
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
            } else if absolute {
                let largest = self.largest[cell.site];
                single = bind(&[binding.units[cell.channel], binding.units[largest]])?;
                (&single, 0)
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
    pub fn search(
        &self,
        accumulator: &Accumulator,
        limit: u64,
        progress: &(dyn Fn() + Sync),
    ) -> Found {
        let outers = zoo::outers(self.open());
        let mut tried = 0;
        let mut bound = limit;
        // The best of each, where nothing is exact so far: known steps, then all steps behind the best multipliers.
        if bound > 0 {
            let short = self.best(&outers, zoo::short_steps, accumulator, bound, progress);
            tried += short.iter().map(|own| own.1).sum::<u64>();
            bound = short.iter().map(|own| own.0).min().unwrap_or(bound).min(bound);
            if bound > 0 {
                let mut order: Vec<usize> =
                    (0..outers.len()).filter(|&i| outers[i].shifts()).collect();
                order.sort_by_key(|&i| (short[i].0, i));
                let beam: Vec<Outer> =
                    order.into_iter().take(BEAM).map(|i| outers[i].clone()).collect();
                let long = self.best(&beam, zoo::long_steps, accumulator, bound, progress);
                tried += long.iter().map(|own| own.1).sum::<u64>();
                bound = long.iter().map(|own| own.0).min().unwrap_or(bound).min(bound);
                if bound > 0 {
                    // Multipliers that the wrong steps hid.
                    let best = long.iter().enumerate().min_by_key(|(i, own)| (own.0, *i));
                    let steps = best.and_then(|(i, _)| {
                        self.hits(&beam[i], &zoo::long_steps(&beam[i]), accumulator, bound).1.pop()
                    });
                    if let Some(steps) = steps.and_then(|point| point.requantize).map(|r| r.steps) {
                        let known = |_: &Outer| vec![steps.clone()];
                        let again = self.best(&outers, known, accumulator, bound, progress);
                        bound = again.iter().map(|own| own.0).min().unwrap_or(bound).min(bound);
                    }
                }
            }
        }
        // Everything that is as good as the best.
        let mut found: Vec<(u64, Vec<Point>)> = outers
            .par_iter()
            .map(|outer| {
                progress();
                self.hits(outer, &zoo::short_steps(outer), accumulator, bound)
            })
            .collect();
        tried += outers.iter().map(|o| zoo::short_steps(o).len() as u64).sum::<u64>();
        // A few million more, with the biases that are possible, where something is exact: else they say nothing.
        let possible = if bound == 0 {
            self.possible(&outers, &found, accumulator, bound)
        } else {
            Vec::new()
        };
        let long: Vec<&Outer> =
            outers.iter().filter(|o| o.shifts() && possible.contains(&o.bias)).collect();
        let more: Vec<(u64, Vec<Point>)> = long
            .par_iter()
            .map(|outer| {
                progress();
                let mut own = self.hits(outer, &zoo::long_steps(outer), accumulator, bound);
                let tails = self.tails(outer, accumulator, bound);
                own.0 += tails.len() as u64;
                own.1.extend(tails);
                own
            })
            .collect();
        tried += long.iter().map(|o| zoo::long_steps(o).len() as u64).sum::<u64>();
        found.extend(more);
        let count = found.iter().map(|own| own.0).sum();
        let mut points: Vec<Point> = found.into_iter().flat_map(|own| own.1).collect();
        points.sort_by_key(Point::complexity);
        points.truncate(KEPT);
        Found {
            points,
            count,
            wrong: bound,
            tried,
        }
    }

    /// For each, what its best steps get wrong, and how many were tried.
    fn best(
        &self,
        outers: &[Outer],
        steps: impl Fn(&Outer) -> Vec<Vec<Step>> + Sync,
        accumulator: &Accumulator,
        limit: u64,
        progress: &(dyn Fn() + Sync),
    ) -> Vec<(u64, u64)> {
        let one = |outer: &Outer| {
            let mut rule = outer.rule();
            let mut best = (u64::MAX, 0);
            let mut bound = limit;
            for steps in steps(outer) {
                best.1 += 1;
                rule.steps = steps;
                let wrong = self.wrong(&rule, &outer.bias, accumulator, bound.max(24));
                if let Some(wrong) = wrong {
                    best.0 = best.0.min(wrong);
                    bound = bound.min(wrong);
                }
            }
            progress();
            best
        };
        outers.par_iter().map(one).collect()
    }

    /// The steps that get no more wrong than the best: how many there are, and the points.
    fn hits(
        &self,
        outer: &Outer,
        steps: &[Vec<Step>],
        accumulator: &Accumulator,
        bound: u64,
    ) -> (u64, Vec<Point>) {
        let mut rule = outer.rule();
        let (mut count, mut points) = (0, Vec::new());
        for steps in steps {
            rule.steps.clone_from(steps);
            if self.wrong(&rule, &outer.bias, accumulator, bound) == Some(bound) {
                count += 1;
                if points.len() < KEPT / 16 {
                    points.push(outer.point(steps, None, accumulator));
                }
            }
        }
        (count, points)
    }

    /// Biases that some exact point has, and those that are the same integers.
    fn possible(
        &self,
        outers: &[Outer],
        found: &[(u64, Vec<Point>)],
        accumulator: &Accumulator,
        bound: u64,
    ) -> Vec<Bias> {
        let mut known: Vec<Bias> = Vec::new();
        fn add(known: &mut Vec<Bias>, bias: &Bias) {
            if !known.contains(bias) {
                known.push(bias.clone());
            }
        }
        for (outer, (count, _)) in outers.iter().zip(found) {
            if *count > 0 {
                add(&mut known, &outer.bias);
            }
        }
        if known.is_empty() {
            // Only long steps are exact: with which biases, the usual multipliers tell.
            for outer in outers.iter().filter(|o| o.shifts()).take(64) {
                if self.hits(outer, &zoo::long_steps(outer), accumulator, bound).0 > 0 {
                    add(&mut known, &outer.bias);
                }
            }
        }
        let mut all: Vec<Bias> = Vec::new();
        for outer in outers {
            if !all.contains(&outer.bias) {
                all.push(outer.bias.clone());
            }
        }
        if known.is_empty() {
            return all;
        }
        let integers = |bias: &Bias| -> Option<Vec<i64>> {
            let outer = outers.iter().find(|o| o.shifts() && o.bias == *bias)?;
            let mut initial = Vec::new();
            for site in self.sites {
                let binding = site.binding.as_ref()?;
                let requantizer = Requantizer::new(
                    &outer.rule(),
                    bias,
                    accumulator,
                    &binding.units,
                    binding.out,
                    binding.clamp,
                )
                .ok()?;
                initial.extend((0..requantizer.channels()).map(|c| requantizer.initial(c)));
            }
            Some(initial)
        };
        let same: Vec<Option<Vec<i64>>> = known.iter().map(integers).collect();
        all.retain(|bias| known.contains(bias) || {
            let own = integers(bias);
            own.is_some() && same.contains(&own)
        });
        all
    }

    /// Other steps behind the last block of channels, as vector kernels have them.
    fn tails(&self, outer: &Outer, accumulator: &Accumulator, bound: u64) -> Vec<Point> {
        let usual = Multiplier::Fixed {
            bits: 31,
            rounding: align_check_specs::Rounding::HalfAway,
        };
        if outer.multiplier != usual {
            return Vec::new();
        }
        let two: Vec<Vec<Step>> = zoo::short_steps(outer)
            .into_iter()
            .filter(|steps| steps.len() == 2)
            .take(30)
            .collect();
        let mut found = Vec::new();
        let mut rule = outer.rule();
        for block in [4, 8, 16] {
            for steps in &two {
                for behind in two.iter().filter(|behind| *behind != steps) {
                    rule.steps.clone_from(steps);
                    let tail = StepsTail {
                        block,
                        steps: behind.clone(),
                    };
                    rule.tail = Some(tail.clone());
                    if self.wrong(&rule, &outer.bias, accumulator, bound) == Some(bound) {
                        found.push(outer.point(steps, Some(tail), accumulator));
                    }
                }
            }
        }
        found
    }
}

/// Whether a layer's weights have one scale.
fn one_scale(site: &Site) -> bool {
    match &site.layer.kind {
        Kind::Linear(linear) => linear.weights.grid().is_none_or(|grid| grid.is_uniform()),
        _ => true,
    }
}
