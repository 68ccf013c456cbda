//! The codes of a tensor as they are kept: a byte each where their grid has at most 256 of them.

use std::ops::Deref;
use std::sync::OnceLock;

use crate::quantize::CodeGrid;

/// Codes, in bytes where they fit; read as a slice of `i32`.
///
/// What runs on every element of every layer reads [`bytes`](Self::bytes). Everything else may take the slice, which
/// is made of the bytes when it is first asked for.
#[derive(Debug, Clone)]
pub struct Codes {
    narrow: Option<Narrow>,
    wide: OnceLock<Vec<i32>>,
}

/// Codes less the first one of their grid.
#[derive(Debug, Clone)]
struct Narrow {
    first: i32,
    bytes: Vec<u8>,
}

impl Codes {
    /// Codes of a grid.
    pub fn new(codes: Vec<i32>, grid: &CodeGrid) -> Self {
        let narrow = Self::first(grid).and_then(|first| {
            // A recording may hold codes that the grid does not.
            let all = codes.iter().fold(0, |all, &q| all | q.wrapping_sub(first));
            let byte = |&q: &i32| q.wrapping_sub(first) as u8;
            (all & !0xff == 0).then(|| Narrow {
                first,
                bytes: codes.iter().map(byte).collect(),
            })
        });
        match narrow {
            Some(narrow) => narrow.into(),
            None => Self {
                narrow: None,
                wide: codes.into(),
            },
        }
    }

    /// Codes that are `first` more than `bytes`.
    pub fn of_bytes(first: i32, bytes: Vec<u8>) -> Self {
        Narrow { first, bytes }.into()
    }

    /// The code that byte 0 stands for on a grid; `None` where bytes do not hold its codes.
    pub fn first(grid: &CodeGrid) -> Option<i32> {
        let first = i32::try_from(grid.min).ok()?;
        (grid.max - grid.min <= 255 && i32::try_from(grid.max).is_ok()).then_some(first)
    }

    /// The bytes, and the code that byte 0 stands for; `None` where a code is wider.
    pub fn bytes(&self) -> Option<(i32, &[u8])> {
        let narrow = self.narrow.as_ref()?;
        Some((narrow.first, &narrow.bytes))
    }

    /// The bytes, to be used again.
    pub fn into_bytes(self) -> Option<Vec<u8>> {
        Some(self.narrow?.bytes)
    }

    /// One code.
    pub fn at(&self, index: usize) -> i32 {
        match &self.narrow {
            Some(narrow) => narrow.first + i32::from(narrow.bytes[index]),
            None => self[index],
        }
    }

    /// Number of codes.
    pub fn len(&self) -> usize {
        match &self.narrow {
            Some(narrow) => narrow.bytes.len(),
            None => self.deref().len(),
        }
    }

    /// Whether there is no code.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory.
    pub fn memory(&self) -> usize {
        let narrow = self.narrow.as_ref().map_or(0, |narrow| narrow.bytes.len());
        narrow + self.wide.get().map_or(0, |wide| wide.len() * 4)
    }

    /// Each code between two ends.
    pub fn clamp(&mut self, lo: i32, hi: i32) {
        if let Some(Narrow { first, bytes }) = &mut self.narrow {
            let byte = |code: i32| (code - *first).clamp(0, 255) as u8;
            let (low, high) = (byte(lo), byte(hi).max(byte(lo)));
            for byte in bytes {
                *byte = (*byte).clamp(low, high);
            }
            self.wide = OnceLock::new();
        } else if let Some(wide) = self.wide.get_mut() {
            for code in wide {
                *code = (*code).clamp(lo, hi);
            }
        }
    }
}

impl From<Narrow> for Codes {
    fn from(narrow: Narrow) -> Self {
        Self {
            narrow: Some(narrow),
            wide: OnceLock::new(),
        }
    }
}

impl Deref for Codes {
    type Target = [i32];

    fn deref(&self) -> &[i32] {
        self.wide.get_or_init(|| match &self.narrow {
            Some(Narrow { first, bytes }) => {
                bytes.iter().map(|&byte| first + i32::from(byte)).collect()
            }
            None => Vec::new(),
        })
    }
}

impl PartialEq for Codes {
    fn eq(&self, other: &Self) -> bool {
        match (&self.narrow, &other.narrow) {
            (Some(a), Some(b)) if a.first == b.first => a.bytes == b.bytes,
            _ => **self == **other,
        }
    }
}

impl<'a> IntoIterator for &'a Codes {
    type Item = &'a i32;
    type IntoIter = std::slice::Iter<'a, i32>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use align_check_graph::PerChannel;

    use super::*;

    fn grid(min: i64, max: i64) -> CodeGrid {
        CodeGrid {
            scale: PerChannel::uniform(1.0),
            zero_point: PerChannel::uniform(0),
            min,
            max,
        }
    }

    #[test]
    fn codes_are_the_same_in_bytes_and_in_words() {
        let list = vec![-128, -1, 0, 7, 127];
        let narrow = Codes::new(list.clone(), &grid(-128, 127));
        assert_eq!(narrow.bytes(), Some((-128, &[0, 127, 128, 135, 255][..])));
        assert_eq!(narrow.memory(), 5);
        let wide = Codes::new(list.clone(), &grid(-1000, 1000));
        assert_eq!(wide.bytes(), None);
        assert_eq!(narrow, wide);
        assert_eq!((&narrow[..], narrow.at(3), wide.at(3)), (&list[..], 7, 7));
        // A code that the grid does not have is kept as it is.
        let beyond = Codes::new(vec![0, 256], &grid(0, 255));
        assert_eq!((beyond.bytes(), &beyond[..]), (None, &[0, 256][..]));
    }

    #[test]
    fn clamping_is_the_same_in_bytes_and_in_words() {
        for (lo, hi) in [(-3, 5), (-500, 5), (0, 500), (127, 127)] {
            let list: Vec<i32> = (-128..128).collect();
            let expected: Vec<i32> = list.iter().map(|q| (*q).clamp(lo, hi)).collect();
            for grid in [grid(-128, 127), grid(-1000, 1000)] {
                let mut codes = Codes::new(list.clone(), &grid);
                assert_eq!(codes[0], -128);
                codes.clamp(lo, hi);
                assert_eq!(codes[..], expected);
            }
        }
    }
}
