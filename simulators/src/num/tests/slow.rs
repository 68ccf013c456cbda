//! Rounding of rationals, written from the definitions by name: nothing here looks at dropped bits.

use align_check_specs::Rounding;

fn floor(n: i128, d: i128) -> i128 {
    if n >= 0 { n / d } else { -((d - 1 - n) / d) }
}

fn ceil(n: i128, d: i128) -> i128 {
    -floor(-n, d)
}

/// The integers nearest to `n / d`: two where it is a tie.
fn nearest(n: i128, d: i128) -> (i128, i128) {
    (ceil(2 * n - d, 2 * d), floor(2 * n + d, 2 * d))
}

/// Whether `n / d` lies half way between two integers.
pub fn is_tie(n: i128, d: i128) -> bool {
    let (down, up) = nearest(n, d);
    down != up
}

/// `n / d` rounded; `2 |n| + d` must fit.
pub fn round(n: i128, d: i128, r: Rounding) -> i128 {
    let (down, up) = nearest(n, d);
    let even = if down % 2 == 0 { down } else { up };
    match r {
        Rounding::HalfUp => up,
        Rounding::HalfDown => down,
        Rounding::HalfEven => even,
        Rounding::HalfAway => n.signum() * nearest(n.abs(), d).1,
        Rounding::HalfTowardZero => n.signum() * nearest(n.abs(), d).0,
        Rounding::HalfUpIfNegativeElseHalfEven => {
            if n < 0 {
                up
            } else {
                even
            }
        }
        Rounding::Floor => floor(n, d),
        Rounding::Ceil => ceil(n, d),
        Rounding::Trunc => n / d,
        Rounding::Away => n.signum() * ceil(n.abs(), d),
    }
}
