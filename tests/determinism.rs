//! The same bytes for any number of threads and any instruction set.

use std::ffi::OsString;
use std::path::PathBuf;

use align_check_simulators::kernels::Isa;
use align_check_tests::{args, golden, report, say, shared, skip};

/// Every instruction set by its name on the command line.
const ISAS: [(Isa, &str); 5] = [
    (Isa::Portable, "portable"),
    (Isa::Avx2, "avx2"),
    (Isa::Avx512Vnni, "avx512-vnni"),
    (Isa::Neon, "neon"),
    (Isa::NeonI8mm, "neon-i8mm"),
];

/// Runs the same check in every way; every report must be the same bytes.
fn same(given: &[OsString], isas: &[(Isa, &str)]) {
    let mut ways = vec![args!["-j", "1"], args!["-j", "2"], args!["-j", "7"]];
    for (isa, name) in isas {
        if isa.is_available() {
            ways.push(args!["--isa", *name]);
        } else {
            skip(format_args!("this machine has no {name}"));
        }
    }
    let mut first: Option<String> = None;
    for way in ways {
        let mut all = given.to_vec();
        all.extend(way.iter().cloned());
        let (run, _, text) = report(all);
        assert!(
            matches!(run.code, Some(0 | 1 | 3)),
            "{way:?}: {}",
            run.stderr
        );
        match &first {
            None => first = Some(text),
            Some(first) => assert!(*first == text, "{way:?} differs for {given:?}"),
        }
    }
}

fn check(model: PathBuf, target: &str, inputs: PathBuf) -> Vec<OsString> {
    args![model, "--target", target, "--input", inputs]
}

#[test]
fn the_demo_gives_the_same_bytes() {
    let model = golden("demo/model.qonnx.onnx");
    let inputs = golden("demo/inputs.npz");
    same(&check(model.clone(), "all", inputs), &ISAS);
    // Generated inputs, too.
    let generated = args![model, "-t", "all", "--seed", "7"];
    same(&generated, &ISAS);
}

#[test]
fn operators_give_the_same_bytes() {
    for case in ["conv-asymmetric-pads", "conv-depthwise", "gemm-float-scale"] {
        let folder = golden("qonnx-ops").join(case);
        let mut given = check(
            folder.join("model.onnx"),
            "exact,onnxruntime",
            folder.join("inputs.npz"),
        );
        given.extend(args!["--reference", folder.join("outputs.npz")]);
        same(&given, &ISAS);
    }
}

#[test]
fn efficientnet_gives_the_same_bytes() {
    let folder = "models/efficientnet-lite0";
    let (Some(model), Some(inputs)) = (
        shared(format!("{folder}/w8a8/model.qonnx.onnx")),
        shared(format!("{folder}/inputs.npz")),
    ) else {
        return;
    };
    let start = std::time::Instant::now();
    // Portable code takes long here; the demo runs it.
    same(
        &check(model, "tflite-reference,hexagon-nn,nnie", inputs),
        &ISAS[1..],
    );
    say(format_args!(
        "determinism on EfficientNet: {:.1?}",
        start.elapsed()
    ));
}
