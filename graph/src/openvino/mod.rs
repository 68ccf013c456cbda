//! OpenVINO's IR: a graph in an `.xml` file, its constants in the `.bin` beside it.
//!
//! The importer reads layers, translates each into the ONNX operator that means the same, and leaves the rest
//! (folding, shapes, what stored integers mean) to the ONNX importer. Quantizers are `FakeQuantize` layers; weights
//! that are stored as integers (`Const`, `Convert`, perhaps `Subtract`, `Multiply`) stay the integers that they are.
//!
//! A tensor has the name of its output port, else its layer's name; recordings may use either.
//!
//! The steps, one file each: `xml` (text to layers and edges), `parse` (names, constants, order), `bias` (what is added to convolutions), `ops` (one function
//! an operator).

mod bias;
pub(crate) mod ops;
mod parse;
mod xml;

use std::collections::BTreeMap;
use std::path::Path;

use crate::{Error, Graph, InputInfo, Limits, onnx};

/// A model file, read and checked, not yet bound to input shapes.
#[derive(Debug)]
pub struct Model(onnx::Model);

impl Model {
    /// Whether a file's first bytes are those of an XML document: no other format that is read is one.
    pub fn recognizes(bytes: &[u8]) -> bool {
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let text = text.trim_ascii_start();
        text.starts_with(b"<?xml") || text.starts_with(b"<net")
    }

    /// Reads and checks an `.xml` file and the constants beside it: ids, edges, offsets, names, order.
    ///
    /// # Errors
    /// The files cannot be read, are damaged, contradict themselves or go past a limit.
    pub fn read(path: &Path, limits: &Limits) -> Result<Self, Error> {
        Self::parse(path, &crate::file::read(path, limits)?, limits)
    }

    /// The same for the contents of the `.xml` file; `path` is for messages and for the `.bin` file.
    pub(crate) fn parse(path: &Path, bytes: &[u8], limits: &Limits) -> Result<Self, Error> {
        parse::read(path, bytes, limits).map(Self)
    }

    /// The `.xml` file.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Bytes that were read: of the `.xml` and of constants of the `.bin`.
    pub fn bytes(&self) -> u64 {
        self.0.bytes()
    }

    /// The `.bin` file, where constants were read.
    pub fn beside(&self) -> impl Iterator<Item = &Path> {
        self.0.beside()
    }

    /// `"openvino"`.
    pub fn format(&self) -> &'static str {
        self.0.format()
    }

    /// What was assumed while reading, one sentence each.
    pub fn notes(&self) -> &[String] {
        self.0.notes()
    }

    /// The inputs that must be fed, in the file's order.
    pub fn inputs(&self) -> Vec<InputInfo> {
        self.0.inputs()
    }

    /// Binds the model to concrete input shapes: folds constants, infers shapes, resolves parameters.
    ///
    /// An input that `shapes` does not name keeps the file's shape; there an open first extent
    /// (the batch) becomes 1.
    ///
    /// # Errors
    /// A shape does not fit the model, the file contradicts itself, or it uses something that is not
    /// evaluated.
    pub fn graph(&self, shapes: &BTreeMap<String, Vec<usize>>) -> Result<Graph, Error> {
        self.0.graph(shapes)
    }
}
