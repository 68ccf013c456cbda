//! MQBench's fake-quantizers, as `torch.onnx` writes them (domain `mqbench_custom` in mqbench-torch2 0.1.1, none in
//! upstream's files): `mqbench/custom_symbolic_opset.py`, `mqbench/fake_quantize/{lsq,tqt,dsq,nnie}.py`.
//!
//! | operator | arithmetic |
//! |---|---|
//! | `FakeQuantizeLearnablePerchannelAffine` | `round(x / s + z)`, clamp (`lsq.py`) |
//! | `FixedPerTensorAffine`, `FixedPerChannelAffine`, `LearnablePerTensorAffine` | PyTorch's: `round(x * f32(1 / s)) + z`, clamp |
//! | `FakeQuantizeTqtAffine` | `round(x / 2^e)`, clamp (`tqt.py`); of activations ties of negative values go up |
//! | `NNIEQuantize` | NNIE's logarithmic grid below the largest magnitude (`nnie.py`) |
//!
//! `FakeQuantizeTqtAffine` does not say how it rounds: `tqt.py` gives parameters and biases method 3 (half to even)
//! and activations method 4, as the recordings of the fake-quant confirm (`golden/toolchains/mqbench-vitis`). The
//! others have no counterpart among the quantizers that are evaluated, and are refused by name.

use crate::onnx::bind::Binder;
use crate::onnx::fail::{Outcome, malformed, unsupported};
use crate::onnx::grid::Clipped;
use crate::onnx::{FileNode, Slot};
use crate::{Affine, Constant, Op, PerChannel, Quantizer, Rounding, ZeroPointAdded};

/// The operators; no other domain has names like these.
pub(in crate::onnx) const NAMES: [&str; 8] = [
    "LearnablePerTensorAffine",
    "FakeQuantizeLearnablePerchannelAffine",
    "FixedPerTensorAffine",
    "FixedPerChannelAffine",
    "FakeQuantizeTqtAffine",
    "FakeQuantizeDSQPerchannel",
    "FakeQuantizeDSQPertensor",
    "NNIEQuantize",
];

pub(super) fn lower(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let affine = match node.op_type.as_str() {
        "LearnablePerTensorAffine" | "FixedPerTensorAffine" => pytorch(b, node, None, [3, 4])?,
        "FixedPerChannelAffine" => {
            let Some(axis) = b.ints(node, 3)? else {
                return malformed("its channel axis is missing (input 4)");
            };
            let &[axis] = axis.as_slice() else {
                return malformed("its channel axis must be one number");
            };
            let rank = b.shape(b.input(node, 0)?)?.len();
            let axis = super::axis_of(axis, rank)?;
            pytorch(b, node, Some(axis), [4, 5])?
        }
        "FakeQuantizeLearnablePerchannelAffine" => {
            let range = attributes(node)?;
            let axis = channel_axis(b, node)?;
            Affine {
                zero_point_added: ZeroPointAdded::BeforeRounding,
                ..affine(b, node, axis, range)?
            }
        }
        "FakeQuantizeTqtAffine" => tqt(b, node)?,
        "FakeQuantizeDSQPerchannel" | "FakeQuantizeDSQPertensor" => {
            return unsupported(
                "differentiable soft quantization rounds a float tanh, which has no exact counterpart",
            );
        }
        "NNIEQuantize" => {
            let max = nnie_max(b, node)?;
            return super::same(b, node, Op::Quantize(Quantizer::MqBenchGfpq { max }));
        }
        _ => return unsupported("this operator is not evaluated"),
    };
    super::same(b, node, Op::Quantize(Quantizer::Affine(affine)))
}

/// PyTorch's own (`aten/src/ATen/native/quantized/cpu/kernels/QuantizedOpKernels.cpp`,
/// `fake_quantize_tensor_cachemask_kernel`), with the bounds as inputs.
fn pytorch(b: &Binder, node: &FileNode, axis: Option<usize>, at: [usize; 2]) -> Outcome<Affine> {
    let mut range = [0; 2];
    for (bound, index) in range.iter_mut().zip(at) {
        *bound = match b.ints(node, index)?.as_deref() {
            Some(&[bound]) => bound,
            _ => {
                return malformed(format!(
                    "its bound (input {}) must be one number",
                    index + 1
                ));
            }
        };
    }
    Ok(affine(b, node, axis, range)?.by_reciprocal())
}

/// The bounds, as attributes.
fn attributes(node: &FileNode) -> Outcome<[i64; 2]> {
    match (
        node.attrs().int("quant_min")?,
        node.attrs().int("quant_max")?,
    ) {
        (Some(low), Some(high)) => Ok([low, high]),
        _ => malformed("attribute 'quant_min' or 'quant_max' is missing"),
    }
}

/// Scale, zero point and bounds; half to even, the zero point added after rounding.
fn affine(
    b: &Binder,
    node: &FileNode,
    axis: Option<usize>,
    [low, high]: [i64; 2],
) -> Outcome<Affine> {
    let shape = b.shape(b.input(node, 0)?)?;
    let scale = super::codes::scale(b, node, 1, shape, axis)?;
    let zero_point = zero_point(b, node, shape, axis)?;
    match Clipped::range(low, high) {
        Some(range) => Ok(range.on(scale, zero_point)),
        None => unsupported(format!(
            "the codes {low} to {high}, which is the range of no width"
        )),
    }
}

/// The zero point, which learnable quantizers keep as a float and round when they are used.
fn zero_point(
    b: &Binder,
    node: &FileNode,
    shape: &[usize],
    axis: Option<usize>,
) -> Outcome<PerChannel<f32>> {
    let Some(tensor) = b.parameter(node, 2)? else {
        return malformed("its zero point is missing (input 3)");
    };
    let Constant::F32(_) = &*tensor.data else {
        return Ok(super::codes::zero_point(b, node, 2, shape, axis)?.0);
    };
    let list = super::codes::listed(&tensor, shape, axis, "zero point")?;
    let rounded = list.map(f32::round_ties_even);
    match rounded
        .values
        .iter()
        .find(|z| z.is_nan() || z.abs() > 16_777_216.0)
    {
        Some(bad) => malformed(format!("its zero point is {bad}")),
        None => Ok(rounded),
    }
}

/// The axis of a list of scales, which the operator does not tell: the outputs of weights are along axis 0, of a
/// transposed convolution's along axis 1.
fn channel_axis(b: &Binder, node: &FileNode) -> Outcome<Option<usize>> {
    let x = b.input(node, 0)?;
    let shape = b.shape(x)?;
    let count: usize = match node.optional(1) {
        Some(scale) => b.shape(scale)?.iter().product(),
        None => 1,
    };
    if count <= 1 {
        return Ok(None);
    }
    let transposed = b
        .readers(node.output()?)
        .any(|reader| reader.op_type == "ConvTranspose");
    let axis = usize::from(transposed);
    if b.is_constant(x)? && shape.get(axis) == Some(&count) {
        return Ok(Some(axis));
    }
    unsupported(format!(
        "{count} scales for a tensor of shape {shape:?}: the operator does not tell their axis, which is known \
         for weights only"
    ))
}

/// The largest magnitude, which places NNIE's grid.
fn nnie_max(b: &Binder, node: &FileNode) -> Outcome<f32> {
    let shape = b.shape(b.input(node, 0)?)?;
    let list = super::codes::scale(b, node, 1, shape, None)?;
    Ok(list.values[0])
}

/// Power-of-two scales: `2^-floor(log2(1 / s))`, and 1 below 2^-15.
fn tqt(b: &Binder, node: &FileNode) -> Outcome<Affine> {
    let x: Slot = b.input(node, 0)?;
    let whole = affine(b, node, None, attributes(node)?)?;
    if whole.zero_point.values.iter().any(|&z| z != 0.0) {
        return malformed("it has a zero point, which it does not use");
    }
    let power = |scale: f32| {
        if scale < libm::exp2f(-15.0) {
            return 1.0;
        }
        // The float steps of `tqt.py`; their result is an integer.
        1.0 / libm::exp2f(libm::floorf(libm::log2f(1.0 / scale)))
    };
    let rounding = if b.is_constant(x)? {
        Rounding::HalfEven
    } else {
        Rounding::HalfEvenNegativeUp
    };
    Ok(Affine {
        scale: whole.scale.map(power),
        rounding,
        ..whole
    })
}
