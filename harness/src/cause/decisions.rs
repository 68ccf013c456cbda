//! The decisions of a target, each switched to the reference's.

use align_check_graph::{Quantizer, Rounding as Own, ZeroPointAdded};
use align_check_simulators::adapt::ValueGrid;
use align_check_simulators::network::{Kind, Layer, Post};
use align_check_specs::{
    AddRule, AverageRule, BiasFormat, Bounds, ClampOrder, CodeClip, DequantizeRule, Derivation,
    Division, Grid, HardSwishRule, LeakyReluRule, LeftShift, MulRule, Multiplier, Overflow,
    Requantize, RescaleRule, ResizeRule, Rounding, Shift, SigmoidRule, Signedness, SoftmaxRule,
    Spec, Step, WeightDivision, ZeroPointPosition, ZeroPoints,
};

use super::trial::{Case, Variant};
use super::words::{name, op_name, step_text};

/// One decision in which two sides differ.
pub struct Decision {
    /// What reports call it: `rounding`, `zero point`, `LUT table`.
    pub name: &'static str,
    /// The same, told from others of that name.
    pub label: String,
    /// What each side does.
    pub text: String,
    /// Whether it is tried alone; others exist only beside another change.
    pub single: bool,
}

/// What makes a target's side the reference's.
type Change = Box<dyn Fn(&mut Variant)>;

/// Decisions and their switches, in the order in which hypotheses are tried: grid and encodings, placement,
/// accumulator, multiplier and rounding, operations, float order. Where one switch includes another (a grid is more
/// than where it saturates), the finer one comes first.
#[derive(Default)]
pub struct Switches {
    /// The decisions.
    pub decisions: Vec<Decision>,
    changes: Vec<Change>,
    /// Everything at once: what is left then was never the rules'.
    pub all: Option<(Decision, Change)>,
}

impl Switches {
    /// The target with some decisions switched, in their order.
    pub fn variant(&self, own: &Spec, set: &[usize]) -> Variant {
        let mut variant = Variant::own(own);
        // What a float multiplier allows (a zero point before rounding, an exact bias) comes behind it.
        let (first, rest): (Vec<usize>, Vec<usize>) = set
            .iter()
            .partition(|&&at| self.decisions[at].name == "multiplier");
        for at in first.into_iter().chain(rest) {
            (self.changes[at])(&mut variant);
        }
        variant
    }

    fn push(&mut self, name: &'static str, text: String, change: Change) {
        self.decisions.push(Decision {
            name,
            label: name.to_owned(),
            text,
            single: true,
        });
        self.changes.push(change);
    }

    fn spec(&mut self, name: &'static str, text: String, change: impl Fn(&mut Spec) + 'static) {
        self.push(name, text, Box::new(move |v| change(&mut v.spec)));
    }
}

/// How the model's own quantizer at the end of a layer rounds, and where its zero point enters.
fn model_rounding(layer: &Layer) -> (Rounding, ZeroPointPosition) {
    let Some(Quantizer::Affine(own)) = &layer.quantizer else {
        return (Rounding::HalfEven, ZeroPointPosition::InsideRounding);
    };
    let rounding = match own.rounding {
        Own::HalfEven => Rounding::HalfEven,
        Own::HalfAway => Rounding::HalfAway,
        Own::HalfTowardZero => Rounding::HalfTowardZero,
        Own::Floor => Rounding::Floor,
        Own::Ceil => Rounding::Ceil,
        Own::TowardZero => Rounding::Trunc,
        Own::AwayFromZero => Rounding::Away,
        Own::HalfUp => Rounding::HalfUp,
        Own::HalfEvenNegativeUp => Rounding::HalfUpIfNegativeElseHalfEven,
    };
    let position = match own.zero_point_added {
        ZeroPointAdded::AfterRounding => ZeroPointPosition::AfterRounding,
        ZeroPointAdded::BeforeRounding | ZeroPointAdded::FromSmallest => {
            ZeroPointPosition::InsideRounding
        }
    };
    (rounding, position)
}

/// Every decision in which the target differs from the reference on this layer.
pub fn against_reference(case: &Case) -> Switches {
    let mut list = Switches::default();
    encodings(case, &mut list);
    if let Some(unplaced) = &case.unplaced {
        let text = unplaced.text.clone();
        list.push("placement", text, Box::new(|v| v.unplaced = true));
    }
    accumulator(case, &mut list);
    let as_stored = as_stored(case).is_some();
    let sums = matches!(case.layer.kind, Kind::Linear(_) | Kind::MatMul(_)) && !case.plan.float;
    requantize(case, &mut list, sums, as_stored);
    if !sums {
        operations(case, &mut list);
    }
    float(case, &mut list);
    // An exact bias has the file's scale: it would take the blame from it.
    if !as_stored {
        let (name, text) = if case.plan.float {
            ("float", "the target computes this in float")
        } else {
            ("requantize", "the whole way from sums to codes")
        };
        let decision = Decision {
            name,
            label: name.to_owned(),
            text: text.to_owned(),
            single: true,
        };
        list.all = Some((decision, Box::new(|v| to_the_letter(&mut v.spec))));
    }
    // What changes nothing is no decision in which the two differ.
    let own = Variant::own(case.rules());
    let differ = |change: &Change| {
        let mut variant = own.clone();
        change(&mut variant);
        variant != own
    };
    for (decision, change) in list.decisions.iter_mut().zip(&list.changes) {
        decision.single = differ(change);
    }
    list
}

fn as_stored<'c>(case: &'c Case) -> Option<&'c align_check_simulators::plan::OtherBias> {
    let linear = case.plan.linear.as_ref()?;
    linear.other_bias.as_ref().filter(|other| other.as_stored)
}

/// Grids, and the integers on them.
fn encodings(case: &Case, list: &mut Switches) {
    if let Some(other) = as_stored(case) {
        let text = format!(
            "bias scale is not sx*sw, ratio {:.4}, {} of {} channels: its integers are added as they are",
            other.ratio(),
            other.channels,
            other.of
        );
        list.push("bias scale", text, Box::new(|v| v.stated_bias = true));
    }
    if case.plan.saturates_elsewhere(case.model) {
        let text = case.plan.mismatches.first().cloned().unwrap_or_default();
        list.spec("saturation", text, |spec| {
            spec.activations.clip = CodeClip::Model;
        });
    }
    let linear = case.plan.linear.as_ref();
    if linear.is_some_and(|sums| !sums.model_weights && sums.model_grid) {
        let text = case.plan.mismatches.last().cloned().unwrap_or_default();
        list.spec("weight codes", text, |spec| {
            spec.weights.division = WeightDivision::Model;
        });
    }
    let inputs_differ = case.grids.iter().any(|grid| {
        !matches!(grid, ValueGrid::Codes { model: true, .. }) && *grid != ValueGrid::Real
    });
    let other = linear.and_then(|l| l.other_bias.as_ref());
    let requantized = usize::from(other.is_some_and(|other| !other.as_stored));
    let grids = case.plan.mismatches.len().saturating_sub(requantized);
    if grids > 0 || inputs_differ {
        let text = case.plan.mismatches[..grids]
            .first()
            .cloned()
            .unwrap_or_else(|| "the inputs lie on the target's own grid".into());
        list.spec("quantizer", text, model_grids);
    }
}

fn accumulator(case: &Case, list: &mut Switches) {
    let own = &case.target.spec.accumulator;
    let overflowed = case
        .differing
        .iter()
        .filter(|&&at| case.sums.overflowed(at));
    let bits = own.bits.unwrap_or(64);
    let paired = case
        .plan
        .linear
        .as_ref()
        .is_some_and(|linear| linear.pairs.is_some());
    let text = match overflowed.count() {
        1.. if paired => {
            "saturation: pairs of products saturate to 16 bits before they are added".to_owned()
        }
        0 => format!(
            "bias and sum leave the accumulator of {bits} bits, which {}s",
            name(&own.overflow)
        ),
        // How many is told by what is explained.
        _ => format!(
            "the accumulator of {bits} bits overflows ({})",
            name(&own.overflow)
        ),
    };
    list.spec("accumulator", text, |spec| {
        spec.accumulator.pairs = None;
        if spec.accumulator.bits.is_some() {
            spec.accumulator.bits = Some(64);
            spec.accumulator.overflow = Overflow::Wrap;
        }
    });
}

/// Changes every section of requantization.
fn each(spec: &mut Spec, change: impl Fn(&mut Requantize)) {
    change(&mut spec.requantize);
    let mut sections = vec![
        &mut spec.convolution,
        &mut spec.depthwise,
        &mut spec.transposed,
        &mut spec.fully_connected,
        &mut spec.fully_connected_unbiased,
    ];
    if let Some(unsigned) = &mut spec.unsigned {
        sections.extend([
            &mut unsigned.convolution,
            &mut unsigned.depthwise,
            &mut unsigned.transposed,
            &mut unsigned.fully_connected,
        ]);
    }
    for rule in sections.into_iter().flatten() {
        change(rule);
    }
}

/// The rules of the layer's sums.
fn rule(case: &Case) -> Requantize {
    let unsigned = case.plan.rules.contains(&"unsigned");
    let own = if unsigned {
        case.target.spec.unsigned_kernels()
    } else {
        None
    };
    let spec = own.as_ref().unwrap_or(&case.target.spec);
    match &case.layer.kind {
        Kind::Linear(linear) => spec.of_product(linear.product).0.clone(),
        _ => spec.requantize.clone(),
    }
}

fn is_float(multiplier: Multiplier) -> bool {
    matches!(
        multiplier,
        Multiplier::F32 | Multiplier::F32TwoSteps { .. } | Multiplier::F64
    )
}

fn requantize(case: &Case, list: &mut Switches, sums: bool, as_stored: bool) {
    let spec = &case.target.spec;
    if spec.quantize.division.is_model() {
        return;
    }
    let own = rule(case);
    let (rounding, position) = model_rounding(case.layer);
    let steps: Vec<String> = own.steps.iter().map(step_text).collect();
    let ties = if sums || spec.quantize.rounding == rounding {
        steps.join(", ")
    } else {
        name(&spec.quantize.rounding)
    };
    let text = format!("{ties} instead of {}", name(&rounding));
    list.spec("rounding", text, move |spec| {
        spec.quantize.rounding = rounding;
        each(spec, |rule| {
            for step in &mut rule.steps {
                step.rounding = rounding;
            }
        });
    });
    if sums && own.steps.len() > 1 {
        let text = format!(
            "the target rounds {} times: {}; the model rounds once",
            own.steps.len(),
            steps.join(", ")
        );
        list.spec("double rounding", text, once);
    }
    let text = format!(
        "the target adds the zero point {}, the model {}",
        place(if sums {
            own.zero_point
        } else {
            spec.quantize.zero_point
        }),
        place(position)
    );
    list.spec("zero point", text, move |spec| {
        spec.quantize.zero_point = position;
        each(spec, |rule| {
            if is_float(rule.multiplier) && rule.zero_point != ZeroPointPosition::InBias {
                rule.zero_point = position;
            }
        });
    });
    let clamps = case
        .layer
        .posts
        .iter()
        .any(|post| matches!(post, Post::Clamp { .. }));
    if sums && clamps {
        let text = "the bounds of the fused clamp become codes of the target's own";
        list.spec("fused clamp", text.to_owned(), move |spec| {
            each(spec, |rule| {
                rule.bounds = Some(if position == ZeroPointPosition::InsideRounding {
                    Bounds::HalfEvenInside
                } else {
                    Bounds::HalfEven
                });
                rule.clamp = ClampOrder::AfterRounding;
            });
        });
    }
    if sums && own.tail.is_some() || spec.quantize.tail.is_some() {
        let text = "elements that whole vectors leave over are computed otherwise";
        list.spec("vector tail", text.to_owned(), |spec| {
            spec.quantize.tail = None;
            each(spec, |rule| rule.tail = None);
        });
    }
    if sums {
        let text = format!(
            "multiplier {}, derived in {}, instead of the exact one",
            name(&own.multiplier),
            name(&own.derivation)
        );
        list.spec("multiplier", text, exact_product);
        // The exact bias has no place in an integer accumulator: with a float multiplier it has.
        if !as_stored && biased(case.layer) {
            let format = name(&spec.bias.format);
            let text = format!("bias as {format} instead of the exact real");
            list.spec("bias width", text, |spec| {
                if spec.requantize.multiplier == Multiplier::F64 {
                    spec.bias.format = BiasFormat::Exact;
                } else if is_float(spec.requantize.multiplier) {
                    spec.bias.format = BiasFormat::F32AfterScale;
                }
            });
        }
    }
}

fn biased(layer: &Layer) -> bool {
    let folded = layer.folded();
    let added = folded.is_some_and(|folded| folded.add.iter().any(|&add| add != 0.0));
    match &layer.kind {
        Kind::Linear(linear) => linear.bias.is_some() || linear.rows.is_some() || added,
        _ => added,
    }
}

/// One rounding, as the last one.
fn once(spec: &mut Spec) {
    each(spec, |rule| {
        if let (Some(last), true) = (rule.steps.last().copied(), rule.steps.len() > 1) {
            rule.steps = vec![Step {
                shift: Shift::Rest,
                ..last
            }];
            if matches!(rule.multiplier, Multiplier::Fixed { .. }) {
                rule.left_shift = LeftShift::Exact;
            }
        }
    });
}

/// The real multiplier, and one rounding.
fn exact_product(spec: &mut Spec) {
    once(spec);
    if spec.bias.format == BiasFormat::Int32WithZeroPoint {
        spec.bias.format = BiasFormat::Int32;
    }
    each(spec, |rule| {
        if rule.zero_point == ZeroPointPosition::InBias {
            // The bias had it in units of an integer accumulator.
            rule.zero_point = ZeroPointPosition::AfterRounding;
        }
        for step in &mut rule.steps {
            step.shift = Shift::Rest;
            step.saturate = None;
        }
        rule.multiplier = Multiplier::F64;
        rule.derivation = Derivation::F64;
    });
}

fn place(position: ZeroPointPosition) -> &'static str {
    match position {
        ZeroPointPosition::AfterRounding => "after rounding",
        ZeroPointPosition::InsideRounding => "before rounding",
        ZeroPointPosition::InBias => "in the bias",
    }
}

/// The op-specific rules of a layer without sums of products: each as if the target had none of its own.
fn operations(case: &Case, list: &mut Switches) {
    let spec = &case.target.spec;
    let concat = matches!(case.layer.kind, Kind::Concat { .. });
    let average = match &case.layer.kind {
        Kind::Average { axes: true, .. } => spec.ops.global_average.or(spec.ops.average),
        _ => spec.ops.average,
    };
    if let Some(rule) = case
        .plan
        .rules
        .iter()
        .find_map(|path| path.strip_prefix("ops."))
    {
        if rule.ends_with("average")
            && let Some(own) = average
        {
            means(list, own);
            return;
        }
        let called = op_name(rule, concat);
        let own = op_word(spec, rule);
        let text = format!("[ops] {rule} = {own} instead of the exact result, rounded once");
        let rule = rule.to_owned();
        list.spec(called, text, move |spec| exact_op(spec, &rule));
    }
}

/// Means: what a sum is divided by, and how the quotient is rounded.
fn means(list: &mut Switches, own: AverageRule) {
    let set = |rule: AverageRule| {
        move |spec: &mut Spec| {
            spec.ops.average = spec.ops.average.map(|_| rule);
            spec.ops.global_average = spec.ops.global_average.map(|_| rule);
            if let Some(unsigned) = &mut spec.unsigned {
                unsigned.ops.average = None;
                unsigned.ops.global_average = None;
            }
        }
    };
    let divisor = match own {
        AverageRule::F32MeanKernel => Some(AverageRule::F32Mean),
        AverageRule::F32Inside | AverageRule::FakeQuantize => Some(AverageRule::F32),
        AverageRule::DpuTable => Some(AverageRule::RoundedOnce),
        _ => None,
    };
    if let Some(rule) = divisor {
        let text = format!(
            "[ops] average = {} divides by another number than the model (count_include_pad, reciprocals)",
            name(&own)
        );
        list.spec("average divisor", text, set(rule));
    }
    let text = format!(
        "[ops] average = {} instead of the exact mean, rounded once",
        name(&own)
    );
    list.spec("average rounding", text, set(AverageRule::Exact));
}

/// The word of an operation's rule.
fn op_word(spec: &Spec, rule: &str) -> String {
    let ops = &spec.ops;
    macro_rules! word {
        ($($name:literal => $field:ident),+) => {
            match rule {
                $($name => ops.$field.as_ref().map(name),)+
                _ => None,
            }
        };
    }
    let word = word!(
        "add" => add, "mul" => mul, "rescale" => rescale, "relu" => relu, "concat" => concat,
        "leaky-relu" => leaky_relu, "sigmoid" => sigmoid, "hard-swish" => hard_swish,
        "softmax" => softmax, "resize" => resize, "dequantize" => dequantize,
        "dynamic-quantize" => dynamic_quantize
    );
    word.unwrap_or_default()
}

/// The exact result, then `[quantize]`.
fn exact_op(spec: &mut Spec, rule: &str) {
    let change = |ops: &mut align_check_specs::Ops| {
        macro_rules! exact {
            ($($name:literal => $field:ident = $exact:expr),+ $(,)?) => {
                match rule {
                    $($name => ops.$field = ops.$field.map(|_| $exact),)+
                    _ => {}
                }
            };
        }
        exact!(
            "add" => add = AddRule::Exact,
            "mul" => mul = MulRule::Exact,
            "rescale" => rescale = RescaleRule::Exact,
            "relu" => relu = RescaleRule::Exact,
            "concat" => concat = RescaleRule::Exact,
            "leaky-relu" => leaky_relu = LeakyReluRule::Exact,
            "sigmoid" => sigmoid = SigmoidRule::Exact,
            "hard-swish" => hard_swish = HardSwishRule::Exact,
            "softmax" => softmax = SoftmaxRule::Exact,
            "resize" => resize = ResizeRule::Exact,
            "dequantize" => dequantize = DequantizeRule::F64,
        );
    };
    change(&mut spec.ops);
    if let Some(unsigned) = &mut spec.unsigned {
        change(&mut unsigned.ops);
    }
}

/// Order and precision of float operations.
fn float(case: &Case, list: &mut Switches) {
    let own = case.target.spec.quantize.division;
    if own == Division::ModelReciprocalF32 {
        let text = "quantizers multiply by f32(1 / s); the model's divide by s";
        list.spec("division", text.into(), |spec| {
            spec.quantize.division = Division::Model;
        });
    } else if !own.is_model() {
        let text = format!(
            "quantizers compute {} instead of one f32 division",
            name(&own)
        );
        list.spec("division", text, |spec| {
            spec.quantize.division = Division::DivideF32;
        });
    }
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
    spec.requantize.steps = vec![Step {
        shift: Shift::Rest,
        rounding: Rounding::HalfEven,
        saturate: None,
    }];
    spec.requantize.zero_point = ZeroPointPosition::InsideRounding;
    spec.bias.format = BiasFormat::Exact;
    spec.accumulator.bits = None;
    spec.accumulator.overflow = Overflow::Exact;
}
