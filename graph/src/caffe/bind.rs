//! Binds a network to input shapes: walks the layers in order and makes their values.
//!
//! A layer with `gfpq_param` computes on NNIE's logarithmic grid: each bottom gets a quantizer whose exponent
//! is that of its clip value, and weights one whose exponent is that of their own largest magnitude ("the
//! inputs of the same layer share the same z, and the weights of the same layer share the same z":
//! `ModelTC/MQBench` `docs/source/user_guide/hardware/nnie.rst`). 16 bits where the layer's name ends in `_hp`
//! (`HiSVP` development guide, compile mode 2), else 8.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::{Layer, Model, Net, ops};
use crate::model::only_inputs;
use crate::onnx::bind::prune;
use crate::onnx::fail::{Fail, Outcome, malformed, shown};
use crate::onnx::tensor::elements;
use crate::{Constant, Error, Gfpq, Graph, Limits, Node, Op, Quantizer, Value, ValueId};

/// The graph under construction.
pub(super) struct Binder<'m> {
    model: &'m Model,
    /// The value of each tensor, once a layer has made it.
    made: Vec<Option<ValueId>>,
    /// Quantized values by what they quantize.
    quantized: HashMap<(ValueId, u32, Option<i32>), ValueId>,
    /// Which layer's weights a name of shared ones stands for.
    shared: HashMap<&'m str, (usize, usize)>,
    value_names: HashSet<String>,
    node_names: HashSet<String>,
    values: Vec<Value>,
    nodes: Vec<Node>,
    constant_elements: usize,
}

pub(super) fn graph(model: &Model, shapes: &BTreeMap<String, Vec<usize>>) -> Result<Graph, Error> {
    let mut shared = HashMap::new();
    for (index, layer) in model.net.layers.iter().enumerate() {
        for (blob, name) in layer.shared.iter().enumerate() {
            if !name.is_empty() {
                shared.entry(name.as_str()).or_insert((index, blob));
            }
        }
    }
    let mut binder = Binder {
        model,
        made: vec![None; model.net.names.len()],
        quantized: HashMap::new(),
        shared,
        value_names: model.net.names.iter().cloned().collect(),
        node_names: model.net.layers.iter().map(|l| l.name.clone()).collect(),
        values: Vec::new(),
        nodes: Vec::new(),
        constant_elements: 0,
    };
    let inputs = binder.inputs(shapes)?;
    for layer in &model.net.layers {
        binder
            .layer(layer)
            .map_err(|fail| fail.at_node(&model.path, &layer.name, &layer.kind))?;
    }
    let made = &binder.made;
    let outputs = model.net.outputs.iter().filter_map(|&slot| made[slot]);
    let mut graph = Graph {
        name: model.net.name.clone(),
        inputs,
        outputs: outputs.collect(),
        integer: false,
        values: binder.values,
        nodes: binder.nodes,
    };
    prune(&mut graph);
    Ok(graph)
}

/// The quantizers of a layer's bottoms; none where it has no `gfpq_param`.
fn quantizers(layer: &Layer) -> Outcome<Vec<Gfpq>> {
    let bits = if layer.name.ends_with("_hp") { 16 } else { 8 };
    let gfpq = |&clip: &f32| match Gfpq::of_clip(bits, clip) {
        Some(gfpq) => Ok(gfpq),
        None => malformed(format!("gfpq_param: a clip value of {clip}")),
    };
    let all = layer.clips.iter().map(gfpq).collect::<Outcome<Vec<_>>>()?;
    let bottoms = layer.bottoms.len();
    match all.as_slice() {
        [] => Ok(all),
        [one] => Ok(vec![*one; bottoms]),
        _ if all.len() == bottoms => Ok(all),
        _ => malformed(format!(
            "gfpq_param has {} clip values for {bottoms} bottoms",
            all.len()
        )),
    }
}

/// What is assumed of clip values, and how many layers have some.
pub(super) fn gfpq_notes(net: &Net) -> Vec<String> {
    let with = net.layers.iter().filter(|l| !l.clips.is_empty()).count();
    if with == 0 {
        return Vec::new();
    }
    let mut notes = vec![format!(
        "gfpq_param: {with} of {} layers have clip values; the weights of these are quantized by their largest \
         magnitude",
        net.layers.len()
    )];
    for layer in &net.layers {
        for (clip, gfpq) in layer
            .clips
            .iter()
            .zip(quantizers(layer).unwrap_or_default())
        {
            if let (Some(z), Some((below, above))) = (gfpq.z, gfpq.off_table(*clip)) {
                notes.push(format!(
                    "layer '{}': clip value {clip} is no row of gfpq_param_table_{}bit.txt; z = {z}, of the row \
                     below it ({below}; the row above: {above})",
                    shown(&layer.name),
                    gfpq.bits()
                ));
            }
        }
    }
    notes
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
        let names = &model.net.names;
        let known = model.net.inputs.iter().map(|input| &names[input.slot]);
        only_inputs(&model.path, shapes, known)?;
        let mut ids = Vec::with_capacity(model.net.inputs.len());
        for input in &model.net.inputs {
            let name = &names[input.slot];
            let asked = shapes.get(name);
            let stated = |(axis, dim): (usize, &Option<usize>)| match asked {
                Some(asked) if axis == 0 || dim.is_none() => asked.get(axis).copied(),
                _ => dim.or((axis == 0).then_some(1)),
            };
            let shape: Option<Vec<usize>> = input.dims.iter().enumerate().map(stated).collect();
            let shape = match (shape, asked) {
                (Some(shape), Some(asked)) if shape == *asked => shape,
                (_, Some(asked)) => {
                    let what = format!(
                        "shape {asked:?} was given, the file says {:?}, of which only the first extent (the batch) \
                         and open ones may change",
                        input.dims
                    );
                    return Err(error(name, what));
                }
                (Some(shape), None) => shape,
                (None, None) => {
                    let what = "the file leaves its shape open: give one".to_owned();
                    return Err(error(name, what));
                }
            };
            match elements(&shape, &model.limits) {
                Ok(0) => return Err(error(name, format!("shape {shape:?} has no element"))),
                Ok(_) => {}
                Err(fail) => {
                    return Err(fail.in_file(&model.path, &format!("input '{}'", shown(name))));
                }
            }
            let id = self.value(name.clone(), shape, None);
            self.made[input.slot] = Some(id);
            ids.push(id);
        }
        Ok(ids)
    }

    fn layer(&mut self, layer: &'m Layer) -> Outcome<()> {
        let mut inputs = Vec::with_capacity(layer.bottoms.len());
        let grids = quantizers(layer)?;
        for (index, &slot) in layer.bottoms.iter().enumerate() {
            let Some(value) = self.made[slot] else {
                return malformed("a bottom is not computed");
            };
            inputs.push(match grids.get(index) {
                Some(&gfpq) => self.quantize(layer, value, gfpq)?,
                None => value,
            });
        }
        ops::lower(self, layer, &inputs)?;
        match layer.tops.iter().find(|&&slot| self.made[slot].is_none()) {
            None => Ok(()),
            Some(&slot) => malformed(format!(
                "top '{}' is one more than this layer makes",
                shown(&self.model.net.names[slot])
            )),
        }
    }

    /// A value behind the logarithmic quantizer; the same one for all layers that ask for the same.
    fn quantize(&mut self, layer: &Layer, value: ValueId, gfpq: Gfpq) -> Outcome<ValueId> {
        let key = (value, gfpq.bits(), gfpq.z);
        if let Some(&id) = self.quantized.get(&key) {
            return Ok(id);
        }
        let plain = format!("{}.gfpq", self.values[value].name);
        let name = if self.value_names.contains(&plain) {
            format!("{plain}.{}", layer.name)
        } else {
            plain
        };
        let op = Op::Quantize(Quantizer::Gfpq(gfpq));
        let shape = self.values[value].shape.clone();
        let id = self.named(&name, "Gfpq", op, vec![value], shape)?;
        self.quantized.insert(key, id);
        Ok(id)
    }

    /// Shape of a value.
    pub(super) fn shape(&self, id: ValueId) -> &[usize] {
        &self.values[id].shape
    }

    fn value(&mut self, name: String, shape: Vec<usize>, constant: Option<Constant>) -> ValueId {
        self.values.push(Value {
            name,
            shape,
            constant: constant.map(Arc::new),
            annotation: None,
            stored: None,
            file_axes: None,
            aliases: Vec::new(),
        });
        self.values.len() - 1
    }

    /// A constant that follows from the layer's parameters.
    pub(super) fn constant(
        &mut self,
        layer: &Layer,
        role: &str,
        shape: Vec<usize>,
        data: Vec<f32>,
    ) -> Outcome<ValueId> {
        self.constant_elements = self.constant_elements.saturating_add(data.len());
        if self.constant_elements > self.limits().constant_elements {
            return malformed(format!(
                "constants have more than {} elements together, the limit ({})",
                self.limits().constant_elements,
                Limits::CONSTANTS
            ));
        }
        let name = unused(&mut self.value_names, &format!("{}.{role}", layer.name));
        Ok(self.value(name, shape, Some(Constant::F32(data))))
    }

    /// A blob of a layer: its own or, where it has none, that of the layer which it shares it with.
    pub(super) fn blob(&self, layer: &Layer, index: usize, shape: &[usize]) -> Outcome<Vec<f32>> {
        let Some(weights) = &self.model.weights else {
            let beside = self.model.path.with_extension("caffemodel");
            return malformed(format!(
                "it needs weights: {} does not exist, and no other file is named (--weights)",
                beside.display()
            ));
        };
        let (mut owner, mut at) = (layer, index);
        if weights.count(&layer.name) == 0
            && let Some(name) = layer.shared.get(index).filter(|name| !name.is_empty())
            && let Some(&(of, blob)) = self.shared.get(name.as_str())
        {
            (owner, at) = (&self.model.net.layers[of], blob);
        }
        weights.blob(&owner.name, at, shape, self.limits())
    }

    /// A blob as a constant.
    pub(super) fn parameter(
        &mut self,
        layer: &Layer,
        index: usize,
        role: &str,
        shape: Vec<usize>,
    ) -> Outcome<ValueId> {
        let data = self.blob(layer, index, &shape)?;
        self.constant(layer, role, shape, data)
    }

    /// Blob 0 as weights: behind a quantizer of their own where the layer has `gfpq_param`.
    pub(super) fn weights(&mut self, layer: &Layer, shape: Vec<usize>) -> Outcome<ValueId> {
        let id = self.parameter(layer, 0, "weight", shape)?;
        match quantizers(layer)?.first() {
            None => Ok(id),
            Some(&Gfpq { width, .. }) => self.quantize(layer, id, Gfpq { width, z: None }),
        }
    }

    /// An operation whose result is the layer's top at `index`.
    pub(super) fn emit(
        &mut self,
        layer: &Layer,
        index: usize,
        op: Op,
        inputs: Vec<ValueId>,
        shape: Vec<usize>,
    ) -> Outcome<()> {
        let Some(&slot) = layer.tops.get(index) else {
            return malformed(format!("it has no top {index}"));
        };
        let net = &self.model.net;
        let id = self.value(net.names[slot].clone(), shape, None);
        if !net.aliases[slot].is_empty() {
            self.values[id].aliases.push(net.aliases[slot].clone());
        }
        let name = if index == 0 {
            layer.name.clone()
        } else {
            unused(&mut self.node_names, &format!("{}.{index}", layer.name))
        };
        self.push(name, &layer.kind, op, inputs, id)?;
        self.made[slot] = Some(id);
        Ok(())
    }

    /// An operation whose result is no blob of the file.
    pub(super) fn helper(
        &mut self,
        layer: &Layer,
        role: &str,
        op: Op,
        inputs: Vec<ValueId>,
        shape: Vec<usize>,
    ) -> Outcome<ValueId> {
        self.named(
            &format!("{}.{role}", layer.name),
            &layer.kind,
            op,
            inputs,
            shape,
        )
    }

    fn named(
        &mut self,
        name: &str,
        op_type: &str,
        op: Op,
        inputs: Vec<ValueId>,
        shape: Vec<usize>,
    ) -> Outcome<ValueId> {
        let value = unused(&mut self.value_names, name);
        let id = self.value(value, shape, None);
        let name = unused(&mut self.node_names, name);
        self.push(name, op_type, op, inputs, id)?;
        Ok(id)
    }

    fn push(
        &mut self,
        name: String,
        op_type: &str,
        op: Op,
        inputs: Vec<ValueId>,
        output: ValueId,
    ) -> Outcome<()> {
        let shape = &self.values[output].shape;
        if elements(shape, self.limits())? == 0 {
            return malformed(format!("its top of shape {shape:?} has no element"));
        }
        if self.nodes.len() >= self.limits().nodes {
            return malformed(format!(
                "more than {} operations, the limit ({})",
                self.limits().nodes,
                Limits::NODES
            ));
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
}

/// A name that nobody has yet.
fn unused(taken: &mut HashSet<String>, wanted: &str) -> String {
    let mut name = wanted.to_owned();
    let mut count = 1;
    while !taken.insert(name.clone()) {
        count += 1;
        name = format!("{wanted}_{count}");
    }
    name
}

/// An axis that may be counted from the end.
pub(super) fn axis(axis: i64, rank: usize) -> Outcome<usize> {
    let rank = rank as i64;
    let found = if axis < 0 { axis + rank } else { axis };
    if (0..rank).contains(&found) {
        return Ok(found as usize);
    }
    Err(Fail::Malformed(format!(
        "axis {axis} of a blob with {rank} axes"
    )))
}
