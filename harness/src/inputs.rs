//! Input samples and recorded tensors: npz and npy files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use align_check_graph::{InputInfo, Limits};
use anyhow::{Result, anyhow, bail};
use ndarray::ArrayD;
use ndarray_npy::{ReadNpyError, ReadNpyExt};
use zip::ZipArchive;

use crate::report::text::visible;

/// Elements that one array may have.
const MAX_ELEMENTS: usize = 1 << 31;

/// An array of a file, with the kind of numbers that it holds.
#[derive(Debug, Clone)]
pub struct Array {
    /// Extents.
    pub shape: Vec<usize>,
    /// Elements, row-major; integers of up to 53 bits are exact.
    pub values: Vec<f64>,
    /// What the file stores.
    pub kind: ArrayKind,
}

/// What kind of numbers an array holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArrayKind {
    /// Reals.
    Float,
    /// Signed integers of so many bits.
    Signed(u32),
    /// Unsigned integers of so many bits.
    Unsigned(u32),
}

/// Largest ratio of deflate; an entry that promises more is a bomb.
const MAX_RATIO: u64 = 1100;

/// [`read_arrays_within`] the default limits.
///
/// # Errors
/// As there.
pub fn read_arrays(path: &Path) -> Result<Vec<(String, Array)>> {
    read_arrays_within(path, &Limits::default())
}

/// Reads every array of an `.npz` (in file order), or the one of an `.npy` (under an empty name).
///
/// # Errors
/// One line that names the file, and the array where there is one: it is damaged, or asks for more than the limits allow.
pub fn read_arrays_within(path: &Path, limits: &Limits) -> Result<Vec<(String, Array)>> {
    // Names and headers may hold anything.
    arrays_of(path, limits).map_err(|error| anyhow!("{}", visible(&error.to_string())))
}

fn arrays_of(path: &Path, limits: &Limits) -> Result<Vec<(String, Array)>> {
    let shown = path.display();
    let open = || File::open(path).map_err(|e| anyhow!("{shown}: {e}"));
    let mut magic = Vec::new();
    let length = open()?
        .metadata()
        .map_err(|e| anyhow!("{shown}: {e}"))?
        .len();
    if length > limits.file_bytes {
        bail!(
            "{shown}: the file is larger than the limit of {} bytes ({})",
            limits.file_bytes,
            Limits::FILE
        );
    }
    let mut budget = Budget(limits.memory(length));
    open()?
        .take(6)
        .read_to_end(&mut magic)
        .map_err(|e| anyhow!("{shown}: {e}"))?;
    if magic.starts_with(b"\x93NUMPY") {
        let array = npy(|| Ok(BufReader::new(open()?)), length, &mut budget)
            .map_err(|e| anyhow!("{shown}: {e}"))?;
        return Ok(vec![(String::new(), array)]);
    }
    if !magic.starts_with(b"PK") {
        bail!("{shown}: neither an .npz nor an .npy file");
    }
    let damaged = |e: &dyn std::fmt::Display| anyhow!("{shown}: {}", one_line(&e.to_string()));
    let mut zip = ZipArchive::new(BufReader::new(open()?)).map_err(|e| damaged(&e))?;
    let entries = zip.len();
    let mut arrays = Vec::with_capacity(entries);
    for index in 0..entries {
        let (name, size) = {
            let entry = zip.by_index(index).map_err(|e| damaged(&e))?;
            if entry.size() > entry.compressed_size().saturating_mul(MAX_RATIO) + 1024 {
                bail!(
                    "{shown}: entry '{}' promises {} bytes",
                    entry.name(),
                    entry.size()
                );
            }
            (entry.name().to_string(), entry.size())
        };
        budget
            .check(size)
            .map_err(|e| anyhow!("{shown}: entry '{name}': {e}"))?;
        let mut bytes = Vec::new();
        zip.by_index(index)
            .map_err(|e| damaged(&e))?
            .take(size)
            .read_to_end(&mut bytes)
            .map_err(|e| damaged(&e))?;
        let key = name.strip_suffix(".npy").unwrap_or(&name).to_string();
        let array = npy(|| Ok(Cursor::new(&bytes)), bytes.len() as u64, &mut budget)
            .map_err(|e| anyhow!("{shown}: array '{key}': {e}"))?;
        arrays.push((key, array));
    }
    if arrays.is_empty() {
        bail!("{shown}: no arrays");
    }
    Ok(arrays)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Reads one array in `.npy` form.
///
/// # Errors
/// One line: what is wrong with it.
pub(crate) fn read_npy(bytes: &[u8]) -> Result<Array> {
    let mut budget = Budget(Limits::default().memory(bytes.len() as u64));
    npy(|| Ok(Cursor::new(bytes)), bytes.len() as u64, &mut budget)
}

/// Reads one array in `.npy` form, of `bytes` bytes.
fn npy<R: Read>(open: impl Fn() -> Result<R>, bytes: u64, budget: &mut Budget) -> Result<Array> {
    let elements = check_header(&mut open()?, bytes)?;
    // While it is read there are its bytes, its numbers as they are stored, and as they are kept.
    let kept = (elements as u64).saturating_mul(8);
    budget.check(bytes.saturating_mul(2).saturating_add(kept))?;
    budget.take(kept)?;
    macro_rules! attempt {
        ($($type:ty => $kind:expr),*) => {$(
            match ArrayD::<$type>::read_npy(open()?) {
                Ok(array) => {
                    #[allow(clippy::cast_lossless, reason = "one macro for every element type")]
                    let values = array.iter().map(|&v| v as f64).collect();
                    return Ok(Array { shape: array.shape().to_vec(), values, kind: $kind });
                }
                Err(ReadNpyError::WrongDescriptor(_)) => {}
                Err(e) => bail!("{}", one_line(&e.to_string())),
            }
        )*};
    }
    attempt!(
        f32 => ArrayKind::Float, f64 => ArrayKind::Float,
        i8 => ArrayKind::Signed(8), u8 => ArrayKind::Unsigned(8),
        i16 => ArrayKind::Signed(16), u16 => ArrayKind::Unsigned(16),
        i32 => ArrayKind::Signed(32), u32 => ArrayKind::Unsigned(32),
        i64 => ArrayKind::Signed(64), u64 => ArrayKind::Unsigned(64)
    );
    match ArrayD::<bool>::read_npy(open()?) {
        Ok(array) => Ok(Array {
            shape: array.shape().to_vec(),
            values: array.iter().map(|&v| f64::from(u8::from(v))).collect(),
            kind: ArrayKind::Unsigned(1),
        }),
        Err(_) => bail!("neither float32, float64, bool nor an integer type of 8 to 64 bits"),
    }
}

/// What the arrays of a file may still take in memory.
struct Budget(u64);

impl Budget {
    /// Whether so many bytes are left.
    fn check(&self, bytes: u64) -> Result<()> {
        if bytes > self.0 {
            bail!(
                "takes {bytes} bytes, more than the {} that are left of the file's limit ({})",
                self.0,
                Limits::MEMORY
            );
        }
        Ok(())
    }

    fn take(&mut self, bytes: u64) -> Result<()> {
        self.check(bytes)?;
        self.0 -= bytes;
        Ok(())
    }
}

/// The number of elements. A header whose shape promises more than the file holds is an error before anything is
/// allocated.
fn check_header(reader: &mut impl Read, bytes: u64) -> Result<usize> {
    let truncated = |_| anyhow!("a truncated .npy header");
    let mut start = [0u8; 10];
    reader.read_exact(&mut start).map_err(truncated)?;
    if !start.starts_with(b"\x93NUMPY") {
        bail!("no .npy data");
    }
    let mut length = u32::from(u16::from_le_bytes([start[8], start[9]]));
    if start[6] > 1 {
        let mut more = [0u8; 2];
        reader.read_exact(&mut more).map_err(truncated)?;
        length = u32::from_le_bytes([start[8], start[9], more[0], more[1]]);
    }
    if length > 1 << 20 {
        bail!("an .npy header of {length} bytes");
    }
    let mut header = vec![0u8; length as usize];
    reader.read_exact(&mut header).map_err(truncated)?;
    let header = String::from_utf8_lossy(&header);
    // What is checked here must be what is read: no second shape, and none that is spelled otherwise.
    if header.matches("shape").count() != 1 || header.contains('\\') {
        bail!("an .npy header with another 'shape' than one");
    }
    let shape = header
        .split("'shape'")
        .nth(1)
        .and_then(|t| t.split('(').nth(1))
        .and_then(|t| t.split(')').next())
        .ok_or_else(|| anyhow!("an .npy header without a shape"))?;
    shape
        .split(',')
        .map(str::trim)
        .filter(|t| !t.is_empty())
        .try_fold(1usize, |n, t| {
            n.checked_mul(t.trim_end_matches('L').parse::<usize>().ok()?)
        })
        .filter(|&n| n <= MAX_ELEMENTS && n as u64 <= bytes)
        .ok_or_else(|| anyhow!("an array of shape ({shape}), more than the file holds"))
}

/// One input sample: an array for each model input.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Name of the sample: its key, or its number.
    pub name: String,
    /// Model input to values in its shape.
    pub inputs: BTreeMap<String, Array>,
}

impl Sample {
    /// The values of one input of the model.
    ///
    /// # Errors
    /// One line: the sample lacks it.
    pub fn input(&self, name: &str) -> Result<&Array> {
        self.inputs
            .get(name)
            .ok_or_else(|| anyhow!("sample '{}' lacks input '{name}'", self.name))
    }
}

/// Samples, and the shape of every input.
#[derive(Debug)]
pub struct Samples {
    /// The samples.
    pub samples: Vec<Sample>,
    /// Shape that each input gets.
    pub shapes: BTreeMap<String, Vec<usize>>,
}

/// The samples of files: [`read_arrays_within`] of each, then [`samples`].
///
/// # Errors
/// As these.
pub fn of_files(
    files: &[PathBuf],
    inputs: &[InputInfo],
    finite: bool,
    limits: &Limits,
) -> Result<Samples> {
    let mut arrays = Vec::new();
    for file in files {
        for (key, array) in read_arrays_within(file, limits)? {
            arrays.push((file.clone(), key, array));
        }
    }
    samples(files, arrays, inputs, finite)
}

/// Splits arrays into samples: keys that are input names hold samples along the batch axis; otherwise, for a
/// model with one input, every key is a sample. `finite`: infinities are refused; quantizers take them.
///
/// # Errors
/// One line that names the file and the input, and says which shape is wanted.
pub fn samples(
    files: &[PathBuf],
    arrays: Vec<(PathBuf, String, Array)>,
    inputs: &[InputInfo],
    finite: bool,
) -> Result<Samples> {
    let mut shapes = BTreeMap::new();
    let mut samples = Vec::new();
    let named: Vec<&InputInfo> = inputs
        .iter()
        .filter(|input| arrays.iter().any(|(_, key, _)| names_input(key, input)))
        .collect();
    if named.is_empty() {
        let [input] = inputs else {
            bail!(
                "{}: no key is one of the model's inputs ({})",
                shown(files),
                names(inputs)
            );
        };
        for (file, key, array) in arrays {
            for (index, part) in split(&file, &key, array, input)?.into_iter().enumerate() {
                shapes
                    .entry(input.name.clone())
                    .or_insert_with(|| part.shape.clone());
                let name = if key.is_empty() {
                    index.to_string()
                } else {
                    key.clone()
                };
                let inputs = BTreeMap::from([(input.name.clone(), part)]);
                samples.push(Sample { name, inputs });
            }
        }
    } else {
        if named.len() < inputs.len() {
            let missing: Vec<&InputInfo> = inputs
                .iter()
                .filter(|i| !named.iter().any(|n| n.name == i.name))
                .collect();
            bail!(
                "{}: lacks the model's input '{}'",
                shown(files),
                missing
                    .iter()
                    .map(|i| i.name.as_str())
                    .collect::<Vec<_>>()
                    .join("', '")
            );
        }
        for (file, key, array) in arrays {
            let Some(input) = inputs.iter().find(|i| names_input(&key, i)) else {
                continue;
            };
            for (index, part) in split(&file, &key, array, input)?.into_iter().enumerate() {
                shapes
                    .entry(input.name.clone())
                    .or_insert_with(|| part.shape.clone());
                if samples.len() <= index {
                    samples.push(Sample {
                        name: index.to_string(),
                        inputs: BTreeMap::new(),
                    });
                }
                samples[index].inputs.insert(input.name.clone(), part);
            }
        }
        if let Some(short) = samples.iter().position(|s| s.inputs.len() != inputs.len()) {
            bail!(
                "{}: not every input has a sample number {short}",
                shown(files)
            );
        }
    }
    for sample in &samples {
        for (name, array) in &sample.inputs {
            if array.shape != shapes[name] {
                bail!(
                    "{}: sample '{}' of input '{name}' has shape {:?}, the first one {:?}",
                    shown(files),
                    sample.name,
                    array.shape,
                    shapes[name]
                );
            }
            let refused = |v: &f64| v.is_nan() || (finite && v.is_infinite());
            if let Some(bad) = array.values.iter().position(refused) {
                bail!(
                    "{}: sample '{}' of input '{name}' holds {} at element {bad}",
                    shown(files),
                    sample.name,
                    array.values[bad]
                );
            }
        }
    }
    if samples.is_empty() {
        bail!("{}: no samples", shown(files));
    }
    Ok(Samples { samples, shapes })
}

/// Whether a key of a file names a model input.
pub fn names_input(key: &str, input: &InputInfo) -> bool {
    key == input.name || input.aliases.iter().any(|alias| alias == key)
}

fn shown(files: &[PathBuf]) -> String {
    files
        .iter()
        .map(|f| f.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

fn names(inputs: &[InputInfo]) -> String {
    inputs
        .iter()
        .map(|i| i.name.clone())
        .collect::<Vec<_>>()
        .join(", ")
}

/// Cuts an array into pieces of the model's own batch.
fn split(file: &Path, key: &str, array: Array, input: &InputInfo) -> Result<Vec<Array>> {
    let mut shape = array.shape.clone();
    let mut wanted = input.dims.clone();
    if wanted.is_empty() {
        // The file says nothing about this input.
        wanted = vec![None; shape.len()];
    }
    // A single sample may come without its batch axis of 1.
    if shape.len() + 1 == wanted.len() && wanted.first().is_some_and(|d| d.unwrap_or(1) == 1) {
        shape.insert(0, 1);
    }
    let fits = |wanted: &[Option<usize>], shape: &[usize]| {
        wanted.len() == shape.len()
            && wanted
                .iter()
                .zip(shape)
                .skip(1)
                .all(|(w, s)| w.is_none_or(|w| w == *s))
    };
    let describe = |dims: &[Option<usize>]| {
        let dims: Vec<String> = dims
            .iter()
            .map(|d| d.map_or("?".to_string(), |d| d.to_string()))
            .collect();
        format!("({})", dims.join(", "))
    };
    let key = if key.is_empty() {
        "the array".to_string()
    } else {
        format!("'{key}'")
    };
    if !fits(&wanted, &shape) {
        bail!(
            "{}: {key} has shape {:?}, but input '{}' wants {}",
            file.display(),
            array.shape,
            input.name,
            describe(&input.dims)
        );
    }
    if wanted.is_empty() {
        return Ok(vec![array]);
    }
    let batch = wanted.remove(0).unwrap_or(1).max(1);
    if !shape[0].is_multiple_of(batch) || shape[0] == 0 {
        bail!(
            "{}: {key} has {} samples, which the model's batch of {batch} does not divide",
            file.display(),
            shape[0]
        );
    }
    let count = shape[0] / batch;
    shape[0] = batch;
    let size: usize = shape.iter().product();
    Ok((0..count)
        .map(|i| Array {
            shape: shape.clone(),
            values: array.values[i * size..(i + 1) * size].to_vec(),
            kind: array.kind,
        })
        .collect())
}

/// Tensors of a recording by name; samples as `SAMPLE::TENSOR`, or stacked along the first axis.
#[derive(Debug)]
pub struct Recording {
    /// Where it came from.
    pub path: PathBuf,
    arrays: Vec<(String, Array)>,
}

impl Recording {
    /// Reads a recording.
    ///
    /// # Errors
    /// As [`read_arrays`].
    pub fn read(path: &Path) -> Result<Self> {
        Self::read_within(path, &Limits::default())
    }

    /// Reads a recording.
    ///
    /// # Errors
    /// As [`read_arrays_within`].
    pub fn read_within(path: &Path, limits: &Limits) -> Result<Self> {
        Ok(Self {
            path: path.to_path_buf(),
            arrays: read_arrays_within(path, limits)?,
        })
    }

    /// The arrays, with their keys.
    pub fn arrays(&self) -> &[(String, Array)] {
        &self.arrays
    }

    /// The recorded tensor of one sample: `elements` numbers.
    pub fn find(
        &self,
        tensor: &str,
        sample: usize,
        name: &str,
        elements: usize,
    ) -> Option<(&[f64], ArrayKind)> {
        let keyed = format!("{name}::{tensor}");
        if let Some((_, array)) = self.arrays.iter().find(|(key, _)| *key == keyed) {
            return (array.values.len() == elements).then_some((&array.values[..], array.kind));
        }
        let (_, array) = self.arrays.iter().find(|(key, _)| key == tensor)?;
        let part = array
            .values
            .get(sample * elements..(sample + 1) * elements)?;
        Some((part, array.kind))
    }

    /// Whether any key names this tensor, for any sample.
    pub fn has(&self, tensor: &str) -> bool {
        self.arrays.iter().any(|(key, _)| {
            key == tensor
                || key
                    .strip_suffix(tensor)
                    .is_some_and(|rest| rest.ends_with("::"))
        })
    }
}
