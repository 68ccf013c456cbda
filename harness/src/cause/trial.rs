//! A layer run again with other decisions, and which elements then are what was expected.

use std::borrow::Cow;
use std::cell::{Cell, OnceCell, RefCell};
use std::sync::Arc;

use align_check_simulators::adapt::{ValueGrid, put_on};
use align_check_simulators::kernels::Isa;
use align_check_simulators::network::{Kind, Layer};
use align_check_simulators::plan::{Finish, LayerPlan};
use align_check_simulators::run::{Runner, Sums};
use align_check_simulators::tensor::Tensor;
use align_check_specs::{Accumulator, Activations, Bias, Grid, Spec, Weights};

use crate::check::Target;

/// Most differing elements of a sample that decisions are tried on.
pub const MOST_DIFFERING: usize = 8192;

/// Most elements of a sample that agree, and must go on to.
const MOST_CONTROLS: usize = 2048;

/// Elements of each kind that a quick look takes.
const QUICK: usize = 256;

/// Products and elements that the trials of one layer may compute where sums have to be made anew.
const MOST_WORK: u64 = 1 << 32;

/// A layer that differs on one sample.
pub struct Case<'a> {
    /// The layer.
    pub layer: &'a Layer,
    /// The target.
    pub target: &'a Target,
    /// The layer's plan on the target.
    pub plan: &'a LayerPlan,
    /// The target's grids of the layer's inputs.
    pub grids: Vec<ValueGrid>,
    /// The model's.
    pub model_grids: Vec<ValueGrid>,
    /// The reference's plan of the same layer.
    pub model: Option<&'a LayerPlan>,
    /// The layer as the model places it, where the target places it otherwise.
    pub unplaced: Option<Unplaced<'a>>,
    /// What the layer was fed with, on the model's grids.
    pub base_in: Vec<Arc<Tensor>>,
    /// The target's sums.
    pub sums: Arc<Sums>,
    /// The reference's sums.
    pub reference_sums: Arc<Sums>,
    /// What was expected.
    pub expected: Arc<Tensor>,
    /// Whether that is a recording of the target: then decisions must keep what agrees.
    pub recorded: bool,
    /// Elements that differ, outside the noise floor: those that are looked at.
    pub differing: Vec<usize>,
    /// How many there are.
    pub of: u64,
    /// Elements that agree: those that are looked at.
    pub controls: Vec<usize>,
    /// How many elements each of them stands for.
    pub weight: f64,
    /// Instructions to use.
    pub isa: Isa,
    /// Sums that trials made.
    pub made: Made,
}

/// Sums that trials made, by what they depend on.
#[derive(Default)]
pub struct Made {
    sums: RefCell<Vec<(Key, Arc<Sums>)>>,
    work: Cell<u64>,
    /// Elements that are looked at: all, and those of a quick look.
    looked: [OnceCell<Looked>; 2],
    /// Output channels that they lie in.
    channels: OnceCell<Vec<bool>>,
    rules: OnceCell<Spec>,
}

/// Elements that a trial looks at, and what is expected of them.
struct Looked {
    /// Those that differ, then those that agree.
    elements: Vec<usize>,
    /// How many differ.
    differing: usize,
    expected: Vec<f64>,
}

type Key = (Accumulator, Weights, Activations, Bias, [bool; 2]);

/// A layer of the model, and what the target computes there without its placement.
#[derive(Clone)]
pub struct Unplaced<'a> {
    /// The layer.
    pub layer: &'a Layer,
    /// The reference's plan of it.
    pub plan: &'a LayerPlan,
    /// The target's grids of its inputs.
    pub grids: Vec<ValueGrid>,
    /// The inputs, on these grids.
    pub inputs: Vec<Arc<Tensor>>,
    /// What the placement does, in words.
    pub text: String,
}

/// The target with other decisions.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// Its rules.
    pub spec: Spec,
    /// Whether the bias has the scale that the file states, where kernels add its integers as they are.
    pub stated_bias: bool,
    /// Whether its quantizers are where the model has them.
    pub unplaced: bool,
}

impl Variant {
    /// The target as it is.
    pub fn own(spec: &Spec) -> Self {
        Self {
            spec: spec.clone(),
            stated_bias: false,
            unplaced: false,
        }
    }
}

/// What a trial found.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Count {
    /// Differing elements that are as expected.
    pub explains: u64,
    /// Elements that agreed, and no longer do.
    pub breaks: u64,
    /// The same, each for as many as it stands for.
    pub weighed: f64,
}

/// At most so many of a list, evenly spaced: the same ones every time.
pub fn spread(list: &[usize], most: usize) -> Vec<usize> {
    if list.len() <= most {
        return list.to_vec();
    }
    (0..most).map(|i| list[i * list.len() / most]).collect()
}

impl Case<'_> {
    /// Chooses the elements to look at. `differing` are sorted.
    pub fn choose(&mut self, differing: &[usize], all_differing: &[usize]) {
        self.of = differing.len() as u64;
        self.differing = spread(differing, MOST_DIFFERING);
        if !self.recorded {
            return;
        }
        let len = self.expected.len();
        let agreeing = len - all_differing.len();
        let step = (agreeing / MOST_CONTROLS).max(1);
        let agree = (0..len).filter(|at| all_differing.binary_search(at).is_err());
        self.controls = agree.step_by(step).collect();
        self.weight = agreeing as f64 / self.controls.len().max(1) as f64;
    }

    /// Which elements a variant makes as expected; `quick` looks at a few of them. Nothing where the target could not
    /// be so, or where the work is bounded.
    pub fn count(&self, variant: &Variant, quick: bool) -> Count {
        let looked = self.looked(quick);
        let controls = looked.elements.len() - looked.differing;
        if self.is_idle(variant) {
            // What differs goes on to differ, what agrees to agree.
            return Count::default();
        }
        let Some(equal) = self.equal(variant, looked) else {
            return Count {
                explains: 0,
                breaks: controls as u64,
                weighed: f64::INFINITY,
            };
        };
        let (fixed, kept) = equal.split_at(looked.differing);
        let breaks = kept.iter().filter(|equal| !**equal).count() as u64;
        let weight = if controls == 0 {
            0.0
        } else {
            self.weight * self.controls.len() as f64 / controls as f64
        };
        Count {
            explains: fixed.iter().filter(|equal| **equal).count() as u64,
            breaks,
            weighed: breaks as f64 * weight,
        }
    }

    /// The target's rules, without what only reports need: they are copied for each trial.
    pub fn rules(&self) -> &Spec {
        self.made.rules.get_or_init(|| Spec {
            aliases: Vec::new(),
            encodings: Vec::new(),
            summary: String::new(),
            unknowns: Vec::new(),
            evidence: Vec::new(),
            known_bugs: Vec::new(),
            ..self.target.spec.clone()
        })
    }

    fn looked(&self, quick: bool) -> &Looked {
        self.made.looked[usize::from(quick)].get_or_init(|| {
            let most = if quick { QUICK } else { usize::MAX };
            let mut elements = spread(&self.differing, most);
            let differing = elements.len();
            elements.extend(spread(&self.controls, most));
            Looked {
                differing,
                expected: self.expected.reals_at(&elements),
                elements,
            }
        })
    }

    /// Which output channels the elements lie in.
    fn channels(&self) -> &[bool] {
        self.made.channels.get_or_init(|| {
            let channels = self.layer.channels();
            let mut wanted = vec![false; channels.count];
            for &at in self.differing.iter().chain(&self.controls) {
                wanted[channels.of_index(at)] = true;
            }
            wanted
        })
    }

    /// Whether a variant changes only how reals become codes, and this layer makes codes of integer sums: its plan is
    /// then the target's own.
    fn is_idle(&self, variant: &Variant) -> bool {
        if variant.unplaced || variant.stated_bias {
            return false;
        }
        let sums = matches!(self.plan.finish, Finish::Requantize { .. })
            && matches!(self.layer.kind, Kind::Linear(_))
            && matches!(*self.sums, Sums::I32(_))
            && self.model.is_some_and(|model| self.plan.shares_sums(model));
        let (own, other) = (self.rules(), &variant.spec);
        let model = |spec: &Spec| spec.quantize.division.is_model();
        if !sums || own.quantize == other.quantize || model(own) || model(other) {
            return false;
        }
        let same = Spec {
            quantize: own.quantize.clone(),
            ..other.clone()
        };
        same == *own
    }

    /// Differing elements that a quick look takes.
    pub fn quick_len(&self) -> usize {
        self.differing.len().min(QUICK)
    }

    /// Whether the work on this case is at its bound.
    pub fn is_spent(&self) -> bool {
        self.made.work.get() > MOST_WORK
    }

    fn equal(&self, variant: &Variant, looked: &Looked) -> Option<Vec<bool>> {
        if variant.unplaced {
            let unplaced = self.unplaced.as_ref()?;
            let inputs: Vec<Cow<Tensor>> = unplaced
                .inputs
                .iter()
                .map(|t| Cow::Borrowed(&**t))
                .collect();
            let place = (unplaced.layer, &unplaced.grids[..], Some(unplaced.plan));
            return self.run(variant, place, &inputs, looked);
        }
        let grids = if variant.spec.activations.quantizer == Grid::Model {
            &self.model_grids
        } else {
            &self.grids
        };
        let inputs: Vec<Cow<Tensor>> = grids
            .iter()
            .zip(&self.base_in)
            .map(|(grid, tensor)| put_on(grid, tensor).map_or(Cow::Borrowed(&**tensor), Cow::Owned))
            .collect();
        self.run(
            variant,
            (self.layer, &grids[..], self.model),
            &inputs,
            looked,
        )
    }

    fn run(
        &self,
        variant: &Variant,
        (layer, grids, model): (&Layer, &[ValueGrid], Option<&LayerPlan>),
        inputs: &[Cow<Tensor>],
        looked: &Looked,
    ) -> Option<Vec<bool>> {
        let all;
        let wanted = if variant.unplaced {
            all = vec![true; layer.channels().count];
            &all
        } else {
            self.channels()
        };
        let how = (variant.stated_bias, wanted);
        let plan =
            LayerPlan::of_channels(layer, &variant.spec, grids, model, self.isa, how).ok()?;
        let sums_of_products = matches!(layer.kind, Kind::Linear(_) | Kind::MatMul(_));
        if plan.float && !self.plan.float && sums_of_products {
            // Rules that do not go together: the layer would be computed in float, which no decision asks for.
            return None;
        }
        let runner = Runner {
            layer,
            plan: &plan,
            isa: self.isa,
        };
        let refs: Vec<&Tensor> = inputs.iter().map(|t| &**t).collect();
        let sums = self.sums(variant, &runner, grids, &refs)?;
        let equal = |made: Vec<f64>| {
            let pairs = made.iter().zip(&looked.expected);
            Some(pairs.map(|(made, expected)| made == expected).collect())
        };
        let few = matches!(plan.finish, Finish::Requantize { .. }) && matches!(*sums, Sums::I32(_));
        if !few {
            self.spend(self.expected.len() as u64);
            if self.is_spent() {
                return None;
            }
        }
        equal(
            runner
                .reals_of(&refs, &sums, &looked.elements)
                .unwrap_or_else(|| runner.finish(&refs, &sums).reals_at(&looked.elements)),
        )
    }

    /// The sums are the same integers unless grids, weights or the accumulator changed.
    fn sums(
        &self,
        variant: &Variant,
        runner: &Runner,
        grids: &[ValueGrid],
        inputs: &[&Tensor],
    ) -> Option<Arc<Sums>> {
        if !variant.unplaced {
            let unmoved = std::iter::zip(inputs, &self.base_in)
                .all(|(input, base)| std::ptr::eq(*input, &raw const **base));
            if *grids == *self.grids && runner.plan.shares_sums(self.plan) {
                return Some(self.sums.clone());
            }
            if unmoved
                && self
                    .model
                    .is_some_and(|model| runner.plan.shares_sums(model))
                && *self.reference_sums != Sums::None
                && self.unplaced.is_none()
            {
                return Some(self.reference_sums.clone());
            }
        }
        let spec = &variant.spec;
        let key = (
            spec.accumulator.clone(),
            spec.weights.clone(),
            spec.activations.clone(),
            spec.bias.clone(),
            [variant.unplaced, variant.stated_bias],
        );
        let known = self.made.sums.borrow();
        if let Some((_, sums)) = known.iter().find(|(other, _)| *other == key) {
            return Some(sums.clone());
        }
        drop(known);
        self.spend((runner.layer.terms() * self.expected.len()) as u64);
        if self.is_spent() {
            return None;
        }
        let sums = Arc::new(runner.sums(inputs));
        self.made.sums.borrow_mut().push((key, sums.clone()));
        Some(sums)
    }

    fn spend(&self, work: u64) {
        self.made
            .work
            .set(self.made.work.get().saturating_add(work));
    }
}
