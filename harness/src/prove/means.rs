//! Means: every sum that a window can reach.
//!
//! A rule that adds integers knows a window by its sum alone; each output of the layer shows another sum, run by run.
//! Rules that add floats in the window's order know more, and are left open.

use std::collections::BTreeMap;

use align_check_simulators::adapt::ValueGrid;
use align_check_simulators::kernels::Isa;
use align_check_simulators::network::{Kind, Post};
use align_check_simulators::ops::window::Windows;
use align_check_simulators::plan::Finish;
use align_check_simulators::tensor::Tensor;

use super::{Cases, Certificate, Example, Side, both};

/// Sums times outputs that are not computed any more.
const MOST: u64 = 1 << 26;

/// Compares the codes of every sum.
pub fn certify(sides: [&Side; 2], isa: Isa) -> Result<Certificate, String> {
    let Kind::Average { windows, .. } = &sides[0].layer.kind else {
        return Err("no mean".into());
    };
    for side in sides {
        match &side.plan.finish {
            Finish::Letter(_) | Finish::Keep { .. } => {}
            Finish::Average(average, _) if average.knows_the_sum() => {}
            Finish::Average(..) => return Err("the mean is summed in float, or in blocks".into()),
            _ => return Err("the mean is computed in float on one side".into()),
        }
    }
    let ValueGrid::Codes { grid, .. } = sides[0].inputs[0] else {
        return Err("an input without codes".into());
    };
    let several = |post: &Post| match post {
        Post::Affine { channels, .. } | Post::Leaky { channels, .. } => channels.count > 1,
        _ => false,
    };
    let out_differs = |side: &&Side| match &side.plan.out {
        ValueGrid::Codes { grid, .. } => !grid.is_uniform(),
        _ => false,
    };
    if !grid.is_uniform()
        || sides.iter().any(out_differs)
        || sides
            .iter()
            .any(|side| side.layer.posts.iter().any(several))
    {
        return Err("a mean with a scale for each channel".into());
    }
    if !disjoint(windows) {
        return Err("windows overlap: their sums are tested, not proved".into());
    }
    let span = grid.max - grid.min;
    // Outputs of one kind: as many elements, the same divisor.
    let outputs = windows.outer * windows.len();
    let mut kinds: BTreeMap<(usize, u32), Vec<usize>> = BTreeMap::new();
    for output in 0..outputs {
        let window = output % windows.len();
        let kind = (windows.taps(window).len(), windows.divisors[window]);
        kinds.entry(kind).or_default().push(output);
    }
    let sums = |taps: usize| (taps as i64 * span + 1) as usize;
    let runs = kinds
        .iter()
        .map(|(&(taps, _), outputs)| sums(taps).div_ceil(outputs.len()))
        .max()
        .unwrap_or(0);
    if runs as u64 * windows.outer as u64 * windows.plane as u64 > MOST {
        return Err("too many sums".into());
    }
    let mut cases = Cases {
        reachable: kinds.keys().map(|&(taps, _)| sums(taps) as u64).sum(),
        ..Cases::default()
    };
    let mut worst: Option<(u32, Example)> = None;
    for run in 0..runs {
        let mut codes = vec![grid.min as i32; windows.outer * windows.plane];
        // Which sum each output shows; past the last one they begin anew.
        let mut shown = vec![(0, false); outputs];
        for (&(taps, _), members) in &kinds {
            for (rank, &output) in members.iter().enumerate() {
                let nth = run * members.len() + rank;
                let sum = (nth % sums(taps)) as i64;
                shown[output] = (sum, nth < sums(taps));
                let base = output / windows.len() * windows.plane;
                let taps = windows.taps(output % windows.len());
                let (each, more) = (
                    sum / taps.len().max(1) as i64,
                    sum % taps.len().max(1) as i64,
                );
                for (n, &tap) in taps.iter().enumerate() {
                    let code = grid.min + each + i64::from((n as i64) < more);
                    codes[base + tap as usize] = code as i32;
                }
            }
        }
        let input = Tensor::codes(sides[0].layer.input_shapes[0].clone(), codes, grid.clone());
        let [got, expected] = both(sides, &[&input], isa)?;
        for (output, (&got, &expected)) in got.iter().zip(&expected).enumerate() {
            let apart = got.abs_diff(expected);
            let (sum, first) = shown[output];
            if apart == 0 || !first {
                continue;
            }
            cases.differing += 1;
            if worst.as_ref().is_none_or(|(most, _)| apart > *most) {
                let taps = windows.taps(output % windows.len()).len() as i64;
                let example = Example {
                    channel: None,
                    sum: Some(sum + taps * grid.min),
                    inputs: Vec::new(),
                    expected: i64::from(expected),
                    got: i64::from(got),
                };
                worst = Some((apart, example));
            }
        }
    }
    Ok(Certificate::of(cases, worst))
}

/// Whether no element belongs to two windows.
fn disjoint(windows: &Windows) -> bool {
    let mut seen = vec![false; windows.plane];
    (0..windows.len()).all(|window| {
        windows
            .taps(window)
            .iter()
            .all(|&tap| !std::mem::replace(&mut seen[tap as usize], true))
    })
}
