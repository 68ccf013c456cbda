//! The report for a browser.

mod chart;
mod layers;

use std::fmt::Write as _;

use super::text::{count, thousands, xml};
use super::view;
use crate::outcome::{Outcome, TargetOutcome, Verdict};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("sort.js");

/// The outcome as one HTML file: no external resource, light or dark as the reader's system is.
pub fn html(outcome: &Outcome) -> String {
    let mut out =
        String::from("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    // Writing to a String cannot fail, here and below.
    let _ = write!(
        out,
        "<meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n\
         <title>{}: {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>align-check</h1>\n",
        xml(&outcome.model.path),
        view::worst(outcome).text(),
    );
    for (id, target) in outcome.targets.iter().enumerate() {
        let _ = writeln!(
            out,
            "<div class=\"card {}\"><a href=\"#t{id}\">{}</a>: <span class=\"word\">{}</span>: {}</div>",
            class(target.verdict),
            xml(&target.name),
            view::shout(target.verdict),
            xml(&view::headline(target, outcome.inputs))
        );
    }
    let _ = writeln!(
        out,
        "<p>{}<br><span class=\"dim\">sha256 of the model: <code>{}</code></span></p>",
        xml(&view::setting(outcome)),
        xml(&outcome.model.sha256)
    );
    if let Some(floor) = &outcome.floor {
        let _ = writeln!(
            out,
            "<div class=\"card noise\">{}</div>",
            xml(&view::floor(floor))
        );
    }
    if let Some((missing, what)) = view::missing(&outcome.against) {
        let _ = writeln!(
            out,
            "<div class=\"card tolerance\">{what} {}: {}</div>",
            count(missing.len(), "tensor"),
            xml(&missing.join(", "))
        );
    }
    for (id, target) in outcome.targets.iter().enumerate() {
        part(&mut out, target, id);
    }
    list(&mut out, "Assumed by the importer", &outcome.model.notes);
    let _ = write!(
        out,
        "<p class=\"dim\">align-check {}</p>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION")
    );
    out
}

fn part(out: &mut String, target: &TargetOutcome, id: usize) {
    let _ = writeln!(
        out,
        "<h2 id=\"t{id}\">{}</h2>\n<p class=\"dim\">{}; weakest grade: {}</p>",
        xml(&target.name),
        xml(&target.summary),
        grade(&target.grade)
    );
    let groups = view::mismatches(target);
    if !groups.is_empty() {
        let _ = write!(
            out,
            "<div class=\"card float\"><b>{}</b><ul>",
            xml(view::GRIDS)
        );
        for group in &groups {
            let cost = view::cost(group).map(|cost| format!("<br><b>{}</b>", xml(&cost)));
            let _ = write!(
                out,
                "<li>{} × {} (e.g. <code>{}</code>){}</li>",
                thousands(group.count as u64),
                xml(&group.why),
                xml(&group.example),
                cost.unwrap_or_default()
            );
        }
        out.push_str("</ul></div>\n");
    }
    let layers = &target.layers;
    out.push_str(&chart::bars(
        target,
        id,
        "differing elements, each layer on its own, in graph order",
        |layer| layer.isolated.as_ref(),
    ));
    out.push_str(&chart::bars(target, id, "the same, run freely", |layer| {
        layer.cumulative.as_ref()
    }));
    if let Some(first) = view::first_divergent(target) {
        let _ = writeln!(
            out,
            "<p>First divergent layer: <b>{}</b></p>",
            xml(&view::named(first))
        );
    }
    let causes: Vec<String> = view::causes(target)
        .iter()
        .map(|(name, text, layers)| format!("{name}: {text} ({})", count(*layers, "layer")))
        .collect();
    list(out, "Causes", &causes);
    if !layers.is_empty() {
        layers::table(out, target, id);
    }
    let outputs: Vec<String> = target
        .outputs
        .iter()
        .map(|output| view::output(target, output))
        .collect();
    list(out, "Outputs", &outputs);
    list(out, "Not known about this target", &target.unknowns);
}

fn list(out: &mut String, title: &str, items: &[String]) {
    if items.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "<h3>{}</h3><ul>{}</ul>",
        xml(title),
        self::items(items)
    );
}

/// The items of a list.
fn items(items: &[String]) -> String {
    let mut out = String::new();
    for item in items {
        let _ = write!(out, "<li>{}</li>", xml(item));
    }
    out
}

/// A grade; the weak ones stand out.
fn grade(grade: &str) -> String {
    match grade {
        "hypothesis" => format!("<span class=\"weak\">{grade}</span>"),
        "documented" => format!("<span class=\"told\">{grade}</span>"),
        other => xml(other),
    }
}

/// The style class of a verdict.
fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Misaligned | Verdict::UnknownRule => "misaligned",
        Verdict::FloatOnTarget => "float",
        Verdict::WithinTolerance => "tolerance",
        Verdict::WithinNoise => "noise",
        Verdict::Aligned | Verdict::Proved => "aligned",
        Verdict::NoSuchTensor => "absent",
    }
}
