//! How the output of a matrix product is divided into blocks that threads compute.

use std::ops::Range;

use super::ConvShape;

/// Divides the output into groups, then blocks of columns (output positions), then blocks of rows
/// (output channels of the group). Each block is packed and computed by one thread.
pub(super) struct Grid {
    /// Columns of a block.
    columns: usize,
    /// Rows of a block.
    rows: usize,
    blocks_across: usize,
    blocks_down: usize,
    groups: usize,
}

impl Grid {
    /// Blocks of `columns` output positions. Rows are divided, into multiples of `tile`, only to give
    /// every thread work: each block of rows packs the inputs again.
    pub fn new(shape: &ConvShape, columns: usize, tile: usize, parallel: bool) -> Grid {
        let outputs = shape.group_outputs();
        let blocks_across = shape.positions().div_ceil(columns);
        let mut rows = outputs;
        if parallel {
            let wanted = (4 * rayon::current_num_threads()).div_ceil(blocks_across * shape.groups);
            rows = outputs
                .div_ceil(wanted)
                .max(8 * tile)
                .next_multiple_of(tile);
        }
        let blocks_down = outputs.div_ceil(rows);
        Grid {
            columns,
            rows,
            blocks_across,
            blocks_down,
            groups: shape.groups,
        }
    }

    /// The number of blocks.
    pub fn blocks(&self) -> usize {
        self.groups * self.blocks_across * self.blocks_down
    }

    /// Group, rows of the group and columns of a block: blocks are disjoint.
    pub fn block(&self, shape: &ConvShape, block: usize) -> (usize, Range<usize>, Range<usize>) {
        let row = block % self.blocks_down * self.rows;
        let column = block / self.blocks_down % self.blocks_across * self.columns;
        let group = block / self.blocks_down / self.blocks_across;
        let rows = row..shape.group_outputs().min(row + self.rows);
        (
            group,
            rows,
            column..shape.positions().min(column + self.columns),
        )
    }
}

/// The output, into which threads write disjoint blocks.
pub(super) struct Output<T>(pub *mut T);

impl<T> Clone for Output<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Output<T> {}

// SAFETY: the pointer is only written through, by the computation of blocks, which are disjoint, while
// the caller of the kernel holds the slice exclusively; `T` is a number.
unsafe impl<T: Send> Send for Output<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Output<T> {}
