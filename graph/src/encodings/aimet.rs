//! AIMET's encodings JSON, versions 0.4.0 to 2.1.0.
//!
//! Up to 1.0.0: codes `u` from 0 to `2^b - 1`, `real = (u + offset) * scale`, the offset of signed tensors too
//! (`aimet_onnx` 2.42.0 `_encoding.py`). From 2.0.0: `real = (q - y_zero_point) * y_scale`, `q` in the range of
//! `output_dtype`, and one list for activations and parameters.

use super::scheme::{self, Arithmetic, Codes, Scheme};
use super::tree::Tree;
use super::{Format, Parsed, Place, Role};

/// Versions that are read, as their files name them.
const VERSIONS: [&str; 6] = ["0.4.0", "0.5.0", "0.6.1", "1.0.0", "2.0.0", "2.1.0"];

/// Reads a file.
pub(super) fn encodings(tree: &Tree) -> Result<Parsed, String> {
    let version = version(tree)?;
    let mut parsed = Parsed::new(Format::Aimet(version));
    if let Some(list) = tree.get("encodings") {
        let list = list.list().ok_or("'encodings' is not a list")?;
        for (index, item) in list.iter().enumerate() {
            let name =
                name(item).ok_or_else(|| format!("entry {index} of 'encodings' has no name"))?;
            let scheme = onnx_style(item).map_err(|what| format!("tensor '{name}': {what}"))?;
            parsed.push_maybe(Place::Tensor(name), scheme, Role::Either);
        }
        return Ok(parsed);
    }
    for (section, role) in [
        ("activation_encodings", Role::Activation),
        ("param_encodings", Role::Parameter),
    ] {
        match tree.get(section) {
            None | Some(Tree::Null) => {}
            Some(Tree::Map(entries)) => {
                for (name, value) in entries {
                    let items = match value {
                        Tree::List(items) => &items[..],
                        single => std::slice::from_ref(single),
                    };
                    let scheme = listed(items, name, &mut parsed.warnings)
                        .map_err(|what| format!("tensor '{name}': {what}"))?;
                    parsed.push(Place::Tensor(name.clone()), scheme, role);
                }
            }
            Some(Tree::List(items)) => {
                for (index, item) in items.iter().enumerate() {
                    let name = name(item)
                        .ok_or_else(|| format!("entry {index} of '{section}' has no name"))?;
                    let scheme = named(item).map_err(|what| format!("tensor '{name}': {what}"))?;
                    parsed.push(Place::Tensor(name), scheme, role);
                }
            }
            Some(_) => return Err(format!("'{section}' is neither a list nor an object")),
        }
    }
    Ok(parsed)
}

/// The version that the file states, or that its form shows (0.4.0 has no key).
fn version(tree: &Tree) -> Result<&'static str, String> {
    if let Some(stated) = tree.get("version") {
        let stated = stated.text().ok_or("'version' is not text")?;
        return VERSIONS.into_iter().find(|v| *v == stated).ok_or_else(|| {
            format!(
                "AIMET encodings of version '{stated}'; known: {}",
                VERSIONS.join(", ")
            )
        });
    }
    let list = |key: &str| matches!(tree.get(key), Some(Tree::List(_)));
    Ok(if tree.get("encodings").is_some() {
        "2.0.0"
    } else if list("activation_encodings") || list("param_encodings") {
        "1.0.0"
    } else {
        "0.4.0"
    })
}

fn name(item: &Tree) -> Option<String> {
    Some(item.get("name")?.text()?.to_owned())
}

/// 0.4.0 to 0.6.1: a list of encodings, one a channel.
fn listed(items: &[Tree], name: &str, warnings: &mut Vec<String>) -> Result<Scheme, String> {
    let first = items.first().ok_or("an empty list of encodings")?;
    let bits = first.need("bitwidth", "a number", Tree::number)?;
    let dtype = first.may("dtype", "text", |t| t.text().map(str::to_owned))?;
    if dtype.is_some_and(|d| d.eq_ignore_ascii_case("float")) {
        return Ok(Scheme::Float(bits as u32));
    }
    let bits = scheme::bits(bits)?;
    let symmetric = first
        .may("is_symmetric", "true or false", Tree::truth)?
        .unwrap_or(false);
    let (mut scales, mut offsets, mut corrected) = (Vec::new(), Vec::new(), None);
    for item in items {
        let same = scheme::bits(item.need("bitwidth", "a number", Tree::number)?)? == bits
            && item
                .may("is_symmetric", "true or false", Tree::truth)?
                .unwrap_or(false)
                == symmetric;
        if !same {
            return Err("channels of different widths or symmetry".into());
        }
        if let Some(refused) = shifted(item)? {
            return Ok(refused);
        }
        let (scale, offset) = channel(item, bits, symmetric, &mut corrected)?;
        scales.push(scale);
        offsets.push(offset);
    }
    if let Some((stated, found)) = corrected {
        warnings.push(format!(
            "tensor '{name}': offset {stated} contradicts min and scale, which give {found}; min and max are trusted"
        ));
    }
    grid(&scales, &offsets, bits, symmetric)
}

/// Scale and offset of one channel; min and max are trusted where they contradict the offset.
fn channel(
    item: &Tree,
    bits: u32,
    symmetric: bool,
    corrected: &mut Option<(f64, f64)>,
) -> Result<(f64, f64), String> {
    let number = |key: &str| item.may(key, "a number", Tree::number);
    let (scale, offset, min, max) = (
        number("scale")?,
        number("offset")?,
        number("min")?,
        number("max")?,
    );
    let steps = ((1u64 << bits) - 1) as f64;
    let Some((min, max)) = min.zip(max) else {
        let scale = scale.ok_or("neither scale nor min and max")?;
        return Ok((scale, offset.ok_or("a scale without offset or min")?));
    };
    if !(min.is_finite() && max.is_finite() && min <= max) {
        return Err(format!("a range from {min} to {max}"));
    }
    let scale = match scale {
        Some(scale) if !scheme::positive(scale) => {
            return Err(format!("a scale of {scale}, not a positive number"));
        }
        // Strict symmetric grids have one step less, so a quarter of a step a code tells the two from an error.
        Some(scale) if ((max - min) / scale - steps).abs() > 1.25 => {
            return Err(format!(
                "a scale of {scale}, but min {min} and max {max} are {} steps of it, not {steps}",
                (max - min) / scale
            ));
        }
        Some(scale) => scale,
        None => (max - min) / steps,
    };
    // C's round: half away from zero (quic/aimet DlQuantization quantization_utils.cpp).
    let found = (min / scale).round();
    match offset {
        // Strict symmetric: the file's min and max may be those of the full range.
        Some(stated) if symmetric && stated == -((1i64 << (bits - 1)) as f64) + 1.0 => {
            Ok((scale, stated))
        }
        Some(stated) if stated != found => {
            corrected.get_or_insert((stated, found));
            Ok((scale, found))
        }
        _ => Ok((scale, found)),
    }
}

/// 1.0.0: one object a tensor.
fn named(item: &Tree) -> Result<Scheme, String> {
    let text = |key: &str| item.may(key, "text", |t| t.text().map(str::to_owned));
    let bits = item.need("bw", "a number", Tree::number)?;
    if text("dtype")?.is_some_and(|d| d.eq_ignore_ascii_case("FLOAT")) {
        return Ok(Scheme::Float(bits as u32));
    }
    match text("enc_type")?.as_deref() {
        None | Some("PER_TENSOR" | "PER_CHANNEL") => {}
        Some(kind) => return Ok(Scheme::Refused(format!("encodings of type {kind}"))),
    }
    if let Some(refused) = shifted(item)? {
        return Ok(refused);
    }
    let numbers = |key| item.need(key, "numbers", Tree::numbers);
    let symmetric = item.need("is_sym", "true or false", Tree::truth)?;
    grid(
        &numbers("scale")?,
        &numbers("offset")?,
        scheme::bits(bits)?,
        symmetric,
    )
}

/// A shift of half a step puts no code at zero.
fn shifted(item: &Tree) -> Result<Option<Scheme>, String> {
    let shifts = item
        .may("zero_point_shift", "numbers", Tree::numbers)?
        .unwrap_or_default();
    Ok(shifts
        .iter()
        .any(|&s| s != 0.0)
        .then(|| Scheme::Refused("a zero_point_shift".into())))
}

/// Scales and offsets on the unsigned grid as a quantizer: signed where the tensor is symmetric and has an offset.
fn grid(scales: &[f64], offsets: &[f64], bits: u32, symmetric: bool) -> Result<Scheme, String> {
    let half = (1i64 << (bits - 1)) as f64;
    let all = |wanted: f64| offsets.iter().all(|&o| o == wanted);
    if offsets
        .iter()
        .any(|o| !(-(2.0 * half - 1.0)..=0.0).contains(o))
    {
        return Err(format!(
            "offsets {offsets:?} outside {} to 0",
            1.0 - 2.0 * half
        ));
    }
    let (codes, zero_points) = if symmetric && all(1.0 - half) {
        // Strict symmetric: the top code is unused, zero is the middle.
        (Codes::narrow(bits), vec![0.0])
    } else if symmetric && !all(0.0) {
        (
            Codes::signed(bits),
            offsets.iter().map(|o| -(o + half)).collect(),
        )
    } else {
        (Codes::unsigned(bits), offsets.iter().map(|o| -o).collect())
    };
    scheme::affine(scales, &zero_points, codes, Arithmetic::Aimet).map(Scheme::Affine)
}

/// 2.0.0 and 2.1.0.
fn onnx_style(item: &Tree) -> Result<Scheme, String> {
    let dtype = item.need("output_dtype", "text", |t| t.text().map(str::to_owned))?;
    let (signed, digits) = match (dtype.strip_prefix("uint"), dtype.strip_prefix("int")) {
        (Some(digits), _) => (false, digits),
        (None, Some(digits)) => (true, digits),
        _ => {
            let digits = dtype.trim_start_matches(|c: char| !c.is_ascii_digit());
            return if dtype.starts_with("float") || dtype.starts_with("bfloat") {
                Ok(Scheme::Float(digits.parse().unwrap_or(32)))
            } else {
                Err(format!("an output_dtype '{dtype}'"))
            };
        }
    };
    let bits = scheme::bits(
        digits
            .parse()
            .map_err(|_| format!("an output_dtype '{dtype}'"))?,
    )?;
    let blocks = ["per_block_int_scale", "per_channel_float_scale"];
    let block_size = item.may("block_size", "a number", Tree::number)?;
    let nested = |t: &Tree| match t {
        Tree::Map(_) => true,
        Tree::List(items) => items.iter().any(|i| i.list().is_some()),
        _ => false,
    };
    if blocks.iter().any(|key| item.get(key).is_some())
        || block_size.is_some_and(|size| size != 0.0)
        || item.get("y_scale").is_some_and(nested)
    {
        return Ok(Scheme::Refused(
            "a scale for each block (LPBQ, PER_BLOCK)".into(),
        ));
    }
    let scales = item.need("y_scale", "numbers", Tree::numbers)?;
    let zero_points = item
        .may("y_zero_point", "numbers", Tree::numbers)?
        .unwrap_or_else(|| vec![0.0]);
    let fractional = |z: &&f64| z.fract() != 0.0 && z.is_finite();
    if let Some(bad) = zero_points.iter().find(fractional) {
        return Ok(Scheme::Refused(format!(
            "a y_zero_point of {bad} between two codes"
        )));
    }
    let codes = if signed {
        Codes::signed(bits)
    } else {
        Codes::unsigned(bits)
    };
    let mut affine = scheme::affine(&scales, &zero_points, codes, Arithmetic::Aimet)?;
    if let Some(axis) = item.may("axis", "a number", Tree::number)? {
        // A negative axis counts from the end: the reader of the tensor tells it then.
        let axis = (axis >= 0.0 && axis.fract() == 0.0 && axis < 16.0).then_some(axis as usize);
        if scales.len() > 1 {
            affine.scale.axis = axis;
        }
        if zero_points.len() > 1 {
            affine.zero_point.axis = axis;
        }
    }
    Ok(Scheme::Affine(affine))
}
