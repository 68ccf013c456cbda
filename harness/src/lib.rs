//! Reference, comparison, causes and reports.

pub mod calibrate;
mod cause;
pub mod check;
pub mod cli;
mod compare;
mod digest;
pub mod encodings;
pub mod failure;
pub mod generate;
pub mod infer;
pub mod inputs;
pub mod lint;
mod noise;
pub mod outcome;
pub mod own;
pub mod plan;
pub mod precision;
pub mod prove;
pub(crate) mod record;
pub mod recording;
pub mod report;
mod sample;
pub mod targets;
pub mod verify;
