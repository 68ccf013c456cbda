//! Recordings as folders: `recording.toml`, the model, its inputs, and what somebody else's software or
//! hardware made of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use align_check_simulators::hls4ml::Precision;
use anyhow::{Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use crate::digest::sha256;
use crate::{files, precision};

/// The file that makes a folder a recording.
pub const PROVENANCE: &str = "recording.toml";

/// Where a recording comes from: `recording.toml`. Keys that are not listed here are kept by people and
/// ignored by the tool.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Provenance {
    /// The software or hardware that made the outputs, with exact versions.
    pub tool: String,
    /// Operating system and CPU.
    #[serde(default)]
    pub platform: String,
    /// Which kernels ran, as far as it is known.
    #[serde(default)]
    pub cpu_path: String,
    /// How to make it again.
    #[serde(default)]
    pub command: String,
    /// When it was made.
    #[serde(default)]
    pub date: Option<toml::value::Datetime>,
    /// Licence of the recording.
    #[serde(default)]
    pub license: String,
    /// Licence of the tool.
    #[serde(default)]
    pub license_of_the_tool: String,
    /// What was recorded, in a line.
    #[serde(default)]
    pub what: String,
    /// Targets that must reproduce it, with no element differing.
    #[serde(default)]
    pub targets: Vec<String>,
    /// Which neighbouring rules this data refutes.
    #[serde(default)]
    pub tells_apart: String,
    /// Which rules this data cannot tell apart.
    #[serde(default)]
    pub undecided: String,
    /// A bug of the tool that this data shows: no rule, so that no target reproduces it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_bug: Option<String>,
    /// The model's file, where it is not `model.*` in this folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// A file that gives the float model its quantizers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encodings: Option<String>,
    /// With [`encodings`](Self::encodings): under which name the quantized form of a tensor was recorded, where it has
    /// another one than the tensor.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub quantized: BTreeMap<String, String>,
    /// The inputs' file, where it is not `inputs.npz` in this folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<String>,
    /// The outputs' file, where it is not `outputs.npz`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<String>,
    /// SHA-256 of the files of this folder.
    #[serde(default)]
    pub sha256: BTreeMap<String, String>,
}

/// A recording's folder, with its files checked.
#[derive(Debug, Clone)]
pub struct Folder {
    /// The folder.
    pub path: PathBuf,
    /// Its `recording.toml`.
    pub provenance: Provenance,
}

impl Folder {
    /// Opens a folder and verifies the SHA-256 of every file that `recording.toml` lists, and of those that it takes from a
    /// neighbour.
    ///
    /// # Errors
    /// One line that names the file: unreadable, damaged, or changed since it was recorded.
    pub fn open(path: &Path) -> Result<Self> {
        let folder = Self {
            path: path.to_path_buf(),
            provenance: read(&path.join(PROVENANCE))?,
        };
        for (name, wanted) in &folder.provenance.sha256 {
            unchanged(&folder.file(name)?, wanted, &path.join(PROVENANCE))?;
        }
        folder.neighbours()?;
        Ok(folder)
    }

    /// Verifies the files that are taken from neighbours, by what these say of them.
    fn neighbours(&self) -> Result<()> {
        let own = &self.provenance;
        let named = [&own.model, &own.encodings, &own.inputs, &own.outputs];
        for name in named.into_iter().flatten().filter(|n| n.starts_with("..")) {
            let path = self.file(name)?;
            let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
                continue;
            };
            let of = folder.join(PROVENANCE);
            if !of.is_file() {
                continue;
            }
            if let Some(wanted) = read(&of)?.sha256.get(&*name.to_string_lossy()) {
                unchanged(&path, wanted, &of)?;
            }
        }
        Ok(())
    }

    /// The model.
    ///
    /// # Errors
    /// There is none, or its path leaves the recording.
    pub fn model(&self) -> Result<PathBuf> {
        if let Some(name) = &self.provenance.model {
            return self.file(name);
        }
        let Some(name) = self.listed_models().min() else {
            bail!("{}: names no model", self.path.join(PROVENANCE).display());
        };
        self.file(name)
    }

    /// Whether there is a model: what a library computes on plain vectors is recorded without one, and held by
    /// tests of its own.
    pub fn has_model(&self) -> bool {
        self.provenance.model.is_some() || self.listed_models().next().is_some()
    }

    /// The files `model.*`, less those that stand beside a model: external data, constants of an OpenVINO IR,
    /// weights of a Caffe network, encodings.
    fn listed_models(&self) -> impl Iterator<Item = &String> {
        let beside = [".data", ".bin", ".caffemodel", ".encodings"];
        let listed = self.provenance.sha256.keys();
        listed.filter(move |name| {
            name.starts_with("model.") && !beside.iter().any(|end| name.ends_with(end))
        })
    }

    /// The fixed-point types of each layer, where they were recorded.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn precision(&self) -> Result<Option<Precision>> {
        if !self.provenance.sha256.contains_key(precision::FILE) {
            return Ok(None);
        }
        precision::read(&self.file(precision::FILE)?).map(Some)
    }

    /// The file that gives the float model its quantizers, where there is one.
    ///
    /// # Errors
    /// Its path leaves the recording.
    pub fn encodings(&self) -> Result<Option<PathBuf>> {
        let name = self.provenance.encodings.as_deref();
        name.map(|name| self.file(name)).transpose()
    }

    /// The inputs.
    ///
    /// # Errors
    /// Their path leaves the recording.
    pub fn inputs(&self) -> Result<PathBuf> {
        self.file(self.provenance.inputs.as_deref().unwrap_or("inputs.npz"))
    }

    /// The recorded tensors.
    ///
    /// # Errors
    /// Their path leaves the recording.
    pub fn outputs(&self) -> Result<PathBuf> {
        self.file(self.provenance.outputs.as_deref().unwrap_or("outputs.npz"))
    }

    /// A file of this recording, or of a neighbour in the same folder (`../conv/model.onnx`).
    fn file(&self, name: &str) -> Result<PathBuf> {
        let path = Path::new(name);
        let mut parts = path.components();
        if path.starts_with("..") {
            parts.next();
        }
        if name.is_empty() || !parts.all(|part| matches!(part, Component::Normal(_))) {
            bail!(
                "{}: '{name}' is neither in this folder nor in a neighbour of it",
                self.path.join(PROVENANCE).display()
            );
        }
        Ok(self.path.join(path))
    }
}

/// Largest `recording.toml` that is read.
const MAX_BYTES: u64 = 4 << 20;

fn read(file: &Path) -> Result<Provenance> {
    let text = files::small_text(file, MAX_BYTES)?;
    toml::from_str(&text).map_err(|e| anyhow!("{}: {}", file.display(), e.message()))
}

/// Checks a file against the SHA-256 that `of` lists for it.
fn unchanged(file: &Path, wanted: &str, of: &Path) -> Result<()> {
    let found = sha256(file)?;
    if found != wanted.to_lowercase() {
        bail!(
            "{}: its SHA-256 is {found}, but {} says {wanted}: the file was changed",
            file.display(),
            of.display()
        );
    }
    Ok(())
}

/// The recordings in a folder and below it, in the order of their paths.
///
/// # Errors
/// The folder cannot be read, or holds no recording.
pub fn find(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(folder) = pending.pop() {
        if folder.join(PROVENANCE).is_file() {
            found.push(folder);
            continue;
        }
        let entries = fs::read_dir(&folder).map_err(|e| anyhow!("{}: {e}", folder.display()))?;
        for entry in entries {
            let entry = entry.map_err(|e| anyhow!("{}: {e}", folder.display()))?;
            // Links are not followed: they may lead in a circle.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                pending.push(entry.path());
            }
        }
    }
    if found.is_empty() {
        bail!("{}: no {PROVENANCE} in it or below it", root.display());
    }
    found.sort();
    Ok(found)
}
