//! The caffemodel: what was trained, by the names of layers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use prost::Message;

use super::proto::{BlobProto, NetParameter};
use crate::onnx::fail::{Outcome, malformed, shown, unsupported};
use crate::onnx::scan;
use crate::onnx::tensor::{elements, shape_from};
use crate::{Error, Limits, file};

/// Messages for each node that the limits allow.
const MESSAGES_PER_NODE: usize = 64;

/// The file.
#[derive(Debug)]
pub(super) struct Weights {
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    layers: HashMap<String, Vec<BlobProto>>,
}

/// What a field's own fields are walked for.
#[derive(Clone, Copy)]
enum Kind {
    Net,
    Layer,
    Blob,
}

impl Weights {
    /// Reads a caffemodel.
    pub(super) fn read(path: &Path, limits: &Limits) -> Result<Self, Error> {
        let bytes = file::read(path, limits)?;
        let layers = decode(&bytes, limits).map_err(|fail| fail.in_file(path, "weights"))?;
        Ok(Self {
            path: path.to_owned(),
            bytes: bytes.len() as u64,
            layers,
        })
    }

    /// How many blobs a layer has; none where the file does not hold the layer.
    pub(super) fn count(&self, layer: &str) -> usize {
        self.layers.get(layer).map_or(0, Vec::len)
    }

    /// A blob of a layer: its contents, where it has `shape`. Leading extents of 1 do not count: old files pad
    /// every shape to four axes (`Blob::ShapeEquals` in `BVLC/caffe` `src/caffe/blob.cpp`).
    pub(super) fn blob(
        &self,
        layer: &str,
        index: usize,
        shape: &[usize],
        limits: &Limits,
    ) -> Outcome<Vec<f32>> {
        let blobs = self.layers.get(layer);
        let Some(blob) = blobs.and_then(|blobs| blobs.get(index)) else {
            return malformed(format!(
                "{} holds {} blobs of this layer, it needs blob {index} of shape {shape:?}",
                self.path.display(),
                self.count(layer)
            ));
        };
        let about = |what: String| format!("{}: blob {index} {what}", self.path.display());
        let wanted = elements(shape, limits)?;
        let stated = stated_shape(blob, limits)?;
        let significant = |shape: &[usize]| -> Vec<usize> {
            let ones = shape.iter().take_while(|&&dim| dim == 1).count();
            shape[ones..].to_vec()
        };
        if significant(&stated) != significant(shape) {
            return malformed(about(format!("has shape {stated:?}, not {shape:?}")));
        }
        if blob.raw_data.is_some() {
            return unsupported(about(
                "holds raw data of NVIDIA's Caffe; save it with floats".into(),
            ));
        }
        let data: Vec<f32> = if blob.double_data.is_empty() {
            blob.data.clone()
        } else {
            blob.double_data.iter().map(|&x| x as f32).collect()
        };
        if data.len() != wanted {
            return malformed(about(format!(
                "holds {} numbers, its shape {shape:?} asks for {wanted}",
                data.len()
            )));
        }
        if let Some(bad) = data.iter().find(|x| !x.is_finite()) {
            return malformed(about(format!("holds {bad}")));
        }
        Ok(data)
    }
}

fn stated_shape(blob: &BlobProto, limits: &Limits) -> Outcome<Vec<usize>> {
    if let Some(shape) = &blob.shape {
        return shape_from(&shape.dim, limits);
    }
    let old = [blob.num, blob.channels, blob.height, blob.width];
    let dims = old.map(|dim| i64::from(dim.unwrap_or(0)));
    shape_from(&dims, limits)
}

fn decode(bytes: &[u8], limits: &Limits) -> Outcome<HashMap<String, Vec<BlobProto>>> {
    if bytes.starts_with(b"\x89HDF") {
        return unsupported("an HDF5 file; save the network as a binary caffemodel");
    }
    let most = limits.nodes.saturating_mul(MESSAGES_PER_NODE);
    scan::count(bytes, most, Kind::Net, |kind, field| match (kind, field) {
        (Kind::Net, 100) => Some(Kind::Layer),
        (Kind::Layer, 7) => Some(Kind::Blob),
        _ => None,
    })?;
    let net = NetParameter::decode(bytes)
        .or_else(|error| malformed(format!("not a caffemodel, or damaged ({error})")))?;
    if !net.layers.is_empty() {
        return unsupported(
            "the old format V1 (`layers`); upgrade it with Caffe's upgrade_net_proto_binary",
        );
    }
    let mut layers = HashMap::with_capacity(net.layer.len());
    for layer in net.layer {
        let name = layer.name.unwrap_or_default();
        if layer.blobs.is_empty() {
            continue;
        }
        let message = format!("two layers are named '{}'", shown(&name));
        if layers.insert(name, layer.blobs).is_some() {
            return malformed(message);
        }
    }
    if layers.is_empty() {
        return malformed("no layer with weights in it: not a caffemodel");
    }
    Ok(layers)
}
