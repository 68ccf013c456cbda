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
        AddRule::F32Fma => f32_fma(spec, sign, [a, b], out),
        // The kernel takes unsigned codes only.
        AddRule::Q22Shift if sign < 0 || [a, b, out].iter().any(|x| x.min < 0) => {
            f32_fma(spec, sign, [a, b], out)
        }
        AddRule::Q22Shift => {
            let add = qnnpack::Add::new([a, b], out)?;
            Box::new(move |qa, qb| add.code(qa, qb))
        }
        AddRule::FakeQuantize => fake_quantize::add(op, [a, b], out)?,
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
        AddRule::Q31Shift20
        | AddRule::Q31Shift15
        | AddRule::Q31Shift20Vector
        | AddRule::Q31Shift20VectorFloor
        | AddRule::Q31Shift15Vector => {
            let sum = Q31Sum::new(rule, spec, [a, b], out);
            Box::new(move |qa, qb| {
                let [va, vb] = [(sum.ma, a.steps(qa)), (sum.mb, b.steps(qb))]
                    .map(|(m, steps)| sum.apply(m, steps << sum.left));
                sum.code(va + sign * vb)
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
            Box::new(move |qa, qb| {
                let sum = a.steps(qa) * ma + b.steps(qb) * mb;
                out.store(((sum + (1 << (bits - 1))) >> bits) + out.zero_point)
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

/// `f32-fma`: codes are dequantized by one fused multiply-add.
fn f32_fma(spec: &Spec, sign: i64, [a, b]: [Labels; 2], out: Labels) -> PairFunction {
    let quantizer = RealQuantizer::new(&spec.quantize, out);
    let real = |x: Labels| {
        let (scale, offset) = (x.scale_f32(), -(x.zero_point as f32) * x.scale_f32());
        move |code: i32| (x.raw(code) as f32).mul_add(scale, offset)
    };
    let (ra, rb, sign) = (real(a), real(b), sign as f32);
    Box::new(move |qa, qb| quantizer.code(ra(qa) + sign * rb(qb)))
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

    fn apply(&self, m: FixedMultiplier, v: i64) -> i64 {
        m.apply(v, &self.steps, LeftShift::Wrap, 32).value
    }

    fn code(&self, sum: i64) -> i32 {
        self.out
            .store(self.apply(self.mo, sum) + self.out.zero_point)
    }
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
    let part = move |m: FixedMultiplier, steps: i64, left: u32| {
        let down = (-m.exponent).max(0) as u32;
        let v = steps << left;
        let high = |v: i64| (v * m.mantissa + (1 << 30)) >> 31;
        if folded {
            high(v >> down)
        } else {
            high(v) >> down
        }
    };
    let function: PairFunction = Box::new(move |qa, qb| {
        let va = part(sum.ma, a.steps(qa), sum.left);
        let vb = part(sum.mb, b.steps(qb), sum.left);
        sum.code(va + vb)
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
        MulRule::F32CombinedHalfEven => Box::new(move |qa, qb| {
            let v = num::round_f32(product(qa, qb) as f32 * combined, Rounding::HalfEven);
            out.store(v as i64 + out.zero_point)
        }),
        MulRule::RequantizeF32ScaleInt16 => {
            // optimized/optimized_ops.h MulElementwise: the zero point is added to int16 lanes
            let m = FixedMultiplier::from_real(f64::from(combined), 31, Rounding::HalfAway).value;
            let steps = spec.requantize.steps.clone();
            Box::new(move |qa, qb| {
                let v = m.apply(product(qa, qb), &steps, LeftShift::Wrap, 32).value;
                let v = num::saturate(v.into(), 16).value + out.zero_point;
                out.store(num::wrap(v.into(), 16).value)
            })
        }
        MulRule::FakeQuantize => fake_quantize::mul([a, b], out),
        MulRule::Requantize => requantized(spec.requantize.derivation)?,
        MulRule::RequantizeF32Scale => requantized(Derivation::F32)?,
    }))
}
