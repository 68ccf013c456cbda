//! From bytes to a checked list of tensors and operators.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use super::flat::Table;
use super::grid::{self, Grid};
use super::schema::{
    CUSTOM, Type, buffer, model, operator, operator_code, operator_name, subgraph, tensor,
};
use super::{FileNode, FileTensor, Model, Slot};
use crate::onnx::fail::{Fail, Outcome, malformed, shown};
use crate::onnx::tensor::elements;
use crate::{Error, Limits};

/// The version of the schema that is read; there has been no other since 2017.
const VERSION: u32 = 3;

/// Tensors, and references from operators to tensors, that a file may hold for each node that
/// [`Limits::nodes`] allows, and besides; real files stay far below.
const PER_NODE: usize = 16;
const BESIDES: usize = 100_000;

/// Bytes that all names may have beyond the file's size (names may be shared).
const NAMES: usize = 1 << 24;

/// Scales and zero points that all tensors may have beyond the file's size.
const PARAMETERS: usize = 1 << 20;

pub(super) fn read(path: &Path, bytes: Vec<u8>, limits: &Limits) -> Result<Model, Error> {
    let error = |fail: Fail| match fail {
        Fail::Malformed(what) | Fail::Unsupported(what) => Error::Malformed {
            path: path.to_owned(),
            what,
        },
        fail @ Fail::Io(..) => fail.in_file(path, "the file"),
    };
    let parts = Parts::read(&bytes, limits).map_err(error)?;
    Ok(Model {
        path: path.to_owned(),
        limits: limits.clone(),
        bytes,
        notes: parts.notes,
        graph_name: parts.graph_name,
        tensors: parts.tensors,
        inputs: parts.inputs,
        outputs: parts.outputs,
        nodes: parts.nodes,
    })
}

struct Parts {
    notes: Vec<String>,
    graph_name: String,
    tensors: Vec<FileTensor>,
    inputs: Vec<Slot>,
    outputs: Vec<Slot>,
    nodes: Vec<FileNode>,
}

impl Parts {
    fn read(bytes: &[u8], limits: &Limits) -> Outcome<Self> {
        let most = limits
            .nodes
            .saturating_mul(PER_NODE)
            .saturating_add(BESIDES);
        let root = Table::root(bytes)?;
        let version = root.u32(model::VERSION)?;
        if version != VERSION {
            return malformed(format!(
                "the file has version {version} of TFLite's schema; version {VERSION} is read"
            ));
        }
        let mut notes = Vec::new();
        let mut graphs = root.tables(model::SUBGRAPHS, "subgraphs", most)?;
        let Some(main) = graphs.next().transpose()? else {
            return malformed("the file has no graph");
        };
        if graphs.len() > 0 {
            notes.push(format!(
                "The file has {} more subgraphs; only the first one is read.",
                graphs.len()
            ));
        }
        let buffers = buffers(&root, bytes, most)?;
        let mut tensors = tensors(&main, &buffers, bytes, limits, most, &mut notes)?;
        names(&mut tensors);
        let mut references = most;
        let inputs = slots(&main, subgraph::INPUTS, tensors.len(), &mut references)?;
        let outputs = slots(&main, subgraph::OUTPUTS, tensors.len(), &mut references)?;
        if outputs.is_empty() {
            return malformed("the graph has no output");
        }
        let nodes = nodes(&root, &main, limits, tensors.len(), &mut references)?;
        let mut parts = Self {
            notes,
            graph_name: main.text(subgraph::NAME)?,
            tensors,
            inputs,
            outputs,
            nodes,
        };
        parts.check()?;
        parts.drop_dead();
        parts.remark();
        Ok(parts)
    }

    /// Every tensor is made once, before it is read.
    fn check(&self) -> Outcome<()> {
        let mut made = vec![false; self.tensors.len()];
        let name = |slot: Slot| shown(&self.tensors[slot].name);
        for (slot, tensor) in self.tensors.iter().enumerate() {
            made[slot] = tensor.data.is_some();
        }
        let mut fed = vec![false; self.tensors.len()];
        for &slot in &self.inputs {
            if std::mem::replace(&mut fed[slot], true) {
                return malformed(format!("tensor '{}' is listed as input twice", name(slot)));
            }
            made[slot] = true;
        }
        for node in &self.nodes {
            if node.outputs.is_empty() {
                return malformed(format!("node '{}' has no output", node.name));
            }
            for &slot in node.inputs.iter().flatten() {
                let tensor = &self.tensors[slot];
                if !made[slot] && tensor.trouble.is_none() && !tensor.shape.contains(&0) {
                    return malformed(format!(
                        "node '{}' reads tensor '{}', which is no constant and not made before",
                        node.name,
                        name(slot)
                    ));
                }
            }
            for &slot in &node.outputs {
                if std::mem::replace(&mut made[slot], true) {
                    return malformed(format!(
                        "node '{}' makes tensor '{}', which is an input, a constant or made before",
                        node.name,
                        name(slot)
                    ));
                }
            }
        }
        match self.outputs.iter().find(|&&slot| !made[slot]) {
            Some(&slot) => malformed(format!("no node makes the output '{}'", name(slot))),
            None => Ok(()),
        }
    }

    /// Drops operators that no output depends on.
    fn drop_dead(&mut self) {
        let mut needed = vec![false; self.tensors.len()];
        for &slot in &self.outputs {
            needed[slot] = true;
        }
        let mut live = vec![false; self.nodes.len()];
        for (live, node) in live.iter_mut().zip(&self.nodes).rev() {
            if node.outputs.iter().any(|&slot| needed[slot]) {
                *live = true;
                for &slot in node.inputs.iter().flatten() {
                    needed[slot] = true;
                }
            }
        }
        let mut live = live.into_iter();
        self.nodes.retain(|_| live.next().unwrap_or(false));
    }

    /// Notes what the importer decides about live operators.
    fn remark(&mut self) {
        let mut notes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let grid = |slot: Option<&Option<Slot>>| {
            slot.copied().flatten().map(|slot| &self.tensors[slot].grid)
        };
        for node in &self.nodes {
            let x = grid(node.inputs.get(usize::from(node.op_type == "SPLIT")));
            let y = node.outputs.first().map(|&slot| &self.tensors[slot].grid);
            let mut say = |what| notes.entry(what).or_default().push(&node.name);
            match node.op_type.as_str() {
                "RESHAPE" | "SQUEEZE" | "EXPAND_DIMS" | "TRANSPOSE" | "SPLIT" | "SPLIT_V"
                | "STRIDED_SLICE" | "SLICE" | "UNPACK" | "PACK" | "DEPTH_TO_SPACE"
                    if x != y =>
                {
                    say(
                        "input and output have different grids, and values are requantized; \
                         a runtime that copies codes differs",
                    );
                }
                "CONV_2D" | "DEPTHWISE_CONV_2D" | "FULLY_CONNECTED" | "TRANSPOSE_CONV" => {
                    let place = if node.op_type == "TRANSPOSE_CONV" {
                        2
                    } else {
                        0
                    };
                    let float = grid(node.inputs.get(place)) == Some(&Grid::Float);
                    let weights = grid(node.inputs.get(1));
                    if float && matches!(weights, Some(Grid::Codes(_))) {
                        say(
                            "integer weights meet a float input and are computed as reals; \
                             a runtime may quantize the input as it goes",
                        );
                    }
                    let bias = grid(node.inputs.get(place + if place == 2 { 1 } else { 2 }));
                    if matches!(bias, Some(Grid::Bare { .. })) {
                        say(
                            "its bias has no scale, and is taken to have the input's times the \
                             weights', as kernels do",
                        );
                    }
                    if place == 2
                        && let Some(&Some(slot)) = node.inputs.first()
                        && self.tensors[slot].data.is_none()
                    {
                        say(
                            "its output shape is not constant, and is taken from the output tensor",
                        );
                    }
                }
                _ => {}
            }
        }
        let notes = notes.into_iter().map(|(what, nodes)| match nodes[..] {
            [one] => format!("{}: {what}.", shown(one)),
            [first, ..] => format!("{} and {} more: {what}.", shown(first), nodes.len() - 1),
            [] => what.to_owned(),
        });
        let notes: Vec<String> = notes.collect();
        self.notes.extend(notes);
    }
}

/// Where each buffer's contents lie in the file; `None` where it is empty.
fn buffers(root: &Table, bytes: &[u8], most: usize) -> Outcome<Vec<Option<(usize, usize)>>> {
    root.tables(model::BUFFERS, "buffers", most)?
        .map(|table| {
            let table = table?;
            if let Some(data) = table.data(buffer::DATA)? {
                return Ok(Some(data).filter(|&(_, length)| length > 0));
            }
            // Beyond 2 GiB contents lie behind the flatbuffer.
            let (at, length) = (table.u64(buffer::OFFSET)?, table.u64(buffer::SIZE)?);
            if at <= 1 || length == 0 {
                return Ok(None);
            }
            match (usize::try_from(at), usize::try_from(length)) {
                (Ok(at), Ok(length))
                    if at.checked_add(length).is_some_and(|end| end <= bytes.len()) =>
                {
                    Ok(Some((at, length)))
                }
                _ => malformed("a buffer lies outside of the file: it is cut short"),
            }
        })
        .collect()
}

fn tensors(
    graph: &Table,
    buffers: &[Option<(usize, usize)>],
    bytes: &[u8],
    limits: &Limits,
    most: usize,
    notes: &mut Vec<String>,
) -> Outcome<Vec<FileTensor>> {
    let tables = graph.tables(subgraph::TENSORS, "tensors", most)?;
    let mut tensors = Vec::with_capacity(tables.len());
    let mut name_bytes = bytes.len().saturating_add(NAMES);
    // Tensors may share them, but files have no reason to.
    let mut parameters = limits
        .constant_elements
        .min(bytes.len().saturating_add(PARAMETERS));
    let mut assumed: Vec<String> = Vec::new();
    for (index, table) in tables.enumerate() {
        let table = table?;
        let length = table.text_length(tensor::NAME)?;
        let Some(left) = name_bytes.checked_sub(length) else {
            return malformed("the names of its tensors are longer than the file");
        };
        name_bytes = left;
        let file_name = table.text(tensor::NAME)?;
        let here = |fail: Fail| match fail {
            Fail::Malformed(what) | Fail::Unsupported(what) => {
                Fail::Malformed(format!("tensor {index} '{}': {what}", shown(&file_name)))
            }
            fail @ Fail::Io(..) => fail,
        };
        let (mut found, patched) = one(&table, buffers, limits, &mut parameters).map_err(here)?;
        if patched {
            assumed.push(shown(&file_name));
        }
        found.file_name = file_name;
        tensors.push(found);
    }
    if let [first, ..] = &assumed[..] {
        notes.push(format!(
            "The channel axis of {} tensors with one axis ('{first}', ...) lies outside of them; \
             taken as 0.",
            assumed.len()
        ));
    }
    Ok(tensors)
}

fn one(
    table: &Table,
    buffers: &[Option<(usize, usize)>],
    limits: &Limits,
    parameters: &mut usize,
) -> Outcome<(FileTensor, bool)> {
    let (shape, open) = shape(table, limits)?;
    let kind = Type::of(table.i8(tensor::TYPE)?);
    let buffer = table.u32(tensor::BUFFER)? as usize;
    // Buffer 0 is empty by convention, and may be missing.
    let data = match buffers.get(buffer) {
        Some(&data) => data,
        None if buffer == 0 => None,
        None => {
            return malformed(format!(
                "its buffer {buffer} does not exist, the file has {}",
                buffers.len()
            ));
        }
    };
    let trouble = if table.u32(tensor::EXTERNAL_BUFFER)? != 0 {
        Some("its contents lie in another file")
    } else if table.table(tensor::SPARSITY)?.is_some() {
        Some("it is sparse")
    } else if table.flag(tensor::IS_VARIABLE)? {
        Some("it is a variable, which keeps its contents between runs")
    } else {
        None
    };
    let (grid, assumed) = grid::of(kind, &shape, table.table(tensor::QUANTIZATION)?, parameters)?;
    let has_shape = !shape.is_empty() || table.flag(tensor::HAS_RANK)?;
    let tensor = FileTensor {
        name: String::new(),
        file_name: String::new(),
        shape,
        open,
        has_shape,
        kind,
        grid,
        data,
        trouble,
    };
    Ok((tensor, assumed))
}

/// A tensor's extents, and which of them are open; an open one is 1.
fn shape(table: &Table, limits: &Limits) -> Outcome<(Vec<usize>, Vec<bool>)> {
    let read = |id: usize| -> Outcome<Vec<i32>> {
        let rank = table.count(id, 4)?;
        if rank > limits.rank {
            return malformed(format!(
                "it has {rank} axes, more than the limit of {} ({})",
                limits.rank,
                Limits::RANK
            ));
        }
        Ok(table.i32s(id)?.unwrap_or_default())
    };
    let dims = read(tensor::SHAPE)?;
    let signature = read(tensor::SHAPE_SIGNATURE)?;
    let mut shape = Vec::with_capacity(dims.len());
    let mut open = Vec::with_capacity(dims.len());
    for (axis, &dim) in dims.iter().enumerate() {
        let is_open = dim == -1 || (signature.len() == dims.len() && signature[axis] == -1);
        open.push(is_open);
        match usize::try_from(dim) {
            _ if is_open => shape.push(1),
            Ok(dim) => shape.push(dim),
            Err(_) => return malformed(format!("its shape {dims:?} has a negative extent")),
        }
    }
    elements(&shape, limits)?;
    Ok((shape, open))
}

/// Gives every tensor a unique name: the file's where that is unique, else `INDEX:NAME`.
fn names(tensors: &mut [FileTensor]) {
    let mut uses: HashMap<String, usize> = HashMap::new();
    for tensor in &*tensors {
        *uses.entry(tensor.file_name.clone()).or_default() += 1;
    }
    let mut taken: HashSet<String> = uses
        .iter()
        .filter(|(_, count)| **count == 1)
        .map(|(name, _)| name.clone())
        .collect();
    for (index, tensor) in tensors.iter_mut().enumerate() {
        if !tensor.file_name.is_empty() && uses.get(&tensor.file_name) == Some(&1) {
            tensor.name.clone_from(&tensor.file_name);
            continue;
        }
        let mut name = format!("{index}:{}", tensor.file_name);
        while !taken.insert(name.clone()) {
            name.push('\'');
        }
        tensor.name = name;
    }
}

/// A list of tensor indices, each of which exists.
fn slots(table: &Table, id: usize, tensors: usize, references: &mut usize) -> Outcome<Vec<Slot>> {
    optional_slots(table, id, tensors, references)?
        .into_iter()
        .map(|slot| match slot {
            Some(slot) => Ok(slot),
            None => malformed("an output, or an input of the graph, is tensor -1"),
        })
        .collect()
}

/// The same, where -1 stands for an input that is left out.
fn optional_slots(
    table: &Table,
    id: usize,
    tensors: usize,
    references: &mut usize,
) -> Outcome<Vec<Option<Slot>>> {
    let count = table.count(id, 4)?;
    let Some(left) = references.checked_sub(count) else {
        return malformed("its operators name more tensors than the limit (--max-nodes)");
    };
    *references = left;
    let list = table.i32s(id)?.unwrap_or_default();
    list.into_iter()
        .map(|index| match usize::try_from(index) {
            Ok(slot) if slot < tensors => Ok(Some(slot)),
            Err(_) if index == -1 => Ok(None),
            _ => malformed(format!(
                "tensor {index} does not exist, the file has {tensors}"
            )),
        })
        .collect()
}

fn nodes(
    root: &Table,
    graph: &Table,
    limits: &Limits,
    tensors: usize,
    references: &mut usize,
) -> Outcome<Vec<FileNode>> {
    let codes: Vec<String> = root
        .tables(model::OPERATOR_CODES, "operator codes", limits.nodes)?
        .map(|table| op_type(&table?))
        .collect::<Outcome<_>>()?;
    let tables = graph.tables(subgraph::OPERATORS, "nodes", limits.nodes)?;
    let mut nodes = Vec::with_capacity(tables.len());
    for (index, table) in tables.enumerate() {
        let table = table?;
        let code = table.u32(operator::CODE)? as usize;
        let Some(op_type) = codes.get(code) else {
            return malformed(format!(
                "operator {index} has code {code}, the file has {}",
                codes.len()
            ));
        };
        let options = table.table(operator::OPTIONS)?;
        let options = match options {
            Some(options) => Some((table.u8(operator::OPTIONS_TYPE)?, options.position())),
            None => None,
        };
        nodes.push(FileNode {
            name: format!("{op_type}_{index}"),
            op_type: op_type.clone(),
            inputs: optional_slots(&table, operator::INPUTS, tensors, references)?,
            outputs: slots(&table, operator::OUTPUTS, tensors, references)?,
            options,
        });
    }
    Ok(nodes)
}

/// Name of an operator: the built-in's, or the custom one's own.
fn op_type(table: &Table) -> Outcome<String> {
    // Numbers above 126 need the second field, which old files lack (`GetBuiltinCode` in
    // `tensorflow/compiler/mlir/lite/schema/schema_utils.cc`).
    let code = table
        .i32(operator_code::BUILTIN, 0)?
        .max(i32::from(table.i8(operator_code::DEPRECATED_BUILTIN)?));
    if code != CUSTOM {
        return Ok(operator_name(code));
    }
    if table.text_length(operator_code::CUSTOM)? > 200 {
        return malformed("the name of a custom operator is longer than 200 bytes");
    }
    Ok(format!("CUSTOM {}", table.text(operator_code::CUSTOM)?))
}
