//! Contiguous pieces of a tensor within which every per-channel parameter is constant.

use std::ops::Range;

use align_check_graph::PerChannel;

/// One piece.
pub struct Run<'a> {
    shape: &'a [usize],
    /// The axes up to here tell pieces apart.
    depth: usize,
    index: usize,
    len: usize,
}

/// Cuts a tensor behind the last of `axes`. Empty tensors have no pieces.
pub fn runs<'a>(
    shape: &'a [usize],
    axes: &[Option<usize>],
) -> impl Iterator<Item = Run<'a>> + use<'a> {
    let depth = axes
        .iter()
        .flatten()
        .map(|axis| axis + 1)
        .max()
        .unwrap_or(0);
    let len: usize = shape[depth..].iter().product();
    let count = if len == 0 {
        0
    } else {
        shape[..depth].iter().product()
    };
    (0..count).map(move |index| Run {
        shape,
        depth,
        index,
        len,
    })
}

impl Run<'_> {
    /// Where the piece lies.
    pub fn range(&self) -> Range<usize> {
        self.index * self.len..(self.index + 1) * self.len
    }

    /// Index of the piece along an axis (0 without one).
    pub fn channel(&self, axis: Option<usize>) -> usize {
        let Some(axis) = axis else { return 0 };
        let stride: usize = self.shape[axis + 1..self.depth].iter().product();
        self.index / stride % self.shape[axis]
    }

    /// The parameter of this piece.
    pub fn at<T: Copy>(&self, parameter: &PerChannel<T>) -> T {
        parameter.at(self.channel(parameter.axis))
    }
}
