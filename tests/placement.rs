//! Where targets put their quantizers: the plans of small graphs, and what placement changes in the numbers.

use std::fs;
use std::path::Path;

use align_check_tests::onnx::{Onnx, ints};
use align_check_tests::{args, golden, root, run};
use serde_json::Value;

/// Channels of every tensor.
const CHANNELS: i64 = 4;

/// Weights that reach every input channel with another factor.
fn weights(seed: i32) -> Vec<i32> {
    let n = (CHANNELS * CHANNELS) as i32;
    (0..n).map(|i| (i * 37 + seed * 11) % 101 - 50).collect()
}

/// A small graph under construction: images of 8 x 8.
struct Net(Onnx);

impl Net {
    fn new() -> Self {
        Self(Onnx::new().input("x", &[1, CHANNELS, 8, 8]))
    }

    /// A quantizer of signed codes.
    fn q(self, x: &str, y: &str, scale: f32) -> Self {
        Self(self.0.qdq(x, y, scale, 0, true))
    }

    /// A quantizer of unsigned codes.
    fn qu(self, x: &str, y: &str, scale: f32, zero_point: i32) -> Self {
        Self(self.0.qdq(x, y, scale, zero_point, false))
    }

    /// A 1 x 1 convolution with quantized weights.
    fn conv(self, x: &str, y: &str) -> Self {
        let [w, s, z, d] = ["w", "ws", "wz", "wd"].map(|part| format!("{y}_{part}"));
        let dims = [CHANNELS, CHANNELS, 1, 1];
        let onnx = self
            .0
            .codes(&w, &dims, &weights(y.len() as i32), true)
            .reals(&s, &[], &[1.0 / 64.0])
            .codes(&z, &[], &[0], true)
            .node("DequantizeLinear", &[&w, &s, &z], &d, &[])
            .node("Conv", &[x, &d], y, &[]);
        Self(onnx)
    }

    fn op(self, op: &str, inputs: &[&str], y: &str) -> Self {
        Self(self.0.node(op, inputs, y, &[]))
    }

    fn pool(self, op: &str, x: &str, y: &str) -> Self {
        Self(self.0.node(op, &[x], y, &[ints("kernel_shape", &[2, 2])]))
    }

    fn concat(self, inputs: &[&str], y: &str) -> Self {
        let axis = align_check_tests::onnx::int("axis", 1);
        Self(self.0.node("Concat", inputs, y, &[axis]))
    }

    fn write(self, folder: &Path, output: &str, dims: &[i64]) -> std::path::PathBuf {
        let path = folder.join("model.onnx");
        self.0.output(output, dims).write(&path);
        path
    }

    /// What `plan` says.
    fn plan(self, target: &str, output: &str, dims: &[i64]) -> String {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = self.write(folder.path(), output, dims);
        let run = run(args!["plan", &path, "-t", target]);
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        run.stdout
    }
}

const IMAGE: [i64; 4] = [1, CHANNELS, 8, 8];
const HALF: [i64; 4] = [1, CHANNELS, 7, 7];

/// `conv1 -> relu -> conv2 -> add <- x`, without a quantizer between `conv2` and `add`.
fn block() -> Net {
    Net::new()
        .q("x", "xq", 0.05)
        .conv("xq", "conv1")
        .op("Relu", &["conv1"], "relu1")
        .q("relu1", "q1", 0.05)
        .conv("q1", "conv2")
}

/// The addition, with what reads it.
fn added(net: Net, conv: &str, identity: &str) -> Net {
    net.op("Add", &[conv, identity], "add")
        .op("Relu", &["add"], "relu2")
}

#[test]
fn the_classic_residual_block() {
    let net = added(block(), "conv2", "xq")
        .q("relu2", "q2", 0.07)
        .conv("q2", "y");
    insta::assert_snapshot!(net.plan("tensorrt", "y", &IMAGE));
}

#[test]
fn a_quantizer_on_both_branches() {
    let net = added(block().q("conv2", "qc", 0.05), "qc", "xq")
        .q("relu2", "q2", 0.07)
        .conv("q2", "y");
    insta::assert_snapshot!(net.plan("tensorrt", "y", &IMAGE));
}

#[test]
fn two_convolution_branches() {
    let net = added(block().conv("xq", "skip"), "conv2", "skip")
        .q("relu2", "q2", 0.07)
        .conv("q2", "y");
    insta::assert_snapshot!(net.plan("tensorrt", "y", &IMAGE));
}

#[test]
fn two_convolution_branches_one_of_them_quantized() {
    let net = block().conv("xq", "skip").q("skip", "qs", 0.06);
    let net = added(net, "conv2", "qs")
        .q("relu2", "q2", 0.07)
        .conv("q2", "y");
    insta::assert_snapshot!(net.plan("tensorrt", "y", &IMAGE));
}

#[test]
fn a_concat_behind_the_block() {
    let net = added(block(), "conv2", "xq")
        .concat(&["relu2", "q1"], "cat")
        .q("cat", "y", 0.09);
    insta::assert_snapshot!(net.plan("tensorrt", "y", &[1, 2 * CHANNELS, 8, 8]));
}

#[test]
fn a_pool_behind_the_block() {
    let net = added(block(), "conv2", "xq")
        .pool("MaxPool", "relu2", "pool")
        .q("pool", "y", 0.07);
    insta::assert_snapshot!("maximum", net.plan("tensorrt", "y", &HALF));
    let net = added(block(), "conv2", "xq")
        .pool("AveragePool", "relu2", "pool")
        .q("pool", "y", 0.07);
    insta::assert_snapshot!("average", net.plan("tensorrt", "y", &HALF));
}

#[test]
fn a_product_behind_the_block() {
    let net = added(block(), "conv2", "xq")
        .q("relu2", "q2", 0.07)
        .op("Sigmoid", &["q2"], "gate")
        .op("Mul", &["q2", "gate"], "mul")
        .q("mul", "y", 0.07);
    insta::assert_snapshot!(net.plan("tensorrt", "y", &IMAGE));
}

/// Several readers with a quantizer each, a chain, a rescaled concat.
fn tangle() -> Net {
    Net::new()
        .q("x", "xq", 0.05)
        .conv("xq", "conv1")
        .q("conv1", "qa", 0.05)
        .q("conv1", "qb", 0.05)
        .conv("qa", "conv2")
        .q("conv2", "q2", 0.11)
        .conv("qb", "conv3")
        .concat(&["q2", "conv3"], "cat")
        .q("cat", "y", 0.06)
}

#[test]
fn merged_quantizers_a_chain_and_a_cloned_one() {
    let dims = [1, 2 * CHANNELS, 8, 8];
    insta::assert_snapshot!(tangle().plan("tensorrt", "y", &dims));
}

#[test]
fn what_onnx_runtime_leaves_in_float() {
    // int8: a ReLU that the range does not imply, and codes with two readers.
    let net = block().q("conv2", "q2", 0.05);
    let net = net.op("Add", &["q2", "xq"], "add").q("add", "y", 0.07);
    insta::assert_snapshot!("signed", net.plan("onnxruntime", "y", &IMAGE));
    // uint8 from 0 on: everything is fused.
    let net = Net::new()
        .qu("x", "xq", 0.05, 128)
        .conv("xq", "conv1")
        .op("Relu", &["conv1"], "relu1")
        .qu("relu1", "q1", 0.05, 0)
        .conv("q1", "conv2")
        .qu("conv2", "q2", 0.05, 128)
        .op("Add", &["q2", "xq"], "add")
        .qu("add", "y", 0.07, 128);
    insta::assert_snapshot!("unsigned", net.plan("onnxruntime", "y", &IMAGE));
    // Two pairs in a row become one of the range that they share.
    let net = Net::new()
        .qu("x", "xq", 0.05, 100)
        .qu("xq", "q1", 0.07, 140)
        .conv("q1", "conv1")
        .qu("conv1", "y", 0.05, 128);
    insta::assert_snapshot!("chain", net.plan("onnxruntime", "y", &IMAGE));
}

#[test]
fn openvino_clips_between_a_convolution_and_an_addition() {
    let net = added(block().q("conv2", "qc", 0.05), "qc", "xq").q("relu2", "y", 0.07);
    insta::assert_snapshot!(net.plan("openvino-cpu", "y", &IMAGE));
}

/// A convolution, a `ReLU6`, and a quantizer with this scale of codes from 0 on.
fn relu6(scale: f32) -> Net {
    let net = Net::new().qu("x", "xq", 0.0625, 128).conv("xq", "conv");
    let onnx = net
        .0
        .reals("zero", &[], &[0.0])
        .reals("six", &[], &[6.0])
        .node("Clip", &["conv", "zero", "six"], "relu6", &[]);
    Net(onnx).qu("relu6", "y", scale, 0)
}

#[test]
fn a_relu6_on_the_hexagon_delegate_is_quantized_twice() {
    let plan = relu6(0.02).plan("hexagon-nn", "y", &IMAGE);
    insta::assert_snapshot!("relu6", plan);
    // A range that ends at 6 is the kernel's own.
    let plan = relu6(6.0 / 255.0).plan("hexagon-nn", "y", &IMAGE);
    assert!(!plan.contains("placement.relu6"), "{plan}");
    // Codes of 0 to 6 first: other codes than those of one quantizer.
    let found = check(relu6(0.02), "y", &IMAGE, "hexagon-nn", &[]);
    let wrong = differing(&found, "y_q");
    let cause = &layer(&found, "y_q")["cause"];
    assert_eq!(cause["name"], "placement", "{cause}");
    let once = check(relu6(0.02), "y", &IMAGE, "hexagon-nn", &["relu6 ="]);
    assert!(wrong > differing(&once, "y_q"), "{wrong}");
}

#[test]
fn an_operation_without_weights_that_writes_no_codes_is_in_float() {
    let net = |quantized: bool| {
        let net = Net::new()
            .q("x", "xq", 0.05)
            .pool("AveragePool", "xq", "pool");
        if quantized {
            net.q("pool", "pq", 0.05).conv("pq", "y")
        } else {
            net.conv("pool", "y")
        }
    };
    let plan = net(false).plan("tensorrt", "y", &HALF);
    let said = "placement.unweighted (documented): 'node_pool' reads codes, and no quantizer stands behind it: AveragePool in float";
    assert!(plan.contains(said), "{plan}");
    let plan = net(true).plan("tensorrt", "y", &HALF);
    assert!(!plan.contains("placement.unweighted"), "{plan}");
    // Without the rule nothing is said of it.
    let plan = net(false).plan("openvino-cpu", "y", &HALF);
    assert!(!plan.contains("placement.unweighted"), "{plan}");
}

#[test]
fn a_convolution_without_observers_stays_in_float_in_pytorch() {
    let net = || {
        let net = Net::new().qu("x", "xq", 0.05, 128).conv("xq", "conv1");
        let values: Vec<f32> = weights(1).iter().map(|&w| w as f32 / 64.0).collect();
        let onnx = net
            .qu("conv1", "q1", 0.05, 128)
            .0
            .reals("w2", &[CHANNELS, CHANNELS, 1, 1], &values)
            .node("Conv", &["q1", "w2"], "conv2", &[]);
        Net(onnx).qu("conv2", "y", 0.05, 128)
    };
    for target in ["fbgemm", "qnnpack", "onednn", "pytorch-x86"] {
        let plan = net().plan(target, "y", &IMAGE);
        let said = "placement.unquantized (source): the weights of 'node_conv2' are not quantized: Conv in float";
        assert!(plan.contains(said), "{target}: {plan}");
        assert!(plan.contains("float    node_conv2"), "{target}: {plan}");
        assert!(plan.contains("integer  node_conv1"), "{target}: {plan}");
    }
    let found = check(net(), "y", &IMAGE, "fbgemm", &[]);
    assert_eq!(layer(&found, "y_q")["float"], true);
    let without = check(net(), "y", &IMAGE, "fbgemm", &["unquantized ="]);
    assert_eq!(layer(&without, "y_q")["float"], false);
}

/// What a check finds, as JSON: of an embedded target, with these lines of its file left out.
fn check(net: Net, output: &str, dims: &[i64], target: &str, without: &[&str]) -> Value {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = net.write(folder.path(), output, dims);
    let text = fs::read_to_string(root().join(format!("specs/{target}.toml"))).expect("a spec");
    let kept: Vec<&str> = text
        .lines()
        .filter(|line| !without.iter().any(|w| line.starts_with(w)))
        .collect();
    assert!(without.is_empty() || kept.len() < text.lines().count());
    let spec = folder.path().join("spec.toml");
    fs::write(&spec, kept.join("\n")).expect("a writable folder");
    let report = folder.path().join("out.json");
    let run = run(args![
        &model,
        "-t",
        &spec,
        "--samples",
        "2",
        "--report",
        format!("json={}", report.display())
    ]);
    assert!(matches!(run.code, Some(0 | 1)), "{}", run.stderr);
    let text = fs::read_to_string(&report).expect("the report");
    serde_json::from_str(&text).expect("JSON")
}

/// The layer that makes a tensor.
fn layer<'v>(found: &'v Value, tensor: &str) -> &'v Value {
    let layers = found["layers"].as_array().expect("layers");
    let own = layers.iter().find(|layer| layer["tensor"] == tensor);
    own.unwrap_or_else(|| panic!("no layer makes '{tensor}'"))
}

fn differing(found: &Value, tensor: &str) -> u64 {
    layer(found, tensor)["mode"]["isolated"]["differing"]
        .as_u64()
        .unwrap_or_else(|| panic!("'{tensor}' was not compared"))
}

#[test]
fn a_collapsed_chain_rounds_once() {
    // Powers of two: what differs is the placement's, not float32's.
    let net = || {
        Net::new()
            .q("x", "xq", 0.0625)
            .conv("xq", "conv1")
            .q("conv1", "q1", 0.125)
            .q("q1", "q2", 0.25)
            .conv("q2", "y")
    };
    let found = check(net(), "y", &IMAGE, "tensorrt", &[]);
    assert_eq!(
        layer(&found, "q1_q")["verdict"],
        "no such tensor on the target"
    );
    assert_eq!(layer(&found, "q1_q")["rules"][0], "placement.chains");
    let wrong = differing(&found, "q2_q");
    assert!(wrong > 0);
    let cause = &layer(&found, "q2_q")["cause"];
    assert_eq!(cause["name"], "placement");
    assert_eq!(cause["explains"], wrong);
    let kept = check(net(), "y", &IMAGE, "tensorrt", &["chains ="]);
    assert_eq!(differing(&kept, "q1_q"), 0);
    assert_eq!(differing(&kept, "q2_q"), 0);
}

#[test]
fn a_quantizer_in_front_of_a_maximum_changes_no_code() {
    let net = || {
        Net::new()
            .q("x", "xq", 0.0625)
            .conv("xq", "conv1")
            .pool("MaxPool", "conv1", "pool")
            .q("pool", "y", 0.125)
    };
    let found = check(net(), "y", &HALF, "tensorrt", &[]);
    assert_eq!(
        layer(&found, "conv1")["verdict"],
        "no such tensor on the target"
    );
    assert_eq!(differing(&found, "y_q"), 0);
    assert_eq!(layer(&found, "y_q")["float"], false);
    let kept = check(net(), "y", &HALF, "tensorrt", &["commutes ="]);
    assert_eq!(differing(&kept, "y_q"), 0);
    assert_eq!(layer(&kept, "conv1")["verdict"], "float on target");
}

#[test]
fn a_clone_on_codes_rescales_them() {
    let net = || {
        Net::new()
            .q("x", "xq", 0.0625)
            .conv("xq", "conv1")
            .q("conv1", "q1", 0.125)
            .conv("q1", "conv2")
            .q("q1", "qx", 0.125)
            .concat(&["q1", "conv2"], "cat")
            .q("cat", "y", 0.25)
    };
    let dims = [1, 2 * CHANNELS, 8, 8];
    let found = check(net(), "y", &dims, "tensorrt", &[]);
    // Both ways the codes of the branch are rounded twice.
    assert_eq!(differing(&found, "y_q"), 0);
    assert_eq!(
        layer(&found, "conv2")["verdict"],
        "no such tensor on the target"
    );
    let kept = check(net(), "y", &dims, "tensorrt", &["concat ="]);
    assert_eq!(differing(&kept, "y_q"), 0);
}

#[test]
fn an_inner_quantizer_that_clips_is_the_cause() {
    let net = || {
        let net = block().q("conv2", "qc", 0.25);
        added(net, "qc", "xq").q("relu2", "y", 0.125)
    };
    let found = check(net(), "y", &IMAGE, "openvino-cpu", &[]);
    assert_eq!(
        layer(&found, "qc_q")["verdict"],
        "no such tensor on the target"
    );
    let wrong = differing(&found, "y_q");
    assert!(wrong > 0);
    let cause = &layer(&found, "y_q")["cause"];
    let decisions = cause["decisions"].as_array().expect("decisions");
    assert!(decisions.iter().any(|name| name == "placement"), "{cause}");
    assert!(cause["explains"].as_u64() > Some(wrong / 2), "{cause}");
}

#[test]
fn recorded_residual_additions_are_reproduced() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let report = folder.path().join("verify.json");
    let run = run(args![
        "verify",
        golden("openvino/residual"),
        "--report",
        format!("json={}", report.display())
    ]);
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    let found: Value =
        serde_json::from_str(&fs::read_to_string(&report).expect("the report")).expect("JSON");
    let case = &found["cases"][0];
    assert_eq!(case["end_to_end"]["differing"], 0);
    // What was recorded, the target has.
    assert!(case["absent"].is_null());
}

#[test]
fn the_plan_is_json_and_a_picture_too() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = tangle().write(folder.path(), "y", &[1, 2 * CHANNELS, 8, 8]);
    let (json, dot) = (folder.path().join("p.json"), folder.path().join("p.dot"));
    let run = run(args![
        "plan",
        &path,
        "-t",
        "tensorrt,openvino-cpu",
        "--report",
        format!("json={}", json.display()),
        "--report",
        format!("dot={}", dot.display())
    ]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let plan: Value =
        serde_json::from_str(&fs::read_to_string(&json).expect("the report")).expect("JSON");
    assert_eq!(plan["schema"], "align-check/plan/1");
    assert_eq!(plan["targets"][0]["target"], "tensorrt");
    assert_eq!(plan["targets"][0]["counts"]["merged"], 1);
    let dot = fs::read_to_string(&dot).expect("the picture");
    assert!(dot.starts_with("digraph plan {") && dot.ends_with("}\n"));
    assert_eq!(dot.matches("subgraph cluster_").count(), 2);
}
