//! Reference, comparison, causes and reports.

mod cause;
pub mod check;
pub mod cli;
mod compare;
mod generate;
pub mod inputs;
mod noise;
pub mod outcome;
pub mod report;
mod sample;
pub mod targets;
