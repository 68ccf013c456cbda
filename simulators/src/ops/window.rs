//! Windows of pooling operations and means, as tables of the elements that each one covers.

use align_check_graph::Pool;

/// For each output position of a plane, the input positions that it covers.
///
/// A tensor is `outer` planes one after the other; every plane has the same windows.
#[derive(Debug, Clone, PartialEq)]
pub struct Windows {
    /// Number of planes.
    pub outer: usize,
    /// Elements of an input plane.
    pub plane: usize,
    /// Window `i` covers `taps[starts[i]..starts[i + 1]]`.
    starts: Vec<u32>,
    taps: Vec<u32>,
    /// What the sum of each window is divided by to get its mean.
    pub divisors: Vec<u32>,
    /// Extent of the full window (height, width), for rules that depend on it.
    pub kernel: Vec<usize>,
    /// Whether padded positions count as elements.
    pub padding_counts: bool,
    /// Whether the window of a pool is its whole image, without padding.
    pub whole_image: bool,
}

impl Windows {
    /// Windows of a pooling operation over `(N, C, spatial...)`. With `include_pad` the divisor counts
    /// padded positions too (but none beyond the padding, where `ceil_mode` makes a window stick out).
    pub fn pool(pool: &Pool, in_shape: &[usize], out_shape: &[usize], include_pad: bool) -> Self {
        let (input, output) = (&in_shape[2..], &out_shape[2..]);
        let axes: Vec<Vec<(Vec<usize>, usize)>> = (0..input.len())
            .map(|a| {
                (0..output[a])
                    .map(|o| {
                        let first = (o * pool.strides[a]) as i64 - pool.pads_before[a] as i64;
                        let positions = (0..pool.kernel[a])
                            .map(|k| first + (k * pool.dilations[a]) as i64)
                            .collect::<Vec<_>>();
                        let end = (input[a] + pool.pads_after[a]) as i64;
                        let padded = positions.iter().filter(|&&p| p < end).count();
                        let inside: Vec<usize> = positions
                            .iter()
                            .filter(|&&p| p >= 0 && p < input[a] as i64)
                            .map(|&p| p as usize)
                            .collect();
                        let count = if include_pad { padded } else { inside.len() };
                        (inside, count)
                    })
                    .collect()
            })
            .collect();
        let mut windows = Self {
            outer: in_shape[0] * in_shape[1],
            plane: input.iter().product(),
            starts: vec![0],
            taps: Vec::new(),
            divisors: Vec::new(),
            kernel: pool.kernel.clone(),
            padding_counts: include_pad,
            whole_image: pool.kernel == input
                && pool
                    .pads_before
                    .iter()
                    .chain(&pool.pads_after)
                    .all(|&pad| pad == 0),
        };
        let mut index = vec![0; output.len()];
        for _ in 0..output.iter().product::<usize>() {
            let mut offsets = vec![0];
            let mut divisor = 1;
            for (a, &o) in index.iter().enumerate() {
                let (positions, count) = &axes[a][o];
                divisor *= count;
                offsets = offsets
                    .iter()
                    .flat_map(|&base| positions.iter().map(move |&p| base * input[a] + p))
                    .collect();
            }
            windows.push(offsets, divisor);
            for axis in (0..output.len()).rev() {
                index[axis] += 1;
                if index[axis] < output[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        windows
    }

    /// One window for each index of the axes that are kept, over all elements of the axes that are not.
    pub fn axes(axes: &[usize], shape: &[usize]) -> Self {
        let trailing = axes
            .iter()
            .copied()
            .eq(shape.len() - axes.len()..shape.len());
        let elements: usize = shape.iter().product();
        let count: usize = axes.iter().map(|&a| shape[a]).product();
        let kernel = axes.iter().map(|&a| shape[a]).collect();
        let mut windows = Self {
            outer: 1,
            plane: elements,
            starts: vec![0],
            taps: Vec::new(),
            divisors: Vec::new(),
            kernel,
            padding_counts: false,
            whole_image: false,
        };
        if trailing {
            windows.outer = elements / count.max(1);
            windows.plane = count;
            windows.push((0..count).collect(), count);
            return windows;
        }
        let strides = super::movement::strides(shape);
        let mut members = vec![Vec::new(); elements / count.max(1)];
        for element in 0..elements {
            let mut out = 0;
            for axis in (0..shape.len()).filter(|a| !axes.contains(a)) {
                out = out * shape[axis] + (element / strides[axis]) % shape[axis];
            }
            members[out].push(element);
        }
        for member in members {
            windows.push(member, count);
        }
        windows
    }

    fn push(&mut self, taps: Vec<usize>, divisor: usize) {
        self.taps.extend(taps.into_iter().map(|t| t as u32));
        self.starts.push(self.taps.len() as u32);
        self.divisors.push(divisor.max(1) as u32);
    }

    /// Windows of a plane.
    pub fn len(&self) -> usize {
        self.divisors.len()
    }

    /// Whether there is no window.
    pub fn is_empty(&self) -> bool {
        self.divisors.is_empty()
    }

    /// Most elements in one window.
    pub fn largest(&self) -> usize {
        self.starts
            .windows(2)
            .map(|s| (s[1] - s[0]) as usize)
            .max()
            .unwrap_or(0)
    }

    /// Elements of one window: positions in a plane.
    pub fn taps(&self, window: usize) -> &[u32] {
        &self.taps[self.starts[window] as usize..self.starts[window + 1] as usize]
    }

    /// Folds the elements of each window, for every plane.
    pub fn fold<T: Copy, A: Copy>(
        &self,
        values: &[T],
        start: A,
        mut step: impl FnMut(A, T) -> A,
    ) -> Vec<A> {
        let mut out = Vec::with_capacity(self.outer * self.len());
        for plane in values.chunks_exact(self.plane.max(1)) {
            for window in 0..self.len() {
                out.push(
                    self.taps(window)
                        .iter()
                        .fold(start, |a, &t| step(a, plane[t as usize])),
                );
            }
        }
        out
    }
}
