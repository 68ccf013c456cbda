//! Some elements of a layer's output, without the others: what a search looks at.

use align_check_graph::Quantizer;

use crate::adapt::ValueGrid;
use crate::network::{Kind, Operand, apply_posts};
use crate::num::Trace;
use crate::ops::real;
use crate::plan::{Finish, FloatFinish};
use crate::quantize::affine;
use crate::run::{Runner, Sums};
use crate::tensor::{Data, Tensor};

/// An output as a tensor keeps it.
enum Element {
    Code(i32),
    Real(f64),
}

impl Runner<'_> {
    /// The reals that some elements of [`finish`](Self::finish) stand for; `None` where an element is not made of few
    /// others, or only all of them are made at once.
    pub fn reals_of(&self, inputs: &[&Tensor], sums: &Sums, indices: &[usize]) -> Option<Vec<f64>> {
        if let Some(codes) = self.codes_at(sums, indices) {
            return self.as_reals(indices, codes.into_iter().map(Element::Code));
        }
        let element = self.element(inputs, sums)?;
        let elements: Option<Vec<Element>> = indices.iter().map(|&index| element(index)).collect();
        self.as_reals(indices, elements?.into_iter())
    }

    fn as_reals(
        &self,
        indices: &[usize],
        elements: impl Iterator<Item = Element>,
    ) -> Option<Vec<f64>> {
        let grid = match &self.plan.out {
            ValueGrid::Codes { grid, .. } => Some((grid, grid.channels(&self.layer.shape))),
            _ => None,
        };
        let real = |(&index, element): (&usize, Element)| match (element, &grid) {
            (Element::Code(code), Some((grid, channels))) => {
                Some(grid.real(i64::from(code), channels.of_index(index)))
            }
            (Element::Code(code), None) => Some(f64::from(code)),
            (Element::Real(real), None) => Some(real),
            (Element::Real(_), Some(_)) => None,
        };
        indices.iter().zip(elements).map(real).collect()
    }

    /// How one element is made; the inner `None`: not on its own.
    fn element<'r>(
        &'r self,
        inputs: &'r [&Tensor],
        sums: &'r Sums,
    ) -> Option<Box<dyn Fn(usize) -> Option<Element> + 'r>> {
        let code = |code: i32| Some(Element::Code(code));
        let pass = !matches!(self.layer.kind, Kind::MaxPool(_));
        Some(match &self.plan.finish {
            Finish::Real => {
                let real = self.real_of(inputs, sums)?;
                Box::new(move |i| Some(Element::Real(real(i))))
            }
            Finish::Float(float) => {
                let FloatFinish {
                    quantizers,
                    channels,
                    tail,
                } = &**float;
                let real = self.real_of(inputs, sums)?;
                Box::new(move |i| {
                    let own = match tail {
                        Some((behind, inside)) if !inside[i] => behind,
                        _ => quantizers,
                    };
                    code(own[channels.of_index(i)].code(real(i) as f32))
                })
            }
            // Sums have a form of their own, which folds what is behind them.
            Finish::Letter(quantizer)
                if matches!(self.layer.kind, Kind::Binary { .. } | Kind::Pass) =>
            {
                let Some(Quantizer::Affine(a)) = quantizer.as_deref() else {
                    return None;
                };
                let ValueGrid::Codes { .. } = &self.plan.out else {
                    return None;
                };
                if a.scale.values.len() > 1 || a.zero_point.values.len() > 1 {
                    return None;
                }
                let channel = affine::Channel::new(a, a.scale.at(0), a.zero_point.at(0))
                    .multiplied(a.multiplier.as_ref().map(|m| m.at(0)));
                let real = self.real_of(inputs, sums)?;
                Box::new(move |i| code(affine::quantize_affine(real(i) as f32, channel) as i32))
            }
            Finish::Requantize {
                requantizer,
                channels,
            } => {
                let Sums::I64(sums, _) = sums else {
                    return None;
                };
                let initialized = self.initialized();
                Box::new(move |i| {
                    let c = channels.of_index(i);
                    code(requantizer.code(sums[i], c, initialized).value)
                })
            }
            Finish::Pair(pair) => {
                let [a, b] = self.operands(inputs)?;
                let (Data::Codes { codes: a, .. }, Data::Codes { codes: b, .. }) =
                    (&a.data, &b.data)
                else {
                    return None;
                };
                Box::new(move |i| code(pair.traced(i, a.at(i), b.at(i), &mut Trace::off())))
            }
            Finish::Table(table) if pass => {
                let Data::Codes { codes, .. } = &inputs[0].data else {
                    return None;
                };
                Box::new(move |i| code(table.code(codes.at(i))))
            }
            Finish::Function(function) if pass => {
                let Data::Codes { codes, .. } = &inputs[0].data else {
                    return None;
                };
                Box::new(move |i| code(function(codes.at(i), &mut Trace::off())))
            }
            Finish::ConvAdd(..) | Finish::Epilogue(_) => {
                let Kind::Binary { operands, .. } = &self.layer.kind else {
                    return None;
                };
                let joined = self.layer.joined.as_ref()?;
                let conv: &Tensor = operands[joined.operand].resolve(inputs);
                let other: &Tensor = operands[1 - joined.operand].resolve(inputs);
                let Data::Codes { codes, .. } = &other.data else {
                    return None;
                };
                if conv.len() != other.len() {
                    return None;
                }
                Box::new(move |i| {
                    let (v, q) = (conv.real_at(i) as f32, codes.at(i));
                    let off = &mut Trace::off();
                    match &self.plan.finish {
                        Finish::ConvAdd(add, (lo, hi)) => code(add.code(v, q, off).clamp(*lo, *hi)),
                        Finish::Epilogue(add) => code(add.code(v, q, off)),
                        _ => None,
                    }
                })
            }
            _ => return None,
        })
    }

    /// The operands of an operation on two tensors of the output's shape.
    fn operands<'r>(&'r self, inputs: &'r [&Tensor]) -> Option<[&'r Tensor; 2]> {
        let Kind::Binary { operands, .. } = &self.layer.kind else {
            return None;
        };
        let operands = operands.each_ref().map(|o: &Operand| o.resolve(inputs));
        let whole = operands
            .iter()
            .all(|tensor| tensor.shape == self.layer.result_shape);
        whole.then_some(operands)
    }

    /// The real of [`reals`](Self::reals) at one element.
    fn real_of<'r>(
        &'r self,
        inputs: &'r [&Tensor],
        sums: &'r Sums,
    ) -> Option<Box<dyn Fn(usize) -> f64 + 'r>> {
        let posts = &self.layer.posts;
        Some(match &self.layer.kind {
            Kind::Linear(linear) => {
                let plan = self.plan.linear.as_ref()?;
                let channels = self.layer.channels();
                let from_bias = if self.initialized() { 0.0 } else { 1.0 };
                let rows = linear.rows.as_ref();
                let sum: Box<dyn Fn(usize) -> f64> = match sums {
                    Sums::I32(v) => Box::new(|i| f64::from(v[i])),
                    Sums::I64(v, _) => Box::new(|i| v[i] as f64),
                    Sums::Real(v) => {
                        let factor = self.real_factor(linear);
                        Box::new(move |i| v[i] * factor)
                    }
                    Sums::None => return None,
                };
                Box::new(move |i| {
                    let c = channels.of_index(i);
                    let row = rows.map_or(0.0, |r| r.entries.reals[r.channels.of_index(i)]);
                    let real = sum(i) * plan.unit[c] + (plan.bias[c] * from_bias + row);
                    apply_posts(posts, real, i)
                })
            }
            Kind::Binary { op, .. } => {
                let [a, b] = self.operands(inputs)?;
                let op = *op;
                Box::new(move |i| {
                    apply_posts(posts, real::binary(op, a.real_at(i), b.real_at(i)), i)
                })
            }
            Kind::Pass => Box::new(move |i| apply_posts(posts, inputs[0].real_at(i), i)),
            _ => return None,
        })
    }
}
