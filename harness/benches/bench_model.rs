//! Speed of a whole check, as the command line runs it. The demo is in the repository; EfficientNet-Lite0 is
//! read from the shared models beside it, and left out, visibly, where they are not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use align_check::check::{Check, Findings, Mode, Target, Tolerance};
use align_check::inputs::{self, Sample};
use align_check::prove::prove;
use align_check_graph::{Limits, Model};
use align_check_simulators::kernels::Isa;
use align_check_simulators::network::Network;
use align_check_specs::Spec;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const ISOLATED: Mode = Mode {
    isolated: true,
    cumulative: false,
};
const BOTH: Mode = Mode {
    isolated: true,
    cumulative: true,
};
const CUMULATIVE: Mode = Mode {
    isolated: false,
    cumulative: true,
};

/// A file, counted from the repository's root.
fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A network, its exact reference and its targets, ready to be checked.
struct Prepared {
    network: Network,
    reference: Target,
    targets: Vec<Target>,
    isa: Isa,
}

impl Prepared {
    /// Reads and plans a model.
    fn new(model: &Path, shapes: &BTreeMap<String, Vec<usize>>, targets: &[&str]) -> Self {
        let isa = Isa::detect();
        let model = Model::read(model, &Limits::default()).expect("the model is readable");
        let graph = model.graph(shapes).expect("the inputs fit the model");
        let network = Network::new(graph).expect("every operation is supported");
        let spec = |name: &str| Spec::resolve(name).expect("the target is embedded");
        let reference =
            Target::new(&network, spec("exact"), None, isa).expect("the reference has a plan");
        let targets = targets
            .iter()
            .map(|name| Target::new(&network, spec(name), Some(&reference), isa))
            .collect::<Result<_, _>>()
            .expect("every target has a plan");
        Self {
            network,
            reference,
            targets,
            isa,
        }
    }

    /// One check.
    fn check(&self, mode: Mode, samples: &[Sample]) -> Findings {
        Check {
            network: &self.network,
            reference: &self.reference,
            targets: &self.targets,
            mode,
            tolerance: Tolerance::default(),
            recorded: None,
            recorded_reference: None,
            explain: true,
            drift: false,
            select: &|_| true,
            isa: self.isa,
            progress: &|| {},
        }
        .run(samples)
        .expect("the samples fit the network")
    }
}

/// Samples of a file, for a model.
fn samples(model: &Path, file: &Path) -> inputs::Samples {
    let infos = Model::read(model, &Limits::default())
        .expect("the model is readable")
        .inputs();
    let arrays = inputs::read_arrays(file)
        .expect("the inputs are readable")
        .into_iter()
        .map(|(key, array)| (file.to_path_buf(), key, array))
        .collect();
    inputs::samples(&[file.to_path_buf()], arrays, &infos, true).expect("the inputs fit the model")
}

/// The demo: 10 layers, 16 samples.
fn demo(c: &mut Criterion) {
    let model = file("golden/demo/model.qonnx.onnx");
    let given = samples(&model, &file("golden/demo/inputs.npz"));
    let mut group = c.benchmark_group("demo");
    group.throughput(Throughput::Elements(given.samples.len() as u64));
    for target in ["nnie", "tflite-reference"] {
        let prepared = Prepared::new(&model, &given.shapes, &[target]);
        group.bench_function(target, |b| b.iter(|| prepared.check(BOTH, &given.samples)));
    }
}

/// EfficientNet-Lite0, float scales: 66 compared layers, one photo of 224 x 224 pixels.
fn efficientnet(c: &mut Criterion) {
    let folder = file("../shared/models/efficientnet-lite0");
    let model = folder.join("w8a8/model.qonnx.onnx");
    if !model.exists() {
        eprintln!("efficientnet-lite0: skipped, there are no shared models");
        return;
    }
    let given = samples(&model, &folder.join("inputs.npz"));
    let photo = &given.samples[..1];
    let prepare = |targets: &[&str]| Prepared::new(&model, &given.shapes, targets);

    let mut group = c.benchmark_group("efficientnet-lite0");
    group.sample_size(10).warm_up_time(Duration::from_secs(1));
    group.bench_function("load-and-plan", |b| {
        b.iter(|| prepare(&["tflite-reference"]));
    });
    for target in ["onnxruntime", "tflite-reference", "nnie"] {
        let prepared = prepare(&[target]);
        group.bench_function(format!("both-{target}"), |b| {
            b.iter(|| prepared.check(BOTH, photo));
        });
    }
    // Accumulate once, finish many times: what further targets cost.
    for (name, targets) in [
        ("exact", &["exact"][..]),
        ("affine-4", &AFFINE),
        ("all", align_check_specs::names()),
    ] {
        let prepared = prepare(targets);
        group.bench_function(format!("isolated-{name}"), |b| {
            b.iter(|| prepared.check(ISOLATED, photo));
        });
    }
    let proved = prepare(&["onnxruntime"]);
    let target = &proved.targets[0];
    group.bench_function("prove-onnxruntime-exact", |b| {
        b.iter(|| {
            prove(
                &proved.network,
                target,
                &proved.reference,
                &|_| true,
                proved.isa,
            )
        });
    });
    let one_thread = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .expect("a pool of one thread");
    for target in ["exact", "onnxruntime", "tflite-reference", "nnie"] {
        let prepared = prepare(&[target]);
        for (name, mode) in [("both", BOTH), ("cumulative", CUMULATIVE)] {
            group.bench_function(format!("{name}-{target}-one-thread"), |b| {
                b.iter(|| one_thread.install(|| prepared.check(mode, photo)));
            });
        }
    }
    let prepared = prepare(&TEN);
    group.bench_function("isolated-ten-one-thread", |b| {
        b.iter(|| one_thread.install(|| prepared.check(ISOLATED, photo)));
    });
}

/// Targets that keep the model's grids, so that all of them share its sums.
const AFFINE: [&str; 4] = ["exact", "onnxruntime", "tflite-reference", "hexagon-nn"];

/// Ten of them.
const TEN: [&str; 10] = [
    "exact",
    "onnxruntime",
    "onnx-reference",
    "tflite-reference",
    "xnnpack",
    "litert-x86",
    "hexagon-nn",
    "openvino-cpu",
    "tvm",
    "tvm-tonearest",
];

criterion_group!(benches, demo, efficientnet);
criterion_main!(benches);
