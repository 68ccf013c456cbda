//! Reports in files.

use std::fs;
use std::path::Path;

use align_check::report;

use crate::sample;

fn entries(folder: &Path) -> usize {
    fs::read_dir(folder).expect("a folder").count()
}

#[test]
fn every_kind_is_written_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let outcome = sample::two();
    for kind in [
        "json",
        "html",
        "junit",
        "md",
        "csv",
        "sarif",
        "model-explorer",
    ] {
        let path = folder.path().join(kind);
        let target = format!("{kind}={}", path.display());
        report::check_target(&target).expect("a target");
        assert!(!path.exists(), "checking leaves nothing behind");
        report::write(&target, &outcome).expect("written");
        report::write(&target, &outcome).expect("replaced");
    }
    assert_eq!(entries(folder.path()), 7);
    let json = fs::read_to_string(folder.path().join("json")).expect("text");
    assert_eq!(json, report::json(&outcome));
}

#[test]
fn failures_name_the_path_in_one_line_and_leave_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, "kept").expect("a file");
    let busy = folder.path().join("busy");
    fs::create_dir(&busy).expect("a folder");
    for path in [
        busy.clone(),
        file.join("below-a-file.json"),
        folder.path().join("missing").join("out.json"),
        folder.path().join("x".repeat(300)),
    ] {
        let target = format!("json={}", path.display());
        for error in [
            report::check_target(&target),
            report::write(&target, &sample::one()),
        ] {
            let error = format!("{:#}", error.expect_err("it cannot be written"));
            assert!(error.contains(&path.display().to_string()), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
            assert!(!error.contains(".align-check-"), "{error}");
        }
    }
    assert_eq!(entries(folder.path()), 2);
    assert_eq!(entries(&busy), 0);
    assert_eq!(fs::read_to_string(&file).expect("text"), "kept");
}

#[test]
fn targets_are_understood_before_the_work() {
    for (target, says) in [
        (
            "xml=out.xml",
            "--report xml=out.xml: unknown kind, expected one of json, html, junit, md, csv, sarif, \
             model-explorer, onnx, parquet",
        ),
        (
            "out.json",
            "--report out.json: expected KIND=PATH, where KIND is one of json, html, junit, md, csv, sarif, \
             model-explorer, onnx, parquet",
        ),
        ("json=", "--report json=: the path is missing"),
    ] {
        let error = report::check_target(target).expect_err("it is wrong");
        assert_eq!(error.to_string(), says);
    }
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_devices_are_kept() {
    use std::os::unix::fs::{FileTypeExt as _, symlink};

    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file.csv");
    fs::write(&file, "old").expect("a file");
    let link = folder.path().join("link.csv");
    symlink(&file, &link).expect("a link");
    report::write(&format!("csv={}", link.display()), &sample::one()).expect("written");
    assert!(fs::symlink_metadata(&link).expect("a link").is_symlink());
    assert_eq!(
        fs::read_to_string(&file).expect("text"),
        report::csv(&sample::one())
    );

    report::write("json=/dev/null", &sample::one()).expect("written");
    assert!(
        fs::metadata("/dev/null")
            .expect("a device")
            .file_type()
            .is_char_device()
    );
}
