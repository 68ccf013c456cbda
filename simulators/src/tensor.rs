//! Tensors between layers: integer codes on a grid, or reals.

use std::borrow::Cow;
use std::sync::Arc;

use align_check_graph::PerChannel;

pub use crate::codes::Codes;
use crate::quantize::CodeGrid;

/// A tensor of a running program, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Extents.
    pub shape: Vec<usize>,
    /// Elements.
    pub data: Data,
}

/// Elements of a [`Tensor`].
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// Integer codes; `real = (code - zero_point) * scale` by the grid.
    Codes {
        /// One code an element.
        codes: Codes,
        /// What the codes mean.
        grid: Arc<CodeGrid>,
    },
    /// Reals: results of float operations, and values on grids without integer codes.
    Real(Vec<f64>),
}

impl Tensor {
    /// A tensor of codes.
    pub fn codes(shape: Vec<usize>, codes: Vec<i32>, grid: Arc<CodeGrid>) -> Self {
        Self::kept(shape, Codes::new(codes, &grid), grid)
    }

    /// A tensor of codes as they are kept.
    pub fn kept(shape: Vec<usize>, codes: Codes, grid: Arc<CodeGrid>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), codes.len());
        Self {
            shape,
            data: Data::Codes { codes, grid },
        }
    }

    /// A tensor of reals.
    pub fn real(shape: Vec<usize>, values: Vec<f64>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), values.len());
        Self {
            shape,
            data: Data::Real(values),
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match &self.data {
            Data::Codes { codes, .. } => codes.len(),
            Data::Real(values) => values.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The grid, where the elements are codes.
    pub fn grid(&self) -> Option<&Arc<CodeGrid>> {
        match &self.data {
            Data::Codes { grid, .. } => Some(grid),
            Data::Real(_) => None,
        }
    }

    /// Every element as a real; exact for codes of up to 29 bits.
    pub fn to_real(&self) -> Cow<'_, [f64]> {
        match &self.data {
            Data::Real(values) => Cow::Borrowed(values),
            Data::Codes { codes, grid } => {
                let channels = grid.channels(&self.shape);
                Cow::Owned(if grid.is_uniform() {
                    let (scale, zero) = (grid.scale.at(0), grid.zero_point.at(0) as f64);
                    let real = |q: i32| (f64::from(q) - zero) * scale;
                    match codes.bytes() {
                        Some((first, bytes)) => bytes
                            .iter()
                            .map(|&byte| real(first + i32::from(byte)))
                            .collect(),
                        None => codes.iter().map(|&q| real(q)).collect(),
                    }
                } else {
                    codes
                        .iter()
                        .enumerate()
                        .map(|(i, &q)| grid.real(i64::from(q), channels.of_index(i)))
                        .collect()
                })
            }
        }
    }

    /// One element as a real.
    pub fn real_at(&self, index: usize) -> f64 {
        match &self.data {
            Data::Real(values) => values[index],
            Data::Codes { codes, grid } => {
                let channel = grid.channels(&self.shape).of_index(index);
                grid.real(i64::from(codes.at(index)), channel)
            }
        }
    }

    /// Some elements as reals.
    pub fn reals_at(&self, indices: &[usize]) -> Vec<f64> {
        match &self.data {
            Data::Real(values) => indices.iter().map(|&index| values[index]).collect(),
            Data::Codes { codes, grid } => {
                let channels = grid.channels(&self.shape);
                let real = |&index: &usize| {
                    grid.real(i64::from(codes.at(index)), channels.of_index(index))
                };
                indices.iter().map(real).collect()
            }
        }
    }

    /// Bytes that the elements take.
    pub fn bytes(&self) -> usize {
        match &self.data {
            Data::Codes { codes, .. } => codes.memory(),
            Data::Real(values) => values.len() * 8,
        }
    }
}

/// Maps a row-major index to the index along one axis: `(i / inner) % count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channels {
    /// Extent of the axis; 1 where every element is one channel.
    pub count: usize,
    /// Elements between neighbours along the axis.
    pub inner: usize,
}

impl Channels {
    /// Every element belongs to channel 0.
    pub const ONE: Self = Self { count: 1, inner: 1 };

    /// Channels along `axis` of a shape.
    pub fn along(axis: usize, shape: &[usize]) -> Self {
        Self {
            count: shape[axis],
            inner: shape[axis + 1..].iter().product::<usize>().max(1),
        }
    }

    /// The channels that a parameter varies along.
    pub fn of<T>(parameter: &PerChannel<T>, shape: &[usize]) -> Self {
        match parameter.axis {
            Some(axis) if parameter.values.len() > 1 => Self::along(axis, shape),
            _ => Self::ONE,
        }
    }

    /// The channel of an element.
    #[inline]
    pub fn of_index(self, index: usize) -> usize {
        if self.count == 1 {
            0
        } else {
            (index / self.inner) % self.count
        }
    }

    /// Runs of elements of one channel: `(channel, range)` in row-major order.
    pub fn runs(self, len: usize) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> {
        let inner = if self.count == 1 {
            len.max(1)
        } else {
            self.inner
        };
        (0..len.div_ceil(inner)).map(move |run| {
            let start = run * inner;
            (run % self.count, start..(start + inner).min(len))
        })
    }
}
