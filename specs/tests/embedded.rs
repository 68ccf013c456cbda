//! The embedded targets, their pages, and the README's example.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use align_check_specs::{
    Grade, PAGE_BEGIN, PAGE_END, Spec, embedded_toml, names, replace_table, rules_table,
};

fn all() -> Vec<Spec> {
    names()
        .iter()
        .map(|name| Spec::resolve(name).unwrap_or_else(|error| panic!("{error}")))
        .collect()
}

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_file_is_embedded_under_its_name() {
    let mut files: Vec<String> = fs::read_dir(folder())
        .expect("the folder of specs")
        .filter_map(|entry| {
            let file = entry.expect("an entry").file_name();
            let stem = file.to_str()?.strip_suffix(".toml")?;
            (stem != "Cargo").then(|| stem.to_owned())
        })
        .collect();
    files.sort();
    let mut embedded = names().to_vec();
    embedded.sort_unstable();
    assert_eq!(files, embedded);
    for (spec, name) in all().iter().zip(names()) {
        assert_eq!(spec.name, *name);
    }
}

#[test]
fn aliases_resolve_and_no_name_is_used_twice() {
    let mut seen = BTreeSet::new();
    for spec in all() {
        for name in std::iter::once(&spec.name).chain(&spec.aliases) {
            assert!(seen.insert(name.clone()), "{name} is used twice");
            assert_eq!(Spec::resolve(name).as_ref(), Ok(&spec));
        }
    }
    for alias in ["dsp", "fpga", "tflite", "ort", "reference", "qonnx"] {
        assert!(seen.contains(alias), "{alias}");
    }
}

#[test]
fn a_path_resolves_to_the_file() {
    let path = folder().join("nnie.toml");
    assert_eq!(
        Spec::resolve(&path.display().to_string()),
        Spec::resolve("nnie")
    );
}

#[test]
fn every_toml_of_the_folder_is_embedded_and_has_a_page() {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder()).expect("the crate's folder") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default()
            .to_owned();
        let is_toml = path
            .extension()
            .is_some_and(|extension| extension == "toml");
        if is_toml && name != "Cargo" {
            found.insert(name);
        }
    }
    assert_eq!(found, names().iter().map(ToString::to_string).collect());
}

#[test]
fn a_spec_survives_being_written_and_read() {
    for spec in all() {
        let text = spec.to_toml().expect("serializes");
        assert_eq!(Spec::parse(&text, "written").as_ref(), Ok(&spec), "{text}");
    }
}

#[test]
fn every_rule_has_a_source() {
    for spec in all() {
        let rules = spec.rules();
        // Thresholds stand for several sections.
        let least = if spec.thresholds.is_some() { 12 } else { 20 };
        assert!(rules.len() > least, "{}: {} rules", spec.name, rules.len());
        for rule in rules {
            assert!(
                !rule.value.is_empty() && rule.source != "none",
                "{}: {rule:?}",
                spec.name
            );
            assert_eq!(
                spec.evidence_for(&rule.path).grade,
                rule.grade,
                "{}",
                rule.path
            );
        }
    }
}

/// A rule that is called recorded names the recordings or the test that reproduce it; `tests/golden.rs` holds
/// that they exist and are reproduced.
#[test]
fn what_is_called_recorded_says_where() {
    for spec in all() {
        for rule in spec.rules() {
            let named = rule.source.contains("golden/") || rule.source.contains("tests/");
            assert!(
                rule.grade != Grade::Recorded || named,
                "{}: {}: {}",
                spec.name,
                rule.path,
                rule.source
            );
        }
    }
}

#[test]
fn an_nnie_convolution_is_a_hypothesis() {
    let spec = Spec::resolve("nnie").expect("nnie");
    for rule in [
        "bias",
        "accumulator",
        "requantize",
        "fully-connected",
        "ops",
        "placement",
    ] {
        assert_eq!(spec.weakest(&[rule]), Grade::Hypothesis, "{rule}");
    }
    assert_eq!(spec.grade(), Grade::Hypothesis);
    assert_eq!(spec.weakest(&["activations", "quantize"]), Grade::Recorded);
    assert!(!spec.unknowns.is_empty());
}

#[test]
fn the_most_specific_evidence_counts() {
    let spec = Spec::resolve("tensorrt").expect("tensorrt");
    assert_eq!(
        spec.evidence_for("requantize.steps").grade,
        Grade::Documented
    );
    assert_eq!(
        spec.evidence_for("requantize.multiplier").grade,
        Grade::Hypothesis
    );
    assert_eq!(spec.evidence_for("requantize").grade, Grade::Hypothesis);
    assert_eq!(
        spec.evidence_for("accumulator.bits").grade,
        Grade::Documented
    );
    assert_eq!(spec.evidence_for("no.such.rule").grade, Grade::Hypothesis);
    // No section of its own: its layers follow [requantize].
    let borrowed = spec.evidence_for("fully-connected.steps");
    assert_eq!(borrowed, spec.evidence_for("requantize.steps"));
}

#[test]
fn values_read_like_words() {
    let value = |target: &str, path: &str| {
        let spec = Spec::resolve(target).expect("resolves");
        let row = spec.rules().into_iter().find(|rule| rule.path == path);
        row.map(|rule| rule.value)
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        value("tflite", "requantize.steps"),
        some("31 half-up, rest half-away")
    );
    assert_eq!(
        value("tflite", "requantize.multiplier"),
        some("fixed, 31 bits, half-away")
    );
    assert_eq!(value("tflite", "fully-connected.steps"), some("half-away"));
    assert_eq!(
        value("dsp", "requantize.steps"),
        some("31 half-up saturated to 32 bits")
    );
    assert_eq!(
        value("tensorrt", "requantize.multiplier"),
        some("f32-two-steps, reciprocal-f32")
    );
    assert_eq!(value("nnie", "activations.bits"), some("8, 16"));
    assert_eq!(value("ort", "requantize.left-shift"), None);
}

#[test]
fn operations_without_a_rule_are_named() {
    assert_eq!(Spec::resolve("exact").expect("exact").float_ops(), [""; 0]);
    let spec = Spec::resolve("tensorrt").expect("tensorrt");
    assert_eq!(
        spec.float_ops(),
        ["sigmoid", "hard-swish", "softmax", "resize"]
    );
}

/// A target with a base has its rules and their evidence, but for what it says itself.
#[test]
fn a_base_is_what_a_target_does_not_say() {
    let base = Spec::resolve("onnxruntime").expect("onnxruntime");
    let own = Spec::resolve("onnxruntime-avx2").expect("onnxruntime-avx2");
    assert!(own.aliases.is_empty());
    assert!(base.accumulator.pairs.is_none() && own.accumulator.pairs.is_some());
    let mut same = own.clone();
    same.accumulator.pairs = None;
    same.name.clone_from(&base.name);
    same.aliases.clone_from(&base.aliases);
    same.summary.clone_from(&base.summary);
    same.unknowns.clone_from(&base.unknowns);
    same.evidence.clone_from(&base.evidence);
    assert_eq!(same, base);
    assert_eq!(own.evidence_for("ops.add"), base.evidence_for("ops.add"));
    assert_eq!(
        own.evidence_for("accumulator.bits"),
        base.evidence_for("accumulator.bits")
    );
    let text = own.to_toml().expect("a text");
    assert_eq!(Spec::parse(&text, "own.toml").as_ref(), Ok(&own));
}

#[test]
fn the_embedded_text_is_the_file() {
    for name in names() {
        let file = fs::read_to_string(folder().join(format!("{name}.toml"))).expect("readable");
        assert_eq!(embedded_toml(name), Some(file.as_str()));
    }
    assert_eq!(embedded_toml("tflite"), None, "aliases are not file names");
}

/// `UPDATE_PAGES=1` rewrites the tables.
#[test]
fn the_table_of_every_page_is_up_to_date() {
    let update = std::env::var_os("UPDATE_PAGES").is_some_and(|value| value == "1");
    for spec in all() {
        let path: PathBuf = folder().join(format!("{}.md", spec.name));
        let page =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let fresh = replace_table(&page, &rules_table(&spec))
            .unwrap_or_else(|| panic!("{}: no {PAGE_BEGIN} and {PAGE_END}", path.display()));
        if update {
            fs::write(&path, &fresh).expect("writable");
        } else {
            assert!(
                page == fresh,
                "{} has drifted: UPDATE_PAGES=1 cargo test rewrites it",
                path.display()
            );
        }
    }
}

#[test]
fn the_readme_example_is_a_spec() {
    let readme = fs::read_to_string(folder().join("README.md")).expect("README.md");
    let start = readme.find("```toml\n").expect("a toml block") + "```toml\n".len();
    let end = start + readme[start..].find("```").expect("its end");
    let example = &readme[start..end];
    let spec = Spec::parse(example, "acme-npu.toml").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(spec.evidence_for("requantize.steps").grade, Grade::Recorded);
    assert_eq!(spec.evidence_for("bias.format").grade, Grade::Documented);
    assert_eq!(spec.grade(), Grade::Hypothesis);
    // The errors that the README shows are the ones that this example gives.
    for (from, to) in [
        ("rounding = \"half-up\" },", "rounding = \"half-upp\" },"),
        ("bits = 24", "widht = 24"),
        ("bits = 24", "bits = 72"),
        ("format = \"int32\" ", "format = \"int8-shifted\" "),
    ] {
        assert!(example.contains(from), "{from}");
        let error =
            Spec::parse(&example.replacen(from, to, 1), "acme-npu.toml").expect_err("broken");
        let shown: Vec<String> = error
            .to_string()
            .split(", half-down")
            .map(str::to_owned)
            .collect();
        let shown = shown[0]
            .replace(", half-up", "")
            .replace("half-away", "half-away, ...");
        assert!(readme.contains(&shown), "the README does not show: {shown}");
    }
}

#[test]
fn the_readme_lists_every_value() {
    let readme = fs::read_to_string(folder().join("README.md")).expect("README.md");
    let broken = |from: &str, to: &str| {
        let text = embedded_toml("vitis-dpu").expect("embedded");
        assert!(text.contains(from), "{from}");
        let error = Spec::parse(&text.replacen(from, to, 1), "x")
            .expect_err("broken")
            .to_string();
        let list = error.split_once("; one of ").expect("a list").1.to_owned();
        for value in list.split(", ") {
            let listed =
                readme.contains(&format!("`{value}`")) || readme.contains(&format!("\"{value}\""));
            assert!(listed, "README.md lacks {value} of {from}");
        }
    };
    broken("quantizer = \"power-of-two\"", "quantizer = \"x\"");
    broken("signed = \"signed\"", "signed = \"x\"");
    broken("zero-point = \"zero\"", "zero-point = \"x\"");
    broken("zero-point = \"zero\"", "threshold = \"x\"");
    broken("granularity = \"per-tensor\"", "granularity = \"x\"");
    broken("division = \"reciprocal-f32\"", "division = \"x\"");
    broken("rounding = \"half-away\"", "rounding = \"x\"");
    broken("format = \"int8-shifted\"", "format = \"x\"");
    broken("overflow = \"wrap\"", "overflow = \"x\"");
    broken("overflow = \"wrap\"", "order = \"x\"");
    broken("{ format = \"power-of-two\" }", "{ format = \"x\" }");
    broken("[requantize]", "[requantize]\nderivation = \"x\"");
    broken("[requantize]", "[requantize]\nleft-shift = \"x\"");
    broken("[requantize]", "[requantize]\nzero-point = \"x\"");
    broken("[requantize]", "[requantize]\nclamp = \"x\"");
    broken("add = \"aligned-shift\"", "add = \"x\"");
    broken("mul = \"requantize\"", "mul = \"x\"");
    broken("average = \"dpu-table\"", "average = \"x\"");
    broken("rescale = \"requantize\"", "rescale = \"x\"");
    broken("leaky-relu = \"alpha-26-256\"", "leaky-relu = \"x\"");
    broken("hard-swish = \"dpu2731\"", "sigmoid = \"x\"");
    broken("hard-swish = \"dpu2731\"", "hard-swish = \"x\"");
    broken("quantizers = \"model\"", "quantizers = \"x\"");
    broken("grade = \"source\"", "grade = \"x\"");
}

/// What a bug looks like is a neighbour that exists.
#[test]
fn bugs_look_like_neighbours() {
    let mut seen = 0;
    for spec in all() {
        let labels: Vec<String> = spec
            .neighbours()
            .iter()
            .map(|neighbour| format!("{}: {}", neighbour.rule, neighbour.change))
            .collect();
        for label in spec
            .known_bugs
            .iter()
            .filter_map(|bug| bug.looks_like.as_ref())
        {
            assert!(labels.contains(label), "{}: {label}", spec.name);
            seen += 1;
        }
    }
    assert!(seen > 0);
}
