//! From bytes to a checked, sorted list of nodes.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use prost::Message;
use prost::bytes::Bytes;

use super::attr::Attrs;
use super::external::ExternalFiles;
use super::fail::{Fail, Outcome, malformed, one_line, shown};
use super::grid::{Integer, Readers};
use super::ops::mqbench;
use super::proto::tensor_proto::DataType;
use super::proto::{ModelProto, NodeProto, TensorAnnotation, TensorProto, ValueInfoProto};
use super::tensor::{self, Tensor};
use super::{Domain, FileInput, FileNode, Model, Slot, Stored};
use super::{order, scan};
use crate::{Error, IntegerRange, Limits};

/// The newest opset whose operators were compared with what is implemented here (onnx 1.23.2).
const NEWEST_OPSET: i64 = 26;

/// Messages and names that a file may hold for each node that [`Limits::nodes`] allows,
/// and besides; real files stay far below.
const MESSAGES_PER_NODE: usize = 40;
const MESSAGES: usize = 100_000;

/// Domain names of the QONNX quantizers. `onnx.brevitas` is an alias (qonnx 1.0.0
/// `custom_op/registry.py`); the `finn` names are rewritten on load (`core/modelwrapper.py`).
const QUANTIZER_DOMAINS: [&str; 4] = [
    "qonnx.custom_op.general",
    "onnx.brevitas",
    "finn.custom_op.general",
    "finn",
];
const CHANNELS_LAST: &str = "qonnx.custom_op.channels_last";
const MICROSOFT: &str = "com.microsoft";
const OPENVINO: &str = "org.openvinotoolkit";
const MQBENCH: &str = "mqbench_custom";
pub(super) const QUANTIZERS: [&str; 6] = [
    "Quant",
    "IntQuant",
    "BipolarQuant",
    "Trunc",
    "FloatQuant",
    "MultiThreshold",
];

pub(super) fn read(path: &Path, bytes: Vec<u8>, limits: &Limits) -> Result<Model, Error> {
    let most = limits
        .nodes
        .saturating_mul(MESSAGES_PER_NODE)
        .saturating_add(MESSAGES);
    scan::check(&bytes, most).map_err(|fail| fail.in_file(path, "it cannot be read"))?;
    let bad = |what: String| Error::Malformed {
        path: path.to_owned(),
        what,
    };
    let size = bytes.len();
    let proto = ModelProto::decode(Bytes::from(bytes)).map_err(|e| {
        bad(format!(
            "not an ONNX file, or a damaged one: {}",
            one_line(&e.to_string())
        ))
    })?;
    Parser::new(path, size, limits).model(proto)
}

struct Parser<'a> {
    path: &'a Path,
    limits: &'a Limits,
    external: ExternalFiles,
    slots: HashMap<String, Slot>,
    names: Vec<String>,
    constants: HashMap<Slot, Stored>,
    constant_elements: usize,
    opsets: HashMap<String, i64>,
    assumed: BTreeSet<String>,
    notes: Vec<String>,
}

impl<'a> Parser<'a> {
    fn new(path: &'a Path, bytes: usize, limits: &'a Limits) -> Self {
        Self {
            path,
            limits,
            external: ExternalFiles::new(path, bytes),
            slots: HashMap::new(),
            names: Vec::new(),
            constants: HashMap::new(),
            constant_elements: 0,
            opsets: HashMap::new(),
            assumed: BTreeSet::new(),
            notes: Vec::new(),
        }
    }

    fn bad<T>(&self, what: impl Into<String>) -> Result<T, Error> {
        Err(Error::Malformed {
            path: self.path.to_owned(),
            what: what.into(),
        })
    }

    fn slot(&mut self, name: &str) -> Slot {
        if let Some(&slot) = self.slots.get(name) {
            return slot;
        }
        let slot = self.names.len();
        self.names.push(name.to_owned());
        self.slots.insert(name.to_owned(), slot);
        slot
    }

    fn model(mut self, proto: ModelProto) -> Result<Model, Error> {
        let Some(graph) = proto.graph else {
            return self.bad("no graph in it: not an ONNX model");
        };
        if graph.node.len() > self.limits.nodes {
            return self.bad(format!(
                "the graph has {} nodes, more than the limit of {} ({})",
                graph.node.len(),
                self.limits.nodes,
                Limits::NODES
            ));
        }
        if !graph.sparse_initializer.is_empty() {
            return self.bad("sparse initializers are not read: store them densely");
        }
        for import in proto.opset_import {
            let domain = plain_domain(import.domain.as_deref().unwrap_or("")).to_owned();
            self.opsets.insert(domain, import.version.unwrap_or(0));
        }
        if let Some(&opset) = self.opsets.get("")
            && opset > NEWEST_OPSET
        {
            self.notes.push(format!(
                "opset {opset} is newer than {NEWEST_OPSET}, the newest that align-check knows: read as if nothing had changed"
            ));
        }
        if !proto.functions.is_empty() {
            self.notes.push(format!(
                "the file defines {} local functions, which are not read: inline them if a node is unsupported",
                proto.functions.len()
            ));
        }
        for initializer in &graph.initializer {
            self.initializer(initializer)?;
        }
        let mut inputs = self.inputs(&graph.input)?;
        let mut produced: Vec<bool> = vec![false; self.names.len()];
        for slot in inputs
            .iter()
            .map(|i| i.slot)
            .chain(self.constants.keys().copied())
        {
            produced[slot] = true;
        }
        let mut nodes = self.nodes(graph.node, &mut produced)?;
        let outputs = self.outputs(&graph.output, &produced)?;
        self.check_inputs(&nodes, &produced)?;
        nodes = order::sort(nodes, self.names.len()).map_err(|stuck| self.cycle(&stuck))?;
        order::keep_live(&mut nodes, &outputs, self.names.len());
        let annotations = self.annotations(&graph.quantization_annotation);
        self.note_operators(&nodes);
        let readers = Readers::new(&nodes, &self.constants);
        for input in &mut inputs {
            let rank = input.dims.as_ref().map(Vec::len);
            if let Some(integer) = input.integer {
                input.stored = readers.grid(input.slot, integer, rank);
            }
        }
        Ok(Model {
            path: self.path.to_owned(),
            bytes: self.external.bytes,
            beside: self.external.files,
            limits: self.limits.clone(),
            format: format(&nodes),
            notes: self.notes,
            graph_name: graph.name.unwrap_or_default(),
            names: self.names,
            inputs,
            outputs,
            constants: self.constants,
            annotations,
            aliases: HashMap::new(),
            stated: HashMap::new(),
            nodes,
        })
    }

    fn initializer(&mut self, proto: &TensorProto) -> Result<(), Error> {
        let name = proto.name.as_deref().unwrap_or("");
        let subject = || format!("initializer '{}'", shown(name));
        if name.is_empty() {
            return self.bad("an initializer has no name");
        }
        let slot = self.slot(name);
        if self.constants.contains_key(&slot) {
            return self.bad(format!("two initializers are named '{}'", shown(name)));
        }
        let stored = self
            .store(proto)
            .map_err(|fail| fail.in_file(self.path, &subject()))?;
        self.constants.insert(slot, stored);
        Ok(())
    }

    /// Converts a tensor, within the limit on all of them together.
    fn store(&mut self, proto: &TensorProto) -> Outcome<Stored> {
        let count = tensor::count(proto, self.limits)?;
        self.constant_elements = self.constant_elements.saturating_add(count);
        if self.constant_elements > self.limits.constant_elements {
            return malformed(format!(
                "the constants have more than {} elements together, the limit ({})",
                self.limits.constant_elements,
                Limits::CONSTANTS
            ));
        }
        match tensor::decode(proto, self.limits, Some(&mut self.external)) {
            Ok(tensor) => Ok(Stored::Known(tensor)),
            Err(Fail::Unsupported(what)) => Ok(Stored::Unreadable(what)),
            Err(fail) => Err(fail),
        }
    }

    /// The graph's inputs, without the initializers that files of IR version 3 list among them.
    fn inputs(&mut self, infos: &[ValueInfoProto]) -> Result<Vec<FileInput>, Error> {
        let mut seen = vec![];
        let mut inputs = Vec::new();
        for info in infos {
            let name = info.name.as_deref().unwrap_or("");
            if name.is_empty() {
                return self.bad("a graph input has no name");
            }
            let slot = self.slot(name);
            seen.resize(self.names.len().max(seen.len()), false);
            if std::mem::replace(&mut seen[slot], true) {
                return self.bad(format!("two graph inputs are named '{}'", shown(name)));
            }
            if self.constants.contains_key(&slot) {
                continue;
            }
            let tensor = info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
            let Some(tensor) = tensor else {
                return self.bad(format!("graph input '{}' is not a tensor", shown(name)));
            };
            let kind = DataType::try_from(tensor.elem_type.unwrap_or(0)).unwrap_or_default();
            if matches!(
                kind,
                DataType::Double | DataType::Float16 | DataType::Bfloat16
            ) {
                self.notes.push(format!(
                    "input '{}' holds {}: align-check evaluates it as FLOAT",
                    shown(name),
                    kind.as_str_name()
                ));
            }
            let dims = match &tensor.shape {
                None => None,
                Some(shape) if shape.dim.len() > self.limits.rank => {
                    return self.bad(format!(
                        "graph input '{}' has {} axes, more than the limit of {} ({})",
                        shown(name),
                        shape.dim.len(),
                        self.limits.rank,
                        Limits::RANK
                    ));
                }
                Some(shape) => Some(shape.dim.iter().map(extent).collect()),
            };
            inputs.push(FileInput {
                slot,
                dims,
                integer: Integer::of(kind),
                stored: None,
            });
        }
        Ok(inputs)
    }

    fn nodes(
        &mut self,
        protos: Vec<NodeProto>,
        produced: &mut Vec<bool>,
    ) -> Result<Vec<FileNode>, Error> {
        let mut times_used: HashMap<String, usize> = HashMap::new();
        for proto in &protos {
            *times_used
                .entry(proto.name.clone().unwrap_or_default())
                .or_default() += 1;
        }
        // A made-up name must not meet a name of the file.
        let mut number = protos.len();
        let mut nodes = Vec::with_capacity(protos.len());
        for (index, proto) in protos.into_iter().enumerate() {
            let op_type = proto.op_type.unwrap_or_default();
            let given = proto.name.unwrap_or_default();
            let name = if !given.is_empty() && times_used.get(&given) == Some(&1) {
                given
            } else {
                let mut made = format!("{op_type}_{index}");
                while times_used.contains_key(&made) {
                    made = format!("{op_type}_{number}");
                    number += 1;
                }
                times_used.insert(made.clone(), 1);
                made
            };
            let raw_domain = plain_domain(proto.domain.as_deref().unwrap_or(""));
            let label = if raw_domain.is_empty() {
                op_type.clone()
            } else {
                format!("{raw_domain}::{op_type}")
            };
            let attrs = Attrs(&proto.attribute);
            let mut domain = match raw_domain {
                "" if mqbench::NAMES.contains(&&*op_type) => Domain::Mqbench,
                "" => Domain::Onnx,
                CHANNELS_LAST => Domain::ChannelsLast,
                MICROSOFT => Domain::Microsoft,
                OPENVINO => Domain::OpenVino,
                MQBENCH => Domain::Mqbench,
                d if QUANTIZER_DOMAINS.contains(&d) => Domain::Quantizers,
                _ => Domain::Other,
            };
            // `finn` with this backend means a hardware layer (qonnx `core/modelwrapper.py`).
            if raw_domain == "finn" && matches!(attrs.string("backend"), Ok(Some("fpgadataflow"))) {
                domain = Domain::Other;
            }
            let version = self.version(raw_domain)?;
            let outputs: Vec<_> = proto.output.iter().map(|o| self.named(o)).collect();
            let inputs: Vec<_> = proto.input.iter().map(|i| self.named(i)).collect();
            produced.resize(self.names.len(), false);
            for &slot in outputs.iter().flatten() {
                if std::mem::replace(&mut produced[slot], true) {
                    return self.bad(format!(
                        "node '{}' ({}): tensor '{}' is already defined elsewhere; names must be unique",
                        shown(&name),
                        shown(&label),
                        shown(&self.names[slot])
                    ));
                }
            }
            if domain == Domain::Onnx
                && op_type == "Constant"
                && let Some(&Some(slot)) = outputs.first()
            {
                let at = |fail: Fail| fail.at_node(self.path, &name, &label);
                if let Some(literal) = constant_literal(attrs).map_err(at)? {
                    self.constants.insert(slot, Stored::Known(literal));
                    continue;
                }
                if let Some(tensor) = attrs.tensor("value").map_err(at)? {
                    let stored = self
                        .store(tensor)
                        .map_err(|fail| fail.at_node(self.path, &name, &label))?;
                    self.constants.insert(slot, stored);
                    continue;
                }
            }
            nodes.push(FileNode {
                name,
                op_type,
                label,
                domain,
                version,
                inputs,
                outputs,
                attributes: proto.attribute,
                spelling: None,
            });
        }
        Ok(nodes)
    }

    /// An empty name stands for an optional input or output that is left out.
    fn named(&mut self, name: &str) -> Option<Slot> {
        if name.is_empty() {
            None
        } else {
            Some(self.slot(name))
        }
    }

    /// Version of a domain; files often leave the custom ones out of `opset_import`.
    fn version(&mut self, domain: &str) -> Result<i64, Error> {
        if let Some(&version) = self.opsets.get(domain) {
            return Ok(version);
        }
        if domain.is_empty() {
            return self
                .bad("opset_import names no version of ai.onnx: truncated, or not a valid model");
        }
        if self.assumed.insert(domain.to_owned()) {
            self.notes.push(format!(
                "opset_import lacks domain {}: version 1 assumed",
                shown(domain)
            ));
        }
        Ok(1)
    }

    fn outputs(&mut self, infos: &[ValueInfoProto], produced: &[bool]) -> Result<Vec<Slot>, Error> {
        let mut outputs = Vec::with_capacity(infos.len());
        for info in infos {
            let name = info.name.as_deref().unwrap_or("");
            match self.slots.get(name) {
                Some(&slot) if produced.get(slot) == Some(&true) => outputs.push(slot),
                _ => {
                    return self.bad(format!(
                        "graph output '{}' is produced by no node",
                        shown(name)
                    ));
                }
            }
        }
        if outputs.is_empty() {
            return self.bad("the graph has no output: truncated, or not a valid model");
        }
        Ok(outputs)
    }

    fn check_inputs(&self, nodes: &[FileNode], produced: &[bool]) -> Result<(), Error> {
        for node in nodes {
            for &slot in node.inputs.iter().flatten() {
                if produced.get(slot) != Some(&true) {
                    return self.bad(format!(
                        "node '{}' ({}): its input '{}' is no graph input, no initializer and no node's output",
                        shown(&node.name),
                        shown(&node.label),
                        shown(&self.names[slot])
                    ));
                }
            }
        }
        Ok(())
    }

    fn cycle(&self, stuck: &FileNode) -> Error {
        let fail = Fail::Malformed("the graph has a cycle at or before this node".to_owned());
        fail.at_node(self.path, &stuck.name, &stuck.label)
    }

    fn annotations(&self, protos: &[TensorAnnotation]) -> HashMap<Slot, IntegerRange> {
        let range = |annotation: &TensorAnnotation| {
            let &slot = self.slots.get(annotation.tensor_name.as_deref()?)?;
            let entries = &annotation.quant_parameter_tensor_names;
            let entry = entries
                .iter()
                .find(|e| e.key.as_deref() == Some("finn_datatype"))?;
            Some((slot, integer_range(entry.value.as_deref()?)?))
        };
        protos.iter().filter_map(range).collect()
    }

    /// Says once what operators mean where their names mislead, or where something is passed over.
    fn note_operators(&mut self, nodes: &[FileNode]) {
        let half_up = nodes.iter().any(|n| {
            n.domain == Domain::Quantizers
                && Attrs(&n.attributes)
                    .string("rounding_mode")
                    .is_ok_and(|mode| mode.is_some_and(|m| m.eq_ignore_ascii_case("HALF_UP")))
        });
        if half_up {
            self.notes
                .push("QONNX HALF_UP means half away from zero".to_owned());
        }
        let activation = |n: &FileNode| {
            let first = n.inputs.first().copied().flatten();
            n.domain == Domain::Mqbench
                && n.op_type == "FakeQuantizeTqtAffine"
                && first.is_some_and(|slot| !self.constants.contains_key(&slot))
        };
        let untold = nodes.iter().filter(|n| activation(n)).count();
        if untold > 0 {
            self.notes.push(format!(
                "FakeQuantizeTqtAffine does not say which rounding it means: half up below zero and half to even above \
                 for {untold} activations, half to even for parameters (MQBench's Vitis backend)"
            ));
        }
        let halves = [DataType::Float16 as i64, DataType::Bfloat16 as i64];
        let casts = nodes.iter().filter(|n| {
            n.domain == Domain::Onnx
                && n.op_type == "Cast"
                && Attrs(&n.attributes)
                    .int("to")
                    .is_ok_and(|to| to.is_some_and(|t| halves.contains(&t)))
        });
        let casts = casts.count();
        if casts > 0 {
            self.notes.push(format!(
                "{casts} Cast to half precision: data passes through them without being rounded"
            ));
        }
    }
}

/// The format, by the operators that set it apart.
fn format(nodes: &[FileNode]) -> &'static str {
    let has = |test: fn(&FileNode) -> bool| nodes.iter().any(test);
    if has(|n| n.domain == Domain::Quantizers && QUANTIZERS.contains(&&*n.op_type)) {
        return "qonnx";
    }
    let integer = |n: &FileNode| {
        matches!(n.domain, Domain::Onnx | Domain::Microsoft)
            && (n.op_type.starts_with("QLinear")
                || matches!(&*n.op_type, "QGemm" | "ConvInteger" | "MatMulInteger"))
    };
    if has(integer) {
        "qoperator"
    } else if has(|n| {
        matches!(n.domain, Domain::Onnx | Domain::Microsoft)
            && matches!(&*n.op_type, "QuantizeLinear" | "DequantizeLinear")
    }) {
        "qdq"
    } else if has(|n| matches!(n.domain, Domain::OpenVino | Domain::Mqbench)) {
        "fake-quant onnx"
    } else {
        "onnx"
    }
}

fn plain_domain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

/// Zero and negative extents stand for unknown ones in files of some exporters.
fn extent(dim: &super::proto::tensor_shape_proto::Dimension) -> Option<usize> {
    use super::proto::tensor_shape_proto::dimension::Value;
    match dim.value {
        Some(Value::DimValue(value)) if value > 0 => usize::try_from(value).ok(),
        _ => None,
    }
}

/// The attributes of `Constant` that hold plain numbers.
fn constant_literal(attrs: Attrs) -> Outcome<Option<Tensor>> {
    Ok(if attrs.has("value_float") {
        Some(Tensor::scalar_f32(attrs.float_or("value_float", 0.0)?))
    } else if let Some(x) = attrs.int("value_int")? {
        Some(Tensor::scalar_i64(x))
    } else if let Some(x) = attrs.floats("value_floats")? {
        Some(Tensor::list_f32(x.to_vec()))
    } else {
        attrs
            .ints("value_ints")?
            .map(|x| Tensor::list_i64(x.to_vec()))
    })
}

/// Range of a `finn_datatype` (qonnx 1.0.0 `core/datatype.py`); none for types that are no integers
/// or do not fit `i64`.
fn integer_range(name: &str) -> Option<IntegerRange> {
    let range = |min, max| Some(IntegerRange { min, max });
    match name {
        "BINARY" => range(0, 1),
        "BIPOLAR" | "TERNARY" => range(-1, 1),
        _ => {
            if let Some(bits) = name.strip_prefix("UINT") {
                let bits: u32 = bits.parse().ok().filter(|b| (1..=63).contains(b))?;
                range(0, ((1u64 << bits) - 1) as i64)
            } else {
                let bits: u32 = name
                    .strip_prefix("INT")?
                    .parse()
                    .ok()
                    .filter(|b| (1..=64).contains(b))?;
                let max = ((1u64 << (bits - 1)) - 1) as i64;
                range(-max - 1, max)
            }
        }
    }
}
