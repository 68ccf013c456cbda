//! How each kind of layer ends.

use super::{Element, Traced};
use crate::adapt::ValueGrid;
use crate::network::Kind;
use crate::num::trace::short;
use crate::num::{Exact, Trace};
use crate::plan::{Finish, Sum};
use crate::rules::unary::CodeFunction;
use crate::run::nnie_table;
use crate::tensor::Data;

impl Element<'_> {
    /// What the element becomes.
    pub(super) fn finish(&mut self) -> Traced<Exact> {
        let plan = self.runner.plan;
        match &plan.finish {
            Finish::Requantize {
                requantizer,
                channels,
            } => {
                let sum = self.sum()?;
                let initialized = matches!(
                    plan.linear.as_ref().map(|linear| &linear.sum),
                    Some(Sum::InOrder {
                        initialized: true,
                        ..
                    })
                );
                let channel = channels.of_index(self.index);
                let code = requantizer.traced(sum, channel, initialized, &mut self.trace);
                Ok(code.value.into())
            }
            Finish::Letter(Some(quantizer)) => self.letter(quantizer),
            Finish::Letter(None) | Finish::Real => Ok(Exact::F64(self.real()?)),
            Finish::Float(float) => {
                let real = self.real()?;
                let single = self.trace.step("as f32", || short(real), real as f32);
                let own = match &float.tail {
                    Some((behind, inside)) if !inside[self.index] => behind,
                    _ => &float.quantizers,
                };
                let channel = float.channels.of_index(self.index);
                Ok(own[channel].traced(single, &mut self.trace).into())
            }
            Finish::Keep { lo, hi } => self.keep(*lo, *hi),
            Finish::Table(table) => {
                let code = |code| table.code(code);
                let index = |code| table.index(code);
                self.function(&table.function, &code, Some(&index))
            }
            Finish::Tables {
                table,
                blocks,
                inside,
            } => {
                let own = if inside[self.index] { blocks } else { table };
                self.function(
                    &own.function,
                    &|code| own.code(code),
                    Some(&|code| own.index(code)),
                )
            }
            Finish::Function(function) => {
                let code = |code| function(code, &mut Trace::off());
                self.function(function, &code, None)
            }
            Finish::Pair(pair) => {
                let Kind::Binary { operands, .. } = &self.runner.layer.kind else {
                    return Err("no operation of two operands".into());
                };
                let inputs = self.inputs;
                let [(a, ia), (b, ib)] = self.operands(operands, inputs);
                let (Data::Codes { codes: qa, .. }, Data::Codes { codes: qb, .. }) =
                    (&a.data, &b.data)
                else {
                    return Err("operands without codes".into());
                };
                self.read(0, a, ia);
                self.read(1, b, ib);
                Ok(pair
                    .traced(self.index, qa[ia], qb[ib], &mut self.trace)
                    .into())
            }
            Finish::Average(average, (lo, hi)) => {
                let Kind::Average { windows, .. } = &self.runner.layer.kind else {
                    return Err("no mean".into());
                };
                let codes = self.window(windows)?;
                let code = average.traced(windows, &codes, self.index, &mut self.trace);
                Ok(self.clipped(code, *lo, *hi))
            }
            Finish::Concat(functions) => {
                let (operand, element) = self.joined_from()?;
                let Kind::Concat { operands, .. } = &self.runner.layer.kind else {
                    return Err("no joint".into());
                };
                let tensor = operands[operand].resolve(self.inputs);
                let Data::Codes { codes, .. } = &tensor.data else {
                    return Err("an operand without codes".into());
                };
                self.read(operand, tensor, element);
                let code = codes[element];
                Ok(match &functions[operand] {
                    Some(function) => function(code, &mut self.trace),
                    None => self
                        .trace
                        .step("kept", || "on the output's grid already".into(), code),
                }
                .into())
            }
            Finish::Values(values, channels) => {
                let sum = self.sum()?;
                let channel = channels.of_index(self.index);
                Ok(values.real(sum, channel, &mut self.trace).into())
            }
            Finish::ConvAdd(add, (lo, hi)) => {
                let (v, other) = self.joined()?;
                let code = add.code(v, other, &mut self.trace);
                Ok(self.clipped(code, *lo, *hi))
            }
            Finish::Epilogue(add) => {
                let (v, other) = self.joined()?;
                Ok(add.code(v, other, &mut self.trace).into())
            }
            Finish::Dequantize(dequantizer, channels) => {
                let n = match (&self.runner.layer.kind, &self.inputs[0].data) {
                    (Kind::Linear(_), _) => self.sum()?,
                    (_, Data::Codes { codes, .. }) => {
                        self.read(0, self.inputs[0], self.index);
                        codes[self.index].into()
                    }
                    _ => return Err("reals that leave the network".into()),
                };
                let channel = channels.of_index(self.index);
                Ok(dequantizer.traced(n, channel, &mut self.trace).into())
            }
            Finish::Thresholds(counted) => {
                let x = if matches!(self.runner.layer.kind, Kind::Linear(_)) {
                    self.sum()? as f64
                } else {
                    // What stands in front of the ReLU, in f32.
                    let input = self.inputs[0];
                    let real = self.operand(0, "input", input, self.index);
                    let single = self.trace.step("as f32", || short(real), real as f32);
                    f64::from(single)
                };
                Ok(counted.traced(x, self.index, &mut self.trace).into())
            }
            Finish::Fixed(fixed) => self.fixed(fixed),
            Finish::Reinterpret => {
                let Data::Codes { codes, .. } = &self.inputs[0].data else {
                    return Err("reals that are read as codes".into());
                };
                self.read(0, self.inputs[0], self.index);
                let how = || "the code stays, its scale changes".into();
                Ok(self.trace.step("kept", how, codes[self.index]).into())
            }
            Finish::Resample(_) => Err("a linear resampling of codes".into()),
            Finish::Softmax(..) => Err("a softmax of codes".into()),
            Finish::Gfpq { sigmoid } => {
                let ValueGrid::Gfpq { gfpq, z } = &plan.out else {
                    return Ok(Exact::F64(self.real()?));
                };
                let real = match sigmoid {
                    Some(function) => {
                        let x = self.operand(0, "input", self.inputs[0], self.index);
                        nnie_table(*function, x, &mut self.trace)
                    }
                    None => self.real()?,
                };
                let single = self.trace.step("as f32", || short(real), real as f32);
                let level = gfpq.traced(single, *z, &mut self.trace);
                Ok(Exact::F64(level.into()))
            }
            Finish::DynamicQuantize(..) => {
                Err("a quantizer whose scale follows from its input".into())
            }
        }
    }

    /// Both parts of an addition that a convolution is a part of.
    fn joined(&mut self) -> Traced<(f32, i32)> {
        let layer = self.runner.layer;
        let (Kind::Binary { operands, .. }, Some(joined)) = (&layer.kind, &layer.joined) else {
            return Err("no addition that a convolution is a part of".into());
        };
        let conv = operands[joined.operand].resolve(self.inputs);
        let other = operands[1 - joined.operand].resolve(self.inputs);
        let Data::Codes { codes, .. } = &other.data else {
            return Err("an operand without codes".into());
        };
        let v = self.operand(joined.operand, "convolution", conv, self.index) as f32;
        self.read(1 - joined.operand, other, self.index);
        Ok((v, codes[self.index]))
    }

    fn clipped(&mut self, code: i32, lo: i32, hi: i32) -> Exact {
        let clipped = code.clamp(lo, hi);
        if clipped != code {
            let how = || format!("{code} to {lo}..{hi}");
            self.trace.step("clipped", how, clipped);
        }
        clipped.into()
    }

    /// Codes that stay what they are.
    fn keep(&mut self, lo: i32, hi: i32) -> Traced<Exact> {
        let inputs = self.inputs;
        let code = match &self.runner.layer.kind {
            Kind::MaxPool(windows) => {
                let codes = self.window(windows)?;
                let largest = codes.into_iter().max().ok_or("an empty window")?;
                self.trace
                    .step("maximum", || "of the window".into(), largest)
            }
            Kind::Pass | Kind::Concat { .. } => {
                let (operand, element) = match &self.runner.layer.kind {
                    Kind::Concat { .. } => self.joined_from()?,
                    _ => (0, self.index),
                };
                let tensor = match &self.runner.layer.kind {
                    Kind::Concat { operands, .. } => operands[operand].resolve(inputs),
                    _ => inputs[0],
                };
                let Data::Codes { codes, .. } = &tensor.data else {
                    return Err("reals that stay what they are".into());
                };
                self.read(operand, tensor, element);
                self.trace
                    .step("kept", || "the code stays".into(), codes[element])
            }
            Kind::Movement(movement) => {
                let Data::Codes { codes, .. } = &inputs[0].data else {
                    return Err("reals that are moved".into());
                };
                if let Some(element) = movement.source(self.index) {
                    self.read(0, inputs[0], element);
                    let how = || "the code stays, elsewhere".into();
                    self.trace.step("moved", how, codes[element])
                } else {
                    let Data::Codes { codes, .. } = movement.apply(inputs[0]).data else {
                        return Err("a border that is no code".into());
                    };
                    let how = || format!("the code of {}, which fills it", movement.fill());
                    self.trace.step("border", how, codes[self.index])
                }
            }
            _ => return Err("an operation that keeps no codes".into()),
        };
        Ok(self.clipped(code, lo, hi))
    }

    /// A function of one code, behind the maximum of a window where the layer is one; as a table, with its index.
    fn function(
        &mut self,
        function: &CodeFunction,
        entry: &dyn Fn(i32) -> i32,
        index: Option<&dyn Fn(i32) -> usize>,
    ) -> Traced<Exact> {
        let code = if let Kind::MaxPool(windows) = &self.runner.layer.kind {
            let codes = self.window(windows)?;
            // The run takes the maximum behind the table.
            let largest = codes.into_iter().max_by_key(|&code| entry(code));
            let largest = largest.ok_or("an empty window")?;
            let how = || "of the window, by the table's entries".into();
            self.trace.step("maximum", how, largest)
        } else {
            let Data::Codes { codes, .. } = &self.inputs[0].data else {
                return Err("an input without codes".into());
            };
            self.read(0, self.inputs[0], self.index);
            codes[self.index]
        };
        let result = function(code, &mut self.trace);
        if let Some(index) = index {
            let how = || format!("entry {} of the table, for code {code}", index(code));
            self.trace.step("table", how, entry(code));
        }
        Ok(result.into())
    }
}
