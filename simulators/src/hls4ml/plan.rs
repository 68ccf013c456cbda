//! The layers of a network under a precision table.

use std::collections::BTreeMap;
use std::sync::Arc;

use align_check_graph::{Binary, Quantizer, ValueId};
use align_check_specs::PrecisionRules;

use super::precision::{ActivationName, Kind as Own, Precision, Table};
use super::step::{Core, Fixed, Scale};
use super::sum::Sum;
use crate::adapt::ValueGrid;
use crate::error::Error;
use crate::network::{Kind, Layer, Linear, LinearForm, Network, Operand, Post};
use crate::num::FixedType;
use crate::plan::{Finish, LayerPlan};
use crate::quantize::{self, CodeGrid};
use crate::tensor::Channels;

/// Widest type whose codes an `f64` holds.
const WIDEST: u32 = 53;

/// The grids of every value under a precision table, and the plan of every layer. The network must have been cut
/// at the table's tensors ([`Network::cut_at`]).
///
/// # Errors
/// [`Error::Unsupported`], with the layer's name: what the table asks for is not expressed, or does not fit the
/// network.
pub fn plan(
    network: &Network,
    rules: &PrecisionRules,
    precision: &Precision,
) -> Result<(Vec<ValueGrid>, Vec<LayerPlan>), Error> {
    let whole = |what: String| Error::Unsupported {
        node: "precision table".into(),
        op_type: precision.backend.clone(),
        what,
    };
    if precision.backend != "Vitis" {
        return Err(whole(
            "only the arithmetic of backend 'Vitis' is known".into(),
        ));
    }
    if !["io_parallel", "io_stream"].contains(&precision.io_type.as_str()) {
        return Err(whole(format!("unknown io_type '{}'", precision.io_type)));
    }
    for (name, table) in &precision.layers {
        let types = [
            table.accum,
            table.bias,
            table.weight,
            table.scale,
            Some(table.result),
        ];
        if types.into_iter().flatten().any(|t| t.width > WIDEST) {
            let what = format!("a type of more than {WIDEST} bits");
            return Err(refuse(table, name, "", &what));
        }
    }
    let mut planner = Planner {
        network,
        rules,
        precision,
        owner: vec![""; network.layers.len()],
        types: vec![None; network.graph.values.len()],
    };
    planner.inputs().map_err(whole)?;
    planner.owners()?;
    let mut grids = vec![ValueGrid::Real; network.graph.values.len()];
    let mut plans = Vec::with_capacity(network.layers.len());
    for (index, layer) in network.layers.iter().enumerate() {
        let name = planner.owner[index];
        let table = &precision.layers[name];
        let plan = planner
            .layer(index, table, &grids)
            .map_err(|what| refuse(table, name, &layer.name, &what))?;
        grids[layer.output] = plan.out.clone();
        plans.push(plan);
    }
    Ok((grids, plans))
}

fn refuse(table: &Table, tensor: &str, node: &str, what: &str) -> Error {
    Error::Unsupported {
        node: if node.is_empty() { tensor } else { node }.to_string(),
        op_type: format!("{:?}", table.kind),
        what: format!(
            "layer '{}' ({tensor}) of the precision table: {what}",
            table.layer
        ),
    }
}

struct Planner<'a> {
    network: &'a Network,
    rules: &'a PrecisionRules,
    precision: &'a Precision,
    /// The table that each layer of the network belongs to.
    owner: Vec<&'a str>,
    /// What each value is stored as.
    types: Vec<Option<FixedType>>,
}

impl<'a> Planner<'a> {
    fn name(&self, value: ValueId) -> &'a str {
        &self.network.graph.values[value].name
    }

    /// Types of the network's inputs.
    fn inputs(&mut self) -> Result<(), String> {
        for &input in &self.network.graph.inputs {
            let name = self.name(input);
            match self.precision.layers.get(name) {
                Some(table) if table.kind == Own::Input => self.types[input] = Some(table.result),
                _ => return Err(format!("it has no layer of kind Input for '{name}'")),
            }
        }
        Ok(())
    }

    /// Which layers of the network belong to which table: those up to its tensor.
    fn owners(&mut self) -> Result<(), Error> {
        let layers = &self.network.layers;
        let mut readers: BTreeMap<ValueId, Vec<usize>> = BTreeMap::new();
        for (index, layer) in layers.iter().enumerate() {
            for &input in &layer.inputs {
                readers.entry(input).or_default().push(index);
            }
        }
        for (index, layer) in layers.iter().enumerate().rev() {
            let name = self.name(layer.output);
            let inner = match readers.get(&layer.output).map(Vec::as_slice) {
                Some([first, rest @ ..])
                    if rest.iter().all(|&r| self.owner[r] == self.owner[*first]) =>
                {
                    Some(self.owner[*first])
                }
                _ => None,
            };
            let named = self.precision.layers.get_key_value(name);
            self.owner[index] = match (named, inner) {
                (Some((name, _)), _) => name,
                (None, Some(owner)) if !self.network.graph.outputs.contains(&layer.output) => owner,
                _ => {
                    return Err(Error::Unsupported {
                        node: layer.name.clone(),
                        op_type: layer.op.clone(),
                        what: format!("the precision table has no layer for tensor '{name}'"),
                    });
                }
            };
        }
        Ok(())
    }

    /// Layers in front of a table that stand for no tensor of the model, the first one first, and the tensors of
    /// the model that are read.
    fn before(&self, table: &'a Table) -> Result<(Vec<&'a Table>, Vec<&'a str>), String> {
        let exists = |name: &str| self.network.graph.values.iter().any(|v| v.name == name);
        let mut before: Vec<&Table> = Vec::new();
        let mut names: Vec<&str> = table.inputs.iter().map(String::as_str).collect();
        while let [name] = names[..]
            && !exists(name)
        {
            let virtual_layer = self.precision.layers.get(name);
            let one =
                virtual_layer.ok_or_else(|| format!("it reads '{name}', which nothing makes"))?;
            if before.len() > self.precision.layers.len() {
                return Err("its inputs form a circle".into());
            }
            before.insert(0, one);
            names = one.inputs.iter().map(String::as_str).collect();
        }
        Ok((before, names))
    }

    fn layer(
        &mut self,
        index: usize,
        table: &'a Table,
        grids: &[ValueGrid],
    ) -> Result<LayerPlan, String> {
        let network = self.network;
        let layer = &network.layers[index];
        let owner = self.owner[index];
        let group: Vec<usize> = (0..network.layers.len())
            .filter(|&i| self.owner[i] == owner)
            .collect();
        let moves = |i: &usize| matches!(network.layers[*i].kind, Kind::Movement(_));
        let core = group.iter().copied().find(|i| !moves(i));
        // The last layer that computes casts to the result's type.
        let last = group.iter().copied().rev().find(|i| !moves(i));

        let (before, names) = self.before(table)?;
        let from_outside: Vec<ValueId> = layer
            .inputs
            .iter()
            .copied()
            .filter(|&v| !group.iter().any(|&i| network.layers[i].output == v))
            .collect();
        if let Some(&other) = from_outside
            .iter()
            .find(|&&v| !names.contains(&self.name(v)))
        {
            let read = self.name(other);
            return Err(format!(
                "the model reads '{read}' there, the table {names:?}"
            ));
        }
        let reads: Vec<FixedType> = layer
            .inputs
            .iter()
            .map(|&v| self.types[v].ok_or_else(|| format!("'{}' has no type", self.name(v))))
            .collect::<Result<_, _>>()?;
        let ends = self.name(layer.output) == owner;

        if moves(&index) {
            let own = reads[0];
            let only = core.is_none();
            if only && !matches!(table.kind, Own::Reshape | Own::Transpose) {
                return Err("the model only moves elements there".into());
            }
            if ends && own.step() != table.result.step() {
                return Err(format!("it moves {own} into {}", table.result));
            }
            self.types[layer.output] = Some(own);
            let out = grids[layer.inputs[0]].clone();
            let finish = Finish::Keep {
                lo: i32::MIN,
                hi: i32::MAX,
            };
            return Ok(plan_of(out, finish, Vec::new(), vec![]));
        }
        let mut mismatches = Vec::new();
        let fixed = if Some(index) == core {
            let mut x = reads[0];
            let mut ahead = Vec::new();
            for one in before {
                let scale = Self::scale(one, layer, &[])?;
                mismatches.push(format!(
                    "hls4ml reads it through layer '{}', which the model does not have: the numbers of this tensor \
                     lack that factor",
                    one.layer
                ));
                ahead.push((scale, one.result));
                x = one.result;
            }
            let core = self.core(layer, table, reads.len())?;
            let result = if Some(index) == last {
                table.result
            } else {
                uncast(&core, &x).ok_or("what follows it is not expressed")?
            };
            if result.width > WIDEST {
                return Err(format!(
                    "an intermediate {result} of more than {WIDEST} bits"
                ));
            }
            Fixed {
                reads,
                before: ahead,
                core,
                result,
                reads_input: false,
            }
        } else if Some(index) == last && matches!(layer.kind, Kind::Pass) && layer.posts.is_empty()
        {
            Fixed {
                reads,
                before: Vec::new(),
                core: Core::Cast,
                result: table.result,
                reads_input: false,
            }
        } else {
            return Err(format!("'{}' inside it is not expressed", layer.op));
        };
        let fixed = Fixed {
            reads_input: self.is_input(layer),
            ..fixed
        };
        self.types[layer.output] = Some(fixed.result);
        let out = Self::grid_of(layer, &fixed.result);
        if let (ValueGrid::Real, Some(Quantizer::Affine(_) | Quantizer::Gfpq(_))) =
            (&out, &layer.quantizer)
        {
            mismatches.push(format!(
                "hls4ml stores {}, which is not the model's quantizer",
                fixed.result
            ));
        }
        let mut rules = vec!["precision.types"];
        if matches!(fixed.core, Core::Sum(_)) {
            rules.extend(["precision.product", "precision.bias", "precision.order"]);
        }
        Ok(plan_of(
            out,
            Finish::Fixed(Box::new(fixed)),
            mismatches,
            rules,
        ))
    }

    /// Whether a layer reads an input of the network, moved or not.
    fn is_input(&self, layer: &Layer) -> bool {
        layer.inputs.iter().any(|&value| {
            self.network.graph.inputs.contains(&value)
                || self.network.layers.iter().any(|one| {
                    one.output == value
                        && matches!(one.kind, Kind::Movement(_))
                        && self.is_input(one)
                })
        })
    }

    /// Codes where they are the model's own; else reals, which are exact.
    fn grid_of(layer: &Layer, own: &FixedType) -> ValueGrid {
        let (min, max) = own.reached();
        let grid = CodeGrid::uniform(own.step(), 0, min, max);
        let model = layer.quantizer.as_ref().and_then(quantize::grid);
        if model.as_ref() == Some(&grid) {
            return ValueGrid::Codes {
                grid: Arc::new(grid),
                relabel: 0,
                model: true,
            };
        }
        ValueGrid::Real
    }

    /// The arithmetic of a table on the layer that does it.
    fn core(&self, layer: &Layer, table: &Table, inputs: usize) -> Result<Core, String> {
        let no_posts = || match layer.posts[..] {
            [] => Ok(()),
            _ => Err(format!("'{}' in one layer is not expressed", layer.op)),
        };
        match (table.kind, &layer.kind) {
            (Own::Activation, Kind::Pass) => match table.activation {
                Some(ActivationName::Linear) => no_posts().map(|()| Core::Cast),
                Some(ActivationName::Relu) => match layer.posts[..] {
                    [
                        Post::Clamp {
                            lo: 0.0,
                            hi: f64::INFINITY,
                        },
                    ] => Ok(Core::Relu),
                    _ => Err(format!("the model has '{}' there, not a ReLU", layer.op)),
                },
                None => Err("no activation".into()),
            },
            (
                Own::ApplyAlpha | Own::BatchNormalization,
                Kind::Pass
                | Kind::Binary {
                    op: Binary::Add | Binary::Sub | Binary::Mul,
                    operands: [Operand::Input(0), Operand::Constant(_)],
                    ..
                },
            ) => Self::scale(table, layer, &layer.posts).map(Core::Scale),
            (
                Own::Merge,
                Kind::Binary {
                    op: Binary::Add,
                    operands: [Operand::Input(0), Operand::Input(1)],
                    shapes: [a, b],
                },
            ) if a == b && inputs == 2 => no_posts().map(|()| Core::Add),
            (Own::Pooling1D | Own::Pooling2D, Kind::MaxPool(_)) => {
                no_posts()?;
                Ok(Core::MaxPool(table.accum.ok_or("no type 'accum'")?))
            }
            (kind, Kind::Linear(linear)) if kind.is_sum() => {
                let bias = bias(layer, linear)?;
                let sum = Sum::new(linear, bias, table, self.rules)?;
                Ok(Core::Sum(Box::new(sum)))
            }
            _ => Err(format!("the model has '{}' there", layer.op)),
        }
    }

    /// Factors and offsets of a table. The model's own numbers are not read: hls4ml changes them.
    fn scale(table: &Table, layer: &Layer, posts: &[Post]) -> Result<Scale, String> {
        let of = |t: Option<FixedType>, name: &str| t.ok_or_else(|| format!("no type '{name}'"));
        let (scale, bias) = (of(table.scale, "scale")?, of(table.bias, "bias")?);
        let count = table.scale_values.len();
        if count == 0 || table.bias_values.len() != count {
            return Err("scale_values and bias_values do not belong together".into());
        }
        let same = |v: &[f64]| v.iter().all(|x| *x == v[0]);
        let uniform = same(&table.scale_values) && same(&table.bias_values);
        let channels = match (posts, &layer.kind) {
            ([Post::Affine { channels, .. }], _) if channels.count == count => *channels,
            ([] | [Post::Affine { .. }], _) if uniform => Channels::ONE,
            // A constant of codes along the last axis; or a layer without a tensor of the model, in front of a
            // matrix product.
            (
                [],
                Kind::Binary {
                    shapes: [_, own], ..
                },
            ) if layer.result_shape.last() == Some(&count) && own.last() == Some(&count) => {
                Channels { count, inner: 1 }
            }
            ([], Kind::Linear(linear))
                if matches!(
                    linear.form,
                    LinearForm::Rows {
                        transposed: false,
                        ..
                    }
                ) && linear.shape.channels == count =>
            {
                Channels { count, inner: 1 }
            }
            _ => return Err(format!("factors for each channel of '{}'", layer.op)),
        };
        let codes = |t: &FixedType, values: &[f64]| -> Result<Vec<i64>, String> {
            let code = |&v: &f64| t.from_f64(v).map(|code| code.value);
            let codes: Option<Vec<i64>> = values.iter().take(channels.count).map(code).collect();
            codes.ok_or_else(|| "a value that is no number".into())
        };
        Ok(Scale {
            scale: (scale, codes(&scale, &table.scale_values)?),
            bias: (bias, codes(&bias, &table.bias_values)?),
            channels,
        })
    }
}

/// The type of a layer's result before it is cast, where that cast is made by another layer of the network.
fn uncast(core: &Core, x: &FixedType) -> Option<FixedType> {
    match core {
        Core::Sum(sum) => Some(sum.accum),
        Core::MaxPool(accum) => Some(*accum),
        Core::Scale(scale) => Some(scale.exact(x)),
        _ => None,
    }
}

/// The bias of a sum: the operation's own, or one that the model adds behind it.
fn bias(layer: &Layer, linear: &Linear) -> Result<Option<Vec<f64>>, String> {
    if linear.rows.is_some() || linear.factor != 1.0 {
        return Err("a bias for each row, or a factor, is not expressed".into());
    }
    let own = linear.bias.as_ref().map(|b| b.reals.clone());
    match (&layer.posts[..], own) {
        ([], own) => Ok(own),
        ([Post::Affine { mul, add, channels }], None)
            if mul.iter().all(|&m| m == 1.0)
                && (*channels == layer.channels() || *channels == Channels::ONE) =>
        {
            let count = linear.shape.out_channels;
            Ok(Some((0..count).map(|c| add[c % add.len()]).collect()))
        }
        _ => Err(format!("'{}' in one layer is not expressed", layer.op)),
    }
}

fn plan_of(
    out: ValueGrid,
    finish: Finish,
    mismatches: Vec<String>,
    rules: Vec<&'static str>,
) -> LayerPlan {
    LayerPlan {
        out,
        linear: None,
        finish,
        mismatches,
        float: false,
        rules,
    }
}
