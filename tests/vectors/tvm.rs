//! TVM's Relay QNN operators, compiled by TVM: the targets `tvm` and `tvm-tonearest`.

use std::collections::BTreeMap;

use align_check::inputs::{ArrayKind, read_arrays};
use align_check_graph::{Affine, Binary, Conv, Gemm, Op, PerChannel, Pool, ValueId};
use align_check_simulators::num::Trace;
use align_check_simulators::ops::window::Windows;
use align_check_simulators::rules::Labels;
use align_check_simulators::rules::average::Average;
use align_check_simulators::rules::elementwise;
use align_check_simulators::rules::unary::{factor, rescale};
use align_check_specs::{AddRule, AverageRule, Derivation, Multiplier, Rounding, Spec};
use align_check_tests::assemble::{Assembly, Tensors, differing, grid, plain_conv, rounding, run};
use align_check_tests::golden;

const OPEN: (f64, f64) = (f64::NEG_INFINITY, f64::INFINITY);

/// One recorded call.
struct Call(BTreeMap<String, (Vec<usize>, Vec<f64>, ArrayKind)>);

impl Call {
    fn numbers(&self, key: &str) -> &[f64] {
        &self.0[key].1
    }

    fn shape(&self, key: &str) -> &[usize] {
        &self.0[key].0
    }

    fn number(&self, key: &str) -> f64 {
        self.numbers(key)[0]
    }

    /// Smallest and largest code of a tensor's type.
    fn range(&self, key: &str) -> (i64, i64) {
        match self.0[key].2 {
            ArrayKind::Unsigned(bits) => (0, (1 << bits) - 1),
            ArrayKind::Signed(bits) => (i64::MIN >> (64 - bits), i64::MAX >> (64 - bits)),
            ArrayKind::Float => panic!("reals"),
        }
    }

    fn labels(&self, key: &str) -> Labels {
        let (min, max) = self.range(key);
        Labels {
            scale: self.number(&format!("{key}_scale")),
            zero_point: self.number(&format!("{key}_zero")) as i64,
            min,
            max,
            relabel: 0,
        }
    }

    fn grid(&self, key: &str) -> Affine {
        let (min, max) = self.range(key);
        let scales: Vec<f32> = self
            .numbers(&format!("{key}_scale"))
            .iter()
            .map(|&s| s as f32)
            .collect();
        Affine {
            scale: PerChannel {
                axis: (scales.len() > 1).then_some(0),
                values: scales,
            },
            zero_point: PerChannel::uniform(self.number(&format!("{key}_zero")) as f32),
            ..grid(1.0, 64 - (max - min).leading_zeros(), min < 0)
        }
    }

    fn requantize(&self, spec: &Spec) -> usize {
        let (x, out) = (self.labels("input"), self.labels("output"));
        let unit = (x.scale, 1.0);
        let rule = factor(&spec.requantize, &spec.accumulator, unit, out, OPEN).expect("scales");
        let made = self.numbers("input").iter();
        let made = made.map(|&q| rule.code(x.steps(q as i32), 0, false).value.into());
        differing(&made.collect::<Vec<f64>>(), self.numbers("output"))
    }

    fn pair(&self, spec: &Spec, op: Binary) -> usize {
        let operands = ["input_1", "input_2"].map(|key| self.labels(key));
        let out = self.labels("output");
        let function = if op == Binary::Mul {
            let rule = spec.ops.mul.expect("a rule");
            elementwise::mul(rule, spec, operands, out).expect("scales")
        } else {
            let rule = spec.ops.add.expect("a rule");
            elementwise::add(rule, spec, op, operands, out, false)
        };
        let function = function.expect("a rule of integers");
        let pairs = self.numbers("input_1").iter().zip(self.numbers("input_2"));
        let made = pairs.map(|(&a, &b)| function(a as i32, b as i32, &mut Trace::off()).into());
        differing(&made.collect::<Vec<f64>>(), self.numbers("output"))
    }

    fn concatenate(&self, spec: &Spec) -> usize {
        let out = self.labels("output");
        let mut made: Vec<f64> = Vec::new();
        for key in ["input_1", "input_2"] {
            let rule = spec.ops.rescale.expect("a rule");
            let function = rescale(rule, spec, self.labels(key), out, OPEN).expect("scales");
            let function = function.expect("a rule of integers");
            made.extend(
                self.numbers(key)
                    .iter()
                    .map(|&q| f64::from(function(q as i32, &mut Trace::off()))),
            );
        }
        differing(&made, self.numbers("output"))
    }

    fn average(&self, spec: &Spec) -> usize {
        let size = |key: &str| vec![self.number(key) as usize; 2];
        let pool = Pool {
            kernel: size("kernel"),
            strides: size("stride"),
            pads_before: size("padding"),
            pads_after: size("padding"),
            dilations: vec![1, 1],
        };
        let padding = self.number("count_include_pad") != 0.0;
        let windows = Windows::pool(&pool, self.shape("input"), self.shape("output"), padding);
        let labels = Labels {
            scale: 1.0,
            zero_point: 0,
            min: i32::MIN.into(),
            max: i32::MAX.into(),
            relabel: 0,
        };
        let rule = spec.ops.average.expect("a rule");
        let average = Average::new(rule, spec, labels, labels, None).expect("scales");
        let codes: Vec<i32> = self.numbers("input").iter().map(|&q| q as i32).collect();
        let made = average.expect("a rule of integers").codes(&windows, &codes);
        let made: Vec<f64> = made.into_iter().map(f64::from).collect();
        differing(&made, self.numbers("output"))
    }

    /// A convolution or a fully connected layer, through a whole plan.
    fn layer(&self, spec: &Spec) -> usize {
        let codes = |key: &str| self.numbers(key).iter().map(|&q| q as i64).collect();
        let mut graph = Assembly::new("tvm");
        let x = graph.input("x", self.shape("input"), self.grid("input"));
        let weights = self.grid("weight");
        let w = graph.codes("w", self.shape("weight"), codes("weight"), weights.clone());
        let scale = weights.scale.map(|s| s * self.number("input_scale") as f32);
        let bias = Affine {
            scale,
            ..grid(1.0, 32, true)
        };
        let b = graph.codes("b", self.shape("bias"), codes("bias"), bias);
        let shape = self.shape("output");
        let sum: ValueId = if shape.len() == 4 {
            let size = |key: &str| vec![self.number(key) as usize; 2];
            let conv = Conv {
                strides: size("stride"),
                pads_before: size("padding"),
                pads_after: size("padding"),
                ..plain_conv(&self.shape("weight")[2..])
            };
            graph.node("sum", Op::Conv(conv), &[x, w, b], shape)
        } else {
            let gemm = Gemm {
                alpha: 1.0,
                beta: 1.0,
                trans_a: false,
                trans_b: true,
            };
            graph.node("sum", Op::Gemm(gemm), &[x, w, b], shape)
        };
        let y = graph.quantize("y", sum, self.grid("output"));
        let network = graph.network(&[y]);
        let input = Tensors::from([("x".into(), self.numbers("input").to_vec())]);
        let made = run(&network, spec, &input, &Tensors::new(), &[]);
        differing(&made["y"], self.numbers("output"))
    }
}

/// The calls of a recording, by operator.
fn calls(folder: &str) -> BTreeMap<String, Vec<Call>> {
    let path = golden("tvm").join(folder).join("vectors.npz");
    let mut calls: BTreeMap<String, BTreeMap<usize, Call>> = BTreeMap::new();
    for (key, array) in read_arrays(&path).unwrap_or_else(|e| panic!("{e}")) {
        let (op, rest) = key.split_once('-').expect("an operator");
        let (case, name) = rest.split_once('_').expect("a case");
        let call = calls.entry(op.to_owned()).or_default();
        let call = call.entry(case.parse().expect("a number"));
        let call = call.or_insert_with(|| Call(BTreeMap::new()));
        let entry = (array.shape, array.values, array.kind);
        call.0.insert(name.to_owned(), entry);
    }
    let list = |calls: BTreeMap<usize, Call>| calls.into_values().collect();
    calls.into_iter().map(|(op, own)| (op, list(own))).collect()
}

/// Numbers that a spec gets wrong, by operator.
fn wrong(calls: &BTreeMap<String, Vec<Call>>, spec: &Spec) -> BTreeMap<String, usize> {
    let one = |op: &str, call: &Call| match op {
        "requantize" => call.requantize(spec),
        "add" => call.pair(spec, Binary::Add),
        "mul" => call.pair(spec, Binary::Mul),
        "concatenate" => call.concatenate(spec),
        "average" => call.average(spec),
        "conv2d" | "dense" => call.layer(spec),
        other => panic!("operator {other}"),
    };
    calls
        .iter()
        .map(|(op, list)| (op.clone(), list.iter().map(|call| one(op, call)).sum()))
        .collect()
}

/// In this order: add, average, concatenate, conv2d, dense, mul, requantize.
fn counts(calls: &BTreeMap<String, Vec<Call>>, spec: &Spec) -> Vec<usize> {
    wrong(calls, spec).into_values().collect()
}

fn averaged(spec: &Spec, rule: AverageRule) -> Spec {
    let mut spec = spec.clone();
    spec.ops.average = Some(rule);
    spec
}

#[test]
fn upward() {
    let calls = calls("int64-upward");
    let own = Spec::resolve("tvm").expect("a target");
    assert_eq!(counts(&calls, &own), [0; 7]);
    let nearest = Spec::resolve("tvm-tonearest").expect("a target");
    assert_eq!(counts(&calls, &nearest), [1478, 0, 1478, 32, 16, 133, 789]);
    let even = rounding(own.clone(), Rounding::HalfEven);
    assert_eq!(counts(&calls, &even), [1561, 0, 1620, 56, 21, 112, 630]);
    let floor = rounding(own.clone(), Rounding::Floor);
    assert_eq!(
        counts(&calls, &floor),
        [5590, 0, 7316, 1285, 398, 1620, 6978]
    );
    let mut other = own.clone();
    let derived = [Derivation::F64, Derivation::F32].map(|derivation| {
        other.requantize.derivation = derivation;
        counts(&calls, &other)
    });
    // The product in f64 is not told apart.
    assert_eq!(derived, [[0; 7], [0, 0, 0, 2, 0, 0, 0]]);
    let mut single = own.clone();
    single.requantize.multiplier = Multiplier::F32;
    let single = counts(&calls, &single);
    let mut once = own.clone();
    once.ops.add = Some(AddRule::RoundedOnce);
    let once = wrong(&calls, &once)["add"];
    assert_eq!((single, once), (vec![0, 0, 0, 1, 0, 0, 526], 1871));
    let floor = averaged(&own, AverageRule::IntegerFloor);
    assert_eq!(wrong(&calls, &floor)["average"], 432);
    let away = averaged(&own, AverageRule::IntegerHalfAway);
    assert_eq!(wrong(&calls, &away)["average"], 478);
}

#[test]
fn to_nearest() {
    let calls = calls("int64-tonearest");
    let own = Spec::resolve("tvm-tonearest").expect("a target");
    assert_eq!(counts(&calls, &own), [0; 7]);
    let up = Spec::resolve("tvm").expect("a target");
    assert_eq!(counts(&calls, &up), [1478, 0, 1478, 32, 16, 133, 789]);
    let even = rounding(own, Rounding::HalfEven);
    assert_eq!(counts(&calls, &even), [1496, 0, 1656, 60, 19, 105, 679]);
}
