//! Targets' outputs that are looked up near ties of the reference, against those that are computed.

use align_check::check::Target;
use align_check_simulators::Buffers;
use align_check_simulators::adapt::ValueGrid;
use align_check_simulators::kernels::Isa;
use align_check_simulators::network::Network;
use align_check_simulators::run::{Asked, Begins, Runner, Shifts, Sums};
use align_check_simulators::tensor::Tensor;
use align_check_specs::Spec;
use align_check_tests::onnx::{Onnx, Quant};
use align_check_tests::simulate::{network, network_of};
use align_check_tests::{Random, golden, say, shared, skip};

/// What was compared.
#[derive(Default)]
struct Seen {
    /// Layers of targets that are looked up.
    layers: u64,
    /// Those of them that are the reference's whatever the input.
    equal: u64,
    /// Elements.
    elements: u64,
    /// Elements that differ from the reference.
    differing: u64,
    /// Elements that were looked at.
    near: u64,
}

fn spec(name: &str) -> Spec {
    Spec::resolve(name).unwrap_or_else(|error| panic!("{error}"))
}

/// Every target of the embedded ones that can have the network.
fn targets(network: &Network, reference: &Target, isa: Isa) -> Vec<Target> {
    let specs = align_check_specs::names().iter().map(|name| spec(name));
    specs
        .filter_map(|spec| Target::new(network, spec, Some(reference), isa).ok())
        .collect()
}

/// Random codes.
fn anything(random: &mut Random, shape: &[usize], grid: &ValueGrid) -> Option<Tensor> {
    let ValueGrid::Codes { grid, .. } = grid else {
        return None;
    };
    let span = usize::try_from(grid.max - grid.min + 1).ok()?;
    let len = shape.iter().product();
    // A few values only in every second tensor: sums that lie close.
    let span = if random.below(2) == 0 {
        span.min(3)
    } else {
        span
    };
    let mut code = || grid.min as i32 + random.below(span) as i32;
    let codes = (0..len).map(|_| code()).collect();
    Some(Tensor::codes(shape.to_vec(), codes, grid.clone()))
}

type Input = dyn Fn(&mut Random, &[usize], &ValueGrid) -> Option<Tensor>;

/// Runs the layers of a network on inputs, and compares what is looked up with what is computed.
fn run(network: &Network, input: &Input, seen: &mut Seen) {
    let isa = Isa::detect();
    let reference =
        Target::new(network, spec("exact"), None, isa).expect("a plan of the reference");
    let targets = targets(network, &reference, isa);
    let mut random = Random(7);
    for (index, layer) in network.layers.iter().enumerate() {
        let plan = &reference.plans[index];
        let own = Runner { layer, plan, isa };
        let [value, ..] = layer.inputs[..] else {
            continue;
        };
        let Some(begins) = Begins::of(&own, &reference.grids[value]) else {
            continue;
        };
        let shape = &network.graph.values[value].shape;
        let others: Vec<(Runner, Shifts)> = targets
            .iter()
            .filter(|target| target.grids[value] == reference.grids[value])
            .filter_map(|target| {
                let plan = &target.plans[index];
                let other = Runner { plan, ..own };
                Some((other, Shifts::of(&begins, &own, &other)?))
            })
            .collect();
        seen.layers += others.len() as u64;
        for _ in 0..2 {
            let Some(input) = input(&mut random, shape, &reference.grids[value]) else {
                continue;
            };
            let inputs = [&input];
            let sums = own.sums(&inputs);
            let expected = own.finish(&inputs, &sums);
            for (other, shifts) in &others {
                let asked = Asked {
                    sums: true,
                    near: Some(shifts.furthest()),
                    ..Asked::default()
                };
                let ended = own.ended(&inputs, asked, &mut Buffers::default());
                let ended = ended.expect("a layer that ends channel by channel");
                assert_eq!(ended.out, expected, "{}", layer.name);
                let computed = other.finish(&inputs, &sums);
                let Some(Sums::I32(of)) = &ended.sums else {
                    panic!("{}: no sums", layer.name);
                };
                let made = (&ended.out, &of[..]);
                let buffers = &mut Buffers::default();
                let looked_up = begins.shifted(made, &ended.near, (other, shifts), buffers);
                let equal = looked_up.is_none();
                let looked_up = looked_up.unwrap_or(ended.out);
                assert!(
                    looked_up == computed,
                    "{}: {:?}",
                    layer.name,
                    other.plan.rules
                );
                assert_eq!(
                    equal,
                    computed == expected,
                    "a tensor that is not the reference's"
                );
                let all = 0..expected.len();
                let differs = |&i: &usize| expected.real_at(i) != computed.real_at(i);
                seen.differing += all.filter(differs).count() as u64;
                seen.elements += expected.len() as u64;
                seen.near += ended.near.len() as u64;
                if shifts.are_none() {
                    assert!(equal);
                    seen.equal += 1;
                }
            }
        }
    }
}

fn report(what: &str, seen: &Seen) {
    say(format!(
        "{what}: {} layers of targets looked up, {} of {} elements differ from the reference, {} looked at, 0 from what is \
         computed; {} outputs equal whatever the input",
        seen.layers, seen.differing, seen.elements, seen.near, seen.equal
    ));
}

/// Input channels of codes that count ones, and 127s: every sum between is reached.
const IMAGE: [i64; 4] = [1, 2, 128, 256];

/// A convolution whose sums are all integers of a range, in channels with scales of their own.
fn every_sum(scales: &[f32], out: f32) -> Network {
    let channels = scales.len() as i64;
    let weights: Vec<f32> = scales.iter().flat_map(|s| [*s, 127.0 * s]).collect();
    let biases: Vec<f32> = (0..channels)
        .map(|c| (c * 37 % 11) as f32 * 0.233)
        .collect();
    let model = Onnx::new()
        .input("x", &IMAGE)
        .reals("w", &[channels, 2, 1, 1], &weights)
        .reals("b", &[channels], &biases)
        .quant("x", "qx", &Quant::uniform(0.03125, 3, 8, true))
        .quant("w", "qw", &Quant::per_channel(scales, 8))
        .node("Conv", &["qx", "qw", "b"], "c", &[])
        .node("Relu", &["c"], "r", &[])
        .quant("r", "y", &Quant::uniform(out, -128, 8, true))
        .output("y", &[1, channels, IMAGE[2], IMAGE[3]]);
    network(&model)
}

/// Every pair of codes of which the first lies below the step of the second.
fn all_pairs(grid: &ValueGrid) -> Option<Tensor> {
    let ValueGrid::Codes { grid, .. } = grid else {
        return None;
    };
    let shape: Vec<usize> = IMAGE.iter().map(|&extent| extent as usize).collect();
    let positions = shape[2] * shape[3];
    let code = |byte: usize| grid.min as i32 + byte as i32;
    let ones = (0..positions).map(|at| code(at % 128));
    let others = (0..positions).map(|at| code(at / 128));
    Some(Tensor::codes(
        shape,
        ones.chain(others).collect(),
        grid.clone(),
    ))
}

#[test]
fn what_is_looked_up_is_what_is_computed() {
    let mut seen = Seen::default();
    // Powers of two put sums on ties, and the others beside them.
    let scales = [0.007_812_5, 0.015_625, 0.0061, 0.011_3, 0.000_9, 0.031];
    for out in [0.5, 0.437, 0.25, 0.031_2] {
        run(
            &every_sum(&scales, out),
            &|_, _, grid| all_pairs(grid),
            &mut seen,
        );
    }
    report("every sum", &seen);
    assert!(seen.layers > 40, "targets are looked up");
    assert!(seen.differing > 1000, "targets differ from the reference");
    assert!(seen.equal > 0, "targets are equal to the reference");
    let mut demo = Seen::default();
    run(
        &network_of(&golden("demo/model.qonnx.onnx")),
        &anything,
        &mut demo,
    );
    report("demo", &demo);
    assert!(demo.layers > 0);
}

#[test]
fn a_whole_network_is_looked_up() {
    let path = "models/efficientnet-lite0/w8a8/model.qonnx.onnx";
    let Some(path) = shared(path) else {
        return skip(format!("shared/{path} is not here"));
    };
    let mut seen = Seen::default();
    run(&network_of(&path), &anything, &mut seen);
    report("EfficientNet-Lite0", &seen);
    assert!(seen.layers > 0 && seen.differing > 0);
}
