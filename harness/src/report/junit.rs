//! The report for CI: one test case a layer and target.

use std::fmt::Write as _;

use super::text::{percent, xml};
use super::view;
use crate::outcome::{LayerOutcome, Outcome, TargetOutcome, Verdict};

/// The outcome as `JUnit` XML: a suite for each target, a case for each layer, a failure where it is
/// misaligned.
pub fn junit(outcome: &Outcome) -> String {
    let tests: usize = outcome.targets.iter().map(|target| cases(target).0).sum();
    let failures: usize = outcome.targets.iter().map(|target| cases(target).1).sum();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(
        out,
        "<testsuites name=\"align-check\" tests=\"{tests}\" failures=\"{failures}\" errors=\"0\">"
    );
    for target in &outcome.targets {
        suite(&mut out, target, outcome);
    }
    out.push_str("</testsuites>\n");
    out
}

/// Whether the target is misaligned though no layer is: then its outputs tell it.
fn only_outputs(target: &TargetOutcome) -> bool {
    target.verdict.fails() && view::first_divergent(target).is_none()
}

/// Cases and failures of a suite.
fn cases(target: &TargetOutcome) -> (usize, usize) {
    let outputs = usize::from(only_outputs(target));
    let failures = view::failing(target);
    (target.layers.len() + outputs, failures + outputs)
}

fn suite(out: &mut String, target: &TargetOutcome, outcome: &Outcome) {
    let (tests, failures) = cases(target);
    let name = xml(&target.name);
    let _ = writeln!(
        out,
        "  <testsuite name=\"{name}\" tests=\"{tests}\" failures=\"{failures}\" errors=\"0\">"
    );
    out.push_str("    <properties>\n");
    let properties = [
        ("model", outcome.model.path.as_str()),
        ("sha256", &outcome.model.sha256),
        ("verdict", target.verdict.text()),
        ("grade", &target.grade),
        ("setting", &view::setting(outcome)),
    ];
    for (key, value) in properties {
        let _ = writeln!(
            out,
            "      <property name=\"{key}\" value=\"{}\"/>",
            xml(value)
        );
    }
    out.push_str("    </properties>\n");
    for layer in &target.layers {
        let _ = write!(
            out,
            "    <testcase classname=\"{name}\" name=\"{}\"",
            xml(&layer.name)
        );
        let (tag, message) = match layer.verdict {
            verdict if verdict.fails() => ("failure", message(layer)),
            Verdict::Aligned | Verdict::Proved => {
                out.push_str("/>\n");
                continue;
            }
            verdict => (
                "system-out",
                format!("{}: {}", verdict.text(), message(layer)),
            ),
        };
        out.push_str(">\n");
        let body: Vec<String> = body(layer).iter().map(|line| xml(line)).collect();
        let body = body.join("\n");
        if tag == "failure" {
            let _ = writeln!(
                out,
                "      <failure type=\"{}\" message=\"{}\">{body}</failure>",
                layer.verdict.text(),
                xml(&message)
            );
        } else {
            let _ = writeln!(out, "      <system-out>{}</system-out>", xml(&message));
        }
        out.push_str("    </testcase>\n");
    }
    if only_outputs(target) {
        let outputs: Vec<String> = target
            .outputs
            .iter()
            .map(|output| view::output(target, output))
            .collect();
        let _ = writeln!(
            out,
            "    <testcase classname=\"{name}\" name=\"outputs\">\n      \
             <failure type=\"misaligned\" message=\"{}\"/>\n    </testcase>",
            xml(&outputs.join("; "))
        );
    }
    out.push_str("  </testsuite>\n");
}

/// What differs, in one line.
fn message(layer: &LayerOutcome) -> String {
    if let Some(why) = view::absent(layer) {
        return why;
    }
    let Some(stats) = view::decisive(layer) else {
        return String::new();
    };
    format!(
        "{} elements differ ({}), {}",
        view::share(stats),
        percent(stats.rate()),
        view::difference(stats.max_lsb, layer.lsb.is_some())
    )
}

/// Why it differs.
fn body(layer: &LayerOutcome) -> Vec<String> {
    let mut lines = vec![
        format!("op: {}", layer.op),
        format!("tensor: {}", layer.tensor),
    ];
    if let Some(cause) = &layer.cause {
        lines.push(format!("cause: {}: {}", view::cause(cause), cause.text));
    }
    if let Some(witness) = &layer.witness {
        lines.push(format!("witness: {}", view::witness(witness)));
    }
    lines.extend(layer.mismatches.iter().map(|why| view::mismatch(why)));
    lines.push(format!("grade: {}", layer.grade));
    lines
}
