//! What many samples share: where the targets' steps lie, beside the reference's.

use std::sync::OnceLock;

use align_check_simulators::run::{Begins, Runner, Shifts};

use crate::check::Check;

/// Of fewer samples the steps are not worth being found.
const FEWEST: usize = 8;

/// For fewer targets elements near ties are not worth being noted: as much as two ends cost.
const FEWEST_TARGETS: usize = 3;

/// The steps of every layer, found when its first sample comes by.
pub(crate) struct Steps {
    layers: Vec<OnceLock<Option<OfLayer>>>,
}

/// The steps of one layer.
pub(crate) struct OfLayer {
    /// The reference's.
    pub(crate) begins: Begins,
    /// Each target's; none where it is not known by its steps.
    pub(crate) shifts: Vec<Option<Shifts>>,
}

impl Steps {
    /// Of a check of so many samples; `None` where they are too few, or the exact reference is not what targets are
    /// compared with.
    pub(crate) fn new(check: &Check, samples: usize) -> Option<Self> {
        let exact = check.recorded.is_none() && check.recorded_reference.is_none();
        (exact && samples >= FEWEST).then(|| Self {
            layers: check
                .network
                .layers
                .iter()
                .map(|_| OnceLock::new())
                .collect(),
        })
    }

    /// One layer's.
    pub(crate) fn layer(&self, check: &Check, index: usize) -> Option<&OfLayer> {
        let found = self.layers[index].get_or_init(|| OfLayer::new(check, index));
        found.as_ref()
    }
}

impl OfLayer {
    fn new(check: &Check, index: usize) -> Option<Self> {
        let layer = &check.network.layers[index];
        let reference = Runner {
            layer,
            plan: &check.reference.plans[index],
            isa: check.isa,
        };
        // Targets that leave the inputs where they are, and make something else of them.
        let others: Vec<Option<Runner>> = check
            .targets
            .iter()
            .map(|target| {
                let unmoved = |&value: &usize| target.grids[value] == check.reference.grids[value];
                if target.own.is_some() || !layer.inputs.iter().all(unmoved) {
                    return None;
                }
                let plan = &target.plans[index];
                let shares = plan.shares_sums(reference.plan) && !plan.computes_as(reference.plan);
                shares.then_some(Runner { plan, ..reference })
            })
            .collect();
        if others.iter().flatten().count() < FEWEST_TARGETS {
            return None;
        }
        let input = &check.reference.grids[*layer.inputs.first()?];
        let begins = Begins::of(&reference, input)?;
        let shifts = others.iter().map(|other| {
            let other = other.as_ref()?;
            Shifts::of(&begins, &reference, other)
        });
        let shifts = shifts.collect();
        Some(Self { begins, shifts })
    }
}
