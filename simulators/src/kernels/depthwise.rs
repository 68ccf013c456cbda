//! The exact integer convolution of groups of one input channel and few outputs, row by row.

use super::ConvShape;
use super::isa::{Lanes, Scratch, Task};
use super::pack::gather;

/// Most output channels of a group that are computed row by row.
const MAX_OUTPUTS: usize = 4;

/// Vectors of output positions that are summed together.
const VECTORS: usize = 4;

/// Whether the convolution is computed row by row.
pub(super) fn is_depthwise(shape: &ConvShape) -> bool {
    shape.group_channels() == 1 && shape.group_outputs() <= MAX_OUTPUTS
}

/// Packs the weights: words (output channel, kernel row, `DEPTH` kernel columns).
pub(super) struct PackWeights<'a> {
    pub shape: &'a ConvShape,
    pub weights: &'a [i8],
}

impl Task for PackWeights<'_> {
    type Output = Vec<i32>;

    #[inline(always)]
    unsafe fn run<O: Lanes>(self) -> Vec<i32> {
        let rows = self.weights.chunks(self.shape.kernel[1].max(1));
        rows.flat_map(|row| row.chunks(O::DEPTH).map(O::word))
            .collect()
    }
}

/// The outputs of one input channel.
pub(super) struct Channel<'a> {
    pub shape: &'a ConvShape,
    /// The input channel.
    pub x: &'a [u8],
    pub pad: u8,
    /// Packed weights of the output channels.
    pub words: &'a [i32],
    /// Output channels.
    pub rows: usize,
    pub scratch: &'a mut Scratch,
    /// (Output channels, output height, output width).
    pub out: &'a mut [i32],
}

impl Task for Channel<'_> {
    type Output = ();

    /// A ring holds, of each input row that the kernel reads for the current output row, the vectors
    /// that the sums read: (step of `DEPTH` kernel columns, output column, kernel column of the step).
    /// The last slot of the ring is a row outside the image.
    #[inline(always)]
    unsafe fn run<O: Lanes>(self) {
        let Channel {
            shape,
            x,
            pad,
            words,
            rows,
            scratch,
            out,
        } = self;
        let [kernel_rows, kernel_columns] = shape.kernel;
        let (stride, dilation) = (shape.strides[0], shape.dilations[0]);
        let steps = kernel_columns.div_ceil(O::DEPTH);
        let chunks = shape.out_width.div_ceil(O::LANES);
        let vector = O::LANES * O::DEPTH;
        let (line, slot) = (chunks * vector, steps * chunks * vector);
        let ring = (kernel_rows - 1) * dilation + 1;
        assert_eq!(out.len(), rows * shape.positions());
        assert_eq!(words.len(), rows * kernel_rows * steps);

        let mut staging = std::mem::take(&mut scratch.rows);
        let packed = O::buffer(scratch);
        packed.clear();
        packed.resize((ring + 1) * slot, O::pack(pad));

        let mut offsets = vec![0; kernel_rows * steps];
        // The first padded row that is not in the ring yet.
        let mut next = 0;
        let mut next_slot = 0;
        for out_row in 0..shape.out_height {
            let first = out_row * stride;
            if next < first {
                next = first;
                next_slot = first % ring;
            }
            while next < first + ring {
                if next_slot == ring {
                    next_slot = 0;
                }
                let row = next
                    .checked_sub(shape.pads[0])
                    .filter(|&row| row < shape.height);
                if let Some(row) = row {
                    let x = &x[row * shape.width..][..shape.width];
                    let packed = &mut packed[next_slot * slot..][..slot];
                    // SAFETY: the caller's duty.
                    unsafe { pack_row::<O>(shape, x, pad, &mut staging, packed) };
                }
                next += 1;
                next_slot += 1;
            }
            let mut slot_of_row = first % ring;
            for (row, offsets) in offsets.chunks_exact_mut(steps).enumerate() {
                let row = first + row * dilation;
                let inside = row >= shape.pads[0] && row - shape.pads[0] < shape.height;
                let mut offset = if inside { slot_of_row } else { ring } * slot;
                for step in offsets {
                    *step = offset;
                    offset += line;
                }
                slot_of_row += dilation;
                if slot_of_row >= ring {
                    slot_of_row -= ring;
                }
            }
            for m in 0..rows {
                let words = &words[m * offsets.len()..][..offsets.len()];
                let out = &mut out[m * shape.positions() + out_row * shape.out_width..];
                let out = &mut out[..shape.out_width];
                let mut chunk = 0;
                // SAFETY (both): an offset is that of a line of `chunks` vectors in the ring, and
                // the vectors from `chunk` on are in it; `O` is the caller's duty.
                while chunk + VECTORS <= chunks {
                    unsafe { sum_row::<O, VECTORS>(packed, &offsets, words, chunk, out) };
                    chunk += VECTORS;
                }
                while chunk < chunks {
                    unsafe { sum_row::<O, 1>(packed, &offsets, words, chunk, out) };
                    chunk += 1;
                }
            }
        }
        scratch.rows = staging;
    }
}

/// Sums `V` vectors of an output row from vector `chunk` on.
#[inline(always)]
unsafe fn sum_row<O: Lanes, const V: usize>(
    packed: &[O::X],
    offsets: &[usize],
    words: &[i32],
    chunk: usize,
    out: &mut [i32],
) {
    let vector = O::LANES * O::DEPTH;
    // SAFETY: the caller's offsets lie so that `V` vectors from `chunk` on are in `packed`; `O` is the
    // caller's duty.
    unsafe {
        let mut sums = [O::zero(); V];
        for (&offset, &word) in offsets.iter().zip(words) {
            debug_assert!(offset + (chunk + V) * vector <= packed.len());
            let x = packed.as_ptr().add(offset + chunk * vector);
            let weights = O::splat(word);
            for (v, sums) in sums.iter_mut().enumerate() {
                *sums = O::dot(*sums, O::load(x.add(v * vector)), weights);
            }
        }
        for (v, sums) in sums.into_iter().enumerate() {
            let out = &mut out[(chunk + v) * O::LANES..];
            if out.len() >= O::LANES {
                O::store(sums, out.as_mut_ptr());
            } else {
                let mut lanes = [0; 16];
                O::store(sums, lanes.as_mut_ptr());
                out.copy_from_slice(&lanes[..out.len()]);
            }
        }
    }
}

/// Packs one input row into a slot of the ring.
///
/// # Safety
/// This machine has the instructions of `O`, and the caller enabled them.
#[inline(always)]
unsafe fn pack_row<O: Lanes>(
    shape: &ConvShape,
    x: &[u8],
    pad: u8,
    staging: &mut Vec<u8>,
    packed: &mut [O::X],
) {
    let [stride, dilation] = [shape.strides[1], shape.dilations[1]];
    let columns = shape.kernel[1];
    let vector = O::LANES * O::DEPTH;
    let lanes = shape.out_width.next_multiple_of(O::LANES);
    let steps = columns.div_ceil(O::DEPTH);

    // The row with its padding, long enough for every lane of every tap.
    let padded = (lanes - 1) * stride + (columns - 1) * dilation + 1;
    staging.clear();
    staging.resize(padded, pad);
    let left = shape.pads[1].min(padded);
    let count = x.len().min(padded - left);
    staging[left..left + count].copy_from_slice(&x[..count]);
    if stride > 1 {
        // After it, one row of output columns a tap.
        staging.resize(padded + columns * lanes, 0);
        let (padded, rows) = staging.split_at_mut(padded);
        for (column, row) in rows.chunks_mut(lanes).enumerate() {
            gather(&padded[column * dilation..], stride, row);
        }
    }
    for (step, packed) in packed.chunks_mut(lanes * O::DEPTH).enumerate().take(steps) {
        let rows = std::array::from_fn(|d| {
            // A weight of zero follows the last column: any value does.
            let column = (step * O::DEPTH + d).min(columns - 1);
            let start = if stride > 1 {
                padded + column * lanes
            } else {
                column * dilation
            };
            &staging[start..][..lanes]
        });
        for (chunk, dst) in packed.chunks_mut(vector).enumerate() {
            // SAFETY: the caller's duty.
            unsafe { O::interleave(rows, chunk * O::LANES, dst) };
        }
    }
}
