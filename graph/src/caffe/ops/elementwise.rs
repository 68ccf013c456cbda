//! Elementwise layers: normalization, scales, sums, activations.

use super::Step;
use crate::caffe::bind::{Binder, axis};
use crate::caffe::text::Message;
use crate::onnx::fail::{Outcome, malformed, unsupported};
use crate::{Activation, Binary, Op, ValueId};

/// `(x - mean) / sqrt(variance + eps)`; the blobs hold sums that blob 2 divides
/// (`BVLC/caffe` `src/caffe/layers/batch_norm_layer.cpp`).
pub(super) fn batch_norm(b: &mut Binder, step: Step) -> Outcome<()> {
    let param = step.layer.message.message("batch_norm_param")?;
    param.only(&["use_global_stats", "moving_average_fraction", "eps"])?;
    if !param.flag("use_global_stats", true)? {
        return unsupported("statistics of the batch (use_global_stats: false)");
    }
    let epsilon = param.float("eps", 1e-5)?;
    let x = step.one()?;
    let shape = b.shape(x).to_vec();
    let channels = if shape.len() > 1 { shape[1] } else { 1 };
    if shape.len() < 2 {
        return unsupported(format!("a bottom of shape {shape:?}"));
    }
    let count = b.blob(step.layer, 2, &[1])?[0];
    let factor = if count == 0.0 { 0.0 } else { 1.0 / count };
    let mut divided = |index: usize, role: &str| {
        let blob = b.blob(step.layer, index, &[channels])?;
        let data: Vec<f32> = blob.iter().map(|x| x * factor).collect();
        if role == "variance" && data.iter().any(|v| *v + epsilon <= 0.0) {
            return malformed("a variance that is not positive");
        }
        b.constant(step.layer, role, vec![channels], data)
    };
    let (mean, variance) = (divided(0, "mean")?, divided(1, "variance")?);
    let one = b.constant(step.layer, "one", vec![channels], vec![1.0; channels])?;
    let zero = b.constant(step.layer, "zero", vec![channels], vec![0.0; channels])?;
    let inputs = vec![x, one, zero, mean, variance];
    b.emit(step.layer, 0, Op::BatchNorm { epsilon }, inputs, shape)
}

/// The shape of a parameter of `axes` axes from `from` on, as it broadcasts to the bottom.
fn spread(shape: &[usize], from: usize, own: &[usize]) -> Vec<usize> {
    let mut all = own.to_vec();
    all.resize(shape.len().saturating_sub(from).max(own.len()), 1);
    all
}

/// The axes that a blob of `param` covers, and as what it broadcasts.
fn blob_axes(param: &Message, shape: &[usize]) -> Outcome<(Vec<usize>, Vec<usize>)> {
    let from = axis(param.int("axis")?.unwrap_or(1), shape.len())?;
    let count = match param.int("num_axes")?.unwrap_or(1) {
        -1 => shape.len() - from,
        count => match usize::try_from(count) {
            Ok(count) if from + count <= shape.len() => count,
            _ => return malformed(format!("num_axes {count} for a bottom of shape {shape:?}")),
        },
    };
    let own = shape[from..from + count].to_vec();
    let all = spread(shape, from, &own);
    Ok((own, all))
}

/// A blob as a constant that broadcasts to the bottom.
fn factor(
    b: &mut Binder,
    step: Step,
    index: usize,
    role: &str,
    axes: &(Vec<usize>, Vec<usize>),
) -> Outcome<ValueId> {
    let data = b.blob(step.layer, index, &axes.0)?;
    b.constant(step.layer, role, axes.1.clone(), data)
}

/// The second bottom, as it broadcasts to the first.
fn second(b: &mut Binder, step: Step, param: &Message, shape: &[usize]) -> Outcome<ValueId> {
    let from = axis(param.int("axis")?.unwrap_or(1), shape.len())?;
    let own = b.shape(step.inputs[1]).to_vec();
    if shape.get(from..from + own.len()) != Some(&own) {
        return malformed(format!(
            "a second bottom of shape {own:?} at axis {from} of {shape:?}"
        ));
    }
    let all = spread(shape, from, &own);
    step.reshaped(b, "spread", step.inputs[1], all)
}

/// `x * scale + bias`, scale a blob or the second bottom (`BVLC/caffe` `src/caffe/layers/scale_layer.cpp`).
pub(super) fn scale(b: &mut Binder, step: Step) -> Outcome<()> {
    let param = step.layer.message.message("scale_param")?;
    param.only(&["axis", "num_axes", "filler", "bias_term", "bias_filler"])?;
    let with_bias = param.flag("bias_term", false)?;
    let (x, scale, axes) = match *step.inputs {
        [x] => {
            let axes = blob_axes(param, b.shape(x))?;
            (x, factor(b, step, 0, "scale", &axes)?, axes)
        }
        [x, _] => {
            if with_bias {
                return unsupported("a bias behind a scale that is a bottom");
            }
            let shape = b.shape(x).to_vec();
            (x, second(b, step, param, &shape)?, Default::default())
        }
        _ => return malformed("it has other than one or two bottoms"),
    };
    let shape = b.shape(x).to_vec();
    let mul = Op::Binary(Binary::Mul);
    if !with_bias {
        return b.emit(step.layer, 0, mul, vec![x, scale], shape);
    }
    let product = b.helper(step.layer, "product", mul, vec![x, scale], shape.clone())?;
    let bias = factor(b, step, 1, "bias", &axes)?;
    let add = Op::Binary(Binary::Add);
    b.emit(step.layer, 0, add, vec![product, bias], shape)
}

/// `x + bias` (`BVLC/caffe` `src/caffe/layers/bias_layer.cpp`).
pub(super) fn bias(b: &mut Binder, step: Step) -> Outcome<()> {
    let param = step.layer.message.message("bias_param")?;
    param.only(&["axis", "num_axes", "filler"])?;
    let (x, bias) = match *step.inputs {
        [x] => {
            let axes = blob_axes(param, b.shape(x))?;
            (x, factor(b, step, 0, "bias", &axes)?)
        }
        [x, _] => {
            let shape = b.shape(x).to_vec();
            (x, second(b, step, param, &shape)?)
        }
        _ => return malformed("it has other than one or two bottoms"),
    };
    let shape = b.shape(x).to_vec();
    let add = Op::Binary(Binary::Add);
    b.emit(step.layer, 0, add, vec![x, bias], shape)
}

/// `(shift + scale * x)^power`, of which the power 1 is evaluated.
pub(super) fn power(b: &mut Binder, step: Step) -> Outcome<()> {
    let param = step.layer.message.message("power_param")?;
    param.only(&["power", "scale", "shift"])?;
    let power = param.float("power", 1.0)?;
    if power.to_bits() != 1.0f32.to_bits() {
        return unsupported(format!("the power {power}; only 1 is evaluated"));
    }
    let x = step.one()?;
    let shape = b.shape(x).to_vec();
    let (scale, shift) = (param.float("scale", 1.0)?, param.float("shift", 0.0)?);
    let scale = b.constant(step.layer, "scale", vec![1], vec![scale])?;
    let shift = b.constant(step.layer, "shift", vec![1], vec![shift])?;
    let mul = Op::Binary(Binary::Mul);
    let product = b.helper(step.layer, "product", mul, vec![x, scale], shape.clone())?;
    let add = Op::Binary(Binary::Add);
    b.emit(step.layer, 0, add, vec![product, shift], shape)
}

/// Sums with a factor for each bottom, and products, from the first bottom to the last
/// (`BVLC/caffe` `src/caffe/layers/eltwise_layer.cpp`).
pub(super) fn eltwise(b: &mut Binder, step: Step) -> Outcome<()> {
    let param = step.layer.message.message("eltwise_param")?;
    param.only(&["operation", "coeff", "stable_prod_grad"])?;
    let operation = param.choice("operation", &["PROD", "SUM", "MAX"], "SUM")?;
    let mut factors = param.floats("coeff")?;
    let [first, rest @ ..] = step.inputs else {
        return malformed("it has no bottom");
    };
    if rest.is_empty() {
        return malformed("it has one bottom, it needs two or more");
    }
    let shape = b.shape(*first).to_vec();
    if let Some(&other) = rest.iter().find(|&&id| b.shape(id) != shape) {
        return malformed(format!(
            "bottoms of shapes {shape:?} and {:?}",
            b.shape(other)
        ));
    }
    let binary = match operation {
        "PROD" => Binary::Mul,
        "SUM" => Binary::Add,
        _ => return unsupported("the elementwise maximum"),
    };
    if !factors.is_empty() && (operation != "SUM" || factors.len() != step.inputs.len()) {
        return malformed(format!(
            "{} coefficients for {} bottoms ({operation})",
            factors.len(),
            step.inputs.len()
        ));
    }
    factors.resize(step.inputs.len(), 1.0);
    let is = |x: f32, y: f32| x.to_bits() == y.to_bits();
    let mut sum = None;
    for (index, (&id, &factor)) in step.inputs.iter().zip(&factors).enumerate() {
        let minus = sum.is_some() && is(factor, -1.0);
        let term = if is(factor, 1.0) || minus {
            id
        } else {
            let role = format!("coeff{index}");
            let constant = b.constant(step.layer, &role, vec![1], vec![factor])?;
            let role = format!("term{index}");
            let op = Op::Binary(Binary::Mul);
            b.helper(step.layer, &role, op, vec![id, constant], shape.clone())?
        };
        let Some(before) = sum else {
            sum = Some(term);
            continue;
        };
        let op = Op::Binary(if minus { Binary::Sub } else { binary });
        if index + 1 == step.inputs.len() {
            return b.emit(step.layer, 0, op, vec![before, term], shape);
        }
        let role = format!("sum{index}");
        sum = Some(b.helper(step.layer, &role, op, vec![before, term], shape.clone())?);
    }
    malformed("it has no bottom")
}

pub(super) fn unary(b: &mut Binder, step: Step, activation: Activation) -> Outcome<()> {
    let x = step.one()?;
    let shape = b.shape(x).to_vec();
    b.emit(step.layer, 0, Op::Activation(activation), vec![x], shape)
}

pub(super) fn relu(b: &mut Binder, step: Step) -> Outcome<()> {
    let param = step.layer.message.message("relu_param")?;
    param.only(&["negative_slope", "engine"])?;
    let alpha = param.float("negative_slope", 0.0)?;
    let plain = alpha == 0.0;
    unary(
        b,
        step,
        if plain {
            Activation::Relu
        } else {
            Activation::LeakyRelu { alpha }
        },
    )
}

/// One slope a channel, or one for all (`BVLC/caffe` `src/caffe/layers/prelu_layer.cpp`).
pub(super) fn prelu(b: &mut Binder, step: Step) -> Outcome<()> {
    let param = step.layer.message.message("prelu_param")?;
    param.only(&["filler", "channel_shared"])?;
    let x = step.one()?;
    let shape = b.shape(x).to_vec();
    let Some(&channels) = shape.get(1) else {
        return unsupported(format!("a bottom of shape {shape:?}"));
    };
    let channels = if param.flag("channel_shared", false)? {
        1
    } else {
        channels
    };
    let slopes = b.blob(step.layer, 0, &[channels])?;
    let spread = spread(&shape, 1, &[channels]);
    let slopes = b.constant(step.layer, "slope", spread, slopes)?;
    let op = Op::Activation(Activation::PRelu);
    b.emit(step.layer, 0, op, vec![x, slopes], shape)
}
