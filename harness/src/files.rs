//! Files that users give: never more than the limits allow.

use std::path::Path;

use align_check_graph::{Error, Limits, read_file, read_small_file};
use anyhow::{Result, anyhow};

/// A file's bytes.
///
/// # Errors
/// One line that names the file.
pub(crate) fn bytes(path: &Path, limits: &Limits) -> Result<Vec<u8>> {
    read_file(path, limits).map_err(|error| told(path, &error))
}

fn told(path: &Path, error: &Error) -> anyhow::Error {
    match error {
        Error::Io { source, .. } => anyhow!("{}: {source}", path.display()),
        error => anyhow!("{error}"),
    }
}

/// A file's text.
///
/// # Errors
/// As [`bytes`], and where it is not UTF-8.
pub(crate) fn text(path: &Path, limits: &Limits) -> Result<String> {
    utf8(path, bytes(path, limits)?)
}

/// The text of a file of a kind that never has more than so many bytes.
///
/// # Errors
/// As [`text`].
pub(crate) fn small_text(path: &Path, most: u64) -> Result<String> {
    utf8(
        path,
        read_small_file(path, most).map_err(|error| told(path, &error))?,
    )
}

fn utf8(path: &Path, bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|_| anyhow!("{}: no UTF-8 text", path.display()))
}
