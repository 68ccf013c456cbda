//! Small graphs put together by hand, and run under a target layer by layer: for models of formats that the
//! tool does not import.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use align_check::check::Target;
use align_check::inputs::read_arrays;
use align_check_graph::{
    Activation, Affine, Constant, Conv, Graph, Node, Op, PerChannel, Quantizer, Rounding, Value,
    ValueId, ZeroPointAdded,
};
use align_check_simulators::adapt::ValueGrid;
use align_check_simulators::kernels::Isa;
use align_check_simulators::network::Network;
use align_check_simulators::run::Runner;
use align_check_simulators::tensor::{Data, Tensor};
use align_check_specs::{Rounding as Round, Spec};

use crate::simulate::finished;

/// A graph under construction. Nodes carry the names of the tensors that they make.
#[derive(Debug)]
pub struct Assembly(Graph);

/// One scale, zero point 0, the whole range of an integer type.
pub fn grid(scale: f32, bits: u32, signed: bool) -> Affine {
    Affine {
        scale: PerChannel::uniform(scale),
        zero_point: PerChannel::uniform(0.0),
        bits,
        signed,
        narrow: false,
        rounding: Rounding::HalfEven,
        zero_point_added: ZeroPointAdded::AfterRounding,
        multiplier: None,
    }
}

/// A convolution without groups, of stride 1, without padding.
pub fn plain_conv(kernel: &[usize]) -> Conv {
    Conv {
        kernel: kernel.to_vec(),
        strides: vec![1; kernel.len()],
        pads_before: vec![0; kernel.len()],
        pads_after: vec![0; kernel.len()],
        dilations: vec![1; kernel.len()],
        groups: 1,
    }
}

impl Assembly {
    /// An empty graph.
    pub fn new(name: &str) -> Self {
        Self(Graph {
            name: name.to_owned(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            integer: true,
            values: Vec::new(),
            nodes: Vec::new(),
        })
    }

    fn value(
        &mut self,
        name: &str,
        shape: &[usize],
        constant: Option<Constant>,
        stored: Option<Affine>,
    ) -> ValueId {
        self.0.values.push(Value {
            name: name.to_owned(),
            shape: shape.to_vec(),
            constant: constant.map(Arc::new),
            annotation: None,
            stored,
            file_axes: None,
            aliases: Vec::new(),
        });
        self.0.values.len() - 1
    }

    /// A graph input of codes.
    pub fn input(&mut self, name: &str, shape: &[usize], grid: Affine) -> ValueId {
        let id = self.value(name, shape, None, Some(grid));
        self.0.inputs.push(id);
        id
    }

    /// A constant of codes.
    pub fn codes(&mut self, name: &str, shape: &[usize], codes: Vec<i64>, grid: Affine) -> ValueId {
        self.value(name, shape, Some(Constant::I64(codes)), Some(grid))
    }

    /// A constant of reals.
    pub fn reals(&mut self, name: &str, shape: &[usize], reals: Vec<f32>) -> ValueId {
        self.value(name, shape, Some(Constant::F32(reals)), None)
    }

    /// A node, and the value that it makes.
    pub fn node(&mut self, name: &str, op: Op, inputs: &[ValueId], shape: &[usize]) -> ValueId {
        let output = self.value(name, shape, None, None);
        let op_type = format!("{op:?}");
        let end = op_type.find(|c: char| !c.is_alphanumeric());
        self.0.nodes.push(Node {
            name: name.to_owned(),
            op_type: op_type[..end.unwrap_or(op_type.len())].to_owned(),
            op,
            inputs: inputs.to_vec(),
            output,
        });
        output
    }

    /// A node that keeps the shape of its first input.
    pub fn like(&mut self, name: &str, op: Op, inputs: &[ValueId]) -> ValueId {
        let shape = self.shape(inputs[0]);
        self.node(name, op, inputs, &shape)
    }

    /// A `ReLU`.
    pub fn relu(&mut self, name: &str, x: ValueId) -> ValueId {
        self.like(name, Op::Activation(Activation::Relu), &[x])
    }

    /// A quantizer.
    pub fn quantize(&mut self, name: &str, x: ValueId, grid: Affine) -> ValueId {
        self.like(name, Op::Quantize(Quantizer::Affine(grid)), &[x])
    }

    /// Shape of a value.
    pub fn shape(&self, id: ValueId) -> Vec<usize> {
        self.0.shape(id).to_vec()
    }

    /// The network, cut into layers.
    ///
    /// # Panics
    /// It is refused.
    pub fn network(mut self, outputs: &[ValueId]) -> Network {
        self.0.outputs = outputs.to_vec();
        Network::new(self.0).unwrap_or_else(|e| panic!("{e}"))
    }
}

/// Tensors by name: codes, or reals where a tensor has none.
pub type Tensors = BTreeMap<String, Vec<f64>>;

/// Runs a network under a spec; returns what every layer makes. A tensor that `forced` holds is replaced by
/// it before another layer reads it.
///
/// # Panics
/// The target has no counterpart for a layer, other grids than the model's, or computes a layer in float that
/// `float` does not name.
pub fn run(
    network: &Network,
    spec: &Spec,
    inputs: &Tensors,
    forced: &Tensors,
    float: &[&str],
) -> Tensors {
    let isa = Isa::detect();
    let target = Target::new(network, spec.clone(), None, isa).unwrap_or_else(|e| panic!("{e}"));
    let on = |id: ValueId, numbers: &[f64]| {
        let shape = network.graph.shape(id).to_vec();
        match &target.grids[id] {
            ValueGrid::Codes { grid, .. } => {
                let codes = numbers.iter().map(|&q| q as i32).collect();
                Tensor::codes(shape, codes, grid.clone())
            }
            _ => Tensor::real(shape, numbers.to_vec()),
        }
    };
    let mut values: Vec<Option<Tensor>> = vec![None; network.graph.values.len()];
    for &input in &network.graph.inputs {
        values[input] = Some(on(input, &inputs[network.name(input)]));
    }
    let mut made = Tensors::new();
    for (layer, plan) in network.layers.iter().zip(&target.plans) {
        assert!(plan.mismatches.is_empty(), "{:?}", plan.mismatches);
        let known = float.contains(&layer.tensor.as_str());
        assert_eq!(plan.float, known, "{}: {:?}", layer.tensor, plan.finish);
        let runner = Runner { layer, plan, isa };
        let read: Vec<&Tensor> = layer
            .inputs
            .iter()
            .map(|&i| values[i].as_ref().expect("layers are in order"))
            .collect();
        let out = finished(&runner, &read);
        let numbers = match &out.data {
            Data::Codes { codes, .. } => codes.iter().map(|&q| f64::from(q)).collect(),
            Data::Real(reals) => reals.clone(),
        };
        let name = network.name(layer.output);
        values[layer.output] = Some(match forced.get(name) {
            Some(numbers) => on(layer.output, numbers),
            None => out,
        });
        made.insert(name.to_owned(), numbers);
    }
    made
}

/// Numbers that differ.
///
/// # Panics
/// There are not as many of both.
pub fn differing(a: &[f64], b: &[f64]) -> usize {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).filter(|(a, b)| a != b).count()
}

/// The arrays of an `.npz`, or the one of an `.npy` under an empty name: shape and numbers.
///
/// # Panics
/// The file cannot be read.
pub fn arrays(path: &Path) -> BTreeMap<String, (Vec<usize>, Vec<f64>)> {
    read_arrays(path)
        .unwrap_or_else(|e| panic!("{e}"))
        .into_iter()
        .map(|(key, array)| (key, (array.shape, array.values)))
        .collect()
}

/// A spec with another rounding in the last step of `[requantize]`.
///
/// # Panics
/// The spec has no steps.
#[must_use]
pub fn rounding(mut spec: Spec, rounding: Round) -> Spec {
    spec.requantize.steps.last_mut().expect("a step").rounding = rounding;
    spec
}

/// A tensor with its axes in another order: axis `i` of the result is axis `perm[i]`.
pub fn permuted<T: Copy>(values: &[T], shape: &[usize], perm: &[usize]) -> Vec<T> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    let out: Vec<usize> = perm.iter().map(|&p| shape[p]).collect();
    (0..values.len())
        .map(|index| {
            let (mut rest, mut at) = (index, 0);
            for axis in (0..out.len()).rev() {
                at += rest % out[axis] * strides[perm[axis]];
                rest /= out[axis];
            }
            values[at]
        })
        .collect()
}
