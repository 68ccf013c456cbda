//! Distiller's calibration statistics: YAML of `module -> { inputs: { 0: stats }, output: stats }`, `stats` with `min`,
//! `max`, `avg_min`, ... (IntelLabs/distiller `distiller/data_loggers/collector.py`, `QuantCalibrationStatsCollector`;
//! `examples/quantization/post_train_quant/stats/resnet18_quant_stats.yaml`).
//!
//! The settings of the quantizer stand elsewhere. Taken here are its defaults: mode symmetric, 8 bits, no clipping,
//! weights per tensor (`range_linear.py`, `add_post_train_quant_args`): `code = round(x * m)`, `m = 127 / max|x|`
//! (`q_utils.py`).

use super::scheme::{self, Codes, Scheme};
use super::tree::Tree;
use super::{Format, Parsed, Place, Role, WeightRule};
use crate::ZeroPointAdded;

/// Whether a text looks like one: every module has its statistics in blocks of these names.
pub(super) fn is_statistics(text: &str) -> bool {
    let block = |name: &str| text.lines().any(|line| line.trim() == name);
    block("inputs:") || block("output:")
}

/// Reads the statistics.
pub(super) fn statistics(tree: &Tree) -> Result<Parsed, String> {
    let mut parsed = Parsed::new(Format::Distiller);
    parsed.weights = WeightRule::Symmetric { per_channel: false };
    parsed.notes.push(
        "Distiller's statistics do not hold its settings: its defaults are taken (symmetric, 8 bits, no clipping, \
         one scale for all weights of a layer)"
            .into(),
    );
    let modules = tree.map().ok_or("other than statistics by module")?;
    for (name, statistics) in modules {
        let located = |what: String| format!("module '{name}': {what}");
        if let Some(inputs) = statistics.get("inputs") {
            let inputs = inputs
                .map()
                .ok_or_else(|| located("'inputs' by no number".into()))?;
            for (key, stats) in inputs {
                let index = key
                    .parse::<usize>()
                    .map_err(|_| located(format!("an input '{key}'")))?;
                let scheme = range(stats).map_err(located)?;
                parsed.push(
                    Place::ModuleInput(name.clone(), index),
                    scheme,
                    Role::Activation,
                );
            }
        }
        let output = statistics
            .get("output")
            .ok_or_else(|| located("lacks 'output'".into()))?;
        let scheme = range(output).map_err(located)?;
        parsed.push(Place::Module(name.clone()), scheme, Role::Activation);
    }
    Ok(parsed)
}

fn range(stats: &Tree) -> Result<Scheme, String> {
    let min = stats.need("min", "a number", Tree::number)?;
    let max = stats.need("max", "a number", Tree::number)?;
    if !(min.is_finite() && max.is_finite() && min <= max) {
        return Err(format!("a range from {min} to {max}"));
    }
    // The package computes in f32. A range of zero gets the factor 1.
    let largest = min.abs().max(max.abs()) as f32;
    let multiplier = if largest == 0.0 { 1.0 } else { 127.0 / largest };
    scheme::multiplied(
        &[f64::from(multiplier)],
        &[0.0],
        Codes::signed(8),
        ZeroPointAdded::BeforeRounding,
    )
    .map(Scheme::Affine)
}
