//! From entries to quantizers of a graph.

use std::collections::{HashMap, HashSet};

use super::resolve::Found;
use super::scheme::Scheme;
use super::sites::Sites;
use super::{Encodings, Format, weights};
use crate::onnx::fail::one_line;
use crate::{Error, Graph, Model, Node, Op, Quantizer, Value, ValueId};

/// What became of a file's entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The file's format.
    pub format: String,
    /// Activations that have a quantizer now.
    pub activations: usize,
    /// Activations of the graph.
    pub of_activations: usize,
    /// Weights and biases that have a quantizer now.
    pub parameters: usize,
    /// What was assumed or left out, one sentence each.
    pub notes: Vec<String>,
    /// What does not fit, one sentence each.
    pub warnings: Vec<String>,
}

impl Applied {
    /// How much of the model has quantizers, in one sentence.
    pub fn coverage(&self) -> String {
        let rest = if self.of_activations > self.activations {
            "; the rest stays float"
        } else {
            ""
        };
        format!(
            "{}: {} of {} activations have ranges{rest}; {} weights and biases are quantized",
            self.format, self.activations, self.of_activations, self.parameters
        )
    }
}

/// A quantizer for a value.
struct Placement {
    value: ValueId,
    quantizer: Quantizer,
    /// The nodes that read the quantized tensor, where not all do.
    readers: Option<Vec<usize>>,
}

impl Encodings {
    /// Puts the file's quantizers into a graph of `model`: behind the activations that it names, and on the weights.
    ///
    /// A quantized tensor has its old name as an alias; its own is `NAME_updated` (weights: `NAME_qdq`) for AIMET,
    /// whose simulation calls it so, else `NAME_quantized`.
    ///
    /// # Errors
    /// The model has quantizers of its own; no tensor of the file, or fewer than half, or not every parameter, is in
    /// it; scales do not fit a tensor. [`Error::Unsupported`] where a tensor's encoding is not evaluated.
    pub fn apply(&self, graph: Graph, model: &Model) -> Result<(Graph, Applied), Error> {
        let sites = Sites::new(&graph);
        if let Some(node) = sites.quantized() {
            return Err(self.malformed(&format!(
                "node '{}' of {} quantizes an activation already, and which quantizers win is not guessed: take the \
                 float model, or leave this file out",
                graph.nodes[node].name,
                model.path().display()
            )));
        }
        let mut applied = Applied {
            format: self.format.to_string(),
            activations: 0,
            of_activations: graph.values.iter().filter(|v| v.constant.is_none()).count(),
            parameters: 0,
            notes: self.notes.clone(),
            warnings: self.warnings.clone(),
        };
        let found = self.resolve(&sites, model, &mut applied)?;
        let mut placements: Vec<Placement> = Vec::new();
        let mut floats = 0;
        for found in self.used(&sites, &found, &mut applied) {
            match self.quantizer(&sites, found)? {
                Some(quantizer) => self.add(&sites, &mut placements, found, quantizer)?,
                None => floats += 1,
            }
        }
        if floats > 0 {
            applied.notes.push(format!(
                "{floats} tensors are floating-point numbers there: float32 is taken"
            ));
        }
        self.weigh(&sites, &mut placements, &mut applied)?;
        let distinct = |constant: bool| {
            let values = placements.iter().map(|p| p.value);
            let values: HashSet<ValueId> = values
                .filter(|&v| sites.is_constant(v) == constant)
                .collect();
            values.len()
        };
        (applied.activations, applied.parameters) = (distinct(false), distinct(true));
        let suffixes = match self.format {
            Format::Aimet(_) => ["updated", "qdq"],
            _ => ["quantized"; 2],
        };
        Ok((inserted(graph, placements, suffixes), applied))
    }

    pub(super) fn malformed(&self, what: &str) -> Error {
        Error::Malformed {
            path: self.path.clone(),
            what: one_line(what),
        }
    }

    /// The quantizer of an entry, its scales along the right axis; `None` where the tensor stays float.
    fn quantizer(&self, sites: &Sites, found: Found) -> Result<Option<Quantizer>, Error> {
        let value = &sites.graph.values[found.value];
        let affine = match &found.entry.scheme {
            Scheme::Affine(affine) => affine.clone(),
            Scheme::Gfpq { max } => return Ok(Some(Quantizer::MqBenchGfpq { max: *max })),
            Scheme::Float(_) => return Ok(None),
            Scheme::Refused(what) => {
                return Err(Error::Unsupported {
                    path: self.path.clone(),
                    node: value.name.clone(),
                    op_type: self.format.to_string(),
                    what: one_line(what),
                });
            }
        };
        let count = affine
            .scale
            .values
            .len()
            .max(affine.zero_point.values.len());
        if count == 1 {
            return Ok(Some(Quantizer::Affine(weights::along(affine, None))));
        }
        let stated = affine.scale.axis.or(affine.zero_point.axis);
        let axis = stated.or_else(|| sites.channel_axis(found.value));
        match axis.and_then(|axis| value.shape.get(axis).map(|&extent| (axis, extent))) {
            Some((axis, extent)) if extent == count => {
                Ok(Some(Quantizer::Affine(weights::along(affine, Some(axis)))))
            }
            Some((axis, extent)) => Err(self.malformed(&format!(
                "tensor '{}' has {count} scales, but an extent of {extent} along axis {axis}",
                value.name
            ))),
            None => Err(self.malformed(&format!(
                "tensor '{}' of shape {:?} has {count} scales, and no axis for them",
                value.name, value.shape
            ))),
        }
    }

    /// Adds a quantizer; the same one for several readers is one.
    fn add(
        &self,
        sites: &Sites,
        placements: &mut Vec<Placement>,
        found: Found,
        quantizer: Quantizer,
    ) -> Result<(), Error> {
        let mut others = placements.iter_mut().filter(|p| p.value == found.value);
        let known = others
            .find(|p| p.quantizer == quantizer || p.readers.is_none() || found.reader.is_none());
        match (known, found.reader) {
            (Some(known), _) if known.quantizer != quantizer => {
                return Err(self.malformed(&format!(
                    "tensor '{}' gets two different quantizers",
                    sites.graph.values[found.value].name
                )));
            }
            (Some(known), Some(reader)) => {
                if let Some(readers) = &mut known.readers {
                    readers.push(reader);
                }
            }
            (Some(known), None) => known.readers = None,
            (None, reader) => placements.push(Placement {
                value: found.value,
                quantizer,
                readers: reader.map(|reader| vec![reader]),
            }),
        }
        Ok(())
    }

    /// Quantizers of weights that no entry names, where their layer reads a quantized activation.
    fn weigh(
        &self,
        sites: &Sites,
        placements: &mut Vec<Placement>,
        applied: &mut Applied,
    ) -> Result<(), Error> {
        let Some(rule) = self.weight_rule() else {
            return Ok(());
        };
        let named: HashSet<ValueId> = placements.iter().map(|p| p.value).collect();
        let mut made = HashSet::new();
        for (index, node) in sites.graph.nodes.iter().enumerate() {
            let Some(value) = sites.weights(index) else {
                continue;
            };
            let quantized = origin(sites, &named, node.inputs[0]);
            if !quantized || named.contains(&value) || !made.insert(value) {
                continue;
            }
            let quantizer = self
                .of_weights(sites, value)
                .map_err(|what| self.malformed(&what))?;
            if let Some(quantizer) = quantizer {
                placements.push(Placement {
                    value,
                    quantizer,
                    readers: None,
                });
            }
        }
        if !made.is_empty() {
            applied.notes.push(format!(
                "the file holds no scales of weights: those of {} tensors are made of the weights, {rule}",
                made.len()
            ));
        }
        Ok(())
    }
}

/// Whether a tensor comes from a quantized one, through nodes that hand on what they read.
fn origin(sites: &Sites, quantized: &HashSet<ValueId>, mut value: ValueId) -> bool {
    loop {
        if quantized.contains(&value) {
            return true;
        }
        match sites.makers[value].map(|node| &sites.graph.nodes[node]) {
            Some(node) if Sites::passes(node) => value = node.inputs[0],
            _ => return false,
        }
    }
}

/// The graph with the quantizers: each right behind the node that makes its tensor, constants and inputs first.
fn inserted(mut graph: Graph, placements: Vec<Placement>, suffixes: [&str; 2]) -> Graph {
    let mut names: HashSet<String> = graph.values.iter().map(|v| v.name.clone()).collect();
    let mut node_names: HashSet<String> = graph.nodes.iter().map(|n| n.name.clone()).collect();
    let mut behind: HashMap<ValueId, Vec<Node>> = HashMap::new();
    for placement in placements {
        let raw = &graph.values[placement.value];
        let suffix = suffixes[usize::from(raw.constant.is_some())];
        let name = unused(&mut names, format!("{}_{suffix}", raw.name));
        let output = graph.values.len();
        let aliases = if behind.contains_key(&placement.value) {
            Vec::new()
        } else {
            vec![raw.name.clone()]
        };
        let node = Node {
            name: unused(&mut node_names, name.clone()),
            op_type: "Quantize".into(),
            op: Op::Quantize(placement.quantizer),
            inputs: vec![placement.value],
            output,
        };
        let value = Value {
            name,
            shape: raw.shape.clone(),
            constant: None,
            annotation: None,
            stored: None,
            file_axes: raw.file_axes.clone(),
            aliases,
        };
        for (index, reader) in graph.nodes.iter_mut().enumerate() {
            let own = placement
                .readers
                .as_ref()
                .is_none_or(|readers| readers.contains(&index));
            for input in &mut reader.inputs {
                if own && *input == placement.value {
                    *input = output;
                }
            }
        }
        if placement.readers.is_none() {
            for out in &mut graph.outputs {
                if *out == placement.value {
                    *out = output;
                }
            }
        }
        graph.values.push(value);
        behind.entry(placement.value).or_default().push(node);
    }
    let made: HashSet<ValueId> = graph.nodes.iter().map(|n| n.output).collect();
    let mut first: Vec<ValueId> = behind
        .keys()
        .copied()
        .filter(|v| !made.contains(v))
        .collect();
    first.sort_unstable();
    let mut nodes: Vec<Node> = first
        .into_iter()
        .flat_map(|v| behind.remove(&v).unwrap_or_default())
        .collect();
    for node in std::mem::take(&mut graph.nodes) {
        let output = node.output;
        nodes.push(node);
        nodes.extend(behind.remove(&output).unwrap_or_default());
    }
    graph.nodes = nodes;
    graph
}

/// A name that is not taken.
fn unused(names: &mut HashSet<String>, mut name: String) -> String {
    while !names.insert(name.clone()) {
        name.push('_');
    }
    name
}
