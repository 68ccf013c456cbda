//! A model file of any format.

use std::collections::BTreeMap;
use std::path::Path;

use crate::onnx::fail::shown;
use crate::{Affine, Error, Graph, Limits, caffe, file, onnx, openvino, tflite};

/// A model file, read and checked, not yet bound to input shapes.
#[derive(Debug)]
pub enum Model {
    /// ONNX, QONNX.
    Onnx(onnx::Model),
    /// `TFLite`, `LiteRT`.
    Tflite(tflite::Model),
    /// OpenVINO's IR: an `.xml` file, its constants in the `.bin` beside it.
    OpenVino(openvino::Model),
    /// Caffe: prototxt and caffemodel.
    Caffe(Box<caffe::Model>),
}

/// An input that a model expects.
#[derive(Debug, Clone, PartialEq)]
pub struct InputInfo {
    /// The file's name for it.
    pub name: String,
    /// Extents in the file's order of axes; `None` where the file leaves one open. Empty for a scalar, and
    /// where the file gives no shape at all.
    pub dims: Vec<Option<usize>>,
    /// How the file stores it, where it wants integer codes.
    pub stored: Option<Affine>,
    /// Other keys under which files of inputs may hold it.
    pub aliases: Vec<String>,
}

/// Checks that every named shape is of an input of the model.
pub(crate) fn only_inputs<'n>(
    path: &Path,
    shapes: &BTreeMap<String, Vec<usize>>,
    inputs: impl Iterator<Item = &'n String>,
) -> Result<(), Error> {
    let known: Vec<&String> = inputs.collect();
    let Some(stranger) = shapes.keys().find(|name| !known.contains(name)) else {
        return Ok(());
    };
    let known: Vec<_> = known.into_iter().map(|name| shown(name)).collect();
    Err(Error::Input {
        path: path.to_owned(),
        input: shown(stranger),
        what: format!("the model has no such input; it has: {}", known.join(", ")),
    })
}

impl Model {
    /// Reads and checks a file: limits, external data, names, order. The format is told by the file's
    /// contents, not by its name.
    ///
    /// # Errors
    /// The file cannot be read, is damaged, contradicts itself or goes past a limit.
    pub fn read(path: &Path, limits: &Limits) -> Result<Self, Error> {
        Self::read_with(path, None, limits)
    }

    /// The same, where the weights may lie in a file of their own (Caffe): `weights`, or the one that
    /// belongs to the model's by its name.
    ///
    /// # Errors
    /// As [`read`](Self::read); and where weights are named for a format that holds its own.
    pub fn read_with(path: &Path, weights: Option<&Path>, limits: &Limits) -> Result<Self, Error> {
        Self::parse(path, file::read(path, limits)?, weights, limits)
    }

    /// The same for a file's contents; `path` is for messages and for what lies beside it.
    ///
    /// # Errors
    /// As [`read_with`](Self::read_with).
    pub fn parse(
        path: &Path,
        bytes: Vec<u8>,
        weights: Option<&Path>,
        limits: &Limits,
    ) -> Result<Self, Error> {
        let malformed = |what: &str| Error::Malformed {
            path: path.to_owned(),
            what: what.to_owned(),
        };
        if caffe::Model::recognizes(&bytes) {
            let model = caffe::Model::parse(path, &bytes, weights, limits)?;
            return Ok(Self::Caffe(Box::new(model)));
        }
        if weights.is_some() {
            return Err(malformed(
                "weights are named, but this file is no prototxt and holds its own",
            ));
        }
        if path.extension().is_some_and(|e| e == "caffemodel") {
            return Err(malformed(
                "these are weights of Caffe: name the prototxt, and these by --weights",
            ));
        }
        if tflite::Model::recognizes(&bytes) {
            return tflite::Model::parse(path, bytes, limits).map(Self::Tflite);
        }
        if openvino::Model::recognizes(&bytes) {
            return openvino::Model::parse(path, &bytes, limits).map(Self::OpenVino);
        }
        onnx::Model::parse(path, bytes, limits).map(Self::Onnx)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        match self {
            Self::Onnx(model) => model.path(),
            Self::Tflite(model) => model.path(),
            Self::OpenVino(model) => model.path(),
            Self::Caffe(model) => model.path(),
        }
    }

    /// Bytes that were read: of the model, and of constants that lie apart.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Onnx(model) => model.bytes(),
            Self::Tflite(model) => model.bytes(),
            Self::OpenVino(model) => model.bytes(),
            Self::Caffe(model) => model.bytes(),
        }
    }

    /// The format: `"onnx"`, `"qonnx"`, `"tflite"`, ...
    pub fn format(&self) -> &'static str {
        match self {
            Self::Onnx(model) => model.format(),
            Self::Tflite(model) => model.format(),
            Self::OpenVino(model) => model.format(),
            Self::Caffe(model) => model.format(),
        }
    }

    /// The file of the weights, where they lie apart.
    pub fn weights(&self) -> Option<&Path> {
        match self {
            Self::Caffe(model) => model.weights(),
            Self::Onnx(_) | Self::Tflite(_) | Self::OpenVino(_) => None,
        }
    }

    /// The other files that constants were read from.
    pub fn beside(&self) -> Vec<&Path> {
        match self {
            Self::Onnx(model) => model.beside().collect(),
            Self::OpenVino(model) => model.beside().collect(),
            Self::Caffe(model) => model.weights().into_iter().collect(),
            Self::Tflite(_) => Vec::new(),
        }
    }

    /// What was assumed while reading, one sentence each.
    pub fn notes(&self) -> &[String] {
        match self {
            Self::Onnx(model) => model.notes(),
            Self::Tflite(model) => model.notes(),
            Self::OpenVino(model) => model.notes(),
            Self::Caffe(model) => model.notes(),
        }
    }

    /// The names of the file's tensors, of those too that a bound graph takes into its operators.
    pub fn tensor_names(&self) -> Vec<&str> {
        match self {
            Self::Onnx(model) => model.tensor_names(),
            Self::Tflite(_) | Self::OpenVino(_) | Self::Caffe(_) => Vec::new(),
        }
    }

    /// The inputs that must be fed, in the file's order.
    pub fn inputs(&self) -> Vec<InputInfo> {
        match self {
            Self::Onnx(model) => model.inputs(),
            Self::Tflite(model) => model.inputs(),
            Self::OpenVino(model) => model.inputs(),
            Self::Caffe(model) => model.inputs(),
        }
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
        match self {
            Self::Onnx(model) => model.graph(shapes),
            Self::Tflite(model) => model.graph(shapes),
            Self::OpenVino(model) => model.graph(shapes),
            Self::Caffe(model) => model.graph(shapes),
        }
    }
}
