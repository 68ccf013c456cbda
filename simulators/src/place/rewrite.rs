//! A graph that is taken apart and put together again: nodes are removed, inserted and given other inputs.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use align_check_graph::{Affine, Graph, Node, Op, Quantizer, Value, ValueId};

use super::{Absent, Decision, Placed};

/// A graph under change.
pub(super) struct Rewriter {
    /// The model's graph, with values appended and [`Graph::nodes`] taken out.
    graph: Graph,
    /// The nodes, each with its place in the order; `None` where it was removed.
    items: Vec<Option<(usize, Node)>>,
    producer: Vec<Option<usize>>,
    readers: Vec<Vec<usize>>,
    /// Which values do not follow from constants alone.
    active: Vec<bool>,
    /// Values of the model.
    own: usize,
    found_as: Vec<Option<ValueId>>,
    absent: BTreeMap<ValueId, Absent>,
    /// What was decided.
    pub decisions: Vec<Decision>,
    /// Quantizers of the model that stand elsewhere now.
    pub moves: Vec<Move>,
    names: BTreeSet<String>,
    changed: bool,
}

/// A quantizer of the model that stands elsewhere.
pub(super) struct Move {
    /// The value that it made in the model.
    pub value: ValueId,
    /// Its node.
    pub node: String,
    /// Where it is now.
    pub items: Vec<usize>,
    /// The rule, as a path into the spec.
    pub rule: &'static str,
    /// One line.
    pub why: String,
}

/// A rewritten graph, before it is cut into layers.
pub(super) struct Rewritten {
    /// The graph, where something changed.
    pub graph: Option<Graph>,
    /// What is known of it.
    pub placed: Placed,
}

impl Rewriter {
    pub fn new(graph: &Graph) -> Self {
        let mut graph = graph.clone();
        let nodes = std::mem::take(&mut graph.nodes);
        let count = graph.values.len();
        let mut rewriter = Self {
            items: Vec::with_capacity(nodes.len()),
            producer: vec![None; count],
            readers: vec![Vec::new(); count],
            active: graph.values.iter().map(|_| false).collect(),
            own: count,
            found_as: (0..count).map(Some).collect(),
            absent: BTreeMap::new(),
            decisions: Vec::new(),
            moves: Vec::new(),
            names: graph.values.iter().map(|v| v.name.clone()).collect(),
            changed: false,
            graph,
        };
        for &input in &rewriter.graph.inputs {
            rewriter.active[input] = true;
        }
        for (index, node) in nodes.into_iter().enumerate() {
            // Room for what is inserted in front.
            rewriter.add(2 * index + 1, node);
        }
        rewriter
    }

    fn add(&mut self, place: usize, node: Node) -> usize {
        let item = self.items.len();
        self.producer[node.output] = Some(item);
        self.active[node.output] = node.inputs.iter().any(|&i| self.active[i]);
        for &input in &node.inputs {
            self.readers[input].push(item);
        }
        self.items.push(Some((place, node)));
        item
    }

    /// The items of activations' quantizers that do not vary along an axis, with the values that they make.
    pub fn quantizers(&self) -> Vec<usize> {
        (0..self.items.len())
            .filter(|&item| self.uniform(item).is_some())
            .collect()
    }

    /// A quantizer of an activation with one scale and zero point.
    pub fn uniform(&self, item: usize) -> Option<&Affine> {
        let node = self.node(item)?;
        match &node.op {
            Op::Quantize(Quantizer::Affine(affine))
                if affine.scale.values.len() == 1
                    && affine.zero_point.values.len() == 1
                    && self.active[node.inputs[0]] =>
            {
                Some(affine)
            }
            _ => None,
        }
    }

    /// A node; `None` where it was removed.
    pub fn node(&self, item: usize) -> Option<&Node> {
        self.items.get(item)?.as_ref().map(|(_, node)| node)
    }

    /// The node that makes a value.
    pub fn producer(&self, value: ValueId) -> Option<(usize, &Node)> {
        let item = self.producer[value]?;
        Some((item, self.node(item)?))
    }

    /// Who reads a value.
    pub fn readers(&self, value: ValueId) -> &[usize] {
        &self.readers[value]
    }

    /// Whether a value is known before any input is.
    pub fn is_constant(&self, value: ValueId) -> bool {
        !self.active[value]
    }

    /// Whether one node reads a value, and nobody outside.
    pub fn is_private(&self, value: ValueId) -> bool {
        self.readers[value].len() == 1 && !self.leaves(value)
    }

    /// Whether a value is an output of the model.
    pub fn leaves(&self, value: ValueId) -> bool {
        self.graph.outputs.contains(&value)
    }

    /// Whether a value is the model's.
    pub fn is_own(&self, value: ValueId) -> bool {
        value < self.own
    }

    /// Name of a value.
    pub fn name(&self, value: ValueId) -> &str {
        &self.graph.values[value].name
    }

    /// The value through nodes that only say how codes are read, against the flow.
    pub fn source(&self, mut value: ValueId) -> ValueId {
        while let Some((_, node)) = self.producer(value)
            && matches!(node.op, Op::Identity)
        {
            value = node.inputs[0];
        }
        value
    }

    /// Removes a node. What it made is no tensor of the target.
    pub fn remove(&mut self, item: usize) {
        if let Some((_, node)) = self.items[item].take() {
            for &input in &node.inputs {
                self.readers[input].retain(|&reader| reader != item);
            }
            self.producer[node.output] = None;
            self.changed = true;
        }
    }

    /// Lets a node make another value.
    pub fn make(&mut self, item: usize, value: ValueId) {
        if let Some((_, node)) = &mut self.items[item] {
            self.producer[node.output] = None;
            node.output = value;
            self.producer[value] = Some(item);
            self.active[value] = true;
            self.changed = true;
        }
    }

    /// Lets a node read another value in place of one of its inputs.
    pub fn reread(&mut self, item: usize, from: ValueId, to: ValueId) {
        if let Some((_, node)) = &mut self.items[item] {
            for input in &mut node.inputs {
                if *input == from {
                    *input = to;
                    self.readers[to].push(item);
                }
            }
            self.readers[from].retain(|&reader| reader != item);
            self.changed = true;
        }
    }

    /// Changes a quantizer's parameters.
    pub fn requantize(&mut self, item: usize, affine: Affine) {
        let Some((_, node)) = &mut self.items[item] else {
            return;
        };
        if let Some(stored) = &mut self.graph.values[node.output].stored {
            *stored = affine.clone();
        }
        node.op = Op::Quantize(Quantizer::Affine(affine));
        self.changed = true;
    }

    /// Inserts a quantizer of `input` in front of an item; `like`: the value whose storage it takes over.
    /// Returns its item and the value that it makes.
    pub fn insert(
        &mut self,
        before: usize,
        input: ValueId,
        affine: &Affine,
        like: ValueId,
    ) -> (usize, ValueId) {
        let source = &self.graph.values[input];
        let stored = self.graph.values[like].stored.is_some();
        let mut name = format!("{} (quantized)", source.name);
        let mut number = 2;
        while !self.names.insert(name.clone()) {
            name = format!("{} (quantized {number})", source.name);
            number += 1;
        }
        let value = Value {
            name: name.clone(),
            shape: source.shape.clone(),
            constant: None,
            annotation: None,
            stored: stored.then(|| affine.clone()),
            file_axes: source.file_axes.clone(),
            aliases: Vec::new(),
        };
        self.graph.values.push(value);
        self.producer.push(None);
        self.readers.push(Vec::new());
        self.active.push(true);
        let output = self.graph.values.len() - 1;
        let place = self.items[before]
            .as_ref()
            .map_or(0, |(place, _)| place & !1);
        let node = Node {
            name,
            op_type: "QuantizeLinear".to_owned(),
            op: Op::Quantize(Quantizer::Affine(affine.clone())),
            inputs: vec![input],
            output,
        };
        self.changed = true;
        (self.add(place, node), output)
    }

    /// Says that the target lacks a value of the model.
    pub fn lack(&mut self, value: ValueId, rule: &'static str, why: impl Into<String>) {
        if self.is_own(value) {
            self.found_as[value] = None;
            let why = why.into();
            self.absent.entry(value).or_insert(Absent { rule, why });
        }
    }

    /// Says that another value of the target stands for a value of the model.
    pub fn find_as(&mut self, value: ValueId, other: ValueId) {
        if self.is_own(value) {
            self.found_as[value] = Some(other);
            for output in &mut self.graph.outputs {
                if *output == value {
                    *output = other;
                }
            }
        }
    }

    /// The graph, its nodes in order again.
    pub fn finish(self) -> Rewritten {
        let mut stands_for: Vec<Option<ValueId>> = vec![None; self.graph.values.len()];
        for (model, &own) in self.found_as.iter().enumerate() {
            if let Some(own) = own
                && own == model
            {
                stands_for[own] = Some(model);
            }
        }
        let nodes = if self.changed {
            self.ordered()
        } else {
            Vec::new()
        };
        let graph = self.changed.then_some(Graph {
            nodes,
            ..self.graph
        });
        Rewritten {
            graph,
            placed: Placed {
                network: None,
                stands_for,
                found_as: self.found_as,
                absent: self.absent,
                decisions: self.decisions,
            },
        }
    }

    /// The nodes, producers before readers, otherwise in the model's order.
    fn ordered(&self) -> Vec<Node> {
        let mut missing: Vec<usize> = Vec::with_capacity(self.items.len());
        let mut ready = BinaryHeap::new();
        for (item, entry) in self.items.iter().enumerate() {
            let Some((place, node)) = entry else {
                missing.push(0);
                continue;
            };
            let made = node.inputs.iter().filter(|&&i| self.producer[i].is_some());
            missing.push(made.count());
            if missing[item] == 0 {
                ready.push(Reverse((*place, item)));
            }
        }
        let mut nodes = Vec::with_capacity(self.items.len());
        while let Some(Reverse((_, item))) = ready.pop() {
            let Some(node) = self.node(item) else {
                continue;
            };
            for &reader in &self.readers[node.output] {
                missing[reader] -= 1;
                if let (0, Some((place, _))) = (missing[reader], &self.items[reader]) {
                    ready.push(Reverse((*place, reader)));
                }
            }
            nodes.push(node.clone());
        }
        nodes
    }
}
