//! Which files the words behind `--input` stand for.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};

use super::picture::is_picture;
use crate::files;

/// Most files that are looked at.
const MAX_FILES: usize = 10_000_000;
/// Most bytes of a list.
const MAX_LIST: u64 = 256 << 20;
/// Folders in folders.
const MAX_DEPTH: usize = 64;

/// One sample of a list: files, each with the input that it belongs to where the list says so.
pub(super) type Line = Vec<(Option<String>, PathBuf)>;

/// What was found.
#[derive(Debug)]
pub(super) enum Found {
    /// A file.
    File {
        /// Where it lies.
        path: PathBuf,
        /// How samples of it are called.
        name: String,
    },
    /// Samples that a list names.
    List(PathBuf, Vec<Line>),
}

/// Files, folders, patterns and lists, in the order that they are given; what a folder or a pattern stands for is sorted
/// by path.
///
/// # Errors
/// One line: something does not exist, cannot be read, or holds no input.
pub(super) fn find(given: &[PathBuf]) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for path in given {
        let shown = path.display();
        if path.is_dir() {
            folder(path, &mut found)?;
        } else if path.exists() {
            one(path, &mut found)?;
        } else {
            let text = path.to_string_lossy();
            if !text.contains(['*', '?', '[']) {
                bail!("{shown}: no such file or folder");
            }
            let matches = glob::glob(&text).map_err(|e| anyhow!("{shown}: {}", e.msg))?;
            let start = found.len();
            for path in matches {
                let path = path.map_err(|e| anyhow!("{}: {}", e.path().display(), e.error()))?;
                if path.is_dir() {
                    folder(&path, &mut found)?;
                } else {
                    one(&path, &mut found)?;
                }
            }
            if found.len() == start {
                bail!("{shown}: no file matches");
            }
        }
    }
    Ok(found)
}

fn one(path: &Path, found: &mut Vec<Found>) -> Result<()> {
    if has(path, &["txt"]) {
        found.push(Found::List(path.to_path_buf(), list(path)?));
    } else {
        found.push(Found::File {
            path: path.to_path_buf(),
            name: path.display().to_string(),
        });
    }
    Ok(())
}

/// Files that can be inputs in a folder and below it; links to folders are not followed, they may lead in a circle.
fn folder(root: &Path, found: &mut Vec<Found>) -> Result<()> {
    let mut paths = Vec::new();
    let mut pending = vec![(root.to_path_buf(), 0)];
    let mut others = 0;
    while let Some((folder, depth)) = pending.pop() {
        let failed = |e| anyhow!("{}: {e}", folder.display());
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let kind = entry.file_type().map_err(failed)?;
            let path = entry.path();
            if kind.is_dir() {
                if depth == MAX_DEPTH {
                    bail!("{}: more than {MAX_DEPTH} folders deep", path.display());
                }
                pending.push((path, depth + 1));
            } else if is_picture(&path) || has(&path, &["npz", "npy", "raw", "bin"]) {
                paths.push(path);
            } else {
                others += 1;
            }
        }
        if paths.len() > MAX_FILES {
            bail!("{}: more than {MAX_FILES} files", root.display());
        }
    }
    if paths.is_empty() {
        bail!(
            "{}: no input in it (.npz, .npy, .png, .jpg, .jpeg, .raw, .bin), {others} other files",
            root.display()
        );
    }
    paths.sort();
    found.extend(paths.into_iter().map(|path| {
        let name = path
            .strip_prefix(root)
            .unwrap_or(&path)
            .display()
            .to_string();
        Found::File { path, name }
    }));
    Ok(())
}

/// Whether a file has one of these extensions.
pub(super) fn has(path: &Path, extensions: &[&str]) -> bool {
    let own = path
        .extension()
        .and_then(|e| e.to_str())
        .unwrap_or_default();
    extensions
        .iter()
        .any(|known| own.eq_ignore_ascii_case(known))
}

/// A list of samples: on each line `FILE`, or `INPUT:=FILE INPUT:=FILE ...`; paths are relative to the list's folder.
/// Lines that begin with `#` or `%` are comments.
fn list(path: &Path) -> Result<Vec<Line>> {
    let shown = path.display();
    let text = files::small_text(path, MAX_LIST)?;
    let base = path.parent().unwrap_or(Path::new(""));
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', '%']) {
            continue;
        }
        let file = |word: &str| {
            let file = base.join(word);
            if file.is_file() {
                Ok(file)
            } else {
                Err(anyhow!(
                    "{shown}: line {}: no file {}",
                    number + 1,
                    file.display()
                ))
            }
        };
        let parts: Line = if line.contains(":=") {
            line.split_whitespace()
                .map(|word| {
                    let (name, word) = word.split_once(":=").ok_or_else(|| {
                        anyhow!("{shown}: line {}: expected INPUT:=FILE", number + 1)
                    })?;
                    Ok((Some(name.to_owned()), file(word)?))
                })
                .collect::<Result<_>>()?
        } else {
            vec![(None, file(line)?)]
        };
        lines.push(parts);
    }
    if lines.is_empty() {
        bail!("{shown}: lists no file");
    }
    Ok(lines)
}
