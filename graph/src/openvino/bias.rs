//! A constant that is added to a convolution is its bias: the IR has no other form of it.

use std::collections::HashMap;

use super::parse::Parser;
use crate::Constant;
use crate::onnx::tensor::Tensor;
use crate::onnx::{FileNode, Slot, Stored};

impl Parser<'_> {
    /// Makes additions of one constant a channel part of the convolution in front, where nothing else reads that.
    pub(super) fn biases(&mut self, nodes: &mut Vec<FileNode>, results: &[Slot]) {
        let mut reads: HashMap<Slot, usize> = HashMap::new();
        let inputs = nodes.iter().flat_map(|node| node.inputs.iter().flatten());
        for &slot in inputs.chain(results) {
            *reads.entry(slot).or_default() += 1;
        }
        let makers: HashMap<Slot, usize> = nodes
            .iter()
            .enumerate()
            .flat_map(|(index, node)| {
                node.outputs
                    .iter()
                    .flatten()
                    .map(move |&slot| (slot, index))
            })
            .collect();
        let mut gone = vec![false; nodes.len()];
        for index in 0..nodes.len() {
            let (&[Some(a), Some(b)], &[Some(output)]) =
                (&nodes[index].inputs[..], &nodes[index].outputs[..])
            else {
                continue;
            };
            if nodes[index].op_type != "Add" {
                continue;
            }
            for (sum, other) in [(a, b), (b, a)] {
                let Some(&conv) = makers.get(&sum) else {
                    continue;
                };
                let fits = matches!(
                    nodes[conv].op_type.as_str(),
                    "Convolution" | "GroupConvolution"
                ) && nodes[conv].inputs.len() == 2
                    && reads.get(&sum) == Some(&1);
                if !fits {
                    continue;
                }
                let source = literal(nodes, &makers, other);
                if let Some(bias) = self.bias(source, sum) {
                    nodes[conv].inputs.push(Some(bias));
                    nodes[conv].outputs = vec![Some(output)];
                    gone[index] = true;
                    break;
                }
            }
        }
        let mut gone = gone.into_iter();
        nodes.retain(|_| !gone.next().unwrap_or(false));
    }

    /// A constant as a list, if it has one number for each channel of a convolution's result.
    fn bias(&mut self, source: Slot, sum: Slot) -> Option<Slot> {
        let Some(Stored::Known(tensor)) = self.constants.get(&source) else {
            return None;
        };
        let stated = self.stated.get(&sum)?;
        let channels = (*stated.get(1)?)?;
        let rank = stated.len();
        let shape = &tensor.shape;
        let skipped = rank.checked_sub(shape.len())?;
        let one_axis = (0..shape.len()).all(|axis| shape[axis] == 1 || axis + skipped == 1);
        let along = shape.get(1usize.checked_sub(skipped)?) == Some(&channels);
        if !one_axis || !along || !matches!(*tensor.data, Constant::F32(_)) {
            return None;
        }
        let list = Tensor::shared(vec![channels], tensor.data.clone());
        let name = format!("{}.bias", self.names[source]);
        let slot = self.names.len();
        let name = if self.taken.insert(name.clone()) {
            name
        } else {
            let name = format!("{name}#{slot}");
            self.taken.insert(name.clone());
            name
        };
        self.names.push(name);
        self.constants.insert(slot, Stored::Known(list));
        Some(slot)
    }
}

/// The constant that a tensor is, if need be through a conversion of half-precision numbers.
fn literal(nodes: &[FileNode], makers: &HashMap<Slot, usize>, slot: Slot) -> Slot {
    match makers.get(&slot).map(|&index| &nodes[index]) {
        Some(node) if node.op_type == "Convert" => node.optional(0).unwrap_or(slot),
        _ => slot,
    }
}
