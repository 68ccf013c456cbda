//! The report for issues and pull requests.

use std::fmt::Write as _;

use super::text::{count, number, percent, thousands, visible};
use super::{answers, view};
use crate::outcome::{LayerOutcome, Outcome, Stats, TargetOutcome, Verdict};

/// The outcome as Markdown: verdicts, then for each target what is worst. Names are escaped.
pub fn markdown(outcome: &Outcome) -> String {
    let mut out = String::from("# align-check\n\n");
    // Writing to a String cannot fail, here and below.
    for target in &outcome.targets {
        let _ = writeln!(
            out,
            "- **{}: {}**: {}",
            escape(&target.name),
            view::shout(target.verdict),
            escape(&view::headline(target, outcome.inputs))
        );
    }
    let _ = writeln!(out, "\n{}", escape(&view::setting(outcome)));
    let _ = writeln!(
        out,
        "\nsha256 of the model: `{}`",
        visible(&outcome.model.sha256)
    );
    list(&mut out, "Assumed by the importer", &outcome.model.notes);
    for target in &outcome.targets {
        part(&mut out, target);
    }
    if let Some(floor) = &outcome.floor {
        let _ = writeln!(out, "\n## Noise floor\n\n{}", escape(&view::floor(floor)));
    }
    if let Some((missing, what)) = view::missing(&outcome.against) {
        list(
            &mut out,
            &format!("{what} {}", count(missing.len(), "tensor")),
            missing,
        );
    }
    out
}

fn part(out: &mut String, target: &TargetOutcome) {
    let _ = writeln!(
        out,
        "\n## {}\n\n{}",
        escape(&target.name),
        escape(&target.summary)
    );
    for (what, groups) in view::mismatches(target) {
        let _ = writeln!(out, "\n**{}**\n", escape(what.heading()));
        for group in &groups {
            let cost = view::cost(group)
                .map(|cost| format!(": {cost}"))
                .unwrap_or_default();
            let _ = writeln!(
                out,
                "- {} × {} (e.g. {}){}",
                thousands(group.count as u64),
                escape(&group.why),
                escape(&group.example),
                escape(&cost)
            );
        }
    }
    let layers = view::worst_first(target);
    let (aligned, differing): (Vec<&LayerOutcome>, Vec<&LayerOutcome>) = layers
        .into_iter()
        .partition(|layer| layer.verdict.is_aligned());
    if !differing.is_empty() {
        out.push('\n');
        table(out, &differing);
    }
    if !aligned.is_empty() {
        let _ = writeln!(
            out,
            "\n<details><summary>{}: {}{}</summary>\n",
            Verdict::Aligned.text(),
            count(aligned.len(), "layer"),
            match view::layers_with(target, Verdict::Proved) {
                0 => String::new(),
                proved => format!(", {proved} of them proved"),
            }
        );
        table(out, &aligned);
        out.push_str("\n</details>\n");
    }
    let causes = view::causes(target);
    if !causes.is_empty() {
        out.push_str("\nCauses:\n\n");
        for (name, text, layers) in &causes {
            let layers = count(*layers, "layer");
            let _ = writeln!(out, "- {}: {} ({layers})", escape(name), escape(text));
        }
    }
    if let Some(first) = view::first_divergent(target) {
        let _ = writeln!(
            out,
            "\nFirst divergent layer: {}",
            escape(&view::named(first))
        );
        if let Some(witness) = &first.witness {
            let _ = writeln!(out, "\nWitness: {}", escape(&view::witness(witness)));
        }
    }
    let outputs: Vec<String> = target
        .outputs
        .iter()
        .map(|output| view::output(target, output))
        .collect();
    list(out, "Outputs", &outputs);
    let found = target.accuracy.iter();
    list(
        out,
        "Accuracy",
        &found.flat_map(answers::accuracy).collect::<Vec<_>>(),
    );
    let mut drift: Vec<String> = target.drifted.iter().map(view::drift).collect();
    drift.extend(target.layers.iter().filter_map(|layer| {
        let drift = layer.drift.as_ref().and_then(view::drift_of)?;
        Some(format!("{}: {drift}", layer.name))
    }));
    list(out, "Drift", &drift);
    let trace = target.trace.as_ref().map(view::trace).unwrap_or_default();
    list(out, "Traced to the output", &trace);
    list(out, "Not known about this target", &target.unknowns);
}

fn table(out: &mut String, layers: &[&LayerOutcome]) {
    out.push_str(
        "| layer | op | verdict | differing | rate | max LSB | cumulative rate | max LSB | cause | grade |\n\
         |---|---|---|--:|--:|--:|--:|--:|---|---|\n",
    );
    for layer in layers {
        let isolated = cells(layer.isolated.as_ref());
        let cumulative = cells(layer.cumulative.as_ref());
        let cause = layer.cause.as_ref().map(view::cause);
        let cause = cause.or_else(|| view::absent(layer)).unwrap_or_default();
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            escape(&layer.name),
            escape(&layer.op),
            layer.verdict.text(),
            view::decisive(layer).map(view::share).unwrap_or_default(),
            isolated.0,
            isolated.1,
            cumulative.0,
            cumulative.1,
            escape(&cause),
            escape(&layer.grade)
        );
    }
}

/// Rate and largest difference.
fn cells(stats: Option<&Stats>) -> (String, String) {
    stats.map_or_else(Default::default, |stats| {
        (escape(&percent(stats.rate())), number(stats.max_lsb))
    })
}

fn list(out: &mut String, title: &str, items: &[String]) {
    if items.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{}:\n", escape(title));
    for item in items {
        let _ = writeln!(out, "- {}", escape(item));
    }
}

/// A text that Markdown and the HTML in it leave as it is; nobody is mentioned by it.
fn escape(text: &str) -> String {
    let text = visible(text);
    let mut out = String::with_capacity(text.len());
    let mut previous = ' ';
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '@' => out.push_str("&#64;"),
            // `snake_case` is no emphasis.
            '_' if previous.is_alphanumeric() => out.push('_'),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
        previous = c;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_names() {
        assert_eq!(
            escape("<script>|*b*_c_\n"),
            "&lt;script&gt;\\|\\*b\\*\\_c_\\\\n"
        );
        assert_eq!(escape("layer_1 @all"), "layer_1 &#64;all");
    }
}
