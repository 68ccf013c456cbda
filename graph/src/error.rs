//! Why a model cannot be read.

use std::path::PathBuf;

/// Why a model file cannot be used. Every message is one line and names the file and, where there is one,
/// the node.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file, or a file that it refers to, cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is damaged, contradicts itself, or goes past a limit.
    #[error("{}: {what}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the node's name where there is one, and what to do.
        what: String,
    },
    /// The file is sound, but uses something that align-check does not evaluate.
    #[error("{}: node '{node}' ({op_type}): {what}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The node's name.
        node: String,
        /// The operator, with its domain where it is not ONNX's own.
        op_type: String,
        /// What is not supported.
        what: String,
    },
    /// The shapes given for the inputs do not fit the model.
    #[error("{}: input '{input}': {what}", path.display())]
    Input {
        /// The file.
        path: PathBuf,
        /// The input's name.
        input: String,
        /// What does not fit.
        what: String,
    },
}
