//! `HiSilicon` NNIE: `.linear.hex` (one 32-bit number in hexadecimal a line, 12 fractional bits) and `.float`.
//!
//! Names of the five stages: `HiSVP` development guide 3.7.3 and 4.5. Contents: hanson-young/nniefacelib
//! `vision/nnie_face_api.c` (N, C, H, W without padding, value = number / 4096).

use std::path::Path;

use align_check_graph::Limits;
use anyhow::{Result, bail};

use super::dump::{Dump, Order};
use crate::files;
use crate::inputs::ArrayKind;

/// Who wrote a dump: the mapper, the instruction and the functional simulator, the board, Caffe.
const STAGES: [&str; 5] = ["quant", "inst", "func", "board", "caffe"];

/// One step of a dumped number: 12 fractional bits (`HiSVP` API reference, SQ20.12).
const STEP: f64 = 1.0 / 4096.0;

/// What a file's name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    /// The layer, with `_output<i>` where it is not its first output.
    pub(crate) layer: String,
    /// One of the five stages.
    pub(crate) stage: &'static str,
    /// Extents behind the samples; empty where the name has none.
    pub(crate) shape: Vec<usize>,
    hex: bool,
}

/// Reads a file's name: `<layer>_output<i>[_<C>_<H>_<W>]_<stage>[.linear].hex|.float`.
pub(crate) fn name(file: &str) -> Option<Name> {
    let (rest, hex) = match file.strip_suffix(".hex") {
        Some(rest) => (rest, true),
        None => (file.strip_suffix(".float")?, false),
    };
    let rest = rest.strip_suffix(".linear").unwrap_or(rest);
    let (rest, stage) = rest.rsplit_once('_')?;
    let stage = *STAGES.iter().find(|known| **known == stage)?;
    let (layer, numbers) = rest.rsplit_once("_output")?;
    let mut numbers = numbers.split('_').map(|n| n.parse::<usize>().ok());
    let output = numbers.next()??;
    let shape = numbers.collect::<Option<Vec<usize>>>()?;
    let layer = match output {
        0 => layer.to_owned(),
        output => format!("{layer}_output{output}"),
    };
    Some(Name {
        layer,
        stage,
        shape,
        hex,
    })
}

/// Whether a file belongs to an NNIE dump, a layer's output or not (`_weight.hex`, `.nonlinear.hex`, ...).
pub(crate) fn belongs(file: &str) -> bool {
    matches!(file.rsplit_once('.'), Some((_, "hex" | "float")))
}

/// Reads a file whose name is understood.
///
/// # Errors
/// One line that names the file and the line of it.
pub(crate) fn read(path: &Path, name: Name, limits: &Limits) -> Result<Dump> {
    let text = files::text(path, limits)?;
    let mut values = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for word in line.split_whitespace() {
            let value = if name.hex { fixed(word) } else { float(word) };
            let Some(value) = value else {
                let what = if name.hex {
                    "8 hexadecimal digits"
                } else {
                    "a number"
                };
                bail!(
                    "{}: line {}: '{word}' is not {what}: damaged or cut off",
                    path.display(),
                    number + 1
                );
            };
            values.push(value);
        }
    }
    let volume = name.shape.iter().try_fold(1usize, |n, &e| n.checked_mul(e));
    let fits = volume.is_some_and(|v| v > 0 && values.len().is_multiple_of(v));
    if values.is_empty() || !fits {
        bail!(
            "{}: holds {} numbers, which its name's shape {:?} does not divide: damaged or cut off",
            path.display(),
            values.len(),
            name.shape
        );
    }
    let count = values.len();
    let mut dump = Dump::new(name.layer, path.to_owned(), values, ArrayKind::Float);
    if !name.shape.is_empty() {
        let mut shape = name.shape;
        shape.insert(0, count / volume.unwrap_or(1));
        dump.shape = Some(shape);
    }
    dump.order = Some(Order::Nchw);
    dump.fused = true;
    Ok(dump)
}

/// `%08x` of an `int32`.
fn fixed(word: &str) -> Option<f64> {
    let digits = word.strip_prefix("0x").unwrap_or(word);
    if digits.len() != 8 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let bits = u32::from_str_radix(digits, 16).ok()?;
    Some(f64::from(bits as i32) * STEP)
}

fn float(word: &str) -> Option<f64> {
    word.parse::<f32>().ok().map(f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_stages_are_read() {
        let read = |file: &str| {
            let name = name(file).unwrap_or_else(|| panic!("{file}"));
            (name.layer, name.stage, name.shape, name.hex)
        };
        assert_eq!(
            read("conv1_output0_16_32_24_quant.linear.hex"),
            ("conv1".to_owned(), "quant", vec![16, 32, 24], true)
        );
        assert_eq!(
            read("a_output_b_output1_10_1_1_caffe.linear.float"),
            (
                "a_output_b_output1".to_owned(),
                "caffe",
                vec![10, 1, 1],
                false
            )
        );
        for stage in ["inst", "func", "board"] {
            let file = format!("seg0_layer12_output0_{stage}.linear.hex");
            assert_eq!(
                read(&file),
                ("seg0_layer12".to_owned(), stage, vec![], true)
            );
        }
        assert_eq!(
            read("fc_output0_10_caffe.float"),
            ("fc".to_owned(), "caffe", vec![10], false)
        );
        for other in [
            "conv1_weight.hex",
            "conv1_output0_16_32_24_quant.nonlinear.hex",
            "conv1_output_quant.linear.hex",
            "conv1_output0_16_x_24_quant.linear.hex",
            "output0_quant.hex",
            "",
        ] {
            assert_eq!(name(other), None, "{other}");
        }
    }

    #[test]
    fn numbers_are_signed_and_have_twelve_fractional_bits() {
        assert_eq!(fixed("00001000"), Some(1.0));
        assert_eq!(fixed("fffff800"), Some(-0.5));
        assert_eq!(fixed("7FFFFFFF"), Some(f64::from(i32::MAX) / 4096.0));
        for bad in ["1000", "000010000", "0000100g", "+0001000", ""] {
            assert_eq!(fixed(bad), None, "{bad}");
        }
    }
}
