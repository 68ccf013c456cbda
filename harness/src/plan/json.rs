//! A plan for machines.

use serde_json::{Value, json};

use align_check_simulators::place::Status;

use super::{Entry, Grid, Kernel, Plan, SCHEMA};
use crate::check::grade_text;
use crate::lint;
use crate::outcome::ModelInfo;

/// The plans of a model, with a version of their own in `"schema"`.
pub fn json(model: &ModelInfo, plans: &[Plan]) -> String {
    let value = json!({
        "schema": SCHEMA,
        "tool": { "name": "align-check", "version": env!("CARGO_PKG_VERSION") },
        "model": model.path,
        "sha256": model.sha256,
        "format": model.format,
        "notes": model.notes,
        "targets": plans.iter().map(plan).collect::<Vec<_>>(),
    });
    format!("{value:#}\n")
}

fn plan(plan: &Plan) -> Value {
    let counts: serde_json::Map<String, Value> = Status::ALL
        .iter()
        .map(|&status| (status.text().to_owned(), json!(plan.count(status))))
        .collect();
    json!({
        "target": plan.target,
        "summary": plan.summary,
        "unknowns": plan.unknowns,
        "counts": counts,
        "quantizers": plan.quantizers.iter().map(entry).collect::<Vec<_>>(),
        "rewritten": plan.rewritten.iter().map(entry).collect::<Vec<_>>(),
        "kernels": plan.kernels.iter().map(kernel).collect::<Vec<_>>(),
        "lints": plan.lints.iter().map(lint::json).collect::<Vec<_>>(),
    })
}

fn entry(entry: &Entry) -> Value {
    json!({
        "tensor": entry.tensor,
        "node": entry.node,
        "status": entry.status.text(),
        "at": entry.at,
        "model": entry.model.as_ref().map(grid),
        "target": entry.target.as_ref().map(grid),
        "rule": entry.rule,
        "grade": entry.grade.map(grade_text),
        "why": entry.why,
    })
}

fn grid(grid: &Grid) -> Value {
    json!({
        "scale": grid.scale,
        "zero_point": grid.zero_point,
        "min": grid.min,
        "max": grid.max,
    })
}

fn kernel(kernel: &Kernel) -> Value {
    json!({
        "nodes": kernel.nodes,
        "ops": kernel.ops,
        "arithmetic": if kernel.integer { "integer" } else { "float" },
        "inputs": kernel.inputs,
        "output": kernel.output,
        "rules": kernel.rules,
        "left_to": kernel.left_to,
    })
}
