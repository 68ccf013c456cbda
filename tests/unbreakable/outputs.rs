//! Files that must not be replaced.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use align_check_tests::{args, golden, run};

use super::faults::{copied, folder};
use super::says;

/// Neither what a run reads nor what it writes elsewhere is replaced.
#[test]
fn a_run_replaces_nothing_that_it_reads() {
    let folder = folder();
    let model = copied(golden("demo/model.qonnx.onnx"), &folder, "model.onnx");
    let inputs = copied(golden("demo/inputs.npz"), &folder, "inputs.npz");
    let codes = copied(golden("demo/fake_quant_codes.npz"), &folder, "codes.npz");
    let notes = folder.path().join("notes.txt");
    fs::write(&notes, "mine").expect("a writable folder");
    let before: Vec<Vec<u8>> = [&model, &inputs, &codes]
        .map(|file| fs::read(file).expect("a file"))
        .into();
    let json = |path: &Path| format!("json={}", path.display());
    let other = folder
        .path()
        .join("../")
        .join(folder.path().file_name().expect("a name"));
    let check = |more: Vec<OsString>| {
        let mut given = args![&model, "-t", "exact", "-q", "-i", &inputs];
        given.extend(more);
        given
    };
    let twice = folder.path().join("twice");
    for (word, given) in [
        ("model.onnx", check(args!["--report", json(&model)])),
        ("inputs.npz", check(args!["--report", json(&inputs)])),
        (
            "inputs.npz",
            check(args!["--report", json(&other.join("inputs.npz"))]),
        ),
        (
            "codes.npz",
            check(args!["--recorded", &codes, "--report", json(&codes)]),
        ),
        (
            "twice",
            check(args![
                "--report",
                json(&twice),
                "--report",
                format!("md={}", twice.display())
            ]),
        ),
        (
            "twice",
            check(args!["--report", json(&twice), "--state", &twice]),
        ),
        ("model.onnx", check(args!["--state", &model])),
        ("notes.txt", check(args!["--state", &notes])),
        (
            "model.onnx",
            args!["plan", &model, "-t", "nnie", "--report", json(&model)],
        ),
        (
            "model.onnx",
            args!["prove", &model, "-t", "nnie", "--report", json(&model)],
        ),
        (
            "model.onnx",
            args![
                "explain",
                &model,
                "-t",
                "nnie",
                "--layer",
                "/stem/Conv",
                "--report",
                json(&model)
            ],
        ),
        (
            "codes.npz",
            args![
                "infer",
                &model,
                "--recorded",
                &codes,
                "-i",
                &inputs,
                "--report",
                json(&codes)
            ],
        ),
    ] {
        says(&run(given), 2, &[word]);
    }
    for (file, before) in [&model, &inputs, &codes].into_iter().zip(before) {
        assert!(
            fs::read(file).expect("a file") == before,
            "{}",
            file.display()
        );
    }
    assert_eq!(fs::read_to_string(&notes).expect("a file"), "mine");
    assert!(!twice.exists());
}
