//! A spec as rows: one rule, its value, and how it is known.

use serde::Serialize;

use crate::{
    Accumulator, Activations, Bias, BiasFormat, CodeClip, Evidence, Grade, Granularity, Grid, Left,
    LeftWhen, Multiplier, Ops, Overflow, Pairs, Placement, Quantize, QuantizeTail, Requantize,
    Shift, ShiftLimits, Spec, Step, StepsTail, WeightDivision, Weights,
};

/// One rule of a spec, ready to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleView {
    /// Path of the field: `requantize.steps`.
    pub path: String,
    /// Its value in words: `31 half-up, rest half-away`.
    pub value: String,
    /// How it is known.
    pub grade: Grade,
    /// Where from.
    pub source: String,
    /// What is not known about it.
    pub note: Option<String>,
}

/// Paths that an evidence entry may name besides sections, whether or not a spec has the field.
pub(crate) const PATHS: &[&str] = &[
    "activations.quantizer",
    "activations.bits",
    "activations.kernel-bits",
    "activations.signed",
    "activations.zero-point",
    "activations.granularity",
    "activations.clip",
    "activations.range-rounding",
    "activations.threshold",
    "weights.quantizer",
    "weights.bits",
    "weights.zero-point",
    "weights.granularity",
    "weights.rounding",
    "weights.division",
    "quantize.division",
    "quantize.rounding",
    "quantize.zero-point",
    "quantize.tail",
    "bias.format",
    "bias.rounding",
    "accumulator.bits",
    "accumulator.overflow",
    "accumulator.order",
    "accumulator.pairs",
    "requantize.multiplier",
    "requantize.derivation",
    "requantize.steps",
    "requantize.left-shift",
    "requantize.zero-point",
    "requantize.clamp",
    "requantize.bounds",
    "requantize.tail",
    "fully-connected.bias",
    "ops.add",
    "ops.mul",
    "ops.average",
    "ops.global-average",
    "ops.rescale",
    "ops.relu",
    "ops.concat",
    "ops.leaky-relu",
    "ops.sigmoid",
    "ops.hard-swish",
    "ops.softmax",
    "ops.dynamic-quantize",
    "ops.dequantize",
    "ops.resize",
    "precision.types",
    "precision.product",
    "precision.bias",
    "precision.order",
    "thresholds.arithmetic",
    "thresholds.compare",
    "thresholds.division",
    "thresholds.rounding",
    "placement.quantizers",
    "placement.residual",
    "placement.commutes",
    "placement.concat",
    "placement.chains",
    "placement.equal-quantizers",
    "placement.clamps",
    "placement.signed-codes",
    "placement.bias",
    "placement.relu6",
    "placement.unweighted",
    "placement.unquantized",
    "placement.left",
    "limits.cut",
    "limits.bias",
    "limits.read",
    "limits.add-write",
];

/// Sections with the fields of `[requantize]`.
const SUMS: [&str; 5] = [
    "convolution",
    "depthwise",
    "transposed",
    "fully-connected",
    "fully-connected-unbiased",
];

/// What is added in pairs, in a line.
fn pair_words(pairs: Pairs) -> String {
    format!(
        "saturated to 16 bits: convolution {}, depthwise {}, fully connected {}, unscaled convolution {}, groups {}, \
         padding {}, signed {}",
        word(&pairs.convolution),
        word(&pairs.depthwise),
        word(&pairs.fully_connected),
        word(&pairs.unscaled_convolution),
        word(&pairs.groups),
        word(&pairs.padding),
        word(&pairs.signed),
    )
}

/// Whether an evidence entry may name this path.
pub(crate) fn is_path(name: &str) -> bool {
    let name = name.strip_prefix("unsigned.").unwrap_or(name);
    let general = SUMS.iter().find_map(|section| {
        let rest = name.strip_prefix(section)?;
        (rest.is_empty() || rest.starts_with('.')).then(|| format!("requantize{rest}"))
    });
    let name = general.as_deref().unwrap_or(name);
    name == "requantize" || PATHS.contains(&name)
}

impl Spec {
    /// Every rule, one row a field, in the order of the sections. Fields without meaning for this target
    /// (the left shift of a float multiplier) have no row.
    pub fn rules(&self) -> Vec<RuleView> {
        let row = |(path, value): (String, String)| {
            let Evidence {
                grade,
                source,
                note,
                ..
            } = self.evidence_for(&path).clone();
            RuleView {
                path,
                value,
                grade,
                source,
                note,
            }
        };
        self.rows().into_iter().map(row).collect()
    }

    /// Operations that this target leaves in float, by the names of their fields.
    pub fn float_ops(&self) -> Vec<&'static str> {
        let stated: Vec<(String, String)> = self.rows();
        PATHS
            .iter()
            .filter_map(|path| path.strip_prefix("ops."))
            // Not operations of their own.
            .filter(|op| {
                !matches!(
                    *op,
                    "global-average" | "relu" | "concat" | "dynamic-quantize" | "dequantize"
                )
            })
            .filter(|op| {
                !stated
                    .iter()
                    .any(|(path, _)| path.strip_prefix("ops.") == Some(*op))
            })
            .collect()
    }

    /// Path and value of every rule.
    pub(crate) fn rows(&self) -> Vec<(String, String)> {
        let mut rows = Rows::default();
        rows.activations(&self.activations);
        rows.weights(&self.weights);
        // Thresholds take the place of these.
        let counts = self.thresholds.is_some();
        if !counts {
            rows.quantize(&self.quantize, &self.bias);
        }
        rows.accumulator(&self.accumulator);
        if !counts {
            rows.requantize("requantize", &self.requantize);
        }
        for (section, rule) in [
            (SUMS[0], &self.convolution),
            (SUMS[1], &self.depthwise),
            (SUMS[2], &self.transposed),
            (SUMS[3], &self.fully_connected),
            (SUMS[4], &self.fully_connected_unbiased),
        ] {
            if let Some(rule) = rule {
                rows.requantize(section, rule);
            }
        }
        rows.ops("ops", &self.ops);
        if let Some(unsigned) = &self.unsigned {
            for (section, rule) in [
                (SUMS[0], &unsigned.convolution),
                (SUMS[1], &unsigned.depthwise),
                (SUMS[2], &unsigned.transposed),
                (SUMS[3], &unsigned.fully_connected),
            ] {
                if let Some(rule) = rule {
                    rows.requantize(&format!("unsigned.{section}"), rule);
                }
            }
            rows.ops("unsigned.ops", &unsigned.ops);
        }
        if let Some(rule) = &self.precision {
            rows.add("precision.types", word(&rule.types));
            rows.add("precision.product", word(&rule.product));
            rows.add("precision.bias", word(&rule.bias));
            rows.add("precision.order", word(&rule.order));
        }
        if let Some(rule) = &self.thresholds {
            rows.add("thresholds.arithmetic", word(&rule.arithmetic));
            rows.add("thresholds.compare", word(&rule.compare));
            rows.add("thresholds.division", word(&rule.division));
            rows.add("thresholds.rounding", word(&rule.rounding));
        }
        rows.add("placement.quantizers", word(&self.placement.quantizers));
        rows.placement(&self.placement);
        if let Some(limits) = &self.limits {
            rows.limits(limits);
        }
        rows.0
    }
}

#[derive(Default)]
struct Rows(Vec<(String, String)>);

impl Rows {
    fn limits(&mut self, limits: &ShiftLimits) {
        let range = |[min, max]: [i32; 2]| format!("{min}..={max}");
        let (bits, max) = (limits.bias_accumulator_bits, limits.bias_max);
        self.add("limits.cut", range(limits.cut));
        self.add("limits.bias", format!("min(0, 8 + cut - {bits})..={max}"));
        self.add("limits.read", range(limits.read));
        self.add("limits.add-write", range(limits.add_write));
    }

    fn add(&mut self, path: impl Into<String>, value: String) {
        self.0.push((path.into(), value));
    }

    fn placement(&mut self, rule: &Placement) {
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                self.add(format!("placement.{name}"), value);
            }
        };
        let words: Vec<String> = rule.commutes.iter().map(word).collect();
        add("residual", rule.residual.as_ref().map(word));
        add("commutes", (!words.is_empty()).then(|| words.join(", ")));
        add("concat", rule.concat.as_ref().map(word));
        add("chains", rule.chains.as_ref().map(word));
        add("equal-quantizers", rule.equal_quantizers.as_ref().map(word));
        add("clamps", rule.clamps.as_ref().map(word));
        add("signed-codes", rule.signed_codes.as_ref().map(word));
        add("bias", rule.bias.as_ref().map(word));
        add("relu6", rule.relu6.as_ref().map(word));
        add("unweighted", rule.unweighted.as_ref().map(word));
        add("unquantized", rule.unquantized.as_ref().map(word));
        add("left", rule.left.as_ref().map(left));
    }

    fn activations(&mut self, rule: &Activations) {
        self.add("activations.quantizer", word(&rule.quantizer));
        if rule.quantizer != Grid::Model || !rule.bits.is_empty() {
            self.add("activations.bits", widths(&rule.bits));
        }
        if let Some(bits) = rule.kernel_bits {
            self.add("activations.kernel-bits", bits.to_string());
        }
        self.add("activations.signed", word(&rule.signed));
        self.add("activations.zero-point", word(&rule.zero_point));
        if rule.granularity == Granularity::PerChannel {
            self.add("activations.granularity", word(&rule.granularity));
        }
        if rule.clip != CodeClip::Model {
            self.add("activations.clip", word(&rule.clip));
        }
        if let Some(rounding) = &rule.range_rounding {
            self.add("activations.range-rounding", word(rounding));
        }
        if let Some(threshold) = &rule.threshold {
            self.add("activations.threshold", word(threshold));
        }
    }

    fn weights(&mut self, rule: &Weights) {
        self.add("weights.quantizer", word(&rule.quantizer));
        if rule.quantizer != Grid::Model || !rule.bits.is_empty() {
            self.add("weights.bits", widths(&rule.bits));
        }
        self.add("weights.zero-point", word(&rule.zero_point));
        self.add("weights.granularity", word(&rule.granularity));
        self.add("weights.rounding", word(&rule.rounding));
        if rule.division != WeightDivision::Model {
            self.add("weights.division", word(&rule.division));
        }
    }

    fn quantize(&mut self, rule: &Quantize, bias: &Bias) {
        self.add("quantize.division", word(&rule.division));
        self.add("quantize.rounding", word(&rule.rounding));
        self.add("quantize.zero-point", word(&rule.zero_point));
        if let Some(tail) = &rule.tail {
            let QuantizeTail {
                block,
                division,
                rounding,
            } = tail;
            let value = format!(
                "behind blocks of {block}: {}, {}",
                word(division),
                word(rounding)
            );
            self.add("quantize.tail", value);
        }
        self.add("bias.format", word(&bias.format));
        if matches!(
            bias.format,
            BiasFormat::Int32
                | BiasFormat::Int32WithZeroPoint
                | BiasFormat::Int32ReciprocalF32
                | BiasFormat::Int8Shifted
                | BiasFormat::Int8Times128
        ) {
            self.add("bias.rounding", word(&bias.rounding));
        }
    }

    fn accumulator(&mut self, rule: &Accumulator) {
        if let Some(bits) = rule.bits {
            self.add("accumulator.bits", bits.to_string());
        }
        self.add("accumulator.overflow", word(&rule.overflow));
        // A sum that wraps is the same in every order.
        if rule.overflow != Overflow::Wrap {
            self.add("accumulator.order", word(&rule.order));
        }
        if let Some(pairs) = &rule.pairs {
            self.add("accumulator.pairs", pair_words(*pairs));
        }
    }

    fn requantize(&mut self, section: &str, rule: &Requantize) {
        self.add(format!("{section}.multiplier"), multiplier(rule.multiplier));
        if has_derivation(rule.multiplier) {
            self.add(format!("{section}.derivation"), word(&rule.derivation));
        }
        self.add(
            format!("{section}.steps"),
            steps(rule.multiplier, &rule.steps),
        );
        if has_shifts(rule.multiplier) {
            self.add(format!("{section}.left-shift"), word(&rule.left_shift));
        }
        self.add(format!("{section}.zero-point"), word(&rule.zero_point));
        self.add(format!("{section}.clamp"), word(&rule.clamp));
        if let Some(bounds) = &rule.bounds {
            self.add(format!("{section}.bounds"), word(bounds));
        }
        if let Some(StepsTail { block, steps: own }) = &rule.tail {
            let own = steps(rule.multiplier, own);
            self.add(
                format!("{section}.tail"),
                format!("channels behind blocks of {block}: {own}"),
            );
        }
        if let Some(bias) = &rule.bias {
            self.add(format!("{section}.bias"), word(&bias.format));
        }
    }

    fn ops(&mut self, section: &str, ops: &Ops) {
        let Ops {
            add,
            mul,
            average,
            global_average,
            rescale,
            relu,
            concat,
            leaky_relu,
            sigmoid,
            hard_swish,
            softmax,
            dynamic_quantize,
            dequantize,
            resize,
        } = ops;
        let at = |op: &str| format!("{section}.{op}");
        self.optional(at("add"), add.as_ref());
        self.optional(at("mul"), mul.as_ref());
        self.optional(at("average"), average.as_ref());
        self.optional(at("global-average"), global_average.as_ref());
        self.optional(at("rescale"), rescale.as_ref());
        self.optional(at("relu"), relu.as_ref());
        self.optional(at("concat"), concat.as_ref());
        self.optional(at("leaky-relu"), leaky_relu.as_ref());
        self.optional(at("sigmoid"), sigmoid.as_ref());
        self.optional(at("hard-swish"), hard_swish.as_ref());
        self.optional(at("softmax"), softmax.as_ref());
        self.optional(at("resize"), resize.as_ref());
        self.optional(at("dynamic-quantize"), dynamic_quantize.as_ref());
        self.optional(at("dequantize"), dequantize.as_ref());
    }

    fn optional<T: Serialize>(&mut self, path: String, rule: Option<&T>) {
        if let Some(rule) = rule {
            self.add(path, word(rule));
        }
    }
}

/// Whether `M` is a number with a fraction, so that its evaluation matters.
pub(crate) fn has_derivation(multiplier: Multiplier) -> bool {
    !matches!(multiplier, Multiplier::Exact | Multiplier::PowerOfTwo)
}

/// Whether the product is shifted in integers.
pub(crate) fn has_shifts(multiplier: Multiplier) -> bool {
    match multiplier {
        Multiplier::Fixed { .. }
        | Multiplier::FixedAbsolute { .. }
        | Multiplier::Q15Reduced
        | Multiplier::Best { .. }
        | Multiplier::PowerOfTwo => true,
        Multiplier::Exact
        | Multiplier::F32
        | Multiplier::F32TwoSteps { .. }
        | Multiplier::F32Reduced { .. }
        | Multiplier::F64
        | Multiplier::F64Reduced { .. }
        | Multiplier::FakeQuantize { .. } => false,
    }
}

/// The name of a value as a file writes it.
pub(crate) fn word<T: Serialize>(value: &T) -> String {
    match toml::Value::try_from(value) {
        Ok(toml::Value::String(text)) => text,
        Ok(other) => other.to_string(),
        Err(error) => error.to_string(),
    }
}

/// `AVERAGE_POOL_2D, CONCATENATION (rescaled) to litert-x86`.
fn left(rule: &Left) -> String {
    let operators = rule.operators.iter().map(|(operator, when)| match when {
        LeftWhen::Always => operator.clone(),
        when => format!("{operator} ({})", word(when)),
    });
    let operators: Vec<String> = operators.collect();
    format!("{} to {}", operators.join(", "), rule.to)
}

fn widths(bits: &[u32]) -> String {
    if bits.is_empty() {
        return "any".to_owned();
    }
    let list: Vec<String> = bits.iter().map(u32::to_string).collect();
    list.join(", ")
}

fn multiplier(rule: Multiplier) -> String {
    match rule {
        Multiplier::Exact => "exact".to_owned(),
        Multiplier::F32 => "f32".to_owned(),
        Multiplier::F32TwoSteps { division } => format!("f32-two-steps, {}", word(&division)),
        Multiplier::F64 => "f64".to_owned(),
        Multiplier::Fixed { bits, rounding } => format!("fixed, {bits} bits, {}", word(&rounding)),
        Multiplier::FixedAbsolute { bits, rounding } => {
            format!("fixed-absolute, {bits} bits, {}", word(&rounding))
        }
        Multiplier::Q15Reduced => "q15-reduced".to_owned(),
        Multiplier::Best { bits } => format!("best below 2^{bits}"),
        Multiplier::F32Reduced { bits, rounding } => {
            format!("f32 of {bits} bits, {}", word(&rounding))
        }
        Multiplier::F64Reduced { bits, rounding } => {
            format!("f64 of {bits} bits, {}", word(&rounding))
        }
        Multiplier::PowerOfTwo => "power-of-two".to_owned(),
        Multiplier::FakeQuantize { fold } => format!("fake-quantize, folded {}", word(&fold)),
    }
}

fn steps(multiplier: Multiplier, steps: &[Step]) -> String {
    let words: Vec<String> = steps
        .iter()
        .map(|step| {
            let mut text = word(&step.rounding);
            match step.shift {
                Shift::By(bits) => text = format!("{bits} {text}"),
                Shift::Rest if has_shifts(multiplier) => text = format!("rest {text}"),
                Shift::Rest => {}
            }
            if let Some(bits) = step.saturate {
                text = format!("{text} saturated to {bits} bits");
            }
            text
        })
        .collect();
    words.join(", ")
}
