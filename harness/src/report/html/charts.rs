//! Bars: rates of all layers in graph order, what differing elements are, how large differences are.

use std::fmt::Write as _;

use super::super::text::{number, percent, thousands, xml};
use super::super::view;
use super::words::{self, Words};
use crate::outcome::{LayerOutcome, Stats, TargetOutcome};

pub(super) const WIDTH: f64 = 1200.0;
/// Left of the bars: the scale.
const LEFT: f64 = 64.0;
const HEIGHT: f64 = 120.0;
/// Above the bars, and for the numbers below them.
const TOP: f64 = 8.0;
const BELOW: f64 = 20.0;
/// Rates below 10 to this power look alike.
const SMALLEST: i32 = -8;

/// The places of the layers along the picture, by their numbers in the network.
pub(super) struct Places<'a> {
    /// Number of layers in the network.
    pub network: usize,
    /// The number of each compared layer.
    pub numbers: &'a [usize],
}

impl Places<'_> {
    fn step(&self) -> f64 {
        (WIDTH - LEFT) / self.network.max(1) as f64
    }

    fn bar(&self) -> f64 {
        (self.step() * 0.8).clamp(1.2, 36.0)
    }

    fn x(&self, at: usize) -> f64 {
        LEFT + self.step() * self.numbers[at] as f64 + (self.step() - self.bar()) / 2.0
    }

    /// Numbers of layers along the lower end: at most 24 of them.
    fn axis(&self, out: &mut String, bottom: f64) {
        let most = self.network.div_ceil(24);
        let every = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
            .into_iter()
            .find(|&every| every >= most)
            .unwrap_or(most);
        for number in (0..self.network).step_by(every) {
            let x = LEFT + self.step() * (number as f64 + 0.5);
            // Writing to a String cannot fail, here and below.
            let _ = write!(
                out,
                "<text class=\"tick\" text-anchor=\"middle\" x=\"{x:.1}\" y=\"{:.1}\">{number}</text>",
                bottom + 14.0
            );
        }
    }
}

/// A bar a layer on a logarithmic scale; each leads to its layer. Empty where the layers have no such statistics.
pub(super) fn rates<'a>(
    target: &'a TargetOutcome,
    id: usize,
    places: &Places,
    title: Words,
    stats: fn(&'a LayerOutcome) -> Option<&'a Stats>,
) -> String {
    let mut out = String::new();
    if !target.layers.iter().any(|layer| stats(layer).is_some()) {
        return out;
    }
    let rates = target.layers.iter().filter_map(stats).map(Stats::rate);
    let least = rates.filter(|&rate| rate > 0.0).fold(1.0, f64::min);
    let decades = (-(libm::log10(least).floor() as i32)).clamp(2, -SMALLEST);
    let bottom = TOP + HEIGHT;
    // An empty bar must not look like a small one: the smallest reaches above the line.
    let height = |rate: f64| {
        let share = 1.0 + libm::log10(rate) / f64::from(decades);
        share.clamp(0.0, 1.0) * (HEIGHT - 4.0) + 4.0
    };
    let _ = write!(
        out,
        "<h4>{}</h4>\n<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\">",
        title.html(),
        bottom + BELOW
    );
    for decade in 0..=decades {
        let y = bottom - height(10f64.powi(-decade));
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"
        );
        if decades <= 5 || decade % 2 == 0 {
            let percent = 10f64.powi(2 - decade);
            let decimals = usize::try_from(decade - 2).unwrap_or(0);
            let _ = write!(
                out,
                "<text class=\"tick\" text-anchor=\"end\" x=\"{}\" y=\"{:.1}\">{percent:.decimals$} %</text>",
                LEFT - 6.0,
                y + 4.0
            );
        }
    }
    let _ = writeln!(
        out,
        "<line x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{bottom}\" y2=\"{bottom}\"/>"
    );
    for (at, layer) in target.layers.iter().enumerate() {
        let Some(stats) = stats(layer) else { continue };
        let height = match stats.rate() {
            rate if rate > 0.0 => height(rate),
            _ => 0.0,
        };
        let _ = writeln!(
            out,
            "<a href=\"#t{id}-{at}\" class=\"{}\"><title>{}: {}: {}</title>\
             <rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\"/></a>",
            view::look(layer.verdict).class,
            places.numbers[at],
            xml(&layer.name),
            xml(&percent(stats.rate())),
            places.x(at),
            bottom - height,
            places.bar(),
        );
    }
    places.axis(&mut out, bottom);
    let _ = writeln!(
        out,
        "</svg>\n<p class=\"dim hint\">{}</p>",
        words::LOG_SCALE.html()
    );
    out
}

/// What differing elements are, and the class that paints each part.
fn parts(stats: &Stats) -> [(Words, &'static str, u64); 4] {
    let known = stats.noise + stats.ties.unwrap_or(0) + stats.saturated;
    let rest = stats.differing.saturating_sub(known);
    // Where nobody knows the value before rounding, the rest may be ties.
    let other = match stats.ties {
        Some(_) => (words::PART_OTHER, "p-other", rest),
        None => (words::PART_UNKNOWN, "p-unknown", rest),
    };
    [
        (words::PART_NOISE, "p-noise", stats.noise),
        (words::PART_TIE, "p-tie", stats.ties.unwrap_or(0)),
        (words::PART_SATURATED, "p-saturated", stats.saturated),
        other,
    ]
}

/// The shares of noise, ties and saturation of every layer. Empty where nothing differs.
pub(super) fn shares(target: &TargetOutcome, id: usize, places: &Places) -> String {
    let mut out = String::new();
    let differs = |layer: &LayerOutcome| layer.isolated.as_ref().is_some_and(|s| s.differing > 0);
    if !target.layers.iter().any(differs) {
        return out;
    }
    let height = HEIGHT * 0.6;
    let bottom = TOP + height;
    let _ = write!(
        out,
        "<h4>{}</h4>\n<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\">",
        words::SHARES.html(),
        bottom + BELOW
    );
    for (share, y) in [
        ("100 %", TOP),
        ("50 %", TOP + height / 2.0),
        ("0 %", bottom),
    ] {
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{y}\" y2=\"{y}\"/>\
             <text class=\"tick\" text-anchor=\"end\" x=\"{}\" y=\"{}\">{share}</text>",
            LEFT - 6.0,
            y + 4.0
        );
    }
    let mut used: Vec<(Words, &str)> = Vec::new();
    for (at, layer) in target.layers.iter().enumerate() {
        let Some(stats) = layer.isolated.as_ref().filter(|s| s.differing > 0) else {
            continue;
        };
        let _ = write!(
            out,
            "<a href=\"#t{id}-{at}\"><title>{}: {}</title>",
            places.numbers[at],
            xml(&layer.name)
        );
        let mut y = bottom;
        for (words, class, count) in parts(stats) {
            if count == 0 {
                continue;
            }
            if !used.contains(&(words, class)) {
                used.push((words, class));
            }
            let part = count as f64 / stats.differing as f64 * height;
            y -= part;
            let _ = write!(
                out,
                "<rect class=\"{class}\" x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{part:.1}\"/>",
                places.x(at),
                places.bar()
            );
        }
        out.push_str("</a>\n");
    }
    places.axis(&mut out, bottom);
    out.push_str("</svg>\n<p class=\"legend\">");
    for (words, class) in used {
        let _ = write!(
            out,
            "<span class=\"key\"><i class=\"{class}\"></i>{}</span>",
            words.html()
        );
    }
    out.push_str("</p>\n");
    out
}

/// The parts of one layer's differing elements, as a bar with numbers.
pub(super) fn parts_bar(stats: &Stats) -> String {
    let mut bar = String::from("<div class=\"parts\">");
    let mut legend = String::from("<p class=\"legend\">");
    for (words, class, count) in parts(stats) {
        if count == 0 {
            continue;
        }
        let share = count as f64 / stats.differing as f64;
        let _ = write!(
            bar,
            "<i class=\"{class}\" style=\"width:{:.2}%\"></i>",
            100.0 * share
        );
        let _ = write!(
            legend,
            "<span class=\"key\"><i class=\"{class}\"></i>{} <b>{}</b> ({})</span>",
            words.html(),
            thousands(count),
            xml(&percent(share))
        );
    }
    format!("{bar}</div>{legend}</p>")
}

/// Elements by their difference, from -8 to 8 LSB.
pub(super) fn histogram(bins: &[(i32, u64)], title: Words) -> String {
    const STEP: f64 = 34.0;
    const TALL: f64 = 70.0;
    let differing = bins.iter().filter(|&&(lsb, _)| lsb != 0);
    let most = differing.map(|&(_, count)| count).max().unwrap_or(0);
    if most == 0 {
        return String::new();
    }
    let bottom = TALL + 16.0;
    let extent = STEP * 17.0;
    let mut out = format!(
        "<h4>{}</h4><svg class=\"histogram\" viewBox=\"0 0 {extent} {}\" role=\"img\">\
         <line x1=\"0\" x2=\"{extent}\" y1=\"{bottom}\" y2=\"{bottom}\"/>",
        title.html(),
        bottom + BELOW,
    );
    for lsb in -8..=8 {
        let count = bins
            .iter()
            .find(|&&(at, _)| at == lsb)
            .map_or(0, |&(_, count)| count);
        let x = STEP * f64::from(lsb + 8);
        let label = match lsb {
            -8 => "≤-8".to_owned(),
            8 => "≥8".to_owned(),
            0 => "0".to_owned(),
            lsb => format!("{lsb:+}"),
        };
        let _ = write!(
            out,
            "<text class=\"tick\" text-anchor=\"middle\" x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
            x + STEP / 2.0,
            bottom + 14.0
        );
        if lsb == 0 || count == 0 {
            continue;
        }
        let height = (count as f64 / most as f64 * TALL).max(1.5);
        let _ = write!(
            out,
            "<g><title>{label}: {}</title><rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\"/>\
             <text class=\"tick\" text-anchor=\"middle\" x=\"{:.1}\" y=\"{:.1}\">{}</text></g>",
            thousands(count),
            x + 3.0,
            bottom - height,
            STEP - 6.0,
            x + STEP / 2.0,
            bottom - height - 3.0,
            short(count)
        );
    }
    out.push_str("</svg>\n");
    out
}

/// A count in at most five characters.
fn short(count: u64) -> String {
    let count = count as f64;
    for (unit, name) in [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")] {
        if count >= unit * 0.9995 {
            let value = count / unit;
            let decimals = usize::from(value < 99.95);
            return format!("{value:.decimals$}{name}");
        }
    }
    number(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_counts() {
        assert_eq!(short(999), "999");
        assert_eq!(short(1_000), "1.0k");
        assert_eq!(short(999_999), "1.0M");
        assert_eq!(short(123_456), "123k");
    }

    #[test]
    fn parts_are_all_of_it() {
        let mut stats = Stats {
            differing: 10,
            noise: 3,
            ties: Some(2),
            saturated: 1,
            ..Stats::default()
        };
        let total = |stats: &Stats| parts(stats).iter().map(|(.., count)| count).sum::<u64>();
        assert_eq!(total(&stats), 10);
        assert_eq!(parts(&stats)[3], (words::PART_OTHER, "p-other", 4));
        stats.ties = None;
        assert_eq!(parts(&stats)[3], (words::PART_UNKNOWN, "p-unknown", 6));
    }
}
