//! Why a network cannot be simulated.

/// Why a network cannot be simulated. The harness adds the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An operation, or a combination of operands, that has no simulation (on this target).
    #[error("node '{node}' ({op_type}): {what}")]
    Unsupported {
        /// The node's name in the file.
        node: String,
        /// The operator.
        op_type: String,
        /// What is not supported.
        what: String,
    },
}
