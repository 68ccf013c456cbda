//! Dumps of every kind, told by their content and their names.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use align_check_graph::Limits;
use anyhow::{Result, anyhow, bail};

use super::args::RecordArgs;
use super::dump::{self, Dump, Found};
use super::{dpu, nnie, numpy, raw, tensorrt};

/// Folders in folders are looked into this deep.
const MAX_DEPTH: usize = 4;

/// Everything that was given.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// The tensors, samples joined.
    pub(crate) dumps: Vec<Dump>,
    /// What was left out, and why.
    pub(crate) ignored: Vec<String>,
    /// Formats that were found.
    pub(crate) formats: Vec<&'static str>,
    nnie: Vec<(PathBuf, nnie::Name)>,
    has_stages: bool,
    limits: Limits,
}

/// Reads every dump.
///
/// # Errors
/// One line that names the file.
pub(crate) fn read(args: &RecordArgs) -> Result<Sources> {
    let limits = args.limits.limits();
    let mut sources = Sources {
        limits: limits.clone(),
        ..Sources::default()
    };
    if let Some(dtype) = &args.dtype
        && dump::type_of(dtype).is_none()
    {
        bail!("--dtype {dtype}: none of {}", dump::names());
    }
    let mut from: Vec<&Path> = args.from.iter().map(PathBuf::as_path).collect();
    if let Some(list) = &args.list {
        let mut base = list.parent().filter(|p| !p.as_os_str().is_empty());
        if let [folder] = from[..]
            && folder.is_dir()
        {
            // The list explains this folder.
            base = Some(folder);
            from.clear();
        }
        let found = raw::read(
            list,
            base.unwrap_or(Path::new(".")),
            args.dtype.as_deref(),
            &limits,
        )?;
        sources.add("raw binaries", found);
    }
    for path in from {
        if path.is_dir() {
            sources.folder(path, path, args, 0)?;
        } else {
            sources.file(path, args)?;
        }
    }
    sources.stages(args.stage.as_deref())?;
    if args.stage.is_some() && !sources.has_stages {
        bail!("--stage: only NNIE dumps have stages, and Polygraphy's results runners");
    }
    if let Some(dtype) = &args.dtype {
        for dump in &mut sources.dumps {
            dump::retype(dump, dtype)?;
        }
    }
    sources.dumps = dump::join(std::mem::take(&mut sources.dumps))?;
    if sources.dumps.is_empty() {
        let shown: Vec<String> = args.from.iter().map(|p| p.display().to_string()).collect();
        bail!("{}: no dumped tensor in it", shown.join(", "));
    }
    Ok(sources)
}

impl Sources {
    fn add(&mut self, format: &'static str, found: Found) {
        if !self.formats.contains(&format) {
            self.formats.push(format);
        }
        self.dumps.extend(found.dumps);
        self.ignored.extend(found.ignored);
    }

    fn file(&mut self, path: &Path, args: &RecordArgs) -> Result<()> {
        let shown = path.display();
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default();
        let mut head = Vec::new();
        File::open(path)
            .and_then(|file| file.take(64).read_to_end(&mut head))
            .map_err(|e| anyhow!("{shown}: {e}"))?;
        if head.starts_with(b"\x93NUMPY") || head.starts_with(b"PK") {
            self.add("numpy", numpy::read(path, &self.limits)?);
        } else if let Some(named) = nnie::name(name) {
            self.nnie.push((path.to_owned(), named));
        } else if nnie::belongs(name) {
            bail!(
                "{shown}: its name is not <layer>_output<i>[_<C>_<H>_<W>]_<stage>[.linear].hex|.float"
            );
        } else if matches!(head.trim_ascii_start().first(), Some(b'{' | b'[')) {
            self.has_stages = true;
            self.add(
                "TensorRT JSON",
                tensorrt::read(path, args.stage.as_deref(), &self.limits)?,
            );
        } else if dpu::is_dump(&[name.to_owned()]) {
            let folder = path.parent().unwrap_or(Path::new("."));
            let files = [name.to_owned()];
            let found = dpu::Folder::open(folder, &self.limits)?.read(
                folder,
                &files,
                args.dtype.as_deref(),
            )?;
            self.add("Vitis AI", found);
        } else {
            bail!(
                "{shown}: no dump that is known (.npz, .npy, NNIE, Vitis AI, TensorRT JSON; others need --list)"
            );
        }
        Ok(())
    }

    fn folder(&mut self, root: &Path, path: &Path, args: &RecordArgs, depth: usize) -> Result<()> {
        let mut files = Vec::new();
        let mut folders = Vec::new();
        for entry in fs::read_dir(path).map_err(|e| anyhow!("{}: {e}", path.display()))? {
            let entry = entry.map_err(|e| anyhow!("{}: {e}", path.display()))?;
            let name = entry.file_name();
            // Links to folders are not followed: they may lead in a circle.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            } else if let Some(name) = name.to_str() {
                files.push(name.to_owned());
            }
        }
        files.sort();
        folders.sort();
        let is_dpu = dpu::is_dump(&files);
        if is_dpu {
            let found =
                dpu::Folder::open(path, &self.limits)?.read(path, &files, args.dtype.as_deref())?;
            self.add("Vitis AI", found);
        }
        for name in &files {
            let file = path.join(name);
            let end = name.rsplit_once('.').map_or("", |(_, end)| end);
            if let Some(named) = nnie::name(name) {
                self.nnie.push((file, named));
            } else if matches!(end, "npy" | "npz") {
                let mut found = numpy::read(&file, &self.limits)?;
                let below = path.strip_prefix(root).ok().and_then(Path::to_str);
                if let Some(below) = below.filter(|b| !b.is_empty() && end == "npy") {
                    for dump in &mut found.dumps {
                        dump.name = format!("{}/{}", below.replace('\\', "/"), dump.name);
                    }
                }
                self.add("numpy", found);
            } else if !(is_dpu && matches!(end, "bin" | "txt")) && name != "quant_info.json" {
                self.ignored
                    .push(format!("{name}: no dump of a layer's output"));
            }
        }
        for folder in folders {
            if depth < MAX_DEPTH {
                self.folder(root, &folder, args, depth + 1)?;
            } else {
                self.ignored.push(format!("{}: too deep", folder.display()));
            }
        }
        Ok(())
    }

    /// Reads the one stage that is meant.
    fn stages(&mut self, wanted: Option<&str>) -> Result<()> {
        let files = std::mem::take(&mut self.nnie);
        if files.is_empty() {
            return Ok(());
        }
        self.has_stages = true;
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, name) in &files {
            *counts.entry(name.stage).or_default() += 1;
        }
        let listed = |counts: &BTreeMap<&str, usize>| {
            let listed = counts
                .iter()
                .map(|(stage, count)| format!("{stage} ({count})"));
            listed.collect::<Vec<_>>().join(", ")
        };
        let stage = match (wanted, counts.keys().next()) {
            (Some(wanted), _) if counts.contains_key(wanted) => wanted.to_owned(),
            (None, Some(only)) if counts.len() == 1 => (*only).to_owned(),
            (Some(wanted), _) => {
                bail!(
                    "--stage {wanted}: not in the dump, which has {}",
                    listed(&counts)
                )
            }
            _ => bail!(
                "the dump has several stages, {}: choose one with --stage",
                listed(&counts)
            ),
        };
        let mut found = Found::default();
        for (path, name) in files {
            if name.stage == stage {
                found.dumps.push(nnie::read(&path, name, &self.limits)?);
            }
        }
        counts.remove(stage.as_str());
        if !counts.is_empty() {
            found
                .ignored
                .push(format!("files of other stages: {}", listed(&counts)));
        }
        self.add("NNIE", found);
        Ok(())
    }
}
