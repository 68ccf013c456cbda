//! The quantized-graph IR, and one importer a format.
//!
//! [`Model::read`] reads a file, [`Model::graph`] binds it to concrete input shapes, folds constants,
//! infers shapes and resolves every parameter. This crate knows nothing of targets.
#![forbid(unsafe_code)]

pub mod caffe;
pub mod encodings;
mod error;
mod fake_quantize;
mod file;
mod ir;
mod limits;
mod model;
pub mod onnx;
pub mod openvino;
pub mod tflite;

pub use error::Error;
pub use fake_quantize::FakeQuantize;
pub use file::{read as read_file, read_small as read_small_file};
pub use ir::*;
pub use limits::Limits;
pub use model::{InputInfo, Model};
