//! PyTorch's engines and files that say otherwise: where codes saturate, who quantized the weights; and recorded codes
//! that no grid holds.

use align_check::recording::Folder;
use align_check::verify::{Case, Loaded};
use align_check_graph::Limits;
use align_check_simulators::kernels::Isa;
use align_check_specs::Spec;
use align_check_tests::{Npz, args, golden, list, report, run, text, whole};

const ENGINES: [&str; 2] = ["fbgemm-channels-last", "onednn-channels-last"];

fn spec(name: &str) -> Spec {
    Spec::resolve(name).unwrap_or_else(|error| panic!("{error}"))
}

/// A recording of `golden/toolchains` under a target.
fn under(recording: &str, spec: Spec) -> Case {
    let path = golden("toolchains").join(recording);
    let folder = Folder::open(&path).unwrap_or_else(|error| panic!("{error}"));
    let loaded = Loaded::new(folder, Isa::detect(), &Limits::default());
    let loaded = loaded.unwrap_or_else(|error| panic!("{error:?}"));
    let case = loaded.run(spec);
    case.unwrap_or_else(|error| panic!("{error:?}"))
}

/// The same with one decision that is the model's, as [`Spec::neighbours`] has it.
fn as_the_model(target: &str, rule: &str) -> Spec {
    let neighbours = spec(target).neighbours().into_iter();
    let mut fitting = neighbours.filter(|n| n.rule == rule && n.change == "model");
    let found = fitting.next().unwrap_or_else(|| panic!("{rule}"));
    assert!(fitting.next().is_none(), "{rule}");
    found.spec
}

#[test]
fn engines_saturate_at_their_type_and_not_where_the_file_does() {
    for engine in ENGINES {
        let case = under("pytorch-fx-qat-engine", spec(engine));
        assert!(case.reproduced(), "{engine}: {} differ", case.differing());
        let clipped = as_the_model(engine, "activations.clip");
        assert_eq!(
            under("pytorch-fx-qat-engine", clipped).differing(),
            26,
            "{engine}"
        );
    }
}

#[test]
fn float_weights_become_the_codes_of_the_tool_that_made_them() {
    for engine in ENGINES {
        let case = under("pytorch-fx-fbgemm-engine", spec(engine));
        assert!(case.reproduced(), "{engine}: {} differ", case.differing());
        let divided = as_the_model(engine, "weights.division");
        assert_eq!(
            under("pytorch-fx-fbgemm-engine", divided).differing(),
            63,
            "{engine}"
        );
    }
    let case = under("pytorch-fx-onednn", spec("pytorch-fake-quant"));
    assert!(case.reproduced(), "{} differ", case.differing());
    let divided = as_the_model("pytorch-fake-quant", "weights.division");
    for other in [divided, spec("exact")] {
        assert_eq!(under("pytorch-fx-onednn", other).differing(), 165);
    }
}

/// Differing layers of a model under `fbgemm-channels-last`: name of the cause and its text, elements explained and all.
fn causes(recording: &str) -> Vec<(String, String, u64, u64)> {
    let folder = golden("toolchains").join(recording);
    let (run, json, _) = report(args![
        folder.join("model.onnx"),
        "--target",
        "fbgemm-channels-last",
        "--input",
        folder.join("inputs.npz"),
    ]);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    let layers = list(&json["layers"]).iter();
    let misaligned = layers.filter(|layer| text(&layer["verdict"]) == "misaligned");
    misaligned
        .map(|layer| {
            let cause = &layer["cause"];
            let (name, why) = (text(&cause["name"]), text(&cause["text"]));
            let (explains, of) = (whole(&cause["explains"]), whole(&cause["of"]));
            (name.to_owned(), why.to_owned(), explains, of)
        })
        .collect()
}

#[test]
fn both_have_a_cause_of_their_own() {
    let saturating = causes("pytorch-fx-qat");
    assert_eq!(saturating.len(), 3);
    let words = "the target saturates at its type's codes 0 to 255, the model at 0 to 127";
    for (name, why, explains, of) in saturating {
        assert_eq!((name.as_str(), why.as_str()), ("saturation", words));
        assert_eq!(explains, of);
    }
    let weights = causes("pytorch-fx-fbgemm");
    assert_eq!(weights.len(), 5);
    for (name, why, explains, of) in weights {
        assert_eq!(name, "weight codes");
        assert!(
            why.contains("w * f32(1 / s) on the target, w / s in the file"),
            "{why}"
        );
        assert_eq!(explains, of);
    }
}

/// Codes of 8 unsigned bits where the target's own grid ends at 127: counted, no panic.
#[test]
fn recorded_codes_beyond_the_targets_grid_are_differences() {
    for (recording, target) in [
        ("pytorch-fx-qat-engine", "exact"),
        ("pytorch-fx-qat-engine", "tensorrt"),
        ("pytorch-fx-qnnpack", "tensorrt"),
        ("pytorch-fx-qat-engine", "vitis-dpu"),
        ("brevitas-qonnx-pow2", "vitis-dpu"),
        ("ort-qdq-u8", "tensorrt"),
    ] {
        let folder = golden("toolchains").join(recording);
        let run = run(args!["verify", folder, "--target", target]);
        assert_eq!(run.code, Some(1), "{recording}, {target}: {}", run.stderr);
        assert!(
            run.stdout.contains("not reproduced"),
            "{recording}, {target}"
        );
    }
}

#[test]
fn the_code_beyond_the_grid_is_named() {
    let folder = golden("toolchains/pytorch-fx-qat");
    let engine = golden("toolchains/pytorch-fx-qat-engine");
    let (run, json, _) = report(args![
        folder.join("model.onnx"),
        "--target",
        "exact",
        "--input",
        folder.join("inputs.npz"),
        "--recorded",
        &engine,
    ]);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    let why = "recorded code 131 lies outside of 0 to 127, the codes of the target";
    let layers = list(&json["layers"]).iter();
    let named = layers.filter(|layer| layer["cause"]["text"] == why).count();
    assert!(named > 0);

    // As a reference such a recording is refused: layers would be fed with it.
    let run = self::run(args![
        folder.join("model.onnx"),
        "--target",
        "fbgemm",
        "--input",
        folder.join("inputs.npz"),
        "--reference",
        engine,
    ]);
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    for part in [
        "activation_post_process_6/Clip_output_0",
        "code 131 lies outside of 0 to 127",
    ] {
        assert!(run.stderr.contains(part), "{}", run.stderr);
    }
    assert_eq!(run.stderr.trim_end().lines().count(), 1, "{}", run.stderr);
}

/// A model that stores codes is not fed with others.
#[test]
fn input_codes_beyond_the_models_type_are_an_error() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let inputs = folder.path().join("inputs.npz");
    let mut codes = vec![0i16; 64];
    codes[5] = 300;
    let name = "serving_default_image:0";
    Npz::new(&inputs).add(name, &[1, 8, 8, 1], &codes).finish();
    let run = run(args![
        golden("toolchains/tflite-ptq-ref/model.tflite"),
        "--target",
        "tflite-reference",
        "--input",
        inputs,
    ]);
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    let error = run.stderr.trim_end();
    let what = format!("input '{name}': code 300 lies outside of -128 to 127");
    assert!(
        error.contains(&what) && error.lines().count() == 1,
        "{error}"
    );
}
