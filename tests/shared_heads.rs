//! One weight that several layers use: each layer has its own quantizers, the constant exists once.

use std::sync::Arc;

use align_check_simulators::network::{Kind, Network};
use align_check_simulators::tensor::Tensor;
use align_check_tests::onnx::{Onnx, Quant};
use align_check_tests::simulate::{codes, network, network_of};
use align_check_tests::{args, golden, list, report, text, verified, whole};

fn weights(network: &Network) -> Vec<&Arc<Tensor>> {
    network
        .layers
        .iter()
        .filter_map(|layer| match &layer.kind {
            Kind::Linear(linear) => Some(&linear.weights),
            _ => None,
        })
        .collect()
}

#[test]
fn a_recorded_weight_behind_one_quantizer_is_one_tensor() {
    let network = network_of(&golden("qonnx-ops/conv-shared-weight/model.onnx"));
    let [first, second] = weights(&network)[..] else {
        panic!("two convolutions");
    };
    assert!(Arc::ptr_eq(first, second));
}

#[test]
fn recorded_layers_are_compared_with_their_own_quantizers() {
    for case in ["conv-shared-weight", "conv-shared-weight-two-quants"] {
        let folder = golden("qonnx-ops").join(case);
        verified(&folder).unwrap_or_else(|why| panic!("{why}"));
        let (run, json, _) = report(args![
            folder.join("model.onnx"),
            "--target",
            "exact",
            "--input",
            folder.join("inputs.npz"),
            "--reference",
            folder.join("outputs.npz"),
        ]);
        assert_eq!(run.code, Some(0), "{case}: {}", run.stderr);
        let convs: Vec<_> = list(&json["layers"])
            .iter()
            .filter(|layer| text(&layer["op"]).starts_with("Conv"))
            .collect();
        assert_eq!(convs.len(), 2, "{case}");
        for conv in &convs {
            let stats = &conv["mode"]["isolated"];
            assert!(whole(&stats["elements"]) > 0, "{case}");
            assert_eq!(whole(&stats["differing"]), 0, "{case}");
        }
        assert_ne!(convs[0]["tensor"], convs[1]["tensor"], "{case}");
    }
}

/// A head on two feature maps, with output scales 1 and 1/4.
#[test]
fn a_head_on_two_maps_ends_in_two_grids() {
    let model = Onnx::new()
        .input("a", &[1, 1, 1, 4])
        .input("b", &[1, 1, 1, 4])
        .reals("w", &[1, 1, 1, 1], &[1.5])
        .quant("a", "qa", &Quant::i8(0.5, 0))
        .quant("b", "qb", &Quant::i8(0.25, 0))
        .quant("w", "qw", &Quant::i8(0.5, 0))
        .node("Conv", &["qa", "qw"], "ca", &[])
        .node("Conv", &["qb", "qw"], "cb", &[])
        .quant("ca", "ya", &Quant::i8(1.0, 0))
        .quant("cb", "yb", &Quant::i8(0.25, 0))
        .output("ya", &[1, 1, 1, 4])
        .output("yb", &[1, 1, 1, 4]);
    let network = network(&model);
    let [first, second] = weights(&network)[..] else {
        panic!("two convolutions");
    };
    assert!(Arc::ptr_eq(first, second));
    let inputs = [
        ("a", vec![0.5, 1.0, -1.0, 3.0]),
        ("b", vec![0.25, 0.5, -0.5, 3.0]),
    ];
    for target in ["exact", "onnxruntime", "tensorrt"] {
        let codes = codes(&network, target, &inputs);
        // 0.75, 1.5, -1.5 and 4.5 in steps of 1; 0.375, 0.75, -0.75 and 4.5 in steps of 1/4.
        assert_eq!(codes["ya"], [1, 2, -2, 4], "{target}");
        assert_eq!(codes["yb"], [2, 3, -3, 18], "{target}");
    }
}
