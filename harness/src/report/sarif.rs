//! The report for code scanning: SARIF 2.1.0 (OASIS Standard, 27 March 2020), one result a misaligned layer.

use std::fmt::Write as _;
use std::fs;

use serde_json::{Value, json};

use super::text::{percent, visible};
use super::{onnx, view};
use crate::digest;
use crate::outcome::{LayerOutcome, Outcome, TargetOutcome};

/// The rule of what fails without a cause: a model output, or a layer that nobody explained.
const NO_CAUSE: &str = "misaligned";

/// The outcome as a SARIF log with one run: a rule for every cause, a result for every layer of every target that
/// fails.
pub fn sarif(outcome: &Outcome) -> String {
    let model = model(outcome);
    let nodes = onnx::nodes(&model);
    let mut rules: Vec<(String, String)> = Vec::new();
    let mut results = Vec::new();
    for target in &outcome.targets {
        for layer in target.layers.iter().filter(|layer| layer.verdict.fails()) {
            let (name, text) = match &layer.cause {
                Some(cause) => (cause.name.clone(), cause.text.clone()),
                None => (NO_CAUSE.to_owned(), String::new()),
            };
            let rule = rule(&mut rules, &name, &text);
            let mut result = of_layer(outcome, target, layer, (rule, &name));
            if let Some(&(offset, length)) = nodes.get(&*layer.name) {
                result["locations"][0]["physicalLocation"]["region"] =
                    json!({ "byteOffset": offset, "byteLength": length });
            }
            results.push(result);
        }
        if target.verdict.fails() && view::first_divergent(target).is_none() {
            let rule = rule(&mut rules, NO_CAUSE, "");
            results.push(of_outputs(outcome, target, rule));
        }
    }
    let rules: Vec<Value> = rules
        .iter()
        .map(|(name, text)| descriptor(name, text))
        .collect();
    let notifications: Vec<Value> = outcome
        .unsupported
        .iter()
        .map(|(target, why)| {
            let text = format!(
                "target {} is unsupported: {}",
                visible(target),
                visible(why)
            );
            json!({ "level": "error", "message": { "text": text } })
        })
        .collect();
    let exit_code = if outcome.unsupported.is_empty() {
        view::exit_code(outcome)
    } else {
        crate::cli::UNSUPPORTED
    };
    let log = json!({
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "align-check",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            } },
            "invocations": [{
                "executionSuccessful": outcome.unsupported.is_empty(),
                "exitCode": exit_code,
                "toolExecutionNotifications": notifications,
            }],
            "artifacts": [{
                "location": location(&outcome.model.path),
                "hashes": { "sha-256": outcome.model.sha256 },
                "roles": ["analysisTarget"],
            }],
            "results": results,
            "columnKind": "utf16CodeUnits",
        }],
    });
    format!("{log:#}\n")
}

/// The bytes of the model's file, where they tell the places of nodes: an ONNX file that is still the one that was
/// checked.
fn model(outcome: &Outcome) -> Vec<u8> {
    let bytes = if outcome.model.is_onnx {
        fs::read(&outcome.model.path).unwrap_or_default()
    } else {
        Vec::new()
    };
    if digest::of_bytes(&bytes) == outcome.model.sha256 {
        bytes
    } else {
        Vec::new()
    }
}

/// The position of a rule among those that were met.
fn rule(rules: &mut Vec<(String, String)>, name: &str, text: &str) -> usize {
    rules
        .iter()
        .position(|(known, _)| known == name)
        .unwrap_or_else(|| {
            rules.push((name.to_owned(), text.to_owned()));
            rules.len() - 1
        })
}

fn descriptor(name: &str, text: &str) -> Value {
    let short = match name {
        NO_CAUSE => "Elements differ from the reference, and no cause is known.".to_owned(),
        name => format!("Elements differ from the reference: {}.", visible(name)),
    };
    let mut descriptor = json!({
        "id": id(name),
        "shortDescription": { "text": short },
        "defaultConfiguration": { "level": "error" },
    });
    if !text.is_empty() {
        let text = format!("For example: {}", visible(text));
        descriptor["fullDescription"] = json!({ "text": text });
    }
    descriptor
}

/// The identifier of a rule: a cause's name in a spelling that tools take (`double-rounding`).
fn id(name: &str) -> String {
    let word = |c: char| if c.is_alphanumeric() { c } else { '-' };
    let id: String = name.chars().map(word).collect();
    let parts: Vec<&str> = id.split('-').filter(|part| !part.is_empty()).collect();
    parts.join("-")
}

fn of_layer(
    outcome: &Outcome,
    target: &TargetOutcome,
    layer: &LayerOutcome,
    (rule, name): (usize, &str),
) -> Value {
    let on = visible(&target.name);
    let head = format!("{} on {on}: {}", view::named(layer), layer.verdict.text());
    let stats = view::decisive(layer);
    let share = stats.map(|stats| {
        let rate = percent(stats.rate());
        let max = view::difference(stats.max_lsb, layer.lsb.is_some());
        format!("{} elements differ ({rate}), {max}", view::share(stats))
    });
    let why = layer.cause.as_ref();
    let why = why.map(|cause| format!("{}: {}", view::cause(cause), visible(&cause.text)));
    let witness = layer.witness.as_ref();
    let witness = witness.map(|witness| format!("witness: {}", view::witness(witness)));
    let parts = [Some(head), share, why, witness];
    let text = parts.into_iter().flatten().collect::<Vec<_>>().join("; ");
    let mut result = result(outcome, target, (rule, name), &text, &layer.name);
    result["level"] = json!(view::look(layer.verdict).level);
    result["properties"] = json!({
        "target": target.name,
        "verdict": layer.verdict,
        "op": layer.op,
        "tensor": layer.tensor,
        "grade": layer.grade,
        "elements": stats.map(|stats| stats.elements),
        "differing": stats.map(|stats| stats.differing),
        "maxLsb": stats.map(|stats| stats.max_lsb),
        "explains": layer.cause.as_ref().map(|cause| cause.explains),
        "of": layer.cause.as_ref().map(|cause| cause.of),
    });
    result
}

/// A target whose outputs differ though no layer does.
fn of_outputs(outcome: &Outcome, target: &TargetOutcome, rule: usize) -> Value {
    let outputs: Vec<String> = target
        .outputs
        .iter()
        .map(|output| view::output(target, output))
        .collect();
    let text = format!(
        "outputs on {}: {}",
        visible(&target.name),
        outputs.join("; ")
    );
    let mut result = result(outcome, target, (rule, NO_CAUSE), &text, "outputs");
    result["level"] = json!(view::look(target.verdict).level);
    result["properties"] =
        json!({ "target": target.name, "verdict": target.verdict, "grade": target.grade });
    result
}

/// What all results have. The location is the model as an artifact and the layer as a logical location. A model is no
/// text, so there is no line; where the file has one place for the layer's node, `sarif` adds it as a binary region
/// (SARIF 2.1.0, 3.30.4). Without a region a result is of the whole file (3.29.4).
fn result(
    outcome: &Outcome,
    target: &TargetOutcome,
    (rule, name): (usize, &str),
    text: &str,
    layer: &str,
) -> Value {
    let mut artifact = location(&outcome.model.path);
    artifact["index"] = json!(0);
    json!({
        "ruleId": id(name),
        "ruleIndex": rule,
        "kind": "fail",
        "message": { "text": text },
        "locations": [{
            "physicalLocation": { "artifactLocation": artifact },
            "logicalLocations": [{
                "name": visible(layer),
                "fullyQualifiedName": format!("{}/{}", visible(&target.name), visible(layer)),
                "kind": "layer",
            }],
        }],
        "partialFingerprints": {
            "targetAndLayer/v1": format!("{}/{}", visible(&target.name), visible(layer)),
        },
    })
}

/// A path as a URI reference (RFC 3986): a relative one stays relative.
fn location(path: &str) -> Value {
    let path = path.replace('\\', "/");
    let absolute = path.starts_with('/');
    let drive = path.as_bytes().get(1) == Some(&b':');
    let mut uri = String::from(match (absolute, drive) {
        (true, _) => "file://",
        (_, true) => "file:///",
        _ => "",
    });
    for (at, byte) in path.bytes().enumerate() {
        let kept = byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) || (drive && at == 1);
        if kept {
            uri.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    json!({ "uri": uri })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_uris() {
        for (path, uri) in [
            ("models/net.onnx", "models/net.onnx"),
            ("/data/my net.onnx", "file:///data/my%20net.onnx"),
            ("C:\\nets\\a#b.onnx", "file:///C:/nets/a%23b.onnx"),
            ("层.onnx", "%E5%B1%82.onnx"),
        ] {
            assert_eq!(location(path)["uri"], uri);
        }
    }

    #[test]
    fn nodes_lie_where_their_messages_do() {
        let node = |name: &str| {
            let mut bytes = vec![0x22, 4, b'C', b'o', b'n', b'v', 0x1a, name.len() as u8];
            bytes.extend_from_slice(name.as_bytes());
            bytes
        };
        let mut graph = Vec::new();
        for name in ["a", "b", "twice", "twice", ""] {
            let node = node(name);
            graph.extend([0x0a, node.len() as u8]);
            graph.extend(node);
        }
        let mut model = vec![0x08, 0x07, 0x3a, graph.len() as u8];
        model.extend(&graph);
        let found = onnx::nodes(&model);
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), ["a", "b"]);
        for (name, (at, size)) in found {
            assert_eq!(model[at..at + size], node(name));
        }
        // A file that is cut has the nodes that are whole.
        assert!(onnx::nodes(&model[..model.len() - 3]).is_empty());
        assert!(onnx::nodes(b"<net>").is_empty());
    }

    #[test]
    fn identifiers_are_words() {
        assert_eq!(
            id("double rounding + zero point"),
            "double-rounding-zero-point"
        );
        assert_eq!(id("concat gain"), "concat-gain");
    }
}
