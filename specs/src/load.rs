//! Text to [`Spec`]: TOML, then contradictions, then evidence.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize as _;
use toml::de::DeTable;

use crate::tree::{Tree, line_at};
use crate::{Error, Spec, base, bugs, coverage, message, validate};

/// Largest spec file that is read.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

impl Spec {
    /// Parses and checks a spec. `origin` names it in errors.
    ///
    /// # Errors
    /// One line with the place and the field: TOML that is not well formed, an unknown field or value, a
    /// contradiction between fields, or a rule without evidence.
    pub fn parse(text: &str, origin: &str) -> Result<Spec, Error> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut document = DeTable::parse(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_at(text, span.start));
            Error::at(origin, line, &message::syntax(error.message()))
        })?;
        let tree = Tree::new(text, document.get_ref());
        base::merge(document.get_mut()).map_err(|reason| {
            let line = tree.line_of("base");
            Error::at(origin, line, &format!("base: {reason}"))
        })?;
        let spec = Spec::deserialize(toml::Deserializer::from(document)).map_err(|error| {
            let (line, reason) = message::explain(&error, &tree);
            Error::at(origin, line, &reason)
        })?;
        if let Some((path, reason)) = validate::contradiction(&spec, &tree) {
            return Err(Error::at(
                origin,
                tree.line_of(&path),
                &format!("{path}: {reason}"),
            ));
        }
        if let Some((path, reason)) = bugs::incomplete(&spec) {
            return Err(Error::at(origin, tree.line_of(&path), &reason));
        }
        coverage::check(&spec, &tree, origin)?;
        Ok(spec)
    }

    /// Reads a user's own spec from a file.
    ///
    /// # Errors
    /// As [`Spec::parse`], and where the file cannot be read, is larger than [`MAX_FILE_BYTES`], or is not
    /// UTF-8.
    pub fn read(path: &Path) -> Result<Spec, Error> {
        let origin = path.display().to_string();
        let failed = |error: std::io::Error| Error::read(&origin, &format!("cannot read: {error}"));
        let file = File::open(path).map_err(failed)?;
        let mut bytes = Vec::new();
        // One byte more than allowed tells a file that is too large from one that just fits.
        file.take(MAX_FILE_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(Error::read(
                &origin,
                "larger than 1 MiB; a spec is a small text file",
            ));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let line = line_at(&String::from_utf8_lossy(error.as_bytes()), valid);
            Error::at(&origin, line, "not UTF-8")
        })?;
        Self::parse(&text, &origin)
    }

    /// The spec as TOML that [`Spec::parse`] reads back.
    ///
    /// # Errors
    /// Where the serializer refuses, which no spec is known to cause.
    pub fn to_toml(&self) -> Result<String, Error> {
        toml::to_string_pretty(self).map_err(|error| Error::read(&self.name, &error.to_string()))
    }
}
