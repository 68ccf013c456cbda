//! A target's own layers, where its placement gives it others than the model's, and when they run.
//!
//! The model's layers run in their order. A layer of the target runs behind the last of them that it needs: what it
//! reads of the reference, what it is compared with, and the same operation's sums, which both share.

use align_check_graph::{Graph, ValueId};
use align_check_simulators::Error;
use align_check_simulators::adapt::ValueGrid;
use align_check_simulators::network::{Kind, Network};
use align_check_simulators::place::{self, Decision, Placed};
use align_check_simulators::plan::LayerPlan;
use align_check_specs::Spec;
use std::collections::HashMap;

/// What a target's placement makes of a network.
#[derive(Debug)]
pub struct Placement {
    /// The target's own layers; `None` where they are the model's.
    pub own: Option<Own>,
    /// What becomes of the model's quantizers.
    pub decisions: Vec<Decision>,
}

/// A target's own layers.
#[derive(Debug)]
pub struct Own {
    /// The layers.
    pub network: Network,
    /// How its values and the model's belong together; [`Placed::network`] is taken out.
    pub placed: Placed,
    /// For each layer of the model, the target's that run behind it.
    pub after: Vec<Vec<usize>>,
    /// For each of the target's layers, the model's whose outputs its output stands for.
    pub compared: Vec<Vec<usize>>,
    /// For each of the target's layers, the model's with the same operation.
    pub twins: Vec<Option<usize>>,
    /// For each layer of the model, the target's that its output is found in.
    pub found: Vec<Option<usize>>,
    /// For each of the target's layers, its values that nobody reads after it.
    pub last_uses: Vec<Vec<ValueId>>,
    /// For each of the model's values, the layer of the model behind which the target still needs it.
    pub needed: Vec<Option<usize>>,
}

impl Placement {
    /// Places a network under a spec. `graph` is what `model` was cut from, constants included.
    ///
    /// # Errors
    /// As [`Network::new`].
    pub fn new(graph: &Graph, model: &Network, spec: &Spec) -> Result<Self, Error> {
        let mut placed = place::place(graph, model, spec)?;
        let decisions = std::mem::take(&mut placed.decisions);
        let own = placed.network.take();
        Ok(Self {
            own: own.map(|network| Own::new(network, placed, model)),
            decisions,
        })
    }
}

impl Own {
    fn new(mut network: Network, placed: Placed, model: &Network) -> Self {
        let names: HashMap<&str, usize> = model
            .layers
            .iter()
            .enumerate()
            .map(|(index, layer)| (layer.name.as_str(), index))
            .collect();
        let mut made: Vec<Option<usize>> = vec![None; model.graph.values.len()];
        let mut compared: Vec<Vec<usize>> = vec![Vec::new(); network.layers.len()];
        let mut found = vec![None; model.layers.len()];
        let mut producer = vec![None; network.graph.values.len()];
        for (index, layer) in network.layers.iter().enumerate() {
            producer[layer.output] = Some(index);
        }
        for (index, layer) in model.layers.iter().enumerate() {
            made[layer.output] = Some(index);
            let own = placed.found_as[layer.output].and_then(|value| producer[value]);
            if let Some(own) = own {
                compared[own].push(index);
                found[index] = Some(own);
            }
        }
        let twin = |layer: &align_check_simulators::Layer| {
            let index = *names.get(layer.name.as_str())?;
            let other = &model.layers[index];
            let same = std::mem::discriminant(&layer.kind) == std::mem::discriminant(&other.kind);
            same.then_some(index)
        };
        let twins: Vec<Option<usize>> = network.layers.iter().map(twin).collect();
        for (layer, twin) in network.layers.iter_mut().zip(&twins) {
            // One copy of the weights serves both.
            if let (Kind::Linear(own), Some(other)) =
                (&mut layer.kind, twin.map(|index| &model.layers[index].kind))
                && let Kind::Linear(other) = other
                && own.weights == other.weights
            {
                own.weights = other.weights.clone();
            }
        }
        let mut slots: Vec<usize> = Vec::with_capacity(network.layers.len());
        let mut after = vec![Vec::new(); model.layers.len()];
        let mut needed: Vec<Option<usize>> = vec![None; model.graph.values.len()];
        for (index, layer) in network.layers.iter().enumerate() {
            let inputs = layer.inputs.iter();
            let before = inputs
                .clone()
                .filter_map(|&i| producer[i])
                .map(|own| slots[own]);
            let base = inputs.clone().filter_map(|&i| placed.stands_for[i]);
            let slot = before
                .chain(base.clone().filter_map(|value| made[value]))
                .chain(compared[index].iter().copied())
                .chain(twins[index])
                .max()
                .unwrap_or(0);
            let mut need = |value: ValueId| {
                needed[value] = needed[value].max(Some(slot));
            };
            base.for_each(&mut need);
            for &other in &compared[index] {
                need(model.layers[other].output);
                model.layers[other]
                    .inputs
                    .iter()
                    .copied()
                    .for_each(&mut need);
            }
            slots.push(slot);
            if let Some(list) = after.get_mut(slot) {
                list.push(index);
            }
        }
        let last_uses = network.last_uses();
        Self {
            network,
            placed,
            after,
            compared,
            twins,
            found,
            last_uses,
            needed,
        }
    }

    /// The reference's plan of a layer's twin, where the target reads the same codes there.
    pub fn model_plan<'a>(
        &self,
        model: &Network,
        (grids, plans): (&[ValueGrid], &'a [LayerPlan]),
        index: usize,
        inputs: &[ValueGrid],
    ) -> Option<&'a LayerPlan> {
        let twin = self.twins[index]?;
        let (layer, other) = (&self.network.layers[index], &model.layers[twin]);
        let weights = match (&layer.kind, &other.kind) {
            (Kind::Linear(a), Kind::Linear(b)) => std::sync::Arc::ptr_eq(&a.weights, &b.weights),
            _ => true,
        };
        let same = |(own, &theirs): (&ValueGrid, &ValueId)| match (own, &grids[theirs]) {
            (ValueGrid::Codes { grid: a, .. }, ValueGrid::Codes { grid: b, .. }) => a == b,
            // Not the model's codes: the plan looks at its weights alone.
            (a, _) => !matches!(a, ValueGrid::Codes { model: true, .. }),
        };
        let fits = inputs.len() == other.inputs.len() && inputs.iter().zip(&other.inputs).all(same);
        (weights && fits).then(|| &plans[twin])
    }

    /// The rule by which the target lacks a tensor of the model, and why.
    pub fn why_absent(&self, value: ValueId) -> (String, String) {
        match self.placed.absent.get(&value) {
            Some(absent) => (absent.rule.to_owned(), absent.why.clone()),
            None => (
                "placement".to_owned(),
                "it is inside a kernel of the target".to_owned(),
            ),
        }
    }
}
