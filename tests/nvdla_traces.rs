//! NVIDIA's test plan for NVDLA through the functional units, and the neighbouring rules that fail it.
//!
//! `../shared` holds a part of the tests of `nv_small`. `NVDLA_HW=PATH cargo test` with a checkout of
//! `nvdla/hw` (branch master, `1a65f1f5`) runs all of them, and those of the other configurations.

mod nvdla;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use align_check_specs::Rounding;
use align_check_tests::{say, shared, skip};

use nvdla::engine::{Config, Output, Prepared, RIGHT, Rules};
use nvdla::trace::{Expected, Trace};

/// `nv_small`.
const SMALL: Config = Config {
    atom: 8,
    mac_channels: 8,
    mac_kernels: 8,
};

/// The full configuration of branch nvdlav1, in INT16.
const FULL_INT16: Config = Config {
    atom: 32,
    mac_channels: 64,
    mac_kernels: 16,
};

/// Folders of `verif/tests/trace_tests`, their configuration, and how many tests there are to run: all
/// with features in memory whose images are below 4 MB.
const CONFIGURATIONS: [(&str, Config, usize); 6] = [
    ("nv_small", SMALL, 74),
    (
        "nv_small_256",
        Config {
            mac_channels: 32,
            ..SMALL
        },
        74,
    ),
    (
        "nv_small_256_full",
        Config {
            mac_channels: 32,
            ..SMALL
        },
        75,
    ),
    (
        "nv_medium_512",
        Config {
            atom: 16,
            mac_channels: 32,
            mac_kernels: 16,
        },
        3,
    ),
    (
        "nv_medium_1024_full",
        Config {
            atom: 32,
            mac_channels: 32,
            mac_kernels: 32,
        },
        4,
    ),
    (
        "nv_large",
        Config {
            atom: 32,
            mac_channels: 64,
            mac_kernels: 32,
        },
        11,
    ),
];

/// Which tests a neighbour is tried on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    Convolution,
    Average,
    Pooling,
    Sdp,
    SdpTable,
    Lrn,
    Chain,
    All,
}

impl Block {
    fn holds(self, test: &Prepared) -> bool {
        let starts = |block| test.trace.starts(block);
        match self {
            Self::Convolution => starts("CSC"),
            Self::Average => test.averages(),
            Self::Pooling => starts("PDP") && !starts("SDP"),
            Self::Sdp => {
                starts("SDP") && !starts("CSC") && !starts("PDP") && !test.uses_sdp_tables()
            }
            Self::SdpTable => starts("SDP") && test.uses_sdp_tables(),
            Self::Lrn => starts("CDP"),
            Self::Chain => starts("SDP") && starts("PDP"),
            Self::All => true,
        }
    }
}

/// A rule, the tests it is tried on, how many of them it passes: of those in `../shared`, of all.
///
/// As many as of the right rule: the tests do not decide.
type Row = (&'static str, Block, Rules, [usize; 2]);

const fn truncation(truncation: Rounding) -> Rules {
    Rules {
        truncation,
        ..RIGHT
    }
}

const fn average(average: Rounding) -> Rules {
    Rules { average, ..RIGHT }
}

const fn sdp(sdp: Rounding) -> Rules {
    Rules { sdp, ..RIGHT }
}

const fn sdp_table(sdp_table: Rounding) -> Rules {
    Rules { sdp_table, ..RIGHT }
}

const fn lrn_output(lrn_output: Rounding) -> Rules {
    Rules {
        lrn_output,
        ..RIGHT
    }
}

const fn lrn_table(lrn_table: Rounding) -> Rules {
    Rules { lrn_table, ..RIGHT }
}

const TABLE: [Row; 43] = [
    ("right", Block::All, RIGHT, [48, 74]),
    ("conv: right", Block::Convolution, RIGHT, [8, 12]),
    (
        "conv: half-up",
        Block::Convolution,
        truncation(Rounding::HalfUp),
        [4, 8],
    ),
    (
        "conv: half-even",
        Block::Convolution,
        truncation(Rounding::HalfEven),
        [4, 8],
    ),
    (
        "conv: half-toward-zero",
        Block::Convolution,
        truncation(Rounding::HalfTowardZero),
        [3, 7],
    ),
    (
        "conv: floor",
        Block::Convolution,
        truncation(Rounding::Floor),
        [2, 6],
    ),
    (
        "conv: trunc",
        Block::Convolution,
        truncation(Rounding::Trunc),
        [2, 6],
    ),
    ("pooling: right", Block::Pooling, RIGHT, [12, 15]),
    ("average: right", Block::Average, RIGHT, [8, 8]),
    (
        "average: half-up",
        Block::Average,
        average(Rounding::HalfUp),
        [6, 6],
    ),
    (
        "average: half-even",
        Block::Average,
        average(Rounding::HalfEven),
        [5, 5],
    ),
    (
        "average: half-toward-zero",
        Block::Average,
        average(Rounding::HalfTowardZero),
        [5, 5],
    ),
    (
        "average: floor",
        Block::Average,
        average(Rounding::Floor),
        [0, 0],
    ),
    (
        "average: trunc",
        Block::Average,
        average(Rounding::Trunc),
        [0, 0],
    ),
    (
        "average: rounded once",
        Block::Average,
        Rules {
            average_once: true,
            ..RIGHT
        },
        [5, 5],
    ),
    (
        "average: wraps",
        Block::Average,
        Rules {
            average_saturates: false,
            ..RIGHT
        },
        [8, 8],
    ),
    ("sdp: right", Block::Sdp, RIGHT, [14, 20]),
    ("sdp: half-up", Block::Sdp, sdp(Rounding::HalfUp), [14, 20]),
    (
        "sdp: half-even",
        Block::Sdp,
        sdp(Rounding::HalfEven),
        [10, 16],
    ),
    (
        "sdp: half-toward-zero",
        Block::Sdp,
        sdp(Rounding::HalfTowardZero),
        [10, 16],
    ),
    ("sdp: floor", Block::Sdp, sdp(Rounding::Floor), [7, 13]),
    ("sdp: trunc", Block::Sdp, sdp(Rounding::Trunc), [10, 15]),
    (
        "sdp: no shift without multiplier",
        Block::Sdp,
        Rules {
            shift_without_multiplier: false,
            ..RIGHT
        },
        [11, 17],
    ),
    (
        "sdp: 5 bits of shift",
        Block::Sdp,
        Rules {
            shift_bits: 5,
            ..RIGHT
        },
        [14, 18],
    ),
    (
        "sdp: offset after scale",
        Block::Sdp,
        Rules {
            output: Output::OffsetLast,
            ..RIGHT
        },
        [14, 18],
    ),
    ("sdp table: right", Block::SdpTable, RIGHT, [3, 3]),
    (
        "sdp table: half-up",
        Block::SdpTable,
        sdp_table(Rounding::HalfUp),
        [3, 3],
    ),
    (
        "sdp table: half-even",
        Block::SdpTable,
        sdp_table(Rounding::HalfEven),
        [3, 3],
    ),
    (
        "sdp table: floor",
        Block::SdpTable,
        sdp_table(Rounding::Floor),
        [2, 2],
    ),
    ("lrn: right", Block::Lrn, RIGHT, [11, 23]),
    (
        "lrn output: half-up",
        Block::Lrn,
        lrn_output(Rounding::HalfUp),
        [6, 17],
    ),
    (
        "lrn output: half-even",
        Block::Lrn,
        lrn_output(Rounding::HalfEven),
        [7, 17],
    ),
    (
        "lrn output: half-toward-zero",
        Block::Lrn,
        lrn_output(Rounding::HalfTowardZero),
        [6, 16],
    ),
    (
        "lrn output: floor",
        Block::Lrn,
        lrn_output(Rounding::Floor),
        [5, 14],
    ),
    (
        "lrn output: trunc",
        Block::Lrn,
        lrn_output(Rounding::Trunc),
        [5, 14],
    ),
    (
        "lrn table: half-up",
        Block::Lrn,
        lrn_table(Rounding::HalfUp),
        [11, 23],
    ),
    (
        "lrn table: half-even",
        Block::Lrn,
        lrn_table(Rounding::HalfEven),
        [7, 12],
    ),
    (
        "lrn table: half-toward-zero",
        Block::Lrn,
        lrn_table(Rounding::HalfTowardZero),
        [7, 12],
    ),
    (
        "lrn table: floor",
        Block::Lrn,
        lrn_table(Rounding::Floor),
        [4, 7],
    ),
    (
        "lrn table: trunc",
        Block::Lrn,
        lrn_table(Rounding::Trunc),
        [4, 7],
    ),
    (
        "lrn: missing channels as stored",
        Block::Lrn,
        Rules {
            lrn_fill: false,
            ..RIGHT
        },
        [11, 23],
    ),
    ("chain: right", Block::Chain, RIGHT, [0, 1]),
    (
        "unused channels zero",
        Block::All,
        Rules {
            unused_channels: false,
            ..RIGHT
        },
        [33, 55],
    ),
];

/// Tests of convolution that pass with all 16 bits of the padding value, of 8 and of 12.
const WIDE_PADDING: [usize; 2] = [1, 4];

/// The traces of branch nvdlav1, and the values of their dumps. The first has gaps between its rows, which
/// stay 0: 69,312 of its values are the convolution's.
const INT16: [(&str, usize); 4] = [
    ("googlenet_conv2_3x3_int16", 93_504),
    ("conv_8x8_fc_int16", 16),
    ("sdp_relu_int16", 2_048),
    ("pdp_max_pooling_int16", 3_136),
];

/// Values of the convolution of 69,312 that a neighbour gets wrong. 0: no exact tie falls on a value that
/// is not saturated.
const INT16_NEIGHBOURS: [(&str, Rules, usize); 11] = [
    ("truncation half-up", truncation(Rounding::HalfUp), 0),
    ("truncation half-even", truncation(Rounding::HalfEven), 0),
    ("truncation floor", truncation(Rounding::Floor), 3_906),
    ("truncation trunc", truncation(Rounding::Trunc), 3_906),
    ("converter half-up", sdp(Rounding::HalfUp), 0),
    ("converter half-even", sdp(Rounding::HalfEven), 0),
    ("converter floor", sdp(Rounding::Floor), 3_954),
    ("converter trunc", sdp(Rounding::Trunc), 3_771),
    (
        "one rounding for both",
        Rules {
            output: Output::Combined,
            ..RIGHT
        },
        2_854,
    ),
    (
        "offset after scale",
        Rules {
            output: Output::OffsetLast,
            ..RIGHT
        },
        55_605,
    ),
    ("right", RIGHT, 0),
];

/// The tests in a folder, in the order of their names; those without an image are left out, and said.
fn read(folder: &Path, config: Config) -> Vec<Prepared> {
    let mut folders: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    let mut tests = Vec::new();
    for path in folders {
        match Trace::read_cfg(&path) {
            Ok(trace) if trace.takes_images() => {
                skip(format_args!("{}: image input is not simulated", trace.name));
            }
            Ok(trace) => tests.push(Prepared::new(trace, config)),
            Err(why) => skip(why),
        }
    }
    tests
}

/// Holds the table to the tests; `column` of its counts.
fn check(tests: &[Prepared], column: usize) {
    let mut shown = "tests of nv_small that a rule passes".to_owned();
    let mut changed = Vec::new();
    for (name, block, rules, wanted) in TABLE {
        let tried: Vec<&Prepared> = tests.iter().filter(|test| block.holds(test)).collect();
        let passed = tried.iter().filter(|test| test.reproduces(&rules)).count();
        let _ = write!(shown, "\n{name:34} {passed:3} of {:3}", tried.len());
        if passed != wanted[column] {
            changed.push(format!("{name}: {passed}, known: {}", wanted[column]));
        }
    }
    let wide = tests
        .iter()
        .filter(|test| Block::Convolution.holds(test))
        .filter(|test| test.with_wide_padding().reproduces(&RIGHT))
        .count();
    let _ = write!(shown, "\n{:34} {wide:3}", "conv: 16 bits of padding value");
    if wide != WIDE_PADDING[column] {
        changed.push(format!("padding: {wide}"));
    }
    say(shown);
    assert!(changed.is_empty(), "{}", changed.join("\n"));
}

#[test]
fn nv_small_reproduces_and_neighbours_do_not() {
    let Some(folder) = shared("recordings/nvdla-nv-small-traces") else {
        return;
    };
    check(&read(&folder, SMALL), 0);
}

#[test]
fn a_checkout_reproduces_in_every_configuration() {
    let Some(checkout) = std::env::var_os("NVDLA_HW") else {
        skip(
            "NVDLA_HW names no checkout of nvdla/hw: 26 tests of nv_small and the other configurations",
        );
        return;
    };
    let folder = Path::new(&checkout).join("verif/tests/trace_tests");
    for (name, config, known) in CONFIGURATIONS {
        let tests = read(&folder.join(name), config);
        let failed: Vec<&str> = tests
            .iter()
            .filter(|test| !test.reproduces(&RIGHT))
            .map(|test| test.trace.name.as_str())
            .collect();
        say(format_args!(
            "{name}: {} of {}",
            tests.len() - failed.len(),
            tests.len()
        ));
        assert_eq!(failed, [""; 0], "{name}");
        if name == "nv_small" {
            check(&tests, 1);
        }
        assert_eq!(tests.len(), known, "{name}");
    }
}

#[test]
fn int16_reproduces_and_neighbours_do_not() {
    let Some(folder) = shared("recordings/nvdla-v1-int16-trace") else {
        return;
    };
    for (name, values) in INT16 {
        let test = Prepared::new(Trace::read_txn(&folder.join(name)), FULL_INT16);
        let Expected::Bytes(bytes) = &test.trace.expected else {
            panic!("{name} has no dump")
        };
        assert_eq!(bytes.len() / 2, values, "{name}");
        assert_eq!(test.differing(&RIGHT), 0, "{name}");
        if values == INT16[0].1 {
            let mut changed = Vec::new();
            for (rule, rules, wanted) in INT16_NEIGHBOURS {
                let differing = test.differing(&rules);
                say(format_args!(
                    "{name}: {rule:24} {differing:6} of {values} values differ"
                ));
                if differing != wanted {
                    changed.push(format!("{rule}: {differing}, known: {wanted}"));
                }
            }
            assert!(changed.is_empty(), "{}", changed.join("\n"));
        }
    }
}
