//! Operators that are evaluated on constants and shapes alone: what exporters write to compute reshape
//! targets, pads and folded parameters.

use super::bind::Binder;
use super::eval::{self, Pair, broadcast, broadcast_strides, strided};
use super::fail::{Outcome, malformed, unsupported};
use super::ops::{axes_of, axis_of};
use super::tensor::{Tensor, decode, elements, shape_from};
use super::{FileNode, Slot};
use crate::Constant;

pub(super) fn lower(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let result = match node.op_type.as_str() {
        "Shape" => shape(b, node)?,
        "Size" => Tensor::scalar_i64(elements(b.shape(b.input(node, 0)?)?, b.limits())? as i64),
        "ConstantOfShape" => constant_of_shape(b, node)?,
        "Gather" => gather(b, node)?,
        "Range" => range(b, node)?,
        "Expand" => expand(b, node)?,
        "Tile" => tile(b, node)?,
        "Where" => choose(b, node)?,
        "Neg" | "Abs" | "Floor" | "Ceil" | "Round" | "Sqrt" | "Exp" | "Log" | "Reciprocal"
        | "Not" => map(b, node)?,
        "Pow" | "Mod" | "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" | "And"
        | "Or" => {
            let (x, y) = (operand(b, node, 0)?, operand(b, node, 1)?);
            pairwise(b, node, &x, &y)?
        }
        "Min" | "Max" => {
            let mut best = operand(b, node, 0)?;
            for index in 1..node.inputs.len() {
                let next = operand(b, node, index)?;
                best = pairwise(b, node, &best, &next)?;
            }
            best
        }
        "ReduceProd" | "ReduceSum" | "ReduceMin" | "ReduceMax" => reduce(b, node)?,
        "Constant" => return unsupported("it holds no dense numbers"),
        _ => return unsupported("this operator is not evaluated"),
    };
    b.set_constant(node.output()?, result)
}

/// The contents of an input of an operator that is not evaluated on data.
fn operand(b: &Binder, node: &FileNode, index: usize) -> Outcome<Tensor> {
    match b.constant(b.input(node, index)?)? {
        Some(tensor) => Ok(tensor),
        None => unsupported(
            "this operator is evaluated on constants and shapes only, and here it reads data",
        ),
    }
}

fn operand_ints(b: &Binder, node: &FileNode, index: usize) -> Outcome<Vec<i64>> {
    match &*operand(b, node, index)?.data {
        Constant::I64(values) => Ok(values.clone()),
        Constant::F32(_) => malformed(format!("input {} must hold integers", index + 1)),
    }
}

fn shape(b: &Binder, node: &FileNode) -> Outcome<Tensor> {
    let slot: Slot = b.input(node, 0)?;
    let shape = b.shape(slot)?;
    let rank = shape.len() as i64;
    // Opset 15: a part of the shape, with clamped ends.
    let clamp = |axis: i64| {
        (if axis < 0 {
            axis.saturating_add(rank)
        } else {
            axis
        })
        .clamp(0, rank) as usize
    };
    let start = clamp(node.attrs().int_or("start", 0)?);
    let end = clamp(node.attrs().int_or("end", rank)?);
    Ok(Tensor::list_i64(
        shape
            .get(start..end)
            .unwrap_or(&[])
            .iter()
            .map(|&d| d as i64)
            .collect(),
    ))
}

fn constant_of_shape(b: &mut Binder, node: &FileNode) -> Outcome<Tensor> {
    let shape = shape_from(&operand_ints(b, node, 0)?, b.limits())?;
    let count = b.budget(&shape)?;
    let fill = match node.attrs().tensor("value")? {
        Some(tensor) => decode(tensor, b.limits(), None)?,
        None => Tensor::list_f32(vec![0.0]),
    };
    let data = match &*fill.data {
        Constant::F32(v) if v.len() == 1 => Constant::F32(vec![v[0]; count]),
        Constant::I64(v) if v.len() == 1 => Constant::I64(vec![v[0]; count]),
        _ => return malformed("its value must be one number"),
    };
    Ok(Tensor::new(shape, data).of(fill.codes.integer))
}

fn gather(b: &mut Binder, node: &FileNode) -> Outcome<Tensor> {
    let (x, wanted) = (operand(b, node, 0)?, operand(b, node, 1)?);
    let axis = axis_of(node.attrs().int_or("axis", 0)?, x.shape.len())?;
    let extent = x.shape[axis];
    let Constant::I64(wanted_indices) = &*wanted.data else {
        return malformed("its indices must be integers");
    };
    let mut indices = Vec::with_capacity(wanted_indices.len());
    for &index in wanted_indices {
        match axis_of(index, extent) {
            Ok(index) => indices.push(index),
            Err(_) => {
                return malformed(format!(
                    "index {index} is out of bounds for {extent} elements"
                ));
            }
        }
    }
    let shape = [&x.shape[..axis], &wanted.shape, &x.shape[axis + 1..]].concat();
    b.budget(&shape)?;
    let outer: usize = x.shape[..axis].iter().product();
    let inner: usize = x.shape[axis + 1..].iter().product();
    let data = match &*x.data {
        Constant::F32(v) => Constant::F32(pick(v, outer, extent, inner, &indices)),
        Constant::I64(v) => Constant::I64(pick(v, outer, extent, inner, &indices)),
    };
    Ok(Tensor::new(shape, data).of(x.codes.integer))
}

fn pick<T: Copy>(
    data: &[T],
    outer: usize,
    extent: usize,
    inner: usize,
    indices: &[usize],
) -> Vec<T> {
    let mut out = Vec::with_capacity(outer * indices.len() * inner);
    for block in 0..outer {
        for index in indices {
            let from = (block * extent + index) * inner;
            out.extend_from_slice(data.get(from..from + inner).unwrap_or(&[]));
        }
    }
    out
}

fn range(b: &mut Binder, node: &FileNode) -> Outcome<Tensor> {
    let [start, limit, delta] = [
        operand(b, node, 0)?,
        operand(b, node, 1)?,
        operand(b, node, 2)?,
    ];
    if let (Constant::I64(s), Constant::I64(l), Constant::I64(d)) =
        (&*start.data, &*limit.data, &*delta.data)
    {
        let (&[s], &[l], &[d]) = (&s[..], &l[..], &d[..]) else {
            return malformed("its inputs must be single numbers");
        };
        if d == 0 {
            return malformed("its step is 0");
        }
        let span = i128::from(l) - i128::from(s);
        let wide = i128::from(d);
        let count = if span.signum() == wide.signum() {
            (span + wide - wide.signum()) / wide
        } else {
            0
        };
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        b.budget(&[count])?;
        let at = |i: usize| s.wrapping_add(d.wrapping_mul(i as i64));
        return Ok(Tensor::list_i64((0..count).map(at).collect()));
    }
    let values = [
        start.data.to_f32(),
        limit.data.to_f32(),
        delta.data.to_f32(),
    ];
    let [&[s], &[l], &[d]] = [&values[0][..], &values[1][..], &values[2][..]] else {
        return malformed("its inputs must be single numbers");
    };
    let count = ((f64::from(l) - f64::from(s)) / f64::from(d)).ceil();
    if count.is_nan() {
        return malformed("its bounds are not numbers");
    }
    let count = count.max(0.0) as usize;
    b.budget(&[count])?;
    Ok(Tensor::list_f32(
        (0..count).map(|i| s + i as f32 * d).collect(),
    ))
}

fn expand(b: &mut Binder, node: &FileNode) -> Outcome<Tensor> {
    let x = operand(b, node, 0)?;
    let target = shape_from(&operand_ints(b, node, 1)?, b.limits())?;
    let shape = broadcast(&x.shape, &target)?;
    b.budget(&shape)?;
    let data = strided(&x.data, &shape, &broadcast_strides(&x.shape, &shape), 0)?;
    Ok(Tensor::new(shape, data).of(x.codes.integer))
}

/// Repetition is a strided copy with one extra axis before each axis.
fn tile(b: &mut Binder, node: &FileNode) -> Outcome<Tensor> {
    let x = operand(b, node, 0)?;
    let repeats = shape_from(&operand_ints(b, node, 1)?, b.limits())?;
    if repeats.len() != x.shape.len() {
        return malformed(format!(
            "it has {} repeats for {} axes",
            repeats.len(),
            x.shape.len()
        ));
    }
    let shape: Vec<usize> = x
        .shape
        .iter()
        .zip(&repeats)
        .map(|(&d, &r)| d.saturating_mul(r))
        .collect();
    b.budget(&shape)?;
    let own = eval::strides(&x.shape);
    let spread: Vec<usize> = repeats
        .iter()
        .zip(&x.shape)
        .flat_map(|(&r, &d)| [r, d])
        .collect();
    let steps: Vec<isize> = own.iter().flat_map(|&step| [0, step]).collect();
    let data = strided(&x.data, &spread, &steps, 0)?;
    Ok(Tensor::new(shape, data).of(x.codes.integer))
}

fn select<T: Copy>(condition: &[i64], x: &[T], y: &[T]) -> Vec<T> {
    condition
        .iter()
        .zip(x.iter().zip(y))
        .map(|(&c, (&x, &y))| if c != 0 { x } else { y })
        .collect()
}

fn choose(b: &mut Binder, node: &FileNode) -> Outcome<Tensor> {
    let [condition, x, y] = [
        operand(b, node, 0)?,
        operand(b, node, 1)?,
        operand(b, node, 2)?,
    ];
    let shape = broadcast(&condition.shape, &broadcast(&x.shape, &y.shape)?)?;
    b.budget(&shape)?;
    let Constant::I64(condition) = strided(
        &condition.data,
        &shape,
        &broadcast_strides(&condition.shape, &shape),
        0,
    )?
    else {
        return malformed("its condition must hold truth values");
    };
    let data = match eval::zip(&x, &y, &shape)? {
        Pair::F32(x, y) => Constant::F32(select(&condition, &x, &y)),
        Pair::I64(x, y) => Constant::I64(select(&condition, &x, &y)),
    };
    Ok(Tensor::new(shape, data))
}

fn map(b: &mut Binder, node: &FileNode) -> Outcome<Tensor> {
    let x = operand(b, node, 0)?;
    b.budget(&x.shape)?;
    let op = node.op_type.as_str();
    let data = match &*x.data {
        Constant::I64(v) => {
            let f: fn(i64) -> i64 = match op {
                "Neg" => i64::wrapping_neg,
                "Abs" => i64::wrapping_abs,
                "Not" => |x| i64::from(x == 0),
                _ => return malformed("it is not defined for integers"),
            };
            Constant::I64(v.iter().map(|&x| f(x)).collect())
        }
        Constant::F32(v) => {
            let f: fn(f32) -> f32 = match op {
                "Neg" => |x| -x,
                "Abs" => f32::abs,
                "Floor" => f32::floor,
                "Ceil" => f32::ceil,
                "Round" => f32::round_ties_even,
                "Sqrt" => f32::sqrt,
                // In double, by a library of our own: the same bits on every machine.
                "Exp" => |x| libm::exp(f64::from(x)) as f32,
                "Log" => |x| libm::log(f64::from(x)) as f32,
                "Reciprocal" => |x| 1.0 / x,
                _ => return malformed("it is not defined for reals"),
            };
            Constant::F32(v.iter().map(|&x| f(x)).collect())
        }
    };
    Ok(Tensor::new(x.shape, data))
}

fn pairwise(b: &mut Binder, node: &FileNode, x: &Tensor, y: &Tensor) -> Outcome<Tensor> {
    let shape = broadcast(&x.shape, &y.shape)?;
    b.budget(&shape)?;
    let op = node.op_type.as_str();
    let floored = node.attrs().int_or("fmod", 0)? == 0;
    let data = match eval::zip(x, y, &shape)? {
        Pair::I64(x, y) => Constant::I64(integers(op, &x, &y, floored)?),
        Pair::F32(x, y) => {
            let compare: Option<fn(f32, f32) -> bool> = match op {
                "Equal" => Some(|x, y| x == y),
                "Less" => Some(|x, y| x < y),
                "LessOrEqual" => Some(|x, y| x <= y),
                "Greater" => Some(|x, y| x > y),
                "GreaterOrEqual" => Some(|x, y| x >= y),
                _ => None,
            };
            let f: fn(f32, f32) -> f32 = match op {
                "Pow" => |x, y| libm::pow(f64::from(x), f64::from(y)) as f32,
                "Min" => |x, y| if x.is_nan() || x < y { x } else { y },
                "Max" => |x, y| if x.is_nan() || x > y { x } else { y },
                "Mod" => |x, y| x % y,
                _ if compare.is_some() => |_, _| 0.0,
                _ => return malformed("it is not defined for reals"),
            };
            let pairs = x.iter().zip(&y);
            match compare {
                Some(compare) => {
                    Constant::I64(pairs.map(|(&x, &y)| i64::from(compare(x, y))).collect())
                }
                None => Constant::F32(pairs.map(|(&x, &y)| f(x, y)).collect()),
            }
        }
    };
    Ok(Tensor::new(shape, data))
}

fn integers(op: &str, x: &[i64], y: &[i64], floored: bool) -> Outcome<Vec<i64>> {
    let f: fn(i64, i64) -> Option<i64> = match op {
        "Pow" => |x, y| u32::try_from(y).ok().and_then(|y| x.checked_pow(y)),
        "Min" => |x, y| Some(x.min(y)),
        "Max" => |x, y| Some(x.max(y)),
        // The sign of the divisor, or (`fmod`) of the dividend.
        "Mod" if floored => |x, y| {
            let rest = x.checked_rem(y)?;
            Some(if rest != 0 && (rest < 0) != (y < 0) {
                rest + y
            } else {
                rest
            })
        },
        "Mod" => i64::checked_rem,
        "Equal" => |x, y| Some(i64::from(x == y)),
        "Less" => |x, y| Some(i64::from(x < y)),
        "LessOrEqual" => |x, y| Some(i64::from(x <= y)),
        "Greater" => |x, y| Some(i64::from(x > y)),
        "GreaterOrEqual" => |x, y| Some(i64::from(x >= y)),
        "And" => |x, y| Some(i64::from(x != 0 && y != 0)),
        "Or" => |x, y| Some(i64::from(x != 0 || y != 0)),
        _ => return malformed("it is not defined for integers"),
    };
    let result: Option<Vec<i64>> = x.iter().zip(y).map(|(&x, &y)| f(x, y)).collect();
    match result {
        Some(result) => Ok(result),
        None => malformed("its integers overflow, or are divided by zero"),
    }
}

fn reduce(b: &mut Binder, node: &FileNode) -> Outcome<Tensor> {
    let x = operand(b, node, 0)?;
    let attrs = node.attrs();
    // An input from opset 13 (sum) or 18 (the others) on; files hold one or the other.
    let listed = match attrs.ints("axes")? {
        Some(axes) => axes.to_vec(),
        None => b.ints(node, 1)?.unwrap_or_default(),
    };
    let axes = axes_of(&listed, x.shape.len())?;
    if axes.is_empty() && attrs.flag("noop_with_empty_axes", false)? {
        return Ok(x);
    }
    let axes = if axes.is_empty() {
        (0..x.shape.len()).collect()
    } else {
        axes
    };
    b.budget(&x.shape)?;
    // Reduced axes to the end: then each output is a fold over a contiguous run.
    let kept = (0..x.shape.len()).filter(|axis| !axes.contains(axis));
    let order: Vec<usize> = kept.chain(axes.iter().copied()).collect();
    let own = eval::strides(&x.shape);
    let steps: Vec<isize> = order.iter().map(|&axis| own[axis]).collect();
    let moved: Vec<usize> = order.iter().map(|&axis| x.shape[axis]).collect();
    let run: usize = axes.iter().map(|&axis| x.shape[axis]).product();
    let keep = attrs.flag("keepdims", true)?;
    let shape: Vec<usize> = (0..x.shape.len())
        .filter_map(|axis| match (axes.contains(&axis), keep) {
            (false, _) => Some(x.shape[axis]),
            (true, true) => Some(1),
            (true, false) => None,
        })
        .collect();
    let op = node.op_type.as_str();
    if run == 0 {
        return unsupported("a reduction over no element");
    }
    let data = match strided(&x.data, &moved, &steps, 0)? {
        Constant::F32(v) => {
            let f: fn(f32, f32) -> f32 = match op {
                "ReduceProd" => |x, y| x * y,
                "ReduceSum" => |x, y| x + y,
                "ReduceMin" => f32::min,
                _ => f32::max,
            };
            Constant::F32(
                v.chunks_exact(run)
                    .filter_map(|c| c.iter().copied().reduce(f))
                    .collect(),
            )
        }
        Constant::I64(v) => {
            let f: fn(i64, i64) -> i64 = match op {
                "ReduceProd" => i64::wrapping_mul,
                "ReduceSum" => i64::wrapping_add,
                "ReduceMin" => i64::min,
                _ => i64::max,
            };
            Constant::I64(
                v.chunks_exact(run)
                    .filter_map(|c| c.iter().copied().reduce(f))
                    .collect(),
            )
        }
    };
    Ok(Tensor::new(shape, data))
}
