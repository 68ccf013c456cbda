//! Binds a model to input shapes: walks the operators in order, keeps for each tensor its shape, its
//! contents where they are known, and the values that hold it, one for each order of axes.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::flat::Table;
use super::grid::Grid;
use super::schema::options_type;
use super::{FileNode, Model, Slot, data, ops};
use crate::model::only_inputs;
use crate::onnx::bind::prune;
use crate::onnx::eval::{strided, strides};
use crate::onnx::fail::{Outcome, malformed, shown, unsupported};
use crate::onnx::tensor::elements;
use crate::{
    Activation, Affine, Constant, Error, Graph, Limits, Node, Op, PerChannel, Quantizer, Value,
    ValueId,
};

/// Order of a view's axes: axis `j` of the value is axis `order[j]` of the file's tensor.
pub(super) type Order = Vec<usize>;

/// Channels first.
pub(super) const CHANNELS_FIRST: [usize; 4] = [0, 3, 1, 2];

/// The file's own order.
pub(super) fn file_order(rank: usize) -> Order {
    (0..rank).collect()
}

/// Where each axis of the file's tensor is in a view.
pub(super) fn inverse(order: &[usize]) -> Order {
    let mut inverse = vec![0; order.len()];
    for (to, &from) in order.iter().enumerate() {
        inverse[from] = to;
    }
    inverse
}

/// A list with one entry an axis, in the order of a view.
pub(super) fn permuted<T: Clone>(list: &[T], order: &[usize]) -> Vec<T> {
    order.iter().map(|&axis| list[axis].clone()).collect()
}

/// Whether a tensor's elements lie in the same order as the file's: only axes of extent 1 have moved.
fn keeps_order(shape: &[usize], order: &[usize]) -> bool {
    let moved: Vec<usize> = order
        .iter()
        .copied()
        .filter(|&axis| shape[axis] != 1)
        .collect();
    moved.is_sorted()
}

/// What is known of a tensor.
#[derive(Debug)]
struct Known {
    /// In the file's order.
    shape: Vec<usize>,
    /// In the file's order.
    constant: Option<Arc<Constant>>,
    /// The values that hold it; the first one has the file's name.
    views: Vec<(Order, ValueId)>,
}

/// What follows an operator's own operation.
pub(super) struct Behind {
    /// The fused activation.
    pub activation: Option<(&'static str, Activation)>,
    /// Shape that the result gets.
    pub reshape: Option<Vec<usize>>,
    /// Whether an integer output is quantized: not where codes are only moved.
    pub quantize: bool,
}

impl Behind {
    /// A quantizer, where the output holds integers.
    pub(super) fn computed() -> Self {
        Self {
            activation: None,
            reshape: None,
            quantize: true,
        }
    }

    /// An activation, then a quantizer.
    pub(super) fn activated(activation: Option<(&'static str, Activation)>) -> Self {
        Self {
            activation,
            ..Self::computed()
        }
    }
}

/// The graph under construction.
pub(super) struct Binder<'m> {
    model: &'m Model,
    known: Vec<Option<Known>>,
    value_names: HashSet<String>,
    node_names: HashSet<String>,
    made: usize,
    values: Vec<Value>,
    nodes: Vec<Node>,
    constant_elements: usize,
    folded_elements: usize,
    /// Whether an input has another shape than the file says: then the file's other shapes do not hold.
    resized: bool,
}

pub(super) fn graph(model: &Model, shapes: &BTreeMap<String, Vec<usize>>) -> Result<Graph, Error> {
    let mut binder = Binder {
        model,
        known: model.tensors.iter().map(|_| None).collect(),
        value_names: model.tensors.iter().map(|t| t.name.clone()).collect(),
        node_names: model.nodes.iter().map(|n| n.name.clone()).collect(),
        made: 0,
        values: Vec::new(),
        nodes: Vec::new(),
        constant_elements: 0,
        folded_elements: 0,
        resized: false,
    };
    let inputs = binder.inputs(shapes)?;
    for node in &model.nodes {
        ops::lower(&mut binder, node)
            .map_err(|fail| fail.at_node(&model.path, &node.name, &node.op_type))?;
    }
    binder.finish(inputs)
}

impl<'m> Binder<'m> {
    pub(super) fn limits(&self) -> &'m Limits {
        &self.model.limits
    }

    fn inputs(&mut self, shapes: &BTreeMap<String, Vec<usize>>) -> Result<Vec<ValueId>, Error> {
        let model = self.model;
        let error = |input: &str, what: String| Error::Input {
            path: model.path.clone(),
            input: shown(input),
            what,
        };
        let named = |&slot: &Slot| &model.tensors[slot].name;
        only_inputs(&model.path, shapes, model.inputs.iter().map(named))?;
        let mut ids = Vec::with_capacity(model.inputs.len());
        for &slot in &model.inputs {
            let tensor = &model.tensors[slot];
            let shape = match shapes.get(&tensor.name) {
                None => tensor.shape.clone(),
                Some(asked) => {
                    let mut axes = asked.iter().zip(&tensor.shape).enumerate();
                    let fits = asked.len() == tensor.shape.len()
                        && axes.all(|(axis, (asked, dim))| {
                            axis == 0 || asked == dim || tensor.open[axis]
                        });
                    if !fits {
                        return Err(error(
                            &tensor.name,
                            format!(
                                "shape {asked:?} was given, the file says {:?}, of which only the \
                                 first extent (the batch) may change",
                                tensor.shape
                            ),
                        ));
                    }
                    asked.clone()
                }
            };
            match elements(&shape, &model.limits) {
                Ok(0) => {
                    return Err(error(
                        &tensor.name,
                        format!("shape {shape:?} has no element"),
                    ));
                }
                Ok(_) => {}
                Err(fail) => {
                    let subject = format!("input '{}'", shown(&tensor.name));
                    return Err(fail.in_file(&model.path, &subject));
                }
            }
            if let Grid::Unknown(what) = &tensor.grid {
                return Err(error(&tensor.name, what.clone()));
            }
            self.resized |= shape != tensor.shape;
            self.known[slot] = Some(Known {
                shape,
                constant: None,
                views: Vec::new(),
            });
            let order = file_order(tensor.shape.len());
            ids.push(
                self.add_view(slot, &order)
                    .map_err(|fail| fail.in_file(&model.path, "an input"))?,
            );
        }
        Ok(ids)
    }

    fn name(&self, slot: Slot) -> String {
        shown(&self.model.tensors[slot].name)
    }

    /// Makes sure that something is known of a tensor that is read.
    fn touch(&mut self, slot: Slot) -> Outcome<()> {
        if self.known[slot].is_some() {
            return Ok(());
        }
        let tensor = &self.model.tensors[slot];
        if let Some(trouble) = tensor.trouble {
            return unsupported(format!("tensor '{}': {trouble}", self.name(slot)));
        }
        let count = elements(&tensor.shape, self.limits())?;
        if tensor.data.is_none() && count > 0 {
            return unsupported(format!(
                "tensor '{}' is an output that align-check does not compute",
                self.name(slot)
            ));
        }
        self.constant_elements = self.constant_elements.saturating_add(count);
        if self.constant_elements > self.limits().constant_elements {
            return malformed(format!(
                "constants have more than {} elements together, the limit ({})",
                self.limits().constant_elements,
                Limits::CONSTANTS
            ));
        }
        let constant = data::decode(tensor, &self.model.bytes, self.limits())
            .map_err(|fail| fail.about(&format!("tensor '{}'", self.name(slot))))?;
        self.known[slot] = Some(Known {
            shape: tensor.shape.clone(),
            constant: Some(Arc::new(constant)),
            views: Vec::new(),
        });
        Ok(())
    }

    fn known(&mut self, slot: Slot) -> Outcome<&mut Known> {
        self.touch(slot)?;
        match &mut self.known[slot] {
            Some(known) => Ok(known),
            None => unsupported("a tensor is not computed"),
        }
    }

    /// Shape of a tensor, in the file's order.
    pub(super) fn shape(&mut self, slot: Slot) -> Outcome<Vec<usize>> {
        Ok(self.known(slot)?.shape.clone())
    }

    /// The shape that the file gives a tensor, where it holds; an open batch is 1.
    pub(super) fn stated_shape(&self, slot: Slot) -> Option<&'m [usize]> {
        let tensor = &self.model.tensors[slot];
        let holds = !self.resized && !tensor.open.iter().skip(1).any(|&open| open);
        (tensor.has_shape && holds).then_some(tensor.shape.as_slice())
    }

    /// A tensor's contents, where they are known.
    pub(super) fn constant(&mut self, slot: Slot) -> Outcome<Option<Arc<Constant>>> {
        Ok(self.known(slot)?.constant.clone())
    }

    /// What a tensor's elements mean.
    pub(super) fn grid(&self, slot: Slot) -> &'m Grid {
        &self.model.tensors[slot].grid
    }

    /// The tensor of an input that must be there.
    #[allow(
        clippy::unused_self,
        reason = "reads like its siblings at the many places of use"
    )]
    pub(super) fn input(&self, node: &FileNode, index: usize) -> Outcome<Slot> {
        match node.optional(index) {
            Some(slot) => Ok(slot),
            None => malformed(format!("input {} is missing", index + 1)),
        }
    }

    /// The same, for arithmetic: it must be clear what the elements mean.
    pub(super) fn operand(&mut self, node: &FileNode, index: usize) -> Outcome<Slot> {
        let slot = self.input(node, index)?;
        self.meaning(slot)?;
        self.touch(slot)?;
        Ok(slot)
    }

    /// Whether it is clear what a tensor's elements mean.
    pub(super) fn meaning(&self, slot: Slot) -> Outcome<()> {
        let tensor = &self.model.tensors[slot];
        match &tensor.grid {
            Grid::Float | Grid::Codes(_) => Ok(()),
            Grid::Bare { .. } => malformed(format!(
                "tensor '{}' holds integers ({}), but has no quantization parameters",
                self.name(slot),
                tensor.kind.name()
            )),
            Grid::Unknown(what) => unsupported(format!("tensor '{}': {what}", self.name(slot))),
        }
    }

    /// The contents of a parameter of integers, if it is given.
    pub(super) fn ints(&mut self, node: &FileNode, index: usize) -> Outcome<Option<Vec<i64>>> {
        let Some(slot) = node.optional(index) else {
            return Ok(None);
        };
        match self.constant(slot)?.as_deref() {
            Some(Constant::I64(values)) => Ok(Some(values.clone())),
            Some(Constant::F32(_)) => malformed(format!("input {} must hold integers", index + 1)),
            None => unsupported(format!(
                "its parameter '{}' is computed from data; it must be a constant, or follow from shapes",
                self.name(slot)
            )),
        }
    }

    /// The same for a parameter that must be there.
    pub(super) fn needed_ints(&mut self, node: &FileNode, index: usize) -> Outcome<Vec<i64>> {
        self.input(node, index)?;
        Ok(self.ints(node, index)?.unwrap_or_default())
    }

    /// An operator's options; `None` where the file leaves all defaults.
    pub(super) fn options(&self, node: &FileNode) -> Outcome<Option<Table<'m>>> {
        let Some((kind, at)) = node.options else {
            return Ok(None);
        };
        let expected = options_type(&node.op_type);
        if expected.is_some_and(|expected| expected != kind) {
            return malformed(format!("its options are of another operator (kind {kind})"));
        }
        Table::new(&self.model.bytes, at).map(Some)
    }

    /// The order of axes of the first view of a tensor; the file's where there is none yet.
    pub(super) fn order(&mut self, slot: Slot) -> Outcome<Order> {
        let known = self.known(slot)?;
        Ok(match known.views.first() {
            Some((order, _)) => order.clone(),
            None => file_order(known.shape.len()),
        })
    }

    fn has_view(&mut self, slot: Slot, order: &[usize]) -> Outcome<bool> {
        let known = self.known(slot)?;
        Ok(known.views.iter().any(|(own, _)| own == order))
    }

    /// The order of axes in which an elementwise operator, or one that joins tensors, works: one that all
    /// inputs have, else channels first, else the file's.
    pub(super) fn common_order(&mut self, slots: &[Slot]) -> Outcome<Order> {
        let mut rank = 0;
        let mut computed = Vec::new();
        for &slot in slots {
            let known = self.known(slot)?;
            rank = rank.max(known.shape.len());
            if known.constant.is_none() && known.shape.iter().any(|&dim| dim != 1) {
                computed.push((slot, known.shape.len()));
            }
        }
        let file = file_order(rank);
        if rank != 4 || computed.is_empty() || computed.iter().any(|&(_, own)| own != 4) {
            return Ok(file);
        }
        let mut all = (true, true);
        for &(slot, _) in &computed {
            all.0 &= self.has_view(slot, &CHANNELS_FIRST)?;
            all.1 &= self.has_view(slot, &file)?;
        }
        Ok(match all {
            (false, true) => file,
            _ => CHANNELS_FIRST.to_vec(),
        })
    }

    /// The value that holds a tensor in an order of axes; made where there is none yet. An order longer than
    /// the tensor's rank sees it with leading axes of extent 1, as numpy broadcasts.
    pub(super) fn view(&mut self, slot: Slot, order: &[usize]) -> Outcome<ValueId> {
        let known = self.known(slot)?;
        if let Some((_, id)) = known.views.iter().find(|(own, _)| own == order) {
            return Ok(*id);
        }
        let rank = known.shape.len();
        if known.shape.iter().all(|&dim| dim == 1) && rank < order.len() {
            return self.view(slot, &file_order(rank));
        }
        if known.constant.is_some() {
            return self.add_view(slot, order);
        }
        let (from, source) = match known.views.first() {
            Some((from, source)) if rank == order.len() => (from.clone(), *source),
            _ => return unsupported("it broadcasts a computed tensor of fewer axes"),
        };
        let to = inverse(&from);
        let perm = order.iter().map(|&axis| to[axis]).collect();
        let id = self.add_view(slot, order)?;
        let name = self.unused_node(&self.values[id].name.clone());
        self.nodes.push(Node {
            name,
            op_type: "TRANSPOSE".to_owned(),
            op: Op::Transpose { perm },
            inputs: vec![source],
            output: id,
        });
        Ok(id)
    }

    /// A value that holds a tensor's elements in the file's order, whatever the order of axes: for operators
    /// that only see a list of elements.
    pub(super) fn flat_view(&mut self, slot: Slot) -> Outcome<ValueId> {
        let known = self.known(slot)?;
        let shape = known.shape.clone();
        let found = known
            .views
            .iter()
            .find(|(order, _)| order.len() == shape.len() && keeps_order(&shape, order));
        match found {
            Some(&(_, id)) => Ok(id),
            None => self.view(slot, &file_order(shape.len())),
        }
    }

    /// Adds the value of a tensor in an order of axes.
    fn add_view(&mut self, slot: Slot, order: &[usize]) -> Outcome<ValueId> {
        let tensor = &self.model.tensors[slot];
        if let Grid::Unknown(what) = &tensor.grid {
            return unsupported(format!("tensor '{}': {what}", self.name(slot)));
        }
        let stored = tensor.grid.stored();
        if stored.is_none() && tensor.grid != Grid::Float {
            return unsupported(format!(
                "tensor '{}' of type {} is used as data",
                self.name(slot),
                tensor.kind.name()
            ));
        }
        let known = self.known(slot)?;
        let (shape, constant) = (known.shape.clone(), known.constant.clone());
        let first = known.views.is_empty();
        let rank = shape.len();
        let missing = order.len().saturating_sub(rank);
        let extended: Vec<usize> = std::iter::repeat_n(1, missing)
            .chain(shape.iter().copied())
            .collect();
        let constant = match constant {
            Some(constant) if *order != file_order(order.len()) => {
                Some(self.transposed(&constant, &extended, order)?)
            }
            other => other,
        };
        let is_file_order = *order == file_order(rank);
        let name = if first {
            tensor.name.clone()
        } else {
            let kind = match order {
                _ if is_file_order => "file order".to_owned(),
                [0, 3, 1, 2] => "channels first".to_owned(),
                _ => format!("axes {order:?}"),
            };
            self.unused_value(&format!("{} ({kind})", tensor.name))
        };
        let to = inverse(order);
        let id = self.values.len();
        self.values.push(Value {
            name,
            shape: permuted(&extended, order),
            constant,
            annotation: None,
            stored: stored.map(|stored| moved(stored, &to, missing)),
            file_axes: (!is_file_order).then(|| to[missing..].to_vec()),
            aliases: if first {
                tensor.aliases(slot)
            } else {
                Vec::new()
            },
        });
        self.known(slot)?.views.push((order.to_vec(), id));
        Ok(id)
    }

    fn transposed(
        &mut self,
        constant: &Constant,
        shape: &[usize],
        order: &[usize],
    ) -> Outcome<Arc<Constant>> {
        self.budget(shape)?;
        let steps = permuted(&strides(shape), order);
        Ok(Arc::new(strided(
            constant,
            &permuted(shape, order),
            &steps,
            0,
        )?))
    }

    /// Counts the elements that are about to be made against the limits.
    pub(super) fn budget(&mut self, shape: &[usize]) -> Outcome<usize> {
        let count = elements(shape, self.limits())?;
        self.folded_elements = self.folded_elements.saturating_add(count);
        let most = self.limits().folded(self.model.bytes());
        if self.folded_elements > most {
            return malformed(format!(
                "derived constants have more than {most} elements together, the limit ({})",
                Limits::MEMORY
            ));
        }
        Ok(count)
    }

    /// A name that no value has. The number only grows, so that a file full of lookalikes costs no more
    /// than its size.
    fn unused_value(&mut self, wanted: &str) -> String {
        unused(&mut self.value_names, &mut self.made, wanted)
    }

    fn unused_node(&mut self, wanted: &str) -> String {
        unused(&mut self.node_names, &mut self.made, wanted)
    }

    /// Sets the contents of a tensor that follows from constants.
    pub(super) fn set_constant(
        &mut self,
        slot: Slot,
        shape: Vec<usize>,
        constant: Arc<Constant>,
    ) -> Outcome<()> {
        elements(&shape, self.limits())?;
        self.check_shape(slot, &shape)?;
        self.known[slot] = Some(Known {
            shape,
            constant: Some(constant),
            views: Vec::new(),
        });
        Ok(())
    }

    /// A constant that the file does not have.
    pub(super) fn new_constant(
        &mut self,
        name: &str,
        shape: Vec<usize>,
        constant: Constant,
        stored: Option<Affine>,
    ) -> ValueId {
        let name = self.unused_value(name);
        self.values.push(Value {
            name,
            shape,
            constant: Some(Arc::new(constant)),
            annotation: None,
            stored,
            file_axes: None,
            aliases: Vec::new(),
        });
        self.values.len() - 1
    }

    /// A bias as `(channels)`; where the file gives integers no scale, the input's times the weights'.
    pub(super) fn bias(
        &mut self,
        node: &FileNode,
        index: usize,
        channels: usize,
        scales: [Slot; 2],
    ) -> Outcome<Option<ValueId>> {
        let Some(slot) = node.optional(index) else {
            return Ok(None);
        };
        let shape = self.shape(slot)?;
        if elements(&shape, self.limits())? != channels {
            return malformed(format!(
                "its bias has shape {shape:?}, which must be [{channels}]"
            ));
        }
        let Grid::Bare { bits, signed } = *self.grid(slot) else {
            self.meaning(slot)?;
            if shape.len() == 1 {
                return self.view(slot, &[0]).map(Some);
            }
            let source = self.view(slot, &file_order(shape.len()))?;
            let name = format!("{} (flat)", self.name(slot));
            let output = self.temporary(&name, vec![channels]);
            let name = self.unused_node(&format!("{}.bias", node.name));
            self.push(name, "RESHAPE", Op::Reshape, vec![source], output)?;
            return Ok(Some(output));
        };
        let (Some(constant), [Grid::Codes(x), Grid::Codes(w)]) =
            (self.constant(slot)?, scales.map(|slot| self.grid(slot)))
        else {
            self.meaning(slot)?;
            return Ok(None);
        };
        let scale = x.scale.at(0);
        let scale = PerChannel {
            values: w.scale.values.iter().map(|w| scale * w).collect(),
            axis: w.scale.axis.map(|_| 0),
        };
        if let Some(bad) = scale.values.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
            return malformed(format!("the scale of its bias would be {bad}"));
        }
        if scale.values.len() > 1 && scale.values.len() != channels {
            return malformed("its weights have another number of scales than channels");
        }
        let stored = super::grid::affine(scale, PerChannel::uniform(0.0), bits, signed);
        self.budget(&[channels])?;
        let name = format!("{} (of {})", self.name(slot), node.name);
        let values = Constant::clone(&constant);
        Ok(Some(self.new_constant(
            &name,
            vec![channels],
            values,
            Some(stored),
        )))
    }

    fn temporary(&mut self, name: &str, shape: Vec<usize>) -> ValueId {
        let name = self.unused_value(name);
        self.values.push(Value {
            name,
            shape,
            constant: None,
            annotation: None,
            stored: None,
            file_axes: None,
            aliases: Vec::new(),
        });
        self.values.len() - 1
    }

    /// An operation on values whose result is no tensor of the file.
    pub(super) fn helper(
        &mut self,
        node: &FileNode,
        suffix: &str,
        op: Op,
        inputs: Vec<ValueId>,
        shape: Vec<usize>,
    ) -> Outcome<ValueId> {
        let name = self.unused_node(&format!("{}.{suffix}", node.name));
        let op_type = match op {
            Op::Reshape => "RESHAPE",
            _ => &node.op_type,
        };
        let output = self.temporary(&name, shape);
        self.push(name, op_type, op, inputs, output)?;
        Ok(output)
    }

    fn push(
        &mut self,
        name: String,
        op_type: &str,
        op: Op,
        inputs: Vec<ValueId>,
        output: ValueId,
    ) -> Outcome<()> {
        for &id in inputs.iter().chain([&output]) {
            let value = &self.values[id];
            if elements(&value.shape, self.limits())? == 0 {
                return malformed(format!(
                    "tensor '{}' of shape {:?} has no element",
                    shown(&value.name),
                    value.shape
                ));
            }
        }
        self.nodes.push(Node {
            name,
            op_type: op_type.to_owned(),
            op,
            inputs,
            output,
        });
        Ok(())
    }

    /// Whether the file says that a tensor has this shape, as far as it says so.
    fn check_shape(&self, slot: Slot, shape: &[usize]) -> Outcome<()> {
        let tensor = &self.model.tensors[slot];
        if self.resized || !tensor.has_shape {
            return Ok(());
        }
        let fits = tensor.shape.len() == shape.len()
            && (0..shape.len()).all(|axis| tensor.open[axis] || tensor.shape[axis] == shape[axis]);
        if fits {
            return Ok(());
        }
        malformed(format!(
            "tensor '{}' would have shape {shape:?}, the file says {:?}",
            self.name(slot),
            tensor.shape
        ))
    }

    /// Emits an operator: its operation with a result of `shape`, what follows it, and the value of the
    /// output tensor, whose axes are in `order`.
    pub(super) fn produce(
        &mut self,
        node: &FileNode,
        output: usize,
        (op, inputs): (Op, Vec<ValueId>),
        behind: Behind,
        shape: Vec<usize>,
        order: &[usize],
    ) -> Outcome<()> {
        let Some(&slot) = node.outputs.get(output) else {
            return malformed(format!("output {} is missing", output + 1));
        };
        if elements(&shape, self.limits())? == 0 {
            return malformed(format!(
                "its output has shape {shape:?}, which has no element"
            ));
        }
        let to = inverse(order);
        // A reshape ends in the file's order; the operation's own shape is the one before it.
        let (own, last) = match behind.reshape {
            Some(reshape) => (shape, reshape),
            None => (shape.clone(), shape),
        };
        let file_shape = permuted(&last, &to);
        self.check_shape(slot, &file_shape)?;
        let mut steps = vec![(node.op_type.clone(), op)];
        if let Some((name, activation)) = behind.activation {
            steps.push((name.to_owned(), Op::Activation(activation)));
        }
        let reshaped = steps.len();
        if own != last {
            steps.push(("RESHAPE".to_owned(), Op::Reshape));
        }
        if behind.quantize && *self.grid(slot) != Grid::Float {
            self.meaning(slot)?;
            if let Some(grid) = self.grid(slot).stored() {
                let quantizer = Quantizer::Affine(moved(grid, &to, 0));
                // The quantizer is the operation itself.
                if matches!(steps[..], [(_, Op::Identity)]) && node.op_type == "QUANTIZE" {
                    steps.clear();
                }
                steps.push(("QUANTIZE".to_owned(), Op::Quantize(quantizer)));
            }
        }
        let many = node.outputs.len() > 1;
        let base = if many {
            format!("{}.{output}", node.name)
        } else {
            node.name.clone()
        };
        let mut names = Vec::with_capacity(steps.len());
        for (index, (kind, _)) in steps.iter().enumerate() {
            names.push(match (index, many) {
                (0, false) => base.clone(),
                (0, true) => self.unused_node(&base),
                _ => self.unused_node(&format!("{base}.{kind}")),
            });
        }
        self.known[slot] = Some(Known {
            shape: file_shape,
            constant: None,
            views: Vec::new(),
        });
        let tensor = self.model.tensors[slot].name.clone();
        let count = steps.len();
        let kinds: Vec<String> = steps.iter().map(|(kind, _)| kind.clone()).collect();
        let mut inputs = inputs;
        for (index, ((kind, op), name)) in steps.into_iter().zip(names).enumerate() {
            let made = if index + 1 == count {
                self.add_view(slot, order)?
            } else {
                let shape = if index < reshaped { &own } else { &last };
                let before = format!("{tensor} (before {})", kinds[index + 1]);
                self.temporary(&before, shape.clone())
            };
            self.push(name, &kind, op, inputs, made)?;
            inputs = vec![made];
        }
        Ok(())
    }

    fn finish(mut self, inputs: Vec<ValueId>) -> Result<Graph, Error> {
        let model = self.model;
        let mut outputs = Vec::with_capacity(model.outputs.len());
        for &slot in &model.outputs {
            let id = self.output(slot);
            outputs.push(id.map_err(|fail| fail.in_file(&model.path, "graph output"))?);
        }
        let mut graph = Graph {
            name: model.graph_name.clone(),
            inputs,
            outputs,
            integer: true,
            values: self.values,
            nodes: self.nodes,
        };
        prune(&mut graph);
        Ok(graph)
    }

    /// A view for an operator that broadcasts: shapes in the file's order need no leading axes.
    pub(super) fn broadcast_view(&mut self, slot: Slot, order: &[usize]) -> Outcome<ValueId> {
        if order.is_sorted() {
            let rank = self.known(slot)?.shape.len();
            return self.view(slot, &file_order(rank));
        }
        self.view(slot, order)
    }

    fn output(&mut self, slot: Slot) -> Outcome<ValueId> {
        let order = self.order(slot)?;
        self.view(slot, &order)
    }
}

fn unused(taken: &mut HashSet<String>, made: &mut usize, wanted: &str) -> String {
    let mut name = wanted.to_owned();
    while !taken.insert(name.clone()) {
        *made += 1;
        name = format!("{wanted}_{made}");
    }
    name
}

/// A grid of the file's tensor as that of a view, whose axes are at `to`, behind `missing` others.
fn moved(mut grid: Affine, to: &[usize], missing: usize) -> Affine {
    for axis in [&mut grid.scale.axis, &mut grid.zero_point.axis] {
        *axis = axis.map(|axis| to.get(axis + missing).copied().unwrap_or(axis));
    }
    grid
}

impl FileNode {
    /// The tensor of an input that may be left out.
    pub(super) fn optional(&self, index: usize) -> Option<Slot> {
        self.inputs.get(index).copied().flatten()
    }

    /// The first output, which every operator has.
    pub(super) fn output(&self) -> Outcome<Slot> {
        match self.outputs.first() {
            Some(&slot) => Ok(slot),
            None => malformed("it has no output"),
        }
    }
}
