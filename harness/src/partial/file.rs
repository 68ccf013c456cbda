//! A partial result in a file: for `--resume`, and for shards that `align-check merge` puts together.
//!
//! Two lines of JSON: what the file is of, with the SHA-256 of the second line; and what was found.

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
    report::save_text("partial result", path, &text)
}

/// Reads a file.
///
/// # Errors
/// One line that names the path: it is no such file, another version's, or damaged.
pub(crate) fn read(path: &Path) -> Result<(Head, Partial)> {
    let shown = path.display();
    let bytes = std::fs::metadata(path)
        .map_err(|e| anyhow!("{shown}: {e}"))?
        .len();
    if bytes > MAX_BYTES {
        bail!("{shown}: has {bytes} bytes, and a partial result has at most {MAX_BYTES}");
    }
    let text = std::fs::read_to_string(path).map_err(|e| anyhow!("{shown}: {e}"))?;
    let none = || anyhow!("{shown}: is no partial result (--state writes them)");
    let (head, found) = text.split_once('\n').ok_or_else(none)?;
    let stated: serde_json::Value = serde_json::from_str(head).map_err(|_| none())?;
    match stated["schema"].as_str() {
        Some(SCHEMA) => {}
        Some(other) if other.starts_with("align-check/partial/") => {
            bail!("{shown}: is of the form {other}, and this version reads {SCHEMA}")
        }
        _ => return Err(none()),
    }
    let head: Head = serde_json::from_value(stated).map_err(|e| anyhow!("{shown}: {e}"))?;
    let found = found.trim_end_matches('\n');
    if of_bytes(found.as_bytes()) != head.sha256 {
        bail!("{shown}: is damaged: its SHA-256 is not the one that it states");
    }
    if head.tool != env!("CARGO_PKG_VERSION") {
        bail!(
            "{shown}: was written by version {}, and this is {}",
            head.tool,
            env!("CARGO_PKG_VERSION")
        );
    }
    let partial = serde_json::from_str(found).map_err(|e| anyhow!("{shown}: {e}"))?;
    Ok((head, partial))
}
