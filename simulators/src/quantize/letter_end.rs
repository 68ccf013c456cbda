//! The model's own quantizer behind integer sums, to the letter, at the speed of `f32`.

use align_check_graph::{Affine, Rounding};

use super::affine;
use crate::kernels::{Isa, vectorize};
use crate::rules::requantize::{Kept, round_to_i32};

/// Sums that are quantized together.
const BLOCK: usize = 64;

/// The model's quantizer behind a sum of one channel: the real `sum * m + b` in `f64`, clamped, then the quantizer's own
/// operations in `f32`.
#[derive(Clone, Copy, Debug)]
pub struct LetterEnd {
    /// What a unit of the sum is worth.
    m: f64,
    /// What is added to it.
    b: f64,
    /// Bounds of the real.
    clamp: (f64, f64),
    scale: f32,
    /// Zero point inside of the rounding.
    inside: f32,
    bounds: (f32, f32),
    /// Zero point outside of it.
    outside: i32,
}

/// The same with one product and one sum, and how far that may be off.
#[derive(Clone, Copy)]
struct Near {
    m: f32,
    b: f32,
    lo: f32,
    hi: f32,
    /// Half a step less what the terms that are the same for all sums may be off: as far as the rest may be from the
    /// nearest code.
    enough: f32,
}

/// Fourteen halves of the last place of `f32`.
///
/// With `u = 2^-24`, `S = |sum * m|`, and everything in steps of the output: the short form rounds the sum, its factor,
/// their product, the offset and the result, `3 S + |b| + |t|` times `u`; the definition rounds the real, the quotient
/// and the sum with the zero point, `2 |v| + |y|` times `u`, and its `f64` part vanishes beside that; a bound is rounded
/// twice in each. As `S <= |t| + |b|` and `|v| <= |t| + |inside|` to first order, both are less than
/// `u * (7 |t| + 4 |b| + 2 |inside| + 4 |bound|)` apart. Rounding and clamping keep an order: where the clamped short form
/// lies further than that from every tie, both give the same code. The remaining two halves are for looking: a distance of
/// at most one half, its product and the two sums around it are rounded to `3 / 2 u` at most, and one of the terms is 1.
const NEAR: f32 = 14.0 / 16_777_216.0;

impl LetterEnd {
    /// Of a [plain](is_plain) quantizer; `clamp` are reals.
    pub fn new(a: &Affine, clamp: (f64, f64)) -> Self {
        let channel = affine::Channel::new(a, a.scale.at(0), a.zero_point.at(0));
        Self {
            m: 1.0,
            b: 0.0,
            clamp,
            scale: channel.scale,
            inside: channel.inside,
            bounds: channel.bounds(),
            outside: channel.outside() as i32,
        }
    }

    /// The same behind `sum * m + b`.
    #[must_use]
    pub fn of_sum(self, m: f64, b: f64) -> Self {
        Self { m, b, ..self }
    }

    /// The code of a real.
    #[allow(
        clippy::inline_always,
        reason = "must be compiled with its caller's target features"
    )]
    #[inline(always)]
    pub fn code(self, real: f64) -> i32 {
        let ((lo, hi), (min, max)) = (self.clamp, self.bounds);
        let y = real.max(lo).min(hi) as f32 / self.scale + self.inside;
        round_to_i32(y.min(max).max(min)).wrapping_add(self.outside)
    }

    /// The codes of sums; each less `first` where it is kept as a byte.
    pub fn codes<T: Kept>(self, isa: Isa, sums: &[i32], first: i32, out: &mut [T]) {
        let near = self.near();
        vectorize(
            isa,
            // Everything by value: what is read through a reference is read again for each element.
            #[inline(always)]
            move || {
                in_blocks(
                    sums,
                    out,
                    #[inline(always)]
                    |_, sums, out| {
                        let told = near.is_some_and(
                            #[inline(always)]
                            |near| near.codes(sums, self.outside, first, out) < near.enough,
                        );
                        if !told {
                            self.exact(sums, first, out);
                        }
                    },
                );
            },
        );
    }

    /// [`codes`](Self::codes), and which of the sums lie near a tie, ascending: all that are no more than `within` of them
    /// away, and more.
    pub fn watched<T: Kept>(
        self,
        isa: Isa,
        sums: &[i32],
        first: i32,
        out: &mut [T],
        within: u32,
        found: &mut Vec<usize>,
    ) {
        let Some(near) = self.near() else {
            found.extend(0..sums.len());
            return self.codes(isa, sums, first, out);
        };
        let far = near.enough - within as f32 * near.m.abs();
        let len = sums.len();
        vectorize(
            isa,
            #[inline(always)]
            move || {
                in_blocks(
                    sums,
                    out,
                    #[inline(always)]
                    |start, sums, out| {
                        let worst = near.codes(sums, self.outside, first, out);
                        if worst < far {
                            return;
                        }
                        let mut flags = [0u8; BLOCK];
                        for (flag, &sum) in flags.iter_mut().zip(sums) {
                            *flag = u8::from(near.off(sum).1 >= far);
                        }
                        // Few are near: eight are passed over at a time.
                        for (eight, flags) in flags.as_chunks::<8>().0.iter().enumerate() {
                            let mut left = u64::from_le_bytes(*flags);
                            while left != 0 {
                                let at = start + eight * 8 + left.trailing_zeros() as usize / 8;
                                if at < len {
                                    found.push(at);
                                }
                                left &= left - 1;
                            }
                        }
                        if worst >= near.enough {
                            self.exact(sums, first, out);
                        }
                    },
                );
            },
        );
    }

    #[allow(
        clippy::inline_always,
        reason = "must be compiled with its caller's target features"
    )]
    #[inline(always)]
    fn exact<T: Kept>(self, sums: &[i32], first: i32, out: &mut [T]) {
        for (out, &sum) in out.iter_mut().zip(sums) {
            *out = T::keep(self.code(f64::from(sum) * self.m + self.b), first);
        }
    }

    /// `None` where a number is no ordinary one.
    fn near(self) -> Option<Near> {
        let (scale, inside) = (f64::from(self.scale), f64::from(self.inside));
        let in_steps = |real: f64| (real / scale + inside) as f32;
        let (min, max) = self.bounds;
        let near = Near {
            m: (self.m / scale) as f32,
            b: in_steps(self.b),
            lo: in_steps(self.clamp.0).max(min).min(max),
            hi: in_steps(self.clamp.1).min(max).max(min),
            enough: 0.0,
        };
        let ends = near.lo.abs().max(near.hi.abs());
        let terms = near.b.abs() + self.inside.abs() + ends + 1.0;
        let ordinary = near.m.is_normal()
            && near.b.abs() < 1e6
            && self.inside.abs() < 1e6
            && ends < 1e6
            && near.lo <= near.hi
            && self.clamp.0 <= self.clamp.1
            && scale > 1e-30
            && self.m.is_normal();
        ordinary.then_some(Near {
            enough: 0.5 - terms * NEAR,
            ..near
        })
    }
}

impl Near {
    /// The codes of a block, and how far at most one of them may lie from the nearest: from [`enough`](Self::enough) on they
    /// are not told.
    #[allow(
        clippy::inline_always,
        reason = "must be compiled with its caller's target features"
    )]
    #[inline(always)]
    fn codes<T: Kept>(
        self,
        sums: &[i32; BLOCK],
        outside: i32,
        first: i32,
        out: &mut [T; BLOCK],
    ) -> f32 {
        let mut codes = [0; BLOCK];
        // Of numbers that are not negative, bits have the same order.
        let mut worst = 0i32;
        for (code, &sum) in codes.iter_mut().zip(sums) {
            let (rounded, off) = self.off(sum);
            worst = worst.max(off.to_bits().cast_signed());
            *code = rounded.wrapping_add(outside);
        }
        for (out, code) in out.iter_mut().zip(codes) {
            *out = T::keep(code, first);
        }
        f32::from_bits(worst.cast_unsigned())
    }

    /// A sum in steps, rounded, and how far it may lie from that.
    #[allow(
        clippy::inline_always,
        reason = "must be compiled with its caller's target features"
    )]
    #[inline(always)]
    fn off(self, sum: i32) -> (i32, f32) {
        let t = sum as f32 * self.m + self.b;
        let y = if t > self.lo { t } else { self.lo };
        let y = if y < self.hi { y } else { self.hi };
        let rounded = round_to_i32(y);
        (rounded, (y - rounded as f32).abs() + t.abs() * NEAR)
    }
}

/// Sums in blocks, from the first of each on: what is left of them in one that is filled up.
#[allow(
    clippy::inline_always,
    reason = "must be compiled with its caller's target features"
)]
#[inline(always)]
fn in_blocks<T: Kept>(
    sums: &[i32],
    out: &mut [T],
    mut block: impl FnMut(usize, &[i32; BLOCK], &mut [T; BLOCK]),
) {
    let (blocks, rest) = sums.as_chunks::<BLOCK>();
    let (outs, last) = out.as_chunks_mut::<BLOCK>();
    for (index, (sums, out)) in blocks.iter().zip(outs).enumerate() {
        block(index * BLOCK, sums, out);
    }
    if let (Some(&sum), Some(&code)) = (rest.first(), last.first()) {
        let (mut filled, mut codes) = ([sum; BLOCK], [code; BLOCK]);
        filled[..rest.len()].copy_from_slice(rest);
        block(blocks.len() * BLOCK, &filled, &mut codes);
        last.copy_from_slice(&codes[..last.len()]);
    }
}

/// Whether a quantizer rounds half to even, and neither multiplies nor has two codes only.
pub fn is_plain(a: &Affine) -> bool {
    a.rounding == Rounding::HalfEven && !a.is_bipolar() && a.multiplier.is_none()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Ends with scales between the usual, ties included: with powers of two nearly everything is one.
    fn ends() -> impl Strategy<Value = LetterEnd> {
        let m = prop_oneof![
            1e-6..1e-1f64,
            (-12..-2i32).prop_map(|e| f64::from(e).exp2())
        ];
        let scale = prop_oneof![1e-3..1f32, (-8..0i32).prop_map(|e| (e as f32).exp2())];
        let clamp = prop_oneof![
            Just((f64::NEG_INFINITY, f64::INFINITY)),
            Just((0.0, f64::INFINITY)),
            Just((0.0, 6.0)),
        ];
        let b = prop_oneof![Just(0.0), -100.0..100.0f64];
        (m, b, clamp, scale, -130..130i32, any::<bool>()).prop_map(
            |(m, b, clamp, scale, zero, inside)| LetterEnd {
                m,
                b,
                clamp,
                scale,
                inside: if inside { zero as f32 } else { 0.0 },
                bounds: (-128.0, 127.0),
                outside: if inside { 0 } else { zero },
            },
        )
    }

    proptest! {
        /// Sums around every tie, and anywhere, in slices of any length.
        #[test]
        fn blocks_are_the_definition(
            end in ends(),
            seeds in prop::collection::vec((any::<i32>(), 0..32u32, -200..200i32), 0..140),
        ) {
            let sum = |(i, &(any, shift, code)): (usize, &(i32, u32, i32))| {
                if i % 2 == 0 {
                    return any >> shift;
                }
                // The sum whose real is nearest to half a step above a code.
                let tie = (f64::from(code) + 0.5 - f64::from(end.inside)) * f64::from(end.scale);
                ((tie - end.b) / end.m).round() as i32
            };
            let sums: Vec<i32> = seeds.iter().enumerate().map(sum).collect();
            let expected: Vec<i32> =
                sums.iter().map(|&s| end.code(f64::from(s) * end.m + end.b)).collect();
            for isa in Isa::available() {
                let mut codes = vec![0i32; sums.len()];
                end.codes(isa, &sums, 0, &mut codes);
                prop_assert_eq!(&codes, &expected);
            }
        }
    }
}
