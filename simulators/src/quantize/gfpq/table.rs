//! The logarithmic quantizer as a table: no logarithm per element.
//!
//! With a fixed `z` the quantizer is a step function of the magnitude. Its steps are found once, by asking
//! the definition; a lookup then takes the top bits of the `f32`, which cut each octave into twice as many
//! equal pieces as there are levels. A piece is narrower than the narrowest step (a factor of
//! `2^(1/S)`), so it holds at most one boundary, and one comparison settles it.

use align_check_specs::Threshold;

use super::{Code, Gfpq};

/// A [`Gfpq`] at a fixed `z`.
#[derive(Debug, Clone)]
pub struct Table {
    positive: Side,
    negative: Side,
    gfpq: Gfpq,
    z: i32,
    /// The one magnitude that passes through unquantized; NaN, which equals nothing, without one.
    unquantized: f32,
}

#[derive(Debug, Clone)]
struct Side {
    /// Bits of the `f32` below a piece's index.
    shift: u32,
    /// Index of the first piece. It lies in the zero zone, the last one at the top level.
    first: u32,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, Copy)]
struct Piece {
    boundary: f32,
    below: f32,
    from: f32,
}

impl Table {
    /// Tabulates; `None` where `|z|` exceeds what the library computes itself.
    pub fn new(gfpq: Gfpq, z: i32) -> Option<Self> {
        if z.abs() > gfpq.max_z() {
            return None;
        }
        let threshold = gfpq.zero_threshold(z, false) as f32;
        let passes = gfpq.threshold == Threshold::Unquantized
            && f64::from(threshold) == gfpq.zero_threshold(z, false);
        Some(Self {
            positive: Side::new(&gfpq, z, false),
            negative: Side::new(&gfpq, z, true),
            gfpq,
            z,
            unquantized: if passes { threshold } else { f32::NAN },
        })
    }

    /// [`Gfpq::apply`] at this table's `z`.
    #[inline]
    pub fn apply(&self, x: f32) -> f32 {
        if !x.is_finite() || x == self.unquantized {
            return self.gfpq.apply(x, self.z);
        }
        let side = if x < 0.0 {
            &self.negative
        } else {
            &self.positive
        };
        side.level(x.abs())
    }

    /// [`apply`](Self::apply) to every element, in place.
    pub fn apply_slice(&self, data: &mut [f32]) {
        for x in data {
            *x = self.apply(*x);
        }
    }
}

impl Side {
    fn new(gfpq: &Gfpq, z: i32, negative: bool) -> Self {
        let steps = gfpq.steps_per_octave();
        // 2 * steps pieces an octave.
        let shift = 23 - (steps.ilog2() + 1);
        let boundaries = boundaries(gfpq, z, negative);
        let first = (boundaries[0].0.to_bits() >> shift) - 1;
        let last = (boundaries[boundaries.len() - 1].0.to_bits() >> shift) + 1;
        let mut current = 0.0;
        let mut rest = boundaries.into_iter().peekable();
        let pieces = (first..=last)
            .map(|index| {
                let inside = rest.next_if(|(boundary, _)| boundary.to_bits() >> shift == index);
                let below = current;
                let boundary = inside.map_or(f32::INFINITY, |(boundary, level)| {
                    current = level;
                    boundary
                });
                Piece {
                    boundary,
                    below,
                    from: current,
                }
            })
            .collect();
        assert!(
            rest.peek().is_none(),
            "two boundaries of the logarithmic grid in one piece"
        );
        Self {
            shift,
            first,
            pieces,
        }
    }

    #[inline]
    fn level(&self, magnitude: f32) -> f32 {
        let index = (magnitude.to_bits() >> self.shift).saturating_sub(self.first) as usize;
        let piece = self.pieces[index.min(self.pieces.len() - 1)];
        if magnitude >= piece.boundary {
            piece.from
        } else {
            piece.below
        }
    }
}

/// For each level in ascending order of magnitude: the smallest magnitude that becomes it, and its value.
fn boundaries(gfpq: &Gfpq, z: i32, negative: bool) -> Vec<(f32, f32)> {
    let sign = if negative { -1.0 } else { 1.0 };
    let least = i32::from(negative);
    let level = |magnitude: f32| match gfpq.code(sign * magnitude, z) {
        Code::Zero => -1,
        Code::Positive(k) | Code::Negative(k) => k,
    };
    (least..=gfpq.max_code())
        .map(|k| {
            // The formula's own boundary, then to the exact neighbour by asking the definition.
            let mut boundary = if k == least {
                gfpq.zero_threshold(z, negative) as f32
            } else {
                let position = f64::from(k + z) - 0.5;
                libm::exp2(position / f64::from(gfpq.steps_per_octave())) as f32
            };
            while level(boundary) >= k {
                boundary = boundary.next_down();
            }
            while level(boundary) < k {
                boundary = boundary.next_up();
            }
            (boundary, gfpq.grid_value(k, z, negative))
        })
        .collect()
}
