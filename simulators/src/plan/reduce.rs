//! Averages, softmax, linear resampling.

use align_check_graph::Resize;
use align_check_specs::{AverageRule, Bounds};

use super::{Ending, Finish, Planner, clamp_codes};
use crate::network::Folded;
use crate::ops::window::Windows;
use crate::rules::Labels;
use crate::rules::average::{Average, dpu_reciprocal};
use crate::rules::resize::Resampler;
use crate::rules::softmax::Softmax;
use crate::tensor::Channels;

impl Planner<'_> {
    /// A mean over windows or axes.
    pub(super) fn average(
        &self,
        axes: bool,
        image: Option<Channels>,
        folded: &Folded,
        out: Labels,
    ) -> Option<Ending> {
        let spec = self.spec;
        let (rule, name): (Option<AverageRule>, _) = match spec.ops.global_average {
            Some(rule) if axes => (Some(rule), "ops.global-average"),
            _ => (spec.ops.average, "ops.average"),
        };
        let average = Average::new(rule?, spec, self.labels(0)?, out, image).ok()??;
        let clamp = clamp_codes(out, folded, Bounds::HalfAway);
        Some((Finish::Average(Box::new(average), clamp), false, vec![name]))
    }

    /// Whether the factor behind a mean is what the target's table makes of it: the model then says with two
    /// operations what the target computes with one (Quark writes `sum / n * (n * mul / 2^sh)` into the file).
    pub(super) fn is_table_gain(&self, windows: &Windows, folded: &Folded) -> bool {
        let Some((&n, rest)) = windows.divisors.split_first() else {
            return false;
        };
        if self.spec.ops.average != Some(AverageRule::DpuTable) || rest.iter().any(|&m| m != n) {
            return false;
        }
        let (multiplier, shift) = dpu_reciprocal(&windows.kernel, i64::from(n));
        let gain = f64::from(n) * multiplier as f64 / libm::exp2(f64::from(shift));
        folded.mul.iter().all(|&m| m == gain) && folded.add.iter().all(|&a| a == 0.0)
    }

    /// A linear resampling of images.
    pub(super) fn resample(&self, resize: &Resize, out: Labels) -> Option<Ending> {
        let &[.., height, width] = &self.layer.input_shapes[0][..] else {
            return None;
        };
        let grids = [self.labels(0)?, out];
        let resampler = Resampler::new(self.spec.ops.resize?, resize, [height, width], grids)?;
        let finish = Finish::Resample(Box::new(resampler));
        Some((finish, false, vec!["ops.resize"]))
    }

    /// A softmax along an axis.
    pub(super) fn softmax(
        &self,
        axis: usize,
        beta: f32,
        folded: &Folded,
        out: Labels,
    ) -> Option<Ending> {
        let len = self.layer.result_shape[axis];
        let grids = [self.labels(0)?, out];
        let rule = self.spec.ops.softmax?;
        let softmax = Softmax::new(rule, &self.spec.quantize, beta, grids, len)?;
        let clamp = clamp_codes(out, folded, Bounds::HalfAway);
        let finish = Finish::Softmax(Box::new(softmax), clamp);
        Some((finish, false, vec!["ops.softmax"]))
    }
}
