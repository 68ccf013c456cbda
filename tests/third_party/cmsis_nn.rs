//! Arm's unit tests of CMSIS-NN: the cases in which one and two roundings differ, and two of 16 bits.

use std::collections::BTreeMap;
use std::path::Path;

use align_check_graph::{Activation, Affine, Binary, Conv, Gemm, Op, PerChannel};
use align_check_simulators::network::Network;
use align_check_specs::{Multiplier, Rounding, Shift, Spec, Step};
use align_check_tests::assemble::{
    Assembly, Tensors, arrays, differing, grid, permuted, plain_conv, run,
};
use align_check_tests::shared;

/// One of Arm's cases.
struct Case {
    name: String,
    config: BTreeMap<String, i64>,
    arrays: BTreeMap<String, (Vec<usize>, Vec<f64>)>,
}

impl Case {
    fn read(folder: &Path, name: &str) -> Self {
        let text = std::fs::read_to_string(folder.join(format!("{name}.json"))).expect("a case");
        let json: BTreeMap<String, String> = serde_json::from_str(&text).expect("a case");
        let prefix = format!("{}_", name.to_uppercase());
        let config = json.into_iter().map(|(key, value)| {
            let key = key.strip_prefix(&prefix).expect("the case's prefix");
            (key.to_owned(), value.parse().expect("a number"))
        });
        Self {
            name: name.to_owned(),
            config: config.collect(),
            arrays: arrays(&folder.join(format!("{name}.npz"))),
        }
    }

    fn size(&self, key: &str) -> usize {
        usize::try_from(self.config[key]).expect("a size")
    }

    fn sizes(&self, keys: [&str; 2]) -> Vec<usize> {
        keys.map(|key| self.size(key)).to_vec()
    }

    fn numbers(&self, key: &str) -> &[f64] {
        &self.arrays[&format!("{}_{key}", self.name)].1
    }

    fn integers(&self, key: &str) -> Vec<i64> {
        self.numbers(key).iter().map(|&v| v as i64).collect()
    }

    /// `multiplier * 2^(shift - 31)` of every channel.
    fn factors(&self) -> Vec<f64> {
        let factor = |m: f64, shift: f64| m * 2f64.powi(shift as i32 - 31);
        match self.config.get("OUTPUT_MULTIPLIER") {
            Some(&m) => vec![factor(m as f64, self.config["OUTPUT_SHIFT"] as f64)],
            None => self
                .numbers("output_mult")
                .iter()
                .zip(self.numbers("output_shift"))
                .map(|(&m, &s)| factor(m, s))
                .collect(),
        }
    }

    /// The network of a convolution, its input and its output: channels first.
    fn convolution(&self) -> (Network, Tensors, Vec<f64>) {
        let (channels, filters) = (self.size("IN_CH"), self.size("OUT_CH"));
        let kernel = self.sizes(["FILTER_Y", "FILTER_X"]);
        let image = self.sizes(["INPUT_H", "INPUT_W"]);
        let result = self.sizes(["OUTPUT_H", "OUTPUT_W"]);
        let batch = self.size("INPUT_BATCHES");
        let depthwise = self.config.contains_key("CH_MULT");
        let weights = self.integers("weights");
        let taps = kernel[0] * kernel[1];
        // O H W I, for depthwise 1 H W O.
        let (weights, deep) = if depthwise {
            let order = permuted(&weights, &[taps, filters], &[1, 0]);
            (order, 1)
        } else {
            let deep = weights.len() / filters / taps;
            (permuted(&weights, &[filters, taps, deep], &[0, 2, 1]), deep)
        };
        let mut graph = Assembly::new(&self.name);
        let x = graph.input(
            "x",
            &[batch, channels, image[0], image[1]],
            affine(-self.config["INPUT_OFFSET"], 8),
        );
        let conv = Conv {
            strides: self.sizes(["STRIDE_Y", "STRIDE_X"]),
            pads_before: self.sizes(["PAD_Y", "PAD_X"]),
            // As much as the output's extent takes.
            pads_after: self.sizes(["PAD_Y", "PAD_X"]),
            dilations: self.sizes(["DILATION_Y", "DILATION_X"]),
            groups: channels / deep,
            ..plain_conv(&kernel)
        };
        let (first, second) = split(&self.factors());
        let shape = [filters, deep, kernel[0], kernel[1]];
        let w = graph.codes("w", &shape, weights, per_channel(&first, 8));
        let b = self.integers("biases");
        let b = graph.codes("b", &[filters], b, per_channel(&first, 32));
        let shape = [batch, filters, result[0], result[1]];
        let sum = graph.node("sum", Op::Conv(conv), &[x, w, b], &shape);
        let factor = graph.reals("factor", &[filters, 1, 1], second);
        let network = self.finish(graph, sum, factor, 8);
        let nhwc = [batch, image[0], image[1], channels];
        let input = permuted(self.numbers("input"), &nhwc, &[0, 3, 1, 2]);
        let nhwc = [batch, result[0], result[1], filters];
        let output = permuted(self.numbers("output_ref"), &nhwc, &[0, 3, 1, 2]);
        (network, Tensors::from([("x".into(), input)]), output)
    }

    /// The network of a fully connected layer of 16 bits.
    fn fully_connected(&self) -> (Network, Tensors, Vec<f64>) {
        let (batch, filters) = (self.size("INPUT_BATCHES"), self.size("OUT_CH"));
        let depth = self.size("ACCUMULATION_DEPTH");
        let mut graph = Assembly::new(&self.name);
        let x = graph.input("x", &[batch, depth], affine(0, 16));
        let (first, second) = split(&self.factors());
        let own = grid(first[0], 8, true);
        let w = graph.codes(
            "w",
            &[filters, depth],
            self.integers("weights"),
            own.clone(),
        );
        let wide = Affine { bits: 64, ..own };
        let b = graph.codes("b", &[filters], self.integers("biases"), wide);
        let gemm = Gemm {
            alpha: 1.0,
            beta: 1.0,
            trans_a: false,
            trans_b: true,
        };
        let sum = graph.node("sum", Op::Gemm(gemm), &[x, w, b], &[batch, filters]);
        let factor = graph.reals("factor", &[1], second);
        let network = self.finish(graph, sum, factor, 16);
        let input = Tensors::from([("x".into(), self.numbers("input").to_vec())]);
        (network, input, self.numbers("output_ref").to_vec())
    }

    /// Factor, clamp and quantizer behind the sum.
    fn finish(&self, mut graph: Assembly, sum: usize, factor: usize, bits: u32) -> Network {
        let offset = self.config["OUTPUT_OFFSET"];
        let bound = |key: &str| (self.config[key] - offset) as f32;
        let scaled = graph.like("scaled", Op::Binary(Binary::Mul), &[sum, factor]);
        let clip = Op::Activation(Activation::Clip {
            min: bound("OUT_ACTIVATION_MIN"),
            max: bound("OUT_ACTIVATION_MAX"),
        });
        let clipped = graph.like("clipped", clip, &[scaled]);
        let y = graph.quantize("y", clipped, affine(offset, bits));
        graph.network(&[y])
    }
}

fn affine(offset: i64, bits: u32) -> Affine {
    Affine {
        zero_point: PerChannel::uniform(offset as f32),
        ..grid(1.0, bits, true)
    }
}

fn per_channel(scales: &[f32], bits: u32) -> Affine {
    Affine {
        scale: PerChannel {
            values: scales.to_vec(),
            axis: (scales.len() > 1).then_some(0),
        },
        ..grid(1.0, bits, true)
    }
}

/// Each factor as a product of two `f32` that comes as near as a mantissa of 31 bits needs: Arm's tests hold
/// mantissas of 31 bits, and a scale is an `f32`.
fn split(factors: &[f64]) -> (Vec<f32>, Vec<f32>) {
    let pair = |&factor: &f64| {
        let near = (0..1 << 16).find_map(|n: u32| {
            let first = f32::from_bits(1f32.to_bits() + n);
            let second = (factor / f64::from(first)) as f32;
            let error = f64::from(first) * f64::from(second) / factor - 1.0;
            (error.abs() < 2f64.powi(-34)).then_some((first, second))
        });
        near.expect("a pair of f32")
    };
    factors.iter().map(pair).unzip()
}

/// How many outputs of all cases differ under a spec.
fn wrong(cases: &[(Network, Tensors, Vec<f64>)], spec: &Spec) -> usize {
    let wrong = |(network, input, output): &(Network, Tensors, Vec<f64>)| {
        let made = run(network, spec, input, &Tensors::new(), &[]);
        differing(&made["y"], output)
    };
    cases.iter().map(wrong).sum()
}

fn one(rounding: Rounding) -> Vec<Step> {
    vec![Step {
        shift: Shift::Rest,
        rounding,
        saturate: None,
    }]
}

/// Two roundings give every code of the six cases, one rounding of any kind misses one in each.
#[test]
fn double_rounding_of_8_bits() {
    let Some(folder) = shared("recordings/cmsis-nn") else {
        return;
    };
    let names = [
        "conv_1_x_n_7",
        "conv_2x2_dilation",
        "conv_5",
        "depthwise_dilation",
        "grouped_conv_4",
        "kernel1x1_stride_x_y",
    ];
    let cases: Vec<_> = names
        .iter()
        .map(|name| Case::read(&folder, name).convolution())
        .collect();
    let outputs: usize = cases.iter().map(|(_, _, output)| output.len()).sum();
    assert_eq!(outputs, 5_619);
    let own = Spec::resolve("cmsis-nn").expect("a target");
    assert_eq!(wrong(&cases, &own), 0);
    let single = Spec::resolve("cmsis-nn-single-rounding").expect("a target");
    for case in &cases {
        assert_eq!(wrong(std::slice::from_ref(case), &single), 1);
    }
    let with = |steps: Vec<Step>| {
        let mut spec = own.clone();
        spec.requantize.steps = steps;
        wrong(&cases, &spec)
    };
    let counts = [
        Rounding::HalfUp,
        Rounding::HalfAway,
        Rounding::HalfEven,
        Rounding::Floor,
        Rounding::Trunc,
    ]
    .map(|rounding| with(one(rounding)));
    assert_eq!(counts, [6, 6, 6, 2_729, 2_685]);
    let two = |first: Rounding, second: Rounding| {
        let mut steps = one(first);
        steps[0].shift = Shift::By(31);
        steps.extend(one(second));
        with(steps)
    };
    let counts = [
        two(Rounding::HalfUp, Rounding::HalfUp),
        two(Rounding::HalfUp, Rounding::HalfEven),
        two(Rounding::HalfAway, Rounding::HalfAway),
        two(Rounding::Floor, Rounding::HalfAway),
    ];
    // Half away in the first step is not told apart: it differs from half up only where the product is a tie.
    assert_eq!(counts, [2, 2, 0, 6]);
}

/// 16 bits: the multiplier of 15 bits and one rounding; every rule with a multiplier of 31 bits misses some.
#[test]
fn multiplier_of_16_bits() {
    let Some(folder) = shared("recordings/cmsis-nn") else {
        return;
    };
    let cases: Vec<_> = ["fully_connected_int16", "fc_int16_slow"]
        .iter()
        .map(|name| Case::read(&folder, name).fully_connected())
        .collect();
    let mut spec = Spec::resolve("cmsis-nn").expect("a target");
    spec.activations.bits = vec![16];
    spec.accumulator.bits = Some(64);
    let two = wrong(&cases, &spec);
    let mut counts = Vec::new();
    for rounding in [Rounding::HalfUp, Rounding::HalfAway, Rounding::HalfEven] {
        spec.requantize.steps = one(rounding);
        counts.push(wrong(&cases, &spec));
    }
    spec.requantize.steps = one(Rounding::HalfUp);
    spec.requantize.multiplier = Multiplier::Q15Reduced;
    assert_eq!(wrong(&cases, &spec), 0);
    assert_eq!((two, counts), (8, vec![8, 8, 8]));
}
