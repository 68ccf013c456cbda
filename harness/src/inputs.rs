//! Input samples and recorded tensors.

pub mod args;
mod block;
pub mod dataset;
mod find;
mod npy;
mod picture;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use align_check_graph::{InputInfo, Limits};
use anyhow::{Result, anyhow, bail};

use crate::report::text::visible;
pub use dataset::{Dataset, Source, of_files, samples};
pub(crate) use npy::read as read_npy;
use npy::{Budget, npy};

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
    let mut zip = block::archive(path)?;
    let mut arrays = Vec::with_capacity(zip.len());
    for index in 0..zip.len() {
        let (key, bytes) = block::entry(path, &mut zip, index, &budget)?;
        let length = bytes.len() as u64;
        let array = npy(|| Ok(Cursor::new(&bytes)), length, &mut budget)
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

impl Samples {
    /// What `ModelArgs::bind` asks for.
    pub fn given(&self) -> Given<'_> {
        Given {
            shapes: &self.shapes,
            source: &self.samples,
        }
    }
}

/// Inputs that a model is bound to.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    /// Shape of every input.
    pub shapes: &'a BTreeMap<String, Vec<usize>>,
    /// The samples.
    pub source: &'a dyn Source,
}

/// Whether a key of a file names a model input.
pub fn names_input(key: &str, input: &InputInfo) -> bool {
    key == input.name || input.aliases.iter().any(|alias| alias == key)
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
