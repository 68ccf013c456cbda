//! Which tensor of the model a dump is, by its name: a pure function of names and sizes.
//!
//! Rules are tried one after another, over all dumps; a tensor is given away once. A rule that fits several
//! tensors decides nothing.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, anyhow, bail};
use serde::Serialize;

/// A tensor of the model.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tensor {
    /// The model's name for it.
    pub(crate) name: String,
    /// Other names.
    pub(crate) aliases: Vec<String>,
    /// The tensor that the layer hands on in which this one is made: itself, a later one, or none.
    pub(crate) end: Option<usize>,
    /// Position of its producer in the order of execution.
    pub(crate) order: usize,
    /// Extents of one sample without ones, sorted.
    pub(crate) extents: Vec<usize>,
}

/// A node of the model, and the tensor that it makes.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Its name.
    pub(crate) name: String,
    /// Index of its tensor.
    pub(crate) output: usize,
    /// Nodes between it and the end of its layer.
    pub(crate) distance: usize,
}

/// What is known of the model.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Its tensors.
    pub(crate) tensors: Vec<Tensor>,
    /// Its nodes.
    pub(crate) nodes: Vec<Node>,
}

/// A dump to be named.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// The dump's name.
    pub(crate) name: String,
    /// Whether a layer's operations before its last one hand nothing on in this dump.
    pub(crate) fused: bool,
    /// As [`Tensor::extents`], or where only the number of elements is known, that number.
    pub(crate) extents: Vec<usize>,
}

/// Why a dump is a tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "rule", content = "part")]
pub(crate) enum Why {
    /// `--map` says so.
    Map,
    /// The same name.
    Name,
    /// Another name of the tensor.
    Alias,
    /// The same without what tools add in front and behind.
    Stripped(String),
    /// The same letters and digits.
    Letters,
    /// The name of the node that makes it.
    Node,
    /// The last of the operations that the name joins.
    Fused(String),
    /// Nothing else has its shape: a guess.
    Shape,
}

/// What a dump is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// A tensor.
    Tensor(usize, Why),
    /// Perhaps this tensor: only the shape says so, and guesses are not wanted.
    Guess(usize),
    /// This tensor, but another dump fits it better.
    Taken(usize, usize),
    /// None that is known.
    Unknown,
}

impl Why {
    /// In words.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Map => "by --map".to_owned(),
            Self::Name => "same name".to_owned(),
            Self::Alias => "an alias".to_owned(),
            Self::Stripped(bare) => format!("named '{bare}'"),
            Self::Letters => "same letters".to_owned(),
            Self::Node => "name of the node".to_owned(),
            Self::Fused(part) => format!("fused, ends in '{part}'"),
            Self::Shape => "GUESS: only shape of its kind".to_owned(),
        }
    }

    /// Whether the user or the model itself says so: a size that does not fit is then an error.
    pub(crate) fn is_certain(&self) -> bool {
        matches!(self, Self::Map | Self::Name | Self::Alias)
    }
}

/// Decides for every dump. `fits(dump, tensor)`: whether the sizes agree.
///
/// # Errors
/// The map names a dump or a tensor that does not exist.
pub(crate) fn decide(
    wanted: &[Wanted],
    known: &Known,
    map: &BTreeMap<String, String>,
    fits: &dyn Fn(usize, usize) -> bool,
    guess: bool,
) -> Result<Vec<Decision>> {
    let mut found = Matching {
        known,
        fits,
        decisions: vec![Decision::Unknown; wanted.len()],
        taken: BTreeMap::new(),
    };
    for (dump, tensor) in map {
        let at = wanted.iter().position(|w| w.name == *dump);
        let at = at.ok_or_else(|| anyhow!("--map: there is no dump '{dump}'"))?;
        let to = known.named(tensor);
        let to = to.ok_or_else(|| anyhow!("--map: the model has no tensor or node '{tensor}'"))?;
        if let Some(other) = found.taken.get(&to) {
            bail!(
                "--map: '{dump}' and '{}' are the same tensor '{}'",
                wanted[*other].name,
                known.tensors[to].name
            );
        }
        found.give(at, to, Why::Map);
    }
    // A fused dump named after a tensor inside a layer is that layer's output, unless that is there too.
    for fused in [false, true] {
        found.pass(wanted, |w| {
            let named = |t: &Tensor| t.name == w.name;
            known.unique(named, w.fused && fused, Why::Name, !w.fused || fused)
        });
    }
    found.pass(wanted, |w| {
        let named = |t: &Tensor| t.aliases.contains(&w.name);
        known.unique(named, w.fused, Why::Alias, true)
    });
    let bare: Vec<BTreeSet<String>> = known
        .tensors
        .iter()
        .map(|t| {
            std::iter::once(&t.name)
                .chain(&t.aliases)
                .flat_map(|n| stripped(n))
                .collect()
        })
        .collect();
    found.pass(wanted, |w| {
        let forms = stripped(&w.name);
        forms.into_iter().find_map(|form| {
            let same = (0..known.tensors.len()).filter(|&t| bare[t].contains(&form));
            let to = known.one_end(same)?;
            Some((to, Why::Stripped(form)))
        })
    });
    let node_forms: Vec<Vec<String>> = known.nodes.iter().map(|n| stripped(&n.name)).collect();
    let distances: BTreeSet<usize> = known.nodes.iter().map(|n| n.distance).collect();
    for distance in distances {
        found.pass(wanted, |w| {
            let forms = stripped(&w.name);
            let same = known.nodes.iter().zip(&node_forms).filter(|(n, own)| {
                n.distance == distance && forms.iter().any(|form| own.contains(form))
            });
            Some((known.one_end(same.map(|(n, _)| n.output))?, Why::Node))
        });
    }
    let plain: Vec<BTreeSet<String>> = bare
        .iter()
        .map(|forms| forms.iter().map(|f| letters(f)).collect())
        .collect();
    found.pass(wanted, |w| {
        let forms: Vec<String> = stripped(&w.name).iter().map(|f| letters(f)).collect();
        let tensors =
            (0..known.tensors.len()).filter(|&t| forms.iter().any(|f| plain[t].contains(f)));
        let nodes = known
            .nodes
            .iter()
            .filter(|n| forms.contains(&letters(&n.name)));
        let same = tensors.chain(nodes.map(|n| n.output));
        Some((known.one_end(same)?, Why::Letters))
    });
    found.pass(wanted, |w| {
        let parts = parts(&w.name);
        let ends = parts
            .iter()
            .filter_map(|part| Some((known.end_of(part)?, part)));
        let (to, part) = ends.max_by_key(|(to, _)| known.tensors[*to].order)?;
        Some((to, Why::Fused(part.clone())))
    });
    found.shapes(wanted, guess);
    Ok(found.decisions)
}

struct Matching<'a> {
    known: &'a Known,
    fits: &'a dyn Fn(usize, usize) -> bool,
    decisions: Vec<Decision>,
    /// Tensor to dump.
    taken: BTreeMap<usize, usize>,
}

impl Matching<'_> {
    fn give(&mut self, dump: usize, tensor: usize, why: Why) {
        self.taken.insert(tensor, dump);
        self.decisions[dump] = Decision::Tensor(tensor, why);
    }

    fn pass(&mut self, wanted: &[Wanted], rule: impl Fn(&Wanted) -> Option<(usize, Why)>) {
        for (at, dump) in wanted.iter().enumerate() {
            if self.decisions[at] != Decision::Unknown {
                continue;
            }
            let Some((to, why)) = rule(dump) else {
                continue;
            };
            match self.taken.get(&to) {
                Some(&by) => self.decisions[at] = Decision::Taken(to, by),
                None if why.is_certain() || (self.fits)(at, to) => self.give(at, to, why),
                None => {}
            }
        }
    }

    /// The only dump left of a shape is the only tensor left of it.
    fn shapes(&mut self, wanted: &[Wanted], guess: bool) {
        let known = self.known;
        let is_end = |t: usize| known.tensors[t].end == Some(t);
        let free: Vec<usize> = (0..known.tensors.len())
            .filter(|&t| is_end(t) && !self.taken.contains_key(&t))
            .collect();
        let left: Vec<usize> = (0..wanted.len())
            .filter(|&d| self.decisions[d] == Decision::Unknown)
            .collect();
        let alike = |dump: usize, tensor: usize| {
            let (a, b) = (&wanted[dump].extents, &known.tensors[tensor].extents);
            a == b || *a == [b.iter().product::<usize>()]
        };
        for &dump in &left {
            let mut tensors = free.iter().copied().filter(|&t| alike(dump, t));
            let (Some(tensor), None) = (tensors.next(), tensors.next()) else {
                continue;
            };
            let rivals = left.iter().filter(|&&d| alike(d, tensor)).count();
            if rivals != 1 || !(self.fits)(dump, tensor) {
                continue;
            }
            if guess {
                self.give(dump, tensor, Why::Shape);
            } else {
                self.decisions[dump] = Decision::Guess(tensor);
            }
        }
    }
}

impl Known {
    /// The one tensor with a property; `end`: what its layer hands on. `inside`: whether one that its layer
    /// keeps to itself counts.
    fn unique(
        &self,
        is: impl Fn(&Tensor) -> bool,
        end: bool,
        why: Why,
        inside: bool,
    ) -> Option<(usize, Why)> {
        let at = self.tensors.iter().position(is)?;
        let to = self.tensors[at].end.filter(|_| end).unwrap_or(at);
        (inside || self.tensors[at].end == Some(at)).then_some((to, why))
    }

    /// The one end of the layers in which these tensors are made.
    fn one_end(&self, tensors: impl Iterator<Item = usize>) -> Option<usize> {
        let ends: BTreeSet<usize> = tensors.map(|t| self.tensors[t].end.unwrap_or(t)).collect();
        let first = ends.first().copied();
        first.filter(|_| ends.len() == 1)
    }

    /// A tensor or node, by its name as the model has it.
    fn named(&self, name: &str) -> Option<usize> {
        let tensor = |t: &Tensor| t.name == name || t.aliases.iter().any(|a| a == name);
        let node = || {
            let node = self.nodes.iter().find(|n| n.name == name)?;
            Some(self.tensors[node.output].end.unwrap_or(node.output))
        };
        self.tensors.iter().position(tensor).or_else(node)
    }

    /// The end of the layer that has a node or tensor of this name, or of what is left of it.
    fn end_of(&self, part: &str) -> Option<usize> {
        stripped(part).iter().find_map(|form| {
            let tensors =
                (0..self.tensors.len()).filter(|&t| stripped(&self.tensors[t].name).contains(form));
            let nodes = self
                .nodes
                .iter()
                .filter(|n| stripped(&n.name).contains(form));
            self.one_end(tensors.chain(nodes.map(|n| n.output)))
        })
    }
}

/// What tools add behind a name. ONNX Runtime: `_quantize_tensor`, `_QuantizeLinear_Output`, ...; `PyTorch`'s
/// exporter: `_output_0`; TensorFlow: `:0`; Vitis AI: `_fix`.
const BEHIND: [&str; 14] = [
    "_quantize_tensor",
    "_quantized",
    "_dequantized",
    "_QuantizeLinear_Output",
    "_DequantizeLinear_Output",
    "_QuantizeLinear",
    "_DequantizeLinear",
    "_Quant",
    "_fix",
    "_output_0",
    "_output0",
    "/output_0",
    ":0",
    "/",
];

/// What tools add before a name.
const BEFORE: [&str; 3] = ["./", "/", "output/"];

/// A name, and what is left of it when what tools add is taken off, one after another.
pub(crate) fn stripped(name: &str) -> Vec<String> {
    let mut forms = vec![name.to_owned()];
    let mut bare = name;
    loop {
        let behind = BEHIND.iter().find_map(|end| bare.strip_suffix(end));
        let shorter = behind.or_else(|| BEFORE.iter().find_map(|start| bare.strip_prefix(start)));
        match shorter.filter(|s| !s.is_empty()) {
            Some(shorter) => bare = shorter,
            None => return forms,
        }
        forms.push(bare.to_owned());
    }
}

/// A name whose characters are letters, digits and `_`.
fn letters(name: &str) -> String {
    super::dpu::sanitized(name).trim_matches('_').to_owned()
}

/// The names that a fused one joins: `conv1 + relu1`, `PWN(a, b)`, `a;b;c`, `{ForeignNode[a...b]}`; none where
/// it joins nothing.
fn parts(name: &str) -> Vec<String> {
    let name = name
        .replace("PWN(", "+")
        .replace("{ForeignNode[", "+")
        .replace("...", "+");
    let parts = name.split(['+', ';', ',', '|']);
    let parts: Vec<String> = parts
        .map(|part| {
            part.trim()
                .trim_end_matches("]}")
                .trim_end_matches(')')
                .trim()
                .to_owned()
        })
        .filter(|part| !part.is_empty())
        .collect();
    // A node's own brackets: `conv(a)`; `PWN(a)` joins nothing but says that it is pointwise.
    if name.contains(['+', ';', ',', '|']) {
        parts
    } else {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// x -> conv1 -> c -> relu1 -> r -> quant1 -> q | pool1 -> p | fc -> logits -> quant2 -> y
    fn known() -> Known {
        let tensor = |name: &str, end: usize, order: usize, extents: &[usize]| Tensor {
            name: name.to_owned(),
            aliases: vec![format!("{order}")],
            end: Some(end),
            order,
            extents: extents.to_vec(),
        };
        let node = |name: &str, output: usize, distance: usize| Node {
            name: name.to_owned(),
            output,
            distance,
        };
        Known {
            tensors: vec![
                tensor("c:0", 2, 1, &[4, 8, 8]),
                tensor("/act/Relu_output_0", 2, 2, &[4, 8, 8]),
                tensor("q", 2, 3, &[4, 8, 8]),
                tensor("p", 3, 4, &[4, 4, 4]),
                tensor("logits", 5, 5, &[10]),
                tensor("scope/y[out]", 5, 6, &[10]),
            ],
            nodes: vec![
                node("conv1", 0, 2),
                node("relu1", 1, 1),
                node("quant1", 2, 0),
                node("pool1", 3, 0),
                node("fc", 4, 1),
                node("quant2", 5, 0),
            ],
        }
    }

    fn wanted(name: &str, fused: bool, extents: &[usize]) -> Wanted {
        Wanted {
            name: name.to_owned(),
            fused,
            extents: extents.to_vec(),
        }
    }

    fn one(name: &str, fused: bool) -> Decision {
        let known = known();
        let wanted = [wanted(name, fused, &[77])];
        let map = BTreeMap::new();
        decide(&wanted, &known, &map, &|_, _| true, false).expect("no map")[0].clone()
    }

    fn is(name: &str, fused: bool, tensor: usize, why: Why) {
        assert_eq!(one(name, fused), Decision::Tensor(tensor, why), "{name}");
    }

    #[test]
    fn the_same_name_comes_first() {
        is("q", false, 2, Why::Name);
        is("c:0", false, 0, Why::Name);
        is("logits", false, 4, Why::Name);
    }

    #[test]
    fn a_fused_dump_is_what_the_layer_hands_on() {
        is("c:0", true, 2, Why::Name);
        is("logits", true, 5, Why::Name);
    }

    #[test]
    fn a_fused_dump_gives_way_to_the_real_end() {
        let dumps = [
            wanted("logits", true, &[10]),
            wanted("scope/y[out]", true, &[10]),
        ];
        let found =
            decide(&dumps, &known(), &BTreeMap::new(), &|_, _| true, false).expect("no map");
        assert_eq!(found[0], Decision::Taken(5, 1));
        assert_eq!(found[1], Decision::Tensor(5, Why::Name));
    }

    #[test]
    fn aliases_are_names() {
        is("4", false, 3, Why::Alias);
    }

    #[test]
    fn additions_are_taken_off() {
        let bare = |form: &str| Why::Stripped(form.to_owned());
        is("q_quantize_tensor", false, 2, bare("q"));
        is("q_DequantizeLinear_Output", false, 2, bare("q"));
        is("p:0", false, 3, bare("p"));
        is("/p_output_0", false, 3, bare("p"));
        is("act/Relu", false, 2, bare("act/Relu"));
        assert_eq!(one("zq", false), Decision::Unknown);
        assert_eq!(one(":0", false), Decision::Unknown);
    }

    #[test]
    fn nodes_stand_for_their_layers() {
        is("conv1", false, 2, Why::Node);
        is("quant2", false, 5, Why::Node);
        is("fc_output_0", true, 5, Why::Node);
    }

    #[test]
    fn the_last_node_of_a_layer_wins() {
        let dumps = [wanted("conv1", true, &[]), wanted("relu1", true, &[])];
        let found =
            decide(&dumps, &known(), &BTreeMap::new(), &|_, _| true, false).expect("no map");
        assert_eq!(found[1], Decision::Tensor(2, Why::Node));
        assert_eq!(found[0], Decision::Taken(2, 1));
    }

    #[test]
    fn letters_alone_may_decide() {
        is("scope_y_out", false, 5, Why::Letters);
        is("act_Relu_output_0_fix", false, 2, Why::Letters);
    }

    #[test]
    fn fused_names_end_in_their_last_operation() {
        let last = |part: &str| Why::Fused(part.to_owned());
        is("conv1+relu1", false, 2, last("relu1"));
        is("conv1 + relu1", false, 2, last("relu1"));
        is("PWN(PWN(relu1), pool1)", false, 3, last("pool1"));
        is("relu1;unknown;conv1", false, 2, last("conv1"));
        is("{ForeignNode[conv1...fc]}", false, 5, last("fc"));
        assert_eq!(one("a + b", false), Decision::Unknown);
    }

    #[test]
    fn ambiguous_names_decide_nothing() {
        let mut known = known();
        known.tensors[3].name = "q:0".to_owned();
        let map = BTreeMap::new();
        let dumps = [wanted("/q", false, &[])];
        let found = decide(&dumps, &known, &map, &|_, _| true, false).expect("no map");
        assert_eq!(found[0], Decision::Unknown);
    }

    #[test]
    fn a_shape_that_is_alone_is_a_guess() {
        let dumps = [
            wanted("blob7", true, &[4, 4, 4]),
            wanted("q", true, &[4, 8, 8]),
        ];
        let run = |guess| {
            decide(&dumps, &known(), &BTreeMap::new(), &|_, _| true, guess).expect("no map")[0]
                .clone()
        };
        assert_eq!(run(false), Decision::Guess(3));
        assert_eq!(run(true), Decision::Tensor(3, Why::Shape));
        let twice = [wanted("blob7", true, &[64]), wanted("blob8", true, &[64])];
        let found = decide(&twice, &known(), &BTreeMap::new(), &|_, _| true, true).expect("no map");
        assert_eq!(found, [Decision::Unknown, Decision::Unknown]);
    }

    #[test]
    fn sizes_that_do_not_fit_overrule_likeness_but_not_names() {
        let run = |name: &str| {
            let dumps = [wanted(name, false, &[])];
            decide(&dumps, &known(), &BTreeMap::new(), &|_, _| false, true).expect("no map")[0]
                .clone()
        };
        assert_eq!(run("conv1"), Decision::Unknown);
        assert_eq!(run("q"), Decision::Tensor(2, Why::Name));
    }

    #[test]
    fn the_map_rules() {
        let dumps = [wanted("blob1", true, &[]), wanted("q", true, &[])];
        let run = |from: &str, to: &str| {
            let map = BTreeMap::from([(from.to_owned(), to.to_owned())]);
            decide(&dumps, &known(), &map, &|_, _| true, false)
        };
        let found = run("blob1", "q").expect("a good map");
        assert_eq!(
            found,
            [Decision::Tensor(2, Why::Map), Decision::Taken(2, 0)]
        );
        assert_eq!(
            run("blob1", "fc").expect("a good map")[0],
            Decision::Tensor(5, Why::Map)
        );
        assert!(run("nowhere", "q").is_err());
        assert!(run("blob1", "nowhere").is_err());
    }
}
