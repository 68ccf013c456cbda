//! Errors inside the importer, before the file's and the node's names are known.

use std::path::{Path, PathBuf};

use crate::Error;

/// Why a tensor or a node cannot be used.
#[derive(Debug, Clone)]
pub(crate) enum Fail {
    /// The file contradicts itself or goes past a limit.
    Malformed(String),
    /// The file is sound, but asks for something that is not evaluated.
    Unsupported(String),
    /// A file that the model refers to cannot be read.
    Io(PathBuf, std::io::ErrorKind, String),
}

pub(crate) type Outcome<T> = Result<T, Fail>;

pub(crate) fn malformed<T>(what: impl Into<String>) -> Outcome<T> {
    Err(Fail::Malformed(what.into()))
}

pub(crate) fn unsupported<T>(what: impl Into<String>) -> Outcome<T> {
    Err(Fail::Unsupported(what.into()))
}

impl Fail {
    /// The same, said of something (a tensor, for example).
    pub(crate) fn about(self, subject: &str) -> Self {
        match self {
            Self::Malformed(what) => Self::Malformed(format!("{subject}: {what}")),
            Self::Unsupported(what) => Self::Unsupported(format!("{subject}: {what}")),
            fail @ Self::Io(..) => fail,
        }
    }

    /// The error of a node.
    pub(crate) fn at_node(self, path: &Path, node: &str, op_type: &str) -> Error {
        match self {
            Self::Malformed(what) => Error::Malformed {
                path: path.to_owned(),
                what: format!(
                    "node '{}' ({}): {}",
                    shown(node),
                    shown(op_type),
                    one_line(&what)
                ),
            },
            Self::Unsupported(what) => Error::Unsupported {
                path: path.to_owned(),
                node: shown(node),
                op_type: shown(op_type),
                what: one_line(&what),
            },
            Self::Io(..) => self.in_file(path, "its data"),
        }
    }

    /// The error of something that is no node (an initializer, for example).
    pub(crate) fn in_file(self, path: &Path, subject: &str) -> Error {
        match self {
            Self::Malformed(what) | Self::Unsupported(what) => Error::Malformed {
                path: path.to_owned(),
                what: format!("{}: {}", one_line(subject), one_line(&what)),
            },
            Self::Io(file, kind, what) => Error::Io {
                path: file,
                source: std::io::Error::new(kind, one_line(&what)),
            },
        }
    }
}

/// A name from the file, fit for a message: control characters escaped, very long ones cut.
pub(crate) fn shown(name: &str) -> String {
    const LONGEST: usize = 200;
    let mut text = one_line(name);
    if let Some((cut, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(cut);
        text.push_str("...");
    }
    text
}

/// Escapes control characters, so that a message stays one line whatever the file holds.
pub(crate) fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || c == '\u{2028}' || c == '\u{2029}' {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}
