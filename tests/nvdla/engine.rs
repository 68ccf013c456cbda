//! Runs a test of NVDLA's test plan through the units, and its memory layout.
//!
//! An atom holds the channels of one position: `base + (c / atom) * surface + y * line + x * atom + c`,
//! in bytes. Units read where their RDMA block says. The unused channels of the last atom are computed
//! like the others and written.

use align_check_simulators::num::{Flagged, saturate, wrap};
use align_check_simulators::nvdla::cdp::Lrn;
use align_check_simulators::nvdla::conv::{
    Geometry, INT8_PARTIAL_BITS, INT16_PARTIAL_BITS, truncate,
};
use align_check_simulators::nvdla::lut::{Index, Lookup, Slope, Table, Which};
use align_check_simulators::nvdla::pdp::{Average, Method, Pooling};
use align_check_simulators::nvdla::sdp::{Alu, Multiply, X, Y, operand, output};
use align_check_simulators::nvdla::{Converter, ROUNDING, shift_right_saturate};
use align_check_specs::Rounding;

use super::trace::{Expected, Memory, Trace};

/// A configuration of NVDLA (`spec/defs/*.spec`).
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Bytes of an atom in memory.
    pub atom: usize,
    /// Channels that the MAC array takes at once; blocks of weights have as many.
    pub mac_channels: usize,
    /// Kernels of a group of weights.
    pub mac_kernels: usize,
}

/// How the SDP's output converter computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// `round((x - offset) * scale / 2^shift)`, to 17 bits, then to the output's.
    Right,
    /// The offset comes last: `round(x * scale / 2^shift) - offset`.
    OffsetLast,
    /// CACC's truncation and the converter round once, together. For programs without X and Y only.
    Combined,
}

/// The rules under test: NVDLA's, and their neighbours.
#[derive(Debug, Clone, Copy)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is one decision, right or wrong"
)]
pub struct Rules {
    /// CACC's truncation.
    pub truncation: Rounding,
    /// All of the SDP but its tables.
    pub sdp: Rounding,
    /// The SDP's tables.
    pub sdp_table: Rounding,
    /// Whether X shifts although its multiplier is bypassed.
    pub shift_without_multiplier: bool,
    /// The SDP's output converter.
    pub output: Output,
    /// Bits of its shift that count.
    pub shift_bits: u32,
    /// Both roundings of an average.
    pub average: Rounding,
    /// In place of them, one: `sum * recip_width * recip_height / 2^32`.
    pub average_once: bool,
    /// Whether an average saturates, or wraps.
    pub average_saturates: bool,
    /// The CDP's output converter.
    pub lrn_output: Rounding,
    /// The CDP's tables.
    pub lrn_table: Rounding,
    /// Whether channels that do not exist count as 0 in LRN, or as their bytes say.
    pub lrn_fill: bool,
    /// Whether unused channels are written as computed, or as zero.
    pub unused_channels: bool,
}

/// NVDLA's rules.
pub const RIGHT: Rules = Rules {
    truncation: ROUNDING,
    sdp: ROUNDING,
    sdp_table: ROUNDING,
    shift_without_multiplier: true,
    output: Output::Right,
    shift_bits: 6,
    average: ROUNDING,
    average_once: false,
    average_saturates: true,
    lrn_output: ROUNDING,
    lrn_table: ROUNDING,
    lrn_fill: true,
    unused_channels: true,
};

/// Bits of the convolution's padding value: those of a code.
const PAD_BITS: u32 = 8;

/// Values by row, column and channel; the channels fill atoms.
#[derive(Debug, Clone)]
pub struct Cube {
    height: usize,
    width: usize,
    /// Channels that mean something.
    channels: usize,
    /// All of them.
    lanes: usize,
    values: Vec<i64>,
}

impl Cube {
    fn at(&self, y: usize, x: usize, lane: usize) -> i64 {
        self.values[(y * self.width + x) * self.lanes + lane]
    }
}

/// Where a cube lies.
struct Place {
    base: u64,
    line: u64,
    surface: u64,
    /// Bytes of an element.
    bytes: u64,
    /// Channels of an atom.
    atom: usize,
}

impl Place {
    /// As registers that begin like this say.
    fn at(trace: &Trace, config: Config, registers: &str, bytes: u64) -> Self {
        let stride = |name: &str| trace.field(&format!("{registers}_{name}_STRIDE"), 31, 0);
        Self {
            base: trace.address(&format!("{registers}_BASE_ADDR_LOW")),
            line: stride("LINE").into(),
            surface: stride("SURFACE").into(),
            bytes,
            atom: config.atom / bytes as usize,
        }
    }

    fn of(&self, y: usize, x: usize, lane: usize) -> u64 {
        self.base
            + (lane / self.atom) as u64 * self.surface
            + y as u64 * self.line
            + (x * self.atom + lane % self.atom) as u64 * self.bytes
    }

    fn read(&self, memory: &Memory, [height, width, channels]: [usize; 3]) -> Cube {
        let lanes = channels.next_multiple_of(self.atom);
        let mut values = Vec::with_capacity(height * width * lanes);
        for y in 0..height {
            for x in 0..width {
                for lane in 0..lanes {
                    values.push(memory.int(self.of(y, x, lane), self.bytes).into());
                }
            }
        }
        Cube {
            height,
            width,
            channels,
            lanes,
            values,
        }
    }

    /// Writes what falls into the region that begins at `base`.
    fn write(&self, region: &mut [u8], base: u64, cube: &Cube, rules: &Rules) {
        for y in 0..cube.height {
            for x in 0..cube.width {
                for lane in 0..cube.lanes {
                    let used = lane < cube.channels || rules.unused_channels;
                    let value = if used { cube.at(y, x, lane) } else { 0 };
                    let Some(at) = self.of(y, x, lane).checked_sub(base) else {
                        continue;
                    };
                    let (at, size) = (at as usize, self.bytes as usize);
                    if let Some(place) = region.get_mut(at..at + size) {
                        place.copy_from_slice(&(value as i32).to_le_bytes()[..size]);
                    }
                }
            }
        }
    }
}

/// One test, its input read and its convolution done.
#[derive(Debug, Clone)]
pub struct Prepared {
    pub trace: Trace,
    config: Config,
    /// What the first unit behind the convolution gets: sums of products, or values from memory.
    source: Cube,
    /// The output region before the run.
    region: Vec<u8>,
}

impl Prepared {
    pub fn new(trace: Trace, config: Config) -> Self {
        let source = if trace.starts("CSC") {
            convolve(&trace, config, PAD_BITS)
        } else {
            let (registers, data, low, cube) = if trace.starts("SDP") {
                let format = "SDP_RDMA.D_FEATURE_MODE_CFG";
                ("SDP_RDMA.D_SRC", format, 2, "SDP.D_DATA_CUBE")
            } else if trace.starts("PDP") {
                let format = "PDP.D_DATA_FORMAT";
                ("PDP_RDMA.D_SRC", format, 0, "PDP.D_DATA_CUBE_IN")
            } else {
                let format = "CDP.D_DATA_FORMAT";
                ("CDP_RDMA.D_SRC", format, 0, "CDP_RDMA.D_DATA_CUBE")
            };
            Place::at(&trace, config, registers, precision(&trace, data, low))
                .read(&trace.memory, size(&trace, cube))
        };
        let region = trace.memory.bytes(trace.base, trace.size);
        Self {
            trace,
            config,
            source,
            region,
        }
    }

    /// The same, with all 16 bits of the padding value.
    pub fn with_wide_padding(&self) -> Self {
        Self {
            source: convolve(&self.trace, self.config, 16),
            ..self.clone()
        }
    }

    /// Whether the program looks values up in the SDP's tables.
    pub fn uses_sdp_tables(&self) -> bool {
        let config = |bit| self.trace.field("SDP.D_DP_EW_CFG", bit, bit) == 1;
        self.trace.starts("SDP") && !config(0) && !config(6)
    }

    /// Whether the program is an average pooling on its own.
    pub fn averages(&self) -> bool {
        let alone = self.trace.starts("PDP") && !self.trace.starts("SDP");
        alone && self.trace.field("PDP.D_OPERATION_MODE_CFG", 1, 0) == 0
    }

    /// The bytes of the output region after the run.
    pub fn run(&self, rules: &Rules) -> Vec<u8> {
        let trace = &self.trace;
        let mut region = self.region.clone();
        let mut write = |registers: &str, bytes, cube: &Cube| {
            self.place(registers, bytes)
                .write(&mut region, trace.base, cube, rules);
        };
        if trace.starts("SDP") {
            let done = self.sdp(rules);
            // OUTPUT_DST: memory, or the PDP.
            if trace.field("SDP.D_FEATURE_MODE_CFG", 1, 1) == 0 {
                write("SDP.D_DST", precision(trace, "SDP.D_DATA_FORMAT", 2), &done);
            } else {
                let bytes = precision(trace, "PDP.D_DATA_FORMAT", 0);
                write("PDP.D_DST", bytes, &self.pdp(&done, rules));
            }
        } else if trace.starts("PDP") {
            let bytes = precision(trace, "PDP.D_DATA_FORMAT", 0);
            write("PDP.D_DST", bytes, &self.pdp(&self.source, rules));
        } else if trace.starts("CDP") {
            let bytes = precision(trace, "CDP.D_DATA_FORMAT", 0);
            write("CDP.D_DST", bytes, &self.cdp(rules));
        }
        region
    }

    /// Whether the run reproduces what the test expects.
    pub fn reproduces(&self, rules: &Rules) -> bool {
        self.differing(rules) == 0
    }

    /// How many values differ; of a test with a CRC, 0 or 1.
    pub fn differing(&self, rules: &Rules) -> usize {
        let found = self.run(rules);
        match &self.trace.expected {
            Expected::Crc(crc) => usize::from(crc32(&found) != *crc),
            Expected::Bytes(bytes) => {
                assert_eq!(bytes.len(), found.len(), "{}", self.trace.name);
                // The dumps are of INT16.
                found
                    .chunks(2)
                    .zip(bytes.chunks(2))
                    .filter(|(found, expected)| found != expected)
                    .count()
            }
        }
    }

    fn place(&self, registers: &str, bytes: u64) -> Place {
        Place::at(&self.trace, self.config, registers, bytes)
    }

    fn sdp(&self, rules: &Rules) -> Cube {
        let trace = &self.trace;
        let mut cube = self.source.clone();
        // FLYING_MODE: behind the convolution.
        if trace.starts("CSC") && rules.output != Output::Combined {
            let clip = trace.field("CACC.D_CLIP_CFG", 4, 0);
            for value in &mut cube.values {
                *value = truncate(*value, clip, rules.truncation).value;
            }
        }
        let x1 = Stage::x(self, "BS", "SDP_RDMA.D_BRDMA_CFG", rules);
        let x2 = Stage::x(self, "BN", "SDP_RDMA.D_NRDMA_CFG", rules);
        let y = Stage::y(self, rules);
        let converter = self.output_converter(rules);
        let bits = 8 * precision(trace, "SDP.D_DATA_FORMAT", 2) as u32;
        let (width, lanes) = (cube.width, cube.lanes);
        for (index, value) in cube.values.iter_mut().enumerate() {
            let (position, lane) = (index / lanes, index % lanes);
            let at = (position / width, position % width, lane);
            for stage in [&x1, &x2, &y].into_iter().flatten() {
                *value = stage.apply(&trace.memory, *value, at);
            }
            *value = match rules.output {
                Output::Right => output(*value, &converter, bits).value,
                Output::OffsetLast => offset_last(*value, converter, bits).value,
                Output::Combined => {
                    let clip = trace.field("CACC.D_CLIP_CFG", 4, 0);
                    combined(*value, clip, converter, bits).value
                }
            };
        }
        cube
    }

    fn output_converter(&self, rules: &Rules) -> Converter {
        let trace = &self.trace;
        Converter {
            offset: trace.signed("SDP.D_CVT_OFFSET", 31, 0),
            scale: trace.signed("SDP.D_CVT_SCALE", 15, 0) as i16,
            shift: trace.field("SDP.D_CVT_SHIFT", rules.shift_bits - 1, 0),
            rounding: rules.sdp,
        }
    }

    fn pdp(&self, cube: &Cube, rules: &Rules) -> Cube {
        let trace = &self.trace;
        let bytes = precision(trace, "PDP.D_DATA_FORMAT", 0);
        let kernel = |high, low| trace.field("PDP.D_POOLING_KERNEL_CFG", high, low) as usize + 1;
        let pad = |high, low| trace.field("PDP.D_POOLING_PADDING_CFG", high, low) as usize;
        let mut pad_values = [0; 8];
        for (k, value) in pad_values.iter_mut().enumerate().skip(1) {
            let register = format!("PDP.D_POOLING_PADDING_VALUE_{k}_CFG");
            *value = trace.signed(&register, 18, 0);
        }
        let out =
            |name: &str| trace.field(&format!("PDP.D_DATA_CUBE_OUT_{name}"), 12, 0) as usize + 1;
        let pooling = Pooling {
            kernel: [kernel(11, 8), kernel(3, 0)],
            stride: [kernel(23, 20), kernel(19, 16)],
            pad: [pad(6, 4), pad(2, 0)],
            pad_values,
            output: [out("HEIGHT"), out("WIDTH")],
        };
        let average = Average {
            recip_width: trace.field("PDP.D_RECIP_KERNEL_WIDTH", 16, 0),
            recip_height: trace.field("PDP.D_RECIP_KERNEL_HEIGHT", 16, 0),
            rounding: rules.average,
        };
        let method = match trace.field("PDP.D_OPERATION_MODE_CFG", 1, 0) {
            0 => Method::Average(average),
            1 => Method::Max,
            _ => Method::Min,
        };
        let bits = 8 * bytes as u32;
        let [height, width] = pooling.output;
        let mut values = vec![0; height * width * cube.lanes];
        for lane in 0..cube.lanes {
            let plane: Vec<i32> = (0..cube.height * cube.width)
                .map(|at| cube.values[at * cube.lanes + lane] as i32)
                .collect();
            let from = [cube.height, cube.width];
            let pooled: Vec<i32> = match method {
                Method::Average(average) if rules.average_once => pooling
                    .windows(&plane, from)
                    .into_iter()
                    .map(|window| once(window.sum, average, bits).value as i32)
                    .collect(),
                Method::Average(_) if !rules.average_saturates => {
                    let wide = pooling.plane(&plane, from, method, 32).value;
                    wide.into_iter()
                        .map(|value| wrap(value.into(), bits).value as i32)
                        .collect()
                }
                _ => pooling.plane(&plane, from, method, bits).value,
            };
            for (at, value) in pooled.into_iter().enumerate() {
                values[at * cube.lanes + lane] = value.into();
            }
        }
        Cube {
            height,
            width,
            values,
            channels: cube.channels,
            lanes: cube.lanes,
        }
    }

    fn cdp(&self, rules: &Rules) -> Cube {
        let trace = &self.trace;
        let mut cube = self.source.clone();
        let bits = 8 * precision(trace, "CDP.D_DATA_FORMAT", 0) as u32;
        let offset_bits = if bits == 8 { 24 } else { 31 };
        let input = Converter {
            offset: trace.signed("CDP.D_DATIN_OFFSET", bits - 1, 0),
            scale: trace.signed("CDP.D_DATIN_SCALE", 15, 0) as i16,
            shift: trace.field("CDP.D_DATIN_SHIFTER", 4, 0),
            rounding: ROUNDING,
        };
        let lrn = Lrn {
            bits,
            input,
            reach: trace.field("CDP.D_LRN_CFG", 1, 0) as usize + 1,
            squares: trace.field("CDP.D_FUNC_BYPASS", 0, 0) == 0,
            table: lookup(trace, "CDP", rules.lrn_table),
            multiply: trace.field("CDP.D_FUNC_BYPASS", 1, 1) == 0,
            output: Converter {
                offset: trace.signed("CDP.D_DATOUT_OFFSET", offset_bits, 0),
                scale: trace.signed("CDP.D_DATOUT_SCALE", 15, 0) as i16,
                shift: trace.field("CDP.D_DATOUT_SHIFTER", 5, 0),
                rounding: rules.lrn_output,
            },
        };
        for pixel in cube.values.chunks_mut(cube.lanes) {
            let mut codes: Vec<i32> = pixel.iter().map(|&value| value as i32).collect();
            // Channels that do not exist are loaded as the offset.
            if rules.lrn_fill {
                codes[cube.channels..].fill(input.offset);
            }
            for (value, y) in pixel.iter_mut().zip(lrn.pixel(&codes).value) {
                *value = y.into();
            }
        }
        cube
    }
}

/// `sat(round(x * scale / 2^shift) - offset)`; NVDLA subtracts the offset first.
fn offset_last(x: i64, converter: Converter, bits: u32) -> Flagged<i64> {
    let product = i128::from(x) * i128::from(converter.scale);
    shift_right_saturate(product, converter.shift, converter.rounding, 64)
        .and_then(|x| saturate(i128::from(x) - i128::from(converter.offset), bits))
}

/// From a sum of products to the output in one rounding; NVDLA rounds in CACC and in the converter.
fn combined(acc: i64, clip: u32, converter: Converter, bits: u32) -> Flagged<i64> {
    let product =
        (i128::from(acc) - (i128::from(converter.offset) << clip)) * i128::from(converter.scale);
    shift_right_saturate(product, clip + converter.shift, converter.rounding, bits)
}

/// One rounding for both reciprocals; what a simulator might do, and NVDLA does not.
fn once(sum: i64, average: Average, bits: u32) -> Flagged<i64> {
    let product =
        i128::from(sum) * i128::from(average.recip_width) * i128::from(average.recip_height);
    shift_right_saturate(product, 32, average.rounding, bits)
}

/// X1, X2 or Y, and where its operands come from.
struct Stage {
    unit: Unit,
    alu: Operand,
    mul: Operand,
}

enum Unit {
    X(X),
    Y(Y),
}

/// An operand of a stage.
enum Operand {
    Register(i32),
    Memory {
        place: Place,
        /// One value a channel, or one an element.
        per_element: bool,
        /// Y's; `None` if bypassed.
        converter: Option<Converter>,
        /// Of this operand in an element.
        offset: u64,
        /// Bytes of one component.
        component: u64,
    },
}

impl Operand {
    fn read(&self, memory: &Memory, (y, x, lane): (usize, usize, usize)) -> i32 {
        match self {
            Self::Register(value) => *value,
            Self::Memory {
                place,
                per_element,
                converter,
                offset,
                component,
            } => {
                let address = if *per_element {
                    place.of(y, x, lane)
                } else {
                    place.base + lane as u64 * place.bytes
                };
                // One or two bytes.
                let value = memory.int(address + offset, *component) as i16;
                operand(value, converter.as_ref()).value
            }
        }
    }
}

impl Stage {
    /// `None` if bypassed.
    fn x(prepared: &Prepared, name: &str, rdma: &str, rules: &Rules) -> Option<Self> {
        let trace = &prepared.trace;
        let config = format!("SDP.D_DP_{name}_CFG");
        let flag = |bit| trace.field(&config, bit, bit) == 1;
        if flag(0) {
            return None;
        }
        let unit = X {
            alu: alu(trace, &config),
            alu_shift: trace.field(&format!("SDP.D_DP_{name}_ALU_CFG"), 13, 8),
            multiply: multiply(trace, &config),
            mul_shift: if flag(4) && !rules.shift_without_multiplier {
                0
            } else {
                // 6 of the register's 8 bits.
                trace.field(&format!("SDP.D_DP_{name}_MUL_CFG"), 13, 8)
            },
            relu: !flag(6),
            rounding: rules.sdp,
        };
        Some(Self {
            alu: prepared.operand(name, "ALU", rdma, None),
            mul: prepared.operand(name, "MUL", rdma, None),
            unit: Unit::X(unit),
        })
    }

    /// `None` if bypassed.
    fn y(prepared: &Prepared, rules: &Rules) -> Option<Self> {
        let trace = &prepared.trace;
        let config = "SDP.D_DP_EW_CFG";
        let flag = |bit| trace.field(config, bit, bit) == 1;
        if flag(0) {
            return None;
        }
        let unit = Y {
            multiply: multiply(trace, config),
            shift: trace.field("SDP.D_DP_EW_TRUNCATE_VALUE", 9, 0),
            alu: alu(trace, config),
            table: (!flag(6)).then(|| lookup(trace, "SDP", rules.sdp_table)),
            rounding: rules.sdp,
        };
        let converter = |kind: &str| Converter {
            offset: trace.signed(&format!("SDP.D_DP_EW_{kind}_CVT_OFFSET_VALUE"), 31, 0),
            scale: trace.signed(&format!("SDP.D_DP_EW_{kind}_CVT_SCALE_VALUE"), 15, 0) as i16,
            shift: trace.field(&format!("SDP.D_DP_EW_{kind}_CVT_TRUNCATE_VALUE"), 5, 0),
            rounding: rules.sdp,
        };
        let used = |kind: &str| {
            let bypassed = trace.field(&format!("SDP.D_DP_EW_{kind}_CFG"), 1, 1) == 1;
            (!bypassed).then(|| converter(kind))
        };
        let rdma = "SDP_RDMA.D_ERDMA_CFG";
        Some(Self {
            alu: prepared.operand("EW", "ALU", rdma, used("ALU")),
            mul: prepared.operand("EW", "MUL", rdma, used("MUL")),
            unit: Unit::Y(unit),
        })
    }

    fn apply(&self, memory: &Memory, value: i64, at: (usize, usize, usize)) -> i64 {
        match &self.unit {
            Unit::X(x) => {
                let alu = x.alu.map_or(0, |_| self.alu.read(memory, at));
                let mul = match x.multiply {
                    Multiply::Bypass => 0,
                    _ => self.mul.read(memory, at),
                };
                // X has 16 bits of operand.
                x.apply(value, alu as i16, mul as i16).value
            }
            Unit::Y(y) => {
                let alu = y.alu.map_or(0, |_| self.alu.read(memory, at));
                let mul = match y.multiply {
                    Multiply::Bypass => 0,
                    _ => self.mul.read(memory, at),
                };
                y.apply(value, alu, mul).value
            }
        }
    }
}

impl Prepared {
    fn operand(&self, name: &str, kind: &str, rdma: &str, converter: Option<Converter>) -> Operand {
        let trace = &self.trace;
        if trace.field(&format!("SDP.D_DP_{name}_{kind}_CFG"), 0, 0) == 0 {
            let register = format!("SDP.D_DP_{name}_{kind}_SRC_VALUE");
            return Operand::Register(trace.signed(&register, 31, 0));
        }
        // DATA_USE: MUL, ALU or both, in this order of values; of both, the ALU's comes first.
        let both = trace.field(rdma, 2, 1) == 2;
        let component = u64::from(trace.field(rdma, 3, 3)) + 1;
        let element = component * if both { 2 } else { 1 };
        let place = self.place(&format!("SDP_RDMA.D_{name}"), element);
        Operand::Memory {
            place: Place {
                // As many elements as the data has in an atom.
                atom: self.config.atom / precision(trace, "SDP.D_DATA_FORMAT", 0) as usize,
                ..place
            },
            per_element: trace.field(rdma, 4, 4) == 1,
            converter,
            offset: if both && kind == "MUL" { component } else { 0 },
            component,
        }
    }
}

fn alu(trace: &Trace, config: &str) -> Option<Alu> {
    let algorithm = [Alu::Max, Alu::Min, Alu::Sum, Alu::NotEqual];
    let bypassed = trace.field(config, 1, 1) == 1;
    (!bypassed).then(|| algorithm[trace.field(config, 3, 2) as usize])
}

fn multiply(trace: &Trace, config: &str) -> Multiply {
    match (trace.field(config, 4, 4), trace.field(config, 5, 5)) {
        (1, _) => Multiply::Bypass,
        (_, 1) => Multiply::Negative,
        _ => Multiply::All,
    }
}

fn lookup(trace: &Trace, block: &str, rounding: Rounding) -> Lookup {
    let register = |name: &str| format!("{block}.S_LUT_{name}");
    // The CDP's have 38 bits in two registers, the SDP's 32 in one.
    let bound = |name: &str| {
        let low = register(&format!("{name}_LOW"));
        if block == "CDP" {
            let high = trace.signed(&register(&format!("{name}_HIGH")), 5, 0);
            i64::from(high) << 32 | i64::from(trace.field(&low, 31, 0))
        } else {
            trace.signed(&register(name), 31, 0).into()
        }
    };
    let slope = |name: &str, over: u32| {
        let scale = register(&format!("{name}_SLOPE_SCALE"));
        let shift = register(&format!("{name}_SLOPE_SHIFT"));
        Slope {
            scale: trace.signed(&scale, 16 * over + 15, 16 * over) as i16,
            shift: trace.signed(&shift, 5 * over + 4, 5 * over),
        }
    };
    let priority = |bit| match trace.field(&register("CFG"), bit, bit) {
        0 => Which::Le,
        _ => Which::Lo,
    };
    let table = |name: &str, entries: Vec<i16>, index| Table {
        entries,
        start: bound(&format!("{name}_START")),
        end: bound(&format!("{name}_END")),
        index,
        under: slope(name, 0),
        over: slope(name, 1),
    };
    let info = |low: u32| trace.signed(&register("INFO"), low + 7, low);
    let le = match trace.field(&register("CFG"), 0, 0) {
        0 => Index::Exponential { offset: info(0) },
        _ => Index::Linear { select: info(8) },
    };
    let lo = Index::Linear { select: info(16) };
    let mut tables = trace.tables(block);
    // What a test does not write is 0.
    tables.le.resize(65, 0);
    tables.lo.resize(257, 0);
    Lookup {
        le: table("LE", tables.le, le),
        lo: table("LO", tables.lo, lo),
        under: priority(4),
        over: priority(5),
        hybrid: priority(6),
        rounding,
    }
}

/// The sums of a convolution of features. A channel without a kernel has sums of 0.
fn convolve(trace: &Trace, config: Config, pad_bits: u32) -> Cube {
    let bytes = precision(trace, "CSC.D_MISC_CFG", 12);
    let pair = |register: &str| {
        [
            trace.field(register, 28, 16) as usize + 1,
            trace.field(register, 12, 0) as usize + 1,
        ]
    };
    let channels = trace.field("CSC.D_DATAIN_SIZE_EXT_1", 12, 0) as usize + 1;
    let [height, width] = pair("CSC.D_DATAIN_SIZE_EXT_0");
    let [kernels, _] = pair("CSC.D_WEIGHT_SIZE_EXT_1");
    let geometry = Geometry {
        input: [height, width, channels],
        kernels,
        kernel: pair("CSC.D_WEIGHT_SIZE_EXT_0"),
        stride: pair("CSC.D_CONV_STRIDE_EXT"),
        dilation: pair("CSC.D_DILATION_EXT"),
        pad: [
            trace.field("CSC.D_ZERO_PADDING", 20, 16) as usize,
            trace.field("CSC.D_ZERO_PADDING", 4, 0) as usize,
        ],
        output: pair("CSC.D_DATAOUT_SIZE_0"),
    };
    let place = Place {
        base: trace.address("CDMA.D_DAIN_ADDR_LOW_0"),
        line: trace.field("CDMA.D_LINE_STRIDE", 31, 0).into(),
        surface: trace.field("CDMA.D_SURF_STRIDE", 31, 0).into(),
        bytes,
        atom: config.atom / bytes as usize,
    };
    let cube = place.read(&trace.memory, geometry.input);
    let x: Vec<i32> = cube
        .values
        .chunks(cube.lanes)
        .flat_map(|pixel| &pixel[..channels])
        .map(|&value| value as i32)
        .collect();
    let bits = match bytes {
        1 => INT8_PARTIAL_BITS,
        _ => INT16_PARTIAL_BITS,
    };
    let pad_bits = pad_bits.max(8 * bytes as u32);
    let pad_value = trace.signed("CSC.D_ZERO_PADDING_VALUE", pad_bits - 1, 0);
    let w = weights(trace, &geometry, config, bytes);
    let sums = geometry.accumulate(&x, &w, pad_value, config.mac_channels, bits);
    let lanes = kernels.next_multiple_of(place.atom);
    let [height, width] = geometry.output;
    let mut values = Vec::with_capacity(height * width * lanes);
    for pixel in sums.value.chunks(kernels) {
        values.extend_from_slice(pixel);
        values.resize(values.len() + lanes - kernels, 0);
    }
    Cube {
        height,
        width,
        channels: kernels,
        lanes,
        values,
    }
}

/// Weights in the order of kernel, row, column, channel. In memory: group of kernels, block of channels,
/// row, column, kernel, channel.
fn weights(trace: &Trace, geometry: &Geometry, config: Config, bytes: u64) -> Vec<i32> {
    let base = trace.address("CDMA.D_WEIGHT_ADDR_LOW");
    let [_, _, channels] = geometry.input;
    let [rows, columns] = geometry.kernel;
    let mut out = vec![0; geometry.kernels * rows * columns * channels];
    let mut address = base;
    for group in (0..geometry.kernels).step_by(config.mac_kernels) {
        let kernels = group..geometry.kernels.min(group + config.mac_kernels);
        for block in (0..channels).step_by(config.mac_channels) {
            let block = block..channels.min(block + config.mac_channels);
            for position in 0..rows * columns {
                for kernel in kernels.clone() {
                    for channel in block.clone() {
                        let at = (kernel * rows * columns + position) * channels + channel;
                        out[at] = trace.memory.int(address, bytes);
                        address += bytes;
                    }
                }
            }
        }
    }
    out
}

/// Bytes of a value, from a field of 2 bits: INT8 or INT16.
fn precision(trace: &Trace, register: &str, low: u32) -> u64 {
    match trace.field(register, low + 1, low) {
        0 => 1,
        1 => 2,
        _ => panic!("{}: {register} is not of integers", trace.name),
    }
}

/// Height, width and channels, each in a register of its own.
fn size(trace: &Trace, registers: &str) -> [usize; 3] {
    ["HEIGHT", "WIDTH", "CHANNEL"]
        .map(|name| trace.field(&format!("{registers}_{name}"), 12, 0) as usize + 1)
}

/// CRC-32 as in zip and zlib.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ 0xedb8_8320 & (crc & 1).wrapping_neg();
        }
    }
    !crc
}
