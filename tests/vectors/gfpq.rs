//! A million values a width through `HiSilicon`'s GFPQ quantizer, of which `golden/nnie-gfpq` holds checksums.

use std::fmt::Write as _;

use align_check_simulators::quantize::gfpq::{Gfpq, Mode};
use align_check_specs::{Rounding, Threshold};
use align_check_tests::{Random, golden, list, text, whole};
use serde_json::Value;
use sha2::{Digest, Sha256};

const BLOCKS: u32 = 64;
const SIZE: usize = 15_625;
const ONE: u32 = 1 << 23;

/// The inputs of a block, by the formula of `golden/nnie-gfpq/README.md`.
fn block(bits: u32, steps: u32, b: u32) -> Vec<f32> {
    let mantissas: Vec<u32> = (0..2 * steps)
        .map(|j| (f64::from(ONE) * (f64::from(j) / f64::from(2 * steps)).exp2()) as u32 - ONE)
        .collect();
    let octave = (b * 37 % 91).cast_signed() - 30;
    let top = (octave + 127).cast_unsigned() << 23;
    let near_zero = if bits == 8 { 7 } else { 10 };
    let mut random = Random(u64::from(bits) << 32 | u64::from(b));
    let value = |index: usize| {
        let r = random.number();
        let field = |shift: u32, mask: u64| (r >> shift & mask) as u32;
        let (kind, sign, down) = (field(61, 7), field(60, 1), field(48, 15));
        let mantissa = mantissas[(field(32, 0xFFFF) % (2 * steps)) as usize];
        let below = |down: u32| top - ((1 + down) << 23);
        let pattern = match kind {
            _ if index == 0 => match b % 16 {
                0 => top,
                8 => top - 1,
                _ => top + mantissas[2 * (r % u64::from(steps)) as usize] + field(32, 1),
            },
            // One below to two above.
            0..=2 => below(down) + mantissa + field(56, 3) - 1,
            3 => below(near_zero + down % 2) + mantissa + field(56, 3) - 1,
            4 | 5 => below(down) + field(0, u64::from(ONE) - 1),
            6 => below(down % 2) + field(0, u64::from(ONE) - 1),
            _ => field(0, 0x7FFF_FFFF) % top,
        };
        let sign = match b {
            b if b % 4 == 3 => 0,
            b if b % 8 == 5 => 1,
            _ => sign,
        };
        f32::from_bits(sign << 31 | pattern)
    };
    (0..SIZE).map(value).collect()
}

fn checksum(values: &[f32]) -> String {
    let mut digest = Sha256::new();
    for value in values {
        digest.update(value.to_bits().to_le_bytes());
    }
    let mut text = String::new();
    for byte in digest.finalize() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn differing(a: &[f32], b: &[f32]) -> usize {
    let different = |(a, b): &(&f32, &f32)| a.to_bits() != b.to_bits();
    a.iter().zip(b).filter(different).count()
}

#[test]
fn a_million_values() {
    let file = std::fs::read_to_string(golden("nnie-gfpq/million.json")).expect("a recording");
    let file: Value = serde_json::from_str(&file).expect("a recording");
    let rows = list(&file["blocks"]);
    assert_eq!(rows.len(), 2 * BLOCKS as usize);
    // z rounded instead of floored, in the values of `init`.
    let mut rounded = Vec::new();
    for (bits, rows) in [8, 16].into_iter().zip(rows.chunks(BLOCKS as usize)) {
        let gfpq = Gfpq::vendor(bits).expect("a width");
        let other = Gfpq::new(bits, Rounding::HalfEven, Threshold::Zero).expect("a width");
        let steps = gfpq.steps_per_octave().cast_unsigned();
        let inputs: Vec<Vec<f32>> = (0..BLOCKS).map(|b| block(bits, steps, b)).collect();
        let (mut chain, mut wrong) = (0, 0);
        for (b, (row, x)) in rows.iter().zip(&inputs).enumerate() {
            assert_eq!(
                (whole(&row["bits"]), whole(&row["block"])),
                (bits.into(), b as u64)
            );
            assert_eq!(text(&row["x"]), checksum(x), "the inputs of block {b}");
            if b % 8 == 0 {
                chain = 0;
            }
            let mut stored = gfpq.init(&inputs[(b + 5) % inputs.len()]);
            let call = |name: &str, mode: Mode, z: &mut i32| {
                let mut y = x.clone();
                gfpq.quantize(mode, z, &mut y);
                assert_eq!(
                    row[&*format!("{name}_z")].as_i64(),
                    Some((*z).into()),
                    "{name} {b}"
                );
                assert_eq!(
                    text(&row[name]),
                    checksum(&y),
                    "{name} of block {b}, {bits} bits"
                );
                y
            };
            let own = call("init", Mode::Init, &mut 0);
            call("update", Mode::Update, &mut chain);
            call("apply", Mode::ApplyOnly, &mut stored);
            let mut neighbour = x.clone();
            other.quantize(Mode::Init, &mut 0, &mut neighbour);
            wrong += differing(&own, &neighbour);
        }
        rounded.push(wrong);
    }
    assert_eq!(rounded, [31_191, 42_987]);
}
