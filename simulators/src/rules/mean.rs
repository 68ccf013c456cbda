//! `f32-mean` and its kin: integer sums times the `f32` reciprocal of the count, on the grid that they came from.

use align_check_specs::{AverageRule, Rounding};

use super::Labels;
use crate::num::Trace;
use crate::num::trace::short;

/// The stored code of a mean of `n` codes whose distances from the zero point add up to `sum`.
pub fn code(rule: AverageRule, sum: i64, n: i64, out: Labels, trace: &mut Trace) -> i32 {
    let inverse = trace.step("reciprocal", || format!("1 / {n}"), 1.0 / n as f32);
    let how = || format!("{sum} * reciprocal");
    let mean = trace.step("mean", how, sum as f32 * inverse);
    let zero = out.zero_point as f32;
    let raw = if rule == AverageRule::F32MeanInside {
        let how = || format!("{} + {zero}", short(mean));
        let v = trace.step("with zero point", how, mean + zero);
        trace.round_f32(v, Rounding::HalfEven)
    } else {
        let v = trace.round_f32(mean, Rounding::HalfEven);
        trace.step("with zero point", || format!("{v} + {zero}"), v + zero)
    };
    out.stored(raw as i64, trace)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts that are powers of two are exact: the rounding and the place of the zero point alone decide.
    #[test]
    fn ties_follow_the_zero_point() {
        for zero_point in [0, 7, 77, 128] {
            let out = Labels {
                scale: 0.25,
                zero_point,
                min: 0,
                max: 255,
                relabel: 0,
            };
            for sum in -2000..2000i64 {
                let (whole, rest) = (sum.div_euclid(4), sum.rem_euclid(4));
                let nearest = |odd: bool| match rest {
                    0 | 1 => whole,
                    2 => whole + i64::from(odd),
                    _ => whole + 1,
                };
                let after = nearest(whole % 2 != 0) + zero_point;
                let inside = nearest((whole + zero_point) % 2 != 0) + zero_point;
                for (rule, raw) in [
                    (AverageRule::F32Mean, after),
                    (AverageRule::F32MeanKernel, after),
                    (AverageRule::F32MeanInside, inside),
                ] {
                    let wanted = raw.clamp(0, 255);
                    assert_eq!(
                        i64::from(code(rule, sum, 4, out, &mut Trace::off())),
                        wanted,
                        "{rule:?} {sum}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_reciprocal_is_rounded() {
        let out = Labels {
            scale: 1.0,
            zero_point: 0,
            min: 0,
            max: 255,
            relabel: 0,
        };
        // 91 / 14 is a tie, 91 * f32(1 / 14) lies above it.
        assert_eq!(
            code(AverageRule::F32Mean, 91, 14, out, &mut Trace::off()),
            7
        );
    }
}
