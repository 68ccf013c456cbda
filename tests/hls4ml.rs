//! hls4ml's recordings are reproduced, and refute the neighbours of its rules with as many elements as their
//! `recording.toml` states, counted there by an independent program.

use align_check::recording::{self, Folder};
use align_check::verify::Loaded;
use align_check_graph::Limits;
use align_check_simulators::hls4ml::{Kind, Precision, Table};
use align_check_simulators::kernels::Isa;
use align_check_simulators::num::{FixedOverflow, FixedType};
use align_check_specs::{BiasPosition, PrecisionRules, ProductRule, Rounding, Spec, TermOrder};
use align_check_tests::{args, golden, run, say};
use rayon::prelude::*;

type Change = fn(&mut Precision, &mut PrecisionRules);

/// Neighbours, by the names that the recordings give them.
const NEIGHBOURS: [(&str, Change); 16] = [
    ("product not cast before it is added", |_, rules| {
        rules.product = ProductRule::Whole;
    }),
    ("cast after the whole sum", |_, rules| {
        rules.product = ProductRule::AfterSum;
    }),
    ("bias added last", |_, rules| {
        rules.bias = BiasPosition::Last;
    }),
    ("sum in the opposite order", |_, rules| {
        rules.order = TermOrder::StrategyReversed;
    }),
    (CHANNEL_FIRST, |_, rules| {
        rules.order = TermOrder::ChannelFirst;
    }),
    ("sum in the order of the latency strategy", |_, rules| {
        rules.order = TermOrder::ChannelLast;
    }),
    ("accumulator truncates", |types, _| {
        accumulators(types, |t| t.rounding = Rounding::Floor);
    }),
    ("accumulator rounds half up", |types, _| {
        accumulators(types, |t| t.rounding = Rounding::HalfUp);
    }),
    ("accumulator wraps", |types, _| {
        accumulators(types, |t| t.overflow = FixedOverflow::Wrap);
    }),
    ("accumulator saturates", |types, _| {
        accumulators(types, |t| t.overflow = FixedOverflow::Saturate);
    }),
    ("input rounds half up", |types, _| {
        input(types, |t| t.rounding = Rounding::HalfUp);
    }),
    ("input saturates", |types, _| {
        input(types, |t| t.overflow = FixedOverflow::Saturate);
    }),
    ("input read as it is", |types, _| {
        // Finer and wider than every input.
        input(types, |t| *t = FixedType::new(53, 13, true));
    }),
    (RESULTS[0].0, |types, _| results(types, Rounding::Floor)),
    (RESULTS[1].0, |types, _| results(types, Rounding::HalfUp)),
    (RESULTS[2].0, |types, _| results(types, Rounding::HalfEven)),
];

const CHANNEL_FIRST: &str = "sum in the order channel, row, column";

const RESULTS: [(&str, Rounding); 3] = [
    ("result of activations TRN", Rounding::Floor),
    ("result of activations RND", Rounding::HalfUp),
    ("result of activations RND_CONV", Rounding::HalfEven),
];

fn tables(types: &mut Precision, which: fn(Kind) -> bool) -> impl Iterator<Item = &mut Table> {
    types
        .layers
        .values_mut()
        .filter(move |table| which(table.kind))
}

fn accumulators(types: &mut Precision, change: fn(&mut FixedType)) {
    for table in tables(types, Kind::is_sum) {
        change(table.accum.as_mut().expect("an accumulator"));
    }
}

fn input(types: &mut Precision, change: fn(&mut FixedType)) {
    for table in tables(types, |kind| kind == Kind::Input) {
        change(&mut table.result);
    }
}

fn results(types: &mut Precision, rounding: Rounding) {
    let activations = |kind| {
        matches!(
            kind,
            Kind::Activation | Kind::ApplyAlpha | Kind::BatchNormalization | Kind::Merge
        )
    };
    for table in tables(types, activations) {
        table.result.rounding = rounding;
    }
}

/// `name 123` in a text; 0 where the name is not there.
fn stated(text: &str, name: &str) -> u64 {
    let key = format!("{name} ");
    let numbers = text.match_indices(&key).filter_map(|(at, own)| {
        let rest = &text[at + own.len()..];
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        rest[..end].parse().ok()
    });
    numbers.last().unwrap_or(0)
}

#[test]
fn networks_and_their_neighbours() {
    let folders: Vec<_> = recording::find(&golden("hls4ml"))
        .expect("recordings")
        .into_iter()
        .map(|path| Folder::open(&path).expect("a sound recording"))
        .filter(Folder::has_model)
        .collect();
    assert_eq!(folders.len(), 27);
    let spec = Spec::resolve("hls4ml").expect("a target");
    let own_rules = spec.precision.expect("rules of types");
    let found: Vec<(u64, Vec<String>)> = folders
        .into_par_iter()
        .map(|folder| {
            let name = folder.path.display().to_string();
            let text = folder.provenance.tells_apart.clone();
            let mut loaded =
                Loaded::new(folder, Isa::detect(), &Limits::default()).expect("a sound recording");
            let own = loaded.types.clone().expect("a precision table");
            let right = loaded.run(spec.clone()).expect("a run");
            let mut failures = Vec::new();
            if !right.reproduced() {
                failures.push(format!(
                    "{name}: {:?} {:?}",
                    right.unsupported, right.failed
                ));
            }
            let elements = right.ops.values().map(|tally| tally.elements).sum();
            for (neighbour, change) in NEIGHBOURS {
                let (mut types, mut rules) = (own.clone(), own_rules);
                change(&mut types, &mut rules);
                loaded.types = Some(types);
                let spec = Spec {
                    precision: Some(rules),
                    ..spec.clone()
                };
                let case = loaded.run(spec).expect("a run");
                // Stated of convolutions only: in a dense layer channels are all there is.
                let convolutions = neighbour == CHANNEL_FIRST;
                let counts = |op: &str| !convolutions || !op.starts_with("MatMul");
                let ops = case.ops.iter().filter(|(op, _)| counts(op));
                let got: u64 = ops.map(|(_, tally)| tally.differing).sum();
                let wanted = stated(&text, neighbour);
                // There, a layer without a tensor of the model counts in the one behind it.
                let shifted = name.ends_with("mlp-scales-auto") && neighbour.starts_with("result");
                if got != wanted && !(shifted && got > 0) || case.unsupported.is_some() {
                    failures.push(format!(
                        "{name}: '{neighbour}' gets {got} elements wrong, not {wanted}"
                    ));
                }
            }
            (elements, failures)
        })
        .collect();
    let failures: Vec<&String> = found.iter().flat_map(|(_, failures)| failures).collect();
    let elements: u64 = found.iter().map(|(elements, _)| elements).sum();
    say(format_args!("hls4ml: 27 networks, {elements} elements"));
    assert!(failures.is_empty(), "{failures:#?}");
}

/// The command line takes a table, and says what does not fit.
#[test]
fn precision_on_the_command_line() {
    let model = golden("hls4ml/mlp-wrap/model.onnx");
    let table = golden("hls4ml/mlp-wrap/precision.toml");
    let checked = run(args![
        &model,
        "--target",
        "hls4ml",
        "--precision",
        &table,
        "--input",
        golden("hls4ml/mlp-wrap/inputs.npz"),
        "--mode",
        "isolated"
    ]);
    assert_eq!(checked.code, Some(1), "{}", checked.stderr);
    assert!(
        checked
            .stdout
            .contains("each product and each sum is cast to fixed<12,5,TRN,WRAP>"),
        "{}",
        checked.stdout
    );

    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = std::fs::read_to_string(&table).expect("a table");
    let refused = |from: &str, to: &str| {
        let path = folder.path().join("changed.toml");
        assert!(text.contains(from), "{from}");
        std::fs::write(&path, text.replace(from, to)).expect("a temporary file");
        run(args![&model, "--target", "hls4ml", "--precision", path])
    };
    for (from, to, code, says) in [
        (
            "fixed<12,5,TRN,WRAP,0>",
            "fixed<12,5,TRN,WRAP,2>",
            2,
            "changed.toml:",
        ),
        (
            "kind = \"Dense\"",
            "kind = \"GRU\"",
            2,
            "unknown variant `GRU`",
        ),
        (
            "fixed<12,5,TRN,WRAP,0>",
            "fixed<60,5,TRN,WRAP,0>",
            3,
            "a type of more than 53 bits",
        ),
        (
            "kind = \"Dense\"",
            "kind = \"Merge\"",
            3,
            "layer 'Dense_MatMul_0'",
        ),
        (
            "activation = \"relu\"",
            "activation = \"linear\"",
            3,
            "layer 'Relu_0'",
        ),
        ("backend = \"Vitis\"", "backend = \"Quartus\"", 3, "'Vitis'"),
        ("strategy = \"latency\"\n", "", 3, "no strategy"),
    ] {
        let got = refused(from, to);
        assert_eq!(got.code, Some(code), "{to}: {}", got.stderr);
        assert!(got.stderr.contains(says), "{to}: {}", got.stderr);
    }
    let two = run(args![
        &model,
        "--target",
        "hls4ml,exact",
        "--precision",
        &table
    ]);
    assert!(
        two.code == Some(2) && two.stderr.contains("belongs to one target"),
        "{}",
        two.stderr
    );
    let other = run(args![&model, "--target", "exact", "--precision", &table]);
    assert!(
        other.code == Some(2) && other.stderr.contains("takes no table"),
        "{}",
        other.stderr
    );
}
