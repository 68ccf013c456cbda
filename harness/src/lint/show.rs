//! Findings for people and for machines.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Cost, Finding};
use crate::report::style::Paint;
use crate::report::text::{count, number, thousands, visible};

/// Nodes of one lint that are named unless every one is asked for.
const NAMED: usize = 4;

/// Findings, one paragraph a lint: where, what it costs, why, and what to do.
pub(crate) fn text(findings: &[(Finding, Option<Cost>)], paint: Paint, verbose: bool) -> String {
    let mut out = String::new();
    for group in findings.chunk_by(|(a, _), (b, _)| a.lint == b.lint) {
        let lint = group[0].0.lint;
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(out, "  {}: {}", paint.bold(lint.id()), lint.cause());
        let shown = if verbose { group.len() } else { NAMED };
        for (finding, cost) in group.iter().take(shown) {
            let cost = cost.as_ref().map(|cost| format!("; {}", differs(cost)));
            let _ = writeln!(
                out,
                "    {}: {}{}",
                visible(&finding.node),
                visible(&finding.text),
                cost.unwrap_or_default()
            );
        }
        if group.len() > shown {
            let _ = writeln!(out, "    and {}", count(group.len() - shown, "more place"));
        }
        let _ = writeln!(out, "    {} {}", paint.dim("fix:"), lint.fix());
    }
    out
}

fn differs(cost: &Cost) -> String {
    if cost.differing == 0 {
        return format!(
            "none of the layer's {} elements differs",
            thousands(cost.elements)
        );
    }
    format!(
        "the layer differs in {} of {} elements, up to {} LSB",
        thousands(cost.differing),
        thousands(cost.elements),
        number(cost.max_lsb)
    )
}

/// One finding for machines.
pub fn json((finding, cost): &(Finding, Option<Cost>)) -> Value {
    json!({
        "lint": finding.lint.id(),
        "node": finding.node,
        "text": finding.text,
        "why": finding.lint.cause(),
        "fix": finding.lint.fix(),
        "cost": cost,
    })
}
