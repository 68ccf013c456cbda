//! The precision table: which type everything in each layer has. `golden/hls4ml/*/precision.toml` are examples.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::num::FixedType;

/// Types of a whole network, as hls4ml's converted model has them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Precision {
    /// hls4ml's backend.
    pub backend: String,
    /// How layers are connected: `io_parallel` or `io_stream`.
    pub io_type: String,
    /// Layers, by the tensor of the model that a layer's result stands for.
    pub layers: BTreeMap<String, Table>,
}

/// Types of one layer.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// hls4ml's name for it.
    #[serde(default)]
    pub layer: String,
    /// What it computes.
    pub kind: Kind,
    /// Nodes of the model that it stands for; the first is the main one.
    #[serde(default)]
    pub nodes: Vec<String>,
    /// Tensors that it reads.
    #[serde(default)]
    pub inputs: Vec<String>,
    /// Which function an activation is.
    #[serde(default)]
    pub activation: Option<ActivationName>,
    /// How sums are laid out; decides the order of their terms.
    #[serde(default)]
    pub strategy: Option<Strategy>,
    /// Every so many-th term is added first (strategy `resource`).
    #[serde(default)]
    pub reuse_factor: Option<usize>,
    /// Factors of `ApplyAlpha` and `BatchNormalization`, before they are cast to `scale`.
    #[serde(default)]
    pub scale_values: Vec<f64>,
    /// Offsets of these, before they are cast to `bias`.
    #[serde(default)]
    pub bias_values: Vec<f64>,
    /// Type of the accumulator.
    #[serde(default)]
    pub accum: Option<FixedType>,
    /// Type of the bias.
    #[serde(default)]
    pub bias: Option<FixedType>,
    /// Type of the weights.
    #[serde(default)]
    pub weight: Option<FixedType>,
    /// Type of the factors.
    #[serde(default)]
    pub scale: Option<FixedType>,
    /// Type of the result.
    pub result: FixedType,
}

/// What a layer of hls4ml computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[allow(missing_docs, reason = "hls4ml's own names")]
pub enum Kind {
    Input,
    Activation,
    ApplyAlpha,
    BatchNormalization,
    Conv1D,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Merge,
    PointwiseConv1D,
    PointwiseConv2D,
    Pooling1D,
    Pooling2D,
    Reshape,
    Transpose,
}

impl Kind {
    /// Whether it sums products.
    pub const fn is_sum(self) -> bool {
        matches!(
            self,
            Self::Conv1D
                | Self::Conv2D
                | Self::Dense
                | Self::DepthwiseConv2D
                | Self::PointwiseConv1D
                | Self::PointwiseConv2D
        )
    }
}

/// Activation functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActivationName {
    /// A cast.
    Linear,
    /// Positive numbers are cast, others become zero.
    Relu,
}

/// How sums are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Terms in the order of the weights.
    Latency,
    /// With a reuse factor `r` of at most the number of terms: every `r`-th, `r` times.
    Resource,
}

impl Precision {
    /// Whether a layer's result stands for a tensor of the model.
    pub fn names(&self, tensor: &str) -> bool {
        self.layers.contains_key(tensor)
    }
}
