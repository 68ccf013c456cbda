//! Inference: points of the zoo that are drawn at random are found again, from what they make of a small network.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use align_check::check::Target;
use align_check::infer::{self, Class, Inference, OpRule, Point, Question};
use align_check::inputs::{Array, ArrayKind, Recording, Sample};
use align_check_graph::{Graph, Limits, Model};
use align_check_simulators::adapt::put_on;
use align_check_simulators::kernels::Isa;
use align_check_simulators::network::Network;
use align_check_simulators::run::Runner;
use align_check_simulators::tensor::{Data, Tensor};
use align_check_specs::{
    Accumulator, AddRule, AverageRule, Bias, BiasFormat, Derivation, Division, LeftShift,
    Multiplier, Order, Overflow, Rounding, Shift, Spec, Step, ZeroPointPosition,
};
use align_check_tests::onnx::{Onnx, int, ints};
use align_check_tests::{Npz, Random, say};

/// A network with every kind of layer whose rules a draw can change, on scales that are powers of two (`ties`) or not.
fn model(ties: bool) -> Onnx {
    let mut random = Random(17);
    let scale = |float: f32, power: f32| if ties { power } else { float };
    let mut weights =
        |count: usize| -> Vec<i32> { (0..count).map(|_| random.below(255) as i32 - 127).collect() };
    let (w1, w2, w3) = (weights(6 * 4 * 9), weights(6 * 9), weights(10 * 6 * 64));
    let biases: Vec<f32> = (0..6).map(|i| (i as f32 - 2.5) * 0.37).collect();
    let per_channel: Vec<f32> = (0..6)
        .map(|i| {
            scale(
                0.004 + 0.0007 * i as f32,
                if i % 2 == 0 { 1.0 / 256.0 } else { 1.0 / 128.0 },
            )
        })
        .collect();
    Onnx::new()
        .input("x", &[1, 4, 8, 8])
        .qdq(
            "x",
            "xq",
            scale(0.0391, 1.0 / 32.0),
            if ties { 3 } else { 5 },
            true,
        )
        .codes("w1", &[6, 4, 3, 3], &w1, true)
        .reals("w1s", &[6], &per_channel)
        .codes("w1z", &[6], &[0; 6], true)
        .node(
            "DequantizeLinear",
            &["w1", "w1s", "w1z"],
            "w1d",
            &[int("axis", 0)],
        )
        .reals("b1", &[6], &biases)
        .node(
            "Conv",
            &["xq", "w1d", "b1"],
            "c1",
            &[ints("kernel_shape", &[3, 3]), ints("pads", &[1, 1, 1, 1])],
        )
        .qdq("c1", "c1q", scale(0.231, 0.25), 7, true)
        .codes("w2", &[6, 1, 3, 3], &w2, true)
        .reals("w2s", &[], &[scale(0.0061, 1.0 / 128.0)])
        .codes("w2z", &[], &[0], true)
        .node("DequantizeLinear", &["w2", "w2s", "w2z"], "w2d", &[])
        .node(
            "Conv",
            &["c1q", "w2d"],
            "c2",
            &[
                ints("kernel_shape", &[3, 3]),
                ints("pads", &[1, 1, 1, 1]),
                int("group", 6),
            ],
        )
        .qdq("c2", "c2q", scale(0.413, 0.5), -3, true)
        .node("Add", &["c1q", "c2q"], "a", &[])
        .qdq("a", "aq", scale(0.507, 0.5), 1, true)
        .node(
            "AveragePool",
            &["aq"],
            "p",
            &[ints("kernel_shape", &[2, 2]), ints("strides", &[1, 1])],
        )
        .qdq("p", "pq", scale(0.507, 0.5), 1, true)
        .node("Flatten", &["aq"], "f", &[])
        .codes("w3", &[6 * 64, 10], &w3, true)
        .reals("w3s", &[], &[scale(0.0031, 1.0 / 256.0)])
        .codes("w3z", &[], &[0], true)
        .node("DequantizeLinear", &["w3", "w3s", "w3z"], "w3d", &[])
        .node("MatMul", &["f", "w3d"], "m", &[])
        .qdq("m", "mq", scale(1.7, 2.0), 0, true)
        .output("pq", &[1, 6, 7, 7])
        .output("mq", &[1, 10])
}

fn pick<T: Copy>(random: &mut Random, all: &[T]) -> T {
    all[random.below(all.len())]
}

/// Random legal coordinates.
fn draw(random: &mut Random, number: usize) -> Spec {
    loop {
        let mut spec = Spec::resolve("tflite-reference").expect("a target");
        spec.name = format!("drawn-{number}");
        spec.aliases.clear();
        spec.activations.zero_point = align_check_specs::ZeroPoints::Any;
        spec.unsigned = None;
        spec.convolution = None;
        spec.depthwise = None;
        spec.transposed = None;
        spec.fully_connected = None;
        spec.fully_connected_unbiased = None;
        let rounding = pick(random, Rounding::ALL);
        let bits = 8 + random.below(25) as u32;
        spec.requantize.multiplier = match random.below(11) {
            0 => Multiplier::F32,
            1 => Multiplier::F64,
            2 => Multiplier::F32TwoSteps {
                division: pick(random, &[Division::DivideF32, Division::ReciprocalF32]),
            },
            3 => Multiplier::Best {
                bits: pick(random, &[7, 31]),
            },
            4 => Multiplier::Q15Reduced,
            5 => Multiplier::FixedAbsolute { bits, rounding },
            6 => Multiplier::F32Reduced { bits, rounding },
            7 => Multiplier::F64Reduced { bits, rounding },
            8 => Multiplier::Fixed {
                bits: 31,
                rounding: Rounding::HalfAway,
            },
            _ => Multiplier::Fixed { bits, rounding },
        };
        let shifts = matches!(
            spec.requantize.multiplier,
            Multiplier::Fixed { .. } | Multiplier::FixedAbsolute { .. } | Multiplier::Best { .. }
        );
        let step = |shift, rounding| Step {
            shift,
            rounding,
            saturate: None,
        };
        let last = pick(random, Rounding::ALL);
        spec.requantize.steps = match (shifts, random.below(2)) {
            _ if spec.requantize.multiplier == Multiplier::Q15Reduced => {
                vec![step(Shift::Rest, Rounding::HalfUp)]
            }
            (true, 1) => vec![
                step(
                    Shift::By(1 + random.below(40) as u32),
                    pick(random, Rounding::ALL),
                ),
                step(Shift::Rest, last),
            ],
            _ => vec![step(Shift::Rest, last)],
        };
        spec.requantize.derivation = pick(
            random,
            &[
                Derivation::F64,
                Derivation::F32,
                Derivation::F32ProductF64Quotient,
                Derivation::F32ProductPerTensor,
            ],
        );
        spec.requantize.left_shift = LeftShift::Wrap;
        spec.requantize.zero_point = pick(
            random,
            &[
                ZeroPointPosition::AfterRounding,
                ZeroPointPosition::InsideRounding,
            ],
        );
        spec.bias = Bias {
            format: pick(
                random,
                &[
                    BiasFormat::Int32,
                    BiasFormat::Int32,
                    BiasFormat::Int32ReciprocalF32,
                    BiasFormat::F32InAccumulator,
                    BiasFormat::F32AfterScale,
                ],
            ),
            rounding: pick(random, &[Rounding::HalfEven, Rounding::HalfAway]),
        };
        spec.accumulator = match random.below(4) {
            0 => Accumulator {
                bits: Some(20),
                overflow: Overflow::Saturate,
                order: pick(random, &[Order::ChannelFirst, Order::ChannelLast]),
                pairs: None,
            },
            1 => Accumulator {
                bits: Some(18),
                overflow: Overflow::Wrap,
                order: Order::ChannelFirst,
                pairs: None,
            },
            _ => Accumulator {
                bits: Some(32),
                overflow: Overflow::Wrap,
                order: Order::ChannelFirst,
                pairs: None,
            },
        };
        spec.quantize.division = pick(
            random,
            &[
                Division::DivideF32,
                Division::ReciprocalF32,
                Division::DivideF64,
            ],
        );
        spec.quantize.rounding = pick(random, Rounding::ALL);
        spec.quantize.zero_point = pick(
            random,
            &[
                ZeroPointPosition::AfterRounding,
                ZeroPointPosition::InsideRounding,
            ],
        );
        spec.quantize.tail = None;
        spec.ops.add = Some(pick(
            random,
            &[
                AddRule::F32,
                AddRule::F32RatiosFma,
                AddRule::Q31Shift20,
                AddRule::Q21HalfUp,
                AddRule::RequantizeEach,
                AddRule::RoundedOnce,
                AddRule::Q22Shift,
            ],
        ));
        spec.ops.average = Some(pick(
            random,
            &[
                AverageRule::F32,
                AverageRule::F32Inside,
                AverageRule::F32RawSum,
                AverageRule::IntegerHalfAway,
                AverageRule::IntegerTrunc,
                AverageRule::IntegerFloor,
                AverageRule::RoundedOnce,
                AverageRule::F32Mean,
            ],
        ));
        spec.ops.global_average = None;
        let text = spec.to_toml().expect("TOML");
        if let Ok(spec) = Spec::parse(&text, "drawn.toml") {
            return spec;
        }
    }
}

/// A small network, and its simulation under a spec as a recording.
struct Drawn {
    graph: Graph,
    network: Network,
    exact: Target,
    samples: Vec<Sample>,
    recorded: Recording,
}

fn simulate(folder: &Path, spec: &Spec, ties: bool, seed: u64) -> Drawn {
    let path = folder.join("model.onnx");
    model(ties).write(&path);
    let read = Model::read(&path, &Limits::default()).unwrap_or_else(|e| panic!("{e}"));
    let graph = read
        .graph(&BTreeMap::new())
        .unwrap_or_else(|e| panic!("{e}"));
    let network = Network::new(graph.clone()).unwrap_or_else(|e| panic!("{e}"));
    let isa = Isa::detect();
    let resolve = |name: &str| Spec::resolve(name).expect("a target");
    let exact =
        Target::new(&network, resolve("exact"), None, isa).unwrap_or_else(|e| panic!("{e}"));
    let target = Target::placed((&graph, &network), spec.clone(), None, &exact, isa)
        .unwrap_or_else(|e| panic!("{e}"));
    assert!(target.own.is_none(), "the draw leaves the placement alone");
    let mut random = Random(seed);
    let samples: Vec<Sample> = (0..6)
        .map(|number| {
            // Near-ties of the input's quantizer, and codes beside its ends.
            let values = (0..4 * 64)
                .map(|_| {
                    let code = random.below(256) as f64 - 128.0 - 4.0;
                    let half = [0.0, 0.5, 0.5, -0.5][random.below(4)];
                    let step = if ties {
                        1.0 / 32.0
                    } else {
                        f64::from(0.0391f32)
                    };
                    let real = ((code + half) * step) as f32;
                    f64::from(match random.below(3) {
                        0 => real.next_up(),
                        1 => real.next_down(),
                        _ => real,
                    })
                })
                .collect();
            let array = Array {
                shape: vec![1, 4, 8, 8],
                values,
                kind: ArrayKind::Float,
            };
            Sample {
                name: number.to_string(),
                inputs: BTreeMap::from([("x".to_owned(), array)]),
            }
        })
        .collect();
    let file = folder.join("outputs.npz");
    let mut npz = Npz::new(&file);
    let mut stacked: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for sample in &samples {
        let mut values: Vec<Option<Tensor>> = vec![None; network.graph.values.len()];
        for &input in &network.graph.inputs {
            let array = &sample.inputs[network.name(input)];
            let tensor = Tensor::real(array.shape.clone(), array.values.clone());
            values[input] = Some(put_on(&target.grids[input], &tensor).unwrap_or(tensor));
        }
        for (layer, plan) in network.layers.iter().zip(&target.plans) {
            let runner = Runner { layer, plan, isa };
            let inputs: Vec<&Tensor> = layer
                .inputs
                .iter()
                .map(|&i| values[i].as_ref().expect("in order"))
                .collect();
            let out = runner.finish(&inputs, &runner.sums(&inputs));
            if let Data::Codes { codes, .. } = &out.data {
                stacked
                    .entry(layer.tensor.clone())
                    .or_default()
                    .extend(codes);
            }
            values[layer.output] = Some(out);
        }
    }
    for (tensor, codes) in &stacked {
        npz = npz.add(tensor, &[codes.len()], codes);
    }
    npz.finish();
    let recorded = Recording::read(&file).expect("a recording");
    Drawn {
        graph,
        network,
        exact,
        samples,
        recorded,
    }
}

impl Drawn {
    fn infer(&self) -> Inference {
        infer::infer(&Question {
            graph: &self.graph,
            network: &self.network,
            exact: &self.exact,
            samples: &self.samples,
            recorded: &self.recorded,
            source: "a draw".into(),
            select: &|_| true,
            isa: Isa::detect(),
            progress: &|| {},
        })
        .unwrap_or_else(|e| panic!("{e}"))
    }
}

/// Points that are drawn at random are found again, from what they made of a small network. `INFER_DRAW=n` selects one.
#[test]
fn drawn_specs_are_among_the_survivors() {
    let mut random = Random(2026);
    let only: Option<usize> = std::env::var("INFER_DRAW")
        .ok()
        .and_then(|n| n.parse().ok());
    let mut failures = Vec::new();
    for number in 0..20 {
        let spec = draw(&mut random, number);
        if only.is_some_and(|only| only != number) {
            continue;
        }
        let ties = number % 2 == 0;
        let folder = tempfile::tempdir().expect("a folder");
        let drawn = simulate(folder.path(), &spec, ties, number as u64);
        let found = drawn.infer();
        let (elements, count) = found.totals();
        let survivors: u64 = found.classes.iter().map(|class| class.survivors).sum();
        let tried: u64 = found.classes.iter().map(|class| class.tried).sum();
        let refuted: usize = found.classes.iter().map(|class| class.neighbours.1).sum();
        say(format_args!(
            "draw {number}: {:?} {:?} {:?} {:?}: {} of {elements} elements, {survivors} of {tried} points survive, \
             {refuted} neighbours refuted, {:.1} s",
            spec.requantize.multiplier,
            spec.requantize
                .steps
                .iter()
                .map(|s| (s.shift, s.rounding))
                .collect::<Vec<_>>(),
            spec.bias.format,
            spec.accumulator,
            elements - count.differing,
            found.seconds
        ));
        if count.differing > 0 {
            failures.push(format!(
                "draw {number}: {} of {elements} not explained",
                count.differing
            ));
        }
        let kinds: BTreeSet<&str> = found.classes.iter().map(|class| class.kind).collect();
        assert!(kinds.len() >= 5, "draw {number}: {kinds:?}");
        for class in &found.classes {
            let point = Point::of(&spec, class.kind, class.unsigned);
            // What an operation refers to is the rule of sums, which is looked for there.
            let refers = point.op.is_some() && point.requantize.is_some();
            let same_op = || class.candidates.iter().any(|own| own.op == point.op);
            if !(class.admits(&point) || refers && same_op()) {
                failures.push(format!(
                    "draw {number}: {} is not among the {} survivors of '{}': {}",
                    point.text(),
                    class.survivors,
                    class.kind,
                    class.point.text()
                ));
            }
            // The report says of each single decision that it may be as it was drawn.
            let mut ruled_out = class.rules_out(&point);
            ruled_out.retain(|decision| !refers || decision.starts_with("ops."));
            if !ruled_out.is_empty() {
                failures.push(format!(
                    "draw {number}: {ruled_out:?} is not open for '{}': {}",
                    class.kind,
                    class.point.text()
                ));
            }
        }
        if refuted < 10 {
            failures.push(format!(
                "draw {number}: only {refuted} neighbours are refuted"
            ));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A wrong rule is not among the survivors of a recording that is rich in ties.
#[test]
fn wrong_rules_are_no_survivors() {
    let mut random = Random(7);
    let mut spec = draw(&mut random, 0);
    spec.requantize.multiplier = Multiplier::Fixed {
        bits: 31,
        rounding: Rounding::HalfAway,
    };
    spec.requantize.derivation = Derivation::F64;
    spec.requantize.zero_point = ZeroPointPosition::AfterRounding;
    spec.requantize.steps = vec![
        Step {
            shift: Shift::By(31),
            rounding: Rounding::HalfUp,
            saturate: None,
        },
        Step {
            shift: Shift::Rest,
            rounding: Rounding::HalfAway,
            saturate: None,
        },
    ];
    spec.bias = Bias {
        format: BiasFormat::Int32,
        rounding: Rounding::HalfEven,
    };
    spec.accumulator = Accumulator {
        bits: Some(32),
        overflow: Overflow::Wrap,
        order: Order::ChannelFirst,
        pairs: None,
    };
    spec.ops.add = Some(AddRule::Q31Shift20);
    let folder = tempfile::tempdir().expect("a folder");
    let found = simulate(folder.path(), &spec, true, 5).infer();
    let class = |kind: &str| -> &Class {
        found
            .classes
            .iter()
            .find(|class| class.kind == kind)
            .unwrap_or_else(|| panic!("no {kind}"))
    };
    for kind in ["convolution", "depthwise"] {
        let right = Point::of(&spec, kind, false);
        assert!(class(kind).admits(&right), "{kind}");
        for change in [Rounding::HalfUp, Rounding::HalfEven, Rounding::Floor] {
            let mut wrong = right.clone();
            if let Some(rule) = &mut wrong.requantize {
                rule.steps[1].rounding = change;
            }
            assert!(!class(kind).admits(&wrong), "{kind}: {change:?}");
        }
        let runner_up = class(kind).runner_up.as_ref().expect("a refuted rule");
        assert!(runner_up.differing > 0 && runner_up.expected != runner_up.got);
    }
    // With these scales half of the sums are ties, and negative ones part the two.
    let add = Point {
        op: Some(OpRule::Add(AddRule::Q21HalfUp)),
        ..Point::default()
    };
    assert!(!class("add").admits(&add));
}
