//! The report for a person at a terminal.

mod grid;
mod layers;

use grid::{Column, Grid, Look};

use super::style::Paint;
use super::text::{bytes, count, number, thousands, visible, wrap};
use super::{answers, view};
use crate::outcome::{Against, Outcome, TargetOutcome, Verdict};

/// So many targets get a table in place of a verdict line each.
const MANY_TARGETS: usize = 4;
/// Lines of a list that are shown unless the user asks for all.
const SHORT_LIST: usize = 3;
/// Below this no table can be laid out.
const LEAST_WIDTH: usize = 60;
/// Lines longer than this are hard to follow.
const MOST_WIDTH: usize = 240;

/// The outcome as text: verdicts first, then what is worst.
///
/// No line is wider than `width` columns (at least 60). `verbose` of 1 shows every layer with a witness.
pub fn terminal(outcome: &Outcome, width: usize, color: bool, verbose: u8) -> String {
    let mut page = Page {
        out: String::new(),
        width: width.clamp(LEAST_WIDTH, MOST_WIDTH),
        paint: Paint(color),
        verbose,
    };
    let several = outcome.targets.len() > 1;
    if outcome.targets.len() < MANY_TARGETS || !page.summary(outcome) {
        for target in &outcome.targets {
            page.verdict(target, outcome.inputs);
        }
    }
    page.note(&view::setting(outcome));
    page.notes(&outcome.model.notes);
    for target in &outcome.targets {
        page.blank();
        if several {
            page.rule(target);
        }
        page.target(target);
    }
    page.end(outcome);
    page.out
}

/// The verdict of every target, a line each.
pub fn verdict_lines(outcome: &Outcome, color: bool) -> String {
    let mut page = Page {
        out: String::new(),
        width: usize::MAX,
        paint: Paint(color),
        verbose: 0,
    };
    if let Some(text) = answers::interrupted(outcome) {
        page.line(&text);
    }
    for target in &outcome.targets {
        page.verdict(target, outcome.inputs);
        for line in target.accuracy.iter().flat_map(answers::accuracy).take(2) {
            page.line(&format!("  {line}"));
        }
    }
    page.out
}

/// What was assumed of the model, for texts of other verbs.
pub(crate) fn notes(notes: &[String], color: bool, verbose: bool) -> String {
    let mut page = Page {
        out: String::new(),
        width: usize::MAX,
        paint: Paint(color),
        verbose: u8::from(verbose),
    };
    page.notes(notes);
    page.out
}

struct Page {
    out: String,
    width: usize,
    paint: Paint,
    verbose: u8,
}

impl Page {
    fn line(&mut self, line: &str) {
        self.out.push_str(line.trim_end());
        self.out.push('\n');
    }

    fn blank(&mut self) {
        if !self.out.is_empty() && !self.out.ends_with("\n\n") {
            self.out.push('\n');
        }
    }

    /// A paragraph behind `start`, its further lines behind spaces; `look` paints a line.
    fn paragraph(&mut self, start: &str, text: &str, look: impl Fn(&str) -> String) {
        let indent = super::text::width(start);
        let columns = self.width.saturating_sub(indent).max(1);
        for (at, line) in wrap(text, columns, columns).iter().enumerate() {
            let line = if at == 0 {
                format!("{start}{}", look(line))
            } else {
                format!("{}{}", " ".repeat(indent), look(line))
            };
            self.line(&line);
        }
    }

    fn note(&mut self, text: &str) {
        let paint = self.paint;
        self.paragraph("", text, |line| paint.dim(line));
    }

    /// What the importer had to assume.
    fn notes(&mut self, notes: &[String]) {
        self.list("model: ", notes);
    }

    /// A list, cut unless the user asks for all.
    fn list(&mut self, start: &str, items: &[String]) {
        let shown = if self.verbose >= 1 {
            items.len()
        } else {
            SHORT_LIST
        };
        let paint = self.paint;
        for item in items.iter().take(shown) {
            self.paragraph(start, &visible(item), |line| paint.dim(line));
        }
        if items.len() > shown {
            self.note(&format!(
                "{start}… {} more (-v shows all)",
                items.len() - shown
            ));
        }
    }

    fn verdict(&mut self, target: &TargetOutcome, inputs: usize) {
        let shout = view::shout(target.verdict);
        let name = visible(&target.name);
        let text = format!("{name}: {shout}: {}", view::headline(target, inputs));
        let columns = self.width;
        for (at, line) in wrap(&text, columns, columns.saturating_sub(2))
            .iter()
            .enumerate()
        {
            if at > 0 {
                self.line(&format!("  {line}"));
                continue;
            }
            let painted = match line.strip_prefix(&format!("{name}: {shout}")) {
                Some(rest) => format!(
                    "{}: {}{rest}",
                    self.paint.bold(&name),
                    self.paint.verdict(target.verdict, shout)
                ),
                None => line.clone(),
            };
            self.line(&painted);
        }
    }

    /// A table of targets and verdicts; false where it does not fit.
    fn summary(&mut self, outcome: &Outcome) -> bool {
        let mut name = Column::left("target", Some(10));
        let mut verdict = Column::left("verdict", None);
        let mut counts: Vec<(Verdict, Column)> = view::VERDICTS
            .into_iter()
            // Proofs have a column where somebody asked for them.
            .filter(|&verdict| {
                let proved = |target: &TargetOutcome| view::layers_with(target, verdict) > 0;
                verdict != Verdict::Proved || outcome.targets.iter().any(proved)
            })
            .map(|verdict| (verdict, Column::right(layers::word(verdict))))
            .collect();
        let mut first = Column::left("first", Some(8));
        let mut lsb = Column::right("max LSB");
        let mut grade = Column::left("grade", None);
        for target in &outcome.targets {
            name.push(visible(&target.name), Look::Plain);
            verdict.push(layers::word(target.verdict), Look::Verdict(target.verdict));
            for (verdict, column) in &mut counts {
                let layers = view::layers_with(target, *verdict);
                let text = if layers == 0 {
                    String::new()
                } else {
                    thousands(layers as u64)
                };
                column.push(text, Look::Plain);
            }
            let divergent = view::first_divergent(target);
            first.push(
                divergent
                    .map(|layer| visible(&layer.name))
                    .unwrap_or_default(),
                Look::Plain,
            );
            let max = target
                .layers
                .iter()
                .filter_map(view::decisive)
                .map(|stats| stats.max_lsb)
                .fold(0.0, f64::max);
            lsb.push(number(max), Look::Plain);
            grade.push(visible(&target.grade), Look::Grade);
        }
        let mut columns = vec![name, verdict];
        columns.extend(counts.into_iter().map(|(_, column)| column));
        columns.extend([first, lsb, grade]);
        let grid = Grid::new(columns);
        if grid.least(0) > self.width {
            return false;
        }
        let (head, rows) = grid.lines(self.width, self.paint);
        self.line(&head);
        for row in rows {
            self.line(&row);
        }
        true
    }

    /// The line that starts a target's part.
    fn rule(&mut self, target: &TargetOutcome) {
        let name = super::text::middle(&visible(&target.name), self.width - 10);
        let used = super::text::width(&name) + 4;
        let line = format!(
            "── {name} {}",
            "─".repeat(self.width.min(100).saturating_sub(used))
        );
        let line = self.paint.bold(&line);
        self.line(&line);
    }

    fn target(&mut self, target: &TargetOutcome) {
        self.mismatches(target);
        for line in layers::table(target, self.width, self.paint, self.verbose) {
            self.line(&line);
        }
        self.causes(target);
        self.absent(target);
        self.blank();
        if let Some(first) = view::first_divergent(target) {
            self.paragraph(
                "first divergent layer: ",
                &view::named(first),
                str::to_owned,
            );
        }
        for output in &target.outputs {
            self.paragraph("output ", &view::output(target, output), str::to_owned);
        }
        for line in target.accuracy.iter().flat_map(answers::accuracy) {
            self.paragraph("", &line, str::to_owned);
        }
        if let Some(drifted) = &target.drifted {
            self.paragraph("drift: ", &view::drift(drifted), str::to_owned);
        }
        if let (Some(trace), true) = (&target.trace, self.verbose >= 1) {
            self.list("trace: ", &view::trace(trace));
        }
        self.list("unknown: ", &target.unknowns);
    }

    /// Grids that are not the model's, and biases that are quantized anew.
    fn mismatches(&mut self, target: &TargetOutcome) {
        for (what, groups) in view::mismatches(target) {
            self.mismatched(what.heading(), &groups);
        }
    }

    fn mismatched(&mut self, heading: &str, groups: &[view::Mismatch]) {
        let paint = self.paint;
        self.paragraph("", heading, |line| paint.alarm(line));
        for group in groups {
            let why = format!("{} (e.g. {})", visible(&group.why), visible(&group.example));
            self.paragraph(
                &format!("  {} × ", thousands(group.count as u64)),
                &why,
                str::to_owned,
            );
            if let Some(cost) = view::cost(group) {
                self.paragraph("      cost: ", &cost, |line| paint.bold(line));
            }
        }
        self.blank();
    }

    /// What the causes in the table mean.
    fn causes(&mut self, target: &TargetOutcome) {
        let causes = view::causes(target);
        if causes.is_empty() {
            return;
        }
        self.blank();
        let shown = if self.verbose >= 1 {
            causes.len()
        } else {
            2 * SHORT_LIST
        };
        for (name, text, layers) in causes.iter().take(shown) {
            let text = format!("{} ({})", visible(text), count(*layers, "layer"));
            let start = format!("{}: ", visible(name));
            self.paragraph(&start, &text, str::to_owned);
        }
        if causes.len() > shown {
            self.note(&format!(
                "… {} (-v shows all)",
                count(causes.len() - shown, "more cause")
            ));
        }
    }

    /// Why the target lacks tensors of the model.
    fn absent(&mut self, target: &TargetOutcome) {
        let lines: Vec<String> = target
            .layers
            .iter()
            .filter_map(|layer| Some(format!("'{}': {}", layer.tensor, view::absent(layer)?)))
            .collect();
        if !lines.is_empty() {
            self.blank();
            self.list("no such tensor: ", &lines);
        }
    }

    /// What holds for all targets, and what to do next.
    fn end(&mut self, outcome: &Outcome) {
        if let Some(floor) = &outcome.floor {
            self.blank();
            self.paragraph("", &view::floor(floor), str::to_owned);
        }
        if let Some((missing, what)) = view::missing(&outcome.against) {
            self.blank();
            let shown = if self.verbose >= 1 {
                missing.len()
            } else {
                SHORT_LIST
            };
            let names: Vec<String> = missing
                .iter()
                .take(shown)
                .map(|name| visible(name))
                .collect();
            let more = match missing.len() - names.len() {
                0 => String::new(),
                more => format!(" and {} more (-v shows all)", thousands(more as u64)),
            };
            let text = format!(
                "{what} {}: {}{more}",
                count(missing.len(), "tensor"),
                names.join(", ")
            );
            let paint = self.paint;
            self.paragraph("", &text, |line| paint.alarm(line));
        }
        self.blank();
        if self.verbose >= 1 {
            let process = outcome
                .peak_process_bytes
                .map_or_else(String::new, |peak| format!("; peak memory {}", bytes(peak)));
            self.note(&format!(
                "{:.2} s, at most {} of tensors alive at once{process}",
                outcome.seconds,
                bytes(outcome.peak_tensor_bytes)
            ));
        }
        let next = self.next(outcome);
        self.paragraph("next: ", &next, str::to_owned);
    }

    /// What to do now.
    fn next(&self, outcome: &Outcome) -> String {
        let mut steps = Vec::new();
        let worst = view::worst(outcome);
        if worst.fails() && self.verbose == 0 {
            steps.push("-v (every layer, with an element that shows the difference)".to_owned());
        }
        if worst == Verdict::UnknownRule {
            steps.push("--cases DIR (a minimal case of each unknown rule)".to_owned());
        }
        if worst.fails() {
            steps.push("--report json=out.json (all numbers) or html=out.html".to_owned());
        } else {
            let proved = |target: &TargetOutcome| view::layers_with(target, Verdict::Proved) > 0;
            if outcome.against == Against::Reference && !outcome.targets.iter().any(proved) {
                steps.push("--prove (which layers no input can make differ)".to_owned());
            }
            steps.push("--report junit=align.xml (for CI)".to_owned());
        }
        let weak = |target: &&TargetOutcome| target.grade == "hypothesis" && target.name != "exact";
        let doubtful = outcome
            .targets
            .iter()
            .find(weak)
            .or(outcome.targets.first());
        if let Some(target) = doubtful {
            steps.push(format!(
                "align-check targets {} (its rules and how they are known)",
                visible(&target.name)
            ));
        }
        steps.join("; ")
    }
}
