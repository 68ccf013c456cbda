//! What a recording tells of fixed-point types: the spec, and the reports.

use std::fmt::Write as _;

use align_check_specs::{Evidence, Grade, PrecisionRules, Spec};
use anyhow::{Result, anyhow};

use super::types::TypesFound;
use crate::outcome::Verdict;
use crate::report::style::Paint;
use crate::report::text::{count, thousands, visible};

impl TypesFound {
    /// Whether every element is explained.
    pub fn explained(&self) -> bool {
        self.differing == 0
    }

    /// A spec with the rules that were found.
    ///
    /// # Errors
    /// It would not be legal.
    pub fn spec(&self, source: &str) -> Result<Spec> {
        let mut spec = self
            .spec
            .clone()
            .ok_or_else(|| anyhow!("no rules were found"))?;
        let what = format!(
            "inferred from {source}: reproduces {} of {} elements",
            self.elements - self.differing,
            self.elements
        );
        spec.name = "inferred".into();
        spec.aliases = Vec::new();
        spec.encodings = Vec::new();
        spec.summary = format!("Fixed-point types, {what}");
        spec.unknowns = self
            .rules
            .iter()
            .skip(1)
            .map(|rules| format!("could be, too: {}", words(*rules)))
            .collect();
        spec.evidence = vec![Evidence {
            rules: vec!["*".into()],
            grade: Grade::Hypothesis,
            source: what,
            note: None,
        }];
        Ok(spec)
    }

    /// One line.
    pub fn summary(&self) -> String {
        format!(
            "{} of {} elements explained in fixed-point types: {}\n",
            thousands(self.elements - self.differing),
            thousands(self.elements),
            self.rules.first().copied().map(words).unwrap_or_default()
        )
    }

    /// The terminal report.
    pub fn terminal(&self, color: bool) -> String {
        let paint = Paint(color);
        let mut text = String::new();
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(
            text,
            "{}: {} of {} rules reproduce {} of {} elements",
            paint.bold("casts and sums"),
            self.rules.len(),
            self.tried,
            thousands(self.elements - self.differing),
            thousands(self.elements)
        );
        for rules in &self.rules {
            let _ = writeln!(text, "  rule      {}", words(*rules));
        }
        if let Some((rules, wrong)) = &self.runner_up {
            let _ = writeln!(
                text,
                "  refuted   {}: {} wrong",
                words(*rules),
                thousands(*wrong)
            );
        }
        for found in &self.accumulators {
            let verdict = if found.stated_fits {
                paint.verdict(Verdict::Aligned, &format!("{} fits", found.stated))
            } else {
                paint.verdict(
                    Verdict::Misaligned,
                    &format!("{} does not fit", found.stated),
                )
            };
            let _ = writeln!(
                text,
                "{}: {verdict}; {} of {} types do",
                paint.bold(&format!("accumulator of {}", visible(&found.tensor))),
                found.survivors,
                found.tried
            );
            let list = |all: &[String]| {
                let shown: Vec<&str> = all.iter().take(8).map(String::as_str).collect();
                let more = all.len().saturating_sub(8);
                let more = if more > 0 {
                    format!(" / {more} more")
                } else {
                    String::new()
                };
                format!("{}{more}", shown.join(" / "))
            };
            if found.survivors > 0 {
                let _ = writeln!(text, "  fractional bits  {}", list(&found.fractions));
                let _ = writeln!(text, "  integer bits     {}", list(&found.integers));
            }
        }
        for (tensor, wrong) in &self.open {
            let _ = writeln!(
                text,
                "{} {}: {} differ",
                paint.alarm("open"),
                visible(tensor),
                count(*wrong as usize, "element")
            );
        }
        text + "\n" + &self.summary()
    }

    /// The JSON report.
    pub fn json(&self) -> String {
        // Plain data: nothing in it can fail to serialize.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

fn words(rules: PrecisionRules) -> String {
    use super::point::word;
    format!(
        "products: {}, bias: {}, order: {}",
        word(&rules.product),
        word(&rules.bias),
        word(&rules.order)
    )
}
