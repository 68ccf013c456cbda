//! How often the right class was found, and how a run was ended, in words.

use super::text::{count, number, thousands, visible};
use crate::outcome::{Accuracy, Outcome, Share, Top};

/// Flips and layers that are named in a sentence.
const NAMED: usize = 5;

/// Whether somebody ended the run before its end.
pub(crate) fn interrupted(outcome: &Outcome) -> Option<String> {
    let all = outcome.interrupted?;
    Some(format!(
        "INTERRUPTED after {} of {}: all that follows is of these; causes and drift were not followed to the end",
        thousands(outcome.inputs as u64),
        count(all, "input")
    ))
}

/// Accuracy of the reference and a target, which inputs flip, and which layers are to blame; a sentence each.
pub(crate) fn accuracy(found: &Accuracy) -> Vec<String> {
    let mut lines = vec![format!("top-1: {}", top(&found.top1))];
    lines.extend(
        found
            .top5
            .as_ref()
            .map(|top5| format!("top-5: {}", top(top5))),
    );
    let flips = found.flips.len();
    if flips == 0 {
        lines.push(format!(
            "flips: none of {} gets another largest class",
            count(found.inputs as usize, "input")
        ));
        return lines;
    }
    let named = found.flips.iter().take(NAMED).map(|flip| {
        format!(
            "{} (label {}: {} became {})",
            visible(&flip.input),
            flip.label,
            flip.reference,
            flip.target
        )
    });
    lines.push(format!(
        "flips: {} of {} inputs get another largest class: {}{}",
        thousands(flips as u64),
        thousands(found.inputs),
        named.collect::<Vec<_>>().join(", "),
        more(flips)
    ));
    if found.followed == 0 {
        lines.push(
            "blame: unknown; no flip was followed, because the network is too large, no layer alone differs, or the run was \
             interrupted"
                .to_owned(),
        );
        return lines;
    }
    let layers = found.blame.iter().take(NAMED).map(|layer| {
        format!(
            "{} alone flips {} and makes {} % of the change",
            visible(&layer.layer),
            thousands(layer.flips),
            number((layer.share * 1000.0).round() / 10.0)
        )
    });
    let layers: Vec<String> = layers.collect();
    lines.push(if layers.is_empty() {
        format!("blame: no layer alone changes the classes of the {} followed flips", found.followed)
    } else {
        format!(
            "blame (approximate: one layer in the target's arithmetic{}, all others in the reference's; layers act \
             together), of {} followed: {}{}",
            if found.rounded { ", rounded to the model's grid" } else { "" },
            count(found.followed as usize, "flip"),
            layers.join("; "),
            more(found.blame.len())
        )
    });
    lines
}

fn more(all: usize) -> String {
    match all.saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(", {} more", thousands(more as u64)),
    }
}

fn top(top: &Top) -> String {
    let share = |share: &Share| {
        format!(
            "{:.2} % ({}; {:.2} to {:.2})",
            share.rate * 100.0,
            thousands(share.right),
            share.interval[0] * 100.0,
            share.interval[1] * 100.0
        )
    };
    let points = |share: f64| format!("{:+.2}", share * 100.0);
    let [low, high] = top.interval;
    let weight = if low > 0.0 || high < 0.0 {
        "beyond chance"
    } else {
        "may be chance"
    };
    format!(
        "fake-quant model {}, target {}; difference {} points, 95 % interval {} to {}: {weight}; {} lost, {} gained",
        share(&top.reference),
        share(&top.target),
        points(top.difference),
        points(low),
        points(high),
        thousands(top.lost),
        thousands(top.gained)
    )
}
