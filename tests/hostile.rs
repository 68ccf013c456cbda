//! Hostile files: one function a format that feeds bytes to the library, and how good files are changed. The mutations
//! of `tests/mutations.rs` and the targets of `fuzz/` share both.

#![allow(
    clippy::missing_errors_doc,
    reason = "each function fails with the one line that the tool would show"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use align_check::check::{Check, Mode, Target, Tolerance};
use align_check::inputs::read_arrays;
use align_check::{encodings, generate, memory, precision, record};
use align_check_graph::encodings::Encodings;
use align_check_graph::{Graph, Limits, Model};
use align_check_simulators::kernels::Isa;
use align_check_simulators::network::Network;
use align_check_specs::Spec;

use crate::{Random, golden, root};

/// What became of a file: a result, or the line that says why there is none.
pub type Outcome = Result<(), String>;

/// A format that files are read in.
#[derive(Clone, Copy)]
pub struct Format {
    /// Its name; that of its fuzz target, too.
    pub name: &'static str,
    /// Whether it is text.
    pub text: bool,
    /// Feeds a file's contents to the library.
    pub feed: fn(&[u8]) -> Outcome,
    /// Good files.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every format.
pub const FORMATS: [Format; 15] = [
    binary("onnx", onnx, || files(&["onnx"])),
    binary("tflite", tflite, || files(&["tflite"])),
    text("openvino_xml", openvino_xml, || files(&["xml"])),
    binary("openvino_bin", openvino_bin, || one(OPENVINO, "bin")),
    text("prototxt", prototxt, || files(&["prototxt"])),
    binary("caffemodel", caffemodel, || one(CAFFE, "caffemodel")),
    text("encodings", of_encodings, || {
        files(&["encodings", "json", "yaml", "scale", "cache", "txt"])
    }),
    text("target", target, targets),
    text("precision", of_precision, || named("precision.toml")),
    binary("npz", npz, || files(&["npz"])),
    binary("npy", npy, arrays),
    text("nnie", nnie, || {
        vec![b"00001000\n00000a80\nfffff000\n00000000\n".to_vec()]
    }),
    text("raw_list", raw_list, || {
        vec![b"# tensors\nconv raw.bin int8 1 2 2 2\n\"a b\" raw.bin float32 2\n".to_vec()]
    }),
    text("tensorrt", tensorrt, polygraphy),
    text("dpu_shapes", dpu_shapes, || {
        vec![b"[1, 2, 2, 1]: conv\n[1, 4]: other/node\n".to_vec()]
    }),
];

const fn binary(
    name: &'static str,
    feed: fn(&[u8]) -> Outcome,
    seeds: fn() -> Vec<Vec<u8>>,
) -> Format {
    Format {
        name,
        text: false,
        feed,
        seeds,
    }
}

const fn text(
    name: &'static str,
    feed: fn(&[u8]) -> Outcome,
    seeds: fn() -> Vec<Vec<u8>>,
) -> Format {
    Format {
        name,
        text: true,
        feed,
        seeds,
    }
}

const OPENVINO: &str = "toolchains/nncf-mixed/model";
const CAFFE: &str = "toolchains/nnie-caffe/model";

/// Elements of a network that is run, too: what reading larger ones takes is seen without.
const RUN_ELEMENTS: usize = 1 << 15;

/// And of one whose differences get a cause: tables of 16-bit codes take a while.
const EXPLAINED_ELEMENTS: usize = 1 << 11;

/// One line, or the file is answered wrongly.
///
/// # Panics
/// It is several lines.
fn line(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    assert!(
        !text.contains(['\n', '\r']) && !text.is_empty(),
        "no single line: {text:?}"
    );
    text
}

/// Plans and, where it is small, runs what a file holds.
fn simulate(graph: &Graph, bytes: u64) -> Outcome {
    let limits = Limits::default();
    memory::fits(graph, bytes, &limits).map_err(|e| line(&e))?;
    let isa = Isa::detect();
    let network = Network::new(graph.clone()).map_err(|e| line(&e))?;
    let spec = |name: &str| Spec::resolve(name).map_err(|e| line(&e));
    let exact = Target::new(&network, spec("exact")?, None, isa).map_err(|e| line(&e))?;
    let mut targets = Vec::new();
    let mut refused = Ok(());
    for name in ["tflite-reference", "nnie", "onnxruntime"] {
        match Target::placed((graph, &network), spec(name)?, None, &exact, isa) {
            Ok(target) => targets.push(target),
            Err(error) => refused = Err(line(&error)),
        }
    }
    let elements = |value: &align_check_graph::Value| {
        let extents = value.shape.iter();
        extents.fold(1usize, |n, &extent| n.saturating_mul(extent))
    };
    let all = graph.values.iter().map(elements);
    let all = all.fold(0usize, usize::saturating_add);
    if all > RUN_ELEMENTS {
        return refused;
    }
    let samples = generate::samples(&network, 1, 0);
    let check = Check {
        network: &network,
        reference: &exact,
        targets: &targets,
        mode: Mode {
            isolated: true,
            cumulative: true,
        },
        tolerance: Tolerance::default(),
        recorded: None,
        recorded_reference: None,
        explain: all <= EXPLAINED_ELEMENTS,
        drift: true,
        select: &|_| true,
        isa,
        progress: &|| {},
    };
    check.run(&samples).map_err(|e| line(&e))?;
    refused
}

/// Reads a model and goes on with it.
fn model(path: &Path, bytes: &[u8], weights: Option<&Path>) -> Outcome {
    let model = Model::parse(path, bytes.to_vec(), weights, &Limits::default());
    let model = model.map_err(|e| line(&e))?;
    let graph = model.graph(&BTreeMap::new()).map_err(|e| line(&e))?;
    simulate(&graph, model.bytes())
}

/// An ONNX, QONNX or `QDQ` file.
pub fn onnx(bytes: &[u8]) -> Outcome {
    model(Path::new("model.onnx"), bytes, None)
}

/// A `TFLite` file.
pub fn tflite(bytes: &[u8]) -> Outcome {
    model(Path::new("model.tflite"), bytes, None)
}

/// The text of an OpenVINO IR; its constants are those of a golden one.
pub fn openvino_xml(bytes: &[u8]) -> Outcome {
    model(&golden(format!("{OPENVINO}.xml")), bytes, None)
}

/// The constants of an OpenVINO IR.
pub fn openvino_bin(bytes: &[u8]) -> Outcome {
    beside(|folder| {
        write(&folder.join("model.bin"), bytes);
        let xml = fs::read(golden(format!("{OPENVINO}.xml"))).expect("a golden file");
        model(&folder.join("model.xml"), &xml, None)
    })
}

/// A Caffe network; its weights are those of a golden one.
pub fn prototxt(bytes: &[u8]) -> Outcome {
    let weights = golden(format!("{CAFFE}.caffemodel"));
    model(Path::new("model.prototxt"), bytes, Some(&weights))
}

/// The weights of a Caffe network.
pub fn caffemodel(bytes: &[u8]) -> Outcome {
    beside(|folder| {
        let weights = folder.join("model.caffemodel");
        write(&weights, bytes);
        let text = fs::read(golden(format!("{CAFFE}.prototxt"))).expect("a golden file");
        model(Path::new("model.prototxt"), &text, Some(&weights))
    })
}

/// A file of encodings, of any tool; applied to a float network of that tool's recordings.
pub fn of_encodings(bytes: &[u8]) -> Outcome {
    static MODELS: OnceLock<Vec<(Model, Graph)>> = OnceLock::new();
    let models = MODELS.get_or_init(|| {
        let read = |name: &str| {
            let path = golden(format!("toolchains/{name}/model.onnx"));
            let model = Model::read(&path, &Limits::default()).expect("a golden model");
            let graph = model.graph(&BTreeMap::new()).expect("a golden model");
            encodings::is_float(&graph).then_some((model, graph))
        };
        ["aimet-default", "mqbench-tensorrt", "mqbench-nnie", "float"]
            .into_iter()
            .filter_map(read)
            .collect()
    });
    let parsed = Encodings::parse(Path::new("model.encodings"), bytes).map_err(|e| line(&e))?;
    let mut outcome = Ok(());
    for (model, graph) in models {
        match parsed.apply(graph.clone(), model) {
            Ok((graph, _)) => outcome = simulate(&graph, model.bytes()),
            Err(error) => outcome = outcome.and(Err(line(&error))),
        }
    }
    outcome
}

/// A target.
pub fn target(bytes: &[u8]) -> Outcome {
    beside(|folder| {
        let path = folder.join("target.toml");
        write(&path, bytes);
        let spec = Spec::read(&path).map_err(|e| line(&e))?;
        demo_under(spec)
    })
}

/// A small network under a target.
fn demo_under(spec: Spec) -> Outcome {
    static NETWORK: OnceLock<(Graph, Network, Target)> = OnceLock::new();
    let isa = Isa::detect();
    let (graph, network, exact) = NETWORK.get_or_init(|| {
        let model = Model::read(
            &golden("qonnx-ops/residual-block/model.onnx"),
            &Limits::default(),
        );
        let graph = model.and_then(|model| model.graph(&BTreeMap::new()));
        let graph = graph.expect("a golden model");
        let network = Network::new(graph.clone()).expect("a golden model");
        let exact = Spec::resolve("exact").expect("an embedded target");
        let exact = Target::new(&network, exact, None, isa).expect("a golden model");
        (graph, network, exact)
    });
    let target = Target::placed((graph, network), spec, None, exact, isa).map_err(|e| line(&e))?;
    let samples = generate::samples(network, 1, 0);
    let check = Check {
        network,
        reference: exact,
        targets: &[target],
        mode: Mode {
            isolated: true,
            cumulative: true,
        },
        tolerance: Tolerance::default(),
        recorded: None,
        recorded_reference: None,
        explain: false,
        drift: false,
        select: &|_| true,
        isa,
        progress: &|| {},
    };
    check.run(&samples).map_err(|e| line(&e)).map(drop)
}

/// A precision table of hls4ml.
pub fn of_precision(bytes: &[u8]) -> Outcome {
    beside(|folder| {
        let path = folder.join("precision.toml");
        write(&path, bytes);
        precision::read(&path).map_err(|e| line(&e)).map(drop)
    })
}

/// An archive of arrays.
pub fn npz(bytes: &[u8]) -> Outcome {
    beside(|folder| {
        let path = folder.join("arrays.npz");
        write(&path, bytes);
        read_arrays(&path).map_err(|e| line(&e)).map(drop)
    })
}

/// An array.
pub fn npy(bytes: &[u8]) -> Outcome {
    npz(bytes)
}

/// A dump in a file of this name, with others beside it.
fn dump(name: &str, bytes: &[u8], others: &[(&str, &[u8])], list: bool) -> Outcome {
    beside(|folder| {
        let dumps = folder.join("dump");
        let _ = fs::remove_dir_all(&dumps);
        fs::create_dir_all(&dumps).expect("a writable folder");
        for (name, bytes) in others {
            write(&dumps.join(name), bytes);
        }
        let path = dumps.join(name);
        write(&path, bytes);
        let read = if list {
            record::tensors(&[], Some(&path))
        } else {
            record::tensors(&[dumps], None)
        };
        read.map_err(|e| line(&e)).map(drop)
    })
}

/// An NNIE dump.
pub fn nnie(bytes: &[u8]) -> Outcome {
    let hex = dump("conv_output0_1_2_2_quant.linear.hex", bytes, &[], false);
    hex.or(dump("conv_output0_quant.linear.float", bytes, &[], false))
}

/// The list of raw binaries.
pub fn raw_list(bytes: &[u8]) -> Outcome {
    dump("list.txt", bytes, &[("raw.bin", &[0; 8])], true)
}

/// The JSON of Polygraphy or `trtexec`.
pub fn tensorrt(bytes: &[u8]) -> Outcome {
    beside(|folder| {
        let path = folder.join("results.json");
        write(&path, bytes);
        let read = record::tensors(&[path], None);
        read.map_err(|e| line(&e)).map(drop)
    })
}

/// The `shape.txt` of a Vitis AI dump, and its codes.
pub fn dpu_shapes(bytes: &[u8]) -> Outcome {
    let files: [(&str, &[u8]); 2] = [
        ("conv_fix.bin", &[1, 2, 3, 4]),
        ("other_node.txt", b"1 2 3 4"),
    ];
    dump("shape.txt", bytes, &files, false)
}

/// Runs in a folder of this thread's own.
fn beside<T>(f: impl FnOnce(&Path) -> T) -> T {
    thread_local! {
        static FOLDER: tempfile::TempDir = tempfile::tempdir().expect("a temporary folder");
    }
    FOLDER.with(|folder| f(folder.path()))
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("a writable folder");
}

/// The files below `golden/` that are wanted, in the order of their paths.
fn below(wanted: impl Fn(&Path) -> bool) -> Vec<Vec<u8>> {
    let mut found: Vec<PathBuf> = Vec::new();
    let mut folders = vec![golden("")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("golden/").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if wanted(&path) {
                found.push(path);
            }
        }
    }
    found.sort();
    let read = |path: &PathBuf| fs::read(path).expect("a golden file");
    found.iter().map(read).collect()
}

/// The golden files with one of these endings.
fn files(ends: &[&str]) -> Vec<Vec<u8>> {
    below(|path| {
        let end = path.extension().and_then(|end| end.to_str());
        end.is_some_and(|end| ends.contains(&end)) && !path.starts_with(golden("recorders"))
    })
}

fn named(name: &str) -> Vec<Vec<u8>> {
    below(|path| path.ends_with(name))
}

fn one(stem: &str, end: &str) -> Vec<Vec<u8>> {
    vec![fs::read(golden(format!("{stem}.{end}"))).expect("a golden file")]
}

fn targets() -> Vec<Vec<u8>> {
    let text =
        |name: &&str| align_check_specs::embedded_toml(name).map(|text| text.as_bytes().to_vec());
    align_check_specs::names().iter().filter_map(text).collect()
}

/// The arrays of golden archives, each as a file of its own: inside an archive its sums would find each change.
fn arrays() -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for bytes in files(&["npz"]).into_iter().step_by(7) {
        let Ok(mut archive) = zip::ZipArchive::new(std::io::Cursor::new(bytes)) else {
            continue;
        };
        let Ok(mut entry) = archive.by_index(0) else {
            continue;
        };
        let mut bytes = Vec::new();
        if std::io::Read::read_to_end(&mut entry, &mut bytes).is_ok() {
            bytes.truncate(4096);
            found.push(bytes);
        }
    }
    found
}

fn polygraphy() -> Vec<Vec<u8>> {
    vec![
        br#"[{"x": [[1.0, 2.0], [3.0, -4.5]], "y": [1, 2]}]"#.to_vec(),
        br#"[{"name": "x", "dimensions": "1x2x2", "values": [1, 2, 3, 4]}]"#.to_vec(),
        br#"{"lst": [["runner", [{"outputs": {"x": {"values": {"array": "", "dtype": "float32"}}}}]]], "_polygraphy_class": "RunResults"}"#.to_vec(),
    ]
}

/// A changed copy of a good file; `other` is a good file of the same format.
pub fn mutated(good: &[u8], other: &[u8], text: bool, random: &mut Random) -> Vec<u8> {
    let mut bytes = good.to_vec();
    // Half of them keep the length, so that what is behind the change is still read.
    let kinds = [KEEP_LENGTH, KINDS][random.below(2)];
    let most = [1, 2, 6][random.below(3)];
    for _ in 0..=random.below(most) {
        if bytes.is_empty() {
            break;
        }
        if text && random.below(3) > 0 {
            token(&mut bytes, random);
        } else {
            bytes_changed(&mut bytes, other, kinds, random);
        }
    }
    bytes
}

/// A run of bytes from a place on, short as a rule.
fn run(length: usize, random: &mut Random) -> std::ops::Range<usize> {
    let at = random.below(length);
    let most = [4, 16, 64, 1024][random.below(4)];
    at..(at + 1 + random.below(most)).min(length)
}

/// Kinds of changes; the first ones keep the length.
const KINDS: usize = 9;
const KEEP_LENGTH: usize = 5;

fn bytes_changed(bytes: &mut Vec<u8>, other: &[u8], kinds: usize, random: &mut Random) {
    let at = random.below(bytes.len());
    match random.below(kinds) {
        0 => bytes[at] = random.number() as u8,
        1 => bytes[at] ^= 1 << random.below(8),
        2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
        // A length that grows: as protobuf and flatbuffers store it.
        3 => {
            let length = [
                [0xff, 0xff, 0xff, 0x7f],
                [0xff; 4],
                [0, 0, 0, 1],
                [0, 0, 1, 0],
            ];
            let end = (at + 4).min(bytes.len());
            bytes[at..end].copy_from_slice(&length[random.below(4)][..end - at]);
        }
        4 => {
            let place = run(bytes.len(), random);
            bytes[place].fill(if random.below(2) == 0 { 0 } else { 0xff });
        }
        5 => {
            let twice = run(bytes.len(), random);
            let copy = bytes[twice.clone()].to_vec();
            bytes.splice(twice.start..twice.start, copy);
        }
        // A piece of another file.
        6 if !other.is_empty() => {
            let piece = other[run(other.len(), random)].to_vec();
            let place = run(bytes.len(), random);
            bytes.splice(place, piece);
        }
        7 => bytes.truncate(at),
        _ => {
            let gone = run(bytes.len(), random);
            bytes.drain(gone);
        }
    }
}

/// Changes a word, a number or a line of a text.
fn token(bytes: &mut Vec<u8>, random: &mut Random) {
    const WORDS: [&str; 24] = [
        "-1",
        "0",
        "1",
        "4294967296",
        "9223372036854775807",
        "1e999",
        "-1e-999",
        "nan",
        "inf",
        "\"\"",
        "null",
        "true",
        "{}",
        "[]",
        "[[[[[[[[",
        "{\"a\":",
        "<",
        "\"",
        "#",
        "\u{1b}[31m",
        "\u{202e}",
        "=1+1",
        "65536",
        "1e38",
    ];
    let starts = |b: &u8| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_' || *b == b'.';
    let at = random.below(bytes.len());
    match random.below(4) {
        0 => {
            let start = bytes[..at]
                .iter()
                .rposition(|b| !starts(b))
                .map_or(0, |p| p + 1);
            let end = bytes[at..]
                .iter()
                .position(|b| !starts(b))
                .map_or(bytes.len(), |p| at + p);
            let word = WORDS[random.below(WORDS.len())].bytes();
            bytes.splice(start.min(end)..end, word);
        }
        1 => {
            let word = WORDS[random.below(WORDS.len())].bytes();
            bytes.splice(at..at, word);
        }
        kind => {
            let start = bytes[..at]
                .iter()
                .rposition(|&b| b == b'\n')
                .map_or(0, |p| p + 1);
            let end = bytes[at..]
                .iter()
                .position(|&b| b == b'\n')
                .map_or(bytes.len(), |p| at + p + 1);
            let whole = bytes[start..end].to_vec();
            if kind == 2 {
                bytes.drain(start..end);
            } else {
                bytes.splice(start..start, whole);
            }
        }
    }
}

/// The committed inputs of a fuzz target: those that once went wrong, and those that reach more of the code than the
/// good files do.
pub fn committed(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let mut paths = Vec::new();
    for kind in ["regressions", "corpus"] {
        let folder = root().join("fuzz").join(kind).join(target);
        if let Ok(entries) = fs::read_dir(folder) {
            paths.extend(entries.flatten().map(|entry| entry.path()));
        }
    }
    paths.sort();
    let read = |path: PathBuf| {
        let bytes = fs::read(&path).expect("a committed file");
        (path, bytes)
    };
    paths.into_iter().map(read).collect()
}
