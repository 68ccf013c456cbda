//! What may go wrong around the tool: disks, other runs, files that ask for too much, names that mean harm.

mod faults;
mod limits;
mod names;
mod outputs;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use align_check_tests::{Run, binary};

/// The one line of an error, with these words; and its exit code.
#[track_caller]
fn says(run: &Run, code: i32, words: &[&str]) {
    assert_eq!(run.code, Some(code), "{run:?}");
    assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
    for word in words {
        assert!(run.stderr.contains(word), "'{word}' is missing: {run:?}");
    }
}

/// Starts the tool, with what it says kept apart.
fn start(arguments: &[std::ffi::OsString]) -> Child {
    Command::new(binary())
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the tool starts")
}

/// The names in a folder, sorted; of temporary files the prefix only.
fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten();
    let name = |entry: std::fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let temporary = name.starts_with(".align-check-");
        if temporary {
            ".align-check-".to_owned()
        } else {
            name
        }
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}
