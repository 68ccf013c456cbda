//! Layers whose integer sums become bytes channel by channel: the sums end while they are in the cache.

use std::borrow::Cow;

use align_check_graph::Quantizer;

use super::{Runner, Sums};
use crate::adapt::ValueGrid;
use crate::buffers::Buffers;
use crate::kernels::{End, Isa, Outputs, conv_u8i8_to};
use crate::network::{Folded, Kind, Linear, LinearForm};
use crate::plan::{Finish, LinearPlan, Sum};
use crate::quantize::letter_end::{LetterEnd, is_plain};
use crate::rules::requantize::{Kept, Requantizer};
use crate::tensor::{Channels, Codes, Data, Tensor};

/// The end of a layer, one channel after the other.
pub(super) struct ChannelEnd<'a> {
    isa: Isa,
    /// Channels of the sums.
    pub channels: Channels,
    by: By<'a>,
}

enum By<'a> {
    /// The model's own quantizer, with a factor, an offset and a clamp in between: nearly every layer of a convolutional
    /// network.
    Letter {
        end: LetterEnd,
        folded: Folded,
        plan: &'a LinearPlan,
    },
    Requantizer(&'a Requantizer),
}

impl ChannelEnd<'_> {
    /// The codes of sums of one channel, each less `first` where it is kept as a byte.
    pub fn codes<T: Kept>(&self, sums: &[i32], channel: usize, first: i32, out: &mut [T]) {
        match &self.by {
            By::Letter { end, folded, plan } => {
                let (mul, add) = (folded.mul[channel], folded.add[channel]);
                end.of_sum(plan.unit[channel] * mul, plan.bias[channel] * mul + add)
                    .codes(self.isa, sums, first, out);
            }
            By::Requantizer(requantizer) => {
                requantizer.codes(self.isa, sums, channel, first, out);
            }
        }
    }
}

/// A [`ChannelEnd`] whose codes are kept as bytes.
struct ByteEnd<'a> {
    end: ChannelEnd<'a>,
    first: i32,
}

impl End for ByteEnd<'_> {
    fn codes(&self, channel: usize, sums: &[i32], codes: &mut [u8]) {
        let channel = channel % self.end.channels.count;
        self.end.codes(sums, channel, self.first, codes);
    }
}

impl<'a> Runner<'a> {
    /// How the layer ends, where that is done channel by channel.
    pub(super) fn channel_end(&self) -> Option<ChannelEnd<'a>> {
        let end = match &self.plan.finish {
            Finish::Requantize {
                requantizer,
                channels,
            } => ChannelEnd {
                isa: self.isa,
                channels: *channels,
                by: By::Requantizer(requantizer),
            },
            Finish::Letter(Some(quantizer)) => self.letter_end(quantizer)?,
            _ => return None,
        };
        (end.channels.inner != 1).then_some(end)
    }

    fn letter_end(&self, quantizer: &Quantizer) -> Option<ChannelEnd<'a>> {
        let (Kind::Linear(Linear { rows: None, .. }), Quantizer::Affine(a)) =
            (&self.layer.kind, quantizer)
        else {
            return None;
        };
        let ValueGrid::Codes { grid, .. } = &self.plan.out else {
            return None;
        };
        let small = grid.min > -(1 << 21) && grid.max < 1 << 21;
        if !is_plain(a) || !small || !grid.is_uniform() {
            return None;
        }
        let folded = self.layer.folded()?;
        Some(ChannelEnd {
            isa: self.isa,
            channels: self.layer.channels(),
            by: By::Letter {
                end: LetterEnd::new(a, (folded.lo, folded.hi)),
                folded,
                plan: self.plan.linear.as_ref()?,
            },
        })
    }

    /// The layer's output, and what some other runners of the layer make of the same sums; the sums, where they are
    /// `wanted`: as [`sums_in`](Self::sums_in) and [`finish_in`](Self::finish_in), at once. `None` where the layer does
    /// not end so, or where another one does not.
    ///
    /// The others' plans must [share](crate::plan::LayerPlan::shares_sums) their sums with this one's.
    pub fn ended(
        &self,
        inputs: &[&Tensor],
        others: &[Runner<'a>],
        wanted: bool,
        buffers: &mut Buffers,
    ) -> Option<(Option<Sums>, Tensor, Vec<Option<Tensor>>)> {
        let (Kind::Linear(linear), Some(plan)) = (&self.layer.kind, &self.plan.linear) else {
            return None;
        };
        let Data::Codes { codes, .. } = &inputs[0].data else {
            return None;
        };
        let (positions, image) = (linear.shape.positions(), linear.output_len());
        let in_place = match linear.form {
            LinearForm::Rows { rows, .. } => rows <= 1,
            _ => true,
        };
        if positions < 2
            || !in_place
            || plan.pairs.is_some()
            || !matches!(plan.sum, Sum::Fast { .. })
        {
            return None;
        }
        let byte_end = |runner: &Runner<'a>| {
            let ValueGrid::Codes { grid, .. } = &runner.plan.out else {
                return None;
            };
            let first = Codes::first(grid)?;
            let end = runner.channel_end()?;
            let Channels { count, inner } = end.channels;
            let fits = count == 1 || (count, inner) == (linear.shape.out_channels, positions);
            fits.then_some((grid, ByteEnd { end, first }))
        };
        let mut ends = vec![byte_end(self)?];
        let others: Vec<_> = others.iter().map(byte_end).collect();
        let ended: Vec<bool> = others.iter().map(Option::is_some).collect();
        ends.extend(others.into_iter().flatten());
        let len = linear.batch * image;
        let mut sums = wanted.then(|| buffers.words(len));
        let mut bytes: Vec<Vec<u8>> = ends.iter().map(|_| buffers.bytes(len)).collect();
        let mut own: Vec<(&dyn End, &mut [u8])> = Vec::new();
        for ((_, end), bytes) in ends.iter().zip(&mut bytes) {
            own.push((end, bytes));
        }
        convolve(linear, plan, codes, sums.as_deref_mut(), own);
        let mut tensors = ends.into_iter().zip(bytes).map(|((grid, end), bytes)| {
            let codes = Codes::of_bytes(end.first, bytes);
            Tensor::kept(self.layer.shape.clone(), codes, grid.clone())
        });
        let own = tensors.next()?;
        let others = ended
            .into_iter()
            .map(|ended| if ended { tensors.next() } else { None })
            .collect();
        Some((sums.map(Sums::I32), own, others))
    }
}

/// The exact sums of a layer of bytes, (images, output channels, positions), through the ends of each channel; kept where
/// they are asked for.
pub(super) fn convolve(
    linear: &Linear,
    plan: &LinearPlan,
    codes: &Codes,
    mut sums: Option<&mut [i32]>,
    mut ends: Vec<(&dyn End, &mut [u8])>,
) {
    let Sum::Fast {
        weights,
        row_sums,
        offset,
        zero,
    } = &plan.sum
    else {
        return;
    };
    let first = *offset as i32;
    let bytes = match codes.bytes() {
        Some((own, bytes)) if own == first => Cow::Borrowed(bytes),
        _ => {
            let byte = |&q: &i32| q.wrapping_sub(first) as u8;
            Cow::Owned(codes.iter().map(byte).collect())
        }
    };
    let pad = (zero - offset) as u8;
    let images = linear.images(&bytes, pad);
    // Bytes are codes less `offset`; products were wanted with codes less `zero`.
    let correction = |&sum: &i64| ((offset - zero) * sum) as i32;
    let offsets: Vec<i32> = row_sums.iter().map(correction).collect();
    let output = linear.output_len();
    for x in images
        .chunks_exact(linear.image_len().max(1))
        .take(linear.batch)
    {
        let outputs = Outputs {
            sums: sums.as_mut().map(|sums| front(sums, output)),
            offsets: (offset != zero).then_some(&offsets[..]),
            ends: ends
                .iter_mut()
                .map(|(end, codes)| (*end, front(codes, output)))
                .collect(),
        };
        conv_u8i8_to(&linear.shape, x, pad, weights, outputs);
    }
}

/// Takes the first elements off a slice.
fn front<'a, T>(slice: &mut &'a mut [T], len: usize) -> &'a mut [T] {
    slice.split_off_mut(..len).unwrap_or_default()
}
