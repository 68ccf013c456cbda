//! The points that are tried of operations that are no sums of products.

use align_check_specs::{
    Accumulator, ClampOrder, Derivation, Division, LeftShift, Multiplier, Quantize, Requantize,
    Rounding, Step, ZeroPointPosition,
};

use super::op_rule::{OpRule, Refers};
use super::point::Point;
use super::zoo::{Open, Outer, POSITIONS, ROUNDINGS, int32, once, scalings, short_steps};

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
    let per_tensor = |outer: &Outer| outer.derivation == Derivation::F32ProductPerTensor;
    let mut found = Vec::new();
    for outer in scalings(open)
        .iter()
        .filter(|outer| common(outer) && !per_tensor(outer))
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
/// For rules that refer to none.
const PLAIN: Quantize = Quantize {
    division: Division::DivideF32,
    rounding: Rounding::HalfEven,
    zero_point: ZeroPointPosition::AfterRounding,
    tail: None,
};

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
        let real = || quantizes.first().cloned().unwrap_or(PLAIN);
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
