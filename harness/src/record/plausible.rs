//! Whether a dump can be what its tensor holds: on the grid, in the range, not empty, not another tensor.

use std::collections::BTreeSet;

use align_check_graph::Value;
use align_check_simulators::quantize::CodeGrid;
use align_check_simulators::tensor::Channels;
use serde::Serialize;

use super::dump::kind_name;
use crate::inputs::ArrayKind;

/// A number lies on the grid where it is no further from a step than this.
const ON_GRID: f64 = 1e-3;

/// A share of saturated elements that is unusual.
const MANY_SATURATED: f64 = 0.05;

/// A cosine with the fake-quant model's tensor below this needs an explanation.
const UNLIKE: f64 = 0.9;

/// Factors between two scales that are looked for are powers of two up to this.
const MAX_SHIFT: i32 = 16;

/// What floats that are whole numbers may be.
const CODES_AS_FLOATS: &str = "codes stored as floats? (--dtype int8 reads them as codes)";

/// Different numbers that a tensor has to hold before a common divisor of theirs is no accident.
const DIFFERENT: usize = 8;

/// What was found on one tensor. Shares are of 1.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Facts {
    /// Elements, of all samples.
    pub(crate) elements: usize,
    /// Share on the quantizer's grid, where there is one.
    pub(crate) on_grid: Option<f64>,
    /// Share outside the quantizer's range.
    pub(crate) outside: Option<f64>,
    /// Share at the largest code.
    pub(crate) saturated_high: Option<f64>,
    /// Share at the smallest code, where that is not the code of zero.
    pub(crate) saturated_low: Option<f64>,
    /// Share of zeros.
    pub(crate) zeros: f64,
    /// NaN and infinite elements.
    pub(crate) not_finite: usize,
    /// Cosine with the fake-quant model's tensor, on the first sample.
    pub(crate) cosine: Option<f64>,
    /// What is suspicious, in words.
    pub(crate) warnings: Vec<String>,
}

/// A tensor under suspicion: its numbers in the graph's order of axes.
pub(crate) struct Suspect<'a> {
    /// The model's tensor.
    pub(crate) value: &'a Value,
    /// Its codes, where it has them.
    pub(crate) grid: Option<&'a CodeGrid>,
    /// What a target adds to the model's codes.
    pub(crate) relabel: i64,
    /// Whether the target stores levels of its own, which are no multiples of a step.
    pub(crate) own_levels: bool,
    /// The numbers of all samples.
    pub(crate) numbers: &'a [f64],
    /// What kind of numbers.
    pub(crate) kind: ArrayKind,
    /// The dump's own step is `2^-fix_point`.
    pub(crate) fix_point: Option<i32>,
}

/// What numbers of a file mean.
pub(crate) fn to_reals(
    numbers: &[f64],
    kind: ArrayKind,
    grid: Option<&CodeGrid>,
    value: &Value,
) -> Vec<f64> {
    if kind == ArrayKind::Float {
        return numbers.to_vec();
    }
    let len = value.len().max(1);
    if let Some(grid) = grid {
        let channels = grid.channels(&value.shape);
        let real = |(i, &q): (usize, &f64)| {
            let c = channels.of_index(i % len);
            (q - grid.zero_point.at(c) as f64) * grid.scale.at(c)
        };
        return numbers.iter().enumerate().map(real).collect();
    }
    let Some(stored) = &value.stored else {
        return numbers.to_vec();
    };
    let scales = Channels::of(&stored.scale, &value.shape);
    let zeros = Channels::of(&stored.zero_point, &value.shape);
    let real = |(i, &q): (usize, &f64)| {
        (q - f64::from(stored.zero_point.at(zeros.of_index(i % len))))
            * f64::from(stored.scale.at(scales.of_index(i % len)))
    };
    numbers.iter().enumerate().map(real).collect()
}

impl Suspect<'_> {
    /// What integers of the dump are off the model's codes by (a target's own labels).
    fn shift(&self, grid: &CodeGrid) -> i64 {
        match self.kind {
            ArrayKind::Signed(8 | 16) if grid.min >= 0 => self.relabel,
            ArrayKind::Unsigned(8 | 16) if grid.min < 0 => self.relabel,
            _ => 0,
        }
    }

    /// The codes of floats that all lie on the grid and in its range.
    pub(crate) fn codes(&self, facts: &Facts) -> Option<(Vec<f64>, ArrayKind)> {
        let grid = self.grid?;
        let exact = facts.on_grid == Some(1.0) && facts.outside == Some(0.0);
        if self.kind != ArrayKind::Float || !exact {
            return None;
        }
        let steps = self.steps(grid, 1.0);
        let codes = steps.map(|(steps, zero)| steps.round() + zero).collect();
        let bits = [8, 16].into_iter().find(|bits| {
            let (min, max) = match grid.min {
                0.. => (0, (1 << bits) - 1),
                _ => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
            };
            grid.min >= min && grid.max <= max
        });
        let kind = match (bits, grid.min) {
            (Some(bits), 0..) => ArrayKind::Unsigned(bits),
            (Some(bits), _) => ArrayKind::Signed(bits),
            (None, _) => ArrayKind::Signed(32),
        };
        Some((codes, kind))
    }

    /// Each number in steps of the grid (of `factor` times its scale), and the zero point there.
    fn steps<'s>(
        &'s self,
        grid: &'s CodeGrid,
        factor: f64,
    ) -> impl Iterator<Item = (f64, f64)> + 's {
        let channels = grid.channels(&self.value.shape);
        let len = self.value.len().max(1);
        self.numbers.iter().enumerate().map(move |(i, &v)| {
            let c = channels.of_index(i % len);
            (
                v / (grid.scale.at(c) * factor),
                grid.zero_point.at(c) as f64,
            )
        })
    }

    /// Whether all numbers are codes of the grid with another scale.
    fn fits(&self, grid: &CodeGrid, factor: f64) -> bool {
        self.steps(grid, factor).all(|(steps, zero)| {
            let code = steps.round() + zero;
            (steps - steps.round()).abs() <= ON_GRID && in_range(code, grid)
        })
    }

    /// Looks at the numbers. `expected`: the fake-quant model's first sample; `other`: the dump's first
    /// sample, were it in the other order of axes, which is named.
    pub(crate) fn examine(
        &self,
        expected: Option<&[f64]>,
        other: Option<(&[f64], &'static str)>,
    ) -> Facts {
        let all = self.numbers.len();
        let share = |count: usize| count as f64 / all.max(1) as f64;
        let zeros = self.numbers.iter().filter(|v| **v == 0.0).count();
        let mut facts = Facts {
            elements: all,
            zeros: share(zeros),
            not_finite: self.numbers.iter().filter(|v| !v.is_finite()).count(),
            ..Facts::default()
        };
        self.plain(zeros == all, &mut facts);
        if let Some(grid) = self.grid {
            self.on_grid(grid, &mut facts);
        } else if self.kind != ArrayKind::Float && self.value.stored.is_none() {
            let why = if self.own_levels {
                "the target's levels are no codes of the model"
            } else {
                "the tensor has no codes"
            };
            let kind = kind_name(self.kind);
            facts
                .warnings
                .push(format!("{kind} numbers are read as reals: {why}"));
        }
        self.likeness(expected, other, &mut facts);
        facts
    }

    fn plain(&self, zero: bool, facts: &mut Facts) {
        let first = self.numbers.first();
        if facts.not_finite > 0 {
            facts
                .warnings
                .push(format!("{} elements are NaN or infinite", facts.not_finite));
        }
        if zero {
            facts.warnings.push("all zero".to_owned());
        } else if facts.elements > 1 && self.numbers.iter().all(|v| Some(v) == first) {
            facts
                .warnings
                .push(format!("constant: {}", self.numbers[0]));
        }
        let len = self.value.len().max(1);
        let mut samples = self.numbers.chunks(len);
        let one = samples.next().unwrap_or_default();
        if self.numbers.len() > len && !zero && samples.all(|sample| sample == one) {
            facts
                .warnings
                .push("all samples hold the same numbers".to_owned());
        }
    }

    fn on_grid(&self, grid: &CodeGrid, facts: &mut Facts) {
        let (mut on, mut outside, mut low, mut high, mut low_matters) = (0, 0, 0, 0, false);
        let shift = self.shift(grid) as f64;
        for (steps, zero) in self
            .steps(grid, 1.0)
            .zip(self.numbers)
            .map(|((steps, zero), v)| match self.kind {
                ArrayKind::Float => (steps, zero),
                _ => (v - shift - zero, zero),
            })
        {
            let code = steps.round() + zero;
            on += usize::from((steps - steps.round()).abs() <= ON_GRID);
            outside += usize::from(!in_range(code, grid));
            low += usize::from(code <= grid.min as f64);
            high += usize::from(code >= grid.max as f64);
            // The smallest code is what a ReLU makes where it is the code of zero.
            low_matters |= zero != grid.min as f64;
        }
        let share = |count: usize| count as f64 / facts.elements.max(1) as f64;
        let few_codes = grid.max - grid.min < 15;
        facts.on_grid = Some(share(on));
        facts.outside = Some(share(outside));
        facts.saturated_high = Some(share(high));
        facts.saturated_low = low_matters.then(|| share(low));
        let percent = |share: f64| format!("{} %", (share * 1e3).round() / 10.0);
        let warnings = &mut facts.warnings;
        if on < facts.elements || outside > 0 {
            if on < facts.elements {
                warnings.push(format!("{} on the quantizer's grid", percent(share(on))));
            }
            if outside > 0 {
                let (min, max) = (grid.min, grid.max);
                let what = format!(
                    "{} outside its codes {min} to {max}",
                    percent(share(outside))
                );
                warnings.push(what);
            }
            warnings.extend(self.other_scale(grid));
        }
        if on == facts.elements
            && outside == 0
            && let Some(stride) = self.stride(grid, shift)
        {
            let whole = |v: &f64| v.fract() == 0.0 && in_range(*v, grid);
            let floats = self.kind == ArrayKind::Float && grid.scale.at(0) < 1.0;
            warnings.push(if floats && self.numbers.iter().all(whole) {
                CODES_AS_FLOATS.to_owned()
            } else {
                format!("every number is a multiple of {stride} steps: another scale?")
            });
        }
        for (share, end) in [
            (facts.saturated_high, "largest"),
            (facts.saturated_low, "smallest"),
        ] {
            let share = share.unwrap_or(0.0);
            if share > MANY_SATURATED && !few_codes {
                warnings.push(format!("{} at the {end} code", percent(share)));
            }
        }
        if let Some(point) = self.fix_point {
            let step = f64::from(-point).exp2();
            if grid.scale.values.iter().any(|&scale| scale != step) {
                let scale = grid.scale.at(0);
                warnings.push(format!(
                    "the dump's step is {step}, the model's {scale}: other codes"
                ));
            }
        }
    }

    /// The largest number of steps that divides every number, where that is more than one and no accident.
    fn stride(&self, grid: &CodeGrid, shift: f64) -> Option<i64> {
        let mut different = BTreeSet::new();
        let mut stride = 0i64;
        for ((steps, zero), v) in self.steps(grid, 1.0).zip(self.numbers) {
            let steps = match self.kind {
                ArrayKind::Float => steps.round(),
                _ => v - shift - zero,
            };
            let (mut a, mut b) = (stride, (steps as i64).abs());
            while b != 0 {
                (a, b) = (b, a % b);
            }
            stride = a;
            if stride == 1 {
                return None;
            }
            if different.len() < DIFFERENT {
                different.insert(steps as i64);
            }
        }
        (different.len() == DIFFERENT).then_some(stride)
    }

    /// The scale whose codes the numbers would be.
    fn other_scale(&self, grid: &CodeGrid) -> Option<String> {
        let nonzero = self.numbers.iter().any(|v| *v != 0.0);
        if self.kind != ArrayKind::Float || !nonzero || self.numbers.iter().any(|v| !v.is_finite())
        {
            return None;
        }
        let whole = |v: &f64| v.fract() == 0.0 && in_range(*v, grid);
        if self.numbers.iter().all(whole) && grid.scale.values.iter().any(|&s| s != 1.0) {
            return Some(CODES_AS_FLOATS.to_owned());
        }
        let shifts = (1..=MAX_SHIFT).flat_map(|shift| [shift, -shift]);
        let factors = shifts.map(|shift| f64::from(shift).exp2());
        let factor = factors
            .into_iter()
            .find(|&factor| self.fits(grid, factor))?;
        Some(format!(
            "all on the grid of {factor} times the model's scale"
        ))
    }

    fn likeness(
        &self,
        expected: Option<&[f64]>,
        other: Option<(&[f64], &'static str)>,
        facts: &mut Facts,
    ) {
        let Some(expected) = expected else {
            return;
        };
        let len = self.value.len();
        let real = |numbers: &[f64]| to_reals(numbers, self.kind, self.grid, self.value);
        let own = real(self.numbers.get(..len).unwrap_or_default());
        facts.cosine = super::reference::cosine(&own, expected);
        let Some(cosine) = facts.cosine.filter(|&c| c < UNLIKE) else {
            return;
        };
        let moved = other.and_then(|(numbers, name)| {
            let there = super::reference::cosine(&real(numbers), expected)?;
            (there > UNLIKE).then(|| format!("as {name} it would be {there:.3}: --layout {name}"))
        });
        let why = moved.unwrap_or_else(|| "another tensor, sample or scale?".to_owned());
        let what = format!("cosine {cosine:.3} with the fake-quant model's: {why}");
        facts.warnings.push(what);
    }
}

fn in_range(code: f64, grid: &CodeGrid) -> bool {
    (grid.min as f64..=grid.max as f64).contains(&code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(len: usize) -> Value {
        Value {
            name: "t".to_owned(),
            shape: vec![len],
            constant: None,
            annotation: None,
            stored: None,
            file_axes: None,
            aliases: Vec::new(),
        }
    }

    fn look(numbers: &[f64], kind: ArrayKind, grid: &CodeGrid) -> Facts {
        let value = value(numbers.len());
        let suspect = Suspect {
            value: &value,
            grid: Some(grid),
            relabel: 0,
            own_levels: false,
            numbers,
            kind,
            fix_point: None,
        };
        let facts = suspect.examine(None, None);
        let exact = (facts.on_grid, facts.outside) == (Some(1.0), Some(0.0));
        let is_float = kind == ArrayKind::Float;
        assert_eq!(suspect.codes(&facts).is_some(), is_float && exact);
        facts
    }

    fn says(facts: &Facts, word: &str) {
        assert!(facts.warnings.iter().any(|w| w.contains(word)), "{facts:?}");
    }

    #[test]
    fn good_tensors_are_not_suspicious() {
        let grid = CodeGrid::uniform(0.25, 3, -128, 127);
        let floats = look(&[-0.75, 0.0, 0.5, 31.0], ArrayKind::Float, &grid);
        assert_eq!((floats.on_grid, floats.outside), (Some(1.0), Some(0.0)));
        let codes = look(&[-127.0, 0.0, 5.0, 127.0, 1.0], ArrayKind::Signed(8), &grid);
        assert_eq!(codes.on_grid, Some(1.0));
    }

    #[test]
    fn bad_tensors_are() {
        let grid = CodeGrid::uniform(0.25, 0, -128, 127);
        says(&look(&[0.0; 4], ArrayKind::Float, &grid), "all zero");
        says(&look(&[0.5; 4], ArrayKind::Float, &grid), "constant");
        says(&look(&[f64::NAN, 0.5], ArrayKind::Float, &grid), "NaN");
        says(&look(&[0.3, 0.5], ArrayKind::Float, &grid), "50 % on the");
        says(
            &look(&[0.125, 0.5, -0.375], ArrayKind::Float, &grid),
            "0.5 times",
        );
        says(
            &look(&[62.0, 8.0, -0.5], ArrayKind::Float, &grid),
            "2 times",
        );
        says(
            &look(&[100.0, 8.0, -3.0], ArrayKind::Float, &grid),
            "--dtype",
        );
        says(
            &look(&[300.0, 8.0], ArrayKind::Signed(32), &grid),
            "50 % outside",
        );
        says(
            &look(&[127.0, 8.0], ArrayKind::Signed(8), &grid),
            "50 % at the largest",
        );
    }
}
