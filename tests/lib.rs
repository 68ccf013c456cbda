//! What the tests share: where the data lies, how the tool is run, how small files are made.

pub mod assemble;
pub mod differential;
pub mod hostile;
pub mod onnx;
pub mod simulate;
pub mod slow;

use std::collections::BTreeSet;
use std::fmt::{Display, Write as _};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use ndarray::ArrayD;
use ndarray_npy::{NpzWriter, WritableElement};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// How long a run of the tool may take before it counts as hanging.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A file or folder below `golden/`. The files of its recording are verified first, once in a process.
///
/// # Panics
/// A file is not the recorded one.
pub fn golden(path: impl AsRef<Path>) -> PathBuf {
    static SOUND: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let all = root().join("golden");
    let path = all.join(path);
    let mut inside = path.ancestors().take_while(|folder| **folder != all);
    let recording = inside.find(|folder| folder.join("recording.toml").is_file());
    if let Some(folder) = recording
        && SOUND
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(folder.to_owned())
    {
        verified(folder).unwrap_or_else(|why| panic!("{why}"));
    }
    path
}

/// A file or folder below `../shared`, which not every checkout has. Says so where it is absent.
pub fn shared(path: impl AsRef<Path>) -> Option<PathBuf> {
    let path = root().join("../shared").join(path);
    if path.exists() {
        return Some(path);
    }
    skip(format_args!("../shared is absent ({})", path.display()));
    None
}

/// Says that something is not tested, past the test harness's capture.
pub fn skip(reason: impl Display) {
    say(format_args!("skipped: {reason}"));
}

/// A number that the environment asks for.
pub fn asked(variable: &str) -> Option<usize> {
    std::env::var(variable).ok()?.parse().ok()
}

/// A line on standard error, past the test harness's capture.
pub fn say(line: impl Display) {
    // Nobody is left to tell when this fails.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The tool under test, freshly built in the profile and target folder of this test.
///
/// # Panics
/// It cannot be built.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        // TARGET/PROFILE/deps/TEST
        let test = std::env::current_exe().expect("a test has a path");
        let profile = test
            .ancestors()
            .nth(2)
            .expect("a test lies in target/PROFILE/deps");
        let target = profile.parent().expect("a profile lies in a target folder");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let name = match profile.file_name().and_then(|n| n.to_str()) {
            Some("debug") | None => "dev",
            Some(name) => name,
        };
        let built = Command::new(cargo)
            .args(["build", "--quiet", "--package", "align-check", "--profile"])
            .arg(name)
            .arg("--target-dir")
            .arg(target)
            .current_dir(root())
            .output()
            .expect("cargo runs");
        assert!(
            built.status.success(),
            "building the tool: {}",
            String::from_utf8_lossy(&built.stderr)
        );
        profile.join(format!("align-check{}", std::env::consts::EXE_SUFFIX))
    })
}

/// What one run of the tool did.
#[derive(Debug)]
pub struct Run {
    /// Exit code; absent where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Time that it took.
    pub time: Duration,
}

/// Arguments of one run: anything that has a path's or a text's form.
#[macro_export]
macro_rules! args {
    ($($arg:expr),* $(,)?) => {
        vec![$(std::ffi::OsString::from($arg)),*]
    };
}

/// Runs the tool to its end.
///
/// # Panics
/// It takes longer than [`PATIENCE`].
pub fn run(args: Vec<std::ffi::OsString>) -> Run {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str| File::create(folder.path().join(name)).expect("a temporary file");
    let read = |name: &str| {
        let bytes = fs::read(folder.path().join(name)).expect("a temporary file");
        String::from_utf8(bytes).expect("the tool writes UTF-8")
    };
    let binary = binary();
    let shown = format!("{args:?}");
    let start = Instant::now();
    let mut child = Command::new(binary)
        .args(args)
        .stdin(Stdio::null())
        .stdout(file("stdout"))
        .stderr(file("stderr"))
        .spawn()
        .expect("the tool starts");
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            break status;
        }
        if start.elapsed() > PATIENCE {
            child.kill().expect("a child can be ended");
            child.wait().expect("a child ends");
            panic!("still running after {PATIENCE:?}: align-check {shown}");
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    Run {
        code: status.code(),
        stdout: read("stdout"),
        stderr: read("stderr"),
        time: start.elapsed(),
    }
}

/// Runs the tool with a JSON report, quietly; returns the run, the report and its bytes.
///
/// # Panics
/// No report was written, or it is no JSON.
pub fn report(mut args: Vec<std::ffi::OsString>) -> (Run, Value, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("report.json");
    args.extend(args!["-q", "--report", format!("json={}", path.display())]);
    let shown = format!("{args:?}");
    let run = run(args);
    let text = fs::read_to_string(&path)
        .unwrap_or_else(|e| panic!("{shown}: no report ({e}); {}", run.stderr));
    let json = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{shown}: {e}"));
    (run, json, text)
}

/// A whole number of a report.
///
/// # Panics
/// It is none.
pub fn whole(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{value} is no whole number"))
}

/// A text of a report.
///
/// # Panics
/// It is none.
pub fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
}

/// The entries of a list of a report.
///
/// # Panics
/// It is none.
pub fn list(value: &Value) -> &[Value] {
    value
        .as_array()
        .unwrap_or_else(|| panic!("{value} is no list"))
}

/// The SHA-256 of a file, in hexadecimal.
///
/// # Panics
/// It cannot be read.
pub fn sha256(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut text = String::new();
    for byte in Sha256::digest(bytes) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Checks every file of a recording against its `recording.toml`; returns what the recording says of itself.
///
/// # Errors
/// One line: which file is not the recorded one.
///
/// # Panics
/// A file cannot be read.
pub fn verified(folder: &Path) -> Result<toml::Table, String> {
    let path = folder.join("recording.toml");
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let recording: toml::Table = text
        .parse()
        .map_err(|e| format!("{}: {e}", path.display()))?;
    let sums = recording
        .get("sha256")
        .and_then(toml::Value::as_table)
        .ok_or_else(|| format!("{}: no [sha256]", path.display()))?;
    for (file, sum) in sums {
        let file = folder.join(file);
        if sum.as_str() != Some(&sha256(&file)) {
            return Err(format!("{}: not the recorded file", file.display()));
        }
    }
    Ok(recording)
}

/// An `.npz` under construction.
pub struct Npz(NpzWriter<File>);

impl Npz {
    /// Starts a file.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn new(path: &Path) -> Self {
        Self(NpzWriter::new(File::create(path).expect("a writable file")))
    }

    /// Adds an array.
    ///
    /// # Panics
    /// The shape does not fit, or the file cannot be written.
    #[must_use]
    pub fn add<T: WritableElement + Clone>(
        mut self,
        key: &str,
        shape: &[usize],
        values: &[T],
    ) -> Self {
        let array = ArrayD::from_shape_vec(shape, values.to_vec()).expect("a shape that fits");
        self.0.add_array(key, &array).expect("a writable file");
        self
    }

    /// Ends the file.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn finish(self) {
        self.0.finish().expect("a writable file");
    }
}

/// Copies one array of an `.npz` into a file of its own, as `float32`.
///
/// # Panics
/// There is no such array, or a file cannot be read or written.
pub fn one_array(from: &Path, key: &str, to: &Path) {
    let arrays = align_check::inputs::read_arrays(from).expect("a readable file");
    let (_, array) = arrays
        .iter()
        .find(|(name, _)| name == key)
        .expect("an array of that name");
    let values: Vec<f32> = array.values.iter().map(|&v| v as f32).collect();
    Npz::new(to).add(key, &array.shape, &values).finish();
}

/// A small generator of pseudo-random numbers (`SplitMix64`): the same numbers on every machine.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.number() % end as u64) as usize
    }
}
