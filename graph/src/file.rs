//! The bytes of a model file.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::{Error, Limits};

/// Reads a whole file, but never more than the limit.
///
/// # Errors
/// It cannot be read, or is larger.
pub fn read(path: &Path, limits: &Limits) -> Result<Vec<u8>, Error> {
    let io = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    let too_large = || Error::Malformed {
        path: path.to_owned(),
        what: format!(
            "the file is larger than the limit of {} bytes ({})",
            limits.file_bytes,
            Limits::FILE
        ),
    };
    if size > limits.file_bytes {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    // A device or a pipe tells no size beforehand.
    file.take(limits.file_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(io)?;
    if bytes.len() as u64 > limits.file_bytes {
        return Err(too_large());
    }
    Ok(bytes)
}
