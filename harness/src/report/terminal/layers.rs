//! The table of layers.

use super::super::style::Paint;
use super::super::text::{bar, count, number, percent, thousands, visible, wrap};
use super::super::view;
use super::grid::{Column, Grid, Look};
use crate::outcome::{LayerOutcome, Stats, TargetOutcome, Verdict};

/// Layers that are shown unless the user asks for all.
const SHOWN: usize = 15;
/// A table this narrow in its names is put on two lines a layer instead.
const READABLE_NAME: usize = 20;
/// A name longer than this tears the numbers away from it.
const LONGEST_NAME: usize = 44;
/// From this width on headings are written out.
const ROOMY: usize = 96;

/// The table, worst layer first.
pub(super) fn table(
    target: &TargetOutcome,
    width: usize,
    paint: Paint,
    verbose: u8,
) -> Vec<String> {
    let all = view::worst_first(target);
    let shown: Vec<&LayerOutcome> = if verbose >= 1 || all.len() <= SHOWN {
        all.clone()
    } else {
        let differs = |layer: &&&LayerOutcome| layer.verdict > Verdict::Aligned;
        all.iter().filter(differs).take(SHOWN).copied().collect()
    };
    let mut lines = Vec::new();
    if !shown.is_empty() {
        let roomy = width >= ROOMY;
        let wide = grid(&shown, Style::Wide, roomy);
        let two_lines = wide.least(READABLE_NAME) > width;
        let (head, rows) = if two_lines {
            grid(&shown, Style::Narrow, roomy).lines(width, paint)
        } else {
            wide.lines(width, paint)
        };
        lines.push(head);
        for (layer, row) in shown.iter().zip(rows) {
            lines.push(row);
            let mut texts = Vec::new();
            if two_lines {
                texts.extend(details(layer));
            }
            if verbose >= 1
                && layer.verdict.fails()
                && let Some(witness) = &layer.witness
            {
                texts.push(format!("witness: {}", view::witness(witness)));
            }
            if verbose >= 1
                && let Some(drift) = layer.drift.as_ref().and_then(view::drift_of)
            {
                texts.push(format!("drift: {drift}"));
            }
            lines.extend(below(&texts, width, paint));
        }
    }
    let hidden = &all[shown.len()..];
    if !hidden.is_empty() {
        let aligned = hidden
            .iter()
            .filter(|layer| layer.verdict.is_aligned())
            .count();
        let absent = hidden.iter().filter(|layer| layer.absent.is_some()).count();
        let what = if aligned + absent == hidden.len() && shown.is_empty() && absent > 0 {
            format!(
                "{} aligned, {absent} without such a tensor on the target (-v shows them)",
                count(aligned, "layer")
            )
        } else if aligned == hidden.len() && shown.is_empty() {
            format!(
                "{}, all aligned (-v shows them)",
                count(hidden.len(), "layer")
            )
        } else {
            format!(
                "… {}, {} aligned (-v shows all)",
                count(hidden.len(), "more layer"),
                thousands(aligned as u64)
            )
        };
        lines.extend(wrap(&what, width, width).iter().map(|line| paint.dim(line)));
    }
    lines
}

/// Lines that belong to the row above them.
fn below(texts: &[String], width: usize, paint: Paint) -> Vec<String> {
    let mut lines = Vec::new();
    for (at, text) in texts.iter().enumerate() {
        let (mut start, rest) = if at + 1 == texts.len() {
            ("  └ ", "    ")
        } else {
            ("  ├ ", "  │ ")
        };
        for line in wrap(text, width - 4, width - 4) {
            lines.push(paint.dim(&format!("{start}{line}")));
            start = rest;
        }
    }
    lines
}

/// What a narrow table has no column for.
fn details(layer: &LayerOutcome) -> Option<String> {
    let stats = view::decisive(layer).filter(|stats| stats.differing > 0)?;
    let mut parts = vec![format!("{} differ", view::share(stats))];
    parts.extend(layer.cause.as_ref().map(view::cause));
    parts.push(format!("grade: {}", visible(&layer.grade)));
    Some(parts.join("; "))
}

#[derive(Clone, Copy, PartialEq)]
enum Style {
    Wide,
    Narrow,
}

fn grid(layers: &[&LayerOutcome], style: Style, roomy: bool) -> Grid {
    let wide = style == Style::Wide;
    let isolated = layers.iter().any(|layer| layer.isolated.is_some());
    let cells = if wide { 8 } else { 5 };
    let mut name = Column::left("layer", Some(12)).at_most(LONGEST_NAME);
    let mut op = Column::left("op", Some(6));
    let mut verdict = Column::left("verdict", None);
    let mut share = Column::right("differing");
    let mut rate = Column::right("rate");
    let mut bars = Column::left("", None);
    let max = if roomy { "max LSB" } else { "LSB" };
    let mut lsb = Column::right(max);
    let mut free_rate = Column::right(match (isolated, roomy) {
        (true, true) => "cumulative",
        (true, false) => "cumul.",
        (false, _) => "rate",
    });
    let mut free_lsb = Column::right(max);
    let mut cause = Column::left("cause", None);
    let mut grade = Column::left("grade", None);
    let most = view::scale(layers, view::decisive);
    for layer in layers {
        name.push(visible(&layer.name), Look::Plain);
        op.push(visible(&layer.op), Look::Dim);
        let words = if wide {
            layer.verdict.text()
        } else {
            word(layer.verdict)
        };
        verdict.push(words, Look::Verdict(layer.verdict));
        let decisive = view::decisive(layer);
        share.push(decisive.map(view::share).unwrap_or_default(), Look::Plain);
        let cell = |stats: &Option<Stats>, text: fn(&Stats) -> String| {
            stats.as_ref().map(text).unwrap_or_default()
        };
        rate.push(
            cell(&layer.isolated, |stats| percent(stats.rate())),
            Look::Plain,
        );
        let part = decisive.map_or(0.0, |stats| stats.rate() / most);
        bars.push(bar(part, cells), Look::Verdict(layer.verdict));
        lsb.push(
            cell(&layer.isolated, |stats| number(stats.max_lsb)),
            Look::Plain,
        );
        free_rate.push(
            cell(&layer.cumulative, |stats| percent(stats.rate())),
            Look::Plain,
        );
        free_lsb.push(
            cell(&layer.cumulative, |stats| number(stats.max_lsb)),
            Look::Plain,
        );
        let rule = layer.absent.as_ref().map(|_| layer.rules.join(", "));
        cause.push(
            layer
                .cause
                .as_ref()
                .map(view::cause)
                .or(rule)
                .unwrap_or_default(),
            Look::Plain,
        );
        grade.push(visible(&layer.grade), Look::Grade);
    }
    if wide {
        Grid::new(vec![
            name, op, verdict, share, rate, bars, lsb, free_rate, free_lsb, cause, grade,
        ])
    } else {
        Grid::new(vec![
            name, op, verdict, rate, bars, lsb, free_rate, free_lsb,
        ])
    }
}

/// A verdict where there is little room.
pub(super) fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::NoSuchTensor => "no tensor",
        Verdict::Proved => "proved",
        Verdict::Aligned => "aligned",
        Verdict::WithinNoise => "noise",
        Verdict::WithinTolerance => "tolerance",
        Verdict::FloatOnTarget => "float",
        Verdict::Misaligned => "misaligned",
        Verdict::UnknownRule => "unknown rule",
    }
}
