//! Numbers of files as tensors on a value's grid.

use align_check_graph::{Op, Value};
use align_check_simulators::adapt::ValueGrid;
use align_check_simulators::ops::movement::Movement;
use align_check_simulators::tensor::{Channels, Tensor};
use anyhow::{Result, anyhow};

use crate::inputs::{ArrayKind, Recording};

/// A recorded tensor on the grid of a layer's output.
pub(crate) fn find_recorded(
    recording: &Recording,
    value: &Value,
    number: usize,
    sample: &str,
    grid: &ValueGrid,
    wanted: bool,
) -> Result<Option<Tensor>> {
    let shown = recording.path.display();
    let keys = || std::iter::once(&value.name).chain(&value.aliases);
    let found = keys().find_map(|key| recording.find(key, number, sample, value.len()));
    let Some((values, kind)) = found else {
        if wanted && keys().any(|key| recording.has(key)) {
            return Err(anyhow!(
                "{shown}: tensor '{}' of sample '{sample}' does not have {} elements",
                value.name,
                value.len()
            ));
        }
        return Ok(None);
    };
    place(value, values, kind, grid)
        .map(Some)
        .map_err(|what| anyhow!("{shown}: tensor '{}' {what}", value.name))
}

/// From here on `f32` lacks some codes: a float executor's clamp reaches one past the largest.
const EXACT_CODE: i64 = 1 << 24;

/// Reals further from zero are no codes of 32 bits.
const MOST_STEPS: f64 = 2_147_483_648.0;

/// Numbers of a file as a tensor on a value's grid. Integers are codes: in the target's label where their
/// type is the target's, else in the model's. Reals are put on the grid where they lie on it. A tensor with codes beyond
/// the grid's range becomes reals: it can be compared, but no layer is planned for such codes.
///
/// # Errors
/// What the tensor holds that is no code.
pub(crate) fn place(
    value: &Value,
    numbers: &[f64],
    kind: ArrayKind,
    grid: &ValueGrid,
) -> Result<Tensor, String> {
    let numbers = in_graph_order(value, numbers)?;
    let shape = value.shape.clone();
    let ValueGrid::Codes { grid, relabel, .. } = grid else {
        // A target without the model's grid: codes mean what the file says that they mean.
        let reals = match (kind, &value.stored) {
            (ArrayKind::Float, _) | (_, None) => numbers,
            (_, Some(stored)) => {
                let channels = Channels::of(&stored.scale, &shape);
                let zeros = Channels::of(&stored.zero_point, &shape);
                let real = |(i, q): (usize, f64)| {
                    (q - f64::from(stored.zero_point.at(zeros.of_index(i))))
                        * f64::from(stored.scale.at(channels.of_index(i)))
                };
                numbers.into_iter().enumerate().map(real).collect()
            }
        };
        return Ok(Tensor::real(shape, reals));
    };
    let channels = grid.channels(&shape);
    let shift = match kind {
        ArrayKind::Signed(8 | 16) if grid.min >= 0 => *relabel,
        ArrayKind::Unsigned(8 | 16) if grid.min < 0 => *relabel,
        _ => 0,
    };
    let mut codes = Vec::with_capacity(numbers.len());
    let mut inside = true;
    for (index, &number) in numbers.iter().enumerate() {
        let code = match kind {
            ArrayKind::Float => {
                let c = channels.of_index(index);
                let steps = number / grid.scale.at(c);
                let code = steps.round();
                if steps.is_nan() || (steps - code).abs() > 1e-2 || steps.abs() > MOST_STEPS {
                    return Ok(Tensor::real(shape, numbers));
                }
                let code = code as i64 + grid.zero_point.at(c);
                if code.abs() >= EXACT_CODE {
                    code.min(grid.max)
                } else {
                    code
                }
            }
            _ => number as i64 - shift,
        };
        inside &= (grid.min..=grid.max).contains(&code);
        let code = i32::try_from(code).map_err(|_| format!("holds {number}, which is no code"))?;
        codes.push(code);
    }
    let tensor = Tensor::codes(shape, codes, grid.clone());
    if inside {
        return Ok(tensor);
    }
    let reals = tensor.to_real().into_owned();
    Ok(Tensor::real(tensor.shape, reals))
}

/// Numbers in the file's order of axes, in the graph's.
fn in_graph_order(value: &Value, numbers: &[f64]) -> Result<Vec<f64>, String> {
    let Some(axes) = &value.file_axes else {
        return Ok(numbers.to_vec());
    };
    let mut perm = vec![0; axes.len()];
    for (file, &own) in axes.iter().enumerate() {
        perm[own] = file;
    }
    let file: Vec<usize> = axes.iter().map(|&own| value.shape[own]).collect();
    let movement = Movement::of(&Op::Transpose { perm }, &file, &value.shape)?;
    let moved = movement.apply(&Tensor::real(file, numbers.to_vec()));
    Ok(moved.to_real().into_owned())
}
