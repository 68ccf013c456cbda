//! YAML as a tree, without the parts that make it dangerous: no aliases, bounded depth.

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::tree::Tree;

/// Nesting that is read.
const DEPTH: usize = 32;

/// A collection that is being read.
enum Open {
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>, Option<String>),
}

/// Reads one document.
pub(super) fn tree(text: &str) -> Result<Tree, String> {
    let mut open: Vec<Open> = Vec::new();
    let mut names = vec![std::collections::HashSet::new()];
    let mut whole = None;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|e| format!("YAML: {e}"))?;
        let line = span.start.line();
        let done = match event {
            Event::Alias(_) => return Err(format!("YAML: line {line}: an alias")),
            Event::SequenceStart(..) => {
                open.push(Open::List(Vec::new()));
                names.push(std::collections::HashSet::new());
                None
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(Vec::new(), None));
                names.push(std::collections::HashSet::new());
                None
            }
            Event::SequenceEnd | Event::MappingEnd => {
                names.pop();
                open.pop().map(|ended| match ended {
                    Open::List(items) => Tree::List(items),
                    Open::Map(entries, _) => Tree::Map(entries),
                })
            }
            Event::Scalar(text, style, ..) => Some(scalar(&text, style)),
            _ => None,
        };
        if open.len() > DEPTH {
            return Err(format!("YAML: line {line}: nested more than {DEPTH} deep"));
        }
        let Some(value) = done else { continue };
        match open.last_mut() {
            None => whole = whole.or(Some(value)),
            Some(Open::List(items)) => items.push(value),
            Some(Open::Map(entries, key)) => {
                if let Some(key) = key.take() {
                    entries.push((key, value));
                    continue;
                }
                let name = match value {
                    Tree::Text(text) => text,
                    Tree::Number(x) => x.to_string(),
                    Tree::Bool(b) => b.to_string(),
                    _ => return Err(format!("YAML: line {line}: a key that is no text")),
                };
                let new = names
                    .last_mut()
                    .is_some_and(|seen| seen.insert(name.clone()));
                if !new {
                    return Err(format!("YAML: line {line}: '{name}' stands twice"));
                }
                *key = Some(name);
            }
        }
    }
    whole.ok_or_else(|| "YAML: no document".into())
}

/// A plain scalar as the number, truth value or text that it looks like.
fn scalar(text: &str, style: ScalarStyle) -> Tree {
    if style != ScalarStyle::Plain {
        return Tree::Text(text.to_owned());
    }
    match text {
        "" | "~" | "null" => return Tree::Null,
        "true" => return Tree::Bool(true),
        "false" => return Tree::Bool(false),
        ".nan" | ".NaN" => return Tree::Number(f64::NAN),
        ".inf" => return Tree::Number(f64::INFINITY),
        "-.inf" => return Tree::Number(f64::NEG_INFINITY),
        _ => {}
    }
    // `nan` and `inf` are words in YAML.
    let numeric = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    match text.parse() {
        Ok(number) if numeric => Tree::Number(number),
        _ => Tree::Text(text.to_owned()),
    }
}
