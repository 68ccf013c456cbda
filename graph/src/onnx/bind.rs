//! Binds a model to input shapes: walks the nodes in order, keeps each tensor's shape (and contents,
//! where known), and collects the resolved operations.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::attr::Attrs;
use super::fail::{Outcome, malformed, shown, unsupported};
use super::grid::{self, Codes};
use super::tensor::{Tensor, elements};
use super::{FileInput, FileNode, Model, Slot, Stored, eval, ops};
use crate::model::only_inputs;
use crate::{
    Activation, Affine, Binary, Constant, Error, Graph, Limits, Node, Op, Quantizer, Value, ValueId,
};

/// What is known of a tensor once its producer was visited.
#[derive(Debug, Clone)]
struct Known {
    shape: Vec<usize>,
    constant: Option<Arc<Constant>>,
    /// What its integers mean.
    codes: Codes,
    /// What the codes of a constant stand for, once somebody asked.
    reals: OnceCell<Arc<Constant>>,
    value: Option<ValueId>,
}

/// The graph under construction.
pub(crate) struct Binder<'m> {
    model: &'m Model,
    known: Vec<Option<Known>>,
    /// Names of the slots that the importer added.
    added: Vec<String>,
    /// Names that are taken, for values and for nodes.
    value_names: HashSet<Cow<'m, str>>,
    node_names: HashSet<Cow<'m, str>>,
    made: usize,
    values: Vec<Value>,
    nodes: Vec<Node>,
    /// For each value, the node that makes it.
    makers: Vec<Option<usize>>,
    /// For each slot of the file, how often it is read (a graph output is read once).
    uses: Vec<usize>,
    /// Codes that are read with another grid than they have: the tensor that has it.
    read_anew: HashMap<(Slot, Vec<u32>), Slot>,
    folded_elements: usize,
}

pub(crate) fn graph(model: &Model, shapes: &BTreeMap<String, Vec<usize>>) -> Result<Graph, Error> {
    let mut uses = vec![0; model.names.len()];
    let read = model.nodes.iter().flat_map(|n| n.inputs.iter().flatten());
    for &slot in read.chain(&model.outputs) {
        uses[slot] += 1;
    }
    let mut binder = Binder {
        model,
        known: vec![None; model.names.len()],
        added: Vec::new(),
        value_names: model.names.iter().map(|n| n.as_str().into()).collect(),
        node_names: model.nodes.iter().map(|n| n.name.as_str().into()).collect(),
        made: 0,
        values: Vec::new(),
        nodes: Vec::new(),
        makers: Vec::new(),
        uses,
        read_anew: HashMap::new(),
        folded_elements: 0,
    };
    let inputs = binder.inputs(shapes)?;
    for (&slot, stored) in &model.constants {
        if let Stored::Known(tensor) = stored {
            binder.known[slot] = Some(Known {
                shape: tensor.shape.clone(),
                constant: Some(tensor.data.clone()),
                codes: tensor.codes.clone(),
                reals: OnceCell::new(),
                value: None,
            });
        }
    }
    for node in &model.nodes {
        ops::lower(&mut binder, node)
            .map_err(|fail| fail.at_node(&model.path, &node.name, &node.label))?;
    }
    binder.finish(inputs)
}

impl<'m> Binder<'m> {
    pub(crate) fn limits(&self) -> &'m Limits {
        &self.model.limits
    }

    fn inputs(&mut self, shapes: &BTreeMap<String, Vec<usize>>) -> Result<Vec<ValueId>, Error> {
        let model = self.model;
        let error = |input: &str, what: String| Error::Input {
            path: model.path.clone(),
            input: shown(input),
            what,
        };
        let known = model.inputs.iter().map(|i| &model.names[i.slot]);
        only_inputs(&model.path, shapes, known)?;
        let mut ids = Vec::with_capacity(model.inputs.len());
        for input in &model.inputs {
            let name = &model.names[input.slot];
            let shape = input_shape(input, shapes.get(name)).map_err(|what| error(name, what))?;
            match elements(&shape, &model.limits) {
                Ok(0) => return Err(error(name, format!("shape {shape:?} has no element"))),
                Ok(_) => {}
                Err(fail) => {
                    return Err(fail.in_file(&model.path, &format!("input '{}'", shown(name))));
                }
            }
            self.known[input.slot] = Some(Known {
                shape,
                constant: None,
                codes: Codes {
                    integer: input.integer,
                    clipped: None,
                    grid: input.stored.clone().map(Arc::new),
                },
                reals: OnceCell::new(),
                value: None,
            });
            ids.push(self.value(input.slot));
        }
        Ok(ids)
    }

    pub(crate) fn name(&self, slot: Slot) -> &str {
        match self.model.names.get(slot) {
            Some(name) => name,
            None => &self.added[slot - self.model.names.len()],
        }
    }

    fn known(&self, slot: Slot) -> Outcome<&Known> {
        if let Some(known) = &self.known[slot] {
            return Ok(known);
        }
        let name = shown(self.name(slot));
        match self.model.constants.get(&slot) {
            Some(Stored::Unreadable(why)) => unsupported(format!("tensor '{name}': {why}")),
            _ => unsupported(format!(
                "tensor '{name}' is an output that align-check does not compute"
            )),
        }
    }

    /// Shape of a tensor that was produced before.
    pub(crate) fn shape(&self, slot: Slot) -> Outcome<&[usize]> {
        Ok(&self.known(slot)?.shape)
    }

    /// What is known of a tensor's integers.
    pub(crate) fn codes(&self, slot: Slot) -> Outcome<&Codes> {
        Ok(&self.known(slot)?.codes)
    }

    /// A tensor's contents as the file's operators see them, where they are known.
    pub(crate) fn constant(&self, slot: Slot) -> Outcome<Option<Tensor>> {
        let tensor = self.stored(slot)?;
        Ok(match tensor {
            Some(tensor) if tensor.codes.stands_for_reals() => {
                let reals = || grid::dequantized(&tensor).data;
                let data = self.known(slot)?.reals.get_or_init(reals).clone();
                Some(Tensor {
                    data,
                    codes: Codes::default(),
                    ..tensor
                })
            }
            other => other,
        })
    }

    /// Whether a tensor's contents are known.
    pub(crate) fn is_constant(&self, slot: Slot) -> Outcome<bool> {
        Ok(self.known(slot)?.constant.is_some())
    }

    /// A tensor's contents as they are stored, where they are known: reals may be codes.
    pub(crate) fn stored(&self, slot: Slot) -> Outcome<Option<Tensor>> {
        let known = self.known(slot)?;
        let tensor = |data: &Arc<Constant>| Tensor {
            shape: known.shape.clone(),
            data: data.clone(),
            codes: known.codes.clone(),
        };
        Ok(known.constant.as_ref().map(tensor))
    }

    /// Says what the integers of a tensor mean.
    pub(crate) fn set_codes(&mut self, slot: Slot, codes: Codes) {
        if let Some(known) = &mut self.known[slot] {
            if let Some(id) = known.value {
                self.values[id].stored = codes.grid.as_deref().cloned();
            }
            known.codes = codes;
        }
    }

    /// The tensor of integers that a node reads with a grid: a constant gets it; codes that were made with
    /// another one are read anew.
    pub(crate) fn coded(&mut self, node: &FileNode, slot: Slot, grid: Affine) -> Outcome<Slot> {
        let known = self.known(slot)?;
        let name = || shown(self.name(slot));
        let Some(integer) = known.codes.integer else {
            return malformed(format!("its input '{}' must hold integer codes", name()));
        };
        if let Some(own) = &known.codes.grid
            && grid::same(own, &grid)
        {
            return Ok(slot);
        }
        let key = (slot, grid::key(&grid));
        if let Some(&slot) = self.read_anew.get(&key) {
            return Ok(slot);
        }
        let shape = known.shape.clone();
        let to = match (&known.constant, &known.codes.grid) {
            (None, None) => {
                return unsupported(format!(
                    "it reads '{}' as {}, but what that tensor's integers mean does not follow from the file: its scale and zero point must be initializers",
                    name(),
                    grid::describe(&grid)
                ));
            }
            (None, Some(own)) => {
                let op = Op::Reinterpret {
                    from: (**own).clone(),
                    to: grid.clone(),
                };
                let to = self.temporary(slot, "codes");
                self.emit_helper(node, op, &[slot], shape, to, "codes")?;
                self.set_codes(to, Codes::on(integer, grid));
                to
            }
            (Some(data), own) => {
                // One list of codes may serve several readers that scale it differently.
                let taken = own.is_some() || known.value.is_some();
                let tensor = Tensor {
                    shape,
                    data: data.clone(),
                    codes: Codes::on(integer, grid),
                };
                let to = if taken {
                    self.temporary(slot, "codes")
                } else {
                    slot
                };
                self.set_constant(to, tensor)?;
                to
            }
        };
        self.read_anew.insert(key, to);
        Ok(to)
    }

    /// Holds what a node made against the extents that the file states.
    pub(crate) fn as_stated(&self, node: &FileNode) -> Outcome<()> {
        for &slot in node.outputs.iter().flatten() {
            let (Some(known), Some(stated)) = (&self.known[slot], self.model.stated.get(&slot))
            else {
                continue;
            };
            let fits = known.shape.len() == stated.len()
                && (known.shape.iter().zip(stated)).all(|(&a, b)| b.is_none_or(|b| a == b));
            if !fits {
                let stated: Vec<_> = stated
                    .iter()
                    .map(|d| d.map_or("?".to_owned(), |d| d.to_string()))
                    .collect();
                return malformed(format!(
                    "its output has shape {:?}, the file says [{}]",
                    known.shape,
                    stated.join(", ")
                ));
            }
        }
        Ok(())
    }

    /// The file's nodes that read a tensor.
    pub(crate) fn readers(&self, slot: Slot) -> impl Iterator<Item = &'m FileNode> {
        let reads = move |node: &&FileNode| node.inputs.contains(&Some(slot));
        self.model.nodes.iter().filter(reads)
    }

    /// Whether an operation of the graph makes a tensor.
    pub(crate) fn is_made(&self, slot: Slot) -> bool {
        let id = self.known[slot].as_ref().and_then(|known| known.value);
        id.is_some_and(|id| self.makers[id].is_some())
    }

    /// Where a tensor comes from a quantizer and this node alone reads it, makes that quantizer write the
    /// node's output, with fewer codes. Says whether that was so.
    pub(crate) fn narrow_producer(&mut self, from: Slot, to: Slot, grid: &Affine) -> bool {
        let id = self.known[from].as_ref().and_then(|known| known.value);
        let Some((id, index)) = id.and_then(|id| Some((id, self.makers[id]?))) else {
            return false;
        };
        if self.uses.get(from) != Some(&1) {
            return false;
        }
        let Op::Quantize(Quantizer::Affine(affine)) = &mut self.nodes[index].op else {
            return false;
        };
        *affine = grid.clone();
        self.values[id].name = self.name(to).to_owned();
        self.values[id].annotation = self.model.annotations.get(&to).copied();
        self.known[to] = self.known[from].take();
        true
    }

    /// The slot of a node's input that must be there.
    #[allow(
        clippy::unused_self,
        reason = "reads like its siblings at the many places of use"
    )]
    pub(crate) fn input(&self, node: &FileNode, index: usize) -> Outcome<Slot> {
        match node.inputs.get(index) {
            Some(&Some(slot)) => Ok(slot),
            _ => malformed(format!("input {} is missing", index + 1)),
        }
    }

    /// The contents of a parameter input, if it is given.
    pub(crate) fn parameter(&self, node: &FileNode, index: usize) -> Outcome<Option<Tensor>> {
        let Some(slot) = node.optional(index) else {
            return Ok(None);
        };
        match self.constant(slot)? {
            Some(tensor) => Ok(Some(tensor)),
            None => unsupported(format!(
                "its parameter '{}' is computed from data; it must be a constant, or follow from shapes",
                shown(self.name(slot))
            )),
        }
    }

    /// A parameter input that holds integers.
    pub(crate) fn ints(&self, node: &FileNode, index: usize) -> Outcome<Option<Vec<i64>>> {
        let Some(tensor) = self.parameter(node, index)? else {
            return Ok(None);
        };
        match &*tensor.data {
            Constant::I64(values) => Ok(Some(values.clone())),
            Constant::F32(_) => malformed(format!("input {} must hold integers", index + 1)),
        }
    }

    /// A parameter input that holds one number.
    pub(crate) fn scalar(&self, node: &FileNode, index: usize) -> Outcome<Option<f32>> {
        let Some(tensor) = self.parameter(node, index)? else {
            return Ok(None);
        };
        match tensor.data.to_f32().as_slice() {
            [x] => Ok(Some(*x)),
            other => malformed(format!(
                "input {} must hold one number, not {}",
                index + 1,
                other.len()
            )),
        }
    }

    /// Registers the value of a slot, the first time that a node reads or writes it.
    fn value(&mut self, slot: Slot) -> ValueId {
        let (shape, constant, stored) = match &self.known[slot] {
            Some(Known {
                value: Some(id), ..
            }) => return *id,
            Some(known) => (
                known.shape.clone(),
                known.constant.clone(),
                known.codes.grid.as_deref().cloned(),
            ),
            None => (Vec::new(), None, None),
        };
        let id = self.values.len();
        let annotation = self.model.annotations.get(&slot).copied();
        let name = self.name(slot).to_owned();
        self.values.push(Value {
            name,
            shape,
            constant,
            annotation,
            stored,
            file_axes: None,
            aliases: self.model.aliases.get(&slot).cloned().unwrap_or_default(),
        });
        self.makers.push(None);
        if let Some(known) = &mut self.known[slot] {
            known.value = Some(id);
        }
        id
    }

    /// Makes a tensor that the file does not name.
    pub(crate) fn temporary(&mut self, base: Slot, suffix: &str) -> Slot {
        let wanted = format!("{}.{suffix}", self.name(base));
        let name = unused(&mut self.value_names, &mut self.made, &wanted);
        self.added.push(name);
        self.known.push(None);
        self.known.len() - 1
    }

    /// Sets a tensor's contents.
    pub(crate) fn set_constant(&mut self, slot: Slot, tensor: Tensor) -> Outcome<()> {
        elements(&tensor.shape, self.limits())?;
        self.known[slot] = Some(Known {
            shape: tensor.shape,
            constant: Some(tensor.data),
            codes: tensor.codes,
            reals: OnceCell::new(),
            value: None,
        });
        Ok(())
    }

    /// Counts the elements that folding is about to produce against the limits.
    pub(crate) fn budget(&mut self, shape: &[usize]) -> Outcome<usize> {
        let count = elements(shape, self.limits())?;
        self.folded_elements = self.folded_elements.saturating_add(count);
        let most = self.limits().folded(self.model.bytes);
        if self.folded_elements > most {
            return malformed(format!(
                "folded constants have more than {most} elements together, the limit ({})",
                Limits::MEMORY
            ));
        }
        Ok(count)
    }

    /// Adds the node's operation, or its result where all inputs are known and the operation folds.
    pub(crate) fn emit(
        &mut self,
        node: &FileNode,
        op: Op,
        inputs: &[Slot],
        shape: Vec<usize>,
        output: Slot,
    ) -> Outcome<()> {
        let names = [node.name.clone(), node.spelled().to_owned()];
        self.emit_named(names, op, inputs, shape, output)
    }

    /// Adds the node's operation on what codes stand for, whatever the grids of its inputs; its output has
    /// none, and it does not fold.
    pub(crate) fn emit_reals(
        &mut self,
        node: &FileNode,
        op: Op,
        inputs: &[Slot],
        shape: Vec<usize>,
        output: Slot,
    ) -> Outcome<()> {
        let names = [node.name.clone(), node.spelled().to_owned()];
        self.push(names, op, inputs, shape, output, Codes::default())
    }

    /// Adds an operation that the file's node needs before or after its own.
    pub(crate) fn emit_helper(
        &mut self,
        node: &FileNode,
        op: Op,
        inputs: &[Slot],
        shape: Vec<usize>,
        output: Slot,
        suffix: &str,
    ) -> Outcome<()> {
        let op_type = match op {
            Op::Reshape => "Reshape",
            Op::Transpose { .. } => "Transpose",
            Op::Quantize(_) => "QuantizeLinear",
            Op::Reinterpret { .. } => "Reinterpret",
            _ => node.spelled(),
        };
        let wanted = format!("{}.{suffix}", node.name);
        let name = unused(&mut self.node_names, &mut self.made, &wanted);
        self.emit_named([name, op_type.to_owned()], op, inputs, shape, output)
    }

    fn emit_named(
        &mut self,
        names: [String; 2],
        op: Op,
        inputs: &[Slot],
        shape: Vec<usize>,
        output: Slot,
    ) -> Outcome<()> {
        let mut tensors = Vec::with_capacity(inputs.len());
        for &slot in inputs {
            if !eval::folds(&op) {
                break;
            }
            match self.stored(slot)? {
                Some(tensor) => tensors.push(tensor),
                None => break,
            }
        }
        if eval::folds(&op) && tensors.len() == inputs.len() {
            return self.fold(&op, tensors, shape, output);
        }
        let codes = self.codes_after(&op, inputs, &shape)?;
        self.push(names, op, inputs, shape, output, codes)
    }

    /// Adds an operation (its name and the file's operator, then the operation).
    fn push(
        &mut self,
        [name, op_type]: [String; 2],
        op: Op,
        inputs: &[Slot],
        shape: Vec<usize>,
        output: Slot,
        codes: Codes,
    ) -> Outcome<()> {
        if elements(&shape, self.limits())? == 0 {
            return malformed(format!(
                "its output has shape {shape:?}, which has no element"
            ));
        }
        for &slot in inputs {
            if elements(self.shape(slot)?, self.limits())? == 0 {
                return malformed(format!(
                    "its input '{}' has no element",
                    shown(self.name(slot))
                ));
            }
        }
        let inputs = inputs.iter().map(|&slot| self.value(slot)).collect();
        self.known[output] = Some(Known {
            shape,
            constant: None,
            codes,
            reals: OnceCell::new(),
            value: None,
        });
        let output = self.value(output);
        self.makers[output] = Some(self.nodes.len());
        self.nodes.push(Node {
            name,
            op_type,
            op,
            inputs,
            output,
        });
        Ok(())
    }

    /// The result of an operation on constants. Movements keep codes, and the grid of reals that are stored
    /// as codes; arithmetic is on what they stand for.
    fn fold(
        &mut self,
        op: &Op,
        mut tensors: Vec<Tensor>,
        shape: Vec<usize>,
        output: Slot,
    ) -> Outcome<()> {
        let Some(first) = tensors.first() else {
            return malformed("it has no input");
        };
        let integer = first.codes.integer;
        let alike = |t: &Tensor| t.codes == first.codes;
        let mut codes = Codes {
            integer,
            clipped: first
                .codes
                .clipped
                .filter(|_| grid::moves(op) && tensors.iter().all(alike)),
            grid: None,
        };
        if tensors.iter().any(|t| t.codes.stands_for_reals()) {
            codes.grid = match &first.codes.grid {
                Some(own) if tensors.iter().all(alike) && !matches!(op, Op::Pad(_)) => {
                    grid::moved(own, op, &first.shape, &shape)
                        .filter(|_| grid::moves(op))
                        .map(Arc::new)
                }
                _ => None,
            };
            if codes.grid.is_some() {
                // Somebody may ask for the reals.
                self.budget(&shape)?;
            } else {
                codes = Codes::default();
                for tensor in &mut tensors {
                    self.budget(&tensor.shape)?;
                    *tensor = grid::dequantized(tensor);
                }
            }
        }
        let data = if matches!(op, Op::Reshape | Op::Identity) {
            tensors[0].data.clone()
        } else {
            self.budget(&shape)?;
            Arc::new(eval::evaluate(op, &tensors, &shape)?)
        };
        self.set_constant(output, Tensor { shape, data, codes })
    }

    /// What the integers of an operation's output mean: what those of its input mean, where it only moves
    /// them.
    fn codes_after(&self, op: &Op, inputs: &[Slot], shape: &[usize]) -> Outcome<Codes> {
        let Some(&first) = inputs.first() else {
            return Ok(Codes::default());
        };
        let mut all = Vec::with_capacity(inputs.len());
        for &slot in inputs {
            all.push(self.codes(slot)?);
        }
        let plain = |codes: &&Codes| codes.grid.as_deref().is_none_or(grid::is_plain);
        let integers = all.iter().all(|codes| codes.integer.is_some());
        let own = match all.iter().find_map(|codes| codes.grid.as_ref()) {
            Some(own) if integers => own,
            _ if integers && grid::moves(op) => {
                return Ok(Codes {
                    integer: all[0].integer,
                    ..Codes::default()
                });
            }
            _ => return Ok(Codes::default()),
        };
        match op {
            Op::Binary(Binary::Add | Binary::AddShifted | Binary::Sub | Binary::Mul)
            | Op::Activation(Activation::Relu | Activation::Clip { .. })
                if all.iter().all(plain) =>
            {
                Ok(Codes {
                    integer: all[0].integer,
                    clipped: None,
                    grid: Some(own.clone()),
                })
            }
            _ if grid::moves(op) => {
                for codes in &all {
                    match &codes.grid {
                        Some(other) if grid::same(own, other) => {}
                        Some(other) => {
                            return unsupported(format!(
                                "it joins {} with {}; requantize them to one grid first",
                                grid::describe(own),
                                grid::describe(other)
                            ));
                        }
                        None => return unsupported("it joins codes with plain integers"),
                    }
                }
                match grid::moved(own, op, self.shape(first)?, shape) {
                    Some(grid) => Ok(Codes {
                        integer: all[0].integer,
                        clipped: None,
                        grid: Some(Arc::new(grid)),
                    }),
                    None => unsupported(format!(
                        "it mixes the channels of codes that are {}",
                        grid::describe(own)
                    )),
                }
            }
            Op::Resize(_) => unsupported(format!(
                "it computes between codes ({}); dequantize them first",
                grid::describe(own)
            )),
            _ => Ok(Codes::default()),
        }
    }

    /// Passes a tensor on under another shape, without an operation where it has that shape already.
    pub(crate) fn reshaped(
        &mut self,
        node: &FileNode,
        slot: Slot,
        shape: &[usize],
        suffix: &str,
    ) -> Outcome<Slot> {
        if self.shape(slot)? == shape {
            return Ok(slot);
        }
        let output = self.temporary(slot, suffix);
        self.emit_helper(node, Op::Reshape, &[slot], shape.to_vec(), output, suffix)?;
        Ok(output)
    }

    fn finish(mut self, inputs: Vec<ValueId>) -> Result<Graph, Error> {
        let model = self.model;
        let mut outputs = Vec::with_capacity(model.outputs.len());
        for &slot in &model.outputs {
            if let Err(fail) = self.known(slot) {
                return Err(fail.in_file(&model.path, "graph output"));
            }
            outputs.push(self.value(slot));
        }
        let mut graph = Graph {
            name: model.graph_name.clone(),
            inputs,
            outputs,
            integer: model.format == "qoperator",
            values: self.values,
            nodes: self.nodes,
        };
        prune(&mut graph);
        Ok(graph)
    }
}

/// Takes `wanted`, or `wanted_<number>`: the number only grows, so that a file full of lookalikes costs no
/// more than its size.
fn unused(taken: &mut HashSet<Cow<str>>, made: &mut usize, wanted: &str) -> String {
    let mut name = wanted.to_owned();
    while !taken.insert(Cow::Owned(name.clone())) {
        *made += 1;
        name = format!("{wanted}_{made}");
    }
    name
}

/// Drops operations that nothing reads (their readers were folded), then values without a node.
pub(crate) fn prune(graph: &mut Graph) {
    let mut needed = vec![false; graph.values.len()];
    for &id in &graph.outputs {
        needed[id] = true;
    }
    let mut live = vec![false; graph.nodes.len()];
    for (index, node) in graph.nodes.iter().enumerate().rev() {
        if needed[node.output] {
            live[index] = true;
            for &id in &node.inputs {
                needed[id] = true;
            }
        }
    }
    for &id in &graph.inputs {
        needed[id] = true;
    }
    let mut keep = live.into_iter();
    graph.nodes.retain(|_| keep.next().unwrap_or(false));
    let mut moved: HashMap<ValueId, ValueId> = HashMap::with_capacity(graph.values.len());
    let values = std::mem::take(&mut graph.values);
    for (id, value) in values.into_iter().enumerate() {
        if needed[id] {
            moved.insert(id, graph.values.len());
            graph.values.push(value);
        }
    }
    let ids = graph.inputs.iter_mut().chain(&mut graph.outputs);
    let ids = ids.chain(
        graph
            .nodes
            .iter_mut()
            .flat_map(|n| n.inputs.iter_mut().chain([&mut n.output])),
    );
    for id in ids {
        if let Some(&to) = moved.get(id) {
            *id = to;
        }
    }
}

/// The shape of an input: what is asked for, checked against the file, or what the file says.
fn input_shape(input: &FileInput, asked: Option<&Vec<usize>>) -> Result<Vec<usize>, String> {
    let file = |dims: &[Option<usize>]| {
        let text: Vec<_> = dims
            .iter()
            .map(|d| d.map_or("?".to_owned(), |d| d.to_string()))
            .collect();
        format!("[{}]", text.join(", "))
    };
    match (&input.dims, asked) {
        (None, None) => Err("the file gives it no shape: give one".to_owned()),
        (None, Some(asked)) => Ok(asked.clone()),
        (Some(dims), Some(asked)) => {
            let fits = dims.len() == asked.len()
                && dims
                    .iter()
                    .zip(asked)
                    .all(|(dim, asked)| dim.is_none_or(|dim| dim == *asked));
            if fits {
                return Ok(asked.clone());
            }
            Err(format!(
                "shape {asked:?} was given, the file says {}",
                file(dims)
            ))
        }
        (Some(dims), None) => {
            let fill = |(axis, dim): (usize, &Option<usize>)| dim.or((axis == 0).then_some(1));
            let shape: Option<Vec<usize>> = dims.iter().enumerate().map(fill).collect();
            shape.ok_or_else(|| format!("the file leaves its shape open, {}: give one", file(dims)))
        }
    }
}

impl FileNode {
    pub(crate) fn attrs(&self) -> Attrs<'_> {
        Attrs(&self.attributes)
    }

    /// The operator, as the file spells it.
    pub(crate) fn spelled(&self) -> &str {
        self.spelling.as_deref().unwrap_or(&self.op_type)
    }

    /// The slot of an input that may be left out.
    pub(crate) fn optional(&self, index: usize) -> Option<Slot> {
        self.inputs.get(index).copied().flatten()
    }

    /// The slot of the first output, which every operator has.
    pub(crate) fn output(&self) -> Outcome<Slot> {
        match self.outputs.first() {
            Some(&Some(slot)) => Ok(slot),
            _ => malformed("it has no first output"),
        }
    }
}
