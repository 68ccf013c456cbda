//! Reference, comparison, causes and reports.

mod baseline;
pub mod calibrate;
pub mod cases;
mod cause;
pub mod check;
pub mod cli;
mod compare;
mod digest;
pub mod encodings;
pub mod explain;
pub mod failure;
mod generate;
pub mod inputs;
pub mod lint;
mod model_args;
mod noise;
pub mod outcome;
pub mod own;
pub mod plan;
pub mod precision;
pub mod prove;
mod record;
pub mod recording;
pub mod report;
mod sample;
pub mod targets;
pub mod verify;
