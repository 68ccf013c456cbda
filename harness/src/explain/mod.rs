//! `explain`: one element of a layer, step by step, as the reference and as a target compute it.
//!
//! The steps come from the definitions that simulate ([`align_check_simulators::explain`]), and are held against what
//! was simulated.

pub mod command;
mod show;

use std::sync::Arc;

use align_check_simulators::explain::{Explanation, Term, Unexplained, explain};
use align_check_simulators::network::{Kind, Layer, Network, Operand};
use align_check_simulators::num::Exact;
use align_check_simulators::num::trace::Step;
use align_check_simulators::run::{Runner, Sums};
use align_check_simulators::tensor::{Data, Tensor};
use align_check_specs::Spec;
use serde::Serialize;

use crate::compare;
use crate::noise::Noise;
use crate::sample::Judged;

pub use show::{json, terminal, verdict};

/// Version of the machine-readable report.
pub const SCHEMA: &str = "align-check/explain/1";

/// One element, explained on both sides.
#[derive(Debug, Serialize)]
pub struct Explained {
    /// The model's file.
    pub model: String,
    /// Name of the layer's node.
    pub layer: String,
    /// Its operators.
    pub op: String,
    /// The tensor that it makes.
    pub tensor: String,
    /// Extents of that tensor.
    pub shape: Vec<usize>,
    /// The element.
    pub element: Vec<usize>,
    /// The input sample: its number, and its name.
    pub sample: usize,
    /// Its name.
    pub sample_name: String,
    /// What the layer is fed with: `reference`, or `recording`.
    pub fed_with: &'static str,
    /// The reference, and the target.
    pub sides: [Side; 2],
    /// What was recorded, where there is a recording: a code in the model's label, or a real.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorded: Option<Number>,
    /// Whether the target's result is the recorded one; without a recording, the reference's.
    pub equal: bool,
}

/// One side's arithmetic.
#[derive(Debug, Serialize)]
pub struct Side {
    /// `reference` or `target`.
    pub role: &'static str,
    /// The spec's name.
    pub name: String,
    /// What is read, in the order in which it is added.
    pub reads: Vec<Read>,
    /// What is done with it.
    pub steps: Vec<Line>,
    /// What it becomes: a code in the model's label, or a real.
    pub result: Number,
}

/// An element that is read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Read {
    /// The tensor that it belongs to.
    pub tensor: String,
    /// Which element; absent outside the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub element: Option<Vec<usize>>,
    /// Its code, or its real.
    pub value: Number,
    /// The code less its zero point.
    pub centred: i64,
    /// What it is multiplied with: less its zero point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factor: Option<i64>,
    /// The same where reals are multiplied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub real_factor: Option<Number>,
    /// Where that stands among the weights (or in the second operand).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factor_element: Option<Vec<usize>>,
    /// The product, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<i64>,
    /// The product of reals, rounded to `f64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub real_product: Option<Number>,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// What it makes.
    pub name: &'static str,
    /// How.
    pub how: String,
    /// The result.
    pub value: Number,
    /// What happened: `tie`, `saturated`, ...
    #[serde(skip_serializing_if = "String::is_empty")]
    pub flags: String,
}

/// A number as it is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Number {
    /// `int`, `f32` or `f64`.
    pub kind: &'static str,
    /// The shortest decimal that stands for no other number of this kind.
    pub value: String,
    /// A float's integer and power of two: it is exactly `m * 2^e`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact: Option<(i64, i32)>,
    /// As people read it.
    #[serde(skip)]
    pub text: String,
}

impl From<Exact> for Number {
    fn from(x: Exact) -> Self {
        Self {
            kind: match x {
                Exact::Int(_) => "int",
                Exact::F32(_) => "f32",
                Exact::F64(_) => "f64",
            },
            value: x.short(),
            exact: x.parts(),
            text: x.to_string(),
        }
    }
}

impl From<Step> for Line {
    fn from(step: Step) -> Self {
        Self {
            name: step.name,
            how: step.how,
            value: step.value.into(),
            flags: step.flags.to_string(),
        }
    }
}

/// Row-major index to coordinates.
pub(crate) fn coordinates(shape: &[usize], index: usize) -> Vec<usize> {
    let mut out = Vec::with_capacity(shape.len());
    let mut rest = index;
    for &extent in shape.iter().rev() {
        out.push(rest % extent.max(1));
        rest /= extent.max(1);
    }
    out.reverse();
    out
}

/// The element at coordinates.
///
/// # Errors
/// One line with the shape, where there is none.
pub(crate) fn index_of(shape: &[usize], element: &[usize]) -> Result<usize, String> {
    let inside = element.len() == shape.len() && element.iter().zip(shape).all(|(e, s)| e < s);
    if !inside {
        return Err(format!(
            "element {} is outside the tensor's shape {}",
            joined(element),
            joined(shape)
        ));
    }
    Ok(element
        .iter()
        .zip(shape)
        .fold(0, |index, (e, extent)| index * extent + e))
}

pub(crate) fn joined(numbers: &[usize]) -> String {
    let texts: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    texts.join(",")
}

/// One of both layers with what it was given and what it made.
struct Made<'a> {
    role: &'static str,
    network: &'a Network,
    spec: &'a Spec,
    runner: Runner<'a>,
    inputs: &'a [Arc<Tensor>],
    sums: &'a Sums,
    out: &'a Tensor,
}

/// What a look at a layer gave: how far the element is off, and both sides of it.
pub(crate) struct Look {
    /// Distance in LSB.
    pub distance: f64,
    /// The element.
    pub index: usize,
    /// The reference, and the target.
    pub sides: [Side; 2],
    /// What the target is compared with.
    pub expected: Number,
    /// Whether both are equal.
    pub equal: bool,
}

/// Explains an element of a layer; the worst one where none is asked for.
///
/// # Errors
/// As [`explain`].
pub(crate) fn look(
    judged: &Judged,
    specs: [&Spec; 2],
    networks: [&Network; 2],
    element: Option<usize>,
) -> Result<Look, Unexplained> {
    let inputs: Vec<&Tensor> = judged.reference_inputs.iter().map(|t| &**t).collect();
    let sums = judged.reference.sums(&inputs);
    let out = judged.reference.finish(&inputs, &sums);
    let (_, differing) = compare::compare(judged.expected, judged.out, judged.lsb);
    let distance = |at: usize| {
        let apart = judged.expected.real_at(at) - judged.out.real_at(at);
        (apart / judged.lsb.at(at)).abs()
    };
    let worst = || {
        let first = |best: usize, at: usize| {
            if distance(at) > distance(best) {
                at
            } else {
                best
            }
        };
        let differs = differing.iter().copied().reduce(first);
        differs.unwrap_or_else(|| nearest_tie(&judged.reference, &inputs, &sums, &out))
    };
    let index = element.unwrap_or_else(worst);
    let sides = [
        Made {
            role: "reference",
            network: networks[0],
            spec: specs[0],
            runner: judged.reference,
            inputs: judged.reference_inputs,
            sums: &sums,
            out: &out,
        },
        Made {
            role: "target",
            network: networks[1],
            spec: specs[1],
            runner: judged.target,
            inputs: judged.inputs,
            sums: judged.sums,
            out: judged.out,
        },
    ];
    let [reference, target] = sides.map(|made| made.explain(index));
    let expected = match &judged.expected.data {
        Data::Codes { codes, .. } => Exact::from(codes[index]),
        Data::Real(values) => Exact::F64(values[index]),
    };
    Ok(Look {
        distance: distance(index),
        index,
        sides: [reference?, target?],
        expected: expected.into(),
        equal: !differing.contains(&index),
    })
}

/// Where nothing differs: the element whose value lies nearest to a tie, among those that are not clamped.
fn nearest_tie(runner: &Runner, inputs: &[&Tensor], sums: &Sums, out: &Tensor) -> usize {
    let Some(noise) = Noise::new(runner, inputs, sums) else {
        return 0;
    };
    let inside = |at: &usize| match &out.data {
        Data::Codes { codes, grid } => {
            let code = i64::from(codes[*at]);
            grid.min < code && code < grid.max
        }
        Data::Real(_) => true,
    };
    let nearer = |best: usize, at: usize| {
        if noise.distance(at) < noise.distance(best) {
            at
        } else {
            best
        }
    };
    (0..out.len()).filter(inside).reduce(nearer).unwrap_or(0)
}

impl Made<'_> {
    fn explain(&self, index: usize) -> Result<Side, Unexplained> {
        let inputs: Vec<&Tensor> = self.inputs.iter().map(|t| &**t).collect();
        let Explanation {
            terms,
            steps,
            result,
        } = explain(&self.runner, self.spec, &inputs, self.sums, self.out, index)?;
        let layer = self.runner.layer;
        let read = |term: &Term| self.read(layer, &inputs, term);
        Ok(Side {
            role: self.role,
            name: self.spec.name.clone(),
            reads: terms.iter().map(read).collect(),
            steps: steps.into_iter().map(Line::from).collect(),
            result: result.into(),
        })
    }

    fn read(&self, layer: &Layer, inputs: &[&Tensor], term: &Term) -> Read {
        let operands: Option<&[Operand]> = match &layer.kind {
            Kind::MatMul(matmul) => Some(&matmul.operands),
            Kind::Binary { operands, .. } => Some(operands),
            Kind::Concat { operands, .. } => Some(operands),
            _ => None,
        };
        let operand = operands.and_then(|operands| operands.get(term.operand));
        let named = |input: usize| self.network.name(layer.inputs[input]).to_owned();
        let (tensor, shape) = match operand {
            Some(Operand::Input(input)) => (named(*input), inputs[*input].shape.clone()),
            Some(Operand::Constant(constant)) => ("constant".to_owned(), constant.shape.clone()),
            None => (named(term.operand), inputs[term.operand].shape.clone()),
        };
        let factors = match &layer.kind {
            Kind::Linear(linear) => linear.weights.shape.clone(),
            Kind::MatMul(matmul) => matmul.shapes[1].clone(),
            _ => Vec::new(),
        };
        Read {
            tensor,
            element: term.element.map(|element| coordinates(&shape, element)),
            value: term.value.into(),
            centred: term.centred,
            factor: term.factor.map(|(factor, _)| factor),
            real_factor: term
                .real_factor
                .map(|(factor, _)| Exact::F64(factor).into()),
            factor_element: term
                .factor
                .map(|(_, at)| at)
                .or(term.real_factor.map(|(_, at)| at))
                .map(|at| coordinates(&factors, at)),
            product: term.factor.map(|_| term.product()),
            real_product: term
                .real_product()
                .map(|product| Exact::F64(product).into()),
        }
    }
}
