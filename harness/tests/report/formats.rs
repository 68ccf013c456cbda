//! The report as data and documents.

use align_check::report;
use serde_json::Value;

use crate::sample;

#[test]
fn every_format_as_it_is() {
    let version = format!("\"{}\"", env!("CARGO_PKG_VERSION"));
    let json = report::json(&sample::two()).replace(&version, "\"[version]\"");
    insta::assert_snapshot!("json_two", json);
    insta::assert_snapshot!("markdown", report::markdown(&sample::two()));
    insta::assert_snapshot!("csv", report::csv(&sample::two()));
    insta::assert_snapshot!("junit", report::junit(&sample::two()));
    let version = concat!("align-check ", env!("CARGO_PKG_VERSION"));
    let html = report::html(&sample::two()).replace(version, "align-check [version]");
    insta::assert_snapshot!("html", html);
}

fn keys(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect()
}

const LAYER: [&str; 15] = [
    "name",
    "op",
    "tensor",
    "verdict",
    "mode",
    "amplification",
    "cause",
    "grade",
    "rules",
    "mismatches",
    "float",
    "lsb",
    "witness",
    "absent",
    "drift",
];

const STATS: [&str; 8] = [
    "elements",
    "differing",
    "max_lsb",
    "noise",
    "rate",
    "cosine",
    "sqnr_db",
    "histogram",
];

#[test]
fn json_of_one_target_keeps_its_contract() {
    let text = report::json(&sample::one());
    assert!(text.ends_with("}\n"));
    let root: Value = serde_json::from_str(&text).expect("valid JSON");
    assert_eq!(
        keys(&root),
        [
            "schema",
            "tool",
            "model",
            "target",
            "verdict",
            "exit_code",
            "inputs",
            "generated",
            "against",
            "floor",
            "layers",
            "outputs",
            "first_divergent",
            "mismatches",
            "drift",
            "trace"
        ]
    );
    assert_eq!(root["schema"], "align-check/1");
    assert_eq!(keys(&root["tool"]), ["name", "version"]);
    assert_eq!(keys(&root["model"]), ["path", "sha256", "format", "notes"]);
    assert_eq!(
        keys(&root["target"]),
        ["name", "grade", "summary", "unknowns"]
    );
    assert_eq!(root["verdict"], "misaligned");
    assert_eq!(root["exit_code"], 1);
    assert_eq!(root["generated"], 7);
    assert_eq!(root["against"]["kind"], "reference");
    assert_eq!(root["first_divergent"], "conv1");
    let layers = root["layers"].as_array().expect("layers");
    assert_eq!(layers.len(), 20);
    for layer in layers {
        assert_eq!(keys(layer), LAYER);
        assert_eq!(keys(&layer["mode"]), ["isolated", "cumulative"]);
        assert_eq!(keys(&layer["mode"]["isolated"]), STATS);
        assert_eq!(keys(&layer["mode"]["cumulative"]), STATS);
    }
    let first = &layers[0];
    assert_eq!(
        keys(&first["cause"]),
        [
            "name",
            "text",
            "explains",
            "of",
            "tried",
            "differing",
            "decisions",
            "sets"
        ]
    );
    assert_eq!(first["amplification"], 3);
    assert_eq!(first["witness"]["before_rounding"], -37.5);
    assert_eq!(layers[1]["name"], sample::HOSTILE);
    assert_eq!(layers[3]["cause"], Value::Null);
    assert_eq!(root["outputs"][0]["argmax_flips"], 2);
    assert_eq!(root["mismatches"][0]["tensor"], "conv1_out");
}

#[test]
fn json_of_several_targets_repeats_each() {
    let root: Value = serde_json::from_str(&report::json(&sample::two())).expect("valid JSON");
    assert_eq!(root["verdict"], "misaligned");
    assert_eq!(root["exit_code"], 1);
    assert_eq!(root["floor"]["isolated"]["differing"], 8);
    assert_eq!(root["against"]["kind"], "recorded-reference");
    let targets = root["targets"].as_array().expect("targets");
    assert_eq!(targets.len(), 2);
    for target in targets {
        assert_eq!(
            keys(target),
            [
                "target",
                "verdict",
                "exit_code",
                "inputs",
                "layers",
                "outputs",
                "first_divergent",
                "mismatches",
                "drift",
                "trace"
            ]
        );
    }
    assert_eq!(targets[1]["verdict"], "aligned, tested");
    assert_eq!(targets[1]["first_divergent"], Value::Null);
}

#[test]
fn json_has_null_for_numbers_that_are_not_finite() {
    let root: Value = serde_json::from_str(&report::json(&sample::infinite())).expect("valid JSON");
    let isolated = &root["layers"][0]["mode"]["isolated"];
    for key in ["max_lsb", "cosine", "sqnr_db"] {
        assert_eq!(isolated[key], Value::Null, "{key}");
    }
    assert_eq!(
        root["layers"][0]["mode"]["cumulative"]["max_lsb"],
        Value::Null
    );
    assert_eq!(keys(&root["layers"][1]["mode"]), ["cumulative"]);
    assert_eq!(root["layers"][1]["amplification"], Value::Null);
}

#[test]
fn no_format_lets_a_name_out() {
    let outcome = sample::two();
    let documents = [
        report::html(&outcome),
        report::junit(&outcome),
        report::markdown(&outcome),
    ];
    for text in documents {
        assert!(!text.contains("<script>alert"), "{text}");
    }
    for text in [
        report::html(&outcome),
        report::junit(&outcome),
        report::csv(&outcome),
    ] {
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
        assert!(!text.contains('\u{202e}'));
    }
    for row in report::csv(&outcome).lines() {
        assert!(
            !row.split(',')
                .any(|cell| cell.trim_matches('"').starts_with('=')),
            "{row}"
        );
    }
}

#[test]
fn html_needs_nothing_else() {
    let text = report::html(&sample::two());
    for outside in ["http:", "https:", "src=\"", "url(", "@import", "<link"] {
        assert!(!text.contains(outside), "{outside}");
    }
}

#[test]
fn junit_counts_what_it_holds() {
    let text = report::junit(&sample::two());
    assert!(text.contains("<testsuites name=\"align-check\" tests=\"21\" failures=\"14\""));
    assert_eq!(text.matches("<testcase ").count(), 21);
    assert_eq!(text.matches("<failure ").count(), 14);
}
