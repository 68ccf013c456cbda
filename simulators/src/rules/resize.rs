//! `[ops] resize`: linear resampling of codes over the two spatial axes.

use align_check_graph::{Coordinates, Resize, ResizeAxis};
use align_check_specs::{ResizeRule, Rounding};

use super::Labels;
use crate::num;

/// A resampling of planes `(height, width)`.
#[derive(Debug, Clone)]
pub struct Resampler {
    rule: ResizeRule,
    x: Labels,
    out: Labels,
    from: [usize; 2],
    rows: Vec<Sample>,
    columns: Vec<Sample>,
}

/// Where an output lies between two inputs.
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    low: usize,
    high: usize,
    /// Weight of `high` in the rule's fixed point.
    fixed: i64,
    /// The same as a real.
    real: f32,
}

impl Resampler {
    /// Binds the rule to a resampling of the last two axes of `shape`. `None`: not a rule of codes, or not
    /// such a resampling; different grids.
    pub fn new(
        rule: ResizeRule,
        resize: &Resize,
        shape: [usize; 2],
        [x, out]: [Labels; 2],
    ) -> Option<Self> {
        let (outer, inner) = resize
            .axes
            .split_at_checked(resize.axes.len().checked_sub(2)?)?;
        let moved = outer.iter().any(|axis| *axis != ResizeAxis::Copy);
        if matches!(rule, ResizeRule::Exact | ResizeRule::F32) || moved || x.scale != out.scale {
            return None;
        }
        let coordinates = resize.coordinates?;
        let mut samples = inner.iter().zip(shape).map(|(axis, from)| {
            let to = match axis {
                ResizeAxis::Copy => from,
                ResizeAxis::Linear(table) => table.len(),
                ResizeAxis::Nearest(_) => return None,
            };
            let own = |i: usize| match rule {
                ResizeRule::Q10HalfAway => sample_q10(coordinates, from, to, i),
                ResizeRule::Q11HalfUp => sample_q11(coordinates, from, to, i),
                _ => sample_real(coordinates, from, to, i),
            };
            Some((0..to).map(own).collect::<Vec<_>>())
        });
        let (rows, columns) = (samples.next()??, samples.next()??);
        drop(samples);
        Some(Self {
            rule,
            x,
            out,
            from: shape,
            rows,
            columns,
        })
    }

    /// Stored codes of every plane.
    pub fn codes(&self, codes: &[i32]) -> Vec<i32> {
        let plane = self.from[0] * self.from[1];
        let mut out = Vec::new();
        for plane in codes.chunks_exact(plane.max(1)) {
            let at = |y: usize, x: usize| self.x.raw(plane[y * self.from[1] + x]);
            for y in &self.rows {
                for x in &self.columns {
                    let corners = [
                        at(y.low, x.low),
                        at(y.low, x.high),
                        at(y.high, x.low),
                        at(y.high, x.high),
                    ];
                    out.push(self.out.store(self.between(corners, y, x)));
                }
            }
        }
        out
    }

    fn between(&self, [a, b, c, d]: [i64; 4], y: &Sample, x: &Sample) -> i64 {
        match self.rule {
            // tflite/kernels/internal/reference/resize_bilinear.h ResizeBilinearInteger
            ResizeRule::Q10HalfAway => {
                let (fy, fx) = (y.fixed, x.fixed);
                let sum = a * (1024 - fy) * (1024 - fx)
                    + c * fy * (1024 - fx)
                    + b * (1024 - fy) * fx
                    + d * fy * fx;
                let half = if sum > 0 { 1 << 19 } else { -(1 << 19) };
                (sum + half) / (1 << 20)
            }
            ResizeRule::Q11HalfUp => {
                let top = (a << 11) + x.fixed * (b - a);
                let bottom = (c << 11) + x.fixed * (d - c);
                let sum = (top << 11) + y.fixed * (bottom - top);
                (sum + (1 << 21)) >> 22
            }
            rule => {
                let [a, b, c, d] = [a, b, c, d].map(|code| code as f32);
                let (ry, rx) = (1.0 - y.real, 1.0 - x.real);
                // tflite/kernels/internal/reference/resize_bilinear.h, optimized/optimized_ops.h
                let sum = if rule == ResizeRule::F32Truncated {
                    a * ry * rx + c * y.real * rx + b * ry * x.real + d * y.real * x.real
                } else {
                    a * (ry * rx) + b * (ry * x.real) + c * (y.real * rx) + d * (y.real * x.real)
                };
                num::round_f32(sum + 0.5, Rounding::Trunc) as i64
            }
        }
    }
}

/// Positions with 10 fractional bits, in integers.
fn sample_q10(coordinates: Coordinates, from: usize, to: usize, i: usize) -> Sample {
    let (n, m, i) = (from as i64, to as i64, i as i64);
    let scale = if coordinates == Coordinates::AlignCorners && m > 1 {
        (1024 * (n - 1) + (m - 1) / 2) / (m - 1)
    } else {
        (1024 * n + m / 2) / m
    };
    let position = if coordinates == Coordinates::HalfPixel {
        i * scale + scale / 2 - 512
    } else {
        i * scale
    };
    let low = (position / 1024).max(0);
    let high = ((position + 1023) / 1024).min(n - 1);
    Sample {
        low: low.min(n - 1) as usize,
        high: high.max(0) as usize,
        fixed: position - 1024 * low,
        real: 0.0,
    }
}

/// Positions in `f32`, weights with 11 fractional bits (XNNPACK `src/indirection.c`).
fn sample_q11(coordinates: Coordinates, from: usize, to: usize, i: usize) -> Sample {
    let less = usize::from(coordinates == Coordinates::AlignCorners && to != 1);
    let scale = (from - less) as f32 / (to - less) as f32;
    let mut position = i as f32 * scale;
    if coordinates == Coordinates::HalfPixel {
        position = (position + (0.5 * scale - 0.5)).max(0.0);
    }
    let position = position.min((from - 1) as f32);
    let low = position as usize;
    Sample {
        low,
        high: (low + 1).min(from - 1),
        fixed: num::round_f32((position - low as f32) * 2048.0, Rounding::HalfEven) as i64,
        real: 0.0,
    }
}

/// Positions and weights in `f32`.
fn sample_real(coordinates: Coordinates, from: usize, to: usize, i: usize) -> Sample {
    let scale = if coordinates == Coordinates::AlignCorners && to > 1 {
        (from - 1) as f32 / (to - 1) as f32
    } else {
        from as f32 / to as f32
    };
    let position = if coordinates == Coordinates::HalfPixel {
        (i as f32 + 0.5) * scale - 0.5
    } else {
        i as f32 * scale
    };
    let low = (position.floor().max(0.0) as usize).min(from - 1);
    Sample {
        low,
        high: (position.ceil().max(0.0) as usize).min(from - 1),
        fixed: 0,
        real: position - low as f32,
    }
}
