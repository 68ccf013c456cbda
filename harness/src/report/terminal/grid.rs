//! A table of text that fits a width.

use super::super::style::Paint;
use super::super::text::{middle, pad, width};
use crate::outcome::Verdict;

/// Spaces between columns.
const GAP: usize = 2;

/// How a cell looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Look {
    Plain,
    Dim,
    Verdict(Verdict),
    Grade,
}

/// A column of a table.
#[derive(Debug)]
pub(super) struct Column {
    head: &'static str,
    right: bool,
    /// It is not made narrower than this.
    min: usize,
    max: usize,
    cells: Vec<(String, Look)>,
}

impl Column {
    /// Texts; a column that may be shortened in the middle has a least width.
    pub(super) fn left(head: &'static str, min: Option<usize>) -> Self {
        Self {
            head,
            right: false,
            min: min.unwrap_or(usize::MAX),
            max: usize::MAX,
            cells: Vec::new(),
        }
    }

    /// Numbers.
    pub(super) fn right(head: &'static str) -> Self {
        Self {
            head,
            right: true,
            min: usize::MAX,
            max: usize::MAX,
            cells: Vec::new(),
        }
    }

    /// Never wider than this.
    pub(super) fn at_most(mut self, columns: usize) -> Self {
        self.max = columns;
        self
    }

    pub(super) fn push(&mut self, text: impl Into<String>, look: Look) {
        self.cells.push((text.into(), look));
    }

    fn natural(&self) -> usize {
        let cells = self
            .cells
            .iter()
            .map(|(text, _)| width(text))
            .max()
            .unwrap_or(0);
        cells.max(width(self.head)).min(self.max)
    }

    fn is_empty(&self) -> bool {
        self.cells.iter().all(|(text, _)| text.is_empty())
    }
}

/// Columns side by side.
#[derive(Debug)]
pub(super) struct Grid {
    columns: Vec<Column>,
}

impl Grid {
    /// Columns without any text are left out.
    pub(super) fn new(columns: Vec<Column>) -> Self {
        Self {
            columns: columns
                .into_iter()
                .filter(|column| !column.is_empty())
                .collect(),
        }
    }

    /// Columns that it takes if every shortenable column is as narrow as `narrow` allows.
    pub(super) fn least(&self, narrow: usize) -> usize {
        let gaps = GAP * self.columns.len().saturating_sub(1);
        let sum = |column: &Column| match column.min {
            usize::MAX => column.natural(),
            min => column.natural().min(min.max(narrow)),
        };
        gaps + self.columns.iter().map(sum).sum::<usize>()
    }

    /// Header and rows, none wider than `columns`.
    pub(super) fn lines(&self, columns: usize, paint: Paint) -> (String, Vec<String>) {
        let widths = self.widths(columns);
        let head = self.line(&widths, columns, |column| (column.head, Look::Dim), paint);
        let rows = self
            .columns
            .iter()
            .map(|column| column.cells.len())
            .max()
            .unwrap_or(0);
        let row = |row: usize| {
            let cell = |column: &'_ Column| {
                column
                    .cells
                    .get(row)
                    .map_or((String::new(), Look::Plain), Clone::clone)
            };
            let cells: Vec<(String, Look)> = self.columns.iter().map(cell).collect();
            self.row(&widths, columns, &cells, paint)
        };
        (head, (0..rows).map(row).collect())
    }

    fn line<'a>(
        &'a self,
        widths: &[usize],
        columns: usize,
        cell: impl Fn(&'a Column) -> (&'a str, Look),
        paint: Paint,
    ) -> String {
        let cells: Vec<(String, Look)> = self
            .columns
            .iter()
            .map(|column| {
                let (text, look) = cell(column);
                (text.to_owned(), look)
            })
            .collect();
        self.row(widths, columns, &cells, paint)
    }

    fn row(
        &self,
        widths: &[usize],
        columns: usize,
        cells: &[(String, Look)],
        paint: Paint,
    ) -> String {
        let mut out = String::new();
        let mut used = 0;
        let mut pending = 0;
        for ((column, (text, look)), &size) in self.columns.iter().zip(cells).zip(widths) {
            let size = size.min(columns.saturating_sub(used + pending));
            let text = middle(text, size);
            let padded = pad(&text, size, column.right);
            // Spaces are held back, so that no line ends in them.
            let trimmed = padded.trim_end();
            if !trimmed.is_empty() {
                out.push_str(&" ".repeat(pending));
                used += pending + width(trimmed);
                out.push_str(&match look {
                    Look::Plain => trimmed.to_owned(),
                    Look::Dim => paint.dim(trimmed),
                    Look::Verdict(verdict) => paint.verdict(*verdict, trimmed),
                    Look::Grade => paint.grade(&text, trimmed),
                });
                pending = 0;
            }
            pending += width(&padded) - width(trimmed) + GAP;
        }
        out
    }

    /// Takes from the widest shortenable column until all fit.
    fn widths(&self, columns: usize) -> Vec<usize> {
        let mut widths: Vec<usize> = self.columns.iter().map(Column::natural).collect();
        let gaps = GAP * widths.len().saturating_sub(1);
        while widths.iter().sum::<usize>() + gaps > columns {
            let widest = self
                .columns
                .iter()
                .enumerate()
                .filter(|&(at, column)| column.min != usize::MAX && widths[at] > column.min)
                .max_by_key(|&(at, _)| widths[at]);
            let Some((at, _)) = widest else { break };
            widths[at] -= 1;
        }
        widths
    }
}
