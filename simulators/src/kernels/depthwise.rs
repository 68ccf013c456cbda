//! The exact integer convolution of groups of one input channel and few outputs.
//!
//! One channel is padded once and taken apart into planes by the remainders of row and column modulo the strides:
//! so every tap reads consecutive elements of one plane for consecutive outputs, and all output rows are one run, with a
//! few columns between them that nobody keeps. Taps below each other are interleaved, `DEPTH` at a time, because one
//! instruction adds that many products to a sum.

use std::ops::Range;

use super::ConvShape;
use super::ends::Sink;
use super::gemm::group_input;
use super::isa::{Lanes, Scratch, Task};
use super::pack::gather;

/// Most output channels of a group that are computed this way.
const MAX_OUTPUTS: usize = 4;

/// Vectors of output positions that are summed together.
const VECTORS: usize = 8;

/// Whether the convolution is computed channel by channel.
pub(super) fn is_depthwise(shape: &ConvShape) -> bool {
    shape.group_channels() == 1 && shape.group_outputs() <= MAX_OUTPUTS
}

/// Packs the weights: words (output channel, step of `DEPTH` kernel rows, kernel column).
pub(super) struct PackWeights<'a> {
    pub shape: &'a ConvShape,
    pub weights: &'a [i8],
}

impl Task for PackWeights<'_> {
    type Output = Vec<i32>;

    #[inline(always)]
    unsafe fn run<O: Lanes>(self) -> Vec<i32> {
        let [rows, columns] = self.shape.kernel;
        let mut words = Vec::new();
        for kernel in self.weights.chunks_exact(rows * columns) {
            for first in (0..rows).step_by(O::DEPTH) {
                for column in 0..columns {
                    let mut taps = [0; 4];
                    let depth = O::DEPTH.min(rows - first);
                    for (d, tap) in taps[..depth].iter_mut().enumerate() {
                        *tap = kernel[(first + d) * columns + column];
                    }
                    words.push(O::word(&taps[..depth]));
                }
            }
        }
        words
    }
}

/// Where the elements of one channel lie, taken apart; the same for every channel of a convolution.
#[derive(Debug)]
pub(super) struct Layout {
    /// Elements between rows of a plane, and of the sums.
    pitch: usize,
    /// Elements of a plane.
    plane: usize,
    /// Elements of an interleaved array: of every output position and of every tap from it.
    array: usize,
    /// Which plane each row of an interleaved array starts in, and where.
    sources: Vec<[usize; 4]>,
    /// Where each tap of a word starts, in elements.
    offsets: Vec<usize>,
    /// Sums of a channel, whole vectors.
    sums: usize,
    /// Of a row: the remainder of the plane's columns, the first element of the image in it, where that lies in the
    /// plane's row, and how many there are.
    columns: Vec<(usize, usize, usize, usize)>,
}

/// Makes the [`Layout`] of a convolution.
pub(super) struct Lay<'a>(pub &'a ConvShape);

impl Task for Lay<'_> {
    type Output = Layout;

    #[inline(always)]
    unsafe fn run<O: Lanes>(self) -> Layout {
        let shape = self.0;
        let [rows, columns] = shape.kernel;
        let ([down, right], [row_step, column_step]) = (shape.strides, shape.dilations);
        let steps = rows.div_ceil(O::DEPTH);
        let last_column = (columns - 1) * column_step / right;
        let pitch = shape.out_width + last_column;
        let last_row = (steps * O::DEPTH - 1) * row_step / down;
        let run = shape.out_height.saturating_sub(1) * pitch + shape.out_width;
        let sums = run.next_multiple_of(O::LANES);
        // Of the first row of an array: the taps below it are in `sources`.
        let first_rows = (steps - 1) * O::DEPTH * row_step / down;
        let array = (first_rows * pitch + last_column + sums).next_multiple_of(O::LANES);
        let plane = array + (last_row + 1) * pitch;

        let mut keys: Vec<(usize, usize)> = Vec::new();
        let mut sources = Vec::new();
        let mut offsets = Vec::new();
        for step in 0..steps {
            let first = step * O::DEPTH * row_step;
            for column in 0..columns {
                let column = column * column_step;
                let key = (first % down, column % right);
                let index = keys.iter().position(|k| *k == key).unwrap_or_else(|| {
                    let source = |d: usize| {
                        let row = key.0 + d.min(O::DEPTH - 1) * row_step;
                        ((row % down) * right + key.1) * plane + row / down * pitch
                    };
                    keys.push(key);
                    sources.push(std::array::from_fn(source));
                    keys.len() - 1
                });
                offsets.push(index * array + first / down * pitch + column / right);
            }
        }
        let left = shape.pads[1];
        let columns = (0..right.min(shape.width + left)).filter_map(|column| {
            let before = left.saturating_sub(column).div_ceil(right);
            let skipped = before * right + column - left;
            let image = shape.width.saturating_sub(skipped).div_ceil(right);
            let count = image.min(pitch.saturating_sub(before));
            (count > 0).then_some((column, skipped, before, count))
        });
        Layout {
            columns: columns.collect(),
            pitch,
            plane,
            array,
            sources,
            offsets,
            sums,
        }
    }
}

/// The outputs of some input channels.
pub(super) struct Channels<'a> {
    pub shape: &'a ConvShape,
    pub layout: &'a Layout,
    /// The image.
    pub x: &'a [u8],
    pub pad: u8,
    /// Packed weights of all output channels.
    pub words: &'a [i32],
    /// Which input channels.
    pub groups: Range<usize>,
    pub scratch: &'a mut Scratch,
    pub sink: &'a Sink<'a>,
}

impl Task for Channels<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<O: Lanes>(self) {
        let Channels {
            shape,
            layout,
            x,
            pad,
            words,
            groups,
            scratch,
            sink,
        } = self;
        let offsets = &layout.offsets[..];
        let (rows, positions) = (shape.group_outputs(), shape.positions());
        assert_eq!(words.len(), shape.out_channels * offsets.len());
        assert!(groups.end <= shape.groups);

        let mut staging = std::mem::take(&mut scratch.rows);
        let mut sums = std::mem::take(&mut scratch.sums);
        // Every channel is written to the same places: what lies between them stays.
        staging.clear();
        staging.resize(shape.strides[0] * shape.strides[1] * layout.plane, pad);

        let arrays = layout.sources.len() * layout.array;
        let packed = O::buffer(scratch);
        if packed.len() < arrays * O::DEPTH {
            packed.resize(arrays * O::DEPTH, O::X::default());
        }
        let packed = &mut packed[..arrays * O::DEPTH];
        // Every vector that is read ends within the arrays: the offset of the last tap is `array - sums` at most.
        let furthest = offsets.iter().max().map_or(0, |last| last + layout.sums);
        assert!(furthest <= arrays && layout.sums.is_multiple_of(O::LANES));
        if sums.len() < layout.sums + positions {
            sums.resize(layout.sums + positions, 0);
        }
        let (sums_of_rows, own) = sums.split_at_mut(layout.sums);
        for group in groups {
            take_apart(shape, layout, group_input(shape, x, group), &mut staging);
            for (array, sources) in packed
                .chunks_exact_mut(layout.array * O::DEPTH)
                .zip(&layout.sources)
            {
                let lines = sources.map(|start| &staging[start..][..layout.array]);
                for (chunk, dst) in array.chunks_exact_mut(O::LANES * O::DEPTH).enumerate() {
                    // SAFETY: the caller's duty.
                    unsafe { O::interleave(lines, chunk * O::LANES, dst) };
                }
            }

            for channel in group * rows..(group + 1) * rows {
                let words = &words[channel * offsets.len()..][..offsets.len()];
                let mut blocks = sums_of_rows.chunks_exact_mut(VECTORS * O::LANES);
                let mut first = 0;
                for block in &mut blocks {
                    // SAFETY (both): the vectors from `first + offset` on are in `packed`, as asserted; `O` is the
                    // caller's duty.
                    unsafe { sum::<O, VECTORS>(packed, offsets, words, first, block) };
                    first += VECTORS * O::LANES;
                }
                for block in blocks.into_remainder().chunks_exact_mut(O::LANES) {
                    unsafe { sum::<O, 1>(packed, offsets, words, first, block) };
                    first += O::LANES;
                }
                let wanted = sink.sums(channel, 0);
                let out = wanted.map_or(own.as_mut_ptr(), |(out, _)| out);
                let lines = sums_of_rows.chunks(layout.pitch).take(shape.out_height);
                for (row, line) in lines.enumerate() {
                    let (line, width) = (&line[..shape.out_width], shape.out_width);
                    // SAFETY: a row of this channel of the output, or of this thread's own sums, which have as many.
                    unsafe {
                        out.wrapping_add(row * width)
                            .copy_from_nonoverlapping(line.as_ptr(), width);
                    }
                }
                // SAFETY: all positions of the channel were written just now; nobody else has them.
                unsafe { sink.take(channel, 0, out, positions) };
            }
        }
        scratch.rows = staging;
        scratch.sums = sums;
    }
}

/// Sums `V` vectors of output positions from `first` on.
///
/// # Safety
/// `V * LANES` elements from `first` and any offset on are in `packed`, and `out` has as many; this machine has the
/// instructions of `O`, and the caller enabled them.
#[inline(always)]
unsafe fn sum<O: Lanes, const V: usize>(
    packed: &[O::X],
    offsets: &[usize],
    words: &[i32],
    first: usize,
    out: &mut [i32],
) {
    // SAFETY: the caller's duty.
    unsafe {
        let mut sums = [O::zero(); V];
        for (&offset, &word) in offsets.iter().zip(words) {
            debug_assert!((offset + first + V * O::LANES) * O::DEPTH <= packed.len());
            let x = packed.as_ptr().add((offset + first) * O::DEPTH);
            let weights = O::splat(word);
            for (v, sums) in sums.iter_mut().enumerate() {
                *sums = O::dot(*sums, O::load(x.add(v * O::LANES * O::DEPTH)), weights);
            }
        }
        for (sums, out) in sums.into_iter().zip(out.chunks_exact_mut(O::LANES)) {
            O::store(sums, out.as_mut_ptr());
        }
    }
}

/// Writes a channel into the planes, which hold the padding.
#[inline(always)]
fn take_apart(shape: &ConvShape, layout: &Layout, x: &[u8], planes: &mut [u8]) {
    let ([down, right], top) = (shape.strides, shape.pads[0]);
    let Layout { pitch, plane, .. } = *layout;
    // Rows below the last one that an output reads are not wanted.
    let rows = plane / pitch;
    let (mut row, mut remainder) = (top / down, top % down);
    for x in x.chunks_exact(shape.width.max(1)) {
        if row >= rows {
            break;
        }
        for &(column, skipped, before, count) in &layout.columns {
            let line = &mut planes[(remainder * right + column) * plane + row * pitch + before..];
            debug_assert!(before + count <= pitch);
            gather(&x[skipped..], right, &mut line[..count]);
        }
        remainder += 1;
        if remainder == down {
            (row, remainder) = (row + 1, 0);
        }
    }
}
