//! The report for machines: the contract that `"schema"` names.

use serde_json::{Map, Value, json};

use super::view;
use crate::outcome::{
    Cause, Floor, LayerOutcome, ModelInfo, Outcome, OutputOutcome, SCHEMA, Stats, TargetOutcome,
    Witness,
};

/// The outcome as JSON: indented, keys in a fixed order, with a newline at the end.
///
/// One target stands at the top level; several stand in `"targets"`, below the worst verdict. Numbers that
/// are not finite are `null`. Nothing in it depends on the machine or the time that the check took.
pub fn json(outcome: &Outcome) -> String {
    let mut root = Map::new();
    put(&mut root, "schema", json!(SCHEMA));
    put(
        &mut root,
        "tool",
        json!({ "name": "align-check", "version": env!("CARGO_PKG_VERSION") }),
    );
    put(&mut root, "model", model(&outcome.model));
    if let [target] = &outcome.targets[..] {
        put(&mut root, "target", head(target));
        put(&mut root, "verdict", json!(target.verdict));
        put(&mut root, "exit_code", json!(target.exit_code));
        run(&mut root, outcome);
        findings(&mut root, target);
    } else {
        put(&mut root, "verdict", json!(view::worst(outcome)));
        put(&mut root, "exit_code", json!(view::exit_code(outcome)));
        run(&mut root, outcome);
        let targets = outcome.targets.iter().map(|target| {
            let mut one = Map::new();
            put(&mut one, "target", head(target));
            put(&mut one, "verdict", json!(target.verdict));
            put(&mut one, "exit_code", json!(target.exit_code));
            put(&mut one, "inputs", json!(outcome.inputs));
            findings(&mut one, target);
            Value::Object(one)
        });
        put(&mut root, "targets", targets.collect());
    }
    let refused = |(target, why): &(String, String)| json!({ "target": target, "why": why });
    let unsupported: Vec<Value> = outcome.unsupported.iter().map(refused).collect();
    if !unsupported.is_empty() {
        if outcome.interrupted.is_none() {
            put(&mut root, "exit_code", json!(crate::cli::UNSUPPORTED));
        }
        put(&mut root, "unsupported", json!(unsupported));
    }
    // `{:#}` of a value is its indented form, and unlike the serializer it has no error to handle.
    format!("{:#}\n", Value::Object(root))
}

fn put(map: &mut Map<String, Value>, key: &str, value: Value) {
    map.insert(key.to_owned(), value);
}

/// A whole number without a fraction; what is not finite as `null`.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9e15 {
        json!(value as i64)
    } else {
        json!(value)
    }
}

fn model(model: &ModelInfo) -> Value {
    json!({
        "path": model.path,
        "sha256": model.sha256,
        "format": model.format,
        "notes": model.notes,
    })
}

fn head(target: &TargetOutcome) -> Value {
    json!({
        "name": target.name,
        "grade": target.grade,
        "summary": target.summary,
        "unknowns": target.unknowns,
    })
}

/// What was run, and against what.
fn run(map: &mut Map<String, Value>, outcome: &Outcome) {
    put(map, "inputs", json!(outcome.inputs));
    if let Some(all) = outcome.interrupted {
        put(
            map,
            "interrupted",
            json!({ "done": outcome.inputs, "of": all }),
        );
        put(map, "exit_code", json!(crate::long::INTERRUPTED));
    }
    put(map, "generated", json!(outcome.generated));
    put(map, "against", json!(outcome.against));
    put(
        map,
        "floor",
        outcome.floor.as_ref().map_or(Value::Null, floor),
    );
}

fn floor(floor: &Floor) -> Value {
    json!({
        "isolated": stats(&floor.isolated),
        "beyond_noise": floor.beyond_noise,
        "furthest_from_tie": number(floor.furthest_from_tie),
        "free": stats(&floor.free),
    })
}

fn findings(map: &mut Map<String, Value>, target: &TargetOutcome) {
    put(map, "layers", target.layers.iter().map(layer).collect());
    put(map, "outputs", target.outputs.iter().map(output).collect());
    put(
        map,
        "first_divergent",
        json!(view::first_divergent(target).map(|layer| &layer.name)),
    );
    let mismatch = |(tensor, why): &(String, String)| json!({ "tensor": tensor, "why": why });
    put(
        map,
        "mismatches",
        target.mismatches.iter().map(mismatch).collect(),
    );
    put(map, "drift", json!(target.drifted));
    put(map, "trace", json!(target.trace));
    if let Some(accuracy) = &target.accuracy {
        put(map, "accuracy", json!(accuracy));
    }
}

fn layer(layer: &LayerOutcome) -> Value {
    let mut mode = Map::new();
    if let Some(isolated) = &layer.isolated {
        put(&mut mode, "isolated", stats(isolated));
    }
    if let Some(cumulative) = &layer.cumulative {
        put(&mut mode, "cumulative", stats(cumulative));
    }
    json!({
        "name": layer.name,
        "op": layer.op,
        "tensor": layer.tensor,
        "verdict": layer.verdict,
        "mode": mode,
        "amplification": view::amplification(layer).map(number),
        "cause": layer.cause.as_ref().map(cause),
        "grade": layer.grade,
        "rules": layer.rules,
        "mismatches": layer.mismatches,
        "float": layer.float,
        "lsb": layer.lsb,
        "witness": layer.witness.as_ref().map(witness),
        "absent": layer.absent,
        "drift": layer.drift,
    })
}

fn stats(stats: &Stats) -> Value {
    json!({
        "elements": stats.elements,
        "differing": stats.differing,
        "max_lsb": number(stats.max_lsb),
        "noise": stats.noise,
        "rate": stats.rate(),
        "cosine": stats.cosine,
        "sqnr_db": stats.sqnr_db,
        "histogram": stats.histogram,
    })
}

fn cause(cause: &Cause) -> Value {
    json!({
        "name": cause.name,
        "text": cause.text,
        "explains": cause.explains,
        "of": cause.of,
        "tried": cause.tried,
        "differing": cause.differing,
        "decisions": cause.decisions,
        "sets": cause.sets.iter().filter(|set| set.labels.len() > 1).collect::<Vec<_>>(),
    })
}

fn witness(witness: &Witness) -> Value {
    let mut map = Map::new();
    put(&mut map, "sample", json!(witness.sample));
    put(&mut map, "index", json!(witness.index));
    if let Some(accumulator) = witness.accumulator {
        put(&mut map, "accumulator", number(accumulator));
    }
    if let Some(multiplier) = &witness.multiplier {
        put(&mut map, "multiplier", json!(multiplier));
    }
    if let Some(before) = witness.before_rounding {
        put(&mut map, "before_rounding", number(before));
    }
    put(&mut map, "expected", number(witness.expected));
    put(&mut map, "got", number(witness.got));
    Value::Object(map)
}

fn output(output: &OutputOutcome) -> Value {
    json!({
        "tensor": output.tensor,
        "stats": stats(&output.stats),
        "argmax_flips": output.argmax_flips,
        "samples": output.samples,
    })
}
