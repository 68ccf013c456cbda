//! Which tensors of a graph a file's entries are about.

use std::collections::HashSet;

use super::sites::Sites;
use super::{Applied, Encodings, Entry, Format, Place, Placed, Role, Scheme, listed};
use crate::{Activation, Error, Model, Op, ValueId};

/// An entry and its value.
#[derive(Clone, Copy)]
pub(super) struct Found<'e> {
    pub(super) entry: &'e Entry,
    pub(super) value: ValueId,
    /// The node that reads it quantized, where the entry is about one reader.
    pub(super) reader: Option<usize>,
}

/// Names that are not in the graph.
#[derive(Default)]
struct Missing {
    /// They do not exist.
    activations: Vec<String>,
    /// They do not exist, and the file says that they are parameters.
    parameters: Vec<String>,
    /// The model has them, but the graph took them into an operator.
    resolved: Vec<String>,
    /// `TensorRT`'s own constants.
    unnamed: usize,
}

impl Encodings {
    /// Finds the value of each entry.
    ///
    /// # Errors
    /// None or too few of them exist, or a parameter does not.
    pub(super) fn resolve<'e>(
        &'e self,
        sites: &Sites,
        model: &Model,
        applied: &mut Applied,
    ) -> Result<Vec<Found<'e>>, Error> {
        let names: HashSet<&str> = model.tensor_names().into_iter().collect();
        let mut found: Vec<Found> = Vec::new();
        let mut missing = Missing::default();
        let mut partial: Vec<&Entry> = Vec::new();
        for entry in &self.entries {
            let (value, reader) = match &entry.place {
                Place::Tensor(name) => (sites.value(name), None),
                Place::Input { node, index, of } => {
                    let at = sites.node(node);
                    let inputs = at.map_or(Vec::new(), |at| sites.activations(at));
                    if at.is_some() && inputs.len() != *of {
                        partial.push(entry);
                        continue;
                    }
                    // MQBench's clip values are those of the tensors, whoever reads them.
                    let reader = at.filter(|_| !matches!(self.format, Format::MqBench(_)));
                    (inputs.get(*index).copied(), reader)
                }
                Place::Weights(node) => (sites.node(node).and_then(|at| sites.weights(at)), None),
                Place::Module(name) => {
                    let node = sites.module(name);
                    (node.map(|node| sites.graph.nodes[node].output), None)
                }
                Place::ModuleInput(name, index) => {
                    // What modules hand to each other has the range of the module that makes it.
                    let inputs = sites
                        .module(name)
                        .map_or(Vec::new(), |at| sites.activations(at));
                    let value = inputs
                        .get(*index)
                        .filter(|v| sites.graph.inputs.contains(v));
                    if let Some(&value) = value.filter(|v| found.iter().all(|f| f.value != **v)) {
                        let reader = None;
                        found.push(Found {
                            entry,
                            value,
                            reader,
                        });
                    }
                    continue;
                }
            };
            let name = entry.place.name();
            match value {
                Some(value) => found.push(Found {
                    entry,
                    value,
                    reader,
                }),
                None if matches!(entry.place, Place::Tensor(_))
                    && names.contains(name.as_str()) =>
                {
                    missing.resolved.push(name.clone());
                }
                None if name.starts_with("(Unnamed Layer") => missing.unnamed += 1,
                None if entry.role == Role::Parameter => missing.parameters.push(name.clone()),
                None => missing.activations.push(name.clone()),
            }
        }
        for entry in partial {
            found.extend(self.among(sites, entry, &found)?);
        }
        self.judge(found.len(), &missing, model, applied)?;
        Ok(found)
    }

    /// The value of an entry of a node that lists fewer inputs than it reads: the one whose other readers have the same
    /// encoding; nothing new is found then.
    fn among<'e>(
        &self,
        sites: &Sites,
        entry: &'e Entry,
        found: &[Found<'e>],
    ) -> Result<Option<Found<'e>>, Error> {
        let Place::Input { node, of, .. } = &entry.place else {
            return Ok(None);
        };
        let at = sites.node(node);
        let inputs = at.map_or(Vec::new(), |at| sites.activations(at));
        let known = |value: &ValueId| {
            found
                .iter()
                .any(|f| f.value == *value && f.entry.scheme == entry.scheme)
        };
        if inputs.iter().any(known) {
            return Ok(None);
        }
        Err(self.malformed(&format!(
            "node '{node}' has {of} inputs in it and reads {} activations of the model: which ones cannot be told",
            inputs.len()
        )))
    }

    /// Whether the file can be one for this model.
    fn judge(
        &self,
        found: usize,
        missing: &Missing,
        model: &Model,
        applied: &mut Applied,
    ) -> Result<(), Error> {
        let shown = model.path().display();
        let (lost, parameters) = (&missing.activations, &missing.parameters);
        let all = found + lost.len() + parameters.len() + missing.resolved.len();
        let absent = lost.len() + parameters.len();
        if found == 0 {
            return Err(self.malformed(&format!(
                "none of its {all} tensors is in {shown}: {}",
                listed(parameters.iter().chain(lost).chain(&missing.resolved))
            )));
        }
        if !parameters.is_empty() {
            return Err(self.malformed(&format!(
                "{} of its parameters are not in {shown}, so it belongs to another model: {}",
                parameters.len(),
                listed(parameters)
            )));
        }
        if 2 * absent > all {
            return Err(self.malformed(&format!(
                "{absent} of its {all} tensors are not in {shown}, so it belongs to another model: {}",
                listed(lost)
            )));
        }
        if !lost.is_empty() {
            applied.warnings.push(format!(
                "{} of {all} tensors are not in {shown}: {}",
                lost.len(),
                listed(lost)
            ));
        }
        if !missing.resolved.is_empty() {
            applied.notes.push(format!(
                "{} entries are of constants that are parameters of operators (bounds of Clip and the like), which stay \
                 as they are: {}",
                missing.resolved.len(),
                listed(&missing.resolved)
            ));
        }
        if missing.unnamed > 0 {
            applied.notes.push(format!(
                "{} entries are of constants that TensorRT made (\"(Unnamed Layer* ...\")",
                missing.unnamed
            ));
        }
        Ok(())
    }

    /// Leaves out entries whose tensor gets no quantizer of its own.
    pub(super) fn used<'e>(
        &self,
        sites: &Sites,
        found: &[Found<'e>],
        applied: &mut Applied,
    ) -> Vec<Found<'e>> {
        let scheme = |value: ValueId| {
            found
                .iter()
                .find(|f| f.value == value)
                .map(|f| &f.entry.scheme)
        };
        let name = |f: &Found| sites.graph.values[f.value].name.clone();
        let op = |f: &Found| sites.makers[f.value].map(|node| &sites.graph.nodes[node].op);
        let fuses = matches!(
            self.format,
            Format::TensorRtCache | Format::TensorRtRanges | Format::Distiller
        );
        let implicit = matches!(self.format, Format::TensorRtCache | Format::TensorRtRanges);
        let (mut inner, mut outputs, mut repeated, mut biases) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut kept = Vec::new();
        for f in found {
            let fused = sites
                .fused_reader(f.value)
                .filter(|&reader| scheme(sites.graph.nodes[reader].output).is_some());
            if fuses && fused.is_some() {
                inner.push(name(f));
            } else if implicit && sites.graph.outputs.contains(&f.value) {
                outputs.push(name(f));
            } else if self.format == Format::Distiller
                && op(f).is_some_and(|op| !distiller_quantizes(op))
            {
                // Distiller hands codes on there.
            } else if f.entry.placed == Placed::Maybe && is_wide_bias(sites, f) {
                biases.push(name(f));
            } else if f.entry.placed == Placed::Maybe && repeats(sites, f, &scheme) {
                repeated.push(name(f));
            } else {
                kept.push(*f);
            }
        }
        let mut note = |names: &[String], what: &str| {
            if !names.is_empty() {
                applied
                    .notes
                    .push(format!("{} {what}: {}", names.len(), listed(names)));
            }
        };
        note(
            &inner,
            "ranges lie inside fused groups (a convolution before its ReLU) and are not used",
        );
        note(
            &outputs,
            "ranges are of network outputs, which TensorRT does not quantize",
        );
        note(
            &biases,
            "int32 biases stay real numbers, as in AIMET's simulation",
        );
        note(
            &repeated,
            "entries repeat the neighbour's across a clamp or a move of data, where the tool has no quantizer",
        );
        kept
    }
}

/// Distiller's quantized layers (IntelLabs/distiller `range_linear.py`, `PostTrainLinearQuantizer`), and the
/// activations that are fused into them.
fn distiller_quantizes(op: &Op) -> bool {
    matches!(
        op,
        Op::Conv(_)
            | Op::ConvTranspose(_)
            | Op::Gemm(_)
            | Op::MatMul
            | Op::Binary(_)
            | Op::Concat { .. }
            | Op::BatchNorm { .. }
            | Op::Activation(Activation::Relu | Activation::Clip { .. })
    )
}

fn is_wide_bias(sites: &Sites, f: &Found) -> bool {
    let wide = matches!(&f.entry.scheme, Scheme::Affine(affine) if affine.bits == 32);
    wide && sites.is_constant(f.value)
}

/// Whether the tensor has its neighbour's encoding where that changes nothing: before a clamp, or behind a move of
/// data.
fn repeats<'e>(sites: &Sites, f: &Found, scheme: &dyn Fn(ValueId) -> Option<&'e Scheme>) -> bool {
    let own = Some(&f.entry.scheme);
    let clamped = sites
        .fused_reader(f.value)
        .filter(|&reader| !matches!(sites.graph.nodes[reader].op, Op::BatchNorm { .. }))
        .map(|reader| sites.graph.nodes[reader].output);
    let moved = sites.makers[f.value]
        .map(|node| &sites.graph.nodes[node])
        .filter(|node| !matches!(node.op, Op::Activation(_)) && Sites::passes(node))
        .map(|node| node.inputs[0]);
    [clamped, moved]
        .into_iter()
        .flatten()
        .any(|other| scheme(other) == own)
}
