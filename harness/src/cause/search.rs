//! The smallest set of decisions that removes the differences: each alone, then in pairs, then greedily.

use super::decisions::Decision;
use super::trial::{Case, Count, Variant};

/// Most decisions of a set.
const LARGEST: usize = 6;

/// Most pairs that are counted on every element, of those that look best on a few.
const FINALISTS: usize = 8;

/// Most pairs that explain everything and are listed.
const MOST_EQUAL: usize = 16;

/// A set of decisions that was tried.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// Which ones, ascending.
    pub set: Vec<usize>,
    /// What it found.
    pub count: Count,
}

impl Trial {
    /// Whether nothing is left, and nothing new differs.
    pub fn is_complete(&self, of: u64) -> bool {
        self.count.explains == of && self.count.breaks == 0
    }

    /// What it explains, less what it breaks.
    pub fn gain(&self) -> f64 {
        self.count.explains as f64 - self.count.weighed
    }
}

/// A layer on several samples, and the decisions to try on it.
pub struct Search<'s> {
    /// The layer on each sample.
    pub cases: &'s [Case<'s>],
    /// The decisions, in the order of hypotheses.
    pub decisions: &'s [Decision],
    /// The target with a set of them.
    pub variant: &'s dyn Fn(&[usize]) -> Option<Variant>,
}

impl Search<'_> {
    /// Differing elements that are looked at.
    pub fn of(&self) -> u64 {
        self.cases
            .iter()
            .map(|case| case.differing.len() as u64)
            .sum()
    }

    /// Each decision alone.
    pub fn singles(&self) -> Vec<Trial> {
        let single = |(_, decision): &(usize, &Decision)| decision.single;
        self.decisions
            .iter()
            .enumerate()
            .filter(single)
            .filter_map(|(at, _)| self.count(&[at], false))
            .collect()
    }

    /// All pairs, then, unless one of them leaves nothing, greedily from the best single.
    pub fn together(&self, singles: &[Trial]) -> Vec<Trial> {
        let mut trials = self.pairs();
        if !trials.iter().any(|trial| trial.is_complete(self.of())) {
            trials.extend(self.greedily(singles));
        }
        trials
    }

    fn pairs(&self) -> Vec<Trial> {
        let quick = self.quick_of();
        let mut complete = Vec::new();
        let mut others: Vec<Trial> = Vec::new();
        let number = self.decisions.len();
        for a in 0..number {
            for b in a + 1..number {
                if complete.len() == MOST_EQUAL || self.is_spent() {
                    break;
                }
                let Some(looked) = self.count(&[a, b], true) else {
                    continue;
                };
                let counted = looked
                    .is_complete(quick)
                    .then(|| self.count(&[a, b], false))
                    .flatten();
                match counted {
                    Some(counted) if counted.is_complete(self.of()) => complete.push(counted),
                    _ => others.push(looked),
                }
            }
        }
        if complete.is_empty() {
            // Stable: among equals the order of hypotheses decides.
            others.sort_by(|a, b| b.gain().total_cmp(&a.gain()));
            complete.extend(
                others
                    .iter()
                    .take(FINALISTS)
                    .filter_map(|trial| self.count(&trial.set, false)),
            );
        }
        complete
    }

    /// Adds the decision that explains most until nothing more is explained; then leaves out what is not needed.
    fn greedily(&self, singles: &[Trial]) -> Vec<Trial> {
        let mut trials: Vec<Trial> = Vec::new();
        let Some(mut best) = best(singles, self.of()).cloned() else {
            return trials;
        };
        while best.set.len() < LARGEST && !best.is_complete(self.of()) && !self.is_spent() {
            let mut next: Vec<Trial> = (0..self.decisions.len())
                .filter(|at| !best.set.contains(at))
                .filter_map(|at| {
                    let mut set = best.set.clone();
                    set.push(at);
                    set.sort_unstable();
                    self.count(&set, true)
                })
                .collect();
            next.sort_by(|a, b| b.gain().total_cmp(&a.gain()));
            let counted = next
                .iter()
                .take(FINALISTS)
                .filter_map(|trial| self.count(&trial.set, false));
            let Some(better) = counted
                .reduce(|a, b| if b.gain() > a.gain() { b } else { a })
                .filter(|trial| trial.gain() > best.gain())
            else {
                break;
            };
            trials.push(better.clone());
            best = better;
        }
        if best.is_complete(self.of()) {
            for at in best.set.clone() {
                let set: Vec<usize> = best.set.iter().copied().filter(|&i| i != at).collect();
                if set.len() > 1
                    && let Some(trial) = self.count(&set, false)
                    && trial.is_complete(self.of())
                {
                    trials.push(trial.clone());
                    best = trial;
                }
            }
        }
        trials
    }

    fn is_spent(&self) -> bool {
        self.cases.iter().any(Case::is_spent)
    }

    /// Elements that a quick look takes.
    fn quick_of(&self) -> u64 {
        let own = |case: &Case| case.quick_len() as u64;
        self.cases.iter().map(own).sum()
    }

    fn count(&self, set: &[usize], quick: bool) -> Option<Trial> {
        let variant = (self.variant)(set)?;
        let mut count = Count::default();
        for case in self.cases {
            let one = case.count(&variant, quick);
            count.explains += one.explains;
            count.breaks += one.breaks;
            count.weighed += one.weighed;
        }
        Some(Trial {
            set: set.to_vec(),
            count,
        })
    }
}

/// The trial that explains most: one that leaves nothing before others, a smaller set before a larger one, then the
/// order of hypotheses. `None` where none explains more than it breaks.
pub fn best(trials: &[Trial], of: u64) -> Option<&Trial> {
    let complete = trials.iter().filter(|trial| trial.is_complete(of));
    if let Some(found) = complete.min_by_key(|trial| trial.set.len()) {
        return Some(found);
    }
    trials
        .iter()
        .filter(|trial| trial.gain() > 0.0)
        .reduce(|a, b| {
            let smaller = b.gain() == a.gain() && b.set.len() < a.set.len();
            if b.gain() > a.gain() || smaller { b } else { a }
        })
}
