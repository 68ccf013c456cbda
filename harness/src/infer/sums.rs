//! The search for the end of sums of products: exact sums are made once, then some million ends are tried on the
//! elements that tell most.

use align_check_simulators::network::Kind;
use align_check_simulators::plan::Binding;
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
const KEPT: usize = 4_000;

/// Survivors after which the search for more ends.
const ENOUGH: u64 = 20_000;

/// Multipliers that are tried with all steps before it is asked whether there are enough.
const PART: usize = 16;

/// Steps behind one multiplier after which no more are sought.
const MOST_STEPS: usize = 400;

/// How many of the best multipliers are tried with all steps, where nothing reproduces the sample.
const BEAM: usize = 40;

/// How many of the best common multipliers name the families of which all are tried then.
const FAMILIES: usize = 10;

/// Elements that tell which multipliers are worth a closer look.
const AT_FIRST: usize = 700;

/// The best steps behind one multiplier.
struct Best {
    wrong: u64,
    steps: Vec<Step>,
    tried: u64,
}

/// Positions, the best first.
fn ranked(all: &[Best]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by_key(|&i| (all[i].wrong, i));
    order
}

/// Elements of one channel of a layer, and what was recorded for them.
#[derive(Debug, Clone)]
struct Cell {
    site: usize,
    channel: usize,
    elements: Vec<(i64, i32)>,
}

/// The most telling elements of the layers of one kind.
#[derive(Debug, Clone)]
pub(super) struct Telling {
    /// Of each layer.
    bindings: Vec<Binding>,
    cells: Vec<Cell>,
    /// For each layer, the channel with the largest multiplier.
    largest: Vec<usize>,
    /// Bits that the largest sum with its bias needs.
    pub bits: u32,
    /// What the scales leave open.
    pub open: Open,
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
    /// Whether the search ended before all were tried, since so many are as good.
    pub more: bool,
}

fn sum_at(sums: &Sums, at: usize) -> Option<i64> {
    match sums {
        Sums::I32(sums) => sums.get(at).map(|&sum| i64::from(sum)),
        Sums::I64(sums, _) => sums.get(at).copied(),
        Sums::None | Sums::Real(_) => None,
    }
}

impl Telling {
    /// `None` where a layer's sums end otherwise than in one requantization.
    pub fn new(sites: &[&Site], telling: &[Vec<Vec<usize>>]) -> Option<Self> {
        Self::with(sites, telling, None)
    }

    /// The same with other sums than the exact ones, for each layer and sample.
    pub fn with(
        sites: &[&Site],
        telling: &[Vec<Vec<usize>>],
        other: Option<&[Vec<Sums>]>,
    ) -> Option<Self> {
        let mut cells: Vec<(usize, Cell)> = Vec::new();
        let mut bindings = Vec::new();
        for (index, (site, telling)) in sites.iter().zip(telling).enumerate() {
            let binding = site.binding.as_ref()?;
            bindings.push(binding.clone());
            let mut own: Vec<(usize, Cell)> = Vec::new();
            for (number, (fed, chosen)) in site.fed.iter().zip(telling).enumerate() {
                let sums = other.map_or(&*fed.sums, |other| &other[index][number]);
                let Data::Codes { codes, .. } = &fed.expected.data else {
                    return None;
                };
                for (rank, &at) in chosen.iter().enumerate() {
                    let channel = binding.channels.of_index(at);
                    let element = (sum_at(sums, at)?, codes[at]);
                    match own.iter_mut().find(|(_, cell)| cell.channel == channel) {
                        Some((_, cell)) => cell.elements.push(element),
                        None => own.push((
                            rank,
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
        cells.sort_by_key(|(rank, cell)| (*rank, cell.site, cell.channel));
        let largest = bindings
            .iter()
            .map(|binding: &Binding| {
                let m = |c: &usize| (binding.units[*c].x * binding.units[*c].w).abs();
                (0..binding.units.len())
                    .max_by(|a, b| m(a).total_cmp(&m(b)))
                    .unwrap_or(0)
            })
            .collect();
        Some(Self {
            open: open(sites, &bindings),
            bindings,
            cells: cells.into_iter().map(|(_, cell)| cell).collect(),
            largest,
            bits: bits(sites),
        })
    }

    /// Elements of the sample that a point gets wrong; counting ends above `limit`.
    fn wrong(
        &self,
        rule: &Requantize,
        bias: &Bias,
        accumulator: &Accumulator,
        limit: u64,
    ) -> Option<u64> {
        self.wrong_of(rule, bias, accumulator, limit, usize::MAX)
    }

    /// The same, of the first so many elements.
    fn wrong_of(
        &self,
        rule: &Requantize,
        bias: &Bias,
        accumulator: &Accumulator,
        limit: u64,
        first: usize,
    ) -> Option<u64> {
        let mut seen = 0;
        // Whether a channel's end depends on the other channels.
        let whole = rule.tail.is_some() || bias.format == BiasFormat::Int8Shifted;
        // One position for all channels follows from the largest multiplier: that channel goes with each.
        let absolute = matches!(rule.multiplier, Multiplier::FixedAbsolute { .. });
        let mut own: Vec<Option<Requantizer>> = Vec::new();
        if whole {
            own.resize_with(self.bindings.len(), || None);
        }
        let mut wrong = 0;
        let resolved;
        let rule = if rule.derivation == Derivation::F32ProductPerTensor {
            let derivation = if self.open.per_tensor {
                Derivation::F32ProductF64Quotient
            } else {
                Derivation::F64
            };
            resolved = Requantize {
                derivation,
                ..rule.clone()
            };
            &resolved
        } else {
            rule
        };
        for cell in &self.cells {
            let binding = &self.bindings[cell.site];
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
            seen += cell.elements.len();
            for &(sum, expected) in &cell.elements {
                wrong += u64::from(requantizer.code(sum, channel, false).value != expected);
                if wrong > limit {
                    return Some(wrong);
                }
            }
            if seen >= first {
                break;
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

    /// Tries the zoo with one accumulator. `known` are points that were tried before, `limit` is what the best of them
    /// gets wrong.
    pub fn search(
        &self,
        accumulator: &Accumulator,
        known: &[Point],
        limit: u64,
        progress: &(dyn Fn() + Sync),
    ) -> Found {
        let mut tried = 0;
        let mut best: Vec<(u64, Point)> = Vec::new();
        for point in known {
            let mut point = point.clone();
            point.accumulator = Some(accumulator.clone());
            best.extend(self.of_point(&point, limit).map(|wrong| (wrong, point)));
        }
        let least = |best: &[(u64, Point)]| best.iter().map(|own| own.0).min().unwrap_or(limit);
        let mut outers = zoo::outers(self.open, &zoo::Chosen::plain());
        if least(&best) > 0 {
            // Nothing is exact so far: common multipliers first, then all of the best families, then all steps.
            let common: Vec<Outer> = outers.iter().filter(|o| o.is_common()).cloned().collect();
            let short = self.best(&common, &zoo::short_steps, accumulator, progress);
            tried += short.iter().map(|own| own.tried).sum::<u64>();
            let families: Vec<_> = ranked(&short)
                .into_iter()
                .take(FAMILIES)
                .map(|i| common[i].family())
                .collect();
            outers.retain(|outer| families.contains(&outer.family()));
            let short = self.best(&outers, &zoo::short_steps, accumulator, progress);
            tried += short.iter().map(|own| own.tried).sum::<u64>();
            let beam: Vec<Outer> = ranked(&short)
                .into_iter()
                .map(|i| outers[i].clone())
                .filter(Outer::shifts)
                .take(BEAM)
                .collect();
            let long = self.best(&beam, &zoo::long_steps, accumulator, progress);
            tried += long.iter().map(|own| own.tried).sum::<u64>();
            let mut add = |outer: &Outer, steps: &[Step]| {
                let point = outer.point(steps, None, accumulator);
                best.extend(self.of_point(&point, u64::MAX).map(|wrong| (wrong, point)));
            };
            for (from, found) in [(&outers, &short), (&beam, &long)] {
                for i in ranked(found).into_iter().take(BEAM) {
                    add(&from[i], &found[i].steps);
                }
            }
            // Multipliers that wrong steps hid.
            if let Some(&first) = ranked(&long).first() {
                let steps = long[first].steps.clone();
                let known = |_: &Outer| vec![steps.clone()];
                let again = self.best(&outers, &known, accumulator, progress);
                for i in ranked(&again).into_iter().take(BEAM) {
                    add(&outers[i], &again[i].steps);
                }
            }
        }
        // What can be decided apart from the rest: bounds, shifts to the left, biases, on the best points.
        best.sort_by_key(|own| own.0);
        let top: Vec<Point> = best.iter().take(12).map(|own| own.1.clone()).collect();
        for point in &top {
            for other in zoo::apart(point, self.open) {
                tried += 1;
                best.extend(self.of_point(&other, u64::MAX).map(|wrong| (wrong, other)));
            }
        }
        let bound = least(&best).min(limit);
        let exact: Vec<Point> = best
            .into_iter()
            .filter(|own| own.0 == bound)
            .map(|own| own.1)
            .collect();
        let chosen = zoo::Chosen::of(&exact, self.open);
        let families: Vec<_> = outers.iter().map(Outer::family).collect();
        let mut outers = zoo::outers(self.open, &chosen);
        if bound > 0 {
            outers.retain(|outer| families.contains(&outer.family()));
        }
        // Steps that are known, and those of the best points, behind every multiplier.
        let mut known: Vec<Vec<Step>> = Vec::new();
        for steps in exact
            .iter()
            .filter_map(|p| p.requantize.as_ref())
            .map(|r| &r.steps)
        {
            if !known.contains(steps) && known.len() < 8 {
                known.push(steps.clone());
            }
        }
        let steps = |outer: &Outer| {
            let mut steps = zoo::short_steps(outer);
            if outer.shifts() {
                for own in &known {
                    if !steps.contains(own) {
                        steps.push(own.clone());
                    }
                }
            }
            steps
        };
        let mut found: Vec<(u64, Vec<Point>)> = outers
            .par_iter()
            .map(|outer| {
                progress();
                self.hits(outer, &steps(outer), accumulator, bound)
            })
            .collect();
        tried += outers
            .iter()
            .map(|outer| steps(outer).len() as u64)
            .sum::<u64>();
        // All steps behind multipliers that are exact with some, where the data tells steps apart at all.
        let mut more = false;
        if bound == 0 {
            let long: Vec<&Outer> = outers
                .iter()
                .zip(&found)
                .filter(|(outer, own)| outer.shifts() && own.0 > 0)
                .map(|(outer, _)| outer)
                .collect();
            let mut count: u64 = found.iter().map(|own| own.0).sum();
            for part in long.chunks(PART) {
                if count > ENOUGH {
                    more = true;
                    break;
                }
                let own: Vec<(u64, Vec<Point>)> = part
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
                tried += part
                    .iter()
                    .map(|o| zoo::long_steps(o).len() as u64)
                    .sum::<u64>();
                count += own.iter().map(|own| own.0).sum::<u64>();
                found.extend(own);
            }
        }
        let mut count: u64 = found.iter().map(|own| own.0).sum();
        let mut points: Vec<Point> = found.into_iter().flat_map(|own| own.1).collect();
        for point in exact {
            if !points.contains(&point) {
                points.push(point);
                count += 1;
            }
        }
        points.sort_by_key(Point::complexity);
        points.truncate(KEPT);
        Found {
            points,
            count,
            wrong: bound,
            tried,
            more,
        }
    }

    /// The best few points with common multipliers.
    pub fn quick(&self, accumulator: &Accumulator) -> Vec<Point> {
        let outers: Vec<Outer> = zoo::outers(self.open, &zoo::Chosen::plain())
            .into_iter()
            .filter(Outer::is_common)
            .collect();
        let short = self.best(&outers, &zoo::short_steps, accumulator, &|| {});
        let order = ranked(&short).into_iter().take(6);
        order
            .map(|i| outers[i].point(&short[i].steps, None, accumulator))
            .collect()
    }

    /// For each, the steps that do best on the first elements.
    fn best(
        &self,
        outers: &[Outer],
        steps: &(dyn Fn(&Outer) -> Vec<Vec<Step>> + Sync),
        accumulator: &Accumulator,
        progress: &(dyn Fn() + Sync),
    ) -> Vec<Best> {
        let one = |outer: &Outer| {
            let mut rule = outer.rule();
            let mut best = Best {
                wrong: u64::MAX,
                steps: zoo::once(align_check_specs::Rounding::HalfEven),
                tried: 0,
            };
            for steps in steps(outer) {
                best.tried += 1;
                rule.steps = steps;
                let wrong = self.wrong_of(&rule, &outer.bias, accumulator, best.wrong, AT_FIRST);
                if let Some(wrong) = wrong.filter(|&wrong| wrong < best.wrong) {
                    best.wrong = wrong;
                    best.steps.clone_from(&rule.steps);
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
                points.push(outer.point(steps, None, accumulator));
                if points.len() == MOST_STEPS {
                    break;
                }
            }
        }
        (count, points)
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

/// Bits that the largest sum with its bias needs.
fn bits(sites: &[&Site]) -> u32 {
    let mut largest = 0u64;
    for site in sites {
        let Some(binding) = &site.binding else {
            continue;
        };
        let bias = |c: usize| {
            let unit = &binding.units[c];
            let real = || (unit.bias / (unit.x * unit.w)).abs();
            unit.code.map_or_else(real, |code| code.abs() as f64)
        };
        let biases: Vec<u64> = (0..binding.units.len())
            .map(bias)
            .map(|bias| {
                if bias.is_finite() {
                    bias.min(1e15) as u64
                } else {
                    0
                }
            })
            .collect();
        for fed in &site.fed {
            for at in 0..fed.expected.len() {
                if let Some(sum) = sum_at(&fed.sums, at) {
                    let bias = biases[binding.channels.of_index(at)];
                    largest = largest.max(sum.unsigned_abs() + bias + 1);
                }
            }
        }
    }
    65 - largest.leading_zeros()
}

/// What the scales of some layers leave open.
fn open(sites: &[&Site], bindings: &[Binding]) -> Open {
    let mut open = Open {
        left_shifts: false,
        biases: false,
        powers: true,
        bounds: false,
        per_tensor: sites.iter().all(|site| one_scale(site)),
    };
    for binding in bindings {
        for unit in &binding.units {
            let m = (unit.x * unit.w / binding.out.scale).abs();
            open.left_shifts |= m >= 1.0;
            open.biases |= unit.bias != 0.0 && unit.code.is_none();
            open.powers &= align_check_simulators::num::power_of_two(m).is_some();
        }
        let codes = [Bounds::HalfAway, Bounds::HalfEven, Bounds::HalfEvenInside]
            .map(|rule| binding.out.bounds(rule, binding.clamp));
        open.bounds |= codes[0] != codes[1] || codes[1] != codes[2];
    }
    open
}

/// Whether a layer's weights have one scale.
fn one_scale(site: &Site) -> bool {
    match &site.layer.kind {
        Kind::Linear(linear) => linear.weights.grid().is_none_or(|grid| grid.is_uniform()),
        _ => true,
    }
}
