//! OpenVINO IRs through the tool: the quantizer of the format on the reference and on targets.

#[path = "../graph/tests/openvino_writer/mod.rs"]
mod openvino_writer;

use std::fs;
use std::path::PathBuf;

use align_check_tests::{args, run};
use openvino_writer::{Ir, Out};
use tempfile::TempDir;

/// One convolution, 1 x 1 with weights of both signs, between two quantizers; the second one's limits are given: of
/// its input, of its output.
fn model(folder: &TempDir, levels: u32, limits: [[f32; 2]; 2]) -> PathBuf {
    let image = [1, 2, 8, 8];
    let mut ir = Ir::new();
    let x = ir.parameter("x", &image);
    let x = ir.fake_quantize(x, "x/fq", 256, [0.0, 25.5], &image);
    let w = ir.i8s("w", &[2, 2, 1, 1], &[100, -50, 25, 120]);
    let to = "destination_type=\"f32\"";
    let w = ir.layer("Convert", "w/f32", to, &[w], &[2, 2, 1, 1]);
    let s = ir.f32s("s", &[], &[0.01]);
    let w = ir.layer("Multiply", "w/scaled", "", &[w, s], &[2, 2, 1, 1]);
    let window = "strides=\"1,1\" dilations=\"1,1\" pads_begin=\"0,0\" pads_end=\"0,0\"";
    let conv = ir.layer("Convolution", "conv", window, &[x, w], &image);
    let ends = limits.as_flattened().iter().enumerate();
    let ends: Vec<Out> = ends
        .map(|(i, &v)| ir.f32s(&format!("limit{i}"), &[], &[v]))
        .collect();
    let levels = format!("levels=\"{levels}\"");
    let inputs = [&[conv], &ends[..]].concat();
    let y = ir.layer("FakeQuantize", "y", &levels, &inputs, &image);
    ir.result(y, "");
    let path = folder.path().join("model.xml");
    fs::write(&path, ir.xml()).expect("a writable folder");
    fs::write(folder.path().join("model.bin"), &ir.bin).expect("a writable folder");
    path
}

#[test]
fn a_quantizer_given_by_limits_is_the_targets_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = model(&folder, 256, [[-30.0, 29.765_625]; 2]);
    let report = folder.path().join("report.json");
    let found = run(args![
        &path,
        "--target",
        "exact,openvino-cpu",
        "--report",
        format!("json={}", report.display()),
    ]);
    assert!(matches!(found.code, Some(0 | 1)), "{}", found.stderr);
    let text = fs::read_to_string(&report).expect("a report");
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(json["model"]["format"], "openvino", "{}", json["model"]);
    let targets = json["targets"].as_array().expect("targets");
    assert_eq!(targets.len(), 2);
    for target in targets {
        let layers = target["layers"].as_array().expect("layers");
        assert_eq!(layers.len(), 2, "{layers:#?}");
        // The model's own codes are kept: no grid is made anew.
        let mismatches = target["mismatches"].as_array().expect("mismatches");
        assert!(mismatches.is_empty(), "{mismatches:?}");
    }
}

#[test]
fn limits_that_integers_cannot_hold_are_refused() {
    for (levels, limits, why) in [
        (
            256,
            [[-1.0, 1.0]; 2],
            "between two codes (zero point 127.5)",
        ),
        (
            256,
            [[-30.0, 29.765_625], [-3.0, 2.976_562_5]],
            "output limits are not those of its input",
        ),
        (65_537, [[0.0, 65.536]; 2], "17-bit activations"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = model(&folder, levels, limits);
        let found = run(args![&path, "--target", "openvino-cpu"]);
        assert_eq!(found.code, Some(3), "{}", found.stderr);
        assert!(found.stderr.contains(why), "{}", found.stderr);
        // The reference evaluates them all the same.
        let exact = run(args![&path, "--target", "exact"]);
        assert_eq!(exact.code, Some(0), "{}{}", exact.stdout, exact.stderr);
    }
}

#[test]
fn a_missing_bin_file_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = model(&folder, 256, [[0.0, 25.5]; 2]);
    fs::remove_file(folder.path().join("model.bin")).expect("it is there");
    let found = run(args![&path, "--target", "exact"]);
    assert_eq!(found.code, Some(2));
    assert!(found.stderr.contains("model.bin"), "{}", found.stderr);
    assert_eq!(found.stderr.lines().count(), 1, "{}", found.stderr);
}
