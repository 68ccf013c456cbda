//! Contradictions of `[ops]`.

use super::Check;
use crate::view::word;
use crate::{
    AddRule, AverageRule, Grid, HardSwishRule, LeakyReluRule, MulRule, Multiplier, Ops,
    RescaleRule, SigmoidRule, SoftmaxRule, Spec,
};

impl Check<'_> {
    pub(super) fn ops(&mut self, spec: &Spec) {
        let powers = matches!(spec.activations.quantizer, Grid::PowerOfTwo | Grid::Model);
        let logarithmic = spec.activations.quantizer == Grid::Gfpq;
        let fixed = matches!(
            spec.requantize.multiplier,
            Multiplier::Fixed { .. } | Multiplier::FixedAbsolute { .. }
        );
        for (op, needs) in needs(&spec.ops) {
            let path = format!("ops.{op}");
            let value = match op {
                "hard-swish" => spec.ops.hard_swish.map(|rule| word(&rule)),
                "leaky-relu" => spec.ops.leaky_relu.map(|rule| word(&rule)),
                "rescale" => spec.ops.rescale.map(|rule| word(&rule)),
                "global-average" => spec.ops.global_average.map(|rule| word(&rule)),
                "average" => spec.ops.average.map(|rule| word(&rule)),
                "mul" => spec.ops.mul.map(|rule| word(&rule)),
                "sigmoid" => spec.ops.sigmoid.map(|rule| word(&rule)),
                "softmax" => spec.ops.softmax.map(|rule| word(&rule)),
                _ => spec.ops.add.map(|rule| word(&rule)),
            };
            let value = value.unwrap_or_default();
            let reason =
                format!("'{value}' needs activations.quantizer = 'power-of-two' or 'model'");
            self.require(needs != Needs::PowersOfTwo || powers, &*path, reason);
            let reason = format!(
                "'{value}' needs a requantize.multiplier of format 'fixed' or 'fixed-absolute'"
            );
            self.require(needs != Needs::FixedMultiplier || fixed, &*path, reason);
            let reason = format!(
                "'{value}' is an integer rule; on a logarithmic grid only 'exact' is expressed"
            );
            self.require(needs == Needs::Nothing || !logarithmic, &*path, reason);
        }
    }
}

/// What the rule of an operation presumes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    IntegerGrid,
    PowersOfTwo,
    FixedMultiplier,
}

fn needs(ops: &Ops) -> Vec<(&'static str, Needs)> {
    let average = |rule: AverageRule| match rule {
        AverageRule::Exact | AverageRule::F32 => Needs::Nothing,
        AverageRule::DpuTable => Needs::PowersOfTwo,
        AverageRule::RequantizeOverCount => Needs::FixedMultiplier,
        AverageRule::F32Inside
        | AverageRule::F32IntegerSum
        | AverageRule::IntegerHalfAway
        | AverageRule::IntegerTrunc
        | AverageRule::IntegerFloor
        | AverageRule::IntegerTruncHundredth
        | AverageRule::RoundedOnce
        | AverageRule::Q8ThreeSteps => Needs::IntegerGrid,
    };
    let mut out = Vec::new();
    out.extend(ops.add.map(|rule| {
        let needs = match rule {
            AddRule::Exact | AddRule::F32 => Needs::Nothing,
            AddRule::AlignedShift => Needs::PowersOfTwo,
            AddRule::F32Ratios
            | AddRule::F32RatiosFma
            | AddRule::F32RatiosFmaConstant
            | AddRule::Q31Shift20
            | AddRule::RequantizeEach
            | AddRule::RoundedOnce
            | AddRule::Q8Floor => Needs::IntegerGrid,
        };
        ("add", needs)
    }));
    out.extend(ops.mul.map(|rule| {
        let needs = match rule {
            MulRule::Exact | MulRule::F32 => Needs::Nothing,
            MulRule::F32Combined
            | MulRule::F32CombinedInside
            | MulRule::Requantize
            | MulRule::RequantizeF32Scale => Needs::IntegerGrid,
        };
        ("mul", needs)
    }));
    out.extend(ops.average.map(|rule| ("average", average(rule))));
    out.extend(
        ops.global_average
            .map(|rule| ("global-average", average(rule))),
    );
    out.extend(ops.rescale.map(|rule| {
        let needs = match rule {
            RescaleRule::Exact | RescaleRule::F32 => Needs::Nothing,
            RescaleRule::Requantize | RescaleRule::Q15 => Needs::IntegerGrid,
        };
        ("rescale", needs)
    }));
    out.extend(ops.leaky_relu.map(|rule| {
        let needs = match rule {
            LeakyReluRule::Exact | LeakyReluRule::F32 => Needs::Nothing,
            LeakyReluRule::TwoRequantizes | LeakyReluRule::TwoRequantizesF32Scale => {
                Needs::IntegerGrid
            }
            LeakyReluRule::Alpha26Over256 => Needs::PowersOfTwo,
        };
        ("leaky-relu", needs)
    }));
    out.extend(ops.hard_swish.map(|rule| {
        let needs = match rule {
            HardSwishRule::Exact | HardSwishRule::F32 => Needs::Nothing,
            HardSwishRule::Dpu2731 => Needs::PowersOfTwo,
        };
        ("hard-swish", needs)
    }));
    out.extend(ops.sigmoid.map(|rule| {
        let needs = match rule {
            SigmoidRule::Exact | SigmoidRule::F32Table | SigmoidRule::NnieTable => Needs::Nothing,
            SigmoidRule::LitertTable | SigmoidRule::MlasTable => Needs::IntegerGrid,
        };
        ("sigmoid", needs)
    }));
    out.extend(ops.softmax.map(|rule| {
        let needs = match rule {
            SoftmaxRule::Exact | SoftmaxRule::F32 => Needs::Nothing,
            SoftmaxRule::ExpTable | SoftmaxRule::ExpTableF32 => Needs::IntegerGrid,
        };
        ("softmax", needs)
    }));
    out
}
