//! The table of layers.

use std::fmt::Write as _;

use super::super::text::{number, percent, thousands, xml};
use super::super::view;
use super::class;
use crate::outcome::{LayerOutcome, TargetOutcome};

/// Heading of a column, and whether it holds numbers.
const COLUMNS: [(&str, bool); 11] = [
    ("layer", false),
    ("op", false),
    ("verdict", true),
    ("differing", true),
    ("elements", true),
    ("rate", true),
    ("max LSB", true),
    ("cumulative rate", true),
    ("max LSB", true),
    ("cause", false),
    ("grade", false),
];

/// All layers, worst first.
pub(super) fn table(out: &mut String, target: &TargetOutcome, id: usize) {
    out.push_str("<div class=\"scroll\"><table class=\"sort\"><thead><tr>");
    for (title, numeric) in COLUMNS {
        let class = if numeric { " class=\"num\"" } else { "" };
        let class = if title == "verdict" {
            " class=\"num left\""
        } else {
            class
        };
        // Writing to a String cannot fail, here and below.
        let _ = write!(out, "<th{class}><button>{title}</button></th>");
    }
    out.push_str("</tr></thead><tbody>\n");
    let layers = view::worst_first(target);
    let most = view::scale(&layers, view::decisive);
    for layer in layers {
        let at = target
            .layers
            .iter()
            .position(|other| std::ptr::eq(other, layer));
        row(out, layer, &format!("t{id}-{}", at.unwrap_or(0)), most);
    }
    out.push_str("</tbody></table></div>\n");
}

fn row(out: &mut String, layer: &LayerOutcome, id: &str, most: f64) {
    let class = class(layer.verdict);
    let _ = write!(
        out,
        "<tr id=\"{id}\" class=\"{class}\"><td class=\"mono\">{}</td><td class=\"op\">{}</td>\
         <td data-v=\"{}\"><span class=\"word\">{}</span></td>",
        xml(&layer.name),
        xml(&layer.op),
        layer.verdict as u8,
        layer.verdict.text()
    );
    let decisive = view::decisive(layer);
    cell(
        out,
        decisive.map(|s| (s.differing as f64, thousands(s.differing))),
    );
    cell(
        out,
        decisive.map(|s| (s.elements as f64, thousands(s.elements))),
    );
    for (stats, bar) in [
        (layer.isolated.as_ref(), true),
        (layer.cumulative.as_ref(), false),
    ] {
        cell(
            out,
            stats.map(|stats| {
                let mut text = xml(&percent(stats.rate()));
                if bar && stats.differing > 0 {
                    let width = (100.0 * stats.rate() / most).min(100.0);
                    let _ = write!(
                        text,
                        "<span class=\"bar\" style=\"width:{width:.1}%\"></span>"
                    );
                }
                (stats.rate(), text)
            }),
        );
        cell(
            out,
            stats.map(|stats| (stats.max_lsb, number(stats.max_lsb))),
        );
    }
    let _ = write!(out, "<td class=\"why\">{}</td>", why(layer));
    let _ = writeln!(
        out,
        "<td class=\"op\">{}</td></tr>",
        super::grade(&layer.grade)
    );
}

/// A number and how it is shown; the numbers of layers without it sort last.
fn cell(out: &mut String, value: Option<(f64, String)>) {
    let (value, text) = value.unwrap_or((-1.0, String::new()));
    let value = if value.is_finite() { value } else { f64::MAX };
    let _ = write!(out, "<td class=\"num\" data-v=\"{value}\">{text}</td>");
}

/// The cause, with the details that unfold below it.
fn why(layer: &LayerOutcome) -> String {
    let mut details = Vec::new();
    details.extend(view::absent(layer));
    if let Some(cause) = &layer.cause {
        details.push(cause.text.clone());
    }
    details.extend(layer.mismatches.iter().map(|why| view::mismatch(why)));
    if let Some(witness) = &layer.witness {
        details.push(format!("witness: {}", view::witness(witness)));
    }
    if let Some(stats) = view::decisive(layer)
        && stats.differing > 0
    {
        let bins: Vec<String> = stats
            .histogram
            .iter()
            .map(|(lsb, elements)| format!("{lsb:+}: {}", thousands(*elements)))
            .collect();
        details.push(format!(
            "elements by difference in LSB: {}",
            bins.join(", ")
        ));
    }
    if let Some(cause) = &layer.cause {
        let tried: Vec<String> = cause
            .tried
            .iter()
            .map(|(name, explains)| format!("{name} {}", thousands(*explains)))
            .collect();
        if !tried.is_empty() {
            details.push(format!(
                "explained by one decision alone: {}",
                tried.join(", ")
            ));
        }
    }
    if details.is_empty() {
        return String::new();
    }
    details.push(format!("tensor: {}", layer.tensor));
    if !layer.rules.is_empty() {
        details.push(format!("rules: {}", layer.rules.join(", ")));
    }
    let items = super::items(&details);
    let summary = layer
        .cause
        .as_ref()
        .map_or_else(|| "details".to_owned(), view::cause);
    format!(
        "<details><summary>{}</summary><ul>{items}</ul></details>",
        xml(&summary)
    )
}
