//! Nested data of any text format, checked while it is read.

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// A value of JSON, YAML or protobuf's text format.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree {
    /// Nothing.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// A number.
    Number(f64),
    /// Text.
    Text(String),
    /// Values in order.
    List(Vec<Tree>),
    /// Named values in order. JSON and YAML have no name twice; protobuf repeats fields that way.
    Map(Vec<(String, Tree)>),
}

impl Tree {
    /// The first value of this name.
    pub(super) fn get(&self, key: &str) -> Option<&Tree> {
        self.map()?.iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    pub(super) fn map(&self) -> Option<&[(String, Tree)]> {
        match self {
            Self::Map(entries) => Some(entries),
            _ => None,
        }
    }

    pub(super) fn list(&self) -> Option<&[Tree]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Number(x) => Some(*x),
            _ => None,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A truth value; Python's spelling in a text counts (`"True"`: AIMET up to 0.6.1).
    pub(super) fn truth(&self) -> Option<bool> {
        match self {
            Self::Bool(b) => Some(*b),
            Self::Text(text) if text.eq_ignore_ascii_case("true") => Some(true),
            Self::Text(text) if text.eq_ignore_ascii_case("false") => Some(false),
            _ => None,
        }
    }

    /// A number, or a list of numbers.
    pub(super) fn numbers(&self) -> Option<Vec<f64>> {
        match self {
            Self::Number(x) => Some(vec![*x]),
            Self::List(items) => items.iter().map(Self::number).collect(),
            _ => None,
        }
    }

    /// A required entry of a map, by what makes it of the tree.
    pub(super) fn need<T>(
        &self,
        key: &str,
        wanted: &str,
        read: impl Fn(&Tree) -> Option<T>,
    ) -> Result<T, String> {
        let value = self.get(key).ok_or_else(|| format!("lacks '{key}'"))?;
        read(value).ok_or_else(|| format!("'{key}' is not {wanted}"))
    }

    /// The same, where it may be left out.
    pub(super) fn may<T>(
        &self,
        key: &str,
        wanted: &str,
        read: impl Fn(&Tree) -> Option<T>,
    ) -> Result<Option<T>, String> {
        match self.get(key) {
            None | Some(Self::Null) => Ok(None),
            Some(value) => read(value)
                .map(Some)
                .ok_or_else(|| format!("'{key}' is not {wanted}")),
        }
    }
}

/// Reads JSON. Depth is bounded by the parser; a name twice in one object is an error.
pub(super) fn json(text: &str) -> Result<Tree, String> {
    serde_json::from_str(text).map_err(|e| format!("JSON: {e}"))
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, b: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(b))
    }

    fn visit_i64<E>(self, x: i64) -> Result<Tree, E> {
        Ok(Tree::Number(x as f64))
    }

    fn visit_u64<E>(self, x: u64) -> Result<Tree, E> {
        Ok(Tree::Number(x as f64))
    }

    fn visit_f64<E>(self, x: f64) -> Result<Tree, E> {
        Ok(Tree::Number(x))
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let mut map: Vec<(String, Tree)> = Vec::new();
        let mut names = std::collections::HashSet::new();
        while let Some((key, value)) = entries.next_entry::<String, Tree>()? {
            if !names.insert(key.clone()) {
                return Err(A::Error::custom(format!("'{key}' stands twice")));
            }
            map.push((key, value));
        }
        Ok(Tree::Map(map))
    }
}
