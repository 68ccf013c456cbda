//! Reports: what a check found, for people and for machines. One file a format.

mod csv;
mod html;
mod json;
mod junit;
mod markdown;
pub(crate) mod style;
mod terminal;
pub(crate) mod text;
mod verify;
mod view;
mod write;

pub use csv::csv;
pub use html::html;
pub use json::json;
pub use junit::junit;
pub use markdown::markdown;
pub use terminal::{terminal, verdict_lines};
pub use verify::{verify_json, verify_terminal};
pub use write::{
    check_json, check_one_of, check_target, save_text, write, write_json, write_one_of,
};
