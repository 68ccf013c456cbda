//! The rule zoo as types: every arithmetic decision that a target makes, and its known points.
//!
//! A [`Spec`] picks a point for each decision; `evidence/rule-zoo.md` of the design calls the decisions
//! A to N. Nothing here computes: the simulators give these names their meaning.

use serde::{Deserialize, Serialize};
use strum::VariantArray;

use crate::Placement;

/// Rounding of a real (or of a right shift) to an integer, named without ambiguity.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    VariantArray,
    strum::IntoStaticStr,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Rounding {
    /// Nearest, ties to even (IEEE 754 `roundTiesToEven`, QONNX `ROUND`, `AP_RND_CONV`).
    HalfEven,
    /// Nearest, ties away from zero (C `round`, QONNX `HALF_UP`, `AP_RND_INF`).
    HalfAway,
    /// Nearest, ties toward plus infinity: `floor(x + 1/2)` (`DPU_ROUND`, `AP_RND`, gemmlowp's `SRDHM`).
    HalfUp,
    /// Nearest, ties toward minus infinity (`AP_RND_MIN_INF`).
    HalfDown,
    /// Nearest, ties toward zero (QONNX `HALF_DOWN`, `AP_RND_ZERO`).
    HalfTowardZero,
    /// Negative ties up, positive ties to even (Brevitas `dpu_round`, `MQBench`'s Vitis).
    HalfUpIfNegativeElseHalfEven,
    /// Toward minus infinity (arithmetic shift, `AP_TRN`).
    Floor,
    /// Toward plus infinity.
    Ceil,
    /// Toward zero (`AP_TRN_ZERO`, C integer division).
    Trunc,
    /// Away from zero (QONNX `UP`).
    Away,
}

impl Rounding {
    /// Every one.
    pub const ALL: &[Self] = Self::VARIANTS;
}

/// What a number beyond the range of its type becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum Overflow {
    /// Never happens: the type is as wide as it must be.
    Exact,
    /// Modulo `2^width`, two's complement.
    Wrap,
    /// Clamped to the range.
    Saturate,
}

/// Decision A: how activations are quantized, and what the target can hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Activations {
    /// Kind of grid.
    pub quantizer: Grid,
    /// Widths that the target has, in bits; the narrowest one that holds the model's codes is taken.
    /// Empty: any.
    #[serde(default)]
    pub bits: Vec<u32>,
    /// Widest codes that the integer kernels take; wider ones are stored, but computed in float. Absent: all.
    #[serde(default)]
    pub kernel_bits: Option<u32>,
    /// Signedness of the codes.
    #[serde(default)]
    pub signed: Signedness,
    /// Which zero points exist.
    #[serde(default)]
    pub zero_point: ZeroPoints,
    /// Whether each channel may have a scale of its own.
    #[serde(default = "per_tensor")]
    pub granularity: Granularity,
    /// Where the model's own codes saturate.
    #[serde(default)]
    pub clip: CodeClip,
    /// How the exponent `z` of a logarithmic range is rounded (`gfpq` only).
    #[serde(default)]
    pub range_rounding: Option<Rounding>,
    /// What happens to a value that lies exactly on a zero threshold (`gfpq` only).
    #[serde(default)]
    pub threshold: Option<Threshold>,
}

fn per_tensor() -> Granularity {
    Granularity::PerTensor
}

/// Decision C: how weights are quantized.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Weights {
    /// Kind of grid.
    pub quantizer: Grid,
    /// Widths that the target has, in bits. Empty: any.
    #[serde(default)]
    pub bits: Vec<u32>,
    /// Which zero points exist.
    #[serde(default)]
    pub zero_point: ZeroPoints,
    /// Whether each output channel may have a scale of its own.
    #[serde(default)]
    pub granularity: Granularity,
    /// How a weight is rounded where the target must quantize it anew.
    #[serde(default = "half_even")]
    pub rounding: Rounding,
    /// Who quantizes the float weights of a file that has quantizers for them.
    #[serde(default)]
    pub division: WeightDivision,
}

/// How the codes of float weights are made, where the file has weights as floats and quantizers behind them. What the
/// file stores as codes stays what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum WeightDivision {
    /// As the model's own quantizers do it (ONNX `QuantizeLinear`: `w / s` in `f32`).
    #[default]
    Model,
    /// The target had made them before the file was written, as `w * f32(1 / s)` in `f32` (`PyTorch`'s
    /// `quantize_per_channel`: pytorch/FBGEMM `include/fbgemm/QuantUtils.h`, `Quantize`). The two part near ties, and
    /// a scale of `amax / 127.5` puts the largest weight of each channel on one.
    #[serde(rename = "reciprocal-f32")]
    ReciprocalF32,
}

fn half_even() -> Rounding {
    Rounding::HalfEven
}

/// Kinds of quantization grids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum Grid {
    /// Whatever the model has.
    Model,
    /// `(code - zero_point) * scale`, any positive scale.
    Affine,
    /// As affine, but the scale is a power of two.
    PowerOfTwo,
    /// `HiSilicon`'s logarithmic grid (Grouped Floating Point Quantization).
    Gfpq,
}

/// Signedness of the codes that a target stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum Signedness {
    /// Both exist.
    #[default]
    Any,
    /// Both exist, and codes keep the type in which the model's file stores them; fake-quantized models, which
    /// store none, get signed ones (`TFLite`).
    AsStored,
    /// Two's complement only.
    Signed,
    /// Unsigned only.
    Unsigned,
}

/// Where a target saturates the model's own codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum CodeClip {
    /// At the bounds of the model's quantizer.
    #[default]
    Model,
    /// At the bounds of the integer type that holds them: a quantizer of 0 to 127 (`PyTorch`'s `reduce_range`) ends at
    /// 255, a narrow one of -127 to 127 begins at -128.
    Type,
}

/// Zero points that a target can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ZeroPoints {
    /// Any code.
    #[default]
    Any,
    /// Symmetric only.
    Zero,
    /// Any unsigned code; signed ones are symmetric (`TFLite`'s weights).
    Unsigned,
}

/// How many scales a weight tensor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum Granularity {
    /// One for each output channel is allowed.
    #[default]
    PerChannel,
    /// One.
    PerTensor,
}

/// What a value exactly on the zero threshold of the logarithmic grid becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Threshold {
    /// Zero (the vendor's library).
    Zero,
    /// Passed on unquantized on the positive side, zero on the negative one (`MQBench`'s fake-quant).
    Unquantized,
}

/// Decision B: a real becomes a code (the model's input, and results of float operations).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Quantize {
    /// How `x / scale` is evaluated.
    pub division: Division,
    /// Rounding.
    pub rounding: Rounding,
    /// Whether the zero point is added before or after rounding.
    #[serde(default)]
    pub zero_point: ZeroPointPosition,
    /// What the elements get that whole vectors leave over. Absent: the same.
    #[serde(default)]
    pub tail: Option<QuantizeTail>,
}

/// Elements that are left over where vector instructions take whole blocks of a tensor, in the file's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct QuantizeTail {
    /// Elements of a block.
    pub block: u32,
    /// How `x / scale` is evaluated behind the last block.
    pub division: Division,
    /// Rounding behind the last block.
    pub rounding: Rounding,
}

/// How a quotient by a scale is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum Division {
    /// To the letter of the model's own quantizer (QONNX `Quant`: `f32` division, zero point before rounding).
    Model,
    /// The same, but `x * f32(1 / scale)` in `f32` where the model's quantizer divides by its scale (`PyTorch`'s
    /// fake-quantization: pytorch/pytorch `aten/src/ATen/native/quantized/cpu/kernels/QuantizedOpKernels.cpp`,
    /// `torch/ao/quantization/fx/_decomposed.py`).
    #[serde(rename = "model-reciprocal-f32")]
    ModelReciprocalF32,
    /// One `f32` division.
    #[serde(rename = "divide-f32")]
    DivideF32,
    /// `f32` multiplication by the `f32` reciprocal.
    #[serde(rename = "reciprocal-f32")]
    ReciprocalF32,
    /// One `f64` division.
    #[serde(rename = "divide-f64")]
    DivideF64,
    /// A line through the ends of the range, all in `f32`: `[il, ih] = (min - z) * s, (max - z) * s`,
    /// `k = (max - min) / (ih - il)`; the real is clamped to `[il, ih]`, then
    /// `code = round(x * k - il * k) + min`, each operation rounded to `f32`. Where `|il * k - min| < 1e-4`
    /// (no zero point) `code = round(x * k)`. The zero point stands inside the rounding (`OpenVINO`'s
    /// `FakeQuantize`, `src/common/snippets/src/pass/fq_decomposition.cpp`).
    FakeQuantize,
}

impl Division {
    /// Whether a layer ends in the model's own quantizer, on an exact real.
    pub fn is_model(self) -> bool {
        matches!(self, Self::Model | Self::ModelReciprocalF32)
    }
}

/// Decision D: the bias.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Bias {
    /// Where it is added, and in which type.
    pub format: BiasFormat,
    /// How it is rounded to that type.
    #[serde(default = "half_even")]
    pub rounding: Rounding,
}

/// Where a bias is added, and in which type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum BiasFormat {
    /// The model's real number, added exactly.
    Exact,
    /// An `int32` in units of the accumulator (`sx * sw`), added first.
    Int32,
    /// As `int32`, and the output's zero point is inside it (`hexagon_nn`).
    Int32WithZeroPoint,
    /// As `int32`, but made as `b * f32(1 / f32(sx * sw))` in `f32` (`PyTorch`'s `QNNPACK`).
    Int32ReciprocalF32,
    /// An `f32` in units of the accumulator, added to the accumulator as `f32` (FBGEMM).
    F32InAccumulator,
    /// An `f32`, added after the scale (`oneDNN`, `TensorRT`).
    F32AfterScale,
    /// An `int8` with a power-of-two scale of its own, shifted left into the accumulator (DPU).
    Int8Shifted,
    /// An `int8` that is worth 128 units of the accumulator (MAX78000).
    #[serde(rename = "int8-times-128")]
    Int8Times128,
}

/// Decisions E and F: sums of products.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Accumulator {
    /// Width in bits, 8 to 64. Absent where the sum is exact or real.
    #[serde(default)]
    pub bits: Option<u32>,
    /// What a sum beyond it becomes, at every step.
    pub overflow: Overflow,
    /// In which order terms are added; matters only where the sum saturates (or is a float).
    #[serde(default)]
    pub order: Order,
    /// Products that are added two at a time in 16 bits. Absent: none are.
    #[serde(default)]
    pub pairs: Option<Pairs>,
}

/// Kernels that add the products of unsigned 8-bit activations and signed 8-bit weights two at a time in an `int16`,
/// which saturates (`vpmaddubsw` of x86-64, where it has no VNNI). Products are those of stored codes; zero points are
/// taken into account behind the sum, exactly. Unsigned weights have other kernels, which are exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Pairs {
    /// Which products of a convolution are a pair.
    pub convolution: PairRule,
    /// The same where each output channel reads one input channel, and each input channel has one reader.
    pub depthwise: PairRule,
    /// The same of fully connected layers and of matrix products.
    pub fully_connected: PairRule,
    /// The same of convolutions whose integer sums are the result (`ConvInteger`).
    pub unscaled_convolution: PairRule,
    /// Which grouped convolutions have these kernels.
    pub groups: PairGroups,
    /// What a tap outside the image is worth.
    pub padding: PairPadding,
    /// What becomes of signed activations.
    pub signed: PairSigned,
}

/// Which products are added in one `int16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum PairRule {
    /// None: the kernel adds in 32 bits.
    Exact,
    /// Products 2j and 2j + 1 of the sequence kernel row, kernel column, input channel.
    Sequence,
    /// Input channels 2j and 2j + 1 of one kernel position; the last of an odd number stands alone.
    Pixel,
}

/// Which grouped convolutions add in pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum PairGroups {
    /// All.
    Any,
    /// Those with a multiple of four input and of four output channels a group; others are exact.
    MultiplesOfFour,
}

/// What a tap outside the image is worth in a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum PairPadding {
    /// The input's zero point, as any other code.
    ZeroPoint,
    /// Nothing: it is left out, and taken into account behind the sum.
    Nothing,
}

/// What becomes of signed activations in kernels that multiply unsigned ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum PairSigned {
    /// They have kernels of their own, which are exact.
    Exact,
    /// They are multiplied as `code + 128`.
    #[serde(rename = "plus-128")]
    Plus128,
}

/// Order of the terms of a convolution's sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Input channel outermost, then kernel row, kernel column.
    #[default]
    ChannelFirst,
    /// Kernel row, kernel column, input channel innermost.
    ChannelLast,
}

/// Decisions G to L: from the accumulator to the output code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Requantize {
    /// Format of the multiplier `M = sx * sw / sy`, and what it is derived from.
    pub multiplier: Multiplier,
    /// Order in which the three scales are combined.
    #[serde(default)]
    pub derivation: Derivation,
    /// Roundings after the product. A float or exact multiplier has one step without a shift.
    pub steps: Vec<Step>,
    /// What a multiplier above one does to the accumulator before the product (fixed point only).
    #[serde(default)]
    pub left_shift: LeftShift,
    /// Where the output's zero point enters.
    #[serde(default)]
    pub zero_point: ZeroPointPosition,
    /// Whether the result is clamped before it is rounded or after.
    #[serde(default)]
    pub clamp: ClampOrder,
    /// The bias, where fully connected layers add it otherwise than `[bias]` says; not in `[requantize]`.
    #[serde(default)]
    pub bias: Option<Bias>,
    /// How the bounds of a fused activation become codes. Absent: `half-even` where the multiplier is `f32` or
    /// `f32-two-steps`, else `half-away`.
    #[serde(default)]
    pub bounds: Option<Bounds>,
    /// What the output channels get that whole vectors leave over. Absent: the same.
    #[serde(default)]
    pub tail: Option<StepsTail>,
}

/// How a bound of a fused activation (`ReLU6`) becomes a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum Bounds {
    /// `half-away(f32(bound / sy)) + zy` (`TFLite`).
    HalfAway,
    /// `half-even(f32(bound / sy)) + zy`.
    HalfEven,
    /// `half-even(f32(f32(bound / sy) + zy))` (`XNNPACK`).
    HalfEvenInside,
}

/// Output channels that are left over where vector instructions take whole blocks of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StepsTail {
    /// Channels of a block.
    pub block: u32,
    /// Roundings behind the last block.
    pub steps: Vec<Step>,
}

/// Decision H: format of the requantization multiplier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "format", deny_unknown_fields)]
pub enum Multiplier {
    /// No multiplier: the exact real is given to the output's quantizer.
    Exact,
    /// `f32(acc) * M` in `f32`.
    F32,
    /// `f32(acc) * (sx * sw)`, then by the output's scale, in `f32`: two float operations.
    F32TwoSteps {
        /// How the second operation is evaluated.
        division: Division,
    },
    /// `f64(acc) * M` in `f64`.
    F64,
    /// A mantissa of so many bits (normalized, top bit set) and an exponent, rounded from the real `M`.
    Fixed {
        /// Bits of the mantissa: 31 for gemmlowp's Q31.
        bits: u32,
        /// How the mantissa is rounded.
        rounding: Rounding,
    },
    /// `M` in fixed point, rounded at a fixed position instead of normalized: the integer
    /// `min(round(M * 2^(bits - l)), 2^bits - 1)` for each channel, with one `l` for the layer: from its
    /// largest `M`, 0 where that is at most 1 and else its exponent (`M / 2^l` in `0.5..1`). The accumulator
    /// is shifted left by `l` first, the product right by `bits` (`hexagon_nn`). Small multipliers keep fewer
    /// than `bits` bits.
    FixedAbsolute {
        /// Fractional bits of the multiplier: 31 for `hexagon_nn`.
        bits: u32,
        /// How the multiplier is rounded.
        rounding: Rounding,
    },
    /// The 16-bit multiplier of `TFLite`'s int16 kernels: a Q31 mantissa rounded half up to Q15 and clamped.
    Q15Reduced,
    /// The integer `m` below `2^bits` in magnitude and the shift `n` in -32 to 30 with the smallest
    /// `|m / 2^n - M|` (in `f32`, the first one counts), `m` rounded half away (Sophgo tpu-mlir
    /// `get_scale_and_shift`).
    Best {
        /// `m` stays below `2^bits - 1`: 7 for the 8-bit mode, 31 for the 32-bit one.
        bits: u32,
    },
    /// `M` rounded to so many bits, then `f32(acc) * M` in `f32` (Distiller).
    F32Reduced {
        /// Bits of the mantissa.
        bits: u32,
        /// How the mantissa is rounded.
        rounding: Rounding,
    },
    /// `M` rounded to so many bits, then `f64(acc) * M` in `f64` (`HAWQ`'s dyadic multiplier).
    F64Reduced {
        /// Bits of the mantissa.
        bits: u32,
        /// How the mantissa is rounded.
        rounding: Rounding,
    },
    /// `M` is a power of two: a shift.
    PowerOfTwo,
    /// `v = f32(acc) * f32(sx * sw)`, the bias added in `f32`, a fused `ReLU`; then the output's range
    /// `[il, ih]` as in `division = "fake-quantize"`, but as one fused multiply-add without a clamp before it:
    /// `round(fma(v, k, i))` with `i = f32(f32(f32(-il * (max - min)) / f32(ih - il)) + min)`, saturated;
    /// `round(v * k)` where `|i| < 1e-5 * (max - min)` (`OpenVINO`'s CPU plugin,
    /// `src/plugins/intel_cpu/src/dnnl_postops_composer.cpp`, `nodes/fake_quantize.cpp`).
    FakeQuantize {
        /// Layers whose scale is folded into the quantizer.
        fold: Fold,
    },
}

/// Which layers of sums have their scale (and bias) folded into a `fake-quantize` quantizer, so that one product
/// and one sum are left: `round(f32(acc * k') + i')`, not fused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum Fold {
    /// None.
    Never,
    /// Layers without a bias: `k'` and `i'` are made from the range divided by the channel's scale. Shifts of
    /// all channels that differ by less than 5e-5 from the first one's are the first one's (convolutions).
    WithoutBias,
    /// Layers without a `ReLU`, and those whose range begins at 0. With a bias `k' = f32(m * k)`,
    /// `i' = f32(f32(i0 + f32(b * k)) + min)`. Without, as `without-bias`, but the sum is that of the raw codes
    /// (fully connected layers).
    WithoutRelu,
}

/// Precision and order in which `M = sx * sw / sy` is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum Derivation {
    /// `(f64(sx) * f64(sw)) / f64(sy)`.
    #[default]
    F64,
    /// `f32(f32(sx * sw) / sy)`.
    F32,
    /// `f64(f32(sx * sw)) / f64(sy)` (`TFLite`'s uint8 kernels, TVM).
    F32ProductF64Quotient,
    /// `f32-product-f64-quotient` where the weights have one scale, `f64` where each channel has its own
    /// (`LiteRT`'s optimized fully connected kernel).
    F32ProductPerTensor,
    /// As `f32`, and the scale of a signed input is made anew from its range:
    /// `f32(f32((max - z) * sx - (min - z) * sx) / (max - min))` (`OpenVINO`, whose convolutions turn `i8`
    /// inputs into `u8`).
    F32SignedRange,
}

/// One rounding right shift after the product, decision I.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Step {
    /// How far.
    #[serde(default)]
    pub shift: Shift,
    /// How the dropped bits round.
    pub rounding: Rounding,
    /// Saturation of the result, in bits (decision J). Absent: none.
    #[serde(default)]
    pub saturate: Option<u32>,
}

/// How far a step shifts. Written as a number, or as `"rest"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shift {
    /// All bits that are left to drop; the default.
    #[default]
    Rest,
    /// So many.
    By(u32),
}

/// Decision G: a shift to the left before the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum LeftShift {
    /// Wraps at the accumulator's width.
    #[default]
    Wrap,
    /// Saturates at the accumulator's width.
    Saturate,
    /// Widens: nothing is lost.
    Exact,
}

/// Decision K: where the output's zero point enters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum ZeroPointPosition {
    /// Added to the rounded value.
    #[default]
    AfterRounding,
    /// Added before rounding: `round(v + zp)`.
    InsideRounding,
    /// Inside the bias, in units of the accumulator.
    InBias,
}

/// Decision L: clamp before or after rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum ClampOrder {
    /// On the integer.
    #[default]
    AfterRounding,
    /// On the real, with bounds from which the zero point is taken where it is added later.
    BeforeRounding,
}

/// Rules of operations that are not sums of products. An absent one is computed in float on the target,
/// and reported so.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Ops {
    /// `Add` and `Sub` of two quantized tensors.
    #[serde(default)]
    pub add: Option<AddRule>,
    /// `Mul` of two quantized tensors.
    #[serde(default)]
    pub mul: Option<MulRule>,
    /// `AveragePool`, `GlobalAveragePool`, `ReduceMean`.
    #[serde(default)]
    pub average: Option<AverageRule>,
    /// `GlobalAveragePool` and `ReduceMean`, where they differ from `average`. Absent: as `average`.
    #[serde(default)]
    pub global_average: Option<AverageRule>,
    /// A quantized tensor gets another grid (a quantizer behind a quantizer, inputs of a concat).
    #[serde(default)]
    pub rescale: Option<RescaleRule>,
    /// `Relu` and `Clip` onto another grid, where they differ from `rescale`. Absent: as `rescale`.
    #[serde(default)]
    pub relu: Option<RescaleRule>,
    /// Inputs of `Concat`, where they differ from `rescale`. Absent: as `rescale`.
    #[serde(default)]
    pub concat: Option<RescaleRule>,
    /// `LeakyRelu`, `PRelu`.
    #[serde(default)]
    pub leaky_relu: Option<LeakyReluRule>,
    /// `Sigmoid` and `Tanh`.
    #[serde(default)]
    pub sigmoid: Option<SigmoidRule>,
    /// `HardSigmoid` and `HardSwish`.
    #[serde(default)]
    pub hard_swish: Option<HardSwishRule>,
    /// `DynamicQuantizeLinear`, whose scale follows from its input's range.
    #[serde(default)]
    pub dynamic_quantize: Option<DynamicQuantizeRule>,
    /// `Softmax` of a quantized tensor.
    #[serde(default)]
    pub softmax: Option<SoftmaxRule>,
    /// Codes, and integer sums without a quantizer, that leave the network as reals.
    #[serde(default)]
    pub dequantize: Option<DequantizeRule>,
    /// Linear `Resize`.
    #[serde(default)]
    pub resize: Option<ResizeRule>,
}

/// How two quantized tensors are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum AddRule {
    /// Exact sum, then the model's own quantizer.
    Exact,
    /// Dequantize both in `f32`, add in `f32`, quantize by the `[quantize]` rule.
    F32,
    /// `ra = sa/sy`, `rb = sb/sy`, `fixed = zy - (ra*za + rb*zb)`, all `f32`; then
    /// `half-even((fixed + a*ra) + b*rb)` on the raw codes, zero point inside the rounding (ONNX Runtime's
    /// `QLinearAdd` on CPUs without AVX2, as its source reads).
    ///
    /// In this rule and the next two, `a` and `b` change places where the first operand is one element over
    /// the innermost run of the result (broadcast along the result's last axis that is longer than one), and
    /// where the result has one element.
    F32Ratios,
    /// As `f32-ratios`, but `half-even(fma(a, ra, fma(b, rb, fixed)))`: two fused multiply-adds (ONNX
    /// Runtime's `QLinearAdd` with AVX2, as its source reads).
    F32RatiosFma,
    /// As `f32-ratios-fma`, and `fixed = zy - fma(ra, za, rb*zb)`: gcc contracts the constant, too (ONNX
    /// Runtime's Linux packages).
    F32RatiosFmaConstant,
    /// Left shift 20, each input and then the sum through a Q31 multiplier (`TFLite`).
    Q31Shift20,
    /// As `q31-shift20`, with a left shift of 15 (`TFLite`'s int16 kernels).
    Q31Shift15,
    /// As `q31-shift20`; but in whole blocks the shift of an input's multiplier is done before the product,
    /// without rounding: of 16 elements where a run of both operands is added element by element, of 8 with a
    /// floor behind the product where one operand of the run is a single number. `Sub` has no blocks
    /// (`LiteRT`'s optimized int8 kernel).
    Q31Shift20Vector,
    /// As `q31-shift20-vector`, but all blocks have 8 elements and floor (its uint8 kernel).
    Q31Shift20VectorFloor,
    /// As `q31-shift15`; but where no operand is broadcast, whole blocks of 16 elements as in
    /// `q31-shift20-vector` (its int16 kernel).
    Q31Shift15Vector,
    /// `ra = half-even(2^s * sa/sy)`, `rb` likewise, `s` such that the larger one has 21 bits; then
    /// `(ra * (a - za) + rb * (b - zb) + 2^(s-1)) >> s`. Bounds of a fused activation are `half-even-inside`
    /// (`XNNPACK`'s `vadd`).
    Q21HalfUp,
    /// Each input through the `[requantize]` rule to the output's scale, rounded; then the integers are added
    /// (TVM QNN, `HAWQ`).
    RequantizeEach,
    /// Scales of 8 fractional bits, floor, then one rounding shift (`hexagon_nn`).
    Q8Floor,
    /// Aligned to the larger fraction, one rounding shift (DPU, ESP-DL).
    AlignedShift,
    /// `(a * sa + b * sb) / sy` exactly, rounded once as the last step of `[requantize]` rounds (PULP).
    RoundedOnce,
    /// As `f32`, but each code is dequantized by `fma(q, s, f32(-z * s))` (`PyTorch`,
    /// `aten/src/ATen/native/quantized/cpu/kernels/QuantizedOpKernels.cpp`).
    F32Fma,
    /// `M = f32(s / sy)` of both inputs as integers with one shift, the larger of 22 bits, half-even; the sum of
    /// products shifted right, ties away from zero, the zero point added after (`QNNPACK` `q8vadd`).
    Q22Shift,
    /// The first input becomes `t = fma(q - min, o, ol)` in steps of the second one: `ol = f32(f32(il / sb) - zb)`,
    /// `oh` likewise, `o = f32(f32(oh - ol) / (max - min))` from its range `[il, ih]`; `f32(t + b)` with the raw
    /// code `b` is quantized by `division = "fake-quantize"`, the output's range divided by `sb` (`OpenVINO`).
    FakeQuantize,
}

/// How two quantized tensors are multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum MulRule {
    /// Exact product, then the model's own quantizer.
    Exact,
    /// Dequantize both in `f32`, multiply in `f32`, quantize by the `[quantize]` rule.
    F32,
    /// `f32(a*b) * f32(sa*sb/sy)`, quantize by the `[quantize]` rule (ONNX Runtime).
    F32Combined,
    /// As `f32-combined`, but the zero point is inside: `half-even(f32(a*b) * f32(f32(sa*sb)/sy) + zy)`
    /// with `a`, `b` less their zero points (ONNX Runtime's `QLinearMul`).
    F32CombinedInside,
    /// The integer product through the `[requantize]` rule.
    Requantize,
    /// As `requantize`, but `M = f32(f32(sa*sb)/sy)` whatever `derivation` says (`TFLite` `MUL`).
    RequantizeF32Scale,
    /// As `requantize-f32-scale`, but the result is saturated to 16 bits before the zero point is added, and
    /// the sum wraps there (`LiteRT`'s optimized uint8 `MUL`).
    RequantizeF32ScaleInt16,
    /// `half-even(f32(a*b) * f32(f32(sa*sb)/sy)) + zy`. Bounds of a fused activation are `half-even-inside`
    /// (`XNNPACK`'s `vmul`).
    F32CombinedHalfEven,
    /// As `f32`, but a code is dequantized by `fma(q - min, o, il)`, `o = f32(f32(ih - il) / (max - min))`
    /// (`OpenVINO`).
    FakeQuantize,
}

/// How a mean is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum AverageRule {
    /// Exact mean, then the model's own quantizer.
    Exact,
    /// Dequantized codes summed in `f32` in window order, divided in `f32`, quantized by `[quantize]`.
    F32,
    /// As `f32`, but the zero point is inside: `half-even(f32(mean/sy + zy))`. Where padding counts, the
    /// divisor is the whole kernel, even where a window leaves the padding; a pool whose kernel is the
    /// unpadded image follows `f32-integer-sum` (ONNX Runtime's `QLinearAveragePool`).
    F32Inside,
    /// `half-even(f32(sum of x - zx) * f32(sx / f32(sy*n)))`, the zero point added after (ONNX Runtime's
    /// `QLinearGlobalAveragePool`).
    F32IntegerSum,
    /// `sum of x - zx` through the `[requantize]` rule, whose mantissa `Q` of `M = sx/sy` becomes
    /// `(Q << k) / n` by integer division and its shift `s - k`, `k = min(floor(log2 n), 32, 31 + s)`
    /// (`TFLite` `MEAN`).
    RequantizeOverCount,
    /// Means over height and width of an image that keep the axes: sum of raw codes through Q31 of
    /// `f32(sx / f32(n*sy))`, blocks of 16 channels with both steps half up, the rest half up, then half away;
    /// `zy - trunc(f32(zx*sx/sy) +- 0.5)` is added after. Other means: `requantize-over-count` (`LiteRT`'s
    /// optimized `MEAN`).
    RequantizeOverCountVector,
    /// `half-even(f32(sum of raw codes) * c + (zy - f32(n*zx)*c))`, `c = f32(sx/sy) * f32(1/n)`, all `f32`
    /// (`XNNPACK`).
    F32RawSum,
    /// Integer sum of raw codes, divided half away from zero; then rescaled where the grids differ (`TFLite`).
    IntegerHalfAway,
    /// As `integer-half-away`, but the quotient is truncated (TVM, MAX78000).
    IntegerTrunc,
    /// As `integer-half-away`, but the quotient is floored (PULP).
    IntegerFloor,
    /// As `integer-trunc`, with 0.01 added to the quotient in `f32` before (`HAWQ`).
    IntegerTruncHundredth,
    /// `sum * sx / (n * sy)` exactly, rounded once as the last step of `[requantize]` rounds (ESP-DL).
    RoundedOnce,
    /// Integer sum times a table multiplier, shifted, rounded half up (DPU).
    DpuTable,
    /// Sum of codes with 8 fractional bits, three rounding steps (`hexagon_nn` `avgpool_d32`).
    Q8ThreeSteps,
    /// `half-even(f32(sum of x - zx) * f32(1/n)) + zx`; the grid stays (`PyTorch`, `channels_last`,
    /// `aten/src/ATen/native/quantized/cpu/kernels/QuantizedOpKernels.cpp`).
    F32Mean,
    /// As `f32-mean`, but the zero point is inside: `half-even(f32(f32(sum * f32(1/n)) + zx))` (`PyTorch`, NCHW).
    F32MeanInside,
    /// As `f32-mean`, but `n` is the kernel's area, also where padding does not count (`QNNPACK` `q8avgpool`).
    F32MeanKernel,
    /// `v = f32(sum of raw codes) / n`, where padding that counts is raw code 0; `code = half-even(fma(v, k, i)) + min`
    /// with the line `k`, `i = f32(f32(-a * (max - min)) / f32(b - a)) - f32(zx * k)` of the output's range
    /// `[a, b]` divided by `sx` (`OpenVINO`).
    FakeQuantize,
}

/// How a quantized tensor is moved to another grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum RescaleRule {
    /// The exact real, then the model's own quantizer.
    Exact,
    /// Dequantize in `f32`, quantize by the `[quantize]` rule.
    F32,
    /// `code - zx` through the `[requantize]` rule with `M = sx / sy`.
    Requantize,
    /// As `requantize`, but `M = f32(sx / sy)` whatever `derivation` says (`TFLite` `RELU`).
    RequantizeF32Scale,
    /// As `requantize`, but from 8 to 8 bits every step rounds half up in whole blocks of 16 elements
    /// (`LiteRT`'s optimized `QUANTIZE`).
    RequantizeVector,
    /// Between codes of 8 bits of one signedness with `f32(sx/sy)` in 2^-8 to 2^7:
    /// `((code - zx) * half-even(256 * f32(sx/sy)) + 128) >> 8`. Others: `requantize-vector` (`XNNPACK`).
    Q8OrVector,
    /// `half-away(f32(code*g) + f32(-zx*g)) + zy` with `g = f32(sx * f32(1/sy))`, all `f32` (`TFLite`'s uint8
    /// `CONCATENATION`).
    F32Affine,
    /// Q15 gain, rounding multiplication, zero point added after (`hexagon_nn` requantize 8 to 8).
    Q15,
    /// `f32(code - zx)` quantized by `division = "fake-quantize"`, the output's range divided by `sx`. A clamp is
    /// applied to the codes before, its bounds `trunc(f64(bound) / f64(sx) + zx)` (`OpenVINO`).
    FakeQuantize,
}

/// How a leaky `ReLU` is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum LeakyReluRule {
    /// Exact, then the model's own quantizer.
    Exact,
    /// In `f32`, quantized by `[quantize]`.
    F32,
    /// Two requantizations by the `[requantize]` rule, `sx/sy` and `alpha*sx/sy` (`TFLite`).
    TwoRequantizes,
    /// As `two-requantizes`, with both multipliers evaluated in `f32`: `sx/sy` and `f32(sx*alpha)/sy`
    /// (`LiteRT` `LEAKY_RELU`).
    TwoRequantizesF32Scale,
    /// As `two-requantizes-f32-scale`, but the sign of a negative slope is in the multiplier instead of
    /// behind the rounding (`LiteRT`'s optimized int16 kernel).
    TwoRequantizesF32Signed,
    /// `((code - zx) * half-even(256 * m) + 128) >> 8`, `m = f32(sx/sy)` for positive values, else
    /// `f32(m * alpha)` (`XNNPACK`).
    Q8HalfUp,
    /// The slope is forced to 26/256 (DPU), then one shift.
    #[serde(rename = "alpha-26-256")]
    Alpha26Over256,
}

/// How a sigmoid or a hyperbolic tangent is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum SigmoidRule {
    /// Exact, then the model's own quantizer.
    Exact,
    /// A table over all codes, made in `f32`, quantized by `[quantize]`.
    F32Table,
    /// As `f32-table`, but `t * (1/sy)` rounded half away (`LiteRT`'s int8 kernels).
    LitertTable,
    /// As `f32-table`, but the sigmoid is MLAS' rational function in `f32` with fused multiply-adds:
    /// `d * P(d^2) / Q(d^2) + 1/2`, `d` clamped to 18 (ONNX Runtime's `QLinearSigmoid`). No `Tanh`.
    MlasTable,
    /// As `f32-table`, but `half-even(t * (1/sy) + zy)` (`XNNPACK`).
    F32TableInside,
    /// 256 entries of the sigmoid between 0 and 10.7 with 16 bits, and linear interpolation; `Tanh` is
    /// `2 * sigmoid(2x) - 1` of the same table (`TFLite`'s int16 kernels).
    Int16Table,
    /// As `int16-table`, but gemmlowp's fixed-point functions for scales of 2^-12 (and 2^-11 for `Tanh`)
    /// (`LiteRT`'s optimized int16 kernels).
    Int16TableOrGemmlowp,
    /// The 512-entry Q15 tables of NNIE's `.wk` files, nearest entry below, no interpolation.
    NnieTable,
}

/// How a hard sigmoid or hard swish is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum HardSwishRule {
    /// Exact, then the model's own quantizer.
    Exact,
    /// In `f32`, quantized by `[quantize]`.
    F32,
    /// `2731 / 2^14` (DPU).
    Dpu2731,
    /// As `f32`, but the zero point is inside the rounding, which is `half-even` (`PyTorch`'s `QNNPACK`).
    F32Inside,
    /// 16-bit fixed point: the input times 128, the relu-ish factor in Q15, a product that is truncated
    /// (`TFLite`).
    Int16FixedPoint,
}

/// How a linear resampling is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum ResizeRule {
    /// Exact, then the model's own quantizer.
    Exact,
    /// In `f32`, quantized by `[quantize]`.
    F32,
    /// Positions and weights with 10 fractional bits, the weighted sum of four codes rounded half away
    /// (`TFLite`).
    Q10HalfAway,
    /// Weights with 11 fractional bits, rows first, rounded half up once (`XNNPACK`).
    Q11HalfUp,
    /// `f32(f32(code * wy) * wx)` of the four codes, summed in `f32`, plus 0.5, truncated (`TFLite` reference,
    /// uint8).
    F32Truncated,
    /// As `f32-truncated`, but `f32(code * f32(wy * wx))`, in another order (`LiteRT` optimized, uint8).
    F32WeightsTruncated,
}

/// How a softmax over rows of `n` codes is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum SoftmaxRule {
    /// Exact, then the model's own quantizer.
    Exact,
    /// The softmax of the dequantized codes, rounded to `f32`, quantized by `[quantize]`.
    F32,
    /// A table `e[i] = f32(exp((shift - i) * sx))` over the distance `i` of a code from the row's largest,
    /// `shift = max(0, f32(ln(f32(MAX / n))) - 5) / sx` in `f64`; its sum `S` over the row in `f32`, in order;
    /// `half-even(e * Y / S) + zy` in `f64` with `Y = floor(f32(1 / sy))` (ONNX Runtime's `QLinearSoftmax`).
    ExpTable,
    /// As `exp-table`, but `e * Y / S` in `f32`, as older sources of ONNX Runtime read (which also wrap
    /// int8 codes).
    ExpTableF32,
    /// gemmlowp's fixed-point exponential in Q5.26, its sum in Q12.19, a reciprocal by three steps of Newton;
    /// the output's scale is 1/256 and its smallest code is 0 (`TFLite` reference).
    Gemmlowp,
    /// A table of 256 exponentials in `f32`, summed in `f32` in order; `e * f32(1 / f32(sum*sy))` rounded half
    /// away, the zero point added after (`LiteRT`'s optimized kernels).
    F32Table,
    /// 512-entry tables of the exponential and of `1 / (1 + x)` with linear interpolation, in 16 bits
    /// (`TFLite`'s int16 kernel).
    Int16Tables,
}

/// How integers become reals where they leave the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum DequantizeRule {
    /// `f32(code - zero point) * scale`, and `f32(sum) * f32(sx * sw)`.
    F32,
    /// The same product in `f64`, rounded once to `f32`.
    F64,
}

/// How a quantizer whose scale follows from its input's range treats an empty range; the rest is ONNX'
/// definition in `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum DynamicQuantizeRule {
    /// The scale is 1 (ONNX Runtime).
    EmptyScaleOne,
    /// The scale is 1/255 (ONNX' `ReferenceEvaluator`).
    #[serde(rename = "empty-scale-255th")]
    EmptyScale255th,
}

/// Shifts that hardware with power-of-two scales has, as inclusive ranges; `position` is that of the binary point:
/// `real = code * 2^-position`. Toolchains move positions until their shifts fit. Nothing is computed with them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ShiftLimits {
    /// `position of input + position of weights - position of output`.
    pub cut: [i32; 2],
    /// Largest `position of input + position of weights - position of bias`.
    pub bias_max: i32,
    /// Bits `n` of the smallest one, `min(0, -(n - (8 + cut)))`.
    pub bias_accumulator_bits: i32,
    /// Of an addition: largest less smallest position of the operands.
    pub read: [i32; 2],
    /// Of an addition: smallest position of the operands less the output's.
    pub add_write: [i32; 2],
}

/// Sums and casts in the fixed-point types of a precision table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PrecisionRules {
    /// What a cast to a type does.
    pub types: TypeArithmetic,
    /// When a product is cast to the accumulator's type.
    pub product: ProductRule,
    /// When the bias is added.
    pub bias: BiasPosition,
    /// In which order products are added.
    pub order: TermOrder,
}

/// What a cast to a fixed-point type does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum TypeArithmetic {
    /// Xilinx's `ap_fixed`: rounded by the type's quantization mode, then its overflow mode.
    ApFixed,
}

/// When a product is cast to the accumulator's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum ProductRule {
    /// Before it is added (hls4ml).
    Cast,
    /// It is added exactly, then the sum is cast.
    Whole,
    /// All products are added exactly, then their sum is cast.
    AfterSum,
}

/// When a bias is added to a sum of products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum BiasPosition {
    /// The accumulator starts from it.
    First,
    /// After the last product.
    Last,
}

/// In which order the products of a sum are added; the natural one is kernel row, kernel column, channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum TermOrder {
    /// Natural; with hls4ml's resource strategy and a reuse factor `r`, every `r`-th product, `r` times.
    Strategy,
    /// The same, from the last product to the first.
    StrategyReversed,
    /// Natural, whatever the strategy.
    ChannelLast,
    /// Channel, kernel row, kernel column.
    ChannelFirst,
}

/// Quantizers as FINN makes thresholds of them: a code counts the thresholds that a number reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ThresholdRules {
    /// How thresholds are computed.
    pub arithmetic: ThresholdArithmetic,
    /// Whether a threshold itself counts.
    pub compare: Compare,
    /// How a threshold is brought into the unit of an integer sum.
    pub division: SumDivision,
    /// How it becomes an integer there.
    pub rounding: Rounding,
}

/// How the thresholds of a quantizer with scale `s` are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum ThresholdArithmetic {
    /// `first + s*k`, every operation in `f32`; `first` is `s/2` behind a `ReLU`, else
    /// `-(s/2) - s*(n/2 - 1)` for `n` thresholds, less `s` unless the range is narrow (FINN).
    #[serde(rename = "f32")]
    F32,
    /// `s * (k + 1/2)` in `f32`: one rounding.
    #[serde(rename = "f32-half-steps")]
    F32HalfSteps,
    /// In `f64`, rounded once to `f32`.
    #[serde(rename = "f64")]
    F64,
}

/// Whether a number that equals a threshold reaches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum Compare {
    /// `x >= t`.
    AtLeast,
    /// `x > t`.
    Above,
}

/// How a threshold is divided by the unit `sx * sw` of a sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub enum SumDivision {
    /// `f32(t / f32(sx * sw))` (FINN).
    Product,
    /// `f32(f32(t / sx) / sw)`.
    InputFirst,
    /// `f32(f32(t / sw) / sx)`.
    WeightFirst,
    /// `f32(t * f32(1 / f32(sx * sw)))`.
    Reciprocal,
    /// In `f64`.
    #[serde(rename = "f64")]
    F64,
}

/// How a rule is known; ordered from the weakest to the strongest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    /// Reasoned, not confirmed.
    Hypothesis,
    /// The vendor's documentation says so.
    Documented,
    /// Read in the vendor's published source.
    Source,
    /// Reproduced on outputs of software or hardware that this project did not make.
    Recorded,
}

/// How one or more rules of a spec are known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Evidence {
    /// Sections or fields that this entry covers: `requantize`, `requantize.steps`, `ops.add`, ...
    /// The most specific entry counts.
    pub rules: Vec<String>,
    /// How they are known.
    pub grade: Grade,
    /// Where: `repository@commit path`, a document and its section, or a recording's folder.
    pub source: String,
    /// What is not known, or what the source leaves open.
    #[serde(default)]
    pub note: Option<String>,
}

/// A bug of a target: its kernels compute something else than its rules say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct KnownBug {
    /// Operators, as the model's file names them: `AveragePool`, `Clip`.
    pub ops: Vec<String>,
    /// One line: what it does, and when.
    pub what: String,
    /// Where that is known from: a path in a repository, or a document and its section.
    pub source: String,
    /// The recording that shows it.
    pub recording: String,
    /// The neighbour in the zoo that computes the same on it, as `rule: change` ([`crate::Neighbour`]). It is no rule of
    /// the target: it stands for the bug.
    #[serde(default)]
    pub looks_like: Option<String>,
}

/// Kernels of unsigned codes: what differs from the others.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Unsigned {
    /// Convolutions.
    #[serde(default)]
    pub convolution: Option<Requantize>,
    /// Depthwise convolutions.
    #[serde(default)]
    pub depthwise: Option<Requantize>,
    /// Transposed convolutions.
    #[serde(default)]
    pub transposed: Option<Requantize>,
    /// Fully connected layers.
    #[serde(default)]
    pub fully_connected: Option<Requantize>,
    /// Other operations.
    #[serde(default)]
    pub ops: Ops,
}

/// Layers of sums of products, which may be finished differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Product {
    /// A convolution.
    Convolution,
    /// A depthwise convolution.
    Depthwise,
    /// A transposed convolution.
    Transposed,
    /// A fully connected layer.
    FullyConnected,
    /// A fully connected layer without a bias, or a matrix product.
    FullyConnectedUnbiased,
}

impl Spec {
    /// The rules of a kind of sums, and the section where they stand.
    pub fn of_product(&self, product: Product) -> (&Requantize, &'static str) {
        let convolution = (self.convolution.as_ref(), "convolution");
        let depthwise = (self.depthwise.as_ref(), "depthwise");
        let transposed = (self.transposed.as_ref(), "transposed");
        let connected = (self.fully_connected.as_ref(), "fully-connected");
        let unbiased = (
            self.fully_connected_unbiased.as_ref(),
            "fully-connected-unbiased",
        );
        let sections = match product {
            Product::Convolution => [convolution, convolution],
            Product::Depthwise => [depthwise, convolution],
            Product::Transposed => [transposed, convolution],
            Product::FullyConnected => [connected, connected],
            Product::FullyConnectedUnbiased => [unbiased, connected],
        };
        for (rule, section) in sections {
            if let Some(rule) = rule {
                return (rule, section);
            }
        }
        (&self.requantize, "requantize")
    }

    /// The target's kernels of unsigned codes, as a spec of their own; `None` where they do not differ.
    pub fn unsigned_kernels(&self) -> Option<Spec> {
        let own = self.unsigned.as_ref()?;
        let mut spec = self.clone();
        spec.unsigned = None;
        // A depthwise kernel that is not named follows the convolution that is.
        for (slot, rule) in [
            (&mut spec.convolution, &own.convolution),
            (&mut spec.depthwise, &own.depthwise),
            (&mut spec.transposed, &own.transposed),
            (&mut spec.fully_connected, &own.fully_connected),
        ] {
            if rule.is_some() {
                slot.clone_from(rule);
            }
        }
        macro_rules! ops {
            ($($field:ident),+) => {
                $(if own.ops.$field.is_some() {
                    spec.ops.$field = own.ops.$field;
                })+
            };
        }
        ops!(
            add,
            mul,
            average,
            global_average,
            rescale,
            relu,
            concat,
            leaky_relu,
            sigmoid,
            hard_swish,
            softmax,
            resize
        );
        Some(spec)
    }
}

/// A target: one point in the rule zoo.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Spec {
    /// Name on the command line.
    pub name: String,
    /// Other names on the command line.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Side files that toolchains write for this target and no other, by the name that align-check has for them
    /// (`MQBench NNIE`).
    #[serde(default)]
    pub encodings: Vec<String>,
    /// One line: which hardware or library, which version.
    pub summary: String,
    /// What nobody knows about this target; printed with every verdict.
    #[serde(default)]
    pub unknowns: Vec<String>,
    /// Activations.
    pub activations: Activations,
    /// Weights.
    pub weights: Weights,
    /// Reals to codes.
    pub quantize: Quantize,
    /// Bias.
    pub bias: Bias,
    /// Sums of products.
    pub accumulator: Accumulator,
    /// Accumulator to code.
    pub requantize: Requantize,
    /// Convolutions, where they differ from `[requantize]`.
    #[serde(default)]
    pub convolution: Option<Requantize>,
    /// Depthwise convolutions, where they differ from other convolutions.
    #[serde(default)]
    pub depthwise: Option<Requantize>,
    /// Transposed convolutions, where they differ from other convolutions.
    #[serde(default)]
    pub transposed: Option<Requantize>,
    /// Fully connected layers, where they differ from `[requantize]`.
    #[serde(default)]
    pub fully_connected: Option<Requantize>,
    /// Fully connected layers without a bias, where they differ from others.
    #[serde(default)]
    pub fully_connected_unbiased: Option<Requantize>,
    /// Other operations.
    #[serde(default)]
    pub ops: Ops,
    /// Kernels of unsigned codes, where they differ.
    #[serde(default)]
    pub unsigned: Option<Unsigned>,
    /// Fixed-point types of each layer, from a precision table. Absent: the target takes no table.
    #[serde(default)]
    pub precision: Option<PrecisionRules>,
    /// Quantizers that count thresholds. They take the place of `[quantize]`, `[bias]` and `[requantize]`.
    #[serde(default)]
    pub thresholds: Option<ThresholdRules>,
    /// Placement.
    pub placement: Placement,
    /// Shifts that the hardware has, on targets whose scales are powers of two.
    #[serde(default)]
    pub limits: Option<ShiftLimits>,
    /// Evidence of every rule above.
    pub evidence: Vec<Evidence>,
    /// What the target is known to compute otherwise than its rules say. No rule: nothing simulates it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known_bugs: Vec<KnownBug>,
}
