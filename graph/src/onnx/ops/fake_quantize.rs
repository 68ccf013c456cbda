//! OpenVINO's `FakeQuantize`: a layer of its IR, and the operator of domain `org.openvinotoolkit` that its ONNX
//! importer reads and MQBench writes (ModelTC/MQBench `mqbench/deploy/deploy_openvino.py`).
//!
//! Inputs: the tensor, then input low, input high, output low, output high, broadcast by numpy's rule.

use super::quantizers::per_channel;
use crate::onnx::FileNode;
use crate::onnx::bind::Binder;
use crate::onnx::fail::{Outcome, malformed, unsupported};
use crate::{FakeQuantize, Op, Quantizer};

/// From here on neighbouring levels are one `f32`.
const MOST_LEVELS: i64 = 1 << 24;

/// The operator of ONNX files.
pub(super) fn lower(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    if node.op_type != "FakeQuantize" {
        return unsupported("this operator is not evaluated");
    }
    match node.attrs().int("levels")? {
        Some(levels) => with_levels(b, node, levels),
        None => malformed("attribute 'levels' is missing"),
    }
}

pub(crate) fn with_levels(b: &mut Binder, node: &FileNode, levels: i64) -> Outcome<()> {
    let levels = match u32::try_from(levels) {
        Ok(count) if (2..=MOST_LEVELS).contains(&levels) => count,
        _ => {
            return unsupported(format!("{levels} levels; 2 to {MOST_LEVELS} are evaluated"));
        }
    };
    let x = b.input(node, 0)?;
    let limit = |index: usize, what: &str| per_channel(b, node, x, index, what);
    let quantizer = FakeQuantize {
        levels,
        input_low: limit(1, "input low")?,
        input_high: limit(2, "input high")?,
        output_low: limit(3, "output low")?,
        output_high: limit(4, "output high")?,
    };
    let limits = quantizer.limits();
    let mut axes = limits.iter().filter_map(|limit| limit.axis);
    if let Some(first) = axes.next()
        && let Some(other) = axes.find(|&axis| axis != first)
    {
        return unsupported(format!(
            "limits that vary along axis {first} and along axis {other}"
        ));
    }
    for limit in quantizer.limits() {
        if let Some(bad) = limit.values.iter().find(|v| !v.is_finite()) {
            return malformed(format!("a limit is {bad}"));
        }
    }
    for c in 0..quantizer.channels() {
        let (low, high) = (quantizer.input_low.at(c), quantizer.input_high.at(c));
        if low > high {
            return unsupported(format!(
                "its input low {low} lies above its input high {high} (channel {c})"
            ));
        }
        if !(high - low).is_finite() {
            return unsupported(format!(
                "its range from {low} to {high} is beyond float32 (channel {c})"
            ));
        }
    }
    super::same(b, node, Op::Quantize(Quantizer::FakeQuantize(quantizer)))
}
