//! Biases with a scale of their own, and recordings that no rule explains.

use align_check_tests::{args, golden, list, report, run, text, whole};
use serde_json::Value;

fn recorded(model: &str, recording: &str) -> (Option<i32>, Value) {
    let (run, json, _) = report(args![
        golden("toolchains").join(model).join("model.onnx"),
        "--target",
        "qnnpack",
        "--input",
        golden("toolchains").join(model).join("inputs.npz"),
        "--recorded",
        golden("toolchains").join(recording).join("outputs.npz"),
    ]);
    (run.code, json)
}

/// The layers with a verdict, of one report.
fn with<'a>(json: &'a Value, verdict: &str) -> Vec<&'a Value> {
    let layers = list(&json["layers"]).iter();
    layers
        .filter(|layer| text(&layer["verdict"]) == verdict)
        .collect()
}

#[test]
fn permuted_codes_are_an_unknown_rule() {
    let (code, json) = recorded("pytorch-fx-qnnpack", "pytorch-fx-qnnpack-engine-relu6-bug");
    assert_eq!(code, Some(1));
    assert_eq!(text(&json["verdict"]), "unknown rule");
    let layers = with(&json, "unknown rule");
    assert_eq!(layers.len(), 1);
    let stats = &layers[0]["mode"]["isolated"];
    assert_eq!(whole(&stats["differing"]), 2815);
    assert_eq!(whole(&stats["elements"]), 4096);
    let why = text(&layers[0]["cause"]["text"]);
    for part in [
        "suspect a bug of a kernel or driver",
        "the same codes in another order: layout",
        "known bug of qnnpack: clamp and ReLU6",
    ] {
        assert!(why.contains(part), "{part}: {why}");
    }
    assert!(with(&json, "misaligned").is_empty());
}

#[test]
fn a_padded_average_is_a_known_bug() {
    let (code, json) = recorded("pytorch-fx-qnnpack-pool", "pytorch-fx-qnnpack-pool-engine");
    assert_eq!(code, Some(1));
    let layers = with(&json, "unknown rule");
    assert_eq!(layers.len(), 1);
    assert_eq!(whole(&layers[0]["mode"]["isolated"]["differing"]), 158);
    assert_eq!(whole(&layers[0]["mode"]["isolated"]["elements"]), 512);
    let why = text(&layers[0]["cause"]["text"]);
    assert!(why.contains("known bug of qnnpack: avg_pool2d"), "{why}");
    assert!(!why.contains("another order"), "{why}");
}

/// A wrong rule of an operator that has a known bug is a wrong rule: only what the bug makes stands for it.
#[test]
fn a_wrong_rule_of_the_same_operator_is_no_bug() {
    let folder = tempfile::tempdir().expect("a folder");
    let spec = folder.path().join("believed.toml");
    std::fs::write(
        &spec,
        "base = \"qnnpack\"\nname = \"believed\"\n\n[ops]\naverage = \"f32-mean-kernel\"\n",
    )
    .expect("a writable file");
    let case = golden("toolchains").join("pytorch-fx-qnnpack-pool");
    let (run, json, _) = report(args![
        case.join("model.onnx"),
        "--target",
        &spec,
        "--input",
        case.join("inputs.npz"),
        "--recorded",
        case.join("outputs.npz"),
    ]);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(with(&json, "unknown rule").is_empty(), "{json}");
    let wrong = with(&json, "misaligned");
    assert_eq!(wrong.len(), 1, "{json}");
    assert_eq!(text(&wrong[0]["cause"]["name"]), "average divisor");
}

/// The recordings of the bug hold the rule, too: pools whose pads count, or that have none, are reproduced.
#[test]
fn pools_without_the_bug_are_reproduced() {
    for (case, wrong) in [
        ("pool-nchw-qnnpack", 1702),
        ("pool-channels-last-qnnpack", 1668),
    ] {
        let (run, json, _) = report(args![
            "verify",
            golden("pytorch").join(case),
            "--target",
            "qnnpack",
        ]);
        assert_eq!(run.code, Some(1), "{case}");
        let found = &list(&json["cases"])[0];
        let pools = &found["ops"]["AveragePool"];
        assert_eq!(whole(&pools["elements"]), 9072, "{case}");
        assert_eq!(whole(&pools["differing"]), wrong, "{case}");
        for layer in list(&found["failed"]) {
            let tensor = text(&layer["tensor"]);
            let excluded = tensor.starts_with("avg_excluded") || tensor.starts_with("avg_stride");
            assert!(excluded, "{case}: {tensor}");
            assert_eq!(text(&layer["verdict"]), "unknown rule", "{case}: {tensor}");
        }
    }
}

#[test]
fn verify_prints_the_bug_of_a_recording() {
    let folder = golden("toolchains").join("pytorch-fx-qnnpack-engine-relu6-bug");
    let told = run(args!["verify", folder, "--target", "qnnpack"]);
    assert_eq!(told.code, Some(1), "{}", told.stderr);
    assert!(
        told.stdout
            .contains("shows a known bug: quantized clamp of a channels_last tensor"),
        "{}",
        told.stdout
    );
    assert!(told.stdout.contains("unknown rule"), "{}", told.stdout);
}

#[test]
fn a_target_lists_its_known_bugs() {
    let shown = run(args!["targets", "qnnpack"]).stdout;
    assert!(shown.contains("2 known bugs"), "{shown}");
    assert!(shown.contains("count_include_pad=False"), "{shown}");
}

/// ONNX Runtime 1.32.0 fuses no convolution whose bias has a scale of its own: it stays float.
#[test]
fn onnxruntime_leaves_other_biases_in_float() {
    let folder = golden("toolchains").join("brevitas-qcdq-pow2");
    let (_, json, _) = report(args![
        folder.join("model.onnx"),
        "--target",
        "onnxruntime",
        "--input",
        folder.join("inputs.npz"),
    ]);
    let mut convolutions = 0;
    for layer in list(&json["layers"]) {
        if text(&layer["op"]).starts_with("Conv") && layer["absent"].is_null() {
            convolutions += 1;
            assert_eq!(layer["float"], Value::Bool(true), "{layer}");
            assert_eq!(whole(&layer["mode"]["isolated"]["differing"]), 0, "{layer}");
        }
    }
    assert!(convolutions >= 7, "{convolutions}");
    // An int32 bias at sx * sw is fused.
    let folder = golden("toolchains").join("brevitas-qcdq-float");
    let (_, json, _) = report(args![
        folder.join("model.onnx"),
        "--target",
        "onnxruntime",
        "--input",
        folder.join("inputs.npz"),
    ]);
    let layers = list(&json["layers"]).iter();
    let quantized =
        layers.filter(|layer| text(&layer["op"]).starts_with("Conv") && !layer["lsb"].is_null());
    for layer in quantized {
        assert_eq!(layer["float"], Value::Bool(false), "{layer}");
    }
}

/// Targets without such a rule quantize the bias anew, with its own scale, and say so.
#[test]
fn requantized_biases_are_said() {
    let folder = golden("toolchains").join("brevitas-qcdq-pow2");
    for target in ["qnnpack", "onnx-reference", "tflite-reference"] {
        let (_, json, _) = report(args![
            folder.join("model.onnx"),
            "--target",
            target,
            "--input",
            folder.join("inputs.npz"),
        ]);
        let layers = list(&json["layers"]).iter();
        let said: Vec<&Value> = layers
            .filter(|layer| {
                let mut why = list(&layer["mismatches"]).iter().map(text);
                why.any(|why| why.contains("bias scale") && why.contains("bias requantized"))
            })
            .collect();
        assert!(said.len() >= 7, "{target}: {}", said.len());
        for layer in said {
            // The bias means what the file says: nothing is off by more than a rounding.
            let most = layer["mode"]["isolated"]["max_lsb"].as_f64();
            assert!(most.is_some_and(|most| most <= 1.0), "{target}: {layer}");
        }
        // A bias is no grid: it has words of its own.
        let model = folder.join("model.onnx");
        let told = run(args![&model, "-t", target, "--samples", "1"]);
        let (before, after) = told
            .stdout
            .split_once("The model's bias steps are not the chip's")
            .unwrap_or_else(|| panic!("{target}: {}", told.stdout));
        assert!(!before.contains("bias requantized"), "{target}: {before}");
        assert!(after.contains("bias requantized"), "{target}: {after}");
        assert!(!after.contains("FIRST"), "{target}: {after}");
    }
}

/// `LiteRT` adds the stored integers as they are: that, with its multiplier, parts the second use of a shared head from
/// the fake-quant.
#[test]
fn a_shared_bias_of_an_integer_file_is_the_cause() {
    let folder = golden("toolchains").join("tflite-int16x8");
    let (_, json, _) = report(args![
        folder.join("model.tflite"),
        "--target",
        "tflite-int16x8",
        "--input",
        folder.join("inputs.npz"),
    ]);
    let layers = list(&json["layers"]).iter();
    let head: Vec<&Value> = layers
        .filter(|layer| layer["cause"]["name"] == "bias scale and multiplier")
        .collect();
    let [head] = head[..] else {
        panic!("one layer has such a bias: {}", head.len());
    };
    let why = text(&head["cause"]["text"]);
    assert!(
        why.contains("bias scale is not sx*sw, ratio 0.7811"),
        "{why}"
    );
    assert!(
        why.starts_with("bias scale and multiplier together explain 1190 of 1190 (alone 1112 and "),
        "{why}"
    );
    assert_eq!(whole(&head["cause"]["explains"]), 1190);
    assert_eq!(whole(&head["cause"]["of"]), 1190);
}
