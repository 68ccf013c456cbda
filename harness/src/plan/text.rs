//! A plan for a person at a terminal.

use std::fmt::Write as _;

use align_check_simulators::place::Status;

use super::{Entry, Grid, Kernel, Plan};
use crate::check::grade_text;
use crate::lint;
use crate::report::style::Paint;
use crate::report::text::{count, pad, visible};

/// Columns of the longest status.
const STATUS: usize = 17;

/// A line for every quantizer that does not stay as it is, the target's kernels, and how many there are of each.
/// `verbose`: a line for every quantizer.
pub fn text(plan: &Plan, color: bool, verbose: bool) -> String {
    let paint = Paint(color);
    let mut out = String::new();
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(
        out,
        "{}: {}",
        paint.bold(&visible(&plan.target)),
        summary(plan)
    );
    let told = |entry: &&Entry| verbose || entry.status != Status::Same || !entry.why.is_empty();
    for entry in plan.quantizers.iter().filter(told).chain(&plan.rewritten) {
        let _ = writeln!(out, "  {}", line(entry, paint));
    }
    if !plan.kernels.is_empty() {
        let _ = writeln!(out, "kernels:");
    }
    for kernel in &plan.kernels {
        let _ = writeln!(out, "  {}", shown(kernel, paint));
    }
    if !plan.lints.is_empty() {
        let _ = writeln!(out, "lints:");
        out.push_str(&lint::text(&plan.lints, paint, verbose));
    }
    for unknown in plan.unknowns.iter().filter(|_| verbose) {
        let _ = writeln!(
            out,
            "{}",
            paint.dim(&format!("unknown: {}", visible(unknown)))
        );
    }
    out
}

/// `6 quantizers: 4 same, 1 moved, 1 extra on target`.
fn summary(plan: &Plan) -> String {
    let counts: Vec<String> = Status::ALL
        .iter()
        .map(|&status| (plan.count(status), status.text()))
        .filter(|(count, _)| *count > 0)
        .map(|(count, text)| format!("{count} {text}"))
        .collect();
    let mut text = count(plan.quantizers.len(), "quantizer");
    if !counts.is_empty() {
        let _ = write!(text, ": {}", counts.join(", "));
    }
    if !plan.rewritten.is_empty() {
        let _ = write!(text, "; {} besides", count(plan.rewritten.len(), "rewrite"));
    }
    text
}

fn line(entry: &Entry, paint: Paint) -> String {
    let mut text = paint.bold(&pad(entry.status.text(), STATUS, false));
    let _ = write!(text, "  {}", visible(&entry.tensor));
    let elsewhere: Vec<String> = entry
        .at
        .iter()
        .filter(|at| **at != entry.tensor)
        .map(|at| visible(at))
        .collect();
    if !elsewhere.is_empty() {
        let _ = write!(text, " -> {}", elsewhere.join(", "));
    }
    match (&entry.model, &entry.target) {
        (Some(model), Some(target)) if model != target => {
            let _ = write!(text, "; {} instead of {}", grid(target), grid(model));
        }
        (_, Some(own)) | (Some(own), None) => {
            let _ = write!(text, "; {}", grid(own));
        }
        (None, None) => {}
    }
    if let Some(grade) = entry.grade {
        let grade = grade_text(grade);
        let _ = write!(
            text,
            "; {} ({})",
            visible(&entry.rule),
            paint.grade(&grade, &grade)
        );
    }
    if !entry.why.is_empty() {
        let _ = write!(text, ": {}", visible(&entry.why));
    }
    text
}

/// `scale 0.05, zero point 3, codes 0 to 255`.
pub(super) fn grid(grid: &Grid) -> String {
    let number = |values: &[f64]| match values {
        [one] => format!("{}", *one as f32),
        many => format!("of {} channels", many.len()),
    };
    let zero = match grid.zero_point[..] {
        [0] => String::new(),
        [one] => format!(", zero point {one}"),
        _ => ", a zero point for each channel".to_owned(),
    };
    format!(
        "scale {}{zero}, codes {} to {}",
        number(&grid.scale),
        grid.min,
        grid.max
    )
}

/// `integer  conv1 (Conv+Relu): x, w -> y (left to litert-x86)`.
fn shown(kernel: &Kernel, paint: Paint) -> String {
    let nodes: Vec<String> = kernel
        .nodes
        .iter()
        .zip(&kernel.ops)
        .map(|(node, op)| format!("{} ({})", visible(node), visible(op)))
        .collect();
    let inputs: Vec<String> = kernel.inputs.iter().map(|name| visible(name)).collect();
    let kind = pad(if kernel.integer { "integer" } else { "float" }, 7, false);
    let left = kernel
        .left_to
        .as_deref()
        .map(|to| format!(" (left to {})", visible(to)));
    format!(
        "{}  {}: {} -> {}{}",
        paint.dim(&kind),
        nodes.join(" + "),
        inputs.join(", "),
        visible(&kernel.output),
        left.unwrap_or_default()
    )
}
