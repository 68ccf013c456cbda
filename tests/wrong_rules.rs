//! Wrong rules must fail: the neighbours of the right rule, on recordings that are rich in ties.
//!
//! A recording that cannot tell a neighbour from the right rule says so in the table: the entry is 0, and
//! stays 0. A neighbour that suddenly reproduces a recording, or no longer does, is a failure.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use align_check_tests::{args, golden, list, report, root, say, text, verified, whole};

/// The right rule as a target of its own, and its neighbours: the name, what is written in place of what.
const RULES: [(&str, &[(&str, &str)]); 11] = [
    ("right", &[]),
    ("half-away", &[(HALF_EVEN, "rounding = \"half-away\"")]),
    ("half-up", &[(HALF_EVEN, "rounding = \"half-up\"")]),
    ("half-down", &[(HALF_EVEN, "rounding = \"half-down\"")]),
    (
        "half-toward-zero",
        &[(HALF_EVEN, "rounding = \"half-toward-zero\"")],
    ),
    ("floor", &[(HALF_EVEN, "rounding = \"floor\"")]),
    ("ceil", &[(HALF_EVEN, "rounding = \"ceil\"")]),
    ("trunc", &[(HALF_EVEN, "rounding = \"trunc\"")]),
    (
        "zero-after",
        &[(
            "zero-point = \"inside-rounding\"",
            "zero-point = \"after-rounding\"",
        )],
    ),
    ("reciprocal", &[("\"divide-f32\"", "\"reciprocal-f32\"")]),
    ("divide-f64", &[("\"divide-f32\"", "\"divide-f64\"")]),
];

const HALF_EVEN: &str = "rounding = \"half-even\"";

/// How many codes of a recording each neighbour gets wrong, in the order of [`RULES`].
///
/// 0 where the recording cannot tell: zero points are even or none, scales are powers of two.
const TABLE: [(&str, [u64; 11]); 10] = [
    (
        "quant-rounding-default",
        [0, 8, 6, 5, 3, 30, 28, 29, 0, 0, 0],
    ),
    (
        "quant-float-scale",
        [0, 430, 427, 432, 429, 1108, 1090, 1115, 423, 108, 417],
    ),
    (
        "quant-constant-nodes-float-scale",
        [0, 35, 29, 37, 31, 146, 151, 146, 0, 2, 33],
    ),
    ("conv", [0, 32, 23, 38, 29, 271, 293, 273, 0, 0, 0]),
    (
        "conv-input-zero-point",
        [0, 20, 20, 24, 24, 132, 142, 135, 26, 0, 9],
    ),
    (
        "conv-per-channel-bias-int32",
        [0, 24, 29, 23, 28, 245, 228, 243, 0, 0, 0],
    ),
    (
        "residual-block",
        [0, 55, 51, 43, 39, 124, 142, 127, 0, 0, 0],
    ),
    ("matmul", [0, 9, 7, 7, 5, 30, 32, 34, 0, 0, 0]),
    ("gemm", [0, 20, 18, 11, 9, 69, 83, 61, 0, 0, 0]),
    ("add", [0, 100, 118, 91, 109, 184, 225, 209, 0, 0, 0]),
];

/// The exact reference as a target with rules of its own: it no longer asks the model how it rounds.
fn spec(name: &str, changes: &[(&str, &str)]) -> String {
    let mut text = fs::read_to_string(root().join("specs/exact.toml")).expect("the exact spec");
    let mut change = |from: &str, to: &str| {
        assert!(text.contains(from), "{name}: '{from}' is not in exact.toml");
        text = text.replace(from, to);
    };
    change("name = \"exact\"", &format!("name = \"{name}\""));
    change("aliases = [\"reference\", \"qonnx\"]\n", "");
    change(
        "[activations]\nquantizer = \"model\"",
        "[activations]\nquantizer = \"affine\"\nbits = [2, 3, 4, 8, 16]",
    );
    change("division = \"model\"", "division = \"divide-f32\"");
    for (from, to) in changes {
        change(from, to);
    }
    text
}

/// The codes of a recording that each rule gets wrong, layer by layer.
fn wrong_codes(case: &str, specs: &str) -> Vec<u64> {
    let folder = golden("qonnx-ops").join(case);
    verified(&folder).unwrap_or_else(|why| panic!("{why}"));
    let (_, json, _) = report(args![
        folder.join("model.onnx"),
        "--target",
        specs,
        "--input",
        folder.join("inputs.npz"),
        "--reference",
        folder.join("outputs.npz"),
        "--mode",
        "isolated",
    ]);
    let targets = list(&json["targets"]);
    RULES
        .iter()
        .zip(targets)
        .map(|((name, _), target)| {
            assert_eq!(text(&target["target"]["name"]), *name);
            assert_eq!(list(&target["mismatches"]).len(), 0, "{case}");
            list(&target["layers"])
                .iter()
                .map(|layer| whole(&layer["mode"]["isolated"]["differing"]))
                .sum()
        })
        .collect()
}

fn write_specs(folder: &Path) -> String {
    let paths: Vec<String> = RULES
        .iter()
        .map(|(name, changes)| {
            let path = folder.join(format!("{name}.toml"));
            fs::write(&path, spec(name, changes)).expect("a writable folder");
            path.display().to_string()
        })
        .collect();
    paths.join(",")
}

#[test]
fn neighbouring_rules_do_not_reproduce_recordings() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let specs = write_specs(folder.path());
    let mut shown = format!("{:34}", "codes that each rule gets wrong");
    for (name, _) in RULES {
        let _ = write!(shown, " {name:>16}");
    }
    let mut changed = Vec::new();
    for (case, wanted) in TABLE {
        let found = wrong_codes(case, &specs);
        let _ = write!(shown, "\n{case:34}");
        for count in &found {
            let _ = write!(shown, " {count:>16}");
        }
        if found != wanted {
            changed.push(format!("{case}: {found:?}, known: {wanted:?}"));
        }
    }
    say(shown);
    assert!(changed.is_empty(), "{}", changed.join("\n"));
}

#[test]
fn every_neighbour_is_refuted_by_a_recording() {
    for (rule, (name, _)) in RULES.iter().enumerate() {
        let refuted = TABLE.iter().filter(|(_, counts)| counts[rule] > 0).count();
        if rule == 0 {
            assert_eq!(refuted, 0, "{name}");
        } else {
            assert!(refuted > 0, "{name}");
        }
    }
}
