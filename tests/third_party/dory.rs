//! Integer networks of NEMO, deployed on PULP and GAP8 by DORY, with the output of every layer.
//!
//! The files spell the arithmetic out: `Mul` by kappa, `Add` of lambda, `Mul` by m, `Div` by 2^d, `Cast` to
//! integers, `Clip`; sums of two tensors are `Mul` of each, `Add`, `Div`, `Floor`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use align_check_graph::onnx::proto::attribute_proto::AttributeType;
use align_check_graph::onnx::proto::tensor_shape_proto::dimension;
use align_check_graph::onnx::proto::{
    AttributeProto, ModelProto, NodeProto, TensorProto, ValueInfoProto,
};
use align_check_graph::{Affine, Binary, Conv, Op, Pad, PadMode, Pool, ValueId};
use align_check_simulators::network::Network;
use align_check_specs::{AddRule, BiasFormat, Multiplier, RescaleRule, Rounding, Spec};
use align_check_tests::assemble::{Assembly, Tensors, differing, grid, permuted, rounding, run};
use align_check_tests::shared;
use prost::Message;

/// A network with its input and the recorded output of each layer.
struct Recorded {
    network: Network,
    input: Tensors,
    layers: Tensors,
}

/// A model's nodes on their way into a graph.
struct Reader {
    graph: Assembly,
    nodes: Vec<NodeProto>,
    constants: BTreeMap<String, (Vec<usize>, Vec<f64>)>,
    values: BTreeMap<String, ValueId>,
    /// Those that are not clipped to a byte.
    wide: BTreeSet<ValueId>,
    /// The tensors that are recorded, in the order of their nodes.
    ends: Vec<String>,
}

fn numbers(tensor: &TensorProto) -> (Vec<usize>, Vec<f64>) {
    let shape = tensor.dims.iter().map(|&d| d as usize).collect();
    let raw = tensor.raw_data();
    let values = match tensor.data_type() {
        // FLOAT
        1 if raw.is_empty() => tensor.float_data.iter().map(|&v| f64::from(v)).collect(),
        1 => raw
            .chunks_exact(4)
            .map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])))
            .collect(),
        // INT64
        7 if raw.is_empty() => tensor.int64_data.iter().map(|&v| v as f64).collect(),
        7 => raw
            .chunks_exact(8)
            .map(|b| i64::from_le_bytes(b.try_into().expect("eight bytes")) as f64)
            .collect(),
        other => panic!("a tensor of type {other}"),
    };
    (shape, values)
}

fn input_shape(input: &ValueInfoProto) -> Vec<usize> {
    let tensor = input.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let tensor = tensor.expect("a tensor");
    let shape = tensor.shape.as_ref().expect("a shape");
    let size = |value: &Option<dimension::Value>| match value {
        Some(dimension::Value::DimValue(size)) => *size as usize,
        _ => panic!("no size"),
    };
    shape.dim.iter().map(|dim| size(&dim.value)).collect()
}

fn attribute<'n>(node: &'n NodeProto, name: &str) -> Option<&'n AttributeProto> {
    node.attribute.iter().find(|a| a.name() == name)
}

fn sizes(node: &NodeProto, name: &str) -> Vec<usize> {
    let list = attribute(node, name).expect("an attribute");
    assert_eq!(list.r#type(), AttributeType::Ints);
    list.ints.iter().map(|&v| v as usize).collect()
}

impl Reader {
    fn new(model: &[u8]) -> Self {
        let model = ModelProto::decode(model).expect("a model");
        let file = model.graph.expect("a graph");
        let mut constants: BTreeMap<_, _> = file
            .initializer
            .iter()
            .map(|tensor| (tensor.name().to_owned(), numbers(tensor)))
            .collect();
        let mut nodes = Vec::new();
        // Reals that are integers: casts change nothing.
        let mut same: BTreeMap<String, String> = BTreeMap::new();
        for mut node in file.node {
            for input in &mut node.input {
                if let Some(before) = same.get(input) {
                    input.clone_from(before);
                }
            }
            match node.op_type() {
                "Constant" => {
                    let value = attribute(&node, "value").and_then(|a| a.t.as_ref());
                    constants.insert(node.output[0].clone(), numbers(value.expect("a tensor")));
                }
                "Cast" => {
                    same.insert(node.output[0].clone(), node.input[0].clone());
                }
                // Behind the integer network.
                "Sigmoid" | "LogSoftmax" | "Gather" => {}
                _ => nodes.push(node),
            }
        }
        let mut graph = Assembly::new(file.name.as_deref().unwrap_or(""));
        let mut values = BTreeMap::new();
        for input in &file.input {
            if constants.contains_key(input.name()) {
                continue;
            }
            let shape = input_shape(input);
            let id = graph.input("x", &shape, grid(1.0, 8, false));
            values.insert(input.name().to_owned(), id);
        }
        Self {
            graph,
            nodes,
            constants,
            values,
            wide: BTreeSet::new(),
            ends: Vec::new(),
        }
    }

    /// The only node that reads a tensor, if it has this type.
    fn reader(&self, tensor: &str, op: &str) -> Option<usize> {
        let mut readers =
            (0..self.nodes.len()).filter(|&n| self.nodes[n].input.iter().any(|i| i == tensor));
        let first = readers.next()?;
        (readers.next().is_none() && self.nodes[first].op_type() == op).then_some(first)
    }

    /// The constant operand of a node.
    fn operand(&self, node: usize) -> (String, Vec<usize>, Vec<f64>) {
        let inputs = &self.nodes[node].input;
        let name = inputs.iter().find(|i| self.constants.contains_key(*i));
        let name = name.expect("a constant");
        let (shape, values) = self.constants[name].clone();
        (name.clone(), shape, values)
    }

    /// Follows a tensor through the only node that reads it; takes the node's number out.
    fn factor(&self, tensor: &mut String, op: &str) -> Option<f64> {
        let node = self.reader(tensor, op)?;
        let (_, _, values) = self.operand(node);
        tensor.clone_from(&self.nodes[node].output[0]);
        Some(values[0])
    }

    /// The steps behind a sum, up to its `Clip`; their end.
    fn requantized(&mut self, tensor: &str, sum: ValueId) -> (String, ValueId) {
        let (mut tensor, mut x) = (tensor.to_owned(), sum);
        for (op, kind) in [
            ("Mul", Binary::Mul),
            ("Add", Binary::Add),
            ("Mul", Binary::Mul),
            ("Div", Binary::Div),
        ] {
            let node = self.reader(&tensor, op).expect("the steps of NEMO");
            let (_, shape, values) = self.operand(node);
            tensor.clone_from(&self.nodes[node].output[0]);
            let values = values.iter().map(|&v| v as f32).collect();
            let own = self.graph.reals(&format!("{tensor}.by"), &shape, values);
            x = self
                .graph
                .like(&format!("{tensor}.real"), Op::Binary(kind), &[x, own]);
        }
        let clip = self.reader(&tensor, "Clip").expect("a clip");
        let name = self.clipped(clip);
        let y = self.graph.quantize(&name, x, grid(1.0, 8, false));
        (name, y)
    }

    /// The output of a `Clip` to a byte.
    fn clipped(&self, clip: usize) -> String {
        let bound = |name| attribute(&self.nodes[clip], name).map(AttributeProto::f);
        assert_eq!((bound("min"), bound("max")), (Some(0.0), Some(255.0)));
        self.nodes[clip].output[0].clone()
    }

    fn end(&mut self, name: String, id: ValueId) {
        self.ends.push(name.clone());
        self.values.insert(name, id);
    }

    fn node(&mut self, node: &NodeProto) {
        let input = |i: usize| self.values.get(&node.input[i]).copied();
        let out = node.output[0].clone();
        match node.op_type() {
            "Conv" => {
                let x = input(0).expect("an activation");
                let (shape, weights) = self.constants[&node.input[1]].clone();
                let kernel = sizes(node, "kernel_shape");
                let pads = sizes(node, "pads");
                let conv = Conv {
                    strides: sizes(node, "strides"),
                    pads_before: pads[..kernel.len()].to_vec(),
                    pads_after: pads[kernel.len()..].to_vec(),
                    dilations: sizes(node, "dilations"),
                    groups: attribute(node, "group").map_or(1, |a| a.i() as usize),
                    kernel,
                };
                let image = self.graph.shape(x);
                let mut result = vec![image[0], shape[0]];
                for (axis, &extent) in image[2..].iter().enumerate() {
                    let reach = conv.dilations[axis] * (conv.kernel[axis] - 1) + 1;
                    let padded = extent + conv.pads_before[axis] + conv.pads_after[axis];
                    result.push((padded - reach) / conv.strides[axis] + 1);
                }
                let codes = weights.iter().map(|&w| w as i64).collect();
                let w = self
                    .graph
                    .codes(&node.input[1], &shape, codes, grid(1.0, 8, true));
                let name = format!("{out}.sum");
                let sum = self.graph.node(&name, Op::Conv(conv), &[x, w], &result);
                let (name, y) = self.requantized(&out, sum);
                self.end(name, y);
            }
            "MatMul" => {
                let x = input(0).expect("an activation");
                let (shape, weights) = self.constants[&node.input[1]].clone();
                let codes = weights.iter().map(|&w| w as i64).collect();
                let w = self
                    .graph
                    .codes(&node.input[1], &shape, codes, grid(1.0, 8, true));
                let name = format!("{out}.sum");
                let sum = self.graph.node(&name, Op::MatMul, &[x, w], &[1, shape[1]]);
                let y = self.graph.quantize(&out, sum, grid(1.0, 32, true));
                self.end(out, y);
            }
            "Add" => {
                // Behind the steps of a sum, this is a lambda, and taken already.
                if node.input.iter().any(|i| self.constants.contains_key(i)) {
                    return;
                }
                self.sum(node);
            }
            "MaxPool" => {
                let x = input(0).expect("an activation");
                let kernel = sizes(node, "kernel_shape");
                let pads = sizes(node, "pads");
                assert!(pads.iter().all(|&p| p == 0));
                let strides = sizes(node, "strides");
                let mut result = self.graph.shape(x);
                for (axis, extent) in result[2..].iter_mut().enumerate() {
                    *extent = (*extent - kernel[axis]) / strides[axis] + 1;
                }
                let pool = Pool {
                    pads_before: vec![0; kernel.len()],
                    pads_after: vec![0; kernel.len()],
                    dilations: vec![1; kernel.len()],
                    kernel,
                    strides,
                };
                let y = self.graph.node(&out, Op::MaxPool(pool), &[x], &result);
                self.end(out, y);
            }
            "Pad" => {
                let x = input(0).expect("an activation");
                let pads: Vec<i64> = sizes(node, "pads").iter().map(|&p| p as i64).collect();
                let (before, after) = pads.split_at(pads.len() / 2);
                let shape: Vec<usize> = self
                    .graph
                    .shape(x)
                    .iter()
                    .zip(before.iter().zip(after))
                    .map(|(&n, (b, a))| n + (b + a) as usize)
                    .collect();
                let pad = Pad {
                    mode: PadMode::Constant(0.0),
                    before: before.to_vec(),
                    after: after.to_vec(),
                };
                let y = self.graph.node(&out, Op::Pad(pad), &[x], &shape);
                self.values.insert(out, y);
            }
            "Flatten" => {
                let x = input(0).expect("an activation");
                let count = self.graph.shape(x).iter().product();
                let y = self.graph.node(&out, Op::Reshape, &[x], &[1, count]);
                self.values.insert(out, y);
            }
            // Taken with the sums.
            "Mul" | "Div" | "Clip" | "Floor" => {}
            other => panic!("operator {other}"),
        }
    }

    /// `floor((m1 * a + m2 * b) / d)`, and the requantization behind it where there is one. The factors are the
    /// scales that codes are read with: an integer kernel knows them as its multipliers.
    fn sum(&mut self, node: &NodeProto) {
        let unit = |scale: f64, bits: u32| grid(scale as f32, bits, false);
        let wide = 16;
        let read = |graph: &mut Assembly, name: &str, x: ValueId, from: Affine, to: Affine| {
            graph.like(name, Op::Reinterpret { from, to }, &[x])
        };
        let mut operands = Vec::new();
        for input in &node.input {
            let made = (0..self.nodes.len()).find(|&n| self.nodes[n].output[0] == *input);
            let factor = made.expect("a factor");
            let (_, _, m) = self.operand(factor);
            let x = self.nodes[factor]
                .input
                .iter()
                .find_map(|i| self.values.get(i));
            // What an earlier sum left is wider than a byte.
            let x = *x.expect("an activation");
            let bits = if self.wide.contains(&x) { wide } else { 8 };
            let own = read(&mut self.graph, input, x, unit(1.0, bits), unit(m[0], bits));
            operands.push(own);
        }
        let mut tensor = node.output[0].clone();
        let sum = self.graph.like(
            &format!("{tensor}.real"),
            Op::Binary(Binary::Add),
            &operands,
        );
        let divisor = self.factor(&mut tensor, "Div").expect("a divisor");
        let floor = self.reader(&tensor, "Floor").expect("a floor");
        tensor.clone_from(&self.nodes[floor].output[0]);
        let name = format!("{tensor}.codes");
        let codes = self.graph.quantize(&name, sum, unit(divisor, wide));
        let mut after = tensor.clone();
        let scale = self.factor(&mut after, "Mul").and_then(|m| {
            let d = self.factor(&mut after, "Div")?;
            Some(m / d)
        });
        if let Some(scale) = scale {
            let name = format!("{tensor}.read");
            let (from, to) = (unit(divisor, wide), unit(scale, wide));
            let codes = read(&mut self.graph, &name, codes, from, to);
            let clip = self.reader(&after, "Clip").expect("a clip");
            let name = self.clipped(clip);
            let y = self.graph.quantize(&name, codes, unit(1.0, 8));
            self.end(name, y);
        } else {
            let (from, to) = (unit(divisor, wide), unit(1.0, wide));
            let y = read(&mut self.graph, &tensor, codes, from, to);
            self.wide.insert(y);
            self.end(tensor, y);
        }
    }
}

/// A file of numbers: its shape, and they.
fn text(path: &Path) -> (Vec<usize>, Vec<f64>) {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let (head, rest) = text.split_once('\n').expect("a head");
    let shape = head.split_once('[').and_then(|(_, s)| s.split_once(']'));
    let shape = shape.expect("a shape").0.split(',');
    let shape = shape.map(|n| n.trim().parse().expect("a size")).collect();
    let numbers = rest
        .lines()
        .map(|line| line.trim_end_matches(['\\', ',', ' ']))
        .filter(|line| !line.is_empty());
    (
        shape,
        numbers.map(|n| n.parse().expect("a number")).collect(),
    )
}

impl Recorded {
    fn read(folder: &Path, model: &str) -> Self {
        let bytes = std::fs::read(folder.join(model)).expect("a model");
        let mut reader = Reader::new(&bytes);
        for node in reader.nodes.clone() {
            reader.node(&node);
        }
        let input = text(&folder.join("input.txt")).1;
        let mut layers = Tensors::new();
        for (index, name) in reader.ends.iter().enumerate() {
            let (shape, values) = text(&folder.join(format!("out_layer{index}.txt")));
            // Channels last.
            let perm: Vec<usize> = match shape.len() {
                3 => vec![2, 0, 1],
                2 => vec![1, 0],
                _ => vec![0],
            };
            layers.insert(name.clone(), permuted(&values, &shape, &perm));
        }
        let more = format!("out_layer{}.txt", reader.ends.len());
        assert!(!folder.join(more).exists(), "a layer that was not read");
        let last = reader.values[reader.ends.last().expect("a layer")];
        Self {
            network: reader.graph.network(&[last]),
            input: Tensors::from([("x".into(), input)]),
            layers,
        }
    }

    fn len(&self) -> usize {
        self.layers.values().map(Vec::len).sum()
    }

    /// Numbers that differ where every layer reads what was recorded.
    fn wrong(&self, spec: &Spec) -> usize {
        self.compare(spec, &self.layers)
    }

    /// Numbers that differ where the network is run from its input.
    fn wrong_from_the_input(&self, spec: &Spec) -> usize {
        self.compare(spec, &Tensors::new())
    }

    fn compare(&self, spec: &Spec, forced: &Tensors) -> usize {
        let made = run(&self.network, spec, &self.input, forced, &[]);
        let wrong = |(name, values): (&String, &Vec<f64>)| differing(&made[name], values);
        self.layers.iter().map(wrong).sum()
    }
}

fn spec(target: &str) -> Spec {
    let mut spec = Spec::resolve(target).expect("a target");
    // Sums of two tensors are not clipped to a byte in the files, and the last sums are left as they are.
    spec.activations.bits = vec![8, 16, 32];
    spec
}

/// What other decisions get wrong: multipliers in f32, lambda as an integer in the accumulator, half up where a
/// sum is requantized once more.
fn decisions(recorded: &Recorded) -> [usize; 3] {
    let with = |change: fn(&mut Spec)| {
        let mut spec = spec("pulp-dory");
        change(&mut spec);
        recorded.wrong(&spec)
    };
    [
        with(|spec| {
            spec.requantize.multiplier = Multiplier::F32;
            spec.bias.format = BiasFormat::F32AfterScale;
        }),
        with(|spec| spec.bias.format = BiasFormat::Int32),
        with(|spec| {
            spec.ops.rescale = Some(RescaleRule::F32);
            spec.quantize.rounding = Rounding::HalfUp;
        }),
    ]
}

/// Checks a network; returns how many numbers other roundings get wrong, and other additions.
fn check(folder: &str, model: &str, numbers: usize) -> Option<([usize; 3], usize)> {
    let folder = shared("recordings/dory-nemo")?.join(folder);
    let recorded = Recorded::read(&folder, model);
    assert_eq!(recorded.len(), numbers);
    let own = spec("pulp-dory");
    assert_eq!(recorded.wrong(&own), 0);
    assert_eq!(recorded.wrong_from_the_input(&own), 0);
    // Behind a clip at 0 they are the same.
    assert_eq!(recorded.wrong(&rounding(own.clone(), Rounding::Trunc)), 0);
    let rounded = [
        recorded.wrong(&spec("pulp-deeploy")),
        recorded.wrong(&rounding(own.clone(), Rounding::HalfAway)),
        recorded.wrong(&rounding(own.clone(), Rounding::HalfEven)),
    ];
    let mut each = own;
    each.ops.add = Some(AddRule::RequantizeEach);
    Some((rounded, recorded.wrong(&each)))
}

#[test]
fn residual_connection() {
    let Some(found) = check("Residual_connection_test_1", "model_int.onnx", 250_002) else {
        return;
    };
    assert_eq!(found, ([53_487, 53_487, 53_487], 0));
}

#[test]
fn temporal_network_with_dilations() {
    let Some(found) = check("TCN_T", "TCN.onnx", 15_685) else {
        return;
    };
    assert_eq!(found, ([4_415, 4_415, 4_375], 0));
    let Some(folder) = shared("recordings/dory-nemo/TCN_T") else {
        return;
    };
    let recorded = Recorded::read(&folder, "TCN.onnx");
    assert_eq!(decisions(&recorded), [0, 13, 696]);
}

#[test]
fn dronet() {
    let Some(found) = check("dronet_2.0", "model_int.onnx", 613_986) else {
        return;
    };
    assert_eq!(found, ([129_384, 129_384, 123_914], 1_907));
}
