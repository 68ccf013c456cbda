//! `.npz`, `.npy`.

use std::path::Path;

use align_check_graph::Limits;
use anyhow::{Result, bail};

use super::dump::{Dump, Found};
use crate::inputs::{Array, read_arrays_within};

/// Reads the arrays of a file; the one of an `.npy` is named after the file.
///
/// # Errors
/// As [`read_arrays`].
pub(crate) fn read(path: &Path, limits: &Limits) -> Result<Found> {
    let mut found = Found::default();
    for (key, array) in read_arrays_within(path, limits)? {
        let name = if key.is_empty() { stem(path)? } else { key };
        found.dumps.push(dump(name, path, array));
    }
    Ok(found)
}

/// An array as a dump.
pub(crate) fn dump(name: String, path: &Path, array: Array) -> Dump {
    let mut dump = Dump::new(name, path.to_owned(), array.values, array.kind);
    dump.shape = Some(array.shape);
    dump
}

fn stem(path: &Path) -> Result<String> {
    match path.file_stem().and_then(|stem| stem.to_str()) {
        Some(stem) => Ok(stem.to_owned()),
        None => bail!("{}: its name is no text", path.display()),
    }
}
