//! Reports: what a check found, for people and for machines. One file a format.

pub(crate) mod answers;
mod csv;
mod html;
mod json;
mod junit;
mod markdown;
mod model_explorer;
mod onnx;
#[cfg(feature = "parquet")]
mod parquet;
mod sarif;
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
pub use model_explorer::model_explorer;
pub use onnx::onnx;
pub use sarif::sarif;
pub(crate) use terminal::notes;
pub use terminal::{terminal, verdict_lines};
pub use verify::{verify_json, verify_terminal};
pub(crate) use view::cases;
pub use write::{
    check_apart, check_json, check_model, check_one_of, check_target, check_text, keeps, path_of,
    save_text, write, write_json, write_one_of,
};
