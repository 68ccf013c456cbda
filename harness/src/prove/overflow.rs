//! Whether an accumulator can overflow, by the bounds of what its channels can reach.

use align_check_simulators::plan::Sum;
use align_check_simulators::step::{extreme, input_range, reach, weight_rows};
use align_check_specs::Overflow;

use super::{Overflowing, Side};

/// The channel that overflows furthest, and an input that makes it. `None`: no channel can, or nothing is known.
///
/// Every product of that input has the sign of the sum, so that no partial sum comes back before the end.
pub fn find(side: &Side) -> Option<Overflowing> {
    let plan = side.plan.linear.as_ref()?;
    let Sum::InOrder {
        bits,
        overflow: Overflow::Wrap | Overflow::Saturate,
        start,
        ..
    } = &plan.sum
    else {
        return None;
    };
    let input = *side.inputs.first()?;
    let (lo, hi) = input_range(input)?;
    let range = (lo.min(0), hi.max(0));
    let half = 1i128.checked_shl(bits - 1)?;
    let beyond = |sum: i128| (sum - (half - 1)).max(-half - sum);
    let reach = reach(side.layer, input)?;
    let ends = reach.iter().zip(start).map(|(reach, &bias)| {
        let ends = [reach.max, reach.min].map(|end| i128::from(end) + i128::from(bias));
        let largest = beyond(ends[0]) >= beyond(ends[1]);
        (ends[usize::from(!largest)], largest)
    });
    let over: Vec<_> = ends
        .enumerate()
        .filter(|(_, (sum, _))| beyond(*sum) > 0)
        .collect();
    let &(channel, (sum, largest)) = over.iter().max_by_key(|(_, (sum, _))| beyond(*sum))?;
    let rows = weight_rows(side.layer)?;
    let zero = match input {
        align_check_simulators::adapt::ValueGrid::Codes { grid, .. } => grid.zero_point.at(0),
        _ => return None,
    };
    let inputs = extreme(&rows[channel], range, largest);
    Some(Overflowing {
        channels: over.len(),
        of: reach.len(),
        bits: *bits,
        channel,
        sum: i64::try_from(sum).ok()?,
        inputs: inputs.into_iter().map(|x| x + zero).collect(),
    })
}
