//! An explained element for people and for machines.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Explained, Line, Number, Read, SCHEMA, Side, joined};
use crate::outcome::Verdict;
use crate::report::style::Paint;
use crate::report::text::{count, pad, visible, width};

/// So many elements are listed; of more, the largest.
const LISTED: usize = 12;
/// Of more than these, the largest so many.
const LARGEST: usize = 8;
/// So many steps are shown; of more, the first and the last ones.
const STEPS: usize = 48;

/// The JSON report.
pub fn json(explained: &Explained) -> String {
    #[derive(Serialize)]
    struct Report<'a> {
        schema: &'static str,
        #[serde(flatten)]
        explained: &'a Explained,
    }
    let report = Report {
        schema: SCHEMA,
        explained,
    };
    // Plain data: nothing in it can fail to serialize.
    serde_json::to_string_pretty(&report).unwrap_or_default() + "\n"
}

/// The terminal report. `verbose`: every product, every step.
pub fn terminal(explained: &Explained, color: bool, verbose: bool) -> String {
    let paint = Paint(color);
    let mut out = format!(
        "{} ({}), tensor '{}' of shape {}: element {}\n",
        paint.bold(&visible(&explained.layer)),
        visible(&explained.op),
        visible(&explained.tensor),
        joined(&explained.shape),
        joined(&explained.element)
    );
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(
        out,
        "sample {} ('{}'), fed with the {}'s codes",
        explained.sample,
        visible(&explained.sample_name),
        explained.fed_with
    );
    let [reference, target] = &explained.sides;
    let shared = reference.reads == target.reads;
    if shared {
        out += "\n";
        reads(&mut out, "both sides read", &reference.reads, verbose);
    }
    for side in &explained.sides {
        let _ = writeln!(
            out,
            "\n{} ({})",
            paint.bold(&visible(&side.name)),
            side.role
        );
        if !shared {
            reads(&mut out, "  reads", &side.reads, verbose);
        }
        steps(&mut out, side, paint, verbose);
    }
    out += "\n";
    if let Some(recorded) = &explained.recorded {
        let _ = writeln!(out, "recorded: {}", recorded.text);
    }
    out + &verdict(explained, color)
}

/// One line: whether the target gives what it is compared with.
pub fn verdict(explained: &Explained, color: bool) -> String {
    let target = &explained.sides[1].name;
    let against = if explained.recorded.is_some() {
        "the recording"
    } else {
        "the reference"
    };
    let (verdict, text) = if explained.equal {
        (
            Verdict::Aligned,
            format!("{target} gives what {against} has"),
        )
    } else {
        (
            Verdict::Misaligned,
            format!("{target} differs from {against}"),
        )
    };
    Paint(color).verdict(verdict, &visible(&text)) + "\n"
}

fn reads(out: &mut String, start: &str, reads: &[Read], verbose: bool) {
    if reads.is_empty() {
        return;
    }
    let all = verbose || reads.len() <= LISTED;
    let mut order: Vec<&Read> = reads.iter().collect();
    if !all {
        order.sort_by(|a, b| magnitude(b).total_cmp(&magnitude(a)));
        order.truncate(LARGEST);
    }
    let integers = reads.iter().all(|read| read.product.is_some());
    let products = integers || reads.iter().all(|read| read.real_product.is_some());
    let what = if products { "product" } else { "element" };
    let cut = if all {
        String::new()
    } else {
        format!(", the largest {LARGEST} of them (-v shows all)")
    };
    let _ = writeln!(out, "{start} {}{cut}:", count(reads.len(), what));
    let lines: Vec<[String; 2]> = order.iter().map(|read| line(read)).collect();
    let columns = lines.iter().map(|[left, _]| width(left)).max().unwrap_or(0);
    for [left, right] in &lines {
        let text = format!("  {}  {right}", pad(left, columns, false));
        let _ = writeln!(out, "{}", text.trim_end());
    }
    // Reals are not added up here: their sum depends on the order.
    if !all && integers {
        let shown: i64 = order.iter().filter_map(|read| read.product).sum();
        let total: i64 = reads.iter().filter_map(|read| read.product).sum();
        let rest = count(reads.len() - LARGEST, "other product");
        let _ = writeln!(out, "  {}  = {}", pad(&rest, columns, false), total - shown);
    }
}

fn magnitude(read: &Read) -> f64 {
    match (&read.real_product, read.value.kind) {
        (Some(product), _) => real(product),
        (None, "int") => read.product.unwrap_or(read.centred) as f64,
        _ => real(&read.value),
    }
    .abs()
}

fn real(number: &Number) -> f64 {
    number.value.parse().unwrap_or_default()
}

/// `x[0,1,2] = 17, less zero point 3` and `14 * w[..] -3 = -42`.
fn line(read: &Read) -> [String; 2] {
    let place = match &read.element {
        Some(element) => format!("{}[{}]", visible(&read.tensor), joined(element)),
        None => "outside the image".to_owned(),
    };
    if read.value.kind != "int" {
        let left = format!("{place} real {}", read.value.value);
        let right = match (&read.real_factor, &read.factor_element, &read.real_product) {
            (Some(factor), Some(at), Some(product)) => format!(
                "* {} (weight {}) = {}",
                factor.value,
                joined(at),
                product.value
            ),
            _ => String::new(),
        };
        return [left, right];
    }
    let code: i64 = read.value.value.parse().unwrap_or(read.centred);
    let zero = code - read.centred;
    let left = format!("{place} code {code} - {zero}");
    let right = match (read.factor, &read.factor_element, read.product) {
        (Some(factor), Some(at), Some(product)) => {
            format!(
                "= {} * {factor} (weight {}) = {product}",
                read.centred,
                joined(at)
            )
        }
        _ => format!("= {}", read.centred),
    };
    [left, right]
}

fn steps(out: &mut String, side: &Side, paint: Paint, verbose: bool) {
    let steps: Vec<&Line> = side.steps.iter().collect();
    let names = steps.iter().map(|step| width(step.name)).max().unwrap_or(0);
    let cut = if verbose || steps.len() <= STEPS {
        None
    } else {
        Some(STEPS / 4..steps.len() - STEPS / 2)
    };
    for (at, step) in steps.iter().enumerate() {
        if let Some(cut) = cut.as_ref().filter(|cut| cut.contains(&at)) {
            if at == cut.start {
                let _ = writeln!(out, "  … {} (-v shows them)", count(cut.len(), "more step"));
            }
            continue;
        }
        let how = match step.how.as_str() {
            "" => String::new(),
            how => format!("{} ", visible(how)),
        };
        // Inexact is every rounding that rounds; the other flags are what people look for.
        let flags: Vec<&str> = step
            .flags
            .split(", ")
            .filter(|f| !["", "inexact"].contains(f))
            .collect();
        let flags = match flags[..] {
            [] => String::new(),
            _ => format!("  {}", paint.alarm(&flags.join(", "))),
        };
        let _ = writeln!(
            out,
            "  {}  {how}= {}{flags}",
            pad(step.name, names, false),
            step.value.text
        );
    }
    let kind = if side.result.kind == "int" {
        "code"
    } else {
        "real"
    };
    let text = format!("{kind} {}", side.result.text);
    let _ = writeln!(out, "  {}", paint.bold(&text));
}
