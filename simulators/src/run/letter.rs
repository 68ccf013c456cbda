//! The model's own quantizer on the exact real, to the letter: the reference.

use std::sync::Arc;

use align_check_graph::{Binary, Quantizer};

use super::{Runner, Sums};
use crate::adapt::ValueGrid;
use crate::buffers::Buffers;
use crate::network::{Kind, Post, apply_posts};
use crate::ops::real;
use crate::quantize;
use crate::quantize::letter_end::{LetterEnd, is_plain};
use crate::quantize::{CodeGrid, affine};
use crate::rules::requantize::Kept;
use crate::tensor::{Channels, Codes, Data, Tensor};

impl Runner<'_> {
    /// The model's own quantizer on the exact real, to the letter.
    pub(super) fn letter(
        &self,
        quantizer: Option<&Quantizer>,
        inputs: &[&Tensor],
        sums: &Sums,
        buffers: &mut Buffers,
    ) -> Tensor {
        let Some(quantizer) = quantizer else {
            return Tensor::real(self.layer.shape.clone(), self.reals(inputs, sums));
        };
        let ValueGrid::Codes { grid, .. } = &self.plan.out else {
            let values: Vec<f32> = self.reals(inputs, sums).iter().map(|&v| v as f32).collect();
            let out = quantize::evaluate(quantizer, &values, &self.layer.shape);
            return Tensor::real(
                self.layer.shape.clone(),
                out.into_iter().map(f64::from).collect(),
            );
        };
        if let (Sums::I32(sums), Some(end)) = (sums, self.channel_end()) {
            return self.coded_from(sums, &end, buffers);
        }
        if let Some(out) = self.letter_pair(quantizer, inputs, grid, buffers) {
            return out;
        }
        if let Some(codes) = self.letter_table(quantizer, inputs, grid, buffers) {
            return Tensor::kept(self.layer.shape.clone(), codes, grid.clone());
        }
        let values: Vec<f32> = self.reals(inputs, sums).iter().map(|&v| v as f32).collect();
        let codes = quantize::codes(quantizer, &values, &self.layer.shape).unwrap_or_default();
        Tensor::codes(self.layer.shape.clone(), codes, grid.clone())
    }

    /// [`letter`](Self::letter) of a sum, difference or product of two tensors of bytes of one shape, with clamps behind
    /// it.
    fn letter_pair(
        &self,
        quantizer: &Quantizer,
        inputs: &[&Tensor],
        grid: &Arc<CodeGrid>,
        buffers: &mut Buffers,
    ) -> Option<Tensor> {
        let (Kind::Binary { op, operands, .. }, Quantizer::Affine(a)) =
            (&self.layer.kind, quantizer)
        else {
            return None;
        };
        let plain = is_plain(a) && grid.is_uniform() && *op != Binary::Div;
        let first = Codes::first(grid).filter(|_| plain)?;
        let clamps = self.layer.posts.iter().map(|post| match post {
            Post::Clamp { lo, hi } => Some((*lo, *hi)),
            _ => None,
        });
        let clamps: Vec<(f64, f64)> = clamps.collect::<Option<_>>()?;
        let operand = |index: usize| {
            let tensor: &Tensor = operands[index].resolve(inputs);
            let Data::Codes { codes, grid } = &tensor.data else {
                return None;
            };
            let (first, bytes) = codes.bytes()?;
            let fits = grid.is_uniform() && tensor.shape == self.layer.result_shape;
            let zero = grid.zero_point.at(0) as f64;
            // The real of each byte.
            let real = |byte: u8| (f64::from(first + i32::from(byte)) - zero) * grid.scale.at(0);
            let reals: [f64; 256] = std::array::from_fn(|byte| real(byte as u8));
            fits.then_some((bytes, reals))
        };
        let ((a_bytes, a_reals), (b_bytes, b_reals)) = (operand(0)?, operand(1)?);
        let mut codes = buffers.bytes(a_bytes.len());
        let end = LetterEnd::new(a, (f64::NEG_INFINITY, f64::INFINITY));
        for ((out, &a), &b) in codes.iter_mut().zip(a_bytes).zip(b_bytes) {
            let v = real::binary(*op, a_reals[usize::from(a)], b_reals[usize::from(b)]);
            let v = clamps.iter().fold(v, |v, (lo, hi)| v.max(*lo).min(*hi));
            *out = Kept::keep(end.code(v), first);
        }
        let codes = Codes::of_bytes(first, codes);
        Some(Tensor::kept(self.layer.shape.clone(), codes, grid.clone()))
    }

    /// [`letter`](Self::letter) of a layer that is a function of one code: each code is evaluated once.
    fn letter_table(
        &self,
        quantizer: &Quantizer,
        inputs: &[&Tensor],
        grid: &CodeGrid,
        buffers: &mut Buffers,
    ) -> Option<Codes> {
        let Quantizer::Affine(a) = quantizer else {
            return None;
        };
        let Kind::Pass = self.layer.kind else {
            return None;
        };
        let Data::Codes { codes, grid: from } = &inputs[0].data else {
            return None;
        };
        let uniform = |post: &crate::network::Post| match post {
            crate::network::Post::Affine { channels, .. }
            | crate::network::Post::Leaky { channels, .. } => *channels == Channels::ONE,
            _ => true,
        };
        let span = from.max - from.min;
        if !from.is_uniform()
            || !grid.is_uniform()
            || !self.layer.posts.iter().all(uniform)
            || span >= 1 << 16
            || span as usize > codes.len()
        {
            return None;
        }
        let channel = affine::Channel::new(a, a.scale.at(0), a.zero_point.at(0))
            .multiplied(a.multiplier.as_ref().map(|m| m.at(0)));
        let table: Vec<i32> = (from.min..=from.max)
            .map(|code| {
                let v = apply_posts(&self.layer.posts, from.real(code, 0), 0) as f32;
                affine::quantize_affine(v, channel) as i32
            })
            .collect();
        let code = |q: i32| table[(i64::from(q) - from.min) as usize];
        Some(mapped(codes, from, grid, buffers, code))
    }
}

/// A function of each code: of bytes, once for each of them.
pub(super) fn mapped(
    codes: &Codes,
    from: &CodeGrid,
    to: &CodeGrid,
    buffers: &mut Buffers,
    code: impl Fn(i32) -> i32,
) -> Codes {
    if let (Some((own, bytes)), Some(first)) = (codes.bytes(), Codes::first(to))
        && i64::from(own) == from.min
    {
        let last = (from.max - from.min) as usize;
        let table: [i32; 256] =
            std::array::from_fn(|byte| code(own + byte.min(last) as i32).wrapping_sub(first));
        if table.iter().all(|byte| (0..256).contains(byte)) {
            let table = table.map(|byte| byte as u8);
            let mut out = buffers.bytes(bytes.len());
            if (0..=last).all(|byte| usize::from(table[byte]) == byte) {
                out.copy_from_slice(bytes);
            } else {
                for (out, &byte) in out.iter_mut().zip(bytes) {
                    *out = table[usize::from(byte)];
                }
            }
            return Codes::of_bytes(first, out);
        }
    }
    Codes::new(codes.iter().map(|&q| code(q)).collect(), to)
}
