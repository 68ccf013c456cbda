//! Arrays of samples that stay where they are until a sample is needed.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use align_check_graph::Limits;
use anyhow::{Result, anyhow, bail};
use zip::{CompressionMethod, ZipArchive};

use super::npy::{self, Budget, Header};
use super::picture::Pictures;
use super::{Array, ArrayKind, MAX_RATIO, one_line, read_arrays_within};
use crate::record::raw_type;

/// Bytes of compressed entries that are held in memory; what is beyond lies in a temporary file.
const HELD: usize = 64 << 20;

/// An array of a file, of which only the header was read.
pub(super) struct Block {
    /// The file.
    pub file: PathBuf,
    /// The array's key; empty where the file has only one.
    pub key: String,
    /// Extents of the whole array, as the file has them.
    pub shape: Vec<usize>,
    place: Place,
}

/// Where the numbers are.
enum Place {
    /// In memory.
    Held(Array),
    /// In a file, behind a header.
    File { header: Header, offset: u64 },
    /// In memory, in `.npy` form.
    Bytes { header: Header, bytes: Vec<u8> },
    /// In an entry of an archive.
    Entry {
        index: usize,
        header: Header,
        compressed: bool,
    },
    /// In the temporary file.
    Spilled {
        header: Header,
        offset: u64,
        file: Arc<Mutex<File>>,
    },
    /// Numbers without a header.
    Raw { kind: ArrayKind, size: usize },
    /// A picture.
    Picture(Arc<Pictures>),
}

/// Where compressed arrays of many samples go.
#[derive(Default)]
pub(super) struct Spill {
    held: usize,
    file: Option<(Arc<Mutex<File>>, u64)>,
}

impl Block {
    /// An array in memory.
    pub fn held(file: PathBuf, key: String, array: Array) -> Self {
        Self {
            file,
            key,
            shape: array.shape.clone(),
            place: Place::Held(array),
        }
    }

    /// The arrays of an `.npz` or `.npy` file.
    ///
    /// # Errors
    /// One line that names the file, and the array where there is one.
    pub fn of_arrays(path: &Path, limits: &Limits) -> Result<Vec<Self>> {
        let shown = path.display();
        let open = || File::open(path).map_err(|e| anyhow!("{shown}: {e}"));
        let mut file = open()?;
        let length = file.metadata().map_err(|e| anyhow!("{shown}: {e}"))?.len();
        if length > limits.file_bytes {
            bail!(
                "{shown}: the file is larger than the limit of {} bytes ({})",
                limits.file_bytes,
                Limits::FILE
            );
        }
        let budget = Budget(limits.memory(length));
        let mut magic = [0; 6];
        let is = |magic: &[u8], start: &[u8]| magic.starts_with(start);
        let read = file.read(&mut magic).map_err(|e| anyhow!("{shown}: {e}"))?;
        let magic = &magic[..read];
        if is(magic, b"\x93NUMPY") {
            let header = Header::read(&mut BufReader::new(open()?), length)
                .map_err(|e| anyhow!("{shown}: {e}"))?;
            return Ok(vec![Self::listed(path, String::new(), header, |header| {
                let offset = header.length as u64;
                Place::File { header, offset }
            })?]);
        }
        if !is(magic, b"PK") {
            bail!("{shown}: neither an .npz nor an .npy file");
        }
        let mut zip = archive(path)?;
        let mut blocks = Vec::with_capacity(zip.len());
        for index in 0..zip.len() {
            let (name, size) = promised(path, &mut zip, index)?;
            let mut entry = zip.by_index(index).map_err(|e| damaged(path, &e))?;
            let compressed = entry.compression() != CompressionMethod::Stored;
            if compressed {
                // It will be unpacked.
                budget
                    .check(size)
                    .map_err(|e| anyhow!("{shown}: entry '{name}': {e}"))?;
            }
            let key = name.strip_suffix(".npy").unwrap_or(&name).to_string();
            let header = Header::read(&mut entry, size)
                .map_err(|e| anyhow!("{shown}: array '{key}': {e}"))?;
            blocks.push(Self::listed(path, key, header, |header| Place::Entry {
                index,
                header,
                compressed,
            })?);
        }
        if blocks.is_empty() {
            bail!("{shown}: no arrays");
        }
        Ok(blocks)
    }

    fn listed(
        path: &Path,
        key: String,
        header: Header,
        place: impl FnOnce(Header) -> Place,
    ) -> Result<Self> {
        let of = if key.is_empty() {
            String::new()
        } else {
            format!(" array '{key}':")
        };
        header
            .element()
            .map_err(|e| anyhow!("{}:{of} {e}", path.display()))?;
        Ok(Self {
            file: path.to_path_buf(),
            key,
            shape: header.shape.clone(),
            place: place(header),
        })
    }

    /// A file of numbers without a header; `sample` is the shape of one sample.
    ///
    /// # Errors
    /// One line: the file cannot be read, or its size is no multiple of a sample's.
    pub fn raw(path: &Path, kind: &str, sample: &[usize]) -> Result<Self> {
        let shown = path.display();
        let (kind, size) = raw_type(kind)?;
        let bytes = std::fs::metadata(path)
            .map_err(|e| anyhow!("{shown}: {e}"))?
            .len();
        let one = sample.iter().product::<usize>() as u64 * size as u64;
        if one == 0 || bytes == 0 || !bytes.is_multiple_of(one) {
            bail!(
                "{shown}: has {bytes} bytes, but a sample of shape {sample:?} takes {one} ({size} bytes an element, \
                 --raw-type)"
            );
        }
        let mut shape = sample.to_vec();
        match shape.first_mut() {
            Some(batch) => *batch *= (bytes / one) as usize,
            None => shape.push((bytes / one) as usize),
        }
        Ok(Self {
            file: path.to_path_buf(),
            key: String::new(),
            shape,
            place: Place::Raw { kind, size },
        })
    }

    /// A picture that will get the shape of a sample.
    pub fn picture(path: &Path, pictures: &Arc<Pictures>) -> Self {
        Self {
            file: path.to_path_buf(),
            key: String::new(),
            shape: pictures.shape().to_vec(),
            place: Place::Picture(pictures.clone()),
        }
    }

    /// Makes parts of the array quick to reach, where it has several. A compressed entry is unpacked once; what is read
    /// here is held against the archive's checksum.
    ///
    /// # Errors
    /// One line: the file is damaged, or the temporary file cannot be written.
    pub fn prepare(&mut self, parts: usize, spill: &mut Spill, limits: &Limits) -> Result<()> {
        let fortran = match &self.place {
            Place::File { header, .. } | Place::Entry { header, .. } => header.fortran,
            _ => false,
        };
        if fortran {
            // Its samples do not lie one behind the other.
            let arrays = read_arrays_within(&self.file, limits)?;
            let own = arrays.into_iter().find(|(key, _)| *key == self.key);
            let (_, array) = own.ok_or_else(|| anyhow!("{}: was changed", self.file.display()))?;
            self.place = Place::Held(array);
            return Ok(());
        }
        let Place::Entry {
            index,
            header,
            compressed,
        } = &self.place
        else {
            return Ok(());
        };
        if parts <= 1 {
            return Ok(());
        }
        let (index, header) = (*index, header.clone());
        let path = &self.file;
        let mut zip = archive(path)?;
        let mut entry = zip.by_index(index).map_err(|e| damaged(path, &e))?;
        let size = entry.size();
        // One byte more: only behind the last one the checksum is looked at.
        let limited = |entry| Read::take(entry, size.saturating_add(1));
        if *compressed {
            self.place = spill.take(path, header, size, &mut limited(&mut entry))?;
        } else {
            let offset = entry.data_start() + header.length as u64;
            std::io::copy(&mut limited(&mut entry), &mut std::io::sink())
                .map_err(|e| damaged(path, &e))?;
            self.place = Place::File { header, offset };
        }
        Ok(())
    }

    /// One part of the array along its first axis, in a shape of its own.
    ///
    /// # Errors
    /// One line that names the file: it cannot be read, or was changed.
    pub fn part(&self, number: usize, shape: &[usize]) -> Result<Array> {
        let shown = self.file.display();
        let elements: usize = shape.iter().product();
        let at = |header: &Header| -> Result<(u64, usize)> {
            let size = elements * header.element()?;
            Ok((number as u64 * size as u64, size))
        };
        let read = || -> Result<Array> {
            match &self.place {
                Place::Held(array) => Ok(Array {
                    shape: shape.to_vec(),
                    values: array.values[number * elements..(number + 1) * elements].to_vec(),
                    kind: array.kind,
                }),
                Place::File { header, offset } => {
                    let (start, size) = at(header)?;
                    let bytes = read_at(&mut File::open(&self.file)?, offset + start, size)?;
                    header.part(shape, &bytes)
                }
                Place::Spilled {
                    header,
                    offset,
                    file,
                } => {
                    let (start, size) = at(header)?;
                    let mut file = file
                        .lock()
                        .map_err(|_| anyhow!("the temporary file is lost"))?;
                    let bytes = read_at(&mut file, offset + start, size)?;
                    drop(file);
                    header.part(shape, &bytes)
                }
                Place::Bytes { header, bytes } => {
                    let (start, size) = at(header)?;
                    let bytes = bytes.get(start as usize..start as usize + size);
                    header.part(shape, bytes.ok_or_else(|| anyhow!("was changed"))?)
                }
                Place::Entry { index, .. } => {
                    let mut array = npy::read(
                        &entry(
                            &self.file,
                            &mut archive(&self.file)?,
                            *index,
                            &Budget(u64::MAX),
                        )?
                        .1,
                    )?;
                    if array.values.len() != elements {
                        bail!("was changed");
                    }
                    array.shape = shape.to_vec();
                    Ok(array)
                }
                Place::Raw { kind, size } => {
                    let bytes = elements * size;
                    let start = number as u64 * bytes as u64;
                    let bytes = read_at(&mut File::open(&self.file)?, start, bytes)?;
                    Ok(Array {
                        shape: shape.to_vec(),
                        values: crate::record::raw_numbers(&bytes, *kind, *size),
                        kind: *kind,
                    })
                }
                Place::Picture(pictures) => pictures.load(&self.file),
            }
        };
        read().map_err(|e| {
            let text = format!("{e}");
            // Some of these name the file themselves.
            if text.starts_with(&shown.to_string()) {
                e
            } else {
                anyhow!("{shown}: {}", one_line(&text))
            }
        })
    }
}

impl Spill {
    /// Unpacks an entry: into memory while there is room, then behind what the temporary file holds.
    fn take(
        &mut self,
        path: &Path,
        header: Header,
        size: u64,
        entry: &mut impl Read,
    ) -> Result<Place> {
        // Its header was read before.
        let mut front = vec![0; header.length];
        entry
            .read_exact(&mut front)
            .map_err(|e| damaged(path, &e))?;
        let rest = size.saturating_sub(header.length as u64);
        if self.held as u64 + rest <= HELD as u64 {
            let mut bytes = Vec::new();
            entry
                .read_to_end(&mut bytes)
                .map_err(|e| damaged(path, &e))?;
            self.held += bytes.len();
            return Ok(Place::Bytes { header, bytes });
        }
        let failed = |e: &dyn std::fmt::Display| {
            anyhow!(
                "{}: cannot unpack it into a temporary file: {e}",
                path.display()
            )
        };
        let (file, end) = match &mut self.file {
            Some(own) => own,
            own => own.insert((
                Arc::new(Mutex::new(tempfile::tempfile().map_err(|e| failed(&e))?)),
                0,
            )),
        };
        let offset = *end;
        let mut open = file.lock().map_err(|e| failed(&e))?;
        open.seek(SeekFrom::Start(offset)).map_err(|e| failed(&e))?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = entry.read(&mut buffer).map_err(|e| damaged(path, &e))?;
            if read == 0 {
                break;
            }
            open.write_all(&buffer[..read]).map_err(|e| failed(&e))?;
            *end += read as u64;
        }
        drop(open);
        Ok(Place::Spilled {
            header,
            offset,
            file: file.clone(),
        })
    }
}

fn read_at(file: &mut File, offset: u64, size: usize) -> Result<Vec<u8>> {
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(size as u64).read_to_end(&mut bytes)?;
    if bytes.len() < size {
        bail!("ends before element {} of its shape", bytes.len());
    }
    Ok(bytes)
}

fn damaged(path: &Path, error: &dyn std::fmt::Display) -> anyhow::Error {
    anyhow!("{}: {}", path.display(), one_line(&error.to_string()))
}

/// The archive of a file.
///
/// # Errors
/// One line that names the file.
pub(super) fn archive(path: &Path) -> Result<ZipArchive<BufReader<File>>> {
    let file = File::open(path).map_err(|e| damaged(path, &e))?;
    ZipArchive::new(BufReader::new(file)).map_err(|e| damaged(path, &e))
}

/// The name of an entry, and the bytes that it promises.
fn promised(
    path: &Path,
    zip: &mut ZipArchive<BufReader<File>>,
    index: usize,
) -> Result<(String, u64)> {
    let entry = zip.by_index(index).map_err(|e| damaged(path, &e))?;
    if entry.size() > entry.compressed_size().saturating_mul(MAX_RATIO) + 1024 {
        bail!(
            "{}: entry '{}' promises {} bytes",
            path.display(),
            entry.name(),
            entry.size()
        );
    }
    Ok((entry.name().to_string(), entry.size()))
}

/// The key and the bytes of an archive's entry.
///
/// # Errors
/// One line that names the file: it is damaged, or promises more than it can hold.
pub(super) fn entry(
    path: &Path,
    zip: &mut ZipArchive<BufReader<File>>,
    index: usize,
    budget: &Budget,
) -> Result<(String, Vec<u8>)> {
    let (name, size) = promised(path, zip, index)?;
    budget
        .check(size)
        .map_err(|e| anyhow!("{}: entry '{name}': {e}", path.display()))?;
    let mut bytes = Vec::new();
    // One byte more: only behind the last one the checksum is looked at.
    zip.by_index(index)
        .map_err(|e| damaged(path, &e))?
        .take(size.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|e| damaged(path, &e))?;
    if bytes.len() as u64 != size {
        bail!(
            "{}: entry '{name}' is not the {size} bytes that it promises",
            path.display()
        );
    }
    Ok((
        name.strip_suffix(".npy").unwrap_or(&name).to_string(),
        bytes,
    ))
}
