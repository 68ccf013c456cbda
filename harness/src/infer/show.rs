//! What a recording tells, for people and for machines.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Class, Inference, SCHEMA};
use crate::outcome::Verdict;
use crate::report::style::Paint;
use crate::report::text::{count, number, percent, thousands, visible};

/// Most of anything that is listed on the terminal.
const LISTED: usize = 6;

/// Where the spec went, how it did, and how to make inputs that tell more.
#[derive(Debug, Default)]
pub struct Afterwards {
    /// Elements that the written spec reproduces, of how many; or why it is no legal spec.
    pub spec: Option<Result<(u64, u64), String>>,
    /// Commands that make inputs on which undecided targets differ.
    pub commands: Vec<String>,
}

fn kind(class: &Class) -> String {
    if class.unsigned {
        format!("{}, unsigned codes", class.kind)
    } else {
        class.kind.to_owned()
    }
}

/// The share of elements that is explained, never rounded up to all.
fn share(wrong: u64, elements: u64) -> String {
    percent(1.0 - wrong as f64 / elements.max(1) as f64)
}

/// One line.
pub fn summary(found: &Inference) -> String {
    let (elements, wrong) = found.totals();
    let targets = match found.targets.len() {
        0 => "no shipped target has all of the rules".to_owned(),
        _ => format!("as target {}", found.targets.join(", ")),
    };
    let explained = elements - wrong.differing;
    let open = found.starved.len() + found.off_grid.len();
    let open = match open {
        0 => String::new(),
        n => format!("; {} without known inputs or codes", count(n, "tensor")),
    };
    format!(
        "{} of {} elements explained ({}): {targets}{open}\n",
        thousands(explained),
        thousands(elements),
        share(wrong.differing, elements)
    )
}

/// The terminal report.
pub fn terminal(found: &Inference, after: &Afterwards, color: bool) -> String {
    let paint = Paint(color);
    let mut text = String::new();
    // Writing to a String cannot fail, here and below.
    for class in &found.classes {
        one(&mut text, class, paint);
    }
    for (tensor, input) in &found.starved {
        let _ = writeln!(
            text,
            "{} {}: its input '{}' was neither recorded nor can it be made",
            paint.alarm("not explained"),
            visible(tensor),
            visible(input)
        );
    }
    for tensor in &found.off_grid {
        let _ = writeln!(
            text,
            "{} {}: holds numbers that are no codes of its quantizer",
            paint.alarm("not explained"),
            visible(tensor)
        );
    }
    if !found.missing.is_empty() {
        let _ = writeln!(
            text,
            "not recorded: {}",
            list(&found.missing.iter().map(|t| visible(t)).collect::<Vec<_>>())
        );
    }
    for line in &found.unsaid {
        let _ = writeln!(
            text,
            "{}: {}",
            paint.alarm("the spec cannot say"),
            visible(line)
        );
    }
    match &after.spec {
        Some(Ok((right, all))) => {
            let _ = writeln!(
                text,
                "the spec, run as a target: {} of {} elements reproduced",
                thousands(*right),
                thousands(*all)
            );
        }
        Some(Err(why)) => {
            let _ = writeln!(text, "{}: {why}", paint.alarm("no legal spec"));
        }
        None => {}
    }
    for command in &after.commands {
        let _ = writeln!(text, "inputs that tell more: {command}");
    }
    if !text.ends_with("\n\n") {
        text.push('\n');
    }
    text + &summary(found)
}

fn one(text: &mut String, class: &Class, paint: Paint) {
    let (elements, wrong) = (class.elements(), class.count());
    let verdict = if wrong.differing == 0 {
        let noise = match wrong.noise {
            0 => String::new(),
            n => format!(", {} of them up to float32 noise", thousands(n)),
        };
        paint.verdict(
            Verdict::Aligned,
            &format!("all {} elements{noise}", thousands(elements)),
        )
    } else {
        paint.verdict(
            Verdict::Misaligned,
            &format!(
                "{} of {} elements ({})",
                thousands(elements - wrong.differing),
                thousands(elements),
                share(wrong.differing, elements)
            ),
        )
    };
    let _ = writeln!(
        text,
        "{} ({}): {verdict}",
        paint.bold(&kind(class)),
        count(class.layers.len(), "layer"),
    );
    let label = if wrong.differing == 0 { "rule" } else { "best" };
    let _ = writeln!(text, "  {label}      {}", class.point.text());
    let targets = match class.targets.len() {
        0 => "none of the shipped ones".to_owned(),
        _ => class.targets.join(", "),
    };
    let _ = writeln!(text, "  targets   {targets}");
    let facts = &class.facts;
    let _ = writeln!(
        text,
        "  data      {} elements, {} ties above zero, {} below, {} within 1/256 step of one, {} saturated",
        thousands(facts.elements),
        thousands(facts.ties_above),
        thousands(facts.ties_below),
        thousands(facts.near_ties),
        thousands(facts.saturated),
    );
    let _ = writeln!(
        text,
        "  search    {} points tried, {}{} as good on the {} most telling elements; {} of {} neighbours refuted",
        thousands(class.tried),
        if class.more { "more than " } else { "" },
        thousands(class.survivors),
        thousands(class.telling as u64),
        class.neighbours.1,
        class.neighbours.0,
    );
    for open in &class.undecided {
        let either = if open.either.is_empty() {
            format!("(with other changes) {}", list(&open.together))
        } else {
            list(&open.either)
        };
        let _ = writeln!(
            text,
            "  open      {}: {}, or {either}: {}",
            open.decision, open.value, open.why
        );
    }
    if let Some(other) = &class.runner_up {
        let _ = writeln!(
            text,
            "  refuted   {}: {} wrong, e.g. {}{:?}: {} recorded, {} by it",
            if other.rule.is_empty() {
                "the next best"
            } else {
                &other.rule
            },
            thousands(other.differing),
            visible(&other.tensor),
            other.index,
            number(other.expected),
            number(other.got),
        );
    }
    if wrong.differing > 0 {
        for layer in class
            .layers
            .iter()
            .filter(|layer| layer.count.differing > 0)
        {
            let _ = writeln!(
                text,
                "  {} {}: {} of {} elements differ (damaged, or by another rule)",
                paint.alarm("open"),
                visible(&layer.tensor),
                thousands(layer.count.differing),
                thousands(layer.elements)
            );
        }
    }
    let made: std::collections::BTreeSet<&String> =
        class.layers.iter().flat_map(|layer| &layer.made).collect();
    for made in made {
        let _ = writeln!(text, "  fed       {}", visible(made));
    }
    text.push('\n');
}

/// The first few of a list.
fn list(all: &[String]) -> String {
    let shown = all
        .iter()
        .take(LISTED)
        .cloned()
        .collect::<Vec<_>>()
        .join(" / ");
    match all.len().saturating_sub(LISTED) {
        0 => shown,
        more => format!("{shown} / {more} more"),
    }
}

/// The JSON report.
pub fn json(found: &Inference, after: &Afterwards) -> String {
    let (elements, wrong) = found.totals();
    let classes: Vec<Value> = found.classes.iter().map(class_json).collect();
    let spec = after.spec.as_ref().map(|spec| match spec {
        Ok((right, all)) => json!({ "reproduced": right, "elements": all }),
        Err(why) => json!({ "illegal": why }),
    });
    let starved: Vec<Value> = found
        .starved
        .iter()
        .map(|(tensor, input)| json!({ "tensor": tensor, "input": input }))
        .collect();
    let report = json!({
        "schema": SCHEMA,
        "explained": found.explained(),
        "elements": elements,
        "differing": wrong.differing,
        "noise": wrong.noise,
        "targets": found.targets,
        "grids_and_placement_of": found.frame,
        "kinds": classes,
        "unknown_inputs": starved,
        "no_codes": found.off_grid,
        "not_recorded": found.missing,
        "cannot_run": found.refused,
        "spec": found.spec,
        "spec_cannot_say": found.unsaid,
        "spec_run": spec,
        "commands": after.commands,
        "seconds": found.seconds,
    });
    // Plain data: nothing in it can fail to serialize.
    serde_json::to_string_pretty(&report).unwrap_or_default() + "\n"
}

fn class_json(class: &Class) -> Value {
    let count = class.count();
    json!({
        "kind": class.kind,
        "unsigned": class.unsigned,
        "rule": class.point.words(),
        "elements": class.elements(),
        "differing": count.differing,
        "noise": count.noise,
        "layers": class.layers,
        "targets": class.targets,
        "points_tried": class.tried,
        "telling_elements": class.telling,
        "survivors_on_telling_elements": class.survivors,
        "more_survive": class.more,
        "survivors_on_all_elements": class.verified.iter().map(super::Point::words).collect::<Vec<_>>(),
        "neighbours": class.neighbours.0,
        "neighbours_refuted": class.neighbours.1,
        "undecided": class.undecided,
        "runner_up": class.runner_up,
        "data": class.facts,
        "sum_bits": class.sum_bits,
    })
}
