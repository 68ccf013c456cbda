//! Operations with two inputs, and additions that a convolution is a part of.

use std::sync::Arc;

use align_check_graph::{Binary, Quantizer};
use align_check_specs::{Bounds, ResidualRule};

use super::finish::Memo;
use super::{Ending, Finish, Pair, Planner, clamp_codes};
use crate::adapt::{self, ValueGrid};
use crate::network::{Folded, Kind, Operand};
use crate::rules::Labels;
use crate::rules::elementwise::{self, PairFunction, Walk};
use crate::rules::epilogue::Epilogue;
use crate::rules::fake_quantize::ConvAdd;

impl Planner<'_> {
    /// An addition that a convolution is a part of.
    fn joined(&self, folded: &Folded, out: Labels) -> Option<Ending> {
        let joined = self.layer.joined.as_ref()?;
        let Kind::Binary { operands, .. } = &self.layer.kind else {
            return None;
        };
        let kept = self.operand_labels(&operands[1 - joined.operand])?;
        let (finish, rule) = match self.spec.placement.residual? {
            ResidualRule::InnerClips => {
                let inner = self.inner(joined.inner.as_ref());
                let add = ConvAdd::new(inner, kept, out);
                let clamp = clamp_codes(out, folded, Bounds::HalfAway);
                (Finish::ConvAdd(Box::new(add), clamp), "requantize")
            }
            ResidualRule::Epilogue => {
                let clamp = (folded.lo, folded.hi);
                let add = Epilogue::new(&self.spec.quantize, kept, out, clamp);
                (Finish::Epilogue(Box::new(add)), "quantize")
            }
        };
        Some((finish, false, vec![rule, "placement.residual"]))
    }

    /// The grid between a convolution and an addition; `None` where there is no quantizer.
    pub(super) fn inner(&self, quantizer: Option<&Quantizer>) -> Option<Labels> {
        let adapted = adapt::activation(&self.spec.activations, quantizer?);
        match adapted.ok()?.grid {
            ValueGrid::Codes { grid, relabel, .. } => Labels::of(&grid, relabel),
            _ => None,
        }
    }

    /// What an addition does in whole blocks of a vector kernel, and which elements these are.
    fn pair_blocks(
        &self,
        op: Binary,
        operands: &[Operand; 2],
        labels: [Labels; 2],
        out: Labels,
    ) -> Option<(PairFunction, Arc<[bool]>)> {
        let layer = self.layer;
        let rule = match op {
            Binary::Mul | Binary::Div => return None,
            Binary::Add | Binary::AddShifted | Binary::Sub => self.spec.ops.add?,
        };
        if layer.result_shape != layer.shape {
            return None;
        }
        let [a, b] = operands.each_ref().map(|operand| {
            layer.in_file_order(match operand {
                Operand::Input(index) => &layer.input_shapes[*index],
                Operand::Constant(tensor) => &tensor.shape,
            })
        });
        let own = layer.in_file_order(&layer.shape);
        let walk = (Walk::of([&a, &b], &own), own.iter().product());
        let (function, run, block) =
            elementwise::add_blocks(rule, self.spec, op, labels, out, walk)?;
        Some((function, layer.in_blocks(run, block)))
    }

    /// An operation with two inputs.
    pub(super) fn pair(
        &self,
        op: Binary,
        operands: &[Operand; 2],
        shapes: &[Vec<usize>; 2],
        folded: &Folded,
        out: Labels,
    ) -> Option<Ending> {
        let spec = self.spec;
        if let Some(ending) = self.joined(folded, out) {
            return Some(ending);
        }
        let shapes = shapes.each_ref().map(Vec::as_slice);
        let repeats = elementwise::repeats_first(shapes, &self.layer.result_shape);
        let a = self.operand_labels(&operands[0])?;
        let b = self.operand_labels(&operands[1])?;
        let (function, rule, bounds) = match (op, spec.ops.add, spec.ops.mul) {
            (Binary::Add | Binary::AddShifted | Binary::Sub, Some(rule), _) => {
                let function = elementwise::add(rule, spec, op, [a, b], out, repeats)?;
                (function, "ops.add", elementwise::add_bounds(rule))
            }
            (Binary::Mul, _, Some(rule)) => {
                let function = elementwise::mul(rule, spec, [a, b], out).ok()??;
                (function, "ops.mul", elementwise::mul_bounds(rule))
            }
            _ => return None,
        };
        let pair = Pair {
            function,
            clamp: clamp_codes(out, folded, bounds),
            blocks: self.pair_blocks(op, operands, [a, b], out),
            memo: Memo::default(),
            in_blocks: Memo::default(),
        };
        Some((Finish::Pair(Box::new(pair)), false, vec![rule]))
    }
}
