//! Plans against what engines really fused: `kernels.json` of golden/toolchains, lists of kernels with the nodes that
//! each computes at once and the tensor that it writes.

use std::collections::BTreeMap;
use std::fs;

use align_check_tests::{Npz, args, golden, root, run};
use serde_json::Value;

/// A kernel of an engine, or of a plan.
#[derive(Debug, Clone)]
struct Kernel {
    /// Whether it reads and writes codes.
    integer: bool,
    /// What it computes.
    nodes: Vec<String>,
    /// Its operator, without what is fused into it.
    op: String,
    /// The target whose kernels compute it, where a delegate leaves it.
    left_to: Option<String>,
    /// The rules that it rests on.
    rules: Vec<String>,
}

/// Kernels by the tensor that they write.
type Kernels = BTreeMap<String, Kernel>;

fn texts(list: &Value) -> Vec<String> {
    let list = list.as_array().expect("a list");
    let text = |v: &Value| v.as_str().expect("a name").to_owned();
    list.iter().map(text).collect()
}

/// OpenVINO's layers have one name with their only tensor.
fn tensor(name: &str) -> String {
    name.trim_end_matches("_output_0").to_owned()
}

/// What an engine did.
fn engine(case: &str) -> Vec<(String, Value)> {
    let path = golden("toolchains").join(case).join("kernels.json");
    let text = fs::read_to_string(path).expect("kernels.json");
    let list: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    let output = |k: &Value| tensor(k["output"].as_str().expect("a tensor"));
    list.into_iter().map(|k| (output(&k), k)).collect()
}

/// The kernels of a plan, and its tensors that the target lacks.
fn plan(model: &str, target: &str) -> (Kernels, Vec<String>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let report = folder.path().join("plan.json");
    let model = golden("toolchains").join(model);
    let to = format!("json={}", report.display());
    let run = run(args!["plan", &model, "-t", target, "--report", to]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let text = fs::read_to_string(&report).expect("the report");
    let found: Value = serde_json::from_str(&text).expect("JSON");
    let found = &found["targets"][0];
    let kernels = found["kernels"].as_array().expect("kernels").iter();
    let kernels = kernels.map(|k| {
        let kernel = Kernel {
            integer: k["arithmetic"] == "integer",
            nodes: texts(&k["nodes"]),
            op: texts(&k["ops"])[0]
                .split('+')
                .next()
                .unwrap_or_default()
                .to_owned(),
            left_to: k["left_to"].as_str().map(str::to_owned),
            rules: texts(&k["rules"]),
        };
        (tensor(k["output"].as_str().expect("a tensor")), kernel)
    });
    let quantizers = found["quantizers"].as_array().expect("quantizers").iter();
    let gone = quantizers
        .filter(|q| q["at"].as_array().is_none_or(Vec::is_empty))
        .map(|q| tensor(q["tensor"].as_str().expect("a tensor")));
    (kernels.collect(), gone.collect())
}

/// ONNX Runtime: a `QLinear` kernel, or one that took the `DequantizeLinear` in front of it, computes on codes; a
/// `QuantizeLinear` of its own ends float kernels.
fn onnxruntime(case: &str) -> Kernels {
    let mut kernels = Kernels::new();
    for (output, kernel) in engine(&format!("{case}-engine")) {
        let name = kernel["kernel"].as_str().expect("a kernel");
        let nodes = texts(&kernel["nodes"]);
        let fused = nodes.len() > 1 || case == "ort-qoperator-u8";
        let integer = name.starts_with("QLinear") || fused && name != "DequantizeLinear";
        let kernel = Kernel {
            integer,
            nodes,
            op: name.to_owned(),
            left_to: None,
            rules: Vec::new(),
        };
        kernels.insert(output, kernel);
    }
    kernels
}

/// The operator of a kernel that a plan calls by the node of an operator, which the engine fused into one kernel of
/// codes, or left in float with a `QuantizeLinear` behind it.
#[track_caller]
fn agrees_with_onnxruntime(case: &str, integers: usize, floats: usize) {
    let engine = onnxruntime(case);
    let (plan, gone) = plan(&format!("{case}/model.onnx"), "onnxruntime");
    assert!(
        gone.iter().all(|tensor| !engine.contains_key(tensor)),
        "{gone:?}"
    );
    let mut counts = [0, 0];
    for (output, kernel) in &plan {
        let own = engine.get(output);
        let own =
            own.unwrap_or_else(|| panic!("{case}: no kernel of the engine writes '{output}'"));
        let node = &kernel.nodes[0];
        if node == "image_QuantizeLinear" {
            assert_eq!(own.nodes, kernel.nodes, "{case}");
            continue;
        }
        assert_eq!(
            kernel.integer, own.integer,
            "{case}: '{node}' -> '{output}'"
        );
        if own.integer {
            assert!(own.nodes.contains(node), "{case}: {node} in {own:?}");
        }
        counts[usize::from(!own.integer)] += 1;
    }
    assert_eq!(counts, [integers, floats], "{case}");
    // What the engine computes on codes, the plan has.
    for (output, kernel) in &engine {
        assert!(
            !kernel.integer || plan.contains_key(output),
            "{case}: '{output}'"
        );
    }
}

#[test]
fn onnx_runtime_fuses_what_the_plan_says() {
    agrees_with_onnxruntime("ort-qdq-u8", 16, 0);
    agrees_with_onnxruntime("ort-qoperator-u8", 16, 0);
    // int8: 5 of 8 convolutions fuse; the addition, a pool and a maximum do not.
    agrees_with_onnxruntime("ort-qdq-s8", 10, 12);
    // 16 bits: nothing but a reshape of codes.
    agrees_with_onnxruntime("ort-qdq-u16", 2, 14);
}

/// OpenVINO says the element type that a kernel writes. `apart`: convolutions that write reals, and the quantizer behind
/// each is a float kernel of its own: the codes are those of one kernel, whose scales are applied in float, too.
#[track_caller]
fn agrees_with_openvino(case: &str, model: &str, apart: &[&str]) {
    let (plan, gone) = plan(model, "openvino-cpu");
    let engine = engine(&format!("{case}-engine"));
    assert_eq!(
        gone.len(),
        1,
        "{case}: the quantizer in front of the addition"
    );
    let mut counted = 0;
    for (output, kernel) in &engine {
        assert!(!gone.contains(output), "{case}: '{output}'");
        let nodes = texts(&kernel["nodes"]);
        if apart.contains(&output.as_str()) {
            assert_eq!(kernel["precision"], "f32");
            continue;
        }
        let own = plan.get(output);
        let own =
            own.unwrap_or_else(|| panic!("{case}: the plan has no kernel that writes '{output}'"));
        let integer = kernel["precision"] != "f32";
        assert_eq!(own.integer, integer, "{case}: '{output}'");
        assert!(
            nodes.contains(&own.nodes[0]) || own.nodes[0] == *output,
            "{case}: {own:?}, {nodes:?}"
        );
        // The addition is a part of the convolution on both sides, and nowhere else is anything.
        let joined = nodes.iter().any(|node| node == "/add/Add");
        assert_eq!(own.nodes.len(), 1 + usize::from(joined), "{case}: {own:?}");
        counted += 1;
    }
    assert_eq!(counted, engine.len() - apart.len());
}

#[test]
fn openvino_fuses_what_the_plan_says() {
    agrees_with_openvino("nncf-performance", "nncf-performance/model.xml", &[]);
    agrees_with_openvino("nncf-mixed", "nncf-mixed/model.xml", &[]);
    agrees_with_openvino("nncf-full-range", "nncf-full-range/model.xml", &[]);
    agrees_with_openvino(
        "nncf-onnx",
        "nncf-onnx/model.onnx",
        &["/head/Conv", "/head_1/Conv"],
    );
}

/// `LiteRT`: the operators that the XNNPACK delegate takes, `taken`, and those that stay on the built-in kernels, `left`.
/// The plan has a kernel for each operator of the file, as the engine has; kernels that only say how the importer orders
/// axes are no operators.
///
/// One difference, `joined`: a QUANTIZE behind an operator that keeps its input's grid ends that operator's kernel in the
/// plan; the engine, which takes both, has two.
#[track_caller]
fn agrees_with_litert(case: &str, taken: usize, left: &[&str], joined: &[[&str; 2]]) {
    let target = "xnnpack";
    let model = recorded_model(case);
    let engine = engine(case);
    let (plan, gone) = plan(&model, target);
    assert_eq!(gone, Vec::<String>::new(), "{case}");
    let mut own: BTreeMap<&str, (&String, &Kernel)> = BTreeMap::new();
    for (output, kernel) in &plan {
        let [node] = &kernel.nodes[..] else {
            panic!("{case}: {kernel:?} is more than one operator");
        };
        let view = ["(channels first)", "(file order)"];
        if !view.iter().any(|end| output.ends_with(end)) {
            own.insert(node, (output, kernel));
        }
    }
    let (mut delegated, mut builtin) = (0, Vec::new());
    for (output, kernel) in &engine {
        let node = texts(&kernel["nodes"])[0].clone();
        let stays = kernel["kernel"] == "builtin";
        if stays {
            builtin.push(node.clone());
        } else {
            delegated += 1;
        }
        // The first of two waits for the second, whose tensor the plan's kernel writes.
        if joined.iter().any(|[first, _]| *first == node) {
            assert!(!stays, "{case}: {node}");
            continue;
        }
        let first = joined.iter().find(|[_, second]| *second == node);
        let name = first.map_or(node.as_str(), |[first, _]| *first);
        let (made, planned) = own
            .remove(name)
            .unwrap_or_else(|| panic!("{case}: the plan has no kernel '{name}'"));
        assert_eq!(made, output, "{case}: {node}");
        let expected = stays.then_some("litert-x86");
        assert_eq!(planned.left_to.as_deref(), expected, "{case}: {node}");
    }
    assert!(own.is_empty(), "{case}: not of the engine: {own:?}");
    assert_eq!(
        (delegated, builtin),
        (taken, left.iter().map(ToString::to_string).collect()),
        "{case}"
    );
}

/// The model of a recording below golden/toolchains, as a path from there.
fn recorded_model(case: &str) -> String {
    let folder = golden("toolchains").join(case);
    let text = fs::read_to_string(folder.join("recording.toml")).expect("recording.toml");
    let about: toml::Table = toml::from_str(&text).expect("TOML");
    let model = about.get("model").and_then(toml::Value::as_str);
    format!("{case}/{}", model.unwrap_or("model.tflite"))
}

#[test]
fn litert_delegates_what_the_plan_says() {
    let net = |name: &str| format!("../tflite/net-{name}-xnn");
    agrees_with_litert("tflite-ptq-xnn", 13, &["AVERAGE_POOL_2D_6"], &[]);
    let pair = ["MAX_POOL_2D_11", "QUANTIZE_12"];
    agrees_with_litert("tflite-qat-xnn", 15, &["AVERAGE_POOL_2D_6"], &[pair]);
    let left = ["AVERAGE_POOL_2D_6", "SOFTMAX_9"];
    agrees_with_litert(&net("residual-ptq"), 8, &left, &[]);
    let left = ["AVERAGE_POOL_2D_7", "SOFTMAX_11"];
    agrees_with_litert(&net("residual-qat"), 10, &left, &[]);
    let left = [
        "HARD_SWISH_1",
        "HARD_SWISH_3",
        "HARD_SWISH_12",
        "SOFTMAX_15",
    ];
    agrees_with_litert(&net("mobile-ptq"), 12, &left, &[]);
    let left = ["RESIZE_NEAREST_NEIGHBOR_2", "SOFTMAX_11"];
    agrees_with_litert(&net("decoder-ptq"), 10, &left, &[]);
}

/// Files of one operator each, with all kinds of grids: `delegated_to_xnnpack` of their recordings counts what is taken.
#[test]
fn operators_are_delegated_as_the_plan_says() {
    // A split is a kernel for each of its parts. One of 16 maxima was left: nobody knows why.
    let listed = [
        ("copies", "SPLIT", [2, 2], [5, 5]),
        ("max-pool", "MAX_POOL_2D", [15, 16], [16, 16]),
    ];
    // 16-bit codes beside those of 8 bits: no plan.
    let unsupported = ["dequantize-ref"];
    let (mut differences, mut left, mut operators) = (Vec::new(), 0, 0);
    let mut folders: Vec<_> = fs::read_dir(golden("tflite"))
        .expect("the recordings")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("a name")
        })
        .collect();
    folders.sort();
    for name in &folders {
        let case = format!("../tflite/{name}");
        let path = golden("tflite").join(name).join("recording.toml");
        if !path.is_file() {
            continue;
        }
        let about: toml::Table =
            toml::from_str(&fs::read_to_string(path).expect("recording.toml")).expect("TOML");
        let targets = about["targets"].as_array().expect("targets");
        let Some(counts) = about.get("delegated_to_xnnpack") else {
            continue;
        };
        if !targets.iter().any(|t| t.as_str() == Some("xnnpack")) {
            continue;
        }
        if unsupported.contains(&name.as_str()) {
            let model = golden("toolchains").join(recorded_model(&case));
            let run = run(args!["plan", &model, "-t", "xnnpack"]);
            assert_eq!(run.code, Some(3), "{name}");
            continue;
        }
        let (plan, _) = plan(&recorded_model(&case), "xnnpack");
        for count in counts.as_str().expect("a text").split(", ") {
            let [op, taken, "of", all] = count.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{name}: {count}");
            };
            let number = |text: &str| text.parse::<usize>().expect("a number");
            let engine = [number(taken), number(all)];
            let own = plan.values().filter(|kernel| kernel.op == op);
            let stays = own
                .clone()
                .filter(|kernel| kernel.left_to.is_none())
                .count();
            let planned = [stays, own.count()];
            if planned != engine {
                differences.push((name.clone(), op.to_owned(), engine, planned));
            }
            operators += engine[1];
            left += engine[1] - engine[0];
        }
    }
    let differences: Vec<_> = differences
        .iter()
        .map(|(name, op, engine, planned)| (name.as_str(), op.as_str(), *engine, *planned))
        .collect();
    assert_eq!(differences, listed);
    assert!(operators > 1000 && left > 300, "{left} of {operators}");
}

/// int16 activations are not delegated at all, and their targets have no delegate.
#[test]
fn litert_delegates_nothing_of_int16() {
    for case in ["tflite-int16x8", "../tflite/net-residual-int16"] {
        let kernels = engine(case);
        assert!(kernels.len() >= 10, "{case}");
        assert!(
            kernels.iter().all(|(_, k)| k["kernel"] == "builtin"),
            "{case}"
        );
        let (plan, _) = plan(&recorded_model(case), "tflite-int16x8-optimized");
        assert!(
            plan.values().all(|kernel| kernel.left_to.is_none()),
            "{case}"
        );
    }
}

/// What the delegate leaves is computed by the rules of the target that it is left to.
#[test]
fn what_is_left_has_the_rules_of_the_kernels_around() {
    let rules = |name: &str| -> BTreeMap<String, String> {
        let spec = align_check_specs::Spec::resolve(name).expect("an embedded target");
        let rules = spec.rules().into_iter();
        rules.map(|rule| (rule.path, rule.value)).collect()
    };
    let (own, around) = (rules("xnnpack"), rules("litert-x86"));
    let mut compared = std::collections::BTreeSet::new();
    for case in [
        "tflite-ptq-xnn",
        "../tflite/net-mobile-ptq-xnn",
        "../tflite/net-decoder-ptq-xnn",
    ] {
        let (plan, _) = plan(&recorded_model(case), "xnnpack");
        for kernel in plan.values().filter(|kernel| kernel.left_to.is_some()) {
            for rule in kernel.rules.iter().filter(|rule| rule.starts_with("ops.")) {
                assert!(own.contains_key(rule), "{rule}");
                assert_eq!(own.get(rule), around.get(rule), "{rule}");
                compared.insert(rule.clone());
            }
        }
    }
    let compared: Vec<&str> = compared.iter().map(String::as_str).collect();
    assert_eq!(compared, ["ops.average", "ops.hard-swish", "ops.softmax"]);
}

/// Elements that differ, and those within the noise floor, of a recording under a target.
fn verify(folder: &std::path::Path, target: &str) -> (u64, BTreeMap<String, u64>) {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let report = temporary.path().join("verify.json");
    let to = format!("json={}", report.display());
    let run = run(args!["verify", folder, "-t", target, "--report", to]);
    assert!(matches!(run.code, Some(0 | 1)), "{}", run.stderr);
    let text = fs::read_to_string(&report).expect("the report");
    let found: Value = serde_json::from_str(&text).expect("JSON");
    let case = &found["cases"][0];
    assert!(case["unsupported"].is_null(), "{case}");
    let count = |tally: &Value, what: &str| tally[what].as_u64().expect("a count");
    let ops = case["ops"].as_object().expect("operators");
    let differing = ops
        .values()
        .map(|tally| count(tally, "differing"))
        .sum::<u64>();
    let noise = ops
        .iter()
        .map(|(op, tally)| (op.clone(), count(tally, "noise")));
    let end = count(&case["end_to_end"], "differing");
    (differing + end, noise.filter(|(_, n)| *n > 0).collect())
}

#[test]
fn float_layers_of_engines_differ_within_the_noise_floor_and_nowhere_else() {
    let noise = |case: &str, target: &str| {
        let (differing, noise) = verify(&golden("toolchains").join(case), target);
        assert_eq!(differing, 0, "{case}");
        noise
    };
    let of = |list: &[(&str, u64)]| list.iter().map(|&(op, n)| (op.to_owned(), n)).collect();
    assert_eq!(noise("ort-qdq-u8-engine", "onnxruntime"), of(&[]));
    assert_eq!(noise("ort-qoperator-u8-engine", "onnxruntime"), of(&[]));
    // Means of four codes on a tie: with the rows of a window added first, float32 decides all as the engine does.
    assert_eq!(
        noise("ort-qdq-s8-engine", "onnxruntime"),
        of(&[("AveragePool", 23)])
    );
    let u16 = of(&[("AveragePool", 21), ("Conv", 11)]);
    assert_eq!(noise("ort-qdq-u16-engine", "onnxruntime"), u16);
    // Means in float32 that leave the network.
    assert_eq!(
        noise("nncf-onnx-engine", "openvino-cpu"),
        of(&[("Flatten", 80)])
    );
    for case in ["nncf-performance-engine", "nncf-mixed-engine"] {
        assert_eq!(
            noise(case, "openvino-cpu"),
            of(&[("Reshape", 80)]),
            "{case}"
        );
    }
}

#[test]
fn a_convolution_between_no_quantizers_stays_in_float() {
    for (model, floats) in [
        (
            "modelopt-onnx/model.onnx",
            ["/res1/conv/Conv", "/res2/conv/Conv"],
        ),
        (
            "modelopt-onnx-bn/model.onnx",
            ["/res1/conv/Conv", "/res2/conv/Conv"],
        ),
    ] {
        let engines = [
            "tensorrt",
            "onnxruntime",
            "openvino-cpu",
            "fbgemm",
            "onednn",
            "qnnpack",
        ];
        for target in engines {
            let (kernels, _) = plan(model, target);
            for node in floats {
                let mut own = kernels.values().filter(|k| k.nodes[0] == node);
                assert!(own.all(|k| !k.integer), "{model} on {target}: '{node}'");
            }
        }
        // Hardware without float units quantizes them itself, and says so.
        let path = golden("toolchains").join(model);
        let run = run(args!["plan", &path, "-t", "vitis-dpu"]);
        assert!(
            run.stdout
                .contains("weights without integer codes; the target quantizes"),
            "{}",
            run.stdout
        );
    }
    let path = golden("toolchains/modelopt-onnx/model.onnx");
    let run = run(args!["plan", &path, "-t", "tensorrt"]);
    assert!(
        run.stdout
            .contains("placement.unquantized (documented): '/res1/conv/Conv' reads"),
        "{}",
        run.stdout
    );
    assert!(
        !run.stdout.contains("quantizes the weights anew"),
        "{}",
        run.stdout
    );
}

#[test]
fn the_dpu_takes_quark_networks_as_they_are() {
    for model in ["quark-xint8/model.onnx", "quark-constants/model.onnx"] {
        let path = golden("toolchains").join(model);
        let run = run(args!["plan", &path, "-t", "vitis-dpu"]);
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        // uint8 around 128 is int8 around 0: nobody makes a grid of a range.
        assert!(
            !run.stdout
                .contains("the target's grid is made from its range"),
            "{}",
            run.stdout
        );
        let (kernels, _) = plan(model, "vitis-dpu");
        let pools = kernels.values().filter(|k| k.nodes[0].contains("ool"));
        assert!(
            pools.clone().count() >= 3 && pools.clone().all(|k| k.integer),
            "{model}"
        );
    }
    let path = golden("toolchains/quark-constants/model.onnx");
    let run = run(args!["plan", &path, "-t", "vitis-dpu"]);
    let one =
        "ops.average (source): the mean and the factor behind it are one operation of the target";
    assert_eq!(run.stdout.matches(one).count(), 7, "{}", run.stdout);
    let (kernels, _) = plan("quark-constants/model.onnx", "vitis-dpu");
    let sigmoid = kernels.values().find(|k| k.nodes[0] == "sigmoid");
    assert!(sigmoid.is_some_and(|k| k.integer), "{kernels:?}");
}

#[test]
fn the_documented_deploy_check_is_reproduced() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let network = golden("toolchains/quark-xint8");
    // It is of the first image.
    let file = fs::File::open(network.join("inputs.npz")).expect("inputs");
    let mut arrays = ndarray_npy::NpzReader::new(file).expect("an npz");
    let images: ndarray::ArrayD<f32> = arrays.by_name("image").expect("images");
    let mut shape = images.shape().to_vec();
    shape[0] = 1;
    let len = shape.iter().product();
    let first: Vec<f32> = images.iter().take(len).copied().collect();
    let inputs = folder.path().join("image.npz");
    Npz::new(&inputs).add("image", &shape, &first).finish();
    let (model, out) = (network.join("model.onnx"), folder.path().join("recording"));
    let dump = golden("toolchains/vitis-deploy-check");
    let run = run(args![
        "record",
        &model,
        "--from",
        &dump,
        "--layout",
        "nchw",
        "--out",
        &out,
        "-t",
        "vitis-dpu",
        "-i",
        &inputs
    ]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert_eq!(verify(&out, "vitis-dpu"), (0, BTreeMap::new()));
    // Half to even, as the tool that wrote the network rounds, is another result.
    let spec = fs::read_to_string(root().join("specs/vitis-dpu.toml")).expect("a spec");
    let even = spec.replace(
        r#"rounding = "half-up", saturate"#,
        r#"rounding = "half-even", saturate"#,
    );
    assert_ne!(even, spec);
    let path = folder.path().join("even.toml");
    fs::write(&path, even).expect("a writable folder");
    let (differing, _) = verify(&out, path.to_str().expect("a path of Unicode"));
    assert!(differing > 50, "{differing}");
}
