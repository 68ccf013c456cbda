//! The list of layers: a line each, which opens.

use std::fmt::Write as _;

use super::super::text::{number, percent, thousands, xml};
use super::super::view::{self, Untaken};
use super::words::{self, Words, name, said};
use super::{charts, drift, plan};
use crate::outcome::{Cause, LayerOutcome, Stats, TargetOutcome, Witness};

/// Heads of the columns: what they sort by, and whether the largest comes first.
const COLUMNS: [(Words, &str, bool); 6] = [
    (words::VERDICT, "verdict", true),
    (words::LAYER, "number", false),
    (words::COL_ISOLATED, "isolated", true),
    (words::COL_CUMULATIVE, "cumulative", true),
    (words::CAUSE, "cause", false),
    (words::GRADE, "grade", false),
];

/// All layers, worst first. `numbers` are the layers' places in the network.
pub(super) fn list(out: &mut String, target: &TargetOutcome, id: usize, numbers: &[usize]) {
    // Writing to a String cannot fail, here and below.
    let _ = write!(
        out,
        "<h3 id=\"t{id}-layers\">{}</h3>\n<p class=\"dim hint\">{} \
         <input type=\"search\" class=\"find\" data-en=\"{}\" data-zh=\"{}\" placeholder=\"{2}\"></p>\n\
         <div class=\"layers\"><div class=\"line heads\">",
        words::LAYERS.html(),
        words::LAYERS_HINT.html(),
        words::FIND.en,
        words::FIND.zh
    );
    for (words, key, large_first) in COLUMNS {
        let _ = write!(
            out,
            "<button data-by=\"{key}\" data-down=\"{}\">{}</button>",
            u8::from(large_first),
            words.html()
        );
    }
    out.push_str("</div>\n");
    let all: Vec<&LayerOutcome> = target.layers.iter().collect();
    let most = view::scale(&all, view::decisive);
    for layer in view::worst_first(target) {
        let at = target
            .layers
            .iter()
            .position(|other| std::ptr::eq(other, layer))
            .unwrap_or(0);
        line(out, target, layer, (id, at), numbers[at], most);
    }
    out.push_str("</div>\n");
}

fn line(
    out: &mut String,
    target: &TargetOutcome,
    layer: &LayerOutcome,
    (id, at): (usize, usize),
    number: usize,
    most: f64,
) {
    let sort = |stats: Option<&Stats>| stats.map_or(-1.0, Stats::rate);
    let cause = layer.cause.as_ref();
    let _ = write!(
        out,
        "<details class=\"layer {}\" id=\"t{id}-{at}\" data-number=\"{number}\" data-verdict=\"{}\" \
         data-isolated=\"{:e}\" data-cumulative=\"{:e}\" data-cause=\"{}\" data-grade=\"{}\"><summary class=\"line\">\
         <span class=\"word\">{}</span><span><span class=\"dim\">{number}</span> {} <code class=\"dim\">{}</code></span>",
        view::look(layer.verdict).class,
        layer.verdict as u8,
        sort(layer.isolated.as_ref()),
        sort(layer.cumulative.as_ref()),
        xml(cause.map_or("", |cause| &cause.name)),
        xml(&layer.grade),
        words::verdict(layer.verdict),
        name(&layer.name),
        xml(&layer.op),
    );
    for stats in [&layer.isolated, &layer.cumulative] {
        let text = stats
            .as_ref()
            .map_or_else(String::new, |stats| rate(layer, stats, most));
        let _ = write!(out, "<span class=\"num\">{text}</span>");
    }
    let why = match cause {
        Some(cause) => explains(cause),
        None => layer.absent.as_deref().map(said).unwrap_or_default(),
    };
    let _ = writeln!(
        out,
        "<span>{why}</span><span>{}</span></summary>\n<div class=\"more\">{}</div></details>",
        words::grade(&layer.grade),
        more(target, layer)
    );
}

/// A rate, its largest difference, and a bar.
fn rate(layer: &LayerOutcome, stats: &Stats, most: f64) -> String {
    let mut text = xml(&percent(stats.rate()));
    if stats.differing > 0 {
        let width = (100.0 * stats.rate() / most).clamp(0.5, 100.0);
        let _ = write!(
            text,
            " <span class=\"dim\">{}</span><span class=\"bar\"><i style=\"width:{width:.1}%\"></i></span>",
            max(stats, layer.lsb.is_some())
        );
    }
    text
}

/// `max 37 LSB`.
pub(super) fn max(stats: &Stats, quantized: bool) -> String {
    let words = if quantized {
        words::MAX_LSB
    } else {
        words::MAX_UNIT
    };
    words.with(&[&number(stats.max_lsb)])
}

/// `rounding: explains 80 of 80`.
fn explains(cause: &Cause) -> String {
    let cause_name = words::cause(&cause.name);
    if cause.explains == 0 {
        return cause_name;
    }
    let [explains, of] = [cause.explains, cause.of].map(thousands);
    words::EXPLAINS.with(&[&cause_name, &explains, &of])
}

/// What a line shows when it is open.
fn more(target: &TargetOutcome, layer: &LayerOutcome) -> String {
    let mut facts = String::new();
    let mut fact = |words: Words, text: &str| {
        let _ = write!(facts, "<dt>{}</dt><dd>{text}</dd>", words.html());
    };
    fact(words::TENSOR, &name(&layer.tensor));
    if let Some(why) = view::absent(layer) {
        fact(words::ABSENT, &said(&why));
    }
    if let Some(cause) = &layer.cause {
        fact(
            words::CAUSE,
            &format!(
                "<b>{}</b><br>{}{}",
                explains(cause),
                words::meaning(&cause.name),
                said(&cause.text)
            ),
        );
        let tried: Vec<String> = cause
            .tried
            .iter()
            .map(|(name, explains)| format!("{} {}", words::cause(name), thousands(*explains)))
            .collect();
        if !tried.is_empty() {
            fact(words::TRIED, &tried.join("<br>"));
        }
    }
    if let Some(witness) = &layer.witness {
        fact(words::WITNESS, &self::witness(witness));
    }
    for why in &layer.mismatches {
        let what = match Untaken::of(why) {
            Untaken::Grids => words::GRID,
            Untaken::Biases => words::BIAS,
        };
        fact(what, &said(why));
    }
    if let Some(plan) = plan::of_tensor(target, &layer.tensor) {
        fact(words::PLAN_HERE, &plan);
    }
    for (words, stats) in [
        (words::COL_ISOLATED, &layer.isolated),
        (words::COL_CUMULATIVE, &layer.cumulative),
    ] {
        if let Some(stats) = stats {
            fact(words, &numbers(stats, layer.lsb.is_some()));
        }
    }
    if let Some(drift) = layer.drift.as_ref().and_then(drift::of_layer) {
        fact(words::NAV_DRIFT, &drift);
    }
    if let Some(factor) = view::amplification(layer).filter(|&factor| factor > 1.0) {
        fact(
            words::COL_CUMULATIVE,
            &words::AMPLIFIED.with(&[&number(factor)]),
        );
    }
    if let Some(lsb) = layer.lsb {
        fact(words::ELEMENTS, &words::STEP.with(&[&format!("{lsb:?}")]));
    }
    let mut rules: Vec<String> = layer.rules.iter().map(|rule| name(rule)).collect();
    rules.push(words::grade(&layer.grade));
    fact(words::RULES, &rules.join(" "));
    let mut pictures = String::new();
    if let Some(stats) = view::decisive(layer).filter(|stats| stats.differing > 0) {
        let title = if layer.lsb.is_some() {
            words::HISTOGRAM_ONE
        } else {
            words::HISTOGRAM_UNIT
        };
        pictures.push_str(&charts::histogram(&stats.histogram, title));
        if layer.isolated.is_some() {
            pictures.push_str(&charts::parts_bar(stats));
        }
    }
    format!("<dl>{facts}</dl><div class=\"pictures\">{pictures}</div>")
}

/// What statistics say in one line.
pub(super) fn numbers(stats: &Stats, quantized: bool) -> String {
    if stats.differing == 0 {
        return words::ALL_AGREE.with(&[&thousands(stats.elements)]);
    }
    let mut text = words::SHARE_OF.with(&[
        &thousands(stats.differing),
        &thousands(stats.elements),
        &xml(&percent(stats.rate())),
        &max(stats, quantized),
    ]);
    if let Some(sqnr) = stats.sqnr_db {
        let signal = words::SIGNAL.with(&[&format!("{:.6}", stats.cosine), &number(sqnr)]);
        let _ = write!(text, "<br><span class=\"dim\">{signal}</span>");
    }
    text
}

fn witness(witness: &Witness) -> String {
    let index: Vec<String> = witness.index.iter().map(ToString::to_string).collect();
    let index = format!("[{}]", index.join(", "));
    let mut parts = vec![words::AT_ELEMENT.with(&[&witness.sample.to_string(), &index])];
    if let Some(accumulator) = witness.accumulator {
        parts.push(words::ACCUMULATOR.with(&[&number(accumulator)]));
    }
    if let Some(multiplier) = &witness.multiplier {
        parts.push(words::MULTIPLIER.with(&[&name(multiplier)]));
    }
    if let Some(before) = witness.before_rounding {
        parts.push(words::BEFORE.with(&[&before.to_string()]));
    }
    let [expected, got] = [witness.expected, witness.got].map(view::exact);
    parts.push(words::EXPECTED.with(&[&expected, &got]));
    words::join(&parts)
}
