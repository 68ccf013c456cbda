//! The `.npy` form of an array: its header, the whole array, or a part of it along the first axis.

use std::io::{Cursor, Read};

use align_check_graph::Limits;
use anyhow::{Result, anyhow, bail};
use ndarray::ArrayD;
use ndarray_npy::{ReadNpyError, ReadNpyExt};

use super::{Array, ArrayKind};

/// Elements that one array may have.
const MAX_ELEMENTS: usize = 1 << 31;

/// Most bytes of a header.
const MAX_HEADER: u32 = 1 << 20;

/// What stands in front of an array's numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    /// Type and order of bytes, as numpy writes them: `<f4`.
    descr: String,
    /// Whether the first axis runs fastest.
    pub fortran: bool,
    /// Extents.
    pub shape: Vec<usize>,
    /// Bytes in front of the numbers.
    pub length: usize,
}

impl Header {
    /// Reads a header; the whole file has so many bytes.
    ///
    /// # Errors
    /// One line: it is no header, or its shape promises more than the file holds.
    pub fn read(reader: &mut impl Read, bytes: u64) -> Result<Self> {
        let truncated = |_| anyhow!("a truncated .npy header");
        let mut start = [0u8; 10];
        reader.read_exact(&mut start).map_err(truncated)?;
        if !start.starts_with(b"\x93NUMPY") {
            bail!("no .npy data");
        }
        let mut length = u32::from(u16::from_le_bytes([start[8], start[9]]));
        let mut front = start.len();
        if start[6] > 1 {
            let mut more = [0u8; 2];
            reader.read_exact(&mut more).map_err(truncated)?;
            length = u32::from_le_bytes([start[8], start[9], more[0], more[1]]);
            front += more.len();
        }
        if length > MAX_HEADER {
            bail!("an .npy header of {length} bytes");
        }
        let mut header = vec![0u8; length as usize];
        reader.read_exact(&mut header).map_err(truncated)?;
        let header = String::from_utf8_lossy(&header);
        // What is checked here must be what is read: no second one, and none that is spelled otherwise.
        for name in ["shape", "descr", "fortran_order"] {
            if header.matches(name).count() != 1 || header.contains('\\') {
                bail!("an .npy header with another '{name}' than one");
            }
        }
        let field = |name: &str| header.split(&format!("'{name}'")).nth(1);
        let shape = field("shape")
            .and_then(|t| t.split('(').nth(1))
            .and_then(|t| t.split(')').next())
            .ok_or_else(|| anyhow!("an .npy header without a shape"))?;
        let wrong = || anyhow!("an array of shape ({shape}), more than the file holds");
        let extents = shape
            .split(',')
            .map(str::trim)
            .filter(|t| !t.is_empty())
            .map(|t| t.trim_end_matches('L').parse::<usize>().ok())
            .collect::<Option<Vec<usize>>>()
            .ok_or_else(wrong)?;
        extents
            .iter()
            .try_fold(1usize, |n, &extent| n.checked_mul(extent))
            .filter(|&n| n <= MAX_ELEMENTS && n as u64 <= bytes)
            .ok_or_else(wrong)?;
        let value = |name: &str| field(name).map(|t| t.trim_start_matches([':', ' ']));
        Ok(Self {
            descr: value("descr")
                .and_then(|t| t.split('\'').nth(1))
                .unwrap_or_default()
                .to_owned(),
            fortran: value("fortran_order").is_some_and(|t| t.starts_with("True")),
            shape: extents,
            length: front + length as usize,
        })
    }

    /// Bytes of an element.
    ///
    /// # Errors
    /// The type is none that is read.
    pub fn element(&self) -> Result<usize> {
        let digits = self.descr.trim_start_matches(|c: char| !c.is_ascii_digit());
        match digits.parse() {
            Ok(bytes @ (1 | 2 | 4 | 8)) => Ok(bytes),
            _ => bail!("{WRONG_TYPE}"),
        }
    }

    /// Numbers of this type as an array of another shape.
    ///
    /// # Errors
    /// The type is none that is read, or the numbers do not fill the shape.
    pub fn part(&self, shape: &[usize], numbers: &[u8]) -> Result<Array> {
        let extents: Vec<String> = shape.iter().map(|n| format!("{n},")).collect();
        let mut header = format!(
            "{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}",
            self.descr,
            extents.join(" ")
        );
        // Ten bytes stand in front; the numbers begin at a multiple of 64.
        let padded = (10 + header.len() + 1).next_multiple_of(64) - 11;
        header += &" ".repeat(padded - header.len());
        header.push('\n');
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend(
            u16::try_from(header.len())
                .map_err(|_| anyhow!("an array of {} axes", shape.len()))?
                .to_le_bytes(),
        );
        bytes.extend(header.as_bytes());
        bytes.extend(numbers);
        read(&bytes)
    }
}

const WRONG_TYPE: &str = "neither float32, float64, bool nor an integer type of 8 to 64 bits";

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Reads one array in `.npy` form.
///
/// # Errors
/// One line: what is wrong with it.
pub(crate) fn read(bytes: &[u8]) -> Result<Array> {
    let mut budget = Budget(Limits::default().memory(bytes.len() as u64));
    npy(|| Ok(Cursor::new(bytes)), bytes.len() as u64, &mut budget)
}

/// What the arrays of a file may still take in memory.
pub(super) struct Budget(pub(super) u64);

impl Budget {
    /// Whether so many bytes are left.
    ///
    /// # Errors
    /// One line: they are not.
    pub fn check(&self, bytes: u64) -> Result<()> {
        if bytes > self.0 {
            bail!(
                "takes {bytes} bytes, more than the {} that are left of the file's limit ({})",
                self.0,
                Limits::MEMORY
            );
        }
        Ok(())
    }

    fn take(&mut self, bytes: u64) -> Result<()> {
        self.check(bytes)?;
        self.0 -= bytes;
        Ok(())
    }
}

/// Reads one array in `.npy` form, of `bytes` bytes.
pub(super) fn npy<R: Read>(
    open: impl Fn() -> Result<R>,
    bytes: u64,
    budget: &mut Budget,
) -> Result<Array> {
    let header = Header::read(&mut open()?, bytes)?;
    // While it is read there are its bytes, its numbers as they are stored, and as they are kept.
    let kept = (header.shape.iter().product::<usize>() as u64).saturating_mul(8);
    budget.check(bytes.saturating_mul(2).saturating_add(kept))?;
    budget.take(kept)?;
    macro_rules! attempt {
        ($($type:ty => $kind:expr),*) => {$(
            match ArrayD::<$type>::read_npy(open()?) {
                Ok(array) => {
                    #[allow(clippy::cast_lossless, reason = "one macro for every element type")]
                    let values = array.iter().map(|&v| v as f64).collect();
                    return Ok(Array { shape: array.shape().to_vec(), values, kind: $kind });
                }
                Err(ReadNpyError::WrongDescriptor(_)) => {}
                Err(e) => bail!("{}", one_line(&e.to_string())),
            }
        )*};
    }
    attempt!(
        f32 => ArrayKind::Float, f64 => ArrayKind::Float,
        i8 => ArrayKind::Signed(8), u8 => ArrayKind::Unsigned(8),
        i16 => ArrayKind::Signed(16), u16 => ArrayKind::Unsigned(16),
        i32 => ArrayKind::Signed(32), u32 => ArrayKind::Unsigned(32),
        i64 => ArrayKind::Signed(64), u64 => ArrayKind::Unsigned(64)
    );
    match ArrayD::<bool>::read_npy(open()?) {
        Ok(array) => Ok(Array {
            shape: array.shape().to_vec(),
            values: array.iter().map(|&v| f64::from(u8::from(v))).collect(),
            kind: ArrayKind::Unsigned(1),
        }),
        Err(_) => bail!("{WRONG_TYPE}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray_npy::WriteNpyExt as _;

    #[test]
    fn a_part_is_the_same_numbers() {
        let whole =
            ArrayD::from_shape_vec(vec![3, 2, 2], (0..12).map(|v| v as f32 / 3.0).collect())
                .expect("twelve numbers");
        let mut bytes = Vec::new();
        whole.write_npy(&mut bytes).expect("memory");
        let header = Header::read(&mut &bytes[..], bytes.len() as u64).expect("a header");
        assert_eq!((&header.shape[..], header.fortran), (&[3, 2, 2][..], false));
        let size = 4 * header.element().expect("float32");
        let at = header.length + 2 * size;
        let part = header
            .part(&[1, 2, 2], &bytes[at..at + size])
            .expect("four numbers");
        assert_eq!(part.shape, [1, 2, 2]);
        let wanted: Vec<f64> = (8..12).map(|v| f64::from(v as f32 / 3.0)).collect();
        assert_eq!(part.values, wanted);
        assert!(header.part(&[1, 2, 2], &bytes[at..at + size - 1]).is_err());
    }
}
