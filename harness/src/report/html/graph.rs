//! The network as a picture: a box a layer, coloured by its verdict.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::super::text::{middle, percent, visible, width, xml};
use super::super::view;
use super::layout::{Sizes, layout};
use super::words;
use crate::outcome::{NetworkLayer, TargetOutcome};

const WIDTH: f64 = 1200.0;

/// How large boxes are, and what is written into them.
struct Density {
    sizes: Sizes,
    /// Lines of text: up to three, each with its size and the characters that fit.
    lines: &'static [(f64, usize)],
}

/// The more layers, the smaller the boxes; a number stays readable in each.
fn density(layers: usize) -> Density {
    let sizes = |node, gap| Sizes {
        width: WIDTH,
        node,
        gap,
    };
    match layers {
        0..=36 => Density {
            sizes: sizes([172.0, 54.0], [24.0, 20.0]),
            lines: &[(12.0, 22), (11.0, 24), (11.0, 24)],
        },
        37..=130 => Density {
            sizes: sizes([82.0, 34.0], [14.0, 14.0]),
            lines: &[(11.0, 11), (9.5, 13)],
        },
        _ => Density {
            sizes: sizes([30.0, 18.0], [9.0, 9.0]),
            lines: &[(10.0, 4)],
        },
    }
}

/// The picture of a target's layers in the model's network.
pub(super) fn picture(network: &[NetworkLayer], target: &TargetOutcome, id: usize) -> String {
    let mut out = String::new();
    if network.is_empty() {
        return out;
    }
    let inputs: Vec<Vec<usize>> = network.iter().map(|layer| layer.inputs.clone()).collect();
    let Density { sizes, lines } = density(network.len());
    let layout = layout(&inputs, sizes);
    let compared: HashMap<&str, usize> = target
        .layers
        .iter()
        .enumerate()
        .map(|(at, layer)| (layer.tensor.as_str(), at))
        .collect();
    let first = view::first_divergent(target).map(|layer| layer.tensor.as_str());
    // Writing to a String cannot fail, here and below.
    let _ = write!(
        out,
        "<svg class=\"graph\" viewBox=\"0 0 {WIDTH} {:.0}\" role=\"img\">\n<g class=\"edges\">",
        layout.height
    );
    for (.., path) in &layout.edges {
        let _ = write!(out, "<path d=\"{path}\"/>");
    }
    out.push_str("</g>\n");
    let [wide, high] = sizes.node;
    for (number, (layer, [x, y])) in network.iter().zip(&layout.corners).enumerate() {
        let found = compared.get(layer.tensor.as_str()).copied();
        let found = found.map(|at| (at, &target.layers[at]));
        let stats = found.and_then(|(_, layer)| view::decisive(layer));
        let rate = stats.map(|stats| percent(stats.rate()));
        let mut title = format!(
            "{number}: {} ({})",
            visible(&layer.name),
            visible(&layer.op)
        );
        let class = if let Some((_, found)) = found {
            let _ = write!(title, "\n{}", words::verdict_plain(found.verdict));
            view::look(found.verdict).class
        } else {
            let none = words::NOT_COMPARED;
            let _ = write!(title, "\n{} · {}", none.en, none.zh);
            "skipped"
        };
        if let Some(rate) = &rate {
            let _ = write!(title, "\n{rate}");
        }
        let marked = first == Some(layer.tensor.as_str());
        if let Some((at, _)) = found {
            let _ = write!(out, "<a href=\"#t{id}-{at}\" class=\"node {class}\">");
        } else {
            let _ = write!(out, "<g class=\"node {class}\">");
        }
        let lead = if marked { " lead" } else { "" };
        let _ = write!(
            out,
            "<title>{}</title><rect class=\"box{lead}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{wide}\" \
             height=\"{high}\" rx=\"3\"/>",
            tooltip(&title)
        );
        let middle_x = x + wide / 2.0;
        let numbered = |text: &str, line: usize| {
            let number = format!("{number} ");
            let fits = lines.get(line).map_or(0, |(_, fits)| *fits);
            let rest = fits.saturating_sub(number.len());
            number + &end(text, rest)
        };
        let texts = match lines.len() {
            1 if number < 10_000 => [number.to_string(), String::new(), String::new()],
            1 => Default::default(),
            2 => [
                numbered(&visible(&layer.op), 0),
                end(&short_name(layer), lines[1].1),
                String::new(),
            ],
            _ => [
                numbered(&short_name(layer), 0),
                middle(&visible(&layer.op), lines[1].1),
                rate.unwrap_or_default(),
            ],
        };
        let total: f64 = lines.iter().map(|(size, _)| size * 1.3).sum();
        let mut baseline = y + (high - total) / 2.0;
        for ((size, _), text) in lines.iter().zip(&texts) {
            baseline += size * 1.3;
            let _ = write!(
                out,
                "<text x=\"{middle_x:.1}\" y=\"{:.1}\" style=\"font-size:{size}px\">{}</text>",
                baseline - size * 0.3,
                xml(text)
            );
        }
        if marked {
            let _ = write!(
                out,
                "<path class=\"mark\" d=\"M{:.1} {:.1}l-6 -9h12z\"/>",
                middle_x,
                y - 2.0
            );
        }
        out.push_str(if found.is_some() { "</a>\n" } else { "</g>\n" });
    }
    out.push_str("</svg>\n");
    out
}

/// A layer's name without the operator that exporters write behind it: the box says that apart.
fn short_name(layer: &NetworkLayer) -> String {
    let first = layer.op.split('+').next().unwrap_or_default();
    let name = layer.name.strip_suffix(first).unwrap_or(&layer.name);
    let short = name.strip_suffix('/').filter(|name| !name.is_empty());
    visible(short.unwrap_or(&layer.name))
}

/// A text that fits; of a long one the end, which tells layers apart.
fn end(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut start = text.len();
    for (at, _) in text.char_indices().rev() {
        if width(&text[at..]) + 1 > columns {
            break;
        }
        start = at;
    }
    format!("…{}", &text[start..])
}

/// Lines of a tooltip: each escaped, the breaks between them kept.
fn tooltip(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(xml).collect();
    lines.join("&#10;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_long_names_the_end_is_shown() {
        assert_eq!(end("backbone/stage1/conv2", 8), "…1/conv2");
        assert_eq!(end("conv2", 8), "conv2");
        assert_eq!(end("层层层", 4), "…层");
        let named = |name: &str, op: &str| {
            short_name(&NetworkLayer {
                name: name.to_owned(),
                op: op.to_owned(),
                tensor: String::new(),
                inputs: Vec::new(),
            })
        };
        assert_eq!(named("/stem/Conv", "Conv+Relu"), "/stem");
        assert_eq!(named("Conv", "Conv"), "Conv");
        assert_eq!(named("/Conv", "Conv"), "/Conv");
        assert_eq!(named("myConv", "Conv"), "myConv");
    }

    #[test]
    fn texts_fit_their_boxes() {
        for layers in [1, 36, 37, 130, 131, 5000] {
            let Density { sizes, lines } = density(layers);
            let total: f64 = lines.iter().map(|(size, _)| size * 1.3).sum();
            assert!(total <= sizes.node[1], "{layers}");
            for (size, fits) in lines {
                // A monospaced letter is 0.6 of its size wide, a little more in some fonts.
                assert!(
                    size * 0.62 * *fits as f64 <= sizes.node[0] - 4.0,
                    "{layers}"
                );
            }
        }
    }
}
