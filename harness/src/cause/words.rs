//! Rules in the words of a spec, and what their decisions are called.

use align_check_specs::{Shift, Step};

/// The name that a rule has in a spec file.
pub fn name<T: serde::Serialize>(rule: &T) -> String {
    serde_json::to_value(rule).map_or_else(|_| String::new(), |value| word(&value))
}

/// A value of a spec file as a text.
pub fn word(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Null => "none".to_owned(),
        serde_json::Value::Object(map) => map
            .iter()
            .map(|(key, value)| match value {
                serde_json::Value::String(text) if key == "format" => text.clone(),
                value => format!("{key} {}", word(value)),
            })
            .collect::<Vec<_>>()
            .join(" "),
        other => other.to_string(),
    }
}

/// A step of requantization.
pub fn step_text(step: &Step) -> String {
    let shift = match step.shift {
        Shift::By(bits) => format!("{bits} "),
        Shift::Rest => String::new(),
    };
    format!("{shift}{}", name(&step.rounding))
}

/// What the decision about a field of `[ops]` is called.
pub fn op_name(field: &str, concat: bool) -> &'static str {
    match field {
        "add" => "add scales",
        "mul" => "multiplication scales",
        "average" | "global-average" => "average rounding",
        "concat" => "concat gain",
        "rescale" if concat => "concat gain",
        "rescale" => "rescale",
        "relu" => "fused clamp",
        "leaky-relu" => "alpha constant",
        "sigmoid" | "hard-swish" | "softmax" => "LUT table",
        "resize" => "resize coordinates",
        "dequantize" => "dequantize",
        "dynamic-quantize" => "dynamic quantizer",
        _ => "op rule",
    }
}

/// Position of a decision in the order of hypotheses: encodings, placement, accumulator, multiplier and rounding,
/// operations, float order.
pub fn rank(name: &str) -> usize {
    const ORDER: [&str; 11] = [
        "saturation",
        "weight codes",
        "placement",
        "accumulator",
        "rounding",
        "double rounding",
        "zero point",
        "fused clamp",
        "vector tail",
        "multiplier",
        "bias width",
    ];
    let found = ORDER.iter().position(|own| *own == name);
    found.unwrap_or(match name {
        "division" => ORDER.len() + 1,
        _ => ORDER.len(),
    })
}

/// `a`, `a and b`, `a, b and c`.
pub fn listed(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
