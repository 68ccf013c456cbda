//! What becomes of a quantizer.

use align_check_graph::Quantizer;

/// A quantizer of the model (or of the target alone), and what the target does with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The tensor that the quantizer makes: the model's, or the target's where the model has none.
    pub tensor: String,
    /// Its node in the model; empty where the model has none.
    pub node: String,
    /// What becomes of it.
    pub status: Status,
    /// The tensors of the target that it makes there.
    pub at: Vec<String>,
    /// The quantizer as the target has it; `None` where it has none.
    pub quantizer: Option<Quantizer>,
    /// The rule, as a path into the spec.
    pub rule: &'static str,
    /// One line.
    pub why: String,
}

/// What becomes of a quantizer on a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// It is where the model has it.
    Same,
    /// It stands elsewhere.
    Moved,
    /// The target has it, the model does not.
    Extra,
    /// The model has it, the target does not.
    Missing,
    /// It became one with another.
    Merged,
    /// What it ends is computed in float.
    Float,
    /// The target computes something else than the model says there.
    Rewritten,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 7] = [
        Self::Same,
        Self::Moved,
        Self::Extra,
        Self::Missing,
        Self::Merged,
        Self::Float,
        Self::Rewritten,
    ];

    /// The words of a report.
    pub fn text(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Moved => "moved",
            Self::Extra => "extra on target",
            Self::Missing => "missing on target",
            Self::Merged => "merged",
            Self::Float => "float",
            Self::Rewritten => "rewritten",
        }
    }
}
