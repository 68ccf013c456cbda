//! What a target's own run drifts, held against the model's own noise, and which layers' differences reach an output.

use std::fmt::Write as _;

use super::super::text::{number, thousands, xml};
use super::words::{self, name};
use crate::outcome::{Drift, Drifted, TargetOutcome, Trace, Traced};

/// The section of a target; empty where nothing drifts.
pub(super) fn section(target: &TargetOutcome, id: usize) -> String {
    let Some(drifted) = &target.drifted else {
        return String::new();
    };
    let mut out = format!(
        "<h3 id=\"t{id}-drift\">{}</h3>\n<p>{}</p>\n",
        words::NAV_DRIFT.html(),
        against_noise(drifted)
    );
    if let Some(trace) = &target.trace {
        table(&mut out, target, id, trace);
    }
    out
}

fn against_noise(drifted: &Drifted) -> String {
    let [differing, elements, outputs] =
        [drifted.differing, drifted.elements, drifted.outputs].map(thousands);
    let mut sentences = vec![words::DRIFTED.with(&[&differing, &elements, &outputs])];
    if let Some(noise) = &drifted.baseline {
        let differing = thousands(noise.differing);
        sentences.push(match noise.outputs {
            Some(outputs) => words::DRIFT_NOISE.with(&[&differing, &thousands(outputs)]),
            None => words::DRIFT_NOISE_LAYERS.with(&[&differing]),
        });
    }
    if drifted.within_baseline == Some(true) {
        sentences.push(format!("<b>{}</b>", words::NOT_DRIFTED.html()));
    }
    sentences.join(" ")
}

fn table(out: &mut String, target: &TargetOutcome, id: usize, trace: &Trace) {
    let index: Vec<String> = trace.index.iter().map(ToString::to_string).collect();
    // Writing to a String cannot fail, here and below.
    let _ = write!(
        out,
        "<p>{}</p>\n<table class=\"trace\"><tr><th>{}</th><th>{}</th><th>{}</th><th>{}</th></tr>\n",
        words::TRACE.with(&[
            &format!("<code>{}[{}]</code>", xml(&trace.tensor), index.join(", ")),
            &trace.sample.to_string(),
            &number(trace.lsb),
            &thousands(trace.introducing),
            &thousands(trace.layers.len() as u64),
        ]),
        words::LAYER.html(),
        words::TRACE_INTRODUCES.html(),
        words::TRACE_MOVES.html(),
        words::TRACE_OUTPUTS.html(),
    );
    for traced in &trace.layers {
        let Traced {
            layer,
            differing,
            lsb,
            outputs,
        } = traced;
        let at = target.layers.iter().position(|own| own.name == *layer);
        let link = match at {
            Some(at) => format!("<a href=\"#t{id}-{at}\">{}</a>", name(layer)),
            None => name(layer),
        };
        let _ = writeln!(
            out,
            "<tr><td>{link}</td><td class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td></tr>",
            thousands(*differing),
            number(*lsb),
            thousands(*outputs)
        );
    }
    out.push_str("</table>\n");
}

/// Where a layer's differing elements come from; `None` where none differ.
pub(super) fn of_layer(drift: &Drift) -> Option<String> {
    let Drift {
        introduced,
        propagated,
        amplified,
        inputs_max_lsb,
    } = *drift;
    if introduced + propagated == 0 {
        return None;
    }
    let mut parts =
        vec![words::DRIFT_LAYER.with(&[&thousands(introduced), &thousands(propagated)])];
    if amplified > 0 {
        parts.push(words::DRIFT_GROWS.with(&[&thousands(amplified), &number(inputs_max_lsb)]));
    }
    Some(words::join(&parts))
}
