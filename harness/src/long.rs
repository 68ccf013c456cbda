//! Checks of whole datasets: labels, interruption, going on, shards. `docs/datasets.md` is for users.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use clap::Args;

use crate::check::{Check, Control};
use crate::digest::{of_bytes, sha256};
use crate::failure::complain;
use crate::inputs::Source;
use crate::partial::Partial;
use crate::partial::file::{self, Head};

/// Exit code of a run that somebody ended: as a shell gives it for Ctrl-C.
pub const INTERRUPTED: u8 = 130;

/// Time between two writings of a state.
const PAUSE: Duration = Duration::from_secs(30);

/// Shown below the help of `merge`.
pub const MERGE_EXAMPLES: &str = "\
Examples:
  align-check model.onnx -t tflite --input val/ --shard 1/3 --state part-1.json     (on one machine)
  align-check model.onnx -t tflite --input val/ --shard 2/3 --state part-2.json     (on another one)
  align-check model.onnx -t tflite --input val/ --shard 3/3 --state part-3.json
  align-check merge part-1.json part-2.json part-3.json --report json=out.json
      the same bytes as one run over all inputs

The model and the inputs must be reachable under the same paths: the few inputs that show causes are run again.
Exit codes: as of the check.";

/// Arguments of a check that runs long.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Datasets")]
pub struct LongArgs {
    /// The right class of each input (CSV: input,class): top-1 and top-5 of the fake-quant model and of each target, which
    /// inputs flip, and which layers to blame
    #[arg(long, value_name = "FILE.csv", conflicts_with = "recorded")]
    pub labels: Option<PathBuf>,

    /// Keep what was found in this file: written every 30 s, behind Ctrl-C, and at the end
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,

    /// Go on where the file of --state ends
    #[arg(long, requires = "state")]
    pub resume: bool,

    /// Check only part I of N of the inputs and leave the result in the file of --state, for `align-check merge`
    #[arg(long, value_name = "I/N", requires = "state", value_parser = shard,
          conflicts_with_all = ["report", "prove", "cases"])]
    pub shard: Option<(usize, usize)>,
}

impl LongArgs {
    /// Checks that the file of `--state` can be written, before the work that fills it.
    ///
    /// # Errors
    /// One line that names the path.
    pub fn check(&self) -> Result<()> {
        self.state.as_deref().map_or(Ok(()), file::check)
    }
}

/// `2/3`.
fn shard(text: &str) -> Result<(usize, usize), String> {
    let parts = text.split_once('/');
    match parts.map(|(part, of)| (part.trim().parse(), of.trim().parse())) {
        Some((Ok(part), Ok(of))) if (1..=of).contains(&part) && of <= 1_000_000 => Ok((part, of)),
        _ => Err("expected I/N with I from 1 to N, as 2/3".to_owned()),
    }
}

/// Becomes true at the first Ctrl-C.
static STOP: AtomicBool = AtomicBool::new(false);

/// Whether somebody ended the run.
pub(crate) fn stop() -> &'static AtomicBool {
    &STOP
}

/// Ends a run at Ctrl-C behind the inputs that are in work; at once at the second one.
fn watch() -> &'static AtomicBool {
    // Fails where somebody watches already.
    let _ = ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(INTERRUPTED));
        }
        complain("interrupted: ending behind the inputs that are in work; once more ends at once");
    });
    &STOP
}

/// A run that can be ended, kept and continued.
pub(crate) struct Long<'a> {
    args: &'a LongArgs,
    head: Head,
}

impl<'a> Long<'a> {
    /// `identity` is everything that results depend on but the labels' file; nothing where no state is kept.
    ///
    /// # Errors
    /// The command line cannot be kept, or the labels cannot be read.
    pub fn new(args: &'a LongArgs, mut identity: Vec<String>, inputs: usize) -> Result<Self> {
        let words = std::env::args_os()
            .skip(1)
            .map(std::ffi::OsString::into_string);
        let words: Result<Vec<String>, _> = words.collect();
        let words = match (words, &args.state) {
            (Ok(words), _) => words,
            (Err(_), None) => Vec::new(),
            (Err(word), Some(_)) => bail!("--state: '{}' is no UTF-8", word.to_string_lossy()),
        };
        if let Some(labels) = &args.labels {
            identity.push(sha256(labels)?);
        }
        identity.push(env!("CARGO_PKG_VERSION").to_owned());
        // The length tells where a text ends.
        let identity = identity
            .iter()
            .map(|text| format!("{}:{text}\n", text.len()));
        let fingerprint = of_bytes(identity.collect::<String>().as_bytes());
        Ok(Self {
            args,
            head: Head::new(words, fingerprint, inputs),
        })
    }

    /// How many inputs are checked.
    pub fn inputs(&self) -> usize {
        self.range().len()
    }

    /// Says what became of a run that ends without reports, and gives its exit code.
    pub fn left(&self, partial: &Partial, interrupted: bool) -> u8 {
        let state = self
            .args
            .state
            .as_deref()
            .map_or(Path::new(""), |path| path)
            .display();
        match (interrupted, partial.done) {
            (true, 0) => complain("interrupted before the first input was done"),
            (true, done) => complain(&format!(
                "interrupted after {done} of {} inputs, which {state} holds; --resume goes on",
                self.inputs()
            )),
            (false, done) => complain(&format!(
                "{state}: {done} inputs; align-check merge puts parts together"
            )),
        }
        if interrupted { INTERRUPTED } else { 0 }
    }

    /// The part of the inputs that is checked.
    fn range(&self) -> std::ops::Range<usize> {
        let inputs = self.head.inputs;
        match self.args.shard {
            Some((part, of)) => inputs * (part - 1) / of..inputs * part / of,
            None => 0..inputs,
        }
    }

    /// Runs the check on its part of the inputs, from where a file ends; keeps what was found. `done` is told how many
    /// inputs need not be run again. True where somebody ended it.
    ///
    /// # Errors
    /// One line: an input cannot be loaded, a file is of another check, or cannot be written.
    pub fn run(
        &self,
        check: &Check,
        source: &dyn Source,
        control: &Control,
        done: impl FnOnce(usize),
    ) -> Result<(Partial, bool)> {
        let range = self.range();
        if range.is_empty() {
            bail!(
                "--shard: the part has none of the {} inputs",
                self.head.inputs
            );
        }
        let mut partial = Partial::new(check, range.start);
        if let Some(path) = self
            .args
            .state
            .as_deref()
            .filter(|path| self.args.resume && path.exists())
        {
            partial = self.read(path, check)?;
            if partial.start != range.start || partial.end() > range.end {
                bail!("{}: is of other inputs (--shard)", path.display());
            }
            check.keep_first(source, &mut partial)?;
        }
        done(partial.done);
        let last = Mutex::new(Instant::now());
        let save = |partial: &Partial| {
            let Ok(mut last) = last.lock() else {
                return Ok(());
            };
            if last.elapsed() < PAUSE {
                return Ok(());
            }
            *last = Instant::now();
            self.write(partial)
        };
        let control = Control {
            stop: watch(),
            save: &save,
            labels: control.labels,
        };
        check.gather(source, range.end, &mut partial, &control)?;
        if self.args.shard.is_some() && !control.is_stopped() {
            check.measure_noise(source, &mut partial, false, &control)?;
        }
        self.write(&partial)?;
        Ok((partial, control.is_stopped()))
    }

    /// Puts the parts of a check together.
    ///
    /// # Errors
    /// One line: parts do not fit the check, overlap, or leave inputs out.
    pub fn join(
        &self,
        paths: &[PathBuf],
        check: &Check,
        source: &dyn Source,
        control: &Control,
    ) -> Result<Partial> {
        let mut parts = Vec::new();
        for path in paths {
            parts.push((path, self.read(path, check)?));
        }
        parts.sort_by_key(|(_, part)| part.start);
        let mut end = 0;
        for (path, part) in &parts {
            if part.start < end {
                bail!(
                    "{}: input {} is in another part, too",
                    path.display(),
                    part.start
                );
            }
            if part.start > end {
                bail!("inputs {end} to {} are in no part", part.start - 1);
            }
            end = part.end();
        }
        if end < self.head.inputs {
            bail!(
                "inputs {end} to {} are in no part; an interrupted part goes on with --resume",
                self.head.inputs - 1
            );
        }
        let noisy = parts.iter().any(|(_, part)| part.baseline.is_some());
        let mut whole = Partial::new(check, 0);
        for (index, (_, mut part)) in parts.into_iter().enumerate() {
            if noisy && part.baseline.is_none() {
                check.measure_noise(source, &mut part, true, control)?;
            }
            if index == 0 {
                whole = part;
            } else {
                whole.append(part);
            }
        }
        check.keep_first(source, &mut whole)?;
        Ok(whole)
    }

    fn read(&self, path: &Path, check: &Check) -> Result<Partial> {
        let (head, partial) = file::read(path)?;
        if !head.fits(&self.head) {
            bail!(
                "{}: is of another check: model, targets, options or inputs differ",
                path.display()
            );
        }
        if !partial.fits(check) || partial.end() > head.inputs {
            bail!("{}: is damaged", path.display());
        }
        Ok(partial)
    }

    fn write(&self, partial: &Partial) -> Result<()> {
        match &self.args.state {
            Some(path) => file::write(path, &self.head, partial),
            None => Ok(()),
        }
    }
}

/// What `align-check merge` is given.
#[derive(Debug, Args)]
pub struct MergeArgs {
    /// Partial results of one check (--shard, --state)
    #[arg(required = true, value_name = "PART")]
    pub parts: Vec<PathBuf>,

    /// Write a report; kinds as of a check
    #[arg(long, value_name = "KIND=PATH")]
    pub report: Vec<String>,

    /// Threads (default: all cores). Results do not depend on it
    #[arg(short, value_name = "N")]
    pub jobs: Option<usize>,

    /// Only the verdict line of each target
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Every layer, with a witness; time and memory
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

impl MergeArgs {
    /// The command line of the check that the parts are of.
    ///
    /// # Errors
    /// A part cannot be read, or is of another check than the first one.
    pub fn command(&self) -> Result<Vec<String>> {
        let mut first: Option<Head> = None;
        for path in &self.parts {
            let (head, _) = file::read(path)?;
            match &first {
                Some(first) if !first.fits(&head) => bail!(
                    "{}: is of another check than {}",
                    path.display(),
                    self.parts[0].display()
                ),
                Some(_) => {}
                None => first = Some(head),
            }
        }
        first
            .map(|head| head.args)
            .ok_or_else(|| anyhow!("no part is given"))
    }
}
