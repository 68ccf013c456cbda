//! Colour, where the caller wants it.

use anstyle::{AnsiColor, Style};

use crate::outcome::Verdict;

/// Paints texts, or leaves them as they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint(pub(crate) bool);

impl Paint {
    fn with(self, style: Style, text: &str) -> String {
        if self.0 && !text.is_empty() {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }

    /// Headings.
    pub(crate) fn bold(self, text: &str) -> String {
        self.with(Style::new().bold(), text)
    }

    /// What is rarely read.
    pub(crate) fn dim(self, text: &str) -> String {
        self.with(Style::new().dimmed(), text)
    }

    /// What must not be overlooked.
    pub(crate) fn alarm(self, text: &str) -> String {
        self.with(AnsiColor::Yellow.on_default().bold(), text)
    }

    /// Words about a verdict.
    pub(crate) fn verdict(self, verdict: Verdict, text: &str) -> String {
        let color = super::view::look(verdict).ansi;
        self.with(color.on_default().bold(), text)
    }

    /// An evidence grade: the weak ones stand out.
    pub(crate) fn grade(self, grade: &str, text: &str) -> String {
        match grade {
            "hypothesis" => self.with(AnsiColor::Red.on_default(), text),
            "documented" => self.with(AnsiColor::Yellow.on_default(), text),
            _ => text.to_owned(),
        }
    }
}
