//! `infer`: which arithmetic made a recording.
//!
//! Each layer is fed with the recorded inputs. Its exact sums are made once; then the points of the rule zoo are tried
//! on the elements that tell most (ties and their neighbourhood), and the survivors on all elements. Layers of one kind
//! share a rule, unless they do not: then each class of layers has its own.

mod class;
pub mod command;
mod compose;
mod count;
mod ends;
mod feed;
mod group;
mod label;
mod op_rule;
mod ops;
mod point;
mod show;
mod sums;
mod survivors;
mod types;
mod types_show;
mod width;
mod zoo;
mod zoo_ops;

use std::collections::BTreeMap;

use align_check_graph::Graph;
use align_check_simulators::kernels::Isa;
use align_check_simulators::network::{Layer, Network};
use align_check_specs::Spec;
use anyhow::Result;

use crate::check::Target;
use crate::inputs::{Recording, Sample};
use crate::verify::Loaded;
use count::spec_of;
use feed::{Frame, Site, Sites, World};
use group::{Glance, Search};
use label::FLOAT;

pub use class::{Class, LayerFound, RunnerUp, Undecided};
pub use count::{Count, Facts};
pub use op_rule::OpRule;
pub use point::Point;
pub use show::{json, summary, terminal};
pub use types::{Types, TypesFound, infer_types};

/// Version of the machine-readable report.
pub const SCHEMA: &str = "align-check/infer/1";

/// What a recording tells.
#[derive(Debug)]
pub struct Inference {
    /// The kinds of operations, each with the layers that share a rule.
    pub classes: Vec<Class>,
    /// Shipped targets whose grids and placement the search used, because they explain most.
    pub frame: Vec<String>,
    /// Shipped targets with every rule among the survivors.
    pub targets: Vec<String>,
    /// Shipped targets that cannot run this model at all, and why.
    pub refused: Vec<String>,
    /// Recorded layers whose inputs are not known, with the input.
    pub starved: Vec<(String, String)>,
    /// Recorded tensors with numbers that are no codes of their grid.
    pub off_grid: Vec<String>,
    /// Layers of which nothing was recorded.
    pub missing: Vec<String>,
    /// A spec with the rules that were found.
    pub spec: Spec,
    /// What a spec cannot say of what was found.
    pub unsaid: Vec<String>,
    /// Seconds that the search took.
    pub seconds: f64,
}

impl Inference {
    /// Elements that were recorded behind known inputs, and what is not explained of them.
    pub fn totals(&self) -> (u64, Count) {
        let mut count = Count::default();
        for class in &self.classes {
            count.add(class.count());
        }
        (self.classes.iter().map(Class::elements).sum(), count)
    }

    /// Whether every recorded element is explained.
    pub fn explained(&self) -> bool {
        self.totals().1.differing == 0 && self.starved.is_empty() && self.off_grid.is_empty()
    }
}

/// What to search, and where.
pub struct Question<'a> {
    /// What the network was cut from, constants included.
    pub graph: &'a Graph,
    /// The network.
    pub network: &'a Network,
    /// The exact reference.
    pub exact: &'a Target,
    /// The inputs of the recording.
    pub samples: &'a [Sample],
    /// The recording.
    pub recorded: &'a Recording,
    /// What the recording is called in evidence.
    pub source: String,
    /// Layers to explain.
    pub select: &'a (dyn Fn(&Layer) -> bool + Sync),
    /// Instructions to use.
    pub isa: Isa,
    /// Called as the search goes on.
    pub progress: &'a (dyn Fn() + Sync),
}

/// Finds the rules that made a recording that was loaded to be verified.
///
/// # Errors
/// As [`infer`].
pub fn of(loaded: &Loaded) -> Result<Inference> {
    infer(&Question {
        graph: &loaded.graph,
        network: &loaded.network,
        exact: &loaded.exact,
        samples: &loaded.samples.samples,
        recorded: &loaded.recorded,
        source: "a recording".into(),
        select: &|_| true,
        isa: loaded.isa,
        progress: &|| {},
    })
}

/// Finds the rules that made a recording.
///
/// # Errors
/// One line: a recorded tensor does not fit the network, or nothing that was recorded belongs to it.
pub fn infer(question: &Question) -> Result<Inference> {
    let start = std::time::Instant::now();
    let world = World::new(
        (question.graph, question.network),
        question.exact,
        question.samples,
        question.recorded,
        question.isa,
    )?;
    let (frames, refused) = world.frames();
    let mut best: Option<(Glance, bool, &Frame)> = None;
    // Frames whose own targets explain all that is looked at first.
    let mut complete: Vec<&Frame> = Vec::new();
    for frame in &frames {
        let sites = world.sites(frame, question.select, None)?;
        let search = search(&world, frame, question);
        let mut glance = Glance::default();
        for group in groups(&sites.sites) {
            glance.add(search.glance(&group));
        }
        let exact = frame.base.spec.quantize.division.is_model();
        if glance.own == 0 && glance.elements > 0 && !exact {
            complete.push(frame);
        }
        let better = best.as_ref().is_none_or(|(most, was_exact, _)| {
            let order = glance.against(most);
            order.is_gt() || order.is_eq() && *was_exact && !exact
        });
        if better {
            best = Some((glance, exact, frame));
        }
    }
    let Some((_, _, frame)) = best else {
        anyhow::bail!(
            "no shipped target can run this model: {}",
            refused.join("; ")
        );
    };
    let sites = world.sites(frame, question.select, None)?;
    if sites.sites.is_empty() {
        anyhow::bail!(
            "{}: no recorded tensor belongs to a layer of the model whose inputs are known{}",
            question.recorded.path.display(),
            explain_nothing(&sites)
        );
    }
    let mut classes = search_all(&world, frame, question, &sites.sites);
    let mut sites = sites;
    // Damaged tensors are inputs, too; and missing ones are known now.
    let damaged = classes.iter().any(|class| class.count().differing > 0);
    for _ in 0..2 {
        if !damaged && sites.starved.is_empty() {
            break;
        }
        let rules = rules(&world, frame, &classes);
        let chosen = |site: &Site| {
            rules
                .get(&site.layer.output)
                .or_else(|| rules.get(&by_kind(site)))
                .cloned()
        };
        let again = world.sites(frame, question.select, Some(&chosen))?;
        let before: u64 = classes.iter().map(|class| class.count().differing).sum();
        let starved = sites.starved.len();
        sites = again;
        classes = search_all(&world, frame, question, &sites.sites);
        let after: u64 = classes.iter().map(|class| class.count().differing).sum();
        if after >= before && sites.starved.len() >= starved {
            break;
        }
    }
    let shipped = |name: &&Spec| {
        classes
            .iter()
            .all(|class| class.targets.contains(&name.name))
    };
    let mut targets: Vec<String> = world
        .specs
        .iter()
        .filter(shipped)
        .map(|spec| spec.name.clone())
        .collect();
    let all: u64 = classes.iter().map(Class::elements).sum();
    for other in complete {
        if !std::ptr::eq(other, frame) && classes.iter().all(|c| c.count().differing == 0) {
            targets.extend(reproduce(&world, other, question, all)?);
        }
    }
    let names = |frame: &Frame| {
        let specs = frame.shipped.iter().map(|&index| &world.specs[index].name);
        specs.cloned().collect::<Vec<_>>()
    };
    let composed = compose::compose(
        &frame.base.spec,
        &world.specs,
        &classes,
        &targets,
        &question.source,
    );
    Ok(Inference {
        frame: names(frame),
        targets,
        refused,
        starved: sites.starved,
        off_grid: sites.off_grid,
        missing: sites.missing,
        spec: composed.spec,
        unsaid: composed.unsaid,
        classes,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// The shipped targets of a frame that reproduce all elements by their own rules: those of the frame that was searched are
/// known by their points.
fn reproduce(
    world: &World,
    frame: &Frame,
    question: &Question,
    elements: u64,
) -> Result<Vec<String>> {
    let sites = world.sites(frame, question.select, None)?.sites;
    let search = search(world, frame, question);
    if sites.iter().map(Site::elements).sum::<u64>() != elements {
        return Ok(Vec::new());
    }
    let specs = frame.shipped.iter().map(|&index| &world.specs[index]);
    let right = |spec: &&Spec| {
        sites.iter().all(|site| {
            let point = Point::of(spec, site.label, site.unsigned);
            let count = search.count(&[site], &point, None, 0);
            count.is_some_and(|count| count.differing == 0)
        })
    };
    Ok(specs.filter(right).map(|spec| spec.name.clone()).collect())
}

fn explain_nothing(sites: &Sites) -> String {
    if let Some((tensor, input)) = sites.starved.first() {
        return format!(" ('{tensor}' was recorded, its input '{input}' was not)");
    }
    if let Some(tensor) = sites.off_grid.first() {
        return format!(" ('{tensor}' holds numbers that are no codes of its quantizer)");
    }
    String::new()
}

fn search<'s, 'a>(
    world: &'s World<'a>,
    frame: &'s Frame,
    question: &'s Question,
) -> Search<'s, 'a> {
    Search {
        world,
        frame,
        known: Default::default(),
        progress: question.progress,
    }
}

/// Layers by kind and signedness, sums first: operations may refer to how they end.
fn groups<'s, 'a>(sites: &'s [Site<'a>]) -> Vec<Vec<&'s Site<'a>>> {
    let mut groups: BTreeMap<(bool, &str, bool), Vec<&Site>> = BTreeMap::new();
    for site in sites {
        let key = (!point::is_sums(site.label), site.label, site.unsigned);
        groups.entry(key).or_default().push(site);
    }
    groups.into_values().collect()
}

fn search_all(world: &World, frame: &Frame, question: &Question, sites: &[Site]) -> Vec<Class> {
    let mut search = search(world, frame, question);
    let mut classes = Vec::new();
    for group in groups(sites) {
        let found = search.classes(&group);
        for class in &found {
            let lists = [&class.verified, &class.candidates];
            for ((known, points), most) in search.known.iter_mut().zip(lists).zip([24, 2_000]) {
                let sums = points.iter().filter(|_| point::is_sums(class.kind));
                let ends = sums.filter_map(|p| p.requantize.clone().zip(p.accumulator.clone()));
                known.extend(ends.take(most));
            }
        }
        classes.extend(found);
    }
    classes
}

/// A spec for each layer that was explained, and for each kind.
fn rules(world: &World, frame: &Frame, classes: &[Class]) -> BTreeMap<usize, Spec> {
    let mut rules = BTreeMap::new();
    let network = frame.base.network(world.network);
    for class in classes.iter().filter(|class| class.kind != FLOAT) {
        let spec = spec_of(&frame.base.spec, &world.specs, &class.point, class.kind);
        for layer in &class.layers {
            let own = network.layers.iter().find(|own| own.tensor == layer.tensor);
            if let Some(own) = own {
                rules.insert(own.output, spec.clone());
            }
        }
        rules.insert(kind_key(class.kind, class.unsigned), spec);
    }
    rules
}

fn by_kind(site: &Site) -> usize {
    kind_key(site.label, site.unsigned)
}

/// A number for a kind that is no number of a value.
fn kind_key(label: &str, unsigned: bool) -> usize {
    let sum: usize = label.bytes().fold(usize::from(unsigned), |sum, byte| {
        sum.wrapping_mul(257).wrapping_add(usize::from(byte))
    });
    usize::MAX / 2 + sum % (usize::MAX / 4)
}
