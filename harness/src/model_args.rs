//! The model of a command line, and what gives it quantizers: arguments of every verb that plans a network.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use align_check_graph::encodings::Applied;
use align_check_graph::{Graph, Limits, Model};
use align_check_simulators::kernels::Isa;
use align_check_specs::Spec;
use anyhow::{Result, anyhow};
use clap::{Args, ValueEnum};

use crate::digest::sha256;
use crate::failure::{Failure, complain};
use crate::inputs::args::PrepareArgs;
use crate::inputs::{Dataset, Given};
use crate::limit_args::LimitArgs;
use crate::outcome::ModelInfo;
use crate::{calibrate, encodings, memory, report};

/// The model, its quantizers, and inputs of it.
#[derive(Debug, Clone, Args)]
pub struct ModelArgs {
    /// The quantized model (ONNX, QONNX, .tflite, OpenVINO .xml, Caffe .prototxt)
    // Optional to clap alone: a verb takes the place of the first positional argument.
    #[arg(required = true, value_name = "MODEL")]
    model: Option<PathBuf>,

    /// Inputs: files (.npz, .npy, .png, .jpg, .raw), folders, patterns ('val/*.png'), lists (.txt). Keys of an .npz that
    /// are input names hold samples along the batch axis; otherwise, for a model with one input, every key is one sample
    #[arg(short, long, value_name = "PATH", num_args = 1..)]
    pub input: Vec<PathBuf>,

    /// What happens to them.
    #[command(flatten)]
    pub prepare: PrepareArgs,

    #[arg(
        long,
        visible_alias = "ranges",
        value_name = "FILE",
        help = "Quantizers of a float model: AIMET encodings, a TensorRT calibration cache or ranges file, \
                MQBench's, Vitis AI's, Distiller's or SVP_NNN's parameters. The format is told by the contents"
    )]
    encodings: Option<PathBuf>,

    /// Quantizers of a float model from the ranges of its tensors on the inputs: align-check's own approximation, no
    /// toolchain's
    #[arg(
        long,
        value_enum,
        value_name = "METHOD",
        requires = "input",
        conflicts_with = "encodings"
    )]
    calibrate: Option<Calibration>,

    /// Weights of a Caffe network (without it: the .caffemodel of the same name beside the .prototxt)
    #[arg(long, value_name = "FILE.caffemodel")]
    weights: Option<PathBuf>,

    #[command(flatten)]
    limits: LimitArgs,
}

/// An argument's help with one more sentence, of one verb.
pub fn more_help(arg: clap::Arg, more: &str) -> clap::Arg {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    arg.help(format!("{help}. {more}"))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Calibration {
    /// Smallest and largest element of each tensor
    Minmax,
}

/// A model's graph with its quantizers, and what reports say of the model.
#[derive(Debug)]
pub struct Bound {
    /// The graph, constants included.
    pub graph: Graph,
    /// The model's file, and what was assumed.
    pub info: ModelInfo,
}

impl ModelArgs {
    /// The model's file.
    ///
    /// # Errors
    /// None was given.
    pub fn path(&self) -> Result<&Path> {
        self.model
            .as_deref()
            .ok_or_else(|| anyhow!("no model given"))
    }

    /// How much files may ask for.
    pub fn limits(&self) -> Limits {
        self.limits.limits()
    }

    /// Reads the model.
    ///
    /// # Errors
    /// No model was given, or it cannot be read.
    pub fn read(&self) -> Result<Model, Failure> {
        let weights = self.weights.as_deref();
        Ok(Model::read_with(self.path()?, weights, &self.limits())?)
    }

    /// Files beside the model that results depend on.
    pub fn side_files(&self) -> impl Iterator<Item = &PathBuf> {
        self.encodings.iter().chain(&self.weights)
    }

    /// Checks that what is written replaces neither another output nor a file that is read: the model's own, its inputs',
    /// or one of these.
    ///
    /// # Errors
    /// One line that names the path.
    pub fn check_apart(&self, written: &[&Path], read: &[&Path]) -> Result<()> {
        let own = self.model.iter().chain(self.side_files());
        let own = own.chain(&self.input).map(PathBuf::as_path);
        let read: Vec<&Path> = own.chain(read.iter().copied()).collect();
        report::check_apart(written, &read)
    }

    /// With a recording's own file of quantizers, where the user names none.
    #[must_use]
    pub fn or_encodings(mut self, of_recording: Option<PathBuf>) -> Self {
        self.encodings = self.encodings.or(of_recording);
        self
    }

    /// The inputs of `--input`; none where there is no such argument. A seed chooses those of `--limit`.
    ///
    /// # Errors
    /// A file cannot be read, or does not fit the model.
    pub fn dataset(&self, model: &Model, seed: Option<u64>) -> Result<Option<Dataset>> {
        if self.input.is_empty() {
            return Ok(None);
        }
        let mut data = Dataset::open(
            &self.input,
            &model.inputs(),
            &self.prepare,
            true,
            &self.limits(),
        )?;
        if let Some(limit) = self.prepare.limit {
            data.limit(limit, seed)?;
        }
        Ok(Some(data))
    }

    /// The model's graph for inputs of these shapes, with the quantizers that a file or `--calibrate` gives it for
    /// these targets. Warnings go to standard error. `float`: whether a model without quantizers is one, too.
    ///
    /// # Errors
    /// The graph cannot be bound, a side file does not fit it or the targets, or nothing is quantized.
    pub fn bind(
        &self,
        model: &Model,
        given: Option<Given>,
        specs: &[Spec],
        float: bool,
        isa: Isa,
    ) -> Result<Bound, Failure> {
        let no_shapes = BTreeMap::new();
        let graph = model.graph(given.map_or(&no_shapes, |given| given.shapes))?;
        memory::fits(&graph, model.bytes(), &self.limits())
            .map_err(|e| anyhow!("{}: {e}", model.path().display()))?;
        let mut info = model_info(model)?;
        let graph = match (&self.encodings, self.calibrate, given) {
            (Some(path), ..) => {
                let (graph, applied) = encodings::apply(path, graph, model, specs)?;
                say(&path.display().to_string(), applied, &mut info);
                graph
            }
            (None, Some(Calibration::Minmax), Some(given)) => {
                let (graph, applied) = calibrate::minmax(graph, model, given.source, specs, isa)?;
                info.format = format!("{}, {}", info.format, calibrate::LABEL);
                say("--calibrate", applied, &mut info);
                graph
            }
            _ if encodings::is_float(&graph) && !float => return Err(float_model(model)),
            _ => graph,
        };
        Ok(Bound { graph, info })
    }
}

fn model_info(model: &Model) -> Result<ModelInfo> {
    let path = model.path();
    Ok(ModelInfo {
        path: path.display().to_string(),
        sha256: sha256(path)?,
        format: model.format().to_string(),
        notes: model.notes().to_vec(),
        is_onnx: matches!(model, Model::Onnx(_)),
    })
}

/// Reports what gave a float model its quantizers, and warns of what does not fit.
fn say(source: &str, applied: Applied, info: &mut ModelInfo) {
    for warning in &applied.warnings {
        complain(&format!("warning: {source}: {warning}"));
    }
    info.notes.push(format!("{source}: {}", applied.coverage()));
    info.notes.extend(applied.notes);
    info.notes.extend(applied.warnings);
}

/// A model without any quantizer has nothing to compare.
fn float_model(model: &Model) -> Failure {
    anyhow!(
        "{}: nothing is quantized in it, so there is nothing to check; quantizers come from --encodings FILE \
         (a toolchain's), or from --calibrate minmax --input FILE (approximate)",
        model.path().display()
    )
    .into()
}
