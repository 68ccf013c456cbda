//! `explain`: the steps lead to the simulated code, everywhere, and a person can redo them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use align_check::check::Target;
use align_check::inputs::{self, ArrayKind, Sample};
use align_check::recording::{self, Folder};
use align_check_graph::{Limits, Model};
use align_check_simulators::adapt::{ValueGrid, put_on};
use align_check_simulators::explain::{Unexplained, explain};
use align_check_simulators::kernels::Isa;
use align_check_simulators::network::Network;
use align_check_simulators::run::Runner;
use align_check_simulators::tensor::Tensor;
use align_check_specs::Spec;
use align_check_tests::onnx::{Onnx, one_window, one_window_of};
use align_check_tests::{Npz, Random, args, golden, list, report, run, say, text};
use rayon::prelude::*;
use serde_json::Value;

/// What was explained: elements by how their layer ends, and kinds of layers without a text.
#[derive(Default)]
struct Tally {
    explained: BTreeMap<String, u64>,
    without: BTreeMap<String, u64>,
    wrong: Vec<String>,
}

impl Tally {
    fn merge(mut self, other: Self) -> Self {
        for (key, count) in other.explained {
            *self.explained.entry(key).or_default() += count;
        }
        for (key, count) in other.without {
            *self.without.entry(key).or_default() += count;
        }
        self.wrong.extend(other.wrong);
        self
    }
}

/// The network's inputs on a target's grids. The order of elements does not matter here.
fn begin(network: &Network, sample: &Sample, grids: &[ValueGrid]) -> Vec<Option<Arc<Tensor>>> {
    let mut values = vec![None; network.graph.values.len()];
    for &input in &network.graph.inputs {
        let array = &sample.inputs[network.name(input)];
        let shape = network.graph.value(input).shape.clone();
        let tensor = match &grids[input] {
            ValueGrid::Codes { grid, .. } => {
                let code = |&v: &f64| {
                    let code = match array.kind {
                        ArrayKind::Float => {
                            (v / grid.scale.at(0)).round() as i64 + grid.zero_point.at(0)
                        }
                        _ => v as i64,
                    };
                    code.clamp(grid.min, grid.max) as i32
                };
                Tensor::codes(shape, array.values.iter().map(code).collect(), grid.clone())
            }
            _ => Tensor::real(shape, array.values.clone()),
        };
        values[input] = Some(Arc::new(tensor));
    }
    values
}

/// Runs a target freely, and explains some elements of each of its layers.
fn explained(name: &str, target: &Target, network: &Network, sample: &Sample, tally: &mut Tally) {
    let mut random = Random(3);
    let own = target.network(network);
    let mut values = begin(network, sample, &target.grids);
    values.resize(own.graph.values.len(), None);
    for (layer, plan) in own.layers.iter().zip(&target.plans) {
        let inputs: Vec<Arc<Tensor>> = layer
            .inputs
            .iter()
            .map(|&value| {
                let tensor = values[value].clone().expect("a tensor that was made");
                put_on(&target.grids[value], &tensor).map_or(tensor, Arc::new)
            })
            .collect();
        let inputs: Vec<&Tensor> = inputs.iter().map(|t| &**t).collect();
        let runner = Runner {
            layer,
            plan,
            isa: Isa::detect(),
        };
        let sums = runner.sums(&inputs);
        let out = runner.finish(&inputs, &sums);
        if layer.is_compared() && !out.is_empty() {
            let picks = [
                0,
                out.len() - 1,
                random.below(out.len()),
                random.below(out.len()),
            ];
            for index in picks {
                match explain(&runner, &target.spec, &inputs, &sums, &out, index) {
                    Ok(explanation) => {
                        assert!(!explanation.steps.is_empty(), "{name}: {}", layer.name);
                        let end = format!("{:?}", plan.finish);
                        *tally.explained.entry(end).or_default() += 1;
                    }
                    Err(Unexplained::NoText(what)) => {
                        *tally.without.entry(what).or_default() += 1;
                    }
                    Err(wrong) => tally
                        .wrong
                        .push(format!("{name}: {} {index}: {wrong}", layer.name)),
                }
            }
        }
        values[layer.output] = Some(Arc::new(out));
    }
}

/// No recording of a network exists of these, and their arithmetic is of its own kind.
const UNRECORDED: [&str; 2] = ["nnie", "nnie-mqbench"];

/// Explains a recording's model under `exact`, the targets that reproduce it, and [`UNRECORDED`] ones, on its first
/// sample.
fn of_recording(path: &Path) -> Option<Tally> {
    let folder = Folder::open(path).expect("a recording");
    if !folder.has_model() || folder.encodings().ok()?.is_some() {
        return None;
    }
    let types = folder.precision().ok()?;
    let model = Model::read(&folder.model().ok()?, &Limits::default()).ok()?;
    let samples = inputs::of_files(
        &[folder.inputs().ok()?],
        &model.inputs(),
        false,
        &Limits::default(),
    )
    .ok()?;
    let graph = model.graph(&samples.shapes).ok()?;
    let ends = |tensor: &str| types.as_ref().is_some_and(|types| types.names(tensor));
    let network = Network::cut_at(graph.clone(), &ends).ok()?;
    let isa = Isa::detect();
    let exact = Target::new(&network, Spec::resolve("exact").expect("exact"), None, isa).ok()?;
    let mut tally = Tally::default();
    let sample = samples.samples.first()?;
    let shown = path.display().to_string();
    explained(&shown, &exact, &network, sample, &mut tally);
    let recorded = folder.provenance.targets.iter().map(String::as_str);
    for name in recorded.chain(UNRECORDED) {
        let spec = Spec::resolve(name).expect("a target");
        if let Ok(target) = Target::placed((&graph, &network), spec, types.as_ref(), &exact, isa) {
            explained(
                &format!("{shown}, {name}"),
                &target,
                &network,
                sample,
                &mut tally,
            );
        }
    }
    Some(tally)
}

/// Every recording, every target, every layer: what is printed is what was simulated.
#[test]
fn steps_lead_to_the_simulated_code() {
    let folders = recording::find(&golden("")).expect("recordings");
    let tally = folders
        .par_iter()
        .filter_map(|path| of_recording(path))
        .reduce(Tally::default, Tally::merge);
    assert!(
        tally.wrong.is_empty(),
        "{} wrong: {:#?}",
        tally.wrong.len(),
        &tally.wrong[..tally.wrong.len().min(10)]
    );
    let explained: u64 = tally.explained.values().sum();
    let without: u64 = tally.without.values().sum();
    say(format_args!(
        "{explained} elements explained, {without} of layers without a text: {:?}; {:?}",
        tally.explained, tally.without
    ));
    for end in [
        "Requantize",
        "Letter",
        "Float",
        "Table",
        "Tables",
        "ConvAdd",
        "Pair",
        "Average",
        "Concat",
        "Dequantize",
        "Fixed",
        "Thresholds",
        "Gfpq",
    ] {
        assert!(
            tally.explained.get(end).is_some_and(|&n| n >= 4),
            "{end}: {:?}",
            tally.explained
        );
    }
    for has_text in ["a sum of reals", "GFPQ", "pairs of products"] {
        let missing = tally.without.keys().find(|what| what.contains(has_text));
        assert_eq!(missing, None);
    }
    assert!(
        explained > 10_000 && without * 8 < explained,
        "{explained} {without}"
    );
}

fn number(value: &Value) -> i128 {
    text(&value["value"]).parse().expect("an integer")
}

/// The fixed-point side of a convolution, redone from what is printed alone, with another formula for each step.
#[test]
fn a_person_can_redo_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = one_window(folder.path());
    let input = folder.path().join("x.npz");
    let reals: Vec<f32> = (0..24)
        .map(|i| ((i * 71 + 13) % 200) as f32 * 0.05)
        .collect();
    Npz::new(&input).add("x", &[1, 24, 1, 1], &reals).finish();
    for channel in 0..3 {
        let element = format!("0,{channel},0,0");
        let (run, json, _) = report(args![
            "explain",
            &model,
            "-t",
            "tflite-reference",
            "-l",
            "node_y",
            "-e",
            &element,
            "-i",
            &input
        ]);
        assert!([Some(0), Some(1)].contains(&run.code), "{}", run.stderr);
        assert_eq!(text(&json["schema"]), "align-check/explain/1");
        let side = &json["sides"][1];
        assert_eq!(text(&side["role"]), "target");
        let reads = list(&side["reads"]);
        assert_eq!(reads.len(), 24);
        let mut sum = 0i128;
        for read in reads {
            let weight = i128::from(read["factor"].as_i64().expect("a weight"));
            sum += (number(&read["value"]) - 3) * weight;
        }
        let steps = list(&side["steps"]);
        let step = |name: &str| steps.iter().find(|step| text(&step["name"]) == name);
        assert_eq!(number(&step("accumulator").expect("a sum")["value"]), sum);
        let m = step("multiplier").expect("a multiplier");
        let power: i32 = text(&m["how"])
            .split("2^")
            .nth(1)
            .and_then(|text| text.parse().ok())
            .expect("a power of two");
        // Two roundings: the high product half up, the rest half away.
        let high = (sum * number(&m["value"]) + (1 << 30)).div_euclid(1 << 31);
        let rest = (-power - 31) as u32;
        let half = (1i128 << rest) >> 1;
        let rounded = high.signum() * ((high.abs() + half) >> rest);
        // The labels of TFLite are signed: zero point 7 - 128, and back.
        let code = (rounded - 121).clamp(-128, 127) + 128;
        assert_eq!(number(&side["result"]), code, "{channel}: {}", run.stdout);
    }
}

fn real(value: &Value) -> f64 {
    text(&value["value"]).parse().expect("a real")
}

/// A convolution on NNIE's logarithmic grid, redone from what is printed: sums in the printed order, then the level by
/// a search over all of them instead of a formula.
#[test]
fn a_person_can_redo_a_logarithmic_one() {
    let model = golden("demo").join("model.qonnx.onnx");
    for element in ["0,1,6,3", "0,12,1,4", "0,5,0,0"] {
        let (run, json, _) = report(args![
            "explain",
            &model,
            "-t",
            "nnie",
            "-l",
            "/stem/Conv",
            "-e",
            element
        ]);
        assert!([Some(0), Some(1)].contains(&run.code), "{}", run.stderr);
        let side = &json["sides"][1];
        let products = list(&side["reads"]);
        assert_eq!(products.len(), 9);
        let mut sum = 0.0;
        for read in products {
            let product = real(&read["value"]) * real(&read["real_factor"]);
            assert_eq!(product, real(&read["real_product"]), "{element}");
            sum += product;
        }
        let steps = list(&side["steps"]);
        let step = |name: &str| steps.iter().find(|step| text(&step["name"]) == name);
        assert_eq!(real(&step("accumulator").expect("a sum")["value"]), sum);
        let bias = real(&step("bias").expect("a bias")["value"]);
        let x = (sum + bias).max(0.0) as f32;
        let zone = real(&step("zero zone").expect("a zero zone")["value"]);
        // The zone ends one octave below the smallest level.
        let level = |k: i32| 2.0 * zone * (f64::from(k) / 16.0).exp2();
        let away = |k: i32| (f64::from(x) / level(k)).ln().abs();
        let nearest = (0..=127).min_by(|&a, &b| away(a).total_cmp(&away(b)));
        let wanted = match nearest {
            _ if f64::from(x) <= zone => 0.0,
            Some(k) => level(k) as f32,
            None => unreachable!("128 levels"),
        };
        let got = real(&side["result"]);
        // Other functions of the platform: the same level, to the last bits.
        assert!(
            (got - f64::from(wanted)).abs() <= got * 1e-6,
            "{element}: {got} {wanted}"
        );
    }
}

/// Two products of bytes that leave 16 bits are written down, and what they lose is in the sum.
#[test]
fn saturating_pairs_are_written_down() {
    let folder = tempfile::tempdir().expect("a folder");
    // With the largest code everywhere, neighbouring large weights of one sign saturate.
    let weights: Vec<i32> = (0..3 * 24).map(|i| (i * 37 + 11) % 251 - 125).collect();
    let model = one_window_of(folder.path(), &weights);
    let input = folder.path().join("x.npz");
    Npz::new(&input)
        .add("x", &[1, 24, 1, 1], &[100.0; 24])
        .finish();
    let mut saturated = 0;
    for channel in 0..3 {
        let element = format!("0,{channel},0,0");
        let (run, json, _) = report(args![
            "explain",
            &model,
            "-t",
            "onnxruntime-avx2",
            "-l",
            "node_y",
            "-e",
            &element,
            "-i",
            &input
        ]);
        assert!([Some(0), Some(1)].contains(&run.code), "{}", run.stderr);
        let steps = list(&json["sides"][1]["steps"]);
        let mut sums = steps.iter().filter(|s| text(&s["name"]) == "accumulator");
        let whole = number(&sums.next().expect("a sum")["value"]);
        let pairs = steps.iter().filter(|s| text(&s["name"]) == "pair");
        let mut lost = 0;
        for pair in pairs {
            // `a * v + b * w = sum, in 16 bits`
            let how = text(&pair["how"]);
            let (terms, exact) = how.split_once(" = ").expect("a sum");
            let exact: i128 = exact
                .strip_suffix(", in 16 bits")
                .and_then(|sum| sum.parse().ok())
                .expect("a number");
            let product = |term: &str| -> i128 {
                let factors = term
                    .split(" * ")
                    .map(|f| f.parse::<i128>().expect("a factor"));
                factors.product()
            };
            assert_eq!(terms.split(" + ").map(product).sum::<i128>(), exact);
            assert_eq!(number(&pair["value"]), exact.clamp(-32768, 32767));
            lost += number(&pair["value"]) - exact;
            saturated += 1;
        }
        let after = sums.next().map_or(whole, |sum| number(&sum["value"]));
        assert_eq!(after, whole + lost, "{channel}");
    }
    assert!(saturated > 0, "no pair saturates");
}

#[test]
fn errors_say_what_there_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = one_window(folder.path());
    let fails = |args, code: i32, wanted: &[&str]| {
        let run = run(args);
        assert_eq!(run.code, Some(code), "{}{}", run.stdout, run.stderr);
        assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
        for wanted in wanted {
            assert!(run.stderr.contains(wanted), "{wanted}: {}", run.stderr);
        }
    };
    let start = |layer: &'static str| args!["explain", &model, "-t", "tflite", "-l", layer];
    fails(start("nothing"), 2, &["no layer 'nothing'", "(Conv)"]);
    fails(start("*"), 2, &["several layers"]);
    let mut outside = start("node_y");
    outside.extend(args!["-e", "0,3,0,0"]);
    fails(outside, 2, &["element 0,3,0,0 is outside", "1,3,1,1"]);
    let mut late = start("node_y");
    late.extend(args!["--sample", "9"]);
    fails(late, 2, &["--sample 9", "there are 4"]);
}

/// A layer without a text is said by its name, and is no invented text.
#[test]
fn what_has_no_text_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("softmax.onnx");
    Onnx::new()
        .input("x", &[1, 8])
        .qdq("x", "xq", 0.05, 3, false)
        .node("Softmax", &["xq"], "y", &[])
        .qdq("y", "yq", 1.0 / 256.0, 0, false)
        .output("yq", &[1, 8])
        .write(&path);
    let run = run(args!["explain", &path, "-t", "tflite", "-l", "node_y"]);
    assert_eq!(run.code, Some(3), "{}{}", run.stdout, run.stderr);
    assert!(run.stderr.contains("softmax"), "{}", run.stderr);
    assert!(
        run.stderr.contains("no step-by-step text"),
        "{}",
        run.stderr
    );
}

/// Next to what a chip made of it.
#[test]
fn recordings_stand_beside() {
    let folder = golden("tflite/conv-ref");
    let model = folder.join("model.tflite");
    let all = run(args![
        "explain",
        &model,
        "-t",
        "tflite-reference",
        "-l",
        "nothing",
        "--recorded",
        &folder
    ]);
    assert_eq!(all.code, Some(2), "{}", all.stderr);
    let names = all
        .stderr
        .split('\'')
        .nth(3)
        .expect("a layer's name")
        .to_owned();
    let (run, json, _) = report(args![
        "explain",
        &model,
        "-t",
        "tflite-reference",
        "-l",
        &names,
        "--recorded",
        &folder
    ]);
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    assert_eq!(json["recorded"], json["sides"][1]["result"]);
    assert_eq!(text(&json["fed_with"]), "recording");
}
