//! Targets as data: one TOML a target, every rule with its evidence.
//!
//! [`Spec::resolve`] finds a target by name, alias or path; [`names`] lists the embedded ones. A file
//! that contradicts itself, asks for what no rule expresses, or leaves a rule without evidence is an
//! [`Error`] of one line that names the file, the line and the field.
//!
//! ```
//! use align_check_specs::{Grade, Spec};
//!
//! let spec = Spec::resolve("tflite")?;
//! assert_eq!(spec.name, "tflite-reference");
//! assert_eq!(spec.evidence_for("requantize.steps").grade, Grade::Recorded);
//! # Ok::<(), align_check_specs::Error>(())
//! ```
#![forbid(unsafe_code)]

mod base;
mod bugs;
mod coverage;
mod error;
mod load;
mod message;
mod neighbours;
mod page;
mod placement;
mod registry;
mod rules;
mod shift;
mod text;
mod tree;
mod validate;
mod view;

pub use error::Error;
pub use load::MAX_FILE_BYTES;
pub use neighbours::Neighbour;
pub use page::{PAGE_BEGIN, PAGE_END, replace_between, replace_table, rules_table};
pub use placement::*;
pub use registry::{embedded_toml, names};
pub use rules::*;
pub use view::RuleView;
