//! Quantizers that a target has in addition to the model's.

use align_check_graph::{Activation, Affine, Op, PerChannel, Quantizer};

use super::combine::ends_sum;
use super::rewrite::Rewriter;
use super::{Decision, Status};

/// Bounds that are as close as this are one.
const SAME_BOUND: f32 = 0.01;

/// A `ReLU6` behind a sum of products: codes of the range 0 to 6 in front of the model's quantizer.
pub(super) fn relu6(graph: &mut Rewriter) {
    for item in graph.quantizers() {
        let (Some(node), Some(affine)) = (graph.node(item), graph.uniform(item)) else {
            continue;
        };
        let input = node.inputs[0];
        let clip = graph.producer(input).is_some_and(|(_, node)| {
            matches!(
                node.op,
                Op::Activation(Activation::Clip { min: 0.0, max: 6.0 })
            )
        });
        let end = |code: i64| (code as f32 - affine.zero_point.at(0)) * affine.scale.at(0);
        let (low, high) = (end(affine.min_code()), end(affine.max_code()));
        let same = low.abs() <= SAME_BOUND && (high - 6.0).abs() <= SAME_BOUND;
        if !clip || same || affine.bits != 8 || !ends_sum(graph, input) {
            continue;
        }
        let own = Affine::quantize_linear(
            PerChannel::uniform(6.0 / 255.0),
            PerChannel::uniform(0.0),
            8,
            false,
        );
        let name = graph.name(node.output).to_owned();
        let like = node.output;
        let (_, value) = graph.insert(item, input, &own, like);
        graph.reread(item, input, value);
        let at = graph.name(value).to_owned();
        graph.decisions.push(Decision {
            tensor: at.clone(),
            node: String::new(),
            status: Status::Extra,
            at: vec![at],
            quantizer: Some(Quantizer::Affine(own)),
            rule: "placement.relu6",
            why: format!(
                "the convolution writes codes of 0 to 6; '{name}' has the range {low} to {high} and is requantized from them"
            ),
        });
    }
}
