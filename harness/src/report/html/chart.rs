//! Bars of the differing rate, in graph order.

use std::fmt::Write as _;

use super::super::text::{number, percent, xml};
use super::super::view;
use super::class;
use crate::outcome::{LayerOutcome, Stats, TargetOutcome};

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 90.0;
/// Room for the scale above the bars.
const TOP: f64 = 16.0;

/// One bar a layer; each leads to the layer's row. Empty where the layers have no such statistics.
pub(super) fn bars<'a>(
    target: &'a TargetOutcome,
    id: usize,
    title: &str,
    stats: fn(&'a LayerOutcome) -> Option<&'a Stats>,
) -> String {
    let mut out = String::new();
    let layers = target.layers.len();
    if !target.layers.iter().any(|layer| stats(layer).is_some()) {
        return out;
    }
    let all: Vec<&LayerOutcome> = target.layers.iter().collect();
    let most = view::scale(&all, stats);
    let step = WIDTH / layers as f64;
    let width = (step * 0.8).min(40.0);
    let bottom = TOP + HEIGHT;
    // Writing to a String cannot fail, here and below.
    let _ = write!(
        out,
        "<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"{title}\">\
         <line x1=\"0\" x2=\"{WIDTH}\" y1=\"{TOP}\" y2=\"{TOP}\" stroke-dasharray=\"2 4\"/>\
         <line x1=\"0\" x2=\"{WIDTH}\" y1=\"{bottom}\" y2=\"{bottom}\"/>\
         <text x=\"0\" y=\"11\">{title}; {} at the dashed line</text>",
        bottom + 1.0,
        xml(&percent(most)),
    );
    for (at, layer) in target.layers.iter().enumerate() {
        let Some(stats) = stats(layer) else { continue };
        let height = if stats.differing == 0 {
            0.0
        } else {
            (stats.rate() / most * HEIGHT).clamp(1.5, HEIGHT)
        };
        let _ = write!(
            out,
            "<a href=\"#t{id}-{at}\" class=\"{}\"><title>{}: {} differ, max {}</title>\
             <rect x=\"{:.2}\" y=\"{:.2}\" width=\"{width:.2}\" height=\"{height:.2}\"/></a>",
            class(layer.verdict),
            xml(&layer.name),
            xml(&percent(stats.rate())),
            number(stats.max_lsb),
            step * at as f64,
            bottom - height,
        );
    }
    out.push_str("</svg>\n");
    out
}
