//! A plan as a picture: Graphviz' DOT.

use std::collections::HashMap;
use std::fmt::Write as _;

use align_check_simulators::place::Status;

use super::{Plan, text};
use crate::report::text::visible;

/// The plans as one graph, a cluster each: kernels as boxes, tensors between them, quantizers coloured by what
/// becomes of them.
pub fn dot(model: &str, plans: &[Plan]) -> String {
    let mut out = String::from("digraph plan {\n");
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(out, "  label={};", quoted(model));
    out.push_str("  rankdir=TB; fontname=\"sans-serif\";\n");
    out.push_str("  node [fontname=\"sans-serif\", fontsize=10]; edge [fontsize=9];\n");
    for (number, plan) in plans.iter().enumerate() {
        cluster(&mut out, plan, number);
    }
    out.push_str("}\n");
    out
}

fn cluster(out: &mut String, plan: &Plan, number: usize) {
    let _ = writeln!(out, "  subgraph cluster_{number} {{");
    let _ = writeln!(out, "    label={};", quoted(&plan.target));
    let mut tensors: HashMap<&str, usize> = HashMap::new();
    let mut order: Vec<&str> = Vec::new();
    for kernel in &plan.kernels {
        for name in kernel.inputs.iter().chain([&kernel.output]) {
            tensors.entry(name).or_insert_with(|| {
                order.push(name);
                order.len() - 1
            });
        }
    }
    let mut looks: HashMap<&str, (Status, String)> = HashMap::new();
    for entry in &plan.quantizers {
        for at in &entry.at {
            let grid = entry.target.as_ref().map(text::grid).unwrap_or_default();
            // What only the target has says more than the clone that it is.
            let known = looks.get(at.as_str()).map(|(status, _)| *status);
            if known != Some(Status::Extra) {
                looks.insert(at, (entry.status, grid));
            }
        }
    }
    for (at, name) in order.iter().enumerate() {
        let (label, style) = match looks.get(name) {
            Some((status, grid)) => (
                format!("{name}\n{}\n{grid}", status.text()),
                format!("style=filled, fillcolor=\"{}\"", color(*status)),
            ),
            None => ((*name).to_owned(), "style=dotted".to_owned()),
        };
        let _ = writeln!(
            out,
            "    t{number}_{at} [shape=ellipse, {style}, label={}];",
            quoted(&label)
        );
    }
    for (at, kernel) in plan.kernels.iter().enumerate() {
        let kind = if kernel.integer { "integer" } else { "float" };
        let label = format!(
            "{}\n{}\n{kind}",
            kernel.nodes.join(" + "),
            kernel.ops.join(" + ")
        );
        let style = if kernel.integer { "solid" } else { "dashed" };
        let _ = writeln!(
            out,
            "    k{number}_{at} [shape=box, style={style}, label={}];",
            quoted(&label)
        );
        for input in &kernel.inputs {
            let _ = writeln!(
                out,
                "    t{number}_{} -> k{number}_{at};",
                tensors[input.as_str()]
            );
        }
        let output = tensors[kernel.output.as_str()];
        let _ = writeln!(out, "    k{number}_{at} -> t{number}_{output};");
    }
    let gone = |entry: &&super::Entry| {
        entry.at.is_empty() && matches!(entry.status, Status::Missing | Status::Rewritten)
    };
    for (at, entry) in plan.quantizers.iter().filter(gone).enumerate() {
        let label = format!("{}\n{}\n{}", entry.tensor, entry.status.text(), entry.rule);
        let _ = writeln!(
            out,
            "    g{number}_{at} [shape=ellipse, style=\"dashed,filled\", fillcolor=\"{}\", label={}];",
            color(entry.status),
            quoted(&label)
        );
    }
    out.push_str("  }\n");
}

fn color(status: Status) -> &'static str {
    match status {
        Status::Same => "#d5f0e0",
        Status::Moved => "#cfe3f7",
        Status::Extra => "#fde2b8",
        Status::Missing => "#f7c9cb",
        Status::Merged => "#dcd5f2",
        Status::Float => "#e6e6ea",
        Status::Rewritten => "#fbd0a9",
    }
}

/// A text in quotes, as DOT has them: a name of a hostile file ends no string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for line in text.split('\n') {
        if out.len() > 1 {
            out.push_str("\\n");
        }
        for c in visible(line).chars() {
            if matches!(c, '"' | '\\') {
                out.push('\\');
            }
            out.push(c);
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn no_name_ends_its_string() {
        assert_eq!(quoted("a\"];b\\"), "\"a\\\"];b\\\\\"");
        assert_eq!(quoted("a\nb"), "\"a\\nb\"");
    }
}
