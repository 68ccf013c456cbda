//! The command line of `infer`.

use std::path::{Path, PathBuf};

use align_check_simulators::kernels::Isa;
use align_check_simulators::network::{Layer, Network};
use align_check_specs::Spec;
use anyhow::{Result, anyhow};
use clap::Args;

use super::show::Afterwards;
use super::{Inference, Question, infer, json, summary, terminal};
use crate::check::{Check, Mode, Target, Tolerance};
use crate::cli::{
    MISALIGNED, Patterns, counter, given_samples, read_recording, threads, unsupported,
};
use crate::encodings;
use crate::failure::Failure;
use crate::model_args::{Bound, ModelArgs, more_help};
use crate::recording::Folder;
use crate::report;

/// Examples of the help text.
pub const EXAMPLES: &str = "\
Examples:
  align-check infer model.tflite --recorded dump.npz --input photos.npz
      which rounding, multiplier, bias and zero point made these tensors, layer kind by layer kind
  align-check infer model.onnx --recorded dumps/board-1 --out my-chip.toml --report json=infer.json
      the rules as a spec that `--target ./my-chip.toml` takes, and a report for machines

Every layer is fed with the recorded inputs, and the whole rule zoo is tried on the elements that tell most (ties and
what lies beside them); what survives is run on every element. What the data cannot tell apart is said, with the reason.
Exit codes: 0 every element explained, 1 something is not, 2 usage or input error, 3 unsupported.";

/// Arguments of `infer`.
#[derive(Debug, Args)]
#[command(mut_arg("input", |arg| more_help(arg, "The inputs that were recorded, where the recording does not hold them")))]
pub struct InferArgs {
    #[command(flatten)]
    model: ModelArgs,

    /// Tensors recorded from the chip or the software: a recording's folder, or an .npz whose keys are tensor names
    /// (integers are codes, floats are reals)
    #[arg(long, value_name = "DIR|FILE.npz")]
    recorded: PathBuf,

    /// Fixed-point types of each layer (hls4ml): what casts and sums do with them is inferred, and each accumulator's
    /// type
    #[arg(long, value_name = "FILE.toml")]
    precision: Option<PathBuf>,

    /// Only layers whose name or tensor matches
    #[arg(long, value_name = "GLOB")]
    layers: Vec<String>,

    /// Leave out layers whose name or tensor matches
    #[arg(long, value_name = "GLOB")]
    except: Vec<String>,

    /// Write what was found as a spec that `--target` takes
    #[arg(long, value_name = "SPEC.toml")]
    out: Option<PathBuf>,

    /// Write a report for machines
    #[arg(long, value_name = "json=PATH")]
    report: Option<String>,

    /// Threads (default: all cores). Results do not depend on it
    #[arg(short, value_name = "N")]
    jobs: Option<usize>,

    /// Only the last line
    #[arg(short, long)]
    quiet: bool,
}

/// What `--out` is, in errors.
const SPEC: &str = "spec";

/// Runs `infer`: the text for the terminal, and the exit code.
///
/// # Errors
/// The model or the recording cannot be read, or nothing that was recorded belongs to the model.
pub fn run(args: &InferArgs, color: bool) -> Result<(String, u8), Failure> {
    if let Some(target) = &args.report {
        report::check_json(target)?;
    }
    if let Some(out) = &args.out
        && out
            .extension()
            .is_none_or(|end| !end.eq_ignore_ascii_case("toml"))
    {
        return Err(anyhow!("--out {}: the name of a spec ends in .toml", out.display()).into());
    }
    if let Some(out) = &args.out {
        report::check_text(SPEC, out)?;
    }
    let written: Vec<&Path> = (args.report.iter().map(|path| report::path_of(path)))
        .chain(args.out.as_deref())
        .collect();
    let read = [Some(&*args.recorded), args.precision.as_deref()];
    let read: Vec<&Path> = read.into_iter().flatten().collect();
    args.model.check_apart(&written, &read)?;
    threads(args.jobs)?;
    let patterns = Patterns::new(&args.layers, &args.except)?;
    let isa = Isa::detect();
    let path = args.model.path()?;
    let model = args.model.read()?;
    let limits = args.model.limits();
    let (recorded, folder) = read_recording(Some(&args.recorded), &limits)?;
    let Some(recorded) = recorded else {
        return Err(anyhow!("--recorded: nothing was read").into());
    };
    let own_inputs = folder.as_ref().map(Folder::inputs).transpose()?;
    let own_inputs = own_inputs.filter(|file| file.is_file());
    let samples = given_samples(&args.model, &model, Some(&recorded), own_inputs, None)?;
    let Some(samples) = samples else {
        return Err(anyhow!("--input: the recording's inputs are needed").into());
    };
    let samples = samples.all()?;
    let types = match (&args.precision, &folder) {
        (Some(path), _) => Some(crate::precision::read(path)?),
        (None, Some(folder)) => folder.precision()?,
        (None, None) => None,
    };
    let of_folder = folder.as_ref().map(Folder::encodings).transpose()?;
    let Bound { mut graph, .. } = (args.model.clone())
        .or_encodings(of_folder.flatten())
        .bind(&model, Some(samples.given()), &[], types.is_some(), isa)?;
    if let Some(folder) = &folder {
        encodings::recorded_as(&mut graph, &folder.provenance.quantized);
    }
    drop(model);
    let refused = |e: align_check_simulators::Error| unsupported(path, &e);
    let ends = |tensor: &str| types.as_ref().is_some_and(|types| types.names(tensor));
    let network = Network::cut_at(graph.clone(), &ends).map_err(refused)?;
    let exact = Spec::resolve("exact").map_err(|e| anyhow!("{e}"))?;
    let exact = Target::new(&network, exact, None, isa).map_err(refused)?;
    let select = |layer: &Layer| patterns.select(layer);
    let source = recording_name(&args.recorded);
    let bar = counter("parts of the zoo tried", args.quiet);
    if let Some(types) = &types {
        let found = super::infer_types(&super::Types {
            network: &network,
            exact: &exact,
            samples: &samples.samples,
            recorded: &recorded,
            types,
            select: &select,
            isa,
            progress: &|| bar.inc(1),
        })?;
        bar.finish_and_clear();
        if let Some(target) = &args.report {
            report::write_json(target, &found.json())?;
        }
        if let Some(out) = &args.out {
            write_spec(out, &found.spec(&source)?)?;
        }
        let text = if args.quiet {
            found.summary()
        } else {
            found.terminal(color)
        };
        return Ok((text, if found.explained() { 0 } else { MISALIGNED }));
    }
    let question = Question {
        graph: &graph,
        network: &network,
        exact: &exact,
        samples: &samples.samples,
        recorded: &recorded,
        source,
        select: &select,
        isa,
        progress: &|| bar.inc(1),
    };
    let found = infer(&question)?;
    bar.finish_and_clear();
    let text = found.spec.to_toml().map_err(|e| anyhow!("{e}"))?;
    let legal = Spec::parse(&text, "inferred.toml").map_err(|e| e.to_string());
    let after = Afterwards {
        spec: Some(match &legal {
            Ok(spec) => reproduce(&question, spec.clone())?,
            Err(why) => Err(why.clone()),
        }),
        commands: commands(path, &found),
    };
    if let Some(target) = &args.report {
        report::write_json(target, &json(&found, &after))?;
    }
    if let Some(out) = &args.out {
        let spec = legal.map_err(|why| {
            anyhow!(
                "--out {}: what was found is no legal spec: {why}",
                out.display()
            )
        })?;
        write_spec(out, &spec)?;
    }
    let text = if args.quiet {
        summary(&found)
    } else {
        terminal(&found, &after, color)
    };
    Ok((text, if found.explained() { 0 } else { MISALIGNED }))
}

/// Writes a spec aside, then renames.
fn write_spec(out: &Path, spec: &Spec) -> Result<()> {
    let mut spec = spec.clone();
    if let Some(name) = out.file_stem().and_then(|name| name.to_str()) {
        let name: String = name
            .to_lowercase()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        let name = name.trim_matches('-');
        if !name.is_empty() && name.len() <= 64 {
            name.clone_into(&mut spec.name);
        }
    }
    let text = spec.to_toml().map_err(|e| anyhow!("{e}"))?;
    report::save_text(SPEC, out, &text)
}

/// The recording's name in evidence: a file's or folder's own, without the way to it.
fn recording_name(path: &Path) -> String {
    let name = path
        .file_name()
        .or_else(|| path.parent().and_then(Path::file_name));
    name.map_or_else(
        || "a recording".into(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// Runs the spec as a target on the recording: elements that it reproduces, of those whose tensors it has.
fn reproduce(question: &Question, spec: Spec) -> Result<Result<(u64, u64), String>> {
    let placed = Target::placed(
        (question.graph, question.network),
        spec,
        None,
        question.exact,
        question.isa,
    );
    let target = match placed {
        Ok(target) => target,
        Err(e) => return Ok(Err(e.to_string())),
    };
    let findings = Check {
        network: question.network,
        reference: question.exact,
        targets: &[target],
        mode: Mode {
            isolated: true,
            cumulative: false,
        },
        tolerance: Tolerance::default(),
        recorded: Some(question.recorded),
        recorded_reference: None,
        explain: false,
        drift: false,
        select: question.select,
        isa: question.isa,
        progress: &|| {},
    }
    .run(question.samples)?;
    let layers = findings.targets.iter().flat_map(|target| &target.layers);
    let (mut right, mut all) = (0, 0);
    for stats in layers.filter_map(|layer| layer.isolated.as_ref()) {
        all += stats.elements;
        right += stats.elements - stats.beyond_noise();
    }
    Ok(Ok((right, all)))
}

/// Commands that make inputs on which targets differ that this recording does not tell apart.
fn commands(model: &Path, found: &Inference) -> Vec<String> {
    let pairs = found.targets.windows(2).take(3);
    pairs
        .map(|pair| {
            format!(
                "align-check gen-inputs {} --out more-inputs.npz --distinguish {},{}",
                model.display(),
                pair[0],
                pair[1]
            )
        })
        .collect()
}
