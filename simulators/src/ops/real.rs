//! Operations on reals, in `f64` with `libm`'s functions, so that every platform gives the same bytes.

use align_check_graph::{Activation, Binary, DynamicPart, Resize, ResizeAxis};
use align_check_specs::Rounding;

use super::movement::strides;
use crate::num;

/// One of the elementwise functions.
pub fn activation(function: Activation, x: f64) -> f64 {
    match function {
        Activation::Relu => x.max(0.0),
        Activation::Clip { min, max } => x.max(f64::from(min)).min(f64::from(max)),
        Activation::LeakyRelu { alpha } if x < 0.0 => x * f64::from(alpha),
        // The slope of a PRelu is applied by its own step; alone, it is the identity.
        Activation::LeakyRelu { .. } | Activation::PRelu => x,
        Activation::Sigmoid => 1.0 / (1.0 + libm::exp(-x)),
        Activation::Tanh => libm::tanh(x),
        Activation::HardSigmoid { alpha, beta } => {
            (x * f64::from(alpha) + f64::from(beta)).clamp(0.0, 1.0)
        }
        Activation::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
    }
}

/// One of the operations with two operands.
pub fn binary(op: Binary, a: f64, b: f64) -> f64 {
    match op {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
    }
}

/// Softmax of `beta * x` along an axis, with the maximum subtracted first.
pub fn softmax(values: &[f64], shape: &[usize], axis: usize, beta: f64) -> Vec<f64> {
    let inner = strides(shape)[axis];
    let extent = shape[axis];
    let mut out = vec![0.0; values.len()];
    for start in (0..values.len()).filter(|i| (i / inner).is_multiple_of(extent.max(1))) {
        let at = |k: usize| start + k * inner;
        let max = (0..extent).fold(f64::NEG_INFINITY, |m, k| m.max(values[at(k)]));
        let mut sum = 0.0;
        for k in 0..extent {
            out[at(k)] = libm::exp((values[at(k)] - max) * beta);
            sum += out[at(k)];
        }
        for k in 0..extent {
            out[at(k)] /= sum;
        }
    }
    out
}

/// Linear resampling, one axis after the other, the last axis first.
pub fn resample(resize: &Resize, values: &[f64], in_shape: &[usize]) -> Vec<f64> {
    let mut shape = in_shape.to_vec();
    let mut current = values.to_vec();
    for axis in (0..shape.len()).rev() {
        let inner: usize = shape[axis + 1..].iter().product();
        let extent = shape[axis];
        let outer: usize = shape[..axis].iter().product();
        let samples: Vec<(usize, usize, f64)> = match &resize.axes[axis] {
            ResizeAxis::Copy => continue,
            ResizeAxis::Nearest(sources) => sources.iter().map(|&s| (s, s, 0.0)).collect(),
            ResizeAxis::Linear(samples) => samples
                .iter()
                .map(|&(l, r, w)| (l, r, f64::from(w)))
                .collect(),
        };
        let mut next = Vec::with_capacity(outer * samples.len() * inner);
        for o in 0..outer {
            for &(left, right, weight) in &samples {
                for i in 0..inner {
                    let at = |k: usize| current[(o * extent + k) * inner + i];
                    next.push(at(left) * (1.0 - weight) + at(right) * weight);
                }
            }
        }
        shape[axis] = samples.len();
        current = next;
    }
    current
}

/// Index of the operand's element for each element of the broadcast result (numpy's rule).
pub fn broadcast_index(own: &[usize], shape: &[usize]) -> Option<Vec<u32>> {
    if own == shape {
        return None;
    }
    let offset = shape.len() - own.len();
    let own_strides = strides(own);
    let full = strides(shape);
    let len: usize = shape.iter().product();
    Some(
        (0..len)
            .map(|i| {
                (0..own.len())
                    .filter(|&a| own[a] != 1)
                    .map(|a| (i / full[a + offset]) % shape[a + offset] * own_strides[a])
                    .sum::<usize>() as u32
            })
            .collect(),
    )
}

/// ONNX `DynamicQuantizeLinear` in `f32`: `s = (max - min) / 255` over a range that holds 0 (`empty` where it
/// holds nothing else), `z = half-even(clamp(-min / s, 0, 255))`, codes `saturate(half-even(x / s) + z)`.
/// Sources: ONNX operator documentation; microsoft/onnxruntime
/// `onnxruntime/core/providers/cpu/quantization/dynamicquantizelinear.cc`.
pub fn dynamic_quantize(part: DynamicPart, values: &[f64], empty: f32) -> Vec<f64> {
    let x = || values.iter().map(|&v| v as f32);
    let (min, max) = x().fold((0.0f32, 0.0f32), |(lo, hi), v| (lo.min(v), hi.max(v)));
    let scale = if max == min {
        empty
    } else {
        (max - min) / 255.0
    };
    let zero = num::round_f32((0.0 - min / scale).clamp(0.0, 255.0), Rounding::HalfEven);
    match part {
        DynamicPart::Scale => vec![f64::from(scale)],
        DynamicPart::ZeroPoint => vec![f64::from(zero)],
        DynamicPart::Codes => x()
            .map(|v| num::round_f32(v / scale, Rounding::HalfEven) + zero)
            .map(|code| f64::from(code.clamp(0.0, 255.0)))
            .collect(),
    }
}
