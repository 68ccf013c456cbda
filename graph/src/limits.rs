//! How much a file may ask for.

/// Bounds on what a model file may ask for, so that a hostile one cannot exhaust the machine.
///
/// The defaults leave room for every model that fits a desktop; raise them for larger ones. Each message of a limit ends
/// with the argument of the command line that lifts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one file: the model itself, or its weights (external data of ONNX not counted). Default 4 GiB.
    pub file_bytes: u64,
    /// Elements of one tensor, constant or computed. Default 2^28.
    pub tensor_elements: usize,
    /// Elements of all stored constants together. Default 2^30.
    pub constant_elements: usize,
    /// Nodes of the graph. Default 100,000.
    pub nodes: usize,
    /// Axes of one tensor. Default 16.
    pub rank: usize,
    /// Messages in messages, elements in elements of text formats. Default 64.
    pub depth: usize,
    /// Bytes that what a file asks for may take in memory: see [`memory`](Self::memory). Default: none is set.
    pub memory_bytes: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes: 4 << 30,
            tensor_elements: 1 << 28,
            constant_elements: 1 << 30,
            nodes: 100_000,
            rank: 16,
            depth: 64,
            memory_bytes: None,
        }
    }
}

/// Memory that any file may ask for, where the user sets no other bound.
const LEAST_MEMORY: u64 = 512 << 20;

/// And how many times its own size.
const MEMORY_PER_BYTE: u64 = 64;

impl Limits {
    /// The argument that lifts [`file_bytes`](Self::file_bytes).
    pub const FILE: &'static str = "--max-file-size";
    /// The argument that lifts [`tensor_elements`](Self::tensor_elements).
    pub const ELEMENTS: &'static str = "--max-elements";
    /// The argument that lifts [`constant_elements`](Self::constant_elements).
    pub const CONSTANTS: &'static str = "--max-constants";
    /// The argument that lifts [`nodes`](Self::nodes).
    pub const NODES: &'static str = "--max-nodes";
    /// The argument that lifts [`rank`](Self::rank).
    pub const RANK: &'static str = "--max-rank";
    /// The argument that lifts [`depth`](Self::depth).
    pub const DEPTH: &'static str = "--max-depth";
    /// The argument that lifts [`memory_bytes`](Self::memory_bytes).
    pub const MEMORY: &'static str = "--max-memory";

    /// Bytes that what is made of a file of `bytes` bytes may take: folded constants, the tensors of a run, the arrays
    /// of an archive, each. Where the user sets no bound, it grows with the file, so that no small file asks for much:
    /// 512 MiB, or 64 times the file's size where that is more.
    pub fn memory(&self, bytes: u64) -> u64 {
        self.memory_bytes
            .unwrap_or_else(|| LEAST_MEMORY.max(bytes.saturating_mul(MEMORY_PER_BYTE)))
    }

    /// Elements that folding may make of a file of `bytes` bytes: none takes more than 8 bytes.
    pub(crate) fn folded(&self, bytes: u64) -> usize {
        usize::try_from(self.memory(bytes) / 8).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_grows_with_the_file_until_a_user_sets_it() {
        let mut limits = Limits::default();
        assert_eq!(limits.memory(1000), 512 << 20);
        assert_eq!(limits.memory(1 << 30), 64 << 30);
        assert_eq!(limits.memory(u64::MAX), u64::MAX);
        assert_eq!(limits.folded(0), 1 << 26);
        limits.memory_bytes = Some(1 << 20);
        assert_eq!(limits.memory(1 << 30), 1 << 20);
    }
}
