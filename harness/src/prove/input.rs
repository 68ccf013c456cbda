//! An input of a layer that reaches a given sum: a bounded subset sum over the weights.

/// How many orders of the weights are tried.
const TRIES: u64 = 24;

/// Codes less their zero point, one for each weight, whose sum of products lies in `from..=to`; and that sum.
///
/// Weights are gone through from the largest to the smallest, each taking what keeps the rest reachable; the small
/// ones at the end make the sum exact. `None` where no try ends within: the sum may still be reachable.
pub fn window(
    weights: &[i64],
    (lo, hi): (i64, i64),
    from: i64,
    to: i64,
) -> Option<(Vec<i64>, i64)> {
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(weights[i].abs()));
    let targets = [from, to, from + (to - from) / 2];
    (0..TRIES).find_map(|attempt| {
        let target = targets[(attempt % 3) as usize];
        let x = fill(weights, &order, (lo, hi), target, attempt)?;
        let sum = weights.iter().zip(&x).map(|(w, x)| w * x).sum();
        (from..=to).contains(&sum).then_some((x, sum))
    })
}

fn fill(
    weights: &[i64],
    order: &[usize],
    (lo, hi): (i64, i64),
    target: i64,
    attempt: u64,
) -> Option<Vec<i64>> {
    // What the weights from each position on can still add.
    let mut rest = vec![(0i64, 0i64); order.len() + 1];
    for (at, &i) in order.iter().enumerate().rev() {
        let ends = [weights[i] * lo, weights[i] * hi];
        let (min, max) = rest[at + 1];
        rest[at] = (min + ends[0].min(ends[1]), max + ends[0].max(ends[1]));
    }
    let mut left = target;
    let mut x = vec![0; weights.len()];
    for (at, &i) in order.iter().enumerate() {
        let w = weights[i];
        if w == 0 {
            x[i] = 0i64.clamp(lo, hi);
            continue;
        }
        let (min, max) = rest[at + 1];
        // The rest is asked for its middle, a little beside it from the second try on.
        let aside = (attempt / 3) as i64 * (max - min) / 64;
        let middle = min + (max - min) / 2 + if at % 2 == 0 { aside } else { -aside };
        let wanted = left - middle.clamp(min, max);
        let nearest = wanted.div_euclid(w);
        let value = [nearest, nearest + 1]
            .into_iter()
            .map(|value| value.clamp(lo, hi))
            .find(|value| (min..=max).contains(&(left - w * value)))?;
        x[i] = value;
        left -= w * value;
    }
    (left == 0).then_some(x)
}

#[cfg(test)]
mod tests {
    use super::window;

    #[test]
    fn sums_are_reached_exactly() {
        let weights = [127, -90, 33, 14, -5, 3, 1];
        for target in [-20_000, -1, 0, 17, 12_345, 40_000] {
            let (x, sum) = window(&weights, (0, 255), target, target).expect("reachable");
            assert_eq!(sum, target);
            assert!(x.iter().all(|x| (0..=255).contains(x)));
            assert_eq!(
                weights.iter().zip(&x).map(|(w, x)| w * x).sum::<i64>(),
                target
            );
        }
    }

    #[test]
    fn a_sum_that_no_input_has_is_not_claimed() {
        assert_eq!(window(&[2, 4, 6], (0, 255), 7, 7), None);
        assert_eq!(window(&[3], (0, 1), 5, 9), None);
    }
}
