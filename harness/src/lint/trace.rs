//! Who quantized a tensor, and who reads it: what the lints ask of a graph.

use align_check_graph::{
    Affine, Binary, Constant, Graph, Node, Op, Quantizer, ResizeAxis, ValueId,
};

use super::{Finding, Lint};

/// A graph with its producers and readers.
pub struct Trace<'g> {
    pub graph: &'g Graph,
    producers: Vec<Option<usize>>,
    readers: Vec<Vec<usize>>,
}

/// A constant operand: its contents as the file has them, and its quantizer.
pub struct Parameter<'g> {
    /// The value that holds the contents.
    pub value: ValueId,
    /// The contents.
    pub constant: &'g Constant,
    /// Its quantizer; none where it is float.
    pub quantizer: Option<&'g Affine>,
    /// Whether the file holds the codes themselves.
    pub stored: bool,
    /// Whether a quantizer of any kind stands behind it, or it is stored as codes.
    pub quantized: bool,
}

impl<'g> Trace<'g> {
    pub fn new(graph: &'g Graph) -> Self {
        let mut producers = vec![None; graph.values.len()];
        for (index, node) in graph.nodes.iter().enumerate() {
            producers[node.output] = Some(index);
        }
        Self {
            graph,
            producers,
            readers: graph.readers(),
        }
    }

    pub fn producer(&self, value: ValueId) -> Option<&'g Node> {
        self.producers[value].map(|index| &self.graph.nodes[index])
    }

    pub fn readers(&self, value: ValueId) -> impl Iterator<Item = &'g Node> + '_ {
        let graph = self.graph;
        self.readers[value]
            .iter()
            .map(move |&index| &graph.nodes[index])
    }

    pub fn is_output(&self, value: ValueId) -> bool {
        self.graph.outputs.contains(&value)
    }

    /// The quantizer whose codes a tensor holds, looking through operations that only move elements.
    pub fn quantizer(&self, value: ValueId) -> Option<&'g Quantizer> {
        let node = self.producer(value)?;
        match &node.op {
            Op::Quantize(quantizer) => Some(quantizer),
            op if moves(op) => self.quantizer(node.inputs[0]),
            Op::Concat { .. } => {
                let first = self.quantizer(node.inputs[0])?;
                let all = |&input| self.quantizer(input) == Some(first);
                node.inputs.iter().all(all).then_some(first)
            }
            _ => None,
        }
    }

    /// The same for affine quantizers, and for tensors that a file stores as integers.
    pub fn affine(&self, value: ValueId) -> Option<&'g Affine> {
        match self.quantizer(value) {
            Some(Quantizer::Affine(affine)) => Some(affine),
            Some(_) => None,
            None => self.graph.value(value).stored.as_ref(),
        }
    }

    /// Whether a tensor holds codes.
    pub fn is_quantized(&self, value: ValueId) -> bool {
        self.quantizer(value).is_some() || self.graph.value(value).stored.is_some()
    }

    /// A constant operand and its quantizer.
    pub fn parameter(&self, value: ValueId) -> Option<Parameter<'g>> {
        let own = self.graph.value(value);
        if let Some(constant) = &own.constant {
            return Some(Parameter {
                value,
                constant,
                quantizer: own.stored.as_ref(),
                stored: own.stored.is_some(),
                quantized: own.stored.is_some(),
            });
        }
        let node = self.producer(value)?;
        let inner = match &node.op {
            Op::Quantize(_) => self.parameter(node.inputs[0])?,
            op if moves(op) => self.parameter(node.inputs[0])?,
            _ => return None,
        };
        let quantizer = match &node.op {
            Op::Quantize(Quantizer::Affine(affine)) => Some(affine),
            _ => inner.quantizer,
        };
        let quantized = inner.quantized || matches!(node.op, Op::Quantize(_));
        Some(Parameter {
            quantizer,
            quantized,
            ..inner
        })
    }

    pub fn is_constant(&self, value: ValueId) -> bool {
        self.parameter(value).is_some()
    }

    /// The value behind the steps that kernels do on the fly (activations, normalization, addition of constants)
    /// as far as nobody else reads in between, and the operators passed.
    pub fn behind_steps(&self, value: ValueId) -> (ValueId, Vec<&'g Node>) {
        let (mut value, mut steps) = (value, Vec::new());
        while !self.is_output(value) {
            let [reader] = self.readers[value][..] else {
                break;
            };
            let node = &self.graph.nodes[reader];
            if !self.is_step(node) {
                break;
            }
            steps.push(node);
            value = node.output;
        }
        (value, steps)
    }

    /// Whether kernels do it on the fly.
    pub fn is_step(&self, node: &Node) -> bool {
        match &node.op {
            Op::Activation(_) | Op::BatchNorm { .. } | Op::Identity => true,
            Op::Binary(_) => node.inputs.iter().any(|&input| self.is_constant(input)),
            _ => false,
        }
    }

    /// Whether nothing but the network's outputs reads a tensor, moved at most.
    pub fn ends(&self, value: ValueId) -> bool {
        let mut readers = self.readers(value).peekable();
        if readers.peek().is_none() {
            return self.is_output(value);
        }
        readers.all(|node| moves(&node.op) && self.ends(node.output))
    }

    /// Whether a layer's result becomes codes for every reader, behind its steps.
    pub fn result_is_quantized(&self, value: ValueId) -> bool {
        let (end, _) = self.behind_steps(value);
        self.readers[end].iter().all(|&reader| {
            let node = &self.graph.nodes[reader];
            matches!(node.op, Op::Quantize(_))
                || (moves(&node.op) && self.result_is_quantized(node.output))
        }) && !self.readers[end].is_empty()
            || self.graph.value(end).stored.is_some()
    }

    /// A finding at a node.
    pub fn finding(&self, lint: Lint, node: &Node, text: String) -> Finding {
        let mut tensors = vec![node.output];
        while let Some(&last) = tensors.last() {
            let [reader] = self.readers[last][..] else {
                break;
            };
            let next = &self.graph.nodes[reader];
            let quantizes = matches!(next.op, Op::Quantize(_));
            if !(quantizes || self.is_step(next)) {
                break;
            }
            tensors.push(next.output);
            if quantizes {
                break;
            }
        }
        Finding {
            lint,
            node: node.name.clone(),
            text,
            tensors: tensors
                .into_iter()
                .rev()
                .map(|value| self.graph.value(value).name.clone())
                .collect(),
        }
    }
}

/// Operations whose outputs are elements of their input.
pub fn moves(op: &Op) -> bool {
    match op {
        Op::Identity
        | Op::Reshape
        | Op::Transpose { .. }
        | Op::Slice { .. }
        | Op::MaxPool(_)
        | Op::DepthToSpace { .. } => true,
        Op::Resize(resize) => resize
            .axes
            .iter()
            .all(|axis| !matches!(axis, ResizeAxis::Linear(_))),
        _ => false,
    }
}

/// Operations that multiply with weights.
pub fn is_weighted(op: &Op) -> bool {
    matches!(
        op,
        Op::Conv(_) | Op::ConvTranspose(_) | Op::Gemm(_) | Op::MatMul
    )
}

/// Operations with arithmetic of their own, and no weights.
pub fn is_unweighted(op: &Op) -> bool {
    matches!(
        op,
        Op::Binary(Binary::Add | Binary::AddShifted | Binary::Sub | Binary::Mul)
            | Op::AveragePool { .. }
            | Op::Mean { .. }
            | Op::Concat { .. }
    )
}

/// A scale and zero point in words.
pub fn words(affine: &Affine) -> String {
    let zero = affine.zero_point.at(0);
    match (affine.scale.values.len(), zero == 0.0) {
        (1, true) => format!("scale {:.6e}", affine.scale.at(0)),
        (1, false) => format!("scale {:.6e}, zero point {zero}", affine.scale.at(0)),
        (n, _) => format!("{n} scales"),
    }
}

/// Whether as many codes lie on both sides of zero: signed ones around 0, unsigned ones around the middle.
pub fn is_symmetric(affine: &Affine) -> bool {
    let middle = if affine.signed || affine.bits > 24 {
        0.0
    } else {
        (1u32 << (affine.bits - 1)) as f32
    };
    affine.zero_point.values.iter().all(|&z| z == middle)
}

/// Whether two quantizers put a real on the same code.
pub fn same(a: &Affine, b: &Affine) -> bool {
    a.scale == b.scale
        && a.zero_point == b.zero_point
        && (a.min_code(), a.max_code()) == (b.min_code(), b.max_code())
}
