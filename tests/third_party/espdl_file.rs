//! Espressif's `.espdl` files: a header of 16 bytes and a flatbuffer (espressif/esp-dl
//! `esp-dl/fbs_loader/espdl.fbs`).

use std::collections::BTreeMap;
use std::path::Path;

/// A table of a flatbuffer.
#[derive(Clone, Copy)]
struct Table<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Table<'b> {
    fn u16(&self, at: usize) -> usize {
        usize::from(u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]]))
    }

    fn i32(&self, at: usize) -> i32 {
        i32::from_le_bytes(self.bytes[at..at + 4].try_into().expect("four bytes"))
    }

    /// Follows an offset.
    fn follow(&self, at: usize) -> usize {
        at + self.i32(at) as usize
    }

    fn field(&self, index: usize) -> Option<usize> {
        let vtable = (self.at as i64 - i64::from(self.i32(self.at))) as usize;
        let entry = 4 + 2 * index;
        let offset = (entry < self.u16(vtable)).then(|| self.u16(vtable + entry));
        offset.filter(|&o| o != 0).map(|o| self.at + o)
    }

    fn table(&self, index: usize) -> Option<Table<'b>> {
        self.field(index).map(|at| Table {
            at: self.follow(at),
            ..*self
        })
    }

    fn number(&self, index: usize) -> i32 {
        self.field(index).map_or(0, |at| self.i32(at))
    }

    /// Length and place of a vector.
    fn vector(&self, index: usize) -> (usize, usize) {
        self.field(index).map_or((0, 0), |at| {
            let at = self.follow(at);
            (self.i32(at) as usize, at + 4)
        })
    }

    fn tables(&self, index: usize) -> impl Iterator<Item = Table<'b>> + use<'b> {
        let (count, first) = self.vector(index);
        let own = *self;
        (0..count).map(move |n| Table {
            at: own.follow(first + 4 * n),
            ..own
        })
    }

    fn slice(&self, index: usize, size: usize) -> &'b [u8] {
        let (count, first) = self.vector(index);
        &self.bytes[first..first + count * size]
    }

    fn text(&self, index: usize) -> String {
        String::from_utf8_lossy(self.slice(index, 1)).into_owned()
    }

    fn texts(&self, index: usize) -> Vec<String> {
        let (count, first) = self.vector(index);
        let text = |n: usize| {
            let at = self.follow(first + 4 * n);
            let length = self.i32(at) as usize;
            String::from_utf8_lossy(&self.bytes[at + 4..at + 4 + length]).into_owned()
        };
        (0..count).map(text).collect()
    }

    fn longs(&self, index: usize) -> Vec<i64> {
        longs(self.slice(index, 8))
    }
}

fn longs(bytes: &[u8]) -> Vec<i64> {
    let long = |b: &[u8]| i64::from_le_bytes(b.try_into().expect("eight bytes"));
    bytes.chunks_exact(8).map(long).collect()
}

/// A tensor with its contents.
#[derive(Debug, Clone)]
pub struct Tensor {
    pub shape: Vec<usize>,
    /// It stands for codes times 2^exponent.
    pub exponent: i32,
    pub codes: Vec<i64>,
}

fn tensor(table: Table) -> (String, Tensor) {
    let shape: Vec<usize> = table.longs(0).iter().map(|&d| d as usize).collect();
    // Padded to whole blocks of 16 bytes.
    let raw = table.slice(8, 16);
    let codes: Vec<i64> = match table.number(1) {
        3 => raw.iter().map(|&b| i64::from(b.cast_signed())).collect(),
        6 => raw
            .chunks_exact(4)
            .map(|b| i32::from_le_bytes(b.try_into().expect("four bytes")).into())
            .collect(),
        7 => longs(raw),
        other => panic!("a tensor of type {other}"),
    };
    let count = shape.iter().product();
    let own = Tensor {
        exponent: table.longs(13).first().map_or(0, |&e| e as i32),
        codes: codes[..count].to_vec(),
        shape,
    };
    (table.text(6), own)
}

/// One operation.
#[derive(Debug, Clone)]
pub struct Node {
    pub op: String,
    pub inputs: Vec<String>,
    pub output: String,
    /// Attributes that are an integer, or several.
    pub integers: BTreeMap<String, Vec<i64>>,
    /// Attributes that are a text.
    pub texts: BTreeMap<String, String>,
}

impl Node {
    pub fn sizes(&self, name: &str) -> Vec<usize> {
        self.integers[name].iter().map(|&v| v as usize).collect()
    }
}

/// A model and the recording inside it.
#[derive(Debug, Clone)]
pub struct Model {
    pub nodes: Vec<Node>,
    pub constants: BTreeMap<String, Tensor>,
    /// Exponents of tensors without contents.
    pub exponents: BTreeMap<String, i32>,
    pub inputs: BTreeMap<String, Tensor>,
    pub outputs: BTreeMap<String, Tensor>,
}

impl Model {
    pub fn read(path: &Path) -> Self {
        let file = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(&file[..4], b"EDL2");
        let bytes = &file[16..];
        let start = Table { bytes, at: 0 };
        let model = Table {
            at: start.follow(0),
            ..start
        };
        let graph = model.table(7).expect("a graph");
        let values = [4, 5, 6].into_iter().flat_map(|field| graph.tables(field));
        let exponent = |value: Table| {
            let exponent = value.longs(3).first().map(|&e| e as i32);
            exponent.map(|e| (value.text(0), e))
        };
        let node = |table: Table| {
            let mut integers = BTreeMap::new();
            let mut texts = BTreeMap::new();
            for attribute in table.tables(5) {
                let name = attribute.text(0);
                match attribute.number(3) {
                    2 => {
                        let at = attribute.field(5).expect("an integer");
                        integers.insert(name, longs(&bytes[at..at + 8]));
                    }
                    7 => {
                        integers.insert(name, attribute.longs(11));
                    }
                    3 => {
                        texts.insert(name, attribute.text(6));
                    }
                    _ => {}
                }
            }
            Node {
                op: table.text(3),
                inputs: table.texts(0),
                output: table.texts(1).remove(0),
                integers,
                texts,
            }
        };
        Self {
            nodes: graph.tables(0).map(node).collect(),
            constants: graph.tables(2).map(tensor).collect(),
            exponents: values.filter_map(exponent).collect(),
            inputs: graph.tables(8).map(tensor).collect(),
            outputs: graph.tables(9).map(tensor).collect(),
        }
    }
}
