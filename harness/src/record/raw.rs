//! Raw binaries, explained by a list: `tensor-name path type shape...` on each line.

use std::fs;
use std::path::{Component, Path, PathBuf};

use align_check_graph::Limits;
use anyhow::{Result, anyhow, bail};

use super::dump::{Dump, Found, decode, names, type_of};
use crate::files;
use crate::report::text::visible;

/// Reads the files that a list names; their paths are relative to `base` and stay in it.
///
/// # Errors
/// One line that names the list and the line of it, or the file.
pub(crate) fn read(
    list: &Path,
    base: &Path,
    dtype: Option<&str>,
    limits: &Limits,
) -> Result<Found> {
    let text = files::text(list, limits)?;
    let mut found = Found::default();
    for (number, line) in text.lines().enumerate() {
        let at = || format!("{}: line {}", list.display(), number + 1);
        let words = words(line).map_err(|what| anyhow!("{}: {what}", at()))?;
        let [name, path, kind, shape @ ..] = &words[..] else {
            if words.is_empty() {
                continue;
            }
            bail!("{}: expected 'tensor-name path type shape...'", at());
        };
        let kind = match (kind.as_str(), dtype) {
            ("-", Some(dtype)) => dtype,
            ("-", None) => bail!("{}: the type is '-', and --dtype is not given", at()),
            (kind, _) => kind,
        };
        let Some((kind, size)) = type_of(kind) else {
            bail!("{}: type '{}' is none of {}", at(), visible(kind), names());
        };
        let shape =
            extents(shape).ok_or_else(|| anyhow!("{}: the shape is no list of extents", at()))?;
        let path = inside(base, path).map_err(|what| anyhow!("{}: {what}", at()))?;
        let bytes = files::bytes(&path, limits)?;
        let wanted = shape
            .iter()
            .try_fold(size, |n, &extent| n.checked_mul(extent));
        let fits = match wanted {
            _ if shape.is_empty() => bytes.len().is_multiple_of(size),
            Some(wanted) => wanted == bytes.len(),
            None => false,
        };
        if !fits || bytes.is_empty() {
            bail!(
                "{}: has {} bytes, but {} gives it the shape {shape:?} of {size} bytes an element",
                visible(&path.display().to_string()),
                bytes.len(),
                at()
            );
        }
        let mut dump = Dump::new(name.clone(), path, decode(&bytes, kind, size), kind);
        dump.shape = (!shape.is_empty()).then_some(shape);
        found.dumps.push(dump);
    }
    if found.dumps.is_empty() {
        bail!("{}: lists no file", list.display());
    }
    Ok(found)
}

/// Words between blanks; double quotes hold blanks together; `#` starts a comment.
fn words(line: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() && !rest.starts_with('#') {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or("a quote is not closed")?,
            None => rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len())),
        };
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    Ok(words)
}

/// `1 8 4 4`, `1x8x4x4` or `1,8,4,4`.
fn extents(words: &[String]) -> Option<Vec<usize>> {
    words
        .iter()
        .flat_map(|word| word.split(['x', ',', '[', ']', '(', ')']))
        .filter(|part| !part.is_empty())
        .map(|part| part.parse().ok())
        .collect()
}

/// A path below a folder, links followed.
fn inside(base: &Path, name: &str) -> Result<PathBuf> {
    let path = Path::new(name);
    let plain = |part: Component| matches!(part, Component::Normal(_) | Component::CurDir);
    if name.is_empty() || !path.components().all(plain) {
        bail!("'{}' leaves the folder {}", visible(name), base.display());
    }
    let path = base.join(path);
    let real = |path: &Path| {
        let shown = || visible(&path.display().to_string());
        fs::canonicalize(path).map_err(|e| anyhow!("{}: {e}", shown()))
    };
    if !real(&path)?.starts_with(real(base)?) {
        bail!(
            "'{}' is a link out of the folder {}",
            visible(name),
            base.display()
        );
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_may_be_quoted_and_comments_end_a_line() {
        let split = |line| words(line).expect("words");
        assert_eq!(
            split("a b.bin int8 1 2 # c"),
            ["a", "b.bin", "int8", "1", "2"]
        );
        assert_eq!(split("\"a b\" c"), ["a b", "c"]);
        assert!(split("  # nothing").is_empty());
        assert!(words("\"open").is_err());
    }

    #[test]
    fn shapes_have_three_spellings() {
        for shape in ["1 8 4", "1x8x4", "[1,8,4]", "(1, 8, 4)"] {
            assert_eq!(extents(&words(shape).expect("words")), Some(vec![1, 8, 4]));
        }
        assert_eq!(extents(&["1x-8".to_owned()]), None);
        assert_eq!(extents(&[]), Some(vec![]));
    }
}
