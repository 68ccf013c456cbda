//! The report for spreadsheets: one row a layer and target.

use super::text::visible;
use super::view;
use crate::outcome::{Outcome, Stats};

const HEAD: [&str; 35] = [
    "target",
    "layer",
    "op",
    "tensor",
    "verdict",
    "grade",
    "float",
    "lsb",
    "isolated_elements",
    "isolated_differing",
    "isolated_rate",
    "isolated_max_lsb",
    "isolated_noise",
    "isolated_cosine",
    "isolated_sqnr_db",
    "cumulative_elements",
    "cumulative_differing",
    "cumulative_rate",
    "cumulative_max_lsb",
    "cumulative_noise",
    "cumulative_cosine",
    "cumulative_sqnr_db",
    "amplification",
    "cause",
    "cause_text",
    "explains",
    "of",
    "expected",
    "got",
    "rules",
    "mismatches",
    "absent",
    "interrupted",
    "inputs",
    "inputs_of",
];

/// The outcome as CSV: a header, then a row for each layer of each target, in graph order.
///
/// A remark in front of the header would be an error to readers of tables, so each row says of how many inputs it is,
/// and whether somebody ended the run before the last one.
///
/// Texts that a spreadsheet would take for a formula start with an apostrophe.
pub fn csv(outcome: &Outcome) -> String {
    let mut out = HEAD.join(",");
    out.push('\n');
    for target in &outcome.targets {
        for layer in &target.layers {
            let mut row = vec![
                text(&target.name),
                text(&layer.name),
                text(&layer.op),
                text(&layer.tensor),
                text(layer.verdict.text()),
                text(&layer.grade),
                layer.float.to_string(),
                number(layer.lsb),
            ];
            row.extend(stats(layer.isolated.as_ref()));
            row.extend(stats(layer.cumulative.as_ref()));
            row.push(number(view::amplification(layer)));
            let cause = layer.cause.as_ref();
            row.push(cause.map(|cause| text(&cause.name)).unwrap_or_default());
            row.push(cause.map(|cause| text(&cause.text)).unwrap_or_default());
            row.push(
                cause
                    .map(|cause| cause.explains.to_string())
                    .unwrap_or_default(),
            );
            row.push(cause.map(|cause| cause.of.to_string()).unwrap_or_default());
            let witness = layer.witness.as_ref();
            row.push(number(witness.map(|witness| witness.expected)));
            row.push(number(witness.map(|witness| witness.got)));
            row.push(text(&layer.rules.join("; ")));
            row.push(text(&layer.mismatches.join("; ")));
            row.push(layer.absent.as_deref().map(text).unwrap_or_default());
            row.push(outcome.interrupted.is_some().to_string());
            row.push(outcome.inputs.to_string());
            row.push(outcome.interrupted.unwrap_or(outcome.inputs).to_string());
            out.push_str(&row.join(","));
            out.push('\n');
        }
    }
    out
}

fn stats(stats: Option<&Stats>) -> [String; 7] {
    let Some(stats) = stats else {
        return Default::default();
    };
    [
        stats.elements.to_string(),
        stats.differing.to_string(),
        number(Some(stats.rate())),
        number(Some(stats.max_lsb)),
        stats.noise.to_string(),
        number(Some(stats.cosine)),
        number(stats.sqnr_db),
    ]
}

/// A number as programs read it; nothing where there is none.
fn number(value: Option<f64>) -> String {
    value
        .filter(|value| value.is_finite())
        .map(|value| value.to_string())
        .unwrap_or_default()
}

/// A text that no spreadsheet runs, in quotes where it needs them.
fn text(text: &str) -> String {
    let mut text = visible(text);
    let start = text.trim_start().chars().next();
    let formula = start.is_some_and(|c| "=+-@＝＋－＠".contains(c));
    if formula && text.parse::<f64>().is_err() {
        text.insert(0, '\'');
    }
    if text.contains([',', '"', ';']) || text.starts_with(' ') || text.ends_with(' ') {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula() {
        assert_eq!(text("=cmd|' /C calc'!A0"), "'=cmd|' /C calc'!A0");
        assert_eq!(text(" @SUM(A1)"), "' @SUM(A1)");
        assert_eq!(text("-1.5"), "-1.5");
        assert_eq!(text("-x"), "'-x");
        assert_eq!(text("a,\"b\"\n"), "\"a,\"\"b\"\"\\n\"");
    }
}
