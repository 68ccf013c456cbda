//! Whole datasets: what counts as an input, memory, labels, interruption, shards.

#![allow(clippy::useless_vec, reason = "`args!` makes lists")]

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use align_check_graph::onnx::proto::tensor_proto::DataLocation;
use align_check_graph::onnx::proto::{ModelProto, StringStringEntryProto};
use align_check_tests::onnx::{Onnx, Quant, ints};
use align_check_tests::{Npz, Random, args, binary, golden, list, report, run, skip, text, whole};
use parquet::file::reader::{FileReader, SerializedFileReader};
use prost::Message;
use serde_json::Value;
use tempfile::TempDir;

const KINDS: [&str; 7] = ["json", "html", "csv", "md", "junit", "sarif", "parquet"];

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// Pictures of the demo's size, as numbers from 0 to 255.
fn pixels(count: usize, seed: u64) -> Vec<Vec<u8>> {
    let mut random = Random(seed);
    let one = |random: &mut Random| (0..64).map(|_| random.below(256) as u8).collect();
    (0..count).map(|_| one(&mut random)).collect()
}

/// What `--mean 127.5 --scale 1/127.5` makes of a pixel.
fn number(pixel: u8) -> f32 {
    ((f64::from(pixel) - 127.5) * (1.0 / 127.5)) as f32
}

fn npz(path: &Path, pictures: &[Vec<u8>]) {
    let values: Vec<f32> = pictures.iter().flatten().map(|&p| number(p)).collect();
    Npz::new(path)
        .add("image", &[pictures.len(), 1, 8, 8], &values)
        .finish();
}

fn demo() -> PathBuf {
    golden("demo/model.qonnx.onnx")
}

/// Runs the tool with a report of every kind; returns their bytes.
fn reports(mut given: Vec<OsString>, code: i32) -> Vec<Vec<u8>> {
    let folder = folder();
    for kind in KINDS {
        let path = folder.path().join(kind);
        given.extend(args!["--report", format!("{kind}={}", path.display())]);
    }
    let run = run(given);
    assert_eq!(run.code, Some(code), "{}", run.stderr);
    let read = |kind| fs::read(folder.path().join(kind)).expect("a report");
    KINDS.map(read).to_vec()
}

fn same(a: &[Vec<u8>], b: &[Vec<u8>], what: &str) {
    for ((a, b), kind) in a.iter().zip(b).zip(KINDS) {
        assert!(!a.is_empty(), "{kind}");
        assert!(a == b, "{what}: {kind} differs");
    }
}

/// A check of the demo on random pictures, with labels.
fn long(folder: &Path, count: usize) -> Vec<OsString> {
    let inputs = folder.join("inputs.npz");
    npz(&inputs, &pixels(count, 3));
    let labels = folder.join("labels.csv");
    let lines: Vec<String> = (0..count).map(|n| format!("{n},{}", n % 10)).collect();
    fs::write(&labels, format!("input,class\n{}\n", lines.join("\n"))).expect("a file");
    args![
        demo(),
        "-t",
        "tflite,nnie",
        "--input",
        inputs,
        "--labels",
        labels
    ]
}

fn with(given: &[OsString], more: Vec<OsString>) -> Vec<OsString> {
    given.iter().cloned().chain(more).collect()
}

#[test]
fn shards_and_states_give_the_bytes_of_one_run() {
    let folder = folder();
    let given = long(folder.path(), 40);
    let one = reports(with(&given, args!["-j", "1"]), 1);
    same(
        &one,
        &reports(with(&given, args!["-j", "2"]), 1),
        "two threads",
    );
    same(
        &one,
        &reports(with(&given, args!["-j", "7"]), 1),
        "seven threads",
    );
    for shards in [3, 7] {
        let part = |number: usize| folder.path().join(format!("{number}-of-{shards}.json"));
        for number in 1..=shards {
            let shard = format!("{number}/{shards}");
            let run = run(with(
                &given,
                args!["--shard", shard, "--state", part(number)],
            ));
            assert_eq!(run.code, Some(0), "{}", run.stderr);
            assert_eq!(run.stdout, "");
        }
        // In any order.
        let mut merge = args!["merge"];
        merge.extend(
            (1..=shards)
                .rev()
                .map(|number| OsString::from(part(number))),
        );
        same(&one, &reports(merge, 1), "shards");
        // A run goes on where the first part ends.
        let resume = with(&given, args!["--state", part(1), "--resume"]);
        same(&one, &reports(resume.clone(), 1), "resumed");
        // And again, where nothing is left to do.
        same(&one, &reports(resume, 1), "resumed at the end");
    }
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let folder = folder();
    let given = long(folder.path(), 12);
    let part = |name: &str| folder.path().join(name);
    for number in 1..=3 {
        let shard = format!("{number}/3");
        let state = part(&format!("{number}.json"));
        assert_eq!(
            run(with(&given, args!["--shard", shard, "--state", state])).code,
            Some(0)
        );
    }
    let other = args![
        "-t",
        "exact",
        "--shard",
        "3/3",
        "--state",
        part("other.json")
    ];
    assert_eq!(run(with(&given, other)).code, Some(0));
    let fails = |given: Vec<OsString>, wanted: &str| {
        let run = run(given);
        assert_eq!(run.code, Some(2), "{}", run.stderr);
        assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
        assert!(run.stderr.contains(wanted), "{wanted}: {}", run.stderr);
    };
    fails(
        args!["merge", part("1.json"), part("3.json")],
        "inputs 4 to 7 are in no part",
    );
    fails(
        args!["merge", part("1.json"), part("2.json")],
        "inputs 8 to 11 are in no part",
    );
    let twice = args![
        "merge",
        part("1.json"),
        part("1.json"),
        part("2.json"),
        part("3.json")
    ];
    fails(twice, "in another part");
    fails(
        args!["merge", part("1.json"), part("2.json"), part("other.json")],
        "another check",
    );
    fails(
        with(&given, args!["--state", part("2.json"), "--resume"]),
        "other inputs",
    );
    fails(
        with(
            &given,
            args!["--max-lsb", "1", "--state", part("1.json"), "--resume"],
        ),
        "another check",
    );
    fails(args!["merge", demo()], "demo");
    fails(
        args!["merge", golden("demo/labels.csv")],
        "no partial result",
    );
    let text = fs::read_to_string(part("1.json")).expect("a part");
    let at = text.len() / 2;
    for (name, damaged) in [
        ("cut.json", text[..at].to_owned()),
        (
            "changed.json",
            text.replacen("\"elements\":", "\"elements\":1", 1),
        ),
    ] {
        assert_ne!(damaged, text);
        fs::write(part(name), damaged).expect("a file");
        fails(
            args!["merge", part(name), part("2.json"), part("3.json")],
            "damaged",
        );
    }
    // The inputs changed since.
    npz(&folder.path().join("inputs.npz"), &pixels(13, 3));
    fails(
        args!["merge", part("1.json"), part("2.json"), part("3.json")],
        "",
    );
}

/// The demo's model, with its largest weights in a file `weights.bin` beside it.
fn demo_with_weights_apart(folder: &Path) -> PathBuf {
    let bytes = fs::read(demo()).expect("the demo");
    let mut model = ModelProto::decode(&bytes[..]).expect("ONNX");
    let tensors = &mut model.graph.as_mut().expect("a graph").initializer;
    let size = |tensor: &_| -> usize { Message::encoded_len(tensor) };
    let tensor = tensors
        .iter_mut()
        .max_by_key(|t| size(*t))
        .expect("weights");
    let raw = tensor.raw_data.take().expect("stored as bytes");
    fs::write(folder.join("weights.bin"), raw).expect("a file");
    tensor.data_location = Some(DataLocation::External as i32);
    tensor.external_data = vec![StringStringEntryProto {
        key: Some("location".to_owned()),
        value: Some("weights.bin".to_owned()),
    }];
    let path = folder.join("model.onnx");
    fs::write(&path, model.encode_to_vec()).expect("a file");
    path
}

/// What a state is of, is told by contents: neither by sizes nor by times.
#[test]
fn a_state_of_other_contents_is_refused() {
    let folder = folder();
    let file = |name: &str| folder.path().join(name);
    let model = demo_with_weights_apart(folder.path());
    let inputs = file("list.txt");
    for (number, picture) in pixels(3, 5).iter().enumerate() {
        let numbers: Vec<u8> = (picture.iter())
            .flat_map(|&p| f32::from(p).to_le_bytes())
            .collect();
        fs::write(file(&format!("{number}.raw")), numbers).expect("a file");
    }
    fs::write(&inputs, "0.raw\n1.raw\n2.raw\n").expect("a file");
    let given = args![model, "-t", "nnie", "--input", inputs];
    let state = args!["--state", file("state.json")];
    let resume = with(&state, args!["--resume"]);
    let first = run(with(&given, state));
    assert!(matches!(first.code, Some(0 | 1)), "{}", first.stderr);
    for name in ["1.raw", "weights.bin"] {
        let good = fs::read(file(name)).expect("a file");
        let mut other = good.clone();
        let middle = other.len() / 2;
        other[middle] ^= 1;
        fs::write(file(name), &other).expect("a file");
        let run = run(with(&given, resume.clone()));
        assert_eq!(run.code, Some(2), "{name}: {}", run.stderr);
        assert!(run.stderr.contains("another check"), "{}", run.stderr);
        assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
        let merge = align_check_tests::run(args!["merge", file("state.json")]);
        assert_eq!(merge.code, Some(2), "{name}: {}", merge.stderr);
        // The same contents, written later.
        fs::write(file(name), &good).expect("a file");
        let again = align_check_tests::run(with(&given, resume.clone()));
        assert_eq!(again.code, first.code, "{name}: {}", again.stderr);
        assert_eq!(again.stdout, first.stdout);
    }
}

/// Rows of a Parquet report, and what its metadata says of the run.
fn parquet_remarks(path: &Path) -> (i64, Vec<(&'static str, String)>) {
    let file = fs::File::open(path).expect("a report");
    let reader = SerializedFileReader::new(file).expect("Parquet");
    let metadata = reader.metadata().file_metadata();
    let pairs = metadata.key_value_metadata().expect("metadata");
    let value = |name: &'static str| {
        let key = format!("align-check.{name}");
        let pair = pairs.iter().find(|pair| pair.key == key);
        let value = pair.and_then(|pair| pair.value.clone());
        (name, value.unwrap_or_else(|| panic!("no {key}")))
    };
    let names = ["interrupted", "inputs", "inputs_of"];
    (metadata.num_rows(), names.map(value).to_vec())
}

/// What every row of a CSV report says of the run.
fn csv_remarks(path: &Path) -> [(&'static str, String); 3] {
    let text = fs::read_to_string(path).expect("a report");
    let mut lines = text.lines();
    let names = ["interrupted", "inputs", "inputs_of"];
    let head: Vec<&str> = lines.next().expect("a header").split(',').collect();
    // The last columns: commas within quotes stand before them.
    assert_eq!(head[head.len() - 3..], names);
    let last = |line: &'_ str| {
        let mut cells: Vec<String> = line.rsplitn(4, ',').map(str::to_owned).collect();
        cells.truncate(3);
        cells.reverse();
        cells
    };
    let mut rows: Vec<Vec<String>> = lines.map(last).collect();
    assert!(!rows.is_empty());
    rows.dedup();
    let [row] = <[Vec<String>; 1]>::try_from(rows).expect("the same in every row");
    let mut row = row.into_iter();
    names.map(|name| (name, row.next().expect("three cells")))
}

/// A run that Ctrl-C ends leaves valid reports that say so, and a state that gives the bytes of one run.
#[cfg(unix)]
#[test]
fn interrupted_runs_report_and_go_on() {
    let folder = folder();
    let (mut count, mut patience) = (600, 200);
    let file = |name: &str| folder.path().join(name);
    let (state, json) = (file("state.json"), file("out.json"));
    let (csv, parquet) = (file("out.csv"), file("out.parquet"));
    let given = loop {
        let given = long(folder.path(), count);
        let _ = fs::remove_file(&state);
        patience += 200;
        assert!(patience < 60_000, "no run could be interrupted");
        let mut child = std::process::Command::new(binary())
            .args(&given)
            .args(args![
                "--state",
                &state,
                "--report",
                format!("json={}", json.display()),
                "--report",
                format!("csv={}", csv.display()),
                "--report",
                format!("parquet={}", parquet.display())
            ])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("the tool starts");
        std::thread::sleep(std::time::Duration::from_millis(patience));
        let killed = std::process::Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status();
        assert!(killed.is_ok());
        let code = child.wait().expect("a child ends").code();
        let state = fs::read_to_string(&state).unwrap_or_default();
        // Killed too early for the handler, before the first input, or not before the end: again.
        if code == Some(130) && state.contains("\"done\":") && !state.contains("\"done\":0,") {
            break given;
        }
        if code == Some(1) {
            (count, patience) = (count * 2, 200);
        }
    };
    let read = |path: &Path| -> Value {
        serde_json::from_str(&fs::read_to_string(path).expect("a report")).expect("JSON")
    };
    let partial = read(&json);
    let done = whole(&partial["interrupted"]["done"]);
    assert!(done > 0 && done <= count as u64, "{done}");
    assert_eq!(whole(&partial["interrupted"]["of"]), count as u64);
    assert_eq!(whole(&partial["inputs"]), done);
    assert_eq!(whole(&partial["exit_code"]), 130);
    assert_eq!(whole(&partial["targets"][0]["accuracy"]["inputs"]), done);
    let remark = [
        ("interrupted", "true".to_owned()),
        ("inputs", done.to_string()),
        ("inputs_of", count.to_string()),
    ];
    assert_eq!(
        parquet_remarks(&parquet),
        (done as i64 * 2, remark.clone().to_vec())
    );
    assert_eq!(csv_remarks(&csv), remark);
    let resumed = reports(with(&given, args!["--state", &state, "--resume"]), 1);
    same(
        &reports(given.clone(), 1),
        &resumed,
        "interrupted and resumed",
    );

    // A whole run says that it is one.
    let tables = args![
        "--report",
        format!("csv={}", csv.display()),
        "--report",
        format!("parquet={}", parquet.display())
    ];
    assert_eq!(run(with(&given, tables)).code, Some(1));
    let remark = [
        ("interrupted", "false".to_owned()),
        ("inputs", count.to_string()),
        ("inputs_of", count.to_string()),
    ];
    assert_eq!(
        parquet_remarks(&parquet),
        (count as i64 * 2, remark.clone().to_vec())
    );
    assert_eq!(csv_remarks(&csv), remark);
}

#[test]
fn pictures_folders_patterns_and_lists_are_the_same_inputs() {
    let folder = folder();
    let pictures = pixels(5, 9);
    let stacked = folder.path().join("stacked.npz");
    npz(&stacked, &pictures);
    let check = |more: Vec<OsString>| {
        let (run, json, _) = report(with(&args![demo(), "-t", "tflite"], more));
        assert_eq!(run.stderr, "");
        assert!(matches!(run.code, Some(0 | 1)));
        json
    };
    let wanted = check(args!["--input", &stacked]);
    assert_eq!(whole(&wanted["inputs"]), 5);
    let inside = |name: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(&path).expect("a folder");
        path
    };
    let (pngs, raws, arrays) = (inside("png"), inside("raw"), inside("npy"));
    let mut lines = String::from("# a list\n");
    for (at, picture) in pictures.iter().enumerate() {
        // A folder in the folder, which sorts behind the first files.
        let sub = if at == 4 {
            inside("png/z")
        } else {
            pngs.clone()
        };
        let image = image::GrayImage::from_raw(8, 8, picture.clone()).expect("64 pixels");
        image
            .save(sub.join(format!("{at}.png")))
            .expect("a picture");
        let numbers: Vec<f32> = picture.iter().map(|&p| number(p)).collect();
        let bytes: Vec<u8> = numbers.iter().flat_map(|v| v.to_le_bytes()).collect();
        fs::write(raws.join(format!("{at}.raw")), bytes).expect("a file");
        let name = if at % 2 == 0 { "" } else { "image:=" };
        lines.extend([name, "raw/", &at.to_string(), ".raw\n"]);
        Npz::new(&arrays.join(format!("{at}.npz")))
            .add("image", &[1, 1, 8, 8], &numbers)
            .finish();
    }
    fs::write(pngs.join("notes.md"), "no input").expect("a file");
    let own = folder.path().join("list.txt");
    fs::write(&own, lines).expect("a file");
    let picture = args!["--mean", "127.5", "--scale", "1/127.5"];
    assert_eq!(check(with(&picture, args!["--input", &pngs])), wanted);
    assert_eq!(check(args!["--input", &raws]), wanted);
    assert_eq!(check(args!["--input", &arrays]), wanted);
    assert_eq!(check(args!["--input", &own]), wanted);
    assert_eq!(check(args!["--input", raws.join("*.raw")]), wanted);
    // One file of all numbers.
    let all: Vec<u8> = pictures
        .iter()
        .flatten()
        .flat_map(|&p| number(p).to_le_bytes())
        .collect();
    let whole_file = folder.path().join("all.bin");
    fs::write(&whole_file, all).expect("a file");
    assert_eq!(check(args!["--input", &whole_file]), wanted);
    // An equal size is no resize.
    let sized = args!["--size", "8x8", "--layout", "nchw", "--input", &pngs];
    assert_eq!(check(with(&picture, sized)), wanted);
    // Samples beyond the limit are not looked at; a seed chooses the same ones again.
    let limited =
        |more: Vec<OsString>| check(with(&args!["--input", &stacked, "--limit", "2"], more));
    assert_eq!(whole(&limited(args![])["inputs"]), 2);
    let first = folder.path().join("first.npz");
    npz(&first, &pictures[..2]);
    assert_eq!(limited(args![]), check(args!["--input", &first]));
    assert_eq!(limited(args!["--seed", "5"]), limited(args!["--seed", "5"]));
    let choices: Vec<Value> = (0..8)
        .map(|seed| limited(args!["--seed", seed.to_string()]))
        .collect();
    assert!(choices.iter().any(|choice| *choice != choices[0]));
}

#[test]
fn a_picture_is_resized_only_when_asked() {
    let folder = folder();
    let path = folder.path().join("big.png");
    let big = image::RgbImage::from_fn(20, 10, |x, y| image::Rgb([x as u8 * 12, y as u8 * 25, 7]));
    big.save(&path).expect("a picture");
    let model = folder.path().join("model.onnx");
    let quant = Quant::u8(1.0, 0);
    Onnx::new()
        .input("x", &[1, 3, 4, 6])
        .output("y", &[1, 3, 4, 6])
        .quant("x", "y", &quant)
        .write(&model);
    let given = args![&model, "-t", "exact", "--input", &path];
    let refused = run(given.clone());
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("--size 4x6"), "{}", refused.stderr);
    assert_eq!(refused.stderr.lines().count(), 1, "{}", refused.stderr);
    let (ran, ..) = report(with(&given, args!["--size", "4x6"]));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let other = run(with(&given, args!["--size", "5x6"]));
    assert!(other.stderr.contains("takes 4x6"), "{}", other.stderr);
    let open = run(with(&given, args!["--size", "4x6", "--mean", "1,2"]));
    assert!(
        open.stderr.contains("--mean takes 1 or 3 numbers"),
        "{}",
        open.stderr
    );
    // A file that is no picture, and one of the wrong depth.
    fs::write(&path, b"\x89PNG\r\n\x1a\nnothing").expect("a file");
    let broken = run(with(&given, args!["--size", "4x6"]));
    assert_eq!(
        (broken.code, broken.stderr.lines().count()),
        (Some(2), 1),
        "{}",
        broken.stderr
    );
    assert!(broken.stderr.contains("big.png"), "{}", broken.stderr);
    let deep = image::ImageBuffer::<image::Luma<u16>, Vec<u16>>::new(6, 4);
    deep.save(&path).expect("a picture");
    let deep = run(given);
    assert!(deep.stderr.contains("16 bits a channel"), "{}", deep.stderr);
}

/// More inputs need no more memory: 400 samples of 400 KB do not stay.
#[test]
fn inputs_do_not_stay_in_memory() {
    let folder = folder();
    let model = folder.path().join("model.onnx");
    let dims = [1, 3, 128, 128];
    Onnx::new()
        .input("x", &dims)
        .output("y", &[1, 4, 128, 128])
        .quant("x", "q", &Quant::i8(1.0 / 64.0, 0))
        .reals("w", &[4, 3, 1, 1], &[0.25; 12])
        .quant("w", "wq", &Quant::i8(1.0 / 256.0, 0))
        .node("Conv", &["q", "wq"], "c", &[ints("kernel_shape", &[1, 1])])
        .quant("c", "y", &Quant::i8(1.0 / 32.0, 0))
        .write(&model);
    let mut random = Random(1);
    let peak = |samples: usize, random: &mut Random| {
        let path = folder.path().join("inputs.npz");
        let len = 3 * 128 * 128;
        let values: Vec<i8> = (0..samples * len)
            .map(|_| random.below(256) as i8)
            .collect();
        Npz::new(&path)
            .add("x", &[samples, 3, 128, 128], &values)
            .finish();
        let run = run(args![
            &model, "-t", "tflite", "--input", &path, "-j", "2", "-v"
        ]);
        assert!(matches!(run.code, Some(0 | 1)), "{}", run.stderr);
        let line = run.stdout.lines().find(|line| line.contains("peak memory"));
        line.and_then(|line| {
            let size = line.split("peak memory ").nth(1)?;
            let mut words = size.split(' ');
            let number: f64 = words.next()?.parse().ok()?;
            Some(number * if words.next()? == "GiB" { 1024.0 } else { 1.0 })
        })
    };
    let (Some(few), Some(many)) = (peak(10, &mut random), peak(400, &mut random)) else {
        skip("this system does not tell the peak of a process's memory");
        return;
    };
    // All of them would be 150 MiB.
    assert!(
        many < few + 40.0,
        "{few} MiB for 10 inputs, {many} MiB for 400"
    );
}

#[test]
fn labels_say_what_accuracy_becomes() {
    let inputs = golden("demo/inputs.npz");
    let labels = golden("demo/labels.csv");
    let given = args![
        demo(),
        "-t",
        "exact,nnie",
        "--input",
        &inputs,
        "--labels",
        &labels
    ];
    let (_, json, _) = report(given);
    for target in list(&json["targets"]) {
        let accuracy = &target["accuracy"];
        // The recording says so of the model.
        assert_eq!(whole(&accuracy["inputs"]), 16);
        assert_eq!(whole(&accuracy["top1"]["reference"]["right"]), 16);
        assert_eq!(whole(&accuracy["top5"]["reference"]["right"]), 16);
        let flips = list(&accuracy["flips"]);
        let output = &target["outputs"][0];
        assert_eq!(flips.len() as u64, whole(&output["argmax_flips"]));
    }
    let exact = &json["targets"][0]["accuracy"];
    assert_eq!(exact["top1"]["difference"], 0.0);
    assert_eq!(list(&exact["flips"]).len(), 0);
    let interval = &exact["top1"]["interval"];
    assert!(interval[0].as_f64() < Some(0.0) && interval[1].as_f64() > Some(0.0));

    // Pictures of one shade each: some lie between two classes.
    let folder = folder();
    let given = long(folder.path(), 256);
    let shades: Vec<Vec<u8>> = (0..=255).map(|shade| vec![shade; 64]).collect();
    npz(&folder.path().join("inputs.npz"), &shades);
    let (_, json, _) = report(given.clone());
    for target in list(&json["targets"]) {
        let accuracy = &target["accuracy"];
        let flips = list(&accuracy["flips"]);
        assert!(!flips.is_empty(), "{}", target["target"]["name"]);
        let counted = whole(&target["outputs"][0]["argmax_flips"]);
        assert_eq!(flips.len() as u64, counted);
        for flip in flips {
            assert_ne!(flip["reference"], flip["target"]);
            assert_eq!(whole(&flip["label"]), whole(&flip["sample"]) % 10);
            assert_eq!(text(&flip["input"]), flip["sample"].to_string());
        }
        let top1 = &accuracy["top1"];
        let [lost, gained] = ["lost", "gained"].map(|key| whole(&top1[key]) as i64);
        let right = |side: &str| whole(&top1[side]["right"]) as i64;
        assert_eq!(right("target") - right("reference"), gained - lost);
        let is = |flip: &&Value, side: &str| flip[side] == flip["label"];
        let by_hand = |side: &str| flips.iter().filter(|flip| is(flip, side)).count() as i64;
        assert_eq!((by_hand("reference"), by_hand("target")), (lost, gained));
    }
    let accuracy = &json["targets"][0]["accuracy"];
    let flips = list(&accuracy["flips"]).len() as u64;
    assert_eq!(whole(&accuracy["followed"]), flips.min(16));
    let blame = list(&accuracy["blame"]);
    assert!(!blame.is_empty());
    for layer in blame {
        assert!(whole(&layer["flips"]) <= flips);
        let layers = list(&json["targets"][0]["layers"]);
        let own = layers.iter().find(|own| own["name"] == layer["layer"]);
        // Who makes nothing otherwise is not to blame.
        let stats = &own.expect("a layer of the model")["mode"]["isolated"];
        assert!(whole(&stats["differing"]) > 0);
    }
    // NNIE's logarithmic codes are none that the model's layers can read: they are rounded to the model's grids.
    let nnie = &json["targets"][1]["accuracy"];
    assert!(whole(&nnie["followed"]) > 0 && !list(&nnie["blame"]).is_empty());
    assert_eq!([&accuracy["rounded"], &nnie["rounded"]], [false, true]);
    let terminal = run(given).stdout;
    for word in [
        "top-1: ",
        "top-5: ",
        "flips: ",
        "blame (approximate: one layer in the target's arithmetic, all others",
        "blame (approximate: one layer in the target's arithmetic, rounded to the model's grid, all others",
    ] {
        assert!(terminal.contains(word), "{word}: {terminal}");
    }
}

#[test]
fn labels_that_do_not_fit_are_errors() {
    let folder = folder();
    let path = folder.path().join("labels.csv");
    let fails = |labels: &str, more: Vec<OsString>, wanted: &str| {
        fs::write(&path, labels).expect("a file");
        let inputs = golden("demo/inputs.npz");
        let given = args![demo(), "-t", "exact", "--input", inputs, "--labels", &path];
        let run = run(with(&given, more));
        assert_eq!(
            (run.code, run.stderr.lines().count()),
            (Some(2), 1),
            "{}",
            run.stderr
        );
        assert!(run.stderr.contains(wanted), "{wanted}: {}", run.stderr);
    };
    fails("0,1\n1,2\n", args![], "no label of input '2'");
    fails("0,x\n1,y\n", args![], "line 2");
    fails("0,10\n", args!["--limit", "1"], "has 10 elements");
    fails("0,1\n", args!["--mode", "isolated"], "--labels");
    fails("", args![], "no labels");
}

#[test]
fn inputs_that_are_none_are_errors() {
    let folder = folder();
    let fails = |given: Vec<OsString>, wanted: &str| {
        let run = run(with(&args![demo(), "-t", "exact", "--input"], given));
        assert_eq!(
            (run.code, run.stderr.lines().count()),
            (Some(2), 1),
            "{}",
            run.stderr
        );
        assert!(run.stderr.contains(wanted), "{wanted}: {}", run.stderr);
    };
    let path = |name: &str| folder.path().join(name);
    fails(args![folder.path()], "no input in it");
    fails(args![path("*.png")], "no file matches");
    fails(args![path("absent.npz")], "no such file");
    fs::write(path("short.raw"), [0; 10]).expect("a file");
    fails(args![path("short.raw")], "10 bytes");
    fails(args![path("short.raw"), "--raw-type", "float17"], "float17");
    fs::write(path("list.txt"), "short.raw\nabsent.raw\n").expect("a file");
    fails(args![path("list.txt")], "line 2: no file");
    fs::write(path("list.txt"), "short.raw\n").expect("a file");
    fails(args![path("list.txt")], "short.raw: has 10 bytes");
    fs::write(path("list.txt"), "other:=short.raw\n").expect("a file");
    fails(args![path("list.txt")], "'other'");
    fails(
        args![golden("demo/inputs.npz"), "--limit", "0"],
        "--limit 0",
    );
    // Found while others run: the error names the file.
    let mut pictures = vec![0.5f32; 30 * 64];
    pictures[29 * 64 + 5] = f32::NAN;
    Npz::new(&path("nan.npz"))
        .add("image", &[30, 1, 8, 8], &pictures)
        .finish();
    fails(args![path("nan.npz")], "NaN at element 5");
    let state = args![
        golden("demo/inputs.npz"),
        "--shard",
        "17/99",
        "--state",
        path("s.json")
    ];
    fails(state, "none of the 16 inputs");
}

/// Compressed arrays of many samples, and arrays whose first axis runs fastest.
#[test]
fn arrays_in_any_form_are_the_same_inputs() {
    use std::io::Write as _;
    let folder = folder();
    let pictures = pixels(6, 2);
    let stored = folder.path().join("stored.npz");
    npz(&stored, &pictures);
    let check = |path: &Path| report(args![demo(), "-t", "tflite", "--input", path]).1;
    let wanted = check(&stored);
    let npy = |fortran: bool| {
        let at = |n: usize, i: usize| number(pictures[n][i]).to_le_bytes();
        let data: Vec<u8> = if fortran {
            // The last axes run slowest.
            let order = (0..8).flat_map(|x| (0..8).map(move |y| y * 8 + x));
            order
                .flat_map(|i| (0..6).flat_map(move |n| at(n, i)))
                .collect()
        } else {
            (0..6)
                .flat_map(|n| (0..64).flat_map(move |i| at(n, i)))
                .collect()
        };
        let order = if fortran { "True" } else { "False" };
        let mut header =
            format!("{{'descr': '<f4', 'fortran_order': {order}, 'shape': (6, 1, 8, 8), }}");
        header += &" ".repeat(117 - header.len());
        header += "\n";
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    };
    for fortran in [false, true] {
        let plain = folder.path().join(format!("{fortran}.npy"));
        fs::write(&plain, npy(fortran)).expect("a file");
        assert_eq!(check(&plain), wanted, "{fortran}");
        let packed = folder.path().join(format!("{fortran}.npz"));
        let mut zip = zip::ZipWriter::new(fs::File::create(&packed).expect("a file"));
        let options = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Deflated);
        zip.start_file("image.npy", options).expect("an entry");
        zip.write_all(&npy(fortran)).expect("an entry");
        zip.finish().expect("an archive");
        assert_eq!(check(&packed), wanted, "{fortran}");
    }
    // A bit of a stored array that flips is found, though only parts of it are read.
    let mut bytes = fs::read(&stored).expect("an archive");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&stored, bytes).expect("an archive");
    let damaged = run(args![demo(), "-t", "tflite", "--input", &stored]);
    assert_eq!(
        (damaged.code, damaged.stderr.lines().count()),
        (Some(2), 1),
        "{}",
        damaged.stderr
    );
    assert!(damaged.stderr.contains("stored.npz"), "{}", damaged.stderr);
}
