//! `ap_fixed` against the tables that Xilinx's headers made (`golden/hls4ml/ap-fixed`), and wrong rules against
//! the counts that its `recording.toml` states.

use std::collections::BTreeMap;

use align_check::inputs::{self, Array};
use align_check::recording::Folder;
use align_check_simulators::num::{FixedOverflow, FixedType, shift_right};
use align_check_specs::Rounding;
use align_check_tests::golden;

/// The order of the recording's numbers.
const ROUNDINGS: [Rounding; 7] = [
    Rounding::HalfUp,
    Rounding::HalfTowardZero,
    Rounding::HalfDown,
    Rounding::HalfAway,
    Rounding::HalfEven,
    Rounding::Floor,
    Rounding::Trunc,
];
const OVERFLOWS: [FixedOverflow; 5] = [
    FixedOverflow::Saturate,
    FixedOverflow::SaturateZero,
    FixedOverflow::SaturateSymmetric,
    FixedOverflow::Wrap,
    FixedOverflow::WrapSignMagnitude,
];

fn tables() -> BTreeMap<String, Array> {
    let folder = Folder::open(&golden("hls4ml/ap-fixed")).expect("a sound recording");
    let file = folder.path.join("vectors.npz");
    inputs::read_arrays(&file)
        .expect("arrays")
        .into_iter()
        .collect()
}

/// Rows of a table of integers.
fn rows(array: &Array) -> Vec<Vec<i64>> {
    let width = array.shape.get(1).copied().unwrap_or(1);
    let integers: Vec<i64> = array.values.iter().map(|&v| v as i64).collect();
    integers.chunks_exact(width).map(<[i64]>::to_vec).collect()
}

fn kind(row: &[i64]) -> FixedType {
    FixedType {
        rounding: ROUNDINGS[row[3] as usize],
        overflow: OVERFLOWS[row[4] as usize],
        ..FixedType::new(row[0] as u32, row[1] as i32, row[2] != 0)
    }
}

#[derive(Default)]
struct Counts(BTreeMap<&'static str, u64>);

impl Counts {
    fn add(&mut self, name: &'static str, differs: bool) {
        *self.0.entry(name).or_default() += u64::from(differs);
    }

    /// `name 123` in the text, for every count.
    fn assert_stated(&self, text: &str) {
        for (name, count) in &self.0 {
            assert!(
                text.contains(&format!("{name} {count}")),
                "{name} {count}: {text}"
            );
        }
    }
}

fn stated() -> String {
    let folder = Folder::open(&golden("hls4ml/ap-fixed")).expect("a sound recording");
    folder.provenance.tells_apart
}

/// A wrong rule: the truncated number wraps or saturates, then it is rounded.
fn overflow_first(t: &FixedType, code: i128, fraction: i32) -> i64 {
    let dropped = (fraction - t.fraction()).max(0);
    let wide = FixedType {
        width: t.width + dropped.unsigned_abs(),
        ..*t
    };
    let first = if fraction >= t.fraction() {
        i128::from(wide.cast(code, wide.fraction()).value)
    } else {
        code
    };
    let wraps = FixedType {
        overflow: FixedOverflow::Wrap,
        ..*t
    };
    wraps.cast(first, fraction).value
}

/// A wrong rule: the sign of `WRAP_SM` from the bit above the rounded number.
fn sign_after_rounding(t: &FixedType, code: i128, fraction: i32) -> i64 {
    let dropped = fraction - t.fraction();
    let rounded = if dropped > 0 {
        shift_right(code, dropped.unsigned_abs(), t.rounding).value
    } else {
        code << dropped.unsigned_abs()
    };
    t.cast(rounded, t.fraction()).value
}

#[test]
fn conversions() {
    let tables = tables();
    let mut counts = Counts::default();
    let (mut compared, mut wrong) = (0u64, 0u64);
    // Of the 8-bit sources with SAT: what one quantization gets wrong of another's.
    let mut confused = BTreeMap::new();
    for bits in [8u32, 3, 1] {
        let heads = rows(&tables[&format!("w{bits}_types")]);
        let all = rows(&tables[&format!("w{bits}_codes")]);
        for (head, codes) in heads.iter().zip(&all) {
            let (source, t) = (
                FixedType::new(head[0] as u32, head[1] as i32, head[2] != 0),
                kind(&head[3..]),
            );
            let fraction = source.fraction();
            for (pattern, &want) in codes.iter().enumerate() {
                let code = i128::from(source.cast(pattern as i128, fraction).value);
                compared += 1;
                wrong += u64::from(t.cast(code, fraction).value != want);
                counts.add(
                    "overflow before rounding",
                    overflow_first(&t, code, fraction) != want,
                );
                let with = |overflow| FixedType { overflow, ..t }.cast(code, fraction).value;
                match t.overflow {
                    FixedOverflow::WrapSignMagnitude => {
                        counts.add("WRAP_SM as WRAP", with(FixedOverflow::Wrap) != want);
                        counts.add(
                            "WRAP_SM with the bit after rounding",
                            sign_after_rounding(&t, code, fraction) != want,
                        );
                    }
                    FixedOverflow::SaturateSymmetric if t.signed && t.width > 1 => {
                        counts.add("SAT_SYM as SAT", with(FixedOverflow::Saturate) != want);
                    }
                    FixedOverflow::Saturate if bits == 8 => {
                        for rounding in ROUNDINGS {
                            let got = FixedType { rounding, ..t }.cast(code, fraction).value;
                            *confused
                                .entry((format!("{:?}", t.rounding), format!("{rounding:?}")))
                                .or_insert(0u64) += u64::from(got != want);
                        }
                    }
                    _ => {}
                }
            }
        }
    }
    assert_eq!((compared, wrong), (722_484, 0));
    let text = stated();
    counts.assert_stated(&text);
    let least = confused
        .iter()
        .filter(|((a, b), _)| a != b)
        .map(|(_, &n)| n)
        .min();
    assert_eq!(least, Some(85), "{text}");
    assert!(confused.iter().all(|((a, b), &n)| (a == b) == (n == 0)));
}

#[test]
fn sums_of_products() {
    let tables = tables();
    let of = |name: &str| rows(&tables[&format!("accumulate_{name}")]);
    let (types, bias, start) = (of("types"), of("bias"), of("start"));
    let (x, w, term, sum) = (of("x"), of("w"), of("term"), of("sum"));
    let mut counts = Counts::default();
    let (mut compared, mut wrong) = (0u64, 0u64);
    for (i, head) in types.iter().enumerate() {
        let t = kind(head);
        // The bias is ap_fixed<8,3>, x ap_fixed<6,2>, w ap_fixed<8,2>: 5, 4 and 6 bits behind the point.
        let bias = i128::from(bias[i][0]);
        let mut acc = t.cast(bias, 5).value;
        compared += 1;
        wrong += u64::from(acc != start[i][0]);
        let mut whole = acc;
        let mut exact = bias << 5;
        let wide = t.fraction().max(10);
        for k in 0..x[i].len() {
            let product = i128::from(x[i][k] * w[i][k]);
            let cast = t.cast(product, 10).value;
            acc = t.add(acc, cast).value;
            compared += 2;
            wrong += u64::from(cast != term[i][k]) + u64::from(acc != sum[i][k]);
            let both = (i128::from(whole) << (wide - t.fraction())) + (product << (wide - 10));
            whole = t.cast(both, wide).value;
            counts.add("product added whole, then cast", whole != sum[i][k]);
            exact += product;
            counts.add(
                "cast after the whole sum",
                t.cast(exact, 10).value != sum[i][k],
            );
        }
    }
    assert_eq!((compared, wrong), (63_000, 0));
    counts.assert_stated(&stated());
}

#[test]
fn doubles() {
    let tables = tables();
    let values = &tables["double_values"].values;
    let (types, codes) = (rows(&tables["double_types"]), rows(&tables["double_codes"]));
    let (mut compared, mut wrong) = (0u64, 0u64);
    for (head, codes) in types.iter().zip(&codes) {
        let t = kind(head);
        for (&value, &want) in values.iter().zip(codes) {
            let got = t.from_f64(value).expect("a number").value;
            compared += 1;
            wrong += u64::from(got != want);
        }
    }
    assert_eq!((compared, wrong), (81_648, 0));
}
