//! What a target makes of sums that the reference has ended already: it can differ near ties only.
//!
//! Every end is a step function of its sum ([`crate::step`]). [`Begins`] are the sums at which the reference's steps begin;
//! [`Shifts`] how much earlier or later a target's begin, found by asking its rule for the codes of the sums around. Ends
//! are monotone, so that between these sums both give the same code. A layer whose steps are nowhere shifted is the
//! reference's output; of any other, the elements near ties are looked up, which the reference's end notes on its way. Channels
//! of which that is not known (an accumulator that the bias overflows, steps too narrow) are ended anew.

use std::ops::Range;

use super::Runner;
use super::ends::{ChannelEnd, ends_in_place};
use crate::adapt::ValueGrid;
use crate::buffers::Buffers;
use crate::network::Kind;
use crate::step::{Reach, Step, exact_sums, reach};
use crate::tensor::{Codes, Data, Tensor};

/// A step may begin so many sums, less one, before or after the reference's.
const AROUND: i64 = 3;

/// One of so many channels at most is ended anew.
const MOST_APART: usize = 4;

/// Most output channels of a layer: each has up to 255 begins.
const MOST_CHANNELS: usize = 1 << 14;

/// An element whose sum lies near a tie of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NearTie {
    /// Where in the output.
    pub index: usize,
    /// The sum.
    pub sum: i32,
}

/// The sums at which the steps of a layer's end begin.
#[derive(Debug)]
pub struct Begins {
    /// The first sum of each code of each channel but the lowest.
    begins: Vec<i32>,
    channels: Vec<Channel>,
}

/// What a channel of the reference reaches.
#[derive(Debug, Clone)]
struct Channel {
    /// Its sums.
    sums: Reach,
    /// The code of the smallest of them.
    lowest: i32,
    /// Where its begins are; none where its steps are too narrow.
    steps: Option<Range<usize>>,
}

impl Channel {
    /// The code that one of its steps begins.
    fn code(&self, step: usize) -> i32 {
        self.lowest + 1 + step as i32
    }

    /// Where the begin of a code is.
    fn step(&self, code: i32) -> Option<usize> {
        let steps = self.steps.as_ref()?;
        let at = usize::try_from(code - self.lowest).ok()?.checked_sub(1)? + steps.start;
        steps.contains(&at).then_some(at)
    }
}

/// How much later the steps of another end of the same sums begin.
#[derive(Debug)]
pub struct Shifts {
    /// Of each of [`Begins::begins`].
    sums: Vec<i8>,
    /// The largest magnitude of them.
    furthest: u32,
    /// Channels whose steps lie elsewhere altogether, or are not known.
    apart: Vec<usize>,
}

impl Begins {
    /// Of a reference's end; `input` is the grid of its input. `None` where the layer does not end channel by channel in
    /// bytes.
    pub fn of(runner: &Runner, input: &ValueGrid) -> Option<Self> {
        let Kind::Linear(linear) = &runner.layer.kind else {
            return None;
        };
        let in_place = ends_in_place(linear, runner.plan.linear.as_ref()?);
        if !in_place || linear.batch != 1 || linear.shape.out_channels > MOST_CHANNELS {
            return None;
        }
        runner.byte_end(linear)?;
        let step = Step::of(runner.layer, runner.plan, runner.isa).ok()?;
        let reach = reach(runner.layer, input)?;
        let mut begins = Vec::new();
        let mut channels = Vec::with_capacity(reach.len());
        for (channel, &reach) in reach.iter().enumerate() {
            // Sums have 32 bits, and so have those around them.
            let [min, max] = [reach.min - AROUND, reach.max + AROUND].map(i32::try_from);
            let (Ok(_), Ok(_)) = (min, max) else {
                return None;
            };
            let steps = step.steps(channel, reach);
            let is_wide = |pair: &[(i64, i32)]| {
                let wide = pair[1].0 - pair[0].0 >= 2 * AROUND || pair[0].0 == reach.min;
                wide && pair[1].1 == pair[0].1 + 1
            };
            let lowest = steps.first()?.1;
            let known = steps.windows(2).all(is_wide).then(|| {
                let start = begins.len();
                begins.extend(steps[1..].iter().map(|&(begin, _)| begin as i32));
                start..begins.len()
            });
            channels.push(Channel {
                sums: reach,
                lowest,
                steps: known,
            });
        }
        Some(Self { begins, channels })
    }

    /// What another runner makes of the reference's `sums`: of the elements of its output `out`, those `near` a tie are
    /// looked at. `None` where it is the same.
    pub fn shifted(
        &self,
        (out, sums): (&Tensor, &[i32]),
        near: &[NearTie],
        (runner, shifts): (&Runner, &Shifts),
        buffers: &mut Buffers,
    ) -> Option<Tensor> {
        let Data::Codes { codes, grid } = &out.data else {
            return None;
        };
        let (first, bytes) = codes.bytes()?;
        let positions = bytes.len() / self.channels.len().max(1);
        let mut changed: Option<Vec<u8>> = None;
        let mut change = |run: Range<usize>, own: &[u8]| {
            let copy = || {
                let mut copy = buffers.bytes(bytes.len());
                copy.copy_from_slice(bytes);
                copy
            };
            changed.get_or_insert_with(copy)[run].copy_from_slice(own);
        };
        for &NearTie { index, sum } in near {
            let channel = &self.channels[index / positions];
            let code = first + i32::from(bytes[index]);
            let begin = |code: i32| {
                let at = channel.step(code)?;
                Some(self.begins[at] + i32::from(shifts.sums[at]))
            };
            if begin(code).is_some_and(|begin| sum < begin) {
                change(index..index + 1, &[bytes[index] - 1]);
            } else if begin(code + 1).is_some_and(|begin| sum >= begin) {
                change(index..index + 1, &[bytes[index] + 1]);
            }
        }
        if let Some(end) = runner.channel_end() {
            let mut own = vec![0; positions];
            for &channel in &shifts.apart {
                let run = channel * positions..(channel + 1) * positions;
                end.codes(
                    &sums[run.clone()],
                    channel % end.channels.count,
                    first,
                    &mut own,
                );
                if own != bytes[run.clone()] {
                    change(run, &own);
                }
            }
        }
        let codes = Codes::of_bytes(first, changed?);
        Some(Tensor::kept(out.shape.clone(), codes, grid.clone()))
    }
}

impl Shifts {
    /// Of a target's runner of the same layer. `None` where its sums are not the reference's, its output is on another grid,
    /// or too many channels' steps lie elsewhere.
    pub fn of(begins: &Begins, reference: &Runner, target: &Runner) -> Option<Self> {
        let Kind::Linear(linear) = &target.layer.kind else {
            return None;
        };
        exact_sums(target.layer, target.plan).ok()?;
        let ((grid, own), (other, end)) = (reference.byte_end(linear)?, target.byte_end(linear)?);
        if grid != other || !target.plan.shares_sums(reference.plan) {
            return None;
        }
        let (own, end) = (own.end, end.end);
        let mut sums = vec![0; begins.begins.len()];
        let (mut furthest, mut scratch) = (0, Scratch::default());
        let mut apart = Vec::new();
        for (index, channel) in begins.channels.iter().enumerate() {
            let steps = channel.steps.clone();
            let found = steps.and_then(|steps| {
                let begins = &begins.begins[steps.clone()];
                let most = scratch.find(&end, index, channel, begins)?.max(furthest);
                let noted = scratch.are_noted(&own, index, most);
                noted.then_some((steps, most))
            });
            let Some((steps, most)) = found else {
                apart.push(index);
                continue;
            };
            furthest = most;
            for moved in &scratch.moved {
                sums[steps.start + moved.step] = moved.shift;
            }
        }
        (apart.len() * MOST_APART <= begins.channels.len()).then_some(Self {
            sums,
            furthest,
            apart,
        })
    }

    /// Whether nothing differs, whatever the sums.
    pub fn are_none(&self) -> bool {
        self.furthest == 0 && self.apart.is_empty()
    }

    /// How many sums away from a tie elements differ at most, but for channels that are ended anew.
    pub fn furthest(&self) -> u32 {
        self.furthest
    }
}

/// What one channel needs, used again for the next.
#[derive(Default)]
struct Scratch {
    sums: Vec<i32>,
    codes: Vec<i32>,
    noted: Vec<usize>,
    /// Steps that begin elsewhere.
    moved: Vec<Moved>,
}

/// A step that begins elsewhere than the reference's.
struct Moved {
    /// Which of the channel's.
    step: usize,
    begin: i32,
    shift: i8,
}

impl Scratch {
    /// The codes of [`sums`](Self::sums).
    fn ask(&mut self, end: &ChannelEnd, index: usize) {
        self.codes.clear();
        self.codes.resize(self.sums.len(), 0);
        end.codes(&self.sums, index % end.channels.count, 0, &mut self.codes);
    }

    /// Finds the steps of a channel that begin elsewhere; returns how far at most, `None` where one lies elsewhere
    /// altogether.
    fn find(
        &mut self,
        end: &ChannelEnd,
        index: usize,
        channel: &Channel,
        begins: &[i32],
    ) -> Option<u32> {
        let Reach { min, max } = channel.sums;
        if let Some(requantizer) = end.requantizer() {
            // With the bias nothing may leave the accumulator: there the function begins anew.
            let (lo, hi) = requantizer.fits(index % end.channels.count);
            if min < lo || max > hi {
                return None;
            }
        }
        let (min, max, around) = (min as i32, max as i32, AROUND as i32);
        // Most begin where the reference's do.
        self.sums.clear();
        self.sums.resize(2 * begins.len() + 2, 0);
        let (sums, ends) = self.sums.split_at_mut(2 * begins.len());
        for (sums, &begin) in sums.as_chunks_mut::<2>().0.iter_mut().zip(begins) {
            *sums = [begin - 1, begin];
        }
        ends.copy_from_slice(&[min, max]);
        self.ask(end, index);
        let (codes, ends) = self.codes.split_at(2 * begins.len());
        if ends != [channel.lowest, channel.lowest + begins.len() as i32] {
            return None;
        }
        self.moved.clear();
        let seen = codes.as_chunks::<2>().0.iter().zip(begins);
        for (step, (seen, &begin)) in seen.enumerate() {
            let code = channel.code(step);
            if seen[0] >= code || seen[1] < code {
                let shift = 0;
                self.moved.push(Moved { step, begin, shift });
            }
        }
        // The first sum whose code has reached a step's, behind one whose has not.
        self.sums.clear();
        for step in &self.moved {
            let sums = step.begin - around..step.begin + around;
            self.sums.extend(sums.map(|sum| sum.clamp(min, max)));
        }
        self.ask(end, index);
        let mut furthest = 0;
        for (step, seen) in self
            .moved
            .iter_mut()
            .zip(self.codes.chunks(2 * AROUND as usize))
        {
            let code = channel.code(step.step);
            let reached = seen.iter().position(|&seen| seen >= code)?;
            if reached == 0 {
                return None;
            }
            step.shift = reached as i8 - AROUND as i8;
            furthest = furthest.max(u32::from(step.shift.unsigned_abs()));
        }
        Some(furthest)
    }

    /// Whether the reference's end notes every sum that a step changes that begins elsewhere.
    fn are_noted(&mut self, own: &ChannelEnd, index: usize, within: u32) -> bool {
        self.sums.clear();
        for &Moved { begin, shift, .. } in &self.moved {
            let begins = begin + i32::from(shift);
            self.sums.extend(begin.min(begins)..begin.max(begins));
        }
        self.codes.clear();
        self.codes.resize(self.sums.len(), 0);
        self.noted.clear();
        own.watched(
            &self.sums,
            index,
            0,
            &mut self.codes,
            within,
            &mut self.noted,
        );
        self.noted.len() == self.sums.len()
    }
}
