//! Layers of a target's own: fed at the borders of what its placement fused.

use std::cell::OnceCell;
use std::sync::Arc;

use align_check_simulators::adapt::{ValueGrid, put_on};
use align_check_simulators::run::{Runner, Sums};
use align_check_simulators::tensor::Tensor;
use anyhow::{Result, anyhow};

use super::{Fed, Made, SampleRun, Switched, Values, borrowed, same};
use crate::cause::Unplaced;
use crate::check::{Found, SampleFound, Target};
use crate::compare::Lsb;
use crate::noise::Noise;
use crate::own::Own;

/// The tensors that a target begins with.
pub(super) fn inputs(target: &Target, base: &Values) -> Values {
    let mut values = base.clone();
    if let Some(own) = &target.own {
        values.resize(own.network.graph.values.len(), None);
    }
    values
}

/// Room for a target's tensors that stand for none of the model.
pub(super) fn nothing(target: &Target) -> Values {
    let own = target.own.as_ref();
    own.map_or_else(Vec::new, |own| vec![None; own.network.graph.values.len()])
}

/// A layer of a target's own.
struct Layer<'a> {
    t: usize,
    index: usize,
    target: &'a Target,
    own: &'a Own,
}

/// A layer that was run, in isolation and freely.
struct Ran<'m, 'a> {
    runner: Runner<'a>,
    inputs: &'m [Arc<Tensor>],
    /// The same on the target's grids.
    moved: &'m [Arc<Tensor>],
    sums: &'m Arc<Sums>,
    out: &'m Arc<Tensor>,
    free: &'m Tensor,
    /// What it was fed with in the target's own run.
    own: &'m [Arc<Tensor>],
    drifted: bool,
}

impl<'a> SampleRun<'a> {
    /// Runs the layers of a target's own that come behind a layer of the model. `filled`: that layer's output stands
    /// in for what no recording has, until the target makes it.
    pub(super) fn own_layers<'f>(
        &mut self,
        t: usize,
        fed: &'f Fed<'a>,
        noise: &OnceCell<Option<Noise<'f>>>,
        compared: &[bool],
        filled: bool,
        found: &mut SampleFound,
    ) -> Result<()> {
        let check = self.check;
        let target = &check.targets[t];
        let Some(own) = &target.own else {
            return Ok(());
        };
        if filled {
            self.unrecorded.insert(fed.layer.output);
        }
        for &index in &own.after[fed.index] {
            let layer = Layer {
                t,
                index,
                target,
                own,
            };
            self.own_layer(&layer, fed, noise, compared, found)?;
            for &value in &own.last_uses[index] {
                let freed = [self.own[t][value].take(), self.inner[t][value].take()];
                freed
                    .into_iter()
                    .flatten()
                    .for_each(|tensor| self.give(tensor));
            }
        }
        Ok(())
    }

    fn own_layer<'f>(
        &mut self,
        at: &Layer<'a>,
        fed: &'f Fed<'a>,
        noise: &OnceCell<Option<Noise<'f>>>,
        compared: &[bool],
        found: &mut SampleFound,
    ) -> Result<()> {
        let check = self.check;
        let Layer {
            t,
            index,
            target,
            own,
        } = *at;
        let layer = &own.network.layers[index];
        let runner = Runner {
            layer,
            plan: &target.plans[index],
            isa: check.isa,
        };
        let missing = || anyhow!("layer '{}' lacks an input", layer.name);
        let isolated_in: Vec<Arc<Tensor>> = layer
            .inputs
            .iter()
            .map(|&value| {
                let base = own.placed.stands_for[value].and_then(|v| self.base[v].clone());
                base.or_else(|| self.inner[t][value].clone())
                    .ok_or_else(missing)
            })
            .collect::<Result<_>>()?;
        let own_in: Vec<Arc<Tensor>> = layer
            .inputs
            .iter()
            .map(|&value| self.own[t][value].clone().ok_or_else(missing))
            .collect::<Result<_>>()?;
        let on_grids = |tensors: &[Arc<Tensor>]| super::on_grids(&target.grids, layer, tensors);
        let drifted = !same(&own_in, &isolated_in);
        let moved = on_grids(&isolated_in);
        let twin = own.twins[index] == Some(fed.index);
        let shared = twin
            && moved.len() == fed.inputs.len()
            && same(&moved, &fed.inputs)
            && fed.shares_sums(runner.plan);
        let own_sums = (!shared).then(|| self.sums(&runner, &borrowed(&moved)));
        let sums = own_sums.as_ref().unwrap_or_else(|| fed.sums());
        let isolated = self.finish(&runner, &borrowed(&moved), sums);
        let free = if drifted {
            let moved = on_grids(&own_in);
            let inputs = borrowed(&moved);
            self.output(&runner, &inputs)
        } else {
            isolated.clone()
        };
        let mut counted = None;
        for &model in &own.compared[index] {
            let value = check.network.layers[model].output;
            if self.unrecorded.remove(&value) {
                // What the recording lacks, the target's simulation fills in.
                self.base[value] = Some(isolated.clone());
                continue;
            }
            let Some(expected) = self.base[value].clone().filter(|_| compared[model]) else {
                continue;
            };
            let ran = Ran {
                runner,
                inputs: &isolated_in,
                moved: &moved,
                sums,
                out: &isolated,
                free: &free,
                own: &own_in,
                drifted,
            };
            let entry = &mut found.targets[t].layers[model];
            // The layer of the model that runs now is the one to compare with, but for merged quantizers.
            counted = if model == fed.index {
                self.compare_own(at, &ran, fed, &expected, noise, entry)
            } else {
                let fed = self.fed(model, true)?;
                self.compare_own(at, &ran, &fed, &expected, &OnceCell::new(), entry)
            };
        }
        let base = own.placed.stands_for[layer.output].and_then(|v| self.base[v].clone());
        let base = base.or_else(|| Some(isolated.clone()));
        self.own[t][layer.output] = Some(self.kept(free, base.as_ref(), counted));
        self.inner[t][layer.output] = Some(isolated);
        if let Some(sums) = own_sums {
            self.give_sums(sums);
        }
        Ok(())
    }

    /// Compares what a layer made with what the model's layer makes; whether nothing differs in the target's own run.
    fn compare_own<'f>(
        &self,
        at: &Layer<'a>,
        ran: &Ran<'_, 'a>,
        fed: &'f Fed<'a>,
        expected: &Arc<Tensor>,
        noise: &OnceCell<Option<Noise<'f>>>,
        entry: &mut Found,
    ) -> Option<bool> {
        let check = self.check;
        let mut alone = Vec::new();
        if check.mode.isolated {
            let made = Made {
                t: at.t,
                runner: ran.runner,
                inputs: ran.moved,
                sums: ran.sums,
                out: ran.out,
            };
            let switched = Switched {
                inputs: ran.inputs,
                grids: &at.target.grids,
                model_grids: self.model_grids(at),
                model: at.own.twins[at.index].map(|twin| &check.reference.plans[twin]),
                unplaced: self.unplaced(at, fed),
            };
            alone = self.judge(fed, &made, &switched, expected, noise, entry);
        }
        if !check.mode.cumulative {
            return None;
        }
        let apart = ran.drifted.then_some((&**ran.out, &alone[..]));
        let inputs = &at.own.network.layers[at.index].inputs;
        let step = |input: usize| match at.own.placed.stands_for[inputs[input]] {
            Some(value) => self.value_lsb(value),
            None => Lsb::unit(),
        };
        let largest = || super::drift::largest(ran.inputs, ran.own, step);
        self.cumulative(fed, ran.free, expected, apart, largest, entry);
        entry.cumulative.as_ref().map(|stats| stats.differing == 0)
    }

    /// The model's grids of a layer's inputs, where the model has them.
    fn model_grids(&self, at: &Layer) -> Vec<ValueGrid> {
        let grid = |&value: &usize| match at.own.placed.stands_for[value] {
            Some(model) => self.check.reference.grids[model].clone(),
            None => at.target.grids[value].clone(),
        };
        let layer = &at.own.network.layers[at.index];
        layer.inputs.iter().map(grid).collect()
    }

    /// The model's layer as the target would compute it without its placement; `None` where that is the same.
    fn unplaced(&self, at: &Layer<'a>, fed: &Fed<'a>) -> Option<Unplaced<'a>> {
        let (own, layer) = (at.own, &at.own.network.layers[at.index]);
        let inner = |&value: &usize| own.placed.stands_for[value].is_none();
        let unchanged = layer.joined.is_none()
            && layer.quantizer == fed.layer.quantizer
            && layer.name == fed.layer.name
            && !layer.inputs.iter().any(inner);
        if unchanged {
            return None;
        }
        let grid = |&value: &usize| match own.placed.found_as[value] {
            Some(found) => at.target.grids[found].clone(),
            None => self.check.reference.grids[value].clone(),
        };
        let grids: Vec<ValueGrid> = fed.layer.inputs.iter().map(grid).collect();
        let inputs = grids
            .iter()
            .zip(&fed.inputs)
            .map(|(grid, tensor)| put_on(grid, tensor).map_or_else(|| tensor.clone(), Arc::new))
            .collect();
        let absent = fed.layer.inputs.iter().chain([&fed.layer.output]);
        let why = absent
            .filter_map(|value| own.placed.absent.get(value))
            .map(|absent| absent.why.clone())
            .next();
        Some(Unplaced {
            layer: fed.layer,
            plan: fed.reference.plan,
            grids,
            inputs,
            text: why.unwrap_or_else(|| "the target has its quantizers elsewhere".to_owned()),
        })
    }
}
