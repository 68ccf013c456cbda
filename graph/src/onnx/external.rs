//! Tensor data outside the model file: read only from inside the model's own folder.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use super::fail::{Fail, Outcome, malformed, shown};
use super::proto::StringStringEntryProto;

/// Reads external data of one model. Keeps the last file open, since weights share one as a rule.
#[derive(Debug)]
pub(crate) struct ExternalFiles {
    model: PathBuf,
    /// The model's folder, canonical; found when first needed.
    folder: Option<PathBuf>,
    open: Option<(String, PathBuf, File, u64)>,
    /// Bytes that were read, of the model's own file too.
    pub(crate) bytes: u64,
    /// The files that were opened.
    pub(crate) files: BTreeSet<PathBuf>,
}

impl ExternalFiles {
    pub(crate) fn new(model: &Path, bytes: usize) -> Self {
        Self {
            model: model.to_owned(),
            folder: None,
            open: None,
            bytes: bytes as u64,
            files: BTreeSet::new(),
        }
    }

    /// The bytes that `external_data` describes; they must be exactly `expected`.
    pub(crate) fn read(
        &mut self,
        entries: &[StringStringEntryProto],
        expected: usize,
    ) -> Outcome<Vec<u8>> {
        let get = |key: &str| {
            entries
                .iter()
                .find(|e| e.key.as_deref() == Some(key))
                .and_then(|e| e.value.as_deref())
        };
        let number = |key: &str| -> Outcome<Option<u64>> {
            let Some(text) = get(key) else {
                return Ok(None);
            };
            match text.trim().parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => malformed(format!(
                    "external data: {key} '{}' is no number",
                    shown(text)
                )),
            }
        };
        let Some(location) = get("location").filter(|l| !l.is_empty()) else {
            return malformed("external data without a location");
        };
        let offset = number("offset")?.unwrap_or(0);
        let length = number("length")?;
        let (path, file, size) = self.file(location)?;
        let available = match size.checked_sub(offset) {
            Some(rest) if length.is_none_or(|length| length <= rest) => length.unwrap_or(rest),
            _ => {
                return malformed(format!(
                    "external data: offset {offset} and length {} go past the end of '{}' ({size} bytes)",
                    length.map_or_else(|| "(none)".to_owned(), |l| l.to_string()),
                    shown(location)
                ));
            }
        };
        if available != expected as u64 {
            return malformed(format!(
                "external data: '{}' gives {available} bytes, the tensor needs {expected}",
                shown(location)
            ));
        }
        let io =
            |source: &std::io::Error| Fail::Io(path.clone(), source.kind(), source.to_string());
        file.seek(SeekFrom::Start(offset)).map_err(|e| io(&e))?;
        let mut bytes = vec![0; expected];
        file.read_exact(&mut bytes).map_err(|e| io(&e))?;
        self.bytes = self.bytes.saturating_add(expected as u64);
        Ok(bytes)
    }

    /// Opens `location`, which must lie in the model's folder, links resolved.
    fn file(&mut self, location: &str) -> Outcome<(&PathBuf, &mut File, u64)> {
        if self.open.as_ref().is_none_or(|(name, ..)| name != location) {
            let relative = Path::new(location);
            // Backslashes separate folders on one system and are part of a name on another: a file
            // that means different things on different machines is refused.
            let plain = relative
                .components()
                .all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
            if !plain || location.contains(|c: char| c == '\\' || c.is_control()) {
                return malformed(format!(
                    "external data: location '{}' must be a path inside the model's folder",
                    shown(location)
                ));
            }
            let io = |at: &Path, source: &std::io::Error| {
                Fail::Io(
                    at.to_owned(),
                    source.kind(),
                    format!("external data: {source}"),
                )
            };
            if self.folder.is_none() {
                let parent = self.model.parent().filter(|p| !p.as_os_str().is_empty());
                let parent = parent.unwrap_or(Path::new("."));
                self.folder = Some(parent.canonicalize().map_err(|e| io(parent, &e))?);
            }
            let folder = self.folder.as_deref().unwrap_or(Path::new("."));
            let wanted = folder.join(relative);
            let path = wanted.canonicalize().map_err(|e| io(&wanted, &e))?;
            if !path.starts_with(folder) {
                return malformed(format!(
                    "external data: location '{}' leads out of the model's folder",
                    shown(location)
                ));
            }
            let metadata = path.metadata().map_err(|e| io(&path, &e))?;
            if !metadata.is_file() {
                return malformed(format!(
                    "external data: '{}' is no regular file",
                    shown(location)
                ));
            }
            let file = File::open(&path).map_err(|e| io(&path, &e))?;
            self.files.insert(path.clone());
            self.open = Some((location.to_owned(), path, file, metadata.len()));
        }
        match &mut self.open {
            Some((_, path, file, size)) => Ok((path, file, *size)),
            None => malformed("external data: no file is open"),
        }
    }
}
