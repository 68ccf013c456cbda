//! Public reports of integers that differ, each as a case of its own: what users saw, and what is said of it here.
//! `docs/threads.md` has them as a table.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use align_check_tests::onnx::{Onnx, int, ints};
use align_check_tests::{Npz, Random, args, golden, list, report, root, run, text, whole};
use serde_json::Value;
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// The layers of a report that compare something isolated: `(operators, differing, largest difference, layer)`.
fn isolated(json: &Value) -> Vec<(&str, u64, f64, &Value)> {
    let layers = list(&json["layers"]).iter();
    layers
        .filter(|layer| !layer["mode"]["isolated"].is_null())
        .map(|layer| {
            let stats = &layer["mode"]["isolated"];
            let most = stats["max_lsb"].as_f64().expect("a number");
            (text(&layer["op"]), whole(&stats["differing"]), most, layer)
        })
        .collect()
}

fn differing(json: &Value) -> u64 {
    isolated(json)
        .iter()
        .map(|(_, differing, ..)| differing)
        .sum()
}

/// A recording's model and inputs under a target; `recorded` is another recording of them.
fn of_recording(case: &str, target: &str, recorded: Option<&str>) -> Value {
    let case = golden(case);
    let model = ["model.onnx", "model.tflite"].map(|name| case.join(name));
    let model = model
        .into_iter()
        .find(|path| path.exists())
        .expect("a model");
    let mut given = args![
        model,
        "--target",
        target,
        "--input",
        case.join("inputs.npz")
    ];
    if let Some(recorded) = recorded {
        given.extend(args!["--recorded", golden(recorded).join("outputs.npz")]);
    }
    report(given).1
}

/// A shipped target with some text replaced.
fn changed(folder: &Path, target: &str, name: &str, changes: &[(&str, &str)]) -> PathBuf {
    let path = root().join("specs").join(format!("{target}.toml"));
    let mut spec = std::fs::read_to_string(path).expect("a target");
    let own = format!("name = \"{target}\"");
    for (old, new) in [(own.as_str(), format!("name = \"{name}\"").as_str())]
        .iter()
        .chain(changes)
    {
        assert_eq!(spec.matches(old).count(), 1, "{old}");
        spec = spec.replace(old, new);
    }
    let path = folder.join(format!("{name}.toml"));
    std::fs::write(&path, spec).expect("a writable file");
    path
}

fn layer_of_proof(given: Vec<OsString>, op: &str) -> Value {
    let (_, json, _) = report(given);
    let mut layers = list(&json["layers"]).iter();
    layers
        .rfind(|layer| text(&layer["op"]) == op)
        .unwrap_or_else(|| panic!("no {op} in {json}"))
        .clone()
}

/// tensorflow/tensorflow#99072 (tflite-micro#3130): a convolution, 80 of 51,200 codes off by one between reference and
/// optimized kernels. The former round the second time half away, the latter half up.
#[test]
fn reference_and_optimized_convolutions_round_twice_each_in_their_own_way() {
    let crossed = of_recording("tflite/conv-ref", "litert-x86", Some("tflite/conv-ref"));
    assert_eq!(differing(&crossed), 461);
    for (op, differing, most, layer) in isolated(&crossed) {
        assert!(most <= 1.0, "{op}: {most}");
        if differing > 0 {
            let cause = &layer["cause"];
            assert_eq!(whole(&cause["explains"]), differing, "{cause}");
        }
    }
    let own = of_recording(
        "tflite/conv-ref",
        "tflite-reference",
        Some("tflite/conv-ref"),
    );
    assert_eq!(differing(&own), 0);
}

/// google-ai-edge/LiteRT#7441: one step at a mean becomes 37 behind a table.
#[test]
fn one_step_at_a_mean_is_many_behind_a_steep_table() {
    let folder = folder();
    let model = folder.path().join("model.onnx");
    // A sigmoid's slope is 1/4 at most: a step of 0.6 in front of it is up to 0.149, 38 steps of 1/256.
    Onnx::new()
        .input("x", &[1, 64, 4, 4])
        .qdq("x", "xq", 0.15, 0, true)
        .node("GlobalAveragePool", &["xq"], "mean", &[])
        .qdq("mean", "meanq", 0.6, 0, true)
        .node("Sigmoid", &["meanq"], "y", &[])
        .qdq("y", "yq", 1.0 / 256.0, -128, true)
        .output("yq", &[1, 64, 1, 1])
        .write(&model);
    let mut random = Random(7);
    let values: Vec<f32> = (0..64 * 16)
        .map(|_| (random.below(41) as f32 - 20.0) * 0.15)
        .collect();
    let input = folder.path().join("input.npz");
    Npz::new(&input).add("x", &[1, 64, 4, 4], &values).finish();
    let (_, json, _) = report(args![&model, "--target", "tflite", "--input", &input]);
    let layers = isolated(&json);
    let mean = layers
        .iter()
        .find(|l| l.0.contains("Pool"))
        .expect("the mean");
    let table = layers
        .iter()
        .find(|l| l.0.contains("Sigmoid"))
        .unwrap_or_else(|| panic!("{json}"));
    assert!(mean.1 > 0 && mean.2 == 1.0, "{mean:?}");
    assert_eq!(table.1, 0, "alone, the table is right: {table:?}");
    let behind = table.3["mode"]["cumulative"]["max_lsb"].as_f64();
    assert_eq!(behind, Some(37.0), "{}", table.3);
}

/// fastmachinelearning/hls4ml#324: accuracy falls from 0.745 to 0.20 because sums are `ap_fixed<16,6>`.
#[test]
fn a_narrow_accumulator_is_named() {
    let json = of_types("conv2d-fixed16");
    let sums: Vec<_> = isolated(&json)
        .into_iter()
        .filter(|(op, ..)| op.starts_with("Conv") || op.starts_with("MatMul"))
        .collect();
    assert_eq!(sums.len(), 2);
    for (op, differing, _, layer) in sums {
        let cause = &layer["cause"];
        assert_eq!(text(&cause["name"]), "accumulator", "{op}");
        assert_eq!(whole(&cause["explains"]), differing, "{op}");
        assert!(
            text(&cause["text"]).contains("fixed<16,6,TRN,WRAP>"),
            "{cause}"
        );
    }
    // With sums that are wide enough only the input's own type is left.
    let wide = of_types("conv2d-auto");
    let sums = isolated(&wide).into_iter();
    for (op, differing, ..) in sums.filter(|(op, ..)| op.starts_with("MatMul")) {
        assert_eq!(differing, 0, "{op}");
    }
}

fn of_types(case: &str) -> Value {
    let case = golden("hls4ml").join(case);
    report(args![
        case.join("model.onnx"),
        "--precision",
        case.join("precision.toml"),
        "--target",
        "hls4ml",
        "--input",
        case.join("inputs.npz"),
    ])
    .1
}

/// Xilinx/finn PR#1635: a threshold that was summed in float32 lies one step off.
#[test]
fn float32_thresholds_miss_by_one_step() {
    let folder = folder();
    let exact = changed(
        folder.path(),
        "finn",
        "finn-f64",
        &[("arithmetic = \"f32\"", "arithmetic = \"f64\"")],
    );
    let crossed = of_recording(
        "finn/thresholds",
        &exact.display().to_string(),
        Some("finn/thresholds"),
    );
    assert_eq!(differing(&crossed), 806);
    assert!(
        isolated(&crossed)
            .iter()
            .all(|(_, _, most, _)| *most <= 1.0)
    );
    let own = of_recording("finn/thresholds", "finn", Some("finn/thresholds"));
    assert_eq!(differing(&own), 0);
}

/// One convolution whose requantization is a shift by so many bits.
fn shift(folder: &Path, bits: i32) -> PathBuf {
    let path = folder.join(format!("shift-{bits}.onnx"));
    Onnx::new()
        .input("x", &[1, 1, 2, 2])
        .qdq("x", "xq", 1.0, 0, true)
        .codes("w", &[1, 1, 1, 1], &[1], true)
        .reals("ws", &[], &[1.0])
        .codes("wz", &[], &[0], true)
        .node("DequantizeLinear", &["w", "ws", "wz"], "wd", &[])
        .node("Conv", &["xq", "wd"], "y", &[ints("kernel_shape", &[1, 1])])
        .qdq("y", "yq", 2f32.powi(bits), 0, true)
        .output("yq", &[1, 1, 2, 2])
        .write(&path);
    path
}

/// MQBench's and Brevitas' Vitis rounding (half up below zero, else half to even) against the DPU's half up: an eighth of all
/// codes at a shift of one bit, half as many with each further bit.
#[test]
fn mqbench_rounds_an_eighth_otherwise_than_the_dpu() {
    let folder = folder();
    let mqbench = changed(
        folder.path(),
        "vitis-dpu",
        "mqbench-vitis",
        &[(
            "steps = [{ rounding = \"half-up\", saturate = 8 }]",
            "steps = [{ rounding = \"half-up-if-negative-else-half-even\", saturate = 8 }]",
        )],
    );
    let mut rates = Vec::new();
    for bits in [1, 2, 3] {
        let model = shift(folder.path(), bits);
        let layer = layer_of_proof(
            args!["prove", &model, "-t", &mqbench, "--against", "vitis-dpu"],
            "Conv",
        );
        assert_eq!(text(&layer["result"]), "differs");
        assert_eq!(whole(&layer["max_lsb"]), 1);
        rates.push((whole(&layer["differing"]), whole(&layer["reachable"])));
    }
    assert_eq!(rates, [(32, 256), (16, 256), (8, 256)]);
}

/// Tencent/ncnn#3224: a fused multiply-add on x86 and two roundings on ARM, 26 against 27.
#[test]
fn a_fused_multiply_add_moves_codes() {
    let folder = folder();
    let add = |name: &str, rule: &str| {
        changed(
            folder.path(),
            "onnxruntime",
            name,
            &[("add = \"f32-ratios-fma-constant\"", rule)],
        )
    };
    let (fused, apart) = (
        add("fused", "add = \"f32-ratios-fma\""),
        add("apart", "add = \"f32-ratios\""),
    );
    let model = folder.path().join("model.onnx");
    Onnx::new()
        .input("a", &[1, 8])
        .input("b", &[1, 8])
        .qdq("a", "aq", 0.1, 3, false)
        .qdq("b", "bq", 0.05, 5, false)
        .node("Add", &["aq", "bq"], "y", &[])
        .qdq("y", "yq", 0.3, 7, false)
        .output("yq", &[1, 8])
        .write(&model);
    let layer = layer_of_proof(
        args!["prove", &model, "-t", &fused, "--against", &apart],
        "Add",
    );
    assert_eq!(text(&layer["result"]), "differs", "{layer}");
    assert_eq!(whole(&layer["reachable"]), 65_536);
    assert_eq!(whole(&layer["differing"]), 1981);
    assert_eq!(whole(&layer["max_lsb"]), 1);
    // (0 - 3) * 0.1 + (134 - 5) * 0.05 = 6.15 is 20.5 steps of 0.3.
    let example = &layer["example"];
    assert_eq!(example["inputs"], serde_json::json!([0, 134]));
    assert_eq!(
        [whole(&example["got"]), whole(&example["expected"])],
        [27, 28]
    );
}

/// qualcomm/aimet#3978: "the gap grows 2000 times with depth". In reals it does, because the scales grow; in steps of each
/// layer it does not.
#[test]
fn a_gap_that_grows_with_the_scales_stays_a_step() {
    let folder = folder();
    let model = folder.path().join("model.onnx");
    let mut net = Onnx::new()
        .input("x", &[1, 8, 4, 4])
        .qdq("x", "l0", 1.0 / 64.0, 0, true);
    for layer in 1..=4 {
        let [from, w, wd, y, to] = [
            format!("l{}", layer - 1),
            format!("w{layer}"),
            format!("wd{layer}"),
            format!("y{layer}"),
            format!("l{layer}"),
        ];
        let mut random = Random(layer);
        let weights: Vec<i32> = (0..64).map(|_| random.below(255) as i32 - 127).collect();
        net = net
            .codes(&w, &[8, 8, 1, 1], &weights, true)
            .reals(&format!("{w}s"), &[], &[1.0 / 16.0])
            .codes(&format!("{w}z"), &[], &[0], true)
            .node(
                "DequantizeLinear",
                &[&w, &format!("{w}s"), &format!("{w}z")],
                &wd,
                &[],
            )
            .node("Conv", &[&from, &wd], &y, &[ints("kernel_shape", &[1, 1])])
            .qdq(&y, &to, 8f32.powi(layer as i32) / 64.0, 0, true);
    }
    net.output("l4", &[1, 8, 4, 4]).write(&model);
    let (_, json, _) = report(args![&model, "--target", "tflite"]);
    let layers = isolated(&json);
    let convolutions: Vec<_> = layers.iter().filter(|l| l.0 == "Conv").collect();
    assert_eq!(convolutions.len(), 4);
    let gap = |layer: &Value| {
        let most = layer["mode"]["cumulative"]["max_lsb"]
            .as_f64()
            .expect("a number");
        most * layer["lsb"].as_f64().expect("a step")
    };
    let gaps: Vec<f64> = convolutions.iter().map(|layer| gap(layer.3)).collect();
    assert!(gaps[3] > 1000.0 * gaps[0], "{gaps:?}");
    for (_, _, alone, layer) in convolutions {
        let steps = layer["mode"]["cumulative"]["max_lsb"].as_f64();
        assert!(*alone <= 1.0 && steps <= Some(5.0), "{layer}");
    }
}

/// microsoft/onnxruntime#32132: Q/DQ around a convolution against the fused integer operator, "only on rounding ties".
#[test]
fn fused_and_unfused_part_on_ties_alone() {
    let folder = folder();
    let model = folder.path().join("model.onnx");
    let weights: Vec<i32> = (0..3 * 24).map(|i| (i * 37 + 11) % 101 - 50).collect();
    let [sx, sw, sy] = [0.05_f32, 0.03, 0.09];
    Onnx::new()
        .input("x", &[1, 24, 1, 1])
        .qdq("x", "xq", sx, 3, false)
        .codes("w", &[3, 24, 1, 1], &weights, true)
        .reals("ws", &[], &[sw])
        .codes("wz", &[], &[0], true)
        .node("DequantizeLinear", &["w", "ws", "wz"], "wd", &[])
        .node("Conv", &["xq", "wd"], "y", &[ints("kernel_shape", &[1, 1])])
        .qdq("y", "yq", sy, 7, false)
        .output("yq", &[1, 3, 1, 1])
        .write(&model);
    let layer = layer_of_proof(args!["prove", &model, "-t", "onnxruntime"], "Conv");
    assert_eq!(text(&layer["result"]), "differs", "{layer}");
    assert_eq!(whole(&layer["max_lsb"]), 1);
    let example = &layer["example"];
    let sum = example["sum"].as_f64().expect("a sum");
    let steps = sum * f64::from(sx) * f64::from(sw) / f64::from(sy);
    let from_tie = (steps.fract().abs() - 0.5).abs();
    assert!(from_tie < 1e-5, "{steps}");
}

/// onnxruntime-qnn PR#478: a concatenation gives a branch behind a `ReLU` a zero point above the smallest code; whoever drops the
/// `ReLU` because the quantizer clamps anyway lets negative numbers through.
#[test]
fn a_relu_that_its_quantizer_does_not_imply_is_named() {
    let folder = folder();
    let model = folder.path().join("model.onnx");
    Onnx::new()
        .input("x", &[1, 4, 2, 2])
        .qdq("x", "xq", 0.05, 100, false)
        .node("Relu", &["xq"], "r", &[])
        .qdq("r", "rq", 0.05, 100, false)
        .node("Concat", &["rq", "xq"], "c", &[int("axis", 1)])
        .qdq("c", "cq", 0.05, 100, false)
        .output("cq", &[1, 8, 2, 2])
        .write(&model);
    let path = folder.path().join("plan.json");
    let json = format!("json={}", path.display());
    let done = run(args![
        "plan",
        &model,
        "-t",
        "qnn-htp-approx",
        "--report",
        json
    ]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let json = std::fs::read_to_string(path).expect("a report");
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let [lint] = list(&list(&json["targets"])[0]["lints"]) else {
        panic!("{json}");
    };
    assert_eq!(text(&lint["lint"]), "negative-codes-after-relu");
    assert_eq!(text(&lint["node"]), "node_r");
    assert!(text(&lint["text"]).starts_with("100 of 256 codes lie below zero"));
}

/// MQBench's NNIE grid rounds where the vendor's library floors: codes differ at the largest and the smallest level.
#[test]
fn mqbench_rounds_nnies_range_and_the_vendor_floors() {
    let case = golden("toolchains/mqbench-nnie");
    let given = |target: &str| {
        args![
            case.join("model_deploy_model.onnx"),
            "--encodings",
            case.join("model_gfpq_param_dict.json"),
            "--input",
            case.join("inputs.npz"),
            "--target",
            target,
        ]
    };
    let (_, vendor, _) = report(given("nnie"));
    let (_, own, _) = report(given("nnie-mqbench"));
    assert_eq!(differing(&vendor), 192);
    assert_eq!(differing(&own), 0);
    for (op, differing, _, layer) in isolated(&vendor) {
        if differing > 0 {
            assert_eq!(text(&layer["cause"]["name"]), "quantizer", "{op}");
        }
    }
}

/// The same chips and the same network through two public compilers: DORY shifts with floor, Deeploy rounds half up. Half of all codes
/// differ by one.
#[test]
fn two_compilers_for_one_chip_round_otherwise() {
    let folder = folder();
    let model = shift(folder.path(), 3);
    let layer = layer_of_proof(
        args![
            "prove",
            &model,
            "-t",
            "pulp-dory",
            "--against",
            "pulp-deeploy"
        ],
        "Conv",
    );
    assert_eq!(text(&layer["result"]), "differs", "{layer}");
    assert_eq!(whole(&layer["max_lsb"]), 1);
    let cases = [&layer["differing"], &layer["reachable"]].map(whole);
    assert_eq!(cases, [128, 256]);
}

/// TVM's arithmetic is that of the rounding mode in its target string.
#[test]
fn tvm_rounds_as_its_configuration_says() {
    let folder = folder();
    let model = shift(folder.path(), 3);
    let layer = layer_of_proof(
        args!["prove", &model, "-t", "tvm", "--against", "tvm-tonearest"],
        "Conv",
    );
    assert_eq!(text(&layer["result"]), "differs", "{layer}");
    // Ties below zero: half up against half away.
    let cases = [&layer["differing"], &layer["reachable"]].map(whole);
    assert_eq!(cases, [16, 256]);
}
