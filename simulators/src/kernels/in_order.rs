//! The definition of an accumulator: in order, of a width, with a rule for overflow at every step.

use std::ops::Range;

use align_check_specs::Overflow;
use bitvec::vec::BitVec;
use rayon::prelude::*;

use super::pack::fill_row;
use super::{ConvShape, Isa, PARALLEL_MACS, vectorize};

/// How often an accumulator overflowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OverflowCount {
    /// Outputs that overflowed at one step or more.
    pub elements: u64,
    /// Steps that overflowed, over all outputs; loading the initial value is a step.
    pub steps: u64,
    /// One bit an output, set if it overflowed; empty if none did.
    pub flags: BitVec,
}

/// Most outputs whose accumulators lie side by side: many, so that the loop over them stays a loop and
/// is vectorized whatever the rule.
const LANES: usize = 64;

/// Most bytes of packed inputs at a time.
const BLOCK_BYTES: usize = 4 << 20;

/// Convolution with an accumulator of `bits` bits (8 to 64), signed, that starts at `init[m]` and wraps
/// or saturates AT EVERY STEP, in the order (channel, kernel row, kernel column) if `channel_first`,
/// else (row, column, channel). `init[m]` itself is brought into range first, which counts as a step.
/// `x` are codes minus their zero point, `pad` likewise; products are exact.
///
/// [`Overflow::Exact`] is a 64-bit accumulator of which the caller proves that it does not overflow:
/// `bits` is not read, and an overflow panics in a debug build and wraps in a release build.
///
/// # Panics
/// If a slice has not the size of `shape`, or `bits` is not in 8 to 64.
#[expect(
    clippy::too_many_arguments,
    reason = "the parts of one definition, each a plain value"
)]
pub fn conv_in_order(
    shape: &ConvShape,
    x: &[i32],
    pad: i32,
    weights: &[i32],
    init: &[i64],
    bits: u32,
    overflow: Overflow,
    channel_first: bool,
    out: &mut [i64],
) -> OverflowCount {
    shape.check(x.len(), weights.len(), out.len());
    assert_eq!(
        init.len(),
        shape.out_channels,
        "one initial value an output channel"
    );
    let bits = if overflow == Overflow::Exact {
        64
    } else {
        bits
    };
    assert!((8..=64).contains(&bits), "an accumulator has 8 to 64 bits");
    if out.is_empty() {
        return OverflowCount::default();
    }

    let conv = Conv {
        shape,
        pad,
        channel_first,
        isa: Isa::detect(),
    };
    let largest = |values: &[i32]| {
        values
            .iter()
            .fold(0, |largest, v| largest.max(v.unsigned_abs()))
    };
    let product = u64::from(largest(x).max(pad.unsigned_abs())) * u64::from(largest(weights));
    let high = (1i64 << (bits - 1).min(62)) - 1;
    let mut steps = vec![0; out.len()];
    // 32-bit lanes where no sum leaves them; 64-bit lanes hold every sum of fewer than 64 bits.
    let narrow = bits < 32 && product <= i32::MAX as u64 - (1 << (bits - 1));
    match overflow {
        Overflow::Exact => conv.run(Exact, x, weights, init, out, &mut steps),
        Overflow::Saturate if narrow => {
            let high = high as i32;
            conv.run(
                Saturate {
                    low: -high - 1,
                    high,
                },
                x,
                weights,
                init,
                out,
                &mut steps,
            );
        }
        Overflow::Wrap if narrow => {
            conv.run(
                Wrap::<i32>::new(32 - bits),
                x,
                weights,
                init,
                out,
                &mut steps,
            );
        }
        Overflow::Saturate if bits == 64 => {
            conv.run(Saturate64, x, weights, init, out, &mut steps);
        }
        Overflow::Wrap if bits == 64 => {
            conv.run(Wrap64, x, weights, init, out, &mut steps);
        }
        Overflow::Saturate => {
            conv.run(
                Saturate {
                    low: -high - 1,
                    high,
                },
                x,
                weights,
                init,
                out,
                &mut steps,
            );
        }
        Overflow::Wrap => {
            conv.run(
                Wrap::<i64>::new(64 - bits),
                x,
                weights,
                init,
                out,
                &mut steps,
            );
        }
    }

    OverflowCount::of(&steps)
}

/// The lane of an accumulator.
trait Lane: Copy + Default + Send + Sync + std::ops::AddAssign + Into<i64> {}
impl Lane for i32 {}
impl Lane for i64 {}

/// What an accumulator does at every step.
trait Rule: Copy + Sync {
    /// Wide enough for what the rule computes.
    type Lane: Lane;
    /// An initial value in range, and 1 if it was not, else 0.
    fn start(self, init: i64) -> (Self::Lane, Self::Lane);
    /// The accumulator after adding `x * w`, and 1 if that overflowed, else 0.
    fn step(self, sum: Self::Lane, x: i32, w: i32) -> (Self::Lane, Self::Lane);
}

/// Clamps to a range; a sum that is not clamped fits the lane.
#[derive(Clone, Copy)]
struct Saturate<L> {
    low: L,
    high: L,
}

impl Rule for Saturate<i32> {
    type Lane = i32;

    #[inline(always)]
    fn start(self, init: i64) -> (i32, i32) {
        let value = init.clamp(i64::from(self.low), i64::from(self.high));
        (value as i32, i32::from(value != init))
    }

    #[inline(always)]
    fn step(self, sum: i32, x: i32, w: i32) -> (i32, i32) {
        let sum = sum.wrapping_add(x.wrapping_mul(w));
        let value = sum.max(self.low).min(self.high);
        (value, i32::from(value != sum))
    }
}

impl Rule for Saturate<i64> {
    type Lane = i64;

    #[inline(always)]
    fn start(self, init: i64) -> (i64, i64) {
        let value = init.clamp(self.low, self.high);
        (value, i64::from(value != init))
    }

    #[inline(always)]
    fn step(self, sum: i64, x: i32, w: i32) -> (i64, i64) {
        let sum = sum.wrapping_add(i64::from(x) * i64::from(w));
        let value = sum.max(self.low).min(self.high);
        (value, i64::from(value != sum))
    }
}

/// Keeps the low bits: those of the lane but `drop`; a sum before that fits the lane.
#[derive(Clone, Copy)]
struct Wrap<L> {
    drop: u32,
    lane: std::marker::PhantomData<L>,
}

impl<L> Wrap<L> {
    fn new(drop: u32) -> Self {
        Wrap {
            drop,
            lane: std::marker::PhantomData,
        }
    }
}

impl Rule for Wrap<i32> {
    type Lane = i32;

    #[inline(always)]
    fn start(self, init: i64) -> (i32, i32) {
        let value = (init as i32) << self.drop >> self.drop;
        (value, i32::from(i64::from(value) != init))
    }

    #[inline(always)]
    fn step(self, sum: i32, x: i32, w: i32) -> (i32, i32) {
        let sum = sum.wrapping_add(x.wrapping_mul(w));
        let value = sum << self.drop >> self.drop;
        (value, i32::from(value != sum))
    }
}

impl Rule for Wrap<i64> {
    type Lane = i64;

    #[inline(always)]
    fn start(self, init: i64) -> (i64, i64) {
        let value = init << self.drop >> self.drop;
        (value, i64::from(value != init))
    }

    #[inline(always)]
    fn step(self, sum: i64, x: i32, w: i32) -> (i64, i64) {
        let sum = sum.wrapping_add(i64::from(x) * i64::from(w));
        let value = sum << self.drop >> self.drop;
        (value, i64::from(value != sum))
    }
}

/// 64 bits, saturating.
#[derive(Clone, Copy)]
struct Saturate64;

impl Rule for Saturate64 {
    type Lane = i64;

    #[inline(always)]
    fn start(self, init: i64) -> (i64, i64) {
        (init, 0)
    }

    #[inline(always)]
    fn step(self, sum: i64, x: i32, w: i32) -> (i64, i64) {
        let product = i64::from(x) * i64::from(w);
        (
            sum.saturating_add(product),
            i64::from(sum.checked_add(product).is_none()),
        )
    }
}

/// 64 bits, wrapping.
#[derive(Clone, Copy)]
struct Wrap64;

impl Rule for Wrap64 {
    type Lane = i64;

    #[inline(always)]
    fn start(self, init: i64) -> (i64, i64) {
        (init, 0)
    }

    #[inline(always)]
    fn step(self, sum: i64, x: i32, w: i32) -> (i64, i64) {
        let (sum, over) = sum.overflowing_add(i64::from(x) * i64::from(w));
        (sum, i64::from(over))
    }
}

/// 64 bits, of which the caller proves that they suffice.
#[derive(Clone, Copy)]
struct Exact;

impl Rule for Exact {
    type Lane = i64;

    #[inline(always)]
    fn start(self, init: i64) -> (i64, i64) {
        (init, 0)
    }

    #[inline(always)]
    fn step(self, sum: i64, x: i32, w: i32) -> (i64, i64) {
        let product = i64::from(x) * i64::from(w);
        debug_assert!(
            sum.checked_add(product).is_some(),
            "an exact sum left 64 bits"
        );
        (sum.wrapping_add(product), 0)
    }
}

/// A convolution, but for its tensors and its rule.
struct Conv<'a> {
    shape: &'a ConvShape,
    pad: i32,
    channel_first: bool,
    isa: Isa,
}

impl Conv<'_> {
    /// Convolves by a rule.
    fn run<A: Rule>(
        &self,
        rule: A,
        x: &[i32],
        weights: &[i32],
        init: &[i64],
        out: &mut [i64],
        steps: &mut [u32],
    ) {
        let shape = self.shape;
        let (taps, outputs) = (shape.taps(), shape.group_outputs());
        let input = shape.group_channels() * shape.height * shape.width;
        let order: Vec<usize> = (0..taps)
            .map(|k| shape.weight_index(k, self.channel_first))
            .collect();
        let size = outputs * shape.positions();
        let run = |(group, (out, steps)): (usize, (&mut [i64], &mut [u32]))| {
            let x = &x[group * input..][..input];
            let weights = &weights[group * outputs * taps..][..outputs * taps];
            let init = &init[group * outputs..][..outputs];
            if shape.positions() == 1 {
                self.vector(rule, x, &order, weights, init, out, steps);
            } else {
                self.matrix(rule, x, &order, weights, init, out, steps);
            }
        };
        if self.parallel() {
            out.par_chunks_mut(size)
                .zip(steps.par_chunks_mut(size))
                .enumerate()
                .for_each(run);
        } else {
            out.chunks_mut(size)
                .zip(steps.chunks_mut(size))
                .enumerate()
                .for_each(run);
        }
    }

    fn parallel(&self) -> bool {
        self.shape.macs() >= PARALLEL_MACS
    }

    /// The output channels of a group: positions lie side by side.
    #[expect(clippy::too_many_arguments, reason = "the tensors of one group")]
    fn matrix<A: Rule>(
        &self,
        rule: A,
        x: &[i32],
        order: &[usize],
        weights: &[i32],
        init: &[i64],
        out: &mut [i64],
        steps: &mut [u32],
    ) {
        let (taps, positions) = (order.len(), self.shape.positions());
        let block = (BLOCK_BYTES / (4 * taps.max(1)) / LANES).max(1) * LANES;
        let mut packed = Vec::new();
        for first in (0..positions).step_by(block) {
            let columns = first..positions.min(first + block);
            self.pack(x, columns.clone(), &mut packed);
            let run = |(m, (out, steps)): (usize, (&mut [i64], &mut [u32]))| {
                let row: Vec<i32> = order.iter().map(|&k| weights[m * taps + k]).collect();
                let chunks = out[columns.clone()].chunks_mut(LANES);
                for (chunk, (out, steps)) in chunks
                    .zip(steps[columns.clone()].chunks_mut(LANES))
                    .enumerate()
                {
                    let x = &packed[chunk * taps..][..taps];
                    self.sum(rule, x, &row, |_| init[m], out, steps);
                }
            };
            if self.parallel() {
                let rows = out
                    .par_chunks_mut(positions)
                    .zip(steps.par_chunks_mut(positions));
                rows.enumerate().for_each(run);
            } else {
                let rows = out.chunks_mut(positions).zip(steps.chunks_mut(positions));
                rows.enumerate().for_each(run);
            }
        }
    }

    /// The only position of each output channel of a group: output channels lie side by side.
    #[expect(clippy::too_many_arguments, reason = "the tensors of one group")]
    fn vector<A: Rule>(
        &self,
        rule: A,
        x: &[i32],
        order: &[usize],
        weights: &[i32],
        init: &[i64],
        out: &mut [i64],
        steps: &mut [u32],
    ) {
        let mut column = Vec::new();
        self.pack(x, 0..1, &mut column);
        let column: Vec<i32> = column.iter().map(|lanes| lanes[0]).collect();
        let taps = order.len();
        let run = |(chunk, (out, steps)): (usize, (&mut [i64], &mut [u32]))| {
            let first = chunk * LANES;
            let mut packed = vec![[0; LANES]; taps];
            // By blocks of taps, so that what is written stays in the first-level cache.
            for (packed, order) in packed.chunks_mut(64).zip(order.chunks(64)) {
                for lane in 0..out.len() {
                    let row = &weights[(first + lane) * taps..][..taps];
                    for (packed, &k) in packed.iter_mut().zip(order) {
                        packed[lane] = row[k];
                    }
                }
            }
            self.sum(
                rule,
                &packed,
                &column,
                |lane| init[first + lane],
                out,
                steps,
            );
        };
        if self.parallel() {
            out.par_chunks_mut(LANES)
                .zip(steps.par_chunks_mut(LANES))
                .enumerate()
                .for_each(run);
        } else {
            out.chunks_mut(LANES)
                .zip(steps.chunks_mut(LANES))
                .enumerate()
                .for_each(run);
        }
    }

    /// Packs the inputs of a range of output positions: (chunk of [`LANES`] positions, tap, position).
    fn pack(&self, x: &[i32], columns: Range<usize>, packed: &mut Vec<[i32; LANES]>) {
        let shape = self.shape;
        let (taps, plane) = (shape.taps(), shape.height * shape.width);
        packed.clear();
        packed.resize(columns.len().div_ceil(LANES) * taps, [0; LANES]);
        for (chunk, first) in columns.clone().step_by(LANES).enumerate() {
            let count = LANES.min(columns.end - first);
            for k in 0..taps {
                let (channel, row, column) = shape.tap(k, self.channel_first);
                let x = &x[channel * plane..][..plane];
                let dst = &mut packed[chunk * taps + k][..count];
                fill_row(shape, x, row, column, first, self.pad, dst);
            }
        }
    }

    /// Accumulates up to [`LANES`] outputs: lane by lane `x[k] * w[k]`, in the order of `k`.
    fn sum<A: Rule>(
        &self,
        rule: A,
        x: &[[i32; LANES]],
        w: &[i32],
        init: impl Fn(usize) -> i64,
        out: &mut [i64],
        steps: &mut [u32],
    ) {
        let mut sums = [A::Lane::default(); LANES];
        let mut counts = [A::Lane::default(); LANES];
        for lane in 0..out.len() {
            (sums[lane], counts[lane]) = rule.start(init(lane));
        }
        // Whole vectors; a lane beyond the outputs adds zeros.
        let lanes = out.len().next_multiple_of(8).min(LANES);
        vectorize(
            self.isa,
            #[inline(always)]
            || {
                let (sums, counts) = (&mut sums[..lanes], &mut counts[..lanes]);
                for (x, &w) in x.iter().zip(w) {
                    for ((sum, count), &x) in sums.iter_mut().zip(counts.iter_mut()).zip(x) {
                        let (value, over) = rule.step(*sum, x, w);
                        *sum = value;
                        *count += over;
                    }
                }
            },
        );
        for lane in 0..out.len() {
            out[lane] = sums[lane].into();
            steps[lane] = counts[lane].into() as u32;
        }
    }
}
