//! `record`: what users have, as a recording that `--recorded` and `verify` take.
//!
//! Read the dumps, say which tensor each one is, bring its numbers into the model's order of axes and onto its
//! grid, look whether they are plausible, write the folder.

mod args;
mod dpu;
mod dump;
mod layout;
mod names;
mod nnie;
mod numpy;
mod plausible;
mod raw;
mod reference;
mod show;
mod source;
mod tensorrt;
pub(crate) mod write;

pub(crate) use dump::{decode as raw_numbers, raw_type};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use align_check_graph::{Graph, InputInfo, Model, Value, ValueId};
use align_check_simulators::adapt::ValueGrid;
use align_check_simulators::kernels::Isa;
use align_check_simulators::network::Network;
use align_check_specs::Spec;
use anyhow::{Result, anyhow, bail};

use self::dump::{Dump, Order, kind_name};
use self::layout::{Says, file_shape, from_graph_order, to_file_order, to_graph_order};
use self::names::{Decision, Known, Node, Tensor, Wanted, Why};
use self::plausible::Suspect;
use self::show::{Line, Recorded, Unmatched};
use crate::check::Target;
use crate::failure::Failure;
use crate::inputs::{self, Array, Samples};
use crate::recording::Provenance;
use crate::report;
use crate::{files, memory};

pub(crate) use self::args::{EXAMPLES, RecordArgs};

/// The tensors of dumps, by the names that the tools gave them, before anything is known of a model. `list` explains raw
/// binaries.
///
/// # Errors
/// One line that names the file.
pub fn tensors(from: &[PathBuf], list: Option<&Path>) -> Result<Vec<(String, Array)>> {
    let args = RecordArgs {
        from: from.to_vec(),
        list: list.map(Path::to_owned),
        ..RecordArgs::default()
    };
    let array = |dump: Dump| {
        let shape = dump.shape.unwrap_or_else(|| vec![dump.values.len()]);
        let array = Array {
            shape,
            values: dump.values,
            kind: dump.kind,
        };
        (dump.name, array)
    };
    Ok(source::read(&args)?.dumps.into_iter().map(array).collect())
}

/// Records; returns what to print.
///
/// # Errors
/// One line: a dump is damaged, a name or a size does not fit, or the model is not supported.
pub(crate) fn run(args: &RecordArgs, color: bool) -> Result<String, Failure> {
    if let Some(target) = &args.report {
        report::check_json(target)?;
    }
    write::check(&args.out, args.force)?;
    let spec = match &args.target {
        Some(name) => Some(Spec::resolve(name).map_err(|e| anyhow!("{e}"))?),
        None => None,
    };
    let map = read_map(args)?;
    let model = Model::read(&args.model, &args.limits.limits())?;
    let mut recorded = Recorded::new(args.out.display().to_string());
    let mut sources = source::read(args)?;
    recorded.formats = std::mem::take(&mut sources.formats);
    recorded.ignored = std::mem::take(&mut sources.ignored);

    let job = Job {
        args,
        map,
        tflite: model.format() == "tflite",
        dumps: sources.dumps,
    };
    let (samples, network, decided) = job.inputs(&model)?;
    recorded.samples = samples.samples.len();
    let given = !args.input.is_empty();
    recorded.inputs = if given { "--input" } else { "the dump" };
    let matched = decided.matched(|value| !given || !network.graph.inputs.contains(&value));
    job.unmatched(&network.graph, &decided, &matched, &mut recorded);
    let isa = Isa::detect();
    let exact = Spec::resolve("exact").map_err(|e| anyhow!("{e}"))?;
    let exact = Target::new(&network, exact, None, isa).map_err(|e| unsupported(args, &e))?;
    let target = match spec.map(|spec| Target::new(&network, spec, Some(&exact), isa)) {
        Some(Ok(target)) => Some(target),
        Some(Err(e)) => {
            let name = args.target.as_deref().unwrap_or_default();
            recorded
                .notes
                .push(format!("{name} does not support this model: {e}"));
            None
        }
        None => None,
    };
    let keep: Vec<ValueId> = matched.iter().map(|m| m.value).collect();
    let expected = reference::run(&network, &exact, &samples.samples[0], &keep, isa)?;
    let orders = job.orders(&network.graph, &matched, &expected)?;
    let grids = &target.as_ref().unwrap_or(&exact).grids;
    let mut outputs = Vec::new();
    for ((found, order), expected) in matched.iter().zip(orders).zip(&expected) {
        let is_input = network.graph.inputs.contains(&found.value);
        let layer = network.layers.iter().find(|l| l.output == found.value);
        let place = Place {
            value: network.graph.value(found.value),
            grid: &grids[found.value],
            order,
            compared: layer.is_some_and(align_check_simulators::network::Layer::is_compared),
        };
        let (line, array) = job.tensor(found, &place, expected.as_deref());
        if !is_input {
            outputs.push((line.tensor.clone(), array));
        }
        recorded.tensors.push(line);
    }
    for layer in network.layers.iter().filter(|layer| layer.is_compared()) {
        if !keep.contains(&layer.output) {
            recorded.missing.push(network.name(layer.output).to_owned());
        }
    }
    if !recorded.tensors.iter().any(|t| t.compared) {
        return Err(nothing(&job, &recorded).into());
    }
    let provenance = Provenance {
        tool: args.tool.clone(),
        platform: args.platform.clone(),
        license: args.license.clone(),
        command: write::command(),
        what: format!(
            "{} tensors of {} samples, recorded from dumps ({})",
            outputs.len(),
            recorded.samples,
            recorded.formats.join(", ")
        ),
        targets: args.target.iter().cloned().collect(),
        ..Provenance::default()
    };
    let inputs = stacked(&model, &samples);
    write::write(
        &args.out,
        args.force,
        &model,
        &inputs,
        &outputs,
        provenance,
        &args.limits.limits(),
    )?;
    if let Some(target) = &args.report {
        let json = serde_json::to_string_pretty(&recorded).map_err(|e| anyhow!("{e}"))?;
        report::write_json(target, &format!("{json}\n"))?;
    }
    Ok(recorded.text(color))
}

fn unsupported(args: &RecordArgs, error: &dyn std::fmt::Display) -> Failure {
    Failure::Unsupported(format!("{}: {error}", args.model.display()))
}

/// Why there is nothing to record.
fn nothing(job: &Job, recorded: &Recorded) -> anyhow::Error {
    let first = |names: Vec<&str>| match names.len() {
        0..=3 => names.join(", "),
        count => format!("{}, ... ({count})", names[..3].join(", ")),
    };
    anyhow!(
        "no dump is a tensor that a layer hands on: the dumps are {}; without a dump are {} (--map tells them \
         apart, --guess goes by shapes)",
        first(job.dumps.iter().map(|d| d.name.as_str()).collect()),
        first(recorded.missing.iter().map(String::as_str).collect())
    )
}

/// Most bytes of the file of `--map`.
const MAX_MAP: u64 = 4 << 20;

/// `--map`.
fn read_map(args: &RecordArgs) -> Result<BTreeMap<String, String>> {
    let Some(path) = &args.map else {
        return Ok(BTreeMap::new());
    };
    let text = files::small_text(path, MAX_MAP)?;
    toml::from_str(&text).map_err(|e| anyhow!("{}: {}", path.display(), e.message()))
}

/// A dump that is a tensor.
struct Matched {
    dump: usize,
    value: ValueId,
    why: Why,
}

/// What every dump is.
struct Decided {
    decisions: Vec<Decision>,
    /// Ids of the tensors that the decisions number.
    ids: Vec<ValueId>,
}

impl Decided {
    /// The dumps that are tensors, of those that are wanted.
    fn matched(&self, wanted: impl Fn(ValueId) -> bool) -> Vec<Matched> {
        let found = self.decisions.iter().enumerate();
        let found = found.filter_map(|(dump, decision)| match decision {
            Decision::Tensor(tensor, why) => Some(Matched {
                dump,
                value: self.ids[*tensor],
                why: why.clone(),
            }),
            _ => None,
        });
        found.filter(|m| wanted(m.value)).collect()
    }
}

/// Where a tensor goes.
struct Place<'a> {
    value: &'a Value,
    grid: &'a ValueGrid,
    order: Taken,
    compared: bool,
}

/// How a dump's axes are taken.
#[derive(Clone)]
struct Taken {
    /// Whether they are in the other order than the file's.
    moved: bool,
    /// Whether the shape would allow the other way.
    open: bool,
    /// In words.
    text: String,
}

struct Job<'a> {
    args: &'a RecordArgs,
    map: BTreeMap<String, String>,
    tflite: bool,
    dumps: Vec<Dump>,
}

impl Job<'_> {
    /// The order of axes of the model's file.
    fn file_order(&self, value: &Value) -> Order {
        if self.tflite || value.file_axes.is_some() {
            Order::Nhwc
        } else {
            Order::Nchw
        }
    }

    /// Samples of a dump, and what its shape says of its order.
    fn fit(&self, dump: usize, value: &Value) -> Result<(usize, Says), String> {
        let dump = &self.dumps[dump];
        let file = file_shape(&value.shape, value.file_axes.as_deref());
        let count = dump.values.len() / dump.parts;
        let (samples, says) =
            layout::fit(dump.shape.as_deref(), count, &file, self.file_order(value))?;
        Ok((samples * dump.parts, says))
    }

    /// The samples, from `--input` or from the dump, the network that is bound to them, and what each dump is.
    fn inputs(&self, model: &Model) -> Result<(Samples, Network, Decided), Failure> {
        let infos = model.inputs();
        let given = match &self.args.input[..] {
            [] => None,
            files => Some(inputs::of_files(
                files,
                &infos,
                false,
                &self.args.limits.limits(),
            )?),
        };
        let no_shapes = BTreeMap::new();
        let graph = model.graph(given.as_ref().map_or(&no_shapes, |given| &given.shapes))?;
        memory::fits(&graph, model.bytes(), &self.args.limits.limits())
            .map_err(|e| anyhow!("{}: {e}", self.args.model.display()))?;
        let network = Network::new(graph).map_err(|e| unsupported(self.args, &e))?;
        let graph = &network.graph;
        let decided = self.decide(&network)?;
        let is_given = given.is_some();
        let samples = match given {
            Some(samples) => samples,
            None => self.dumped_inputs(graph, &decided, &infos)?,
        };
        let matched = decided.matched(|value| !is_given || !graph.inputs.contains(&value));
        self.count(graph, &matched, samples.samples.len())?;
        Ok((samples, network, decided))
    }

    /// The samples, from the dump.
    fn dumped_inputs(
        &self,
        graph: &Graph,
        decided: &Decided,
        infos: &[InputInfo],
    ) -> Result<Samples> {
        let mut arrays = Vec::new();
        let mut files = Vec::new();
        for &input in &graph.inputs {
            let value = graph.value(input);
            let found = decided.matched(|value| value == input);
            let Some(found) = found.first() else {
                bail!(
                    "no dump is the model's input '{}': give the inputs with --input",
                    value.name
                );
            };
            let array = self.input(found.dump, value)?;
            let file = self.dumps[found.dump].file.clone();
            files.push(file.clone());
            arrays.push((file, value.name.clone(), array));
        }
        inputs::samples(&files, arrays, infos, false)
    }

    /// A dumped input in the file's order of axes.
    fn input(&self, dump: usize, value: &Value) -> Result<Array> {
        let (samples, says) = self
            .fit(dump, value)
            .map_err(|what| self.misfit(dump, value, &what))?;
        let taken = self.taken(dump, value, says, None).ok_or_else(|| {
            anyhow!(
                "the dump of input '{}' may be NCHW or NHWC, its shape does not tell: --layout does",
                value.name
            )
        })?;
        let mut shape = file_shape(&value.shape, value.file_axes.as_deref());
        let dump = &self.dumps[dump];
        let values = if taken.moved {
            to_file_order(&dump.values, &shape, self.file_order(value))
        } else {
            dump.values.clone()
        };
        if let Some(first) = shape.first_mut() {
            *first *= samples;
        }
        Ok(Array {
            shape,
            values,
            kind: dump.kind,
        })
    }

    fn misfit(&self, dump: usize, value: &Value, what: &str) -> anyhow::Error {
        let dump = &self.dumps[dump];
        anyhow!(
            "{}: '{}', tensor '{}', {what}",
            dump.file.display(),
            dump.name,
            value.name
        )
    }

    /// Every tensor has as many samples as the inputs.
    fn count(&self, graph: &Graph, matched: &[Matched], samples: usize) -> Result<()> {
        for found in matched {
            let value = graph.value(found.value);
            let fit = self.fit(found.dump, value);
            let (own, _) = fit.map_err(|what| self.misfit(found.dump, value, &what))?;
            if own != samples {
                let what = format!("holds {own} samples, and the inputs are {samples}");
                return Err(self.misfit(found.dump, value, &what));
            }
        }
        Ok(())
    }

    /// What each dump is.
    fn decide(&self, network: &Network) -> Result<Decided> {
        let (known, ids) = known(network);
        let wanted: Vec<Wanted> = self.dumps.iter().map(wanted).collect();
        let fits =
            |dump: usize, tensor: usize| self.fit(dump, network.graph.value(ids[tensor])).is_ok();
        let decisions = names::decide(&wanted, &known, &self.map, &fits, self.args.guess)?;
        Ok(Decided { decisions, ids })
    }

    /// Says of every dump that is not recorded why.
    fn unmatched(
        &self,
        graph: &Graph,
        decided: &Decided,
        matched: &[Matched],
        recorded: &mut Recorded,
    ) {
        let name = |tensor: usize| &graph.value(decided.ids[tensor]).name;
        for (at, decision) in decided.decisions.iter().enumerate() {
            let dump = &self.dumps[at];
            let is_constant = |v: &Value| {
                v.constant.is_some() && dpu::sanitized(&v.name) == dpu::sanitized(&dump.name)
            };
            let why = match decision {
                Decision::Tensor(..) if matched.iter().any(|m| m.dump == at) => continue,
                Decision::Tensor(tensor, _) => {
                    format!("the input '{}', which --input gives", name(*tensor))
                }
                Decision::Guess(tensor) => {
                    format!("its shape fits only '{}': --guess takes it", name(*tensor))
                }
                Decision::Taken(tensor, by) => {
                    format!("'{}' is '{}' already", name(*tensor), self.dumps[*by].name)
                }
                Decision::Unknown if graph.values.iter().any(is_constant) => {
                    "a constant of the model".to_owned()
                }
                Decision::Unknown => "no tensor or node of that name: --map".to_owned(),
            };
            let dump = dump.name.clone();
            recorded.unmatched.push(Unmatched { dump, why });
        }
    }

    /// How the axes of a dump are taken; nothing where that is open. `seen`: how dumps of this kind whose
    /// shape tells are taken.
    fn taken(&self, dump: usize, value: &Value, says: Says, seen: Option<bool>) -> Option<Taken> {
        let file = self.file_order(value);
        let other = match file {
            Order::Nchw => Order::Nhwc,
            Order::Nhwc => Order::Nchw,
        };
        let name = |moved: bool| if moved { other.name() } else { file.name() };
        let (moved, why) = match says {
            Says::Only => {
                return Some(Taken {
                    moved: false,
                    open: false,
                    text: "one order".to_owned(),
                });
            }
            Says::File => (false, "by shape"),
            Says::Other => (true, "by shape"),
            Says::Either => match (self.args.layout, self.dumps[dump].order, seen) {
                (Some(given), ..) => (given != file, "by --layout"),
                (None, Some(known), _) => (known != file, "by format"),
                (None, None, Some(moved)) => (moved, "as other dumps"),
                (None, None, None) => return None,
            },
        };
        let text = if moved {
            format!("{} {why}, moved to {}", name(true), file.name())
        } else {
            format!("{} {why}", name(false))
        };
        let open = says == Says::Either;
        Some(Taken { moved, open, text })
    }

    /// How the axes of every dump are taken.
    fn orders(
        &self,
        graph: &Graph,
        matched: &[Matched],
        expected: &[Option<Vec<f64>>],
    ) -> Result<Vec<Taken>> {
        let mut says = Vec::new();
        for found in matched {
            let value = graph.value(found.value);
            let fit = self.fit(found.dump, value);
            says.push(fit.map_err(|what| self.misfit(found.dump, value, &what))?.1);
        }
        let evidence = |wanted: Says| {
            let told = matched.iter().zip(&says);
            let told = told.filter(|(found, _)| self.dumps[found.dump].order.is_none());
            told.filter(|(_, said)| **said == wanted).count()
        };
        let seen = match (evidence(Says::File), evidence(Says::Other)) {
            (0, 0) => None,
            (_, 0) => Some(false),
            (0, _) => Some(true),
            _ => None,
        };
        let mut orders = Vec::new();
        for ((found, said), expected) in matched.iter().zip(&says).zip(expected) {
            let value = graph.value(found.value);
            let Some(taken) = self.taken(found.dump, value, *said, seen) else {
                let hint = self.hint(found.dump, value, expected.as_deref());
                bail!(
                    "'{}' ({}) may be NCHW or NHWC, its shape {:?} does not tell: give --layout{hint}",
                    self.dumps[found.dump].name,
                    value.name,
                    self.dumps[found.dump].shape.as_deref().unwrap_or_default()
                );
            };
            orders.push(taken);
        }
        Ok(orders)
    }

    /// Which order is like the fake-quant model's tensor.
    fn hint(&self, dump: usize, value: &Value, expected: Option<&[f64]>) -> String {
        let Some(expected) = expected else {
            return String::new();
        };
        let file = self.file_order(value);
        let cosine = |moved: bool| {
            let numbers = self.numbers(dump, value, moved);
            let numbers = to_graph_order(&numbers, &value.shape, value.file_axes.as_deref());
            let first = numbers.get(..value.len())?;
            // A cosine does not depend on the scale.
            reference::cosine(first, expected)
        };
        let (nchw, nhwc) = match file {
            Order::Nchw => (cosine(false), cosine(true)),
            Order::Nhwc => (cosine(true), cosine(false)),
        };
        match (nchw, nhwc) {
            (Some(nchw), Some(nhwc)) => format!(
                " (cosine with the fake-quant model's: {nchw:.3} as nchw, {nhwc:.3} as nhwc)"
            ),
            _ => String::new(),
        }
    }

    /// A dump's numbers in the file's order of axes.
    fn numbers(&self, dump: usize, value: &Value, moved: bool) -> Vec<f64> {
        let dump = &self.dumps[dump];
        if !moved {
            return dump.values.clone();
        }
        let file = file_shape(&value.shape, value.file_axes.as_deref());
        to_file_order(&dump.values, &file, self.file_order(value))
    }

    /// What is recorded of a dump, and what its numbers look like.
    fn tensor(&self, found: &Matched, place: &Place, expected: Option<&[f64]>) -> (Line, Array) {
        let value = place.value;
        let dump = &self.dumps[found.dump];
        let axes = value.file_axes.as_deref();
        let numbers = self.numbers(found.dump, value, place.order.moved);
        let (grid, relabel) = match place.grid {
            ValueGrid::Codes { grid, relabel, .. } => (Some(&**grid), *relabel),
            _ => (None, 0),
        };
        let own = to_graph_order(&numbers, &value.shape, axes);
        let suspect = Suspect {
            value,
            grid,
            relabel,
            own_levels: matches!(place.grid, ValueGrid::Gfpq { .. }),
            numbers: &own,
            kind: dump.kind,
            fix_point: dump.fix_point,
        };
        let other = place.order.open.then(|| {
            let moved = self.numbers(found.dump, value, !place.order.moved);
            let name = match (self.file_order(value), place.order.moved) {
                (Order::Nchw, false) | (Order::Nhwc, true) => Order::Nhwc.name(),
                _ => Order::Nchw.name(),
            };
            (
                to_graph_order(&moved, &value.shape, axes).into_owned(),
                name,
            )
        });
        let other = other
            .as_ref()
            .map(|(numbers, name)| (numbers.get(..value.len()).unwrap_or_default(), *name));
        let facts = suspect.examine(expected, other);
        let (values, kind) = match suspect.codes(&facts) {
            Some((codes, kind)) => (from_graph_order(codes, &value.shape, axes), kind),
            None => (numbers.clone(), dump.kind),
        };
        let mut shape = file_shape(&value.shape, axes);
        let samples = values.len() / value.len().max(1);
        match shape.first_mut() {
            Some(first) => *first *= samples,
            None => shape.push(samples),
        }
        let stored = match (dump.kind, kind) {
            (from, to) if from == to => kind_name(kind),
            (from, to) => format!("{} from {}", kind_name(to), kind_name(from)),
        };
        let line = Line {
            dump: dump.name.clone(),
            tensor: value.name.clone(),
            why: found.why.clone(),
            layout: place.order.text.clone(),
            shape: shape.clone(),
            stored,
            compared: place.compared,
            facts,
        };
        let array = Array {
            shape,
            values,
            kind,
        };
        (line, array)
    }
}

/// The inputs, samples stacked along the first axis.
fn stacked(model: &Model, samples: &Samples) -> Vec<(String, Array)> {
    let infos = model.inputs();
    let names = infos.iter().map(|info| &info.name);
    let arrays = names.filter_map(|name| {
        let mut parts = samples.samples.iter().filter_map(|s| s.inputs.get(name));
        let mut array = parts.next()?.clone();
        for part in parts {
            array.values.extend(&part.values);
        }
        if let Some(first) = array.shape.first_mut() {
            *first *= samples.samples.len();
        }
        Some((name.clone(), array))
    });
    arrays.collect()
}

/// A dump as the matching by names sees it.
fn wanted(dump: &Dump) -> Wanted {
    Wanted {
        name: dump.name.clone(),
        fused: dump.fused,
        extents: match &dump.shape {
            Some(shape) => extents(shape),
            None => vec![dump.values.len() / dump.parts],
        },
    }
}

/// Extents of one sample, sorted, without ones.
fn extents(shape: &[usize]) -> Vec<usize> {
    let own = if shape.len() > 1 { &shape[1..] } else { shape };
    let mut extents: Vec<usize> = own.iter().copied().filter(|&e| e != 1).collect();
    extents.sort_unstable();
    extents
}

/// The model's tensors and nodes as the matching by names sees them, and the id of each tensor.
fn known(network: &Network) -> (Known, Vec<ValueId>) {
    let graph = &network.graph;
    let mut is_end = vec![false; graph.values.len()];
    for layer in &network.layers {
        is_end[layer.output] = true;
    }
    for &input in &graph.inputs {
        is_end[input] = true;
    }
    let readers = graph.readers();
    let mut producer = vec![None; graph.values.len()];
    for (at, node) in graph.nodes.iter().enumerate() {
        producer[node.output] = Some(at);
    }
    // What is made inside a layer has one reader, down to the layer's end.
    let end = |mut value: ValueId| {
        let mut distance = 0;
        while !is_end[value] {
            let [reader] = readers[value][..] else {
                return (None, distance);
            };
            value = graph.nodes[reader].output;
            distance += 1;
        }
        (Some(value), distance)
    };
    let made = |value: &ValueId| producer[*value].is_some() || graph.inputs.contains(value);
    let ids: Vec<ValueId> = (0..graph.values.len())
        .filter(|value| graph.value(*value).constant.is_none() && made(value))
        .collect();
    let index = |value: ValueId| ids.iter().position(|id| *id == value);
    let mut known = Known::default();
    for &id in &ids {
        let value = graph.value(id);
        known.tensors.push(Tensor {
            name: value.name.clone(),
            aliases: value.aliases.clone(),
            end: end(id).0.and_then(index),
            order: producer[id].map_or(0, |at| at + 1),
            extents: extents(&value.shape),
        });
    }
    for node in &graph.nodes {
        let Some(output) = index(node.output) else {
            continue;
        };
        known.nodes.push(Node {
            name: node.name.clone(),
            output,
            distance: end(node.output).1,
        });
    }
    (known, ids)
}
