//! Corrupted files: bytes of a good model and of good inputs are changed, and the tool must end in order.

use std::fs;
use std::path::Path;

use align_check_tests::{Random, args, golden, run};

/// Changes a few bytes: other values, single bits, runs that are doubled or lost, lengths that grow.
fn mutate(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(8) {
        let at = random.below(bytes.len());
        match random.below(5) {
            0 => bytes[at] = random.next() as u8,
            1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes[at] = [0, 0x7f, 0x80, 0xff][random.below(4)],
            3 => {
                let end = (at + 1 + random.below(64)).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => {
                let end = (at + 1 + random.below(64)).min(bytes.len());
                let run = bytes[at..end].to_vec();
                bytes.splice(at..at, run);
            }
        }
    }
    bytes
}

/// What is wrong with a run on a corrupted file.
fn verdict(model: &Path, inputs: &Path, report: &Path) -> Option<String> {
    let run = run(args![
        model,
        "-t",
        "exact,tflite-reference,nnie",
        "-q",
        "-i",
        inputs,
        "--report",
        format!("json={}", report.display()),
    ]);
    let lines = run.stderr.lines().count();
    let written = report.exists();
    let wrong = match run.code {
        None => "ended by a signal".to_owned(),
        Some(0 | 1) if lines > 0 => "messages in spite of success".to_owned(),
        Some(0 | 1) if !written => "no report".to_owned(),
        Some(2) if lines != 1 => format!("{lines} lines"),
        Some(2) if written => "a report in spite of the error".to_owned(),
        // A line for each target that refuses.
        Some(3) if !(1..=3).contains(&lines) => format!("{lines} lines"),
        Some(0..=3) if run.time.as_secs() >= 5 => format!("took {:?}", run.time),
        Some(0..=3) => return None,
        Some(code) => format!("exit code {code}"),
    };
    Some(format!("{wrong}: {}", run.stderr))
}

#[test]
fn corrupted_files_end_in_order() {
    let model = golden("demo/model.qonnx.onnx");
    let inputs = golden("demo/inputs.npz");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let broken_model = folder.path().join("broken.onnx");
    let broken_inputs = folder.path().join("broken.npz");
    let report = folder.path().join("report.json");
    let [model_bytes, input_bytes] =
        [&model, &inputs].map(|path| fs::read(path).expect("the demo"));
    let mut wrong = Vec::new();
    for seed in 0..100 {
        let mut random = Random(seed);
        let _ = fs::remove_file(&report);
        let found = if seed % 2 == 0 {
            fs::write(&broken_model, mutate(&model_bytes, &mut random)).expect("writable");
            verdict(&broken_model, &inputs, &report)
        } else {
            fs::write(&broken_inputs, mutate(&input_bytes, &mut random)).expect("writable");
            verdict(&model, &broken_inputs, &report)
        };
        wrong.extend(found.map(|why| format!("seed {seed}: {why}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
