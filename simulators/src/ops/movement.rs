//! Operations that move elements without computing: each is a table of source indices, made once.

use std::sync::{Arc, OnceLock};

use align_check_graph::{Op, Pad, PadMode, PerChannel, Resize, ResizeAxis};

use crate::buffers::Buffers;
use crate::quantize::CodeGrid;
use crate::tensor::{Channels, Codes, Data, Tensor};

/// Index in a table that stands for the fill value.
const FILL: u32 = u32::MAX;

/// A data movement, resolved for one input shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Movement {
    /// Source index of each output element; absent where the order stays.
    table: Option<Vec<u32>>,
    /// The real that fills a border.
    fill: f64,
    /// Where each input axis goes, if it stays one axis.
    axes: Vec<Option<usize>>,
    out_shape: Vec<usize>,
    /// The table as runs, where they are long; made when bytes are moved.
    runs: OnceLock<Option<Vec<Run>>>,
}

impl Movement {
    /// The movement that an operation makes.
    ///
    /// # Errors
    /// A text where the tensor has more than `u32` can index.
    pub fn of(op: &Op, in_shape: &[usize], out_shape: &[usize]) -> Result<Self, String> {
        let elements: usize = in_shape.iter().product();
        if u32::try_from(elements).is_err() {
            return Err("a tensor of more than 2^32 elements".into());
        }
        let strides = strides(in_shape);
        let kept = |axis: usize| in_shape[axis] == out_shape[axis];
        let mut fill = 0.0;
        let (table, axes) = match op {
            Op::Reshape | Op::Identity => (None, reshaped_axes(in_shape, out_shape)),
            Op::Transpose { perm } => {
                let mut axes = vec![None; in_shape.len()];
                for (to, &from) in perm.iter().enumerate() {
                    axes[from] = Some(to);
                }
                let table = separable(out_shape, |axis, i| Some(i * strides[perm[axis]]));
                (Some(table), axes)
            }
            Op::Slice { starts, steps } => {
                let table = separable(out_shape, |axis, i| {
                    let at = starts[axis] as i64 + steps[axis] * i as i64;
                    Some(at as usize * strides[axis])
                });
                let same = |axis: usize| (kept(axis) && steps[axis] == 1).then_some(axis);
                (Some(table), (0..in_shape.len()).map(same).collect())
            }
            Op::Pad(pad) => {
                if let PadMode::Constant(value) = pad.mode {
                    fill = f64::from(value);
                }
                let table = separable(out_shape, |axis, i| {
                    Some(padded(pad, axis, i, in_shape[axis])? * strides[axis])
                });
                let same = |axis: usize| kept(axis).then_some(axis);
                (Some(table), (0..in_shape.len()).map(same).collect())
            }
            Op::DepthToSpace { block, depth_first } => {
                let table = depth_to_space(*block, *depth_first, in_shape, out_shape);
                (Some(table), vec![None; in_shape.len()])
            }
            Op::Resize(resize) => {
                return Self::resize(resize, in_shape, out_shape)
                    .ok_or_else(|| "linear resampling".into());
            }
            _ => return Err("not a data movement".into()),
        };
        Ok(Self {
            runs: OnceLock::new(),
            table,
            fill,
            axes,
            out_shape: out_shape.to_vec(),
        })
    }

    /// Nearest resampling as a movement; `None` where an axis is interpolated.
    pub fn resize(resize: &Resize, in_shape: &[usize], out_shape: &[usize]) -> Option<Self> {
        let strides = strides(in_shape);
        if resize
            .axes
            .iter()
            .any(|a| matches!(a, ResizeAxis::Linear(_)))
        {
            return None;
        }
        let table = separable(out_shape, |axis, i| {
            let source = match &resize.axes[axis] {
                ResizeAxis::Nearest(sources) => sources[i],
                _ => i,
            };
            Some(source * strides[axis])
        });
        let axes = resize
            .axes
            .iter()
            .enumerate()
            .map(|(a, axis)| matches!(axis, ResizeAxis::Copy).then_some(a))
            .collect();
        Some(Self {
            runs: OnceLock::new(),
            table: Some(table),
            fill: 0.0,
            axes,
            out_shape: out_shape.to_vec(),
        })
    }

    /// The grid of the output for a grid of the input; `None` where the output has no single grid, or
    /// the border's real is no code of it.
    pub fn grid(&self, grid: &Arc<CodeGrid>) -> Option<Arc<CodeGrid>> {
        let fills = self.table.as_ref().is_some_and(|t| t.contains(&FILL));
        if fills {
            let channels = grid.scale.values.len().max(grid.zero_point.values.len());
            for c in 0..channels {
                let code = grid.code_of(self.fill, c)?;
                if code < grid.min || code > grid.max {
                    return None;
                }
            }
        }
        if grid.is_uniform() {
            return Some(grid.clone());
        }
        Some(Arc::new(CodeGrid {
            scale: self.moved(&grid.scale)?,
            zero_point: self.moved(&grid.zero_point)?,
            ..(**grid).clone()
        }))
    }

    fn moved<T: Copy>(&self, parameter: &PerChannel<T>) -> Option<PerChannel<T>> {
        match parameter.axis {
            Some(axis) if parameter.values.len() > 1 => Some(PerChannel {
                values: parameter.values.clone(),
                axis: Some(self.axes[axis]?),
            }),
            _ => Some(parameter.clone()),
        }
    }

    /// The element of the input that one of the output is; `None` in a border.
    pub fn source(&self, index: usize) -> Option<usize> {
        match &self.table {
            None => Some(index),
            Some(table) => (table[index] != FILL).then_some(table[index] as usize),
        }
    }

    /// The real that fills a border.
    pub fn fill(&self) -> f64 {
        self.fill
    }

    /// Moves the elements of a tensor.
    pub fn apply(&self, tensor: &Tensor) -> Tensor {
        self.apply_in(tensor, &mut Buffers::default())
    }

    /// [`apply`](Self::apply) in memory that is used again.
    pub fn apply_in(&self, tensor: &Tensor, buffers: &mut Buffers) -> Tensor {
        if let Data::Codes { codes, grid } = &tensor.data
            && let Some(out_grid) = self.grid(grid)
        {
            if let (Some((first, bytes)), Some(table)) = (codes.bytes(), &self.table)
                && out_grid.zero_point.values.len() == 1
            {
                let fill = out_grid.code_of(self.fill, 0).unwrap_or(i64::from(first));
                if let Ok(fill) = u8::try_from(fill - i64::from(first)) {
                    let moved = self.bytes(table, bytes, fill, buffers);
                    let codes = Codes::of_bytes(first, moved);
                    return Tensor::kept(self.out_shape.clone(), codes, out_grid);
                }
            }
            let moved = match &self.table {
                None => {
                    return Tensor::kept(self.out_shape.clone(), codes.clone(), out_grid);
                }
                Some(table) if out_grid.zero_point.values.len() > 1 => {
                    let channels = Channels::of(&out_grid.zero_point, &self.out_shape);
                    table
                        .iter()
                        .enumerate()
                        .map(|(i, &from)| match from {
                            FILL => out_grid
                                .code_of(self.fill, channels.of_index(i))
                                .unwrap_or_default() as i32,
                            from => codes[from as usize],
                        })
                        .collect()
                }
                Some(table) => {
                    let fill = out_grid.code_of(self.fill, 0).unwrap_or_default() as i32;
                    take(table, codes, fill)
                }
            };
            return Tensor::codes(self.out_shape.clone(), moved, out_grid);
        }
        let values = tensor.to_real();
        let moved = match &self.table {
            None => values.into_owned(),
            Some(table) => take(table, &values, self.fill),
        };
        Tensor::real(self.out_shape.clone(), moved)
    }
}

/// Elements of the output that are neighbours in the input too.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Run {
    /// The first one in the input, or [`FILL`].
    from: u32,
    count: u32,
}

impl Run {
    /// `None` where elements are scattered.
    fn all(table: &[u32]) -> Option<Vec<Self>> {
        let mut runs: Vec<Self> = Vec::new();
        for &from in table {
            if runs.len() > 64 + table.len() / 4 {
                return None;
            }
            match runs.last_mut() {
                Some(run) if run.from == FILL && from == FILL => run.count += 1,
                Some(run) if run.from != FILL && from != FILL && run.from + run.count == from => {
                    run.count += 1;
                }
                _ => runs.push(Self { from, count: 1 }),
            }
        }
        Some(runs)
    }
}

impl Movement {
    /// Moves bytes.
    fn bytes(&self, table: &[u32], from: &[u8], fill: u8, buffers: &mut Buffers) -> Vec<u8> {
        let mut out = buffers.bytes(table.len());
        let Some(runs) = self.runs.get_or_init(|| Run::all(table)) else {
            for (to, &at) in out.iter_mut().zip(table) {
                *to = if at == FILL { fill } else { from[at as usize] };
            }
            return out;
        };
        let mut rest = &mut out[..];
        for run in runs {
            let (to, behind) = rest.split_at_mut(run.count as usize);
            if run.from == FILL {
                to.fill(fill);
            } else {
                to.copy_from_slice(&from[run.from as usize..][..to.len()]);
            }
            rest = behind;
        }
        out
    }
}

fn take<T: Copy>(table: &[u32], from: &[T], fill: T) -> Vec<T> {
    table
        .iter()
        .map(|&i| if i == FILL { fill } else { from[i as usize] })
        .collect()
}

/// Row-major strides of a shape.
pub fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// The table of a movement whose source offset is a sum of one offset an axis; `None` on any axis is a
/// border.
fn separable(shape: &[usize], offset: impl Fn(usize, usize) -> Option<usize>) -> Vec<u32> {
    let mut table = vec![Some(0)];
    for (axis, &extent) in shape.iter().enumerate() {
        let offsets: Vec<Option<usize>> = (0..extent).map(|i| offset(axis, i)).collect();
        table = table
            .iter()
            .flat_map(|&base| offsets.iter().map(move |&o| Some(base? + o?)))
            .collect();
    }
    table
        .into_iter()
        .map(|source| source.map_or(FILL, |i| i as u32))
        .collect()
}

/// Where index `i` of a padded axis comes from; `None`: from nowhere.
fn padded(pad: &Pad, axis: usize, i: usize, extent: usize) -> Option<usize> {
    let extent = extent as i64;
    let at = i as i64 - pad.before[axis];
    if (0..extent).contains(&at) {
        return Some(at as usize);
    }
    Some(match pad.mode {
        PadMode::Constant(_) => return None,
        PadMode::Edge => at.clamp(0, extent - 1),
        PadMode::Reflect if extent == 1 => 0,
        PadMode::Reflect => {
            let folded = at.rem_euclid(2 * (extent - 1));
            folded.min(2 * (extent - 1) - folded)
        }
    } as usize)
}

/// ONNX `DepthToSpace`: `DCR` splits the channels into `(block, block, rest)`, `CRD` into
/// `(rest, block, block)`.
fn depth_to_space(
    block: usize,
    depth_first: bool,
    in_shape: &[usize],
    out_shape: &[usize],
) -> Vec<u32> {
    let strides = strides(in_shape);
    let rest = out_shape[1];
    let out = self::strides(out_shape);
    (0..out_shape.iter().product::<usize>())
        .map(|i| {
            let at = |axis: usize| i / out[axis] % out_shape[axis];
            let (n, c, h, w) = (at(0), at(1), at(2), at(3));
            let (bh, bw) = (h % block, w % block);
            let channel = if depth_first {
                (bh * block + bw) * rest + c
            } else {
                (c * block + bh) * block + bw
            };
            (n * strides[0] + channel * strides[1] + (h / block) * strides[2] + w / block) as u32
        })
        .collect()
}

/// Which axes survive a reshape: those with the same extent and the same number of elements before them.
fn reshaped_axes(in_shape: &[usize], out_shape: &[usize]) -> Vec<Option<usize>> {
    let before = |shape: &[usize], axis: usize| shape[..axis].iter().product::<usize>();
    (0..in_shape.len())
        .map(|a| {
            (0..out_shape.len()).find(|&b| {
                in_shape[a] == out_shape[b] && before(in_shape, a) == before(out_shape, b)
            })
        })
        .collect()
}
