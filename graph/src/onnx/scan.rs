//! Counts the messages of a file before it is decoded.
//!
//! An empty message is two bytes on disk and up to some hundred bytes in memory, so that a file within
//! the size limit could still ask for hundreds of gigabytes. The count bounds that.

use super::fail::{Outcome, malformed};

/// Messages whose fields are walked; others are counted and skipped.
#[derive(Clone, Copy)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    Annotation,
}

/// The kind of a field, by the numbers in `proto-gen/onnx.proto`.
fn child(kind: Kind, field: u64) -> Option<Kind> {
    Some(match (kind, field) {
        (Kind::Model, 7) => Kind::Graph,
        (Kind::Graph, 1) => Kind::Node,
        (Kind::Graph | Kind::Attribute, 5) => Kind::Tensor,
        (Kind::Graph, 11 | 12) => Kind::ValueInfo,
        (Kind::Graph, 14) => Kind::Annotation,
        (Kind::Node, 5) => Kind::Attribute,
        (Kind::ValueInfo, 2) => Kind::Type,
        (Kind::Type, 1) => Kind::TensorType,
        (Kind::TensorType, 2) => Kind::Shape,
        _ => return None,
    })
}

/// Fails where an ONNX file holds more than `most` length-delimited fields.
pub(super) fn check(bytes: &[u8], most: usize) -> Outcome<()> {
    count(bytes, most, Kind::Model, child)
}

/// The same for a file of any schema: `root` is the kind of the whole file, `child` that of a field, where
/// its fields are to be walked too. A file that is no protobuf at all passes: decoding says what is wrong
/// with it.
pub(crate) fn count<K: Copy>(
    bytes: &[u8],
    most: usize,
    root: K,
    child: impl Fn(K, u64) -> Option<K>,
) -> Outcome<()> {
    let mut open = vec![(bytes, root)];
    let mut count = 0usize;
    while let Some((mut rest, kind)) = open.pop() {
        while let Some(key) = varint(&mut rest) {
            let length = match key & 7 {
                0 => {
                    if varint(&mut rest).is_none() {
                        break;
                    }
                    continue;
                }
                1 => 8,
                2 => varint(&mut rest).unwrap_or(u64::MAX),
                5 => 4,
                _ => break,
            };
            let Some((field, after)) = usize::try_from(length)
                .ok()
                .and_then(|n| rest.split_at_checked(n))
            else {
                break;
            };
            rest = after;
            if key & 7 != 2 {
                continue;
            }
            count += 1;
            if count > most {
                return malformed(format!(
                    "the file holds more than {most} messages, more than its limit on nodes allows for (--max-nodes)"
                ));
            }
            if let Some(kind) = child(kind, key >> 3) {
                open.push((field, kind));
            }
        }
    }
    Ok(())
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}
