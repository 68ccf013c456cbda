//! A partial result in a file: for `--resume`, and for shards that `align-check merge` puts together.
//!
//! Two lines of JSON: what the file is of, with the SHA-256 of the second line; and what was found.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use super::Partial;
use crate::digest::of_bytes;
use crate::report;

/// Version of the form of these files.
pub const SCHEMA: &str = "align-check/partial/1";

/// Most bytes of such a file.
const MAX_BYTES: u64 = 4 << 30;

/// Most bytes of its first line.
const MAX_HEAD: u64 = 1 << 20;

/// What it is called in errors.
const WHAT: &str = "partial result";

/// What a partial result is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    schema: String,
    /// Version of this tool.
    tool: String,
    /// The command line of the check.
    pub args: Vec<String>,
    /// Of everything that results depend on: two partial results fit together where it is the same.
    pub fingerprint: String,
    /// All inputs of the check.
    pub inputs: usize,
    /// Of the second line.
    sha256: String,
}

impl Head {
    /// Of a check with this command line.
    pub fn new(args: Vec<String>, fingerprint: String, inputs: usize) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            tool: env!("CARGO_PKG_VERSION").to_owned(),
            args,
            fingerprint,
            inputs,
            sha256: String::new(),
        }
    }

    /// Whether another file is of the same check.
    pub fn fits(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint && self.inputs == other.inputs
    }
}

/// Checks that a file can be written. Leaves nothing behind.
///
/// # Errors
/// As [`write`].
pub(crate) fn check(path: &Path) -> Result<()> {
    report::check_text(WHAT, path)?;
    let old = std::fs::metadata(path);
    if old.is_ok_and(|old| old.is_file() && old.len() > 0) {
        // Something else under this name is somebody's.
        stated(path)?;
    }
    Ok(())
}

/// The first line of a file, and the rest of it, to be read.
fn stated(path: &Path) -> Result<(serde_json::Value, BufReader<File>)> {
    let shown = path.display();
    let failed = |e: io::Error| anyhow!("{shown}: {e}");
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    // What is something else is not read to its end.
    let mut head = Vec::new();
    (&mut file)
        .take(MAX_HEAD)
        .read_until(b'\n', &mut head)
        .map_err(failed)?;
    let stated: serde_json::Value = serde_json::from_slice(&head).unwrap_or_default();
    let schema = stated["schema"].as_str().unwrap_or_default();
    if !schema.starts_with("align-check/partial/") {
        bail!("{shown}: is no partial result (--state writes them)");
    }
    Ok((stated, file))
}

/// Writes a file aside, then renames it.
///
/// # Errors
/// One line that names the path.
pub(crate) fn write(path: &Path, head: &Head, partial: &Partial) -> Result<()> {
    let found = serde_json::to_string(partial)?;
    let head = Head {
        sha256: of_bytes(found.as_bytes()),
        ..head.clone()
    };
    let text = format!("{}\n{found}\n", serde_json::to_string(&head)?);
    report::save_text(WHAT, path, &text)
}

/// Reads a file.
///
/// # Errors
/// One line that names the path: it is no such file, another version's, or damaged.
pub(crate) fn read(path: &Path) -> Result<(Head, Partial)> {
    let shown = path.display();
    let failed = |e: io::Error| anyhow!("{shown}: {e}");
    let (stated, file) = stated(path)?;
    match stated["schema"].as_str() {
        Some(SCHEMA) => {}
        other => bail!(
            "{shown}: is of the form {}, and this version reads {SCHEMA}",
            other.unwrap_or("?")
        ),
    }
    let head: Head = serde_json::from_value(stated).map_err(|e| anyhow!("{shown}: {e}"))?;
    let mut found = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut found)
        .map_err(failed)?;
    if found.len() as u64 > MAX_BYTES {
        bail!("{shown}: is larger than the {MAX_BYTES} bytes that a partial result may have");
    }
    let found = found.trim_ascii_end();
    if of_bytes(found) != head.sha256 {
        bail!("{shown}: is damaged: its SHA-256 is not the one that it states");
    }
    if head.tool != env!("CARGO_PKG_VERSION") {
        bail!(
            "{shown}: was written by version {}, and this is {}",
            head.tool,
            env!("CARGO_PKG_VERSION")
        );
    }
    let partial = serde_json::from_slice(found).map_err(|e| anyhow!("{shown}: {e}"))?;
    Ok((head, partial))
}
