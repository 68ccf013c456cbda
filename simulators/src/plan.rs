//! A layer under a target's rules: everything that does not depend on the input, prepared once.

use std::sync::Arc;

use align_check_graph::{Activation, Binary, DynamicPart, Quantizer};
use align_check_specs::{
    AverageRule, Bounds, ConvAddRule, DequantizeRule, Derivation, Division, DynamicQuantizeRule,
    Grid, Multiplier, Order, Overflow, Product, Quantize, Requantize, RescaleRule, SigmoidRule,
    Spec,
};

use crate::adapt::{self, ValueGrid};
use crate::error::Error;
use crate::hls4ml::Fixed;
use crate::kernels::{Isa, PackedWeights};
use crate::network::{Folded, Kind, Layer, Linear, Network, Operand, Post};
use crate::num::Width;
use crate::quantize::CodeGrid;
use crate::rules::Labels;
use crate::rules::average::Average;
use crate::rules::elementwise::{self, PairFunction, Walk};
use crate::rules::fake_quantize::{self, ConvAdd, Values};
use crate::rules::real::{Dequantizer, RealQuantizer};
use crate::rules::requantize::{self, Requantizer, Unit};
use crate::rules::resize::Resampler;
use crate::rules::softmax::Softmax;
use crate::rules::thresholds::{self, Counted};
use crate::rules::unary::{self, CodeFunction};
use crate::tensor::{Channels, Data};

/// Largest table that is made for an operation with one quantized input.
const TABLE: i64 = 1 << 16;

/// A layer under a target's rules.
#[derive(Debug)]
pub struct LayerPlan {
    /// What the output is stored as.
    pub out: ValueGrid,
    /// Sums of products, where the layer has them.
    pub linear: Option<LinearPlan>,
    /// From sums (or inputs) to the output.
    pub finish: Finish,
    /// Why the target's grids (of the output or of the weights) are not the model's.
    pub mismatches: Vec<String>,
    /// Whether the target computes this in float.
    pub float: bool,
    /// The rules that the layer rests on, as paths into the spec.
    pub rules: Vec<&'static str>,
}

/// Constant weights on the target's grid, and how they are summed.
#[derive(Debug, Clone)]
pub struct LinearPlan {
    /// How products are summed.
    pub sum: Sum,
    /// What one unit of the sum is worth, an output channel; 1 where the sum is real.
    pub unit: Vec<f64>,
    /// Whether the weights are the model's own codes.
    pub model_weights: bool,
    /// Bias of each output channel as a real; 0 where there is none. Exact multiples of
    /// [`unit`](Self::unit) where the model stores integers for its own grids.
    pub bias: Vec<f64>,
    /// The model's integer biases, where its own grids are kept: what the accumulator starts from.
    pub bias_codes: Option<Vec<i64>>,
    /// Largest magnitude that a sum can reach, over all channels, in units of the sum.
    pub bound: f64,
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

impl Sum {
    /// For each output channel, the input's zero point times the sum of the weights.
    fn zeros(&self, channels: usize) -> Vec<i64> {
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

/// From sums (or inputs) to the output.
pub enum Finish {
    /// The elements stay what they are (data movement, maximum, clamps on one grid).
    Keep {
        /// Smallest code that is kept.
        lo: i32,
        /// Largest code that is kept.
        hi: i32,
    },
    /// One output of a quantizer whose scale follows from its input's range; the scale of an empty range.
    DynamicQuantize(DynamicPart, f32),
    /// The codes stay what they are; their meaning changes.
    Reinterpret,
    /// The exact real through [`Layer::posts`], then the model's own quantizer to the letter.
    Letter,
    /// The exact real through [`Layer::posts`]; nothing is quantized.
    Real,
    /// Integer sums through a requantization.
    Requantize {
        /// The rule, bound to this layer's scales.
        requantizer: Box<Requantizer>,
        /// Channels of the sums.
        channels: Channels,
    },
    /// A table from input code to output code.
    Table {
        /// Outputs, from input code `first` on.
        table: Vec<i32>,
        /// Input code of the first entry.
        first: i64,
    },
    /// A table, and another one for elements in whole blocks of a vector kernel.
    Tables {
        /// Outputs, from input code `first` on.
        table: Vec<i32>,
        /// The same for elements in blocks.
        blocks: Vec<i32>,
        /// Input code of the first entry.
        first: i64,
        /// Which elements these are.
        inside: Arc<[bool]>,
    },
    /// A function of the input code, where a table would be too large.
    Function(CodeFunction),
    /// A function of two codes.
    Pair(Box<Pair>),
    /// A linear resampling.
    Resample(Box<Resampler>),
    /// Integer sums as reals, by a scale and a bias of each channel in `f32`: a part of what reads them.
    Values(Values, Channels),
    /// The sum of [`Values`](Self::Values) and a code, and a clamp in stored codes.
    ConvAdd(Box<ConvAdd>, (i32, i32)),
    /// A mean, and a clamp in stored codes.
    Average(Box<Average>, (i32, i32)),
    /// A softmax over rows, and a clamp in stored codes.
    Softmax(Box<Softmax>, (i32, i32)),
    /// Integers become reals and leave the network.
    Dequantize(Dequantizer, Channels),
    /// Each operand through its own function (none: it is on the output's grid already).
    Concat(Vec<Option<CodeFunction>>),
    /// The real through [`Layer::posts`] in float, then the target's `[quantize]`.
    Float(Box<FloatFinish>),
    /// The real through [`Layer::posts`], then the logarithmic quantizer.
    Gfpq {
        /// A table in place of the function behind the sum.
        sigmoid: Option<Activation>,
    },
    /// Everything in fixed-point types: hls4ml.
    Fixed(Box<Fixed>),
    /// Thresholds that the real in front of [`Layer::posts`], or the sum, reaches: FINN.
    Thresholds(Box<Counted>),
}

/// A function of two codes.
pub struct Pair {
    /// Itself.
    pub function: PairFunction,
    /// A clamp in stored codes.
    pub clamp: (i32, i32),
    /// Elements in whole blocks of a vector kernel, and their function.
    pub blocks: Option<(PairFunction, Arc<[bool]>)>,
}

/// `[quantize]` of a layer's reals.
#[derive(Debug)]
pub struct FloatFinish {
    /// One entry a channel.
    pub quantizers: Vec<RealQuantizer>,
    /// Which element belongs to which entry.
    pub channels: Channels,
    /// Elements in whole blocks, and the quantizers of those that are not.
    pub tail: Option<(Vec<RealQuantizer>, Arc<[bool]>)>,
}

impl std::fmt::Debug for Finish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Keep { .. } => "Keep",
            Self::DynamicQuantize(..) => "DynamicQuantize",
            Self::Reinterpret => "Reinterpret",
            Self::Letter => "Letter",
            Self::Real => "Real",
            Self::Requantize { .. } => "Requantize",
            Self::Table { .. } => "Table",
            Self::Tables { .. } => "Tables",
            Self::Resample(_) => "Resample",
            Self::Function(_) => "Function",
            Self::Pair(..) => "Pair",
            Self::Values(..) => "Values",
            Self::ConvAdd(..) => "ConvAdd",
            Self::Average(..) => "Average",
            Self::Softmax(..) => "Softmax",
            Self::Dequantize(..) => "Dequantize",
            Self::Concat(_) => "Concat",
            Self::Float(..) => "Float",
            Self::Gfpq { .. } => "Gfpq",
            Self::Fixed(_) => "Fixed",
            Self::Thresholds(_) => "Thresholds",
        })
    }
}

impl LayerPlan {
    /// Prepares a layer. `inputs` are the grids of its inputs; `model` is the plan of the same layer under
    /// the model's own grids, whose packed weights are shared where they are the same.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the target has no counterpart for the layer.
    pub fn new(
        layer: &Layer,
        spec: &Spec,
        inputs: &[ValueGrid],
        model: Option<&LayerPlan>,
        isa: Isa,
    ) -> Result<Self, Error> {
        Planner {
            layer,
            spec,
            inputs,
            model,
            isa,
        }
        .plan()
        .map_err(|what| Error::Unsupported {
            node: layer.name.clone(),
            op_type: layer.op.clone(),
            what: format!("target '{}': {what}", spec.name),
        })
    }

    /// Whether the sums are the same integers as another plan's, given the same input codes.
    pub fn shares_sums(&self, other: &Self) -> bool {
        match (&self.linear, &other.linear) {
            (
                Some(LinearPlan {
                    sum: Sum::Fast { weights: a, .. },
                    ..
                }),
                Some(LinearPlan {
                    sum: Sum::Fast { weights: b, .. },
                    ..
                }),
            ) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

struct Planner<'a> {
    layer: &'a Layer,
    spec: &'a Spec,
    inputs: &'a [ValueGrid],
    model: Option<&'a LayerPlan>,
    isa: Isa,
}

/// The output's grid on the target.
struct Out {
    grid: ValueGrid,
    mismatch: Option<String>,
}

impl Planner<'_> {
    fn plan(&self) -> Result<LayerPlan, String> {
        let layer = self.layer;
        let reads_as = match &layer.kind {
            Kind::Reinterpret { to, .. } => Some(Quantizer::Affine(to.clone())),
            _ => None,
        };
        let out = match layer.quantizer.as_ref().or(reads_as.as_ref()) {
            Some(_) if self.joins() => Out {
                grid: ValueGrid::Real,
                mismatch: None,
            },
            Some(quantizer) => {
                let rule = adapt::as_stored(&self.spec.activations, layer.stored);
                let logarithmic = matches!(quantizer, Quantizer::Gfpq(_));
                if logarithmic && rule.quantizer == Grid::Model && !self.exact() {
                    return Err("a logarithmic quantizer (GFPQ) has no counterpart on it".into());
                }
                let adapted = adapt::activation(&rule, quantizer)?;
                Out {
                    grid: adapted.grid,
                    mismatch: adapted.mismatch,
                }
            }
            None => Out {
                grid: self.unquantized(),
                mismatch: None,
            },
        };
        let mut mismatches: Vec<String> = out.mismatch.iter().cloned().collect();
        let linear = match &layer.kind {
            Kind::Linear(linear) => Some(self.linear(linear, &mut mismatches)?),
            _ => None,
        };
        let mut rules = vec!["activations"];
        if let Some(linear) = &linear {
            // Codes that are kept are not rounded anew.
            let weights = if linear.model_weights {
                "weights.quantizer"
            } else {
                "weights"
            };
            rules.extend([weights, "accumulator"]);
        }
        let (finish, float, more) = self.finish(linear.as_ref(), &out.grid)?;
        rules.extend(more);
        let mut plan = LayerPlan {
            out: out.grid,
            linear,
            finish,
            mismatches,
            float,
            rules,
        };
        self.fix_sum(&mut plan);
        Ok(plan)
    }

    /// Whether this convolution is a part of the addition that reads it.
    fn joins(&self) -> bool {
        self.layer.joins && self.spec.placement.conv_add == Some(ConvAddRule::InnerClips)
    }

    fn exact(&self) -> bool {
        self.spec.quantize.division == Division::Model
    }

    fn codes(&self, index: usize) -> Option<(&Arc<CodeGrid>, i64)> {
        match self.inputs.get(index)? {
            ValueGrid::Codes { grid, relabel, .. } => Some((grid, *relabel)),
            _ => None,
        }
    }

    fn labels(&self, index: usize) -> Option<Labels> {
        let (grid, relabel) = self.codes(index)?;
        Labels::of(grid, relabel)
    }

    fn operand_labels(&self, operand: &Operand) -> Option<Labels> {
        match operand {
            Operand::Input(index) => self.labels(*index),
            Operand::Constant(tensor) => Labels::of(tensor.grid()?, 0),
        }
    }

    /// The grid of an output without a quantizer.
    fn unquantized(&self) -> ValueGrid {
        let layer = self.layer;
        match (&layer.kind, self.inputs.first()) {
            (Kind::Pass, _) if self.leaves() => ValueGrid::Real,
            _ if !layer.posts.is_empty() && self.kept_clamp().is_none() => ValueGrid::Real,
            (
                Kind::Movement(movement),
                Some(ValueGrid::Codes {
                    grid,
                    relabel,
                    model,
                }),
            ) => match movement.grid(grid) {
                Some(grid) => ValueGrid::Codes {
                    grid,
                    relabel: *relabel,
                    model: *model,
                },
                None => ValueGrid::Real,
            },
            (Kind::MaxPool(_) | Kind::Pass | Kind::Movement(_), Some(grid)) => grid.clone(),
            (Kind::Concat { operands, .. }, Some(first @ ValueGrid::Codes { grid, .. }))
                if grid.is_uniform() =>
            {
                let same = operands.iter().all(|operand| match operand {
                    Operand::Input(i) => self.codes(*i).is_some_and(|(g, _)| g == grid),
                    Operand::Constant(tensor) => tensor.grid() == Some(grid),
                });
                if same { first.clone() } else { ValueGrid::Real }
            }
            _ => ValueGrid::Real,
        }
    }

    /// Posts that are clamps between codes of the input's grid: the codes stay, only their range shrinks.
    fn kept_clamp(&self) -> Option<(i32, i32)> {
        let (grid, _) = self.codes(0)?;
        if !grid.is_uniform()
            || !matches!(
                self.layer.kind,
                Kind::Pass | Kind::MaxPool(_) | Kind::Movement(_)
            )
        {
            return None;
        }
        let (mut lo, mut hi) = (grid.min, grid.max);
        for post in &self.layer.posts {
            let Post::Clamp { lo: low, hi: high } = post else {
                return None;
            };
            if *low != f64::NEG_INFINITY {
                lo = lo.max(grid.code_of(*low, 0)?);
            }
            if *high != f64::INFINITY {
                hi = hi.min(grid.code_of(*high, 0)?);
            }
        }
        (lo <= hi && lo >= grid.min && hi <= grid.max).then_some((lo as i32, hi as i32))
    }

    fn linear(&self, linear: &Linear, mismatches: &mut Vec<String>) -> Result<LinearPlan, String> {
        let weights = adapt::weights(&self.spec.weights, &self.spec.activations, &linear.weights)?;
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
            bias: bias(),
            bias_codes: None,
            bound: f64::INFINITY,
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
        // A file that states another scale for its bias means that other one.
        let exact = |c: usize, code: i64, real: f64| {
            let exact = code as f64 * unit[c];
            ((exact - real).abs() <= 1e-5 * exact.abs()).then_some(exact)
        };
        let stored = linear.bias.as_ref().and_then(|b| b.codes.as_deref());
        let bias_codes = stored
            .filter(|codes| {
                let stated = |(c, &code): (usize, &i64)| exact(c, code, bias[c]).is_some();
                let plain = linear.factor == 1.0 || codes.iter().enumerate().all(stated);
                weights.model && model_input && plain
            })
            .map(<[i64]>::to_vec);
        for (c, &code) in bias_codes.iter().flatten().enumerate() {
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
            bias,
            bias_codes,
            bound,
        })
    }

    /// Where the target's accumulator is not proven wide enough, sums are made in order.
    fn fix_sum(&self, plan: &mut LayerPlan) {
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
        let Ok(weights) =
            adapt::weights(&self.spec.weights, &self.spec.activations, &linear.weights)
        else {
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

    /// Whether integers leave the network here as reals, by a rule of the target.
    fn leaves(&self) -> bool {
        let layer = self.layer;
        self.spec.ops.dequantize.is_some()
            && layer.leaves
            && layer.quantizer.is_none()
            && layer.posts.is_empty()
    }

    /// `[ops] dequantize` on codes, or on integer sums.
    fn dequantize(&self, linear: Option<&LinearPlan>) -> Option<Finish> {
        let rule = self.spec.ops.dequantize.filter(|_| self.leaves())?;
        let (grid, _) = self.codes(0)?;
        let layer = self.layer;
        let (channels, dequantizer) = match (&layer.kind, linear) {
            (Kind::Pass, _) => {
                let count = grid.scale.values.len().max(grid.zero_point.values.len());
                let dequantizer = Dequantizer {
                    rule,
                    start: (0..count).map(|c| -grid.zero_point.at(c)).collect(),
                    unit: (0..count).map(|c| grid.scale.at(c)).collect(),
                    width: Width {
                        bits: 64,
                        overflow: Overflow::Saturate,
                    },
                };
                (grid.channels(&layer.shape), dequantizer)
            }
            (Kind::Linear(own), Some(plan)) if !matches!(plan.sum, Sum::Real { .. }) => {
                let (channels, units) = self.units(own, plan, None)?;
                let start: Option<Vec<i64>> = units
                    .iter()
                    .map(|unit| unit.code.or((unit.bias == 0.0).then_some(0)))
                    .collect();
                let unit = |unit: &Unit| match rule {
                    DequantizeRule::F32 => f64::from(unit.x as f32 * unit.w as f32),
                    DequantizeRule::F64 => unit.x * unit.w,
                };
                let dequantizer = Dequantizer {
                    rule,
                    start: start?,
                    unit: units.iter().map(unit).collect(),
                    width: requantize::width(&self.spec.accumulator),
                };
                (channels, dequantizer)
            }
            _ => return None,
        };
        Some(Finish::Dequantize(dequantizer, channels))
    }

    /// Reals through `[quantize]`, one grid a channel.
    fn quantized(&self, labels: &[Labels], channels: Channels) -> Finish {
        let rule = &self.spec.quantize;
        let bound = |rule: &Quantize| -> Vec<RealQuantizer> {
            let own = labels.iter().map(|&out| RealQuantizer::new(rule, out));
            own.collect()
        };
        let tail = rule.tail.map(|tail| {
            let behind = Quantize {
                division: tail.division,
                rounding: tail.rounding,
                ..rule.clone()
            };
            let count = self.layer.shape.iter().product();
            let inside = self.layer.in_blocks(count, tail.block as usize);
            (bound(&behind), inside)
        });
        Finish::Float(Box::new(FloatFinish {
            quantizers: bound(rule),
            channels,
            tail,
        }))
    }

    /// How the layer ends, whether the target computes it in float, and the rules that it rests on.
    fn finish(
        &self,
        linear: Option<&LinearPlan>,
        out: &ValueGrid,
    ) -> Result<(Finish, bool, Vec<&'static str>), String> {
        let layer = self.layer;
        let keep = |grid: &CodeGrid| Finish::Keep {
            lo: grid.min as i32,
            hi: grid.max as i32,
        };
        if let (Kind::DynamicQuantize(part), Some(rule)) =
            (&layer.kind, self.spec.ops.dynamic_quantize)
        {
            let empty = match rule {
                DynamicQuantizeRule::EmptyScaleOne => 1.0,
                DynamicQuantizeRule::EmptyScale255th => 1.0 / 255.0,
            };
            let finish = Finish::DynamicQuantize(*part, empty);
            return Ok((finish, false, vec!["ops.dynamic-quantize"]));
        }
        if let Kind::Reinterpret { .. } = layer.kind {
            return match (&self.inputs[0], out) {
                (
                    ValueGrid::Codes {
                        model: true,
                        relabel: before,
                        ..
                    },
                    ValueGrid::Codes {
                        model: true,
                        relabel,
                        ..
                    },
                ) if before == relabel => Ok((Finish::Reinterpret, false, vec![])),
                _ => Err("codes that are read with another scale than they were made with".into()),
            };
        }
        if let (true, Kind::Linear(own), Some(plan)) = (self.joins(), &layer.kind, linear) {
            let rules = vec!["bias", "requantize", "placement.conv-add"];
            let values = match &plan.sum {
                Sum::Real { .. } => None,
                _ => self.units(own, plan, None),
            };
            let finish = values.map_or(Finish::Real, |(channels, units)| {
                let inner = self.inner(layer.quantizer.as_ref());
                Finish::Values(Values::new(&units, inner), channels)
            });
            return Ok((finish, false, rules));
        }
        if let Some(finish) = self.dequantize(linear) {
            return Ok((finish, false, vec!["ops.dequantize"]));
        }
        if layer.quantizer.is_none() {
            return Ok(match (out, self.kept_clamp()) {
                (ValueGrid::Codes { .. }, Some((lo, hi))) => {
                    (Finish::Keep { lo, hi }, false, vec![])
                }
                (ValueGrid::Codes { grid, .. }, None) => (keep(grid), false, vec![]),
                (ValueGrid::Gfpq { .. }, _) if layer.posts.is_empty() => (
                    Finish::Keep {
                        lo: i32::MIN,
                        hi: i32::MAX,
                    },
                    false,
                    vec![],
                ),
                _ => (
                    Finish::Real,
                    !self.exact() && layer.is_compared(),
                    vec!["quantize"],
                ),
            });
        }
        if let Some(rule) = &self.spec.thresholds {
            let input = self.codes(0).map(|(grid, _)| &**grid);
            let counted = thresholds::plan(rule, layer, linear, input)?;
            let rules = thresholds::rules(linear.is_some());
            return Ok((Finish::Thresholds(Box::new(counted)), false, rules));
        }
        match out {
            ValueGrid::Gfpq { .. } => Ok(self.gfpq()),
            ValueGrid::Codes { grid, relabel, .. } if !self.exact() => {
                match Labels::of(grid, *relabel) {
                    Some(out) => match self.spec.unsigned_kernels().filter(|_| out.min >= 0) {
                        Some(spec) => {
                            let own = Planner {
                                spec: &spec,
                                ..*self
                            };
                            let (finish, float, mut rules) = own.integer(linear, out)?;
                            rules.push("unsigned");
                            Ok((finish, float, rules))
                        }
                        None => self.integer(linear, out),
                    },
                    None => Ok(self.float_channels(grid, *relabel)),
                }
            }
            _ => Ok((Finish::Letter, false, vec!["quantize", "requantize"])),
        }
    }

    /// A scale for each channel of an activation: in float, by `[quantize]`.
    fn float_channels(&self, grid: &CodeGrid, relabel: i64) -> (Finish, bool, Vec<&'static str>) {
        let layer = self.layer;
        let count = grid.scale.values.len().max(grid.zero_point.values.len());
        let labels: Vec<Labels> = (0..count)
            .map(|c| Labels::of_channel(grid, relabel, c))
            .collect();
        let plain = matches!(layer.kind, Kind::Pass) && layer.posts.is_empty();
        let finish = self.quantized(&labels, grid.channels(&layer.shape));
        (finish, !plain, vec!["quantize"])
    }

    fn gfpq(&self) -> (Finish, bool, Vec<&'static str>) {
        let layer = self.layer;
        let sigmoid = match (&layer.kind, &layer.posts[..], self.spec.ops.sigmoid) {
            (
                Kind::Pass,
                [Post::Function(function @ (Activation::Sigmoid | Activation::Tanh))],
                Some(SigmoidRule::NnieTable),
            ) => Some(*function),
            _ => None,
        };
        let mut rules = vec!["quantize"];
        match &layer.kind {
            Kind::Linear(_) | Kind::MatMul(_) => rules.extend(["bias", "requantize"]),
            Kind::Binary { .. } => rules.push("ops.add"),
            Kind::Average { .. } => rules.push("ops.average"),
            _ => {}
        }
        if sigmoid.is_some() {
            rules.push("ops.sigmoid");
        }
        let float = matches!(layer.kind, Kind::Softmax { .. });
        (Finish::Gfpq { sigmoid }, float, rules)
    }

    /// A layer that ends on integer codes, by the target's own rules; in float where it has none.
    fn integer(
        &self,
        linear: Option<&LinearPlan>,
        out: Labels,
    ) -> Result<(Finish, bool, Vec<&'static str>), String> {
        let layer = self.layer;
        let spec = self.spec;
        let float = || {
            (
                self.quantized(&[out], Channels::ONE),
                true,
                vec!["quantize"],
            )
        };
        let computes = !layer.posts.is_empty()
            || !matches!(
                layer.kind,
                Kind::Pass | Kind::MaxPool(_) | Kind::Movement(_)
            );
        if computes && self.widest(out) > spec.activations.kernel_bits.unwrap_or(u32::MAX) {
            return Ok(float());
        }
        let folded = layer.folded();
        Ok(match (&layer.kind, folded) {
            (Kind::Linear(own), Some(folded)) => {
                let Some(plan) = linear.filter(|p| !matches!(p.sum, Sum::Real { .. })) else {
                    return Ok(float());
                };
                match self.requantizer(own, plan, &folded, out) {
                    Ok((requantizer, channels)) => {
                        let finish = Finish::Requantize {
                            requantizer: Box::new(requantizer),
                            channels,
                        };
                        let (_, requantize) = spec.of_product(own.product);
                        let stored = own.bias.iter().chain(own.rows.iter().map(|r| &r.entries));
                        let bias = if stored.clone().all(|bias| bias.codes.is_some()) {
                            "bias.format"
                        } else {
                            "bias"
                        };
                        (finish, false, vec![bias, requantize])
                    }
                    Err(_) => float(),
                }
            }
            (Kind::MatMul(m), Some(folded)) => {
                let (Some(a), Some(b)) = (
                    self.operand_labels(&m.operands[0]),
                    self.operand_labels(&m.operands[1]),
                ) else {
                    return Ok(float());
                };
                let unit = Unit {
                    x: a.scale,
                    w: b.scale * folded.mul[0],
                    zeros: 0,
                    bias: folded.add[0],
                    code: None,
                };
                let (rule, section) = spec.of_product(Product::FullyConnectedUnbiased);
                if let Multiplier::FakeQuantize { .. } = rule.multiplier {
                    // What is folded is known of constant weights only.
                    return Ok(float());
                }
                match Requantizer::new(
                    rule,
                    &spec.bias,
                    &spec.accumulator,
                    &[unit],
                    out,
                    (folded.lo, folded.hi),
                ) {
                    Ok(requantizer) => {
                        let finish = Finish::Requantize {
                            requantizer: Box::new(requantizer),
                            channels: Channels::ONE,
                        };
                        (finish, false, vec!["accumulator", section])
                    }
                    Err(_) => float(),
                }
            }
            (
                Kind::Binary {
                    op,
                    operands,
                    shapes,
                },
                Some(folded),
            ) if folded.is_clamp() => {
                if let Some(add) = self.conv_add(out) {
                    let finish =
                        Finish::ConvAdd(Box::new(add), clamp_codes(out, &folded, Bounds::HalfAway));
                    return Ok((finish, false, vec!["requantize", "placement.conv-add"]));
                }
                let shapes = shapes.each_ref().map(Vec::as_slice);
                let repeats = elementwise::repeats_first(shapes, &layer.result_shape);
                let (Some(a), Some(b)) = (
                    self.operand_labels(&operands[0]),
                    self.operand_labels(&operands[1]),
                ) else {
                    return Ok(float());
                };
                let function = match (op, spec.ops.add, spec.ops.mul) {
                    (Binary::Add | Binary::AddShifted | Binary::Sub, Some(rule), _) => {
                        elementwise::add(rule, spec, *op, [a, b], out, repeats)
                            .map(|f| (f, "ops.add", elementwise::add_bounds(rule)))
                    }
                    (Binary::Mul, _, Some(rule)) => elementwise::mul(rule, spec, [a, b], out)
                        .ok()
                        .flatten()
                        .map(|f| (f, "ops.mul", elementwise::mul_bounds(rule))),
                    _ => None,
                };
                match function {
                    Some((function, rule, bounds)) => {
                        let pair = Pair {
                            function,
                            clamp: clamp_codes(out, &folded, bounds),
                            blocks: self.pair_blocks(*op, operands, [a, b], out),
                        };
                        (Finish::Pair(Box::new(pair)), false, vec![rule])
                    }
                    None => float(),
                }
            }
            (Kind::Average { axes, image, .. }, Some(folded)) if folded.is_clamp() => {
                let (rule, name): (Option<AverageRule>, _) = match spec.ops.global_average {
                    Some(rule) if *axes => (Some(rule), "ops.global-average"),
                    _ => (spec.ops.average, "ops.average"),
                };
                let average = match (rule, self.labels(0)) {
                    (Some(rule), Some(x)) => {
                        Average::new(rule, spec, x, out, *image).ok().flatten()
                    }
                    _ => None,
                };
                let clamp = clamp_codes(out, &folded, Bounds::HalfAway);
                match average {
                    Some(average) => (Finish::Average(Box::new(average), clamp), false, vec![name]),
                    None => float(),
                }
            }
            (Kind::Concat { operands, .. }, Some(folded)) if folded.is_clamp() => {
                let mut functions = Vec::new();
                for operand in operands {
                    let Some(x) = self.operand_labels(operand) else {
                        return Ok(float());
                    };
                    if same_grid(x, out) && folded.is_identity() {
                        functions.push(None);
                        continue;
                    }
                    match self.rescale(spec.ops.concat.or(spec.ops.rescale), x, out, &folded) {
                        Some(function) => functions.push(Some(function)),
                        None => return Ok(float()),
                    }
                }
                let rule = match spec.ops.concat {
                    Some(_) => "ops.concat",
                    None => "ops.rescale",
                };
                (Finish::Concat(functions), false, vec![rule])
            }
            (Kind::Resample(resize), Some(folded)) if folded.is_identity() => {
                let resampler = match (spec.ops.resize, self.labels(0), &layer.input_shapes[0][..])
                {
                    (Some(rule), Some(x), &[.., height, width]) => {
                        Resampler::new(rule, resize, [height, width], [x, out])
                    }
                    _ => None,
                };
                match resampler {
                    Some(resampler) => {
                        let finish = Finish::Resample(Box::new(resampler));
                        (finish, false, vec!["ops.resize"])
                    }
                    None => float(),
                }
            }
            (Kind::Softmax { axis, beta }, Some(folded)) if folded.is_clamp() => {
                let softmax = spec.ops.softmax.and_then(|rule| {
                    let len = layer.result_shape[*axis];
                    let grids = [self.labels(0)?, out];
                    Softmax::new(rule, &spec.quantize, *beta, grids, len)
                });
                match softmax {
                    Some(softmax) => {
                        let clamp = clamp_codes(out, &folded, Bounds::HalfAway);
                        let finish = Finish::Softmax(Box::new(softmax), clamp);
                        (finish, false, vec!["ops.softmax"])
                    }
                    None => float(),
                }
            }
            (Kind::Pass | Kind::MaxPool(_), folded) => {
                let Some(x) = self.labels(0) else {
                    // A real that comes from outside, or from a float operation.
                    let (finish, _, rules) = float();
                    return Ok((finish, !layer.posts.is_empty(), rules));
                };
                match self.unary(x, out, folded) {
                    Some((function, rule)) => {
                        (self.table(function, rule, x, out), false, vec![rule])
                    }
                    None => float(),
                }
            }
            _ => float(),
        })
    }

    /// An addition that a convolution is a part of.
    fn conv_add(&self, out: Labels) -> Option<ConvAdd> {
        let rule = self.spec.placement.conv_add;
        let joined = self.layer.joined.as_ref();
        let joined = joined.filter(|_| rule == Some(ConvAddRule::InnerClips))?;
        let Kind::Binary { operands, .. } = &self.layer.kind else {
            return None;
        };
        let kept = self.operand_labels(&operands[1 - joined.operand])?;
        let inner = self.inner(joined.inner.as_ref());
        Some(ConvAdd::new(inner, kept, out))
    }

    /// The grid between a convolution and an addition; `None` where there is no quantizer.
    fn inner(&self, quantizer: Option<&Quantizer>) -> Option<Labels> {
        let adapted = adapt::activation(&self.spec.activations, quantizer?);
        match adapted.ok()?.grid {
            ValueGrid::Codes { grid, relabel, .. } => Labels::of(&grid, relabel),
            _ => None,
        }
    }

    /// Bits of the widest codes that the layer reads or writes.
    fn widest(&self, out: Labels) -> u32 {
        let inputs = self.inputs.iter().filter_map(|grid| match grid {
            ValueGrid::Codes { grid, .. } => Some((grid.min, grid.max)),
            _ => None,
        });
        inputs
            .chain([(out.min, out.max)])
            .map(|(min, max)| 64 - (max - min).unsigned_abs().leading_zeros())
            .max()
            .unwrap_or(0)
    }

    fn requantizer(
        &self,
        linear: &Linear,
        plan: &LinearPlan,
        folded: &Folded,
        out: Labels,
    ) -> Result<(Requantizer, Channels), String> {
        let spec = self.spec;
        let Some((channels, units)) = self.units(linear, plan, Some(folded)) else {
            return Err("an input without codes".into());
        };
        let mut rule = self.rule(linear).clone();
        let per_channel = |grid: &Arc<CodeGrid>| !grid.is_uniform();
        if rule.derivation == Derivation::F32ProductPerTensor
            && linear.weights.grid().is_some_and(per_channel)
        {
            rule.derivation = Derivation::F64;
        }
        let clamp = (folded.lo, folded.hi);
        Requantizer::new(&rule, &spec.bias, &spec.accumulator, &units, out, clamp)
            .map(|requantizer| (requantizer, channels))
    }

    fn rule(&self, linear: &Linear) -> &Requantize {
        self.spec.of_product(linear.product).0
    }

    /// What the sums of each output channel are worth, and their biases; of each element, where the bias
    /// differs from row to row.
    fn units(
        &self,
        linear: &Linear,
        plan: &LinearPlan,
        folded: Option<&Folded>,
    ) -> Option<(Channels, Vec<Unit>)> {
        let (x, relabel) = self.codes(0)?;
        let zeros = plan.sum.zeros(linear.shape.out_channels);
        let from_range = self.rule(linear).derivation == Derivation::F32SignedRange;
        let unit = |c: usize| {
            let labels = Labels::of_channel(x, relabel, if x.is_uniform() { 0 } else { c });
            let sx = labels.scale * linear.factor;
            let (mul, add) = folded.map_or((1.0, 0.0), |f| (f.mul[c], f.add[c]));
            let plain = mul == 1.0 && add == 0.0;
            Unit {
                x: if from_range && labels.min < 0 {
                    f64::from(fake_quantize::signed_scale(labels)) * linear.factor
                } else {
                    sx
                },
                w: plan.unit[c] / sx * mul,
                zeros: zeros[c],
                bias: plan.bias[c] * mul + add,
                code: plan.bias_codes.as_ref().filter(|_| plain).map(|b| b[c]),
            }
        };
        let channels = self.layer.channels();
        let Some(rows) = &linear.rows else {
            return Some((channels, (0..channels.count).map(unit).collect()));
        };
        let elements = Channels {
            count: self.layer.result_shape.iter().product(),
            inner: 1,
        };
        let units = (0..elements.count).map(|i| {
            let c = channels.of_index(i);
            let entry = rows.channels.of_index(i);
            let one = unit(c);
            let codes = rows.entries.codes.as_ref();
            let mul = folded.map_or(1.0, |folded| folded.mul[c]);
            Unit {
                bias: one.bias + rows.entries.reals[entry] * mul,
                code: codes
                    .filter(|_| folded.is_none_or(Folded::is_clamp))
                    .map(|b| b[entry]),
                ..one
            }
        });
        Some((elements, units.collect()))
    }

    /// A function of one code.
    fn unary(
        &self,
        x: Labels,
        out: Labels,
        folded: Option<Folded>,
    ) -> Option<(CodeFunction, &'static str)> {
        let (spec, ops) = (self.spec, &self.spec.ops);
        match (&self.layer.posts[..], folded) {
            (_, Some(folded)) if folded.is_clamp() => {
                // A clamp on codes has bounds of its own, whatever grid comes behind it.
                let rule = ops.relu.or(ops.rescale);
                let own = rule == Some(RescaleRule::FakeQuantize) && !folded.is_identity();
                if same_grid(x, out) && !own {
                    let (lo, hi) = clamp_codes(out, &folded, Bounds::HalfAway);
                    // The same grid: nothing is computed, codes may lie in another range.
                    let function: CodeFunction =
                        Box::new(move |code| out.store(x.raw(code)).clamp(lo, hi));
                    Some((function, "activations"))
                } else {
                    let (rule, name) = match ops.relu {
                        Some(rule) if !folded.is_identity() => (Some(rule), "ops.relu"),
                        _ => (ops.rescale, "ops.rescale"),
                    };
                    self.rescale(rule, x, out, &folded).map(|f| (f, name))
                }
            }
            ([Post::Leaky { slope, .. }], _) if slope.len() == 1 => match ops.leaky_relu {
                Some(rule) => unary::leaky_relu(rule, spec, x, out, slope[0])
                    .ok()
                    .flatten()
                    .map(|f| (f, "ops.leaky-relu")),
                None => None,
            },
            ([Post::Function(function)], _) => match function {
                Activation::Sigmoid | Activation::Tanh => ops
                    .sigmoid
                    .and_then(|rule| unary::sigmoid(rule, &spec.quantize, *function, x, out))
                    .map(|f| (f, "ops.sigmoid")),
                Activation::HardSigmoid { .. } | Activation::HardSwish => ops
                    .hard_swish
                    .and_then(|rule| unary::hard_swish(rule, spec, *function, x, out))
                    .map(|f| (f, "ops.hard-swish")),
                _ => None,
            },
            _ => None,
        }
    }

    fn rescale(
        &self,
        rule: Option<RescaleRule>,
        x: Labels,
        out: Labels,
        folded: &Folded,
    ) -> Option<CodeFunction> {
        unary::rescale(rule?, self.spec, x, out, (folded.lo, folded.hi))
            .ok()
            .flatten()
    }

    /// What an addition does in whole blocks of a vector kernel, and which elements these are.
    fn pair_blocks(
        &self,
        op: Binary,
        operands: &[Operand; 2],
        labels: [Labels; 2],
        out: Labels,
    ) -> Option<(PairFunction, Arc<[bool]>)> {
        let layer = self.layer;
        let rule = match op {
            Binary::Mul | Binary::Div => return None,
            Binary::Add | Binary::AddShifted | Binary::Sub => self.spec.ops.add?,
        };
        if layer.result_shape != layer.shape {
            return None;
        }
        let [a, b] = operands.each_ref().map(|operand| {
            layer.in_file_order(match operand {
                Operand::Input(index) => &layer.input_shapes[*index],
                Operand::Constant(tensor) => &tensor.shape,
            })
        });
        let own = layer.in_file_order(&layer.shape);
        let walk = (Walk::of([&a, &b], &own), own.iter().product());
        let (function, run, block) =
            elementwise::add_blocks(rule, self.spec, op, labels, out, walk)?;
        Some((function, layer.in_blocks(run, block)))
    }

    fn table(&self, function: CodeFunction, rule: &str, x: Labels, out: Labels) -> Finish {
        let (min, max) = match self.codes(0) {
            Some((grid, _)) if grid.max - grid.min < TABLE => (grid.min, grid.max),
            _ => return Finish::Function(function),
        };
        let entries = |function: CodeFunction| -> Vec<i32> {
            (min..=max).map(|code| function(code as i32)).collect()
        };
        let table = entries(function);
        let blocks = match (rule, self.spec.ops.rescale) {
            ("ops.rescale", Some(rule)) if matches!(self.layer.kind, Kind::Pass) => {
                unary::rescale_blocks(rule, self.spec, x, out)
            }
            _ => None,
        };
        match blocks {
            Some((function, block)) => Finish::Tables {
                table,
                blocks: entries(function),
                first: min,
                inside: self
                    .layer
                    .in_blocks(self.layer.shape.iter().product(), block),
            },
            None => Finish::Table { table, first: min },
        }
    }
}

impl Folded {
    /// Whether there is nothing but a clamp.
    pub fn is_clamp(&self) -> bool {
        self.mul.iter().all(|&m| m == 1.0) && self.add.iter().all(|&a| a == 0.0)
    }

    /// Whether there is nothing.
    pub fn is_identity(&self) -> bool {
        self.is_clamp() && self.lo == f64::NEG_INFINITY && self.hi == f64::INFINITY
    }
}

fn same_grid(x: Labels, out: Labels) -> bool {
    x.scale == out.scale && x.zero_point == out.zero_point
}

/// A clamp of reals in stored codes.
fn clamp_codes(out: Labels, folded: &Folded, rule: Bounds) -> (i32, i32) {
    let (lo, hi) = out.bounds(rule, (folded.lo, folded.hi));
    (out.store(lo), out.store(hi))
}

/// The grids of every value under a spec, and the plan of every layer.
///
/// # Errors
/// [`Error::Unsupported`] where the target has no counterpart for a layer.
pub fn plan(
    network: &Network,
    spec: &Spec,
    model: Option<&[LayerPlan]>,
    isa: Isa,
) -> Result<(Vec<ValueGrid>, Vec<LayerPlan>), Error> {
    let mut grids = vec![ValueGrid::Real; network.graph.values.len()];
    for &input in &network.graph.inputs {
        if let Some(stored) = network.stored(input) {
            let quantizer = Quantizer::Affine(stored.clone());
            let rule = adapt::as_stored(&spec.activations, true);
            let adapted = adapt::activation(&rule, &quantizer);
            grids[input] = adapted
                .map_err(|what| Error::Unsupported {
                    node: network.name(input).to_string(),
                    op_type: "input".to_string(),
                    what: format!("target '{}': {what}", spec.name),
                })?
                .grid;
        } else if let Some(grid) = network.annotated_grid(input)
            && spec.activations.quantizer != Grid::Gfpq
        {
            grids[input] = ValueGrid::Codes {
                grid: Arc::new(grid),
                relabel: 0,
                model: true,
            };
        }
    }
    let mut plans = Vec::with_capacity(network.layers.len());
    for (index, layer) in network.layers.iter().enumerate() {
        let inputs: Vec<ValueGrid> = layer.inputs.iter().map(|&i| grids[i].clone()).collect();
        let model = model.map(|plans| &plans[index]);
        let plan = LayerPlan::new(layer, spec, &inputs, model, isa)?;
        grids[layer.output] = plan.out.clone();
        plans.push(plan);
    }
    Ok((grids, plans))
}
