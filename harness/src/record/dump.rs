//! A tensor as somebody's tool wrote it, before anything is known of the model.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Result, bail};
use serde::Serialize;

use crate::inputs::ArrayKind;

/// Where a tensor's channels stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Channels before the spatial axes.
    Nchw,
    /// Channels behind the spatial axes.
    Nhwc,
}

impl Order {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nchw => "nchw",
            Self::Nhwc => "nhwc",
        }
    }
}

/// A dumped tensor.
#[derive(Debug, Clone)]
pub(crate) struct Dump {
    /// The tool's name for it.
    pub(crate) name: String,
    /// The file that it was read from.
    pub(crate) file: PathBuf,
    /// Extents of each part, where the dump tells them.
    pub(crate) shape: Option<Vec<usize>>,
    /// The order of axes, where the format fixes it.
    pub(crate) order: Option<Order>,
    /// Whether it is what a fused layer hands on, under the name of any of its operations.
    pub(crate) fused: bool,
    /// Elements, row-major.
    pub(crate) values: Vec<f64>,
    /// What the dump holds.
    pub(crate) kind: ArrayKind,
    /// The step is `2^-fix_point`, where the dump says so.
    pub(crate) fix_point: Option<i32>,
    /// Files of equal shape that were joined: further samples.
    pub(crate) parts: usize,
}

/// What one reader found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The tensors.
    pub(crate) dumps: Vec<Dump>,
    /// Files or entries that hold no output of a layer, and why they were left out.
    pub(crate) ignored: Vec<String>,
}

impl Dump {
    /// A dump of one part that says nothing of its order.
    pub(crate) fn new(name: String, file: PathBuf, values: Vec<f64>, kind: ArrayKind) -> Self {
        Self {
            name,
            file,
            shape: None,
            order: None,
            fused: kind != ArrayKind::Float,
            values,
            kind,
            fix_point: None,
            parts: 1,
        }
    }
}

/// Joins dumps of one name, in order: each is a further sample.
///
/// # Errors
/// Two of one name differ in shape or kind.
pub(crate) fn join(dumps: Vec<Dump>) -> Result<Vec<Dump>> {
    let mut joined: Vec<Dump> = Vec::new();
    let mut seen: HashMap<String, usize> = HashMap::new();
    for dump in dumps {
        let Some(&at) = seen.get(&dump.name) else {
            seen.insert(dump.name.clone(), joined.len());
            joined.push(dump);
            continue;
        };
        let first = &mut joined[at];
        let alike = first.shape == dump.shape
            && first.kind == dump.kind
            && first.order == dump.order
            && first.values.len() == dump.values.len() * first.parts;
        if !alike {
            bail!(
                "{}: '{}' is in {} too, with another shape or type: two files of one name are two \
                 samples of one tensor",
                dump.file.display(),
                dump.name,
                first.file.display()
            );
        }
        first.parts += 1;
        first.values.extend(dump.values);
    }
    Ok(joined)
}

/// Types of elements, as numpy names them.
pub(crate) const TYPES: [(&str, ArrayKind, usize); 10] = [
    ("int8", ArrayKind::Signed(8), 1),
    ("uint8", ArrayKind::Unsigned(8), 1),
    ("int16", ArrayKind::Signed(16), 2),
    ("uint16", ArrayKind::Unsigned(16), 2),
    ("int32", ArrayKind::Signed(32), 4),
    ("uint32", ArrayKind::Unsigned(32), 4),
    ("int64", ArrayKind::Signed(64), 8),
    ("uint64", ArrayKind::Unsigned(64), 8),
    ("float32", ArrayKind::Float, 4),
    ("float64", ArrayKind::Float, 8),
];

/// Kind and bytes of a type.
pub(crate) fn type_of(name: &str) -> Option<(ArrayKind, usize)> {
    let found = TYPES.iter().find(|(known, ..)| *known == name)?;
    Some((found.1, found.2))
}

/// As [`type_of`], for `--raw-type`.
///
/// # Errors
/// There is no such type.
pub(crate) fn raw_type(name: &str) -> Result<(ArrayKind, usize)> {
    type_of(name).ok_or_else(|| anyhow::anyhow!("--raw-type {name}: none of {}", names()))
}

/// Little-endian numbers of a type.
pub(crate) fn decode(bytes: &[u8], kind: ArrayKind, size: usize) -> Vec<f64> {
    let number = |chunk: &[u8]| {
        let mut padded = [0u8; 8];
        padded[..size].copy_from_slice(chunk);
        let raw = u64::from_le_bytes(padded);
        let unused = 64 - 8 * size as u32;
        match kind {
            ArrayKind::Float if size == 4 => f64::from(f32::from_bits(raw as u32)),
            ArrayKind::Float => f64::from_bits(raw),
            ArrayKind::Signed(_) => (((raw << unused) as i64) >> unused) as f64,
            ArrayKind::Unsigned(_) => raw as f64,
        }
    };
    bytes.chunks_exact(size).map(number).collect()
}

/// The name of a kind of numbers.
pub(crate) fn kind_name(kind: ArrayKind) -> String {
    match kind {
        ArrayKind::Float => "float".to_owned(),
        ArrayKind::Signed(bits) => format!("int{bits}"),
        ArrayKind::Unsigned(1) => "bool".to_owned(),
        ArrayKind::Unsigned(bits) => format!("uint{bits}"),
    }
}

/// Reads a dump's numbers as another type than its file says.
///
/// # Errors
/// A number that the type cannot hold.
pub(crate) fn retype(dump: &mut Dump, name: &str) -> Result<()> {
    let Some((kind, _)) = type_of(name) else {
        bail!("--dtype {name}: none of {}", names());
    };
    if dump.kind == kind {
        return Ok(());
    }
    let (min, max) = match kind {
        ArrayKind::Float => (f64::NEG_INFINITY, f64::INFINITY),
        ArrayKind::Signed(bits) => (
            -(f64::from(bits) - 1.0).exp2(),
            (f64::from(bits) - 1.0).exp2() - 1.0,
        ),
        ArrayKind::Unsigned(bits) => (0.0, f64::from(bits).exp2() - 1.0),
    };
    let refused =
        |v: &&f64| kind != ArrayKind::Float && (v.fract() != 0.0 || !(min..=max).contains(*v));
    if let Some(bad) = dump.values.iter().find(refused) {
        bail!(
            "{}: '{}' holds {bad}, which is no {name} (--dtype)",
            dump.file.display(),
            dump.name
        );
    }
    dump.kind = kind;
    dump.fused |= kind != ArrayKind::Float;
    Ok(())
}

/// The names of all types.
pub(crate) fn names() -> String {
    TYPES.map(|(name, ..)| name).join(", ")
}
