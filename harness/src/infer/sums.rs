//! The most telling elements of sums of products, and how many of them an end of sums gets wrong: exact sums are made
//! once, then some million ends are tried on them.

use align_check_simulators::network::Kind;
use align_check_simulators::plan::Binding;
use align_check_simulators::rules::requantize::Requantizer;
use align_check_simulators::run::Sums;
use align_check_simulators::tensor::Data;
use align_check_specs::{
    Accumulator, Bias, BiasFormat, Bounds, Derivation, Multiplier, Requantize, Step,
};

use super::feed::Site;
use super::point::Point;
use super::zoo::Open;

/// Channels by which ends are told apart before they are tried.
const FRONT: usize = 64;

/// A sum, and what was recorded for it.
#[derive(Debug, Clone, Copy)]
struct Element {
    slot: usize,
    sum: i64,
    expected: i32,
    /// Position of the layer, of its sample, and in the tensor.
    place: (usize, usize, usize),
}

/// The most telling elements of the layers of one kind.
#[derive(Debug, Clone)]
pub(super) struct Telling {
    /// Of each layer.
    bindings: Vec<Binding>,
    /// Layers and channels of the elements; those of the most telling ones first.
    slots: Vec<(usize, usize)>,
    /// The most telling ones first, of all layers in turn.
    elements: Vec<Element>,
    /// For each layer, the channel with the largest multiplier.
    largest: Vec<usize>,
    /// Bits that the largest sum with its bias needs.
    pub bits: u32,
    /// What the scales leave open.
    pub open: Open,
}

pub(super) fn sum_at(sums: &Sums, at: usize) -> Option<i64> {
    match sums {
        Sums::I32(sums) => sums.get(at).map(|&sum| i64::from(sum)),
        Sums::I64(sums, _) => sums.get(at).copied(),
        Sums::None | Sums::Real(_) => None,
    }
}

impl Telling {
    /// `None` where a layer's sums end otherwise than in one requantization.
    pub fn new(sites: &[&Site], telling: &[Vec<Vec<usize>>]) -> Option<Self> {
        let mut bindings: Vec<Binding> = Vec::new();
        let mut ranked: Vec<(usize, usize, Element)> = Vec::new();
        for (index, (site, telling)) in sites.iter().zip(telling).enumerate() {
            let binding = site.binding.as_ref()?;
            for (number, (fed, chosen)) in site.fed.iter().zip(telling).enumerate() {
                let Data::Codes { codes, .. } = &fed.expected.data else {
                    return None;
                };
                for (rank, &at) in chosen.iter().enumerate() {
                    let element = Element {
                        slot: 0,
                        sum: sum_at(&fed.sums, at)?,
                        expected: codes[at],
                        place: (index, number, at),
                    };
                    ranked.push((rank, binding.channels.of_index(at), element));
                }
            }
            bindings.push(binding.clone());
        }
        ranked.sort_by_key(|(rank, _, element)| (*rank, element.place));
        let mut slots: Vec<(usize, usize)> = Vec::new();
        let mut known = std::collections::HashMap::new();
        let mut elements: Vec<Element> = ranked
            .into_iter()
            .map(|(_, channel, element)| {
                let own = (element.place.0, channel);
                let slot = *known.entry(own).or_insert_with(|| {
                    slots.push(own);
                    slots.len() - 1
                });
                Element { slot, ..element }
            })
            .collect();
        elements.sort_by_key(|element| element.slot >= FRONT);
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
            slots,
            elements,
            largest,
            bits: bits(sites),
        })
    }

    /// The same elements with other sums than the exact ones, of each layer and sample.
    pub fn with(&self, sums: &[Vec<Sums>]) -> Option<Self> {
        let mut own = self.clone();
        for element in &mut own.elements {
            let (site, number, at) = element.place;
            element.sum = sum_at(&sums[site][number], at)?;
        }
        Some(own)
    }

    /// Those elements whose positions in the list are wanted.
    pub fn only(&self, wanted: &dyn Fn(usize) -> bool) -> Self {
        let mut own = self.clone();
        let mut position = 0;
        own.elements.retain(|_| {
            position += 1;
            wanted(position - 1)
        });
        own
    }

    /// The sums, in the order of the elements.
    pub fn sums(&self) -> impl Iterator<Item = i64> {
        self.elements.iter().map(|element| element.sum)
    }

    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// How many elements, the first ones, belong to the channels that are looked at first.
    pub fn front(&self) -> usize {
        self.elements
            .partition_point(|element| element.slot < FRONT)
    }

    /// An end bound to the scales.
    pub fn bind<'t>(
        &'t self,
        rule: &Requantize,
        bias: &Bias,
        accumulator: &Accumulator,
    ) -> Bound<'t> {
        let mut rule = rule.clone();
        if rule.derivation == Derivation::F32ProductPerTensor {
            rule.derivation = if self.open.per_tensor {
                Derivation::F32ProductF64Quotient
            } else {
                Derivation::F64
            };
        }
        // Whether a channel's end depends on the other channels.
        let whole = rule.tail.is_some() || bias.format == BiasFormat::Int8Shifted;
        Bound {
            told: self,
            rule,
            bias: bias.clone(),
            accumulator: accumulator.clone(),
            whole,
            held: Vec::new(),
            order: Vec::new(),
        }
    }

    /// Elements of the sample that a point gets wrong, where counting ends above `limit`; nothing where the point is
    /// outside this search, or fits the scales nowhere. The sums must be those of the point's accumulator, unless it wraps.
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
        self.bind(rule, bias, accumulator)
            .wrong(&rule.steps, limit, usize::MAX)
    }
}

/// An end of sums on the scales of the telling elements; its steps may change.
pub(super) struct Bound<'t> {
    told: &'t Telling,
    rule: Requantize,
    bias: Bias,
    accumulator: Accumulator,
    whole: bool,
    /// Of channels, or where one depends on the others, of layers.
    held: Vec<Option<Requantizer>>,
    /// The elements; those that refuted steps move to the front.
    order: Vec<u32>,
}

impl Bound<'_> {
    fn fill(&mut self, slot: usize) -> Option<(usize, usize)> {
        let (site, own) = self.told.slots[slot];
        let binding = &self.told.bindings[site];
        let (held, channel) = if self.whole { (site, own) } else { (slot, 0) };
        if held >= self.held.len() {
            self.held.resize_with(held + 1, || None);
        }
        if self.held[held].is_none() {
            let single;
            let pair;
            let units = if self.whole {
                &binding.units[..]
            } else if matches!(self.rule.multiplier, Multiplier::FixedAbsolute { .. }) {
                // One position for all channels follows from the largest multiplier: that channel goes with each.
                pair = [binding.units[own], binding.units[self.told.largest[site]]];
                &pair[..]
            } else {
                single = [binding.units[own]];
                &single[..]
            };
            let made = Requantizer::new(
                &self.rule,
                &self.bias,
                &self.accumulator,
                units,
                binding.out,
                binding.clamp,
            );
            self.held[held] = Some(made.ok()?);
        }
        Some((held, channel))
    }

    /// Elements of the first so many that are wrong by some steps; counting ends above `limit`.
    pub fn wrong(&mut self, steps: &[Step], limit: u64, first: usize) -> Option<u64> {
        let count = self.told.elements.len().min(first);
        if self.order.len() != count {
            self.order = (0..count as u32).collect();
        }
        let mut wrong = 0;
        for position in 0..count {
            let number = self.order[position];
            let element = self.told.elements[number as usize];
            let (held, channel) = self.fill(element.slot)?;
            let end = self.held[held].as_ref()?;
            let code = if self.rule.tail.is_some() {
                end.code(element.sum, channel, false).value
            } else {
                end.code_by(steps, element.sum, channel)
            };
            if code != element.expected {
                wrong += 1;
                self.order.swap(position, position / 2);
                if wrong > limit {
                    break;
                }
            }
        }
        Some(wrong)
    }

    /// What tells this end from others but for the steps, on the channels that are looked at first.
    pub fn fingerprint(&mut self) -> Option<Vec<u64>> {
        let mut all = Vec::new();
        for slot in 0..self.told.slots.len().min(FRONT) {
            let (held, _) = self.fill(slot)?;
            all.extend(self.held[held].as_ref()?.fingerprint());
        }
        Some(all)
    }

    /// The integers that the bias adds, on these channels.
    pub fn biases(&mut self) -> Option<Vec<i64>> {
        let mut all = Vec::new();
        for slot in 0..self.told.slots.len().min(FRONT) {
            let (held, channel) = self.fill(slot)?;
            all.push(self.held[held].as_ref()?.initial(channel));
        }
        Some(all)
    }

    /// Elements whose channels lie behind the last whole block of a layer, or before it, that are wrong by some steps.
    pub fn wrong_in_blocks(&mut self, steps: &[Step], block: usize, behind: bool) -> Option<u64> {
        let mut wrong = 0;
        for number in 0..self.told.elements.len() {
            let element = self.told.elements[number];
            if self.told.is_behind(element.slot, block) != behind {
                continue;
            }
            let (held, channel) = self.fill(element.slot)?;
            let code = self.held[held]
                .as_ref()?
                .code_by(steps, element.sum, channel);
            if code != element.expected {
                wrong += 1;
                break;
            }
        }
        Some(wrong)
    }
}

impl Telling {
    fn is_behind(&self, slot: usize, block: usize) -> bool {
        let (site, channel) = self.slots[slot];
        let channels = self.bindings[site].units.len();
        channel >= channels - channels % block
    }

    /// Whether an element lies behind the last whole block of its layer's channels.
    pub fn has_behind(&self, block: usize) -> bool {
        (0..self.slots.len()).any(|slot| self.is_behind(slot, block))
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
            for (channel, run) in binding.channels.runs(fed.expected.len()) {
                let own = match &*fed.sums {
                    Sums::I32(sums) => sums[run].iter().map(|s| u64::from(s.unsigned_abs())).max(),
                    Sums::I64(sums, _) => sums[run].iter().map(|s| s.unsigned_abs()).max(),
                    Sums::None | Sums::Real(_) => None,
                };
                if let Some(own) = own {
                    largest = largest.max(own + biases[channel] + 1);
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
