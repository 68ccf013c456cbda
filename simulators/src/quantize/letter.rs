//! Rounding as QONNX's executor does it: numpy's functions on `f32`, formula by formula.
//!
//! These are *not* the exact roundings of [`num`](crate::num) in two of its modes:
//! `HALF_UP` is `sign(x) * floor(|x| + 0.5)` and `HALF_DOWN` is `sign(x) * ceil(|x| - 0.5)`, and both
//! sums round. So `HALF_UP` sends 0.49999997 to 1 and 8388609 to 8388610. A model's codes contain that.
//!
//! Source: qonnx 1.0.0 `custom_op/general/intquant.py` (`resolve_rounding_mode`).

use align_check_graph::Rounding;

/// A rounding mode's name, as specs write it: `HalfEven` is `half-even`.
pub fn name(rounding: Rounding) -> String {
    let mut name = String::new();
    for letter in format!("{rounding:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.extend(letter.to_lowercase());
    }
    name
}

/// From here on every `f32` is an integer.
const INTEGERS: f32 = 8_388_608.0;

/// Nearest, ties to even, sign of zero kept (`np.round`).
///
/// Two additions instead of `round_ties_even`, which is a function call per element unless the build
/// targets SSE4.1; these vectorize on every x86-64 and every `AArch64`.
#[inline]
fn rint(x: f32) -> f32 {
    let magnitude = x.abs();
    // Between 2^23 and 2^24 the last bit is the unit: the addition rounds, half to even.
    let rounded = (magnitude + INTEGERS) - INTEGERS;
    // NaN and big numbers stay themselves.
    (if magnitude < INTEGERS {
        rounded
    } else {
        magnitude
    })
    .copysign(x)
}

#[inline]
fn floor(x: f32) -> f32 {
    let nearest = rint(x);
    if nearest > x { nearest - 1.0 } else { nearest }
}

#[inline]
fn ceil(x: f32) -> f32 {
    -floor(-x)
}

/// Nearest, ties toward plus infinity. The difference is exact, so no sum rounds.
#[inline]
fn half_up(x: f32) -> f32 {
    let below = floor(x);
    if x - below >= 0.5 { below + 1.0 } else { below }
}

/// `np.sign`: a zero has none, NaN stays.
#[inline]
fn sign(x: f32) -> f32 {
    if x > 0.0 {
        1.0
    } else if x < 0.0 {
        -1.0
    } else if x == 0.0 {
        0.0
    } else {
        x
    }
}

/// Rounds as the model file's mode says.
#[inline]
pub fn round(x: f32, r: Rounding) -> f32 {
    match r {
        Rounding::HalfEven => rint(x),
        Rounding::HalfAway => sign(x) * floor(x.abs() + 0.5),
        Rounding::HalfTowardZero => sign(x) * ceil(x.abs() - 0.5),
        Rounding::Floor => floor(x),
        Rounding::Ceil => ceil(x),
        Rounding::TowardZero => floor(x.abs()).copysign(x),
        Rounding::AwayFromZero => sign(x) * ceil(x.abs()),
        Rounding::HalfUp => half_up(x),
        Rounding::HalfEvenNegativeUp => {
            if x < 0.0 {
                half_up(x)
            } else {
                rint(x)
            }
        }
    }
}

/// Evaluates an expression once per mode, with `$round` a rounding whose mode is a constant: loops in
/// it are compiled (and vectorized) for each mode.
macro_rules! specialized {
    ($rounding:expr, $round:ident => $body:expr) => {
        specialized!(@ $rounding, $round, $body,
            HalfEven HalfAway HalfTowardZero Floor Ceil TowardZero AwayFromZero HalfUp HalfEvenNegativeUp)
    };
    (@ $rounding:expr, $round:ident, $body:expr, $($mode:ident)*) => {
        match $rounding {
            $(align_check_graph::Rounding::$mode => {
                let $round =
                    |y: f32| $crate::quantize::letter::round(y, align_check_graph::Rounding::$mode);
                $body
            })*
        }
    };
}
pub(super) use specialized;
