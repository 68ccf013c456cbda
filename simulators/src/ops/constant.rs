//! What quantizers and data movement make of constants, before any input is known.

use std::sync::Arc;

use align_check_graph::{Affine, Constant, Op, Quantizer};

use super::movement::Movement;
use super::real;
use crate::quantize;
use crate::tensor::{Channels, Data, Tensor};

/// A constant of the file: codes where the file stores codes (of up to 32 bits), else reals.
pub fn tensor(shape: &[usize], constant: &Constant, stored: Option<&Affine>) -> Tensor {
    let values = match (constant, stored) {
        (Constant::I64(codes), Some(stored)) => return coded(shape, codes, stored),
        (Constant::F32(v), _) => v.iter().map(|&x| f64::from(x)).collect(),
        (Constant::I64(v), None) => v.iter().map(|&x| x as f64).collect(),
    };
    Tensor::real(shape.to_vec(), values)
}

/// Stored codes, with the grid that the file states for them.
fn coded(shape: &[usize], codes: &[i64], stored: &Affine) -> Tensor {
    let quantizer = Quantizer::Affine(stored.clone());
    let narrow: Option<Vec<i32>> = codes.iter().map(|&q| i32::try_from(q).ok()).collect();
    if let (Some(mut grid), Some(codes)) = (quantize::grid(&quantizer), narrow) {
        // Weights of real files reach one below a narrow range.
        let ends = codes.iter().map(|&q| i64::from(q));
        grid.min = grid.min.min(ends.clone().min().unwrap_or(grid.min));
        grid.max = grid.max.max(ends.max().unwrap_or(grid.max));
        return Tensor::codes(shape.to_vec(), codes, Arc::new(grid));
    }
    let channels = Channels::of(&stored.scale, shape);
    let zeros = Channels::of(&stored.zero_point, shape);
    let real = |(i, &q): (usize, &i64)| {
        let zero = f64::from(stored.zero_point.at(zeros.of_index(i)));
        (q as f64 - zero) * f64::from(stored.scale.at(channels.of_index(i)))
    };
    Tensor::real(shape.to_vec(), codes.iter().enumerate().map(real).collect())
}

/// What a quantizer makes of a constant: codes where it has them, else reals.
pub fn quantized(quantizer: &Quantizer, values: &[f32], shape: &[usize]) -> Tensor {
    if let (Some(grid), Some(codes)) = (
        quantize::grid(quantizer),
        quantize::codes(quantizer, values, shape),
    ) {
        Tensor::codes(shape.to_vec(), codes, Arc::new(grid))
    } else {
        let reals = quantize::evaluate(quantizer, values, shape);
        Tensor::real(shape.to_vec(), reals.into_iter().map(f64::from).collect())
    }
}

/// Evaluates an operation whose inputs are all constant.
///
/// # Errors
/// A text where the operation is not evaluated on constants.
pub fn evaluate(op: &Op, inputs: &[Arc<Tensor>], shape: &[usize]) -> Result<Tensor, String> {
    let x = &*inputs[0];
    Ok(match op {
        Op::Quantize(quantizer) => {
            let values: Vec<f32> = x.to_real().iter().map(|&v| v as f32).collect();
            quantized(quantizer, &values, &x.shape)
        }
        Op::Identity => x.clone(),
        Op::Reinterpret { to, .. } => match &x.data {
            Data::Codes { codes, .. } => {
                let codes: Vec<i64> = codes.iter().map(|&q| i64::from(q)).collect();
                coded(&x.shape, &codes, to)
            }
            Data::Real(_) => return Err("codes of a constant without codes".into()),
        },
        Op::Reshape
        | Op::Transpose { .. }
        | Op::Slice { .. }
        | Op::Pad(_)
        | Op::DepthToSpace { .. } => Movement::of(op, &x.shape, shape)?.apply(x),
        Op::Resize(resize) => Movement::resize(resize, &x.shape, shape)
            .ok_or("linear resampling of a constant")?
            .apply(x),
        Op::Binary(op) => {
            let (a, b) = (x.to_real(), inputs[1].to_real());
            let index = |own: &Tensor| real::broadcast_index(&own.shape, shape);
            let (ia, ib) = (index(x), index(&inputs[1]));
            let at =
                |table: &Option<Vec<u32>>, i: usize| table.as_ref().map_or(i, |t| t[i] as usize);
            let len = shape.iter().product();
            let values = (0..len)
                .map(|i| real::binary(*op, a[at(&ia, i)], b[at(&ib, i)]))
                .collect();
            Tensor::real(shape.to_vec(), values)
        }
        Op::Activation(function) if inputs.len() == 1 => {
            let values = x
                .to_real()
                .iter()
                .map(|&v| real::activation(*function, v))
                .collect();
            Tensor::real(shape.to_vec(), values)
        }
        Op::Concat { axis } => {
            let tensors: Vec<&Tensor> = inputs.iter().map(|t| &**t).collect();
            concat(&tensors, *axis, shape)
        }
        _ => return Err("this operation on constants only".into()),
    })
}

/// Joins tensors along an axis: as codes where they share one uniform grid, else as reals.
pub fn concat(tensors: &[&Tensor], axis: usize, shape: &[usize]) -> Tensor {
    fn join<T: Copy>(parts: &[(&[T], usize)], outer: usize) -> Vec<T> {
        let mut out = Vec::with_capacity(parts.iter().map(|p| p.0.len()).sum());
        for o in 0..outer {
            for (values, run) in parts {
                out.extend_from_slice(&values[o * run..(o + 1) * run]);
            }
        }
        out
    }
    let outer: usize = shape[..axis].iter().product();
    let run = |t: &Tensor| t.shape[axis..].iter().product::<usize>();
    let first = tensors[0].grid();
    if let Some(grid) = first
        && grid.is_uniform()
        && tensors.iter().all(|t| t.grid() == first)
    {
        let parts: Vec<(&[i32], usize)> = tensors
            .iter()
            .filter_map(|t| match &t.data {
                crate::tensor::Data::Codes { codes, .. } => Some((&codes[..], run(t))),
                crate::tensor::Data::Real(_) => None,
            })
            .collect();
        return Tensor::codes(shape.to_vec(), join(&parts, outer), grid.clone());
    }
    let reals: Vec<_> = tensors.iter().map(|t| (t.to_real(), run(t))).collect();
    let parts: Vec<(&[f64], usize)> = reals.iter().map(|(v, r)| (&**v, *r)).collect();
    Tensor::real(shape.to_vec(), join(&parts, outer))
}
