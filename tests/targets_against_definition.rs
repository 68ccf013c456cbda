//! Convolutions under every integer target, against a slow definition of its own, for every input code.
//!
//! One layer: a 1x1 convolution of one channel, fed with all 256 codes, with a grid of weights and biases
//! as output channels. Scales are chosen so that accumulators fall on ties, and beside them.

use align_check_tests::onnx::{Onnx, Quant, real};
use align_check_tests::simulate::{codes, network};
use align_check_tests::slow::{
    exp2, frexp, half_away, half_even, half_up_div, mbqm, quantize_multiplier, saturate,
};
use align_check_tests::{Random, say};

/// One convolution.
#[derive(Debug, Clone)]
struct Conv {
    x: Quant,
    /// Weight code, weight scale and bias code of each output channel; bias in units of the sum.
    channels: Vec<(i64, f32, i64)>,
    /// One scale for all weights.
    per_tensor: bool,
    /// Scale of the bias, where it is not that of the sum.
    bias_scale: Option<f32>,
    y: Quant,
    relu: bool,
    /// The slope of a leaky `ReLU` behind it.
    leaky: Option<f32>,
}

impl Conv {
    /// Scale of a channel's sum.
    fn unit(&self, sw: f32) -> f32 {
        self.bias_scale.unwrap_or(self.x.scale[0] * sw)
    }

    fn model(&self) -> Onnx {
        let count = self.channels.len() as i64;
        let weights: Vec<f32> = self.channels.iter().map(|c| c.0 as f32 * c.1).collect();
        let biases: Vec<f32> = self
            .channels
            .iter()
            .map(|&(_, sw, b)| (b as f64 * f64::from(self.unit(sw))) as f32)
            .collect();
        let scales: Vec<f32> = self.channels.iter().map(|c| c.1).collect();
        let weight = if self.per_tensor {
            Quant::i8(scales[0], 0)
        } else {
            Quant::per_channel(&scales, 8)
        };
        let bias = Quant {
            scale: scales.iter().map(|&sw| self.unit(sw)).collect(),
            shape: vec![count],
            ..Quant::uniform(1.0, 0, 32, true)
        };
        let model = Onnx::new()
            .input("x", &[1, 1, 1, 256])
            .reals("w", &[count, 1, 1, 1], &weights)
            .reals("b", &[count], &biases)
            .quant("x", "qx", &self.x)
            .quant("w", "qw", &weight)
            .quant("b", "qb", &bias)
            .node("Conv", &["qx", "qw", "qb"], "c", &[]);
        let (last, model) = match (self.relu, self.leaky) {
            (true, _) => ("r", model.node("Relu", &["c"], "r", &[])),
            (false, Some(alpha)) => {
                let node = model.node("LeakyRelu", &["c"], "l", &[real("alpha", alpha)]);
                ("l", node)
            }
            (false, None) => ("c", model),
        };
        model
            .quant(last, "y", &self.y)
            .output("y", &[1, count, 1, 256])
    }

    /// Every input code, as a real.
    fn inputs(&self) -> Vec<f64> {
        let (lo, hi) = self.x.range();
        (lo..=hi)
            .map(|q| (q - self.x.zero_point) as f64 * f64::from(self.x.scale[0]))
            .collect()
    }

    /// Smallest and largest output code, after a fused `ReLU`.
    fn bounds(&self) -> (i128, i128) {
        let (lo, hi) = self.y.range();
        let lo = if self.relu {
            lo.max(self.y.zero_point)
        } else {
            lo
        };
        (lo.into(), hi.into())
    }

    /// Compares a target with its definition: `(sum, weight scale, bias, weight) -> code before the clamp`.
    ///
    /// Returns the number of codes, and of them those that differ, with the first ones as text.
    fn differing(
        &self,
        target: &str,
        define: impl Fn(&Self, &Term) -> i128,
    ) -> (usize, Vec<String>) {
        let found = &codes(&network(&self.model()), target, &[("x", self.inputs())])["y"];
        let (first, last) = self.x.range();
        let (lo, hi) = self.bounds();
        let mut wrong = Vec::new();
        for (m, &(w, sw, b)) in self.channels.iter().enumerate() {
            for (i, q) in (first..=last).enumerate() {
                let sum = i128::from((q - self.x.zero_point) * w);
                let term = Term {
                    sum,
                    w: w.into(),
                    sw,
                    b: b.into(),
                };
                let wanted = define(self, &term).clamp(lo, hi);
                let got = i128::from(found[m * 256 + i]);
                if got != wanted {
                    wrong.push(format!(
                        "w {w} * {sw:e}, bias {b}, x {q}: {got}, not {wanted}"
                    ));
                }
            }
        }
        let inside = found
            .iter()
            .filter(|&&q| i128::from(q) > lo && i128::from(q) < hi)
            .count();
        assert!(
            inside > 256,
            "{target}: nearly everything saturates: {self:?}"
        );
        (found.len(), wrong)
    }

    /// As [`Self::differing`]; nothing may differ. Returns the number of codes.
    fn compare(&self, what: &str, target: &str, define: impl Fn(&Self, &Term) -> i128) -> usize {
        let (count, wrong) = self.differing(target, define);
        assert!(
            wrong.is_empty(),
            "{target}, {what}: {} of {count} codes differ from the definition, the first ones:\n{}",
            wrong.len(),
            wrong[..wrong.len().min(5)].join("\n")
        );
        count
    }
}

/// One element on its way.
struct Term {
    /// Product of the weight and the input less its zero point.
    sum: i128,
    /// The weight.
    w: i128,
    sw: f32,
    /// Bias code.
    b: i128,
}

impl Term {
    fn acc(&self) -> i128 {
        self.sum + self.b
    }
}

/// A grid of weights and biases. Scales: powers of two (every second accumulator a tie at 1/2), one over
/// a highly composite number, and arbitrary ones.
fn channels(kind: &str) -> Vec<(i64, f32, i64)> {
    let mut random = Random(42);
    let mut channels = Vec::new();
    for w in [-128, -127, -3, -1, 1, 2, 5, 64, 127] {
        for b in [-1000, -361, -360, -1, 0, 1, 359, 360, 5000] {
            let (n, sw) = match kind {
                "ties" => (random.below(6) as i32, 0.0),
                "composite" => (0, 1.0 / 720.0),
                _ => (0, 0.000_731 + random.below(1000) as f32 * 0.000_017),
            };
            channels.push((w, if kind == "ties" { exp2(-n) as f32 } else { sw }, b));
        }
    }
    channels
}

/// Convolutions with every combination of the things that targets treat differently.
fn convs(x: &[Quant], y: &[Quant]) -> Vec<(String, Conv)> {
    let mut convs = Vec::new();
    for kind in ["ties", "composite", "arbitrary"] {
        for x in x {
            for y in y {
                for relu in [false, true] {
                    let (sx, sy) = match kind {
                        "ties" => (0.5, 8.0),
                        "composite" => (1.0, 1.0),
                        _ => (0.023_5, 0.047_1),
                    };
                    let conv = Conv {
                        x: Quant {
                            scale: vec![sx],
                            ..x.clone()
                        },
                        channels: channels(kind),
                        per_tensor: false,
                        bias_scale: None,
                        y: Quant {
                            scale: vec![sy],
                            ..y.clone()
                        },
                        relu,
                        leaky: None,
                    };
                    convs.push((format!("{kind}, relu {relu}, {x:?} to {y:?}"), conv));
                }
            }
        }
    }
    convs
}

#[test]
fn tflite_reference() {
    let grids = [Quant::u8(1.0, 121), Quant::i8(1.0, -3)];
    let mut count = 0;
    for (what, conv) in convs(&grids, &grids) {
        count += conv.compare(&what, "tflite-reference", |conv, term| {
            let (sx, sy) = (conv.x.scale[0], conv.y.scale[0]);
            let m = f64::from(sx) * f64::from(term.sw) / f64::from(sy);
            mbqm(term.acc(), quantize_multiplier(m)) + i128::from(conv.y.zero_point)
        });
    }
    say(format_args!("tflite-reference: {count} codes"));
}

#[test]
fn onnxruntime() {
    let grids = [Quant::u8(1.0, 121), Quant::i8(1.0, -3)];
    let mut count = 0;
    for (what, conv) in convs(&grids, &grids) {
        count += conv.compare(&what, "onnxruntime", |conv, term| {
            let product: f32 = conv.x.scale[0] * term.sw;
            let m: f32 = product / conv.y.scale[0];
            let v: f32 = term.acc() as f32 * m;
            let zero = i128::from(conv.y.zero_point);
            let (lo, hi) = conv.bounds();
            let v = f64::from(v).clamp((lo - zero) as f64, (hi - zero) as f64);
            half_even(v) + zero
        });
    }
    say(format_args!("onnxruntime: {count} codes"));
}

#[test]
fn tensorrt() {
    let grid = [Quant::i8(1.0, 0)];
    let mut count = 0;
    for (what, conv) in convs(&grid, &grid) {
        count += conv.compare(&what, "tensorrt", |conv, term| {
            let unit: f32 = conv.x.scale[0] * term.sw;
            // The bias is a real that was never quantized, held in f32.
            let bias = (term.b as f64 * f64::from(unit)) as f32;
            let scaled: f32 = term.sum as f32 * unit;
            let v: f32 = scaled + bias;
            let v = if conv.relu { v.max(0.0) } else { v };
            let reciprocal: f32 = 1.0 / conv.y.scale[0];
            let v: f32 = v * reciprocal;
            half_even(f64::from(v))
        });
    }
    say(format_args!("tensorrt: {count} codes"));
}

#[test]
fn vitis_dpu() {
    let mut count = 0;
    for (fx, fw, fb, fy) in [
        (1, 6, 0, 1),
        (4, 7, 5, 2),
        (0, 3, 3, -4),
        (7, 7, 3, 7),
        (2, 5, 7, 6),
    ] {
        for (relu, leaky) in [(false, None), (true, None), (false, Some(0.1))] {
            let scale = |position: i32| exp2(-position) as f32;
            let mut channels = Vec::new();
            for w in [-128, -100, -3, -1, 1, 2, 77, 127] {
                for b in [-127, -64, -1, 0, 1, 9, 100, 127] {
                    channels.push((w, scale(fw), b));
                }
            }
            let conv = Conv {
                x: Quant::i8(scale(fx), 0),
                channels,
                per_tensor: true,
                bias_scale: Some(scale(fb)),
                y: Quant::i8(scale(fy), 0),
                relu,
                leaky,
            };
            let what = format!("positions {fx}, {fw}, {fb}, {fy}, relu {relu}, {leaky:?}");
            count += conv.compare(&what, "vitis-dpu", |_, term| {
                let (cut, bias) = (fx + fw - fy, fx + fw - fb);
                let acc = term.sum + (term.b << bias);
                let acc = if relu { acc.max(0) } else { acc };
                // One rounding, behind the slope, which is 26/256 whatever the file says.
                match (leaky, acc < 0) {
                    (Some(_), true) => saturate(half_up_div(acc * 26, 1 << (cut + 8)), 8),
                    _ => saturate(half_up_div(acc, 1 << cut), 8),
                }
            });
        }
    }
    say(format_args!("vitis-dpu: {count} codes"));
}

/// A sum of products with a bias and weights of one scale a channel, as a count of thresholds: nearest, ties up. Scales
/// are powers of two, so that no step in float32 rounds.
#[test]
fn finn() {
    let mut count = 0;
    for relu in [false, true] {
        let weights = [-128, -100, -3, 1, 2, 77, 127].into_iter().enumerate();
        let channels = weights.flat_map(|(i, w)| {
            [-700, -64, 0, 9, 512].map(|b| (w, exp2(-3 - i as i32 % 3) as f32, b))
        });
        let conv = Conv {
            x: Quant::i8(exp2(-2) as f32, 0),
            channels: channels.collect(),
            per_tensor: false,
            bias_scale: None,
            y: if relu {
                Quant::u8(4.0, 0)
            } else {
                Quant::i8(4.0, 0)
            },
            relu,
            leaky: None,
        };
        let what = format!("relu {relu}");
        count += conv.compare(&what, "finn", |_, term| {
            // Units of 2^-2 * sw in steps of 4.
            let per_step = (16.0 / f64::from(term.sw)) as i128;
            half_up_div(term.acc(), per_step)
        });
    }
    say(format_args!("finn: {count} codes"));
}

#[test]
fn hexagon_nn() {
    let grids = [Quant::u8(1.0, 121), Quant::u8(1.0, 0), Quant::u8(1.0, 88)];
    let mut count = 0;
    for (what, mut conv) in convs(&grids, &grids) {
        // One range for all weights: channel scales travel as Q31 factors, which is another matter.
        let sw = conv.channels[0].1;
        for channel in &mut conv.channels {
            channel.1 = sw;
        }
        conv.per_tensor = true;
        count += conv.compare(&what, "hexagon-nn", hexagon);
    }
    say(format_args!("hexagon-nn: {count} codes"));
}

/// `hexagon_nn`'s convolution, one range for all weights.
fn hexagon(conv: &Conv, term: &Term) -> i128 {
    let (level_x, level_y) = (conv.x.scale[0], conv.y.scale[0]);
    let product: f32 = level_x * term.sw;
    let gain: f32 = product / level_y;
    let shift = if gain <= 1.0 {
        0
    } else {
        frexp(f64::from(gain)).1
    };
    let recip = half_away(f64::from(gain) * exp2(31 - shift)).min((1 << 31) - 1);
    // The output's zero point and the input's ride in the bias, which is summed in f32.
    let out_min = -(conv.y.zero_point as f32 * level_y);
    let zero: f32 = -out_min / product;
    let bias: f32 = term.b as f32 + zero;
    let offset = (term.w * i128::from(conv.x.zero_point)) as f32;
    let bias: f32 = bias - offset;
    let raw = term.sum + term.w * i128::from(conv.x.zero_point);
    let acc = raw + half_away(f64::from(bias));
    let v = ((acc << shift) * recip + (1 << 30)) >> 31;
    saturate(v, 32)
}

/// Biases beyond 2^24, where f32 no longer holds every integer.
///
/// Known failure: the simulator adds the input's zero point exactly, the library within the f32 sum of the
/// bias (`evidence/dsp.md` 1.3, `fill_bias_buf`). Once it is fixed, nothing may differ.
#[test]
fn hexagon_nn_with_biases_beyond_f32() {
    let mut channels = Vec::new();
    for w in [-3, -1, 1, 3] {
        for code in [40, 200, 254] {
            for d in [-90, -33, -2, -1, 0, 1, 2, 33, 90] {
                // Around the tie below `code`.
                channels.push((w, exp2(-17) as f32, ((code - 121) << 18) + (1 << 17) + d));
            }
        }
    }
    let conv = Conv {
        x: Quant::u8(0.5, 121),
        channels,
        per_tensor: true,
        bias_scale: None,
        y: Quant::u8(1.0, 121),
        relu: false,
        leaky: None,
    };
    let (count, wrong) = conv.differing("hexagon-nn", hexagon);
    assert_eq!(
        (count, wrong.len()),
        (27_648, 50),
        "fixed, or worse: {wrong:#?}"
    );
}
