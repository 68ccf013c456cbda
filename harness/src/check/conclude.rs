//! From what was found on samples to verdicts: causes, drift, accuracy.

use std::collections::{BTreeMap, BTreeSet};

use align_check_simulators::plan::Finish;
use anyhow::Result;

use super::{Check, Control, Findings, Mode};
use crate::accuracy;
use crate::inputs::{Sample, Source};
use crate::outcome::{Accuracy, Baseline, Blamed, Cause, Drifted, Floor, Noise, TargetOutcome};
use crate::partial::{CausePart, Partial};
use crate::{baseline, cause, sample};

impl Check<'_> {
    /// Turns what was found into verdicts; runs some samples again, to find causes and to follow drift. Where `control`
    /// says stop, that is left out.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub(crate) fn conclude(
        &self,
        source: &dyn Source,
        partial: &Partial,
        control: &Control,
    ) -> Result<Findings> {
        let compared = self.compared();
        let causes = self.causes(source, &compared, partial, control)?;
        let recording = self.recorded.or(self.recorded_reference);
        let missing = recording.map_or_else(Vec::new, |recording| {
            self.layers(&compared)
                .filter(|(_, layer)| !self.is_in(recording, layer))
                .map(|(_, layer)| layer.tensor.clone())
                .collect()
        });
        let floor = partial.floor();
        let mut targets: Vec<TargetOutcome> = self
            .targets
            .iter()
            .zip(&partial.targets)
            .enumerate()
            .map(|(t, (target, found))| {
                let cause = |layer: usize| causes.get(&(t, layer));
                let samples = partial.done as u64;
                self.target_outcome(target, &compared, (found, samples), &missing, &cause)
            })
            .collect();
        self.follow_drift(
            source,
            &compared,
            partial,
            floor.as_ref(),
            control,
            &mut targets,
        )?;
        self.count_right(source, &compared, partial, control, &mut targets)?;
        Ok(Findings {
            targets,
            floor,
            missing,
            peak_bytes: partial.peak_bytes,
            names: partial.names.clone(),
            seconds: 0.0,
        })
    }

    /// Why layers differ, `(target, layer)`: what the samples found alone, and, where no single decision explains it,
    /// what a few of them find together.
    fn causes(
        &self,
        source: &dyn Source,
        compared: &[bool],
        partial: &Partial,
        control: &Control,
    ) -> Result<BTreeMap<(usize, usize), Cause>> {
        let mut causes = BTreeMap::new();
        let mut left = BTreeMap::new();
        for (t, target) in self.targets.iter().enumerate() {
            for (index, _) in self.layers(compared) {
                let part = &partial.targets[t].layers[index];
                let Some(all) = part.cause.as_ref().map(CausePart::settled) else {
                    continue;
                };
                let fixed = target
                    .plan_of(index)
                    .is_some_and(|plan| matches!(plan.finish, Finish::Fixed(_)));
                if !all.is_whole() && !fixed {
                    left.insert((t, index), (all.clone(), &part.differ));
                }
                causes.insert((t, index), all);
            }
        }
        let isolated = Check {
            mode: Mode {
                isolated: true,
                cumulative: false,
            },
            ..*self
        };
        while !left.is_empty() && !control.is_stopped() {
            // Layers that differ on the same few samples run together, so that no more are held at once.
            let mut chosen = BTreeSet::new();
            let mut wanted = BTreeMap::new();
            left.retain(|key, (cause, differ)| {
                let more = differ.iter().filter(|number| !chosen.contains(*number));
                let fits = chosen.len() + more.count() <= cause::MOST_SAMPLES;
                if fits {
                    chosen.extend(differ.iter().copied());
                    wanted.insert(*key, cause.clone());
                }
                !fits
            });
            let load = |number: usize| Ok((number, source.load(number)?));
            let loaded = chosen.into_iter().map(load).collect::<Result<Vec<_>>>()?;
            let samples: Vec<(usize, &Sample)> = loaded
                .iter()
                .map(|(number, sample)| (*number, &**sample))
                .collect();
            causes.extend(sample::together(&isolated, &samples, compared, &wanted)?);
        }
        Ok(causes)
    }

    /// Follows drift to the outputs, and compares it with the model's own noise.
    fn follow_drift(
        &self,
        source: &dyn Source,
        compared: &[bool],
        partial: &Partial,
        floor: Option<&Floor>,
        control: &Control,
        targets: &mut [TargetOutcome],
    ) -> Result<()> {
        if !self.mode.cumulative {
            return Ok(());
        }
        for target in targets.iter_mut() {
            target.drifted = drifted(target);
        }
        let none = targets.iter().all(|target| target.drifted.is_none());
        if !self.drift || self.recorded.is_some() || none || control.is_stopped() {
            return Ok(());
        }
        let range = partial.start..partial.end();
        let measured = |baseline: &Baseline| Noise {
            differing: baseline.layers.iter().sum(),
            outputs: Some(baseline.outputs),
        };
        let noise = match (floor, &partial.baseline) {
            (Some(floor), _) => Some(Noise {
                differing: floor.free.differing,
                outputs: None,
            }),
            (None, Some(baseline)) => Some(measured(baseline)),
            (None, None) => baseline::run(self, source, range, compared, control.stop)?
                .as_ref()
                .map(measured),
        };
        for drifted in targets.iter_mut().filter_map(|t| t.drifted.as_mut()) {
            drifted.baseline = noise;
            drifted.within_baseline = noise.map(|noise| {
                let outputs = noise.outputs.is_none_or(|most| drifted.outputs <= most);
                drifted.differing <= noise.differing && outputs
            });
        }
        if self.recorded_reference.is_some() || targets.len() > MOST_TRACED_TARGETS {
            return Ok(());
        }
        for (t, target) in targets.iter_mut().enumerate() {
            if let Some(number) = partial.targets[t].first_at_output {
                let sample = source.load(number)?;
                target.trace = sample::drift::trace(self, t, (number, &sample), compared)?;
            }
        }
        Ok(())
    }

    /// How often each target finds the right class, and which layers alone make it find another one.
    fn count_right(
        &self,
        source: &dyn Source,
        compared: &[bool],
        partial: &Partial,
        control: &Control,
        targets: &mut [TargetOutcome],
    ) -> Result<()> {
        let Some(labels) = control.labels else {
            return Ok(());
        };
        let outputs = self.network.graph.outputs.iter();
        let mut sizes = outputs.map(|&value| self.network.graph.value(value).len());
        let classes = sizes.find(|&len| len > 1).unwrap_or(0);
        for (t, target) in targets.iter_mut().enumerate() {
            let (names, first) = (&partial.names, partial.start);
            let found = accuracy::accuracy(&target.inputs, names, first, labels, classes)?;
            let Some(mut found) = found else { continue };
            if !control.is_stopped() {
                self.blame(source, compared, t, &mut found)?;
            }
            target.accuracy = Some(found);
        }
        Ok(())
    }

    /// Which layers alone make inputs flip.
    fn blame(
        &self,
        source: &dyn Source,
        compared: &[bool],
        t: usize,
        found: &mut Accuracy,
    ) -> Result<()> {
        let mut layers: BTreeMap<usize, (u64, f64)> = BTreeMap::new();
        for flip in found.flips.iter().take(accuracy::MOST_BLAMED) {
            let sample = source.load(flip.sample)?;
            let (sample, classes) = ((flip.sample, &*sample), [flip.reference, flip.target]);
            let Some(alone) = sample::drift::alone(self, t, sample, compared, classes)? else {
                continue;
            };
            found.followed += u64::from(!alone.is_empty());
            for one in alone {
                found.rounded |= one.rounded;
                let (flips, share) = layers.entry(one.layer).or_default();
                *flips += u64::from(one.flips);
                *share += one.share;
            }
        }
        let followed = found.followed.max(1) as f64;
        found.blame = layers
            .into_iter()
            .filter(|(_, (flips, share))| *flips > 0 || *share != 0.0)
            .map(|(layer, (flips, share))| Blamed {
                layer: self.network.layers[layer].name.clone(),
                flips,
                share: share / followed,
            })
            .collect();
        // Stable: in the order of the network where nothing tells them apart.
        found
            .blame
            .sort_by(|a, b| b.flips.cmp(&a.flips).then(b.share.total_cmp(&a.share)));
        Ok(())
    }
}

/// Most targets whose drift is followed to the outputs.
const MOST_TRACED_TARGETS: usize = 4;

/// How far a target drifts, in codes; `None` where it does not.
fn drifted(target: &TargetOutcome) -> Option<Drifted> {
    let coded = || target.layers.iter().filter(|layer| layer.lsb.is_some());
    let (mut elements, mut differing) = (0, 0);
    for stats in coded().filter_map(|layer| layer.cumulative.as_ref()) {
        elements += stats.elements;
        differing += stats.differing;
    }
    let outputs = target
        .outputs
        .iter()
        .filter(|output| coded().any(|layer| layer.tensor == output.tensor));
    (differing > 0).then(|| Drifted {
        elements,
        differing,
        outputs: outputs.map(|output| output.stats.differing).sum(),
        baseline: None,
        within_baseline: None,
    })
}
