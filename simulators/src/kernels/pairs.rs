//! Products that are added two at a time in an `int16` that saturates: what the sums lose by it.
//!
//! `vpmaddubsw` of x86-64 multiplies unsigned by signed bytes and adds each two products in 16 bits. The sum of an
//! output is then the exact one plus, for each pair, what saturation takes from it: so the exact kernels are used, and
//! only pairs that can saturate are looked at.

use align_check_specs::PairRule;
use bitvec::vec::BitVec;
use rayon::prelude::*;

use super::pack::fill_row;
use super::{ConvShape, OverflowCount, PARALLEL_MACS};

/// Two products of one output channel, as places in its row of weights (the second's weight may be 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pair {
    taps: [usize; 2],
    weights: [i32; 2],
}

/// The pairs of every output channel that can leave 16 bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaturatingPairs {
    rows: Vec<Vec<Pair>>,
}

impl SaturatingPairs {
    /// Of the pairs that `rule` makes of each row of weights, those that saturate for some activations in `low..=high`
    /// (which holds 0 if a tap outside the image is left out). `None`: no pair can, and every sum is exact.
    ///
    /// # Panics
    /// If `weights` has not the size of `shape`.
    pub fn new(
        shape: &ConvShape,
        weights: &[i8],
        rule: PairRule,
        low: u8,
        high: u8,
    ) -> Option<Self> {
        let (taps, channels) = (shape.taps(), shape.group_channels());
        assert_eq!(
            weights.len(),
            shape.out_channels * taps,
            "size of the weights"
        );
        // A run of products that are paired among themselves: all of them, or those of one kernel position.
        let run = match rule {
            PairRule::Exact => return None,
            PairRule::Sequence => taps,
            PairRule::Pixel => channels,
        };
        let order: Vec<usize> = (0..taps).map(|k| shape.weight_index(k, false)).collect();
        let saturates = |pair: &Pair| {
            let ends = |w: i32| [w * i32::from(low), w * i32::from(high)];
            let [first, second] = pair.weights.map(ends);
            first[0].max(first[1]) + second[0].max(second[1]) > i32::from(i16::MAX)
                || first[0].min(first[1]) + second[0].min(second[1]) < i32::from(i16::MIN)
        };
        let rows: Vec<Vec<Pair>> = weights
            .chunks(taps.max(1))
            .map(|row| {
                let pairs = order.chunks(run.max(1)).flat_map(|run| run.chunks(2));
                let pair = |taps: &[usize]| Pair {
                    taps: [taps[0], taps[taps.len() - 1]],
                    weights: [
                        i32::from(row[taps[0]]),
                        taps.get(1).map_or(0, |&second| i32::from(row[second])),
                    ],
                };
                pairs.map(pair).filter(saturates).collect()
            })
            .collect();
        rows.iter()
            .any(|row| !row.is_empty())
            .then_some(Self { rows })
    }

    /// The pairs of one output channel: their places in its row of weights, and the weights there.
    pub fn of_channel(&self, m: usize) -> impl Iterator<Item = ([usize; 2], [i32; 2])> {
        self.rows[m].iter().map(|pair| (pair.taps, pair.weights))
    }

    /// Output channels with such a pair.
    pub fn channels(&self) -> usize {
        self.rows.iter().filter(|row| !row.is_empty()).count()
    }
}

/// Adds to the exact sums of one image what its pairs lose; a tap outside the image has the code `pad`.
///
/// # Panics
/// If a slice has not the size of `shape`.
pub fn lose_in_pairs(
    shape: &ConvShape,
    x: &[u8],
    pad: u8,
    pairs: &SaturatingPairs,
    sums: &mut [i64],
) -> OverflowCount {
    shape.check(x.len(), pairs.rows.len() * shape.taps(), sums.len());
    let positions = shape.positions();
    if positions == 0 {
        return OverflowCount::default();
    }
    let mut steps = vec![0u32; sums.len()];
    let run = |(m, (sums, steps)): (usize, (&mut [i64], &mut [u32]))| {
        channel(shape, x, pad, (m, &pairs.rows[m]), sums, steps);
    };
    if shape.macs() >= PARALLEL_MACS {
        sums.par_chunks_mut(positions)
            .zip(steps.par_chunks_mut(positions))
            .enumerate()
            .for_each(run);
    } else {
        sums.chunks_mut(positions)
            .zip(steps.chunks_mut(positions))
            .enumerate()
            .for_each(run);
    }
    OverflowCount::of(&steps)
}

/// One output channel.
fn channel(
    shape: &ConvShape,
    x: &[u8],
    pad: u8,
    (m, pairs): (usize, &[Pair]),
    sums: &mut [i64],
    steps: &mut [u32],
) {
    let (plane, [rows, columns]) = (shape.height * shape.width, shape.kernel);
    let first = m / shape.group_outputs().max(1) * shape.group_channels();
    let mut inputs = [vec![0u8; sums.len()], vec![0u8; sums.len()]];
    for pair in pairs {
        for (input, tap) in inputs.iter_mut().zip(pair.taps) {
            let plane = &x[(first + tap / (rows * columns)) * plane..][..plane];
            let (row, column) = (tap / columns % rows, tap % columns);
            fill_row(shape, plane, row, column, 0, pad, input);
        }
        let values = inputs[0].iter().zip(&inputs[1]);
        for ((sum, steps), (&a, &b)) in sums.iter_mut().zip(steps.iter_mut()).zip(values) {
            let exact = i32::from(a) * pair.weights[0] + i32::from(b) * pair.weights[1];
            let kept = exact.clamp(i32::from(i16::MIN), i32::from(i16::MAX));
            *sum += i64::from(kept - exact);
            *steps += u32::from(kept != exact);
        }
    }
}

impl OverflowCount {
    /// Of the number of steps that overflowed, one entry an output.
    pub(super) fn of(steps: &[u32]) -> Self {
        let mut count = Self::default();
        for &steps in steps {
            count.steps += u64::from(steps);
            count.elements += u64::from(steps > 0);
        }
        if count.elements > 0 {
            count.flags = steps.iter().map(|&steps| steps > 0).collect::<BitVec>();
        }
        count
    }

    /// Takes in the count of the outputs behind these; `before` is how many these are.
    pub fn append(&mut self, other: &Self, before: usize) {
        let behind = before + other.flags.len();
        self.elements += other.elements;
        self.steps += other.steps;
        if other.elements > 0 {
            self.flags.resize(before, false);
            self.flags.extend_from_bitslice(&other.flags);
        } else if !self.flags.is_empty() {
            self.flags.resize(behind, false);
        }
    }
}
