//! Every recording in `golden/` is reproduced, and refutes the neighbours of the rules that it proves.
//!
//! `UPDATE_GOLDEN=1 cargo test --release -p align-check-tests --test golden` writes what was found into
//! `golden/refuted.toml` and into the targets' pages; without it, they must say what is found. A list of targets in place of
//! the 1 (`UPDATE_GOLDEN=fbgemm,qnnpack`) brings these up to date and leaves the others.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use align_check::check::grade_text;
use align_check::recording::{self, Folder};
use align_check::verify::{self, Loaded, Tally, Verified};
use align_check_graph::Limits;
use align_check_simulators::kernels::Isa;
use align_check_specs::{Grade, Spec, embedded_toml, names, replace_between};
use align_check_tests::{golden, root, say, verified};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Between these lines of a target's page stands what was reproduced.
const RECORDED: [&str; 2] = ["<!-- recorded:begin -->", "<!-- recorded:end -->"];
/// And between these, which neighbours were refuted.
const REFUTED: [&str; 2] = ["<!-- refuted:begin -->", "<!-- refuted:end -->"];

/// Recordings of operators that are not evaluated: the tool must say so.
const UNSUPPORTED: [&str; 10] = [
    "onnx-reference/quantize-blocked",
    "onnxruntime/quantize-blocked",
    "qonnx-ops/extra-moves",
    "qonnx-ops/extra-reductions",
    "qonnx-ops/extra-unary",
    "qonnx-ops/im2col",
    "qonnx-ops/quant-avg-pool-2d",
    "qonnx-ops/xnor-popcount",
    // Their last bits are a matter of f32, and the int8 targets have no 16-bit codes.
    "tflite/dequantize-opt",
    "tflite/dequantize-ref",
];

/// Name of a recording: its path below `golden/`.
fn name(path: &Path) -> String {
    let below = path.strip_prefix(golden("")).unwrap_or(path);
    below.display().to_string()
}

fn folders() -> Vec<PathBuf> {
    let mut all = recording::find(&golden("")).expect("there are recordings");
    if updating() {
        all.retain(|path| {
            let folder = Folder::open(path).expect("a sound recording");
            folder.provenance.targets.iter().any(|name| wanted(name))
        });
    }
    all
}

fn updating() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}

/// Whether a target is brought up to date.
fn wanted(target: &str) -> bool {
    match std::env::var("UPDATE_GOLDEN") {
        Ok(list) if list != "1" => list.split(',').any(|name| name == target),
        _ => true,
    }
}

static VERIFIED: LazyLock<Verified> = LazyLock::new(|| {
    let parts: Vec<Verified> = folders()
        .par_iter()
        .map(|folder| {
            verify::verify(
                std::slice::from_ref(folder),
                &[],
                Isa::detect(),
                &Limits::default(),
                &|_| {},
            )
            .unwrap_or_else(|e| panic!("{}: {e:?}", name(folder)))
        })
        .collect();
    let mut all = Verified::default();
    for part in parts {
        all.cases.extend(part.cases);
        all.without_target.extend(part.without_target);
        all.without_model.extend(part.without_model);
    }
    all
});

/// 0 elements differ, layer by layer and end to end, for each target that a recording names.
#[test]
fn recordings_are_reproduced() {
    let mut failed = Vec::new();
    for case in &VERIFIED.cases {
        let recording = name(&case.recording);
        let known = UNSUPPORTED.contains(&recording.as_str());
        match &case.unsupported {
            Some(_) if known => {}
            Some(why) => failed.push(format!("{recording} under {}: {why}", case.target)),
            None if known => failed.push(format!("{recording} is supported now")),
            None if !case.reproduced() => failed.push(format!(
                "{recording} under {}: {} elements differ, {} end to end",
                case.target,
                case.differing(),
                case.end_to_end.differing
            )),
            None => {}
        }
    }
    let elements: u64 = VERIFIED.table().values().map(|t| t.elements).sum();
    say(format_args!(
        "golden: {} recordings, {elements} elements compared",
        VERIFIED.cases.len()
    ));
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Every file in `golden/` stands with its SHA-256 in a `recording.toml`, but for pages, scripts and what this test writes.
/// That the sums are right is verified wherever a recording is opened.
#[test]
fn every_file_has_its_sum() {
    let mut folders = vec![golden("")];
    let mut files = Vec::new();
    let mut listed = Vec::new();
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).expect("a folder").flatten();
        for path in entries.map(|entry| entry.path()) {
            if path.is_dir() && path != golden("recorders") {
                folders.push(path);
            } else if path.ends_with(recording::PROVENANCE) {
                let sums = verified(&folder).expect("a sound recording");
                let sums = sums["sha256"].as_table().expect("a table");
                listed.extend(sums.keys().map(|name| folder.join(name)));
            } else if path.is_file() && !path.ends_with("README.md") {
                files.push(path);
            }
        }
    }
    files.retain(|file| !listed.contains(file) && *file != golden("refuted.toml"));
    assert!(files.is_empty(), "{files:?}");
    assert!(listed.len() > 1000, "{} files", listed.len());
}

/// A rule may only be called `recorded` if a recording names its target.
#[test]
fn recorded_grades_have_recordings() {
    for target in names() {
        let spec = Spec::resolve(target).expect("an embedded target");
        for evidence in &spec.evidence {
            if evidence.grade != Grade::Recorded {
                continue;
            }
            let own = evidence.source.split_whitespace().find_map(|word| {
                let path = word
                    .trim_matches(|c| c == ',' || c == ';')
                    .strip_prefix("golden/")?;
                golden(path).is_dir().then(|| path.to_string())
            });
            assert!(
                own.is_some() || evidence.source.contains("tests/"),
                "{target}: {:?} is graded recorded, but '{}' names no folder in golden/ and no test",
                evidence.rules,
                evidence.source
            );
        }
    }
}

/// What was refuted, for each target and neighbour.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Refuted {
    /// For each target, for each `rule: change`.
    #[serde(flatten)]
    targets: BTreeMap<String, BTreeMap<String, Refutation>>,
}

/// The recording that refutes a neighbour with the most elements.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Refutation {
    /// Its name; empty where no recording refutes the neighbour.
    recording: String,
    /// Elements that the neighbour gets wrong there.
    differing: u64,
}

/// Recordings of each target, loaded.
fn by_target() -> BTreeMap<String, Vec<PathBuf>> {
    let mut by_target: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for path in folders() {
        let folder = Folder::open(&path).expect("a sound recording");
        if !folder.has_model() {
            continue;
        }
        for target in &folder.provenance.targets {
            let spec = Spec::resolve(target).expect("a known target");
            if wanted(&spec.name) {
                by_target.entry(spec.name).or_default().push(path.clone());
            }
        }
    }
    by_target
}

fn load(path: &Path) -> Option<Loaded> {
    Loaded::new(
        Folder::open(path).expect("a sound recording"),
        Isa::detect(),
        &Limits::default(),
    )
    .ok()
}

/// Elements that a spec gets wrong on a recording; nothing where it cannot run.
fn wrong(loaded: &Loaded, spec: Spec) -> u64 {
    loaded.run_isolated(spec).map_or(0, |case| case.differing())
}

/// Every neighbour of a recorded target is refuted by the recording that `golden/refuted.toml` names, with
/// as many elements as it says; what no recording refutes stands there, too.
#[test]
fn neighbours_are_refuted() {
    let path = golden("refuted.toml");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let known: Refuted = toml::from_str(&text).expect("golden/refuted.toml");
    if updating() {
        let mut found = known;
        found.targets.extend(refute_all().targets);
        let text = format!(
            "# Which recording refutes which neighbour of a target's rules, with the most elements. Made by\n\
             # UPDATE_GOLDEN=1 cargo test --release -p align-check-tests --test golden\n\n{}",
            toml::to_string(&found).expect("a table")
        );
        fs::write(&path, text).expect("golden/ is writable");
        return;
    }
    let by_target = by_target();
    for (target, paths) in &by_target {
        let spec = Spec::resolve(target).expect("an embedded target");
        let neighbours = spec.neighbours();
        let listed = known.targets.get(target).cloned().unwrap_or_default();
        let wanted: Vec<String> = neighbours
            .iter()
            .map(|n| format!("{}: {}", n.rule, n.change))
            .collect();
        let have: Vec<&String> = listed.keys().collect();
        for key in &wanted {
            assert!(
                have.contains(&key),
                "{target}: '{key}' is not in golden/refuted.toml (UPDATE_GOLDEN=1)"
            );
        }
        assert_eq!(
            wanted.len(),
            have.len(),
            "{target}: golden/refuted.toml lists unknown neighbours"
        );
        // Each recording is loaded once.
        let failures: Vec<String> = paths
            .par_iter()
            .flat_map_iter(|path| {
                let own = name(path);
                let mine: Vec<_> = neighbours
                    .iter()
                    .filter(|n| listed[&format!("{}: {}", n.rule, n.change)].recording == own)
                    .collect();
                let loaded = if mine.is_empty() { None } else { load(path) };
                let mut failures = Vec::new();
                for n in mine {
                    let key = format!("{}: {}", n.rule, n.change);
                    let found = loaded.as_ref().map_or(0, |l| wrong(l, n.spec.clone()));
                    if found != listed[&key].differing {
                        failures.push(format!(
                            "{target}, {own}: '{key}' gets {found} elements wrong, not {}",
                            listed[&key].differing
                        ));
                    }
                }
                failures
            })
            .collect();
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }
}

fn refute_all() -> Refuted {
    let mut refuted = Refuted::default();
    for (target, paths) in by_target() {
        let spec = Spec::resolve(&target).expect("an embedded target");
        let neighbours = spec.neighbours();
        let counts: Vec<Vec<u64>> = paths
            .par_iter()
            .map(|path| match load(path) {
                Some(loaded) => neighbours
                    .iter()
                    .map(|n| wrong(&loaded, n.spec.clone()))
                    .collect(),
                None => vec![0; neighbours.len()],
            })
            .collect();
        let entry = refuted.targets.entry(target).or_default();
        for (index, n) in neighbours.iter().enumerate() {
            let mut best = Refutation::default();
            for (path, counts) in paths.iter().zip(&counts) {
                if counts[index] > best.differing {
                    best = Refutation {
                        recording: name(path),
                        differing: counts[index],
                    };
                }
            }
            entry.insert(format!("{}: {}", n.rule, n.change), best);
        }
    }
    refuted
}

/// The tables of the targets' pages are what the recordings show.
#[test]
fn pages_say_what_was_reproduced() {
    let refuted = fs::read_to_string(golden("refuted.toml")).unwrap_or_default();
    let refuted: Refuted = toml::from_str(&refuted).expect("golden/refuted.toml");
    let table = VERIFIED.table();
    let ends = VERIFIED.end_to_end();
    for target in names().iter().filter(|target| wanted(target)) {
        let rows: Vec<(&str, Tally)> = table
            .iter()
            .filter(|((name, _), _)| name == target)
            .map(|((_, op), tally)| (op.as_str(), *tally))
            .collect();
        assert!(embedded_toml(target).is_some());
        let path = root().join("specs").join(format!("{target}.md"));
        let page = fs::read_to_string(&path).expect("every target has a page");
        let end = ends.get(*target).copied().unwrap_or_default();
        let Some(wanted) = replace_between(&page, RECORDED, &recorded_table(&rows, end)) else {
            assert!(rows.is_empty(), "{target}.md lacks {RECORDED:?}");
            continue;
        };
        let neighbours = refuted.targets.get(*target).cloned().unwrap_or_default();
        let wanted = replace_between(
            &wanted,
            REFUTED,
            &refuted_table(&neighbours, !rows.is_empty()),
        )
        .unwrap_or_else(|| panic!("{target}.md lacks {REFUTED:?}"));
        if updating() {
            fs::write(&path, wanted).expect("a writable page");
        } else {
            assert_eq!(
                page, wanted,
                "{target}.md is not what is found (UPDATE_GOLDEN=1, twice)"
            );
        }
    }
}

fn recorded_table(rows: &[(&str, Tally)], end: Tally) -> String {
    if rows.is_empty() {
        return "Nothing: no recording of this target is in the repository.".to_owned();
    }
    let mut out =
        String::from("| op | grade | layers | elements | differing |\n|---|---|---|---|---|\n");
    for (op, tally) in rows {
        let noise = match tally.noise {
            0 => String::new(),
            n => format!(" ({n} by float32 summation order)"),
        };
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(
            out,
            "| {op} | {} | {} | {} | {}{noise} |",
            grade_text(tally.grade),
            tally.layers,
            tally.elements,
            tally.differing
        );
    }
    let _ = writeln!(
        out,
        "\nEnd to end: {} outputs, {} elements, {} differing.",
        end.layers, end.elements, end.differing
    );
    out
}

fn refuted_table(neighbours: &BTreeMap<String, Refutation>, recorded: bool) -> String {
    if recorded && neighbours.is_empty() {
        return "None: every decision is the model's own.".to_owned();
    }
    if neighbours.is_empty() {
        return "Nothing: no recording of this target is in the repository.".to_owned();
    }
    let mut out = String::from("| wrong rule | elements wrong | in |\n|---|---|---|\n");
    let mut undecided = Vec::new();
    for (key, refutation) in neighbours {
        if refutation.differing == 0 {
            undecided.push(format!("`{key}`"));
        } else {
            let _ = writeln!(
                out,
                "| `{key}` | {} | {} |",
                refutation.differing, refutation.recording
            );
        }
    }
    if !undecided.is_empty() {
        let _ = writeln!(
            out,
            "\nNot told apart from the rules above by any recording: {}.",
            undecided.join(", ")
        );
    }
    out
}
