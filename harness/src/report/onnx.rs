//! The model with the activations of the first sample in it, for viewers such as Netron.
//!
//! The file is the model's own bytes with more nodes behind the graph's: for each compared layer of each target one node
//! of the domain `align_check`, named by its verdict, that reads the layer's tensor and two stored tensors, the expected
//! one and the target's. A viewer draws such a node beside the layer, shows its attributes, and opens the stored tensors
//! (`lutzroeder/netron:source/onnx.js`, `onnx.Node`, `onnx.Value.initializer`). It is a picture: no runtime knows these
//! nodes; without them the model is what it was.
//!
//! The graph is a field of the model's message, and the message's other bytes are copied as they are: nothing is lost
//! that this program does not know. Field numbers: `onnx/onnx:onnx/onnx.proto`.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Result, anyhow, bail};

use super::text::visible;
use super::view;
use crate::outcome::{LayerOutcome, Numbers, Outcome, TargetOutcome, Verdict};

/// The domain of the nodes.
const DOMAIN: &str = "align_check";

/// `ModelProto.graph` and `.opset_import`.
const GRAPH: u32 = 7;
const OPSET_IMPORT: u32 = 8;
/// `NodeProto.name`.
const NAME: u32 = 3;
/// `GraphProto.node` and `.initializer`.
const NODE: u32 = 1;
const INITIALIZER: u32 = 5;

/// The outcome inside the model's file.
///
/// # Errors
/// One line that names the model's file: it cannot be read (or changed since it was checked), holds such nodes already,
/// or would become larger than a protobuf message may be.
pub fn onnx(outcome: &Outcome) -> Result<Vec<u8>> {
    let path = visible(&outcome.model.path);
    let bytes = fs::read(&outcome.model.path).map_err(|e| anyhow!("{path}: {e}"))?;
    if crate::digest::of_bytes(&bytes) != outcome.model.sha256 {
        bail!("{path}: the file changed while it was checked");
    }
    into(&bytes, &added(outcome)).map_err(|what| anyhow!("{path}: {what}"))
}

/// Where the message of each named node lies in a model's file: its first byte, and how many. Two nodes of one name have
/// none.
pub(super) fn nodes(model: &[u8]) -> BTreeMap<&str, (usize, usize)> {
    let mut found = BTreeMap::new();
    for graph in fields(model, 0, model.len(), GRAPH) {
        for node in fields(model, graph.0, graph.1, NODE) {
            let name = fields(model, node.0, node.1, NAME).last();
            let name = name.and_then(|(at, size)| std::str::from_utf8(&model[at..at + size]).ok());
            if let Some(name) = name.filter(|name| !name.is_empty()) {
                let twice = found.contains_key(name);
                found.insert(name, Some(node).filter(|_| !twice));
            }
        }
    }
    found
        .into_iter()
        .filter_map(|(name, node)| Some((name, node?)))
        .collect()
}

/// The fields of one number in the message of `size` bytes at `at`: where the content of each lies.
fn fields(
    model: &[u8],
    mut at: usize,
    size: usize,
    number: u32,
) -> impl Iterator<Item = (usize, usize)> {
    let end = at + size;
    std::iter::from_fn(move || {
        while at < end {
            let field = Field::read(&model[at..end])?;
            at += field.all.len();
            if field.number == number {
                return Some((at - field.content.len(), field.content.len()));
            }
        }
        None
    })
}

/// The fields that come into the graph.
fn added(outcome: &Outcome) -> Vec<u8> {
    let mut out = Vec::new();
    for target in &outcome.targets {
        for (number, layer) in target.layers.iter().enumerate() {
            of_layer(&mut out, target, layer, number);
        }
    }
    out
}

/// Adds fields to the graph of a model.
fn into(model: &[u8], added: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(model.len() + added.len() + 64);
    let mut graphs = 0;
    let mut rest = model;
    while !rest.is_empty() {
        let field = Field::read(rest).ok_or("its message is damaged")?;
        match field.number {
            GRAPH => {
                graphs += 1;
                let size = field.content.len() + added.len();
                if size >= (1 << 31) {
                    return Err("with the activations it exceeds the 2 GiB of a protobuf message: choose fewer layers with --layers".into());
                }
                key(&mut out, GRAPH, LENGTH);
                varint(&mut out, size as u64);
                out.extend_from_slice(field.content);
                out.extend_from_slice(added);
            }
            OPSET_IMPORT if domain(field.content) == Some(DOMAIN.as_bytes()) => {
                return Err(
                    "it holds activations of align-check already: check the model without them"
                        .into(),
                );
            }
            _ => out.extend_from_slice(field.all),
        }
        rest = &rest[field.all.len()..];
    }
    if graphs != 1 {
        return Err(format!("its message has {graphs} graphs, not one"));
    }
    let mut import = Vec::new();
    text(&mut import, 1, DOMAIN);
    key(&mut import, 2, VARINT);
    varint(&mut import, 1);
    message(&mut out, OPSET_IMPORT, &import);
    Ok(out)
}

/// The node of a layer, and the tensors that it reads.
fn of_layer(out: &mut Vec<u8>, target: &TargetOutcome, layer: &LayerOutcome, number: usize) {
    let name = format!("{DOMAIN}/{}/{number}", target.name);
    let mut node = Vec::new();
    text(&mut node, 1, &layer.tensor);
    if let Some(kept) = &layer.kept {
        for (side, numbers) in [("expected", &kept.expected), ("got", &kept.got)] {
            let name = format!("{name}/{side}");
            text(&mut node, 1, &name);
            message(out, INITIALIZER, &tensor(&name, &kept.shape, numbers));
        }
    }
    text(&mut node, 3, &name);
    text(&mut node, 4, &operator(layer.verdict));
    let mut strings = vec![
        ("target", target.name.clone()),
        ("verdict", layer.verdict.text().to_owned()),
        ("layer", layer.name.clone()),
        ("grade", layer.grade.clone()),
    ];
    if let Some(stats) = view::decisive(layer) {
        strings.push(("differing", view::share(stats)));
        strings.push(("max", view::difference(stats.max_lsb, layer.lsb.is_some())));
    }
    if let Some(cause) = &layer.cause {
        strings.push(("cause", format!("{}: {}", view::cause(cause), cause.text)));
    }
    if let Some(witness) = &layer.witness {
        strings.push(("witness", view::witness(witness)));
    }
    strings.extend(view::absent(layer).map(|why| ("absent", why)));
    for (name, value) in strings {
        let mut attribute = Vec::new();
        text(&mut attribute, 1, name);
        text(&mut attribute, 4, &value);
        // AttributeProto.STRING.
        key(&mut attribute, 20, VARINT);
        varint(&mut attribute, 3);
        message(&mut node, 5, &attribute);
    }
    text(&mut node, 7, DOMAIN);
    message(out, NODE, &node);
}

/// A verdict as an operator's name: `AlignedTested`.
fn operator(verdict: Verdict) -> String {
    let words = verdict.text().split(|c: char| !c.is_alphanumeric());
    words
        .filter_map(|word| {
            let (first, rest) = word.split_at_checked(1)?;
            Some(first.to_uppercase() + rest)
        })
        .collect()
}

/// A `TensorProto`: codes in the smallest integer type that holds them, reals in `float` where it does.
fn tensor(name: &str, shape: &[usize], numbers: &Numbers) -> Vec<u8> {
    let mut out = Vec::new();
    for &extent in shape {
        key(&mut out, 1, VARINT);
        varint(&mut out, extent as u64);
    }
    // TensorProto.DataType.
    let (kind, raw): (u64, Vec<u8>) = match numbers {
        Numbers::Codes(codes) => {
            let all = |low: i32, high: i32| codes.iter().all(|code| (low..=high).contains(code));
            if all(-128, 127) {
                (3, codes.iter().map(|&code| code as i8 as u8).collect())
            } else if all(0, 255) {
                (2, codes.iter().map(|&code| code as u8).collect())
            } else {
                (
                    6,
                    codes.iter().flat_map(|code| code.to_le_bytes()).collect(),
                )
            }
        }
        Numbers::Reals(reals) => {
            let fits = |&real: &f64| real.is_nan() || f64::from(real as f32) == real;
            if reals.iter().all(fits) {
                let bytes = reals.iter().flat_map(|&real| (real as f32).to_le_bytes());
                (1, bytes.collect())
            } else {
                (
                    11,
                    reals.iter().flat_map(|real| real.to_le_bytes()).collect(),
                )
            }
        }
    };
    key(&mut out, 2, VARINT);
    varint(&mut out, kind);
    text(&mut out, 8, name);
    message(&mut out, 9, &raw);
    out
}

/// The domain of an `OperatorSetIdProto`.
fn domain(mut bytes: &[u8]) -> Option<&[u8]> {
    while !bytes.is_empty() {
        let field = Field::read(bytes)?;
        if field.number == 1 {
            return Some(field.content);
        }
        bytes = &bytes[field.all.len()..];
    }
    None
}

// Protobuf's wire format: https://protobuf.dev/programming-guides/encoding/.

const VARINT: u32 = 0;
const LENGTH: u32 = 2;

/// A field of a message.
struct Field<'a> {
    number: u32,
    /// What it holds; empty for numbers.
    content: &'a [u8],
    /// With key and length.
    all: &'a [u8],
}

impl<'a> Field<'a> {
    /// The first field of some bytes; `None` where they are damaged.
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut at = 0;
        let key = read_varint(bytes, &mut at)?;
        let mut start = at;
        let end = match key & 7 {
            0 => {
                read_varint(bytes, &mut at)?;
                start = at;
                at
            }
            1 => at.checked_add(8)?,
            2 => {
                let size = usize::try_from(read_varint(bytes, &mut at)?).ok()?;
                start = at;
                at.checked_add(size)?
            }
            5 => at.checked_add(4)?,
            _ => return None,
        };
        Some(Self {
            number: u32::try_from(key >> 3).ok()?,
            content: bytes.get(start..end)?,
            all: &bytes[..end],
        })
    }
}

fn read_varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn key(out: &mut Vec<u8>, number: u32, kind: u32) {
    varint(out, u64::from(number << 3 | kind));
}

fn message(out: &mut Vec<u8>, number: u32, content: &[u8]) {
    key(out, number, LENGTH);
    varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

fn text(out: &mut Vec<u8>, number: u32, text: &str) {
    message(out, number, text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_a_model_stays_byte_for_byte() {
        // ir_version 8, producer "p", graph { name "g" }, a field that nobody knows, opset_import { version 17 }.
        let mut model = vec![8, 8, 18, 1, b'p', 58, 3, 18, 1, b'g', 0xfa, 0x7f, 1, 0xff];
        model.extend([66, 2, 16, 17]);
        let out = into(&model, &[10, 0]).expect("a model");
        let mut wanted = model.clone();
        wanted[6] = 5;
        wanted.splice(10..10, [10, 0]);
        assert_eq!(out[..wanted.len()], wanted);
        assert_eq!(out[wanted.len()..][..2], [66, 15]);
        let again = into(&out, &[]).expect_err("its own work");
        assert!(again.contains("already"), "{again}");
        for cut in [1, 4, 8, 12] {
            assert!(into(&model[..cut], &[]).is_err(), "{cut}");
        }
        assert!(into(&[8, 8], &[]).is_err(), "a model without a graph");
    }

    #[test]
    fn numbers_keep_their_values() {
        let kind = |numbers: &Numbers| {
            let bytes = tensor("t", &[2], numbers);
            let mut at = bytes.as_slice();
            let mut raw = 0;
            while let Some(field) = Field::read(at).filter(|_| !at.is_empty()) {
                if field.number == 9 {
                    raw = field.content.len();
                }
                at = &at[field.all.len()..];
            }
            (bytes[3], raw)
        };
        assert_eq!(kind(&Numbers::Codes(vec![-128, 127])), (3, 2));
        assert_eq!(kind(&Numbers::Codes(vec![0, 200])), (2, 2));
        assert_eq!(kind(&Numbers::Codes(vec![-1, 200])), (6, 8));
        assert_eq!(kind(&Numbers::Reals(vec![0.5, f64::NAN])), (1, 8));
        assert_eq!(kind(&Numbers::Reals(vec![0.1, 1.0])), (11, 16));
        assert_eq!(operator(Verdict::Aligned), "AlignedTested");
    }
}
