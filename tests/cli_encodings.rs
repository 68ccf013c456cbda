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

fn export(folder: &str, file: &str) -> PathBuf {
    golden("toolchains").join(folder).join(file)
}

/// Files of every tool beside its float model, and what the tool says of them.
#[test]
fn plan_says_the_kind_of_a_file_and_its_coverage() {
    let mqbench = "model_deploy_model.onnx";
    for (option, folder, model, beside, target, words) in [
        (
            "--encodings",
            "aimet-dsp",
            "model.onnx",
            "model.encodings",
            "hexagon-nn",
            ["AIMET encodings 1.0.0", "activations have ranges"],
        ),
        (
            "--encodings",
            "mqbench-snpe",
            mqbench,
            "model_clip_ranges.json",
            "hexagon-nn",
            ["MQBench snpe", "activations have ranges"],
        ),
        (
            "--ranges",
            "trt-implicit",
            "model.onnx",
            "calibration.cache",
            "tensorrt",
            [
                "TensorRT calibration cache",
                "15 of 23 activations have ranges",
            ],
        ),
        (
            "--ranges",
            "trt-implicit",
            "model.onnx",
            "ranges.txt",
            "tensorrt",
            ["TensorRT ranges file", "15 of 23 activations have ranges"],
        ),
        (
            "--ranges",
            "mqbench-tensorrt",
            mqbench,
            "model_clip_ranges.json",
            "tensorrt",
            ["MQBench tensorrt", "activations have ranges"],
        ),
        (
            "--ranges",
            "mqbench-nnie",
            mqbench,
            "model_gfpq_param_dict.json",
            "nnie",
            ["MQBench nnie", "activations have ranges"],
        ),
    ] {
        let (model, beside) = (export(folder, model), export(folder, beside));
        let said = run(args!["plan", &model, "-t", target, option, &beside]);
        assert_eq!(said.code, Some(0), "{folder}: {}", said.stderr);
        for word in words {
            assert!(
                said.stdout.to_lowercase().contains(&word.to_lowercase()),
                "{folder}: {word}: {}",
                said.stdout
            );
        }
        // `check` says the same of it.
        let note = said.stdout.lines().next().expect("a note");
        let other = if option == "--ranges" {
            "--encodings"
        } else {
            "--ranges"
        };
        let check = run(args![
            &model,
            "-t",
            target,
            other,
            &beside,
            "--samples",
            "1",
            "-v"
        ]);
        let text = |s: &str| s.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            text(&check.stdout).contains(&text(note)),
            "{folder}: {note}"
        );
    }
}

#[test]
fn svp_nnn_parameters_are_ranges_too() {
    let folder = folder();
    let text = "version: 65536\nlayer {\n  name: \"/stem/conv/Conv\"\n  calc_data_type: S8\n  quant_param {\n    input { \
                data_type: S8 scale: 16 offset: 0 }\n    weight { scale: 64 offset: 0 }\n  }\n}\n";
    let path = file(&folder, "calibration_param.txt", text);
    let said = run(args![
        "plan",
        model(),
        "-t",
        "svp-nnn",
        "--ranges",
        path,
        "-v"
    ]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    for word in [
        "SVP_NNN calibration parameters: 1 of 29 activations have ranges; the rest stays float",
        "0.0625",
    ] {
        assert!(said.stdout.contains(word), "'{word}': {}", said.stdout);
    }
}

#[test]
fn plan_and_prove_take_what_check_takes() {
    let folder = folder();
    let ranges = file(&folder, "side.file", RANGES);
    for verb in ["plan", "prove"] {
        // A float model alone is nothing to plan or to prove.
        let float = run(args![verb, model(), "-t", "exact"]);
        fails(
            &float,
            2,
            &["model.onnx: nothing is quantized", "--encodings FILE"],
        );
        let given = run(args![verb, model(), "-t", "exact", "--ranges", &ranges]);
        assert!(
            matches!(given.code, Some(0 | 3)),
            "{verb}: {}",
            given.stderr
        );
        let word = "TensorRT ranges file: 3 of 29 activations have ranges; the rest stays float";
        assert!(given.stdout.contains(word), "{verb}: {}", given.stdout);
        let calibrated = run(args![
            verb,
            model(),
            "-t",
            "tensorrt",
            "--calibrate",
            "minmax",
            "--input",
            inputs()
        ]);
        assert!(
            matches!(calibrated.code, Some(0 | 1 | 3)),
            "{verb}: {}",
            calibrated.stderr
        );
        assert!(
            calibrated.stdout.contains("no toolchain's"),
            "{verb}: {}",
            calibrated.stdout
        );
        let alone = run(args![verb, model(), "-t", "exact", "--calibrate", "minmax"]);
        assert_eq!(alone.code, Some(2), "{verb}");
        assert!(alone.stderr.contains("--input"), "{verb}: {}", alone.stderr);
        let partial = file(&folder, "partial.file", &format!("{RANGES}gone:1\n"));
        let partial = run(args![verb, model(), "-t", "exact", "--ranges", partial]);
        for word in ["warning: ", "1 of 4 tensors", "'gone'"] {
            assert!(partial.stderr.contains(word), "{verb}: {}", partial.stderr);
        }
        let help = run(args![verb, "--help"]);
        for word in ["--encodings <FILE>", "--ranges", "--calibrate", "--weights"] {
            assert!(help.stdout.contains(word), "{verb}: {}", help.stdout);
        }
    }
    // Weights of a Caffe network, from elsewhere.
    let caffe = golden("toolchains/nnie-caffe");
    let weights = folder.path().join("other.caffemodel");
    fs::copy(caffe.join("model.caffemodel"), &weights).expect("a copy");
    let network = folder.path().join("model.prototxt");
    fs::copy(caffe.join("model.prototxt"), &network).expect("a copy");
    let without = run(args!["plan", &network, "-t", "nnie"]);
    assert_eq!(without.code, Some(2), "{}", without.stderr);
    let with = run(args!["plan", &network, "-t", "nnie", "--weights", &weights]);
    assert_eq!(with.code, Some(0), "{}", with.stderr);
}

/// What was assumed stands in the machines' reports, too.
#[test]
fn reports_of_plan_and_prove_hold_the_notes() {
    let folder = folder();
    let ranges = file(&folder, "side.file", RANGES);
    for (verb, path) in [("plan", "/notes"), ("prove", "/model/notes")] {
        let report = folder.path().join(format!("{verb}.json"));
        let to = format!("json={}", report.display());
        run(args![
            verb,
            model(),
            "-t",
            "exact",
            "--encodings",
            &ranges,
            "--report",
            to
        ]);
        let text = fs::read_to_string(&report).expect("the report");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let notes = json
            .pointer(path)
            .and_then(serde_json::Value::as_array)
            .expect("notes");
        assert!(
            notes
                .iter()
                .any(|n| align_check_tests::text(n).contains("3 of 29 activations")),
            "{verb}: {notes:?}"
        );
    }
}
