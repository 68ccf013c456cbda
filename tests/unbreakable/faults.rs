//! Faults of disks and neighbours: under the final name there is the whole file, or what was there before.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use align_check::inputs::read_arrays;
use align_check_tests::{Npz, Run, args, binary, golden, run};
use tempfile::TempDir;

use super::{names_in, says, start};

/// A check of the demo with these reports.
fn check(reports: &[String]) -> Vec<OsString> {
    let mut given = args![
        golden("demo/model.qonnx.onnx"),
        "-t",
        "nnie",
        "-q",
        "-i",
        golden("demo/inputs.npz")
    ];
    for report in reports {
        given.extend(args!["--report", report]);
    }
    given
}

pub fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// A recording of the demo in which no rule explains some elements of a layer.
fn spoilt() -> &'static Path {
    static FILE: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, file) = FILE.get_or_init(|| {
        let folder = folder();
        let file = folder.path().join("spoilt.npz");
        let key = "/stem_relu/act_quant/export_handler/Quant_output_0";
        let arrays = read_arrays(&golden("demo/fake_quant_codes.npz")).expect("the demo");
        let (_, codes) = arrays
            .iter()
            .find(|(name, _)| name == key)
            .expect("the tensor");
        let mut values: Vec<i32> = codes.values.iter().map(|&v| v as i32).collect();
        for at in [17, 1003, 2048, 4001] {
            values[at] += if values[at] > 7 { -5 } else { 5 };
        }
        Npz::new(&file).add(key, &codes.shape, &values).finish();
        (folder, file)
    });
    file
}

/// Every verb that writes, with its output at this path.
fn writers(out: &Path) -> Vec<(&'static str, Vec<OsString>)> {
    let model = golden("demo/model.qonnx.onnx");
    let inputs = golden("demo/inputs.npz");
    let json = format!("json={}", out.display());
    let as_folder = out.with_extension("");
    let recorded = golden("demo");
    let sigmoid = golden("onnxruntime/qlinear-sigmoid");
    let infer = args!["infer", sigmoid.join("model.onnx"), "--recorded", &sigmoid];
    let with = |mut given: Vec<OsString>, more: Vec<OsString>| {
        given.extend(more);
        given
    };
    vec![
        (
            "check",
            args![&model, "-t", "nnie", "-q", "-i", &inputs, "--report", &json],
        ),
        (
            "plan",
            args!["plan", &model, "-t", "nnie", "--report", &json],
        ),
        (
            "prove",
            args!["prove", &model, "-t", "exact", "--report", &json],
        ),
        (
            "verify",
            args!["verify", golden("qonnx-ops/add"), "--report", &json],
        ),
        (
            "explain",
            args![
                "explain",
                &model,
                "-t",
                "nnie",
                "--layer",
                "/stem/Conv",
                "--report",
                &json
            ],
        ),
        (
            "record",
            args![
                "record",
                &model,
                "--from",
                recorded.join("fake_quant_codes.npz"),
                "-i",
                &inputs,
                "--out",
                as_folder
            ],
        ),
        (
            "gen-inputs",
            args!["gen-inputs", &model, "--out", out.with_extension("npz")],
        ),
        (
            "infer --out",
            with(infer.clone(), args!["--out", out.with_extension("toml")]),
        ),
        ("infer --report", with(infer, args!["--report", &json])),
        (
            "--cases",
            args![
                &model,
                "-t",
                "exact",
                "-q",
                "-i",
                &inputs,
                "--recorded",
                spoilt(),
                "--cases",
                out.with_extension("")
            ],
        ),
        (
            "--state",
            args![&model, "-t", "nnie", "-q", "-i", &inputs, "--state", out],
        ),
    ]
}

#[test]
fn a_folder_that_is_a_file_or_absent_is_refused_before_the_work() {
    let folder = folder();
    let file = folder.path().join("file");
    fs::write(&file, "x").expect("a writable folder");
    for place in [file.join("out.json"), folder.path().join("absent/out.json")] {
        for (verb, given) in writers(&place) {
            let run = run(given);
            assert_eq!(run.code, Some(2), "{verb}: {run:?}");
            assert_eq!(run.stderr.lines().count(), 1, "{verb}: {run:?}");
            assert!(run.stderr.contains("out"), "{verb}: {run:?}");
        }
    }
    assert_eq!(names_in(folder.path()), ["file"]);
}

/// Where [`writers`] put folders.
fn as_cases(out: &Path) -> PathBuf {
    out.with_extension("")
}

/// All of them write where nothing is in the way: else the others would test nothing.
#[test]
fn every_writer_writes() {
    let folder = folder();
    for number in 0..writers(folder.path()).len() {
        let folder = folder.path().join(number.to_string());
        fs::create_dir(&folder).expect("a writable folder");
        let place = folder.join("out.json");
        let (verb, given) = writers(&place).swap_remove(number);
        let run = run(given);
        // A proof that stays open ends in 3.
        assert!(matches!(run.code, Some(0 | 1 | 3)), "{verb}: {run:?}");
        let names = names_in(&folder);
        assert_eq!(names.len(), 1, "{verb}: {names:?}");
        if verb == "--cases" {
            let inside = names_in(&as_cases(&place));
            assert_eq!(inside.len(), 1, "{inside:?}");
        }
    }
}

/// Runs the tool where files may not grow past 512 bytes; `ends`: whether the system may end it.
#[cfg(unix)]
fn on_a_full_disk(given: Vec<OsString>, ends: bool) -> Run {
    let trap = if ends { "" } else { "trap '' XFSZ; " };
    let script = format!("{trap}ulimit -f 1; exec \"$@\"");
    let output = Command::new("sh")
        .args(["-c", &script, "sh"])
        .arg(binary())
        .args(given)
        .stdin(Stdio::null())
        .output()
        .expect("a shell");
    Run {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        time: Duration::ZERO,
    }
}

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_nothing_or_what_was_there() {
    for ends in [false, true] {
        let folder = folder();
        let place = folder.path().join("out.json");
        for (verb, given) in writers(&place) {
            let before = names_in(folder.path());
            let run = on_a_full_disk(given, ends);
            if ends {
                assert_eq!(run.code, None, "{verb}: {run:?}");
            } else {
                assert_eq!(run.code, Some(2), "{verb}: {run:?}");
                assert_eq!(run.stderr.lines().count(), 1, "{verb}: {run:?}");
                assert_eq!(names_in(folder.path()), before, "{verb}");
            }
            // A folder of cases may be there, without any.
            let cases = as_cases(&place);
            let mut left = names_in(folder.path());
            if cases.is_dir() {
                left.retain(|name| *name != "out");
                left.extend(names_in(&cases));
                fs::remove_dir_all(cases).expect("a folder");
            }
            left.retain(|name| name != ".align-check-");
            assert!(left.is_empty(), "{verb}: {left:?}");
        }
        // An old report stays as it was.
        fs::write(&place, "old").expect("a writable folder");
        on_a_full_disk(check(&[format!("json={}", place.display())]), ends);
        assert_eq!(fs::read_to_string(&place).expect("a file"), "old");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_device_is_an_error() {
    says(
        &run(check(&["json=/dev/full".to_owned()])),
        2,
        &["/dev/full", "space"],
    );
    // Standard output, too.
    let full = fs::File::options()
        .write(true)
        .open("/dev/full")
        .expect("Linux has it");
    let output = Command::new(binary())
        .args(check(&[]))
        .stdin(Stdio::null())
        .stdout(full)
        .output()
        .expect("the tool starts");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn a_killed_run_leaves_no_damaged_report() {
    let folder = folder();
    let place = folder.path().join("report.json");
    let whole = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).is_ok();
    for (round, old) in [None, Some("{\"old\": true}")].into_iter().enumerate() {
        for step in 0..12 {
            let _ = fs::remove_file(&place);
            if let Some(old) = old {
                fs::write(&place, old).expect("a writable folder");
            }
            let mut child = start(&check(&[
                format!("html={}", folder.path().join("page.html").display()),
                format!("json={}", place.display()),
            ]));
            std::thread::sleep(Duration::from_millis(5 * step + 3 * round as u64));
            // It may have ended by itself.
            let _ = child.kill();
            child.wait().expect("a child ends");
            match fs::read(&place) {
                Ok(bytes) => assert!(whole(&bytes), "{} bytes", bytes.len()),
                Err(_) => assert!(old.is_none(), "the old report is gone"),
            }
        }
    }
    let known = [".align-check-", "page.html", "report.json"];
    for name in names_in(folder.path()) {
        assert!(known.contains(&name.as_str()), "{name}");
    }
}

/// The same run several times at once; all end well. Returns what was written where they all write.
fn at_once(given: &[OsString], code: i32) {
    let mut running: Vec<_> = (0..6).map(|_| start(given)).collect();
    for child in running.drain(..) {
        let output = child.wait_with_output().expect("a child ends");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
    }
}

#[test]
fn runs_that_write_one_report_at_once_leave_a_whole_one() {
    let folder = folder();
    let place = folder.path().join("report.json");
    for _ in 0..3 {
        at_once(&check(&[format!("json={}", place.display())]), 1);
        let bytes = fs::read(&place).expect("a report");
        serde_json::from_slice::<serde_json::Value>(&bytes).expect("a whole report");
    }
    assert_eq!(names_in(folder.path()), ["report.json"]);
}

#[test]
fn runs_that_write_one_recording_at_once_leave_a_whole_one() {
    let folder = folder();
    let out = folder.path().join("recording");
    let given = args![
        "record",
        golden("demo/model.qonnx.onnx"),
        "--from",
        golden("demo/fake_quant_codes.npz"),
        "-i",
        golden("demo/inputs.npz"),
        "--out",
        &out,
        "--force"
    ];
    at_once(&given, 0);
    at_once(&given, 0);
    align_check_tests::verified(&out).expect("a whole recording");
    assert_eq!(names_in(folder.path()), ["recording"]);
}

/// A copy of a file in a folder.
pub fn copied(from: PathBuf, folder: &TempDir, name: &str) -> PathBuf {
    let to = folder.path().join(name);
    fs::copy(from, &to).expect("a writable folder");
    to
}

#[test]
fn inputs_that_vanish_while_it_runs_end_in_a_result_or_one_line() {
    for step in 0..10 {
        let folder = folder();
        let model = copied(golden("demo/model.qonnx.onnx"), &folder, "model.onnx");
        let inputs = copied(golden("demo/inputs.npz"), &folder, "inputs.npz");
        let out = folder.path().join("report.onnx");
        let report = format!("onnx={}", out.display());
        let given = args![
            &model, "-t", "nnie", "-q", "-i", &inputs, "--report", report
        ];
        let child = start(&given);
        std::thread::sleep(Duration::from_millis(4 * step));
        fs::remove_file(&model).expect("a file");
        fs::remove_file(&inputs).expect("a file");
        let output = child.wait_with_output().expect("a child ends");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        match output.status.code() {
            Some(1) => assert!(out.is_file() && said.is_empty(), "{said}"),
            Some(2) => {
                assert!(!out.exists());
                assert_eq!(said.lines().count(), 1, "{said}");
            }
            other => panic!("{other:?}: {said}"),
        }
    }
}

/// A recording may take files from a neighbour; what that one says of them holds.
#[test]
fn a_changed_file_of_a_neighbour_is_refused() {
    let folder = folder();
    for name in ["mqbench-snpe", "mqbench-snpe-deploy"] {
        let to = folder.path().join(name);
        fs::create_dir(&to).expect("a writable folder");
        let from = fs::read_dir(golden("toolchains").join(name)).expect("a golden folder");
        for file in from.flatten() {
            fs::copy(file.path(), to.join(file.file_name())).expect("a writable folder");
        }
    }
    let given = args![
        "verify",
        folder.path().join("mqbench-snpe-deploy"),
        "-t",
        "qnn-htp-approx"
    ];
    let sound = run(given.clone());
    assert!(!sound.stderr.contains("SHA-256"), "{sound:?}");
    let outputs = folder.path().join("mqbench-snpe/outputs.npz");
    let mut bytes = fs::read(&outputs).expect("a golden file");
    bytes[1000] ^= 1;
    fs::write(&outputs, bytes).expect("a writable folder");
    says(&run(given), 2, &["outputs.npz", "SHA-256", "changed"]);
}

/// A part holds a command line; what that one writes besides reports is not written by somebody who puts parts together.
#[test]
fn a_part_writes_nothing_that_nobody_asked_for() {
    let folder = folder();
    let (state, cases) = (
        folder.path().join("state.json"),
        folder.path().join("cases"),
    );
    let given = args![
        golden("demo/model.qonnx.onnx"),
        "-t",
        "exact",
        "-q",
        "-i",
        golden("demo/inputs.npz"),
        "--recorded",
        spoilt(),
        "--cases",
        &cases,
        "--state",
        &state
    ];
    let first = run(given);
    assert_eq!(first.code, Some(1), "{first:?}");
    fs::remove_dir_all(&cases).expect("cases");
    let merged = run(args!["merge", &state, "-q"]);
    assert_eq!(merged.code, Some(1), "{merged:?}");
    assert_eq!(names_in(folder.path()), ["state.json"]);
}
