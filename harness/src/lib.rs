//! Reference, comparison, causes and reports.
