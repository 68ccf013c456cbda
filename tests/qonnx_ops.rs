//! Conformance: every operator recording of `golden/qonnx-ops/` through the exact reference.
//!
//! Every layer is fed with the recorded tensors and compared with the recorded output.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use align_check_tests::simulate::network_of;
use align_check_tests::{args, golden, list, report, run, say, text, verified, whole};

/// Operators that are not evaluated: the case, the node that is named, its operator.
const UNSUPPORTED: [(&str, &str, &str); 6] = [
    ("extra-moves", "Gather_1", "Gather"),
    ("extra-reductions", "ReduceSum_2", "ReduceSum"),
    ("extra-unary", "Abs_1", "Abs"),
    ("im2col", "Im2Col_1", "qonnx.custom_op.general::Im2Col"),
    (
        "quant-avg-pool-2d",
        "QuantAvgPool2d_0",
        "qonnx.custom_op.general::QuantAvgPool2d",
    ),
    (
        "xnor-popcount",
        "XnorPopcountMatMul_0",
        "qonnx.custom_op.general::XnorPopcountMatMul",
    ),
];

/// Cases beside `*-float-scale` in which float32 rounds in front of a quantizer (`golden/qonnx-ops/README.md`:
/// divisions, means over other counts than powers of two, `BatchNormalization`, smooth functions, resampling):
/// a code may differ inside the noise floor. How many codes do.
const ROUNDED: [(&str, u64); 10] = [
    ("activations-smooth", 0),
    ("averagepool", 0),
    ("batchnorm", 0),
    ("channels-last-bn", 0),
    ("div", 0),
    ("hardswish-decomposed", 0),
    ("reductions", 0),
    ("resize", 1),
    ("softmax", 0),
    ("softmax-opset11", 0),
];

/// Tensors that are compared under no recorded name: `channels_last` nodes are rewritten to NCHW between
/// transpositions, so the tensor in front of the last one is the tool's own.
const UNRECORDED: [(&str, usize); 2] = [("channels-last-bn", 1), ("channels-last-conv", 2)];

/// Failures that are known: the case, the tensor, how many of its codes differ, and why. A known failure
/// that passes is a failure.
const KNOWN: [(&str, &str, u64, &str); 0] = [];

/// Elements that all cases together compare: less means that something is no longer compared.
const ELEMENTS: u64 = 70_177;

/// What one case compared.
#[derive(Default)]
struct Counts {
    elements: u64,
    codes: u64,
    differing_reals: u64,
}

fn cases() -> Vec<(String, PathBuf)> {
    let folder = golden("qonnx-ops");
    let mut cases: Vec<(String, PathBuf)> = fs::read_dir(&folder)
        .expect("golden/qonnx-ops")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.is_dir())
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy();
            (name.into_owned(), path)
        })
        .collect();
    cases.sort();
    cases
}

/// Runs one case and checks every layer; the error lists what is wrong.
fn check(name: &str, folder: &std::path::Path) -> Result<Counts, Vec<String>> {
    let model = folder.join("model.onnx");
    let (run, json, _) = report(args![
        &model,
        "--target",
        "exact",
        "--input",
        folder.join("inputs.npz"),
        "--reference",
        folder.join("outputs.npz"),
    ]);
    let mut wrong = Vec::new();
    let mut expect = |right: bool, what: String| {
        if !right {
            wrong.push(what);
        }
    };
    let known: BTreeMap<&str, u64> = KNOWN
        .iter()
        .filter(|(case, ..)| *case == name)
        .map(|(_, tensor, count, _)| (*tensor, *count))
        .collect();
    let code = i32::from(!known.is_empty());
    expect(
        run.code == Some(code),
        format!("exit code {:?}: {}", run.code, run.stderr),
    );
    let missing = list(&json["against"]["missing"]).len();
    let unrecorded = UNRECORDED
        .iter()
        .find(|(case, _)| *case == name)
        .map_or(0, |u| u.1);
    expect(
        missing == unrecorded,
        format!("{missing} tensors are not in the recording"),
    );

    let may_round = name.ends_with("-float-scale");
    let rounded = ROUNDED.iter().find(|(case, _)| *case == name).map(|r| r.1);
    let quantized: BTreeSet<String> = network_of(&model)
        .layers
        .iter()
        .filter(|layer| layer.quantizer.is_some())
        .map(|layer| layer.tensor.clone())
        .collect();
    let mut counts = Counts::default();
    let (mut codes, mut beyond) = (0, 0);
    for layer in list(&json["layers"]) {
        let (tensor, stats) = (text(&layer["tensor"]), &layer["mode"]["isolated"]);
        let [elements, differing, noise] =
            ["elements", "differing", "noise"].map(|key| whole(&stats[key]));
        expect(elements > 0, format!("{tensor}: nothing compared"));
        counts.elements += elements;
        if let Some(&count) = known.get(tensor) {
            beyond += differing - noise;
            expect(
                differing == count,
                format!("{tensor}: {differing} differ, known: {count}"),
            );
            continue;
        }
        expect(
            differing == noise,
            format!("{tensor}: {} of {elements} beyond noise", differing - noise),
        );
        if quantized.contains(tensor) {
            counts.codes += elements;
            codes += differing;
            expect(
                differing == 0 || may_round || rounded.is_some(),
                format!("{tensor}: {differing} of {elements} codes differ"),
            );
        } else {
            counts.differing_reals += differing;
        }
    }
    expect(
        codes == rounded.unwrap_or(0),
        format!("{codes} codes differ inside the noise floor"),
    );
    let floor = &json["floor"];
    expect(
        whole(&floor["beyond_noise"]) == beyond,
        format!("floor: {} beyond noise", floor["beyond_noise"]),
    );
    if wrong.is_empty() {
        Ok(counts)
    } else {
        Err(wrong)
    }
}

#[test]
fn every_recording_is_reproduced() {
    let mut failed = Vec::new();
    let mut all = Counts::default();
    let mut reproduced = 0;
    for (name, folder) in cases() {
        if let Err(why) = verified(&folder) {
            failed.push(why);
            continue;
        }
        if UNSUPPORTED.iter().any(|(case, ..)| *case == name) {
            continue;
        }
        match check(&name, &folder) {
            Ok(counts) => {
                reproduced += 1;
                all.elements += counts.elements;
                all.codes += counts.codes;
                all.differing_reals += counts.differing_reals;
            }
            Err(wrong) => failed.push(format!("{name}: {}", wrong.join("; "))),
        }
    }
    say(format_args!(
        "qonnx-ops: {reproduced} cases, {} elements, of them {} quantized; {} reals differ in float32's last \
         places; known failures: {}",
        all.elements,
        all.codes,
        all.differing_reals,
        KNOWN.len(),
    ));
    assert!(
        failed.is_empty(),
        "{} cases:\n{}",
        failed.len(),
        failed.join("\n")
    );
    assert_eq!(all.elements, ELEMENTS);
}

#[test]
fn lists_name_cases_that_exist() {
    let cases: BTreeSet<String> = cases().into_iter().map(|(name, _)| name).collect();
    let listed = UNSUPPORTED
        .iter()
        .map(|c| c.0)
        .chain(ROUNDED.iter().map(|c| c.0))
        .chain(UNRECORDED.iter().map(|c| c.0))
        .chain(KNOWN.iter().map(|c| c.0));
    for name in listed {
        assert!(cases.contains(name), "{name}");
    }
}

#[test]
fn what_is_not_evaluated_is_said() {
    for (case, node, op) in UNSUPPORTED {
        let folder = golden("qonnx-ops").join(case);
        verified(&folder).unwrap_or_else(|why| panic!("{why}"));
        let model = folder.join("model.onnx");
        let run = run(args![
            &model,
            "--target",
            "exact",
            "--input",
            folder.join("inputs.npz")
        ]);
        assert_eq!(run.code, Some(3), "{case}: {}", run.stderr);
        assert_eq!(run.stderr.lines().count(), 1, "{case}: {}", run.stderr);
        assert_eq!(run.stdout, "", "{case}");
        for part in [node, op, &*model.to_string_lossy()] {
            assert!(run.stderr.contains(part), "{case}: {}", run.stderr);
        }
    }
}
