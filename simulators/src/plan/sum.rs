//! Sums of products with constant weights: which kernel makes them.

use std::sync::Arc;

use align_check_specs::{Order, Overflow};

use super::{Finish, LayerPlan, Planner};
use crate::adapt::{self, AdaptedWeights, ValueGrid};
use crate::kernels::{PackedWeights, SaturatingPairs};
use crate::network::{Kind, Linear};
use crate::tensor::Data;

/// Constant weights on the target's grid, and how they are summed.
#[derive(Debug, Clone)]
pub struct LinearPlan {
    /// How products are summed.
    pub sum: Sum,
    /// What one unit of the sum is worth, an output channel; 1 where the sum is real.
    pub unit: Vec<f64>,
    /// Whether the weights are the model's own codes.
    pub model_weights: bool,
    /// Whether their codes mean what the model's do.
    pub model_grid: bool,
    /// Bias of each output channel as a real; 0 where there is none. Exact multiples of
    /// [`unit`](Self::unit) where the model stores integers for its own grids.
    pub bias: Vec<f64>,
    /// The model's integer biases, where its own grids are kept: what the accumulator starts from.
    pub bias_codes: Option<Vec<i64>>,
    /// Smallest and largest code of the input; none where the sum is real.
    pub codes: Option<(i64, i64)>,
    /// Where the file's scale for the bias is not input scale times weight scale.
    pub other_bias: Option<OtherBias>,
    /// Largest magnitude that a sum can reach, over all channels, in units of the sum.
    pub bound: f64,
    /// Pairs of products that can saturate to 16 bits, on a target that adds them so.
    pub pairs: Option<Arc<Paired>>,
}

/// A bias with a scale of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct OtherBias {
    /// Output channels with another scale.
    pub channels: usize,
    /// Of this many.
    pub of: usize,
    /// The one furthest away: the file's scale, and input scale times weight scale.
    pub scales: (f64, f64),
    /// Whether the file's integers are added to the sum as they are, whatever scale it states.
    pub as_stored: bool,
}

impl OtherBias {
    /// Input scale times weight scale, over the file's scale for the bias.
    pub fn ratio(&self) -> f64 {
        self.scales.1 / self.scales.0
    }
}

/// How far the scale of a bias may be from input scale times weight scale: both are products of `f32`.
const SAME_SCALE: f64 = 1e-5;

/// Whether an integer bias means the real that the file states.
pub(super) fn same_bias(exact: f64, real: f64) -> bool {
    (exact - real).abs() <= SAME_SCALE * exact.abs()
}

/// How products are summed.
#[derive(Debug, Clone)]
pub enum Sum {
    /// Proven not to leave 31 bits: any order gives the same.
    Fast {
        /// Weights less their zero point, packed.
        weights: Arc<PackedWeights>,
        /// Sum of the weights of each output channel.
        row_sums: Arc<[i64]>,
        /// Smallest input code: stored bytes are codes less this.
        offset: i64,
        /// The input's zero point.
        zero: i64,
    },
    /// In order, with the accumulator of the target.
    InOrder {
        /// Weights less their zero point.
        weights: Arc<[i32]>,
        /// What the accumulator starts from.
        start: Vec<i64>,
        /// Its width.
        bits: u32,
        /// What happens beyond.
        overflow: Overflow,
        /// Order of the terms.
        channel_first: bool,
        /// The input's zero point.
        zero: i64,
        /// Whether `start` holds the bias.
        initialized: bool,
    },
    /// Products of reals, in `f64`.
    Real {
        /// Weights.
        weights: Arc<[f64]>,
        /// Order of the terms.
        channel_first: bool,
    },
}

/// Pairs of products that can saturate to 16 bits.
#[derive(Debug, Clone, PartialEq)]
pub struct Paired {
    /// Which.
    pub pairs: SaturatingPairs,
    /// What is added to a code of the input's grid, to get the one that is multiplied.
    pub offset: i64,
    /// What a tap outside the image multiplies.
    pub pad: u8,
}

impl Sum {
    /// For each output channel, the input's zero point times the sum of the weights.
    pub(super) fn zeros(&self, channels: usize) -> Vec<i64> {
        match self {
            Self::Fast { row_sums, zero, .. } => row_sums.iter().map(|sum| sum * zero).collect(),
            Self::InOrder { weights, zero, .. } => weights
                .chunks((weights.len() / channels.max(1)).max(1))
                .map(|row| row.iter().map(|&w| i64::from(w)).sum::<i64>() * zero)
                .collect(),
            Self::Real { .. } => vec![0; channels],
        }
    }
}

impl Planner<'_> {
    pub(super) fn linear(
        &self,
        linear: &Linear,
        mismatches: &mut Vec<String>,
    ) -> Result<LinearPlan, String> {
        let weights = if self.is_unquantized() {
            AdaptedWeights {
                tensor: linear.weights.clone(),
                model: true,
                mismatch: None,
                model_grid: true,
            }
        } else {
            adapt::weights(&self.spec.weights, &self.spec.activations, linear)?
        };
        mismatches.extend(weights.mismatch);
        // The model's codes on both sides: the same sums as the reference's.
        let model_input = matches!(
            self.inputs.first(),
            Some(ValueGrid::Codes { model: true, .. })
        );
        if let (
            true,
            true,
            Some(LayerPlan {
                linear: Some(plan), ..
            }),
        ) = (weights.model, model_input, self.model)
            && matches!(plan.sum, Sum::Fast { .. })
            && plan.codes == self.codes(0).map(|(x, _)| (x.min, x.max))
            && plan.other_bias.is_none()
        {
            return Ok(plan.clone());
        }
        let channel_first = self.spec.accumulator.order == Order::ChannelFirst;
        let bias = || match &linear.bias {
            Some(bias) => bias.reals.clone(),
            None => vec![0.0; linear.shape.out_channels],
        };
        let real = |unit: f64| LinearPlan {
            sum: Sum::Real {
                weights: weights.tensor.to_real().into(),
                channel_first,
            },
            unit: vec![unit; linear.shape.out_channels],
            model_weights: weights.model,
            model_grid: weights.model_grid,
            bias: bias(),
            bias_codes: None,
            codes: None,
            other_bias: None,
            bound: f64::INFINITY,
            pairs: None,
        };
        let (Some((x, _)), Data::Codes { codes, grid: wg }) = (self.codes(0), &weights.tensor.data)
        else {
            return Ok(real(1.0));
        };
        let depthwise = linear.shape.groups == linear.shape.channels
            && linear.shape.out_channels == linear.shape.channels
            && x.scale.axis == Some(1)
            && x.zero_point.values.len() == 1;
        if !x.is_uniform() && !depthwise {
            return Ok(real(1.0));
        }
        let taps = codes.len() / linear.shape.out_channels.max(1);
        let centred: Vec<i64> = codes
            .iter()
            .enumerate()
            .map(|(i, &w)| i64::from(w) - wg.zero_point.at(i / taps.max(1)))
            .collect();
        let zero = x.zero_point.at(0);
        let largest = (x.min - zero)
            .unsigned_abs()
            .max((x.max - zero).unsigned_abs());
        let bound = centred
            .chunks(taps.max(1))
            .map(|row| row.iter().map(|w| w.unsigned_abs() as f64).sum::<f64>() * largest as f64)
            .fold(0.0, f64::max);
        let unit: Vec<f64> = (0..linear.shape.out_channels)
            .map(|c| x.scale.at(c) * wg.scale.at(c) * linear.factor)
            .collect();
        let mut bias = bias();
        let apart = |a: &(f64, f64), b: &(f64, f64)| {
            let off = |(own, unit): &(f64, f64)| libm::log(own / unit).abs();
            off(a).total_cmp(&off(b))
        };
        let other: Vec<(f64, f64)> = linear
            .bias
            .as_ref()
            .and_then(|bias| bias.stated.as_ref())
            .map_or_else(Vec::new, |stated| {
                let pairs = stated.scales.iter().copied().zip(unit.iter().copied());
                pairs
                    .filter(|(own, unit)| (own - unit).abs() > SAME_SCALE * unit.abs())
                    .collect()
            });
        // A file that states another scale for its bias means that other one.
        let exact = |c: usize, code: i64, real: f64| {
            let exact = code as f64 * unit[c];
            same_bias(exact, real).then_some(exact)
        };
        let stored = linear.bias.as_ref().and_then(|b| b.codes.as_deref());
        let bias_codes = stored
            .filter(|codes| {
                let stated = |(c, &code): (usize, &i64)| exact(c, code, bias[c]).is_some();
                // Kernels of integers never read the scale; to simulate fake-quant, it counts.
                let integer = self.adds_integers() && !self.stated_bias;
                let plain =
                    (integer && linear.factor == 1.0) || codes.iter().enumerate().all(stated);
                weights.model_grid && model_input && plain
            })
            .map(<[i64]>::to_vec);
        let other_bias = other.iter().copied().max_by(apart).map(|scales| OtherBias {
            channels: other.len(),
            of: unit.len(),
            scales,
            as_stored: bias_codes.is_some() && self.adds_integers(),
        });
        for (c, &code) in stored.into_iter().flatten().enumerate() {
            if let Some(exact) = exact(c, code, bias[c]) {
                bias[c] = exact;
            }
        }
        let bytes = x.max - x.min <= 255 && zero >= x.min && zero - x.min <= 255;
        let narrow: Option<Vec<i8>> = centred.iter().map(|&w| i8::try_from(w).ok()).collect();
        let sum = match narrow {
            Some(narrow) if bytes && bound < f64::from(i32::MAX) => {
                let shared = self
                    .model
                    .and_then(|plan| plan.linear.as_ref())
                    .and_then(|plan| match &plan.sum {
                        Sum::Fast {
                            weights: packed, ..
                        } if weights.model => Some(packed.clone()),
                        _ => None,
                    });
                let packed = shared.unwrap_or_else(|| {
                    Arc::new(PackedWeights::new(self.isa, &linear.shape, &narrow))
                });
                let row_sums = packed.row_sums().iter().map(|&s| i64::from(s)).collect();
                Sum::Fast {
                    weights: packed,
                    row_sums,
                    offset: x.min,
                    zero,
                }
            }
            _ if i32::try_from(largest).is_ok()
                && centred.iter().all(|&w| i32::try_from(w).is_ok())
                && bound < 9e18 =>
            {
                Sum::InOrder {
                    weights: centred.iter().map(|&w| w as i32).collect(),
                    start: vec![0; linear.shape.out_channels],
                    bits: 64,
                    overflow: Overflow::Exact,
                    channel_first,
                    zero,
                    initialized: false,
                }
            }
            _ => return Ok(real(1.0)),
        };
        Ok(LinearPlan {
            sum,
            unit,
            model_weights: weights.model,
            model_grid: weights.model_grid,
            bias,
            bias_codes,
            codes: Some((x.min, x.max)),
            other_bias,
            bound,
            pairs: None,
        })
    }

    /// Whether the integers of a bias are added as they are, whatever scale the file states: in integer files, and
    /// where a compiler takes them over.
    fn adds_integers(&self) -> bool {
        self.layer.integer || self.spec.placement.bias.is_some()
    }

    /// Where the target's accumulator is not proven wide enough, sums are made in order.
    pub(super) fn fix_sum(&self, plan: &mut LayerPlan) {
        let (Kind::Linear(linear), Some(sums), Some(bits)) = (
            &self.layer.kind,
            &mut plan.linear,
            self.spec.accumulator.bits,
        ) else {
            return;
        };
        let Finish::Requantize { requantizer, .. } = &plan.finish else {
            return;
        };
        let channels = linear.shape.out_channels;
        // A bias that differs from row to row is added to the finished sum.
        let initialized = linear.rows.is_none();
        let mut start: Vec<i64> = (0..requantizer.channels())
            .map(|c| requantizer.initial(c))
            .collect();
        let bias = start.iter().map(|b| b.unsigned_abs()).max().unwrap_or(0) as f64;
        if !initialized {
            start = vec![0; channels];
        }
        let limit = libm::exp2(f64::from(bits - 1)) - 1.0;
        let wraps = self.spec.accumulator.overflow == Overflow::Wrap && bits == 32;
        if sums.bound + bias <= limit || (wraps && matches!(sums.sum, Sum::Fast { .. })) {
            return;
        }
        let Some((x, _)) = self.codes(0) else { return };
        let Ok(weights) = adapt::weights(&self.spec.weights, &self.spec.activations, linear) else {
            return;
        };
        let Data::Codes { codes, grid } = &weights.tensor.data else {
            return;
        };
        let taps = codes.len() / channels.max(1);
        let weights = codes
            .iter()
            .enumerate()
            .map(|(i, &w)| (i64::from(w) - grid.zero_point.at(i / taps.max(1))) as i32)
            .collect();
        sums.sum = Sum::InOrder {
            weights,
            start,
            bits,
            overflow: self.spec.accumulator.overflow,
            channel_first: self.spec.accumulator.order == Order::ChannelFirst,
            zero: x.zero_point.at(0),
            initialized,
        };
    }
}
