//! The last part of a layer of sums, from an accumulator to a code, as a function of one integer.
//!
//! Every rounding, multiplication and clamp is monotone, so that this is a step function of at most as many steps as
//! there are codes, as long as no accumulator overflows. Two rules are equal on a channel exactly when their steps
//! are, over the sums that inputs can reach.

use align_check_graph::{Quantizer, Rounding};
use align_check_specs::Overflow;

use crate::adapt::ValueGrid;
use crate::kernels::Isa;
use crate::network::{Kind, Layer, Linear, LinearForm, Post, traced_posts};
use crate::num::Trace;
use crate::num::trace::short;
use crate::plan::{Finish, LayerPlan, LinearPlan, Sum};
use crate::quantize::affine;
use crate::rules::requantize::Requantizer;
use crate::run::{ChannelEnd, Runner};
use crate::tensor::{Channels, Data};

/// A layer's codes as a function of its sums.
#[derive(Debug)]
pub struct Step<'a> {
    rule: Rule<'a>,
    /// The same for many sums at once, where a run has that.
    end: Option<ChannelEnd<'a>>,
}

#[derive(Debug)]
enum Rule<'a> {
    Requantize(&'a Requantizer),
    /// The model's own quantizer behind the exact real.
    Letter(Box<Letter<'a>>),
}

/// The exact real of a sum, with the operations in the order in which a run does them, and its quantizer.
#[derive(Debug)]
struct Letter<'a> {
    quantizer: affine::Channel,
    /// Factor and offset of each channel.
    line: Vec<(f64, f64)>,
    /// Bounds, where everything behind the sum is folded into the line.
    clamp: Option<(f64, f64)>,
    /// Else what is behind it, and the elements of a channel's run.
    posts: &'a [Post],
    inner: usize,
}

impl Letter<'_> {
    fn code(&self, sum: i64, channel: usize, trace: &mut Trace) -> i32 {
        let (m, b) = self.line[channel];
        trace.step("unit", || "what one unit of the sum is worth".into(), m);
        trace.step("bias", || "as a real".into(), b);
        let how = || format!("{sum} * unit + bias");
        let real = trace.step("real", how, sum as f64 * m + b);
        let real = match self.clamp {
            Some((lo, hi)) if lo == f64::NEG_INFINITY && hi == f64::INFINITY => real,
            Some((lo, hi)) => {
                let how = || format!("{} to {}..{}", short(real), short(lo), short(hi));
                trace.step("clipped", how, real.max(lo).min(hi))
            }
            None => traced_posts(self.posts, real, channel * self.inner, trace),
        };
        let single = trace.step("as f32", || short(real), real as f32);
        self.quantizer.traced(single, trace) as i32
    }
}

/// The sums that a channel can reach: every `(code - zero point)` of the input against every weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// Smallest sum.
    pub min: i64,
    /// Largest sum.
    pub max: i64,
}

impl Reach {
    /// Number of integers between.
    pub fn count(self) -> u64 {
        self.max.abs_diff(self.min) + 1
    }
}

impl<'a> Step<'a> {
    /// The function of a layer under a plan.
    ///
    /// # Errors
    /// A text where the layer's codes are not a monotone function of one sum: there is none, it has no code, its
    /// accumulator may overflow on the way, or a bias differs from row to row.
    pub fn of(layer: &'a Layer, plan: &'a LayerPlan, isa: Isa) -> Result<Self, String> {
        let (linear, sums) = exact_sums(layer, plan)?;
        let ValueGrid::Codes { .. } = &plan.out else {
            return Err("an output without codes".into());
        };
        let rule = match &plan.finish {
            Finish::Requantize { requantizer, .. } => Rule::Requantize(requantizer),
            Finish::Letter(quantizer) => {
                let quantizer = quantizer.as_deref();
                Rule::Letter(Box::new(Self::letter(layer, quantizer, linear, sums)?))
            }
            _ => return Err("the output is not quantized from the sum alone".into()),
        };
        let end = Runner { layer, plan, isa }.channel_end();
        Ok(Self { rule, end })
    }

    fn letter(
        layer: &'a Layer,
        quantizer: Option<&Quantizer>,
        linear: &Linear,
        sums: &LinearPlan,
    ) -> Result<Letter<'a>, String> {
        let Some(Quantizer::Affine(quantizer)) = quantizer else {
            return Err("a quantizer that is not affine".into());
        };
        if quantizer.scale.values.len() > 1 || quantizer.zero_point.values.len() > 1 {
            return Err("an output with a scale for each channel".into());
        }
        let own = layer.channels();
        let within = |post: &Post| match post {
            Post::Affine { channels, .. } | Post::Leaky { channels, .. } => {
                *channels != Channels::ONE && *channels != own
            }
            _ => false,
        };
        if layer.posts.iter().any(within) {
            return Err("a factor behind the sum that differs within a channel".into());
        }
        let inner = match linear.form {
            LinearForm::Rows { .. } => 1,
            _ => (linear.shape.out_height * linear.shape.out_width).max(1),
        };
        // A run folds normalization into the line only in its vectorized path.
        let nearest = quantizer.rounding == Rounding::HalfEven
            && !quantizer.is_bipolar()
            && quantizer.multiplier.is_none();
        let folded = layer.folded().filter(|_| nearest && inner > 1);
        let line = sums.unit.iter().zip(&sums.bias).enumerate();
        let line = line.map(|(c, (&unit, &bias))| match &folded {
            Some(folded) => (unit * folded.mul[c], bias * folded.mul[c] + folded.add[c]),
            None => (unit, bias),
        });
        Ok(Letter {
            quantizer: affine::Channel::new(
                quantizer,
                quantizer.scale.at(0),
                quantizer.zero_point.at(0),
            )
            .multiplied(quantizer.multiplier.as_ref().map(|m| m.at(0))),
            line: line.collect(),
            clamp: folded.as_ref().map(|folded| (folded.lo, folded.hi)),
            posts: &layer.posts,
            inner,
        })
    }

    /// The code of a sum.
    pub fn code(&self, sum: i64, channel: usize) -> i32 {
        match &self.rule {
            Rule::Requantize(requantizer) => requantizer.code(sum, channel, false).value,
            Rule::Letter(letter) => letter.code(sum, channel, &mut Trace::off()),
        }
    }

    /// The code of a sum, step by step.
    pub fn traced(&self, sum: i64, channel: usize, trace: &mut Trace) -> i32 {
        match &self.rule {
            Rule::Requantize(rule) => rule.traced(sum, channel, false, trace).value,
            Rule::Letter(letter) => letter.code(sum, channel, trace),
        }
    }

    /// The codes of sums of one channel.
    fn codes(&self, sums: &[i64], channel: usize) -> Vec<i32> {
        let narrow: Option<Vec<i32>> = sums.iter().map(|&sum| i32::try_from(sum).ok()).collect();
        match (&self.end, narrow) {
            (Some(end), Some(narrow)) => {
                let mut codes = vec![0; sums.len()];
                end.codes(&narrow, channel % end.channels.count, 0, &mut codes);
                codes
            }
            _ => sums.iter().map(|&sum| self.code(sum, channel)).collect(),
        }
    }

    /// The steps over the sums that a channel can reach: where each begins, and its code. Where the accumulator
    /// overflows by the bias, the function begins anew.
    pub fn steps(&self, channel: usize, reach: Reach) -> Vec<(i64, i32)> {
        let mut steps = Vec::new();
        let (lo, hi) = match &self.rule {
            Rule::Requantize(requantizer) => requantizer.fits(channel),
            Rule::Letter(_) => (i64::MIN, i64::MAX),
        };
        for (from, to) in [
            (i64::MIN, lo.saturating_sub(1)),
            (lo, hi),
            (hi.saturating_add(1), i64::MAX),
        ] {
            let (from, to) = (from.max(reach.min), to.min(reach.max));
            if from <= to && (lo <= hi) {
                self.monotone(channel, from, to, &mut steps);
            }
        }
        steps.dedup_by_key(|&mut (_, code)| code);
        steps
    }

    /// The steps of one piece without overflow.
    fn monotone(&self, channel: usize, from: i64, to: i64, steps: &mut Vec<(i64, i32)>) {
        /// Sums that are listed rather than searched.
        const LISTED: i64 = 512;
        /// The same where codes change with nearly every sum.
        const DENSE: i64 = 1 << 20;
        let (first, last) = (self.code(from, channel), self.code(to, channel));
        steps.push((from, first));
        if first == last {
            return;
        }
        let up = if last > first { 1 } else { -1 };
        // Codes are clamped at both ends: only what lies between is looked at.
        let begin = self.boundary(channel, from + 1, to, first + up, up);
        let end = self.boundary(channel, begin, to, last, up);
        let (span, codes) = (end - begin, i64::from((last - first).abs()));
        if span < LISTED || (span < 2 * codes && span < DENSE) {
            let sums: Vec<i64> = (begin..=end).collect();
            let codes = self.codes(&sums, channel);
            steps.extend(sums.into_iter().zip(codes));
            return;
        }
        // Steps of one width between the first and the last tell where the others are expected.
        let wanted: Vec<i32> = (1..=(last - first).abs()).map(|n| first + n * up).collect();
        let width = span as f64 / (codes - 1).max(1) as f64;
        let expected: Vec<i64> = (0..wanted.len())
            .map(|n| ((begin as f64 + n as f64 * width) as i64).clamp(from + 1, to))
            .collect();
        let around: Vec<i64> = expected
            .iter()
            .flat_map(|&at| [at - 2, at - 1, at, at + 1].map(|sum| sum.clamp(from, to)))
            .collect();
        let codes = self.codes(&around, channel);
        let seen = around.chunks(4).zip(codes.chunks(4));
        for ((&code, &at), (sums, seen)) in wanted.iter().zip(&expected).zip(seen) {
            let reached = seen.iter().position(|seen| (seen - code) * up >= 0);
            let begin = match reached {
                Some(first @ 1..) => sums[first],
                _ => self.near(channel, (from, to), at, code, up),
            };
            // A code that is jumped over begins where the one behind it does.
            match steps.last_mut() {
                Some(last) if last.0 == begin => last.1 = code,
                _ => steps.push((begin, code)),
            }
        }
    }

    /// The first sum in `from..=to` whose code has reached `code`; the last sum's has.
    fn boundary(&self, channel: usize, from: i64, to: i64, code: i32, up: i32) -> i64 {
        let reached = |sum: i64| (self.code(sum, channel) - code) * up >= 0;
        let (mut low, mut high) = (from - 1, to);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if reached(middle) {
                high = middle;
            } else {
                low = middle;
            }
        }
        high
    }

    /// The same from a guess, by doubling steps.
    fn near(&self, channel: usize, (from, to): (i64, i64), guess: i64, code: i32, up: i32) -> i64 {
        let reached = |sum: i64| (self.code(sum, channel) - code) * up >= 0;
        let mut distance = 1;
        if reached(guess) {
            let mut low = guess;
            while low > from && reached(low) {
                low = (guess - distance).max(from);
                distance *= 2;
            }
            return self.boundary(channel, low, guess, code, up);
        }
        let mut high = guess;
        while high < to && !reached(high) {
            high = (guess + distance).min(to);
            distance *= 2;
        }
        self.boundary(channel, guess, high, code, up)
    }
}

/// A layer's weights and how they are summed.
///
/// # Errors
/// A text where an output does not follow from one exact sum.
pub(crate) fn exact_sums<'a>(
    layer: &'a Layer,
    plan: &'a LayerPlan,
) -> Result<(&'a Linear, &'a LinearPlan), String> {
    let (Kind::Linear(linear), Some(sums)) = (&layer.kind, &plan.linear) else {
        return Err("no sums of products with weights".into());
    };
    if linear.rows.is_some() {
        return Err("the bias differs from row to row".into());
    }
    if let Some(paired) = &sums.pairs {
        let channels = paired.pairs.channels();
        return Err(format!(
            "pairs of products can saturate to 16 bits in {channels} output channels: codes follow from them, not from \
                 the sum"
        ));
    }
    match &sums.sum {
        Sum::Fast { .. }
        | Sum::InOrder {
            overflow: Overflow::Exact,
            ..
        } => {}
        Sum::InOrder { bits, .. } => {
            return Err(format!("the accumulator of {bits} bits may overflow"));
        }
        Sum::Real { .. } => return Err("sums of reals".into()),
    }
    Ok((linear, sums))
}

/// The weights of a layer less their zero point, one row an output channel; `None` where they have no codes.
pub fn weight_rows(layer: &Layer) -> Option<Vec<Vec<i64>>> {
    let Kind::Linear(linear) = &layer.kind else {
        return None;
    };
    let Data::Codes { codes, grid } = &linear.weights.data else {
        return None;
    };
    let taps = (codes.len() / linear.shape.out_channels.max(1)).max(1);
    let rows = codes.chunks(taps).enumerate();
    Some(
        rows.map(|(m, row)| {
            let zero = grid.zero_point.at(m);
            row.iter().map(|&w| i64::from(w) - zero).collect()
        })
        .collect(),
    )
}

/// Codes less their zero point of a whole window that makes the largest sum of a row of weights (or the smallest).
pub fn extreme(row: &[i64], (lo, hi): (i64, i64), largest: bool) -> Vec<i64> {
    let end = |&w: &i64| if (w > 0) == largest { hi } else { lo };
    row.iter().map(end).collect()
}

/// The inputs' codes less their zero point: smallest and largest.
pub fn input_range(input: &ValueGrid) -> Option<(i64, i64)> {
    let ValueGrid::Codes { grid, .. } = input else {
        return None;
    };
    let zero = &grid.zero_point;
    (zero.values.len() == 1).then(|| (grid.min - zero.at(0), grid.max - zero.at(0)))
}

/// What the sum of each output channel can reach. Where a window leaves the image its taps add nothing, which lies
/// within, since the zero point is a code.
pub fn reach(layer: &Layer, input: &ValueGrid) -> Option<Vec<Reach>> {
    let (lo, hi) = input_range(input)?;
    let (lo, hi) = (lo.min(0), hi.max(0));
    let rows = weight_rows(layer)?;
    let of_row = |row: &Vec<i64>| {
        let end = |positive: i64, negative: i64| {
            row.iter()
                .map(|&w| w * if w > 0 { positive } else { negative })
                .sum()
        };
        Reach {
            min: end(lo, hi),
            max: end(hi, lo),
        }
    };
    Some(rows.iter().map(of_row).collect())
}
