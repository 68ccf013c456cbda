//! Why a layer differs: each decision is switched to the reference's, one by one; what removes the
//! differences is the cause.

use std::borrow::Cow;
use std::sync::Arc;

use align_check_simulators::adapt::{ValueGrid, put_on};
use align_check_simulators::hls4ml::Fixed;
use align_check_simulators::kernels::Isa;
use align_check_simulators::network::Layer;
use align_check_simulators::plan::{Finish, LayerPlan};
use align_check_simulators::run::{Runner, Sums};
use align_check_simulators::tensor::Tensor;
use align_check_specs::{
    Accumulator, AddRule, AverageRule, BiasFormat, CodeClip, Division, Grid, KnownBug, LeftShift,
    Multiplier, Overflow, RescaleRule, Rounding, Shift, Signedness, Spec, Step, WeightDivision,
    ZeroPointPosition, ZeroPoints,
};

use crate::check::Target;
use crate::compare;
use crate::outcome::Cause;

/// A misaligned layer on one sample.
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
    pub base_in: &'a [&'a Tensor],
    /// The target's sums.
    pub sums: &'a Sums,
    /// The reference's sums.
    pub reference_sums: &'a Sums,
    /// What was expected.
    pub expected: &'a Tensor,
    /// Elements that differ, outside the noise floor.
    pub differing: &'a [usize],
    /// Instructions to use.
    pub isa: Isa,
}

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

/// A decision, switched to the reference's.
struct Switch {
    name: &'static str,
    text: String,
    spec: Spec,
    /// Whether the bias has the scale that the file states, where kernels add its integers as they are.
    stated_bias: bool,
}

/// Finds the first decision, in the order grid, accumulator, rounding, multiplier, that explains every
/// difference; failing that, the one that explains most.
pub fn find(case: &Case) -> Cause {
    let of = case.differing.len() as u64;
    if let Finish::Fixed(fixed) = &case.plan.finish {
        return of_types(case, fixed);
    }
    let mut tried = Vec::new();
    let mut best: Option<(u64, &'static str, String)> = None;
    let overflowed = case
        .differing
        .iter()
        .filter(|&&at| case.sums.overflowed(at))
        .count() as u64;
    if overflowed > 0 {
        tried.push(("saturation".to_string(), overflowed));
        let paired = case.plan.linear.as_ref().is_some_and(|l| l.pairs.is_some());
        let text = if paired {
            "saturation: pairs of products saturate to 16 bits before they are added".to_owned()
        } else {
            format!(
                "the accumulator of {} bits overflows ({:?})",
                case.target.spec.accumulator.bits.unwrap_or(64),
                case.target.spec.accumulator.overflow
            )
            .to_lowercase()
        };
        best = Some((overflowed, "accumulator", text));
    }
    if let (None, ValueGrid::Codes { grid, .. }) = (case.expected.grid(), &case.plan.out)
        && let Some((explained, what)) =
            compare::beyond(case.expected, grid, case.differing.iter().copied())
    {
        tried.push(("range".to_string(), explained));
        if best.as_ref().is_none_or(|(most, ..)| explained > *most) {
            let text = format!("recorded {what}, the codes of the target");
            best = Some((explained, "range", text));
        }
    }
    if let Some(unplaced) = &case.unplaced {
        let explained = without_placement(case, unplaced);
        tried.push(("placement".to_string(), explained));
        if best.as_ref().is_none_or(|(most, ..)| explained > *most) {
            best = Some((explained, "placement", unplaced.text.clone()));
        }
    }
    let done = best
        .as_ref()
        .is_some_and(|(explained, ..)| *explained == of);
    for switch in switches(case).into_iter().filter(|_| !done) {
        let explained = explained(case, &switch);
        tried.push((switch.name.to_string(), explained));
        if best.as_ref().is_none_or(|(most, ..)| explained > *most) {
            best = Some((explained, switch.name, switch.text));
        }
        if explained == of {
            break;
        }
    }
    let (explains, name, text) = best
        .filter(|(explains, ..)| *explains > 0)
        .unwrap_or_else(|| {
            let text = if case.plan.float {
                "the target computes this in float".to_string()
            } else {
                "no single decision explains it".to_string()
            };
            (0, if case.plan.float { "float" } else { "unknown" }, text)
        });
    Cause {
        name: name.to_string(),
        text,
        explains,
        of,
        tried,
    }
}

/// As [`find`], in fixed-point types: each is widened.
fn of_types(case: &Case, fixed: &Fixed) -> Cause {
    let of = case.differing.len() as u64;
    let mut tried = Vec::new();
    let mut best = (0, "unknown", "no single decision explains it".to_string());
    for (name, text, without) in fixed.without() {
        let out = without.run(case.layer, case.base_in, &ValueGrid::Real);
        let equal = |&&at: &&usize| out.real_at(at) == case.expected.real_at(at);
        let explains = case.differing.iter().filter(equal).count() as u64;
        tried.push((name.to_string(), explains));
        if explains > best.0 {
            best = (explains, name, text);
        }
        if explains == of {
            break;
        }
    }
    let (explains, name, text) = best;
    Cause {
        name: name.to_string(),
        text,
        explains,
        of,
        tried,
    }
}

/// Says of a layer that no decision explains what else it may be: `bugs` are the target's known ones for its
/// operator, `reordered` tells that the recorded codes are the simulated ones in another order.
pub fn suspect(cause: &mut Cause, target: &str, bugs: &[&KnownBug], reordered: bool) {
    let mut text = if cause.explains == 0 {
        "no decision, alone or together, explains it".to_owned()
    } else {
        format!(
            "{}; no decision, alone or together, explains the rest",
            cause.text
        )
    };
    text += ": suspect a bug of a kernel or driver";
    if reordered {
        text += "; the same codes in another order: layout";
    }
    for bug in bugs {
        text += "; known bug of ";
        text += target;
        text += ": ";
        text += &bug.what;
    }
    cause.text = text;
}

/// Adds another sample's cause: the one that explains more names both.
pub fn merge(all: &mut Option<Cause>, one: Option<&Cause>) {
    let Some(one) = one else { return };
    let Some(all) = all else {
        *all = Some(one.clone());
        return;
    };
    all.of += one.of;
    for (name, explains) in &one.tried {
        match all.tried.iter_mut().find(|(own, _)| own == name) {
            Some((_, sum)) => *sum += explains,
            None => all.tried.push((name.clone(), *explains)),
        }
    }
    if all.name == one.name {
        all.explains += one.explains;
    } else if one.explains > all.explains {
        all.name.clone_from(&one.name);
        all.text.clone_from(&one.text);
        all.explains = one.explains;
    }
}

/// Differing elements that vanish under another decision.
fn explained(case: &Case, switch: &Switch) -> u64 {
    let spec = &switch.spec;
    let model_grids = spec.activations.quantizer == Grid::Model;
    let grids = if model_grids {
        &case.model_grids
    } else {
        &case.grids
    };
    let plan = if switch.stated_bias {
        LayerPlan::with_stated_bias
    } else {
        LayerPlan::new
    };
    let Ok(plan) = plan(case.layer, spec, grids, case.model, case.isa) else {
        return 0;
    };
    let runner = Runner {
        layer: case.layer,
        plan: &plan,
        isa: case.isa,
    };
    let inputs: Vec<Cow<Tensor>> = grids
        .iter()
        .zip(case.base_in)
        .map(|(grid, &tensor)| put_on(grid, tensor).map_or(Cow::Borrowed(tensor), Cow::Owned))
        .collect();
    let refs: Vec<&Tensor> = inputs.iter().map(|t| &**t).collect();
    // The sums are the same integers unless grids, weights or the accumulator changed.
    let same_inputs = *grids == case.grids;
    let unmoved = inputs.iter().all(|t| matches!(t, Cow::Borrowed(_)));
    let fresh;
    let sums = if same_inputs && plan.shares_sums(case.plan) {
        case.sums
    } else if unmoved
        && case.model.is_some_and(|model| plan.shares_sums(model))
        && *case.reference_sums != Sums::None
        && case.unplaced.is_none()
    {
        case.reference_sums
    } else {
        fresh = runner.sums(&refs);
        &fresh
    };
    let expected = |at: usize| case.expected.real_at(at);
    if let Some(codes) = runner.codes_at(sums, case.differing) {
        let ValueGrid::Codes { grid, .. } = &plan.out else {
            return 0;
        };
        let equal = |(&at, code): (&usize, i32)| grid.real(i64::from(code), 0) == expected(at);
        return case
            .differing
            .iter()
            .zip(codes)
            .filter(|pair| equal((pair.0, pair.1)))
            .count() as u64;
    }
    let out = runner.finish(&refs, sums);
    case.differing
        .iter()
        .filter(|&&at| out.real_at(at) == expected(at))
        .count() as u64
}

/// Differing elements that vanish where the target has its quantizers as the model has them.
fn without_placement(case: &Case, unplaced: &Unplaced) -> u64 {
    let spec = &case.target.spec;
    let model = Some(unplaced.plan);
    let Ok(plan) = LayerPlan::new(unplaced.layer, spec, &unplaced.grids, model, case.isa) else {
        return 0;
    };
    let runner = Runner {
        layer: unplaced.layer,
        plan: &plan,
        isa: case.isa,
    };
    let inputs: Vec<&Tensor> = unplaced.inputs.iter().map(|t| &**t).collect();
    let out = runner.finish(&inputs, &runner.sums(&inputs));
    let equal = |&&at: &&usize| out.real_at(at) == case.expected.real_at(at);
    case.differing.iter().filter(equal).count() as u64
}

fn switches(case: &Case) -> Vec<Switch> {
    let spec = &case.target.spec;
    let mut switches = Vec::new();
    let other = case
        .plan
        .linear
        .as_ref()
        .and_then(|l| l.other_bias.as_ref());
    let as_stored = other.filter(|other| other.as_stored);
    if let Some(other) = as_stored {
        switches.push(Switch {
            name: "bias scale",
            text: format!(
                "bias scale is not sx*sw, ratio {:.4}, {} of {} channels: its integers are added as they are",
                other.ratio(),
                other.channels,
                other.of
            ),
            spec: spec.clone(),
            stated_bias: true,
        });
    }
    let mut push = |name, text: String, change: &dyn Fn(&mut Spec)| {
        let mut changed = spec.clone();
        change(&mut changed);
        if changed != *spec {
            switches.push(Switch {
                name,
                text,
                spec: changed,
                stated_bias: false,
            });
        }
    };
    let inputs_differ = case.grids.iter().any(|grid| {
        !matches!(grid, ValueGrid::Codes { model: true, .. }) && *grid != ValueGrid::Real
    });
    if case.plan.saturates_elsewhere(case.model) {
        let text = case.plan.mismatches.first().cloned();
        push("saturation", text.unwrap_or_default(), &|spec| {
            spec.activations.clip = CodeClip::Model;
        });
    }
    let linear = case.plan.linear.as_ref();
    if linear.is_some_and(|sums| !sums.model_weights && sums.model_grid) {
        let text = case.plan.mismatches.last().cloned();
        push("weight codes", text.unwrap_or_default(), &|spec| {
            spec.weights.division = WeightDivision::Model;
        });
    }
    let requantized = usize::from(other.is_some_and(|other| !other.as_stored));
    let grids = case.plan.mismatches.len().saturating_sub(requantized);
    if grids > 0 || inputs_differ {
        let text = case.plan.mismatches[..grids]
            .first()
            .cloned()
            .unwrap_or_else(|| "the inputs lie on the target's own grid".into());
        push("quantizer", text, &model_grids);
    }
    if spec.quantize.division == Division::ModelReciprocalF32 {
        let text = "quantizers multiply by f32(1 / s); the model's divide by s";
        push("division", text.into(), &|spec| {
            spec.quantize.division = Division::Model;
        });
    }
    let accumulator = format!(
        "bias and sum leave the accumulator of {} bits, which {}s",
        spec.accumulator.bits.unwrap_or(64),
        name(&spec.accumulator.overflow)
    );
    push("accumulator", accumulator, &|spec| {
        spec.accumulator = Accumulator {
            bits: Some(64),
            overflow: Overflow::Wrap,
            ..spec.accumulator.clone()
        };
    });
    let sums = matches!(case.plan.finish, Finish::Requantize { .. });
    if sums {
        let steps = spec
            .requantize
            .steps
            .iter()
            .map(step_text)
            .collect::<Vec<_>>()
            .join(", ");
        push(
            "rounding",
            format!("{steps} instead of one half-even"),
            &|spec| {
                for rule in [Some(&mut spec.requantize), spec.fully_connected.as_mut()] {
                    let Some(rule) = rule else { continue };
                    rule.steps = vec![half_even()];
                    if matches!(rule.multiplier, Multiplier::Fixed { .. }) {
                        rule.left_shift = LeftShift::Exact;
                    }
                }
            },
        );
        push(
            "zero point",
            "the zero point enters elsewhere".into(),
            &|spec| {
                for rule in [Some(&mut spec.requantize), spec.fully_connected.as_mut()] {
                    let Some(rule) = rule else { continue };
                    if rule.zero_point == ZeroPointPosition::AfterRounding
                        && matches!(
                            rule.multiplier,
                            Multiplier::F32 | Multiplier::F32TwoSteps { .. } | Multiplier::F64
                        )
                    {
                        rule.zero_point = ZeroPointPosition::InsideRounding;
                    }
                }
            },
        );
        // An exact bias has the file's scale: it would take the blame from it.
        if as_stored.is_some() {
            return switches;
        }
        push(
            "requantize",
            format!(
                "multiplier {}, bias {}",
                name(&spec.requantize.multiplier),
                bias(spec)
            ),
            &exact_multiplier,
        );
    } else if case.plan.float {
        push(
            "float",
            "the target computes this in float".into(),
            &to_the_letter,
        );
    } else {
        let rule = case.plan.rules.last().copied().unwrap_or("ops");
        push(
            "rounding",
            format!("[{rule}] with one half-even instead"),
            &|spec| {
                spec.quantize.rounding = Rounding::HalfEven;
                spec.quantize.zero_point = ZeroPointPosition::InsideRounding;
                spec.requantize.steps = vec![half_even()];
                spec.ops.add = spec.ops.add.map(|r| match r {
                    AddRule::AlignedShift => r,
                    _ => AddRule::F32,
                });
                spec.ops.average = spec.ops.average.map(|_| AverageRule::F32);
                spec.ops.global_average = None;
                spec.ops.rescale = spec.ops.rescale.map(|_| RescaleRule::F32);
            },
        );
        push(
            "op rule",
            format!("the target's rule of [{rule}]"),
            &to_the_letter,
        );
    }
    // Everything at once: what is left then was never the rules'.
    push(
        "requantize",
        "the whole way from sums to codes".into(),
        &to_the_letter,
    );
    switches
}

/// The model's own grids under the target's arithmetic; where that arithmetic has no codes, the reference's.
fn model_grids(spec: &mut Spec) {
    let codes = matches!(spec.activations.quantizer, Grid::Affine | Grid::PowerOfTwo);
    spec.activations.quantizer = Grid::Model;
    spec.activations.bits.clear();
    spec.activations.signed = Signedness::Any;
    spec.activations.zero_point = ZeroPoints::Any;
    spec.activations.clip = CodeClip::Model;
    spec.weights.quantizer = Grid::Model;
    spec.weights.bits.clear();
    spec.weights.division = WeightDivision::Model;
    if !codes || spec.requantize.multiplier == Multiplier::PowerOfTwo {
        exact_multiplier(spec);
        spec.quantize.division = Division::Model;
    }
}

/// The reference itself.
fn to_the_letter(spec: &mut Spec) {
    model_grids(spec);
    exact_multiplier(spec);
    spec.quantize.division = Division::Model;
    spec.ops.dequantize = None;
}

/// One exact product, one exact bias, one rounding.
fn exact_multiplier(spec: &mut Spec) {
    spec.fully_connected = None;
    spec.requantize.multiplier = Multiplier::F64;
    spec.requantize.steps = vec![half_even()];
    spec.requantize.zero_point = ZeroPointPosition::InsideRounding;
    spec.bias.format = BiasFormat::Exact;
    spec.accumulator.bits = None;
    spec.accumulator.overflow = Overflow::Exact;
}

fn half_even() -> Step {
    Step {
        shift: Shift::Rest,
        rounding: Rounding::HalfEven,
        saturate: None,
    }
}

/// The name that a rule has in a spec file.
fn name<T: serde::Serialize>(rule: &T) -> String {
    match serde_json::to_value(rule) {
        Ok(serde_json::Value::String(text)) => text,
        Ok(serde_json::Value::Object(map)) => map
            .into_iter()
            .map(|(key, value)| match value {
                serde_json::Value::String(text) if key == "format" => text,
                value => format!("{key} {}", value.to_string().trim_matches('"')),
            })
            .collect::<Vec<_>>()
            .join(" "),
        _ => String::new(),
    }
}

fn step_text(step: &Step) -> String {
    let shift = match step.shift {
        Shift::By(bits) => format!("{bits} "),
        Shift::Rest => String::new(),
    };
    format!("{shift}{}", name(&step.rounding))
}

fn bias(spec: &Spec) -> String {
    name(&spec.bias.format)
}
