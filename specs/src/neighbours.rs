//! The neighbours of a target in the rule zoo: one decision changed, everything else the same.
//!
//! A recording proves a rule only if it refutes the rule's neighbours; these are what it is tried on.

use strum::VariantArray as _;

use crate::{
    AddRule, AverageRule, BiasFormat, BiasPosition, Bounds, CodeClip, Compare, DequantizeRule,
    Derivation, Division, DynamicQuantizeRule, Fold, HardSwishRule, LeakyReluRule, MulRule,
    Multiplier, Ops, Overflow, PairGroups, PairPadding, PairRule, PairSigned, Pairs, Placement,
    PrecisionRules, ProductRule, QuantizeTail, Requantize, RescaleRule, ResizeRule, Rounding,
    Shift, SigmoidRule, SoftmaxRule, Spec, Step, SumDivision, TermOrder, ThresholdArithmetic,
    ThresholdRules, WeightDivision, ZeroPointPosition,
};

/// A target that makes one decision differently.
#[derive(Debug, Clone)]
pub struct Neighbour {
    /// The decision, as a path into the spec: `requantize.steps`, `ops.add`, ...
    pub rule: String,
    /// What it is changed to, in the words of the spec.
    pub change: String,
    /// The target with that change.
    pub spec: Spec,
}

/// Roundings that real targets have; the others differ from these in every second element.
const ROUNDINGS: [Rounding; 5] = [
    Rounding::HalfEven,
    Rounding::HalfAway,
    Rounding::HalfUp,
    Rounding::Floor,
    Rounding::Trunc,
];

impl Spec {
    /// All targets that differ from this one in one decision, in a fixed order. Decisions that this target
    /// leaves to the model's own arithmetic have none.
    pub fn neighbours(&self) -> Vec<Neighbour> {
        let mut list = List {
            own: self,
            found: Vec::new(),
        };
        if let Some(own) = self.precision {
            // Recordings come with a table, which takes the place of everything else.
            list.precision(own);
            return list.found;
        }
        if let Some(own) = self.thresholds {
            list.thresholds(own);
            return list.found;
        }
        list.grids();
        list.quantize();
        list.bias();
        list.accumulator();
        if self.requantize.multiplier != Multiplier::Exact {
            list.requantize("requantize", &self.requantize, |spec, rule| {
                spec.requantize = rule;
            });
        }
        macro_rules! section {
            ($name:literal, $($field:ident).+) => {
                if let Some(own) = &self.$($field).+ {
                    list.requantize($name, own, |spec, rule| spec.$($field).+ = Some(rule));
                }
            };
        }
        section!("convolution", convolution);
        section!("depthwise", depthwise);
        section!("transposed", transposed);
        section!("fully-connected", fully_connected);
        section!("fully-connected-unbiased", fully_connected_unbiased);
        list.ops("ops", &self.ops, |spec| Some(&mut spec.ops));
        if let Some(unsigned) = &self.unsigned {
            macro_rules! unsigned {
                ($name:literal, $field:ident) => {
                    if let Some(own) = &unsigned.$field {
                        list.requantize($name, own, |spec, rule| {
                            if let Some(unsigned) = &mut spec.unsigned {
                                unsigned.$field = Some(rule);
                            }
                        });
                    }
                };
            }
            unsigned!("unsigned.convolution", convolution);
            unsigned!("unsigned.depthwise", depthwise);
            unsigned!("unsigned.transposed", transposed);
            unsigned!("unsigned.fully-connected", fully_connected);
            list.ops("unsigned.ops", &unsigned.ops, |spec| {
                spec.unsigned.as_mut().map(|unsigned| &mut unsigned.ops)
            });
        }
        list.placement();
        list.found
    }
}

struct List<'a> {
    own: &'a Spec,
    found: Vec<Neighbour>,
}

impl List<'_> {
    fn push(&mut self, rule: &str, change: String, apply: impl FnOnce(&mut Spec)) {
        let mut spec = self.own.clone();
        apply(&mut spec);
        if spec != *self.own {
            self.found.push(Neighbour {
                rule: rule.to_owned(),
                change,
                spec,
            });
        }
    }

    /// What the target makes of the model's grids otherwise than the model does.
    fn grids(&mut self) {
        self.push("activations.clip", word(&CodeClip::Model), |spec| {
            spec.activations.clip = CodeClip::Model;
        });
        self.push("weights.division", word(&WeightDivision::Model), |spec| {
            spec.weights.division = WeightDivision::Model;
        });
    }

    fn quantize(&mut self) {
        if self.own.quantize.division.is_model() {
            self.push("quantize.division", word(&Division::Model), |spec| {
                spec.quantize.division = Division::Model;
            });
            return;
        }
        for &division in Division::VARIANTS {
            if !division.is_model() {
                self.push("quantize.division", word(&division), |spec| {
                    spec.quantize.division = division;
                });
            }
        }
        for rounding in ROUNDINGS {
            self.push("quantize.rounding", word(&rounding), |spec| {
                spec.quantize.rounding = rounding;
            });
        }
        if self.own.quantize.division == Division::FakeQuantize {
            return;
        }
        for position in [
            ZeroPointPosition::AfterRounding,
            ZeroPointPosition::InsideRounding,
        ] {
            self.push("quantize.zero-point", word(&position), |spec| {
                spec.quantize.zero_point = position;
            });
        }
        if let Some(tail) = self.own.quantize.tail {
            self.push("quantize.tail", "none".to_owned(), |spec| {
                spec.quantize.tail = None;
            });
            self.push("quantize.tail", "everywhere".to_owned(), |spec| {
                spec.quantize.tail = None;
                spec.quantize.division = tail.division;
                spec.quantize.rounding = tail.rounding;
            });
            self.push("quantize.tail", "divide-f32".to_owned(), |spec| {
                spec.quantize.tail = Some(QuantizeTail {
                    division: Division::DivideF32,
                    ..tail
                });
            });
        }
    }

    fn precision(&mut self, own: PrecisionRules) {
        macro_rules! variants {
            ($path:literal, $field:ident, $rule:ty) => {
                for &rule in <$rule>::VARIANTS {
                    self.push($path, word(&rule), |spec| {
                        spec.precision = Some(PrecisionRules {
                            $field: rule,
                            ..own
                        });
                    });
                }
            };
        }
        variants!("precision.product", product, ProductRule);
        variants!("precision.bias", bias, BiasPosition);
        variants!("precision.order", order, TermOrder);
    }

    fn thresholds(&mut self, own: ThresholdRules) {
        macro_rules! change {
            ($path:literal, $field:ident, $rules:expr) => {
                for &rule in $rules {
                    self.push($path, word(&rule), |spec| {
                        spec.thresholds = Some(ThresholdRules {
                            $field: rule,
                            ..own
                        });
                    });
                }
            };
        }
        change!(
            "thresholds.arithmetic",
            arithmetic,
            ThresholdArithmetic::VARIANTS
        );
        change!("thresholds.compare", compare, Compare::VARIANTS);
        change!("thresholds.division", division, SumDivision::VARIANTS);
        change!("thresholds.rounding", rounding, &ROUNDINGS);
    }

    fn bias(&mut self) {
        let float = [
            BiasFormat::F32InAccumulator,
            BiasFormat::F32AfterScale,
            BiasFormat::Int32ReciprocalF32,
        ];
        let plain = self.own.bias.format == BiasFormat::Int32;
        if !plain && !float.contains(&self.own.bias.format) {
            return;
        }
        // Only float formats of the multiplier can add a float bias.
        let multiplier = self.own.requantize.multiplier;
        let formats = match multiplier {
            Multiplier::F32 | Multiplier::F32TwoSteps { .. } => &float[..],
            Multiplier::FakeQuantize { .. } => &float[2..],
            _ => &[],
        };
        for &format in formats.iter().chain(&[BiasFormat::Int32]) {
            self.push("bias.format", word(&format), |spec| {
                spec.bias.format = format;
            });
        }
    }

    fn accumulator(&mut self) {
        if self.own.accumulator.bits.is_none() {
            return;
        }
        for overflow in [Overflow::Wrap, Overflow::Saturate] {
            self.push("accumulator.overflow", word(&overflow), |spec| {
                spec.accumulator.overflow = overflow;
                spec.accumulator.pairs = None;
            });
        }
        let Some(own) = self.own.accumulator.pairs else {
            return;
        };
        self.push("accumulator.pairs", "none".to_owned(), |spec| {
            spec.accumulator.pairs = None;
        });
        macro_rules! variants {
            ($name:literal, $field:ident, $rules:expr) => {
                for &rule in $rules {
                    let change = format!("{} {}", $name, word(&rule));
                    self.push("accumulator.pairs", change, |spec| {
                        spec.accumulator.pairs = Some(Pairs {
                            $field: rule,
                            ..own
                        });
                    });
                }
            };
        }
        // Of one channel, or of one kernel position, pairs of channels are nothing new.
        let plain = &[PairRule::Exact, PairRule::Sequence];
        variants!("convolution", convolution, PairRule::VARIANTS);
        variants!("depthwise", depthwise, plain);
        variants!("fully-connected", fully_connected, plain);
        variants!(
            "unscaled-convolution",
            unscaled_convolution,
            PairRule::VARIANTS
        );
        variants!("groups", groups, PairGroups::VARIANTS);
        variants!("padding", padding, PairPadding::VARIANTS);
        variants!("signed", signed, PairSigned::VARIANTS);
    }

    fn requantize(&mut self, name: &str, own: &Requantize, set: fn(&mut Spec, Requantize)) {
        let mut push = |field: &str, change: String, rule: Requantize| {
            self.push(&format!("{name}.{field}"), change, |spec| set(spec, rule));
        };
        let float = matches!(
            own.multiplier,
            Multiplier::F32 | Multiplier::F32TwoSteps { .. } | Multiplier::F64
        );
        let step = |shift: Shift, rounding: Rounding| Step {
            shift,
            rounding,
            saturate: None,
        };
        let fixed = Multiplier::Fixed {
            bits: 31,
            rounding: Rounding::HalfAway,
        };
        let first = own.steps.first().map_or(Rounding::HalfEven, |s| s.rounding);
        if own.multiplier != Multiplier::PowerOfTwo {
            let up = step(Shift::By(31), Rounding::HalfUp);
            let rest = |rounding| step(Shift::Rest, rounding);
            let formats = [
                ("f32", Multiplier::F32, vec![rest(first)]),
                ("f64", Multiplier::F64, vec![rest(first)]),
                (
                    "f32, two operations, division",
                    Multiplier::F32TwoSteps {
                        division: Division::DivideF32,
                    },
                    vec![rest(first)],
                ),
                (
                    "Q31, 31 half-up, rest half-away",
                    fixed,
                    vec![up, rest(Rounding::HalfAway)],
                ),
                (
                    "Q31, 31 half-up, rest half-up",
                    fixed,
                    vec![up, rest(Rounding::HalfUp)],
                ),
                ("Q31, one half-up", fixed, vec![rest(Rounding::HalfUp)]),
            ];
            for (words, multiplier, steps) in formats {
                let rule = Requantize {
                    multiplier,
                    steps,
                    ..own.clone()
                };
                push("multiplier", words.to_owned(), rule);
            }
            for &fold in Fold::VARIANTS {
                if let Multiplier::FakeQuantize { .. } = own.multiplier {
                    let rule = Requantize {
                        multiplier: Multiplier::FakeQuantize { fold },
                        ..own.clone()
                    };
                    push("multiplier", format!("folded {}", word(&fold)), rule);
                }
            }
            // The scales of a fake quantizer are combined in f32; elsewhere a signed input's is what it is.
            let fake = matches!(own.multiplier, Multiplier::FakeQuantize { .. });
            let derivations = Derivation::VARIANTS.iter().filter(|&&rule| match rule {
                Derivation::F32 => true,
                Derivation::F32SignedRange => fake,
                Derivation::F64
                | Derivation::F32ProductF64Quotient
                | Derivation::F32ProductPerTensor => !fake,
            });
            for &derivation in derivations {
                let rule = Requantize {
                    derivation,
                    ..own.clone()
                };
                push("derivation", word(&derivation), rule);
            }
        }
        for index in 0..own.steps.len() {
            for rounding in ROUNDINGS {
                let mut rule = own.clone();
                rule.steps[index].rounding = rounding;
                push(
                    "steps",
                    format!("step {}: {}", index + 1, word(&rounding)),
                    rule,
                );
            }
        }
        if let Some(tail) = &own.tail {
            let none = Requantize {
                tail: None,
                ..own.clone()
            };
            push("tail", "none".to_owned(), none);
            let all = Requantize {
                steps: tail.steps.clone(),
                tail: None,
                ..own.clone()
            };
            push("tail", "everywhere".to_owned(), all);
        }
        if own.bounds.is_some() {
            for &bounds in Bounds::VARIANTS {
                let rule = Requantize {
                    bounds: Some(bounds),
                    ..own.clone()
                };
                push("bounds", word(&bounds), rule);
            }
        }
        if float && own.zero_point != ZeroPointPosition::InBias {
            for zero_point in [
                ZeroPointPosition::AfterRounding,
                ZeroPointPosition::InsideRounding,
            ] {
                let rule = Requantize {
                    zero_point,
                    ..own.clone()
                };
                push("zero-point", word(&zero_point), rule);
            }
        }
    }

    /// Each decision alone, as if the target left the model's quantizers where they are.
    fn placement(&mut self) {
        macro_rules! without {
            ($name:literal, $field:ident) => {
                if self.own.placement.$field != Placement::MODEL.$field {
                    self.push(concat!("placement.", $name), "none".to_owned(), |spec| {
                        spec.placement.$field = Placement::MODEL.$field;
                    });
                }
            };
        }
        without!("residual", residual);
        without!("commutes", commutes);
        without!("concat", concat);
        without!("chains", chains);
        without!("equal-quantizers", equal_quantizers);
        without!("clamps", clamps);
        without!("signed-codes", signed_codes);
        without!("bias", bias);
        without!("relu6", relu6);
        without!("unweighted", unweighted);
        without!("unquantized", unquantized);
    }

    fn ops(&mut self, section: &str, own: &Ops, of: fn(&mut Spec) -> Option<&mut Ops>) {
        if self.own.quantize.division.is_model() {
            return;
        }
        macro_rules! variants {
            ($name:literal, $field:ident, $rule:ty) => {
                if own.$field.is_some() {
                    for &rule in <$rule>::VARIANTS {
                        self.push(&format!("{section}.{}", $name), word(&rule), |spec| {
                            if let Some(ops) = of(spec) {
                                ops.$field = Some(rule);
                            }
                        });
                    }
                }
            };
        }
        variants!("add", add, AddRule);
        variants!("mul", mul, MulRule);
        variants!("average", average, AverageRule);
        variants!("global-average", global_average, AverageRule);
        variants!("rescale", rescale, RescaleRule);
        variants!("relu", relu, RescaleRule);
        variants!("concat", concat, RescaleRule);
        variants!("leaky-relu", leaky_relu, LeakyReluRule);
        variants!("sigmoid", sigmoid, SigmoidRule);
        variants!("hard-swish", hard_swish, HardSwishRule);
        variants!("softmax", softmax, SoftmaxRule);
        variants!("resize", resize, ResizeRule);
        variants!("dynamic-quantize", dynamic_quantize, DynamicQuantizeRule);
        variants!("dequantize", dequantize, DequantizeRule);
    }
}

/// A rule in the words of the spec.
fn word(rule: &impl serde::Serialize) -> String {
    match toml::Value::try_from(rule) {
        Ok(toml::Value::String(text)) => text,
        Ok(other) => other.to_string(),
        Err(error) => error.to_string(),
    }
}
