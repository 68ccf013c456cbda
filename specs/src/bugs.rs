//! Known bugs: what a target is known to compute otherwise than its rules say.

use std::fmt::Write as _;

use crate::{KnownBug, Spec};

impl Spec {
    /// The known bugs of a layer's operators (`Conv+Relu`: of either).
    pub fn known_bugs_of(&self, op: &str) -> Vec<&KnownBug> {
        let named = |bug: &&KnownBug| {
            op.split('+')
                .any(|op| bug.ops.iter().any(|own| own.eq_ignore_ascii_case(op)))
        };
        self.known_bugs.iter().filter(named).collect()
    }
}

/// The first entry that leaves something out, and what.
pub(crate) fn incomplete(spec: &Spec) -> Option<(String, String)> {
    spec.known_bugs.iter().find_map(|bug| {
        let texts = [&bug.what, &bug.source, &bug.recording];
        let blank = |text: &str| text.trim().is_empty() || text.contains(['\n', '\r']);
        let nothing = bug.ops.is_empty() || bug.ops.iter().any(|op| blank(op));
        (nothing || texts.iter().any(|text| blank(text))).then(|| {
            let reason = "every known bug needs operators, what it does, a source and a recording, a line each";
            ("known-bugs".to_owned(), reason.to_owned())
        })
    })
}

/// The bugs as a Markdown list; empty where there are none.
pub(crate) fn list(spec: &Spec) -> String {
    let mut out = String::new();
    if !spec.known_bugs.is_empty() {
        out.push_str("\nKnown bugs, which no rule here has:\n\n");
    }
    for bug in &spec.known_bugs {
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "- `{}`: {} ({}; shown by `{}`)",
            bug.ops.join("`, `"),
            bug.what,
            bug.source,
            bug.recording
        );
    }
    out
}
