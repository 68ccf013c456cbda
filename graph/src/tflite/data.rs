//! Contents of constants.

use half::{bf16, f16};

use super::FileTensor;
use super::schema::Type;
use crate::onnx::fail::{Outcome, malformed, unsupported};
use crate::onnx::tensor::elements;
use crate::{Constant, Limits};

/// Converts a constant of the file; `bytes` is the file.
pub(super) fn decode(tensor: &FileTensor, bytes: &[u8], limits: &Limits) -> Outcome<Constant> {
    let count = elements(&tensor.shape, limits)?;
    let (at, length) = tensor.data.unwrap_or((0, 0));
    let raw = bytes.get(at..at.saturating_add(length)).unwrap_or(&[]);
    let size = match tensor.kind {
        Type::Int8 | Type::UInt8 | Type::Bool => 1,
        Type::Int16 | Type::UInt16 | Type::Float16 | Type::BFloat16 => 2,
        Type::Int32 | Type::Float32 => 4,
        Type::Int64 | Type::Float64 => 8,
        Type::Int4 => 0,
        Type::Other(_) => {
            return unsupported(format!(
                "its element type {} is not read",
                tensor.kind.name()
            ));
        }
    };
    let needed = if size == 0 {
        count.div_ceil(2)
    } else {
        count.saturating_mul(size)
    };
    if raw.len() != needed {
        return malformed(format!(
            "its buffer has {} bytes, its shape {:?} needs {needed}",
            raw.len(),
            tensor.shape
        ));
    }
    Ok(match tensor.kind {
        Type::Float32 => reals(raw, f32::from_le_bytes),
        Type::Float64 => reals(raw, |b| f64::from_le_bytes(b) as f32),
        Type::Float16 => reals(raw, |b| f16::from_le_bytes(b).to_f32()),
        Type::BFloat16 => reals(raw, |b| bf16::from_le_bytes(b).to_f32()),
        Type::Int8 => integers(raw, |b| i64::from(i8::from_le_bytes(b))),
        Type::UInt8 => integers(raw, |[b]| i64::from(b)),
        Type::Bool => integers(raw, |[b]| i64::from(b != 0)),
        Type::Int16 => integers(raw, |b| i64::from(i16::from_le_bytes(b))),
        Type::UInt16 => integers(raw, |b| i64::from(u16::from_le_bytes(b))),
        Type::Int32 => integers(raw, |b| i64::from(i32::from_le_bytes(b))),
        Type::Int64 => integers(raw, i64::from_le_bytes),
        // Two a byte, the low half first (`tensorflow/lite/kernels/internal/tensor_utils.h`,
        // UnpackPackedIntToInt8).
        Type::Int4 | Type::Other(_) => Constant::I64(
            (0..count)
                .map(|i| {
                    let half = raw[i / 2] >> (4 * (i % 2));
                    i64::from(((half << 4) as i8) >> 4)
                })
                .collect(),
        ),
    })
}

fn reals<const N: usize>(raw: &[u8], convert: fn([u8; N]) -> f32) -> Constant {
    Constant::F32(
        raw.chunks_exact(N)
            .filter_map(|chunk| chunk.try_into().ok())
            .map(convert)
            .collect(),
    )
}

fn integers<const N: usize>(raw: &[u8], convert: fn([u8; N]) -> i64) -> Constant {
    Constant::I64(
        raw.chunks_exact(N)
            .filter_map(|chunk| chunk.try_into().ok())
            .map(convert)
            .collect(),
    )
}
