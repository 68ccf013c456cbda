//! The demo network of `golden/demo`: the exact reference reproduces both recordings, every target runs.

use align_check_tests::{args, golden, list, report, say, text, verified, whole};
use serde_json::Value;

/// Runs a target on the recorded images, with a recorded fake-quant run where one is named.
fn check(target: &str, reference: Option<&str>) -> (Option<i32>, Value) {
    verified(&golden("demo")).unwrap_or_else(|why| panic!("{why}"));
    let mut given = args![
        golden("demo/model.qonnx.onnx"),
        "--target",
        target,
        "--input",
        golden("demo/inputs.npz"),
    ];
    if let Some(file) = reference {
        given.extend(args!["--reference", golden("demo").join(file)]);
    }
    let (run, json, _) = report(given);
    (run.code, json)
}

#[test]
fn the_exact_reference_reproduces_every_code() {
    let (code, json) = check("exact", Some("fake_quant_codes.npz"));
    assert_eq!(code, Some(0));
    assert_eq!(json["inputs"], 16);
    let missing = list(&json["against"]["missing"]);
    assert!(missing.is_empty(), "{missing:?}");
    for way in ["isolated", "free"] {
        let stats = &json["floor"][way];
        // 64 + 5 * 1024 + 256 + 512 + 32 + 10 codes an image.
        assert_eq!(whole(&stats["elements"]), 95_904, "{way}");
        assert_eq!(whole(&stats["differing"]), 0, "{way}");
    }
    assert_eq!(whole(&json["floor"]["beyond_noise"]), 0);
    assert_eq!(json["verdict"], "aligned, tested");
}

#[test]
fn the_exact_reference_reproduces_the_logits_of_brevitas() {
    let (code, json) = check("exact", Some("fake_quant_logits.npz"));
    assert_eq!(code, Some(0));
    let stats = &json["floor"]["free"];
    assert_eq!(whole(&stats["elements"]), 160);
    assert_eq!(whole(&stats["differing"]), 0);
    // Every other layer has no recording, and that is said.
    assert_eq!(list(&json["against"]["missing"]).len(), 9);
}

#[test]
fn every_embedded_target_runs() {
    let (code, json) = check("all", None);
    let targets = list(&json["targets"]);
    let name = |target: &serde_json::Value| text(&target["target"]["name"]).to_owned();
    let ran: Vec<String> = targets.iter().map(name).collect();
    // Thresholds of sums with a scale for each channel are not known.
    let refused: Vec<&str> = list(&json["unsupported"])
        .iter()
        .map(|one| text(&one["target"]))
        .collect();
    assert_eq!(refused, ["finn"]);
    let wanted: Vec<&str> = align_check_specs::names()
        .iter()
        .copied()
        .filter(|name| !refused.contains(name))
        .collect();
    assert_eq!(ran, wanted);
    assert_eq!(code, Some(3));
    for target in targets {
        let name = text(&target["target"]["name"]);
        assert_eq!(list(&target["layers"]).len(), 10, "{name}");
        say(format_args!("demo on {name}: {}", text(&target["verdict"])));
    }
    let exit_code = |wanted: &str| {
        let found = targets.iter().find(|t| name(t) == wanted);
        found.expect("an embedded target")["exit_code"].clone()
    };
    for (target, code) in [
        ("exact", 0),
        ("nnie", 1),
        ("nnie-mqbench", 1),
        ("tensorrt", 1),
        ("hexagon-nn", 1),
        ("vitis-dpu", 1),
        ("onnxruntime", 0),
        ("tflite-reference", 1),
    ] {
        assert_eq!(exit_code(target), code, "{target}");
    }
}

#[test]
fn nnie_is_misaligned_and_says_the_grid_first() {
    let (code, json) = check("nnie", None);
    assert_eq!(code, Some(1));
    assert_eq!(json["verdict"], "misaligned");
    assert!(!list(&json["mismatches"]).is_empty());
    for layer in list(&json["layers"]) {
        assert_eq!(layer["cause"]["name"], "quantizer", "{}", layer["name"]);
    }
    let run = align_check_tests::run(args![
        golden("demo/model.qonnx.onnx"),
        "--target",
        "nnie",
        "--input",
        golden("demo/inputs.npz"),
    ]);
    let at = |what: &str| {
        run.stdout
            .find(what)
            .unwrap_or_else(|| panic!("{what}: {}", run.stdout))
    };
    assert!(at("FIRST: the model's grid") < at("\nlayer "));
}

#[test]
fn a_difference_has_a_cause_that_explains_it_and_a_witness() {
    let (_, json) = check("tflite-reference", None);
    let mut differing = 0;
    for layer in list(&json["layers"]) {
        let stats = &layer["mode"]["isolated"];
        if whole(&stats["differing"]) == 0 {
            assert!(layer["cause"].is_null() && layer["witness"].is_null());
            continue;
        }
        differing += 1;
        assert_eq!(whole(&stats["max_lsb"]), 1, "{}", layer["name"]);
        let (cause, witness) = (&layer["cause"], &layer["witness"]);
        let name = if layer["op"] == "AveragePool" {
            "average rounding"
        } else {
            "double rounding"
        };
        assert_eq!(cause["name"], name, "{}", layer["name"]);
        assert_eq!(whole(&cause["explains"]), whole(&cause["of"]));
        let [expected, got] = ["expected", "got"].map(|key| witness[key].as_i64());
        assert_eq!(expected.expect("a code").abs_diff(got.expect("a code")), 1);
    }
    assert_eq!(differing, 6);
}
