//! The plan: what a target's placement makes of the model's quantizers.

use std::fmt::Write as _;

use align_check_simulators::place::{Decision, Status};

use super::super::text::thousands;
use super::words::{self, name, said};
use crate::outcome::TargetOutcome;

/// More decisions than this are folded.
const OPEN: usize = 24;

/// The decisions that change something, as a table.
pub(super) fn table(out: &mut String, target: &TargetOutcome, id: usize) {
    if target.decisions.is_empty() {
        return;
    }
    let changes: Vec<&Decision> = target
        .decisions
        .iter()
        .filter(|decision| decision.status != Status::Same)
        .collect();
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(out, "<h3 id=\"t{id}-plan\">{}</h3>", words::PLAN.html());
    if changes.is_empty() {
        let _ = writeln!(out, "<p>{}</p>", words::PLAN_NONE.html());
        return;
    }
    let same = target.decisions.len() - changes.len();
    let [same, others] = [same, changes.len()].map(|count| thousands(count as u64));
    let summary = words::PLAN_SAME.with(&[&same, &others]);
    let open = if changes.len() <= OPEN { " open" } else { "" };
    let _ = write!(
        out,
        "<details{open}><summary>{summary}</summary>\n<table class=\"plan\"><thead><tr>"
    );
    for head in [
        words::TENSOR,
        words::STATUS,
        words::AT,
        words::RULE,
        words::WHY,
    ] {
        let _ = write!(out, "<th>{}</th>", head.html());
    }
    out.push_str("</tr></thead><tbody>\n");
    for decision in changes {
        let at: Vec<String> = decision.at.iter().map(|tensor| name(tensor)).collect();
        let _ = writeln!(
            out,
            "<tr><td>{}</td><td><span class=\"status\">{}</span></td><td>{}</td><td>{}</td><td>{}</td></tr>",
            name(&decision.tensor),
            words::status(decision.status).html(),
            at.join("<br>"),
            name(decision.rule),
            said(&decision.why)
        );
    }
    out.push_str("</tbody></table></details>\n");
}

/// What the plan does to one tensor's quantizer, where it does something.
pub(super) fn of_tensor(target: &TargetOutcome, tensor: &str) -> Option<String> {
    let touches = |decision: &&Decision| {
        decision.status != Status::Same
            && (decision.tensor == tensor || decision.at.iter().any(|at| at == tensor))
    };
    let found: Vec<String> = target
        .decisions
        .iter()
        .filter(touches)
        .map(|decision| {
            format!(
                "<span class=\"status\">{}</span> {}: {}",
                words::status(decision.status).html(),
                name(decision.rule),
                said(&decision.why)
            )
        })
        .collect();
    (!found.is_empty()).then(|| found.join("<br>"))
}
