//! Where the sums of a convolution go: to memory, and through the ends of layers while they are in the cache.

use super::grid::Output;

/// What becomes of the sums of one output channel after the other.
pub trait End: Sync {
    /// The codes of some sums of a channel, from an output position on, as bytes; both slices have the same length.
    fn codes(&self, channel: usize, position: usize, sums: &[i32], codes: &mut [u8]);
}

/// What a convolution of one image writes.
#[derive(Default)]
pub struct Outputs<'a> {
    /// Every sum, (output channels, output height, output width); none where nobody asks for them.
    pub sums: Option<&'a mut [i32]>,
    /// What is added to every sum of an output channel, wrapping; none: nothing.
    pub offsets: Option<&'a [i32]>,
    /// Ends, and the codes that each makes, in the layout of the sums.
    pub ends: Vec<(&'a dyn End, &'a mut [u8])>,
}

impl Outputs<'_> {
    /// Asserts that everything has the size of the output.
    pub(super) fn check(&self, channels: usize, positions: usize) {
        let sizes = self.sums.iter().map(|sums| sums.len());
        for size in sizes.chain(self.ends.iter().map(|(_, codes)| codes.len())) {
            assert_eq!(size, channels * positions, "size of the output");
        }
        if let Some(offsets) = self.offsets {
            assert_eq!(offsets.len(), channels, "one offset an output channel");
        }
    }

    /// The same, for threads that write disjoint parts of it.
    pub(super) fn sink(&mut self, positions: usize) -> Sink<'_> {
        Sink {
            positions,
            sums: self.sums.as_mut().map(|sums| Output(sums.as_mut_ptr())),
            offsets: self.offsets,
            ends: self
                .ends
                .iter_mut()
                .map(|(end, codes)| (*end, Output(codes.as_mut_ptr())))
                .collect(),
        }
    }
}

/// [`Outputs`] as pointers.
pub(super) struct Sink<'a> {
    /// Positions of an output channel.
    positions: usize,
    sums: Option<Output<i32>>,
    offsets: Option<&'a [i32]>,
    ends: Vec<(&'a dyn End, Output<u8>)>,
}

impl Sink<'_> {
    /// Where the sums of a channel from a position on belong, and the distance between channels; none where nobody asks
    /// for sums.
    #[inline(always)]
    pub fn sums(&self, channel: usize, position: usize) -> Option<(*mut i32, usize)> {
        let Output(sums) = self.sums?;
        let at = channel * self.positions + position;
        Some((sums.wrapping_add(at), self.positions))
    }

    /// Takes the sums of a channel from a position on, wherever they lie.
    ///
    /// # Safety
    /// `sums` is valid for reads and writes of `count` sums; the positions are in the output, and nobody else has them.
    #[inline(always)]
    pub unsafe fn take(&self, channel: usize, position: usize, sums: *mut i32, count: usize) {
        if self.offsets.is_none() && self.ends.is_empty() {
            return;
        }
        debug_assert!(position + count <= self.positions);
        // SAFETY: the caller's duty.
        let sums = unsafe { std::slice::from_raw_parts_mut(sums, count) };
        if let Some(&offset) = self.offsets.and_then(|offsets| offsets.get(channel))
            && offset != 0
        {
            for sum in &mut *sums {
                *sum = sum.wrapping_add(offset);
            }
        }
        for (end, Output(codes)) in &self.ends {
            let at = channel * self.positions + position;
            // SAFETY: the caller's duty; `Outputs::check` found the codes to have the size of the output.
            let codes = unsafe { std::slice::from_raw_parts_mut(codes.wrapping_add(at), count) };
            end.codes(channel, position, sums, codes);
        }
    }
}
