//! The command line of `prove`.

use align_check_simulators::kernels::Isa;
use align_check_simulators::network::{Layer, Network};
use align_check_specs::Spec;
use anyhow::anyhow;
use clap::Args;

use super::{json, prove, summary, terminal};
use crate::check::Target;
use crate::cli::{MISALIGNED, Patterns, UNSUPPORTED, threads, unsupported};
use crate::failure::Failure;
use crate::inputs::Dataset;
use crate::model_args::{Bound, ModelArgs, more_help};
use crate::report;

/// Examples of the help text.
pub const EXAMPLES: &str = "\
Examples:
  align-check prove model.onnx --target tflite
      for every layer: can any input make the target differ from the fake-quant reference, and which
  align-check prove model.onnx --target onnxruntime --against tflite --report json=proof.json
      two targets against each other; counterexamples with an input window that makes them

Each layer stands alone, fed with the same codes on both sides. Sums are compared over all values that weights and
input codes can reach; one or two codes in all their combinations. What is not proved is said, with the reason.
Exit codes: 0 every layer equal for all inputs, 1 some layer differs, 2 usage or input error, 3 some layer open.";

/// Arguments of `prove`.
#[derive(Debug, Args)]
#[command(mut_arg("input", |arg| more_help(arg, "For --calibrate, and for shapes that the model leaves open")))]
pub struct ProveArgs {
    #[command(flatten)]
    model: ModelArgs,

    /// The target whose rules are in question
    #[arg(short, long, value_name = "T")]
    target: String,

    /// What it is held against: the fake-quant reference, or another target
    #[arg(long, value_name = "T", default_value = "reference")]
    against: String,

    /// Only layers whose name or tensor matches
    #[arg(long, value_name = "GLOB")]
    layers: Vec<String>,

    /// Leave out layers whose name or tensor matches
    #[arg(long, value_name = "GLOB")]
    except: Vec<String>,

    /// Write a report for machines
    #[arg(long, value_name = "json=PATH")]
    report: Option<String>,

    /// Threads (default: all cores). Results do not depend on it
    #[arg(short, value_name = "N")]
    jobs: Option<usize>,

    /// Only the last line: how many layers are equal, differ, or stay open
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,

    /// Layers that are equal, too
    #[arg(short, long)]
    verbose: bool,
}

/// Runs `prove`: the text for the terminal, and the exit code.
///
/// # Errors
/// The model cannot be read, a target does not exist, or it cannot run the model at all.
pub fn run(args: &ProveArgs, color: bool) -> Result<(String, u8), Failure> {
    if let Some(target) = &args.report {
        report::check_json(target)?;
        args.model.check_apart(&[report::path_of(target)], &[])?;
    }
    threads(args.jobs)?;
    let patterns = Patterns::new(&args.layers, &args.except)?;
    let resolve = |name: &str| Spec::resolve(name).map_err(|e| anyhow!("{e}"));
    let specs = [resolve(&args.target)?, resolve(&args.against)?];
    let isa = Isa::detect();
    let model = args.model.read()?;
    let given = args.model.dataset(&model, None)?;
    let Bound { graph, info } = args.model.bind(
        &model,
        given.as_ref().map(Dataset::given),
        &specs,
        false,
        isa,
    )?;
    drop((model, given));
    let refused = |e: align_check_simulators::Error| unsupported(info.path.as_ref(), &e);
    let network = Network::new(graph.clone()).map_err(refused)?;
    let exact = Target::new(&network, resolve("exact")?, None, isa).map_err(refused)?;
    let plan =
        |spec: Spec| Target::placed((&graph, &network), spec, None, &exact, isa).map_err(refused);
    let [spec, other] = specs;
    let (target, against) = (plan(spec)?, plan(other)?);
    let select = |layer: &Layer| patterns.select(layer);
    let proof = prove(&network, &target, &against, &select, isa);
    if proof.layers.is_empty() {
        return Err(anyhow!("--layers and --except leave no layer to prove").into());
    }
    if let Some(target) = &args.report {
        report::write_json(target, &json(&info, &proof))?;
    }
    let code = match (proof.differs(), proof.all_equal()) {
        (true, _) => MISALIGNED,
        (false, true) => 0,
        (false, false) => UNSUPPORTED,
    };
    let text = if args.quiet {
        summary(&proof)
    } else {
        report::notes(&info.notes, color, args.verbose) + &terminal(&proof, color, args.verbose)
    };
    Ok((text, code))
}
