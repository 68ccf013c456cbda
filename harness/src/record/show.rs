//! What `record` decided, for people and for machines.

use std::fmt::Write as _;

use serde::Serialize;

use super::names::Why;
use super::plausible::Facts;
use crate::report::style::Paint;
use crate::report::text::{count, visible};

/// Version of the machine-readable report.
const SCHEMA: &str = "align-check/record/1";

/// Names that are listed before the rest is only counted.
const LISTED: usize = 40;

/// What was recorded.
#[derive(Debug, Serialize)]
pub(crate) struct Recorded {
    /// Version of this report.
    pub(crate) schema: &'static str,
    /// The folder.
    pub(crate) out: String,
    /// Kinds of dumps.
    pub(crate) formats: Vec<&'static str>,
    /// Samples.
    pub(crate) samples: usize,
    /// Where the inputs come from.
    pub(crate) inputs: &'static str,
    /// Tensors that are in the recording, inputs included.
    pub(crate) tensors: Vec<Line>,
    /// Dumps that are not.
    pub(crate) unmatched: Vec<Unmatched>,
    /// Tensors that layers hand on, and that no dump has.
    pub(crate) missing: Vec<String>,
    /// Files that were left out.
    pub(crate) ignored: Vec<String>,
    /// What else is to be known.
    pub(crate) notes: Vec<String>,
}

/// One recorded tensor.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    /// The dump's name.
    pub(crate) dump: String,
    /// The model's.
    pub(crate) tensor: String,
    /// Why.
    pub(crate) why: Why,
    /// How its axes were taken.
    pub(crate) layout: String,
    /// Its shape in the recording.
    pub(crate) shape: Vec<usize>,
    /// What is stored.
    pub(crate) stored: String,
    /// Whether it is compared: a layer hands it on.
    pub(crate) compared: bool,
    /// What its numbers look like.
    pub(crate) facts: Facts,
}

/// A dump that is no tensor, or not surely.
#[derive(Debug, Serialize)]
pub(crate) struct Unmatched {
    /// The dump's name.
    pub(crate) dump: String,
    /// Why it was left out.
    pub(crate) why: String,
}

impl Recorded {
    /// An empty report.
    pub(crate) fn new(out: String) -> Self {
        Self {
            schema: SCHEMA,
            out,
            formats: Vec::new(),
            samples: 0,
            inputs: "",
            tensors: Vec::new(),
            unmatched: Vec::new(),
            missing: Vec::new(),
            ignored: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// For the terminal.
    pub(crate) fn text(&self, color: bool) -> String {
        let paint = Paint(color);
        let mut out = String::new();
        for line in &self.tensors {
            let _ = writeln!(out, "{}", line.text(paint));
        }
        let left = self
            .unmatched
            .iter()
            .map(|u| format!("{} ({})", u.dump, u.why));
        list(
            &mut out,
            "dumps that are not recorded",
            &left.collect::<Vec<_>>(),
            paint,
        );
        list(&mut out, "tensors without a dump", &self.missing, paint);
        list(&mut out, "files left out", &self.ignored, paint);
        for note in &self.notes {
            let _ = writeln!(out, "{}", paint.alarm(&visible(note)));
        }
        let odd = self
            .tensors
            .iter()
            .filter(|t| !t.facts.warnings.is_empty())
            .count();
        let odd = match odd {
            0 => String::new(),
            odd => format!("; {} with warnings", count(odd, "tensor")),
        };
        let _ = writeln!(
            out,
            "recorded: {}, {}, inputs from {}, in {}{odd}",
            count(self.tensors.len(), "tensor"),
            count(self.samples, "sample"),
            self.inputs,
            visible(&self.out),
        );
        out
    }
}

impl Line {
    fn text(&self, paint: Paint) -> String {
        let mut text = format!(
            "{} -> {}  {}; {}; {}",
            visible(&self.dump),
            visible(&self.tensor),
            visible(&self.why.text()),
            self.layout,
            self.stored
        );
        if let Some(on) = self.facts.on_grid.filter(|&on| on == 1.0) {
            let _ = write!(text, ", {} % on the grid", on * 100.0);
        }
        if let Some(cosine) = self.facts.cosine {
            let _ = write!(text, ", cosine {cosine:.4}");
        }
        if !self.compared {
            text.push_str(", not compared");
        }
        let mut warnings = self.facts.warnings.clone();
        if self.why == Why::Shape {
            warnings.push("check that it is this tensor".to_owned());
        }
        if warnings.is_empty() {
            return text;
        }
        let warnings = format!("! {}", visible(&warnings.join("; ")));
        format!("{text}  {}", paint.alarm(&warnings))
    }
}

fn list(out: &mut String, what: &str, names: &[String], paint: Paint) {
    if names.is_empty() {
        return;
    }
    let _ = writeln!(out, "{}", paint.bold(&format!("{what}: {}", names.len())));
    for name in names.iter().take(LISTED) {
        let _ = writeln!(out, "  {}", visible(name));
    }
    if names.len() > LISTED {
        let _ = writeln!(
            out,
            "  and {} more (--report json=PATH lists all)",
            names.len() - LISTED
        );
    }
}
