//! Running a layer: sums first, which targets may share, then each target's finish.

mod ends;

use std::sync::Arc;

use align_check_graph::{Activation, Binary, Quantizer};

use self::ends::{ChannelEnd, convolve};
use crate::adapt::{ValueGrid, gfpq_levels};
use crate::buffers::Buffers;
use crate::kernels::{Isa, OverflowCount, conv_f64, conv_in_order, lose_in_pairs, vectorize};
use crate::network::{Kind, Layer, Linear, Post, RowBias, apply_posts, apply_posts_to_all};
use crate::num::Trace;
use crate::num::trace::short;
use crate::ops::{constant, real};
use crate::plan::{Finish, FloatFinish, LayerPlan, Memo, Pair, Paired, Sum};
use crate::quantize::affine;
use crate::quantize::letter_end::{LetterEnd, is_plain};
use crate::quantize::{self, CodeGrid, tables};
use crate::rules::real::RealQuantizer;
use crate::rules::requantize::Kept;
use crate::tensor::{Channels, Codes, Data, Tensor};

/// Results of the sums of a layer, in the layout of its output.
#[derive(Debug, Clone, PartialEq)]
pub enum Sums {
    /// The layer has none.
    None,
    /// Exact integers.
    I32(Vec<i32>),
    /// Integers of an accumulator that may have overflowed.
    I64(Vec<i64>, OverflowCount),
    /// Reals.
    Real(Vec<f64>),
}

impl Sums {
    /// One sum as a real, in units of the accumulator.
    pub fn at(&self, index: usize) -> Option<f64> {
        match self {
            Self::None => None,
            Self::I32(v) => v.get(index).map(|&x| f64::from(x)),
            Self::I64(v, _) => v.get(index).map(|&x| x as f64),
            Self::Real(v) => v.get(index).copied(),
        }
    }

    /// Whether an element's accumulator wrapped or saturated.
    pub fn overflowed(&self, index: usize) -> bool {
        matches!(self, Self::I64(_, count) if count.flags.get(index).is_some_and(|bit| *bit))
    }
}

/// A layer under a plan: runs it.
#[derive(Debug, Clone, Copy)]
pub struct Runner<'a> {
    /// The layer.
    pub layer: &'a Layer,
    /// The plan.
    pub plan: &'a LayerPlan,
    /// Which instructions to use.
    pub isa: Isa,
}

impl Runner<'_> {
    /// The sums of products: the expensive part, which plans with
    /// [`shares_sums`](LayerPlan::shares_sums) need once for the same inputs.
    pub fn sums(&self, inputs: &[&Tensor]) -> Sums {
        self.sums_in(inputs, &mut Buffers::default())
    }

    /// [`sums`](Self::sums) in memory that is used again.
    pub fn sums_in(&self, inputs: &[&Tensor], buffers: &mut Buffers) -> Sums {
        match &self.layer.kind {
            Kind::Linear(linear) => self.linear(linear, inputs[0], buffers),
            Kind::MatMul(matmul) => {
                let [a, b] = matmul.operands.each_ref().map(|o| o.resolve(inputs));
                let shapes = matmul.shapes.each_ref().map(Vec::as_slice);
                match (&a.data, &b.data) {
                    (
                        Data::Codes {
                            codes: qa,
                            grid: ga,
                        },
                        Data::Codes {
                            codes: qb,
                            grid: gb,
                        },
                    ) if ga.is_uniform() && gb.is_uniform() => {
                        let (za, zb) = (ga.zero_point.at(0), gb.zero_point.at(0));
                        let sums = products(shapes, &self.layer.result_shape, |i, j| {
                            (i64::from(qa[i]) - za) * (i64::from(qb[j]) - zb)
                        });
                        Sums::I64(sums, OverflowCount::default())
                    }
                    _ => {
                        let (a, b) = (a.to_real(), b.to_real());
                        Sums::Real(products(shapes, &self.layer.result_shape, |i, j| {
                            a[i] * b[j]
                        }))
                    }
                }
            }
            _ => Sums::None,
        }
    }

    fn linear(&self, linear: &Linear, x: &Tensor, buffers: &mut Buffers) -> Sums {
        let Some(plan) = &self.plan.linear else {
            return Sums::None;
        };
        let (image, output) = (linear.image_len(), linear.output_len());
        match (&plan.sum, &x.data) {
            (Sum::Fast { .. }, Data::Codes { codes, .. }) => {
                let mut sums = buffers.words(linear.batch * output);
                convolve(linear, plan, codes, Some(&mut sums), Vec::new());
                if let Some(paired) = &plan.pairs {
                    let mut wide: Vec<i64> = sums.iter().map(|&sum| i64::from(sum)).collect();
                    let count = lose(linear, paired, codes, &mut wide);
                    if count.elements > 0 {
                        return Sums::I64(linear.to_output(wide), in_output(linear, count));
                    }
                }
                Sums::I32(linear.to_output(sums))
            }
            (
                Sum::InOrder {
                    weights,
                    start,
                    bits,
                    overflow,
                    channel_first,
                    zero,
                    ..
                },
                Data::Codes { codes, .. },
            ) => {
                let centred: Vec<i32> = codes
                    .iter()
                    .map(|&q| (i64::from(q) - zero) as i32)
                    .collect();
                let images = linear.images(&centred, 0);
                let mut sums = vec![0i64; linear.batch * output];
                let (mut count, mut before) = (OverflowCount::default(), 0);
                for (x, out) in images
                    .chunks_exact(image.max(1))
                    .zip(sums.chunks_exact_mut(output.max(1)))
                {
                    let one = conv_in_order(
                        &linear.shape,
                        x,
                        0,
                        weights,
                        start,
                        *bits,
                        *overflow,
                        *channel_first,
                        out,
                    );
                    count.append(&one, before);
                    before += output;
                }
                if let Some(paired) = &plan.pairs {
                    count = lose(linear, paired, codes, &mut sums);
                }
                Sums::I64(linear.to_output(sums), in_output(linear, count))
            }
            (sum, _) => {
                let reals = x.to_real();
                let (weights, channel_first) = match sum {
                    Sum::Real {
                        weights,
                        channel_first,
                    } => (&weights[..], *channel_first),
                    // A plan for codes that is given reals: unreachable, planning follows the grids.
                    _ => return Sums::None,
                };
                let images = linear.images(&reals, 0.0);
                let mut sums = vec![0.0; linear.batch * output];
                for (x, out) in images
                    .chunks_exact(image.max(1))
                    .zip(sums.chunks_exact_mut(output.max(1)))
                {
                    conv_f64(self.isa, &linear.shape, x, 0.0, weights, channel_first, out);
                }
                Sums::Real(linear.to_output(sums))
            }
        }
    }

    /// The layer's output from its sums.
    pub fn finish(&self, inputs: &[&Tensor], sums: &Sums) -> Tensor {
        self.finish_in(inputs, sums, &mut Buffers::default())
    }

    /// [`finish`](Self::finish) in memory that is used again.
    pub fn finish_in(&self, inputs: &[&Tensor], sums: &Sums, buffers: &mut Buffers) -> Tensor {
        let shape = self.layer.shape.clone();
        match &self.plan.finish {
            Finish::Keep { lo, hi } => self.keep(inputs, *lo, *hi, buffers),
            Finish::Letter(quantizer) => self.letter(quantizer.as_deref(), inputs, sums, buffers),
            Finish::Real => Tensor::real(shape, self.reals(inputs, sums)),
            Finish::Float(float) => {
                let FloatFinish {
                    quantizers,
                    channels,
                    tail,
                } = &**float;
                if let [quantizer] = &quantizers[..] {
                    let reals = self.reals(inputs, sums);
                    let all = |quantizer: &RealQuantizer| quantizer.codes(self.isa, &reals);
                    let behind = match tail {
                        Some((behind, inside)) => behind.first().and_then(all).zip(Some(inside)),
                        None => None,
                    };
                    match (all(quantizer), behind) {
                        (Some(codes), None) if tail.is_none() => return self.coded(codes),
                        (Some(mut codes), Some((behind, inside))) => {
                            for ((code, behind), inside) in
                                codes.iter_mut().zip(behind).zip(inside.iter())
                            {
                                *code = if *inside { *code } else { behind };
                            }
                            return self.coded(codes);
                        }
                        _ => {}
                    }
                }
                let code = |(i, &v): (usize, &f64)| {
                    let own = match tail {
                        Some((behind, inside)) if !inside[i] => behind,
                        _ => quantizers,
                    };
                    own[channels.of_index(i)].code(v as f32)
                };
                self.coded(
                    self.reals(inputs, sums)
                        .iter()
                        .enumerate()
                        .map(code)
                        .collect(),
                )
            }
            Finish::DynamicQuantize(part, empty) => {
                let values = real::dynamic_quantize(*part, &inputs[0].to_real(), *empty);
                Tensor::real(shape, values)
            }
            Finish::Reinterpret => match &inputs[0].data {
                Data::Codes { codes, .. } => self.coded(codes.to_vec()),
                Data::Real(_) => self.coded(Vec::new()),
            },
            Finish::Fixed(fixed) => fixed.run(self.layer, inputs, &self.plan.out),
            Finish::Thresholds(counted) => {
                let codes = match sums {
                    Sums::I32(sums) => counted.sums(sums.iter().map(|&s| i64::from(s))),
                    Sums::I64(sums, _) => counted.sums(sums.iter().copied()),
                    // What stands in front of the ReLU.
                    Sums::None | Sums::Real(_) => counted.reals(&self.results(inputs, sums)),
                };
                self.coded(codes)
            }
            Finish::Gfpq { sigmoid } => {
                let ValueGrid::Gfpq { gfpq, z } = &self.plan.out else {
                    return Tensor::real(shape, self.reals(inputs, sums));
                };
                let reals = match sigmoid {
                    Some(function) => inputs[0]
                        .to_real()
                        .iter()
                        .map(|&x| nnie_table(*function, x, &mut Trace::off()))
                        .collect(),
                    None => self.reals(inputs, sums),
                };
                Tensor::real(shape, gfpq_levels(*gfpq, *z, &reals))
            }
            Finish::Requantize {
                requantizer,
                channels,
            } => {
                let code = |i: usize, sum: i64| {
                    let c = channels.of_index(i);
                    requantizer.code(sum, c, self.initialized()).value
                };
                match sums {
                    Sums::I32(sums) => match self.channel_end() {
                        Some(end) => self.coded_from(sums, &end, buffers),
                        None => {
                            let sums = sums.iter().map(|&sum| i64::from(sum)).enumerate();
                            self.coded(sums.map(|(i, sum)| code(i, sum)).collect())
                        }
                    },
                    Sums::I64(sums, _) => {
                        let sums = sums.iter().copied().enumerate();
                        self.coded(sums.map(|(i, sum)| code(i, sum)).collect())
                    }
                    Sums::None | Sums::Real(_) => self.coded(vec![0; shape.iter().product()]),
                }
            }
            Finish::Table(table) => {
                if let (Data::Codes { codes, grid: from }, ValueGrid::Codes { grid, .. }) =
                    (&inputs[0].data, &self.plan.out)
                    && !matches!(self.layer.kind, Kind::MaxPool(_))
                    && table.covers(from.min, from.max)
                {
                    let codes = mapped(codes, from, grid, buffers, |q| table.code(q));
                    return Tensor::kept(shape, codes, grid.clone());
                }
                let codes = match &inputs[0].data {
                    Data::Codes { codes, .. } => codes.iter().map(|&q| table.code(q)).collect(),
                    Data::Real(_) => Vec::new(),
                };
                self.coded(self.windowed(codes))
            }
            Finish::Tables {
                table,
                blocks,
                inside,
            } => {
                let codes = match &inputs[0].data {
                    Data::Codes { codes, .. } => codes
                        .iter()
                        .zip(inside.iter())
                        .map(|(&q, &inside)| {
                            let own = if inside { blocks } else { table };
                            own.code(q)
                        })
                        .collect(),
                    Data::Real(_) => Vec::new(),
                };
                self.coded(codes)
            }
            Finish::Resample(resampler) => match &inputs[0].data {
                Data::Codes { codes, .. } => self.coded(resampler.codes(codes)),
                Data::Real(_) => self.coded(Vec::new()),
            },
            Finish::Function(function) => {
                let codes = match &inputs[0].data {
                    Data::Codes { codes, .. } => codes
                        .iter()
                        .map(|&q| function(q, &mut Trace::off()))
                        .collect(),
                    Data::Real(_) => Vec::new(),
                };
                self.coded(self.windowed(codes))
            }
            Finish::Pair(pair) => {
                let function = |i: usize, a: i32, b: i32| pair.traced(i, a, b, &mut Trace::off());
                let Kind::Binary { operands, .. } = &self.layer.kind else {
                    return self.coded(Vec::new());
                };
                let [a, b] = operands.each_ref().map(|o| o.resolve(inputs));
                let (Data::Codes { codes: qa, .. }, Data::Codes { codes: qb, .. }) =
                    (&a.data, &b.data)
                else {
                    return self.coded(Vec::new());
                };
                let out = &self.layer.result_shape;
                if a.shape == *out
                    && b.shape == *out
                    && let Some(out) = self.pairs_of_bytes(pair, [qa, qb], buffers)
                {
                    return out;
                }
                let codes = match (
                    real::broadcast_index(&a.shape, out),
                    real::broadcast_index(&b.shape, out),
                ) {
                    (None, None) => qa
                        .iter()
                        .zip(qb)
                        .enumerate()
                        .map(|(i, (&a, &b))| function(i, a, b))
                        .collect(),
                    (ia, ib) => (0..out.iter().product())
                        .map(|i| {
                            let a = qa[at(ia.as_deref(), i)];
                            let b = qb[at(ib.as_deref(), i)];
                            function(i, a, b)
                        })
                        .collect(),
                };
                self.coded(codes)
            }
            Finish::Values(values, channels) => {
                let real = |(i, sum): (usize, i64)| {
                    f64::from(values.real(sum, channels.of_index(i), &mut Trace::off()))
                };
                let reals = match sums {
                    Sums::I32(sums) => {
                        let sums = sums.iter().map(|&sum| i64::from(sum));
                        sums.enumerate().map(real).collect()
                    }
                    Sums::I64(sums, _) => sums.iter().copied().enumerate().map(real).collect(),
                    Sums::None | Sums::Real(_) => self.reals(inputs, sums),
                };
                Tensor::real(shape, reals)
            }
            Finish::ConvAdd(add, (lo, hi)) => {
                let short = |reals: &[f64], kept: &[i32]| add.codes(self.isa, reals, kept);
                if let Some(codes) = self.joined_at_once(inputs, short) {
                    return self.coded(codes.iter().map(|code| (*code).clamp(*lo, *hi)).collect());
                }
                let off = &mut Trace::off();
                self.joined(inputs, |v, q| add.code(v, q, off).clamp(*lo, *hi))
            }
            Finish::Epilogue(add) => self.joined(inputs, |v, q| add.code(v, q, &mut Trace::off())),
            Finish::Average(average, (lo, hi)) => {
                let (Kind::Average { windows, .. }, Data::Codes { codes, .. }) =
                    (&self.layer.kind, &inputs[0].data)
                else {
                    return self.coded(Vec::new());
                };
                let mut codes = average.codes(windows, codes);
                for code in &mut codes {
                    *code = (*code).clamp(*lo, *hi);
                }
                self.coded(codes)
            }
            Finish::Softmax(softmax, (lo, hi)) => {
                let (Kind::Softmax { axis, .. }, Data::Codes { codes, .. }) =
                    (&self.layer.kind, &inputs[0].data)
                else {
                    return self.coded(Vec::new());
                };
                let rows = &self.layer.result_shape[*axis..];
                let mut codes = softmax.codes(codes, rows[0], rows[1..].iter().product());
                for code in &mut codes {
                    *code = (*code).clamp(*lo, *hi);
                }
                self.coded(codes)
            }
            Finish::Dequantize(dequantizer, channels) => {
                let real =
                    |(i, n): (usize, i64)| f64::from(dequantizer.real(n, channels.of_index(i)));
                let reals = match (sums, &inputs[0].data) {
                    (Sums::I32(sums), _) => {
                        let sums = sums.iter().map(|&n| i64::from(n));
                        sums.enumerate().map(real).collect()
                    }
                    (Sums::I64(sums, _), _) => sums.iter().copied().enumerate().map(real).collect(),
                    (Sums::None, Data::Codes { codes, .. }) => {
                        let codes = codes.iter().map(|&q| i64::from(q));
                        codes.enumerate().map(real).collect()
                    }
                    (Sums::None | Sums::Real(_), _) => self.reals(inputs, sums),
                };
                Tensor::real(shape, reals)
            }
            Finish::Concat(functions) => {
                let Kind::Concat { axis, operands } = &self.layer.kind else {
                    return self.coded(Vec::new());
                };
                let ValueGrid::Codes { grid, .. } = &self.plan.out else {
                    return Tensor::real(shape, self.reals(inputs, sums));
                };
                let parts: Vec<Tensor> = operands
                    .iter()
                    .zip(functions)
                    .map(|(operand, function)| {
                        let x = operand.resolve(inputs);
                        let codes = match (&x.data, function) {
                            (Data::Codes { codes, .. }, Some(f)) => {
                                codes.iter().map(|&q| f(q, &mut Trace::off())).collect()
                            }
                            (Data::Codes { codes, .. }, None) => codes.to_vec(),
                            (Data::Real(_), _) => Vec::new(),
                        };
                        Tensor::codes(x.shape.clone(), codes, grid.clone())
                    })
                    .collect();
                let parts: Vec<&Tensor> = parts.iter().collect();
                let mut joined = constant::concat(&parts, *axis, &self.layer.result_shape);
                joined.shape = shape;
                joined
            }
        }
    }

    /// A function of two tensors of bytes of one shape.
    fn pairs_of_bytes(
        &self,
        pair: &Pair,
        [a, b]: [&Codes; 2],
        buffers: &mut Buffers,
    ) -> Option<Tensor> {
        let ValueGrid::Codes { grid, .. } = &self.plan.out else {
            return None;
        };
        let ((first_a, a), (first_b, b)) = (a.bytes()?, b.bytes()?);
        let first = Codes::first(grid)?;
        let mut codes = buffers.bytes(a.len());
        let code = |inside: bool, a: u8, b: u8| {
            pair.code(inside, first_a + i32::from(a), first_b + i32::from(b))
        };
        match &pair.blocks {
            None => {
                let code = |a, b| code(false, a, b);
                pair.memo.bytes([a, b], first, &mut codes, code)?;
            }
            Some((_, inside)) => {
                let memos = [&pair.memo, &pair.in_blocks];
                Memo::bytes_of_two(memos, inside, [a, b], first, &mut codes, code)?;
            }
        }
        let codes = Codes::of_bytes(first, codes);
        Some(Tensor::kept(self.layer.shape.clone(), codes, grid.clone()))
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

    /// An addition that a convolution is a part of: from its real and the other operand's code.
    fn joined(&self, inputs: &[&Tensor], mut code: impl FnMut(f32, i32) -> i32) -> Tensor {
        let (Kind::Binary { operands, .. }, Some(joined)) = (&self.layer.kind, &self.layer.joined)
        else {
            return self.coded(Vec::new());
        };
        let conv = operands[joined.operand].resolve(inputs).to_real();
        let other = operands[1 - joined.operand].resolve(inputs);
        let Data::Codes { codes, .. } = &other.data else {
            return self.coded(Vec::new());
        };
        let sum = |(&v, &q): (&f64, &i32)| code(v as f32, q);
        self.coded(conv.iter().zip(codes).map(sum).collect())
    }

    /// The same of all elements.
    fn joined_at_once(
        &self,
        inputs: &[&Tensor],
        codes: impl Fn(&[f64], &[i32]) -> Option<Vec<i32>>,
    ) -> Option<Vec<i32>> {
        let (Kind::Binary { operands, .. }, Some(joined)) = (&self.layer.kind, &self.layer.joined)
        else {
            return None;
        };
        let conv = operands[joined.operand].resolve(inputs);
        let Data::Codes { codes: kept, .. } = &operands[1 - joined.operand].resolve(inputs).data
        else {
            return None;
        };
        codes(&conv.to_real(), kept).filter(|codes| codes.len() == kept.len())
    }

    pub(crate) fn initialized(&self) -> bool {
        matches!(
            self.plan.linear.as_ref().map(|l| &l.sum),
            Some(Sum::InOrder {
                initialized: true,
                ..
            })
        )
    }

    /// Codes made of one sum each, channel by channel: as bytes where the output's grid has no more codes.
    fn coded_from(&self, sums: &[i32], end: &ChannelEnd, buffers: &mut Buffers) -> Tensor {
        let runs = end.channels.runs(sums.len());
        if let ValueGrid::Codes { grid, .. } = &self.plan.out
            && let Some(first) = Codes::first(grid)
        {
            let mut codes = buffers.bytes(sums.len());
            for (c, run) in runs {
                end.codes(&sums[run.clone()], c, first, &mut codes[run]);
            }
            let codes = Codes::of_bytes(first, codes);
            return Tensor::kept(self.layer.shape.clone(), codes, grid.clone());
        }
        let mut codes = vec![0; sums.len()];
        for (c, run) in runs {
            end.codes(&sums[run.clone()], c, 0, &mut codes[run]);
        }
        self.coded(codes)
    }

    fn coded(&self, codes: Vec<i32>) -> Tensor {
        match &self.plan.out {
            ValueGrid::Codes { grid, .. } => {
                Tensor::codes(self.layer.shape.clone(), codes, grid.clone())
            }
            _ => Tensor::real(
                self.layer.shape.clone(),
                codes.into_iter().map(f64::from).collect(),
            ),
        }
    }

    /// The maximum over windows of a layer that is one, after its codes were mapped: tables of
    /// quantizers are monotone, so both orders give the same.
    fn windowed(&self, codes: Vec<i32>) -> Vec<i32> {
        match &self.layer.kind {
            Kind::MaxPool(windows) => windows.fold(&codes, i32::MIN, i32::max),
            _ => codes,
        }
    }

    fn keep(&self, inputs: &[&Tensor], lo: i32, hi: i32, buffers: &mut Buffers) -> Tensor {
        let shape = self.layer.shape.clone();
        let mut out = match &self.layer.kind {
            Kind::Movement(movement) => movement.apply_in(inputs[0], buffers),
            Kind::Concat { axis, operands } => {
                let parts: Vec<&Tensor> = operands.iter().map(|o| o.resolve(inputs)).collect();
                constant::concat(&parts, *axis, &self.layer.result_shape)
            }
            Kind::MaxPool(windows) => match &inputs[0].data {
                Data::Codes { codes, grid } => Tensor::codes(
                    shape.clone(),
                    windows.fold(codes, i32::MIN, i32::max),
                    grid.clone(),
                ),
                Data::Real(values) => Tensor::real(
                    shape.clone(),
                    windows.fold(values, f64::NEG_INFINITY, f64::max),
                ),
            },
            _ => inputs[0].clone(),
        };
        out.shape = shape;
        if let Data::Codes { codes, grid } = &mut out.data
            && (i64::from(lo) > grid.min || i64::from(hi) < grid.max)
        {
            codes.clamp(lo, hi);
        }
        out
    }

    /// The operation's result before [`Layer::posts`], exactly (in `f64`).
    fn results(&self, inputs: &[&Tensor], sums: &Sums) -> Vec<f64> {
        match &self.layer.kind {
            Kind::Linear(linear) => {
                let plan = self.plan.linear.as_ref();
                let unit = plan.map_or(&[][..], |l| &l.unit);
                let biases = plan.map_or(&[][..], |l| &l.bias);
                let channels = self.layer.channels();
                let from_bias = if self.initialized() { 0.0 } else { 1.0 };
                let rows = linear.rows.as_ref();
                let row = |rows: &RowBias, i: usize| rows.entries.reals[rows.channels.of_index(i)];
                let factor = self.real_factor(linear);
                let mut reals: Vec<f64> = match sums {
                    Sums::I32(v) => v.iter().map(|&s| f64::from(s)).collect(),
                    Sums::I64(v, _) => v.iter().map(|&s| s as f64).collect(),
                    Sums::Real(v) => v.iter().map(|&s| s * factor).collect(),
                    Sums::None => Vec::new(),
                };
                for (c, run) in channels.runs(reals.len()) {
                    let (unit, bias) = (unit[c], biases[c] * from_bias);
                    let start = run.start;
                    for (i, real) in reals[run].iter_mut().enumerate() {
                        let row = rows.map_or(0.0, |rows| row(rows, start + i));
                        *real = *real * unit + (bias + row);
                    }
                }
                reals
            }
            Kind::MatMul(matmul) => match sums {
                Sums::I64(v, _) => {
                    let unit: f64 = matmul
                        .operands
                        .iter()
                        .filter_map(|o| o.resolve(inputs).grid().map(|g| g.scale.at(0)))
                        .product();
                    v.iter().map(|&s| s as f64 * unit).collect()
                }
                Sums::Real(v) => v.clone(),
                _ => Vec::new(),
            },
            Kind::Binary { op, operands, .. } => {
                let [a, b] = operands.each_ref().map(|o| o.resolve(inputs));
                let out = &self.layer.result_shape;
                let (ia, ib) = (
                    real::broadcast_index(&a.shape, out),
                    real::broadcast_index(&b.shape, out),
                );
                let (a, b) = (a.to_real(), b.to_real());
                (0..out.iter().product())
                    .map(|i| real::binary(*op, a[at(ia.as_deref(), i)], b[at(ib.as_deref(), i)]))
                    .collect()
            }
            Kind::Average { windows, .. } => {
                let divisor = |i: usize| f64::from(windows.divisors[i % windows.len().max(1)]);
                match &inputs[0].data {
                    // An exact sum, one product and one quotient.
                    Data::Codes { codes, grid } if grid.is_uniform() => {
                        let zero = grid.zero_point.at(0);
                        let scale = grid.scale.at(0);
                        let sums = windows.fold(codes, 0i64, |a, q| a + i64::from(q) - zero);
                        let mean = |(i, s): (usize, i64)| s as f64 * scale / divisor(i);
                        sums.into_iter().enumerate().map(mean).collect()
                    }
                    _ => {
                        let sums = windows.fold(&inputs[0].to_real(), 0.0, |a: f64, v| a + v);
                        sums.into_iter()
                            .enumerate()
                            .map(|(i, s)| s / divisor(i))
                            .collect()
                    }
                }
            }
            Kind::MaxPool(windows) => {
                windows.fold(&inputs[0].to_real(), f64::NEG_INFINITY, f64::max)
            }
            Kind::Movement(movement) => movement.apply(inputs[0]).to_real().into_owned(),
            Kind::Concat { axis, operands } => {
                let parts: Vec<&Tensor> = operands.iter().map(|o| o.resolve(inputs)).collect();
                constant::concat(&parts, *axis, &self.layer.result_shape)
                    .to_real()
                    .into_owned()
            }
            Kind::Resample(resize) => {
                real::resample(resize, &inputs[0].to_real(), &inputs[0].shape)
            }
            Kind::Softmax { axis, beta } => real::softmax(
                &inputs[0].to_real(),
                &inputs[0].shape,
                *axis,
                f64::from(*beta),
            ),
            Kind::DynamicQuantize(part) => real::dynamic_quantize(*part, &inputs[0].to_real(), 1.0),
            // Only codes can be read anew: no plan asks for the reals in between.
            Kind::Pass | Kind::Reinterpret { .. } => inputs[0].to_real().into_owned(),
        }
    }

    /// `alpha` where the unit does not hold it: real sums carry no scale of their own.
    pub(crate) fn real_factor(&self, linear: &Linear) -> f64 {
        let unit = self
            .plan
            .linear
            .as_ref()
            .and_then(|l| l.unit.first().copied());
        if unit == Some(1.0) {
            linear.factor
        } else {
            1.0
        }
    }

    /// The reals in front of the quantizer.
    pub fn reals(&self, inputs: &[&Tensor], sums: &Sums) -> Vec<f64> {
        let mut values = self.results(inputs, sums);
        apply_posts_to_all(&self.layer.posts, &mut values);
        values
    }

    /// The real in front of the quantizer at one element of a layer of integer sums; `None` where it is
    /// not made of one sum.
    pub fn real_at(&self, sums: &Sums, index: usize) -> Option<f64> {
        let Kind::Linear(Linear { rows: None, .. }) = &self.layer.kind else {
            return None;
        };
        let sum = match sums {
            Sums::I32(v) => f64::from(v[index]),
            _ => return None,
        };
        let c = self.layer.channels().of_index(index);
        let plan = self.plan.linear.as_ref()?;
        let real = sum * plan.unit[c] + plan.bias[c];
        Some(apply_posts(&self.layer.posts, real, index))
    }

    /// Largest magnitude in front of [`Layer::posts`] of a layer of integer sums.
    pub fn largest(&self, sums: &Sums) -> Option<f64> {
        let (Kind::Linear(Linear { rows: None, .. }), Sums::I32(sums)) = (&self.layer.kind, sums)
        else {
            return None;
        };
        let plan = self.plan.linear.as_ref()?;
        let channels = self.layer.channels();
        let mut largest = 0.0f64;
        for (c, run) in channels.runs(sums.len()) {
            let sum = vectorize(
                self.isa,
                #[inline(always)]
                || sums[run].iter().fold(0u32, |m, s| m.max(s.unsigned_abs())),
            );
            largest = largest.max(f64::from(sum) * plan.unit[c].abs() + plan.bias[c].abs());
        }
        Some(largest)
    }

    /// Output codes of some elements, where each is made of one sum.
    pub fn codes_at(&self, sums: &Sums, indices: &[usize]) -> Option<Vec<i32>> {
        let (
            Finish::Requantize {
                requantizer,
                channels,
            },
            Sums::I32(sums),
        ) = (&self.plan.finish, sums)
        else {
            return None;
        };
        let mut codes = vec![0; indices.len()];
        let mut of_run = Vec::new();
        let mut done = 0;
        let channel = |&i: &usize| channels.of_index(i);
        for run in indices.chunk_by(|a, b| channel(a) == channel(b)) {
            of_run.clear();
            of_run.extend(run.iter().map(|&i| sums[i]));
            let out = &mut codes[done..done + run.len()];
            requantizer.codes(self.isa, &of_run, channel(&run[0]), 0, out);
            done += run.len();
        }
        Some(codes)
    }

    /// Output codes of some elements of an operation on two tensors of codes, without the others.
    pub fn pairs_at(&self, inputs: &[&Tensor], indices: &[usize]) -> Option<Vec<i32>> {
        let (Finish::Pair(pair), Kind::Binary { operands, .. }) =
            (&self.plan.finish, &self.layer.kind)
        else {
            return None;
        };
        if self.layer.result_shape != self.layer.shape {
            return None;
        }
        let [a, b] = operands.each_ref().map(|o| o.resolve(inputs));
        let (Data::Codes { codes: qa, .. }, Data::Codes { codes: qb, .. }) = (&a.data, &b.data)
        else {
            return None;
        };
        let out = &self.layer.result_shape;
        let (ia, ib) = (
            real::broadcast_index(&a.shape, out),
            real::broadcast_index(&b.shape, out),
        );
        let (lo, hi) = pair.clamp;
        let code = |&i: &usize| {
            let (a, b) = (qa[at(ia.as_deref(), i)], qb[at(ib.as_deref(), i)]);
            pair.traced(i, a, b, &mut Trace::off()).clamp(lo, hi)
        };
        Some(indices.iter().map(code).collect())
    }

    /// The model's own quantizer on the exact real, to the letter.
    fn letter(
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
fn mapped(
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

/// Takes from exact sums what they lose where pairs of products saturate.
fn lose(linear: &Linear, paired: &Paired, codes: &[i32], sums: &mut [i64]) -> OverflowCount {
    let bytes: Vec<u8> = codes
        .iter()
        .map(|&q| (i64::from(q) + paired.offset) as u8)
        .collect();
    let images = linear.images(&bytes, paired.pad);
    let (image, output) = (linear.image_len().max(1), linear.output_len().max(1));
    let (mut count, mut before) = (OverflowCount::default(), 0);
    for (x, out) in images
        .chunks_exact(image)
        .zip(sums.chunks_exact_mut(output))
    {
        let one = lose_in_pairs(&linear.shape, x, paired.pad, &paired.pairs, out);
        count.append(&one, before);
        before += output;
    }
    count
}

/// The flags of sums in the layout of the layer's output.
fn in_output(linear: &Linear, mut count: OverflowCount) -> OverflowCount {
    if !count.flags.is_empty() {
        let flags: Vec<bool> = count.flags.iter().by_vals().collect();
        count.flags = linear.to_output(flags).into_iter().collect();
    }
    count
}

fn at(table: Option<&[u32]>, i: usize) -> usize {
    table.map_or(i, |t| t[i] as usize)
}

/// NNIE's sigmoid and tanh tables: 512 Q15 entries over [-16, 16), the entry at or below `x`.
pub(crate) fn nnie_table(function: Activation, x: f64, trace: &mut Trace) -> f64 {
    let (name, table) = match function {
        Activation::Tanh => ("tanh", tables::tanh()),
        _ => ("sigmoid", tables::sigmoid()),
    };
    let index =
        (libm::floor(x * 16.0) + tables::MIDDLE as f64).clamp(0.0, (tables::ENTRIES - 1) as f64);
    let how = || {
        format!(
            "floor({} * 16) + {}, within the table",
            short(x),
            tables::MIDDLE
        )
    };
    trace.step("index", how, index);
    let entry = f64::from(table[index as usize]);
    trace.step("entry", || format!("of the table of {name}"), entry);
    trace.step("real", || "entry / 32768".into(), entry / 32768.0)
}

/// Batched matrix products with numpy's broadcasting, summed in order of the inner axis.
fn products<T>(shapes: [&[usize]; 2], out: &[usize], product: impl Fn(usize, usize) -> T) -> Vec<T>
where
    T: Default + Copy + std::ops::Add<Output = T>,
{
    let [a, b] = shapes;
    let (n, k) = (a[a.len() - 2], a[a.len() - 1]);
    let m = b[b.len() - 1];
    let batch = &out[..out.len() - 2];
    let (ia, ib) = (
        real::broadcast_index(&a[..a.len() - 2], batch),
        real::broadcast_index(&b[..b.len() - 2], batch),
    );
    let mut sums = Vec::with_capacity(out.iter().product());
    for at_batch in 0..batch.iter().product() {
        let (a0, b0) = (
            at(ia.as_deref(), at_batch) * n * k,
            at(ib.as_deref(), at_batch) * k * m,
        );
        for row in 0..n {
            for column in 0..m {
                let terms = (0..k).map(|i| product(a0 + row * k + i, b0 + i * m + column));
                sums.push(terms.fold(T::default(), |s, t| s + t));
            }
        }
    }
    sums
}
