//! Analog Devices' known-answer tests of the MAX78000, which its firmware compares with the chip's memory: three
//! whole networks.

use std::collections::BTreeMap;
use std::path::Path;

use align_check_graph::{Conv, Gemm, Op, Pool};
use align_check_simulators::network::Network;
use align_check_specs::{AverageRule, BiasFormat, Rounding, Spec};
use align_check_tests::assemble::{
    Assembly, Tensors, arrays, differing, grid, plain_conv, rounding, run,
};
use align_check_tests::shared;

use crate::torch::{Numbers, state};

/// One layer of a network's YAML file.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// Name of its weights; empty where there are none.
    name: &'static str,
    /// Pooling in front, windows that do not overlap.
    pool: Option<(PoolKind, [usize; 2])>,
    pad: usize,
    relu: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum PoolKind {
    Max,
    Average,
}

const MAX: Option<(PoolKind, [usize; 2])> = Some((PoolKind::Max, [2, 2]));

const fn step(name: &'static str, pool: Option<(PoolKind, [usize; 2])>, pad: usize) -> Step {
    Step {
        name,
        pool,
        pad,
        relu: true,
    }
}

/// Without a `ReLU`.
const fn last(name: &'static str, pool: Option<(PoolKind, [usize; 2])>) -> Step {
    Step {
        relu: false,
        ..step(name, pool, 0)
    }
}

/// `mnist-chw-ai85.yaml`
const MNIST: [Step; 5] = [
    step("conv1", None, 1),
    step("conv2", MAX, 2),
    step("conv3", MAX, 1),
    step("conv4", Some((PoolKind::Average, [2, 2])), 1),
    last("fc", None),
];

/// `cifar10-nas.yaml`
const CIFAR: [Step; 11] = [
    step("conv1_1", None, 1),
    step("conv1_2", None, 0),
    step("conv1_3", None, 1),
    step("conv2_1", MAX, 1),
    step("conv2_2", None, 0),
    step("conv3_1", MAX, 1),
    step("conv3_2", None, 0),
    step("conv4_1", MAX, 1),
    step("conv4_2", None, 1),
    step("conv5_1", MAX, 0),
    last("fc", None),
];

/// `faceid.yaml`
const FACEID: [Step; 9] = [
    step("conv1", None, 1),
    step("conv2", MAX, 1),
    step("conv3", MAX, 1),
    step("conv4", MAX, 1),
    step("conv5", MAX, 1),
    step("conv6", None, 1),
    step("conv7", None, 1),
    last("conv8", MAX),
    last("", Some((PoolKind::Average, [5, 3]))),
];

/// Outputs of `mnist` and `cifar-10`, as the recordings' README has them.
const MNIST_OUTPUT: [i32; 10] = [
    -77_992, 93_377, 45_484, 29_850, -36_248, -130_974, -272_399, 416_616, -148_783, 25_073,
];
const CIFAR_OUTPUT: [i32; 10] = [
    -248_970, -233_651, -180_131, 199_318, -197_772, 4_497, -144_072, -223_746, -249_736, -259_639,
];

/// A known-answer test.
struct Test {
    network: Network,
    input: Tensors,
    output: Vec<f64>,
}

impl Test {
    fn new(folder: &Path, files: [&str; 2], steps: &[Step], output: Vec<f64>) -> Self {
        let weights = state(&folder.join(files[0]));
        let (shape, input) = arrays(&folder.join(files[1])).remove("").expect("an array");
        Self {
            network: network(&weights, &shape, steps),
            input: Tensors::from([("x".into(), input)]),
            output,
        }
    }

    /// How many outputs differ.
    fn wrong(&self, spec: &Spec) -> usize {
        let made = run(&self.network, spec, &self.input, &Tensors::new(), &[]);
        differing(&made["y"], &self.output)
    }
}

/// The network of a checkpoint. Codes of 8 bits stand for multiples of a scale that starts with 1: a weight is
/// worth 2^-7, and an output shift of `s` divides the output's scale by 2^s.
fn network(weights: &BTreeMap<String, Numbers>, shape: &[usize], steps: &[Step]) -> Network {
    let mut graph = Assembly::new("max78000");
    let mut scale = 1f32;
    let image = [1, shape[0], shape[1], shape[2]];
    let mut x = graph.input("x", &image, grid(scale, 8, true));
    for (index, step) in steps.iter().enumerate() {
        let end = index + 1 == steps.len();
        let name = |part: &str| match (part, end) {
            ("", true) => "y".to_owned(),
            _ => format!("{index}{part}"),
        };
        if let Some((kind, kernel)) = step.pool {
            let [_, channels, height, width] = graph.shape(x)[..] else {
                panic!("no image")
            };
            let shape = [1, channels, height / kernel[0], width / kernel[1]];
            let pool = Pool {
                kernel: kernel.to_vec(),
                strides: kernel.to_vec(),
                pads_before: vec![0, 0],
                pads_after: vec![0, 0],
                dilations: vec![1, 1],
            };
            if kind == PoolKind::Max {
                x = graph.node(&name("max"), Op::MaxPool(pool), &[x], &shape);
            } else {
                let op = Op::AveragePool {
                    pool,
                    count_include_pad: false,
                };
                let mean = graph.node(&name("mean"), op, &[x], &shape);
                let pooled = if step.name.is_empty() { "" } else { "average" };
                x = graph.quantize(&name(pooled), mean, grid(scale, 8, true));
            }
        }
        if step.name.is_empty() {
            continue;
        }
        let (kernel, own) = &weights[&format!("{}.op.weight", step.name)];
        let codes = own.iter().map(|&w| w as i64).collect();
        let w = graph.codes(&name("w"), kernel, codes, grid(2f32.powi(-7), 8, true));
        let product = scale * 2f32.powi(-7);
        let mut inputs = vec![x, w];
        if let Some((shape, bias)) = weights.get(&format!("{}.op.bias", step.name)) {
            // In units of the accumulator.
            let reals = bias.iter().map(|&b| b as f32 * product).collect();
            inputs.push(graph.reals(&name("b"), shape, reals));
        }
        let sum = if let [filters, _, rows, columns] = kernel[..] {
            let [_, _, height, width] = graph.shape(x)[..] else {
                panic!("no image")
            };
            let conv = Conv {
                pads_before: vec![step.pad; 2],
                pads_after: vec![step.pad; 2],
                ..plain_conv(&[rows, columns])
            };
            let grown = |size: usize, taps: usize| size + 2 * step.pad + 1 - taps;
            let shape = [1, filters, grown(height, rows), grown(width, columns)];
            graph.node(&name("sum"), Op::Conv(conv), &inputs, &shape)
        } else {
            inputs[0] = graph.node(&name("flat"), Op::Reshape, &[x], &[1, kernel[1]]);
            let gemm = Gemm {
                alpha: 1.0,
                beta: 1.0,
                trans_a: false,
                trans_b: true,
            };
            graph.node(&name("sum"), Op::Gemm(gemm), &inputs, &[1, kernel[0]])
        };
        if kernel.len() == 2 {
            // output_width: 32
            x = graph.quantize(&name(""), sum, grid(product, 32, true));
            continue;
        }
        let shift = weights[&format!("{}.output_shift", step.name)].1[0];
        scale /= 2f32.powi(shift as i32);
        let out = if step.relu {
            graph.relu(&name("relu"), sum)
        } else {
            sum
        };
        x = graph.quantize(&name(""), out, grid(scale, 8, true));
    }
    graph.network(&[x])
}

fn spec() -> Spec {
    let mut spec = Spec::resolve("max78000").expect("a target");
    // The width of an output is a setting of its layer: 8 or 32 bits.
    spec.activations.bits = vec![8, 32];
    spec
}

/// The neighbours of the rounding, in a fixed order.
const ROUNDINGS: [Rounding; 4] = [
    Rounding::HalfAway,
    Rounding::HalfEven,
    Rounding::Floor,
    Rounding::Trunc,
];

fn rounded(test: &Test) -> [usize; 4] {
    ROUNDINGS.map(|other| test.wrong(&rounding(spec(), other)))
}

fn averaged(test: &Test, rule: AverageRule) -> usize {
    let mut spec = spec();
    spec.ops.average = Some(rule);
    test.wrong(&spec)
}

#[test]
fn mnist() {
    let Some(folder) = shared("recordings/max78000-kat") else {
        return;
    };
    let files = ["ai85-mnist-qat8-q.pth.tar", "sample_mnist.npy"];
    let output = MNIST_OUTPUT.map(f64::from).to_vec();
    let test = Test::new(&folder, files, &MNIST, output);
    assert_eq!(test.wrong(&spec()), 0);
    // Behind a ReLU half away from zero is half up.
    assert_eq!(rounded(&test), [0, 10, 10, 10]);
    assert_eq!(averaged(&test, AverageRule::IntegerHalfAway), 10);
    let with = |format, rounding| {
        let mut spec = spec();
        spec.bias.format = format;
        spec.bias.rounding = rounding;
        test.wrong(&spec)
    };
    let times = BiasFormat::Int8Times128;
    let biases = [
        with(times, Rounding::HalfUp),
        with(times, Rounding::HalfEven),
        with(BiasFormat::Int32, Rounding::HalfEven),
    ];
    assert_eq!(biases, [5, 5, 10]);
}

#[test]
fn cifar_10() {
    let Some(folder) = shared("recordings/max78000-kat") else {
        return;
    };
    let files = ["ai85-cifar10-qat8-q.pth.tar", "sample_cifar-10.npy"];
    let output = CIFAR_OUTPUT.map(f64::from).to_vec();
    let test = Test::new(&folder, files, &CIFAR, output);
    assert_eq!(test.wrong(&spec()), 0);
    assert_eq!(rounded(&test), [0, 10, 10, 10]);
}

#[test]
fn faceid() {
    let Some(folder) = shared("recordings/max78000-kat") else {
        return;
    };
    let text = std::fs::read_to_string(folder.join("faceid_expected_512.txt")).expect("a file");
    let output = text.lines().map(|n| n.parse().expect("a number")).collect();
    let files = ["test-faceid-qat8-q.pth.tar", "sample_faceid.npy"];
    let test = Test::new(&folder, files, &FACEID, output);
    assert_eq!(test.output.len(), 512);
    assert_eq!(test.wrong(&spec()), 0);
    assert_eq!(rounded(&test), [3, 223, 352, 349]);
    assert_eq!(averaged(&test, AverageRule::IntegerFloor), 246);
    assert_eq!(averaged(&test, AverageRule::IntegerHalfAway), 243);
}
