//! Products that are added two at a time in 16 bits: which of a layer's can saturate.

use std::sync::Arc;

use align_check_specs::{Overflow, PairGroups, PairPadding, PairRule, PairSigned, Pairs, Product};

use super::{Finish, LayerPlan, Paired, Planner, Sum};
use crate::adapt;
use crate::kernels::SaturatingPairs;
use crate::network::{Kind, Linear};
use crate::tensor::Data;

impl Planner<'_> {
    /// Where the target adds products in pairs and one can saturate, the plan says which. Where none can, sums are exact
    /// and may be shared.
    pub(super) fn pair_products(&self, plan: &mut LayerPlan) -> Result<(), String> {
        // Pairs belong to sums of 32 bits: with another accumulator (a decision that is switched) there are none.
        let accumulator = &self.spec.accumulator;
        let wraps = accumulator.bits == Some(32) && accumulator.overflow == Overflow::Wrap;
        let (Some(rule), Kind::Linear(linear), Some(sums)) = (
            accumulator.pairs.as_ref().filter(|_| wraps),
            &self.layer.kind,
            &mut plan.linear,
        ) else {
            return Ok(());
        };
        // A layer in float adds no codes, unless its result is their sum (`MatMulInteger`).
        let float = (plan.float || matches!(plan.finish, Finish::Letter(_) | Finish::Real))
            && !self.layer.integer;
        sums.pairs = None;
        if !float && !matches!(sums.sum, Sum::Real { .. }) {
            sums.pairs = self.paired(*rule, linear)?.map(Arc::new);
        }
        match sums.sum {
            Sum::InOrder { overflow, .. }
                if sums.pairs.is_some() && overflow != Overflow::Exact =>
            {
                Err("pairs of products that saturate to 16 bits, in a sum that can leave 32".into())
            }
            _ => Ok(()),
        }
    }

    fn paired(&self, rule: Pairs, linear: &Linear) -> Result<Option<Paired>, String> {
        let Some((x, relabel)) = self.codes(0) else {
            return Ok(None);
        };
        let weights = adapt::weights(&self.spec.weights, &self.spec.activations, linear)?;
        let Data::Codes { codes, grid } = &weights.tensor.data else {
            return Ok(None);
        };
        // Unsigned weights, and other widths, have other kernels.
        let stored: Option<Vec<i8>> = codes.iter().map(|&w| i8::try_from(w).ok()).collect();
        let (Some(stored), true) = (stored, grid.min < 0) else {
            return Ok(None);
        };
        let signed = x.min + relabel < 0;
        let offset = match rule.signed {
            PairSigned::Exact if signed => return Ok(None),
            PairSigned::Plus128 if signed => relabel + 128,
            _ => relabel,
        };
        let byte = |code: i64| u8::try_from(code + offset).ok();
        let (Some(low), Some(high)) = (byte(x.min), byte(x.max)) else {
            return Ok(None);
        };
        let pad = match rule.padding {
            PairPadding::ZeroPoint => byte(x.zero_point.at(0)),
            PairPadding::Nothing => Some(0),
        };
        let pad = pad.ok_or("a zero point that is no code of 8 bits")?;
        let paired = SaturatingPairs::new(
            &linear.shape,
            &stored,
            self.pair_rule(rule, linear),
            low.min(pad),
            high.max(pad),
        );
        if paired.is_some() && linear.product == Product::Transposed {
            return Err(
                "a transposed convolution whose pairs of products can saturate to 16 bits: in which order its kernel \
                 adds them is not known"
                    .into(),
            );
        }
        Ok(paired.map(|pairs| Paired { pairs, offset, pad }))
    }

    fn pair_rule(&self, rule: Pairs, linear: &Linear) -> PairRule {
        let shape = &linear.shape;
        match linear.product {
            Product::FullyConnected | Product::FullyConnectedUnbiased => rule.fully_connected,
            _ if shape.group_channels() == 1 && shape.group_outputs() == 1 && shape.groups > 1 => {
                rule.depthwise
            }
            _ if self.layer.quantizer.is_none() => rule.unscaled_convolution,
            _ => {
                let whole = [shape.group_channels(), shape.group_outputs()]
                    .iter()
                    .all(|count| count % 4 == 0);
                match rule.groups {
                    PairGroups::MultiplesOfFour if shape.groups > 1 && !whole => PairRule::Exact,
                    _ => rule.convolution,
                }
            }
        }
    }
}
