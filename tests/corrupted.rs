//! Corrupted files: bytes of a good model and of good inputs are changed, and the tool must end in order.

use std::fs;
use std::path::Path;

use align_check::inputs::read_arrays;
use align_check_tests::{Random, args, golden, run, say};
use ndarray::ArrayD;
use ndarray_npy::WriteNpyExt;

/// Files that are tried.
const SEEDS: u64 = 200;

/// Changes a few bytes: other values, single bits, runs that are doubled or lost, lengths that grow.
///
/// `kinds`: 3 keeps the length, so that what is behind the change is still read; 5 does not.
fn mutate(bytes: &[u8], kinds: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(8) {
        let at = random.below(bytes.len());
        match random.below(kinds) {
            0 => bytes[at] = random.number() as u8,
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

/// What is wrong with a run on a corrupted file, if anything; counts its exit code.
fn verdict(model: &Path, inputs: &Path, report: &Path, codes: &mut [usize; 4]) -> Option<String> {
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
        Some(code @ 0..=3) => {
            codes[code as usize] += 1;
            return None;
        }
        Some(code) => format!("exit code {code}"),
    };
    Some(format!("{wrong}: {}", run.stderr))
}

#[test]
fn corrupted_files_end_in_order() {
    let model = golden("demo/model.qonnx.onnx");
    let inputs = golden("demo/inputs.npz");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let report = folder.path().join("report.json");
    // An archive checks its sums; what lies inside is broken on its own.
    let (_, image) = &read_arrays(&inputs).expect("the demo")[0];
    let reals: Vec<f32> = image.values.iter().map(|&v| v as f32).collect();
    let plain = ArrayD::from_shape_vec(&image.shape[..], reals).expect("the shape");
    let mut npy = Vec::new();
    plain.write_npy(&mut npy).expect("memory");
    let read = |path| fs::read(path).expect("the demo");
    let subjects = [
        ("model.onnx", read(&model), 5),
        ("inputs.npz", read(&inputs), 5),
        ("model.onnx", read(&model), 3),
        ("inputs.npy", npy, 5),
    ];
    let mut wrong = Vec::new();
    let mut codes = [0; 4];
    for seed in 0..SEEDS {
        let mut random = Random(seed);
        let (name, bytes, kinds) = &subjects[seed as usize % subjects.len()];
        let broken = folder.path().join(name);
        fs::write(&broken, mutate(bytes, *kinds, &mut random)).expect("a writable folder");
        let _ = fs::remove_file(&report);
        let (model, inputs) = if *name == "model.onnx" {
            (&broken, &inputs)
        } else {
            (&model, &broken)
        };
        let found = verdict(model, inputs, &report, &mut codes);
        wrong.extend(found.map(|why| format!("seed {seed}, {name}: {why}")));
    }
    say(format_args!(
        "corrupted files: {codes:?} exit codes 0, 1, 2, 3"
    ));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
