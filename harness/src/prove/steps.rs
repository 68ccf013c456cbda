//! Two step functions over the sums that a channel can reach.

use align_check_simulators::adapt::ValueGrid;
use align_check_simulators::network::Layer;
use align_check_simulators::step::{Reach, Step, input_range, weight_rows};

use super::input::window;
use super::{Cases, Certificate, Example};

/// How many differing channels are searched for an input that reaches one of their sums.
const SEARCHED: usize = 64;

/// How many intervals of differing sums are kept of a channel.
const EXAMPLES: usize = 16;

/// How two sides differ on one channel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Difference {
    differing: u64,
    max_lsb: u32,
    /// Intervals of sums that differ, the first few of them.
    sums: Vec<(i64, i64)>,
}

/// Compares every channel of a layer.
pub fn certify(
    layer: &Layer,
    target: &Step,
    against: &Step,
    input: &ValueGrid,
    reach: &[Reach],
) -> Certificate {
    let mut cases = Cases::default();
    let mut max_lsb = 0;
    let mut worst: Vec<(usize, Difference)> = Vec::new();
    for (channel, &reach) in reach.iter().enumerate() {
        let difference = compare(target, against, channel, reach);
        cases.channels += 1;
        cases.equal_channels += u64::from(difference.differing == 0);
        cases.reachable += reach.count();
        cases.differing += difference.differing;
        max_lsb = max_lsb.max(difference.max_lsb);
        if difference.differing > 0 {
            worst.push((channel, difference));
        }
    }
    if worst.is_empty() {
        return Certificate::Equal(cases);
    }
    worst.sort_by_key(|(channel, difference)| (std::cmp::Reverse(difference.max_lsb), *channel));
    let rows = weight_rows(layer);
    let found = worst
        .iter()
        .take(SEARCHED)
        .find_map(|(channel, difference)| {
            let row = &rows.as_ref()?[*channel];
            let range = input_range(input)?;
            difference.sums.iter().find_map(|&(from, to)| {
                let (inputs, sum) = window(row, range, from, to)?;
                Some((*channel, sum, inputs))
            })
        });
    let zero = match input {
        ValueGrid::Codes { grid, .. } => grid.zero_point.at(0),
        _ => 0,
    };
    let (channel, sum, inputs) = found.unwrap_or_else(|| {
        let (channel, difference) = &worst[0];
        (*channel, difference.sums[0].0, Vec::new())
    });
    Certificate::Differs {
        cases,
        max_lsb,
        example: Example {
            channel: Some(channel),
            sum: Some(sum),
            inputs: inputs.into_iter().map(|x| x + zero).collect(),
            expected: i64::from(against.code(sum, channel)),
            got: i64::from(target.code(sum, channel)),
        },
    }
}

/// Walks over the steps of both sides at once.
fn compare(target: &Step, against: &Step, channel: usize, reach: Reach) -> Difference {
    let sides = [target.steps(channel, reach), against.steps(channel, reach)];
    let mut on = [0, 0];
    let mut difference = Difference::default();
    let mut at = reach.min;
    while at <= reach.max {
        let ends = [0, 1].map(|side| {
            sides[side]
                .get(on[side] + 1)
                .map_or(reach.max + 1, |&(begin, _)| begin)
        });
        let end = ends[0].min(ends[1]);
        let apart = sides[0][on[0]].1.abs_diff(sides[1][on[1]].1);
        if apart > 0 {
            difference.differing += end.abs_diff(at);
            if apart > difference.max_lsb {
                // The largest difference makes the best example.
                difference.max_lsb = apart;
                difference.sums.clear();
            }
            if apart == difference.max_lsb && difference.sums.len() < EXAMPLES {
                difference.sums.push((at, end - 1));
            }
        }
        for side in 0..2 {
            on[side] += usize::from(ends[side] == end && end <= reach.max);
        }
        at = end;
    }
    difference
}
