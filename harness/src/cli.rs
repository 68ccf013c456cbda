//! The command line.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use align_check_graph::{Limits, Model};
use align_check_simulators::hls4ml::Precision;
use align_check_simulators::kernels::Isa;
use align_check_simulators::network::{Layer, Network};
use align_check_specs::Spec;
use anyhow::{Result, anyhow, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use crate::accuracy::Labels;
use crate::check::{Check, Control, Findings, Mode, Target, Tolerance};
use crate::digest::sha256;
use crate::failure::{Failure, complain};
use crate::inputs::{self, Dataset, Recording, Source};
use crate::limit_args::LimitArgs;
use crate::long::{self, INTERRUPTED, Long, LongArgs};
use crate::model_args::{Bound, ModelArgs, more_help};
use crate::outcome::{self, Against, ModelInfo, NetworkLayer, Outcome};
use crate::recording::Folder;
use crate::{
    cases, encodings, explain, generate, infer, plan, precision, prove, record, recording, report,
    targets, verify,
};

/// Exit code of a verdict "misaligned".
pub const MISALIGNED: u8 = 1;
/// Exit code of a usage or input error.
pub const USAGE: u8 = 2;
/// Exit code where something is not supported.
pub const UNSUPPORTED: u8 = 3;

const EXAMPLES: &str = "\
Examples:
  align-check model.qonnx.onnx --target nnie
      which layers differ on NNIE, by how many LSB, and why; inputs are generated
  align-check model.qonnx.onnx --target nnie,tensorrt --input photos.npz --report json=out.json
      two targets on your own inputs, and a report for machines
  align-check model.qonnx.onnx --target ./my-asic.toml --recorded dump.npz
      the simulation of your own chip against what the chip produced
  align-check model.onnx --encodings model.encodings --target hexagon-nn
      a float model with the ranges that AIMET exported beside it (or a TensorRT cache, MQBench's JSON, ...)
  align-check verify golden/
      recorded outputs of others still reproduce, bit for bit
  align-check record model.qonnx.onnx --from mapper_quant/ --input photos.npz --out recordings/nnie
      dumps of tools and chips as a recording
  align-check plan model.onnx --target tensorrt
      where TensorRT really has its quantizers, and why
  align-check explain model.onnx --target tflite --layer conv1
      the worst element of a layer, step by step on both sides, to redo by hand
  align-check targets nnie
      every rule of a target, how it is known, and its source

  align-check model.tflite --target tflite --input val/ --size 224x224 --labels val.csv --state run.json --resume
      a folder of pictures: top-1 and top-5 of the model and of the chip; goes on where Ctrl-C ended it

Exit codes: 0 aligned, 1 misaligned, 2 usage or input error, 3 unsupported, 130 interrupted (reports cover a part).";

/// Checks a quantized network layer by layer against the integer arithmetic of the chip it goes to.
#[derive(Debug, Parser)]
#[command(
    name = "align-check",
    version,
    after_help = EXAMPLES,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    check: CheckArgs,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Lists targets, or prints every rule of one with its evidence
    Targets {
        /// A target's name, alias or TOML file
        target: Option<String>,
    },
    /// Simulates recordings again, layer by layer and end to end: 0 elements may differ
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(VerifyArgs),
    /// Turns dumps of tools and chips into a recording that `--recorded` and `verify` take
    #[command(after_help = record::EXAMPLES)]
    Record(Box<record::RecordArgs>),
    /// Shows where a target really has its quantizers, next to where the model has them
    #[command(after_help = plan::EXAMPLES)]
    Plan(plan::PlanArgs),
    /// For every layer: can any input make a target differ, and which
    #[command(after_help = prove::command::EXAMPLES)]
    Prove(prove::command::ProveArgs),
    /// The arithmetic of one element, step by step, on both sides: to redo it by hand
    #[command(after_help = explain::command::EXAMPLES)]
    Explain(explain::command::ExplainArgs),
    /// Finds the arithmetic that made recorded tensors: the rules, and a spec that says them
    #[command(after_help = infer::command::EXAMPLES)]
    Infer(infer::command::InferArgs),
    /// Puts the parts of a check together that ran as shards: the same reports as one run
    #[command(after_help = long::MERGE_EXAMPLES)]
    Merge(long::MergeArgs),
    /// Writes inputs that are directed at ties and ends of ranges, or at the differences of two targets
    #[command(name = "gen-inputs", after_help = generate::command::EXAMPLES)]
    GenInputs(generate::command::GenerateArgs),
}

const VERIFY_EXAMPLES: &str = "\
Examples:
  align-check verify golden/
      every recording in and below a folder, under the targets that its recording.toml names
  align-check verify dumps/board-1 --target ./my-asic.toml --report json=verify.json
      one recording under your own target, and a report for machines

A recording is a folder with recording.toml, a model, inputs.npz and outputs.npz. Every layer is fed with the
recorded inputs, then the whole network with its own results.
Exit codes: 0 all reproduced, 1 an element differs, 2 usage or input error, 3 unsupported.";

#[derive(Debug, Args)]
struct VerifyArgs {
    /// Folders with recordings in or below them
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,

    /// Targets in place of those that the recordings name
    #[arg(short, long, value_delimiter = ',', value_name = "T[,T...]")]
    target: Vec<String>,

    /// Write a report for machines
    #[arg(long, value_name = "json=PATH")]
    report: Option<String>,

    /// Only the exit code and what differs
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    limits: LimitArgs,
}

#[derive(Debug, Clone, Args)]
#[command(mut_arg("input", |arg| more_help(arg, "Without it, inputs are generated")))]
struct CheckArgs {
    #[command(flatten)]
    model: ModelArgs,

    /// Targets to check: names, aliases, TOML files, or `all`
    #[arg(
        short,
        long,
        value_delimiter = ',',
        required = true,
        value_name = "T[,T...]"
    )]
    target: Vec<String>,

    /// Tensors recorded from the target: a recording's folder, or an .npz whose keys are tensor names
    /// (integers are codes, floats are reals). Compared with the simulation in place of the reference
    #[arg(long, value_name = "DIR|FILE.npz", conflicts_with = "reference")]
    recorded: Option<PathBuf>,

    /// Fake-quant tensors recorded from the training framework (a folder or an .npz): stand in for the exact
    /// reference; how far the two are apart is said first
    #[arg(long, value_name = "DIR|FILE.npz")]
    reference: Option<PathBuf>,

    /// Fixed-point types of each layer, for a target that takes such a table (hls4ml)
    #[arg(long, value_name = "FILE.toml")]
    precision: Option<PathBuf>,

    /// How layers are fed: with the reference's inputs, with the simulated ones, or both
    #[arg(long, value_enum, default_value_t = ModeArg::Both)]
    mode: ModeArg,

    /// For layers in which no element differs: whether any input at all could make it differ from the reference
    #[arg(long, conflicts_with_all = ["recorded", "reference", "precision"])]
    prove: bool,

    /// Accept differences of up to N LSB
    #[arg(long, value_name = "N", default_value_t = 0.0)]
    max_lsb: f64,

    /// Accept up to this share of differing elements (0.001 is 0.1 %)
    #[arg(long, value_name = "R", default_value_t = 0.0)]
    max_rate: f64,

    /// Write each layer of the recording that no rule explains as a minimal case: a model of this one layer, its
    /// input, what was expected, and the command that shows the difference again
    #[arg(long, value_name = "DIR", requires = "recorded")]
    cases: Option<PathBuf>,

    /// Compare only layers whose name or tensor matches
    #[arg(long, value_name = "GLOB")]
    layers: Vec<String>,

    /// Leave out layers whose name or tensor matches
    #[arg(long, value_name = "GLOB")]
    except: Vec<String>,

    /// Write a report; KIND is json (for machines), html (a page with pictures), md, csv, parquet (a row for each input),
    /// junit, sarif (code scanning), model-explorer (colours for Google's viewer) or onnx (the model with the first sample's
    /// tensors, for Netron; beside the model where that has external data)
    #[arg(long, value_name = "KIND=PATH")]
    report: Vec<String>,

    /// Samples to generate where no input is given
    #[arg(long, value_name = "N", default_value_t = 4)]
    samples: usize,

    /// Seed of generated inputs (default: 0), or of the choice that --limit makes
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Labels, interruption, shards.
    #[command(flatten)]
    long: LongArgs,

    /// Threads (default: all cores). Results do not depend on it
    #[arg(short, value_name = "N")]
    jobs: Option<usize>,

    /// Only the verdict line of each target
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,

    /// Every layer, with a witness; time and memory
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,

    /// Instructions to use, for tests of equal results
    #[arg(long, value_enum, hide = true)]
    isa: Option<IsaArg>,
}

impl CheckArgs {
    /// Whether anybody is told of drift: a quiet check without a report shows only the verdict.
    fn drifts(&self) -> bool {
        !self.quiet || !self.report.is_empty() || self.long.shard.is_some()
    }

    /// Checks that nothing that is written replaces what is read.
    fn check_apart(&self, parts: &[PathBuf]) -> Result<()> {
        let reports = self.report.iter().map(|path| report::path_of(path));
        let written: Vec<&Path> = reports.chain(self.long.state.as_deref()).collect();
        let files = [
            &self.recorded,
            &self.reference,
            &self.precision,
            &self.long.labels,
        ];
        let targets = self.target.iter().map(Path::new);
        let read = files.into_iter().flatten().chain(parts);
        let read = read.map(PathBuf::as_path);
        let read: Vec<&Path> = read.chain(targets.filter(|path| path.is_file())).collect();
        self.model.check_apart(&written, &read)
    }

    /// What results depend on: all but how much is shown, where it goes, and how it is computed.
    fn identity(&self, model: &Model, inputs: Option<&Dataset>) -> Result<Vec<String>> {
        let same = Self {
            report: Vec::new(),
            cases: None,
            prove: false,
            long: LongArgs::default(),
            jobs: None,
            quiet: false,
            verbose: 0,
            isa: None,
            ..self.clone()
        };
        let mut identity = vec![format!("{same:?}")];
        let files = [&self.recorded, &self.reference, &self.precision];
        for path in self.model.side_files().chain(files.into_iter().flatten()) {
            // A recording's folder states the sums of its files.
            let file = if path.is_dir() {
                path.join(recording::PROVENANCE)
            } else {
                path.clone()
            };
            identity.push(sha256(&file)?);
        }
        for file in model.beside() {
            identity.push(sha256(file)?);
        }
        if let Some(inputs) = inputs {
            let progress = bar(inputs.files().len(), "files of inputs", self.quiet);
            identity.push(inputs.identity(&|| progress.inc(1))?);
            progress.finish_and_clear();
        }
        Ok(identity)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ModeArg {
    Isolated,
    Cumulative,
    Both,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum IsaArg {
    Portable,
    Avx2,
    Avx512Vnni,
    Neon,
    #[value(name = "neon-i8mm")]
    NeonI8mm,
}

/// Runs the tool; returns the process exit code.
pub fn run() -> u8 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { USAGE } else { 0 };
            // Nobody is left to tell when printing the help fails.
            let _ = error.print();
            return code;
        }
    };
    let result = match cli.verb {
        Some(Verb::Targets { target }) => show_targets(target.as_deref()).map_err(Failure::Usage),
        Some(Verb::Verify(args)) => verify(&args),
        Some(Verb::Record(args)) => record(&args),
        Some(Verb::Plan(args)) => plan(&args),
        Some(Verb::Prove(args)) => prove(&args),
        Some(Verb::Explain(args)) => explain(&args),
        Some(Verb::Infer(args)) => infer(&args),
        Some(Verb::GenInputs(args)) => gen_inputs(&args),
        Some(Verb::Merge(args)) => merge(&args),
        None => check(&cli.check, &[]),
    };
    match result {
        Ok(code) => code,
        Err(Failure::Usage(error)) => {
            complain(&format!("{error:#}"));
            USAGE
        }
        Err(Failure::Unsupported(what)) => {
            complain(&format!("unsupported: {what}"));
            UNSUPPORTED
        }
    }
}

/// Prints to standard output; a closed pipe is no error.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(()),
    }
}

fn color() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

fn width() -> usize {
    terminal_size::terminal_size().map_or(120, |(width, _)| usize::from(width.0).clamp(60, 240))
}

fn show_targets(target: Option<&str>) -> Result<u8> {
    let text = match target {
        None => targets::list(width(), color()),
        Some(name) => targets::show(name, width(), color())?,
    };
    print(&text)?;
    Ok(0)
}

fn verify(args: &VerifyArgs) -> Result<u8, Failure> {
    if let Some(target) = &args.report {
        report::check_json(target)?;
    }
    let mut folders = Vec::new();
    for root in &args.folders {
        folders.extend(recording::find(root)?);
    }
    let bar = bar(folders.len(), "recordings", args.quiet);
    let verified = verify::verify(
        &folders,
        &args.target,
        Isa::detect(),
        &args.limits.limits(),
        &|_| bar.inc(1),
    )?;
    bar.finish_and_clear();
    if verified.cases.is_empty() {
        return Err(anyhow!(
            "nothing to verify: {} without a target in recording.toml (--target names one), {} without a model",
            verified.without_target.len(),
            verified.without_model.len()
        )
        .into());
    }
    let unsupported = verified.cases.iter().any(|c| c.unsupported.is_some());
    let reproduced = verified.cases.iter().all(verify::Case::reproduced);
    if !args.quiet || !reproduced {
        print(&report::verify_terminal(&verified, color()))?;
    }
    if let Some(target) = &args.report {
        report::write_json(target, &report::verify_json(&verified))?;
    }
    let differs = verified
        .cases
        .iter()
        .any(|c| c.unsupported.is_none() && !c.reproduced());
    Ok(match (differs, unsupported) {
        (true, _) => MISALIGNED,
        (false, true) => UNSUPPORTED,
        (false, false) => 0,
    })
}

fn record(args: &record::RecordArgs) -> Result<u8, Failure> {
    print(&record::run(args, color())?)?;
    Ok(0)
}

fn plan(args: &plan::PlanArgs) -> Result<u8, Failure> {
    let (text, unsupported) = plan::run(args, specs(args.targets())?, color())?;
    print(&text)?;
    for why in &unsupported {
        complain(&format!("unsupported: {why}"));
    }
    Ok(if unsupported.is_empty() {
        0
    } else {
        UNSUPPORTED
    })
}

fn prove(args: &prove::command::ProveArgs) -> Result<u8, Failure> {
    let (text, code) = prove::command::run(args, color())?;
    print(&text)?;
    Ok(code)
}

fn explain(args: &explain::command::ExplainArgs) -> Result<u8, Failure> {
    let (text, code) = explain::command::run(args, color())?;
    print(&text)?;
    Ok(code)
}

fn infer(args: &infer::command::InferArgs) -> Result<u8, Failure> {
    let (text, code) = infer::command::run(args, color())?;
    print(&text)?;
    Ok(code)
}

fn gen_inputs(args: &generate::command::GenerateArgs) -> Result<u8, Failure> {
    let (text, code) = generate::command::run(args)?;
    print(&text)?;
    Ok(code)
}

/// The check that parts are of, with them in place of its inputs' runs.
fn merge(args: &long::MergeArgs) -> Result<u8, Failure> {
    let command = std::iter::once("align-check".to_owned()).chain(args.command()?);
    let first = || args.parts[0].display();
    let cli = Cli::try_parse_from(command)
        .map_err(|_| anyhow!("{}: its command line is none", first()))?;
    if cli.verb.is_some() {
        return Err(anyhow!("{}: is of no check", first()).into());
    }
    let long = LongArgs {
        labels: cli.check.long.labels.clone(),
        ..LongArgs::default()
    };
    let check_args = CheckArgs {
        report: args.report.clone(),
        // Nothing is written that this command line does not name.
        cases: None,
        long,
        jobs: args.jobs,
        quiet: args.quiet,
        verbose: args.verbose,
        ..cli.check
    };
    check(&check_args, &args.parts)
}

/// Runs a check; where there are parts of it, puts these together.
fn check(args: &CheckArgs, parts: &[PathBuf]) -> Result<u8, Failure> {
    let model_path = args.model.path()?;
    for target in &args.report {
        report::check_target(target)?;
    }
    if let Some(folder) = &args.cases {
        cases::check(folder)?;
    }
    args.long.check()?;
    args.check_apart(parts)?;
    if !(0.0..f64::INFINITY).contains(&args.max_lsb) || !(0.0..=1.0).contains(&args.max_rate) {
        return Err(
            anyhow!("--max-lsb takes a number of steps, --max-rate a share from 0 to 1").into(),
        );
    }
    let patterns = Patterns::new(&args.layers, &args.except)?;
    let specs = specs(&args.target)?;
    if (args.recorded.is_some()) && specs.len() > 1 {
        return Err(anyhow!(
            "--recorded belongs to one target, and {} are given",
            specs.len()
        )
        .into());
    }
    let types = types(args.precision.as_deref(), &specs)?;
    threads(args.jobs)?;
    let isa = isa(args.isa)?;
    let model = args.model.read()?;
    for target in &args.report {
        report::check_model(target, &model, args.mode != ModeArg::Cumulative)?;
    }
    let limits = args.model.limits();
    let (recorded, folder) = read_recording(args.recorded.as_deref(), &limits)?;
    let (reference, of_reference) = read_recording(args.reference.as_deref(), &limits)?;
    let folder = folder.or(of_reference);
    let inputs = folder.as_ref().map(Folder::inputs).transpose()?;
    let recorded_inputs = inputs.filter(|file| file.is_file());

    let recording = recorded.as_ref().or(reference.as_ref());
    let given = given_samples(&args.model, &model, recording, recorded_inputs, args.seed)?;
    let labels = args.long.labels.as_deref().map(Labels::read).transpose()?;
    if labels.is_some() && args.mode == ModeArg::Isolated {
        return Err(anyhow!(
            "--labels: the network must run on its own results, which --mode isolated leaves out"
        )
        .into());
    }
    let Bound { mut graph, info } = (args.model).bind(
        &model,
        given.as_ref().map(Dataset::given),
        &specs,
        types.is_some(),
        isa,
    )?;
    if let Some(folder) = &folder {
        encodings::recorded_as(&mut graph, &folder.provenance.quantized);
    }
    // Whole files are read for it: only where a state is written or read.
    let identity = if args.long.state.is_some() || !parts.is_empty() {
        let mut identity = args.identity(&model, given.as_ref())?;
        identity.push(info.sha256.clone());
        identity.push(format!("{specs:?}"));
        identity
    } else {
        Vec::new()
    };
    // From here on, layers hold what they need of the weights.
    drop(model);
    let ends = |tensor: &str| types.as_ref().is_some_and(|types| types.names(tensor));
    let network = Network::cut_at(graph.clone(), &ends).map_err(|e| unsupported(model_path, &e))?;
    let generated;
    let (source, seed): (&dyn Source, _) = if let Some(data) = &given {
        (data, None)
    } else {
        let seed = args.seed.unwrap_or(0);
        generated = generate::Generated {
            network: &network,
            count: args.samples.max(1),
            seed,
        };
        (&generated, Some(seed))
    };
    let long = Long::new(&args.long, identity, source.count())?;

    let exact = Spec::resolve("exact").map_err(|e| anyhow!("{e}"))?;
    let exact = Target::new(&network, exact, None, isa).map_err(|e| unsupported(model_path, &e))?;
    let mut targets = Vec::new();
    let mut refused = Vec::new();
    for spec in specs {
        let name = spec.name.clone();
        match Target::placed((&graph, &network), spec, types.as_ref(), &exact, isa) {
            Ok(mut target) => {
                target.keep = args.report.iter().any(|path| report::keeps(path));
                targets.push(target);
            }
            Err(e) => refused.push((name, format!("{}: {e}", model_path.display()))),
        }
    }
    // What is not needed of the constants.
    drop(graph);
    if targets.is_empty() {
        let reasons: Vec<String> = refused.into_iter().map(|(_, why)| why).collect();
        return Err(Failure::Unsupported(reasons.join("; ")));
    }
    for (_, why) in &refused {
        complain(&format!("unsupported: {why}"));
    }

    let select = |layer: &Layer| patterns.select(layer);
    if !network
        .layers
        .iter()
        .any(|layer| layer.is_compared() && select(layer))
    {
        return Err(anyhow!("--layers and --except leave no layer to compare").into());
    }
    let layers = network.layers.len();
    let progress = bar(layers * long.inputs(), "layers", args.quiet);
    let check = Check {
        network: &network,
        reference: &exact,
        targets: &targets,
        mode: Mode {
            isolated: args.mode != ModeArg::Cumulative,
            cumulative: args.mode != ModeArg::Isolated,
        },
        tolerance: Tolerance {
            max_lsb: args.max_lsb,
            max_rate: args.max_rate,
        },
        recorded: recorded.as_ref(),
        recorded_reference: reference.as_ref(),
        explain: true,
        drift: args.drifts(),
        select: &select,
        isa,
        progress: &|| progress.inc(1),
    };
    let start = std::time::Instant::now();
    let control = Control {
        labels: labels.as_ref(),
        ..Control::default()
    };
    let (partial, mut interrupted) = if parts.is_empty() {
        long.run(&check, source, &control, |done| {
            progress.inc((done * layers) as u64);
        })?
    } else {
        (long.join(parts, &check, source, &control)?, false)
    };
    if args.long.shard.is_some() || partial.done == 0 {
        progress.finish_and_clear();
        return Ok(long.left(&partial, interrupted));
    }
    let control = Control {
        labels: labels.as_ref(),
        stop: long::stop(),
        ..Control::default()
    };
    let mut findings = check.conclude(source, &partial, &control)?;
    findings.seconds = start.elapsed().as_secs_f64();
    interrupted |= control.is_stopped();
    progress.finish_and_clear();
    if args.prove {
        for (found, target) in findings.targets.iter_mut().zip(&targets) {
            prove::certify_aligned(&network, target, &exact, found, isa)?;
        }
    }
    let cases = match (&args.cases, findings.targets.first()) {
        (Some(folder), Some(found)) => {
            cases::write(&check, source, found, folder, &args.target[0])?
        }
        _ => Vec::new(),
    };
    let layers = outcome::network(&network);
    let mut outcome = outcome(args, info, layers, findings, partial.done, seed);
    outcome.unsupported = refused;
    outcome.interrupted = interrupted.then(|| source.count());
    if args.quiet {
        print(&report::verdict_lines(&outcome, color()))?;
    } else {
        print(&report::terminal(&outcome, width(), color(), args.verbose))?;
    }
    if args.cases.is_some() {
        print(&report::cases(&cases))?;
    }
    for target in &args.report {
        report::write(target, &outcome)?;
    }
    let code = outcome
        .targets
        .iter()
        .map(|t| t.exit_code)
        .max()
        .unwrap_or(0);
    Ok(match (interrupted, outcome.unsupported.is_empty()) {
        (true, _) => INTERRUPTED,
        (false, true) => code,
        (false, false) => UNSUPPORTED,
    })
}

/// Sets the number of threads, where the user asks for one.
pub(crate) fn threads(jobs: Option<usize>) -> Result<()> {
    if let Some(jobs) = jobs {
        if jobs == 0 {
            bail!("-j 0: at least one thread is needed");
        }
        // Fails only where a pool exists already, and there is none before this line.
        let _ = rayon::ThreadPoolBuilder::new()
            .num_threads(jobs)
            .build_global();
    }
    Ok(())
}

pub(crate) fn unsupported(path: &Path, error: &align_check_simulators::Error) -> Failure {
    Failure::Unsupported(format!("{}: {error}", path.display()))
}

fn specs(names: &[String]) -> Result<Vec<Spec>> {
    let mut specs: Vec<Spec> = Vec::new();
    for name in names {
        let found = if name == "all" {
            align_check_specs::names()
                .iter()
                .map(|name| Spec::resolve(name))
                .collect::<Result<Vec<_>, _>>()
        } else {
            Spec::resolve(name).map(|spec| vec![spec])
        };
        for spec in found.map_err(|e| anyhow!("{e}"))? {
            if specs.iter().all(|s| s.name != spec.name) {
                specs.push(spec);
            }
        }
    }
    Ok(specs)
}

/// The precision table. Its layers are not those of other targets, so it goes with one that takes it.
pub(crate) fn types(path: Option<&Path>, specs: &[Spec]) -> Result<Option<Precision>> {
    let Some(path) = path else {
        return Ok(None);
    };
    match specs {
        [spec] if spec.precision.is_some() => precision::read(path).map(Some),
        [spec] => bail!("--precision: target '{}' takes no table", spec.name),
        _ => bail!(
            "--precision belongs to one target, and {} are given",
            specs.len()
        ),
    }
}

fn isa(asked: Option<IsaArg>) -> Result<Isa> {
    let isa = match asked {
        None => return Ok(Isa::detect()),
        Some(IsaArg::Portable) => Isa::Portable,
        Some(IsaArg::Avx2) => Isa::Avx2,
        Some(IsaArg::Avx512Vnni) => Isa::Avx512Vnni,
        Some(IsaArg::Neon) => Isa::Neon,
        Some(IsaArg::NeonI8mm) => Isa::NeonI8mm,
    };
    if !Isa::available().contains(&isa) {
        bail!("--isa: this machine has no {isa:?}");
    }
    Ok(isa)
}

/// Recorded tensors from a file, or from a recording's folder.
pub(crate) fn read_recording(
    path: Option<&Path>,
    limits: &Limits,
) -> Result<(Option<Recording>, Option<Folder>)> {
    let Some(path) = path else {
        return Ok((None, None));
    };
    if !path.is_dir() {
        return Ok((Some(Recording::read_within(path, limits)?), None));
    }
    let folder = Folder::open(path)?;
    Ok((
        Some(Recording::read_within(&folder.outputs()?, limits)?),
        Some(folder),
    ))
}

/// Samples from files, or from a recording that holds the model's inputs. A seed chooses those of `--limit`.
pub(crate) fn given_samples(
    args: &ModelArgs,
    model: &Model,
    recording: Option<&Recording>,
    recorded_inputs: Option<PathBuf>,
    seed: Option<u64>,
) -> Result<Option<Dataset>> {
    let infos = model.inputs();
    let own = recorded_inputs.filter(|_| args.input.is_empty());
    let mut data = match (own, recording) {
        _ if !args.input.is_empty() => return args.dataset(model, seed),
        (Some(file), _) => Dataset::open(&[file], &infos, &args.prepare, true, &args.limits())?,
        (None, None) => return Ok(None),
        (None, Some(recording)) => {
            let named = |key: &str| infos.iter().any(|i| inputs::names_input(key, i));
            let arrays: Vec<_> = recording
                .arrays()
                .iter()
                .filter(|(key, _)| named(key))
                .map(|(key, array)| (recording.path.clone(), key.clone(), array.clone()))
                .collect();
            if arrays.len() < infos.len() {
                bail!(
                    "{}: does not hold the model's inputs ({}); give them with --input",
                    recording.path.display(),
                    infos
                        .iter()
                        .map(|i| i.name.as_str())
                        .collect::<Vec<_>>()
                        .join(", ")
                );
            }
            let path = std::slice::from_ref(&recording.path);
            Dataset::of_arrays(path, arrays, &infos, true)?
        }
    };
    if let Some(limit) = args.prepare.limit {
        data.limit(limit, seed)?;
    }
    Ok(Some(data))
}

pub(crate) fn bar(steps: usize, what: &str, quiet: bool) -> ProgressBar {
    if quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = format!("{{bar:40}} {{pos}}/{{len}} {what}, {{eta}} left");
    let style =
        ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(steps as u64).with_style(style)
}

/// As [`bar`], of work whose length nobody knows.
pub(crate) fn counter(what: &str, quiet: bool) -> ProgressBar {
    if quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = format!("{{spinner}} {{pos}} {what}, {{elapsed}}");
    let style = ProgressStyle::with_template(&template)
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::new_spinner().with_style(style)
}

/// The process's largest resident set, from Linux's `/proc`; nothing elsewhere.
fn peak_process_bytes() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: usize = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    kib.checked_mul(1024)
}

fn outcome(
    args: &CheckArgs,
    model: ModelInfo,
    network: Vec<NetworkLayer>,
    findings: Findings,
    inputs: usize,
    generated: Option<u64>,
) -> Outcome {
    let file = |path: &PathBuf| path.display().to_string();
    let against = match (&args.recorded, &args.reference) {
        (Some(path), _) => Against::Recording {
            file: file(path),
            missing: findings.missing,
        },
        (_, Some(path)) => Against::RecordedReference {
            file: file(path),
            missing: findings.missing,
        },
        _ => Against::Reference,
    };
    Outcome {
        model,
        inputs,
        generated,
        against,
        floor: findings.floor,
        network,
        targets: findings.targets,
        seconds: findings.seconds,
        peak_tensor_bytes: findings.peak_bytes,
        peak_process_bytes: peak_process_bytes(),
        unsupported: Vec::new(),
        names: findings.names,
        interrupted: None,
    }
}

/// `--layers` and `--except`.
pub(crate) struct Patterns {
    only: Vec<glob::Pattern>,
    except: Vec<glob::Pattern>,
}

impl Patterns {
    pub(crate) fn new(only: &[String], except: &[String]) -> Result<Self> {
        let parse = |patterns: &[String]| {
            patterns
                .iter()
                .map(|p| glob::Pattern::new(p).map_err(|e| anyhow!("pattern '{p}': {}", e.msg)))
                .collect::<Result<Vec<_>>>()
        };
        Ok(Self {
            only: parse(only)?,
            except: parse(except)?,
        })
    }

    pub(crate) fn select(&self, layer: &Layer) -> bool {
        let any = |patterns: &[glob::Pattern]| {
            patterns
                .iter()
                .any(|p| p.matches(&layer.name) || p.matches(&layer.tensor))
        };
        (self.only.is_empty() || any(&self.only)) && !any(&self.except)
    }
}
