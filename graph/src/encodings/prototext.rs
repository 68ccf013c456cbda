//! Protobuf's text format: `name: value`, `name { ... }`, lists in brackets, comments.

use super::tree::Tree;

/// Nesting that is read.
const DEPTH: usize = 32;

/// Reads a message. Fields may repeat; their order is kept.
pub(super) fn tree(text: &str) -> Result<Tree, String> {
    let mut reader = Reader {
        rest: text,
        line: 1,
    };
    reader.message(None, 0)
}

struct Reader<'t> {
    rest: &'t str,
    line: usize,
}

impl Reader<'_> {
    fn fail<T>(&self, what: &str) -> Result<T, String> {
        Err(format!("line {}: {what}", self.line))
    }

    /// The next character that is neither blank nor part of a comment.
    fn peek(&mut self) -> Option<char> {
        loop {
            let c = self.rest.chars().next()?;
            match c {
                '#' => self.skip(self.rest.find('\n').unwrap_or(self.rest.len())),
                c if c.is_whitespace() || c == ',' || c == ';' => self.skip(c.len_utf8()),
                c => return Some(c),
            }
        }
    }

    fn skip(&mut self, bytes: usize) {
        let (read, rest) = self.rest.split_at(bytes);
        self.line += read.matches('\n').count();
        self.rest = rest;
    }

    /// Fields up to the closing bracket, or to the end.
    fn message(&mut self, end: Option<char>, depth: usize) -> Result<Tree, String> {
        if depth > DEPTH {
            return self.fail("nested too deep");
        }
        let mut fields = Vec::new();
        loop {
            match (self.peek(), end) {
                (None, None) => return Ok(Tree::Map(fields)),
                (None, Some(_)) => return self.fail("a message without an end"),
                (Some(c), Some(end)) if c == end => {
                    self.skip(1);
                    return Ok(Tree::Map(fields));
                }
                _ => {}
            }
            let name = self.word();
            if name.is_empty() {
                return self.fail("no name of a field");
            }
            let colon = self.peek() == Some(':');
            if colon {
                self.skip(1);
            }
            let value = match self.peek() {
                Some('{') => self.nested('}', depth)?,
                Some('<') => self.nested('>', depth)?,
                Some('[') if colon => {
                    self.skip(1);
                    self.list(&name, &mut fields)?;
                    continue;
                }
                Some(_) if colon => self.scalar()?,
                _ => return self.fail("a field without a value"),
            };
            fields.push((name, value));
        }
    }

    fn nested(&mut self, end: char, depth: usize) -> Result<Tree, String> {
        self.skip(1);
        self.message(Some(end), depth + 1)
    }

    /// A list is the field repeated.
    fn list(&mut self, name: &str, fields: &mut Vec<(String, Tree)>) -> Result<(), String> {
        loop {
            match self.peek() {
                None => return self.fail("a list without an end"),
                Some(']') => {
                    self.skip(1);
                    return Ok(());
                }
                Some(_) => fields.push((name.to_owned(), self.scalar()?)),
            }
        }
    }

    fn word(&mut self) -> String {
        let inside = |c: char| c.is_alphanumeric() || "_.+-".contains(c);
        let end = self
            .rest
            .find(|c: char| !inside(c))
            .unwrap_or(self.rest.len());
        let word = self.rest[..end].to_owned();
        self.skip(end);
        word
    }

    fn scalar(&mut self) -> Result<Tree, String> {
        let Some(quote @ ('"' | '\'')) = self.peek() else {
            let word = self.word();
            if word.is_empty() {
                return self.fail("no value");
            }
            let numeric = word.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
            let number = word.trim_end_matches('f').parse().ok().filter(|_| numeric);
            return Ok(match (number, word.as_str()) {
                (Some(number), _) => Tree::Number(number),
                (None, "nan") => Tree::Number(f64::NAN),
                (None, "inf" | "infinity") => Tree::Number(f64::INFINITY),
                (None, "-inf" | "-infinity") => Tree::Number(f64::NEG_INFINITY),
                (None, _) => Tree::Text(word),
            });
        };
        self.skip(1);
        let mut text = String::new();
        let mut characters = self.rest.char_indices();
        while let Some((at, c)) = characters.next() {
            match c {
                c if c == quote => {
                    self.skip(at + 1);
                    return Ok(Tree::Text(text));
                }
                // The escapes of bytes fields are kept as they are: no name has one.
                '\\' => text.extend(characters.next().map(|(_, c)| c)),
                c => text.push(c),
            }
        }
        self.fail("a text without an end")
    }
}
