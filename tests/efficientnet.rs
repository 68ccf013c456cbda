//! EfficientNet-Lite0, really quantized, against what qonnx, Brevitas and ONNX Runtime recorded (`../shared`).

use align_check::inputs::read_arrays;
use align_check_tests::simulate::network_of;
use align_check_tests::{Npz, Run, args, list, one_array, report, say, shared, text, whole};
use serde_json::Value;

const FOLDER: &str = "models/efficientnet-lite0";

/// Runs the exact reference on one photo, with the recorded codes of every activation quantizer.
fn on_chelsea(model: &str) -> Option<(Run, Value)> {
    let photos = shared(format!("{FOLDER}/inputs.npz"))?;
    let folder = shared(format!("{FOLDER}/{model}"))?;
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let photo = temporary.path().join("chelsea.npz");
    one_array(&photos, "chelsea", &photo);
    let (run, json, _) = report(args![
        folder.join("model.qonnx.onnx"),
        "--target",
        "exact",
        "--input",
        photo,
        "--reference",
        folder.join("fake_quant_codes.npz"),
    ]);
    say(format_args!("{model}, one photo: {:.1?}", run.time));
    Some((run, json))
}

#[test]
fn powers_of_two_leave_no_difference() {
    let Some((run, json)) = on_chelsea("w8a8-po2") else {
        return;
    };
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let floor = &json["floor"];
    for way in ["isolated", "free"] {
        assert_eq!(whole(&floor[way]["elements"]), 9_375_627, "{way}");
        assert_eq!(whole(&floor[way]["differing"]), 0, "{way}");
    }
    assert_eq!(whole(&floor["beyond_noise"]), 0);
    assert_eq!(json["verdict"], "aligned, tested");
    for layer in list(&json["layers"]) {
        assert_eq!(layer["verdict"], "aligned, tested", "{}", layer["name"]);
    }
}

#[test]
fn float_scales_leave_eight_codes_to_the_order_of_sums() {
    let Some((run, json)) = on_chelsea("w8a8") else {
        return;
    };
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let floor = &json["floor"];
    assert_eq!(whole(&floor["isolated"]["elements"]), 9_375_627);
    assert_eq!(whole(&floor["isolated"]["differing"]), 8);
    assert_eq!(whole(&floor["isolated"]["noise"]), 8);
    assert_eq!(whole(&floor["isolated"]["max_lsb"]), 1);
    assert_eq!(whole(&floor["beyond_noise"]), 0);
    let furthest = floor["furthest_from_tie"].as_f64().expect("a number");
    assert!(furthest > 0.0 && furthest < 1.5e-5, "{furthest}");
    assert_eq!(whole(&floor["free"]["differing"]), 386_946);
    assert_eq!(json["verdict"], "within noise");

    let layers = list(&json["layers"]);
    let differing: u64 = layers
        .iter()
        .map(|layer| whole(&layer["mode"]["isolated"]["differing"]))
        .sum();
    assert_eq!(differing, 8);
    for layer in layers {
        let verdict = text(&layer["verdict"]);
        let differs = whole(&layer["mode"]["isolated"]["differing"]) > 0;
        let wanted = if differs {
            "within noise"
        } else {
            "aligned, tested"
        };
        assert_eq!(verdict, wanted, "{}", layer["name"]);
    }
}

#[test]
fn logits_of_brevitas_agree_as_far_as_sums_in_float32_let_them() {
    for model in ["w8a8", "w8a8-po2"] {
        let (Some(photos), Some(folder)) = (
            shared(format!("{FOLDER}/inputs.npz")),
            shared(format!("{FOLDER}/{model}")),
        ) else {
            return;
        };
        // The recording's keys are photos; the tool's are `SAMPLE::TENSOR`.
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let renamed = temporary.path().join("logits.npz");
        let network = network_of(&folder.join("model.qonnx.onnx"));
        let logits = network.name(network.graph.outputs[0]);
        let mut npz = Npz::new(&renamed);
        for (photo, array) in read_arrays(&folder.join("fake_quant_logits.npz")).expect("readable")
        {
            let values: Vec<f32> = array.values.iter().map(|&v| v as f32).collect();
            npz = npz.add(&format!("{photo}::{logits}"), &array.shape, &values);
        }
        npz.finish();
        let (run, json, _) = report(args![
            folder.join("model.qonnx.onnx"),
            "--target",
            "exact",
            "--input",
            photos,
            "--reference",
            renamed,
            "--mode",
            "cumulative",
        ]);
        say(format_args!("{model}, four photos: {:.1?}", run.time));
        let [output] = list(&json["outputs"]) else {
            panic!("one output: {}", json["outputs"]);
        };
        let stats = &output["stats"];
        assert_eq!(output["tensor"], logits);
        assert_eq!(whole(&stats["elements"]), 4_000);
        assert_eq!(whole(&output["argmax_flips"]), 0);
        // One step is 0.0878 here; PyTorch's and qonnx's own logits of `chelsea` are 2 apart.
        let wanted = if model == "w8a8" { (1_853, 3) } else { (0, 0) };
        let found = (whole(&stats["differing"]), whole(&stats["max_lsb"]));
        assert_eq!(found, wanted, "{model}: {stats}");
    }
}

/// ONNX Runtime's `QLinear` kernels on one photo: every tensor of the network, in isolation and end to end.
#[test]
fn onnxruntime_is_reproduced() {
    let (Some(photos), Some(folder)) = (
        shared(format!("{FOLDER}/inputs.npz")),
        shared(format!("{FOLDER}/ort-qoperator")),
    ) else {
        return;
    };
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let photo = temporary.path().join("chelsea.npz");
    one_array(&photos, "chelsea", &photo);
    let (run, json, _) = report(args![
        folder.join("model.onnx"),
        "--target",
        "onnxruntime",
        "--input",
        photo,
        "--recorded",
        folder.join("outputs.chelsea.npz"),
    ]);
    say(format_args!("onnxruntime, one photo: {:.1?}", run.time));
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert_eq!(json["verdict"], "aligned, tested");
    assert_eq!(list(&json["against"]["missing"]).len(), 0);
    for way in ["isolated", "cumulative"] {
        let stats = |layer: &Value, key: &str| whole(&layer["mode"][way][key]);
        let layers = list(&json["layers"]);
        let elements: u64 = layers.iter().map(|layer| stats(layer, "elements")).sum();
        let differing: u64 = layers.iter().map(|layer| stats(layer, "differing")).sum();
        assert_eq!((elements, differing), (7_102_896, 0), "{way}");
    }
    let [output] = list(&json["outputs"]) else {
        panic!("one output: {}", json["outputs"]);
    };
    assert_eq!(whole(&output["stats"]["elements"]), 1_000);
    assert_eq!(whole(&output["stats"]["differing"]), 0);
}
