//! Bit-exact integer arithmetic of quantized inference.
//!
//! [`Network`] cuts a graph into layers; [`plan::plan`] prepares them under a target's rules; a
//! [`run::Runner`] runs one. [`num`] is the definition of every rounding, saturation and multiplier;
//! [`quantize`] evaluates quantizers to the letter; [`rules`] binds a spec to the scales of a layer.
//! There is no I/O and no global state here, and no `unsafe` outside [`kernels`].

pub mod adapt;
mod buffers;
mod codes;
mod error;
pub mod explain;
pub mod hls4ml;
pub mod kernels;
pub mod network;
pub mod num;
pub mod nvdla;
pub mod ops;
pub mod place;
pub mod plan;
pub mod quantize;
pub mod rules;
pub mod run;
mod some;
pub mod step;
pub mod tensor;

pub use buffers::Buffers;
pub use error::Error;
pub use network::{Layer, Network};
pub use tensor::{Data, Tensor};
