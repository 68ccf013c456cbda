//! Lints: what in a quantized graph is known to cost accuracy on a target, found without running anything.
//!
//! Each finding names its node and says what was found; its [`Lint`] says why that matters, who said so, and what
//! to do. What it costs on given inputs is the difference of the layer that it points at, which a check measures.

mod cost;
mod grids;
mod joins;
mod shared;
mod shifts;
mod show;
mod trace;
mod weights;

use align_check_graph::Graph;
use align_check_specs::Spec;
use serde::Serialize;

pub use cost::{Cost, cost};
pub use show::json;
pub(crate) use show::text;
use trace::Trace;

/// One place in a graph that a lint speaks of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which lint.
    pub lint: Lint,
    /// The node.
    pub node: String,
    /// What was found there, with numbers.
    pub text: String,
    /// Tensors of the layer that the node belongs to, from the node's output to the quantizer behind it: the
    /// first of them that a check compares shows the cost.
    #[serde(skip)]
    pub tensors: Vec<String>,
}

/// The lints, in the order in which they are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lint {
    /// A layer computes in float because an operand or the result has no quantizer.
    FloatFallback,
    /// One weight, quantized for one reader and float for another.
    SharedWeightHalfFloat,
    /// A tensor that one reader takes quantized and another one in float.
    MixedFork,
    /// Weights are quantized in front of a batch normalization that was not merged.
    UnfoldedBatchNorm,
    /// Both operands of a residual addition are quantized.
    ResidualBothQuantized,
    /// Codes go into an operation without weights, and none come out.
    MissingOutputQuantizer,
    /// The operands of a concatenation or an addition have different scales.
    UnequalScales,
    /// Two quantizers in a row, with different parameters.
    QuantizerChain,
    /// The sum's range was given to an operand.
    OperandHasRangeOfSum,
    /// The quantizer behind a `Relu` spends codes on negative values.
    NegativeCodesAfterRelu,
    /// Scales for channels where the target has one for a tensor.
    PerChannel,
    /// A scale that is no power of two.
    NotPowerOfTwo,
    /// A zero point where the target has none.
    ZeroPoint,
    /// The lowest code occurs among symmetric weights.
    LowestWeight,
    /// The bias' scale is not the product of input and weight scale.
    BiasScale,
    /// An unsigned range that lacks its largest code.
    UnsignedNarrow,
    /// A range of 7 bits in a type of 8.
    ReducedRange,
    /// Weights outside of their quantizer's range.
    ClippedWeights,
    /// Weights that lie on a tie of their quantizer.
    WeightTies,
    /// A shift that the hardware does not have.
    ShiftRange,
    /// A constant that the target replaces.
    ReplacedConstant,
}

impl Lint {
    /// Its name, as in reports.
    pub fn id(self) -> &'static str {
        match self {
            Self::FloatFallback => "float-fallback",
            Self::SharedWeightHalfFloat => "shared-weight-half-float",
            Self::MixedFork => "mixed-fork",
            Self::UnfoldedBatchNorm => "unfolded-batch-norm",
            Self::ResidualBothQuantized => "residual-both-quantized",
            Self::MissingOutputQuantizer => "missing-output-quantizer",
            Self::UnequalScales => "unequal-scales",
            Self::QuantizerChain => "quantizer-chain",
            Self::OperandHasRangeOfSum => "operand-has-range-of-sum",
            Self::NegativeCodesAfterRelu => "negative-codes-after-relu",
            Self::PerChannel => "per-channel",
            Self::NotPowerOfTwo => "not-power-of-two",
            Self::ZeroPoint => "zero-point",
            Self::LowestWeight => "lowest-weight",
            Self::BiasScale => "bias-scale",
            Self::UnsignedNarrow => "unsigned-narrow",
            Self::ReducedRange => "reduced-range",
            Self::ClippedWeights => "clipped-weights",
            Self::WeightTies => "weight-ties",
            Self::ShiftRange => "shift-range",
            Self::ReplacedConstant => "replaced-constant",
        }
    }

    /// Why it matters, and who says so.
    pub fn cause(self) -> &'static str {
        match self {
            Self::FloatFallback => {
                "without a quantizer on every operand and behind the result the layer runs in float, or not at all \
                 on hardware without float units"
            }
            Self::SharedWeightHalfFloat => {
                "some tools quantize only the first of several uses of a module (torchao's XNNPACKQuantizer, \
                 litert-torch's PT2E): the other use stays float without a word"
            }
            Self::MixedFork => {
                "integer kernels hand on codes; the float reader sees another tensor than the one that was trained \
                 (PT2E forks)"
            }
            Self::UnfoldedBatchNorm => {
                "hardware merges the normalization into the convolution and quantizes the product anew, or scales per \
                 channel behind it: the trained codes are not those that run (NVIDIA/TensorRT#4369)"
            }
            Self::ResidualBothQuantized => {
                "the target fuses the addition into the convolution: a quantizer between them splits the kernel or \
                 only clips (TensorRT 'Explicit Quantization': quantize the identity branch only; OpenVINO's inner \
                 quantizer does not round)"
            }
            Self::MissingOutputQuantizer => {
                "an operation without weights that reads codes must write codes, or it runs in float behind an extra \
                 conversion (TensorRT 'Explicit Quantization')"
            }
            Self::UnequalScales => {
                "every branch is requantized to the output's scale, with a rounding of its own (NVIDIA/TensorRT#2527, \
                 NVIDIA/Model-Optimizer#140)"
            }
            Self::QuantizerChain => {
                "two roundings where an engine may do one: chains are collapsed or kept, by engine \
                 (NVIDIA/TensorRT#2527)"
            }
            Self::OperandHasRangeOfSum => {
                "TensorFlow's post-training quantization gives an operand that only feeds an ADD the range of the \
                 sum: its own range may be far smaller"
            }
            Self::NegativeCodesAfterRelu => {
                "ranges that start at [-6, 6] and move slowly leave a negative half behind a ReLU (tfmot); its codes \
                 never occur, the ReLU's bound is the zero point, and who drops the ReLU because its quantizer clamps lets \
                 negative numbers through (onnxruntime-qnn PR#478)"
            }
            Self::PerChannel => {
                "the target has one scale a tensor: channels lose up to the ratio of their scales"
            }
            Self::NotPowerOfTwo => {
                "the target shifts: a scale between two powers of two costs up to half of the range"
            }
            Self::ZeroPoint => {
                "the target's codes are symmetric: a one-sided range loses up to one bit"
            }
            Self::LowestWeight => {
                "trained or exported with the whole range, while kernels and calibrations assume [-127, 127] \
                 (TFLite's quantization specification; ModelTC/MQBench#50)"
            }
            Self::BiasScale => {
                "integer accumulators add the bias in steps of input scale times weight scale; another scale is \
                 requantized, or taken for that one (shared biases carry the scale of one use only)"
            }
            Self::UnsignedNarrow => {
                "QCDQ, FINN and 8-bit integer types have no unsigned narrow range: the largest code becomes reachable \
                 (qonnx qonnx_to_qcdq.py)"
            }
            Self::ReducedRange => {
                "fake-quant clips at half of the codes, the engine's type at all of them: values beyond the \
                 calibrated range differ by tens of codes (PyTorch's reduce_range on fbgemm and x86)"
            }
            Self::ClippedWeights => {
                "the file's float weights exceed the quantizer's range: tools that quantize them anew (from max-abs) \
                 get another scale"
            }
            Self::WeightTies => {
                "tools that multiply by 1/scale and tools that divide put these weights on different codes (a scale \
                 of amax/127.5 makes such ties by construction)"
            }
            Self::ShiftRange => {
                "the toolchain moves positions until its shifts fit, and says nothing"
            }
            Self::ReplacedConstant => {
                "the toolchain or the hardware computes with another constant, and says nothing"
            }
        }
    }

    /// What to do about it.
    pub fn fix(self) -> &'static str {
        match self {
            Self::FloatFallback => {
                "quantize the tensor, or accept float there and keep the layer out of the comparison"
            }
            Self::SharedWeightHalfFloat => {
                "use one module with tied parameters for each call, and check both in the export"
            }
            Self::MixedFork => "place one quantizer on the tensor, in front of all its readers",
            Self::UnfoldedBatchNorm => {
                "fold batch normalization before quantizers are placed and calibrated"
            }
            Self::ResidualBothQuantized => {
                "remove the quantizer between the convolution and the addition; keep the identity's"
            }
            Self::MissingOutputQuantizer => "place a quantizer behind the operation",
            Self::UnequalScales => "give the operands one observer, so that they share their scale",
            Self::QuantizerChain => "give both the same parameters, or remove one",
            Self::OperandHasRangeOfSum => "calibrate the operand on its own, or quantize with QAT",
            Self::NegativeCodesAfterRelu => {
                "train longer, or start the observer from calibrated ranges"
            }
            Self::PerChannel => {
                "quantize per tensor for this target (after equalizing the channels' ranges)"
            }
            Self::NotPowerOfTwo => "train or calibrate with power-of-two scales",
            Self::ZeroPoint => "calibrate symmetric ranges for this target",
            Self::LowestWeight => "quantize weights in the narrow range [-127, 127]",
            Self::BiasScale => {
                "export the bias as int32 with input scale times weight scale, one for each use"
            }
            Self::UnsignedNarrow => "train with the whole unsigned range",
            Self::ReducedRange => {
                "calibrate for 8 bits, or check that no value leaves the calibrated range"
            }
            Self::ClippedWeights => "export clipped weights, or the integer codes",
            Self::WeightTies => "export integer weights, folded by the tool that trained them",
            Self::ShiftRange => {
                "keep positions of neighbouring tensors closer, and compare with the compiled model's positions"
            }
            Self::ReplacedConstant => "train with the target's constant",
        }
    }
}

/// Finds what is known to cost accuracy on a target. The graph still holds its constants.
pub fn lint(graph: &Graph, spec: &Spec) -> Vec<Finding> {
    let trace = Trace::new(graph);
    let mut findings = Vec::new();
    grids::lint(&trace, spec, &mut findings);
    joins::lint(&trace, spec, &mut findings);
    weights::lint(&trace, spec, &mut findings);
    shared::lint(&trace, &mut findings);
    shifts::lint(&trace, spec, &mut findings);
    findings.sort_by_key(|finding| finding.lint);
    findings
}
