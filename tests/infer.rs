//! Inference: the rules of recordings are found from the recordings alone.

use std::fs;

use align_check::infer::{self, Inference};
use align_check::inputs::{ArrayKind, Recording};
use align_check::recording::Folder;
use align_check::verify::Loaded;
use align_check_graph::Limits;
use align_check_simulators::kernels::Isa;
use align_check_specs::Spec;
use align_check_tests::{
    Npz, Random, args, golden, list, one_array, report, run, say, shared, text, whole,
};

/// Recordings, and how many of the tried neighbours they must refute at least, over all kinds.
const RECORDINGS: &[(&str, usize)] = &[
    ("tflite/conv-ref", 20),
    ("tflite/conv-opt", 20),
    ("tflite/conv-xnn", 15),
    ("tflite/depthwise-ref", 15),
    ("tflite/depthwise-opt", 15),
    ("tflite/fully-connected-opt", 15),
    ("tflite/fully-connected-xnn", 10),
];

/// As [`RECORDINGS`]: those that take long, or that no run has confirmed yet.
const OPEN: &[(&str, usize)] = &[
    ("tflite/depthwise-xnn", 10),
    ("tflite/fully-connected-ref", 15),
    ("tflite/add-ref", 10),
    ("tflite/add-opt", 10),
    ("tflite/add-xnn", 10),
    ("tflite/mul-ref", 3),
    ("tflite/mul-xnn", 3),
    ("tflite/quantize-ref", 3),
    ("tflite/quantize-opt", 3),
    ("tflite/quantize-xnn", 3),
    ("tflite/mean-ref", 5),
    ("tflite/mean-opt", 5),
    ("tflite/mean-xnn", 5),
    ("tflite/logistic-ref", 1),
    ("tflite/leaky-relu-ref", 1),
    ("tflite/softmax-opt", 1),
    ("tflite/uint8-conv-ref", 15),
    ("tflite/net-residual-ptq-ref", 20),
    ("tflite/net-residual-ptq-xnn", 20),
    ("onnxruntime/qlinear-conv", 10),
    ("onnxruntime/qlinear-matmul", 10),
    ("onnxruntime/qlinear-add-u8", 5),
    ("onnxruntime/qlinear-add-s8", 5),
    ("onnxruntime/qlinear-mul", 3),
    ("onnxruntime/qlinear-average-pool", 5),
    ("onnxruntime/qlinear-sigmoid", 1),
    ("openvino/conv", 3),
    ("openvino/depthwise", 3),
    ("openvino/linear", 3),
    ("openvino/add", 3),
    ("pytorch/conv-fbgemm-x86", 10),
    ("pytorch/conv-qnnpack", 5),
    ("pytorch/linear-fbgemm-x86", 5),
    ("pytorch/linear-qnnpack", 5),
    ("pytorch/conv-onednn", 3),
    ("pytorch/add-hardswish-qnnpack", 3),
];

fn infer_recording(name: &str) -> (Folder, Inference) {
    let folder = Folder::open(&golden(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let loaded = Loaded::new(folder.clone(), Isa::detect(), &Limits::default())
        .unwrap_or_else(|e| panic!("{name}: {e:?}"));
    let found = infer::of(&loaded).unwrap_or_else(|e| panic!("{name}: {e}"));
    (folder, found)
}

/// The targets that a recording names are among the survivors of every kind, everything is explained, and neighbours are
/// refuted: an inference that accepts anything refutes none.
#[test]
fn recordings_tell_their_rules() {
    check(RECORDINGS);
}

#[test]
#[ignore = "two minutes; onnxruntime/qlinear-matmul is not named yet: INFER_ONLY=name selects"]
fn more_recordings_tell_theirs() {
    check(OPEN);
}

fn check(recordings: &[(&str, usize)]) {
    let only = std::env::var("INFER_ONLY").ok();
    let mut failures = Vec::new();
    let mut lines = Vec::new();
    for (name, least) in recordings {
        if only
            .as_ref()
            .is_some_and(|only| !name.contains(only.as_str()))
        {
            continue;
        }
        let (folder, found) = infer_recording(name);
        let (elements, count) = found.totals();
        let tried: usize = found.classes.iter().map(|class| class.neighbours.0).sum();
        let refuted: usize = found.classes.iter().map(|class| class.neighbours.1).sum();
        let survivors: u64 = found.classes.iter().map(|class| class.survivors).sum();
        let points: u64 = found.classes.iter().map(|class| class.tried).sum();
        lines.push(format!(
            "{name}: {} of {elements} elements, {survivors} of {points} points survive, {refuted} of {tried} neighbours \
             refuted, {:.1} s, as {}",
            elements - count.differing,
            found.seconds,
            found.targets.join(" ")
        ));
        if count.differing > 0 || !found.explained() {
            failures.push(format!(
                "{name}: {} of {elements} not explained",
                count.differing
            ));
        }
        for target in &folder.provenance.targets {
            let spec = Spec::resolve(target).expect("a target");
            if !found.targets.contains(&spec.name) {
                let kinds: Vec<&str> = found
                    .classes
                    .iter()
                    .filter(|class| !class.targets.contains(&spec.name))
                    .map(|class| class.kind)
                    .collect();
                failures.push(format!(
                    "{name}: {target} is not among the survivors of {kinds:?}"
                ));
            }
        }
        if refuted < *least {
            failures.push(format!(
                "{name}: only {refuted} of {tried} neighbours are refuted"
            ));
        }
    }
    say(lines.join("\n"));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// With 0.1 % of all elements damaged, the rules are named, the share is said, and so are the damaged layers.
#[test]
fn damaged_recordings_are_explained_as_far_as_they_are_right() {
    let source = golden("tflite/net-mobile-ptq-ref");
    let folder = Folder::open(&source).expect("a recording");
    let recorded = Recording::read(&folder.outputs().expect("outputs")).expect("outputs");
    let temporary = tempfile::tempdir().expect("a folder");
    let file = temporary.path().join("damaged.npz");
    let mut npz = Npz::new(&file);
    let mut random = Random(3);
    let (mut damaged, mut all) = (0u64, 0u64);
    for (key, array) in recorded.arrays() {
        let codes: Vec<i8> = array
            .values
            .iter()
            .map(|&v| {
                all += 1;
                let mut code = v as i64;
                if array.kind == ArrayKind::Signed(8) && random.below(1000) == 0 {
                    damaged += 1;
                    code = (code + 131 + random.below(100) as i64 + 128) % 256 - 128;
                }
                code as i8
            })
            .collect();
        if array.kind == ArrayKind::Signed(8) {
            npz = npz.add(key, &array.shape, &codes);
        } else {
            let values: Vec<f32> = array.values.iter().map(|&v| v as f32).collect();
            npz = npz.add(key, &array.shape, &values);
        }
    }
    npz.finish();
    assert!(damaged > 10, "{damaged} of {all}");
    let (run, json, _) = report(args![
        "infer",
        folder.model().expect("a model"),
        "--recorded",
        &file,
        "--input",
        folder.inputs().expect("inputs")
    ]);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    let (elements, differing) = (whole(&json["elements"]), whole(&json["differing"]));
    say(format_args!(
        "damaged {damaged} of {all}: {differing} of {elements} not explained"
    ));
    assert!(
        differing <= damaged && differing > damaged / 2,
        "{differing} of {damaged}"
    );
    for kind in list(&json["kinds"]) {
        let targets: Vec<&str> = list(&kind["targets"]).iter().map(text).collect();
        assert!(
            targets.contains(&"tflite-reference"),
            "{}: {targets:?}",
            kind["kind"]
        );
    }
    let open: u64 = list(&json["kinds"])
        .iter()
        .flat_map(|kind| list(&kind["layers"]))
        .filter(|layer| whole(&layer["differing"]) > 0)
        .count() as u64;
    assert!(open > 3, "{open} damaged layers are listed");
}

/// The spec that is written is a target that reproduces the recording, and says that it is a hypothesis.
#[test]
fn the_spec_is_a_target() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("found.toml");
    let recording = golden("tflite/net-residual-ptq-xnn");
    let model = Folder::open(&recording)
        .and_then(|f| f.model())
        .expect("a model");
    let made = run(args![
        "infer",
        &model,
        "--recorded",
        &recording,
        "--out",
        &out
    ]);
    assert_eq!(made.code, Some(0), "{}{}", made.stdout, made.stderr);
    assert!(made.stdout.contains("xnnpack"), "{}", made.stdout);
    let spec = Spec::read(&out).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(spec.grade(), align_check_specs::Grade::Hypothesis);
    assert!(
        spec.evidence[0].source.contains("reproduces"),
        "{:?}",
        spec.evidence
    );
    assert!(
        fs::read_to_string(&out)
            .expect("a file")
            .contains("net-residual-ptq-xnn")
    );
    let checked = run(args![
        &model,
        "--target",
        &out,
        "--recorded",
        &recording,
        "--mode",
        "isolated"
    ]);
    assert_eq!(
        checked.code,
        Some(0),
        "{}{}",
        checked.stdout,
        checked.stderr
    );
}

/// hls4ml: the rules of sums, and the types that each accumulator can have had.
#[test]
fn fixed_point_types_are_found() {
    for (name, least) in [
        ("hls4ml/mlp-saturate", 3),
        ("hls4ml/mlp-wrap", 3),
        ("hls4ml/conv1d-saturate", 2),
        ("hls4ml/conv1d-wrap", 2),
        ("hls4ml/conv2d-saturate", 2),
        ("hls4ml/conv2d-wrap", 2),
    ] {
        let recording = golden(name);
        let model = Folder::open(&recording)
            .and_then(|f| f.model())
            .expect("a model");
        let (run, json, _) = report(args!["infer", &model, "--recorded", &recording]);
        assert_eq!(run.code, Some(0), "{name}: {}", run.stderr);
        assert_eq!(whole(&json["differing"]), 0, "{name}");
        let rules = &list(&json["rules"])[0];
        let known = Spec::resolve("hls4ml")
            .expect("hls4ml")
            .precision
            .expect("rules");
        let known = serde_json::to_value(known).expect("JSON");
        assert!(list(&json["rules"]).contains(&known), "{name}: {rules}");
        assert!(list(&json["rules"]).len() < 24, "{name}: every rule fits");
        let accumulators = list(&json["accumulators"]);
        assert!(accumulators.len() >= least, "{name}");
        for found in accumulators {
            assert_eq!(found["stated_fits"], true, "{name}: {found}");
            let (survivors, tried) = (whole(&found["survivors"]), whole(&found["tried"]));
            assert!(
                survivors > 0 && survivors < tried,
                "{name}: {survivors} of {tried}"
            );
        }
    }
}

/// What a recording says of itself is not evidence: under another engine's name, the rules are those of the one that made
/// it.
#[test]
fn names_are_not_trusted() {
    for (made_by, said, right) in [
        ("tflite/conv-xnn", "tflite-reference", "xnnpack"),
        ("pytorch/linear-qnnpack", "fbgemm", "qnnpack"),
    ] {
        let source = Folder::open(&golden(made_by)).unwrap_or_else(|e| panic!("{e}"));
        let temporary = tempfile::tempdir().expect("a folder");
        let folder = temporary.path().join(said);
        fs::create_dir(&folder).expect("a folder");
        for entry in fs::read_dir(golden(made_by)).expect("a folder") {
            let file = entry.expect("a file").path();
            let name = file.file_name().expect("a name");
            fs::copy(&file, folder.join(name)).expect("a copy");
        }
        let toml = fs::read_to_string(golden(made_by).join("recording.toml")).expect("a file");
        let false_name = toml
            .lines()
            .map(|line| match line.strip_prefix("targets = ") {
                Some(_) => format!("targets = [\"{said}\"]"),
                None => line.to_owned(),
            })
            .collect::<Vec<_>>()
            .join("\n");
        fs::write(folder.join("recording.toml"), false_name).expect("a file");
        let model = source.model().unwrap_or_else(|e| panic!("{e}"));
        let inputs = source.inputs().unwrap_or_else(|e| panic!("{e}"));
        let (run, json, _) = report(args![
            "infer",
            &model,
            "--recorded",
            &folder,
            "--input",
            &inputs
        ]);
        assert_eq!(run.code, Some(0), "{made_by}: {}", run.stderr);
        let targets: Vec<&str> = list(&json["targets"]).iter().map(text).collect();
        assert!(targets.contains(&right), "{made_by}: {targets:?}");
        assert!(!targets.contains(&said), "{made_by}: {targets:?}");
    }
}

/// What cannot be is one line, with the exit code for it.
#[test]
fn errors() {
    let recording = golden("tflite/conv-ref");
    let model = Folder::open(&recording)
        .and_then(|f| f.model())
        .expect("a model");
    let other = golden("tflite/add-ref").join("model.tflite");
    let folder = tempfile::tempdir().expect("a folder");
    let empty = folder.path().join("empty.npz");
    Npz::new(&empty).add("nobody", &[1], &[1.0f32]).finish();
    let input = recording.join("inputs.npz");
    for (arguments, code, says) in [
        (
            args![
                "infer",
                &model,
                "--recorded",
                folder.path().join("none.npz")
            ],
            2,
            "none.npz",
        ),
        (
            args!["infer", &model, "--recorded", &empty, "--input", &input],
            2,
            "no recorded tensor",
        ),
        (args!["infer", &other, "--recorded", &recording], 2, ""),
        (
            args![
                "infer",
                &model,
                "--recorded",
                &recording,
                "--out",
                "spec.txt"
            ],
            2,
            ".toml",
        ),
        (
            args![
                "infer",
                &model,
                "--recorded",
                &recording,
                "--layers",
                "nothing"
            ],
            2,
            "no recorded tensor",
        ),
    ] {
        let run = run(arguments);
        assert_eq!(run.code, Some(code), "{}{}", run.stdout, run.stderr);
        assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
        assert!(run.stderr.contains(says), "{}", run.stderr);
    }
}

/// Threads change nothing.
#[test]
fn threads_change_nothing() {
    let recording = golden("tflite/net-residual-qat-opt");
    let model = Folder::open(&recording)
        .and_then(|f| f.model())
        .expect("a model");
    let once = |jobs: &str| {
        let (_, mut json, _) = report(args!["infer", &model, "--recorded", &recording, "-j", jobs]);
        json["seconds"] = serde_json::Value::Null;
        json
    };
    assert_eq!(once("1"), once("3"));
}

/// ONNX Runtime on EfficientNet-Lite0, one photo, one thread: 62 layers, 7.1 million elements.
#[test]
#[ignore = "half a minute"]
fn a_network_of_the_size_of_mobilenet() {
    let folder = "models/efficientnet-lite0";
    let (Some(photos), Some(folder)) = (
        shared(format!("{folder}/inputs.npz")),
        shared(format!("{folder}/ort-qoperator")),
    ) else {
        return;
    };
    let temporary = tempfile::tempdir().expect("a folder");
    let photo = temporary.path().join("chelsea.npz");
    one_array(&photos, "chelsea", &photo);
    let (run, json, _) = report(args![
        "infer",
        folder.join("model.onnx"),
        "--recorded",
        folder.join("outputs.chelsea.npz"),
        "--input",
        photo,
        "-j",
        "1"
    ]);
    say(format_args!(
        "EfficientNet-Lite0: {} elements, {} kinds, {:.1?}",
        json["elements"],
        list(&json["kinds"]).len(),
        run.time
    ));
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(
        list(&json["targets"])
            .iter()
            .any(|target| text(target) == "onnxruntime")
    );
    assert!(whole(&json["elements"]) > 7_000_000);
    assert_eq!(whole(&json["differing"]), 0);
}
