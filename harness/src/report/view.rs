//! What several formats say in the same words.

use std::fmt::Write as _;

use align_check_simulators::plan::is_of_bias;
use anstyle::AnsiColor;

use super::text::{count, number, percent, thousands, visible};
use crate::cases::Case;
use crate::outcome::{
    Against, Cause, Drift, Drifted, Floor, LayerOutcome, Outcome, OutputOutcome, Stats,
    TargetOutcome, Trace, Verdict, Witness,
};

/// All verdicts, worst first.
pub(crate) const VERDICTS: [Verdict; 8] = [
    Verdict::UnknownRule,
    Verdict::Misaligned,
    Verdict::FloatOnTarget,
    Verdict::WithinTolerance,
    Verdict::WithinNoise,
    Verdict::Aligned,
    Verdict::Proved,
    Verdict::NoSuchTensor,
];

/// The worst verdict of all targets.
pub(crate) fn worst(outcome: &Outcome) -> Verdict {
    outcome
        .targets
        .iter()
        .map(|target| target.verdict)
        .max()
        .unwrap_or(Verdict::Aligned)
}

/// The largest exit code of all targets.
pub(crate) fn exit_code(outcome: &Outcome) -> u8 {
    outcome
        .targets
        .iter()
        .map(|target| target.exit_code)
        .max()
        .unwrap_or(0)
}

/// The first layer that fails, in graph order.
pub(crate) fn first_divergent(target: &TargetOutcome) -> Option<&LayerOutcome> {
    target.layers.iter().find(|layer| layer.verdict.fails())
}

/// How many layers have a verdict.
pub(crate) fn layers_with(target: &TargetOutcome, verdict: Verdict) -> usize {
    target
        .layers
        .iter()
        .filter(|layer| layer.verdict == verdict)
        .count()
}

/// How many layers fail.
pub(crate) fn failing(target: &TargetOutcome) -> usize {
    let layers = target.layers.iter();
    layers.filter(|layer| layer.verdict.fails()).count()
}

/// The statistics that a layer is judged by.
pub(crate) fn decisive(layer: &LayerOutcome) -> Option<&Stats> {
    layer.isolated.as_ref().or(layer.cumulative.as_ref())
}

/// The rate that a full bar stands for: the largest one, of the layers that are not in float if there are
/// any (a float differs by its last bit almost everywhere).
pub(crate) fn scale<'a>(
    layers: &[&'a LayerOutcome],
    stats: impl Fn(&'a LayerOutcome) -> Option<&'a Stats>,
) -> f64 {
    let most = |float: bool| {
        layers
            .iter()
            .copied()
            .filter(|layer| layer.float == float)
            .filter_map(&stats)
            .map(Stats::rate)
            .fold(0.0, f64::max)
    };
    match most(false) {
        0.0 => most(true).max(f64::MIN_POSITIVE),
        rate => rate,
    }
}

/// Layers, worst first: by verdict, then by the largest difference, then by rate, then in graph order.
pub(crate) fn worst_first(target: &TargetOutcome) -> Vec<&LayerOutcome> {
    let mut layers: Vec<&LayerOutcome> = target.layers.iter().collect();
    let key = |layer: &LayerOutcome| {
        decisive(layer).map_or((0.0, 0.0), |stats| (stats.max_lsb, stats.rate()))
    };
    layers.sort_by(|a, b| {
        let ((a_lsb, a_rate), (b_lsb, b_rate)) = (key(a), key(b));
        b.verdict
            .cmp(&a.verdict)
            .then(b_lsb.total_cmp(&a_lsb))
            .then(b_rate.total_cmp(&a_rate))
    });
    layers
}

/// How many times more elements differ when the layers before differ too; 3 digits.
pub(crate) fn amplification(layer: &LayerOutcome) -> Option<f64> {
    let isolated = layer.isolated.as_ref()?.differing.max(1);
    let cumulative = layer.cumulative.as_ref()?.differing;
    let value = cumulative as f64 / isolated as f64;
    Some((value * 1000.0).round() / 1000.0)
}

/// `max 37 LSB`, or in the tensor's unit where it has no step.
pub(crate) fn difference(max_lsb: f64, quantized: bool) -> String {
    let unit = if quantized {
        " LSB"
    } else {
        " in the tensor's unit"
    };
    format!("max {}{unit}", number(max_lsb))
}

/// `conv1 (Conv+Relu)`.
pub(crate) fn named(layer: &LayerOutcome) -> String {
    format!("{} ({})", visible(&layer.name), visible(&layer.op))
}

/// How reports show a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    /// As the first thing that is read.
    pub shout: &'static str,
    /// [`Verdict::text`] in Chinese.
    pub zh: &'static str,
    /// The class of the style sheet in `html/style.css`.
    pub class: &'static str,
    /// The colour in other programs' pictures; white text is readable on it.
    pub color: &'static str,
    /// On terminals.
    pub ansi: AnsiColor,
    /// SARIF's level of a result.
    pub level: &'static str,
}

/// The one table of what a verdict looks like.
#[rustfmt::skip]
pub(crate) fn look(verdict: Verdict) -> Look {
    let look = |shout, zh, class, color, ansi, level| Look { shout, zh, class, color, ansi, level };
    match verdict {
        Verdict::NoSuchTensor => look("NO SUCH TENSOR", "目标上没有该张量", "absent", "#6f6e77", AnsiColor::Magenta, "none"),
        Verdict::Proved => look("ALIGNED, proved", "一致（已证明）", "aligned", "#1b7350", AnsiColor::Green, "none"),
        Verdict::Aligned => look("ALIGNED, tested", "一致（已测试）", "aligned", "#1b7350", AnsiColor::Green, "none"),
        Verdict::WithinNoise => look("WITHIN NOISE", "噪声范围内", "noise", "#0b68b8", AnsiColor::Cyan, "none"),
        Verdict::WithinTolerance => look("WITHIN TOLERANCE", "容差范围内", "tolerance", "#7a6100", AnsiColor::Yellow, "note"),
        Verdict::FloatOnTarget => look("FLOAT ON TARGET", "目标以浮点计算", "float", "#b54708", AnsiColor::Yellow, "note"),
        Verdict::Misaligned => look("MISALIGNED", "不一致", "misaligned", "#ce2c31", AnsiColor::Red, "error"),
        Verdict::UnknownRule => look("UNKNOWN RULE", "未知规则", "unknown", "#8347b9", AnsiColor::Red, "error"),
    }
}

/// The verdict word of a target, as the first thing that is read.
pub(crate) fn shout(verdict: Verdict) -> &'static str {
    look(verdict).shout
}

/// The verdict on a target in one sentence, without the target's name and the verdict.
pub(crate) fn headline(target: &TargetOutcome, inputs: usize) -> String {
    let layers = target.layers.len();
    let misaligned = failing(target);
    let mut parts = Vec::new();
    if misaligned > 0 {
        parts.push(format!(
            "{} of {} {}",
            thousands(misaligned as u64),
            count(layers, "layer"),
            if misaligned == 1 { "differs" } else { "differ" },
        ));
        let mut places = Vec::new();
        if let Some(first) = first_divergent(target) {
            places.push(format!("first: {}", named(first)));
        }
        if let Some(&layer) = worst_first(target).first()
            && let Some(stats) = decisive(layer)
        {
            let difference = difference(stats.max_lsb, layer.lsb.is_some());
            places.push(if misaligned == 1 {
                difference
            } else {
                format!("worst: {}, {difference}", visible(&layer.name))
            });
        }
        parts.push(places.join(", "));
    } else {
        let differing: u64 = target
            .layers
            .iter()
            .filter_map(decisive)
            .map(|stats| stats.differing)
            .sum();
        let what = if differing == 0 {
            "no element differs"
        } else {
            "no layer is misaligned"
        };
        parts.push(format!(
            "{}, {what} on {}",
            count(layers, "layer"),
            count(inputs, "input")
        ));
    }
    for verdict in [
        Verdict::UnknownRule,
        Verdict::FloatOnTarget,
        Verdict::WithinTolerance,
        Verdict::WithinNoise,
        Verdict::Proved,
        Verdict::NoSuchTensor,
    ] {
        let layers = layers_with(target, verdict);
        if layers > 0 {
            parts.push(format!("{} {}", thousands(layers as u64), verdict.text()));
        }
    }
    parts.push(format!("weakest grade: {}", visible(&target.grade)));
    parts.join("; ")
}

/// The model, the inputs and what it was compared with, in one sentence.
pub(crate) fn setting(outcome: &Outcome) -> String {
    let inputs = match outcome.generated {
        Some(seed) => {
            format!(
                "{} generated from seed {seed}",
                count(outcome.inputs, "input")
            )
        }
        None => count(outcome.inputs, "input"),
    };
    let interrupted = super::answers::interrupted(outcome);
    let interrupted = interrupted.map(|text| text + ". ").unwrap_or_default();
    format!(
        "{interrupted}{} ({}), {inputs}, against {}",
        visible(&outcome.model.path),
        visible(&outcome.model.format),
        against(&outcome.against),
    )
}

fn against(against: &Against) -> String {
    match against {
        Against::Reference => "the exact reference".to_owned(),
        Against::RecordedReference { file, .. } => {
            format!("the recorded fake-quant run {}", visible(file))
        }
        Against::Recording { file, .. } => {
            format!("the target's recording {}", visible(file))
        }
    }
}

/// Tensors that a recording lacks, and what that means for the check.
pub(crate) fn missing(against: &Against) -> Option<(&[String], &'static str)> {
    let (missing, what) = match against {
        Against::Reference => return None,
        Against::RecordedReference { missing, .. } => {
            (missing, "the exact reference stands in for")
        }
        Against::Recording { missing, .. } => (missing, "not compared, the recording lacks"),
    };
    (!missing.is_empty()).then_some((missing, what))
}

/// `rounding explains 80 of 80`.
pub(crate) fn cause(cause: &Cause) -> String {
    let name = visible(&cause.name);
    if cause.explains == 0 {
        return name;
    }
    let looked_at = if cause.of < cause.differing {
        " looked at"
    } else {
        ""
    };
    let verb = if cause.decisions.len() > 1 {
        "explain"
    } else {
        "explains"
    };
    format!(
        "{name} {verb} {} of {}{looked_at}",
        thousands(cause.explains),
        thousands(cause.of)
    )
}

/// `placement.chains: only the quantizer of 'y' reads it`, where the target has no such tensor.
pub(crate) fn absent(layer: &LayerOutcome) -> Option<String> {
    let why = layer.absent.as_deref()?;
    Some(format!("{}: {}", layer.rules.join(", "), visible(why)))
}

/// `8/9,375,627`.
pub(crate) fn share(stats: &Stats) -> String {
    format!(
        "{}/{}",
        thousands(stats.differing),
        thousands(stats.elements)
    )
}

/// The element that shows a difference, in one sentence.
pub(crate) fn witness(witness: &Witness) -> String {
    let index: Vec<String> = witness.index.iter().map(ToString::to_string).collect();
    let mut parts = vec![format!("sample {} [{}]", witness.sample, index.join(", "))];
    if let Some(accumulator) = witness.accumulator {
        parts.push(format!("accumulator {}", number(accumulator)));
    }
    if let Some(multiplier) = &witness.multiplier {
        parts.push(format!("multiplier {}", visible(multiplier)));
    }
    if let Some(before) = witness.before_rounding {
        parts.push(format!("{before} before rounding"));
    }
    parts.push(format!(
        "expected {}, got {}",
        exact(witness.expected),
        exact(witness.got)
    ));
    parts.join(", ")
}

/// All digits: two reals that differ must not look the same.
pub(crate) fn exact(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        number(value)
    } else {
        format!("{value:?}")
    }
}

/// What was found at a model output.
pub(crate) fn output(target: &TargetOutcome, output: &OutputOutcome) -> String {
    let stats = &output.stats;
    // The layer that makes it knows whether it has a step.
    let layer = target
        .layers
        .iter()
        .find(|layer| layer.tensor == output.tensor);
    let max = match layer {
        Some(layer) => difference(stats.max_lsb, layer.lsb.is_some()),
        None => format!("max {}", number(stats.max_lsb)),
    };
    let codes = if stats.differing == 0 {
        format!("all {} elements agree", thousands(stats.elements))
    } else {
        format!(
            "{} elements differ ({}), {max}",
            share(stats),
            percent(stats.rate())
        )
    };
    format!(
        "{}: {codes}; argmax flips {} of {}",
        visible(&output.tensor),
        thousands(output.argmax_flips),
        thousands(output.samples),
    )
}

/// How far a target drifts when it runs on its own results, and whether the model's own noise does, too.
pub(crate) fn drift(drifted: &Drifted) -> String {
    let own = format!(
        "{} of {} codes differ when the target runs on its own results, {} of them at the outputs",
        thousands(drifted.differing),
        thousands(drifted.elements),
        thousands(drifted.outputs)
    );
    let Some(noise) = &drifted.baseline else {
        return own;
    };
    let at_outputs = noise
        .outputs
        .map(|outputs| format!(", {} at the outputs", thousands(outputs)))
        .unwrap_or_default();
    let noise = format!("{}{at_outputs}", thousands(noise.differing));
    if drifted.within_baseline == Some(true) {
        format!(
            "not above the noise of the fake-quant model itself in float32: {own}; the model's own in float32: {noise}. \
             The target has not drifted"
        )
    } else {
        format!("{own}; of the fake-quant model itself in float32: {noise}")
    }
}

/// Where a layer's differing elements come from.
pub(crate) fn drift_of(drift: &Drift) -> Option<String> {
    let differing = drift.introduced + drift.propagated;
    (differing > 0).then(|| {
        let mut text = format!(
            "{} introduced here, {} propagated",
            thousands(drift.introduced),
            thousands(drift.propagated)
        );
        if drift.amplified > 0 {
            let _ = write!(
                text,
                "; {} amplified here (inputs up to {} LSB off)",
                thousands(drift.amplified),
                number(drift.inputs_max_lsb)
            );
        }
        text
    })
}

/// What became of the minimal cases.
pub(crate) fn cases(cases: &[Case]) -> String {
    let mut text = String::new();
    for case in cases {
        let layer = visible(&case.layer);
        // Writing to a String cannot fail.
        let _ = match &case.written {
            Ok((folder, differing)) => writeln!(
                text,
                "case of {layer}: {} ({}; {} has the command)",
                visible(&folder.display().to_string()),
                count(*differing as usize, "differing element"),
                crate::cases::COMMAND
            ),
            Err(why) => writeln!(text, "no case of {layer}: {}", visible(why)),
        };
    }
    if cases.is_empty() {
        text.push_str("no case: no layer is an unknown rule\n");
    }
    text
}

/// Which layers' differences reach the worst output element.
pub(crate) fn trace(trace: &Trace) -> Vec<String> {
    let index: Vec<String> = trace.index.iter().map(ToString::to_string).collect();
    let mut lines = vec![format!(
        "{}[{}] of sample {} is {} LSB off; of {} that introduce differences, {} alone:",
        visible(&trace.tensor),
        index.join(", "),
        trace.sample,
        number(trace.lsb),
        count(
            usize::try_from(trace.introducing).unwrap_or(usize::MAX),
            "layer"
        ),
        trace.layers.len()
    )];
    lines.extend(trace.layers.iter().map(|layer| {
        format!(
            "{}: its {} alone make {} LSB of it, and {} of the output differ",
            visible(&layer.layer),
            count(layer.differing as usize, "differing code"),
            number(layer.lsb),
            thousands(layer.outputs)
        )
    }));
    lines
}

/// How far a recorded fake-quant run is from exact arithmetic, and what that means.
pub(crate) fn floor(floor: &Floor) -> String {
    let isolated = &floor.isolated;
    let mut text = if isolated.differing == 0 {
        format!(
            "The recorded fake-quant run and exact arithmetic agree in all {} codes fed layer by layer.",
            thousands(isolated.elements)
        )
    } else {
        let distance = if floor.beyond_noise == 0 && floor.furthest_from_tie == 0.0 {
            "all in unquantized tensors, and no further than float32 sums may be.".to_owned()
        } else if floor.beyond_noise == 0 {
            format!(
                "all within {} LSB of a tie: float32 summation order.",
                number(floor.furthest_from_tie)
            )
        } else {
            format!(
                "{} of them further from a tie than float32 summation order explains (up to {} LSB): \
                 the run was made with other arithmetic, other inputs or another model.",
                thousands(floor.beyond_noise),
                number(floor.furthest_from_tie)
            )
        };
        format!(
            "The recorded fake-quant run and exact arithmetic differ in {} of {} codes fed layer by \
             layer, {distance}",
            thousands(isolated.differing),
            thousands(isolated.elements),
        )
    };
    if floor.free.differing > 0 {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            " Run freely they differ in {} codes ({}): no target's cumulative drift below that means \
             anything.",
            thousands(floor.free.differing),
            percent(floor.free.rate())
        );
    } else if floor.free.elements > 0 {
        text.push_str(" Run freely they agree in every code.");
    }
    text
}

/// Grids or biases of a target that are not the model's, for one reason.
#[derive(Debug, PartialEq)]
pub(crate) struct Mismatch {
    /// Tensors and layers that it was told of.
    pub count: usize,
    /// One of them.
    pub example: String,
    /// The reason, as told for that one.
    pub why: String,
    /// Layers that can show what it costs.
    pub layers: usize,
    /// Their largest difference, in LSB.
    pub max_lsb: f64,
    /// Their mean rate of differing elements.
    pub mean_rate: f64,
}

/// What of the model a target may not take over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Untaken {
    /// Grids of tensors and weights.
    Grids,
    /// Steps of biases.
    Biases,
}

impl Untaken {
    /// What a reason tells of.
    pub fn of(why: &str) -> Self {
        if is_of_bias(why) {
            Self::Biases
        } else {
            Self::Grids
        }
    }

    /// The first line about it.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Grids => {
                "FIRST: the model's grid is not the chip's. No rounding rule can repair that; retrain or requantize \
                 the model on the chip's grid, or accept this cost:"
            }
            Self::Biases => {
                "The model's bias steps are not the chip's: its integer accumulators add biases in steps of input \
                 scale times weight scale. Export them with that scale, or accept this cost:"
            }
        }
    }
}

/// What of the model the target does not take over: grids, then biases.
pub(crate) fn mismatches(target: &TargetOutcome) -> Vec<(Untaken, Vec<Mismatch>)> {
    [Untaken::Grids, Untaken::Biases]
        .into_iter()
        .map(|what| (what, grouped(target, |why| Untaken::of(why) == what)))
        .filter(|(_, groups)| !groups.is_empty())
        .collect()
}

/// Groups the reasons that differ only in their numbers; the most expensive first.
fn grouped(target: &TargetOutcome, wanted: impl Fn(&str) -> bool) -> Vec<Mismatch> {
    struct Group<'a> {
        key: String,
        why: &'a str,
        members: Vec<(&'a str, &'a str)>,
    }
    let told = target
        .mismatches
        .iter()
        .map(|(tensor, why)| (tensor.as_str(), why.as_str()));
    let of_layers = target.layers.iter().flat_map(|layer| {
        layer
            .mismatches
            .iter()
            .map(|why| (layer.tensor.as_str(), why.as_str()))
    });
    let mut groups: Vec<Group> = Vec::new();
    for (tensor, why) in told.chain(of_layers).filter(|(_, why)| wanted(why)) {
        let key = without_numbers(why);
        match groups.iter_mut().find(|group| group.key == key) {
            Some(group) if group.members.contains(&(tensor, why)) => {}
            Some(group) => group.members.push((tensor, why)),
            None => groups.push(Group {
                key,
                why,
                members: vec![(tensor, why)],
            }),
        }
    }
    let mut found: Vec<Mismatch> = groups
        .iter()
        .map(|group| {
            let touched = |layer: &&LayerOutcome| {
                group
                    .members
                    .iter()
                    .any(|(tensor, _)| *tensor == layer.tensor)
            };
            let stats: Vec<&Stats> = target
                .layers
                .iter()
                .filter(touched)
                .filter_map(decisive)
                .collect();
            let total: f64 = stats.iter().map(|stats| stats.rate()).sum();
            Mismatch {
                count: group.members.len(),
                example: group.members[0].0.to_owned(),
                why: group.why.to_owned(),
                layers: stats.len(),
                max_lsb: stats.iter().map(|stats| stats.max_lsb).fold(0.0, f64::max),
                mean_rate: total / stats.len().max(1) as f64,
            }
        })
        .collect();
    found.sort_by(|a, b| b.max_lsb.total_cmp(&a.max_lsb).then(b.count.cmp(&a.count)));
    found
}

/// `grid: why`, or `bias: why`.
pub(crate) fn mismatch(why: &str) -> String {
    let what = match Untaken::of(why) {
        Untaken::Grids => "grid",
        Untaken::Biases => "bias",
    };
    format!("{what}: {why}")
}

/// What a mismatch costs.
pub(crate) fn cost(mismatch: &Mismatch) -> Option<String> {
    if mismatch.layers == 0 {
        return None;
    }
    Some(format!(
        "up to {} LSB, {} of the elements on average over {}",
        number(mismatch.max_lsb),
        percent(mismatch.mean_rate),
        count(mismatch.layers, "layer")
    ))
}

/// A text with `#` in place of every number (`12`, `-3.5`, `1e-05`).
fn without_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let chars: Vec<char> = text.chars().collect();
    let mut at = 0;
    while at < chars.len() {
        let digit = |at: usize| chars.get(at).is_some_and(char::is_ascii_digit);
        let sign = |at: usize| matches!(chars.get(at), Some('-' | '+'));
        let in_word = at > 0 && chars[at - 1].is_alphanumeric();
        if digit(at) || (sign(at) && !in_word && digit(at + 1)) {
            at += 1;
            while digit(at)
                || (chars.get(at) == Some(&'.') && digit(at + 1))
                || (chars.get(at) == Some(&'e')
                    && (digit(at + 1) || (sign(at + 1) && digit(at + 2))))
                || (sign(at) && chars[at - 1] == 'e')
            {
                at += 1;
            }
            out.push('#');
        } else {
            out.push(chars[at]);
            at += 1;
        }
    }
    out
}

/// What the causes are, in words, with the number of misaligned layers each.
pub(crate) fn causes(target: &TargetOutcome) -> Vec<(String, String, usize)> {
    let mut found: Vec<(String, String, String, usize)> = Vec::new();
    for layer in &target.layers {
        let Some(cause) = &layer.cause else { continue };
        let key = without_numbers(&cause.text);
        match found
            .iter_mut()
            .find(|(name, other, ..)| *name == cause.name && *other == key)
        {
            Some((.., layers)) => *layers += 1,
            None => found.push((cause.name.clone(), key, cause.text.clone(), 1)),
        }
    }
    found.sort_by_key(|&(.., layers)| std::cmp::Reverse(layers));
    found
        .into_iter()
        .map(|(name, _, text, layers)| (name, text, layers))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_do_not_make_reasons_differ() {
        assert_eq!(
            without_numbers("GFPQ 8 bit, z = -63 from 1.5: scale 1.2e-5 instead of 3e4, int8-x"),
            "GFPQ # bit, z = # from #: scale # instead of #, int#-x"
        );
    }
}
