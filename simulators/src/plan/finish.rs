//! How a layer ends: from sums (or inputs) to its output.

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, OnceLock};

use align_check_graph::{Activation, DynamicPart, Quantizer};

use crate::hls4ml::Fixed;
use crate::num::Trace;
use crate::rules::average::Average;
use crate::rules::elementwise::PairFunction;
use crate::rules::epilogue::Epilogue;
use crate::rules::fake_quantize::{ConvAdd, Values};
use crate::rules::real::{Dequantizer, RealQuantizer};
use crate::rules::requantize::Requantizer;
use crate::rules::resize::Resampler;
use crate::rules::softmax::Softmax;
use crate::rules::thresholds::Counted;
use crate::rules::unary::CodeFunction;
use crate::tensor::Channels;

/// From sums (or inputs) to the output.
pub enum Finish {
    /// The elements stay what they are (data movement, maximum, clamps on one grid).
    Keep {
        /// Smallest code that is kept.
        lo: i32,
        /// Largest code that is kept.
        hi: i32,
    },
    /// One output of a quantizer whose scale follows from its input's range; the scale of an empty range.
    DynamicQuantize(DynamicPart, f32),
    /// The codes stay what they are; their meaning changes.
    Reinterpret,
    /// The exact real through [`Layer::posts`](crate::network::Layer::posts), then the model's own quantizer to the letter; none: nothing.
    Letter(Option<Box<Quantizer>>),
    /// The exact real through [`Layer::posts`](crate::network::Layer::posts); nothing is quantized.
    Real,
    /// Integer sums through a requantization.
    Requantize {
        /// The rule, bound to this layer's scales.
        requantizer: Box<Requantizer>,
        /// Channels of the sums.
        channels: Channels,
    },
    /// A table from input code to output code.
    Table(Table),
    /// A table, and another one for elements in whole blocks of a vector kernel.
    Tables {
        /// The table.
        table: Table,
        /// The same for elements in blocks.
        blocks: Table,
        /// Which elements these are.
        inside: Arc<[bool]>,
    },
    /// A function of the input code, where a table would be too large.
    Function(CodeFunction),
    /// A function of two codes.
    Pair(Box<Pair>),
    /// A linear resampling.
    Resample(Box<Resampler>),
    /// Integer sums as reals, by a scale and a bias of each channel in `f32`: a part of what reads them.
    Values(Values, Channels),
    /// The sum of [`Values`](Self::Values) and a code, and a clamp in stored codes.
    ConvAdd(Box<ConvAdd>, (i32, i32)),
    /// The same as a float epilogue.
    Epilogue(Box<Epilogue>),
    /// A mean, and a clamp in stored codes.
    Average(Box<Average>, (i32, i32)),
    /// A softmax over rows, and a clamp in stored codes.
    Softmax(Box<Softmax>, (i32, i32)),
    /// Integers become reals and leave the network.
    Dequantize(Dequantizer, Channels),
    /// Each operand through its own function (none: it is on the output's grid already).
    Concat(Vec<Option<CodeFunction>>),
    /// The real through [`Layer::posts`](crate::network::Layer::posts) in float, then the target's `[quantize]`.
    Float(Box<FloatFinish>),
    /// The real through [`Layer::posts`](crate::network::Layer::posts), then the logarithmic quantizer.
    Gfpq {
        /// A table in place of the function behind the sum.
        sigmoid: Option<Activation>,
    },
    /// Everything in fixed-point types: hls4ml.
    Fixed(Box<Fixed>),
    /// Thresholds that the real in front of [`Layer::posts`](crate::network::Layer::posts), or the sum, reaches: FINN.
    Thresholds(Box<Counted>),
}

/// Outputs of every input code.
pub struct Table {
    entries: Vec<i32>,
    first: i64,
    /// What made the entries.
    pub function: CodeFunction,
}

impl Table {
    /// The entries of a function, from input code `first` on.
    pub fn new(entries: Vec<i32>, first: i64, function: CodeFunction) -> Self {
        Self {
            entries,
            first,
            function,
        }
    }

    /// Which entry an input code has.
    #[inline]
    pub fn index(&self, code: i32) -> usize {
        (i64::from(code) - self.first) as usize
    }

    /// Whether every code between two ends has an entry.
    pub fn covers(&self, min: i64, max: i64) -> bool {
        min >= self.first && max - self.first < self.entries.len() as i64
    }

    /// The output of an input code.
    #[inline]
    pub fn code(&self, code: i32) -> i32 {
        self.entries[self.index(code)]
    }
}

/// A function of two codes.
pub struct Pair {
    /// Itself.
    pub function: PairFunction,
    /// A clamp in stored codes.
    pub clamp: (i32, i32),
    /// Elements in whole blocks of a vector kernel, and their function.
    pub blocks: Option<(PairFunction, Arc<[bool]>)>,
    /// What the function made of pairs that came by.
    pub memo: Memo,
    /// The same in whole blocks.
    pub in_blocks: Memo,
}

/// Codes of pairs of bytes, each computed once: what a function of two codes makes of a pair is the same wherever, and
/// on whichever thread, it comes by.
#[derive(Debug, Default)]
pub struct Memo(OnceLock<Box<[AtomicU16]>>);

impl Memo {
    /// Bytes of pairs: `code(a, b)` of each, less `first`; `None` where one is no byte.
    pub fn bytes(
        &self,
        [a, b]: [&[u8]; 2],
        first: i32,
        out: &mut [u8],
        code: impl Fn(u8, u8) -> i32,
    ) -> Option<()> {
        let known = self.known();
        for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
            *out = known.byte(a, b, first, &code)?;
        }
        Some(())
    }

    /// As [`bytes`](Self::bytes) of two functions: `inside` says which one is an element's, in the order of the memos.
    pub fn bytes_of_two(
        memos: [&Self; 2],
        inside: &[bool],
        [a, b]: [&[u8]; 2],
        first: i32,
        out: &mut [u8],
        code: impl Fn(bool, u8, u8) -> i32,
    ) -> Option<()> {
        let known = memos.map(Self::known);
        for (((out, &a), &b), &inside) in out.iter_mut().zip(a).zip(b).zip(inside) {
            let own = known[usize::from(inside)];
            *out = own.byte(a, b, first, |a, b| code(inside, a, b))?;
        }
        Some(())
    }

    fn known(&self) -> Known<'_> {
        let unknown = || (0..1 << 16).map(|_| AtomicU16::new(0)).collect();
        Known(self.0.get_or_init(unknown))
    }
}

/// Bytes of all pairs, each one more: 0 is not known yet.
#[derive(Clone, Copy)]
struct Known<'a>(&'a [AtomicU16]);

impl Known<'_> {
    #[inline]
    fn byte(self, a: u8, b: u8, first: i32, code: impl Fn(u8, u8) -> i32) -> Option<u8> {
        let entry = &self.0[usize::from(a) << 8 | usize::from(b)];
        let mut byte = entry.load(Ordering::Relaxed);
        if byte == 0 {
            byte = 1 + u16::from(u8::try_from(code(a, b) - first).ok()?);
            entry.store(byte, Ordering::Relaxed);
        }
        Some((byte - 1) as u8)
    }
}

impl Pair {
    /// The code of an element in a whole block, or of one that is not.
    pub fn code(&self, inside: bool, a: i32, b: i32) -> i32 {
        let off = &mut Trace::off();
        let code = match &self.blocks {
            Some((blocks, _)) if inside => blocks(a, b, off),
            _ => (self.function)(a, b, off),
        };
        code.clamp(self.clamp.0, self.clamp.1)
    }

    /// The code of an element, step by step.
    #[inline]
    pub fn traced(&self, index: usize, a: i32, b: i32, trace: &mut Trace) -> i32 {
        let code = match &self.blocks {
            Some((blocks, inside)) if inside[index] => blocks(a, b, trace),
            _ => (self.function)(a, b, trace),
        };
        let (lo, hi) = self.clamp;
        let clamped = code.clamp(lo, hi);
        if clamped == code {
            return code;
        }
        trace.step("clipped", || format!("{code} to {lo}..{hi}"), clamped)
    }
}

/// `[quantize]` of a layer's reals.
#[derive(Debug)]
pub struct FloatFinish {
    /// One entry a channel.
    pub quantizers: Vec<RealQuantizer>,
    /// Which element belongs to which entry.
    pub channels: Channels,
    /// Elements in whole blocks, and the quantizers of those that are not.
    pub tail: Option<(Vec<RealQuantizer>, Arc<[bool]>)>,
}

impl std::fmt::Debug for Finish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Keep { .. } => "Keep",
            Self::DynamicQuantize(..) => "DynamicQuantize",
            Self::Reinterpret => "Reinterpret",
            Self::Letter(_) => "Letter",
            Self::Real => "Real",
            Self::Requantize { .. } => "Requantize",
            Self::Table(_) => "Table",
            Self::Tables { .. } => "Tables",
            Self::Resample(_) => "Resample",
            Self::Function(_) => "Function",
            Self::Pair(..) => "Pair",
            Self::Values(..) => "Values",
            Self::ConvAdd(..) => "ConvAdd",
            Self::Epilogue(_) => "Epilogue",
            Self::Average(..) => "Average",
            Self::Softmax(..) => "Softmax",
            Self::Dequantize(..) => "Dequantize",
            Self::Concat(_) => "Concat",
            Self::Float(..) => "Float",
            Self::Gfpq { .. } => "Gfpq",
            Self::Fixed(_) => "Fixed",
            Self::Thresholds(_) => "Thresholds",
        })
    }
}
