//! Sums and products of two quantized tensors.

use align_check_graph::Binary;
use align_check_specs::{
    AddRule, Derivation, LeftShift, MulRule, Requantize, Rounding, Spec, ZeroPointPosition,
};

use super::Labels;
use super::real::RealQuantizer;
use super::unary::{factor, shift_rounding};
use crate::num::{self, FixedMultiplier};
use crate::ops::real::binary;

/// A function from two stored codes to a stored code.
pub type PairFunction = Box<dyn Fn(i32, i32) -> i32 + Send + Sync>;

/// `[ops] add`, for `a + b` and `a - b`. `None`: the rule is the reference's, or knows no subtraction.
///
/// `clamp` is a fused activation's, in stored codes.
pub fn add(
    rule: AddRule,
    spec: &Spec,
    op: Binary,
    [a, b]: [Labels; 2],
    out: Labels,
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
        AddRule::F32RatiosFma => {
            if sign < 0 {
                return None;
            }
            let (ra, rb) = (
                a.scale_f32() / out.scale_f32(),
                b.scale_f32() / out.scale_f32(),
            );
            let fixed =
                out.zero_point as f32 - (ra * a.zero_point as f32 + rb * b.zero_point as f32);
            Box::new(move |qa, qb| {
                let v = (a.raw(qa) as f32).mul_add(ra, (b.raw(qb) as f32).mul_add(rb, fixed));
                out.store(num::round_f32(v, Rounding::HalfEven) as i64)
            })
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
        AddRule::AlignedShift => {
            let rounding = shift_rounding(spec);
            Box::new(move |qa, qb| {
                // Power-of-two scales: every step is exact in f64 but the rounding.
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
