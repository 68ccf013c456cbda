//! One function a layer type: checks parameters and shapes, emits the operation.

mod elementwise;
mod matrix;
mod movement;
mod resize;
mod window;

use super::Layer;
use super::bind::Binder;
use crate::onnx::fail::{Outcome, malformed, unsupported};
use crate::{Activation, Op, ValueId};

/// A layer on its way: the layer, and the values of its bottoms.
#[derive(Clone, Copy)]
struct Step<'a> {
    layer: &'a Layer,
    inputs: &'a [ValueId],
}

/// Emits what a layer computes.
pub(super) fn lower(b: &mut Binder, layer: &Layer, inputs: &[ValueId]) -> Outcome<()> {
    let step = Step { layer, inputs };
    match layer.kind.as_str() {
        "Convolution" => window::conv(b, step, false),
        "ConvolutionDepthwise"
        | "DepthwiseConv"
        | "DepthwiseConvolution"
        | "ConvolutionDepthWise" => window::conv(b, step, true),
        "Deconvolution" => window::deconv(b, step),
        "Pooling" => window::pool(b, step),
        "InnerProduct" => matrix::inner_product(b, step),
        "BatchNorm" => elementwise::batch_norm(b, step),
        "Scale" => elementwise::scale(b, step),
        "Bias" => elementwise::bias(b, step),
        "Power" => elementwise::power(b, step),
        "Eltwise" => elementwise::eltwise(b, step),
        "ReLU" => elementwise::relu(b, step),
        "ReLU6" => elementwise::unary(b, step, Activation::Clip { min: 0.0, max: 6.0 }),
        "PReLU" => elementwise::prelu(b, step),
        "Sigmoid" => elementwise::unary(b, step, Activation::Sigmoid),
        "TanH" => elementwise::unary(b, step, Activation::Tanh),
        "Softmax" => matrix::softmax(b, step),
        "Concat" => movement::concat(b, step),
        "Slice" => movement::slice(b, step),
        "Flatten" => movement::flatten(b, step),
        "Reshape" => movement::reshape(b, step),
        "Permute" => movement::permute(b, step),
        "Crop" => movement::crop(b, step),
        "ShuffleChannel" => movement::shuffle_channel(b, step),
        "Dropout" => movement::identity(b, step),
        "Split" => movement::split(b, step),
        "Upsample" => resize::upsample(b, step),
        "Interp" => resize::interp(b, step),
        _ => unsupported("this layer type is not evaluated"),
    }
}

impl Step<'_> {
    /// The only bottom.
    fn one(&self) -> Outcome<ValueId> {
        match self.inputs {
            [one] => Ok(*one),
            _ => malformed(format!("it has {} bottoms, not one", self.inputs.len())),
        }
    }

    /// The only bottom, an image.
    fn image(&self, b: &Binder) -> Outcome<(ValueId, [usize; 4])> {
        let id = self.one()?;
        match <[usize; 4]>::try_from(b.shape(id)) {
            Ok(shape) => Ok((id, shape)),
            Err(_) => unsupported(format!(
                "a bottom of shape {:?}; it must have 4 axes",
                b.shape(id)
            )),
        }
    }

    /// The same elements in another shape.
    fn reshaped(
        &self,
        b: &mut Binder,
        role: &str,
        id: ValueId,
        shape: Vec<usize>,
    ) -> Outcome<ValueId> {
        if b.shape(id) == shape {
            return Ok(id);
        }
        b.helper(self.layer, role, Op::Reshape, vec![id], shape)
    }
}
