//! The real convolution: sums in one fixed order, vectorized over output positions.

use std::ops::Range;

use rayon::prelude::*;

use super::depthwise::is_depthwise;
use super::grid::{Grid, Output};
use super::pack::{fill_row, gather};
use super::{ConvShape, Isa, PARALLEL_MACS, vectorize};

/// Most bytes of packed inputs of a block of output positions.
const BLOCK_BYTES: usize = 256 << 10;

/// Output positions of a vector block: packed side by side, summed together.
const LANES: usize = 8;

/// Output channels of a tile.
const ROWS: usize = 6;

/// Convolves real numbers. Each output is the sum, starting at `0.0`, of `x * w` rounded after every
/// product and every sum, in the order (channel, kernel row, kernel column) if `channel_first`, else
/// (row, column, channel).
///
/// A tap outside the image adds `pad * w`, also if `pad` is zero; with finite weights that leaves the
/// same bytes as if it were skipped, because a sum that starts at `0.0` is never `-0.0`.
///
/// The sums are vectorized over outputs, never over taps, and no product is fused with a sum: the bytes
/// are the same for every `isa` and every number of threads (of a NaN, that it is one).
///
/// # Panics
/// If a slice has not the size of `shape`, or this machine lacks `isa`.
pub fn conv_f64(
    isa: Isa,
    shape: &ConvShape,
    x: &[f64],
    pad: f64,
    weights: &[f64],
    channel_first: bool,
    out: &mut [f64],
) {
    shape.check(x.len(), weights.len(), out.len());
    assert!(isa.is_available(), "this machine has no {isa:?}");
    if out.is_empty() {
        return;
    }
    let parallel = shape.macs() >= PARALLEL_MACS;
    let (taps, outputs, positions) = (shape.taps(), shape.group_outputs(), shape.positions());
    let input = shape.group_channels() * shape.height * shape.width;

    if positions == 1 {
        let order: Vec<usize> = (0..taps)
            .map(|k| shape.weight_index(k, channel_first))
            .collect();
        for (group, out) in out.chunks_mut(outputs).enumerate() {
            let x = column(shape, &x[group * input..][..input], pad);
            let weights = &weights[group * outputs * taps..][..outputs * taps];
            let run = |(weights, out): (&[f64], &mut [f64])| {
                vectorize(
                    isa,
                    #[inline(always)]
                    || sum_vector(&x, &order, weights, out),
                );
            };
            if parallel {
                weights
                    .par_chunks(64 * taps)
                    .zip(out.par_chunks_mut(64))
                    .for_each(run);
            } else if taps > 0 {
                run((weights, out));
            } else {
                out.fill(0.0);
            }
        }
    } else if is_depthwise(shape) {
        let run = |(m, out): (usize, &mut [f64])| {
            let x = &x[m / outputs * input..][..input];
            let weights = &weights[m * taps..][..taps];
            vectorize(
                isa,
                #[inline(always)]
                || sum_channel(shape, x, pad, weights, out),
            );
        };
        if parallel {
            out.par_chunks_mut(positions).enumerate().for_each(run);
        } else {
            out.chunks_mut(positions).enumerate().for_each(run);
        }
    } else {
        let weights = pack_weights(shape, weights, channel_first);
        let columns = BLOCK_BYTES / (8 * taps.max(1)) / LANES * LANES;
        let grid = Grid::new(shape, columns.clamp(LANES, 32 * LANES), ROWS, parallel);
        let output = Output(out.as_mut_ptr());
        let run = |packed: &mut Vec<f64>, block: usize| {
            let (group, rows, columns) = grid.block(shape, block);
            let x = &x[group * input..][..input];
            let weights = &weights[group * outputs * taps..][..outputs * taps];
            vectorize(
                isa,
                #[inline(always)]
                || {
                    pack_columns(shape, x, pad, columns.clone(), channel_first, packed);
                    sum_block(shape, weights, group, rows, columns, packed, output);
                },
            );
        };
        if parallel {
            (0..grid.blocks())
                .into_par_iter()
                .for_each_init(Vec::new, run);
        } else {
            let mut packed = Vec::new();
            (0..grid.blocks()).for_each(|block| run(&mut packed, block));
        }
    }
}

/// The taps of the only output position, in the order of the weights.
fn column(shape: &ConvShape, x: &[f64], pad: f64) -> Vec<f64> {
    if shape.is_pointwise() {
        return x.to_vec();
    }
    let plane = shape.height * shape.width;
    let mut column = vec![pad; shape.taps()];
    for (k, value) in column.iter_mut().enumerate() {
        let (channel, row, col) = shape.tap(k, true);
        let x = &x[channel * plane..][..plane];
        fill_row(shape, x, row, col, 0, pad, std::slice::from_mut(value));
    }
    column
}

/// The matrix-vector product: sums of several rows side by side.
#[inline(always)]
fn sum_vector(x: &[f64], order: &[usize], weights: &[f64], out: &mut [f64]) {
    let taps = x.len();
    let (blocks, tail) = out.as_chunks_mut::<LANES>();
    let (block_rows, tail_rows) = weights.split_at(blocks.len() * LANES * taps);
    for (rows, out) in block_rows.chunks_exact(LANES * taps).zip(blocks) {
        let rows: [&[f64]; LANES] = std::array::from_fn(|r| &rows[r * taps..][..taps]);
        let mut sums = [0.0; LANES];
        for &k in order {
            for (sum, row) in sums.iter_mut().zip(rows) {
                *sum += x[k] * row[k];
            }
        }
        *out = sums;
    }
    for (row, out) in tail_rows.chunks_exact(taps).zip(tail) {
        *out = order.iter().fold(0.0, |sum, &k| sum + x[k] * row[k]);
    }
}

/// One output channel of one input channel: tap by tap over the rows of the output.
#[inline(always)]
fn sum_channel(shape: &ConvShape, x: &[f64], pad: f64, weights: &[f64], out: &mut [f64]) {
    let [stride, dilation] = [shape.strides[1], shape.dilations[1]];
    let columns = shape.kernel[1];
    let width = shape.out_width;
    let padded = (width - 1) * stride + (columns - 1) * dilation + 1;
    let left = shape.pads[1].min(padded);
    let count = shape.width.min(padded - left);
    let mut line = vec![pad; padded];
    let mut strided = vec![pad; width];
    for (out_row, out) in out.chunks_exact_mut(width).enumerate() {
        out.fill(0.0);
        for (row, weights) in weights.chunks_exact(columns).enumerate() {
            let in_row = (out_row * shape.strides[0] + row * shape.dilations[0])
                .checked_sub(shape.pads[0])
                .filter(|&row| row < shape.height);
            match in_row {
                Some(row) => {
                    line[left..left + count].copy_from_slice(&x[row * shape.width..][..count]);
                }
                None => line[left..left + count].fill(pad),
            }
            for (column, &weight) in weights.iter().enumerate() {
                let mut source = &line[column * dilation..];
                if stride > 1 {
                    gather(source, stride, &mut strided);
                    source = &strided;
                }
                for (sum, &x) in out.iter_mut().zip(source) {
                    *sum += x * weight;
                }
            }
        }
    }
}

/// The weights in the order in which tiles read them: (tile of [`ROWS`] output channels, tap, output
/// channel of the tile).
fn pack_weights(shape: &ConvShape, weights: &[f64], channel_first: bool) -> Vec<f64> {
    let (taps, outputs) = (shape.taps(), shape.group_outputs());
    let mut packed = Vec::with_capacity(weights.len());
    for weights in weights.chunks_exact((outputs * taps).max(1)) {
        for tile in weights.chunks(ROWS * taps) {
            for k in 0..taps {
                let k = shape.weight_index(k, channel_first);
                packed.extend(tile.chunks_exact(taps).map(|row| row[k]));
            }
        }
    }
    packed
}

/// Packs the inputs of a range of output positions: (chunk of [`LANES`] positions, tap, position).
#[inline(always)]
fn pack_columns(
    shape: &ConvShape,
    x: &[f64],
    pad: f64,
    columns: Range<usize>,
    channel_first: bool,
    packed: &mut Vec<f64>,
) {
    let (taps, plane) = (shape.taps(), shape.height * shape.width);
    let chunks = columns.len().div_ceil(LANES);
    // A row of all positions, before it is divided into chunks, lies at the end.
    let (size, row) = (chunks * taps * LANES, chunks * LANES);
    if packed.len() < size + row {
        packed.resize(size + row, 0.0);
    }
    let (packed, rest) = packed.split_at_mut(size);
    let line = &mut rest[..row];
    for k in 0..taps {
        let (channel, row, column) = shape.tap(k, channel_first);
        let x = &x[channel * plane..][..plane];
        fill_row(
            shape,
            x,
            row,
            column,
            columns.start,
            pad,
            &mut line[..columns.len()],
        );
        for (chunk, positions) in line.chunks_exact(LANES).enumerate() {
            packed[(chunk * taps + k) * LANES..][..LANES].copy_from_slice(positions);
        }
    }
}

/// The outputs of a block of rows and columns.
#[inline(always)]
fn sum_block(
    shape: &ConvShape,
    weights: &[f64],
    group: usize,
    rows: Range<usize>,
    columns: Range<usize>,
    packed: &[f64],
    output: Output<f64>,
) {
    let (taps, outputs, positions) = (shape.taps(), shape.group_outputs(), shape.positions());
    assert!(rows.end <= outputs && columns.end <= positions && group < shape.groups);
    for first in rows.clone().step_by(ROWS) {
        let count = ROWS.min(rows.end - first);
        let weights = &weights[first * taps..][..count * taps];
        for (chunk, column) in columns.clone().step_by(LANES).enumerate() {
            let x = packed[chunk * taps * LANES..][..taps * LANES].as_chunks().0;
            let mut sums = [[0.0; LANES]; ROWS];
            match count {
                6 => sum_tile::<6>(x, weights, &mut sums),
                5 => sum_tile::<5>(x, weights, &mut sums),
                4 => sum_tile::<4>(x, weights, &mut sums),
                3 => sum_tile::<3>(x, weights, &mut sums),
                2 => sum_tile::<2>(x, weights, &mut sums),
                _ => sum_tile::<1>(x, weights, &mut sums),
            }
            let valid = LANES.min(columns.end - column);
            for (r, sums) in sums[..count].iter().enumerate() {
                let at = (group * outputs + first + r) * positions + column;
                // SAFETY: row `first + r` and the columns from `column` to `column + valid` are in the
                // output, and in the block that only this task writes.
                unsafe {
                    output
                        .0
                        .add(at)
                        .copy_from_nonoverlapping(sums.as_ptr(), valid);
                };
            }
        }
    }
}

/// A tile: `R` output channels at [`LANES`] positions.
#[inline(always)]
fn sum_tile<const R: usize>(x: &[[f64; LANES]], weights: &[f64], out: &mut [[f64; LANES]; ROWS]) {
    let mut sums = [[0.0; LANES]; R];
    for (x, weights) in x.iter().zip(weights.as_chunks::<R>().0) {
        for (sums, weight) in sums.iter_mut().zip(weights) {
            for (sum, x) in sums.iter_mut().zip(x) {
                *sum += x * weight;
            }
        }
    }
    out[..R].copy_from_slice(&sums);
}
