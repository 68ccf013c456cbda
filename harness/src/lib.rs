//! Reference, comparison, causes and reports.

mod cause;
pub mod check;
pub mod cli;
mod compare;
mod digest;
pub mod failure;
mod generate;
pub mod inputs;
mod noise;
pub mod outcome;
pub mod precision;
pub mod prove;
mod record;
pub mod recording;
pub mod report;
mod sample;
pub mod targets;
pub mod verify;
