//! Where in a graph the names of a file belong.

use std::collections::HashMap;

use crate::{Activation, Graph, Node, Op, ValueId};

/// A graph, by the names that files use.
pub(super) struct Sites<'g> {
    pub(super) graph: &'g Graph,
    /// For each value, the nodes that read it.
    pub(super) readers: Vec<Vec<usize>>,
    /// For each value, the node that makes it.
    pub(super) makers: Vec<Option<usize>>,
    values: HashMap<&'g str, ValueId>,
    nodes: HashMap<&'g str, usize>,
    modules: HashMap<String, usize>,
}

impl<'g> Sites<'g> {
    pub(super) fn new(graph: &'g Graph) -> Self {
        let mut makers = vec![None; graph.values.len()];
        let mut modules = HashMap::new();
        for (index, node) in graph.nodes.iter().enumerate() {
            makers[node.output] = Some(index);
            // `/layer1/layer1.0/conv1/Conv`: the module's path and the operator (torch.onnx). The last node counts.
            let path = node.name.trim_start_matches('/');
            if let Some((module, _)) = path.rsplit_once('/') {
                modules.insert(module.replace('/', "."), index);
            }
        }
        let values = graph.values.iter().enumerate();
        Self {
            readers: graph.readers(),
            makers,
            values: values
                .map(|(id, value)| (value.name.as_str(), id))
                .collect(),
            nodes: graph
                .nodes
                .iter()
                .enumerate()
                .map(|(i, n)| (n.name.as_str(), i))
                .collect(),
            modules,
            graph,
        }
    }

    pub(super) fn value(&self, name: &str) -> Option<ValueId> {
        self.values.get(name).copied()
    }

    pub(super) fn node(&self, name: &str) -> Option<usize> {
        self.nodes.get(name).copied()
    }

    /// The node of a module: by the path in its name, or by its name.
    pub(super) fn module(&self, name: &str) -> Option<usize> {
        self.modules.get(name).copied().or_else(|| self.node(name))
    }

    pub(super) fn is_constant(&self, value: ValueId) -> bool {
        self.graph.values[value].constant.is_some()
    }

    /// The activations that a node reads, in order.
    pub(super) fn activations(&self, node: usize) -> Vec<ValueId> {
        let inputs = self.graph.nodes[node].inputs.iter().copied();
        inputs.filter(|&value| !self.is_constant(value)).collect()
    }

    /// The constant weights of a node of sums of products.
    pub(super) fn weights(&self, node: usize) -> Option<ValueId> {
        let node = &self.graph.nodes[node];
        let products = matches!(
            node.op,
            Op::Conv(_) | Op::ConvTranspose(_) | Op::Gemm(_) | Op::MatMul
        );
        let value = *node.inputs.get(1).filter(|_| products)?;
        self.is_constant(value).then_some(value)
    }

    /// The axis of the output channels of a parameter; axis 1 of an activation.
    pub(super) fn channel_axis(&self, value: ValueId) -> Option<usize> {
        let rank = self.graph.values[value].shape.len();
        if !self.is_constant(value) {
            return (rank > 1).then_some(1);
        }
        if rank == 1 {
            return Some(0);
        }
        let node = &self.graph.nodes[*self.readers[value].first()?];
        match &node.op {
            Op::Conv(_) => Some(0),
            Op::ConvTranspose(_) => Some(1),
            Op::Gemm(gemm) => Some(usize::from(!gemm.trans_b)),
            Op::MatMul => rank.checked_sub(1),
            _ => None,
        }
    }

    /// Whether a tensor is read by one elementwise step alone (batch normalization, `ReLU`, clip), which compilers fuse.
    pub(super) fn fused_reader(&self, value: ValueId) -> Option<usize> {
        let [reader] = self.readers[value][..] else {
            return None;
        };
        let steps = matches!(
            self.graph.nodes[reader].op,
            Op::BatchNorm { .. } | Op::Activation(Activation::Relu | Activation::Clip { .. })
        );
        (steps && !self.graph.outputs.contains(&value)).then_some(reader)
    }

    /// Whether a node hands on what it reads, or clamps it: quantizing before and behind it is the same.
    pub(super) fn passes(node: &Node) -> bool {
        matches!(
            node.op,
            Op::Reshape
                | Op::Identity
                | Op::Transpose { .. }
                | Op::Slice { .. }
                | Op::MaxPool(_)
                | Op::Activation(Activation::Relu | Activation::Clip { .. })
        )
    }

    /// A node that quantizes an activation already.
    pub(super) fn quantized(&self) -> Option<usize> {
        self.graph.nodes.iter().position(|node| {
            matches!(
                node.op,
                Op::Quantize(_) | Op::DynamicQuantize(_) | Op::Reinterpret { .. }
            ) && node.inputs.iter().any(|&value| !self.is_constant(value))
                || self.graph.values[node.output].stored.is_some()
        })
    }
}
