//! Running samples, and adding up what is found on them.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};

use super::{Check, TargetFound};
use crate::accuracy::Labels;
use crate::inputs::Source;
use crate::outcome::InputOutcome;
use crate::partial::{Partial, TargetPart, Total};
use crate::{baseline, lanes, sample};

/// How a run is watched and ended.
pub(crate) struct Control<'a> {
    /// Becomes true where somebody ends the run.
    pub(crate) stop: &'a AtomicBool,
    /// Called behind each sample with all that was found.
    pub(crate) save: &'a (dyn Fn(&Partial) -> Result<()> + Sync),
    /// The right class of each sample.
    pub(crate) labels: Option<&'a Labels>,
}

impl Control<'_> {
    /// Whether somebody has ended the run.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Default for Control<'_> {
    fn default() -> Self {
        static GO_ON: AtomicBool = AtomicBool::new(false);
        Self {
            stop: &GO_ON,
            save: &|_| Ok(()),
            labels: None,
        }
    }
}

impl Check<'_> {
    /// Runs samples up to `end` and adds them to what was found on those before.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub(crate) fn gather(
        &self,
        source: &dyn Source,
        end: usize,
        partial: &mut Partial,
        control: &Control,
    ) -> Result<()> {
        let compared = self.compared();
        let range = partial.end()..end;
        let steps = sample::Steps::new(self, range.len());
        let work = |number: usize| {
            let sample = source.load(number)?;
            let mut found = sample::run(self, steps.as_ref(), (number, &sample), &compared)?;
            let label = control
                .labels
                .map(|labels| labels.of(&sample.name))
                .transpose()?;
            let inputs = found.targets.iter_mut().map(|one| of_input(one, label));
            let inputs = inputs.collect::<Result<Vec<_>>>()?;
            Ok((sample.into_owned().name, found, inputs))
        };
        lanes::in_order(
            range,
            control.stop,
            &work,
            &mut |_, (name, found, inputs)| {
                partial.add(name, found, inputs);
                (control.save)(partial)
            },
        )?;
        Ok(())
    }

    /// Makes the tensors of the first sample again, where a report asks for them and a file stood for the run.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub(crate) fn keep_first(&self, source: &dyn Source, partial: &mut Partial) -> Result<()> {
        if partial.start > 0 || partial.done == 0 || !self.targets.iter().any(|t| t.keep) {
            return Ok(());
        }
        let found = sample::run(self, None, (0, &*source.load(0)?), &self.compared())?;
        for (own, found) in partial.targets.iter_mut().zip(found.targets) {
            for (own, found) in own.layers.iter_mut().zip(found.layers) {
                own.kept = found.kept;
            }
        }
        Ok(())
    }

    /// Measures the model's own noise on the samples of a part, where a target drifts or `always`.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub(crate) fn measure_noise(
        &self,
        source: &dyn Source,
        partial: &mut Partial,
        always: bool,
        control: &Control,
    ) -> Result<()> {
        let drifts = |target: &TargetPart| {
            let totals = target
                .layers
                .iter()
                .filter_map(|layer| layer.cumulative.as_ref());
            totals.map(Total::stats).any(|stats| stats.differing > 0)
        };
        let asked = self.mode.cumulative && self.drift && self.recorded.is_none();
        if asked && partial.floor.is_none() && (always || partial.targets.iter().any(drifts)) {
            let range = partial.start..partial.end();
            partial.baseline = baseline::run(self, source, range, &self.compared(), control.stop)?;
        }
        Ok(())
    }
}

/// What one input became on one target.
fn of_input(found: &mut TargetFound, label: Option<usize>) -> Result<InputOutcome> {
    let mut input = InputOutcome::default();
    for (index, layer) in found.layers.iter().enumerate() {
        let Some(stats) = layer.isolated.as_ref().or(layer.cumulative.as_ref()) else {
            continue;
        };
        input.differing += stats.differing;
        if stats.differing > 0 && (input.worst_layer.is_none() || stats.max_lsb > input.worst_lsb) {
            input.worst_layer = Some(index);
            input.worst_lsb = stats.max_lsb;
        }
    }
    input.outputs_differing = found.outputs.iter().map(|(stats, _)| stats.differing).sum();
    let Some(answer) = found.answer.take() else {
        return Ok(input);
    };
    let [reference, target] = answer.each_ref().map(|tensor| sample::argmax(tensor));
    input.classes = reference.zip(target).map(|(a, b)| [a, b]);
    if let Some(label) = label {
        let len = answer[0].len();
        if label >= len {
            bail!("class {label} of a label: the model's output has {len} elements");
        }
        input.ranks = Some(answer.each_ref().map(|tensor| {
            let (values, own) = (tensor.to_real(), tensor.real_at(label));
            // Of equal elements the first one counts as the largest.
            let before = |(at, &v): (usize, &f64)| v > own || (v == own && at < label);
            values.iter().enumerate().filter(|&one| before(one)).count()
        }));
    }
    Ok(input)
}
