//! Layers and edges to a checked, sorted list of nodes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use super::xml::{self, Edge, Layer, Net};
use crate::onnx::external::ExternalFiles;
use crate::onnx::fail::{Fail, Outcome, malformed, shown, unsupported};
use crate::onnx::grid::{self, Integer};
use crate::onnx::proto::attribute_proto::AttributeType;
use crate::onnx::proto::tensor_proto::{DataLocation, DataType};
use crate::onnx::proto::{AttributeProto, StringStringEntryProto, TensorProto};
use crate::onnx::tensor::{decode, elements, shape_from};
use crate::onnx::{Domain, FileInput, FileNode, Model, Slot, Stored, order};
use crate::{Error, Limits};

/// Versions of the format that were looked at.
const VERSIONS: [&str; 2] = ["10", "11"];

/// Other names of tensors.
type Aliases = HashMap<Slot, Vec<String>>;

pub(super) fn read(path: &Path, bytes: &[u8], limits: &Limits) -> Result<Model, Error> {
    let net = xml::read(bytes, limits).map_err(|fail| fail.in_file(path, "it cannot be read"))?;
    let mut parser = Parser {
        path,
        limits,
        external: ExternalFiles::new(path, bytes.len()),
        names: Vec::new(),
        taken: HashSet::new(),
        outputs: HashMap::new(),
        constants: HashMap::new(),
        constant_elements: 0,
        stated: HashMap::new(),
        notes: Vec::new(),
    };
    parser.model(net)
}

pub(super) struct Parser<'a> {
    path: &'a Path,
    limits: &'a Limits,
    external: ExternalFiles,
    pub(super) names: Vec<String>,
    pub(super) taken: HashSet<String>,
    /// The slot of each output port: number of the layer, id of the port.
    outputs: HashMap<(usize, String), Slot>,
    pub(super) constants: HashMap<Slot, Stored>,
    constant_elements: usize,
    /// Extents that the file states.
    pub(super) stated: HashMap<Slot, Vec<Option<usize>>>,
    notes: Vec<String>,
}

impl Parser<'_> {
    fn bad<T>(&self, what: impl Into<String>) -> Result<T, Error> {
        Err(Error::Malformed {
            path: self.path.to_owned(),
            what: what.into(),
        })
    }

    fn model(&mut self, net: Net) -> Result<Model, Error> {
        if !VERSIONS.contains(&net.version.as_str()) {
            return self.bad(format!(
                "version '{}' of the IR; {} are read: write the model anew with a current OpenVINO",
                shown(&net.version),
                VERSIONS.join(" and ")
            ));
        }
        let mut numbers = HashMap::with_capacity(net.layers.len());
        for (number, layer) in net.layers.iter().enumerate() {
            if numbers.insert(layer.id.as_str(), number).is_some() {
                return self.bad(format!("two layers have the id '{}'", shown(&layer.id)));
            }
        }
        let aliases = self.slots(&net.layers)?;
        let inputs = self.edges(&net.layers, &net.edges, &numbers)?;
        let mut files = Vec::new();
        let mut results = Vec::new();
        let mut nodes = Vec::new();
        let mut names = HashSet::with_capacity(net.layers.len());
        for ((number, layer), inputs) in net.layers.iter().enumerate().zip(inputs) {
            let at = |fail: Fail| fail.at_node(self.path, &layer.name, &layer.kind);
            match layer.kind.as_str() {
                "Parameter" => {
                    let slot = self.first_output(number, layer).map_err(at)?;
                    files.push(
                        self.parameter(slot, layer)
                            .map_err(|fail| fail.at_node(self.path, &layer.name, &layer.kind))?,
                    );
                }
                "Const" => {
                    let slot = self.first_output(number, layer).map_err(at)?;
                    let stored = self
                        .constant(layer)
                        .map_err(|fail| fail.at_node(self.path, &layer.name, &layer.kind))?;
                    self.constants.insert(slot, stored);
                }
                "Result" => match inputs.first() {
                    Some(&Some(slot)) => results.push((slot, &layer.output_names)),
                    _ => return Err(at(Fail::Malformed("it has no input".to_owned()))),
                },
                _ => {
                    let mut name = layer.name.clone();
                    if name.is_empty() || !names.insert(name.clone()) {
                        name = format!("{name}#{}", layer.id);
                        names.insert(name.clone());
                    }
                    let outputs = layer.outputs.iter();
                    let outputs = outputs.map(|port| self.outputs.get(&(number, port.id.clone())));
                    nodes.push(node(
                        name,
                        layer,
                        inputs,
                        outputs.map(Option::<&Slot>::copied).collect(),
                    ));
                }
            }
        }
        if nodes.len() > self.limits.nodes {
            return self.bad(format!(
                "the graph has {} nodes, more than the limit of {} ({})",
                nodes.len(),
                self.limits.nodes,
                Limits::NODES
            ));
        }
        let read: Vec<Slot> = results.iter().map(|&(slot, _)| slot).collect();
        self.biases(&mut nodes, &read);
        let mut nodes = order::sort(nodes, self.names.len()).map_err(|stuck| {
            let fail = Fail::Malformed("the graph has a cycle at or before this node".to_owned());
            fail.at_node(self.path, &stuck.name, &stuck.label)
        })?;
        let (outputs, aliases) = self.results(&results, aliases)?;
        order::keep_live(&mut nodes, &outputs, self.names.len());
        Ok(Model {
            path: self.path.to_owned(),
            bytes: self.external.bytes,
            beside: std::mem::take(&mut self.external.files),
            limits: self.limits.clone(),
            format: "openvino",
            notes: std::mem::take(&mut self.notes),
            graph_name: net.name,
            names: std::mem::take(&mut self.names),
            inputs: files,
            outputs,
            constants: std::mem::take(&mut self.constants),
            annotations: HashMap::new(),
            aliases,
            stated: std::mem::take(&mut self.stated),
            nodes,
        })
    }

    /// Gives every output port a slot and a unique name: the port's first name, else the layer's (with the number of
    /// the port, where there are several). The others are aliases.
    fn slots(&mut self, layers: &[Layer]) -> Result<Vec<(Slot, String)>, Error> {
        let mut aliases = Vec::new();
        // Names of ports come first: a layer may be called like another's tensor.
        let named: HashSet<&str> = layers
            .iter()
            .flat_map(|layer| &layer.outputs)
            .filter_map(|port| port.names.first())
            .map(String::as_str)
            .collect();
        for (number, layer) in layers.iter().enumerate() {
            for (index, port) in layer.outputs.iter().enumerate() {
                let own = if layer.outputs.len() > 1 {
                    format!("{}.{index}", layer.name)
                } else {
                    layer.name.clone()
                };
                let slot = self.names.len();
                let name = match port.names.first() {
                    Some(name) => name.clone(),
                    None if own.is_empty() || named.contains(own.as_str()) => {
                        format!("{own}#{}", layer.id)
                    }
                    None => own.clone(),
                };
                let name = if self.taken.contains(&name) {
                    format!("{name}#{}:{}", layer.id, port.id)
                } else {
                    name
                };
                if !self.taken.insert(name.clone()) {
                    return self.bad(format!("two tensors are named '{}'", shown(&name)));
                }
                self.names.push(name);
                self.stated.insert(slot, port.dims.clone());
                let others = port.names.iter().skip(1).cloned().chain([own]);
                aliases.extend(others.map(|alias| (slot, alias)));
                if index == 0 && layer.outputs.len() > 1 {
                    aliases.push((slot, layer.name.clone()));
                }
                if self
                    .outputs
                    .insert((number, port.id.clone()), slot)
                    .is_some()
                {
                    return self.bad(format!(
                        "layer '{}' ({}) has two output ports with the id '{}'",
                        shown(&layer.name),
                        shown(&layer.kind),
                        shown(&port.id)
                    ));
                }
            }
        }
        Ok(aliases)
    }

    /// For each layer, what its input ports read.
    fn edges(
        &self,
        layers: &[Layer],
        edges: &[Edge],
        numbers: &HashMap<&str, usize>,
    ) -> Result<Vec<Vec<Option<Slot>>>, Error> {
        let mut places = HashMap::new();
        for (number, layer) in layers.iter().enumerate() {
            for (index, port) in layer.inputs.iter().enumerate() {
                if places.insert((number, port.id.as_str()), index).is_some() {
                    return self.bad(format!(
                        "layer '{}' ({}) has two input ports with the id '{}'",
                        shown(&layer.name),
                        shown(&layer.kind),
                        shown(&port.id)
                    ));
                }
            }
        }
        let mut inputs: Vec<Vec<Option<Slot>>> = layers
            .iter()
            .map(|layer| vec![None; layer.inputs.len()])
            .collect();
        for Edge { from, to } in edges {
            let layer = |id: &str| match numbers.get(id) {
                Some(&number) => Ok(number),
                None => self.bad(format!(
                    "an edge names layer '{}', which does not exist",
                    shown(id)
                )),
            };
            let (source, target) = (layer(&from.0)?, layer(&to.0)?);
            let no_port = |number: usize, port: &str, which: &str| {
                self.bad(format!(
                    "an edge names {which} port '{}' of layer '{}', which does not exist",
                    shown(port),
                    shown(&layers[number].name)
                ))
            };
            let Some(&slot) = self.outputs.get(&(source, from.1.clone())) else {
                return no_port(source, &from.1, "output");
            };
            let Some(&place) = places.get(&(target, to.1.as_str())) else {
                return no_port(target, &to.1, "input");
            };
            if inputs[target][place].replace(slot).is_some() {
                return self.bad(format!(
                    "two edges lead to port '{}' of layer '{}'",
                    shown(&to.1),
                    shown(&layers[target].name)
                ));
            }
        }
        for (layer, inputs) in layers.iter().zip(&inputs) {
            if let Some(open) = inputs.iter().position(Option::is_none) {
                return self.bad(format!(
                    "no edge leads to port '{}' of layer '{}' ({})",
                    shown(&layer.inputs[open].id),
                    shown(&layer.name),
                    shown(&layer.kind)
                ));
            }
        }
        Ok(inputs)
    }

    fn first_output(&self, number: usize, layer: &Layer) -> Outcome<Slot> {
        let port = layer.outputs.first();
        match port.and_then(|port| self.outputs.get(&(number, port.id.clone()))) {
            Some(&slot) => Ok(slot),
            None => malformed("it has no output port"),
        }
    }

    fn parameter(&mut self, slot: Slot, layer: &Layer) -> Outcome<FileInput> {
        let kind = layer.data.get("element_type").map_or("", String::as_str);
        let Some(kind) = element_type(kind) else {
            return unsupported(format!("its element type '{}' is not read", shown(kind)));
        };
        if matches!(
            kind,
            DataType::Double | DataType::Float16 | DataType::Bfloat16
        ) {
            self.notes.push(format!(
                "input '{}' holds {}: align-check evaluates it as FLOAT",
                shown(&layer.name),
                kind.as_str_name()
            ));
        }
        let dims = match layer.data.get("shape").map(String::as_str) {
            // Of any rank.
            None | Some("...") => None,
            Some(list) => {
                let dims: Vec<Option<usize>> = split(list)
                    .map(|dim| dim.parse().ok().filter(|&d| d > 0))
                    .collect();
                if dims.len() > self.limits.rank {
                    return malformed(format!(
                        "it has {} axes, more than the limit of {} ({})",
                        dims.len(),
                        self.limits.rank,
                        Limits::RANK
                    ));
                }
                Some(dims)
            }
        };
        let integer = Integer::of(kind);
        Ok(FileInput {
            slot,
            dims,
            integer,
            stored: integer.map(grid::plain),
        })
    }

    /// The contents of a constant, from the `.bin` file.
    fn constant(&mut self, layer: &Layer) -> Outcome<Stored> {
        let get = |key: &str| layer.data.get(key).map_or("", String::as_str);
        let Some(kind) = element_type(get("element_type")) else {
            return Ok(Stored::Unreadable(format!(
                "its element type '{}' is not read",
                shown(get("element_type"))
            )));
        };
        let dims: Result<Vec<i64>, _> = split(get("shape")).map(str::parse).collect();
        let Ok(dims) = dims else {
            return malformed(format!(
                "its shape '{}' is no list of numbers",
                shown(get("shape"))
            ));
        };
        let count = elements(&shape_from(&dims, self.limits)?, self.limits)?;
        self.constant_elements = self.constant_elements.saturating_add(count);
        if self.constant_elements > self.limits.constant_elements {
            return malformed(format!(
                "the constants have more than {} elements together, the limit ({})",
                self.limits.constant_elements,
                Limits::CONSTANTS
            ));
        }
        let beside = self.path.with_extension("bin");
        let Some(location) = beside.file_name().and_then(|name| name.to_str()) else {
            return malformed("the name of its '.bin' file is no text");
        };
        let entry = |key: &str, value: &str| StringStringEntryProto {
            key: Some(key.to_owned()),
            value: Some(value.to_owned()),
        };
        for key in ["offset", "size"] {
            if get(key).is_empty() {
                return malformed(format!("attribute '{key}' is missing"));
            }
        }
        let tensor = TensorProto {
            dims,
            data_type: Some(kind as i32),
            data_location: Some(DataLocation::External as i32),
            external_data: vec![
                entry("location", location),
                entry("offset", get("offset")),
                entry("length", get("size")),
            ],
            ..TensorProto::default()
        };
        if count == 0 {
            // Nothing lies in the file.
            return Ok(Stored::Known(decode(
                &TensorProto {
                    data_location: None,
                    external_data: Vec::new(),
                    ..tensor
                },
                self.limits,
                None,
            )?));
        }
        match decode(&tensor, self.limits, Some(&mut self.external)) {
            Ok(tensor) => Ok(Stored::Known(tensor)),
            Err(Fail::Unsupported(what)) => Ok(Stored::Unreadable(what)),
            Err(fail) => Err(fail),
        }
    }

    /// What the model returns, each tensor once, and the aliases that belong to one tensor alone.
    fn results(
        &self,
        results: &[(Slot, &Vec<String>)],
        mut aliases: Vec<(Slot, String)>,
    ) -> Result<(Vec<Slot>, Aliases), Error> {
        if results.is_empty() {
            return self.bad("it has no layer of type Result: truncated, or no model");
        }
        let mut outputs: Vec<Slot> = Vec::new();
        let mut seen = HashSet::new();
        for &(slot, names) in results {
            if seen.insert(slot) {
                outputs.push(slot);
            }
            aliases.extend(names.iter().map(|name| (slot, name.clone())));
        }
        let mut owners: HashMap<&str, Option<Slot>> = HashMap::new();
        for (slot, alias) in &aliases {
            owners
                .entry(alias)
                .and_modify(|owner| *owner = owner.filter(|owner| owner == slot))
                .or_insert(Some(*slot));
        }
        let mut lists = Aliases::new();
        for (slot, alias) in &aliases {
            let own = !alias.is_empty()
                && !self.taken.contains(alias)
                && owners.get(alias.as_str()) == Some(&Some(*slot));
            let list = lists.entry(*slot).or_default();
            if own && !list.contains(alias) {
                list.push(alias.clone());
            }
        }
        Ok((outputs, lists))
    }
}

/// A layer as a node of the ONNX importer's list, to be translated where its inputs' shapes are known.
fn node(
    name: String,
    layer: &Layer,
    inputs: Vec<Option<Slot>>,
    outputs: Vec<Option<Slot>>,
) -> FileNode {
    let opset = layer.version.strip_prefix("opset");
    FileNode {
        name,
        op_type: layer.kind.clone(),
        label: layer.kind.clone(),
        domain: if layer.has_body {
            Domain::Other
        } else {
            Domain::Ir
        },
        // Layers of no operator set are extensions.
        version: opset.and_then(|number| number.parse().ok()).unwrap_or(0),
        inputs,
        outputs,
        attributes: attributes(&layer.data),
        spelling: Some(layer.kind.clone()),
    }
}

/// Attributes as texts.
fn attributes(data: &BTreeMap<String, String>) -> Vec<AttributeProto> {
    let text = |(key, value): (&String, &String)| AttributeProto {
        name: Some(key.clone()),
        r#type: Some(AttributeType::String as i32),
        s: Some(value.clone().into_bytes()),
        ..AttributeProto::default()
    };
    data.iter().map(text).collect()
}

/// A list in one attribute.
pub(super) fn split(list: &str) -> impl Iterator<Item = &str> {
    list.split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
}

/// An element type by its name in the file (openvinotoolkit/openvino `src/core/src/type/element_type.cpp`).
pub(super) fn element_type(name: &str) -> Option<DataType> {
    Some(match name {
        "f64" => DataType::Double,
        "f32" => DataType::Float,
        "f16" => DataType::Float16,
        "bf16" => DataType::Bfloat16,
        "i64" => DataType::Int64,
        "i32" => DataType::Int32,
        "i16" => DataType::Int16,
        "i8" => DataType::Int8,
        "i4" => DataType::Int4,
        "u64" => DataType::Uint64,
        "u32" => DataType::Uint32,
        "u16" => DataType::Uint16,
        "u8" => DataType::Uint8,
        "u4" => DataType::Uint4,
        "boolean" => DataType::Bool,
        _ => return None,
    })
}
