//! The points that are tried: the product of the zoo's coordinates where it is a legal spec.
//!
//! Coordinates that cannot change a code are not multiplied out: a clamp before the rounding has integer bounds, so
//! that it commutes with every rounding.

use align_check_specs::{
    Accumulator, Bias, BiasFormat, Bounds, ClampOrder, Derivation, Division, LeftShift, Multiplier,
    Order, Overflow, Quantize, Requantize, Rounding, Shift, Step, StepsTail, ZeroPointPosition,
};
use strum::VariantArray as _;

use super::point::{OpRule, Point, Refers};

/// Where zero points enter, of those that steps on reals can have.
const POSITIONS: [ZeroPointPosition; 2] = [
    ZeroPointPosition::AfterRounding,
    ZeroPointPosition::InsideRounding,
];

/// Orders in which three scales are combined; the two others are one of these on every layer.
const DERIVATIONS: [Derivation; 3] = [
    Derivation::F64,
    Derivation::F32,
    Derivation::F32ProductF64Quotient,
];

/// Roundings, those of known chips first.
const ROUNDINGS: [Rounding; 10] = [
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

    /// What multipliers of other widths and roundings share.
    pub fn family(
        &self,
    ) -> (
        std::mem::Discriminant<Multiplier>,
        ZeroPointPosition,
        BiasFormat,
    ) {
        (
            std::mem::discriminant(&self.multiplier),
            self.zero_point,
            self.bias.format,
        )
    }

    /// Whether this stands for its family: widths some bits apart, few roundings.
    pub fn is_common(&self) -> bool {
        let width = |bits: u32, rounding| {
            matches!(
                bits,
                8 | 9 | 10 | 11 | 12 | 14 | 16 | 20 | 24 | 28 | 31 | 32
            ) && matches!(
                rounding,
                Rounding::HalfEven | Rounding::HalfAway | Rounding::Floor | Rounding::Ceil
            )
        };
        let multiplier = match self.multiplier {
            Multiplier::Fixed { bits, rounding }
            | Multiplier::FixedAbsolute { bits, rounding }
            | Multiplier::F32Reduced { bits, rounding }
            | Multiplier::F64Reduced { bits, rounding } => width(bits, rounding),
            _ => true,
        };
        let bias = matches!(self.bias.rounding, Rounding::HalfEven | Rounding::Floor);
        multiplier && bias && self.left_shift == LeftShift::Wrap
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

/// What is decided apart from multipliers and steps.
#[derive(Debug, Clone)]
pub(super) struct Chosen {
    bounds: Vec<Option<Bounds>>,
    lefts: Vec<LeftShift>,
    /// Biases that are integers in the accumulator; none: all that the data tells apart.
    biases: Vec<Bias>,
}

impl Chosen {
    /// The plainest of each.
    pub fn plain() -> Self {
        Self {
            bounds: vec![None],
            lefts: vec![LeftShift::Wrap],
            biases: vec![Bias {
                format: BiasFormat::Int32,
                rounding: Rounding::HalfEven,
            }],
        }
    }

    /// Those of some points, the plainest where nothing is open.
    pub fn of(points: &[Point], open: Open) -> Self {
        let mut chosen = Self {
            bounds: Vec::new(),
            lefts: Vec::new(),
            biases: Vec::new(),
        };
        for point in points {
            let (Some(rule), Some(bias)) = (&point.requantize, &point.bias) else {
                continue;
            };
            if !chosen.bounds.contains(&rule.bounds) && chosen.bounds.len() < 2 {
                chosen.bounds.push(rule.bounds);
            }
            if !chosen.lefts.contains(&rule.left_shift) && chosen.lefts.len() < 2 {
                chosen.lefts.push(rule.left_shift);
            }
            let integer = matches!(
                bias.format,
                BiasFormat::Int32 | BiasFormat::Int32ReciprocalF32
            );
            if integer && !chosen.biases.contains(bias) && chosen.biases.len() < 3 {
                chosen.biases.push(bias.clone());
            }
        }
        let plain = Self::plain();
        if chosen.bounds.is_empty() || !open.bounds {
            chosen.bounds = plain.bounds;
        }
        if chosen.lefts.is_empty() || !open.left_shifts {
            chosen.lefts = plain.lefts;
        }
        if chosen.biases.is_empty() {
            chosen.biases = plain.biases;
        }
        chosen
    }
}

/// A point with another bound, shift to the left or bias.
pub(super) fn apart(point: &Point, open: Open) -> Vec<Point> {
    let mut found = Vec::new();
    let (Some(rule), Some(_)) = (&point.requantize, &point.bias) else {
        return found;
    };
    let mut with = |change: &dyn Fn(&mut Requantize, &mut Bias)| {
        let mut other = point.clone();
        if let (Some(rule), Some(bias)) = (&mut other.requantize, &mut other.bias) {
            change(rule, bias);
        }
        if other != *point {
            found.push(other);
        }
    };
    if open.bounds {
        for bounds in [
            Some(Bounds::HalfAway),
            Some(Bounds::HalfEven),
            Some(Bounds::HalfEvenInside),
        ] {
            with(&|rule, _| rule.bounds = bounds);
            for bias in biases(rule.multiplier, open.biases) {
                with(&|rule, own| {
                    rule.bounds = bounds;
                    if (bias.format == BiasFormat::Int32WithZeroPoint)
                        == (rule.zero_point == ZeroPointPosition::InBias)
                    {
                        own.clone_from(&bias);
                    }
                });
            }
        }
    }
    if open.left_shifts {
        for &left in LeftShift::VARIANTS {
            with(&|rule, _| rule.left_shift = left);
        }
    }
    for bias in biases(rule.multiplier, open.biases) {
        with(&|rule, own| {
            if (bias.format == BiasFormat::Int32WithZeroPoint)
                == (rule.zero_point == ZeroPointPosition::InBias)
            {
                own.clone_from(&bias);
            }
        });
    }
    found
}

/// Everything but steps, simple ones first.
pub(super) fn outers(open: Open, chosen: &Chosen) -> Vec<Outer> {
    let mut multipliers = vec![Multiplier::F32, Multiplier::F64, Multiplier::Exact];
    if open.powers {
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
    let mut outers = Vec::new();
    let bounds = &chosen.bounds[..];
    for multiplier in multipliers {
        let fixed = matches!(
            multiplier,
            Multiplier::Fixed { .. } | Multiplier::FixedAbsolute { .. } | Multiplier::Best { .. }
        );
        let shifts = fixed || multiplier == Multiplier::Q15Reduced;
        let positions: &[ZeroPointPosition] = if shifts || multiplier == Multiplier::PowerOfTwo {
            &POSITIONS[..1]
        } else {
            &POSITIONS
        };
        let derived = !matches!(multiplier, Multiplier::Exact | Multiplier::PowerOfTwo);
        let derivations = if derived {
            &DERIVATIONS[..]
        } else {
            &DERIVATIONS[..1]
        };
        let lefts: &[LeftShift] = if fixed {
            &chosen.lefts
        } else {
            &[LeftShift::Wrap]
        };
        let biases: Vec<Bias> = biases(multiplier, open.biases)
            .into_iter()
            .filter(|bias| {
                let integer = matches!(
                    bias.format,
                    BiasFormat::Int32 | BiasFormat::Int32ReciprocalF32
                );
                !integer || chosen.biases.contains(bias)
            })
            .collect();
        for &derivation in derivations {
            for &left_shift in lefts {
                for &zero_point in positions {
                    for bias in biases.clone() {
                        let in_bias = bias.format == BiasFormat::Int32WithZeroPoint;
                        if in_bias && zero_point == ZeroPointPosition::InsideRounding {
                            continue;
                        }
                        let zero_point = if in_bias {
                            ZeroPointPosition::InBias
                        } else {
                            zero_point
                        };
                        for &bounds in bounds {
                            outers.push(Outer {
                                multiplier,
                                derivation,
                                left_shift,
                                zero_point,
                                bounds,
                                bias: bias.clone(),
                            });
                        }
                    }
                }
            }
        }
    }
    outers
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

/// The biases that a multiplier can go with.
fn biases(multiplier: Multiplier, open: bool) -> Vec<Bias> {
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

fn step(shift: Shift, rounding: Rounding, saturate: Option<u32>) -> Step {
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

/// Requantizations for operations that refer to one.
pub(super) fn requantizes(powers: bool) -> Vec<Requantize> {
    let open = Open {
        left_shifts: true,
        biases: false,
        powers,
        bounds: false,
        per_tensor: false,
    };
    let common = |outer: &Outer| match outer.multiplier {
        Multiplier::Fixed { bits, rounding } => {
            bits == 31
                || (matches!(bits, 8 | 15 | 16 | 24 | 32)
                    && matches!(
                        rounding,
                        Rounding::HalfAway | Rounding::HalfEven | Rounding::Floor
                    ))
        }
        Multiplier::FixedAbsolute { bits, rounding } => {
            bits == 31 && rounding == Rounding::HalfAway
        }
        Multiplier::F32Reduced { .. } | Multiplier::F64Reduced { .. } => false,
        _ => true,
    };
    let plain = |outer: &Outer| {
        matches!(outer.bias.format, BiasFormat::Int32 | BiasFormat::Exact)
            && outer.bias.rounding == Rounding::HalfEven
    };
    let mut found = Vec::new();
    let chosen = Chosen {
        lefts: LeftShift::VARIANTS.to_vec(),
        ..Chosen::plain()
    };
    for outer in outers(open, &chosen)
        .iter()
        .filter(|o| common(o) && plain(o))
    {
        for steps in short_steps(outer).into_iter().take(40) {
            found.extend(outer.point(&steps, None, &int32()).requantize);
        }
    }
    found
}

/// Rules for reals that become codes.
pub(super) fn quantizes() -> Vec<Quantize> {
    let mut found = Vec::new();
    for division in [
        Division::DivideF32,
        Division::ReciprocalF32,
        Division::DivideF64,
    ] {
        for zero_point in POSITIONS {
            for rounding in ROUNDINGS {
                found.push(Quantize {
                    division,
                    rounding,
                    zero_point,
                    tail: None,
                });
            }
        }
    }
    for rounding in ROUNDINGS {
        found.push(Quantize {
            division: Division::FakeQuantize,
            rounding,
            zero_point: ZeroPointPosition::InsideRounding,
            tail: None,
        });
    }
    found
}

/// All points of an operation that is no sum of products.
pub(super) fn op_points(
    label: &str,
    requantizes: &[(Requantize, Accumulator)],
    quantizes: &[Quantize],
) -> Vec<Point> {
    let mut found = Vec::new();
    for rule in OpRule::all(label) {
        let point = |requantize: &dyn Fn() -> Requantize,
                     accumulator: &dyn Fn() -> Accumulator,
                     quantize: &dyn Fn() -> Quantize| {
            Point::with(rule, requantize, accumulator, quantize)
        };
        let none = || Requantize {
            multiplier: Multiplier::F64,
            derivation: Derivation::F64,
            steps: once(Rounding::HalfEven),
            left_shift: LeftShift::Wrap,
            zero_point: ZeroPointPosition::AfterRounding,
            clamp: ClampOrder::AfterRounding,
            bias: None,
            bounds: None,
            tail: None,
        };
        let real = || quantizes[0].clone();
        match rule.refers() {
            Refers::Nothing => found.push(point(&none, &int32, &real)),
            Refers::Requantize => {
                for (requantize, accumulator) in requantizes {
                    found.push(point(
                        &|| requantize.clone(),
                        &|| accumulator.clone(),
                        &real,
                    ));
                }
            }
            Refers::Steps => {
                let q31 = Multiplier::Fixed {
                    bits: 31,
                    rounding: Rounding::HalfAway,
                };
                let mut steps: Vec<Vec<Step>> = ROUNDINGS.into_iter().map(once).collect();
                for (own, _) in requantizes {
                    if !steps.contains(&own.steps) {
                        steps.push(own.steps.clone());
                    }
                }
                for steps in steps {
                    let rule = || Requantize {
                        multiplier: q31,
                        steps: steps.clone(),
                        ..none()
                    };
                    found.push(point(&rule, &int32, &real));
                }
            }
            Refers::Rounding => {
                for multiplier in [Multiplier::PowerOfTwo, Multiplier::F64] {
                    for rounding in ROUNDINGS {
                        let rule = || Requantize {
                            multiplier,
                            steps: once(rounding),
                            ..none()
                        };
                        found.push(point(&rule, &int32, &real));
                    }
                }
            }
            Refers::Quantize => {
                for quantize in quantizes {
                    found.push(point(&none, &int32, &|| quantize.clone()));
                }
            }
        }
    }
    found
}
