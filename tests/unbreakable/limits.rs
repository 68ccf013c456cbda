//! Files that ask for much: refused in seconds, in one line that names the argument that lifts the limit.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use align_check_tests::onnx::{Onnx, Quant, ints};
use align_check_tests::{Npz, args, golden, run};
use zip::write::SimpleFileOptions;

use super::says;

fn written(folder: &Path, model: &Onnx) -> PathBuf {
    let path = folder.join("model.onnx");
    model.write(&path);
    path
}

#[test]
fn every_limit_is_lifted_by_the_argument_that_its_message_names() {
    let model = golden("demo/model.qonnx.onnx");
    let inputs = golden("demo/inputs.npz");
    for (argument, tight, wide) in [
        ("--max-file-size", "10k", "1G"),
        ("--max-nodes", "3", "1000"),
        ("--max-elements", "10", "100000000"),
        ("--max-constants", "10", "100000000"),
        ("--max-rank", "1", "8"),
        ("--max-memory", "1k", "1GiB"),
    ] {
        let given = |value| args![&model, "-t", "nnie", "-q", "-i", &inputs, argument, value];
        says(&run(given(tight)), 2, &[argument, "limit"]);
        let run = run(given(wide));
        assert_eq!((run.code, run.stderr.as_str()), (Some(1), ""), "{argument}");
    }
    let deep = tempfile::tempdir().expect("a temporary folder");
    let text = deep.path().join("net.prototxt");
    fs::write(&text, format!("name: \"x\" layer {{ {}", "a {".repeat(100))).expect("a folder");
    says(&run(args![&text, "-t", "nnie"]), 2, &["--max-depth", "64"]);
    let run = run(args![&text, "-t", "nnie", "--max-depth", "500"]);
    assert!(!run.stderr.contains("--max-depth"), "{run:?}");
    // Every verb that reads a model has them.
    for verb in [
        "plan",
        "prove",
        "explain",
        "infer",
        "record",
        "gen-inputs",
        "verify",
    ] {
        let help = align_check_tests::run(args![verb, "--help"]);
        assert!(help.stdout.contains("--max-memory"), "{verb}");
    }
}

/// Twenty million elements from a file of a few hundred bytes.
#[test]
fn tensors_that_grow_are_refused_before_they_are_made() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = Onnx::new()
        .input("x", &[1, 1, 16384, 8192])
        .quant("x", "q", &Quant::i8(0.5, 0))
        .node("Transpose", &["q"], "t", &[ints("perm", &[0, 1, 3, 2])])
        .quant("t", "y", &Quant::i8(0.25, 0))
        .output("y", &[1, 1, 8192, 16384]);
    let path = written(folder.path(), &model);
    let run = run(args![&path, "-t", "exact", "-q"]);
    says(&run, 2, &["--max-memory", "model.onnx", "16384"]);
    assert!(run.time < Duration::from_secs(5), "{:?}", run.time);
}

/// A name as long as the largest protobuf field would make messages of no use, but no crash.
#[test]
fn extents_that_overflow_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let huge = i64::MAX / 2;
    for dims in [
        [1, 1, huge, huge],
        [huge, huge, huge, huge],
        [1, 1, 1 << 33, 1 << 33],
    ] {
        let model = Onnx::new()
            .input("x", &dims)
            .quant("x", "y", &Quant::i8(0.5, 0))
            .output("y", &dims);
        let path = written(folder.path(), &model);
        says(&run(args![&path, "-t", "exact"]), 2, &["--max-elements"]);
    }
}

/// An archive whose entry is so many zeros, compressed; `claims` more or less than there are.
fn bomb(path: &Path, megabytes: usize) {
    let mut zip = zip::ZipWriter::new(File::create(path).expect("a writable folder"));
    let options = SimpleFileOptions::default().large_file(false);
    zip.start_file("x.npy", options).expect("a new entry");
    let header = format!(
        "{{'descr': '|i1', 'fortran_order': False, 'shape': (1, {}), }}",
        megabytes << 20
    );
    let padded = format!("{header:<117}\n");
    zip.write_all(b"\x93NUMPY\x01\x00")
        .expect("a writable folder");
    zip.write_all(&(padded.len() as u16).to_le_bytes())
        .expect("a writable folder");
    zip.write_all(padded.as_bytes()).expect("a writable folder");
    let zeros = vec![0; 1 << 20];
    for _ in 0..megabytes {
        zip.write_all(&zeros).expect("a writable folder");
    }
    zip.finish().expect("a writable folder");
}

#[test]
fn archives_that_unpack_to_much_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("bomb.npz");
    // More than any small file may ask for.
    bomb(&path, 600);
    assert!(fs::metadata(&path).expect("a file").len() < 1 << 20);
    let model = golden("demo/model.qonnx.onnx");
    let given = run(args![&model, "-t", "exact", "-q", "-i", &path]);
    says(&given, 2, &["bomb.npz", "--max-memory"]);
    assert!(given.time < Duration::from_secs(5), "{:?}", given.time);
    // The size in the archive's directory is a claim. It lies in the last 'PK\x01\x02' record at offset 24.
    let mut bytes = fs::read(&path).expect("a file");
    let at = bytes
        .windows(4)
        .rposition(|w| w == b"PK\x01\x02")
        .expect("a directory");
    bytes[at + 24..at + 28].copy_from_slice(&1000u32.to_le_bytes());
    fs::write(&path, bytes).expect("a writable folder");
    let given = run(args![&model, "-t", "exact", "-q", "-i", &path]);
    says(&given, 2, &["bomb.npz"]);
    assert!(given.time < Duration::from_secs(5), "{:?}", given.time);
}

#[test]
fn an_archive_of_many_entries_is_read_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("many.npz");
    let mut npz = Npz::new(&path);
    for number in 0..20_000 {
        npz = npz.add(&number.to_string(), &[1], &[0f32]);
    }
    npz.finish();
    let given = run(args![
        golden("demo/model.qonnx.onnx"),
        "-t",
        "exact",
        "-q",
        "-i",
        &path
    ]);
    says(&given, 2, &["many.npz"]);
    assert!(given.time < Duration::from_secs(20), "{:?}", given.time);
}

#[test]
fn a_million_nodes_end_in_seconds() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut model = Onnx::new()
        .input("x", &[1, 4])
        .quant("x", "n0", &Quant::i8(0.5, 0));
    for number in 0..1_000_000 {
        let [from, to] = [number, number + 1].map(|n| format!("n{n}"));
        model = model.node("Identity", &[&from], &to, &[]);
    }
    let path = written(folder.path(), &model.output("n1000000", &[1, 4]));
    let given = run(args![&path, "-t", "exact", "-q"]);
    says(&given, 2, &["--max-nodes"]);
    assert!(given.time < Duration::from_secs(10), "{:?}", given.time);
    // And where the user wants them: no recursion, nothing quadratic.
    let given = run(args![&path, "-t", "exact", "-q", "--max-nodes", "2000000"]);
    assert_eq!(given.code, Some(0), "{given:?}");
    assert!(given.time < Duration::from_secs(60), "{:?}", given.time);
}

/// One layer with as many steps as there may be nodes: once each of them copied all before it.
#[test]
fn a_long_chain_behind_a_layer_is_followed_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut model = Onnx::new()
        .input("x", &[1, 4])
        .node("Add", &["x", "x"], "n0", &[]);
    for number in 0..90_000 {
        let [from, to] = [number, number + 1].map(|n| format!("n{n}"));
        model = model.node("Relu", &[&from], &to, &[]);
    }
    let model = model.quant("n90000", "y", &Quant::i8(0.5, 0));
    let path = written(folder.path(), &model.output("y", &[1, 4]));
    let given = run(args![&path, "-t", "exact", "-q"]);
    assert_eq!(given.code, Some(0), "{}", given.stderr);
    assert!(given.time < Duration::from_secs(30), "{:?}", given.time);
}

#[test]
fn a_circle_of_nodes_is_an_error() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = Onnx::new()
        .input("x", &[1])
        .node("Add", &["x", "b"], "a", &[])
        .node("Relu", &["a"], "b", &[])
        .output("b", &[1]);
    let path = written(folder.path(), &model);
    says(&run(args![&path, "-t", "exact"]), 2, &["node_"]);
}

/// CRC-32 as PNG has it (ISO 3309).
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(crc & 1))
        })
    })
}

/// A header says how large a picture is; little behind it unpacks to much.
#[test]
fn pictures_that_unpack_to_much_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let small = image::DynamicImage::from(image::RgbImage::new(8, 8));
    let side = 20_000u32.to_be_bytes();
    for name in ["picture.png", "picture.jpg"] {
        let path = folder.path().join(name);
        small.save(&path).expect("a writable folder");
        let mut bytes = fs::read(&path).expect("a file");
        if name.ends_with("png") {
            // Behind the signature: length, `IHDR`, width, height, five bytes, sum.
            bytes[16..20].copy_from_slice(&side);
            bytes[20..24].copy_from_slice(&side);
            let sum = crc(&bytes[12..29]);
            bytes[29..33].copy_from_slice(&sum.to_be_bytes());
        } else {
            let frame = bytes.windows(2).position(|w| w == [0xff, 0xc0]);
            let at = frame.expect("a baseline frame") + 5;
            bytes[at..at + 2].copy_from_slice(&side[2..]);
            bytes[at + 2..at + 4].copy_from_slice(&side[2..]);
        }
        fs::write(&path, bytes).expect("a writable folder");
        let model = golden("demo/model.qonnx.onnx");
        let given = run(args![&model, "-t", "nnie", "-i", &path, "--size", "8x8"]);
        says(&given, 2, &[name, "20000x20000", "--max-memory"]);
        assert!(given.time < Duration::from_secs(5), "{:?}", given.time);
    }
}

/// What is read as a whole ends at its limit, whatever the system says of its size.
#[cfg(target_os = "linux")]
#[test]
fn devices_without_an_end_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (model, inputs) = (golden("demo/model.qonnx.onnx"), golden("demo/inputs.npz"));
    let check = |more| {
        let mut given = args![&model, "-t", "nnie", "-q", "-i", &inputs];
        given.extend(more);
        given
    };
    let state = folder.path().join("state.json");
    let link = |name: &str| {
        let path = folder.path().join(name);
        std::os::unix::fs::symlink("/dev/zero", &path).expect("a writable folder");
        path
    };
    let list = link("list.txt");
    let recording = folder.path().join("recording.toml");
    let text = "tool = \"x\"\n[sha256]\n\"outputs.npz\" = \"00\"\n";
    fs::write(&recording, text).expect("a writable folder");
    link("outputs.npz");
    for (named, given) in [
        ("/dev/zero", check(args!["--labels", "/dev/zero"])),
        ("/dev/zero", check(args!["--encodings", "/dev/zero"])),
        ("/dev/zero", check(args!["--recorded", "/dev/zero"])),
        (
            "/dev/zero",
            check(args!["--resume", "--state", "/dev/zero"]),
        ),
        ("/dev/zero", args!["merge", "/dev/zero"]),
        ("/dev/zero", args!["merge", "/dev/zero", &state]),
        ("/dev/zero", args![&model, "-t", "/dev/zero"]),
        ("list.txt", args![&model, "-t", "nnie", "-i", &list]),
        ("outputs.npz", args!["verify", folder.path()]),
        (
            "/dev/zero",
            args![&model, "-t", "hls4ml", "--precision", "/dev/zero"],
        ),
        (
            "/dev/zero",
            args!["/dev/zero", "-t", "nnie", "--max-file-size", "64M"],
        ),
    ] {
        let shown = format!("{given:?}");
        let given = run(given);
        says(&given, 2, &[named]);
        assert!(
            given.time < Duration::from_secs(5),
            "{shown}: {:?}",
            given.time
        );
    }
}

/// A table in TOML takes a hundred times its size while it is read.
#[test]
fn large_tables_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let table = folder.path().join("recording.toml");
    fs::write(&table, "a = 1\n".repeat(1 << 20)).expect("a writable folder");
    let model = golden("demo/model.qonnx.onnx");
    let codes = golden("demo/fake_quant_codes.npz");
    let out = folder.path().join("out");
    for given in [
        args![&model, "-t", "hls4ml", "--precision", &table],
        args!["verify", folder.path()],
        args![
            "record", &model, "--from", codes, "--map", &table, "--out", out
        ],
    ] {
        says(&run(given), 2, &["recording.toml", "larger than"]);
    }
}
