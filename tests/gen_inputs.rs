//! `gen-inputs`: the directed inputs of a check, and inputs on which two targets differ.

use std::path::{Path, PathBuf};

use align_check::inputs::{ArrayKind, read_arrays};
use align_check::recording::Folder;
use align_check_tests::onnx::{Onnx, int, ints};
use align_check_tests::{args, golden, list, report, run, whole};

fn model_of(recording: &str) -> PathBuf {
    Folder::open(&golden(recording))
        .and_then(|f| f.model())
        .expect("a model")
}

/// A generated file is the same every time, and a check takes it.
#[test]
fn inputs_are_those_of_a_check() {
    let model = golden("demo/model.qonnx.onnx");
    let folder = tempfile::tempdir().expect("a folder");
    let out = |name: &str| folder.path().join(name);
    for name in ["a.npz", "b.npz"] {
        let made = run(args![
            "gen-inputs",
            &model,
            "--out",
            out(name),
            "--samples",
            "5",
            "--seed",
            "3"
        ]);
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        assert!(made.stdout.contains("5 samples"), "{}", made.stdout);
    }
    let bytes = |name: &str| std::fs::read(out(name)).expect("a file");
    assert_eq!(bytes("a.npz"), bytes("b.npz"));
    let arrays = read_arrays(&out("a.npz")).expect("an npz");
    assert_eq!(arrays.len(), 1);
    assert_eq!(arrays[0].1.shape[0], 5);
    assert_eq!(arrays[0].1.kind, ArrayKind::Float);
    // The same samples as without a file.
    let check = |arguments: Vec<std::ffi::OsString>| {
        let (_, json, _) = report(arguments);
        json["targets"][0]["layers"].clone()
    };
    let own = check(args![
        &model,
        "--target",
        "tflite",
        "--samples",
        "5",
        "--seed",
        "3"
    ]);
    let given = check(args![&model, "--target", "tflite", "--input", out("a.npz")]);
    assert_eq!(own, given);
}

/// Layers of a check that differ from another target's, fed with the same inputs.
fn differing(model: &Path, inputs: &Path, target: &str) -> u64 {
    let (_, json, _) = report(args![
        model, "--target", target, "--input", inputs, "--mode", "isolated"
    ]);
    list(&json["layers"])
        .iter()
        .filter(|layer| !layer["mode"]["isolated"].is_null())
        .map(|layer| whole(&layer["mode"]["isolated"]["differing"]))
        .sum()
}

/// Two modes of `LiteRT` are told apart, and the file shows it when each is checked on it.
#[test]
fn targets_are_told_apart() {
    let model = model_of("tflite/net-residual-ptq-ref");
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("telling.npz");
    let made = run(args![
        "gen-inputs",
        &model,
        "--out",
        &out,
        "--distinguish",
        "tflite-reference,xnnpack"
    ]);
    assert_eq!(made.code, Some(0), "{}{}", made.stdout, made.stderr);
    assert!(made.stdout.contains("elements differ"), "{}", made.stdout);
    let [a, b] = ["tflite-reference", "xnnpack"].map(|target| differing(&model, &out, target));
    assert_ne!(a, b, "both differ from the reference in as many elements");
}

/// Scales that are powers of two and weights so small that a tie needs a special window: it is made for the layer.
fn deep(folder: &Path) -> PathBuf {
    let path = folder.join("model.onnx");
    let weights: Vec<i32> = (0..4 * 3 * 9).map(|i| (i * 29 + 7) % 61 - 30).collect();
    Onnx::new()
        .input("x", &[1, 3, 4, 4])
        .qdq("x", "xq", 0.05, 3, false)
        .codes("w", &[4, 3, 3, 3], &weights, true)
        .reals("ws", &[], &[0.013])
        .codes("wz", &[], &[0], true)
        .node("DequantizeLinear", &["w", "ws", "wz"], "wd", &[])
        .node(
            "Conv",
            &["xq", "wd"],
            "y",
            &[
                ints("kernel_shape", &[3, 3]),
                ints("pads", &[1, 1, 1, 1]),
                int("group", 1),
            ],
        )
        .qdq("y", "yq", 0.9, 7, false)
        .output("yq", &[1, 4, 4, 4])
        .write(&path);
    path
}

#[test]
fn single_layers_get_inputs_of_their_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = deep(folder.path());
    let out = folder.path().join("telling.npz");
    let made = run(args![
        "gen-inputs",
        &model,
        "--out",
        &out,
        "--samples",
        "2",
        "--distinguish",
        "onnxruntime,tflite-reference"
    ]);
    assert_eq!(made.code, Some(0), "{}{}", made.stdout, made.stderr);
    let line = made
        .stdout
        .lines()
        .find(|line| line.contains("Conv"))
        .expect("the convolution");
    assert!(line.contains("differ"), "{line}");
    if line.contains("the layer's own input") {
        let arrays = read_arrays(&out).expect("an npz");
        assert!(arrays.iter().any(|(key, _)| key != "x"), "{line}");
    }
}

/// A target and itself: proved equal, nothing written.
#[test]
fn equal_targets_are_not_told_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = deep(folder.path());
    let out = folder.path().join("none.npz");
    let made = run(args![
        "gen-inputs",
        &model,
        "--out",
        &out,
        "--distinguish",
        "onnxruntime,onnxruntime"
    ]);
    assert_eq!(made.code, Some(1), "{}{}", made.stdout, made.stderr);
    assert!(
        made.stdout.contains("proved equal for all inputs"),
        "{}",
        made.stdout
    );
    assert!(
        made.stdout.contains("nothing was written"),
        "{}",
        made.stdout
    );
    assert!(!out.exists());
}

#[test]
fn errors() {
    let model = golden("demo/model.qonnx.onnx");
    for (arguments, says) in [
        (args!["gen-inputs", &model, "--out", "inputs.txt"], ".npz"),
        (
            args!["gen-inputs", &model, "--out", "x.npz", "--samples", "0"],
            "--samples 0",
        ),
        (
            args![
                "gen-inputs",
                &model,
                "--out",
                "x.npz",
                "--distinguish",
                "tflite"
            ],
            "two targets",
        ),
        (
            args![
                "gen-inputs",
                &model,
                "--out",
                "x.npz",
                "--distinguish",
                "tflite,nobody"
            ],
            "nobody",
        ),
        (
            args!["gen-inputs", &model, "--out", "/nowhere/x.npz"],
            "x.npz",
        ),
        (
            args!["gen-inputs", "none.onnx", "--out", "x.npz"],
            "none.onnx",
        ),
    ] {
        let run = run(arguments);
        assert_eq!(run.code, Some(2), "{}{}", run.stdout, run.stderr);
        assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
        assert!(run.stderr.contains(says), "{}", run.stderr);
    }
}
