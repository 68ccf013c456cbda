//! The spec that says what was found.

use align_check_specs::{Evidence, Grade, Ops, Requantize, Spec, Unsigned};

use super::class::Class;
use super::label::QUANTIZE;
use super::point::{Point, is_sums};

/// A spec, and what it cannot say.
pub(super) struct Composed {
    pub spec: Spec,
    pub unsaid: Vec<String>,
}

/// Puts one point for each kind into a spec. Where a shipped target has all of them, its rules are taken; kinds that were
/// not recorded stay without a rule.
pub(super) fn compose(
    base: &Spec,
    specs: &[Spec],
    classes: &[Class],
    targets: &[String],
    source: &str,
) -> Composed {
    let mut unsaid = Vec::new();
    let named = targets
        .iter()
        .find_map(|name| specs.iter().find(|spec| spec.name == *name));
    let mut spec = named.unwrap_or(base).clone();
    let elements: u64 = classes.iter().map(Class::elements).sum();
    let wrong: u64 = classes
        .iter()
        .map(|class| class.count().differing + class.count().noise)
        .sum();
    if named.is_none() {
        free(&mut spec);
        fill(&mut spec, classes, &mut unsaid);
    }
    spec.name = "inferred".into();
    spec.aliases = Vec::new();
    spec.encodings = Vec::new();
    spec.known_bugs = Vec::new();
    spec.summary = match named {
        Some(named) => format!(
            "Inferred from {source}: the rules of '{}', which reproduce {} of {elements} elements",
            named.name,
            elements - wrong
        ),
        None => format!(
            "Inferred from {source}: reproduces {} of {elements} elements",
            elements - wrong
        ),
    };
    spec.unknowns = unknowns(classes);
    spec.unknowns.extend(unsaid.iter().cloned());
    spec.evidence = vec![Evidence {
        rules: vec!["*".into()],
        grade: Grade::Hypothesis,
        source: format!(
            "inferred from {source}: reproduces {} of {elements} elements",
            elements - wrong
        ),
        note: Some(
            "other rules that this recording does not tell apart are listed as unknown; kinds of layers that it does \
             not hold are not covered by it"
                .into(),
        ),
    }];
    Composed { spec, unsaid }
}

/// Takes away what no recording said.
fn free(spec: &mut Spec) {
    spec.ops = Ops::default();
    spec.unsigned = None;
    spec.convolution = None;
    spec.depthwise = None;
    spec.transposed = None;
    spec.fully_connected = None;
    spec.fully_connected_unbiased = None;
}

fn fill(spec: &mut Spec, classes: &[Class], unsaid: &mut Vec<String>) {
    // The largest class of each kind and signedness speaks for it.
    let mut chosen: Vec<&Class> = Vec::new();
    for class in classes {
        let same = |own: &&Class| own.kind == class.kind && own.unsigned == class.unsigned;
        match chosen.iter().position(same) {
            None => chosen.push(class),
            Some(at) => {
                let (kept, other) = if chosen[at].elements() >= class.elements() {
                    (chosen[at], class)
                } else {
                    (class, chosen[at])
                };
                chosen[at] = kept;
                let tensors: Vec<&str> = other.layers.iter().map(|l| l.tensor.as_str()).collect();
                unsaid.push(format!(
                    "layers of kind '{}' have different rules, and a spec has one: not said of {}: {}",
                    class.kind,
                    tensors.join(", "),
                    other.point.text()
                ));
            }
        }
    }
    if let Some(whole) = chosen.iter().find(|class| class.point.whole.is_some()) {
        unsaid.push(format!(
            "the rules are those of target '{}', taken as a whole",
            whole.point.whole.as_deref().unwrap_or_default()
        ));
        return;
    }
    let signed: Vec<&&Class> = chosen.iter().filter(|class| !class.unsigned).collect();
    let unsigned: Vec<&&Class> = chosen.iter().filter(|class| class.unsigned).collect();
    let (first, second) = if signed.is_empty() {
        (unsigned, signed)
    } else {
        (signed, unsigned)
    };
    shared(spec, &first, &second, unsaid);
    let exact = spec.requantize.multiplier == align_check_specs::Multiplier::Exact;
    if spec.bias.format == align_check_specs::BiasFormat::Exact && !exact {
        // Nothing was recorded of a bias.
        spec.bias.format = align_check_specs::BiasFormat::Int32;
    }
    for class in &first {
        section(spec, class, unsaid);
    }
    let mut own = spec.clone();
    free(&mut own);
    own.convolution = None;
    for class in &second {
        section(&mut own, class, unsaid);
    }
    let mut other = Unsigned::default();
    macro_rules! differs {
        ($($field:ident),+) => {$(
            if own.$field.is_some() && own.$field.as_ref() != Some(spec.of_field(stringify!($field))) {
                other.$field = own.$field.clone();
            }
        )+};
    }
    differs!(convolution, depthwise, transposed, fully_connected);
    if own.ops != Ops::default() {
        other.ops = own.ops.clone();
    }
    if !second.is_empty() && other != Unsigned::default() {
        spec.unsigned = Some(other);
    }
}

/// `[bias]`, `[accumulator]`, `[quantize]` and `[requantize]` are shared by all kinds: a point of each is taken that
/// fits the others, where there is one.
fn shared(spec: &mut Spec, first: &[&&Class], second: &[&&Class], unsaid: &mut Vec<String>) {
    let all: Vec<&Class> = first.iter().chain(second).map(|class| **class).collect();
    let sums: Vec<&Class> = all.iter().copied().filter(|c| is_sums(c.kind)).collect();
    if let Some(lead) = sums.iter().max_by_key(|class| class.elements()) {
        let common =
            lead.verified
                .iter()
                .find(|point| {
                    sums.iter().all(|class| {
                        class.verified.iter().any(|own| {
                            own.bias == point.bias && own.accumulator == point.accumulator
                        })
                    })
                })
                .unwrap_or(&lead.point);
        if let (Some(bias), Some(accumulator)) = (&common.bias, &common.accumulator) {
            spec.bias = bias.clone();
            spec.accumulator = accumulator.clone();
        }
        if let Some(rule) = &common.requantize {
            spec.requantize = rule.clone();
        }
    }
    let agree = |wanted: &dyn Fn(&Point) -> bool, classes: &[&Class]| {
        classes
            .iter()
            .all(|class| class.verified.iter().any(wanted))
    };
    let quantized: Vec<&Class> = all
        .iter()
        .copied()
        .filter(|c| c.point.quantize.is_some())
        .collect();
    let of_input = quantized
        .iter()
        .find(|class| class.kind == QUANTIZE)
        .or(quantized.first());
    if let Some(lead) = of_input {
        let common = lead
            .verified
            .iter()
            .find(|point| agree(&|own| own.quantize == point.quantize, &quantized));
        if common.is_none() {
            let kinds: Vec<&str> = quantized.iter().map(|class| class.kind).collect();
            unsaid.push(format!(
                "no one [quantize] fits all of {}",
                kinds.join(", ")
            ));
        }
        if let Some(rule) = common.unwrap_or(&lead.point).quantize.clone() {
            spec.quantize = rule;
        }
    }
    let referring: Vec<&Class> = all
        .iter()
        .copied()
        .filter(|c| !is_sums(c.kind) && c.point.requantize.is_some())
        .collect();
    if let Some(lead) = referring.first() {
        // First the rule that sums have, then any that all operations share.
        let own = Some(spec.requantize.clone());
        let by_sums = |rule: &Option<Requantize>| {
            agree(&|point| point.requantize == *rule, &referring).then(|| rule.clone())
        };
        let common = by_sums(&own).flatten().or_else(|| {
            let rules = lead.verified.iter().map(|point| &point.requantize);
            rules.into_iter().find_map(|rule| by_sums(rule).flatten())
        });
        if let Some(rule) = common {
            if !sums.is_empty() && rule != spec.requantize {
                // Sums have sections of their own.
                spec.convolution = Some(spec.requantize.clone());
                spec.fully_connected = Some(spec.requantize.clone());
            }
            spec.requantize = rule;
        } else {
            let kinds: Vec<&str> = referring.iter().map(|class| class.kind).collect();
            unsaid.push(format!(
                "no one [requantize] fits all of {}",
                kinds.join(", ")
            ));
        }
    }
}

/// The section of one kind, where it differs from what is shared.
fn section(spec: &mut Spec, class: &Class, unsaid: &mut Vec<String>) {
    if !is_sums(class.kind) {
        let point = class
            .verified
            .iter()
            .find(|point| {
                point
                    .requantize
                    .as_ref()
                    .is_none_or(|rule| *rule == spec.requantize)
                    && point
                        .quantize
                        .as_ref()
                        .is_none_or(|rule| *rule == spec.quantize)
            })
            .unwrap_or(&class.point);
        if let Some(op) = point.op {
            op.set(&mut spec.ops);
        }
        return;
    }
    let fits = |point: &&Point| {
        point.bias.as_ref() == Some(&spec.bias)
            && point.accumulator.as_ref() == Some(&spec.accumulator)
    };
    let shared = |point: &&Point| {
        fits(point) && point.requantize.as_ref() == Some(spec.of_field(class.kind))
    };
    if class.verified.iter().any(|point| shared(&point)) {
        return;
    }
    let found = class.verified.iter().find(fits);
    let point = found.unwrap_or(&class.point);
    let mut rule = point.requantize.clone();
    if found.is_none() {
        let accumulator = point.accumulator.as_ref() == Some(&spec.accumulator);
        if class.kind.starts_with("fully-connected") && accumulator {
            if let Some(rule) = &mut rule {
                rule.bias.clone_from(&point.bias);
            }
        } else {
            unsaid.push(format!(
                "'{}' wants a bias or an accumulator of its own: {}",
                class.kind,
                point.text()
            ));
        }
    }
    match class.kind {
        "depthwise" => spec.depthwise = rule,
        "transposed" => spec.transposed = rule,
        "fully-connected" => spec.fully_connected = rule,
        "fully-connected-unbiased" => spec.fully_connected_unbiased = rule,
        _ => spec.convolution = rule,
    }
}

/// The rules of a section of sums, by its field or its label.
trait OfField {
    fn of_field(&self, field: &str) -> &Requantize;
}

impl OfField for Spec {
    fn of_field(&self, field: &str) -> &Requantize {
        use align_check_specs::Product;
        let product = match field {
            "depthwise" => Product::Depthwise,
            "transposed" => Product::Transposed,
            "fully_connected" | "fully-connected" => Product::FullyConnected,
            "fully-connected-unbiased" => Product::FullyConnectedUnbiased,
            _ => Product::Convolution,
        };
        self.of_product(product).0
    }
}

fn unknowns(classes: &[Class]) -> Vec<String> {
    let mut found = Vec::new();
    for class in classes {
        for one in &class.undecided {
            let mut others = one.either.clone();
            others.extend(one.together.iter().cloned());
            others.truncate(8);
            let line = format!(
                "{}: {} is '{}' here, and could be {}: {}",
                class.kind,
                one.decision,
                one.value,
                others.join(" / "),
                one.why
            );
            if !found.contains(&line) {
                found.push(line);
            }
        }
        let count = class.count();
        if count.differing > 0 {
            found.push(format!(
                "{}: {} of {} elements are not explained",
                class.kind,
                count.differing,
                class.elements()
            ));
        }
    }
    found
}
