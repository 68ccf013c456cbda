//! The one way in which files and folders are written: aside, then renamed. Under the final name there is what was there
//! before, or the whole of the new one; nothing else, whatever happens in between.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempDir};

/// How files and folders that are not whole yet are called: what a killed run may leave.
const PREFIX: &str = ".align-check-";

/// Whether a file can be written to, before the work that fills it. Leaves nothing behind.
///
/// # Errors
/// As [`save`].
pub(crate) fn check(path: &Path) -> io::Result<()> {
    match destination(path)? {
        Destination::InPlace => Ok(()),
        // Dropping it removes it.
        Destination::Aside(path) => temporary(&path).map(drop),
    }
}

/// Whether files can be put into a folder that exists or that can be made. Leaves nothing behind.
///
/// # Errors
/// What the system says; it is no folder, or the one above it does not exist.
pub(crate) fn check_folder(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => temporary(&path.join("new")).map(drop),
        Ok(_) => Err(io::ErrorKind::NotADirectory.into()),
        Err(_) => check(path),
    }
}

/// Writes a file. A device or a pipe (`/dev/stdout`) is written to in place.
///
/// # Errors
/// What the system says; there is no folder for it, or it is a folder itself.
pub(crate) fn save(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match destination(path)? {
        Destination::InPlace => File::options().write(true).open(path)?.write_all(bytes),
        Destination::Aside(path) => {
            let mut file = temporary(&path)?;
            file.write_all(bytes).map_err(plain)?;
            file.as_file().sync_all()?;
            // Where it fails, the temporary file is removed with the error.
            file.persist(&path).map_err(|error| error.error)?;
            Ok(())
        }
    }
}

enum Destination {
    /// A device or a pipe: renaming a file over it would destroy it.
    InPlace,
    /// A file, new or to be replaced; links are followed.
    Aside(PathBuf),
}

fn destination(path: &Path) -> io::Result<Destination> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(metadata) if metadata.is_file() => Ok(Destination::Aside(fs::canonicalize(path)?)),
        Ok(_) => Ok(Destination::InPlace),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if path.file_name().is_none() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            let folder = parent(path);
            match fs::metadata(folder) {
                Ok(metadata) if metadata.is_dir() => Ok(Destination::Aside(path.to_owned())),
                Ok(_) => Err(io::ErrorKind::NotADirectory.into()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    Err(io::Error::other("the folder does not exist"))
                }
                Err(error) => Err(error),
            }
        }
        Err(error) => Err(error),
    }
}

/// The folder that a file or folder lies in.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A neighbour of a file.
fn temporary(path: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX);
    #[cfg(unix)]
    {
        // As any new file: the process's mask is applied to it.
        use std::os::unix::fs::PermissionsExt as _;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(parent(path)).map_err(plain)
}

/// The error without the name of the temporary file, which would only confuse.
fn plain(error: io::Error) -> io::Error {
    match error.get_ref() {
        Some(_) => error.kind().into(),
        None => error,
    }
}

/// A folder that is being filled aside.
pub(crate) struct NewFolder(TempDir);

impl NewFolder {
    /// An empty folder beside the place of `out`.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn beside(out: &Path) -> io::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(parent(out));
        Ok(Self(folder.map_err(plain)?))
    }

    /// Where it is until it is whole.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Gives it its name; what has this name already goes, by two renames: it is there until the new one is whole.
    ///
    /// # Errors
    /// It cannot be renamed; then what was there is there again.
    pub(crate) fn put(self, out: &Path) -> io::Result<()> {
        readable(self.path())?;
        // Another run may put its own there between two renames.
        for _ in 0..8 {
            let moved = Self::beside(out)?;
            let before = moved.path().join("before");
            let replaced = match fs::rename(out, &before) {
                Ok(()) => true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                Err(error) => return Err(error),
            };
            match fs::rename(self.path(), out) {
                Ok(()) => {
                    // It is not there any more under its first name.
                    let _ = self.0.keep();
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                Err(error) => {
                    if replaced {
                        // The first error is the one to tell.
                        let _ = fs::rename(&before, out);
                    }
                    return Err(error);
                }
            }
        }
        Err(io::Error::other("another run writes to it all the time"))
    }
}

/// Temporary folders are private; these are folders like others.
#[cfg(unix)]
fn readable(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn readable(_: &Path) -> io::Result<()> {
    Ok(())
}
