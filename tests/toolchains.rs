//! What each toolchain writes of one network: it loads, the check for the target that it is deployed to gives a verdict
//! with named causes, the lints that the file deserves show and no other. That each tool's own fake-quant is reproduced
//! is a matter of the recordings' `targets`, held by `golden.rs`; here stands that every row has such a recording.
//!
//! `docs/toolchains.md` is this table in words.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;

use align_check::recording::Folder;
use align_check_graph::Limits;
use align_check_simulators::kernels::Isa;
use align_check_specs::replace_between;
use align_check_tests::{Run, args, golden, list, report, root, run, text, whole};
use rayon::prelude::*;
use serde_json::Value;

/// One export and the target that it is deployed to.
struct Row {
    /// The row of the page.
    toolchain: &'static str,
    /// Folder below `golden/toolchains`.
    folder: &'static str,
    /// The file that the check is given, and the one that gives a float model its quantizers.
    files: &'static [&'static str],
    target: &'static str,
    /// Exit code of the check: 0 aligned, 1 misaligned.
    code: i32,
    /// The first named cause of each layer that differs, without repetition.
    causes: &'static [&'static str],
    /// The lints, all of them.
    lints: &'static [&'static str],
}

const fn row(
    toolchain: &'static str,
    folder: &'static str,
    files: &'static [&'static str],
    target: &'static str,
    code: i32,
    causes: &'static [&'static str],
    lints: &'static [&'static str],
) -> Row {
    Row {
        toolchain,
        folder,
        files,
        target,
        code,
        causes,
        lints,
    }
}

#[rustfmt::skip]
const ROWS: &[Row] = &[
    row("PyTorch FX", "pytorch-fx-fbgemm", &["model.onnx"], "fbgemm", 1, &["weight codes"], &["lowest-weight", "negative-codes-after-relu", "unequal-scales", "weight-ties"]),
    row("PyTorch FX", "pytorch-fx-fbgemm-on-grid", &["model.onnx"], "fbgemm-channels-last", 0, &[], &["lowest-weight", "negative-codes-after-relu", "unequal-scales"]),
    row("PyTorch FX", "pytorch-fx-onednn", &["model.onnx"], "onednn", 1, &["weight codes"], &["lowest-weight", "negative-codes-after-relu", "unequal-scales", "weight-ties"]),
    row("PyTorch FX", "pytorch-fx-qnnpack", &["model.onnx"], "qnnpack", 1, &["bias width"], &["lowest-weight", "negative-codes-after-relu", "unequal-scales", "weight-ties"]),
    row("PyTorch FX", "pytorch-fx-qnnpack-pool", &["model.onnx"], "qnnpack", 0, &[], &[]),
    row("PyTorch FX", "pytorch-fx-qat", &["model.onnx"], "fbgemm", 1, &["saturation"], &["lowest-weight", "negative-codes-after-relu", "quantizer-chain", "reduced-range", "unequal-scales"]),
    row("PyTorch PT2E", "pytorch-pt2e-x86", &["model.onnx"], "onednn", 0, &[], &["float-fallback", "lowest-weight"]),
    row("PyTorch PT2E", "pytorch-pt2e-xnnpack", &["model.onnx"], "xnnpack", 1, &["average rounding", "multiplier and bias width"], &["float-fallback", "negative-codes-after-relu", "shared-weight-half-float", "unequal-scales"]),
    row("PyTorch PT2E", "pytorch-pt2e-xnnpack-per-channel", &["model.onnx"], "xnnpack", 1, &["average rounding", "multiplier and bias width"], &["float-fallback", "negative-codes-after-relu", "shared-weight-half-float", "unequal-scales"]),
    row("PyTorch PT2E", "pytorch-pt2e-fork", &["model.onnx"], "onednn", 0, &[], &["float-fallback", "lowest-weight", "mixed-fork"]),
    row("TensorFlow Lite", "tflite-ptq-ref", &["model.tflite"], "tflite-reference", 1, &["average rounding", "double rounding"], &["operand-has-range-of-sum", "unequal-scales"]),
    row("TensorFlow Lite", "tflite-ptq-ref", &["model.tflite"], "litert-x86", 1, &["average rounding", "double rounding", "rounding", "rounding and average rounding"], &["operand-has-range-of-sum", "unequal-scales"]),
    row("TensorFlow Lite", "tflite-ptq-ref", &["model.tflite"], "xnnpack", 1, &["rounding and average rounding"], &["operand-has-range-of-sum", "unequal-scales"]),
    row("TensorFlow Lite", "tflite-qat-ref", &["model.tflite"], "tflite-reference", 1, &["average rounding", "double rounding"], &["negative-codes-after-relu", "quantizer-chain", "unequal-scales"]),
    row("TensorFlow Lite", "tflite-int16x8", &["model.tflite"], "tflite-int16x8", 1, &["average rounding", "bias scale and multiplier", "multiplier", "requantize", "rescale"], &["bias-scale", "operand-has-range-of-sum", "quantizer-chain", "unequal-scales"]),
    row("Brevitas", "brevitas-qonnx-pow2-signed", &["model.onnx"], "vitis-dpu", 1, &["rounding"], &["quantizer-chain"]),
    row("Brevitas", "brevitas-qcdq-pow2-signed", &["model.onnx"], "vitis-dpu", 1, &["rounding"], &["quantizer-chain"]),
    row("Brevitas", "brevitas-qonnx-float", &["model.onnx"], "onnxruntime", 0, &[], &["bias-scale", "quantizer-chain"]),
    row("Brevitas", "brevitas-qcdq-float", &["model.onnx"], "onnxruntime", 1, &["placement"], &["quantizer-chain"]),
    row("Brevitas", "brevitas-qcdq-pow2", &["model.onnx"], "onnxruntime", 0, &[], &["bias-scale", "quantizer-chain"]),
    row("hls4ml", "hls4ml-brevitas", &["model.onnx"], "hls4ml", 0, &[], &["bias-scale", "quantizer-chain"]),
    row("hls4ml", "hls4ml-qkeras", &["model.onnx"], "hls4ml", 0, &[], &[]),
    row("NNCF", "nncf-performance", &["model.xml"], "openvino-cpu", 1, &["placement"], &["residual-both-quantized"]),
    row("NNCF", "nncf-mixed", &["model.xml"], "openvino-cpu", 1, &["placement"], &["residual-both-quantized"]),
    row("NNCF", "nncf-full-range", &["model.xml"], "openvino-cpu", 1, &["placement"], &["residual-both-quantized"]),
    row("NNCF", "nncf-onnx", &["model.onnx"], "openvino-cpu", 1, &["placement"], &["residual-both-quantized", "unequal-scales", "unfolded-batch-norm"]),
    row("NNCF", "nncf-torch", &["model.onnx"], "openvino-cpu", 1, &["placement"], &["residual-both-quantized"]),
    row("AIMET", "aimet-qdq", &["model.onnx"], "hexagon-nn", 1, &["add scales", "multiplier", "multiplier and bias width"], &["lowest-weight", "unequal-scales"]),
    row("AIMET", "aimet-qdq-integer", &["model.onnx"], "hexagon-nn", 1, &["add scales", "multiplier"], &["lowest-weight", "unequal-scales"]),
    row("ModelOpt", "modelopt-onnx", &["model.onnx"], "tensorrt", 0, &[], &["float-fallback"]),
    row("ModelOpt", "modelopt-onnx-bn", &["model.onnx"], "tensorrt", 0, &[], &["float-fallback", "mixed-fork", "residual-both-quantized", "unequal-scales", "unfolded-batch-norm"]),
    row("ModelOpt", "modelopt-torch", &["model.onnx"], "tensorrt", 0, &[], &["float-fallback", "mixed-fork", "unfolded-batch-norm"]),
    row("pytorch-quantization", "pytorch-quantization", &["model.onnx"], "tensorrt", 0, &[], &["float-fallback", "unfolded-batch-norm"]),
    row("MQBench", "mqbench-academic", &["model.onnx"], "tensorrt", 1, &["quantizer", "quantizer and placement"], &["float-fallback", "lowest-weight", "unfolded-batch-norm", "weight-ties"]),
    row("MQBench", "mqbench-tensorrt", &["model.onnx"], "tensorrt", 0, &[], &["float-fallback"]),
    row("MQBench", "mqbench-openvino", &["model.onnx"], "openvino-cpu", 1, &["placement"], &["float-fallback", "lowest-weight", "residual-both-quantized", "unequal-scales", "weight-ties"]),
    row("MQBench", "mqbench-pplcuda", &["model.onnx"], "tensorrt", 1, &["quantizer", "quantizer and placement"], &["residual-both-quantized", "unequal-scales", "zero-point"]),
    row("MQBench", "mqbench-onnx-qnn", &["model.onnx"], "onnxruntime", 1, &["bias width"], &["unequal-scales"]),
    row("Quark", "quark-xint8", &["model.onnx"], "vitis-dpu", 1, &["rounding"], &["unequal-scales"]),
    row("Quark", "quark-vint8", &["model.onnx"], "vitis-dpu", 1, &["rounding"], &["unequal-scales"]),
    row("Quark", "quark-a8w8", &["model.onnx"], "onnxruntime", 0, &[], &["unequal-scales"]),
    row("Quark", "quark-constants", &["model.onnx"], "vitis-dpu", 1, &["rounding"], &["replaced-constant"]),
    row("PaddleSlim", "paddleslim-onnx", &["model.onnx"], "tensorrt", 0, &[], &["bias-scale", "float-fallback", "mixed-fork", "residual-both-quantized", "unequal-scales"]),
    row("HAWQ-V3", "hawq-v3", &["model.onnx"], "hawq-v3", 1, &["add scales", "average rounding", "average rounding and division"], &["unequal-scales"]),
    row("HAWQ-V3", "hawq-v3-dyadic", &["model.onnx"], "tvm", 1, &["average rounding", "rounding", "rounding and add scales"], &["quantizer-chain", "unequal-scales"]),
    row("Distiller", "distiller-convolutions", &["model.onnx"], "distiller", 1, &["multiplier", "requantize"], &["lowest-weight"]),
    row("Distiller", "distiller-network", &["model.onnx"], "distiller", 1, &["multiplier", "requantize"], &["lowest-weight", "unequal-scales"]),
    row("NNIE mapper", "nnie-caffe", &["model.prototxt"], "nnie", 1, &["quantizer"], &["float-fallback", "missing-output-quantizer", "mixed-fork"]),
    row("ONNX Runtime", "ort-qdq-u8", &["model.onnx"], "onnxruntime", 0, &[], &["unequal-scales"]),
    row("ONNX Runtime", "ort-qdq-s8", &["model.onnx"], "onnxruntime", 0, &[], &["unequal-scales"]),
    row("ONNX Runtime", "ort-qdq-u16", &["model.onnx"], "onnxruntime", 0, &[], &["unequal-scales"]),
    row("ONNX Runtime", "ort-qoperator-u8", &["model.onnx"], "onnxruntime", 0, &[], &["unequal-scales"]),
    row("AIMET", "aimet-default", &["model.onnx", "model.encodings"], "hexagon-nn", 1, &["add scales", "multiplier", "multiplier and bias width"], &["lowest-weight", "unequal-scales"]),
    row("AIMET", "aimet-dsp", &["model.onnx", "model.encodings"], "hexagon-nn", 1, &["multiplier", "multiplier and bias width"], &["unequal-scales"]),
    row("AIMET", "aimet-htp-v75", &["model.onnx", "model.encodings"], "hexagon-nn", 1, &["add scales", "multiplier", "multiplier and bias width"], &["lowest-weight", "unequal-scales"]),
    row("AIMET", "aimet-torch", &["model.onnx", "model.encodings"], "hexagon-nn", 1, &["add scales"], &["lowest-weight", "unequal-scales"]),
    row("TensorRT implicit mode", "trt-implicit", &["model.onnx", "calibration.cache"], "tensorrt", 1, &["placement"], &["residual-both-quantized", "unequal-scales"]),
    row("TensorRT implicit mode", "trt-implicit", &["model.onnx", "ranges.txt"], "tensorrt", 1, &["placement"], &["residual-both-quantized", "unequal-scales"]),
    row("MQBench", "mqbench-tensorrt", &["model_deploy_model.onnx", "model_clip_ranges.json"], "tensorrt", 0, &[], &["float-fallback"]),
    row("MQBench", "mqbench-snpe", &["model_deploy_model.onnx", "model_clip_ranges.json"], "hexagon-nn", 1, &["multiplier and bias width", "placement"], &["unequal-scales"]),
    row("MQBench", "mqbench-vitis", &["model_deploy_model.onnx", "model_clip_ranges.json"], "vitis-dpu", 1, &["multiplier and bias width", "rounding"], &["float-fallback", "unequal-scales"]),
    row("MQBench", "mqbench-nnie", &["model_deploy_model.onnx", "model_gfpq_param_dict.json"], "nnie", 1, &["quantizer"], &["float-fallback"]),
    row("MQBench", "mqbench-openvino", &["model_deploy_model.onnx"], "openvino-cpu", 1, &["placement"], &["float-fallback", "residual-both-quantized"]),
    row("MQBench", "mqbench-pplw8a16", &["model_deploy_model.onnx", "model_clip_ranges.json"], "ppl-w8a16", 0, &[], &["unequal-scales"]),
    row("MQBench", "mqbench-stpu", &["model_for_stpu.onnx", "model_stpu_minmax.json"], "stpu", 0, &[], &["quantizer-chain", "unequal-scales"]),
    row("MQBench", "mqbench-tengine-u8", &["model_for_tengine.onnx", "model_for_tengine.scale"], "tengine-u8", 1, &["bias width"], &["unequal-scales"]),
    row("MQBench", "mqbench-pplcuda", &["model_deploy_model.onnx", "model_clip_ranges.json"], "ppl-cuda", 0, &[], &["unequal-scales"]),
    row("MQBench", "mqbench-nnie", &["model_deploy_model.onnx", "model_gfpq_param_dict.json"], "nnie-mqbench", 0, &[], &["float-fallback"]),
    row("AIMET", "aimet-default", &["model.onnx", "model.encodings"], "qnn-htp-approx", 0, &[], &["lowest-weight", "unequal-scales"]),
    row("AIMET", "aimet-htp-v75", &["model.onnx", "model.encodings"], "qnn-htp-approx", 0, &[], &["lowest-weight", "unequal-scales"]),
    row("Distiller", "distiller", &["../float/model.onnx", "acts_quantization_stats.yaml"], "distiller", 1, &["multiplier", "multiplier and bias width"], &["float-fallback", "missing-output-quantizer", "unequal-scales", "unfolded-batch-norm"]),
];

impl Row {
    fn path(&self, file: &str) -> PathBuf {
        golden("toolchains").join(self.folder).join(file)
    }

    fn name(&self) -> String {
        format!(
            "{} ({}) for {}",
            self.folder,
            self.files.join(" + "),
            self.target
        )
    }

    /// The model and what gives it its quantizers.
    fn quantized(&self) -> Vec<OsString> {
        let mut args = args![self.path(self.files[0])];
        if let Some(beside) = self.files.get(1) {
            args.extend(args!["--encodings", self.path(beside)]);
        }
        args
    }

    /// The model and what goes with it.
    fn model(&self) -> Vec<OsString> {
        let mut args = self.quantized();
        let precision = self.path("precision.toml");
        if precision.is_file() {
            args.extend(args!["--precision", precision]);
        }
        args
    }

    fn inputs(&self) -> PathBuf {
        let own = self.path("inputs.npz");
        if own.is_file() {
            own
        } else {
            golden("toolchains/float/inputs.npz")
        }
    }

    /// The check for the target that it is deployed to.
    fn run(&self) -> (Run, Value) {
        let mut args = self.model();
        args.extend(args!["--target", self.target, "--input", self.inputs()]);
        let (run, json, _) = report(args);
        (run, json)
    }

    /// What the check found, as a line of the page.
    fn line(&self) -> String {
        let (run, json) = self.run();
        let layers = list(&json["layers"]);
        let count = |verdict: &str| layers.iter().filter(|l| l["verdict"] == verdict).count();
        let (mut codes, mut differing, mut most) = (0, 0, 0.0f64);
        let mut causes: BTreeMap<&str, u64> = BTreeMap::new();
        for layer in layers {
            let Some(stats) = layer["mode"]["isolated"].as_object() else {
                continue;
            };
            codes += whole(&stats["elements"]);
            if layer["verdict"] == "misaligned" {
                differing += whole(&stats["differing"]);
                most = most.max(stats["max_lsb"].as_f64().unwrap_or(f64::INFINITY));
                if let Some(cause) = layer["cause"]["name"].as_str() {
                    *causes.entry(cause).or_default() += whole(&layer["cause"]["explains"]);
                }
            }
        }
        let code = run.code.unwrap_or(-1);
        let mut verdict = match code {
            0 => "aligned (0)".to_owned(),
            _ => format!("misaligned ({code}): {differing} of {codes}, up to {most:.3} LSB"),
        };
        let float = count("float on target");
        if float > 0 {
            let _ = write!(verdict, "; {float} of {} layers float", layers.len());
        }
        let absent = count("no such tensor on the target");
        if absent > 0 {
            let _ = write!(verdict, "; {absent} only in the model");
        }
        let mut causes: Vec<_> = causes.into_iter().collect();
        causes.sort_by_key(|&(name, explains)| (std::cmp::Reverse(explains), name));
        let causes: Vec<String> = causes
            .iter()
            .map(|(name, n)| format!("{name} {n}"))
            .collect();
        format!(
            "| {} | `{}` | `{}` | `{}` | {verdict} | {} |",
            self.toolchain,
            self.folder,
            self.files.join("`, `"),
            self.target,
            if causes.is_empty() {
                "-".to_owned()
            } else {
                causes.join(", ")
            },
        )
    }

    /// Whether the check ends as it should: exit code, and the causes.
    fn check(&self) -> Result<(), String> {
        let (run, json) = self.run();
        let mut wrong = Vec::new();
        if run.code != Some(self.code) {
            wrong.push(format!("exit code {:?}: {}", run.code, run.stderr));
        }
        let misaligned = list(&json["layers"])
            .iter()
            .filter(|layer| layer["verdict"] == "misaligned");
        let causes: BTreeSet<&str> = misaligned
            .map(|layer| layer["cause"]["name"].as_str().unwrap_or("none"))
            .collect();
        let wanted: BTreeSet<&str> = self.causes.iter().copied().collect();
        if causes != wanted {
            wrong.push(format!("causes {causes:?}"));
        }
        self.said(&wrong)
    }

    /// The lints of the plan.
    fn lint(&self) -> Result<(), String> {
        let mut args = args!["plan", "--target", self.target];
        args.extend(self.quantized());
        let (run, json, _) = planned(args);
        let [plan] = list(&json["targets"]) else {
            return Err(format!("{}: no plan: {}", self.name(), run.stderr));
        };
        let lints: BTreeSet<&str> = list(&plan["lints"])
            .iter()
            .map(|l| text(&l["lint"]))
            .collect();
        let wanted: BTreeSet<&str> = self.lints.iter().copied().collect();
        let wrong = if lints == wanted {
            vec![]
        } else {
            vec![format!("lints {lints:?}")]
        };
        self.said(&wrong)
    }

    fn said(&self, wrong: &[String]) -> Result<(), String> {
        if wrong.is_empty() {
            return Ok(());
        }
        Err(format!("{}: {}", self.name(), wrong.join("; ")))
    }
}

fn planned(mut args: Vec<OsString>) -> (Run, Value, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("plan.json");
    args.extend(args!["--report", format!("json={}", path.display())]);
    let run = run(args);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|_| "{\"targets\": []}".into());
    let json = serde_json::from_str(&text).expect("JSON");
    (run, json, text)
}

fn all(test: impl Fn(&Row) -> Result<(), String> + Sync) {
    let failed: Vec<String> = ROWS.par_iter().filter_map(|row| test(row).err()).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn every_export_is_checked_for_its_target() {
    all(Row::check);
}

#[test]
fn lints_show_what_each_export_deserves() {
    all(Row::lint);
}

/// Between these lines of the page stands what is found.
const FOUND: [&str; 2] = ["<!-- found:begin -->", "<!-- found:end -->"];

/// `UPDATE_PAGES=1` writes the table; without it, the page must say what is found.
#[test]
fn the_page_says_what_is_found() {
    let path = root().join("docs/toolchains.md");
    let page = std::fs::read_to_string(&path).expect("the page");
    let lines: Vec<String> = ROWS.par_iter().map(Row::line).collect();
    let table = format!(
        "| toolchain | folder | files | target | verdict | cause |\n|---|---|---|---|---|---|\n{}",
        lines.join("\n")
    );
    let wanted = replace_between(&page, FOUND, &table).expect("the page has the two lines");
    if std::env::var_os("UPDATE_PAGES").is_some() {
        std::fs::write(&path, wanted).expect("a writable page");
    } else {
        assert_eq!(page, wanted, "UPDATE_PAGES=1 writes it");
    }
}

/// Rows whose tool's own values are not reproduced, as their recordings say (`undecided`), or are no fake-quant's.
const WITHOUT: &[&str] = &[
    "aimet-torch",
    "distiller",
    "distiller-network",
    "pytorch-fx-fbgemm",
    "pytorch-fx-fbgemm-on-grid",
    "trt-implicit",
];

#[test]
fn every_export_has_fake_quant_that_is_reproduced() {
    for row in ROWS {
        let of = |folder: &str| {
            let path = golden("toolchains").join(folder);
            path.is_dir()
                .then(|| Folder::open(&path).expect("a sound recording"))
        };
        let own = [row.folder.to_owned(), format!("{}-deploy", row.folder)];
        let reproduced = own
            .iter()
            .filter_map(|name| of(name))
            .any(|f| !f.provenance.targets.is_empty());
        let excused = WITHOUT.contains(&row.folder);
        assert_ne!(reproduced, excused, "{}", row.folder);
    }
}

/// The recordings that side files and OpenVINO's IR made possible, quickly: `golden.rs` has them all.
#[test]
fn side_files_reproduce_fake_quant() {
    for name in [
        "aimet-default",
        "mqbench-vitis",
        "mqbench-vitis-deploy",
        "mqbench-nnie",
        "nncf-mixed",
    ] {
        let folder = golden("toolchains").join(name);
        let verified =
            align_check::verify::verify(&[folder], &[], Isa::detect(), &Limits::default(), &|_| {})
                .unwrap_or_else(|e| panic!("{name}: {e:?}"));
        assert_eq!(verified.cases.len(), 1, "{name}");
        for case in &verified.cases {
            assert!(
                case.reproduced(),
                "{name}: {:?}, {} differ",
                case.unsupported,
                case.differing()
            );
        }
    }
}

#[test]
fn a_pruned_model_is_told_that_nothing_is_quantized() {
    let model = golden("toolchains/condensa/model.onnx");
    let check = run(args![&model, "--target", "tensorrt"]);
    let plan = run(args!["plan", &model, "--target", "tensorrt"]);
    for found in [check, plan] {
        assert_eq!(found.code, Some(2), "{}", found.stderr);
        for word in [
            "nothing is quantized",
            "--encodings FILE",
            "--calibrate minmax",
        ] {
            assert!(
                found.stderr.contains(word),
                "'{word}' is not in: {}",
                found.stderr
            );
        }
    }
}

#[test]
fn files_of_another_model_or_backend_are_refused() {
    let folder = golden("toolchains");
    for (model, beside, target, words) in [
        (
            "aimet-default/model.onnx",
            "mqbench-tensorrt/model_clip_ranges.json",
            "tensorrt",
            ["model_clip_ranges.json", "another model"],
        ),
        (
            "mqbench-stpu/model_for_stpu.onnx",
            "mqbench-stpu/model_stpu_minmax.json",
            "tensorrt",
            ["MQBench STPU", "for stpu"],
        ),
        (
            "mqbench-tensorrt/model_deploy_model.onnx",
            "trt-implicit/calibration.cache",
            "tensorrt",
            ["calibration.cache", "another model"],
        ),
    ] {
        let found = run(args![
            folder.join(model),
            "--encodings",
            folder.join(beside),
            "-t",
            target
        ]);
        assert_eq!(found.code, Some(2), "{beside}: {}", found.stderr);
        for word in words {
            assert!(
                found.stderr.contains(word),
                "'{word}' is not in: {}",
                found.stderr
            );
        }
    }
}

/// Weights whose codes depend on `w / s` against `w * (1 / s)`: 9, as counted with `PyTorch`.
#[test]
fn ties_of_weights_are_counted() {
    let model = golden("toolchains/pytorch-fx-fbgemm/model.onnx");
    let (_, json, _) = planned(args!["plan", model, "--target", "fbgemm"]);
    let parted: u32 = list(&json["targets"][0]["lints"])
        .iter()
        .filter(|lint| lint["lint"] == "weight-ties")
        .filter_map(|lint| text(&lint["text"]).rsplit(' ').next()?.parse::<u32>().ok())
        .sum();
    assert_eq!(parted, 9);
}

/// The page names every folder of the table and of the recordings.
#[test]
fn the_page_has_every_folder() {
    let page = std::fs::read_to_string(root().join("docs/toolchains.md")).expect("the page");
    let table = std::fs::read_to_string(golden("toolchains/README.md")).expect("the table");
    for row in ROWS {
        assert!(
            page.contains(row.toolchain),
            "docs/toolchains.md lacks {}",
            row.toolchain
        );
        assert!(
            page.contains(&format!("`{}`", row.folder)),
            "docs/toolchains.md lacks {}",
            row.folder
        );
    }
    for entry in std::fs::read_dir(golden("toolchains")).expect("the folder") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("a name");
        if !entry.path().is_dir() {
            continue;
        }
        let start = format!("| `{name}` |");
        let line = table
            .lines()
            .find(|line| line.starts_with(&start))
            .unwrap_or_else(|| panic!("golden/toolchains/README.md lacks {name}"));
        let targets = Folder::open(&entry.path())
            .expect("a sound recording")
            .provenance
            .targets;
        for target in &targets {
            assert!(
                line.contains(&format!("`{target}`")),
                "{name}: {target} is missing: {line}"
            );
        }
        assert_eq!(targets.is_empty(), line.contains("| none"), "{line}");
    }
}
