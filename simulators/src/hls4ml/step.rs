//! One layer of the C simulation: codes of its inputs' types to codes of its result's.

use super::sum::Sum;
use crate::adapt::ValueGrid;
use crate::network::{Kind, Layer};
use crate::num::{FixedOverflow, FixedType};
use crate::tensor::{Channels, Data, Tensor};
use align_check_specs::Rounding;

/// A layer of the network in fixed-point types.
#[derive(Debug, Clone, PartialEq)]
pub struct Fixed {
    /// Types of the inputs. What comes from somewhere else (the network's input, another run) is cast to them.
    pub reads: Vec<FixedType>,
    /// Layers of hls4ml in front that stand for no tensor of the model.
    pub before: Vec<(Scale, FixedType)>,
    /// The arithmetic.
    pub core: Core,
    /// What its result is cast to.
    pub result: FixedType,
    /// Whether the layer reads the network's input.
    pub reads_input: bool,
}

/// The arithmetic of a layer.
#[derive(Debug, Clone, PartialEq)]
pub enum Core {
    /// A cast.
    Cast,
    /// Positive numbers are cast, others become zero.
    Relu,
    /// The exact sum of two tensors.
    Add,
    /// A factor and an offset.
    Scale(Scale),
    /// The maximum of windows, cast to a type.
    MaxPool(FixedType),
    /// Sums of products.
    Sum(Box<Sum>),
}

/// `x * scale + bias`, exactly.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    /// Type of the factors, and their codes.
    pub scale: (FixedType, Vec<i64>),
    /// Type of the offsets, and their codes.
    pub bias: (FixedType, Vec<i64>),
    /// Which element has which factor.
    pub channels: Channels,
}

impl Scale {
    /// The type that holds every result exactly.
    pub fn exact(&self, x: &FixedType) -> FixedType {
        x.product(&self.scale.0).sum(&self.bias.0)
    }

    /// Codes of [`exact`](Self::exact)'s fraction.
    pub(crate) fn run(&self, x: &FixedType, codes: &[i64]) -> Vec<i128> {
        let product = x.fraction() + self.scale.0.fraction();
        let wide = product.max(self.bias.0.fraction());
        let (lift, lift_bias) = (wide - product, wide - self.bias.0.fraction());
        let one = |(i, &code): (usize, &i64)| {
            let c = self.channels.of_index(i);
            let scaled = i128::from(code) * i128::from(self.scale.1[c]);
            (scaled << lift) + (i128::from(self.bias.1[c]) << lift_bias)
        };
        codes.iter().enumerate().map(one).collect()
    }
}

impl Fixed {
    /// Runs the layer. `out` is the grid of the output.
    pub fn run(&self, layer: &Layer, inputs: &[&Tensor], out: &ValueGrid) -> Tensor {
        let codes: Vec<Vec<i64>> = self
            .reads
            .iter()
            .zip(inputs)
            .map(|(own, tensor)| read(own, tensor))
            .collect();
        let codes = self.codes(layer, codes);
        let shape = layer.shape.clone();
        // The grid is the type's own, and lies within `i32`.
        if let ValueGrid::Codes { grid, .. } = out {
            let codes = codes.iter().map(|&code| code as i32).collect();
            return Tensor::codes(shape, codes, grid.clone());
        }
        let step = self.result.step();
        Tensor::real(shape, codes.iter().map(|&c| c as f64 * step).collect())
    }

    fn codes(&self, layer: &Layer, mut inputs: Vec<Vec<i64>>) -> Vec<i64> {
        let mut read = self.reads.clone();
        for (scale, to) in &self.before {
            let fraction = scale.exact(&read[0]).fraction();
            let wide = scale.run(&read[0], &inputs[0]);
            inputs[0] = wide.iter().map(|&x| to.cast(x, fraction).value).collect();
            read[0] = *to;
        }
        let (x, codes) = (read[0], &inputs[0]);
        let result = &self.result;
        let cast = |fraction: i32| move |x: i128| result.cast(x, fraction).value;
        match &self.core {
            Core::Cast => {
                let cast = cast(x.fraction());
                codes.iter().map(|&code| cast(i128::from(code))).collect()
            }
            Core::Relu => {
                let cast = cast(x.fraction());
                let relu = |&code: &i64| if code > 0 { cast(i128::from(code)) } else { 0 };
                codes.iter().map(relu).collect()
            }
            Core::Add => {
                let fraction = x.fraction().max(read[1].fraction());
                let cast = cast(fraction);
                let lift = read
                    .iter()
                    .map(|t| (fraction - t.fraction()).unsigned_abs());
                let lift: Vec<u32> = lift.collect();
                let sum = |(&a, &b): (&i64, &i64)| {
                    cast((i128::from(a) << lift[0]) + (i128::from(b) << lift[1]))
                };
                codes.iter().zip(&inputs[1]).map(sum).collect()
            }
            Core::Scale(scale) => {
                let cast = cast(scale.exact(&x).fraction());
                scale.run(&x, codes).into_iter().map(cast).collect()
            }
            Core::MaxPool(accum) => {
                let Kind::MaxPool(windows) = &layer.kind else {
                    return Vec::new();
                };
                let cast = cast(accum.fraction());
                let largest = windows.fold(codes, i64::MIN, i64::max);
                let passed = largest.iter().map(|&code| {
                    cast(i128::from(accum.cast(i128::from(code), x.fraction()).value))
                });
                passed.collect()
            }
            Core::Sum(sum) => {
                let Kind::Linear(linear) = &layer.kind else {
                    return Vec::new();
                };
                let cast = cast(sum.accum.fraction());
                let sums = sum.run(linear, &x, codes);
                sums.iter().map(|&code| cast(i128::from(code))).collect()
            }
        }
    }

    /// The layer with one decision taken back, the most telling one first: a name, what it was, and the layer
    /// without it.
    pub fn without(&self) -> Vec<(&'static str, String, Self)> {
        let mut found = Vec::new();
        let mut all = self.clone();
        if self.reads_input {
            let fine = |own: &FixedType| {
                let width = 53;
                FixedType {
                    rounding: Rounding::HalfEven,
                    overflow: FixedOverflow::Saturate,
                    ..FixedType::new(width, own.integer + 8, true)
                }
            };
            all.reads = self.reads.iter().map(fine).collect();
            found.push((
                "input",
                format!("the input is cast to {}", self.reads[0]),
                Self {
                    reads: all.reads.clone(),
                    ..self.clone()
                },
            ));
        }
        let text = match &self.core {
            Core::Sum(sum) => {
                let x = self.before.last().map_or(self.reads[0], |(_, to)| *to);
                all.core = Core::Sum(Box::new(sum.exact(&x)));
                Some(format!(
                    "each product and each sum is cast to {}",
                    sum.accum
                ))
            }
            Core::MaxPool(accum) => {
                all.core = Core::MaxPool(self.reads[0]);
                Some(format!("the maximum is cast to {accum}"))
            }
            _ => None,
        };
        if let Some(text) = text {
            let core = all.core.clone();
            found.push((
                "accumulator",
                text,
                Self {
                    core,
                    ..self.clone()
                },
            ));
        }
        all.result.rounding = Rounding::HalfEven;
        all.result.overflow = FixedOverflow::Saturate;
        let text = format!("the result is cast to {}", self.result);
        found.push((
            "result",
            text.clone(),
            Self {
                result: all.result,
                ..self.clone()
            },
        ));
        found.push(("types", format!("{text}, and what lies before it"), all));
        found
    }
}

/// Codes of a type from a tensor.
pub(crate) fn read(own: &FixedType, tensor: &Tensor) -> Vec<i64> {
    let step = own.step();
    if let Data::Codes { codes, grid } = &tensor.data
        && grid.is_uniform()
        && grid.scale.at(0) == step
        && grid.zero_point.at(0) == 0
    {
        let fraction = own.fraction();
        let cast = |&code: &i32| own.cast(i128::from(code), fraction).value;
        return codes.iter().map(cast).collect();
    }
    // A number that is none is no input of any hardware; the headers leave it undefined.
    let code = |&x: &f64| own.from_f64(x).map_or(0, |code| code.value);
    tensor.to_real().iter().map(code).collect()
}
