//! What the integers of a tensor mean: its element type, and the grid that its readers and writers give it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::proto::tensor_proto::DataType;
use super::tensor::Tensor;
use super::{Domain, FileNode, Slot, Stored};
use crate::{Affine, Constant, Op, PerChannel, ResizeAxis};

/// An integer element type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Integer {
    pub bits: u32,
    pub signed: bool,
}

impl Integer {
    pub(crate) const I32: Self = Self {
        bits: 32,
        signed: true,
    };

    pub(crate) fn of(kind: DataType) -> Option<Self> {
        let (bits, signed) = match kind {
            DataType::Int2 => (2, true),
            DataType::Uint2 => (2, false),
            DataType::Int4 => (4, true),
            DataType::Uint4 => (4, false),
            DataType::Int8 => (8, true),
            DataType::Uint8 => (8, false),
            DataType::Int16 => (16, true),
            DataType::Uint16 => (16, false),
            DataType::Int32 => (32, true),
            DataType::Uint32 => (32, false),
            _ => return None,
        };
        Some(Self { bits, signed })
    }

    fn name(self) -> String {
        format!("{}int{}", if self.signed { "" } else { "u" }, self.bits)
    }
}

/// The codes that a `Clip` leaves of an integer type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clipped {
    pub bits: u32,
    pub signed: bool,
    pub narrow: bool,
}

impl Clipped {
    /// The width that has exactly this range. A signed width of 1 bit is another quantizer (bipolar).
    pub(crate) fn range(min: i64, max: i64) -> Option<Self> {
        let all = (1..=32).flat_map(|bits| {
            [(true, false), (true, true), (false, false), (false, true)].map(|(signed, narrow)| {
                Self {
                    bits,
                    signed,
                    narrow,
                }
            })
        });
        let fits = |c: &Self| {
            let grid = c.on(PerChannel::uniform(1.0), PerChannel::uniform(0.0));
            c.bits > u32::from(c.signed || c.narrow)
                && grid.min_code() == min
                && grid.max_code() == max
        };
        all.into_iter().find(fits)
    }

    pub(crate) fn on(self, scale: PerChannel<f32>, zero_point: PerChannel<f32>) -> Affine {
        Affine {
            narrow: self.narrow,
            ..Affine::quantize_linear(scale, zero_point, self.bits, self.signed)
        }
    }
}

/// What is known of the integers of a tensor. A tensor of reals that is stored as codes (the output of
/// `DequantizeLinear` on a constant) has a grid and no element type.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Codes {
    /// The element type, where the file has integers.
    pub integer: Option<Integer>,
    /// What a `Clip` left of it.
    pub clipped: Option<Clipped>,
    pub grid: Option<Arc<Affine>>,
}

impl Codes {
    pub(crate) fn of(integer: Integer) -> Self {
        Self {
            integer: Some(integer),
            ..Self::default()
        }
    }

    pub(crate) fn on(integer: Integer, grid: Affine) -> Self {
        Self {
            integer: Some(integer),
            clipped: None,
            grid: Some(Arc::new(grid)),
        }
    }

    /// Whether this is a constant of reals that is kept as codes.
    pub(crate) fn stands_for_reals(&self) -> bool {
        self.integer.is_none() && self.grid.is_some()
    }

    /// The grid of an integer tensor with a scale and a zero point.
    pub(crate) fn grid_with(
        &self,
        integer: Integer,
        scale: PerChannel<f32>,
        zero_point: PerChannel<f32>,
    ) -> Affine {
        let whole = Clipped {
            bits: integer.bits,
            signed: integer.signed,
            narrow: false,
        };
        self.clipped.unwrap_or(whole).on(scale, zero_point)
    }
}

/// The grid of plain integers: a code stands for itself.
pub(crate) fn plain(integer: Integer) -> Affine {
    Affine::quantize_linear(
        PerChannel::uniform(1.0),
        PerChannel::uniform(0.0),
        integer.bits,
        integer.signed,
    )
}

pub(crate) fn is_plain(grid: &Affine) -> bool {
    grid.scale.values == [1.0] && grid.zero_point.values == [0.0]
}

/// Whether a parameter is the same everywhere. One number and a list of it are equal.
fn same_parameter(a: &PerChannel<f32>, b: &PerChannel<f32>) -> bool {
    match (a.values.as_slice(), b.values.as_slice()) {
        (&[x], all) | (all, &[x]) => all.iter().all(|&y| y == x),
        (x, y) => a.axis == b.axis && x == y,
    }
}

/// Whether two grids give a code the same meaning; how far the codes reach does not matter.
pub(crate) fn same(a: &Affine, b: &Affine) -> bool {
    same_parameter(&a.scale, &b.scale) && same_parameter(&a.zero_point, &b.zero_point)
}

/// A list of numbers that two grids share where they are the [`same`].
pub(crate) fn key(grid: &Affine) -> Vec<u32> {
    let mut key = Vec::new();
    for parameter in [&grid.scale, &grid.zero_point] {
        let parameter = uniform_if_equal(parameter.clone());
        key.push(parameter.axis.map_or(0, |axis| axis as u32 + 1));
        key.push(parameter.values.len() as u32);
        // Minus zero is zero.
        key.extend(parameter.values.iter().map(|&v| (v + 0.0).to_bits()));
    }
    key
}

/// A grid for a message.
pub(crate) fn describe(grid: &Affine) -> String {
    let list = |p: &PerChannel<f32>| match (p.values.as_slice(), p.axis) {
        (&[x], _) => x.to_string(),
        (values @ [first, ..], axis) => {
            let count = values.len();
            let axis = axis.unwrap_or(0);
            format!("{first}, ... ({count} along axis {axis})")
        }
        _ => "none".to_owned(),
    };
    let integer = Integer {
        bits: grid.bits,
        signed: grid.signed,
    };
    format!(
        "{}{} with scale {} and zero point {}",
        if grid.narrow { "narrow " } else { "" },
        integer.name(),
        list(&grid.scale),
        list(&grid.zero_point)
    )
}

/// The grid of a tensor after an operation that only moves its elements; none where the operation mixes the
/// channels of a grid that has several.
pub(crate) fn moved(grid: &Affine, op: &Op, from: &[usize], to: &[usize]) -> Option<Affine> {
    let axis = match (grid.scale.axis, grid.zero_point.axis) {
        _ if grid.scale.values.len() == 1 && grid.zero_point.values.len() == 1 => {
            return Some(grid.clone());
        }
        (Some(axis), _) | (None, Some(axis)) => axis,
        (None, None) => return None,
    };
    let mut pick: Option<Vec<usize>> = None;
    let axis = match op {
        Op::Identity => axis,
        Op::Transpose { perm } => perm.iter().position(|&p| p == axis)?,
        Op::Reshape => {
            let before: usize = from[..axis].iter().product();
            (0..to.len())
                .find(|&i| to[i] == from[axis] && to[..i].iter().product::<usize>() == before)?
        }
        Op::Slice { starts, steps } => {
            let at = |i: usize| {
                let index = starts[axis] as i64 + steps[axis] * i as i64;
                usize::try_from(index).ok()
            };
            pick = Some((0..to[axis]).map(at).collect::<Option<_>>()?);
            axis
        }
        Op::MaxPool(_) if axis < 2 => axis,
        Op::Pad(pad) if pad.before[axis] == 0 && pad.after[axis] == 0 => axis,
        Op::Resize(resize) if matches!(resize.axes[axis], ResizeAxis::Copy) => axis,
        Op::Concat { axis: joined } if *joined != axis => axis,
        _ => return None,
    };
    let place = |p: &PerChannel<f32>| match (&pick, p.values.len()) {
        (_, 1) => Some(p.clone()),
        (None, _) => Some(PerChannel {
            values: p.values.clone(),
            axis: Some(axis),
        }),
        (Some(pick), _) => Some(PerChannel {
            values: pick
                .iter()
                .map(|&i| p.values.get(i).copied())
                .collect::<Option<_>>()?,
            axis: Some(axis),
        }),
    };
    Some(Affine {
        scale: place(&grid.scale)?,
        zero_point: place(&grid.zero_point)?,
        ..grid.clone()
    })
}

/// Whether an operation only moves (or selects) elements, so that its output has its input's grid.
pub(crate) fn moves(op: &Op) -> bool {
    match op {
        Op::Reshape
        | Op::Identity
        | Op::Transpose { .. }
        | Op::Slice { .. }
        | Op::Concat { .. }
        | Op::Pad(_)
        | Op::MaxPool(_)
        | Op::DepthToSpace { .. } => true,
        Op::Resize(resize) => resize
            .axes
            .iter()
            .all(|axis| !matches!(axis, ResizeAxis::Linear(_))),
        _ => false,
    }
}

/// What codes stand for: `(code - zero_point) * scale` in `f32`, as `DequantizeLinear` computes it.
pub(crate) fn reals(codes: &[i64], shape: &[usize], grid: &Affine) -> Vec<f32> {
    let axis = grid.scale.axis.or(grid.zero_point.axis);
    let (count, run) = match axis {
        Some(axis) => (
            shape.get(axis).copied().unwrap_or(1).max(1),
            shape[(axis + 1).min(shape.len())..]
                .iter()
                .product::<usize>(),
        ),
        None => (1, 1),
    };
    let real = |(index, &code): (usize, &i64)| {
        let channel = index / run.max(1) % count;
        let zero_point = grid.zero_point.at(channel);
        // Exact: integers of at most 32 bits.
        (code as f64 - f64::from(zero_point)) as f32 * grid.scale.at(channel)
    };
    codes.iter().enumerate().map(real).collect()
}

/// Operators of ONNX that pass integer codes on, whatever the codes mean.
pub(crate) const MOVEMENTS: [&str; 14] = [
    "Identity",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "Slice",
    "Split",
    "Concat",
    "Pad",
    "MaxPool",
    "GlobalMaxPool",
    "Resize",
    "DepthToSpace",
];

/// How many nodes behind an input are asked what its integers mean.
const FURTHEST: usize = 1000;

/// The readers of a file that say what integers mean, for graph inputs: nothing else of the file knows.
pub(crate) struct Readers<'a> {
    nodes: &'a [FileNode],
    constants: &'a HashMap<Slot, Stored>,
    /// For each slot, the nodes that read it, and at which of their inputs.
    by_slot: HashMap<Slot, Vec<(usize, usize)>>,
    /// Outputs of `Identity`: some exporters share parameters through it.
    aliases: HashMap<Slot, Slot>,
}

impl<'a> Readers<'a> {
    pub(crate) fn new(nodes: &'a [FileNode], constants: &'a HashMap<Slot, Stored>) -> Self {
        let mut by_slot: HashMap<Slot, Vec<(usize, usize)>> = HashMap::new();
        let mut aliases = HashMap::new();
        for (index, node) in nodes.iter().enumerate() {
            for (at, slot) in node.inputs.iter().enumerate() {
                if let &Some(slot) = slot {
                    by_slot.entry(slot).or_default().push((index, at));
                }
            }
            if let ("Identity", [Some(from)], [Some(to)]) =
                (&*node.op_type, &node.inputs[..], &node.outputs[..])
            {
                aliases.insert(*to, *from);
            }
        }
        Self {
            nodes,
            constants,
            by_slot,
            aliases,
        }
    }

    /// What the integers of an input mean: what its first reader says, behind movements where need be. Where
    /// nobody says anything, they stand for themselves.
    pub(crate) fn grid(
        &self,
        input: Slot,
        integer: Integer,
        rank: Option<usize>,
    ) -> Option<Affine> {
        let mut undecided = false;
        let mut steps = 0;
        let mut seen = HashSet::from([input]);
        let mut waiting = VecDeque::from([input]);
        while let Some(slot) = waiting.pop_front() {
            let rank = rank.filter(|_| slot == input);
            for &(index, at) in self.by_slot.get(&slot).into_iter().flatten() {
                steps += 1;
                if steps > FURTHEST {
                    return None;
                }
                let node = &self.nodes[index];
                if places(node, at).is_some() {
                    if let Some(grid) = self.named(node, at, integer, rank) {
                        return Some(grid);
                    }
                    undecided = true;
                }
                let moved = node.domain == Domain::Onnx
                    && MOVEMENTS.contains(&&*node.op_type)
                    && (node.op_type == "Concat" || at == 0);
                if moved {
                    let outputs = node.outputs.iter().flatten();
                    waiting.extend(outputs.filter(|&&output| seen.insert(output)));
                }
            }
        }
        (!undecided).then(|| plain(integer))
    }

    /// The grid that a node gives to its input number `at`. `rank` is absent behind movements, where an
    /// axis would be another one.
    fn named(
        &self,
        node: &FileNode,
        at: usize,
        integer: Integer,
        rank: Option<usize>,
    ) -> Option<Affine> {
        let (scale, zero_point) = places(node, at)?;
        let scale = match scale {
            Some(index) => self.literal(node, index)?,
            None => Tensor::scalar_f32(1.0),
        };
        let zero_point = match node.optional(zero_point) {
            Some(_) => self.literal(node, zero_point)?,
            None => Tensor::scalar_f32(0.0),
        };
        let list = |tensor: &Tensor| -> Option<PerChannel<f32>> {
            let values = tensor.data.to_f32();
            if let &[x] = values.as_slice() {
                return Some(PerChannel::uniform(x));
            }
            let rank = rank?;
            let axis = node.attrs().int_or("axis", 1).ok()?;
            let axis = if axis < 0 {
                axis.checked_add(rank as i64)?
            } else {
                axis
            };
            let axis = usize::try_from(axis).ok().filter(|&axis| axis < rank)?;
            (node.op_type == "DequantizeLinear" && tensor.shape.len() == 1).then_some(PerChannel {
                values,
                axis: Some(axis),
            })
        };
        let positive = |s: &f32| s.is_finite() && *s > 0.0;
        let scale = list(&scale).filter(|scale| scale.values.iter().all(positive))?;
        let zero_point = uniform_if_equal(list(&zero_point)?);
        Some(Codes::default().grid_with(integer, scale, zero_point))
    }

    fn literal(&self, node: &FileNode, index: usize) -> Option<Tensor> {
        let mut slot = node.optional(index)?;
        for _ in 0..16 {
            match (self.constants.get(&slot), self.aliases.get(&slot)) {
                (Some(Stored::Known(tensor)), _) => return Some(tensor.clone()),
                (None, Some(&from)) => slot = from,
                _ => return None,
            }
        }
        None
    }
}

/// A list of one number, as that number.
pub(crate) fn uniform_if_equal(list: PerChannel<f32>) -> PerChannel<f32> {
    match list.values.split_first() {
        Some((&first, rest)) if rest.iter().all(|&x| x == first) => PerChannel::uniform(first),
        _ => list,
    }
}

/// Where a node has the scale (none: 1) and the zero point of its input number `at`.
fn places(node: &FileNode, at: usize) -> Option<(Option<usize>, usize)> {
    let triples: &[usize] = match (node.domain, node.op_type.as_str()) {
        (Domain::Onnx, "ConvInteger" | "MatMulInteger") => {
            return (at < 2).then_some((None, at + 2));
        }
        (Domain::Microsoft, "QLinearConcat") => {
            return (at >= 2 && (at - 2).is_multiple_of(3)).then_some((Some(at + 1), at + 2));
        }
        (Domain::Onnx, "QLinearConv" | "QLinearMatMul")
        | (Domain::Microsoft, "QLinearConv" | "QGemm" | "QLinearAdd" | "QLinearMul") => &[0, 3],
        (Domain::Onnx | Domain::Microsoft, "DequantizeLinear")
        | (
            Domain::Microsoft,
            "QLinearSigmoid"
            | "QLinearLeakyRelu"
            | "QLinearAveragePool"
            | "QLinearGlobalAveragePool"
            | "QLinearSoftmax"
            | "QLinearReduceMean",
        ) => &[0],
        _ => return None,
    };
    triples.contains(&at).then_some((Some(at + 1), at + 2))
}

/// Codes as the reals that they stand for.
pub(crate) fn dequantized(tensor: &Tensor) -> Tensor {
    match (&*tensor.data, &tensor.codes.grid) {
        (Constant::I64(codes), Some(grid)) if tensor.codes.stands_for_reals() => Tensor::new(
            tensor.shape.clone(),
            Constant::F32(reals(codes, &tensor.shape, grid)),
        ),
        _ => tensor.clone(),
    }
}
