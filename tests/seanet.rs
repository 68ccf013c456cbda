//! 127 operators of a network with int16 activations, against what TensorFlow Lite Micro expects of them
//! (`../shared/recordings/tflm-seanet`: third-party models, inputs and golden outputs).

use std::fs;
use std::path::{Path, PathBuf};

use align_check::verify;
use align_check_graph::{Limits, Model};
use align_check_simulators::kernels::Isa;
use align_check_tests::{Npz, say, shared};

const TARGET: &str = "tflite-int16x8";

/// The integers of a file with commas between them, and whether its name calls them `int32`.
fn read(path: &Path) -> (Vec<i64>, bool) {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let numbers = text
        .split([',', '\n', '\r'])
        .map(str::trim)
        .filter(|field| !field.is_empty())
        .map(|field| field.parse().expect("an integer"))
        .collect();
    (numbers, path.to_string_lossy().ends_with("int32.csv"))
}

/// The file of an array: `NAME_WHAT_int16.csv`, or `int32`.
fn csv(folder: &Path, name: &str, what: &str) -> PathBuf {
    let file = |kind: &str| folder.join(format!("{name}_{what}_{kind}.csv"));
    let [short, long] = ["int16", "int32"].map(file);
    if short.is_file() { short } else { long }
}

fn add(npz: Npz, key: &str, shape: &[usize], (numbers, long): &(Vec<i64>, bool)) -> Npz {
    if *long {
        let codes: Vec<i32> = numbers.iter().map(|&v| v as i32).collect();
        npz.add(key, shape, &codes)
    } else {
        let codes: Vec<i16> = numbers.iter().map(|&v| v as i16).collect();
        npz.add(key, shape, &codes)
    }
}

/// Elements of one model's output, and how many of them differ.
fn differing(folder: &Path, name: &str) -> (u64, u64) {
    let file = folder.join(format!("{name}.tflite"));
    let model = Model::read(&file, &Limits::default()).unwrap_or_else(|e| panic!("{e}"));
    let shapes = std::collections::BTreeMap::new();
    let graph = model.graph(&shapes).unwrap_or_else(|e| panic!("{e}"));
    let recording = tempfile::tempdir().expect("a temporary folder");
    let own = recording.path();
    fs::copy(&file, own.join("model.tflite")).expect("a copy");
    let mut inputs = Npz::new(&own.join("inputs.npz"));
    for (index, info) in model.inputs().iter().enumerate() {
        let numbers = read(&csv(folder, name, &format!("input{index}")));
        let shape: Vec<usize> = info.dims.iter().map(|dim| dim.unwrap_or(1)).collect();
        inputs = add(inputs, &info.name, &shape, &numbers);
    }
    inputs.finish();
    let golden = read(&csv(folder, name, "golden"));
    let output = graph.value(graph.outputs[0]);
    let outputs = Npz::new(&own.join("outputs.npz"));
    add(outputs, &output.name, &[golden.0.len()], &golden).finish();
    let text = "tool = \"TensorFlow Lite Micro\"\nmodel = \"model.tflite\"\n";
    fs::write(own.join("recording.toml"), text).expect("a file");
    let folders = [own.to_path_buf()];
    let found = verify::verify(
        &folders,
        &[TARGET.to_owned()],
        Isa::detect(),
        &Limits::default(),
        &|_| {},
    );
    let found = found.unwrap_or_else(|e| panic!("{name}: {e:?}"));
    let case = &found.cases[0];
    // Pure copies have no layer that is compared; what they hand out is.
    if let (Some(why), 0) = (&case.unsupported, case.end_to_end.elements) {
        panic!("{name}: {why}");
    }
    (case.end_to_end.elements, case.end_to_end.differing)
}

#[test]
fn every_operator_is_reproduced() {
    let Some(root) = shared("recordings/tflm-seanet") else {
        return;
    };
    let (mut models, mut elements, mut wrong) = (0, 0, Vec::new());
    for kind in [
        "add",
        "conv",
        "leaky_relu",
        "pad",
        "quantize",
        "strided_slice",
        "sub",
        "transpose_conv",
    ] {
        let folder = root.join(kind);
        let mut names: Vec<String> = fs::read_dir(&folder)
            .expect("a folder")
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|name| Some(name.strip_suffix(".tflite")?.to_owned()))
            .collect();
        names.sort();
        for name in names {
            let (count, differ) = differing(&folder, &name);
            assert!(count > 0, "{name}: nothing was compared");
            models += 1;
            elements += count;
            if differ > 0 {
                wrong.push(format!("{name}: {differ} of {count}"));
            }
        }
    }
    say(format_args!(
        "tflm-seanet: {models} models, {elements} elements, {} models differ",
        wrong.len()
    ));
    assert_eq!(models, 127);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
