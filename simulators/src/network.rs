//! Layers: the units that are simulated and compared.
//!
//! A layer is one operation that needs arithmetic of its own (a convolution, an add, a mean, a table
//! look-up, ...), the elementwise operations that follow it with nobody else reading in between, and the
//! quantizer that ends them. This is the grouping that every target and the reference share; it does not
//! depend on a target, so their outputs can be compared one to one.

use std::sync::Arc;

use align_check_graph::{
    self as graph, Activation, Binary, Constant, Graph, Node, Op, Quantizer, ValueId,
};

use align_check_specs::Product;

use crate::error::Error;
use crate::num::Trace;
use crate::num::trace::short;
use crate::ops::{constant, movement::Movement, window::Windows};
use crate::quantize::CodeGrid;
use crate::tensor::{Channels, Data, Tensor};

/// A graph cut into layers, with every constant evaluated.
#[derive(Debug)]
pub struct Network {
    /// The graph that it was made from.
    pub graph: Graph,
    /// Layers in execution order.
    pub layers: Vec<Layer>,
}

/// One unit of simulation and comparison.
#[derive(Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is one fact about the layer, independent of the others"
)]
pub struct Layer {
    /// Name of the node that does the arithmetic.
    pub name: String,
    /// Operators of the layer, joined by `+` (`Conv+Relu`); the quantizer is not named, except where it
    /// is alone.
    pub op: String,
    /// Name of the tensor that the layer makes.
    pub tensor: String,
    /// What is computed.
    pub kind: Kind,
    /// Values that are read and not constant, in the operation's order.
    pub inputs: Vec<ValueId>,
    /// Elementwise steps behind it, on reals.
    pub posts: Vec<Post>,
    /// The quantizer at the end.
    pub quantizer: Option<Quantizer>,
    /// Name of its node; empty where there is none.
    pub quantizer_node: String,
    /// The value that is made.
    pub output: ValueId,
    /// Shape of the operation's result, before [`posts`](Self::posts).
    pub result_shape: Vec<usize>,
    /// Shape of the output: the same elements in the same order.
    pub shape: Vec<usize>,
    /// Whether the output leaves the network as the reals that its elements mean: no layer reads it, and the
    /// file does not store it as integers.
    pub leaves: bool,
    /// Shapes of [`inputs`](Self::inputs).
    pub input_shapes: Vec<Vec<usize>>,
    /// Where the file has the output's axes in another order: axis `i` of the file's tensor is axis
    /// `file_axes[i]`.
    pub file_axes: Option<Vec<usize>>,
    /// Whether the file stores the output as integers.
    pub stored: bool,
    /// Whether the file computes it in integers, too.
    pub integer: bool,
    /// The convolution that is a part of this addition, where a target has it so (`[placement] residual`).
    pub joined: Option<Joined>,
    /// Whether this is such a convolution.
    pub joins: bool,
    /// Whether a constant other than the weights becomes other codes by `x * f32(1 / scale)`.
    pub tied_constant: bool,
    /// How many layers read the output; the network's caller counts as one.
    pub readers: usize,
    /// How many layers read each of [`inputs`](Self::inputs).
    pub input_readers: Vec<usize>,
}

/// The operand of an addition that comes from a convolution of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Joined {
    /// Which operand.
    pub operand: usize,
    /// The quantizer between the convolution and the addition.
    pub inner: Option<Quantizer>,
}

/// The arithmetic of a layer.
#[derive(Debug)]
pub enum Kind {
    /// Sums of products of an activation with constant weights.
    Linear(Linear),
    /// Matrix product of two activations (or with a constant that is not a plain weight matrix).
    MatMul(MatMul),
    /// Elementwise with two inputs, either of which may be a constant.
    Binary {
        /// Which one.
        op: Binary,
        /// The operands.
        operands: [Operand; 2],
        /// Their shapes.
        shapes: [Vec<usize>; 2],
    },
    /// Mean over windows.
    Average {
        /// The windows.
        windows: Windows,
        /// Whether the model asks for a mean over whole axes (`GlobalAveragePool`, `ReduceMean`), and not
        /// for a pool whose window happens to be as large.
        axes: bool,
        /// Channels of the result, where this is the mean over height and width of an image that keeps
        /// these axes.
        image: Option<Channels>,
    },
    /// Maximum over windows.
    MaxPool(Windows),
    /// Elements are moved, not computed.
    Movement(Movement),
    /// Inputs are joined along an axis.
    Concat {
        /// The axis.
        axis: usize,
        /// What is joined.
        operands: Vec<Operand>,
    },
    /// Linear resampling.
    Resample(graph::Resize),
    /// Softmax along an axis.
    Softmax {
        /// The axis.
        axis: usize,
        /// What the input is multiplied by.
        beta: f32,
    },
    /// The same codes, read with another grid.
    Reinterpret {
        /// How they were meant.
        from: graph::Affine,
        /// How they are read.
        to: graph::Affine,
    },
    /// One output of a quantizer whose scale follows from its input's range.
    DynamicQuantize(graph::DynamicPart),
    /// Nothing but [`Layer::posts`] and the quantizer.
    Pass,
}

/// An operand that is an activation or a constant.
#[derive(Debug, Clone)]
pub enum Operand {
    /// The layer's input with this position.
    Input(usize),
    /// A constant.
    Constant(Arc<Tensor>),
}

/// A layer of sums of products with constant weights, brought into the form of a convolution.
#[derive(Debug)]
pub struct Linear {
    /// Which form the input has to be brought into.
    pub form: LinearForm,
    /// The convolution.
    pub shape: crate::kernels::ConvShape,
    /// Weights as `(out channels, in channels / groups, kernel)`.
    pub weights: Arc<Tensor>,
    /// The same weights as `w * f32(1 / scale)` makes them, where the file has a quantizer for float weights and the
    /// two give other codes. `None`: the same.
    pub by_reciprocal: Option<Arc<Tensor>>,
    /// Bias, one entry an output channel.
    pub bias: Option<LinearBias>,
    /// A bias that differs from row to row of a matrix product.
    pub rows: Option<RowBias>,
    /// Factor of the product (`alpha` of `Gemm`, else 1).
    pub factor: f64,
    /// Images in the batch.
    pub batch: usize,
    /// Which kernel computes it.
    pub product: Product,
}

/// The entries of a bias.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearBias {
    /// As reals.
    pub reals: Vec<f64>,
    /// As the integers that a model file stores, in units of input scale times weight scale: there they are
    /// added to the accumulator as they are, whatever scale the file states for them.
    pub codes: Option<Vec<i64>>,
    /// How the file quantizes it.
    pub stated: Option<StatedBias>,
}

/// The grid that a file states for a bias.
#[derive(Debug, Clone, PartialEq)]
pub struct StatedBias {
    /// Scale of each entry.
    pub scales: Vec<f64>,
    /// Width of its codes.
    pub bits: u32,
}

/// A bias that differs from row to row.
#[derive(Debug, Clone, PartialEq)]
pub struct RowBias {
    /// The entries.
    pub entries: LinearBias,
    /// Which element of the result belongs to which entry.
    pub channels: Channels,
}

/// How the input of a [`Linear`] layer becomes an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinearForm {
    /// It is one.
    Image,
    /// Zeros are inserted between its elements and around them (transposed convolution); the numbers are
    /// the strides, and the extent of the image without its border.
    Spread {
        /// Distance between elements, per axis.
        strides: [usize; 2],
        /// Input extent.
        extent: [usize; 2],
        /// Zeros before the first element, per axis; negative: elements cut off.
        before: [isize; 2],
    },
    /// Rows of a matrix `(rows, columns)` are the positions and columns the channels; the output has
    /// rows of output channels.
    Rows {
        /// Number of rows.
        rows: usize,
        /// Whether the matrix is stored as `(columns, rows)`.
        transposed: bool,
    },
    /// Columns of a matrix are the positions, rows the channels.
    Columns,
}

/// A matrix product of two tensors `(batch..., n, k) x (batch..., k, m)`.
#[derive(Debug)]
pub struct MatMul {
    /// The operands.
    pub operands: [Operand; 2],
    /// Their shapes.
    pub shapes: [Vec<usize>; 2],
}

/// An elementwise step on reals.
#[derive(Debug, Clone, PartialEq)]
pub enum Post {
    /// `x * mul + add`, per channel.
    Affine {
        /// Factors.
        mul: Vec<f64>,
        /// Offsets.
        add: Vec<f64>,
        /// Which element belongs to which entry.
        channels: Channels,
    },
    /// `min(max(x, lo), hi)`
    Clamp {
        /// Lower bound.
        lo: f64,
        /// Upper bound.
        hi: f64,
    },
    /// `x < 0 ? slope * x : x`, per channel.
    Leaky {
        /// Slopes.
        slope: Vec<f64>,
        /// Which element belongs to which entry.
        channels: Channels,
    },
    /// A function of one real.
    Function(Activation),
}

impl Network {
    /// Cuts a graph into layers and evaluates what is constant.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where an operation has no simulation in this combination of operands.
    pub fn new(graph: Graph) -> Result<Self, Error> {
        Self::cut_at(graph, &|_| false)
    }

    /// As [`new`](Self::new), with layers that end at the tensors of these names as well: no step behind such a
    /// tensor joins the layer that makes it.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn cut_at(graph: Graph, ends: &dyn Fn(&str) -> bool) -> Result<Self, Error> {
        let mut builder = Builder::new(&graph, ends);
        for index in 0..graph.nodes.len() {
            if !builder.used[index] {
                builder.node(index)?;
            }
        }
        let layers = builder.layers;
        // What layers need of the constants, they hold.
        let mut graph = graph;
        for value in &mut graph.values {
            value.constant = None;
        }
        let mut network = Self { graph, layers };
        network.count_readers();
        Ok(network)
    }

    /// Name of a value.
    pub fn name(&self, value: ValueId) -> &str {
        &self.graph.values[value].name
    }

    /// How the file stores a graph input, where it wants integer codes.
    pub fn stored(&self, value: ValueId) -> Option<&graph::Affine> {
        self.graph.values[value].stored.as_ref()
    }

    /// The grid of a graph input that the file annotates with an integer type: scale 1, zero point 0.
    pub fn annotated_grid(&self, value: ValueId) -> Option<CodeGrid> {
        let range = self.graph.values[value].annotation?;
        (i32::try_from(range.min).is_ok() && i32::try_from(range.max).is_ok())
            .then(|| CodeGrid::uniform(1.0, 0, range.min, range.max))
    }

    /// Fills [`Layer::readers`] and [`Layer::input_readers`]: a layer that only says how codes are read
    /// (`DequantizeLinear`) passes on who reads it.
    fn count_readers(&mut self) {
        let mut readers = vec![0; self.graph.values.len()];
        for &output in &self.graph.outputs {
            readers[output] += 1;
        }
        for layer in self.layers.iter().rev() {
            let behind = if layer.is_plain_pass() {
                readers[layer.output]
            } else {
                1
            };
            for &input in &layer.inputs {
                readers[input] += behind;
            }
        }
        // What is passed on is read as often as what it is made of.
        let mut sources = readers.clone();
        for layer in &mut self.layers {
            layer.input_readers = layer.inputs.iter().map(|&i| sources[i]).collect();
            if layer.is_plain_pass() {
                sources[layer.output] = sources[layer.inputs[0]];
            }
            layer.readers = sources[layer.output];
        }
    }

    /// For each layer, the values that nobody reads after it.
    pub fn last_uses(&self) -> Vec<Vec<ValueId>> {
        let mut last = vec![None; self.graph.values.len()];
        for (index, layer) in self.layers.iter().enumerate() {
            for &input in layer.inputs.iter().chain([&layer.output]) {
                last[input] = Some(index);
            }
        }
        for &output in &self.graph.outputs {
            last[output] = None;
        }
        let mut uses = vec![Vec::new(); self.layers.len()];
        for (value, layer) in last.into_iter().enumerate() {
            if let Some(layer) = layer {
                uses[layer].push(value);
            }
        }
        uses
    }
}

impl Layer {
    /// Whether outputs are compared: everything but pure data movement.
    pub fn is_compared(&self) -> bool {
        self.quantizer.is_some()
            || !self.posts.is_empty()
            || !matches!(
                self.kind,
                Kind::Movement(_)
                    | Kind::Concat { .. }
                    | Kind::MaxPool(_)
                    | Kind::Reinterpret { .. }
                    | Kind::Pass
            )
    }

    /// Whether this does nothing: a node that only says how codes are read.
    pub fn is_plain_pass(&self) -> bool {
        matches!(self.kind, Kind::Pass) && self.posts.is_empty() && self.quantizer.is_none()
    }

    /// The extents of a tensor that is broadcast to the output, in the file's order of axes.
    pub fn in_file_order(&self, shape: &[usize]) -> Vec<usize> {
        let missing = self.shape.len().saturating_sub(shape.len());
        let full: Vec<usize> = std::iter::repeat_n(1, missing)
            .chain(shape.iter().copied())
            .collect();
        match &self.file_axes {
            Some(axes) => axes.iter().map(|&axis| full[axis]).collect(),
            None => full,
        }
    }

    /// For each element of the output, whether kernels that walk over the file's tensor in calls of `run`
    /// elements do it in whole blocks of `block`.
    pub fn in_blocks(&self, run: usize, block: usize) -> Arc<[bool]> {
        let whole = run - run % block.max(1);
        let inside = |position: usize| position % run.max(1) < whole;
        let count: usize = self.shape.iter().product();
        let Some(axes) = &self.file_axes else {
            return (0..count).map(inside).collect();
        };
        // Distance in the file of two neighbours along each axis of the graph.
        let mut steps = vec![0; self.shape.len()];
        let mut step = 1;
        for &axis in axes.iter().rev() {
            steps[axis] = step;
            step *= self.shape[axis];
        }
        let own = crate::ops::movement::strides(&self.shape);
        (0..count)
            .map(|i| {
                let axes = 0..self.shape.len();
                inside(axes.map(|a| i / own[a] % self.shape[a] * steps[a]).sum())
            })
            .collect()
    }

    /// Number of terms that each output sums, for bounds of float summation errors.
    pub fn terms(&self) -> usize {
        match &self.kind {
            Kind::Linear(linear) => {
                let s = &linear.shape;
                s.channels / s.groups * s.kernel[0] * s.kernel[1]
            }
            Kind::MatMul(m) => m.shapes[0].last().copied().unwrap_or(1),
            Kind::Average { windows, .. } => windows.largest(),
            Kind::Binary { .. } | Kind::Resample(_) => 2,
            _ => 1,
        }
    }

    /// Channels of the operation's result: along axis 1 for images, along the last one for matrices.
    pub fn channels(&self) -> Channels {
        match &self.kind {
            Kind::Linear(linear) => match linear.form {
                LinearForm::Rows { .. } => Channels {
                    count: linear.shape.out_channels,
                    inner: 1,
                },
                _ => Channels {
                    count: linear.shape.out_channels,
                    inner: (linear.shape.out_height * linear.shape.out_width).max(1),
                },
            },
            _ => Channels::ONE,
        }
    }

    /// [`Self::posts`] as one factor and offset a channel of the operation's result, then one clamp, if
    /// they have that form.
    pub fn folded(&self) -> Option<Folded> {
        self.fold(&self.posts)
    }

    /// The same of the first of its steps.
    pub fn fold(&self, posts: &[Post]) -> Option<Folded> {
        let channels = self.channels();
        let mut folded = Folded {
            mul: vec![1.0; channels.count],
            add: vec![0.0; channels.count],
            lo: f64::NEG_INFINITY,
            hi: f64::INFINITY,
        };
        let mut clamped = false;
        for post in posts {
            match post {
                Post::Affine {
                    mul,
                    add,
                    channels: own,
                } if !clamped && (*own == Channels::ONE || *own == channels) => {
                    for c in 0..channels.count {
                        let own_channel = if own.count == 1 { 0 } else { c };
                        folded.mul[c] *= mul[own_channel];
                        folded.add[c] = folded.add[c] * mul[own_channel] + add[own_channel];
                    }
                }
                Post::Clamp { lo, hi } => {
                    clamped = true;
                    folded.lo = folded.lo.max(*lo).min(*hi);
                    folded.hi = folded.hi.min(*hi).max(*lo);
                }
                _ => return None,
            }
        }
        Some(folded)
    }
}

/// [`Layer::posts`] in the form that integer hardware has: a factor and an offset a channel, one clamp.
#[derive(Debug, Clone, PartialEq)]
pub struct Folded {
    /// Factor of each channel.
    pub mul: Vec<f64>,
    /// Offset of each channel, after the factor.
    pub add: Vec<f64>,
    /// Lower bound.
    pub lo: f64,
    /// Upper bound.
    pub hi: f64,
}

/// Evaluates [`Layer::posts`] for one element.
pub fn apply_posts(posts: &[Post], mut x: f64, index: usize) -> f64 {
    for post in posts {
        x = match post {
            Post::Affine { mul, add, channels } => {
                let c = channels.of_index(index);
                x * mul[c] + add[c]
            }
            Post::Clamp { lo, hi } => x.max(*lo).min(*hi),
            Post::Leaky { slope, channels } => {
                if x < 0.0 {
                    x * slope[channels.of_index(index)]
                } else {
                    x
                }
            }
            Post::Function(function) => crate::ops::real::activation(*function, x),
        };
    }
    x
}

/// [`apply_posts`] of every element of a tensor, from its first.
pub fn apply_posts_to_all(posts: &[Post], values: &mut [f64]) {
    for post in posts {
        match post {
            Post::Affine { mul, add, channels } => {
                for (c, run) in channels.runs(values.len()) {
                    let (mul, add) = (mul[c], add[c]);
                    values[run].iter_mut().for_each(|x| *x = *x * mul + add);
                }
            }
            Post::Clamp { lo, hi } => {
                let (lo, hi) = (*lo, *hi);
                values.iter_mut().for_each(|x| *x = x.max(lo).min(hi));
            }
            Post::Leaky { .. } | Post::Function(_) => {
                let post = std::slice::from_ref(post);
                for (i, x) in values.iter_mut().enumerate() {
                    *x = apply_posts(post, *x, i);
                }
            }
        }
    }
}

/// [`apply_posts`], step by step.
pub fn traced_posts(posts: &[Post], mut x: f64, index: usize, trace: &mut Trace) -> f64 {
    if !trace.is_on() {
        return apply_posts(posts, x, index);
    }
    for post in posts {
        let (name, how) = match post {
            Post::Affine { mul, add, channels } => {
                let c = channels.of_index(index);
                trace.step("factor", || "behind the operation".into(), mul[c]);
                trace.step("offset", || "behind the operation".into(), add[c]);
                ("scaled", short(x) + " * factor + offset")
            }
            Post::Clamp { lo, hi } => {
                let how = format!("{} to {}..{}", short(x), short(*lo), short(*hi));
                ("clipped", how)
            }
            Post::Leaky { slope, channels } if x < 0.0 => {
                trace.step("slope", String::new, slope[channels.of_index(index)]);
                ("sloped", short(x) + " * slope")
            }
            Post::Leaky { .. } => continue,
            Post::Function(function) => {
                let name = crate::rules::unary::name(*function);
                ("function", format!("{name}({})", short(x)))
            }
        };
        x = trace.step(
            name,
            || how,
            apply_posts(std::slice::from_ref(post), x, index),
        );
    }
    x
}

struct Builder<'g> {
    graph: &'g Graph,
    /// Names of tensors at which layers end.
    ends: &'g dyn Fn(&str) -> bool,
    readers: Vec<Vec<usize>>,
    /// What quantizers and data movement make of constants.
    made: Vec<Option<Arc<Tensor>>>,
    /// The same where multiplication with a reciprocal makes other codes than division by the scale.
    by_reciprocal: Vec<Option<Arc<Tensor>>>,
    used: Vec<bool>,
    layers: Vec<Layer>,
}

/// An operation and what to call it, before the steps behind it are attached.
struct Core<'g> {
    node: &'g Node,
    kind: Kind,
    inputs: Vec<ValueId>,
    first_post: Option<Post>,
}

impl<'g> Builder<'g> {
    fn new(graph: &'g Graph, ends: &'g dyn Fn(&str) -> bool) -> Self {
        Self {
            graph,
            ends,
            readers: graph.readers(),
            made: vec![None; graph.values.len()],
            by_reciprocal: vec![None; graph.values.len()],
            used: vec![false; graph.nodes.len()],
            layers: Vec::new(),
        }
    }

    fn unsupported(node: &Node, what: impl Into<String>) -> Error {
        Error::Unsupported {
            node: node.name.clone(),
            op_type: node.op_type.clone(),
            what: what.into(),
        }
    }

    fn is_constant(&self, value: ValueId) -> bool {
        self.made[value].is_some() || self.graph.values[value].constant.is_some()
    }

    fn constant(&self, value: ValueId) -> Option<Arc<Tensor>> {
        let file = &self.graph.values[value];
        self.made[value].clone().or_else(|| {
            file.constant
                .as_ref()
                .map(|c| Arc::new(constant::tensor(&file.shape, c, file.stored.as_ref())))
        })
    }

    /// A constant as multiplication with reciprocals makes it.
    fn reciprocal(&self, value: ValueId) -> Option<Arc<Tensor>> {
        let other = self.by_reciprocal[value].clone();
        other.or_else(|| self.constant(value))
    }

    /// Whether an input is a constant that multiplication with reciprocals changes.
    fn is_tied(&self, node: &Node) -> bool {
        let mut inputs = node.inputs.iter();
        inputs.any(|&i| self.by_reciprocal[i].is_some())
    }

    fn node(&mut self, index: usize) -> Result<(), Error> {
        let graph = self.graph;
        let node = &graph.nodes[index];
        if node.inputs.iter().all(|&i| self.is_constant(i)) {
            let file = &graph.values[node.inputs[0]];
            let evaluate = |op: &Op, constant: &dyn Fn(ValueId) -> Option<Arc<Tensor>>| {
                if let (Op::Quantize(quantizer), Some(Constant::F32(values))) =
                    (op, file.constant.as_deref())
                {
                    // Weights: straight from the file's numbers.
                    return Ok(constant::quantized(quantizer, values, &file.shape));
                }
                let inputs: Vec<_> = node.inputs.iter().filter_map(|&i| constant(i)).collect();
                constant::evaluate(op, &inputs, &graph.values[node.output].shape)
                    .map_err(|what| Self::unsupported(node, what))
            };
            let tensor = evaluate(&node.op, &|i| self.constant(i))?;
            let multiplied = match &node.op {
                Op::Quantize(quantizer) => quantizer.by_reciprocal().map(Op::Quantize),
                _ => None,
            };
            if multiplied.is_some() || self.is_tied(node) {
                let op = multiplied.as_ref().unwrap_or(&node.op);
                let other = evaluate(op, &|i| self.reciprocal(i))?;
                self.by_reciprocal[node.output] = (other != tensor).then(|| Arc::new(other));
            }
            self.made[node.output] = Some(Arc::new(tensor));
            self.used[index] = true;
            return Ok(());
        }
        let core = self.core(node)?;
        self.used[index] = true;
        self.finish_layer(core);
        Ok(())
    }

    fn core(&self, node: &'g Node) -> Result<Core<'g>, Error> {
        let graph = self.graph;
        let in_shape = |i: usize| graph.shape(node.inputs[i]);
        let out_shape = graph.shape(node.output);
        let plain = |kind| Core {
            node,
            kind,
            inputs: vec![node.inputs[0]],
            first_post: None,
        };
        let operands = || {
            let mut inputs = Vec::new();
            let operands: Vec<Operand> = node
                .inputs
                .iter()
                .map(|&i| {
                    if let Some(c) = self.constant(i) {
                        Operand::Constant(c)
                    } else {
                        inputs.push(i);
                        Operand::Input(inputs.len() - 1)
                    }
                })
                .collect();
            (operands, inputs)
        };
        Ok(match &node.op {
            Op::Conv(_) | Op::ConvTranspose(_) | Op::Gemm(_) | Op::MatMul => {
                let build = |constants: &dyn Fn(ValueId) -> Option<Arc<Tensor>>| {
                    crate::ops::linear::build(graph, node, constants)
                        .map_err(|what| Self::unsupported(node, what))
                };
                if let Some(mut built) = build(&|value| self.constant(value))? {
                    if self.is_tied(node)
                        && let Some(other) = build(&|value| self.reciprocal(value))?
                    {
                        let weights = other.linear.weights;
                        let same = weights == built.linear.weights;
                        built.linear.by_reciprocal = (!same).then_some(weights);
                    }
                    Core {
                        node,
                        kind: Kind::Linear(built.linear),
                        inputs: vec![built.input],
                        first_post: None,
                    }
                } else {
                    let shapes = [in_shape(0).to_vec(), in_shape(1).to_vec()];
                    let (operands, inputs) = operands();
                    let [a, b] = <[Operand; 2]>::try_from(operands)
                        .map_err(|_| Self::unsupported(node, "a bias with two activations"))?;
                    let kind = Kind::MatMul(MatMul {
                        operands: [a, b],
                        shapes,
                    });
                    Core {
                        node,
                        kind,
                        inputs,
                        first_post: None,
                    }
                }
            }
            Op::Binary(op) => {
                // A quantized constant is an operand like another; a real one is a factor or an offset.
                let folded = self.affine_post(node);
                if let Some((post, input)) = folded.filter(|_| !self.has_code_operand(node)) {
                    Core {
                        node,
                        kind: Kind::Pass,
                        inputs: vec![input],
                        first_post: Some(post),
                    }
                } else {
                    let shapes = [in_shape(0).to_vec(), in_shape(1).to_vec()];
                    let (operands, inputs) = operands();
                    let Ok(operands) = <[Operand; 2]>::try_from(operands) else {
                        return Err(Self::unsupported(node, "other than two operands"));
                    };
                    Core {
                        node,
                        kind: Kind::Binary {
                            op: *op,
                            operands,
                            shapes,
                        },
                        inputs,
                        first_post: None,
                    }
                }
            }
            Op::Activation(_) | Op::BatchNorm { .. } => match self.post(node, out_shape) {
                Some(post) => Core {
                    node,
                    kind: Kind::Pass,
                    inputs: vec![node.inputs[0]],
                    first_post: Some(post),
                },
                None => {
                    return Err(Self::unsupported(node, "parameters that are not constant"));
                }
            },
            Op::Softmax { axis, beta } => plain(Kind::Softmax {
                axis: *axis,
                beta: *beta,
            }),
            Op::MaxPool(pool) => plain(Kind::MaxPool(Windows::pool(
                pool,
                in_shape(0),
                out_shape,
                false,
            ))),
            Op::AveragePool {
                pool,
                count_include_pad,
            } => plain(Kind::Average {
                windows: Windows::pool(pool, in_shape(0), out_shape, *count_include_pad),
                axes: false,
                image: None,
            }),
            Op::Mean { axes } => plain(Kind::Average {
                windows: Windows::axes(axes, in_shape(0)),
                axes: true,
                image: self.image_mean(node, axes),
            }),
            Op::Concat { axis } => {
                let (operands, inputs) = operands();
                Core {
                    node,
                    kind: Kind::Concat {
                        axis: *axis,
                        operands,
                    },
                    inputs,
                    first_post: None,
                }
            }
            Op::Resize(resize) if Movement::resize(resize, in_shape(0), out_shape).is_none() => {
                plain(Kind::Resample(resize.clone()))
            }
            Op::Pad(_)
            | Op::Reshape
            | Op::Transpose { .. }
            | Op::Slice { .. }
            | Op::Resize(_)
            | Op::DepthToSpace { .. } => {
                let movement = Movement::of(&node.op, in_shape(0), out_shape)
                    .map_err(|what| Self::unsupported(node, what))?;
                plain(Kind::Movement(movement))
            }
            Op::Identity | Op::Quantize(_) => plain(Kind::Pass),
            Op::DynamicQuantize(part) => plain(Kind::DynamicQuantize(*part)),
            Op::Reinterpret { from, to } => plain(Kind::Reinterpret {
                from: from.clone(),
                to: to.clone(),
            }),
        })
    }

    /// Attaches the elementwise steps behind an operation, and its quantizer.
    fn finish_layer(&mut self, core: Core<'g>) {
        let graph = self.graph;
        let Core {
            node,
            kind,
            inputs,
            first_post,
        } = core;
        let mut chain = Chain {
            output: node.output,
            posts: first_post.into_iter().collect(),
            ops: vec![node.op_type.clone()],
            nodes: Vec::new(),
            quantizer: None,
            quantizer_node: String::new(),
        };
        if let Op::Quantize(quantizer) = &node.op {
            chain.quantizer = Some(quantizer.clone());
            chain.quantizer_node.clone_from(&node.name);
        } else if !matches!(kind, Kind::Movement(_) | Kind::Reinterpret { .. }) {
            self.extend(&mut chain);
        }
        for &index in &chain.nodes {
            self.used[index] = true;
        }
        let leaves =
            self.readers[chain.output].is_empty() && graph.value(chain.output).stored.is_none();
        let input_shapes = inputs.iter().map(|&i| graph.shape(i).to_vec()).collect();
        let linear = matches!(kind, Kind::Linear(_));
        let tied_constant = self.ties_beside_weights(linear, node, &chain.nodes);
        self.layers.push(Layer {
            input_shapes,
            file_axes: graph.values[chain.output].file_axes.clone(),
            stored: graph.values[chain.output].stored.is_some(),
            integer: graph.integer && graph.values[chain.output].stored.is_some(),
            name: node.name.clone(),
            op: chain.ops.join("+"),
            tensor: graph.values[chain.output].name.clone(),
            kind,
            inputs,
            posts: chain.posts,
            quantizer: chain.quantizer,
            quantizer_node: chain.quantizer_node,
            output: chain.output,
            result_shape: graph.shape(node.output).to_vec(),
            shape: graph.shape(chain.output).to_vec(),
            leaves,
            joined: None,
            joins: false,
            tied_constant,
            readers: 0,
            input_readers: Vec::new(),
        });
    }

    /// Whether a constant that multiplication with reciprocals changes is read elsewhere than as the weights of `node`.
    fn ties_beside_weights(&self, linear: bool, node: &Node, behind: &[usize]) -> bool {
        let mut beside = node
            .inputs
            .iter()
            .enumerate()
            .filter(|(at, _)| !linear || *at > 1);
        beside.any(|(_, &value)| self.by_reciprocal[value].is_some())
            || behind
                .iter()
                .any(|&index| self.is_tied(&self.graph.nodes[index]))
    }

    /// Follows a value to its quantizer through elementwise nodes that are its only readers. A reshape is
    /// passed only if a quantizer comes: quantizing and reshaping commute, and the reshaped codes are what
    /// the file names.
    fn extend(&self, chain: &mut Chain) {
        let mut kept = chain.mark();
        if !self.follow(chain, &mut kept) {
            chain.cut(kept);
        }
    }

    /// Whether a quantizer ends the way. `kept`: how far the chain goes without one.
    fn follow(&self, chain: &mut Chain, kept: &mut Mark) -> bool {
        let graph = self.graph;
        let mut reshaped = false;
        loop {
            let [reader] = self.readers[chain.output][..] else {
                return false;
            };
            let node = &graph.nodes[reader];
            let name = &graph.values[chain.output].name;
            if graph.outputs.contains(&chain.output) || (self.ends)(name) {
                return false;
            }
            chain.nodes.push(reader);
            match &node.op {
                Op::Quantize(quantizer) => {
                    chain.quantizer = Some(quantizer.clone());
                    chain.quantizer_node.clone_from(&node.name);
                    chain.output = node.output;
                    return true;
                }
                Op::Identity => {}
                Op::Reshape => reshaped = true,
                Op::Binary(_) => {
                    let Some((post, input)) = self.affine_post(node) else {
                        return false;
                    };
                    if input != chain.output {
                        return false;
                    }
                    chain.posts.push(post);
                    chain.ops.push(node.op_type.clone());
                }
                _ => {
                    let Some(post) = self.post(node, graph.shape(node.output)) else {
                        return false;
                    };
                    chain.posts.push(post);
                    chain.ops.push(node.op_type.clone());
                }
            }
            chain.output = node.output;
            if !reshaped {
                *kept = chain.mark();
            }
        }
    }

    /// The channels of a mean's result, where it is one over height and width that keeps these axes. Files that
    /// store integers have the channels last, fake-quantized models first.
    fn image_mean(&self, node: &Node, axes: &[usize]) -> Option<Channels> {
        let (x, out) = (node.inputs[0], self.graph.shape(node.output));
        let value = &self.graph.values[x];
        let [height, width, channels] = match (&value.file_axes, value.stored.is_some()) {
            (Some(file), _) => <[usize; 3]>::try_from(file.get(1..4)?).ok()?,
            (None, true) => [1, 2, 3],
            (None, false) => [2, 3, 1],
        };
        let both = [height.min(width), height.max(width)];
        let fits = value.shape.len() == 4 && out.len() == 4 && axes == both;
        fits.then(|| Channels::along(channels, out))
    }

    /// An activation or a batch normalization as a step on reals.
    fn post(&self, node: &Node, shape: &[usize]) -> Option<Post> {
        match &node.op {
            Op::Activation(Activation::Relu) => Some(Post::Clamp {
                lo: 0.0,
                hi: f64::INFINITY,
            }),
            Op::Activation(Activation::Clip { min, max }) => Some(Post::Clamp {
                lo: f64::from(*min),
                hi: f64::from(*max),
            }),
            Op::Activation(Activation::LeakyRelu { alpha }) => Some(Post::Leaky {
                slope: vec![f64::from(*alpha)],
                channels: Channels::ONE,
            }),
            Op::Activation(Activation::PRelu) => {
                let slope = self.constant(*node.inputs.get(1)?)?;
                let channels = broadcast_channels(&slope.shape, shape)?;
                Some(Post::Leaky {
                    slope: slope.to_real().into_owned(),
                    channels,
                })
            }
            Op::Activation(function) => Some(Post::Function(*function)),
            Op::BatchNorm { epsilon } => {
                let parameter = |i: usize| {
                    let tensor = self.constant(*node.inputs.get(i)?)?;
                    Some(tensor.to_real().into_owned())
                };
                let (scale, bias, mean, variance) =
                    (parameter(1)?, parameter(2)?, parameter(3)?, parameter(4)?);
                let mul: Vec<f64> = scale
                    .iter()
                    .zip(variance.iter())
                    .map(|(s, v)| s / (v + f64::from(*epsilon)).sqrt())
                    .collect();
                let add = (0..mul.len()).map(|c| bias[c] - mean[c] * mul[c]).collect();
                Some(Post::Affine {
                    mul,
                    add,
                    channels: Channels::along(1, shape),
                })
            }
            _ => None,
        }
    }

    /// Whether an operand is a constant of codes: an operand like any other, and no parameter.
    fn has_code_operand(&self, node: &Node) -> bool {
        let codes = |&value: &ValueId| self.constant(value).is_some_and(|c| c.grid().is_some());
        node.inputs.iter().any(codes)
    }

    /// An elementwise operation with a constant as `x * mul + add`, and which value `x` is.
    fn affine_post(&self, node: &Node) -> Option<(Post, ValueId)> {
        let Op::Binary(op) = &node.op else {
            return None;
        };
        let (&[a, b], shape) = (&node.inputs[..], self.graph.shape(node.output)) else {
            return None;
        };
        let (x, constant, swapped) = match (self.constant(a), self.constant(b)) {
            (None, Some(c)) => (a, c, false),
            (Some(c), None) => (b, c, true),
            _ => return None,
        };
        if self.graph.shape(x) != shape {
            return None;
        }
        let channels = broadcast_channels(&constant.shape, shape)?;
        let c = constant.to_real().into_owned();
        let ones = vec![1.0; c.len()];
        let zeros = vec![0.0; c.len()];
        let (mul, add) = match (op, swapped) {
            (Binary::Add | Binary::AddShifted, _) => (ones, c),
            (Binary::Sub, false) => (ones, c.iter().map(|v| -v).collect()),
            (Binary::Sub, true) => (ones.iter().map(|v| -v).collect(), c),
            (Binary::Mul, _) => (c, zeros),
            (Binary::Div, false) => (c.iter().map(|v| 1.0 / v).collect(), zeros),
            (Binary::Div, true) => return None,
        };
        Some((Post::Affine { mul, add, channels }, x))
    }
}

struct Chain {
    output: ValueId,
    posts: Vec<Post>,
    ops: Vec<String>,
    nodes: Vec<usize>,
    quantizer: Option<Quantizer>,
    quantizer_node: String,
}

/// How far a chain goes: its output, and how many posts, operations and nodes it has.
struct Mark(ValueId, [usize; 3]);

impl Chain {
    fn mark(&self) -> Mark {
        let counts = [self.posts.len(), self.ops.len(), self.nodes.len()];
        Mark(self.output, counts)
    }

    /// Takes back what came after a mark.
    fn cut(&mut self, Mark(output, [posts, ops, nodes]): Mark) {
        self.output = output;
        self.posts.truncate(posts);
        self.ops.truncate(ops);
        self.nodes.truncate(nodes);
    }
}

/// The channels that a constant of shape `own` varies along when it is broadcast to `shape`; `None` where
/// it varies along several axes that are not neighbours.
fn broadcast_channels(own: &[usize], shape: &[usize]) -> Option<Channels> {
    if own.len() > shape.len() {
        return own.iter().all(|&d| d == 1).then_some(Channels::ONE);
    }
    let offset = shape.len() - own.len();
    let mut varying = (0..own.len()).filter(|&a| own[a] != 1).map(|a| a + offset);
    let Some(first) = varying.next() else {
        return Some(Channels::ONE);
    };
    let mut last = first;
    for axis in varying {
        if axis != last + 1 {
            return None;
        }
        last = axis;
    }
    Some(Channels {
        count: shape[first..=last].iter().product(),
        inner: shape[last + 1..].iter().product::<usize>().max(1),
    })
}

impl Operand {
    /// The operand's tensor, from the layer's inputs.
    pub fn resolve<'t>(&'t self, inputs: &[&'t Tensor]) -> &'t Tensor {
        match self {
            Self::Input(index) => inputs[*index],
            Self::Constant(tensor) => tensor,
        }
    }
}

impl CodeGrid {
    /// One scale and zero point for the whole tensor.
    pub fn uniform(scale: f64, zero_point: i64, min: i64, max: i64) -> Self {
        Self {
            scale: graph::PerChannel::uniform(scale),
            zero_point: graph::PerChannel::uniform(zero_point),
            min,
            max,
        }
    }

    /// Whether one scale and zero point serve every element.
    pub fn is_uniform(&self) -> bool {
        self.scale.values.len() == 1 && self.zero_point.values.len() == 1
    }

    /// Whether a code means the same on both, whatever their ranges are.
    pub fn same_labels(&self, other: &Self) -> bool {
        self.scale == other.scale && self.zero_point == other.zero_point
    }

    /// Which element of a tensor belongs to which scale and zero point.
    pub fn channels(&self, shape: &[usize]) -> Channels {
        match Channels::of(&self.scale, shape) {
            Channels::ONE => Channels::of(&self.zero_point, shape),
            channels => channels,
        }
    }

    /// What a code of channel `c` means.
    pub fn real(&self, code: i64, c: usize) -> f64 {
        (code - self.zero_point.at(c)) as f64 * self.scale.at(c)
    }

    /// The code of a real that lies on the grid, whether or not the range holds it.
    pub fn code_of(&self, real: f64, c: usize) -> Option<i64> {
        let code = real / self.scale.at(c);
        (code.abs() < 9e15 && code.fract() == 0.0).then(|| code as i64 + self.zero_point.at(c))
    }

    /// Smallest and largest real of the range, over all channels.
    pub fn real_range(&self) -> (f64, f64) {
        let channels = self.scale.values.len().max(self.zero_point.values.len());
        (0..channels).fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), c| {
            (
                lo.min(self.real(self.min, c)),
                hi.max(self.real(self.max, c)),
            )
        })
    }
}

impl Tensor {
    /// Largest magnitude of an element.
    pub fn max_abs(&self) -> f64 {
        match &self.data {
            Data::Real(values) => values.iter().fold(0.0, |m: f64, v| m.max(v.abs())),
            Data::Codes { .. } => self.to_real().iter().fold(0.0, |m: f64, v| m.max(v.abs())),
        }
    }
}
