//! Convolutions and pools.

use super::fused;
use crate::onnx::fail::{Outcome, malformed, unsupported};
use crate::onnx::tensor::elements;
use crate::tflite::bind::{Behind, Binder, CHANNELS_FIRST};
use crate::tflite::flat::Table;
use crate::tflite::{FileNode, Slot};
use crate::{Conv, ConvTranspose, Op, Pool};

/// Largest stride, dilation or window: so that products of two stay far from 2^63.
const LARGEST: i32 = 1 << 30;

/// Order of the axes of weights `(1, H, W, channels)` or `(out, H, W, in)` with the last axis first.
const LAST_FIRST: [usize; 4] = [3, 0, 1, 2];

fn needed(options: Option<Table>) -> Outcome<Table> {
    match options {
        Some(options) => Ok(options),
        None => malformed("its options are missing"),
    }
}

/// Height and width of something that is at least 1.
fn pair(options: &Table, [h, w]: [usize; 2], default: i32, what: &str) -> Outcome<[usize; 2]> {
    let mut pair = [0; 2];
    for (place, id) in pair.iter_mut().zip([h, w]) {
        let value = options.i32(id, default)?;
        if !(1..=LARGEST).contains(&value) {
            return malformed(format!("a {what} is {value}"));
        }
        *place = value as usize;
    }
    Ok(pair)
}

fn extents4(b: &mut Binder, slot: Slot, what: &str) -> Outcome<[usize; 4]> {
    let shape = b.shape(slot)?;
    match <[usize; 4]>::try_from(shape.as_slice()) {
        Ok(extents) => Ok(extents),
        Err(_) => unsupported(format!("{what} of shape {shape:?}; it must have 4 axes")),
    }
}

/// Windows over height and width.
struct Windows {
    strides: [usize; 2],
    before: [usize; 2],
    after: [usize; 2],
    out: [usize; 2],
}

/// Positions and padding (`tensorflow/lite/kernels/padding.h`): SAME has one position a stride, and the
/// odd element of the padding at the end.
fn windows(
    same: bool,
    extent: [usize; 2],
    kernel: [usize; 2],
    strides: [usize; 2],
    dilations: [usize; 2],
) -> Outcome<Windows> {
    let (mut before, mut after, mut out) = ([0; 2], [0; 2], [0; 2]);
    for axis in 0..2 {
        let (size, stride) = (extent[axis] as i128, strides[axis] as i128);
        let reach = (kernel[axis] as i128 - 1) * dilations[axis] as i128 + 1;
        if same {
            let positions = (size + stride - 1) / stride;
            let total = ((positions - 1) * stride + reach - size).max(0);
            before[axis] = usize::try_from(total / 2).unwrap_or(usize::MAX);
            after[axis] = usize::try_from(total - total / 2).unwrap_or(usize::MAX);
            out[axis] = usize::try_from(positions).unwrap_or(usize::MAX);
        } else if reach > size {
            return malformed(format!(
                "its window reaches over {reach} elements, but there are {size}"
            ));
        } else {
            out[axis] = usize::try_from((size - reach) / stride + 1).unwrap_or(usize::MAX);
        }
    }
    Ok(Windows {
        strides,
        before,
        after,
        out,
    })
}

/// `Padding`: whether it is SAME.
fn same(options: &Table, id: usize) -> Outcome<bool> {
    match options.i8(id)? {
        0 => Ok(true),
        1 => Ok(false),
        other => malformed(format!("padding {other} does not exist")),
    }
}

fn kernel_of(h: usize, w: usize) -> Outcome<[usize; 2]> {
    if [h, w].iter().all(|k| (1..=LARGEST as usize).contains(k)) {
        return Ok([h, w]);
    }
    malformed(format!("its kernel of {h} x {w} is empty or absurd"))
}

pub(super) fn conv(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let (x, w) = (b.operand(node, 0)?, b.operand(node, 1)?);
    let [n, height, width, channels] = extents4(b, x, "an input")?;
    let [out_channels, kh, kw, each] = extents4(b, w, "weights")?;
    let kernel = kernel_of(kh, kw)?;
    if each == 0 || !channels.is_multiple_of(each) || !out_channels.is_multiple_of(channels / each)
    {
        return malformed(format!(
            "its weights for {each} channels do not fit its input of {channels} channels"
        ));
    }
    let weights = Weights {
        kernel,
        out_channels,
        groups: channels / each,
        axes: &CHANNELS_FIRST,
    };
    convolved(b, node, [n, height, width], &weights, ([5, 4], 3))
}

/// Weights of a convolution.
struct Weights {
    kernel: [usize; 2],
    out_channels: usize,
    groups: usize,
    /// Their axes, output channels first.
    axes: &'static [usize],
}

/// A convolution whose operands fit, with the places of its options: dilations (rows, columns) and activation.
fn convolved(
    b: &mut Binder,
    node: &FileNode,
    [n, height, width]: [usize; 3],
    weights: &Weights,
    (dilations, activation): ([usize; 2], usize),
) -> Outcome<()> {
    let (x, w) = (b.operand(node, 0)?, b.operand(node, 1)?);
    let options = needed(b.options(node)?)?;
    let strides = pair(&options, [2, 1], 0, "stride")?;
    let dilations = pair(&options, dilations, 1, "dilation")?;
    let kernel = weights.kernel;
    let padding = same(&options, 0)?;
    let windows = windows(padding, [height, width], kernel, strides, dilations)?;
    let mut inputs = vec![b.view(x, &CHANNELS_FIRST)?, b.view(w, weights.axes)?];
    inputs.extend(b.bias(node, 2, weights.out_channels, [x, w])?);
    let shape = vec![n, weights.out_channels, windows.out[0], windows.out[1]];
    let behind = Behind::activated(fused(Some(options), activation)?);
    let op = convolution(kernel, &windows, dilations, weights.groups);
    b.produce(node, 0, (op, inputs), behind, shape, &CHANNELS_FIRST)
}

fn convolution(kernel: [usize; 2], windows: &Windows, dilations: [usize; 2], groups: usize) -> Op {
    Op::Conv(Conv {
        kernel: kernel.to_vec(),
        strides: windows.strides.to_vec(),
        pads_before: windows.before.to_vec(),
        pads_after: windows.after.to_vec(),
        dilations: dilations.to_vec(),
        groups,
    })
}

/// Every input channel makes as many output channels as the weights say.
pub(super) fn depthwise(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let (x, w) = (b.operand(node, 0)?, b.operand(node, 1)?);
    let [n, height, width, channels] = extents4(b, x, "an input")?;
    let [one, kh, kw, out_channels] = extents4(b, w, "weights")?;
    let kernel = kernel_of(kh, kw)?;
    if one != 1 || channels == 0 || out_channels == 0 || !out_channels.is_multiple_of(channels) {
        return malformed(format!(
            "its weights of shape {:?} do not fit its input of {channels} channels",
            [one, kh, kw, out_channels]
        ));
    }
    let weights = Weights {
        kernel,
        out_channels,
        groups: channels,
        axes: &LAST_FIRST,
    };
    convolved(b, node, [n, height, width], &weights, ([6, 5], 4))
}

/// The gradient of a convolution: padding is that of the convolution that would lead back
/// (`tensorflow/lite/kernels/transpose_conv.cc`).
pub(super) fn transposed(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let (w, x) = (b.operand(node, 1)?, b.operand(node, 2)?);
    let [n, height, width, channels] = extents4(b, x, "an input")?;
    let [out_channels, kh, kw, own] = extents4(b, w, "weights")?;
    let kernel = kernel_of(kh, kw)?;
    if own != channels {
        return malformed(format!(
            "its weights for {own} channels do not fit its input of {channels} channels"
        ));
    }
    let wanted = output_shape(b, node)?;
    let &[batch, out_height, out_width, wanted_channels] = wanted.as_slice() else {
        return malformed(format!("its output shape {wanted:?} must have 4 extents"));
    };
    if wanted_channels != out_channels || batch != n {
        return malformed(format!(
            "its output shape {wanted:?} does not fit {n} images and {out_channels} output channels"
        ));
    }
    let options = needed(b.options(node)?)?;
    let strides = pair(&options, [2, 1], 0, "stride")?;
    let back = windows(
        same(&options, 0)?,
        [out_height, out_width],
        kernel,
        strides,
        [1, 1],
    )?;
    if back.out != [height, width] {
        return malformed(format!(
            "an output of {out_height} x {out_width} would come from {} x {} elements, its input has \
             {height} x {width}",
            back.out[0], back.out[1]
        ));
    }
    let mut inputs = vec![b.view(x, &CHANNELS_FIRST)?, b.view(w, &LAST_FIRST)?];
    inputs.extend(b.bias(node, 3, out_channels, [x, w])?);
    let op = Op::ConvTranspose(ConvTranspose {
        kernel: kernel.to_vec(),
        strides: strides.to_vec(),
        pads_before: back.before.to_vec(),
        dilations: vec![1, 1],
        groups: 1,
    });
    let behind = Behind::activated(fused(Some(options), 3)?);
    let shape = vec![n, out_channels, out_height, out_width];
    b.produce(node, 0, (op, inputs), behind, shape, &CHANNELS_FIRST)
}

/// The first input, where its contents are known; else what the file says of the output.
fn output_shape(b: &mut Binder, node: &FileNode) -> Outcome<Vec<usize>> {
    let slot = b.input(node, 0)?;
    if b.constant(slot)?.is_none()
        && let Some(stated) = b.stated_shape(node.output()?)
    {
        return Ok(stated.to_vec());
    }
    let list = b.needed_ints(node, 0)?;
    crate::onnx::tensor::shape_from(&list, b.limits())
}

pub(super) fn average_pool(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    pool(b, node, |pool| Op::AveragePool {
        pool,
        count_include_pad: false,
    })
}

/// Codes are only compared: where the grids are equal, there is nothing to quantize.
pub(super) fn max_pool(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    pool(b, node, Op::MaxPool)
}

fn pool(b: &mut Binder, node: &FileNode, op: impl FnOnce(Pool) -> Op) -> Outcome<()> {
    let x = b.operand(node, 0)?;
    let [n, height, width, channels] = extents4(b, x, "an input")?;
    let options = needed(b.options(node)?)?;
    let strides = pair(&options, [2, 1], 0, "stride")?;
    let kernel = pair(&options, [4, 3], 0, "window")?;
    elements(&kernel, b.limits())?;
    let windows = windows(same(&options, 0)?, [height, width], kernel, strides, [1, 1])?;
    let op = op(Pool {
        kernel: kernel.to_vec(),
        strides: windows.strides.to_vec(),
        pads_before: windows.before.to_vec(),
        pads_after: windows.after.to_vec(),
        dilations: vec![1, 1],
    });
    let activation = fused(Some(options), 5)?;
    let equal = b.grid(x) == b.grid(node.output()?);
    let behind = Behind {
        quantize: !(equal && activation.is_none() && matches!(op, Op::MaxPool(_))),
        ..Behind::activated(activation)
    };
    let inputs = vec![b.view(x, &CHANNELS_FIRST)?];
    let shape = vec![n, channels, windows.out[0], windows.out[1]];
    b.produce(node, 0, (op, inputs), behind, shape, &CHANNELS_FIRST)
}
