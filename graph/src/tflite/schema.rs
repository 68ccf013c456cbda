//! Numbers of the published schema: fields of tables, operators, element types
//! (`tensorflow/compiler/mlir/lite/schema/schema.fbs`, version 3).

/// Fields of `Model`.
pub(super) mod model {
    pub(in crate::tflite) const VERSION: usize = 0;
    pub(in crate::tflite) const OPERATOR_CODES: usize = 1;
    pub(in crate::tflite) const SUBGRAPHS: usize = 2;
    pub(in crate::tflite) const BUFFERS: usize = 4;
}

/// Fields of `OperatorCode`.
pub(super) mod operator_code {
    pub(in crate::tflite) const DEPRECATED_BUILTIN: usize = 0;
    pub(in crate::tflite) const CUSTOM: usize = 1;
    pub(in crate::tflite) const BUILTIN: usize = 3;
}

/// Fields of `SubGraph`.
pub(super) mod subgraph {
    pub(in crate::tflite) const TENSORS: usize = 0;
    pub(in crate::tflite) const INPUTS: usize = 1;
    pub(in crate::tflite) const OUTPUTS: usize = 2;
    pub(in crate::tflite) const OPERATORS: usize = 3;
    pub(in crate::tflite) const NAME: usize = 4;
}

/// Fields of `Operator`.
pub(super) mod operator {
    pub(in crate::tflite) const CODE: usize = 0;
    pub(in crate::tflite) const INPUTS: usize = 1;
    pub(in crate::tflite) const OUTPUTS: usize = 2;
    pub(in crate::tflite) const OPTIONS_TYPE: usize = 3;
    pub(in crate::tflite) const OPTIONS: usize = 4;
}

/// Fields of `Tensor`.
pub(super) mod tensor {
    pub(in crate::tflite) const SHAPE: usize = 0;
    pub(in crate::tflite) const TYPE: usize = 1;
    pub(in crate::tflite) const BUFFER: usize = 2;
    pub(in crate::tflite) const NAME: usize = 3;
    pub(in crate::tflite) const QUANTIZATION: usize = 4;
    pub(in crate::tflite) const IS_VARIABLE: usize = 5;
    pub(in crate::tflite) const SPARSITY: usize = 6;
    pub(in crate::tflite) const SHAPE_SIGNATURE: usize = 7;
    pub(in crate::tflite) const HAS_RANK: usize = 8;
    pub(in crate::tflite) const EXTERNAL_BUFFER: usize = 10;
}

/// Fields of `QuantizationParameters`.
pub(super) mod quantization {
    pub(in crate::tflite) const SCALE: usize = 2;
    pub(in crate::tflite) const ZERO_POINT: usize = 3;
    pub(in crate::tflite) const DETAILS_TYPE: usize = 4;
    pub(in crate::tflite) const DIMENSION: usize = 6;
}

/// Fields of `Buffer`.
pub(super) mod buffer {
    pub(in crate::tflite) const DATA: usize = 0;
    pub(in crate::tflite) const OFFSET: usize = 1;
    pub(in crate::tflite) const SIZE: usize = 2;
}

/// Element types (`TensorType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Float32,
    Float16,
    Float64,
    BFloat16,
    Int4,
    Int8,
    UInt8,
    Int16,
    UInt16,
    Int32,
    Int64,
    Bool,
    /// One that is not read.
    Other(i8),
}

impl Type {
    pub(super) fn of(code: i8) -> Self {
        match code {
            0 => Self::Float32,
            1 => Self::Float16,
            2 => Self::Int32,
            3 => Self::UInt8,
            4 => Self::Int64,
            6 => Self::Bool,
            7 => Self::Int16,
            9 => Self::Int8,
            10 => Self::Float64,
            16 => Self::UInt16,
            17 => Self::Int4,
            18 => Self::BFloat16,
            other => Self::Other(other),
        }
    }

    /// The schema's name.
    pub(super) fn name(self) -> String {
        let name = match self {
            Self::Float32 => "FLOAT32",
            Self::Float16 => "FLOAT16",
            Self::Float64 => "FLOAT64",
            Self::BFloat16 => "BFLOAT16",
            Self::Int4 => "INT4",
            Self::Int8 => "INT8",
            Self::UInt8 => "UINT8",
            Self::Int16 => "INT16",
            Self::UInt16 => "UINT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Bool => "BOOL",
            Self::Other(5) => "STRING",
            Self::Other(8) => "COMPLEX64",
            Self::Other(11) => "COMPLEX128",
            Self::Other(12) => "UINT64",
            Self::Other(13) => "RESOURCE",
            Self::Other(14) => "VARIANT",
            Self::Other(15) => "UINT32",
            Self::Other(19) => "INT2",
            Self::Other(20) => "UINT4",
            Self::Other(code) => return format!("number {code}"),
        };
        name.to_owned()
    }

    /// Whether it holds reals.
    pub(super) fn is_float(self) -> bool {
        matches!(
            self,
            Self::Float32 | Self::Float16 | Self::Float64 | Self::BFloat16
        )
    }

    /// Width and sign of an integer type.
    pub(super) fn integer(self) -> Option<(u32, bool)> {
        Some(match self {
            Self::Int4 => (4, true),
            Self::Int8 => (8, true),
            Self::UInt8 => (8, false),
            Self::Int16 => (16, true),
            Self::UInt16 => (16, false),
            Self::Int32 => (32, true),
            Self::Int64 => (64, true),
            _ => return None,
        })
    }
}

/// `BuiltinOperator` of a custom operator.
pub(super) const CUSTOM: i32 = 32;

/// Names of `BuiltinOperator`, by number.
#[rustfmt::skip]
const OPERATORS: [&str; 162] = [
    "ADD", "AVERAGE_POOL_2D", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "DEPTH_TO_SPACE",
    "DEQUANTIZE", "EMBEDDING_LOOKUP", "FLOOR", "FULLY_CONNECTED", "HASHTABLE_LOOKUP", "L2_NORMALIZATION",
    "L2_POOL_2D", "LOCAL_RESPONSE_NORMALIZATION", "LOGISTIC", "LSH_PROJECTION", "LSTM", "MAX_POOL_2D",
    "MUL", "RELU", "RELU_N1_TO_1", "RELU6", "RESHAPE", "RESIZE_BILINEAR", "RNN", "SOFTMAX",
    "SPACE_TO_DEPTH", "SVDF", "TANH", "CONCAT_EMBEDDINGS", "SKIP_GRAM", "CALL", "CUSTOM",
    "EMBEDDING_LOOKUP_SPARSE", "PAD", "UNIDIRECTIONAL_SEQUENCE_RNN", "GATHER", "BATCH_TO_SPACE_ND",
    "SPACE_TO_BATCH_ND", "TRANSPOSE", "MEAN", "SUB", "DIV", "SQUEEZE", "UNIDIRECTIONAL_SEQUENCE_LSTM",
    "STRIDED_SLICE", "BIDIRECTIONAL_SEQUENCE_RNN", "EXP", "TOPK_V2", "SPLIT", "LOG_SOFTMAX", "DELEGATE",
    "BIDIRECTIONAL_SEQUENCE_LSTM", "CAST", "PRELU", "MAXIMUM", "ARG_MAX", "MINIMUM", "LESS", "NEG", "PADV2",
    "GREATER", "GREATER_EQUAL", "LESS_EQUAL", "SELECT", "SLICE", "SIN", "TRANSPOSE_CONV", "SPARSE_TO_DENSE",
    "TILE", "EXPAND_DIMS", "EQUAL", "NOT_EQUAL", "LOG", "SUM", "SQRT", "RSQRT", "SHAPE", "POW", "ARG_MIN",
    "FAKE_QUANT", "REDUCE_PROD", "REDUCE_MAX", "PACK", "LOGICAL_OR", "ONE_HOT", "LOGICAL_AND", "LOGICAL_NOT",
    "UNPACK", "REDUCE_MIN", "FLOOR_DIV", "REDUCE_ANY", "SQUARE", "ZEROS_LIKE", "FILL", "FLOOR_MOD", "RANGE",
    "RESIZE_NEAREST_NEIGHBOR", "LEAKY_RELU", "SQUARED_DIFFERENCE", "MIRROR_PAD", "ABS", "SPLIT_V", "UNIQUE",
    "CEIL", "REVERSE_V2", "ADD_N", "GATHER_ND", "COS", "WHERE", "RANK", "ELU", "REVERSE_SEQUENCE",
    "MATRIX_DIAG", "QUANTIZE", "MATRIX_SET_DIAG", "ROUND", "HARD_SWISH", "IF", "WHILE",
    "NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5", "SCATTER_ND", "SELECT_V2", "DENSIFY", "SEGMENT_SUM",
    "BATCH_MATMUL", "PLACEHOLDER_FOR_GREATER_OP_CODES", "CUMSUM", "CALL_ONCE", "BROADCAST_TO", "RFFT2D",
    "CONV_3D", "IMAG", "REAL", "COMPLEX_ABS", "HASHTABLE", "HASHTABLE_FIND", "HASHTABLE_IMPORT",
    "HASHTABLE_SIZE", "REDUCE_ALL", "CONV_3D_TRANSPOSE", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE",
    "BROADCAST_ARGS", "RANDOM_STANDARD_NORMAL", "BUCKETIZE", "RANDOM_UNIFORM", "MULTINOMIAL", "GELU",
    "DYNAMIC_UPDATE_SLICE", "RELU_0_TO_1", "UNSORTED_SEGMENT_PROD", "UNSORTED_SEGMENT_MAX",
    "UNSORTED_SEGMENT_SUM", "ATAN2", "UNSORTED_SEGMENT_MIN", "SIGN", "BITCAST", "BITWISE_XOR", "RIGHT_SHIFT",
];

/// Name of a built-in operator.
pub(super) fn operator_name(code: i32) -> String {
    match usize::try_from(code).ok().and_then(|i| OPERATORS.get(i)) {
        Some(name) => (*name).to_owned(),
        None => format!("BUILTIN_{code}"),
    }
}

/// Number of an operator's options in the union `BuiltinOptions`, for operators whose options are read.
pub(super) fn options_type(op_type: &str) -> Option<u8> {
    Some(match op_type {
        "CONV_2D" => 1,
        "DEPTHWISE_CONV_2D" => 2,
        "AVERAGE_POOL_2D" | "MAX_POOL_2D" => 5,
        "FULLY_CONNECTED" => 8,
        "SOFTMAX" => 9,
        "CONCATENATION" => 10,
        "ADD" => 11,
        "RESIZE_BILINEAR" => 15,
        "RESHAPE" => 17,
        "MUL" => 21,
        "MEAN" => 27,
        "SUB" => 28,
        "SQUEEZE" => 30,
        "STRIDED_SLICE" => 32,
        "SPLIT" => 35,
        "TRANSPOSE_CONV" => 49,
        "PACK" => 59,
        "UNPACK" => 64,
        "RESIZE_NEAREST_NEIGHBOR" => 74,
        "LEAKY_RELU" => 75,
        "MIRROR_PAD" => 77,
        "DEPTH_TO_SPACE" => 94,
        _ => return None,
    })
}
