//! The heat map: layers and their channels.

use std::fmt::Write as _;

use super::super::text::{middle, number, percent, thousands, visible, xml};
use super::charts::{Places, WIDTH};
use super::words;
use crate::outcome::{Stats, TargetOutcome};

/// Rows of the heat map.
const ROWS: usize = 48;
/// Cells of a row.
const CELLS: usize = 64;
/// Left of the cells, for the layer's name, and right of them.
const NAMES: f64 = 300.0;
const COUNTS: f64 = 76.0;
/// Of a row, and of the widest cell.
const ROW: f64 = 15.0;
const WIDEST: f64 = 40.0;
/// From this rate on, a cell has the next colour.
const HEATS: [f64; 5] = [0.0, 0.001, 0.01, 0.1, 0.5];

/// The rate of every channel of the layers that differ most. Empty where no channels were counted.
pub(super) fn map(target: &TargetOutcome, id: usize, places: &Places) -> String {
    let mut out = String::new();
    let mut rows: Vec<(usize, &Stats)> = target
        .layers
        .iter()
        .enumerate()
        .filter_map(|(at, layer)| Some((at, layer.isolated.as_ref()?)))
        .filter(|(_, stats)| !stats.channels.is_empty())
        .collect();
    if rows.is_empty() {
        return out;
    }
    let all = rows.len();
    rows.sort_by(|a, b| b.1.rate().total_cmp(&a.1.rate()));
    rows.truncate(ROWS);
    rows.sort_by_key(|(at, _)| *at);
    // Writing to a String cannot fail, here and below.
    let _ = write!(
        out,
        "<h3 id=\"t{id}-heat\">{}</h3>\n<p class=\"dim hint\">{}",
        words::HEAT.html(),
        words::HEAT_HINT.with(&[&CELLS.to_string()])
    );
    if all > rows.len() {
        let shown = [rows.len().to_string(), thousands(all as u64)];
        let _ = write!(
            out,
            " <b>{}</b>",
            words::HEAT_CAPPED.with(&[&shown[0], &shown[1]])
        );
    }
    let _ = writeln!(
        out,
        "</p>\n<svg class=\"heat\" viewBox=\"0 0 {WIDTH} {:.0}\" role=\"img\">",
        ROW * rows.len() as f64 + 4.0
    );
    for (line, (at, stats)) in rows.iter().enumerate() {
        row(&mut out, target, id, places, *at, stats, ROW * line as f64);
    }
    let _ = write!(
        out,
        "</svg>\n<p class=\"legend\"><span>{}</span>",
        words::HEAT_NONE.html()
    );
    let _ = write!(out, "<span class=\"key\"><i class=\"h0\"></i>0</span>");
    for (heat, &from) in HEATS.iter().enumerate() {
        let to = HEATS.get(heat + 1).copied().unwrap_or(1.0);
        let _ = write!(
            out,
            "<span class=\"key\"><i class=\"h{}\"></i>{} – {} %</span>",
            heat + 1,
            number(from * 100.0),
            number(to * 100.0)
        );
    }
    out.push_str("</p>\n");
    out
}

fn row(
    out: &mut String,
    target: &TargetOutcome,
    id: usize,
    places: &Places,
    at: usize,
    stats: &Stats,
    y: f64,
) {
    let layer = &target.layers[at];
    let channels = stats.channels.len();
    let each = stats.elements as f64 / channels as f64;
    let group = channels.div_ceil(CELLS);
    let cells = channels.div_ceil(group);
    let width = ((WIDTH - NAMES - COUNTS) / cells as f64).min(WIDEST);
    let label = format!("{} {}", places.numbers[at], visible(&layer.name));
    let _ = write!(
        out,
        "<a href=\"#t{id}-{at}\"><title>{}</title><text class=\"label\" text-anchor=\"end\" x=\"{}\" y=\"{:.1}\">{}</text></a>\
         <rect class=\"h0\" x=\"{NAMES}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
        xml(&label),
        NAMES - 8.0,
        y + ROW - 4.0,
        xml(&middle(&label, 40)),
        y + 1.0,
        width * cells as f64,
        ROW - 2.0
    );
    for (cell, counts) in stats.channels.chunks(group).enumerate() {
        let worst = counts.iter().copied().enumerate().max_by_key(|&(_, c)| c);
        let Some((inside, count)) = worst.filter(|&(_, count)| count > 0) else {
            continue;
        };
        let rate = count as f64 / each.max(1.0);
        let heat = HEATS.iter().filter(|&&from| rate > from).count();
        let _ = write!(
            out,
            "<rect class=\"h{heat}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\">\
             <title>{}: {}</title></rect>",
            NAMES + width * cell as f64,
            y + 1.0,
            width - 1.0,
            ROW - 2.0,
            cell * group + inside,
            xml(&percent(rate)),
        );
    }
    let count = thousands(channels as u64);
    let at = format!("x=\"{}\" y=\"{:.1}\"", WIDTH - COUNTS + 8.0, y + ROW - 4.0);
    let _ = writeln!(out, "{}", words::CHANNELS.svg(&at, &[&count]));
}
