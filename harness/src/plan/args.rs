//! `align-check plan`: its command line.

use std::path::Path;

use align_check_simulators::kernels::Isa;
use align_check_simulators::network::Network;
use align_check_specs::Spec;
use anyhow::anyhow;
use clap::Args;

use super::{Plan, dot, json, text};
use crate::check::{Check, Mode, Target, Tolerance};
use crate::failure::Failure;
use crate::inputs::{Dataset, Source};
use crate::lint::{cost, lint};
use crate::model_args::{Bound, ModelArgs, more_help};
use crate::outcome::TargetOutcome;
use crate::report;

/// Shown below the help.
pub const EXAMPLES: &str = "\
Examples:
  align-check plan model.onnx --target tensorrt
      which quantizers TensorRT moves, clones, merges or drops, and by which rule
  align-check plan model.onnx --target tensorrt,openvino,ort --report json=plan.json
      three targets, and a report for machines
  align-check plan model.onnx --target ort --report dot=plan.dot
      a picture: dot -Tsvg plan.dot -o plan.svg
  align-check plan model.onnx --target tensorrt --input photos.npz
      what every lint costs on your inputs: elements and LSB of the layer that it points at
  align-check plan model.onnx --encodings model.encodings --target hexagon-nn
      a float model with the quantizers that AIMET exported beside it
  align-check plan model.onnx --ranges calibration.cache --target tensorrt
      the same option: TensorRT's cache or ranges file, MQBench's JSON, NNIE's and SVP_NNN's parameters

A line for each quantizer: same, moved, extra on target, missing on target, merged, float (what it ends is computed
in float) or rewritten. Quantizers that stay as they are show with -v. Then lints: what is known to cost accuracy on
the target, why, and what to do.
Exit codes: 0 planned, 2 usage or input error, 3 unsupported.";

/// Formats of a report.
const KINDS: [&str; 2] = ["json", "dot"];

/// The arguments of `plan`.
#[derive(Debug, Args)]
#[command(mut_arg("input", |arg| more_help(arg, "Every lint says what it costs on them")))]
pub struct PlanArgs {
    #[command(flatten)]
    model: ModelArgs,

    /// Targets: names, aliases, TOML files, or `all`
    #[arg(
        short,
        long,
        value_delimiter = ',',
        required = true,
        value_name = "T[,T...]"
    )]
    target: Vec<String>,

    /// Write a report; KIND is json or dot
    #[arg(long, value_name = "KIND=PATH")]
    report: Vec<String>,

    /// Every quantizer, and what is not known about the target
    #[arg(short, long)]
    verbose: bool,
}

impl PlanArgs {
    /// The targets as they were given.
    pub fn targets(&self) -> &[String] {
        &self.target
    }
}

/// Plans a model for targets; returns what to print, and whether each of them supports it.
///
/// # Errors
/// The model cannot be read, a target does not exist, no target supports the model, or a report cannot be written.
pub fn run(
    args: &PlanArgs,
    specs: Vec<Spec>,
    color: bool,
) -> Result<(String, Vec<String>), Failure> {
    for target in &args.report {
        report::check_one_of(target, &KINDS)?;
    }
    let written: Vec<&Path> = args
        .report
        .iter()
        .map(|path| report::path_of(path))
        .collect();
    args.model.check_apart(&written, &[])?;
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
    drop(model);
    let shown = &info.path;
    let refused = |e: &dyn std::fmt::Display| Failure::Unsupported(format!("{shown}: {e}"));
    let network = Network::new(graph.clone()).map_err(|e| refused(&e))?;
    let exact = Spec::resolve("exact").map_err(|e| anyhow!("{e}"))?;
    let exact = Target::new(&network, exact, None, isa).map_err(|e| refused(&e))?;
    let (mut plans, mut unsupported) = (Vec::new(), Vec::new());
    for spec in specs {
        match Target::placed((&graph, &network), spec, None, &exact, isa) {
            Ok(target) => {
                let findings = lint(&graph, &target.spec);
                let lints = match &given {
                    None => findings
                        .into_iter()
                        .map(|finding| (finding, None))
                        .collect(),
                    Some(given) => {
                        let checked = checked(&network, &exact, &target, given, isa)?;
                        let costed = findings.into_iter().map(|finding| {
                            let cost = cost(&finding, &checked);
                            (finding, cost)
                        });
                        costed.collect()
                    }
                };
                plans.push(Plan::new(&network, &target, lints));
            }
            Err(e) => unsupported.push(format!("{shown}: {e}")),
        }
    }
    if plans.is_empty() {
        return Err(Failure::Unsupported(unsupported.join("; ")));
    }
    let mut out = report::notes(&info.notes, color, args.verbose);
    for (at, plan) in plans.iter().enumerate() {
        if at > 0 {
            out.push('\n');
        }
        out.push_str(&text(plan, color, args.verbose));
    }
    for target in &args.report {
        report::write_one_of(
            target,
            &[
                ("json", &|| json(&info, &plans)),
                ("dot", &|| dot(shown, &plans)),
            ],
        )?;
    }
    Ok((out, unsupported))
}

/// Every layer of a target against the reference, fed with the reference's inputs.
fn checked(
    network: &Network,
    exact: &Target,
    target: &Target,
    samples: &dyn Source,
    isa: Isa,
) -> anyhow::Result<TargetOutcome> {
    let findings = Check {
        network,
        reference: exact,
        targets: std::slice::from_ref(target),
        mode: Mode {
            isolated: true,
            cumulative: false,
        },
        tolerance: Tolerance::default(),
        recorded: None,
        recorded_reference: None,
        explain: false,
        drift: false,
        select: &|_| true,
        isa,
        progress: &|| {},
    }
    .run(samples)?;
    let outcome = findings.targets.into_iter().next();
    outcome.ok_or_else(|| anyhow!("nothing was checked"))
}
