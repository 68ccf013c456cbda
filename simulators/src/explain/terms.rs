//! What an element reads: the products of its sum, the elements of its window.

use align_check_specs::Overflow;

use super::{Element, Term, Traced};
use crate::adapt;
use crate::network::{Kind, Linear, MatMul, Operand};
use crate::num::{Exact, Width, saturate};
use crate::ops::{real, window::Windows};
use crate::plan::{LinearPlan, Sum};
use crate::run::Sums;
use crate::tensor::{Data, Tensor};

/// Stands for no element: padding.
const OUTSIDE: usize = usize::MAX;

/// What one element of a convolution's output reads.
pub(crate) struct Taps {
    /// The output channel.
    pub m: usize,
    /// Elements of the input by channel of the group, row and column of the kernel; `None` outside the image.
    pub elements: Vec<Option<usize>>,
}

impl Taps {
    /// Of the element `index` of the output; the input has `len` elements.
    pub fn of(linear: &Linear, len: usize, index: usize) -> Self {
        let shape = &linear.shape;
        // The same functions that bring the tensors into the kernels' layout, of the elements' numbers.
        let ids: Vec<usize> = (0..len).collect();
        let images = linear.images(&ids, OUTSIDE);
        let (image, output) = (linear.image_len().max(1), linear.output_len().max(1));
        let at = linear.to_output((0..linear.batch * output).collect::<Vec<_>>())[index];
        let images = &images[at / output * image..];
        let positions = (shape.out_height * shape.out_width).max(1);
        let (m, position) = (at % output / positions, at % positions);
        let (oy, ox) = (position / shape.out_width, position % shape.out_width);
        let [rows, columns] = shape.kernel;
        let channels = shape.channels / shape.groups.max(1);
        let group = m / (shape.out_channels / shape.groups.max(1)).max(1);
        let position = |n: usize| {
            let (c, ky, kx) = (n / (rows * columns), n / columns % rows, n % columns);
            let y = (oy * shape.strides[0] + ky * shape.dilations[0])
                .checked_add_signed(-shape.pads[0].cast_signed())?;
            let x = (ox * shape.strides[1] + kx * shape.dilations[1])
                .checked_add_signed(-shape.pads[1].cast_signed())?;
            if y >= shape.height || x >= shape.width {
                return None;
            }
            let plane = group * channels + c;
            let id = images[(plane * shape.height + y) * shape.width + x];
            (id != OUTSIDE).then_some(id)
        };
        Self {
            m,
            elements: (0..channels * rows * columns).map(position).collect(),
        }
    }
}

impl Element<'_> {
    /// The sum of products, with its terms; what the accumulator started from counts.
    pub(super) fn sum(&mut self) -> Traced<i64> {
        let sum = match &self.runner.layer.kind {
            Kind::Linear(linear) => {
                let plan = self.runner.plan.linear.as_ref();
                self.linear(linear, plan.ok_or("a sum without a plan")?)?
            }
            Kind::MatMul(_) => {
                self.products()?;
                let sum = self.terms.iter().map(Term::product).sum();
                self.added(sum)
            }
            _ => return Err("an operation without a sum".into()),
        };
        let held = match self.sums {
            Sums::I32(sums) => i64::from(sums[self.index]),
            Sums::I64(sums, _) => sums[self.index],
            Sums::None | Sums::Real(_) => return Err("a sum of reals".into()),
        };
        let sum = self.less_what_pairs_lose(sum);
        if held == sum {
            Ok(sum)
        } else {
            Err(format!(
                "an accumulator that holds {held} where its products add up to {sum}"
            ))
        }
    }

    fn added(&mut self, sum: i64) -> i64 {
        let count = self.terms.len();
        let how = || format!("of {count} products");
        self.trace.step("accumulator", how, sum)
    }

    fn linear(&mut self, linear: &Linear, plan: &LinearPlan) -> Traced<i64> {
        let x = self.inputs[0];
        let Data::Codes { codes, .. } = &x.data else {
            return Err("a sum of reals".into());
        };
        let (zero, channel_first) = match &plan.sum {
            Sum::Fast { zero, .. } => (*zero, true),
            Sum::InOrder {
                zero,
                channel_first,
                ..
            } => (*zero, *channel_first),
            Sum::Real { .. } => return Err("a sum of reals".into()),
        };
        let Taps { m, elements } = Taps::of(linear, x.len(), self.index);
        let taps = elements.len();
        let weights = self.weights(linear, plan, m, taps)?;
        for tap in order(linear, channel_first) {
            let code = elements[tap].map_or(zero, |id| i64::from(codes[id]));
            self.terms.push(Term {
                operand: 0,
                element: elements[tap],
                value: Exact::from(code),
                centred: code - zero,
                factor: Some((weights[tap], m * taps + tap)),
                real_factor: None,
            });
        }
        Ok(self.accumulate(plan, m))
    }

    /// The sum where products are added two at a time in 16 bits that saturate: those pairs that do are written down,
    /// with the bytes that are multiplied.
    fn less_what_pairs_lose(&mut self, exact: i64) -> i64 {
        let plan = self.runner.plan.linear.as_ref();
        let (Some(paired), Kind::Linear(linear), Data::Codes { codes, .. }) = (
            plan.and_then(|plan| plan.pairs.as_ref()),
            &self.runner.layer.kind,
            &self.inputs[0].data,
        ) else {
            return exact;
        };
        let taps = Taps::of(linear, codes.len(), self.index);
        let byte = |tap: usize| {
            let code = taps.elements[tap].map(|id| i64::from(codes[id]) + paired.offset);
            code.unwrap_or(paired.pad.into())
        };
        let mut sum = exact;
        for (places, weights) in paired.pairs.of_channel(taps.m) {
            let [a, b] = places.map(byte);
            let [wa, wb] = weights.map(i64::from);
            let whole = a * wa + b * wb;
            let kept = saturate(whole.into(), 16);
            if kept.value != whole {
                let how = || format!("{a} * {wa} + {b} * {wb} = {whole}, in 16 bits");
                sum += self.trace.flagged("pair", how, kept).value - whole;
            }
        }
        if sum != exact {
            let how = || format!("{exact}, less what the pairs lose");
            self.trace.step("accumulator", how, sum);
        }
        sum
    }

    /// The sum of products of reals, with its terms.
    pub(super) fn real_sum(&mut self) -> Traced<f64> {
        match &self.runner.layer.kind {
            Kind::Linear(linear) => {
                let plan = self.runner.plan.linear.as_ref();
                let Some(Sum::Real {
                    weights,
                    channel_first,
                }) = plan.map(|plan| &plan.sum)
                else {
                    return Err("reals that a plan for codes is given".into());
                };
                let x = self.inputs[0].to_real();
                let Taps { m, elements } = Taps::of(linear, x.len(), self.index);
                for tap in order(linear, *channel_first) {
                    let weight = m * elements.len() + tap;
                    let value = elements[tap].map_or(0.0, |id| x[id]);
                    let factor = Some((weights[weight], weight));
                    self.terms.push(Term::real(elements[tap], value, factor));
                }
            }
            Kind::MatMul(matmul) => {
                let [a, b] = matmul
                    .operands
                    .each_ref()
                    .map(|o| o.resolve(self.inputs).to_real());
                for [ia, ib] in self.pairs(matmul) {
                    let factor = Some((b[ib], ib));
                    self.terms.push(Term::real(Some(ia), a[ia], factor));
                }
            }
            _ => return Err("an operation without a sum".into()),
        }
        let products = self.terms.iter().filter_map(Term::real_product);
        let sum = products.fold(0.0, |sum, product| sum + product);
        let count = self.terms.len();
        let how = || format!("of {count} products, added in this order; f64 after each step");
        let sum = self.trace.step("accumulator", how, sum);
        match self.sums {
            Sums::Real(sums) if sums[self.index].to_bits() == sum.to_bits() => Ok(sum),
            Sums::Real(sums) => Err(format!(
                "a sum that is {} where its products add up to {sum}",
                sums[self.index]
            )),
            _ => Err("a sum of codes".into()),
        }
    }

    /// The weights of an output channel, less their zero point.
    fn weights(
        &self,
        linear: &Linear,
        plan: &LinearPlan,
        m: usize,
        taps: usize,
    ) -> Traced<Vec<i64>> {
        let row = m * taps..(m + 1) * taps;
        if let Sum::InOrder { weights, .. } = &plan.sum {
            return Ok(weights[row].iter().map(|&w| i64::from(w)).collect());
        }
        let adapted = adapt::weights(&self.spec.weights, &self.spec.activations, linear)?;
        let Data::Codes { codes, grid } = &adapted.tensor.data else {
            return Err("weights without codes".into());
        };
        let zero = grid.zero_point.at(m);
        Ok(codes[row].iter().map(|&w| i64::from(w) - zero).collect())
    }

    /// Adds the terms as the accumulator does.
    fn accumulate(&mut self, plan: &LinearPlan, m: usize) -> i64 {
        let Sum::InOrder {
            start,
            bits,
            overflow,
            initialized,
            ..
        } = &plan.sum
        else {
            let sum = self.terms.iter().map(Term::product).sum();
            return self.added(sum);
        };
        let mut acc = start[m];
        if *initialized {
            let how = || "the accumulator begins with it".to_owned();
            self.trace.step("bias", how, acc);
        }
        let width = Width {
            bits: *bits,
            overflow: *overflow,
        };
        for (n, term) in self.terms.iter().enumerate() {
            let next = width.add(acc, term.product());
            if !next.flags.is_empty() && *overflow != Overflow::Exact {
                let how = || format!("term {}: {acc} + {} in {bits} bits", n + 1, term.product());
                let _ = self.trace.flagged("overflow", how, next);
            }
            acc = next.value;
        }
        self.added(acc)
    }

    /// The products of a matrix product of two activations.
    fn products(&mut self) -> Traced<()> {
        let Kind::MatMul(matmul) = &self.runner.layer.kind else {
            return Ok(());
        };
        let [a, b] = matmul.operands.each_ref().map(|o| o.resolve(self.inputs));
        let (Some((qa, za)), Some((qb, zb))) = (coded(a), coded(b)) else {
            return Err("a product of reals".into());
        };
        for [ia, ib] in self.pairs(matmul) {
            self.terms.push(Term {
                operand: 0,
                element: Some(ia),
                value: Exact::from(qa[ia]),
                centred: i64::from(qa[ia]) - za,
                factor: Some((i64::from(qb[ib]) - zb, ib)),
                real_factor: None,
            });
        }
        Ok(())
    }

    /// Which elements a matrix product multiplies, in the order of its sum.
    fn pairs(&self, matmul: &MatMul) -> Vec<[usize; 2]> {
        let [sa, sb] = matmul.shapes.each_ref().map(Vec::as_slice);
        let out = &self.runner.layer.result_shape;
        let (k, m) = (sa[sa.len() - 1], sb[sb.len() - 1]);
        let n = sa[sa.len() - 2];
        let (batch, row, column) = (self.index / (n * m), self.index / m % n, self.index % m);
        let batches = &out[..out.len() - 2];
        let first = |own: &[usize], size: usize| {
            let table = real::broadcast_index(&own[..own.len() - 2], batches);
            table.map_or(batch, |table| table[batch] as usize) * size
        };
        let (a0, b0) = (first(sa, n * k), first(sb, k * m));
        (0..k)
            .map(|i| [a0 + row * k + i, b0 + i * m + column])
            .collect()
    }

    /// The elements of the window of a pool or a mean; their codes.
    pub(super) fn window(&mut self, windows: &Windows) -> Traced<Vec<i32>> {
        let x = self.inputs[0];
        let Some((codes, zero)) = coded(x) else {
            return Err("a window of reals".into());
        };
        let elements = self.of_window(windows);
        self.terms.extend(elements.iter().map(|&element| Term {
            operand: 0,
            element: Some(element),
            value: Exact::from(codes[element]),
            centred: i64::from(codes[element]) - zero,
            factor: None,
            real_factor: None,
        }));
        Ok(elements.iter().map(|&element| codes[element]).collect())
    }

    /// The elements of the window of a pool or a mean; their reals.
    pub(super) fn real_window(&mut self, windows: &Windows) -> Vec<f64> {
        let x = self.inputs[0].to_real();
        let elements = self.of_window(windows);
        let term = |&element: &usize| Term::real(Some(element), x[element], None);
        self.terms.extend(elements.iter().map(term));
        elements.iter().map(|&element| x[element]).collect()
    }

    fn of_window(&self, windows: &Windows) -> Vec<usize> {
        let base = self.index / windows.len().max(1) * windows.plane;
        let taps = windows.taps(self.index % windows.len().max(1));
        taps.iter().map(|&tap| base + tap as usize).collect()
    }

    /// One element of an operand.
    pub(super) fn read(&mut self, operand: usize, tensor: &Tensor, element: usize) {
        let (value, centred) = match &tensor.data {
            Data::Codes { codes, grid } => {
                let channel = grid.channels(&tensor.shape).of_index(element);
                let code = codes[element];
                let zero = grid.zero_point.at(channel);
                (Exact::from(code), i64::from(code) - zero)
            }
            Data::Real(values) => (Exact::F64(values[element]), 0),
        };
        self.terms.push(Term {
            operand,
            element: Some(element),
            value,
            centred,
            factor: None,
            real_factor: None,
        });
    }

    /// Both operands of an elementwise operation at the element: which tensors, and which elements.
    pub(super) fn operands<'t>(
        &self,
        operands: &'t [Operand; 2],
        inputs: &'t [&'t Tensor],
    ) -> [(&'t Tensor, usize); 2] {
        operands.each_ref().map(|operand| {
            let tensor = operand.resolve(inputs);
            let table = real::broadcast_index(&tensor.shape, &self.runner.layer.result_shape);
            let element = table.map_or(self.index, |table| table[self.index] as usize);
            (tensor, element)
        })
    }
}

/// The taps of a convolution in the order in which they are added: by channel, row and column, or by row, column and
/// channel.
fn order(linear: &Linear, channel_first: bool) -> impl Iterator<Item = usize> {
    let [rows, columns] = linear.shape.kernel;
    let channels = linear.shape.channels / linear.shape.groups.max(1);
    (0..channels * rows * columns).map(move |n| {
        if channel_first {
            n
        } else {
            n % channels * rows * columns + n / channels
        }
    })
}

/// Codes and the zero point of a tensor with one scale.
pub(super) fn coded(tensor: &Tensor) -> Option<(&[i32], i64)> {
    match &tensor.data {
        Data::Codes { codes, grid } if grid.is_uniform() => Some((codes, grid.zero_point.at(0))),
        _ => None,
    }
}
