//! A layer in fixed-point types: hls4ml.

use super::terms::Taps;
use super::{Element, Term, Traced};
use crate::adapt::ValueGrid;
use crate::hls4ml::{Core, Fixed, read};
use crate::network::Kind;
use crate::num::{Exact, FixedType};

impl Element<'_> {
    /// What the element becomes.
    pub(super) fn fixed(&mut self, fixed: &Fixed) -> Traced<Exact> {
        if !fixed.before.is_empty() {
            return Err("a scale in front that stands for no tensor of the model".into());
        }
        let types = &fixed.reads;
        let codes: Vec<Vec<i64>> = types
            .iter()
            .zip(self.inputs)
            .map(|(t, x)| read(t, x))
            .collect();
        let (x, at) = (types[0], self.index);
        let (wide, fraction): (i128, i32) = match &fixed.core {
            Core::Cast | Core::Relu => {
                let code = self.code(0, &x, &codes[0], at);
                let code = match &fixed.core {
                    Core::Relu if code <= 0 => {
                        self.trace
                            .step("relu", || "not positive: zero".into(), 0i64)
                    }
                    _ => code,
                };
                (code.into(), x.fraction())
            }
            Core::Add => {
                let a = self.code(0, &x, &codes[0], at);
                let b = self.code(1, &types[1], &codes[1], at);
                let fraction = x.fraction().max(types[1].fraction());
                let lift = [x, types[1]].map(|t| (fraction - t.fraction()).unsigned_abs());
                let sum = (i128::from(a) << lift[0]) + (i128::from(b) << lift[1]);
                let how = || {
                    format!(
                        "{a} * 2^{} + {b} * 2^{}, in steps of 2^-{fraction}",
                        lift[0], lift[1]
                    )
                };
                (self.trace.step("sum", how, sum), fraction)
            }
            Core::Scale(scale) => {
                let code = self.code(0, &x, &codes[0], at);
                let c = scale.channels.of_index(at);
                let (factor, offset) = (&scale.scale, &scale.bias);
                let how = || format!("in {}", factor.0);
                self.trace.step("factor", how, factor.1[c]);
                let how = || format!("in {}", offset.0);
                self.trace.step("offset", how, offset.1[c]);
                let fraction = scale.exact(&x).fraction();
                let how = || format!("{code} * factor + offset, in steps of 2^-{fraction}");
                (
                    self.trace.step("scaled", how, scale.run(&x, &codes[0])[at]),
                    fraction,
                )
            }
            Core::MaxPool(accum) => {
                let Kind::MaxPool(windows) = &self.runner.layer.kind else {
                    return Err("no pool".into());
                };
                let base = at / windows.len().max(1) * windows.plane;
                let mut largest = i64::MIN;
                for &tap in windows.taps(at % windows.len().max(1)) {
                    let element = base + tap as usize;
                    self.push(0, element, codes[0][element], None);
                    largest = largest.max(codes[0][element]);
                }
                let largest = self
                    .trace
                    .step("maximum", || "of the window".into(), largest);
                let how = || format!("{largest} * 2^-{} as {accum}", x.fraction());
                let cast = accum.cast(i128::from(largest), x.fraction());
                let code = self.trace.flagged("cast", how, cast).value;
                (code.into(), accum.fraction())
            }
            Core::Sum(sum) => {
                let Kind::Linear(linear) = &self.runner.layer.kind else {
                    return Err("no sum of products".into());
                };
                let taps = Taps::of(linear, codes[0].len(), at);
                let [rows, columns] = linear.shape.kernel;
                let channels = (linear.shape.channels / linear.shape.groups.max(1)).max(1);
                // From (channel, row, column) to (row, column, channel).
                let element =
                    |k: usize| taps.elements[k % channels * rows * columns + k / channels];
                let code = |k: usize| element(k).map_or(0, |id| codes[0][id]);
                let window: Vec<i64> = (0..taps.elements.len()).map(code).collect();
                let row = sum.row(taps.m);
                for &k in sum.order() {
                    self.terms.push(Term {
                        operand: 0,
                        element: element(k),
                        value: Exact::from(window[k]),
                        centred: window[k],
                        factor: Some((
                            row[k],
                            taps.m * row.len() + k % channels * rows * columns + k / channels,
                        )),
                        real_factor: None,
                    });
                }
                let acc = sum.traced(&x, &window, taps.m, &mut self.trace);
                (acc.into(), sum.accum.fraction())
            }
        };
        let how = || format!("{wide} * 2^-{fraction} as {}", fixed.result);
        let code = self
            .trace
            .flagged("result", how, fixed.result.cast(wide, fraction))
            .value;
        Ok(match &self.runner.plan.out {
            ValueGrid::Codes { .. } => Exact::from(code),
            _ => Exact::F64(code as f64 * fixed.result.step()),
        })
    }

    fn code(&mut self, operand: usize, own: &FixedType, codes: &[i64], element: usize) -> i64 {
        self.push(operand, element, codes[element], None);
        let how = || format!("code of {own}");
        self.trace.step("input", how, codes[element])
    }

    fn push(&mut self, operand: usize, element: usize, code: i64, factor: Option<(i64, usize)>) {
        self.terms.push(Term {
            operand,
            element: Some(element),
            value: Exact::from(code),
            centred: code,
            factor,
            real_factor: None,
        });
    }
}
