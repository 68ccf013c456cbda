//! `record`: dumps of every kind become a recording that `verify` and `--recorded` take; damaged ones do not.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use align_check_tests::onnx::{Onnx, Quant};
use align_check_tests::{Npz, Random, Run, args, golden, list, run, text, verified, whole};
use ndarray::ArrayD;
use ndarray_npy::{WritableElement, WriteNpyExt};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Samples of the case.
const SAMPLES: usize = 2;

/// A small network with every tensor that it makes, computed here: a quantizer, a 1x1 convolution with `ReLU`,
/// another one. Steps are powers of two, so nothing is rounded twice.
struct Case {
    folder: TempDir,
    /// Height and width.
    size: [usize; 2],
    x: Vec<f64>,
    xq: Vec<f64>,
    y: Vec<f64>,
    z: Vec<f64>,
}

/// Steps of `xq`, `y` and `z`.
const STEPS: [f64; 3] = [1.0 / 16.0, 1.0 / 8.0, 1.0 / 4.0];

fn quantized(v: f64, step: f64) -> f64 {
    (v / step).round_ties_even().clamp(-128.0, 127.0) * step
}

/// A 1x1 convolution of `(N, C, H * W)`.
fn conv(x: &[f64], weights: &[f64], channels: usize, pixels: usize) -> Vec<f64> {
    let mut out = Vec::new();
    for sample in x.chunks(channels * pixels) {
        for row in weights.chunks(channels) {
            for p in 0..pixels {
                out.push((0..channels).map(|c| row[c] * sample[c * pixels + p]).sum());
            }
        }
    }
    out
}

impl Case {
    fn new() -> Self {
        Self::of([3, 5])
    }

    fn of(size: [usize; 2]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let pixels = size[0] * size[1];
        let mut random = Random(7);
        let mut number =
            |range: usize, step: f64| (random.below(range) as f64 - range as f64 / 2.0) * step;
        let x: Vec<f64> = (0..SAMPLES * 2 * pixels)
            .map(|_| number(256, 1.0 / 64.0))
            .collect();
        let first: Vec<f64> = (0..8).map(|_| number(16, 0.25)).collect();
        let second: Vec<f64> = (0..8).map(|_| number(16, 0.25)).collect();
        let xq: Vec<f64> = x.iter().map(|&v| quantized(v, STEPS[0])).collect();
        let y = conv(&xq, &first, 2, pixels);
        let y: Vec<f64> = y.iter().map(|v| quantized(v.max(0.0), STEPS[1])).collect();
        let z = conv(&y, &second, 4, pixels);
        let z: Vec<f64> = z.iter().map(|&v| quantized(v, STEPS[2])).collect();
        let quant = |at: usize| Quant::i8(STEPS[at] as f32, 0);
        let reals = |v: &[f64]| v.iter().map(|&v| v as f32).collect::<Vec<_>>();
        let [h, w] = size.map(|e| e as i64);
        Onnx::new()
            .input("x", &[1, 2, h, w])
            .reals("w1", &[4, 2, 1, 1], &reals(&first))
            .reals("w2", &[2, 4, 1, 1], &reals(&second))
            .quant("x", "xq", &quant(0))
            .quant("w1", "w1q", &Quant::i8(0.25, 0))
            .node("Conv", &["xq", "w1q"], "c", &[])
            .node("Relu", &["c"], "r", &[])
            .quant("r", "y", &quant(1))
            .quant("w2", "w2q", &Quant::i8(0.25, 0))
            .node("Conv", &["y", "w2q"], "c2", &[])
            .quant("c2", "z", &quant(2))
            .output("z", &[1, 2, h, w])
            .write(&folder.path().join("net.onnx"));
        let case = Self {
            folder,
            size,
            x,
            xq,
            y,
            z,
        };
        let shape = case.shape(2);
        Npz::new(&case.path("inputs.npz"))
            .add("x", &shape, &Case::reals(&case.x))
            .finish();
        case
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a writable folder");
        fs::write(&path, bytes).expect("a writable folder");
        path
    }

    fn shape(&self, channels: usize) -> Vec<usize> {
        vec![SAMPLES, channels, self.size[0], self.size[1]]
    }

    fn reals(values: &[f64]) -> Vec<f32> {
        values.iter().map(|&v| v as f32).collect()
    }

    fn codes(values: &[f64], step: f64) -> Vec<i8> {
        values.iter().map(|v| (v / step) as i8).collect()
    }

    /// Samples of `(C, H, W)` as `(H, W, C)`.
    fn last<T: Copy>(&self, values: &[T], channels: usize) -> Vec<T> {
        let pixels = self.size[0] * self.size[1];
        let mut out = Vec::new();
        for sample in values.chunks(channels * pixels) {
            for p in 0..pixels {
                out.extend((0..channels).map(|c| sample[c * pixels + p]));
            }
        }
        out
    }

    /// `record`, with the report.
    fn record(&self, more: Vec<OsString>) -> (Run, Value) {
        let report = self.path("report.json");
        let mut given = args![
            "record",
            self.path("net.onnx"),
            "--out",
            self.path("rec"),
            "--report",
            format!("json={}", report.display()),
        ];
        given.extend(more);
        let run = run(given);
        let json = fs::read(&report).map_or(Value::Null, |bytes| {
            serde_json::from_slice(&bytes).expect("the report is JSON")
        });
        (run, json)
    }

    /// `record` succeeds; the recording verifies, both ways.
    fn records(&self, more: Vec<OsString>) -> Value {
        let mut given = args!["--target", "exact", "--force"];
        let shown = format!("{more:?}");
        given.extend(more);
        let (done, json) = self.record(given);
        assert_eq!(
            done.code,
            Some(0),
            "{shown}: {}{}",
            done.stderr,
            done.stdout
        );
        assert_eq!(done.stderr, "", "{shown}");
        verified(&self.path("rec")).expect("sound files");
        let check = run(args!["verify", self.path("rec")]);
        assert_eq!(
            check.code,
            Some(0),
            "{shown}: {}{}",
            check.stdout,
            check.stderr
        );
        let model = self.path("rec").join("model.onnx");
        let check = run(args![
            model,
            "-t",
            "exact",
            "--recorded",
            self.path("rec"),
            "-q"
        ]);
        assert_eq!(
            check.code,
            Some(0),
            "{shown}: {}{}",
            check.stdout,
            check.stderr
        );
        json
    }

    /// `record` fails with one line that says each of `words`, and leaves nothing behind.
    fn fails(&self, more: Vec<OsString>, words: &[&str]) {
        let shown = format!("{more:?}");
        let before = fs::read_dir(self.folder.path())
            .expect("the folder")
            .count();
        let (run, _) = self.record(more);
        assert_eq!(run.code, Some(2), "{shown}: {}{}", run.stderr, run.stdout);
        assert_eq!(run.stderr.lines().count(), 1, "{shown}: {}", run.stderr);
        assert_eq!(run.stdout, "", "{shown}");
        for word in words {
            assert!(
                run.stderr.contains(word),
                "{shown}: '{word}' is not in: {}",
                run.stderr
            );
        }
        let after = fs::read_dir(self.folder.path())
            .expect("the folder")
            .count();
        assert_eq!(before, after, "{shown}: something was left behind");
    }

    fn input(&self) -> Vec<OsString> {
        args!["--input", self.path("inputs.npz")]
    }

    fn with_input(&self, mut more: Vec<OsString>) -> Vec<OsString> {
        more.extend(self.input());
        more
    }
}

/// The report's entry of a tensor.
fn entry<'a>(report: &'a Value, tensor: &str) -> &'a Value {
    let found = list(&report["tensors"])
        .iter()
        .find(|t| t["tensor"] == tensor);
    found.unwrap_or_else(|| panic!("'{tensor}' is not in {report}"))
}

fn warned(report: &Value, tensor: &str, word: &str) {
    let warnings = list(&entry(report, tensor)["facts"]["warnings"]);
    assert!(
        warnings.iter().any(|w| text(w).contains(word)),
        "{tensor}: '{word}' is not in {warnings:?}"
    );
}

fn npy<T: WritableElement + Clone>(shape: &[usize], values: &[T]) -> Vec<u8> {
    let array = ArrayD::from_shape_vec(shape, values.to_vec()).expect("a shape that fits");
    let mut bytes = Vec::new();
    array.write_npy(&mut bytes).expect("memory");
    bytes
}

/// One 32-bit number a line, 12 fractional bits.
fn hex(values: &[f64]) -> String {
    values.iter().fold(String::new(), |mut out, v| {
        let _ = writeln!(out, "{:08x}", (v * 4096.0) as i32);
        out
    })
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().fold(0u32, |bits, &b| bits << 8 | u32::from(b)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            out.push(if digit > chunk.len() {
                '='
            } else {
                char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize])
            });
        }
    }
    out
}

#[test]
fn floats_of_an_npz_become_codes() {
    let case = Case::new();
    let dump = case.path("dump.npz");
    Npz::new(&dump)
        .add("xq_quantize_tensor", &case.shape(2), &Case::reals(&case.xq))
        .add("node_y", &case.shape(4), &Case::reals(&case.y))
        .add(
            "node_c2 + node_z",
            &case.shape(2),
            &Case::codes(&case.z, STEPS[2]),
        )
        .add("w1", &[4, 2, 1, 1], &[0.0f32; 8])
        .add("unknown", &[3], &[0.0f32; 3])
        .finish();
    let report = case.records(case.with_input(args!["--from", dump, "--tool", "a board"]));
    assert_eq!(whole(&report["samples"]), SAMPLES as u64);
    assert_eq!(entry(&report, "xq")["stored"], "int8 from float");
    assert_eq!(entry(&report, "xq")["why"]["rule"], "stripped");
    assert_eq!(entry(&report, "y")["why"]["rule"], "node");
    assert_eq!(entry(&report, "z")["why"]["rule"], "fused");
    assert_eq!(entry(&report, "z")["stored"], "int8");
    assert_eq!(entry(&report, "z")["facts"]["cosine"], 1.0);
    assert!(list(&report["missing"]).is_empty(), "{report}");
    let left: Vec<&str> = list(&report["unmatched"])
        .iter()
        .map(|u| text(&u["dump"]))
        .collect();
    assert_eq!(left, ["w1", "unknown"]);
    let toml = fs::read_to_string(case.path("rec/recording.toml")).expect("the recording");
    assert!(
        toml.contains("tool = \"a board\"") && toml.contains("targets = [\"exact\"]"),
        "{toml}"
    );
}

#[test]
fn a_folder_of_npy_may_hold_the_inputs() {
    let case = Case::new();
    case.file("dump/x.npy", &npy(&case.shape(2), &Case::reals(&case.x)));
    case.file(
        "dump/xq.npy",
        &npy(&case.shape(2), &Case::codes(&case.xq, STEPS[0])),
    );
    let last = case.last(&Case::reals(&case.y), 4);
    case.file("dump/y.npy", &npy(&[SAMPLES, 3, 5, 4], &last));
    case.file(
        "dump/z.npy",
        &npy(&case.shape(2), &Case::codes(&case.z, STEPS[2])),
    );
    case.file("dump/notes.txt", b"not a dump");
    let report = case.records(args!["--from", case.path("dump")]);
    assert_eq!(report["inputs"], "the dump");
    assert_eq!(
        entry(&report, "y")["layout"],
        "nhwc by shape, moved to nchw"
    );
    assert_eq!(list(&report["ignored"]).len(), 1);
}

#[test]
fn several_dumps_are_samples() {
    let case = Case::new();
    let mut given = Vec::new();
    for sample in 0..SAMPLES {
        let y = &case.y[sample * 60..(sample + 1) * 60];
        let file = format!("run{sample}/y.npy");
        case.file(&file, &npy(&[1, 4, 3, 5], &Case::codes(y, STEPS[1])));
        given.extend(args!["--from", case.path(&format!("run{sample}"))]);
    }
    let report = case.records(case.with_input(given));
    assert_eq!(entry(&report, "y")["shape"], json!([2, 4, 3, 5]));
    assert_eq!(list(&report["missing"]).len(), 2, "{report}");
    let one = args!["--from", case.path("run0"), "--force"];
    case.fails(case.with_input(one), &["holds 1 samples", "inputs are 2"]);
}

#[test]
fn nnie_dumps_have_stages() {
    let case = Case::new();
    let name = "dump/node_c_output0_4_3_5_quant.linear.hex";
    case.file(name, hex(&case.y).as_bytes());
    case.file(
        "dump/node_c2_output0_2_3_5_quant.linear.hex",
        hex(&case.z).as_bytes(),
    );
    case.file("dump/node_c_weight.hex", b"00");
    let given = || case.with_input(args!["--from", case.path("dump")]);
    let report = case.records(given());
    assert_eq!(entry(&report, "y")["facts"]["on_grid"], 1.0);
    assert_eq!(entry(&report, "y")["layout"], "nchw by shape");
    // Another stage, with names that only a map explains.
    let numbers = case.z.iter().fold(String::new(), |mut out, v| {
        let _ = writeln!(out, "{v:.6}");
        out
    });
    case.file(
        "dump/seg0_layer3_output0_inst.linear.hex",
        hex(&case.z).as_bytes(),
    );
    case.file(
        "dump/node_c2_output0_2_3_5_caffe.linear.float",
        numbers.as_bytes(),
    );
    case.fails(
        [given(), args!["--force"]].concat(),
        &["caffe (1), inst (1), quant (2)", "--stage"],
    );
    case.fails(
        [given(), args!["--force", "--stage", "board"]].concat(),
        &["--stage board"],
    );
    let inst = || [given(), args!["--stage", "inst"]].concat();
    case.fails(
        [inst(), args!["--force"]].concat(),
        &["seg0_layer3", "--map"],
    );
    let map = case.file("map.toml", b"\"seg0_layer3\" = \"node_c2\"\n");
    let report = case.records([inst(), args!["--map", map]].concat());
    assert_eq!(entry(&report, "z")["why"]["rule"], "map");
    let nnie = args![
        "--stage",
        "inst",
        "--map",
        case.path("map.toml"),
        "--target",
        "nnie",
        "--force"
    ];
    let (done, report) = case.record([given(), nnie].concat());
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(
        entry(&report, "z")["stored"],
        "float",
        "levels of its own: {report}"
    );
    let report = case.records([given(), args!["--stage", "caffe"]].concat());
    assert_eq!(entry(&report, "z")["why"]["rule"], "node");
    assert!(text(&report["ignored"][0]).contains("weight"), "{report}");
}

#[test]
fn vitis_dumps_are_channels_last() {
    let case = Case::new();
    let bytes = |values: &[f64], step: f64, channels| -> Vec<u8> {
        let codes = case.last(&Case::codes(values, step), channels);
        codes.iter().map(|&c| c as u8).collect()
    };
    let folder = "dump/deploy_check_data_int/net";
    let file = |name: &str| format!("{folder}/{name}");
    case.file(&file("xq_fix.bin"), &bytes(&case.xq, STEPS[0], 2));
    case.file(&file("net__node_r__fix.bin"), &bytes(&case.y, STEPS[1], 4));
    case.file(&file("net__node_r_.bin"), &[0; 480]);
    case.file(&file("z_fix.bin"), &bytes(&case.z, STEPS[2], 2));
    case.file(&file("z_pre_fix_i0.bin"), &[0; 5]);
    let shapes = "[2, 3, 5, 2]: xq\n[2, 3, 5, 4]: net::node_r]\n[2, 3, 5, 2]: z\n";
    case.file(&file("shape.txt"), shapes.as_bytes());
    case.file(
        "dump/quant_info.json",
        br#"{"output": {"xq": [[8, 4]], "z": [[8, 3]]}}"#,
    );
    let map = case.file("map.toml", b"\"net::node_r]\" = \"y\"\n");
    let given = || case.with_input(args!["--from", case.path("dump")]);
    let report = case.records([given(), args!["--map", map]].concat());
    assert_eq!(
        entry(&report, "y")["layout"],
        "nhwc by shape, moved to nchw"
    );
    assert!(
        list(&entry(&report, "xq")["facts"]["warnings"]).is_empty(),
        "{report}"
    );
    warned(&report, "z", "step is 0.125");
    case.file(&file("z_fix.bin"), &[0; 59]);
    case.fails(
        [given(), args!["--force"]].concat(),
        &["z_fix.bin", "59", "60"],
    );
}

#[test]
fn json_of_tensorrt_is_read() {
    let case = Case::new();
    let array = |values: &[f64], shape: &[usize]| {
        let bytes = npy(shape, &Case::reals(values));
        json!({"values": {"array": base64(&bytes), "polygraphy_class": "ndarray"},
               "polygraphy_class": "LazyArray"})
    };
    let iterations: Vec<Value> = (0..SAMPLES)
        .map(|sample| {
            let y = array(&case.y[sample * 60..(sample + 1) * 60], &[1, 4, 3, 5]);
            let z = array(&case.z[sample * 30..(sample + 1) * 30], &[1, 2, 3, 5]);
            json!({"outputs": {"y": y, "z": z}, "runtime": 0.1, "runner_name": "trt-runner-N0",
                   "polygraphy_class": "IterationResult"})
        })
        .collect();
    let results = json!({"lst": [["trt-runner-N0", iterations]], "polygraphy_class": "RunResults"});
    let file = case.file("outputs.json", results.to_string().as_bytes());
    let given = || case.with_input(args!["--from", case.path("outputs.json")]);
    let report = case.records(given());
    assert_eq!(entry(&report, "y")["stored"], "int8 from float");
    let two = json!({"lst": [["trt-runner-N0", iterations], ["onnxrt", []]]});
    fs::write(&file, two.to_string()).expect("a writable folder");
    case.fails(
        [given(), args!["--force"]].concat(),
        &["trt-runner-N0, onnxrt", "--stage"],
    );
    case.records([given(), args!["--stage", "trt"]].concat());

    let values: Vec<f32> = Case::reals(&case.z);
    let exported = json!([{"name": "z", "dimensions": "2x2x3x5", "values": values}]);
    fs::write(&file, exported.to_string()).expect("a writable folder");
    let report = case.records(given());
    assert_eq!(entry(&report, "z")["shape"], json!([2, 2, 3, 5]));
    for (bad, word) in [
        (
            json!([{"name": "z", "dimensions": "2x2x3x5", "values": [1, 2]}]),
            "'z' holds 2",
        ),
        (
            json!([{"name": "z", "dimensions": "2", "values": [1, "x"]}]),
            "no number",
        ),
        (json!({"z": {"array": "AAAA"}}), "base64"),
        (
            json!({"z": {"array": {"array": {"array": {"array": {"array": "AA"}}}}}}),
            "no array",
        ),
        (json!({"lst": 5}), "'lst'"),
        (json!({"lst": []}), "no runner"),
        (json!([]), "no tensors"),
    ] {
        fs::write(&file, bad.to_string()).expect("a writable folder");
        case.fails(
            [given(), args!["--force"]].concat(),
            &["outputs.json", word],
        );
    }
    fs::write(&file, "[{\"name\": nan").expect("a writable folder");
    case.fails([given(), args!["--force"]].concat(), &["outputs.json"]);
}

#[test]
fn raw_binaries_need_a_list() {
    let case = Case::new();
    let bytes: Vec<u8> = Case::codes(&case.y, STEPS[1])
        .iter()
        .map(|&c| c as u8)
        .collect();
    let halves = bytes.split_at(60);
    case.file("raw/y0.bin", halves.0);
    case.file("raw/y1.bin", halves.1);
    let z: Vec<u8> = Case::reals(&case.z)
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    case.file("raw/z.bin", &z);
    let list = case.path("raw/list.txt");
    let given = || case.with_input(args!["--list", &list]);
    let write = |text: &str| fs::write(&list, text).expect("a writable folder");
    write(
        "# name path type shape\ny y0.bin int8 1 4 3 5\ny y1.bin int8 1x4x3x5\nz z.bin float32 2 2 3 5\n",
    );
    let report = case.records(given());
    assert_eq!(entry(&report, "y")["layout"], "nchw by shape");
    assert_eq!(entry(&report, "z")["stored"], "int8 from float");
    write("\"y\" y0.bin - \ny y1.bin -");
    let open = [given(), args!["--dtype", "int8", "--force"]].concat();
    case.fails(open.clone(), &["--layout", "as nchw", "1.000"]);
    case.records([given(), args!["--dtype", "int8", "--layout", "nchw"]].concat());
    for (text, word) in [
        ("y ../raw/y0.bin int8", "leaves the folder"),
        ("y /etc/passwd int8", "leaves the folder"),
        ("y raw/../../y0.bin int8", "leaves the folder"),
        ("y y0.bin int8 1 4 3 6", "60 bytes"),
        ("y y0.bin int16 1 4 3 5", "60 bytes"),
        (
            "y y0.bin int8 99999999999 99999999999 99999999999",
            "60 bytes",
        ),
        ("y y0.bin int7 1 4 3 5", "line 1: type 'int7'"),
        ("y y0.bin", "line 1: expected"),
        ("y y0.bin int8 a", "no list of extents"),
        ("\"y y0.bin int8", "quote"),
        ("y nowhere.bin int8", "nowhere.bin"),
        ("y y0.bin - 1 4 3 5", "--dtype"),
        ("# nothing", "lists no file"),
    ] {
        write(text);
        case.fails([given(), args!["--force"]].concat(), &[word]);
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("/etc/hostname", case.path("raw/link.bin")).expect("a link");
        write("y link.bin int8");
        case.fails([given(), args!["--force"]].concat(), &["link"]);
    }
}

#[test]
fn damaged_hex_is_refused() {
    let case = Case::new();
    let good = hex(&case.y);
    let name = "y_output0_4_3_5_inst.linear.hex";
    let given = || case.with_input(args!["--from", case.path(name)]);
    case.file(name, good.as_bytes());
    case.records(given());
    for (bad, word) in [
        (&good[..good.len() - 4], "line 120"),
        (&good[..good.len() - 9], "119 numbers"),
        ("", "0 numbers"),
        ("0000100g\n", "line 1"),
        ("-0001000\n", "line 1"),
    ] {
        case.file(name, bad.as_bytes());
        case.fails([given(), args!["--force"]].concat(), &[name, word]);
    }
    let other = case.file("y_weight.hex", b"00000000");
    case.fails(
        case.with_input(args!["--from", other, "--force"]),
        &["y_weight.hex", "its name"],
    );
}

#[test]
fn shapes_are_guesses_that_must_be_wanted() {
    let case = Case::new();
    let dump = case.path("dump.npz");
    Npz::new(&dump)
        .add("xq", &case.shape(2), &Case::reals(&case.xq))
        .add("blob17", &case.shape(4), &Case::reals(&case.y))
        .finish();
    let given = || case.with_input(args!["--from", &dump]);
    let report = case.records(given());
    assert!(
        text(&report["unmatched"][0]["why"]).contains("'y': --guess"),
        "{report}"
    );
    let report = case.records([given(), args!["--guess"]].concat());
    assert_eq!(entry(&report, "y")["why"]["rule"], "shape");
}

#[test]
fn squares_need_a_layout() {
    let case = Case::of([4, 4]);
    let last = case.last(&Case::reals(&case.y), 4);
    let dump = case.file("y.npy", &npy(&case.shape(4), &last));
    let given = || case.with_input(args!["--from", &dump, "--force"]);
    case.fails(
        given(),
        &["y.npy", "--layout", "1.000 as nhwc"].map(|w| w.trim_end_matches(".npy")),
    );
    let report = case.records(
        [
            given()[..2].to_vec(),
            case.input(),
            args!["--layout", "nhwc"],
        ]
        .concat(),
    );
    assert_eq!(
        entry(&report, "y")["layout"],
        "nhwc by --layout, moved to nchw"
    );
    let wrong = [given(), args!["--layout", "nchw"]].concat();
    let (done, report) = case.record(wrong);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    warned(&report, "y", "--layout nhwc");
    // Other dumps of the same kind tell.
    case.file("two/y.npy", &npy(&case.shape(4), &last));
    let z = case.last(&Case::reals(&case.z), 2);
    case.file("two/z.npy", &npy(&[SAMPLES, 4, 4, 2], &z));
    let report = case.records(case.with_input(args!["--from", case.path("two")]));
    assert_eq!(
        entry(&report, "y")["layout"],
        "nhwc as other dumps, moved to nchw"
    );
}

#[test]
fn odd_numbers_are_said() {
    let case = Case::new();
    let dump = case.path("dump.npz");
    let halved: Vec<f32> = case.y.iter().map(|&v| v as f32 / 2.0).collect();
    let codes: Vec<f32> = Case::codes(&case.z, STEPS[2])
        .iter()
        .map(|&c| f32::from(c))
        .collect();
    let write = |xq: f32| {
        Npz::new(&dump)
            .add("xq", &case.shape(2), &vec![xq; case.xq.len()])
            .add("y", &case.shape(4), &halved)
            .add("z", &case.shape(2), &codes)
            .finish();
    };
    let report = |xq: f32| {
        write(xq);
        let (done, report) = case.record(case.with_input(args!["--from", &dump, "--force"]));
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        assert!(done.stdout.contains("with warnings"), "{}", done.stdout);
        report
    };
    let found = report(0.0);
    warned(&found, "xq", "all zero");
    warned(&found, "y", "0.5 times the model's scale");
    warned(&found, "z", "codes stored as floats");
    warned(&report(0.5), "xq", "constant");
    warned(&report(f32::NAN), "xq", "NaN");
    write(0.0);
    let typed = args!["--from", &dump, "--force", "--dtype", "int8"];
    case.fails(case.with_input(typed), &["'y' holds", "int8"]);
}

#[test]
fn a_recording_is_replaced_only_if_asked() {
    let case = Case::new();
    let dump = case.path("dump.npz");
    Npz::new(&dump)
        .add("y", &case.shape(4), &Case::reals(&case.y))
        .finish();
    let given = || case.with_input(args!["--from", &dump]);
    let (first, _) = case.record(given());
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    let bytes = fs::read(case.path("rec/outputs.npz")).expect("the recording");
    case.fails(given(), &["rec", "--force"]);
    assert_eq!(
        case.record([given(), args!["--force"]].concat()).0.code,
        Some(0)
    );
    assert_eq!(
        fs::read(case.path("rec/outputs.npz")).expect("the recording"),
        bytes
    );
    fs::remove_file(case.path("rec/recording.toml")).expect("the recording");
    case.fails([given(), args!["--force"]].concat(), &["no recording"]);
    fs::remove_dir_all(case.path("rec")).expect("the recording");
    case.file("rec", b"a file");
    case.fails([given(), args!["--force"]].concat(), &["no folder"]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let case = Case::new();
    let dump = case.path("dump.npz");
    Npz::new(&dump)
        .add("y", &[2, 4, 3, 4], &[0.0f32; 96])
        .finish();
    let given = || args!["--from", &dump];
    case.fails(given(), &["model's input 'x'", "--input"]);
    case.fails(
        case.with_input(given()),
        &["dump.npz", "'y'", "96 elements"],
    );
    Npz::new(&dump)
        .add("y", &[2, 5, 3, 4], &[0.0f32; 120])
        .finish();
    case.fails(case.with_input(given()), &["[2, 5, 3, 4]", "[1, 3, 5, 4]"]);
    Npz::new(&dump).add("other", &[3], &[0.0f32; 3]).finish();
    case.fails(case.with_input(given()), &["other", "xq, y, z"]);
    let map = case.file("map.toml", b"other = 5");
    case.fails(
        case.with_input([given(), args!["--map", &map]].concat()),
        &["map.toml"],
    );
    case.file("map.toml", b"other = 'nowhere'");
    case.fails(
        case.with_input([given(), args!["--map", &map]].concat()),
        &["nowhere"],
    );
    for (more, word) in [
        (args!["--stage", "quant"], "--stage"),
        (args!["--dtype", "int9"], "int9"),
        (args!["--target", "no-such-chip"], "no-such-chip"),
        (args!["--report", "html=x"], "json"),
    ] {
        let mut given = args![
            "record",
            case.path("net.onnx"),
            "--out",
            case.path("rec"),
            "--from",
            &dump
        ];
        given.extend(more);
        let done = run(given);
        assert_eq!(done.code, Some(2), "{}", done.stderr);
        assert!(done.stderr.contains(word), "{}", done.stderr);
    }
    let text = case.file("dump.bin", b"what is this");
    case.fails(
        case.with_input(args!["--from", text]),
        &["dump.bin", "--list"],
    );
    fs::create_dir(case.path("empty")).expect("a folder");
    case.fails(
        case.with_input(args!["--from", case.path("empty")]),
        &["no dumped tensor"],
    );
}

#[test]
fn corrupted_dumps_end_in_order() {
    let case = Case::new();
    let array = npy(&[1, 4, 3, 5], &Case::codes(&case.y[..60], STEPS[1]));
    let json = json!({"lst": [["r", [{"outputs": {"y": {"array": base64(&array)}}}]]]}).to_string();
    let shapes = "[2, 3, 5, 4]: y\n";
    let codes: Vec<u8> = Case::codes(&case.y, STEPS[1])
        .iter()
        .map(|&c| c as u8)
        .collect();
    case.file("dpu/y_fix.bin", &codes);
    case.file("list/y.bin", &codes);
    let lines = "y y.bin int8 2 4 3 5\n";
    let hex = hex(&case.y);
    let mut random = Random(11);
    for round in 0..80 {
        let (name, good, flag) = [
            ("outputs.json", json.as_bytes(), "--from"),
            ("dpu/shape.txt", shapes.as_bytes(), "--from"),
            ("list/list.txt", lines.as_bytes(), "--list"),
            ("y_output0_4_3_5_inst.linear.hex", hex.as_bytes(), "--from"),
        ][round % 4];
        let mut bytes = good.to_vec();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len());
            match random.below(3) {
                0 => bytes[at] = random.number() as u8,
                1 => bytes[at] ^= 1 << random.below(8),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let mut path = case.file(name, &bytes);
        if name.starts_with("dpu") {
            path.pop();
        }
        let (done, _) = case.record(case.with_input(args![flag, path, "--force"]));
        let in_order = match done.code {
            Some(0) => done.stderr.is_empty(),
            Some(2) => done.stderr.lines().count() == 1,
            _ => false,
        };
        assert!(in_order, "{round}: {:?} {}", done.code, done.stderr);
    }
}

#[test]
fn a_tflite_recording_is_recorded_again() {
    let from = golden("tflite/net-residual-ptq-ref");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("rec");
    let told = fs::read_to_string(from.join("recording.toml")).expect("the recording");
    let told: toml::Table = told.parse().expect("TOML");
    let target = told["targets"][0].as_str().expect("a target").to_owned();
    let done = run(args![
        "record",
        Path::new(&from).join("model.tflite"),
        "--from",
        from.join("outputs.npz"),
        "--input",
        from.join("inputs.npz"),
        "--out",
        &out,
        "--target",
        target,
    ]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(!done.stdout.contains("! "), "{}", done.stdout);
    let again = run(args!["verify", &out]);
    let before = run(args!["verify", &from]);
    assert_eq!(again.code, before.code, "{}{}", again.stdout, again.stderr);
    assert_eq!(again.code, Some(0), "{}{}", again.stdout, again.stderr);
}
