//! Contradictions of `[ops]`.

use super::Check;
use crate::view::word;
use crate::{
    AddRule, AverageRule, Grid, HardSwishRule, LeakyReluRule, MulRule, Multiplier, Ops,
    RescaleRule, ResizeRule, SigmoidRule, SoftmaxRule, Spec,
};

impl Check<'_> {
    pub(super) fn ops(&mut self, section: &str, ops: &Ops, spec: &Spec) {
        let powers = matches!(spec.activations.quantizer, Grid::PowerOfTwo | Grid::Model);
        let logarithmic = spec.activations.quantizer == Grid::Gfpq;
        let fixed = matches!(
            spec.requantize.multiplier,
            Multiplier::Fixed { .. } | Multiplier::FixedAbsolute { .. }
        );
        for (op, value, needs) in needs(ops) {
            let path = format!("{section}.{op}");
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

/// For each rule that is given: its field, its name and what it presumes.
fn needs(ops: &Ops) -> Vec<(&'static str, String, Needs)> {
    let mut out = Vec::new();
    macro_rules! each {
        ($($op:literal: $field:ident => $needs:expr;)+) => {
            $(out.extend(ops.$field.map(|rule| ($op, word(&rule), $needs(rule))));)+
        };
    }
    each! {
        "add": add => add;
        "mul": mul => mul;
        "average": average => average;
        "global-average": global_average => average;
        "rescale": rescale => rescale;
        "relu": relu => rescale;
        "concat": concat => rescale;
        "leaky-relu": leaky_relu => leaky_relu;
        "sigmoid": sigmoid => sigmoid;
        "hard-swish": hard_swish => hard_swish;
        "softmax": softmax => softmax;
        "resize": resize => resize;
    }
    out
}

fn add(rule: AddRule) -> Needs {
    match rule {
        AddRule::Exact | AddRule::F32 => Needs::Nothing,
        AddRule::AlignedShift => Needs::PowersOfTwo,
        AddRule::F32Ratios
        | AddRule::F32RatiosFma
        | AddRule::F32RatiosFmaConstant
        | AddRule::Q31Shift20
        | AddRule::Q31Shift15
        | AddRule::Q31Shift20Vector
        | AddRule::Q31Shift20VectorFloor
        | AddRule::Q31Shift15Vector
        | AddRule::Q21HalfUp
        | AddRule::RequantizeEach
        | AddRule::RoundedOnce
        | AddRule::Q8Floor
        | AddRule::F32Fma
        | AddRule::Q22Shift
        | AddRule::FakeQuantize => Needs::IntegerGrid,
    }
}

fn mul(rule: MulRule) -> Needs {
    match rule {
        MulRule::Exact | MulRule::F32 => Needs::Nothing,
        MulRule::F32Combined
        | MulRule::F32CombinedInside
        | MulRule::F32CombinedHalfEven
        | MulRule::Requantize
        | MulRule::RequantizeF32Scale
        | MulRule::RequantizeF32ScaleInt16
        | MulRule::FakeQuantize => Needs::IntegerGrid,
    }
}

fn average(rule: AverageRule) -> Needs {
    match rule {
        AverageRule::Exact | AverageRule::F32 => Needs::Nothing,
        AverageRule::DpuTable => Needs::PowersOfTwo,
        AverageRule::RequantizeOverCount | AverageRule::RequantizeOverCountVector => {
            Needs::FixedMultiplier
        }
        AverageRule::F32Inside
        | AverageRule::F32IntegerSum
        | AverageRule::F32RawSum
        | AverageRule::IntegerHalfAway
        | AverageRule::IntegerTrunc
        | AverageRule::IntegerFloor
        | AverageRule::IntegerTruncHundredth
        | AverageRule::RoundedOnce
        | AverageRule::Q8ThreeSteps
        | AverageRule::F32Mean
        | AverageRule::F32MeanInside
        | AverageRule::F32MeanKernel
        | AverageRule::FakeQuantize => Needs::IntegerGrid,
    }
}

fn rescale(rule: RescaleRule) -> Needs {
    match rule {
        RescaleRule::Exact | RescaleRule::F32 => Needs::Nothing,
        RescaleRule::Requantize
        | RescaleRule::RequantizeF32Scale
        | RescaleRule::RequantizeVector
        | RescaleRule::Q8OrVector
        | RescaleRule::F32Affine
        | RescaleRule::Q15
        | RescaleRule::FakeQuantize => Needs::IntegerGrid,
    }
}

fn leaky_relu(rule: LeakyReluRule) -> Needs {
    match rule {
        LeakyReluRule::Exact | LeakyReluRule::F32 => Needs::Nothing,
        LeakyReluRule::TwoRequantizes
        | LeakyReluRule::TwoRequantizesF32Scale
        | LeakyReluRule::TwoRequantizesF32Signed
        | LeakyReluRule::Q8HalfUp => Needs::IntegerGrid,
        LeakyReluRule::Alpha26Over256 => Needs::PowersOfTwo,
    }
}

fn sigmoid(rule: SigmoidRule) -> Needs {
    match rule {
        SigmoidRule::Exact | SigmoidRule::F32Table | SigmoidRule::NnieTable => Needs::Nothing,
        SigmoidRule::LitertTable
        | SigmoidRule::MlasTable
        | SigmoidRule::F32TableInside
        | SigmoidRule::Int16Table
        | SigmoidRule::Int16TableOrGemmlowp => Needs::IntegerGrid,
    }
}

fn hard_swish(rule: HardSwishRule) -> Needs {
    match rule {
        HardSwishRule::Exact | HardSwishRule::F32 => Needs::Nothing,
        HardSwishRule::Dpu2731 => Needs::PowersOfTwo,
        HardSwishRule::F32Inside | HardSwishRule::Int16FixedPoint => Needs::IntegerGrid,
    }
}

fn softmax(rule: SoftmaxRule) -> Needs {
    match rule {
        SoftmaxRule::Exact | SoftmaxRule::F32 => Needs::Nothing,
        SoftmaxRule::ExpTable
        | SoftmaxRule::ExpTableF32
        | SoftmaxRule::Gemmlowp
        | SoftmaxRule::F32Table
        | SoftmaxRule::Int16Tables => Needs::IntegerGrid,
    }
}

fn resize(rule: ResizeRule) -> Needs {
    match rule {
        ResizeRule::Exact | ResizeRule::F32 => Needs::Nothing,
        ResizeRule::Q10HalfAway
        | ResizeRule::Q11HalfUp
        | ResizeRule::F32Truncated
        | ResizeRule::F32WeightsTruncated => Needs::IntegerGrid,
    }
}
