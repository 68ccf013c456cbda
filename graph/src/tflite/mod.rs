//! `TFLite` (`LiteRT`) files.
//!
//! The graph computes on reals; a tensor that the file stores as integers is a value with
//! [`stored`](crate::Value::stored), and an operator with an integer output becomes its operation on reals,
//! the fused activation and a quantizer. The file has channels last, the graph has them first: a
//! four-dimensional tensor gets the view that its readers ask for, and a transposition where both are needed.
//!
//! The steps, one file each: `flat` (bytes to tables), `schema` (what the numbers mean), `parse` (tables to a
//! checked list of tensors and operators), `grid` (quantization parameters), `data` (constants), `bind`
//! (shapes known: views, names, emission), `ops` (one function an operator).

mod bind;
mod data;
mod flat;
mod grid;
mod ops;
mod parse;
mod schema;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use self::grid::Grid;
use self::schema::Type;
use crate::{Error, Graph, InputInfo, Limits, file};

/// Index of a tensor in the file.
type Slot = usize;

/// A model file, read and checked, not yet bound to input shapes.
pub struct Model {
    path: PathBuf,
    limits: Limits,
    bytes: Vec<u8>,
    notes: Vec<String>,
    graph_name: String,
    tensors: Vec<FileTensor>,
    inputs: Vec<Slot>,
    outputs: Vec<Slot>,
    /// The operators that an output depends on, in the file's order, which is that of execution.
    nodes: Vec<FileNode>,
}

/// A tensor of the file.
#[derive(Debug)]
struct FileTensor {
    /// The file's name where it is unique, else `INDEX:NAME`.
    name: String,
    /// The file's name.
    file_name: String,
    /// Extents; an open one is 1.
    shape: Vec<usize>,
    /// Which extents the file leaves open.
    open: Vec<bool>,
    /// Whether the file gives a shape at all.
    has_shape: bool,
    kind: Type,
    grid: Grid,
    /// Where its contents lie, if it is a constant.
    data: Option<(usize, usize)>,
    /// Why it cannot be read, an error only where a node needs it.
    trouble: Option<&'static str>,
}

/// An operator of the file.
#[derive(Debug)]
struct FileNode {
    name: String,
    op_type: String,
    /// `None`: an optional input that is left out.
    inputs: Vec<Option<Slot>>,
    outputs: Vec<Slot>,
    /// Number in the union of options, and where the table lies.
    options: Option<(u8, usize)>,
}

impl FileTensor {
    /// The keys under which recordings hold a tensor: `INDEX:NAME` and `INDEX`.
    fn aliases(&self, index: Slot) -> Vec<String> {
        vec![format!("{index}:{}", self.file_name), index.to_string()]
    }
}

impl Model {
    /// Whether a file's first bytes say that it is a `TFLite` file: the identifier of its schema.
    pub fn recognizes(bytes: &[u8]) -> bool {
        bytes.get(4..8) == Some(b"TFL3")
    }

    /// Reads and checks a file: limits, offsets, indices, order.
    ///
    /// # Errors
    /// The file cannot be read, is damaged, contradicts itself or goes past a limit.
    pub fn read(path: &Path, limits: &Limits) -> Result<Self, Error> {
        Self::parse(path, file::read(path, limits)?, limits)
    }

    /// The same for a file's contents.
    pub(crate) fn parse(path: &Path, bytes: Vec<u8>, limits: &Limits) -> Result<Self, Error> {
        parse::read(path, bytes, limits)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// `"tflite"`.
    #[allow(clippy::unused_self, reason = "the face that every format has")]
    pub fn format(&self) -> &'static str {
        "tflite"
    }

    /// What was assumed while reading, one sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The inputs that must be fed, in the file's order.
    pub fn inputs(&self) -> Vec<InputInfo> {
        let info = |&slot: &Slot| {
            let tensor = &self.tensors[slot];
            let dims = tensor.shape.iter().zip(&tensor.open);
            InputInfo {
                name: tensor.name.clone(),
                dims: dims.map(|(&dim, &open)| (!open).then_some(dim)).collect(),
                stored: tensor.grid.stored(),
                aliases: tensor.aliases(slot),
            }
        };
        self.inputs.iter().map(info).collect()
    }

    /// Binds the model to concrete input shapes: infers shapes, resolves parameters, folds what follows
    /// from shapes.
    ///
    /// An input that `shapes` does not name keeps the file's shape; there an open extent becomes 1. The first
    /// extent (the batch) may be another than the file's.
    ///
    /// # Errors
    /// A shape does not fit the model, the file contradicts itself, or it uses something that is not
    /// evaluated.
    pub fn graph(&self, shapes: &BTreeMap<String, Vec<usize>>) -> Result<Graph, Error> {
        bind::graph(self, shapes)
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model")
            .field("path", &self.path)
            .field("nodes", &self.nodes.len())
            .finish_non_exhaustive()
    }
}
