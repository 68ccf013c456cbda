//! `plan`: where a target really has its quantizers, next to where the model has them.

mod args;
mod dot;
mod json;
mod text;

use std::collections::HashMap;

use align_check_graph::{Graph, Quantizer, Rounding};
use align_check_simulators::adapt::ValueGrid;
use align_check_simulators::network::{Kind, Layer, Network, Post};
use align_check_simulators::place::{Decision, Status};
use align_check_simulators::plan::{LayerPlan, is_of_bias};
use align_check_simulators::quantize;
use align_check_specs::{AverageRule, Grade, LeakyReluRule, LeftWhen, UnweightedRule};

use crate::check::Target;
use crate::lint::{Cost, Finding};

pub use args::{EXAMPLES, PlanArgs, run};
pub use dot::dot;
pub use json::json;
pub use text::text;

/// Version of the machine-readable report.
pub const SCHEMA: &str = "align-check/plan/1";

/// The plan of a model on one target.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The target's name.
    pub target: String,
    /// Its one-line description.
    pub summary: String,
    /// What nobody knows about it.
    pub unknowns: Vec<String>,
    /// The quantizers of activations: the model's in graph order, then those that only the target has.
    pub quantizers: Vec<Entry>,
    /// Operators, weights and roundings that the target replaces by others.
    pub rewritten: Vec<Entry>,
    /// What the target computes at once, in order.
    pub kernels: Vec<Kernel>,
    /// What is known to cost accuracy on the target, and what it costs on the inputs, where some were given.
    pub lints: Vec<(Finding, Option<Cost>)>,
}

/// What becomes of a quantizer or of an operator.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The tensor that it makes: the model's, or the target's where the model has none.
    pub tensor: String,
    /// The node; empty where the model has none.
    pub node: String,
    /// What becomes of it.
    pub status: Status,
    /// The target's tensors that it makes there.
    pub at: Vec<String>,
    /// As the model has it.
    pub model: Option<Grid>,
    /// As the target has it.
    pub target: Option<Grid>,
    /// The rule that says so, as a path into the spec; empty where nothing changes.
    pub rule: String,
    /// How the rule is known.
    pub grade: Option<Grade>,
    /// One line; empty where nothing is to say.
    pub why: String,
}

/// What codes mean.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid {
    /// One scale, or one a channel.
    pub scale: Vec<f64>,
    /// One zero point, or one a channel.
    pub zero_point: Vec<i64>,
    /// Smallest code.
    pub min: i64,
    /// Largest code.
    pub max: i64,
}

/// Nodes that the target computes at once.
#[derive(Debug, Clone, PartialEq)]
pub struct Kernel {
    /// The node that does the arithmetic, and one that is a part of it.
    pub nodes: Vec<String>,
    /// Their operators.
    pub ops: Vec<String>,
    /// Whether it is computed on codes; a float one reads or writes reals.
    pub integer: bool,
    /// The target's tensors that it reads.
    pub inputs: Vec<String>,
    /// The tensor that it makes.
    pub output: String,
    /// The rules that it rests on.
    pub rules: Vec<String>,
    /// The target whose kernels compute it, where a delegate leaves it to them (`[placement.left]`).
    pub left_to: Option<String>,
}

impl Plan {
    /// The plan of a target that was prepared for a model.
    pub fn new(model: &Network, target: &Target, lints: Vec<(Finding, Option<Cost>)>) -> Self {
        let maker = Maker::new(model, target);
        Self {
            target: target.spec.name.clone(),
            summary: target.spec.summary.clone(),
            unknowns: target.spec.unknowns.clone(),
            quantizers: maker.quantizers(),
            rewritten: maker.rewritten(),
            kernels: maker.kernels(),
            lints,
        }
    }

    /// How many quantizers have a status.
    pub fn count(&self, status: Status) -> usize {
        self.quantizers
            .iter()
            .filter(|q| q.status == status)
            .count()
    }
}

impl Grid {
    fn of(quantizer: &Quantizer) -> Option<Self> {
        let grid = quantize::grid(quantizer)?;
        Some(Self {
            scale: grid.scale.values,
            zero_point: grid.zero_point.values,
            min: grid.min,
            max: grid.max,
        })
    }

    fn of_value(grid: &ValueGrid) -> Option<Self> {
        match grid {
            ValueGrid::Codes { grid, relabel, .. } => Some(Self {
                scale: grid.scale.values.clone(),
                zero_point: grid.zero_point.values.iter().map(|z| z + relabel).collect(),
                min: grid.min + relabel,
                max: grid.max + relabel,
            }),
            _ => None,
        }
    }
}

struct Maker<'a> {
    model: &'a Network,
    target: &'a Target,
    network: &'a Network,
    /// The target's layer that makes a tensor.
    makers: HashMap<&'a str, usize>,
}

impl<'a> Maker<'a> {
    fn new(model: &'a Network, target: &'a Target) -> Self {
        let network = target.network(model);
        let layers = network.layers.iter().enumerate();
        Self {
            model,
            target,
            network,
            makers: layers.map(|(i, l)| (l.tensor.as_str(), i)).collect(),
        }
    }

    fn entry(&self, tensor: &str, node: &str, status: Status, rule: &str, why: &str) -> Entry {
        let grade = (!rule.is_empty()).then(|| self.target.spec.weakest(&[rule]));
        Entry {
            tensor: tensor.to_owned(),
            node: node.to_owned(),
            status,
            at: Vec::new(),
            model: None,
            target: None,
            rule: rule.to_owned(),
            grade,
            why: why.to_owned(),
        }
    }

    /// The layer that makes a tensor of the target, and its plan.
    fn made(&self, tensor: &str) -> Option<(&'a Layer, &'a LayerPlan)> {
        let &index = self.makers.get(tensor)?;
        Some((&self.network.layers[index], &self.target.plans[index]))
    }

    fn quantizers(&self) -> Vec<Entry> {
        let decided: HashMap<&str, &Decision> = self
            .target
            .decisions
            .iter()
            .map(|d| (d.tensor.as_str(), d))
            .collect();
        let mut entries: Vec<Entry> = self
            .model
            .layers
            .iter()
            .filter_map(|layer| {
                let quantizer = layer.quantizer.as_ref()?;
                let mut entry = match decided.get(layer.tensor.as_str()) {
                    Some(decision) => self.decided(decision),
                    None => self.kept(layer),
                };
                entry.node.clone_from(&layer.quantizer_node);
                entry.model = Grid::of(quantizer);
                Some(entry)
            })
            .collect();
        let extra = self.target.decisions.iter();
        entries.extend(
            extra
                .filter(|d| d.status == Status::Extra)
                .map(|d| self.decided(d)),
        );
        entries
    }

    /// A quantizer that the placement decides on.
    fn decided(&self, decision: &Decision) -> Entry {
        let mut entry = self.entry(
            &decision.tensor,
            &decision.node,
            decision.status,
            decision.rule,
            &decision.why,
        );
        entry.at.clone_from(&decision.at);
        let made = decision.at.first().and_then(|tensor| self.made(tensor));
        entry.target = match made {
            Some((_, plan)) => Grid::of_value(&plan.out),
            None => decision.quantizer.as_ref().and_then(Grid::of),
        };
        entry
    }

    /// A quantizer that stays where it is.
    fn kept(&self, layer: &Layer) -> Entry {
        let tensor = layer.tensor.as_str();
        let mut entry = self.entry(tensor, "", Status::Same, "", "");
        let Some((own, plan)) = self.made(tensor) else {
            return entry;
        };
        entry.at = vec![tensor.to_owned()];
        entry.target = Grid::of_value(&plan.out);
        if plan.float {
            let rule = plan.rules.last().copied().unwrap_or("quantize");
            let (rule, why) = self.why_float(own, rule);
            let grades = self.entry(tensor, "", Status::Float, rule, &why);
            entry = Entry {
                at: entry.at,
                target: entry.target,
                ..grades
            };
        } else if let Some(why) = plan.mismatches.iter().find(|why| !is_of_bias(why)) {
            let grades = self.entry(tensor, "", Status::Rewritten, "activations", why);
            entry = Entry {
                at: entry.at,
                target: entry.target,
                ..grades
            };
        }
        entry
    }

    /// Why the operation in front of a quantizer is computed in float.
    fn why_float(&self, layer: &Layer, rule: &'static str) -> (&'static str, String) {
        let reals = layer
            .inputs
            .iter()
            .find(|&&input| self.target.grids[input] == ValueGrid::Real);
        match rule {
            "placement.clamps" => (
                rule,
                format!(
                    "the range of the quantizer does not imply the clamp of '{}': {} in float",
                    layer.name, layer.op
                ),
            ),
            "placement.unquantized" => (rule, unquantized(self.network, self.target, layer)),
            "placement.bias" => (
                rule,
                format!(
                    "the bias of '{}' is not int32 at input scale times weight scale: {} in float",
                    layer.name, layer.op
                ),
            ),
            "placement.signed-codes" => (
                rule,
                format!("signed codes with several readers: {} in float", layer.op),
            ),
            _ => match reals {
                Some(&input) => (
                    rule,
                    format!(
                        "'{}' reads '{}', which is not quantized: {} in float",
                        layer.name,
                        self.network.name(input),
                        layer.op
                    ),
                ),
                None => (
                    rule,
                    format!("the target has no integer rule for {}", layer.op),
                ),
            },
        }
    }

    /// What the target replaces besides quantizers of activations.
    fn rewritten(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        let ops = &self.target.spec.ops;
        for (layer, plan) in self.network.layers.iter().zip(&self.target.plans) {
            let mut push = |rule: &str, why: String| {
                let status = match rule {
                    "placement.unquantized" | "placement.unweighted" => Status::Float,
                    _ => Status::Rewritten,
                };
                entries.push(self.entry(&layer.tensor, &layer.name, status, rule, &why));
            };
            let (of_bias, of_grids): (Vec<&String>, Vec<&String>) =
                plan.mismatches.iter().partition(|why| is_of_bias(why));
            if plan.linear.as_ref().is_some_and(|l| !l.model_weights) {
                let grid = usize::from(layer.quantizer.is_some() && of_grids.len() > 1);
                let why = of_grids.get(grid).or(of_grids.first());
                let why = why.map_or("the weights are quantized anew", |why| why.as_str());
                push("weights", why.to_owned());
            }
            if let Some(why) = of_bias.first() {
                push("bias", (*why).clone());
            }
            if let Some(why) = self.unweighted(layer, plan) {
                push("placement.unweighted", why);
            }
            if layer.quantizer.is_none() && plan.rules.contains(&"placement.unquantized") {
                push(
                    "placement.unquantized",
                    unquantized(self.network, self.target, layer),
                );
            }
            let slope = layer.posts.iter().find_map(|post| match post {
                Post::Leaky { slope, .. } => slope.first(),
                _ => None,
            });
            if let (Some(slope), Some(LeakyReluRule::Alpha26Over256)) = (slope, ops.leaky_relu)
                && (slope - 26.0 / 256.0).abs() > f64::EPSILON
            {
                let why = format!("LeakyRelu with slope {slope} is computed with 26/256");
                push("ops.leaky-relu", why);
            }
            if let (Kind::Average { .. }, Some(AverageRule::DpuTable)) = (&layer.kind, ops.average)
                && plan.rules.contains(&"ops.average")
            {
                let gain = layer.posts.iter().any(|p| matches!(p, Post::Affine { .. }));
                let why = if gain {
                    "the mean and the factor behind it are one operation of the target: a product with a fraction of a table"
                } else {
                    "the mean is a product with a fraction of a table, not a division"
                };
                push("ops.average", why.into());
            }
            if let (Some(_), Some(Quantizer::Affine(affine))) =
                (&self.target.spec.thresholds, &layer.quantizer)
                && affine.rounding != Rounding::HalfAway
            {
                let why = format!(
                    "the model rounds {}; thresholds are reached from their own value on, so ties go up",
                    rounding(affine.rounding)
                );
                push("thresholds.compare", why);
            }
        }
        entries
    }

    /// Why an operation without weights that reads codes is computed in float: no quantizer stands behind it.
    fn unweighted(&self, layer: &Layer, plan: &LayerPlan) -> Option<String> {
        let Some(UnweightedRule::NeedsOutput) = self.target.spec.placement.unweighted else {
            return None;
        };
        let coded = |&input: &usize| matches!(self.target.grids[input], ValueGrid::Codes { .. });
        let found = plan.float
            && layer.quantizer.is_none()
            && !matches!(layer.kind, Kind::Linear(_) | Kind::MatMul(_))
            && !layer.inputs.is_empty()
            && layer.inputs.iter().all(coded);
        found.then(|| {
            format!(
                "'{}' reads codes, and no quantizer stands behind it: {} in float",
                layer.name, layer.op
            )
        })
    }

    /// The target to whose kernels a delegate leaves a layer.
    fn left_to(&self, layer: &Layer, plan: &LayerPlan) -> Option<String> {
        let left = self.target.spec.placement.left.as_ref()?;
        let operator = layer.op.split('+').next().unwrap_or_default();
        let codes = |grid: &ValueGrid| Grid::of_value(grid);
        let out = codes(&plan.out);
        let mut inputs =
            (layer.inputs.iter()).filter_map(|&input| codes(&self.target.grids[input]));
        let is_left = match left.operators.get(operator)? {
            LeftWhen::Always => true,
            LeftWhen::Unsigned => out.is_some_and(|out| out.min >= 0),
            LeftWhen::Rescaled => out.is_some_and(|out| {
                inputs.any(|own| own.scale != out.scale || own.zero_point != out.zero_point)
            }),
            LeftWhen::OtherSign => {
                out.is_some_and(|out| inputs.any(|own| (own.min < 0) != (out.min < 0)))
            }
        };
        is_left.then(|| left.to.clone())
    }

    fn kernels(&self) -> Vec<Kernel> {
        let mut kernels = Vec::new();
        let mut makers = vec![None; self.network.graph.values.len()];
        for (index, layer) in self.network.layers.iter().enumerate() {
            makers[layer.output] = Some(index);
        }
        let graph: &Graph = &self.network.graph;
        let layers = self.network.layers.iter().zip(&self.target.plans);
        for (layer, plan) in layers {
            if layer.joins || layer.is_plain_pass() {
                continue;
            }
            let mut kernel = Kernel {
                nodes: vec![layer.name.clone()],
                ops: vec![layer.op.clone()],
                integer: !plan.float && matches!(plan.out, ValueGrid::Codes { .. }),
                inputs: Vec::new(),
                output: layer.tensor.clone(),
                rules: plan.rules.iter().map(ToString::to_string).collect(),
                left_to: self.left_to(layer, plan),
            };
            for &input in &layer.inputs {
                // Through nodes that only say how codes are read, and a convolution that is a part of this.
                let mut value = input;
                while let Some(own) = makers[value].map(|at: usize| &self.network.layers[at]) {
                    if own.joins {
                        kernel.nodes.insert(0, own.name.clone());
                        kernel.ops.insert(0, own.op.clone());
                    } else if !own.is_plain_pass() {
                        break;
                    }
                    value = own.inputs[0];
                }
                kernel.inputs.push(graph.value(value).name.clone());
            }
            kernels.push(kernel);
        }
        kernels
    }
}

/// Why a sum of products that the model does not quantize stays in float.
fn unquantized(network: &Network, target: &Target, layer: &Layer) -> String {
    let reals = |&&input: &&usize| target.grids[input] == ValueGrid::Real;
    match layer.inputs.iter().find(reals) {
        Some(&input) => format!(
            "'{}' reads '{}', which is not quantized: {} in float",
            layer.name,
            network.name(input),
            layer.op
        ),
        None => format!(
            "the weights of '{}' are not quantized: {} in float",
            layer.name, layer.op
        ),
    }
}

/// A rounding in the words of a spec.
fn rounding(rounding: Rounding) -> &'static str {
    match rounding {
        Rounding::HalfEven => "half to even",
        Rounding::HalfAway => "half away from zero",
        Rounding::HalfTowardZero => "half toward zero",
        Rounding::Floor => "down",
        Rounding::Ceil => "up",
        Rounding::TowardZero => "toward zero",
        Rounding::AwayFromZero => "away from zero",
        Rounding::HalfUp => "half up",
        Rounding::HalfEvenNegativeUp => "half up below zero, half to even above",
    }
}
