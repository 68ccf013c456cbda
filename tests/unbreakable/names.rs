//! Names in files that mean harm to who reads the reports: terminals, browsers, spreadsheets, Markdown.

use std::fs;

use align_check_tests::onnx::{Onnx, Quant, ints};
use align_check_tests::{args, run};

/// Names of tensors; nodes are called `node_` and these.
const NAMES: [&str; 7] = [
    "=cmd|' /C calc'!A0",
    "\u{1b}[31mred\u{7}\u{1b}]0;title\u{7}",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "[link](javascript:alert(1)) `code` |cell| **bold**",
    "\"' --></script><svg onload=alert(1)>]]>",
    "\u{202e}reversed\u{2028}line\nbreak\tand\rreturn",
    "@SUM(1+1)*cmd",
];

fn model() -> Onnx {
    let weight: Vec<f32> = (0..16).map(|i| i as f32 * 0.37 - 2.0).collect();
    let mut model = Onnx::new()
        .input("x", &[1, 4, 3, 3])
        .quant("x", "first", &Quant::i8(0.1, 0));
    let mut before = "first".to_owned();
    for (number, name) in NAMES.iter().enumerate() {
        let [w, wq] = ["w", "wq"].map(|part| format!("{part}{number}"));
        // Layers are called after the convolution's node, tensors after the quantizer's.
        let y = format!("{name} of the sum");
        model = model
            .reals(&w, &[4, 4, 1, 1], &weight)
            .quant(&w, &wq, &Quant::i8(0.03, 0))
            .node(
                "Conv",
                &[&before, &wq],
                &y,
                &[ints("kernel_shape", &[1, 1])],
            )
            .quant(&y, name, &Quant::i8(0.11, 0));
        (*name).clone_into(&mut before);
    }
    model.output(&before, &[1, 4, 3, 3])
}

/// Characters that change what a reader sees.
fn hidden(text: &str) -> Option<char> {
    text.chars().find(|&c| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2028}' | '\u{2066}'..='\u{2069}')
    })
}

#[test]
fn no_report_is_hurt_by_names() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model.onnx");
    model().write(&path);
    let kinds = [
        "json",
        "html",
        "md",
        "csv",
        "junit",
        "sarif",
        "model-explorer",
    ];
    let at = |kind: &str| folder.path().join(format!("report.{kind}"));
    let mut given = args![&path, "-t", "nnie,tflite-reference", "-v", "-v"];
    for kind in kinds {
        given.extend(args!["--report", format!("{kind}={}", at(kind).display())]);
    }
    let run = run(given);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert_eq!(hidden(&run.stdout), None, "{}", run.stdout);
    assert_eq!(run.stderr, "");
    assert!(
        run.stdout.contains("script"),
        "the names are shown: {}",
        run.stdout
    );
    let read = |kind: &str| fs::read_to_string(at(kind)).expect("a report");
    // JSON is for machines and keeps names as they are.
    for kind in ["html", "md", "csv", "junit"] {
        assert_eq!(hidden(&read(kind)), None, "{kind}");
    }
    let html = read("html");
    for harm in [
        "<script>alert",
        "<img src=x",
        "<svg onload",
        "onerror=alert(1)>",
    ] {
        assert!(!html.contains(harm), "{harm}");
    }
    let markdown = read("md");
    for harm in ["<script", "<img", "<svg", "[link](", "`code`", "**bold**"] {
        assert!(!markdown.contains(harm), "{harm}: {markdown}");
    }
    // A cell that a spreadsheet would take for a formula.
    for line in read("csv").lines() {
        for cell in line.split(',') {
            let cell = cell.trim_start_matches(['"', ' ']);
            let formula = cell.starts_with(['=', '+', '-', '@', '\t']);
            assert!(!formula || cell.parse::<f64>().is_ok(), "{cell}");
        }
    }
    let junit = read("junit");
    for harm in ["<script", "<svg", "]]>"] {
        assert!(!junit.contains(harm), "{harm}");
    }
    for kind in ["json", "sarif", "model-explorer"] {
        serde_json::from_str::<serde_json::Value>(&read(kind)).expect("JSON");
    }
}

#[test]
fn no_other_verb_is_hurt_by_names() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model.onnx");
    model().write(&path);
    let out = folder.path().join("inputs.npz");
    for given in [
        args!["plan", &path, "-t", "nnie", "-v"],
        args!["prove", &path, "-t", "nnie", "-v"],
        args![
            "explain",
            &path,
            "-t",
            "nnie",
            "--layer",
            "node_@SUM(1+1)*cmd"
        ],
        args!["gen-inputs", &path, "--out", &out],
        // Names in errors.
        args![&path, "-t", "nnie", "--max-memory", "1k"],
        args![&path, "-t", "\u{1b}[31m"],
        args!["\u{1b}[31mmissing", "-t", "nnie"],
        args![&path, "-t", "nnie", "--layers", "\u{1b}[31m"],
        args![&path, "-t", "nnie", "--report", "\u{1b}[31m=x"],
    ] {
        let shown = format!("{given:?}");
        let run = run(given);
        assert!(run.code.is_some(), "{shown}: {run:?}");
        assert_eq!(hidden(&run.stdout), None, "{shown}: {}", run.stdout);
        assert_eq!(hidden(&run.stderr), None, "{shown}: {}", run.stderr);
    }
}
