//! Proofs for people and for machines.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Cases, Certificate, Proof, SCHEMA};
use crate::outcome::{ModelInfo, Verdict};
use crate::report::style::Paint;
use crate::report::text::{percent, thousands, visible};

/// The JSON report.
pub fn json(model: &ModelInfo, proof: &Proof) -> String {
    #[derive(Serialize)]
    struct Report<'a> {
        schema: &'static str,
        model: &'a ModelInfo,
        #[serde(flatten)]
        proof: &'a Proof,
        totals: Cases,
        uniform_rate: f64,
        all_equal: bool,
    }
    let report = Report {
        schema: SCHEMA,
        model,
        proof,
        totals: proof.totals(),
        uniform_rate: proof.totals().uniform_rate(),
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
            Certificate::Open { why, overflow } => {
                let _ = writeln!(
                    text,
                    "  {} {name} ({}): {why}",
                    paint.dim("open"),
                    visible(&layer.op)
                );
                if let Some(over) = overflow {
                    let _ = writeln!(
                        text,
                        "          {} of {} channels overflow {} bits; worst: channel {} reaches {} (an input window that \
                         makes it is in the JSON report)",
                        thousands(over.channels as u64),
                        thousands(over.of as u64),
                        over.bits,
                        over.channel,
                        over.sum
                    );
                }
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
    let rate = match totals.differing {
        0 => String::new(),
        _ => format!(
            "if every case were equally likely, {} of a run's elements would differ\n",
            percent(totals.uniform_rate())
        ),
    };
    format!(
        "{} layers: {} equal for all inputs, {} differ, {} open; {} in {:.2} s\n{rate}",
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
