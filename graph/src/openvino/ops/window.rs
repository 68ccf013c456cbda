//! Convolutions and pools.

use super::{flag, ints, number, numbers, renamed, shown, stored_codes, text, with, word};
use crate::onnx::bind::Binder;
use crate::onnx::fail::{Outcome, malformed, unsupported};
use crate::onnx::grid::Codes;
use crate::onnx::proto::AttributeProto;
use crate::onnx::tensor::Tensor;
use crate::onnx::{FileNode, Slot};
use crate::{Affine, Constant, PerChannel};

/// Strides, dilations and padding in ONNX's terms.
fn windows(layer: &FileNode) -> Outcome<Vec<AttributeProto>> {
    let mut attributes = Vec::new();
    for name in ["strides", "dilations"] {
        attributes.extend(ints(layer, name)?.map(|list| numbers(name, list)));
    }
    let auto = match text(layer, "auto_pad")?.unwrap_or("explicit") {
        "explicit" | "notset" => None,
        "same_upper" => Some("SAME_UPPER"),
        "same_lower" => Some("SAME_LOWER"),
        "valid" => Some("VALID"),
        other => return malformed(format!("auto_pad '{}' does not exist", shown(other))),
    };
    if let Some(auto) = auto {
        attributes.push(word("auto_pad", auto));
        return Ok(attributes);
    }
    let mut pads = ints(layer, "pads_begin")?.unwrap_or_default();
    let after = ints(layer, "pads_end")?.unwrap_or_default();
    if pads.len() != after.len() {
        return malformed("pads_begin and pads_end differ in length");
    }
    pads.extend(after);
    if !pads.is_empty() {
        attributes.push(numbers("pads", pads));
    }
    Ok(attributes)
}

pub(super) fn convolution(
    b: &mut Binder,
    layer: &FileNode,
    grouped: bool,
) -> Outcome<Option<FileNode>> {
    let mut attributes = windows(layer)?;
    let mut node = renamed(layer, "Conv", 21);
    if grouped {
        let (weights, groups) = merged(b, layer, [0, 1])?;
        node.inputs[1] = Some(weights);
        attributes.push(number("group", groups));
    }
    Ok(Some(with(node, attributes)))
}

pub(super) fn transposed(
    b: &mut Binder,
    layer: &FileNode,
    grouped: bool,
) -> Outcome<Option<FileNode>> {
    let mut attributes = windows(layer)?;
    let mut node = renamed(layer, "ConvTranspose", 21);
    if layer.optional(2).is_some() {
        return unsupported("an output shape that is an input");
    }
    let extra = ints(layer, "output_padding")?;
    attributes.extend(extra.map(|list| numbers("output_padding", list)));
    if grouped {
        let (weights, groups) = merged(b, layer, [0, 1])?;
        node.inputs[1] = Some(weights);
        attributes.push(number("group", groups));
    }
    Ok(Some(with(node, attributes)))
}

/// Weights of groups, `(G, O / G, I / G, kernel)`, with the first two axes as one (in a transposed convolution
/// the channels of the input come first); and the number of groups.
fn merged(b: &mut Binder, layer: &FileNode, [first, second]: [usize; 2]) -> Outcome<(Slot, i64)> {
    let weights = b.input(layer, 1)?;
    let shape = b.shape(weights)?.to_vec();
    if shape.len() < 4 {
        return malformed(format!(
            "its weights of shape {shape:?} have no axis of groups"
        ));
    }
    let (groups, each) = (shape[first], shape[second]);
    let mut to = shape[1..].to_vec();
    to[0] = groups.saturating_mul(each);
    // One scale a group is one for each of its channels.
    if let Some(tensor) = stored_codes(b, weights)?
        && let Some(grid) = tensor.codes.grid.as_deref()
        && let Some(grid) = repeated(grid, each)
        && let Constant::I64(_) = &*tensor.data
    {
        b.budget(&to)?;
        let output = b.temporary(weights, "merged");
        let codes = Codes {
            grid: Some(grid.into()),
            ..Codes::default()
        };
        let tensor = Tensor {
            shape: to,
            codes,
            ..tensor
        };
        b.set_constant(output, tensor)?;
        return Ok((output, groups as i64));
    }
    let weights = b.reshaped(layer, weights, &to, "merged")?;
    Ok((weights, groups as i64))
}

/// A grid along axis 0, with every entry `each` times.
fn repeated(grid: &Affine, each: usize) -> Option<Affine> {
    let axes = [grid.scale.axis, grid.zero_point.axis];
    if axes.into_iter().flatten().any(|axis| axis != 0) || axes == [None, None] {
        return None;
    }
    let repeat = |p: &PerChannel<f32>| match p.axis {
        None => p.clone(),
        Some(_) => PerChannel {
            values: p
                .values
                .iter()
                .flat_map(|&v| std::iter::repeat_n(v, each))
                .collect(),
            axis: p.axis,
        },
    };
    Some(Affine {
        scale: repeat(&grid.scale),
        zero_point: repeat(&grid.zero_point),
        ..grid.clone()
    })
}

/// What happens to a last window that is not whole.
#[derive(PartialEq)]
enum Last {
    Dropped,
    Kept,
}

/// `rounding_type`, and the number of positions along each axis where it matters.
fn pool(b: &Binder, layer: &FileNode) -> Outcome<(Vec<AttributeProto>, Last)> {
    let mut attributes = windows(layer)?;
    let Some(kernel) = ints(layer, "kernel")? else {
        return malformed("attribute 'kernel' is missing");
    };
    let rounding = text(layer, "rounding_type")?.unwrap_or("floor");
    let ceil = match rounding {
        "floor" => false,
        "ceil" | "ceil_torch" => true,
        other => return malformed(format!("rounding_type '{}' does not exist", shown(other))),
    };
    let shape = b.shape(b.input(layer, 0)?)?;
    let spatial = shape.get(2..).unwrap_or(&[]);
    let list = |name: &str, default: i64| -> Outcome<Vec<i64>> {
        Ok(ints(layer, name)?.unwrap_or_else(|| vec![default; spatial.len()]))
    };
    let (strides, dilations) = (list("strides", 1)?, list("dilations", 1)?);
    let (before, after) = (list("pads_begin", 0)?, list("pads_end", 0)?);
    let explicit = matches!(
        text(layer, "auto_pad")?.unwrap_or("explicit"),
        "explicit" | "notset"
    );
    let mut last = Last::Dropped;
    for (axis, &extent) in spatial.iter().enumerate() {
        let at = |list: &[i64]| list.get(axis).copied().map_or(0, i128::from);
        let stride = at(&strides).max(1);
        let reach = (at(&kernel) - 1) * at(&dilations) + 1;
        let room = extent as i128 + at(&before) + at(&after) - reach;
        if ceil && explicit && room > 0 && room % stride != 0 {
            last = Last::Kept;
            let start = (room / stride + 1) * stride;
            if rounding == "ceil" && start >= extent as i128 + at(&before) {
                return unsupported(
                    "rounding_type 'ceil' makes a window that begins behind the data; 'ceil_torch' does not",
                );
            }
        }
    }
    attributes.push(numbers("kernel_shape", kernel));
    attributes.push(number("ceil_mode", i64::from(last == Last::Kept)));
    Ok((attributes, last))
}

pub(super) fn max_pool(b: &mut Binder, layer: &FileNode) -> Outcome<Option<FileNode>> {
    let (attributes, _) = pool(b, layer)?;
    Ok(Some(with(renamed(layer, "MaxPool", 21), attributes)))
}

pub(super) fn average_pool(b: &mut Binder, layer: &FileNode) -> Outcome<Option<FileNode>> {
    let (mut attributes, last) = pool(b, layer)?;
    let Some(exclude) = flag(layer, "exclude-pad")? else {
        return malformed("attribute 'exclude-pad' is missing");
    };
    if !exclude && last == Last::Kept {
        return unsupported("windows that reach beyond padding that counts");
    }
    attributes.push(number("count_include_pad", i64::from(!exclude)));
    Ok(Some(with(renamed(layer, "AveragePool", 21), attributes)))
}
