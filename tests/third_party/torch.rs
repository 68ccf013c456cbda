//! The float tensors of a `PyTorch` checkpoint (a zip file with a pickle of protocol 2).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use zip::ZipArchive;

/// A tensor: shape and numbers.
pub type Numbers = (Vec<usize>, Vec<f64>);

/// What a pickle holds, as far as tensors need it.
#[derive(Debug, Clone)]
enum Object {
    Mark,
    Other,
    Int(i64),
    Text(String),
    Tuple(Vec<Object>),
    /// A dictionary: a place in [`Machine::maps`], dictionaries are changed after they are shared.
    Map(usize),
    /// A storage: its kind and its file.
    Storage(String, String),
    Tensor(Box<Tensor>),
    /// A class or a function.
    Global(String),
}

#[derive(Debug, Clone)]
struct Tensor {
    kind: String,
    file: String,
    offset: usize,
    shape: Vec<usize>,
}

#[derive(Default)]
struct Machine {
    stack: Vec<Object>,
    memo: BTreeMap<u32, Object>,
    maps: Vec<Vec<(Object, Object)>>,
}

impl Machine {
    fn pop(&mut self) -> Object {
        self.stack.pop().expect("a sound pickle")
    }

    fn marked(&mut self) -> Vec<Object> {
        let mark = self.stack.iter().rposition(|o| matches!(o, Object::Mark));
        let mut list = self.stack.split_off(mark.expect("a mark"));
        list.remove(0);
        list
    }

    fn map(&mut self) -> Object {
        self.maps.push(Vec::new());
        Object::Map(self.maps.len() - 1)
    }

    fn set(&mut self, items: &[Object]) {
        if let Some(Object::Map(map)) = self.stack.last() {
            let pairs = items
                .chunks_exact(2)
                .map(|pair| (pair[0].clone(), pair[1].clone()));
            self.maps[*map].extend(pairs);
        }
    }

    fn call(&mut self, function: &Object, arguments: Object) -> Object {
        let (Object::Global(name), Object::Tuple(arguments)) = (function, arguments) else {
            return Object::Other;
        };
        match (name.as_str(), &arguments[..]) {
            ("collections OrderedDict", _) => self.map(),
            (
                "torch._utils _rebuild_tensor_v2",
                [
                    Object::Storage(kind, file),
                    Object::Int(offset),
                    Object::Tuple(shape),
                    ..,
                ],
            ) => Object::Tensor(Box::new(Tensor {
                kind: kind.clone(),
                file: file.clone(),
                offset: usize::try_from(*offset).expect("an offset"),
                shape: shape.iter().map(size).collect(),
            })),
            _ => Object::Other,
        }
    }
}

fn size(object: &Object) -> usize {
    match object {
        Object::Int(n) => usize::try_from(*n).expect("a size"),
        other => panic!("{other:?} is no size"),
    }
}

/// Runs a pickle; returns its object and the dictionaries that were made.
fn unpickle(bytes: &[u8]) -> (Object, Vec<Vec<(Object, Object)>>) {
    let mut m = Machine::default();
    let mut at = 0;
    let mut take = |n: usize| {
        at += n;
        &bytes[at - n..at]
    };
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0u32, |n, &b| n << 8 | u32::from(b));
    loop {
        match take(1)[0] {
            0x80 => drop(take(1)),
            b'.' => return (m.pop(), m.maps),
            b'(' => m.stack.push(Object::Mark),
            b'}' => {
                let map = m.map();
                m.stack.push(map);
            }
            b']' | b'N' | 0x88 | 0x89 => m.stack.push(Object::Other),
            b')' => m.stack.push(Object::Tuple(Vec::new())),
            b'G' => {
                take(8);
                m.stack.push(Object::Other);
            }
            b'K' => {
                let n = take(1)[0];
                m.stack.push(Object::Int(n.into()));
            }
            b'M' => {
                let n = number(take(2));
                m.stack.push(Object::Int(n.into()));
            }
            b'J' => {
                let n = number(take(4)).cast_signed();
                m.stack.push(Object::Int(n.into()));
            }
            b'X' => {
                let length = number(take(4)) as usize;
                let text = String::from_utf8_lossy(take(length)).into_owned();
                m.stack.push(Object::Text(text));
            }
            b'c' => {
                let mut line = || {
                    let mut text = Vec::new();
                    loop {
                        match take(1)[0] {
                            b'\n' => return String::from_utf8_lossy(&text).into_owned(),
                            byte => text.push(byte),
                        }
                    }
                };
                let name = format!("{} {}", line(), line());
                m.stack.push(Object::Global(name));
            }
            put @ (b'q' | b'r') => {
                let key = number(take(if put == b'q' { 1 } else { 4 }));
                let object = m.stack.last().expect("a sound pickle").clone();
                m.memo.insert(key, object);
            }
            get @ (b'h' | b'j') => {
                let key = number(take(if get == b'h' { 1 } else { 4 }));
                m.stack.push(m.memo[&key].clone());
            }
            b't' => {
                let list = m.marked();
                m.stack.push(Object::Tuple(list));
            }
            tuple @ (0x85..=0x87) => {
                let start = m.stack.len() - usize::from(tuple - 0x84);
                let list = m.stack.split_off(start);
                m.stack.push(Object::Tuple(list));
            }
            b'Q' => {
                let Object::Tuple(id) = m.pop() else {
                    panic!("a storage")
                };
                let [_, Object::Global(kind), Object::Text(file), ..] = &id[..] else {
                    panic!("a storage")
                };
                let storage = Object::Storage(kind.clone(), file.clone());
                m.stack.push(storage);
            }
            b'R' => {
                let arguments = m.pop();
                let function = m.pop();
                let made = m.call(&function, arguments);
                m.stack.push(made);
            }
            b'u' => {
                let items = m.marked();
                m.set(&items);
            }
            b's' => {
                let value = m.pop();
                let key = m.pop();
                m.set(&[key, value]);
            }
            b'e' => drop(m.marked()),
            b'a' => drop(m.pop()),
            other => panic!("opcode {other:#x} of a pickle"),
        }
    }
}

/// The contiguous float tensors of a checkpoint's `state_dict`, by name.
pub fn state(path: &Path) -> BTreeMap<String, Numbers> {
    let file = File::open(path).expect("a checkpoint");
    let mut archive = ZipArchive::new(file).expect("a zip file");
    let mut entry = |name: &str| {
        let mut bytes = Vec::new();
        archive
            .by_name(&format!("archive/{name}"))
            .expect("an entry")
            .read_to_end(&mut bytes)
            .expect("an entry");
        bytes
    };
    let (top, maps) = unpickle(&entry("data.pkl"));
    let find = |map: &Object, key: &str| {
        let Object::Map(map) = map else {
            panic!("no dictionary")
        };
        let found = maps[*map]
            .iter()
            .find(|(own, _)| matches!(own, Object::Text(text) if text == key));
        found.expect("an entry").1.clone()
    };
    let Object::Map(state) = find(&top, "state_dict") else {
        panic!("no state")
    };
    let mut tensors = BTreeMap::new();
    for (name, tensor) in &maps[state] {
        let (Object::Text(name), Object::Tensor(tensor)) = (name, tensor) else {
            continue;
        };
        if tensor.kind != "torch FloatStorage" {
            continue;
        }
        let numbers = entry(&format!("data/{}", tensor.file))
            .chunks_exact(4)
            .map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])))
            .skip(tensor.offset)
            .take(tensor.shape.iter().product())
            .collect();
        tensors.insert(name.clone(), (tensor.shape.clone(), numbers));
    }
    tensors
}
