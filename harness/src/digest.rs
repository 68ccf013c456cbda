//! SHA-256 of files.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::Path;

use anyhow::{Result, anyhow};
use sha2::{Digest, Sha256};

/// The SHA-256 of a file, in lower-case hexadecimal.
///
/// # Errors
/// One line that names the file.
pub fn sha256(path: &Path) -> Result<String> {
    let failed = |e: io::Error| anyhow!("{}: {e}", path.display());
    let file = File::open(path).map_err(failed)?;
    // A device may have no end.
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(anyhow!(
            "{}: is no regular file, which could be read again",
            path.display()
        ));
    }
    let mut hasher = Sha256::new();
    io::copy(
        &mut BufReader::with_capacity(1 << 16, file),
        &mut Hash(&mut hasher),
    )
    .map_err(failed)?;
    Ok(hex(&hasher.finalize()))
}

/// The SHA-256 of some bytes, in lower-case hexadecimal.
pub(crate) fn of_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes
        .iter()
        .flat_map(|&b| [digit(b >> 4), digit(b & 15)])
        .collect()
}

/// A digest as something to write to.
struct Hash<'a>(&'a mut Sha256);

impl Write for Hash<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
