//! Writes small Caffe networks: a prototxt as text, a caffemodel by its messages.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::fs;

use align_check_graph::caffe::proto::{BlobProto, BlobShape, LayerParameter, NetParameter};
use align_check_graph::{Error, Graph, Limits, Model};
use prost::Message;

/// A blob with its shape.
pub fn blob(dims: &[i64], data: &[f32]) -> BlobProto {
    BlobProto {
        data: data.to_vec(),
        shape: Some(BlobShape { dim: dims.to_vec() }),
        ..BlobProto::default()
    }
}

/// A layer of the caffemodel.
pub fn layer(name: &str, blobs: Vec<BlobProto>) -> LayerParameter {
    LayerParameter {
        name: Some(name.to_owned()),
        blobs,
    }
}

/// The bytes of a caffemodel.
pub fn caffemodel(layers: Vec<LayerParameter>) -> Vec<u8> {
    let net = NetParameter {
        layer: layers,
        ..NetParameter::default()
    };
    net.encode_to_vec()
}

/// Reads a network from bytes; the files lie in a folder of their own for as long.
pub fn read(prototxt: &[u8], weights: Option<&[u8]>, limits: &Limits) -> Result<Model, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.prototxt");
    fs::write(&path, prototxt).unwrap();
    if let Some(weights) = weights {
        fs::write(folder.path().join("model.caffemodel"), weights).unwrap();
    }
    Model::read(&path, limits)
}

/// The graph of a network at the file's shapes.
pub fn graph(prototxt: &str, layers: Vec<LayerParameter>) -> Result<Graph, String> {
    let weights = caffemodel(layers);
    let weights = (weights.len() > 2).then_some(weights.as_slice());
    read(prototxt.as_bytes(), weights, &Limits::default())
        .and_then(|model| model.graph(&BTreeMap::new()))
        .map_err(|error| error.to_string())
}

/// An input `x` of a shape, and layers behind it.
pub fn behind(shape: &[usize], layers: &str) -> String {
    format!("input: \"x\" input_shape {{ dim: {shape:?} }}\n{layers}")
}

/// A layer from `x` to `y`.
pub fn one(kind: &str, params: &str) -> String {
    format!("layer {{ name: \"l\" type: \"{kind}\" bottom: \"x\" top: \"y\" {params} }}")
}
