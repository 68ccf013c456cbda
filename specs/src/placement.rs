//! Where a target puts its quantizers: `[placement]`.
//!
//! Every field is one decision of a target's compiler. A field that is absent (or empty) changes nothing:
//! the target then quantizes where the model does.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use strum::VariantArray;

/// Where the target puts its quantizers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Placement {
    /// Whose quantizers the target begins with.
    pub quantizers: PlacementRule,
    /// What becomes of a convolution that only an addition reads. Absent: it is a layer of its own.
    #[serde(default)]
    pub residual: Option<ResidualRule>,
    /// Operations over which a quantizer behind them moves to their input.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commutes: Vec<Commuting>,
    /// What becomes of a quantizer behind a concat. Absent: it stays there.
    #[serde(default)]
    pub concat: Option<ConcatRule>,
    /// What becomes of a quantizer that only another quantizer reads. Absent: both round.
    #[serde(default)]
    pub chains: Option<ChainRule>,
    /// What becomes of quantizers with equal parameters on one tensor. Absent: each is computed.
    #[serde(default)]
    pub equal_quantizers: Option<EqualRule>,
    /// Which clamps belong to the integer kernel of the operation in front of them. Absent: all.
    #[serde(default)]
    pub clamps: Option<ClampRule>,
    /// Which operations with signed codes have an integer kernel. Absent: all that have a rule.
    #[serde(default)]
    pub signed_codes: Option<SignedRule>,
    /// Which biases a sum of products may have to be computed on codes. Absent: all.
    #[serde(default)]
    pub bias: Option<BiasRule>,
    /// What becomes of a convolution behind which a `ReLU6` stands. Absent: nothing.
    #[serde(default)]
    pub relu6: Option<Relu6Rule>,
    /// What an operation without weights needs to be computed on codes. Absent: nothing is said.
    #[serde(default)]
    pub unweighted: Option<UnweightedRule>,
    /// What becomes of a sum of products whose weights or input have no quantizer. Absent: the target quantizes
    /// them by its own rules.
    #[serde(default)]
    pub unquantized: Option<UnquantizedRule>,
    /// What a delegate leaves to the kernels of the software around it. Absent: nothing is said. The arithmetic of
    /// these operators stands in the other sections, as that of all others.
    #[serde(default)]
    pub left: Option<Left>,
}

/// Operators that a delegate leaves to the kernels of the software around it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Left {
    /// The target that these kernels are.
    pub to: String,
    /// Operators by their names in model files (`AVERAGE_POOL_2D`), and when each is left.
    pub operators: BTreeMap<String, LeftWhen>,
}

/// When an operator is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum LeftWhen {
    /// Always.
    Always,
    /// Where it makes unsigned codes.
    Unsigned,
    /// Where an input has another scale or zero point than the output.
    Rescaled,
    /// Where it makes signed codes of unsigned ones, or unsigned codes of signed ones.
    OtherSign,
}

/// Whose quantizers a target begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlacementRule {
    /// The model's.
    Model,
}

/// What becomes of a convolution whose output only an addition with another activation reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum ResidualRule {
    /// The addition is part of the convolution. A quantizer between them clamps and does not round: with its
    /// line `k, i` (as in `multiplier = "fake-quantize"`, less `min`) and the range `[ol, oh]`, `o` as in
    /// `add = "fake-quantize"`, `x = fma(v, f32(k * o), f32(f32(i * o) + ol))`, clamped to
    /// `[ol, f32(f32((max - min) * o) + ol)]`. Without one, `x = f32(f32(v / sr) - zr)`. The code of the other
    /// operand is added, and the sum quantized with the output's range divided by its scale `sr` (`OpenVINO`).
    InnerClips,
    /// Where no quantizer stands between them, the addition is part of the convolution's epilogue:
    /// `f32(f32(f32(acc) * f32(sx * sw)) + b)`, plus `f32((qr - zr) * sr)`, `ReLU`, then `[quantize]`. With a
    /// quantizer between them both are layers of their own (`TensorRT`).
    Epilogue,
}

/// Operations that choose or move elements: quantizing in front of them gives the same codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum Commuting {
    /// Maximum over windows.
    MaxPool,
    /// Reshape, flatten, squeeze.
    Reshape,
    /// Axes permuted.
    Transpose,
    /// Slice, split.
    Slice,
    /// Resampling that copies the nearest element.
    Nearest,
    /// Channels into space.
    DepthToSpace,
}

/// What becomes of a quantizer behind a concat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum ConcatRule {
    /// It is cloned onto every input; an input that has codes already, of another scale, is rescaled
    /// (`TensorRT`).
    CloneToInputs,
}

/// What becomes of a quantizer that only another quantizer reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum ChainRule {
    /// Behind a sum of products it disappears: the second one rounds alone (`TensorRT`).
    Collapse,
    /// Both become one, of the range that they share: `s = (min(h1, h2) - max(l1, l2)) / (max - min)` and
    /// `z = round(min - max(l1, l2) / s)` in `f32`, for affine quantizers of one type (ONNX Runtime).
    Intersect,
}

/// What becomes of quantizers with equal parameters on one tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum EqualRule {
    /// They become one.
    Merge,
}

/// Which clamps (`Relu`, `Clip`) belong to the integer kernel of the operation in front of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum ClampRule {
    /// Those that the range of the quantizer behind them implies, to `2^-23`. With another one the operation, the
    /// clamp and the quantizer are computed in float, in files of quantizers and floats (ONNX Runtime).
    Implied,
}

/// Which operations with signed codes have an integer kernel, in files of quantizers and floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum SignedRule {
    /// Those whose signed codes, read and written, have one reader each; the rest is computed in float
    /// (ONNX Runtime).
    ReadOnce,
}

/// Which biases a sum of products may have to be computed on codes, in files of quantizers and floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum BiasRule {
    /// None, a float one, or `int32` at the scale `sx * sw` to 1 %, whose integers are taken over; with another one it is computed in float
    /// (ONNX Runtime).
    Int32ProductScale,
}

/// What becomes of a convolution behind which a `ReLU6` stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum Relu6Rule {
    /// It writes unsigned 8-bit codes of the range 0 to 6, which are quantized again unless the model's range
    /// lies within 0.01 of it (the `TFLite` delegate for Hexagon).
    RequantizedAgain,
}

/// What an operation without weights (an addition, a pool) needs to be computed on codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum UnweightedRule {
    /// A quantizer behind it; without one it reads codes and computes in float (`TensorRT`).
    NeedsOutput,
}

/// What becomes of a sum of products (a convolution, a matrix product) that the model leaves unquantized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum UnquantizedRule {
    /// It is computed in float: only what stands between quantizers is computed on codes.
    Float,
}

impl Placement {
    /// The model's own quantizers, as they are.
    pub const MODEL: Self = Self {
        quantizers: PlacementRule::Model,
        residual: None,
        commutes: Vec::new(),
        concat: None,
        chains: None,
        equal_quantizers: None,
        clamps: None,
        signed_codes: None,
        bias: None,
        relu6: None,
        unweighted: None,
        unquantized: None,
        left: None,
    };

    /// Whether a graph may look different on the target.
    pub fn rewrites(&self) -> bool {
        let kept = Self {
            clamps: None,
            signed_codes: None,
            bias: None,
            unweighted: None,
            unquantized: None,
            left: None,
            ..self.clone()
        };
        kept != Self::MODEL
    }
}
