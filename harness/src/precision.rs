//! Precision tables (`precision.toml`): the fixed-point types of each layer.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use align_check_simulators::hls4ml::Precision;
use anyhow::{Result, anyhow, bail};

/// The file of a recording that holds its table.
pub const FILE: &str = "precision.toml";

/// Largest table that is read.
const MAX_BYTES: u64 = 16 << 20;

/// Reads a table.
///
/// # Errors
/// One line that names the file, and the line in it.
pub fn read(path: &Path) -> Result<Precision> {
    let shown = path.display();
    let file = File::open(path).map_err(|e| anyhow!("{shown}: {e}"))?;
    let mut text = String::new();
    file.take(MAX_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|e| anyhow!("{shown}: {e}"))?;
    if text.len() as u64 > MAX_BYTES {
        bail!("{shown}: larger than {} MiB", MAX_BYTES >> 20);
    }
    toml::from_str(&text).map_err(|e| {
        let before = e.span().map_or("", |span| &text[..span.start]);
        let line = before.matches('\n').count() + 1;
        anyhow!("{shown}:{line}: {}", e.message())
    })
}
