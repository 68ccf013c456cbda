//! Counting how far two tensors are apart, in LSB.

use std::cell::OnceCell;

use align_check_graph::PerChannel;
use align_check_simulators::kernels::{Isa, vectorize};
use align_check_simulators::quantize::CodeGrid;
use align_check_simulators::tensor::{Channels, Data, Tensor};

use crate::outcome::{CHANNELS, Stats, Sums};

/// Differences beyond this many LSB share the last bin of the histogram.
const BINS: i32 = 8;

/// Bins of the histogram, the one of no difference among them.
const ALL_BINS: usize = 2 * BINS as usize + 1;

/// The same of a difference of codes.
const WIDEST: i64 = BINS as i64;

/// What one LSB of a tensor is.
#[derive(Debug, Clone)]
pub struct Lsb {
    step: PerChannel<f64>,
    channels: Channels,
}

impl Lsb {
    /// A step, per channel of a shape.
    pub fn new(step: PerChannel<f64>, shape: &[usize]) -> Self {
        let channels = Channels::of(&step, shape);
        Self { step, channels }
    }

    /// No quantizer: differences are counted in the tensor's own unit.
    pub fn unit() -> Self {
        Self {
            step: PerChannel::uniform(1.0),
            channels: Channels::ONE,
        }
    }

    /// Whether it is the step of a uniform grid.
    pub fn is_of(&self, grid: &CodeGrid) -> bool {
        self.step.values[..] == [grid.scale.at(0)]
    }

    /// The step at an element.
    pub fn at(&self, index: usize) -> f64 {
        self.step.at(self.channels.of_index(index))
    }
}

/// Compares `got` with `expected`. Returns the statistics (without noise) and the indices that differ.
///
/// Codes on the same grid are compared as integers, everything else as reals.
pub fn compare(expected: &Tensor, got: &Tensor, lsb: &Lsb) -> (Stats, Vec<usize>) {
    compare_again(expected, got, lsb, &Squares::default())
}

/// Sums of the bytes of a tensor and of their squares, of each [`CHUNK`], and where these bytes lie: made when a tensor is
/// first compared.
#[derive(Debug, Default)]
pub struct Squares(OnceCell<(*const u8, Vec<[i64; 2]>)>);

/// [`compare`] with a tensor that others are compared with, too: `squares` are of the first one that they are asked for,
/// which must outlive them.
pub fn compare_again(
    expected: &Tensor,
    got: &Tensor,
    lsb: &Lsb,
    squares: &Squares,
) -> (Stats, Vec<usize>) {
    let mut stats = Stats {
        elements: expected.len() as u64,
        ..Stats::default()
    };
    let mut apart = Apart::default();
    if let (
        Data::Codes { codes: a, grid },
        Data::Codes {
            codes: b,
            grid: other,
        },
    ) = (&expected.data, &got.data)
        && grid == other
        && grid.is_uniform()
    {
        stats.sums = match (a.bytes(), b.bytes()) {
            (Some((first, a)), Some((other, b))) if first == other => vectorize(
                Isa::detect(),
                #[inline(always)]
                || {
                    let (of, known) = squares.0.get_or_init(
                        #[inline(always)]
                        || (a.as_ptr(), byte_squares(a)),
                    );
                    let own;
                    let squares = if *of == a.as_ptr() {
                        known
                    } else {
                        own = byte_squares(a);
                        &own
                    };
                    byte_sums(first, (a, squares), b, grid, &mut apart)
                },
            ),
            _ => {
                let sums = vectorize(
                    Isa::detect(),
                    #[inline(always)]
                    || code_sums(a, b, grid, &mut apart.differing),
                );
                for &index in &apart.differing {
                    let difference = i64::from(b.at(index)) - i64::from(a.at(index));
                    apart.largest = apart.largest.max(difference.unsigned_abs() as f64);
                    apart.histogram[(difference.clamp(-WIDEST, WIDEST) + WIDEST) as usize] += 1;
                }
                sums
            }
        };
    } else {
        let (a, b) = (expected.to_real(), got.to_real());
        for (index, (&a, &b)) in a.iter().zip(b.iter()).enumerate() {
            stats.sums.expected += a * a;
            stats.sums.got += b * b;
            stats.sums.product += a * b;
            stats.sums.difference += (a - b) * (a - b);
            if a != b && !(a.is_nan() && b.is_nan()) {
                let difference = (b - a) / lsb.at(index);
                apart.largest = apart.largest.max(difference.abs());
                bin(&mut apart.histogram, difference);
                apart.differing.push(index);
            }
        }
    }
    let Apart {
        differing,
        largest,
        histogram,
    } = apart;
    stats.max_lsb = largest;
    stats.differing = differing.len() as u64;
    stats.histogram = (-BINS..=BINS)
        .map(|lsb| (lsb, histogram[(lsb + BINS) as usize]))
        .filter(|&(lsb, count)| lsb != 0 && count > 0)
        .collect();
    stats.finish();
    (stats, differing)
}

/// Where two tensors differ, and by how much.
#[derive(Default)]
struct Apart {
    /// Indices, ascending.
    differing: Vec<usize>,
    /// In LSB.
    largest: f64,
    /// Differences of each size.
    histogram: [u64; ALL_BINS],
}

/// Largest difference, in LSB, of codes that [`compare`] would compare as bytes.
pub fn largest_of_bytes(expected: &Tensor, got: &Tensor) -> Option<f64> {
    let ((a, grid), (b, other)) = (bytes(expected)?, bytes(got)?);
    if grid != other || a.len() != b.len() {
        return None;
    }
    let apart = |(a, b): (&u8, &u8)| a.abs_diff(*b);
    Some(f64::from(a.iter().zip(b).map(apart).max().unwrap_or(0)))
}

/// The bytes of a tensor on a uniform grid, less its smallest code.
pub fn bytes(tensor: &Tensor) -> Option<(&[u8], &CodeGrid)> {
    match &tensor.data {
        Data::Codes { codes, grid } if grid.is_uniform() => {
            let (first, bytes) = codes.bytes()?;
            (i64::from(first) == grid.min).then_some((bytes, grid))
        }
        _ => None,
    }
}

/// Differing elements of each channel; nothing where none differ or where there are too many channels to count.
pub fn by_channel(channels: Channels, differing: &[usize]) -> Vec<u64> {
    if differing.is_empty() || channels.count > CHANNELS {
        return Vec::new();
    }
    let mut counts = vec![0; channels.count];
    for &index in differing {
        counts[channels.of_index(index)] += 1;
    }
    counts
}

/// Whether a clamp has a part in the difference of an element: one side has the first or the last code of its range, and the
/// other lies more than a step away (next to each other they are rounded codes like any).
pub fn saturation<'a>(
    expected: &'a Tensor,
    got: &'a Tensor,
    lsb: &'a Lsb,
) -> Box<dyn Fn(usize) -> bool + 'a> {
    let small = |grid: &CodeGrid| grid.zero_point.at(0).abs() < 1 << 40;
    if let (Some((a, grid)), Some((b, other))) = (bytes(expected), bytes(got))
        && grid == other
        && lsb.is_of(grid)
        && small(grid)
    {
        // Whole steps apart.
        let last = (grid.max - grid.min) as u8;
        let at_end = move |byte: u8| byte == 0 || byte >= last;
        return Box::new(move |at| a[at].abs_diff(b[at]) > 1 && (at_end(a[at]) || at_end(b[at])));
    }
    Box::new(|at| saturates(expected, got, lsb, at))
}

/// [`saturation`] of any tensors.
fn saturates(expected: &Tensor, got: &Tensor, lsb: &Lsb, index: usize) -> bool {
    let at_end = |tensor: &Tensor| match &tensor.data {
        Data::Codes { codes, grid } => {
            let code = i64::from(codes.at(index));
            code <= grid.min || code >= grid.max
        }
        Data::Real(_) => false,
    };
    let apart = (expected.real_at(index) - got.real_at(index)).abs() / lsb.at(index);
    apart > 1.5 && (at_end(expected) || at_end(got))
}

/// How many of some elements lie beyond the range of a grid, and the furthest of them in words.
pub fn beyond(
    tensor: &Tensor,
    grid: &CodeGrid,
    elements: impl Iterator<Item = usize>,
) -> Option<(u64, String)> {
    let channels = grid.channels(&tensor.shape);
    let code = |index: usize| {
        let c = channels.of_index(index);
        let steps = (tensor.real_at(index) / grid.scale.at(c)).round();
        (steps as i64).saturating_add(grid.zero_point.at(c))
    };
    let distance = |code: i64| {
        let over = code.saturating_sub(grid.max);
        over.max(grid.min.saturating_sub(code))
    };
    let outside: Vec<i64> = elements
        .map(code)
        .filter(|&code| distance(code) > 0)
        .collect();
    let furthest = outside.iter().max_by_key(|&&code| distance(code))?;
    let text = format!(
        "code {furthest} lies outside of {} to {}",
        grid.min, grid.max
    );
    Some((outside.len() as u64, text))
}

/// Codes that are looked at together, so that they are read from memory once.
const CHUNK: usize = 2048;

/// Bytes that are equal, or looked at one by one.
const PIECE: usize = 32;

/// Differing codes of a [`CHUNK`] that are added up one by one.
const FEW: usize = 64;

/// Sums of bytes and of their squares.
#[allow(
    clippy::inline_always,
    reason = "must be compiled with its caller's target features"
)]
#[inline(always)]
fn byte_squares(a: &[u8]) -> Vec<[i64; 2]> {
    let mut all = Vec::with_capacity(a.len().div_ceil(CHUNK));
    for a in a.chunks(CHUNK) {
        let sum = a.iter().map(|&a| u32::from(a)).sum::<u32>();
        all.push([i64::from(sum), products(a, a)]);
    }
    all
}

/// [`code_sums`] of codes that are `first` more than bytes; exact. Sums of the second ones are those of the first ones and
/// what the differences change.
#[allow(
    clippy::inline_always,
    reason = "must be compiled with its caller's target features"
)]
#[inline(always)]
fn byte_sums(
    first: i32,
    (a, squares): (&[u8], &[[i64; 2]]),
    b: &[u8],
    grid: &CodeGrid,
    apart: &mut Apart,
) -> Sums {
    let zero = i128::from(grid.zero_point.at(0)) - i128::from(first);
    let mut sums = Sums::default();
    // By size, in turns: what is added to one counter again and again waits for itself.
    let mut counts = [[0u64; 512]; 2];
    let chunks = a.chunks(CHUNK).zip(b.chunks(CHUNK)).zip(squares);
    for (chunk, ((a, b), &[sum_a, square_a])) in chunks.enumerate() {
        // Of (x - zero) * (y - zero), from the sums of x, y and x * y.
        let about_zero = |x: i64, y: i64, product: i64| {
            let moved = zero * (zero * a.len() as i128 - i128::from(x) - i128::from(y));
            (i128::from(product) + moved) as f64
        };
        let expected = about_zero(sum_a, sum_a, square_a);
        sums.expected += expected;
        let (start, before) = (chunk * CHUNK, apart.differing.len());
        differing_bytes(start, a, b, &mut apart.differing);
        let differing = &apart.differing[before..];
        if differing.is_empty() {
            sums.got += expected;
            sums.product += expected;
            continue;
        }
        for (i, &index) in differing.iter().enumerate() {
            let difference = 256 + usize::from(b[index - start]) - usize::from(a[index - start]);
            counts[i % 2][difference % 512] += 1;
        }
        let [sum_b, square_b, product] = if differing.len() < FEW {
            let mut all = [sum_a, square_a, square_a];
            for &index in differing {
                let [x, y] = [a, b].map(|of| i64::from(of[index - start]));
                all[0] += y - x;
                all[1] += y * y - x * x;
                all[2] += x * (y - x);
            }
            all
        } else {
            // Sums of so few bytes, and of their products, fit 32 bits.
            let sum = b.iter().map(|&b| u32::from(b)).sum::<u32>();
            [i64::from(sum), products(b, b), products(a, b)]
        };
        sums.got += about_zero(sum_b, sum_b, square_b);
        sums.product += about_zero(sum_a, sum_b, product);
        sums.difference += (square_a + square_b - 2 * product) as f64;
    }
    for (difference, (&some, &others)) in counts[0].iter().zip(&counts[1]).enumerate() {
        let count = some + others;
        if count > 0 {
            let difference = difference as i64 - 256;
            apart.largest = apart.largest.max(difference.unsigned_abs() as f64);
            apart.histogram[(difference.clamp(-WIDEST, WIDEST) + WIDEST) as usize] += count;
        }
    }
    scaled(sums, grid)
}

/// The sum of products of bytes of a [`CHUNK`].
#[allow(
    clippy::inline_always,
    reason = "must be compiled with its caller's target features"
)]
#[inline(always)]
fn products(a: &[u8], b: &[u8]) -> i64 {
    // Sums of so few bytes, and of their products, fit 32 bits.
    let products = a.iter().zip(b).map(|(&a, &b)| {
        let (a, b) = (i16::from(a), i16::from(b));
        i32::from(a) * i32::from(b)
    });
    i64::from(products.sum::<i32>())
}

/// Where bytes differ, `start` more than their place.
#[allow(
    clippy::inline_always,
    reason = "must be compiled with its caller's target features"
)]
#[inline(always)]
fn differing_bytes(start: usize, a: &[u8], b: &[u8], differing: &mut Vec<usize>) {
    let mut look = |start: usize, a: &[u8], b: &[u8]| {
        // A bit for each, without a branch that nobody can foresee.
        let bit = |(i, (x, y)): (usize, (&u8, &u8))| u32::from(x != y) << i;
        let bits = a.iter().zip(b).enumerate().map(bit);
        let mut left = bits.fold(0, |all, bit| all | bit);
        while left != 0 {
            differing.push(start + left.trailing_zeros() as usize);
            left &= left - 1;
        }
    };
    // Mostly few differ: pieces are looked at as a whole first.
    let ((pieces, rest), (others, last)) = (a.as_chunks::<PIECE>(), b.as_chunks::<PIECE>());
    for (piece, (a, b)) in pieces.iter().zip(others).enumerate() {
        if a != b {
            look(start + piece * PIECE, a, b);
        }
    }
    look(start + a.len() - rest.len(), rest, last);
}

/// Sums over codes, and which of them differ. Products of codes within 15 bits of zero are exact; wider ones
/// are summed in `f64`.
#[allow(
    clippy::inline_always,
    reason = "must be compiled with its caller's target features"
)]
#[inline(always)]
fn code_sums(a: &[i32], b: &[i32], grid: &CodeGrid, differing: &mut Vec<usize>) -> Sums {
    let zero = grid.zero_point.at(0);
    let mut sums = Sums::default();
    for (chunk, (a, b)) in a.chunks(CHUNK).zip(b.chunks(CHUNK)).enumerate() {
        let equal = a == b;
        if !equal {
            let start = chunk * CHUNK;
            differing.extend((0..a.len()).filter(|&i| a[i] != b[i]).map(|i| start + i));
        }
        // A recording may hold codes that the grid does not.
        let ends = |v: &[i32]| v.iter().fold((0, 0), |(lo, hi), &q| (q.min(lo), q.max(hi)));
        let narrow = |v: &[i32]| {
            let (lo, hi) = ends(v);
            i64::from(lo) - zero > -32_768 && i64::from(hi) - zero < 32_768
        };
        let (expected, got, product) = if narrow(a) && (equal || narrow(b)) {
            let zero = zero as i32;
            let dot = |a: &[i32], b: &[i32]| -> i64 {
                a.iter()
                    .zip(b)
                    .map(|(&a, &b)| i64::from((a - zero) * (b - zero)))
                    .sum()
            };
            let square = dot(a, a);
            let (got, product) = if equal {
                (square, square)
            } else {
                (dot(b, b), dot(a, b))
            };
            (square as f64, got as f64, product as f64)
        } else {
            let dot = |a: &[i32], b: &[i32]| -> f64 {
                let step = |q: i32| (i64::from(q) - zero) as f64;
                a.iter().zip(b).map(|(&a, &b)| step(a) * step(b)).sum()
            };
            (dot(a, a), dot(b, b), dot(a, b))
        };
        sums.expected += expected;
        sums.got += got;
        sums.product += product;
        if !equal {
            let square = |(&a, &b): (&i32, &i32)| {
                let difference = (i64::from(a) - i64::from(b)) as f64;
                difference * difference
            };
            sums.difference += a.iter().zip(b).map(square).sum::<f64>();
        }
    }
    scaled(sums, grid)
}

/// Sums of products of steps as sums of products of reals.
fn scaled(sums: Sums, grid: &CodeGrid) -> Sums {
    let unit = grid.scale.at(0) * grid.scale.at(0);
    Sums {
        expected: sums.expected * unit,
        got: sums.got * unit,
        product: sums.product * unit,
        difference: sums.difference * unit,
    }
}

fn bin(histogram: &mut [u64], difference: f64) {
    let whole = if difference < 0.0 {
        difference.floor()
    } else {
        difference.ceil()
    };
    let lsb = (whole.clamp(f64::from(-BINS), f64::from(BINS)) as i32 + BINS) as usize;
    histogram[lsb] += 1;
}

impl Stats {
    /// Adds the statistics of another sample.
    pub fn merge(&mut self, other: &Self) {
        self.elements += other.elements;
        self.differing += other.differing;
        self.noise += other.noise;
        self.max_lsb = self.max_lsb.max(other.max_lsb);
        self.ties = match (self.ties, other.ties) {
            (Some(a), Some(b)) => Some(a + b),
            // A sample without differences has none, and none that are unknown.
            (a, b) => a.or(b),
        };
        self.saturated += other.saturated;
        if self.channels.is_empty() {
            self.channels.clone_from(&other.channels);
        } else {
            for (sum, more) in self.channels.iter_mut().zip(&other.channels) {
                *sum += more;
            }
        }
        for &(lsb, count) in &other.histogram {
            match self.histogram.binary_search_by_key(&lsb, |e| e.0) {
                Ok(at) => self.histogram[at].1 += count,
                Err(at) => self.histogram.insert(at, (lsb, count)),
            }
        }
        let (a, b) = (&mut self.sums, &other.sums);
        a.expected += b.expected;
        a.got += b.got;
        a.product += b.product;
        a.difference += b.difference;
        self.finish();
    }

    /// Cosine and SQNR from the running sums.
    pub(crate) fn finish(&mut self) {
        let s = self.sums;
        let norm = (s.expected * s.got).sqrt();
        self.cosine = if self.differing == 0 || norm == 0.0 {
            f64::from(u8::from(self.differing == 0))
        } else {
            (s.product / norm).clamp(-1.0, 1.0)
        };
        self.sqnr_db = (self.differing > 0 && s.difference > 0.0 && s.expected > 0.0)
            .then(|| 10.0 * libm::log10(s.expected / s.difference));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Codes on a grid that fits bytes and on one that does not, which has another way to be compared.
    fn tensor(codes: &[i32], max: i64) -> Tensor {
        let grid = CodeGrid {
            scale: PerChannel::uniform(0.125),
            zero_point: PerChannel::uniform(-3),
            min: -128,
            max,
        };
        Tensor::codes(vec![codes.len()], codes.to_vec(), Arc::new(grid))
    }

    #[test]
    fn bytes_are_compared_as_codes_are() {
        let mut state = 1u32;
        let mut random = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % below
        };
        for len in [0, 1, 31, 32, 33, 2047, 2048, 2049, 5000] {
            for one_in in [1, 3, 100, 100_000] {
                let a: Vec<i32> = (0..len).map(|_| random(256) as i32 - 128).collect();
                let other = |&q: &i32| match random(one_in) {
                    0 => random(256) as i32 - 128,
                    _ => q,
                };
                let b: Vec<i32> = a.iter().map(other).collect();
                let lsb = Lsb::unit();
                let [narrow, wide] =
                    [127, 1000].map(|max| compare(&tensor(&a, max), &tensor(&b, max), &lsb));
                assert_eq!(narrow, wide);
            }
        }
    }
}
