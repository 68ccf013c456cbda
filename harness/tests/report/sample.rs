//! Outcomes made by hand.

use align_check::outcome::{
    Against, Cause, Floor, LayerOutcome, ModelInfo, NetworkLayer, Outcome, OutputOutcome, Stats,
    TargetOutcome, Verdict, Witness,
};
use align_check_simulators::place::{Decision, Status};

/// A name that tries to take over a terminal, a web page and a spreadsheet.
pub const HOSTILE: &str = "=cmd|' /C calc'!A0<script>alert(1)</script>\u{1b}[31m\r\n\u{202e}&\"";
/// A name that is longer than any column.
pub const LONG: &str =
    "backbone.stages.3.blocks.11.feature_pyramid.lateral_convolutions.2.depthwise_separable/Conv";

pub fn stats(elements: u64, differing: u64, max_lsb: f64, noise: u64) -> Stats {
    let mut stats = Stats::default();
    stats.elements = elements;
    stats.differing = differing;
    stats.max_lsb = max_lsb;
    stats.noise = noise;
    stats.ties = Some((differing - noise) / 2);
    stats.saturated = (differing - noise) / 8;
    // Most of it in one channel.
    stats.channels = match differing {
        0 => Vec::new(),
        _ => (0..32).map(|c| differing >> (1 + (c + 5) % 32)).collect(),
    };
    stats.histogram = match differing {
        0 => vec![(0, elements)],
        _ => vec![
            (-1, differing / 2),
            (0, elements - differing),
            (1, differing - differing / 2),
        ],
    };
    stats.cosine = if differing == 0 { 1.0 } else { 0.999_875 };
    stats.sqnr_db = (differing > 0).then_some(36.25);
    stats
}

pub fn layer(name: &str, op: &str, verdict: Verdict, isolated: Stats) -> LayerOutcome {
    let mut cumulative = isolated.clone();
    cumulative.differing = (isolated.differing * 3).min(isolated.elements);
    cumulative.max_lsb += 2.0;
    LayerOutcome {
        name: name.to_owned(),
        op: op.to_owned(),
        tensor: format!("{name}_out"),
        verdict,
        isolated: Some(isolated),
        cumulative: Some(cumulative),
        drift: None,
        cause: None,
        grade: "source".to_owned(),
        rules: vec!["requantize.steps".to_owned(), "bias.format".to_owned()],
        mismatches: Vec::new(),
        float: verdict == Verdict::FloatOnTarget,
        lsb: Some(0.0625),
        witness: None,
        absent: None,
        kept: None,
    }
}

fn because(mut layer: LayerOutcome, name: &str, text: &str, explains: u64) -> LayerOutcome {
    let of = layer
        .isolated
        .as_ref()
        .map_or(0, |stats| stats.differing - stats.noise);
    layer.cause = Some(Cause {
        name: name.to_owned(),
        text: text.to_owned(),
        explains,
        of,
        tried: vec![
            ("multiplier".to_owned(), of / 8),
            (name.to_owned(), explains),
        ],
        differing: of,
        decisions: vec![name.to_owned()],
        sets: Vec::new(),
        together: false,
        recorded: false,
        float: false,
    });
    layer.witness = Some(Witness {
        sample: 1,
        index: vec![0, 31, 7, 7],
        accumulator: Some(-123_456.0),
        multiplier: Some("1518500250 / 2^38".to_owned()),
        before_rounding: Some(-37.5),
        expected: -38.0,
        got: -37.0,
    });
    layer
}

/// A chain of all layers, with a branch around every third.
fn network(targets: &[TargetOutcome]) -> Vec<NetworkLayer> {
    let mut network: Vec<NetworkLayer> = Vec::new();
    for layer in targets.iter().flat_map(|target| &target.layers) {
        if network.iter().any(|other| other.tensor == layer.tensor) {
            continue;
        }
        let inputs = match network.len() {
            0 => Vec::new(),
            at if at % 3 == 0 => vec![at - 3, at - 1],
            at => vec![at - 1],
        };
        network.push(NetworkLayer {
            name: layer.name.clone(),
            op: layer.op.clone(),
            tensor: layer.tensor.clone(),
            inputs,
        });
    }
    network
}

fn outcome(targets: Vec<TargetOutcome>) -> Outcome {
    Outcome {
        model: ModelInfo {
            is_onnx: true,
            path: "models/efficientnet-lite0.onnx".to_owned(),
            sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".to_owned(),
            format: "qonnx".to_owned(),
            notes: vec!["Quant nodes with rounding mode HALF_UP are half-away".to_owned()],
        },
        inputs: 4,
        generated: Some(7),
        against: Against::Reference,
        floor: None,
        network: network(&targets),
        targets,
        seconds: 12.345,
        peak_tensor_bytes: 77 << 20,
        peak_process_bytes: None,
        unsupported: Vec::new(),
        names: Vec::new(),
        interrupted: None,
    }
}

/// A target in which most layers differ.
fn misaligned() -> TargetOutcome {
    let double =
        "the target shifts twice: 31 half-up, rest half-away; the model rounds once: half-even";
    let mut layers = vec![
        because(
            layer(
                "conv1",
                "Conv+Relu",
                Verdict::Misaligned,
                stats(1_204_224, 80, 1.0, 0),
            ),
            "double rounding",
            double,
            80,
        ),
        because(
            layer(
                HOSTILE,
                "Conv",
                Verdict::Misaligned,
                stats(602_112, 40_021, 37.0, 12),
            ),
            "rounding",
            "half-up in place of half-even",
            39_000,
        ),
        because(
            layer(
                LONG,
                "Conv+HardSwish",
                Verdict::Misaligned,
                stats(9_375_627, 1_234_567, 2.0, 0),
            ),
            "double rounding",
            double,
            1_234_567,
        ),
        layer(
            "add/量化_加法",
            "Add",
            Verdict::WithinNoise,
            stats(301_056, 3, 1.0, 3),
        ),
        layer(
            "pool",
            "GlobalAveragePool",
            Verdict::WithinTolerance,
            stats(1_280, 1, 1.0, 0),
        ),
        layer(
            "softmax",
            "Softmax",
            Verdict::FloatOnTarget,
            stats(4_000, 1_900, 3.25e-6, 0),
        ),
    ];
    layers[5].lsb = None;
    layers[2].mismatches = vec!["weights on the logarithmic grid (GFPQ 8 bit, z = -12)".to_owned()];
    for index in 0..14 {
        let name = format!("stage.{index}.conv");
        let layer = match index {
            0..11 => because(
                layer(
                    &name,
                    "Conv+Relu",
                    Verdict::Misaligned,
                    stats(51_200, 80 + index, 1.0, 0),
                ),
                "double rounding",
                double,
                80 + index,
            ),
            _ => layer(&name, "Conv", Verdict::Aligned, stats(51_200, 0, 0.0, 0)),
        };
        layers.push(layer);
    }
    TargetOutcome {
        name: "nnie".to_owned(),
        summary: "HiSilicon NNIE: logarithmic quantizer (known), convolution a model".to_owned(),
        grade: "hypothesis".to_owned(),
        unknowns: vec![
            "accumulator width and overflow of convolutions and fully connected layers".to_owned(),
            "precision of the decode from logarithmic codes to linear numbers".to_owned(),
            "format of the bias".to_owned(),
            "where and how outputs are requantized".to_owned(),
        ],
        verdict: Verdict::Misaligned,
        exit_code: 1,
        mismatches: layers[..2]
            .iter()
            .zip([1.5, -3e-5])
            .map(|(layer, range)| {
                let why = format!(
                    "the model's grid is linear, the chip's logarithmic (GFPQ 8 bit, z = -63 from \
                     the quantizer's range {range})"
                );
                (layer.tensor.clone(), why)
            })
            .collect(),
        drifted: None,
        trace: None,
        outputs: vec![OutputOutcome {
            tensor: "stage.13.conv_out".to_owned(),
            stats: stats(4_000, 3_210, 41.0, 0),
            argmax_flips: 2,
            samples: 4,
        }],
        layers,
        inputs: Vec::new(),
        accuracy: None,
        decisions: vec![
            decision(
                "conv1_out",
                Status::Same,
                "placement.clones",
                "where the model has it",
            ),
            decision(
                HOSTILE,
                Status::Moved,
                "placement.residual",
                "the addition is a part of the convolution's kernel",
            ),
        ],
    }
}

fn decision(tensor: &str, status: Status, rule: &'static str, why: &str) -> Decision {
    Decision {
        tensor: tensor.to_owned(),
        node: format!("{tensor}_quantizer"),
        status,
        at: vec![format!("{tensor}_on_target")],
        quantizer: None,
        rule,
        why: why.to_owned(),
    }
}

/// A network of so many layers, as deep ones are: blocks with a branch around them, most layers misaligned by a
/// little, some by much, some not at all.
pub fn large(layers: usize) -> Outcome {
    let text =
        "the target shifts twice: 31 half-up, rest half-away; the model rounds once: half-even";
    let mut target = misaligned();
    target.layers = (0..layers)
        .map(|index| {
            let name = format!(
                "backbone/stage{}/block{}/conv{}/Conv",
                index / 40,
                index / 4,
                index
            );
            let op = ["Conv+Relu", "Conv", "Conv", "Add"][index % 4];
            let elements = 51_200 + 64 * index as u64;
            match index % 7 {
                0 | 3 => layer(&name, op, Verdict::Aligned, stats(elements, 0, 0.0, 0)),
                5 => layer(&name, op, Verdict::WithinNoise, stats(elements, 3, 1.0, 3)),
                _ => {
                    let differing = (index as u64 * 7919) % 4000 + 1;
                    let lsb = f64::from(index as u32 % 9 + 1);
                    let layer = layer(
                        &name,
                        op,
                        Verdict::Misaligned,
                        stats(elements, differing, lsb, 0),
                    );
                    let explains = differing - differing / 10;
                    because(layer, "double rounding", text, explains)
                }
            }
        })
        .collect();
    if let Some(last) = target.layers.last_mut() {
        "Softmax".clone_into(&mut last.op);
        last.verdict = Verdict::FloatOnTarget;
        last.lsb = None;
        last.cause = None;
    }
    target.decisions = target
        .layers
        .iter()
        .map(|layer| {
            let (status, why) = match layer.op.as_str() {
                "Add" => (Status::Moved, "the addition is a part of the convolution"),
                _ => (Status::Same, "where the model has it"),
            };
            decision(&layer.tensor, status, "placement.residual", why)
        })
        .collect();
    let mut outcome = outcome(vec![target]);
    // Blocks of four: the last one adds what the block began with.
    for (at, layer) in outcome.network.iter_mut().enumerate() {
        layer.inputs = match at % 4 {
            _ if at == 0 => Vec::new(),
            3 if at > 4 => vec![at - 4, at - 1],
            _ => vec![at - 1],
        };
    }
    outcome
}

/// A target in which nothing differs.
fn aligned() -> TargetOutcome {
    TargetOutcome {
        inputs: Vec::new(),
        accuracy: None,
        name: "vitis-dpu".to_owned(),
        summary: "AMD Vitis AI DPU: int8, power-of-two scales, one half-up shift".to_owned(),
        grade: "recorded".to_owned(),
        unknowns: Vec::new(),
        verdict: Verdict::Aligned,
        exit_code: 0,
        layers: vec![layer(
            "fc",
            "Gemm",
            Verdict::Aligned,
            stats(1_000, 0, 0.0, 0),
        )],
        outputs: Vec::new(),
        mismatches: Vec::new(),
        drifted: None,
        trace: None,
        decisions: Vec::new(),
    }
}

/// Two targets, everything present.
pub fn two() -> Outcome {
    let mut outcome = outcome(vec![misaligned(), aligned()]);
    outcome.generated = None;
    outcome.against = Against::RecordedReference {
        file: "float-run.npz".to_owned(),
        missing: ["a", "b\u{7}", "c", "d"].map(str::to_owned).to_vec(),
    };
    outcome.floor = Some(Floor {
        isolated: stats(9_375_627, 8, 1.0, 8),
        beyond_noise: 0,
        furthest_from_tie: 1.4e-5,
        free: stats(9_375_627, 386_946, 3.0, 0),
    });
    outcome
}

/// The misaligned target alone.
pub fn one() -> Outcome {
    outcome(vec![misaligned()])
}

/// One layer, nothing differs.
pub fn least() -> Outcome {
    outcome(vec![aligned()])
}

/// More targets than fit into lines.
pub fn many() -> Outcome {
    let named = |name: &str, mut target: TargetOutcome| {
        name.clone_into(&mut target.name);
        target
    };
    outcome(vec![
        named("nnie", misaligned()),
        named("vitis-dpu", aligned()),
        named("tensorrt", misaligned()),
        named(LONG, aligned()),
        named("exact", aligned()),
    ])
}

/// Numbers that no format can write.
pub fn infinite() -> Outcome {
    let mut broken = layer(
        "nan",
        "Conv",
        Verdict::Misaligned,
        stats(10, 10, f64::NAN, 0),
    );
    broken.cumulative = Some(stats(10, 10, f64::INFINITY, 0));
    if let Some(stats) = &mut broken.isolated {
        stats.cosine = f64::NAN;
        stats.sqnr_db = Some(f64::NEG_INFINITY);
    }
    let mut only = layer("freely", "Conv", Verdict::Misaligned, stats(10, 10, 1.0, 0));
    only.isolated = None;
    let mut target = misaligned();
    target.mismatches = Vec::new();
    target.layers = vec![broken, only];
    outcome(vec![target])
}
