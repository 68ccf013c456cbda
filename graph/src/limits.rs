//! How much a file may ask for.

/// Bounds on what a model file may ask for, so that a hostile one cannot exhaust the machine.
///
/// The defaults leave room for every model that fits a desktop; raise them for larger ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the model file itself (external data not counted). Default 4 GiB.
    pub file_bytes: u64,
    /// Elements of one tensor, constant or computed. Default 2^28.
    pub tensor_elements: usize,
    /// Elements of all constants together, stored ones and folded ones each. Default 2^30.
    pub constant_elements: usize,
    /// Nodes of the graph. Default 100,000.
    pub nodes: usize,
    /// Axes of one tensor. Default 16.
    pub rank: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes: 4 << 30,
            tensor_elements: 1 << 28,
            constant_elements: 1 << 30,
            nodes: 100_000,
            rank: 16,
        }
    }
}
