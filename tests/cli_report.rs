//! The report for machines is a contract: every key, its type, and what the options change in it.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use align_check_graph::onnx::proto::NodeProto;
use align_check_tests::onnx::{Onnx, Quant};
use align_check_tests::{Npz, args, golden, list, report, run, sha256, text, whole};
use prost::Message;
use serde_json::Value;

fn demo(more: Vec<OsString>) -> (Option<i32>, Value) {
    let mut given = args![
        golden("demo/model.qonnx.onnx"),
        "--input",
        golden("demo/inputs.npz"),
    ];
    given.extend(more);
    let (run, json, _) = report(given);
    assert_eq!(run.stderr, "");
    (run.code, json)
}

/// The keys of an object, in the file's order.
fn keys(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .unwrap_or_else(|| panic!("{value} is no object"))
        .keys()
        .map(String::as_str)
        .collect()
}

fn check_stats(stats: &Value) {
    assert_eq!(
        keys(stats),
        [
            "elements",
            "differing",
            "max_lsb",
            "noise",
            "rate",
            "cosine",
            "sqnr_db",
            "histogram"
        ]
    );
    let [elements, differing, noise] = ["elements", "differing", "noise"].map(|k| whole(&stats[k]));
    assert!(
        noise <= differing && differing <= elements && elements > 0,
        "{stats}"
    );
    let rate = stats["rate"].as_f64().expect("a number");
    assert!((rate - differing as f64 / elements as f64).abs() < 1e-12);
    let counted: u64 = list(&stats["histogram"])
        .iter()
        .map(|bin| whole(&bin[1]))
        .sum();
    assert_eq!(counted, differing, "{stats}");
    assert_eq!(stats["sqnr_db"].is_null(), differing == 0, "{stats}");
    assert!(
        stats["max_lsb"]
            .as_f64()
            .is_some_and(|m| (m > 0.0) == (differing > 0))
    );
    assert!(
        stats["cosine"]
            .as_f64()
            .is_some_and(|c| (-1.0..=1.0).contains(&c))
    );
}

fn check_layer(layer: &Value) {
    assert_eq!(
        keys(layer),
        [
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
            "drift"
        ]
    );
    for key in ["name", "op", "tensor", "verdict", "grade"] {
        assert!(!text(&layer[key]).is_empty(), "{key}");
    }
    assert_eq!(keys(&layer["mode"]), ["isolated", "cumulative"]);
    let isolated = &layer["mode"]["isolated"];
    check_stats(isolated);
    check_stats(&layer["mode"]["cumulative"]);
    let differs = whole(&isolated["differing"]) > 0;
    assert_eq!(layer["witness"].is_null(), !differs, "{layer}");
    if !layer["cause"].is_null() {
        assert_eq!(
            keys(&layer["cause"]),
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
        let [explains, of] = ["explains", "of"].map(|k| whole(&layer["cause"][k]));
        assert!(explains <= of);
        let differing = whole(&layer["cause"]["differing"]);
        assert!(of <= differing);
        assert_eq!(
            differing,
            whole(&isolated["differing"]) - whole(&isolated["noise"])
        );
        assert_eq!(list(&layer["cause"]["decisions"]).is_empty(), explains == 0);
    }
    if differs {
        let witness = &layer["witness"];
        for key in ["sample", "index", "expected", "got"] {
            assert!(!witness[key].is_null(), "{witness}");
        }
    }
    assert!(["recorded", "source", "documented", "hypothesis"].contains(&text(&layer["grade"])));
}

fn check_head(json: &Value, name: &str) {
    assert_eq!(keys(json)[..3], ["schema", "tool", "model"]);
    assert_eq!(json["schema"], "align-check/1");
    assert_eq!(json["tool"]["version"], env!("CARGO_PKG_VERSION"));
    let path = golden("demo/model.qonnx.onnx");
    assert_eq!(Path::new(text(&json["model"]["path"])), path);
    assert_eq!(text(&json["model"]["sha256"]), sha256(&path));
    assert_eq!(json["model"]["format"], "qonnx");
    assert_eq!(json["inputs"], 16);
    assert!(json["generated"].is_null());
    assert_eq!(json["against"]["kind"], "reference");
    if !name.is_empty() {
        assert_eq!(json["target"]["name"], name);
    }
}

#[test]
fn one_target_stands_at_the_top() {
    let (code, json) = demo(args!["-t", "tflite"]);
    check_head(&json, "tflite-reference");
    assert_eq!(
        keys(&json),
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
    assert_eq!(
        keys(&json["target"]),
        ["name", "grade", "summary", "unknowns"]
    );
    assert_eq!((json["exit_code"].as_i64(), code), (Some(1), Some(1)));
    assert_eq!(json["verdict"], "misaligned");
    let layers = list(&json["layers"]);
    assert_eq!(layers.len(), 10);
    layers.iter().for_each(check_layer);
    assert_eq!(json["first_divergent"], "/stem/Conv");
    let [output] = list(&json["outputs"]) else {
        panic!("one output");
    };
    assert_eq!(keys(output), ["tensor", "stats", "argmax_flips", "samples"]);
    check_stats(&output["stats"]);
}

#[test]
fn several_targets_stand_in_a_list() {
    let (code, json) = demo(args!["-t", "exact,nnie,tflite", "-t", "exact"]);
    check_head(&json, "");
    assert_eq!((json["exit_code"].as_i64(), code), (Some(1), Some(1)));
    assert_eq!(json["verdict"], "misaligned");
    let targets = list(&json["targets"]);
    let found: Vec<&str> = targets.iter().map(|t| text(&t["target"]["name"])).collect();
    assert_eq!(found, ["exact", "nnie", "tflite-reference"]);
    for (target, code) in targets.iter().zip([0, 1, 1]) {
        assert_eq!(target["exit_code"], code);
        list(&target["layers"]).iter().for_each(check_layer);
    }
}

#[test]
fn a_recording_takes_the_place_of_the_reference() {
    let codes = golden("demo/fake_quant_codes.npz");
    let (code, json) = demo(args!["-t", "onnxruntime", "--recorded", &codes]);
    assert_eq!(code, Some(0));
    assert_eq!(json["against"]["kind"], "recording");
    assert_eq!(Path::new(text(&json["against"]["file"])), codes);
    assert_eq!(list(&json["against"]["missing"]).len(), 0);
    assert_eq!(list(&json["layers"]).len(), 10);

    let (code, json) = demo(args!["-t", "tflite", "--recorded", &codes]);
    assert_eq!(code, Some(1));
    assert_eq!(json["first_divergent"], "/stem/Conv");
    // What the recording lacks is said, and only what it has is compared.
    let logits = golden("demo/fake_quant_logits.npz");
    let (code, json) = demo(args!["-t", "onnxruntime", "--recorded", &logits]);
    assert_eq!(code, Some(0));
    assert_eq!(list(&json["against"]["missing"]).len(), 9);
    let [layer] = list(&json["layers"]) else {
        panic!("one layer: {}", json["layers"]);
    };
    assert_eq!(layer["tensor"], "logits");
    let shown = run(args![
        golden("demo/model.qonnx.onnx"),
        "--input",
        golden("demo/inputs.npz"),
        "-t",
        "onnxruntime",
        "--recorded",
        &logits
    ]);
    assert!(
        shown.stdout.contains("/stem_relu/act_quant"),
        "missing tensors are not named: {}",
        shown.stdout
    );
}

#[test]
fn a_tolerance_must_be_asked_for() {
    let (code, json) = demo(args!["-t", "tflite", "--max-lsb", "1"]);
    assert_eq!(
        (code, &json["verdict"]),
        (Some(0), &"within tolerance".into())
    );
    let (code, _) = demo(args!["-t", "tflite", "--max-lsb", "0.5"]);
    assert_eq!(code, Some(1));
    let (code, _) = demo(args!["-t", "tflite", "--max-rate", "0.5"]);
    assert_eq!(code, Some(0));
    // Both are asked for, and both must hold.
    let (code, _) = demo(args![
        "-t",
        "tflite",
        "--max-lsb",
        "1",
        "--max-rate",
        "0.0001"
    ]);
    assert_eq!(code, Some(1));
}

#[test]
fn layers_are_chosen_by_pattern() {
    let names = |json: &Value| -> Vec<String> {
        list(&json["layers"])
            .iter()
            .map(|layer| text(&layer["name"]).to_owned())
            .collect()
    };
    let (_, json) = demo(args!["-t", "tflite", "--layers", "/res*/Conv"]);
    assert_eq!(names(&json), ["/res1/Conv", "/res2/Conv"]);
    let (_, json) = demo(args![
        "-t", "tflite", "--layers", "/res*", "--except", "*2/Conv"
    ]);
    assert_eq!(names(&json), ["/res1/Conv"]);
    let (_, json) = demo(args![
        "-t", "tflite", "--except", "*Conv", "--except", "/mean*"
    ]);
    assert_eq!(json["exit_code"], 0);
    assert!(names(&json).iter().all(|name| !name.contains("Conv")));
}

/// Comparing nothing is no verdict.
#[test]
fn a_pattern_that_matches_nothing_is_an_error() {
    let model = golden("demo/model.qonnx.onnx");
    let run = run(args![model, "-t", "tflite", "--layers", "/conv1/*"]);
    assert_eq!(run.code, Some(2));
    assert!(run.stderr.contains("no layer to compare"), "{}", run.stderr);
}

#[test]
fn each_mode_runs_alone() {
    for mode in ["isolated", "cumulative"] {
        let (code, json) = demo(args!["-t", "tflite", "--mode", mode]);
        assert_eq!(code, Some(1));
        for layer in list(&json["layers"]) {
            assert_eq!(keys(&layer["mode"]), [mode]);
        }
        let outputs = list(&json["outputs"]).len();
        assert_eq!(outputs, usize::from(mode == "cumulative"));
    }
    let (_, both) = demo(args!["-t", "tflite"]);
    let (_, alone) = demo(args!["-t", "tflite", "--mode", "cumulative"]);
    for (a, b) in list(&both["layers"]).iter().zip(list(&alone["layers"])) {
        let [a, b] = [a, b].map(|layer| &layer["mode"]["cumulative"]["differing"]);
        assert_eq!(a, b);
    }
}

#[test]
fn generated_inputs_say_their_seed() {
    let model = golden("demo/model.qonnx.onnx");
    let with = |seed: &str| {
        let (_, json, text) = report(args![
            &model,
            "-t",
            "tflite",
            "--samples",
            "3",
            "--seed",
            seed
        ]);
        assert_eq!(json["inputs"], 3);
        assert_eq!(json["generated"].to_string(), seed);
        text
    };
    assert_eq!(with("5"), with("5"));
    assert_ne!(with("5"), with("6"));
}

#[test]
fn every_kind_of_report_is_written_whole() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut given = args![golden("demo/model.qonnx.onnx"), "-t", "tflite,exact", "-q"];
    let kinds = [
        ("json", "}\n"),
        ("html", "</html>\n"),
        ("junit", "</testsuites>\n"),
        ("md", "\n"),
        ("csv", "\n"),
        ("sarif", "}\n"),
        ("model-explorer", "}\n"),
    ];
    for (kind, _) in kinds {
        let path = folder.path().join(kind);
        given.extend(args!["--report", format!("{kind}={}", path.display())]);
    }
    assert_eq!(run(given).code, Some(1));
    for (kind, end) in kinds {
        let written = fs::read_to_string(folder.path().join(kind)).expect("a report");
        assert!(written.ends_with(end), "{kind}: {written}");
        assert!(written.contains("/stem/Conv"), "{kind}");
    }
    assert_eq!(
        fs::read_dir(folder.path()).expect("the folder").count(),
        kinds.len()
    );
}

/// Results point to the bytes of their nodes, and results without a node to the whole file.
#[test]
fn sarif_points_to_nodes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("out.sarif");
    let log = |model: &Path, target: &str| -> Value {
        let report = format!("sarif={}", path.display());
        let run = run(args![model, "-t", target, "-q", "--report", report]);
        assert_eq!(run.code, Some(1), "{}", run.stderr);
        serde_json::from_str(&fs::read_to_string(&path).expect("a report")).expect("JSON")
    };
    let model = golden("demo/model.qonnx.onnx");
    let bytes = fs::read(&model).expect("the demo");
    let found = log(&model, "nnie");
    let results = list(&found["runs"][0]["results"]);
    assert!(!results.is_empty());
    for result in results {
        let place = &result["locations"][0];
        let layer = &place["logicalLocations"][0];
        assert_eq!(layer["kind"], "layer");
        let region = &place["physicalLocation"]["region"];
        let [at, size] = ["byteOffset", "byteLength"].map(|key| whole(&region[key]) as usize);
        let node = NodeProto::decode(&bytes[at..at + size]).expect("a node");
        assert_eq!(node.name.as_deref(), layer["name"].as_str());
        assert!(!node.output.is_empty());
    }

    // No place of a node is known in a text.
    let model = golden("toolchains/nncf-mixed/model.xml");
    let found = log(&model, "nnie");
    let results = list(&found["runs"][0]["results"]);
    assert!(!results.is_empty());
    for result in results {
        let place = &result["locations"][0];
        assert!(place["physicalLocation"].get("region").is_none(), "{place}");
        assert!(!text(&place["logicalLocations"][0]["name"]).is_empty());
    }
}

#[test]
fn one_target_that_refuses_does_not_stop_the_others() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = folder.path().join("wide.onnx");
    Onnx::new()
        .input("x", &[1, 4])
        .quant("x", "y", &Quant::uniform(0.5, 0, 16, true))
        .output("y", &[1, 4])
        .write(&model);
    let inputs = folder.path().join("x.npz");
    Npz::new(&inputs)
        .add("x", &[1, 4], &[0.0f32, 0.25, 0.75, 1e9])
        .finish();
    let (run, json, _) = report(args![&model, "-t", "exact,tflite", "-i", inputs]);
    assert_eq!(run.code, Some(3));
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    assert!(run.stderr.contains("unsupported: "), "{}", run.stderr);
    assert_eq!(json["target"]["name"], "exact");
    assert_eq!(json["exit_code"], 3);
    let [refused] = list(&json["unsupported"]) else {
        panic!("one refusal: {}", json["unsupported"]);
    };
    assert_eq!(refused["target"], "tflite-reference");
    assert!(text(&refused["why"]).contains("node_y"), "{refused}");
}

/// One quantizer of so many bits, against recorded codes; returns the layer's statistics.
fn against_codes(bits: u32, given: &[f32; 4], recorded: &[i32; 4]) -> Value {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [model, file] = ["model.onnx", "recorded.npz"].map(|name| folder.path().join(name));
    Onnx::new()
        .input("x", &[1, 4])
        .quant("x", "y", &Quant::uniform(1.0, 0, bits, true))
        .output("y", &[1, 4])
        .write(&model);
    Npz::new(&file)
        .add("x", &[1, 4], given)
        .add("y", &[1, 4], recorded)
        .finish();
    let (_, json, _) = report(args![model, "-t", "exact", "--recorded", file]);
    json["layers"][0]["mode"]["isolated"].clone()
}

/// Squares of codes of 32 bits do not fit 64 bits four times.
#[test]
fn the_cosine_of_wide_codes_is_right() {
    let large = 2_147_483_520;
    let stats = against_codes(32, &[large as f32; 4], &[large, large, large, large - 1]);
    assert_eq!(whole(&stats["differing"]), 1);
    let cosine = stats["cosine"].as_f64().expect("a number");
    assert!(cosine > 0.999, "{cosine}");
}

/// Recorded codes need not lie in the quantizer's range.
#[test]
fn recorded_codes_beyond_the_grid_are_counted() {
    let stats = against_codes(8, &[1.0, 2.0, 3.0, 4.0], &[100_000, 2, 3, 100_000]);
    assert_eq!(whole(&stats["differing"]), 2);
    assert_eq!(whole(&stats["max_lsb"]), 99_999);
    let cosine = stats["cosine"].as_f64().expect("a number");
    // (1e5 + 4 + 9 + 4e5) / (|(1e5, 2, 3, 1e5)| * |(1, 2, 3, 4)|)
    let wanted = 500_013.0 / (20_000_000_013.0_f64.sqrt() * 30.0_f64.sqrt());
    assert!((cosine - wanted).abs() < 1e-9, "{cosine}");
}
