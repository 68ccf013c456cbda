//! Sums and products of two quantized tensors.

use align_check_graph::Binary;
use align_check_specs::{
    AddRule, Derivation, LeftShift, MulRule, Requantize, Rounding, Spec, ZeroPointPosition,
};

use super::Labels;
use super::real::RealQuantizer;
use super::unary::{factor, last_rounding, shift_rounding};
use crate::num::{self, FixedMultiplier};
use crate::ops::real::binary;

/// A function from two stored codes to a stored code.
pub type PairFunction = Box<dyn Fn(i32, i32) -> i32 + Send + Sync>;

/// Whether the first operand of a result is one element over its innermost run: along its last axis that is
/// longer than one. So is the only element of a result.
pub fn repeats_first(shapes: [&[usize]; 2], out: &[usize]) -> bool {
    let behind = out.iter().rev().position(|&extent| extent != 1);
    behind.is_none_or(|behind| {
        let first = shapes[0];
        first.len() <= behind || first[first.len() - 1 - behind] == 1
    })
}

/// `[ops] add`, for `a + b` and `a - b`. `None`: the rule is the reference's, or knows no subtraction.
/// `repeats_first` is [that function](repeats_first()) of the operands' shapes.
pub fn add(
    rule: AddRule,
    spec: &Spec,
    op: Binary,
    [a, b]: [Labels; 2],
    out: Labels,
    repeats_first: bool,
) -> Option<PairFunction> {
    let sign = if op == Binary::Sub { -1 } else { 1 };
    Some(match rule {
        AddRule::Exact => return None,
        AddRule::F32 => {
            let quantizer = RealQuantizer::new(&spec.quantize, out);
            Box::new(move |qa, qb| {
                let (va, vb) = (
                    a.steps(qa) as f32 * a.scale_f32(),
                    b.steps(qb) as f32 * b.scale_f32(),
                );
                quantizer.code(if sign < 0 { va - vb } else { va + vb })
            })
        }
        AddRule::F32Ratios | AddRule::F32RatiosFma | AddRule::F32RatiosFmaConstant => {
            if sign < 0 {
                return None;
            }
            let sum = ratios(rule, if repeats_first { [b, a] } else { [a, b] }, out);
            if repeats_first {
                Box::new(move |qa, qb| sum(qb, qa))
            } else {
                sum
            }
        }
        AddRule::Q31Shift20 => {
            // TFLite reference/add.cc: both inputs shifted left by 20 and scaled to twice the larger scale.
            let twice = 2.0 * a.scale.max(b.scale);
            let q31 = |m: f64| FixedMultiplier::from_real(m, 31, Rounding::HalfAway).value;
            let (ma, mb) = (q31(a.scale / twice), q31(b.scale / twice));
            let mo = q31(twice / (f64::from(1 << 20) * out.scale));
            let steps = spec.requantize.steps.clone();
            let apply =
                move |m: FixedMultiplier, v: i64| m.apply(v, &steps, LeftShift::Wrap, 32).value;
            Box::new(move |qa, qb| {
                let va = apply(ma, a.steps(qa) << 20);
                let vb = apply(mb, b.steps(qb) << 20);
                out.store(apply(mo, va + sign * vb) + out.zero_point)
            })
        }
        AddRule::RequantizeEach => {
            // Neither rounded operand is clamped before they are added.
            let wide = Labels {
                min: i64::from(i32::MIN),
                max: i64::from(i32::MAX),
                zero_point: 0,
                relabel: 0,
                ..out
            };
            let open = (f64::NEG_INFINITY, f64::INFINITY);
            let through = |x: Labels| {
                let unit = (x.scale, 1.0);
                factor(&spec.requantize, &spec.accumulator, unit, wide, open).ok()
            };
            let (ra, rb) = (through(a)?, through(b)?);
            Box::new(move |qa, qb| {
                let va = i64::from(ra.code(a.steps(qa), 0, false).value);
                let vb = i64::from(rb.code(b.steps(qb), 0, false).value);
                out.store(va + sign * vb + out.zero_point)
            })
        }
        AddRule::Q8Floor => {
            // hexagon_nn op_add_d32.c: scales with 8 fractional bits, a truncating shift, then a rounding one.
            let (ra, rb) = (a.scale / out.scale, b.scale / out.scale);
            let exponent = libm::frexp(ra.max(rb)).1;
            let shift = (6 - exponent).clamp(0, 7);
            let unit = f64::from(1 << shift);
            let scale = |r: f64| num::round_f64(r * unit * 256.0, Rounding::HalfAway) as i64;
            let (ia, ib) = (scale(ra), sign * scale(rb));
            let zeros = a.zero_point as f64 * ra + sign as f64 * b.zero_point as f64 * rb;
            let offset =
                num::round_f64((out.zero_point as f64 - zeros) * unit, Rounding::HalfAway) as i64;
            Box::new(move |qa, qb| {
                let first = (a.raw(qa) * ia + b.raw(qb) * ib) >> 8;
                let second = num::saturate(i128::from(first + offset), 16).value;
                out.store((second + ((1 << shift) >> 1)) >> shift)
            })
        }
        AddRule::AlignedShift | AddRule::RoundedOnce => {
            let rounding = match rule {
                AddRule::RoundedOnce => last_rounding(spec),
                _ => shift_rounding(spec),
            };
            Box::new(move |qa, qb| {
                // Power-of-two scales, or integers over a power of two: every step is exact in f64 but the
                // rounding.
                let v = binary(
                    op,
                    a.steps(qa) as f64 * a.scale,
                    b.steps(qb) as f64 * b.scale,
                );
                out.store(num::round_f64(v / out.scale, rounding) as i64 + out.zero_point)
            })
        }
    })
}

/// The rules of the family `f32-ratios`, with the operands in their order.
fn ratios(rule: AddRule, [a, b]: [Labels; 2], out: Labels) -> PairFunction {
    let [ra, rb] = [a, b].map(|x| x.scale_f32() / out.scale_f32());
    let [za, zb] = [a, b].map(|x| x.zero_point as f32);
    let zeros = match rule {
        AddRule::F32RatiosFmaConstant => ra.mul_add(za, rb * zb),
        _ => ra * za + rb * zb,
    };
    let fixed = out.zero_point as f32 - zeros;
    let fused = rule != AddRule::F32Ratios;
    Box::new(move |qa, qb| {
        let (va, vb) = (a.raw(qa) as f32, b.raw(qb) as f32);
        let v = if fused {
            va.mul_add(ra, vb.mul_add(rb, fixed))
        } else {
            (fixed + va * ra) + vb * rb
        };
        out.store(num::round_f32(v, Rounding::HalfEven) as i64)
    })
}

/// `[ops] mul`. `None`: the rule is the reference's.
///
/// # Errors
/// A text where the scales do not fit the rule.
pub fn mul(
    rule: MulRule,
    spec: &Spec,
    [a, b]: [Labels; 2],
    out: Labels,
) -> Result<Option<PairFunction>, String> {
    let product = move |qa: i32, qb: i32| a.steps(qa) * b.steps(qb);
    let combined = a.scale_f32() * b.scale_f32() / out.scale_f32();
    let requantized = |derivation: Derivation| -> Result<PairFunction, String> {
        let requantize = Requantize {
            derivation,
            ..spec.requantize.clone()
        };
        let open = (f64::NEG_INFINITY, f64::INFINITY);
        let requantizer = factor(
            &requantize,
            &spec.accumulator,
            (a.scale, b.scale),
            out,
            open,
        )?;
        Ok(Box::new(move |qa, qb| {
            requantizer.code(product(qa, qb), 0, false).value
        }))
    };
    Ok(Some(match rule {
        MulRule::Exact => return Ok(None),
        MulRule::F32 => {
            let quantizer = RealQuantizer::new(&spec.quantize, out);
            Box::new(move |qa, qb| {
                quantizer.code(
                    (a.steps(qa) as f32 * a.scale_f32()) * (b.steps(qb) as f32 * b.scale_f32()),
                )
            })
        }
        MulRule::F32Combined => {
            let inside = spec.quantize.zero_point == ZeroPointPosition::InsideRounding;
            let (rounding, zero) = (spec.quantize.rounding, out.zero_point as f32);
            Box::new(move |qa, qb| {
                let v = product(qa, qb) as f32 * combined;
                let v = if inside {
                    num::round_f32(v + zero, rounding)
                } else {
                    num::round_f32(v, rounding) + zero
                };
                out.store(v as i64)
            })
        }
        MulRule::F32CombinedInside => {
            let zero = out.zero_point as f32;
            Box::new(move |qa, qb| {
                let v = product(qa, qb) as f32 * combined + zero;
                out.store(num::round_f32(v, Rounding::HalfEven) as i64)
            })
        }
        MulRule::Requantize => requantized(spec.requantize.derivation)?,
        MulRule::RequantizeF32Scale => requantized(Derivation::F32)?,
    }))
}
