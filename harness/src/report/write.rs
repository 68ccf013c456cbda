//! Reports into files: which kind goes where.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use align_check_graph::Model;
use anyhow::{Result, anyhow, bail};

use super::text::visible;
use crate::aside;
use crate::outcome::Outcome;

/// A format that a file can have.
#[derive(Clone, Copy)]
enum Format {
    Text(fn(&Outcome) -> String),
    /// No text.
    #[cfg(feature = "parquet")]
    Bytes(fn(&Outcome) -> Result<Vec<u8>>),
    /// The model's file with more in it.
    Model(fn(&Outcome) -> Result<Vec<u8>>),
}

/// Names of the formats, as `--report KIND=PATH` takes them.
const KINDS: &[(&str, Format)] = &[
    ("json", Format::Text(super::json)),
    ("html", Format::Text(super::html)),
    ("junit", Format::Text(super::junit)),
    ("md", Format::Text(super::markdown)),
    ("csv", Format::Text(super::csv)),
    ("sarif", Format::Text(super::sarif)),
    ("model-explorer", Format::Text(super::model_explorer)),
    ("onnx", Format::Model(super::onnx)),
    #[cfg(feature = "parquet")]
    ("parquet", Format::Bytes(super::parquet::parquet)),
];

/// Writes one report to `KIND=PATH`.
///
/// The file appears with its whole content or not at all. A device or a pipe (`/dev/stdout`) is written to
/// in place.
///
/// # Errors
/// One line that names the path: an unknown kind, or a file that cannot be written.
pub fn write(kind_path: &str, outcome: &Outcome) -> Result<()> {
    let (kind, format, path) = parse(kind_path)?;
    let bytes = match format {
        Format::Text(format) => format(outcome).into_bytes(),
        #[cfg(feature = "parquet")]
        Format::Bytes(format) => format(outcome)?,
        Format::Model(format) => format(outcome)?,
    };
    aside::save(&path, &bytes).map_err(|error| failed(kind, &path, &error))
}

/// Whether a report wants the tensors of the first sample ([`crate::outcome::LayerOutcome::kept`]).
pub fn keeps(kind_path: &str) -> bool {
    matches!(parse(kind_path), Ok((_, Format::Model(_), _)))
}

/// Checks that a report can be made of a model: one that is the model with more in it needs ONNX, and each layer run on
/// its own.
///
/// # Errors
/// One line that names the report, and the model's file or the option.
pub fn check_model(kind_path: &str, model: &Model, isolated: bool) -> Result<()> {
    let (kind, format, _) = parse(kind_path)?;
    if !matches!(format, Format::Model(_)) {
        return Ok(());
    }
    if !matches!(model, Model::Onnx(_)) {
        bail!(
            "--report {kind}=: {} is no ONNX file ({}), and only such a file can hold the activations",
            visible(&model.path().display().to_string()),
            model.format()
        );
    }
    if !isolated {
        bail!(
            "--report {kind}=: holds each layer run on its own, which --mode cumulative leaves out"
        );
    }
    Ok(())
}

/// The path of a `KIND=PATH`.
pub fn path_of(kind_path: &str) -> &Path {
    Path::new(kind_path.split_once('=').map_or("", |(_, path)| path))
}

/// Checks that what a run writes replaces no file that it reads, and that no two outputs are one file. Devices and pipes
/// may be written to by several.
///
/// # Errors
/// One line that names the path.
pub fn check_apart(written: &[&Path], read: &[&Path]) -> Result<()> {
    for (number, path) in written.iter().enumerate() {
        let Some(own) = place(path) else { continue };
        let same = |other: &&&Path| place(other).as_ref() == Some(&own);
        let shown = || visible(&path.display().to_string());
        if read.iter().any(|other| same(&other)) {
            bail!("{}: is read by this run, which would replace it", shown());
        }
        if written[..number].iter().any(|other| same(&other)) {
            bail!(
                "{}: two outputs of this run would be written to it",
                shown()
            );
        }
    }
    Ok(())
}

/// Where a file lies or would lie, links followed; none for what is no file.
fn place(path: &Path) -> Option<PathBuf> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => fs::canonicalize(path).ok(),
        Ok(_) => None,
        Err(_) => {
            let folder = fs::canonicalize(aside::parent(path)).ok()?;
            Some(folder.join(path.file_name()?))
        }
    }
}

/// Checks that a report can be written to `KIND=PATH`, before the work that fills it. Leaves nothing behind.
///
/// # Errors
/// As [`write()`](write()).
pub fn check_target(kind_path: &str) -> Result<()> {
    let (kind, _, path) = parse(kind_path)?;
    writable(kind, &path)
}

fn writable(kind: &str, path: &Path) -> Result<()> {
    aside::check(path).map_err(|error| failed(kind, path, &error))
}

/// Writes a report that exists as JSON only to `json=PATH`.
///
/// # Errors
/// As [`write()`](write()).
pub fn write_json(kind_path: &str, text: &str) -> Result<()> {
    let path = json_path(kind_path)?;
    aside::save(&path, text.as_bytes()).map_err(|error| failed("json", &path, &error))
}

/// [`check_target`] of a report that exists as JSON only.
///
/// # Errors
/// As [`write()`](write()).
pub fn check_json(kind_path: &str) -> Result<()> {
    json_path(kind_path)?;
    check_target(kind_path)
}

fn json_path(kind_path: &str) -> Result<PathBuf> {
    match parse(kind_path)? {
        ("json", _, path) => Ok(path),
        (kind, ..) => bail!("--report {kind}=: only json exists here"),
    }
}

fn parse(kind_path: &str) -> Result<(&'static str, Format, PathBuf)> {
    let names: Vec<&'static str> = KINDS.iter().map(|(kind, _)| *kind).collect();
    let (at, path) = split(kind_path, &names)?;
    let (kind, format) = KINDS[at];
    Ok((kind, format, path))
}

/// The position of a kind, and the path behind it.
fn split(kind_path: &str, kinds: &[&'static str]) -> Result<(usize, PathBuf)> {
    let Some((kind, path)) = kind_path.split_once('=') else {
        bail!(
            "--report {}: expected KIND=PATH, where KIND is one of {}",
            visible(kind_path),
            kinds.join(", ")
        );
    };
    let Some(at) = kinds.iter().position(|known| *known == kind) else {
        bail!(
            "--report {}: unknown kind, expected one of {}",
            visible(kind_path),
            kinds.join(", ")
        );
    };
    if path.is_empty() {
        bail!("--report {kind}=: the path is missing");
    }
    Ok((at, PathBuf::from(path)))
}

/// Reports of something else than a check: each kind with its text.
///
/// # Errors
/// As [`write()`](write()).
pub fn write_one_of(kind_path: &str, kinds: &[(&'static str, &dyn Fn() -> String)]) -> Result<()> {
    let names: Vec<&'static str> = kinds.iter().map(|(kind, _)| *kind).collect();
    let (at, path) = split(kind_path, &names)?;
    let (kind, text) = kinds[at];
    aside::save(&path, text().as_bytes()).map_err(|error| failed(kind, &path, &error))
}

/// [`check_target`] of such a report.
///
/// # Errors
/// As [`write()`](write()).
pub fn check_one_of(kind_path: &str, kinds: &[&'static str]) -> Result<()> {
    let (at, path) = split(kind_path, kinds)?;
    writable(kinds[at], &path)
}

/// Writes any other text file aside, then renames it. `what` names it in errors.
///
/// # Errors
/// One line that names the path.
pub fn save_text(what: &str, path: &Path, text: &str) -> Result<()> {
    aside::save(path, text.as_bytes()).map_err(|error| cannot(what, path, &error))
}

/// Checks that [`save_text`] can write, before the work that makes the text. Leaves nothing behind.
///
/// # Errors
/// As [`save_text`].
pub fn check_text(what: &str, path: &Path) -> Result<()> {
    aside::check(path).map_err(|error| cannot(what, path, &error))
}

fn failed(kind: &str, path: &Path, error: &io::Error) -> anyhow::Error {
    cannot(&format!("{kind} report"), path, error)
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> anyhow::Error {
    let path = visible(&path.display().to_string());
    anyhow!(
        "cannot write the {what} {path}: {}",
        visible(&error.to_string())
    )
}
