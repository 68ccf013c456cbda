//! Sums of products, requantized.

use std::sync::Arc;

use align_check_specs::{Derivation, LeakyReluRule, Multiplier, Product, Requantize};

use super::sum::same_bias;
use super::{Ending, Finish, LinearPlan, Planner, Sum};
use crate::network::{Folded, Linear, MatMul, Post};
use crate::quantize::CodeGrid;
use crate::rules::Labels;
use crate::rules::fake_quantize;
use crate::rules::requantize::{Requantizer, Unit};
use crate::rules::unary::DPU_SLOPE;
use crate::tensor::Channels;

impl Planner<'_> {
    /// A convolution, or a product with constant weights.
    pub(super) fn sums(
        &self,
        own: &Linear,
        plan: Option<&LinearPlan>,
        folded: &Folded,
        out: Labels,
    ) -> Option<Ending> {
        let plan = plan.filter(|p| !matches!(p.sum, Sum::Real { .. }))?;
        let (requantizer, channels) = self.requantizer(own, plan, folded, out).ok()?;
        let finish = Finish::Requantize {
            requantizer: Box::new(requantizer),
            channels,
        };
        let (_, requantize) = self.spec.of_product(own.product);
        let mut stored = own.bias.iter().chain(own.rows.iter().map(|r| &r.entries));
        let bias = if stored.all(|bias| bias.codes.is_some()) {
            "bias.format"
        } else {
            "bias"
        };
        Some((finish, false, vec![bias, requantize]))
    }

    /// The same with a leaky `ReLU` behind it, on targets whose slope is a fraction of powers of two: it is a part of
    /// the one shift.
    pub(super) fn leaky_sums(
        &self,
        own: &Linear,
        plan: Option<&LinearPlan>,
        out: Labels,
    ) -> Option<Ending> {
        let (Post::Leaky { .. }, before) = self.layer.posts.split_last()? else {
            return None;
        };
        let rule = self.spec.ops.leaky_relu;
        let shifts = self.rule(own).multiplier == Multiplier::PowerOfTwo;
        if rule != Some(LeakyReluRule::Alpha26Over256) || !shifts {
            return None;
        }
        let folded = self.layer.fold(before)?;
        if folded.lo.is_finite() || folded.hi.is_finite() {
            return None;
        }
        let (finish, float, mut rules) = self.sums(own, plan, &folded, out)?;
        let Finish::Requantize {
            requantizer,
            channels,
        } = finish
        else {
            return None;
        };
        rules.push("ops.leaky-relu");
        let requantizer = Box::new(requantizer.with_slope(DPU_SLOPE));
        let finish = Finish::Requantize {
            requantizer,
            channels,
        };
        Some((finish, float, rules))
    }

    /// A product of two activations.
    pub(super) fn products(&self, own: &MatMul, folded: &Folded, out: Labels) -> Option<Ending> {
        let spec = self.spec;
        let a = self.operand_labels(&own.operands[0])?;
        let b = self.operand_labels(&own.operands[1])?;
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
            return None;
        }
        let clamp = (folded.lo, folded.hi);
        let requantizer =
            Requantizer::new(rule, &spec.bias, &spec.accumulator, &[unit], out, clamp).ok()?;
        let finish = Finish::Requantize {
            requantizer: Box::new(requantizer),
            channels: Channels::ONE,
        };
        Some((finish, false, vec!["accumulator", section]))
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
        let (bias, accumulator) = (&spec.bias, &spec.accumulator);
        let wanted = self.wanted;
        Requantizer::of_channels(&rule, bias, accumulator, &units, out, clamp, wanted)
            .map(|requantizer| (requantizer, channels))
    }

    fn rule(&self, linear: &Linear) -> &Requantize {
        self.spec.of_product(linear.product).0
    }

    /// What the sums of each output channel are worth, and their biases; of each element, where the bias
    /// differs from row to row.
    pub(super) fn units(
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
                    .map(|b| b[entry])
                    .filter(|&code| {
                        // As in a bias of one entry a channel: the file's scale counts unless it is integer.
                        let exact = code as f64 * plan.unit[c];
                        self.layer.integer || same_bias(exact, rows.entries.reals[entry])
                    }),
                ..one
            }
        });
        Some((elements, units.collect()))
    }
}
