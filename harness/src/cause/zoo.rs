//! What a recording may have decided otherwise than its target: the neighbours of the target in the rule zoo.

use align_check_simulators::network::{Kind, Layer};
use align_check_specs::{AverageRule, Multiplier, Neighbour, Spec};
use serde_json::Value;

use super::decisions::Decision;
use super::trial::{Case, Variant};
use super::words::{op_name, rank, word};

/// The neighbours of a target that a layer rests on, and their neighbours beside them.
pub struct Zoo {
    /// The decisions, in the order of hypotheses.
    pub decisions: Vec<Decision>,
    /// `(path into the spec, what it becomes)` of each.
    changes: Vec<(String, String)>,
    own: Spec,
}

impl Zoo {
    /// The zoo around a target, as far as a layer sees it; `deep`: with what exists only beside another change.
    pub fn around(case: &Case, deep: bool) -> Self {
        // Nobody plans with the evidence, and copies of it cost more than all rules.
        let own = &Spec {
            evidence: Vec::new(),
            known_bugs: Vec::new(),
            unknowns: Vec::new(),
            ..case.target.spec.clone()
        };
        let rests = |neighbour: &Neighbour| rests_on(case, &neighbour.rule);
        let mut found: Vec<(Neighbour, bool)> = own
            .neighbours()
            .into_iter()
            .filter(rests)
            .map(|neighbour| (neighbour, true))
            .collect();
        // A float multiplier has a place for the zero point.
        let first = if deep { found.len() } else { 0 };
        for index in 0..first {
            for next in found[index].0.spec.neighbours().into_iter().filter(rests) {
                let known =
                    |(n, _): &(Neighbour, bool)| n.rule == next.rule && n.change == next.change;
                if !found.iter().any(known) {
                    found.push((next, false));
                }
            }
        }
        found.sort_by_key(|(neighbour, _)| rank(decision_name(own, neighbour, case.layer)));
        let decisions = found.iter().map(|(neighbour, single)| Decision {
            name: decision_name(own, neighbour, case.layer),
            label: format!("{}: {}", neighbour.rule, neighbour.change),
            text: text(own, neighbour),
            single: *single,
        });
        Self {
            decisions: decisions.collect(),
            changes: found
                .iter()
                .map(|(neighbour, _)| (neighbour.rule.clone(), neighbour.change.clone()))
                .collect(),
            own: own.clone(),
        }
    }

    /// The target with some changes, in whatever order they go together; `None` where they do not.
    pub fn variant(&self, set: &[usize]) -> Option<Variant> {
        let mut spec = self.own.clone();
        let mut left: Vec<usize> = set.to_vec();
        // Two points of one decision are no two decisions.
        let same = |a: usize, b: usize| place(&self.changes[a]) == place(&self.changes[b]);
        for (i, &a) in set.iter().enumerate() {
            if set[i + 1..].iter().any(|&b| same(a, b)) {
                return None;
            }
        }
        while !left.is_empty() {
            let neighbours = spec.neighbours();
            let next = left.iter().enumerate().find_map(|(at, &index)| {
                let (rule, change) = &self.changes[index];
                let found = neighbours
                    .iter()
                    .find(|n| n.rule == *rule && n.change == *change)?;
                Some((at, found.spec.clone()))
            });
            let (at, changed) = next?;
            spec = changed;
            left.remove(at);
        }
        Some(Variant::own(&spec))
    }
}

/// The decision of a change: its path, and the step where there are several.
fn place((rule, change): &(String, String)) -> (&str, &str) {
    let step = change.split_once(": ").map_or("", |(step, _)| step);
    (rule, if is_steps(rule) { step } else { "" })
}

/// Whether a path is that of a list of roundings.
fn is_steps(rule: &str) -> bool {
    rule.rsplit('.').next() == Some("steps")
}

/// Whether a layer rests on a rule. Placement is no decision of one layer.
fn rests_on(case: &Case, rule: &str) -> bool {
    if rule.starts_with("placement") {
        return false;
    }
    let rules = &case.plan.rules;
    let below = |long: &str, short: &str| {
        long.strip_prefix(short)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let direct = rules.iter().any(|own| below(rule, own) || below(own, rule));
    // Many rules of operations end in [quantize], or in the steps of [requantize].
    let op = rules.iter().any(|own| own.starts_with("ops."));
    let shared = rule.starts_with("quantize.") || rule.starts_with("requantize.");
    let accumulates = rule.starts_with("accumulator") && rules.contains(&"accumulator");
    direct || accumulates || (op && shared)
}

/// What reports call the decision.
fn decision_name(own: &Spec, neighbour: &Neighbour, layer: &Layer) -> &'static str {
    let rule = neighbour.rule.as_str();
    let concat = matches!(layer.kind, Kind::Concat { .. });
    if let Some((_, field)) = rule.split_once("ops.") {
        if field.ends_with("average") {
            let divides = |spec: &Spec| {
                let own = match field {
                    "global-average" => spec.ops.global_average,
                    _ => spec.ops.average,
                };
                matches!(
                    own,
                    Some(
                        AverageRule::F32MeanKernel
                            | AverageRule::F32Inside
                            | AverageRule::FakeQuantize
                            | AverageRule::DpuTable
                    )
                )
            };
            if divides(own) || divides(&neighbour.spec) {
                return "average divisor";
            }
        }
        return op_name(field, concat);
    }
    match rule.rsplit('.').next().unwrap_or(rule) {
        "clip" => "saturation",
        "rounding" | "steps" => "rounding",
        "zero-point" => "zero point",
        "tail" => "vector tail",
        "bounds" => "fused clamp",
        "format" => "bias width",
        "overflow" => "accumulator",
        "division" if rule.starts_with("weights") => "weight codes",
        "division" => "division",
        "multiplier" if rounds_once(own, neighbour) => "double rounding",
        "multiplier" | "derivation" => "multiplier",
        "arithmetic" | "compare" => "thresholds",
        _ => "rule",
    }
}

/// Whether a change of the multiplier is that the same format is rounded once.
fn rounds_once(own: &Spec, neighbour: &Neighbour) -> bool {
    let fixed = |spec: &Spec| {
        let rule = &spec.requantize;
        (
            matches!(rule.multiplier, Multiplier::Fixed { bits: 31, .. }),
            rule.steps.len(),
        )
    };
    neighbour.rule == "requantize.multiplier"
        && fixed(own) == (true, 2)
        && fixed(&neighbour.spec) == (true, 1)
}

/// `half-even instead of half-up in requantize.steps, step 1`.
fn text(own: &Spec, neighbour: &Neighbour) -> String {
    let Neighbour { rule, change, .. } = neighbour;
    let (step, changed) = match change.split_once(": ") {
        Some((step, changed)) if is_steps(rule) => (Some(step), changed),
        _ => (None, change.as_str()),
    };
    let before = serde_json::to_value(own)
        .ok()
        .and_then(|spec| lookup(&spec, rule, step))
        .unwrap_or_else(|| "another rule".to_owned());
    match step {
        Some(step) => format!("{changed} instead of {before} in {rule}, {step}"),
        None => format!("{changed} instead of {before} in {rule}"),
    }
}

/// The word at a path of a spec; of one step where there are several.
fn lookup(spec: &Value, rule: &str, step: Option<&str>) -> Option<String> {
    let mut value = spec;
    for key in rule.split('.') {
        value = value.get(key)?;
    }
    if let Some(step) = step {
        let index: usize = step.strip_prefix("step ")?.parse().ok()?;
        value = value.get(index.checked_sub(1)?)?.get("rounding")?;
    }
    Some(word(value))
}
