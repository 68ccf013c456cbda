//! A layer under a target's rules: everything that does not depend on the input, prepared once.

mod binary;
mod dequantize;
mod finish;
mod linear;
mod movement;
mod pairs;
mod reduce;
mod sum;
mod unary;

use std::sync::Arc;

use align_check_graph::Quantizer;
use align_check_specs::{
    BiasFormat, BiasRule, Bounds, ClampRule, Division, DynamicQuantizeRule, Grid, SignedRule, Spec,
    UnquantizedRule, WeightDivision,
};

use crate::adapt::{self, ValueGrid};
use crate::error::Error;
use crate::kernels::Isa;
use crate::network::{Folded, Kind, Layer, Linear, LinearBias, Network, Operand, Post};
use crate::quantize::CodeGrid;
use crate::rules::Labels;
use crate::rules::fake_quantize::Values;
use crate::rules::requantize::Unit;
use crate::rules::thresholds;
use crate::tensor::Channels;

pub use finish::{Finish, FloatFinish, Memo, Pair, Table};
pub use sum::{LinearPlan, OtherBias, Paired, Sum};

/// A layer under a target's rules.
#[derive(Debug)]
pub struct LayerPlan {
    /// What the output is stored as.
    pub out: ValueGrid,
    /// Sums of products, where the layer has them.
    pub linear: Option<LinearPlan>,
    /// From sums (or inputs) to the output.
    pub finish: Finish,
    /// Why the target's grids (of the output or of the weights) are not the model's; last, that it quantizes the bias
    /// anew ([`is_of_bias`]).
    pub mismatches: Vec<String>,
    /// Whether the target computes this in float.
    pub float: bool,
    /// The rules that the layer rests on, as paths into the spec.
    pub rules: Vec<&'static str>,
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
        Self::with(layer, spec, inputs, model, isa, (false, None))
    }

    /// As [`new`](Self::new), with the bias at the scale that the file states for it: kernels of integer files
    /// add its integers as they are.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_stated_bias(
        layer: &Layer,
        spec: &Spec,
        inputs: &[ValueGrid],
        model: Option<&LayerPlan>,
        isa: Isa,
    ) -> Result<Self, Error> {
        Self::with(layer, spec, inputs, model, isa, (true, None))
    }

    /// As [`new`](Self::new) or [`with_stated_bias`](Self::with_stated_bias), where only elements of some channels of
    /// the output are asked for: the others may have no rule.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of_channels(
        layer: &Layer,
        spec: &Spec,
        inputs: &[ValueGrid],
        model: Option<&LayerPlan>,
        isa: Isa,
        (stated_bias, wanted): (bool, &[bool]),
    ) -> Result<Self, Error> {
        Self::with(layer, spec, inputs, model, isa, (stated_bias, Some(wanted)))
    }

    fn with(
        layer: &Layer,
        spec: &Spec,
        inputs: &[ValueGrid],
        model: Option<&LayerPlan>,
        isa: Isa,
        (stated_bias, wanted): (bool, Option<&[bool]>),
    ) -> Result<Self, Error> {
        Planner {
            layer,
            spec,
            inputs,
            model,
            isa,
            stated_bias,
            wanted,
        }
        .plan()
        .map_err(|what| Error::Unsupported {
            node: layer.name.clone(),
            op_type: layer.op.clone(),
            what: format!("target '{}': {what}", spec.name),
        })
    }

    /// The same layer with another end: sums, grids and weights are this plan's, what follows them is `spec`'s. `spec`
    /// must have this plan's `[activations]`, `[weights]` and `[placement]`; where its accumulator is not proven wide
    /// enough, the plan's sums are its own.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn finished(
        &self,
        layer: &Layer,
        spec: &Spec,
        inputs: &[ValueGrid],
        isa: Isa,
    ) -> Result<Self, Error> {
        let planner = Planner {
            layer,
            spec,
            inputs,
            model: None,
            isa,
            stated_bias: false,
            wanted: None,
        };
        let ending = planner.finish(self.linear.as_ref(), &self.out);
        let (finish, float, rules) = ending.map_err(|what| Error::Unsupported {
            node: layer.name.clone(),
            op_type: layer.op.clone(),
            what: format!("target '{}': {what}", spec.name),
        })?;
        let mut plan = Self {
            out: self.out.clone(),
            linear: self.linear.clone(),
            finish,
            mismatches: self.mismatches.clone(),
            float,
            rules,
        };
        planner.fix_sum(&mut plan);
        Ok(plan)
    }

    /// What a requantization of the layer's sums is bound to; `None` where it has none.
    pub fn binding(&self, layer: &Layer, spec: &Spec, inputs: &[ValueGrid]) -> Option<Binding> {
        let planner = Planner {
            layer,
            spec,
            inputs,
            model: None,
            isa: Isa::Portable,
            stated_bias: false,
            wanted: None,
        };
        let linear = self.linear.as_ref()?;
        let (Kind::Linear(own), ValueGrid::Codes { grid, relabel, .. }) = (&layer.kind, &self.out)
        else {
            return None;
        };
        if layer.joins || matches!(linear.sum, Sum::Real { .. }) || layer.quantizer.is_none() {
            return None;
        }
        let folded = layer.folded()?;
        let (channels, units) = planner.units(own, linear, Some(&folded))?;
        Some(Binding {
            channels,
            units,
            out: Labels::of(grid, *relabel)?,
            clamp: (folded.lo, folded.hi),
        })
    }

    /// Whether the model's codes are kept, but saturate elsewhere than in the model's own plan.
    pub fn saturates_elsewhere(&self, model: Option<&Self>) -> bool {
        match (&self.out, model.map(|model| &model.out)) {
            (
                ValueGrid::Codes {
                    grid: a,
                    model: true,
                    ..
                },
                Some(ValueGrid::Codes { grid: b, .. }),
            ) => a.same_labels(b) && a != b,
            _ => false,
        }
    }

    /// Whether the output is the same as another plan's, given the same inputs: both are bound to the same numbers.
    /// False where that is not told from the plans alone.
    pub fn computes_as(&self, other: &Self) -> bool {
        let sums = match (&self.linear, &other.linear) {
            (None, None) => true,
            (Some(a), Some(b)) => {
                self.shares_sums(other) && (&a.unit, &a.bias) == (&b.unit, &b.bias)
            }
            _ => false,
        };
        let ends = match (&self.finish, &other.finish) {
            (Finish::Letter(a), Finish::Letter(b)) => a == b,
            (Finish::Keep { lo, hi }, Finish::Keep { lo: a, hi: b }) => (lo, hi) == (a, b),
            _ => false,
        };
        sums && ends && self.out == other.out
    }

    /// Whether the sums are the same integers as another plan's, given the same input codes.
    pub fn shares_sums(&self, other: &Self) -> bool {
        match (&self.linear, &other.linear) {
            (
                Some(LinearPlan {
                    sum: Sum::Fast { weights: a, .. },
                    pairs: own,
                    ..
                }),
                Some(LinearPlan {
                    sum: Sum::Fast { weights: b, .. },
                    pairs: others,
                    ..
                }),
            ) => Arc::ptr_eq(a, b) && own == others,
            _ => false,
        }
    }
}

/// The scales that a requantization of a layer's sums is bound to.
#[derive(Debug, Clone)]
pub struct Binding {
    /// Which sum belongs to which unit.
    pub channels: Channels,
    /// What the sums of each channel are worth, and their biases.
    pub units: Vec<Unit>,
    /// The output's grid.
    pub out: Labels,
    /// Bounds of a fused activation, as reals.
    pub clamp: (f64, f64),
}

/// How far from `sx * sw` the scale of a bias may be that ONNX Runtime fuses (1.32.0: 1.1 % is fused, 1.5 % is not).
const TAKEN_OVER: f64 = 0.0125;

/// How a mismatch of a bias ends.
const BIAS_REQUANTIZED: &str = ": bias requantized";

/// Whether one of [`LayerPlan::mismatches`] speaks of a bias that the target quantizes anew, not of a grid.
pub fn is_of_bias(mismatch: &str) -> bool {
    mismatch.ends_with(BIAS_REQUANTIZED)
}

struct Planner<'a> {
    layer: &'a Layer,
    spec: &'a Spec,
    inputs: &'a [ValueGrid],
    model: Option<&'a LayerPlan>,
    isa: Isa,
    /// Whether a bias has the scale that the file states, where kernels add its integers as they are.
    stated_bias: bool,
    /// Output channels whose codes are asked for; all of them where absent.
    wanted: Option<&'a [bool]>,
}

/// The output's grid on the target.
struct Out {
    grid: ValueGrid,
    mismatch: Option<String>,
}

/// How a layer ends, whether the target computes it in float, and the rules that it rests on.
type Ending = (Finish, bool, Vec<&'static str>);

impl Planner<'_> {
    fn plan(&self) -> Result<LayerPlan, String> {
        let layer = self.layer;
        let reads_as = match &layer.kind {
            Kind::Reinterpret { to, .. } => Some(Quantizer::Affine(to.clone())),
            _ => None,
        };
        let out = match layer.quantizer.as_ref().or(reads_as.as_ref()) {
            Some(_) if layer.joins => Out {
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
        if layer.tied_constant && self.spec.weights.division == WeightDivision::ReciprocalF32 {
            return Err(
                "a constant beside the weights whose codes are others by w * f32(1 / s)".into(),
            );
        }
        let mut mismatches: Vec<String> = out.mismatch.iter().cloned().collect();
        let linear = match &layer.kind {
            Kind::Linear(linear) => Some(self.linear(linear, &mut mismatches)?),
            _ => None,
        };
        let mut rules = vec!["activations"];
        if let Some(linear) = &linear {
            // Codes that are kept are not rounded anew.
            let weights: &[&str] = match (linear.model_weights, linear.model_grid) {
                (true, _) => &["weights.quantizer"],
                (false, true) => &["weights.quantizer", "weights.division"],
                (false, false) => &["weights"],
            };
            rules.extend(weights);
            rules.push("accumulator");
        }
        let (finish, float, more) = self.finish(linear.as_ref(), &out.grid)?;
        rules.extend(more);
        if float && self.is_unquantized() {
            rules.push("placement.unquantized");
        }
        if !float && let Some(other) = linear.as_ref().and_then(|l| l.other_bias.as_ref()) {
            mismatches.extend(self.requantized_bias(other));
        }
        let mut plan = LayerPlan {
            out: out.grid,
            linear,
            finish,
            mismatches,
            float,
            rules,
        };
        self.fix_sum(&mut plan);
        self.pair_products(&mut plan)?;
        Ok(plan)
    }

    /// Whether the model leaves this sum of products in float, and so does the target.
    fn is_unquantized(&self) -> bool {
        let Kind::Linear(linear) = &self.layer.kind else {
            return false;
        };
        let coded = matches!(self.inputs.first(), Some(ValueGrid::Codes { .. }))
            && linear.weights.grid().is_some();
        self.spec.placement.unquantized == Some(UnquantizedRule::Float)
            && !self.layer.integer
            && !coded
    }

    /// What is said of a bias that the target quantizes anew.
    fn requantized_bias(&self, other: &OtherBias) -> Option<String> {
        let integer = matches!(
            self.spec.bias.format,
            BiasFormat::Int32 | BiasFormat::Int32ReciprocalF32
        );
        let (own, product) = other.scales;
        let OtherBias { channels, of, .. } = other;
        (integer && !self.exact() && !other.as_stored).then(|| {
            format!(
                "bias scale {own:.6e} is not sx*sw = {product:.6e}, {channels} of {of} channels{BIAS_REQUANTIZED}"
            )
        })
    }

    fn exact(&self) -> bool {
        self.spec.quantize.division.is_model()
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

    /// How the layer ends, whether the target computes it in float, and the rules that it rests on.
    fn finish(&self, linear: Option<&LinearPlan>, out: &ValueGrid) -> Result<Ending, String> {
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
        if let (true, Kind::Linear(own), Some(plan)) = (layer.joins, &layer.kind, linear) {
            let rules = vec!["bias", "requantize", "placement.residual"];
            let values = match &plan.sum {
                Sum::Real { .. } => None,
                _ => self.units(own, plan, layer.folded().as_ref()),
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
                            let (finish, float, mut rules) = own.integer(linear, out);
                            rules.push("unsigned");
                            Ok((finish, float, rules))
                        }
                        None => Ok(self.integer(linear, out)),
                    },
                    None => Ok(self.float_channels(grid, *relabel)),
                }
            }
            _ => Ok((
                Finish::Letter(self.letter()),
                false,
                vec!["quantize", "requantize"],
            )),
        }
    }

    /// The layer's own quantizer, with the target's division.
    fn letter(&self) -> Option<Box<Quantizer>> {
        let own = self.layer.quantizer.as_ref()?;
        let other = match self.spec.quantize.division {
            Division::ModelReciprocalF32 => own.by_reciprocal(),
            _ => None,
        };
        Some(Box::new(other.unwrap_or_else(|| own.clone())))
    }

    /// A layer that ends on integer codes, by the target's own rules; in float where it has none.
    fn integer(&self, linear: Option<&LinearPlan>, out: Labels) -> Ending {
        let layer = self.layer;
        // A pool in a file of quantizers and floats is an operation that needs a kernel of codes, too.
        let moves = match layer.kind {
            Kind::Pass | Kind::Movement(_) => true,
            Kind::MaxPool(_) => layer.integer || self.spec.placement.signed_codes.is_none(),
            _ => false,
        };
        let computes = !layer.posts.is_empty() || !moves;
        if computes && self.widest(out) > self.spec.activations.kernel_bits.unwrap_or(u32::MAX) {
            return self.float(out);
        }
        if computes && let Some(rule) = self.not_fused(linear, out) {
            let (finish, float, mut rules) = self.float(out);
            rules.push(rule);
            return (finish, float, rules);
        }
        let ending = match (&layer.kind, layer.folded()) {
            (Kind::Linear(own), Some(folded)) => self.sums(own, linear, &folded, out),
            (Kind::Linear(own), None) => self.leaky_sums(own, linear, out),
            (Kind::MatMul(own), Some(folded)) => self.products(own, &folded, out),
            (
                Kind::Binary {
                    op,
                    operands,
                    shapes,
                },
                Some(folded),
            ) if folded.is_clamp() => self.pair(*op, operands, shapes, &folded, out),
            (
                Kind::Average {
                    axes,
                    image,
                    windows,
                },
                Some(folded),
            ) if folded.is_clamp() || self.is_table_gain(windows, &folded) => {
                self.average(*axes, *image, &folded, out)
            }
            (Kind::Concat { operands, .. }, Some(folded)) if folded.is_clamp() => {
                self.concat(operands, &folded, out)
            }
            (Kind::Resample(resize), Some(folded)) if folded.is_identity() => {
                self.resample(resize, out)
            }
            (Kind::Softmax { axis, beta }, Some(folded)) if folded.is_clamp() => {
                self.softmax(*axis, *beta, &folded, out)
            }
            (Kind::Pass | Kind::MaxPool(_), folded) => self.one_code(folded, out),
            _ => None,
        };
        ending.unwrap_or_else(|| self.float(out))
    }

    /// The rule by which the target leaves this layer in float, in a file of quantizers and floats.
    fn not_fused(&self, linear: Option<&LinearPlan>, out: Labels) -> Option<&'static str> {
        let layer = self.layer;
        let rule = &self.spec.placement;
        if layer.integer {
            return None;
        }
        if rule.clamps == Some(ClampRule::Implied) && !self.implies_clamps(out) {
            return Some("placement.clamps");
        }
        let narrow = matches!(
            &layer.kind,
            Kind::Linear(Linear { bias: Some(LinearBias { stated: Some(stated), .. }), .. }) if stated.bits != 32
        );
        let other = narrow
            || linear
                .and_then(|plan| plan.other_bias.as_ref())
                .is_some_and(|other| (other.ratio() - 1.0).abs() > TAKEN_OVER);
        if rule.bias == Some(BiasRule::Int32ProductScale) && other {
            return Some("placement.bias");
        }
        let forked = |(grid, readers): (&ValueGrid, &usize)| {
            matches!(grid, ValueGrid::Codes { grid, relabel, .. } if grid.min + relabel < 0)
                && *readers > 1
        };
        let reads = || self.inputs.iter().zip(&layer.input_readers).any(forked);
        let writes = out.min < 0 && layer.readers > 1;
        let signed = rule.signed_codes == Some(SignedRule::ReadOnce);
        (signed && (writes || reads())).then_some("placement.signed-codes")
    }

    /// Whether the range of the output's codes lies within every clamp.
    fn implies_clamps(&self, out: Labels) -> bool {
        let end = |code: i64| (code - out.zero_point) as f64 * out.scale;
        let (low, high) = (end(out.min), end(out.max));
        let slack = f64::from(f32::EPSILON);
        self.layer.posts.iter().all(|post| match post {
            Post::Clamp { lo, hi } => low >= lo - slack && high <= hi + slack,
            _ => true,
        })
    }

    /// The target has no rule of integers: the real, then `[quantize]`.
    fn float(&self, out: Labels) -> Ending {
        (
            self.quantized(&[out], Channels::ONE),
            true,
            vec!["quantize"],
        )
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

/// The grids of every value under a spec, and the plan of every layer. `model` gives the plan of a layer under
/// the model's own grids, where it has the same weights and the inputs that are given: what is packed is shared.
///
/// # Errors
/// [`Error::Unsupported`] where the target has no counterpart for a layer.
pub fn plan<'m>(
    network: &Network,
    spec: &Spec,
    model: &dyn Fn(usize, &[ValueGrid]) -> Option<&'m LayerPlan>,
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
        let plan = LayerPlan::new(layer, spec, &inputs, model(index, &inputs), isa)?;
        grids[layer.output] = plan.out.clone();
        plans.push(plan);
    }
    Ok((grids, plans))
}
