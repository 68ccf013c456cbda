//! The README: its commands run and print what it shows, its table of targets is the specs', its spec loads.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use align_check::check::grade_text;
use align_check_specs::Spec;
use align_check_tests::{args, binary, golden, root, run};

/// What the table of targets stands between.
const TABLE: [&str; 2] = ["<!-- targets:begin -->\n", "<!-- targets:end -->"];

fn path() -> PathBuf {
    root().join("README.md")
}

fn readme() -> String {
    fs::read_to_string(path()).expect("there is a README.md")
}

/// Every console block, from the repository's root as a reader runs it. `TRYCMD=overwrite` writes what the
/// commands print into the README.
#[test]
fn console_blocks() {
    // The tool lies in TARGET/PROFILE; `cargo run` shall build into the same TARGET.
    let target = binary().ancestors().nth(2).expect("a target folder");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    // No other test of this file has relative paths.
    std::env::set_current_dir(root()).expect("the root can be entered");
    trycmd::TestCases::new()
        .register_bin("cargo", PathBuf::from(cargo).as_path())
        .register_bin("align-check", binary())
        .env("CARGO_TARGET_DIR", target.display().to_string())
        .env("CARGO_TERM_COLOR", "never")
        .case("README.md");
}

/// The table of targets, made from the specs. `UPDATE_README=1` writes it into the README.
#[test]
fn targets() {
    let text = readme();
    let (head, rest) = text.split_once(TABLE[0]).expect("the table begins");
    let (table, tail) = rest.split_once(TABLE[1]).expect("the table ends");
    let wanted = table_of_targets();
    if table == wanted {
        return;
    }
    assert!(
        std::env::var_os("UPDATE_README").is_some(),
        "the specs say otherwise (UPDATE_README=1 writes it into the README):\n{wanted}"
    );
    let [begin, end] = TABLE;
    fs::write(path(), format!("{head}{begin}{wanted}{end}{tail}")).expect("a writable README.md");
}

fn table_of_targets() -> String {
    let mut table = String::from(
        "| target | alias | what it is | weakest grade | rules by grade |\n|---|---|---|---|---|\n",
    );
    for name in align_check_specs::names() {
        let spec = Spec::resolve(name).expect("an embedded target");
        let mut grades: BTreeMap<_, usize> = BTreeMap::new();
        for rule in spec.rules() {
            *grades.entry(rule.grade).or_default() += 1;
        }
        let weakest = grades.keys().next().expect("a spec has rules");
        let counts: Vec<String> = grades
            .iter()
            .rev()
            .map(|(grade, count)| format!("{count} {}", grade_text(*grade)))
            .collect();
        let aliases: Vec<String> = spec.aliases.iter().map(|a| format!("`{a}`")).collect();
        writeln!(
            table,
            "| [`{name}`](specs/{name}.md) | {} | {} | {} | {} |",
            aliases.join(", "),
            spec.summary,
            grade_text(*weakest),
            counts.join(", ")
        )
        .expect("a String can be written to");
    }
    table
}

/// Every spec in the README is complete, and the demo can be checked under it.
#[test]
fn specs_load() {
    let text = readme();
    let specs: Vec<&str> = text
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("```").map(|(block, _)| block))
        .collect();
    assert!(!specs.is_empty(), "the README shows no spec");
    for spec in specs {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("target.toml");
        fs::write(&file, spec).expect("a temporary file");
        let done = run(args![
            golden("demo/model.qonnx.onnx"),
            "-q",
            "--target",
            file
        ]);
        assert!(
            matches!(done.code, Some(0 | 1)),
            "{:?}: {}",
            done.code,
            done.stderr
        );
    }
}

/// Links to files of the repository lead somewhere, in every document at the root.
#[test]
fn links() {
    for document in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "docs/performance.md",
        "docs/toolchains.md",
        "golden/README.md",
        "golden/toolchains/README.md",
    ] {
        let path = root().join(document);
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{document}: {e}"));
        let folder = path.parent().expect("a file lies in a folder");
        for rest in text.split("](").skip(1) {
            let link = rest.split([')', '#']).next().unwrap_or_default();
            if link.is_empty() || link.contains("://") {
                continue;
            }
            assert!(
                folder.join(link).exists(),
                "{document}: no such file: {link}"
            );
        }
    }
}

/// Every source file stands on the map.
#[test]
fn the_map_is_complete() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("there is a map");
    for room in ["graph", "specs", "simulators", "harness"] {
        let source = root().join(room).join("src");
        for file in sources(&source) {
            let inside = file.strip_prefix(&source).expect("a file of this folder");
            let parts: Vec<&str> = inside.iter().filter_map(|part| part.to_str()).collect();
            let path = format!("`{room}/src/{}`", parts.join("/"));
            assert!(map.contains(&path), "ARCHITECTURE.md does not name {path}");
        }
    }
}

/// The Rust files of a folder, less folders of tests.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.ends_with("tests") {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found
}
