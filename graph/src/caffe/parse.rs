//! A prototxt to a checked list of layers over tensors.
//!
//! Layers run in the file's order, so a bottom must be made by a layer before. A layer whose top is its bottom
//! works in place; each version of such a blob is a tensor of its own here. The last version has the blob's
//! name, as `net.blobs[...]` shows it behind a forward pass; earlier ones are `BLOB@LAYER`. Rules: `BVLC/caffe`
//! `src/caffe/net.cpp` (`AppendTop`, `AppendBottom`, `FilterNet`, `StateMeetsRule`).

use std::collections::{HashMap, HashSet};

use super::text::{self, Message, Value};
use super::{Layer, Net, NetInput, Slot};
use crate::Limits;
use crate::onnx::fail::{Fail, Outcome, malformed, shown, unsupported};

/// A version of a blob.
struct Version {
    blob: String,
    /// The layer that makes it; none for an input.
    layer: Option<String>,
}

struct Reader {
    versions: Vec<Version>,
    /// The current version of each blob.
    current: HashMap<String, Slot>,
    /// Versions that a layer reads.
    read: HashSet<Slot>,
    net: Net,
}

/// Reads a prototxt. An error says which layer is concerned.
pub(super) fn read(bytes: &[u8], limits: &Limits) -> Outcome<Net> {
    let file = text::parse(bytes, limits)?;
    if file.has("layers") {
        return unsupported(
            "the old format V1 (`layers { type: CONVOLUTION }`); upgrade it with Caffe's \
             upgrade_net_proto_text",
        );
    }
    let mut reader = Reader {
        versions: Vec::new(),
        current: HashMap::new(),
        read: HashSet::new(),
        net: Net {
            name: file.text("name")?.to_owned(),
            ..Net::default()
        },
    };
    reader.declared_inputs(&file, limits)?;
    let state = State::of(file.message("state")?)?;
    let mut names = HashSet::new();
    for field in file.fields {
        if field.name != "layer" {
            continue;
        }
        let Value::Message(message) = field.value else {
            return malformed("'layer' must be a message");
        };
        let name = message.text("name")?.to_owned();
        let kind = message.text("type")?.to_owned();
        let about =
            |fail: Fail| fail.about(&format!("layer '{}' ({})", shown(&name), shown(&kind)));
        if !state.includes(&message).map_err(about)? {
            continue;
        }
        if !names.insert(name.clone()) {
            return malformed(format!("two layers are named '{}'", shown(&name)));
        }
        if names.len() > limits.nodes {
            return malformed(format!(
                "more than {} layers, the limit ({})",
                limits.nodes,
                Limits::NODES
            ));
        }
        reader.layer(&name, &kind, message, limits).map_err(about)?;
    }
    reader.finish()
}

/// The extents of a message `BlobShape`.
fn blob_shape(message: &Message, limits: &Limits) -> Outcome<Vec<Option<usize>>> {
    let dims = message.sizes("dim")?;
    check_rank(dims.len(), limits)?;
    Ok(dims.into_iter().map(Some).collect())
}

fn check_rank(rank: usize, limits: &Limits) -> Outcome<()> {
    if rank > limits.rank {
        return malformed(format!(
            "a blob has {rank} axes, more than the limit of {} ({})",
            limits.rank,
            Limits::RANK
        ));
    }
    Ok(())
}

impl Reader {
    /// A new version of a blob.
    fn make(&mut self, blob: &str, layer: Option<&str>) -> Slot {
        let slot = self.versions.len();
        self.versions.push(Version {
            blob: blob.to_owned(),
            layer: layer.map(str::to_owned),
        });
        self.current.insert(blob.to_owned(), slot);
        slot
    }

    fn input(&mut self, blob: &str, dims: Vec<Option<usize>>) -> Outcome<()> {
        if self.current.contains_key(blob) {
            return malformed(format!("blob '{}' is made twice", shown(blob)));
        }
        let slot = self.make(blob, None);
        self.net.inputs.push(NetInput { slot, dims });
        Ok(())
    }

    /// Inputs that the network declares without a layer.
    fn declared_inputs(&mut self, file: &Message, limits: &Limits) -> Outcome<()> {
        let names = file.texts("input")?;
        let shapes = file.messages("input_shape")?;
        let dims = file.sizes("input_dim")?;
        let old = shapes.is_empty();
        let fits = if old {
            dims.len() == 4 * names.len()
        } else {
            dims.is_empty() && shapes.len() == names.len()
        };
        if !fits {
            return malformed(format!(
                "{} inputs, but {} shapes in input_shape and {} extents in input_dim (four an input)",
                names.len(),
                shapes.len(),
                dims.len()
            ));
        }
        for (index, name) in names.into_iter().enumerate() {
            let dims = if old {
                let own = &dims[4 * index..4 * index + 4];
                own.iter().copied().map(Some).collect()
            } else {
                blob_shape(shapes[index], limits)?
            };
            self.input(name, dims)?;
        }
        Ok(())
    }

    fn layer(&mut self, name: &str, kind: &str, message: Message, limits: &Limits) -> Outcome<()> {
        if let Some(dims) = data_layer(kind, &message, limits)? {
            for (top, dims) in message.texts("top")?.into_iter().zip(dims) {
                self.input(top, dims)?;
            }
            return Ok(());
        }
        let tops = message.texts("top")?;
        let bottoms = message.texts("bottom")?;
        if kind == "Silence" {
            let found = bottoms.iter().filter_map(|&b| self.current.get(b));
            self.read.extend(found);
            return Ok(());
        }
        if kind == "Accuracy" || kind.ends_with("Loss") {
            self.net.notes.push(format!(
                "layer '{}' ({}) is for training and left out",
                shown(name),
                shown(kind)
            ));
            return Ok(());
        }
        if message.has("blobs") {
            return unsupported("weights inside the prototxt; give a caffemodel");
        }
        let mut slots = Vec::with_capacity(bottoms.len());
        for &bottom in &bottoms {
            let Some(&slot) = self.current.get(bottom) else {
                return malformed(format!(
                    "bottom '{}' is made by no layer before it",
                    shown(bottom)
                ));
            };
            self.read.insert(slot);
            slots.push(slot);
        }
        let mut made = Vec::with_capacity(tops.len());
        for (index, &top) in tops.iter().enumerate() {
            let in_place = bottoms.get(index) == Some(&top);
            let again = tops[..index].contains(&top);
            if again || (self.current.contains_key(top) && !in_place) {
                return malformed(format!("top '{}' is made by two layers", shown(top)));
            }
            made.push(self.make(top, Some(name)));
        }
        if made.is_empty() {
            return malformed("it has no top");
        }
        let clips = message.floats("gfpq_param").map_err(|_| {
            Fail::Unsupported(
                "gfpq_param is read as numbers only, the clip value of each bottom; the mapper's own layout \
                 is not public"
                    .to_owned(),
            )
        })?;
        let mut shared = Vec::new();
        for param in message.messages("param")? {
            shared.push(param.text("name")?.to_owned());
        }
        self.net.layers.push(Layer {
            name: name.to_owned(),
            kind: kind.to_owned(),
            bottoms: slots,
            tops: made,
            clips,
            shared,
            message,
        });
        Ok(())
    }

    /// Names each version, and finds what nobody reads: the outputs.
    fn finish(mut self) -> Outcome<Net> {
        if self.net.layers.is_empty() {
            return malformed("no layer that computes anything");
        }
        if self.net.inputs.is_empty() {
            return malformed("no input: neither `input` nor an Input layer");
        }
        let inputs: HashSet<Slot> = self.net.inputs.iter().map(|input| input.slot).collect();
        let of_input = |blob: &str| inputs.iter().any(|&slot| self.versions[slot].blob == blob);
        let mut taken: HashSet<String> = self.current.keys().cloned().collect();
        for (slot, version) in self.versions.iter().enumerate() {
            let plain = match &version.layer {
                None => true,
                Some(_) => {
                    self.current.get(&version.blob) == Some(&slot) && !of_input(&version.blob)
                }
            };
            let layer = version.layer.clone().unwrap_or_default();
            let mut name = version.blob.clone();
            if !plain {
                name = format!("{name}@{layer}");
                while !taken.insert(name.clone()) {
                    name.push('\'');
                }
            }
            self.net.names.push(name);
            self.net.aliases.push(layer);
        }
        // A layer's name is another key for what it makes, where it is no tensor's and no other layer's.
        taken.extend(self.net.names.iter().cloned());
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for layer in &self.net.aliases {
            *counts.entry(layer).or_default() += 1;
        }
        let usable = |layer: &String| {
            !layer.is_empty() && counts[layer.as_str()] == 1 && !taken.contains(layer)
        };
        let kept: Vec<bool> = self.net.aliases.iter().map(usable).collect();
        for (alias, keep) in self.net.aliases.iter_mut().zip(kept) {
            if !keep {
                alias.clear();
            }
        }
        let unread = |slot: &Slot| !self.read.contains(slot) && !inputs.contains(slot);
        self.net.outputs = (0..self.versions.len()).filter(unread).collect();
        if self.net.outputs.is_empty() {
            return malformed("no output: every blob is read by a layer");
        }
        Ok(self.net)
    }
}

/// The shapes of the tops of a layer that feeds data: those that a network in use gets, without labels.
fn data_layer(
    kind: &str,
    message: &Message,
    limits: &Limits,
) -> Outcome<Option<Vec<Vec<Option<usize>>>>> {
    let tops = message.texts("top")?.len();
    let one = |dims| Ok(Some(vec![dims]));
    match kind {
        "Input" | "DummyData" => {
            let field = if kind == "Input" {
                "input_param"
            } else {
                "dummy_data_param"
            };
            let shapes = message.message(field)?.messages("shape")?;
            let shapes: Vec<_> = shapes
                .into_iter()
                .map(|shape| blob_shape(shape, limits))
                .collect::<Outcome<_>>()?;
            match shapes.len() {
                1 => Ok(Some(vec![shapes[0].clone(); tops])),
                count if count == tops => Ok(Some(shapes)),
                count => malformed(format!("{count} shapes for {tops} tops")),
            }
        }
        "MemoryData" => {
            let param = message.message("memory_data_param")?;
            let fields = ["batch_size", "channels", "height", "width"];
            one(fields
                .into_iter()
                .map(|name| param.size(name))
                .collect::<Outcome<_>>()?)
        }
        "Data" | "ImageData" => {
            let field = if kind == "Data" {
                "data_param"
            } else {
                "image_data_param"
            };
            let batch = message.message(field)?.size("batch_size")?;
            let crop = message.message("transform_param")?.size("crop_size")?;
            one(vec![batch, None, crop, crop])
        }
        "HDF5Data" | "WindowData" | "AnnotatedData" | "VideoData" => one(vec![None; 4]),
        _ => Ok(None),
    }
}

/// What decides which layers are there: a network in use, at the level and stages that the file names.
struct State {
    level: i64,
    stages: Vec<String>,
}

impl State {
    fn of(message: &Message) -> Outcome<Self> {
        Ok(Self {
            level: message.int("level")?.unwrap_or(0),
            stages: owned(message.texts("stage")?),
        })
    }

    fn includes(&self, layer: &Message) -> Outcome<bool> {
        let include = layer.messages("include")?;
        let exclude = layer.messages("exclude")?;
        if !include.is_empty() && !exclude.is_empty() {
            return malformed("it has both include and exclude rules");
        }
        if include.is_empty() {
            for rule in exclude {
                if self.meets(rule)? {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        for rule in include {
            if self.meets(rule)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn meets(&self, rule: &Message) -> Outcome<bool> {
        rule.only(&["phase", "min_level", "max_level", "stage", "not_stage"])?;
        let has = |stage: &&str| self.stages.iter().any(|own| own == stage);
        let stages = rule.texts("stage")?.iter().all(has);
        let not_stages = rule.texts("not_stage")?.iter().any(has);
        let level = rule
            .int("min_level")?
            .is_none_or(|least| self.level >= least)
            && rule.int("max_level")?.is_none_or(|most| self.level <= most);
        let phase = rule.choice("phase", &["TRAIN", "TEST"], "TEST")? == "TEST";
        Ok(phase && level && stages && !not_stages)
    }
}

fn owned(texts: Vec<&str>) -> Vec<String> {
    texts.into_iter().map(str::to_owned).collect()
}
