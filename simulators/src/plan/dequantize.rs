//! Integers that leave the network as reals, and reals that become codes.

use align_check_specs::{DequantizeRule, Overflow, Quantize};

use super::{Ending, Finish, FloatFinish, LinearPlan, Planner, Sum};
use crate::network::Kind;
use crate::num::Width;
use crate::quantize::CodeGrid;
use crate::rules::Labels;
use crate::rules::real::{Dequantizer, RealQuantizer};
use crate::rules::requantize::{self, Unit};
use crate::tensor::Channels;

impl Planner<'_> {
    /// Whether integers leave the network here as reals, by a rule of the target.
    pub(super) fn leaves(&self) -> bool {
        let layer = self.layer;
        self.spec.ops.dequantize.is_some()
            && layer.leaves
            && layer.quantizer.is_none()
            && layer.posts.is_empty()
    }

    /// `[ops] dequantize` on codes, or on integer sums.
    pub(super) fn dequantize(&self, linear: Option<&LinearPlan>) -> Option<Finish> {
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
    pub(super) fn quantized(&self, labels: &[Labels], channels: Channels) -> Finish {
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

    /// A scale for each channel of an activation: in float, by `[quantize]`.
    pub(super) fn float_channels(&self, grid: &CodeGrid, relabel: i64) -> Ending {
        let layer = self.layer;
        let count = grid.scale.values.len().max(grid.zero_point.values.len());
        let labels: Vec<Labels> = (0..count)
            .map(|c| Labels::of_channel(grid, relabel, c))
            .collect();
        let plain = matches!(layer.kind, Kind::Pass) && layer.posts.is_empty();
        let finish = self.quantized(&labels, grid.channels(&layer.shape));
        (finish, !plain, vec!["quantize"])
    }
}
