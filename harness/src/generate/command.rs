//! The command line of `gen-inputs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use align_check_graph::Model;
use align_check_simulators::kernels::Isa;
use align_check_simulators::network::{Layer, Network};
use align_check_specs::Spec;
use anyhow::{Result, anyhow};
use clap::Args;

use super::distinguish::{Found, distinguish};
use crate::check::Target;
use crate::cli::{MISALIGNED, Patterns, bar, threads, unsupported};
use crate::failure::Failure;
use crate::inputs::{Array, ArrayKind, Sample};
use crate::limit_args::LimitArgs;
use crate::record::write::npz;
use crate::report::text::{count, thousands, visible};
use crate::{aside, memory};

/// Examples of the help text.
pub const EXAMPLES: &str = "\
Examples:
  align-check gen-inputs model.onnx --out inputs.npz --samples 16
      the inputs that a check generates: random ones, near-ties, both ends of the range, a smooth picture
  align-check gen-inputs model.tflite --out telling.npz --distinguish tflite-reference,litert-x86
      inputs on which two targets give different codes, found by search and verified by running both
  align-check gen-inputs model.onnx --out telling.npz --distinguish ./chip-a.toml,./chip-b.toml --layers 'conv_1'
      the same for one layer; where no network input was found, the layer's own input is written under its name

Exit codes: 0 inputs were written (with --distinguish: the targets differ on them), 1 no input was found on which the
targets differ, 2 usage or input error, 3 unsupported.";

/// Arguments of `gen-inputs`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// The quantized model
    #[arg(value_name = "MODEL")]
    model: PathBuf,

    /// Where the inputs go: an .npz whose keys are the model's inputs, samples along the first axis
    #[arg(long, value_name = "FILE.npz")]
    out: PathBuf,

    /// How many samples
    #[arg(long, value_name = "N", default_value_t = 4)]
    samples: usize,

    /// Seed
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// Two targets (names or TOML files) whose codes the inputs must make differ
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    distinguish: Vec<String>,

    /// Only layers whose name or tensor matches
    #[arg(long, value_name = "GLOB", requires = "distinguish")]
    layers: Vec<String>,

    /// Threads (default: all cores). Results do not depend on it
    #[arg(short, value_name = "N")]
    jobs: Option<usize>,

    /// Nothing but errors
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    limits: LimitArgs,
}

/// Runs `gen-inputs`: the text for the terminal, and the exit code.
///
/// # Errors
/// The model cannot be read, or the file cannot be written.
pub fn run(args: &GenerateArgs) -> Result<(String, u8), Failure> {
    if args
        .out
        .extension()
        .is_none_or(|end| !end.eq_ignore_ascii_case("npz"))
    {
        return Err(anyhow!("--out {}: the name must end in .npz", args.out.display()).into());
    }
    if args.samples == 0 {
        return Err(anyhow!("--samples 0: at least one sample is needed").into());
    }
    threads(args.jobs)?;
    let patterns = Patterns::new(&args.layers, &[])?;
    let limits = args.limits.limits();
    let model = Model::read(&args.model, &limits)?;
    let graph = model.graph(&BTreeMap::new())?;
    memory::fits(&graph, model.bytes(), &limits)
        .map_err(|e| anyhow!("{}: {e}", args.model.display()))?;
    let refused = |e: align_check_simulators::Error| unsupported(&args.model, &e);
    let network = Network::new(graph.clone()).map_err(refused)?;
    if args.distinguish.is_empty() {
        let samples = super::samples(&network, args.samples, args.seed);
        write(&args.out, stacked(&samples), BTreeMap::new())?;
        let text = format!(
            "{}: {} of {}\n",
            args.out.display(),
            count(samples.len(), "sample"),
            network
                .graph
                .inputs
                .iter()
                .map(|&input| visible(network.name(input)))
                .collect::<Vec<_>>()
                .join(", ")
        );
        return Ok((if args.quiet { String::new() } else { text }, 0));
    }
    let [first, second] = &args.distinguish[..] else {
        return Err(anyhow!(
            "--distinguish takes two targets, and {} are given",
            args.distinguish.len()
        )
        .into());
    };
    let isa = Isa::detect();
    let resolve = |name: &str| Spec::resolve(name).map_err(|e| anyhow!("{e}"));
    let exact = Target::new(&network, resolve("exact")?, None, isa).map_err(refused)?;
    let plan = |name: &str| -> Result<Target, Failure> {
        Target::placed((&graph, &network), resolve(name)?, None, &exact, isa).map_err(refused)
    };
    let sides = [plan(first)?, plan(second)?];
    let select = |layer: &Layer| patterns.select(layer);
    let progress = bar(super::distinguish::TRIES, "inputs tried", args.quiet);
    let found = distinguish(
        &network,
        &exact,
        [&sides[0], &sides[1]],
        &select,
        (args.samples, args.seed),
        isa,
        &|| progress.inc(1),
    )?;
    progress.finish_and_clear();
    if found.layers.is_empty() {
        return Err(anyhow!("--layers leaves no layer to compare").into());
    }
    let text = report(args, &found);
    let differs = found.differs();
    if differs {
        write(&args.out, stacked(&found.samples), found.of_layers.clone())?;
    }
    let text = if args.quiet { String::new() } else { text };
    Ok((text, if differs { 0 } else { MISALIGNED }))
}

fn report(args: &GenerateArgs, found: &Found) -> String {
    let [first, second] = [&args.distinguish[0], &args.distinguish[1]];
    let mut text = String::new();
    // Writing to a String cannot fail, here and below.
    for layer in &found.layers {
        let name = visible(&layer.tensor);
        let line = match (&layer.network, &layer.alone, &layer.why) {
            (0, 0, why) => format!("not told apart: {why}"),
            (0, alone, _) => format!(
                "{} of {} elements differ on the layer's own input, written as '{}'",
                thousands(*alone),
                thousands(layer.elements_alone),
                visible(&layer.input)
            ),
            (differing, _, _) => format!(
                "{} of {} elements differ",
                thousands(*differing),
                thousands(layer.elements)
            ),
        };
        let _ = writeln!(text, "  {name} ({}): {line}", visible(&layer.op));
    }
    let told = found
        .layers
        .iter()
        .filter(|l| l.network + l.alone > 0)
        .count();
    let written = if found.differs() {
        format!(
            "{}: {}{}",
            args.out.display(),
            count(found.samples.len(), "sample"),
            match found.of_layers.len() {
                0 => String::new(),
                n => format!(", and {} of single layers, by tensor", count(n, "input")),
            }
        )
    } else {
        "nothing was written".to_owned()
    };
    let _ = writeln!(
        text,
        "{first} and {second}: {told} of {} told apart; {written}",
        count(found.layers.len(), "layer")
    );
    text
}

/// Samples of one input along its first axis.
fn stacked(samples: &[Sample]) -> Vec<(String, Array)> {
    let names: BTreeSet<&String> = samples.iter().flat_map(|s| s.inputs.keys()).collect();
    let stack = |name: &String| {
        let parts: Vec<&Array> = samples.iter().filter_map(|s| s.inputs.get(name)).collect();
        let mut shape = parts[0].shape.clone();
        match shape.first_mut() {
            Some(first) => *first *= parts.len(),
            None => shape.push(parts.len()),
        }
        let array = Array {
            shape,
            values: parts
                .iter()
                .flat_map(|part| part.values.iter().copied())
                .collect(),
            kind: ArrayKind::Float,
        };
        (name.clone(), array)
    };
    names.into_iter().map(stack).collect()
}

/// Writes an .npz aside, then renames it.
fn write(
    out: &Path,
    mut arrays: Vec<(String, Array)>,
    layers: BTreeMap<String, Array>,
) -> Result<()> {
    let taken: BTreeSet<String> = arrays.iter().map(|(key, _)| key.clone()).collect();
    arrays.extend(layers.into_iter().filter(|(key, _)| !taken.contains(key)));
    let failed = |e: &dyn std::fmt::Display| anyhow!("--out {}: {e}", out.display());
    aside::save(out, &npz(&arrays)?).map_err(|e| failed(&e))
}
