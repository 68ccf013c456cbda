use super::md5;
use crate::quantize::tables::{ENTRIES, MIDDLE, sigmoid, tanh};

fn digest(table: &[i16; ENTRIES]) -> String {
    let bytes: Vec<u8> = table.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    md5::hex(&bytes)
}

/// The sums of the tables in three public `.wk` files.
#[test]
fn tables_are_those_of_the_files() {
    assert_eq!(digest(&sigmoid()), "1dc5a8a93094c01c70ac66b60275f6de");
    assert_eq!(digest(&tanh()), "9739f9e01f0989c4a26c480629ea9509");
}

#[test]
fn middle_entries() {
    let middle = MIDDLE - 2..=MIDDLE + 3;
    assert_eq!(
        sigmoid()[middle.clone()],
        [15361, 15872, 16384, 16895, 17406, 17915]
    );
    assert_eq!(tanh()[middle], [-3063, -1023, 1023, 3063, 5078, 7055]);
}

/// Rounding instead of truncating gives other tables.
#[test]
fn wrong_neighbours_have_other_sums() {
    let rounded = std::array::from_fn(|index| {
        let x = (index as f64 - 256.0) / 16.0;
        (32768.0 / (1.0 + libm::exp(-x))).round().min(32767.0) as i16
    });
    let differing = rounded
        .iter()
        .zip(sigmoid())
        .filter(|(a, b)| **a != *b)
        .count();
    assert!(differing > 100 && digest(&rounded) != digest(&sigmoid()));
}
