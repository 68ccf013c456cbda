//! Samples that are loaded when somebody takes them, so that ten thousand need no more memory than ten.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use align_check_graph::{InputInfo, Limits};
use anyhow::{Result, anyhow, bail};
use rayon::prelude::*;

use super::args::PrepareArgs;
use super::block::{Block, Spill};
use super::find::{Found, Line, find, has};
use super::picture::{Pictures, is_picture};
use super::{Array, Given, Sample, Samples, names_input};
use crate::digest::sha256;
use crate::report::text::visible;

/// Most samples.
const MAX_SAMPLES: usize = 10_000_000;

/// Where samples come from.
pub trait Source: Sync {
    /// How many there are.
    fn count(&self) -> usize;

    /// One of them.
    ///
    /// # Errors
    /// One line that names the file: it cannot be read, or holds no numbers for the model.
    fn load(&self, number: usize) -> Result<Cow<'_, Sample>>;
}

impl Source for [Sample] {
    fn count(&self) -> usize {
        self.len()
    }

    fn load(&self, number: usize) -> Result<Cow<'_, Sample>> {
        match self.get(number) {
            Some(sample) => Ok(Cow::Borrowed(sample)),
            None => Err(anyhow!("there is no sample {number}")),
        }
    }
}

impl Source for Vec<Sample> {
    fn count(&self) -> usize {
        self.len()
    }

    fn load(&self, number: usize) -> Result<Cow<'_, Sample>> {
        self[..].load(number)
    }
}

impl<S: Source + ?Sized> Source for &S {
    fn count(&self) -> usize {
        (**self).count()
    }

    fn load(&self, number: usize) -> Result<Cow<'_, Sample>> {
        (**self).load(number)
    }
}

/// Samples in files, in the order of the command line.
pub struct Dataset {
    /// The shape that each input gets.
    pub shapes: BTreeMap<String, Vec<usize>>,
    inputs: Vec<String>,
    blocks: Vec<Block>,
    samples: Vec<Entry>,
    finite: bool,
    /// Bytes that all samples may take together.
    memory: u64,
}

/// One sample: its name, and a part of a block for each input of the model.
struct Entry {
    name: String,
    parts: Vec<(usize, usize)>,
}

/// The samples of files, all in memory: [`Dataset::open`], then [`Dataset::all`].
///
/// # Errors
/// As these.
pub fn of_files(
    files: &[PathBuf],
    inputs: &[InputInfo],
    finite: bool,
    limits: &Limits,
) -> Result<Samples> {
    Dataset::open(files, inputs, &PrepareArgs::default(), finite, limits)?.all()
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
    Dataset::of_arrays(files, arrays, inputs, finite)?.all()
}

impl Dataset {
    /// Finds the samples of files, folders, patterns and lists, and the shapes of the model's inputs; reads headers
    /// only. `finite`: infinities are refused; quantizers take them.
    ///
    /// # Errors
    /// One line that names the file and the input, and says what is wanted.
    pub fn open(
        given: &[PathBuf],
        inputs: &[InputInfo],
        args: &PrepareArgs,
        finite: bool,
        limits: &Limits,
    ) -> Result<Self> {
        // Names and headers may hold anything.
        let open = Self::open_within(given, inputs, args, finite, limits);
        open.map_err(|error| anyhow!("{}", visible(&error.to_string())))
    }

    fn open_within(
        given: &[PathBuf],
        inputs: &[InputInfo],
        args: &PrepareArgs,
        finite: bool,
        limits: &Limits,
    ) -> Result<Self> {
        let mut builder = Builder::new(given, inputs, args, finite, limits);
        let found = find(given)?;
        builder.several = found.len() > 1;
        let mut arrays = Vec::new();
        for found in found {
            match found {
                Found::File { path, name } if is_picture(&path) || has(&path, &["raw", "bin"]) => {
                    builder.flush(&mut arrays)?;
                    let block = builder.headless(&path, 0)?;
                    // Samples of the only file are called by their numbers, as those of an array.
                    let alone = !builder.several && !is_picture(&path);
                    builder.add(0, block, Some(name.as_str()).filter(|_| !alone))?;
                }
                Found::File { path, name } => {
                    arrays.extend(
                        Block::of_arrays(&path, builder.limits)?
                            .into_iter()
                            .map(|b| (b, name.clone())),
                    );
                }
                Found::List(list, lines) => {
                    builder.flush(&mut arrays)?;
                    for line in lines {
                        builder.line(&list, line)?;
                    }
                }
            }
        }
        builder.flush(&mut arrays)?;
        builder.finish()
    }

    /// As [`open`](Self::open), of arrays in memory that come from files.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn of_arrays(
        files: &[PathBuf],
        arrays: Vec<(PathBuf, String, Array)>,
        inputs: &[InputInfo],
        finite: bool,
    ) -> Result<Self> {
        let (args, limits) = (PrepareArgs::default(), Limits::default());
        let mut builder = Builder::new(files, inputs, &args, finite, &limits);
        builder.several = files.len() > 1;
        let held = |(file, key, array): (PathBuf, String, Array)| {
            let name = file.display().to_string();
            (Block::held(file, key, array), name)
        };
        builder.flush(&mut arrays.into_iter().map(held).collect())?;
        builder.finish()
    }

    /// Keeps the first samples, or a choice that a seed makes, in their order.
    ///
    /// # Errors
    /// None are left.
    pub fn limit(&mut self, limit: usize, seed: Option<u64>) -> Result<()> {
        if limit == 0 {
            bail!("--limit 0: at least one input is needed");
        }
        let count = self.samples.len();
        let Some(seed) = seed.filter(|_| limit < count) else {
            self.samples.truncate(limit);
            return Ok(());
        };
        // Floyd's algorithm: as many draws as are wanted.
        let mut random = crate::generate::Random::new(seed, 0);
        let mut chosen = BTreeSet::new();
        for last in count - limit..count {
            let drawn = (random.next() % (last as u64 + 1)) as usize;
            chosen.insert(if chosen.contains(&drawn) { last } else { drawn });
        }
        let mut number = 0;
        self.samples.retain(|_| {
            number += 1;
            chosen.contains(&(number - 1))
        });
        Ok(())
    }

    /// All samples, in memory.
    ///
    /// # Errors
    /// As [`Source::load`].
    pub fn all(&self) -> Result<Samples> {
        let elements = |shape: &Vec<usize>| shape.iter().product::<usize>() as u64;
        let one: u64 = self.shapes.values().map(elements).sum();
        let bytes = one.saturating_mul(8 * self.count() as u64);
        if bytes > self.memory {
            bail!(
                "{} inputs take {bytes} bytes, more than the limit of {} ({})",
                self.count(),
                self.memory,
                Limits::MEMORY
            );
        }
        let samples = (0..self.count()).map(|number| Ok(self.load(number)?.into_owned()));
        Ok(Samples {
            samples: samples.collect::<Result<_>>()?,
            shapes: self.shapes.clone(),
        })
    }

    /// What `ModelArgs::bind` asks for.
    pub fn given(&self) -> Given<'_> {
        Given {
            shapes: &self.shapes,
            source: self,
        }
    }

    /// The files, each once.
    pub fn files(&self) -> BTreeSet<&Path> {
        self.blocks.iter().map(|block| &*block.file).collect()
    }

    /// What tells these samples from others: names, places in files, and the files' contents. `read` is called behind
    /// each file.
    ///
    /// # Errors
    /// One line that names a file that cannot be read.
    pub fn identity(&self, read: &(dyn Fn() + Sync)) -> Result<String> {
        use std::fmt::Write as _;
        let files: Vec<&Path> = self.files().into_iter().collect();
        let sums = files.par_iter().map(|file| {
            let sum = sha256(file)?;
            read();
            Ok((*file, sum))
        });
        let sums: BTreeMap<&Path, String> = sums.collect::<Result<_>>()?;
        let mut text = format!("{:?} {:?}\n", self.inputs, self.shapes);
        for block in &self.blocks {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{:?} {:?} {:?} {}",
                block.file.display().to_string(),
                block.key,
                block.shape,
                sums[&*block.file]
            );
        }
        for sample in &self.samples {
            let _ = writeln!(text, "{} {:?}", sample.name, sample.parts);
        }
        Ok(text)
    }
}

impl Source for Dataset {
    fn count(&self) -> usize {
        self.samples.len()
    }

    fn load(&self, number: usize) -> Result<Cow<'_, Sample>> {
        let Some(entry) = self.samples.get(number) else {
            bail!("there is no sample {number}");
        };
        let mut inputs = BTreeMap::new();
        for (name, &(block, part)) in self.inputs.iter().zip(&entry.parts) {
            let block = &self.blocks[block];
            let array = block.part(part, &self.shapes[name])?;
            let refused = |v: &f64| v.is_nan() || (self.finite && v.is_infinite());
            if let Some(bad) = array.values.iter().position(refused) {
                bail!(
                    "{}: sample '{}' of input '{name}' holds {} at element {bad}",
                    block.file.display(),
                    entry.name,
                    array.values[bad]
                );
            }
            inputs.insert(name.clone(), array);
        }
        Ok(Cow::Owned(Sample {
            name: entry.name.clone(),
            inputs,
        }))
    }
}

/// A dataset that is being put together.
struct Builder<'a> {
    /// What was given, for messages.
    given: &'a [PathBuf],
    inputs: &'a [InputInfo],
    args: &'a PrepareArgs,
    limits: &'a Limits,
    finite: bool,
    several: bool,
    spill: Spill,
    pictures: Option<Arc<Pictures>>,
    blocks: Vec<Block>,
    /// For each input, parts of blocks with the samples' names.
    columns: Vec<Vec<(usize, usize, Option<String>)>>,
    shapes: BTreeMap<String, Vec<usize>>,
}

impl<'a> Builder<'a> {
    fn new(
        given: &'a [PathBuf],
        inputs: &'a [InputInfo],
        args: &'a PrepareArgs,
        finite: bool,
        limits: &'a Limits,
    ) -> Self {
        Self {
            given,
            inputs,
            args,
            limits,
            finite,
            several: false,
            spill: Spill::default(),
            pictures: None,
            blocks: Vec::new(),
            columns: vec![Vec::new(); inputs.len()],
            shapes: BTreeMap::new(),
        }
    }

    /// Adds arrays: those whose keys are input names, or all of them for a model with one input.
    fn flush(&mut self, arrays: &mut Vec<(Block, String)>) -> Result<()> {
        let inputs = self.inputs;
        let input_of = |block: &Block| inputs.iter().position(|i| names_input(&block.key, i));
        let named = arrays.iter().any(|(block, _)| input_of(block).is_some());
        if !named && !arrays.is_empty() {
            self.only_input(|| "no key is one of".to_owned())?;
        }
        for (block, name) in arrays.drain(..) {
            if !named {
                let key = block.key.clone();
                let name = match (key.is_empty(), self.several) {
                    (true, false) => None,
                    (true, true) => Some(name),
                    (false, false) => Some(key),
                    (false, true) => Some(format!("{name}:{key}")),
                };
                self.add(0, block, name.as_deref())?;
            } else if let Some(input) = input_of(&block) {
                self.add(input, block, None)?;
            }
        }
        Ok(())
    }

    /// The number of the only input.
    fn only_input(&self, what: impl Fn() -> String) -> Result<&'a InputInfo> {
        match self.inputs {
            [input] => Ok(input),
            _ => bail!(
                "{}: {} the model's inputs ({})",
                shown(self.given),
                what(),
                names(self.inputs)
            ),
        }
    }

    /// A picture, or numbers without a header.
    fn headless(&mut self, path: &Path, input: usize) -> Result<Block> {
        let info = &self.inputs[input];
        if is_picture(path) {
            self.only_input(|| "a picture does not say which it is of".to_owned())?;
            let pictures = match &self.pictures {
                Some(pictures) => pictures.clone(),
                None => Arc::new(Pictures::new(self.args, info, path, self.limits).map_err(
                    |e| {
                        let (text, shown) = (e.to_string(), path.display().to_string());
                        if text.starts_with("--") || text.starts_with(&shown) {
                            e
                        } else {
                            anyhow!("{shown}: {text}")
                        }
                    },
                )?),
            };
            self.pictures = Some(pictures.clone());
            return Ok(Block::picture(path, &pictures));
        }
        let open = |(axis, dim): (usize, &Option<usize>)| match dim {
            Some(extent) => Ok(*extent),
            // An open batch is one sample.
            None if axis == 0 => Ok(1),
            None => Err(anyhow!(
                "{}: raw files need a model with a fixed shape, and axis {axis} of input '{}' is open",
                path.display(),
                info.name
            )),
        };
        let shape = info
            .dims
            .iter()
            .enumerate()
            .map(open)
            .collect::<Result<Vec<_>>>()?;
        Block::raw(path, &self.args.raw_type, &shape)
    }

    /// Adds a sample of a list.
    fn line(&mut self, list: &Path, line: Line) -> Result<()> {
        let listed = list.display();
        let mut seen = vec![false; self.inputs.len()];
        let name = line.first().map(|(_, path)| path.display().to_string());
        for (input, path) in line {
            let index = if let Some(input) = &input {
                let none = || {
                    let all = names(self.inputs);
                    anyhow!("{listed}: '{input}' is none of the model's inputs ({all})")
                };
                let own = self.inputs.iter().position(|i| names_input(input, i));
                own.ok_or_else(none)?
            } else {
                self.only_input(|| format!("{listed} does not say which file is which of"))?;
                0
            };
            if std::mem::replace(&mut seen[index], true) {
                bail!(
                    "{listed}: input '{}' stands twice on a line",
                    self.inputs[index].name
                );
            }
            let block = if has(&path, &["npz", "npy"]) {
                let mut arrays = Block::of_arrays(&path, self.limits)?;
                match (arrays.pop(), arrays.is_empty()) {
                    (Some(block), true) => block,
                    _ => bail!(
                        "{}: holds several arrays, and a list wants one",
                        path.display()
                    ),
                }
            } else if is_picture(&path) || has(&path, &["raw", "bin"]) || path.extension().is_none()
            {
                self.headless(&path, index)?
            } else {
                bail!(
                    "{}: neither .raw, .bin, .npy, .npz, .png nor .jpg",
                    path.display()
                );
            };
            let before = self.columns[index].len();
            self.add(index, block, name.as_deref())?;
            if self.columns[index].len() != before + 1 {
                bail!(
                    "{}: holds several samples, and a line of a list is one",
                    path.display()
                );
            }
        }
        if let Some(missing) = seen.iter().position(|seen| !seen) {
            bail!(
                "{listed}: a line lacks input '{}'",
                self.inputs[missing].name
            );
        }
        Ok(())
    }

    /// Adds the samples of an array to an input.
    fn add(&mut self, input: usize, mut block: Block, name: Option<&str>) -> Result<()> {
        let info = &self.inputs[input];
        let (shape, count) = cut(&block, info)?;
        let first = self
            .shapes
            .entry(info.name.clone())
            .or_insert_with(|| shape.clone());
        if *first != shape {
            bail!(
                "{}: a sample of input '{}' has shape {shape:?}, the first one {first:?}",
                block.file.display(),
                info.name
            );
        }
        let column = &mut self.columns[input];
        if column.len() + count > MAX_SAMPLES {
            bail!("{}: more than {MAX_SAMPLES} samples", shown(self.given));
        }
        block.prepare(count, &mut self.spill, self.limits)?;
        let at = self.blocks.len();
        for part in 0..count {
            let name = name.map(|name| match count {
                1 => name.to_owned(),
                _ => format!("{name}[{part}]"),
            });
            column.push((at, part, name));
        }
        self.blocks.push(block);
        Ok(())
    }

    fn finish(self) -> Result<Dataset> {
        let missing = self
            .inputs
            .iter()
            .zip(&self.columns)
            .filter(|(_, column)| column.is_empty());
        let missing: Vec<&str> = missing.map(|(input, _)| input.name.as_str()).collect();
        if !missing.is_empty() && missing.len() < self.inputs.len() {
            bail!(
                "{}: lacks the model's input '{}'",
                shown(self.given),
                missing.join("', '")
            );
        }
        let count = self.columns.iter().map(Vec::len).max().unwrap_or(0);
        if count == 0 {
            bail!("{}: no samples", shown(self.given));
        }
        if let Some(short) = self.columns.iter().map(Vec::len).find(|&own| own != count) {
            bail!(
                "{}: not every input has a sample number {short}",
                shown(self.given)
            );
        }
        let mut columns: Vec<_> = self.columns.into_iter().map(Vec::into_iter).collect();
        let mut samples = Vec::with_capacity(count);
        for number in 0..count {
            let mut name = None;
            let mut parts = Vec::with_capacity(columns.len());
            for column in &mut columns {
                let Some((block, part, own)) = column.next() else {
                    continue;
                };
                parts.push((block, part));
                name = name.or(own);
            }
            samples.push(Entry {
                name: name.unwrap_or_else(|| number.to_string()),
                parts,
            });
        }
        let length = |block: &Block| std::fs::metadata(&block.file).map_or(0, |m| m.len());
        let files: BTreeMap<&Path, u64> = self
            .blocks
            .iter()
            .map(|block| (block.file.as_path(), length(block)))
            .collect();
        let memory = self.limits.memory(files.values().sum());
        Ok(Dataset {
            shapes: self.shapes,
            inputs: self.inputs.iter().map(|i| i.name.clone()).collect(),
            blocks: self.blocks,
            samples,
            finite: self.finite,
            memory,
        })
    }
}

/// The first files by name, and how many there are.
fn shown(files: &[PathBuf]) -> String {
    let names: Vec<String> = files
        .iter()
        .take(4)
        .map(|f| f.display().to_string())
        .collect();
    match files.len() - names.len() {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

fn names(inputs: &[InputInfo]) -> String {
    let names: Vec<&str> = inputs.iter().map(|i| i.name.as_str()).collect();
    names.join(", ")
}

/// Cuts an array into pieces of the model's own batch: the shape of a piece, and how many there are.
fn cut(block: &Block, input: &InputInfo) -> Result<(Vec<usize>, usize)> {
    let mut shape = block.shape.clone();
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
        let pairs = || wanted.iter().zip(shape).skip(1);
        wanted.len() == shape.len() && pairs().all(|(w, s)| w.is_none_or(|w| w == *s))
    };
    let describe = |dims: &[Option<usize>]| {
        let dims: Vec<String> = dims
            .iter()
            .map(|d| d.map_or("?".to_string(), |d| d.to_string()))
            .collect();
        format!("({})", dims.join(", "))
    };
    let file = block.file.display();
    let key = match block.key.as_str() {
        "" => "the array".to_string(),
        key => format!("'{key}'"),
    };
    if !fits(&wanted, &shape) {
        bail!(
            "{file}: {key} has shape {:?}, but input '{}' wants {}",
            block.shape,
            input.name,
            describe(&input.dims)
        );
    }
    if wanted.is_empty() {
        return Ok((Vec::new(), 1));
    }
    let batch = wanted.remove(0).unwrap_or(1).max(1);
    if !shape[0].is_multiple_of(batch) || shape[0] == 0 {
        bail!(
            "{file}: {key} has {} samples, which the model's batch of {batch} does not divide",
            shape[0]
        );
    }
    let count = shape[0] / batch;
    shape[0] = batch;
    Ok((shape, count))
}
