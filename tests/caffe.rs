//! Caffe networks against what `PyTorch` computes on them (`golden/toolchains/nnie-caffe`): in float every layer
//! type of the importer; with clip values NNIE's targets.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use align_check::check::Target;
use align_check_graph::{Limits, Model};
use align_check_simulators::kernels::Isa;
use align_check_simulators::network::Network;
use align_check_simulators::quantize::gfpq::Gfpq;
use align_check_simulators::run::Runner;
use align_check_simulators::tensor::Tensor;
use align_check_specs::Spec;
use align_check_tests::{args, golden, run};
use ndarray::ArrayD;
use ndarray_npy::NpzReader;

const FOLDER: &str = "toolchains/nnie-caffe";

fn arrays(file: &str) -> BTreeMap<String, ArrayD<f32>> {
    let file = File::open(golden(FOLDER).join(file)).expect("a recording");
    let mut npz = NpzReader::new(file).expect("an npz");
    let names = npz.names().expect("names");
    let array = |name: String| {
        let array = npz.by_name(&name).expect("an array of floats");
        (name, array)
    };
    names.into_iter().map(array).collect()
}

fn reals(array: &ArrayD<f32>) -> Vec<f64> {
    array.iter().map(|&x| f64::from(x)).collect()
}

/// A network bound to a batch, each layer ending at every tensor that `names` holds.
fn network(
    prototxt: &str,
    weights: &str,
    batch: usize,
    names: &BTreeMap<String, ArrayD<f32>>,
) -> Network {
    let folder = golden(FOLDER);
    let model = Model::read_with(
        &folder.join(prototxt),
        Some(&folder.join(weights)),
        &Limits::default(),
    )
    .unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(model.format(), "caffe");
    let shape = |input: align_check_graph::InputInfo| {
        let mut shape: Vec<usize> = input.dims.iter().map(|dim| dim.expect("given")).collect();
        shape[0] = batch;
        (input.name, shape)
    };
    let shapes = model.inputs().into_iter().map(shape).collect();
    let graph = model.graph(&shapes).unwrap_or_else(|e| panic!("{e}"));
    Network::cut_at(graph, &|name| names.contains_key(name)).unwrap_or_else(|e| panic!("{e}"))
}

/// Every layer's output under a target, by tensor name; none where the target refuses a layer.
fn outputs(
    network: &Network,
    target: &str,
    inputs: &BTreeMap<String, ArrayD<f32>>,
) -> BTreeMap<String, Tensor> {
    let isa = Isa::detect();
    let resolve = |name: &str| Spec::resolve(name).unwrap_or_else(|e| panic!("{e}"));
    let exact = Target::new(network, resolve("exact"), None, isa).unwrap_or_else(|e| panic!("{e}"));
    let target =
        Target::new(network, resolve(target), Some(&exact), isa).unwrap_or_else(|e| panic!("{e}"));
    let mut values: Vec<Option<Tensor>> = vec![None; network.graph.values.len()];
    for &input in &network.graph.inputs {
        let given = &inputs[network.name(input)];
        let shape = network.graph.shape(input).to_vec();
        assert_eq!(shape, given.shape());
        values[input] = Some(Tensor::real(shape, reals(given)));
    }
    let mut made = BTreeMap::new();
    for (layer, plan) in network.layers.iter().zip(&target.plans) {
        let runner = Runner { layer, plan, isa };
        let inputs: Vec<&Tensor> = layer
            .inputs
            .iter()
            .map(|&i| values[i].as_ref().expect("layers are in order"))
            .collect();
        let out = runner.finish(&inputs, &runner.sums(&inputs));
        made.insert(layer.tensor.clone(), out.clone());
        values[layer.output] = Some(out);
    }
    made
}

/// Holds every recorded tensor against what was made: to half a unit in the last place of `f32`, in which it was
/// recorded, of the largest number of its layer.
fn equal_in_float(
    made: &BTreeMap<String, Tensor>,
    recorded: &BTreeMap<String, ArrayD<f32>>,
) -> usize {
    let mut elements = 0;
    for (name, expected) in recorded {
        let made = made.get(name).unwrap_or_else(|| panic!("no tensor {name}"));
        assert_eq!(made.shape, expected.shape(), "{name}");
        let largest = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        let mut bound = f64::from(largest) / f64::from(1 << 23);
        if name == "interp" {
            // Its weights are f32, as Caffe's are; PyTorch's were f64 here.
            bound *= 8.0;
        }
        for (i, (a, b)) in made.to_real().iter().zip(expected).enumerate() {
            let difference = (a - f64::from(*b)).abs();
            assert!(difference <= bound, "{name}[{i}]: {a} for {b}");
        }
        elements += expected.len();
    }
    elements
}

#[test]
fn the_float_network_is_pytorchs() {
    let inputs = arrays("inputs.npz");
    let recorded = arrays("float_outputs.npz");
    let network = network("float.prototxt", "model.caffemodel", 8, &recorded);
    assert!(equal_in_float(&outputs(&network, "exact", &inputs), &recorded) > 20_000);
}

#[test]
fn every_layer_type_is_pytorchs() {
    let mut recorded = arrays("operators.npz");
    let inputs = ["x", "v"].map(|name| (name.to_owned(), recorded.remove(name).unwrap()));
    let network = network("operators.prototxt", "operators.caffemodel", 2, &recorded);
    let made = outputs(&network, "exact", &inputs.into());
    assert!(equal_in_float(&made, &recorded) > 20_000);
}

/// The model's own exponents reach NNIE's targets: nothing is derived anew. The one layer without clip values, a
/// grouped convolution, is the first to differ: the chip quantizes its weights all the same.
#[test]
fn nnie_takes_the_clip_values_as_they_are() {
    let inputs = arrays("inputs.npz");
    let recorded = arrays("outputs.npz");
    let network = network("model.prototxt", "model.caffemodel", 8, &recorded);
    for target in ["exact", "nnie", "nnie-mqbench"] {
        let made = outputs(&network, target, &inputs);
        let mut differing = Vec::new();
        for (name, expected) in &recorded {
            let pairs = made[name]
                .to_real()
                .into_owned()
                .into_iter()
                .zip(reals(expected));
            if pairs.filter(|(a, b)| a != b).count() > 0 {
                differing.push(name.as_str());
            }
        }
        let behind = [
            "average.gfpq",
            "concat.gfpq",
            "depthwise.gfpq",
            "down.gfpq",
            "pointwise.gfpq",
        ];
        let expected: &[&str] = if target == "exact" { &[] } else { &behind };
        assert_eq!(differing, expected, "{target}");
        let reals = arrays("real_outputs.npz");
        if target == "exact" {
            assert_eq!(equal_in_float(&made, &reals), 6_560);
        }
    }
    // A target whose grids are the model's has no logarithmic one.
    for target in ["hls4ml", "finn"] {
        let spec = Spec::resolve(target).unwrap();
        let error = Target::new(&network, spec, None, Isa::detect()).map(|_| ());
        let error = error.unwrap_err().to_string();
        assert!(error.contains("logarithmic quantizer"), "{error}");
    }
    // A target with linear grids makes them from the ranges.
    let spec = Spec::resolve("tensorrt").unwrap();
    let target = Target::new(&network, spec, None, Isa::detect()).unwrap();
    let said = |plan: &align_check_simulators::plan::LayerPlan| plan.mismatches.join("; ");
    let all: String = target.plans.iter().map(said).collect();
    assert!(
        all.contains("the model's grid is logarithmic (GFPQ 8 bit)"),
        "{all}"
    );
}

/// Rows of the mapper's table, and what lies between them; the same constants in the importer and in the
/// quantizer.
#[test]
fn clip_values_and_ranges_have_one_exponent() {
    use align_check_graph::Gfpq as Clip;
    for (bits, steps) in [(8, 16), (16, 128)] {
        let own = Gfpq::vendor(bits).unwrap();
        for row in -10 * steps..=10 * steps {
            let clip = f64::from(row) / f64::from(steps);
            let exact = clip.exp2() as f32;
            // As a file writes it.
            let written: f32 = format!("{exact:.6e}").parse().unwrap();
            let z = row - own.max_code();
            for clip in [exact, written] {
                assert_eq!(Clip::of_clip(bits, clip).unwrap().z, Some(z), "{clip}");
            }
            let above = Clip::of_clip(bits, exact * 1.002).unwrap();
            assert_eq!(above.z, Some(own.z_of(exact * 1.002)));
            assert!(above.off_table(exact * 1.002).is_some());
        }
    }
    assert_eq!(Clip::of_clip(8, 0.0), None);
    assert_eq!(Clip::of_clip(8, f32::NAN), None);
    assert_eq!(Clip::of_clip(12, 1.0), None);
}

/// On the command line: weights beside the prototxt or by name, and one line where they are missing.
#[test]
fn command_line() {
    let folder = golden(FOLDER);
    let inputs = folder.join("inputs.npz");
    let model = folder.join("model.prototxt");
    let found = run(args![&model, "--target", "nnie", "--input", &inputs]);
    assert_eq!(found.code, Some(1), "{}{}", found.stdout, found.stderr);
    assert!(
        found.stdout.contains("first divergent layer: depthwise"),
        "{}",
        found.stdout
    );
    let other = folder.join("float.prototxt");
    let missing = run(args![&other, "--target", "exact", "--input", &inputs]);
    assert_eq!(missing.code, Some(2), "{}", missing.stdout);
    for part in [
        "float.prototxt",
        "stem",
        "it needs weights",
        "float.caffemodel",
        "--weights",
    ] {
        assert!(missing.stderr.contains(part), "{part}: {}", missing.stderr);
    }
    assert_eq!(missing.stderr.lines().count(), 1, "{}", missing.stderr);
    let weights = folder.join("model.caffemodel");
    let elsewhere = tempfile::tempdir().expect("a folder");
    let copy = elsewhere.path().join("model.prototxt");
    std::fs::copy(&model, &copy).expect("a copy");
    let check = args![&copy, "--target", "nnie", "--input", &inputs];
    let without = run(check.clone());
    assert_eq!(without.code, Some(2), "{}", without.stdout);
    let with = [check, args!["--weights", &weights]].concat();
    let named = run(with);
    assert_eq!(named.code, Some(1), "{}{}", named.stdout, named.stderr);
    assert!(
        named.stdout.contains("first divergent layer: depthwise"),
        "{}",
        named.stdout
    );
    // The float network loads, too; there is nothing to check in it.
    let float = run(args![
        &other,
        "--weights",
        &weights,
        "--target",
        "exact",
        "--input",
        &inputs
    ]);
    assert_eq!(float.code, Some(2), "{}", float.stdout);
    assert!(
        float.stderr.contains("nothing is quantized"),
        "{}",
        float.stderr
    );
    let alone = run(args![&weights, "--target", "exact"]);
    assert_eq!(alone.code, Some(2));
    assert!(
        alone.stderr.contains("name the prototxt"),
        "{}",
        alone.stderr
    );
    let onnx = golden("toolchains/float/model.onnx");
    let stray = run(args![onnx, "--weights", &weights, "--target", "exact"]);
    assert_eq!(stray.code, Some(2));
    assert!(stray.stderr.contains("no prototxt"), "{}", stray.stderr);
}

/// A folder that `record` makes of a Caffe network holds its weights too.
#[test]
fn a_recording_takes_the_weights_along() {
    let folder = golden(FOLDER);
    let out = tempfile::tempdir().unwrap();
    let made = out.path().join("recording");
    let found = run(args![
        "record",
        folder.join("model.prototxt"),
        "--from",
        folder.join("outputs.npz"),
        "--input",
        folder.join("inputs.npz"),
        "--out",
        &made,
    ]);
    assert_eq!(found.code, Some(0), "{}{}", found.stdout, found.stderr);
    let names: Vec<String> = fs::read_dir(&made)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    for name in [
        "model.prototxt",
        "model.caffemodel",
        "inputs.npz",
        "outputs.npz",
    ] {
        assert!(names.iter().any(|n| n == name), "{name}: {names:?}");
    }
    let verified = run(args!["verify", &made, "--target", "exact"]);
    assert_eq!(
        verified.code,
        Some(0),
        "{}{}",
        verified.stdout,
        verified.stderr
    );
    assert!(Path::new(&made).join("recording.toml").is_file());
}
