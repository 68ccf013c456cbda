//! Precision tables (`precision.toml`): the fixed-point types of each layer.

use std::path::Path;

use align_check_simulators::hls4ml::Precision;
use anyhow::{Result, anyhow};

use crate::files;

/// The file of a recording that holds its table.
pub const FILE: &str = "precision.toml";

/// Largest table that is read: TOML takes a hundred times its size while it is read.
const MAX_BYTES: u64 = 4 << 20;

/// Reads a table.
///
/// # Errors
/// One line that names the file, and the line in it.
pub fn read(path: &Path) -> Result<Precision> {
    let shown = path.display();
    let text = files::small_text(path, MAX_BYTES)?;
    toml::from_str(&text).map_err(|e| {
        let before = e.span().map_or("", |span| &text[..span.start]);
        let line = before.matches('\n').count() + 1;
        anyhow!("{shown}:{line}: {}", e.message())
    })
}
