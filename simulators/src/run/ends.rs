//! Layers whose integer sums become bytes channel by channel: the sums end while they are in the cache.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use align_check_graph::Quantizer;

use super::near_ties::NearTie;
use super::{Runner, Sums};
use crate::adapt::ValueGrid;
use crate::buffers::Buffers;
use crate::kernels::{End, Isa, Outputs, conv_u8i8_to};
use crate::network::{Folded, Kind, Linear, LinearForm};
use crate::plan::{Finish, LinearPlan, Sum};
use crate::quantize::CodeGrid;
use crate::quantize::letter_end::{LetterEnd, is_plain};
use crate::rules::real::RealQuantizer;
use crate::rules::requantize::{Kept, Requantizer};
use crate::tensor::{Channels, Codes, Data, Tensor};

/// The end of a layer, one channel after the other.
#[derive(Debug)]
pub(crate) struct ChannelEnd<'a> {
    isa: Isa,
    /// Channels of the sums.
    pub channels: Channels,
    by: By<'a>,
}

#[derive(Debug)]
enum By<'a> {
    /// The model's own quantizer, with a factor, an offset and a clamp in between: nearly every layer of a convolutional
    /// network.
    Letter {
        end: LetterEnd,
        folded: Folded,
        plan: &'a LinearPlan,
    },
    Requantizer(&'a Requantizer),
    /// The exact real, with a clamp, and a target's quantizer behind it.
    Float {
        clamp: (f64, f64),
        plan: &'a LinearPlan,
        quantizer: &'a RealQuantizer,
    },
}

impl<'a> ChannelEnd<'a> {
    /// The rule, where integers alone decide.
    pub fn requantizer(&self) -> Option<&'a Requantizer> {
        match self.by {
            By::Requantizer(requantizer) => Some(requantizer),
            By::Letter { .. } | By::Float { .. } => None,
        }
    }

    /// The codes of sums of one channel, each less `first` where it is kept as a byte.
    pub fn codes<T: Kept>(&self, sums: &[i32], channel: usize, first: i32, out: &mut [T]) {
        match &self.by {
            By::Letter { end, folded, plan } => {
                letter_of(*end, folded, plan, channel).codes(self.isa, sums, first, out);
            }
            By::Requantizer(requantizer) => {
                requantizer.codes(self.isa, sums, channel, first, out);
            }
            By::Float {
                clamp: (lo, hi),
                plan,
                quantizer,
            } => {
                let (unit, bias) = (plan.unit[channel], plan.bias[channel]);
                let real = |&sum: &i32| (f64::from(sum) * unit + bias).max(*lo).min(*hi);
                let reals: Vec<f64> = sums.iter().map(real).collect();
                let codes = quantizer.codes(self.isa, &reals);
                let codes = codes.unwrap_or_else(|| {
                    let code = |&real: &f64| quantizer.code(real as f32);
                    reals.iter().map(code).collect()
                });
                for (out, code) in out.iter_mut().zip(codes) {
                    *out = T::keep(code, first);
                }
            }
        }
    }

    /// [`codes`](Self::codes), and which of the sums lie near a tie: all that are no more than `within` of them away, and
    /// more; all of them where nothing is known of ties.
    pub fn watched<T: Kept>(
        &self,
        sums: &[i32],
        channel: usize,
        first: i32,
        out: &mut [T],
        within: u32,
        found: &mut Vec<usize>,
    ) {
        if let By::Letter { end, folded, plan } = &self.by {
            let end = letter_of(*end, folded, plan, channel);
            return end.watched(self.isa, sums, first, out, within, found);
        }
        found.extend(0..sums.len());
        self.codes(sums, channel, first, out);
    }
}

fn letter_of(end: LetterEnd, folded: &Folded, plan: &LinearPlan, channel: usize) -> LetterEnd {
    let (mul, add) = (folded.mul[channel], folded.add[channel]);
    end.of_sum(plan.unit[channel] * mul, plan.bias[channel] * mul + add)
}

/// A [`ChannelEnd`] whose codes are kept as bytes.
pub(super) struct ByteEnd<'a> {
    pub end: ChannelEnd<'a>,
    /// The code that byte 0 stands for.
    pub first: i32,
}

impl End for ByteEnd<'_> {
    fn codes(&self, channel: usize, _position: usize, sums: &[i32], codes: &mut [u8]) {
        let channel = channel % self.end.channels.count;
        self.end.codes(sums, channel, self.first, codes);
    }
}

/// A [`ByteEnd`] that notes which elements lie near a tie.
struct Watch<'a> {
    end: ByteEnd<'a>,
    /// Elements of a channel.
    positions: usize,
    /// How many sums are near.
    within: u32,
    near: Mutex<Vec<NearTie>>,
}

impl End for Watch<'_> {
    fn codes(&self, channel: usize, position: usize, sums: &[i32], codes: &mut [u8]) {
        let of = channel % self.end.end.channels.count;
        let mut found = Vec::new();
        self.end
            .end
            .watched(sums, of, self.end.first, codes, self.within, &mut found);
        let start = channel * self.positions + position;
        let near = found.into_iter().map(|i| NearTie {
            index: start + i,
            sum: sums[i],
        });
        // What another thread that panicked has left is not read.
        let mut all = self.near.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(near);
    }
}

/// What a layer and other runners of it make of the same sums.
pub struct Ended {
    /// The sums, where they were asked for.
    pub sums: Option<Sums>,
    /// The layer's output.
    pub out: Tensor,
    /// The others' outputs; `None` where one does not end so.
    pub others: Vec<Option<Tensor>>,
    /// Elements near a tie, where they were asked for, ascending.
    pub near: Vec<NearTie>,
}

/// What [`Runner::ended`] is to make besides the output.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'r, 'a> {
    /// Other runners of the layer, whose plans [share](crate::plan::LayerPlan::shares_sums) its sums.
    pub others: &'r [Runner<'a>],
    /// Whether the sums are to be kept.
    pub sums: bool,
    /// Elements so few sums away from a tie, where a layer of one image has [`Begins`](super::Begins).
    pub near: Option<u32>,
}

impl<'a> Runner<'a> {
    /// How the layer ends, where that is done channel by channel.
    pub(crate) fn channel_end(&self) -> Option<ChannelEnd<'a>> {
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
            Finish::Float(float) => {
                let ([quantizer], None) = (&float.quantizers[..], &float.tail) else {
                    return None;
                };
                let folded = self.folded_sums()?;
                // A factor makes other reals before it is folded than after.
                folded.is_clamp().then_some(())?;
                ChannelEnd {
                    isa: self.isa,
                    channels: self.layer.channels(),
                    by: By::Float {
                        clamp: (folded.lo, folded.hi),
                        plan: self.plan.linear.as_ref()?,
                        quantizer,
                    },
                }
            }
            _ => return None,
        };
        (end.channels.inner != 1).then_some(end)
    }

    /// What is behind the sums of products with weights, whose biases are one a channel.
    fn folded_sums(&self) -> Option<Folded> {
        match &self.layer.kind {
            Kind::Linear(Linear { rows: None, .. }) => self.layer.folded(),
            _ => None,
        }
    }

    fn letter_end(&self, quantizer: &Quantizer) -> Option<ChannelEnd<'a>> {
        let Quantizer::Affine(a) = quantizer else {
            return None;
        };
        let ValueGrid::Codes { grid, .. } = &self.plan.out else {
            return None;
        };
        let small = grid.min > -(1 << 21) && grid.max < 1 << 21;
        if !is_plain(a) || !small || !grid.is_uniform() {
            return None;
        }
        let folded = self.folded_sums()?;
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

    /// The layer's output, and what else is asked for: as [`sums_in`](Self::sums_in) and [`finish_in`](Self::finish_in), at
    /// once. `None` where the layer does not end so.
    pub fn ended(
        &self,
        inputs: &[&Tensor],
        asked: Asked<'_, 'a>,
        buffers: &mut Buffers,
    ) -> Option<Ended> {
        let (Kind::Linear(linear), Some(plan)) = (&self.layer.kind, &self.plan.linear) else {
            return None;
        };
        let Data::Codes { codes, .. } = &inputs[0].data else {
            return None;
        };
        if !ends_in_place(linear, plan) {
            return None;
        }
        let (positions, image) = (linear.shape.positions(), linear.output_len());
        let (grid, own) = self.byte_end(linear)?;
        let (own, watch) = match asked.near {
            Some(within) if linear.batch == 1 => {
                let watch = Watch {
                    end: own,
                    positions,
                    within,
                    near: Mutex::default(),
                };
                (None, Some(watch))
            }
            _ => (Some(own), None),
        };
        let others: Vec<_> = asked
            .others
            .iter()
            .map(|other| other.byte_end(linear))
            .collect();
        let mut ends: Vec<&dyn End> = Vec::new();
        ends.extend(own.as_ref().map(|end| end as &dyn End));
        ends.extend(watch.as_ref().map(|end| end as &dyn End));
        ends.extend(others.iter().flatten().map(|(_, end)| end as &dyn End));
        let len = linear.batch * image;
        let mut sums = asked.sums.then(|| buffers.words(len));
        let mut bytes: Vec<Vec<u8>> = ends.iter().map(|_| buffers.bytes(len)).collect();
        let to = ends
            .into_iter()
            .zip(bytes.iter_mut().map(Vec::as_mut_slice));
        convolve(linear, plan, codes, sums.as_deref_mut(), to.collect());
        let mut bytes = bytes.into_iter();
        let mut tensor = |grid: &Arc<CodeGrid>| {
            let codes = Codes::of_bytes(Codes::first(grid)?, bytes.next()?);
            Some(Tensor::kept(self.layer.shape.clone(), codes, grid.clone()))
        };
        let out = tensor(grid)?;
        let others = others
            .iter()
            .map(|other| tensor(other.as_ref()?.0))
            .collect();
        let near = watch.map(|watch| {
            watch
                .near
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner)
        });
        let mut near = near.unwrap_or_default();
        // Threads note what they find in any order.
        near.sort_unstable_by_key(|one| one.index);
        Some(Ended {
            sums: sums.map(Sums::I32),
            out,
            others,
            near,
        })
    }

    /// How the layer ends, where its codes are bytes, and their grid.
    pub(super) fn byte_end(&self, linear: &Linear) -> Option<(&'a Arc<CodeGrid>, ByteEnd<'a>)> {
        let ValueGrid::Codes { grid, .. } = &self.plan.out else {
            return None;
        };
        let first = Codes::first(grid)?;
        let end = self.channel_end()?;
        let Channels { count, inner } = end.channels;
        let own = (linear.shape.out_channels, linear.shape.positions());
        let fits = count == 1 || (count, inner) == own;
        fits.then_some((grid, ByteEnd { end, first }))
    }
}

/// Whether the sums of a layer lie in the layout of its output, and are exact integers that no other arithmetic changes.
pub(super) fn ends_in_place(linear: &Linear, plan: &LinearPlan) -> bool {
    let in_place = match linear.form {
        LinearForm::Rows { rows, .. } => rows <= 1,
        _ => true,
    };
    linear.shape.positions() >= 2
        && in_place
        && plan.pairs.is_none()
        && matches!(plan.sum, Sum::Fast { .. })
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
    let images = images.chunks_exact(linear.image_len().max(1));
    for (index, x) in images.take(linear.batch).enumerate() {
        let own = index * output..(index + 1) * output;
        let outputs = Outputs {
            sums: sums.as_deref_mut().map(|sums| &mut sums[own.clone()]),
            offsets: (offset != zero).then_some(&offsets[..]),
            ends: ends
                .iter_mut()
                .map(|(end, codes)| (*end, &mut codes[own.clone()]))
                .collect(),
        };
        conv_u8i8_to(&linear.shape, x, pad, weights, outputs);
    }
}
