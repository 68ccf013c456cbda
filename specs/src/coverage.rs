//! Evidence: which entry speaks for which rule.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::text::closest;
use crate::tree::Tree;
use crate::view::{PATHS, is_path};
use crate::{Error, Evidence, Grade, Product, Spec};

/// Sections that an entry may name.
const SECTIONS: &[&str] = &[
    "*",
    "activations",
    "weights",
    "quantize",
    "bias",
    "accumulator",
    "requantize",
    "convolution",
    "depthwise",
    "transposed",
    "fully-connected",
    "fully-connected-unbiased",
    "ops",
    "unsigned",
    "unsigned.ops",
    "precision",
    "thresholds",
    "placement",
    "limits",
];

/// Stands for a rule that no entry covers; [`Spec::parse`] lets none through.
static NOTHING: LazyLock<Evidence> = LazyLock::new(|| Evidence {
    rules: Vec::new(),
    grade: Grade::Hypothesis,
    source: "none".to_owned(),
    note: None,
});

impl Spec {
    /// The weakest grade over all rules.
    pub fn grade(&self) -> Grade {
        self.weakest(&["*"])
    }

    /// The entry that speaks for a rule: the most specific one (`requantize.steps` before `requantize`
    /// before `*`). For a whole section it is the entry of its weakest rule.
    pub fn evidence_for(&self, rule: &str) -> &Evidence {
        let rule = self.renamed(rule);
        let below = self
            .rows()
            .into_iter()
            .filter(|(path, _)| rule == "*" || is_inside(path, &rule));
        below
            .filter_map(|(path, _)| self.entry(&path))
            .min_by_key(|entry| entry.grade)
            .or_else(|| self.entry(&rule))
            .unwrap_or_else(|| &NOTHING)
    }

    /// The weakest grade of some rules or sections. Of none: `recorded`, as nothing rests on anything.
    pub fn weakest(&self, rules: &[&str]) -> Grade {
        rules
            .iter()
            .map(|rule| self.evidence_for(rule).grade)
            .min()
            .unwrap_or(Grade::Recorded)
    }

    /// A section that the target does not have follows a more general one.
    fn renamed(&self, rule: &str) -> String {
        for (section, product) in [
            ("convolution", Product::Convolution),
            ("depthwise", Product::Depthwise),
            ("transposed", Product::Transposed),
            ("fully-connected", Product::FullyConnected),
            ("fully-connected-unbiased", Product::FullyConnectedUnbiased),
        ] {
            if let Some(rest) = rule.strip_prefix(section)
                && (rest.is_empty() || rest.starts_with('.'))
            {
                return format!("{}{rest}", self.of_product(product).1);
            }
        }
        rule.to_owned()
    }

    fn entry(&self, path: &str) -> Option<&Evidence> {
        self.evidence
            .iter()
            .flat_map(|entry| entry.rules.iter().map(move |name| (name.as_str(), entry)))
            .filter(|(name, _)| *name == "*" || *name == path || is_inside(path, name))
            .max_by_key(|(name, _)| if *name == "*" { 0 } else { name.len() })
            .map(|(_, entry)| entry)
    }
}

fn is_inside(path: &str, section: &str) -> bool {
    path.strip_prefix(section)
        .is_some_and(|rest| rest.starts_with('.'))
}

/// Every rule has an entry, and every entry names rules.
pub(crate) fn check(spec: &Spec, tree: &Tree<'_>, origin: &str) -> Result<(), Error> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, entry) in spec.evidence.iter().enumerate() {
        let place = format!("evidence[{index}]");
        let fail = |field: &str, reason: String| {
            let line = tree.line_of(&format!("{place}.{field}"));
            Err(Error::at(origin, line, &format!("[[evidence]] {reason}")))
        };
        if entry.rules.is_empty() {
            return fail("rules", "names no rule".to_owned());
        }
        if entry.source.trim().is_empty() {
            return fail("source", "has an empty source".to_owned());
        }
        for (position, name) in entry.rules.iter().enumerate() {
            let field = format!("rules[{position}]");
            if !SECTIONS.contains(&name.as_str()) && !is_path(name) {
                let known = [SECTIONS, PATHS].concat();
                let hint = closest(name, &known)
                    .map_or_else(String::new, |near| format!(" (did you mean '{near}'?)"));
                return fail(&field, format!("names '{name}', which is no rule{hint}"));
            }
            let line = tree.line_of(&format!("{place}.{field}"));
            if let Some(first) = seen.insert(name, line) {
                return fail(
                    &field,
                    format!("names '{name}' a second time, first at line {first}"),
                );
            }
        }
    }
    for (path, _) in spec.rows() {
        if spec.entry(&path).is_none() {
            return Err(Error::uncovered(origin, &path));
        }
    }
    Ok(())
}
