//! Why nothing could be checked.

use align_check_graph::Error as GraphError;
use anyhow::anyhow;

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
