//! One element of a layer, step by step: from the codes that it reads to the code that it becomes.
//!
//! Every step is written down by the definition that computes it ([`Trace`]). What comes out is compared with what the
//! layer really became: a text that does not lead there is an error, never shown.

mod codes;
mod fixed;
mod reals;
mod terms;

use align_check_specs::Spec;

use crate::num::Exact;
use crate::num::Trace;
use crate::num::trace::Step;
use crate::run::{Runner, Sums};
use crate::tensor::{Data, Tensor};

/// One element, explained.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// What it reads: the products of a sum, the elements of a window, the operands. In the order in which they are
    /// added.
    pub terms: Vec<Term>,
    /// What is done with them.
    pub steps: Vec<Step>,
    /// What it becomes: a code in the model's label, or a real.
    pub result: Exact,
}

/// What an element reads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Term {
    /// Which operand of the layer.
    pub operand: usize,
    /// Which element of it, row-major; `None` outside the image.
    pub element: Option<usize>,
    /// Its code, as it is stored; of a layer that reads reals, the real.
    pub value: Exact,
    /// The code less its zero point.
    pub centred: i64,
    /// The other factor: a weight less its zero point, and which one of the weights (or of the second operand). Absent
    /// where no integers are multiplied.
    pub factor: Option<(i64, usize)>,
    /// The same where reals are multiplied.
    pub real_factor: Option<(f64, usize)>,
}

impl Term {
    /// The product.
    pub fn product(&self) -> i64 {
        self.centred * self.factor.map_or(1, |(factor, _)| factor)
    }

    /// The product of reals, rounded to `f64`.
    pub fn real_product(&self) -> Option<f64> {
        match (self.value, self.real_factor) {
            (Exact::F64(value), Some((factor, _))) => Some(value * factor),
            _ => None,
        }
    }

    /// A real, by itself or with another one that multiplies it.
    fn real(element: Option<usize>, value: f64, real_factor: Option<(f64, usize)>) -> Self {
        Self {
            operand: 0,
            element,
            value: Exact::F64(value),
            centred: 0,
            factor: None,
            real_factor,
        }
    }
}

/// Why there is no text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unexplained {
    /// Nobody has written the steps down.
    #[error("{0}: there is no step-by-step text of it yet")]
    NoText(String),
    /// The text does not lead to the simulated result.
    #[error("internal error: the steps lead to {explained}, the simulation has {simulated}")]
    Wrong {
        /// What the text gives.
        explained: String,
        /// What the layer became.
        simulated: String,
    },
}

/// What a part of the explanation gives: a text of what is missing where there is none.
type Traced<T> = Result<T, String>;

/// Explains one element of a layer that was run. `inputs`, `sums` and `out` are what [`Runner`] was given and made;
/// `index` is the element, row-major.
///
/// # Errors
/// [`Unexplained`].
pub fn explain(
    runner: &Runner,
    spec: &Spec,
    inputs: &[&Tensor],
    sums: &Sums,
    out: &Tensor,
    index: usize,
) -> Result<Explanation, Unexplained> {
    let mut element = Element {
        runner: *runner,
        spec,
        inputs,
        sums,
        index,
        trace: Trace::on(),
        terms: Vec::new(),
    };
    let result = element.finish().map_err(Unexplained::NoText)?;
    let simulated = match &out.data {
        Data::Codes { codes, .. } => Exact::from(codes[index]),
        Data::Real(values) => Exact::F64(values[index]),
    };
    // A real may be held as f32; the tensor holds its f64.
    let same = match (result, simulated) {
        (Exact::F32(a), Exact::F64(b)) => f64::from(a).to_bits() == b.to_bits(),
        (a, b) => a == b,
    };
    if !same {
        return Err(Unexplained::Wrong {
            explained: result.to_string(),
            simulated: simulated.to_string(),
        });
    }
    Ok(Explanation {
        terms: element.terms,
        steps: element.trace.into_steps(),
        result,
    })
}

/// The element on its way.
struct Element<'a> {
    runner: Runner<'a>,
    spec: &'a Spec,
    inputs: &'a [&'a Tensor],
    sums: &'a Sums,
    index: usize,
    trace: Trace,
    terms: Vec<Term>,
}
