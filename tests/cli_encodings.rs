//! Files that give a float model its quantizers, on the command line and in recordings.

use std::fs;
use std::path::{Path, PathBuf};

use align_check_tests::{Npz, Run, args, golden, run, sha256};
use tempfile::TempDir;

/// The float network of all toolchain exports.
fn model() -> PathBuf {
    golden("toolchains/float/model.onnx")
}

fn inputs() -> PathBuf {
    golden("toolchains/float/inputs.npz")
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn file(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, text).expect("a writable folder");
    path
}

/// Checks the network with a file of this text.
fn check(text: &str, target: &str) -> Run {
    let folder = folder();
    let path = file(&folder, "side.file", text);
    run(args![
        model(),
        "-t",
        target,
        "--encodings",
        path,
        "--input",
        inputs()
    ])
}

/// It must fail with one line that says each of `words`.
fn fails(run: &Run, code: i32, words: &[&str]) {
    assert_eq!(run.code, Some(code), "{}", run.stderr);
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    assert_eq!(run.stdout, "");
    for word in words {
        assert!(
            run.stderr.contains(word),
            "'{word}' is not in: {}",
            run.stderr
        );
    }
}

const RANGES: &str = "image:7.9375\n/stem/act/Relu_output_0:4\n/add_relu/Relu_output_0:9\n";

#[test]
fn a_model_in_which_nothing_is_quantized_is_said_to_be_one() {
    let run = run(args![model(), "-t", "exact,tensorrt"]);
    fails(
        &run,
        2,
        &["model.onnx: nothing is quantized", "--encodings FILE"],
    );
}

#[test]
fn ranges_quantize_a_float_model_and_coverage_is_said() {
    let run = check(RANGES, "exact");
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert_eq!(run.stderr, "");
    let text = run.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for word in [
        "TensorRT ranges file: 3 of 29 activations have ranges; the rest stays float; 3 weights and biases are quantized",
        "max|w| / 127 of each output channel",
        "/stem/conv/Conv",
    ] {
        assert!(text.contains(word), "'{word}' is not in: {text}");
    }
    // The target then computes with integers, and differs from exact sums where its spec says so.
    let run = check(RANGES, "vitis-dpu");
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(run.stdout.contains("no power of two"), "{}", run.stdout);
}

#[test]
fn files_that_do_not_fit_are_errors_and_partial_ones_warn() {
    fails(
        &check("a:1\nb:2\n", "exact"),
        2,
        &["side.file: none of its 2 tensors", "model.onnx", "'a', 'b'"],
    );
    fails(
        &check("image:1\nb:2\nc:3\n", "exact"),
        2,
        &["2 of its 3 tensors", "another model"],
    );
    fails(
        &check("image:1\nwhat is this\n", "exact"),
        2,
        &["side.file: 1 lines", "(2)"],
    );
    fails(&check("{", "exact"), 2, &["side.file: JSON"]);
    let partial = check(&format!("{RANGES}gone:1\n"), "exact");
    assert_eq!(partial.code, Some(0), "{}", partial.stderr);
    assert_eq!(partial.stderr.lines().count(), 1, "{}", partial.stderr);
    for word in ["warning: ", "1 of 4 tensors", "'gone'"] {
        assert!(partial.stderr.contains(word), "{}", partial.stderr);
    }
}

#[test]
fn a_file_for_another_backend_names_both() {
    let nnie = r#"{"nnie": {"gfpq_param_dict": {"/stem/conv/Conv": [1.0]}}}"#;
    fails(
        &check(nnie, "tensorrt"),
        2,
        &["MQBench NNIE", "for nnie and nnie-mqbench", "'tensorrt'"],
    );
    assert_eq!(check(nnie, "exact").code, Some(0));
    let stpu = r#"{"image": {"min": -1, "max": 1}}"#;
    fails(
        &check(stpu, "vitis-dpu"),
        2,
        &["MQBench STPU", "for stpu", "'vitis-dpu'"],
    );
}

#[test]
fn a_quantized_model_takes_no_second_quantizers() {
    let folder = folder();
    let path = file(&folder, "side.file", "image:1\n");
    let run = run(args![
        golden("demo/model.qonnx.onnx"),
        "-t",
        "exact",
        "--encodings",
        path
    ]);
    fails(&run, 2, &["side.file", "already", "not guessed"]);
}

#[test]
fn blocks_of_scales_are_unsupported_by_name() {
    let text = r#"{"param_encodings": [{"name": "head.weight", "dtype": "INT", "bw": 8, "is_sym": true,
        "enc_type": "LPBQ", "scale": [1], "offset": [-128]}]}"#;
    fails(
        &check(text, "exact"),
        3,
        &["'head.weight'", "LPBQ", "AIMET encodings 1.0.0"],
    );
}

/// A recording of the float network with a file of ranges; the input is recorded behind its quantizer, whose step of
/// 1/16 it lies on.
fn recording(folder: &Path, key: &str, amax: &str, more: &str) {
    let copy =
        |from: PathBuf, to: &str| fs::copy(from, folder.join(to)).map(|_| ()).expect("a copy");
    copy(model(), "model.onnx");
    copy(inputs(), "inputs.npz");
    let arrays = align_check::inputs::read_arrays(&inputs()).expect("the inputs");
    let (_, array) = &arrays[0];
    let values: Vec<f32> = array.values.iter().map(|&v| v as f32).collect();
    Npz::new(&folder.join("outputs.npz"))
        .add(key, &array.shape, &values)
        .finish();
    fs::write(folder.join("ranges.txt"), format!("image:{amax}\n")).expect("a writable folder");
    let sum = |name: &str| format!("\"{name}\" = \"{}\"\n", sha256(&folder.join(name)));
    let sums: String = ["model.onnx", "inputs.npz", "outputs.npz", "ranges.txt"]
        .map(sum)
        .concat();
    let text = format!(
        "tool = \"test\"\ntargets = [\"exact\"]\nencodings = \"ranges.txt\"\n{more}\n[sha256]\n{sums}"
    );
    fs::write(folder.join("recording.toml"), text).expect("a writable folder");
}

#[test]
fn recordings_name_their_encodings() {
    let check = |key: &str, amax: &str, more: &str| {
        let folder = folder();
        recording(folder.path(), key, amax, more);
        run(args!["verify", folder.path()])
    };
    // 127/16: every input is a multiple of the step.
    let found = check("image", "7.9375", "");
    assert_eq!(found.code, Some(0), "{}{}", found.stdout, found.stderr);
    let renamed = check("fake", "7.9375", "[quantized]\n\"image\" = \"fake\"");
    assert_eq!(
        renamed.code,
        Some(0),
        "{}{}",
        renamed.stdout,
        renamed.stderr
    );
    // Another range does not give these numbers.
    let other = check("image", "20.3", "");
    assert_eq!(other.code, Some(1), "{}{}", other.stdout, other.stderr);
}

#[test]
fn calibration_is_labelled_as_an_approximation() {
    let found = run(args![
        model(),
        "-t",
        "exact",
        "--calibrate",
        "minmax",
        "--input",
        inputs()
    ]);
    assert_eq!(found.code, Some(0), "{}", found.stderr);
    let text = found
        .stdout
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    for word in [
        "calibrated by align-check, an approximation",
        "no toolchain's",
        "asymmetric, 8 bits",
        "activations have ranges",
    ] {
        assert!(text.contains(word), "'{word}' is not in: {text}");
    }
    let symmetric = run(args![
        model(),
        "-t",
        "tensorrt",
        "--calibrate",
        "minmax",
        "--input",
        inputs()
    ]);
    assert!(
        symmetric.stdout.contains("symmetric, 8 bits"),
        "{}",
        symmetric.stdout
    );
    let both = run(args![
        model(),
        "-t",
        "tensorrt,hexagon-nn",
        "--calibrate",
        "minmax",
        "--input",
        inputs()
    ]);
    fails(&both, 2, &["'tensorrt' and 'hexagon-nn'", "one at a time"]);
    let second = run(args![
        golden("demo/model.qonnx.onnx"),
        "-t",
        "exact",
        "--calibrate",
        "minmax",
        "--input",
        golden("demo/inputs.npz")
    ]);
    fails(&second, 2, &["quantizers already", "not guessed"]);
    let without = run(args![model(), "-t", "exact", "--calibrate", "minmax"]);
    assert_eq!(without.code, Some(2));
    assert!(without.stderr.contains("--input"), "{}", without.stderr);
}
