//! The command line: wrong input is one line and exit code 2, and leaves nothing behind.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use align_check_tests::onnx::{Onnx, Quant};
use align_check_tests::{Npz, Random, Run, args, golden, run};
use tempfile::TempDir;

fn demo() -> PathBuf {
    golden("demo/model.qonnx.onnx")
}

fn demo_inputs() -> PathBuf {
    golden("demo/inputs.npz")
}

/// Runs the tool with a report; it must fail with `code`, one line that says each of `words`, and no report.
fn fails(mut given: Vec<OsString>, code: i32, words: &[&str]) -> Run {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("report.json");
    given.extend(args!["--report", format!("json={}", path.display())]);
    let shown = format!("{given:?}");
    let run = run(given);
    assert_eq!(run.code, Some(code), "{shown}: {}", run.stderr);
    assert_eq!(run.stderr.lines().count(), 1, "{shown}: {}", run.stderr);
    assert!(
        run.stderr.starts_with("align-check: "),
        "{shown}: {}",
        run.stderr
    );
    assert_eq!(run.stdout, "", "{shown}");
    for word in words {
        assert!(
            run.stderr.contains(word),
            "{shown}: '{word}' is not in: {}",
            run.stderr
        );
    }
    let left = fs::read_dir(folder.path()).expect("the folder").count();
    assert_eq!(left, 0, "{shown}: something was left behind");
    run
}

/// A file of some bytes, under the extension that its kind has.
fn file(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, bytes).expect("a writable folder");
    path
}

fn named(path: &Path) -> String {
    path.file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned()
}

/// A model of one quantizer.
fn one_quant(quant: &Quant) -> Onnx {
    Onnx::new()
        .input("x", &[1, 4])
        .quant("x", "y", quant)
        .output("y", &[1, 4])
}

#[test]
fn a_truncated_model_is_refused_at_every_length() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bytes = fs::read(demo()).expect("the demo");
    let mut random = Random(1);
    let mut lengths = vec![0, 1, 2, 3, 5, 8, 13, 100, bytes.len() / 2, bytes.len() - 1];
    lengths.extend((0..20).map(|_| random.below(bytes.len())));
    for length in lengths {
        let path = file(&folder, "cut.onnx", &bytes[..length]);
        fails(args![&path, "-t", "exact"], 2, &["cut.onnx"]);
    }
}

#[test]
fn what_is_no_model_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut random = Random(2);
    let noise: Vec<u8> = (0..4096).map(|_| random.number() as u8).collect();
    for (name, bytes) in [
        ("noise.onnx", noise.as_slice()),
        ("text.onnx", b"this is no model\n"),
        ("zeros.onnx", &[0; 1000]),
        ("zip.onnx", b"PK\x03\x04 and nothing else"),
    ] {
        let path = file(&folder, name, bytes);
        fails(args![&path, "-t", "exact"], 2, &[name]);
    }
    let npz = demo_inputs();
    fails(args![&npz, "-t", "exact"], 2, &["inputs.npz"]);
    fails(
        args!["no-such-file.onnx", "-t", "exact"],
        2,
        &["no-such-file.onnx"],
    );
    fails(args![folder.path(), "-t", "exact"], 2, &[]);
}

#[test]
fn a_model_that_contradicts_itself_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let good = Quant::i8(0.5, 0);
    let missing = Onnx::new()
        .input("x", &[1, 4])
        .quant("nowhere", "y", &good)
        .output("y", &[1, 4]);
    let cycle = Onnx::new()
        .node("Add", &["a", "b"], "b", &[])
        .node("Relu", &["b"], "a", &[])
        .output("a", &[1]);
    let twice = one_quant(&good).quant("x", "y", &good);
    let mut cases = vec![
        ("missing.onnx".to_owned(), missing, vec!["nowhere"]),
        ("cycle.onnx".to_owned(), cycle, vec![]),
        ("twice.onnx".to_owned(), twice, vec!["y"]),
    ];
    for scale in [0.0, -0.5, f32::NAN, f32::INFINITY] {
        let model = one_quant(&Quant::i8(scale, 0));
        cases.push((format!("scale {scale}.onnx"), model, vec!["node_y"]));
    }
    for (name, model, mut words) in cases {
        let path = folder.path().join(&name);
        model.write(&path);
        words.push(&name);
        fails(args![&path, "-t", "exact"], 2, &words);
    }
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    Npz::new(&path("shape.npz"))
        .add("image", &[2, 1, 9, 8], &[0.5f32; 144])
        .finish();
    Npz::new(&path("rank.npz"))
        .add("image", &[64], &[0.5f32; 64])
        .finish();
    Npz::new(&path("empty.npz"))
        .add("image", &[0, 1, 8, 8], &[0f32; 0])
        .finish();
    let mut bad = [0.5f32; 64];
    bad[17] = f32::NAN;
    Npz::new(&path("nan.npz"))
        .add("image", &[1, 1, 8, 8], &bad)
        .finish();
    for (name, words) in [
        ("shape.npz", vec!["image", "9"]),
        ("rank.npz", vec!["image", "64"]),
        ("empty.npz", vec!["image"]),
        ("nan.npz", vec!["image", "NaN", "17"]),
    ] {
        let mut words = words;
        words.push(name);
        fails(args![demo(), "-t", "exact", "-i", path(name)], 2, &words);
    }
    file(&folder, "noise.npz", b"not an archive");
    fails(
        args![demo(), "-t", "exact", "-i", path("noise.npz")],
        2,
        &["noise.npz"],
    );
    fails(
        args![demo(), "-t", "exact", "-i", path("absent.npz")],
        2,
        &["absent.npz"],
    );

    // Two inputs, and a file that holds one of them, or none.
    let sum = Onnx::new()
        .input("a", &[1, 4])
        .input("b", &[1, 4])
        .node("Add", &["a", "b"], "s", &[])
        .quant("s", "y", &Quant::i8(0.5, 0))
        .output("y", &[1, 4]);
    sum.write(&path("sum.onnx"));
    for (name, keys) in [("one.npz", vec!["a"]), ("none.npz", vec!["c"])] {
        keys.iter()
            .fold(Npz::new(&path(name)), |npz, key| {
                npz.add(key, &[1, 4], &[1f32; 4])
            })
            .finish();
        fails(
            args![path("sum.onnx"), "-t", "exact", "-i", path(name)],
            2,
            &[name, "b"],
        );
    }
    Npz::new(&path("uneven.npz"))
        .add("a", &[2, 4], &[1f32; 8])
        .add("b", &[1, 4], &[1f32; 4])
        .finish();
    fails(
        args![path("sum.onnx"), "-t", "exact", "-i", path("uneven.npz")],
        2,
        &["uneven.npz"],
    );
}

#[test]
fn headers_that_lie_and_bombs_are_refused() {
    use std::io::Write as _;
    use zip::write::SimpleFileOptions;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let entry = |name: &str, bytes: &[u8], method| {
        let path = folder.path().join(name);
        let mut zip = zip::ZipWriter::new(fs::File::create(&path).expect("a writable folder"));
        let options = SimpleFileOptions::default().compression_method(method);
        zip.start_file("image.npy", options).expect("an entry");
        zip.write_all(bytes).expect("a writable folder");
        zip.finish().expect("a writable folder");
        path
    };
    let header = |shape: &str| {
        let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes
    };
    let stored = zip::CompressionMethod::Stored;
    let deflated = zip::CompressionMethod::Deflated;
    for (name, shape) in [
        ("long.npz", "(1000000000, 1, 8, 8)"),
        ("overflow.npz", "(4294967296, 4294967296, 4294967296)"),
        ("negative.npz", "(-1, 1, 8, 8)"),
        ("open.npz", "(1, 1, 8, 8"),
        ("none.npz", "7"),
    ] {
        let mut bytes = header(shape);
        bytes.extend([0; 256]);
        let path = entry(name, &bytes, stored);
        fails(
            args![demo(), "-t", "exact", "-i", path],
            2,
            &[name, "image"],
        );
    }
    // One mebibyte of header, and one that ends early.
    let mut tall = b"\x93NUMPY\x02\x00\xff\xff\xff\x7f".to_vec();
    tall.extend([b' '; 100]);
    for (name, bytes) in [("tall.npz", tall), ("short.npz", b"\x93NUMPY\x01".to_vec())] {
        let path = entry(name, &bytes, stored);
        fails(args![demo(), "-t", "exact", "-i", path], 2, &[name]);
    }
    // 64 MiB of zeros in 64 KiB: allowed by its size, refused by its shape.
    let mut bomb = header("(1, 1, 8, 8)");
    bomb.resize(64 << 20, 0);
    let path = entry("bomb.npz", &bomb, deflated);
    let run = fails(args![demo(), "-t", "exact", "-i", path], 2, &["bomb.npz"]);
    assert!(run.time.as_secs() < 5, "{:?}", run.time);
    // An entry whose directory promises 4 GiB.
    let good = entry("promise.npz", &header("(1, 1, 8, 8)"), stored);
    let mut bytes = fs::read(&good).expect("the file");
    let at = bytes
        .windows(4)
        .position(|w| w == b"PK\x01\x02")
        .expect("a directory");
    bytes[at + 24..at + 28].copy_from_slice(&0xffff_fff0u32.to_le_bytes());
    let path = file(&folder, "promise.npz", &bytes);
    fails(
        args![demo(), "-t", "exact", "-i", path],
        2,
        &["promise.npz"],
    );
}

#[test]
fn options_that_make_no_sense_are_refused() {
    fails(
        args![demo(), "-t", "exactt"],
        2,
        &["exactt", "exact", "nnie"],
    );
    fails(args![demo(), "-t", "exact", "-j", "0"], 2, &["-j 0"]);
    fails(
        args![
            demo(),
            "-t",
            "exact,onnxruntime",
            "-i",
            demo_inputs(),
            "--recorded",
            golden("demo/fake_quant_codes.npz")
        ],
        2,
        &["--recorded", "2"],
    );
    fails(
        args![
            demo(),
            "-t",
            "exact",
            "--recorded",
            golden("demo/fake_quant_codes.npz")
        ],
        2,
        &["fake_quant_codes.npz", "image", "--input"],
    );
    fails(args![demo(), "-t", "exact", "--layers", "["], 2, &["["]);
    fails(
        args![demo(), "-t", "exact", "--report", "pdf=x"],
        2,
        &["pdf", "json"],
    );
    fails(
        args![demo(), "-t", "exact", "--report", "json="],
        2,
        &["json"],
    );
    fails(
        args![demo(), "-t", "exact", "--report", "md=/no/such/folder/x.md"],
        2,
        &["/no/such/folder/x.md"],
    );
    // The parser's own messages have a usage line below.
    for given in [
        args![demo()],
        args!["--target", "exact"],
        args![demo(), "-t", "exact", "--mode", "sideways"],
        args![demo(), "-t", "exact", "-j", "many"],
        args![demo(), "-t", "exact", "--no-such-option"],
    ] {
        let run = run(given);
        assert_eq!(run.code, Some(2), "{}", run.stderr);
        assert!(run.stderr.starts_with("error: "), "{}", run.stderr);
        assert_eq!(run.stdout, "");
    }
}

#[test]
fn a_broken_target_file_is_one_line_with_line_and_field() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let spec = fs::read_to_string(golden("../specs/tflite-reference.toml")).expect("a spec");
    let line = |text: &str| {
        1 + spec
            .lines()
            .position(|l| l.starts_with(text))
            .expect("a line")
    };
    for (name, from, to, field) in [
        (
            "value.toml",
            "order = \"channel-last\"",
            "order = \"backwards\"",
            "order",
        ),
        ("kind.toml", "bits = 32", "bits = \"many\"", "bits"),
        (
            "field.toml",
            "derivation = \"f64\"",
            "derivaton = \"f64\"",
            "derivaton",
        ),
        (
            "syntax.toml",
            "left-shift = \"wrap\"",
            "left-shift = \"wrap",
            "left-shift",
        ),
    ] {
        assert!(spec.contains(from), "{from}");
        let path = file(&folder, name, spec.replacen(from, to, 1).as_bytes());
        let number = format!("{}", line(from));
        let run = fails(args![demo(), "-t", &path], 2, &[name, &number]);
        assert!(
            run.stderr.contains(field) || name == "syntax.toml",
            "{}",
            run.stderr
        );
    }
    let path = file(&folder, "noise.toml", &[0xff, 0xfe, 0, 1]);
    fails(args![demo(), "-t", &path], 2, &[&named(&path)]);
    fails(args![demo(), "-t", "absent.toml"], 2, &["absent.toml"]);
}

#[test]
fn what_a_target_lacks_is_said() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("wide.onnx");
    one_quant(&Quant::uniform(0.5, 0, 16, true)).write(&path);
    fails(
        args![&path, "-t", "tflite-reference"],
        3,
        &["unsupported", "wide.onnx", "node_y"],
    );
}

#[test]
fn help_and_targets_are_shown() {
    for (given, words) in [
        (args!["--help"], vec!["--target", "Exit codes"]),
        (args!["--version"], vec![env!("CARGO_PKG_VERSION")]),
        (args!["targets"], vec!["nnie", "onnxruntime", "vitis-dpu"]),
        (args!["targets", "nnie"], vec!["nnie", "hypothesis"]),
        (args!["targets", "dsp"], vec!["hexagon-nn"]),
    ] {
        let run = run(given);
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        assert_eq!(run.stderr, "");
        for word in words {
            assert!(run.stdout.contains(word), "'{word}': {}", run.stdout);
        }
    }
    let run = run(args!["targets", "nowhere"]);
    assert_eq!((run.code, run.stderr.lines().count()), (Some(2), 1));
}
