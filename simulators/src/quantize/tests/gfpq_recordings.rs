//! Outputs recorded from `HiSilicon`'s `libgfpq.so.1.1.5`: `golden/nnie-gfpq`, directed at every kind of
//! boundary, and a recording of normally distributed numbers where it lies beside the repository.

use std::path::Path;

use align_check_specs::{Rounding, Threshold};
use serde_json::Value;

use crate::quantize::gfpq::{Gfpq, Mode, max_abs};

struct Case {
    bits: u32,
    z: i32,
    x: Vec<f32>,
    y: Vec<f32>,
}

impl Case {
    fn new(v: &Value) -> Self {
        let real =
            |v: &Value| f32::from_bits(u32::from_str_radix(v.as_str().unwrap(), 16).unwrap());
        let reals = |v: &Value| v.as_array().unwrap().iter().map(real).collect();
        Self {
            bits: v["bits"].as_u64().unwrap() as u32,
            z: v["z"].as_i64().unwrap() as i32,
            x: reals(&v["x_hex"]),
            y: reals(&v["y_hex"]),
        }
    }
}

/// A file below the repository's parent folder.
fn json(place: &str) -> Option<Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    let text = std::fs::read_to_string(root.join(place)).ok()?;
    Some(serde_json::from_str(&text).unwrap())
}

fn cases(file: &Value) -> Vec<Case> {
    let cases = file["cases"].as_array().unwrap();
    cases.iter().map(Case::new).collect()
}

/// The repository's own vectors.
fn directed() -> Vec<Case> {
    cases(&json("golden/nnie-gfpq/gfpq_vectors.json").unwrap())
}

/// 48 cases of 256 normally distributed numbers, not part of the repository; `None` with a visible line.
fn random() -> Option<Vec<Case>> {
    let place = "../shared/recordings/nnie-gfpq/gfpq_vectors.json";
    let file = json(place);
    if file.is_none() {
        eprintln!("skipped: {place} isn't there");
    }
    Some(cases(&file?))
}

/// Elements whose bits differ.
fn differing(a: &[f32], b: &[f32]) -> usize {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .filter(|(a, b)| a.to_bits() != b.to_bits())
        .count()
}

/// All of a recording, and with the stored `z`, once as it is and once so often that the table is used.
fn assert_reproduced(cases: &[Case]) {
    for case in cases {
        let gfpq = Gfpq::vendor(case.bits).unwrap();
        let (mut z, mut data) = (0, case.x.clone());
        gfpq.quantize(Mode::Init, &mut z, &mut data);
        assert_eq!((z, differing(&data, &case.y)), (case.z, 0));
        let table = 12_000 / case.x.len() + 1;
        for times in [1, table] {
            let mut data = case.x.repeat(times);
            gfpq.quantize(Mode::ApplyOnly, &mut z, &mut data);
            assert_eq!((z, differing(&data, &case.y.repeat(times))), (case.z, 0));
        }
    }
}

#[test]
fn the_vendors_outputs_are_reproduced() {
    let cases = directed();
    let values: usize = cases.iter().map(|case| case.x.len()).sum();
    assert_eq!((cases.len(), values), (643, 14_073));
    assert_reproduced(&cases);
    if let Some(cases) = random() {
        assert_eq!(cases.len(), 48);
        assert_reproduced(&cases);
    }
}

/// Sequences of calls on one parameter block, which starts zero-filled.
#[test]
fn the_vendors_modes_are_reproduced() {
    let file = json("golden/nnie-gfpq/gfpq_modes.json").unwrap();
    let sequences = file["sequences"].as_array().unwrap();
    let (mut calls, mut values, mut pinned) = (0, 0, 0);
    for sequence in sequences {
        let name = &sequence["name"];
        let mut z = 0;
        for (index, step) in sequence["steps"].as_array().unwrap().iter().enumerate() {
            let case = Case::new(step);
            let gfpq = Gfpq::vendor(case.bits).unwrap();
            let mode = match step["mode"].as_i64().unwrap() {
                0 => Mode::Init,
                2 => Mode::ApplyOnly,
                // Rule 14: other numbers too.
                _ => Mode::Update,
            };
            let mut data = case.x.clone();
            gfpq.quantize(mode, &mut z, &mut data);
            let wrong = differing(&data, &case.y);
            assert_eq!((z, wrong), (case.z, 0), "{name} step {index}");
            calls += 1;
            values += data.len();
            // Calls that tell the modes apart: the tensor's own `z` would be another one.
            pinned += usize::from(gfpq.init(&case.x) != case.z);
        }
    }
    assert_eq!((sequences.len(), calls, values), (34, 156, 1186));
    assert_eq!(pinned, 51);
}

/// Rules 2 and 3 and their neighbours; nothing of the module under test.
#[derive(Clone, Copy)]
struct Rule {
    log2: Function,
    /// Of a magnitude and the threshold.
    is_zero: fn(f64, f64) -> bool,
    /// The least code of negative numbers.
    least: f64,
    /// How much further the zero zone of negative numbers reaches, in steps.
    further: f64,
}

const RULE: Rule = Rule {
    log2: f64::log2,
    is_zero: |magnitude, threshold| magnitude <= threshold,
    least: 1.0,
    further: 1.0,
};

type Function = fn(f64) -> f64;

fn log2_in_f32(x: f64) -> f64 {
    f64::from((x as f32).log2())
}

/// Steps an octave, largest code, clamp of `z`.
fn constants(bits: u32) -> (f64, f64, f64) {
    if bits == 8 {
        (16.0, 127.0, 511.0)
    } else {
        (128.0, 1407.0, 4095.0)
    }
}

impl Rule {
    fn apply(&self, case: &Case, x: f32) -> f32 {
        let (steps, codes, _) = constants(case.bits);
        let z = f64::from(case.z);
        let (least, further) = if x < 0.0 {
            (self.least, self.further)
        } else {
            (0.0, 0.0)
        };
        let magnitude = f64::from(x).abs();
        if magnitude == 0.0 || (self.is_zero)(magnitude, ((z + further - steps) / steps).exp2()) {
            return 0.0;
        }
        let k = (steps * (self.log2)(magnitude) - z)
            .round_ties_even()
            .clamp(least, codes);
        let level = ((k + z) / steps).exp2() as f32;
        if x < 0.0 { -level } else { level }
    }

    /// Elements that this rule gets wrong at the recorded `z`.
    fn wrong(&self, cases: &[Case]) -> usize {
        let wrong = |case: &Case| {
            let y: Vec<f32> = case.x.iter().map(|&x| self.apply(case, x)).collect();
            differing(&y, &case.y)
        };
        cases.iter().map(wrong).sum()
    }
}

/// Cases whose `z` is another one with this logarithm and this rounding (rules 1 and 10).
fn wrong_z(cases: &[Case], log2: Function, round: Function) -> usize {
    let is_wrong = |case: &&Case| {
        let (steps, codes, range) = constants(case.bits);
        let max = match max_abs(&case.x) {
            0.0 => 1e-6,
            max => f64::from(max),
        };
        let z = (round(steps * log2(max)) - codes).clamp(-range, range);
        z != f64::from(case.z)
    };
    cases.iter().filter(is_wrong).count()
}

#[test]
fn wrong_neighbours_do_not_reproduce_them() {
    let directed = directed();
    let rules = [
        (
            "logarithm in f32",
            Rule {
                log2: log2_in_f32,
                ..RULE
            },
        ),
        (
            "no zero zone",
            Rule {
                is_zero: |_, _| false,
                ..RULE
            },
        ),
        (
            "equality isn't zero",
            Rule {
                is_zero: |magnitude, threshold| magnitude < threshold,
                ..RULE
            },
        ),
        (
            "threshold in f32",
            Rule {
                is_zero: |magnitude, threshold| magnitude as f32 <= threshold as f32,
                ..RULE
            },
        ),
        (
            "one zero zone for both signs",
            Rule {
                further: 0.0,
                ..RULE
            },
        ),
        ("negative numbers have code 0", Rule { least: 0.0, ..RULE }),
    ];
    assert_eq!(RULE.wrong(&directed), 0);
    for (name, rule) in rules {
        let wrong = rule.wrong(&directed);
        println!("{name}: {wrong} of 14,073 values");
        assert!(wrong > 0, "{name}");
    }
    let ranges: [(&str, Function, Function); 4] = [
        ("z rounded", f64::log2, f64::round_ties_even),
        ("z floored with an epsilon", f64::log2, |x| {
            (x + 1e-6).floor()
        }),
        ("z one below the ceiling", f64::log2, |x| x.ceil() - 1.0),
        ("logarithm of z in f32", log2_in_f32, f64::floor),
    ];
    assert_eq!(wrong_z(&directed, f64::log2, f64::floor), 0);
    for (name, log2, round) in ranges {
        let wrong = wrong_z(&directed, log2, round);
        println!("{name}: {wrong} of 643 z");
        assert!(wrong > 0, "{name}");
    }
    // The module's own variants, with all that follows from another z.
    for (name, threshold) in [
        ("z rounded", Threshold::Zero),
        ("MQBench", Threshold::Unquantized),
    ] {
        let wrong: usize = directed
            .iter()
            .map(|case| {
                let gfpq = Gfpq::new(case.bits, Rounding::HalfEven, threshold).unwrap();
                let (mut z, mut data) = (0, case.x.clone());
                gfpq.quantize(Mode::Init, &mut z, &mut data);
                differing(&data, &case.y)
            })
            .sum();
        println!("{name}: {wrong} of 14,073 values");
        assert!(wrong > 0, "{name}");
    }
    // Random numbers miss most of them.
    if let Some(random) = random() {
        assert_eq!(RULE.wrong(&random), 0);
        for (name, rule) in rules {
            println!("{name}: {} of 12,288 random values", rule.wrong(&random));
        }
        for (name, log2, round) in ranges {
            println!("{name}: {} of 48 random z", wrong_z(&random, log2, round));
        }
    }
}
