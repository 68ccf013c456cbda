//! The bytes of a file, never more than a limit.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::{Error, Limits};

/// Reads a whole file, but never more than the limit.
///
/// # Errors
/// It cannot be read, or is larger.
pub fn read(path: &Path, limits: &Limits) -> Result<Vec<u8>, Error> {
    let lifted = format!(" ({})", Limits::FILE);
    at_most(path, limits.file_bytes, &lifted)
}

/// Reads a whole file of a kind that never has more than so many bytes: no argument lifts this limit.
///
/// # Errors
/// It cannot be read, or is larger.
pub fn read_small(path: &Path, bytes: u64) -> Result<Vec<u8>, Error> {
    at_most(path, bytes, "")
}

fn at_most(path: &Path, most: u64, lifted: &str) -> Result<Vec<u8>, Error> {
    let io = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    let too_large = || Error::Malformed {
        path: path.to_owned(),
        what: format!("the file is larger than the limit of {most} bytes{lifted}"),
    };
    if size > most {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    // A device or a pipe tells no size beforehand.
    file.take(most.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(io)?;
    if bytes.len() as u64 > most {
        return Err(too_large());
    }
    Ok(bytes)
}
