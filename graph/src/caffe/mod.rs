//! Caffe networks: a prototxt (text) and, beside it, a caffemodel with the weights (binary).
//!
//! What `BVLC/caffe` reads at inference, and of its forks what the NNIE mapper's networks use (`ReLU6`,
//! `Permute`, `Upsample`, depthwise convolutions as layers of their own). A layer's `gfpq_param` gives the
//! clip values of NNIE's logarithmic quantizer: see `bind`.
//!
//! The steps, one file each: `text` (text to fields), `fields` (typed access), `parse` (fields to a checked list of
//! layers), `proto` and `weights` (the caffemodel), `bind` (shapes known: values, quantizers), `ops` (one
//! function a layer type).

mod bind;
mod fields;
mod ops;
mod parse;
pub mod proto;
mod text;
mod weights;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use self::text::Message;
use self::weights::Weights;
use crate::{Error, Graph, InputInfo, Limits};

/// Index of a tensor: one version of a blob.
type Slot = usize;

/// A network, read and checked, not yet bound to input shapes.
#[derive(Debug)]
pub struct Model {
    path: PathBuf,
    bytes: u64,
    limits: Limits,
    net: Net,
    weights: Option<Weights>,
    notes: Vec<String>,
}

/// What a prototxt says.
#[derive(Debug, Default)]
struct Net {
    name: String,
    inputs: Vec<NetInput>,
    outputs: Vec<Slot>,
    layers: Vec<Layer>,
    /// The name of each tensor.
    names: Vec<String>,
    /// Another key for a tensor, the name of its layer; empty where there is none.
    aliases: Vec<String>,
    notes: Vec<String>,
}

/// An input.
#[derive(Debug)]
struct NetInput {
    slot: Slot,
    /// Extents; `None` where the file leaves one open.
    dims: Vec<Option<usize>>,
}

/// A layer that computes.
#[derive(Debug)]
struct Layer {
    name: String,
    kind: String,
    bottoms: Vec<Slot>,
    tops: Vec<Slot>,
    /// Clip values of the logarithmic quantizers of its bottoms; none, one for all, or one each.
    clips: Vec<f32>,
    /// The names by which its blobs are shared with other layers; empty texts where they are not.
    shared: Vec<String>,
    message: Message,
}

impl Model {
    /// Whether a file's contents look like a prototxt: protobuf's text format.
    pub fn recognizes(bytes: &[u8]) -> bool {
        text::recognizes(bytes)
    }

    /// Reads a network from the contents of its prototxt. The weights are `weights`, or the caffemodel of the
    /// same name beside it.
    ///
    /// # Errors
    /// A file cannot be read, is damaged, contradicts itself, is of the old format V1, or goes past a limit.
    pub fn parse(
        path: &Path,
        bytes: &[u8],
        weights: Option<&Path>,
        limits: &Limits,
    ) -> Result<Self, Error> {
        let net = parse::read(bytes, limits).map_err(|fail| fail.in_file(path, "prototxt"))?;
        let beside = path.with_extension("caffemodel");
        let weights = match weights {
            Some(weights) => Some(Weights::read(weights, limits)?),
            None if beside.is_file() => Some(Weights::read(&beside, limits)?),
            None => None,
        };
        let mut notes = net.notes.clone();
        if let Some(weights) = &weights {
            notes.push(format!("weights: {}", weights.path.display()));
        }
        notes.extend(bind::gfpq_notes(&net));
        Ok(Self {
            path: path.to_owned(),
            bytes: bytes.len() as u64 + weights.as_ref().map_or(0, |weights| weights.bytes),
            limits: limits.clone(),
            net,
            weights,
            notes,
        })
    }

    /// The prototxt.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The caffemodel, where there is one.
    pub fn weights(&self) -> Option<&Path> {
        self.weights.as_ref().map(|weights| weights.path.as_path())
    }

    /// Bytes of the prototxt and of the caffemodel.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// `"caffe"`.
    #[allow(clippy::unused_self, reason = "the face that every format has")]
    pub fn format(&self) -> &'static str {
        "caffe"
    }

    /// What was assumed while reading, one sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The inputs that must be fed, in the file's order.
    pub fn inputs(&self) -> Vec<InputInfo> {
        let info = |input: &NetInput| InputInfo {
            name: self.net.names[input.slot].clone(),
            dims: input.dims.clone(),
            stored: None,
            aliases: Vec::new(),
        };
        self.net.inputs.iter().map(info).collect()
    }

    /// Binds the network to concrete input shapes: infers shapes, resolves parameters, takes the weights.
    ///
    /// An input that `shapes` does not name keeps the file's shape; there an open batch becomes 1. The first
    /// extent (the batch) may be another than the file's.
    ///
    /// # Errors
    /// A shape does not fit the network, weights are missing or of another shape, or it uses something that is
    /// not evaluated.
    pub fn graph(&self, shapes: &BTreeMap<String, Vec<usize>>) -> Result<Graph, Error> {
        bind::graph(self, shapes)
    }
}
