//! Kinds of layers: by what part of a spec each is computed.

use align_check_simulators::adapt::ValueGrid;
use align_check_simulators::kernels::Isa;
use align_check_simulators::network::{Kind, Layer};
use align_check_simulators::plan::{Finish, LayerPlan};
use align_check_specs::{
    AddRule, AverageRule, DequantizeRule, Division, DynamicQuantizeRule, HardSwishRule,
    LeakyReluRule, MulRule, Multiplier, Ops, Product, RescaleRule, ResizeRule, Rounding,
    SigmoidRule, SoftmaxRule, Spec, Step, ZeroPointPosition,
};

/// Codes that are moved: no rule decides anything.
pub(super) const MOVED: &str = "moved";
/// Reals that become codes.
pub(super) const QUANTIZE: &str = "quantize";
/// What no rule of integers computes.
pub(super) const FLOAT: &str = "float";

/// The section of a spec that says how a kind of sums ends.
pub(super) fn section(product: Product) -> &'static str {
    match product {
        Product::Convolution => "convolution",
        Product::Depthwise => "depthwise",
        Product::Transposed => "transposed",
        Product::FullyConnected => "fully-connected",
        Product::FullyConnectedUnbiased => "fully-connected-unbiased",
    }
}

/// The kind of a layer.
pub(super) fn label(
    layer: &Layer,
    plan: &LayerPlan,
    spec: &Spec,
    grids: &[ValueGrid],
    isa: Isa,
) -> &'static str {
    let probe = probe(spec);
    let Ok(probed) = plan.finished(layer, &probe, grids, isa) else {
        return FLOAT;
    };
    if let Some(rule) = probed
        .rules
        .iter()
        .find_map(|rule| rule.strip_prefix("ops."))
    {
        return rule;
    }
    match (&layer.kind, &probed.finish) {
        (_, Finish::Keep { .. } | Finish::Reinterpret) => MOVED,
        (Kind::Linear(linear), Finish::Requantize { .. }) => section(linear.product),
        (Kind::MatMul(_), Finish::Requantize { .. }) => section(Product::FullyConnectedUnbiased),
        (Kind::Pass, Finish::Float(_)) if layer.posts.is_empty() => QUANTIZE,
        (_, Finish::Table { .. }) if probed.rules.last() == Some(&"activations") => MOVED,
        _ => FLOAT,
    }
}

/// A target with a rule for every operation: which one a layer asks for is its kind.
fn probe(spec: &Spec) -> Spec {
    let mut spec = spec.clone();
    spec.thresholds = None;
    spec.unsigned = None;
    spec.quantize.division = Division::DivideF32;
    spec.quantize.rounding = Rounding::HalfEven;
    spec.quantize.zero_point = ZeroPointPosition::AfterRounding;
    spec.quantize.tail = None;
    spec.bias.format = align_check_specs::BiasFormat::Int32;
    spec.requantize.multiplier = Multiplier::F64;
    spec.requantize.steps = vec![Step {
        shift: align_check_specs::Shift::Rest,
        rounding: Rounding::HalfEven,
        saturate: None,
    }];
    spec.requantize.zero_point = ZeroPointPosition::AfterRounding;
    spec.requantize.tail = None;
    spec.requantize.bias = None;
    spec.convolution = None;
    spec.depthwise = None;
    spec.transposed = None;
    spec.fully_connected = None;
    spec.fully_connected_unbiased = None;
    spec.ops = Ops {
        add: Some(AddRule::F32),
        mul: Some(MulRule::F32),
        average: Some(AverageRule::F32),
        global_average: Some(AverageRule::F32),
        rescale: Some(RescaleRule::F32),
        relu: Some(RescaleRule::F32),
        concat: Some(RescaleRule::F32),
        leaky_relu: Some(LeakyReluRule::F32),
        sigmoid: Some(SigmoidRule::F32Table),
        hard_swish: Some(HardSwishRule::F32),
        dynamic_quantize: Some(DynamicQuantizeRule::EmptyScaleOne),
        softmax: Some(SoftmaxRule::F32),
        dequantize: Some(DequantizeRule::F32),
        resize: Some(ResizeRule::F32),
    };
    spec
}
