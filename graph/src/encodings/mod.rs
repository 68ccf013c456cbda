//! Files that give a float model its quantizers: encodings, calibration caches, ranges, calibration statistics.
//!
//! One file a format; all make [`Encodings`], which [`Encodings::apply`] turns into quantizers of a bound graph.
//! Which format a file has is told by its contents ([`Encodings::read`]). The steps: bytes to a `tree` or to lines,
//! a format's reader to entries, `apply` to nodes of the graph.

mod aimet;
mod apply;
mod distiller;
mod lines;
mod mqbench;
mod prototext;
mod ranges;
mod resolve;
mod scheme;
mod sites;
mod svp;
mod tree;
mod vitis;
mod weights;
mod yaml;

use std::fmt;
use std::path::{Path, PathBuf};

pub use apply::Applied;
pub use ranges::Range;
pub use scheme::Scheme;

use crate::onnx::fail::one_line;
use crate::{Error, file};

/// Largest file that is read.
const MAX_BYTES: u64 = 256 << 20;

/// How many names a message lists before it counts.
const LISTED: usize = 3;

/// What a file says about the quantizers of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Encodings {
    /// The file.
    pub path: PathBuf,
    /// Whose format it is.
    pub format: Format,
    /// One entry a tensor, in the file's order.
    pub entries: Vec<Entry>,
    /// How weights are quantized that no entry names.
    pub weights: WeightRule,
    /// What was assumed, one sentence each.
    pub notes: Vec<String>,
    /// Where the file contradicts itself, one sentence each.
    pub warnings: Vec<String>,
}

/// What a file says about one tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Which tensor.
    pub place: Place,
    /// How it is quantized.
    pub scheme: Scheme,
    /// What the file says that it is.
    pub role: Role,
    /// Whether the tool really has a quantizer there.
    pub placed: Placed,
}

/// Which tensor an entry is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// The tensor of this name.
    Tensor(String),
    /// The input with this position among the activations that the node of this name reads.
    Input {
        /// The node.
        node: String,
        /// The position.
        index: usize,
        /// Activations that the file lists for the node.
        of: usize,
    },
    /// The weights of the node of this name.
    Weights(String),
    /// What the module of this name (a `PyTorch` path such as `layer1.0.conv1`) makes.
    Module(String),
    /// The input with this position of the module of this name.
    ModuleInput(String, usize),
}

/// What a file says that a tensor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// An activation.
    Activation,
    /// A weight or a bias: a file for this model cannot name one that does not exist.
    Parameter,
    /// The format does not tell.
    Either,
}

/// Whether the tool that wrote a file has a quantizer at an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// It has.
    Yes,
    /// The format has entries for quantizers that are off, too (AIMET 2.0.0, `MQBench`'s STPU and Tengine).
    Maybe,
}

/// How weights are quantized that a file does not name, where its tool makes their quantizers of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightRule {
    /// Not at all.
    None,
    /// `max|w| / 127`, zero point 0.
    Symmetric {
        /// One scale an output channel.
        per_channel: bool,
    },
    /// `(max - min) / 255`, codes from 0 to 255.
    Asymmetric {
        /// One scale an output channel.
        per_channel: bool,
    },
    /// NNIE's logarithmic grid, placed by `max|w|`.
    Gfpq,
}

/// Formats of files, by the tool that writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// AIMET encodings of this version.
    Aimet(&'static str),
    /// `TensorRT`'s calibration cache.
    TensorRtCache,
    /// `tensor:amax` a line, as `TensorRT`'s sampleINT8API reads them.
    TensorRtRanges,
    /// `MQBench`, for this backend.
    MqBench(Backend),
    /// Vitis AI's `quant_info.json`.
    VitisAi,
    /// Distiller's calibration statistics.
    Distiller,
    /// `SVP_NNN`'s calibration parameters (`calibration_param.txt`, `quant_param_record.txt`).
    SvpNnn,
    /// No file: ranges that align-check measured.
    Measured,
}

/// `MQBench`'s backends that write a file beside a float model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// `blob_range`.
    TensorRt,
    /// `gfpq_param_dict`.
    Nnie,
    /// `activation_encodings`.
    Snpe,
    /// `ppl`.
    Ppl,
    /// Text lines in a file called `.json`.
    PplCuda,
    /// `vitis`.
    Vitis,
    /// `<m>_stpu_minmax.json`.
    Stpu,
    /// `<m>_for_tengine.scale`.
    Tengine,
}

impl Encodings {
    /// Reads a file of any of the formats.
    ///
    /// # Errors
    /// The file cannot be read, is of none of the formats, is damaged, or holds numbers that no quantizer has. Lines
    /// that cannot be read are counted, the first ones with their numbers.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bytes = file::read_small(path, MAX_BYTES)?;
        Self::parse(path, &bytes)
    }

    /// The same for a file's contents; `path` is for messages.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, Error> {
        Self::from_parsed(path, parse(bytes))
    }

    fn from_parsed(path: &Path, parsed: Result<Parsed, String>) -> Result<Self, Error> {
        let checked = parsed.and_then(Parsed::checked);
        let parsed = checked.map_err(|what| Error::Malformed {
            path: path.to_owned(),
            what: one_line(&what),
        })?;
        Ok(Self {
            path: path.to_owned(),
            format: parsed.format,
            entries: parsed.entries,
            weights: parsed.weights,
            notes: parsed.notes,
            warnings: parsed.warnings,
        })
    }
}

/// What a format's reader finds.
#[derive(Debug)]
struct Parsed {
    format: Format,
    entries: Vec<Entry>,
    weights: WeightRule,
    notes: Vec<String>,
    warnings: Vec<String>,
}

impl Parsed {
    fn new(format: Format) -> Self {
        Self {
            format,
            entries: Vec::new(),
            weights: WeightRule::None,
            notes: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn push(&mut self, place: Place, scheme: Scheme, role: Role) {
        self.entries.push(Entry {
            place,
            scheme,
            role,
            placed: Placed::Yes,
        });
    }

    /// The same, where the tool need not have a quantizer there.
    fn push_maybe(&mut self, place: Place, scheme: Scheme, role: Role) {
        self.entries.push(Entry {
            place,
            scheme,
            role,
            placed: Placed::Maybe,
        });
    }

    /// No tensor twice, and at least one.
    fn checked(self) -> Result<Self, String> {
        let mut seen = std::collections::HashSet::new();
        for entry in &self.entries {
            if !seen.insert(&entry.place) {
                return Err(format!("{} has two entries", entry.place));
            }
        }
        if self.entries.is_empty() {
            return Err(format!("{}: no entry for any tensor", self.format));
        }
        Ok(self)
    }
}

fn parse(bytes: &[u8]) -> Result<Parsed, String> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return svp::binary(bytes);
    };
    let text = text.trim_start_matches('\u{feff}');
    match text.trim_start().chars().next() {
        None => Err("an empty file".into()),
        Some('{' | '[') => json(&tree::json(text)?),
        Some(c) if c.is_control() => svp::binary(bytes),
        Some(_) if lines::is_cache(text) => lines::cache(text),
        Some(_) if svp::is_text(text) => svp::text(text),
        Some(_) if distiller::is_statistics(text) => distiller::statistics(&yaml::tree(text)?),
        Some(_) => lines::lines(text),
    }
}

/// JSON files, told apart by their keys.
fn json(tree: &tree::Tree) -> Result<Parsed, String> {
    let has = |key: &str| tree.get(key).is_some();
    if let Some(found) = mqbench::json(tree) {
        return found;
    }
    if has("encodings") || has("activation_encodings") || has("param_encodings") {
        return aimet::encodings(tree);
    }
    if ["param", "output", "input"].into_iter().all(has) {
        return vitis::quant_info(tree);
    }
    if mqbench::is_stpu(tree) {
        return mqbench::stpu(tree);
    }
    Err("JSON of no known format: neither AIMET encodings, MQBench's files nor Vitis AI's quant_info".into())
}

/// The first names of a list, and how many there are.
fn listed<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    let names: Vec<&String> = names.into_iter().collect();
    let shown: Vec<String> = names
        .iter()
        .take(LISTED)
        .map(|n| format!("'{n}'"))
        .collect();
    let more = names.len().saturating_sub(LISTED);
    let rest = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!("{}{rest}", shown.join(", "))
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tensor(name) => write!(f, "tensor '{name}'"),
            Self::Input { node, index, .. } => write!(f, "input {index} of node '{node}'"),
            Self::Weights(node) => write!(f, "the weights of node '{node}'"),
            Self::Module(name) => write!(f, "module '{name}'"),
            Self::ModuleInput(name, index) => write!(f, "input {index} of module '{name}'"),
        }
    }
}

impl Place {
    /// The name in the file.
    fn name(&self) -> &String {
        match self {
            Self::Tensor(name)
            | Self::Weights(name)
            | Self::Module(name)
            | Self::ModuleInput(name, _) => name,
            Self::Input { node, .. } => node,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aimet(version) => write!(f, "AIMET encodings {version}"),
            Self::TensorRtCache => f.write_str("TensorRT calibration cache"),
            Self::TensorRtRanges => f.write_str("TensorRT ranges file"),
            Self::MqBench(backend) => write!(f, "MQBench {}", backend.name()),
            Self::VitisAi => f.write_str("Vitis AI quant_info"),
            Self::Distiller => f.write_str("Distiller calibration statistics"),
            Self::SvpNnn => f.write_str("SVP_NNN calibration parameters"),
            Self::Measured => f.write_str("ranges measured by align-check"),
        }
    }
}

impl Backend {
    /// `MQBench`'s name of the backend.
    pub fn name(self) -> &'static str {
        match self {
            Self::TensorRt => "Tensorrt",
            Self::Nnie => "NNIE",
            Self::Snpe => "SNPE",
            Self::Ppl => "PPLW8A16",
            Self::PplCuda => "PPLCUDA",
            Self::Vitis => "Vitis",
            Self::Stpu => "STPU",
            Self::Tengine => "Tengine_u8",
        }
    }
}
