//! Operations with one quantized input: functions of a code, made into tables.

use align_check_graph::Activation;
use align_check_specs::{
    Accumulator, Bias, BiasFormat, Bounds, Derivation, HardSwishRule, LeakyReluRule, LeftShift,
    Multiplier, Quantize, Requantize, RescaleRule, Rounding, SigmoidRule, Spec, ZeroPointPosition,
};

use super::Labels;
use super::fake_quantize;
use super::real::RealQuantizer;
use super::requantize::{Requantizer, Unit};
use crate::num::lut::{self, TableInput};
use crate::num::trace::short;
use crate::num::{self, FixedMultiplier, Trace, gemmlowp};
use crate::ops::real::activation;

/// A function from stored code to stored code.
pub type CodeFunction = Box<dyn Fn(i32, &mut Trace) -> i32 + Send + Sync>;

const NO_BIAS: Bias = Bias {
    format: BiasFormat::Int32,
    rounding: Rounding::HalfEven,
};

/// A requantization of `code - zx`, or of a product of two of them, by one real factor. Kernels hold these
/// numbers in at most 32 bits, whatever the accumulators of their convolutions have.
///
/// # Errors
/// A text where the scales do not fit the rule.
pub fn factor(
    requantize: &Requantize,
    accumulator: &Accumulator,
    unit: (f64, f64),
    out: Labels,
    clamp: (f64, f64),
) -> Result<Requantizer, String> {
    let units = [Unit {
        x: unit.0,
        w: unit.1,
        zeros: 0,
        bias: 0.0,
        code: None,
    }];
    // A zero point inside a bias belongs to sums; here it is added to the result.
    let mut rule = requantize.clone();
    if rule.zero_point == ZeroPointPosition::InBias {
        rule.zero_point = ZeroPointPosition::AfterRounding;
    }
    let accumulator = Accumulator {
        bits: accumulator.bits.map(|bits| bits.min(32)),
        ..accumulator.clone()
    };
    Requantizer::new(&rule, &NO_BIAS, &accumulator, &units, out, clamp)
}

/// `[ops] rescale`: the same real on another grid, with a fused clamp. `None`: the rule is the reference's.
///
/// # Errors
/// A text where the scales do not fit the rule.
pub fn rescale(
    rule: RescaleRule,
    spec: &Spec,
    x: Labels,
    out: Labels,
    clamp: (f64, f64),
) -> Result<Option<CodeFunction>, String> {
    Ok(Some(match rule {
        RescaleRule::Exact => return Ok(None),
        RescaleRule::F32 => {
            let quantizer = RealQuantizer::new(&spec.quantize, out);
            let (lo, hi) = (clamp.0 as f32, clamp.1 as f32);
            Box::new(move |code, trace| {
                let v = x.real_f32("input", code, trace);
                let how = || format!("{} to {}..{}", short(v), short(lo), short(hi));
                let v = trace.step("clipped", how, v.max(lo).min(hi));
                quantizer.traced(v, trace)
            })
        }
        RescaleRule::FakeQuantize => fake_quantize::rescale(x, out, clamp),
        RescaleRule::Requantize | RescaleRule::RequantizeVector => {
            requantized(&spec.requantize, spec, x, out, clamp)?
        }
        RescaleRule::RequantizeF32Scale => {
            let rule = Requantize {
                derivation: Derivation::F32,
                ..spec.requantize.clone()
            };
            requantized(&rule, spec, x, out, clamp)?
        }
        RescaleRule::Q8OrVector => match q8_factor(x, out) {
            // XNNPACK src/microparams-init.c xnn_init_qs8_cvt_scalar_params
            Some(factor) => {
                let (lo, hi) = out.bounds(Bounds::HalfAway, clamp);
                Box::new(move |code, trace| {
                    let steps = x.traced_steps("input", code, trace);
                    let how = || format!("({steps} * {factor} + 128) >> 8");
                    let v = trace.step("shifted", how, (steps * factor + 128) >> 8);
                    bounded(v, (lo, hi), out, trace)
                })
            }
            None => requantized(&spec.requantize, spec, x, out, clamp)?,
        },
        RescaleRule::F32Affine => {
            // tflite/kernels/internal/reference/concatenation.h ConcatenationWithScaling
            let gain = x.scale_f32() * (1.0 / out.scale_f32());
            let bias = -x.zero_point as f32 * gain;
            let (lo, hi) = out.bounds(Bounds::HalfAway, clamp);
            Box::new(move |code, trace| {
                trace.step("gain", || "sx * (1 / sy), in f32".into(), gain);
                trace.step("bias", || "-zx * gain".into(), bias);
                let raw = x.raw(code);
                let how = || format!("code {raw} * gain + bias");
                let v = trace.step("in steps", how, raw as f32 * gain + bias);
                let v = trace.round_f32(v, Rounding::HalfAway) as i64;
                bounded(v, (lo, hi), out, trace)
            })
        }
        RescaleRule::Q15 => {
            // hexagon_nn quantize.c: sat16((2*d*g + 0x8000) >> 16), zero point after.
            let gain = num::round_f64(x.scale / out.scale * 32768.0, Rounding::HalfAway) as i64;
            let (lo, hi) = real_clamp(out, clamp);
            Box::new(move |code, trace| {
                let steps = x.traced_steps("input", code, trace);
                let v = (steps * gain + (1 << 14)) >> 15;
                let how = || format!("({steps} * {gain} + 2^14) >> 15, in 16 bits");
                let v = trace
                    .flagged("shifted", how, num::saturate(v.into(), 16))
                    .value;
                bounded(v, (lo, hi), out, trace)
            })
        }
    }))
}

/// Zero point, the codes of a fused clamp, and the type's.
fn bounded(v: i64, (lo, hi): (i64, i64), out: Labels, trace: &mut Trace) -> i32 {
    let how = || format!("{v} + {}", out.zero_point);
    let raw = trace.step("with zero point", how, v + out.zero_point);
    let how = || format!("{raw} to {lo}..{hi}");
    let raw = trace.step("clipped", how, raw.clamp(lo, hi));
    out.stored(raw, trace)
}

/// The rounding that ends `[requantize]`.
pub fn last_rounding(spec: &Spec) -> Rounding {
    let last = spec.requantize.steps.last();
    last.map_or(Rounding::HalfEven, |step| step.rounding)
}

fn requantized(
    rule: &Requantize,
    spec: &Spec,
    x: Labels,
    out: Labels,
    clamp: (f64, f64),
) -> Result<CodeFunction, String> {
    let requantizer = factor(rule, &spec.accumulator, (x.scale, 1.0), out, clamp)?;
    Ok(Box::new(move |code, trace| {
        let steps = x.traced_steps("input", code, trace);
        requantizer.traced(steps, 0, false, trace).value
    }))
}

/// `half-even(256 * f32(sx / sy))` where `XNNPACK` converts: codes of 8 bits of one signedness, a ratio in
/// 2^-8 to 2^7.
fn q8_factor(x: Labels, out: Labels) -> Option<i64> {
    let ratio = x.scale_f32() / out.scale_f32();
    let same = x.bits() <= 8 && out.bits() <= 8 && (x.min < 0) == (out.min < 0);
    (same && (1.0 / 256.0..=128.0).contains(&ratio))
        .then(|| num::round_f32(256.0 * ratio, Rounding::HalfEven) as i64)
}

/// What `[ops] rescale` does in whole blocks, where it differs there, and the elements of a block.
pub fn rescale_blocks(
    rule: RescaleRule,
    spec: &Spec,
    x: Labels,
    out: Labels,
) -> Option<(CodeFunction, usize)> {
    let vector = match rule {
        RescaleRule::RequantizeVector => true,
        RescaleRule::Q8OrVector => q8_factor(x, out).is_none(),
        _ => false,
    };
    if !vector || x.bits() > 8 || out.bits() > 8 {
        return None;
    }
    let mut requantize = spec.requantize.clone();
    for step in &mut requantize.steps {
        step.rounding = Rounding::HalfUp;
    }
    let open = (f64::NEG_INFINITY, f64::INFINITY);
    let function = requantized(&requantize, spec, x, out, open).ok()?;
    Some((function, 16))
}

/// A fused clamp in the target's codes.
fn real_clamp(out: Labels, clamp: (f64, f64)) -> (i64, i64) {
    let code = |x: f64, open: i64| {
        if x.is_infinite() {
            open
        } else {
            num::round_f64(x / out.scale, Rounding::HalfAway) as i64 + out.zero_point
        }
    };
    (code(clamp.0, out.min), code(clamp.1, out.max))
}

/// The slope that the DPU puts in the place of any other, 26 / 2^8 (Xilinx/Vitis-AI, `vai_q_pytorch`
/// `optimization/commander.py`).
pub const DPU_SLOPE: (i64, u32) = (26, 8);

/// `[ops] leaky-relu` with one slope. `None`: the rule is the reference's.
///
/// # Errors
/// A text where the scales do not fit the rule.
pub fn leaky_relu(
    rule: LeakyReluRule,
    spec: &Spec,
    x: Labels,
    out: Labels,
    slope: f64,
) -> Result<Option<CodeFunction>, String> {
    let open = (f64::NEG_INFINITY, f64::INFINITY);
    let two = || -> Result<CodeFunction, String> {
        let rule = &spec.requantize;
        let positive = factor(rule, &spec.accumulator, (x.scale, 1.0), out, open)?;
        let negative = factor(rule, &spec.accumulator, (x.scale, slope), out, open)?;
        Ok(Box::new(move |code, trace| {
            let steps = x.traced_steps("input", code, trace);
            let side = if steps >= 0 { &positive } else { &negative };
            side.traced(steps, 0, false, trace).value
        }))
    };
    Ok(Some(match rule {
        LeakyReluRule::Exact => return Ok(None),
        LeakyReluRule::F32 => {
            let quantizer = RealQuantizer::new(&spec.quantize, out);
            let slope = slope as f32;
            Box::new(move |code, trace| {
                let v = x.real_f32("input", code, trace);
                let v = if v < 0.0 {
                    trace.step("slope", String::new, slope);
                    trace.step("sloped", || short(v) + " * slope", v * slope)
                } else {
                    v
                };
                quantizer.traced(v, trace)
            })
        }
        LeakyReluRule::TwoRequantizes => two()?,
        LeakyReluRule::TwoRequantizesF32Scale | LeakyReluRule::TwoRequantizesF32Signed => {
            // tflite/kernels/activations.cc LeakyReluPrepare
            let scale = out.scale_f32();
            let ms = [x.scale_f32() / scale, x.scale_f32() * slope as f32 / scale];
            let [positive, negative] = ms.map(|m| {
                FixedMultiplier::from_real(f64::from(m.abs()), 31, Rounding::HalfAway).value
            });
            let signed = rule == LeakyReluRule::TwoRequantizesF32Signed;
            let down = slope < 0.0;
            let rule_steps = spec.requantize.steps.clone();
            Box::new(move |code, trace| {
                let steps = x.traced_steps("input", code, trace);
                let (m, sign) = match (steps >= 0, down) {
                    (true, _) => (positive, 1),
                    (false, true) if signed => {
                        let mantissa = -negative.mantissa;
                        let flipped = FixedMultiplier {
                            mantissa,
                            ..negative
                        };
                        (flipped, 1)
                    }
                    (false, true) => (negative, -1),
                    (false, false) => (negative, 1),
                };
                m.shown("multiplier", trace);
                let v = m
                    .traced(steps, &rule_steps, LeftShift::Wrap, 32, trace)
                    .value;
                let v = if sign < 0 {
                    trace.step("negated", || "the multiplier has no sign".into(), -v)
                } else {
                    v
                };
                out.placed(v, trace)
            })
        }
        LeakyReluRule::Q8HalfUp => {
            // XNNPACK src/microparams-init.c xnn_init_qs8_lrelu_scalar_params
            let ratio = x.scale_f32() / out.scale_f32();
            let fixed = |m: f32| num::round_f32(256.0 * m, Rounding::HalfEven) as i64;
            let (positive, negative) = (fixed(ratio), fixed(ratio * slope as f32));
            Box::new(move |code, trace| {
                let steps = x.traced_steps("input", code, trace);
                let m = if steps > 0 { positive } else { negative };
                let how = || format!("({steps} * {m} + 128) >> 8");
                let v = trace.step("shifted", how, (steps * m + 128) >> 8);
                out.placed(v, trace)
            })
        }
        LeakyReluRule::Alpha26Over256 => {
            let rounding = shift_rounding(spec);
            let (numerator, shift) = DPU_SLOPE;
            let slope = numerator as f64 * libm::exp2(-f64::from(shift));
            Box::new(move |code, trace| {
                let v = x.real_f64("input", code, trace);
                let v = if v < 0.0 {
                    let how = || format!("{} * {numerator} / 2^{shift}", short(v));
                    trace.step("sloped", how, v * slope)
                } else {
                    v
                };
                divided(v, rounding, out, trace)
            })
        }
    }))
}

/// A real in steps of the output, rounded.
fn divided(v: f64, rounding: Rounding, out: Labels, trace: &mut Trace) -> i32 {
    trace.step("scale out", String::new, out.scale);
    let v = trace.step("in steps", || short(v) + " / scale out", v / out.scale);
    let v = trace.round_f64(v, rounding) as i64;
    out.placed(v, trace)
}

/// The rounding of a shift target.
pub fn shift_rounding(spec: &Spec) -> Rounding {
    match spec.requantize.multiplier {
        Multiplier::PowerOfTwo => spec
            .requantize
            .steps
            .first()
            .map_or(Rounding::HalfUp, |s| s.rounding),
        _ => Rounding::HalfUp,
    }
}

/// `[ops] sigmoid`. `None`: the rule is the reference's, or belongs to a grid without codes.
pub fn sigmoid(
    rule: SigmoidRule,
    quantize: &Quantize,
    function: Activation,
    x: Labels,
    out: Labels,
) -> Option<CodeFunction> {
    let value = move |code: i32, trace: &mut Trace| {
        let v = x.real_f32("input", code, trace);
        let how = || format!("{}({})", name(function), short(v));
        trace.step("function", how, activation(function, f64::from(v)) as f32)
    };
    match rule {
        SigmoidRule::Exact | SigmoidRule::NnieTable => None,
        SigmoidRule::F32Table => {
            let quantizer = RealQuantizer::new(quantize, out);
            Some(Box::new(move |code, trace| {
                let v = value(code, trace);
                quantizer.traced(v, trace)
            }))
        }
        SigmoidRule::MlasTable => {
            let quantizer = RealQuantizer::new(quantize, out);
            matches!(function, Activation::Sigmoid).then(|| -> CodeFunction {
                Box::new(move |code, trace| {
                    let v = x.real_f32("input", code, trace);
                    let how = || format!("MLAS' rational function of {}", short(v));
                    let v = trace.step("function", how, mlas_logistic(v));
                    quantizer.traced(v, trace)
                })
            })
        }
        SigmoidRule::LitertTable => {
            let inverse = 1.0 / out.scale_f32();
            let value = move |code: i32, trace: &mut Trace| match function {
                // 1 / (1 + exp(-x)), every operation in f32 (tflite/kernels/activations.cc)
                Activation::Sigmoid => {
                    let v = x.real_f32("input", code, trace);
                    let exp = libm::exp(f64::from(-v)) as f32;
                    let exp = trace.step("exp", || format!("exp(-{})", short(v)), exp);
                    trace.step("function", || "1 / (1 + exp)".into(), 1.0 / (1.0 + exp))
                }
                _ => value(code, trace),
            };
            Some(Box::new(move |code, trace| {
                let v = value(code, trace);
                trace.step("reciprocal", || "1 / scale out".into(), inverse);
                let v = trace.step("in steps", || short(v) + " * reciprocal", v * inverse);
                let v = trace.round_f32(v, Rounding::HalfAway);
                out.placed(v as i64, trace)
            }))
        }
        SigmoidRule::F32TableInside => {
            let (inverse, zero) = (1.0 / out.scale_f32(), out.zero_point as f32);
            Some(Box::new(move |code, trace| {
                let v = value(code, trace);
                trace.step("reciprocal", || "1 / scale out".into(), inverse);
                let how = || format!("{} * reciprocal + {zero}", short(v));
                let v = trace.step("with zero point", how, v * inverse + zero);
                let raw = trace.round_f32(v, Rounding::HalfEven);
                out.stored(raw as i64, trace)
            }))
        }
        SigmoidRule::Int16Table | SigmoidRule::Int16TableOrGemmlowp => {
            let tanh = function == Activation::Tanh;
            if x.bits() > 16 {
                return None;
            }
            let gemmlowp = lut::gemmlowp_shift(x.scale, tanh)
                .filter(|_| rule == SigmoidRule::Int16TableOrGemmlowp);
            let table = TableInput::new(x.scale, tanh);
            Some(Box::new(move |code, trace| {
                let code = x.traced_steps("input", code, trace);
                let (v, how) = match (gemmlowp, tanh) {
                    (Some(shift), true) => (
                        gemmlowp::tanh_16(gemmlowp::saturate_16(code << shift)),
                        "gemmlowp's tanh in 16 bits",
                    ),
                    (Some(shift), false) => (
                        gemmlowp::logistic_16(gemmlowp::saturate_16(code << shift)),
                        "gemmlowp's logistic in 16 bits",
                    ),
                    (None, true) => (table.tanh(code), "TFLite's 16-bit table of tanh"),
                    (None, false) => (table.logistic(code), "TFLite's 16-bit table of logistic"),
                };
                let v = trace.step("function", || format!("{how}, of {code}"), v);
                out.placed(v, trace)
            }))
        }
    }
}

/// A function's name.
pub(crate) fn name(function: Activation) -> &'static str {
    match function {
        Activation::Relu => "relu",
        Activation::Clip { .. } => "clip",
        Activation::LeakyRelu { .. } => "leaky-relu",
        Activation::PRelu => "prelu",
        Activation::Sigmoid => "sigmoid",
        Activation::Tanh => "tanh",
        Activation::HardSigmoid { .. } => "hard-sigmoid",
        Activation::HardSwish => "hard-swish",
    }
}

/// MLAS' logistic function: a rational one in `f32` with fused multiply-adds, one division, one addition
/// (microsoft/onnxruntime `onnxruntime/core/mlas/lib/logistic.cpp`, `x86_64/LogisticKernelFma3.S`).
#[allow(
    clippy::excessive_precision,
    clippy::unreadable_literal,
    reason = "the source's numbers as they stand there, rounded to f32"
)]
pub fn mlas_logistic(x: f32) -> f32 {
    /// Coefficients of the odd numerator, from the highest power down.
    const P: [f32; 5] = [
        4.37031012579801e-11,
        1.15627324459942e-07,
        6.08574864600143e-05,
        8.51377133304701e-03,
        2.48287947061529e-01,
    ];
    /// And of the even denominator.
    const Q: [f32; 6] = [
        6.10247389755681e-13,
        5.76102136993427e-09,
        6.29106785017040e-06,
        1.70198817374094e-03,
        1.16817656904453e-01,
        9.93151921023180e-01,
    ];
    let x = x.clamp(-18.0, 18.0);
    let square = x * x;
    let horner = |list: &[f32]| list.iter().fold(0.0, |sum: f32, &c| sum.mul_add(square, c));
    (x * horner(&P) / horner(&Q) + 0.5).max(0.0)
}

/// `[ops] hard-swish`. `None`: the rule is the reference's.
pub fn hard_swish(
    rule: HardSwishRule,
    spec: &Spec,
    function: Activation,
    x: Labels,
    out: Labels,
) -> Option<CodeFunction> {
    match rule {
        HardSwishRule::Exact => None,
        HardSwishRule::F32 | HardSwishRule::F32Inside => {
            let mut quantize = spec.quantize.clone();
            if rule == HardSwishRule::F32Inside {
                quantize.rounding = Rounding::HalfEven;
                quantize.zero_point = ZeroPointPosition::InsideRounding;
            }
            let quantizer = RealQuantizer::new(&quantize, out);
            Some(Box::new(move |code, trace| {
                let v = x.real_f32("input", code, trace);
                let how = || format!("{}({})", name(function), short(v));
                let v = activation(function, f64::from(v)) as f32;
                let v = trace.step("function", how, v);
                quantizer.traced(v, trace)
            }))
        }
        HardSwishRule::Int16FixedPoint => {
            matches!(function, Activation::HardSwish).then(|| int16_hard_swish(x, out))
        }
        HardSwishRule::Dpu2731 => {
            // The table is of `relu6(x + 3) / 6`; another slope is another function.
            if let Activation::HardSigmoid { alpha, beta } = function
                && ((alpha - 1.0 / 6.0).abs() > 1e-6 || beta != 0.5)
            {
                return None;
            }
            let rounding = shift_rounding(spec);
            Some(Box::new(move |code, trace| {
                let v = x.real_f64("input", code, trace);
                let hard = (v + 3.0).clamp(0.0, 6.0) * 2731.0 / 16384.0;
                let how = || format!("({} + 3 to 0..6) * 2731 / 2^14", short(v));
                let hard = trace.step("hard sigmoid", how, hard);
                let v = if matches!(function, Activation::HardSwish) {
                    // The hard sigmoid is an int8 with 7 fractional bits of its own.
                    let how = || format!("{} * 128", short(hard));
                    let own = trace.step("in 8 bits", how, hard * 128.0);
                    let own = trace.round_f64(own, rounding).min(127.0);
                    let how = || format!("{own} / 128 * {}", short(v));
                    trace.step("product", how, own / 128.0 * v)
                } else {
                    hard
                };
                divided(v, rounding, out, trace)
            }))
        }
    }
}

/// `x * relu6(x + 3) / 6` in 16 bits (`tflite/kernels/internal/reference/hard_swish.h`).
fn int16_hard_swish(x: Labels, out: Labels) -> CodeFunction {
    use gemmlowp::{divide_by_pot, high_mul_16, saturate_16};
    // A Q31 multiplier with its upper half rounded to Q15.
    let q15 = |m: f32| {
        let q31 = FixedMultiplier::from_real(f64::from(m), 31, Rounding::HalfAway).value;
        let mantissa = if q31.mantissa >= 0x7FFF_8000 {
            0x7FFF
        } else {
            (q31.mantissa + (1 << 15)) >> 16
        };
        (mantissa, q31.exponent)
    };
    let high = 1.0 / 128.0 * x.scale_f32();
    let (out_m, out_e) = q15(high / out.scale_f32());
    let (relu_m, relu_e) = q15(high / (3.0 / 32768.0));
    Box::new(move |code, trace| {
        let steps = x.traced_steps("input", code, trace);
        let value = trace.step("value", || format!("{steps} * 128"), steps * 128);
        let how = || format!("high product of {value} and {out_m}, 16 bits");
        let on_output = trace.step("on the output", how, high_mul_16(value, out_m));
        let mut relu = value;
        if relu_e > 0 {
            relu = saturate_16(relu << (relu_e - 1));
        }
        relu = high_mul_16(relu, relu_m);
        if relu_e > 0 {
            relu = saturate_16(relu << 1);
        } else if relu_e < 0 {
            relu = divide_by_pot(relu, relu_e.unsigned_abs());
        }
        let how = || format!("{value} by {relu_m} * 2^({relu_e} - 15), 16 bits");
        let relu = trace.step("of relu6", how, relu);
        let how = || format!("({relu} + 2^15) >> 1");
        let relu = trace.step("relu6", how, (relu + (1 << 15)) >> 1);
        let how = || format!("{relu} * {on_output} / 2^15, 16 bits");
        let product = trace.step("product", how, saturate_16(relu * on_output / 32768));
        let down = (-out_e).max(0) as u32;
        let how = || format!("{product} / 2^{down}, half-away");
        let v = trace.step("shifted", how, divide_by_pot(product, down));
        out.placed(v, trace)
    })
}
