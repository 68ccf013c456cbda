//! The fast integer and real convolutions, and the in-order one that defines accumulators.
//!
//! A convolution of one image is a matrix product `out[m][p] = sum_k w[m][k] * x[k][p]`: `m` an output
//! channel, `p` an output position, `k` a tap (channel, kernel row, kernel column).
//! * [`conv_u8i8`]: exact `i32` sums, in any order (integer addition is associative), as fast as the
//!   machine can; the caller proves that no sum overflows. [`conv_u8i8_to`] hands them on while they are in the cache.
//! * [`conv_f64`]: `f64` sums in one fixed order, the same bytes everywhere.
//! * [`conv_in_order`]: an accumulator of any width that wraps or saturates at every step.
//! * [`lose_in_pairs`]: what exact sums lose where products are added two at a time in 16 bits.
//!
//! This is the only module with `unsafe` code. Results are the same bytes for every [`Isa`] and every
//! number of threads.
#![allow(
    unsafe_code,
    reason = "vector instructions and disjoint writes from several threads"
)]
#![allow(
    clippy::inline_always,
    reason = "code reaches the instructions of an `Isa` only by being inlined into `vectorize`"
)]

mod depthwise;
mod ends;
mod gemm;
mod grid;
mod in_order;
mod isa;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pack;
mod pairs;
mod real;
#[cfg(test)]
mod tests;

pub use ends::{End, Outputs};
pub use gemm::{PackedWeights, conv_u8i8, conv_u8i8_to};
pub use in_order::{OverflowCount, conv_in_order};
pub use isa::{Isa, vectorize};
pub use pairs::{SaturatingPairs, lose_in_pairs};
pub use real::conv_f64;

/// A call with fewer multiply-accumulates than this stays on the caller's thread. Tests divide smaller
/// work too.
const PARALLEL_MACS: usize = if cfg!(miri) {
    500
} else if cfg!(test) {
    50_000
} else {
    2_000_000
};

/// Geometry of a 1-D or 2-D convolution of ONE image; a 1-D convolution has height 1, and a fully
/// connected layer is a 1x1 convolution of a 1x1 image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvShape {
    /// Input channels.
    pub channels: usize,
    /// Input rows.
    pub height: usize,
    /// Input columns.
    pub width: usize,
    /// Output channels.
    pub out_channels: usize,
    /// Output rows.
    pub out_height: usize,
    /// Output columns.
    pub out_width: usize,
    /// Kernel rows and columns.
    pub kernel: [usize; 2],
    /// Steps down and right between outputs.
    pub strides: [usize; 2],
    /// Padding at the top and left; the bottom's and right's follow from the output size.
    pub pads: [usize; 2],
    /// Steps down and right between taps.
    pub dilations: [usize; 2],
    /// Groups: output channel `m` reads the `channels / groups` input channels of its group.
    pub groups: usize,
}

impl ConvShape {
    /// Input channels that one output channel reads.
    pub fn group_channels(&self) -> usize {
        self.channels / self.groups
    }

    /// Output channels of one group.
    pub fn group_outputs(&self) -> usize {
        self.out_channels / self.groups
    }

    /// Products summed for one output: channels of a group times kernel size.
    pub fn taps(&self) -> usize {
        self.group_channels() * self.kernel[0] * self.kernel[1]
    }

    /// Positions of one output channel.
    pub fn positions(&self) -> usize {
        self.out_height * self.out_width
    }

    /// Multiply-accumulates of the whole convolution.
    pub fn macs(&self) -> usize {
        self.out_channels * self.positions() * self.taps()
    }

    /// Whether it is a matrix product of the image itself: a 1x1 kernel at every position.
    fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1]
            && self.strides == [1, 1]
            && self.pads == [0, 0]
            && (self.out_height, self.out_width) == (self.height, self.width)
    }

    /// Asserts that the geometry is one.
    fn check_geometry(&self) {
        assert!(self.groups > 0, "a convolution has at least one group");
        assert_eq!(
            self.channels % self.groups,
            0,
            "groups divide the input channels"
        );
        assert_eq!(
            self.out_channels % self.groups,
            0,
            "groups divide the output channels"
        );
        assert!(
            self.kernel.iter().all(|&k| k > 0),
            "a kernel is at least 1x1"
        );
        assert!(
            self.strides.iter().all(|&s| s > 0),
            "a stride is at least 1"
        );
        assert!(
            self.dilations.iter().all(|&d| d > 0),
            "a dilation is at least 1"
        );
    }

    /// Asserts that the geometry is one, and that the slices have its sizes.
    fn check(&self, x: usize, weights: usize, out: usize) {
        self.check_geometry();
        assert_eq!(
            x,
            self.channels * self.height * self.width,
            "size of the input"
        );
        assert_eq!(
            weights,
            self.out_channels * self.taps(),
            "size of the weights"
        );
        assert_eq!(
            out,
            self.out_channels * self.positions(),
            "size of the output"
        );
    }

    /// Tap `k` of the order: (channel, kernel row, kernel column).
    #[inline]
    fn tap(&self, k: usize, channel_first: bool) -> (usize, usize, usize) {
        let [rows, columns] = self.kernel;
        if channel_first {
            (k / (rows * columns), k / columns % rows, k % columns)
        } else {
            let channels = self.group_channels();
            (k % channels, k / channels / columns, k / channels % columns)
        }
    }

    /// Where tap `k` of the order lies in a row of weights (`channels / groups`, rows, columns).
    #[inline]
    fn weight_index(&self, k: usize, channel_first: bool) -> usize {
        let (channel, row, column) = self.tap(k, channel_first);
        (channel * self.kernel[0] + row) * self.kernel[1] + column
    }
}
