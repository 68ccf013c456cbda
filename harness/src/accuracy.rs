//! Labels: how often the fake-quant model and a target find the right class, and which layers to blame where they part.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use serde::Serialize;

use crate::files;
use crate::outcome::InputOutcome;

/// Most bytes of a file of labels.
const MAX_BYTES: u64 = 256 << 20;

/// Most inputs whose flip is followed to layers.
pub const MOST_BLAMED: usize = 16;

/// The normal distribution's 97.5 % point: intervals are of 95 %.
const Z: f64 = 1.959_963_984_540_054;

/// The right class of each input, by a name of the input.
#[derive(Debug)]
pub struct Labels {
    shown: String,
    of: HashMap<String, usize>,
    /// File names that several paths end in.
    twice: HashMap<String, usize>,
}

impl Labels {
    /// Reads `input,class` lines; a first line whose class is no number is a heading.
    ///
    /// # Errors
    /// One line that names the file and the line.
    pub fn read(path: &Path) -> Result<Self> {
        let shown = path.display().to_string();
        let text = files::small_text(path, MAX_BYTES)?;
        let (mut of, mut twice) = (HashMap::new(), HashMap::new());
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            let at = || format!("{shown}: line {}", number + 1);
            let Some((input, class)) = line.rsplit_once(',') else {
                bail!("{}: expected 'input,class'", at());
            };
            let input = input.trim().trim_matches('"');
            let class = match class.trim().parse::<usize>() {
                Ok(class) => class,
                Err(_) if number == 0 => continue,
                Err(_) => bail!("{}: '{}' is no number of a class", at(), class.trim()),
            };
            if let Some(other) = of.insert(input.to_owned(), class)
                && other != class
            {
                bail!(
                    "{}: input '{input}' has class {class} here and {other} before",
                    at()
                );
            }
            *twice.entry(file_name(input).to_owned()).or_insert(0) += 1;
        }
        if of.is_empty() {
            bail!("{shown}: no labels");
        }
        Ok(Self { shown, of, twice })
    }

    /// The class of an input: by its name, else by its file's name, without its extension too, where that is the only one.
    ///
    /// # Errors
    /// One line: there is none.
    pub fn of(&self, input: &str) -> Result<usize> {
        let name = file_name(input);
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        if let Some(&class) = self.of.get(input) {
            return Ok(class);
        }
        for short in [name, stem] {
            if let Some(&class) = self.of.get(short) {
                return match self.twice.get(short) {
                    Some(1) => Ok(class),
                    _ => Err(anyhow!(
                        "{}: several inputs are called '{short}'; give their paths",
                        self.shown
                    )),
                };
            }
        }
        Err(anyhow!("{}: no label of input '{input}'", self.shown))
    }
}

fn file_name(input: &str) -> &str {
    input.rsplit(['/', '\\']).next().unwrap_or(input)
}

/// How often the reference and a target find the right class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Accuracy {
    /// Inputs with a label.
    pub inputs: u64,
    /// The right class has the largest element.
    pub top1: Top,
    /// It is among the five largest; absent where there are no more than five.
    pub top5: Option<Top>,
    /// Inputs whose largest element is another one on the target.
    pub flips: Vec<Flip>,
    /// How many of them were followed to layers: at most `MOST_BLAMED`.
    pub followed: u64,
    /// Whether what the target's layers make was rounded to the model's grids for that: the target has others, which the
    /// model's next layers cannot read.
    pub rounded: bool,
    /// What single layers do to the inputs that were followed, the gravest first. An approximation: layers act together,
    /// so that shares need not sum up to 1.
    pub blame: Vec<Blamed>,
}

/// A share of inputs on both sides.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Top {
    /// The reference's.
    pub reference: Share,
    /// The target's.
    pub target: Share,
    /// Inputs that only the reference gets right.
    pub lost: u64,
    /// Inputs that only the target gets right.
    pub gained: u64,
    /// The target's share less the reference's.
    pub difference: f64,
    /// 95 % interval of that (`difference`).
    pub interval: [f64; 2],
}

/// A share with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// Inputs that are right.
    pub right: u64,
    /// Their share.
    pub rate: f64,
    /// 95 % interval of that (`wilson`).
    pub interval: [f64; 2],
}

/// An input whose largest element is another one on the target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Flip {
    /// Its number.
    pub sample: usize,
    /// Its name.
    pub input: String,
    /// The right class.
    pub label: usize,
    /// The reference's.
    pub reference: usize,
    /// The target's.
    pub target: usize,
}

/// What one layer alone does to inputs that flip: the target's arithmetic in this layer, the reference's in all others.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Blamed {
    /// The layer.
    pub layer: String,
    /// Followed inputs that this layer alone flips (to any other class).
    pub flips: u64,
    /// Mean over the followed inputs of the share of the change that this layer alone makes; the change is that of the
    /// distance between the reference's class and the target's, at the output.
    pub share: f64,
}

/// Accuracy from what was found on each input.
pub(crate) fn accuracy(
    inputs: &[InputOutcome],
    names: &[String],
    first: usize,
    labels: &Labels,
    classes: usize,
) -> Result<Option<Accuracy>> {
    let mut top = [[0u64; 4]; 2];
    let mut counted = 0;
    let mut flips = Vec::new();
    for (at, (input, name)) in inputs.iter().zip(names).enumerate() {
        let (Some(classes), Some(ranks)) = (input.classes, input.ranks) else {
            continue;
        };
        counted += 1;
        for (cells, within) in top.iter_mut().zip([1, 5]) {
            let [reference, target] = ranks.map(|rank| rank < within);
            cells[usize::from(!reference) * 2 + usize::from(!target)] += 1;
        }
        if input.flips() {
            flips.push(Flip {
                sample: first + at,
                input: name.clone(),
                label: labels.of(name)?,
                reference: classes[0],
                target: classes[1],
            });
        }
    }
    let [top1, top5] = top.map(Top::of);
    Ok((counted > 0).then(|| Accuracy {
        inputs: counted,
        top1,
        top5: (classes > 5).then_some(top5),
        flips,
        followed: 0,
        rounded: false,
        blame: Vec::new(),
    }))
}

impl Top {
    /// `[both right, only the reference, only the target, neither]`.
    fn of(cells: [u64; 4]) -> Self {
        let [both, lost, gained, _] = cells;
        let all = cells.iter().sum();
        let share = |right: u64| Share {
            right,
            rate: right as f64 / (all as f64).max(1.0),
            interval: wilson(right, all),
        };
        let (reference, target) = (share(both + lost), share(both + gained));
        Self {
            reference,
            target,
            lost,
            gained,
            difference: (gained as f64 - lost as f64) / (all as f64).max(1.0),
            interval: difference(cells),
        }
    }
}

/// Wilson's score interval of a share, 95 % (Wilson, "Probable inference", JASA 22, 1927).
pub fn wilson(right: u64, all: u64) -> [f64; 2] {
    if all == 0 {
        return [0.0, 1.0];
    }
    let (n, p) = (all as f64, right as f64 / all as f64);
    let centre = p + Z * Z / (2.0 * n);
    let spread = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let below = 1.0 + Z * Z / n;
    [
        ((centre - spread) / below).max(0.0),
        ((centre + spread) / below).min(1.0),
    ]
}

/// Interval of the difference of two shares of the same inputs, the second less the first, 95 %: method 10 of Newcombe,
/// "Improved confidence intervals for the difference between binomial proportions based on paired data", Statistics in
/// Medicine 17, 1998. `[both right, only the first, only the second, neither]`.
pub fn difference(cells: [u64; 4]) -> [f64; 2] {
    let [a, b, c, d] = cells.map(|count| count as f64);
    let all: u64 = cells.iter().sum();
    if all == 0 {
        return [-1.0, 1.0];
    }
    let n = all as f64;
    let first = (a + b) / n;
    let second = (a + c) / n;
    let [first_low, first_high] = wilson(cells[0] + cells[1], all);
    let [second_low, second_high] = wilson(cells[0] + cells[2], all);
    let margins = ((a + b) * (c + d) * (a + c) * (b + d)).sqrt();
    let raw = a * d - b * c;
    let phi = match (margins > 0.0, raw > 0.0) {
        (false, _) => 0.0,
        (true, true) => (raw - n / 2.0).max(0.0) / margins,
        (true, false) => raw / margins,
    };
    let reach = |up: f64, down: f64| {
        (up * up - 2.0 * phi * up * down + down * down)
            .max(0.0)
            .sqrt()
    };
    let middle = second - first;
    [
        middle - reach(second - second_low, first_high - first),
        middle + reach(second_high - second, first - first_low),
    ]
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Table III of Newcombe (1998), method 10: 36, 12, 2, 0 of 50 gives 0.0569 to 0.3404.
    #[test]
    fn the_interval_of_the_paper() {
        // There the first share less the second.
        let [low, high] = difference([36, 12, 2, 0]);
        assert!((-high - 0.0569).abs() < 5e-5, "{low} {high}");
        assert!((-low - 0.3404).abs() < 5e-5, "{low} {high}");
        let [low, high] = wilson(81, 263);
        assert!(
            (low - 0.2553).abs() < 5e-5 && (high - 0.3662).abs() < 5e-5,
            "{low} {high}"
        );
    }

    #[test]
    fn intervals_hold_the_difference() {
        for cells in [
            [0, 0, 0, 0],
            [10, 0, 0, 0],
            [0, 5, 0, 5],
            [3, 1, 4, 2],
            [9000, 80, 60, 860],
        ] {
            let all: u64 = cells.iter().sum();
            let middle = (cells[2] as f64 - cells[1] as f64) / (all as f64).max(1.0);
            let [low, high] = difference(cells);
            assert!(low <= middle && middle <= high, "{cells:?}");
        }
    }

    #[test]
    fn labels_are_found_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("labels.csv");
        let read = |text: &str| {
            fs::write(&path, text).expect("a file");
            Labels::read(&path)
        };
        let labels = read("input,class\na/x.png,3\nb/y.png,4\nz,5\n").expect("labels");
        assert_eq!(labels.of("a/x.png").ok(), Some(3));
        assert_eq!(labels.of("elsewhere/z.jpg").ok(), Some(5));
        assert!(labels.of("w").is_err());
        let twice = read("z,5\nq/z,6\n").expect("labels");
        assert!(twice.of("p/z").is_err());
        assert_eq!(twice.of("q/z").ok(), Some(6));
        assert!(read("a,1\na,2\n").is_err());
        assert!(read("a,1\nb,x\n").is_err());
        assert!(read("input,class\n").is_err());
    }
}
