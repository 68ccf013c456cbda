//! What the tests of all formats share: how small files are loaded, and what hostile ones may end in.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;

use align_check_graph::{Error, Graph, Limits, Model, Node};

/// The graph of a file that must load.
#[track_caller]
pub fn loaded(result: Result<Graph, Error>) -> Graph {
    match result {
        Ok(graph) => graph,
        Err(error) => panic!("{error}"),
    }
}

/// The single node of a graph, and the shape of its output.
#[track_caller]
pub fn only(graph: &Graph) -> (Node, Vec<usize>) {
    assert_eq!(graph.nodes.len(), 1, "{:#?}", graph.nodes);
    let node = graph.nodes[0].clone();
    let shape = graph.shape(node.output).to_vec();
    (node, shape)
}

/// The message of a `Malformed`.
#[track_caller]
pub fn malformed(error: Error) -> String {
    match error {
        Error::Malformed { what, .. } => what,
        other => panic!("{other}"),
    }
}

/// Asserts that a message contains each of some words.
#[track_caller]
pub fn says(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "'{message}' lacks '{word}'");
    }
}

/// Loads whatever a file holds, within small limits; an error must be one line that names the file.
#[track_caller]
pub fn survive(file: &str, read: impl FnOnce(&Limits) -> Result<Model, Error>) {
    let limits = Limits {
        tensor_elements: 1 << 16,
        constant_elements: 1 << 18,
        ..Limits::default()
    };
    let result = read(&limits).and_then(|model| model.graph(&BTreeMap::new()));
    if let Err(error) = result {
        let message = error.to_string();
        assert!(!message.contains(['\n', '\r']), "{message:?}");
        assert!(message.contains(file), "{message:?}");
    }
}

/// Every beginning of some bytes.
pub fn truncated(bytes: &[u8], survive: impl Fn(&[u8])) {
    for length in 0..bytes.len() {
        survive(&bytes[..length]);
    }
}

/// The bytes with each one changed in four ways.
pub fn changed(bytes: &[u8], survive: impl Fn(&[u8])) {
    for at in 0..bytes.len() {
        for change in [0x01, 0x08, 0x80, 0xff] {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= change;
            survive(&bytes);
        }
    }
}
