//! Files that users give: never more than the limits allow.

use std::path::Path;

use align_check_graph::{Error, Limits, read_file};
use anyhow::{Result, anyhow};

/// A file's bytes.
///
/// # Errors
/// One line that names the file.
pub(crate) fn bytes(path: &Path, limits: &Limits) -> Result<Vec<u8>> {
    read_file(path, limits).map_err(|error| match error {
        Error::Io { source, .. } => anyhow!("{}: {source}", path.display()),
        error => anyhow!("{error}"),
    })
}

/// A file's text.
///
/// # Errors
/// As [`bytes`], and where it is not UTF-8.
pub(crate) fn text(path: &Path, limits: &Limits) -> Result<String> {
    String::from_utf8(bytes(path, limits)?)
        .map_err(|_| anyhow!("{}: no UTF-8 text", path.display()))
}
