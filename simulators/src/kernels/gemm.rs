//! The exact integer convolution as a matrix product: weights packed once, inputs packed by blocks of
//! output positions, tiles of sums in registers.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::depthwise::{self, is_depthwise};
use super::ends::{Outputs, Sink};
use super::grid::Grid;
use super::isa::{Lanes, Scratch, Task, dispatch};
use super::pack::{fill_row, pack_block};
use super::{ConvShape, Isa, PARALLEL_MACS};

/// Bytes of packed inputs of a block of output positions: they stay in the second-level cache while
/// every output channel reads them.
const BLOCK_BYTES: usize = 128 << 10;

/// Most output positions of a block.
const BLOCK_COLUMNS: usize = 384;

/// Rows of weights of the matrix-vector product are padded with zeros to a multiple of this.
const VECTOR_TAPS: usize = 64;

/// Output channels that the matrix-vector product computes together.
const VECTOR_ROWS: usize = 4;

/// The 8-bit weights of one convolution, packed once for an instruction set.
#[derive(Clone, Debug)]
pub struct PackedWeights {
    isa: Isa,
    pub(super) shape: ConvShape,
    plan: Plan,
    row_sums: Vec<i32>,
}

/// How a convolution is computed, and its weights in the order in which that reads them.
#[derive(Clone, Debug)]
enum Plan {
    /// One output position: rows of `taps` weights, padded with zeros to `stride`.
    Vector { rows: Vec<i8>, stride: usize },
    /// One input channel a group, few outputs: words (output channel, `DEPTH` kernel rows, kernel column).
    Depthwise {
        words: Vec<i32>,
        layout: Arc<depthwise::Layout>,
    },
    /// Words (tile of `ROWS` output channels, step of `DEPTH` taps, output channel of the tile).
    Panels { words: Vec<i32> },
}

impl PackedWeights {
    /// Packs the weights, (output channels, channels of a group, kernel rows, kernel columns) row-major.
    ///
    /// # Panics
    /// If `weights` has not the size of `shape`, or this machine lacks `isa`.
    pub fn new(isa: Isa, shape: &ConvShape, weights: &[i8]) -> Self {
        assert!(isa.is_available(), "this machine has no {isa:?}");
        shape.check_geometry();
        let taps = shape.taps();
        assert_eq!(
            weights.len(),
            shape.out_channels * taps,
            "size of the weights"
        );
        let row = |m: usize| &weights[m * taps..][..taps];
        let sum = |m| {
            row(m)
                .iter()
                .map(|&w| i32::from(w))
                .fold(0, i32::wrapping_add)
        };
        let row_sums = (0..shape.out_channels).map(sum).collect();
        let plan = if shape.positions() == 1 {
            let stride = taps.max(1).next_multiple_of(VECTOR_TAPS);
            let mut rows = vec![0; shape.out_channels * stride];
            for m in 0..shape.out_channels {
                rows[m * stride..][..taps].copy_from_slice(row(m));
            }
            Plan::Vector { rows, stride }
        } else if is_depthwise(shape) {
            Plan::Depthwise {
                words: dispatch(isa, depthwise::PackWeights { shape, weights }),
                layout: Arc::new(dispatch(isa, depthwise::Lay(shape))),
            }
        } else {
            Plan::Panels {
                words: dispatch(isa, PackPanels { shape, weights }),
            }
        };
        PackedWeights {
            isa,
            shape: shape.clone(),
            plan,
            row_sums,
        }
    }

    /// Sum of all weights of each output channel.
    pub fn row_sums(&self) -> &[i32] {
        &self.row_sums
    }
}

/// Convolves codes with weights: `out[m][p] = sum of x * w` over the taps, as an exact `i32`.
///
/// A tap outside the image reads `pad`. `x` is one image, (channels, height, width); `out` is (output
/// channels, output height, output width). A sum beyond 32 bits wraps: the caller proves that there is
/// none.
///
/// # Panics
/// If a slice has not the size of `shape`, or `weights` were packed for another shape.
pub fn conv_u8i8(shape: &ConvShape, x: &[u8], pad: u8, weights: &PackedWeights, out: &mut [i32]) {
    let outputs = Outputs {
        sums: Some(out),
        ..Outputs::default()
    };
    conv_u8i8_to(shape, x, pad, weights, outputs);
}

/// [`conv_u8i8`] with offsets and with ends that read the sums while they are in the cache.
///
/// # Panics
/// As [`conv_u8i8`].
pub fn conv_u8i8_to(
    shape: &ConvShape,
    x: &[u8],
    pad: u8,
    weights: &PackedWeights,
    mut outputs: Outputs,
) {
    let positions = shape.positions();
    shape.check(
        x.len(),
        weights.row_sums.len() * shape.taps(),
        shape.out_channels * positions,
    );
    outputs.check(shape.out_channels, positions);
    assert_eq!(
        *shape, weights.shape,
        "the weights were packed for this shape"
    );
    if shape.out_channels * positions == 0 {
        return;
    }
    let parallel = shape.macs() >= PARALLEL_MACS;
    let isa = weights.isa;
    let sink = &outputs.sink(positions);
    match &weights.plan {
        Plan::Vector { rows, stride } => {
            let mut sums = vec![0; shape.out_channels];
            vector(isa, shape, x, pad, rows, *stride, parallel, &mut sums);
            for (channel, sum) in sums.iter_mut().enumerate() {
                // SAFETY: one sum, of the only position of each channel.
                unsafe { sink.take(channel, 0, sum, 1) };
            }
            if let Some((out, _)) = sink.sums(0, 0) {
                // SAFETY: the output has one sum a channel, as checked.
                unsafe { out.copy_from_nonoverlapping(sums.as_ptr(), sums.len()) };
            }
        }
        Plan::Depthwise { words, layout } => {
            let run = |groups: Range<usize>| {
                Scratch::with(|scratch| {
                    let channels = depthwise::Channels {
                        shape,
                        layout,
                        x,
                        pad,
                        words,
                        groups,
                        scratch,
                        sink,
                    };
                    dispatch(isa, channels);
                });
            };
            if parallel {
                let some = shape.groups.div_ceil(4 * rayon::current_num_threads());
                (0..shape.groups.div_ceil(some))
                    .into_par_iter()
                    .for_each(|i| run(i * some..shape.groups.min((i + 1) * some)));
            } else {
                run(0..shape.groups);
            }
        }
        Plan::Panels { words } => {
            let grid = dispatch(isa, Blocks { shape, parallel });
            let run = |block: usize| {
                let (group, rows, columns) = grid.block(shape, block);
                let x = group_input(shape, x, group);
                Scratch::with(|scratch| {
                    let panels = Panels {
                        shape,
                        x,
                        pad,
                        words,
                        group,
                        rows,
                        columns,
                        scratch,
                        sink,
                    };
                    dispatch(isa, panels);
                });
            };
            if parallel {
                (0..grid.blocks()).into_par_iter().for_each(run);
            } else {
                (0..grid.blocks()).for_each(run);
            }
        }
    }
}

/// The sums of the only output position.
#[allow(
    clippy::too_many_arguments,
    reason = "what a convolution has, and how its weights lie"
)]
fn vector(
    isa: Isa,
    shape: &ConvShape,
    x: &[u8],
    pad: u8,
    rows: &[i8],
    stride: usize,
    parallel: bool,
    out: &mut [i32],
) {
    let outputs = shape.group_outputs();
    for (group, out) in out.chunks_mut(outputs).enumerate() {
        let x = gather_column(shape, group_input(shape, x, group), pad);
        let rows = &rows[group * outputs * stride..][..outputs * stride];
        let run = |(rows, out): (&[i8], &mut [i32])| {
            let product = Vector {
                x: &x,
                rows,
                stride,
                out,
            };
            dispatch(isa, product);
        };
        if parallel {
            let block = 16 * VECTOR_ROWS;
            rows.par_chunks(block * stride)
                .zip(out.par_chunks_mut(block))
                .for_each(run);
        } else {
            run((rows, out));
        }
    }
}

/// The input channels of a group.
pub(super) fn group_input<'a, T>(shape: &ConvShape, x: &'a [T], group: usize) -> &'a [T] {
    let size = shape.group_channels() * shape.height * shape.width;
    &x[group * size..][..size]
}

/// The taps of the only output position, padded with zeros to a multiple of [`VECTOR_TAPS`].
fn gather_column(shape: &ConvShape, x: &[u8], pad: u8) -> Vec<u8> {
    let taps = shape.taps();
    let mut column = vec![0; taps.max(1).next_multiple_of(VECTOR_TAPS)];
    if shape.is_pointwise() {
        column[..taps].copy_from_slice(x);
    } else {
        let plane = shape.height * shape.width;
        for (k, code) in column[..taps].iter_mut().enumerate() {
            let (channel, row, col) = shape.tap(k, true);
            let x = &x[channel * plane..][..plane];
            fill_row(shape, x, row, col, 0, pad, std::slice::from_mut(code));
        }
    }
    column
}

/// The matrix-vector product of some rows of weights.
struct Vector<'a> {
    x: &'a [u8],
    rows: &'a [i8],
    stride: usize,
    out: &'a mut [i32],
}

impl Task for Vector<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<O: Lanes>(self) {
        let Vector {
            x,
            rows,
            stride,
            out,
        } = self;
        assert_eq!(x.len(), stride);
        assert_eq!(rows.len(), out.len() * stride);
        let x: Vec<O::X> = x.iter().map(|&x| O::pack(x)).collect();
        let width = O::LANES * O::DEPTH;
        assert_eq!(stride % width, 0);
        let (blocks, tail) = out.as_chunks_mut::<VECTOR_ROWS>();
        let (block_rows, tail_rows) = rows.split_at(blocks.len() * VECTOR_ROWS * stride);
        for (block, out) in block_rows.chunks_exact(VECTOR_ROWS * stride).zip(blocks) {
            // SAFETY: `k + width <= stride` for every row and for `x`; `O` is the caller's duty.
            unsafe {
                let mut sums = [O::zero(); VECTOR_ROWS];
                for k in (0..stride).step_by(width) {
                    let x = O::load(x.as_ptr().add(k));
                    for (r, sums) in sums.iter_mut().enumerate() {
                        *sums = O::dot(*sums, x, O::weights(block.as_ptr().add(r * stride + k)));
                    }
                }
                *out = sums.map(
                    #[inline(always)]
                    |s| total::<O>(s),
                );
            }
        }
        for (row, out) in tail_rows.chunks_exact(stride).zip(tail) {
            // SAFETY: `k + width <= stride` for the row and for `x`; `O` is the caller's duty.
            unsafe {
                let mut sums = O::zero();
                for k in (0..stride).step_by(width) {
                    let x = O::load(x.as_ptr().add(k));
                    sums = O::dot(sums, x, O::weights(row.as_ptr().add(k)));
                }
                *out = total::<O>(sums);
            }
        }
    }
}

/// The sum of all lanes.
#[inline(always)]
unsafe fn total<O: Lanes>(sums: O::Sums) -> i32 {
    let mut lanes = [0; 16];
    assert!(O::LANES <= lanes.len());
    // SAFETY: `lanes` has room for `LANES` sums; `O` is the caller's duty.
    unsafe { O::store(sums, lanes.as_mut_ptr()) };
    lanes.into_iter().fold(0, i32::wrapping_add)
}

/// Packs the weights of [`Plan::Panels`].
struct PackPanels<'a> {
    shape: &'a ConvShape,
    weights: &'a [i8],
}

impl Task for PackPanels<'_> {
    type Output = Vec<i32>;

    #[inline(always)]
    unsafe fn run<O: Lanes>(self) -> Vec<i32> {
        let taps = self.shape.taps();
        let steps = taps.div_ceil(O::DEPTH);
        let mut words = Vec::with_capacity(self.shape.out_channels * steps);
        for group in 0..self.shape.groups {
            let outputs = self.shape.group_outputs();
            let weights = &self.weights[group * outputs * taps..][..outputs * taps];
            for first in (0..outputs).step_by(O::ROWS) {
                for step in 0..steps {
                    let k = step * O::DEPTH..taps.min((step + 1) * O::DEPTH);
                    for row in first..outputs.min(first + O::ROWS) {
                        words.push(O::word(&weights[row * taps..][k.clone()]));
                    }
                }
            }
        }
        words
    }
}

/// Chooses the blocks of the output.
struct Blocks<'a> {
    shape: &'a ConvShape,
    parallel: bool,
}

impl Task for Blocks<'_> {
    type Output = Grid;

    #[inline(always)]
    unsafe fn run<O: Lanes>(self) -> Grid {
        let tile = O::LANES * O::VECTORS;
        let column_bytes = self.shape.taps().next_multiple_of(O::DEPTH) * size_of::<O::X>();
        let columns = BLOCK_BYTES / column_bytes.max(1) / tile * tile;
        let columns = columns.clamp(tile, BLOCK_COLUMNS / tile * tile);
        Grid::new(self.shape, columns, O::ROWS, self.parallel)
    }
}

/// One block of the matrix product.
struct Panels<'a> {
    shape: &'a ConvShape,
    /// The input channels of the group.
    x: &'a [u8],
    pad: u8,
    words: &'a [i32],
    group: usize,
    rows: Range<usize>,
    columns: Range<usize>,
    scratch: &'a mut Scratch,
    sink: &'a Sink<'a>,
}

impl Task for Panels<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<O: Lanes>(self) {
        let Panels {
            shape,
            x,
            pad,
            words,
            group,
            rows,
            columns,
            scratch,
            sink,
        } = self;
        let (outputs, positions) = (shape.group_outputs(), shape.positions());
        let steps = shape.taps().div_ceil(O::DEPTH);
        assert!(rows.end <= outputs && rows.start % O::ROWS == 0 && group < shape.groups);
        assert!(columns.start < columns.end && columns.end <= positions);
        assert_eq!(words.len(), shape.out_channels * steps);

        let chunks = columns.len().div_ceil(O::LANES);
        let chunk = steps * O::LANES * O::DEPTH;
        let mut staging = std::mem::take(&mut scratch.rows);
        let mut sums = std::mem::take(&mut scratch.sums);
        if sums.len() < O::ROWS * columns.len() {
            sums.resize(O::ROWS * columns.len(), 0);
        }
        let packed = O::buffer(scratch);
        if packed.len() < chunks * chunk {
            packed.resize(chunks * chunk, O::X::default());
        }
        let packed = &mut packed[..chunks * chunk];
        // SAFETY: the caller's duty.
        unsafe { pack_block::<O>(shape, x, pad, columns.clone(), &mut staging, packed) };

        for first in rows.clone().step_by(O::ROWS) {
            let count = O::ROWS.min(rows.end - first);
            let channel = group * outputs + first;
            let words = &words[channel * steps..][..count * steps];
            let own = (sums.as_mut_ptr(), columns.len());
            let (out, out_stride) = sink.sums(channel, columns.start).unwrap_or(own);
            for c in (0..chunks).step_by(O::VECTORS) {
                let column = columns.start + c * O::LANES;
                let vectors = O::VECTORS.min(chunks - c);
                let tile = Tile {
                    steps,
                    x: packed[c * chunk..][..vectors * chunk].as_ptr(),
                    chunk,
                    words: words.as_ptr(),
                    out: out.wrapping_add(c * O::LANES),
                    out_stride,
                    columns: (vectors * O::LANES).min(columns.end - column),
                };
                // SAFETY: `x` points to `vectors` chunks and `words` to `count` words a step; the rows
                // `first..first + count` and the columns from `column` on are in the output and in
                // this task's block, or in this thread's own sums; `O` is the caller's duty.
                unsafe { run_tile::<O>(count, vectors, tile) };
            }
            for r in 0..count {
                let row = out.wrapping_add(r * out_stride);
                // SAFETY: the row's columns were written just now, and are in this task's block.
                unsafe { sink.take(channel + r, columns.start, row, columns.len()) };
            }
        }
        scratch.rows = staging;
        scratch.sums = sums;
    }
}

/// A tile of the matrix product: pointers into the block.
#[derive(Clone, Copy)]
struct Tile<X: Copy> {
    /// Steps of `DEPTH` taps.
    steps: usize,
    /// Packed inputs: a chunk of `LANES` output positions a vector, `chunk` elements apart.
    x: *const X,
    chunk: usize,
    /// Packed weights: a word an output channel, for each step.
    words: *const i32,
    /// The first output, and the distance between output channels.
    out: *mut i32,
    out_stride: usize,
    /// Output positions to write.
    columns: usize,
}

/// Computes a tile of `rows` output channels and `vectors` vectors of output positions.
#[inline(always)]
unsafe fn run_tile<O: Lanes>(rows: usize, vectors: usize, tile: Tile<O::X>) {
    /// The tile whose numbers of rows and vectors are constants, of those up to `ROWS` and `VECTORS`.
    macro_rules! constant {
        ($($r:literal)*; $v:tt) => {
            $(constant!(@ $r $v);)*
        };
        (@ $r:literal [$($v:literal)*]) => {
            $(if $r <= O::ROWS && $v <= O::VECTORS && rows == $r && vectors == $v {
                // SAFETY: the caller's duty.
                return unsafe { sum_tile::<O, $r, $v>(tile) };
            })*
        };
    }
    constant!(8 7 6 5 4 3 2 1; [3 2 1]);
    unreachable!("a tile of {rows} x {vectors}");
}

#[inline(always)]
unsafe fn sum_tile<O: Lanes, const R: usize, const V: usize>(tile: Tile<O::X>) {
    let Tile {
        steps,
        x,
        chunk,
        words,
        out,
        out_stride,
        columns,
    } = tile;
    let width = O::LANES * O::DEPTH;
    // SAFETY: the caller gave `V` chunks of `steps * width` inputs, `R` words a step, and an output of
    // `R` rows that has `columns` positions from `out` on; `O` is the caller's duty.
    unsafe {
        let mut sums = [[O::zero(); V]; R];
        for step in 0..steps {
            let mut inputs = [O::load(x.add(step * width)); V];
            for (v, inputs) in inputs.iter_mut().enumerate().skip(1) {
                *inputs = O::load(x.add(v * chunk + step * width));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let weights = O::splat(words.add(step * R + r).read());
                for (sums, inputs) in sums.iter_mut().zip(inputs) {
                    *sums = O::dot(*sums, inputs, weights);
                }
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (v, sums) in sums.into_iter().enumerate() {
                let out = out.add(r * out_stride + v * O::LANES);
                let valid = columns - v * O::LANES;
                if valid >= O::LANES {
                    O::store(sums, out);
                } else {
                    let mut lanes = [0; 16];
                    O::store(sums, lanes.as_mut_ptr());
                    out.copy_from_nonoverlapping(lanes.as_ptr(), valid);
                }
            }
        }
    }
}
