//! Register programs and memory images of NVDLA's test plan.
//!
//! Two forms: `*.cfg` with `*.dat` of `nvdla/hw@1a65f1f5` `verif/tests/trace_tests` (the expected output
//! is a CRC-32), and `input.txn` with hexadecimal dumps of `nvdla/hw@8e06b1b9` `verif/traces/traceplayer`
//! (the expected output is a dump). Registers and their fields are those of `spec/manual/*.rdl`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The two tables of a unit, as they were written through `S_LUT_ACCESS_DATA`.
#[derive(Debug, Clone, Default)]
pub struct Tables {
    pub le: Vec<i16>,
    pub lo: Vec<i16>,
}

/// Bytes of a page of [`Memory`].
const PAGE: u64 = 1 << 12;

/// Memory, as far as a test says anything about it: 0 where it is reserved and not written.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// First address and size. They may overlap.
    reserved: Vec<(u64, u64)>,
    /// By address / [`PAGE`].
    pages: BTreeMap<u64, Vec<u8>>,
}

impl Memory {
    fn reserve(&mut self, base: u64, size: u64) {
        self.reserved.push((base, size));
    }

    /// Clears a region, also what was loaded there before.
    fn clear(&mut self, base: u64, size: u64) {
        self.reserve(base, size);
        let touched = base / PAGE..=(base + size) / PAGE;
        for (number, page) in self.pages.range_mut(touched) {
            for (address, byte) in (number * PAGE..).zip(page) {
                if (base..base + size).contains(&address) {
                    *byte = 0;
                }
            }
        }
    }

    fn check(&self, address: u64) {
        let holds = |&(base, size): &(u64, u64)| (base..base + size).contains(&address);
        assert!(self.reserved.iter().any(holds), "no memory at {address:#x}");
    }

    fn byte(&self, address: u64) -> u8 {
        if let Some(page) = self.pages.get(&(address / PAGE)) {
            page[(address % PAGE) as usize]
        } else {
            self.check(address);
            0
        }
    }

    /// A signed integer of 1 or 2 bytes, little-endian.
    pub fn int(&self, address: u64, bytes: u64) -> i32 {
        let low = self.byte(address);
        match bytes {
            1 => low.cast_signed().into(),
            _ => i16::from_le_bytes([low, self.byte(address + 1)]).into(),
        }
    }

    /// A region's bytes.
    pub fn bytes(&self, base: u64, size: u64) -> Vec<u8> {
        (base..base + size)
            .map(|address| self.byte(address))
            .collect()
    }

    /// Loads an image.
    fn load(&mut self, base: u64, content: &[u8]) {
        self.reserve(base, content.len() as u64);
        self.write(base, content);
    }

    fn write(&mut self, base: u64, content: &[u8]) {
        for (address, &byte) in (base..).zip(content) {
            if !self.pages.contains_key(&(address / PAGE)) {
                self.check(address);
            }
            let page = self.pages.entry(address / PAGE);
            page.or_insert_with(|| vec![0; PAGE as usize])[(address % PAGE) as usize] = byte;
        }
    }
}

/// What a test expects of its output region.
#[derive(Debug, Clone)]
pub enum Expected {
    /// CRC-32 of all bytes.
    Crc(u32),
    /// All bytes.
    Bytes(Vec<u8>),
}

/// One test.
#[derive(Debug, Clone)]
pub struct Trace {
    pub name: String,
    /// As loaded, before the run.
    pub memory: Memory,
    /// By block and name, `SDP.D_CVT_SHIFT`.
    registers: BTreeMap<String, u32>,
    /// By block.
    tables: BTreeMap<String, Tables>,
    /// Blocks that were started.
    started: BTreeSet<String>,
    pub base: u64,
    pub size: u64,
    pub expected: Expected,
}

impl Trace {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            memory: Memory::default(),
            registers: BTreeMap::new(),
            tables: BTreeMap::new(),
            started: BTreeSet::new(),
            base: 0,
            size: 0,
            expected: Expected::Crc(0),
        }
    }

    /// Reads a folder `NAME` with `NAME.cfg`. `Err`: a memory image is missing.
    pub fn read_cfg(folder: &Path) -> Result<Self, String> {
        let name = folder.file_name().and_then(|name| name.to_str());
        let mut trace = Self::new(name.expect("a folder's name"));
        let program = fs::read_to_string(folder.join(format!("{}.cfg", trace.name)))
            .unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        for line in program.lines() {
            let line = line.split("//").next().unwrap_or_default().trim();
            let Some((command, rest)) = line.split_once('(') else {
                continue;
            };
            let arguments: Vec<&str> = rest
                .trim_end_matches([';', ' ', ')'])
                .split(',')
                .map(|argument| argument.trim().trim_matches('"'))
                .collect();
            match command {
                "mem_init" => trace
                    .memory
                    .clear(number(arguments[1]), number(arguments[2])),
                "mem_load" => {
                    let path = folder.join(arguments[2]);
                    let image = fs::read_to_string(&path)
                        .map_err(|_| format!("{} is not there", arguments[2]))?;
                    trace.memory.load(number(arguments[1]), &payload(&image));
                }
                "reg_write" => trace.write(arguments[0], number(arguments[1]) as u32),
                "check_crc" => {
                    trace.base = number(arguments[2]);
                    trace.size = number(arguments[3]);
                    trace.expected = Expected::Crc(number(arguments[4]) as u32);
                }
                // Waiting for the unit.
                "poll_reg_equal" | "intr_notify" | "sync_notify" | "sync_wait"
                | "check_nothing" => {}
                _ => panic!("{}: unknown command '{command}'", trace.name),
            }
        }
        Ok(trace)
    }

    /// Reads a folder with `input.txn`.
    pub fn read_txn(folder: &Path) -> Self {
        let name = folder.file_name().and_then(|name| name.to_str());
        let mut trace = Self::new(name.expect("a folder's name"));
        let read = |name: &str| fs::read_to_string(folder.join(name));
        let program = read("input.txn").unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        for line in program.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["load_mem", base, size, file, ..] => {
                    let (base, size) = (number(base), number(size));
                    trace.memory.reserve(base, size);
                    // The image of the output region is not among the files; all of it is written.
                    if let Ok(dump) = read(file) {
                        trace.memory.load(base, &dumped(&dump));
                    }
                }
                ["write_reg", _, value, register, ..] => {
                    // The name runs into a comment: "#NVDLA_SDP.D_CVT_SHIFT_0SHIFT=3".
                    let name = register.trim_start_matches('#');
                    let end = name
                        .match_indices("_0")
                        .map(|(at, _)| at + 2)
                        .find(|&end| !name[end..].starts_with("_0"))
                        .unwrap_or(name.len());
                    trace.write(&name[..end], number(value) as u32);
                }
                ["dump_mem", base, size, file, ..] => {
                    trace.base = number(base);
                    trace.size = number(size);
                    trace.memory.reserve(trace.base, trace.size);
                    let dump = read(file).unwrap_or_else(|e| panic!("{}: {e}", trace.name));
                    trace.expected = Expected::Bytes(dumped(&dump));
                }
                _ => {}
            }
        }
        trace
    }

    /// One write to a register of group 0.
    fn write(&mut self, register: &str, value: u32) {
        let name = register
            .trim_start_matches("NVDLA_")
            .strip_suffix("_0")
            .unwrap_or_else(|| panic!("{}: register '{register}'", self.name));
        let (block, what) = name.split_once('.').expect("a block and a name");
        if what == "S_LUT_ACCESS_DATA" {
            let access = self.field(&format!("{block}.S_LUT_ACCESS_CFG"), 31, 0);
            let writes = access >> 17 & 1 == 1;
            let tables = self.tables.entry(block.to_owned()).or_default();
            let table = if access >> 16 & 1 == 0 {
                &mut tables.le
            } else {
                &mut tables.lo
            };
            if writes {
                // The address counts up from 0 in every test.
                table.push(value as i16);
            }
            return;
        }
        if what == "D_OP_ENABLE" && value & 1 == 1 {
            self.started.insert(block.to_owned());
        }
        if what == "S_LUT_ACCESS_CFG" {
            assert_eq!(value & 0x3ff, 0, "{}: a table from its middle", self.name);
        }
        self.registers.insert(name.to_owned(), value);
    }

    /// Whether the convolution reads an image (`DATAIN_FORMAT` is `PIXEL`).
    pub fn takes_images(&self) -> bool {
        self.starts("CSC") && self.field("CSC.D_DATAIN_FORMAT", 0, 0) == 1
    }

    /// Whether a block was started.
    pub fn starts(&self, block: &str) -> bool {
        self.started.contains(block)
    }

    /// Bits `high..=low` of a register; 0 if it was never written.
    pub fn field(&self, register: &str, high: u32, low: u32) -> u32 {
        let value = self.registers.get(register).copied().unwrap_or(0);
        (value >> low) & (u32::MAX >> (31 - (high - low)))
    }

    /// The same with a sign.
    pub fn signed(&self, register: &str, high: u32, low: u32) -> i32 {
        let unused = 31 - (high - low);
        (self.field(register, high, low) << unused).cast_signed() >> unused
    }

    /// An address in two registers, `NAME_LOW` and `NAME_HIGH`, or with a number behind.
    pub fn address(&self, low: &str) -> u64 {
        let high = low.replace("_LOW", "_HIGH");
        u64::from(self.field(&high, 31, 0)) << 32 | u64::from(self.field(low, 31, 0))
    }

    /// The tables of a block.
    pub fn tables(&self, block: &str) -> Tables {
        self.tables.get(block).cloned().unwrap_or_default()
    }
}

fn number(text: &str) -> u64 {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.unwrap_or_else(|e| panic!("'{text}': {e}"))
}

/// `{offset:0x0, size:4, payload:0x00 0x3f 0x7e 0xbd} ,` and so on.
fn payload(image: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in image.split('{').filter(|entry| entry.contains("payload:")) {
        let value = |key: &str| entry.split_once(key).expect(key).1;
        let offset = value("offset:").split(',').next().expect("an offset");
        let content = value("payload:").split('}').next().expect("a payload");
        let offset = number(offset.trim()) as usize;
        let content: Vec<u8> = content
            .split_whitespace()
            .map(|byte| number(byte) as u8)
            .collect();
        if bytes.len() < offset + content.len() {
            bytes.resize(offset + content.len(), 0);
        }
        bytes[offset..][..content.len()].copy_from_slice(&content);
    }
    bytes
}

/// Lines of `0x00 0x80 ...` between other lines.
fn dumped(dump: &str) -> Vec<u8> {
    dump.lines()
        .filter(|line| line.trim_start().starts_with("0x"))
        .flat_map(str::split_whitespace)
        .map(|byte| number(byte) as u8)
        .collect()
}
