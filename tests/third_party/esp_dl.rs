//! Espressif's models with the input and the output that its quantizer wrote into them, and that
//! `model.test()` compares on the chip.

use std::collections::BTreeMap;
use std::path::Path;

use align_check_graph::{Activation, Affine, Binary, Conv, Gemm, Op, Pool, ValueId};
use align_check_simulators::network::Network;
use align_check_simulators::num::Trace;
use align_check_simulators::rules::Labels;
use align_check_simulators::rules::unary::sigmoid;
use align_check_specs::{AddRule, AverageRule, MulRule, Rounding, SigmoidRule, Spec};
use align_check_tests::assemble::{
    Assembly, Tensors, differing, grid, permuted, plain_conv, rounding, run,
};
use align_check_tests::shared;

use crate::espdl_file::{Model, Node, Tensor};

/// A model as a network, its input and its output, channels first.
struct Recorded {
    model: Model,
    network: Network,
    input: Tensors,
    name: String,
    output: Vec<f64>,
}

/// The axes of a tensor, channels first: files have them last, and matrices as they are.
fn channels_first(tensor: &Tensor) -> (Vec<usize>, Vec<f64>) {
    let codes: Vec<f64> = tensor.codes.iter().map(|&q| q as f64).collect();
    let rank = tensor.shape.len();
    if rank < 3 {
        return (tensor.shape.clone(), codes);
    }
    let perm: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    let shape = perm.iter().map(|&axis| tensor.shape[axis]).collect();
    (shape, permuted(&codes, &tensor.shape, &perm))
}

/// Weights `(kernel.., inputs, outputs)`, which the file has in blocks of 16 outputs: kernel position, input,
/// output. Returned as `(outputs, inputs, kernel..)`.
fn unblocked(codes: &[i64], taps: usize, inputs: usize, outputs: usize) -> Vec<i64> {
    let mut out = vec![0; codes.len()];
    let mut at = 0;
    for first in (0..outputs).step_by(16) {
        for tap in 0..taps {
            for input in 0..inputs {
                for output in first..outputs.min(first + 16) {
                    out[(output * inputs + input) * taps + tap] = codes[at];
                    at += 1;
                }
            }
        }
    }
    out
}

struct Reader<'m> {
    model: &'m Model,
    graph: Assembly,
    values: BTreeMap<String, ValueId>,
}

impl Reader<'_> {
    fn grid(&self, name: &str) -> Affine {
        grid(2f32.powi(self.model.exponents[name]), 8, true)
    }

    fn constant(&mut self, name: &str, shape: &[usize], codes: Vec<i64>, bits: u32) -> ValueId {
        let scale = 2f32.powi(self.model.constants[name].exponent);
        self.graph
            .codes(name, shape, codes, grid(scale, bits, true))
    }

    /// Activation and quantizer behind an operation.
    fn finish(&mut self, node: &Node, x: ValueId) -> ValueId {
        let out = if node.texts.get("activation").is_some_and(|a| a == "Relu") {
            self.graph.relu(&format!("{}.relu", node.output), x)
        } else {
            x
        };
        self.graph
            .quantize(&node.output, out, self.grid(&node.output))
    }

    fn node(&mut self, node: &Node) {
        let x = self.values[&node.inputs[0]];
        let shape = self.graph.shape(x);
        let real = format!("{}.real", node.output);
        let made = match node.op.as_str() {
            "Conv" | "Gemm" => {
                let weights = self.model.constants[&node.inputs[1]].clone();
                let bias = self.model.constants[&node.inputs[2]].codes.clone();
                let outputs = bias.len();
                let b = self.constant(&node.inputs[2], &[outputs], bias, 32);
                if node.op == "Gemm" {
                    let codes = unblocked(&weights.codes, 1, shape[1], outputs);
                    let w = self.constant(&node.inputs[1], &[outputs, shape[1]], codes, 8);
                    let gemm = Gemm {
                        alpha: 1.0,
                        beta: 1.0,
                        trans_a: false,
                        trans_b: true,
                    };
                    let result = [shape[0], outputs];
                    self.graph.node(&real, Op::Gemm(gemm), &[x, w, b], &result)
                } else {
                    let kernel = node.sizes("kernel_shape");
                    let pads = node.sizes("pads");
                    let conv = Conv {
                        strides: node.sizes("strides"),
                        pads_before: pads[..1].to_vec(),
                        pads_after: pads[1..].to_vec(),
                        dilations: node.sizes("dilations"),
                        groups: node.sizes("group")[0],
                        ..plain_conv(&kernel)
                    };
                    let deep = shape[1] / conv.groups;
                    let codes = unblocked(&weights.codes, kernel[0], deep, outputs);
                    let own = [outputs, deep, kernel[0]];
                    let w = self.constant(&node.inputs[1], &own, codes, 8);
                    let padded = shape[2] + pads[0] + pads[1];
                    let extent = padded - conv.dilations[0] * (kernel[0] - 1);
                    let result = [shape[0], outputs, extent];
                    self.graph.node(&real, Op::Conv(conv), &[x, w, b], &result)
                }
            }
            "Sigmoid" => {
                let sigmoid = Op::Activation(Activation::Sigmoid);
                self.graph.like(&real, sigmoid, &[x])
            }
            "Mul" | "Add" => {
                let second = self.values[&node.inputs[1]];
                let op = if node.op == "Mul" {
                    Binary::Mul
                } else {
                    Binary::Add
                };
                self.graph.like(&real, Op::Binary(op), &[x, second])
            }
            "AveragePool" => {
                let pads = node.sizes("pads");
                let kernel = node.sizes("kernel_shape");
                let extent = shape[2] + pads[0] + pads[1] + 1 - kernel[0];
                let pool = Pool {
                    kernel,
                    strides: node.sizes("strides"),
                    pads_before: pads[..1].to_vec(),
                    pads_after: pads[1..].to_vec(),
                    dilations: vec![1],
                };
                let op = Op::AveragePool {
                    pool,
                    count_include_pad: node.sizes("count_include_pad") == [1],
                };
                let result = [shape[0], shape[1], extent];
                self.graph.node(&real, op, &[x], &result)
            }
            // Channels are first here already.
            "Transpose" => {
                self.values.insert(node.output.clone(), x);
                return;
            }
            "Slice" => {
                let number = |i: usize| self.model.constants[&node.inputs[i]].codes[0];
                assert_eq!((number(2), number(3), number(4)), (i64::MAX, 2, 1));
                let kept = number(1).unsigned_abs() as usize;
                let slice = Op::Slice {
                    starts: vec![0, 0, shape[2] - kept],
                    steps: vec![1, 1, 1],
                };
                let result = [shape[0], shape[1], kept];
                let y = self.graph.node(&node.output, slice, &[x], &result);
                self.values.insert(node.output.clone(), y);
                return;
            }
            "Flatten" => {
                let result = [shape[0], shape[1..].iter().product()];
                let y = self.graph.node(&node.output, Op::Reshape, &[x], &result);
                self.values.insert(node.output.clone(), y);
                return;
            }
            other => panic!("operator {other}"),
        };
        let y = self.finish(node, made);
        self.values.insert(node.output.clone(), y);
    }
}

impl Recorded {
    fn read(path: &Path) -> Self {
        let model = Model::read(path);
        let mut reader = Reader {
            model: &model,
            graph: Assembly::new("espdl"),
            values: BTreeMap::new(),
        };
        let mut input = Tensors::new();
        for (name, tensor) in &model.inputs {
            let (shape, codes) = channels_first(tensor);
            let id = reader.graph.input(name, &shape, reader.grid(name));
            reader.values.insert(name.clone(), id);
            input.insert(name.clone(), codes);
        }
        for node in &model.nodes {
            reader.node(node);
        }
        let (name, tensor) = model.outputs.first_key_value().expect("an output");
        let (name, output) = (name.clone(), channels_first(tensor).1);
        let network = reader.graph.network(&[reader.values[&name]]);
        Self {
            model,
            network,
            input,
            name,
            output,
        }
    }

    fn run(&self, spec: &Spec) -> Tensors {
        run(&self.network, spec, &self.input, &Tensors::new(), &[])
    }

    /// Outputs that differ.
    fn wrong(&self, spec: &Spec) -> usize {
        differing(&self.run(spec)[&self.name], &self.output)
    }

    /// Outputs that other roundings get wrong: half even, half up, half away, floor, trunc.
    fn rounded(&self, spec: &Spec) -> [usize; 5] {
        [
            Rounding::HalfEven,
            Rounding::HalfUp,
            Rounding::HalfAway,
            Rounding::Floor,
            Rounding::Trunc,
        ]
        .map(|other| self.wrong(&rounding(spec.clone(), other)))
    }

    /// Entries of the sigmoids' tables that a spec makes otherwise.
    fn tables(&self, spec: &Spec) -> usize {
        let rule = spec.ops.sigmoid.expect("a rule");
        let labels = |name: &str| {
            let scale = 2f64.powi(self.model.exponents[name]);
            Labels {
                scale,
                zero_point: 0,
                min: -128,
                max: 127,
                relabel: 0,
            }
        };
        let mut wrong = 0;
        for node in self.model.nodes.iter().filter(|n| n.op == "Sigmoid") {
            let (x, out) = (labels(&node.inputs[0]), labels(&node.output));
            let table = sigmoid(rule, &spec.quantize, Activation::Sigmoid, x, out);
            let table = table.expect("a table");
            let stored = &self.model.constants[&node.texts["lut"]].codes;
            assert_eq!(stored.len(), 256);
            let own = (-128..128).map(|code| i64::from(table(code, &mut Trace::off())));
            wrong += own.zip(stored).filter(|(a, b)| a != *b).count();
        }
        wrong
    }
}

/// A streaming network of 15 operations: half even on the P4, half even, half up or half away on the S3.
#[test]
fn streaming() {
    let Some(folder) = shared("recordings/espdl/streaming") else {
        return;
    };
    let p4 = Recorded::read(&folder.join("esp32p4.espdl"));
    let own = Spec::resolve("esp-dl-p4").expect("a target");
    assert_eq!(p4.output.len(), 16);
    assert_eq!(p4.wrong(&own), 0);
    assert_eq!(p4.tables(&own), 0);
    assert_eq!(p4.rounded(&own), [0, 5, 5, 14, 13]);
    // Each operation apart: in f32, which is exact here, and rounded half up.
    let mut half_up = own.clone();
    half_up.quantize.rounding = Rounding::HalfUp;
    assert_eq!(p4.tables(&half_up), 0);
    let apart = |change: fn(&mut Spec)| {
        let mut spec = half_up.clone();
        change(&mut spec);
        p4.wrong(&spec)
    };
    assert_eq!(
        [
            apart(|spec| spec.ops.add = Some(AddRule::F32)),
            apart(|spec| spec.ops.mul = Some(MulRule::F32)),
            apart(|spec| spec.ops.average = Some(AverageRule::F32)),
            apart(|spec| spec.ops.add = Some(AddRule::RequantizeEach)),
            apart(|spec| spec.ops.average = Some(AverageRule::IntegerHalfAway)),
            apart(|spec| spec.ops.average = Some(AverageRule::IntegerFloor)),
            apart(|spec| spec.ops.sigmoid = Some(SigmoidRule::MlasTable)),
        ],
        [0, 0, 0, 0, 10, 9, 0]
    );

    let s3 = Recorded::read(&folder.join("esp32s3.espdl"));
    let own = Spec::resolve("esp-dl-s3").expect("a target");
    assert_eq!(s3.wrong(&own), 0);
    assert_eq!(s3.tables(&own), 0);
    assert_eq!(s3.rounded(&own), [0, 0, 0, 13, 10]);
}

/// Fully connected layers: the same numbers for both chips, nearest, ties undecided.
#[test]
fn fully_connected() {
    let Some(folder) = shared("recordings/espdl/gemm") else {
        return;
    };
    for (chip, target, floor) in [("esp32p4", "esp-dl-p4", 0), ("esp32s3", "esp-dl-s3", 1)] {
        let spec = Spec::resolve(target).expect("a target");
        for (file, wrong) in [
            ("linear_ishap_1_16_kshap_16_16_relu_s8", [0, 0, 0, 0, 0]),
            ("linear_ishap_1_31_kshap_32_31_relu_s8", [0, 0, 0, 9, 9]),
            ("linear_ishap_1_64_kshap_32_64_relu_s8", [0, 0, 0, 15, 13]),
            ("mlp3", [0, 0, 0, floor, 1]),
        ] {
            let recorded = Recorded::read(&folder.join(chip).join(format!("{file}.espdl")));
            assert_eq!(recorded.wrong(&spec), 0, "{chip} {file}");
            assert_eq!(recorded.rounded(&spec), wrong, "{chip} {file}");
        }
    }
}
