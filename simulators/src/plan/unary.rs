//! Functions of one code, and the logarithmic quantizer behind any layer.

use align_check_graph::Activation;
use align_check_specs::{Bounds, HardSwishRule, RescaleRule, SigmoidRule};

use super::{Ending, Finish, Planner, Table, clamp_codes, same_grid};
use crate::network::{Folded, Kind, Post};
use crate::num::Trace;
use crate::rules::Labels;
use crate::rules::unary::{self, CodeFunction};

/// Largest table that is made for an operation with one quantized input.
const MOST_ENTRIES: i64 = 1 << 16;

/// What Quark writes behind a hard sigmoid: `(2731 / 2^14) / (1 / 6)`, which the DPU's own constant includes.
const DPU_SIGMOID_GAIN: f64 = 2731.0 * 6.0 / 16384.0;

impl Planner<'_> {
    pub(super) fn gfpq(&self) -> Ending {
        let layer = self.layer;
        let sigmoid = match (&layer.kind, &layer.posts[..], self.spec.ops.sigmoid) {
            (
                Kind::Pass,
                [Post::Function(function @ (Activation::Sigmoid | Activation::Tanh))],
                Some(SigmoidRule::NnieTable),
            ) => Some(*function),
            _ => None,
        };
        let mut rules = vec!["quantize"];
        match &layer.kind {
            Kind::Linear(_) | Kind::MatMul(_) => rules.extend(["bias", "requantize"]),
            Kind::Binary { .. } => rules.push("ops.add"),
            Kind::Average { .. } => rules.push("ops.average"),
            _ => {}
        }
        if sigmoid.is_some() {
            rules.push("ops.sigmoid");
        }
        let float = matches!(layer.kind, Kind::Softmax { .. });
        (Finish::Gfpq { sigmoid }, float, rules)
    }

    /// A function of one code, or a maximum of them.
    pub(super) fn one_code(&self, folded: Option<Folded>, out: Labels) -> Option<Ending> {
        let Some(x) = self.labels(0) else {
            // A real that comes from outside, or from a float operation.
            let (finish, _, rules) = self.float(out);
            return Some((finish, !self.layer.posts.is_empty(), rules));
        };
        let (function, rule) = self.unary(x, out, folded)?;
        Some((self.table(function, rule, x, out), false, vec![rule]))
    }

    /// A function of one code.
    fn unary(
        &self,
        x: Labels,
        out: Labels,
        folded: Option<Folded>,
    ) -> Option<(CodeFunction, &'static str)> {
        let (spec, ops) = (self.spec, &self.spec.ops);
        match (&self.layer.posts[..], folded) {
            (_, Some(folded)) if folded.is_clamp() => {
                // A clamp on codes has bounds of its own, whatever grid comes behind it.
                let rule = ops.relu.or(ops.rescale);
                let own = rule == Some(RescaleRule::FakeQuantize) && !folded.is_identity();
                if same_grid(x, out) && !own {
                    let (lo, hi) = clamp_codes(out, &folded, Bounds::HalfAway);
                    // The same grid: nothing is computed, codes may lie in another range.
                    let function: CodeFunction = Box::new(move |code, trace| {
                        let raw = x.raw(code);
                        let how = || format!("code {raw}, the same grid");
                        let raw = trace.step("input", how, raw);
                        let code = out.stored(raw, trace);
                        trace.step(
                            "clipped",
                            || format!("{code} to {lo}..{hi}"),
                            code.clamp(lo, hi),
                        )
                    });
                    Some((function, "activations"))
                } else {
                    let (rule, name) = match ops.relu {
                        Some(rule) if !folded.is_identity() => (Some(rule), "ops.relu"),
                        _ => (ops.rescale, "ops.rescale"),
                    };
                    self.rescale(rule, x, out, &folded).map(|f| (f, name))
                }
            }
            ([Post::Leaky { slope, .. }], _) if slope.len() == 1 => match ops.leaky_relu {
                Some(rule) => unary::leaky_relu(rule, spec, x, out, slope[0])
                    .ok()
                    .flatten()
                    .map(|f| (f, "ops.leaky-relu")),
                None => None,
            },
            ([Post::Function(function)], _) => match function {
                Activation::Sigmoid | Activation::Tanh => ops
                    .sigmoid
                    .and_then(|rule| unary::sigmoid(rule, &spec.quantize, *function, x, out))
                    .map(|f| (f, "ops.sigmoid")),
                Activation::HardSigmoid { .. } | Activation::HardSwish => ops
                    .hard_swish
                    .and_then(|rule| unary::hard_swish(rule, spec, *function, x, out))
                    .map(|f| (f, "ops.hard-swish")),
                _ => None,
            },
            (
                [
                    Post::Function(function @ Activation::HardSigmoid { .. }),
                    Post::Affine { mul, add, .. },
                ],
                _,
            ) if ops.hard_swish == Some(HardSwishRule::Dpu2731)
                && mul.iter().all(|&m| m == DPU_SIGMOID_GAIN)
                && add.iter().all(|&a| a == 0.0) =>
            {
                unary::hard_swish(HardSwishRule::Dpu2731, spec, *function, x, out)
                    .map(|f| (f, "ops.hard-swish"))
            }
            _ => None,
        }
    }

    pub(super) fn rescale(
        &self,
        rule: Option<RescaleRule>,
        x: Labels,
        out: Labels,
        folded: &Folded,
    ) -> Option<CodeFunction> {
        unary::rescale(rule?, self.spec, x, out, (folded.lo, folded.hi))
            .ok()
            .flatten()
    }

    fn table(&self, function: CodeFunction, rule: &str, x: Labels, out: Labels) -> Finish {
        let (min, max) = match self.codes(0) {
            Some((grid, _)) if grid.max - grid.min < MOST_ENTRIES => (grid.min, grid.max),
            _ => return Finish::Function(function),
        };
        let entries = |function: &CodeFunction| -> Vec<i32> {
            let code = |code| function(code as i32, &mut Trace::off());
            (min..=max).map(code).collect()
        };
        let table = Table::new(entries(&function), min, function);
        let blocks = match (rule, self.spec.ops.rescale) {
            ("ops.rescale", Some(rule)) if matches!(self.layer.kind, Kind::Pass) => {
                unary::rescale_blocks(rule, self.spec, x, out)
            }
            _ => None,
        };
        match blocks {
            Some((function, block)) => Finish::Tables {
                table,
                blocks: Table::new(entries(&function), min, function),
                inside: self
                    .layer
                    .in_blocks(self.layer.shape.iter().product(), block),
            },
            None => Finish::Table(table),
        }
    }
}
