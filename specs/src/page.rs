//! The table of a target's page, made from its TOML.

use std::fmt::Write as _;

use crate::view::word;
use crate::{Spec, bugs};

/// Line before the generated table of a page.
pub const PAGE_BEGIN: &str = "<!-- rules:begin -->";
/// Line after it.
pub const PAGE_END: &str = "<!-- rules:end -->";

/// Decision, rule, grade and source of every rule, as a Markdown table with its sources below.
pub fn rules_table(spec: &Spec) -> String {
    let mut out = String::from("| decision | rule | grade | source |\n|---|---|---|---|\n");
    let mut sources: Vec<String> = Vec::new();
    for row in spec.rules() {
        let source = match &row.note {
            Some(note) => format!("{}. Note: {note}", row.source),
            None => row.source.clone(),
        };
        let known = sources.iter().position(|known| *known == source);
        let number = 1 + known.unwrap_or(sources.len());
        if known.is_none() {
            sources.push(source);
        }
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | [{number}] |",
            row.path,
            row.value.replace('|', "\\|"),
            word(&row.grade),
        );
    }
    out.push_str("\nSources:\n\n");
    for (index, source) in sources.iter().enumerate() {
        let _ = writeln!(out, "{}. {}", index + 1, source.replace(['\n', '\r'], " "));
    }
    let float = spec.float_ops();
    if !float.is_empty() {
        let _ = writeln!(
            out,
            "\nWithout a rule here, and so counted as float on the target: {}.",
            float.join(", ")
        );
    }
    out + &bugs::list(spec)
}

/// The page with its table of rules replaced; `None` where the markers are missing.
pub fn replace_table(page: &str, table: &str) -> Option<String> {
    replace_between(page, [PAGE_BEGIN, PAGE_END], table)
}

/// A text with what stands between two lines replaced; `None` where they are missing.
pub fn replace_between(page: &str, markers: [&str; 2], text: &str) -> Option<String> {
    let begin = page.find(markers[0])? + markers[0].len();
    let end = begin + page[begin..].find(markers[1])?;
    Some(format!(
        "{}\n{}\n{}",
        &page[..begin],
        text.trim_end(),
        &page[end..]
    ))
}
