//! Typed access to the fields of a message.

use super::text::{Message, Value};
use crate::onnx::fail::{Outcome, malformed, shown, unsupported};

/// A message that is not there: every field has its default.
static EMPTY: Message = Message { fields: Vec::new() };

impl Message {
    fn all<'m, 'n>(&'m self, name: &'n str) -> impl Iterator<Item = &'m Value> + use<'m, 'n> {
        let named = self.fields.iter().filter(move |f| f.name == name);
        named.map(|f| &f.value)
    }

    fn one(&self, name: &str) -> Outcome<Option<&Value>> {
        let mut values = self.all(name);
        let first = values.next();
        if values.next().is_some() {
            return malformed(format!("'{}' is given twice", shown(name)));
        }
        Ok(first)
    }

    /// Whether a field is given.
    pub(super) fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    /// Fails on a field that is not listed: a parameter that is not understood may change what is computed.
    pub(super) fn only(&self, known: &[&str]) -> Outcome<()> {
        let stranger = self
            .fields
            .iter()
            .find(|f| !known.contains(&f.name.as_str()));
        match stranger {
            None => Ok(()),
            Some(field) => unsupported(format!(
                "its parameter '{}' is not understood",
                shown(&field.name)
            )),
        }
    }

    /// The messages of a repeated field.
    pub(super) fn messages(&self, name: &str) -> Outcome<Vec<&Message>> {
        self.all(name)
            .map(|value| match value {
                Value::Message(message) => Ok(message),
                _ => malformed(format!("'{}' must be a message", shown(name))),
            })
            .collect()
    }

    /// A message; an empty one where it is not given.
    pub(super) fn message(&self, name: &str) -> Outcome<&Message> {
        match self.one(name)? {
            None => Ok(&EMPTY),
            Some(Value::Message(message)) => Ok(message),
            Some(_) => malformed(format!("'{}' must be a message", shown(name))),
        }
    }

    /// The texts of a repeated field.
    pub(super) fn texts(&self, name: &str) -> Outcome<Vec<&str>> {
        self.all(name)
            .map(|value| match value {
                Value::Text(text) => Ok(text.as_str()),
                _ => malformed(format!("'{}' must be a quoted text", shown(name))),
            })
            .collect()
    }

    /// A text; empty where it is not given.
    pub(super) fn text(&self, name: &str) -> Outcome<&str> {
        match self.one(name)? {
            None => Ok(""),
            Some(Value::Text(text)) => Ok(text),
            Some(_) => malformed(format!("'{}' must be a quoted text", shown(name))),
        }
    }

    /// The integers of a repeated field.
    pub(super) fn ints(&self, name: &str) -> Outcome<Vec<i64>> {
        self.all(name)
            .map(|value| {
                let parsed = word(value).and_then(integer);
                parsed.map_or_else(
                    || malformed(format!("'{}' must be an integer", shown(name))),
                    Ok,
                )
            })
            .collect()
    }

    /// The sizes of a repeated field: integers from 0 to 2^31.
    pub(super) fn sizes(&self, name: &str) -> Outcome<Vec<usize>> {
        self.ints(name)?
            .into_iter()
            .map(|value| match usize::try_from(value) {
                Ok(size) if value <= 1 << 31 => Ok(size),
                _ => malformed(format!("'{}' cannot be {value}", shown(name))),
            })
            .collect()
    }

    /// An integer.
    pub(super) fn int(&self, name: &str) -> Outcome<Option<i64>> {
        self.one(name)?;
        Ok(self.ints(name)?.first().copied())
    }

    /// A size.
    pub(super) fn size(&self, name: &str) -> Outcome<Option<usize>> {
        self.one(name)?;
        Ok(self.sizes(name)?.first().copied())
    }

    /// The numbers of a repeated field; finite.
    pub(super) fn floats(&self, name: &str) -> Outcome<Vec<f32>> {
        self.all(name)
            .map(|value| {
                let digits = word(value).map(|w| w.strip_suffix(['f', 'F']).unwrap_or(w));
                match digits.and_then(|w| w.parse::<f32>().ok()) {
                    Some(number) if number.is_finite() => Ok(number),
                    _ => malformed(format!("'{}' must be a finite number", shown(name))),
                }
            })
            .collect()
    }

    /// A number.
    pub(super) fn float(&self, name: &str, default: f32) -> Outcome<f32> {
        self.one(name)?;
        Ok(self.floats(name)?.first().copied().unwrap_or(default))
    }

    /// A truth value.
    pub(super) fn flag(&self, name: &str, default: bool) -> Outcome<bool> {
        match self.one(name)? {
            None => Ok(default),
            Some(value) => match word(value) {
                Some("true" | "True" | "t" | "1") => Ok(true),
                Some("false" | "False" | "f" | "0") => Ok(false),
                _ => malformed(format!("'{}' must be true or false", shown(name))),
            },
        }
    }

    /// A word of an enumeration, also by its number; the first one where it is not given.
    pub(super) fn choice<'n>(
        &self,
        name: &str,
        names: &[&'n str],
        default: &'n str,
    ) -> Outcome<&'n str> {
        let Some(value) = self.one(name)? else {
            return Ok(default);
        };
        let found = word(value).and_then(|given| {
            let number = given.parse::<usize>().ok();
            names
                .iter()
                .enumerate()
                .find(|&(index, known)| given == *known || number == Some(index))
        });
        match found {
            Some((_, &known)) => Ok(known),
            None => malformed(format!(
                "'{}' must be one of {}",
                shown(name),
                names.join(", ")
            )),
        }
    }
}

fn word(value: &Value) -> Option<&str> {
    match value {
        Value::Word(word) => Some(word),
        _ => None,
    }
}

/// A decimal, hexadecimal or octal integer.
fn integer(word: &str) -> Option<i64> {
    let (minus, digits) = match word.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, word),
    };
    let magnitude = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => i64::from_str_radix(&digits[2..], 16),
        [b'0', _, ..] => i64::from_str_radix(digits, 8),
        _ => digits.parse(),
    };
    let magnitude = magnitude.ok().filter(|m| *m >= 0)?;
    Some(if minus { -magnitude } else { magnitude })
}
