//! The text format of protobuf, without a schema: names, and the values behind them.
//!
//! Grammar: the Protocol Buffers documentation, "Text Format Language Specification" (2.1 lexical elements, 3
//! syntax elements). What a prototxt never has, extensions and `Any`, is refused.

use crate::Limits;
use crate::onnx::fail::{Outcome, malformed, shown};

/// Messages may lie this deep in each other; a network's lie four deep.
/// Fields for each node that the limits allow: a layer has some twenty.
const FIELDS_PER_NODE: usize = 64;

/// The fields of a message, in the file's order.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub fields: Vec<Field>,
}

/// A field.
#[derive(Debug)]
pub(super) struct Field {
    pub name: String,
    pub value: Value,
}

/// What a field holds.
#[derive(Debug)]
pub(super) enum Value {
    /// A number or an identifier, as it is written.
    Word(String),
    /// A quoted text.
    Text(String),
    Message(Message),
}

/// Whether a file can be one: behind blanks and comments an identifier, then `:` or `{`.
pub(super) fn recognizes(bytes: &[u8]) -> bool {
    let mut reader = Reader::new(bytes, &Limits::default());
    reader.blanks();
    let word = reader.word();
    reader.blanks();
    let named = word.first().is_some_and(u8::is_ascii_lowercase)
        && word.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_');
    named && matches!(reader.peek(), Some(b':' | b'{'))
}

/// Reads a file.
pub(super) fn parse(bytes: &[u8], limits: &Limits) -> Outcome<Message> {
    let mut reader = Reader::new(bytes, limits);
    let message = reader.message(None, 0);
    message.map_err(|fail| fail.about(&format!("line {}", reader.line())))
}

struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
    /// How many more fields may come.
    fields: usize,
    deepest: usize,
}

impl<'b> Reader<'b> {
    fn new(bytes: &'b [u8], limits: &Limits) -> Self {
        Self {
            bytes,
            at: 0,
            fields: limits.nodes.saturating_mul(FIELDS_PER_NODE),
            deepest: limits.depth,
        }
    }

    fn line(&self) -> usize {
        let read = &self.bytes[..self.at.min(self.bytes.len())];
        read.split(|&b| b == b'\n').count()
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Skips blanks and comments.
    fn blanks(&mut self) {
        while let Some(byte) = self.peek() {
            if byte == b'#' {
                while self.peek().is_some_and(|b| b != b'\n') {
                    self.at += 1;
                }
            } else if byte.is_ascii_whitespace() || byte == 0x0b {
                self.at += 1;
            } else {
                return;
            }
        }
    }

    /// Takes a byte if it comes next.
    fn take(&mut self, byte: u8) -> bool {
        self.blanks();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// A number or an identifier; empty where there is none.
    fn word(&mut self) -> &'b [u8] {
        let start = self.at;
        let inside = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'+');
        while self.peek().is_some_and(inside) {
            self.at += 1;
        }
        &self.bytes[start..self.at]
    }

    fn unexpected<T>(&self, wanted: &str) -> Outcome<T> {
        match self.peek() {
            None => malformed(format!("the file ends where {wanted} should come")),
            Some(byte) => malformed(format!(
                "'{}' where {wanted} should come",
                byte.escape_ascii()
            )),
        }
    }

    /// Fields up to `end`, which is taken, or up to the end of the file.
    fn message(&mut self, end: Option<u8>, depth: usize) -> Outcome<Message> {
        if depth > self.deepest {
            return malformed(format!(
                "messages lie more than {} deep ({})",
                self.deepest,
                Limits::DEPTH
            ));
        }
        let mut message = Message::default();
        loop {
            self.blanks();
            match (self.peek(), end) {
                (None, None) => return Ok(message),
                (Some(byte), Some(end)) if byte == end => {
                    self.at += 1;
                    return Ok(message);
                }
                (None, Some(end)) => return self.unexpected(&format!("'{}'", end as char)),
                _ => {}
            }
            self.field(&mut message, depth)?;
            let _ = self.take(b',') || self.take(b';');
        }
    }

    fn field(&mut self, message: &mut Message, depth: usize) -> Outcome<()> {
        let name = self.word();
        if name.is_empty() {
            return self.unexpected("a field's name");
        }
        let name = String::from_utf8_lossy(name).into_owned();
        let colon = self.take(b':');
        if self.take(b'[') {
            if self.take(b']') {
                return Ok(());
            }
            loop {
                let value = self.value(colon, &name, depth)?;
                self.push(message, &name, value)?;
                if self.take(b']') {
                    return Ok(());
                }
                if !self.take(b',') {
                    return self.unexpected("',' or ']'");
                }
            }
        }
        let value = self.value(colon, &name, depth)?;
        self.push(message, &name, value)
    }

    fn push(&mut self, message: &mut Message, name: &str, value: Value) -> Outcome<()> {
        let Some(left) = self.fields.checked_sub(1) else {
            return malformed(
                "the file has more fields than its limit on nodes allows for (--max-nodes)",
            );
        };
        self.fields = left;
        let name = name.to_owned();
        message.fields.push(Field { name, value });
        Ok(())
    }

    fn value(&mut self, colon: bool, name: &str, depth: usize) -> Outcome<Value> {
        self.blanks();
        for (open, close) in [(b'{', b'}'), (b'<', b'>')] {
            if self.take(open) {
                return self.message(Some(close), depth + 1).map(Value::Message);
            }
        }
        if !colon {
            return self.unexpected(&format!("':' or '{{' behind '{}'", shown(name)));
        }
        if matches!(self.peek(), Some(b'"' | b'\'')) {
            let mut text = Vec::new();
            while let Some(quote @ (b'"' | b'\'')) = self.peek() {
                self.at += 1;
                self.quoted(quote, &mut text)?;
                self.blanks();
            }
            return match String::from_utf8(text) {
                Ok(text) => Ok(Value::Text(text)),
                Err(_) => malformed(format!("the text of '{}' is not UTF-8", shown(name))),
            };
        }
        // A minus may stand apart from its number.
        let minus = self.take(b'-');
        self.blanks();
        let word = self.word();
        if word.is_empty() {
            return self.unexpected("a value");
        }
        let word = String::from_utf8_lossy(word);
        Ok(Value::Word(if minus {
            format!("-{word}")
        } else {
            word.into_owned()
        }))
    }

    /// A text up to its closing quote.
    fn quoted(&mut self, quote: u8, text: &mut Vec<u8>) -> Outcome<()> {
        loop {
            let Some(byte) = self.peek() else {
                return malformed("the file ends inside a quoted text");
            };
            self.at += 1;
            match byte {
                _ if byte == quote => return Ok(()),
                b'\n' => return malformed("a quoted text does not end on its line"),
                b'\\' => {
                    let Some(escaped) = self.peek() else {
                        return malformed("the file ends inside a quoted text");
                    };
                    self.at += 1;
                    text.push(match escaped {
                        b'n' => b'\n',
                        b't' => b'\t',
                        b'r' => b'\r',
                        b'\\' | b'"' | b'\'' | b'?' => escaped,
                        b'0'..=b'7' => self.digits(8, u32::from(escaped - b'0'), 2)?,
                        b'x' | b'X' => self.digits(16, 0, 2)?,
                        _ => {
                            let escape = escaped.escape_ascii();
                            return malformed(format!("the escape '\\{escape}' is not known"));
                        }
                    });
                }
                _ => text.push(byte),
            }
        }
    }

    /// A byte by up to `most` more digits.
    fn digits(&mut self, base: u32, first: u32, most: usize) -> Outcome<u8> {
        let mut value = first;
        for _ in 0..most {
            let digit = self.peek().and_then(|b| char::from(b).to_digit(base));
            let Some(digit) = digit else { break };
            value = value * base + digit;
            self.at += 1;
        }
        u8::try_from(value).or_else(|_| malformed("an escaped byte is larger than 255"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Message, String> {
        parse(text.as_bytes(), &Limits::default()).map_err(|fail| format!("{fail:?}"))
    }

    fn written(message: &Message) -> String {
        let field = |field: &Field| match &field.value {
            Value::Word(word) => format!("{}:{word}", field.name),
            Value::Text(text) => format!("{}:{text:?}", field.name),
            Value::Message(message) => format!("{}{{{}}}", field.name, written(message)),
        };
        message
            .fields
            .iter()
            .map(field)
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn the_forms_of_the_grammar() {
        for (text, expected) in [
            ("a: 1", "a:1"),
            ("a:-1.5e-3;b: - 2", "a:-1.5e-3 b:-2"),
            ("a { b: MAX } c < d: true >", "a{b:MAX} c{d:true}"),
            ("a: { b: 1, b: 2 }", "a{b:1 b:2}"),
            ("a: [1, 2, 3] b: []", "a:1 a:2 a:3"),
            ("a [{b: 1}, {b: 2}]", "a{b:1} a{b:2}"),
            ("# x: y\na: 'it' \"'s\" # z\n 'so'", "a:\"it'sso\""),
            (r#"a: "\x41\102\n\"""#, "a:\"AB\\n\\\"\""),
            ("", ""),
        ] {
            assert_eq!(written(&parsed(text).unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, expected) in [
            ("a: 1\nb: {", "line 2: the file ends where '}'"),
            ("a: 1\n}", "line 2: '}' where a field's name"),
            ("a 1", "':' or '{' behind 'a'"),
            ("a:", "ends where a value"),
            ("a: \"x", "inside a quoted text"),
            ("a: \"x\ny\"", "does not end on its line"),
            ("a: \"\\q\"", "escape"),
            ("a: [1 2]", "',' or ']'"),
            ("[x.y]: 1", "'[' where a field's name"),
            ("a: \"\\777\"", "larger than 255"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let deep = "a {".repeat(100_000);
        assert!(parsed(&deep).unwrap_err().contains("64 deep (--max-depth)"));
        let limits = Limits {
            nodes: 1,
            ..Limits::default()
        };
        let many = parse("a: 1 ".repeat(65).as_bytes(), &limits);
        assert!(format!("{many:?}").contains("more fields"));
    }

    #[test]
    fn other_formats_are_not_taken_for_it() {
        for yes in ["name: \"x\"", "# comment\n\n layer { }", "input: 'a'"] {
            assert!(recognizes(yes.as_bytes()), "{yes}");
        }
        for no in [
            "",
            "<?xml?>",
            "{\"a\": 1}",
            "\x08\x07\x12",
            "TRT-8205-x\na: b",
            "Name: 1",
        ] {
            assert!(!recognizes(no.as_bytes()), "{no:?}");
        }
    }
}
