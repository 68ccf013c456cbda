//! Layers that move elements: which grid they keep, and joints of tensors on different grids.

use super::{Ending, Finish, Planner, same_grid};
use crate::adapt::ValueGrid;
use crate::network::{Folded, Kind, Operand, Post};
use crate::rules::Labels;

impl Planner<'_> {
    /// The grid of an output without a quantizer.
    pub(super) fn unquantized(&self) -> ValueGrid {
        let layer = self.layer;
        match (&layer.kind, self.inputs.first()) {
            (Kind::Pass, _) if self.leaves() => ValueGrid::Real,
            _ if !layer.posts.is_empty() && self.kept_clamp().is_none() => ValueGrid::Real,
            (
                Kind::Movement(movement),
                Some(ValueGrid::Codes {
                    grid,
                    relabel,
                    model,
                }),
            ) => match movement.grid(grid) {
                Some(grid) => ValueGrid::Codes {
                    grid,
                    relabel: *relabel,
                    model: *model,
                },
                None => ValueGrid::Real,
            },
            (Kind::MaxPool(_) | Kind::Pass | Kind::Movement(_), Some(grid)) => grid.clone(),
            (Kind::Concat { operands, .. }, Some(first @ ValueGrid::Codes { grid, .. }))
                if grid.is_uniform() =>
            {
                let same = operands.iter().all(|operand| match operand {
                    Operand::Input(i) => self.codes(*i).is_some_and(|(g, _)| g == grid),
                    Operand::Constant(tensor) => tensor.grid() == Some(grid),
                });
                if same { first.clone() } else { ValueGrid::Real }
            }
            _ => ValueGrid::Real,
        }
    }

    /// Posts that are clamps between codes of the input's grid: the codes stay, only their range shrinks.
    pub(super) fn kept_clamp(&self) -> Option<(i32, i32)> {
        let (grid, _) = self.codes(0)?;
        if !grid.is_uniform()
            || !matches!(
                self.layer.kind,
                Kind::Pass | Kind::MaxPool(_) | Kind::Movement(_)
            )
        {
            return None;
        }
        let (mut lo, mut hi) = (grid.min, grid.max);
        for post in &self.layer.posts {
            let Post::Clamp { lo: low, hi: high } = post else {
                return None;
            };
            if *low != f64::NEG_INFINITY {
                lo = lo.max(grid.code_of(*low, 0)?);
            }
            if *high != f64::INFINITY {
                hi = hi.min(grid.code_of(*high, 0)?);
            }
        }
        (lo <= hi && lo >= grid.min && hi <= grid.max).then_some((lo as i32, hi as i32))
    }

    /// A joint: each operand through its own function.
    pub(super) fn concat(
        &self,
        operands: &[Operand],
        folded: &Folded,
        out: Labels,
    ) -> Option<Ending> {
        let ops = &self.spec.ops;
        let function = |operand: &Operand| {
            let x = self.operand_labels(operand)?;
            if same_grid(x, out) && folded.is_identity() {
                return Some(None);
            }
            let rule = ops.concat.or(ops.rescale);
            self.rescale(rule, x, out, folded).map(Some)
        };
        let functions: Option<Vec<_>> = operands.iter().map(function).collect();
        let rule = match ops.concat {
            Some(_) => "ops.concat",
            None => "ops.rescale",
        };
        Some((Finish::Concat(functions?), false, vec![rule]))
    }
}
