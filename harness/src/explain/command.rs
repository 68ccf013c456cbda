//! The command line of `explain`.

use std::path::PathBuf;
use std::sync::OnceLock;

use align_check_simulators::explain::Unexplained;
use align_check_simulators::kernels::Isa;
use align_check_simulators::network::{Layer, Network};
use align_check_specs::Spec;
use anyhow::anyhow;
use clap::Args;

use super::{Explained, Look, coordinates, index_of, json, look, terminal, verdict};
use crate::check::{Check, Mode, Target, Tolerance};
use crate::cli::{MISALIGNED, given_samples, read_recording, types, unsupported};
use crate::failure::Failure;
use crate::inputs::{Dataset, Sample, Source};
use crate::model_args::{Bound, ModelArgs, more_help};
use crate::recording::Folder;
use crate::report::text::visible;
use crate::{encodings, generate, report, sample};

/// Examples of the help text.
pub const EXAMPLES: &str = "\
Examples:
  align-check explain model.onnx --target tflite --layer conv1
      the worst element of a layer: codes in, products, accumulator, multiplier, shifts, clamp, code out, as the
      fake-quant reference computes it and as TFLite does; every number exact, to redo with a calculator
  align-check explain model.onnx --target tflite --layer conv1 --element 0,3,5,7 --input photos.npz --sample 2
      one element (in the tensor's own axes) of one of your samples
  align-check explain model.onnx --target ./my-asic.toml --layer '*/add_3' --recorded dump.npz
      next to what the chip made of it
  align-check explain model.onnx --target dpu --layer conv1 --report json=steps.json
      the same as data

The layer is fed with the reference's codes, with --recorded with the recorded ones (as in --mode isolated). The steps
are written down by the code that simulates, and are held against the simulated result.
Exit codes: 0 both sides give the same, 1 they differ, 2 usage or input error, 3 there is no text for such a layer yet.";

/// How many names an error lists.
const LISTED: usize = 12;

/// Arguments of `explain`.
#[derive(Debug, Args)]
#[command(mut_arg("input", |arg| more_help(arg, "Without it, inputs are generated")))]
pub struct ExplainArgs {
    #[command(flatten)]
    model: ModelArgs,

    /// The target: a name, an alias, or a TOML file
    #[arg(short, long, value_name = "T")]
    target: String,

    /// The layer: the name of its node or of its tensor, or a pattern that matches one
    #[arg(short, long, value_name = "NAME|GLOB")]
    layer: String,

    /// The element, in the axes of the model's tensor (without it: the one that differs most; where none differs, the
    /// one nearest to a tie)
    #[arg(short, long, value_name = "N,C,H,W", value_delimiter = ',')]
    element: Vec<usize>,

    /// Which sample, from 0 (without it: the one with the worst element; with --element, the first)
    #[arg(long, value_name = "N")]
    sample: Option<usize>,

    /// Tensors recorded from the target: a recording's folder, or an .npz
    #[arg(long, value_name = "DIR|FILE.npz")]
    recorded: Option<PathBuf>,

    /// Fixed-point types of each layer, for a target that takes such a table (hls4ml)
    #[arg(long, value_name = "FILE.toml")]
    precision: Option<PathBuf>,

    /// Samples to generate where no input is given
    #[arg(long, value_name = "N", default_value_t = 4)]
    samples: usize,

    /// Seed of generated inputs
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// Write a report for machines
    #[arg(long, value_name = "json=PATH")]
    report: Option<String>,

    /// Only the last line: whether both sides give the same
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,

    /// Every product and every step
    #[arg(short, long)]
    verbose: bool,
}

/// Runs `explain`: the text for the terminal, and the exit code.
///
/// # Errors
/// The model or a file cannot be read, layer or element do not exist, or there is no text for the layer.
pub fn run(args: &ExplainArgs, color: bool) -> Result<(String, u8), Failure> {
    if let Some(target) = &args.report {
        report::check_json(target)?;
        args.model.check_apart(&[report::path_of(target)], &[])?;
    }
    let path = args.model.path()?;
    let shown = path.display();
    let spec = Spec::resolve(&args.target).map_err(|e| anyhow!("{e}"))?;
    let specs = [spec];
    let types = types(args.precision.as_deref(), &specs)?;
    let isa = Isa::detect();
    let model = args.model.read()?;
    let limits = args.model.limits();
    let (recorded, folder) = read_recording(args.recorded.as_deref(), &limits)?;
    let own = folder.as_ref().map(Folder::inputs).transpose()?;
    let own = own.filter(|file| file.is_file());
    let given = given_samples(&args.model, &model, recorded.as_ref(), own, None)?;
    let Bound { mut graph, .. } = (args.model).bind(
        &model,
        given.as_ref().map(Dataset::given),
        &specs,
        types.is_some(),
        isa,
    )?;
    if let Some(folder) = &folder {
        encodings::recorded_as(&mut graph, &folder.provenance.quantized);
    }
    let ends = |tensor: &str| types.as_ref().is_some_and(|types| types.names(tensor));
    let refused = |e: align_check_simulators::Error| unsupported(path, &e);
    let network = Network::cut_at(graph.clone(), &ends).map_err(refused)?;
    let [spec] = specs;
    let exact = Spec::resolve("exact").map_err(|e| anyhow!("{e}"))?;
    let exact = Target::new(&network, exact, None, isa).map_err(refused)?;
    let target = Target::placed((&graph, &network), spec, types.as_ref(), &exact, isa);
    let targets = [target.map_err(refused)?];
    let index = find(&network, &args.layer).map_err(|what| anyhow!("{shown}: {what}"))?;
    let layer = &network.layers[index];
    let name = visible(&layer.name);
    if targets[0].plan_of(index).is_none() {
        let own = targets[0].own.as_ref();
        let why = own.map_or_else(String::new, |own| own.why_absent(layer.output).1);
        return Err(Failure::Unsupported(format!(
            "{shown}: '{name}' ({}): no such tensor on target '{}': {why}",
            layer.op, targets[0].spec.name
        )));
    }
    let element = match &args.element[..] {
        [] => None,
        element => Some(
            index_of(&layer.shape, element).map_err(|what| anyhow!("{shown}: '{name}': {what}"))?,
        ),
    };
    let generated;
    let samples: &dyn Source = if let Some(data) = &given {
        data
    } else {
        generated = generate::samples(&network, args.samples.max(1), args.seed);
        &generated
    };
    let numbers = match (args.sample, element) {
        (Some(number), _) if number >= samples.count() => {
            let count = samples.count();
            return Err(anyhow!("--sample {number}: there are {count}, numbered from 0").into());
        }
        (Some(number), _) => number..number + 1,
        (None, Some(_)) => 0..1,
        (None, None) => 0..samples.count(),
    };
    let check = Check {
        network: &network,
        reference: &exact,
        targets: &targets,
        mode: Mode {
            isolated: true,
            cumulative: false,
        },
        tolerance: Tolerance::default(),
        recorded: recorded.as_ref(),
        recorded_reference: None,
        explain: false,
        drift: false,
        select: &|_| true,
        isa,
        progress: &|| {},
    };
    let mut best: Option<(usize, Look)> = None;
    for number in numbers {
        let one =
            one(&check, index, number, &*samples.load(number)?, element).map_err(|e| match e {
                Stopped::Failed(e) => Failure::Usage(e),
                Stopped::Unexplained(Unexplained::NoText(what)) => Failure::Unsupported(format!(
                    "{shown}: '{name}' ({}): {}",
                    layer.op,
                    Unexplained::NoText(what)
                )),
                Stopped::Unexplained(wrong) => {
                    anyhow!("{shown}: '{name}' ({}): {wrong}", layer.op).into()
                }
            })?;
        if best
            .as_ref()
            .is_none_or(|(_, best)| one.distance > best.distance)
        {
            best = Some((number, one));
        }
    }
    let Some((number, look)) = best else {
        return Err(anyhow!("{shown}: no sample").into());
    };
    let explained = Explained {
        model: shown.to_string(),
        layer: layer.name.clone(),
        op: layer.op.clone(),
        tensor: layer.tensor.clone(),
        shape: layer.shape.clone(),
        element: coordinates(&layer.shape, look.index),
        sample: number,
        sample_name: samples.load(number)?.name.clone(),
        fed_with: if recorded.is_some() {
            "recording"
        } else {
            "reference"
        },
        sides: look.sides,
        recorded: recorded.is_some().then_some(look.expected),
        equal: look.equal,
    };
    if let Some(target) = &args.report {
        report::write_json(target, &json(&explained))?;
    }
    let code = if explained.equal { 0 } else { MISALIGNED };
    let text = if args.quiet {
        verdict(&explained, color)
    } else {
        terminal(&explained, color, args.verbose)
    };
    Ok((text, code))
}

enum Stopped {
    Failed(anyhow::Error),
    Unexplained(Unexplained),
}

/// Explains the layer on one sample.
fn one(
    check: &Check,
    index: usize,
    number: usize,
    sample: &Sample,
    element: Option<usize>,
) -> Result<Look, Stopped> {
    let target = &check.targets[0];
    let specs = [&check.reference.spec, &target.spec];
    let found = OnceLock::new();
    let see = |judged: &sample::Judged| {
        let networks = [check.network, target.network(check.network)];
        let _ = found.get_or_init(|| look(judged, specs, networks, element));
    };
    sample::look(check, number, sample, index, &see).map_err(Stopped::Failed)?;
    match found.into_inner() {
        Some(look) => look.map_err(Stopped::Unexplained),
        None => Err(Stopped::Failed(anyhow!(
            "the recording lacks tensor '{}'",
            check.network.layers[index].tensor
        ))),
    }
}

/// The layer that a name or a pattern means.
fn find(network: &Network, name: &str) -> Result<usize, String> {
    let layers = || network.layers.iter().enumerate();
    let exactly = |(_, layer): &(usize, &Layer)| layer.name == name || layer.tensor == name;
    let mut found: Vec<(usize, &Layer)> = layers().filter(exactly).collect();
    if found.is_empty() {
        let pattern =
            glob::Pattern::new(name).map_err(|e| format!("pattern '{name}': {}", e.msg))?;
        let matches = |text: &str| pattern.matches(text);
        let any = |(_, layer): &(usize, &Layer)| matches(&layer.name) || matches(&layer.tensor);
        found = layers().filter(any).collect();
    }
    let names = |found: &[(usize, &Layer)]| {
        let shown: Vec<String> = found
            .iter()
            .take(LISTED)
            .map(|(_, layer)| format!("'{}' ({})", visible(&layer.name), layer.op))
            .collect();
        let more = match found.len().saturating_sub(LISTED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        shown.join(", ") + &more
    };
    match &found[..] {
        [(index, _)] => Ok(*index),
        [] => {
            let all: Vec<_> = layers().filter(|(_, layer)| layer.is_compared()).collect();
            Err(format!(
                "no layer '{}'; there are {}",
                visible(name),
                names(&all)
            ))
        }
        several => Err(format!(
            "'{}' means several layers: {}",
            visible(name),
            names(several)
        )),
    }
}
