//! What `verify` found, on the terminal and for machines.

use std::fmt::Write as _;

use serde_json::json;

use super::style::Paint;
use super::text::{count, number, pad, thousands, visible};
use super::view;
use crate::check::grade_text;
use crate::outcome::Verdict;
use crate::verify::{Case, SCHEMA, Tally, Verified};

/// What stands for the network run from its inputs.
const END_TO_END: &str = "(end to end)";

/// Layers that are shown for each recording that differs.
const SHOWN: usize = 8;

/// The outcome as a table, target x operator, and what differs.
pub fn verify_terminal(verified: &Verified, color: bool) -> String {
    let paint = Paint(color);
    let mut out = String::new();
    table(&mut out, verified, paint);
    for case in verified.cases.iter().filter(|case| !case.reproduced()) {
        failure(&mut out, case, paint);
    }
    let absent: usize = verified.cases.iter().map(|case| case.absent.len()).sum();
    if absent > 0 {
        let _ = writeln!(
            out,
            "\n{} not on the target, by its placement: not compared (--report json=PATH names them)",
            count(absent, "recorded tensor")
        );
    }
    if !verified.without_target.is_empty() {
        let _ = writeln!(
            out,
            "\n{} without a target in recording.toml, not verified (--target names one)",
            count(verified.without_target.len(), "recording")
        );
    }
    if !verified.without_model.is_empty() {
        let _ = writeln!(
            out,
            "\n{} without a model (plain vectors), not verified here",
            count(verified.without_model.len(), "recording")
        );
    }
    for (path, bug) in &verified.known_bugs {
        let path = visible(&path.display().to_string());
        let _ = writeln!(out, "\n{path} shows a known bug: {}", visible(bug));
    }
    let failed = verified.cases.iter().filter(|c| !c.reproduced()).count();
    let total = verified.cases.len();
    let line = if failed == 0 {
        let text = format!(
            "reproduced: {}, 0 elements differ",
            count(total, "recording")
        );
        paint.verdict(Verdict::Aligned, &text)
    } else {
        let text = format!("not reproduced: {failed} of {}", count(total, "recording"));
        paint.verdict(Verdict::Misaligned, &text)
    };
    let _ = writeln!(out, "\n{line}");
    out
}

fn table(out: &mut String, verified: &Verified, paint: Paint) {
    const HEAD: [&str; 7] = [
        "target",
        "op",
        "grade",
        "layers",
        "elements",
        "differing",
        "float32 noise",
    ];
    let mut rows: Vec<[String; 7]> = Vec::new();
    let row = |target: &str, op: &str, tally: Tally| {
        [
            visible(target),
            visible(op),
            if op == END_TO_END {
                String::new()
            } else {
                grade_text(tally.grade)
            },
            thousands(tally.layers),
            thousands(tally.elements),
            thousands(tally.differing),
            thousands(tally.noise),
        ]
    };
    let ends = verified.end_to_end();
    let mut last: Option<String> = None;
    for ((target, op), tally) in verified.table() {
        if let Some(before) = last.filter(|before| *before != target) {
            rows.push(row(&before, END_TO_END, ends[&before]));
        }
        rows.push(row(&target, &op, tally));
        last = Some(target);
    }
    if let Some(before) = last {
        rows.push(row(&before, END_TO_END, ends[&before]));
    }
    let widths: Vec<usize> = (0..HEAD.len())
        .map(|c| {
            let cells = rows.iter().map(|row| super::text::width(&row[c]));
            cells.chain([HEAD[c].len()]).max().unwrap_or(0)
        })
        .collect();
    let line = |cells: [&str; 7]| {
        let cells = cells.iter().enumerate();
        let cells: Vec<String> = cells
            .map(|(c, text)| pad(text, widths[c], c >= 3))
            .collect();
        cells.join("  ").trim_end().to_string()
    };
    let _ = writeln!(out, "{}", paint.bold(&line(HEAD)));
    for cells in &rows {
        let text = line(cells.each_ref().map(String::as_str));
        if cells[5] == "0" {
            let _ = writeln!(out, "{text}");
        } else {
            let _ = writeln!(out, "{}", paint.verdict(Verdict::Misaligned, &text));
        }
    }
}

fn failure(out: &mut String, case: &Case, paint: Paint) {
    let head = format!(
        "{} under {}",
        visible(&case.recording.display().to_string()),
        visible(&case.target)
    );
    let _ = writeln!(out, "\n{}", paint.bold(&head));
    if let Some(why) = &case.unsupported {
        let _ = writeln!(out, "  unsupported: {}", visible(why));
    }
    for layer in case.failed.iter().take(SHOWN) {
        let _ = write!(
            out,
            "  {} ({}): {} of {} elements, up to {} LSB",
            visible(&layer.tensor),
            visible(&layer.op),
            thousands(layer.differing),
            thousands(layer.elements),
            number(layer.max_lsb)
        );
        if let Some(w) = &layer.witness {
            let index: Vec<String> = w.index.iter().map(ToString::to_string).collect();
            let _ = write!(
                out,
                "; sample {}, [{}]: recorded {}, simulated {}",
                w.sample,
                index.join(", "),
                number(w.expected),
                number(w.got)
            );
        }
        out.push('\n');
        if let Some(cause) = &layer.cause {
            let _ = writeln!(
                out,
                "    {}: {}: {}",
                layer.verdict.text(),
                view::cause(cause),
                visible(&cause.text)
            );
        }
    }
    if case.failed.len() > SHOWN {
        let _ = writeln!(out, "  and {} more layers", case.failed.len() - SHOWN);
    }
    if case.failed.is_empty() && case.end_to_end.differing > 0 {
        let _ = writeln!(
            out,
            "  every layer alone is reproduced, but end to end {} of {} elements differ",
            thousands(case.end_to_end.differing),
            thousands(case.end_to_end.elements)
        );
    }
}

/// The outcome as JSON, with a version of its own in `"schema"`.
pub fn verify_json(verified: &Verified) -> String {
    let totals: Vec<_> = verified
        .table()
        .into_iter()
        .map(|((target, op), tally)| {
            json!({
                "target": target, "op": op, "grade": grade_text(tally.grade), "layers": tally.layers, "elements": tally.elements,
                "differing": tally.differing, "noise": tally.noise,
            })
        })
        .collect();
    let value = json!({
        "schema": SCHEMA,
        "tool": { "name": "align-check", "version": env!("CARGO_PKG_VERSION") },
        "reproduced": verified.cases.iter().all(Case::reproduced),
        "totals": totals,
        "end_to_end": verified.end_to_end(),
        "cases": verified.cases,
        "known_bugs": verified.known_bugs,
        "without_target": verified.without_target,
        "without_model": verified.without_model,
    });
    format!("{value:#}\n")
}
