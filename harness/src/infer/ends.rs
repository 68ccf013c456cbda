//! The search for the end of sums of products. Ends that are one function on the scales at hand are one class, and are
//! tried once. Where something is exact, or nearly so, every class is tried with all steps; else the most promising ones.

use std::collections::HashMap;

use align_check_specs::{Accumulator, Bias, BiasFormat, Multiplier, Rounding, Step, StepsTail};
use align_check_specs::{Requantize, ZeroPointPosition};
use rayon::prelude::*;

use super::point::Point;
use super::sums::{Bound, Telling};
use super::zoo::{self, Outer, Seen};

/// Most survivors that are kept one by one.
const KEPT: usize = 4_000;

/// Survivors of one class, and of all, after which only steps with a value that none of them has are tried.
const ENOUGH: (u64, u64) = (100, 4_000);

/// Classes that are tried before it is asked whether there are enough: the same for any number of threads.
const PART: usize = 16;

/// How many of the best classes are tried with all steps, where nothing reproduces the sample.
const BEAM: usize = 40;

/// Elements that tell which classes are worth a closer look.
const AT_FIRST: usize = 400;

/// Where the best end gets more than one in so many wrong, the zoo is not tried as a whole: the truth is not in it.
const NEARLY: u64 = 20;

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
    /// Whether more are as good: of those that differ in no single value from what was found, not all were tried.
    pub more: bool,
}

/// Ends that are equal on the channels that are looked at first.
struct Class {
    members: Vec<Outer>,
}

impl Class {
    fn first(&self) -> &Outer {
        &self.members[0]
    }
}

/// The best steps behind one class.
struct Best {
    wrong: u64,
    steps: Vec<Step>,
    tried: u64,
}

/// Steps, and which values they have.
type Listed = Vec<(Vec<Step>, Seen)>;

fn listed(steps: Vec<Vec<Step>>) -> Listed {
    steps
        .into_iter()
        .map(|steps| {
            let seen = Seen::of(&steps);
            (steps, seen)
        })
        .collect()
}

/// All steps that ends can have: of shifts with any mantissa, and of reals.
struct AllSteps {
    shifts: Listed,
    reals: Listed,
    q15: Listed,
}

impl AllSteps {
    fn new() -> Self {
        let outer = |multiplier| Outer {
            multiplier,
            derivation: align_check_specs::Derivation::F64,
            left_shift: align_check_specs::LeftShift::Wrap,
            zero_point: ZeroPointPosition::AfterRounding,
            bounds: None,
            bias: Bias {
                format: BiasFormat::Int32,
                rounding: Rounding::HalfEven,
            },
        };
        let fixed = outer(Multiplier::Fixed {
            bits: 31,
            rounding: Rounding::HalfAway,
        });
        let mut shifts = zoo::short_steps(&fixed);
        shifts.extend(zoo::long_steps(&fixed));
        Self {
            shifts: listed(shifts),
            reals: listed(zoo::short_steps(&outer(Multiplier::F64))),
            q15: listed(zoo::short_steps(&outer(Multiplier::Q15Reduced))),
        }
    }

    fn of(&self, multiplier: Multiplier) -> &Listed {
        match multiplier {
            Multiplier::Q15Reduced => &self.q15,
            Multiplier::Fixed { .. }
            | Multiplier::FixedAbsolute { .. }
            | Multiplier::Best { .. } => &self.shifts,
            _ => &self.reals,
        }
    }
}

/// Whether steps are legal behind a multiplier: the shifts of one in absolute fixed point add up to its bits.
fn legal(multiplier: Multiplier, seen: Seen) -> bool {
    match multiplier {
        Multiplier::FixedAbsolute { bits, .. } => seen.longest() < bits,
        _ => true,
    }
}

/// Positions, the best first.
fn ranked(all: &[Best]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by_key(|&i| (all[i].wrong, i));
    order
}

/// What one class has.
#[derive(Default)]
struct Hits {
    /// Elements that the points get wrong.
    wrong: u64,
    points: Vec<Point>,
    count: u64,
    tried: u64,
    seen: Seen,
    more: bool,
}

impl Hits {
    /// Starts anew, from fewer wrong elements.
    fn better(&mut self, wrong: u64) {
        *self = Self {
            wrong,
            tried: self.tried,
            ..Self::default()
        };
    }
}

impl Telling {
    /// Tries the zoo with one accumulator, whose sums these are. `known` are points that were tried before, `limit` is
    /// what the best of them gets wrong.
    pub fn search(
        &self,
        accumulator: &Accumulator,
        known: &[Point],
        limit: u64,
        progress: &(dyn Fn() + Sync),
    ) -> Found {
        let mut best: Vec<(u64, Point)> = Vec::new();
        for point in known {
            let mut point = point.clone();
            point.accumulator = Some(accumulator.clone());
            best.extend(self.of_point(&point, limit).map(|wrong| (wrong, point)));
        }
        let least = |best: &[(u64, Point)]| best.iter().map(|own| own.0).min().unwrap_or(limit);
        let classes = self.classes(accumulator);
        let steps = AllSteps::new();
        let mut tried = 0;
        if least(&best) > 0 {
            let (promising, count) = self.promising(&classes, &steps, accumulator, progress);
            best.extend(promising);
            tried += count;
        }
        let bound = least(&best).min(limit);
        let mut total = Hits {
            wrong: bound,
            tried,
            ..Hits::default()
        };
        if bound > self.len() as u64 / NEARLY {
            total.more = true;
        } else {
            for part in classes.chunks(PART) {
                let (seen, wrong, enough) = (total.seen, total.wrong, total.count > ENOUGH.1);
                let hits: Vec<Hits> = part
                    .par_iter()
                    .map(|class| {
                        progress();
                        self.hits(class, &steps, accumulator, (seen, wrong, enough))
                    })
                    .collect();
                for own in hits {
                    total.tried += own.tried;
                    total.more |= own.more;
                    if own.wrong < total.wrong {
                        (total.wrong, total.count) = (own.wrong, 0);
                        total.points.clear();
                        total.seen = Seen::default();
                    }
                    if own.wrong == total.wrong {
                        total.seen.add(own.seen);
                        total.count += own.count;
                        total.points.extend(own.points);
                    }
                }
            }
            let tails = self.tails(accumulator, total.wrong);
            total.count += tails.len() as u64;
            total.points.extend(tails);
        }
        // Points that are not in that product, like those of shipped targets with steps of their own.
        for (wrong, point) in best {
            if wrong == total.wrong && !total.points.contains(&point) {
                total.count += 1;
                total.points.push(point);
            }
        }
        let mut points = total.points;
        points.sort_by_key(Point::complexity);
        // Of very many, those with a value that none before has stay.
        let mut values = std::collections::HashSet::new();
        let mut position = 0;
        points.retain(|point| {
            position += 1;
            let fresh = point
                .values()
                .into_iter()
                .filter(|value| values.insert(value.clone()));
            fresh.count() > 0 || position <= KEPT
        });
        Found {
            points,
            count: total.count,
            wrong: total.wrong,
            tried: total.tried,
            more: total.more,
        }
    }

    /// The ends of the zoo, but for their steps, in classes of equal ones.
    fn classes(&self, accumulator: &Accumulator) -> Vec<Class> {
        let bind = |rule: &Requantize, bias: &Bias| self.bind(rule, bias, accumulator);
        // Biases by the integers that they add: one rule of each kind that they go with.
        let mut biases: HashMap<Vec<i64>, usize> = HashMap::new();
        let mut sorts: Vec<usize> = Vec::new();
        let every = zoo::biases(Multiplier::PowerOfTwo, self.open.biases);
        let plain = zoo::scalings(self.open)
            .into_iter()
            .find(|outer| outer.multiplier == Multiplier::F64)
            .map(|outer| outer.rule());
        for (index, bias) in every.iter().enumerate() {
            let integer = matches!(
                bias.format,
                BiasFormat::Int32 | BiasFormat::Int32ReciprocalF32
            );
            let added = plain
                .as_ref()
                .filter(|_| integer)
                .and_then(|rule| bind(rule, bias).biases());
            sorts.push(match added {
                Some(added) => *biases.entry(added).or_insert(index),
                None => index,
            });
        }
        let sort = |bias: &Bias| every.iter().position(|own| own == bias).map(|i| sorts[i]);
        // Scalings by what they multiply by.
        let all = zoo::scalings(self.open);
        let prints: Vec<Option<Vec<u64>>> = all
            .par_iter()
            .map(|outer| bind(&outer.rule(), &outer.bias).fingerprint())
            .collect();
        let mut known: HashMap<(std::mem::Discriminant<Multiplier>, Vec<u64>), usize> =
            HashMap::new();
        let mut scalings: Vec<Vec<Outer>> = Vec::new();
        for (outer, print) in all.into_iter().zip(prints) {
            let Some(print) = print else { continue };
            let key = (std::mem::discriminant(&outer.multiplier), print);
            let at = *known.entry(key).or_insert_with(|| {
                scalings.push(Vec::new());
                scalings.len() - 1
            });
            scalings[at].push(outer);
        }
        let mut classes = Vec::new();
        for scaling in &scalings {
            let mut own: Vec<(Option<usize>, Bias, Class)> = Vec::new();
            for bias in zoo::biases(scaling[0].multiplier, self.open.biases) {
                let in_bias = bias.format == BiasFormat::Int32WithZeroPoint;
                if in_bias && scaling[0].zero_point == ZeroPointPosition::InsideRounding {
                    continue;
                }
                let members = scaling.iter().map(|outer| Outer {
                    bias: bias.clone(),
                    zero_point: if in_bias {
                        ZeroPointPosition::InBias
                    } else {
                        outer.zero_point
                    },
                    ..outer.clone()
                });
                let sort = sort(&bias);
                let same =
                    |class: &&mut (Option<usize>, Bias, Class)| sort.is_some() && class.0 == sort;
                match own.iter_mut().find(same) {
                    Some((.., class)) => class.members.extend(members),
                    None => own.push((
                        sort,
                        bias.clone(),
                        Class {
                            members: members.collect(),
                        },
                    )),
                }
            }
            classes.extend(own.into_iter().map(|(.., class)| class));
        }
        classes
    }

    fn bound(&self, outer: &Outer, accumulator: &Accumulator) -> Bound<'_> {
        self.bind(&outer.rule(), &outer.bias, accumulator)
    }

    /// The best points of the most promising classes, where nothing is exact: short steps first, then all steps behind
    /// the best, then the best of those behind all.
    fn promising(
        &self,
        classes: &[Class],
        steps: &AllSteps,
        accumulator: &Accumulator,
        progress: &(dyn Fn() + Sync),
    ) -> (Vec<(u64, Point)>, u64) {
        let all: Vec<&Class> = classes.iter().collect();
        let short = |outer: &Outer| listed(zoo::short_steps(outer));
        let by_short = self.best(&all, &short, accumulator, progress);
        let beam: Vec<&Class> = ranked(&by_short)
            .into_iter()
            .map(|i| all[i])
            .filter(|class| class.first().shifts())
            .take(BEAM)
            .collect();
        let long = |outer: &Outer| steps.of(outer.multiplier).clone();
        let by_long = self.best(&beam, &long, accumulator, progress);
        let mut found = vec![(all.clone(), by_short), (beam, by_long)];
        // Multipliers that wrong steps hid.
        let mut best: Vec<Vec<Step>> = Vec::new();
        for i in ranked(&found[1].1) {
            let own = &found[1].1[i].steps;
            if !best.contains(own) && best.len() < 4 {
                best.push(own.clone());
            }
        }
        let again = |outer: &Outer| {
            if outer.shifts() {
                listed(best.clone())
            } else {
                Listed::new()
            }
        };
        let by_best = self.best(&all, &again, accumulator, progress);
        let next: Vec<&Class> = ranked(&by_best).into_iter().map(|i| all[i]).collect();
        let next: Vec<&Class> = next.into_iter().take(BEAM / 2).collect();
        let by_next = self.best(&next, &long, accumulator, progress);
        found.push((all, by_best));
        found.push((next, by_next));
        let mut points = Vec::new();
        let mut tried = 0;
        for (classes, best) in found {
            tried += best.iter().map(|own| own.tried).sum::<u64>();
            for i in ranked(&best).into_iter().take(BEAM) {
                let (outer, steps) = (classes[i].first(), &best[i].steps);
                let wrong = self
                    .bound(outer, accumulator)
                    .wrong(steps, u64::MAX, usize::MAX);
                points.extend(wrong.map(|wrong| (wrong, outer.point(steps, None, accumulator))));
            }
        }
        (points, tried)
    }

    /// For each class, the steps that do best on the first elements.
    fn best(
        &self,
        classes: &[&Class],
        steps: &(dyn Fn(&Outer) -> Listed + Sync),
        accumulator: &Accumulator,
        progress: &(dyn Fn() + Sync),
    ) -> Vec<Best> {
        let one = |class: &&Class| {
            let outer = class.first();
            let mut best = Best {
                wrong: u64::MAX,
                steps: zoo::once(Rounding::HalfEven),
                tried: 0,
            };
            let mut bound = self.bound(outer, accumulator);
            for (steps, seen) in steps(outer) {
                if !legal(outer.multiplier, seen) {
                    continue;
                }
                best.tried += 1;
                let limit = best.wrong.saturating_sub(1);
                let wrong = bound.wrong(&steps, limit, AT_FIRST);
                if let Some(wrong) = wrong.filter(|&wrong| wrong < best.wrong) {
                    best.wrong = wrong;
                    best.steps = steps;
                }
            }
            progress();
            best
        };
        classes.par_iter().map(one).collect()
    }

    /// What a class reproduces as well as the best so far, or better.
    fn hits(
        &self,
        class: &Class,
        steps: &AllSteps,
        accumulator: &Accumulator,
        (seen, limit, enough): (Seen, u64, bool),
    ) -> Hits {
        let mut hits = Hits {
            wrong: limit,
            ..Hits::default()
        };
        let outer = class.first();
        let front = self.front();
        let mut first = self.bound(outer, accumulator);
        // Where the first channels are not all, each member is tried on the others.
        let alike = front == self.len();
        let mut bounds: Vec<Option<Bound>> = Vec::new();
        bounds.resize_with(class.members.len(), || None);
        // Members that no survivor has yet.
        let mut fresh = vec![true; class.members.len()];
        for (steps, own) in steps.of(outer.multiplier) {
            if !legal(outer.multiplier, *own) {
                continue;
            }
            let mut known = seen;
            known.add(hits.seen);
            let known = known.covers(*own) && (enough || hits.count >= ENOUGH.0);
            if known && !fresh.contains(&true) {
                hits.more = true;
                continue;
            }
            hits.tried += 1;
            let Some(wrong) = first.wrong(steps, hits.wrong, front) else {
                break;
            };
            if wrong > hits.wrong {
                continue;
            }
            for (number, outer) in class.members.iter().enumerate() {
                if known && !fresh[number] {
                    hits.more = true;
                    continue;
                }
                let wrong = if alike {
                    Some(wrong)
                } else {
                    bounds[number]
                        .get_or_insert_with(|| self.bound(outer, accumulator))
                        .wrong(steps, hits.wrong, usize::MAX)
                };
                let Some(wrong) = wrong.filter(|wrong| *wrong <= hits.wrong) else {
                    continue;
                };
                if wrong < hits.wrong {
                    hits.better(wrong);
                    fresh.fill(true);
                }
                hits.seen.add(*own);
                hits.count += 1;
                // Members are listed once, and the first one with all its steps.
                if number == 0 || fresh[number] {
                    hits.points.push(outer.point(steps, None, accumulator));
                }
                fresh[number] = false;
            }
        }
        hits
    }

    /// Other steps behind the last block of channels, as vector kernels have them: both are found apart, where all
    /// elements are right.
    fn tails(&self, accumulator: &Accumulator, wrong: u64) -> Vec<Point> {
        let usual = Multiplier::Fixed {
            bits: 31,
            rounding: Rounding::HalfAway,
        };
        let outer = zoo::scalings(self.open)
            .into_iter()
            .find(|outer| outer.multiplier == usual);
        let Some(outer) = outer.filter(|_| wrong == 0) else {
            return Vec::new();
        };
        let two: Vec<Vec<Step>> = zoo::short_steps(&outer)
            .into_iter()
            .filter(|steps| steps.len() == 2)
            .collect();
        let mut bound = self.bound(&outer, accumulator);
        let mut found = Vec::new();
        for block in [4, 8, 16] {
            if !self.has_behind(block) {
                continue;
            }
            let mut right = |behind: bool| -> Vec<&Vec<Step>> {
                two.iter()
                    .filter(|steps| bound.wrong_in_blocks(steps, block, behind) == Some(0))
                    .collect()
            };
            let (inside, behind) = (right(false), right(true));
            for steps in &inside {
                for other in behind.iter().filter(|other| *other != steps) {
                    let tail = StepsTail {
                        block: block as u32,
                        steps: (*other).clone(),
                    };
                    found.push(outer.point(steps, Some(tail), accumulator));
                }
            }
        }
        found
    }
}
