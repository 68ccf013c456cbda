//! The quantized graph: what a model file says, resolved to static shapes, and nothing of any target.
//!
//! A [`Graph`] is made for concrete input shapes, so every attribute that the file computes at run
//! time (reshape targets, pads, slice bounds, resize scales) is a plain number here. Quantizers stay
//! nodes: what they mean is decided by whoever evaluates the graph.

use std::sync::Arc;

use crate::FakeQuantize;

/// Index of a [`Value`] in [`Graph::values`].
pub type ValueId = usize;

/// A model bound to concrete input shapes: nodes in topological order over named values.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    /// The graph's own name in the file (may be empty).
    pub name: String,
    /// Values fed from outside, in the file's order. Initializers are not inputs, even where the
    /// file lists them as such.
    pub inputs: Vec<ValueId>,
    /// Values that the model returns, in the file's order.
    pub outputs: Vec<ValueId>,
    /// Whether the file computes with integers (`TFLite`, ONNX `QLinear` operators): then no float run of it
    /// exists whose order of summation could decide a tie.
    pub integer: bool,
    /// Every value that a node reads or writes.
    pub values: Vec<Value>,
    /// Nodes, sorted so that each one comes after the producers of its inputs.
    pub nodes: Vec<Node>,
}

/// A named tensor: a graph input, a constant, or the output of exactly one node.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// The file's tensor name; unique.
    pub name: String,
    /// Static shape; scalars have an empty one.
    pub shape: Vec<usize>,
    /// The contents, where they are known before any input is.
    pub constant: Option<Arc<Constant>>,
    /// `quantization_annotation` (`finn_datatype`) of the file, where it names an integer type.
    pub annotation: Option<IntegerRange>,
    /// How the file stores this tensor, where it stores integer codes: the graph computes with what they
    /// mean, `(code - zero_point) * scale`. Where a constant has this, its [`Constant::I64`] are the codes.
    pub stored: Option<Affine>,
    /// Where the file has the axes in another order (channels last): axis `i` of the file's tensor is axis
    /// `file_axes[i]` of this value.
    pub file_axes: Option<Vec<usize>>,
    /// Other keys under which recordings may hold this tensor (`TFLite`: its index, and `index:name`).
    pub aliases: Vec<String>,
}

/// The inclusive range of an integer type that a file annotates a tensor with (QONNX `finn_datatype`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntegerRange {
    /// Smallest value.
    pub min: i64,
    /// Largest value.
    pub max: i64,
}

/// Contents of a constant tensor, row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum Constant {
    /// Real numbers. Half-precision and double tensors are converted (a double that is no `f32`
    /// rounds to nearest even).
    F32(Vec<f32>),
    /// Integers and booleans of any width, or codes (see [`Value::stored`]).
    I64(Vec<i64>),
}

/// One operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The file's node name, or `<op_type>_<index>` where the file gives none; unique.
    pub name: String,
    /// The operator as the file spells it (`Conv`, `Quant`, `Flatten`, ...).
    pub op_type: String,
    /// The resolved operation.
    pub op: Op,
    /// Inputs that carry data. Inputs that only hold parameters (reshape target, pads, scales of a
    /// quantizer, ...) are resolved into [`Op`] and do not appear here.
    pub inputs: Vec<ValueId>,
    /// The single output.
    pub output: ValueId,
}

/// What a node computes, with every parameter resolved.
///
/// Tensors are in the file's layout (`N, C, spatial...`); channels-last operators are rewritten by the
/// importer into a transposition, the operator and a transposition back.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Cross-correlation; inputs: `x (N,C,spatial)`, `w (M,C/groups,kernel)`, optionally `bias (M)`.
    Conv(Conv),
    /// Transposed convolution; inputs: `x (N,C,spatial)`, `w (C,M/groups,kernel)`, optionally `bias (M)`.
    ConvTranspose(ConvTranspose),
    /// `alpha * A' * B' + beta * C`; inputs `A`, `B`, optionally `C` (broadcast to the output).
    Gemm(Gemm),
    /// Matrix product with numpy's batch broadcasting; inputs `A`, `B`.
    MatMul,
    /// Elementwise with numpy broadcasting; two inputs.
    Binary(Binary),
    /// Elementwise, one input (`PRelu`: second input is the slope, broadcast to `x`).
    Activation(Activation),
    /// Softmax along an axis. (Opsets below 13 flatten to 2-D: the importer resolves that with reshapes.)
    Softmax {
        /// Axis, non-negative.
        axis: usize,
        /// What the input is multiplied by (`TFLite`; else 1).
        beta: f32,
    },
    /// Maximum over windows; padding never wins.
    MaxPool(Pool),
    /// Mean over windows.
    AveragePool {
        /// The windows.
        pool: Pool,
        /// Whether padded positions count in the divisor.
        count_include_pad: bool,
    },
    /// Mean over axes (`ReduceMean`, `GlobalAveragePool`); kept or dropped axes show in the output's shape.
    Mean {
        /// Reduced axes, non-negative, ascending.
        axes: Vec<usize>,
    },
    /// `(x - mean) / sqrt(variance + epsilon) * scale + bias` along axis 1;
    /// inputs: `x`, `scale`, `bias`, `mean`, `variance` (all but `x` of shape `(C)`).
    BatchNorm {
        /// Added to the variance.
        epsilon: f32,
    },
    /// Joins inputs along an axis.
    Concat {
        /// Axis, non-negative.
        axis: usize,
    },
    /// Adds a border (or crops, where an amount is negative).
    Pad(Pad),
    /// Same elements in the same row-major order, other shape (`Reshape`, `Flatten`, `Squeeze`, `Unsqueeze`).
    Reshape,
    /// Permutes axes: output axis `i` is input axis `perm[i]`.
    Transpose {
        /// The permutation.
        perm: Vec<usize>,
    },
    /// `start[a] + step[a] * i` along every axis (`Slice`, and each output of a `Split`).
    Slice {
        /// First index per axis, within bounds.
        starts: Vec<usize>,
        /// Step per axis, never 0; may be negative.
        steps: Vec<i64>,
    },
    /// Resampling (`Resize`, `Upsample`), resolved into one table per axis.
    Resize(Resize),
    /// Moves channels into space.
    DepthToSpace {
        /// Block size.
        block: usize,
        /// `true`: depth-column-row order (`DCR`, the default); `false`: `CRD`.
        depth_first: bool,
    },
    /// Passes its input on (`Identity`, `Dropout` at inference, `Cast` between float types).
    Identity,
    /// A quantizer of the file.
    Quantize(Quantizer),
    /// One output of ONNX `DynamicQuantizeLinear`, whose scale and zero point follow from the range of its
    /// input. The codes are plain numbers here: no grid is known before the data is.
    DynamicQuantize(DynamicPart),
    /// The codes of the input, read with another scale and zero point: files may state others where a tensor
    /// is read than where it is made.
    Reinterpret {
        /// How the input's codes were meant.
        from: Affine,
        /// How they are read.
        to: Affine,
    },
}

/// Parameters of [`Op::Conv`]; one entry per spatial axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conv {
    /// Kernel extent.
    pub kernel: Vec<usize>,
    /// Stride.
    pub strides: Vec<usize>,
    /// Padding before the first position.
    pub pads_before: Vec<usize>,
    /// Padding after the last position.
    pub pads_after: Vec<usize>,
    /// Distance between kernel taps.
    pub dilations: Vec<usize>,
    /// Number of channel groups.
    pub groups: usize,
}

/// Parameters of [`Op::ConvTranspose`]; one entry per spatial axis. The output's shape stands at its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvTranspose {
    /// Kernel extent.
    pub kernel: Vec<usize>,
    /// Stride.
    pub strides: Vec<usize>,
    /// Positions cut off before the first output.
    pub pads_before: Vec<usize>,
    /// Distance between kernel taps.
    pub dilations: Vec<usize>,
    /// Number of channel groups.
    pub groups: usize,
}

/// Parameters of [`Op::Gemm`].
#[derive(Debug, Clone, PartialEq)]
pub struct Gemm {
    /// Factor of the product.
    pub alpha: f32,
    /// Factor of the third input.
    pub beta: f32,
    /// Whether the first input is transposed.
    pub trans_a: bool,
    /// Whether the second input is transposed.
    pub trans_b: bool,
}

/// The outputs of `DynamicQuantizeLinear`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DynamicPart {
    /// Codes of 8 bits, unsigned.
    Codes,
    /// The scale, a scalar.
    Scale,
    /// The zero point, a scalar.
    ZeroPoint,
}

/// Elementwise operations with two inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binary {
    /// `a + b`
    Add,
    /// The same, where a `TFLite` file asks 16-bit kernels to bring each operand to the output's power-of-two
    /// scale by a rounding shift of its own (`pot_scale_int16`).
    AddShifted,
    /// `a - b`
    Sub,
    /// `a * b`
    Mul,
    /// `a / b`
    Div,
}

/// Elementwise operations with one data input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// `max(x, 0)`
    Relu,
    /// `min(max(x, min), max)`; absent bounds are infinite.
    Clip {
        /// Lower bound.
        min: f32,
        /// Upper bound.
        max: f32,
    },
    /// `x < 0 ? alpha * x : x`
    LeakyRelu {
        /// Slope of the negative side.
        alpha: f32,
    },
    /// `x < 0 ? slope * x : x`, slope from the second input.
    PRelu,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// `max(0, min(1, alpha * x + beta))`
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
    /// `x * max(0, min(1, x / 6 + 0.5))`
    HardSwish,
}

/// Windows of a pooling operation; one entry per spatial axis. The output's extent stands at its value
/// (it already reflects `ceil_mode` and `auto_pad`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Window extent.
    pub kernel: Vec<usize>,
    /// Stride.
    pub strides: Vec<usize>,
    /// Padding before the first position.
    pub pads_before: Vec<usize>,
    /// Padding after the last position.
    pub pads_after: Vec<usize>,
    /// Distance between window elements.
    pub dilations: Vec<usize>,
}

/// Parameters of [`Op::Pad`].
#[derive(Debug, Clone, PartialEq)]
pub struct Pad {
    /// What fills the border.
    pub mode: PadMode,
    /// Elements added before each axis (negative: removed).
    pub before: Vec<i64>,
    /// Elements added after each axis (negative: removed).
    pub after: Vec<i64>,
}

/// What fills a border.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PadMode {
    /// A real number.
    Constant(f32),
    /// Mirrored, without repeating the edge.
    Reflect,
    /// The nearest element.
    Edge,
}

/// Parameters of [`Op::Resize`]: for each axis of the input, where each output index samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Resize {
    /// One table per axis.
    pub axes: Vec<ResizeAxis>,
    /// How the tables were made, where the file says so in `TFLite`'s terms: integer kernels make their own.
    pub coordinates: Option<Coordinates>,
}

/// Where output `i` of a resampling lies in the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coordinates {
    /// `i * scale`.
    Asymmetric,
    /// `(i + 1/2) * scale - 1/2`.
    HalfPixel,
    /// `i * scale`, where the scale makes the first and last elements meet.
    AlignCorners,
}

/// Sampling positions along one axis.
#[derive(Debug, Clone, PartialEq)]
pub enum ResizeAxis {
    /// The axis keeps its extent and is copied.
    Copy,
    /// Source index of each output index.
    Nearest(Vec<usize>),
    /// `(left, right, weight of right)` of each output index; the weight of left is `1 - weight`.
    Linear(Vec<(usize, usize, f32)>),
}

/// A parameter that is one number for a whole tensor, or one for each index of an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct PerChannel<T> {
    /// One entry, or as many as the axis is long.
    pub values: Vec<T>,
    /// Axis of the quantized tensor, where there are several entries.
    pub axis: Option<usize>,
}

impl<T: Copy> PerChannel<T> {
    /// The same number for every element.
    pub fn uniform(value: T) -> Self {
        Self {
            values: vec![value],
            axis: None,
        }
    }

    /// The entry for channel `c` (any `c` where the parameter is uniform).
    pub fn at(&self, c: usize) -> T {
        if self.values.len() == 1 {
            self.values[0]
        } else {
            self.values[c]
        }
    }

    /// Applies `f` to each entry.
    pub fn map<U>(&self, f: impl FnMut(T) -> U) -> PerChannel<U> {
        PerChannel {
            values: self.values.iter().copied().map(f).collect(),
            axis: self.axis,
        }
    }
}

/// Rounding of a real to an integer, as model files name it, by its unambiguous name.
///
/// QONNX `ROUND`, `HALF_EVEN`: [`HalfEven`](Self::HalfEven); `HALF_UP`: [`HalfAway`](Self::HalfAway);
/// `HALF_DOWN`: [`HalfTowardZero`](Self::HalfTowardZero); `UP`: [`AwayFromZero`](Self::AwayFromZero);
/// `DOWN`: [`TowardZero`](Self::TowardZero). Source: qonnx 1.0.0 `custom_op/general/intquant.py`
/// (`resolve_rounding_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// Nearest, ties to even.
    HalfEven,
    /// Nearest, ties away from zero.
    HalfAway,
    /// Nearest, ties toward zero.
    HalfTowardZero,
    /// Toward minus infinity.
    Floor,
    /// Toward plus infinity.
    Ceil,
    /// Drop the fraction.
    TowardZero,
    /// Away from zero.
    AwayFromZero,
    /// Nearest, ties toward plus infinity (Vitis AI's activations).
    HalfUp,
    /// Nearest, ties to even above zero and toward plus infinity below (`MQBench`'s Vitis backend).
    HalfEvenNegativeUp,
}

/// How a real becomes a code and back, as the model file defines it.
#[derive(Debug, Clone, PartialEq)]
pub enum Quantizer {
    /// `code = clamp(round(x / scale))`, `real = (code - zero_point) * scale`, in `f32`. QONNX `Quant` adds
    /// the zero point *before* rounding, ONNX `QuantizeLinear` and `TFLite` `QUANTIZE` after it.
    Affine(Affine),
    /// QONNX `BipolarQuant`: `(x >= 0 ? 1 : -1) * scale`.
    Bipolar {
        /// Magnitude of the two levels.
        scale: PerChannel<f32>,
    },
    /// QONNX `Trunc`, both versions.
    Trunc(Trunc),
    /// QONNX `FloatQuant`: a small floating-point format.
    Minifloat(Minifloat),
    /// QONNX / FINN `MultiThreshold`: `out_scale * #{j : x >= T_j} + out_bias`.
    Thresholds(Thresholds),
    /// OpenVINO `FakeQuantize`: so many levels between two limits.
    FakeQuantize(FakeQuantize),
    /// `HiSilicon`'s logarithmic grid as `MQBench` simulates it, 8 bits.
    MqBenchGfpq {
        /// Largest magnitude that was seen: it places the grid.
        max: f32,
    },
    /// GFPQ, the logarithmic quantizer of `HiSilicon`'s NNIE.
    Gfpq(Gfpq),
}

/// Parameters of GFPQ: levels `+-2^((k + z) / S)` and zero, `S` = 16 steps an octave and `k` up to `N` = 127 with
/// 8 bits, 128 and 1407 with 16; all in `f64`, the result in `f32`:
///
/// - `x > 0`: 0 up to `2^((z - S) / S)`, else `k = clamp(rint(S * log2(x) - z), 0, N)`;
/// - `x < 0`: 0 up to `2^((z + 1 - S) / S)`, else `k = clamp(rint(S * log2(-x) - z), 1, N)`.
///
/// Source: outputs of the vendor's library, `golden/nnie-gfpq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gfpq {
    /// Width of the codes.
    pub width: GfpqWidth,
    /// Exponent of the range, `floor(S * log2(max)) - N`; `None`: of the largest magnitude of what is quantized
    /// (weights).
    pub z: Option<i32>,
}

/// The widths that GFPQ has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GfpqWidth {
    /// 8 bits.
    Eight,
    /// 16 bits.
    Sixteen,
}

impl GfpqWidth {
    /// The width of so many bits; `None` where there is none.
    pub fn of_bits(bits: u32) -> Option<Self> {
        match bits {
            8 => Some(Self::Eight),
            16 => Some(Self::Sixteen),
            _ => None,
        }
    }

    /// Its bits.
    pub fn bits(self) -> u32 {
        match self {
            Self::Eight => 8,
            Self::Sixteen => 16,
        }
    }

    /// Steps an octave, largest code, bound of `z`.
    fn constants(self) -> (f64, i32, i32) {
        match self {
            Self::Eight => (16.0, 127, 511),
            Self::Sixteen => (128.0, 1407, 4095),
        }
    }
}

impl Gfpq {
    /// Width in bits, 8 or 16.
    pub fn bits(&self) -> u32 {
        self.width.bits()
    }

    /// The quantizer of a clip value, the largest magnitude that shall be held; `None` where it is not positive
    /// and finite, or where no such width exists.
    ///
    /// Clip values are to be rows `2^(n / S)` of the mapper's table (`ModelTC/MQBench`
    /// `docs/source/user_guide/hardware/nnie.rst`), but files write them in decimals: one that lies within a
    /// thousandth of a row in the logarithm is that row. Any other takes the row below, as the library
    /// rounds ranges.
    pub fn of_clip(bits: u32, clip: f32) -> Option<Self> {
        let width = GfpqWidth::of_bits(bits)?;
        let (_, codes, range) = width.constants();
        let row = Self::row(width, clip)?;
        let nearest = row.round();
        let row = if (row - nearest).abs() < 1e-3 {
            nearest
        } else {
            row.floor()
        };
        let z = (row as i32 - codes).clamp(-range, range);
        Some(Self { width, z: Some(z) })
    }

    /// Where a clip value is no row of the table: the rows below and above it.
    pub fn off_table(&self, clip: f32) -> Option<(f32, f32)> {
        let (steps, ..) = self.width.constants();
        let row = Self::row(self.width, clip)?;
        let value = |row: f64| libm::exp2(row / steps) as f32;
        ((row - row.round()).abs() >= 1e-3).then(|| (value(row.floor()), value(row.ceil())))
    }

    /// The largest level, where the range is known: `2^((N + z) / S)`.
    pub fn largest(&self) -> Option<f64> {
        let (steps, codes, _) = self.width.constants();
        Some(libm::exp2(f64::from(codes + self.z?) / steps))
    }

    /// The smallest positive level, where the range is known: `2^(z / S)`.
    pub fn smallest(&self) -> Option<f64> {
        let (steps, ..) = self.width.constants();
        Some(libm::exp2(f64::from(self.z?) / steps))
    }

    /// Number of the row of the table, with its fraction.
    fn row(width: GfpqWidth, clip: f32) -> Option<f64> {
        let (steps, ..) = width.constants();
        (clip > 0.0 && clip.is_finite()).then(|| steps * libm::log2(f64::from(clip)))
    }
}

impl Quantizer {
    /// The same, multiplying with `f32(1 / scale)` where this one divides by its scale; `None` where it does not.
    #[must_use]
    pub fn by_reciprocal(&self) -> Option<Self> {
        match self {
            Self::Affine(affine) if affine.multiplier.is_none() && !affine.is_bipolar() => {
                Some(Self::Affine(affine.clone().by_reciprocal()))
            }
            _ => None,
        }
    }
}

/// Parameters of an affine quantizer.
#[derive(Debug, Clone, PartialEq)]
pub struct Affine {
    /// Step; finite and positive.
    pub scale: PerChannel<f32>,
    /// Offset in steps; usually an integer, but files may hold any finite number.
    pub zero_point: PerChannel<f32>,
    /// Width in bits, 1 to 32; a stored bias may have 64.
    pub bits: u32,
    /// Whether codes are signed.
    pub signed: bool,
    /// Whether the range loses one code (signed: the smallest, unsigned: the largest).
    pub narrow: bool,
    /// Rounding mode.
    pub rounding: Rounding,
    /// Where the zero point enters.
    pub zero_point_added: ZeroPointAdded,
    /// What `x` is multiplied by, where the tool multiplies and does not divide by the scale: `f32(1 / scale)`
    /// (`PyTorch`), or a number that the file states (Distiller, `SVP_NNN`). As many entries as the scale has.
    pub multiplier: Option<PerChannel<f32>>,
}

/// Where a quantizer adds its zero point. They differ on ties: the first two with an odd zero point, the third
/// where half away from zero is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZeroPointAdded {
    /// `round(x / scale + zero_point)` (QONNX `Quant`).
    BeforeRounding,
    /// `round(x / scale) + zero_point` (ONNX `QuantizeLinear`, `TFLite` `QUANTIZE`).
    AfterRounding,
    /// `round(x / scale + zero_point - smallest) + smallest`: codes count from the smallest one while they are
    /// rounded (AIMET).
    FromSmallest,
}

impl Affine {
    /// The whole range of an integer type, quantized as ONNX `QuantizeLinear` does (half to even, zero point
    /// added after rounding; ONNX operator documentation).
    pub fn quantize_linear(
        scale: PerChannel<f32>,
        zero_point: PerChannel<f32>,
        bits: u32,
        signed: bool,
    ) -> Self {
        Self {
            scale,
            zero_point,
            bits,
            signed,
            narrow: false,
            rounding: Rounding::HalfEven,
            zero_point_added: ZeroPointAdded::AfterRounding,
            multiplier: None,
        }
    }

    /// The same, multiplying with `f32(1 / scale)` where others divide by the scale (PyTorch's
    /// `fake_quantize_per_tensor_affine`). The two differ near ties.
    #[must_use]
    pub fn by_reciprocal(mut self) -> Self {
        self.multiplier = Some(self.scale.map(|scale| 1.0 / scale));
        self
    }

    /// Smallest code: `-2^(b-1) + narrow`, or 0 (qonnx `intquant.py` `min_int`).
    pub fn min_code(&self) -> i64 {
        if self.signed {
            (i64::MIN >> (64 - self.bits)) + i64::from(self.narrow)
        } else {
            0
        }
    }

    /// Largest code: `2^(b-1) - 1`, or `2^b - 1 - narrow` (qonnx `intquant.py` `max_int`).
    pub fn max_code(&self) -> i64 {
        if self.signed {
            i64::MAX >> (64 - self.bits)
        } else {
            (1i64 << self.bits) - 1 - i64::from(self.narrow)
        }
    }

    /// Whether this is the signed 1-bit special case, whose codes are -1 and +1
    /// (qonnx `intquant.py`, marked BUG there, and what it does).
    pub fn is_bipolar(&self) -> bool {
        self.signed && self.bits == 1
    }
}

/// Parameters of `Trunc`: `y = half_even(x / scale + zero_point)`, dropped to fewer bits.
#[derive(Debug, Clone, PartialEq)]
pub struct Trunc {
    /// Input step.
    pub scale: PerChannel<f32>,
    /// Input zero point.
    pub zero_point: PerChannel<f32>,
    /// Rounding of the dropped bits.
    pub rounding: Rounding,
    /// Which version's arithmetic.
    pub kind: TruncKind,
}

/// The two versions of `Trunc` (formulas: qonnx 1.0.0 `custom_op/general/trunc.py`).
#[derive(Debug, Clone, PartialEq)]
pub enum TruncKind {
    /// Version 1: `code = round(y / 2^shift)`, no clamp, `real = (code - zero_point) * scale`.
    V1 {
        /// `in_bits - out_bits`.
        shift: i32,
    },
    /// Version 2: `t = 2^half_even(log2(out_scale / scale))`; `code = round(clamp(y / t))`;
    /// `real = (code - zero_point / t) * out_scale`.
    V2 {
        /// Output step.
        out_scale: PerChannel<f32>,
        /// Width of the clamp.
        out_bits: u32,
        /// Whether codes are signed.
        signed: bool,
        /// Whether the range loses one code.
        narrow: bool,
    },
}

/// Parameters of `FloatQuant`; always signed.
#[derive(Debug, Clone, PartialEq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is one attribute of the file's operator"
)]
pub struct Minifloat {
    /// Scale.
    pub scale: PerChannel<f32>,
    /// Exponent width in bits.
    pub exponent_bits: u32,
    /// Mantissa width in bits.
    pub mantissa_bits: u32,
    /// Exponent bias.
    pub exponent_bias: f32,
    /// Largest magnitude before scaling (`max_val` of the file); infinite where absent.
    pub max_value: f32,
    /// Whether values beyond the maximum saturate; otherwise they become infinite or NaN.
    pub saturating: bool,
    /// Whether the format has infinities.
    pub has_inf: bool,
    /// Whether the format has NaNs.
    pub has_nan: bool,
    /// Whether the format has subnormal numbers.
    pub has_subnormal: bool,
    /// Rounding mode.
    pub rounding: Rounding,
}

/// Parameters of `MultiThreshold`.
#[derive(Debug, Clone, PartialEq)]
pub struct Thresholds {
    /// Thresholds, row-major `(channels, steps)`; one row serves every channel.
    pub thresholds: Vec<f32>,
    /// Rows.
    pub channels: usize,
    /// Thresholds per row.
    pub steps: usize,
    /// Axis of the channels in the quantized tensor.
    pub axis: usize,
    /// Step of the output.
    pub out_scale: f32,
    /// Offset of the output.
    pub out_bias: f32,
}

impl Graph {
    /// The value with this id.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id]
    }

    /// Shape of a value.
    pub fn shape(&self, id: ValueId) -> &[usize] {
        &self.values[id].shape
    }

    /// Finds a value by its name.
    pub fn find(&self, name: &str) -> Option<ValueId> {
        self.values.iter().position(|v| v.name == name)
    }

    /// For each value, the indices of the nodes that read it, in order.
    pub fn readers(&self) -> Vec<Vec<usize>> {
        let mut readers = vec![Vec::new(); self.values.len()];
        for (index, node) in self.nodes.iter().enumerate() {
            for &input in &node.inputs {
                if readers[input].last() != Some(&index) {
                    readers[input].push(index);
                }
            }
        }
        readers
    }
}

impl Value {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the tensor has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Constant {
    /// The contents as reals; integers beyond 2^24 round to nearest.
    pub fn to_f32(&self) -> Vec<f32> {
        match self {
            Self::F32(v) => v.clone(),
            Self::I64(v) => v.iter().map(|&x| x as f32).collect(),
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::I64(v) => v.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
