//! `TensorProto` to constants: every element type that files use, in `raw_data`, in the typed fields
//! and outside the file, with each length checked before anything is allocated.

use std::borrow::Cow;
use std::sync::Arc;

use half::{bf16, f16};

use super::external::ExternalFiles;
use super::fail::{Outcome, malformed, unsupported};
use super::grid::{Codes, Integer};
use super::proto::TensorProto;
use super::proto::tensor_proto::{DataLocation, DataType};
use crate::{Constant, Limits};

/// A constant with its shape.
#[derive(Debug, Clone)]
pub(crate) struct Tensor {
    pub shape: Vec<usize>,
    pub data: Arc<Constant>,
    /// What its integers mean.
    pub(crate) codes: Codes,
}

impl Tensor {
    /// Contents that are shared; nothing is known of their codes.
    pub fn shared(shape: Vec<usize>, data: Arc<Constant>) -> Self {
        Self {
            shape,
            data,
            codes: Codes::default(),
        }
    }

    pub(crate) fn new(shape: Vec<usize>, data: Constant) -> Self {
        Self {
            shape,
            data: Arc::new(data),
            codes: Codes::default(),
        }
    }

    /// The same contents, known to be integers of some type.
    pub(crate) fn of(self, integer: Option<Integer>) -> Self {
        Self {
            codes: Codes {
                integer,
                ..Codes::default()
            },
            ..self
        }
    }

    pub(super) fn scalar_f32(x: f32) -> Self {
        Self::new(Vec::new(), Constant::F32(vec![x]))
    }

    pub(super) fn scalar_i64(x: i64) -> Self {
        Self::new(Vec::new(), Constant::I64(vec![x]))
    }

    pub(super) fn list_f32(x: Vec<f32>) -> Self {
        Self::new(vec![x.len()], Constant::F32(x))
    }

    pub(super) fn list_i64(x: Vec<i64>) -> Self {
        Self::new(vec![x.len()], Constant::I64(x))
    }
}

/// The number of elements of a shape, within the limits.
pub(crate) fn elements(shape: &[usize], limits: &Limits) -> Outcome<usize> {
    if shape.len() > limits.rank {
        return malformed(format!(
            "a tensor has {} axes, more than the limit of {} ({})",
            shape.len(),
            limits.rank,
            Limits::RANK
        ));
    }
    // A zero anywhere makes the product zero, but the other extents must not be absurd either: code
    // that follows multiplies parts of a shape.
    let mut product: usize = 1;
    for &dim in shape {
        match product.checked_mul(dim.max(1)) {
            Some(next) if next <= limits.tensor_elements => product = next,
            _ => {
                return malformed(format!(
                    "a tensor of shape {shape:?} has more than {} elements, the limit ({})",
                    limits.tensor_elements,
                    Limits::ELEMENTS
                ));
            }
        }
    }
    Ok(if shape.contains(&0) { 0 } else { product })
}

/// Converts a list of signed extents into a shape.
pub(crate) fn shape_from(dims: &[i64], limits: &Limits) -> Outcome<Vec<usize>> {
    if dims.len() > limits.rank {
        return malformed(format!(
            "a tensor has {} axes, more than the limit of {} ({})",
            dims.len(),
            limits.rank,
            Limits::RANK
        ));
    }
    let mut shape = Vec::with_capacity(dims.len());
    for &dim in dims {
        match usize::try_from(dim) {
            Ok(dim) => shape.push(dim),
            Err(_) => return malformed(format!("a tensor's shape {dims:?} has a negative extent")),
        }
    }
    elements(&shape, limits)?;
    Ok(shape)
}

/// Number of elements that a tensor of the file has, without converting it.
pub(super) fn count(tensor: &TensorProto, limits: &Limits) -> Outcome<usize> {
    elements(&shape_from(&tensor.dims, limits)?, limits)
}

/// Converts a tensor of the file. `external` is absent where the file may not refer outside.
pub(crate) fn decode(
    tensor: &TensorProto,
    limits: &Limits,
    external: Option<&mut ExternalFiles>,
) -> Outcome<Tensor> {
    let shape = shape_from(&tensor.dims, limits)?;
    let n = elements(&shape, limits)?;
    let code = tensor.data_type.unwrap_or(0);
    let Ok(kind) = DataType::try_from(code) else {
        return unsupported(format!("its element type {code} is not known"));
    };
    let Some(bits) = bits_of(kind) else {
        return unsupported(format!(
            "its element type {} is not read",
            kind.as_str_name()
        ));
    };
    let bytes = n.saturating_mul(bits).div_ceil(8);
    let raw: Option<Cow<[u8]>> = if tensor.data_location == Some(DataLocation::External as i32) {
        let Some(external) = external else {
            return unsupported("an attribute's tensor lies in another file");
        };
        Some(Cow::Owned(external.read(&tensor.external_data, bytes)?))
    } else {
        // Some writers leave an empty `raw_data` beside the typed field.
        tensor
            .raw_data
            .as_deref()
            .filter(|raw| !raw.is_empty())
            .map(Cow::Borrowed)
    };
    let data = match raw {
        Some(raw) => {
            if raw.len() != bytes {
                return malformed(format!(
                    "it holds {} bytes, but shape {shape:?} of {} needs {bytes}",
                    raw.len(),
                    kind.as_str_name()
                ));
            }
            from_raw(kind, &raw, n)?
        }
        None => from_fields(kind, tensor, n)?,
    };
    Ok(Tensor::new(shape, data).of(Integer::of(kind)))
}

/// Bits of one element in `raw_data`; none for types that are not read.
fn bits_of(kind: DataType) -> Option<usize> {
    Some(match kind {
        DataType::Double | DataType::Int64 | DataType::Uint64 => 64,
        DataType::Float | DataType::Int32 | DataType::Uint32 => 32,
        DataType::Float16 | DataType::Bfloat16 | DataType::Int16 | DataType::Uint16 => 16,
        DataType::Int8 | DataType::Uint8 | DataType::Bool => 8,
        DataType::Int4 | DataType::Uint4 => 4,
        DataType::Int2 | DataType::Uint2 => 2,
        _ => return None,
    })
}

fn from_raw(kind: DataType, raw: &[u8], n: usize) -> Outcome<Constant> {
    fn words<const N: usize, T>(raw: &[u8], convert: impl Fn([u8; N]) -> T) -> Vec<T> {
        raw.as_chunks::<N>()
            .0
            .iter()
            .map(|word| convert(*word))
            .collect()
    }
    Ok(match kind {
        DataType::Float => Constant::F32(words(raw, f32::from_le_bytes)),
        DataType::Double => Constant::F32(words(raw, |w| f64::from_le_bytes(w) as f32)),
        DataType::Float16 => Constant::F32(words(raw, |w| f16::from_le_bytes(w).to_f32())),
        DataType::Bfloat16 => Constant::F32(words(raw, |w| bf16::from_le_bytes(w).to_f32())),
        DataType::Int64 => Constant::I64(words(raw, i64::from_le_bytes)),
        DataType::Int32 => Constant::I64(words(raw, |w| i64::from(i32::from_le_bytes(w)))),
        DataType::Uint32 => Constant::I64(words(raw, |w| i64::from(u32::from_le_bytes(w)))),
        DataType::Int16 => Constant::I64(words(raw, |w| i64::from(i16::from_le_bytes(w)))),
        DataType::Uint16 => Constant::I64(words(raw, |w| i64::from(u16::from_le_bytes(w)))),
        DataType::Int8 => Constant::I64(words(raw, |w| i64::from(i8::from_le_bytes(w)))),
        DataType::Uint8 => Constant::I64(words(raw, |[b]| i64::from(b))),
        DataType::Bool => Constant::I64(words(raw, |[b]| i64::from(b != 0))),
        DataType::Uint64 => Constant::I64(signed64(
            raw.as_chunks::<8>()
                .0
                .iter()
                .map(|w| u64::from_le_bytes(*w)),
        )?),
        DataType::Int4 => Constant::I64(packed(raw.iter().copied(), n, 4, true)),
        DataType::Uint4 => Constant::I64(packed(raw.iter().copied(), n, 4, false)),
        DataType::Int2 => Constant::I64(packed(raw.iter().copied(), n, 2, true)),
        DataType::Uint2 => Constant::I64(packed(raw.iter().copied(), n, 2, false)),
        _ => {
            return unsupported(format!(
                "its element type {} is not read",
                kind.as_str_name()
            ));
        }
    })
}

fn signed64(values: impl Iterator<Item = u64>) -> Outcome<Vec<i64>> {
    match values.map(i64::try_from).collect() {
        Ok(values) => Ok(values),
        Err(_) => unsupported("it holds an unsigned number beyond 2^63"),
    }
}

/// Several elements a byte, the first in the lowest bits (`onnx.proto`, comments at `INT4`).
fn packed(bytes: impl Iterator<Item = u8>, n: usize, bits: u32, signed: bool) -> Vec<i64> {
    let unused = 8 - bits;
    bytes
        .flat_map(|byte| {
            (0..8 / bits).map(move |i| {
                let top = (byte >> (i * bits)) << unused;
                if signed {
                    i64::from(top.cast_signed() >> unused)
                } else {
                    i64::from(top >> unused)
                }
            })
        })
        .take(n)
        .collect()
}

/// Which typed field holds which element type: comments of `TensorProto` in `onnx.proto`.
fn from_fields(kind: DataType, t: &TensorProto, n: usize) -> Outcome<Constant> {
    let check = |got: usize, needed: usize| {
        if got == needed {
            return Ok(());
        }
        malformed(format!(
            "it holds {got} numbers, but shape {:?} needs {needed}",
            t.dims
        ))
    };
    let small = |min: i32, max: i32| -> Outcome<Constant> {
        check(t.int32_data.len(), n)?;
        if let Some(bad) = t.int32_data.iter().find(|x| !(min..=max).contains(*x)) {
            return malformed(format!(
                "it holds {bad}, which is no {}",
                kind.as_str_name()
            ));
        }
        Ok(Constant::I64(
            t.int32_data.iter().copied().map(i64::from).collect(),
        ))
    };
    let halves = |convert: fn(u16) -> f32| -> Outcome<Constant> {
        check(t.int32_data.len(), n)?;
        Ok(Constant::F32(
            t.int32_data.iter().map(|&x| convert(x as u16)).collect(),
        ))
    };
    let nibbles = |bits: u32, signed: bool| -> Outcome<Constant> {
        check(t.int32_data.len(), n.div_ceil(8 / bits as usize))?;
        Ok(Constant::I64(packed(
            t.int32_data.iter().map(|&x| x as u8),
            n,
            bits,
            signed,
        )))
    };
    match kind {
        DataType::Float => {
            check(t.float_data.len(), n)?;
            Ok(Constant::F32(t.float_data.clone()))
        }
        DataType::Double => {
            check(t.double_data.len(), n)?;
            Ok(Constant::F32(
                t.double_data.iter().map(|&x| x as f32).collect(),
            ))
        }
        DataType::Int64 => {
            check(t.int64_data.len(), n)?;
            Ok(Constant::I64(t.int64_data.clone()))
        }
        DataType::Uint64 | DataType::Uint32 => {
            check(t.uint64_data.len(), n)?;
            Ok(Constant::I64(signed64(t.uint64_data.iter().copied())?))
        }
        DataType::Int32 => small(i32::MIN, i32::MAX),
        DataType::Int16 => small(i32::from(i16::MIN), i32::from(i16::MAX)),
        DataType::Uint16 => small(0, i32::from(u16::MAX)),
        DataType::Int8 => small(i32::from(i8::MIN), i32::from(i8::MAX)),
        DataType::Uint8 => small(0, i32::from(u8::MAX)),
        DataType::Bool => small(0, 1),
        DataType::Float16 => halves(|bits| f16::from_bits(bits).to_f32()),
        DataType::Bfloat16 => halves(|bits| bf16::from_bits(bits).to_f32()),
        DataType::Int4 => nibbles(4, true),
        DataType::Uint4 => nibbles(4, false),
        DataType::Int2 => nibbles(2, true),
        DataType::Uint2 => nibbles(2, false),
        _ => unsupported(format!(
            "its element type {} is not read",
            kind.as_str_name()
        )),
    }
}
