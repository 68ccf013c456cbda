//! Where every field of a TOML document stands.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// Fields inside a longer path are not listed: no spec has them, and a hostile file could make the list
/// many times larger than itself.
const MAX_PATH: usize = 128;

/// One field of the document.
#[derive(Debug)]
pub(crate) struct Node {
    /// Path of the table that holds it, empty at the top.
    pub parent: String,
    /// Full path, such as `requantize.steps[0].rounding`.
    pub path: String,
    /// Where its key stands. Empty for elements of an array.
    pub key: Range<usize>,
    /// Where its value stands.
    pub value: Range<usize>,
}

/// All fields of a document, with their places.
#[derive(Debug)]
pub(crate) struct Tree<'t> {
    text: &'t str,
    nodes: Vec<Node>,
}

impl<'t> Tree<'t> {
    /// Walks a parsed document. The parser has bounded its depth.
    pub(crate) fn new(text: &'t str, document: &DeTable<'t>) -> Self {
        let mut tree = Self {
            text,
            nodes: Vec::new(),
        };
        tree.table("", document);
        tree
    }

    fn table(&mut self, parent: &str, table: &DeTable<'t>) {
        let mut entries: Vec<(&Spanned<DeString<'t>>, &Spanned<DeValue<'t>>)> =
            table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let name = key.get_ref();
            let path = if parent.is_empty() {
                name.to_string()
            } else {
                format!("{parent}.{name}")
            };
            self.value(parent, &path, key.span(), value);
        }
    }

    fn value(&mut self, parent: &str, path: &str, key: Range<usize>, value: &Spanned<DeValue<'t>>) {
        self.nodes.push(Node {
            parent: parent.to_owned(),
            path: path.to_owned(),
            key,
            value: value.span(),
        });
        if path.len() > MAX_PATH {
            return;
        }
        match value.get_ref() {
            DeValue::Table(table) => self.table(path, table),
            DeValue::Array(array) => {
                for (index, element) in array.iter().enumerate() {
                    let start = element.span().start;
                    self.value(path, &format!("{path}[{index}]"), start..start, element);
                }
            }
            _ => {}
        }
    }

    /// Line of a byte of the text, from 1.
    pub(crate) fn line_at(&self, offset: usize) -> usize {
        line_at(self.text, offset)
    }

    /// Whether the document has this field.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.nodes.iter().any(|node| node.path == path)
    }

    /// Names of the fields directly inside a table.
    pub(crate) fn keys_of<'s>(&'s self, parent: &'s str) -> impl Iterator<Item = &'s str> {
        self.nodes
            .iter()
            .filter(move |node| node.parent == parent)
            .filter_map(|node| node.path.rsplit('.').next())
    }

    /// The field directly inside a table whose value is this text.
    pub(crate) fn child_with(&self, parent: &str, text: &str) -> Option<&str> {
        let holds = |node: &&Node| {
            let value = self.text.get(node.value.clone()).unwrap_or_default();
            node.parent == parent && value.trim_matches(['"', '\'']) == text
        };
        self.nodes.iter().find(holds).map(|node| node.path.as_str())
    }

    /// Line of a field, or of the nearest table around it that exists.
    pub(crate) fn line_of(&self, path: &str) -> usize {
        let mut path = path;
        loop {
            if let Some(node) = self.nodes.iter().find(|node| node.path == path) {
                let place = if node.key.is_empty() {
                    node.value.start
                } else {
                    node.key.start
                };
                return self.line_at(place);
            }
            match path.rfind(['.', '[']) {
                Some(cut) => path = &path[..cut],
                None => return 1,
            }
        }
    }

    /// The field whose key stands exactly here.
    pub(crate) fn key_at(&self, span: &Range<usize>) -> Option<&Node> {
        self.nodes
            .iter()
            .find(|node| !node.key.is_empty() && node.key == *span)
    }

    /// The innermost field whose value holds this place.
    pub(crate) fn value_at(&self, span: &Range<usize>) -> Option<&Node> {
        self.nodes
            .iter()
            .filter(|node| node.value.start <= span.start && span.end <= node.value.end)
            .min_by_key(|node| node.value.len())
    }
}

/// Line of a byte of a text, from 1.
pub(crate) fn line_at(text: &str, offset: usize) -> usize {
    1 + text
        .bytes()
        .take(offset)
        .filter(|&byte| byte == b'\n')
        .count()
}
