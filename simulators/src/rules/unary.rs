//! Operations with one quantized input: functions of a code, made into tables.

use align_check_graph::Activation;
use align_check_specs::{
    Accumulator, Bias, BiasFormat, Derivation, HardSwishRule, LeakyReluRule, Multiplier, Quantize,
    Requantize, RescaleRule, Rounding, SigmoidRule, Spec,
};

use super::Labels;
use super::real::RealQuantizer;
use super::requantize::{Requantizer, Unit};
use crate::num;
use crate::ops::real::activation;

/// A function from stored code to stored code.
pub type CodeFunction = Box<dyn Fn(i32) -> i32 + Send + Sync>;

const NO_BIAS: Bias = Bias {
    format: BiasFormat::Int32,
    rounding: Rounding::HalfEven,
};

/// A requantization of `code - zx` by one real factor.
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
        bias: 0.0,
        code: None,
    }];
    // A zero point inside a bias belongs to sums; here it is added to the result.
    let mut rule = requantize.clone();
    if rule.zero_point == align_check_specs::ZeroPointPosition::InBias {
        rule.zero_point = align_check_specs::ZeroPointPosition::AfterRounding;
    }
    Requantizer::new(&rule, &NO_BIAS, accumulator, &units, out, clamp)
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
            Box::new(move |code| {
                quantizer.code((x.steps(code) as f32 * x.scale_f32()).max(lo).min(hi))
            })
        }
        RescaleRule::Requantize => {
            let requantizer = factor(
                &spec.requantize,
                &spec.accumulator,
                (x.scale, 1.0),
                out,
                clamp,
            )?;
            Box::new(move |code| requantizer.code(x.steps(code), 0, false).value)
        }
        RescaleRule::Q15 => {
            // hexagon_nn quantize.c: sat16((2*d*g + 0x8000) >> 16), zero point after.
            let gain = num::round_f64(x.scale / out.scale * 32768.0, Rounding::HalfAway) as i64;
            let (lo, hi) = real_clamp(out, clamp);
            Box::new(move |code| {
                let v = (x.steps(code) * gain + (1 << 14)) >> 15;
                let v = v.clamp(i64::from(i16::MIN), i64::from(i16::MAX)) + out.zero_point;
                out.store(v.clamp(lo, hi))
            })
        }
    }))
}

/// The rounding that ends `[requantize]`.
pub fn last_rounding(spec: &Spec) -> Rounding {
    let last = spec.requantize.steps.last();
    last.map_or(Rounding::HalfEven, |step| step.rounding)
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
    let two = |derivation: Derivation| -> Result<CodeFunction, String> {
        let requantize = Requantize {
            derivation,
            ..spec.requantize.clone()
        };
        let positive = factor(&requantize, &spec.accumulator, (x.scale, 1.0), out, open)?;
        let negative = factor(&requantize, &spec.accumulator, (x.scale, slope), out, open)?;
        Ok(Box::new(move |code| {
            let steps = x.steps(code);
            let side = if steps >= 0 { &positive } else { &negative };
            side.code(steps, 0, false).value
        }))
    };
    Ok(Some(match rule {
        LeakyReluRule::Exact => return Ok(None),
        LeakyReluRule::F32 => {
            let quantizer = RealQuantizer::new(&spec.quantize, out);
            let slope = slope as f32;
            Box::new(move |code| {
                let v = x.steps(code) as f32 * x.scale_f32();
                quantizer.code(if v < 0.0 { v * slope } else { v })
            })
        }
        LeakyReluRule::TwoRequantizes => two(spec.requantize.derivation)?,
        LeakyReluRule::TwoRequantizesF32Scale => two(Derivation::F32)?,
        LeakyReluRule::Alpha26Over256 => {
            let rounding = shift_rounding(spec);
            Box::new(move |code| {
                let v = x.steps(code) as f64 * x.scale;
                let v = if v < 0.0 { v * 26.0 / 256.0 } else { v };
                out.store(num::round_f64(v / out.scale, rounding) as i64 + out.zero_point)
            })
        }
    }))
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
    let value = move |code: i32| {
        activation(function, f64::from(x.steps(code) as f32 * x.scale_f32())) as f32
    };
    match rule {
        SigmoidRule::Exact | SigmoidRule::NnieTable => None,
        SigmoidRule::F32Table => {
            let quantizer = RealQuantizer::new(quantize, out);
            Some(Box::new(move |code| quantizer.code(value(code))))
        }
        SigmoidRule::MlasTable => {
            let quantizer = RealQuantizer::new(quantize, out);
            matches!(function, Activation::Sigmoid).then(|| -> CodeFunction {
                Box::new(move |code| {
                    quantizer.code(mlas_logistic(x.steps(code) as f32 * x.scale_f32()))
                })
            })
        }
        SigmoidRule::LitertTable => {
            let inverse = 1.0 / out.scale_f32();
            Some(Box::new(move |code| {
                let v = num::round_f32(value(code) * inverse, Rounding::HalfAway);
                out.store(v as i64 + out.zero_point)
            }))
        }
    }
}

/// MLAS' logistic function: a rational one in `f32` with fused multiply-adds, one division, one addition
/// (microsoft/onnxruntime `onnxruntime/core/mlas/lib/logistic.cpp`, `x86_64/LogisticKernelFma3.S`).
#[allow(
    clippy::excessive_precision,
    reason = "the source's numbers, rounded to f32"
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
        HardSwishRule::F32 => {
            let quantizer = RealQuantizer::new(&spec.quantize, out);
            Some(Box::new(move |code| {
                let v = activation(function, f64::from(x.steps(code) as f32 * x.scale_f32()));
                quantizer.code(v as f32)
            }))
        }
        HardSwishRule::Dpu2731 => {
            let rounding = shift_rounding(spec);
            let round = move |v: f64| num::round_f64(v, rounding);
            Some(Box::new(move |code| {
                let v = x.steps(code) as f64 * x.scale;
                let hard = (v + 3.0).clamp(0.0, 6.0) * 2731.0 / 16384.0;
                let v = if matches!(function, Activation::HardSwish) {
                    // The hard sigmoid is an int8 with 7 fractional bits of its own.
                    round(hard * 128.0).min(127.0) / 128.0 * v
                } else {
                    hard
                };
                out.store(round(v / out.scale) as i64 + out.zero_point)
            }))
        }
    }
}
