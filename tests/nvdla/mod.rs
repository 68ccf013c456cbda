//! NVIDIA's test plan for NVDLA: reading its register programs and memory images, and running them.

pub mod engine;
pub mod trace;
