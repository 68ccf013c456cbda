//! Integer codes: `QuantizeLinear`, `DequantizeLinear`, and what other operators do to codes.
//!
//! Formulas: ONNX operator documentation, `QuantizeLinear` (`saturate(round_half_even(x / scale) +
//! zero_point)`) and `DequantizeLinear` (`(code - zero_point) * scale`).

use crate::onnx::bind::Binder;
use crate::onnx::fail::{Outcome, malformed, unsupported};
use crate::onnx::grid::{self, Clipped, Codes, Integer, MOVEMENTS};
use crate::onnx::proto::tensor_proto::DataType;
use crate::onnx::tensor::Tensor;
use crate::onnx::{Domain, FileNode, Slot};
use crate::{Affine, Binary, Constant, DynamicPart, Op, PerChannel, Quantizer};

/// Operators on plain integers (scale 1, zero point 0) that give the same result on reals.
const ON_PLAIN_INTEGERS: [&str; 4] = ["Add", "Sub", "Mul", "QuantizeLinear"];

/// Refuses operators that would compute with codes, where the graph has what the codes stand for.
pub(super) fn check(b: &Binder, node: &FileNode) -> Outcome<()> {
    let op_type = node.op_type.as_str();
    let apart = op_type.starts_with("QLinear")
        || matches!(
            op_type,
            "DequantizeLinear"
                | "QGemm"
                | "ConvInteger"
                | "MatMulInteger"
                | "Clip"
                | "Relu"
                | "Cast"
                | "Shape"
                | "Size"
                | "Upsample"
        );
    if apart || MOVEMENTS.contains(&op_type) {
        return Ok(());
    }
    for &slot in node.inputs.iter().flatten() {
        // What is not known is an error where the node asks for it.
        let Ok(codes) = b.codes(slot) else { continue };
        let (Some(_), Some(grid)) = (codes.integer, &codes.grid) else {
            continue;
        };
        if !(grid::is_plain(grid) && ON_PLAIN_INTEGERS.contains(&op_type)) {
            return unsupported(format!(
                "it computes with the integer codes of '{}' ({}); dequantize them first",
                crate::onnx::fail::shown(b.name(slot)),
                grid::describe(grid)
            ));
        }
    }
    Ok(())
}

/// A scale: one finite positive number, or one for each index of an axis.
pub(super) fn scale(
    b: &Binder,
    node: &FileNode,
    index: usize,
    shape: &[usize],
    axis: Option<usize>,
) -> Outcome<PerChannel<f32>> {
    let Some(tensor) = b.parameter(node, index)? else {
        return malformed(format!("its scale is missing (input {})", index + 1));
    };
    let scale = listed(&tensor, shape, axis, "scale")?;
    match scale.values.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
        None => Ok(scale),
        Some(bad) => malformed(format!(
            "its scale is {bad}; it must be finite and positive"
        )),
    }
}

/// A zero point (0 where it is left out), with its element type.
pub(super) fn zero_point(
    b: &Binder,
    node: &FileNode,
    index: usize,
    shape: &[usize],
    axis: Option<usize>,
) -> Outcome<(PerChannel<f32>, Option<Integer>)> {
    let Some(tensor) = b.parameter(node, index)? else {
        return Ok((PerChannel::uniform(0.0), None));
    };
    let Constant::I64(values) = &*tensor.data else {
        return unsupported("its zero point is no integer: only integer codes are evaluated");
    };
    // Beyond, `f32` has gaps.
    if let Some(bad) = values.iter().find(|z| z.unsigned_abs() > 1 << 24) {
        return unsupported(format!("its zero point is {bad}, beyond 2^24"));
    }
    let list = listed(&tensor, shape, axis, "zero point")?;
    Ok((grid::uniform_if_equal(list), tensor.codes.integer))
}

pub(super) fn listed(
    tensor: &Tensor,
    shape: &[usize],
    axis: Option<usize>,
    what: &str,
) -> Outcome<PerChannel<f32>> {
    let values = tensor.data.to_f32();
    match values.as_slice() {
        [] => return malformed(format!("its {what} is empty")),
        &[value] => return Ok(PerChannel::uniform(value)),
        _ => {}
    }
    let Some(axis) = axis else {
        return unsupported(format!(
            "its {what} has {} numbers; here one is evaluated, for the whole tensor",
            values.len()
        ));
    };
    // One axis holds all of them: vectors, and rows or columns of a matrix.
    let long = tensor.shape.iter().filter(|&&dim| dim != 1).count();
    if long > 1 {
        return unsupported(format!(
            "its {what} of shape {:?} varies along several axes (blocked quantization); one axis at most is evaluated",
            tensor.shape
        ));
    }
    if shape.get(axis) != Some(&values.len()) {
        return malformed(format!(
            "its {what} has {} numbers, but axis {axis} of shape {shape:?} is not that long",
            values.len()
        ));
    }
    Ok(PerChannel {
        values,
        axis: Some(axis),
    })
}

/// The axis of `QuantizeLinear` and `DequantizeLinear`, where the parameters vary.
fn channel_axis(b: &Binder, node: &FileNode, shape: &[usize]) -> Outcome<Option<usize>> {
    let attrs = node.attrs();
    if attrs.int_or("block_size", 0)? != 0 {
        return unsupported("blocked quantization");
    }
    let several = [1, 2].into_iter().any(|index| {
        let slot = node.optional(index);
        slot.is_some_and(|s| b.shape(s).is_ok_and(|s| s.iter().product::<usize>() > 1))
    });
    if !several {
        return Ok(None);
    }
    if node.domain == Domain::Onnx && node.version < 13 {
        return malformed(format!(
            "its scale or zero point has several numbers, which opset {} does not have (13 does)",
            node.version
        ));
    }
    super::axis_of(attrs.int_or("axis", 1)?, shape.len()).map(Some)
}

pub(super) fn quantize(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let attrs = node.attrs();
    let x = b.input(node, 0)?;
    let shape = b.shape(x)?.to_vec();
    let axis = channel_axis(b, node, &shape)?;
    let scale = scale(b, node, 1, &shape, axis)?;
    let (zero_point, given) = zero_point(b, node, 2, &shape, axis)?;
    let precision = attrs.int_or("precision", 0)?;
    if precision != 0 && precision != DataType::Float as i64 {
        return unsupported("division in another precision than float");
    }
    let stated = match attrs.int_or("output_dtype", 0)? {
        0 => None,
        code => {
            let kind = i32::try_from(code)
                .ok()
                .and_then(|code| DataType::try_from(code).ok());
            match kind.and_then(Integer::of) {
                Some(integer) => Some(integer),
                None => {
                    return unsupported(format!(
                        "its output type {} is no integer type",
                        kind.map_or(code.to_string(), |k| k.as_str_name().to_owned())
                    ));
                }
            }
        }
    };
    let has_zero_point = node.optional(2).is_some();
    let integer = match (given, stated) {
        (Some(given), Some(stated)) if given != stated => {
            return malformed("output_dtype contradicts its zero point's type");
        }
        (Some(integer), _) | (None, Some(integer)) => integer,
        (None, None) if has_zero_point => {
            return unsupported("its zero point is of no integer type that is evaluated");
        }
        (None, None) => Integer {
            bits: 8,
            signed: false,
        },
    };
    if integer.bits > 16 {
        return malformed(format!("it writes {} bits; 16 is the most", integer.bits));
    }
    let grid = Codes::of(integer).grid_with(integer, scale, zero_point);
    let output = node.output()?;
    if let Some(code) = stored_number(b, x, &grid)? {
        let codes = Codes::of(integer);
        let data = Constant::I64(vec![code]).into();
        return b.set_constant(output, Tensor { shape, data, codes });
    }
    let op = Op::Quantize(Quantizer::Affine(grid.clone()));
    b.emit(node, op, &[x], shape, output)?;
    b.set_codes(output, Codes::on(integer, grid));
    Ok(())
}

/// The code of one stored number. Files pass parameters through quantizers (AIMET's `to_onnx_qdq`: the bounds of
/// `Clip`), and a parameter must be a constant.
fn stored_number(b: &Binder, x: Slot, grid: &Affine) -> Outcome<Option<i64>> {
    let Some(tensor) = b.constant(x)? else {
        return Ok(None);
    };
    let (Constant::F32(values), [scale], [zero]) =
        (&*tensor.data, &*grid.scale.values, &*grid.zero_point.values)
    else {
        return Ok(None);
    };
    match values.as_slice() {
        // In f32 up to the rounding, as the operator's documentation has it; out of range is the nearest code.
        [x] if !x.is_nan() => {
            let code = f64::from((x / scale).round_ties_even()) + f64::from(*zero);
            let (min, max) = (grid.min_code(), grid.max_code());
            #[allow(
                clippy::cast_possible_truncation,
                reason = "16 bits at most; casts saturate"
            )]
            let code = code as i64;
            Ok(Some(code.clamp(min, max)))
        }
        _ => Ok(None),
    }
}

pub(super) fn dequantize(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let x = b.input(node, 0)?;
    let output = node.output()?;
    let shape = b.shape(x)?.to_vec();
    let axis = channel_axis(b, node, &shape)?;
    let grid = grid_of(b, node, x, [1, 2], axis)?;
    if let Some(tensor) = b.constant(x)? {
        let Constant::I64(_) = &*tensor.data else {
            return malformed("its input must hold integer codes");
        };
        // Somebody may ask for the reals.
        b.budget(&shape)?;
        let codes = Codes {
            grid: Some(grid.into()),
            ..Codes::default()
        };
        return b.set_constant(output, Tensor { codes, ..tensor });
    }
    let own = b.codes(x)?.grid.as_deref();
    if b.is_made(x)
        && own.is_some_and(|own| grid::is_plain(own) && own.bits == 32)
        && !grid::is_plain(&grid)
        && grid.zero_point.values == [0.0]
    {
        return scaled(b, node, x, &grid, output);
    }
    let x = b.coded(node, x, grid)?;
    b.emit(node, Op::Identity, &[x], shape, output)?;
    b.set_codes(output, Codes::default());
    Ok(())
}

/// Sums of products (`ConvInteger`, `MatMulInteger`) times the scale that makes them reals.
fn scaled(b: &mut Binder, node: &FileNode, x: Slot, grid: &Affine, output: Slot) -> Outcome<()> {
    let mut shape = vec![1; b.shape(x)?.len()];
    if let Some(axis) = grid.scale.axis {
        shape[axis] = grid.scale.values.len();
    }
    let factor = b.temporary(output, "scale");
    b.set_constant(
        factor,
        Tensor::new(shape, Constant::F32(grid.scale.values.clone())),
    )?;
    super::elementwise::binary_of(b, node, Binary::Mul, [x, factor], output)
}

/// Codes, scale and zero point, each an operation of its own on the same input.
pub(super) fn dynamic_quantize(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let x = b.input(node, 0)?;
    let shape = b.shape(x)?.to_vec();
    let parts = [
        (DynamicPart::Codes, shape, "codes"),
        (DynamicPart::Scale, Vec::new(), "scale"),
        (DynamicPart::ZeroPoint, Vec::new(), "zero_point"),
    ];
    for ((part, shape, suffix), output) in parts.into_iter().zip(&node.outputs) {
        if let Some(output) = *output {
            b.emit_helper(node, Op::DynamicQuantize(part), &[x], shape, output, suffix)?;
        }
    }
    Ok(())
}

/// The grid that a node gives to a tensor that it reads: the inputs `[scale, zero point]` and the tensor's
/// element type.
pub(super) fn grid_of(
    b: &Binder,
    node: &FileNode,
    x: Slot,
    [scale_at, zero_point_at]: [usize; 2],
    axis: Option<usize>,
) -> Outcome<Affine> {
    let shape = b.shape(x)?;
    let scale = scale(b, node, scale_at, shape, axis)?;
    grid_on(b, node, x, scale, zero_point_at, axis)
}

pub(super) fn grid_on(
    b: &Binder,
    node: &FileNode,
    x: Slot,
    scale: PerChannel<f32>,
    zero_point_at: usize,
    axis: Option<usize>,
) -> Outcome<Affine> {
    let (zero_point, given) = zero_point(b, node, zero_point_at, b.shape(x)?, axis)?;
    let codes = b.codes(x)?;
    match codes.integer.or(given) {
        Some(integer) => Ok(codes.grid_with(integer, scale, zero_point)),
        None => malformed(format!(
            "its input '{}' holds no integers of up to 32 bits",
            crate::onnx::fail::shown(b.name(x))
        )),
    }
}

/// Whether a tensor holds integer codes, or is a constant that becomes codes later.
pub(super) fn holds(b: &Binder, x: Slot) -> Outcome<bool> {
    let codes = b.codes(x)?;
    let plain = codes.grid.as_deref().is_some_and(grid::is_plain) && !b.is_constant(x)?;
    Ok(codes.integer.is_some() && !plain && (codes.grid.is_some() || b.is_constant(x)?))
}

/// `Clip` on codes (QCDQ): leaves fewer of them.
pub(super) fn clip(
    b: &mut Binder,
    node: &FileNode,
    min: Option<Vec<i64>>,
    max: Option<Vec<i64>>,
) -> Outcome<()> {
    let x = b.input(node, 0)?;
    let output = node.output()?;
    let one = |list: Option<Vec<i64>>, open: i64| match list.as_deref() {
        None => Ok(open),
        Some(&[bound]) => Ok(bound),
        Some(_) => malformed("a bound must be one number"),
    };
    let (min, max) = (one(min, i64::MIN)?, one(max, i64::MAX)?);
    if min > max {
        return unsupported(format!("its bounds {min} and {max} cross"));
    }
    let codes = b.codes(x)?.clone();
    let Some(integer) = codes.integer else {
        return malformed("its input must hold integers");
    };
    let whole = codes.grid_with(integer, PerChannel::uniform(1.0), PerChannel::uniform(0.0));
    let own = codes.grid.as_deref().unwrap_or(&whole);
    let (low, high) = (min.max(own.min_code()), max.min(own.max_code()));
    let all = (low, high) == (own.min_code(), own.max_code());
    let clipped = Clipped::range(low, high);
    if let Some(tensor) = b.constant(x)? {
        let Constant::I64(values) = &*tensor.data else {
            return malformed("its input must hold integers");
        };
        b.budget(&tensor.shape)?;
        let values = values.iter().map(|&v| v.max(min).min(max)).collect();
        let codes = Codes {
            integer: codes.integer,
            clipped: if all { codes.clipped } else { clipped },
            grid: None,
        };
        let tensor = Tensor::new(tensor.shape, Constant::I64(values));
        return b.set_constant(output, Tensor { codes, ..tensor });
    }
    if all {
        return super::same(b, node, Op::Identity);
    }
    let Some(clipped) = clipped else {
        return unsupported(format!(
            "it leaves the codes {low} to {high}, which is the range of no width"
        ));
    };
    let grid = Codes {
        clipped: Some(clipped),
        ..codes.clone()
    }
    .grid_with(integer, own.scale.clone(), own.zero_point.clone());
    let codes = Codes {
        integer: codes.integer,
        clipped: Some(clipped),
        grid: Some(grid.clone().into()),
    };
    if !b.narrow_producer(x, output, &grid) {
        // The same step and zero point: every code that stays is kept as it is.
        super::same(b, node, Op::Quantize(Quantizer::Affine(grid)))?;
    }
    b.set_codes(output, codes);
    Ok(())
}
