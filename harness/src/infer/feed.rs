//! What the search works on: each layer with its recorded inputs and what was recorded behind it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use align_check_graph::{Graph, ValueId};
use align_check_simulators::adapt::{ValueGrid, put_on};
use align_check_simulators::kernels::Isa;
use align_check_simulators::network::{Layer, Network};
use align_check_simulators::plan::{Binding, LayerPlan, Sum};
use align_check_simulators::run::{Runner, Sums};
use align_check_simulators::tensor::Tensor;
use align_check_specs::{Accumulator, Order, Overflow, Spec};
use anyhow::{Result, anyhow};

use super::label::{MOVED, label};
use crate::check::Target;
use crate::inputs::{ArrayKind, Recording, Sample};
use crate::sample::model_grid;
use crate::sample::recorded::{find_recorded, place};

/// The model, its inputs, what was recorded, and the shipped targets.
pub(super) struct World<'a> {
    pub graph: &'a Graph,
    pub network: &'a Network,
    pub exact: &'a Target,
    pub samples: &'a [Sample],
    pub recorded: &'a Recording,
    pub isa: Isa,
    /// Shipped targets.
    pub specs: Vec<Spec>,
    tensors: Mutex<HashMap<(ValueId, usize), Held>>,
    sums: Mutex<HashMap<(usize, usize), Shared>>,
}

/// What a tensor was made, in the order of asking.
type Held = Vec<Arc<Tensor>>;

/// Sums of one layer's packed weights, and the inputs that they are of.
type Shared = Vec<(Vec<Arc<Tensor>>, Arc<Sums>)>;

/// A way to cut and label the network: `[activations]`, `[weights]` and `[placement]` of shipped targets that do the
/// same with this model.
pub(super) struct Frame {
    /// A target with these sections and an exact accumulator.
    pub base: Target,
    /// The shipped targets, as positions in [`World::specs`].
    pub shipped: Vec<usize>,
}

/// One sample of a layer.
pub(super) struct Fed {
    /// Number of the sample.
    pub sample: usize,
    pub inputs: Vec<Arc<Tensor>>,
    pub expected: Arc<Tensor>,
    /// Exact sums of products.
    pub sums: Arc<Sums>,
}

/// A layer with everything that was recorded around it.
pub(super) struct Site<'a> {
    pub layer: &'a Layer,
    pub plan: &'a LayerPlan,
    pub grids: Vec<ValueGrid>,
    /// The kind of operation, by the name of its section or field in a spec.
    pub label: &'static str,
    /// Whether its codes are unsigned on the target.
    pub unsigned: bool,
    pub binding: Option<Binding>,
    pub fed: Vec<Fed>,
    /// Inputs that are not the recorded tensors, and why.
    pub made: Vec<String>,
}

impl Site<'_> {
    pub fn elements(&self) -> u64 {
        self.fed.iter().map(|fed| fed.expected.len() as u64).sum()
    }
}

/// How a layer's tensor is made where the recording lacks it, or holds it damaged.
pub(super) type Chosen<'c> = &'c (dyn Fn(&Site) -> Option<Spec> + Sync);

/// Largest share of elements of a tensor that are taken for damage.
const DAMAGE: f64 = 0.05;

/// Layers of a frame, and tensors that nobody could feed.
#[allow(clippy::struct_field_names, reason = "layers of a frame are its sites")]
pub(super) struct Sites<'a> {
    pub sites: Vec<Site<'a>>,
    /// Recorded tensors of layers whose inputs are not known, with the input.
    pub starved: Vec<(String, String)>,
    /// Recorded tensors with numbers that are no codes of their grid.
    pub off_grid: Vec<String>,
    /// Layers of which nothing was recorded.
    pub missing: Vec<String>,
}

impl<'a> World<'a> {
    pub fn new(
        (graph, network): (&'a Graph, &'a Network),
        exact: &'a Target,
        samples: &'a [Sample],
        recorded: &'a Recording,
        isa: Isa,
    ) -> Result<Self> {
        let specs = align_check_specs::names()
            .iter()
            .map(|name| Spec::resolve(name).map_err(|e| anyhow!("{e}")))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            graph,
            network,
            exact,
            samples,
            recorded,
            isa,
            specs,
            tensors: Mutex::default(),
            sums: Mutex::default(),
        })
    }

    /// The frames of the shipped targets, and the targets that cannot run this model.
    pub fn frames(&self) -> (Vec<Frame>, Vec<String>) {
        let mut frames: Vec<(String, Frame)> = Vec::new();
        let mut refused = Vec::new();
        for (index, spec) in self.specs.iter().enumerate() {
            if spec.precision.is_some() {
                continue;
            }
            let base = Target::placed(
                (self.graph, self.network),
                neutral(spec),
                None,
                self.exact,
                self.isa,
            );
            let base = match base {
                Ok(base) => base,
                Err(e) => {
                    refused.push(format!("{}: {e}", spec.name));
                    continue;
                }
            };
            let key = self.key(&base);
            match frames.iter_mut().find(|(own, _)| *own == key) {
                Some((_, frame)) => frame.shipped.push(index),
                None => frames.push((
                    key,
                    Frame {
                        base,
                        shipped: vec![index],
                    },
                )),
            }
        }
        (
            frames.into_iter().map(|(_, frame)| frame).collect(),
            refused,
        )
    }

    /// What tells frames of this model apart.
    fn key(&self, base: &Target) -> String {
        let network = base.network(self.network);
        let layers = network.layers.iter().zip(&base.plans);
        let placed: Vec<_> = layers
            .map(|(layer, plan)| {
                let rules: Vec<_> = plan
                    .rules
                    .iter()
                    .filter(|rule| rule.starts_with("placement"))
                    .collect();
                let biases = plan.linear.as_ref().map(|l| l.bias_codes.is_some());
                (rules, plan.float && layer.quantizer.is_some(), biases)
            })
            .collect();
        let special = [
            base.spec.quantize.division.is_model(),
            base.spec.thresholds.is_some(),
        ];
        let own = base.own.as_ref().map(|_| &base.spec.placement);
        let weights = base.spec.weights.division;
        format!(
            "{special:?} {own:?} {weights:?} {:?} {placed:?}",
            base.grids
        )
    }

    /// The layers of a frame that were recorded. `chosen` gives the rules by which missing inputs are made and
    /// damaged ones mended.
    pub fn sites<'f>(
        &self,
        frame: &'f Frame,
        select: &dyn Fn(&Layer) -> bool,
        chosen: Option<Chosen>,
    ) -> Result<Sites<'f>>
    where
        'a: 'f,
    {
        let base = &frame.base;
        let network: &'f Network = base.network(self.network);
        let model_value = |value: ValueId| match &base.own {
            None => Some(value),
            Some(own) => own.placed.stands_for[value],
        };
        let mut found = Sites {
            sites: Vec::new(),
            starved: Vec::new(),
            off_grid: Vec::new(),
            missing: Vec::new(),
        };
        let last = network.last_uses();
        let mut values: Vec<Vec<Option<Arc<Tensor>>>> =
            vec![vec![None; network.graph.values.len()]; self.samples.len()];
        for (number, values) in values.iter_mut().enumerate() {
            self.inputs(base, network, number, values)?;
        }
        let mut notes: HashMap<ValueId, String> = HashMap::new();
        for (index, layer) in network.layers.iter().enumerate() {
            let plan = &base.plans[index];
            let value = model_value(layer.output);
            let grids: Vec<ValueGrid> = layer
                .inputs
                .iter()
                .map(|&i| base.grids[i].clone())
                .collect();
            let label = label(layer, plan, &base.spec, &grids, self.isa);
            let mut site = Site {
                layer,
                plan,
                binding: plan.binding(layer, &base.spec, &grids),
                label,
                unsigned: matches!(&plan.out, ValueGrid::Codes { grid, relabel, .. } if grid.min + relabel >= 0),
                fed: Vec::new(),
                made: layer
                    .inputs
                    .iter()
                    .filter_map(|input| notes.get(input).cloned())
                    .collect(),
                grids,
            };
            let mut lacking = None;
            let mut off_grid = false;
            let mut outputs: Vec<Option<Arc<Tensor>>> = Vec::new();
            for (number, values) in values.iter().enumerate() {
                let recorded = match value {
                    Some(value) if !layer.joins => self.recorded(value, number, &plan.out)?,
                    _ => None,
                };
                let inputs: Option<Vec<Arc<Tensor>>> =
                    layer.inputs.iter().map(|&i| values[i].clone()).collect();
                let inputs = match inputs {
                    Some(inputs) if usable(&inputs, &site.grids) => Some(inputs),
                    _ => {
                        let lost = layer.inputs.iter().find(|&&i| values[i].is_none());
                        lacking = lost.or(layer.inputs.first()).copied();
                        None
                    }
                };
                let coded = model_grid(&plan.out).is_some();
                let recorded = recorded.filter(|tensor| {
                    let fits = tensor.grid().is_some() || !coded;
                    off_grid |= !fits;
                    fits
                });
                if let (Some(inputs), Some(expected)) = (inputs.clone(), recorded.clone()) {
                    let sums = self.sums(&site, index, &inputs);
                    site.fed.push(Fed {
                        sample: number,
                        inputs,
                        expected,
                        sums,
                    });
                }
                outputs.push(recorded.or_else(|| {
                    // Nothing is decided where codes are moved, or inside a kernel of the target.
                    let inputs = inputs?;
                    let inner = value.is_none() || layer.joins;
                    (label == MOVED || inner).then(|| run(&site, plan, &inputs, self.isa))
                }));
            }
            if outputs.iter().any(Option::is_none)
                && let Some(spec) = chosen.and_then(|chosen| chosen(&site))
                && let Ok(plan) = plan.finished(layer, &spec, &site.grids, self.isa)
            {
                for (output, values) in outputs.iter_mut().zip(&values) {
                    let inputs: Option<Vec<_>> =
                        layer.inputs.iter().map(|&i| values[i].clone()).collect();
                    if output.is_none()
                        && let Some(inputs) = inputs.filter(|i| usable(i, &site.grids))
                    {
                        *output = Some(run(&site, &plan, &inputs, self.isa));
                        let note = format!(
                            "'{}' was not recorded: made by the inferred rule",
                            layer.tensor
                        );
                        notes.insert(layer.output, note);
                    }
                }
            }
            if let Some(chosen) = chosen {
                self.mend(&site, chosen, &mut outputs, &mut notes);
            }
            let compared = layer.is_compared() && !layer.joins && value.is_some();
            if off_grid {
                found.off_grid.push(layer.tensor.clone());
            } else if let (true, Some(input)) = (compared && site.fed.is_empty(), lacking) {
                found
                    .starved
                    .push((layer.tensor.clone(), network.name(input).to_string()));
            } else if compared && site.fed.is_empty() && label != MOVED {
                found.missing.push(layer.tensor.clone());
            }
            for (values, output) in values.iter_mut().zip(outputs) {
                values[layer.output] = output;
                for &dead in &last[index] {
                    values[dead] = None;
                }
            }
            if !site.fed.is_empty() && select(layer) {
                found.sites.push(site);
            }
        }
        Ok(found)
    }

    /// Takes a tensor's own rule's word for the few elements where a recording disagrees with it.
    fn mend(
        &self,
        site: &Site,
        chosen: Chosen,
        outputs: &mut [Option<Arc<Tensor>>],
        notes: &mut HashMap<ValueId, String>,
    ) {
        let Some(spec) = chosen(site) else { return };
        let Ok(plan) = site.plan.finished(site.layer, &spec, &site.grids, self.isa) else {
            return;
        };
        for fed in &site.fed {
            let made = run(site, &plan, &fed.inputs, self.isa);
            if made.grid() != fed.expected.grid() {
                continue;
            }
            let wrong = (0..made.len())
                .filter(|&at| made.real_at(at) != fed.expected.real_at(at))
                .count();
            if wrong > 0 && (wrong as f64) < DAMAGE * made.len() as f64 {
                outputs[fed.sample] = Some(made);
                let note = format!(
                    "'{}': elements that its own rule does not reproduce were replaced by what it gives",
                    site.layer.tensor
                );
                notes.insert(site.layer.output, note);
            }
        }
    }

    /// The model's inputs as a target stores them.
    fn inputs(
        &self,
        base: &Target,
        network: &Network,
        number: usize,
        values: &mut [Option<Arc<Tensor>>],
    ) -> Result<()> {
        let sample = &self.samples[number];
        for (&input, &own) in self.network.graph.inputs.iter().zip(&network.graph.inputs) {
            let name = self.network.name(input);
            let array = sample
                .inputs
                .get(name)
                .ok_or_else(|| anyhow!("sample '{}' lacks input '{name}'", sample.name))?;
            let grid = &self.exact.grids[input];
            let value = self.network.graph.value(input);
            let tensor = place(value, &array.values, array.kind, grid)
                .map_err(|what| anyhow!("sample '{}', input '{name}': {what}", sample.name))?;
            if let (true, Some(grid)) = (array.kind != ArrayKind::Float, model_grid(grid))
                && let Some((_, what)) = crate::compare::beyond(&tensor, grid, 0..tensor.len())
            {
                return Err(anyhow!("sample '{}', input '{name}': {what}", sample.name));
            }
            let tensor = put_on(grid, &tensor).unwrap_or(tensor);
            let tensor = put_on(&base.grids[own], &tensor).unwrap_or(tensor);
            values[own] = Some(self.shared(input, number, tensor));
        }
        Ok(())
    }

    fn recorded(
        &self,
        value: ValueId,
        number: usize,
        grid: &ValueGrid,
    ) -> Result<Option<Arc<Tensor>>> {
        let own = self.network.graph.value(value);
        let name = &self.samples[number].name;
        let found = find_recorded(self.recorded, own, number, name, grid, true)?;
        Ok(found.map(|tensor| self.shared(value, number, tensor)))
    }

    /// One copy of equal tensors.
    fn shared(&self, value: ValueId, number: usize, tensor: Tensor) -> Arc<Tensor> {
        let Ok(mut tensors) = self.tensors.lock() else {
            return Arc::new(tensor);
        };
        let known = tensors.entry((value, number)).or_default();
        if let Some(same) = known.iter().find(|known| ***known == tensor) {
            return same.clone();
        }
        let tensor = Arc::new(tensor);
        known.push(tensor.clone());
        tensor
    }

    /// Exact sums, made once for all frames that share weights and inputs.
    fn sums(&self, site: &Site, index: usize, inputs: &[Arc<Tensor>]) -> Arc<Sums> {
        let runner = Runner {
            layer: site.layer,
            plan: site.plan,
            isa: self.isa,
        };
        let packed = match site.plan.linear.as_ref().map(|linear| &linear.sum) {
            Some(Sum::Fast { weights, .. }) => Some(Arc::as_ptr(weights).addr()),
            _ => None,
        };
        let (Some(packed), Ok(mut known)) = (packed, self.sums.lock()) else {
            return Arc::new(runner.sums(&borrowed(inputs)));
        };
        let known = known.entry((packed, index)).or_default();
        let same = |own: &[Arc<Tensor>]| own.iter().zip(inputs).all(|(a, b)| Arc::ptr_eq(a, b));
        if let Some((_, sums)) = known.iter().find(|(own, _)| same(own)) {
            return sums.clone();
        }
        let sums = Arc::new(runner.sums(&borrowed(inputs)));
        known.push((inputs.to_vec(), sums.clone()));
        sums
    }
}

/// A layer's output under a plan.
pub(super) fn run(site: &Site, plan: &LayerPlan, inputs: &[Arc<Tensor>], isa: Isa) -> Arc<Tensor> {
    let runner = Runner {
        layer: site.layer,
        plan,
        isa,
    };
    let inputs = borrowed(inputs);
    Arc::new(runner.finish(&inputs, &runner.sums(&inputs)))
}

pub(super) fn borrowed(tensors: &[Arc<Tensor>]) -> Vec<&Tensor> {
    tensors.iter().map(|t| &**t).collect()
}

/// Layers are planned for codes: nobody computes with reals in their place.
fn usable(inputs: &[Arc<Tensor>], grids: &[ValueGrid]) -> bool {
    inputs
        .iter()
        .zip(grids)
        .all(|(tensor, grid)| model_grid(grid).is_none() || tensor.grid().is_some())
}

/// A target with an accumulator that nothing leaves: its sums are exact.
fn neutral(spec: &Spec) -> Spec {
    let mut spec = spec.clone();
    spec.accumulator = Accumulator {
        bits: None,
        overflow: Overflow::Exact,
        order: Order::ChannelFirst,
        pairs: None,
    };
    spec
}
