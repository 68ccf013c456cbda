//! `gfpq_vectors.json`: outputs recorded from `HiSilicon`'s `libgfpq.so.1.1.5`, 48 cases of 256 values.

use std::path::Path;

use align_check_specs::{Rounding, Threshold};
use serde_json::Value;

use crate::quantize::gfpq::{Gfpq, Mode};

struct Case {
    bits: u32,
    z: i32,
    x: Vec<f32>,
    y: Vec<f32>,
}

/// The recording, in the repository's `golden/` or beside the repository; `None` with a visible line.
fn recording() -> Option<Vec<Case>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    let places = ["golden/nnie-gfpq", "../shared/recordings/nnie-gfpq"];
    let text = places
        .iter()
        .find_map(|place| std::fs::read_to_string(root.join(place).join("gfpq_vectors.json")).ok());
    let Some(text) = text else {
        eprintln!("skipped: gfpq_vectors.json is in none of {places:?}");
        return None;
    };
    let file: Value = serde_json::from_str(&text).unwrap();
    let reals = |v: &Value| {
        let real =
            |v: &Value| f32::from_bits(u32::from_str_radix(v.as_str().unwrap(), 16).unwrap());
        v.as_array().unwrap().iter().map(real).collect()
    };
    let case = |v: &Value| Case {
        bits: v["bits"].as_u64().unwrap() as u32,
        z: v["z"].as_i64().unwrap() as i32,
        x: reals(&v["x_hex"]),
        y: reals(&v["y_hex"]),
    };
    Some(file["cases"].as_array().unwrap().iter().map(case).collect())
}

/// Elements whose bits differ.
fn differing(a: &[f32], b: &[f32]) -> usize {
    a.iter()
        .zip(b)
        .filter(|(a, b)| a.to_bits() != b.to_bits())
        .count()
}

#[test]
fn the_vendors_outputs_are_reproduced() {
    let Some(cases) = recording() else { return };
    assert_eq!(cases.len(), 48);
    let mut values = 0;
    for case in &cases {
        let gfpq = Gfpq::vendor(case.bits).unwrap();
        let (mut z, mut data) = (0, case.x.clone());
        gfpq.quantize(Mode::Init, &mut z, &mut data);
        assert_eq!((z, differing(&data, &case.y)), (case.z, 0));
        // With the stored z, and over again: levels stay.
        let mut data = case.x.repeat(48);
        gfpq.quantize(Mode::ApplyOnly, &mut z, &mut data);
        assert_eq!(differing(&data, &case.y.repeat(48)), 0);
        values += case.y.len();
    }
    assert_eq!(values, 12_288);
}

/// Rules 2 and 3 with a logarithm that is a parameter; nothing of the module under test.
fn formula(case: &Case, x: f32, log2: fn(f64) -> f64, zero_zone: bool) -> f32 {
    let (steps, codes) = if case.bits == 8 {
        (16.0, 127.0)
    } else {
        (128.0, 1407.0)
    };
    let (z, least) = (f64::from(case.z), if x < 0.0 { 1.0 } else { 0.0 });
    let magnitude = f64::from(x).abs();
    let zone = if zero_zone {
        ((z + least - steps) / steps).exp2()
    } else {
        0.0
    };
    if magnitude <= zone {
        return 0.0;
    }
    let k = (steps * log2(magnitude) - z)
        .round_ties_even()
        .clamp(least, codes);
    let level = ((k + z) / steps).exp2() as f32;
    if x < 0.0 { -level } else { level }
}

/// Counts what a variant of the formula gets wrong over all cases.
fn wrong(cases: &[Case], variant: impl Fn(&Case, f32) -> f32) -> usize {
    cases
        .iter()
        .map(|case| {
            let y: Vec<f32> = case.x.iter().map(|&x| variant(case, x)).collect();
            differing(&y, &case.y)
        })
        .sum()
}

#[test]
fn wrong_neighbours_do_not_reproduce_them() {
    let Some(cases) = recording() else { return };
    assert_eq!(
        wrong(&cases, |case, x| formula(case, x, f64::log2, true)),
        0
    );
    // z rounded instead of floored.
    let rounded = |case: &Case| Gfpq::new(case.bits, Rounding::HalfEven, Threshold::Zero).unwrap();
    let other_z = cases
        .iter()
        .filter(|case| rounded(case).init(&case.x) != case.z)
        .count();
    let elements = wrong(&cases, |case, x| {
        let gfpq = rounded(case);
        gfpq.apply(x, gfpq.init(&case.x))
    });
    assert!(
        other_z > 0 && elements > 0,
        "{other_z} z, {elements} elements"
    );
    // No zero zone: tiny numbers become the smallest level.
    let without_zone = wrong(&cases, |case, x| formula(case, x, f64::log2, false));
    assert!(without_zone > 0);
    println!("of 12,288: round(z) {elements} ({other_z} of 48 z), no zero zone {without_zone}");
}

/// The recording has no element so close to a boundary that an `f32` logarithm matters; grid points do:
/// at 16 bits, next to a boundary, it picks the wrong level.
#[test]
fn an_f32_logarithm_is_not_enough() {
    let log2_f32 = |x: f64| f64::from((x as f32).log2());
    let gfpq = Gfpq::vendor(16).unwrap();
    let case = Case {
        bits: 16,
        z: -1002,
        x: Vec::new(),
        y: Vec::new(),
    };
    let boundary = |k: i32| ((f64::from(k) + 0.5 + f64::from(case.z)) / 128.0).exp2() as f32;
    let inputs =
        || (0..1407).flat_map(|k| [boundary(k).next_down(), boundary(k), boundary(k).next_up()]);
    let count = |log2| {
        inputs()
            .filter(|&x| formula(&case, x, log2, true).to_bits() != gfpq.apply(x, case.z).to_bits())
            .count()
    };
    assert_eq!(count(f64::log2), 0);
    let wrong = count(log2_f32);
    assert!(wrong > 0);
    println!(
        "f32 log2: {wrong} of {} next to a boundary",
        inputs().count()
    );
    if let Some(cases) = recording() {
        let recorded = self::wrong(&cases, |case, x| formula(case, x, log2_f32, true));
        println!("f32 log2: {recorded} of 12,288 recorded values");
    }
}
