//! QONNX and FINN `MultiThreshold`: the number of thresholds that `x` reaches.
//!
//! Source: qonnx 1.0.0 `custom_op/general/multithreshold.py`: `out_scale * count + out_bias` in `f32`.

use align_check_graph::Thresholds;

/// Counts by binary search in rows that ascend, otherwise one by one.
pub struct Counter<'a> {
    rows: Vec<Row<'a>>,
}

struct Row<'a> {
    thresholds: &'a [f32],
    ascending: bool,
}

impl<'a> Counter<'a> {
    /// Looks at every row once.
    pub fn new(t: &'a Thresholds) -> Self {
        let row = |index: usize| {
            let thresholds = &t.thresholds[index * t.steps..(index + 1) * t.steps];
            // NaN never compares, so a row that holds one does not ascend (alone, it is counted below).
            let ascending = thresholds.is_sorted() && thresholds.iter().all(|t| !t.is_nan());
            Row {
                thresholds,
                ascending,
            }
        };
        Self {
            rows: (0..t.channels).map(row).collect(),
        }
    }

    /// How many thresholds of a row `x` reaches; none, where it is NaN.
    pub fn count(&self, row: usize, x: f32) -> usize {
        let row = &self.rows[row];
        if row.ascending {
            row.thresholds.partition_point(|&t| x >= t)
        } else {
            row.thresholds.iter().filter(|&&t| x >= t).count()
        }
    }
}

/// The axis that tells rows apart; none where one row serves all.
pub fn axis(t: &Thresholds) -> Option<usize> {
    (t.channels > 1).then_some(t.axis)
}
