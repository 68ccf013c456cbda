//! A target's rules, bound to the scales of one layer.

pub mod average;
pub mod elementwise;
pub mod real;
pub mod requantize;
pub mod softmax;
pub mod thresholds;
pub mod unary;

use std::sync::Arc;

use crate::quantize::CodeGrid;

/// A uniform grid, with the target's own labels of its codes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Labels {
    /// Step.
    pub scale: f64,
    /// Zero point in the target's label.
    pub zero_point: i64,
    /// Smallest code in the target's label.
    pub min: i64,
    /// Largest code in the target's label.
    pub max: i64,
    /// Target's label less the model's.
    pub relabel: i64,
}

impl Labels {
    /// The labels of a grid; `None` where it has several scales or zero points.
    pub fn of(grid: &Arc<CodeGrid>, relabel: i64) -> Option<Self> {
        grid.is_uniform()
            .then(|| Self::of_channel(grid, relabel, 0))
    }

    /// The labels of one channel of a grid.
    pub fn of_channel(grid: &CodeGrid, relabel: i64, channel: usize) -> Self {
        Self {
            scale: grid.scale.at(channel),
            zero_point: grid.zero_point.at(channel) + relabel,
            min: grid.min + relabel,
            max: grid.max + relabel,
            relabel,
        }
    }

    /// A stored code in the target's label.
    pub fn raw(&self, code: i32) -> i64 {
        i64::from(code) + self.relabel
    }

    /// A stored code less the zero point.
    pub fn steps(&self, code: i32) -> i64 {
        self.raw(code) - self.zero_point
    }

    /// Clamps a code in the target's label and gives it the stored label.
    pub fn store(&self, raw: i64) -> i32 {
        (raw.clamp(self.min, self.max) - self.relabel) as i32
    }

    /// `f32` of the step: scales are `f32` on every target.
    pub fn scale_f32(&self) -> f32 {
        self.scale as f32
    }
}
