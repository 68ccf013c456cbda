//! Running a layer: sums first, which targets may share, then each target's finish.

mod ends;
mod letter;
mod near_ties;
mod reals;
mod sums;

use align_check_graph::Activation;

pub(crate) use self::ends::ChannelEnd;
pub use self::ends::{Asked, Ended};
use self::letter::mapped;
pub use self::near_ties::{Begins, NearTie, Shifts};
use crate::adapt::{ValueGrid, gfpq_levels};
use crate::buffers::Buffers;
use crate::kernels::{Isa, OverflowCount};
use crate::network::{Kind, Layer};
use crate::num::Trace;
use crate::num::trace::short;
use crate::ops::{constant, real};
use crate::plan::{Finish, LayerPlan, Memo, Pair, Sum};
use crate::quantize::tables;
use crate::tensor::{Codes, Data, Tensor};

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
                if let (Sums::I32(sums), Some(end)) = (sums, self.channel_end()) {
                    return self.coded_from(sums, &end, buffers);
                }
                self.coded(float.codes(self.isa, &self.reals(inputs, sums)))
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
                    Sums::I32(sums) => {
                        if let Some(end) = self.channel_end() {
                            return self.coded_from(sums, &end, buffers);
                        }
                        let sums = sums.iter().map(|&sum| i64::from(sum)).enumerate();
                        self.coded(sums.map(|(i, sum)| code(i, sum)).collect())
                    }
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
        let mut rest = indices;
        let mut out = &mut codes[..];
        while let Some(&first) = rest.first() {
            let own = channels.run_of(first, sums.len());
            let behind = rest.iter().position(|i| !own.contains(i));
            let (run, others) = rest.split_at(behind.unwrap_or(rest.len()));
            let (made, unmade) = std::mem::take(&mut out).split_at_mut(run.len());
            of_run.clear();
            of_run.extend(run.iter().map(|&i| sums[i]));
            requantizer.codes(self.isa, &of_run, channels.of_index(first), 0, made);
            (rest, out) = (others, unmade);
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
