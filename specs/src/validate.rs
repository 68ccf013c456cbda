//! Contradictions between fields: what no simulator could compute is refused at load time.

use std::collections::BTreeSet;

mod ops;
mod requantize;

use crate::tree::Tree;
use crate::view::word;
use crate::{
    BiasFormat, CodeClip, Division, Grid, Multiplier, Overflow, Requantize, Signedness, Spec,
    WeightDivision, ZeroPointPosition, ZeroPoints,
};

/// The first contradiction, as the path of a field and what is wrong with it.
pub(crate) fn contradiction(spec: &Spec, tree: &Tree<'_>) -> Option<(String, String)> {
    let mut check = Check { tree, found: None };
    check.names(spec);
    check.grids(spec);
    check.logarithmic(spec);
    check.quantize(spec);
    check.accumulator(spec);
    check.requantize("requantize", &spec.requantize, spec);
    for (section, rule) in sums(spec) {
        check.requantize(&section, rule, spec);
    }
    check.bias(spec);
    check.ops("ops", &spec.ops, spec);
    if let Some(unsigned) = &spec.unsigned {
        check.ops("unsigned.ops", &unsigned.ops, spec);
    }
    check.found
}

/// Every section with the fields of `[requantize]`.
fn sums(spec: &Spec) -> Vec<(String, &Requantize)> {
    let mut found = vec![("requantize".to_owned(), Some(&spec.requantize))];
    let mut add = |section: &str, rule| found.push((section.to_owned(), rule));
    add("convolution", spec.convolution.as_ref());
    add("depthwise", spec.depthwise.as_ref());
    add("transposed", spec.transposed.as_ref());
    add("fully-connected", spec.fully_connected.as_ref());
    add(
        "fully-connected-unbiased",
        spec.fully_connected_unbiased.as_ref(),
    );
    if let Some(own) = &spec.unsigned {
        add("unsigned.convolution", own.convolution.as_ref());
        add("unsigned.depthwise", own.depthwise.as_ref());
        add("unsigned.transposed", own.transposed.as_ref());
        add("unsigned.fully-connected", own.fully_connected.as_ref());
    }
    let given = |(section, rule): (String, Option<_>)| rule.map(|rule| (section, rule));
    found.into_iter().filter_map(given).collect()
}

struct Check<'a> {
    tree: &'a Tree<'a>,
    found: Option<(String, String)>,
}

impl Check<'_> {
    /// Keeps the first failure.
    fn require(&mut self, holds: bool, path: impl Into<String>, reason: impl Into<String>) {
        if !holds && self.found.is_none() {
            self.found = Some((path.into(), reason.into()));
        }
    }

    fn names(&mut self, spec: &Spec) {
        self.require(
            is_name(&spec.name),
            "name",
            "must be of a-z, 0-9 and -, at most 64 of them",
        );
        let mut seen = BTreeSet::from([spec.name.as_str()]);
        for (index, alias) in spec.aliases.iter().enumerate() {
            let path = format!("aliases[{index}]");
            self.require(
                is_name(alias),
                &*path,
                "must be of a-z, 0-9 and -, at most 64 of them",
            );
            self.require(
                seen.insert(alias),
                &*path,
                format!("'{alias}' is there twice"),
            );
        }
        let summary = spec.summary.trim();
        self.require(!summary.is_empty(), "summary", "is empty");
        self.require(!spec.summary.contains('\n'), "summary", "must be one line");
    }

    fn grids(&mut self, spec: &Spec) {
        for (section, bits) in [
            ("activations", &spec.activations.bits),
            ("weights", &spec.weights.bits),
        ] {
            let mut seen = BTreeSet::new();
            for (index, width) in bits.iter().enumerate() {
                let path = format!("{section}.bits[{index}]");
                self.require(
                    (1..=32).contains(width),
                    &*path,
                    format!("{width} is outside 1 to 32"),
                );
                self.require(
                    seen.insert(width),
                    &*path,
                    format!("{width} is there twice"),
                );
            }
        }
        let typed = matches!(spec.activations.quantizer, Grid::Affine | Grid::PowerOfTwo);
        self.require(
            spec.activations.clip == CodeClip::Model || typed,
            "activations.clip",
            "'type' needs the target's own types: quantizer 'affine' or 'power-of-two'",
        );
        self.require(
            spec.weights.division == WeightDivision::Model || spec.weights.quantizer != Grid::Gfpq,
            "weights.division",
            "'gfpq' weights are not divided by a scale",
        );
    }

    fn logarithmic(&mut self, spec: &Spec) {
        let rule = &spec.activations;
        if rule.quantizer != Grid::Gfpq {
            for (field, given) in [
                ("range-rounding", rule.range_rounding.is_some()),
                ("threshold", rule.threshold.is_some()),
            ] {
                let reason = "belongs to quantizer = 'gfpq' only";
                self.require(!given, format!("activations.{field}"), reason);
            }
            let reason = "'gfpq' weights need 'gfpq' activations, whose range-rounding and threshold they share";
            self.require(
                spec.weights.quantizer != Grid::Gfpq,
                "weights.quantizer",
                reason,
            );
            return;
        }
        let needed = "quantizer 'gfpq' needs range-rounding (the vendor's is 'floor')";
        self.require(
            rule.range_rounding.is_some(),
            "activations.range-rounding",
            needed,
        );
        let needed = "quantizer 'gfpq' needs threshold ('zero' or 'unquantized')";
        self.require(rule.threshold.is_some(), "activations.threshold", needed);
        let signed = "'gfpq' codes are signed";
        self.require(
            rule.signed != Signedness::Unsigned,
            "activations.signed",
            signed,
        );
        let zero = "'gfpq' has no zero point; write 'zero'";
        self.require(
            rule.zero_point == ZeroPoints::Zero,
            "activations.zero-point",
            zero,
        );
        let mut grids = vec![("activations", &rule.bits)];
        if spec.weights.quantizer == Grid::Gfpq {
            self.require(
                spec.weights.zero_point == ZeroPoints::Zero,
                "weights.zero-point",
                zero,
            );
            grids.push(("weights", &spec.weights.bits));
        }
        for (section, bits) in grids {
            let known = !bits.is_empty() && bits.iter().all(|width| matches!(width, 8 | 16));
            self.require(
                known,
                format!("{section}.bits"),
                "'gfpq' is defined for 8 and 16 bits; name them",
            );
        }
        let own = "'gfpq' has a definition of its own; write 'model'";
        self.require(
            spec.quantize.division == Division::Model,
            "quantize.division",
            own,
        );
        let exact = "on a logarithmic grid only exact arithmetic is expressed";
        self.require(
            spec.accumulator.overflow == Overflow::Exact,
            "accumulator.overflow",
            exact,
        );
        self.require(spec.bias.format == BiasFormat::Exact, "bias.format", exact);
        for (section, rule) in sums(spec) {
            let holds = rule.multiplier == Multiplier::Exact;
            self.require(holds, format!("{section}.multiplier"), exact);
        }
    }

    fn quantize(&mut self, spec: &Spec) {
        let reason = "only [requantize] can have the zero point in the bias";
        let position = spec.quantize.zero_point;
        self.require(
            position != ZeroPointPosition::InBias,
            "quantize.zero-point",
            reason,
        );
        let reason = "division 'fake-quantize' needs 'inside-rounding'";
        let holds = spec.quantize.division != Division::FakeQuantize
            || position == ZeroPointPosition::InsideRounding;
        self.require(holds, "quantize.zero-point", reason);
        let reason = "'model-reciprocal-f32' are the model's own quantizers: they need its grids and exact arithmetic";
        let exact = spec.requantize.multiplier == Multiplier::Exact
            && spec.activations.quantizer == Grid::Model
            && spec.weights.quantizer == Grid::Model;
        self.require(
            spec.quantize.division != Division::ModelReciprocalF32 || exact,
            "quantize.division",
            reason,
        );
    }

    fn accumulator(&mut self, spec: &Spec) {
        let rule = &spec.accumulator;
        match (rule.bits, rule.overflow) {
            (None, Overflow::Exact) => {}
            (None, overflow) => {
                let reason = format!("overflow = '{}' needs bits, 8 to 64", word(&overflow));
                self.require(false, "accumulator.bits", reason);
            }
            (Some(bits), Overflow::Exact) => {
                let reason = format!(
                    "{bits} bits contradict overflow = 'exact'; leave bits out, or say 'wrap' or 'saturate'"
                );
                self.require(false, "accumulator.bits", reason);
            }
            (Some(bits), _) => {
                let reason = format!("{bits} is outside 8 to 64");
                self.require((8..=64).contains(&bits), "accumulator.bits", reason);
            }
        }
        let wraps = rule.bits == Some(32) && rule.overflow == Overflow::Wrap;
        let reason = "needs bits = 32 and overflow = 'wrap': the sum of the pairs".to_owned();
        self.require(rule.pairs.is_none() || wraps, "accumulator.pairs", reason);
    }

    fn bias(&mut self, spec: &Spec) {
        for (section, rule) in sums(spec) {
            let format = rule.bias.as_ref().unwrap_or(&spec.bias).format;
            let name = word(&format);
            let inside = rule.zero_point == ZeroPointPosition::InBias;
            let reason =
                format!("'in-bias' needs bias.format = 'int32-with-zero-point', not '{name}'");
            let both = !inside || format == BiasFormat::Int32WithZeroPoint;
            self.require(both, format!("{section}.zero-point"), reason);
            let reason = format!("'{name}' needs {section}.zero-point = 'in-bias'");
            self.require(
                inside || format != BiasFormat::Int32WithZeroPoint,
                "bias.format",
                reason,
            );
            let float = matches!(
                rule.multiplier,
                Multiplier::F32 | Multiplier::F32TwoSteps { .. } | Multiplier::F64
            );
            let (fits, wanted) = match format {
                BiasFormat::Exact => (rule.multiplier == Multiplier::Exact, "'exact'"),
                BiasFormat::F32AfterScale => {
                    let fits = matches!(
                        rule.multiplier,
                        Multiplier::F32TwoSteps { .. } | Multiplier::FakeQuantize { .. }
                    );
                    let wanted =
                        "'f32-two-steps' or 'fake-quantize', between whose two steps it is added";
                    (fits, wanted)
                }
                BiasFormat::F32InAccumulator => (float, "'f32', 'f32-two-steps' or 'f64'"),
                BiasFormat::Int8Shifted | BiasFormat::Int8Times128 => {
                    (rule.multiplier == Multiplier::PowerOfTwo, "'power-of-two'")
                }
                BiasFormat::Int32
                | BiasFormat::Int32WithZeroPoint
                | BiasFormat::Int32ReciprocalF32 => (true, ""),
            };
            let reason = format!("'{name}' needs a {section}.multiplier of format {wanted}");
            self.require(fits, "bias.format", reason);
        }
    }
}

fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
}
