//! A point of the rule zoo: what one kind of operation is computed by.

use std::collections::BTreeMap;

use align_check_specs::{
    Accumulator, Bias, BiasFormat, Derivation, Multiplier, Ops, Overflow, Product, Quantize,
    Requantize, Rounding, Spec,
};

use super::label::{FLOAT, MOVED, QUANTIZE, section};
use super::op_rule::{OpRule, Refers};

/// Rules of one kind of operation; a part that the kind does not use is absent.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Point {
    /// The end of sums, or the requantization that the operation's rule refers to.
    pub requantize: Option<Requantize>,
    /// The bias of sums.
    pub bias: Option<Bias>,
    /// The accumulator of sums.
    pub accumulator: Option<Accumulator>,
    /// Reals to codes.
    pub quantize: Option<Quantize>,
    /// The operation's own rule.
    pub op: Option<OpRule>,
    /// A target whose rules stand outside the coordinates of this search (the exact reference, thresholds, a
    /// logarithmic grid), as a whole.
    pub whole: Option<String>,
}

/// Whether a kind is a sum of products.
pub(super) fn is_sums(label: &str) -> bool {
    [
        Product::Convolution,
        Product::Depthwise,
        Product::Transposed,
        Product::FullyConnected,
        Product::FullyConnectedUnbiased,
    ]
    .iter()
    .any(|&product| section(product) == label)
}

fn product(label: &str) -> Product {
    match label {
        "depthwise" => Product::Depthwise,
        "transposed" => Product::Transposed,
        "fully-connected" => Product::FullyConnected,
        "fully-connected-unbiased" => Product::FullyConnectedUnbiased,
        _ => Product::Convolution,
    }
}

impl Point {
    /// A spec's rules for a kind of operation.
    pub fn of(spec: &Spec, label: &str, unsigned: bool) -> Self {
        if spec.quantize.division.is_model() || spec.thresholds.is_some() {
            return Self {
                whole: Some(spec.name.clone()),
                ..Self::default()
            };
        }
        let own = spec.unsigned_kernels().filter(|_| unsigned);
        let spec = own.as_ref().unwrap_or(spec);
        if is_sums(label) {
            let mut requantize = spec.of_product(product(label)).0.clone();
            let bias = requantize.bias.take().unwrap_or_else(|| spec.bias.clone());
            return Self {
                requantize: Some(requantize),
                bias: Some(bias),
                accumulator: Some(spec.accumulator.clone()),
                ..Self::default()
            };
        }
        if label == MOVED {
            return Self::default();
        }
        let quantize = Some(spec.quantize.clone());
        if label == QUANTIZE || label == FLOAT {
            return Self {
                quantize,
                ..Self::default()
            };
        }
        let rule = OpRule::of(label, &spec.ops).or_else(|| match label {
            "global-average" => spec.ops.average.map(OpRule::GlobalAverage),
            "relu" => spec.ops.rescale.map(OpRule::Relu),
            "concat" => spec.ops.rescale.map(OpRule::Concat),
            _ => None,
        });
        match rule {
            Some(rule) => Self::with(
                rule,
                &|| spec.requantize.clone(),
                &|| spec.accumulator.clone(),
                &|| spec.quantize.clone(),
            ),
            None => Self {
                quantize,
                ..Self::default()
            },
        }
    }

    /// An operation's rule with what it refers to.
    pub(super) fn with(
        rule: OpRule,
        requantize: &dyn Fn() -> Requantize,
        accumulator: &dyn Fn() -> Accumulator,
        quantize: &dyn Fn() -> Quantize,
    ) -> Self {
        let refers = rule.refers();
        let fixed = matches!(
            refers,
            Refers::Requantize | Refers::Steps | Refers::Rounding
        );
        let float = refers == Refers::Quantize;
        Self {
            op: Some(rule),
            requantize: fixed.then(|| Requantize {
                // Biases are those of sums.
                bias: None,
                ..requantize()
            }),
            accumulator: fixed.then(accumulator),
            quantize: float.then(quantize),
            ..Self::default()
        }
    }

    /// Puts the point into a spec, in place of all that it says of the kind.
    pub(super) fn apply(&self, spec: &mut Spec, label: &str) {
        spec.unsigned = None;
        if let Some(requantize) = &self.requantize {
            spec.requantize = requantize.clone();
            if is_sums(label) {
                spec.convolution = None;
                spec.depthwise = None;
                spec.transposed = None;
                spec.fully_connected = None;
                spec.fully_connected_unbiased = None;
            }
        }
        if let Some(bias) = &self.bias {
            spec.bias = bias.clone();
        }
        if let Some(accumulator) = &self.accumulator {
            spec.accumulator = accumulator.clone();
        }
        if let Some(quantize) = &self.quantize {
            spec.quantize = quantize.clone();
        }
        match (self.op, label) {
            (Some(op), _) => op.set(&mut spec.ops),
            // A kind without a rule is computed in float.
            (None, label) if !is_sums(label) && label != QUANTIZE && label != MOVED => {
                spec.ops = Ops::default();
            }
            _ => {}
        }
    }

    /// The decisions of this point, in the words of a spec: path to value.
    pub fn words(&self) -> BTreeMap<String, String> {
        let mut words = BTreeMap::new();
        let mut put = |path: &str, value: String| {
            words.insert(path.to_owned(), value);
        };
        if let Some(whole) = &self.whole {
            put("all rules", format!("those of target '{whole}'"));
        }
        if let Some(op) = &self.op {
            let (field, rule) = op.words();
            put(&format!("ops.{field}"), rule);
        }
        if let Some(rule) = &self.requantize {
            put("requantize.multiplier", format_words(rule.multiplier));
            if !matches!(rule.multiplier, Multiplier::Exact | Multiplier::PowerOfTwo) {
                put("requantize.derivation", word(&rule.derivation));
            }
            let steps = |steps: &[align_check_specs::Step]| {
                let one = |step: &align_check_specs::Step| {
                    let shift = match step.shift {
                        align_check_specs::Shift::By(bits) => format!("{bits} "),
                        align_check_specs::Shift::Rest if steps.len() > 1 => "rest ".to_owned(),
                        align_check_specs::Shift::Rest => String::new(),
                    };
                    let saturate = step
                        .saturate
                        .map_or_else(String::new, |bits| format!(" saturated to {bits} bits"));
                    format!("{shift}{}{saturate}", word(&step.rounding))
                };
                steps.iter().map(one).collect::<Vec<_>>().join(", ")
            };
            put("requantize.steps", steps(&rule.steps));
            put("requantize.zero-point", word(&rule.zero_point));
            if matches!(
                rule.multiplier,
                Multiplier::Fixed { .. }
                    | Multiplier::FixedAbsolute { .. }
                    | Multiplier::Best { .. }
            ) {
                put("requantize.left-shift", word(&rule.left_shift));
            }
            if let Some(bounds) = &rule.bounds {
                put("requantize.bounds", word(bounds));
            }
            if let Some(tail) = &rule.tail {
                put(
                    "requantize.tail",
                    format!("behind blocks of {}: {}", tail.block, steps(&tail.steps)),
                );
            }
        }
        if let Some(bias) = &self.bias {
            put("bias.format", word(&bias.format));
            if matches!(
                bias.format,
                BiasFormat::Int32
                    | BiasFormat::Int32ReciprocalF32
                    | BiasFormat::Int8Shifted
                    | BiasFormat::Int32WithZeroPoint
                    | BiasFormat::Int8Times128
            ) {
                put("bias.rounding", word(&bias.rounding));
            }
        }
        if let (Some(accumulator), true) = (&self.accumulator, self.bias.is_some()) {
            let words = match accumulator.bits {
                None => "exact".to_owned(),
                Some(bits) => format!("{bits} bits, {}", word(&accumulator.overflow)),
            };
            put("accumulator", words);
            if accumulator.overflow == Overflow::Saturate {
                put("accumulator.order", word(&accumulator.order));
            }
        }
        if let Some(rule) = &self.quantize {
            put("quantize.division", word(&rule.division));
            put("quantize.rounding", word(&rule.rounding));
            put("quantize.zero-point", word(&rule.zero_point));
            if let Some(tail) = &rule.tail {
                let what = format!(
                    "behind blocks of {}: {}, {}",
                    tail.block,
                    word(&tail.division),
                    word(&tail.rounding)
                );
                put("quantize.tail", what);
            }
        }
        words
    }

    /// The decisions one by one: as [`words`](Self::words), but where these say several in one (a multiplier with its bits
    /// and its rounding, a list of steps), each stands alone.
    pub fn decisions(&self) -> BTreeMap<String, String> {
        let mut words = self.words();
        let Some(rule) = &self.requantize else {
            return words;
        };
        let format = match rule.multiplier {
            Multiplier::Fixed { bits, rounding }
            | Multiplier::FixedAbsolute { bits, rounding }
            | Multiplier::F32Reduced { bits, rounding }
            | Multiplier::F64Reduced { bits, rounding } => {
                words.insert("requantize.multiplier.bits".into(), bits.to_string());
                words.insert("requantize.multiplier.rounding".into(), word(&rounding));
                match rule.multiplier {
                    Multiplier::Fixed { .. } => "fixed",
                    Multiplier::FixedAbsolute { .. } => "fixed-absolute",
                    Multiplier::F32Reduced { .. } => "f32-reduced",
                    _ => "f64-reduced",
                }
                .to_owned()
            }
            other => format_words(other),
        };
        words.insert("requantize.multiplier".into(), format);
        words.remove("requantize.steps");
        let Some((last, before)) = rule.steps.split_last() else {
            return words;
        };
        words.insert("requantize.steps.last".into(), word(&last.rounding));
        let first: Vec<String> = before.iter().map(|step| word(&step.rounding)).collect();
        let shifts: Vec<String> = before
            .iter()
            .map(|step| match step.shift {
                align_check_specs::Shift::By(bits) => bits.to_string(),
                align_check_specs::Shift::Rest => "rest".into(),
            })
            .collect();
        let or_none = |all: Vec<String>| {
            if all.is_empty() {
                "none".to_owned()
            } else {
                all.join(", ")
            }
        };
        words.insert("requantize.steps.first".into(), or_none(first));
        words.insert("requantize.steps.first-shift".into(), or_none(shifts));
        let saturate: Vec<String> = rule
            .steps
            .iter()
            .map(|step| step.saturate.map_or("no".to_owned(), |b| b.to_string()))
            .collect();
        let saturate = if saturate.iter().all(|own| own == "no") {
            "no".to_owned()
        } else {
            saturate.join(", ")
        };
        words.insert("requantize.steps.saturate".into(), saturate);
        words
    }

    /// The values of the decisions about sums, cheaper to make than [`decisions`](Self::decisions).
    pub(super) fn values(&self) -> Vec<(u8, String)> {
        let mut values = Vec::new();
        let mut put = |which: u8, value: String| values.push((which, value));
        if let Some(rule) = &self.requantize {
            put(0, format!("{:?}", std::mem::discriminant(&rule.multiplier)));
            if let Multiplier::Fixed { bits, rounding }
            | Multiplier::FixedAbsolute { bits, rounding }
            | Multiplier::F32Reduced { bits, rounding }
            | Multiplier::F64Reduced { bits, rounding } = rule.multiplier
            {
                put(1, bits.to_string());
                put(2, format!("{rounding:?}"));
            } else {
                put(3, format!("{:?}", rule.multiplier));
            }
            put(4, format!("{:?}", rule.derivation));
            put(5, format!("{:?}", rule.left_shift));
            put(6, format!("{:?}", rule.zero_point));
            put(7, format!("{:?}", rule.bounds));
            put(8, rule.steps.len().to_string());
            for (index, step) in rule.steps.iter().enumerate() {
                let last = u8::from(index + 1 == rule.steps.len());
                put(9 + last, format!("{:?}", step.rounding));
                put(11, format!("{:?}", step.shift));
            }
            let saturate: Vec<_> = rule.steps.iter().map(|step| step.saturate).collect();
            put(12, format!("{saturate:?}"));
            put(13, format!("{:?}", rule.tail));
        }
        if let Some(bias) = &self.bias {
            put(14, format!("{:?}", bias.format));
            put(15, format!("{:?}", bias.rounding));
        }
        if let Some(accumulator) = &self.accumulator {
            put(16, format!("{accumulator:?}"));
        }
        if let Some(rule) = &self.quantize {
            put(17, format!("{:?}", rule.division));
            put(18, format!("{:?}", rule.rounding));
            put(19, format!("{:?}", rule.zero_point));
            put(20, format!("{:?}", rule.tail));
        }
        if let Some(op) = &self.op {
            put(21, format!("{op:?}"));
        }
        values
    }

    /// In one line.
    pub fn text(&self) -> String {
        let words = self.words();
        let mut parts: Vec<&str> = Vec::new();
        let keys = [
            "all rules",
            "requantize.multiplier",
            "requantize.derivation",
            "requantize.steps",
            "requantize.tail",
            "requantize.zero-point",
            "bias.format",
            "accumulator",
            "quantize.division",
            "quantize.rounding",
            "quantize.zero-point",
            "quantize.tail",
        ];
        let op = words.iter().find(|(path, _)| path.starts_with("ops."));
        if words.is_empty() {
            parts.push("codes are moved, nothing is computed");
        } else if op.is_none() && self.quantize.is_some() {
            parts.push("in float, then quantized");
        }
        parts.extend(op.map(|(_, value)| value.as_str()));
        parts.extend(
            keys.iter()
                .filter_map(|key| words.get(*key).map(String::as_str)),
        );
        parts.join("; ")
    }

    /// How much there is to say: simple rules first.
    pub(super) fn complexity(&self) -> u32 {
        let mut cost = 0;
        if let Some(rule) = &self.requantize {
            cost += match rule.multiplier {
                Multiplier::PowerOfTwo => 0,
                Multiplier::Exact | Multiplier::F64 | Multiplier::F32 => 1,
                Multiplier::Fixed { bits: 31, .. } => 2,
                Multiplier::F32TwoSteps { .. } | Multiplier::Q15Reduced => 3,
                Multiplier::Fixed { bits, .. } => 3 + u32::from(bits % 8 != 0 && bits != 15),
                Multiplier::Best { .. } | Multiplier::FakeQuantize { .. } => 5,
                Multiplier::FixedAbsolute { .. }
                | Multiplier::F32Reduced { .. }
                | Multiplier::F64Reduced { .. } => 6,
            };
            cost += match rule.multiplier {
                Multiplier::Fixed { rounding, .. }
                | Multiplier::FixedAbsolute { rounding, .. }
                | Multiplier::F32Reduced { rounding, .. }
                | Multiplier::F64Reduced { rounding, .. } => rare(rounding),
                _ => 0,
            };
            cost += u32::from(rule.derivation != Derivation::F64);
            cost += 2 * (rule.steps.len() as u32).saturating_sub(1);
            for step in &rule.steps {
                cost += rare(step.rounding) + 2 * u32::from(step.saturate.is_some());
                if let align_check_specs::Shift::By(bits) = step.shift {
                    cost += u32::from(!matches!(bits, 16 | 31));
                }
            }
            cost += 4 * u32::from(rule.tail.is_some()) + u32::from(rule.bounds.is_some());
        }
        if let Some(bias) = &self.bias {
            cost += 2 * u32::from(bias.format != BiasFormat::Int32) + rare(bias.rounding);
        }
        if let Some(accumulator) = &self.accumulator {
            cost += match (accumulator.bits, accumulator.overflow) {
                (Some(32), Overflow::Wrap) | (None, _) => 0,
                (_, Overflow::Wrap) => 1,
                _ => 2,
            };
        }
        if let Some(rule) = &self.quantize {
            cost += rare(rule.rounding) + 3 * u32::from(rule.tail.is_some());
            cost += u32::from(rule.division != align_check_specs::Division::DivideF32);
        }
        if let Some(op) = &self.op {
            cost += op.complexity();
        }
        cost
    }
}

/// Roundings that no known chip has are more to say.
fn rare(rounding: Rounding) -> u32 {
    match rounding {
        Rounding::HalfEven | Rounding::HalfAway | Rounding::HalfUp => 0,
        Rounding::Floor | Rounding::Trunc => 1,
        _ => 2,
    }
}

fn format_words(multiplier: Multiplier) -> String {
    match multiplier {
        Multiplier::Fixed { bits, rounding } => format!("fixed {bits} bits {}", word(&rounding)),
        Multiplier::FixedAbsolute { bits, rounding } => {
            format!("fixed-absolute {bits} bits {}", word(&rounding))
        }
        Multiplier::F32Reduced { bits, rounding } => {
            format!("f32-reduced {bits} bits {}", word(&rounding))
        }
        Multiplier::F64Reduced { bits, rounding } => {
            format!("f64-reduced {bits} bits {}", word(&rounding))
        }
        Multiplier::F32TwoSteps { division } => format!("f32-two-steps {}", word(&division)),
        Multiplier::Best { bits } => format!("best {bits} bits"),
        Multiplier::FakeQuantize { fold } => format!("fake-quantize, fold {}", word(&fold)),
        Multiplier::Exact => "exact".into(),
        Multiplier::F32 => "f32".into(),
        Multiplier::F64 => "f64".into(),
        Multiplier::Q15Reduced => "q15-reduced".into(),
        Multiplier::PowerOfTwo => "power-of-two".into(),
    }
}

/// A rule in the words of the spec.
pub(super) fn word(rule: &impl serde::Serialize) -> String {
    match toml::Value::try_from(rule) {
        Ok(toml::Value::String(text)) => text,
        Ok(other) => other.to_string(),
        Err(error) => error.to_string(),
    }
}
