//! The rule of an operation that is no sum of products, and what it refers to.

use align_check_specs::{
    AddRule, AverageRule, DequantizeRule, DynamicQuantizeRule, HardSwishRule, LeakyReluRule,
    MulRule, Ops, RescaleRule, ResizeRule, SigmoidRule, SoftmaxRule,
};
use strum::VariantArray as _;

macro_rules! op_rules {
    ($($label:literal, $variant:ident, $field:ident, $type:ty;)+) => {
        /// The rule of an operation that is no sum of products.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the fields of `[ops]`")]
        pub enum OpRule { $($variant($type),)+ }

        impl OpRule {
            pub(super) fn set(self, ops: &mut Ops) {
                match self { $(Self::$variant(rule) => ops.$field = Some(rule),)+ }
            }

            pub(super) fn of(label: &str, ops: &Ops) -> Option<Self> {
                match label { $($label => ops.$field.map(Self::$variant),)+ _ => None }
            }

            /// Every rule of a kind.
            pub(super) fn all(label: &str) -> Vec<Self> {
                match label {
                    $($label => <$type>::VARIANTS.iter().copied().map(Self::$variant).collect(),)+
                    _ => Vec::new(),
                }
            }
        }
    };
}

op_rules! {
    "add", Add, add, AddRule;
    "mul", Mul, mul, MulRule;
    "average", Average, average, AverageRule;
    "global-average", GlobalAverage, global_average, AverageRule;
    "rescale", Rescale, rescale, RescaleRule;
    "relu", Relu, relu, RescaleRule;
    "concat", Concat, concat, RescaleRule;
    "leaky-relu", LeakyRelu, leaky_relu, LeakyReluRule;
    "sigmoid", Sigmoid, sigmoid, SigmoidRule;
    "hard-swish", HardSwish, hard_swish, HardSwishRule;
    "softmax", Softmax, softmax, SoftmaxRule;
    "dequantize", Dequantize, dequantize, DequantizeRule;
    "dynamic-quantize", DynamicQuantize, dynamic_quantize, DynamicQuantizeRule;
    "resize", Resize, resize, ResizeRule;
}

/// What a rule refers to outside `[ops]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refers {
    Nothing,
    Quantize,
    Requantize,
    /// The steps of `[requantize]` alone.
    Steps,
    /// The rounding of `[requantize]` alone.
    Rounding,
}

impl OpRule {
    /// What the rule refers to: `simulators/src/rules` reads these sections.
    pub(super) fn refers(self) -> Refers {
        match self {
            Self::Add(rule) => match rule {
                AddRule::F32 | AddRule::F32Fma => Refers::Quantize,
                AddRule::Q31Shift20
                | AddRule::Q31Shift15
                | AddRule::Q31Shift20Vector
                | AddRule::Q31Shift20VectorFloor
                | AddRule::Q31Shift15Vector => Refers::Steps,
                AddRule::RequantizeEach => Refers::Requantize,
                AddRule::AlignedShift | AddRule::RoundedOnce => Refers::Rounding,
                _ => Refers::Nothing,
            },
            Self::Mul(rule) => match rule {
                MulRule::F32 | MulRule::F32Combined => Refers::Quantize,
                MulRule::Requantize | MulRule::RequantizeF32Scale => Refers::Requantize,
                MulRule::RequantizeF32ScaleInt16 => Refers::Steps,
                _ => Refers::Nothing,
            },
            Self::Average(rule) | Self::GlobalAverage(rule) => match rule {
                AverageRule::F32 => Refers::Quantize,
                AverageRule::RequantizeOverCount | AverageRule::RequantizeOverCountVector => {
                    Refers::Steps
                }
                AverageRule::RoundedOnce | AverageRule::DpuTable => Refers::Rounding,
                _ => Refers::Nothing,
            },
            Self::Rescale(rule) | Self::Relu(rule) | Self::Concat(rule) => match rule {
                RescaleRule::F32 => Refers::Quantize,
                RescaleRule::Requantize
                | RescaleRule::RequantizeF32Scale
                | RescaleRule::RequantizeVector
                | RescaleRule::Q8OrVector => Refers::Requantize,
                _ => Refers::Nothing,
            },
            Self::LeakyRelu(rule) => match rule {
                LeakyReluRule::F32 => Refers::Quantize,
                LeakyReluRule::TwoRequantizesF32Scale | LeakyReluRule::TwoRequantizesF32Signed => {
                    Refers::Steps
                }
                LeakyReluRule::TwoRequantizes => Refers::Requantize,
                LeakyReluRule::Alpha26Over256 => Refers::Rounding,
                LeakyReluRule::Exact | LeakyReluRule::Q8HalfUp => Refers::Nothing,
            },
            Self::Sigmoid(_) | Self::Softmax(_) | Self::Resize(_) => Refers::Quantize,
            Self::HardSwish(rule) => match rule {
                HardSwishRule::F32 | HardSwishRule::F32Inside => Refers::Quantize,
                HardSwishRule::Dpu2731 => Refers::Rounding,
                _ => Refers::Nothing,
            },
            Self::Dequantize(_) | Self::DynamicQuantize(_) => Refers::Nothing,
        }
    }
}

impl OpRule {
    /// The field of `[ops]`, and the rule's name.
    pub(super) fn words(self) -> (String, String) {
        let mut ops = Ops::default();
        self.set(&mut ops);
        let table = toml::Value::try_from(ops).ok();
        table
            .as_ref()
            .and_then(toml::Value::as_table)
            .and_then(|table| table.iter().next())
            .map_or_else(Default::default, |(field, rule)| {
                (field.clone(), rule.as_str().unwrap_or_default().to_owned())
            })
    }

    /// Rules that name a kernel's order of operations are more to say than one rounding.
    pub(super) fn complexity(self) -> u32 {
        let (_, rule) = self.words();
        2 + rule.matches('-').count() as u32
    }
}
