//! AMD Vitis AI `deploy_check_data_int/<subgraph>/` (and `..._float`): what the quantizer's integer run made.
//!
//! Source: Xilinx/Vitis-AI `vai_q_pytorch/nndct_shared/compile/deploy_checker.py`: `<node>_fix.bin` is a
//! node's quantized output, `<node>_pre_fix_i<k>.bin` its quantized input, `<node>.bin` the same as `float32`;
//! every character outside `[0-9A-Za-z]` is `_`; `shape.txt` holds `<shape>: <node>`; 8 bits are `int8`, more
//! are `int16`, 4 bits are packed with the first number in the high half. `.txt` files hold one number a line.

use std::collections::HashMap;
use std::path::Path;

use align_check_graph::Limits;
use anyhow::{Result, anyhow, bail};

use super::dump::{Dump, Found, Order, decode, type_of};
use crate::files;
use crate::inputs::ArrayKind;

/// What stands beside the files of a folder.
#[derive(Debug, Default)]
pub(crate) struct Folder {
    /// Sanitized name to the node's name and its extents.
    shapes: HashMap<String, (String, Vec<usize>)>,
    /// Sanitized name to bits and position of the binary point.
    points: HashMap<String, (u32, i32)>,
    limits: Limits,
}

/// Whether a folder's files are such a dump.
pub(crate) fn is_dump(files: &[String]) -> bool {
    files
        .iter()
        .any(|file| file == "shape.txt" || file.ends_with("_fix.bin") || file.ends_with("_fix.txt"))
}

impl Folder {
    /// Reads `shape.txt`, and `quant_info.json` here or above.
    ///
    /// # Errors
    /// One line that names the file.
    pub(crate) fn open(path: &Path, limits: &Limits) -> Result<Self> {
        let mut folder = Self {
            limits: limits.clone(),
            ..Self::default()
        };
        let shapes = path.join("shape.txt");
        if shapes.is_file() {
            let text = files::text(&shapes, limits)?;
            for (number, line) in text
                .lines()
                .enumerate()
                .filter(|(_, l)| !l.trim().is_empty())
            {
                let (extents, node) = shape(line).ok_or_else(|| {
                    anyhow!(
                        "{}: line {}: expected '[extents]: node'",
                        shapes.display(),
                        number + 1
                    )
                })?;
                // A node's first output is the one that is dumped.
                let entry = folder.shapes.entry(sanitized(&node));
                entry.or_insert((node, extents));
            }
        }
        let above = path.ancestors().take(3).map(|p| p.join("quant_info.json"));
        if let Some(info) = above.into_iter().find(|p| p.is_file()) {
            folder.points = points(&info, limits)?;
        }
        Ok(folder)
    }

    /// Reads the files of the folder.
    ///
    /// # Errors
    /// One line that names the file.
    pub(crate) fn read(&self, path: &Path, files: &[String], dtype: Option<&str>) -> Result<Found> {
        let mut found = Found::default();
        let parts = |file: &str| -> Option<(String, String)> {
            let (stem, end) = file.rsplit_once('.')?;
            let known = matches!(end, "bin" | "txt") && file != "shape.txt";
            known.then(|| (stem.to_owned(), end.to_owned()))
        };
        let quantized: Vec<&str> = files
            .iter()
            .filter_map(|f| {
                f.strip_suffix("_fix.bin")
                    .or_else(|| f.strip_suffix("_fix.txt"))
            })
            .collect();
        for file in files {
            let Some((stem, end)) = parts(file) else {
                continue;
            };
            if stem
                .rsplit_once("_pre_fix_i")
                .is_some_and(|(_, k)| k.bytes().all(|b| b.is_ascii_digit()))
            {
                found
                    .ignored
                    .push(format!("{file}: a node's quantized input"));
                continue;
            }
            let (node, fixed) = match stem.strip_suffix("_fix") {
                Some(node) => (node.to_owned(), true),
                None => (stem, false),
            };
            if !fixed && quantized.contains(&node.as_str()) {
                // The same node as reals; the codes are read.
                continue;
            }
            let dump = self.dump(&path.join(file), &node, fixed, end == "txt", dtype)?;
            found.dumps.push(dump);
        }
        Ok(found)
    }

    fn dump(
        &self,
        path: &Path,
        node: &str,
        fixed: bool,
        text: bool,
        dtype: Option<&str>,
    ) -> Result<Dump> {
        let (name, shape) = match self.shapes.get(node) {
            Some((name, shape)) => (name.clone(), Some(shape.clone())),
            None => (node.to_owned(), None),
        };
        let count = shape.as_ref().map(|s| s.iter().product::<usize>());
        let point = self.points.get(node).copied();
        let (values, kind) = if text {
            let kind = if fixed {
                ArrayKind::Signed(16)
            } else {
                ArrayKind::Float
            };
            (numbers(path, &self.limits)?, kind)
        } else {
            let bytes = files::bytes(path, &self.limits)?;
            match (fixed, dtype.and_then(type_of)) {
                (false, _) => (decode(&bytes, ArrayKind::Float, 4), ArrayKind::Float),
                (true, Some((kind, size))) => (decode(&bytes, kind, size), kind),
                (true, None) => codes(&bytes, count, point.map(|(bits, _)| bits)),
            }
        };
        if values.is_empty() {
            bail!("{}: holds no number", path.display());
        }
        if let Some(count) = count.filter(|&count| count != values.len()) {
            bail!(
                "{}: holds {} numbers, and shape.txt says {count}: damaged or cut off",
                path.display(),
                values.len()
            );
        }
        let mut dump = Dump::new(name, path.to_owned(), values, kind);
        dump.shape = shape;
        dump.order = Some(Order::Nhwc);
        dump.fused = true;
        dump.fix_point = point.filter(|_| fixed).map(|(_, point)| point);
        Ok(dump)
    }
}

/// What a name becomes in a file's name.
pub(crate) fn sanitized(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    name.chars().map(plain).collect()
}

/// Codes whose width the shape, or the position of the binary point, tells; else `int8`.
fn codes(bytes: &[u8], count: Option<usize>, bits: Option<u32>) -> (Vec<f64>, ArrayKind) {
    let is = |n: Option<usize>| count.is_some() && count == n;
    if is(Some(bytes.len() / 2)) && bytes.len().is_multiple_of(2)
        || (count.is_none() && bits > Some(8))
    {
        return (
            decode(bytes, ArrayKind::Signed(16), 2),
            ArrayKind::Signed(16),
        );
    }
    let packed = count.is_some_and(|n| n != bytes.len() && n.div_ceil(2) == bytes.len());
    if packed || (count.is_none() && bits == Some(4)) {
        let halves = |&byte: &u8| [byte as i8 >> 4, ((byte << 4) as i8) >> 4].map(f64::from);
        let mut values: Vec<f64> = bytes.iter().flat_map(halves).collect();
        values.truncate(count.unwrap_or(values.len()));
        return (values, ArrayKind::Signed(8));
    }
    (decode(bytes, ArrayKind::Signed(8), 1), ArrayKind::Signed(8))
}

fn numbers(path: &Path, limits: &Limits) -> Result<Vec<f64>> {
    let text = files::text(path, limits)?;
    let mut values = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for word in line.split_whitespace() {
            let value: f32 = word.parse().map_err(|_| {
                anyhow!(
                    "{}: line {}: '{word}' is no number",
                    path.display(),
                    number + 1
                )
            })?;
            values.push(f64::from(value));
        }
    }
    Ok(values)
}

/// `[1, 8, 4, 4]: node`.
fn shape(line: &str) -> Option<(Vec<usize>, String)> {
    let (extents, node) = line.trim().split_once(':')?;
    let extents = extents.trim().trim_matches(['[', ']', '(', ')']);
    let extents = extents
        .split(',')
        .map(str::trim)
        .filter(|e| !e.is_empty())
        .map(|e| e.parse().ok())
        .collect::<Option<Vec<usize>>>()?;
    extents.iter().try_fold(1usize, |n, &e| n.checked_mul(e))?;
    let node = node.trim();
    (!node.is_empty()).then(|| (extents, node.to_owned()))
}

/// `quant_info.json`: `{"output": {node: [[bits, position]]}}`.
fn points(path: &Path, limits: &Limits) -> Result<HashMap<String, (u32, i32)>> {
    let text = files::text(path, limits)?;
    let info: serde_json::Value =
        serde_json::from_str(&text).map_err(|e| anyhow!("{}: {e}", path.display()))?;
    let Some(outputs) = info.get("output").and_then(|o| o.as_object()) else {
        return Ok(HashMap::new());
    };
    let point = |entry: &serde_json::Value| {
        let first = entry.get(0)?;
        let bits = u32::try_from(first.get(0)?.as_u64()?).ok()?;
        let point = i32::try_from(first.get(1)?.as_i64()?).ok()?;
        Some((bits, point))
    };
    Ok(outputs
        .iter()
        .filter_map(|(node, entry)| Some((sanitized(node), point(entry)?)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_follow_from_the_shape() {
        assert_eq!(codes(&[0xff, 2], Some(2), None).0, [-1.0, 2.0]);
        assert_eq!(codes(&[0xff, 0xff], Some(1), None).0, [-1.0]);
        assert_eq!(codes(&[0x1f, 0x80], Some(3), None).0, [1.0, -1.0, -8.0]);
        assert_eq!(
            codes(&[0x1f, 0x87], Some(4), None).0,
            [1.0, -1.0, -8.0, 7.0]
        );
        assert_eq!(codes(&[0x1f], None, Some(4)).0, [1.0, -1.0]);
        assert_eq!(codes(&[1, 0], None, Some(16)).0, [1.0]);
        assert_eq!(codes(&[1, 0], None, None).0, [1.0, 0.0]);
    }

    #[test]
    fn shapes_are_read_with_names_that_hold_colons() {
        let read = shape("[1, 8, 4, 4]: Net::Net/Conv2d[conv1]/ret.3");
        assert_eq!(
            read,
            Some((vec![1, 8, 4, 4], "Net::Net/Conv2d[conv1]/ret.3".to_owned()))
        );
        assert_eq!(
            sanitized("Net::Net/Conv2d[conv1]/ret.3"),
            "Net__Net_Conv2d_conv1__ret_3"
        );
        assert_eq!(shape("[1, x]: a"), None);
        assert_eq!(shape("1, 2"), None);
    }
}
