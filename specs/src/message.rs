//! Errors of the TOML reader in this project's words, on one line.

use crate::text::closest;
use crate::tree::{Node, Tree};

/// A syntax error.
pub(crate) fn syntax(message: &str) -> String {
    format!("not valid TOML: {}", joined(message))
}

/// Line and text of an error that names no field by itself.
pub(crate) fn explain(error: &toml::de::Error, tree: &Tree<'_>) -> (usize, String) {
    let message = error.message();
    let span = error.span().unwrap_or(0..0);
    if let Some((field, expected)) = quoted_after(message, "unknown field ") {
        let node = tree.key_at(&span).or_else(|| tree.value_at(&span));
        let parent = node.map_or("", |node| node.parent.as_str());
        let list = words(expected);
        let hint = suggestion(field, &list);
        let reason = format!(
            "unknown field '{field}' {}{hint}; expected {}",
            inside(parent),
            list.join(", ")
        );
        return (tree.line_at(span.start), reason);
    }
    if let Some((field, _)) = quoted_after(message, "missing field ") {
        let table = tree.value_at(&span).map(|node| node.path.as_str());
        let reason = match table {
            Some(path) => format!("missing field '{field}' {}", inside(path)),
            None if is_section(field) => format!("missing section [{field}]"),
            None => format!("missing field '{field}'"),
        };
        return (table.map_or(1, |path| tree.line_of(path)), reason);
    }
    let node = tree.value_at(&span);
    let line = tree.line_at(span.start);
    if let Some((value, expected)) = quoted_after(message, "unknown variant ") {
        let path = variant_path(node, value, tree);
        let kind = path.rsplit('.').next().unwrap_or("value");
        let kind = kind.split('[').next().unwrap_or(kind);
        let list = words(expected);
        let hint = suggestion(value, &list);
        let line = if tree.has(&path) {
            tree.line_of(&path)
        } else {
            line
        };
        return (
            line,
            format!(
                "{path}: unknown {kind} '{value}'{hint}; one of {}",
                list.join(", ")
            ),
        );
    }
    let path = node.map_or("", |node| node.path.as_str());
    let text = mismatch(message).unwrap_or_else(|| joined(message));
    (
        line,
        if path.is_empty() {
            text
        } else {
            format!("{path}: {text}")
        },
    )
}

/// A value of the wrong kind, without the reader's own type names.
fn mismatch(message: &str) -> Option<String> {
    if message == "wanted string or table" {
        return Some("expected the name of a rule".to_owned());
    }
    let rest = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))?;
    let (found, expected) = rest.rsplit_once(", expected ")?;
    let expected = match expected {
        "u32" | "Option<u32>" => "a whole number, not negative",
        "a sequence" => "a list",
        other if other.starts_with("struct ") => "a table",
        other if other.starts_with("internally tagged enum ") => "a table with a format",
        other if other.starts_with("enum ") || other.ends_with("identifier") => {
            "the name of a rule"
        }
        other => other,
    };
    Some(joined(&format!("expected {expected}; found {found}")))
}

/// The field that holds this value: tagged tables lose the place of their fields.
fn variant_path(node: Option<&Node>, value: &str, tree: &Tree<'_>) -> String {
    let path = node.map_or("", |node| node.path.as_str());
    tree.child_with(path, value).unwrap_or(path).to_owned()
}

fn inside(path: &str) -> String {
    match path {
        "" => "at the top level".to_owned(),
        path if path.starts_with("evidence") => "in [[evidence]]".to_owned(),
        path if path.starts_with("known-bugs") => "in [[known-bugs]]".to_owned(),
        path => format!("in [{path}]"),
    }
}

fn is_section(field: &str) -> bool {
    !matches!(field, "name" | "summary")
}

/// `prefix` and a word in back quotes, and what follows it.
fn quoted_after<'m>(message: &'m str, prefix: &str) -> Option<(&'m str, &'m str)> {
    let rest = message.strip_prefix(prefix)?.strip_prefix('`')?;
    // The word is the file's own text and may hold quotes itself: the last `, expected` ends it.
    let end = rest.rfind("`, expected").or_else(|| rest.find('`'))?;
    Some((&rest[..end], &rest[end + 1..]))
}

/// All words in back quotes.
fn words(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

fn suggestion(word: &str, candidates: &[&str]) -> String {
    closest(word, candidates).map_or_else(String::new, |near| format!(" (did you mean '{near}'?)"))
}

fn joined(message: &str) -> String {
    let lines: Vec<&str> = message
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines.join("; ")
}
