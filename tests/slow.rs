//! Slow definitions of the arithmetic steps, written from the vendors' formulas and from nothing else.
//!
//! Integers are `i128`; where a vendor computes in `f32`, each `f32` operation is one statement here.

/// `frexp`: a mantissa in `[0.5, 1)` and an exponent.
pub fn frexp(x: f64) -> (f64, i32) {
    let (mut mantissa, mut exponent) = (x, 0);
    while mantissa >= 1.0 {
        mantissa /= 2.0;
        exponent += 1;
    }
    while mantissa < 0.5 {
        mantissa *= 2.0;
        exponent -= 1;
    }
    (mantissa, exponent)
}

/// `2^n` for any integer.
pub fn exp2(n: i32) -> f64 {
    let two = if n < 0 { 0.5 } else { 2.0 };
    (0..n.abs()).fold(1.0, |power, _| power * two)
}

/// `a * b + c` with one rounding to `f32`, of finite numbers: in integers.
pub fn fma(a: f32, b: f32, c: f32) -> f32 {
    let parts = |x: f32| {
        let (bits, sign) = (x.to_bits(), if x < 0.0 { -1 } else { 1 });
        let fraction = i128::from(bits & 0x7f_ffff);
        match (bits >> 23) & 0xff {
            0 => (sign * fraction, -149),
            exponent => (sign * (fraction | 1 << 23), exponent as i32 - 150),
        }
    };
    let ((ma, ea), (mb, eb), (mc, ec)) = (parts(a), parts(b), parts(c));
    let (mp, ep) = (ma * mb, ea + eb);
    if mp == 0 || mc == 0 {
        return if mp == 0 { c } else { nearest(mp, ep) };
    }
    // Further down, a number only says on which side of a tie the sum lies.
    let low = ep.min(ec).max(ep.max(ec) - 70);
    let at = |m: i128, e: i32| if e < low { m.signum() } else { m << (e - low) };
    nearest(at(mp, ep) + at(mc, ec), low)
}

/// The nearest `f32` to `m * 2^e`, ties to even.
fn nearest(m: i128, e: i32) -> f32 {
    let bits = 128 - m.unsigned_abs().leading_zeros() as i32;
    let drop = (bits - 24).max(-149 - e).max(0);
    let (kept, rest) = (m.abs() >> drop, m.abs() & ((1 << drop) - 1));
    let half = (1 << drop) >> 1;
    let up = drop > 0 && (rest > half || (rest == half && kept % 2 == 1));
    let rounded = (kept + i128::from(up)) as f64 * exp2(e + drop);
    (if m < 0 { -rounded } else { rounded }) as f32
}

/// C's `round`: nearest, ties away from zero. Exact below 2^52.
pub fn half_away(x: f64) -> i128 {
    let whole = x.trunc();
    let rest = (x - whole).abs();
    let step = if x < 0.0 { -1 } else { 1 };
    whole as i128 + if rest >= 0.5 { step } else { 0 }
}

/// Nearest, ties to even.
pub fn half_even(x: f64) -> i128 {
    let below = x.floor();
    let rest = x - below;
    let below = below as i128;
    if rest > 0.5 || (rest == 0.5 && below % 2 != 0) {
        below + 1
    } else {
        below
    }
}

/// `floor(n / d + 1/2)` of integers.
pub fn half_up_div(n: i128, d: i128) -> i128 {
    (2 * n + d).div_euclid(2 * d)
}

/// Into the range of a signed integer of so many bits.
pub fn saturate(x: i128, bits: u32) -> i128 {
    x.clamp(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
}

/// `TFLite`: `QuantizeMultiplier`, a Q31 mantissa and a left shift.
pub fn quantize_multiplier(m: f64) -> (i128, i32) {
    if m == 0.0 {
        return (0, 0);
    }
    let (q, mut s) = frexp(m);
    let mut fixed = half_away(q * exp2(31));
    if fixed == 1 << 31 {
        fixed = 1 << 30;
        s += 1;
    }
    if s < -31 { (0, 0) } else { (fixed, s) }
}

/// gemmlowp: `SaturatingRoundingDoublingHighMul`, with C's truncating division.
pub fn srdhm(a: i128, b: i128) -> i128 {
    let min = -(1i128 << 31);
    if a == min && b == min {
        return (1 << 31) - 1;
    }
    let product = a * b;
    let nudge = if product >= 0 { 1 << 30 } else { 1 - (1 << 30) };
    (product + nudge) / (1 << 31)
}

/// gemmlowp: `RoundingDivideByPOT`.
pub fn rdpot(x: i128, exponent: u32) -> i128 {
    let mask = (1i128 << exponent) - 1;
    let threshold = (mask >> 1) + i128::from(x < 0);
    (x >> exponent) + i128::from(x & mask > threshold)
}

/// `TFLite`: `MultiplyByQuantizedMultiplier` with double rounding.
pub fn mbqm(x: i128, (q, s): (i128, i32)) -> i128 {
    let left = s.max(0) as u32;
    let right = (-s).max(0) as u32;
    rdpot(srdhm(x << left, q), right)
}
