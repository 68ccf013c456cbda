//! Writes small OpenVINO IRs: the text of the `.xml` file and the bytes of the `.bin` file.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use align_check_graph::{Error, Graph, Limits, Model, Node, Op};

#[allow(
    clippy::duplicate_mod,
    reason = "a test of another crate has the writer alone"
)]
#[path = "../support/mod.rs"]
mod support;

/// A tensor under construction: which port of which layer.
#[derive(Debug, Clone, Copy)]
pub struct Out(pub usize, pub usize);

/// A model under construction.
#[derive(Debug, Clone, Default)]
pub struct Ir {
    layers: String,
    edges: String,
    pub bin: Vec<u8>,
    count: usize,
    /// The version of the format, `"11"` where it is empty.
    pub version: String,
    pub limits: Limits,
    pub shapes: BTreeMap<String, Vec<usize>>,
}

fn dims(shape: &[i64]) -> String {
    shape.iter().fold(String::new(), |mut text, dim| {
        let _ = write!(text, "<dim>{dim}</dim>");
        text
    })
}

fn list(shape: &[i64]) -> String {
    let text: Vec<String> = shape.iter().map(i64::to_string).collect();
    text.join(",")
}

impl Ir {
    pub fn new() -> Self {
        Self::default()
    }

    /// A layer as text, between the elements of its ports.
    pub fn layer_of(
        &mut self,
        [kind, version, name]: [&str; 3],
        data: &str,
        inputs: &[Out],
        outputs: &[(&str, &[i64])],
    ) -> usize {
        let id = self.count;
        self.count += 1;
        let _ = write!(
            self.layers,
            r#"<layer id="{id}" name="{name}" type="{kind}" version="{version}"><data {data}/>"#
        );
        if !inputs.is_empty() {
            self.layers.push_str("<input>");
            for (port, Out(from, from_port)) in inputs.iter().enumerate() {
                let _ = write!(self.layers, r#"<port id="{port}" precision="FP32"/>"#);
                let _ = write!(
                    self.edges,
                    r#"<edge from-layer="{from}" from-port="{from_port}" to-layer="{id}" to-port="{port}"/>"#
                );
            }
            self.layers.push_str("</input>");
        }
        if !outputs.is_empty() {
            self.layers.push_str("<output>");
            for (index, (names, shape)) in outputs.iter().enumerate() {
                let port = inputs.len() + index;
                let _ = write!(
                    self.layers,
                    r#"<port id="{port}" precision="FP32" names="{names}">{}</port>"#,
                    dims(shape)
                );
            }
            self.layers.push_str("</output>");
        }
        self.layers.push_str("</layer>");
        id
    }

    /// A layer of the first operator set with one output.
    pub fn layer(
        &mut self,
        kind: &str,
        name: &str,
        data: &str,
        inputs: &[Out],
        shape: &[i64],
    ) -> Out {
        let ports = [("", shape)];
        let id = self.layer_of([kind, "opset1", name], data, inputs, &ports);
        Out(id, inputs.len())
    }

    pub fn parameter(&mut self, name: &str, shape: &[i64]) -> Out {
        let data = format!(r#"shape="{}" element_type="f32""#, list(shape));
        self.layer("Parameter", name, &data, &[], shape)
    }

    /// A constant with its bytes.
    pub fn constant(&mut self, name: &str, kind: &str, shape: &[i64], bytes: &[u8]) -> Out {
        let (offset, size) = (self.bin.len(), bytes.len());
        self.bin.extend_from_slice(bytes);
        let data = format!(
            r#"element_type="{kind}" shape="{}" offset="{offset}" size="{size}""#,
            list(shape)
        );
        self.layer("Const", name, &data, &[], shape)
    }

    pub fn f32s(&mut self, name: &str, shape: &[i64], values: &[f32]) -> Out {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(name, "f32", shape, &bytes)
    }

    pub fn i64s(&mut self, name: &str, values: &[i64]) -> Out {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(name, "i64", &[values.len() as i64], &bytes)
    }

    pub fn i64(&mut self, name: &str, value: i64) -> Out {
        self.constant(name, "i64", &[], &value.to_le_bytes())
    }

    pub fn i8s(&mut self, name: &str, shape: &[i64], values: &[i8]) -> Out {
        let bytes: Vec<u8> = values.iter().map(|&v| v.cast_unsigned()).collect();
        self.constant(name, "i8", shape, &bytes)
    }

    pub fn result(&mut self, from: Out, names: &str) -> &mut Self {
        let id = self.count;
        self.count += 1;
        let _ = write!(
            self.layers,
            r#"<layer id="{id}" name="result{id}" type="Result" version="opset1" output_names="{names}"><input><port id="0"/></input></layer>"#
        );
        self.edge([from.0, from.1], [id, 0])
    }

    pub fn edge(&mut self, from: [usize; 2], to: [usize; 2]) -> &mut Self {
        let ([from, from_port], [to, to_port]) = (from, to);
        let _ = write!(
            self.edges,
            r#"<edge from-layer="{from}" from-port="{from_port}" to-layer="{to}" to-port="{to_port}"/>"#
        );
        self
    }

    /// A quantizer with one range, for the input and for the output.
    pub fn fake_quantize(
        &mut self,
        x: Out,
        name: &str,
        levels: u32,
        range: [f32; 2],
        shape: &[i64],
    ) -> Out {
        let limits =
            [0, 1, 0, 1].map(|end| self.f32s(&format!("{name}/{end}"), &[], &[range[end]]));
        let data = format!(r#"levels="{levels}" auto_broadcast="numpy""#);
        let inputs = [&[x], &limits[..]].concat();
        self.layer("FakeQuantize", name, &data, &inputs, shape)
    }

    pub fn xml(&self) -> String {
        let version = if self.version.is_empty() {
            "11"
        } else {
            &self.version
        };
        format!(
            "<?xml version=\"1.0\"?>\n<net name=\"small\" version=\"{version}\">\n<layers>{}</layers>\n<edges>{}</edges>\n<rt_info/>\n</net>\n",
            self.layers, self.edges
        )
    }

    pub fn read(&self) -> Result<Model, Error> {
        read(self.xml().as_bytes(), Some(&self.bin), &self.limits)
    }

    pub fn load(&self) -> Result<Graph, Error> {
        self.read()?.graph(&self.shapes)
    }

    #[track_caller]
    pub fn graph(&self) -> Graph {
        support::loaded(self.load())
    }

    /// The single node of the graph, and the shape of its output.
    #[track_caller]
    pub fn only(&self) -> (Node, Vec<usize>) {
        support::only(&self.graph())
    }

    #[track_caller]
    pub fn op(&self) -> (Op, Vec<usize>) {
        let (node, shape) = self.only();
        (node.op, shape)
    }

    /// The error's message, which must be one line that names the file.
    #[track_caller]
    pub fn error(&self) -> String {
        let message = self
            .load()
            .expect_err("a model that must not load")
            .to_string();
        assert!(!message.contains(['\n', '\r']), "{message:?}");
        assert!(message.contains("model."), "{message}");
        message
    }
}

/// Reads a model from its two files.
pub fn read(xml: &[u8], bin: Option<&[u8]>, limits: &Limits) -> Result<Model, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("model.xml");
    std::fs::write(&path, xml).unwrap();
    if let Some(bin) = bin {
        std::fs::write(folder.path().join("model.bin"), bin).unwrap();
    }
    Model::read(&path, limits)
}
