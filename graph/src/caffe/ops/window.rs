//! Convolutions and pools.

use super::Step;
use crate::caffe::bind::Binder;
use crate::caffe::text::Message;
use crate::onnx::fail::{Outcome, malformed, unsupported};
use crate::onnx::tensor::elements;
use crate::{Conv, ConvTranspose, Op, Pool, ValueId};

/// Parameters of a layer that computes on windows, for height and width.
struct Windows {
    kernel: [usize; 2],
    strides: [usize; 2],
    pads: [usize; 2],
    dilations: [usize; 2],
}

/// A parameter that is given once for both axes, once an axis, or as `_h` and `_w`.
fn pair(
    param: &Message,
    name: &str,
    stem: &str,
    least: usize,
    default: Option<usize>,
) -> Outcome<[usize; 2]> {
    let both = param.sizes(name)?;
    let height = param.size(&format!("{stem}_h"))?;
    let width = param.size(&format!("{stem}_w"))?;
    let found = match (both.as_slice(), height, width, default) {
        (&[one], None, None, _) => [one, one],
        ([], None, None, Some(default)) => [default, default],
        (&[height, width], None, None, _) | ([], Some(height), Some(width), _) => [height, width],
        ([], Some(height), None, Some(default)) => [height, default],
        ([], None, Some(width), Some(default)) => [default, width],
        ([], None, None, None) => return malformed(format!("'{name}' is missing")),
        _ => {
            return malformed(format!(
                "'{name}' must be given once, once for each of two axes, or as {stem}_h and {stem}_w"
            ));
        }
    };
    if found.iter().any(|&size| size < least) {
        return malformed(format!("'{name}' must be at least {least}"));
    }
    Ok(found)
}

impl Windows {
    fn of(param: &Message) -> Outcome<Self> {
        Ok(Self {
            kernel: pair(param, "kernel_size", "kernel", 1, None)?,
            strides: pair(param, "stride", "stride", 1, Some(1))?,
            pads: pair(param, "pad", "pad", 0, Some(0))?,
            dilations: pair(param, "dilation", "dilation", 1, Some(1))?,
        })
    }

    /// Elements from the first tap of a window to its last.
    fn reach(&self, axis: usize) -> usize {
        (self.kernel[axis] - 1)
            .saturating_mul(self.dilations[axis])
            .saturating_add(1)
    }
}

const CONVOLUTION: &[&str] = &[
    "num_output",
    "bias_term",
    "pad",
    "kernel_size",
    "stride",
    "dilation",
    "pad_h",
    "pad_w",
    "kernel_h",
    "kernel_w",
    "stride_h",
    "stride_w",
    "group",
    "weight_filler",
    "bias_filler",
    "engine",
    "axis",
    "force_nd_im2col",
];

/// What convolutions have in common.
struct Convolution {
    windows: Windows,
    outputs: usize,
    groups: usize,
    bias: bool,
    x: ValueId,
    /// Batch, channels, height, width.
    input: [usize; 4],
}

fn convolution(b: &Binder, step: Step, depthwise: bool) -> Outcome<Convolution> {
    let param = step.layer.message.message("convolution_param")?;
    param.only(CONVOLUTION)?;
    let (x, input) = step.image(b)?;
    if !matches!(param.int("axis")?, None | Some(1 | -3)) {
        return unsupported("channels along another axis than 1");
    }
    let Some(outputs) = param.size("num_output")? else {
        return malformed("'num_output' is missing");
    };
    let channels = input[1];
    let groups = match param.size("group")? {
        // Depthwise layers take their groups from the bottom.
        None if depthwise => channels,
        None => 1,
        Some(groups) => groups,
    };
    if depthwise && groups != channels {
        return malformed(format!("{groups} groups for {channels} channels"));
    }
    if groups == 0 || outputs == 0 || channels % groups != 0 || outputs % groups != 0 {
        return malformed(format!(
            "{channels} channels and {outputs} outputs cannot be split into {groups} groups"
        ));
    }
    Ok(Convolution {
        windows: Windows::of(param)?,
        outputs,
        groups,
        bias: param.flag("bias_term", true)?,
        x,
        input,
    })
}

/// Weights and, where there is one, bias, behind the bottom.
fn operands(
    b: &mut Binder,
    step: Step,
    of: &Convolution,
    weights: Vec<usize>,
) -> Outcome<Vec<ValueId>> {
    let mut inputs = vec![of.x, b.weights(step.layer, weights)?];
    if of.bias {
        inputs.push(b.parameter(step.layer, 1, "bias", vec![of.outputs])?);
    }
    Ok(inputs)
}

/// Output extent: `(in + 2 * pad - reach) / stride + 1`, rounded down
/// (`ConvolutionLayer::compute_output_shape`, `BVLC/caffe` `src/caffe/layers/conv_layer.cpp`).
pub(super) fn conv(b: &mut Binder, step: Step, depthwise: bool) -> Outcome<()> {
    let of = convolution(b, step, depthwise)?;
    let w = &of.windows;
    let mut shape = vec![of.input[0], of.outputs];
    for axis in 0..2 {
        let padded = of.input[2 + axis].saturating_add(2 * w.pads[axis]);
        let reach = w.reach(axis);
        let Some(free) = padded.checked_sub(reach) else {
            return malformed(format!(
                "its window reaches over {reach} elements, the bottom has {padded} with padding"
            ));
        };
        shape.push(free / w.strides[axis] + 1);
    }
    let weights = vec![
        of.outputs,
        of.input[1] / of.groups,
        w.kernel[0],
        w.kernel[1],
    ];
    let op = Op::Conv(Conv {
        kernel: w.kernel.to_vec(),
        strides: w.strides.to_vec(),
        pads_before: w.pads.to_vec(),
        pads_after: w.pads.to_vec(),
        dilations: w.dilations.to_vec(),
        groups: of.groups,
    });
    let inputs = operands(b, step, &of, weights)?;
    b.emit(step.layer, 0, op, inputs, shape)
}

/// Output extent: `stride * (in - 1) + reach - 2 * pad`
/// (`DeconvolutionLayer::compute_output_shape`, `BVLC/caffe` `src/caffe/layers/deconv_layer.cpp`).
pub(super) fn deconv(b: &mut Binder, step: Step) -> Outcome<()> {
    let of = convolution(b, step, false)?;
    let w = &of.windows;
    let mut shape = vec![of.input[0], of.outputs];
    for axis in 0..2 {
        let spread = w.strides[axis].saturating_mul(of.input[2 + axis] - 1);
        let full = spread.saturating_add(w.reach(axis));
        match full.checked_sub(2 * w.pads[axis]) {
            Some(extent) if extent > 0 => shape.push(extent),
            _ => return malformed("its padding leaves no output"),
        }
    }
    let weights = vec![
        of.input[1],
        of.outputs / of.groups,
        w.kernel[0],
        w.kernel[1],
    ];
    let op = Op::ConvTranspose(ConvTranspose {
        kernel: w.kernel.to_vec(),
        strides: w.strides.to_vec(),
        pads_before: w.pads.to_vec(),
        dilations: w.dilations.to_vec(),
        groups: of.groups,
    });
    let inputs = operands(b, step, &of, weights)?;
    b.emit(step.layer, 0, op, inputs, shape)
}

const POOLING: &[&str] = &[
    "pool",
    "pad",
    "pad_h",
    "pad_w",
    "kernel_size",
    "kernel_h",
    "kernel_w",
    "stride",
    "stride_h",
    "stride_w",
    "engine",
    "global_pooling",
    "ceil_mode",
    "round_mode",
];

/// Caffe's pools (`BVLC/caffe` `src/caffe/layers/pooling_layer.cpp`): the output's extent is rounded **up**, and
/// with padding a last window that starts behind the image's own padding is dropped. A mean's divisor
/// counts padded positions, clipped to the padded extent. Forks round down on demand (`ceil_mode: false`,
/// `round_mode: FLOOR`).
pub(super) fn pool(b: &mut Binder, step: Step) -> Outcome<()> {
    let param = step.layer.message.message("pooling_param")?;
    param.only(POOLING)?;
    let (x, [batch, channels, height, width]) = step.image(b)?;
    let method = param.choice("pool", &["MAX", "AVE", "STOCHASTIC"], "MAX")?;
    if method == "STOCHASTIC" {
        return unsupported("stochastic pooling");
    }
    if step.layer.tops.len() > 1 {
        return unsupported("a second top, the positions of the largest elements");
    }
    let global = param.flag("global_pooling", false)?;
    if global && method == "AVE" {
        let shape = vec![batch, channels, 1, 1];
        return b.emit(step.layer, 0, Op::Mean { axes: vec![2, 3] }, vec![x], shape);
    }
    let (kernel, strides, pads) = if global {
        ([height, width], [1, 1], [0, 0])
    } else {
        (
            pair(param, "kernel_size", "kernel", 1, None)?,
            pair(param, "stride", "stride", 1, Some(1))?,
            pair(param, "pad", "pad", 0, Some(0))?,
        )
    };
    let up = param.flag("ceil_mode", true)?
        && param.choice("round_mode", &["CEIL", "FLOOR"], "CEIL")? == "CEIL";
    let mut shape = vec![batch, channels];
    for axis in 0..2 {
        let (extent, pad) = ([height, width][axis], pads[axis]);
        if pad >= kernel[axis] {
            return malformed(format!(
                "its padding ({pad}) is not smaller than its kernel ({})",
                kernel[axis]
            ));
        }
        let padded = extent + 2 * pad;
        let Some(free) = padded.checked_sub(kernel[axis]) else {
            return malformed(format!(
                "its window of {} is larger than the bottom, {padded} with padding",
                kernel[axis]
            ));
        };
        let stride = strides[axis];
        let mut count = if up {
            free.div_ceil(stride) + 1
        } else {
            free / stride + 1
        };
        if pads.iter().any(|&pad| pad > 0) && (count - 1) * stride >= extent + pad {
            count -= 1;
        }
        if (count - 1) * stride >= extent + pad {
            return malformed("its last window lies outside the bottom");
        }
        shape.push(count);
    }
    // Bounds what one window may cover.
    elements(&kernel, b.limits())?;
    let pool = Pool {
        kernel: kernel.to_vec(),
        strides: strides.to_vec(),
        pads_before: pads.to_vec(),
        pads_after: pads.to_vec(),
        dilations: vec![1, 1],
    };
    let op = if method == "MAX" {
        Op::MaxPool(pool)
    } else {
        Op::AveragePool {
            pool,
            count_include_pad: true,
        }
    };
    b.emit(step.layer, 0, op, vec![x], shape)
}
