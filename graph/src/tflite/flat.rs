//! Checked access to a flatbuffer: every offset, length and count is held against the file before it is
//! used (`FlatBuffers` internals: a table begins with the distance to its vtable, the vtable holds its own
//! length, the table's length and one offset a field; vectors and strings begin with their count).

use crate::onnx::fail::{Outcome, malformed};

/// A table of the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table<'a> {
    bytes: &'a [u8],
    /// Where it begins.
    at: usize,
    vtable: usize,
    /// Fields that the vtable has room for.
    fields: usize,
    /// Where it ends.
    end: usize,
}

/// A vector of the file: where its first element lies, and how many there are; all of them lie in the file.
#[derive(Debug, Clone, Copy)]
struct List {
    at: usize,
    count: usize,
}

fn damaged<T>() -> Outcome<T> {
    malformed("the file is damaged: an offset or a length points out of it")
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> Outcome<[u8; N]> {
    let end = at.checked_add(N);
    match end
        .and_then(|end| bytes.get(at..end))
        .map(TryInto::try_into)
    {
        Some(Ok(found)) => Ok(found),
        _ => damaged(),
    }
}

/// Follows an unsigned offset.
fn follow(bytes: &[u8], at: usize) -> Outcome<usize> {
    let offset = u32::from_le_bytes(take(bytes, at)?) as usize;
    match at.checked_add(offset) {
        Some(to) if offset >= 4 && to < bytes.len() => Ok(to),
        _ => damaged(),
    }
}

impl<'a> Table<'a> {
    /// The root table of a file.
    pub(super) fn root(bytes: &'a [u8]) -> Outcome<Self> {
        Self::new(bytes, follow(bytes, 0)?)
    }

    /// The table that begins at a place.
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Outcome<Self> {
        let back = i64::from(i32::from_le_bytes(take(bytes, at)?));
        let Some(vtable) = (at as i64)
            .checked_sub(back)
            .and_then(|at| usize::try_from(at).ok())
        else {
            return damaged();
        };
        let length = usize::from(u16::from_le_bytes(take(bytes, vtable)?));
        let own = usize::from(u16::from_le_bytes(take(bytes, vtable.saturating_add(2))?));
        if length < 4 || own < 4 || vtable + length > bytes.len() || at + own > bytes.len() {
            return damaged();
        }
        Ok(Self {
            bytes,
            at,
            vtable,
            fields: (length - 4) / 2,
            end: at + own,
        })
    }

    /// Where the table begins, for [`Self::new`] later.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Where a field's `size` bytes lie; `None` where the file leaves the default.
    fn field(&self, id: usize, size: usize) -> Outcome<Option<usize>> {
        if id >= self.fields {
            return Ok(None);
        }
        let offset = u16::from_le_bytes(take(self.bytes, self.vtable + 4 + 2 * id)?);
        match usize::from(offset) {
            0 => Ok(None),
            offset if offset < 4 || self.at + offset + size > self.end => damaged(),
            offset => Ok(Some(self.at + offset)),
        }
    }

    fn scalar<const N: usize>(&self, id: usize) -> Outcome<Option<[u8; N]>> {
        match self.field(id, N)? {
            Some(at) => take(self.bytes, at).map(Some),
            None => Ok(None),
        }
    }

    pub(super) fn u8(&self, id: usize) -> Outcome<u8> {
        Ok(self.scalar::<1>(id)?.map_or(0, |[byte]| byte))
    }

    pub(super) fn i8(&self, id: usize) -> Outcome<i8> {
        Ok(self.scalar(id)?.map_or(0, i8::from_le_bytes))
    }

    pub(super) fn flag(&self, id: usize) -> Outcome<bool> {
        Ok(self.u8(id)? != 0)
    }

    /// A flag whose default is true.
    pub(super) fn set_flag(&self, id: usize) -> Outcome<bool> {
        Ok(self.scalar(id)?.is_none_or(|bytes: [u8; 1]| bytes[0] != 0))
    }

    pub(super) fn i32(&self, id: usize, default: i32) -> Outcome<i32> {
        Ok(self.scalar(id)?.map_or(default, i32::from_le_bytes))
    }

    pub(super) fn u32(&self, id: usize) -> Outcome<u32> {
        Ok(self.scalar(id)?.map_or(0, u32::from_le_bytes))
    }

    pub(super) fn u64(&self, id: usize) -> Outcome<u64> {
        Ok(self.scalar(id)?.map_or(0, u64::from_le_bytes))
    }

    pub(super) fn f32(&self, id: usize) -> Outcome<f32> {
        Ok(self.scalar(id)?.map_or(0.0, f32::from_le_bytes))
    }

    /// The table that a field points to.
    pub(super) fn table(&self, id: usize) -> Outcome<Option<Self>> {
        match self.field(id, 4)? {
            Some(at) => Self::new(self.bytes, follow(self.bytes, at)?).map(Some),
            None => Ok(None),
        }
    }

    fn list(&self, id: usize, size: usize) -> Outcome<Option<List>> {
        let Some(at) = self.field(id, 4)? else {
            return Ok(None);
        };
        let start = follow(self.bytes, at)?;
        let count = u32::from_le_bytes(take(self.bytes, start)?) as usize;
        let at = start + 4;
        match count.checked_mul(size).and_then(|n| n.checked_add(at)) {
            Some(end) if end <= self.bytes.len() => Ok(Some(List { at, count })),
            _ => damaged(),
        }
    }

    /// A vector of tables, at most `most`; absent is empty.
    pub(super) fn tables(
        &self,
        id: usize,
        what: &str,
        most: usize,
    ) -> Outcome<impl ExactSizeIterator<Item = Outcome<Self>> + use<'a>> {
        let List { at, count } = self.list(id, 4)?.unwrap_or(List { at: 0, count: 0 });
        if count > most {
            return malformed(format!(
                "the file has {count} {what}, the limit is {most} (--max-nodes)"
            ));
        }
        let bytes = self.bytes;
        Ok((0..count).map(move |i| Self::new(bytes, follow(bytes, at + 4 * i)?)))
    }

    /// A string; absent is empty. What is not UTF-8 is replaced.
    pub(super) fn text(&self, id: usize) -> Outcome<String> {
        Ok(self.data(id)?.map_or_else(String::new, |(at, count)| {
            String::from_utf8_lossy(&self.bytes[at..at + count]).into_owned()
        }))
    }

    /// Length of a string in bytes.
    pub(super) fn text_length(&self, id: usize) -> Outcome<usize> {
        Ok(self.data(id)?.map_or(0, |(_, count)| count))
    }

    /// Place and length of a vector of bytes; it lies in the file.
    pub(super) fn data(&self, id: usize) -> Outcome<Option<(usize, usize)>> {
        Ok(self.list(id, 1)?.map(|list| (list.at, list.count)))
    }

    /// Number of elements of a vector, each of `size` bytes; absent is 0.
    pub(super) fn count(&self, id: usize, size: usize) -> Outcome<usize> {
        Ok(self.list(id, size)?.map_or(0, |list| list.count))
    }

    fn numbers<const N: usize, T>(
        &self,
        id: usize,
        convert: fn([u8; N]) -> T,
    ) -> Outcome<Option<Vec<T>>> {
        let Some(List { at, count }) = self.list(id, N)? else {
            return Ok(None);
        };
        (0..count)
            .map(|i| take(self.bytes, at + N * i).map(convert))
            .collect::<Outcome<_>>()
            .map(Some)
    }

    /// A vector of `int`; absent is `None`. The caller has asked for its [`Self::count`].
    pub(super) fn i32s(&self, id: usize) -> Outcome<Option<Vec<i32>>> {
        self.numbers(id, i32::from_le_bytes)
    }

    /// A vector of `float`; absent is empty.
    pub(super) fn f32s(&self, id: usize) -> Outcome<Vec<f32>> {
        Ok(self.numbers(id, f32::from_le_bytes)?.unwrap_or_default())
    }

    /// A vector of `long`; absent is empty.
    pub(super) fn i64s(&self, id: usize) -> Outcome<Vec<i64>> {
        Ok(self.numbers(id, i64::from_le_bytes)?.unwrap_or_default())
    }
}
