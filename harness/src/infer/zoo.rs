//! The points that are tried: the product of the zoo's coordinates where it is a legal spec.
//!
//! Coordinates that cannot change a code are not multiplied out: a clamp before the rounding has integer bounds, so
//! that it commutes with every rounding.

use align_check_specs::{
    Accumulator, Bias, BiasFormat, Bounds, ClampOrder, Derivation, Division, LeftShift, Multiplier,
    Order, Overflow, Requantize, Rounding, Shift, Step, StepsTail, ZeroPointPosition,
};
use strum::VariantArray as _;

use super::point::Point;

/// Where zero points enter, of those that steps on reals can have.
pub(super) const POSITIONS: [ZeroPointPosition; 2] = [
    ZeroPointPosition::AfterRounding,
    ZeroPointPosition::InsideRounding,
];

/// Orders in which three scales are combined; the one for signed inputs is one of these on every layer.
const DERIVATIONS: [Derivation; 4] = [
    Derivation::F64,
    Derivation::F32,
    Derivation::F32ProductF64Quotient,
    Derivation::F32ProductPerTensor,
];

/// Roundings, those of known chips first.
pub(super) const ROUNDINGS: [Rounding; 10] = [
    Rounding::HalfEven,
    Rounding::HalfAway,
    Rounding::HalfUp,
    Rounding::Floor,
    Rounding::Trunc,
    Rounding::HalfDown,
    Rounding::HalfTowardZero,
    Rounding::HalfUpIfNegativeElseHalfEven,
    Rounding::Ceil,
    Rounding::Away,
];

/// Widths to which steps saturate.
const SATURATED: [u32; 4] = [8, 16, 17, 32];

/// Longest first shift of two.
const LONGEST: u32 = 62;

/// Everything about the end of sums but its steps.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outer {
    pub multiplier: Multiplier,
    pub derivation: Derivation,
    pub left_shift: LeftShift,
    pub zero_point: ZeroPointPosition,
    pub bounds: Option<Bounds>,
    pub bias: Bias,
}

/// What the data leaves open.
#[derive(Debug, Clone, Copy)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a question of its own"
)]
pub(super) struct Open {
    /// Some multiplier is above one.
    pub left_shifts: bool,
    /// Some bias is a real that has to be rounded.
    pub biases: bool,
    /// All multipliers are powers of two.
    pub powers: bool,
    /// Bounds of fused activations depend on how they are rounded.
    pub bounds: bool,
    /// The weights of every layer have one scale.
    pub per_tensor: bool,
}

impl Outer {
    /// The rule without its steps.
    pub fn rule(&self) -> Requantize {
        Requantize {
            multiplier: self.multiplier,
            derivation: self.derivation,
            steps: Vec::new(),
            left_shift: self.left_shift,
            zero_point: self.zero_point,
            clamp: ClampOrder::AfterRounding,
            bias: None,
            bounds: self.bounds,
            tail: None,
        }
    }

    /// The point with one set of steps.
    pub fn point(&self, steps: &[Step], tail: Option<StepsTail>, width: &Accumulator) -> Point {
        Point {
            requantize: Some(Requantize {
                steps: steps.to_vec(),
                tail,
                ..self.rule()
            }),
            bias: Some(self.bias.clone()),
            accumulator: Some(width.clone()),
            ..Point::default()
        }
    }

    /// Whether steps are shifts.
    pub fn shifts(&self) -> bool {
        matches!(
            self.multiplier,
            Multiplier::Fixed { .. }
                | Multiplier::FixedAbsolute { .. }
                | Multiplier::Best { .. }
                | Multiplier::Q15Reduced
        )
    }
}

/// The accumulator that most chips have.
pub(super) fn int32() -> Accumulator {
    Accumulator {
        bits: Some(32),
        overflow: Overflow::Wrap,
        order: Order::ChannelFirst,
        pairs: None,
    }
}

fn exact() -> Accumulator {
    Accumulator {
        bits: None,
        overflow: Overflow::Exact,
        order: Order::ChannelFirst,
        pairs: None,
    }
}

/// The accumulator that stands for all that nothing leaves: 64 bits where sums leave 32.
pub(super) fn wide(bits: u32) -> Accumulator {
    if bits <= 32 { int32() } else { exact() }
}

/// Multipliers, simple ones first.
fn multipliers(powers: bool) -> Vec<Multiplier> {
    let mut multipliers = vec![Multiplier::F32, Multiplier::F64, Multiplier::Exact];
    if powers {
        multipliers.insert(0, Multiplier::PowerOfTwo);
    }
    for division in [Division::DivideF32, Division::ReciprocalF32] {
        multipliers.push(Multiplier::F32TwoSteps { division });
    }
    multipliers.push(Multiplier::Q15Reduced);
    for bits in [31, 7] {
        multipliers.push(Multiplier::Best { bits });
    }
    let mut widths: Vec<u32> = (8..=32).collect();
    // Known widths first.
    widths.sort_by_key(|bits| match bits {
        31 => 0,
        15 | 16 => 1,
        8 | 24 | 32 => 2,
        _ => 3,
    });
    for &bits in &widths {
        for rounding in ROUNDINGS {
            multipliers.push(Multiplier::Fixed { bits, rounding });
        }
    }
    for &bits in &widths {
        for rounding in ROUNDINGS {
            multipliers.push(Multiplier::F32Reduced { bits, rounding });
            multipliers.push(Multiplier::F64Reduced { bits, rounding });
            multipliers.push(Multiplier::FixedAbsolute { bits, rounding });
        }
    }
    multipliers
}

/// Everything but steps and bias, simple ones first; with the plainest bias.
pub(super) fn scalings(open: Open) -> Vec<Outer> {
    let mut found = Vec::new();
    let all_bounds = [
        None,
        Some(Bounds::HalfAway),
        Some(Bounds::HalfEven),
        Some(Bounds::HalfEvenInside),
    ];
    let bounds = if open.bounds {
        &all_bounds[..]
    } else {
        &all_bounds[..1]
    };
    for multiplier in multipliers(open.powers) {
        let fixed = matches!(
            multiplier,
            Multiplier::Fixed { .. } | Multiplier::FixedAbsolute { .. } | Multiplier::Best { .. }
        );
        let integer =
            fixed || matches!(multiplier, Multiplier::Q15Reduced | Multiplier::PowerOfTwo);
        let positions = &POSITIONS[..if integer { 1 } else { 2 }];
        let derived = !matches!(multiplier, Multiplier::Exact | Multiplier::PowerOfTwo);
        let derivations = &DERIVATIONS[..if derived { DERIVATIONS.len() } else { 1 }];
        let lefts: &[LeftShift] = if fixed && open.left_shifts {
            LeftShift::VARIANTS
        } else {
            &[LeftShift::Wrap]
        };
        for &derivation in derivations {
            for &left_shift in lefts {
                for &zero_point in positions {
                    for &bounds in bounds {
                        found.push(Outer {
                            multiplier,
                            derivation,
                            left_shift,
                            zero_point,
                            bounds,
                            bias: biases(multiplier, false)[0].clone(),
                        });
                    }
                }
            }
        }
    }
    found
}

/// Gives decisions that cannot change a code their plainest value.
pub(super) fn plain(rule: &mut Requantize, bias: Option<&mut Bias>, open: Open) {
    let shifts = matches!(
        rule.multiplier,
        Multiplier::Fixed { .. } | Multiplier::FixedAbsolute { .. } | Multiplier::Best { .. }
    );
    if !(shifts && open.left_shifts) {
        rule.left_shift = LeftShift::Wrap;
    }
    if matches!(rule.multiplier, Multiplier::Exact | Multiplier::PowerOfTwo) {
        rule.derivation = Derivation::F64;
    }
    if rule.derivation == Derivation::F32ProductPerTensor {
        rule.derivation = if open.per_tensor {
            Derivation::F32ProductF64Quotient
        } else {
            Derivation::F64
        };
    }
    if rule.multiplier == Multiplier::PowerOfTwo
        && let Some(first) = rule.steps.first()
    {
        // A shift has one rounding, and a result without steps of its own.
        rule.steps = once(first.rounding);
    }
    if !open.bounds {
        rule.bounds = None;
    }
    if let Some(bias) = bias {
        let integer = matches!(
            bias.format,
            BiasFormat::Int32 | BiasFormat::Int32ReciprocalF32
        );
        if !open.biases && integer {
            bias.format = BiasFormat::Int32;
        }
        if (!open.biases || !integer)
            && !matches!(
                bias.format,
                BiasFormat::Int8Shifted | BiasFormat::Int8Times128
            )
        {
            bias.rounding = Rounding::HalfEven;
        }
    }
}

/// The biases that a multiplier can go with, the plainest one first; with another zero point where they hold it.
pub(super) fn biases(multiplier: Multiplier, open: bool) -> Vec<Bias> {
    let bias = |format, rounding| Bias { format, rounding };
    if multiplier == Multiplier::Exact {
        return vec![bias(BiasFormat::Exact, Rounding::HalfEven)];
    }
    let mut found = vec![bias(BiasFormat::Int32, Rounding::HalfEven)];
    found.push(bias(BiasFormat::Int32WithZeroPoint, Rounding::HalfEven));
    if open {
        for rounding in &ROUNDINGS[1..] {
            found.push(bias(BiasFormat::Int32, *rounding));
        }
        found.push(bias(BiasFormat::Int32ReciprocalF32, Rounding::HalfEven));
        found.push(bias(BiasFormat::Int32ReciprocalF32, Rounding::HalfAway));
    }
    if matches!(
        multiplier,
        Multiplier::F32 | Multiplier::F32TwoSteps { .. } | Multiplier::F64
    ) {
        found.push(bias(BiasFormat::F32InAccumulator, Rounding::HalfEven));
    }
    if matches!(multiplier, Multiplier::F32TwoSteps { .. }) {
        found.push(bias(BiasFormat::F32AfterScale, Rounding::HalfEven));
    }
    if multiplier == Multiplier::PowerOfTwo {
        for rounding in ROUNDINGS {
            found.push(bias(BiasFormat::Int8Shifted, rounding));
            found.push(bias(BiasFormat::Int8Times128, rounding));
        }
    }
    found
}

pub(super) fn step(shift: Shift, rounding: Rounding, saturate: Option<u32>) -> Step {
    Step {
        shift,
        rounding,
        saturate,
    }
}

/// One rounding of everything that is dropped.
pub(super) fn once(rounding: Rounding) -> Vec<Step> {
    vec![step(Shift::Rest, rounding, None)]
}

/// Steps that known chips have, and single roundings.
pub(super) fn short_steps(outer: &Outer) -> Vec<Vec<Step>> {
    if outer.multiplier == Multiplier::Q15Reduced {
        return vec![once(Rounding::HalfUp)];
    }
    let mut steps: Vec<Vec<Step>> = ROUNDINGS.into_iter().map(once).collect();
    if !outer.shifts() {
        return steps;
    }
    for (first, shift) in [
        (Rounding::HalfUp, 31),
        (Rounding::HalfAway, 31),
        (Rounding::HalfEven, 31),
        (Rounding::Floor, 31),
        (Rounding::Floor, 16),
        (Rounding::Floor, 15),
    ] {
        for last in ROUNDINGS {
            let first = step(Shift::By(shift), first, None);
            steps.push(vec![first, step(Shift::Rest, last, None)]);
        }
    }
    steps
}

/// Two steps with every first shift, and steps that saturate.
pub(super) fn long_steps(outer: &Outer) -> Vec<Vec<Step>> {
    if outer.multiplier == Multiplier::Q15Reduced || !outer.shifts() {
        return Vec::new();
    }
    let most = match outer.multiplier {
        // The shifts of these add up to the multiplier's bits.
        Multiplier::FixedAbsolute { bits, .. } => bits - 1,
        _ => LONGEST,
    };
    let mut steps = Vec::new();
    for shift in (1..=most).rev() {
        for first in ROUNDINGS {
            for last in ROUNDINGS {
                let first = step(Shift::By(shift), first, None);
                steps.push(vec![first, step(Shift::Rest, last, None)]);
            }
        }
    }
    for bits in SATURATED {
        for last in ROUNDINGS {
            steps.push(vec![step(Shift::Rest, last, Some(bits))]);
            for (shift, first) in [(31, Rounding::HalfUp), (16, Rounding::Floor)] {
                let plain = step(Shift::By(shift), first, None);
                let narrow = step(Shift::By(shift), first, Some(bits));
                steps.push(vec![plain, step(Shift::Rest, last, Some(bits))]);
                steps.push(vec![narrow, step(Shift::Rest, last, None)]);
            }
        }
    }
    steps
}

/// Values of single decisions about steps.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    shifts: u64,
    /// Roundings of a first step of two, and of the last one.
    roundings: [u16; 2],
    saturated: u8,
}

impl Seen {
    /// Those of some steps.
    pub fn of(steps: &[Step]) -> Self {
        let mut seen = Self::default();
        for (index, step) in steps.iter().enumerate() {
            let last = usize::from(index + 1 == steps.len());
            seen.shifts |= match step.shift {
                Shift::By(bits) => 1 << bits.min(63),
                Shift::Rest => 0,
            };
            seen.roundings[last] |= 1 << (step.rounding as u16);
            let width = |bits| SATURATED.iter().position(|own| *own == bits).unwrap_or(4);
            seen.saturated |= step.saturate.map_or(0, |bits| 1 << width(bits));
        }
        seen
    }

    /// Whether another one has none that is not here.
    pub fn covers(self, other: Self) -> bool {
        other.shifts & !self.shifts == 0
            && other.roundings[0] & !self.roundings[0] == 0
            && other.roundings[1] & !self.roundings[1] == 0
            && other.saturated & !self.saturated == 0
    }

    /// The longest shift but the rest.
    pub fn longest(self) -> u32 {
        self.shifts.checked_ilog2().unwrap_or(0)
    }

    pub fn add(&mut self, other: Self) {
        self.shifts |= other.shifts;
        self.roundings[0] |= other.roundings[0];
        self.roundings[1] |= other.roundings[1];
        self.saturated |= other.saturated;
    }
}
