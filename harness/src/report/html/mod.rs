//! The report for a browser.

mod charts;
mod drift;
mod graph;
mod heat;
mod layers;
mod layout;
mod plan;
mod words;

use std::collections::HashMap;
use std::fmt::Write as _;

use self::charts::Places;
use self::words::{Words, name, said};
use super::answers;
use super::text::{number, percent, thousands, xml};
use super::view::{self, Untaken};
use crate::outcome::{Against, Floor, LayerOutcome, Outcome, OutputOutcome, Stats, TargetOutcome};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("page.js");

/// More targets than this are folded, all but the first.
const OPEN: usize = 3;

/// The outcome as one HTML file: no external resource, light or dark as the reader's system is, in English and
/// Chinese.
pub fn html(outcome: &Outcome) -> String {
    let worst = view::worst(outcome);
    let mut out =
        String::from("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    // Writing to a String cannot fail, here and below.
    let _ = write!(
        out,
        "<meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n\
         <title>{}: {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<header><h1>align-check</h1>\
         <p class=\"langs\"><button data-lang=\"en\" lang=\"en\">English</button>\
         <button data-lang=\"zh\" lang=\"zh\">中文</button></p></header>\n",
        xml(&outcome.model.path),
        words::verdict_plain(worst),
    );
    for (id, target) in outcome.targets.iter().enumerate() {
        let _ = writeln!(
            out,
            "<div class=\"card {}\"><a href=\"#t{id}\">{}</a> <span class=\"word shout\">{}</span> {}</div>",
            view::look(target.verdict).class,
            name(&target.name),
            words::verdict(target.verdict),
            headline(target)
        );
    }
    for (target, why) in &outcome.unsupported {
        let _ = writeln!(
            out,
            "<div class=\"card unknown\">{} {} {}</div>",
            name(target),
            words::UNSUPPORTED.html(),
            said(why)
        );
    }
    let _ = writeln!(
        out,
        "<p>{}<br><span class=\"dim\">{}</span></p>",
        setting(outcome),
        words::SHA.with(&[&name(&outcome.model.sha256)])
    );
    if let Some(floor) = &outcome.floor {
        let _ = writeln!(
            out,
            "<div class=\"card noise\">{}</div>",
            self::floor(floor)
        );
    }
    missing(&mut out, &outcome.against);
    for (id, target) in outcome.targets.iter().enumerate() {
        part(&mut out, outcome, target, id);
    }
    sentences(&mut out, words::ASSUMED, &outcome.model.notes);
    let _ = write!(
        out,
        "<p class=\"dim\">{}</p>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        words::VERSION.with(&[env!("CARGO_PKG_VERSION")])
    );
    out
}

/// What was run, against what.
fn setting(outcome: &Outcome) -> String {
    let samples = thousands(outcome.inputs as u64);
    let inputs = match outcome.generated {
        Some(seed) => words::GENERATED.with(&[&samples, &seed.to_string()]),
        None => words::SAMPLES.with(&[&samples]),
    };
    let against = match &outcome.against {
        Against::Reference => words::AGAINST_EXACT.html(),
        Against::RecordedReference { file, .. } => words::AGAINST_RUN.with(&[&name(file)]),
        Against::Recording { file, .. } => words::AGAINST_RECORDING.with(&[&name(file)]),
    };
    let mut text = String::new();
    if let Some(all) = outcome.interrupted {
        text = format!(
            "<b>{}</b><br>",
            words::INTERRUPTED.with(&[&samples, &thousands(all as u64)])
        );
    }
    text + &words::SETTING.with(&[
        &name(&outcome.model.path),
        &name(&outcome.model.format),
        &inputs,
        &against,
    ])
}

/// The verdict on a target in one sentence.
fn headline(target: &TargetOutcome) -> String {
    let mut parts = Vec::new();
    let layers = thousands(target.layers.len() as u64);
    let failing = view::failing(target);
    if failing > 0 {
        parts.push(words::DIFFER.with(&[&thousands(failing as u64), &layers]));
        if let Some(first) = view::first_divergent(target) {
            parts.push(words::FIRST.with(&[&name(&first.name)]));
        }
        if let Some(&worst) = view::worst_first(target).first()
            && let Some(stats) = view::decisive(worst)
        {
            let max = layers::max(stats, worst.lsb.is_some());
            parts.push(words::WORST.with(&[&name(&worst.name), &max]));
        }
    } else {
        let differs = |stats: &Stats| stats.differing > 0;
        let any = target.layers.iter().filter_map(view::decisive).any(differs);
        let words = if any {
            words::NO_LAYER
        } else {
            words::NO_ELEMENT
        };
        parts.push(words.with(&[&layers]));
    }
    parts.push(words::WEAKEST.with(&[&words::grade(&target.grade)]));
    words::join(&parts)
}

/// How far a recorded fake-quant run is from exact arithmetic.
fn floor(floor: &Floor) -> String {
    let isolated = &floor.isolated;
    let [differing, elements] = [isolated.differing, isolated.elements].map(thousands);
    let furthest = number(floor.furthest_from_tie);
    let mut text = if isolated.differing == 0 {
        words::FLOOR_AGREE.with(&[&elements])
    } else if floor.beyond_noise > 0 {
        let beyond = thousands(floor.beyond_noise);
        words::FLOOR_BEYOND.with(&[&differing, &elements, &beyond, &furthest])
    } else if floor.furthest_from_tie == 0.0 {
        words::FLOOR_FLOATS.with(&[&differing, &elements])
    } else {
        words::FLOOR_TIES.with(&[&differing, &elements, &furthest])
    };
    let free = &floor.free;
    text.push(' ');
    if free.differing > 0 {
        let rate = xml(&percent(free.rate()));
        text += &words::FLOOR_FREE.with(&[&thousands(free.differing), &rate]);
    } else if free.elements > 0 {
        text += &words::FLOOR_FREE_NONE.html();
    }
    format!("<b>{}</b> {text}", words::FLOOR.html())
}

fn missing(out: &mut String, against: &Against) {
    let (missing, words) = match against {
        Against::Reference => return,
        Against::RecordedReference { missing, .. } => (missing, words::MISSING_RUN),
        Against::Recording { missing, .. } => (missing, words::MISSING_RECORDING),
    };
    if missing.is_empty() {
        return;
    }
    let names: Vec<String> = missing.iter().map(|tensor| name(tensor)).collect();
    let _ = writeln!(
        out,
        "<div class=\"card tolerance\">{} <b>{}</b> {}</div>",
        words.html(),
        thousands(missing.len() as u64),
        names.join(", ")
    );
}

/// Everything about one target.
fn part(out: &mut String, outcome: &Outcome, target: &TargetOutcome, id: usize) {
    let open = if id == 0 || outcome.targets.len() <= OPEN {
        " open"
    } else {
        ""
    };
    let _ = writeln!(
        out,
        "<details class=\"target\" id=\"t{id}\"{open}><summary><h2>{}</h2> <span class=\"word {}\">{}</span></summary>\n\
         <p class=\"dim\">{}; {}</p>",
        name(&target.name),
        view::look(target.verdict).class,
        words::verdict(target.verdict),
        said(&target.summary),
        words::WEAKEST.with(&[&words::grade(&target.grade)])
    );
    grids(out, target);
    if target.layers.is_empty() {
        let _ = writeln!(out, "<p>{}</p>", words::NO_LAYERS.html());
    } else {
        pictures(out, outcome, target, id);
    }
    outputs(out, target, id);
    let found = target.accuracy.iter();
    sentences(
        out,
        words::ACCURACY,
        &found.flat_map(answers::accuracy).collect::<Vec<_>>(),
    );
    evidence(out, target);
    sentences(out, words::UNKNOWNS, &target.unknowns);
    out.push_str("</details>\n");
}

fn pictures(out: &mut String, outcome: &Outcome, target: &TargetOutcome, id: usize) {
    let by_tensor: HashMap<&str, usize> = outcome
        .network
        .iter()
        .enumerate()
        .map(|(number, layer)| (layer.tensor.as_str(), number))
        .collect();
    let numbers: Vec<usize> = target
        .layers
        .iter()
        .enumerate()
        .map(|(at, layer)| by_tensor.get(layer.tensor.as_str()).copied().unwrap_or(at))
        .collect();
    let places = Places {
        network: outcome.network.len().max(target.layers.len()),
        numbers: &numbers,
    };
    let mut body = String::new();
    let mut links = Vec::new();
    let mut anchor = |name: &str, words: words::Words| {
        links.push(format!("<a href=\"#t{id}-{name}\">{}</a>", words.html()));
    };
    if !outcome.network.is_empty() {
        anchor("graph", words::NAV_GRAPH);
        let _ = write!(
            body,
            "<h3 id=\"t{id}-graph\">{}</h3>\n<p class=\"dim hint\">{}</p>\n{}",
            words::GRAPH.html(),
            words::GRAPH_HINT.html(),
            graph::picture(&outcome.network, target, id)
        );
        legend(&mut body, outcome, target);
    }
    anchor("bars", words::NAV_BARS);
    let _ = writeln!(
        body,
        "<h3 id=\"t{id}-bars\">{}</h3>",
        words::NAV_BARS.html()
    );
    let isolated = |layer: &'_ LayerOutcome| layer.isolated.is_some();
    if target.layers.iter().any(isolated) {
        body += &charts::rates(target, id, &places, words::ISOLATED, |layer| {
            layer.isolated.as_ref()
        });
    }
    body += &charts::rates(target, id, &places, words::CUMULATIVE, |layer| {
        layer.cumulative.as_ref()
    });
    body += &charts::shares(target, id, &places);
    body += &charts::histogram(&total(target), words::HISTOGRAM);
    let heat = heat::map(target, id, &places);
    if !heat.is_empty() {
        anchor("heat", words::NAV_HEAT);
        body += &heat;
    }
    anchor("causes", words::NAV_CAUSES);
    causes(&mut body, target, id);
    let drift = drift::section(target, id);
    if !drift.is_empty() {
        anchor("drift", words::NAV_DRIFT);
        body += &drift;
    }
    if !target.decisions.is_empty() {
        anchor("plan", words::NAV_PLAN);
        plan::table(&mut body, target, id);
    }
    anchor("layers", words::NAV_LAYERS);
    layers::list(&mut body, target, id, &numbers);
    if !target.outputs.is_empty() {
        anchor("outputs", words::NAV_OUTPUTS);
    }
    let _ = writeln!(out, "<nav>{}</nav>", links.join(" · "));
    out.push_str(&body);
}

/// Elements of all quantized layers by their difference in LSB.
fn total(target: &TargetOutcome) -> Vec<(i32, u64)> {
    let mut total = Stats::default();
    let layers = target.layers.iter().filter(|layer| layer.lsb.is_some());
    for stats in layers.filter_map(view::decisive) {
        total.merge(stats);
    }
    total.histogram
}

/// The verdicts that the picture has, with the number of layers each.
fn legend(out: &mut String, outcome: &Outcome, target: &TargetOutcome) {
    out.push_str("<p class=\"legend\">");
    for verdict in view::VERDICTS {
        let layers = view::layers_with(target, verdict);
        if layers > 0 {
            let _ = write!(
                out,
                "<span class=\"key {}\"><i class=\"box\"></i>{} <b>{}</b></span>",
                view::look(verdict).class,
                words::verdict(verdict),
                thousands(layers as u64)
            );
        }
    }
    let skipped = outcome.network.len().saturating_sub(target.layers.len());
    if skipped > 0 {
        let _ = write!(
            out,
            "<span class=\"key skipped\"><i class=\"box\"></i>{} <b>{}</b></span>",
            words::NOT_COMPARED.html(),
            thousands(skipped as u64)
        );
    }
    if let Some(first) = view::first_divergent(target) {
        let _ = write!(
            out,
            "<span class=\"key\">▼ {}: {}</span>",
            words::FIRST_MARK.html(),
            name(&first.name)
        );
    }
    out.push_str("</p>\n");
}

/// Grids of the target that are not the model's, before anything else.
fn grids(out: &mut String, target: &TargetOutcome) {
    for (what, groups) in view::mismatches(target) {
        let heading = match what {
            Untaken::Grids => words::GRIDS,
            Untaken::Biases => words::BIASES,
        };
        untaken(out, heading, &groups);
    }
}

fn untaken(out: &mut String, heading: Words, groups: &[view::Mismatch]) {
    let _ = write!(
        out,
        "<div class=\"card float\"><b>{}</b><ul>",
        heading.html()
    );
    for group in groups {
        let count = thousands(group.count as u64);
        let told = words::TIMES.with(&[&count, &said(&group.why), &name(&group.example)]);
        let _ = write!(out, "<li>{told}");
        if group.layers > 0 {
            let cost = words::COST.with(&[
                &number(group.max_lsb),
                &xml(&percent(group.mean_rate)),
                &thousands(group.layers as u64),
            ]);
            let _ = write!(out, "<br><b>{cost}</b>");
        }
        out.push_str("</li>");
    }
    out.push_str("</ul></div>\n");
}

fn causes(out: &mut String, target: &TargetOutcome, id: usize) {
    let _ = writeln!(out, "<h3 id=\"t{id}-causes\">{}</h3>", words::CAUSES.html());
    let causes = view::causes(target);
    if causes.is_empty() {
        let _ = writeln!(out, "<p>{}</p>", words::NO_CAUSE.html());
        return;
    }
    out.push_str("<ul>");
    for (name, text, layers) in &causes {
        let _ = write!(
            out,
            "<li><b>{}</b> ({}): {}{}</li>",
            words::cause(name),
            words::LAYERS_WITH.with(&[&thousands(*layers as u64)]),
            words::meaning(name),
            said(text)
        );
    }
    out.push_str("</ul>\n");
}

fn outputs(out: &mut String, target: &TargetOutcome, id: usize) {
    if target.outputs.is_empty() {
        return;
    }
    let _ = write!(
        out,
        "<h3 id=\"t{id}-outputs\">{}</h3><ul>",
        words::OUTPUTS.html()
    );
    for OutputOutcome {
        tensor,
        stats,
        argmax_flips,
        samples,
    } in &target.outputs
    {
        let layer = target.layers.iter().find(|layer| layer.tensor == *tensor);
        let quantized = layer.is_some_and(|layer| layer.lsb.is_some());
        let [flips, samples] = [*argmax_flips, *samples].map(thousands);
        let _ = write!(
            out,
            "<li>{} {}<br>{}</li>",
            name(tensor),
            layers::numbers(stats, quantized),
            words::FLIPS.with(&[&flips, &samples])
        );
    }
    out.push_str("</ul>\n");
}

/// How well the rules of the layers are known.
fn evidence(out: &mut String, target: &TargetOutcome) {
    if target.layers.is_empty() {
        return;
    }
    let _ = write!(out, "<h3>{}</h3><ul>", words::EVIDENCE.html());
    let mut grades: Vec<&str> = Vec::new();
    for layer in &target.layers {
        if !grades.contains(&layer.grade.as_str()) {
            grades.push(&layer.grade);
        }
    }
    for grade in grades {
        let layers = target.layers.iter().filter(|layer| layer.grade == grade);
        let _ = write!(
            out,
            "<li>{}: {}</li>",
            words::grade(grade),
            thousands(layers.count() as u64)
        );
    }
    out.push_str("</ul>\n");
}

/// Sentences that exist in English only.
fn sentences(out: &mut String, title: words::Words, items: &[String]) {
    if items.is_empty() {
        return;
    }
    let _ = write!(out, "<h3>{}</h3><ul>", title.html());
    for item in items {
        let _ = write!(out, "<li>{}</li>", said(item));
    }
    out.push_str("</ul>\n");
}
