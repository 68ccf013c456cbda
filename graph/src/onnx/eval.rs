//! Evaluates resolved operations on constants, and the strided copies that this takes.

use super::fail::{Outcome, malformed, unsupported};
use super::tensor::Tensor;
use crate::{Binary, Constant, Op, PadMode};

/// Whether an operation is evaluated where all of its inputs are constants: data movement and plain
/// arithmetic. Quantizers never are: what they mean is not the importer's to decide.
pub(super) fn folds(op: &Op) -> bool {
    match op {
        Op::Reshape
        | Op::Identity
        | Op::Transpose { .. }
        | Op::Slice { .. }
        | Op::Concat { .. }
        | Op::Binary(_) => true,
        Op::Pad(pad) => matches!(pad.mode, PadMode::Constant(_)),
        _ => false,
    }
}

/// Evaluates an operation for which [`folds`] holds.
pub(crate) fn evaluate(op: &Op, inputs: &[Tensor], out: &[usize]) -> Outcome<Constant> {
    let Some(x) = inputs.first() else {
        return malformed("it has no input");
    };
    match op {
        Op::Reshape | Op::Identity => Ok((*x.data).clone()),
        Op::Transpose { perm } => {
            let own = strides(&x.shape);
            let steps = perm
                .iter()
                .map(|&axis| own.get(axis).copied().unwrap_or(0))
                .collect::<Vec<_>>();
            strided(&x.data, out, &steps, 0)
        }
        Op::Slice { starts, steps } => {
            let own = strides(&x.shape);
            let offset = own
                .iter()
                .zip(starts)
                .map(|(s, &start)| s * start as isize)
                .sum();
            let steps: Vec<_> = own
                .iter()
                .zip(steps)
                .map(|(s, &step)| s.wrapping_mul(step as isize))
                .collect();
            strided(&x.data, out, &steps, offset)
        }
        Op::Concat { axis } => Ok(concat(inputs, *axis)),
        Op::Pad(pad) => match pad.mode {
            PadMode::Constant(fill) => Ok(pad_constant(x, &pad.before, fill, out)),
            _ => unsupported("padding of a constant in this mode"),
        },
        Op::Binary(binary) => match inputs {
            [a, b] => arithmetic(*binary, a, b, out),
            _ => malformed("it needs two inputs"),
        },
        _ => unsupported("it does not fold"),
    }
}

/// Row-major strides.
pub(crate) fn strides(shape: &[usize]) -> Vec<isize> {
    let mut strides = vec![0; shape.len()];
    let mut step: usize = 1;
    for (stride, &dim) in strides.iter_mut().zip(shape).rev() {
        *stride = step as isize;
        step = step.saturating_mul(dim.max(1));
    }
    strides
}

/// Strides that read a tensor as if it had the (numpy-broadcast) shape `out`.
pub(super) fn broadcast_strides(shape: &[usize], out: &[usize]) -> Vec<isize> {
    let own = strides(shape);
    let missing = out.len().saturating_sub(shape.len());
    let mut steps = vec![0; missing];
    steps.extend(
        shape
            .iter()
            .zip(own)
            .map(|(&dim, step)| if dim == 1 { 0 } else { step }),
    );
    steps
}

/// Numpy's broadcast of two shapes.
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> Outcome<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |shape: &[usize], axis: usize| {
        (axis + shape.len())
            .checked_sub(rank)
            .map_or(1, |i| shape[i])
    };
    let mut out = Vec::with_capacity(rank);
    for axis in 0..rank {
        out.push(match (at(a, axis), at(b, axis)) {
            (x, y) if x == y => x,
            (1, y) => y,
            (x, 1) => x,
            _ => return malformed(format!("shapes {a:?} and {b:?} do not broadcast")),
        });
    }
    Ok(out)
}

/// Copies `data[offset + sum(index * steps)]` for each index of `out`, row-major.
pub(crate) fn strided(
    data: &Constant,
    out: &[usize],
    steps: &[isize],
    offset: isize,
) -> Outcome<Constant> {
    Ok(match data {
        Constant::F32(x) => Constant::F32(strided_copy(x, out, steps, offset)?),
        Constant::I64(x) => Constant::I64(strided_copy(x, out, steps, offset)?),
    })
}

pub(super) fn strided_copy<T: Copy>(
    data: &[T],
    out: &[usize],
    steps: &[isize],
    offset: isize,
) -> Outcome<Vec<T>> {
    let count = out.iter().product();
    let mut result = Vec::with_capacity(count);
    let mut index = vec![0usize; out.len()];
    let mut at = offset;
    while result.len() < count {
        match usize::try_from(at).ok().and_then(|at| data.get(at)) {
            Some(&x) => result.push(x),
            None => return malformed("an index is out of bounds"),
        }
        for axis in (0..out.len()).rev() {
            index[axis] += 1;
            at = at.wrapping_add(steps[axis]);
            if index[axis] < out[axis] {
                break;
            }
            // A step beyond the tensor is only ever taken back again: wrapping keeps the sum right.
            at = at.wrapping_sub(steps[axis].wrapping_mul(out[axis] as isize));
            index[axis] = 0;
        }
    }
    Ok(result)
}

/// The tensors' contents with one element type: reals where any of them holds reals.
fn join_types(inputs: &[Tensor]) -> Result<Vec<&[i64]>, Vec<Vec<f32>>> {
    let ints: Option<Vec<&[i64]>> = inputs
        .iter()
        .map(|t| match &*t.data {
            Constant::I64(v) => Some(v.as_slice()),
            // An empty list has no type worth insisting on (PyTorch joins `[]` with integers).
            Constant::F32(v) if v.is_empty() => Some(&[][..]),
            Constant::F32(_) => None,
        })
        .collect();
    ints.ok_or_else(|| inputs.iter().map(|t| t.data.to_f32()).collect())
}

fn concat(inputs: &[Tensor], axis: usize) -> Constant {
    fn join<T: Copy>(parts: &[(&[T], usize)], outer: usize) -> Vec<T> {
        let mut out = Vec::new();
        for i in 0..outer {
            for (data, run) in parts {
                out.extend_from_slice(data.get(i * run..(i + 1) * run).unwrap_or(&[]));
            }
        }
        out
    }
    let outer = inputs[0].shape.iter().take(axis).product();
    let runs = inputs
        .iter()
        .map(|t| t.shape.iter().skip(axis).product::<usize>());
    match join_types(inputs) {
        Ok(ints) => Constant::I64(join(&ints.into_iter().zip(runs).collect::<Vec<_>>(), outer)),
        Err(reals) => {
            let parts: Vec<_> = reals.iter().map(Vec::as_slice).zip(runs).collect();
            Constant::F32(join(&parts, outer))
        }
    }
}

fn pad_constant(x: &Tensor, before: &[i64], fill: f32, out: &[usize]) -> Constant {
    fn fill_in<T: Copy>(
        data: &[T],
        shape: &[usize],
        before: &[i64],
        fill: T,
        out: &[usize],
    ) -> Vec<T> {
        let mut result = vec![fill; out.iter().product()];
        let to = strides(out);
        let mut index = vec![0usize; shape.len()];
        for &value in data {
            let mut at = 0;
            let mut inside = true;
            for axis in 0..shape.len() {
                let place = index[axis] as i64 + before[axis];
                inside &= place >= 0 && place < out[axis] as i64;
                at += place as isize * to[axis];
            }
            if inside && let Some(cell) = usize::try_from(at).ok().and_then(|at| result.get_mut(at))
            {
                *cell = value;
            }
            for axis in (0..shape.len()).rev() {
                index[axis] += 1;
                if index[axis] < shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        result
    }
    match &*x.data {
        Constant::F32(v) => Constant::F32(fill_in(v, &x.shape, before, fill, out)),
        Constant::I64(v) => Constant::I64(fill_in(v, &x.shape, before, fill as i64, out)),
    }
}

fn arithmetic(binary: Binary, a: &Tensor, b: &Tensor, out: &[usize]) -> Outcome<Constant> {
    match zip(a, b, out)? {
        Pair::F32(a, b) => {
            let f: fn(f32, f32) -> f32 = match binary {
                Binary::Add | Binary::AddShifted => |x, y| x + y,
                Binary::Sub => |x, y| x - y,
                Binary::Mul => |x, y| x * y,
                Binary::Div => |x, y| x / y,
            };
            Ok(Constant::F32(
                a.iter().zip(&b).map(|(&x, &y)| f(x, y)).collect(),
            ))
        }
        Pair::I64(a, b) => {
            // Integer division truncates (ONNX `Div`).
            let f: fn(i64, i64) -> Option<i64> = match binary {
                Binary::Add | Binary::AddShifted => i64::checked_add,
                Binary::Sub => i64::checked_sub,
                Binary::Mul => i64::checked_mul,
                Binary::Div => i64::checked_div,
            };
            let result: Option<Vec<i64>> = a.iter().zip(&b).map(|(&x, &y)| f(x, y)).collect();
            match result {
                Some(result) => Ok(Constant::I64(result)),
                None => malformed("its integers overflow, or are divided by zero"),
            }
        }
    }
}

/// Two constants of one type, broadcast to one shape.
pub(super) enum Pair {
    F32(Vec<f32>, Vec<f32>),
    I64(Vec<i64>, Vec<i64>),
}

pub(super) fn zip(a: &Tensor, b: &Tensor, out: &[usize]) -> Outcome<Pair> {
    let sa = broadcast_strides(&a.shape, out);
    let sb = broadcast_strides(&b.shape, out);
    Ok(match (&*a.data, &*b.data) {
        (Constant::I64(x), Constant::I64(y)) => {
            Pair::I64(strided_copy(x, out, &sa, 0)?, strided_copy(y, out, &sb, 0)?)
        }
        (x, y) => Pair::F32(
            strided_copy(&x.to_f32(), out, &sa, 0)?,
            strided_copy(&y.to_f32(), out, &sb, 0)?,
        ),
    })
}
