//! The exact real of an element, and the model's own quantizer to the letter.

use align_check_graph::{Binary, Quantizer, Resize, ResizeAxis};

use super::terms::coded;
use super::{Element, Traced};
use crate::adapt::ValueGrid;
use crate::network::{Kind, traced_posts};
use crate::num::Exact;
use crate::num::trace::short;
use crate::ops::movement::strides;
use crate::ops::real;
use crate::plan::Sum;
use crate::quantize::affine;
use crate::run::Sums;
use crate::step;
use crate::tensor::{Channels, Data, Tensor};

impl Element<'_> {
    /// The model's own quantizer on the exact real.
    pub(super) fn letter(&mut self, quantizer: &Quantizer) -> Traced<Exact> {
        if matches!(self.sums, Sums::I32(_))
            && let Ok(step) = step::Step::of(self.runner.layer, self.runner.plan, self.runner.isa)
        {
            let channel = self.runner.layer.channels().of_index(self.index);
            let sum = self.sum()?;
            return Ok(step.traced(sum, channel, &mut self.trace).into());
        }
        let Quantizer::Affine(a) = quantizer else {
            return Err("a quantizer that is not affine".into());
        };
        let shape = &self.runner.layer.shape;
        let scale = a
            .scale
            .at(Channels::of(&a.scale, shape).of_index(self.index));
        let zero = a
            .zero_point
            .at(Channels::of(&a.zero_point, shape).of_index(self.index));
        let multiplier = a
            .multiplier
            .as_ref()
            .map(|m| m.at(Channels::of(m, shape).of_index(self.index)));
        let channel = affine::Channel::new(a, scale, zero).multiplied(multiplier);
        let real = self.real()?;
        let single = self.trace.step("as f32", || short(real), real as f32);
        let code = channel.traced(single, &mut self.trace);
        if let ValueGrid::Codes { .. } = self.runner.plan.out {
            return Ok(Exact::from(code));
        }
        // Codes beyond 32 bits are not stored: the executor's f32 is.
        let how = || format!("(code - zero point {zero}) * scale out, as f32");
        let real = affine::dequantized(single, channel);
        Ok(Exact::from(self.trace.step("real", how, real)))
    }

    /// The real in front of the quantizer.
    pub(super) fn real(&mut self) -> Traced<f64> {
        let result = self.result()?;
        let posts = &self.runner.layer.posts;
        Ok(traced_posts(posts, result, self.index, &mut self.trace))
    }

    /// The operation's result.
    fn result(&mut self) -> Traced<f64> {
        let layer = self.runner.layer;
        let inputs = self.inputs;
        match &layer.kind {
            Kind::Linear(linear) => {
                let plan = self
                    .runner
                    .plan
                    .linear
                    .as_ref()
                    .ok_or("a sum without a plan")?;
                // Real sums carry no scale, but for a factor that no unit holds.
                let (sum, shown) = if matches!(self.sums, Sums::Real(_)) {
                    let sum = self.real_sum()? * self.runner.real_factor(linear);
                    (sum, short(sum))
                } else {
                    let sum = self.sum()?;
                    (sum as f64, sum.to_string())
                };
                let c = layer.channels().of_index(self.index);
                let from_bias = match &plan.sum {
                    Sum::InOrder {
                        initialized: true, ..
                    } => 0.0,
                    _ => 1.0,
                };
                let row = linear.rows.as_ref().map_or(0.0, |rows| {
                    rows.entries.reals[rows.channels.of_index(self.index)]
                });
                let unit = self.trace.step(
                    "unit",
                    || "what one unit of the sum is worth".into(),
                    plan.unit[c],
                );
                let bias = plan.bias[c] * from_bias + row;
                let bias = self.trace.step("bias", || "as a real".into(), bias);
                let how = || format!("{shown} * unit + bias");
                Ok(self.trace.step("real", how, sum * unit + bias))
            }
            Kind::MatMul(_) if matches!(self.sums, Sums::Real(_)) => self.real_sum(),
            Kind::MatMul(matmul) => {
                let sum = self.sum()?;
                let unit: f64 = matmul
                    .operands
                    .iter()
                    .filter_map(|o| o.resolve(inputs).grid().map(|g| g.scale.at(0)))
                    .product();
                let unit = self
                    .trace
                    .step("unit", || "product of the scales".into(), unit);
                let how = || format!("{sum} * unit");
                Ok(self.trace.step("real", how, sum as f64 * unit))
            }
            Kind::Binary { op, operands, .. } => {
                let [(a, ia), (b, ib)] = self.operands(operands, inputs);
                let va = self.operand(0, "first", a, ia);
                let vb = self.operand(1, "second", b, ib);
                let sign = match op {
                    Binary::Add | Binary::AddShifted => '+',
                    Binary::Sub => '-',
                    Binary::Mul => '*',
                    Binary::Div => '/',
                };
                let how = || format!("{} {sign} {}", short(va), short(vb));
                Ok(self.trace.step("real", how, real::binary(*op, va, vb)))
            }
            Kind::Average { windows, .. } => {
                let divisor = f64::from(windows.divisors[self.index % windows.len().max(1)]);
                let Some((_, zero)) = coded(inputs[0]) else {
                    let reals = self.real_window(windows);
                    let count = reals.len();
                    let how = || format!("of {count} reals, added in this order");
                    let sum = reals.into_iter().fold(0.0, |sum, real| sum + real);
                    let sum = self.trace.step("sum", how, sum);
                    let how = || format!("{} / {divisor}", short(sum));
                    return Ok(self.trace.step("real", how, sum / divisor));
                };
                let scale = inputs[0].grid().map_or(1.0, |grid| grid.scale.at(0));
                let codes = self.window(windows)?;
                let sum: i64 = codes.iter().map(|&q| i64::from(q) - zero).sum();
                let count = codes.len();
                let how = || format!("of {count} codes less zero point {zero}");
                let sum = self.trace.step("sum", how, sum);
                let scale = self.trace.step("scale", String::new, scale);
                let how = || format!("{sum} * scale / {divisor}");
                Ok(self.trace.step("real", how, sum as f64 * scale / divisor))
            }
            Kind::Pass => Ok(self.operand(0, "input", inputs[0], self.index)),
            Kind::MaxPool(windows) if coded(inputs[0]).is_none() => {
                let reals = self.real_window(windows);
                let largest = reals.into_iter().fold(f64::NEG_INFINITY, f64::max);
                Ok(self
                    .trace
                    .step("maximum", || "of the window".into(), largest))
            }
            Kind::MaxPool(windows) => {
                let codes = self.window(windows)?;
                let grid = inputs[0].grid().ok_or("a maximum of reals")?;
                let largest = codes.iter().copied().max().ok_or("an empty window")?;
                let largest = self
                    .trace
                    .step("maximum", || "of the window".into(), largest);
                let how = || {
                    format!(
                        "({largest} - {}) * {}",
                        grid.zero_point.at(0),
                        short(grid.scale.at(0))
                    )
                };
                Ok(self.trace.step("real", how, grid.real(largest.into(), 0)))
            }
            Kind::Movement(movement) => match movement.source(self.index) {
                Some(element) => Ok(self.operand(0, "input", inputs[0], element)),
                None => Ok(self
                    .trace
                    .step("border", || "what fills it".into(), movement.fill())),
            },
            Kind::Concat { .. } => {
                let (operand, element) = self.joined_from()?;
                let Kind::Concat { operands, .. } = &layer.kind else {
                    return Err("a joint".into());
                };
                Ok(self.operand(operand, "input", operands[operand].resolve(inputs), element))
            }
            Kind::Resample(resize) => {
                let strides = strides(&layer.result_shape);
                let place: Vec<usize> = strides
                    .iter()
                    .zip(&layer.result_shape)
                    .map(|(stride, extent)| self.index / stride % extent)
                    .collect();
                Ok(self.between(resize, &place, &mut Vec::new()))
            }
            Kind::Softmax { axis, beta } => Ok(self.softmax(*axis, f64::from(*beta))),
            Kind::DynamicQuantize(_) => {
                Err("a quantizer whose scale follows from its input".into())
            }
            Kind::Reinterpret { .. } => Err("codes that are read anew".into()),
        }
    }

    /// A linear resampling ([`real::resample`]): the last axis is done first, so the first one is asked first.
    /// `place` is the element of the output, `from` where in the input the axes before lead.
    fn between(&mut self, resize: &Resize, place: &[usize], from: &mut Vec<usize>) -> f64 {
        let x = self.inputs[0];
        let axis = from.len();
        let Some(&at) = place.get(axis) else {
            let strides = strides(&x.shape);
            let element = strides.iter().zip(from).map(|(s, &mut at)| s * at).sum();
            return self.operand(0, "input", x, element);
        };
        let mut source = |at: usize| {
            from.push(at);
            let real = self.between(resize, place, from);
            from.pop();
            real
        };
        match &resize.axes[axis] {
            ResizeAxis::Copy => source(at),
            ResizeAxis::Nearest(sources) => source(sources[at]),
            ResizeAxis::Linear(samples) => {
                let (left, right, weight) = samples[at];
                let weight = f64::from(weight);
                let (a, b) = (source(left), source(right));
                let how = || {
                    let [a, b, w] = [a, b, weight].map(short);
                    format!("{a} * (1 - {w}) + {b} * {w}, on axis {axis}")
                };
                self.trace
                    .step("between", how, a * (1.0 - weight) + b * weight)
            }
        }
    }

    /// [`real::softmax`] of the element's row.
    fn softmax(&mut self, axis: usize, beta: f64) -> f64 {
        let x = self.inputs[0];
        let (inner, extent) = (strides(&x.shape)[axis], x.shape[axis]);
        let start = self.index - self.index / inner % extent * inner;
        let reals = x.to_real();
        let row: Vec<usize> = (0..extent).map(|k| start + k * inner).collect();
        for &element in &row {
            self.read(0, x, element);
        }
        let largest = row.iter().fold(f64::NEG_INFINITY, |m, &k| m.max(reals[k]));
        self.trace.step("largest", || "of the row".into(), largest);
        let power = |k: usize| libm::exp((reals[k] - largest) * beta);
        let how = || {
            let [own, largest, beta] = [reals[self.index], largest, beta].map(short);
            format!("e^(({own} - {largest}) * {beta})")
        };
        let own = self.trace.step("power", how, power(self.index));
        let sum = row.iter().fold(0.0, |sum, &k| sum + power(k));
        let how = || format!("of the {extent} powers of the row, added in order");
        let sum = self.trace.step("sum", how, sum);
        self.trace.step("real", || "power / sum".into(), own / sum)
    }

    /// An operand's real.
    pub(super) fn operand(
        &mut self,
        operand: usize,
        name: &'static str,
        tensor: &Tensor,
        element: usize,
    ) -> f64 {
        self.read(operand, tensor, element);
        let real = tensor.to_real()[element];
        match &tensor.data {
            Data::Real(_) => self.trace.step(name, || "as it is".into(), real),
            Data::Codes { codes, grid } => {
                let c = grid.channels(&tensor.shape).of_index(element);
                let zero = grid.zero_point.at(c);
                self.trace
                    .step("scale", || format!("of the {name}"), grid.scale.at(c));
                let how = || format!("(code {} - zero point {zero}) * scale", codes[element]);
                self.trace.step(name, how, real)
            }
        }
    }

    /// Which operand of a joint the element comes from, and which element of it.
    pub(super) fn joined_from(&self) -> Traced<(usize, usize)> {
        let Kind::Concat { axis, operands } = &self.runner.layer.kind else {
            return Err("no joint".into());
        };
        let shape = &self.runner.layer.result_shape;
        let inner: usize = shape[axis + 1..].iter().product();
        let (outer, rest) = (
            self.index / (shape[*axis] * inner),
            self.index % (shape[*axis] * inner),
        );
        let (mut at, within) = (rest / inner, rest % inner);
        for (n, operand) in operands.iter().enumerate() {
            let extent = operand.resolve(self.inputs).shape[*axis];
            if at < extent {
                return Ok((n, (outer * extent + at) * inner + within));
            }
            at -= extent;
        }
        Err("an element behind a joint".into())
    }
}
