//! Proofs for people and for machines.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Cases, Certificate, Proof, SCHEMA};
use crate::outcome::{ModelInfo, Verdict};
use crate::report::style::Paint;
use crate::report::text::{thousands, visible};

/// The JSON report.
pub fn json(model: &ModelInfo, proof: &Proof) -> String {
    #[derive(Serialize)]
    struct Report<'a> {
        schema: &'static str,
        model: &'a ModelInfo,
        #[serde(flatten)]
        proof: &'a Proof,
        totals: Cases,
        all_equal: bool,
    }
    let report = Report {
        schema: SCHEMA,
        model,
        proof,
        totals: proof.totals(),
        all_equal: proof.all_equal(),
    };
    // Plain data: nothing in it can fail to serialize.
    serde_json::to_string_pretty(&report).unwrap_or_default() + "\n"
}

/// The terminal report: every layer that is not proved equal, then the sums.
pub fn terminal(proof: &Proof, color: bool, verbose: bool) -> String {
    let paint = Paint(color);
    let mut text = format!(
        "{} against {}: for all inputs of each layer\n\n",
        paint.bold(&proof.target),
        proof.against
    );
    // Writing to a String cannot fail, here and below.
    for layer in &proof.layers {
        let name = visible(&layer.name);
        match &layer.result {
            Certificate::Equal(cases) if verbose => {
                let _ = writeln!(
                    text,
                    "  {} {name}: {}",
                    paint.verdict(Verdict::Aligned, "equal"),
                    compared(*cases)
                );
            }
            Certificate::Equal(_) => {}
            Certificate::Differs {
                cases,
                max_lsb,
                example,
            } => {
                let _ = writeln!(
                    text,
                    "  {} {name} ({}): {} of {}, at most {max_lsb} LSB",
                    paint.verdict(Verdict::Misaligned, "differs"),
                    visible(&layer.op),
                    thousands(cases.differing),
                    compared(*cases),
                );
                let place = match (example.channel, example.sum) {
                    (Some(channel), Some(sum)) => format!("channel {channel}, sum {sum}"),
                    _ => format!("input codes {:?}", example.inputs),
                };
                let found = match (example.sum, example.inputs.is_empty()) {
                    (Some(_), true) => " (no input window was found for it)",
                    (Some(_), false) => " (an input window that makes it is in the JSON report)",
                    _ => "",
                };
                let _ = writeln!(
                    text,
                    "          e.g. {place}: {} instead of {}{found}",
                    example.got, example.expected
                );
            }
            Certificate::Open { why } => {
                let _ = writeln!(
                    text,
                    "  {} {name} ({}): {why}",
                    paint.dim("open"),
                    visible(&layer.op)
                );
            }
        }
    }
    text + "\n" + &summary(proof)
}

/// One line: layers, and the cases that were compared.
pub fn summary(proof: &Proof) -> String {
    let totals = proof.totals();
    let of = |wanted: fn(&Certificate) -> bool| {
        proof
            .layers
            .iter()
            .filter(|layer| wanted(&layer.result))
            .count()
    };
    format!(
        "{} layers: {} equal for all inputs, {} differ, {} open; {} in {:.2} s\n",
        proof.layers.len(),
        of(|c| matches!(c, Certificate::Equal(_))),
        of(|c| matches!(c, Certificate::Differs { .. })),
        of(|c| matches!(c, Certificate::Open { .. })),
        if totals.channels > 0 {
            format!(
                "{} channels, {} of them equal for all inputs; {} of {} cases differ",
                thousands(totals.channels),
                thousands(totals.equal_channels),
                thousands(totals.differing),
                thousands(totals.reachable)
            )
        } else {
            format!(
                "{} of {} cases differ",
                thousands(totals.differing),
                thousands(totals.reachable)
            )
        },
        proof.seconds
    )
}

fn compared(cases: Cases) -> String {
    if cases.channels == 0 {
        format!("{} combinations of codes", thousands(cases.reachable))
    } else {
        format!(
            "{} reachable sums of {} channels ({} equal)",
            thousands(cases.reachable),
            thousands(cases.channels),
            thousands(cases.equal_channels)
        )
    }
}
