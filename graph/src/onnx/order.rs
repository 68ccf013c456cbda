//! The order of the nodes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{FileNode, Slot};

/// Sorts so that producers come first, and otherwise keeps the file's order. Where there is a cycle, the
/// first node that waits for it comes back.
pub(crate) fn sort(nodes: Vec<FileNode>, slots: usize) -> Result<Vec<FileNode>, Box<FileNode>> {
    let mut producer = vec![None; slots];
    for (index, node) in nodes.iter().enumerate() {
        for &slot in node.outputs.iter().flatten() {
            producer[slot] = Some(index);
        }
    }
    let mut waiting = vec![0usize; nodes.len()];
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (index, node) in nodes.iter().enumerate() {
        for from in node
            .inputs
            .iter()
            .flatten()
            .filter_map(|&slot| producer[slot])
        {
            waiting[index] += 1;
            readers[from].push(index);
        }
    }
    let mut ready: BinaryHeap<_> = (0..nodes.len())
        .filter(|&i| waiting[i] == 0)
        .map(Reverse)
        .collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(Reverse(index)) = ready.pop() {
        order.push(index);
        for &reader in &readers[index] {
            waiting[reader] -= 1;
            if waiting[reader] == 0 {
                ready.push(Reverse(reader));
            }
        }
    }
    let mut nodes: Vec<Option<FileNode>> = nodes.into_iter().map(Some).collect();
    if let Some(stuck) = waiting
        .iter()
        .position(|&w| w > 0)
        .and_then(|at| nodes[at].take())
    {
        return Err(Box::new(stuck));
    }
    Ok(order
        .into_iter()
        .filter_map(|index| nodes[index].take())
        .collect())
}

/// Drops nodes that no output depends on.
pub(crate) fn keep_live(nodes: &mut Vec<FileNode>, outputs: &[Slot], slots: usize) {
    let mut needed = vec![false; slots];
    for &slot in outputs {
        needed[slot] = true;
    }
    let mut live = vec![false; nodes.len()];
    for (index, node) in nodes.iter().enumerate().rev() {
        if node.outputs.iter().flatten().any(|&slot| needed[slot]) {
            live[index] = true;
            for &slot in node.inputs.iter().flatten() {
                needed[slot] = true;
            }
        }
    }
    let mut keep = live.into_iter();
    nodes.retain(|_| keep.next().unwrap_or(false));
}
