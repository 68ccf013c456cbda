//! What can be wrong with a spec, on one line.

use crate::text::one_line;

/// A spec that cannot be used. Its text is one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read.
    #[error("{origin}: {reason}")]
    Read {
        /// The path as given.
        origin: String,
        /// Why not.
        reason: String,
    },
    /// Something at a line of the file.
    #[error("{origin}:{line}: {reason}")]
    At {
        /// File name or embedded name.
        origin: String,
        /// Line, counted from 1.
        line: usize,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A rule without evidence.
    #[error("{origin}: [[evidence]] does not cover '{rule}'")]
    Uncovered {
        /// File name or embedded name.
        origin: String,
        /// Path of the rule.
        rule: String,
    },
    /// No target has this name.
    #[error(
        "unknown target '{name}'{suggestion}; one of {known}, or a path to a .toml file (see: align-check targets)"
    )]
    Unknown {
        /// The name as given.
        name: String,
        /// Empty, or `, did you mean '...'?`.
        suggestion: String,
        /// All names.
        known: String,
    },
}

impl Error {
    pub(crate) fn read(origin: &str, reason: &str) -> Self {
        Self::Read {
            origin: one_line(origin),
            reason: one_line(reason),
        }
    }

    pub(crate) fn at(origin: &str, line: usize, reason: &str) -> Self {
        Self::At {
            origin: one_line(origin),
            line,
            reason: one_line(reason),
        }
    }

    pub(crate) fn uncovered(origin: &str, rule: &str) -> Self {
        Self::Uncovered {
            origin: one_line(origin),
            rule: one_line(rule),
        }
    }
}
