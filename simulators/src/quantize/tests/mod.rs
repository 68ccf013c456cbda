//! Tests of the quantizers against recordings of qonnx and of the vendor's library.

mod affine;
mod fake_quantize;
mod gfpq;
mod gfpq_recordings;
mod grid;
mod md5;
mod qonnx;
mod tables;
