//! The report as data and documents.

use align_check::outcome::{Drift, Drifted, Noise, Trace, Traced};
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
    // The page is too large to be read as text: `browser.rs` looks at it, and `html_says_what_was_found` here.
}

#[test]
fn html_says_what_was_found() {
    let html = report::html(&sample::two());
    for said in [
        "layers that differ: 14 of 20",
        "不一致的层：20 层中有 14 层",
        "<code>conv1</code>",
        "explains 39,000 of 40,009",
        "expected -38, got -37",
        "期望 -38，得到 -37",
        "the addition is a part of the convolution&#39;s kernel",
        "accumulator width and overflow of convolutions",
    ] {
        assert!(html.contains(said), "{said}");
    }
    // A box, two bars, a column of shares and a line of the list for each layer that differs.
    assert_eq!(html.matches("href=\"#t0-0\"").count(), 5);
    assert_eq!(html.matches("<details class=\"layer ").count(), 21);
    // What was not compared is in the picture too, and leads nowhere.
    assert!(html.contains("<g class=\"node skipped\">"));
}

#[test]
fn html_says_how_far_a_target_drifts_and_from_where() {
    let mut outcome = sample::two();
    let target = &mut outcome.targets[0];
    target.drifted = Some(Drifted {
        elements: 40_000,
        differing: 3_456,
        outputs: 17,
        baseline: Some(Noise {
            differing: 4_321,
            outputs: Some(19),
        }),
        within_baseline: Some(true),
    });
    let layer = target.layers[3].name.clone();
    target.layers[3].drift = Some(Drift {
        introduced: 7,
        propagated: 1_234,
        amplified: 5,
        inputs_max_lsb: 2.0,
    });
    target.trace = Some(Trace {
        sample: 2,
        tensor: "logits<b>".to_owned(),
        index: vec![0, 9],
        lsb: -37.0,
        introducing: 12,
        layers: vec![Traced {
            layer,
            differing: 7,
            lsb: -36.0,
            outputs: 11,
        }],
    });
    let html = report::html(&outcome);
    for said in [
        "3,456 of 40,000 codes differ when the target runs on its own results, 17 of them at the outputs",
        "40,000 个码中有 3,456 个不同",
        "in float32: 4,321, 19 of them",
        "the target has not drifted",
        "目标没有漂移",
        "<code>logits&lt;b&gt;[0, 9]</code> of sample 2, -37 LSB off",
        "introduced here: 7; propagated: 1,234",
        "amplified here: 5 (inputs up to 2 LSB off)",
        "<td class=\"num\">-36</td><td class=\"num\">11</td>",
    ] {
        assert!(html.contains(said), "{said}");
    }
    assert!(html.contains("href=\"#t0-drift\""));
    assert!(!report::html(&sample::two()).contains("t0-drift"));
}

#[test]
fn a_large_page_stays_small() {
    let html = report::html(&sample::large(500));
    assert!(html.len() < 4 << 20, "{} bytes", html.len());
    assert!(html.contains("最差的 48 层"));
}

/// The structure that SARIF 2.1.0 asks for (sections 3.13 to 3.58): required properties, enumerations, indices.
#[test]
fn sarif_keeps_the_standard() {
    let outcome = sample::two();
    let log: Value = serde_json::from_str(&report::sarif(&outcome)).expect("valid JSON");
    assert_eq!(log["version"], "2.1.0");
    assert!(
        log["$schema"]
            .as_str()
            .is_some_and(|s| s.starts_with("https://"))
    );
    let [run] = log["runs"].as_array().expect("runs").as_slice() else {
        panic!("one run");
    };
    let driver = &run["tool"]["driver"];
    assert_eq!(driver["name"], "align-check");
    let rules = driver["rules"].as_array().expect("rules");
    let ids: Vec<&str> = rules
        .iter()
        .map(|r| r["id"].as_str().expect("an id"))
        .collect();
    assert_eq!(ids, ["double-rounding", "rounding"]);
    for rule in rules {
        assert!(rule["shortDescription"]["text"].is_string());
    }
    let artifact = &run["artifacts"][0];
    assert_eq!(artifact["location"]["uri"], outcome.model.path);
    assert_eq!(artifact["hashes"]["sha-256"], outcome.model.sha256);
    let [invocation] = run["invocations"]
        .as_array()
        .expect("invocations")
        .as_slice()
    else {
        panic!("one invocation");
    };
    assert_eq!(invocation["executionSuccessful"], true);
    let results = run["results"].as_array().expect("results");
    let failing = |layer: &&align_check::outcome::LayerOutcome| layer.verdict.fails();
    let layers: Vec<_> = outcome.targets[0].layers.iter().filter(failing).collect();
    assert_eq!(results.len(), layers.len());
    let mut fingerprints = std::collections::BTreeSet::new();
    for (result, layer) in results.iter().zip(layers) {
        let index = result["ruleIndex"].as_u64().expect("an index");
        assert_eq!(
            result["ruleId"],
            ids[usize::try_from(index).expect("small")]
        );
        // 3.27.9: a result that has a level other than "none" is a failure.
        assert_eq!(
            (&result["kind"], &result["level"]),
            (&"fail".into(), &"error".into())
        );
        let text = result["message"]["text"].as_str().expect("a message");
        assert!(
            text.contains("elements differ") && text.contains("witness"),
            "{text}"
        );
        assert!(!text.chars().any(char::is_control));
        let location = &result["locations"][0];
        let artifact = &location["physicalLocation"]["artifactLocation"];
        assert_eq!(
            (&artifact["index"], &artifact["uri"]),
            (&0.into(), &outcome.model.path.as_str().into())
        );
        let logical = &location["logicalLocations"][0];
        assert!(
            logical["fullyQualifiedName"]
                .as_str()
                .is_some_and(|n| n.starts_with("nnie/"))
        );
        assert_eq!(result["properties"]["tensor"], layer.tensor);
        let fingerprint = result["partialFingerprints"]["targetAndLayer/v1"]
            .as_str()
            .expect("one");
        assert!(
            fingerprints.insert(fingerprint.to_owned()),
            "{fingerprint} twice"
        );
    }
    let clean: Value = serde_json::from_str(&report::sarif(&sample::least())).expect("valid JSON");
    // 3.14.23: an empty list says that nothing was found; an absent one that nobody looked.
    assert_eq!(clean["runs"][0]["results"], serde_json::json!([]));
}

#[test]
fn model_explorer_finds_layers_by_node_and_by_tensor() {
    let outcome = sample::two();
    let data: Value = serde_json::from_str(&report::model_explorer(&outcome)).expect("valid JSON");
    // Without a graph's identifier, the viewer takes the graph that is open.
    assert_eq!(keys(&data), ["name", "results"]);
    let results = data["results"].as_object().expect("results");
    for layer in outcome.targets.iter().flat_map(|target| &target.layers) {
        for key in [&layer.name, &layer.tensor] {
            let node = &results[key];
            assert_eq!(keys(node), ["value", "bgColor", "textColor"]);
            let value = node["value"].as_str().expect("words");
            assert!(value.starts_with(layer.verdict.text()), "{key}: {value}");
            let color = node["bgColor"].as_str().expect("a colour");
            assert!(color.len() == 7 && color.starts_with('#'), "{color}");
        }
    }
    assert_eq!(results.len(), 42);
    let colors = |name: &str| &results[name]["bgColor"];
    assert_ne!(colors("conv1"), colors("fc"));
    // Of several targets the worst counts.
    let mut both = sample::two();
    both.targets[1].layers[0].tensor = "conv1_out".to_owned();
    both.targets[1].layers[0].name = "conv1".to_owned();
    let data: Value = serde_json::from_str(&report::model_explorer(&both)).expect("valid JSON");
    let value = data["results"]["conv1"]["value"].as_str().expect("words");
    assert!(
        value.starts_with("misaligned") && value.ends_with("(nnie)"),
        "{value}"
    );
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

/// Rows of inputs come back as they were, with what is absent absent.
#[cfg(feature = "parquet")]
#[test]
fn parquet_has_a_row_for_each_input() {
    use align_check::outcome::InputOutcome;
    use parquet::file::reader::{FileReader as _, SerializedFileReader};

    let mut outcome = sample::one();
    outcome.names = vec!["a.png".to_owned(), "b\n.png".to_owned()];
    outcome.targets[0].inputs = vec![
        InputOutcome {
            differing: 7,
            worst_layer: Some(0),
            worst_lsb: 2.5,
            outputs_differing: 3,
            classes: Some([4, 9]),
            ranks: Some([0, 1]),
        },
        InputOutcome::default(),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("inputs.parquet");
    report::write(&format!("parquet={}", path.display()), &outcome).expect("written");
    let file = std::fs::File::open(&path).expect("a file");
    let reader = SerializedFileReader::new(file).expect("a parquet file");
    let rows = reader.get_row_iter(None).expect("rows");
    let rows: Vec<String> = rows.map(|row| row.expect("a row").to_string()).collect();
    let target = &outcome.targets[0].name;
    let layer = &outcome.network[0].name;
    assert_eq!(
        rows,
        [
            format!(
                "{{target: \"{target}\", sample: 0, input: \"a.png\", flips: true, reference_class: 4, target_class: 9, \
                 reference_rank: 0, target_rank: 1, differing: 7, outputs_differing: 3, worst_layer: \"{layer}\", \
                 worst_lsb: 2.5}}"
            ),
            format!(
                "{{target: \"{target}\", sample: 1, input: \"b\\n.png\", flips: false, reference_class: null, \
                 target_class: null, reference_rank: null, target_rank: null, differing: 0, outputs_differing: 0, \
                 worst_layer: null, worst_lsb: 0.0}}"
            ),
        ]
    );
}
