//! Why nothing could be checked, and how that is said.

use align_check_graph::Error as GraphError;
use anyhow::anyhow;

use crate::report::text::visible;

/// Why nothing could be checked.
#[derive(Debug)]
pub enum Failure {
    /// A usage or input error: exit code 2.
    Usage(anyhow::Error),
    /// Something that the tool, or the target, does not support: exit code 3.
    Unsupported(String),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Usage(error)
    }
}

impl From<GraphError> for Failure {
    fn from(error: GraphError) -> Self {
        match error {
            GraphError::Unsupported { .. } => Self::Unsupported(error.to_string()),
            error => Self::Usage(anyhow!("{error}")),
        }
    }
}

/// One line on standard error, without control characters of hostile files; those that reorder or hide text are escaped.
pub(crate) fn complain(message: &str) {
    let line: String = message
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    eprintln!(
        "align-check: {}",
        visible(&line.split_whitespace().collect::<Vec<_>>().join(" "))
    );
}
