//! Corrupted files: bytes of every kind of good file that a user gives are changed, and the tool must end in order.
//!
//! What went wrong is kept in the target folder, and its path is said.

use std::ffi::OsString;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use align_check::inputs::read_arrays;
use align_check_tests::hostile::mutated;
use align_check_tests::{Random, args, asked, golden, run, say};
use image::{DynamicImage, GrayImage, ImageFormat};
use ndarray::ArrayD;
use ndarray_npy::WriteNpyExt;
use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

/// Changed copies of each file; together more than a thousand.
const EACH: usize = 32;

/// Longest run, in seconds; `ALIGN_CHECK_SECONDS` sets another number, where other work shares the machine.
const SECONDS: usize = 5;

/// Targets of most runs: one line each where they refuse.
const TARGETS: &str = "exact,tflite-reference,nnie";

type Given = Box<dyn Fn(&Path) -> Vec<OsString> + Sync + Send>;

/// A good file, and the run that reads it.
struct Subject {
    /// What it is.
    what: &'static str,
    /// Its name in the folder of the run.
    name: &'static str,
    good: Vec<u8>,
    text: bool,
    /// What lies beside it.
    beside: Vec<(String, Vec<u8>)>,
    /// The command line, with the file at this path.
    given: Given,
    /// What a tool would make of the changed file: sums that fit again.
    after: fn(Vec<u8>) -> Vec<u8>,
}

impl Subject {
    fn new(what: &'static str, name: &'static str, good: Vec<u8>, given: Given) -> Self {
        let text = std::str::from_utf8(&good).is_ok();
        Self {
            what,
            name,
            good,
            text,
            beside: Vec::new(),
            given,
            after: |bytes| bytes,
        }
    }

    fn beside(mut self, name: &str, bytes: Vec<u8>) -> Self {
        self.beside.push((name.to_owned(), bytes));
        self
    }

    /// With every file of its folder.
    fn in_folder(self, folder: &Path) -> Self {
        let files = fs::read_dir(folder).expect("a golden folder").flatten();
        files.fold(self, |subject, file| {
            let name = file.file_name().to_string_lossy().into_owned();
            subject.beside(&name, read(&file.path()))
        })
    }

    /// A copy of the file, changed.
    fn changed(&self, number: usize) -> Vec<u8> {
        let seed = self.what.bytes().fold(number as u64, |seed, byte| {
            seed.wrapping_mul(257).wrapping_add(u64::from(byte))
        });
        let mut random = Random(seed);
        (self.after)(mutated(&self.good, &self.good, self.text, &mut random))
    }

    /// What is wrong with a run on the file with these contents, if anything; else its exit code.
    fn verdict(&self, bytes: &[u8]) -> Result<i32, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, bytes) in &self.beside {
            fs::write(folder.path().join(name), bytes).expect("a writable folder");
        }
        let file = folder.path().join(self.name);
        fs::write(&file, bytes).expect("a writable folder");
        let mut given = (self.given)(&file);
        let report = folder.path().join("report.json");
        given.extend(args!["--report", format!("json={}", report.display())]);
        let run = run(given);
        // What a file says twice, or of nothing, is told and goes on.
        let told = |line: &&str| !line.starts_with("align-check: warning: ");
        let lines = run.stderr.lines().filter(told).count();
        let written = report.exists();
        let most = asked("ALIGN_CHECK_SECONDS").unwrap_or(SECONDS) as u64;
        let wrong = match run.code {
            None => "ended by a signal".to_owned(),
            Some(0 | 1) if lines > 0 => "messages in spite of success".to_owned(),
            Some(0 | 1) if !written => "no report".to_owned(),
            Some(2) if lines != 1 => format!("{lines} lines"),
            Some(2) if written => "a report in spite of the error".to_owned(),
            Some(3) if !(1..=TARGETS.split(',').count()).contains(&lines) => {
                format!("{lines} lines")
            }
            Some(0..=3) if run.time.as_secs() >= most => format!("took {:?}", run.time),
            Some(code @ 0..=3) => return Ok(code),
            Some(code) => format!("exit code {code}"),
        };
        Err(format!("{wrong}: {}", run.stderr))
    }
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn toolchain(path: &str) -> PathBuf {
    golden("toolchains").join(path)
}

fn demo() -> (PathBuf, PathBuf) {
    (golden("demo/model.qonnx.onnx"), golden("demo/inputs.npz"))
}

/// A check of a model with its file changed.
fn model(what: &'static str, name: &'static str, path: &Path) -> Subject {
    let given = |file: &Path| args![file, "-t", TARGETS, "-q"];
    Subject::new(what, name, read(path), Box::new(given))
}

/// A check of the demo, with a changed file behind these words.
fn with_demo(
    what: &'static str,
    name: &'static str,
    good: Vec<u8>,
    words: &'static [&str],
) -> Subject {
    let given = move |file: &Path| {
        let mut given = args![demo().0, "-q"];
        given.extend(words.iter().map(OsString::from));
        given.push(file.into());
        given
    };
    Subject::new(what, name, good, Box::new(given))
}

fn models() -> Vec<Subject> {
    let (ir, caffe) = (toolchain("nncf-mixed"), toolchain("nnie-caffe"));
    let part = |what, name: &'static str, folder: &Path, model: &'static str| {
        let given = move |file: &Path| args![file.with_file_name(model), "-t", TARGETS, "-q"];
        Subject::new(what, name, read(&folder.join(name)), Box::new(given)).in_folder(folder)
    };
    vec![
        model("QONNX", "model.onnx", &demo().0),
        model("QDQ", "model.onnx", &toolchain("aimet-qdq/model.onnx")),
        model(
            "TFLite",
            "model.tflite",
            &golden("tflite/conv-ref/model.tflite"),
        ),
        part("OpenVINO IR", "model.xml", &ir, "model.xml"),
        part("IR constants", "model.bin", &ir, "model.xml"),
        part("Caffe", "model.prototxt", &caffe, "model.prototxt"),
        part(
            "Caffe weights",
            "model.caffemodel",
            &caffe,
            "model.prototxt",
        ),
    ]
}

/// A file of encodings for a float model, one of every tool; Vitis AI's is with the dumps.
fn encodings() -> Vec<Subject> {
    let caches = "trt-implicit";
    [
        ("AIMET", "aimet-default", "model.encodings", "model.onnx"),
        (
            "AIMET 0.5.0",
            "aimet-default",
            "model-0.5.0.encodings",
            "model.onnx",
        ),
        (
            "TensorRT's cache",
            caches,
            "calibration.cache",
            "model.onnx",
        ),
        ("TensorRT's ranges", caches, "ranges.txt", "model.onnx"),
        (
            "MQBench, SNPE",
            "mqbench-snpe",
            "model_clip_ranges.json",
            "model_deploy_model.onnx",
        ),
        (
            "MQBench, NNIE",
            "mqbench-nnie",
            "model_gfpq_param_dict.json",
            "model_deploy_model.onnx",
        ),
        (
            "MQBench, STPU",
            "mqbench-stpu",
            "model_stpu_minmax.json",
            "model_for_stpu.onnx",
        ),
        (
            "MQBench, PPLCUDA",
            "mqbench-pplcuda",
            "model_clip_ranges.json",
            "model_deploy_model.onnx",
        ),
        (
            "MQBench, Tengine",
            "mqbench-tengine-u8",
            "model_for_tengine.scale",
            "model_for_tengine.onnx",
        ),
        (
            "Distiller",
            "distiller",
            "acts_quantization_stats.yaml",
            "../float/model.onnx",
        ),
    ]
    .map(|(what, folder, file, model)| {
        let folder = toolchain(folder);
        let (good, model) = (read(&folder.join(file)), folder.join(model));
        let given = move |file: &Path| args![&model, "-t", "exact", "-q", "--encodings", file];
        Subject::new(what, "encodings", good, Box::new(given))
    })
    .into()
}

/// The shape of the demo's input.
const IMAGE: [usize; 4] = [1, 1, 8, 8];

/// The demo's first sample.
fn sample() -> Vec<f32> {
    let arrays = read_arrays(&demo().1).expect("the demo");
    let (_, image) = &arrays[0];
    image.values[..64].iter().map(|&v| v as f32).collect()
}

/// Numbers as an `.npy`.
fn npy(shape: &[usize], reals: Vec<f32>) -> Vec<u8> {
    let array = ArrayD::from_shape_vec(shape, reals).expect("a shape that fits");
    let mut npy = Vec::new();
    array.write_npy(&mut npy).expect("memory");
    npy
}

/// Pictures and numbers of the demo's shape.
fn inputs() -> Vec<Subject> {
    let (_, file) = demo();
    let reals = sample();
    let raw: Vec<u8> = reals.iter().flat_map(|v| v.to_le_bytes()).collect();
    let pixels = (0..64).map(|at| (at * 37) as u8).collect();
    let picture = GrayImage::from_raw(8, 8, pixels).expect("64 pixels");
    let picture = |format| {
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::from(picture.clone())
            .write_to(&mut bytes, format)
            .expect("memory");
        bytes.into_inner()
    };
    let check: &[&str] = &["-t", TARGETS, "-i"];
    let list = b"image.raw\n# a comment\n./image.raw\n".to_vec();
    let labels = read(&golden("demo/labels.csv"));
    let labelled = |file: &Path| {
        args![
            demo().0,
            "-t",
            "nnie",
            "-q",
            "-i",
            demo().1,
            "--labels",
            file
        ]
    };
    vec![
        with_demo("archive", "inputs.npz", read(&file), check),
        // An archive checks its sums; what lies inside is broken on its own.
        with_demo("array", "inputs.npy", npy(&IMAGE, reals), check),
        with_demo("PNG", "image.png", picture(ImageFormat::Png), check),
        with_demo("JPEG", "image.jpg", picture(ImageFormat::Jpeg), check),
        with_demo("raw numbers", "image.raw", raw.clone(), check),
        with_demo("list", "list.txt", list, check).beside("image.raw", raw),
        Subject::new("labels", "labels.csv", labels, Box::new(labelled)),
    ]
}

/// What else a check reads.
fn beside_models() -> Vec<Subject> {
    let (model, inputs) = demo();
    let codes = golden("demo/fake_quant_codes.npz");
    let hls = toolchain("hls4ml-brevitas");
    let recording = golden("qonnx-ops/add");
    let spec = align_check_specs::embedded_toml("tflite-reference").expect("an embedded target");
    let table = hls.join("precision.toml");
    let of_table = move |file: &Path| {
        args![
            hls.join("model.onnx"),
            "-t",
            "hls4ml",
            "-q",
            "--precision",
            file
        ]
    };
    let check = |words: &'static str| {
        move |file: &Path| args![&demo().0, "-t", "exact", "-q", "-i", demo().1, words, file]
    };
    // A state that a run left: changed in any place, and changed inside with a sum that fits.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let state = folder.path().join("state.json");
    let left = run(args![
        &model, "-t", "nnie", "-q", "-i", &inputs, "--state", &state
    ]);
    assert_eq!(left.code, Some(1), "{left:?}");
    let state = read(&state);
    let resume = |file: &Path| {
        let (model, inputs) = demo();
        args![
            model, "-t", "nnie", "-q", "-i", inputs, "--state", file, "--resume"
        ]
    };
    let merge = |file: &Path| args!["merge", file, "-q"];
    vec![
        Subject::new("target", "own.toml", spec.into(), {
            let (model, inputs) = demo();
            Box::new(move |file| args![&model, "-t", file, "-q", "-i", &inputs])
        }),
        Subject::new(
            "precision table",
            "precision.toml",
            read(&table),
            Box::new(of_table),
        ),
        Subject::new(
            "recorded",
            "codes.npz",
            read(&codes),
            Box::new(check("--recorded")),
        ),
        Subject::new(
            "reference",
            "codes.npz",
            read(&codes),
            Box::new(check("--reference")),
        ),
        Subject::new(
            "recording",
            "recording.toml",
            read(&recording.join("recording.toml")),
            Box::new(|file| args!["verify", file.parent().expect("a folder")]),
        )
        .in_folder(&recording),
        Subject::new("state", "state.json", state.clone(), Box::new(resume)),
        Subject {
            after: with_sum,
            ..Subject::new(
                "state with a sum that fits",
                "state.json",
                state.clone(),
                Box::new(resume),
            )
        },
        Subject {
            after: with_sum,
            ..Subject::new("part", "part.json", state, Box::new(merge))
        },
    ]
}

/// A state with the SHA-256 of its second line in the first one.
fn with_sum(bytes: Vec<u8>) -> Vec<u8> {
    let mut lines = bytes.splitn(2, |&b| b == b'\n');
    let (Some(head), Some(found)) = (lines.next(), lines.next()) else {
        return bytes;
    };
    let Ok(mut head) = serde_json::from_slice::<serde_json::Value>(head) else {
        return bytes;
    };
    let end = found
        .iter()
        .rposition(|&b| b != b'\n')
        .map_or(0, |at| at + 1);
    let sum = Sha256::digest(&found[..end]);
    let sum = sum
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    if let Some(stated) = head.get_mut("sha256") {
        *stated = sum.into();
    }
    [head.to_string().as_bytes(), b"\n", found].concat()
}

/// Dumps of one sample, as `record` takes them.
fn dumps() -> Vec<Subject> {
    let dump = |what, name, good: &[u8], option: &'static str| {
        let given = move |file: &Path| {
            let out = file.with_file_name("recording");
            let input = file.with_file_name("image.npy");
            args!["record", demo().0, option, file, "-i", input, "--out", out]
        };
        Subject::new(what, name, good.to_vec(), Box::new(given))
            .beside("image.npy", npy(&IMAGE, sample()))
    };
    let of_map = |file: &Path| {
        let [from, input, out] =
            ["dump.npy", "image.npy", "recording"].map(|n| file.with_file_name(n));
        args![
            "record",
            demo().0,
            "--from",
            from,
            "--map",
            file,
            "-i",
            input,
            "--out",
            out
        ]
    };
    let logits = npy(&[1, 10], (0..10u8).map(f32::from).collect());
    let json =
        br#"[{"name": "logits", "dimensions": "1x10", "values": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]}]"#;
    let hex = "00001000\n".repeat(10);
    let list = b"# tensors\nlogits raw.bin float32 1 10\n";
    let vitis = toolchain("vitis-deploy-check/deploy_check_data_int/DigitsNet");
    let of_vitis = |file: &Path| {
        let folder = file.parent().expect("a folder");
        let model = toolchain("quark-xint8/model.onnx");
        args![
            "record",
            model,
            "--from",
            folder,
            "--out",
            folder.join("recording")
        ]
    };
    let of_vitis = |what, name: &'static str, path: &Path| {
        Subject::new(what, name, read(path), Box::new(of_vitis)).in_folder(&vitis)
    };
    let points = toolchain("vitis-deploy-check/quant_info.json");
    vec![
        dump("dumped array", "logits.npy", &logits, "--from"),
        dump("trtexec's dump", "dump.json", json, "--from"),
        dump(
            "NNIE's dump",
            "logits_output0_10_1_1_quant.linear.hex",
            hex.as_bytes(),
            "--from",
        ),
        dump("list of raw dumps", "list.txt", list, "--list").beside("raw.bin", vec![0; 40]),
        Subject::new(
            "names of dumps",
            "map.toml",
            b"\"dump\" = \"logits\"\n".to_vec(),
            Box::new(of_map),
        )
        .beside("image.npy", npy(&IMAGE, sample()))
        .beside("dump.npy", logits),
        of_vitis("Vitis AI's shapes", "shape.txt", &vitis.join("shape.txt")),
        of_vitis(
            "Vitis AI's codes",
            "image_fix.bin",
            &vitis.join("image_fix.bin"),
        ),
        of_vitis("Vitis AI's positions", "quant_info.json", &points),
    ]
}

fn subjects() -> Vec<Subject> {
    let all = [models(), encodings(), inputs(), beside_models(), dumps()];
    all.into_iter().flatten().collect()
}

#[test]
fn corrupted_files_end_in_order() {
    let subjects = subjects();
    let each = EACH * asked("ALIGN_CHECK_MUTATIONS").unwrap_or(1);
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("corrupted");
    let runs: Vec<(usize, Result<i32, String>)> = (0..subjects.len() * each)
        .into_par_iter()
        .map(|at| {
            let (subject, number) = (&subjects[at / each], at % each);
            let bytes = subject.changed(number);
            let found = subject.verdict(&bytes).map_err(|why| {
                let name = format!("{} {number} {}", subject.what, subject.name);
                let file = kept.join(name.replace([' ', '\'', ','], "-"));
                fs::create_dir_all(&kept).expect("a writable folder");
                fs::write(&file, &bytes).expect("a writable folder");
                let run = format!("{:?}", (subject.given)(&file));
                format!("{} ({run}): {why}", file.display())
            });
            (at / each, found)
        })
        .collect();
    let mut codes = vec![[0; 4]; subjects.len()];
    let mut wrong = Vec::new();
    for (subject, found) in runs {
        match found {
            Ok(code) => codes[subject][code as usize] += 1,
            Err(why) => wrong.push(why),
        }
    }
    for (subject, codes) in subjects.iter().zip(&codes) {
        say(format_args!(
            "{}: {codes:?} exit codes 0, 1, 2, 3",
            subject.what
        ));
    }
    say(format_args!("{} corrupted files", subjects.len() * each));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Else the changes would not be what is refused.
#[test]
fn the_files_are_good_before_they_are_changed() {
    for subject in subjects() {
        let bytes = (subject.after)(subject.good.clone());
        let found = subject.verdict(&bytes);
        assert!(matches!(found, Ok(0 | 1)), "{}: {found:?}", subject.what);
    }
}
