//! Sums of products in an accumulator of a fixed-point type.

use align_check_specs::{BiasPosition, ProductRule, TermOrder};

use super::precision::{Strategy, Table};
use crate::network::Linear;
use crate::num::{FixedType, Trace};

/// Sums of products: a dense layer or a convolution.
#[derive(Debug, Clone, PartialEq)]
pub struct Sum {
    /// Type of the accumulator.
    pub accum: FixedType,
    /// Type of the weights.
    pub weight: FixedType,
    /// When a product is cast to the accumulator's type.
    pub product: ProductRule,
    /// When the bias is added.
    pub bias_position: BiasPosition,
    /// Codes of the weights, `(out channels, kernel row, kernel column, channel of the group)`.
    weights: Vec<i64>,
    /// The bias as codes of the accumulator's type, one an output channel.
    bias: Vec<i64>,
    /// Type of the bias, and its codes before that cast.
    bias_source: (FixedType, Vec<i64>),
    /// In which order the terms of an output are added: indices into a row of weights.
    order: Vec<usize>,
}

impl Sum {
    /// Binds the table of a layer to its weights. `bias` is what the model adds behind the sum, if it does.
    ///
    /// # Errors
    /// What is not expressed, or missing in the table.
    pub fn new(
        linear: &Linear,
        bias: Option<Vec<f64>>,
        table: &Table,
        rules: &align_check_specs::PrecisionRules,
    ) -> Result<Self, String> {
        let of = |t: Option<FixedType>, name: &str| t.ok_or_else(|| format!("no type '{name}'"));
        let (accum, weight) = (of(table.accum, "accum")?, of(table.weight, "weight")?);
        let bias_type = of(table.bias, "bias")?;
        let shape = &linear.shape;
        let [rows, columns] = shape.kernel;
        let channels = shape.channels / shape.groups.max(1);
        if shape.groups != 1
            && (shape.groups != shape.channels || shape.out_channels != shape.channels)
        {
            return Err("groups other than one a channel".into());
        }
        let reals = linear.weights.to_real();
        let code = |t: &FixedType, x: f64| -> Result<i64, String> {
            let code = t.from_f64(x).ok_or("a weight that is no number")?;
            Ok(code.value)
        };
        // From (channel, row, column) to (row, column, channel).
        let taps = channels * rows * columns;
        let mut weights = Vec::with_capacity(reals.len());
        for row in reals.chunks_exact(taps.max(1)) {
            for k in 0..taps {
                let (at, channel) = (k / channels, k % channels);
                weights.push(code(&weight, row[channel * rows * columns + at])?);
            }
        }
        let bias = bias.unwrap_or_else(|| vec![0.0; shape.out_channels]);
        let source: Vec<i64> = bias
            .iter()
            .map(|&b| code(&bias_type, b))
            .collect::<Result<_, _>>()?;
        let mut sum = Self {
            accum,
            weight,
            product: rules.product,
            bias_position: rules.bias,
            weights,
            bias: Vec::new(),
            bias_source: (bias_type, source),
            order: order(rules.order, table, taps, channels)?,
        };
        sum.load_bias();
        Ok(sum)
    }

    /// Casts the bias to the accumulator's type.
    fn load_bias(&mut self) {
        let (from, codes) = &self.bias_source;
        let fraction = from.fraction();
        let cast = |&code: &i64| self.accum.cast(i128::from(code), fraction).value;
        self.bias = codes.iter().map(cast).collect();
    }

    /// The same sum in an accumulator that neither rounds nor overflows, for inputs of type `x`.
    #[must_use]
    pub fn exact(&self, x: &FixedType) -> Self {
        let mut sum = self.clone();
        let fraction = (x.fraction() + self.weight.fraction()).max(self.bias_source.0.fraction());
        let width = crate::num::MAX_FIXED_WIDTH;
        sum.accum = FixedType::new(width, width as i32 - fraction, true);
        sum.load_bias();
        sum
    }

    /// Largest magnitude of a sum, in steps of `accum`, if no step rounds or overflows.
    fn is_exact(&self, x: &FixedType) -> bool {
        let shift = self.accum.fraction() - x.fraction() - self.weight.fraction();
        let same = self.accum.fraction() >= self.bias_source.0.fraction();
        if !(0..=62).contains(&shift) || !same {
            return false;
        }
        let (lo, hi) = x.range();
        let largest = i128::from(lo.unsigned_abs().max(hi.unsigned_abs()));
        let (low, high) = self.accum.reached();
        let limit = i128::from(high.min(low.saturating_neg()));
        let taps = self.order.len().max(1);
        let loads = (self.bias_source.0.fraction() - self.accum.fraction()).unsigned_abs();
        self.weights
            .chunks_exact(taps)
            .zip(&self.bias_source.1)
            .all(|(row, bias)| {
                let weights: i128 = row.iter().map(|w| i128::from(w.unsigned_abs())).sum();
                let bias = i128::from(bias.unsigned_abs()).checked_shl(loads);
                let sum = weights.checked_mul(largest << shift);
                match (bias, sum) {
                    (Some(bias), Some(sum)) => sum.checked_add(bias).is_some_and(|s| s <= limit),
                    _ => false,
                }
            })
    }

    /// Codes of `accum`, in the layout of the layer's output, from codes of type `x`.
    pub fn run(&self, linear: &Linear, x: &FixedType, codes: &[i64]) -> Vec<i64> {
        let shape = &linear.shape;
        let images = linear.images(codes, 0);
        let [rows, columns] = shape.kernel;
        let channels = shape.channels / shape.groups.max(1);
        let outputs = shape.out_channels / shape.groups.max(1);
        let taps = self.order.len();
        let positions = shape.out_height * shape.out_width;
        let exact = self.is_exact(x);
        let mut sums = vec![0i64; linear.batch * linear.output_len()];
        let mut window = vec![0i64; taps];
        for (image, out) in images
            .chunks_exact(linear.image_len().max(1))
            .zip(sums.chunks_exact_mut(linear.output_len().max(1)))
        {
            for group in 0..shape.groups {
                for position in 0..positions {
                    let (oy, ox) = (position / shape.out_width, position % shape.out_width);
                    for (k, tap) in window.iter_mut().enumerate() {
                        let (at, channel) = (k / channels, k % channels);
                        let y = oy * shape.strides[0] + at / columns * shape.dilations[0];
                        let x = ox * shape.strides[1] + at % columns * shape.dilations[1];
                        let inside = (y.checked_sub(shape.pads[0]), x.checked_sub(shape.pads[1]));
                        *tap = match inside {
                            (Some(y), Some(x)) if y < shape.height && x < shape.width => {
                                let plane = group * channels + channel;
                                image[(plane * shape.height + y) * shape.width + x]
                            }
                            _ => 0,
                        };
                    }
                    debug_assert_eq!(taps, rows * columns * channels);
                    for m in group * outputs..(group + 1) * outputs {
                        let weights = &self.weights[m * taps..(m + 1) * taps];
                        out[m * positions + position] = if exact {
                            self.exact_sum(x, &window, weights, self.bias[m])
                        } else {
                            let off = &mut Trace::off();
                            self.in_order(x, &window, weights, self.bias[m], off)
                        };
                    }
                }
            }
        }
        linear.to_output(sums)
    }

    /// One sum of which it is proven that no step rounds or overflows.
    fn exact_sum(&self, x: &FixedType, window: &[i64], weights: &[i64], bias: i64) -> i64 {
        let shift = self.accum.fraction() - x.fraction() - self.weight.fraction();
        let sum: i64 = window.iter().zip(weights).map(|(x, w)| x * w).sum();
        (sum << shift) + bias
    }

    /// The sum of an output channel over a window `(kernel row, kernel column, channel of the group)`.
    pub fn traced(&self, x: &FixedType, window: &[i64], m: usize, trace: &mut Trace) -> i64 {
        let weights = self.row(m);
        if self.is_exact(x) {
            let bias = trace.step("bias", || format!("in {}", self.accum), self.bias[m]);
            let sum = self.exact_sum(x, window, weights, bias);
            let how = || {
                format!(
                    "bias and {} products; none rounds in {}",
                    window.len(),
                    self.accum
                )
            };
            return trace.step("accumulator", how, sum);
        }
        self.in_order(x, window, weights, self.bias[m], trace)
    }

    /// Weights of an output channel, in the order of a window.
    pub fn row(&self, m: usize) -> &[i64] {
        let taps = self.order.len();
        &self.weights[m * taps..(m + 1) * taps]
    }

    /// The order in which terms are added.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// One sum, step by step.
    fn in_order(
        &self,
        x: &FixedType,
        window: &[i64],
        weights: &[i64],
        bias: i64,
        trace: &mut Trace,
    ) -> i64 {
        let accum = &self.accum;
        let fraction = x.fraction() + self.weight.fraction();
        let product = |k: usize| i128::from(window[k]) * i128::from(weights[k]);
        // Codes of the accumulator and products with the same bits behind the point.
        let wide = fraction.max(accum.fraction());
        let lift = (wide - accum.fraction()).unsigned_abs();
        let lift_product = (wide - fraction).unsigned_abs();
        let first = self.bias_position == BiasPosition::First;
        trace.step("bias", || format!("in {accum}"), bias);
        let mut acc = if first { bias } else { 0 };
        match self.product {
            ProductRule::Cast => {
                for &k in &self.order {
                    let term = accum.cast(product(k), fraction);
                    let how = || format!("{} * {} * 2^-{fraction}, cast", window[k], weights[k]);
                    let term = trace.flagged("term", how, term).value;
                    let how = || format!("{acc} + {term}");
                    acc = trace.flagged("sum", how, accum.add(acc, term)).value;
                }
            }
            ProductRule::Whole => {
                for &k in &self.order {
                    let sum = (i128::from(acc) << lift) + (product(k) << lift_product);
                    let how = || {
                        let product = product(k);
                        format!(
                            "{acc} * 2^{lift} + {product} * 2^{lift_product}, of 2^-{wide}, cast"
                        )
                    };
                    acc = trace.flagged("sum", how, accum.cast(sum, wide)).value;
                }
            }
            ProductRule::AfterSum => {
                let sum: i128 = self.order.iter().map(|&k| product(k)).sum();
                let how = || format!("of {} products, in 2^-{fraction}", self.order.len());
                let sum = trace.step("sum", how, sum);
                let all = (sum << lift_product) + (i128::from(acc) << lift);
                let how =
                    || format!("{acc} * 2^{lift} + {sum} * 2^{lift_product}, of 2^-{wide}, cast");
                acc = trace
                    .flagged("accumulator", how, accum.cast(all, wide))
                    .value;
            }
        }
        if !first {
            let how = || format!("{acc} + bias");
            acc = trace.flagged("with bias", how, accum.add(acc, bias)).value;
        }
        acc
    }
}

/// Indices of the terms in the order in which they are added. `channels` lie innermost.
fn order(
    rule: TermOrder,
    table: &Table,
    taps: usize,
    channels: usize,
) -> Result<Vec<usize>, String> {
    let natural = 0..taps;
    let strategy = table.strategy.ok_or("no strategy")?;
    let reuse = table.reuse_factor.unwrap_or(1);
    if reuse == 0 {
        return Err("a reuse factor of 0".into());
    }
    let own = || -> Vec<usize> {
        if strategy == Strategy::Resource && reuse < taps {
            (0..reuse).flat_map(|i| (i..taps).step_by(reuse)).collect()
        } else {
            natural.clone().collect()
        }
    };
    Ok(match rule {
        TermOrder::Strategy => own(),
        TermOrder::StrategyReversed => own().into_iter().rev().collect(),
        TermOrder::ChannelLast => natural.collect(),
        TermOrder::ChannelFirst => (0..channels)
            .flat_map(|channel| (channel..taps).step_by(channels.max(1)))
            .collect(),
    })
}
