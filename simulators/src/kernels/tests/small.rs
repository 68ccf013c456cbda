//! Cases of every path that are small enough for Miri, which interprets the code and checks every pointer.

use align_check_specs::{Overflow, PairRule};

use super::{
    Random, SaturatingPairs, check_f64, check_in_order, check_random, conv, lose_in_pairs, product,
    reference_pairs, sizes,
};

/// Matrix products: tiles with all numbers of rows, whole and partial vectors.
#[test]
fn small_products() {
    for (m, k, p) in [(15, 5, 50), (9, 1, 17), (4, 3, 33), (3, 4, 16)] {
        check_random(&product(m, k, p), 0);
    }
}

/// Several blocks of positions, and of channels where threads share the work (under Miri they do from 500
/// multiplications on).
#[test]
fn small_products_in_blocks() {
    check_random(&product(2, 2, 390), 0);
    check_random(&product(70, 3, 5), 0);
}

/// A matrix times a vector: whole blocks of rows and the rest, one thread and several, groups and padding.
#[test]
fn small_vectors() {
    check_random(&product(5, 65, 1), 0);
    check_random(&product(66, 9, 1), 0);
    check_random(&conv([4, 3, 3], 6, [5, 5], [1, 1], [1; 4], [1, 1], 2), 7);
}

/// Windows: pads, strides, dilations, groups.
#[test]
fn small_windows() {
    check_random(&conv([2, 4, 9], 3, [3, 3], [1, 1], [1; 4], [1, 1], 1), 3);
    let shape = conv([4, 4, 35], 2, [2, 3], [2, 2], [0, 1, 2, 3], [1, 2], 2);
    check_random(&shape, 9);
}

/// One channel a group: eight vectors at once and one, planes of strides, two outputs a channel, more kernel rows than
/// an instruction adds, channels of several threads.
#[test]
fn small_depthwise() {
    check_random(&conv([1, 12, 11], 1, [2, 2], [1, 1], [1; 4], [1, 1], 1), 5);
    check_random(
        &conv([3, 5, 5], 3, [5, 3], [1, 1], [2, 1, 2, 1], [1, 1], 3),
        5,
    );
    let shape = conv([2, 5, 37], 4, [3, 3], [2, 2], [0, 1, 2, 3], [1, 2], 2);
    check_random(&shape, 5);
}

/// Sums of reals, one after the other.
#[test]
fn small_reals() {
    for shape in [
        product(9, 3, 19),
        product(5, 7, 1),
        conv([4, 4, 6], 6, [2, 3], [1, 2], [1, 0, 0, 1], [1, 1], 2),
    ] {
        check_f64(&shape, -0.3);
    }
}

/// Accumulators that overflow, and pairs of products that do.
#[test]
fn small_overflows() {
    let shape = conv([2, 4, 5], 2, [2, 2], [1, 1], [1; 4], [1, 1], 1);
    let (x, w, _) = sizes(&shape);
    let mut random = Random(1);
    let (codes, weights) = (random.codes(x), random.weights(w));
    let x: Vec<i32> = codes.iter().map(|&x| i32::from(x)).collect();
    let w: Vec<i32> = weights.iter().map(|&w| i32::from(w)).collect();
    let tensors = (&x[..], 5, &w[..], &[3, -4][..]);
    let count = check_in_order(&shape, tensors, (12, Overflow::Saturate));
    assert!(count.elements > 0);

    let rule = PairRule::Sequence;
    let (mut sums, wanted, lost) = reference_pairs(&shape, (&codes, 5, &weights), rule);
    let pairs = SaturatingPairs::new(&shape, &weights, rule, 0, 255).unwrap();
    let count = lose_in_pairs(&shape, &codes, 5, &pairs, &mut sums);
    assert_eq!((sums, count.steps), (wanted, lost));
    assert!(lost > 0);
}
