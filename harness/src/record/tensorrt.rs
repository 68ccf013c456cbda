//! JSON of `TensorRT`'s tools: Polygraphy's `--save-outputs`, `--save-inputs`, and `trtexec --exportOutput`.
//!
//! Sources: NVIDIA/TensorRT `tools/Polygraphy/polygraphy/json/serde.py` (an array is base64 of `.npy`, with
//! `polygraphy_class`; older files mark it with `__polygraphy_encoded_ndarray`, and may hold the bytes as
//! Latin-1), `polygraphy/comparator/struct.py` (`{"lst": [[runner, [{"outputs": {name: {"values": ..}}}]]]}`),
//! `samples/common/sampleReporting.cpp` (`[{"name", "dimensions": "1x2", "values": []}]`).

use std::path::Path;

use align_check_graph::Limits;
use anyhow::{Result, anyhow, bail};
use serde_json::{Map, Value};

use super::dump::{Dump, Found, Order};
use super::numpy;
use crate::files;
use crate::inputs::{Array, ArrayKind, read_npy};

/// Nested arrays of Polygraphy's file are this deep at most.
const MAX_DEPTH: usize = 4;

/// Reads a file; `runner` chooses one of several runners.
///
/// # Errors
/// One line that names the file and the tensor.
pub(crate) fn read(path: &Path, runner: Option<&str>, limits: &Limits) -> Result<Found> {
    let shown = path.display();
    let text = files::text(path, limits)?;
    let json: Value = serde_json::from_str(&text).map_err(|e| anyhow!("{shown}: {e}"))?;
    let iterations: Vec<&Map<String, Value>> = match &json {
        Value::Object(object) if object.contains_key("lst") => {
            outputs(&object["lst"], runner).map_err(|what| anyhow!("{shown}: {what}"))?
        }
        Value::Object(object) => vec![object],
        Value::Array(list) if list.iter().all(is_exported) && !list.is_empty() => {
            return exported(path, list);
        }
        Value::Array(list) => list.iter().filter_map(Value::as_object).collect(),
        _ => Vec::new(),
    };
    let mut found = Found::default();
    for iteration in iterations {
        for (name, value) in iteration {
            if is_marker(name) {
                continue;
            }
            let array = array(value, 0).map_err(|what| anyhow!("{shown}: '{name}' {what}"))?;
            found.dumps.push(dump(name, path, array));
        }
    }
    if found.dumps.is_empty() {
        bail!(
            "{shown}: holds no tensors: neither Polygraphy's results (--save-outputs) nor those of \
             trtexec --exportOutput"
        );
    }
    Ok(found)
}

fn dump(name: &str, path: &Path, array: Array) -> Dump {
    let mut dump = numpy::dump(name.to_owned(), path, array);
    // TensorRT's tensors keep the network's order of axes, whatever the format in memory.
    dump.order = Some(Order::Nchw);
    dump
}

fn is_marker(key: &str) -> bool {
    key == "polygraphy_class" || key.starts_with("__polygraphy_encoded_")
}

/// The tensors of every iteration of one runner.
fn outputs<'a>(list: &'a Value, wanted: Option<&str>) -> Result<Vec<&'a Map<String, Value>>> {
    let wrong = || anyhow!("'lst' is no list of runners and their iterations");
    let runners = list.as_array().ok_or_else(wrong)?;
    let mut named = Vec::new();
    for runner in runners {
        let name = runner.get(0).and_then(Value::as_str).ok_or_else(wrong)?;
        let iterations = runner.get(1).and_then(Value::as_array).ok_or_else(wrong)?;
        if wanted.is_none_or(|wanted| name.starts_with(wanted)) {
            named.push((name, iterations));
        }
    }
    let names = || {
        let names = runners.iter().filter_map(|r| r.get(0)?.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    match &named[..] {
        [(_, iterations)] => iterations
            .iter()
            .map(|i| {
                i.get("outputs")
                    .and_then(Value::as_object)
                    .ok_or_else(wrong)
            })
            .collect(),
        [] => bail!(
            "no runner is named {} (there are: {})",
            wanted.unwrap_or("so"),
            names()
        ),
        _ => bail!("several runners ({}): choose one with --stage", names()),
    }
}

/// An array, in whatever Polygraphy wrapped it.
fn array(value: &Value, depth: usize) -> Result<Array> {
    let object = value.as_object().filter(|_| depth < MAX_DEPTH);
    let Some(object) = object else {
        bail!("is no array of Polygraphy's");
    };
    if let Some(inner) = object.get("values") {
        return array(inner, depth + 1);
    }
    let text = match object.get("array") {
        Some(Value::String(text)) => text,
        Some(inner) => return array(inner, depth + 1),
        None => bail!("is no array of Polygraphy's"),
    };
    let bytes = base64(text).filter(|b| b.starts_with(b"\x93NUMPY"));
    let bytes = bytes
        .or_else(|| latin1(text))
        .ok_or_else(|| anyhow!("holds damaged base64"))?;
    read_npy(&bytes)
}

/// Characters as bytes.
fn latin1(text: &str) -> Option<Vec<u8>> {
    let bytes = text.chars().map(|c| u8::try_from(u32::from(c)).ok());
    bytes
        .collect::<Option<Vec<u8>>>()
        .filter(|b| b.starts_with(b"\x93NUMPY"))
}

/// RFC 4648, section 4, with its padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| match b {
        b'A'..=b'Z' => Some(b - b'A'),
        b'a'..=b'z' => Some(b - b'a' + 26),
        b'0'..=b'9' => Some(b - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let bare = text.strip_suffix("==").or_else(|| text.strip_suffix('='));
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for chunk in bare.unwrap_or(text).as_bytes().chunks(4) {
        let mut bits = 0u32;
        for &b in chunk {
            bits = bits << 6 | u32::from(digit(b)?);
        }
        bits <<= 6 * (4 - chunk.len());
        bytes.extend_from_slice(&bits.to_be_bytes()[1..chunk.len()]);
    }
    Some(bytes)
}

fn is_exported(entry: &Value) -> bool {
    entry.get("name").is_some_and(Value::is_string)
        && entry.get("values").is_some_and(Value::is_array)
}

/// What `trtexec --exportOutput` wrote: every number in decimal, types are not told.
fn exported(path: &Path, list: &[Value]) -> Result<Found> {
    let mut found = Found::default();
    for entry in list {
        let name = entry["name"].as_str().unwrap_or_default();
        let fail = |what: &str| anyhow!("{}: '{name}' {what}", path.display());
        let values = entry["values"].as_array().into_iter().flatten();
        let values = values
            .map(|v| v.as_f64().map(|v| f64::from(v as f32)))
            .collect::<Option<Vec<f64>>>()
            .ok_or_else(|| fail("holds something that is no number"))?;
        let shape = match entry.get("dimensions") {
            Some(Value::String(dimensions)) => dimensions
                .split(|c: char| !c.is_ascii_digit())
                .filter(|d| !d.is_empty())
                .map(|d| d.parse::<usize>().ok())
                .collect::<Option<Vec<_>>>()
                .ok_or_else(|| fail("has no readable dimensions"))?,
            _ => Vec::new(),
        };
        let volume = shape.iter().try_fold(1usize, |n, &e| n.checked_mul(e));
        if values.is_empty() || (!shape.is_empty() && volume != Some(values.len())) {
            return Err(fail(&format!(
                "holds {} numbers, and its dimensions are {shape:?}",
                values.len()
            )));
        }
        let mut dump = Dump::new(name.to_owned(), path.to_owned(), values, ArrayKind::Float);
        dump.shape = (!shape.is_empty()).then_some(shape);
        dump.order = Some(Order::Nchw);
        found.dumps.push(dump);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_the_standard_says() {
        // RFC 4648, section 10.
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
        ] {
            assert_eq!(base64(text).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        for bad in ["Z", "Zg=", "Zm9*", "====", "Zg==Zg=="] {
            assert_eq!(base64(bad), None, "{bad}");
        }
    }
}
