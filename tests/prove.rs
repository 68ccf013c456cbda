//! Proofs: never against a recording, counterexamples that are real inputs, and the numbers of a real network.

use std::collections::BTreeMap;
use std::path::Path;

use align_check::check::{Check, Mode, Target, Tolerance};
use align_check::inputs;
use align_check::prove::{Certificate, prove};
use align_check::recording::{self, Folder};
use align_check_graph::{Limits, Model};
use align_check_simulators::kernels::Isa;
use align_check_simulators::network::Network;
use align_check_specs::Spec;
use align_check_tests::onnx::{Onnx, ints};
use align_check_tests::{Npz, args, golden, list, report, run, say, shared, text, whole};
use rayon::prelude::*;

/// Proves a recording's model for the targets that must reproduce it, and checks every layer that was proved equal on
/// the recorded inputs. How many layers were proved, and how many of them differ.
fn contradictions(path: &Path) -> Option<(usize, Vec<String>)> {
    let folder = Folder::open(path).expect("a recording");
    if !folder.has_model()
        || folder.encodings().ok()?.is_some()
        || folder.precision().ok()?.is_some()
    {
        return None;
    }
    let model = Model::read(&folder.model().ok()?, &Limits::default()).ok()?;
    let file = folder.inputs().ok()?;
    let samples = inputs::of_files(&[file], &model.inputs(), false).ok()?;
    let graph = model.graph(&samples.shapes).ok()?;
    let network = Network::new(graph.clone()).ok()?;
    let isa = Isa::detect();
    let exact = Target::new(&network, Spec::resolve("exact").expect("exact"), None, isa).ok()?;
    let (mut proved, mut wrong) = (0, Vec::new());
    for name in &folder.provenance.targets {
        let spec = Spec::resolve(name).expect("a target");
        let Ok(target) = Target::placed((&graph, &network), spec, None, &exact, isa) else {
            continue;
        };
        let proof = prove(&network, &target, &exact, &|_| true, isa);
        let findings = Check {
            network: &network,
            reference: &exact,
            targets: &[target],
            mode: Mode {
                isolated: true,
                cumulative: false,
            },
            tolerance: Tolerance::default(),
            recorded: None,
            recorded_reference: None,
            explain: false,
            drift: false,
            select: &|_| true,
            isa,
            progress: &|| {},
        }
        .run(&samples.samples)
        .expect("a check");
        let found: BTreeMap<&str, u64> = findings.targets[0]
            .layers
            .iter()
            .filter_map(|layer| Some((layer.tensor.as_str(), layer.isolated.as_ref()?.differing)))
            .collect();
        for layer in &proof.layers {
            if let Certificate::Equal(_) = layer.result {
                proved += 1;
                if found
                    .get(layer.tensor.as_str())
                    .is_some_and(|&differing| differing > 0)
                {
                    wrong.push(format!("{}, {name}: {}", path.display(), layer.name));
                }
            }
        }
    }
    Some((proved, wrong))
}

#[test]
#[ignore = "takes minutes: run with --ignored"]
fn no_proof_contradicts_a_run_on_recorded_inputs() {
    let folders = recording::find(&golden("")).expect("recordings");
    let found: Vec<_> = folders
        .par_iter()
        .filter_map(|path| contradictions(path))
        .collect();
    let proved: usize = found.iter().map(|(proved, _)| proved).sum();
    let wrong: Vec<&String> = found.iter().flat_map(|(_, wrong)| wrong).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(proved > 200, "{proved} layers were proved");
    say(format_args!(
        "{proved} layers of {} recordings proved equal for all inputs, none of them differs on recorded ones",
        found.len()
    ));
}

/// A fully connected layer on one pixel, whose window is its input.
fn one_window(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("model.onnx");
    let weights: Vec<i32> = (0..3 * 24).map(|i| (i * 37 + 11) % 101 - 50).collect();
    Onnx::new()
        .input("x", &[1, 24, 1, 1])
        .qdq("x", "xq", 0.05, 3, false)
        .codes("w", &[3, 24, 1, 1], &weights, true)
        .reals("ws", &[], &[1.0 / 64.0])
        .codes("wz", &[], &[0], true)
        .node("DequantizeLinear", &["w", "ws", "wz"], "wd", &[])
        .node("Conv", &["xq", "wd"], "y", &[ints("kernel_shape", &[1, 1])])
        .qdq("y", "yq", 0.09, 7, false)
        .output("yq", &[1, 3, 1, 1])
        .write(&path);
    path
}

#[test]
fn a_counterexample_is_an_input_that_differs() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = one_window(folder.path());
    let (run_, json, _) = report(args!["prove", &model, "-t", "tflite-reference"]);
    assert_eq!(run_.code, Some(1), "{}", run_.stderr);
    let layer = list(&json["layers"])
        .iter()
        .find(|layer| text(&layer["op"]) == "Conv")
        .expect("the convolution");
    assert_eq!(text(&layer["result"]), "differs");
    let example = &layer["example"];
    let codes: Vec<i64> = list(&example["inputs"])
        .iter()
        .map(|v| v.as_i64().expect("a code"))
        .collect();
    assert_eq!(codes.len(), 24);
    // The codes as reals, which the quantizer in front of the layer gives back.
    let reals: Vec<f32> = codes.iter().map(|&code| (code - 3) as f32 * 0.05).collect();
    let input = folder.path().join("input.npz");
    Npz::new(&input).add("x", &[1, 24, 1, 1], &reals).finish();
    let checked = run(args![&model, "-t", "tflite-reference", "--input", &input]);
    assert_eq!(
        checked.code,
        Some(1),
        "{}{}",
        checked.stdout,
        checked.stderr
    );
}

#[test]
fn a_target_equals_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = one_window(folder.path());
    let same = run(args![
        "prove",
        &model,
        "-t",
        "onnxruntime",
        "--against",
        "onnxruntime"
    ]);
    // The input's own quantizer reads reals: it stays open.
    assert_eq!(same.code, Some(3), "{}{}", same.stdout, same.stderr);
    assert!(same.stdout.contains(", 0 differ, "), "{}", same.stdout);
    let none = run(args![
        "prove",
        &model,
        "-t",
        "onnxruntime",
        "--layers",
        "nothing"
    ]);
    assert_eq!(none.code, Some(2), "{}", none.stderr);
    let open = run(args!["prove", &model, "-t", "nnie"]);
    assert_eq!(open.code, Some(3), "{}", open.stdout);
}

/// ONNX Runtime's f32 rule against `TFLite`'s double rounding on EfficientNet-Lite0: every accumulator that a
/// convolution can reach. The model's activations are uint8, so that `tflite-reference` takes its uint8 kernels, whose
/// multiplier is made of `f32(sx * sw)`. With the int8 kernels' multiplier, all in f64, 25 fewer differ: the number of
/// an evaluation by itself, one accumulator after the other.
#[test]
fn every_accumulator_of_efficientnet() {
    let Some(model) = shared("models/efficientnet-lite0/ort-qoperator/model.onnx") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let int8 = folder.path().join("int8.toml");
    let spec = r#"
name = "int8-kernels"
base = "tflite-reference"
summary = "tflite-reference, unsigned codes by the kernels of signed ones"

[unsigned.convolution]
multiplier = { format = "fixed", bits = 31, rounding = "half-away" }
derivation = "f64"
steps = [{ shift = 31, rounding = "half-up" }, { rounding = "half-away" }]
bounds = "half-away"
"#;
    std::fs::write(&int8, spec).expect("a file");
    let int8 = int8.display().to_string();
    for (against, differing) in [("tflite-reference", 3_734_476), (int8.as_str(), 3_734_451)] {
        let (_, json, _) = report(args![
            "prove",
            &model,
            "-t",
            "onnxruntime",
            "--against",
            against
        ]);
        let totals = list(&json["layers"])
            .iter()
            .filter(|layer| text(&layer["op"]).starts_with("QLinearConv"))
            .fold([0; 4], |totals: [u64; 4], layer| {
                let of = |key: &str| whole(&layer[key]);
                let own = [
                    of("channels"),
                    of("equal_channels"),
                    of("reachable"),
                    of("differing"),
                ];
                std::array::from_fn(|i| totals[i] + own[i])
            });
        assert_eq!(
            totals,
            [21_008, 142, 25_280_854_628, differing],
            "{against}"
        );
    }
}
