//! The known targets, as `align-check targets` shows them.

use std::fmt::Write as _;

use align_check_specs::{Grade, RuleView, Spec, names};
use anyhow::{Result, anyhow};

use crate::report::style::Paint;
use crate::report::text::{count, pad, visible, width as columns, wrap};

/// Lines longer than this are hard to follow.
const MOST_WIDTH: usize = 120;
/// Below this nothing can be laid out.
const LEAST_WIDTH: usize = 60;

/// All embedded targets: name, aliases, weakest grade, and what they are. No line is wider than `width`
/// columns (at least 60).
pub fn list(width: usize, color: bool) -> String {
    let width = width.clamp(LEAST_WIDTH, MOST_WIDTH);
    let paint = Paint(color);
    let specs: Vec<Spec> = names()
        .iter()
        .filter_map(|name| Spec::resolve(name).ok())
        .collect();
    let mut out = String::new();
    for spec in &specs {
        let grade = weakest(spec);
        // Writing to a String cannot fail, here and below.
        head(&mut out, spec, grade, width, paint);
        paragraph(&mut out, "    ", &spec.summary, width);
    }
    out.push('\n');
    let grades = "Grades, from the strongest: recorded (reproduced bit for bit on outputs that this \
                  project did not make), source (read in the vendor's published source), documented \
                  (the vendor's documentation says so), hypothesis (reasoned, not confirmed).";
    paragraph(&mut out, "", grades, width);
    let next = "align-check targets NAME shows every rule of one and how it is known. A path to a TOML \
                file is a target too.";
    paragraph(&mut out, "", next, width);
    out
}

/// A target's name, aliases and weakest grade, on two lines where one is too narrow.
fn head(out: &mut String, spec: &Spec, grade: Grade, width: usize, paint: Paint) {
    let name = visible(&spec.name);
    let aliases = aliases(spec);
    let plain = format!("{name}{aliases}  weakest grade: {}", word(grade));
    let gap = if columns(&plain) > width {
        "\n    "
    } else {
        "  "
    };
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{}{aliases}{gap}weakest grade: {}",
        paint.bold(&name),
        paint.grade(word(grade), word(grade))
    );
}

/// Every rule of one target: its value, its grade and its source, by section; then what nobody knows.
///
/// # Errors
/// As [`Spec::resolve`].
pub fn show(name_or_path: &str, width: usize, color: bool) -> Result<String> {
    let spec = Spec::resolve(name_or_path).map_err(|error| anyhow!("{error}"))?;
    let width = width.clamp(LEAST_WIDTH, MOST_WIDTH);
    let paint = Paint(color);
    let grade = weakest(&spec);
    let mut out = String::new();
    head(&mut out, &spec, grade, width, paint);
    paragraph(&mut out, "", &spec.summary, width);
    let rules = spec.rules();
    let sources = rules_by_section(&mut out, &rules, width, paint);
    let float = spec.float_ops();
    if !float.is_empty() {
        let _ = writeln!(out, "\n{}", paint.bold("left in float"));
        paragraph(&mut out, "  ", &float.join(", "), width);
    }
    let _ = writeln!(out, "\n{}", paint.bold("sources"));
    for (index, (source, note)) in sources.iter().enumerate() {
        let mut text = (*source).to_owned();
        if let Some(note) = note {
            let _ = write!(text, " ({note})");
        }
        hanging(&mut out, &format!("  [{}] ", index + 1), &text, width);
    }
    if !spec.known_bugs.is_empty() {
        let bugs = count(spec.known_bugs.len(), "known bug");
        let _ = writeln!(out, "\n{}", paint.bold(&format!("{bugs}: no rule")));
    }
    for bug in &spec.known_bugs {
        let text = format!(
            "{}: {} ({}; shown by {})",
            bug.ops.join(", "),
            bug.what,
            bug.source,
            bug.recording
        );
        hanging(&mut out, "  - ", &text, width);
    }
    let unknowns = count(spec.unknowns.len(), "unknown");
    if !spec.unknowns.is_empty() {
        let _ = writeln!(
            out,
            "\n{}",
            paint.bold(&format!("{unknowns}: nobody knows"))
        );
        for unknown in &spec.unknowns {
            hanging(&mut out, "  - ", unknown, width);
        }
    }
    Ok(out)
}

type Source<'a> = (&'a str, Option<&'a str>);

/// Writes the rules; returns the sources that they refer to.
fn rules_by_section<'a>(
    out: &mut String,
    rules: &'a [RuleView],
    width: usize,
    paint: Paint,
) -> Vec<Source<'a>> {
    let mut sources: Vec<Source> = Vec::new();
    let mut section = "";
    let split = |rule: &'a RuleView| rule.path.split_once('.').unwrap_or(("", &rule.path));
    let most = |text: fn(&RuleView) -> usize| rules.iter().map(text).max().unwrap_or(0);
    let names = rules
        .iter()
        .map(|rule| columns(split(rule).1))
        .max()
        .unwrap_or(0);
    let grades = most(|rule| columns(word(rule.grade)));
    // "  name  value  grade [12]"
    let room = width.saturating_sub(2 + names + 2 + 2 + grades + 5).max(10);
    let values = most(|rule| columns(&rule.value)).min(room);
    for rule in rules {
        let (new, name) = split(rule);
        if new != section {
            section = new;
            let _ = writeln!(out, "\n{}", paint.bold(section));
        }
        let source = (rule.source.as_str(), rule.note.as_deref());
        let number = sources
            .iter()
            .position(|known| *known == source)
            .unwrap_or_else(|| {
                sources.push(source);
                sources.len() - 1
            });
        let lines = wrap(&visible(&rule.value), values, values);
        let grade = word(rule.grade);
        let _ = writeln!(
            out,
            "  {}  {}  {} [{}]",
            pad(name, names, false),
            pad(&lines[0], values, false),
            paint.grade(grade, &pad(grade, grades, false)),
            number + 1
        );
        for line in &lines[1..] {
            let _ = writeln!(out, "  {}  {line}", " ".repeat(names));
        }
    }
    sources
}

fn paragraph(out: &mut String, indent: &str, text: &str, width: usize) {
    for line in wrap(&visible(text), width - indent.len(), width - indent.len()) {
        let _ = writeln!(out, "{indent}{line}");
    }
}

/// A paragraph whose first line starts with a mark.
fn hanging(out: &mut String, mark: &str, text: &str, width: usize) {
    let mut start = mark.to_owned();
    for line in wrap(&visible(text), width - mark.len(), width - mark.len()) {
        let _ = writeln!(out, "{start}{line}");
        start = " ".repeat(mark.len());
    }
}

fn aliases(spec: &Spec) -> String {
    if spec.aliases.is_empty() {
        return String::new();
    }
    format!(" ({})", visible(&spec.aliases.join(", ")))
}

fn weakest(spec: &Spec) -> Grade {
    spec.rules()
        .iter()
        .map(|rule| rule.grade)
        .min()
        .unwrap_or(Grade::Hypothesis)
}

/// The name of a grade, as a spec writes it.
fn word(grade: Grade) -> &'static str {
    match grade {
        Grade::Recorded => "recorded",
        Grade::Source => "source",
        Grade::Documented => "documented",
        Grade::Hypothesis => "hypothesis",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_listed_and_shown_within_the_width() {
        for width in [60, 80, 100, 200] {
            let list = list(width, false);
            for name in names() {
                assert!(list.contains(name), "{name}");
                let shown = show(name, width, false).unwrap_or_else(|error| panic!("{error}"));
                for line in list.lines().chain(shown.lines()) {
                    assert!(columns(line) <= width, "{width}: {line}");
                }
                let spec = Spec::resolve(name).unwrap_or_else(|error| panic!("{error}"));
                for rule in spec.rules() {
                    let field = rule.path.rsplit('.').next().unwrap_or_default();
                    assert!(shown.contains(field), "{name}: {field}");
                }
            }
        }
    }

    #[test]
    fn an_unknown_target_is_an_error_that_helps() {
        let error = show("tensort", 100, false)
            .expect_err("no such target")
            .to_string();
        assert!(error.contains("tensorrt"), "{error}");
        assert_eq!(error.lines().count(), 1);
    }
}
