//! Why a layer differs: the smallest set of decisions that removes the differences.
//!
//! Against the reference each decision of the target is switched to the reference's. Against a recording the target's
//! neighbours in the rule zoo are tried first: a recording differs because its maker decided otherwise than the target
//! says, and what agreed must go on to agree. While samples run, decisions are tried alone ([`alone`]); layers that no
//! single decision explains are run again on a few samples, and tried in pairs, then greedily ([`together`]).

mod decisions;
mod search;
mod trial;
mod words;
mod zoo;

use align_check_simulators::adapt::ValueGrid;
use align_check_simulators::hls4ml::Fixed;
use align_check_simulators::plan::Finish;
use align_check_specs::KnownBug;

use crate::compare;
use crate::outcome::{Cause, DecisionSet};
use decisions::{Decision, against_reference};
use search::{Search, Trial};
pub use trial::{Case, Made, Unplaced};
use words::listed;
use zoo::Zoo;

/// Most samples on which sets of decisions are tried together.
pub const MOST_SAMPLES: usize = 8;

/// Tries each decision alone on one sample.
pub fn alone(case: Case) -> Cause {
    if let Finish::Fixed(fixed) = &case.plan.finish {
        return of_types(&case, fixed);
    }
    let mut cause = empty(&case);
    if let Some(range) = beyond(&case) {
        let complete = range.is_complete(cause.of);
        cause.sets.push(range);
        if complete {
            settle(&mut cause);
            return cause;
        }
    }
    let cases = [case];
    if cases[0].recorded {
        let zoo = Zoo::around(&cases[0], false);
        let search = Search {
            cases: &cases,
            decisions: &zoo.decisions,
            variant: &|set| zoo.variant(set),
        };
        note(&mut cause, &zoo.decisions, &search.singles());
    }
    if !cause.sets.iter().any(|set| set.is_complete(cause.of)) {
        let switches = against_reference(&cases[0]);
        let own = cases[0].rules();
        let search = Search {
            cases: &cases,
            decisions: &switches.decisions,
            variant: &|set| Some(switches.variant(own, set)),
        };
        let trials = search.singles();
        note(&mut cause, &switches.decisions, &trials);
    }
    settle(&mut cause);
    cause
}

/// Tries decisions alone, in pairs and greedily, on a layer that no single one explains. `known` is what the samples
/// found; the result is about the samples that are given.
pub fn together(cases: &[Case], known: &Cause) -> Cause {
    let Some(first) = cases.first() else {
        return known.clone();
    };
    let mut cause = empty(first);
    cause.of = cases.iter().map(|case| case.differing.len() as u64).sum();
    cause.differing = known.differing;
    cause.together = true;
    let done = |cause: &Cause| cause.sets.iter().any(|set| set.is_complete(cause.of));
    if first.recorded {
        let zoo = Zoo::around(first, true);
        let search = Search {
            cases,
            decisions: &zoo.decisions,
            variant: &|set| zoo.variant(set),
        };
        explore(&mut cause, &search);
    }
    if !done(&cause) {
        let switches = against_reference(first);
        let own = first.rules();
        let search = Search {
            cases,
            decisions: &switches.decisions,
            variant: &|set| Some(switches.variant(own, set)),
        };
        explore(&mut cause, &search);
        if let (false, Some((decision, change))) = (done(&cause), &switches.all) {
            let all = |_: &[usize]| {
                let mut variant = trial::Variant::own(first.rules());
                change(&mut variant);
                Some(variant)
            };
            let search = Search {
                cases,
                decisions: std::slice::from_ref(decision),
                variant: &all,
            };
            note(
                &mut cause,
                std::slice::from_ref(decision),
                &search.singles(),
            );
        }
    }
    settle(&mut cause);
    let share = |cause: &Cause| cause.explains as f64 / cause.of.max(1) as f64;
    if cause.decisions.len() < 2 && share(&cause) <= share(known) {
        // Nothing better together: what all samples found alone is about more elements.
        let sets = cause.sets.into_iter().filter(|set| set.labels.len() > 1);
        let mut own = known.clone();
        own.sets.extend(sets);
        own.together = true;
        if own.explains == 0 && own.name == "unknown" {
            NOTHING.clone_into(&mut own.text);
        }
        return own;
    }
    cause
}

const NOTHING: &str = "no decision, alone or together, explains it";

fn explore(cause: &mut Cause, search: &Search) {
    let singles = search.singles();
    let done = singles.iter().any(|trial| trial.is_complete(cause.of));
    note(cause, search.decisions, &singles);
    if !done {
        note(cause, search.decisions, &search.together(&singles));
    }
}

fn empty(case: &Case) -> Cause {
    let of = case.differing.len() as u64;
    nothing(of, case.of, case.recorded, case.plan.float)
}

/// A cause before anything was tried: of so many elements that were looked at and so many that differ.
pub fn nothing(of: u64, differing: u64, recorded: bool, float: bool) -> Cause {
    Cause {
        name: if float { "float" } else { "unknown" }.to_owned(),
        text: if float {
            "the target computes this in float".to_owned()
        } else {
            "no single decision explains it".to_owned()
        },
        explains: 0,
        of,
        tried: Vec::new(),
        differing,
        decisions: Vec::new(),
        sets: Vec::new(),
        together: false,
        recorded,
        float,
    }
}

/// Recorded numbers that are no codes of the target.
fn beyond(case: &Case) -> Option<DecisionSet> {
    let (None, ValueGrid::Codes { grid, .. }) = (case.expected.grid(), &case.plan.out) else {
        return None;
    };
    let (explains, what) = compare::beyond(&case.expected, grid, case.differing.iter().copied())?;
    Some(DecisionSet {
        decisions: vec!["range".to_owned()],
        labels: vec!["range".to_owned()],
        texts: vec![format!("recorded {what}, the codes of the target")],
        explains,
        breaks: 0,
        weighed: 0.0,
    })
}

/// Adds what was tried.
fn note(cause: &mut Cause, decisions: &[Decision], trials: &[Trial]) {
    for trial in trials {
        let of = |f: &dyn Fn(&Decision) -> String| -> Vec<String> {
            trial.set.iter().map(|&at| f(&decisions[at])).collect()
        };
        let set = DecisionSet {
            decisions: of(&|d| d.name.to_owned()),
            labels: of(&|d| d.label.clone()),
            texts: of(&|d| d.text.clone()),
            explains: trial.count.explains,
            breaks: trial.count.breaks,
            weighed: trial.count.weighed,
        };
        if !cause.sets.iter().any(|own| own.labels == set.labels) {
            cause.sets.push(set);
        }
    }
}

impl DecisionSet {
    /// Whether nothing is left, and nothing new differs.
    fn is_complete(&self, of: u64) -> bool {
        self.explains == of && self.breaks == 0
    }

    /// What it explains, less what it breaks.
    fn gain(&self) -> f64 {
        self.explains as f64 - self.weighed
    }
}

/// Chooses among what was tried: a set that leaves nothing before others, a smaller one before a larger one, then
/// the order of hypotheses.
pub fn settle(cause: &mut Cause) {
    let singles = cause.sets.iter().filter(|set| set.labels.len() == 1);
    cause.tried = singles
        .map(|set| (set.labels[0].clone(), set.explains))
        .collect();
    let complete = |set: &&DecisionSet| set.is_complete(cause.of);
    let best = cause
        .sets
        .iter()
        .filter(complete)
        .min_by_key(|set| set.labels.len())
        .or_else(|| {
            let gains = cause.sets.iter().filter(|set| set.gain() > 0.0);
            gains.reduce(|a, b| {
                let smaller = b.gain() == a.gain() && b.labels.len() < a.labels.len();
                if b.gain() > a.gain() || smaller { b } else { a }
            })
        });
    let Some(best) = best else {
        if cause.together && cause.name == "unknown" {
            NOTHING.clone_into(&mut cause.text);
        }
        return;
    };
    let mut text = best.texts.join("; ");
    let from_zoo = best.labels.iter().any(|label| label.contains(": "));
    if from_zoo {
        let verb = if complete(&best) {
            "explained"
        } else {
            "partly explained"
        };
        text = format!(
            "the recording is {verb} by {}",
            best.texts.join(", and by ")
        );
    }
    if best.labels.len() > 1 {
        let alone: Vec<String> = best
            .labels
            .iter()
            .map(|label| {
                let found = cause.tried.iter().find(|(own, _)| own == label);
                found.map_or(0, |(_, explains)| *explains).to_string()
            })
            .collect();
        let alone: Vec<&str> = alone.iter().map(String::as_str).collect();
        let names: Vec<&str> = best.decisions.iter().map(String::as_str).collect();
        text = format!(
            "{} together explain {} of {} (alone {}): {text}",
            listed(&names),
            best.explains,
            cause.of,
            listed(&alone)
        );
    }
    if best.breaks > 0 {
        text += "; but other elements would differ then";
    }
    if from_zoo && complete(&best) {
        text += &as_well(cause, best);
    }
    let names: Vec<&str> = best.decisions.iter().map(String::as_str).collect();
    cause.name = listed(&names);
    cause.decisions.clone_from(&best.decisions);
    cause.explains = best.explains;
    cause.text = text;
}

/// Which other sets of the same size a recording cannot tell from the one that is named.
fn as_well(cause: &Cause, best: &DecisionSet) -> String {
    let equal: Vec<&DecisionSet> = cause
        .sets
        .iter()
        .filter(|set| {
            set.is_complete(cause.of)
                && set.labels.len() == best.labels.len()
                && set.labels != best.labels
        })
        .collect();
    let Some(first) = equal.first() else {
        return String::new();
    };
    let more = match equal.len() {
        1 => String::new(),
        n => format!(", or {} more", n - 1),
    };
    format!(
        "; this data cannot tell it from {}{more}",
        first.labels.join(" and ")
    )
}

/// As [`alone`], in fixed-point types: each is widened.
fn of_types(case: &Case, fixed: &Fixed) -> Cause {
    let mut cause = empty(case);
    let inputs: Vec<_> = case.base_in.iter().map(|tensor| &**tensor).collect();
    for (name, text, without) in fixed.without() {
        let out = without.run(case.layer, &inputs, &ValueGrid::Real);
        let equal = |&&at: &&usize| out.real_at(at) == case.expected.real_at(at);
        let explains = case.differing.iter().filter(equal).count() as u64;
        cause.sets.push(DecisionSet {
            decisions: vec![name.to_owned()],
            labels: vec![name.to_owned()],
            texts: vec![text],
            explains,
            breaks: 0,
            weighed: 0.0,
        });
        if explains == cause.of {
            break;
        }
    }
    settle(&mut cause);
    cause
}

/// Says what else it may be of a layer that no decision explains, or one that stands for a bug: `bugs` are the target's
/// known ones for its operator, `reordered` tells that the recorded codes are the simulated ones in another order, `share` is the
/// differing share of the elements, in words.
pub fn suspect(cause: &mut Cause, target: &str, bugs: &[&KnownBug], reordered: bool, share: &str) {
    let mut text = if cause.is_whole() {
        cause.text.clone()
    } else if cause.explains == 0 {
        format!("{share}: {NOTHING}")
    } else {
        format!(
            "{}; no decision, alone or together, explains the rest",
            cause.text
        )
    };
    text += ": suspect a bug of a kernel or driver";
    if reordered {
        text += "; the same codes in another order: layout";
    }
    for bug in bugs {
        text += "; known bug of ";
        text += target;
        text += ": ";
        text += &bug.what;
    }
    cause.text = text;
}
