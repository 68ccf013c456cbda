//! A recording's folder: written aside, then renamed, so that no part of one is ever left.

use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use align_check_graph::{Limits, Model};
use anyhow::{Result, anyhow, bail};
use ndarray::ArrayD;
use ndarray_npy::WriteNpyExt;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::aside::{NewFolder, parent};
use crate::digest::sha256;
use crate::inputs::{Array, ArrayKind};
use crate::recording::{PROVENANCE, Provenance};

/// Checks that a folder may be written, before the work that fills it.
///
/// # Errors
/// It exists and may not be replaced, or has no place.
pub(crate) fn check(out: &Path, force: bool) -> Result<()> {
    let shown = out.display();
    if out.file_name().is_none() {
        bail!("--out {shown}: not the name of a new folder");
    }
    if !parent(out).is_dir() {
        bail!("--out {shown}: the folder above it does not exist");
    }
    let Ok(metadata) = fs::symlink_metadata(out) else {
        return Ok(());
    };
    if !metadata.is_dir() {
        bail!("--out {shown}: exists, and is no folder");
    }
    let empty = fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_none());
    if empty {
        return Ok(());
    }
    if !out.join(PROVENANCE).is_file() {
        bail!("--out {shown}: exists, and is no recording: it is not overwritten");
    }
    if !force {
        bail!("--out {shown}: exists; --force replaces it");
    }
    Ok(())
}

/// The file that a model's constants lie in, where it is not the model's own, and its name in a recording.
fn beside(model: &Model) -> Option<(&'static str, PathBuf)> {
    match model.format() {
        "openvino" => Some(("model.bin", model.path().with_extension("bin"))),
        _ => Some(("model.caffemodel", model.weights()?.to_owned())),
    }
}

/// Writes the folder.
///
/// # Errors
/// One line: something cannot be written, or the model cannot stand alone.
pub(crate) fn write(
    out: &Path,
    force: bool,
    model: &Model,
    inputs: &[(String, Array)],
    outputs: &[(String, Array)],
    mut provenance: Provenance,
    limits: &Limits,
) -> Result<()> {
    let failed = |e: &dyn std::fmt::Display| anyhow!("--out {}: {e}", out.display());
    let new = NewFolder::beside(out).map_err(|e| failed(&e))?;
    let save =
        |name: &str, bytes: &[u8]| fs::write(new.path().join(name), bytes).map_err(|e| failed(&e));
    let name = match model.format() {
        "tflite" => "model.tflite",
        "openvino" => "model.xml",
        "caffe" => "model.prototxt",
        _ => "model.onnx",
    };
    let copy = new.path().join(name);
    fs::copy(model.path(), &copy).map_err(|e| failed(&e))?;
    let mut files = vec![name, "inputs.npz", "outputs.npz"];
    if let Some((name, weights)) = beside(model) {
        fs::copy(weights, new.path().join(name)).map_err(|e| failed(&e))?;
        files.push(name);
    }
    // Weights that the model keeps in other files would be missing.
    Model::read(&copy, limits).map_err(|_| {
        anyhow!(
            "{}: cannot be read without the files beside it; save it as one file first",
            model.path().display()
        )
    })?;
    save("inputs.npz", &npz(inputs)?)?;
    save("outputs.npz", &npz(outputs)?)?;
    for file in files {
        provenance
            .sha256
            .insert(file.to_owned(), sha256(&new.path().join(file))?);
    }
    provenance.date = today();
    let text = toml::to_string(&provenance).map_err(|e| failed(&e))?;
    save(PROVENANCE, text.as_bytes())?;
    check(out, force)?;
    new.put(out).map_err(|e| failed(&e))
}

/// Arrays as a file's contents, with the same bytes every time.
pub(crate) fn npz(arrays: &[(String, Array)]) -> Result<Vec<u8>> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    let options = options.last_modified_time(zip::DateTime::default());
    for (name, array) in arrays {
        let large = array.values.len() >= 1 << 28;
        zip.start_file(format!("{name}.npy"), options.large_file(large))?;
        npy(array, &mut zip)?;
    }
    Ok(zip.finish()?.into_inner())
}

/// Writes one array in the type that it was read as.
fn npy(array: &Array, out: &mut impl Write) -> Result<()> {
    macro_rules! as_type {
        ($type:ty) => {{
            let values: Vec<$type> = array.values.iter().map(|&v| v as $type).collect();
            let array = ArrayD::from_shape_vec(&array.shape[..], values)?;
            Ok(array.write_npy(out)?)
        }};
    }
    match array.kind {
        // A number that is an f32 is stored as one; NaN has no other value to compare with.
        ArrayKind::Float => {
            let short = |&v: &f64| v.is_nan() || f64::from(v as f32) == v;
            if array.values.iter().all(short) {
                as_type!(f32)
            } else {
                as_type!(f64)
            }
        }
        ArrayKind::Signed(8) => as_type!(i8),
        ArrayKind::Signed(16) => as_type!(i16),
        ArrayKind::Signed(32) => as_type!(i32),
        ArrayKind::Signed(_) => as_type!(i64),
        ArrayKind::Unsigned(1 | 8) => as_type!(u8),
        ArrayKind::Unsigned(16) => as_type!(u16),
        ArrayKind::Unsigned(32) => as_type!(u32),
        ArrayKind::Unsigned(_) => as_type!(u64),
    }
}

/// Today's date in UTC (H. Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`).
fn today() -> Option<toml::value::Datetime> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    civil(seconds / 86_400).parse().ok()
}

fn civil(days: u64) -> String {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// The command line, as a shell would take it.
pub(crate) fn command() -> String {
    let words = std::env::args_os().enumerate().map(|(at, word)| {
        let word = word.to_string_lossy().into_owned();
        match PathBuf::from(&word).file_name() {
            Some(name) if at == 0 => name.to_string_lossy().into_owned(),
            _ if word.contains(char::is_whitespace) || word.is_empty() => format!("'{word}'"),
            _ => word,
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::civil;

    #[test]
    fn days_are_dates() {
        assert_eq!(civil(0), "1970-01-01");
        assert_eq!(civil(11_016), "2000-02-29");
        assert_eq!(civil(20_779), "2026-11-22");
    }
}
