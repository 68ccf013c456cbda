//! Formats of one tensor a line: `TensorRT`'s calibration cache and ranges file, `MQBench`'s text files.

use super::scheme::{self, Arithmetic, Codes, Scheme};
use super::{Backend, Format, Parsed, Place, Role, WeightRule};

/// How many line numbers a message lists before it counts.
const LISTED: usize = 3;

/// Whether this is a calibration cache: `TRT-<version>-<algorithm>` in the first line.
pub(super) fn is_cache(text: &str) -> bool {
    text.trim_start().starts_with("TRT-")
}

/// A calibration cache: 8 hexadecimal digits a tensor, the bits of its `f32` scale, big end first; names contain
/// colons, so the last one separates (NVIDIA/TensorRT#2958).
pub(super) fn cache(text: &str) -> Result<Parsed, String> {
    let mut parsed = Parsed::new(Format::TensorRtCache);
    parsed.weights = WeightRule::Symmetric { per_channel: true };
    let mut bad = Vec::new();
    for (number, line) in numbered(text).skip(1) {
        let found = line.rsplit_once(':').and_then(|(name, hex)| {
            let hex = hex.trim();
            let digits = hex.len() == 8 && hex.bytes().all(|b| b.is_ascii_hexdigit());
            let bits = u32::from_str_radix(hex, 16).ok().filter(|_| digits)?;
            Some((name, f64::from(f32::from_bits(bits))))
        });
        let Some((name, scale)) = found.filter(|(name, _)| !name.is_empty()) else {
            bad.push(number);
            continue;
        };
        let affine = scheme::affine(&[scale], &[0.0], Codes::signed(8), Arithmetic::Divide)
            .map_err(|what| format!("line {number}: tensor '{name}': {what}"))?;
        parsed.push(
            Place::Tensor(name.to_owned()),
            Scheme::Affine(affine),
            Role::Activation,
        );
    }
    readable(&bad, "'name: ' and the 8 hexadecimal digits of a scale")?;
    Ok(parsed)
}

/// The other line formats, told apart by their first line.
pub(super) fn lines(text: &str) -> Result<Parsed, String> {
    let Some((_, first)) = numbered(text).next() else {
        return Err("no line with anything in it".into());
    };
    if tengine_line(first).is_some() {
        return tengine(text);
    }
    // MQBench writes `name: value`, ranges files have no space there, and the sample that reads them keeps it.
    let spaced = first
        .rsplit_once(": ")
        .is_some_and(|(_, v)| v.trim().parse::<f64>().is_ok());
    if spaced {
        return ppl_cuda(text);
    }
    let plain = first
        .split_once(':')
        .is_some_and(|(_, v)| v.parse::<f64>().is_ok());
    if plain
        || first
            .rsplit_once(':')
            .is_some_and(|(_, v)| v.parse::<f64>().is_ok())
    {
        return ranges(text);
    }
    Err("a text of no known format: neither a calibration cache, ranges, scales nor calibration statistics".into())
}

/// A ranges file: `tensor:amax`, split at the first colon (NVIDIA/TensorRT sampleINT8API.cpp).
fn ranges(text: &str) -> Result<Parsed, String> {
    let mut parsed = Parsed::new(Format::TensorRtRanges);
    parsed.weights = WeightRule::Symmetric { per_channel: true };
    let (mut bad, mut colons) = (Vec::new(), Vec::new());
    for (number, line) in numbered(text) {
        let first = line.split_once(':');
        let Some((name, amax)) = first.and_then(|(n, v)| Some((n, v.parse::<f64>().ok()?))) else {
            match line.rsplit_once(':') {
                Some((name, v)) if v.trim().parse::<f64>().is_ok() => colons.push(name.to_owned()),
                _ => bad.push(number),
            }
            continue;
        };
        let affine = scheme::symmetric(amax, Codes::signed(8), Arithmetic::Divide)
            .map_err(|what| format!("line {number}: tensor '{name}': {what}"))?;
        parsed.push(
            Place::Tensor(name.to_owned()),
            Scheme::Affine(affine),
            Role::Activation,
        );
    }
    if !colons.is_empty() {
        return Err(format!(
            "{} tensors have a colon in their names, and TensorRT's sample splits at the first one: {}",
            colons.len(),
            super::listed(&colons)
        ));
    }
    readable(&bad, "'tensor:amax'")?;
    Ok(parsed)
}

/// `MQBench`'s PPLCUDA backend: `name: amax` (`mqbench/deploy/deploy_linear.py`), in a file called `.json`.
fn ppl_cuda(text: &str) -> Result<Parsed, String> {
    let mut parsed = Parsed::new(Format::MqBench(Backend::PplCuda));
    parsed.weights = WeightRule::Symmetric { per_channel: true };
    parsed.notes.push(
        "MQBench's PPLCUDA file keeps the larger bound of each range only: the asymmetric ranges of the \
         training are taken as symmetric, which is not its fake-quant"
            .into(),
    );
    let mut bad = Vec::new();
    for (number, line) in numbered(text) {
        let found = line
            .rsplit_once(": ")
            .and_then(|(n, v)| Some((n, v.trim().parse::<f64>().ok()?)));
        let Some((name, amax)) = found else {
            bad.push(number);
            continue;
        };
        let affine = scheme::symmetric(amax, Codes::signed(8), Arithmetic::Reciprocal)
            .map_err(|what| format!("line {number}: tensor '{name}': {what}"))?;
        parsed.push(
            Place::Tensor(name.to_owned()),
            Scheme::Affine(affine),
            Role::Activation,
        );
    }
    readable(&bad, "'name: amax'")?;
    Ok(parsed)
}

/// `MQBench`'s `Tengine_u8` backend: `name scale zero_point` (`mqbench/deploy/deploy_tengine.py`).
fn tengine(text: &str) -> Result<Parsed, String> {
    let mut parsed = Parsed::new(Format::MqBench(Backend::Tengine));
    parsed.weights = WeightRule::Asymmetric { per_channel: false };
    let mut bad = Vec::new();
    for (number, line) in numbered(text) {
        let Some((name, scale, zero_point)) = tengine_line(line) else {
            bad.push(number);
            continue;
        };
        let affine = scheme::affine(
            &[scale],
            &[zero_point],
            Codes::unsigned(8),
            Arithmetic::Reciprocal,
        )
        .map_err(|what| format!("line {number}: tensor '{name}': {what}"))?;
        // A convolution's output has the entry of the clamp behind it.
        parsed.push_maybe(
            Place::Tensor(name.to_owned()),
            Scheme::Affine(affine),
            Role::Activation,
        );
    }
    readable(&bad, "'name scale zero_point'")?;
    Ok(parsed)
}

fn tengine_line(line: &str) -> Option<(&str, f64, f64)> {
    let mut parts = line.rsplitn(3, ' ');
    let zero_point = parts.next()?.parse::<i64>().ok()? as f64;
    let scale = parts.next()?.parse().ok()?;
    let name = parts.next()?.trim();
    (!name.is_empty()).then_some((name, scale, zero_point))
}

/// Lines with something in them, numbered from 1.
fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate();
    lines
        .map(|(i, line)| (i + 1, line.trim_end_matches('\r')))
        .filter(|(_, line)| !line.trim().is_empty())
}

/// An error where lines could not be read.
fn readable(bad: &[usize], wanted: &str) -> Result<(), String> {
    if bad.is_empty() {
        return Ok(());
    }
    let first: Vec<String> = bad.iter().take(LISTED).map(ToString::to_string).collect();
    let more = if bad.len() > LISTED { ", ..." } else { "" };
    Err(format!(
        "{} lines cannot be read ({}{more}): wanted is {wanted}",
        bad.len(),
        first.join(", ")
    ))
}
