//! Sums and products of two quantized tensors.

use align_check_graph::Binary;
use align_check_specs::{
    AddRule, Bounds, Derivation, LeftShift, MulRule, Requantize, Rounding, Spec, Step,
    ZeroPointPosition,
};

use super::Labels;
use super::fake_quantize;
use super::qnnpack;
use super::real::RealQuantizer;
use super::unary::{factor, last_rounding, shift_rounding};
use crate::num::trace::short;
use crate::num::{self, FixedMultiplier, Trace, gemmlowp};
use crate::ops::real::binary;

/// A function from two stored codes to a stored code.
pub type PairFunction = Box<dyn Fn(i32, i32, &mut Trace) -> i32 + Send + Sync>;

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
            Box::new(move |qa, qb, trace| {
                let va = a.real_f32("first", qa, trace);
                let vb = b.real_f32("second", qb, trace);
                let sum = if sign < 0 { va - vb } else { va + vb };
                let sum = trace.step("sum", || joined(sign, va, vb), sum);
                quantizer.traced(sum, trace)
            })
        }
        AddRule::F32Fma => f32_fma(spec, sign, [a, b], out),
        AddRule::Q22Shift => {
            if sign < 0 {
                return None;
            }
            let add = qnnpack::Add::new([a, b], out)?;
            Box::new(move |qa, qb, trace| add.code(qa, qb, trace))
        }
        AddRule::FakeQuantize => fake_quantize::add(op, [a, b], out)?,
        AddRule::F32Ratios | AddRule::F32RatiosFma | AddRule::F32RatiosFmaConstant => {
            if sign < 0 {
                return None;
            }
            let sum = ratios(rule, if repeats_first { [b, a] } else { [a, b] }, out);
            if repeats_first {
                Box::new(move |qa, qb, trace| sum(qb, qa, trace))
            } else {
                sum
            }
        }
        AddRule::Q31Shift20
        | AddRule::Q31Shift15
        | AddRule::Q31Shift20Vector
        | AddRule::Q31Shift20VectorFloor
        | AddRule::Q31Shift15Vector => {
            if op == Binary::AddShifted {
                return shifted(a, b, out);
            }
            let sum = Q31Sum::new(rule, spec, [a, b], out);
            Box::new(move |qa, qb, trace| {
                let va = sum.operand("first", sum.ma, a, qa, trace);
                let vb = sum.operand("second", sum.mb, b, qb, trace);
                let total = trace.step("sum", || joined(sign, va, vb), va + sign * vb);
                sum.code(total, trace)
            })
        }
        AddRule::Q21HalfUp => {
            // XNNPACK src/microparams-init.c xnn_init_qs8_add_minmax_*_params
            let (ra, rb) = (
                a.scale_f32() / out.scale_f32(),
                b.scale_f32() / out.scale_f32(),
            );
            let shift = 21 - libm::frexpf(ra.max(rb)).1;
            let fixed = |r: f32| {
                let scaled = libm::ldexp(f64::from(r), shift);
                num::round_f64(scaled, Rounding::HalfEven) as i64
            };
            let (ma, mb) = (fixed(ra), sign * fixed(rb));
            let bits = u32::try_from(shift)
                .ok()
                .filter(|bits| (1..63).contains(bits))?;
            Box::new(move |qa, qb, trace| {
                let va = a.traced_steps("first", qa, trace);
                let vb = b.traced_steps("second", qb, trace);
                let how = || format!("{va} * {ma} + {vb} * {mb}");
                let sum = trace.step("sum", how, va * ma + vb * mb);
                let half = 1i64 << (bits - 1);
                let how = || format!("({sum} + {half}) >> {bits}");
                let v = trace.step("shifted", how, (sum + half) >> bits);
                out.placed(v, trace)
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
            Box::new(move |qa, qb, trace| {
                let va = a.traced_steps("first", qa, trace);
                let va = i64::from(ra.traced(va, 0, false, trace).value);
                let vb = b.traced_steps("second", qb, trace);
                let vb = i64::from(rb.traced(vb, 0, false, trace).value);
                let sum = trace.step("sum", || joined(sign, va, vb), va + sign * vb);
                out.placed(sum, trace)
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
            Box::new(move |qa, qb, trace| {
                let (ra, rb) = (a.raw(qa), b.raw(qb));
                let how = || format!("code {ra} * {ia} + code {rb} * {ib}");
                let sum = trace.step("sum", how, ra * ia + rb * ib);
                let first = trace.step("shifted", || format!("{sum} >> 8"), sum >> 8);
                let fitted = num::saturate(i128::from(first + offset), 16);
                let how = || format!("{first} + {offset}, in 16 bits");
                let second = trace.flagged("with zero point", how, fitted).value;
                let half = (1 << shift) >> 1;
                let how = || format!("({second} + {half}) >> {shift}");
                let raw = trace.step("shifted", how, (second + half) >> shift);
                out.stored(raw, trace)
            })
        }
        AddRule::AlignedShift | AddRule::RoundedOnce => {
            let rounding = match rule {
                AddRule::RoundedOnce => last_rounding(spec),
                _ => shift_rounding(spec),
            };
            Box::new(move |qa, qb, trace| {
                // Power-of-two scales, or integers over a power of two: every step is exact in f64 but the
                // rounding.
                let va = a.real_f64("first", qa, trace);
                let vb = b.real_f64("second", qb, trace);
                let sum = trace.step("sum", || joined(sign, va, vb), binary(op, va, vb));
                trace.step("scale out", String::new, out.scale);
                let how = || short(sum) + " / scale out";
                let v = trace.step("in steps", how, sum / out.scale);
                let v = trace.round_f64(v, rounding) as i64;
                out.placed(v, trace)
            })
        }
    })
}

/// `f32-fma`: codes are dequantized by one fused multiply-add.
fn f32_fma(spec: &Spec, sign: i64, [a, b]: [Labels; 2], out: Labels) -> PairFunction {
    let quantizer = RealQuantizer::new(&spec.quantize, out);
    let real = |name: &'static str, x: Labels| {
        let (scale, offset) = (x.scale_f32(), -(x.zero_point as f32) * x.scale_f32());
        move |code: i32, trace: &mut Trace| {
            trace.step("scale", || format!("of the {name}"), scale);
            trace.step("offset", || format!("-{} * scale", x.zero_point), offset);
            let how = || format!("fma(code {}, scale, offset)", x.raw(code));
            trace.step(name, how, (x.raw(code) as f32).mul_add(scale, offset))
        }
    };
    let (ra, rb) = (real("first", a), real("second", b));
    Box::new(move |qa, qb, trace| {
        let (va, vb) = (ra(qa, trace), rb(qb, trace));
        let sum = trace.step("sum", || joined(sign, va, vb), va + sign as f32 * vb);
        quantizer.traced(sum, trace)
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
    Box::new(move |qa, qb, trace| {
        let (va, vb) = (a.raw(qa) as f32, b.raw(qb) as f32);
        trace.step("ratio a", || "f32(sa / sy)".into(), ra);
        trace.step("ratio b", || "f32(sb / sy)".into(), rb);
        trace.step(
            "constant",
            || "zy - (ratio a * za + ratio b * zb)".into(),
            fixed,
        );
        let v = if fused {
            let how = || format!("fma(code {va}, ratio a, fma(code {vb}, ratio b, constant))");
            trace.step("in steps", how, va.mul_add(ra, vb.mul_add(rb, fixed)))
        } else {
            let how = || format!("(constant + code {va} * ratio a) + code {vb} * ratio b");
            trace.step("in steps", how, (fixed + va * ra) + vb * rb)
        };
        let raw = trace.round_f32(v, Rounding::HalfEven) as i64;
        out.stored(raw, trace)
    })
}

/// Each operand is brought to the output's power-of-two scale by a shift that rounds half away
/// (`tflite/kernels/internal/reference/add.h`, int16 with `pot_scale_int16`).
fn shifted(a: Labels, b: Labels, out: Labels) -> Option<PairFunction> {
    let exponent = num::power_of_two(out.scale)?;
    let down = |x: Labels| u32::try_from(exponent - num::power_of_two(x.scale)?).ok();
    let (down_a, down_b) = (down(a)?, down(b)?);
    Some(Box::new(move |qa, qb, trace| {
        let mut operand = |name, x: Labels, code, down: u32| {
            let steps = x.traced_steps(name, code, trace);
            let how = || format!("{steps} / 2^{down}, half-away");
            trace.step("shifted", how, gemmlowp::divide_by_pot(steps, down.min(62)))
        };
        let (va, vb) = (
            operand("first", a, qa, down_a),
            operand("second", b, qb, down_b),
        );
        let sum = trace.step("sum", || joined(1, va, vb), va + vb);
        out.placed(sum, trace)
    }))
}

/// `TFLite`'s sum of two operands (`tflite/kernels/add.cc`): both are shifted left and scaled to twice the
/// larger scale, then the sum is scaled to the output.
struct Q31Sum {
    ma: FixedMultiplier,
    mb: FixedMultiplier,
    mo: FixedMultiplier,
    left: u32,
    steps: Vec<Step>,
    out: Labels,
}

impl Q31Sum {
    fn new(rule: AddRule, spec: &Spec, [a, b]: [Labels; 2], out: Labels) -> Self {
        let left = match rule {
            AddRule::Q31Shift15 | AddRule::Q31Shift15Vector => 15,
            _ => 20,
        };
        let twice = 2.0 * a.scale.max(b.scale);
        let q31 = |m: f64| FixedMultiplier::from_real(m, 31, Rounding::HalfAway).value;
        Self {
            ma: q31(a.scale / twice),
            mb: q31(b.scale / twice),
            mo: q31(twice / (f64::from(1 << left) * out.scale)),
            left,
            steps: spec.requantize.steps.clone(),
            out,
        }
    }

    fn apply(&self, m: FixedMultiplier, v: i64, trace: &mut Trace) -> i64 {
        m.shown("multiplier", trace);
        m.traced(v, &self.steps, LeftShift::Wrap, 32, trace).value
    }

    /// An operand on twice the larger scale.
    fn operand(
        &self,
        name: &'static str,
        m: FixedMultiplier,
        x: Labels,
        code: i32,
        trace: &mut Trace,
    ) -> i64 {
        let v = self.lifted(name, x, code, trace);
        self.apply(m, v, trace)
    }

    fn lifted(&self, name: &'static str, x: Labels, code: i32, trace: &mut Trace) -> i64 {
        let steps = x.traced_steps(name, code, trace);
        let how = || format!("{steps} * 2^{}", self.left);
        trace.step("shifted left", how, steps << self.left)
    }

    fn code(&self, sum: i64, trace: &mut Trace) -> i32 {
        let v = self.apply(self.mo, sum, trace);
        self.out.placed(v, trace)
    }
}

/// `a + b`, or `a - b`.
fn joined<V: Into<num::Exact>>(sign: i64, a: V, b: V) -> String {
    format!(
        "{} {} {}",
        short(a),
        if sign < 0 { '-' } else { '+' },
        short(b)
    )
}

/// How kernels walk over two operands that are broadcast to each other, in the file's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walk {
    /// Calls of so many elements of both operands.
    Rows(usize),
    /// Calls of so many elements of one operand, with one of the other.
    Scalar(usize),
    /// One element at a time.
    Elements,
}

impl Walk {
    /// How `LiteRT`'s fivefold broadcast goes (`tflite/kernels/internal/reference/process_broadcast_shapes.cc`,
    /// `optimized/optimized_ops.h BinaryBroadcastFiveFold`).
    pub fn of([a, b]: [&[usize]; 2], out: &[usize]) -> Self {
        if a == b {
            return Self::Rows(out.iter().product());
        }
        let mut rows = out.len();
        while rows > 0 && a[rows - 1] == b[rows - 1] {
            rows -= 1;
        }
        let run: usize = out[rows..].iter().product();
        let (short, long) = if a[rows - 1] == 1 { (a, b) } else { (b, a) };
        let back = |from: usize, holds: &dyn Fn(usize) -> bool| {
            (0..from)
                .rev()
                .find(|&axis| !holds(axis))
                .map_or(0, |axis| axis + 1)
        };
        let scalar = back(rows, &|axis| short[axis] == 1);
        let middle = back(scalar, &|axis| a[axis] == b[axis]);
        let other = back(middle, &|axis| long[axis] == 1);
        if back(other, &|axis| a[axis] == b[axis]) > 0 {
            Self::Elements
        } else if run > 1 {
            Self::Rows(run)
        } else {
            Self::Scalar(out[scalar..rows].iter().product())
        }
    }
}

/// Whole blocks of a vector kernel: a function for them, the elements of a call, and those of a block.
pub type Blocks = (PairFunction, usize, usize);

/// What `[ops] add` does in whole blocks, where it differs there.
pub fn add_blocks(
    rule: AddRule,
    spec: &Spec,
    op: Binary,
    [a, b]: [Labels; 2],
    out: Labels,
    (walk, elements): (Walk, usize),
) -> Option<Blocks> {
    let (run, block, folded) = match (rule, walk) {
        _ if op != Binary::Add => return None,
        (AddRule::Q31Shift20Vector, Walk::Rows(run)) => (run, 16, true),
        (AddRule::Q31Shift15Vector, Walk::Rows(run)) if run == elements => (run, 16, true),
        (
            AddRule::Q31Shift20Vector | AddRule::Q31Shift20VectorFloor,
            Walk::Rows(run) | Walk::Scalar(run),
        ) => (run, 8, false),
        _ => return None,
    };
    let sum = Q31Sum::new(rule, spec, [a, b], out);
    // optimized/integer_ops/add.h, optimized/optimized_ops.h AddElementwise, AddScalarBroadcast
    let part = move |m: FixedMultiplier, v: i64, trace: &mut Trace| {
        let down = (-m.exponent).max(0) as u32;
        m.shown("multiplier", trace);
        let high = |v: i64, trace: &mut Trace| {
            let how = || format!("({v} * {} + 2^30) >> 31", m.mantissa);
            trace.step("high product", how, (v * m.mantissa + (1 << 30)) >> 31)
        };
        let shifted = |v: i64, trace: &mut Trace| {
            trace.step("shifted", || format!("{v} >> {down}"), v >> down)
        };
        if folded {
            let v = shifted(v, trace);
            high(v, trace)
        } else {
            let v = high(v, trace);
            shifted(v, trace)
        }
    };
    let function: PairFunction = Box::new(move |qa, qb, trace| {
        let v = sum.lifted("first", a, qa, trace);
        let va = part(sum.ma, v, trace);
        let v = sum.lifted("second", b, qb, trace);
        let vb = part(sum.mb, v, trace);
        let total = trace.step("sum", || joined(1, va, vb), va + vb);
        sum.code(total, trace)
    });
    Some((function, run, block))
}

/// How bounds of an activation that is fused to an addition become codes.
pub fn add_bounds(rule: AddRule) -> Bounds {
    match rule {
        AddRule::Q21HalfUp => Bounds::HalfEvenInside,
        _ => Bounds::HalfAway,
    }
}

/// The same of a multiplication.
pub fn mul_bounds(rule: MulRule) -> Bounds {
    match rule {
        MulRule::F32CombinedHalfEven => Bounds::HalfEvenInside,
        _ => Bounds::HalfAway,
    }
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
    let product = move |qa: i32, qb: i32, trace: &mut Trace| {
        let va = a.traced_steps("first", qa, trace);
        let vb = b.traced_steps("second", qb, trace);
        trace.step("product", || format!("{va} * {vb}"), va * vb)
    };
    let combined = a.scale_f32() * b.scale_f32() / out.scale_f32();
    let scaled = move |qa: i32, qb: i32, trace: &mut Trace| {
        let product = product(qa, qb, trace);
        trace.step(
            "multiplier",
            || "f32(sa * sb) / sy, in f32".into(),
            combined,
        );
        let how = || format!("{product} * multiplier");
        trace.step("scaled", how, product as f32 * combined)
    };
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
        Ok(Box::new(move |qa, qb, trace| {
            let product = product(qa, qb, trace);
            requantizer.traced(product, 0, false, trace).value
        }))
    };
    Ok(Some(match rule {
        MulRule::Exact => return Ok(None),
        MulRule::F32 => {
            let quantizer = RealQuantizer::new(&spec.quantize, out);
            Box::new(move |qa, qb, trace| {
                let va = a.real_f32("first", qa, trace);
                let vb = b.real_f32("second", qb, trace);
                let how = || format!("{} * {}", short(va), short(vb));
                let product = trace.step("product", how, va * vb);
                quantizer.traced(product, trace)
            })
        }
        MulRule::F32Combined => {
            let inside = spec.quantize.zero_point == ZeroPointPosition::InsideRounding;
            let (rounding, zero) = (spec.quantize.rounding, out.zero_point as f32);
            Box::new(move |qa, qb, trace| {
                let v = scaled(qa, qb, trace);
                let raw = if inside {
                    let how = || format!("{} + {zero}", short(v));
                    let v = trace.step("with zero point", how, v + zero);
                    trace.round_f32(v, rounding)
                } else {
                    let v = trace.round_f32(v, rounding);
                    trace.step("with zero point", || format!("{v} + {zero}"), v + zero)
                };
                out.stored(raw as i64, trace)
            })
        }
        MulRule::F32CombinedInside => {
            let zero = out.zero_point as f32;
            Box::new(move |qa, qb, trace| {
                let v = scaled(qa, qb, trace);
                let how = || format!("{} + {zero}", short(v));
                let v = trace.step("with zero point", how, v + zero);
                let raw = trace.round_f32(v, Rounding::HalfEven);
                out.stored(raw as i64, trace)
            })
        }
        MulRule::F32CombinedHalfEven => Box::new(move |qa, qb, trace| {
            let v = scaled(qa, qb, trace);
            let v = trace.round_f32(v, Rounding::HalfEven);
            out.placed(v as i64, trace)
        }),
        MulRule::RequantizeF32ScaleInt16 => {
            // optimized/optimized_ops.h MulElementwise: the zero point is added to int16 lanes
            let m = FixedMultiplier::from_real(f64::from(combined), 31, Rounding::HalfAway).value;
            let steps = spec.requantize.steps.clone();
            Box::new(move |qa, qb, trace| {
                let product = product(qa, qb, trace);
                m.shown("multiplier", trace);
                let v = m.traced(product, &steps, LeftShift::Wrap, 32, trace).value;
                let fitted = num::saturate(v.into(), 16);
                let v = trace
                    .flagged("saturated", || "to 16 bits".into(), fitted)
                    .value;
                let how = || format!("{v} + {}, in 16 bits", out.zero_point);
                let wrapped = num::wrap((v + out.zero_point).into(), 16);
                let raw = trace.flagged("with zero point", how, wrapped).value;
                out.stored(raw, trace)
            })
        }
        MulRule::FakeQuantize => fake_quantize::mul([a, b], out),
        MulRule::Requantize => requantized(spec.requantize.derivation)?,
        MulRule::RequantizeF32Scale => requantized(Derivation::F32)?,
    }))
}

#[cfg(test)]
mod tests {
    use align_check_specs::{Rounding, Spec};

    use super::*;
    use crate::num::shift_right;

    fn labels(scale: f64, zero_point: i64, min: i64, max: i64) -> Labels {
        Labels {
            scale,
            zero_point,
            min,
            max,
            relabel: 0,
        }
    }

    fn target(name: &str) -> Spec {
        Spec::resolve(name).unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn walks_are_those_of_the_fivefold_broadcast() {
        let walk = |a: &[usize], b: &[usize], out: &[usize]| Walk::of([a, b], out);
        assert_eq!(walk(&[2, 3, 4], &[2, 3, 4], &[2, 3, 4]), Walk::Rows(24));
        assert_eq!(walk(&[2, 3, 4], &[1, 1, 4], &[2, 3, 4]), Walk::Rows(4));
        assert_eq!(walk(&[2, 3, 4], &[1, 3, 4], &[2, 3, 4]), Walk::Rows(12));
        assert_eq!(walk(&[2, 3, 4], &[1, 1, 1], &[2, 3, 4]), Walk::Scalar(24));
        assert_eq!(walk(&[2, 3, 4], &[2, 3, 1], &[2, 3, 4]), Walk::Scalar(4));
        assert_eq!(walk(&[2, 1, 4], &[1, 3, 1], &[2, 3, 4]), Walk::Elements);
        let far = walk(&[2, 1, 4, 1, 6], &[1, 3, 1, 5, 1], &[2, 3, 4, 5, 6]);
        assert_eq!(far, Walk::Elements);
    }

    /// `a * b / 2^31` half up, by the slow definition.
    fn high(a: i128, b: i64) -> i128 {
        shift_right(a * i128::from(b), 31, Rounding::HalfUp).value
    }

    /// Every pair of 8-bit codes at its extremes and around its zero point, in `i128`.
    #[test]
    fn blocks_and_shifts_are_those_of_the_slow_definitions() {
        let spec = target("litert-x86");
        let codes: Vec<i32> = (-128..=127)
            .step_by(5)
            .chain([-127, -1, 0, 1, 127])
            .collect();
        let out = labels(0.037, 3, -128, 127);
        for (sa, sb) in [(0.02, 0.11), (0.25, 1.0 / 512.0), (0.3, 0.3), (1e-3, 0.9)] {
            let (a, b) = (labels(sa, -128, -128, 127), labels(sb, 17, -128, 127));
            let q31 = |m: f64| FixedMultiplier::from_real(m, 31, Rounding::HalfAway).value;
            let twice = 2.0 * sa.max(sb);
            let (ma, mb) = (q31(sa / twice), q31(sb / twice));
            let mo = q31(twice / (f64::from(1 << 20) * out.scale));
            for walk in [Walk::Rows(64), Walk::Scalar(64)] {
                let rule = AddRule::Q31Shift20Vector;
                let (function, ..) =
                    add_blocks(rule, &spec, Binary::Add, [a, b], out, (walk, 64)).expect("blocks");
                for (&qa, &qb) in codes.iter().flat_map(|a| codes.iter().map(move |b| (a, b))) {
                    let part = |x: Labels, q: i32, m: FixedMultiplier| {
                        let v = i128::from(x.steps(q)) << 20;
                        let down = m.exponent.unsigned_abs();
                        match walk {
                            Walk::Rows(_) => high(v >> down, m.mantissa),
                            _ => high(v, m.mantissa) >> down,
                        }
                    };
                    let sum = part(a, qa, ma) + part(b, qb, mb);
                    let down = mo.exponent.unsigned_abs();
                    let v = shift_right(high(sum, mo.mantissa), down, Rounding::HalfAway).value;
                    let wanted = (v + 3).clamp(-128, 127);
                    assert_eq!(
                        i128::from(function(qa, qb, &mut Trace::off())),
                        wanted,
                        "{sa} {sb} {qa} {qb}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_21_bit_addition_is_its_definition() {
        let spec = target("xnnpack");
        let out = labels(0.04, -5, -128, 127);
        for (sa, sb) in [(0.02, 0.11), (0.25, 1.0 / 512.0), (3.0, 0.04)] {
            let (a, b) = (labels(sa, 4, -128, 127), labels(sb, -128, -128, 127));
            let sub =
                add(AddRule::Q21HalfUp, &spec, Binary::Sub, [a, b], out, false).expect("a rule");
            let ratio = |s: f64| f64::from(s as f32 / 0.04f32);
            let larger = ratio(sa).max(ratio(sb));
            let shift = (0..40)
                .find(|&s| libm::ldexp(larger, s) >= f64::from(1 << 20))
                .expect("a shift");
            let fixed = |s: f64| num::round_f64(libm::ldexp(ratio(s), shift), Rounding::HalfEven);
            for qa in -128..=127 {
                for qb in [-128, -127, -1, 0, 1, 77, 127] {
                    let exact = i128::from(a.steps(qa)) * fixed(sa) as i128
                        - i128::from(b.steps(qb)) * fixed(sb) as i128;
                    let v = shift_right(exact, shift as u32, Rounding::HalfUp).value;
                    let wanted = (v - 5).clamp(-128, 127);
                    assert_eq!(
                        i128::from(sub(qa, qb, &mut Trace::off())),
                        wanted,
                        "{sa} {sb} {qa} {qb}"
                    );
                }
            }
        }
    }

    /// A saturated product whose zero point wraps, and one that does not saturate.
    #[test]
    fn products_of_16_bits_saturate_and_then_wrap() {
        let spec = target("litert-x86");
        let byte = |scale| labels(scale, 0, 0, 255);
        let out = labels(1e-3, 255, 0, 255);
        let rule = MulRule::RequantizeF32ScaleInt16;
        let product = mul(rule, &spec, [byte(1.0), byte(1.0)], out);
        let product = product.expect("scales that fit").expect("a rule of codes");
        assert_eq!(product(0, 9, &mut Trace::off()), 255);
        // 65025 steps of 1000 saturate at 32767; + 255 wraps to -32514.
        assert_eq!(product(255, 255, &mut Trace::off()), 0);
    }

    #[test]
    fn shifted_operands_round_half_away_each() {
        let grid = |exponent| labels(libm::exp2(f64::from(exponent)), 0, -32768, 32767);
        let add = shifted(grid(-14), grid(-12), grid(-12)).expect("powers of two");
        for (a, b, wanted) in [
            (2, 0, 1),
            (-2, 0, -1),
            (1, 5, 5),
            (-6, 1, -1),
            (32767, 32767, 32767),
        ] {
            assert_eq!(add(a, b, &mut Trace::off()), wanted, "{a} {b}");
        }
        assert!(shifted(grid(-12), grid(-12), grid(-14)).is_none());
    }
}
