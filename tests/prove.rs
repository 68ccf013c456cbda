//! Proofs: never against a recording, counterexamples that are real inputs, and the numbers of a real network.

use std::collections::BTreeMap;
use std::path::Path;

use align_check::check::{Check, Mode, Target, Tolerance};
use align_check::inputs;
use align_check::prove::{Certificate, prove};
use align_check::recording::{self, Folder};
use align_check_graph::{Limits, Model};
use align_check_simulators::adapt::ValueGrid;
use align_check_simulators::kernels::Isa;
use align_check_simulators::network::{Layer, Network};
use align_check_simulators::plan::LayerPlan;
use align_check_simulators::run::Runner;
use align_check_simulators::step::{Step, reach};
use align_check_simulators::tensor::Tensor;
use align_check_specs::Spec;
use align_check_tests::onnx::one_window;
use align_check_tests::{Npz, Random, args, golden, list, report, run, say, shared, text, whole};
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
    let samples = inputs::of_files(&[file], &model.inputs(), false, &Limits::default()).ok()?;
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

/// Layers that were proved equal, attacked: sums around every step of both sides, at both ends of what is reachable and
/// at random; and whole inputs at random, at the extremes, and such as weights make extreme.
#[test]
fn proofs_withstand_attacks() {
    let mut random = Random(7);
    let (mut layers, mut sums, mut elements) = (0, 0u64, 0u64);
    for (folder, name) in [
        ("tflite/conv-ref", "tflite-reference"),
        ("tflite/depthwise-ref", "tflite-reference"),
        ("tflite/add-xnn", "xnnpack"),
        ("tflite/uint8-mul-opt", "litert-x86"),
        ("tflite/quantize-opt", "litert-x86"),
        ("toolchains/hawq-v3-tvm", "tvm"),
        ("toolchains/ort-qdq-s8-engine", "onnxruntime"),
    ] {
        let folder = Folder::open(&golden(folder)).expect("a recording");
        let model = Model::read(&folder.model().expect("a model"), &Limits::default());
        let graph = model
            .expect("a model")
            .graph(&BTreeMap::new())
            .expect("shapes");
        let network = Network::new(graph.clone()).expect("layers");
        let isa = Isa::detect();
        let resolve = |name| Spec::resolve(name).expect("a target");
        let exact = Target::new(&network, resolve("exact"), None, isa).expect("the reference");
        let target = Target::placed((&graph, &network), resolve(name), None, &exact, isa);
        let target = target.expect("a target that runs it");
        let proof = prove(&network, &target, &exact, &|_| true, isa);
        for (index, layer) in network.layers.iter().enumerate() {
            let equal = proof.layers.iter().any(|proved| {
                proved.tensor == layer.tensor && matches!(proved.result, Certificate::Equal(_))
            });
            if !equal || target.own.is_some() {
                continue;
            }
            layers += 1;
            let plans = [&exact.plans[index], &target.plans[index]];
            sums += attack_sums(layer, plans, &exact.grids, &mut random);
            elements += attack_inputs(layer, plans, &exact.grids, &mut random);
        }
    }
    assert!(
        layers > 100 && sums > 10_000 && elements > 100_000,
        "{layers} {sums} {elements}"
    );
    say(format_args!(
        "{layers} layers proved equal withstand {sums} directed sums and {elements} elements of directed and random inputs"
    ));
}

/// Sums at which a proved layer is most likely to differ; how many.
fn attack_sums(
    layer: &Layer,
    plans: [&LayerPlan; 2],
    grids: &[ValueGrid],
    random: &mut Random,
) -> u64 {
    let sides = plans.map(|plan| Step::of(layer, plan, Isa::detect()));
    let [Ok(a), Ok(b)] = &sides else { return 0 };
    let Some(reach) = reach(layer, &grids[layer.inputs[0]]) else {
        return 0;
    };
    let mut count = 0;
    for (channel, &reach) in reach.iter().enumerate() {
        let steps = [a, b].map(|side| side.steps(channel, reach));
        let borders = steps.iter().flatten().map(|&(begin, _)| begin);
        let mut sums: Vec<i64> = borders.flat_map(|at| at - 2..=at + 2).collect();
        sums.extend([reach.min, reach.max]);
        let span = usize::try_from(reach.max - reach.min + 1).expect("a span");
        sums.extend((0..64).map(|_| reach.min + random.below(span) as i64));
        for sum in sums
            .into_iter()
            .filter(|sum| (reach.min..=reach.max).contains(sum))
        {
            count += 1;
            assert_eq!(
                a.code(sum, channel),
                b.code(sum, channel),
                "{} {sum}",
                layer.name
            );
        }
    }
    count
}

/// Whole inputs, run on both sides; how many elements came out.
fn attack_inputs(
    layer: &Layer,
    plans: [&LayerPlan; 2],
    grids: &[ValueGrid],
    random: &mut Random,
) -> u64 {
    let mut count = 0;
    for attack in 0..6 {
        let inputs: Option<Vec<Tensor>> = layer
            .inputs
            .iter()
            .zip(&layer.input_shapes)
            .map(|(&value, shape)| {
                let ValueGrid::Codes { grid, .. } = &grids[value] else {
                    return None;
                };
                let span = usize::try_from(grid.max - grid.min + 1).ok()?;
                let codes = (0..shape.iter().product::<usize>()).map(|at| {
                    let code = match attack {
                        0 => grid.min,
                        2 if at % 2 == 0 => grid.min,
                        1 | 2 => grid.max,
                        3 => grid.zero_point.at(0) + (at % 3) as i64 - 1,
                        _ => grid.min + random.below(span) as i64,
                    };
                    code.clamp(grid.min, grid.max) as i32
                });
                Some(Tensor::codes(shape.clone(), codes.collect(), grid.clone()))
            })
            .collect();
        let Some(inputs) = inputs else { return count };
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        let [expected, got] = plans.map(|plan| {
            let runner = Runner {
                layer,
                plan,
                isa: Isa::detect(),
            };
            runner.finish(&inputs, &runner.sums(&inputs))
        });
        assert!(expected.data == got.data, "{}, attack {attack}", layer.name);
        count += got.len() as u64;
    }
    count
}

/// A proof becomes the layer's verdict in a check, where somebody asks for it; what cannot be proved stays tested.
#[test]
fn a_check_says_what_is_proved() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = one_window(folder.path());
    let verdict = |args| {
        let (run, json, _) = report(args);
        assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
        let layers = list(&json["layers"]);
        let conv = layers.iter().find(|layer| text(&layer["op"]) == "Conv");
        text(&conv.expect("the convolution")["verdict"]).to_owned()
    };
    assert_eq!(verdict(args![&model, "-t", "exact"]), "aligned, tested");
    assert_eq!(
        verdict(args![&model, "-t", "exact", "--prove"]),
        "aligned, proved"
    );
    let recorded = run(args![
        &model,
        "-t",
        "exact",
        "--prove",
        "--recorded",
        folder.path()
    ]);
    assert_eq!(recorded.code, Some(2), "{}", recorded.stderr);
}

/// An accumulator that can overflow is no proof, and has a worst-case input.
#[test]
fn a_narrow_accumulator_has_an_input_that_overflows_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = one_window(folder.path());
    let spec = folder.path().join("narrow.toml");
    let own =
        std::fs::read_to_string(align_check_tests::root().join("specs/tflite-reference.toml"));
    let own = own
        .expect("a spec")
        .replace("bits = 32", "bits = 16")
        .replace("\"wrap\"", "\"saturate\"");
    std::fs::write(&spec, own).expect("a file");
    let (_, json, _) = report(args!["prove", &model, "-t", &spec]);
    let conv = list(&json["layers"])
        .iter()
        .find(|layer| text(&layer["op"]) == "Conv");
    let over = &conv.expect("the convolution")["overflow"];
    let channel = whole(&over["channel"]) as i64;
    let weight = |k: i64| ((channel * 24 + k) * 37 + 11) % 101 - 50;
    let codes = list(&over["inputs"])
        .iter()
        .map(|code| code.as_i64().expect("a code"));
    let sum: i64 = codes
        .enumerate()
        .map(|(k, code)| (code - 3) * weight(k as i64))
        .sum();
    assert_eq!(Some(sum), over["sum"].as_i64());
    assert!(!(-32768..=32767).contains(&sum), "{sum}");
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
